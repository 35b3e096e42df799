/*
The outlook: what waits that no batch carries yet, when the next pass comes, and when a run completed last. Each
figure is counted up to a bound, with one or two index probes for each tenant, whatever the size of the table.
*/

-- What is due and neither flagged nor set aside, by tenant and by side of its progress: behind it stands what came late (an
-- import, a restored backup, a released hold), after it what a pass has yet to look at. Reads at most about p_bound
-- rows: each stretch that has any gets the same share, and those that want more share what the others leave.
-- is_capped: there may be more. Nothing is due where the table is detached
-- or an index is missing.
-- p_tenant_keys: of these tenants only (null: of all). Called by _unflagged.
create or replace function retention._unflagged_of(p_bound integer, p_tenant_keys text[])
returns table (due bigint, is_capped boolean, completed_at timestamptz, due_at timestamptz)
language plpgsql
stable
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_hashjoin = off
set enable_mergejoin = off
set max_parallel_workers_per_gather = 0
set jit = off
set work_mem = '128MB'
as $$
#variable_conflict use_column
begin
  if not retention._can_look() then
    return query select 0::bigint, false, null::timestamptz, null::timestamptz;
  else
    return query
    with tenant as materialized (
      select t.tenant_id,
        now() - retention._in_seconds(t.retain) as before,
        g.completed_at as seen_completed_at,
        g.run_id as seen_run_id
      from retention._tenants() t
      left join retention.progress g on g.tenant_key = t.tenant_key
      where p_tenant_keys is null
        or t.tenant_key = any (p_tenant_keys)
    ),
    side as materialized (
      select t.*, false as is_behind, t.seen_completed_at as after_completed_at, t.seen_run_id as after_run_id
      from tenant t
      union all
      select t.tenant_id,
        -- The progress itself may have others of its very moment beside it.
        least(t.before, t.seen_completed_at + interval '1 microsecond'),
        t.seen_completed_at,
        t.seen_run_id,
        true,
        null,
        null
      from tenant t
      where t.seen_completed_at is not null
    ),
    stretch as materialized (
      select row_number() over () as place,
        greatest(p_bound / count(*) over (), 1) as share,
        s.*
      from side s
      cross join lateral retention._past(s.tenant_id, s.after_completed_at, s.after_run_id, s.before, 1) r
    ),
    first as materialized (
      select s.place, s.is_behind, s.seen_completed_at, s.seen_run_id,
        r.run_id, r.completed_at, r.due_at,
        r.is_due and r.has_place and not (
          (select exists (select from retention.shared_object)) and retention._is_known_shared(r.bucket, r.key)
          or (select exists (select from retention.spared_object))
            and retention._is_spared_for_now(r.bucket, r.key)
        ) as may_go
      from stretch s
      cross join lateral retention._past(s.tenant_id, s.after_completed_at, s.after_run_id, s.before, s.share) r
    ),
    wanting as materialized (
      select s.*,
        l.completed_at as last_completed_at,
        l.run_id as last_run_id,
        greatest((p_bound - (select count(*) from first)) / count(*) over (), 0) as more
      from stretch s
      join (select f.place, count(*) as results from first f group by f.place) n on n.place = s.place
        and n.results >= s.share
      join (
        select distinct on (f.place) f.place, f.completed_at, f.run_id
        from first f
        order by f.place, f.completed_at desc, f.run_id desc
      ) l on l.place = s.place
    ),
    second as materialized (
      select w.place, w.is_behind, w.seen_completed_at, w.seen_run_id,
        r.run_id, r.completed_at, r.due_at,
        r.is_due and r.has_place and not (
          (select exists (select from retention.shared_object)) and retention._is_known_shared(r.bucket, r.key)
          or (select exists (select from retention.spared_object))
            and retention._is_spared_for_now(r.bucket, r.key)
        ) as may_go
      from wanting w
      cross join lateral retention._past(w.tenant_id, w.last_completed_at, w.last_run_id, w.before, w.more) r
      where w.more > 0
    ),
    seen as materialized (
      select x.*
      from (select f.* from first f union all select s.* from second s) x
      where not x.is_behind
        or x.completed_at < x.seen_completed_at
        or x.completed_at = x.seen_completed_at and coalesce(x.run_id <= x.seen_run_id, x.seen_run_id is null)
    ),
    -- Each side by itself: together they would span all the batches between them.
    flagged as materialized (
      select f.run_id
      from (
        select min(s.completed_at) as first_completed_at, max(s.completed_at) as last_completed_at
        from seen s
        group by s.is_behind
      ) b
      cross join lateral retention._known_between(b.first_completed_at, b.last_completed_at) as f (run_id)
    )
    select count(*),
      exists (
        select
        from wanting w
        where (select count(*) from second s where s.place = w.place) >= w.more
      ),
      min(s.completed_at),
      min(s.due_at)
    from seen s
    where s.may_go
      and s.run_id is not null
      and s.run_id not in (select f.run_id from flagged f);
  end if;
