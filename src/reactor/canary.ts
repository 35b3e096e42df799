import { DatabaseError, describeError } from '../errors.ts';
import { sayFailure } from '../failure-words.ts';
import { type AbortableLoop, createAbortableLoop } from '../lifecycle/abortable-loop.ts';
import { MILLISECONDS } from '../lifecycle/duration.ts';
import type { Logger } from '../logger.ts';
import type { ObjectStore } from '../objects/object-store.ts';
import { ObjectStoreError } from '../objects/store-failure.ts';
import type { CanaryOutcome, CanaryStep } from '../store/canary.ts';
import type { Store } from '../store/store.ts';

/** What the canary needs. */
export interface CanaryOptions {
  readonly store: Pick<Store, 'beginCanary' | 'noteCanary'>;
  /** Without `conditional` and `listing` there is none. */
  readonly objects: Pick<ObjectStore, 'conditional' | 'listing'>;
  readonly logger: Logger;
  readonly buckets: readonly string[];
  /** 0: there is none. */
  readonly everySeconds: number;
  /** How often it is asked whether something is to be done. */
  readonly pollSeconds: number;
}

/** The right that a canary wants. */
export const CANARY_REMEDY =
  'Allow s3:PutObject on .retention/canary/* of the bucket, or set RETENTION_CANARY_SECONDS=0.';

/**
 * Writes an object of our own to each bucket once in a while, which then goes the way of every result, and looks whether
 * it has gone. Whichever listener comes first does the next step. `wake` says that one may have been deleted.
 */
export function createCanary(options: CanaryOptions): AbortableLoop {
  const { store, objects, logger, everySeconds, pollSeconds } = options;
  const { conditional, listing } = objects;
  const said = new Map<string, string>();

  const put = async (bucket: string, key: string, signal: AbortSignal): Promise<CanaryOutcome> => {
    const body = 'Written by retention to see that deletions work. It is deleted by itself.\n';
    // False: it is there since a listener was ended before it wrote that down.
    await conditional?.writeObject(bucket, { key, body }, { signal });
    return { what: 'put' };
  };
  const look = async (bucket: string, key: string, signal: AbortSignal): Promise<CanaryOutcome> => {
    const found = await listing?.headObject(bucket, key, { signal });
    if (found?.state === 'exists') return { what: 'there' };
    if (found?.state !== 'denied') return { what: 'gone' };
    return { what: 'failed', code: 'LookDenied', problem: found.reason };
  };
  const take = async (
    bucket: string,
    { step, key }: CanaryStep,
    signal: AbortSignal,
  ): Promise<CanaryOutcome | undefined> => {
    try {
      return await (step === 'put' ? put(bucket, key, signal) : look(bucket, key, signal));
    } catch (error) {
      if (signal.aborted || !(error instanceof ObjectStoreError)) throw error;
      return { what: 'failed', code: error.code, problem: error.reason };
    }
  };
  const say = (bucket: string, outcome: CanaryOutcome): void => {
    const news = outcome.what === 'failed' ? outcome.code : outcome.what;
    const before = said.get(bucket);
    if (news === 'put' || news === before) return;
    said.set(bucket, news);
    if (outcome.what === 'gone') {
      const level = before === undefined ? 'debug' : 'info';
      logger[level](`The canary of bucket ${bucket} was deleted and is gone`, { bucket });
      return;
    }
    const why =
      outcome.what === 'failed'
        ? sayFailure(outcome.code, outcome.problem)
        : 'the store named it as deleted, and it is still there';
    const remedy = news === 'AccessDenied' ? CANARY_REMEDY : undefined;
    logger.warning(`The canary of bucket ${bucket} failed: ${why}`, { bucket, remedy });
  };

  return createAbortableLoop({
    name: 'the canary',
    turn: async (signal) => {
      if (everySeconds === 0 || conditional === undefined || listing === undefined) return;
      for (const bucket of options.buckets) {
        if (signal.aborted) return;
        const next = await store.beginCanary(bucket, everySeconds);
        if (next === undefined) continue;
        const outcome = await take(bucket, next, signal);
        if (outcome === undefined) continue;
        await store.noteCanary(bucket, next.key, outcome);
        say(bucket, outcome);
      }
    },
    intervalMilliseconds: Math.min(pollSeconds, Math.max(everySeconds, 1)) * MILLISECONDS.second,
    // The listener says what the database has.
    onError: (error) => {
      const level = error instanceof DatabaseError ? 'debug' : 'warning';
      logger[level](`The canary could not go on: ${describeError(error)}`);
    },
  });
}
