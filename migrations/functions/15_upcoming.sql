/*
Upcoming: what goes when. It reads what falls due in the days asked for and what is past its policy already, tenant by
tenant in the order of one index, as a whole pass does, and what is flagged.
*/

-- When nothing keeps a result any more: its due date, or when the last hold on it or its tenant has let it go.
create or replace function retention._free_at(p_run_id retention.run_id, p_tenant_id text, p_due_at timestamptz)
returns timestamptz
language sql
stable
as $$
  select greatest(
    p_due_at,
    (
      select max(retention._hold_end(h.released_at, h.expires_at))
      from retention.hold h
      where h.run_id = p_run_id
    ),
    (
      select max(retention._hold_end(h.released_at, h.expires_at))
        + (select s.release_spread from retention.setting s) * retention._place_in_line(p_run_id::text)
      from retention.hold h
      where h.tenant_id = p_tenant_id
    )
  )
$$;

-- What is flagged already, by the moment when it may be claimed, and what is set aside. p_tenant_id: of this tenant only;
-- null: of all.
create or replace function retention._upcoming_flagged(p_tenant_id text)
returns table (at timestamptz, state text, tenant_id text, bucket text, results bigint)
language sql
stable
as $$
  select case
      when b.dead_at is not null then null
      when b.lease is not null then now()
      else greatest(b.visible_at, now())
    end,
    case when b.dead_at is not null then 'dead' else 'flagged' end,
    u.tenant_id,
    b.bucket,
    count(*)
  from retention.batch b
  cross join unnest(b.tenants) as u (tenant_id)
  where b.settled_at is null
    and (p_tenant_id is null or u.tenant_id = p_tenant_id)
  group by b.batch_id, u.tenant_id
  union all
  select null, 'set aside', u.tenant_id, p.bucket, count(*)
  from retention.surge_part p
  cross join unnest(p.tenants) as u (tenant_id)
  where p_tenant_id is null or u.tenant_id = p_tenant_id
  group by u.tenant_id, p.bucket
$$;

-- What _upcoming_unflagged returns, tenant by tenant in the order of an index, and each object looked up by itself: for
-- few results. p_tenant_keys: of these tenants only (null: of all).
create or replace function retention._upcoming_by_tenant(p_tenant_keys text[], p_end timestamptz)
returns table (at timestamptz, state text, tenant_id text, bucket text, results bigint)
language plpgsql
stable
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_hashjoin = off
set enable_mergejoin = off
set max_parallel_workers_per_gather = 0
set jit = off
set work_mem = '128MB'
as $$
#variable_conflict use_column
declare
  v_setting retention.setting;
  v_cool_off interval;
  v_holds boolean := exists (select from retention.hold);
