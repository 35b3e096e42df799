/*
The overview: what a page or a person looks at, in lists that are cut at a limit. They read the tables of this
schema only, never results, so they answer while the application's table is detached too. What is counted by
tenant stands in 15_outlook.
*/

-- What a scrape asks for beside retention.status: the database's clock, the first p_buckets buckets that pause,
-- and how much of the server's notification queue is used, from 0 to 1. Cheap at any size. For observers.
create or replace function retention.vitals(p_buckets integer default 50)
returns table (
  as_of timestamptz,
  paused_bucket_names text[],
  notify_queue_usage double precision,
  seals_unwritten bigint
)
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
  select clock_timestamp(),
    array(
      select k.bucket
      from retention.bucket k
      where k.paused_until > now()
      order by k.bucket
      limit p_buckets
    ),
    pg_notification_queue_usage(),
    (
      select max(greatest(h.seal_id - c.written_to, 0))
      from retention.seal_copy c
      cross join retention.seal_head h
      where c.looked_at > now() - interval '1 day'
    )
$$;

-- The buckets and their work: those that pause first, then those with the most to do. habits: what the store of a
-- bucket does differently, as known_buckets has it. Reads open batches, dead ones and those of the last 24 hours by
-- their indexes. For observers.
create or replace function retention.busy_buckets(p_limit integer default 20)
returns table (
  bucket text,
  versioning text,
  on_versioned text,
  flagged bigint,
  leased bigint,
  oldest timestamptz,
  cleared_24h bigint,
  dead bigint,
  paused_until timestamptz,
  pause_code text,
  pause_error text,
  habits jsonb
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
  select k.bucket,
    k.versioning,
    k.on_versioned,
    coalesce(w.flagged, 0),
    coalesce(w.leased, 0),
    w.oldest,
    coalesce(c.cleared, 0),
    coalesce(w.dead, 0),
    case when k.paused_until > now() then k.paused_until end,
    case when k.paused_until > now() then k.pause_code end,
    case when k.paused_until > now() then k.pause_error end,
    retention._habits_of(k)
  from retention.bucket k
  left join (
    select b.bucket,
      (sum(b.results) filter (where b.dead_at is null))::bigint as flagged,
      (sum(b.results) filter (where b.lease is not null and b.visible_at > now()))::bigint as leased,
      min(b.oldest) filter (where b.dead_at is null and b.kind is null) as oldest,
      (sum(b.results) filter (where b.dead_at is not null))::bigint as dead
    from retention.batch b
    where b.settled_at is null
    group by b.bucket
  ) w on w.bucket = k.bucket
  left join (
    select b.bucket, sum(b.cleared)::bigint as cleared
    from retention.batch b
    where b.settled_at >= now() - interval '24 hours'
    group by b.bucket
  ) c on c.bucket = k.bucket
  order by k.paused_until > now() desc nulls last, w.flagged desc nulls last, c.cleared desc nulls last, k.bucket
  limit p_limit
$$;

-- Failed and dead results by bucket and code, dead ones first and then by how many. run_id and error are those
-- of the batch that failed last; next_attempt_at is null for dead ones, which wait for a person. Reads what has
-- failed by its index. For observers.
create or replace function retention.troubles(p_limit integer default 20)
returns table (
  state text,
  bucket text,
  code text,
  results bigint,
  run_id text,
  error text,
  last_at timestamptz,
  next_attempt_at timestamptz
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
  select t.state,
    t.bucket,
    t.code,
    t.results,
    l.run_ids[1]::text,
    l.error,
    l.failed_at,
    case when t.state = 'failed' then l.visible_at end
  from (
    select case when b.dead_at is null then 'failed' else 'dead' end as state,
      b.bucket,
      coalesce(b.code, 'unknown') as code,
      sum(b.results)::bigint as results,
      (array_agg(b.batch_id order by b.failed_at desc))[1] as last
    from retention.batch b
    where b.failed_at is not null
      and b.settled_at is null
    group by 1, 2, 3
    order by 1, 4 desc, 2, 3
    limit p_limit
  ) t
  join retention.batch l on l.batch_id = t.last
  order by t.state, t.results desc, t.bucket, t.code
$$;

-- Who works on batches at this moment, and on how many. Reads what is leased by its index. For observers.
create or replace function retention.working_listeners(p_limit integer default 20)
returns table (listener text, batches bigint, results bigint, leased_until timestamptz)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
  select coalesce(b.leased_by, 'unknown') as listener,
    count(*),
    sum(b.results)::bigint,
    max(b.visible_at)
  from retention.batch b
  where b.lease is not null
    and b.visible_at > now()
  group by 1
  order by 1
  limit p_limit
$$;

-- The holds in force, the newest first. For observers.
create or replace function retention.active_holds(p_limit integer default 20)
returns table (
  hold_id bigint,
  run_id text,
  tenant_id text,
  reason text,
  placed_by text,
  placed_at timestamptz,
  expires_at timestamptz
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select h.hold_id, h.run_id::text, h.tenant_id, h.reason, h.placed_by, h.placed_at, h.expires_at
  from retention.hold h
  where retention._hold_end(h.released_at, h.expires_at) > now()
  order by h.hold_id desc
  limit p_limit
$$;

-- The policies that wait for a confirmation, the longest waiting first. For observers.
create or replace function retention.pending_policies(p_limit integer default 20)
returns table (
  tenant_id text,
  retain_days double precision,
  pending_retain_days double precision,
  pending_results bigint,
  pending_at timestamptz,
  pending_by text
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select p.tenant_id,
    (extract(epoch from p.retain) / 86400)::double precision,
    (extract(epoch from p.pending_retain) / 86400)::double precision,
    p.pending_results,
    p.pending_at,
    p.pending_by
  from retention.policy p
  where p.pending_retain is not null
  order by p.pending_at, p.tenant_id
  limit p_limit
$$;

-- What was flagged, cleared and refused in the last p_hours, in 48 equal parts, oldest first. failed counts
-- refused results, dead ones too. It reads one row for each pass and each batch of that time, by index, and
-- no results.
-- For observers.
create or replace function retention.activity(p_hours integer default 24)
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
