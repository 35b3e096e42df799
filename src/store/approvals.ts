import type { Queryable } from '../database/queryable.ts';

/** A row of `retention.list_approvals`; keys as in the command line's JSON. */
export interface Approval {
  readonly approval_id: number;
  readonly state: 'waiting' | 'approved' | 'used' | 'withdrawn' | 'expired';
  /** What kind of act: policy, early, surge, hold, orphans, purge, setting, fence or keeper. */
  readonly kind: string;
  /** Exactly what is asked. */
  readonly what: Readonly<Record<string, unknown>>;
  /** Of a policy: how many live results it would have made due when it was asked for. */
  readonly results: number | null;
  readonly asked_by: string;
  readonly asked_at: Date;
  readonly approved_by: string | null;
  readonly approved_at: Date | null;
  readonly expires_at: Date;
  readonly used_at: Date | null;
  readonly withdrawn_by: string | null;
  readonly withdrawn_at: Date | null;
}

/**
 * `retention.ask_approval`: asks for an act that needs two people. Returns the number of the request.
 *
 * @throws DatabaseError for a kind that is none.
 */
export async function askApproval(
  database: Queryable,
  kind: string,
  what: Readonly<Record<string, unknown>>,
): Promise<number> {
  const [row] = await database.query<{ id: number }>(
    'select retention.ask_approval($1, $2::jsonb) as id',
    [kind, JSON.stringify(what)],
  );
  return row?.id ?? 0;
}

/**
 * `retention.approve`: what another person has asked for. Returns false where it was approved before.
 *
 * @throws DatabaseError for one's own request, and for one that is used, withdrawn or too old.
 */
export async function approve(database: Queryable, approvalId: number): Promise<boolean> {
  const [row] = await database.query<{ done: boolean }>(
    'select retention.approve($1::bigint) as done',
    [approvalId],
  );
  return row?.done ?? false;
}

/**
 * `retention.withdraw_approval`. Returns false where it was withdrawn before.
 *
 * @throws DatabaseError for one that is used, too old or not there.
 */
export async function withdrawApproval(database: Queryable, approvalId: number): Promise<boolean> {
  const [row] = await database.query<{ done: boolean }>(
    'select retention.withdraw_approval($1::bigint) as done',
    [approvalId],
  );
  return row?.done ?? false;
}

/**
 * `retention.list_approvals`: what waits for another person or may still be used, oldest first.
 *
 * @param options `all`: also what was used or withdrawn, or is too old.
 * @throws DatabaseError
 */
export async function listApprovals(
  database: Queryable,
  options: { readonly all: boolean },
): Promise<readonly Approval[]> {
  return database.query<Approval>('select * from retention.list_approvals($1)', [options.all]);
}
