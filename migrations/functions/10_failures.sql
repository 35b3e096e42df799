/*
What S3 did not delete: it waits for its next attempt, or for a person.
*/

-- Whether the results of a batch are beyond the store: for a day and 20 attempts it has answered them with faults of
-- its own, while it has deleted others in the same bucket.
create or replace function retention._is_beyond_store(p_batch retention.batch)
returns boolean
language sql
stable
as $$
  select p_batch.stuck_since < clock_timestamp() - interval '24 hours'
    and p_batch.postponed >= 19
    and exists (
      select
      from retention.batch b
      where b.settled_at > p_batch.stuck_since
        and b.bucket = p_batch.bucket
        and b.cleared > 0
    )
$$;

-- What settle makes of the results of a batch that were not cleared. Those that fail alike (code, counted or
-- not, dead or not) go on together, each kind in a batch of its own with one counter of attempts.
-- p_failed: see settle; a result that it does not name was not answered for. What is beyond the store is dead as
-- StoreCannot.
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
  is_stuck boolean,
  is_dead boolean,
  run_ids retention.run_id[],
  keys text[],
  tenants text[]
)
language sql
stable
set enable_hashjoin = on
as $$
  select case when f.is_dead and not f.counted then 'StoreCannot' else f.code end,
    case
      when f.is_dead and not f.counted
      then left(format('%s at every attempt since %s: %s', f.code, p_batch.stuck_since, min(f.reason)), 500)
      else min(f.reason)
    end,
    f.counted,
    f.is_stuck,
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
      coalesce(f.outcome <> 'refused' and f.concerns = 'key', false) as is_stuck,
      case
        when f.outcome = 'refused' then p_batch.attempts + 1 >= p_max_attempts or coalesce(f.final, false)
        else coalesce(f.outcome = 'failed' and f.concerns = 'key' and b.is_beyond_store, false)
      end as is_dead
    from unnest(p_batch.run_ids, p_batch.keys, p_batch.tenants) with ordinality as u (run_id, key, tenant_id, n)
    cross join (select retention._is_beyond_store(p_batch) as is_beyond_store offset 0) b
    left join (
      select distinct on (j.key collate "C") j.*
      from jsonb_to_recordset(p_failed) as j (
        key text, code text, reason text, outcome text, concerns text, final boolean
      )
    ) f on f.key = retention._unpack_key(u.key, u.run_id::text) collate "C"
    where retention._unpack_key(u.key, u.run_id::text) collate "C" not in (select unnest(p_cleared) collate "C")
  ) f
  group by f.code, f.counted, f.is_stuck, f.is_dead
  order by min(f.n)
$$;

-- Writes down what S3 did not delete of a batch: those that failed alike in a batch of their own. failed and dead:
-- how many of each; retry_at: when the first is tried again; problems: as settle returns them. Called by settle alone.
create or replace function retention._book_failures(
  p_batch retention.batch,
  p_cleared text[],
  p_failed jsonb,
  out failed bigint,
  out dead bigint,
  out retry_at timestamptz,
  out problems jsonb
)
language plpgsql
as $$
declare
  v_setting retention.setting;
  v_kind record;
  v_retry_at timestamptz;
begin
  failed := 0;
  dead := 0;
  problems := '[]';
  select * into strict v_setting from retention.setting;
  for v_kind in
    select * from retention._failures(p_batch, p_cleared, p_failed, v_setting.max_attempts)
  loop
    v_retry_at := case
      when not v_kind.is_dead then clock_timestamp() + retention._backoff(
        case when v_kind.counted then v_setting.retry_base else v_setting.pause_base end,
        -- The store's own faults pass: what they struck is not to wait for hours after.
        case when v_kind.counted then v_setting.retry_cap else v_setting.pause_cap end,
        case when v_kind.counted then p_batch.attempts else p_batch.postponed end
      )
    end;
    retry_at := least(retry_at, v_retry_at);
    insert into retention.batch (
      bucket, results, oldest, newest, due_since, late_since, early, flagged_at, visible_at,
      attempts, postponed, stuck_since, code, error, failed_at, dead_at, why, asked_by, request_ids,
      run_ids, keys, tenants
    )
    values (
      p_batch.bucket,
      cardinality(v_kind.run_ids),
      p_batch.oldest,
      p_batch.newest,
      p_batch.due_since,
      p_batch.late_since,
      p_batch.early,
      p_batch.flagged_at,
      coalesce(v_retry_at, clock_timestamp()),
      p_batch.attempts + v_kind.counted::integer,
      p_batch.postponed + (not v_kind.counted)::integer,
      case when v_kind.is_stuck then coalesce(p_batch.stuck_since, clock_timestamp()) end,
      v_kind.code,
      v_kind.reason,
      clock_timestamp(),
      case when v_kind.is_dead then clock_timestamp() end,
      p_batch.why,
      p_batch.asked_by,
      p_batch.request_ids,
      v_kind.run_ids,
      v_kind.keys,
      v_kind.tenants
    );
    if v_kind.is_dead then
      dead := dead + cardinality(v_kind.run_ids);
    else
      failed := failed + cardinality(v_kind.run_ids);
    end if;
    problems := problems || jsonb_strip_nulls(jsonb_build_object(
      'code', v_kind.code,
      'message', v_kind.reason,
      'results', cardinality(v_kind.run_ids),
      'run_ids', v_kind.run_ids[1:3]::text[],
      'retry_at', retention._iso(v_retry_at),
      'dead', v_kind.is_dead
    ));
  end loop;
end
$$;
