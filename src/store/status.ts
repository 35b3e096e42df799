import type { Queryable } from '../database/queryable.ts';
import type { Instant } from '../instant.ts';
import { countOf } from '../numbers.ts';

/** The columns of the view `retention.status`, under their own names. */
export interface Status {
  readonly enabled: boolean;
  readonly live_estimate: number;
  readonly due: number;
  readonly due_is_capped: boolean;
  readonly flagged: number;
  readonly leased: number;
  readonly failed: number;
  readonly dead: number;
  readonly held: number;
  readonly cleared_today: number;
  readonly spared_today: number;
  readonly oldest_due: Instant | null;
  readonly batches: number;
  readonly buckets_paused: number;
  readonly last_tick: Date | null;
  readonly last_pass: Date | null;
  readonly scheduler: 'pg_cron' | 'internal';
  readonly scheduler_health: 'ok' | 'silent' | 'never ticked' | 'disabled';
  readonly loop_interval_seconds: number;
  readonly default_retain_days: number;
  readonly policies_pending: number;
  /** What waits for a confirmation, in words. */
  readonly policy_pending: string | null;
  /** Since when the oldest due result has been due; `oldest_due` is when its run completed. */
  readonly due_since: Instant | null;
  /** The reasons for which nothing is flagged or claimed; empty: none. */
  readonly halted: readonly string[];
  /** Null: none comes by itself. */
  readonly next_pass: Date | null;
  /** What the next pass waits for, or what keeps it from coming. */
  readonly next_pass_because: string;
  /** When the newest run completed that is known here. */
  readonly newest_run: Instant | null;
  /** Flagged results that wait for their cool-off. */
  readonly cooling: number;
  /** When the first of them may go. */
  readonly cooling_until: Date | null;
  /** Objects of due results that a keeper has, as far as they were claimed before. */
  readonly kept: number;
  /** Objects of due results that stay, since S3 holds another version than the row's etag names. */
  readonly object_changed: number;
  /** Of the last count of stamps against receipts; null: there was none. */
  readonly stamps_without_receipt: number | null;
  readonly receipts_without_stamp: number | null;
  readonly receipts_without_row: number | null;
  readonly stamps_counted_at: Date | null;
  /** Late results that wait for the release of a surge; not among the due ones. */
  readonly set_aside: number;
  readonly surges: number;
}

/** A cause for which results do not go at this moment. */
export interface WaitCause {
  readonly what: string;
  /** Null: not counted. */
  readonly results: number | null;
  readonly because: string;
  /** Null: it waits for a person, or its end is not known. */
  readonly ends_at: Date | null;
  readonly remedy: string | null;
}

/**
 * `retention.wait_causes`: what waits, why, until when and what to do.
 *
 * @throws DatabaseError
 */
export async function readWaitCauses(database: Queryable): Promise<readonly WaitCause[]> {
  return database.query<WaitCause>('select * from retention.wait_causes()');
}

/**
 * The one row of `retention.status`.
 *
 * @throws DatabaseError
 */
export async function readStatus(database: Queryable): Promise<Status> {
  const [row] = await database.query<Status>('select * from retention.status');
  if (row === undefined) throw new Error('retention.status returned no row');
  return row;
}

/**
 * What taking the schema away would lose, in words; undefined: nothing that a person put there.
 *
 * @throws DatabaseError
 */
export async function readLosses(database: Queryable): Promise<string | undefined> {
  // Not a function of the schema: migrating down takes the functions away before the tables.
  const [row] = await database.query<{ there: boolean }>(
    `select to_regclass('retention.hold') is not null
      and to_regclass('retention.policy') is not null
      and to_regclass('retention.batch') is not null as there`,
  );
  if (row?.there !== true) return undefined;
  const [counts] = await database.query<{ holds: number; policies: number; flagged: number }>(
    `select (select count(*) from retention.hold where released_at is null) as holds,
      (select count(*) from retention.policy where tenant_id <> '*') as policies,
      (select coalesce(sum(results), 0)::bigint from retention.batch where settled_at is null) as flagged`,
  );
  const parts = [
    [counts?.holds, 'active hold', 'active holds'],
    [counts?.policies, 'policy of a tenant', 'policies of tenants'],
    [counts?.flagged, 'flagged result', 'flagged results (flagged again after the next up)'],
  ] as const;
  const losses = parts
    .filter(([count = 0]) => count > 0)
    .map(([count = 0, one, many]) => countOf(count, one, many));
  return losses.length === 0 ? undefined : losses.join(', ');
}
