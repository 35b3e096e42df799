/*
A flagging pass: takes its turn, works in parts, and writes down how it went.
*/

-- Waits for another pass, for a minute at most, and keeps all others from flagging until the transaction ends.
-- Raises lock_not_available.
create or replace function retention._take_pass_lock()
returns void
language plpgsql
set lock_timeout = '60s'
as $$
begin
  perform from retention.pass_lock for update;
exception
  when lock_not_available then
    raise exception using
      errcode = 'lock_not_available',
      message = 'another transaction has been flagging results for longer than a minute',
      detail = retention._lockers('retention.pass_lock'),
      hint = 'Try again when it has ended. An idle one is ended with: select pg_terminate_backend(<process>)';
end
$$;

-- Who has locked rows of a table of this schema, or the table itself, against others: for a message.
create or replace function retention._lockers(p_table regclass)
returns text
language sql
stable
as $$
  select string_agg(distinct format('process %s (role %s)', l.pid, coalesce(a.usename, 'unknown')), ', ')
  from pg_locks l
  left join pg_stat_activity a on a.pid = l.pid
  where l.relation = p_table
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
    and l.granted
    and l.pid <> pg_backend_pid()
    and l.mode <> 'AccessShareLock'
$$;

-- Writes down how a pass went. p_whole: it started from the oldest result. p_began_at: since when the walk is under way
-- that it belongs to; null: it belongs to none. p_says_all: what cannot be flagged is
-- worth a line of its own. A tick that is cleaning up has the row of the heartbeat: a pass without a tick waits.
create or replace function retention._note_pass(
  p_pass retention.scan,
  p_left_alone bigint,
  p_whole boolean,
  p_began_at timestamptz,
  p_says_all boolean
)
returns void
language plpgsql
set lock_timeout = '60s'
as $$
begin
  update retention.heartbeat
  set passed_at = clock_timestamp(),
    more = p_pass.hit_limit,
    swept_at = case when p_whole then clock_timestamp() else swept_at end,
    walk_began_at = case when p_pass.hit_limit then p_began_at end,
    seen_at = case when p_pass.hit_limit then seen_at else coalesce(p_began_at, seen_at) end,
    pass_problem = null,
    left_alone = p_left_alone + case when p_whole then 0 else left_alone end;
  if p_pass.flagged > 0 or p_pass.surge_id is not null or p_says_all and p_pass.without_place + p_pass.skipped > 0 then
    insert into retention.scan (
      started_at, ms, asked_by, looked_at, flagged, batches, without_place, without_place_run_ids,
      skipped, skipped_rows, hit_limit, oldest, surge_id, set_aside
    )
    values (
      p_pass.started_at,
      extract(epoch from clock_timestamp() - p_pass.started_at) * 1000,
      p_pass.asked_by,
      p_pass.looked_at,
      p_pass.flagged,
      p_pass.batches,
      p_pass.without_place,
      p_pass.without_place_run_ids,
      p_pass.skipped,
      p_pass.skipped_rows,
      p_pass.hit_limit,
      p_pass.oldest,
      p_pass.surge_id,
      p_pass.set_aside
    );
  end if;
end
$$;

-- Writes down what is due as batches of one bucket each, oldest first. Returns how many results it flagged.
-- It works in parts of about 10,000 results. p_max_rows: how many results are looked at; by default
-- setting.flag_limit. p_asked_by: who is noted in retention.scan; by default the session's user. p_whole:
-- start from the oldest result and not from the progress. A pass ends after 10 seconds and is gone on with by the
-- next one. Late results wait until a walk over all results is complete, and may be set aside: see
-- retention.list_surges. Returns 0 at once when the gate is closed and when the backlog has reached its limit. Returns 0 at
-- once while another pass runs; p_wait: it waits for that pass instead, for a minute at most.
-- For the listener.
-- Locks the row of retention.pass_lock, and nothing of the application's.
-- Raises invalid_parameter_value for p_max_rows below 1, and lock_not_available with p_wait.
create or replace function retention.flag_expired(
  p_max_rows integer default null,
  p_asked_by text default null,
  p_whole boolean default false,
  p_wait boolean default false
)
returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
-- The application's table is read in the order of one index, and nothing else: whatever the statistics say, a
-- plan that reads the table or sorts what it finds would cost the table and not what is due. What was found
-- there is sorted once and joined by hash, since there is no other way.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_mergejoin = off
set max_parallel_workers_per_gather = 0
set jit = off
-- A part is sorted in memory, and so is the list of what is flagged beside it.
set work_mem = '128MB'
-- Where another session has locked the table for good, the pass fails and says so.
set lock_timeout = '2s'
as $$
declare
  v_started_at timestamptz := clock_timestamp();
  v_setting retention.setting;
  v_beat retention.heartbeat;
  v_backlog bigint;
  v_waiting bigint;
  v_left bigint;
  v_by_time boolean;
  v_whole boolean;
  v_began_at timestamptz;
  v_decided record;
  v_part_rows bigint := 10000;
  v_part record;
  v_more boolean := true;
  v_is_over boolean := false;
  v_pass retention.scan;
  v_left_alone bigint := 0;
