/*
Flagging: what is due is written down as work, oldest first.

A pass goes on from where each tenant's last one stopped (retention.progress), so that it costs what
is newly due plus one index probe per tenant, whatever the size of the table or of the backlog. What
turns up behind that point (a late commit, a released hold, a spared result) is found by passes that
start from the oldest again: every pass while little lies behind, and one per sweep_interval always.

Whether a result is flagged already is looked up in the batches whose results completed in the same stretch
of time: as many as the stretch holds, whatever the backlog.
*/

-- The results of one tenant past a cutoff, oldest first, with what the rules make of each.
-- p_after_*: where to go on from (null: from the oldest). Reads at most p_limit rows of one index
-- range. A row without a run id could not be stamped and is not among them. Without settings of its own, so
-- that it becomes a part of the statement that names it: that statement takes care that no plan that sorts or
-- reads the table looks cheaper.
create or replace function retention._past(
  p_tenant_id retention.tenant_id,
  p_after_completed_at timestamptz,
  p_after_run_id retention.run_id,
  p_before timestamptz,
  p_limit bigint
)
returns table (
  run_id retention.run_id,
  tenant_id text,
  bucket text,
  key text,
  completed_at timestamptz,
  retain_until timestamptz,
  due_at timestamptz,
  held boolean,
  is_due boolean,
  has_place boolean
)
language sql
stable
rows 1000
as $$
  -- A comparison of rows with a null at its end is still decided by its first pair, and still a range
  -- of the index.
  (
    select r.run_id::retention.run_id,
      r.tenant_id::text,
      r.bucket::text,
      r.key::text,
      r.completed_at,
      r.retain_until::timestamptz,
      r.due_at,
      r.held,
      r.is_due,
      r.has_place
    from retention._live r
    where r.tenant_id = p_tenant_id
      and r.is_candidate
      and r.completed_at < p_before
      and r.run_id is not null
      and (r.completed_at, r.run_id) > (coalesce(p_after_completed_at, '-infinity'), p_after_run_id)
    order by r.tenant_id, r.completed_at, r.run_id
    limit p_limit
  )
  union all
  (
    select r.run_id::retention.run_id,
      r.tenant_id::text,
      r.bucket::text,
      r.key::text,
      r.completed_at,
      r.retain_until::timestamptz,
      r.due_at,
      r.held,
      r.is_due,
      r.has_place
    from retention._live r
    where p_tenant_id is null
      and r.tenant_id is null
      and r.is_candidate
      and r.completed_at < p_before
      and r.run_id is not null
      and (r.completed_at, r.run_id) > (coalesce(p_after_completed_at, '-infinity'), p_after_run_id)
    order by r.tenant_id, r.completed_at, r.run_id
    limit p_limit
  )
$$;

-- The tenants that have results not yet cleared, with the policy in force for each: one index probe
-- per tenant. A tenant under a hold is left out.
create or replace function retention._tenants()
returns table (tenant_id retention.tenant_id, tenant_key text, retain interval)
language plpgsql
stable
rows 100
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_hashjoin = off
set enable_mergejoin = off
set max_parallel_workers_per_gather = 0
set jit = off
as $$
#variable_conflict use_column
begin
  return query
  with recursive name(tenant_id) as (
    (
      select r.tenant_id
      from retention._live r
      where r.is_candidate
        and r.tenant_id is not null
      order by r.tenant_id
      limit 1
    )
    union all
    select (
      select r.tenant_id
      from retention._live r
      where r.is_candidate
        and r.tenant_id > n.tenant_id
      order by r.tenant_id
      limit 1
    )
    from name n
    where n.tenant_id is not null
  ),
  named as (
    select n.tenant_id
    from name n
    where n.tenant_id is not null
    union all
    select null
    where exists (
      select
      from retention._live r
      where r.is_candidate
        and r.tenant_id is null
    )
  )
  select n.tenant_id::retention.tenant_id,
    retention._tenant_key(n.tenant_id::text),
    coalesce(p.retain, d.retain)
  from named n
  join retention.policy d on d.tenant_id = '*'
  left join retention.policy p on p.tenant_id = n.tenant_id::text
    and p.tenant_id <> '*'
  where not exists (
    select
    from retention.hold h
    where h.tenant_id = n.tenant_id::text
      and retention._hold_end(h.released_at, h.expires_at) > now()
  );
end
$$;

-- The flagged results that completed between two points in time (as they were flagged), dead ones too.
create or replace function retention._flagged_between(p_from timestamptz, p_to timestamptz)
returns setof retention.run_id
language sql
stable
rows 1000
as $$
  select unnest(b.run_ids)
  from retention.batch b
  where b.settled_at is null
    and b.oldest <= p_to
    and b.newest >= p_from
