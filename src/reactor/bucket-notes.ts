import { describeError } from '../errors.ts';
import { sayFailure } from '../failure-words.ts';
import type { Logger } from '../logger.ts';
import type { BucketInspection } from '../objects/abilities.ts';
import type { Store } from '../store/store.ts';
import { describeDeletion } from './bucket-meaning.ts';

/** What describing buckets needs. */
export interface BucketNotesOptions {
  readonly store: Pick<Store, 'knownBucket' | 'noteBucket'>;
  readonly inspection: Pick<BucketInspection, 'describeBucket'>;
  readonly logger: Logger;
}

/** Finds out, once per bucket, what a deletion means there. */
export interface BucketNotes {
  /** Told of a bucket that was worked on; returns at once. */
  see(bucket: string): void;
  /** Ends what is under way. */
  stop(): Promise<void>;
}

/**
 * Makes notes on buckets. It works beside the deletions and delays none: one bucket at a time, and a
 * bucket that has been described before costs one read of its row.
 */
export function createBucketNotes(options: BucketNotesOptions): BucketNotes {
  const { store, inspection, logger } = options;
  const seen = new Set<string>();
  const stopping = new AbortController();
  let writing: Promise<void> = Promise.resolve();

  const describe = async (bucket: string): Promise<void> => {
    const known = await store.knownBucket(bucket);
    if (known === undefined || known.versioning !== null || stopping.signal.aborted) return;
    const { versioning, problems } = await inspection.describeBucket(bucket, {
      signal: stopping.signal,
    });
    if (versioning === 'unknown') {
      const reason = problems.map(({ code, reason: said }) => sayFailure(code, said)).join('; ');
      logger.info(`Bucket ${bucket}: whether it keeps versions is not known`, { reason });
      return;
    }
    await store.noteBucket(bucket, versioning);
    const level = versioning === 'off' || known.on_versioned === 'purge' ? 'info' : 'warning';
    logger[level](`Bucket ${bucket}: ${describeDeletion(versioning, known.on_versioned)}`);
  };
  const note = async (bucket: string): Promise<void> => {
    if (stopping.signal.aborted) return;
    try {
      await describe(bucket);
    } catch (error) {
      // The next batch in this bucket tries again.
      seen.delete(bucket);
      if (!stopping.signal.aborted) {
        logger.debug(`Bucket ${bucket} could not be described: ${describeError(error)}`);
      }
    }
  };
  return {
    see: (bucket) => {
      if (seen.has(bucket)) return;
      seen.add(bucket);
      writing = writing.then(() => note(bucket));
    },
    stop: async () => {
      stopping.abort();
      await writing;
    },
  };
}
