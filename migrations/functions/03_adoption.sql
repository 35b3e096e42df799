/*
Adoption: the only place that knows the application's table. What is here runs as the role that
migrates, is granted to no other role, and names no type of
the adopted table, for 0002_adopt runs it before those are known.
*/

-- Stops the migration before anything is done when the scheduler cannot be had.
-- p_scheduler: 'pg_cron' or 'internal'; p_elsewhere: pg_cron lives in another database.
-- Raises object_not_in_prerequisite_state with what to install or set.
create or replace function retention._check_scheduler(p_scheduler text, p_elsewhere boolean)
returns void
language plpgsql
as $$
declare
  v_home text;
begin
  if p_scheduler not in ('pg_cron', 'internal') then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('RETENTION_SCHEDULER must be pg_cron or internal, given: %s', p_scheduler);
  end if;
  if p_scheduler = 'internal' or p_elsewhere then
    return;
  end if;
  if not exists (select from pg_available_extensions where name = 'pg_cron') then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'RETENTION_SCHEDULER is pg_cron, but this server does not have pg_cron installed',
      hint = format(
        'Install it (Debian: apt-get install postgresql-%s-cron), set shared_preload_libraries = ''pg_cron'' and cron.database_name = ''%s'', and restart; or set RETENTION_SCHEDULER=internal.',
        current_setting('server_version_num')::integer / 10000, current_database()
      );
  end if;
  -- Where the extension is created, pg_cron lives here, and the setting need not be readable.
  if exists (select from pg_extension where extname = 'pg_cron') then
    v_home := current_database();
  else
    begin
      v_home := current_setting('cron.database_name', true);
    exception
      when insufficient_privilege then
        v_home := current_database();
    end;
  end if;
  if v_home is null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'RETENTION_SCHEDULER is pg_cron, but pg_cron is not loaded by this server',
      hint = format(
        'Set shared_preload_libraries = ''pg_cron'' and cron.database_name = ''%s'', and restart; or set RETENTION_SCHEDULER=internal.',
        current_database()
      );
  end if;
  if v_home <> current_database() then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('pg_cron lives in database %s of this server, not in %s', v_home, current_database()),
      hint = format(
        'Set CRON_DATABASE_URL to database %s, and the job is scheduled across; or set cron.database_name = ''%s'' and restart; or set RETENTION_SCHEDULER=internal.',
        v_home, current_database()
      );
  end if;
  if not exists (select from pg_extension where extname = 'pg_cron') then
    if not (select rolsuper from pg_roles where rolname = current_user) then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = format('the extension pg_cron is not created in database %s, and role %s may not create it', current_database(), current_user),
        hint = format(
          'As a superuser: create extension pg_cron; grant usage on schema cron to %I; or set RETENTION_SCHEDULER=internal.',
          current_user
        );
    end if;
    create extension pg_cron;
  end if;
  if not has_schema_privilege('cron', 'usage') then
    raise exception using
      errcode = 'insufficient_privilege',
      message = format('role %s may not use pg_cron', current_user),
      hint = format('As a superuser: grant usage on schema cron to %I; or set RETENTION_SCHEDULER=internal.', current_user);
  end if;
end
$$;

-- Stops the migration before anything is done when the role that is to get rights does not exist.
-- Raises undefined_object.
create or replace function retention._check_role(p_role text)
returns void
language plpgsql
as $$
begin
  if p_role <> '' and not exists (select from pg_roles where rolname = p_role) then
    raise exception using
      errcode = 'undefined_object',
      message = format('RETENTION_ROLE names the role %s, which does not exist', p_role),
      hint = format('create role %I login; then migrate up again.', p_role);
  end if;
end
$$;

-- Gives the domain p_domain (run_id, tenant_id) the type p_type, with what is kept in columns of it. Views and
-- functions that name it are dropped: they are installed again after every adoption. Locks the tables of this
-- schema that have such a column. Raises what the casts raise where kept ids do not fit the new type.
create or replace function retention._retype(p_domain text, p_type text)
returns void
language plpgsql
as $$
declare
  v_column record;
  v_function text;
