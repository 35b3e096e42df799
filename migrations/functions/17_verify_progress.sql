/*
How far verifies have come. A bucket is compared in parts (retention.verify_part), and each page of a part is written
down when it was compared, so that a verify that was killed goes on with the page that it was at. What was not listed is
noted here until a second look confirms it.
*/

-- Where to part the keys of a bucket so that its parts are listed side by side: up to p_parts - 1 keys from the statistics
-- of the application's table, in order. None for a table of less than 100,000 rows. A bad choice costs time alone.
create or replace function retention._verify_splits(p_parts integer)
returns text[]
language sql
stable
as $$
  select coalesce(array_agg(distinct b.bound collate "C" order by b.bound collate "C"), '{}')
  from (
    select u.bound, row_number() over (order by u.bound collate "C") as n, count(*) over () as bounds
    from retention.adapter a
    join pg_class c on c.oid = a.table_oid
    join pg_namespace m on m.oid = c.relnamespace
    join pg_stats s on s.schemaname = m.nspname
      and s.tablename = c.relname
      and s.attname = a.columns -> 'key' ->> 'name'
    cross join unnest(s.histogram_bounds::text::text[]) as u (bound)
    where c.reltuples >= 100000
      and u.bound <> ''
  ) b
  where b.bounds >= p_parts * 2
    and b.n in (select b.bounds * g / p_parts from generate_series(1, p_parts - 1) g)
$$;

-- Makes the parts of a run: one for each prefix, and of a whole bucket as many as it is worth. Called by resume_verify and
-- unsort_verify.
create or replace function retention._part_verify(p_run retention.verify_run, p_parts integer)
returns void
language plpgsql
as $$
declare
  v_splits text[] := '{}';
begin
  if p_run.prefixes = '{}' and not p_run.is_unsorted then
    v_splits := retention._verify_splits(p_parts);
  end if;
  insert into retention.verify_part (verify_id, part, prefix, after_key, until_key)
  select p_run.verify_id, p.part, p.prefix, p.after_key, p.until_key
  from (
    select g as part, '' as prefix, v_splits[g - 1] as after_key, v_splits[g] as until_key
    from generate_series(1, cardinality(v_splits) + 1) g
    where p_run.prefixes = '{}'
    union all
    select u.n, u.prefix, null, null
    from unnest(p_run.prefixes) with ordinality as u (prefix, n)
  ) p;
end
$$;

-- Begins to verify a bucket, or goes on with what was broken off: the same kind, bucket and prefixes. p_kind: repair, dry
-- run or orphans; list and inventory never go on. p_prefixes: empty: all keys. p_restart: what was broken off is forgotten. Progress that was
-- not worked on for 7 days is forgotten too. p_began_at: when what was listed was so; null: now. The process that worked on it
-- before does not go on: the holder is another one. before: what completed then or later is not judged, since its object may
-- be younger than the listing. resumed_at: when it was last worked on; null: it begins.
-- For operators.
-- Locks the row of the run. Raises object_not_in_prerequisite_state where an index on the application's table is missing.
create or replace function retention.resume_verify(
  p_bucket text,
  p_prefixes text[] default '{}',
  p_kind text default 'repair',
  p_restart boolean default false,
  p_began_at timestamptz default null
)
returns table (verify_id uuid, holder uuid, started_at timestamptz, before timestamptz, is_unsorted boolean, resumed_at timestamptz)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  v_run retention.verify_run;
  v_prefixes text[] := array(select distinct u.p collate "C" from unnest(p_prefixes) as u (p) order by 1);
  v_before timestamptz;
begin
  perform retention._check_indexes();
  perform retention._drop_verify(r.verify_id)
  from retention.verify_run r
  where r.worked_at < now() - interval '7 days'
    or p_restart
    and p_kind in ('repair', 'dry run', 'orphans')
    and (r.kind, r.bucket, r.prefixes) = (p_kind, p_bucket, v_prefixes);
  delete from retention.stray s
  where s.noted_at < now() - interval '2 days'
    and s.verify_id not in (select r.verify_id from retention.verify_run r);
  insert into retention.verify_run (verify_id, kind, bucket, prefixes, holder, began_at, is_unsorted)
  values (
    gen_random_uuid(), p_kind, p_bucket, v_prefixes, gen_random_uuid(), least(coalesce(p_began_at, now()), now()),
    p_kind = 'inventory'
  )
  on conflict do nothing
  returning * into v_run;
  if found then
    perform retention._part_verify(v_run, 4);
  else
    select * into strict v_run
    from retention.verify_run r
    where (r.kind, r.bucket, r.prefixes) = (p_kind, p_bucket, v_prefixes)
    for update;
    v_before := v_run.worked_at;
    update retention.verify_run r
    set holder = gen_random_uuid(),
      worked_at = clock_timestamp()
    where r.verify_id = v_run.verify_id
    returning * into strict v_run;
  end if;
  return query
  select v_run.verify_id, v_run.holder, v_run.began_at,
    (case when p_kind = 'inventory' then v_run.began_at else now() end) - interval '1 hour',
    v_run.is_unsorted, v_before;
