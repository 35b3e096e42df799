/*
The standing verify: listeners compare each bucket with its rows all the time, once in so many days (RETENTION_VERIFY_DAYS),
one bucket after the other, and one page of a listing at a time. A step is one request or a few, and is written down when it
was done: whichever listener comes first when it is time does the next one, so what is ended repeats one step. Nothing is
stamped, made work again or deleted: what is found is counted in retention.standing_verify. It has its progress where every
verify has it, as a run of kind standing.
*/

-- How long to wait before the next step of a bucket, so that its pages are spread over the time: up to a minute, which is
-- what a small bucket has, and a second at least. A bucket of which more is listed than was expected has as much to come as
-- half of what was listed.
create or replace function retention._standing_pause(p_standing retention.standing_verify)
returns interval
language sql
stable
as $$
  select least(
    greatest(
      (p_standing.began_at + p_standing.every * 0.9 - clock_timestamp())
        / greatest(p_standing.expected - p_standing.pages, p_standing.pages / 2, 1),
      interval '1 second'
    ),
    interval '1 minute'
  )
$$;

-- Takes out of what the standing verify has kept what is no longer so: the row was stamped, changed or deleted since. Where
-- that was all that is kept of many more, the bucket is verified again.
create or replace function retention._recheck_gone(p_bucket text)
returns void
language plpgsql
as $$
declare
  v_run_ids retention.run_id[];
  v_keys text[];
  v_live integer[];
  v_dropped bigint;
  v_dropped_now bigint;
begin
  update retention.standing_verify s
  set rechecked_at = clock_timestamp()
  where s.bucket = p_bucket;
  select array_agg(g.run_id order by g.run_id), array_agg(retention._pack_key(g.key, g.run_id::text) order by g.run_id)
  into v_run_ids, v_keys
  from retention.standing_gone g
  where g.bucket = p_bucket;
  if v_run_ids is null then
    return;
  end if;
  v_live := array(select retention._still_live(p_bucket, v_run_ids, v_keys, '-infinity', 'infinity'));
  with dropped as (
    delete from retention.standing_gone g
    where g.bucket = p_bucket
      and g.run_id not in (select v_run_ids[n] from unnest(v_live) n)
    returning g.verify_id
  )
  select count(*) filter (where d.verify_id is distinct from s.verify_id), count(*) filter (where d.verify_id = s.verify_id)
  into v_dropped, v_dropped_now
  from dropped d
  cross join retention.standing_verify s
  where s.bucket = p_bucket;
  update retention.standing_verify s
  set gone = greatest(s.gone - v_dropped, 0),
    found = greatest(s.found - v_dropped_now, 0),
    next_at = case
      when s.verify_id is null and s.gone > v_dropped and v_live = '{}' then clock_timestamp()
      else s.next_at
    end
  where s.bucket = p_bucket;
end
$$;

-- Begins the verify of a bucket, or one that was lost in a crash of the server.
create or replace function retention._begin_standing(p_bucket text)
returns uuid
language plpgsql
as $$
declare
  v_run retention.verify_run;
begin
  perform retention._drop_verify(r.verify_id)
  from retention.verify_run r
  where r.kind = 'standing'
    and r.bucket = p_bucket;
  insert into retention.verify_run (verify_id, kind, bucket, prefixes, holder)
  values (gen_random_uuid(), 'standing', p_bucket, '{}', gen_random_uuid())
  returning * into v_run;
  perform retention._part_verify(v_run, 1);
  delete from retention.standing_gone g
  using retention.standing_verify s
  where s.bucket = p_bucket
    and g.bucket = p_bucket
    and g.verify_id = s.verify_id;
  update retention.standing_verify s
  set verify_id = v_run.verify_id,
    began_at = v_run.began_at,
    pages = 0,
    expected = 0,
    listed_now = 0,
    found = 0
  where s.bucket = p_bucket;
  return v_run.verify_id;
