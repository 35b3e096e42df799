import type { Queryable } from '../database/queryable.ts';
import { type GateReason, readGate } from './gate.ts';
import { type KnownBucket, readBuckets, noteBucket } from './buckets.ts';

/** Where a session ended up. */
export interface SessionFacts {
  readonly database: string;
  readonly role: string;
  readonly isSuperuser: boolean;
  readonly version: string;
  /** The same for two sessions: the same database of the same server. */
  readonly identity: string;
  /** A standby cannot be written to. */
  readonly isStandby: boolean;
}

/**
 * Who and where a session is.
 *
 * @throws DatabaseError
 */
export async function readSession(database: Queryable): Promise<SessionFacts> {
  const [row] = await database.query<SessionFacts>(
    `select current_database() as database,
      current_user as role,
      (select rolsuper from pg_roles where rolname = current_user) as "isSuperuser",
      current_setting('server_version') as version,
      format('%s of %s, up since %s', d.oid, coalesce(inet_server_port()::text, 'a socket'),
        pg_postmaster_start_time()) as identity,
      pg_is_in_recovery() as "isStandby"
    from pg_database d
    where d.datname = current_database()`,
  );
  if (row === undefined) throw new Error('the session did not say where it is');
  return row;
}

/** What this role lacks, in the words of GRANT. */
export interface RightsFacts {
  readonly role: string;
  /** Who owns the schema and can give rights in it. */
  readonly owner: string;
  /** What a listener cannot do without. */
  readonly missing: readonly string[];
  /** What only the other commands need. */
  readonly missingForOperators: readonly string[];
}

const LISTENER_RELATIONS = ['retention.setting', 'retention.scan', 'retention.status'];
const OPERATOR_RELATIONS = ['retention.result', 'retention.policy', 'retention.hold'];
const LISTENER_FUNCTIONS = [
  'tick',
  'flag_expired',
  'claim',
  'settle',
  'postpone',
  'split',
  'pulse',
  'configure',
  'note_bucket',
];

/**
 * Which rights in the schema this role has and lacks.
 *
 * @throws DatabaseError
 */
export async function readRights(database: Queryable): Promise<RightsFacts> {
  const [row] = await database.query<RightsFacts>(
    `with needed as (
      select format('usage on schema retention') as needed,
        has_schema_privilege('retention', 'usage') as there,
        true as listener
      union all
      select format('select on %s', n.name),
        has_table_privilege(format('%I.%I', 'retention', split_part(n.name, '.', 2))::regclass::oid, 'select'),
        n.listener
      from (
        select unnest($1::text[]) as name, true as listener
        union all
        select unnest($2::text[]), false
      ) n
      where has_schema_privilege('retention', 'usage')
      union all
      select format('execute on function retention.%s', p.proname),
        has_function_privilege(p.oid, 'execute'),
        p.proname = any ($3::text[])
      from pg_proc p
      where p.pronamespace = 'retention'::regnamespace
        and (
          p.proname = any ($3::text[])
          or p.proname in ('place_hold', 'release_hold', 'set_policy', 'confirm_policy',
            'retry', 'explain', 'list_due', 'flag_selected', 'unstamp')
        )
    )
    select current_user as role,
      pg_get_userbyid((select nspowner from pg_namespace where nspname = 'retention')) as owner,
      coalesce(array_agg(n.needed) filter (where n.listener and not n.there), '{}') as missing,
      coalesce(array_agg(n.needed) filter (where not n.listener and not n.there), '{}')
        as "missingForOperators"
    from needed n`,
    [LISTENER_RELATIONS, OPERATOR_RELATIONS, LISTENER_FUNCTIONS],
  );
  if (row === undefined) throw new Error('the rights could not be read');
  return row;
}

/** What is known of the adopted table. Read from catalogs, which everybody may read. */
export interface TableFacts {
  readonly table: string;
  readonly tableOwner: string;
  readonly viewOwner: string;
  /** `off`, `on` or `forced`. */
  readonly rowSecurity: 'off' | 'on' | 'forced';
  /** Whether the policies are asked when the view's owner reads the table. */
  readonly isFiltered: boolean;
  /** How many policies let the view's owner see rows. */
  readonly policies: number;
  readonly indexes: readonly IndexFacts[];
}

