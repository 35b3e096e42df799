/*
How things stand: what status, metrics, page, doctor and people in psql read.
*/

-- One row for each flagged result: its batch, its attempts, and why it failed.
-- For observers.
create or replace view retention.flagged as
select u.run_id,
  u.tenant_id,
  b.bucket,
  -- As _unpack_key, which readers of this may not call.
  case
    when starts_with(u.key, E'\x02') then substr(u.key, 2)
    -- Run ids may have a collation of their own.
    else replace(u.key, E'\x01', u.run_id::text collate "C")
  end as key,
  b.batch_id,
  b.flagged_at,
  b.visible_at,
  b.lease is not null and b.visible_at > now() as leased,
  b.attempts,
  b.code,
  b.error,
  b.failed_at,
  b.dead_at,
  b.deleted_at
from retention.batch b
cross join unnest(b.run_ids, b.keys, b.tenants) as u (run_id, key, tenant_id)
where b.settled_at is null;

comment on column retention.flagged.run_id is 'the run whose result it is';
comment on column retention.flagged.key is 'the object, in the bucket beside it';
comment on column retention.flagged.batch_id is 'the batch that carries it';
comment on column retention.flagged.visible_at is
  'when its batch may be claimed: now, at its next attempt, or when its lease runs out';
comment on column retention.flagged.leased is 'a listener works on it';
comment on column retention.flagged.attempts is 'how often S3 has refused it';
comment on column retention.flagged.code is
  'why it failed when it was last tried, by S3 or by the stamp (a SQLSTATE); null: it has not failed';
comment on column retention.flagged.error is 'the message beside code';
comment on column retention.flagged.dead_at is
  'since when it is dead, and waits for retention.retry; null: it is not dead';
comment on column retention.flagged.deleted_at is
  'since when S3 has deleted it and only its stamp is missing, for the reason in code; null: not so';

-- What a listener has to know when it has nothing to do, in one statement: whether a batch is visible now,
-- when the next one is, whether the last pass hit a limit, when the scheduler last ticked, and the reasons of
-- the gate. p_client: the client's version, for the gate. p_buckets: what is visible in these buckets; by default in
-- any. next_stamp_seconds: when stamp_again has something to do; null: nothing waits for it. Cheap at any size.
-- For the listener.
create or replace function retention.pulse(p_client text default null, p_buckets text[] default null)
returns table (
  enabled boolean,
  halted text[],
  scheduler text,
  visible_now boolean,
  next_visible_seconds double precision,
  more boolean,
  ticked_seconds_ago double precision,
  ticked_by text,
  last_scan_id bigint,
  next_stamp_seconds double precision
)
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
  with next as (
    select min(greatest(
        f.visible_at,
        k.paused_until,
        case when num_nonnulls(k.max_per_second, k.max_in_flight) > 0 then retention._ceiling_until(k) end
      )) as visible_at
    from retention.bucket k
    cross join lateral (
      select b.visible_at
      from retention.batch b
      where b.bucket = k.bucket
        and b.settled_at is null
        and b.dead_at is null
        and (b.early is null or b.flagged_at not in (select c.flagged_at from retention.cutoff c where c.until > now()))
        and b.deleted_at is null
      order by b.visible_at
      limit 1
    ) f
    where p_buckets is null or k.bucket = any (p_buckets)
  )
  select s.enabled,
    array(select g.reason from retention.gate(p_client) g),
    a.scheduler,
    coalesce(n.visible_at <= clock_timestamp(), false),
    extract(epoch from n.visible_at - clock_timestamp())::double precision,
    h.more,
    -- A tick of the future says nothing: the clock was wrong.
    case
      when h.ticked_at <= clock_timestamp() + interval '1 minute'
      then extract(epoch from clock_timestamp() - h.ticked_at)::double precision
    end,
    h.ticked_by,
    (select coalesce(max(c.scan_id), 0) from retention.scan c),
    (
      select extract(epoch from coalesce(t.try_at, min(b.visible_at)) - clock_timestamp())::double precision
      from retention.stamping t
      left join retention.batch b on b.deleted_at is not null
        and b.settled_at is null
        and b.dead_at is null
      group by t.try_at
    )
  from retention.setting s
  cross join retention.heartbeat h
  cross join retention.adapter a
  cross join next n
$$;

-- The size of our index over live results, as the last vacuum or analyze saw it.
create or replace function retention._estimate_live()
returns bigint
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
  -- By way of the index: partitions that came later have indexes under names of Postgres's choice.
  return (
    select coalesce(sum(greatest(c.reltuples, 0)) filter (where c.relkind = 'i'), 0)
    from retention.adapter a
    join pg_index i on i.indrelid = a.table_oid
    join pg_description d on d.objoid = i.indexrelid
      and d.classoid = 'pg_class'::regclass
      and d.objsubid = 0
      and d.description = a.index_marks[1]
    cross join lateral (
      select i.indexrelid as relid
      union
      select p.relid
      from pg_partition_tree(i.indexrelid) p
    ) t
    join pg_class c on c.oid = t.relid
  );
