/*
Allowances: late results that a person has accounted for. A policy made shorter and the end of a tenant's hold make
results late; each leaves an allowance of that number. It is used before the guard looks, and what is left of it is
dropped when a walk that began after it is complete.
*/

-- Of a tenant, how many results past a retention no batch carries and nothing sets aside, and which no run hold
-- covers. p_from: only those whose run completed later; null: all. p_to: only those that completed before.
-- p_dated_before: only those whose own retain-until date was over by then. Reads what it counts.
create or replace function retention._count_unknown(
  p_tenant_id retention.tenant_id,
  p_from timestamptz,
  p_to timestamptz,
  p_dated_before timestamptz default now()
)
returns bigint
language plpgsql
stable
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_mergejoin = off
set max_parallel_workers_per_gather = 0
set jit = off
set work_mem = '128MB'
as $$
begin
  return (
    select count(*)
    from retention._past(p_tenant_id, p_from, null, p_to, null) r
    where r.has_place
      and coalesce(r.retain_until, '-infinity') < p_dated_before
      and not (
        r.held
        and exists (
          select
          from retention.hold h
          where h.run_id = r.run_id
            and retention._hold_end(h.released_at, h.expires_at) > now()
        )
      )
      and r.run_id not in (
        select k.run_id
        from retention._known_between(coalesce(p_from, '-infinity'), p_to) as k (run_id)
        where k.run_id is not null
      )
  );
end
$$;

-- Of a tenant that is to be held, how many live results are due, flagged or not, and by which policy. What is set aside
-- is not counted: it waits for its own release. Called by place_hold.
create or replace function retention._count_due_before(
  p_tenant_id retention.tenant_id,
  out due_before bigint,
  out retain interval
)
language plpgsql
stable
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_mergejoin = off
set max_parallel_workers_per_gather = 0
set jit = off
set work_mem = '128MB'
as $$
begin
  select p.retain
  into retain
  from retention.policy p
  where p.tenant_id in ('*', p_tenant_id::text)
  order by p.tenant_id = '*'
  limit 1;
  select count(*)
  into due_before
  from retention._past(p_tenant_id, null, null, now() - retention._in_seconds(retain), null) r
  where r.has_place
    and coalesce(r.retain_until, '-infinity') < now()
    and r.run_id not in (
      select a.run_id
      from retention._set_aside_between('-infinity', now() - retention._in_seconds(retain)) as a (run_id)
      where a.run_id is not null
    );
end
$$;

-- Grants each tenant that a policy concerns what the change from p_before to p_after makes late: what by p_after was due
-- when the last complete walk began, and by p_before was not. Called by the trigger of retention.policy, for a
-- policy that becomes shorter, before the row changes.
create or replace function retention._grant_policy(p_tenant_id text, p_before interval, p_after interval)
returns void
language plpgsql
as $$
declare
  v_seen_at timestamptz := retention._seen();
begin
  -- Without a guard nothing is late. Before the first complete walk everything is, and stays so.
  if p_after >= p_before or not isfinite(v_seen_at) or to_regclass('retention._live') is null then
    return;
  end if;
  insert into retention.allowance (tenant_key, results, granted, reason, counted_from, counted_to)
  select n.tenant_key, n.results, n.results, format('the policy of %s: %s instead of %s', p_tenant_id, p_after, p_before),
    n.counted_from, n.counted_to
  from (
    select t.tenant_key, s.counted_from, s.counted_to,
      retention._count_unknown(t.tenant_id, s.counted_from, s.counted_to)
        -- A policy that is made shorter, longer and shorter again grants once.
        - case
          when a.counted_from < s.counted_to and a.counted_to > s.counted_from
          then retention._count_unknown(
            t.tenant_id, greatest(a.counted_from, s.counted_from), least(a.counted_to, s.counted_to)
          )
          else 0
        end as results
    from retention._tenants() t
    cross join lateral (
      select n.seen_at - retention._in_seconds(p_before) as counted_from,
        n.seen_at - retention._in_seconds(p_after) as counted_to
      from retention._seen_of(t.tenant_id::text) as n (seen_at)
    ) s
    cross join lateral (
      select min(w.counted_from) as counted_from, max(w.counted_to) as counted_to
      from retention.allowance w
      where w.tenant_key = t.tenant_key
        and w.dropped_at is null
    ) a
    where t.tenant_id::text = p_tenant_id
      or p_tenant_id = '*'
      and not exists (
        select
        from retention.policy p
        where p.tenant_id = t.tenant_id::text
          and p.tenant_id <> '*'
      )
  ) n
  where n.results > 0;
