/*
Explain: why one result is kept, or what becomes of it.
*/

-- The batch that a run is flagged in; null in all columns: in none. Looked for among the batches whose
-- results completed around the time when the run did; only where that has changed, among all of them.
create or replace function retention._batch_of(p_run_id retention.run_id, p_completed_at timestamptz)
returns retention.batch
language plpgsql
stable
as $$
declare
  v_batch retention.batch;
begin
  select b.*
  into v_batch
  from retention.batch b
  where b.settled_at is null
    and p_completed_at between b.oldest and b.newest
    and p_run_id = any (b.run_ids)
  order by b.batch_id
  limit 1;
  if not found then
    select b.*
    into v_batch
    from retention.batch b
    where b.settled_at is null
      and p_run_id = any (b.run_ids)
    order by b.batch_id
    limit 1;
  end if;
  return v_batch;
end
$$;

-- The holds that bear on a run by now, as explain shows them; null: none. A hold on a tenant that has ended
-- bears on a run until its turn to come back. One that found the run's object bears on it too, also where another run was held.
create or replace function retention._bearing_holds(
  p_run_id retention.run_id,
  p_tenant_id text,
  p_bucket text,
  p_key text
)
returns jsonb
language sql
stable
as $$
  select jsonb_agg(
    jsonb_build_object(
      'hold_id', h.hold_id,
      'reason', h.reason,
      'placed_by', h.placed_by,
      'placed_at', retention._iso(h.placed_at),
      'on', case when h.run_id = p_run_id then 'run' when h.tenant_id = p_tenant_id then 'tenant' else 'object' end,
      'ends', retention._iso(nullif(retention._hold_end(h.released_at, h.expires_at), 'infinity'))
    )
    order by h.hold_id
  )
  from retention.hold h
  cross join retention.setting s
  where (
      h.run_id = p_run_id
      or h.tenant_id = p_tenant_id
      or h.hold_id in (
        select o.hold_id
        from retention.held_object o
        where o.bucket = p_bucket
          and o.key = p_key collate "C"
      )
    )
    and retention._hold_end(h.released_at, h.expires_at)
      + case
        when h.tenant_id is distinct from p_tenant_id then interval '0'
        else s.release_spread * retention._place_in_line(p_run_id::text)
      end > now()
$$;

-- What becomes of a result by the batch that it is in: dead, in flight, failed or flagged, and why; null: it is
-- in none.
create or replace function retention._state_of_batch(
  p_batch retention.batch,
  p_bucket retention.bucket,
  p_run_id text,
  out state text,
  out because text
)
language plpgsql
stable
as $$
begin
  if p_batch.deleted_at is not null then
    state := case when p_batch.dead_at is null then 'failed' else 'dead' end;
    because := format(
      'S3 deleted its object at %s, but the run could not be stamped: %s (%s); %s',
      retention._iso(p_batch.deleted_at), p_batch.code, p_batch.error,
      case
        when p_batch.dead_at is null then format('it is stamped again from %s on, without asking S3', retention._iso(p_batch.visible_at))
        else format('fix the cause and revive with: retention retry --run %s', p_run_id)
      end
    );
  elsif p_batch.dead_at is not null then
    state := 'dead';
    because := case p_batch.code
      when 'BucketNotAllowed'
      then format(
        'bucket not allowed: %s is not listed in S3_RESULT_BUCKET; add it and revive with: retention retry --run %s',
        p_batch.bucket, p_run_id
      )
      else format(
        'failed %s, last with %s; fix the cause and revive with: retention retry --run %s',
        case p_batch.attempts when 1 then 'once' else p_batch.attempts || ' times' end,
        retention._said(p_batch.code, p_batch.error), p_run_id
      )
    end;
  elsif p_batch.lease is not null and p_batch.visible_at > now() then
    state := 'in flight';
    because := format(
      '%s has been working on it since %s, until %s at most',
      coalesce(p_batch.leased_by, 'a listener'), retention._iso(p_batch.leased_at), retention._iso(p_batch.visible_at)
    );
  elsif p_batch.failed_at is not null then
    state := 'failed';
    because := format(
      '%s %s%s; next attempt at %s',
      -- An SQLSTATE has five places, one of them a digit; EPIPE is none.
      case when p_batch.code in ('ClaimLost', 'ClaimSuspect') or p_batch.code ~ '^(?=.*[0-9])[0-9A-Z]{5}$' then 'looking at it again ended with' else 'S3 answered' end,
      retention._said(p_batch.code, p_batch.error),
      case
        when p_batch.attempts > 0 then format(' on attempt %s', p_batch.attempts)
        else ', which is not counted against it'
      end,
      retention._iso(greatest(p_batch.visible_at, p_bucket.paused_until))
    );
  elsif p_batch.batch_id is not null then
    state := 'flagged';
    because := format('it was flagged at %s and waits in batch %s', retention._iso(p_batch.flagged_at), p_batch.batch_id)
      || case
        when p_batch.late_since = 'infinity' then '; it was late: it was found before any walk had been complete'
        when p_batch.late_since is not null
        then format('; it was late: due before the walk that began at %s, which did not find it', retention._iso(p_batch.late_since))
        else ''
      end
      || case
        when p_batch.early is not null
        then format(', earlier than its policy says: a person confirmed a cutoff of %s', retention._in_days(p_batch.early))
        else ''
      end
      || case
        when p_bucket.paused_until > now()
        then format('; its bucket pauses until %s after %s', retention._iso(p_bucket.paused_until), p_bucket.pause_code)
        when retention._is_cooling(p_batch.flagged_at, p_batch.visible_at, p_batch.failed_at, p_batch.early)
        then format('; it waits for its cool-off until %s', retention._iso(p_batch.visible_at))
        when p_batch.visible_at > now() then format('; next attempt at %s', retention._iso(p_batch.visible_at))
        else ''
      end;
  end if;
