/*
Settling: takes a batch back after S3 has answered, stamps what it named, and lets the rest wait for its
next attempt or for a person. A caller whose lease is no longer the batch's changes nothing.
*/

-- Notes on a bucket what an attempt showed. A pause that is running is not made longer, so that the
-- batches in flight when it began count once. Locks the bucket's row.
create or replace function retention._pause_bucket(p_bucket text, p_code text, p_error text)
returns timestamptz
language plpgsql
as $$
declare
  v_setting retention.setting;
  v_until timestamptz;
begin
  select * into strict v_setting from retention.setting;
  update retention.bucket k
  set paused_until = clock_timestamp() + retention._backoff(v_setting.pause_base, v_setting.pause_cap, k.pauses),
    pauses = k.pauses + 1,
    pause_code = left(p_code, 64),
    pause_error = left(p_error, 500)
  where k.bucket = p_bucket
    and (k.paused_until is null or k.paused_until <= clock_timestamp());
  select k.paused_until into v_until from retention.bucket k where k.bucket = p_bucket;
  return v_until;
end
$$;

-- Takes a batch back after S3 has answered, and stamps the runs of what was deleted. What S3 refused is tried
-- again later, or is dead after too many attempts. What S3 has deleted and could not be stamped is remembered and
-- stamped later (retention.stamp_again), without asking S3 again. p_cleared: the keys that S3 named as deleted or
-- as already gone. p_all: every key of the batch was cleared. p_failed: [{"key", "code", "reason", "outcome",
-- "concerns", "final"}]. Its outcome is refused (counted as an attempt), failed or unknown (neither is
-- counted), or changed (S3 holds another version than the claim's etag: the result is spared, and asked for again much
-- later, or when its row has another etag). It concerns key, bucket or store. It is final where another attempt cannot help. A key that is in
-- neither list is tried again and is not counted. p_ms: how long the request took; by default the time since
-- the claim. p_unanswered: the keys that S3 may still delete later. For the receipt: p_ends says how keys ended that were
-- not simply deleted ({"<key>": {"end": "gone", "marker" or "purged", "version"}}), p_request_ids how S3 names the requests,
-- and p_client the client's version. cleared: how many results are done; stamped:
-- how many rows were stamped of them. retry_at: when the first of what waits is tried again. Who asks again after
-- it was settled under p_lease gets the same answer. When p_lease is no longer the batch's lease, settled is false
-- and nothing is changed.
-- For the listener.
-- Locks the batch, its bucket, and the rows that it stamps.
-- Raises invalid_parameter_value for p_ends that say anything else.
create or replace function retention.settle(
  p_batch_id bigint,
  p_lease uuid,
  p_cleared text[] default '{}',
  p_all boolean default false,
  p_failed jsonb default '[]',
  p_ms integer default null,
  p_unanswered text[] default '{}',
  p_ends jsonb default null,
  p_request_ids text[] default null,
  p_client text default null
)
returns table (
  settled boolean,
  cleared integer,
  stamped integer,
  failed integer,
  dead integer,
  retry_at timestamptz,
  problems jsonb
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_batch retention.batch;
  v_done record;
  v_stamps record;
  v_failed bigint := 0;
  v_dead bigint := 0;
  v_retry_at timestamptz;
  v_problems jsonb := '[]';
  v_changed bigint := 0;
  v_changed_keys text[] := '{}';
begin
  select * into v_batch
  from retention.batch b
  where b.batch_id = p_batch_id
    and b.lease = p_lease
  for update;
  if not found then
    return query select * from retention._settled_before(p_batch_id, p_lease);
    return;
  end if;
  if v_batch.kind = 'canary' then
    perform retention._settle_canary(v_batch, p_cleared, p_all, p_failed, p_ends, p_request_ids, p_client);
    return query select * from retention._settled_before(p_batch_id, p_lease);
    return;
  end if;
  perform retention._note_unanswered(v_batch, p_unanswered, clock_timestamp());

  if p_all then
    select v_batch.results::bigint as results, v_batch.run_ids as run_ids, v_batch.keys as keys, v_batch.tenants as tenants,
      v_batch.etags as etags
    into strict v_done;
  else
    select count(*) as results,
      coalesce(array_agg(u.run_id order by u.n), '{}') as run_ids,
      coalesce(array_agg(u.key order by u.n), '{}') as keys,
      coalesce(array_agg(u.tenant_id order by u.n), '{}') as tenants,
      case when v_batch.etags is not null then coalesce(array_agg(u.etag order by u.n), '{}') end as etags
    into strict v_done
    from unnest(v_batch.run_ids, v_batch.keys, v_batch.tenants, v_batch.etags) with ordinality
      as u (run_id, key, tenant_id, etag, n)
    -- Bare, it would be joined by a nested loop; so it is looked up in a hash.
    where (retention._unpack_key(u.key, u.run_id::text) collate "C" in (select unnest(p_cleared) collate "C")) is true;
    if v_batch.etags is not null and p_failed @> '[{"outcome": "changed"}]' then
      select c.others, c.keys, c.results
      into strict p_failed, v_changed_keys, v_changed
      from retention._take_changed(v_batch, p_failed) c;
    end if;
    select f.failed, f.dead, f.retry_at, f.problems
    into strict v_failed, v_dead, v_retry_at, v_problems
    from retention._book_failures(v_batch, p_cleared || v_changed_keys, p_failed) f;
  end if;
  -- A store that has found another version works.
  if v_done.results + v_changed > 0 then
    perform retention._note_success(v_batch.bucket);
    if not p_all then
      perform retention._note_load(v_batch.bucket, p_failed);
    end if;
  else
    perform retention._note_refusal(v_batch, p_failed);
  end if;
  -- What is remembered of it says the same as its receipt.
  select e.ends, e.versions into v_batch.ends, v_batch.versions from retention._ends(v_done.run_ids, v_done.keys, p_ends) e;
  v_batch.request_ids := nullif(v_batch.request_ids || p_request_ids, '{}');
  v_batch.settled_session := session_user;
  v_batch.product := left(p_client, 100);
  select * into strict v_stamps
  from retention._stamp_or_remember(v_batch, v_done.run_ids, v_done.keys, v_done.tenants);
  if v_batch.why is not null then
    delete from retention.returned_result t where t.run_id = any (v_done.run_ids) and t.bucket = v_batch.bucket;
  end if;

  return query
  update retention.batch b
  set lease = null,
    given_back = p_lease,
    cleared = v_done.results - cardinality(v_stamps.left_out),
    stamped = v_stamps.stamped,
    spared = b.spared + v_changed,
    failed = v_failed + v_stamps.failed,
    dead = v_dead + v_stamps.dead,
    problems = nullif(v_problems || v_stamps.problems, '[]'),
    ms = coalesce(p_ms, extract(epoch from clock_timestamp() - b.leased_at) * 1000),
    settled_at = clock_timestamp(),
    ends = v_batch.ends,
    versions = v_batch.versions,
    request_ids = v_batch.request_ids,
    settled_session = v_batch.settled_session,
    product = v_batch.product
  where b.batch_id = p_batch_id
  returning true, b.cleared, b.stamped, b.failed, b.dead, least(v_retry_at, v_stamps.retry_at),
    coalesce(b.problems, '[]');
  if v_done.results - cardinality(v_stamps.left_out) < v_batch.results then
    -- The receipt names what was cleared and nothing else.
    update retention.batch b
    set (run_ids, keys, tenants, etags, ends, versions) = (
      select coalesce(array_agg(u.run_id order by u.n), '{}'),
        coalesce(array_agg(u.key order by u.n), '{}'),
        coalesce(array_agg(u.tenant_id order by u.n), '{}'),
        case when v_done.etags is not null then coalesce(array_agg(u.etag order by u.n), '{}') end,
        case when v_batch.ends is not null then coalesce(array_agg(u.word order by u.n), '{}') end,
        case when v_batch.versions is not null then coalesce(array_agg(u.version order by u.n), '{}') end
      from unnest(v_done.run_ids, v_done.keys, v_done.tenants, v_done.etags, v_batch.ends, v_batch.versions) with ordinality
        as u (run_id, key, tenant_id, etag, word, version, n)
      where u.n not in (select unnest(v_stamps.left_out))
    )
    where b.batch_id = p_batch_id;
    perform retention._note_attempt(v_batch, clock_timestamp());
    perform retention._note_left(
      v_batch,
      array(
        select u.run_id
        from unnest(v_batch.run_ids) as u (run_id)
        where u.run_id not in (select unnest(b.run_ids) from retention.batch b where b.batch_id = p_batch_id)
      )
    );
  end if;
end
$$;

-- The answer of settle for a batch that was settled under this lease before; else that it was not.
create or replace function retention._settled_before(p_batch_id bigint, p_lease uuid)
returns table (
  settled boolean,
  cleared integer,
  stamped integer,
  failed integer,
  dead integer,
  retry_at timestamptz,
  problems jsonb
)
language plpgsql
stable
as $$
#variable_conflict use_column
begin
  return query
  select true, b.cleared, b.stamped, b.failed, b.dead,
    (
      select min((j.problem ->> 'retry_at')::timestamptz)
      from jsonb_array_elements(b.problems) as j (problem)
    ),
    coalesce(b.problems, '[]')
  from retention.batch b
  where b.batch_id = p_batch_id
    and b.given_back = p_lease
    and b.settled_at is not null;
  if not found then
    return query select false, 0, 0, 0, 0, null::timestamptz, '[]'::jsonb;
  end if;
end
$$;

-- Ends the pauses of a bucket from which something was deleted. Locks the bucket's row where it had paused.
-- Called by settle alone.
create or replace function retention._note_success(p_bucket text)
returns void
language sql
as $$
  update retention.bucket k
  set pauses = 0,
    paused_until = null,
    pause_code = null,
    pause_error = null,
    refused_in_row = 0
  where k.bucket = p_bucket
    and (k.pauses > 0 or k.refused_in_row > 0)
$$;

-- Pauses a bucket that has deleted some keys of a batch and was too busy for others. Called by settle alone.
create or replace function retention._note_load(p_bucket text, p_failed jsonb)
returns void
language plpgsql
as $$
declare
  v_load record;
begin
  select f.code, f.reason
  into v_load
  from jsonb_to_recordset(p_failed) as f (code text, reason text, outcome text, concerns text)
  where f.outcome <> 'refused'
    and f.concerns <> 'key'
  limit 1;
  if found then
    perform retention._pause_bucket(p_bucket, v_load.code, v_load.reason);
  end if;
end
$$;

-- What a batch of which nothing was cleared says of its bucket: where all that was refused concerns the bucket,
-- it pauses at once; where all was refused with one code, the second time in a row. One key that is refused alone
-- says nothing of its bucket, and neither does a refusal that is final. Where the store answered every key with a
-- fault of its own, the bucket pauses, unless these keys are stuck: the others tell how the bucket is. Called by
-- settle alone.
create or replace function retention._note_refusal(p_batch retention.batch, p_failed jsonb)
returns void
language plpgsql
as $$
declare
  v_refusal record;
  v_in_row integer;
begin
  select count(distinct f.code) as codes,
    min(f.code) as code,
    min(f.reason) as reason,
    bool_and(f.outcome = 'refused' and not coalesce(f.final, false)) as is_refusal,
    bool_and(f.outcome <> 'refused') as is_fault,
    bool_and(f.concerns = 'bucket') as concerns_bucket
  into strict v_refusal
  from jsonb_to_recordset(p_failed) as f (code text, reason text, outcome text, concerns text, final boolean);
  if v_refusal.is_fault and p_batch.stuck_since is null then
    perform retention._pause_bucket(p_batch.bucket, v_refusal.code, v_refusal.reason);
    return;
  end if;
  if v_refusal.codes <> 1
    or not v_refusal.is_refusal
    or p_batch.results = 1 and not coalesce(v_refusal.concerns_bucket, false)
  then
    return;
  end if;
  update retention.bucket k
  set refused_in_row = k.refused_in_row + 1
  where k.bucket = p_batch.bucket
  returning k.refused_in_row into v_in_row;
  if v_refusal.concerns_bucket or v_in_row > 1 then
    perform retention._pause_bucket(p_batch.bucket, v_refusal.code, v_refusal.reason);
  end if;
end
$$;

-- Takes a batch back that S3 did not work on (throttled, timed out, 5xx, expired credentials). This is not
-- counted as an attempt. The bucket pauses, longer each time. A batch that comes back time after time, while others
-- of its bucket are deleted, is halved: one of its keys may be what the store fails at. p_code, p_message: why.
-- p_unanswered: the keys that S3 may still delete later. p_request_ids: how S3 names requests of the call in which it has
-- deleted something, for the receipt. Returns when the batch may be claimed again, also when asked
-- again, or null when p_lease is no longer the batch's lease.
-- For the listener.
-- Locks the batch and its bucket.
create or replace function retention.postpone(
  p_batch_id bigint,
  p_lease uuid,
  p_code text,
  p_message text,
  p_unanswered text[] default '{}',
  p_request_ids text[] default null
)
returns timestamptz
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_batch retention.batch;
  v_until timestamptz;
begin
  select * into v_batch
  from retention.batch b
  where b.batch_id = p_batch_id
    and b.lease = p_lease
  for update;
  if not found then
    -- Asked again, after the answer was lost.
    return (
      select b.visible_at
      from retention.batch b
      where b.batch_id = p_batch_id
        and b.given_back = p_lease
        and b.lease is null
        and b.settled_at is null
    );
  end if;
  perform retention._note_unanswered(v_batch, p_unanswered, clock_timestamp());
  perform retention._note_attempt(v_batch, clock_timestamp());
  v_until := greatest(retention._pause_bucket(v_batch.bucket, p_code, p_message), clock_timestamp());
  update retention.batch b
  set lease = null,
    given_back = p_lease,
    visible_at = v_until,
    postponed = b.postponed + 1,
    request_ids = nullif(b.request_ids || p_request_ids, '{}'),
    problems = jsonb_build_array(jsonb_build_object(
      'code', left(p_code, 64),
      'message', left(p_message, 500),
      'results', b.results,
      'run_ids', b.run_ids[1:3]::text[],
      'retry_at', retention._iso(v_until)
    ))
  where b.batch_id = p_batch_id;
  if v_batch.results > 1 and v_batch.postponed >= 5 and exists (
    select
    from retention.batch b
    where b.settled_at > v_batch.leased_at - interval '1 hour'
      and b.bucket = v_batch.bucket
      and b.cleared > 0
  ) then
    perform retention._cut(p_batch_id, (v_batch.results + 1) / 2);
  end if;
  return v_until;
end
$$;

-- Takes a batch back whose request was refused whole because of one bad key, and halves it. After a few turns
-- the bad key is alone in its batch. When more than 20 requests in a row were refused, no single key is the
-- cause: the bucket pauses and the batch stays whole. p_unanswered: the keys that S3 may still delete later.
-- Returns the batch that was split off, or the batch itself when it stays whole or had been split under p_lease
-- before. Returns null when p_lease is no longer the batch's lease, and for a batch of one result.
-- For the listener.
-- Locks the batch and its bucket.
create or replace function retention.split(p_batch_id bigint, p_lease uuid, p_unanswered text[] default '{}')
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_batch retention.batch;
  v_half integer;
  v_batch_id bigint;
  v_refused integer;
begin
  select * into v_batch
  from retention.batch b
  where b.batch_id = p_batch_id
    and b.lease = p_lease
    and b.results > 1
  for update;
  if not found then
    -- Asked again, after the answer was lost.
    return (
      select b.batch_id
      from retention.batch b
      where b.batch_id = p_batch_id
        and b.given_back = p_lease
        and b.lease is null
        and b.settled_at is null
    );
  end if;
  update retention.bucket k
  set refused_in_row = k.refused_in_row + 1
  where k.bucket = v_batch.bucket
  returning k.refused_in_row into v_refused;
  if v_refused > 20 then
    perform retention.postpone(
      p_batch_id, p_lease, 'MalformedRequest', 'request after request is refused whole', p_unanswered
    );
    return p_batch_id;
  end if;
  perform retention._note_unanswered(v_batch, p_unanswered, clock_timestamp());
  perform retention._note_attempt(v_batch, clock_timestamp());
  v_half := v_batch.results / 2;
  insert into retention.batch (
    bucket, results, oldest, newest, due_since, late_since, early, flagged_at, attempts, postponed,
    stuck_since, code, error, failed_at, why, asked_by, request_ids, run_ids, keys, tenants
  )
  values (
    v_batch.bucket, v_half, v_batch.oldest, v_batch.newest, v_batch.due_since, v_batch.late_since, v_batch.early, v_batch.flagged_at,
    v_batch.attempts, v_batch.postponed, v_batch.stuck_since, v_batch.code, v_batch.error, v_batch.failed_at,
    v_batch.why, v_batch.asked_by, v_batch.request_ids, v_batch.run_ids[1:v_half], v_batch.keys[1:v_half], v_batch.tenants[1:v_half]
  )
  returning batch_id into v_batch_id;
  update retention.batch b
  set lease = null,
    given_back = p_lease,
    results = v_batch.results - v_half,
    run_ids = v_batch.run_ids[v_half + 1:],
    keys = v_batch.keys[v_half + 1:],
    tenants = v_batch.tenants[v_half + 1:],
    etags = null,
    visible_at = clock_timestamp()
  where b.batch_id = p_batch_id;
  return v_batch_id;
end
$$;

-- How many results wait in batches that the object store did not work on; p_batch_ids: of these batches only
-- (null: of all). For the listener.
create or replace function retention.count_postponed(p_batch_ids bigint[] default null)
returns bigint
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(sum(b.results), 0)::bigint
  from retention.batch b
  where b.settled_at is null
    and b.lease is null
    and b.problems is not null
    and (p_batch_ids is null or b.batch_id = any (p_batch_ids))
$$;
