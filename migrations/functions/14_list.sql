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

-- Of results that are due or early by themselves, those whose object no other run, no surge and no hold needs, in their
-- order. Each object is looked up once. p_limit: the first so many; null: all.
create or replace function retention._unshared(p_rows retention.selection[], p_limit bigint)
returns setof retention.selection
language sql
stable
as $$
  select u.run_id, u.tenant_id, u.bucket, u.key, u.completed_at, u.due_at
  from (
    select x.bucket,
      x.key collate "C" as key,
      array_agg(row(x.run_id, x.tenant_id, x.bucket, x.key, x.completed_at, x.due_at)::retention.selection) as rows,
      array_agg(x.n) as places
    from unnest(retention._without_kept(p_rows)) with ordinality as x (run_id, tenant_id, bucket, key, completed_at, due_at, n)
    group by x.bucket, x.key collate "C"
  ) k
  cross join lateral (
    select count(*) filter (where not r.is_due) as not_due, count(*) as runs
    from retention._live r
    where (select s.check_shared_objects from retention.setting s)
      and r.key = k.key
      and r.bucket = k.bucket
  ) o
  cross join lateral rows from (unnest(k.rows), unnest(k.places))
    as u (run_id, tenant_id, bucket, key, completed_at, due_at, place)
  -- One that is early is itself not due.
  where o.not_due <= (u.due_at is null or u.due_at >= now())::integer
    and not ((select exists (select from retention.held_object)) and retention._is_held_object(k.bucket, k.key))
    and not (
      (select s.check_shared_objects and exists (select from retention.surge_part) from retention.setting s)
      and o.runs > 1
      and retention._is_set_aside_object(k.bucket, k.key)
    )
  order by u.place
  limit p_limit
$$;

-- What _unshared returns. Where it raises, row by row: one that raises is passed by with a warning.
create or replace function retention._unshared_carefully(p_rows retention.selection[], p_limit bigint)
returns setof retention.selection
language plpgsql
stable
as $$
declare
  v_row retention.selection;
  v_left bigint := coalesce(p_limit, cardinality(p_rows));
  v_found bigint;
begin
  begin
    return query select u.* from retention._unshared(p_rows, p_limit) u;
    return;
  exception
    when others then
      if retention._is_passing(sqlstate) then
        raise;
      end if;
  end;
  foreach v_row in array p_rows loop
    exit when v_left <= 0;
    begin
      return query select u.* from retention._unshared(array[v_row], 1) u;
      get diagnostics v_found = row_count;
      v_left := v_left - v_found;
    exception
      when others then
        if retention._is_passing(sqlstate) then
          raise;
        end if;
        raise warning 'run % cannot be read and is passed by: % %', v_row.run_id, sqlstate, sqlerrm;
    end;
  end loop;
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
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set max_parallel_workers_per_gather = 0
set jit = off
set work_mem = '128MB'
as $$
#variable_conflict use_column
declare
  v_run_ids retention.run_id[];
  v_older_than interval := case
    when p_older_than is not null then retention._in_seconds(least(p_older_than, '2000000 days'))
  end;
  v_left bigint := p_limit;
  v_rows retention.selection[] := '{}';
  v_row retention.selection;
  v_tenant record;
  v_next record;
  v_is_careful boolean;
  v_is_full boolean;
  v_found bigint;
begin
  perform retention._check_indexes();
  perform retention._check_narrowing(p_run_ids, p_tenant_id);
  p_tenant_id := retention._read_tenant_id(p_tenant_id)::text;
  if p_run_ids is not null then
    v_run_ids := array(select retention._read_run_id(i) from unnest(p_run_ids) i);
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
        and (p_older_than is null or r.completed_at < now() - v_older_than)
        and (r.is_due or p_early and r.due_at is not null and coalesce(r.retain_until, '-infinity') < now())
        and r.run_id is not null
        and r.run_id not in (select retention._waiting_run_ids())
      order by r.completed_at, r.run_id
    );
    return query
    select u.run_id, u.tenant_id, u.bucket, u.key, u.completed_at, u.due_at, u.due_at >= now()
    from retention._unshared_carefully(v_rows, p_limit) u;
    return;
  end if;
  for v_tenant in
    select t.tenant_id,
      now() - retention._in_seconds(
        case when p_early then v_older_than else greatest(t.retain, coalesce(v_older_than, t.retain)) end
      ) as before,
      null::timestamptz as completed_at,
      null::retention.run_id as run_id
    from retention._tenants() t
    where p_tenant_id is null or t.tenant_id::text = p_tenant_id
  loop
    v_is_careful := false;
    loop
      v_is_full := false;
      begin
        if v_is_careful then
          select a.completed_at, a.run_id
          into v_next
          from retention._row_after(v_tenant.tenant_id, v_tenant.completed_at, v_tenant.run_id, v_tenant.before) a;
          exit when not found;
        end if;
        for v_row in
          select s.run_id, s.tenant_id, s.bucket, s.key, s.completed_at, s.due_at
          from retention._past(
            v_tenant.tenant_id, v_tenant.completed_at, v_tenant.run_id, v_tenant.before,
            case when v_is_careful then 1 end
          ) s
          where s.has_place
            and not s.held
            and (s.is_due or p_early and s.due_at is not null and coalesce(s.retain_until, '-infinity') < now())
            and s.run_id is not null
            and s.run_id not in (select retention._waiting_run_ids())
        loop
          v_rows := v_rows || v_row;
          v_tenant.completed_at := v_row.completed_at;
          v_tenant.run_id := v_row.run_id;
          v_is_full := cardinality(v_rows) >= case when v_left < 5000 then 2 * v_left + 100 else 10000 end;
          exit when v_is_full;
        end loop;
        if v_is_careful then
          v_tenant.completed_at := v_next.completed_at;
          v_tenant.run_id := v_next.run_id;
        end if;
        exit when not v_is_full and not v_is_careful;
      exception
        when others then
          if retention._is_passing(sqlstate) then
            raise;
          end if;
          -- From here row by row, until the one that raises has been passed by.
          if v_is_careful then
            raise warning 'run % cannot be read and is passed by: % %', v_next.run_id, sqlstate, sqlerrm;
            v_tenant.completed_at := v_next.completed_at;
            v_tenant.run_id := v_next.run_id;
          end if;
          v_is_careful := not v_is_careful;
      end;
      if v_is_full then
        return query
        select u.run_id, u.tenant_id, u.bucket, u.key, u.completed_at, u.due_at, u.due_at >= now()
        from retention._unshared_carefully(v_rows, v_left) u;
        get diagnostics v_found = row_count;
        v_left := v_left - v_found;
        v_rows := '{}';
        if v_left <= 0 then
          return;
        end if;
      end if;
    end loop;
  end loop;
  return query
  select u.run_id, u.tenant_id, u.bucket, u.key, u.completed_at, u.due_at, u.due_at >= now()
  from retention._unshared_carefully(v_rows, v_left) u;
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
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select d.tenant_id, d.bucket, count(*), min(d.completed_at), count(*) filter (where d.early)
  from retention.list_due(p_tenant_id, p_run_ids, p_older_than, p_early, p_limit) d
  group by d.tenant_id, d.bucket
  order by d.tenant_id, d.bucket
$$;
