import type { Queryable } from '../database/queryable.ts';
import { DatabaseError, RefusedError, SQLSTATE } from '../errors.ts';
import type { Instant } from '../instant.ts';

/**
 * Which results a reconcile works on: those of a tenant, of runs, of both, or all of them in so many words. A key
 * that is there has a value: one that is undefined, null or empty is an error, and never means everything.
 */
export interface Selection {
  readonly tenantId?: string;
  /** An empty list selects nothing. */
  readonly runIds?: readonly string[];
  /** Everything that is due, instead of `tenantId` and `runIds`. */
  readonly all?: true;
  readonly olderThanSeconds?: number;
  /** `olderThanSeconds` replaces the policy where it is shorter. */
  readonly early?: boolean;
  /**
   * How many results the caller has seen that it selects: then they go, late or not. With `early`: how many of them are
   * not due. With another number, or more early ones, nothing is done.
   */
  readonly expected?: number;
  readonly limit?: number;
}

/** Due results of one tenant in one bucket; keys as in the command line's JSON. */
export interface DueGroup {
  readonly tenant_id: string | null;
  readonly bucket: string;
  readonly results: number;
  readonly oldest: Instant;
  /** How many of them are not due by the policy in force. */
  readonly early: number;
}

/** One due result; keys as in the command line's JSON. */
export interface DueRun {
  readonly run_id: string;
  readonly tenant_id: string | null;
  readonly bucket: string;
  readonly key: string;
  readonly completed_at: Instant;
}

/** What was put into batches of its own. */
export interface Selected {
  readonly batchIds: readonly number[];
  readonly newlyFlagged: number;
  readonly selected: number;
  /** Batches that keep what was selected, since a listener works on them. */
  readonly leasedBatchIds: readonly number[];
  /** Late results that did not pass the guard, and are in no batch. */
  readonly setAside: number;
}

/** Flagged results that wait, and why; keys as in the command line's JSON. */
export interface Unsettled {
  readonly bucket: string;
  readonly kind:
    | 'dead'
    | 'unstamped'
    | 'leased'
    | 'not allowed'
    | 'paused'
    | 'failed'
    | 'ceiling'
    | 'cooling'
    | 'later'
    | 'visible';
  /** The same in words. */
  readonly reason: string;
  /** Null: nothing says when. */
  readonly until: Date | null;
  /** The same by the database's clock. */
  readonly until_seconds: number | null;
  readonly results: number;
}

/** Longer ago than anything: an interval of more seconds would overflow. */
const MAX_SECONDS = 1e11;

const SELECTION = '$1, $2::text[], make_interval(secs => $3), $4, $5';

function parameters(selection: Selection): unknown[] {
  return [
    selection.tenantId ?? null,
    selection.runIds ?? null,
    selection.olderThanSeconds === undefined
      ? null
      : Math.min(selection.olderThanSeconds, MAX_SECONDS),
    selection.early ?? false,
    selection.limit ?? null,
  ];
}

/**
 * `retention.count_due`: what is due by tenant and bucket. Changes nothing.
 *
 * @throws DatabaseError
 */
export async function dueGroups(
  database: Queryable,
  selection: Selection,
): Promise<readonly DueGroup[]> {
  return database.query<DueGroup>(
    `select * from retention.count_due(${SELECTION})`,
    parameters(selection),
  );
}

/** So many runs come at once. */
const PAGE = 5_000;

/**
 * `retention.list_due`, run by run and page by page, so that any number of them needs no more memory. Of a store in a
 * snapshot (see `withSnapshot`), since it needs its transaction. Changes nothing.
 *
 * @throws DatabaseError
 */
export async function* readDueRuns(
  database: Queryable,
  selection: Selection,
): AsyncGenerator<readonly DueRun[], void, undefined> {
  await database.query(
    `declare due_runs no scroll cursor for
    select run_id, tenant_id, bucket, key, completed_at
    from retention.list_due(${SELECTION})
    order by completed_at, run_id`,
    parameters(selection),
  );
  for (;;) {
    const page = await database.query<DueRun>(`fetch ${PAGE} from due_runs`);
    if (page.length > 0) yield page;
    if (page.length < PAGE) break;
  }
  await database.query('close due_runs');
}

/**
 * `retention.flag_selected`: puts what is selected into batches of its own.
 *
 * @throws RefusedError when more results that are not due are selected than were expected; nothing was changed.
 * @throws DatabaseError when the selection names neither what nor all.
 */
export async function flagSelected(
  database: Queryable,
  selection: Selection & { readonly batchSize?: number | undefined },
): Promise<Selected> {
  const flagging = database.query<{
    batch_ids: (number | string)[];
    newly_flagged: number;
    selected: number;
    leased: (number | string)[];
    set_aside: number;
  }>(
    `select batch_ids, newly_flagged, selected, leased, set_aside
    from retention.flag_selected($1, $2::text[], make_interval(secs => $3), $4, $5, $6, $7, $8)`,
    [
      ...parameters(selection),
      selection.batchSize ?? null,
      selection.all ?? false,
      selection.expected ?? null,
    ],
  );
  const [row] = await flagging.catch((error: unknown) => {
    if (!(error instanceof DatabaseError && error.sqlState === SQLSTATE.not_confirmed)) throw error;
    throw new RefusedError(error.message, { remedy: error.remedy, cause: error });
  });
  return {
    batchIds: (row?.batch_ids ?? []).map(Number),
    newlyFlagged: row?.newly_flagged ?? 0,
    selected: row?.selected ?? 0,
    leasedBatchIds: (row?.leased ?? []).map(Number),
    setAside: row?.set_aside ?? 0,
  };
}

/**
 * `retention.end_cutoff`: what is left of the batches of an early reconcile goes by the policy again.
 *
 * @throws DatabaseError
 */
export async function endCutoff(database: Queryable, batchIds: readonly number[]): Promise<void> {
  await database.query('select retention.end_cutoff($1::bigint[])', [batchIds]);
}

/**
 * `retention.unsettled`: what is flagged and waits. Nothing given: everything.
 *
 * @throws DatabaseError
 */
export async function readUnsettled(
  database: Queryable,
  options: {
    readonly batchIds?: readonly number[] | undefined;
    readonly tenantId?: string | undefined;
    readonly runIds?: readonly string[] | undefined;
    /** The buckets that may be deleted from here. Default: any. */
    readonly buckets?: readonly string[] | undefined;
  },
): Promise<readonly Unsettled[]> {
  return database.query<Unsettled>(
    `select bucket, kind, reason, until,
      extract(epoch from until - clock_timestamp())::double precision as until_seconds, results
    from retention.unsettled($1::bigint[], $2, $3::text[], $4::text[])`,
    [
      options.batchIds ?? null,
      options.tenantId ?? null,
      options.runIds ?? null,
      options.buckets ?? null,
    ],
  );
}
