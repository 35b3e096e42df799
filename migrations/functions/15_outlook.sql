/*
The outlook: what waits that no batch carries yet, when the next pass comes, and when a run completed last. Each
figure is counted up to a bound, whatever the size of the table, of the backlog and of the list of tenants.
*/

-- When the newest run of some tenants completed whose result is live. A date that is still to come is passed by. One index
-- probe for each of them.
create or replace function retention._newest_of(p_tenant_ids retention.tenant_id[])
returns timestamptz
language plpgsql
stable
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set max_parallel_workers_per_gather = 0
set jit = off
as $$
declare
  v_newest timestamptz;
begin
  select max(n.completed_at)
  into v_newest
  from unnest(p_tenant_ids) as t (tenant_id)
  cross join lateral (
    select r.completed_at
    from retention._live r
    where r.is_candidate
      and r.tenant_id = t.tenant_id
      and r.completed_at <= now()
    order by r.tenant_id desc, r.completed_at desc, r.run_id desc
    limit 1
  ) n;
  if array_position(p_tenant_ids, null) is not null then
    v_newest := greatest(v_newest, (
      select r.completed_at
      from retention._live r
      where r.is_candidate
        and r.tenant_id is null
        and r.completed_at <= now()
      order by r.tenant_id desc, r.completed_at desc, r.run_id desc
      limit 1
    ));
  end if;
  return nullif(v_newest, '-infinity');
end
$$;

