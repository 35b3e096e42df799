/*
What decides how a look goes about it: result by result over an index, or over the table as a whole.
*/

-- How many results are looked up one by one. With more of them it is cheaper to read the table as a whole:
-- one for eight of its pages, by its size on disk and not by statistics.
create or replace function retention._few_results()
returns bigint
language sql
stable
as $$
  select least(greatest(sum(pg_relation_size(p.relid)) / current_setting('block_size')::integer / 8, 1000), 100000)::bigint
  from retention.adapter a
  cross join lateral (
    select t.relid from pg_partition_tree(a.table_oid) t where t.isleaf
    union
    select a.table_oid
  ) p
$$;

-- Whether any hold may keep a result: one that is in force, or that ended less than setting.release_spread ago.
create or replace function retention._may_hold()
returns boolean
language sql
stable
as $$
  select exists (
    select
    from retention.hold h
    cross join retention.setting s
    where retention._hold_end(h.released_at, h.expires_at) + s.release_spread > now()
  )
$$;
