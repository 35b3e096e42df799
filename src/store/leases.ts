import type { Queryable } from '../database/queryable.ts';
import type { Habits } from './buckets.ts';
import { type Deed, endsAsJson } from './receipts.ts';
import { PRODUCT_VERSION } from './version.ts';

const NO_HABITS: Habits = {};

/** A leased batch and what may go of it. */
export interface Claim {
  readonly batchId: number;
  readonly bucket: string;
  readonly keys: readonly string[];
  /** The version of each key that may go, beside `keys`; null: any. Undefined: of each any. */
  readonly etags?: readonly (string | null)[];
  /** Results of the batch that were no longer due and left it. */
  readonly spared: number;
  /** How often its results have failed before. */
  readonly attempts: number;
  /** Every version of each key is to go, for good. */
  readonly purge: boolean;
  /** What the store of the bucket does otherwise than S3, as `retention.learn_habits` has it. */
  readonly habits: Habits;
  /** Where its keys were looked for before the first deletion; undefined: that is still to be done. */
  readonly lookedIn: string | undefined;
  /** Results that left the batch since their check raised an error. Undefined: there are none. */
  readonly unchecked?: Unchecked;
}

/** Results whose check raised an error when their batch was claimed. */
export interface Unchecked {
  /** How many wait for their next attempt. */
  readonly failed: number;
  /** How many have failed too often. */
  readonly dead: number;
  /** What was raised; keys as in `retention.batch.problems`. */
  readonly problems: readonly Problem[];
}

/** Who claims, and for how long. */
export interface ClaimRequest {
  /** The token by which the batch is known to be ours; a fresh UUID for every claim. */
  readonly lease: string;
  readonly leaseSeconds: number;
  /** Shown in `retention.batch.leased_by`. */
  readonly by: string;
  /** Only these batches, and what was split off them. Default: any. */
  readonly batchIds?: readonly number[] | undefined;
  /** Only batches of these buckets. Default: any. */
  readonly buckets?: readonly string[] | undefined;
}

/** A key that the object store did not delete, as `retention.settle` takes it. */
export interface Failure {
  readonly key: string;
  readonly code: string;
  readonly reason: string;
  /** Only `refused` counts against the result; `changed` spares it. */
  readonly outcome: 'refused' | 'failed' | 'unknown' | 'changed';
  readonly concerns: 'key' | 'bucket' | 'store';
  /** Trying again cannot help: dead at once. */
  readonly final: boolean;
}

/** What is told of a batch's results, whatever it came to. */
export interface Unanswered {
  /** Keys that S3 may still delete by a request that got no answer. Default: none. */
  readonly unanswered?: readonly string[] | undefined;
}

/** Results of one batch that failed alike, at S3 or at their stamp. */
export interface Problem {
  readonly code: string;
  readonly message: string;
  readonly results: number;
  /** Three of them at most. */
  readonly run_ids: readonly string[];
  /** Absent: they are dead. */
  readonly retry_at?: string;
  /** S3 has deleted their objects, and only the stamp is missing. Absent: it has not. */
  readonly deleted?: boolean;
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
  /** What failed, once for all that failed alike; keys as in `retention.batch.problems`. */
  readonly problems: readonly Problem[];
}

