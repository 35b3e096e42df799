/*
Repair: what `retention migrate up` looks at to see whether anything of the schema is missing or differs.
*/

-- A digest of the functions, views, triggers, indexes and rights of this schema as the catalog has them now.
create or replace function retention._digest()
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select encode(sha256(convert_to(string_agg(d.line, E'\n' order by d.line collate "C"), 'UTF8')), 'hex')
  from (
    select pg_get_functiondef(p.oid)
      || coalesce((select string_agg(a::text, ',' order by a::text) from unnest(p.proacl) a), '') as line
    from pg_proc p
    where p.pronamespace = 'retention'::regnamespace
    union all
    select c.relname || pg_get_viewdef(c.oid)
      || coalesce((select string_agg(a::text, ',' order by a::text) from unnest(c.relacl) a), '')
    from pg_class c
    where c.relnamespace = 'retention'::regnamespace
      and c.relkind = 'v'
    union all
    select pg_get_triggerdef(t.oid) || t.tgenabled::text
    from pg_trigger t
    join pg_class c on c.oid = t.tgrelid
    where c.relnamespace = 'retention'::regnamespace
      and not t.tgisinternal
    union all
    select pg_get_indexdef(i.indexrelid) || i.indisvalid::text
    from pg_index i
    join pg_class c on c.oid = i.indrelid
    where c.relnamespace = 'retention'::regnamespace
  ) d
$$;

-- What differs from what `migrate up` would leave, in words; empty: nothing. p_shipped: the digest of the
-- functions/*.sql of the release that asks; the others as the settings of a migration. Reasons that begin with
-- "table" want the table adopted again. Raises what _find_columns raises, and
-- undefined_object for a role that is not there.
create or replace function retention._differs(
  p_shipped text,
  p_table text,
  p_columns text,
  p_scheduler text,
  p_role text,
  p_operator_role text default null,
  p_observer_role text default null
)
returns text[]
language plpgsql
stable
as $$
declare
  v_adapter retention.adapter;
  v_installed retention.installed;
  v_columns jsonb;
  v_differs text[] := '{}';
begin
  -- Here, where nothing has been forgotten yet.
  perform retention._check_role(p_role),
    retention._check_role(p_operator_role, 'RETENTION_OPERATOR_ROLE'),
    retention._check_role(p_observer_role, 'RETENTION_OBSERVER_ROLE');
  select * into v_adapter from retention.adapter;
  select * into v_installed from retention.installed;
  v_columns := retention._find_columns(p_table, p_columns);
  if v_adapter.detached_at is not null then
    v_differs := v_differs || 'table: detached'::text;
  end if;
  if v_adapter.table_oid is distinct from to_regclass(p_table)::oid
    or v_adapter.table_oid is distinct from to_regclass(v_adapter.table_name)::oid
  then
    v_differs := v_differs || 'table: another one now'::text;
  end if;
  if v_adapter.columns - 'cleared_at' <> v_columns - 'cleared_at'
    or v_adapter.columns -> 'cleared_at' ->> 'name' <> v_columns -> 'cleared_at' ->> 'name'
    or v_columns -> 'cleared_at' ->> 'type' is null
  then
    v_differs := v_differs || 'table: its columns, or how they are mapped'::text;
  end if;
  if exists (select from retention._index_plan() p where not p.is_there)
    or exists (select from retention._our_indexes(true))
  then
    v_differs := v_differs || 'table: its indexes'::text;
  end if;
  if v_installed.shipped is distinct from p_shipped then
    v_differs := v_differs || 'functions: another release'::text;
  elsif v_installed.found is distinct from retention._digest() then
    v_differs := v_differs || 'functions: not as they were installed'::text;
  end if;
  if v_adapter.scheduler <> p_scheduler then
    v_differs := v_differs || 'table: its scheduler'::text;
  end if;
  if coalesce(p_role, '') <> '' and v_adapter.listener_role is distinct from p_role
    or coalesce(p_operator_role, '') <> '' and v_adapter.operator_role is distinct from p_operator_role
    or coalesce(p_observer_role, '') <> '' and v_adapter.observer_role is distinct from p_observer_role
  then
    v_differs := v_differs || 'rights: of another role'::text;
  end if;
  if retention._lacks_job() then
    v_differs := v_differs || 'job: not scheduled'::text;
  end if;
  return v_differs;
end
$$;