$$;

-- One part of a pass: looks at up to p_rows results and flags what is due of them, in batches of one bucket
-- each. more: there is more to look at. Called by flag_expired, under its settings.
-- In PL/pgSQL, which keeps the plan: a function in SQL is planned at each call, and that is a tenth of a part.
create or replace function retention._flag_part(p_rows bigint, p_batch_size integer)
returns table (
  flagged bigint,
  batches bigint,
  oldest timestamptz,
  looked_at bigint,
  left_alone bigint,
  without_place bigint,
  without_place_run_ids text[],
  more boolean,
  tenants bigint
)
language plpgsql
as $$
#variable_conflict use_column
begin
  return query
  with tenant as materialized (
    select t.tenant_id,
      t.tenant_key,
      now() - retention._in_seconds(t.retain) as before,
      g.completed_at as after_completed_at,
      g.run_id as after_run_id
    from retention._tenants() t
    left join retention.progress g on g.tenant_key = t.tenant_key
  ),
  -- Tenants with more to look at share a part evenly, and the oldest results get what is over; who has
  -- more to give goes on in the next part, among fewer.
  sharing as materialized (
    select t.*,
      row_number() over (order by r.completed_at, r.run_id)::integer as tenant,
      p_rows / count(*) over ()
        + (row_number() over (order by r.completed_at, r.run_id) <= p_rows % count(*) over ())::integer as share
    from tenant t
    cross join lateral retention._past(t.tenant_id, t.after_completed_at, t.after_run_id, t.before, 1) r
  ),
  -- Columns of a fixed width come first: behind a text each has to be looked for in the row.
  seen as materialized (
    select r.run_id,
      r.completed_at,
      r.due_at,
      t.tenant,
      r.is_due and r.has_place as may_go,
      r.is_due,
      r.bucket,
      r.key,
      r.tenant_id
    from sharing t
    cross join lateral retention._past(t.tenant_id, t.after_completed_at, t.after_run_id, t.before, t.share) r
  ),
  given as materialized (
    select s.tenant,
      count(*) as results,
      min(s.completed_at) as first_completed_at,
      max(s.completed_at) as completed_at
    from seen s
    group by s.tenant
  ),
  flagged as materialized (
    select retention._flagged_between(
      (select min(g.first_completed_at) from given g), (select max(g.completed_at) from given g)
    ) as run_id
  ),
  made as (
    insert into retention.batch (bucket, results, oldest, newest, due_since, run_ids, keys, tenants)
    select n.bucket,
      count(*),
      min(n.completed_at),
      max(n.completed_at),
      min(n.due_at),
      array_agg(n.run_id),
      array_agg(retention._pack_key(n.key, n.run_id::text)),
      array_agg(n.tenant_id)
    from (
      select s.run_id,
        s.completed_at,
        s.due_at,
        s.bucket,
        s.key,
        s.tenant_id,
        (
          row_number() over (partition by s.bucket collate "C" order by s.completed_at, s.run_id) - 1
        ) / p_batch_size as part
      from seen s
      where s.may_go
        and s.run_id not in (select f.run_id from flagged f)
    ) n
    group by n.bucket, n.part
    order by min(n.completed_at)
    returning bucket, results, oldest
  ),
  noted as (
    insert into retention.bucket (bucket)
    select distinct m.bucket
    from made m
    where not exists (select from retention.bucket k where k.bucket = m.bucket)
    on conflict do nothing
  ),
  moved as (
    insert into retention.progress (tenant_key, completed_at, run_id)
    select distinct on (t.tenant_key) t.tenant_key, s.completed_at, s.run_id
    from seen s
    join given g on g.tenant = s.tenant
      and g.completed_at = s.completed_at
    join sharing t on t.tenant = g.tenant
    order by t.tenant_key, s.run_id desc
    on conflict (tenant_key) do update
    set completed_at = excluded.completed_at,
      run_id = excluded.run_id
  )
  select coalesce(m.flagged, 0)::bigint,
    m.batches,
    m.oldest,
    n.looked_at,
    n.left_alone,
    n.without_place,
    n.without_place_run_ids,
    exists (
      select
      from given g
      join sharing t on t.tenant = g.tenant
      where g.results >= t.share
    ),
    (select count(*) from tenant)
  from (
    select sum(x.results) as flagged, count(*) as batches, min(x.oldest) as oldest
    from made x
  ) m
  cross join (
    select count(*) as looked_at,
      count(*) filter (
        where case when s.may_go then false else s.run_id not in (select f.run_id from flagged f) end
      ) as left_alone,
      count(*) filter (where s.is_due and not s.may_go) as without_place,
      coalesce(
        (array_agg(s.run_id::text order by s.completed_at) filter (where s.is_due and not s.may_go))[1:10],
        '{}'
      ) as without_place_run_ids
    from seen s
  ) n;
