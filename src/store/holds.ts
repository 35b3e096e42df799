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
  /** Of a hold on a run: the object that it found; null: the run names none yet. */
  readonly bucket: string | null;
  readonly key: string | null;
  /** How many objects it covers also when their rows have gone. */
  readonly objects: number;
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
  /** The users of the sessions, beside the names, which may be typed. */
  readonly placed_session: string;
  readonly released_session: string | null;
  /** Of a hold on a run: the object that it found. */
  readonly bucket: string | null;
  readonly key: string | null;
  /** How many objects it covers also when their rows have gone. */
  readonly objects: number;
}

/**
 * `retention.place_holds`: on each run and tenant, all of them or none.
 *
 * @throws DatabaseError when one of them is not there, or is no id of this application.
 */
export async function placeHolds(
  database: Queryable,
  { runIds = [], tenantIds = [], reason, forSeconds, by }: HoldRequest,
): Promise<readonly PlacedHold[]> {
  return database.query<PlacedHold>(
    `select * from retention.place_holds($3, $1::text[], $2::text[], make_interval(secs => $4), $5)`,
    [runIds, tenantIds, reason, forSeconds ?? null, by ?? null],
  );
}

/** What the release of a hold did; keys as in JSON. */
export interface ReleasedHold {
  readonly hold_id: number;
  /** False: it had been before. */
  readonly released: boolean;
  /** How many results of its tenant are due by now and come back; null: nothing was counted. */
  readonly due: number | null;
}

/**
 * `retention.release_holds`: all of them or none. Returns which were released now; the others had
 * been before.
 *
 * @throws DatabaseError when one of them does not exist.
 */
export async function releaseHolds(
  database: Queryable,
  holdIds: readonly number[],
  by?: string,
): Promise<readonly ReleasedHold[]> {
  return database.query<ReleasedHold>('select * from retention.release_holds($1::bigint[], $2)', [
    holdIds,
    by ?? null,
  ]);
}

/**
 * `retention.list_holds`: oldest first.
 *
 * @param options `all`: also those that have ended.
 * @throws DatabaseError
 */
export async function listHolds(
  database: Queryable,
  options: { readonly all: boolean },
): Promise<readonly Hold[]> {
  return database.query<Hold>('select * from retention.list_holds($1)', [options.all]);
}