/** One of our two indexes. */
export interface IndexFacts {
  readonly name: string;
  readonly state: 'valid' | 'missing';
}

/**
 * The adopted table: its owner, its row-level security, our indexes on it.
 *
 * @throws DatabaseError
 */
export async function readTable(database: Queryable): Promise<TableFacts> {
  const [row] = await database.query<TableFacts>(
    `with adopted as (
      select a.table_name, to_regclass(a.table_name) as relid
      from retention.adapter a
    )
    select a.table_name as table,
      pg_get_userbyid(c.relowner) as "tableOwner",
      v.owner as "viewOwner",
      case
        when not c.relrowsecurity then 'off'
        when c.relforcerowsecurity then 'forced'
        else 'on'
      end as "rowSecurity",
      c.relrowsecurity
        and not v.bypasses
        and (c.relforcerowsecurity or not pg_has_role(v.owner, c.relowner, 'usage')) as "isFiltered",
      (
        select count(*)
        from pg_policy p
        where p.polrelid = c.oid
          and p.polpermissive
          and exists (
            select
            from unnest(p.polroles) as r (role)
            where r.role = 0
              or pg_has_role(v.owner, r.role, 'usage')
          )
      ) as policies,
      (
        select jsonb_agg(
          jsonb_build_object('name', w.name, 'state', case when w.is_there then 'valid' else 'missing' end)
          order by w.name
        )
        from retention.index_state() w
      ) as indexes
    from adopted a
    join pg_class c on c.oid = a.relid
    cross join lateral (
      select pg_get_userbyid(r.relowner) as owner, o.rolsuper or o.rolbypassrls as bypasses
      from pg_class r
      join pg_roles o on o.oid = r.relowner
      where r.oid = 'retention.result'::regclass
    ) v`,
  );
  if (row === undefined) throw new Error('the adopted table is not there any more');
  return row;
}

/** What the tables of the schema say of the reactor's health. */
export interface HealthFacts {
  readonly enabled: boolean;
  readonly scheduler: 'pg_cron' | 'internal';
  /** Where pg_cron lives, when it is another database. */
  readonly cronDatabase: string | null;
  readonly tickedSecondsAgo: number | null;
  readonly tickedBy: string | null;
  readonly migratedSecondsAgo: number;
  readonly loopIntervalSeconds: number;
  /** Columns of type date or timestamp without time zone: `completed_at (timestamp ...)`. */
  readonly naiveColumns: readonly string[];
  readonly defaultBucket: string | null;
  readonly notifyQueueUsage: number;
  readonly defaultRetainDays: number;
  readonly shortestRetainDays: number;
  readonly longestRetainDays: number;
  readonly tenantPolicies: number;
  readonly pendingPolicies: readonly string[];
  readonly holds: number;
  /** By error code, most first. */
  readonly dead: readonly { readonly code: string; readonly results: number }[];
}

/**
 * What the tables of the schema say.
 *
 * @throws DatabaseError
 */
export async function readHealth(database: Queryable): Promise<HealthFacts> {
  const [row] = await database.query<HealthFacts>(
    `select s.enabled,
      a.scheduler,
      a.cron_database as "cronDatabase",
      extract(epoch from clock_timestamp() - h.ticked_at)::double precision as "tickedSecondsAgo",
      h.ticked_by as "tickedBy",
      (
        select extract(epoch from localtimestamp - max(m.run_on))::double precision
        from retention.pgmigrations m
      ) as "migratedSecondsAgo",
      extract(epoch from s.loop_interval)::double precision as "loopIntervalSeconds",
      (
        select coalesce(array_agg(format('%s (%s)', c.value ->> 'name', c.value ->> 'type') order by c.key), '{}')
        from jsonb_each(a.columns) c
        where c.value ->> 'type' ~ 'without time zone|^date$'
          and c.key in ('completed_at', 'retain_until', 'cleared_at', 'updated_at')
      ) as "naiveColumns",
      coalesce(a.columns -> 'bucket' ->> 'fixed', s.default_bucket) as "defaultBucket",
      pg_notification_queue_usage() as "notifyQueueUsage",
      p."defaultRetainDays",
      p."shortestRetainDays",
      p."longestRetainDays",
      p."tenantPolicies",
      p."pendingPolicies",
      (
        select count(*)
        from retention.hold o
        where coalesce(least(o.released_at, o.expires_at), 'infinity') > now()
      ) as holds,
      (
        select coalesce(jsonb_agg(to_jsonb(d) order by d.results desc), '[]')
        from (
          select coalesce(b.code, 'unknown') as code, sum(b.results)::bigint as results
          from retention.batch b
          where b.dead_at is not null
          group by b.code
        ) d
      ) as dead
    from retention.setting s
    cross join retention.adapter a
    cross join retention.heartbeat h
    cross join (
      select (max(extract(epoch from retain)) filter (where tenant_id = '*') / 86400)::double precision
          as "defaultRetainDays",
        (min(extract(epoch from retain)) / 86400)::double precision as "shortestRetainDays",
        (max(extract(epoch from retain)) / 86400)::double precision as "longestRetainDays",
        count(*) filter (where tenant_id <> '*') as "tenantPolicies",
        coalesce(
          array_agg(
            format('tenant %s: %s instead of %s would make %s results due at once',
              tenant_id, pending_retain, retain, pending_results)
          ) filter (where pending_retain is not null),
          '{}'
        ) as "pendingPolicies"
      from retention.policy
    ) p`,
  );
  if (row === undefined) throw new Error('retention.adapter is empty');
  return row;
}

