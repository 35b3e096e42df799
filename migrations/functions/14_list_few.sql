/*
The list of what would go where that is little: found by index, tenant by tenant, and each object looked up once.
*/

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
      and r.key_hash = retention._key_hash(k.key)
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

-- Up to p_limit results that are past their policy, by tenant and oldest first, each with whether it is due by itself:
-- one range of an index for each tenant, and the tenants one after the other until there are so many.
create or replace function retention._past_policy(p_tenant_id text, p_older_than interval, p_early boolean, p_limit bigint)
returns table (result retention.selection, is_due boolean)
language plpgsql
stable
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_hashjoin = off
set enable_mergejoin = off
set max_parallel_workers_per_gather = 0
set jit = off
as $$
#variable_conflict use_column
declare
  v_tenant_id retention.tenant_id := p_tenant_id;
begin
  return query
  -- As _tenant_ids, which would walk over all of them first.
  with recursive name(tenant_id) as (
    (
      select r.tenant_id
      from retention._live r
      where r.is_candidate
        and r.tenant_id is not null
        and p_tenant_id is null
      order by r.tenant_id
      limit 1
    )
    union all
    select (
      select r.tenant_id
      from retention._live r
      where r.is_candidate
        and r.tenant_id > n.tenant_id
      order by r.tenant_id
      limit 1
    )
    from name n
    where n.tenant_id is not null
  )
  select row(s.run_id, s.tenant_id, s.bucket, s.key, s.completed_at, s.due_at)::retention.selection,
    s.has_place
      and not s.held
      and (s.is_due or p_early and s.due_at is not null and coalesce(s.retain_until, '-infinity') < now())
      and s.run_id is not null
  from (
    select n.tenant_id::retention.tenant_id as tenant_id
    from name n
    where n.tenant_id is not null
    union all
    select v_tenant_id
  ) t
  cross join lateral (
    select retention._in_seconds(
      coalesce(
        (select p.retain from retention.policy p where p.tenant_id = t.tenant_id::text and p.tenant_id <> '*'),
        (select d.retain from retention.policy d where d.tenant_id = '*')
      )
    ) as retain
  ) p
  cross join lateral retention._past(
    t.tenant_id, null, null,
    now() - case when p_early then p_older_than else greatest(p.retain, p_older_than) end,
    null
  ) s
  where not exists (
    select
    from retention.hold h
    where h.tenant_id = t.tenant_id::text
      and retention._hold_end(h.released_at, h.expires_at) > now()
  )
  limit p_limit;
end
$$;

-- What list_due lists where no runs are named, if it is little: more than _few_results() results that are past their
-- policy are not looked up one by one. is_complete: false: there may be more. Of what is found, those whose object
-- something else needs are left out, and p_limit are returned.
create or replace function retention._list_few(
  p_tenant_id text,
  p_older_than interval,
  p_early boolean,
  p_limit bigint,
  out results retention.selection[],
  out is_complete boolean
)
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
  v_few bigint := retention._few_results();
  v_rows retention.selection[];
  v_seen bigint;
begin
  -- Of a few that are wanted, most are found among twice as many.
  if p_limit < v_few / 2 then
    v_few := 2 * p_limit + 100;
  end if;
  select coalesce(
      array_agg(p.result) filter (
        where p.is_due
          and (p.result).run_id not in (select retention._waiting_run_ids())
      ),
      '{}'
    ),
    count(*)
  into v_rows, v_seen
  from retention._past_policy(p_tenant_id, p_older_than, p_early, v_few + 1) p;
  is_complete := v_seen <= v_few;
  if is_complete or p_limit <= cardinality(v_rows) then
    results := array(select u from retention._unshared(v_rows, p_limit) u);
    is_complete := is_complete or cardinality(results) >= p_limit;
  end if;
end
$$;
