-- Up Migration

-- An interval as whole days and time, without months: a month has no length of its own.
create function retention.in_days(p_interval interval)
returns interval
language sql
immutable
return make_interval(days => floor(extract(epoch from p_interval) / 86400)::integer)
  + make_interval(secs => (extract(epoch from p_interval) - 86400 * floor(extract(epoch from p_interval) / 86400))::double precision);

-- How many live results a policy for p_tenant_id ('*': for all without their own) would make due at
-- once that are not due now, by tenant. Reads what it counts.
create function retention.newly_due_by_tenant(p_tenant_id text, p_retain interval)
returns table (tenant_id text, results bigint)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
begin
  return query
  select t.tenant_id::text, c.results
  from retention.tenants() t
  left join retention.policy p on p.tenant_id = t.tenant_id::text
    and p.tenant_id <> '*'
  cross join lateral (
    select count(*) as results
    from retention.look(
      t.tenant_id, now() - retention.exactly(t.retain), null, now() - retention.exactly(p_retain), null
    ) r
    where not r.held
      and not r.flagged
      and coalesce(r.retain_until, '-infinity') < now()
  ) c
  where p_retain < t.retain
    and (t.tenant_id::text = p_tenant_id or p_tenant_id = '*' and p.tenant_id is null)
    and c.results > 0;
end
$$;

-- The sum of newly_due_by_tenant.
create function retention.newly_due(p_tenant_id text, p_retain interval)
returns bigint
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(sum(n.results), 0)::bigint
  from retention.newly_due_by_tenant(p_tenant_id, p_retain) n
$$;

/*
The guard against a slip of the hand: a policy that would make more live results due at once than
setting.policy_guard does not take effect, however it is written, until somebody confirms it. Until
then the earlier policy is in force and the wish is written down beside it.
*/
create function retention.guard_policy()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_guard integer := (select policy_guard from retention.setting);
  v_before interval;
  v_due bigint;
begin
  if tg_op <> 'DELETE' then
    -- A year is 360 days where intervals are compared, and 365.25 where they are added to a date.
    new.retain := retention.in_days(new.retain);
  end if;
  if tg_op = 'UPDATE' and new.confirmed_at is distinct from old.confirmed_at then
    -- confirm_policy: what is due now was counted there.
    delete from retention.progress;
    return new;
  end if;
  if tg_op = 'DELETE' then
    if old.tenant_id = '*' then
      raise exception using
        errcode = 'check_violation',
        message = 'the default policy (*) cannot be removed, only changed';
    end if;
    v_due := retention.newly_due(old.tenant_id, (select retain from retention.policy where tenant_id = '*'));
    if v_due > v_guard then
      raise exception using
        errcode = 'check_violation',
        message = format('removing the policy of tenant %s would make %s results due at once', old.tenant_id, v_due),
        hint = 'Use retention.unset_policy(tenant_id) and confirm it with retention.confirm_policy(tenant_id).';
    end if;
    delete from retention.progress;
    return old;
  end if;
  if tg_op = 'UPDATE' then
    if new.tenant_id <> old.tenant_id then
      raise exception using
        errcode = 'check_violation',
        message = format('the policy of tenant %s cannot be handed to tenant %s: set the one and unset the other', old.tenant_id, new.tenant_id);
    end if;
    v_before := old.retain;
  else
    select retain into v_before from retention.policy where tenant_id = '*';
  end if;
  if v_before is null or new.retain is not distinct from v_before then
    return new;
  end if;
  if new.retain < v_before then
    v_due := retention.newly_due(new.tenant_id, new.retain);
    if v_due > v_guard then
      new.pending_retain := new.retain;
      new.pending_results := v_due;
      new.pending_at := now();
      new.pending_by := session_user;
      new.retain := v_before;
      return new;
    end if;
  end if;
  new.pending_retain := null;
  new.pending_results := null;
  new.pending_at := null;
  new.pending_by := null;
  -- What a longer policy spares, and what a shorter one makes due, lies behind the progress.
  delete from retention.progress;
  return new;
end
$$;

create trigger guard_policy
before insert or update or delete on retention.policy
for each row
execute function retention.guard_policy();

-- Sets how long results are kept, for one tenant or ('*') for all without a policy of their own.
-- Returns how many live results it makes due at once. With more of them than setting.policy_guard it
-- takes effect only when p_confirm is true, now or by confirm_policy later. What is flagged or
-- claimed after that is judged by the new policy.
-- Raises check_violation (retain_is_at_least_one_day, retain_is_below_a_century).
create function retention.set_policy(p_tenant_id text, p_retain interval, p_confirm boolean default false)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_retain interval := retention.in_days(p_retain);
  v_due bigint;
