import type { Queryable } from '../database/queryable.ts';
import type { Instant } from '../instant.ts';
import type { BearingHold } from './explanation.ts';

/** A change that a person made, or a receipt of a run; keys as in the command line's JSON. */
export interface HistoryEntry {
  readonly at: Date;
  /** In plain words, such as `policy of acme: 30 days -> 90 days`. */
  readonly what: string;
  /** The user of the session, the role that it had set, and the program: `alice as ops (psql)`. */
  readonly done_by: string;
  /** The table of the schema that was changed, or `receipt`. */
  readonly subject: string;
  readonly action: string;
  /** `*`: the default policy. */
  readonly tenant_id: string | null;
  readonly run_id: string | null;
  readonly name: string | null;
  readonly session_name: string | null;
  readonly role_name: string | null;
  readonly application: string | null;
  /** The row before; null: it was inserted. */
  readonly before: Readonly<Record<string, unknown>> | null;
  readonly after: Readonly<Record<string, unknown>> | null;
  readonly change_id: number | null;
}

/** What is asked: at most one of a tenant, a run and a setting; none of them is everything. */
export interface HistoryRequest {
  readonly tenantId?: string | undefined;
  readonly runId?: string | undefined;
  /** A column of `retention.setting`, `retain` (the default policy) or `halt`. */
  readonly setting?: string | undefined;
  /** Nothing before. */
  readonly since?: Date | string | undefined;
  /** The newest so many, from 1 to 100,000. Default: 100. */
  readonly limit?: number | undefined;
}

/** What `retention.explain_at` says of a run at a time that has passed; keys as in the command line's JSON. */
export interface ExplanationThen {
  readonly run_id: string;
  readonly at: Date;
  /** One of the states that migrations/functions/29_explain_at.sql lists. */
  readonly state: string;
  readonly because: string;
  readonly tenant_id: string | null;
  readonly completed_at: Instant | null;
  readonly bucket: string | null;
  readonly key: string | null;
  readonly retain_days: number | null;
  readonly policy: string | null;
  readonly policy_set_by: string | null;
  readonly policy_set_at: Date | null;
  readonly due_at: Instant | null;
  readonly holds: readonly BearingHold[] | null;
  readonly flagged_at: Date | null;
  readonly batch_id: number | null;
  /** Which receipt says that it was cleared, such as `batch-12`. */
  readonly receipt: string | null;
  readonly settled_at: Date | null;
  /** What the rows of today cannot say of then. */
  readonly not_known: readonly string[] | null;
}

/**
 * `retention.history`: who changed what, and when, oldest first.
 *
 * @throws DatabaseError for what cannot be asked.
 */
export async function readHistory(
  database: Queryable,
  { tenantId, runId, setting, since, limit }: HistoryRequest = {},
): Promise<readonly HistoryEntry[]> {
  return database.query<HistoryEntry>(
    `select h.at, h.what, h.done_by, h.subject, h.action, h.tenant_id, h.run_id, h.name, h.session_name, h.role_name,
      h.application, h.before, h.after, h.change_id
    from retention.history($1, $2, $3, $4, $5) with ordinality as h (at, what, done_by, subject, action, tenant_id,
      run_id, name, session_name, role_name, application, before, after, change_id, n)
    order by h.n`,
    [tenantId ?? null, runId ?? null, setting ?? null, since ?? null, limit ?? 100],
  );
}

/**
 * `retention.explain_at` for each run, in the order of the ids. Changes nothing.
 *
 * @throws DatabaseError for a time that has not come, or before changes were recorded.
 */
export async function explainAt(
  database: Queryable,
  runIds: readonly string[],
  at: Date | string,
): Promise<readonly ExplanationThen[]> {
  return database.query<ExplanationThen>(
    `select e.run_id, e.at, e.state, e.because, e.tenant_id, e.completed_at, e.bucket, e.key,
      (extract(epoch from e.retain) / 86400)::double precision as retain_days,
      e.policy, e.policy_set_by, e.policy_set_at, e.due_at, e.holds, e.flagged_at, e.batch_id, e.receipt,
      e.settled_at, e.not_known
    from unnest($1::text[]) with ordinality as w (run_id, place)
    cross join lateral retention.explain_at(w.run_id, $2) e
    order by w.place`,
    [runIds, at],
  );
}