end
$$;

-- The sums over what is flagged and not settled. Part of a statement, like the two after it: they set nothing, so that
-- Postgres plans them with it.
create or replace function retention._work_now()
returns table (
  flagged bigint,
  leased bigint,
  failed bigint,
  dead bigint,
  batches bigint,
  oldest timestamptz,
  due_since timestamptz
)
language sql
stable
as $$
  select coalesce(sum(b.results) filter (where b.dead_at is null), 0)::bigint as flagged,
    coalesce(sum(b.results) filter (where b.lease is not null and b.visible_at > now()), 0)::bigint as leased,
    coalesce(sum(b.results) filter (where b.attempts > 0 and b.dead_at is null), 0)::bigint as failed,
    coalesce(sum(b.results) filter (where b.dead_at is not null), 0)::bigint as dead,
    count(*) filter (where b.dead_at is null) as batches,
    min(b.oldest) filter (where b.dead_at is null and b.kind is null) as oldest,
    min(b.due_since) filter (where b.dead_at is null) as due_since
  from retention.batch b
  where b.settled_at is null
$$;

-- Results that were spared lately, by a keeper or since their object has changed; 10,000 at most.
create or replace function retention._spared_now()
returns table (kept bigint, changed bigint)
language sql
stable
as $$
  select count(*) filter (where n.kept_by is not null) as kept,
    count(*) filter (where n.kept_by is null) as changed
  from (
    select s.kept_by
    from retention.spared_object s
    where s.until > now()
    limit 10000
  ) n
$$;

-- Policies that wait for a confirmation, in words.
create or replace function retention._policies_pending()
returns table (policies_pending bigint, policy_pending text)
language sql
stable
as $$
  select count(*) as policies_pending,
    string_agg(
      format(
        'tenant %s: %s instead of %s would make %s due at once',
        p.tenant_id, p.pending_retain, p.retain, retention._counted(p.pending_results, 'result')
      ),
      '; '
    ) as policy_pending
  from retention.policy p
  where p.pending_retain is not null
$$;

