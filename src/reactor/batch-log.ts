import { type FailureLog, createFailureLog } from '../lifecycle/failure-log.ts';
import { sayFailure } from '../failure-words.ts';
import type { LogFields, Logger } from '../logger.ts';
import { countOf } from '../numbers.ts';
import type { Claim, Problem } from '../store/leases.ts';

/** What is said of the batches of one worker: one line for each event. */
export interface BatchLog {
  /** What the check of a claim raised. */
  unchecked(claim: Pick<Claim, 'bucket' | 'unchecked'>): void;
  /** One line for all that failed alike. */
  problems(bucket: string, problems: readonly Problem[]): void;
  /** Keys of which the store holds another version than their rows name. */
  changed(claim: Pick<Claim, 'batchId' | 'bucket'>, keys: readonly string[]): void;
  /** A bucket pauses: once for all slots, and ever more rarely while it goes on. */
  paused(bucket: string, code: string, message: string, fields: LogFields): void;
  /** Something was deleted in a bucket: where it had paused, that is over. */
  works(bucket: string): void;
}

export function createBatchLog(logger: Logger): BatchLog {
  const pauses = new Map<string, FailureLog>();
  const pauseOf = (bucket: string): FailureLog => {
    const log =
      pauses.get(bucket) ??
      createFailureLog({
        logger,
        failed: `Bucket ${bucket} pauses`,
        recovered: `Bucket ${bucket} takes deletions again`,
        level: 'warning',
      });
    pauses.set(bucket, log);
    return log;
  };
  return {
    unchecked: ({ bucket, unchecked }) => {
      for (const { code, message, results, run_ids: runIds } of unchecked?.problems ?? []) {
        logger.error(
          `Whether ${countOf(results, 'result')} may go could not be checked: ${sayFailure(code, message)}`,
          { bucket, results, run_ids: runIds },
        );
      }
    },
    problems: (bucket, problems) => {
      for (const { code, message, results, run_ids: runIds, deleted } of problems) {
        const [first = 'unknown'] = runIds;
        const runs = results === 1 ? `run ${first}` : `run ${first} and ${results - 1} more`;
        const what =
          deleted === true
            ? `The S3 object is deleted, but its stamp failed for ${runs}`
            : `Failed to delete S3 object for ${runs}`;
        logger.error(`${what}: ${sayFailure(code, message)}`, {
          bucket,
          results,
          ...(results === 1 ? {} : { run_ids: runIds }),
        });
      }
    },
    changed: ({ batchId: batch, bucket }, keys) => {
      if (keys.length === 0) return;
      logger.warning(
        `Spared ${countOf(keys.length, 'object')}, object changed: S3 holds another version than the etag of the row names`,
        { batch, bucket, keys: keys.slice(0, 3) },
      );
    },
    paused: (bucket, code, message, fields) => {
      pauseOf(bucket).said(code, sayFailure(code, message), fields);
    },
    works: (bucket) => {
      pauses.get(bucket)?.works();
      pauses.delete(bucket);
    },
  };
}