end
$$;

-- A run id out of text; null: it cannot be one.
create or replace function retention._run_id_or_null(p_run_id text)
returns retention.run_id
language plpgsql
stable
as $$
begin
  return p_run_id::retention.run_id;
exception
  when data_exception then
    return null;
end
$$;

-- What explain says of a run whose row can be read.
create or replace function retention._explain(p_run_id text)
returns table (
  run_id text,
  state text,
  because text,
  tenant_id text,
  status text,
  completed_at timestamptz,
  bucket text,
  key text,
  cleared_at timestamptz,
  retain interval,
  due_at timestamptz,
  holds jsonb,
  flagged_at timestamptz,
  batch_id bigint,
  attempts integer,
  last_code text,
  last_error text,
  next_attempt_at timestamptz,
  shares_with text
)
language plpgsql
stable
as $$
#variable_conflict use_column
declare
  v_run_id retention.run_id;
  v_run record;
  v_live record;
  v_batch retention.batch;
  v_bucket retention.bucket;
  v_work record;
  v_setting retention.setting;
  v_policy text;
  v_completed text;
  v_gate record;
  v_spared record;
begin
  select * into strict v_setting from retention.setting;
  select coalesce(a.columns -> 'status' ->> 'completed', 'COMPLETED') into v_completed from retention.adapter a;
  run_id := p_run_id;
  if to_regclass('retention._live') is null then
    select * into v_gate from retention.gate() limit 1;
    state := v_gate.reason;
    because := format('%s, so nothing is known of its runs; remedy: %s', v_gate.because, v_gate.remedy);
    return next;
    return;
  end if;
  v_run_id := retention._run_id_or_null(p_run_id);
  select r.* into v_run from retention.result r where r.run_id = v_run_id limit 1;
  if not found then
    state := 'unknown';
    because := 'there is no run with this id' || case when v_run_id is null then '; it does not even have the form of one' else '' end;
    return next;
    return;
  end if;
  tenant_id := v_run.tenant_id::text;
  status := v_run.status::text;
  completed_at := v_run.completed_at;
  key := v_run.key;
  cleared_at := v_run.cleared_at;
  bucket := retention._bucket(v_run.bucket, v_setting.default_bucket);
  select l.* into v_live from retention._live l where l.run_id = v_run_id limit 1;
  retain := v_live.retain;
  -- From here on a date is taken for never, see _live.
  due_at := case when v_live.due_at >= '290000-01-01 00:00Z' then 'infinity' else v_live.due_at end;
  v_batch := retention._batch_of(v_run_id, v_run.completed_at);
  select * into v_bucket from retention.bucket k where k.bucket = coalesce(v_batch.bucket, _explain.bucket);
  flagged_at := v_batch.flagged_at;
  batch_id := case when v_batch.dead_at is null then v_batch.batch_id end;
  attempts := v_batch.attempts;
  last_code := v_batch.code;
  last_error := v_batch.error;
  next_attempt_at := case when v_batch.dead_at is null and (v_batch.lease is null or v_batch.visible_at <= now())
    then greatest(v_batch.visible_at, v_bucket.paused_until) end;
  holds := retention._bearing_holds(v_run_id, v_run.tenant_id::text, _explain.bucket, v_run.key);
  select * into v_work from retention._state_of_batch(v_batch, v_bucket, v_run_id::text);
  select format('the policy of tenant %s', p.tenant_id) into v_policy
  from retention.policy p where p.tenant_id = nullif(_explain.tenant_id, '*');
  if retention._can_look() then
    shares_with := retention._sharer(v_run_id, _explain.bucket, v_run.key);
  end if;
  select * into v_spared from retention._why_spared(v_run_id, _explain.bucket, v_run.key, v_run.etag::text);

  if v_run.cleared_at is not null then
    state := 'cleared';
    because := format('its result was deleted, or found gone, and the run stamped, at %s', retention._iso(v_run.cleared_at))
      || coalesce('; ' || retention._last_receipt_words(v_run_id, v_run.completed_at, v_run.cleared_at), '');
  elsif v_run.status::text is distinct from v_completed then
    state := 'not completed';
    because := format('its status is %s; only results of %s runs expire', coalesce(v_run.status::text, 'null'), v_completed);
  elsif v_run.completed_at is null or v_run.completed_at = '-infinity' then
    state := 'no date';
    because := format('the run is %s but has no completion date, so nothing says when it falls due: set the date', v_completed);
  elsif coalesce(v_run.key, '') = '' then
    state := 'no key';
    because := 'the run names no object, so there is nothing to delete';
  elsif v_live.key is null or v_live.is_candidate is false then
    state := 'too long';
    because := case
      when v_live.key is null then 'its key has more than the 1,024 bytes that S3 can hold, so it names no object'
      else 'its tenant or run id has more than 1,024 bytes, so no pass looks at it and its object stays'
    end;
  elsif v_work.state in ('dead', 'in flight') then
    state := v_work.state;
    because := v_work.because;
  elsif bucket is null then
    state := 'no bucket';
    because := 'the run names no bucket and there is no single default (S3_RESULT_BUCKET): skipped and counted';
  elsif retention._hold_in_force(holds) is not null then
    state := 'held';
    because := retention._hold_in_force(holds);
  elsif holds is not null then
    state := 'coming back';
    because := retention._when_back(holds, v_run_id);
  elsif v_live.due_at >= now()
    -- Flagged with a cutoff that a person confirmed, it goes before the policy says so.
    and not (
      v_batch.early is not null
      and retention._has_command(v_batch.flagged_at)
      and retention._is_past(
        v_live.due_at, v_live.completed_at, retention._in_seconds(v_batch.early), v_live.retain_until
      )
    )
  then
    state := 'kept';
    because := retention._why_kept(v_run.completed_at::timestamptz, v_run.retain_until::timestamptz, v_live.due_at, v_live.retain, v_policy);
  elsif shares_with is not null then
    state := 'shared';
    because := retention._why_shared(shares_with);
  elsif exists (select from retention._part_of(v_run_id)) then
    state := 'set aside';
    because := retention._why_in_part(v_run_id, v_live.due_at);
  elsif v_spared.state is not null then
    state := v_spared.state;
    because := v_spared.because;
  elsif not retention._is_open() then
    select * into v_gate from retention.gate() limit 1;
    state := v_gate.reason;
    because := format('it is due, but %s%s; remedy: %s', v_gate.because,
      coalesce(', since ' || retention._iso(v_gate.since), ''), v_gate.remedy);
  elsif v_work.state is not null then
    state := v_work.state;
    because := v_work.because;
  else
    state := 'due';
    because := retention._why_due(v_live.due_at, v_policy);
  end if;
  because := because || case when state <> 'in flight' then retention._still_asked(v_run_id) else '' end;
  return next;
end
$$;
