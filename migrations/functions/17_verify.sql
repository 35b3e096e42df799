/*
Drift: the row and the bucket disagree. reconcile --verify streams a bucket's sorted listing and asks,
page by page, what the rows say of that stretch of keys; nothing is open while S3 lists. Live rows are
found by a sorted copy of their keys (17_key_order). A listed key without a live row is set aside in
retention.stray and looked up among the cleared rows once, at the end.
*/

-- Names a verify and says when it began. What completed after before, within the last hour, is not judged: its
-- object may be younger than the listing. Writes nothing. For operators.
-- Raises object_not_in_prerequisite_state where an index on the application's table is missing.
create or replace function retention.begin_verify()
returns table (verify_id uuid, started_at timestamptz, before timestamptz)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform retention._check_indexes();
  return query select gen_random_uuid(), now(), now() - interval '1 hour';
end
$$;

-- Sets listed keys aside that no live row points at: one probe for each key. Not by the copy of the keys: a row that
-- is younger than it needs its object too. Called by compare_listing alone.
create or replace function retention._set_aside(
  p_verify_id uuid,
  p_bucket text,
  p_keys text[],
  p_bytes bigint[],
  p_modified timestamptz[],
  p_etags text[]
)
returns void
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set max_parallel_workers_per_gather = 0
set jit = off
as $$
begin
  insert into retention.stray (verify_id, bucket, key, bytes, modified_at, etag)
  select p_verify_id, p_bucket, k.key, k.bytes, k.modified_at, k.etag
  from unnest(p_keys, p_bytes, p_modified, p_etags) as k (key, bytes, modified_at, etag)
  where not exists (
    select
    from retention._live r
    where r.key_hash = retention._key_hash(k.key)
      and r.key = k.key collate "C"
      and r.bucket = p_bucket
  )
  on conflict do nothing;
end
$$;

-- Compares one stretch of a bucket's listing with the rows. p_keys: all keys that S3 listed in this stretch,
-- in the order of bytes, with p_bytes, p_modified and p_etags of each (null: not told). The stretch begins after p_after (null: with
-- the first key of p_prefix) and ends with p_until (null: with the last key of p_prefix). Returns the live
-- rows of the stretch whose key was not listed. Rows that completed at p_before or later are left out,
-- because their object may be younger than the listing, and so are rows that were written at p_as_of or later (null: none;
-- an application's table without updated_at tells nothing of it). At least 1,000 rows come back where there are so
-- many; then there may be more after the last key. Listed keys without a live row are set aside under
-- p_verify_id. The first question for a bucket and a prefix copies the keys of the bucket's live rows in their order
-- (retention.key_copy): it reads the table once. What becomes live after that, or gets another key, is not judged.
-- For operators.
create or replace function retention.compare_listing(
  p_verify_id uuid,
  p_bucket text,
  p_prefix text,
  p_after text,
  p_until text,
  p_keys text[],
  p_bytes bigint[],
  p_modified timestamptz[],
  p_before timestamptz,
  p_etags text[] default null,
  p_as_of timestamptz default null
)
returns table (run_id text, key text, is_due boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
begin
  perform retention._check_indexes();
  if cardinality(p_keys) > 0 then
    perform retention._set_aside(p_verify_id, p_bucket, p_keys, p_bytes, p_modified, p_etags);
  end if;

  return query
  select n.run_id, n.key, n.is_due
  from retention._not_listed(
    retention._copy_keys(p_verify_id, p_bucket, coalesce(p_prefix, ''), p_before),
    p_bucket, p_after, p_until, p_keys, p_before, p_as_of
  ) n
  order by n.key collate "C"
  fetch first 1000 rows with ties;
end
$$;

-- Sorts what compare_listing set aside. returned: only cleared rows point at the key, so its object is back.
-- orphan: no row points at it, and no keeper has it. These keys are left out: those that were cleared at p_started_at or
-- later, because their object may have been listed before; those that a live row or a hold needs by now; and those
-- that a row without a bucket may mean. Returns the counts and the bytes. Of orphans only those older than
-- p_margin count, because a younger one may be an upload whose row is still to come. It reads the whole table
-- once.
-- For operators.
create or replace function retention.sort_strays(
  p_verify_id uuid,
  p_started_at timestamptz,
  p_margin interval default '0'
)
returns table (returned bigint, orphans bigint, orphan_bytes bigint)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
as $$
begin
  if exists (select from retention.stray s where s.verify_id = p_verify_id) then
    update retention.stray s
    set kind = 'orphan'
    where s.verify_id = p_verify_id;
    analyze retention.stray;
    -- Joined, not looked up key by key: cleared rows have no index on the key.
    update retention.stray s
    set kind = case when p.returned then 'returned' end
    from (
      select o.bucket,
        o.key,
        bool_and(
          r.cleared_at is not null
          and r.cleared_at < p_started_at
          and retention._bucket(r.bucket, t.default_bucket) is not null
        ) as returned
      from retention.stray o
      join retention.result r on r.key = o.key collate "default"
      cross join retention.setting t
      where o.verify_id = p_verify_id
        and coalesce(retention._bucket(r.bucket, t.default_bucket), o.bucket) = o.bucket
      group by o.bucket, o.key
    ) p
    where s.verify_id = p_verify_id
      and s.bucket = p.bucket
      and s.key = p.key;
    perform retention._spare_strays(p_verify_id);
  end if;
  return query
  select count(*) filter (where s.kind = 'returned'),
    count(*) filter (where s.kind = 'orphan' and s.modified_at < now() - p_margin),
    coalesce(sum(s.bytes) filter (where s.kind = 'orphan' and s.modified_at < now() - p_margin), 0)::bigint
  from retention.stray s
  where s.verify_id = p_verify_id;
end
$$;

-- Removes what a verify set aside and copied, and what verifies of more than 2 days ago left behind without progress to go on with.
-- For operators.
create or replace function retention.forget_strays(p_verify_id uuid)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$
  delete from retention.stray s
  where s.verify_id = p_verify_id
    or s.noted_at < now() - interval '2 days'
    and s.verify_id not in (select r.verify_id from retention.verify_run r);
  select retention._forget_copies(p_verify_id);
$$;

-- Notes what S3 says of a bucket. p_versioning: off, enabled or suspended.
-- For the listener.
-- Locks the row of the bucket.
-- Raises check_violation for any other word.
create or replace function retention.note_bucket(p_bucket text, p_versioning text)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$
  insert into retention.bucket (bucket, versioning, described_at)
  values (p_bucket, p_versioning, clock_timestamp())
  on conflict (bucket) do update
  set versioning = excluded.versioning,
    described_at = excluded.described_at
$$;
