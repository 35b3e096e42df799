-- Up Migration

-- Why a result is kept, or what becomes of it, in plain words. One row, whatever is asked; state is
-- one of: unknown, cleared, not completed, no date, no key, no bucket, held, coming back, kept,
-- shared, disabled, in flight, dead, failed, flagged, due.
create function retention.explain(p_run_id text)
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
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_run_id retention.run_id;
  v_run record;
  v_live record;
  v_work retention.expired;
  v_batch retention.batch;
  v_bucket retention.bucket;
  v_hold record;
  v_setting retention.setting;
  v_policy text;
  v_in_flight_until timestamptz;
begin
  select * into strict v_setting from retention.setting;
  run_id := p_run_id;
  begin
    v_run_id := p_run_id;
  exception
    when data_exception then
      v_run_id := null;
  end;
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
  bucket := coalesce(nullif(v_run.bucket, ''), v_setting.default_bucket);
  select l.* into v_live from retention.live l where l.run_id = v_run_id limit 1;
  select * into v_work from retention.expired e where e.run_id = v_run_id;
  select * into v_batch from retention.batch b where b.batch_id = v_work.batch_id;
  select * into v_bucket from retention.bucket k where k.bucket = coalesce(v_work.bucket, explain.bucket);
  retain := v_live.retain;
  due_at := v_live.due_at;
  flagged_at := v_work.flagged_at;
  batch_id := v_work.batch_id;
  attempts := v_work.attempts;
  last_code := v_work.last_code;
  last_error := v_work.last_error;
  next_attempt_at := case
    when v_batch.lease is null or v_batch.visible_at <= now()
    then greatest(v_batch.visible_at, v_bucket.paused_until)
  end;
  select jsonb_agg(
    jsonb_build_object('hold_id', h.hold_id, 'reason', h.reason, 'placed_by', h.placed_by, 'placed_at', h.placed_at,
      'on', case when h.run_id is null then 'tenant' else 'run' end,
      'ends', nullif(retention.hold_end(h.released_at, h.expires_at), 'infinity'))
    order by h.hold_id
  )
  into holds
  from retention.hold h
  where (h.run_id = v_run_id or h.tenant_id = v_run.tenant_id::text)
    and retention.hold_end(h.released_at, h.expires_at)
      + case when h.tenant_id is null then interval '0' else v_setting.release_spread * retention.place_in_line(v_run.run_id::text) end > now();
  v_policy := case
    when exists (select from retention.policy p where p.tenant_id = v_run.tenant_id::text and p.tenant_id <> '*')
    then format('the policy of tenant %s', v_run.tenant_id)
    else 'the default policy'
  end;
  select o.run_id::text
  into shares_with
  from retention.live o
  where v_setting.check_shared_objects
    and o.key = v_run.key collate "C"
    and o.bucket = coalesce(nullif(v_run.bucket, ''), v_setting.default_bucket)
    and o.run_id <> v_run_id
    and (o.due_at is null or o.due_at >= now() or o.held)
  order by o.run_id
  limit 1;

  if v_run.cleared_at is not null then
    state := 'cleared';
    because := format('its result was deleted, or found gone, and the run stamped, at %s', retention.iso(v_run.cleared_at));
  elsif v_run.status::text is distinct from 'COMPLETED' then
    state := 'not completed';
    because := format('its status is %s; only results of COMPLETED runs expire', coalesce(v_run.status::text, 'null'));
  elsif v_run.completed_at is null then
    state := 'no date';
    because := 'the run is COMPLETED but has no completion date, so nothing says when it falls due: set the date';
  elsif coalesce(v_run.key, '') = '' then
    state := 'no key';
    because := 'the run names no object, so there is nothing to delete';
  elsif v_work.dead_at is not null then
    state := 'dead';
    because := case v_work.last_code
      when 'BucketNotAllowed' then format('bucket not allowed: %s is not listed in S3_RESULT_BUCKET; add it and revive with: retention retry --run %s', v_work.bucket, v_run_id)
      else format('failed %s, last with %s (%s); mend the cause and revive with: retention retry --run %s',
        case v_work.attempts when 1 then 'once' else v_work.attempts || ' times' end, v_work.last_code, v_work.last_error, v_run_id)
    end;
  elsif v_batch.lease is not null and v_batch.visible_at > now() then
    state := 'in flight';
    because := format('%s has been working on it since %s, until %s at most',
      coalesce(v_batch.leased_by, 'a listener'), retention.iso(v_batch.leased_at), retention.iso(v_batch.visible_at));
  elsif bucket is null then
    state := 'no bucket';
    because := 'the run names no bucket and there is no single default (S3_RESULT_BUCKET): skipped and counted';
  elsif exists (
    select
    from jsonb_array_elements(holds) h
    where (h ->> 'ends') is null or (h ->> 'ends')::timestamptz > now()
  ) then
    select h ->> 'hold_id' as hold_id, h ->> 'on' as kind, h ->> 'reason' as reason, h ->> 'placed_by' as placed_by
    into v_hold
    from jsonb_array_elements(holds) h
    where (h ->> 'ends') is null or (h ->> 'ends')::timestamptz > now()
    limit 1;
    state := 'held';
    because := format('hold %s on its %s, placed by %s: %s', v_hold.hold_id, v_hold.kind, v_hold.placed_by, v_hold.reason);
  elsif holds is not null then
    state := 'coming back';
    because := format('a hold on its tenant has ended; its results come back over %s', v_setting.release_spread);
  elsif v_live.due_at >= now()
    -- Flagged with a cutoff that somebody confirmed, it goes before the policy says so.
    and not coalesce(
      greatest(v_live.completed_at + retention.exactly(v_batch.early), v_live.retain_until) < now(), false
    )
  then
    state := 'kept';
    because := case
      when v_run.retain_until >= now() and v_run.retain_until::timestamptz = v_live.due_at
      then format('its own retain-until date keeps it until %s', retention.iso(v_live.due_at))
      else format('%s keeps results for %s: due at %s', v_policy, v_live.retain, retention.iso(v_live.due_at))
    end;
  elsif shares_with is not null then
    state := 'shared';
    because := format('it shares its object with run %s, which is not due', shares_with);
  elsif not v_setting.enabled then
    state := 'disabled';
    because := 'it is due, but retention is disabled (DPP_RETENTION_ENABLED=false)';
  elsif v_work.failed_at is not null then
    state := 'failed';
    because := format('S3 answered %s (%s)%s; next attempt at %s',
      v_work.last_code, v_work.last_error,
      case when v_work.attempts > 0 then format(' on attempt %s', v_work.attempts)
        else ', which is not counted against it' end,
      retention.iso(next_attempt_at));
  elsif v_work.run_id is not null then
    state := 'flagged';
    because := format('it was flagged at %s and waits in batch %s', retention.iso(v_work.flagged_at), v_work.batch_id)
      || case when v_bucket.paused_until > now()
        then format('; its bucket pauses until %s after %s', retention.iso(v_bucket.paused_until), v_bucket.pause_code)
        else '' end;
  else
    state := 'due';
    because := format('it has been due since %s by %s; the next flagging pass takes it', retention.iso(v_live.due_at), v_policy);
  end if;
  if state <> 'in flight' then
    select f.until into v_in_flight_until from retention.in_flight(v_run_id, null) f;
    because := because || case
      when v_in_flight_until is not null
      then format('; S3 may still be at an earlier request to delete it, until %s at most', retention.iso(v_in_flight_until))
      else ''
    end;
  end if;
  return next;
end
$$;

-- Down Migration

drop function retention.explain(text);