/** Runs that are COMPLETED and have an object, but no date. */
export interface UndatedFacts {
  /** At most {@link MOST_UNDATED}. */
  readonly results: number;
  readonly runIds: readonly string[];
}

export const MOST_UNDATED = 1_000;

/**
 * Counts runs that can never fall due for want of a date: one index probe per tenant, and never
 * more than {@link MOST_UNDATED}.
 *
 * @throws DatabaseError
 */
export async function readUndated(database: Queryable): Promise<UndatedFacts> {
  const [row] = await database.query<UndatedFacts>(
    `with recursive tenant(tenant_id) as (
      (
        select r.tenant_id
        from retention.result r
        where r.cleared_at is null
          and r.status = 'COMPLETED'
          and r.key is not null
          and r.tenant_id is not null
        order by r.tenant_id
        limit 1
      )
      union all
      select (
        select r.tenant_id
        from retention.result r
        where r.cleared_at is null
          and r.status = 'COMPLETED'
          and r.key is not null
          and r.tenant_id > t.tenant_id
        order by r.tenant_id
        limit 1
      )
      from tenant t
      where t.tenant_id is not null
    ),
    undated as (
      select u.run_id
      from (
        select r.run_id::text as run_id
        from tenant t
        cross join lateral (
          select x.run_id
          from retention.result x
          where x.tenant_id = t.tenant_id
            and x.cleared_at is null
            and x.status = 'COMPLETED'
            and x.key is not null
            and x.completed_at is null
          limit $1
        ) r
        union all
        select r.run_id::text
        from retention.result r
        where r.tenant_id is null
          and r.cleared_at is null
          and r.status = 'COMPLETED'
          and r.key is not null
          and r.completed_at is null
      ) u
      limit $1
    )
    select count(*) as results, coalesce((array_agg(run_id order by run_id))[1:3], '{}') as "runIds"
    from undated`,
    [MOST_UNDATED],
  );
  return row ?? { results: 0, runIds: [] };
}

/**
 * The key of some live result in a bucket, looked for among a thousand; undefined: none was found.
 *
 * @throws DatabaseError
 */
export async function sampleKey(database: Queryable, bucket: string): Promise<string | undefined> {
  const [row] = await database.query<{ key: string }>(
    `select l.key
    from (
      select r.key, coalesce(nullif(r.bucket, ''), s.default_bucket) as bucket
      from retention.result r
      cross join retention.setting s
      where r.cleared_at is null
        and r.key is not null
      limit 1000
    ) l
    where l.bucket = $1
      and l.key <> ''
    limit 1`,
    [bucket],
  );
  return row?.key;
}

/**
 * Whether some live result's key begins like this.
 *
 * @throws DatabaseError
 */
export async function hasKeyUnder(database: Queryable, prefix: string): Promise<boolean> {
  const [row] = await database.query<{ there: boolean }>(
    `select starts_with(l.key, $1) as there
    from (
      select r.key::text collate "C" as key
      from retention.result r
      where r.cleared_at is null
        and r.key collate "C" >= $1
      order by r.key collate "C"
      limit 1
    ) l`,
    [prefix],
  );
  return row?.there ?? false;
}

