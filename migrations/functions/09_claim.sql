/*
Claiming: hands out a batch under a lease. One statement for its caller, so no transaction is open while S3 is
called.
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

-- Notes that S3 may still perform a request for these keys of a batch (null: for all of them), sent at
-- p_sent_at at the latest, whose sender has stopped waiting. See setting.unanswered_for and _in_flight.
create or replace function retention._note_unanswered(p_batch retention.batch, p_keys text[], p_sent_at timestamptz)
returns void
language plpgsql
as $$
declare
  v_until timestamptz := p_sent_at + (select s.unanswered_for from retention.setting s);
begin
  if v_until <= clock_timestamp() or p_keys = '{}' then
    return;
  end if;
  insert into retention.unanswered (bucket, run_ids, keys, until)
  select p_batch.bucket, array_agg(u.run_id), array_agg(u.key), v_until
  from unnest(p_batch.run_ids, p_batch.keys) as u (run_id, key)
  where p_keys is null
    or retention._unpack_key(u.key, u.run_id::text) collate "C" in (select unnest(p_keys) collate "C")
  having count(*) > 0;
end
$$;

-- Takes results out of a batch that is not settled; without any left, the batch goes. The caller has locked it.
create or replace function retention._take_out(p_batch_id bigint, p_run_ids retention.run_id[])
returns void
language plpgsql
as $$
declare
  v_left record;
begin
  select count(*) as results,
    array_agg(u.run_id order by u.n) as run_ids,
    array_agg(u.key order by u.n) as keys,
    array_agg(u.tenant_id order by u.n) as tenants
  into v_left
  from retention.batch b
  cross join unnest(b.run_ids, b.keys, b.tenants) with ordinality as u (run_id, key, tenant_id, n)
  where b.batch_id = p_batch_id
    and u.run_id not in (select unnest(p_run_ids));
  if v_left.results = 0 then
    delete from retention.batch b where b.batch_id = p_batch_id;
  else
    update retention.batch b
    set results = v_left.results,
      run_ids = v_left.run_ids,
      keys = v_left.keys,
      tenants = v_left.tenants
    where b.batch_id = p_batch_id;
  end if;
end
$$;

-- Promise 1, for the results of one batch: spared are the places (from 1) of those that may not go, keys
-- those of the others. A result may when its run is due by the policy in force now (or by the cutoff that a
-- person confirmed for this batch), is not held, still points at that very bucket and key, and no other run
-- that is not itself due points at them too. Called by claim under its planner settings.
create or replace function retention._may_go(
  p_batch retention.batch,
  p_shared boolean,
  out spared bigint[],
  out keys text[]
)
language plpgsql
stable
as $$
declare
  v_early interval := retention._in_seconds(p_batch.early);
begin
  -- The aggregates keep this a probe by key, or by run id: joined to the view as a whole, it is a scan.
  if p_shared and v_early is null then
    select coalesce(array_agg(e.n) filter (where o.may_go is not true), '{}'),
      coalesce(array_agg(e.key) filter (where o.may_go), '{}')
    into spared, keys
    from retention._results(p_batch) e
    cross join lateral (
      -- By its key, one probe finds the run itself and any other that needs the object.
      select bool_or(r.run_id = e.run_id) and bool_and(r.is_due) as may_go
      from retention._live r
      where r.key = e.key collate "C"
        and r.bucket = p_batch.bucket
    ) o;
  elsif p_shared then
    select coalesce(array_agg(e.n) filter (where o.may_go is not true), '{}'),
      coalesce(array_agg(e.key) filter (where o.may_go), '{}')
    into spared, keys
    from retention._results(p_batch) e
    cross join lateral (
      select bool_or(r.run_id = e.run_id)
        and bool_and(
          r.is_due
          or r.run_id = e.run_id
            and not r.held
            and r.is_candidate
            and coalesce(greatest(r.completed_at + v_early, r.retain_until) < now(), false)
        ) as may_go
      from retention._live r
      where r.key = e.key collate "C"
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
          and r.is_candidate
          and coalesce(greatest(r.completed_at + v_early, r.retain_until) < now(), false)
      ) as may_go
      from retention._live r
      where r.run_id = e.run_id
        and r.key = e.key collate "C"
        and r.bucket = p_batch.bucket
    ) o;
  end if;
end
$$;

-- Picks the batch to work on next and locks its row, or returns null. The bucket with the fewest
-- batches in flight goes first, so that no bucket waits behind another's backlog. A bucket that is
-- paused is passed by; one that was, and has not yet succeeded, gets one batch at a time.
create or replace function retention._next_batch(p_batch_ids bigint[])
returns bigint
language plpgsql
as $$
declare
  v_bucket record;
  v_batch_id bigint;
begin
  for v_bucket in
    select k.bucket,
      k.pauses > 0 as is_on_trial
    from retention.bucket k
    cross join lateral (
      select b.visible_at
      from retention.batch b
      where b.bucket = k.bucket
        and b.settled_at is null
        and b.dead_at is null
        and b.visible_at <= clock_timestamp()
      order by b.visible_at
      limit 1
    ) first
    cross join lateral (
      select count(*) as batches
      from retention.batch b
      where b.bucket = k.bucket
        and b.lease is not null
    ) leased
    where k.paused_until is null
      or k.paused_until <= clock_timestamp()
    order by leased.batches, first.visible_at
  loop
    if v_bucket.is_on_trial then
      perform
      from retention.bucket k
      where k.bucket = v_bucket.bucket
      for update skip locked;
      continue when not found or exists (
        select
        from retention.batch b
        where b.bucket = v_bucket.bucket
          and b.lease is not null
          and b.visible_at > clock_timestamp()
      );
    end if;
    if p_batch_ids is null then
      select b.batch_id
      into v_batch_id
      from retention.batch b
      where b.bucket = v_bucket.bucket
        and b.settled_at is null
        and b.dead_at is null
        and b.visible_at <= clock_timestamp()
      order by b.visible_at, b.batch_id
      limit 1
      for update skip locked;
    else
      select b.batch_id
      into v_batch_id
      from retention.batch b
      where b.batch_id = any (p_batch_ids)
        and b.bucket = v_bucket.bucket
        and b.settled_at is null
        and b.dead_at is null
        and b.visible_at <= clock_timestamp()
      order by b.visible_at, b.batch_id
      limit 1
      for update skip locked;
    end if;
    if v_batch_id is not null then
      return v_batch_id;
    end if;
  end loop;
  return null;
end
$$;

-- Leases the next visible batch for p_lease_for and returns the keys that may go. Each result is checked
-- again: it is due, not held, still points at this key, and no run that is not due shares the object. What
-- fails the check is spared and leaves the batch. No row: nothing is visible, or the gate is closed. A row
-- without keys: everything was spared, so ask again. purge: every version of the keys is to go. habits: what the
-- store of the bucket does differently, as learn_habits has it; null: nothing. looked_in: where its keys were
-- looked for before the first deletion; null: they were not, or not enough of them. cut: the batches that were cut
-- off this one, since the store takes no more keys at once. p_lease: the token that settle, postpone and split ask
-- for. p_by: who claims. p_batch_ids: only these batches, for a
-- narrowed reconcile. p_client: the client's version, for the gate.
-- For the listener.
-- Locks the batch. Waits for transactions that are placing a hold.
-- Raises active_sql_transaction outside READ COMMITTED, because there it could not see a hold that has
-- committed meanwhile. Raises invalid_parameter_value without a token, or without a duration above zero.
create or replace function retention.claim(
  p_lease uuid,
  p_lease_for interval,
  p_by text default null,
  p_batch_ids bigint[] default null,
  p_client text default null
)
returns table (
  batch_id bigint,
  bucket text,
  keys text[],
  spared integer,
  attempts integer,
  leased_until timestamptz,
  purge boolean,
  habits jsonb,
  looked_in text,
  cut bigint[]
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
  v_before retention.batch;
  v_batch retention.batch;
  v_batch_id bigint;
  v_checked record;
  v_kept record;
  v_bucket retention.bucket;
  v_habits jsonb;
  v_most integer;
  v_cut bigint[];
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      errcode = 'active_sql_transaction',
      message = format('claim needs a READ COMMITTED transaction, given: %s', current_setting('transaction_isolation'));
  end if;
  if p_lease is null or coalesce(p_lease_for, '0') <= '0' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'claim needs a lease token and a duration above zero';
  end if;
  if not retention._is_open(p_client) then
    return;
  end if;
  v_batch_id := retention._next_batch(p_batch_ids);
  if v_batch_id is null then
    return;
  end if;
  -- Against place_hold, which locks in exclusive mode: a hold either committed before this, and the
  -- check below sees it, or it waits for us and then sees the lease.
  lock table retention.hold in row share mode;
  select * into strict v_setting from retention.setting;
  select * into strict v_before from retention.batch b where b.batch_id = v_batch_id;
  if v_before.lease is not null then
    -- Its lease has run out, and whoever had it may still be asking S3.
    perform retention._note_unanswered(v_before, null, v_before.visible_at);
  end if;
  select * into v_bucket from retention.bucket k where k.bucket = v_before.bucket;
  v_habits := retention._habits(v_bucket);
  v_most := retention._max_keys(v_habits);
  if v_before.results > v_most then
    v_cut := retention._cut(v_batch_id, v_most);
  end if;

  update retention.batch b
  set lease = p_lease,
    leased_at = clock_timestamp(),
    leased_by = p_by,
    visible_at = clock_timestamp() + p_lease_for
  where b.batch_id = v_batch_id
  returning * into strict v_batch;

  select m.spared, m.keys
  into strict v_checked
  from retention._may_go(v_batch, v_setting.check_shared_objects) m;
  if cardinality(v_checked.spared) > 0 then
    select count(*) as results,
      coalesce(array_agg(u.run_id order by u.n), '{}') as run_ids,
      coalesce(array_agg(u.key order by u.n), '{}') as keys,
      coalesce(array_agg(u.tenant_id order by u.n), '{}') as tenants
    into strict v_kept
    from unnest(v_batch.run_ids, v_batch.keys, v_batch.tenants) with ordinality as u (run_id, key, tenant_id, n)
    where u.n not in (select unnest(v_checked.spared));
    update retention.batch b
    set results = v_kept.results,
      run_ids = v_kept.run_ids,
      keys = v_kept.keys,
      tenants = v_kept.tenants,
      spared = b.spared + cardinality(v_checked.spared),
      lease = case when v_kept.results > 0 then b.lease end,
      ms = case when v_kept.results > 0 then b.ms else 0 end,
      settled_at = case when v_kept.results > 0 then null else clock_timestamp() end
    where b.batch_id = v_batch_id;
  end if;
  return query
  select v_batch_id,
    v_batch.bucket,
    v_checked.keys,
    cardinality(v_checked.spared),
    v_batch.attempts,
    v_batch.visible_at,
    v_bucket.on_versioned is not distinct from 'purge',
    v_habits,
    -- What was sent before may be gone, which must not be taken for missing.
    case
      when v_bucket.looked >= 20
        or v_bucket.looked > 0 and num_nonnulls(v_before.leased_at, v_before.failed_at) > 0
      then v_bucket.looked_in
    end,
    v_cut;
end
$$;
