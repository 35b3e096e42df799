/*
Tables that look like a table and are not one that can be worked on. See docs/postgres.md.
*/

-- Why a table cannot be adopted, or null. reason: one sentence; remedy: what to do instead. The extensions that
-- it names need not be there.
create or replace function retention._unsupported(p_table oid, out reason text, out remedy text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_is_distributed boolean := false;
begin
  if to_regclass('pg_catalog.pg_dist_partition') is not null then
    execute 'select exists (select from pg_catalog.pg_dist_partition p where p.logicalrelid = $1)'
    into v_is_distributed
    using p_table;
    if v_is_distributed then
      reason := format('%s is a distributed table of Citus, whose rows no function of this schema can stamp', p_table::regclass);
      remedy := 'Keep the runs in a local table of the coordinator: select undistribute_table(...).';
      return;
    end if;
  end if;
  if to_regclass('_timescaledb_catalog.hypertable') is not null then
    execute 'select exists (
        select
        from _timescaledb_catalog.hypertable h
        join pg_class c on c.relname = h.table_name
        join pg_namespace n on n.oid = c.relnamespace and n.nspname = h.schema_name
        where c.oid = $1
      )'
    into v_is_distributed
    using p_table;
    if v_is_distributed then
      reason := format('%s is a hypertable of Timescale, on which no index can be built concurrently', p_table::regclass);
      remedy := 'Keep the runs in a plain table, or in one that is partitioned by PostgreSQL itself.';
      return;
    end if;
  end if;
end
$$;
