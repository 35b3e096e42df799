/*
Holds: what must not be deleted.
*/

-- What of a run or of a tenant S3 may be deleting, and until when at most: what is leased, also for
-- setting.unanswered_for after the lease has run out, for its holder may have asked S3; and what S3 was
-- asked for and did not answer. Where runs may share an object, also by a request for another run, whatever
-- has become of that one. Orphans that are being deleted belong to no run and are found by their key. Called by place_hold, under its lock: it costs what is leased and what is
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
    select retention._bucket(r.bucket, v_setting.default_bucket), r.key
    into v_bucket, v_key
    from retention.result r
    where r.run_id = p_run_id;
    return query
    select p_run_id, max(f.until)
    from (
      select b.bucket, b.run_ids, b.keys, b.visible_at + v_setting.unanswered_for as until
      from retention.batch b
      where b.lease is not null
      union all
      -- What S3 has deleted, and only the stamp is missing.
      select b.bucket, b.run_ids, b.keys, clock_timestamp() + v_setting.unanswered_for
      from retention.batch b
      where b.deleted_at is not null
        and b.settled_at is null
      union all
      select u.bucket, u.run_ids, u.keys, u.until
      from retention.unanswered u
    ) f
    where f.until > clock_timestamp()
      and (
        p_run_id = any (f.run_ids)
        or f.bucket = v_bucket and (v_setting.check_shared_objects or f.run_ids is null) and exists (
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
        select b.bucket, b.run_ids, b.keys, clock_timestamp() + v_setting.unanswered_for
        from retention.batch b
        where b.deleted_at is not null
          and b.settled_at is null
        union all
        select u.bucket, u.run_ids, u.keys, u.until
        from retention.unanswered u
      ) a
      cross join unnest(a.run_ids, a.keys) as e (run_id, key)
      where a.until > clock_timestamp()
    )
    select f.run_id, max(f.until)
    from (
      -- The aggregate and the offset keep both a probe by run id and by key: of what comes out of arrays the
      -- planner knows nothing, and a join may compare everything with all results of the tenant.
      select a.run_id, a.until
      from asked a
      cross join lateral (
        select bool_or(r.tenant_id = p_tenant_id) as is_asked
        from retention.result r
        where r.run_id = a.run_id
      ) r
      where r.is_asked
      union all
      select r.run_id::retention.run_id, a.until
      from asked a
      cross join lateral (
        select r.run_id, r.tenant_id
        from retention._live r
        where r.key_hash = retention._key_hash(a.key)
          and r.key = a.key collate "C"
          and r.bucket = a.bucket
        offset 0
      ) r
      where (v_setting.check_shared_objects or a.run_id is null)
        and r.tenant_id = p_tenant_id
    ) f
    group by f.run_id;
  end if;
end
$$;

-- Locks retention.hold, and waits no longer than ten seconds for transactions that keep it locked: an idle one
-- that has called place_hold would keep everybody waiting. Raises lock_not_available that names them.
create or replace function retention._lock_holds(p_mode text)
returns void
language plpgsql
set lock_timeout = '10s'
as $$
begin
  execute format('lock table retention.hold in %s mode', p_mode);
exception
  when lock_not_available then
    raise exception using
      errcode = 'lock_not_available',
      message = format('another transaction keeps the holds locked: %s', coalesce(
        (
          select string_agg(
            coalesce(
              format('process %s (%s, %s)', l.pid, coalesce(nullif(a.application_name, ''), 'no name'),
                coalesce(a.state, 'state not shown')),
              'a prepared transaction'
            ),
            ', '
          )
          from pg_locks l
          left join pg_stat_activity a on a.pid = l.pid
          where l.relation = 'retention.hold'::regclass
            and l.database = (select d.oid from pg_database d where d.datname = current_database())
            and l.granted
            and l.mode in ('ExclusiveLock', 'RowExclusiveLock', 'RowShareLock', 'AccessExclusiveLock')
            and l.pid is distinct from pg_backend_pid()
        ),
        'it has ended meanwhile'
      )),
      hint = 'Try again when it has ended, or end it: select pg_terminate_backend(process).';
