import type { Queryable } from '../database/queryable.ts';

/** A leased batch and what may go of it; `runIds[i]` points at `keys[i]`. */
export interface Claim {
  readonly batchId: number;
  readonly bucket: string;
  /** Read when first asked for. */
  readonly runIds: readonly string[];
  /** The same, unread: where all of a batch is cleared, nobody reads its ids. */
  readonly runIdsUnread: UnreadIds;
  readonly keys: readonly string[];
  /** Results of the batch that were no longer due and left the work tables. */
  readonly spared: number;
  /** How often its results have failed before. */
  readonly attempts: number;
  /** Every version of each key is to go, for good. */
  readonly purge: boolean;
  /** As many others were at work as should be beside us: see `retention.take_place`. */
  readonly crowded: boolean;
}

/** Ids as the text in which the database gave them out, fit to be given back. */
export class UnreadIds {
  readonly #json: string;

  /** @param json a JSON array of texts. */
  constructor(json: string) {
    this.#json = json;
  }

  read(): readonly string[] {
    return JSON.parse(this.#json) as string[];
  }

  /** As a parameter: Postgres's own spelling of an array differs from JSON's in brackets and escapes. */
  asParameter(): string | readonly string[] {
    return this.#json.includes('\\') ? this.read() : `{${this.#json.slice(1, -1)}}`;
  }
}

/** Who claims, and for how long. */
export interface ClaimRequest {
  /** The token by which the batch is known to be ours; a fresh UUID for every claim. */
  readonly lease: string;
  readonly leaseSeconds: number;
  /** Shown in `retention.batch.leased_by`. */
  readonly by: string;
  /** Only these batches. Default: any. */
  readonly batchIds?: readonly number[] | undefined;
  /** How many claims and settles of the same listener are at work beside this one. Default: none. */
  readonly ours?: number | undefined;
}

/** A result that the object store refused. */
export interface Failure {
  readonly run_id: string;
  readonly code: string;
  readonly message: string;
  /** Not counted against the result. */
  readonly transient: boolean;
  /** Trying again cannot help: dead at once. */
  readonly final?: boolean;
}

/** What is told of a batch's results, whatever it came to. */
export interface Unanswered {
  /** Runs whose results S3 may still delete by a request that got no answer. Default: none. */
  readonly unanswered?: readonly string[] | undefined;
}

/** What settling a batch came to. */
export interface Settlement {
  /** False: the lease was lost, and nothing was changed. */
  readonly settled: boolean;
  readonly cleared: number;
  readonly stamped: number;
  readonly failed: number;
  readonly dead: number;
  readonly retryAt: Date | undefined;
  /** As many others were at work as should be beside us: see `retention.take_place`. */
  readonly crowded: boolean;
}

/**
 * `retention.claim`: leases the next visible batch. Undefined: nothing is visible.
 *
 * @throws DatabaseError
 */
export async function claim(
  database: Queryable,
  request: ClaimRequest,
): Promise<Claim | undefined> {
  const [row] = await database.query<{
    batch_id: number;
    bucket: string;
    run_ids: string;
    keys: string[];
    spared: number;
    attempts: number;
    purge: boolean;
    crowded: boolean;
  }>(
    // As JSON, which is read natively: arrays are taken apart character by character.
    `select batch_id, bucket, to_json(run_ids)::text as run_ids, to_json(keys) as keys, spared, attempts,
      purge, crowded
    from retention.claim($1::uuid, make_interval(secs => $2), $3, $4::bigint[], $5)`,
    [request.lease, request.leaseSeconds, request.by, request.batchIds ?? null, request.ours ?? 0],
    { name: 'retention-claim' },
  );
  if (row === undefined) return undefined;
  const runIdsUnread = new UnreadIds(row.run_ids);
  let runIds: readonly string[] | undefined;
  return {
    batchId: row.batch_id,
    bucket: row.bucket,
    get runIds() {
      return (runIds ??= runIdsUnread.read());
    },
    runIdsUnread,
    keys: row.keys,
    spared: row.spared,
    attempts: row.attempts,
    purge: row.purge,
    crowded: row.crowded,
  };
}

/**
 * `retention.settle`: stamps what was deleted and reschedules or buries the rest, in one
 * transaction, fenced by the lease.
 *
 * @throws DatabaseError
 */
export async function settle(
  database: Queryable,
  batchId: number,
  lease: string,
  outcome: {
    readonly cleared: readonly string[] | UnreadIds;
    readonly failed: readonly Failure[];
    readonly milliseconds: number;
    /** As of a claim. */
    readonly ours?: number | undefined;
  } & Unanswered,
): Promise<Settlement> {
  const { cleared } = outcome;
  const [row] = await database.query<{
    settled: boolean;
    cleared: number;
    stamped: number;
    failed: number;
    dead: number;
    retry_at: Date | null;
    crowded: boolean;
  }>(
    `select settled, cleared, stamped, failed, dead, retry_at, crowded
    from retention.settle($1, $2::uuid, $3::retention.run_id[], $4::jsonb, $5, $6::retention.run_id[], $7)`,
    [
      batchId,
      lease,
      cleared instanceof UnreadIds ? cleared.asParameter() : cleared,
      JSON.stringify(outcome.failed),
      Math.round(outcome.milliseconds),
      outcome.unanswered ?? [],
      outcome.ours ?? 0,
    ],
    { name: 'retention-settle' },
  );
  if (row === undefined) throw new Error('retention.settle returned no row');
  return {
    settled: row.settled,
    cleared: row.cleared,
    stamped: row.stamped,
    failed: row.failed,
    dead: row.dead,
    retryAt: row.retry_at ?? undefined,
    crowded: row.crowded,
  };
}

/**
 * `retention.postpone`: takes a batch back that S3 did not work on, and pauses its bucket.
 * Undefined: the lease was lost.
 *
 * @throws DatabaseError
 */
export async function postpone(
  database: Queryable,
  batchId: number,
  lease: string,
  problem: { readonly code: string; readonly message: string } & Unanswered,
): Promise<Date | undefined> {
  const [row] = await database.query<{ until: Date | null }>(
    'select retention.postpone($1, $2::uuid, $3, $4, $5::retention.run_id[]) as until',
    [batchId, lease, problem.code, problem.message, problem.unanswered ?? []],
  );
  return row?.until ?? undefined;
}

/**
 * `retention.split`: halves a batch whose request was refused whole. False: the lease was lost.
 *
 * @throws DatabaseError
 */
export async function split(
  database: Queryable,
  batchId: number,
  lease: string,
  { unanswered = [] }: Unanswered = {},
): Promise<boolean> {
  const [row] = await database.query<{ half: number | null }>(
    'select retention.split($1, $2::uuid, $3::retention.run_id[]) as half',
    [batchId, lease, unanswered],
  );
  return (row?.half ?? null) !== null;
}

/**
 * `retention.give_back`: gives a batch back untouched. False: the lease was lost.
 *
 * @throws DatabaseError
 */
export async function giveBack(
  database: Queryable,
  batchId: number,
  lease: string,
): Promise<boolean> {
  const [row] = await database.query<{ given: boolean }>(
    'select retention.give_back($1, $2::uuid) as given',
    [batchId, lease],
  );
  return row?.given ?? false;
}

/**
 * How many results wait in batches that S3 did not work on; only of some batches, when they are
 * named.
 *
 * @throws DatabaseError
 */
export async function countPostponed(
  database: Queryable,
  batchIds?: readonly number[],
): Promise<number> {
  const [row] = await database.query<{ results: number }>(
    `select coalesce(sum(results), 0)::bigint as results
    from retention.batch
    where settled_at is null
      and lease is null
      and problems is not null
      and ($1::bigint[] is null or batch_id = any ($1::bigint[]))`,
    [batchIds ?? null],
  );
  return row?.results ?? 0;
}
