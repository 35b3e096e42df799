/*
The steps of the standing verify, written down when they were done, and what it has found.
*/

-- Whether a run of the standing verify is still p_holder's, and that it is worked on now. No other verify's is.
create or replace function retention._hold_standing(p_verify_id uuid, p_holder uuid)
returns boolean
language sql
as $$
  select exists (select from retention.verify_run r where r.verify_id = p_verify_id and r.kind = 'standing')
    and retention._hold_verify(p_verify_id, p_holder)
$$;

-- Says when the next step is, after one that went well. The end asks the store for nothing, so it comes at once.
create or replace function retention._pause_standing(p_verify_id uuid)
returns void
language sql
as $$
  update retention.standing_verify s
  set next_at = clock_timestamp() + case
      when exists (select from retention.verify_part p where p.verify_id = p_verify_id and p.is_listed)
        and not exists (select from retention.verify_stretch t where t.verify_id = p_verify_id)
        then interval '0'
      else retention._standing_pause(s)
    end,
    code = null,
    problem = null,
    problem_at = null
  where s.verify_id = p_verify_id
$$;

-- Writes down a page of the listing that next_standing_step asked for. p_until: its last key; null: there is no more. p_keys: what it
-- lists in the order of bytes, without our own objects; p_bytes, p_modified, p_etags: of each. The first page of a bucket
-- copies the keys of its live rows: it reads the application's table once, so the session should have no statement_timeout.
-- Returns false, and writes nothing, when another listener has taken over.
-- For the listener.
-- Locks the rows of the bucket's verify.
create or replace function retention.note_standing_page(
  p_verify_id uuid,
  p_holder uuid,
  p_until text,
  p_keys text[],
  p_bytes bigint[],
  p_modified timestamptz[],
  p_etags text[]
)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_part retention.verify_part;
  v_run retention.verify_run;
  v_run_ids text[];
  v_keys text[];
  v_dues boolean[];
  v_after text;
  v_until text := p_until;
  v_listed bigint;
begin
  if not retention._hold_standing(p_verify_id, p_holder) then
    return false;
  end if;
  select * into strict v_run from retention.verify_run r where r.verify_id = p_verify_id;
  select * into strict v_part from retention.verify_part p where p.verify_id = p_verify_id;
  select array_agg(c.run_id order by c.n), array_agg(c.key order by c.n), array_agg(c.is_due order by c.n)
  into v_run_ids, v_keys, v_dues
  from retention.compare_listing(
    p_verify_id, v_run.bucket, v_part.prefix, v_part.at_key, p_until, p_keys, p_bytes, p_modified,
    v_run.began_at - interval '1 hour', p_etags
  ) with ordinality as c (run_id, key, is_due, n);
  if v_keys is not null then
    -- The last listed key before the first missing one: where a second look begins.
    select max(k collate "C") into v_after from unnest(p_keys) k where k < v_keys[1] collate "C";
    insert into retention.verify_stretch (verify_id, part, after_key, run_ids, keys, dues)
    values (p_verify_id, v_part.part, coalesce(v_after, v_part.at_key), v_run_ids, v_keys, v_dues);
    if cardinality(v_keys) >= 1000 then
      -- There may be more: the next page begins after the last of them.
      v_until := v_keys[cardinality(v_keys)];
    end if;
  end if;
  select count(*) into v_listed from unnest(p_keys) k where v_until is null or k <= v_until collate "C";
  update retention.verify_part p
  set at_key = coalesce(v_until, p.at_key),
    is_listed = v_until is null,
    listed = p.listed + v_listed
  where p.verify_id = p_verify_id;
  update retention.standing_verify s
  set pages = s.pages + 1,
    listed_now = s.listed_now + v_listed,
    expected = case
      when s.pages > 0 then s.expected
      else greatest(
        s.listed / 1000,
        (select count(*) from retention.key_copy c join retention.key_stretch t using (copy_id) where c.verify_id = p_verify_id)
      ) + 1
    end
  where s.verify_id = p_verify_id;
  perform retention._pause_standing(p_verify_id);
  return true;
end
$$;

-- Ends the look that next_standing_step asked for. p_gone: which of its keys have no object now either. Their rows count as drift if
-- they still point there, and if no listener deletes them at this moment. Returns false, and writes nothing, when another
-- listener has taken over.
-- For the listener.
-- Locks the rows of the bucket's verify.
create or replace function retention.note_standing_look(p_verify_id uuid, p_holder uuid, p_stretch_id bigint, p_gone text[])
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_bucket text := (select r.bucket from retention.verify_run r where r.verify_id = p_verify_id);
  v_run_ids retention.run_id[];
  v_keys text[];
  v_live integer[];
  v_kept bigint := (select count(*) from retention.standing_gone g where g.verify_id = p_verify_id);
