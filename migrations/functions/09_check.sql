/*
The check of promise 1, made of a batch when it is claimed. A result for which it raises is set apart, and keeps no
other waiting.
*/

-- The results of a batch, in their order, with their keys as S3 knows them.
create or replace function retention._results(p_batch retention.batch)
returns table (run_id retention.run_id, key text, tenant_id text, n bigint)
language sql
stable
rows 1000
as $$
  select u.run_id, retention._unpack_key(u.key, u.run_id::text), u.tenant_id, u.n
  from unnest(p_batch.run_ids, p_batch.keys, p_batch.tenants) with ordinality as u (run_id, key, tenant_id, n)
  -- Unpacked once, however often it is named.
  offset 0
$$;

-- Whether a cutoff that a person confirmed has passed for a result. p_due_at: as the rules have it; null: it never
-- falls due, by no cutoff either.
create or replace function retention._is_past(
  p_due_at timestamptz,
  p_completed_at timestamptz,
  p_early interval,
  p_retain_until timestamptz
)
returns boolean
language sql
stable
return p_due_at is not null
  and coalesce(
    greatest(least(p_completed_at, timestamptz '290000-01-01 00:00Z') + p_early, p_retain_until) < now(),
    false
  );

-- What _may_go returns, for a batch in which many results share objects: each object is looked up once, and each
-- run by its id.
create or replace function retention._may_go_by_object(
  p_batch retention.batch,
  p_shared boolean,
  p_early interval,
  out spared bigint[],
  out keys text[],
  out shares boolean
)
language sql
stable
as $$
  select coalesce(array_agg(x.n order by x.n) filter (where x.may_go is not true), '{}'),
    coalesce(array_agg(distinct x.key) filter (where x.may_go), '{}'),
    p_shared
  from (
    select k.key,
      u.n,
      s.may_go and (not p_shared or o.not_due = s.not_due) as may_go
    from (
      select e.key collate "C" as key,
        array_agg(e.run_id) as run_ids,
        array_agg(e.n) as ns
      from retention._results(p_batch) e
      group by e.key collate "C"
    ) k
    cross join lateral (
      select count(*) filter (where not r.is_due) as not_due
      from retention._live r
      where p_shared
        and r.key_hash = retention._key_hash(k.key)
        and r.key = k.key
        and r.bucket = p_batch.bucket
    ) o
    cross join lateral unnest(k.run_ids, k.ns) as u (run_id, n)
    cross join lateral (
      select bool_and(
          r.is_due
          or p_early is not null
            and not r.held
            and retention._is_past(r.due_at, r.completed_at, p_early, r.retain_until)
        ) as may_go,
        count(*) filter (where not r.is_due) as not_due
      from retention._live r
      where r.run_id = u.run_id
        and r.key = k.key
        and r.bucket = p_batch.bucket
        and r.completed_at between p_batch.oldest and p_batch.newest
    ) s
  ) x
$$;

-- Promise 1, for the results of one batch: spared are the places (from 1) of those that may not go, keys
-- those of the others. A result may when its run is due by the policy in force now (or by the cutoff that a
-- person confirmed for this batch), is not held, still points at that very bucket and key, completed when it was
-- flagged (in the stretch of the batch: later is another life of it, with another object), and no other run
-- that is not itself due points at them too. keys may name a key twice where few share it. shares: some object of those
-- that may go has more than one run; false also where it was not looked for. Called by claim under its planner settings.
create or replace function retention._may_go(
  p_batch retention.batch,
  p_shared boolean,
  out spared bigint[],
  out keys text[],
  out shares boolean
)
language plpgsql
stable
as $$
declare
  v_early interval := retention._in_seconds(p_batch.early);
