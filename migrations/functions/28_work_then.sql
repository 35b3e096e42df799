/*
Work then: what had become of a result at a time that has passed, from receipts, batches, surges and past work.
*/

-- Another run, still live, that needed the object of a run at a time, in words: it was not due then, or held. Null: none, or
-- runs that share objects were not looked for. p_setting: the settings then. One probe by key.
create or replace function retention._sharer_at(
  p_run_id retention.run_id,
  p_bucket text,
  p_key text,
  p_setting jsonb,
  p_at timestamptz
)
returns text
language plpgsql
stable
set enable_seqscan = off
as $$
declare
  v_other record;
  v_due_at timestamptz;
begin
  if not (p_setting ->> 'check_shared_objects')::boolean or not retention._can_look() then
    return null;
  end if;
  for v_other in
    select l.run_id, l.tenant_id::text as tenant_id, l.completed_at, l.retain_until::timestamptz as retain_until, l.due_at
    from retention._live l
    where l.key_hash = retention._key_hash(p_key)
      and l.key = p_key collate "C"
      and l.bucket = p_bucket
      and l.run_id <> p_run_id
    limit 1000
  loop
    v_due_at := case
      when v_other.due_at is not null
      then greatest(
        least(v_other.completed_at, timestamptz '290000-01-01 00:00Z')
          + retention._in_seconds((select p.retain from retention._policy_at(v_other.tenant_id, p_at) p)),
        v_other.retain_until
      )
    end;
    if v_due_at is null
      or v_due_at >= p_at
      or retention._holds_at(
        v_other.run_id, v_other.tenant_id, p_bucket, p_key, (p_setting ->> 'release_spread')::interval, p_at
      ) is not null
    then
      return format('it shared its object with run %s, which %s', v_other.run_id,
        case when v_due_at < p_at then 'was held' else 'was not due' end);
    end if;
  end loop;
  return null;
end
$$;

-- The surge that a result was set aside in at a time; 0: it was not judged yet; null: none. p_flagged_at: when batches that
-- had it were flagged: by that it is known which release it came out of.
create or replace function retention._surge_at(
  p_run_id retention.run_id,
  p_completed_at timestamptz,
  p_is_there boolean,
  p_flagged_at timestamptz,
  p_at timestamptz
)
returns bigint
language plpgsql
stable
set enable_seqscan = off
as $$
declare
  v_surge_id bigint;
  v_past record;
  v_flagged timestamptz[] := array[p_flagged_at];
begin
  select coalesce(p.surge_id, 0)
  into v_surge_id
  from retention.surge_part p
  left join retention.surge g on g.surge_id = p.surge_id
  where p_run_id = any (p.run_ids)
    and least(p.parked_at, g.found_at) <= p_at
  limit 1;
  if found then
    return v_surge_id;
  end if;
  for v_past in
    select p.state, p.batch_id, p.since, p.until
    from retention.past_work p
    where p.run_ids is not null
      and (not p_is_there or tstzrange(p.oldest, p.newest, '[]') @> p_completed_at)
      and p.until > p_at
      and p_run_id = any (p.run_ids)
  loop
    if v_past.state = 'set aside' and v_past.since <= p_at then
      return v_past.batch_id;
    end if;
    v_flagged := v_flagged || v_past.since;
  end loop;
  return (
    select g.surge_id
    from retention.surge_release r
    join retention.surge g on g.surge_id = r.surge_id
    where r.released_at = any (v_flagged)
      and r.released_at > p_at
      and g.found_at <= p_at
    order by r.released_at, g.surge_id
    limit 1
  );
end
$$;

-- What is noted of the batches that a result was in at a time. batch_id: of one that it left later. state, because: how
-- that batch, or p_batch_id, stood; null: it waited.
create or replace function retention._past_at(
  p_run_id retention.run_id,
  p_completed_at timestamptz,
  p_is_there boolean,
  p_batch_id bigint,
  p_at timestamptz,
  out batch_id bigint,
  out flagged_at timestamptz,
  out left_at timestamptz,
  out state text,
  out because text
)
language plpgsql
stable
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  select p.batch_id, p.since, p.until
  into batch_id, flagged_at, left_at
  from retention.past_work p
  where p.run_ids is not null
    and p.state = 'flagged'
    and (not p_is_there or tstzrange(p.oldest, p.newest, '[]') @> p_completed_at)
    and p.since <= p_at
    and p.until > p_at
    and p_run_id = any (p.run_ids)
  order by p.since desc, p.batch_id
  limit 1;
  select p.state,
    case p.state
      when 'in flight'
      then format('%s worked on it from %s to %s, in batch %s', p.because, retention._iso(p.since), retention._iso(p.until), p.batch_id)
      when 'dead'
      then format('it had failed for good at %s: %s', retention._iso(p.since), p.because)
      else format('it had failed at %s: %s', retention._iso(p.since), p.because)
    end
  into state, because
  from retention.past_work p
  where p.batch_id in (_past_at.batch_id, p_batch_id)
    and p.state in ('in flight', 'dead', 'failed')
    and p.since <= p_at
    and p.until > p_at
  order by array_position('{in flight, dead, failed}'::text[], p.state), p.since desc
  limit 1;
end
$$;

