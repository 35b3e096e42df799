/*
The two indexes on the application's table: every pass reads one of them in order, and every claim looks up its keys in the
other. Without one of them each of those would read the whole table, so that nothing is begun.
*/

-- Which of the indexes that were adopted are not there by now, or not valid, by name; null: none. An index is known by
-- its comment, which a rename, a rewrite of the table and a reindex leave. Asked at every claim: it writes no mark again.
create or replace function retention._missing_indexes()
returns text
language plpgsql
stable
as $$
begin
  return (
    select string_agg(
      case m.n when 1 then 'retention_live' else 'retention_key' end, ', ' order by m.n
    )
    from retention.adapter a
    cross join unnest(a.index_marks) with ordinality as m (mark, n)
    where not exists (
      select
      from pg_catalog.pg_index i
      join pg_catalog.pg_description d on d.objoid = i.indexrelid
        and d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
        and d.objsubid = 0
      where i.indrelid = a.table_oid
        and i.indisvalid
        and d.description = m.mark
    )
  );
end
$$;

-- Whether the application's table can be looked at at the cost of what is found: it is attached, and our indexes on it
-- are there.
create or replace function retention._can_look()
returns boolean
language plpgsql
stable
as $$
begin
  return to_regclass('retention._live') is not null and retention._missing_indexes() is null;
end
$$;

-- Stops what would read the whole table without an index.
-- Raises object_not_in_prerequisite_state with the remedy.
create or replace function retention._check_indexes()
returns void
language plpgsql
stable
as $$
declare
  v_missing text := retention._missing_indexes();
begin
  if v_missing is not null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('the index %s of the application''s table is missing or not valid, and without it this would read the whole table again and again', v_missing),
      hint = 'Run: retention migrate up. It builds the index without a lock.';
  end if;
end
$$;