end
$$;

-- When the newest run completed whose result is live; where none is, when the newest of the batch completed that
-- was settled last. Null: neither is known. A date that is still to come is passed by. One index probe for each
-- tenant.
create or replace function retention._newest_run()
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
  if retention._can_look() then
    select max(n.completed_at)
    into v_newest
    from retention._tenant_ids() as t (tenant_id)
    cross join lateral (
      (
        select r.completed_at
        from retention._live r
        where r.is_candidate
          and r.tenant_id = t.tenant_id
          and r.completed_at <= now()
        order by r.tenant_id desc, r.completed_at desc, r.run_id desc
        limit 1
      )
      union all
      (
        select r.completed_at
        from retention._live r
        where t.tenant_id is null
          and r.is_candidate
          and r.tenant_id is null
          and r.completed_at <= now()
        order by r.tenant_id desc, r.completed_at desc, r.run_id desc
        limit 1
      )
    ) n;
  end if;
  return coalesce(
    nullif(v_newest, '-infinity'),
    (select b.newest from retention.batch b where b.settled_at is not null order by b.settled_at desc limit 1)
  );
end
$$;

-- When the next flagging pass is to come, and by what. comes_at is null where none comes by itself: because then
-- says what keeps it. A listener that stands in for a silent scheduler may flag before. Cheap at any size.
-- For observers.
create or replace function retention.next_pass()
returns table (comes_at timestamptz, because text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
as $$
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
          format('%s results are flagged, as many as backlog_limit lets wait; a pass comes when there are fewer', s.backlog)
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
  from judged j
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
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set max_parallel_workers_per_gather = 0
set jit = off
set work_mem = '128MB'
as $$
#variable_conflict use_column
begin
  if not retention._can_look() then
    return;
  end if;
  return query
  with waiting as materialized (
    select t.tenant_id, t.tenant_key, t.retain, f.due_at
    from retention._tenants() t
    cross join lateral retention._past(t.tenant_id, null, null, now() - retention._in_seconds(t.retain), 1) f
    where p_tenant_keys is null
      or t.tenant_key = any (p_tenant_keys)
    order by f.due_at, t.tenant_key
    limit p_tenants
  ),
  seen as materialized (
    select t.tenant_id, t.tenant_key, t.retain, r.run_id, r.completed_at, r.due_at, r.is_due,
      count(*) over (partition by t.tenant_key) as looked_at
    from waiting t
    cross join lateral retention._past(t.tenant_id, null, null, now() - retention._in_seconds(t.retain), p_bound) r
  )
  select s.tenant_id::text,
    (extract(epoch from s.retain) / 86400)::double precision,
    min(s.completed_at),
    min(s.due_at),
    count(*),
    count(*) filter (
      where s.run_id in (
        select retention._flagged_between(
          (select min(x.completed_at) from seen x), (select max(x.completed_at) from seen x)
        )
      )
    ),
    min(s.looked_at) >= p_bound
  from seen s
  where s.is_due
    and s.run_id is not null
  group by s.tenant_id, s.tenant_key, s.retain
  order by min(s.due_at), s.tenant_key;
end
$$;

