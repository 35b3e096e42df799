/*
Explain at a time that has passed: why a result was kept then, or what had become of it.
*/

-- Since when changes are recorded, and so since when it can be said what was true.
create or replace function retention._known_since()
returns timestamptz
language plpgsql
stable
as $$
begin
  return (
    select greatest(i.adopted_at, (select min(c.at) from retention.change c where c.subject = 'setting'))
    from retention.identity i
  );
end
$$;

-- Why a result was not due at a time, or since when it was, in words.
create or replace function retention._due_words(
  p_at timestamptz,
  p_due_at timestamptz,
  p_retain_until timestamptz,
  p_retain interval,
  p_policy text,
  p_set_by text,
  p_set_at timestamptz
)
returns text
language sql
stable
as $$
  select case
    when p_due_at >= p_at and p_retain_until = p_due_at then format('its own retain-until date kept it %s', retention._until(p_due_at))
    when p_due_at >= p_at then format('%s kept results for %s', p_policy, p_retain)
    else format('it had been due since %s by %s, %s', retention._iso(p_due_at), p_policy, p_retain)
  end
  || coalesce(format(', set by %s at %s', p_set_by, retention._iso(p_set_at)), '')
  || case when p_due_at >= p_at and p_retain_until is distinct from p_due_at then ': due at ' || retention._iso(p_due_at) else '' end
$$;

-- What cannot be known of a time that has passed.
create or replace function retention._not_known(p_state text, p_is_there boolean, p_cleared_at timestamptz, p_at timestamptz)
returns text[]
language plpgsql
stable
as $$
begin
  return (
    select array_remove(
      array[
        case when p_is_there and p_state not in ('cleared', 'stamped')
          then 'earlier values of its row: its status, dates, bucket and key are taken as they are now' end,
        case when p_state in ('due', 'flagged') then 'whether a keeper needed its object, or a run that is cleared by now' end,
        case when p_state in ('due', 'flagged', 'failed') and p_at < clock_timestamp() - s.history_kept
          then 'batches that spared it, and attempts before the last one' end,
        case when p_state = 'cleared' and p_is_there and p_cleared_at is null
          then 'by what change of its row it carries no stamp now' end,
        case when p_at < clock_timestamp() - s.receipts_kept then 'receipts that were pruned since' end
      ],
      null
    )
    from retention.setting s
  );
end
$$;

-- What explain_at says of a run whose row can be read.
create or replace function retention._explain_at(p_run_id text, p_at timestamptz)
returns table (
  run_id text,
  at timestamptz,
  state text,
  because text,
  tenant_id text,
  completed_at timestamptz,
  bucket text,
  key text,
  retain interval,
  policy text,
  policy_set_by text,
  policy_set_at timestamptz,
  due_at timestamptz,
  holds jsonb,
  flagged_at timestamptz,
  batch_id bigint,
  receipt text,
  settled_at timestamptz,
  not_known text[]
)
language plpgsql
stable
as $$
#variable_conflict use_column
declare
  v_run_id retention.run_id := retention._run_id_or_null(p_run_id);
  v_run record;
  v_work record;
  v_rule record;
  v_setting jsonb := retention._row_at('setting', null, p_at);
  v_completed text := (select coalesce(a.columns -> 'status' ->> 'completed', 'COMPLETED') from retention.adapter a);
begin
  run_id := p_run_id;
  at := p_at;
  select * into v_run from retention._row_of(v_run_id);
  select * into v_work
  from retention._work_at(v_run_id, v_run.completed_at, v_run.cleared_at, v_run.is_there, p_at);
  tenant_id := case when v_run.is_there then v_run.tenant_id else v_work.tenant_id end;
  completed_at := v_run.completed_at;
  bucket := coalesce(retention._bucket(v_run.bucket, v_setting ->> 'default_bucket'), v_work.bucket);
  key := coalesce(v_run.key, v_work.key);
  flagged_at := v_work.flagged_at;
  batch_id := v_work.batch_id;
  select * into v_rule from retention._policy_at(tenant_id, p_at);
  retain := v_rule.retain;
  policy := v_rule.policy;
  policy_set_by := v_rule.set_by;
  policy_set_at := v_rule.set_at;
  if v_run.completed_at > '-infinity' then
    due_at := greatest(
      least(v_run.completed_at, timestamptz '290000-01-01 00:00Z') + retention._in_seconds(v_rule.retain), v_run.retain_until
    );
  end if;
  holds := retention._holds_at(
    v_run_id, tenant_id, _explain_at.bucket, v_run.key, (v_setting ->> 'release_spread')::interval, p_at
  );
  if v_work.state in ('cleared', 'stamped') then
    state := v_work.state;
    because := v_work.because;
    if v_work.state = 'cleared' then
      bucket := v_work.bucket;
      key := v_work.key;
      receipt := v_work.receipt;
      settled_at := v_work.settled_at;
    end if;
  elsif not v_run.is_there then
    state := coalesce(v_work.state, 'unknown');
    because := coalesce(
      v_work.because,
      case
        when v_run_id is null then 'there is no run with this id; it does not even have the form of one'
        when to_regclass('retention.result') is null then 'the table is detached, so nothing is known of its runs; remedy: retention migrate up'
        when v_work.receipt is null then 'there is no run with this id, and no receipt names it'
        else format('its row is not there any more; the receipt nearest to then is %s, of %s', v_work.receipt, retention._iso(v_work.settled_at))
      end
    );
  else
    select s.state, s.because
    into state, because
    from retention._state_at(v_run, v_work, v_setting, v_completed, due_at, _explain_at.bucket, holds, v_run_id, p_at) s;
    because := coalesce(because, retention._due_words(
      p_at, due_at, v_run.retain_until, v_rule.retain, v_rule.policy, v_rule.set_by, v_rule.set_at
    ));
  end if;
  not_known := retention._not_known(state, v_run.is_there, v_run.cleared_at, p_at);
  return next;
