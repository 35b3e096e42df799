/*
Four eyes: what deletes more or earlier needs two people, where setting.four_eyes says so. One asks, another approves
exactly that, and the one who asked does it within 24 hours, once.

People are told apart by session_user, which `set role` does not change. Two logins of one person, and a pooler that
leads everybody in as one role, defeat this.
*/

-- What needs two people, in words, for a message.
create or replace function retention._act(p_kind text)
returns text
language sql
immutable
as $$
  select case p_kind
    when 'policy' then 'a shorter policy'
    when 'early' then 'an early deletion'
    when 'surge' then 'the release of a surge'
    when 'hold' then 'the end of a hold'
    when 'orphans' then 'deleting orphans'
    when 'purge' then 'purging versions'
    when 'setting' then 'a weaker guard'
    when 'fence' then 'accepting another database'
    when 'keeper' then 'taking a keeper away'
    else p_kind
  end
$$;

-- How many live results a policy would make due, out of a request's words; null: it is about something else.
create or replace function retention._asked_results(p_kind text, p_what jsonb)
returns bigint
language plpgsql
stable
as $$
begin
  if p_kind <> 'policy' or not p_what ?& '{tenant_id, retain_days}' then
    return null;
  end if;
  return retention._newly_due(
    p_what ->> 'tenant_id', make_interval(secs => (p_what ->> 'retain_days')::double precision * 86400)
  );
exception
  when data_exception then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected a tenant and a number of days, given: %s', left(p_what::text, 500));
end
$$;