begin
  if not retention._hold_standing(p_verify_id, p_holder) then
    return false;
  end if;
  select array_agg(u.run_id order by u.n), array_agg(u.key order by u.n)
  into v_run_ids, v_keys
  from retention.verify_stretch s
  cross join unnest(s.run_ids, s.keys) with ordinality as u (run_id, key, n)
  where s.verify_id = p_verify_id
    and s.stretch_id = p_stretch_id
    and u.key in (select g from unnest(p_gone) g);
  if v_run_ids is not null then
    v_live := array(
      select n
      from retention._still_live(
        v_bucket, v_run_ids,
        array(select retention._pack_key(u.key, u.run_id::text) from unnest(v_run_ids, v_keys) with ordinality as u (run_id, key, n) order by u.n),
        '-infinity', 'infinity'
      ) n
      where v_run_ids[n] not in (select a.run_id from retention._being_deleted(v_bucket) a)
    );
    insert into retention.standing_gone (bucket, run_id, key, verify_id)
    select distinct on (v_run_ids[n]) v_bucket, v_run_ids[n], v_keys[n], p_verify_id
    from unnest(v_live) n
    limit greatest(1000 - v_kept, 0)
    on conflict on constraint standing_gone_pkey do update
    set key = excluded.key,
      verify_id = excluded.verify_id;
    update retention.standing_verify s set found = s.found + cardinality(v_live) where s.verify_id = p_verify_id;
  end if;
  delete from retention.verify_stretch s where s.verify_id = p_verify_id and s.stretch_id = p_stretch_id;
  perform retention._pause_standing(p_verify_id);
  return true;
end
$$;

-- Ends the standing verify of a bucket, of which everything was listed: it counts what is drift, and the next verify begins in its
-- time. Returns the counts. It reads the application's table once where objects were listed that no live row points at, so the session should have no
-- statement_timeout. Returns no row, and writes nothing, when another listener has taken over.
-- For the listener.
-- Locks the rows of the bucket's verify.
create or replace function retention.end_standing(p_verify_id uuid, p_holder uuid)
returns table (gone bigint, returned bigint, orphans bigint)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  v_run retention.verify_run;
  v_strays record;
begin
  if not retention._hold_standing(p_verify_id, p_holder) then
    return;
  end if;
  select * into strict v_run from retention.verify_run r where r.verify_id = p_verify_id;
  select t.* into strict v_strays from retention.sort_strays(p_verify_id, v_run.began_at, interval '1 day') t;
  delete from retention.standing_gone g where g.bucket = v_run.bucket and g.verify_id <> p_verify_id;
  perform retention._pause_standing(p_verify_id);
  update retention.standing_verify s
  set verify_id = null,
    finished_at = clock_timestamp(),
    listed = s.listed_now,
    gone = s.found,
    found = 0,
    returned = v_strays.returned,
    orphans = v_strays.orphans,
    orphan_bytes = v_strays.orphan_bytes,
    next_at = greatest(s.began_at + s.every, clock_timestamp())
  where s.verify_id = p_verify_id
  returning s.gone, s.returned, s.orphans into gone, returned, orphans;
  perform retention._drop_verify(p_verify_id);
  return next;
end
$$;

-- Writes down why a step could not be done: it is tried again in 10 minutes, and after an hour where it was denied. Other
-- buckets go on meanwhile. Of a step that another listener has taken over nothing is written.
-- For the listener.
-- Locks the row of the bucket's verify.
create or replace function retention.note_standing_problem(p_verify_id uuid, p_holder uuid, p_code text, p_problem text)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$
  update retention.standing_verify s
  set code = left(coalesce(p_code, 'Unknown'), 64),
    problem = left(coalesce(p_problem, ''), 500),
    problem_at = clock_timestamp(),
    next_at = clock_timestamp() + case when p_code = 'AccessDenied' then interval '1 hour' else interval '10 minutes' end
  from retention.verify_run r
  where s.verify_id = p_verify_id
    and r.verify_id = p_verify_id
    and r.holder = p_holder
$$;

-- What the standing verify has found, by bucket: {"bucket", "every_seconds", "age_seconds" (since the last one that came to its end,
-- or since listeners first asked), "finished_at", "listed" (by it), "gone" (live rows whose object is gone, by it or
-- since), "returned" (cleared rows whose object is there), "orphans", "orphan_bytes", "is_running", "listed_now", "is_off" (it may
-- not list), "code", "problem"}. Buckets of which no listener has asked for a day are left out. Null: there is none.
-- For observers.
create or replace function retention.standing_state()
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  select jsonb_agg(
    jsonb_build_object(
      'bucket', s.bucket,
      'every_seconds', extract(epoch from s.every),
      'age_seconds', extract(epoch from greatest(clock_timestamp() - coalesce(s.finished_at, s.first_at), '0')),
      'finished_at', retention._iso(s.finished_at),
      'listed', s.listed,
      'gone', greatest(s.gone, s.found),
      'returned', s.returned,
      'orphans', s.orphans,
      'orphan_bytes', s.orphan_bytes,
      'is_running', s.verify_id is not null,
      'listed_now', s.listed_now,
      'is_off', coalesce(s.code = 'AccessDenied', false),
      'code', s.code,
      'problem', s.problem
    )
    order by s.bucket
  )
  from (
    select *
    from retention.standing_verify s
    where s.asked_at > clock_timestamp() - interval '1 day'
    order by s.bucket
    limit 50
  ) s
$$;