begin
  -- Results without their run's id in the key may share objects by the thousand. A sample of the keys as they are
  -- packed shows it; one that is missed costs time and nothing else.
  if exists (
    select
    from unnest(
      case
        when p_batch.results < 256 then p_batch.keys
        else p_batch.keys[1:48]
          || p_batch.keys[p_batch.results / 2:p_batch.results / 2 + 47]
          || p_batch.keys[p_batch.results - 47:]
      end
    ) as k (key)
    where strpos(k.key, E'\x01') = 0
    group by k.key
    having count(*) > 1
  ) then
    select m.spared, m.keys, m.shares
    into spared, keys, shares
    from retention._may_go_by_object(p_batch, p_shared, v_early) m;
    return;
  end if;
  -- The aggregates keep this a probe by key, or by run id: joined to the view as a whole, it is a scan.
  if p_shared and v_early is null then
    select coalesce(array_agg(e.n) filter (where o.may_go is not true), '{}'),
      coalesce(array_agg(e.key) filter (where o.may_go), '{}'),
      bool_or(o.runs > 1)
    into spared, keys, shares
    from retention._results(p_batch) e
    cross join lateral (
      -- By its key, one probe finds the run itself and any other that needs the object.
      select bool_or(r.run_id = e.run_id and r.completed_at between p_batch.oldest and p_batch.newest)
        and bool_and(r.is_due) as may_go,
        count(*) as runs
      from retention._live r
      where r.key_hash = retention._key_hash(e.key)
        and r.key = e.key collate "C"
        and r.bucket = p_batch.bucket
    ) o;
  elsif p_shared then
    select coalesce(array_agg(e.n) filter (where o.may_go is not true), '{}'),
      coalesce(array_agg(e.key) filter (where o.may_go), '{}'),
      bool_or(o.runs > 1)
    into spared, keys, shares
    from retention._results(p_batch) e
    cross join lateral (
      select bool_or(r.run_id = e.run_id and r.completed_at between p_batch.oldest and p_batch.newest)
        and bool_and(
          r.is_due
          or r.run_id = e.run_id
            and not r.held
            and retention._is_past(r.due_at, r.completed_at, v_early, r.retain_until)
        ) as may_go,
        count(*) as runs
      from retention._live r
      where r.key_hash = retention._key_hash(e.key)
        and r.key = e.key collate "C"
        and r.bucket = p_batch.bucket
    ) o;
  else
    select coalesce(array_agg(e.n) filter (where o.may_go is not true), '{}'),
      coalesce(array_agg(e.key) filter (where o.may_go), '{}')
    into spared, keys
    from retention._results(p_batch) e
    cross join lateral (
      select bool_and(
        r.is_due
        or v_early is not null
          and not r.held
          and retention._is_past(r.due_at, r.completed_at, v_early, r.retain_until)
      ) as may_go
      from retention._live r
      where r.run_id = e.run_id
        and r.key = e.key collate "C"
        and r.bucket = p_batch.bucket
        and r.completed_at between p_batch.oldest and p_batch.newest
    ) o;
  end if;
end
$$;

-- What _may_go returns, and what raises on the way. A batch that raises is checked in halves, until the result that
-- raises stands alone: failed are its places, codes and errors what was raised. is_late: the session's time limit was
-- over, and nothing else is known. Raises what says nothing of the results: see _is_passing.
create or replace function retention._check(
  p_batch retention.batch,
  p_shared boolean,
  out spared bigint[],
  out keys text[],
  out failed bigint[],
  out codes text[],
  out errors text[],
  out is_late boolean
)
language plpgsql
as $$
declare
  v_firsts integer[] := array[1];
  v_lasts integer[] := array[p_batch.results];
  v_first integer;
  v_last integer;
  v_part retention.batch;
  v_checked record;