end
$$;

-- The state of a live result at a time, in the order in which explain judges; because: null where the policy says why.
-- p_run: of _row_of. p_work: of _work_at.
create or replace function retention._state_at(
  p_run record,
  p_work record,
  p_setting jsonb,
  p_completed text,
  p_due_at timestamptz,
  p_bucket text,
  p_holds jsonb,
  p_run_id retention.run_id,
  p_at timestamptz,
  out state text,
  out because text
)
language plpgsql
stable
as $$
declare
  v_held text := retention._hold_in_force(p_holds, p_at);
  v_shared text := retention._sharer_at(p_run_id, p_bucket, p_run.key, p_setting, p_at);
begin
  if p_run.status is distinct from p_completed then
    state := 'not completed';
    because := format('its status is %s; only results of %s runs expire', coalesce(p_run.status, 'null'), p_completed);
  elsif p_run.completed_at is null or p_run.completed_at = '-infinity' then
    state := 'no date';
    because := format('the run is %s but has no completion date, so nothing says when it falls due', p_completed);
  elsif p_run.completed_at > p_at then
    state := 'not completed';
    because := format('the run completed later, at %s', retention._iso(p_run.completed_at));
  elsif coalesce(p_run.key, '') = '' then
    state := 'no key';
    because := 'the run names no object, so there is nothing to delete';
  elsif p_work.state in ('dead', 'in flight') then
    state := p_work.state;
    because := p_work.because;
  elsif p_bucket is null then
    state := 'no bucket';
    because := 'the run names no bucket, and there was no single default (S3_RESULT_BUCKET)';
  elsif v_held is not null then
    state := 'held';
    because := v_held;
  elsif p_holds is not null then
    state := 'coming back';
    because := format(
      'a hold on its tenant had ended; its results came back over %s, this one at %s',
      p_setting ->> 'release_spread',
      retention._iso(
        (select max((h ->> 'ends')::timestamptz) from jsonb_array_elements(p_holds) h where h ->> 'on' = 'tenant')
          + (p_setting ->> 'release_spread')::interval * retention._place_in_line(p_run_id::text)
      )
    );
  elsif p_due_at is null then
    state := 'kept';
    because := 'there was no default policy, so nothing was due';
  elsif p_due_at >= p_at and p_work.early is null then
    state := 'kept';
  elsif v_shared is not null then
    state := 'shared';
    because := v_shared;
  elsif p_work.surge_id is not null then
    state := 'set aside';
    because := format('it was late: due since %s and unknown to the last complete walk; it was set aside%s',
      retention._iso(p_due_at), coalesce(' in surge ' || nullif(p_work.surge_id, 0), ''));
  elsif p_setting ->> 'halted_at' is not null then
    state := 'halted';
    because := format('it was due since %s, but everything was halted by %s since %s: %s', retention._iso(p_due_at),
      p_setting ->> 'halted_by', retention._iso((p_setting ->> 'halted_at')::timestamptz), p_setting ->> 'halted_reason');
  elsif not (p_setting ->> 'enabled')::boolean then
    state := 'disabled';
    because := format('it was due since %s, but retention was switched off', retention._iso(p_due_at));
  elsif p_work.state is not null then
    state := p_work.state;
    because := p_work.because;
  else
    state := 'due';
  end if;
end
$$;

-- Why the result of a run was kept at a time that has passed, or what had become of it, in plain words. It always returns one row.
-- state is as in explain, of that time: unknown, cleared (receipt says by which), stamped (without a receipt), not
-- completed, no date, no key, no bucket, in flight, dead, held, coming back, kept, shared, set aside, halted, disabled, failed,
-- flagged, due or unreadable. retain, policy, policy_set_by, policy_set_at: the policy that was in force, and who had
-- set it. holds: as in explain. not_known: what the rows of today cannot say of then.
-- Of a run whose row is gone, or that completed later, it reads every receipt, which takes long where there are years of
-- them.
-- For observers.
-- Raises invalid_parameter_value for a time that has not come, and for one before changes were recorded.
create or replace function retention.explain_at(p_run_id text, p_at timestamptz)
returns table (
  run_id text,
  at timestamptz,
  state text,
  because text,
  tenant_id text,
  completed_at timestamptz,
  bucket text,
  key text,
  retain interval,
  policy text,
  policy_set_by text,
  policy_set_at timestamptz,
  due_at timestamptz,
  holds jsonb,
  flagged_at timestamptz,
  batch_id bigint,
  receipt text,
  settled_at timestamptz,
  not_known text[]
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set intervalstyle = 'postgres'
set jit = off
as $$
#variable_conflict use_column
begin
  if p_at is null or p_at > clock_timestamp() then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected a time that has passed, given: %s', coalesce(retention._iso(p_at), 'null')),
      hint = 'What is true now: retention explain <run_id>; what comes: retention upcoming.';
  end if;
  if p_at < retention._known_since() then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format(
        'nothing is known of %s: changes are recorded since %s', retention._iso(p_at), retention._iso(retention._known_since())
      );
  end if;
  return query select e.* from retention._explain_at(p_run_id, p_at) e;
exception
  when others then
    if retention._is_passing(sqlstate)
      or sqlstate in ('42P01', '42703', '42883')
      or p_at is null
      or p_at not between retention._known_since() and clock_timestamp()
    then
      raise;
    end if;
    run_id := p_run_id;
    at := p_at;
    state := 'unreadable';
    because := format(
      'its row cannot be read: %s (SQLSTATE %s), so nothing can be said of then either', left(sqlerrm, 500), sqlstate
    );
    return next;
end
$$;
