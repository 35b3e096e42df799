/*
A clock that was wrong. The clock of the database's host may have been ahead and corrected since. What was
written meanwhile then lies in the future, and nothing would move until it is reached.
*/

-- What lies further ahead than it can, by the clock of this server, one row for each kind. what: in words;
-- places: how many; until: the furthest. No row where the clock has not been set back. Costs a probe for each
-- bucket, and what is leased.
-- For observers.
create or replace function retention.times_ahead()
returns table (what text, places bigint, until timestamptz)
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
  with limits as (
    select clock_timestamp() + interval '1 minute' as past,
      clock_timestamp() + s.pause_cap + interval '1 minute' as pause,
      clock_timestamp() + greatest(s.retry_cap, s.pause_cap, s.cool_off) + interval '1 minute' as retry,
      -- No lease is longer than a day (RETENTION_LEASE_SECONDS).
      clock_timestamp() + interval '1 day 1 minute' as lease,
      clock_timestamp() + s.unanswered_for + interval '1 day 1 minute' as unanswered
    from retention.setting s
  )
  select f.what, count(*), max(f.until)
  from (
    select 'ticks and passes' as what, greatest(h.ticked_at, h.passed_at, h.swept_at, h.cleaned_up_at, h.walk_began_at, h.seen_at) as until
    from retention.heartbeat h
    cross join limits l
    where greatest(h.ticked_at, h.passed_at, h.swept_at, h.cleaned_up_at, h.walk_began_at, h.seen_at) > l.past
    union all
    select 'pauses of buckets', k.paused_until
    from retention.bucket k
    cross join limits l
    where k.paused_until > l.pause
    union all
    select 'leases', b.visible_at
    from retention.batch b
    cross join limits l
    where b.lease is not null
      and (b.leased_at > l.past or b.visible_at > l.lease)
    union all
    select 'next attempts', b.visible_at
    from retention.bucket k
    cross join limits l
    cross join lateral (
      select b.visible_at
      from retention.batch b
      where b.bucket = k.bucket
        and b.settled_at is null
        and b.dead_at is null
        and b.lease is null
        and b.visible_at > l.retry
      order by b.visible_at desc
      limit 1000
    ) b
    union all
    select 'requests without an answer', u.until
    from retention.unanswered u
    cross join limits l
    where u.until > l.unanswered
  ) f
  group by f.what
$$;

-- Ends what times_ahead finds, and notes that in retention.gate_state. A lease begins again with its own
-- length, because its holder may still be at work. Returns whether there was anything. Passes by rows that
-- another session has locked. Called by every tick, and by a claim that finds nothing.
create or replace function retention._bring_back_times()
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_setting retention.setting;
  v_now timestamptz := clock_timestamp();
  v_furthest timestamptz;
begin
  select max(t.until) into v_furthest from retention.times_ahead() t;
  if v_furthest is null then
    return false;
  end if;
  select * into strict v_setting from retention.setting;
  update retention.heartbeat h
  set ticked_at = case when h.ticked_at <= v_now then h.ticked_at end,
    passed_at = case when h.passed_at <= v_now then h.passed_at end,
    swept_at = case when h.swept_at <= v_now then h.swept_at end,
    walk_began_at = case when h.walk_began_at <= v_now then h.walk_began_at end,
    -- By its wrong clock that walk saw all that is due by now.
    seen_at = least(h.seen_at, v_now),
    cleaned_up_at = case when h.cleaned_up_at <= v_now then h.cleaned_up_at end
  from (select x.singleton from retention.heartbeat x for update skip locked) free
  where h.singleton = free.singleton
    and greatest(h.ticked_at, h.passed_at, h.swept_at, h.cleaned_up_at, h.walk_began_at, h.seen_at) > v_now + interval '1 minute';
  update retention.bucket k
  set paused_until = v_now
  from (
    select x.bucket
    from retention.bucket x
    where x.paused_until > v_now + v_setting.pause_cap + interval '1 minute'
    for update skip locked
  ) free
  where k.bucket = free.bucket;
  update retention.batch b
  set visible_at = v_now + case
      -- What was flagged by a clock that was wrong waits for its cool-off from now on.
      when b.lease is null and b.failed_at is null and b.early is null then coalesce(v_setting.cool_off, '0')
      when b.lease is null or b.visible_at - b.leased_at > interval '1 day' then interval '0'
      else b.visible_at - b.leased_at
    end,
    leased_at = case when b.lease is not null then v_now end
  from (
    select x.batch_id
    from retention.batch x
    where x.lease is not null
        and (x.leased_at > v_now + interval '1 minute' or x.visible_at > v_now + interval '1 day 1 minute')
      or x.lease is null
        and x.settled_at is null
        and x.dead_at is null
        and x.visible_at > v_now + greatest(v_setting.retry_cap, v_setting.pause_cap, v_setting.cool_off) + interval '1 minute'
    for update skip locked
  ) free
  where b.batch_id = free.batch_id;
  update retention.unanswered u
  set until = v_now + v_setting.unanswered_for
  where u.until > v_now + v_setting.unanswered_for + interval '1 day 1 minute';
  update retention.gate_state s
  set clock_corrected_at = v_now,
    clock_was_ahead = v_furthest - v_now
  from (select x.singleton from retention.gate_state x for update skip locked) free
  where s.singleton = free.singleton;
  return true;
end
$$;

-- The clock of this server, and what is known of its being wrong: corrected_at is when something that lay too
-- far ahead was last brought back, was_ahead how far ahead it lay.
-- For observers.
create or replace function retention.clock_state()
returns table (at timestamptz, corrected_at timestamptz, was_ahead interval)
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
  select clock_timestamp(), s.clock_corrected_at, s.clock_was_ahead
  from retention.gate_state s
$$;

-- Whether the clock of this server is ahead of the caller's by more than an hour, as a reason of the gate for this caller.
-- One of both is wrong. Where it is this server's, results would go before their time, so that nothing is claimed. A
-- server that is behind deletes too late, and is no reason. p_at: the time by the caller's clock; null: not asked.
-- For observers.
create or replace function retention.clocks_differ(p_at timestamptz)
returns table (reason text, because text, since timestamptz, remedy text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select 'clocks differ',
    format(
      'the clock of the database is ahead of this process''s by %s: by the one it is %s, by the other %s',
      date_trunc('minute', clock_timestamp() - p_at), retention._iso(clock_timestamp()), retention._iso(p_at)
    ),
    null::timestamptz,
    'find out which of the two hosts has the wrong time (date -u) and set it by a time server'
  where clock_timestamp() > p_at + interval '1 hour'
$$;