end
$$;

-- Places a hold on one run or on one tenant. After its commit nothing of it is claimed. It keeps the bucket and key of
-- what it finds, and covers these objects also when their rows have gone: objects counts them, and bucket and key say
-- which it is for a run (null: the run names none yet). A deletion that is in flight, or may be, cannot be called
-- back: too_late counts such results, and too_late_run_ids names up to 1,000 of them. p_for: how long the hold lasts; by default until it is released. p_placed_by: who places it;
-- by default the session's user.
-- For operators.
-- Reads all live results of the tenant before it locks.
-- Locks retention.hold: it waits for claims that are being made, and later claims wait for this transaction.
-- Keep that transaction short. Raises lock_not_available when another transaction keeps the lock for ten seconds.
-- Raises invalid_parameter_value without a reason, without exactly one of a run and a tenant, for what can be
-- neither, and for a duration that is not above zero. Raises no_data_found for a run or tenant that is not there. Raises
-- active_sql_transaction outside READ COMMITTED.
create or replace function retention.place_hold(
  p_reason text,
  p_run_id text default null,
  p_tenant_id text default null,
  p_for interval default null,
  p_placed_by text default null
)
returns table (
  hold_id bigint,
  too_late bigint,
  too_late_run_ids text[],
  bucket text,
  key text,
  objects bigint
)
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
  v_found record;
  v_due_before bigint;
  v_retain interval;
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
    v_tenant_id := retention._read_tenant_id(p_tenant_id);
    if not retention._has_runs(v_tenant_id) then
      raise exception using
        errcode = 'no_data_found',
        message = format('there is no run of tenant %s to hold', p_tenant_id);
    end if;
  end if;

  v_hold_id := nextval('retention.hold_hold_id_seq');
  -- Before the lock: a tenant may have many results, and claims wait for it.
  select * into strict v_found from retention._note_held_objects(v_hold_id, v_run_id, v_tenant_id);
  if p_tenant_id is not null then
    select c.due_before, c.retain into strict v_due_before, v_retain from retention._count_due_before(v_tenant_id) c;
  end if;
  perform retention._lock_holds('exclusive');
  insert into retention.hold (
    hold_id, run_id, tenant_id, reason, placed_by, expires_at, bucket, key, objects, due_before, retain
  )
  overriding system value
  values (
    v_hold_id, v_run_id, v_tenant_id::text, p_reason, coalesce(p_placed_by, session_user), now() + p_for,
    v_found.bucket, v_found.key, v_found.objects,
    v_due_before, v_retain
  );

  return query
  select v_hold_id,
    count(*),
    coalesce((array_agg(f.run_id::text order by f.run_id))[1:1000], '{}'),
    v_found.bucket,
    v_found.key,
    v_found.objects
  from retention._in_flight(v_run_id, v_tenant_id) f;
end
$$;

-- Releases a hold. The results of a tenant come back over setting.release_spread, and not all at once. A notice says
-- how many of them are due by now; they are accounted for, and no surge.
-- p_released_by: who releases it; by default the session's user. Returns false when it was released before.
-- For operators.
-- Locks the hold.
-- Raises no_data_found for a hold that is not there, and lock_not_available after ten seconds of waiting.
create or replace function retention.release_hold(p_hold_id bigint, p_released_by text default null)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '10s'
set timezone = 'UTC'
as $$
declare
  v_tenant_id text;
  v_results bigint;
begin
  perform retention._lock_holds('row exclusive');
  update retention.hold h
  set released_at = now(),
    released_by = coalesce(p_released_by, session_user)
  where h.hold_id = p_hold_id
    -- Released by a clock that was wrong, it is not released yet.
    and (h.released_at is null or h.released_at > clock_timestamp())
  returning h.tenant_id into v_tenant_id;
  if found then
    if v_tenant_id is not null then
      v_results := retention._grant_ended_holds(v_tenant_id);
      if v_results > 0 then
        raise notice '% results of tenant % are due by now and come back', v_results, v_tenant_id;
      end if;
    end if;
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

