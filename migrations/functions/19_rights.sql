/*
Rights, from the catalog: what does not begin with an underscore is the SQL interface, and the role that the
adapter names may use it. Nothing here is open to PUBLIC.
*/

-- Every function, table and view of the schema, the privilege that the listener's role gets on it, and whether it
-- belongs to the SQL interface (is_public): what begins with an underscore, or changes the schema itself, does not.
create or replace function retention._interface()
returns table (kind text, oid oid, name text, signature text, privilege text, is_public boolean)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select 'function',
    p.oid,
    format('function retention.%I', p.proname),
    format('function %s', p.oid::regprocedure),
    'execute',
    p.proname !~ '^_'
      and p.prorettype <> 'trigger'::regtype
      and p.proname not in ('detach', 'attach', 'grant_rights', 'accept_fence')
  from pg_proc p
  where p.pronamespace = 'retention'::regnamespace
  union all
  select 'relation',
    c.oid,
    format('retention.%I', c.relname),
    c.oid::regclass::text,
    'select',
    c.relname !~ '^_'
  from pg_class c
  where c.relnamespace = 'retention'::regnamespace
    and c.relkind in ('r', 'v')
$$;

-- Revokes everything from PUBLIC and gives the recorded role its rights: to look at tables and views, and to call
-- the functions of the interface. The rest stays with the owner. Runs as the role that migrates.
create or replace function retention._grant_rights()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_adapter retention.adapter;
  v_role text;
  v_object record;
begin
  revoke all on all functions in schema retention from public;
  revoke all on all tables in schema retention from public;
  select * into v_adapter from retention.adapter;
  v_role := v_adapter.listener_role;
  -- The job of a pg_cron in another database may run as a role that owns nothing here.
  if v_adapter.cron_database is not null
    and exists (select from pg_roles where rolname = v_adapter.cron_job_owner)
  then
    execute format('grant usage on schema retention to %I', v_adapter.cron_job_owner);
    execute format('grant execute on function retention.tick(text) to %I', v_adapter.cron_job_owner);
  end if;
  if v_role is null then
    return;
  end if;
  perform retention._check_role(v_role);
  execute format('grant usage on schema retention to %I', v_role);
  for v_object in
    select i.signature, i.privilege, i.is_public
    from retention._interface() i
  loop
    execute format('revoke all on %s from %I', v_object.signature, v_role);
    if v_object.is_public then
      execute format('grant %s on %s to %I', v_object.privilege, v_object.signature, v_role);
    end if;
  end loop;
end
$$;

-- Gives p_role the listener's rights and remembers the role. Each installation grants them again.
-- For the owner of the schema.
-- Locks the row of retention.adapter.
-- Raises undefined_object for a role that is not there.
create or replace function retention.grant_rights(p_role text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform retention._check_role(p_role);
  update retention.adapter set listener_role = p_role;
  perform retention._grant_rights();
end
$$;
