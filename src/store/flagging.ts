import type { Queryable } from '../database/queryable.ts';
import { PRODUCT_VERSION } from './version.ts';

/** One flagging pass that did something. */
export interface Scan {
  readonly scanId: number;
  readonly flagged: number;
  readonly batches: number;
  readonly lookedAt: number;
  /** Due, but the row names no bucket or an empty key. */
  readonly withoutPlace: number;
  /** The first ten of them. */
  readonly withoutPlaceRunIds: readonly string[];
  /** Rows that cannot be flagged. */
  readonly skipped: number;
  /** The first ten of them, each with its reason, or why the pass failed. */
  readonly skippedRows: readonly string[];
  readonly milliseconds: number;
  /** The surge that it found; undefined: none. */
  readonly surgeId: number | undefined;
  readonly setAside: number;
}

/** What a listener needs to know when it has nothing to do. */
export interface Pulse {
  readonly enabled: boolean;
  /** The reasons for which nothing is flagged or claimed; empty: none. */
  readonly halted: readonly string[];
  readonly scheduler: 'pg_cron' | 'internal';
  readonly visibleNow: boolean;
  /** Until the next batch may be claimed; undefined: there is none. Negative: since when. */
  readonly nextVisibleSeconds: number | undefined;
  /** The last pass hit a limit: there is more to flag. */
  readonly more: boolean;
  /** Undefined: it never ticked. */
  readonly tickedSecondsAgo: number | undefined;
  /** Who ticked last: `pg_cron`, or a listener that stood in for it. */
  readonly tickedBy: string | undefined;
  readonly lastScanId: number;
  /** Until `stamp_again` has something to do; undefined: nothing waits for it. Negative: since when. */
  readonly nextStampSeconds: number | undefined;
}

/**
 * `retention.tick`: what the scheduler calls. Returns how many results it flagged.
 *
 * @throws DatabaseError
 */
export async function tick(database: Queryable, by: string): Promise<number> {
  const [row] = await database.query<{ flagged: number }>('select retention.tick($1) as flagged', [
    by,
  ]);
  return row?.flagged ?? 0;
}

/**
 * `retention.flag_expired`: flags what is due whatever the interval. Returns how many results.
 *
 * @param options `whole`: from the oldest result on. `waits`: for another pass that is running.
 *
 * @throws DatabaseError
 */
export async function flagExpired(
  database: Queryable,
  options: { readonly by: string; readonly whole?: boolean; readonly waits?: boolean },
): Promise<number> {
  const [row] = await database.query<{ flagged: number }>(
    'select retention.flag_expired(null, $1, $2, $3) as flagged',
    [options.by, options.whole ?? false, options.waits ?? false],
  );
  return row?.flagged ?? 0;
}

/**
 * `retention.pulse`
 *
 * @param buckets what is visible in these. Default: in any.
 *
 * @throws DatabaseError
 */
export async function pulse(database: Queryable, buckets?: readonly string[]): Promise<Pulse> {
  const [row] = await database.query<{
    enabled: boolean;
    halted: string[];
    scheduler: 'pg_cron' | 'internal';
    visible_now: boolean;
    next_visible_seconds: number | null;
    more: boolean;
    ticked_seconds_ago: number | null;
    ticked_by: string | null;
    last_scan_id: number;
    next_stamp_seconds: number | null;
  }>(
    `select enabled, halted || array(select d.reason from retention.clocks_differ($3) d) as halted, scheduler,
      visible_now, next_visible_seconds, more, ticked_seconds_ago, ticked_by, last_scan_id, next_stamp_seconds
    from retention.pulse($1, $2::text[])`,
    [PRODUCT_VERSION, buckets ?? null, new Date()],
    { name: 'retention-pulse' },
  );
  if (row === undefined) throw new Error('retention.pulse returned no row');
  return {
    enabled: row.enabled,
    halted: row.halted,
    scheduler: row.scheduler,
    visibleNow: row.visible_now,
    nextVisibleSeconds: row.next_visible_seconds ?? undefined,
    more: row.more,
    tickedSecondsAgo: row.ticked_seconds_ago ?? undefined,
    tickedBy: row.ticked_by ?? undefined,
    lastScanId: row.last_scan_id,
    nextStampSeconds: row.next_stamp_seconds ?? undefined,
  };
}

/**
 * The rows of `retention.scan` after one of them, oldest first, at most 100.
 *
 * @throws DatabaseError
 */
export async function scansAfter(database: Queryable, scanId: number): Promise<readonly Scan[]> {
  const rows = await database.query<{
    scan_id: number;
    flagged: number;
    batches: number;
    looked_at: number;
    without_place: number;
    without_place_run_ids: string[];
    skipped: number;
    skipped_rows: string[];
    ms: number;
    surge_id: number | null;
    set_aside: number;
  }>(
    `select scan_id, flagged, batches, looked_at, without_place, without_place_run_ids,
      skipped, skipped_rows, ms, surge_id, set_aside
    from retention.scan
    where scan_id > $1
    order by scan_id
    limit 100`,
    [scanId],
  );
  return rows.map((row) => ({
    scanId: row.scan_id,
    flagged: row.flagged,
    batches: row.batches,
    lookedAt: row.looked_at,
    withoutPlace: row.without_place,
    withoutPlaceRunIds: row.without_place_run_ids,
    skipped: row.skipped,
    skippedRows: row.skipped_rows,
    milliseconds: row.ms,
    surgeId: row.surge_id ?? undefined,
    setAside: row.set_aside,
  }));
}