-- Raises RR004 for an act that needs a second person and has none, with the request as its detail. p_kind: policy,
-- early, surge, hold, orphans, purge, setting, fence or keeper. p_what: what exactly is asked. Uses the approval up.
-- Called by the function that does it, before it changes anything.
create or replace function retention._two_people(p_kind text, p_what jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_approval retention.approval;
  v_now bigint;
begin
  if not (select s.four_eyes from retention.setting s) then
    return;
  end if;
  select a.*
  into v_approval
  from retention.approval a
  where a.kind = p_kind
    and a.what = p_what
    and a.asked_by = session_user
    and a.approved_by <> session_user
    and a.withdrawn_at is null
    and a.asked_at between clock_timestamp() - interval '24 hours' and clock_timestamp() + interval '1 minute'
    -- What only says how things shall be may be said twice in one transaction.
    and (a.used_at is null or a.used_in = pg_current_xact_id() and p_kind in ('policy', 'setting', 'purge', 'hold', 'keeper'))
  order by a.used_at nulls last, a.approval_id
  limit 1
  for update;
  if not found then
    raise exception using
      errcode = 'RR004',
      message = format('%s needs two people: another one must approve exactly %s', retention._act(p_kind), p_what),
      detail = jsonb_build_object('kind', p_kind, 'what', p_what),
      hint = format(
        'Ask for it: select retention.ask_approval(%L, %L); another person then runs: select retention.approve(<its number>);',
        p_kind, p_what
      );
  end if;
  if v_approval.used_at is not null then
    return;
  end if;
  v_now := retention._asked_results(p_kind, p_what);
  if v_now > v_approval.results + (select s.policy_guard from retention.setting s) then
    raise exception using
      errcode = 'check_violation',
      message = format(
        'by now it would make %s due at once, and %s were approved with request %s',
        retention._counted(v_now, 'result'), v_approval.results, v_approval.approval_id
      ),
      hint = format('Withdraw it and ask again: select retention.withdraw_approval(%s);', v_approval.approval_id);
  end if;
  update retention.approval
  set used_at = clock_timestamp(),
    used_in = pg_current_xact_id()
  where approval_id = v_approval.approval_id;
end
$$;

-- Asks for an act that needs two people: p_kind and p_what as the refusal names them. Returns the number of the
-- request. One that this person has asked for in the last 24 hours, and that was neither used nor withdrawn, is
-- returned again. Commands that are refused ask by themselves.
-- For operators.
-- Raises invalid_parameter_value for a kind that is none, and for what is no object.
create or replace function retention.ask_approval(p_kind text, p_what jsonb)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_approval_id bigint;
begin
  if retention._act(p_kind) is not distinct from p_kind then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format(
        'expected policy, early, surge, hold, orphans, purge, setting, fence or keeper, given: %s',
        coalesce(left(p_kind, 100), 'null')
      );
  end if;
  if jsonb_typeof(p_what) is distinct from 'object' or octet_length(p_what::text) > 100000 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected what is asked as a JSON object, as the refusal says it, given: %s', coalesce(left(p_what::text, 100), 'null'));
  end if;
  select a.approval_id
  into v_approval_id
  from retention.approval a
  where a.kind = p_kind
    and a.what = p_what
    and a.asked_by = session_user
    and a.used_at is null
    and a.withdrawn_at is null
    and a.asked_at between clock_timestamp() - interval '24 hours' and clock_timestamp() + interval '1 minute'
  order by a.approved_at nulls last, a.approval_id
  limit 1;
  if found then
    return v_approval_id;
  end if;
  insert into retention.approval (kind, what, results)
  values (p_kind, p_what, retention._asked_results(p_kind, p_what))
  returning approval_id into v_approval_id;
  return v_approval_id;
end
$$;

-- Locks a request that still waits or may still be used, and returns it.
create or replace function retention._open_approval(p_approval_id bigint)
returns retention.approval
language plpgsql
as $$
declare
  v_approval retention.approval;
begin
  select * into v_approval from retention.approval a where a.approval_id = p_approval_id for update;
  if not found then
    raise exception using
      errcode = 'no_data_found',
      message = format('there is no request %s', coalesce(p_approval_id::text, 'null')),
      hint = 'See them with: retention approval list';
  end if;
  if num_nonnulls(v_approval.used_at, v_approval.withdrawn_at) > 0
    or v_approval.asked_at < clock_timestamp() - interval '24 hours'
  then
    raise exception using
      errcode = 'check_violation',
      message = case
        when v_approval.used_at is not null
        then format('request %s was used at %s', p_approval_id, retention._iso(v_approval.used_at))
        when v_approval.withdrawn_at is not null
        then format('request %s was withdrawn by %s', p_approval_id, v_approval.withdrawn_by)
        else format('request %s is older than 24 hours', p_approval_id)
      end,
      hint = 'Ask for it again.';
  end if;
  return v_approval;
end
$$;

-- Approves what another person has asked for: that person may do exactly this, once, within 24 hours of asking.
-- Returns false where it was approved before.
-- For operators.
-- Locks the request.
-- Raises check_violation for one's own request, and for one that is used, withdrawn or too old. Raises no_data_found
-- for one that is not there.
create or replace function retention.approve(p_approval_id bigint)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_approval retention.approval := retention._open_approval(p_approval_id);
begin
  if v_approval.asked_by = session_user then
    raise exception using
      errcode = 'check_violation',
      constraint = 'nobody_approves_their_own_request',
      message = format('request %s was asked for by %s, and another person approves it', p_approval_id, session_user),
      hint = 'The user of the session counts, whatever role it has set.';
  end if;
  if v_approval.approved_at is not null then
    return false;
  end if;
  update retention.approval
  set approved_by = session_user,
    approved_at = clock_timestamp()
  where approval_id = p_approval_id;
  return true;
end
$$;

-- Withdraws a request, also one that was approved and not yet used. Returns false where it was withdrawn before.
-- For operators.
-- Locks the request.
-- Raises check_violation for one that is used or too old, and no_data_found for one that is not there.
create or replace function retention.withdraw_approval(p_approval_id bigint)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from retention.approval a where a.approval_id = p_approval_id and a.withdrawn_at is not null) then
    return false;
  end if;
  perform retention._open_approval(p_approval_id);
  update retention.approval
  set withdrawn_by = session_user,
    withdrawn_at = clock_timestamp()
  where approval_id = p_approval_id;
  return true;
end
$$;

-- The requests that wait for another person or may still be used, or with p_all every one, oldest first. state:
-- waiting, approved, used, withdrawn or expired. results: of a policy, how many live results it would have made due
-- when it was asked for.
-- For observers.
create or replace function retention.list_approvals(p_all boolean default false)
returns table (
  approval_id bigint,
  state text,
  kind text,
  what jsonb,
  results bigint,
  asked_by text,
  asked_at timestamptz,
  approved_by text,
  approved_at timestamptz,
  expires_at timestamptz,
  used_at timestamptz,
  withdrawn_by text,
  withdrawn_at timestamptz
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select a.approval_id,
    s.state,
    a.kind,
    a.what,
    a.results,
    a.asked_by,
    a.asked_at,
    a.approved_by,
    a.approved_at,
    a.asked_at + interval '24 hours',
    a.used_at,
    a.withdrawn_by,
    a.withdrawn_at
  from retention.approval a
  cross join lateral (
    select case
      when a.used_at is not null then 'used'
      when a.withdrawn_at is not null then 'withdrawn'
      when a.asked_at < clock_timestamp() - interval '24 hours' then 'expired'
      when a.approved_at is not null then 'approved'
      else 'waiting'
    end as state
  ) s
  where p_all
    or s.state in ('waiting', 'approved')
  order by a.approval_id
$$;
