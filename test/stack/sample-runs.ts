import type { Queryable } from '../../src/database/queryable.ts';

/** Sample runs that are alike. */
export interface SampleGroup {
  readonly tenant: string;
  readonly status: 'COMPLETED' | 'FAILED';
  readonly runs: number;
  /** null: the row names no bucket. */
  readonly bucket: string | null;
  /** How long ago the youngest of them completed; the others follow at the given distance. */
  readonly completedDaysAgo: number;
  readonly hoursApart: number;
  /** How long ago its result was cleared; null: it was not. */
  readonly clearedDaysAgo: number | null;
}

/** Where an object lies. */
export interface SampleObject {
  readonly bucket: string;
  readonly key: string;
}

/** Small enough that some hundreds of results make several batches. */
export const SAMPLE_BATCH_SIZE = 100;

const EU = 'demo-results-eu';
const US = 'demo-results-us';

/** The buckets of the sample results. */
export const SAMPLE_BUCKETS = [EU, US] as const;

const due = (tenant: string, bucket: string, runs: number): SampleGroup => ({
  tenant,
  status: 'COMPLETED',
  runs,
  bucket,
  completedDaysAgo: 31,
  hoursApart: 2,
  clearedDaysAgo: null,
});

/** The groups that the application's table begins with, by what the tour calls them. */
export const SAMPLE_RUNS = {
  due: [
    due('acme', EU, 150),
    due('globex', EU, 110),
    due('globex', US, 60),
    due('initech', US, 100),
  ],
  fresh: [
    { ...due('acme', EU, 12), completedDaysAgo: 1, hoursApart: 57 },
    { ...due('initech', US, 8), completedDaysAgo: 2, hoursApart: 80 },
  ],
  failed: [{ ...due('globex', EU, 6), status: 'FAILED' }],
  alreadyCleared: [{ ...due('initech', US, 5), completedDaysAgo: 60, clearedDaysAgo: 29 }],
  withoutBucket: [{ ...due('acme', EU, 1), completedDaysAgo: 45, bucket: null }],
} as const satisfies Readonly<Record<string, readonly SampleGroup[]>>;

/** Runs that come of age while no listener is there. */
export const LATER_RUNS: readonly SampleGroup[] = [due('acme', EU, 60), due('initech', US, 30)];

/** How many runs there are in groups. */
export function countRuns(groups: readonly SampleGroup[]): number {
  return groups.reduce((sum, group) => sum + group.runs, 0);
}

/** How many batches the results of groups make: each has one bucket and a most. */
export function countBatches(groups: readonly SampleGroup[]): number {
  const byBucket = new Map<string | null, number>();
  for (const { bucket, runs } of groups) byBucket.set(bucket, (byBucket.get(bucket) ?? 0) + runs);
  return [...byBucket.values()].reduce(
    (sum, results) => sum + Math.ceil(results / SAMPLE_BATCH_SIZE),
    0,
  );
}

const INSERT = `
insert into public.runs (
  tenant_id, status, completed_at, result_s3_bucket, result_s3_key, result_cleared_at, created_at, updated_at
)
select $1, $2, t.completed_at, $3,
  format('results/%s/%s.json', $1::text, gen_random_uuid()),
  now() - make_interval(days => $7),
  t.completed_at - interval '5 minutes',
  t.completed_at
from (
  select now() - make_interval(days => $4, hours => $5 * (n - 1)) as completed_at
  from generate_series(1, $6::integer) n
) t
returning run_id, result_s3_bucket as bucket, result_s3_key as key, result_cleared_at as cleared_at`;

/**
 * Writes sample runs into the application's table.
 *
 * @returns where the application would have put the results that are still there, and the first
 *   run's id.
 * @throws DatabaseError
 */
export async function insertRuns(
  database: Queryable,
  groups: readonly SampleGroup[],
): Promise<{ readonly objects: readonly SampleObject[]; readonly firstRunId: string }> {
  const objects: SampleObject[] = [];
  let firstRunId = '';
  for (const group of groups) {
    const rows = await database.query<{
      run_id: string;
      bucket: string | null;
      key: string;
      cleared_at: Date | null;
    }>(INSERT, [
      group.tenant,
      group.status,
      group.bucket,
      group.completedDaysAgo,
      group.hoursApart,
      group.runs,
      group.clearedDaysAgo,
    ]);
    firstRunId ||= rows[0]?.run_id ?? '';
    for (const { bucket, key, cleared_at } of rows) {
      if (bucket !== null && cleared_at === null) objects.push({ bucket, key });
    }
  }
  return { objects, firstRunId };
}
