/*
The tick: what the scheduler calls every minute. It waits for no lock for long, and no failure of what it calls is its own:
each is written down where doctor and status find it.
*/

-- Takes dead results out of their batches whose run went on (another key, cleared by hand, deleted): they need no
-- person any more.
create or replace function retention._forget_dead()
returns void
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
  v_batch record;
begin
  if to_regclass('retention._live') is null then
    return;
  end if;
  for v_batch in
    select b.batch_id,
      array_agg(u.run_id) as gone
    from retention.batch b
    cross join lateral retention._results(b) as u
    where b.dead_at is not null
      and b.settled_at is null
      and not exists (
        select
        from retention._live r
        where r.run_id = u.run_id
          and r.key = u.key
          and r.bucket = b.bucket
      )
    group by b.batch_id
  loop
    perform retention._take_out(v_batch.batch_id, v_batch.gone);
  end loop;
end
$$;

-- Removes what no longer serves: history and receipts past their time, notes that have run out, dead results of
-- rows that went on, and the run history of our own pg_cron job, which pg_cron itself never prunes. Each by
-- itself: what fails is written down in retention.heartbeat, and the others are done.
create or replace function retention._clean_up()
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
set lock_timeout = '2s'
as $$
declare
  v_steps text[] := array[
    'delete from retention.batch b
    using retention.setting s
    where b.settled_at < now() - s.history_kept
      and b.cleared = 0',
    'select retention._prune_receipts()',
    'delete from retention.scan c using retention.setting s where c.started_at < now() - s.history_kept',
    'delete from retention.unanswered u where u.until < now()',
    'delete from retention.past_work p using retention.setting s where p.until < now() - s.history_kept',
    'delete from retention.cutoff c where c.until < now()',
    'delete from retention.attention a where a.at < now() - interval ''1 day''',
    'select retention._review_held_objects()',
    'select retention._forget_dead()',
    'select retention._forget_moved()',
    'select retention._forget_returned()',
    'select retention._review_some()',
    'delete from retention.lateness l where l.at < now() - interval ''25 hours''',
    'delete from retention.allowance a using retention.setting s
    where a.hold_id is null and a.dropped_at < now() - s.history_kept'
  ];
  v_step text;
  v_problem text;
begin
  -- Where pg_cron is none of ours, or lives in another database, its history is not ours either.
  if (select a.scheduler = 'pg_cron' and a.cron_database is null from retention.adapter a) then
    v_steps := v_steps || $cron$
      delete from cron.job_run_details
      where jobid in (select jobid from cron.job where jobname = 'retention-tick' or jobname like 'retention-tick:%')
        and end_time < now() - interval '1 day'
    $cron$::text;
  end if;
  foreach v_step in array v_steps loop
    begin
      execute v_step;
    exception
      when query_canceled or others then
        v_problem := concat_ws('; ', v_problem, format('%s %s', sqlstate, left(sqlerrm, 500)));
        -- Who has locked the table against one step has it locked against the next.
        perform set_config('lock_timeout', '100ms', true) where sqlstate = '55P03';
    end;
  end loop;
  update retention.heartbeat
  set cleaned_up_at = clock_timestamp(),
    clean_up_problem = v_problem;
end
$$;

-- What the scheduler calls every minute. It notes that the scheduler is alive, and cleans up once an hour. It
-- flags when the interval has passed, or when the last pass hit a limit. It seals what has settled, for a few seconds
-- at most. p_by: who calls. Returns how many results it flagged. Returns 0 while another tick is at work. What fails
-- in cleaning up, flagging or sealing does not fail the tick: it is a warning, and written down in
-- retention.heartbeat, retention.scan and retention.seal_head.
-- For the listener.
-- Locks the row of retention.heartbeat. It waits for a lock for a few seconds at most.
create or replace function retention.tick(p_by text default 'pg_cron')
returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set lock_timeout = '1s'
as $$
declare
  v_beat retention.heartbeat;
  v_setting retention.setting;
  v_problem text;
  v_flagged integer := 0;
begin
  perform from retention.heartbeat for update skip locked;
  if not found then
    return 0;
  end if;
  perform retention._bring_back_times();
  select * into strict v_beat from retention.heartbeat;
  update retention.heartbeat
  set ticked_at = clock_timestamp(),
    ticked_by = p_by;
  begin
    perform retention._note_gate();
  exception
    when lock_not_available then
      -- The transaction that opens or closes the gate announces it.
      null;
  end;
  if v_beat.cleaned_up_at is null or v_beat.cleaned_up_at < now() - interval '1 hour' then
    perform retention._clean_up();
  end if;
  select * into strict v_setting from retention.setting;
  if v_beat.more
    or v_beat.passed_at is null
    or v_beat.passed_at <= now() - retention._in_seconds(least(v_setting.loop_interval, '100 years'))
  then
    begin
      v_flagged := retention.flag_expired(p_asked_by => p_by);
    exception
      when others then
        v_problem := format('%s %s', sqlstate, left(sqlerrm, 500));
    end;
  end if;
  perform retention._seal_in_tick();
  if v_problem is null then
    return v_flagged;
  end if;
  raise warning 'the flagging pass failed: %', v_problem;
  if v_beat.pass_problem is distinct from v_problem then
    insert into retention.scan (ms, asked_by, looked_at, flagged, batches, without_place, skipped_rows, hit_limit)
    values (0, p_by, 0, 0, 0, 0, array['the pass failed: ' || v_problem], false);
    update retention.heartbeat set pass_problem = v_problem;
  end if;
  return 0;
end
$$;
