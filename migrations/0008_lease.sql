-- Up Migration

/*
Leases: claim hands out a batch, settle and its kin take it back. Each is one statement for its
caller, so no transaction is open while S3 is called. Whoever comes with a lease that is no longer
the batch's changes nothing.
*/

-- A pause that doubles with each try up to a cap, with half of it left to chance.
create function retention.growing(p_base interval, p_cap interval, p_tries integer)
returns interval
language sql
volatile
as $$
  select least(p_cap, p_base * power(2, least(p_tries, 30))) * (0.5 + random() / 2)
$$;

-- Promise 1, for the results of one batch: may it still go? A result may when its run is due by the
-- policy in force now (or by the cutoff that a person confirmed for this batch), is not held, still
-- points at that very bucket and key, and no other run that is not itself due points at them too.
-- Called by claim under its planner settings.
create function retention.recheck(p_batch_id bigint, p_early interval, p_shared boolean)
returns table (run_id retention.run_id, key text, may_go boolean)
language plpgsql
stable
rows 1000
as $$
#variable_conflict use_column
begin
  -- The aggregates keep this a probe by key, or by run id: joined to the view as a whole, it is a scan.
  if p_shared then
    return query
    select e.run_id, e.key, coalesce(o.may_go, false)
    from retention.expired e
    left join lateral (
      -- By its key, one probe finds the run itself and whoever else needs the object.
      select bool_or(r.run_id = e.run_id and r.completed_at = e.completed_at)
        and bool_and(
          not r.held
          and case
            when p_early is null or r.run_id <> e.run_id then coalesce(r.due_at < now(), false)
            else r.status = 'COMPLETED'
              and greatest(r.completed_at + retention.exactly(p_early), r.retain_until) < now()
          end
        ) as may_go
      from retention.live r
      where r.key = e.key
        and r.bucket = e.bucket
    ) o on true
    where e.batch_id = p_batch_id;
  else
    return query
    select e.run_id, e.key, coalesce(o.may_go, false)
    from retention.expired e
    left join lateral (
      select bool_and(
        not r.held
        and case
          when p_early is null then coalesce(r.due_at < now(), false)
          else r.status = 'COMPLETED'
            and greatest(r.completed_at + retention.exactly(p_early), r.retain_until) < now()
        end
      ) as may_go
      from retention.live r
      where r.run_id = e.run_id
        and r.key = e.key
        and r.bucket = e.bucket
        and r.completed_at = e.completed_at
    ) o on true
    where e.batch_id = p_batch_id;
  end if;
end
$$;

-- Notes that S3 may still be at a request for these results of a batch (null: for all of them), sent at
-- p_sent_at at the latest, that nobody waits for any more. See retention.setting.unanswered_for and
-- retention.in_flight.
create function retention.note_unanswered(
  p_batch_id bigint,
  p_run_ids retention.run_id[],
  p_sent_at timestamptz
)
returns void
language sql
as $$
  insert into retention.unanswered (run_id, bucket, key, until)
  select e.run_id, e.bucket, e.key, p_sent_at + s.unanswered_for
  from retention.expired e
  cross join retention.setting s
  where p_sent_at + s.unanswered_for > clock_timestamp()
    and e.batch_id = p_batch_id
    and (p_run_ids is null or e.run_id = any (p_run_ids))
  order by e.run_id
  on conflict (run_id, bucket, key) do update
  set until = greatest(excluded.until, unanswered.until)
$$;

-- Picks the batch to work on next and locks its row, or returns null. The bucket with the fewest
-- batches in flight goes first, so that no bucket waits behind another's backlog. A bucket that is
-- paused is passed by; one that was, and has not yet succeeded, gets one batch at a time. Of a batch
-- whose lease has run out it notes what whoever had it may still be asking of S3.
create function retention.next_batch(p_batch_ids bigint[])
returns bigint
language plpgsql
as $$
declare
  v_bucket record;
  v_batch_id bigint;
  v_ran_out_at timestamptz;
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
      select b.batch_id, case when b.lease is not null then b.visible_at end
      into v_batch_id, v_ran_out_at
      from retention.batch b
      where b.bucket = v_bucket.bucket
        and b.settled_at is null
        and b.visible_at <= clock_timestamp()
      order by b.visible_at, b.batch_id
      limit 1
      for update skip locked;
    else
      select b.batch_id, case when b.lease is not null then b.visible_at end
      into v_batch_id, v_ran_out_at
      from retention.batch b
      where b.batch_id = any (p_batch_ids)
        and b.bucket = v_bucket.bucket
        and b.settled_at is null
        and b.visible_at <= clock_timestamp()
      order by b.visible_at, b.batch_id
      limit 1
      for update skip locked;
    end if;
    if v_ran_out_at is not null then
      perform retention.note_unanswered(v_batch_id, null, v_ran_out_at);
    end if;
    if v_batch_id is not null then
      return v_batch_id;
    end if;
  end loop;
  return null;