-- What is due and neither flagged nor set aside, of the tenants that _watched names and by side of their progress: behind
-- it stands what came late (an import, a restored backup, a released hold), after it what a pass has yet to look at. Reads
-- at most about p_bound rows: each stretch gets the same share, and those that want more share what the others leave.
-- is_capped: there may be more. newest: when the newest run of these tenants completed. Nothing is due where the table is detached or an index is missing.
-- p_tenant_keys: of these tenants only (null: of all). Called by _unflagged.
create or replace function retention._unflagged_of(p_bound integer, p_tenant_keys text[])
returns table (due bigint, is_capped boolean, completed_at timestamptz, due_at timestamptz, newest timestamptz)
language plpgsql
stable
set max_parallel_workers_per_gather = 0
set join_collapse_limit = 1
set jit = off
as $$
#variable_conflict use_column
begin
  if not retention._can_look() then
    return query select 0::bigint, false, null::timestamptz, null::timestamptz, null::timestamptz;
    return;
  end if;
  return query
  with tenant as materialized (
    select w.*,
      now() - retention._in_seconds(w.retain) as before
    from retention._watched() w
    where p_tenant_keys is null
      or w.tenant_key = any (p_tenant_keys)
  ),
  side as materialized (
    select row_number() over () as place,
      greatest(p_bound / count(*) over (), 1) as share,
      s.*
    from (
      select t.tenant_id, t.before, false as is_behind, t.seen_completed_at, t.seen_run_id,
        t.seen_completed_at as after_completed_at, t.seen_run_id as after_run_id
      from tenant t
      where not t.is_held
      union all
      select t.tenant_id,
        -- The progress itself may have others of its very moment beside it.
        least(t.before, t.seen_completed_at + interval '1 microsecond'),
        true, t.seen_completed_at, t.seen_run_id, null, null
      from tenant t
      where not t.is_held
        and t.seen_completed_at is not null
    ) s
  ),
  first as materialized (
    select s.place, s.share, s.tenant_id, s.before, s.is_behind, s.seen_completed_at, s.seen_run_id,
      r.run_id, r.completed_at, r.due_at, r.bucket, r.key, r.is_due and r.has_place as may_go,
      row_number() over (partition by s.place order by r.completed_at, r.run_id) as n
    from (
      select array_agg(s.tenant_id order by s.place) as tenant_ids,
        array_agg(s.after_completed_at order by s.place) as after_completed_at,
        array_agg(s.after_run_id order by s.place) as after_run_ids,
        array_agg(s.before order by s.place) as befores,
        min(s.share) as share
      from side s
    ) e
    cross join lateral retention._past_each(e.tenant_ids, e.after_completed_at, e.after_run_ids, e.befores, e.share) r
    join side s on s.place = r.place
  ),
  wanting as materialized (
    select row_number() over () as place,
      w.*,
      -- Probing each again for a row or two is not worth it.
      case when w.rest >= 10 then w.rest else 0 end as more
    from (
      select f.is_behind, f.tenant_id, f.before, f.seen_completed_at, f.seen_run_id, f.completed_at, f.run_id,
        (p_bound - (select count(*) from first)) / count(*) over () as rest
      from first f
      where f.n = f.share
    ) w
  ),
  second as materialized (
    select w.place, w.is_behind, w.seen_completed_at, w.seen_run_id,
      r.run_id, r.completed_at, r.due_at, r.bucket, r.key, r.is_due and r.has_place as may_go
    from (
      select array_agg(w.tenant_id order by w.place) as tenant_ids,
        array_agg(w.completed_at order by w.place) as after_completed_at,
        array_agg(w.run_id order by w.place) as after_run_ids,
        array_agg(w.before order by w.place) as befores,
        min(w.more) as more
      from wanting w
    ) e
    cross join lateral retention._past_each(e.tenant_ids, e.after_completed_at, e.after_run_ids, e.befores, e.more) r
    join wanting w on w.place = r.place
  ),
  seen as materialized (
    select x.*
    from (
      select f.is_behind, f.seen_completed_at, f.seen_run_id, f.run_id, f.completed_at, f.due_at, f.bucket, f.key, f.may_go
      from first f
      union all
      select s.is_behind, s.seen_completed_at, s.seen_run_id, s.run_id, s.completed_at, s.due_at, s.bucket, s.key, s.may_go
      from second s
    ) x
    where not x.is_behind
      or x.completed_at < x.seen_completed_at
      or x.completed_at = x.seen_completed_at and coalesce(x.run_id <= x.seen_run_id, x.seen_run_id is null)
  ),
  -- Each side by itself: together they would span all the batches between them.
  known as materialized (
    select b.is_behind, k.run_ids, k.horizon
    from (
      select s.is_behind, min(s.completed_at) as first_completed_at, max(s.completed_at) as last_completed_at
      from seen s
      group by s.is_behind
    ) b
    cross join lateral retention._known_first(b.first_completed_at, b.last_completed_at) k
  ),
  judged as materialized (
    select s.*,
      s.completed_at >= (select min(k.horizon) from known k where not k.is_behind) and not s.is_behind
        or s.completed_at >= (select min(k.horizon) from known k where k.is_behind) and s.is_behind as is_unknown
    from seen s
  )
  select count(*) filter (where w.is_work),
    not coalesce((select t.is_all from tenant t limit 1), true)
      or exists (
        select
        from wanting w
        left join second s on s.place = w.place
        group by w.place, w.more
        having count(s.place) >= w.more
      )
      or exists (select from judged j where j.is_unknown),
    min(w.completed_at) filter (where w.is_work),
    min(w.due_at) filter (where w.is_work),
    (select retention._newest_of(array(select t.tenant_id from tenant t)))
  from (
    select j.completed_at,
      j.due_at,
      j.may_go
        and j.run_id is not null
        and j.is_unknown is not true
        and j.run_id not in (select unnest(k.run_ids) from known k)
        and not (
          (select exists (select from retention.shared_object)) and retention._is_known_shared(j.bucket, j.key)
          or (select exists (select from retention.spared_object)) and retention._is_spared_for_now(j.bucket, j.key)
        ) as is_work
    from judged j
  ) w;
end
$$;