begin
  if coalesce(p_tenant_id, '') = '' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'a policy needs a tenant id, or * for the default';
  end if;
  if v_retain is null or v_retain < '1 day' or v_retain > '36134 days' then
    raise exception using
      errcode = 'check_violation',
      constraint = case when v_retain > '1 day' then 'retain_is_below_a_century' else 'retain_is_at_least_one_day' end,
      message = format('a policy keeps results for 1 day to 99 years, given: %s', coalesce(p_retain::text, 'null'));
  end if;
  v_due := retention.newly_due(p_tenant_id, v_retain);
  -- Also when nothing changes: a wish that was pending is withdrawn by asking for what is in force.
  -- Not an upsert: the guard would judge its insert before its update.
  update retention.policy p
  set retain = v_retain,
    set_at = case when p.retain = v_retain then p.set_at else now() end,
    set_by = case when p.retain = v_retain then p.set_by else session_user end,
    pending_retain = null,
    pending_results = null,
    pending_at = null,
    pending_by = null
  where p.tenant_id = p_tenant_id;
  if not found then
    insert into retention.policy (tenant_id, retain, set_by)
    values (p_tenant_id, v_retain, session_user)
    on conflict do nothing;
  end if;
  if p_confirm then
    perform retention.confirm_policy(p_tenant_id);
  end if;
  return v_due;
end
$$;

-- Lets a pending policy take effect; notes who, when and how many. Returns how many live results that
-- makes due now; 0 when nothing is pending. p_expected: refuse when it has become more than this.
create function retention.confirm_policy(p_tenant_id text, p_expected bigint default null)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_policy retention.policy;
  v_due bigint;
begin
  select * into v_policy
  from retention.policy p
  where p.tenant_id = p_tenant_id
    and p.pending_retain is not null
  for update;
  if not found then
    return 0;
  end if;
  v_due := retention.newly_due(p_tenant_id, v_policy.pending_retain);
  if v_due > p_expected then
    raise exception using
      errcode = 'check_violation',
      message = format('the policy would make %s results due at once by now, more than the %s that were expected', v_due, p_expected);
  end if;
  update retention.policy p
  set retain = p.pending_retain,
    set_at = now(),
    set_by = p.pending_by,
    pending_retain = null,
    pending_results = null,
    pending_at = null,
    pending_by = null,
    confirmed_results = v_due,
    confirmed_at = clock_timestamp(),
    confirmed_by = session_user
  where p.tenant_id = p_tenant_id;
  return v_due;
end
$$;

-- Takes a tenant's own policy away, so that the default holds for it. Returns how many live results
-- that makes due at once; with more of them than setting.policy_guard the default's length is only
-- noted as pending, unless p_confirm. Raises no_data_found when the tenant has none.
create function retention.unset_policy(p_tenant_id text, p_confirm boolean default false)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_default interval := (select retain from retention.policy where tenant_id = '*');
  v_due bigint;
begin
  if p_tenant_id = '*' or not exists (select from retention.policy p where p.tenant_id = p_tenant_id) then
    raise exception using
      errcode = 'no_data_found',
      message = format('tenant %s has no policy of its own to unset', p_tenant_id);
  end if;
  v_due := retention.set_policy(p_tenant_id, v_default, p_confirm);
  delete from retention.policy p
  where p.tenant_id = p_tenant_id
    and p.retain = v_default
    and p.pending_retain is null;
  return v_due;
end
$$;

-- Writes the settings that live in the database, those that are given and differ; returns one line
-- per change, for the log: "batch_size: 1000 -> 500".
create function retention.configure(p_settings jsonb)
returns setof text
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_key text;
  v_old jsonb;
  v_new jsonb;
  v_retain interval;
  v_due bigint;
begin
  for v_key in select jsonb_object_keys(p_settings) loop
    if v_key not in ('enabled', 'retain', 'loop_interval', 'batch_size', 'default_bucket') then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('configure knows no setting %s', v_key),
        hint = 'It takes enabled, retain, loop_interval, batch_size and default_bucket.';
    end if;
  end loop;
  if p_settings ? 'retain' then
    select retain into v_retain from retention.policy where tenant_id = '*';
    if v_retain <> retention.in_days((p_settings ->> 'retain')::interval) then
      v_due := retention.set_policy('*', (p_settings ->> 'retain')::interval);
      if exists (select from retention.policy where tenant_id = '*' and pending_retain is not null) then
        return next format(
          'default policy: stays %s, because %s would make %s results due at once; confirm it with retention policy confirm',
          v_retain, p_settings ->> 'retain', v_due
        );
      else
        return next format('default policy: %s -> %s, which makes %s results due at once', v_retain, p_settings ->> 'retain', v_due);
      end if;
    end if;
  end if;
  select to_jsonb(s) into v_old from retention.setting s for update;
  update retention.setting s
  set enabled = coalesce((p_settings ->> 'enabled')::boolean, s.enabled),
    loop_interval = coalesce((p_settings ->> 'loop_interval')::interval, s.loop_interval),
    batch_size = coalesce((p_settings ->> 'batch_size')::integer, s.batch_size),
    default_bucket = case when p_settings ? 'default_bucket' then p_settings ->> 'default_bucket' else s.default_bucket end
  where s.enabled is distinct from coalesce((p_settings ->> 'enabled')::boolean, s.enabled)
    or s.loop_interval is distinct from coalesce((p_settings ->> 'loop_interval')::interval, s.loop_interval)
    or s.batch_size is distinct from coalesce((p_settings ->> 'batch_size')::integer, s.batch_size)
    or p_settings ? 'default_bucket' and s.default_bucket is distinct from p_settings ->> 'default_bucket'
  returning to_jsonb(s) into v_new;
  return query
  select format('%s: %s -> %s', n.key, coalesce(v_old ->> n.key, 'none'), coalesce(n.value, 'none'))
  from jsonb_each_text(v_new) n
  where n.value is distinct from v_old ->> n.key;