begin
  if p_max_rows < 1 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('max_rows must be 1 or more, given: %s', p_max_rows);
  end if;
  if p_wait then
    perform set_config('lock_timeout', '60s', true);
    perform retention._take_pass_lock();
  else
    perform from retention.pass_lock for update skip locked;
    if not found then
      return 0;
    end if;
  end if;
  if not retention._is_open() then
    return 0;
  end if;
  select * into strict v_setting from retention.setting;
  select * into strict v_beat from retention.heartbeat;
  -- What waits for a person: dead, or set aside.
  select coalesce(sum(b.results) filter (where b.dead_at is null), 0),
    coalesce(sum(b.results) filter (where b.dead_at is not null), 0)
      + (select coalesce(sum(p.results), 0) from retention.surge_part p)
  into v_backlog, v_waiting
  from retention.batch b
  where b.settled_at is null;
  v_left := least(coalesce(p_max_rows, v_setting.flag_limit), v_setting.backlog_limit - v_backlog);
  if v_left <= 0 then
    -- As if there had been no pass: the next tick looks again, whatever the interval.
    update retention.heartbeat set passed_at = null, more = false;
    return 0;
  end if;

  -- A walk that takes longer than the interval is gone on with: begun again, it would never be complete.
  v_by_time := v_beat.swept_at is null
    or v_beat.walk_began_at is null and v_beat.swept_at <= now() - least(v_setting.sweep_interval, '100 years');
  -- Not while a walk is under way: what is left alone would be looked at for ever, and nothing behind.
  v_whole := p_whole
    or v_by_time
    or not v_beat.more and v_backlog + v_waiting + v_beat.left_alone <= v_setting.small_backlog;
  v_began_at := case when v_whole then now() else v_beat.walk_began_at end;
  if v_whole then
    delete from retention.progress;
  end if;
  perform retention._prepare_allowances(v_whole);
  if p_whole or v_by_time then
    perform retention._review_shared_objects();
    perform retention._review_spared_objects();
  end if;

  v_pass.flagged := 0;
  v_pass.batches := 0;
  v_pass.looked_at := 0;
  v_pass.without_place := 0;
  v_pass.without_place_run_ids := '{}';
  v_pass.skipped := 0;
  v_pass.skipped_rows := '{}';
  v_pass.set_aside := 0;
  loop
    v_part_rows := least(v_part_rows, v_left);
    begin
      select * into strict v_part from retention._flag_part(v_part_rows, v_setting.batch_size);
    exception
      when query_canceled then
        -- The session's time limit, which strikes once. What was flagged so far stays; a pass that was too slow
        -- for its first part does a small one, so that each gets somewhere.
        v_is_over := true;
        exit when v_pass.looked_at > 0;
        select * into strict v_part from retention._flag_part(least(v_part_rows, 500), v_setting.batch_size);
      when others then
        if retention._is_passing(sqlstate) then
          raise;
        end if;
        select * into strict v_part from retention._flag_carefully(v_part_rows, v_setting.batch_size);
    end;
    v_pass.flagged := v_pass.flagged + v_part.flagged;
    v_pass.batches := v_pass.batches + v_part.batches;
    v_pass.oldest := least(v_pass.oldest, v_part.oldest);
    v_pass.looked_at := v_pass.looked_at + v_part.looked_at;
    v_pass.without_place := v_pass.without_place + v_part.without_place;
    v_pass.without_place_run_ids := (v_pass.without_place_run_ids || v_part.without_place_run_ids)[1:10];
    v_pass.skipped := v_pass.skipped + v_part.skipped;
    v_pass.skipped_rows := (v_pass.skipped_rows || v_part.skipped_rows)[1:10];
    v_left_alone := v_left_alone + v_part.left_alone;
    -- What is set aside is no work.
    v_left := v_left - v_part.looked_at + v_part.parked;
    v_more := v_part.more;
    v_is_over := v_is_over or clock_timestamp() > v_started_at + interval '10 seconds';
    exit when not v_more or v_left <= 0 or v_is_over;
    -- A part begins with a probe or two of each tenant: they are to stay few beside its rows.
    v_part_rows := greatest(v_part_rows, 10 * v_part.tenants);
  end loop;

  if not v_more then
    perform retention._note_ahead();
    v_decided := retention._decide_late(coalesce(p_asked_by, session_user));
    v_pass.flagged := v_pass.flagged + v_decided.flagged;
    v_pass.batches := v_pass.batches + v_decided.batches;
    v_pass.oldest := least(v_pass.oldest, v_decided.oldest);
    v_pass.surge_id := v_decided.surge_id;
    v_pass.set_aside := v_decided.set_aside;
    perform retention._drop_allowances(v_began_at);
  end if;
  perform retention._cool(v_setting.cool_off);
  v_pass.started_at := v_started_at;
  v_pass.asked_by := coalesce(p_asked_by, session_user);
  v_pass.hit_limit := v_more;
  perform retention._note_pass(v_pass, v_left_alone, v_whole, v_began_at, v_by_time or p_whole);
  return v_pass.flagged;
end
$$;
