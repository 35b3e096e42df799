import type { KnownBucket } from './buckets.ts';
import type { Canary } from './canary.ts';
import type { StandingVerify } from './standing.ts';
import type { Queryable } from '../database/queryable.ts';
import type { Instant } from '../instant.ts';
import { type GateReason, readGate } from './gate.ts';
import { type Head, listHeads } from './seals.ts';
import type { Status } from './status.ts';
import { type Surge, listSurges } from './surges.ts';
import { type Trend, readTrend } from './trend.ts';

/** What a scrape needs to know of the database. */
export interface Vitals {
  /** When this was so, by the database's clock: what ages are counted from. */
  readonly asOf: Date;
  readonly status: Status;
  /** The names of the buckets that pause; at most 50. */
  readonly pausedBuckets: readonly string[];
  /** How much of the server's notification queue is used, from 0 to 1. */
  readonly notifyQueueUsage: number;
  /** How many seals are not yet an object in RETENTION_SEAL_BUCKET; null: no listener has one. */
  readonly sealsUnwritten: number | null;
  /** Default: there are none. */
  readonly canaries?: readonly Canary[];
  /** Default: there are none. */
  readonly verifies?: readonly StandingVerify[];
  /** Why nothing is flagged or claimed; empty: nothing keeps it from that. */
  readonly gate: readonly GateReason[];
}

/** What happened in one part of the time that is shown. */
export interface ActivityPart {
  readonly begins_at: Date;
  readonly flagged: number;
  readonly cleared: number;
  readonly failed: number;
}

/** A tenant whose results wait; keys as in JSON. */
export interface WaitingTenant {
  /** Null: results without a tenant. */
  readonly tenant_id: string | null;
  readonly retain_days: number;
  /** When the oldest that waits completed. */
  readonly oldest: Instant;
  readonly due_since: Instant;
  /** Among its 100 oldest. */
  readonly due: number;
  readonly flagged: number;
  /** Whether there may be more of both. */
  readonly is_capped: boolean;
}

/** A bucket and its work; keys as in JSON. */
export interface BusyBucket {
  readonly bucket: string;
  readonly versioning: 'off' | 'enabled' | 'suspended' | null;
  readonly on_versioned: 'marker' | 'purge';
  readonly flagged: number;
  readonly leased: number;
  readonly oldest: Instant | null;
  readonly cleared_24h: number;
  readonly dead: number;
  readonly paused_until: Date | null;
  readonly pause_code: string | null;
  readonly pause_error: string | null;
  /** What its store does otherwise than S3. */
  readonly habits: KnownBucket['habits'];
  /** Its ceilings; null: it has none. */
  readonly max_per_second: number | null;
  readonly max_in_flight: number | null;
}

/** Failed or dead results of one bucket that S3 refused with the same code; keys as in JSON. */
export interface Trouble {
  readonly state: 'failed' | 'dead';
  readonly bucket: string;
  readonly code: string;
  readonly results: number;
  /** The last of them, and what S3 said of it. */
  readonly run_id: string;
  readonly error: string | null;
  readonly last_at: Date;
  /** Null for dead ones, which wait for a person. */
  readonly next_attempt_at: Date | null;
}

/** Who works on batches at this moment. */
export interface WorkingListener {
  readonly listener: string;
  readonly batches: number;
  readonly results: number;
  readonly leased_until: Date;
}

/** A hold in force; keys as in JSON. */
export interface ActiveHold {
  readonly hold_id: number;
  readonly run_id: string | null;
  readonly tenant_id: string | null;
  readonly reason: string;
  readonly placed_by: string;
  readonly placed_at: Date;
  readonly expires_at: Instant | null;
}

/** A policy that waits for a confirmation; keys as in JSON. */
export interface PendingPolicy {
  readonly tenant_id: string;
  readonly retain_days: number;
  readonly pending_retain_days: number;
  readonly pending_results: number;
  readonly pending_at: Date;
  readonly pending_by: string;
}

