/*
Claiming: hands out a batch under a lease. One statement for its caller, so no transaction is open while S3 is
called.
*/

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
  perform retention._note_left(b, p_run_ids) from retention.batch b where b.batch_id = p_batch_id;
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
      tenants = v_left.tenants,
      etags = null
    where b.batch_id = p_batch_id;
  end if;
end
$$;

-- Whether the command lives that flagged results at p_flagged_at with a cutoff of its own. While it does, no other claim
-- gets them; after it they go by the policy.
create or replace function retention._has_command(p_flagged_at timestamptz)
returns boolean
language sql
stable
as $$
  select exists (
    select
    from retention.cutoff c
    where c.flagged_at = p_flagged_at
      and c.until > now()
  )
$$;

-- Ends the cutoff of a reconcile that is over: what is left of its batches goes by the policy again. p_batch_ids: what
-- flag_selected returned.
-- For operators.
-- Locks a row of retention.cutoff.
create or replace function retention.end_cutoff(p_batch_ids bigint[])
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$
  delete from retention.cutoff c
  where c.flagged_at in (select b.flagged_at from retention.batch b where b.batch_id = any (p_batch_ids))
$$;

-- Waits until no transaction places a hold, five seconds at most: one that has committed is seen by what is checked next.
create or replace function retention._lock_holds()
returns void
language plpgsql
as $$
begin
  -- Against place_hold, which locks in exclusive mode: a hold either committed before this, and the
  -- check below sees it, or it waits for us and then sees the lease.
  begin
    lock table retention.hold in row share mode;
  exception
    when lock_not_available then
      raise exception using
        errcode = 'lock_not_available',
        message = 'nothing is claimed while a transaction that places a hold is open; it has been for 5 seconds',
        detail = retention._lockers('retention.hold'),
        hint = 'Commit it, or end an idle one: select pg_terminate_backend(<process>)';
  end;
end
$$;

-- Leases a batch that this transaction has locked. p_by_number: it was asked for by its number, as a command does whose
-- cutoff still holds. p_by_etag: the versions that the rows name are asked for.
create or replace function retention._lease(
  p_before retention.batch,
  p_lease uuid,
  p_lease_for interval,
  p_by text,
  p_by_number boolean,
  p_by_etag boolean
)
returns retention.batch
language plpgsql
as $$
declare
  v_batch retention.batch;
  v_is_early boolean;
  v_why text;
begin
  v_is_early := p_before.early is not null and p_by_number and retention._has_command(p_before.flagged_at);
  if v_is_early and p_before.why = 'early' then
    v_why := 'early';
  elsif p_before.kind is null and exists (select from retention.returned_result) then
    v_why := retention._tell_returned(p_before.batch_id);
  end if;

  update retention.batch b
  set lease = p_lease,
    leased_at = clock_timestamp(),
    leased_by = p_by,
    early = case when v_is_early then b.early end,
    why = v_why,
    asked_by = case when b.early is null or v_is_early then b.asked_by end,
    revision = (select max(c.change_id) from retention.change c),
    policies = retention._policies_of(b.tenants, case when v_is_early then b.early end),
    -- As the rows are now, not as they were flagged: a result that was written again, with its row, is as due as before.
    etags = case when p_by_etag then retention._read_conditions(b) end,
    visible_at = clock_timestamp() + p_lease_for,
    -- This time its check comes through, or nothing of this is written: see take_turn.
    code = case when b.code not in ('ClaimLost', 'ClaimSuspect') then b.code end,
    error = case when b.code not in ('ClaimLost', 'ClaimSuspect') then b.error end,
    failed_at = case when b.code not in ('ClaimLost', 'ClaimSuspect') then b.failed_at end
  where b.batch_id = p_before.batch_id
  returning * into strict v_batch;
  return v_batch;
end
$$;