/** A job of pg_cron that ticks for a database. */
export interface CronJob {
  readonly jobId: number;
  readonly name: string;
  readonly active: boolean;
  readonly schedule: string;
  readonly owner: string;
}

/** What pg_cron knows. */
export interface CronFacts {
  /** The database it lives in; null: the server does not load it, or this role may not see. */
  readonly home: string | null;
  /** Whether this role may see pg_cron's settings; without that, where it is loaded is not known. */
  readonly maySeeSettings: boolean;
  readonly extension: string | null;
  /** Whether this role may look. */
  readonly mayLook: boolean;
  readonly usesWorkers: boolean;
  readonly jobs: readonly CronJob[];
  /** The newest runs of the first job, newest first. */
  readonly runs: readonly { readonly status: string; readonly message: string | null }[];
}

/**
 * What pg_cron of the connected database knows of the job that ticks for another or the same.
 *
 * @param ticked the database that is ticked for.
 * @throws DatabaseError
 */
export async function readCron(database: Queryable, ticked: string): Promise<CronFacts> {
  const [base] = await database.query<Omit<CronFacts, 'jobs' | 'runs'>>(
    // pg_cron's settings are for superusers: current_setting() raises where this view shows nothing.
    `with settings as (
      select name, setting from pg_settings where name like 'cron.%'
    ), may as (
      select pg_has_role('pg_read_all_settings', 'usage') as see
    ), extension as (
      select extversion from pg_extension where extname = 'pg_cron'
    )
    select coalesce(
        (select setting from settings where name = 'cron.database_name'),
        (select current_database() from extension, may where not see)
      ) as home,
      (select see from may) as "maySeeSettings",
      (select extversion from extension) as extension,
      coalesce(has_schema_privilege(to_regnamespace('cron')::oid, 'usage'), false)
        and coalesce(has_table_privilege(to_regclass('cron.job')::oid, 'select'), false) as "mayLook",
      coalesce(
        (select setting = 'on' from settings where name = 'cron.use_background_workers'), false
      ) as "usesWorkers"`,
  );
  if (base === undefined) throw new Error('pg_cron could not be looked at');
  if (base.extension === null || !base.mayLook) return { ...base, jobs: [], runs: [] };
  const jobs = await database.query<CronJob>(
    `select jobid as "jobId", coalesce(jobname, command) as name, active, schedule, username as owner
    from cron.job
    where database = $1
      and command like '%retention.tick()%'
    order by active desc, jobid`,
    [ticked],
  );
  const [first] = jobs;
  if (first === undefined) return { ...base, jobs, runs: [] };
  const runs = await database.query<{ status: string; message: string | null }>(
    `select status, return_message as message
    from cron.job_run_details
    where jobid = $1
    order by runid desc
    limit 5`,
    [first.jobId],
  );
  return { ...base, jobs, runs };
}

/** The functions of this file, bound to a database. */
export interface Diagnosis {
  readSession(): Promise<SessionFacts>;
  readRights(): Promise<RightsFacts>;
  readTable(): Promise<TableFacts>;
  readHealth(): Promise<HealthFacts>;
  readGate(): Promise<readonly GateReason[]>;
  readUndated(): Promise<UndatedFacts>;
  readBuckets(): Promise<readonly KnownBucket[]>;
  noteBucket(bucket: string, versioning: 'off' | 'enabled' | 'suspended'): Promise<void>;
  sampleKey(bucket: string): Promise<string | undefined>;
  hasKeyUnder(prefix: string): Promise<boolean>;
  readCron(ticked: string): Promise<CronFacts>;
}

/** Binds the functions of this file to a database. */
export function createDiagnosis(database: Queryable): Diagnosis {
  return {
    readSession: () => readSession(database),
    readRights: () => readRights(database),
    readTable: () => readTable(database),
    readHealth: () => readHealth(database),
    readGate: () => readGate(database),
    readUndated: () => readUndated(database),
    readBuckets: () => readBuckets(database),
    noteBucket: (bucket, versioning) => noteBucket(database, bucket, versioning),
    sampleKey: (bucket) => sampleKey(database, bucket),
    hasKeyUnder: (prefix) => hasKeyUnder(database, prefix),
    readCron: (ticked) => readCron(database, ticked),
  };
}