/** How things stand, in lists that are bounded. */
export interface Overview {
  readonly activity: readonly ActivityPart[];
  readonly tenants: readonly WaitingTenant[];
  readonly buckets: readonly BusyBucket[];
  readonly troubles: readonly Trouble[];
  readonly listeners: readonly WorkingListener[];
  /** The newest first. */
  readonly holds: readonly ActiveHold[];
  readonly pendingPolicies: readonly PendingPolicy[];
  /** Those that wait for a person, oldest first. */
  readonly surges: readonly Surge[];
  readonly trend: Trend;
  /** The latest seal; null: nothing was sealed yet. */
  readonly head: Head | null;
  /** The lists of which there is more than is shown. */
  readonly cut: readonly string[];
}

/** How far back {@link readOverview} tells what happened. */
export const ACTIVITY_HOURS = 24;

const SUSPICIOUS_MILLISECONDS = 600_000;

/** Lists of the overview are cut here. */
export const MOST_ROWS = 20;

/** Buckets are few, and each is looked for by its name. */
export const MOST_BUCKETS = 50;

/**
 * The row of `retention.status` and `retention.vitals`, in one statement.
 *
 * @throws DatabaseError
 */
export async function readVitals(database: Queryable): Promise<Vitals> {
  const [row] = await database.query<
    Status & {
      as_of: Date;
      paused_bucket_names: readonly string[];
      notify_queue_usage: number;
      seals_unwritten: number | null;
      canaries: readonly Canary[] | null;
      verifies: readonly StandingVerify[] | null;
    }
  >(
    `select *, retention.canary_state() as canaries, retention.standing_state() as verifies
    from retention.status
    cross join retention.vitals()`,
  );
  if (row === undefined) throw new Error('retention.status returned no row');
  const {
    as_of,
    paused_bucket_names,
    notify_queue_usage,
    seals_unwritten,
    canaries,
    verifies,
    ...status
  } = row;
  return {
    asOf: as_of,
    status,
    pausedBuckets: paused_bucket_names,
    notifyQueueUsage: notify_queue_usage,
    sealsUnwritten: seals_unwritten,
    canaries: canaries ?? [],
    verifies: verifies ?? [],
    gate: status.halted.length === 0 && isNow(as_of) ? [] : await readGate(database),
  };
}

/** Whether the database's clock is not so far ahead of ours that it may be a reason of the gate. */
function isNow(asOf: Date): boolean {
  return asOf.getTime() - Date.now() < SUSPICIOUS_MILLISECONDS;
}

/**
 * How things stand, for a page that people look at: cheap at any size, but more than a scrape.
 *
 * @param status what was read of `retention.status` already. Default: it is read.
 * @throws DatabaseError
 */
export async function readOverview(
  database: Queryable,
  status?: Pick<Status, 'due' | 'due_is_capped'>,
): Promise<Overview> {
  const cut: string[] = [];
  // One row more than is shown says whether there are more.
  const cutAt = <Row>(name: string, rows: readonly Row[], limit: number): readonly Row[] => {
    if (rows.length > limit) cut.push(name);
    return rows.slice(0, limit);
  };
  // One after the other: a page that is looked at takes one session from the work, not ten.
  const list = async <Row extends object>(
    name: string,
    what: string,
    limit = MOST_ROWS,
  ): Promise<readonly Row[]> =>
    cutAt(
      name,
      await database.query<Row>(`select * from retention.${what}($1)`, [limit + 1]),
      limit,
    );
  const activity = await database.query<ActivityPart>('select * from retention.activity($1)', [
    ACTIVITY_HOURS,
  ]);
  const tenants = await list<WaitingTenant>('tenants', 'tenants_due');
  const buckets = await list<BusyBucket>('buckets', 'busy_buckets', MOST_BUCKETS);
  const troubles = await list<Trouble>('troubles', 'troubles');
  const listeners = await list<WorkingListener>('listeners', 'working_listeners');
  const holds = await list<ActiveHold>('holds', 'active_holds');
  const pendingPolicies = await list<PendingPolicy>('pending_policies', 'pending_policies');
  const surges = cutAt('surges', await listSurges(database), MOST_ROWS);
  const trend = await readTrend(database, status);
  const [head = null] = await listHeads(database);
  return {
    activity,
    tenants,
    buckets,
    troubles,
    listeners,
    holds,
    pendingPolicies,
    surges,
    trend,
    head,
    cut,
  };
}