end
$$;

-- Grants the tenants of holds that have ended what comes back by it: their results that are due and not known, once
-- for each hold. Of those that were due before the hold was placed, no more come back than were due then: others got
-- there by a change of rows under the hold. Where these are more than the guard lets through, nothing is granted, since
-- all that comes back is late together. A tenant that another hold covers still waits for that one. p_tenant_id: of this
-- one; null: of all. Returns how many results.
create or replace function retention._grant_ended_holds(p_tenant_id text default null)
returns bigint
language plpgsql
as $$
declare
  v_hold record;
  v_count bigint;
  v_slipped bigint;
  v_guard integer := (select s.surge_guard from retention.setting s);
  v_sum bigint := 0;
begin
  if to_regclass('retention._live') is null or v_guard is null then
    return 0;
  end if;
  for v_hold in
    select h.tenant_id,
      array_agg(h.hold_id order by retention._hold_end(h.released_at, h.expires_at) desc, h.hold_id) as hold_ids,
      max(retention._hold_end(h.released_at, h.expires_at)) as ended,
      min(h.placed_at) as placed_at,
      (array_agg(h.due_before order by h.placed_at, h.hold_id))[1] as due_before,
      (array_agg(h.retain order by h.placed_at, h.hold_id))[1] as retain,
      min(coalesce(h.released_by, h.placed_by)) as ended_by
    from retention.hold h
    where h.tenant_id is not null
      and (p_tenant_id is null or h.tenant_id = p_tenant_id)
      and not exists (select from retention.allowance a where a.hold_id = h.hold_id)
    group by h.tenant_id
    having max(retention._hold_end(h.released_at, h.expires_at)) <= now()
  loop
    continue when exists (
      select
      from retention.hold h
      where h.tenant_id = v_hold.tenant_id
        and retention._hold_end(h.released_at, h.expires_at) > now()
    );
    select coalesce(sum(retention._count_unknown(t.tenant_id, null, now() - retention._in_seconds(t.retain))), 0),
      coalesce(
        sum(
          retention._count_unknown(
            t.tenant_id,
            null,
            least(v_hold.placed_at - retention._in_seconds(v_hold.retain), now() - retention._in_seconds(t.retain)),
            v_hold.placed_at
          )
        ) - v_hold.due_before,
        0
      )
    into v_count, v_slipped
    from retention._tenants() t
    where t.tenant_id::text = v_hold.tenant_id;
    v_slipped := greatest(v_slipped, 0);
    if v_slipped > 0 then
      raise notice '% results of tenant % are due since before hold % was placed, and were not then: they are late',
        v_slipped, v_hold.tenant_id, v_hold.hold_ids[cardinality(v_hold.hold_ids)];
    end if;
    insert into retention.allowance (tenant_key, results, granted, reason, granted_by, hold_id, valid_until, dropped_at)
    select retention._tenant_key(v_hold.tenant_id),
      case when u.n = 1 and v_slipped <= v_guard then v_count - v_slipped else 0 end,
      case when u.n = 1 then v_count - v_slipped else 0 end,
      format('the end of hold %s', u.hold_id),
      v_hold.ended_by,
      u.hold_id,
      v_hold.ended + s.release_spread,
      case when u.n > 1 or v_count = 0 or v_slipped > v_guard then now() end
    from unnest(v_hold.hold_ids) with ordinality as u (hold_id, n)
    cross join retention.setting s
    on conflict (hold_id) do nothing;
    v_sum := v_sum + v_count;
  end loop;
  return v_sum;
end
$$;

-- What a pass does with allowances before it looks: counts what comes back from holds that have ended by themselves,
-- and, where it begins a walk, notes with which allowances.
create or replace function retention._prepare_allowances(p_whole boolean)
returns void
language plpgsql
as $$
begin
  if exists (select from retention.hold h where h.tenant_id is not null) then
    perform retention._grant_ended_holds();
  end if;
  if p_whole then
    update retention.allowance a
    set walk_at = now()
    where a.dropped_at is null
      and a.walk_at is null;
  end if;
end
$$;

-- Drops what is left of allowances when a walk is complete that began with them at p_began_at; null: none was.
create or replace function retention._drop_allowances(p_began_at timestamptz)
returns void
language sql
as $$
  update retention.allowance a
  set dropped_at = now()
  where a.dropped_at is null
    and (
      a.results = 0
      or a.walk_at <= p_began_at
      and coalesce(a.valid_until < p_began_at, true)
    )
$$;
