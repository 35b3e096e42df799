/*
Setting results apart: what cannot be checked when its batch is claimed waits in a batch of its own, and ends dead and
visible after too many attempts.
*/

-- Sets results of a batch apart, in a batch of their own that waits for its next attempt. p_places: which (from 1).
-- p_counts: it counts as an attempt, and after too many the results are dead. Returns what is told of them. The caller
-- has locked the batch and takes them out of it.
create or replace function retention._set_apart(
  p_batch retention.batch,
  p_places bigint[],
  p_code text,
  p_error text,
  p_counts boolean
)
returns jsonb
language plpgsql
as $$
declare
  v_setting retention.setting;
  v_is_dead boolean;
  v_retry_at timestamptz;
  v_batch_id bigint;
  v_problem jsonb;
begin
  select * into strict v_setting from retention.setting;
  v_is_dead := p_counts and p_batch.attempts + 1 >= v_setting.max_attempts;
  v_retry_at := case
    when not v_is_dead then clock_timestamp() + retention._backoff(
      v_setting.retry_base, v_setting.retry_cap, case when p_counts then p_batch.attempts else p_batch.postponed end
    )
  end;
  insert into retention.batch (
    bucket, results, oldest, newest, due_since, late_since, early, flagged_at, visible_at,
    attempts, postponed, code, error, failed_at, dead_at, why, asked_by, request_ids, run_ids, keys, tenants
  )
  select p_batch.bucket, count(*), p_batch.oldest, p_batch.newest, p_batch.due_since, p_batch.late_since, p_batch.early, p_batch.flagged_at,
    coalesce(v_retry_at, clock_timestamp()),
    p_batch.attempts + p_counts::integer,
    p_batch.postponed + (not p_counts)::integer,
    left(p_code, 64),
    left(p_error, 500),
    clock_timestamp(),
    case when v_is_dead then clock_timestamp() end,
    p_batch.why,
    p_batch.asked_by,
    p_batch.request_ids,
    array_agg(u.run_id order by u.n),
    array_agg(u.key order by u.n),
    array_agg(u.tenant_id order by u.n)
  from unnest(p_batch.run_ids, p_batch.keys, p_batch.tenants) with ordinality as u (run_id, key, tenant_id, n)
  where u.n in (select unnest(p_places))
  returning batch_id into v_batch_id;
  v_problem := jsonb_strip_nulls(jsonb_build_object(
    'code', left(p_code, 64),
    'message', left(p_error, 500),
    'results', cardinality(p_places),
    'run_ids', (select (array_agg(p_batch.run_ids[n.place]::text))[1:3] from unnest(p_places) as n (place)),
    'retry_at', retention._iso(v_retry_at),
    'dead', v_is_dead
  ));
  -- Written by itself, it is announced.
  update retention.batch b set problems = jsonb_build_array(v_problem) where b.batch_id = v_batch_id;
  return v_problem;
end
$$;

-- A batch without the results at some places (from 1).
create or replace function retention._without(p_batch retention.batch, p_places bigint[])
returns retention.batch
language plpgsql
stable
as $$
declare
  v_place bigint;
begin
  if cardinality(p_places) <= 8 then
    -- Most batches lose few: cut out, which costs a tenth of taking the arrays apart.
    for v_place in
      select distinct n from unnest(p_places) as n order by n desc
    loop
      p_batch.run_ids := p_batch.run_ids[:v_place - 1] || p_batch.run_ids[v_place + 1:];
      p_batch.keys := p_batch.keys[:v_place - 1] || p_batch.keys[v_place + 1:];
      p_batch.tenants := p_batch.tenants[:v_place - 1] || p_batch.tenants[v_place + 1:];
      p_batch.etags := p_batch.etags[:v_place - 1] || p_batch.etags[v_place + 1:];
    end loop;
  else
    select coalesce(array_agg(u.run_id order by u.n), '{}'),
      coalesce(array_agg(u.key order by u.n), '{}'),
      coalesce(array_agg(u.tenant_id order by u.n), '{}'),
      case when p_batch.etags is not null then coalesce(array_agg(u.etag order by u.n), '{}') end
    into strict p_batch.run_ids, p_batch.keys, p_batch.tenants, p_batch.etags
    from unnest(p_batch.run_ids, p_batch.keys, p_batch.tenants, p_batch.etags) with ordinality
      as u (run_id, key, tenant_id, etag, n)
    where u.n not in (select unnest(p_places));
  end if;
  p_batch.results := cardinality(p_batch.run_ids);
  return p_batch;
end
$$;

-- Takes out of a leased batch what its check has spared or what has raised there, and writes down why. Returns what is
-- told of the results that raised. p_maybe_shared: of the spared those of which another run may need the object; null:
-- of all.
create or replace function retention._sort_out(
  p_batch retention.batch,
  p_spared bigint[],
  p_failed bigint[],
  p_codes text[],
  p_errors text[],
  p_maybe_shared bigint[] default null
)
returns jsonb
language plpgsql
as $$
declare
  v_problems jsonb := '[]';
  v_kind record;
  v_kept retention.batch;
begin
  for v_kind in
    select f.code, min(f.error) as error, array_agg(f.n order by f.n) as places
    from unnest(p_failed, p_codes, p_errors) as f (n, code, error)
    group by f.code
    order by f.code
  loop
    -- Names and rights that are missing are the schema's fault and not the result's.
    v_problems := v_problems
      || retention._set_apart(p_batch, v_kind.places, v_kind.code, v_kind.error, v_kind.code !~ '^(42|3D|3F|28)');
  end loop;
  v_kept := retention._without(p_batch, p_spared || p_failed);
  perform retention._note_left(p_batch, array(select p_batch.run_ids[n] from unnest(p_spared || p_failed) n));
  update retention.batch b
  set results = v_kept.results,
    run_ids = v_kept.run_ids,
    keys = v_kept.keys,
    tenants = v_kept.tenants,
    etags = v_kept.etags,
    spared = b.spared + cardinality(p_spared),
    failed = b.failed + cardinality(p_failed),
    lease = case when v_kept.results > 0 then b.lease end,
    ms = case when v_kept.results > 0 then b.ms else 0 end,
    settled_at = case when v_kept.results > 0 then null else clock_timestamp() end
  where b.batch_id = p_batch.batch_id;
  if cardinality(coalesce(p_maybe_shared, p_spared)) > 0
    and (select s.check_shared_objects from retention.setting s)
  then
    perform retention._note_shared_objects(p_batch, coalesce(p_maybe_shared, p_spared));
  end if;
  return v_problems;
end
$$;

-- Takes a batch back whose check outlasts the session's time limit, in halves that wait. One that is alone counts its
-- attempts, and is dead after too many.
create or replace function retention._set_aside(p_batch retention.batch, p_error text)
returns void
language plpgsql
as $$
declare
  v_half bigint := p_batch.results / 2;
begin
  if v_half > 0 then
    perform retention._set_apart(p_batch, array(select generate_series(1, v_half)), '57014', p_error, false);
  end if;
  perform retention._set_apart(
    p_batch, array(select generate_series(v_half + 1, p_batch.results)), '57014', p_error, v_half = 0
  );
  delete from retention.batch b where b.batch_id = p_batch.batch_id;
end
$$;
