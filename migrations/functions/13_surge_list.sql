/*
What is set aside, as people see it.
*/

-- Why the results of a surge are set aside, in words.
create or replace function retention._why_set_aside(p_surge retention.surge)
returns text
language sql
stable
as $$
  select case
      when p_surge.seen_at is null then 'no walk over the results had been complete before, so everything that was due was found at once'
      else format(
        'they were due before %s, when the last complete walk began, and it did not find them: rows were changed since',
        retention._iso(p_surge.seen_at)
      )
    end
    || case p_surge.rule
      when 'tenant' then format('; more of a tenant than the %s late results that may come in 24 hours', s.surge_guard)
      else format('; more of all tenants together than the %s late results that may come in 24 hours', s.surge_guard_all)
    end
  from retention.setting s
$$;

-- Surges that are open, oldest first; p_all: closed ones too. results: how many are set aside now; found: how many
-- were when it was found; released: how many were released. seen_at: when the last complete walk before it began: its
-- results were due before then and unknown; null: there was none, so this is what an adoption found. state is one of:
-- counting (a walk is under way, and nothing of it can be released yet; it has no id), open, closed.
-- For observers.
create or replace function retention.list_surges(p_all boolean default false)
returns table (
  surge_id bigint,
  state text,
  found_at timestamptz,
  found_by text,
  seen_at timestamptz,
  results bigint,
  found bigint,
  released bigint,
  tenants bigint,
  oldest timestamptz,
  due_since timestamptz,
  because text,
  remedy text
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
as $$
  select s.surge_id,
    case when s.closed_at is null then 'open' else 'closed' end,
    s.found_at,
    s.found_by,
    s.seen_at,
    p.results,
    s.found,
    (select coalesce(sum(r.results), 0)::bigint from retention.surge_release r where r.surge_id = s.surge_id),
    s.tenants,
    p.oldest,
    p.due_since,
    retention._why_set_aside(s),
    case when s.closed_at is null then format('retention surge show %s', s.surge_id) end
  from retention.surge s
  cross join lateral (
    select coalesce(sum(x.results), 0)::bigint as results, min(x.oldest) as oldest, min(x.due_since) as due_since
    from retention.surge_part x
    where x.surge_id = s.surge_id
  ) p
  where p_all or s.closed_at is null
  union all
  select null, 'counting', p.parked_at, null, h.seen_at, p.results, p.results, 0, null, p.oldest, p.due_since,
    format('late results of a walk that began at %s and is not complete yet', retention._iso(h.walk_began_at)),
    'wait until it has been counted: the next ticks go on'
  from (
    select sum(x.results)::bigint as results, min(x.oldest) as oldest, min(x.due_since) as due_since,
      min(x.parked_at) as parked_at
    from retention.surge_part x
    where x.surge_id is null
    having sum(x.results) > 0
  ) p
  cross join retention.heartbeat h
  order by 1
$$;

-- One surge by tenant and bucket, the largest first: how many results are set aside, when the run of the oldest
-- completed, since when they have been due, and how many are due now and would go. run_ids: up to ten of them, and
-- because says why the first one was found late. It first looks at its results again: what has been undone leaves
-- the surge. It costs a probe for each result, or where they are many a reading of the table.
-- For observers.
-- Locks the surge.
-- Raises no_data_found for a surge that is not there.
create or replace function retention.show_surge(p_surge_id bigint)
returns table (
  tenant_id text,
  bucket text,
  results bigint,
  oldest timestamptz,
  due_since timestamptz,
  still_due bigint,
  run_ids text[],
  because text
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
set work_mem = '128MB'
as $$
#variable_conflict use_column
declare
  v_is_large boolean := retention._is_large_surge(p_surge_id);
begin
  if not exists (select from retention.surge s where s.surge_id = p_surge_id) then
    raise exception using
      errcode = 'no_data_found',
      message = format('there is no surge %s', p_surge_id),
      hint = 'See them with: retention surge list';
  end if;
  perform retention._review_surge(p_surge_id);
  if to_regclass('retention._live') is null then
    return query
    select u.tenant_id, p.bucket, count(*), min(p.oldest), min(p.due_since), null::bigint,
      (array_agg(u.run_id::text order by p.oldest, u.n))[1:10], 'the table is detached'
    from retention.surge_part p
    cross join lateral unnest(p.run_ids, p.tenants) with ordinality as u (run_id, tenant_id, n)
    where p.surge_id = p_surge_id
    group by u.tenant_id, p.bucket
    order by 3 desc, 1, 2;
    return;
  end if;
  return query
  with listed as materialized (
    select l.* from retention._surge_rows_at_once(p_surge_id) l where v_is_large
    union all
    select l.* from retention._surge_rows(p_surge_id) l where not v_is_large
  )
  select g.tenant_id, g.bucket, g.results, g.oldest, g.due_since, g.still_due, g.run_ids,
    (select e.because from retention.explain(g.run_ids[1]) e)
  from (
    select l.tenant_id, l.bucket, count(*) as results, min(l.completed_at) as oldest, min(l.due_at) as due_since,
      count(*) filter (where l.is_due) as still_due,
      (array_agg(l.run_id::text order by l.due_at, l.run_id))[1:10] as run_ids
    from listed l
    group by l.tenant_id, l.bucket
    order by count(*) desc, l.tenant_id, l.bucket
  ) g;
end
$$;

-- Who released what of which surge, the newest first. For observers.
create or replace function retention.list_releases(p_surge_id bigint default null)
returns table (surge_id bigint, tenant_id text, results bigint, released_at timestamptz, released_by text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select r.surge_id, r.tenant_id, r.results, r.released_at, r.released_by
  from retention.surge_release r
  where p_surge_id is null or r.surge_id = p_surge_id
  order by r.released_at desc
$$;

-- The part that a run is set aside in; no row: in none.
create or replace function retention._part_of(p_run_id retention.run_id)
returns setof retention.surge_part
language sql
stable
rows 1
as $$
  select p.*
  from retention.surge_part p
  where p_run_id = any (p.run_ids)
  order by p.part_id
  limit 1
$$;
