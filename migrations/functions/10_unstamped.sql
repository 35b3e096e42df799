/*
Deleted, not stamped: what becomes of a result whose object S3 has deleted and whose row could not be stamped. It
goes on in a batch of its own with deleted_at, which is never claimed, only stamped again with growing pauses.
What fails by itself is counted and dead in the end, and retention.retry revives it.
*/

-- How many results of a batch can be stamped in time; null: no bound is known. Claiming takes the least of this and
-- of what the bucket takes.
create or replace function retention._max_stamps()
returns integer
language sql
stable
as $$
  select s.most from retention.stamping s
$$;

-- Learns from p_results stamped in p_taken how many fit into five seconds, or a third of what a statement may take,
-- and forgets the bound when a whole batch fits. Locks the row of retention.stamping where that changes.
create or replace function retention._note_pace(p_results bigint, p_taken interval)
returns void
language plpgsql
as $$
declare
  v_seconds numeric := least(5, nullif(extract(epoch from current_setting('statement_timeout')::interval), 0) / 3);
  v_fits integer := least(1000, greatest(1, v_seconds * p_results / greatest(extract(epoch from p_taken), 0.001)));
begin
  update retention.stamping s
  set most = nullif(v_fits, 1000)
  where s.most is distinct from nullif(v_fits, 1000);
end
$$;

-- Stamps results that S3 has deleted, and remembers those that it cannot stamp in batches of their own, one for each
-- way to fail. stamped: how many rows were. left_out: the places (from 1) of those that are remembered. failed,
-- dead, retry_at and problems: of these, as settle returns them. Where nothing could be stamped, a trial decides
-- whether the gate closes. One update for a whole batch where all goes well. Called by settle and stamp_again,
-- under their planner settings. Raises nothing that a stamp raises.
create or replace function retention._stamp_or_remember(
  p_batch retention.batch,
  p_run_ids retention.run_id[],
  p_keys text[],
  p_tenants text[],
  out stamped bigint,
  out left_out integer[],
  out failed bigint,
  out dead bigint,
  out retry_at timestamptz,
  out problems jsonb
)
language plpgsql
as $$
declare
  v_most integer := (select s.most from retention.stamping s);
  v_started_at timestamptz := clock_timestamp();
  v_code text;
  v_parts record;
  v_codes text[];
  v_messages text[];
begin
  stamped := 0;
  left_out := '{}';
  failed := 0;
  dead := 0;
  problems := '[]';
  if cardinality(p_run_ids) = 0 then
    return;
  end if;
  if v_most is null or cardinality(p_run_ids) <= v_most then
    begin
      stamped := retention._stamp(p_batch.bucket, p_run_ids, p_keys, p_batch.oldest, p_batch.newest);
    exception
      when query_canceled or assert_failure or others then
        get stacked diagnostics v_code = returned_sqlstate;
    end;
  end if;
  if v_code is null and (v_most is null or cardinality(p_run_ids) <= v_most) then
    if v_most is not null or clock_timestamp() - v_started_at > interval '2 seconds' then
      perform retention._note_pace(cardinality(p_run_ids), clock_timestamp() - v_started_at);
    end if;
    if stamped >= cardinality(p_run_ids) then
      return;
    end if;
    -- What is gone, cleared or completed again, or points elsewhere, is done; what is still as it was is not.
    left_out := array(
      select retention._still_live(p_batch.bucket, p_run_ids, p_keys, p_batch.oldest, p_batch.newest)
    );
    v_codes := array_fill('StampSwallowed'::text, array[cardinality(left_out)]);
    v_messages := array_fill(
      'a trigger, a rule or a row-level security policy of the table swallows the stamp'::text,
      array[cardinality(left_out)]
    );
  else
    select *
    into strict v_parts
    from retention._stamp_parts(
      p_batch, p_run_ids, p_keys, v_code, coalesce(v_most / 5, 1000),
      case when v_code = '57014' then clock_timestamp() else retention._stamp_until() end
    );
    stamped := v_parts.stamped;
    left_out := v_parts.places;
    v_codes := v_parts.codes;
    v_messages := v_parts.messages;
    if v_code = '57014' then
      perform retention._note_pace(cardinality(p_run_ids), (clock_timestamp() - v_started_at) * 2);
    elsif stamped > 0 and v_most is not null then
      perform retention._note_pace(stamped, clock_timestamp() - v_started_at);
    end if;
  end if;
  if cardinality(left_out) > 0 then
    select r.failed, r.dead, r.retry_at, r.problems
    into strict failed, dead, retry_at, problems
    from retention._remember(p_batch, p_run_ids, p_keys, p_tenants, left_out, v_codes, v_messages, stamped = 0) r;
  end if;