-- The row of the view retention.status, which calls it with the rights of its reader.
-- For observers.
create or replace function retention.read_status()
returns table (
  enabled boolean,
  live_estimate bigint,
  due bigint,
  due_is_capped boolean,
  flagged bigint,
  leased bigint,
  failed bigint,
  dead bigint,
  held bigint,
  cleared_today bigint,
  spared_today bigint,
  oldest_due timestamptz,
  batches bigint,
  buckets_paused bigint,
  last_tick timestamptz,
  last_pass timestamptz,
  scheduler text,
  scheduler_health text,
  loop_interval_seconds bigint,
  default_retain_days double precision,
  policies_pending bigint,
  policy_pending text,
  due_since timestamptz,
  halted text[],
  next_pass timestamptz,
  next_pass_because text,
  newest_run timestamptz,
  set_aside bigint,
  surges bigint,
  cooling bigint,
  cooling_until timestamptz,
  kept bigint,
  object_changed bigint,
  stamps_without_receipt bigint,
  receipts_without_stamp bigint,
  receipts_without_row bigint,
  stamps_counted_at timestamptz
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
-- For a statement this small, compiling it takes a hundred times longer than running it.
set jit = off
-- Receipts of years are not read, whatever the statistics say.
set enable_seqscan = off
-- Each of these is one row: another order is not worth looking for.
set join_collapse_limit = 1
as $$
#variable_conflict use_column
begin
  -- In PL/pgSQL, which keeps the plan: planned at each call, it would take as long again.
  return query
  select s.enabled,
    retention._estimate_live(),
    u.due + w.flagged,
    u.is_capped,
    w.flagged,
    w.leased,
    w.failed,
    w.dead,
    y.held,
    z.cleared_today,
    z.spared_today,
    least(w.oldest, u.completed_at),
    w.batches,
    k.buckets_paused,
    h.ticked_at,
    h.passed_at,
    a.scheduler,
    case
      when not s.enabled then 'disabled'
      when h.ticked_at is null then 'never ticked'
      when h.ticked_at < now() - interval '5 minutes' then 'silent'
      -- A listener stands in for it; its next tick would be its own again.
      when a.scheduler = 'pg_cron' and h.ticked_by = 'listener' then 'silent'
      else 'ok'
    end,
    extract(epoch from s.loop_interval)::bigint,
    (extract(epoch from d.retain) / 86400)::double precision,
    v.policies_pending,
    v.policy_pending,
    least(w.due_since, u.due_at),
    array(select g.reason from retention.gate() g),
    x.comes_at,
    x.because,
    -- Where nothing is live, of the receipt that was written last.
    coalesce(
      u.newest,
      (select b.newest from retention.batch b where b.settled_at is not null order by b.settled_at desc limit 1)
    ),
    (select coalesce(sum(p.results), 0)::bigint from retention.surge_part p),
    (select count(*) from retention.surge g where g.closed_at is null),
    c.results,
    c.first_at,
    o.kept,
    o.changed,
    m.no_receipt,
    m.no_stamp,
    m.no_row,
    m.counted_at
  from retention.setting s
  cross join retention.heartbeat h
  cross join retention.adapter a
  cross join retention.next_pass() x
  cross join retention.cooling() c
  join retention.policy d on d.tenant_id = '*'
  cross join lateral retention._unflagged(1000) u
  cross join retention._work_now() w
  cross join lateral (
    select count(*) as held
    from retention.hold o
    where (o.released_at is null or o.released_at > now())
      and retention._hold_end(o.released_at, o.expires_at) > now()
  ) y
  cross join lateral (
    select coalesce(sum(b.cleared), 0)::bigint as cleared_today,
      coalesce(sum(b.spared), 0)::bigint as spared_today
    from retention.batch b
    where b.settled_at >= date_trunc('day', now(), 'UTC')
  ) z
  cross join lateral (
    select count(*) as buckets_paused
    from retention.bucket o
    where o.paused_until > now()
  ) k
  cross join retention._spared_now() o
  cross join (
    select max(t.results) filter (where t.kind = 'no_receipt') as no_receipt,
      max(t.results) filter (where t.kind = 'no_stamp') as no_stamp,
      max(t.results) filter (where t.kind = 'no_row') as no_row,
      max(t.counted_at) as counted_at
    from retention.stamp_account t
  ) m
  cross join retention._policies_pending() v;
end
$$;

-- One row that says how things stand. Cheap at any size.
-- For observers.
create or replace view retention.status as
select * from retention.read_status();

comment on column retention.status.enabled is 'false: nothing is flagged and nothing is claimed';
comment on column retention.status.live_estimate is
  'an estimate of how many results are live: the size of an index at its last vacuum or analyze';
comment on column retention.status.due is
  'results past their policy that wait, flagged or not; those not flagged are counted among about 1,000 rows of at most 250 tenants';
comment on column retention.status.due_is_capped is 'due says "at least": there may be more than were counted';
comment on column retention.status.flagged is 'flagged results that are not dead, leased ones too';
comment on column retention.status.leased is 'flagged results that a listener works on';
comment on column retention.status.failed is 'results that S3 refused and that wait for their next attempt';
comment on column retention.status.dead is 'results that wait for retention.retry';
comment on column retention.status.held is 'holds in force, on runs and on tenants';
comment on column retention.status.cleared_today is 'results cleared since midnight UTC';
comment on column retention.status.spared_today is 'results spared since midnight UTC';
comment on column retention.status.oldest_due is 'when the oldest of the due results completed';
comment on column retention.status.due_since is 'when the due result that waits longest fell due';
comment on column retention.status.batches is 'batches that are neither settled nor dead';
comment on column retention.status.buckets_paused is 'buckets whose batches wait until a pause ends';
comment on column retention.status.last_tick is 'when the scheduler last ticked';
comment on column retention.status.last_pass is 'when a flagging pass last ended';
comment on column retention.status.scheduler is 'pg_cron or internal';
comment on column retention.status.scheduler_health is
  'ok, disabled, never ticked, or silent: no tick of its own for 5 minutes';
comment on column retention.status.loop_interval_seconds is 'how often a tick flags';
comment on column retention.status.default_retain_days is 'the default policy';
comment on column retention.status.policies_pending is 'policies that wait for retention.confirm_policy';
comment on column retention.status.policy_pending is 'the same in words; null: none';
comment on column retention.status.halted is 'the reasons of retention.gate(); empty: none';
comment on column retention.status.next_pass is 'when the next flagging pass comes; null: none comes by itself';
comment on column retention.status.next_pass_because is 'what the next pass waits for, or what keeps it from coming';
comment on column retention.status.cooling is
  'flagged results that wait for their cool-off, and for nothing else';
comment on column retention.status.cooling_until is 'when the first of them may go; null: there are none';
comment on column retention.status.kept is
  'objects of due results that a keeper has, as far as they were claimed before; with object_changed counted up to 10,000';
comment on column retention.status.object_changed is
  'objects of due results that stay, since S3 holds another version than the row''s etag names';
comment on column retention.status.stamps_without_receipt is
  'of the last retention.account_stamps(): stamps that no receipt accounts for, set by hand or by another program';
comment on column retention.status.receipts_without_stamp is
  'of the same: results with a receipt whose row has lost its stamp';
comment on column retention.status.receipts_without_row is
  'of the same: results with a receipt whose row the application has deleted since';
comment on column retention.status.stamps_counted_at is 'when that was counted; null: never';
comment on column retention.status.newest_run is
  'when the newest run completed that is known here; long ago: the application may write to another table';

comment on column retention.status.set_aside is
  'late results that wait for retention.release_surge, or for the end of a walk; they are not among the due ones';
comment on column retention.status.surges is 'surges that wait for retention.release_surge';

-- The indexes of this schema on the adopted table, and whether each is there and valid.
-- For observers.
create or replace function retention.index_state()
returns table (name text, is_there boolean)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select p.name, p.is_there
  from retention._index_plan() p
$$;
