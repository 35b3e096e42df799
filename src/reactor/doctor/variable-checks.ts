import { showInstant } from '../../instant.ts';
import type { Diagnosis } from '../../store/diagnosis.ts';
import type { Variable } from '../../store/settings.ts';
import { type Check, attempt, ok, warning } from './check.ts';
import type { DoctorPorts } from './ports.ts';

const NAME = 'variables and database';

/** Variables and what the database has, side by side: a line for each that differs. */
export async function checkStored(
  reader: Diagnosis,
  given: DoctorPorts['stored'],
): Promise<readonly Check[]> {
  return attempt(NAME, async () => {
    const all = await reader.readVariables(given);
    const checks = all.filter(({ differs }) => differs).map((each) => differing(each));
    if (checks.length > 0) return checks;
    return ok(
      NAME,
      all.length === 0
        ? 'no variable is set for what the database keeps'
        : `the same: ${all.map(({ variable }) => variable).join(', ')}`,
    );
  });
}

function differing({ name, variable, value, stored, set_at, set_by, remedy }: Variable): Check {
  const by = set_at === null ? '' : `, set by ${set_by} at ${showInstant(set_at)}`;
  return warning(
    `setting ${name}`,
    `${variable} says ${value}, and the database has ${stored ?? 'none'}${by}, which is in force`,
    remedy ?? '',
  );
}

/** What this process may delete from. */
export function checkAllowed({ allowedBuckets }: DoctorPorts): Check {
  const name = 'allowed buckets';
  if (allowedBuckets.length > 0) {
    const isAny = allowedBuckets.includes('*');
    return ok(name, isAny ? 'any (S3_RESULT_BUCKET=*)' : allowedBuckets.join(', '));
  }
  return warning(
    name,
    'S3_RESULT_BUCKET is not set here: listen, reconcile and restore do not start',
    'Set it to the buckets that may be deleted from, or to * for any bucket.',
  );
}