begin
  perform retention._drop_views();
  for v_function in
    select p.oid::regprocedure::text
    from pg_proc p
    where p.pronamespace = 'retention'::regnamespace
      and exists (
        select
        from pg_type t
        where t.typnamespace = p.pronamespace
          and t.typname in (p_domain, '_' || p_domain)
          and t.oid = any (p.prorettype || p.proargtypes::oid[] || coalesce(p.proallargtypes, '{}'))
      )
  loop
    execute format('drop function %s', v_function);
  end loop;
  execute format('create domain retention.%I as %s', 'new_' || p_domain, p_type);
  for v_column in
    select c.oid::regclass::text as relation,
      a.attname as name,
      t.typcategory = 'A' as is_array,
      case a.attstorage when 'e' then 'external' end as storage
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid and c.relkind = 'r' and c.relnamespace = 'retention'::regnamespace
    join pg_type t on t.oid = a.atttypid
    join pg_type d on d.oid in (t.oid, t.typelem)
    where d.typnamespace = 'retention'::regnamespace
      and d.typname = p_domain
      and not a.attisdropped
  loop
    execute format(
      'alter table %s alter column %I type retention.%I%s using %I::text%s::retention.%I%s',
      v_column.relation,
      v_column.name,
      'new_' || p_domain,
      case when v_column.is_array then '[]' else '' end,
      v_column.name,
      case when v_column.is_array then '[]' else '' end,
      'new_' || p_domain,
      case when v_column.is_array then '[]' else '' end
    );
    -- A new type brings its own storage.
    if v_column.storage is not null then
      execute format(
        'alter table %s alter column %I set storage %s', v_column.relation, v_column.name, v_column.storage
      );
    end if;
  end loop;
  execute format('drop domain retention.%I', p_domain);
  execute format('alter domain retention.%I rename to %I', 'new_' || p_domain, p_domain);
end
$$;

-- Adopts the application's table, or adopts again: after it was swapped or renamed, after the type of a
-- mapped column was altered, after the mapping has changed. Holds, policies and batches stay. Returns true
-- when something has changed. Raises what _find_columns raises.
create or replace function retention._adopt(p_table text, p_columns text, p_scheduler text)
returns boolean
language plpgsql
as $$
declare
  v_adapter retention.adapter;
  v_columns jsonb;
  v_table regclass;
  v_name text;
  v_domain record;
  v_type text;
  v_changed boolean := false;
begin
  select * into v_adapter from retention.adapter;
  if v_adapter.table_name is not null
    and to_regclass(p_table) is null
    and exists (select from pg_class c where c.oid = v_adapter.table_oid)
  then
    raise exception using
      errcode = 'undefined_table',
      message = format('the application''s table %s was not found; the table that was adopted is called %s now', p_table, v_adapter.table_oid::regclass),
      hint = format('Set RETENTION_TABLE=%s and migrate up again.', v_adapter.table_oid::regclass);
  end if;
  v_columns := retention._find_columns(p_table, p_columns);
  v_table := to_regclass(p_table);
  if v_adapter.table_oid <> v_table
    and v_adapter.detached_at is null
    and to_regclass(v_adapter.table_name)::oid = v_adapter.table_oid
  then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('RETENTION_TABLE names %s, but %s was adopted and is still there', v_table, v_adapter.table_name),
      hint = 'To work on the other table from now on: select retention.detach(); then migrate up again. Otherwise set RETENTION_TABLE back.';
  end if;
  select format('%I.%I', n.nspname, c.relname)
  into v_name
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where c.oid = v_table;

  for v_domain in
    select d.name,
      coalesce(v_columns -> d.name ->> 'type', 'text') as type,
      v_columns -> d.name ->> 'collation' as collation
    from (values ('run_id'), ('tenant_id')) d (name)
  loop
    select format_type(t.typbasetype, t.typtypmod)
      || case when t.typcollation <> b.typcollation then ' ' || t.typcollation::regcollation::text else '' end
    into v_type
    from pg_type t
    join pg_type b on b.oid = t.typbasetype
    where t.oid = format('retention.%I', v_domain.name)::regtype;
    if v_type <> v_domain.type || coalesce(' ' || v_domain.collation, '') then
      perform retention._retype(v_domain.name, v_domain.type || coalesce(' collate ' || v_domain.collation, ''));
      v_changed := true;
    end if;
  end loop;

  if v_adapter.table_name is null then
    insert into retention.adapter (table_name, table_oid, columns, added_cleared_at, scheduler)
    values (v_name, v_table, v_columns, v_columns -> 'cleared_at' ->> 'type' is null, p_scheduler);
    return true;
  end if;
  if v_changed
    or v_adapter.table_name <> v_name
    or v_adapter.table_oid <> v_table
    or v_adapter.columns - 'cleared_at' <> v_columns - 'cleared_at'
    or v_adapter.columns -> 'cleared_at' ->> 'name' <> v_columns -> 'cleared_at' ->> 'name'
    or v_columns -> 'cleared_at' ->> 'type' is null
  then
    -- What was seen of another table says nothing of this one.
    delete from retention.progress;
    delete from retention.shared_object;
    perform retention._drop_views();
    v_changed := true;
  end if;
  update retention.adapter
  set table_name = v_name,
    table_oid = v_table,
    columns = v_columns,
    added_cleared_at = v_adapter.added_cleared_at or v_columns -> 'cleared_at' ->> 'type' is null,
    scheduler = p_scheduler;
  return v_changed;
