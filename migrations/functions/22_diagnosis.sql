/*
Diagnosis: what `retention doctor` asks, and what a person in psql can ask as well. Nothing here changes anything.

What may be asked about a role or about pg_cron runs with the rights of its caller where those rights are the
answer, and with the owner's where they are not.
*/

-- What p_role lacks of the SQL interface, in the words of GRANT, and who can grant it; no row: nothing. p_kind: as
-- what it is judged (operator, listener, observer or reader); by default as what it was recorded, and else as a
-- listener. Reads catalogs.
-- For observers.
-- Raises undefined_object for a role that is not there.
create or replace function retention.missing_rights(p_role text default current_user, p_kind text default null)
returns table (missing text, granted_by text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select m.missing, pg_get_userbyid(s.nspowner)
  from pg_namespace s
  cross join lateral (
    select 0 as place, 'usage on schema retention' as missing
    where not has_schema_privilege(p_role, s.oid, 'usage')
    union all
    select 1, format('%s on %s', i.privilege, i.name)
    from retention._interface() i
    where retention._serves(
        coalesce(p_kind, (select r.kind from retention._recorded_roles() r where r.role = p_role), 'listener'),
        i.least_role
      )
      and case i.kind
        when 'function' then not has_function_privilege(p_role, i.oid, 'execute')
        else not has_table_privilege(p_role, i.oid, 'select')
      end
  ) m
  where s.nspname = 'retention'
  order by m.place, m.missing
$$;

-- The adopted table: who owns it and the view over it, its row-level security (off, on or forced), whether its
-- policies are asked when the view's owner reads it (is_filtered), and how many of them let the view's owner see
-- rows. No row while it is detached or gone. Reads catalogs. For observers.
create or replace function retention.adopted_table()
returns table (
  table_name text,
  table_owner text,
  view_owner text,
  row_security text,
  is_filtered boolean,
  policies bigint
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select a.table_name,
    pg_get_userbyid(c.relowner),
    pg_get_userbyid(v.relowner),
    case
      when not c.relrowsecurity then 'off'
      when c.relforcerowsecurity then 'forced'
      else 'on'
    end,
    retention._hides_rows(c.oid, v.relowner),
    (
      select count(*)
      from pg_policy p
      where p.polrelid = c.oid
        and p.polpermissive
        and exists (
          select
          from unnest(p.polroles) as r (role)
          where r.role = 0
            or pg_has_role(v.relowner, r.role, 'usage')
        )
    )
  from retention.adapter a
  join pg_class c on c.oid = a.table_oid
  join pg_class v on v.oid = to_regclass('retention.result')
$$;

-- What is odd or missing about the adopted table by now, each with the statement that helps, as `retention init` and
-- `migrate up` say it before it is adopted. state: ok, warning or failed. No row while it is detached or gone. It
-- looks at catalogs and at 10,000 rows. For observers.
create or replace function retention.adoption_report()
returns table (name text, state text, found text, remedy text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
  select r.*
  from retention.adapter a
  join pg_class v on v.oid = to_regclass('retention.result')
  cross join lateral (
    select c.* from retention._report_catalog(a.table_oid, a.columns, v.relowner) c
    union all
    select s.* from retention._report_rows(a.table_oid, a.columns) s
  ) r
  where to_regclass(a.table_name)::oid = a.table_oid
$$;

-- One row of what the tables of the schema say of the reactor's health. naive_columns: mapped dates without a
-- time zone, as `completed_at (timestamp without time zone)`. default_bucket: of results whose row names none.
-- installed_seconds_ago: since the functions were installed. Cheap at any size. For observers.
create or replace function retention.health()
returns table (
  enabled boolean,
  scheduler text,
  cron_database text,
  ticked_seconds_ago double precision,
  ticked_by text,
  installed_seconds_ago double precision,
  loop_interval_seconds double precision,
  naive_columns text[],
  default_bucket text,
  notify_queue_usage double precision,
  default_retain_days double precision,
  shortest_retain_days double precision,
  longest_retain_days double precision,
  tenant_policies bigint,
  pending_policies text[],
  holds bigint,
  etag_column text
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select s.enabled,
    a.scheduler,
    a.cron_database,
    extract(epoch from clock_timestamp() - h.ticked_at)::double precision,
    h.ticked_by,
    extract(epoch from clock_timestamp() - i.at)::double precision,
    extract(epoch from s.loop_interval)::double precision,
    array(
      select format('%s (%s)', c.value ->> 'name', c.value ->> 'type')
      from jsonb_each(a.columns) c
      where c.value ->> 'type' ~ 'without time zone|^date$'
        and c.key in ('completed_at', 'retain_until', 'cleared_at', 'updated_at')
      order by c.key
    ),
    coalesce(a.columns -> 'bucket' ->> 'fixed', s.default_bucket),
    pg_notification_queue_usage(),
    p.default_retain_days,
    p.shortest_retain_days,
    p.longest_retain_days,
    p.tenant_policies,
    p.pending_policies,
    (
      select count(*)
      from retention.hold o
      where retention._hold_end(o.released_at, o.expires_at) > now()
    ),
    a.columns -> 'etag' ->> 'name'
  from retention.setting s
  cross join retention.adapter a
  cross join retention.heartbeat h
  cross join retention.installed i
  cross join (
    select (max(extract(epoch from retain)) filter (where tenant_id = '*') / 86400)::double precision
        as default_retain_days,
      (min(extract(epoch from retain)) / 86400)::double precision as shortest_retain_days,
      (max(extract(epoch from retain)) / 86400)::double precision as longest_retain_days,
      count(*) filter (where tenant_id <> '*') as tenant_policies,
      coalesce(
        array_agg(
          format(
            'tenant %s: %s instead of %s would make %s due at once',
            tenant_id, pending_retain, retain, retention._counted(pending_results, 'result')
          )
          order by tenant_id
        ) filter (where pending_retain is not null),
        '{}'
      ) as pending_policies
    from retention.policy
  ) p
$$;

-- How many results are dead, by code, most first. Reads dead batches by their index. For observers.
create or replace function retention.dead_by_code()
returns table (code text, results bigint)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
  select coalesce(b.code, 'unknown'), sum(b.results)::bigint
  from retention.batch b
  where b.dead_at is not null
    and b.settled_at is null
  group by 1
  order by 2 desc, 1
$$;

-- Runs that are completed and have an object, but no date, and so never fall due: how many, counted up to
-- p_bound, and three of them. One index probe per tenant, and at most p_bound rows. For observers.
create or replace function retention.undated(p_bound integer default 1000)
returns table (results bigint, run_ids text[])
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set max_parallel_workers_per_gather = 0
set jit = off
as $$
#variable_conflict use_column
begin
  if not retention._can_look() then
    return query select 0::bigint, '{}'::text[];
    return;
  end if;
  return query
  with undated as (
    select r.run_id::text as run_id
    from retention._tenant_ids() as t (tenant_id)
    cross join lateral (
      select x.run_id
      from retention._live x
      where x.tenant_id = t.tenant_id
        and x.is_candidate
        and x.completed_at is null
      limit p_bound
    ) r
    union all
    (
      select x.run_id::text
      from retention._live x
      where x.tenant_id is null
        and x.is_candidate
        and x.completed_at is null
      limit p_bound
    )
    limit p_bound
  )
  select count(*), coalesce((array_agg(u.run_id order by u.run_id))[1:3], '{}')
  from undated u;
end
$$;

-- The keys of some live results in a bucket, at most p_limit, looked for among a thousand. For observers.
create or replace function retention.sample_keys(p_bucket text, p_limit integer default 20)
returns setof text
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
  if to_regclass('retention._live') is null then
    return;
  end if;
  return query
  select l.key::text
  from (
    select r.bucket, r.key
    from retention._live r
    where r.key is not null
    limit 1000
  ) l
  where l.bucket = p_bucket
    and l.key <> ''
  limit p_limit;
end
$$;

-- Whether some live result's key begins with p_prefix. Looked for in all of a small table, and else in 5,000 pages that
-- are spread over it: false says then that it is none of many. For observers.
create or replace function retention.has_key_under(p_prefix text)
returns boolean
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_is_there boolean;
begin
  if not retention._can_look() then
    return false;
  end if;
  execute (
    select format(
      'select exists (select from %s tablesample system (%s) where %I is null and starts_with(%I, $1))',
      a.table_oid::regclass,
      least(100, 100 * 5000 / greatest(sum(pg_relation_size(coalesce(t.relid, a.table_oid))) / current_setting('block_size')::integer, 1)),
      a.columns -> 'cleared_at' ->> 'name',
      a.columns -> 'key' ->> 'name'
    )
    from retention.adapter a
    left join lateral pg_partition_tree(a.table_oid) t on true
    group by a.table_oid, a.columns
  )
  into v_is_there
  using p_prefix;
  return v_is_there;
end
$$;

-- What this role may know of pg_cron in this database, one row. home: the database it lives in; null: the server
-- does not load it, or may_see_settings is false, and then that is not known. extension: its version; null: it is
-- not there. may_look: whether this role may read its jobs. It reads catalogs with the rights of its caller.
-- For observers.
create or replace function retention.cron_state()
returns table (
  home text,
  may_see_settings boolean,
  extension text,
  may_look boolean,
  uses_workers boolean
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
      c.database_name,
      case when not m.may_see_settings and e.extversion is not null then current_database() end
    ),
    m.may_see_settings,
    e.extversion,
    case
      -- to_regclass() raises where the role may not use the schema.
      when has_schema_privilege(to_regnamespace('cron')::oid, 'usage')
      then coalesce(has_table_privilege(to_regclass('cron.job')::oid, 'select'), false)
        and coalesce(has_table_privilege(to_regclass('cron.job_run_details')::oid, 'select'), false)
      else false
    end,
    coalesce(c.uses_workers, false)
  -- Its settings are for superusers: current_setting() raises where this view shows nothing.
  from (
    select max(setting) filter (where name = 'cron.database_name') as database_name,
      bool_or(setting = 'on') filter (where name = 'cron.use_background_workers') as uses_workers
    from pg_settings
    where name like 'cron.%'
  ) c
  cross join (select pg_has_role('pg_read_all_settings', 'usage') as may_see_settings) m
  left join pg_extension e on e.extname = 'pg_cron'
$$;

-- The jobs of pg_cron in this database that tick for p_database (default: this one), as far as this role sees
-- them, active ones first; last_runs: the newest five runs, newest first. No row where pg_cron is not there or
-- this role may not look. It reads with the rights of its caller.
-- For observers.
create or replace function retention.tick_jobs(p_database text default current_database())
returns table (
  job_id bigint,
  name text,
  active boolean,
  schedule text,
  owner text,
  last_runs jsonb
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if not (select c.may_look from retention.cron_state() c) then
    return;
  end if;
  return query
  select j.jobid,
    coalesce(j.jobname::text, j.command),
    j.active,
    j.schedule,
    j.username,
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
    )
  from cron.job j
  where j.database = p_database
    and j.command like '%retention.tick()%'
  order by j.active desc, j.jobid;
end
$$;
