import { sayFailure } from '../../failure-words.ts';
import { MILLISECONDS, formatDuration } from '../../lifecycle/duration.ts';
import { showCount } from '../../numbers.ts';
import type { Diagnosis } from '../../store/diagnosis.ts';
import { repairOf } from '../../store/standing.ts';
import { STANDING_REMEDY } from '../standing-verify.ts';
import { type Check, attempt, ok, warning } from './check.ts';

/** What the standing verify has found; nothing where no listener has asked for one. */
export async function checkStandingVerify(
  reader: Pick<Diagnosis, 'readStandingVerifies'>,
): Promise<readonly Check[]> {
  return attempt('verify', async () => {
    const verifies = await reader.readStandingVerifies();
    return verifies.map((verify) => {
      const { bucket, gone, returned, code, problem, finished_at: at, age_seconds: age } = verify;
      const name = 'verify';
      if (code !== null) {
        const why = sayFailure(code, problem ?? '');
        const remedy = verify.is_off ? STANDING_REMEDY : 'See the log of the listeners.';
        return warning(name, `bucket ${bucket} cannot be verified: ${why}`, remedy);
      }
      if (gone + returned > 0) {
        return warning(
          name,
          `drift in bucket ${bucket}: ${showCount(gone, 'live result')} without an object, ` +
            `${showCount(returned, 'cleared result')} with one`,
          `Run: ${repairOf(bucket)}`,
        );
      }
      if (at === null) return ok(name, `the first one of bucket ${bucket} is under way`);
      return ok(
        name,
        `bucket ${bucket} was verified ${formatDuration(age * MILLISECONDS.second)} ago`,
      );
    });
  });
}
