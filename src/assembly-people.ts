import { type LibraryOptions, withStore } from './assembly.ts';
import { UsageError } from './errors.ts';
import type { Explanation } from './store/explanation.ts';
import type { GateReason } from './store/gate.ts';
import type { Hold, HoldRequest, PlacedHold, ReleasedHold } from './store/holds.ts';
import type { NewlyDue, Policy } from './store/policies.ts';
import type { RetrySelection } from './store/retry.ts';
import type { Status } from './store/status.ts';
import type { Upcoming, UpcomingRequest } from './store/upcoming.ts';

/** What every question and every decision takes. */
export type Options = Pick<LibraryOptions, 'config' | 'logger'>;

/**
 * How things stand: the columns of `retention.status`.
 *
 * @throws DatabaseError
 */
export async function status(options: Options): Promise<Status> {
  return withStore(options, (store) => store.readStatus());
}

/**
 * The reasons for which nothing is flagged or claimed; empty: there is none.
 *
 * @throws DatabaseError
 */
export async function gate(options: Options): Promise<readonly GateReason[]> {
  return withStore(options, (store) => store.readGate());
}

/**
 * Why the result of each run is still there, or what became of it; in the order of the ids.
 *
 * @throws DatabaseError
 */
export async function explain(
  options: Options & { readonly runIds: readonly string[] },
): Promise<readonly Explanation[]> {
  return withStore(options, (store) => store.explain(options.runIds));
}

/**
 * What goes when, by day, tenant and bucket.
 *
 * @throws DatabaseError for a number of days or a tenant that cannot be.
 */
export async function upcoming(options: Options & UpcomingRequest): Promise<readonly Upcoming[]> {
  return withStore(options, (store) => store.readUpcoming(options));
}

/**
 * Places holds on runs and tenants, all of them or none. Returns also what of them could not be called back any more.
 *
 * @throws UsageError when neither a run nor a tenant is named.
 * @throws DatabaseError when one of them is not there.
 */
export async function placeHolds(options: Options & HoldRequest): Promise<readonly PlacedHold[]> {
  const { config, logger, ...request } = options;
  if ((request.runIds ?? []).length + (request.tenantIds ?? []).length === 0) {
    throw new UsageError('placeHolds: expected runIds, tenantIds or both; given none');
  }
  return withStore({ config, logger, mustWrite: true }, (store) => store.placeHolds(request));
}

/**
 * Releases holds, all of them or none.
 *
 * @throws DatabaseError when one of them is not there, and where it needs two people.
 */
export async function releaseHolds(
  options: Options & { readonly holdIds: readonly number[]; readonly by?: string },
): Promise<readonly ReleasedHold[]> {
  const { config, logger, holdIds, by } = options;
  return withStore({ config, logger, mustWrite: true }, (store) => store.releaseHolds(holdIds, by));
}

/**
 * The holds, oldest first.
 *
 * @param options `all`: also those that have ended.
 * @throws DatabaseError
 */
export async function listHolds(
  options: Options & { readonly all?: boolean },
): Promise<readonly Hold[]> {
  return withStore(options, (store) => store.listHolds({ all: options.all ?? false }));
}

/**
 * The policies, the default one first.
 *
 * @throws DatabaseError
 */
export async function listPolicies(options: Options): Promise<readonly Policy[]> {
  return withStore(options, (store) => store.listPolicies());
}

/**
 * How many live results a policy would make due at once, by tenant. Changes nothing.
 *
 * @throws DatabaseError
 */
export async function previewPolicy(
  options: Options & { readonly tenantId: string; readonly retainDays: number },
): Promise<readonly NewlyDue[]> {
  const { tenantId, retainDays } = options;
  return withStore(options, (store) => store.newlyDue(tenantId, retainDays));
}

/**
 * Sets the policy of a tenant, or of `*`, the default. Returns how many live results it makes due at once. A change that
 * makes more of them due than the guard lets through waits, unless it is confirmed: see `listPolicies`.
 *
 * @param options `confirmed`: the number was seen. `newTenant`: no run is of that tenant yet.
 * @throws DatabaseError for a tenant that is not known, and where it needs two people.
 */
export async function setPolicy(
  options: Options & {
    readonly tenantId: string;
    readonly retainDays: number;
    readonly confirmed?: boolean;
    readonly newTenant?: boolean;
  },
): Promise<number> {
  const { config, logger, tenantId, retainDays, confirmed = false, newTenant = false } = options;
  return withStore({ config, logger, mustWrite: true }, (store) =>
    store.setPolicy(tenantId, retainDays, confirmed, newTenant),
  );
}

/**
 * Takes away the policy of a tenant, for which the default holds again. Returns how many live results that makes due.
 *
 * @throws DatabaseError when the tenant has none.
 */
export async function unsetPolicy(
  options: Options & { readonly tenantId: string; readonly confirmed?: boolean },
): Promise<number> {
  const { config, logger, tenantId, confirmed = false } = options;
  return withStore({ config, logger, mustWrite: true }, (store) =>
    store.unsetPolicy(tenantId, confirmed),
  );
}

/**
 * Lets a policy take effect that waits for a confirmation. Returns how many live results it makes due now.
 *
 * @param options `expected`: refused when it has become more than that.
 * @throws DatabaseError when none waits.
 */
export async function confirmPolicy(
  options: Options & { readonly tenantId: string; readonly expected?: number },
): Promise<number> {
  const { config, logger, tenantId, expected } = options;
  return withStore({ config, logger, mustWrite: true }, (store) =>
    store.confirmPolicy(tenantId, expected),
  );
}

/**
 * Stops flagging and deleting for all listeners. Returns false where it was halted already.
 *
 * @throws DatabaseError without a reason.
 */
export async function halt(
  options: Options & { readonly reason: string; readonly by?: string },
): Promise<boolean> {
  const { config, logger, reason, by } = options;
  return withStore({ config, logger, mustWrite: true }, (store) => store.halt({ reason, by }));
}

/**
 * Ends a halt. Returns false where there was none.
 *
 * @throws DatabaseError
 */
export async function resume({ config, logger }: Options): Promise<boolean> {
  return withStore({ config, logger, mustWrite: true }, (store) => store.resume());
}

/**
 * Revives dead results and brings failed ones forward. Returns how many.
 *
 * @throws DatabaseError when neither a selection nor `all` is named.
 */
export async function retry(options: Options & RetrySelection): Promise<number> {
  const { config, logger, ...selection } = options;
  return withStore({ config, logger, mustWrite: true }, (store) => store.retry(selection));
}