end
$$;

-- Writes down which results of a batch S3 has deleted and no stamp could be written for: those that failed alike in a batch of
-- their own. p_is_all: nothing of the batch could be stamped. Called by _stamp_or_remember alone.
create or replace function retention._remember(
  p_batch retention.batch,
  p_run_ids retention.run_id[],
  p_keys text[],
  p_tenants text[],
  p_places integer[],
  p_codes text[],
  p_messages text[],
  p_is_all boolean,
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
  v_tries integer := case when p_batch.deleted_at is null then 0 else p_batch.attempts end;
  v_postponed integer := case when p_batch.deleted_at is null then 0 else p_batch.postponed end;
  v_is_open boolean := true;
  v_is_counted boolean;
  v_is_dead boolean;
  v_retry_at timestamptz;
begin
  failed := 0;
  dead := 0;
  problems := '[]';
  select * into strict v_setting from retention.setting;
  if p_is_all and not retention._stamp_passes(p_codes[1]) and p_codes[1] = all (p_codes) then
    v_is_open := retention._try_stamp();
  end if;
  for v_kind in
    select f.code, min(f.message) as message, array_agg(f.place order by f.place) as places
    from unnest(p_places, p_codes, p_messages) as f (place, code, message)
    group by f.code
    order by min(f.place)
  loop
    -- While no stamp works at all, no result is to blame.
    v_is_counted := v_is_open and not retention._stamp_passes(v_kind.code);
    v_is_dead := v_is_counted and v_tries + 1 >= v_setting.max_attempts;
    v_retry_at := case
      when not v_is_dead then clock_timestamp() + case
        when v_kind.code = 'StampLater' and not p_is_all then interval '0'
        when v_is_counted then retention._backoff(v_setting.retry_base, v_setting.retry_cap, v_tries)
        else retention._backoff(v_setting.pause_base, v_setting.pause_cap, v_postponed)
      end
    end;
    retry_at := least(retry_at, v_retry_at);
    insert into retention.batch (
      bucket, results, oldest, newest, due_since, late_since, early, flagged_at, visible_at,
      attempts, postponed, code, error, failed_at, dead_at, deleted_at, leased_by, why, asked_by, revision, policies, ends, versions,
      request_ids, settled_session, product, run_ids, keys, tenants
    )
    values (
      p_batch.bucket,
      cardinality(v_kind.places),
      p_batch.oldest,
      p_batch.newest,
      p_batch.due_since,
      p_batch.late_since,
      p_batch.early,
      p_batch.flagged_at,
      coalesce(v_retry_at, clock_timestamp()),
      v_tries + v_is_counted::integer,
      v_postponed + (not v_is_counted)::integer,
      v_kind.code,
      left(v_kind.message, 500),
      clock_timestamp(),
      case when v_is_dead then clock_timestamp() end,
      coalesce(p_batch.deleted_at, clock_timestamp()),
      p_batch.leased_by,
      p_batch.why,
      p_batch.asked_by,
      p_batch.revision,
      p_batch.policies,
      case when p_batch.ends is not null then array(select p_batch.ends[i] from unnest(v_kind.places) i order by i) end,
      case when p_batch.versions is not null then array(select p_batch.versions[i] from unnest(v_kind.places) i order by i) end,
      p_batch.request_ids,
      p_batch.settled_session,
      p_batch.product,
      array(select p_run_ids[i] from unnest(v_kind.places) i order by i),
      array(select p_keys[i] from unnest(v_kind.places) i order by i),
      array(select p_tenants[i] from unnest(v_kind.places) i order by i)
    );
    if v_is_dead then
      dead := dead + cardinality(v_kind.places);
    else
      failed := failed + cardinality(v_kind.places);
    end if;
    problems := problems || jsonb_strip_nulls(jsonb_build_object(
      'code', v_kind.code,
      'message', left(v_kind.message, 500),
      'results', cardinality(v_kind.places),
      'run_ids', array(select p_run_ids[i]::text from unnest(v_kind.places) i order by i limit 3),
      'retry_at', retention._iso(v_retry_at),
      'dead', v_is_dead,
      'deleted', true
    ));
  end loop;
end
$$;

-- Stamps what S3 has deleted and could not be stamped before, as far as its time has come, for ten seconds at most.
-- S3 is not asked again. While the gate says that stamps fail, a single row is tried, with growing pauses; when that
-- works, the gate opens and all that waits is stamped. p_client: the client's version, for the gate. stamped: how
-- many rows were stamped. waiting and dead: how many results still wait for a stamp, and how many of them for a
-- person. next_seconds: when the next try is due; null: nothing waits. Costs a few look-ups where nothing waits.
-- For the listener.
-- Locks the batches that it works on and the rows that it stamps.
create or replace function retention.stamp_again(p_client text default null)
returns table (stamped bigint, waiting bigint, dead bigint, next_seconds double precision)
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
  v_until timestamptz := retention._stamp_until();
  v_stamping retention.stamping;
  v_batch retention.batch;
  v_done record;
  v_kept integer[];
  v_stamped bigint := 0;
begin
  if not exists (
    select from retention.gate(p_client) g where g.reason in ('detached', 'table replaced', 'version')
  ) then
    select * into strict v_stamping from retention.stamping;
    if v_stamping.failed_since is not null and v_stamping.try_at <= clock_timestamp() and retention._can_look() then
      perform retention._try_stamp();
      select * into strict v_stamping from retention.stamping;
    end if;
    while v_stamping.failed_since is null and clock_timestamp() < v_until loop
      select *
      into v_batch
      from retention.batch b
      where b.deleted_at is not null
        and b.settled_at is null
        and b.dead_at is null
        and b.visible_at <= clock_timestamp()
      order by b.visible_at, b.batch_id
      limit 1
      for update skip locked;
      exit when not found;
      select * into strict v_done
      from retention._stamp_or_remember(v_batch, v_batch.run_ids, v_batch.keys, v_batch.tenants);
      v_stamped := v_stamped + v_done.stamped;
      v_kept := array(select n from generate_series(1, v_batch.results) n where n <> all (v_done.left_out));
      if v_kept = '{}' then
        delete from retention.batch b where b.batch_id = v_batch.batch_id;
      else
        -- Its receipt. How it failed before is history.
        update retention.batch b
        set cleared = cardinality(v_kept),
          stamped = v_done.stamped,
          failed = v_done.failed,
          dead = v_done.dead,
          problems = nullif(v_done.problems, '[]'),
          settled_at = clock_timestamp(),
          run_ids = array(select v_batch.run_ids[n] from unnest(v_kept) n order by n),
          keys = array(select v_batch.keys[n] from unnest(v_kept) n order by n),
          tenants = array(select v_batch.tenants[n] from unnest(v_kept) n order by n),
          ends = case when b.ends is not null then array(select v_batch.ends[n] from unnest(v_kept) n order by n) end,
          versions = case when b.versions is not null then array(select v_batch.versions[n] from unnest(v_kept) n order by n) end
        where b.batch_id = v_batch.batch_id;
      end if;
      select * into strict v_stamping from retention.stamping;
    end loop;
  end if;
  return query
  select v_stamped,
    coalesce(sum(b.results), 0)::bigint,
    coalesce(sum(b.results) filter (where b.dead_at is not null), 0)::bigint,
    extract(
      epoch from coalesce(v_stamping.try_at, min(b.visible_at) filter (where b.dead_at is null and v_stamping.singleton))
        - clock_timestamp()
    )::double precision
  from retention.batch b
  where b.deleted_at is not null
    and b.settled_at is null;
end
$$;
