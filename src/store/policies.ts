import type { Queryable } from '../database/queryable.ts';

/** A row of `retention.policy`; keys as in the command line's JSON. */
export interface Policy {
  /** `*` is the default. */
  readonly tenant_id: string;
  readonly retain_days: number;
  readonly set_at: Date;
  readonly set_by: string;
  /** Asked for, and in force only once it is confirmed. */
  readonly pending_retain_days: number | null;
  /** How many live results it would have made due at once when it was asked for. */
  readonly pending_results: number | null;
  readonly pending_at: Date | null;
  readonly pending_by: string | null;
  readonly confirmed_results: number | null;
  readonly confirmed_at: Date | null;
  readonly confirmed_by: string | null;
}

/** How many live results of one tenant a policy would make due at once. */
export interface NewlyDue {
  /** Null: results without a tenant. */
  readonly tenant_id: string | null;
  readonly results: number;
}

/**
 * `retention.list_policies`: the default one first.
 *
 * @throws DatabaseError
 */
export async function listPolicies(database: Queryable): Promise<readonly Policy[]> {
  return database.query<Policy>('select * from retention.list_policies()');
}

/**
 * `retention.preview_policy`: what a policy would make due at once. Changes nothing.
 *
 * @throws DatabaseError
 */
export async function newlyDue(
  database: Queryable,
  tenantId: string,
  retainDays: number,
): Promise<readonly NewlyDue[]> {
  return database.query<NewlyDue>(
    `select tenant_id, results
    from retention.preview_policy($1, make_interval(secs => $2))
    order by results desc, tenant_id`,
    [tenantId, retainDays * DAY_SECONDS],
  );
}

const DAY_SECONDS = 86_400;

/**
 * `retention.find_tenant`: the tenant in the spelling of its column, and whether it has a run or a policy of
 * its own.
 *
 * @throws DatabaseError when it cannot be a tenant id of this application.
 */
export async function findTenant(
  database: Queryable,
  tenantId: string,
): Promise<{ readonly tenantId: string; readonly isKnown: boolean }> {
  const [row] = await database.query<{ tenant_id: string; is_known: boolean }>(
    'select * from retention.find_tenant($1)',
    [tenantId],
  );
  return { tenantId: row?.tenant_id ?? tenantId, isKnown: row?.is_known ?? false };
}

/**
 * `retention.set_policy`. Returns how many live results it makes due at once.
 *
 * @param isConfirmed false: above the guard's limit the change waits for a confirmation.
 * @param isNewTenant the tenant need not have a run yet. Default: false.
 * @throws DatabaseError when no run is of that tenant.
 */
export async function setPolicy(
  database: Queryable,
  tenantId: string,
  retainDays: number,
  isConfirmed: boolean,
  isNewTenant = false,
): Promise<number> {
  const [row] = await database.query<{ results: number }>(
    'select retention.set_policy($1, make_interval(secs => $2), $3, $4) as results',
    [tenantId, retainDays * DAY_SECONDS, isConfirmed, isNewTenant],
  );
  return row?.results ?? 0;
}

/**
 * `retention.unset_policy`: the default holds for the tenant again. Returns how many live results
 * that makes due at once.
 *
 * @throws DatabaseError when the tenant has no policy of its own.
 */
export async function unsetPolicy(
  database: Queryable,
  tenantId: string,
  isConfirmed: boolean,
): Promise<number> {
  const [row] = await database.query<{ results: number }>(
    'select retention.unset_policy($1, $2) as results',
    [tenantId, isConfirmed],
  );
  return row?.results ?? 0;
}

/**
 * `retention.confirm_policy`: lets a pending policy take effect. Returns how many live results that
 * makes due now.
 *
 * @param expected refuse when it has become more than this. Default: whatever it is.
 * @throws DatabaseError
 */
export async function confirmPolicy(
  database: Queryable,
  tenantId: string,
  expected?: number,
): Promise<number> {
  const [row] = await database.query<{ results: number }>(
    'select retention.confirm_policy($1, $2) as results',
    [tenantId, expected ?? null],
  );
  return row?.results ?? 0;
}