end
$$;

-- Writes down what is due as batches of one bucket each, oldest first. Returns how many results it flagged.
-- It works in parts of about 10,000 results. p_max_rows: how many results are looked at; by default
-- setting.flag_limit. p_asked_by: who is noted in retention.scan; by default the session's user. p_whole:
-- start from the oldest result and not from the progress. Returns 0 at once while another pass runs, when the
-- gate is closed, and when the backlog has reached its limit.
-- For the listener.
-- Locks the row of retention.heartbeat and nothing of the application's.
-- Raises invalid_parameter_value for p_max_rows below 1.
create or replace function retention.flag_expired(
  p_max_rows integer default null,
  p_asked_by text default null,
  p_whole boolean default false
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
as $$
declare
  v_started_at timestamptz := clock_timestamp();
  v_setting retention.setting;
  v_beat retention.heartbeat;
  v_backlog bigint;
  v_dead bigint;
  v_left bigint;
  v_by_time boolean;
  v_whole boolean;
  v_part_rows bigint := 10000;
  v_part record;
  v_pass retention.scan;
  v_left_alone bigint := 0;
begin
  if p_max_rows < 1 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('max_rows must be 1 or more, given: %s', p_max_rows);
  end if;
  if not retention._is_open() then
    return 0;
  end if;
  select * into strict v_setting from retention.setting;
  select * into v_beat from retention.heartbeat for update skip locked;
  if not found then
    return 0;
  end if;

  select coalesce(sum(b.results) filter (where b.dead_at is null), 0),
    coalesce(sum(b.results) filter (where b.dead_at is not null), 0)
  into v_backlog, v_dead
  from retention.batch b
  where b.settled_at is null;
  v_left := least(coalesce(p_max_rows, v_setting.flag_limit), v_setting.backlog_limit - v_backlog);
  if v_left <= 0 then
    -- As if there had been no pass: the next tick looks again, whatever the interval.
    update retention.heartbeat set passed_at = null, more = false;
    return 0;
  end if;

  v_by_time := v_beat.swept_at is null or v_beat.swept_at <= now() - v_setting.sweep_interval;
  -- Not while a walk is under way: what is left alone would be looked at for ever, and nothing behind.
  v_whole := p_whole
    or v_by_time
    or not v_beat.more and v_backlog + v_dead + v_beat.left_alone <= v_setting.small_backlog;
  if v_whole then
    delete from retention.progress;
  end if;

  v_pass.flagged := 0;
  v_pass.batches := 0;
  v_pass.looked_at := 0;
  v_pass.without_place := 0;
  v_pass.without_place_run_ids := '{}';
  loop
    v_part_rows := least(v_part_rows, v_left);
    select * into strict v_part from retention._flag_part(v_part_rows, v_setting.batch_size);
    v_pass.flagged := v_pass.flagged + v_part.flagged;
    v_pass.batches := v_pass.batches + v_part.batches;
    v_pass.oldest := least(v_pass.oldest, v_part.oldest);
    v_pass.looked_at := v_pass.looked_at + v_part.looked_at;
    v_pass.without_place := v_pass.without_place + v_part.without_place;
    v_pass.without_place_run_ids := (v_pass.without_place_run_ids || v_part.without_place_run_ids)[1:10];
    v_left_alone := v_left_alone + v_part.left_alone;
    v_left := v_left - v_part.looked_at;
    exit when not v_part.more or v_left <= 0;
    -- A part begins with a probe or two of each tenant: they are to stay few beside its rows.
    v_part_rows := greatest(v_part_rows, 10 * v_part.tenants);
  end loop;

  update retention.heartbeat
  set passed_at = clock_timestamp(),
    more = v_part.more,
    swept_at = case when v_whole then clock_timestamp() else swept_at end,
    left_alone = v_left_alone + case when v_whole then 0 else left_alone end;

  if v_pass.flagged > 0 or v_pass.without_place > 0 and (v_by_time or p_whole) then
    insert into retention.scan (
      started_at, ms, asked_by, looked_at, flagged, batches, without_place, without_place_run_ids, hit_limit, oldest
    )
    values (
      v_started_at,
      extract(epoch from clock_timestamp() - v_started_at) * 1000,
      coalesce(p_asked_by, session_user),
      v_pass.looked_at,
      v_pass.flagged,
      v_pass.batches,
      v_pass.without_place,
      v_pass.without_place_run_ids,
      v_part.more,
      v_pass.oldest
    );
  end if;
  return v_pass.flagged;
end
$$;
