/*
Holds: what must not be deleted.
*/

-- What of a run or of a tenant S3 may be deleting, and until when at most: what is leased, also for
-- setting.unanswered_for after the lease has run out, for its holder may have asked S3; and what S3 was
-- asked for and did not answer. Where runs may share an object, also by a request for another run, whatever
-- has become of that one. Called by place_hold, under its lock: it costs what is leased and what is
-- unanswered, and a cleared run is found by its run id.
create or replace function retention._in_flight(p_run_id retention.run_id, p_tenant_id retention.tenant_id)
returns table (run_id retention.run_id, until timestamptz)
language plpgsql
stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_setting retention.setting;
  v_bucket text;
  v_key text;
begin
  select * into strict v_setting from retention.setting;
  if p_run_id is not null then
    if v_setting.check_shared_objects then
      select coalesce(nullif(r.bucket, ''), v_setting.default_bucket), r.key
      into v_bucket, v_key
      from retention.result r
      where r.run_id = p_run_id;
    end if;
    return query
    select p_run_id, max(f.until)
    from (
      select b.bucket, b.run_ids, b.keys, b.visible_at + v_setting.unanswered_for as until
      from retention.batch b
      where b.lease is not null
      union all
      select u.bucket, u.run_ids, u.keys, u.until
      from retention.unanswered u
    ) f
    where f.until > clock_timestamp()
      and (
        p_run_id = any (f.run_ids)
        or f.bucket = v_bucket and exists (
          select
          from unnest(f.run_ids, f.keys) as e (run_id, key)
          where retention._unpack_key(e.key, e.run_id::text) = v_key collate "C"
        )
      )
    having count(*) > 0;
  else
    return query
    with asked as materialized (
      select a.bucket, e.run_id, retention._unpack_key(e.key, e.run_id::text) as key, a.until
      from (
        select b.bucket, b.run_ids, b.keys, b.visible_at + v_setting.unanswered_for as until
        from retention.batch b
        where b.lease is not null
        union all
        select u.bucket, u.run_ids, u.keys, u.until
        from retention.unanswered u
      ) a
      cross join unnest(a.run_ids, a.keys) as e (run_id, key)
      where a.until > clock_timestamp()
    )
    select f.run_id, max(f.until)
    from (
      select a.run_id, a.until
      from asked a
      join retention.result r on r.run_id = a.run_id
      where r.tenant_id = p_tenant_id
      union all
      select r.run_id::retention.run_id, a.until
      from asked a
      join retention._live r on r.key = a.key collate "C"
        and r.bucket = a.bucket
      where v_setting.check_shared_objects
        and r.tenant_id = p_tenant_id
    ) f
    group by f.run_id;
  end if;
end
$$;

-- Places a hold on one run or on one tenant. After its commit nothing of it is claimed. A deletion that is in
-- flight, or may be, cannot be called back: too_late counts such results, and too_late_run_ids names up to
-- 1,000 of them. p_for: how long the hold lasts; by default until it is released. p_placed_by: who places it;
-- by default the session's user.
-- For operators.
-- Locks retention.hold: it waits for claims that are being made, and later claims wait for this transaction.
-- Keep that transaction short.
-- Raises invalid_parameter_value without a reason, without exactly one of a run and a tenant, and for a
-- duration that is not above zero. Raises no_data_found for a run or tenant that is not there. Raises
-- active_sql_transaction outside READ COMMITTED.
create or replace function retention.place_hold(
  p_reason text,
  p_run_id text default null,
  p_tenant_id text default null,
  p_for interval default null,
  p_placed_by text default null
)
returns table (hold_id bigint, too_late bigint, too_late_run_ids text[])
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  v_run_id retention.run_id;
  v_tenant_id retention.tenant_id;
  v_hold_id bigint;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      errcode = 'active_sql_transaction',
      message = format('place_hold needs a READ COMMITTED transaction, given: %s', current_setting('transaction_isolation'));
  end if;
  if num_nonnulls(p_run_id, p_tenant_id) <> 1 or btrim(coalesce(p_reason, '')) = '' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'a hold needs a reason, and either a run or a tenant';
  end if;
  if p_for <= '0' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('a hold lasts longer than no time at all, given: %s', p_for);
  end if;
  if p_run_id is not null then
    v_run_id := retention._read_run_id(p_run_id);
    if not exists (select from retention.result r where r.run_id = v_run_id) then
      raise exception using
        errcode = 'no_data_found',
        message = format('there is no run %s to hold', p_run_id);
    end if;
  else
    begin
      v_tenant_id := p_tenant_id;
    exception
      when data_exception then
        v_tenant_id := null;
    end;
    -- The first is a probe of the index over what is live; the second may read the table.
    if not exists (
      select
      from retention._live r
      where r.tenant_id = v_tenant_id
        and r.is_candidate
    ) and not exists (
      select
      from retention.result r
      where r.tenant_id = v_tenant_id
    ) then
      raise exception using
        errcode = 'no_data_found',
        message = format('there is no run of tenant %s to hold', p_tenant_id);
    end if;
  end if;

  lock table retention.hold in exclusive mode;
  insert into retention.hold (run_id, tenant_id, reason, placed_by, expires_at)
  values (v_run_id, v_tenant_id::text, p_reason, coalesce(p_placed_by, session_user), now() + p_for)
  returning hold.hold_id into v_hold_id;

  return query
  select v_hold_id,
    count(*),
    coalesce((array_agg(f.run_id::text order by f.run_id))[1:1000], '{}')
  from retention._in_flight(v_run_id, v_tenant_id) f;
end
$$;

-- Releases a hold. The results of a tenant come back over setting.release_spread, and not all at once.
-- p_released_by: who releases it; by default the session's user. Returns false when it was released before.
-- For operators.
-- Locks the hold.
-- Raises no_data_found for a hold that is not there.
create or replace function retention.release_hold(p_hold_id bigint, p_released_by text default null)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update retention.hold h
  set released_at = now(),
    released_by = coalesce(p_released_by, session_user)
  where h.hold_id = p_hold_id
    and h.released_at is null;
  if found then
    return true;
  end if;
  if not exists (select from retention.hold h where h.hold_id = p_hold_id) then
    raise exception using
      errcode = 'no_data_found',
      message = format('there is no hold %s', p_hold_id);
  end if;
  return false;
end
$$;