-- What had become of a result by its receipts and its batches at a time: cleared, stamped (without a receipt), dead, in
-- flight, failed or flagged, and why; null: no batch that is known had it. receipt: which says that it is cleared, or is
-- the next one. early: a person had asked for it before its time. surge_id: it was set aside (0: not judged yet).
create or replace function retention._work_at(
  p_run_id retention.run_id,
  p_completed_at timestamptz,
  p_cleared_at timestamptz,
  p_is_there boolean,
  p_at timestamptz,
  out state text,
  out because text,
  out receipt text,
  out settled_at timestamptz,
  out batch_id bigint,
  out flagged_at timestamptz,
  out early interval,
  out tenant_id text,
  out bucket text,
  out key text,
  out surge_id bigint
)
language plpgsql
stable
as $$
#variable_conflict use_column
declare
  -- A run that completed later than then may have had another result before, under another date.
  v_batch_ids bigint[] := retention._batches_with(
    p_run_id, p_completed_at, p_cleared_at, not p_is_there or coalesce(p_completed_at > p_at, true), null
  );
  v_last record;
  v_next record;
  v_past record;
  v_batch retention.batch;
begin
  select * into v_last from retention._run_receipts(p_run_id, v_batch_ids) r where r.settled_at <= p_at order by r.settled_at desc limit 1;
  select * into v_next from retention._run_receipts(p_run_id, v_batch_ids) r where r.settled_at > p_at order by r.settled_at limit 1;
  receipt := coalesce(v_last.receipt, v_next.receipt);
  settled_at := coalesce(v_last.settled_at, v_next.settled_at);
  tenant_id := coalesce(v_last.tenant_id, v_next.tenant_id);
  bucket := coalesce(v_last.bucket, v_next.bucket);
  key := coalesce(v_last.key, v_next.key);
  -- A run that completed again after that has another result.
  if v_last.is_gone and not coalesce(p_completed_at > v_last.settled_at and p_completed_at <= p_at, false) then
    state := 'cleared';
    because := retention._receipt_words(
        v_last.receipt, v_last.kind, v_last.is_gone, v_last.how, v_last.bucket, v_last.key, v_last.asked_by, v_last.retain
      )
      || format(', at %s', retention._iso(v_last.settled_at))
      || case when v_last.flagged_at is not null then format('; it had been flagged at %s', retention._iso(v_last.flagged_at)) else '' end;
    batch_id := v_last.batch_id;
    flagged_at := v_last.flagged_at;
    return;
  end if;
  if p_cleared_at <= p_at
    and coalesce(p_cleared_at > v_last.settled_at, true)
    and not coalesce(
      v_next.is_gone and p_cleared_at between coalesce(v_next.began_at, v_next.settled_at - interval '1 hour') and v_next.settled_at,
      false
    )
  then
    state := 'stamped';
    because := format('it was stamped at %s, and no receipt says that its result was deleted', retention._iso(p_cleared_at));
    return;
  end if;
  if v_next.is_gone and v_next.batch_id is not null then
    select * into v_batch from retention.batch b where b.batch_id = v_next.batch_id;
  elsif v_next.receipt is null then
    v_batch := retention._batch_of(p_run_id, p_completed_at);
  end if;
  surge_id := retention._surge_at(p_run_id, p_completed_at, p_is_there, v_batch.flagged_at, p_at);
  select * into v_past
  from retention._past_at(p_run_id, p_completed_at, p_is_there, case when v_batch.flagged_at <= p_at then v_batch.batch_id end, p_at);
  if v_past.batch_id is null and coalesce(v_batch.flagged_at > p_at, true) then
    return;
  end if;
  if v_batch.flagged_at <= p_at then
    batch_id := v_batch.batch_id;
    flagged_at := v_batch.flagged_at;
    early := v_batch.early;
    select w.state, w.because into state, because from retention._batch_at(v_batch, p_at) w;
  else
    batch_id := v_past.batch_id;
    flagged_at := v_past.flagged_at;
    state := 'flagged';
    because := format('it had been flagged at %s, waited in batch %s, and left it uncleared at %s',
      retention._iso(v_past.flagged_at), v_past.batch_id, retention._iso(v_past.left_at));
  end if;
  if v_past.state is not null then
    state := v_past.state;
    because := v_past.because;
  end if;
end
$$;

-- How a batch stood at a time after it was flagged, in words. Of attempts, the last one is known.
create or replace function retention._batch_at(p_batch retention.batch, p_at timestamptz, out state text, out because text)
language plpgsql
stable
as $$
begin
  if p_batch.dead_at <= p_at then
    state := 'dead';
    because := format('S3 had refused it for good at %s: %s', retention._iso(p_batch.dead_at), retention._said(p_batch.code, p_batch.error));
  elsif p_batch.deleted_at <= p_at then
    state := 'failed';
    because := format('S3 had deleted its object at %s, and the run could not be stamped yet', retention._iso(p_batch.deleted_at));
  -- As long as the lease was valid; its deadline stays with a settled batch.
  elsif p_batch.leased_at <= p_at
    and coalesce(
      p_batch.deleted_at,
      case when p_batch.settled_at is not null then least(p_batch.settled_at, p_batch.visible_at) end,
      case when p_batch.lease is not null then p_batch.visible_at end
    ) > p_at
  then
    state := 'in flight';
    because := format('%s worked on it from %s on, in batch %s', coalesce(p_batch.leased_by, 'a listener'),
      retention._iso(p_batch.leased_at), p_batch.batch_id);
  elsif p_batch.failed_at <= p_at then
    state := 'failed';
    because := format('it had failed at %s: %s', retention._iso(p_batch.failed_at), retention._said(p_batch.code, p_batch.error));
  else
    state := 'flagged';
    because := format('it had been flagged at %s and waited in batch %s', retention._iso(p_batch.flagged_at), p_batch.batch_id)
      || case when p_batch.early is not null then '; a person had asked for it before its time' else '' end;
  end if;
end
$$;
