import { sayFailure } from '../../failure-words.ts';
import type { BucketInspection, ConditionProbe } from '../../objects/abilities.ts';
import type { KnownBucket } from '../../store/buckets.ts';
import type { Diagnosis, HealthFacts } from '../../store/diagnosis.ts';
import { valuesOf } from '../bucket-meaning.ts';
import { type Check, failed, ok, warning } from './check.ts';

/** What the look at conditions needs. */
interface ConditionsToCheck {
  readonly known: KnownBucket | undefined;
  readonly inspection: BucketInspection;
  readonly reader: Diagnosis | undefined;
  readonly health: HealthFacts | undefined;
}

/**
 * Whether the store of a bucket deletes the version that an etag names, and no other. Only where rows name etags, and
 * tried only while it is not known.
 */
export async function checkConditions(
  name: string,
  { known, inspection, reader, health }: ConditionsToCheck,
): Promise<readonly Check[]> {
  if ((health?.etag_column ?? null) === null || reader === undefined) return [];
  const habit = known?.habits.conditional;
  if (habit?.by === 'hand' && habit.value === 'ignored') {
    return [
      warning(
        titleOf(name),
        `${String(habit.because)}: any version of an object is deleted, also one that was written after the run`,
        `Where its store can do it: retention bucket set ${name} --conditional honour`,
      ),
    ];
  }
  if (habit !== undefined) {
    return [judge(name, { found: habit.value as 'honoured', because: habit.because ?? '' })];
  }
  if (inspection.probeConditions === undefined) return [];
  const [sample] = await reader.sampleKeys(name, 1);
  const prefix = sample === undefined ? '' : sample.slice(0, sample.indexOf('/') + 1);
  const probe = await inspection.probeConditions(name, { prefix, habits: valuesOf(known?.habits) });
  if (probe.found !== 'unknown') {
    const { found: conditional, because } = probe;
    await reader.learnHabits(name, { habits: { conditional }, because });
  }
  return [judge(name, probe)];
}

function judge(name: string, probe: ConditionProbe): Check {
  const title = titleOf(name);
  if (probe.found === 'unknown') {
    const right = probe.missingAction === undefined ? '' : ` (${probe.missingAction})`;
    return warning(
      title,
      `whether its store deletes an object by its etag could not be tried: ${sayFailure(probe.code, probe.reason)}`,
      `Allow writing and reading under .retention/${right}, and run doctor again; by etag S3 deletes only for who may read.`,
    );
  }
  if (probe.found === 'honoured')
    return ok(title, `deletes the version that is due and no other: ${probe.because}`);
  if (probe.found === 'ignored') {
    return warning(
      title,
      `its store ignores the etags of the rows (${probe.because}): what is written again between claim and delete is lost`,
      'Use a store that honours If-Match, or write each result under a key of its own.',
    );
  }
  return failed(
    title,
    `its store refuses etags, so nothing of rows that name one is deleted: ${probe.because}`,
    `Where any version may go: retention bucket set ${name} --conditional ignore`,
  );
}

function titleOf(bucket: string): string {
  return `bucket ${bucket}: conditions`;
}
