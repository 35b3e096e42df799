import { sayFailure } from '../../failure-words.ts';
import { MILLISECONDS, formatDuration } from '../../lifecycle/duration.ts';
import type { Diagnosis } from '../../store/diagnosis.ts';
import { isCanaryOld } from '../../store/canary.ts';
import { CANARY_REMEDY } from '../canary.ts';
import { type Check, attempt, ok, warning } from './check.ts';

/** Whether objects of our own go the whole way to their deletion; nothing where no listener has asked for one. */
export async function checkCanaries(
  reader: Pick<Diagnosis, 'readCanaries'>,
): Promise<readonly Check[]> {
  return attempt('canary', async () => {
    const canaries = await reader.readCanaries();
    return canaries.map((canary) => {
      const { bucket, age_seconds: age, confirmed_at: at, code, problem, is_off: isOff } = canary;
      const name = 'canary';
      const why = code === null ? '' : sayFailure(code, problem ?? '');
      if (isOff) {
        return warning(name, `none in bucket ${bucket}: ${why}`, CANARY_REMEDY);
      }
      const since = formatDuration(age * MILLISECONDS.second);
      if (code !== null || isCanaryOld(canary)) {
        return warning(
          name,
          `none of bucket ${bucket} was deleted for ${since}${why === '' ? '' : `: ${why}`}`,
          code === 'AccessDenied'
            ? CANARY_REMEDY
            : 'See the log of the listeners, and: retention status',
        );
      }
      if (at === null) return ok(name, `the first one of bucket ${bucket} is still to come`);
      return ok(name, `one of bucket ${bucket} was deleted ${since} ago`);
    });
  });
}