end
$$;

-- Counts this transaction among those that work on the results of a batch, until it ends. False: there
-- were setting.statements_at_once already beside p_ours, which are of the same listener, and it is not
-- among them; who hears that works on fewer batches at once. More at once than the server has processors
-- for get less done together, and keep the application from those; of several listeners one then does
-- the most, for less than all of them would take. It waits for nobody, and no rule depends on it. The
-- places are advisory locks (1382380609, 1 and up), a number that nobody else is likely to use.
create function retention.take_place(p_setting retention.setting, p_ours integer)
returns boolean
language plpgsql
as $$
begin
  for v_place in 1..p_setting.statements_at_once + p_ours loop
    if pg_try_advisory_xact_lock(1382380609, v_place) then
      return true;
    end if;
  end loop;
  return false;
end
$$;

-- Leases the next visible batch for p_lease_for and returns what may go of it, each result checked
-- again against promise 1; spared results leave the work tables here. No row: nothing is visible.
-- A row without run ids: everything was spared, ask again. purge: every version is to go.
-- p_batch_ids: only these batches (a narrowed reconcile). p_ours: how many claims and settles of the
-- same listener are at work beside this one. crowded: see take_place.
-- Locks the batch row; waits for holds that are being placed. Raises active_sql_transaction outside
-- READ COMMITTED, where it could not see a hold that has committed meanwhile.
create function retention.claim(
  p_lease uuid,
  p_lease_for interval,
  p_by text default null,
  p_batch_ids bigint[] default null,
  p_ours integer default 0
)
returns table (
  batch_id bigint,
  bucket text,
  run_ids text[],
  keys text[],
  spared integer,
  attempts integer,
  leased_until timestamptz,
  purge boolean,
  crowded boolean
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
  v_batch_id bigint;
  v_crowded boolean;
  v_checked record;
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
  select * into strict v_setting from retention.setting;
  if not v_setting.enabled then
    return;
  end if;
  v_batch_id := retention.next_batch(p_batch_ids);
  if v_batch_id is null then
    return;
  end if;
  -- Against place_hold, which locks in exclusive mode: a hold either committed before this, and the
  -- check below sees it, or it waits for us and then sees the lease. And against reclaim, which moves
  -- results: what looks at them from here on sees them where they are.
  lock table retention.hold, retention.expired in row share mode;
  v_crowded := not retention.take_place(v_setting, p_ours);

  update retention.batch b
  set lease = p_lease,
    leased_at = clock_timestamp(),
    leased_by = p_by,
    visible_at = clock_timestamp() + p_lease_for
  where b.batch_id = v_batch_id
  returning * into strict v_batch;

  select coalesce(array_agg(c.run_id::text) filter (where c.may_go), '{}') as run_ids,
    coalesce(array_agg(c.key) filter (where c.may_go), '{}') as keys,
    array_agg(c.run_id) filter (where not c.may_go) as spared,
    count(*) filter (where not c.may_go) as spared_count,
    count(*) filter (where c.may_go) as count
  into v_checked
  from retention.recheck(v_batch_id, v_batch.early, v_setting.check_shared_objects) c;

  if v_checked.spared_count > 0 or v_checked.count <> v_batch.results then
    delete from retention.expired e
    where e.batch_id = v_batch_id
      and e.run_id = any (v_checked.spared);
    update retention.batch b
    set results = v_checked.count,
      spared = b.spared + v_checked.spared_count,
      lease = case when v_checked.count > 0 then b.lease end,
      ms = case when v_checked.count > 0 then b.ms else 0 end,
      settled_at = case when v_checked.count > 0 then null else clock_timestamp() end
    where b.batch_id = v_batch_id;
  end if;
  return query
  select v_batch_id,
    v_batch.bucket,
    v_checked.run_ids,
    v_checked.keys,
    v_checked.spared_count::integer,
    v_batch.attempts,
    v_batch.visible_at,
    exists (
      select
      from retention.bucket k
      where k.bucket = v_batch.bucket
        and k.on_versioned = 'purge'
    ),
    v_crowded;
end
$$;

-- Notes on a bucket what an attempt showed. A pause that is running is not made longer, so that the
-- batches in flight when it began count once. Locks the bucket's row.
create function retention.pause_bucket(p_bucket text, p_code text, p_error text)
returns timestamptz
language plpgsql
as $$
declare
  v_setting retention.setting;
  v_until timestamptz;
begin
  select * into strict v_setting from retention.setting;
  update retention.bucket k
  set paused_until = clock_timestamp() + retention.growing(v_setting.pause_base, v_setting.pause_cap, k.pauses),
    pauses = k.pauses + 1,
    pause_code = left(p_code, 64),
    pause_error = left(p_error, 500)
  where k.bucket = p_bucket
    and (k.paused_until is null or k.paused_until <= clock_timestamp());
  select k.paused_until into v_until from retention.bucket k where k.bucket = p_bucket;
  return v_until;
end
$$;

-- What note_unanswered does now, for those of p_run_ids that are in the batch: nobody can note others.
create function retention.note_unanswered_in(p_batch_id bigint, p_run_ids retention.run_id[])
returns void
language sql
as $$
  select retention.note_unanswered(p_batch_id, p_run_ids, clock_timestamp())
  where cardinality(p_run_ids) > 0
$$;

-- Takes a batch back after S3 has answered. p_cleared: the run ids whose keys S3 named as deleted (or
-- already gone); p_failed: [{"run_id", "code", "message", "transient"}]; what is in neither was not
-- answered for and is tried again. p_unanswered: those for which S3 may still be at a request, whatever
-- became of them. Stamps, reschedules or buries, in this one transaction.
-- A transient failure does not count against its result. p_ours: as for claim. crowded: see take_place.
-- Returns settled = false, and changes nothing, when p_lease is no longer the batch's lease.
create function retention.settle(
  p_batch_id bigint,
  p_lease uuid,
  p_cleared retention.run_id[],
  p_failed jsonb default '[]',
  p_ms integer default null,
  p_unanswered retention.run_id[] default '{}',
  p_ours integer default 0
)
returns table (
  settled boolean,
  cleared integer,
  stamped integer,
  failed integer,
  dead integer,
  retry_at timestamptz,
  crowded boolean
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
  v_stamped bigint := 0;
  v_cleared bigint := 0;
  v_retry_at timestamptz;
  v_failed bigint := 0;
  v_dead bigint := 0;
  v_problems jsonb := '[]';
  v_refusal text;
  v_part record;
  v_batch_id bigint;
  v_crowded boolean;
begin
  select * into v_batch
  from retention.batch b
  where b.batch_id = p_batch_id
    and b.lease = p_lease
  for update;
  if not found then
    return query select false, 0, 0, 0, 0, null::timestamptz, false;
    return;
  end if;
  select * into strict v_setting from retention.setting;
  v_crowded := not retention.take_place(v_setting, p_ours);

  if cardinality(p_unanswered) > 0 then
    perform retention.note_unanswered_in(p_batch_id, p_unanswered);
  end if;
  if cardinality(p_cleared) > 0 then
    select s.cleared, s.stamped
    into v_cleared, v_stamped
    from retention.stamp(p_batch_id, v_batch.bucket, p_cleared, v_setting.default_bucket) s;
  end if;

  if v_cleared < v_batch.results then
    -- The counted and the uncounted go on in batches of their own, each with its own pause.
    for v_part in
      select f.transient,
        f.is_dead,
        count(*) as results,
        array_agg(f.run_id) as run_ids,
        min(f.completed_at) as oldest,
        min(f.due_at) as due_since
      from retention.failures(p_batch_id, p_failed, v_setting.max_attempts) f
      group by f.transient, f.is_dead
    loop
      v_batch_id := null;
      if v_part.is_dead then
        v_dead := v_dead + v_part.results;
      else
        v_failed := v_failed + v_part.results;
        v_retry_at := clock_timestamp() + retention.growing(
          case when v_part.transient then v_setting.pause_base else v_setting.retry_base end,
          v_setting.retry_cap,
          case when v_part.transient then v_batch.postponed else v_batch.attempts end
        );
        insert into retention.batch (
          bucket, results, oldest, due_since, early, flagged_at, visible_at, attempts, postponed
        )
        values (
          v_batch.bucket,
          v_part.results,
          v_part.oldest,
          v_part.due_since,
          v_batch.early,
          v_batch.flagged_at,
          v_retry_at,
          v_batch.attempts + case when v_part.transient then 0 else 1 end,
          v_batch.postponed + case when v_part.transient then 1 else 0 end
        )
        returning batch_id into v_batch_id;
      end if;
      select v_problems || coalesce(jsonb_agg(p.problem), '[]')
      into v_problems
      from (
        select jsonb_build_object(
          'code', f.code,
          'message', min(f.message),
          'results', count(*),
          'run_ids', (array_agg(f.run_id::text order by f.run_id))[1:3],
          'retry_at', retention.iso(v_retry_at),
          'dead', v_part.is_dead
        ) - case when v_part.is_dead then 'retry_at' else '' end as problem
        from retention.failures(p_batch_id, p_failed, v_setting.max_attempts) f
        where f.run_id = any (v_part.run_ids)
        group by f.code
      ) p;
      update retention.expired e
      set attempts = e.attempts + case when v_part.transient then 0 else 1 end,
        last_code = left(f.code, 64),
        last_error = left(f.message, 500),
        failed_at = clock_timestamp(),
        batch_id = v_batch_id,
        dead_at = case when v_part.is_dead then clock_timestamp() end
      from retention.failures(p_batch_id, p_failed, v_setting.max_attempts) f
      where e.run_id = f.run_id
        and e.run_id = any (v_part.run_ids);
    end loop;
  end if;

  if v_cleared > 0 then
    update retention.bucket k
    set pauses = 0,
      paused_until = null,
      pause_code = null,
      pause_error = null,
      refused_in_row = 0
    where k.bucket = v_batch.bucket
      and (k.pauses > 0 or k.refused_in_row > 0);
  else
    select min(f ->> 'code')
    into v_refusal
    from jsonb_array_elements(p_failed) f
    having count(distinct f ->> 'code') = 1
      and min(f ->> 'code') in ('AccessDenied', 'AllAccessDisabled', 'NoSuchBucket', 'AccountProblem');
    -- One key that is refused alone says nothing of its bucket; a bucket that is gone does.
    if v_refusal = 'NoSuchBucket' or v_refusal is not null and v_batch.results > 1 then
      update retention.bucket k
      set refused_in_row = k.refused_in_row + 1
      where k.bucket = v_batch.bucket
      returning k.refused_in_row into v_part;
      if v_refusal = 'NoSuchBucket' or v_part.refused_in_row > 1 then
        perform retention.pause_bucket(v_batch.bucket, v_refusal, p_failed -> 0 ->> 'message');
      end if;
    end if;
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
  return query
  select true, v_cleared::integer, v_stamped::integer, v_failed::integer, v_dead::integer, v_retry_at, v_crowded;
end
$$;

-- What settle makes of the results that are still in a batch. See there.
create function retention.failures(p_batch_id bigint, p_failed jsonb, p_max_attempts integer)
returns table (
  run_id retention.run_id,
  completed_at timestamptz,
  due_at timestamptz,
  code text,
  message text,
  transient boolean,
  is_dead boolean
)
language sql
stable
as $$
  select e.run_id,
    e.completed_at,
    e.due_at,
    coalesce(f.code, 'Unanswered'),
    coalesce(f.message, 'the reply did not name this key'),
    coalesce(f.transient, f.run_id is null),
    not coalesce(f.transient, f.run_id is null)
      and (e.attempts + 1 >= p_max_attempts or coalesce(f.final, false))
  from retention.expired e
  left join jsonb_to_recordset(p_failed) as f (run_id text, code text, message text, transient boolean, final boolean)
    on f.run_id = e.run_id::text
  where e.batch_id = p_batch_id
$$;

-- Takes a batch back that S3 did not work on (throttled, timed out, 5xx, expired credentials): not
-- counted against its results. The bucket pauses, longer each time. p_unanswered: see settle. Returns
-- when it may be claimed again, or null when p_lease is no longer the batch's lease.
create function retention.postpone(
  p_batch_id bigint,
  p_lease uuid,
  p_code text,
  p_message text,
  p_unanswered retention.run_id[] default '{}'
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
  perform retention.note_unanswered_in(p_batch_id, p_unanswered);
  v_until := greatest(retention.pause_bucket(v_batch.bucket, p_code, p_message), clock_timestamp());
  update retention.batch b
  set lease = null,
    visible_at = v_until,
    postponed = b.postponed + 1,
    problems = jsonb_build_array(jsonb_build_object(
      'code', left(p_code, 64),
      'message', left(p_message, 500),
      'results', b.results,
      'run_ids', (
        select coalesce(jsonb_agg(i.run_id), '[]')
        from (select e.run_id::text from retention.expired e where e.batch_id = p_batch_id limit 3) i
      ),
      'retry_at', retention.iso(v_until)
    ))
  where b.batch_id = p_batch_id;
  return v_until;
end
$$;

-- Takes a batch back whose request was refused whole for one bad key: halves it, so that in a few
-- turns the bad key stands alone. Where request after request is refused, it is not a key that is
-- bad: then the bucket pauses and the batch stays whole. p_unanswered: see settle. Returns the batch that
-- was split off, or the batch itself when it stays whole, or null when p_lease is no longer the batch's
-- lease.
create function retention.split(
  p_batch_id bigint,
  p_lease uuid,
  p_unanswered retention.run_id[] default '{}'
)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_batch retention.batch;
  v_half retention.run_id[];
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
  perform retention.note_unanswered_in(p_batch_id, p_unanswered);
  update retention.bucket k
  set refused_in_row = k.refused_in_row + 1
  where k.bucket = v_batch.bucket
  returning k.refused_in_row into v_refused;
  if v_refused > 20 then
    perform retention.postpone(p_batch_id, p_lease, 'MalformedRequest', 'request after request is refused whole');
    return p_batch_id;
  end if;
  v_half := array(
    select e.run_id
    from retention.expired e
    where e.batch_id = p_batch_id
    order by e.completed_at, e.run_id
    limit v_batch.results / 2
  );
  insert into retention.batch (bucket, results, oldest, due_since, early, flagged_at, attempts, postponed)
  select v_batch.bucket, count(*), min(e.completed_at), min(e.due_at), v_batch.early, v_batch.flagged_at, v_batch.attempts, v_batch.postponed
  from retention.expired e
  where e.batch_id = p_batch_id
    and e.run_id = any (v_half)
  returning batch_id into v_batch_id;
  update retention.expired e
  set batch_id = v_batch_id
  where e.batch_id = p_batch_id
    and e.run_id = any (v_half);
  update retention.batch b
  set lease = null,
    results = b.results - cardinality(v_half),
    visible_at = clock_timestamp()
  where b.batch_id = p_batch_id;
  return v_batch_id;
end
$$;

-- Gives a batch back untouched, for others to claim at once. True when it was ours to give.
create function retention.give_back(p_batch_id bigint, p_lease uuid)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
begin
  update retention.batch b
  set lease = null,
    visible_at = now()
  where b.batch_id = p_batch_id
    and b.lease = p_lease;
  return found;
end
$$;

create index batch_leased on retention.batch (bucket) where lease is not null;

-- Down Migration

drop index retention.batch_leased;
drop function retention.give_back(bigint, uuid), retention.split(bigint, uuid, retention.run_id[]),
  retention.postpone(bigint, uuid, text, text, retention.run_id[]),
  retention.failures(bigint, jsonb, integer),
  retention.settle(bigint, uuid, retention.run_id[], jsonb, integer, retention.run_id[], integer),
  retention.note_unanswered_in(bigint, retention.run_id[]),
  retention.pause_bucket(text, text, text),
  retention.claim(uuid, interval, text, bigint[], integer), retention.take_place(retention.setting, integer),
  retention.next_batch(bigint[]),
  retention.note_unanswered(bigint, retention.run_id[], timestamptz),
  retention.recheck(bigint, interval, boolean),
  retention.growing(interval, interval, integer);
