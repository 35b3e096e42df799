/*
Variables: what a process brings when it starts. They do not undo what a person has set.
*/

-- The settings as the database has them, and the variable that each of them has in a process.
create or replace function retention._stored_settings()
returns table (name text, variable text, value text)
language sql
stable
as $$
  select v.name, v.variable, v.value
  from retention.setting s
  cross join retention.policy p
  cross join lateral (
    values
      ('enabled', 'DPP_RETENTION_ENABLED', s.enabled::text),
      ('retain', 'DPP_RETENTION_DAYS', p.retain::text),
      ('loop_interval', 'DPP_RETENTION_LOOP_INTERVAL_SECONDS', s.loop_interval::text),
      ('batch_size', 'DPP_RETENTION_BATCH_SIZE', s.batch_size::text),
      ('default_bucket', 'S3_RESULT_BUCKET', s.default_bucket)
  ) as v (name, variable, value)
  where p.tenant_id = '*'
$$;

-- Whether two values of a setting mean the same.
create or replace function retention._same_setting(p_name text, p_one text, p_other text)
returns boolean
language sql
immutable
as $$
  select case p_name
    when 'enabled' then p_one::boolean = p_other::boolean
    when 'batch_size' then p_one::integer = p_other::integer
    when 'loop_interval' then p_one::interval = p_other::interval
    when 'retain' then retention._in_days(p_one::interval) = retention._in_days(p_other::interval)
    else p_one = p_other
  end
$$;

-- What a person writes to give a setting a value.
create or replace function retention._how_to_set(p_name text, p_value text)
returns text
language sql
immutable
as $$
  select case p_name
    when 'default_bucket' then format('select retention.set_default_bucket(%L);', p_value)
    when 'retain' then format('retention policy set ''*'' %sd', extract(epoch from p_value::interval)::bigint / 86400)
    when 'loop_interval' then format('select retention.configure(%L);', jsonb_build_object(p_name, p_value))
    when 'batch_size' then format('select retention.configure(''{"batch_size": %s}'');', p_value)
    else format('select retention.configure(''{"enabled": %s}'');', p_value::boolean::text)
  end
$$;

-- Why a value that differs from the stored one is not applied; null: it is. p_known: the row of the setting before this
-- start. A value that stops or lengthens is applied whenever it has changed. Another one is applied once: where
-- processes with different variables start by turns, the setting must not change by turns. Only the switch may go
-- back, once in an hour, and only where no person has switched it off.
create or replace function retention._why_ignored(p_known retention.variable, p_name text, p_value text, p_stored text)
returns text
language sql
volatile
as $$
  select case
    when p_name = 'default_bucket' and (p_stored is not null or p_known.set_at is not null)
    then 'only retention.set_default_bucket changes a default bucket'
    when p_known.value = p_value and x.by_person
    then format('it is as before, and %s has set another value since, at %s', p_known.set_by, retention._iso(p_known.set_at))
    when p_known.value = p_value
    then 'it is as before'
    when p_known.value is null and p_known.set_at is not null
    then format('%s had set another value before it first came, at %s', p_known.set_by, retention._iso(p_known.set_at))
    when p_name = 'enabled' and not p_value::boolean or p_name = 'retain' and p_value::interval > p_stored::interval
    then null
    when p_name = 'enabled' and x.by_person
    then format('%s has switched it off, at %s, and a person switches it on again', p_known.set_by, retention._iso(p_known.set_at))
    when p_name = 'enabled' and coalesce(p_known.returned_at < clock_timestamp() - interval '1 hour', true)
    then null
    when p_value = any (p_known.brought) and p_name <> 'retain'
    then 'it was brought before and another value came after it; do processes with different variables run?'
  end
  from (select coalesce(p_known.set_at > coalesce(p_known.applied_at, '-infinity'), false) as by_person) x
$$;

-- Makes a shorter default policy wait for a confirmation: a variable makes nothing due. Returns false where another
-- one waits that a person has asked for.
create or replace function retention._await_policy(p_retain interval, p_due bigint)
returns boolean
language plpgsql
as $$
begin
  update retention.policy p
  set pending_retain = p_retain,
    pending_results = p_due,
    pending_at = now(),
    pending_by = session_user || ' (DPP_RETENTION_DAYS)'
  where p.tenant_id = '*'
    and (p.pending_by is null or p.pending_by like '% (DPP_RETENTION_DAYS)');
  return found;
end
$$;

-- Takes the default policy from a variable. Shorter, it waits for a confirmation as soon as it would make a single result
-- due, however low the guard is, and always where it came before (p_is_again); only a first migration by the owner
-- goes by the guard. Returns what became of it.
create or replace function retention._apply_retain(p_value interval, p_is_first boolean, p_is_again boolean)
returns table (outcome text, message text)
language plpgsql
as $$
declare
  v_before interval;
  v_due bigint;
begin
  select p.retain into strict v_before from retention.policy p where p.tenant_id = '*';
  v_due := retention._newly_due('*', p_value);
  if p_value < v_before
    and (
      p_is_again
      or (select s.four_eyes from retention.setting s)
      or v_due > case
        when p_is_first and pg_has_role(session_user, (select n.nspowner from pg_namespace n where n.nspname = 'retention'), 'member')
        then (select s.policy_guard from retention.setting s)
        else 0
      end
    )
  then
    outcome := case when retention._await_policy(p_value, v_due) then 'pending' else 'ignored' end;
    message := format('default policy: stays %s; %s would make %s due at once, and %s', v_before, p_value,
      retention._counted(v_due, 'result'),
      case when outcome = 'pending' then 'waits for a confirmation' else 'another one waits for its confirmation' end);
  else
    perform retention.set_policy('*', p_value);
    outcome := 'applied';
    message := format('default policy: %s -> %s, which makes %s due at once', v_before, p_value, retention._counted(v_due, 'result'));
  end if;
  return next;