end
$$;

-- What the standing verify wants done now, for whichever listener asks first. step: list (one page of the bucket's listing,
-- after after_key), look (whether the keys still have no object; they come after after_key in the listing), end (of the
-- bucket), or null: nothing, for so many seconds. What is given is that listener's for 5 minutes. p_buckets: those that it may
-- look at; one after the other is verified. p_every: how long after a verify of a bucket began its next one begins.
-- For the listener.
-- Locks the rows of the bucket's verify.
-- Raises object_not_in_prerequisite_state where an index on the application's table is missing.
create or replace function retention.next_standing_step(p_buckets text[], p_every interval)
returns table (step text, bucket text, verify_id uuid, holder uuid, after_key text, stretch_id bigint, keys text[], seconds double precision)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  v_standing retention.standing_verify;
  v_holder uuid := gen_random_uuid();
begin
  seconds := 60;
  if not pg_try_advisory_xact_lock(hashtextextended('retention standing verify', 0)) then
    return next;
    return;
  end if;
  perform retention._check_indexes();
  insert into retention.standing_verify (bucket, every)
  select u.b, p_every
  from unnest(p_buckets) as u (b)
  where not exists (select from retention.standing_verify s where s.bucket = u.b);
  update retention.standing_verify s
  set asked_at = clock_timestamp(),
    every = p_every,
    next_at = case when s.verify_id is null and s.every <> p_every then coalesce(s.began_at + p_every, s.next_at) else s.next_at end
  where s.bucket = any (p_buckets)
    and (s.every <> p_every or s.asked_at < clock_timestamp() - interval '1 hour');
  perform retention._recheck_gone(s.bucket)
  from retention.standing_verify s
  where s.bucket = any (p_buckets)
    and s.rechecked_at < clock_timestamp() - interval '10 minutes';

  select s.* into v_standing
  from retention.standing_verify s
  where s.bucket = any (p_buckets)
    and s.next_at <= clock_timestamp()
    -- One after the other; what cannot go on at present keeps no other waiting.
    and (
      s.verify_id is not null
      or not exists (
        select
        from retention.standing_verify o
        where o.bucket = any (p_buckets)
          and o.verify_id is not null
          and o.code is null
      )
    )
  order by s.verify_id is null, s.next_at, s.bucket
  limit 1
  for update skip locked;
  if not found then
    select least(greatest(extract(epoch from min(s.next_at) - clock_timestamp()), 1), 60) into seconds
    from retention.standing_verify s
    where s.bucket = any (p_buckets);
    seconds := coalesce(seconds, 60);
    return next;
    return;
  end if;
  if v_standing.verify_id is null
    or not exists (select from retention.verify_run r where r.verify_id = v_standing.verify_id)
  then
    v_standing.verify_id := retention._begin_standing(v_standing.bucket);
  end if;
  -- Locked: its listener is at the step, however long that takes.
  perform from retention.verify_run r where r.verify_id = v_standing.verify_id for update skip locked;
  if not found then
    return next;
    return;
  end if;
  update retention.verify_run r
  set holder = v_holder,
    worked_at = clock_timestamp()
  where r.verify_id = v_standing.verify_id;
  update retention.standing_verify s
  set next_at = clock_timestamp() + interval '5 minutes'
  where s.bucket = v_standing.bucket;
  return query
  select case when t.stretch_id is not null then 'look' when p.is_listed then 'end' else 'list' end,
    v_standing.bucket, p.verify_id, v_holder,
    case when t.stretch_id is null then p.at_key else t.after_key end,
    t.stretch_id, t.keys, 0::double precision
  from retention.verify_part p
  left join lateral (
    select s.stretch_id, s.after_key, s.keys
    from retention.verify_stretch s
    where s.verify_id = p.verify_id
      and s.part = p.part
    order by s.stretch_id
    limit 1
  ) t on true
  where p.verify_id = v_standing.verify_id;
end
$$;
