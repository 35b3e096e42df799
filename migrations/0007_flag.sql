-- Up Migration

/*
Flagging: what is due is written down as work, oldest first.

A pass goes on from where each tenant's last one stopped (retention.progress), so that it costs what
is newly due plus one index probe per tenant, whatever the size of the table or of the backlog. What
turns up behind that point (a late commit, a released hold, a spared result) is found by passes that
start from the oldest again: every pass while little lies behind, and one per sweep_interval always.
*/

-- The results of one tenant past a cutoff, oldest first, with what the rules make of each.
-- p_after_*: where to go on from (null: from the oldest). Reads at most p_limit rows of one index
-- range. Without settings of its own, so that it becomes a part of the statement that names it:
-- whoever does takes care that no plan that sorts or reads the table looks cheaper.
create function retention.past(
  p_tenant_id retention.tenant_id,
  p_after_completed_at timestamptz,
  p_after_run_id retention.run_id,
  p_before timestamptz,
  p_limit bigint
)
returns table (
  run_id retention.run_id,
  bucket text,
  key text,
  completed_at timestamptz,
  retain_until timestamptz,
  due_at timestamptz,
  held boolean
)
language sql
stable
rows 1000
-- A comparison of rows with a null at its end is still decided by its first pair, and still a range
-- of the index.
begin atomic
  (
    select r.run_id::retention.run_id,
      r.bucket::text,
      r.key::text,
      r.completed_at,
      r.retain_until::timestamptz,
      r.due_at,
      r.held
    from retention.live r
    where r.tenant_id = p_tenant_id
      and r.status = 'COMPLETED'
      and r.has_key
      and r.completed_at < p_before
      and (r.completed_at, r.run_id) > (coalesce(p_after_completed_at, '-infinity'), p_after_run_id)
    order by r.tenant_id, r.completed_at, r.run_id
    limit p_limit
  )
  union all
  (
    select r.run_id::retention.run_id,
      r.bucket::text,
      r.key::text,
      r.completed_at,
      r.retain_until::timestamptz,
      r.due_at,
      r.held
    from retention.live r
    where p_tenant_id is null
      and r.tenant_id is null
      and r.status = 'COMPLETED'
      and r.has_key
      and r.completed_at < p_before
      and (r.completed_at, r.run_id) > (coalesce(p_after_completed_at, '-infinity'), p_after_run_id)
    order by r.tenant_id, r.completed_at, r.run_id
    limit p_limit
  );
end;

-- The same for callers that have no such care, and whether each is flagged. Called by functions only.
create function retention.look(
  p_tenant_id retention.tenant_id,
  p_after_completed_at timestamptz,
  p_after_run_id retention.run_id,
  p_before timestamptz,
  p_limit bigint
)
returns table (
  run_id retention.run_id,
  bucket text,
  key text,
  completed_at timestamptz,
  retain_until timestamptz,
  due_at timestamptz,
  held boolean,
  flagged boolean
)
language plpgsql
stable
rows 1000
-- One range of one index, in its order, and nothing else: whatever the statistics say, a plan that
-- reads the table or sorts what it finds would cost the table and not what is due.
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
  select r.run_id,
    r.bucket,
    r.key,
    r.completed_at,
    r.retain_until,
    r.due_at,
    r.held,
    coalesce(f.flagged, false)
  from retention.past(p_tenant_id, p_after_completed_at, p_after_run_id, p_before, p_limit) r
  left join lateral (
    select true as flagged
    from retention.expired e
    where e.run_id = r.run_id
    limit 1
  ) f on true;
end
$$;

-- The tenants that have results not yet cleared, with the policy in force for each: one index probe
-- per tenant. A tenant under a hold is left out.
create function retention.tenants()
returns table (tenant_id retention.tenant_id, tenant_key text, retain interval)
language sql
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
  with recursive name(tenant_id) as (
    (
      select r.tenant_id
      from retention.result r
      where r.cleared_at is null
        and r.status = 'COMPLETED'
        and r.key is not null
        and r.tenant_id is not null
      order by r.tenant_id
      limit 1
    )
    union all
    select (
      select r.tenant_id
      from retention.result r
      where r.cleared_at is null
        and r.status = 'COMPLETED'
        and r.key is not null
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
      from retention.result r
      where r.cleared_at is null
        and r.status = 'COMPLETED'
        and r.key is not null
        and r.tenant_id is null
    )
  )
  select n.tenant_id::retention.tenant_id,
    retention.tenant_key(n.tenant_id::text),
    coalesce(p.retain, d.retain)
  from named n
  join retention.policy d on d.tenant_id = '*'
  left join retention.policy p on p.tenant_id = n.tenant_id::text
    and p.tenant_id <> '*'
  where not exists (
    select
    from retention.hold h
    where h.tenant_id = n.tenant_id::text
      and retention.hold_end(h.released_at, h.expires_at) > now()
  )
$$;

