/*
Identity: which server, database and timeline this is, and which of them the schema was adopted in. A copy of the
database knows the same rows and would delete the same objects.
*/

-- What this database is, as far as the server tells: null where it does not. While a standby recovers it has no
-- timeline of its own.
create or replace function retention._identity_now()
returns table (system_identifier text, database_oid oid, database_name text, timeline integer)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  database_name := current_database();
  database_oid := (select d.oid from pg_database d where d.datname = database_name);
  -- A managed service may refuse either.
  begin
    system_identifier := (select s.system_identifier from pg_control_system() s);
  exception
    when others then
      system_identifier := null;
  end;
  begin
    -- Not of pg_control_checkpoint(): after a promotion that is the old one until the next checkpoint.
    if not pg_is_in_recovery() then
      timeline := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer;
    end if;
  exception
    when others then
      timeline := null;
  end;
  return next;
end
$$;

-- How what this database is differs from what was accepted; null: not at all. server, database, timeline: which of
-- them does. What was told before and is not told now differs too: that is another server, or one that has changed.
create or replace function retention._identity_differs()
returns table (server text, database text, timeline text)
language sql
stable
as $$
  select case
      when i.singleton is null then 'it does not know where it was adopted'
      when n.system_identifier is distinct from i.system_identifier then format(
        'it was adopted in the server %s, and this is the server %s',
        coalesce(i.system_identifier, 'that told no system identifier'),
        coalesce(n.system_identifier, 'that tells no system identifier')
      )
    end,
    case
      when n.database_oid <> i.database_oid then format(
        'it was adopted in the database %s (oid %s), and this is the database %s (oid %s)',
        i.database_name, i.database_oid, n.database_name, n.database_oid
      )
    end,
    case
      when not pg_is_in_recovery() and n.timeline is distinct from i.timeline then format(
        'the server is on timeline %s, and timeline %s was accepted: it was promoted, or recovered to a point in time',
        coalesce(n.timeline::text, 'unknown'), coalesce(i.timeline::text, 'unknown')
      )
    end
  from retention._identity_now() n
  left join retention.identity i on true
$$;

-- Why this database may be a copy of another one that goes on; no row: it is the one that was accepted.
create or replace function retention._copy_reason()
returns table (because text, since timestamptz, remedy text)
language plpgsql
stable
as $$
declare
  v_differs record;
  v_fence retention.fence;
begin
  select * into v_differs from retention._identity_differs();
  select * into v_fence from retention.fence;
  if num_nonnulls(v_differs.server, v_differs.database, v_differs.timeline, v_fence.lost_because) = 0 then
    return;
  end if;
  because := format(
    'this may be a copy of another database: %s',
    concat_ws('; ', v_differs.server, v_differs.database, v_differs.timeline, v_fence.lost_because)
  );
  since := v_fence.lost_at;
  remedy := 'retention fence accept, if this is the database that is to delete; it says what may be missing here. '
    || 'Otherwise stop its listeners and leave it as it is';
  if num_nonnulls(v_differs.server, v_differs.database, v_fence.lost_because) = 0 and v_fence.renewed_at is not null then
    remedy := 'wait: a listener accepts it by itself when it finds the fence in S3 as this database left it; '
      || 'where that does not come: retention fence accept';
  end if;
  return next;
end
$$;

-- Writes down what this database is, when the schema is first installed. Never again: a restored dump is installed
-- too, and must go on knowing where it comes from.
create or replace function retention._note_identity()
returns void
language sql
as $$
  insert into retention.identity (system_identifier, database_oid, database_name, timeline)
  select n.system_identifier, n.database_oid, n.database_name, n.timeline
  from retention._identity_now() n
  where not exists (select from retention.installed)
  on conflict (singleton) do nothing
$$;
