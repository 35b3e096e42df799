/*
Adoption: the only place that knows the application's table. What is here runs as the role that
migrates, is granted to no other role, and names no type of
the adopted table, for 0002_adopt runs it before those are known.
*/

-- Gives the domain p_domain (run_id, tenant_id) the type p_type, with what is kept in columns of it. Views and
-- functions that name it are dropped: they are installed again after every adoption. Locks the tables of this
-- schema that have such a column. Raises object_not_in_prerequisite_state where kept ids do not fit the new type.
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
    begin
      execute format(
        'alter table %1$s alter column %2$I type retention.%3$I%4$s using %2$I::text%4$s::retention.%3$I%4$s',
        v_column.relation,
        v_column.name,
        'new_' || p_domain,
        case when v_column.is_array then '[]' else '' end
      );
    exception
      when data_exception then
        raise exception using
          errcode = 'object_not_in_prerequisite_state',
          message = format('%s keeps ids that are no %s, the type of the mapped column by now (%s)', v_column.relation, p_type, sqlerrm),
          hint = 'Alter the column so that the ids stay what they are, or start again: retention migrate down, then up. That loses holds, policies and receipts.';
    end;
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

-- The type under a domain of this schema, as _find_columns writes it.
create or replace function retention._domain_type(p_domain text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select format_type(t.typbasetype, t.typtypmod)
    || case when t.typcollation <> b.typcollation then ' collate ' || t.typcollation::regcollation::text else '' end
  from pg_type t
  join pg_type b on b.oid = t.typbasetype
  where t.typname = p_domain
    and t.typnamespace = 'retention'::regnamespace
$$;

-- Writes the tenants of policies and holds as the type p_type writes them, after the tenant column has got that
-- type. Where two policies become one, the longer one stays. A policy whose tenant is no such value any more stays
-- as it is, and holds for no run.
-- Raises object_not_in_prerequisite_state where a hold in force is on a tenant that is no such value.
create or replace function retention._respell_tenants(p_type text)
returns void
language plpgsql
as $$
declare
  v_tenant text;
  v_respelled text;
begin
  alter table retention.policy disable trigger user;
  if exists (select from pg_trigger t where t.tgrelid = 'retention.policy'::regclass and t.tgname = 'record_update') then
    alter table retention.policy enable trigger record_change, enable trigger record_update;
  end if;
  for v_tenant in
    select p.tenant_id from retention.policy p where p.tenant_id <> '*'
    union
    select h.tenant_id from retention.hold h where h.tenant_id is not null
  loop
    begin
      execute format('select ($1::%s)::text', p_type) into v_respelled using v_tenant;
    exception
      when data_exception then
        if exists (
          select
          from retention.hold h
          where h.tenant_id = v_tenant
            and coalesce(least(h.released_at, h.expires_at), 'infinity') > now()
        ) then
          raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('a hold is in force on tenant %s, which is no %s, the type of the tenant column by now', v_tenant, p_type),
            hint = 'Halt (retention halt), release that hold, migrate up, place it on the tenant as it is called now, and resume.';
        end if;
        continue;
    end;
    continue when v_respelled = v_tenant;
    update retention.hold set tenant_id = v_respelled where tenant_id = v_tenant;
    delete from retention.policy p
    using retention.policy o
    where p.tenant_id in (v_tenant, v_respelled)
      and o.tenant_id in (v_tenant, v_respelled)
      and (p.retain, p.tenant_id) < (o.retain, o.tenant_id);
    update retention.policy set tenant_id = v_respelled where tenant_id = v_tenant;
  end loop;
  alter table retention.policy enable trigger user;
end
$$;

-- Stops the migration where the table that was adopted has another name than the one that is asked for.
-- Raises undefined_table with the name that it has.
create or replace function retention._check_renamed(p_table text)
returns void
language plpgsql
as $$
declare
  v_adapter retention.adapter;
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
    v_type := v_domain.type || coalesce(' collate ' || v_domain.collation, '');
    if retention._domain_type(v_domain.name) <> v_type then
      perform retention._retype(v_domain.name, v_type);
      if v_domain.name = 'tenant_id' then
        perform retention._respell_tenants(v_type);
      end if;
      v_changed := true;
    end if;
  end loop;

  if v_adapter.table_name is null then
    insert into retention.adapter (table_name, table_oid, columns, added_cleared_at, scheduler)
    values (v_name, v_table, v_columns, v_columns -> 'cleared_at' ->> 'type' is null, p_scheduler);
    perform retention._mark_indexes();
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
    delete from retention.ahead;
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
  perform retention._mark_indexes();
  return v_changed;
end
$$;

-- Our two partial indexes over what is not yet cleared and has a key: one in the order in which results fall due, one for
-- the check that no other run needs the object. They hold no more of a row than finds it, for the application writes them:
-- no run id, which only orders results of one moment, and 8 bytes of the key. The status stays a part of the first: runs
-- that failed with a key are never cleared, and each pass would read them all. Ours are known by their comment, which
-- holds what they are over; a name that another index has taken gets the table's number behind it.
create or replace function retention._index_plan()
returns table (purpose text, name text, columns text, mark text, is_there boolean)
language sql
stable
as $$
  with named as (
    select a.table_oid,
      quote_ident(a.columns -> 'tenant_id' ->> 'name') as tenant_id,
      retention._candidate(a.columns, false) as is_candidate,
      retention._instant(a.columns -> 'completed_at') as completed_at,
      quote_ident(a.columns -> 'key' ->> 'name') as key,
      quote_ident(a.columns -> 'cleared_at' ->> 'name') as cleared_at
    from retention.adapter a
  ),
  wanted as (
    select n.table_oid,
      'retention_live' as purpose,
      format(
        '(%s) where %s is null and %s',
        concat_ws(', ', n.tenant_id, n.completed_at), n.cleared_at, n.is_candidate
      ) as columns
    from named n
    union all
    select n.table_oid,
      'retention_key',
      format('(%s) where %s is null and %s is not null', retention._hash_expression(n.key), n.cleared_at, n.key)
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

-- Notes by what our indexes on the adopted table are known, so that every claim can ask for them: see _missing_indexes.
create or replace function retention._mark_indexes()
returns void
language sql
as $$
  update retention.adapter
  set index_marks = array(select p.mark from retention._index_plan() p order by p.purpose desc)
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
