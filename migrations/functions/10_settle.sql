/*
Settling: takes a batch back after S3 has answered, stamps what it named, and lets the rest wait for its
next attempt or for a person. A caller whose lease is no longer the batch's changes nothing.
*/

-- Writes the cleared-at column of the rows that still point at the object that was deleted, and updated-at
-- where the table has one. p_run_ids[i] points at p_keys[i], as _pack_key has it. p_before: only the life of a run that completed
-- before then. Returns how many rows. The only statement of this schema that stamps. Called by settle and
-- stamp_gone alone, under their planner settings.
create or replace function retention._stamp(
  p_bucket text,
  p_run_ids retention.run_id[],
  p_keys text[],
  p_before timestamptz
)
returns bigint
language plpgsql
-- Of a small table all rows may be cheaper to read than probes by run id: then they are to be looked up in a
-- hash of the batch, and not each compared with all of it.
set enable_hashjoin = on
as $$
declare
  v_default_bucket text := (select s.default_bucket from retention.setting s);
  v_stamped bigint;
begin
  -- As "is null", the last condition would let the planner read an index over all live results instead of
  -- probing by run id, where its statistics say that few are live.
  if (select a.columns -> 'updated_at' ->> 'name' from retention.adapter a) is null then
    update retention.result r
    set cleared_at = now()
    from unnest(p_run_ids, p_keys) as g (run_id, key)
    where r.run_id = g.run_id
      and r.key = retention._unpack_key(g.key, g.run_id::text) collate "C"
      and coalesce(nullif(r.bucket, ''), v_default_bucket) = p_bucket
      and r.completed_at < p_before
      and num_nulls(r.cleared_at) = 1;
  else
    update retention.result r
    set cleared_at = now(),
      updated_at = now()
    from unnest(p_run_ids, p_keys) as g (run_id, key)
    where r.run_id = g.run_id
      and r.key = retention._unpack_key(g.key, g.run_id::text) collate "C"
      and coalesce(nullif(r.bucket, ''), v_default_bucket) = p_bucket
      and r.completed_at < p_before
      and num_nulls(r.cleared_at) = 1;
  end if;
  get diagnostics v_stamped = row_count;
  perform retention._check_table();
  return v_stamped;
end
$$;

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

-- What settle makes of the results of a batch that were not cleared. Those that fail alike (code, counted or
-- not, dead or not) go on together, each kind in a batch of its own with one counter of attempts.
-- p_failed: see settle; a result that it does not name was not answered for.
create or replace function retention._failures(
  p_batch retention.batch,
  p_cleared text[],
  p_failed jsonb,
  p_max_attempts integer
)
returns table (
  code text,
  reason text,
  counted boolean,
  is_dead boolean,
  run_ids retention.run_id[],
  keys text[],
  tenants text[]
)
language sql
stable
set enable_hashjoin = on
as $$
  select f.code,
    min(f.reason),
    f.counted,
    f.is_dead,
    array_agg(f.run_id order by f.n),
    array_agg(f.key order by f.n),
    array_agg(f.tenant_id order by f.n)
  from (
    select u.run_id,
      u.key,
      u.tenant_id,
      u.n,
      left(coalesce(f.code, 'Unanswered'), 64) as code,
      left(coalesce(f.reason, 'the reply did not name this key'), 500) as reason,
      coalesce(f.outcome = 'refused', false) as counted,
      coalesce(f.outcome = 'refused', false)
        and (p_batch.attempts + 1 >= p_max_attempts or coalesce(f.final, false)) as is_dead
    from unnest(p_batch.run_ids, p_batch.keys, p_batch.tenants) with ordinality as u (run_id, key, tenant_id, n)
    left join (
      select distinct on (j.key collate "C") j.*
      from jsonb_to_recordset(p_failed) as j (key text, code text, reason text, outcome text, final boolean)
    ) f on f.key = retention._unpack_key(u.key, u.run_id::text) collate "C"
    where retention._unpack_key(u.key, u.run_id::text) collate "C" not in (select unnest(p_cleared) collate "C")
  ) f
  group by f.code, f.counted, f.is_dead
  order by min(f.n)
$$;