/**
 * `retention.claim`: leases the next visible batch. Undefined: nothing is visible, or the clocks differ.
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
    keys: string[];
    spared: number;
    attempts: number;
    purge: boolean;
    failed: number;
    dead: number;
    problems: readonly Problem[];
    habits: Habits | null;
    looked_in: string | null;
    etags: readonly (string | null)[] | null;
  }>(
    // As JSON, which is read natively: arrays are taken apart character by character.
    `select batch_id, bucket, to_json(keys) as keys, spared, attempts, purge, failed, dead, problems, habits, looked_in,
      to_json(etags) as etags
    from (
      select $1::uuid as lease where not exists (select from retention.clocks_differ($7)) offset 0
    ) l
    -- By the lease, so that nothing is claimed where the clocks differ.
    cross join lateral retention.claim(l.lease, make_interval(secs => $2), $3, $4::bigint[], $5, $6::text[])`,
    [
      request.lease,
      request.leaseSeconds,
      request.by,
      request.batchIds ?? null,
      PRODUCT_VERSION,
      request.buckets ?? null,
      new Date(),
    ],
    { name: 'retention-claim' },
  );
  if (row === undefined) return undefined;
  return {
    batchId: row.batch_id,
    bucket: row.bucket,
    keys: row.keys,
    spared: row.spared,
    attempts: row.attempts,
    purge: row.purge,
    habits: row.habits ?? NO_HABITS,
    lookedIn: row.looked_in ?? undefined,
    ...(row.etags === null ? {} : { etags: row.etags }),
    ...(row.problems.length > 0
      ? { unchecked: { failed: row.failed, dead: row.dead, problems: row.problems } }
      : {}),
  };
}

/**
 * `retention.take_turn`: writes down whose turn it is before a claim is asked for that batch. Undefined: nothing is
 * visible.
 *
 * @throws DatabaseError
 */
export async function takeTurn(
  database: Queryable,
  wanted: Pick<ClaimRequest, 'batchIds' | 'buckets'>,
): Promise<number | undefined> {
  const [row] = await database.query<{ batch_id: number | null }>(
    'select retention.take_turn($1::bigint[], $2, $3::text[]) as batch_id',
    [wanted.batchIds ?? null, PRODUCT_VERSION, wanted.buckets ?? null],
  );
  return row?.batch_id ?? undefined;
}

/**
 * `retention.settle`: stamps what was deleted and reschedules or buries the rest, in one
 * transaction, fenced by the lease. Asked again after it was done, it answers the same.
 *
 * @throws DatabaseError
 */
export async function settle(
  database: Queryable,
  batchId: number,
  lease: string,
  outcome: {
    /** The keys that the store named as deleted, or that it named every key of the batch. */
    readonly cleared: readonly string[] | 'all';
    readonly failed: readonly Failure[];
    readonly milliseconds: number;
  } & Unanswered &
    Deed,
): Promise<Settlement> {
  const { cleared } = outcome;
  const [row] = await database.query<{
    settled: boolean;
    cleared: number;
    stamped: number;
    failed: number;
    dead: number;
    retry_at: Date | null;
    problems: readonly Problem[];
  }>(
    `select settled, cleared, stamped, failed, dead, retry_at, problems
    from retention.settle($1, $2::uuid, $3::text[], $4, $5::jsonb, $6, $7::text[], $8::jsonb, $9::text[], $10)`,
    [
      batchId,
      lease,
      cleared === 'all' ? [] : cleared,
      cleared === 'all',
      JSON.stringify(outcome.failed),
      Math.round(outcome.milliseconds),
      outcome.unanswered ?? [],
      endsAsJson(outcome.ends),
      outcome.requestIds ?? null,
      PRODUCT_VERSION,
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
    problems: row.problems,
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
  problem: {
    readonly code: string;
    readonly message: string;
    /** S3 was not asked: its share of the bucket's ceiling is returned. */
    readonly unasked?: boolean | undefined;
  } & Unanswered &
    Pick<Deed, 'requestIds'>,
): Promise<Date | undefined> {
  const [row] = await database.query<{ until: Date | null }>(
    'select retention.postpone($1, $2::uuid, $3, $4, $5::text[], $6::text[], $7) as until',
    [
      batchId,
      lease,
      problem.code,
      problem.message,
      problem.unanswered ?? [],
      problem.requestIds ?? null,
      problem.unasked ?? false,
    ],
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
    'select retention.split($1, $2::uuid, $3::text[]) as half',
    [batchId, lease, unanswered],
  );
  return (row?.half ?? null) !== null;
}

/**
 * `retention.count_postponed`: how many results wait in batches that S3 did not work on.
 *
 * @param batchIds only of these. Default: of all.
 *
 * @throws DatabaseError
 */
export async function countPostponed(
  database: Queryable,
  batchIds?: readonly number[],
): Promise<number> {
  const [row] = await database.query<{ results: number }>(
    'select retention.count_postponed($1::bigint[]) as results',
    [batchIds ?? null],
  );
  return row?.results ?? 0;
}