begin
  select * into strict v_setting from retention.setting;
  v_cool_off := coalesce(v_setting.cool_off, '0');
  return query
  with tenant as materialized (
    select n.tenant_id, p_end - v_cool_off - retention._in_seconds(coalesce(p.retain, d.retain)) as before
    from retention._tenant_ids() as n (tenant_id)
    join retention.policy d on d.tenant_id = '*'
    left join retention.policy p on p.tenant_id = n.tenant_id::text
      and p.tenant_id <> '*'
    where p_tenant_keys is null
      or retention._tenant_key(n.tenant_id::text) = any (p_tenant_keys)
  ),
  seen as materialized (
    select r.run_id, r.tenant_id, r.bucket, r.key, r.completed_at, r.due_at
    from tenant t
    cross join lateral retention._past(t.tenant_id, null, null, t.before, null) r
    where r.has_place
      and r.run_id is not null
      and r.due_at < p_end - v_cool_off
  ),
  freed as materialized (
    select s.*, case when v_holds then retention._free_at(s.run_id, s.tenant_id, s.due_at) else s.due_at end as free_at
    from seen s
    where s.run_id not in (
      select f.run_id
      from retention._known_between(
        (select min(x.completed_at) from seen x), (select max(x.completed_at) from seen x)
      ) as f (run_id)
    )
  ),
  -- An object goes when the last of the runs that point at it is free.
  shared as materialized (
    select f.*,
      case
        when v_setting.check_shared_objects then (
          select greatest(
            -- Another run that is set aside keeps it until the release.
            case
              when count(*) > 0
                and (select exists (select from retention.surge_part))
                and retention._is_set_aside_object(f.bucket, f.key)
              then timestamptz 'infinity'
            end,
            max(
              case
                when o.due_at is null then 'infinity'
                when v_holds then retention._free_at(o.run_id::retention.run_id, o.tenant_id::text, o.due_at)
                else o.due_at
              end
            )
          )
          from retention._live o
          where o.key_hash = retention._key_hash(f.key)
            and o.key = f.key collate "C"
            and o.bucket = f.bucket
            and o.run_id <> f.run_id
        )
      end as sharers_free_at,
      case
        when (select exists (select from retention.spared_object)) then retention._is_spared_for_now(f.bucket, f.key)
      end as is_spared
    from freed f
  ),
  judged as (
    select case
        when s.is_spared is not true and greatest(s.free_at, s.sharers_free_at) + v_cool_off < p_end
        then greatest(s.free_at, s.sharers_free_at, now()) + v_cool_off
      end as at,
      case
        when s.is_spared then 'spared'
        when greatest(s.free_at, s.sharers_free_at) < now() then 'due'
        when greatest(s.free_at, s.sharers_free_at) + v_cool_off < p_end then 'upcoming'
        when s.free_at + v_cool_off >= p_end then 'held'
        else 'shared'
      end as state,
      s.tenant_id,
      s.bucket
    from shared s
  )
  select j.at, j.state, j.tenant_id, j.bucket, count(*)
  from judged j
  group by j.at, j.state, j.tenant_id, j.bucket;
end
$$;

-- What goes when, by day, tenant and bucket: today and the p_days days after it, by UTC. day: when it may go at the
-- earliest, by the rules as they are now and with the cool-off. state: flagged (it waits in a batch), due (the
-- next pass takes it), upcoming (it falls due on that day, or a hold on it ends then); and without a day: held (a
-- hold keeps it beyond these days), shared (another run needs its object), spared (a keeper has its object, or S3 holds another version of it), set aside
-- (it waits for the release of a surge), dead (it waits for retention.retry).
-- Results without a bucket or key are left out. p_tenant_id: of this tenant only. A tenant of which a row cannot be read is
-- left out with a warning that names it. Changes nothing.
-- For observers.
-- Raises invalid_parameter_value for less than 0 and more than 366 days, and for what cannot be a tenant id.
create or replace function retention.upcoming(p_days integer default 7, p_tenant_id text default null)
returns table (day date, state text, tenant_id text, bucket text, results bigint)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
as $$
#variable_conflict use_column
declare
  v_end timestamptz;
  v_tenant_id text;
begin
  if p_days is null or p_days not between 0 and 366 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected 0 to 366 days, given: %s', coalesce(p_days::text, 'null'));
  end if;
  if p_tenant_id = '' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'expected a tenant id, or null for all tenants, given: an empty text';
  end if;
  v_tenant_id := retention._read_tenant_id(p_tenant_id)::text;
  v_end := date_trunc('day', now()) + make_interval(days => p_days + 1);
  return query
  select f.at::date, f.state, f.tenant_id, f.bucket, sum(f.results)::bigint
  from (
    select w.* from retention._upcoming_flagged(v_tenant_id) w where w.at is null or w.at < v_end
    union all
    select u.* from retention._upcoming_unflagged(v_tenant_id, v_end) u
  ) f
  group by f.at::date, f.state, f.tenant_id, f.bucket
  order by f.at::date nulls last, f.state, f.tenant_id, f.bucket;
end
$$;
