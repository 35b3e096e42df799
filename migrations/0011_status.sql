-- Up Migration

-- What a listener needs to know when it has nothing to do, in one statement: is something visible
-- now, when is something visible next, did the last pass hit a limit, how long has the scheduler
-- been silent, is the reactor enabled. Cheap at any size.
create function retention.pulse()
returns table (
  enabled boolean,
  scheduler text,
  visible_now boolean,
  next_visible_seconds double precision,
  more boolean,
  ticked_seconds_ago double precision,
  ticked_by text,
  last_scan_id bigint
)
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
  with next as (
    select min(greatest(f.visible_at, coalesce(k.paused_until, '-infinity'))) as visible_at
    from retention.bucket k
    cross join lateral (
      select b.visible_at
      from retention.batch b
      where b.bucket = k.bucket
        and b.settled_at is null
      order by b.visible_at
      limit 1
    ) f
  )
  select s.enabled,
    a.scheduler,
    coalesce(n.visible_at <= clock_timestamp(), false),
    extract(epoch from n.visible_at - clock_timestamp())::double precision,
    h.more,
    extract(epoch from clock_timestamp() - h.ticked_at)::double precision,
    h.ticked_by,
    (select coalesce(max(c.scan_id), 0) from retention.scan c)
  from retention.setting s
  cross join retention.heartbeat h
  cross join retention.adapter a
  cross join next n
$$;

-- Counts rows of a tenant's live results up to a bound, so that a figure costs the same at any size.
create function retention.count_due(p_bound integer)
returns bigint
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set enable_seqscan = off
set jit = off
as $$
  select count(*)
  from (
    select
    from retention.tenants() t
    left join retention.progress g on g.tenant_key = t.tenant_key
    cross join lateral retention.look(
      t.tenant_id, g.completed_at, g.run_id, now() - retention.exactly(t.retain), p_bound
    ) r
    where r.due_at < now()
      and not r.held
      and not r.flagged
      and r.bucket is not null
      and r.key <> ''
    limit p_bound
  ) d
$$;

-- When the oldest result completed that is due and not yet flagged, and since when it has been due;
-- one index probe per tenant.
create function retention.oldest_due()
returns table (completed_at timestamptz, due_at timestamptz)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set enable_seqscan = off
set jit = off
as $$
  select min(o.completed_at), min(o.due_at)
  from retention.tenants() t
  left join retention.progress g on g.tenant_key = t.tenant_key
  cross join lateral (
    select r.completed_at, r.due_at
    from retention.look(
      t.tenant_id, g.completed_at, g.run_id, now() - retention.exactly(t.retain), 1000
    ) r
    where r.due_at < now()
      and not r.held
      and not r.flagged
      and r.bucket is not null
      and r.key <> ''
    limit 1
  ) o
$$;

-- The size of the partial index over live results, as the last vacuum or analyze saw it.
create function retention.estimate_live()
returns bigint
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  -- By way of the index: partitions that came later have indexes under names of Postgres's choice.
  select coalesce(sum(greatest(c.reltuples, 0)) filter (where c.relkind = 'i'), 0)::bigint
  from retention.adapter a
  join pg_index i on i.indrelid = a.table_name::regclass
  join pg_class x on x.oid = i.indexrelid
    and x.relname = 'retention_live'
  cross join lateral (
    select x.oid as relid
    union
    select p.relid
    from pg_partition_tree(x.oid) p
  ) t
  join pg_class c on c.oid = t.relid
$$;

/*
One row that says how things stand; cheap at any size. due counts what is past its policy and not yet
flagged plus what is flagged and waits; the part that is not flagged is counted up to 10,000 and
due_is_capped says when there are more.
*/
create view retention.status_now as
select s.enabled,
  retention.estimate_live() as live_estimate,
  q.due_unflagged + w.flagged as due,
  q.due_unflagged >= 10000 as due_is_capped,
  w.flagged,
  w.leased,
  w.failed,
  x.dead,
  y.held,
  z.cleared_today,
  z.spared_today,
  least(w.oldest, u.completed_at) as oldest_due,
  w.batches,
  k.buckets_paused,
  h.ticked_at as last_tick,
  h.passed_at as last_pass,
  a.scheduler,
  case
    when not s.enabled then 'disabled'
    when h.ticked_at is null then 'never ticked'
    when h.ticked_at < now() - interval '5 minutes' then 'silent'
    -- A listener stands in for it; its next tick would be its own again.
    when a.scheduler = 'pg_cron' and h.ticked_by = 'listener' then 'silent'
    else 'ok'
  end as scheduler_health,
  extract(epoch from s.loop_interval)::bigint as loop_interval_seconds,
  (extract(epoch from d.retain) / 86400)::double precision as default_retain_days,
  v.policies_pending,
  v.policy_pending,
  least(w.due_since, u.due_at) as due_since
