import type { MigratedDatabase } from './migrated.ts';

/** What a look at some rows raises, as a broken type, rule or page of the application's table would. */
export interface BrokenRows {
  /** Lets every look at this run's due date raise; null: mends it; KILL: ends the session that looks. */
  readonly breakRun: (runId: string, sqlState: string | null) => Promise<void>;
  /** Lets every look at this run's due date take so many seconds. */
  readonly slowRun: (runId: string, seconds: number) => Promise<void>;
}

/** Puts a function that may raise under what the rules make of a row. Later calls put the view back first. */
export async function withBrokenRows(database: MigratedDatabase): Promise<BrokenRows> {
  const { query } = database;
  await query(`
    create table if not exists public.trouble (run_id text primary key, code text, seconds double precision);
    truncate public.trouble;
    create or replace function public.trouble(p_run_id text) returns boolean language plpgsql stable as $$
    declare
      v_trouble public.trouble;
    begin
      select * into v_trouble from public.trouble t where t.run_id = p_run_id;
      if v_trouble.seconds > 0 then
        perform pg_sleep(v_trouble.seconds);
      end if;
      if v_trouble.code = 'KILL' then
        perform pg_terminate_backend(pg_backend_pid());
      elsif v_trouble.code is not null then
        raise exception using errcode = v_trouble.code, message = 'this row is broken';
      end if;
      return true;
    end $$;
    select retention._make_views();
    do $$
    begin
      execute 'create or replace view retention._live as select '
        || (
          select string_agg(
            case when a.attname in ('is_due', 'due_at')
              then format('case when public.trouble(l.run_id::text) then l.%I end as %I', a.attname, a.attname)
              else format('l.%I', a.attname)
            end, ', ' order by a.attnum)
          from pg_attribute a
          where a.attrelid = 'retention._live'::regclass and a.attnum > 0 and not a.attisdropped
        )
        || ' from (' || rtrim(pg_get_viewdef('retention._live'), '; ') || ') l';
    end $$`);
  return {
    breakRun: async (runId, sqlState) => {
      await query(
        `insert into public.trouble (run_id, code) values ($1, $2)
        on conflict (run_id) do update set code = excluded.code`,
        [runId, sqlState],
      );
    },
    slowRun: async (runId, seconds) => {
      await query('insert into public.trouble (run_id, seconds) values ($1, $2)', [runId, seconds]);
    },
  };
}