-- Takes a batch back after S3 has answered, and stamps the runs of what was deleted. What failed is tried
-- again later, or is dead after too many attempts. p_cleared: the keys that S3 named as deleted or as already
-- gone. p_all: every key of the batch was cleared. p_failed: [{"key", "code", "reason", "outcome",
-- "concerns", "final"}]. Its outcome is refused (counted as an attempt), failed or unknown (neither is
-- counted). It concerns key, bucket or store. It is final where another attempt cannot help. A key that is in
-- neither list is tried again and is not counted. p_ms: how long the request took; by default the time since
-- the claim. p_unanswered: the keys that S3 may still delete later. stamped: how many rows were stamped.
-- retry_at: when the first of what waits is tried again. When p_lease is no longer the batch's lease, settled
-- is false and nothing is changed.
-- For the listener.
-- Locks the batch, its bucket, and the rows that it stamps.
create or replace function retention.settle(
  p_batch_id bigint,
  p_lease uuid,
  p_cleared text[] default '{}',
  p_all boolean default false,
  p_failed jsonb default '[]',
  p_ms integer default null,
  p_unanswered text[] default '{}'
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
  v_setting retention.setting;
  v_batch retention.batch;
  v_done record;
  v_cleared bigint;
  v_stamped bigint := 0;
  v_retry_at timestamptz;
  v_first_retry_at timestamptz;
  v_failed bigint := 0;
  v_dead bigint := 0;
  v_problems jsonb := '[]';
  v_kind record;
begin
  select * into v_batch
  from retention.batch b
  where b.batch_id = p_batch_id
    and b.lease = p_lease
  for update;
  if not found then
    return query select false, 0, 0, 0, 0, null::timestamptz, '[]'::jsonb;
    return;
  end if;
  select * into strict v_setting from retention.setting;
  perform retention._note_unanswered(v_batch, p_unanswered, clock_timestamp());

  if p_all then
    v_cleared := v_batch.results;
    v_stamped := retention._stamp(v_batch.bucket, v_batch.run_ids, v_batch.keys, v_batch.leased_at);
  else
    select count(*) as results,
      coalesce(array_agg(u.run_id order by u.n), '{}') as run_ids,
      coalesce(array_agg(u.key order by u.n), '{}') as keys,
      coalesce(array_agg(u.tenant_id order by u.n), '{}') as tenants
    into strict v_done
    from unnest(v_batch.run_ids, v_batch.keys, v_batch.tenants) with ordinality as u (run_id, key, tenant_id, n)
    -- Bare, it would be joined by a nested loop; so it is looked up in a hash.
    where (retention._unpack_key(u.key, u.run_id::text) collate "C" in (select unnest(p_cleared) collate "C")) is true;
    v_cleared := v_done.results;
    if v_cleared > 0 then
      v_stamped := retention._stamp(v_batch.bucket, v_done.run_ids, v_done.keys, v_batch.leased_at);
    end if;
    for v_kind in
      select * from retention._failures(v_batch, p_cleared, p_failed, v_setting.max_attempts)
    loop
      v_retry_at := case
        when not v_kind.is_dead then clock_timestamp() + retention._backoff(
          case when v_kind.counted then v_setting.retry_base else v_setting.pause_base end,
          v_setting.retry_cap,
          case when v_kind.counted then v_batch.attempts else v_batch.postponed end
        )
      end;
      v_first_retry_at := least(v_first_retry_at, v_retry_at);
      insert into retention.batch (
        bucket, results, oldest, newest, due_since, early, flagged_at, visible_at,
        attempts, postponed, code, error, failed_at, dead_at, run_ids, keys, tenants
      )
      values (
        v_batch.bucket,
        cardinality(v_kind.run_ids),
        v_batch.oldest,
        v_batch.newest,
        v_batch.due_since,
        v_batch.early,
        v_batch.flagged_at,
        coalesce(v_retry_at, clock_timestamp()),
        v_batch.attempts + v_kind.counted::integer,
        v_batch.postponed + (not v_kind.counted)::integer,
        v_kind.code,
        v_kind.reason,
        clock_timestamp(),
        case when v_kind.is_dead then clock_timestamp() end,
        v_kind.run_ids,
        v_kind.keys,
        v_kind.tenants
      );
      if v_kind.is_dead then
        v_dead := v_dead + cardinality(v_kind.run_ids);
      else
        v_failed := v_failed + cardinality(v_kind.run_ids);
      end if;
      v_problems := v_problems || jsonb_strip_nulls(jsonb_build_object(
        'code', v_kind.code,
        'message', v_kind.reason,
        'results', cardinality(v_kind.run_ids),
        'run_ids', v_kind.run_ids[1:3]::text[],
        'retry_at', retention._iso(v_retry_at),
        'dead', v_kind.is_dead
      ));
    end loop;
  end if;

  if v_cleared > 0 then
    perform retention._note_success(v_batch.bucket);
  else
    perform retention._note_refusal(v_batch, p_failed);
  end if;

  update retention.batch b
  set lease = null,
    cleared = v_cleared,
    failed = v_failed,
    dead = v_dead,
    problems = nullif(v_problems, '[]'),
    ms = coalesce(p_ms, extract(epoch from clock_timestamp() - b.leased_at) * 1000),
    settled_at = clock_timestamp()
  where b.batch_id = p_batch_id;
  if v_cleared < v_batch.results then
    -- The receipt names what was cleared and nothing else.
    update retention.batch b
    set run_ids = v_done.run_ids,
      keys = v_done.keys,
      tenants = v_done.tenants
    where b.batch_id = p_batch_id;
  end if;
  return query
  select true, v_cleared::integer, v_stamped::integer, v_failed::integer, v_dead::integer, v_first_retry_at, v_problems;
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

-- What a batch of which nothing was cleared says of its bucket: where all that was refused concerns the bucket,
-- it pauses at once; where all was refused with one code, the second time in a row. One key that is refused alone
-- says nothing of its bucket, and neither does a refusal that is final. Called by settle alone.
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
    bool_and(f.concerns = 'bucket') as concerns_bucket
  into strict v_refusal
  from jsonb_to_recordset(p_failed) as f (code text, reason text, outcome text, concerns text, final boolean);
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
-- counted as an attempt. The bucket pauses, longer each time. p_code, p_message: why. p_unanswered: the keys
-- that S3 may still delete later. Returns when the batch may be claimed again, or null when p_lease is no
-- longer the batch's lease.
-- For the listener.
-- Locks the batch and its bucket.
create or replace function retention.postpone(
  p_batch_id bigint,
  p_lease uuid,
  p_code text,
  p_message text,
  p_unanswered text[] default '{}'
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
    return null;
  end if;
  perform retention._note_unanswered(v_batch, p_unanswered, clock_timestamp());
  v_until := greatest(retention._pause_bucket(v_batch.bucket, p_code, p_message), clock_timestamp());
  update retention.batch b
  set lease = null,
    visible_at = v_until,
    postponed = b.postponed + 1,
    problems = jsonb_build_array(jsonb_build_object(
      'code', left(p_code, 64),
      'message', left(p_message, 500),
      'results', b.results,
      'run_ids', b.run_ids[1:3]::text[],
      'retry_at', retention._iso(v_until)
    ))
  where b.batch_id = p_batch_id;
  return v_until;
end
$$;

-- Takes a batch back whose request was refused whole because of one bad key, and halves it. After a few turns
-- the bad key is alone in its batch. When more than 20 requests in a row were refused, no single key is the
-- cause: the bucket pauses and the batch stays whole. p_unanswered: the keys that S3 may still delete later.
-- Returns the batch that was split off, or the batch itself when it stays whole. Returns null when p_lease is
-- no longer the batch's lease, and for a batch of one result.
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
    return null;
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
  v_half := v_batch.results / 2;
  insert into retention.batch (
    bucket, results, oldest, newest, due_since, early, flagged_at, attempts, postponed,
    code, error, failed_at, run_ids, keys, tenants
  )
  values (
    v_batch.bucket, v_half, v_batch.oldest, v_batch.newest, v_batch.due_since, v_batch.early, v_batch.flagged_at,
    v_batch.attempts, v_batch.postponed, v_batch.code, v_batch.error, v_batch.failed_at,
    v_batch.run_ids[1:v_half], v_batch.keys[1:v_half], v_batch.tenants[1:v_half]
  )
  returning batch_id into v_batch_id;
  update retention.batch b
  set lease = null,
    results = v_batch.results - v_half,
    run_ids = v_batch.run_ids[v_half + 1:],
    keys = v_batch.keys[v_half + 1:],
    tenants = v_batch.tenants[v_half + 1:],
    visible_at = clock_timestamp()
  where b.batch_id = p_batch_id;
  return v_batch_id;
end
$$;

-- How many results wait in batches that the object store did not work on; p_batch_ids: of these batches only
-- (null: of all). For operators.
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
