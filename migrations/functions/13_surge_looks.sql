/*
Surges, looked at as a whole: the rows behind what is set aside. Few are looked up by their run ids, and many are joined.
*/

-- Whether a surge has more results than are looked up one by one.
create or replace function retention._is_large_surge(p_surge_id bigint)
returns boolean
language sql
stable
as $$
  select coalesce(sum(p.results), 0) > retention._few_results()
  from retention.surge_part p
  where p.surge_id = p_surge_id
$$;

-- The parts of a large surge in which some result is not there any more, names another object, or falls due only after
-- p_found_at: see _review_part, which looks at these.
create or replace function retention._changed_parts(p_surge_id bigint, p_found_at timestamptz)
returns bigint[]
language plpgsql
stable
set enable_nestloop = off
set jit = off
set work_mem = '128MB'
as $$
begin
  return (
    select coalesce(array_agg(distinct s.part_id), '{}')
    from (
      select p.part_id, p.bucket, u.run_id, retention._unpack_key(u.key, u.run_id::text) as key
      from retention.surge_part p
      cross join lateral unnest(p.run_ids, p.keys) as u (run_id, key)
      where p.surge_id = p_surge_id
      offset 0
    ) s
    where not exists (
      select
      from retention._live r
      where r.run_id = s.run_id
        and coalesce(r.key, '') = s.key collate "C"
        and r.bucket = s.bucket
        and coalesce(r.due_at < p_found_at, false)
    )
  );
end
$$;

-- The results of a surge, with what their rows say by now.
create or replace function retention._surge_rows(p_surge_id bigint)
returns table (
  tenant_id text,
  bucket text,
  run_id retention.run_id,
  completed_at timestamptz,
  due_at timestamptz,
  is_due boolean
)
language plpgsql
stable
set enable_seqscan = off
set enable_mergejoin = off
set jit = off
set work_mem = '128MB'
as $$
#variable_conflict use_column
begin
  return query
  select u.tenant_id, p.bucket, u.run_id, l.completed_at, l.due_at, l.is_due
  from retention.surge_part p
  cross join lateral unnest(p.run_ids, p.tenants) as u (run_id, tenant_id)
  cross join lateral (
    select min(r.completed_at) as completed_at, max(r.due_at) as due_at, bool_or(r.is_due) as is_due
    from retention._live r
    where r.run_id = u.run_id
  ) l
  where p.surge_id = p_surge_id;
end
$$;

-- The same of a large surge.
create or replace function retention._surge_rows_at_once(p_surge_id bigint)
returns table (
  tenant_id text,
  bucket text,
  run_id retention.run_id,
  completed_at timestamptz,
  due_at timestamptz,
  is_due boolean
)
language plpgsql
stable
set enable_nestloop = off
set jit = off
set work_mem = '128MB'
as $$
#variable_conflict use_column
begin
  return query
  with listed as materialized (
    select u.tenant_id, p.bucket, u.run_id
    from retention.surge_part p
    cross join lateral unnest(p.run_ids, p.tenants) as u (run_id, tenant_id)
    where p.surge_id = p_surge_id
  ),
  found as materialized (
    select r.run_id::retention.run_id as run_id, min(r.completed_at) as completed_at, max(r.due_at) as due_at,
      bool_or(r.is_due) as is_due
    from retention._live r
    where r.run_id in (select s.run_id from listed s)
    group by r.run_id
  )
  select s.tenant_id, s.bucket, s.run_id, f.completed_at, f.due_at, f.is_due
  from listed s
  left join found f on f.run_id = s.run_id;
end
$$;
