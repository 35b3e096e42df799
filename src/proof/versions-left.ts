import { MILLISECONDS } from '../lifecycle/duration.ts';
import { withDeadline } from '../lifecycle/deadline.ts';
import { showCount } from '../numbers.ts';
import type { BucketInspection, LifecycleRule } from '../objects/abilities.ts';

const ANSWER_MILLISECONDS = 10_000;

/**
 * What a certificate says of results that ended with a delete marker: their bytes are still there, until a rule of the
 * bucket removes versions that are no longer current. A store that does not say leaves that open.
 */
export async function describeVersions(
  markers: ReadonlyMap<string, { readonly results: number; readonly last: Date }>,
  inspection: BucketInspection | undefined,
  signal: AbortSignal | undefined,
): Promise<readonly string[]> {
  const said: string[] = [];
  for (const [bucket, { results, last }] of markers) {
    const rules = await rulesOf(bucket, inspection, signal);
    said.push(
      `${showCount(results, 'result')} in the bucket ${bucket} ended with a delete marker: an earlier version of each is still there, ${until(rules, last)}.`,
    );
  }
  return said;
}

async function rulesOf(
  bucket: string,
  inspection: BucketInspection | undefined,
  signal: AbortSignal | undefined,
): Promise<readonly LifecycleRule[] | 'unknown'> {
  if (inspection === undefined) return 'unknown';
  try {
    const about = await withDeadline(ANSWER_MILLISECONDS, signal, (inner) =>
      inspection.describeBucket(bucket, { signal: inner }),
    );
    return about.lifecycle;
  } catch {
    signal?.throwIfAborted();
    return 'unknown';
  }
}

function until(rules: readonly LifecycleRule[] | 'unknown', last: Date): string {
  if (rules === 'unknown') return 'and the store does not say until when';
  const days = rules
    .filter(
      ({ enabled, narrowed, prefix, noncurrentKept }) =>
        enabled && !narrowed && prefix === '' && noncurrentKept === undefined,
    )
    .flatMap(({ noncurrentDays }) => (noncurrentDays === undefined ? [] : [noncurrentDays]));
  if (days.length === 0) return 'and no rule of the bucket removes all of them';
  const least = Math.min(...days);
  const end = new Date(last.getTime() + least * MILLISECONDS.day).toISOString().slice(0, 10);
  return `and a rule of the bucket removes it ${least} days later, the last on about ${end}`;
}
