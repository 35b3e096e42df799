/*
Late results: what stops a slip that makes many results due at once.

In the steady state a result falls due between two passes. One that was due before the last complete walk began,
and is not known yet, got there by a change of rows: a backfill, a restored backup, an import, a date that was
rewritten. A walk is all passes from one that starts from the oldest result to the one that finds no more.

Late results are parked in retention.surge_part, which is no work. When the walk is complete they are judged, all
together: up to setting.surge_guard of a tenant in 24 hours they are ordinary and become batches, and above it all
late results of that tenant are set aside as a surge. The same holds for all tenants together and
setting.surge_guard_all. What a person has accounted for (retention.allowance) is not counted.
*/

-- Whether a result that was due before p_seen_at is late. The end of a hold on its run, the end of another run's
-- need for its object, and the end of what it was spared for count as when it fell due.
create or replace function retention._is_late(
  p_run_id retention.run_id,
  p_bucket text,
  p_key text,
  p_seen_at timestamptz
)
returns boolean
language sql
stable
as $$
  select not exists (
      select
      from retention.hold h
      where h.run_id = p_run_id
        and retention._hold_end(h.released_at, h.expires_at) > p_seen_at
    )
    and not exists (
      select
      from retention.shared_object o
      where o.bucket = p_bucket
        and o.key = p_key collate "C"
        and o.until > p_seen_at
    )
    -- What a keeper gives up by taking its row away has no such end: a person may have emptied the wrong table.
    and not exists (
      select
      from retention.spared_object o
      where o.bucket = p_bucket
        and o.key = p_key collate "C"
        and o.until > p_seen_at
        and o.until < 'infinity'
    )
$$;

-- Judges late results, by tenant. uncovered: how many no allowance covers. rule: the guard that they are over, and
-- by which all of that tenant are set aside; null: they are ordinary. Changes nothing.
create or replace function retention._judge(p_tenant_keys text[], p_results bigint[])
returns table (tenant_key text, results bigint, uncovered bigint, rule text)
language sql
stable
as $$
  with late as (
    select u.tenant_key,
      u.results,
      greatest(u.results - coalesce(a.results, 0), 0)::bigint as uncovered,
      coalesce(b.results, 0) as before
    from unnest(p_tenant_keys, p_results) as u (tenant_key, results)
    left join (
      select w.tenant_key, sum(w.results) as results
      from retention.allowance w
      where w.dropped_at is null
      group by w.tenant_key
    ) a on a.tenant_key = u.tenant_key
    left join (
      select l.tenant_key, sum(l.results) as results
      from retention.lateness l
      where l.at > now() - interval '24 hours'
      group by l.tenant_key
    ) b on b.tenant_key = u.tenant_key
  ),
  judged as (
    select l.*,
      s.surge_guard_all,
      l.uncovered > 0 and l.uncovered + l.before > s.surge_guard as is_over
    from late l
    cross join retention.setting s
  )
  select j.tenant_key,
    j.results,
    j.uncovered,
    case
      when j.is_over then 'tenant'
      when j.uncovered > 0
        and sum(j.uncovered) filter (where j.is_over is false) over () + (
          select coalesce(sum(l.results), 0)
          from retention.lateness l
          where l.at > now() - interval '24 hours'
            and l.rule is distinct from 'tenant'
        ) > j.surge_guard_all
        -- Null: there is no guard.
        and j.is_over is not null
      then 'all'
    end
  from judged j
$$;

-- Writes down what was judged: how many were late, and what allowances they have used.
create or replace function retention._note_lateness(
  p_tenant_keys text[],
  p_results bigint[],
  p_uncovered bigint[],
  p_rules text[]
)
returns void
language plpgsql
as $$
begin
  insert into retention.lateness (tenant_key, results, rule)
  select u.tenant_key, u.uncovered, u.rule
  from unnest(p_tenant_keys, p_uncovered, p_rules) as u (tenant_key, uncovered, rule)
  where u.uncovered > 0;
  update retention.allowance a
  set results = a.results - t.used
  from (
    select w.allowance_id,
      least(
        w.results,
        u.results - u.uncovered - (sum(w.results) over (partition by w.tenant_key order by w.allowance_id) - w.results)
      ) as used
    from unnest(p_tenant_keys, p_results, p_uncovered) as u (tenant_key, results, uncovered)
    join retention.allowance w on w.tenant_key = u.tenant_key
    where w.dropped_at is null
      and u.results > u.uncovered
  ) t
  where a.allowance_id = t.allowance_id
    and t.used > 0;
end
$$;

-- Writes down a surge and announces it. Returns its id.
create or replace function retention._open_surge(p_found bigint, p_tenants bigint, p_rule text, p_found_by text)
returns bigint
language plpgsql
as $$
declare
  v_surge_id bigint;
begin
  insert into retention.surge (found_by, seen_at, found, tenants, rule)
  select coalesce(p_found_by, session_user), h.seen_at, p_found, p_tenants, p_rule
  from retention.heartbeat h
  returning surge_id into v_surge_id;
  perform retention._tell('surge', row_to_json(p))
  from (
    select 'surge' as kind,
      v_surge_id as surge_id,
      p_found as results,
      p_tenants as tenants,
      retention._iso(now()) as at
  ) p;
  return v_surge_id;
end
$$;

-- Puts parked results that are ordinary into batches: all of p_surge_id (null: what is not judged yet), but for the
-- tenants p_but. What is left of the parts stays. Returns how many results and batches, and when the oldest completed.
create or replace function retention._put_to_work(
  p_surge_id bigint,
  p_but text[],
  p_late_since timestamptz,
  out flagged bigint,
  out batches bigint,
  out oldest timestamptz
)
language plpgsql
set work_mem = '128MB'
as $$
declare
  -- What was set aside goes since a person has released it.
  v_asked_by text := case when p_surge_id is not null then session_user end;
