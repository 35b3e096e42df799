import type { Queryable } from '../database/queryable.ts';

/** What to hold, and why. */
export interface HoldRequest {
  readonly runIds?: readonly string[];
  readonly tenantIds?: readonly string[];
  readonly reason: string;
  /** Default: until it is released. */
  readonly forSeconds?: number | undefined;
  /** Default: the database's user. */
  readonly by?: string | undefined;
}

/** A hold that was placed; keys as in the command line's JSON. */
export interface PlacedHold {
  readonly hold_id: number;
  readonly run_id: string | null;
  readonly tenant_id: string | null;
  /** How many results are in flight, or may be, and cannot be called back. */
  readonly too_late: number;
  /** Up to 1,000 of them. */
  readonly too_late_run_ids: readonly string[];
  /** Of a hold on a run: when its result was cleared, if it was before. */
  readonly cleared_at: Date | null;
}

/** A row of `retention.hold`; keys as in the command line's JSON. */
export interface Hold {
  readonly hold_id: number;
  readonly run_id: string | null;
  readonly tenant_id: string | null;
  readonly reason: string;
  readonly placed_by: string;
  readonly placed_at: Date;
  readonly expires_at: Date | null;
  readonly released_at: Date | null;
  readonly released_by: string | null;
  readonly active: boolean;
}

/**
 * `retention.place_hold` for each run and tenant, in one statement: all of them or none.
 *
 * @throws DatabaseError when one of them is not there, or is no id of this application.
 */
export async function placeHolds(
  database: Queryable,
  { runIds = [], tenantIds = [], reason, forSeconds, by }: HoldRequest,
): Promise<readonly PlacedHold[]> {
  return database.query<PlacedHold>(
    `select h.hold_id,
      w.run_id,
      w.tenant_id,
      h.too_late,
      h.too_late_run_ids,
      (
        select r.cleared_at
        from retention.result r
        where r.run_id = w.run_id::retention.run_id
        limit 1
      ) as cleared_at
    from (
      select distinct i as run_id, null::text as tenant_id
      from unnest($1::text[]) i
      union all
      select distinct null, i
      from unnest($2::text[]) i
    ) w
    cross join lateral retention.place_hold(
      $3, w.run_id, w.tenant_id, make_interval(secs => $4), $5
    ) h
    order by h.hold_id`,
    [runIds, tenantIds, reason, forSeconds ?? null, by ?? null],
  );
}

/**
 * `retention.release_hold` for each, in one statement: all of them or none. Returns which were
 * released now; the others had been before.
 *
 * @throws DatabaseError when one of them does not exist.
 */
export async function releaseHolds(
  database: Queryable,
  holdIds: readonly number[],
  by?: string,
): Promise<readonly { readonly hold_id: number; readonly released: boolean }[]> {
  return database.query<{ hold_id: number; released: boolean }>(
    `select i as hold_id, retention.release_hold(i, $2) as released
    from (select distinct unnest($1::bigint[]) as i) w
    order by i`,
    [holdIds, by ?? null],
  );
}

/**
 * The holds, oldest first.
 *
 * @param options `all`: also those that have ended.
 * @throws DatabaseError
 */
export async function listHolds(
  database: Queryable,
  options: { readonly all: boolean },
): Promise<readonly Hold[]> {
  return database.query<Hold>(
    `select hold_id,
      run_id::text,
      tenant_id,
      reason,
      placed_by,
      placed_at,
      expires_at,
      released_at,
      released_by,
      coalesce(least(released_at, expires_at), 'infinity') > now() as active
    from retention.hold
    where $1 or coalesce(least(released_at, expires_at), 'infinity') > now()
    order by hold_id`,
    [options.all],
  );
}
