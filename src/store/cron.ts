import type { Queryable } from '../database/queryable.ts';

/** A job of pg_cron that ticks for a database. */
export interface TickJob {
  readonly job_id: number;
  readonly name: string;
  readonly active: boolean;
  readonly schedule: string;
  readonly owner: string;
  /** The newest runs, newest first. */
  readonly last_runs: readonly { readonly status: string; readonly message: string | null }[];
}

/** What pg_cron knows. */
export interface CronFacts {
  /** The database it lives in; null: the server does not load it, or this role may not see. */
  readonly home: string | null;
  /** Whether this role may see pg_cron's settings; without that, where it is loaded is not known. */
  readonly may_see_settings: boolean;
  readonly extension: string | null;
  /** Whether this role may look. */
  readonly may_look: boolean;
  readonly uses_workers: boolean;
  readonly jobs: readonly TickJob[];
}

type CronState = Omit<CronFacts, 'jobs'>;

/**
 * `retention.cron_state` and `retention.tick_jobs`: what pg_cron of the connected database knows of
 * the job that ticks for it.
 *
 * @throws DatabaseError
 */
export async function readCron(database: Queryable): Promise<CronFacts> {
  const [state] = await database.query<CronState>('select * from retention.cron_state()');
  if (state === undefined) throw new Error('pg_cron could not be read');
  const jobs = await database.query<TickJob>('select * from retention.tick_jobs()');
  return { ...state, jobs };
}

/**
 * The same of a pg_cron in another database.
 *
 * @param ticked the database that is ticked for.
 * @throws DatabaseError
 */
export async function readCronElsewhere(database: Queryable, ticked: string): Promise<CronFacts> {
  // As retention.cron_state and retention.tick_jobs, which are not there: that database has no schema
  // retention.
  const [state] = await database.query<CronState>(
    `select coalesce(
        c.database_name,
        case when not m.may_see_settings and e.extversion is not null then current_database() end
      ) as home,
      m.may_see_settings,
      e.extversion as extension,
      case
        -- to_regclass() raises where the role may not use the schema.
        when has_schema_privilege(to_regnamespace('cron')::oid, 'usage')
        then coalesce(has_table_privilege(to_regclass('cron.job')::oid, 'select'), false)
          and coalesce(has_table_privilege(to_regclass('cron.job_run_details')::oid, 'select'), false)
        else false
      end as may_look,
      coalesce(c.uses_workers, false) as uses_workers
    from (
      select max(setting) filter (where name = 'cron.database_name') as database_name,
        bool_or(setting = 'on') filter (where name = 'cron.use_background_workers') as uses_workers
      from pg_settings
      where name like 'cron.%'
    ) c
    cross join (select pg_has_role('pg_read_all_settings', 'usage') as may_see_settings) m
    left join pg_extension e on e.extname = 'pg_cron'`,
  );
  if (state === undefined) throw new Error('pg_cron could not be read');
  if (!state.may_look) return { ...state, jobs: [] };
  const jobs = await database.query<TickJob>(
    `select j.jobid as job_id, coalesce(j.jobname, j.command) as name, j.active, j.schedule,
      j.username as owner,
      (
        select coalesce(
          jsonb_agg(jsonb_build_object('status', d.status, 'message', d.return_message) order by d.runid desc),
          '[]'
        )
        from (
          select r.runid, r.status, r.return_message
          from cron.job_run_details r
          where r.jobid = j.jobid
          order by r.runid desc
          limit 5
        ) d
      ) as last_runs
    from cron.job j
    where j.database = $1
      and j.command like '%retention.tick()%'
    order by j.active desc, j.jobid`,
    [ticked],
  );
  return { ...state, jobs };
}
