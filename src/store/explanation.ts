import type { Queryable } from '../database/queryable.ts';
import type { Instant } from '../instant.ts';

/** A hold that bears on a run. */
export interface BearingHold {
  readonly hold_id: number;
  readonly on: 'run' | 'tenant';
  readonly reason: string;
  readonly placed_by: string;
  readonly placed_at: string;
  /** When it ends or has ended; null: not before it is released. */
  readonly ends: string | null;
}

/** What `retention.explain` says of a run; keys as in the command line's JSON. */
export interface Explanation {
  readonly run_id: string;
  /** One of the states that migrations/functions/16_explain.sql lists. */
  readonly state: string;
  /** Why, in plain words. */
  readonly because: string;
  readonly tenant_id: string | null;
  readonly status: string | null;
  readonly completed_at: Instant | null;
  readonly bucket: string | null;
  readonly key: string | null;
  readonly cleared_at: Instant | null;
  readonly retain_days: number | null;
  readonly due_at: Instant | null;
  readonly holds: readonly BearingHold[] | null;
  readonly flagged_at: Date | null;
  readonly batch_id: number | null;
  readonly attempts: number | null;
  readonly last_code: string | null;
  readonly last_error: string | null;
  readonly next_attempt_at: Instant | null;
  /** A run that is not due and points at the same object. */
  readonly shares_with: string | null;
}

/**
 * `retention.explain` for each run, in the order of the ids. Changes nothing.
 *
 * @throws DatabaseError
 */
export async function explain(
  database: Queryable,
  runIds: readonly string[],
): Promise<readonly Explanation[]> {
  return database.query<Explanation>(
    // A date that is infinite is none for programs; `because` says what it means.
    `select e.run_id, e.state, e.because, e.tenant_id, e.status,
      e.completed_at, e.bucket, e.key,
      e.cleared_at,
      (extract(epoch from e.retain) / 86400)::double precision as retain_days,
      e.due_at, e.holds, e.flagged_at, e.batch_id, e.attempts, e.last_code, e.last_error,
      e.next_attempt_at, e.shares_with
    from unnest($1::text[]) with ordinality as w (run_id, place)
    cross join lateral retention.explain(w.run_id) e
    order by w.place`,
    [runIds],
  );
}