end
$$;

-- A run id out of text. Raises invalid_parameter_value for what cannot be one.
create function retention.read_run_id(p_run_id text)
returns retention.run_id
language plpgsql
stable
as $$
begin
  -- Cast here: what RETURN casts by itself is cast after this block, and its errors are not caught.
  return p_run_id::retention.run_id;
exception
  when data_exception then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('%s is not a run id of this application (type %s)', p_run_id, (
        select format_type(t.typbasetype, t.typtypmod) from pg_type t where t.oid = 'retention.run_id'::regtype
      ));
end
$$;

-- What of a run or of a tenant S3 may be deleting, and until when at most: what is leased, also for
-- setting.unanswered_for after the lease has run out, for whoever had it may have asked S3; and what S3 was
-- asked for and did not answer. Where runs may share an object, also by a request for another run, whatever
-- has become of that one. Called by place_hold, under its lock, so it must cost what is leased and what is
-- unanswered at most: a cleared run is found by its run id, and among its tenant's by its own requests alone.
create function retention.in_flight(p_run_id retention.run_id, p_tenant_id retention.tenant_id)
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
    select f.run_id, max(f.until)
    from (
      select p_run_id as run_id, b.visible_at + v_setting.unanswered_for as until
      from retention.expired e
      join retention.batch b on b.batch_id = e.batch_id
      where e.run_id = p_run_id
        and b.lease is not null
      union all
      select p_run_id, u.until
      from retention.unanswered u
      where u.run_id = p_run_id
      union all
      select p_run_id, b.visible_at + v_setting.unanswered_for
      from retention.batch b
      -- Kept apart: read the other way round, it would cost what is flagged.
      cross join lateral (
        select
        from retention.expired e
        where e.batch_id = b.batch_id
          and e.key = v_key collate "C"
        offset 0
      ) e
      where b.bucket = v_bucket
        and b.lease is not null
      union all
      select p_run_id, u.until
      from retention.unanswered u
      where u.key = v_key collate "C"
        and u.bucket = v_bucket
    ) f
    where f.until > clock_timestamp()
    group by f.run_id;
  else
    return query
    with asked as materialized (
      select e.run_id, e.bucket, e.key, b.visible_at + v_setting.unanswered_for as until
      from retention.batch b
      cross join lateral (
        select i.run_id, i.bucket, i.key
        from retention.expired i
        where i.batch_id = b.batch_id
        offset 0
      ) e
      where b.lease is not null
        and b.visible_at + v_setting.unanswered_for > clock_timestamp()
      union all
      select u.run_id, u.bucket, u.key, u.until
      from retention.unanswered u
      where u.until > clock_timestamp()
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
      join retention.live r on r.key = a.key
        and r.bucket = a.bucket
      where v_setting.check_shared_objects
        and r.tenant_id = p_tenant_id
    ) f
    group by f.run_id;
  end if;
end
$$;

-- Places a hold on a run or on a tenant. From its commit on nothing of it is claimed any more. A
-- deletion that is already in flight, or may be, cannot be called back: too_late counts those results and
-- too_late_run_ids names up to 1,000 of them. p_for: how long (default: until it is released).
-- Waits for claims that are just being made, and they for this transaction: keep it short.
-- Raises invalid_parameter_value, no_data_found for what is not there, active_sql_transaction outside
-- READ COMMITTED.
create function retention.place_hold(
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
    v_run_id := retention.read_run_id(p_run_id);
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
      from retention.result r
      where r.tenant_id = v_tenant_id
        and r.cleared_at is null
        and r.status = 'COMPLETED'
        and r.key is not null
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
  from retention.in_flight(v_run_id, v_tenant_id) f;
end
$$;

-- Releases a hold; false when it was released before. Raises no_data_found for an unknown one.
create function retention.release_hold(p_hold_id bigint, p_released_by text default null)
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

-- Down Migration

drop function retention.release_hold(bigint, text),
  retention.place_hold(text, text, text, interval, text),
  retention.in_flight(retention.run_id, retention.tenant_id), retention.read_run_id(text),
  retention.configure(jsonb);
drop trigger guard_policy on retention.policy;
drop function retention.guard_policy(), retention.unset_policy(text, boolean),
  retention.set_policy(text, interval, boolean), retention.confirm_policy(text, bigint),
  retention.newly_due(text, interval), retention.newly_due_by_tenant(text, interval),
  retention.in_days(interval);
