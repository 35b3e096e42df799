import type { MigratedDatabase } from './migrated.ts';

/** A surge as the database lists it. */
export interface SurgeRow extends Record<string, unknown> {
  readonly surge_id: number;
  readonly state: string;
  readonly results: number;
  readonly found: number;
  readonly released: number;
}

/** What tests of late results do with a database all the time. */
export interface SurgeTools {
  /** Inserts completed runs with their objects, by one statement. */
  readonly fill: (rows: {
    readonly count: number;
    /** How many tenants share them, named `t1` and so on. Default: 1. */
    readonly tenants?: number;
    /** When they completed: spread evenly from `from` to `to`, as intervals before now. */
    readonly from: string;
    readonly to?: string;
  }) => Promise<void>;
  /** Passes until a walk over all results is complete, and returns how many results were flagged. */
  readonly walk: () => Promise<number>;
  /** Lets time pass: everything that has happened lies that much further back. */
  readonly pass: (interval: string) => Promise<void>;
  /** Clears everything that is flagged, without a store. */
  readonly clearFlagged: () => Promise<number>;
  readonly open: () => Promise<readonly SurgeRow[]>;
  readonly setAside: () => Promise<number>;
  readonly flagged: () => Promise<number>;
}

/** Makes {@link SurgeTools} for the database of a test file. */
export function surgeTools(database: () => MigratedDatabase): SurgeTools {
  const sum = async (sql: string): Promise<number> =>
    (await database().one<{ sum: number }>(`select coalesce((${sql}), 0)::int as sum`)).sum;
  const tools: SurgeTools = {
    fill: async ({ count, tenants = 1, from, to = from }) => {
      await database().query(
        `insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key, created_at, updated_at)
        select i.id, 't' || (1 + i.n % $2), 'COMPLETED',
          now() - $3::interval + ($3::interval - $4::interval) * (i.n::float8 / $1), 'dpp-results', 'results/' || i.id, now(), now()
        from (select gen_random_uuid() as id, n from generate_series(0, $1 - 1) n) i`,
        [count, tenants, from, to],
      );
    },
    walk: async () => {
      let flagged = 0;
      for (let whole = true; ; whole = false) {
        const pass = await database().one<{ flagged: number }>(
          'select retention.flag_expired(null, $1, $2) as flagged',
          ['test', whole],
        );
        flagged += pass.flagged;
        const { more } = await database().one<{ more: boolean }>(
          'select more from retention.heartbeat',
        );
        if (!more) return flagged;
      }
    },
    pass: async (interval) => {
      await database().query(SHIFT.replaceAll('$1', `'${interval}'`));
    },
    clearFlagged: async () => {
      const [row] = await database().query<{ cleared: number }>(CLEAR_FLAGGED);
      return row?.cleared ?? 0;
    },
    open: () =>
      database().query<SurgeRow>(
        `select surge_id::int, state, results::int, found::int, released::int from retention.list_surges()`,
      ),
    setAside: () => sum('select sum(results) from retention.surge_part'),
    flagged: () => sum('select sum(results) from retention.batch where settled_at is null'),
  };
  return tools;
}

/** Every point in time that the schema and the application have written lies further back. */
const SHIFT = `
do $do$
declare
  v_table record;
begin
  -- What is sealed stays as it is, unless its triggers are off.
  perform set_config('session_replication_role', 'replica', true);
  for v_table in
    select c.oid::regclass as name,
      string_agg(format('%1$I = %1$I - interval %2$L', a.attname, $1), ', ') as changes
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relkind = 'r'
      and (c.relnamespace = 'retention'::regnamespace or c.oid = 'public.runs'::regclass)
      and a.atttypid in ('timestamptz'::regtype, 'timestamp'::regtype)
    group by c.oid
  loop
    execute format('update %s set %s', v_table.name, v_table.changes);
  end loop;
end
$do$`;

/** As a listener does it, without asking a store; what is no longer due is spared. */
const CLEAR_FLAGGED = `
with gone as (
  update runs r
  set result_cleared_at = now()
  from retention.flagged f
  where r.run_id::text = f.run_id::text
    and exists (
      select
      from retention._live l
      where l.run_id = f.run_id and l.key = f.key and l.bucket = f.bucket and l.is_due
    )
  returning 1
),
settled as (
  update retention.batch set settled_at = now(), cleared = results where settled_at is null
)
select count(*)::int as cleared from gone`;
