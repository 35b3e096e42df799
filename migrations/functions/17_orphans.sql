/*
Orphans: objects that no run points at. Which they are, and which of them may be deleted at this moment: the keys of a
list (17_orphan_lists) are claimed page by page, each checked again just before its deletion.
*/

-- Why each of these keys of a bucket is not an orphan by now: reserved (ours), has_run (a live row points at it), held
-- (a hold found it), kept (a keeper has it), in_flight (a claim is at it). Null: it is one. This is the one place that
-- says so, for lists and for deletions. Raises RR051 where a keeper cannot be asked.
create or replace function retention._orphan_reasons(p_bucket text, p_keys text[])
returns table (key text, reason text)
language plpgsql
stable
set enable_seqscan = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
begin
  return query
  with asked as materialized (
    select retention._unpack_key(e.key, e.run_id::text) collate "C" as key
    from (
      select b.run_ids, b.keys
      from retention.batch b
      where b.bucket = p_bucket
        and b.lease is not null
      union all
      select b.run_ids, b.keys
      from retention.batch b
      where b.bucket = p_bucket
        and b.deleted_at is not null
        and b.settled_at is null
      union all
      -- Of orphans themselves there may be an earlier request: to ask again is safe.
      select u.run_ids, u.keys
      from retention.unanswered u
      where u.bucket = p_bucket
        and u.run_ids is not null
        and u.until > clock_timestamp()
    ) a
    cross join unnest(a.run_ids, a.keys) as e (run_id, key)
  ),
  kept as materialized (
    select x.key collate "C" as key
    from retention._kept(p_bucket, p_keys) x
  )
  select k.key,
    case
      when starts_with(k.key, '.retention/') then 'reserved'
      when exists (
        select
        from retention._live r
        where r.key_hash = retention._key_hash(k.key)
          and r.key = k.key collate "C"
          and coalesce(r.bucket, p_bucket) = p_bucket
      )
      then 'has_run'
      when (select exists (select from retention.held_object)) and retention._is_held_object(p_bucket, k.key) then 'held'
      when k.key collate "C" in (select x.key from kept x) then 'kept'
      when k.key collate "C" in (select a.key from asked a) then 'in_flight'
    end
  from unnest(p_keys) with ordinality as k (key, n)
  order by k.n;
end
$$;

-- Takes out of the strays that a verify has sorted what is no orphan. Called by sort_strays, which knows rows that are
-- cleared as well.
create or replace function retention._spare_strays(p_verify_id uuid)
returns void
language plpgsql
as $$
declare
  v_page record;
begin
  for v_page in
    select o.bucket, array_agg(o.key) as keys
    from (
      select s.bucket, s.key, row_number() over (partition by s.bucket order by s.key) / 1000 as page
      from retention.stray s
      where s.verify_id = p_verify_id
        and s.kind = 'orphan'
    ) o
    group by o.bucket, o.page
  loop
    update retention.stray s
    set kind = null
    where s.verify_id = p_verify_id
      and s.bucket = v_page.bucket
      and s.key in (
        select r.key collate "C" from retention._orphan_reasons(v_page.bucket, v_page.keys) r where r.reason is not null
      );
  end loop;
end
$$;

-- Raises invalid_parameter_value for a margin of less than an hour: a younger object may be an upload whose row is
-- still to come.
create or replace function retention._check_margin(p_margin interval)
returns void
language plpgsql
immutable
as $$
begin
  if coalesce(p_margin, '0') < '1 hour' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected a margin of at least an hour, given: %s', coalesce(p_margin::text, 'null')),
      hint = 'A younger object may be an upload whose row is not written yet.';
  end if;
end
$$;

