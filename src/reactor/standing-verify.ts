import { DatabaseError, describeError } from '../errors.ts';
import { sayFailure } from '../failure-words.ts';
import { type AbortableLoop, createAbortableLoop } from '../lifecycle/abortable-loop.ts';
import { MILLISECONDS } from '../lifecycle/duration.ts';
import type { Logger } from '../logger.ts';
import { countOf } from '../numbers.ts';
import type { ListedObject, ObjectListing } from '../objects/abilities.ts';
import { isOwnKey } from '../objects/own-keys.ts';
import { paceListing } from '../objects/paced-listing.ts';
import { ObjectStoreError } from '../objects/store-failure.ts';
import { type StandingStep, repairOf } from '../store/standing.ts';
import type { Store } from '../store/store.ts';
import { findGone } from './second-look.ts';

/** What the standing verify needs. */
export interface StandingVerifyOptions {
  readonly store: Pick<
    Store,
    | 'nextStandingStep'
    | 'noteStandingPage'
    | 'noteStandingLook'
    | 'endStanding'
    | 'noteStandingProblem'
  >;
  readonly listing: ObjectListing;
  readonly logger: Logger;
  readonly buckets: readonly string[];
  /** Every bucket is verified once in so many days. */
  readonly everyDays: number;
  /** How often it is asked at least whether something is to be done. */
  readonly pollSeconds: number;
}

type Work = Exclude<StandingStep, { step: 'wait' }>;

/** The right that the standing verify wants. */
export const STANDING_REMEDY =
  'Allow s3:ListBucket and s3:GetObject on the bucket, or leave RETENTION_VERIFY_DAYS out.';

/** A second look sends no more requests a second than this. */
const LOOKS_PER_SECOND = 2;

/**
 * Compares buckets with the rows all the time, one page of a listing after the other and with a pause after each. Whichever
 * listener comes first does the next step. What it finds is counted, and nothing else is done about it.
 */
export function createStandingVerify(options: StandingVerifyOptions): AbortableLoop {
  const { store, listing, logger, buckets, everyDays, pollSeconds } = options;
  const said = new Map<string, string>();

  const listPage = async (
    bucket: string,
    startAfter: string | undefined,
    signal: AbortSignal,
  ): Promise<readonly ListedObject[]> => {
    const pages = listing.listObjects(bucket, { startAfter, signal })[Symbol.asyncIterator]();
    try {
      const page = await pages.next();
      return page.done === true ? [] : page.value;
    } finally {
      await pages.return?.();
    }
  };
  const take = async (work: Work, signal: AbortSignal): Promise<void> => {
    const { bucket } = work;
    if (work.step === 'end') {
      const drift = await store.endStanding(work);
      if (drift === undefined) return;
      const { gone, returned, orphans } = drift;
      const isDrift = gone + returned > 0;
      logger[isDrift ? 'warning' : 'info'](
        `Bucket ${bucket} was verified: ${countOf(gone, 'live result')} without an object, ` +
          `${countOf(returned, 'cleared result')} with one, ${countOf(orphans, 'orphan')}`,
        { bucket, ...drift, remedy: isDrift ? repairOf(bucket) : undefined },
      );
    } else if (work.step === 'look') {
      const where = { prefix: '', after: work.afterKey };
      const paced = paceListing(listing, LOOKS_PER_SECOND, signal);
      const gone = await findGone(bucket, work.keys, where, { listing: paced, signal });
      await store.noteStandingLook(work, work.stretchId, [...gone]);
    } else {
      const page = await listPage(bucket, work.afterKey, signal);
      // Postgres texts cannot hold U+0000, so no row points at such a key.
      const kept = page.filter(({ key }) => !key.includes('\0'));
      const until = kept.at(-1)?.key;
      if (page.length > 0 && until === undefined) {
        throw new Error(`bucket ${bucket} lists a page of nothing but keys with U+0000`);
      }
      const objects = kept.filter(({ key }) => !isOwnKey(key));
      await store.noteStandingPage(work, until, objects);
    }
    said.delete(bucket);
  };
  const say = (bucket: string, { code, reason }: ObjectStoreError): void => {
    if (said.get(bucket) === code) return;
    said.set(bucket, code);
    const isUnsorted = code === 'UnsortedListing';
    const remedy = isUnsorted ? `Verify it with: ${repairOf(bucket)}` : STANDING_REMEDY;
    logger.warning(`Bucket ${bucket} cannot be verified: ${sayFailure(code, reason)}`, {
      bucket,
      remedy: isUnsorted || code === 'AccessDenied' ? remedy : undefined,
    });
  };

  return createAbortableLoop({
    name: 'the standing verify',
    turn: async (signal) => {
      const next = await store.nextStandingStep(buckets, everyDays);
      if (next.step === 'wait') {
        return Math.min(next.seconds, pollSeconds) * MILLISECONDS.second;
      }
      try {
        await take(next, signal);
      } catch (error) {
        if (signal.aborted || !(error instanceof ObjectStoreError)) throw error;
        await store.noteStandingProblem(next, error);
        say(next.bucket, error);
      }
      return 0;
    },
    intervalMilliseconds: MILLISECONDS.minute,
    // The listener says what the database has.
    onError: (error) => {
      const level = error instanceof DatabaseError ? 'debug' : 'warning';
      logger[level](`The standing verify could not go on: ${describeError(error)}`);
    },
  });
}
