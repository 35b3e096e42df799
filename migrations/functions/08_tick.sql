/*
The tick: what the scheduler calls every minute.
*/

-- Removes what no longer serves: history and receipts past their time, dead results of rows that went on,
-- and the run history of our own pg_cron job, which pg_cron itself never prunes.
create or replace function retention._clean_up()
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
  v_setting retention.setting;
  v_batch record;
begin
  select * into strict v_setting from retention.setting;
  delete from retention.batch b
  where b.settled_at < now() - case when b.cleared > 0 then v_setting.receipts_kept else v_setting.history_kept end;
  delete from retention.scan where started_at < now() - v_setting.history_kept;
  delete from retention.unanswered where until < now();
  -- A dead result whose run went on (another key, cleared by hand, deleted) needs no person any more.
  if to_regclass('retention._live') is not null then
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
  end if;
  begin
    if to_regclass('cron.job_run_details') is not null then
      execute $cron$
        delete from cron.job_run_details
        where jobid in (select jobid from cron.job where jobname = 'retention-tick' or jobname like 'retention-tick:%')
          and end_time < now() - interval '1 day'
      $cron$;
    end if;
  exception
    when insufficient_privilege then
      null;
  end;
  update retention.heartbeat set cleaned_up_at = clock_timestamp();
end
$$;

-- What the scheduler calls every minute. It notes that the scheduler is alive, and cleans up once an hour. It
-- flags when the interval has passed, or when the last pass hit a limit. p_by: who calls. Returns how many
-- results it flagged.
-- For the listener.
-- Locks the row of retention.heartbeat.
create or replace function retention.tick(p_by text default 'pg_cron')
returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_beat retention.heartbeat;
  v_setting retention.setting;
begin
  perform retention._bring_back_times();
  update retention.heartbeat
  set ticked_at = clock_timestamp(),
    ticked_by = p_by
  returning * into strict v_beat;
  perform retention._note_gate();
  if v_beat.cleaned_up_at is null or v_beat.cleaned_up_at < now() - interval '1 hour' then
    perform retention._clean_up();
  end if;
  select * into strict v_setting from retention.setting;
  if v_beat.more
    or v_beat.passed_at is null
    or v_beat.passed_at <= now() - retention._in_seconds(v_setting.loop_interval)
  then
    return retention.flag_expired(p_asked_by => p_by);
  end if;
  return 0;
end
$$;