from retention.setting s
cross join retention.heartbeat h
cross join retention.adapter a
join retention.policy d on d.tenant_id = '*'
cross join lateral (select retention.count_due(10000) as due_unflagged) q
cross join lateral (
  select coalesce(sum(b.results), 0)::bigint as flagged,
    coalesce(sum(b.results) filter (where b.lease is not null and b.visible_at > now()), 0)::bigint as leased,
    coalesce(sum(b.results) filter (where b.attempts > 0), 0)::bigint as failed,
    count(*) as batches,
    min(b.oldest) as oldest,
    min(b.due_since) as due_since
  from retention.batch b
  where b.settled_at is null
) w
cross join lateral (select count(*) as dead from retention.expired e where e.dead_at is not null) x
cross join lateral (
  select count(*) as held
  from retention.hold o
  where retention.hold_end(o.released_at, o.expires_at) > now()
) y
cross join lateral (
  select coalesce(sum(b.cleared), 0)::bigint as cleared_today,
    coalesce(sum(b.spared), 0)::bigint as spared_today
  from retention.batch b
  where b.settled_at >= date_trunc('day', now(), 'UTC')
) z
cross join lateral (
  select count(*) as buckets_paused
  from retention.bucket c
  where c.paused_until > now()
) k
cross join lateral (
  select count(*) as policies_pending,
    string_agg(
      format(
        'tenant %s: %s instead of %s would make %s results due at once',
        p.tenant_id, p.pending_retain, p.retain, p.pending_results
      ),
      '; '
    ) as policy_pending
  from retention.policy p
  where p.pending_retain is not null
) v
left join lateral (
  select o.completed_at, o.due_at
  from retention.oldest_due() o
  where q.due_unflagged > 0
) u on true;

-- For a statement this small, compiling it takes a hundred times longer than running it.
create function retention.read_status()
returns setof retention.status_now
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
  select * from retention.status_now
$$;

create view retention.status as
select * from retention.read_status();

-- What was flagged, cleared and refused over the last p_hours, in 48 equal parts, oldest first. Reads
-- the history of that time by its indexes: a row per pass and a row per batch, never results.
create function retention.activity(p_hours integer default 24)
returns table (
  begins_at timestamptz,
  flagged bigint,
  cleared bigint,
  failed bigint
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
as $$
  with span as (
    select now() - make_interval(hours => p_hours) as begins_at,
      make_interval(secs => p_hours * 3600 / 48.0) as width
  ),
  part as (
    select n, s.begins_at + n * s.width as begins_at
    from span s
    cross join generate_series(0, 47) n
  ),
  scan as (
    select least(floor(extract(epoch from c.started_at - s.begins_at) / extract(epoch from s.width)), 47) as n,
      sum(c.flagged) as flagged
    from span s
    join retention.scan c on c.started_at >= s.begins_at
    group by 1
  ),
  batch as (
    select least(floor(extract(epoch from b.settled_at - s.begins_at) / extract(epoch from s.width)), 47) as n,
      sum(b.cleared) as cleared,
      sum(b.failed + b.dead) as failed
    from span s
    join retention.batch b on b.settled_at >= s.begins_at
    group by 1
  )
  select p.begins_at,
    coalesce(c.flagged, 0)::bigint,
    coalesce(b.cleared, 0)::bigint,
    coalesce(b.failed, 0)::bigint
  from part p
  left join scan c on c.n = p.n
  left join batch b on b.n = p.n
  order by p.n
$$;

-- The p_tenants tenants whose oldest result past its policy has waited longest, flagged or not, with
-- how many wait, counted among the p_bound oldest each; is_capped says that there may be more. One
-- index probe per tenant, and at most p_bound rows for each of those that are returned. A tenant under
-- a hold is left out.
create function retention.tenants_due(p_tenants integer default 20, p_bound integer default 1000)
returns table (
  tenant_id text,
  retain_days double precision,
  oldest timestamptz,
  due_since timestamptz,
  due bigint,
  flagged bigint,
  is_capped boolean
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set enable_seqscan = off
set jit = off
as $$
  select t.tenant_id::text,
    (extract(epoch from t.retain) / 86400)::double precision,
    min(r.completed_at),
    min(r.due_at),
    count(*),
    count(*) filter (where r.flagged),
    min(r.looked_at) >= p_bound
  from (
    select t.*, f.due_at
    from retention.tenants() t
    cross join lateral (
      select r.due_at
      from retention.look(t.tenant_id, null, null, now() - retention.exactly(t.retain), 1) r
    ) f
    order by f.due_at, t.tenant_key
    limit p_tenants
  ) t
  cross join lateral (
    select r.completed_at, r.due_at, r.flagged, r.held, count(*) over () as looked_at
    from retention.look(t.tenant_id, null, null, now() - retention.exactly(t.retain), p_bound) r
  ) r
  where r.due_at < now()
    and not r.held
  group by t.tenant_id, t.tenant_key, t.retain
  order by min(r.due_at), t.tenant_key
$$;

-- Down Migration

drop function retention.tenants_due(integer, integer), retention.activity(integer);
drop view retention.status;
drop function retention.read_status();
drop view retention.status_now;
drop function retention.estimate_live(), retention.oldest_due(), retention.count_due(integer), retention.pulse();
