/*
The one job of pg_cron.
*/

-- Schedules the one job, or leaves the one that is there. p_job_database: where retention lives, for
-- a pg_cron that lives elsewhere (then this runs over there, as text). Runs as the role that migrates.
-- Returns the job's owner.
create or replace function retention._schedule_tick()
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
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
  select j.username
  into v_owner
  from cron.job j
  where j.jobname = 'retention-tick'
    and j.database = current_database()
    and j.username <> current_user
  limit 1;
  if found then
    update retention.adapter set cron_job_owner = v_owner;
    return v_owner;
  end if;
  perform cron.schedule('retention-tick', '* * * * *', 'select retention.tick()');
  update retention.adapter set cron_job_owner = current_user;
  return current_user;
end
$$;

-- Removes the job of every role that we may act for. Raises nothing when there is none;
-- insufficient_privilege when it is another role's, whose jobs we do not see.
create or replace function retention._unschedule_tick()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_owner text := (select cron_job_owner from retention.adapter);
begin
  if v_owner is null
    or (select cron_database from retention.adapter) is not null
    or to_regclass('cron.job') is null
  then
    return;
  end if;
  -- By its number: by its name, pg_cron finds the jobs of the calling role only.
  perform cron.unschedule(j.jobid)
  from cron.job j
  where j.jobname = 'retention-tick'
    and j.database = current_database();
  if not found
    and v_owner <> current_user
    and exists (select from pg_roles where rolname = v_owner)
    and not (select rolsuper from pg_roles where rolname = current_user)
  then
    raise exception using
      errcode = 'insufficient_privilege',
      message = format('the job retention-tick belongs to role %s, and role %s cannot remove it', v_owner, current_user),
      hint = format('Migrate down as %s or as a superuser (DATABASE_MIGRATE_URL).', v_owner);
  end if;
  update retention.adapter set cron_job_owner = null;
end
$$;

-- Whether the job should be in this database's pg_cron and is not, as far as this role can see.
create or replace function retention._lacks_job()
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_adapter retention.adapter;
begin
  select * into v_adapter from retention.adapter;
  if v_adapter.scheduler <> 'pg_cron' or v_adapter.cron_database is not null then
    return false;
  end if;
  if v_adapter.cron_job_owner is distinct from current_user::text
    and not (select r.rolsuper from pg_roles r where r.rolname = current_user)
  then
    return v_adapter.cron_job_owner is null;
  end if;
  return not exists (
    select
    from cron.job j
    where j.jobname = 'retention-tick'
      and j.database = current_database()
  );
end
$$;