-- The next p_limit orphans of a bucket after the key p_after, in the order of keys. Only those older than
-- p_margin. still_orphan: nothing needs the object now. etag: as it was listed, without quotes; null: not told.
-- For operators.
-- Raises invalid_parameter_value for a margin of less than an hour.
create or replace function retention.next_orphans(p_verify_id uuid, p_bucket text, p_after text, p_margin interval, p_limit integer)
returns table (key text, bytes bigint, modified_at timestamptz, still_orphan boolean, etag text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_strays retention.stray[];
begin
  perform retention._check_margin(p_margin);
  v_strays := array(
    select s
    from retention.stray s
    where s.verify_id = p_verify_id
      and s.bucket = p_bucket
      and s.kind = 'orphan'
      and s.modified_at < now() - p_margin
      and s.key > coalesce(p_after, '') collate "C"
    order by s.key
    limit p_limit
  );
  return query
  select s.key, s.bytes, s.modified_at, n.reason is null, s.etag
  from unnest(v_strays) s
  join retention._orphan_reasons(p_bucket, array(select u.key from unnest(v_strays) u)) n
    on n.key collate "C" = s.key
  order by s.key;
end
$$;

-- Checks up to 1,000 keys of a list again and gives those that may be deleted now. They are written down as being
-- deleted until p_for is over, so that a hold placed meanwhile says that it is too late. paused_until: the bucket pauses or
-- is at its ceiling, nothing was checked. Under a ceiling the first of the keys are checked alone: the others are named nowhere. spared: {"key", "reason"} of the others: see _orphan_reasons. purge: every version of the keys is
-- to go. habits: what the store does differently. request_id: for settle_orphans; null: no key may go.
-- For operators.
-- Waits for a transaction that is placing a hold, for 5 seconds at most.
-- Raises RR040 while the gate is closed, for a list whose deletion was not begun, and for more keys than the list
-- names. Raises active_sql_transaction outside READ COMMITTED. Raises invalid_parameter_value for more than 1,000 keys,
-- and without a duration above zero.
create or replace function retention.claim_orphans(p_list_id uuid, p_keys text[], p_for interval)
returns table (
  request_id bigint,
  paused_until timestamptz,
  keys text[],
  spared jsonb,
  purge boolean,
  habits jsonb
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set lock_timeout = '5s'
as $$
#variable_conflict use_column
declare
  v_list retention.orphan_list;
  v_bucket retention.bucket;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      errcode = 'active_sql_transaction',
      message = format('claim_orphans needs a READ COMMITTED transaction, given: %s', current_setting('transaction_isolation'));
  end if;
  if coalesce(cardinality(p_keys), 0) not between 1 and 1000 or coalesce(p_for, '0') <= '0' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'claim_orphans needs 1 to 1,000 keys and a duration above zero';
  end if;
  perform retention._refuse_orphans_while_closed();
  select * into v_list from retention.orphan_list o where o.list_id = p_list_id;
  if v_list.begun_at is null then
    perform retention._refuse_orphans('the deletion of the list was not begun', 'Call retention.begin_orphans first.');
  end if;
  if v_list.deleted + cardinality(p_keys) > v_list.orphans then
    perform retention._refuse_orphans(
      format('%s of the %s objects of the list are deleted', v_list.deleted, v_list.orphans), 'Make a new list.'
    );
  end if;
  select * into strict v_bucket from retention.bucket k where k.bucket = v_list.bucket;
  paused_until := case
    when v_bucket.paused_until > clock_timestamp() then v_bucket.paused_until
    -- After a pause one request at a time, and a listener has its own.
    when v_bucket.pauses > 0 and exists (
      select
      from retention.batch b
      where b.bucket = v_list.bucket
        and b.lease is not null
        and b.visible_at > clock_timestamp()
    )
    then clock_timestamp() + interval '1 second'
    when num_nonnulls(v_bucket.max_per_second, v_bucket.max_in_flight) > 0
      and retention._take_pace(v_bucket, true) <> 'go'
    then coalesce(retention._ceiling_until(v_bucket), clock_timestamp() + interval '50 milliseconds')
  end;
  p_keys := p_keys[:coalesce(retention._paced_keys(v_bucket.max_per_second), 1000)];
  keys := '{}';
  spared := '[]';
  if paused_until is null then
    -- As claim does: a hold either committed before this, or it waits and then sees the request.
    lock table retention.hold in row share mode;
    select coalesce(array_agg(r.key) filter (where r.reason is null), '{}'),
      coalesce(jsonb_agg(jsonb_build_object('key', r.key, 'reason', r.reason)) filter (where r.reason is not null), '[]')
    into strict keys, spared
    from retention._orphan_reasons(v_list.bucket, p_keys) r;
    if keys <> '{}' then
      insert into retention.unanswered (bucket, keys, until)
      select v_list.bucket, array(select E'\x02' || k.key from unnest(keys) as k (key)),
        clock_timestamp() + p_for + s.unanswered_for
      from retention.setting s
      returning unanswered_id into request_id;
      if v_bucket.max_per_second is not null then
        perform retention._note_pace(v_bucket.bucket, v_bucket.max_per_second, cardinality(keys));
      end if;
    end if;
  end if;
  purge := v_bucket.on_versioned = 'purge';
  habits := retention._habits(v_bucket);
  return next;
end
$$;

-- Those of some keys of a list of which no receipt says that they went since its deletion began.
create or replace function retention._without_receipt(p_list retention.orphan_list, p_keys text[])
returns text[]
language sql
stable
as $$
  select coalesce(array_agg(k.key order by k.n), '{}')
  from unnest(p_keys) with ordinality as k (key, n)
  where k.key collate "C" not in (
      select retention._unpack_key(u.key, '') collate "C"
      from retention.receipt r
      cross join unnest(r.keys) as u (key)
      where r.settled_at >= p_list.begun_at
        and r.kind = 'orphan'
        and r.bucket = p_list.bucket
    )
    -- With hashed keys, each is tried with the salt of each receipt.
    and not exists (
      select
      from retention.receipt r
      cross join unnest(retention._kept_keys(r.keys, r.key_digests)) with ordinality as u (key, n)
      where r.settled_at >= p_list.begun_at
        and r.kind = 'orphan'
        and r.bucket = p_list.bucket
        and r.key_digests is not null
        and u.key = retention._hashed_key(retention._leaf_salt(r.salt, u.n), k.key)
    )
$$;

-- Writes down what became of keys that claim_orphans gave. p_request_id: its request; null: there was none. p_deleted,
-- p_spared, p_failed: how many of the whole list S3 has named as deleted so far, were left, and were refused; as sums, so
-- that it may be said twice.
-- p_unanswered: the keys that S3 may still delete. p_code, p_message: why the bucket is to pause; null: it is not.
-- p_keys: the keys that S3 has named as deleted in this request, which get a receipt (orphan); without a request those that
-- were found gone after an earlier one, of which those without a receipt get one. p_ends and p_request_ids say of them what
-- settle is told, and p_client is the client's version. Returns until when it pauses; null: it does not.
-- For operators.
-- Locks the row of the list, and the bucket's.
-- Raises invalid_parameter_value for p_ends that settle would not take.
create or replace function retention.settle_orphans(
  p_list_id uuid,
  p_request_id bigint,
  p_deleted bigint,
  p_spared bigint,
  p_failed bigint,
  p_unanswered text[] default '{}',
  p_code text default null,
  p_message text default null,
  p_keys text[] default '{}',
  p_ends jsonb default null,
  p_request_ids text[] default null,
  p_client text default null
)
returns timestamptz
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_list retention.orphan_list;
  v_keys text[];
begin
  select * into v_list from retention.orphan_list o where o.list_id = p_list_id and o.begun_at is not null for update;
  if not found then
    return null;
  end if;
  update retention.orphan_list o
  set deleted = greatest(o.deleted, p_deleted),
    spared = p_spared,
    failed = p_failed,
    worked_at = clock_timestamp()
  where o.list_id = p_list_id;
  v_keys := case
    when p_request_id is null then retention._without_receipt(v_list, p_keys)
    -- Said twice, it is written once.
    when p_deleted > v_list.deleted then p_keys
  end;
  if v_keys <> '{}' then
    perform retention._write_receipts(
      'orphan', v_list.bucket, '{}', v_keys, '{}', p_client, e.ends, e.versions, p_request_ids
    )
    from retention._ends(
      '{}', array(select E'\x02' || k.key from unnest(v_keys) with ordinality as k (key, n) order by k.n), p_ends
    ) e;
  end if;
  if p_unanswered = '{}' then
    delete from retention.unanswered u where u.unanswered_id = p_request_id and u.run_ids is null;
  else
    update retention.unanswered u
    set keys = array(select E'\x02' || k.key from unnest(p_unanswered) as k (key)),
      until = clock_timestamp() + (select s.unanswered_for from retention.setting s)
    where u.unanswered_id = p_request_id
      and u.run_ids is null;
  end if;
  if p_code is not null then
    return greatest(retention._pause_bucket(v_list.bucket, p_code, coalesce(p_message, '')), clock_timestamp());
  end if;
  if p_deleted > v_list.deleted then
    perform retention._note_success(v_list.bucket);
  end if;
  return null;
end
$$;
