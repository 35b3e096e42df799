/*
Policies: how long results are kept, and the guard against a slip of the hand.
*/

-- A tenant as policies name it: '*' for the default, a tenant that has a policy, or any other in the spelling of its
-- column. Raises invalid_parameter_value for what cannot be a tenant id.
create or replace function retention._policy_tenant(p_tenant_id text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Also a tenant that was one before the column got another type.
  if exists (select from retention.policy p where p.tenant_id = p_tenant_id) then
    return p_tenant_id;
  end if;
  return retention._read_tenant_id(p_tenant_id)::text;
end
$$;

-- Whether some run is of a tenant. One probe of an index where it has live results; else it may read the table.
create or replace function retention._has_runs(p_tenant_id retention.tenant_id)
returns boolean
language plpgsql
stable
as $$
begin
  return exists (
    select
    from retention._live r
    where r.tenant_id = p_tenant_id
      and r.is_candidate
  ) or exists (
    select
    from retention.result r
    where r.tenant_id = p_tenant_id
  );
end
$$;

-- A tenant in the spelling of its column, as policies and holds keep it, and whether it is known: it has a run, or a
-- policy of its own. '*' is. It may read the table.
-- For operators.
-- Raises invalid_parameter_value for what cannot be a tenant id.
create or replace function retention.find_tenant(p_tenant_id text)
returns table (tenant_id text, is_known boolean)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  tenant_id := retention._policy_tenant(p_tenant_id);
  is_known := exists (select from retention.policy p where p.tenant_id = find_tenant.tenant_id);
  if not is_known then
    is_known := retention._has_runs(retention._read_tenant_id(tenant_id));
  end if;
  return next;
end
$$;

-- A shorter policy as four eyes name it.
create or replace function retention._policy_act(p_tenant_id text, p_retain interval)
returns jsonb
language sql
immutable
as $$
  select jsonb_build_object('tenant_id', p_tenant_id, 'retain_days', trim_scale(extract(epoch from p_retain) / 86400))
$$;

/*
The guard against a slip of the hand: a policy that would make more live results due at once than
setting.policy_guard does not take effect, however it is written, until a person confirms it. Until
then the earlier policy is in force and the wish is written down beside it.
*/
create or replace function retention._guard_policy()
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
    new.retain := retention._in_days(new.retain);
    new.tenant_id := retention._policy_tenant(new.tenant_id);
  end if;
  if tg_op = 'UPDATE' and new.confirmed_at is distinct from old.confirmed_at and new.retain = old.pending_retain
    and new.pending_retain is null
    and new.confirmed_results is not null
  then
    -- confirm_policy, or what says the same: of a wish that waits, and with a number.
    v_due := case
      -- Counted by this trigger in this very transaction.
      when old.pending_at = now()
        and current_setting('retention.newly_due', true) = format('%s of %s', old.pending_results, new.tenant_id)
      then old.pending_results
      else retention._newly_due(new.tenant_id, new.retain)
    end;
    if v_due > new.confirmed_results then
      raise exception using
        errcode = 'check_violation',
        message = format(
          'the policy would make %s due at once by now, more than the %s that were expected',
          retention._counted(v_due, 'result'), new.confirmed_results
        );
    end if;
    if new.retain < old.retain then
      perform retention._two_people('policy', retention._policy_act(new.tenant_id, new.retain));
    end if;
    new.confirmed_results := v_due;
    delete from retention.progress;
    perform retention._grant_policy(new.tenant_id, old.retain, new.retain);
    return new;
  end if;
  if tg_op <> 'DELETE' and new.confirmed_at is not null then
    -- Nothing else is a confirmation, whatever is written beside it.
    new.confirmed_results := case when tg_op = 'UPDATE' then old.confirmed_results end;
    new.confirmed_at := case when tg_op = 'UPDATE' then old.confirmed_at end;
    new.confirmed_by := case when tg_op = 'UPDATE' then old.confirmed_by end;
  end if;
  if tg_op = 'DELETE' then
    if old.tenant_id = '*' then
      raise exception using
        errcode = 'check_violation',
        message = 'the default policy (*) cannot be removed, only changed';
    end if;
    v_due := retention._newly_due(old.tenant_id, (select retain from retention.policy where tenant_id = '*'));
    if v_due > v_guard then
      raise exception using
        errcode = 'check_violation',
        message = format(
          'removing the policy of tenant %s would make %s due at once', old.tenant_id, retention._counted(v_due, 'result')
        ),
        hint = 'Use retention.unset_policy(tenant_id) and confirm it with retention.confirm_policy(tenant_id).';
    end if;
    select retain into v_before from retention.policy where tenant_id = '*';
    if v_before < old.retain then
      perform retention._two_people('policy', retention._policy_act(old.tenant_id, v_before));
    end if;
    delete from retention.progress;
    perform retention._grant_policy(old.tenant_id, old.retain, (select retain from retention.policy where tenant_id = '*'));
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
    v_due := retention._newly_due(new.tenant_id, new.retain);
    -- For set_policy, which does not count a second time.
    perform set_config('retention.newly_due', format('%s of %s', v_due, new.tenant_id), true);
    if v_due > v_guard then
      new.pending_retain := new.retain;
      new.pending_results := v_due;
      new.pending_at := now();
      new.pending_by := session_user;
      new.retain := v_before;
      return new;
    end if;
    perform retention._two_people('policy', retention._policy_act(new.tenant_id, new.retain));
  end if;
  new.pending_retain := null;
  new.pending_results := null;
  new.pending_at := null;
  new.pending_by := null;
  -- What a longer policy spares, and what a shorter one makes due, lies behind the progress.
  delete from retention.progress;
  perform retention._grant_policy(new.tenant_id, v_before, new.retain);
  return new;
end
$$;

create or replace trigger guard_policy
before insert or update or delete on retention.policy
for each row
execute function retention._guard_policy();

-- Sets how long results are kept, for one tenant or, with '*', for all tenants without a policy of their own.
-- Returns how many live results it makes due at once. With more of them than setting.policy_guard, the policy
-- is pending until confirm_policy, or takes effect at once with p_confirm. To ask for the policy in force
-- withdraws a pending one. What is flagged or claimed afterwards is judged by the new policy. p_new_tenant: the
-- tenant need not have a run yet.
-- For operators.
-- Locks the policy.
-- Raises invalid_parameter_value without a tenant, and for what cannot be a tenant id. Raises no_data_found for a
-- tenant without a run, unless p_new_tenant. Raises check_violation for less than 1 day and more than 99 years.
create or replace function retention.set_policy(
  p_tenant_id text,
  p_retain interval,
  p_confirm boolean default false,
  p_new_tenant boolean default false
)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_retain interval := retention._in_days(p_retain);
  v_due bigint;
begin
  if coalesce(p_tenant_id, '') = '' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'a policy needs a tenant id, or * for the default';
  end if;
  if v_retain is null or v_retain < '1 day' or v_retain > '36160 days' then
    raise exception using
      errcode = 'check_violation',
      constraint = case when v_retain > '1 day' then 'retain_is_below_a_century' else 'retain_is_at_least_one_day' end,
      message = format('a policy keeps results for 1 day to 99 years, given: %s', coalesce(p_retain::text, 'null'));
  end if;
  if not p_new_tenant and not (select t.is_known from retention.find_tenant(p_tenant_id) t) then
    raise exception using
      errcode = 'no_data_found',
      message = format('there is no run of tenant %s', p_tenant_id),
      hint = 'Where its first run is yet to come: retention.set_policy(tenant_id, retain, p_new_tenant => true).';
  end if;
  p_tenant_id := retention._policy_tenant(p_tenant_id);
  perform set_config('retention.newly_due', '', true);
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
  -- A policy that is not shorter makes nothing due, and is not counted.
  v_due := coalesce(substring(current_setting('retention.newly_due') from '^\d+')::bigint, 0);
  if p_confirm then
    perform retention.confirm_policy(p_tenant_id);
  end if;
  perform set_config('retention.newly_due', '', true);
  return v_due;
end
$$;

-- Lets a pending policy take effect, and notes who confirmed it, when, and how many results it made due.
-- Returns that number; 0 when nothing is pending. p_expected: the number that was seen before.
-- For operators.
-- Locks the policy.
-- Raises check_violation when the policy would now make more results due than p_expected.
create or replace function retention.confirm_policy(p_tenant_id text, p_expected bigint default null)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_due bigint;
begin
  p_tenant_id := retention._policy_tenant(p_tenant_id);
  perform
  from retention.policy p
  where p.tenant_id = p_tenant_id
    and p.pending_retain is not null
  for update;
  if not found then
    return 0;
  end if;
  -- What falls due by it is counted by the guard, once.
  update retention.policy p
  set retain = p.pending_retain,
    set_at = now(),
    set_by = p.pending_by,
    pending_retain = null,
    pending_results = null,
    pending_at = null,
    pending_by = null,
    confirmed_results = coalesce(p_expected, 9223372036854775807),
    confirmed_at = clock_timestamp(),
    confirmed_by = session_user
  where p.tenant_id = p_tenant_id
  returning p.confirmed_results into v_due;
  return v_due;
end
$$;

-- Takes away a tenant's own policy, so that the default holds for it. Returns how many live results that
-- makes due at once. With more of them than setting.policy_guard, the length of the default is pending until
-- confirm_policy, or takes effect at once with p_confirm.
-- For operators.
-- Locks the policy.
-- Raises no_data_found when the tenant has no policy of its own.
create or replace function retention.unset_policy(p_tenant_id text, p_confirm boolean default false)
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
  p_tenant_id := retention._policy_tenant(p_tenant_id);
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

-- The policies, the default one first, with what waits for a confirmation and what was confirmed last.
-- For observers.
create or replace function retention.list_policies()
returns table (
  tenant_id text,
  retain_days double precision,
  set_at timestamptz,
  set_by text,
  pending_retain_days double precision,
  pending_results bigint,
  pending_at timestamptz,
  pending_by text,
  confirmed_results bigint,
  confirmed_at timestamptz,
  confirmed_by text
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select p.tenant_id,
    (extract(epoch from p.retain) / 86400)::double precision,
    p.set_at,
    p.set_by,
    (extract(epoch from p.pending_retain) / 86400)::double precision,
    p.pending_results,
    p.pending_at,
    p.pending_by,
    p.confirmed_results,
    p.confirmed_at,
    p.confirmed_by
  from retention.policy p
  order by p.tenant_id <> '*', p.tenant_id
$$;