-- Starts retention.expired anew when next to nothing is left of what has passed through it, so that it
-- is as large as its backlog ever was, and not as all that went through between two looks of
-- autovacuum. What is left (failed results, dead ones) is carried over. Called by flag_expired, before
-- it writes. Locks the table for the rest of that pass, when nobody works on a batch; gives up at once
-- where somebody holds it, as a long transaction that has read it does.
create function retention.reclaim(p_setting retention.setting)
returns boolean
language plpgsql
set lock_timeout = '200ms'
as $$
declare
  v_kept retention.expired[];
begin
  if pg_table_size('retention.expired') <= p_setting.reclaim_over then
    return false;
  end if;
  lock table retention.expired in access exclusive mode;
  -- A claim locks the table before it looks at its results, so from here on none begins; a settle
  -- wants a lease that was there before.
  if exists (select from retention.batch b where b.lease is not null) then
    -- Rolls the lock back.
    raise lock_not_available;
  end if;
  v_kept := array(
    select e
    from retention.batch b
    join retention.expired e on e.batch_id = b.batch_id
    where b.settled_at is null
    union all
    select e
    from retention.expired e
    where e.dead_at is not null
  );
  truncate retention.expired;
  insert into retention.expired
  select k.*
  from unnest(v_kept) k;
  return true;
exception
  when lock_not_available then
    return false;
end
$$;

-- Flags what is due, oldest first, in batches of one bucket each; returns how many results. Works in
-- parts of 10,000 or so, which take less time together than one that keeps and sorts it all at once.
-- p_max_rows: at most so many results are looked at (default: setting.flag_limit).
-- p_whole: start from the oldest result whatever the progress says.
-- One pass at a time: while another runs, returns 0 at once. Locks the heartbeat row and nothing of
-- the application's. Does nothing when the setting is disabled or the backlog is over its limit.
create function retention.flag_expired(
  p_max_rows integer default null,
  p_asked_by text default null,
  p_whole boolean default false
)
returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
-- As look: the application's table is read in the order of one index. What was found there is
-- sorted once and joined by hash, since there is no other way.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_mergejoin = off
set jit = off
-- A pass of tens of thousands of results is sorted in memory.
set work_mem = '64MB'
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
  select * into strict v_setting from retention.setting;
  if not v_setting.enabled then
    return 0;
  end if;
  select * into v_beat from retention.heartbeat for update skip locked;
  if not found then
    return 0;
  end if;

  select coalesce(sum(b.results), 0)
  into v_backlog
  from retention.batch b
  where b.settled_at is null;
  v_left := least(coalesce(p_max_rows, v_setting.flag_limit), v_setting.backlog_limit - v_backlog);
  if v_left <= 0 then
    -- As if there had been no pass: the next tick looks again, whatever the interval.
    update retention.heartbeat set passed_at = null, more = false;
    return 0;
  end if;

  select count(*)
  into v_dead
  from (
    select
    from retention.expired e
    where e.dead_at is not null
    limit v_setting.small_backlog + 1
  ) d;
  if v_backlog + v_dead <= v_setting.small_backlog then
    perform retention.reclaim(v_setting);
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
    with tenant as materialized (
      select t.tenant_id,
        t.tenant_key,
        now() - retention.exactly(t.retain) as before,
        g.completed_at as after_completed_at,
        g.run_id as after_run_id
      from retention.tenants() t
      left join retention.progress g on g.tenant_key = t.tenant_key
    ),
    -- Tenants with more to look at share a part evenly, and the oldest results get what is over; who has
    -- more to give goes on in the next part, among fewer.
    sharing as materialized (
      select t.*,
        v_part_rows / count(*) over ()
          + (row_number() over (order by r.completed_at, r.run_id) <= v_part_rows % count(*) over ())::integer as share
      from tenant t
      cross join lateral retention.past(t.tenant_id, t.after_completed_at, t.after_run_id, t.before, 1) r
    ),
    -- What has a fixed width first, here and below: what comes behind a text has to be looked for in each
    -- row whenever it is compared.
    seen as materialized (
      select r.run_id,
        r.completed_at,
        r.due_at,
        r.due_at < now() and not r.held as is_due,
        r.bucket is not null and r.key <> '' as has_place,
        r.bucket,
        r.key,
        t.tenant_key
      from sharing t
      cross join lateral retention.past(
        t.tenant_id, t.after_completed_at, t.after_run_id, t.before, t.share
      ) r
    ),
    -- In the order of its bucket, each batch_size-th result begins a batch, and those up to the next
    -- belong to it. In the statement itself: a list of its own, or a second window, would keep all once more.
    -- Written in the order of the primary key, and what is flagged already is looked for just before:
    -- ids are random, and in any other order each would have to fetch its own page of that index, twice.
    flagged as (
      insert into retention.expired (run_id, batch_id, bucket, key, completed_at, due_at)
      select p.run_id, p.batch_id, p.bucket, p.key, p.completed_at, p.due_at
      from (
        select n.*
        from (
          select s.run_id,
            s.completed_at,
            s.due_at,
            s.bucket,
            s.key,
            case
              when (
                row_number() over (partition by s.bucket collate "C" order by s.completed_at, s.run_id) - 1
              ) % v_setting.batch_size = 0
              then nextval('retention.batch_batch_id_seq')
              else currval('retention.batch_batch_id_seq')
            end as batch_id
          from seen s
          where s.is_due
            and s.has_place
        ) n
        order by n.run_id
      ) p
      left join lateral (
        select true as is_flagged
        from retention.expired e
        where e.run_id = p.run_id
        limit 1
      ) f on true
      where f.is_flagged is null
      returning batch_id, bucket, completed_at, due_at
    ),
    made as (
      insert into retention.batch (batch_id, bucket, results, oldest, due_since)
      select f.batch_id, f.bucket, count(*), min(f.completed_at), min(f.due_at)
      from flagged f
      group by f.batch_id, f.bucket
      returning bucket, results, oldest
    ),
    known as (
      insert into retention.bucket (bucket)
      select distinct m.bucket
      from made m
      where not exists (select from retention.bucket k where k.bucket = m.bucket)
      on conflict do nothing
    ),
    given as materialized (
      select s.tenant_key,
        count(*) as results,
        max(s.completed_at) as completed_at
      from seen s
      group by s.tenant_key
    ),
    moved as (
      insert into retention.progress (tenant_key, completed_at, run_id)
      select distinct on (s.tenant_key) s.tenant_key, s.completed_at, s.run_id
      from seen s
      join given g on g.tenant_key = s.tenant_key
        and g.completed_at = s.completed_at
      order by s.tenant_key, s.run_id desc
      on conflict (tenant_key) do update
      set completed_at = excluded.completed_at,
        run_id = excluded.run_id
    )
    select coalesce(m.flagged, 0) as flagged,
      m.batches,
      m.oldest,
      n.*,
      exists (
        select
        from given g
        join sharing t on t.tenant_key = g.tenant_key
        where g.results >= t.share
      ) as more,
      (select count(*) from tenant) as tenants
    into v_part
    from (
      select sum(results) as flagged, count(*) as batches, min(oldest) as oldest
      from made
    ) m
    cross join (
      select count(*) as looked_at,
        count(*) filter (
          where case
            when s.is_due and s.has_place then false
            else (select true from retention.expired e where e.run_id = s.run_id limit 1) is null
          end
        ) as left_alone,
        count(*) filter (where s.is_due and not s.has_place) as without_place,
        coalesce(
          (array_agg(s.run_id::text order by s.completed_at) filter (where s.is_due and not s.has_place))[1:10],
          '{}'
        ) as without_place_run_ids
      from seen s
    ) n;

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

