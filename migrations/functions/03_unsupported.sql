/*
Tables that look like a table and are not one that can be worked on. See docs/postgres.md.
*/

-- Whether a catalog of an extension has a row for a table. p_catalog: its name, of which the schema may be closed to
-- this role, and which need not be there; p_query: asks it for the table $1.
create or replace function retention._is_noted(p_schema text, p_catalog text, p_query text, p_table oid)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_is_noted boolean;
begin
  -- Not to_regclass, which raises where the schema is closed.
  if not exists (
    select
    from pg_class c
    where c.relname = p_catalog
      and c.relnamespace = (select n.oid from pg_namespace n where n.nspname = p_schema)
  ) then
    return false;
  end if;
  execute p_query into v_is_noted using p_table;
  return v_is_noted;
exception
  when insufficient_privilege then
    -- The role that stamps may not ask; it is asked as the role that migrates as well.
    return false;
end
$$;

-- Why a table cannot be worked on, or null. reason: one sentence; remedy: what to do instead. The extensions that
-- it names need not be there.
create or replace function retention._unsupported(p_table oid, out reason text, out remedy text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if retention._is_noted(
    'pg_catalog', 'pg_dist_partition',
    'select exists (select from pg_catalog.pg_dist_partition p where p.logicalrelid = $1)',
    p_table
  ) then
    reason := format('%s is a distributed table of Citus, whose rows no function of this schema can stamp', p_table::regclass);
    remedy := 'Keep the runs in a local table of the coordinator: select undistribute_table(...).';
  elsif retention._is_noted(
    '_timescaledb_catalog', 'hypertable',
    'select exists (
        select
        from _timescaledb_catalog.hypertable h
        join pg_class c on c.relname = h.table_name
        join pg_namespace n on n.oid = c.relnamespace and n.nspname = h.schema_name
        where c.oid = $1
      )',
    p_table
  ) then
    reason := format('%s is a hypertable of Timescale, on which no index can be built concurrently', p_table::regclass);
    remedy := 'Keep the runs in a plain table, or in one that is partitioned by PostgreSQL itself.';
  end if;
end
$$;

-- The same of a table that was adopted, and what it may have become since: a part of another table, or one that others
-- inherit from. Asked by the gate at every claim.
create or replace function retention._outgrown(p_table oid, out reason text, out remedy text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_parent regclass := (select i.inhparent from pg_inherits i where i.inhrelid = p_table limit 1);
begin
  if v_parent is not null then
    reason := format('%s is a part of %s by now, and runs of its other parts may point at the same objects', p_table::regclass, v_parent);
    remedy := format('select retention.detach(); then: retention migrate up, with RETENTION_TABLE=%s', v_parent);
  elsif exists (
    select
    from pg_inherits i
    join pg_class c on c.oid = i.inhparent and c.relkind = 'r'
    where i.inhparent = p_table
  )
  -- A hypertable has heirs too, and says more of itself.
  and (select u.reason from retention._unsupported(p_table) u) is null
  then
    reason := format('tables inherit from %s by now, and no index can hold their rows together', p_table::regclass);
    remedy := 'Make it a partitioned table, or take the children out of it: alter table ... no inherit ...';
  else
    select u.reason, u.remedy into reason, remedy from retention._unsupported(p_table) u;
  end if;
end
$$;
