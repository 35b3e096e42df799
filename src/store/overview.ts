import type { Queryable } from '../database/queryable.ts';
import { type GateReason, readGate } from './gate.ts';
import type { Status } from './status.ts';

/** What a scrape needs to know of the database. */
export interface Vitals {
  /** When this was so, by the database's clock: what ages are counted from. */
  readonly asOf: Date;
  readonly status: Status;
  /** The names of the buckets that pause; at most {@link MOST_BUCKETS}. */
  readonly pausedBuckets: readonly string[];
  /** How much of the server's notification queue is used, from 0 to 1. */
  readonly notifyQueueUsage: number;
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
  readonly oldest: Date;
  readonly due_since: Date;
  /** Among its {@link MOST_RESULTS_PER_TENANT} oldest. */
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
  readonly oldest: Date | null;
  readonly cleared_24h: number;
  readonly dead: number;
  readonly paused_until: Date | null;
  readonly pause_code: string | null;
  readonly pause_error: string | null;
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
  readonly expires_at: Date | null;
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
}

/** How far back {@link readOverview} tells what happened. */
export const ACTIVITY_HOURS = 24;

/** Beyond these, lists are cut and counts are "so many or more". */
export const MOST_BUCKETS = 50;
export const MOST_RESULTS_PER_TENANT = 1_000;
export const MOST_ROWS = 20;

/**
 * The row of `retention.status` and what else a scrape asks for, in one statement.
 *
 * @throws DatabaseError
 */
export async function readVitals(database: Queryable): Promise<Vitals> {
  const [row] = await database.query<
    Status & { as_of: Date; paused_bucket_names: readonly string[]; notify_queue_usage: number }
  >(
    `select s.*,
      clock_timestamp() as as_of,
      array(
        select k.bucket
        from retention.bucket k
        where k.paused_until > now()
        order by k.bucket
        limit $1
      ) as paused_bucket_names,
      pg_notification_queue_usage() as notify_queue_usage
    from retention.status s`,
    [MOST_BUCKETS],
  );
  if (row === undefined) throw new Error('retention.status returned no row');
  const { as_of, paused_bucket_names, notify_queue_usage, ...status } = row;
  return {
    asOf: as_of,
    status,
    pausedBuckets: paused_bucket_names,
    notifyQueueUsage: notify_queue_usage,
    gate: status.halted.length === 0 ? [] : await readGate(database),
  };
}

/**
 * How things stand, for a page that people look at: cheap at any size, but more than a scrape.
 *
 * @throws DatabaseError
 */
export async function readOverview(database: Queryable): Promise<Overview> {
  // One after the other: a page that is looked at takes one session from the work, not seven.
  const activity = await database.query<ActivityPart>('select * from retention.activity($1)', [
    ACTIVITY_HOURS,
  ]);
  const tenants = await database.query<WaitingTenant>(
    'select * from retention.tenants_due($1, $2)',
    [MOST_ROWS, MOST_RESULTS_PER_TENANT],
  );
  const buckets = await readBusyBuckets(database);
  const troubles = await readTroubles(database);
  const listeners = await readWorkingListeners(database);
  const holds = await readActiveHolds(database);
  const pendingPolicies = await readPendingPolicies(database);
  return { activity, tenants, buckets, troubles, listeners, holds, pendingPolicies };
}

function readBusyBuckets(database: Queryable): Promise<readonly BusyBucket[]> {
  return database.query<BusyBucket>(
    `select k.bucket,
      k.versioning,
      k.on_versioned,
      coalesce(w.flagged, 0) as flagged,
      coalesce(w.leased, 0) as leased,
      w.oldest,
      coalesce(c.cleared, 0) as cleared_24h,
      coalesce(d.dead, 0) as dead,
      case when k.paused_until > now() then k.paused_until end as paused_until,
      case when k.paused_until > now() then k.pause_code end as pause_code,
      case when k.paused_until > now() then k.pause_error end as pause_error
    from retention.bucket k
    left join (
      select b.bucket,
        sum(b.results)::bigint as flagged,
        (sum(b.results) filter (where b.lease is not null and b.visible_at > now()))::bigint as leased,
        min(b.oldest) as oldest
      from retention.batch b
      where b.settled_at is null
        and b.dead_at is null
      group by b.bucket
    ) w on w.bucket = k.bucket
    left join (
      select b.bucket, sum(b.cleared)::bigint as cleared
      from retention.batch b
      where b.settled_at >= now() - interval '24 hours'
      group by b.bucket
    ) c on c.bucket = k.bucket
    left join (
      select b.bucket, sum(b.results)::bigint as dead
      from retention.batch b
      where b.dead_at is not null
      group by b.bucket
    ) d on d.bucket = k.bucket
    order by k.paused_until > now() desc nulls last, w.flagged desc nulls last, c.cleared desc nulls last,
      k.bucket
    limit $1`,
    [MOST_ROWS],
  );
}

function readTroubles(database: Queryable): Promise<readonly Trouble[]> {
  return database.query<Trouble>(
    `select t.state,
      t.bucket,
      t.code,
      t.results,
      (t.last).run_ids[1]::text as run_id,
      (t.last).error as error,
      (t.last).failed_at as last_at,
      case when t.state = 'failed' then (t.last).visible_at end as next_attempt_at
    from (
      select case when b.dead_at is null then 'failed' else 'dead' end as state,
        b.bucket,
        coalesce(b.code, 'unknown') as code,
        sum(b.results)::bigint as results,
        (array_agg(b order by b.failed_at desc))[1] as last
      from retention.batch b
      where b.failed_at is not null
        and b.settled_at is null
      group by 1, 2, 3
      order by 1, 4 desc, 2, 3
      limit $1
    ) t
    order by t.state, t.results desc, t.bucket, t.code`,
    [MOST_ROWS],
  );
}

function readWorkingListeners(database: Queryable): Promise<readonly WorkingListener[]> {
  return database.query<WorkingListener>(
    `select coalesce(b.leased_by, 'unknown') as listener,
      count(*) as batches,
      sum(b.results)::bigint as results,
      max(b.visible_at) as leased_until
    from retention.batch b
    where b.lease is not null
      and b.visible_at > now()
    group by 1
    order by 1
    limit $1`,
    [MOST_ROWS],
  );
}

function readActiveHolds(database: Queryable): Promise<readonly ActiveHold[]> {
  return database.query<ActiveHold>(
    `select hold_id, run_id::text as run_id, tenant_id, reason, placed_by, placed_at, expires_at
    from retention.hold
    where coalesce(least(released_at, expires_at), 'infinity') > now()
    order by hold_id desc
    limit $1`,
    [MOST_ROWS],
  );
}

function readPendingPolicies(database: Queryable): Promise<readonly PendingPolicy[]> {
  return database.query<PendingPolicy>(
    `select tenant_id,
      (extract(epoch from retain) / 86400)::double precision as retain_days,
      (extract(epoch from pending_retain) / 86400)::double precision as pending_retain_days,
      pending_results,
      pending_at,
      pending_by
    from retention.policy
    where pending_retain is not null
    order by pending_at
    limit $1`,
    [MOST_ROWS],
  );
}