end
$$;

-- Writes the settings that a process gets as variables, as it starts. p_variables: as in configure; a key that is absent changes
-- nothing. A variable is applied where it has changed since a process last brought it. One that came before is
-- not applied again, and the first one is not applied where a person has set the setting by then: what a person sets
-- stays. DPP_RETENTION_ENABLED=false and a longer default policy are applied whenever they have changed, and =true once in an hour where
-- no person has switched it off. A shorter default policy that makes results due, or that came before, waits for confirm_policy. A default bucket is taken where there is none.
-- Returns a row for each variable that differs from what the database had. outcome: applied, pending or ignored. remedy: what makes it hold;
-- null: it does.
-- For the listener.
-- Locks the row of retention.setting, the default policy, and rows of retention.variable.
-- Raises what configure raises.
create or replace function retention.apply_variables(p_variables jsonb)
returns table (name text, outcome text, message text, remedy text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  v_known retention.variable;
  v_given record;
  v_why text;
begin
  perform retention._check_settings('apply_variables', p_variables);
  -- One process at a time, in the order in which a person's change takes them too.
  perform from retention.setting for update;
  perform from retention.policy p where p.tenant_id = '*' for update;
  for v_given in
    select s.name, s.variable, s.value as stored, p_variables ->> s.name as value
    from retention._stored_settings() s
    where p_variables ->> s.name <> ''
    order by s.name
  loop
    insert into retention.variable (name) values (v_given.name) on conflict do nothing;
    select v.* into strict v_known from retention.variable v where v.name = v_given.name for update;
    update retention.variable v
    set value = v_given.value,
      brought_at = clock_timestamp(),
      brought = case when v_given.value = any (v.brought) then v.brought else (v_given.value || v.brought)[1:100] end
    where v.name = v_given.name;
    continue when retention._same_setting(v_given.name, v_given.value, v_given.stored);
    v_why := retention._why_ignored(v_known, v_given.name, v_given.value, v_given.stored);
    name := v_given.name;
    remedy := null;
    if v_given.name = 'retain' and exists (
      select
      from retention.policy p
      where p.tenant_id = '*'
        and p.pending_retain = retention._in_days(v_given.value::interval)
    ) then
      outcome := 'pending';
      message := format('default policy: stays %s; %s waits for a confirmation', v_given.stored, v_given.value);
    elsif v_why is not null then
      outcome := 'ignored';
      message := format('%s: stays %s, and %s (%s) is not applied: %s', v_given.name, coalesce(v_given.stored, 'none'),
        v_given.value, v_given.variable, v_why);
    elsif v_given.name = 'retain' then
      select a.outcome, a.message
      into outcome, message
      from retention._apply_retain(
        retention._in_days(v_given.value::interval), v_known.value is null, v_given.value = any (v_known.brought)
      ) a;
    else
      update retention.setting s
      set enabled = case when v_given.name = 'enabled' then v_given.value::boolean else s.enabled end,
        loop_interval = case when v_given.name = 'loop_interval' then v_given.value::interval else s.loop_interval end,
        batch_size = case when v_given.name = 'batch_size' then v_given.value::integer else s.batch_size end,
        default_bucket = case when v_given.name = 'default_bucket' then v_given.value else s.default_bucket end;
      outcome := 'applied';
      message := format('%s: %s -> %s', v_given.name, coalesce(v_given.stored, 'none'), v_given.value);
    end if;
    if outcome = 'applied' then
      update retention.variable v
      set applied_at = clock_timestamp(),
        returned_at = case
          when v_given.name = 'enabled' and v_given.value::boolean and v_given.value = any (v_known.brought) then clock_timestamp()
          else v.returned_at
        end,
        set_at = v_known.set_at,
        set_by = v_known.set_by
      where v.name = v_given.name;
    elsif outcome = 'pending' then
      remedy := 'retention policy confirm';
    else
      remedy := retention._how_to_set(v_given.name, v_given.value);
    end if;
    return next;
  end loop;
  perform retention._note_gate();
end
$$;

-- Variables and settings side by side: what the last process that started brought, or with p_given this process, and what the
-- database has. set_at, set_by: when and by whom a person last set it. remedy: what to do where they differ.
-- For observers.
-- Raises what configure raises.
create or replace function retention.variables(p_given jsonb default '{}')
returns table (
  name text,
  variable text,
  value text,
  stored text,
  differs boolean,
  brought_at timestamptz,
  set_at timestamptz,
  set_by text,
  remedy text
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
begin
  perform retention._check_settings('variables', p_given);
  return query
  select s.name,
    s.variable,
    g.value,
    s.value,
    d.differs,
    case when v.value = g.value then v.brought_at end,
    v.set_at,
    v.set_by,
    case
      when d.differs
      then format('to make the variable hold: %s; to keep what the database has: take %s away, or give it that value',
        rtrim(retention._how_to_set(s.name, g.value), ';'), s.variable)
    end
  from retention._stored_settings() s
  left join retention.variable v on v.name = s.name
  cross join lateral (select coalesce(nullif(p_given ->> s.name, ''), v.value) as value) g
  cross join lateral (
    select coalesce(retention._same_setting(s.name, g.value, s.value), false) is false as differs
  ) d
  where g.value is not null
  order by s.name;
end
$$;