begin
  insert into retention.bucket (bucket)
  select distinct p.bucket
  from retention.surge_part p
  where p.surge_id is not distinct from p_surge_id
  on conflict do nothing;
  if p_but = '{}' then
    -- Packed as they are.
    with moved as (
      insert into retention.batch (bucket, results, oldest, newest, due_since, late_since, asked_by, run_ids, keys, tenants)
      select p.bucket, p.results, p.oldest, p.newest, p.due_since, p_late_since, v_asked_by, p.run_ids, p.keys, p.tenants
      from retention.surge_part p
      where p.surge_id is not distinct from p_surge_id
      order by p.oldest, p.part_id
      returning batch.results, batch.oldest
    )
    select coalesce(sum(m.results), 0), count(*), min(m.oldest) into flagged, batches, oldest from moved m;
    delete from retention.surge_part p where p.surge_id is not distinct from p_surge_id;
    return;
  end if;
  with moved as (
    insert into retention.batch (bucket, results, oldest, newest, due_since, late_since, asked_by, run_ids, keys, tenants)
    select n.bucket, count(*), min(n.oldest), max(n.newest), min(n.due_since), p_late_since, v_asked_by,
      array_agg(n.run_id order by n.place), array_agg(n.key order by n.place), array_agg(n.tenant_id order by n.place)
    from (
      select p.bucket, p.oldest, p.newest, p.due_since, u.run_id, u.key, u.tenant_id,
        row_number() over (partition by p.bucket order by p.oldest, p.part_id, u.n) as place
      from retention.surge_part p
      cross join lateral unnest(p.run_ids, p.keys, p.tenants) with ordinality as u (run_id, key, tenant_id, n)
      where p.surge_id is not distinct from p_surge_id
        and retention._tenant_key(u.tenant_id) not in (select unnest(p_but))
    ) n
    group by n.bucket, (n.place - 1) / (select s.batch_size from retention.setting s)
    order by min(n.oldest)
    returning batch.results, batch.oldest
  )
  select coalesce(sum(m.results), 0), count(*), min(m.oldest) into flagged, batches, oldest from moved m;
  if flagged = 0 then
    return;
  end if;
  delete from retention.surge_part p
  where p.surge_id is not distinct from p_surge_id
    and not exists (
      select
      from unnest(p.tenants) as u (tenant_id)
      where retention._tenant_key(u.tenant_id) in (select unnest(p_but))
    );
  update retention.surge_part p
  set results = k.results,
    run_ids = k.run_ids,
    keys = k.keys,
    tenants = k.tenants
  from (
    select x.part_id,
      count(*) as results,
      array_agg(u.run_id order by u.n) as run_ids,
      array_agg(u.key order by u.n) as keys,
      array_agg(u.tenant_id order by u.n) as tenants
    from retention.surge_part x
    cross join lateral unnest(x.run_ids, x.keys, x.tenants) with ordinality as u (run_id, key, tenant_id, n)
    where x.surge_id is not distinct from p_surge_id
      and retention._tenant_key(u.tenant_id) in (select unnest(p_but))
    group by x.part_id
  ) k
  where p.part_id = k.part_id
    and p.results <> k.results;
end
$$;

-- Judges what the passes of a walk have parked. What is ordinary becomes batches, and the rest one surge. Called when
-- a pass finds no more, so that all late results of a slip are seen together.
create or replace function retention._decide_late(
  p_found_by text,
  out flagged bigint,
  out batches bigint,
  out oldest timestamptz,
  out surge_id bigint,
  out set_aside bigint
)
language plpgsql
set enable_seqscan = on
set enable_sort = on
set jit = off
set work_mem = '128MB'
as $$
#variable_conflict use_variable
declare
  v_keys text[];
  v_results bigint[];
  v_uncovered bigint[];
  v_rules text[];
  v_over text[];
  v_late_since timestamptz := (select coalesce(h.seen_at, 'infinity') from retention.heartbeat h);
begin
  flagged := 0;
  batches := 0;
  set_aside := 0;
  if not exists (select from retention.surge_part p where p.surge_id is null) then
    return;
  end if;
  select array_agg(t.tenant_key), array_agg(t.results)
  into v_keys, v_results
  from (
    select retention._tenant_key(u.tenant_id) as tenant_key, count(*) as results
    from retention.surge_part p
    cross join lateral unnest(p.tenants) as u (tenant_id)
    where p.surge_id is null
    group by 1
  ) t;
  select array_agg(j.tenant_key), array_agg(j.results), array_agg(j.uncovered), array_agg(j.rule),
    coalesce(array_agg(j.tenant_key) filter (where j.rule is not null), '{}'),
    coalesce(sum(j.results) filter (where j.rule is not null), 0)
  into v_keys, v_results, v_uncovered, v_rules, v_over, set_aside
  from retention._judge(v_keys, v_results) j;
  if set_aside < (select sum(r.results) from unnest(v_results) as r (results)) then
    select w.flagged, w.batches, w.oldest
    into flagged, batches, oldest
    from retention._put_to_work(null, v_over, v_late_since) w;
  end if;
  if set_aside > 0 then
    surge_id := retention._open_surge(
      set_aside, cardinality(v_over), case when 'tenant' = any (v_rules) then 'tenant' else 'all' end, p_found_by
    );
    update retention.surge_part p
    set surge_id = _decide_late.surge_id
    where p.surge_id is null;
  end if;
  perform retention._note_lateness(v_keys, v_results, v_uncovered, v_rules);
end
$$;