begin
  spared := '{}';
  keys := '{}';
  failed := '{}';
  codes := '{}';
  errors := '{}';
  is_late := false;
  while cardinality(v_firsts) > 0 loop
    v_first := v_firsts[cardinality(v_firsts)];
    v_last := v_lasts[cardinality(v_lasts)];
    v_firsts := trim_array(v_firsts, 1);
    v_lasts := trim_array(v_lasts, 1);
    begin
      if v_first = 1 and v_last = p_batch.results then
        select a.spared, a.keys
        into strict spared, keys
        from retention._may_go(p_batch, p_shared) m
        cross join lateral retention._spare_held(p_batch, m.spared, m.keys) h
        cross join lateral retention._spare_set_aside(p_batch, h.spared, h.keys, m.shares) a;
        perform retention._check_text(keys);
        return;
      end if;
      v_part := p_batch;
      v_part.results := v_last - v_first + 1;
      v_part.run_ids := p_batch.run_ids[v_first:v_last];
      v_part.keys := p_batch.keys[v_first:v_last];
      v_part.tenants := p_batch.tenants[v_first:v_last];
      select a.spared, a.keys
      into strict v_checked
      from retention._may_go(v_part, p_shared) m
      cross join lateral retention._spare_held(v_part, m.spared, m.keys) h
      cross join lateral retention._spare_set_aside(v_part, h.spared, h.keys, m.shares) a;
      perform retention._check_text(v_checked.keys);
      spared := spared || array(select s.n + v_first - 1 from unnest(v_checked.spared) as s (n));
      keys := keys || v_checked.keys;
    exception
      when query_canceled then
        is_late := true;
        errors := array[sqlerrm];
        return;
      when others then
        if retention._is_passing(sqlstate) then
          raise;
        end if;
        if v_first = v_last then
          failed := failed || v_first::bigint;
          codes := codes || sqlstate::text;
          errors := errors || sqlerrm::text;
        else
          spared := coalesce(spared, '{}');
          keys := coalesce(keys, '{}');
          v_firsts := v_firsts || ((v_first + v_last) / 2 + 1) || v_first;
          v_lasts := v_lasts || v_last || ((v_first + v_last) / 2);
        end if;
    end;
  end loop;
  keys := array(select distinct k.key collate "C" from unnest(keys) as k (key));
end
$$;

-- Raises where a text cannot leave the database as UTF-8: its reply would fail after everything else.
create or replace function retention._check_text(p_texts text[])
returns void
language plpgsql
stable
as $$
begin
  if getdatabaseencoding() <> 'UTF8' then
    perform count(convert_to(t.text, 'UTF8')) from unnest(p_texts) as t (text);
  end if;
end
$$;

-- Until when an object is needed by runs that are not due, and by which of them. Null: no run that is due waits
-- for one that is not. Held ones, those that never fall due, and those that are set aside need it for ever, and so does
-- a hold whose row has gone: a sweep looks again.
create or replace function retention._needed(
  p_bucket text,
  p_key text,
  out until timestamptz,
  out run_id retention.run_id
)
language sql
stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
  select case
      when bool_or(r.is_due) then greatest(
        max(case when r.held or r.due_at is null or r.due_at < now() then 'infinity' else r.due_at end)
          filter (where not r.is_due),
        case
          when retention._is_held_object(p_bucket, p_key) or retention._is_set_aside_object(p_bucket, p_key)
          then timestamptz 'infinity'
        end
      )
    end,
    (array_agg(r.run_id) filter (where not r.is_due))[1]
  from retention._live r
  where r.key_hash = retention._key_hash(p_key)
    and r.key = p_key collate "C"
    and r.bucket = p_bucket
$$;

-- Remembers the objects of spared results that another run needs, so that no pass flags them before its time.
create or replace function retention._note_shared_objects(p_batch retention.batch, p_spared bigint[])
returns void
language sql
as $$
  insert into retention.shared_object (bucket, key, until, run_id)
  select p_batch.bucket, k.key, n.until, n.run_id
  from (
    select distinct e.key collate "C" as key
    from retention._results(p_batch) e
    where e.n in (select unnest(p_spared))
  ) k
  cross join lateral retention._needed(p_batch.bucket, k.key) n
  where n.until is not null
  on conflict (bucket, key) do update
  set until = excluded.until,
    run_id = excluded.run_id,
    noted_at = now()
$$;
