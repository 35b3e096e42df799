/*
Readable: what an application asks that must not show a result any more once it is past its retention, whether or not
it is gone yet.
*/

-- Of runs, those whose result is live and stays so for now: it was not cleared, it is not due or a hold keeps it, and
-- no request to delete it is on its way. One probe by run id for each, and what is leased.
create or replace function retention._readable(p_run_ids retention.run_id[])
returns setof retention.run_id
language plpgsql
stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
begin
  return query
  with going as materialized (
    -- In flight, also after a lease has run out, or deleted and not yet stamped; and what a person asked to go early.
    select unnest(b.run_ids) as run_id
    from retention.batch b
    where b.lease is not null
    union all
    select unnest(b.run_ids)
    from retention.batch b
    where b.deleted_at is not null
      and b.settled_at is null
    union all
    select unnest(u.run_ids)
    from retention.unanswered u
    where u.until > now()
    union all
    select unnest(b.run_ids)
    from retention.batch b
    where (select exists (select from retention.cutoff c where c.until > now()))
      and b.settled_at is null
      and b.early is not null
      and retention._has_command(b.flagged_at)
  )
  select l.run_id::retention.run_id
  from retention._live l
  where l.run_id = any (p_run_ids)
    and l.run_id not in (select g.run_id from going g)
  group by l.run_id
  having not bool_or(l.is_due);
end
$$;

-- Whether an application may still show the result of a run: false once it is due, flagged early, being deleted or
-- cleared; true while it is live, also while a hold keeps it, and for a run that has no result yet. Null for a run
-- that is not there, for what cannot be a run id, and while the table is detached. One probe by run id.
-- For readers.
create or replace function retention.is_readable(p_run_id text)
returns boolean
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run_id retention.run_id := retention._run_id_or_null(p_run_id);
begin
  if v_run_id is null or to_regclass('retention._live') is null then
    return null;
  end if;
  if exists (select from retention._readable(array[v_run_id]::retention.run_id[])) then
    return true;
  end if;
  return case when exists (select from retention.result r where r.run_id = v_run_id) then false end;
end
$$;

-- Of runs, those that is_readable says true of, for lists: where run_id in (select * from retention.readable(...)).
-- What cannot be a run id is passed by. For the whole list it looks once at what is being deleted.
-- For readers.
create or replace function retention.readable(p_run_ids text[])
returns setof text
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass('retention._live') is null then
    return;
  end if;
  return query
  select r::text
  from retention._readable(
    array(
      select i.run_id
      from (select retention._run_id_or_null(x.id) as run_id from unnest(p_run_ids) as x (id)) i
      where i.run_id is not null
    )::retention.run_id[]
  ) r;
end
$$;
