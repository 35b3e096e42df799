-- Up Migration

-- Schedules the one job, or leaves the one that is there. p_job_database: where retention lives, for
-- a pg_cron that lives elsewhere (then this runs over there, as text). Runs as whoever migrates.
-- Returns the job's owner.
create function retention.schedule_tick()
returns text
language plpgsql
as $$
declare
  v_owner text;
begin
  if (select scheduler from retention.adapter) <> 'pg_cron'
    or (select cron_database from retention.adapter) is not null
  then
    return null;
  end if;
  -- A role sees its own jobs only, and names are unique by role: what was scheduled is written down.
  select cron_job_owner into v_owner from retention.adapter for update;
  if v_owner is not null and v_owner <> current_user then
    return v_owner;
  end if;
  perform cron.schedule('retention-tick', '* * * * *', 'select retention.tick()');
  update retention.adapter set cron_job_owner = current_user;
  return current_user;
end
$$;

-- Removes the job. Raises nothing when there is none.
create function retention.unschedule_tick()
returns void
language plpgsql
as $$
begin
  if (select cron_job_owner from retention.adapter) is null
    or (select cron_database from retention.adapter) is not null
    or to_regclass('cron.job') is null
  then
    return;
  end if;
  if exists (select from cron.job where jobname = 'retention-tick') then
    perform cron.unschedule('retention-tick');
  end if;
  update retention.adapter set cron_job_owner = null;
end
$$;

-- Down Migration

drop function retention.unschedule_tick(), retention.schedule_tick();