-- Removes what no longer serves: history past its time, work on rows that are no longer live, and
-- the run history of our own pg_cron job, which pg_cron itself never prunes.
create function retention.keep_house()
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_kept interval := (select history_kept from retention.setting);
begin
  delete from retention.batch where settled_at < now() - v_kept;
  delete from retention.scan where started_at < now() - v_kept;
  delete from retention.unanswered where until < now();
  -- A dead result whose run went on (another key, cleared by hand, deleted) is nobody's any more.
  delete from retention.expired e
  where e.dead_at is not null
    and not exists (
      select
      from retention.live r
      where r.run_id = e.run_id
        and r.key = e.key
        and r.bucket = e.bucket
    );
  if to_regclass('cron.job_run_details') is not null then
    begin
      execute $cron$
        delete from cron.job_run_details
        where jobid in (select jobid from cron.job where jobname = 'retention-tick' or jobname like 'retention-tick:%')
          and end_time < now() - interval '1 day'
      $cron$;
    exception
      when insufficient_privilege then
        null;
    end;
  end if;
  update retention.heartbeat set kept_house_at = clock_timestamp();
end
$$;

-- What the scheduler calls every minute: notes that it is alive, and flags when the interval has
-- passed or the last pass hit a limit. Returns how many results it flagged.
create function retention.tick(p_by text default 'pg_cron')
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
  update retention.heartbeat
  set ticked_at = clock_timestamp(),
    ticked_by = p_by
  returning * into strict v_beat;
  if v_beat.kept_house_at is null or v_beat.kept_house_at < now() - interval '1 hour' then
    perform retention.keep_house();
  end if;
  select * into strict v_setting from retention.setting;
  if v_beat.more
    or v_beat.passed_at is null
    or v_beat.passed_at <= now() - retention.exactly(v_setting.loop_interval)
  then
    return retention.flag_expired(p_asked_by => p_by);
  end if;
  return 0;
end
$$;

-- Down Migration

drop function retention.tick(text), retention.keep_house(),
  retention.flag_expired(integer, text, boolean), retention.reclaim(retention.setting),
  retention.tenants(),
  retention.look(retention.tenant_id, timestamptz, retention.run_id, timestamptz, bigint),
  retention.past(retention.tenant_id, timestamptz, retention.run_id, timestamptz, bigint);
