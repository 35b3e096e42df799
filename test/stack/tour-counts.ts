import type { Narrator } from './narration.ts';
import { countBatches, countRuns, LATER_RUNS, SAMPLE_RUNS } from './sample-runs.ts';
import type { Moment, Tour } from './tour-state.ts';

/** A figure: what it should be, and what was counted. */
export interface Count {
  readonly what: string;
  readonly expected: number;
  readonly counted: number;
}

/**
 * Counts what there is now in the table, in S3 and in what psql printed.
 *
 * @param first how things stood after the tick's work.
 * @param second how they stood after the reconcile.
 */
export async function countEverything(
  tour: Tour,
  first: Moment,
  second: Moment,
): Promise<readonly Count[]> {
  const { due, fresh, failed, alreadyCleared, withoutBucket } = SAMPLE_RUNS;
  const groups = { ...SAMPLE_RUNS, later: LATER_RUNS };
  const runs = await countInTable(tour);
  const objects = await countObjectsByRow(tour);
  const batches = countBatches(due) + countBatches(LATER_RUNS);
  const heard = (channel: string): number => tour.psql.countNotifications(channel);
  const before = countRuns(alreadyCleared);
  return [
    count('runs in the table: none was deleted', countRuns(Object.values(groups).flat()), runs.all),
    count('results flagged by the pg_cron tick', countRuns(due), runs.flagged_by_tick),
    count('results cleared then, by the listener', countRuns(due), first.stamped - before),
    count('results flagged while it was down', countRuns(LATER_RUNS), runs.flagged_by_hand),
    count(
      'results cleared then, by reconcile',
      countRuns(LATER_RUNS),
      second.stamped - first.stamped,
    ),
    count('DeleteObjects requests: one per batch', batches, second.deleteRequests),
    count('objects left of cleared runs', 0, objects.ofCleared),
    count('objects left of all other runs', countRuns([...fresh, ...failed]), objects.ofOthers),
    count('left alone: fresh', countRuns(fresh), runs.fresh),
    count('left alone: FAILED', countRuns(failed), runs.failed),
    count('left alone: already cleared', before, runs.already_cleared),
    count('left alone: without a bucket', countRuns(withoutBucket), runs.without_bucket),
    count('results still flagged', 0, runs.still_flagged),
    count('NOTIFY retention_expired, in psql', 2, heard('retention_expired')),
    count('NOTIFY retention_cleared, in psql', batches, heard('retention_cleared')),
    count('NOTIFY retention_failed, in psql', 0, heard('retention_failed')),
  ];
}

function count(what: string, expected: number, counted: number): Count {
  return { what, expected, counted };
}

interface TableCounts {
  readonly all: number;
  readonly fresh: number;
  readonly failed: number;
  readonly already_cleared: number;
  readonly without_bucket: number;
  readonly still_flagged: number;
  readonly flagged_by_tick: number;
  readonly flagged_by_hand: number;
}

async function countInTable({ stack }: Tour): Promise<TableCounts> {
  const [row] = await stack.database.query<TableCounts>(
    `with uncleared as (select * from public.runs where result_cleared_at is null),
    flagged as (
      select coalesce(sum(flagged) filter (where asked_by = 'pg_cron'), 0) as by_tick,
        coalesce(sum(flagged) filter (where asked_by <> 'pg_cron'), 0) as by_hand
      from retention.scan
    )
    select (select count(*) from public.runs) as all,
      (select count(*) from uncleared where status = 'COMPLETED' and result_s3_bucket is not null) as fresh,
      (select count(*) from uncleared where status = 'FAILED') as failed,
      (select count(*) from public.runs where result_cleared_at < now() - interval '1 day') as already_cleared,
      (select count(*) from uncleared where result_s3_bucket is null) as without_bucket,
      (select count(*) from retention.flagged) as still_flagged,
      f.by_tick as flagged_by_tick,
      f.by_hand as flagged_by_hand
    from flagged f`,
  );
  if (row === undefined) throw new Error('a count returned no row');
  return row;
}

/** Asks S3 for the object of every row that names one. */
async function countObjectsByRow({
  stack,
}: Tour): Promise<{ readonly ofCleared: number; readonly ofOthers: number }> {
  const rows = await stack.database.query<{ bucket: string; key: string; is_cleared: boolean }>(
    `select result_s3_bucket as bucket, result_s3_key as key, result_cleared_at is not null as is_cleared
    from public.runs
    where result_s3_bucket is not null`,
  );
  const present = rows.filter(({ bucket, key }) => stack.s3.hasObject(bucket, key));
  const ofCleared = present.filter((row) => row.is_cleared).length;
  return { ofCleared, ofOthers: present.length - ofCleared };
}

/**
 * Prints the figures and whether they are what they should be.
 *
 * @param milliseconds how long it all took.
 * @returns whether all are as expected.
 */
export function compareCounts(
  narrator: Narrator,
  counts: readonly Count[],
  milliseconds: number,
): boolean {
  narrator.table(
    ['', 'expected', 'counted', ''],
    counts.map(({ what, expected, counted }) => [
      what,
      expected,
      counted,
      expected === counted ? 'ok' : 'DIFFERS',
    ]),
  );
  const wrong = counts.filter(({ expected, counted }) => expected !== counted);
  const seconds = Math.round(milliseconds / 1_000);
  narrator.verdict(
    wrong.length === 0,
    wrong.length === 0
      ? `All ${counts.length} figures are as expected, after ${seconds} s.`
      : `${wrong.length} of ${counts.length} figures are not as expected: ` +
          `${wrong.map(({ what }) => what).join('; ')}. This is a fault; please report it with the lines above.`,
  );
  return wrong.length === 0;
}
