/*
The trend of the backlog: how fast it goes, and about when it will be gone.
*/

-- How the backlog moves. waiting: results that are due, flagged or not; flagged: those of them in batches, and flagged_before
-- the same an hour ago, by the batches that were open then; direction: growing, shrinking or steady, by these two.
-- cleared_per_second: over the last 10 minutes, or since the first batch that settled in them began. seconds_to_go and
-- gone_at: an estimate, when what waits will be gone at that pace; null: there is none, and because says why. is_at_least:
-- it takes longer, since more may wait than was counted, or some of it waits for a later time. What falls due meanwhile comes
-- on top.
-- p_due and p_is_capped: due and due_is_capped of retention.status, where the caller has them; otherwise they are read.
-- Reads open batches and those settled in the last hour by their indexes. For observers.
create or replace function retention.trend(p_due bigint default null, p_is_capped boolean default null)
returns table (
  waiting bigint,
  is_at_least boolean,
  flagged bigint,
  flagged_before bigint,
  direction text,
  cleared_per_second double precision,
  seconds_to_go double precision,
  gone_at timestamptz,
  because text
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_hour constant timestamptz := now() - interval '1 hour';
  v_window constant timestamptz := now() - interval '10 minutes';
  v_open record;
  v_settled record;
  v_closed text := (select g.because from retention.gate() g limit 1);
begin
  waiting := p_due;
  is_at_least := p_is_capped;
  if waiting is null then
    select s.due, s.due_is_capped into waiting, is_at_least from retention.read_status() s;
  end if;
  select coalesce(sum(b.results) filter (where b.dead_at is null), 0)::bigint as now,
    coalesce(sum(b.results) filter (where b.flagged_at <= v_hour and (b.dead_at is null or b.dead_at > v_hour)), 0)::bigint
      as before,
    coalesce(bool_or(b.dead_at is null and (b.lease is null and b.visible_at > now() or k.paused_until > now())), false)
      as is_later
  into v_open
  from retention.batch b
  left join retention.bucket k on k.bucket = b.bucket
  where b.settled_at is null;
  select coalesce(sum(b.results) filter (where b.flagged_at <= v_hour), 0)::bigint as before,
    coalesce(sum(b.cleared) filter (where b.settled_at > v_window), 0)::double precision as cleared,
    min(b.settled_at - make_interval(secs => coalesce(b.ms, 0) / 1000.0)) filter (where b.settled_at > v_window) as began_at
  into v_settled
  from retention.batch b
  where b.settled_at > v_hour;
  flagged := v_open.now;
  flagged_before := v_open.before + v_settled.before;
  direction := case
    when flagged > flagged_before * 1.01 then 'growing'
    when flagged < flagged_before * 0.99 then 'shrinking'
    else 'steady'
  end;
  is_at_least := is_at_least or v_open.is_later;
  cleared_per_second := v_settled.cleared
    / greatest(extract(epoch from now() - greatest(v_settled.began_at, v_window)), 1)::double precision;
  because := case
    when waiting = 0 then 'nothing waits'
    when v_closed is not null then 'nothing goes: ' || v_closed
    when v_settled.cleared = 0 then 'nothing was cleared in the last 10 minutes'
  end;
  if because is null then
    seconds_to_go := waiting / cleared_per_second;
    -- A pace of next to nothing would lead past what a date can hold.
    gone_at := now() + make_interval(secs => least(seconds_to_go, 86400.0 * 36500));
    because := 'at the pace of the last 10 minutes; what falls due meanwhile comes on top';
  end if;
  return next;
end
$$;