-- Leases the next visible batch for p_lease_for and returns the keys that may go. Each result is
-- checked again: it is due, not held, still points at this key, and no run that is not due shares the object.
-- What fails the check is spared and leaves the batch. A result for which the check raises an error leaves it
-- too, and waits for its next attempt: failed and dead count such results, and problems names them as settle
-- does. No row: nothing is visible, every bucket with work is at its ceiling, or the gate is closed. A row without keys: nothing of the batch may go now,
-- so ask again. purge: every version of the keys is to go. habits: what the store of the bucket does differently,
-- as learn_habits has it; null: nothing. looked_in: where its keys were looked for before the first deletion; null:
-- they were not, or not enough of them. etags: beside each key the version of it that may go, without quotes, and null
-- where any may; null: of each any may. What a keeper has is spared too. p_lease: the token that settle, postpone and split ask for. p_by: who claims.
-- p_batch_ids: only these batches, and what was split off them, for a narrowed reconcile. A
-- cutoff of its own counts in such a claim alone. p_client: the client's version, for the gate. p_buckets: only
-- batches of these buckets; by default of any.
-- For the listener.
-- Locks the batch. Waits for a transaction that is placing a hold, for 5 seconds at most.
-- Raises active_sql_transaction outside READ COMMITTED, because there it could not see a hold that has
-- committed meanwhile. Raises invalid_parameter_value without a token, or without a duration above zero. Raises
-- lock_not_available when a transaction that places a hold stays open.
create or replace function retention.claim(
  p_lease uuid,
  p_lease_for interval,
  p_by text default null,
  p_batch_ids bigint[] default null,
  p_client text default null,
  p_buckets text[] default null
)
returns table (
  batch_id bigint,
  bucket text,
  keys text[],
  spared integer,
  attempts integer,
  leased_until timestamptz,
  purge boolean,
  failed integer,
  dead integer,
  problems jsonb,
  habits jsonb,
  looked_in text,
  etags text[]
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
set lock_timeout = '5s'
as $$
#variable_conflict use_column
declare
  v_setting retention.setting;
  v_before retention.batch;
  v_batch retention.batch;
  v_batch_id bigint;
  v_checked record;
  v_problems jsonb := '[]';
  v_bucket retention.bucket;
  v_habits jsonb;
  v_most integer;
  v_asks_by_etag boolean;
  v_etags text[];
  v_maybe_shared bigint[];
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
  if not retention._is_open(p_client) or not retention._may_stamp() then
    return;
  end if;
  v_batch_id := retention._next_batch(p_batch_ids, p_buckets);
  if v_batch_id is null and retention._bring_back_times() then
    v_batch_id := retention._next_batch(p_batch_ids, p_buckets);
  end if;
  if v_batch_id is null then
    return;
  end if;
  perform retention._lock_holds();
  select * into strict v_setting from retention.setting;
  select * into strict v_before from retention.batch b where b.batch_id = v_batch_id;
  if v_before.lease is not null then
    -- Its lease has run out, and its last holder may still be asking S3.
    perform retention._note_unanswered(v_before, null, v_before.visible_at);
    perform retention._note_attempt(v_before, v_before.visible_at);
  end if;
  select * into v_bucket from retention.bucket k where k.bucket = v_before.bucket;
  -- By etag where rows name one, unless a person has said that the bucket's store cannot and any version may go.
  v_asks_by_etag := v_bucket.conditional is distinct from 'ignored'
    and (select a.columns -> 'etag' ->> 'name' is not null from retention.adapter a);
  v_habits := retention._habits(v_bucket);
  -- No more than the store takes in a request, than can be stamped in time, and than may go in a moment.
  v_most := least(
    retention._max_keys(v_habits), retention._max_stamps(), retention._paced_keys(v_bucket.max_per_second)
  );
  if v_before.results > v_most then
    perform retention._cut(v_batch_id, v_most);
  end if;
  v_batch := retention._lease(v_before, p_lease, p_lease_for, p_by, p_batch_ids is not null, v_asks_by_etag);
  if v_batch.kind = 'canary' then
    return query select * from retention._claim_canary(v_batch, v_bucket);
    return;
  end if;
  if v_batch.early is not null then
    -- Its command lives.
    update retention.cutoff c
    set until = now() + interval '15 minutes'
    where c.flagged_at = v_batch.flagged_at
      and c.until < now() + interval '10 minutes';
  end if;

  select * into strict v_checked from retention._check(v_batch, v_setting.check_shared_objects);
  if v_checked.is_late then
    perform retention._set_aside(v_batch, v_checked.errors[1]);
    return query
    select v_batch_id, v_batch.bucket, '{}'::text[], 0, v_batch.attempts, v_batch.visible_at, false, 0, 0, '[]'::jsonb,
      null::jsonb, null::text, null::text[];
    return;
  end if;
  v_maybe_shared := v_checked.spared;
  if v_batch.etags is not null or (select exists (select from retention.keeper)) then
    select m.spared, m.keys, m.etags
    into strict v_checked.spared, v_checked.keys, v_etags
    from retention._spare_more(v_batch, v_checked.spared, v_checked.keys) m;
  end if;
  if cardinality(v_checked.spared) + cardinality(v_checked.failed) > 0 then
    v_problems := retention._sort_out(
      v_batch, v_checked.spared, v_checked.failed, v_checked.codes, v_checked.errors, v_maybe_shared
    );
  end if;
  if v_bucket.max_per_second is not null and v_checked.keys <> '{}' then
    perform retention._note_pace(v_bucket.bucket, v_bucket.max_per_second, cardinality(v_checked.keys));
  end if;
  return query
  select v_batch_id,
    v_batch.bucket,
    v_checked.keys,
    cardinality(v_checked.spared),
    v_batch.attempts,
    v_batch.visible_at,
    v_bucket.on_versioned is not distinct from 'purge',
    coalesce(sum((p.problem ->> 'results')::integer) filter (where p.problem -> 'retry_at' is not null), 0)::integer,
    coalesce(sum((p.problem ->> 'results')::integer) filter (where p.problem -> 'retry_at' is null), 0)::integer,
    v_problems,
    v_habits,
    -- What was sent before may be gone, which must not be taken for missing.
    case
      when v_bucket.looked >= 20
        or v_bucket.looked > 0 and num_nonnulls(v_before.leased_at, v_before.failed_at) > 0
      then v_bucket.looked_in
    end,
    v_etags
  from jsonb_array_elements(v_problems) as p (problem);
end
$$;
