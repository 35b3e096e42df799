/*
Lists of what is due, flagged or not: what a dry run shows and what a narrowed reconcile takes.
*/

-- Another live run that needs the object of a run: it points at the same bucket and key and is not due, or is set aside
-- while the run itself is not. Null: none does, or runs that share objects are not looked for.
create or replace function retention._sharer(p_run_id retention.run_id, p_bucket text, p_key text)
returns text
language sql
stable
as $$
  -- Ordered by the run id with a limit, a plan without sorts would walk all runs in the order of their ids.
  select min(o.run_id::text)
  from retention._live o
  where (select s.check_shared_objects from retention.setting s)
    and o.key_hash = retention._key_hash(p_key)
    and o.key = p_key collate "C"
    and o.bucket = p_bucket
    and o.run_id <> p_run_id
    and (
      not o.is_due
      or exists (select from retention._part_of(o.run_id)) and not exists (select from retention._part_of(p_run_id))
    )
$$;

-- The runs whose result waits for a person: it failed for good (retention.retry), or is set aside as a surge
-- (retention.release_surge).
create or replace function retention._waiting_run_ids()
returns setof retention.run_id
language sql
stable
rows 100
as $$
  select unnest(b.run_ids)
  from retention.batch b
  where b.dead_at is not null
    and b.settled_at is null
  union all
  select unnest(p.run_ids)
  from retention.surge_part p
$$;

-- A cutoff as plain seconds, and none that reaches back before all dates.
create or replace function retention._read_older_than(p_older_than interval)
returns interval
language sql
immutable
as $$
  select case when p_older_than is not null then retention._in_seconds(least(p_older_than, '2000000 days')) end
$$;

-- What list_due lists of runs that are named.
create or replace function retention._list_runs(
  p_tenant_id text,
  p_run_ids text[],
  p_older_than interval,
  p_early boolean,
  p_limit bigint
)
returns setof retention.selection
language plpgsql
stable
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set max_parallel_workers_per_gather = 0
set jit = off
set work_mem = '128MB'
as $$
declare
  v_run_ids retention.run_id[] := array(select retention._read_run_id(i) from unnest(p_run_ids) i);
  v_rows retention.selection[];
begin
  v_rows := array(
    select row(
        r.run_id::retention.run_id, r.tenant_id::text, r.bucket::text, r.key::text, r.completed_at, r.due_at
      )::retention.selection
    -- Found by their ids before anything else is asked: with is_candidate, a plan without statistics reads the
    -- whole index over live results.
    from (select distinct i as run_id from unnest(v_run_ids) i) u
    cross join lateral (select l.* from retention._live l where l.run_id = u.run_id offset 0) r
    where r.is_candidate
      and r.has_place
      and not r.held
      and (p_tenant_id is null or r.tenant_id::text = p_tenant_id)
      and (p_older_than is null or r.completed_at < now() - p_older_than)
      and (r.is_due or p_early and r.due_at is not null and coalesce(r.retain_until, '-infinity') < now())
      and r.run_id is not null
      and r.run_id not in (select retention._waiting_run_ids())
    order by r.completed_at, r.run_id
  );
  return query select u.* from retention._unshared_carefully(v_rows, p_limit) u;
end
$$;

-- What claim would hand out now, flagged or not, in the order of tenants and oldest first. p_tenant_id,
-- p_run_ids and p_older_than narrow it; null does not narrow. p_early: p_older_than stands in for the policy
-- where it is shorter. early in a row: the result is not due by the policy in force. A row that cannot be read
-- is passed by with a warning that names it. Changes nothing.
-- For the listener.
-- Raises invalid_parameter_value for an empty text, and for a text that cannot be a run id or a tenant id, and
-- object_not_in_prerequisite_state where an index on the application's table is missing. An empty list of runs
-- lists nothing.
create or replace function retention.list_due(
  p_tenant_id text default null,
  p_run_ids text[] default null,
  p_older_than interval default null,
  p_early boolean default false,
  p_limit bigint default null
)
returns table (
  run_id retention.run_id,
  tenant_id text,
  bucket text,
  key text,
  completed_at timestamptz,
  due_at timestamptz,
  early boolean
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  v_older_than interval := retention._read_older_than(p_older_than);
  v_few record;
begin
  perform retention._check_indexes();
  perform retention._check_narrowing(p_run_ids, p_tenant_id);
  p_tenant_id := retention._read_tenant_id(p_tenant_id)::text;
  if p_run_ids is not null then
    return query
    select u.run_id, u.tenant_id, u.bucket, u.key, u.completed_at, u.due_at, u.due_at >= now()
    from retention._list_runs(p_tenant_id, p_run_ids, v_older_than, p_early, p_limit) u;
    return;
  end if;
  begin
    select * into strict v_few from retention._list_few(p_tenant_id, v_older_than, p_early, p_limit);
    if v_few.is_complete then
      return query
      select u.run_id, u.tenant_id, u.bucket, u.key, u.completed_at, u.due_at, u.due_at >= now()
      from unnest(v_few.results) u;
    else
      return query
      select u.run_id, u.tenant_id, u.bucket, u.key, u.completed_at, u.due_at, u.due_at >= now()
      from retention._list_many(p_tenant_id, v_older_than, p_early, p_limit) u;
    end if;
    return;
  exception
    when others then
      if retention._is_passing(sqlstate) then
        raise;
      end if;
  end;
  return query
  select u.run_id, u.tenant_id, u.bucket, u.key, u.completed_at, u.due_at, u.due_at >= now()
  from retention._list_carefully(p_tenant_id, v_older_than, p_early, p_limit) u;
end
$$;

-- What list_due lists, counted by tenant and bucket: when the oldest of each completed, and how many are not due
-- by the policy in force (early). Changes nothing. For the listener. Raises what list_due raises.
create or replace function retention.count_due(
  p_tenant_id text default null,
  p_run_ids text[] default null,
  p_older_than interval default null,
  p_early boolean default false,
  p_limit bigint default null
)
returns table (tenant_id text, bucket text, results bigint, oldest timestamptz, early bigint)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  v_older_than interval := retention._read_older_than(p_older_than);
  v_few record;
begin
  perform retention._check_indexes();
  perform retention._check_narrowing(p_run_ids, p_tenant_id);
  p_tenant_id := retention._read_tenant_id(p_tenant_id)::text;
  if p_run_ids is null then
    begin
      select * into strict v_few from retention._list_few(p_tenant_id, v_older_than, p_early, p_limit);
      if v_few.is_complete then
        return query
        select d.tenant_id, d.bucket, count(*), min(d.completed_at), count(*) filter (where d.due_at >= now())
        from unnest(v_few.results) d
        group by d.tenant_id, d.bucket
        order by d.tenant_id, d.bucket;
      else
        return query
        select c.*
        from retention._count_many(p_tenant_id, v_older_than, p_early, p_limit) c
        order by c.tenant_id, c.bucket;
      end if;
      return;
    exception
      when others then
        if retention._is_passing(sqlstate) then
          raise;
        end if;
    end;
  end if;
  return query
  select d.tenant_id, d.bucket, count(*), min(d.completed_at), count(*) filter (where d.early)
  from retention.list_due(p_tenant_id, p_run_ids, p_older_than, p_early, p_limit) d
  group by d.tenant_id, d.bucket
  order by d.tenant_id, d.bucket;
end
$$;