-- Places a hold on each run and on each tenant, all of them or none, as place_hold does. cleared_at: of a hold on
-- a run, when its result was cleared, if it was before. Of several tenants, the results of all but the first are read
-- under the lock. For operators. Raises what place_hold raises, and invalid_parameter_value where both lists are empty.
create or replace function retention.place_holds(
  p_reason text,
  p_run_ids text[] default '{}',
  p_tenant_ids text[] default '{}',
  p_for interval default null,
  p_placed_by text default null
)
returns table (
  hold_id bigint,
  run_id text,
  tenant_id text,
  too_late bigint,
  too_late_run_ids text[],
  cleared_at timestamptz,
  bucket text,
  key text,
  objects bigint
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  v_wanted record;
begin
  if coalesce(cardinality(p_run_ids), 0) + coalesce(cardinality(p_tenant_ids), 0) = 0 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'place_holds: expected the ids of runs or tenants, given: none; nothing is held by that';
  end if;
  for v_wanted in
    select distinct i.id as run_id, null::text as tenant_id
    from unnest(p_run_ids) as i (id)
    union all
    select distinct null, i.id
    from unnest(p_tenant_ids) as i (id)
    order by 2 nulls first, 1
  loop
    return query
    select h.hold_id,
      v_wanted.run_id,
      v_wanted.tenant_id,
      h.too_late,
      h.too_late_run_ids,
      (
        select r.cleared_at::timestamptz
        from retention.result r
        where r.run_id = retention._read_run_id(v_wanted.run_id)
        limit 1
      ),
      h.bucket,
      h.key,
      h.objects
    from retention.place_hold(p_reason, v_wanted.run_id, v_wanted.tenant_id, p_for, p_placed_by) h;
  end loop;
end
$$;

-- Releases several holds, all of them or none; released is false for those that had been released before. due: how
-- many results of its tenant are due by now and come back; null: nothing was counted.
-- For operators.
-- Raises no_data_found for an unknown one.
create or replace function retention.release_holds(p_hold_ids bigint[], p_released_by text default null)
returns table (hold_id bigint, released boolean, due bigint)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  v_hold_id bigint;
  v_active jsonb := (
    select jsonb_agg(h.hold_id order by h.hold_id)
    from retention.hold h
    where h.hold_id = any (p_hold_ids)
      and retention._hold_end(h.released_at, h.expires_at) > clock_timestamp()
  );
begin
  if coalesce(cardinality(p_hold_ids), 0) = 0 then
    raise notice 'p_hold_ids names none: no hold is released';
  end if;
  if v_active is not null then
    perform retention._two_people('hold', jsonb_build_object('hold_ids', v_active));
  end if;
  for v_hold_id in
    select distinct i.id
    from unnest(p_hold_ids) as i (id)
    order by 1
  loop
    hold_id := v_hold_id;
    released := retention.release_hold(v_hold_id, p_released_by);
    due := case when released then (select a.granted from retention.allowance a where a.hold_id = v_hold_id) end;
    return next;
  end loop;
end
$$;

-- The holds that are in force, or with p_all every hold, oldest first. placed_session, released_session: the users of
-- the sessions beside the names, which may be typed. objects: how many objects each covers also when
-- their rows have gone; bucket and key: which one, of a hold on a run. For observers.
create or replace function retention.list_holds(p_all boolean default false)
returns table (
  hold_id bigint,
  run_id text,
  tenant_id text,
  reason text,
  placed_by text,
  placed_at timestamptz,
  expires_at timestamptz,
  released_at timestamptz,
  released_by text,
  active boolean,
  placed_session text,
  released_session text,
  bucket text,
  key text,
  objects bigint
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select h.hold_id,
    h.run_id::text,
    h.tenant_id,
    h.reason,
    h.placed_by,
    h.placed_at,
    h.expires_at,
    h.released_at,
    h.released_by,
    retention._hold_end(h.released_at, h.expires_at) > now(),
    h.placed_session,
    h.released_session,
    h.bucket,
    h.key,
    h.objects
  from retention.hold h
  where p_all
    or retention._hold_end(h.released_at, h.expires_at) > now()
  order by h.hold_id
$$;
