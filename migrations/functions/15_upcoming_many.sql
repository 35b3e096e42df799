/*
What falls due in the days that upcoming is asked for: where that is much, as sets over the table, and not result by
result.
*/

-- Whether more results fall due before p_end than are looked up one by one.
create or replace function retention._is_wide_outlook(p_tenant_id text, p_end timestamptz)
returns boolean
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
declare
  v_few bigint := retention._few_results();
begin
  return (
    select count(*) > v_few
    from (
      select
      from retention._tenant_ids() as n (tenant_id)
      join retention.policy d on d.tenant_id = '*'
      left join retention.policy p on p.tenant_id = n.tenant_id::text
        and p.tenant_id <> '*'
      cross join lateral retention._past(
        n.tenant_id, null, null,
        p_end - coalesce((select s.cool_off from retention.setting s), '0') - retention._in_seconds(coalesce(p.retain, d.retain)),
        v_few + 1
      ) r
      where p_tenant_id is null or n.tenant_id::text = p_tenant_id
      limit v_few + 1
    ) s
  );
end
$$;

-- Until when the last hold on a run, or on a tenant, has kept it.
create or replace function retention._last_holds()
returns table (run_id retention.run_id, tenant_id text, ended_at timestamptz)
language sql
stable
as $$
  select h.run_id, h.tenant_id, max(retention._hold_end(h.released_at, h.expires_at))
  from retention.hold h
  group by h.run_id, h.tenant_id
$$;

-- When live rows with some keys are free: see _free_at; infinity: nothing says when. Of each object the latest two, of
-- different runs: a result waits for the latest of another run.
create or replace function retention._latest_sharers(p_keys text[])
returns table (bucket text, key text, run_id retention.run_id, free_at timestamptz, next_free_at timestamptz)
language sql
stable
as $$
  with sharer as materialized (
    select o.bucket, o.key, o.run_id,
      case
        when o.due_at is null then 'infinity'
        else retention._free_at(o.run_id::retention.run_id, o.tenant_id::text, o.due_at)
      end as free_at
    from unnest(p_keys) as k (key)
    join retention._live o on o.key = k.key collate "C"
    where o.bucket is not null
      and o.run_id is not null
  ),
  latest as (
    select distinct on (s.bucket, s.key) s.bucket, s.key, s.run_id, s.free_at
    from sharer s
    order by s.bucket, s.key, s.free_at desc nulls last
  )
  select l.bucket, l.key, l.run_id, l.free_at, max(s.free_at) filter (where s.run_id <> l.run_id)
  from latest l
  join sharer s on s.bucket = l.bucket
    and s.key = l.key
  group by l.bucket, l.key, l.run_id, l.free_at
$$;

-- What _upcoming_unflagged returns, as sets, and by the day.
create or replace function retention._upcoming_at_once(p_tenant_id text, p_end timestamptz)
returns table (at timestamptz, state text, tenant_id text, bucket text, results bigint)
language plpgsql
stable
set enable_nestloop = off
set jit = off
set work_mem = '128MB'
as $$
#variable_conflict use_column
declare
  v_cool_off interval := coalesce((select s.cool_off from retention.setting s), '0');
  v_spread interval := (select s.release_spread from retention.setting s);
  v_before timestamptz := p_end - v_cool_off - (select min(retention._in_seconds(p.retain)) from retention.policy p);
  v_source text := format(
    'select r.run_id::retention.run_id as run_id, r.tenant_id::text as tenant_id, r.bucket::text as bucket,
      r.key::text collate "C" as key, r.completed_at, r.due_at, r.tenant_id as tenant, r.status, r.retain_until
    from retention._live r
    where r.is_candidate
      and r.completed_at < $1
      and %s
      and r.has_place
      and r.run_id is not null
      and r.due_at < %L::timestamptz',
    case when p_tenant_id is null then '$2 is null' else 'r.tenant_id = $2' end,
    p_end - v_cool_off
  );
  v_shared text[] := retention._look_shared_keys(v_source, v_before, p_tenant_id);
  v_holds boolean := exists (select from retention.hold);
