/*
Rights, from the catalog: the contract above a function says which role it is for, and a role may use what is for
it and for those below it. A reader is below an observer, that is below the listener, and that below an operator.
What begins with an underscore is granted to no role, and nothing is open to PUBLIC.
*/

-- Every function, table and view of the schema, the privilege that a role gets on it, and the least role that it is
-- for: reader, observer, listener or operator; null: for the owner alone.
create or replace function retention._interface()
returns table (kind text, oid oid, name text, signature text, privilege text, least_role text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select 'function',
    p.oid,
    format('function retention.%I', p.proname),
    format('function %s', p.oid::regprocedure),
    'execute',
    case
      when p.proname ~ '^_' or p.prorettype = 'trigger'::regtype then null
      else (
        select max(w.least_role)
        from (values ('readers', 'reader'), ('observers', 'observer'), ('the listener', 'listener'), ('operators', 'operator'))
          as w (word, least_role)
        where obj_description(p.oid, 'pg_proc')
          ~ ('(^|\s)For ' || replace(w.word, ' ', '\s+') || '\.(\s|$)')
        -- A contract that names two roles names none.
        having count(*) = 1
      )
    end
  from pg_proc p
  where p.pronamespace = 'retention'::regnamespace
  union all
  select 'relation',
    c.oid,
    format('retention.%I', c.relname),
    c.oid::regclass::text,
    'select',
    case when c.relname !~ '^_' then 'observer' end
  from pg_class c
  where c.relnamespace = 'retention'::regnamespace
    and c.relkind in ('r', 'v')
$$;

-- Whether what is for p_least_role is also for p_kind.
create or replace function retention._serves(p_kind text, p_least_role text)
returns boolean
language sql
immutable
as $$
  select coalesce(
    array_position('{reader, observer, listener, operator}'::text[], p_least_role)
      <= array_position('{reader, observer, listener, operator}'::text[], p_kind),
    false
  )
$$;

-- The recorded roles, each once, with the highest kind that it was recorded as.
create or replace function retention._recorded_roles()
returns table (role text, kind text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select distinct on (r.role) r.role, r.kind
  from retention.adapter a
  cross join lateral (
    select a.operator_role, 'operator', 1
    union all
    select a.listener_role, 'listener', 2
    union all
    select a.observer_role, 'observer', 3
    union all
    select u.role, 'reader', 4
    from unnest(a.reader_roles) as u (role)
  ) as r (role, kind, place)
  where r.role is not null
  order by r.role, r.place
$$;

-- Gives one role the rights of its kind, and takes every other right on this schema away from it. The owner keeps
-- its own.
create or replace function retention._grant_to(p_role text, p_kind text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_object record;
begin
  if p_role = (select pg_get_userbyid(n.nspowner) from pg_namespace n where n.nspname = 'retention') then
    return;
  end if;
  execute format('revoke create on schema retention from %I', p_role);
  execute format('revoke all on all sequences in schema retention from %I', p_role);
  if p_kind is null then
    execute format('revoke all on schema retention from %I', p_role);
  else
    execute format('grant usage on schema retention to %I', p_role);
  end if;
  for v_object in
    select i.signature, i.privilege, i.least_role
    from retention._interface() i
  loop
    execute format('revoke all on %s from %I', v_object.signature, p_role);
    if retention._serves(p_kind, v_object.least_role) then
      execute format('grant %s on %s to %I', v_object.privilege, v_object.signature, p_role);
    end if;
  end loop;
end
$$;

-- Revokes everything from PUBLIC and gives the recorded roles their rights: to look at tables and views, and to call
-- the functions that are for them. The rest stays with the owner. Runs as the role that migrates.
create or replace function retention._grant_rights()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_adapter retention.adapter;
  v_recorded record;
begin
  revoke all on all functions in schema retention from public;
  revoke all on all tables in schema retention from public;
  select * into v_adapter from retention.adapter;
  for v_recorded in select r.role, r.kind from retention._recorded_roles() r loop
    -- A reader that was dropped since is no reason to stop a migration.
    continue when v_recorded.kind = 'reader'
      and not exists (select from pg_roles where rolname = v_recorded.role);
    perform retention._check_role(v_recorded.role, format('RETENTION_%sROLE', case v_recorded.kind
      when 'operator' then 'OPERATOR_'
      when 'observer' then 'OBSERVER_'
      else ''
    end));
    perform retention._grant_to(v_recorded.role, v_recorded.kind);
  end loop;
  -- The job of a pg_cron in another database may run as a role that owns nothing here.
  if v_adapter.cron_database is not null
    and exists (select from pg_roles where rolname = v_adapter.cron_job_owner)
  then
    execute format('grant usage on schema retention to %I', v_adapter.cron_job_owner);
    execute format('grant execute on function retention.tick(text) to %I', v_adapter.cron_job_owner);
  end if;
end
$$;

-- Gives p_role the rights of p_kind and remembers it: listener (the cycle), operator (also holds, policies, early
-- and narrowed work, verify, orphans, restore, release), observer (looks), or reader (an application that asks
-- which results may be read; there may be several). Rights of another kind that it had are taken away. Each
-- installation grants them again. Of a role that was recorded before in its place, the rights stay: see revoke_rights.
-- For the owner of the schema.
-- Locks the row of retention.adapter.
-- Raises undefined_object for a role that is not there, and invalid_parameter_value for another kind.
create or replace function retention.grant_rights(p_role text, p_kind text default 'listener')
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if retention._serves(p_kind, 'reader') is not true then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected listener, operator, observer or reader, given: %s', coalesce(left(p_kind, 100), 'null'));
  end if;
  if coalesce(p_role, '') = '' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected the name of a role, given: %s', coalesce(p_role, 'null'));
  end if;
  perform retention._check_role(p_role, 'grant_rights');
  update retention.adapter
  set listener_role = case when p_kind = 'listener' then p_role else nullif(listener_role, p_role) end,
    operator_role = case when p_kind = 'operator' then p_role else nullif(operator_role, p_role) end,
    observer_role = case when p_kind = 'observer' then p_role else nullif(observer_role, p_role) end,
    reader_roles = array_remove(reader_roles, p_role)
      || case when p_kind = 'reader' then array[p_role] else '{}'::text[] end;
  perform retention._grant_rights();
end
$$;

-- Takes every right on this schema away from p_role and forgets it, whatever its kind was.
-- For the owner of the schema.
-- Locks the row of retention.adapter.
-- Raises undefined_object for a role that is not there.
create or replace function retention.revoke_rights(p_role text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform retention._check_role(p_role, 'revoke_rights');
  update retention.adapter
  set listener_role = nullif(listener_role, p_role),
    operator_role = nullif(operator_role, p_role),
    observer_role = nullif(observer_role, p_role),
    reader_roles = array_remove(reader_roles, p_role);
  perform retention._grant_to(p_role, null);
end
$$;

-- The recorded roles, and the owner of the schema first. may: owner, operator, listener, observer or reader. lacks:
-- what is missing of it. exceeds: what it may beyond it, also as a member of another role or as a superuser; for
-- each at most ten. Reads catalogs.
-- For observers.
create or replace function retention.list_roles()
returns table (role text, may text, lacks text[], exceeds text[])
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select pg_get_userbyid(s.nspowner)::text, 'owner', '{}'::text[], '{}'::text[]
  from pg_namespace s
  where s.nspname = 'retention'
  union all
  (
    select r.role,
      r.kind,
      coalesce((array_agg(i.name order by i.name) filter (where i.is_for and not i.may))[:10], '{}'),
      coalesce((array_agg(i.name order by i.name) filter (where not i.is_for and i.may))[:10], '{}')
    from retention._recorded_roles() r
    join pg_roles p on p.rolname = r.role
    cross join lateral (
      select i.name,
        retention._serves(r.kind, i.least_role) as is_for,
        case i.kind
          when 'function' then has_function_privilege(p.oid, i.oid, 'execute')
          else has_table_privilege(p.oid, i.oid, 'select')
        end as may
      from retention._interface() i
    ) i
    where r.role <> (select pg_get_userbyid(n.nspowner) from pg_namespace n where n.nspname = 'retention')
    group by r.role, r.kind
    order by array_position('{operator, listener, observer, reader}'::text[], r.kind), r.role
  )
$$;
