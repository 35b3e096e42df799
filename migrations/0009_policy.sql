-- Up Migration

-- An interval as whole days and time, without months: a month has no length of its own.
create function retention.in_days(p_interval interval)
returns interval
language sql
immutable
as $$
  select make_interval(days => floor(extract(epoch from p_interval) / 86400)::integer)
    + make_interval(secs => (extract(epoch from p_interval) - 86400 * floor(extract(epoch from p_interval) / 86400))::double precision)
$$;

-- How many live results a policy for p_tenant_id ('*': for all without their own) would make due at
-- once that are not due now. Reads what it counts. Callable by the listener's role.
create function retention.newly_due(p_tenant_id text, p_retain interval)
returns bigint
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set enable_seqscan = off
set jit = off
as $$
declare
  v_count bigint;
begin
  select coalesce(sum(c.results), 0)
  into v_count
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
    and (t.tenant_id::text = p_tenant_id or p_tenant_id = '*' and p.tenant_id is null);
  return v_count;
end
$$;

-- Sets how long results are kept, for one tenant or ('*') for all without a policy of their own.
-- Returns how many live results it makes due at once. What is flagged or claimed later is judged by
-- the new policy. Raises check_violation (retain_is_at_least_one_day, retain_is_below_a_century).
create function retention.set_policy(p_tenant_id text, p_retain interval)
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
  insert into retention.policy (tenant_id, retain, set_by)
  values (p_tenant_id, v_retain, session_user)
  on conflict (tenant_id) do update
  set retain = excluded.retain,
    set_at = now(),
    set_by = excluded.set_by
  where policy.retain <> excluded.retain;
  if found then
    -- What a longer policy spares, and what a shorter one makes due, lies behind the progress.
    delete from retention.progress;
  end if;
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
      return next format('default policy: %s -> %s, which makes %s results due at once', v_retain, p_settings ->> 'retain', v_due);
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

-- Places a hold on a run or on a tenant. From its commit on nothing of it is claimed any more. A
-- deletion that is already in flight cannot be called back: too_late counts those results and
-- too_late_run_ids names up to 1,000 of them. p_for: how long (default: until it is released).
-- Waits for claims that are just being made, and they for this transaction: keep it short.
-- Raises invalid_parameter_value, active_sql_transaction outside READ COMMITTED.
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
  begin
    v_run_id := p_run_id;
  exception
    when data_exception then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('%s is not a run id of this application (type %s)', p_run_id, (
          select format_type(t.typbasetype, t.typtypmod) from pg_type t where t.oid = 'retention.run_id'::regtype
        ));
  end;
  if v_run_id is not null and not exists (select from retention.result r where r.run_id = v_run_id) then
    raise exception using
      errcode = 'no_data_found',
      message = format('there is no run %s to hold', p_run_id);
  end if;

  lock table retention.hold in exclusive mode;
  insert into retention.hold (run_id, tenant_id, reason, placed_by, expires_at)
  values (v_run_id, p_tenant_id, p_reason, coalesce(p_placed_by, session_user), now() + p_for)
  returning hold.hold_id into v_hold_id;

  return query
  select v_hold_id,
    count(*),
    coalesce((array_agg(e.run_id::text order by e.run_id))[1:1000], '{}')
  from retention.batch b
  join retention.expired e on e.batch_id = b.batch_id
  left join retention.result r on r.run_id = e.run_id
  where b.lease is not null
    and (e.run_id = v_run_id or r.tenant_id::text = p_tenant_id);
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
  retention.configure(jsonb), retention.set_policy(text, interval),
  retention.newly_due(text, interval), retention.in_days(interval);