begin
  return query execute format(
    'with freed as (
      select d.run_id, d.tenant_id, d.bucket, d.key, %s as free_at
      from (%s) d
      %s
      where not exists (
        select
        from retention._known_between(''-infinity'', ''infinity'') as f (run_id)
        where f.run_id = d.run_id
      )
    ),
    -- An object goes when the last of the runs that point at it is free.
    shared as (
      select f.*, %s as sharers_free_at, %s as is_spared
      from freed f
      %s
      %s
    )
    select date_trunc(''day'', j.at), j.state, j.tenant_id, j.bucket, count(*)
    from (
      select case
          when s.is_spared is not true and greatest(s.free_at, s.sharers_free_at) + $4 < $3
          then greatest(s.free_at, s.sharers_free_at, now()) + $4
        end as at,
        case
          when s.is_spared then ''spared''
          when greatest(s.free_at, s.sharers_free_at) < now() then ''due''
          when greatest(s.free_at, s.sharers_free_at) + $4 < $3 then ''upcoming''
          when s.free_at + $4 >= $3 then ''held''
          else ''shared''
        end as state,
        s.tenant_id,
        s.bucket
      from shared s
    ) j
    group by 1, j.state, j.tenant_id, j.bucket',
    case
      when v_holds
      then 'greatest(d.due_at, r.ended_at, t.ended_at + $5 * retention._place_in_line(d.run_id::text))'
      else 'd.due_at'
    end,
    v_source,
    case
      when v_holds
      then 'left join retention._last_holds() r on r.run_id = d.run_id
        left join retention._last_holds() t on t.tenant_id = d.tenant_id'
    end,
    case when v_shared is null then 'null::timestamptz' else 'case when o.run_id <> f.run_id then o.free_at else o.next_free_at end' end,
    case when exists (select from retention.spared_object) then 'x.key is not null' else 'false' end,
    case
      when v_shared is not null
      then 'left join retention._latest_sharers($6) o on o.bucket = f.bucket and o.key = f.key'
    end,
    case
      when exists (select from retention.spared_object)
      then 'left join (
        select distinct n.bucket, n.key
        from retention.spared_object n
        where retention._is_spared_for_now(n.bucket, n.key)
      ) x on x.bucket = f.bucket and x.key = f.key'
    end
  )
  using v_before, p_tenant_id::retention.tenant_id, p_end, v_cool_off, v_spread, v_shared;
end
$$;

-- What is not flagged and is due, or falls due before p_end, by the moment when it may be claimed at the earliest. Where a
-- row cannot be read, by halves of the tenants until its own stands alone.
create or replace function retention._upcoming_unflagged(p_tenant_id text, p_end timestamptz)
returns table (at timestamptz, state text, tenant_id text, bucket text, results bigint)
language plpgsql
stable
as $$
#variable_conflict use_column
declare
  v_keys text[] := case when p_tenant_id is not null then array[retention._tenant_key(p_tenant_id)] end;
  v_parts jsonb;
begin
  -- Nothing is known of the table while it is detached.
  if to_regclass('retention._live') is null then
    return;
  end if;
  begin
    if retention._is_wide_outlook(p_tenant_id, p_end) then
      return query select u.* from retention._upcoming_at_once(p_tenant_id, p_end) u;
    else
      return query select u.* from retention._upcoming_by_tenant(v_keys, p_end) u;
    end if;
    return;
  exception
    when others then
      if retention._is_passing(sqlstate) then
        raise;
      end if;
  end;
  v_keys := coalesce(v_keys, array(select retention._tenant_key(n.tenant_id::text) from retention._tenant_ids() as n (tenant_id)));
  v_parts := jsonb_build_array(to_jsonb(v_keys));
  while jsonb_array_length(v_parts) > 0 loop
    v_keys := array(select jsonb_array_elements_text(v_parts -> 0));
    v_parts := v_parts - 0;
    begin
      return query select u.* from retention._upcoming_by_tenant(v_keys, p_end) u;
    exception
      when others then
        if retention._is_passing(sqlstate) then
          raise;
        end if;
        if cardinality(v_keys) = 1 then
          raise warning 'a row of tenant % cannot be read, and the tenant is left out: % %',
            coalesce(nullif(substr(v_keys[1], 2), ''), '(none)'), sqlstate, sqlerrm;
        end if;
        v_parts := v_parts || retention._halves(v_keys);
    end;
  end loop;
end
$$;