-- When the next flagging pass is to come, and by what. comes_at is null where none comes by itself: because then
-- says what keeps it. A listener that stands in for a silent scheduler may flag before. Cheap at any size.
-- For observers.
create or replace function retention.next_pass()
returns table (comes_at timestamptz, because text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
as $$
#variable_conflict use_column
begin
  return query
  with state as (
    select s.loop_interval,
      s.backlog_limit,
      h.ticked_at,
      h.ticked_by,
      h.passed_at,
      h.more,
      a.scheduler,
      g.because as closed,
      g.remedy,
      case
        when h.passed_at is null or h.more then h.ticked_at + interval '1 minute'
        else h.passed_at + retention._in_seconds(s.loop_interval)
      end as earliest,
      (
        select coalesce(sum(b.results), 0)
        from retention.batch b
        where b.settled_at is null
          and b.dead_at is null
      ) as backlog
    from retention.setting s
    cross join retention.heartbeat h
    cross join retention.adapter a
    left join lateral (select w.because, w.remedy from retention.gate() w limit 1) g on true
  ),
  judged as (
    select s.*,
      case
        when s.closed is not null then format('%s; remedy: %s', s.closed, s.remedy)
        when s.ticked_at is null then format('there has never been a tick; %s', d.remedy)
        when s.ticked_at < now() - interval '5 minutes' then
          format('no tick has come since %s; %s', retention._iso(s.ticked_at), d.remedy)
        when s.backlog >= s.backlog_limit then
          format(
            '%s flagged, as many as backlog_limit lets wait; a pass comes when there are fewer',
            retention._counted(s.backlog, 'result is', 'results are')
          )
      end as obstacle
    from state s
    cross join lateral (
      select case s.scheduler
        when 'pg_cron' then 'see: retention doctor'
        else 'start a listener: retention listen'
      end as remedy
    ) d
  )
  select case
      when j.obstacle is null
      -- A pass comes with a tick, and ticks come a minute apart.
      then j.ticked_at + interval '1 minute' * greatest(
        ceil(extract(epoch from j.earliest - j.ticked_at) / 60), 1
      )::double precision
    end,
    case
      when j.obstacle is not null then j.obstacle
      when j.more then 'the last pass hit a limit, and the next tick goes on'
      when j.passed_at is null then 'there has been no pass yet, and the next tick begins'
      else format('a tick flags %s after the last pass', retention._in_days(j.loop_interval))
    end
  from judged j;
end
$$;

-- What tenants_due returns. p_tenant_keys: of these tenants only (null: of all).
create or replace function retention._tenants_due_of(p_tenants integer, p_bound integer, p_tenant_keys text[])
returns table (
  tenant_id text,
  retain_days double precision,
  oldest timestamptz,
  due_since timestamptz,
  due bigint,
  flagged bigint,
  is_capped boolean
)
language plpgsql
stable
set max_parallel_workers_per_gather = 0
set jit = off
as $$
#variable_conflict use_column
begin
  if not retention._can_look() then
    return;
  end if;
  return query
  with tenant as materialized (
    select row_number() over () as place, t.tenant_id, t.tenant_key, t.retain,
      now() - retention._in_seconds(t.retain) as before
    from retention._watched() t
    where not t.is_held
      and (p_tenant_keys is null or t.tenant_key = any (p_tenant_keys))
  ),
  waiting as materialized (
    select row_number() over (order by w.due_at, w.tenant_key) as place, w.*
    from (
      select t.tenant_id, t.tenant_key, t.retain, t.before, r.due_at
      from (
        select array_agg(t.tenant_id order by t.place) as tenant_ids, array_agg(t.before order by t.place) as befores
        from tenant t
      ) e
      cross join lateral retention._past_each(e.tenant_ids, null, null, e.befores, 1) r
      join tenant t on t.place = r.place
      order by r.due_at, t.tenant_key
      limit p_tenants
    ) w
  ),
  seen as materialized (
    select w.tenant_id, w.tenant_key, w.retain, r.run_id, r.completed_at, r.due_at, r.is_due,
      count(*) over (partition by w.place) as looked_at
    from (
      select array_agg(w.tenant_id order by w.place) as tenant_ids, array_agg(w.before order by w.place) as befores
      from waiting w
    ) e
    cross join lateral retention._past_each(e.tenant_ids, null, null, e.befores, p_bound) r
    join waiting w on w.place = r.place
  ),
  known as materialized (
    select case when k.is_flagged then k.run_ids end as run_ids, case when k.is_flagged then k.horizon end as horizon
    from (
      select min(s.completed_at) as first_completed_at, max(s.completed_at) as last_completed_at
      from seen s
    ) b
    cross join lateral retention._known_first(b.first_completed_at, b.last_completed_at) k
  )
  select s.tenant_id::text,
    (extract(epoch from s.retain) / 86400)::double precision,
    min(s.completed_at),
    min(s.due_at),
    count(*),
    count(*) filter (where s.run_id in (select unnest(k.run_ids) from known k)),
    min(s.looked_at) >= p_bound or coalesce(max(s.completed_at) >= (select min(k.horizon) from known k), false)
  from seen s
  where s.is_due
    and s.run_id is not null
  group by s.tenant_id, s.tenant_key, s.retain
  order by min(s.due_at), s.tenant_key;
end
$$;
