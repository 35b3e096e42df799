import { describeError } from '../errors.ts';
import { safeNow } from '../lifecycle/clock.ts';
import { withGrace } from '../lifecycle/deadline.ts';
import { withLinkedAbort } from '../lifecycle/linked-abort.ts';
import type { BatchTrace, SpanAttributes } from '../lifecycle/tracing.ts';
import type { DeletionReport } from '../objects/deletion-report.ts';
import type { ObjectStore } from '../objects/object-store.ts';
import { isOwnKey } from '../objects/own-keys.ts';
import { ObjectStoreError } from '../objects/store-failure.ts';
import type { LearnedHabits } from '../objects/store-habits.ts';
import type { Claim } from '../store/leases.ts';
import { type Answer, notAsked } from './batch-answer.ts';
import { lookForObjects } from './first-look.ts';
import type { WorkerOptions } from './worker.ts';

/** What the deletion of a batch needs of a worker. */
type DeletingOptions = Pick<
  WorkerOptions,
  'objects' | 'store' | 'logger' | 'leaseSeconds' | 'allowedBuckets' | 'fence'
>;

/** Since when the batch is leased, and who may end it. */
interface DeletingMoment {
  readonly startedAt: number;
  readonly signal: AbortSignal;
  readonly trace: BatchTrace;
}

const OBJECTS_MISSING = {
  code: 'ObjectsMissing',
  reason: 'most keys that were looked for have no object in this bucket; see retention status',
} as const;

/** What is kept of a lease for the settle after the last moment for S3. */
const SETTLE_SHARE_OF_LEASE = 0.1;

/** Asks S3 to delete the keys of a batch, if that is still allowed and there is time left for it. */
export async function deleteBatch(
  options: DeletingOptions,
  claim: Claim,
  { startedAt, signal, trace }: DeletingMoment,
): Promise<Answer> {
  const { objects, leaseSeconds, allowedBuckets, fence } = options;
  if (allowedBuckets?.includes(claim.bucket) === false) {
    const reason = `${claim.bucket} is none of the allowed buckets (${allowedBuckets.join(', ')})`;
    return notAsked({ code: 'BucketNotAllowed', reason, outcome: 'refused', final: true });
  }
  const whyNot = fence?.whyNot();
  if (whyNot !== undefined) return notAsked({ code: 'FenceNotHeld', reason: whyNot });
  const endsAt = startedAt + leaseSeconds * 1_000 * (1 - SETTLE_SHARE_OF_LEASE);
  const left = endsAt - safeNow();
  if (left <= 0) return notAsked({ code: 'LeaseTooOld', reason: 'claimed too long ago' });
  try {
    signal.throwIfAborted();
    const { versions } = objects;
    const ask: ObjectStore['deleteObjects'] | undefined = claim.purge
      ? versions && ((...rest) => versions.purgeKeys(...rest))
      : (...rest) => objects.deleteObjects(...rest);
    if (ask === undefined) {
      const reason = 'every version is to be deleted, and nothing here can do that';
      return notAsked({ code: 'PurgeUnavailable', reason });
    }
    const report = await withLinkedAbort(signal, (ended) =>
      withGrace(
        left,
        () => ended.abort(),
        async () => {
          if (!(await mayDelete(options, claim, ended.signal))) return undefined;
          const { habits } = claim;
          const etags = etagsOf(claim);
          // Another database takes the fence only after that.
          const sentBy = Math.min(endsAt, fence?.heldUntil() ?? Infinity);
          const how = { signal: ended.signal, endsAt: sentBy, habits, etags };
          return trace.step('delete', () => ask(claim.bucket, claim.keys, how), describe);
        },
      ),
    );
    if (report === undefined) return notAsked(OBJECTS_MISSING);
    await learn(options, claim.bucket, report.learned);
    return { kind: 'report', report };
  } catch (error) {
    if (!(error instanceof ObjectStoreError) || error.kind === 'aborted') throw error;
    await learn(options, claim.bucket, error.learned);
    const { unanswered, requestIds } = error;
    return { kind: 'whole', failure: error, unanswered, requestIds };
  }
}

function describe({ deleted, failures }: DeletionReport): SpanAttributes {
  return { deleted: deleted.length, failures: failures.length, code: failures[0]?.code };
}

/** Whether the objects are where they are thought to be, as far as one may look. */
async function mayDelete(
  { objects, store }: DeletingOptions,
  { bucket, keys, lookedIn }: Claim,
  signal: AbortSignal,
): Promise<boolean> {
  const { listing, place } = objects;
  if (listing === undefined || place === undefined || lookedIn === place) return true;
  // A canary says nothing of where the results are.
  if (isOwnKey(keys[0] ?? '')) return true;
  return (await lookForObjects(bucket, keys, { listing, place, store, signal })).mayGoOn;
}

/** What is not written down is learned again by the next batch. */
async function learn(
  { store, logger }: DeletingOptions,
  bucket: string,
  learned: LearnedHabits | undefined,
): Promise<void> {
  if (learned === undefined) return;
  logger.info(`Bucket ${bucket}: its store is found to differ: ${learned.because}`);
  await store
    .learnHabits(bucket, learned)
    .catch((error: unknown) => logger.debug(`Not remembered: ${describeError(error)}`));
}

/** The versions that may go; undefined: any. */
function etagsOf({ keys, etags }: Claim): ReadonlyMap<string, string> | undefined {
  if (etags === undefined) return undefined;
  const versions = new Map<string, string>();
  for (const [place, key] of keys.entries()) {
    const etag = etags[place] ?? null;
    if (etag !== null) versions.set(key, etag);
  }
  return versions;
}