end
$$;

-- Forgets a run and all that it has set aside.
create or replace function retention._drop_verify(p_verify_id uuid)
returns void
language sql
as $$
  delete from retention.stray s where s.verify_id = p_verify_id;
  delete from retention.verify_listed l where l.verify_id = p_verify_id;
  delete from retention.verify_run r where r.verify_id = p_verify_id;
  select retention._forget_copies(p_verify_id);
$$;

-- Whether a run is still p_holder's, and that it is worked on now.
create or replace function retention._hold_verify(p_verify_id uuid, p_holder uuid)
returns boolean
language plpgsql
as $$
begin
  update retention.verify_run r
  set worked_at = clock_timestamp()
  where r.verify_id = p_verify_id
    and r.holder = p_holder;
  return found;
end
$$;

-- The parts of a run in order, with how far each has come: see retention.verify_part. too_soon: how many results that are
-- not due were found gone so far, in the whole run.
-- For operators.
create or replace function retention.verify_parts(p_verify_id uuid)
returns table (
  part integer,
  prefix text,
  after_key text,
  until_key text,
  at_key text,
  token text,
  is_listed boolean,
  is_compared boolean,
  listed bigint,
  stamped bigint,
  too_soon bigint
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select p.part, p.prefix, p.after_key, p.until_key, p.at_key, p.token, p.is_listed, p.is_compared, p.listed, p.stamped,
    (
      select coalesce(sum(cardinality(s.run_ids)), 0)::bigint
      from retention.verify_stretch s
      where s.verify_id = p_verify_id
        and s.is_gone
    )
  from retention.verify_part p
  where p.verify_id = p_verify_id
  order by p.part
$$;

-- Writes down that a part was compared up to p_at_key (null: as far as before), with the live rows of it whose key was not
-- listed: run_ids[i] points at keys[i] and is due where dues[i]. p_after: where their stretch begins. p_listed: how many
-- more objects were listed. p_token: how a listing out of order goes on. Returns false, and writes nothing, when another
-- verify has taken over.
-- For operators.
-- Locks the row of the run.
create or replace function retention.note_verified(
  p_verify_id uuid,
  p_holder uuid,
  p_part integer,
  p_at_key text,
  p_listed bigint default 0,
  p_token text default null,
  p_after text default null,
  p_run_ids text[] default '{}',
  p_keys text[] default '{}',
  p_dues boolean[] default '{}'
)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not retention._hold_verify(p_verify_id, p_holder) then
    -- Of a run that has ended meanwhile nothing is left, not what was set aside since either.
    delete from retention.stray s
    where s.verify_id = p_verify_id
      and not exists (select from retention.verify_run r where r.verify_id = p_verify_id);
    return false;
  end if;
  update retention.verify_part p
  set at_key = coalesce(p_at_key, p.at_key),
    token = p_token,
    listed = p.listed + p_listed
  where p.verify_id = p_verify_id
    and p.part = p_part;
  if p_run_ids <> '{}' then
    insert into retention.verify_stretch (verify_id, part, after_key, run_ids, keys, dues)
    values (p_verify_id, p_part, p_after, p_run_ids, p_keys, p_dues);
  end if;
  return true;
end
$$;

-- Writes down that a part is listed to its end (p_what: listed), or that all of it is compared and confirmed (compared).
-- Returns false, and writes nothing, when another verify has taken over.
-- For operators.
-- Locks the row of the run.
create or replace function retention.note_part_done(p_verify_id uuid, p_holder uuid, p_part integer, p_what text)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not retention._hold_verify(p_verify_id, p_holder) then
    return false;
  end if;
  update retention.verify_part p
  set is_listed = true,
    is_compared = p.is_compared or p_what = 'compared'
  where p.verify_id = p_verify_id
    and p.part = p_part;
  return true;
end
$$;

-- The next stretch of a part whose missing results wait for a second look, after p_after_id; without a part, the next of
-- those that the second look has not found and that are not due.
-- For operators.
create or replace function retention.next_stretch(p_verify_id uuid, p_part integer default null, p_after_id bigint default 0)
returns table (stretch_id bigint, after_key text, run_ids text[], keys text[], dues boolean[])
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select s.stretch_id, s.after_key, s.run_ids, s.keys, s.dues
  from retention.verify_stretch s
  where s.verify_id = p_verify_id
    and (p_part is null and s.is_gone or s.part = p_part and not s.is_gone)
    and s.stretch_id > p_after_id
  order by s.stretch_id
  limit 1
$$;

-- Ends the second look at a stretch: p_stamped of its results were stamped; p_gone of them (places from 1) are gone before
-- they are due and wait for the end. Returns false, and writes nothing, when another verify has taken over.
-- For operators.
-- Locks the row of the run.
create or replace function retention.note_stretch(
  p_verify_id uuid,
  p_holder uuid,
  p_stretch_id bigint,
  p_stamped bigint default 0,
  p_gone integer[] default '{}'
)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not retention._hold_verify(p_verify_id, p_holder) then
    return false;
  end if;
  update retention.verify_part p
  set stamped = p.stamped + p_stamped
  from retention.verify_stretch s
  where s.stretch_id = p_stretch_id
    and p.verify_id = s.verify_id
    and p.part = s.part
    and p_stamped > 0;
  update retention.verify_stretch s
  set is_gone = true,
    run_ids = array(select s.run_ids[n] from unnest(p_gone) with ordinality as u (n, i) order by i),
    keys = array(select s.keys[n] from unnest(p_gone) with ordinality as u (n, i) order by i),
    dues = array(select s.dues[n] from unnest(p_gone) with ordinality as u (n, i) order by i)
  where s.stretch_id = p_stretch_id
    and p_gone <> '{}';
  if not found then
    delete from retention.verify_stretch s where s.stretch_id = p_stretch_id;
  end if;
  return true;
end
$$;

-- Begins a run again whose store lists out of order: what it lists is noted first, and read in order after that. Returns
-- false, and writes nothing, when another verify has taken over.
-- For operators.
-- Locks the row of the run.
create or replace function retention.unsort_verify(p_verify_id uuid, p_holder uuid)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run retention.verify_run;
begin
  update retention.verify_run r
  set is_unsorted = true,
    worked_at = clock_timestamp()
  where r.verify_id = p_verify_id
    and r.holder = p_holder
  returning * into v_run;
  if not found then
    return false;
  end if;
  delete from retention.stray s where s.verify_id = p_verify_id;
  delete from retention.verify_stretch s where s.verify_id = p_verify_id;
  delete from retention.verify_part p where p.verify_id = p_verify_id;
  perform retention._part_verify(v_run, 1);
  return true;
end
$$;

-- Notes what a listing out of order or an inventory names. What is noted twice is noted once.
-- For operators.
create or replace function retention.note_listed(
  p_verify_id uuid,
  p_keys text[],
  p_bytes bigint[],
  p_modified timestamptz[],
  p_etags text[] default null
)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$
  insert into retention.verify_listed (verify_id, key, bytes, modified_at, etag)
  select p_verify_id, k.key, k.bytes, k.modified_at, k.etag
  from unnest(p_keys, p_bytes, p_modified, p_etags) as k (key, bytes, modified_at, etag)
  on conflict do nothing
$$;

-- The next of what note_listed noted, in the order of bytes: the first p_limit keys of p_prefix after p_after.
-- For operators.
create or replace function retention.next_listed(p_verify_id uuid, p_prefix text, p_after text, p_limit integer default 1000)
returns table (key text, bytes bigint, modified_at timestamptz, etag text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select l.key, l.bytes, l.modified_at, l.etag
  from retention.verify_listed l
  where l.verify_id = p_verify_id
    and l.key > coalesce(p_after, '') collate "C"
    and l.key >= p_prefix collate "C"
    and starts_with(l.key, p_prefix)
  order by l.key
  limit p_limit
$$;

-- The keys of cleared rows that were listed, as sort_strays has found them, in order and at most 1,000 after p_after.
-- For operators.
create or replace function retention.next_returned(p_verify_id uuid, p_after text default null)
returns setof text
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select s.key
  from retention.stray s
  where s.verify_id = p_verify_id
    and s.kind = 'returned'
    and s.key > coalesce(p_after, '') collate "C"
  order by s.key collate "C"
  limit 1000
$$;

-- Takes keys out of what a verify has set aside, since they are not there any more. Returns how many.
-- For operators.
create or replace function retention.drop_strays(p_verify_id uuid, p_keys text[])
returns bigint
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$
  with dropped as (
    delete from retention.stray s
    where s.verify_id = p_verify_id
      and s.key = any (p_keys)
    returning 1
  )
  select count(*) from dropped
$$;

-- Ends a run that is p_holder's: its progress and all that it has set aside is forgotten.
-- For operators.
-- Locks the row of the run.
create or replace function retention.end_verify(p_verify_id uuid, p_holder uuid)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$
  select retention._drop_verify(r.verify_id)
  from retention.verify_run r
  where r.verify_id = p_verify_id
    and r.holder = p_holder
$$;