end
$$;

-- Our two partial indexes over what is not yet cleared: one in the order in which results fall due, one for
-- the check that no other run needs the object. Ours are known by their comment, which holds what they are
-- over; a name that another index has taken gets the table's number behind it.
create or replace function retention._index_plan()
returns table (purpose text, name text, columns text, mark text, is_there boolean)
language sql
stable
as $$
  with named as (
    select a.table_oid,
      quote_ident(a.columns -> 'tenant_id' ->> 'name') as tenant_id,
      quote_ident(a.columns -> 'status' ->> 'name') as status,
      a.columns -> 'status' ->> 'completed' as completed,
      retention._instant(a.columns -> 'completed_at') as completed_at,
      quote_ident(a.columns -> 'run_id' ->> 'name') as run_id,
      quote_ident(a.columns -> 'key' ->> 'name') as key,
      quote_ident(a.columns -> 'cleared_at' ->> 'name') as cleared_at
    from retention.adapter a
  ),
  wanted as (
    select n.table_oid,
      'retention_live' as purpose,
      format(
        '(%s) where %s is null%s and %s is not null',
        concat_ws(', ', n.tenant_id, n.completed_at, n.run_id),
        n.cleared_at,
        case when n.status is null then '' else format(' and %s = %L', n.status, n.completed) end,
        n.key
      ) as columns
    from named n
    union all
    select n.table_oid,
      'retention_key',
      format('(%s collate "C") where %s is null', n.key, n.cleared_at)
    from named n
  )
  select w.purpose,
    case
      when exists (
        select
        from pg_class o
        join pg_class t on t.oid = w.table_oid
        left join pg_index i on i.indexrelid = o.oid
        where o.relname = w.purpose
          and o.relnamespace = t.relnamespace
          and (
            i.indrelid is distinct from w.table_oid
            or i.indisvalid
            and obj_description(o.oid, 'pg_class') is distinct from 'retention-reactor: ' || w.columns
          )
      )
      then w.purpose || '_' || w.table_oid
      else w.purpose
    end,
    w.columns,
    'retention-reactor: ' || w.columns,
    exists (
      select
      from pg_index i
      where i.indrelid = w.table_oid
        and i.indisvalid
        and obj_description(i.indexrelid, 'pg_class') = 'retention-reactor: ' || w.columns
    )
  from wanted w
$$;

-- The names of our indexes on the adopted table; p_stale: only those that the mapping no longer asks for.
create or replace function retention._our_indexes(p_stale boolean default false)
returns setof text
language sql
stable
as $$
  select format('%I.%I', n.nspname, c.relname)
  from retention.adapter a
  join pg_index i on i.indrelid = a.table_oid
  join pg_class c on c.oid = i.indexrelid
  join pg_namespace n on n.oid = c.relnamespace
  where obj_description(c.oid, 'pg_class') like 'retention-reactor: %'
    and (
      not p_stale
      or not exists (
        select
        from retention._index_plan() p
        where p.mark = obj_description(c.oid, 'pg_class')
      )
    )
$$;

-- Takes away every view of this schema; the triggers stay, they are on tables.
create or replace function retention._drop_views()
returns void
language plpgsql
as $$
declare
  v_views text := (
    select string_agg(c.oid::regclass::text, ', ')
    from pg_class c
    where c.relnamespace = 'retention'::regnamespace
      and c.relkind = 'v'
  );
begin
  if v_views is not null then
    execute 'drop view ' || v_views;
  end if;
end
$$;
