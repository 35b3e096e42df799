/*
Shared objects: what is known of objects that a run which is not due still needs. They are noted when a claim spares
what waits for them (09_check), and reviewed by the passes that start from the oldest result.

A run that is set aside in a surge needs its object too: no person has confirmed yet that it may go.
*/

-- Those of some keys that a run which is set aside points at. Its row is found by the key and the surge by when the run
-- completed, so it costs a probe for each key, and what was set aside of the time of those that share it.
create or replace function retention._set_aside_keys(p_bucket text, p_keys text[])
returns text[]
language plpgsql
stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
  v_found record;
begin
  select array_agg(k.key) as keys,
    array_agg(l.run_id) as run_ids,
    min(l.completed_at) as first_completed_at,
    max(l.completed_at) as completed_at
  into v_found
  from unnest(p_keys) as k (key)
  cross join lateral (
    select r.run_id, r.completed_at
    from retention._live r
    where r.key_hash = retention._key_hash(k.key)
      and r.key = k.key collate "C"
      and r.bucket = p_bucket
    offset 0
  ) l;
  return array(
    select distinct s.key
    from unnest(v_found.keys, v_found.run_ids) as s (key, run_id)
    -- As an expression it is hashed: as a join it would compare each with all.
    where (
      s.run_id in (
        select a.run_id
        from retention._set_aside_between(v_found.first_completed_at, v_found.completed_at) as a (run_id)
      )
    ) is true
  );
end
$$;

-- Whether a run that is set aside points at an object.
create or replace function retention._is_set_aside_object(p_bucket text, p_key text)
returns boolean
language sql
stable
as $$
  select exists (select from retention.surge_part)
    and cardinality(retention._set_aside_keys(p_bucket, array[p_key])) > 0
$$;

-- Takes out of the keys of a batch those whose object a run that is set aside points at, and adds their places to the
-- spared ones. p_shares: some object has more than one run; else, and where nothing is set aside, it looks at nothing.
create or replace function retention._spare_set_aside(
  p_batch retention.batch,
  p_spared bigint[],
  p_keys text[],
  p_shares boolean,
  out spared bigint[],
  out keys text[]
)
language plpgsql
stable
as $$
declare
  v_set_aside text[];
begin
  spared := p_spared;
  keys := p_keys;
  if p_shares is not true or not exists (select from retention.surge_part) then
    return;
  end if;
  v_set_aside := retention._set_aside_keys(p_batch.bucket, array(select distinct k.key from unnest(p_keys) as k (key)));
  if v_set_aside = '{}' then
    return;
  end if;
  keys := array(
    select k.key from unnest(p_keys) as k (key) where k.key collate "C" not in (select unnest(v_set_aside) collate "C")
  );
  spared := array(
    select n.place from unnest(p_spared) as n (place)
    union
    select e.n from retention._results(p_batch) e where e.key collate "C" in (select unnest(v_set_aside) collate "C")
    order by 1
  );
end
$$;

-- Looks again at the oldest 10,000 notes: until when each object is needed. One that no run needs any more keeps the
-- moment from which that was so, until a complete walk has begun after it: results that waited for it fell due then.
-- Where the run that needed it is due itself, that is when it fell due, by its date or by the end of a hold.
-- One probe by key for each.
create or replace function retention._review_shared_objects()
returns void
language plpgsql
as $$
declare
  v_before timestamptz := (
    select max(o.noted_at)
    from (select s.noted_at from retention.shared_object s order by s.noted_at limit 10000) o
  );
  -- Without a guard nothing is late, and no note is kept for that.
  v_seen_at timestamptz := (
    select case when t.surge_guard is null then 'infinity' else coalesce(h.seen_at, '-infinity') end
    from retention.heartbeat h
    cross join retention.setting t
  );
begin
  if v_before is null then
    return;
  end if;
  merge into retention.shared_object s
  using (
    select o.bucket, o.key, n.until, n.run_id, o.until as noted_until, f.due_at
    from retention.shared_object o
    cross join lateral retention._needed(o.bucket, o.key) n
    cross join lateral retention._last_due(o.bucket, o.key, o.run_id) as f (due_at)
    where o.noted_at <= v_before
  ) n
  on n.bucket = s.bucket
    and n.key = s.key
  when matched and n.until is null and (n.noted_until <= v_seen_at or v_seen_at = 'infinity') then
    delete
  when matched and n.until is null then
    update set until = least(n.noted_until, coalesce(n.due_at, now())), noted_at = now()
  when matched then
    update set until = n.until, run_id = n.run_id, noted_at = now();
end
$$;

-- When the run that needed an object fell due itself, or its hold ended; null: it is not due, or needs another object.
create or replace function retention._last_due(p_bucket text, p_key text, p_run_id retention.run_id)
returns timestamptz
language sql
stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
  select max(
    greatest(
      r.due_at,
      (
        select max(
          retention._hold_end(h.released_at, h.expires_at)
          + case
            when h.tenant_id is null then interval '0'
            else (select s.release_spread from retention.setting s) * retention._place_in_line(r.run_id::text)
          end
        )
        from retention.hold h
        where h.run_id = r.run_id or h.tenant_id = r.tenant_id::text
      )
    )
  )
  from retention._live r
  where r.key_hash = retention._key_hash(p_key)
    and r.key = p_key collate "C"
    and r.bucket = p_bucket
    and r.run_id = p_run_id
    and r.is_due
$$;
