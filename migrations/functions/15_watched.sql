/*
Which tenants a status looks at: all of them as long as they are few, and else those of which something waits or comes
next. So it costs the same with any number of tenants.
*/

-- How many tenants a status looks at, at most. Each costs it a few probes of one index.
create or replace function retention._most_watched()
returns integer
language sql
immutable
parallel safe
return 250;

-- At most p_most of the tenants that have results not yet cleared: null where some have none, and the first by name. One
-- index probe for each.
create or replace function retention._some_tenant_ids(p_most integer)
returns setof retention.tenant_id
language plpgsql
stable
rows 250
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set max_parallel_workers_per_gather = 0
set jit = off
as $$
begin
  return query
  select null::retention.tenant_id
  where exists (
    select
    from retention._live r
    where r.is_candidate
      and r.tenant_id is null
  )
  union all
  (
    -- Read no further than its limit.
    with recursive name(tenant_id) as (
      (
        select r.tenant_id
        from retention._live r
        where r.is_candidate
          and r.tenant_id is not null
        order by r.tenant_id
        limit 1
      )
      union all
      select (
        select r.tenant_id
        from retention._live r
        where r.is_candidate
          and r.tenant_id > n.tenant_id
        order by r.tenant_id
        limit 1
      )
      from name n
      where n.tenant_id is not null
    )
    select n.tenant_id::retention.tenant_id
    from name n
    where n.tenant_id is not null
    limit p_most
  )
  limit p_most;
end
$$;

-- At most p_most of the tenants that have results not yet cleared, each with its policy, where its progress stands, and
-- whether a hold covers it. is_all: there are no others. Where there are, they are those of which a result has fallen due
-- since the last pass or falls due next, those of the oldest batches and of what is set aside, and the first by name.
create or replace function retention._watched(p_most integer default retention._most_watched())
returns table (
  tenant_id retention.tenant_id,
  tenant_key text,
  retain interval,
  seen_completed_at timestamptz,
  seen_run_id retention.run_id,
  is_held boolean,
  is_all boolean
)
language plpgsql
stable
rows 250
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_hashjoin = off
set enable_mergejoin = off
set max_parallel_workers_per_gather = 0
set jit = off
as $$
#variable_conflict use_column
declare
  v_ids retention.tenant_id[];
  v_is_all boolean;
begin
  v_is_all := (select count(*) from (select from retention.ahead limit p_most + 1) a) <= p_most;
  if v_is_all then
    v_ids := array(select i from retention._some_tenant_ids(p_most + 1) i);
    v_is_all := cardinality(v_ids) <= p_most;
  end if;
  if not v_is_all then
    v_ids := array(
      select case when c.tenant_key <> '' then substr(c.tenant_key, 2) end::retention.tenant_id
      from (
        (select a.tenant_key, 1 as place from retention.ahead a order by a.due_at limit p_most / 2)
        union all
        (
          select retention._tenant_key(u.tenant_id), 2
          from (
            (select b.tenants from retention.batch b where b.settled_at is null order by b.oldest limit 1)
            union all
            (select p.tenants from retention.surge_part p order by p.oldest limit 1)
          ) o
          cross join lateral unnest(o.tenants) as u (tenant_id)
        )
        union all
        (select a.tenant_key, 3 from retention.ahead a order by a.due_at limit p_most)
        union all
        select retention._tenant_key(i::text), 4 from unnest(v_ids) i
      ) c
      group by c.tenant_key
      order by min(c.place)
      limit p_most
    );
  end if;
  return query
  select i.tenant_id,
    retention._tenant_key(i.tenant_id::text),
    coalesce(p.retain, d.retain),
    g.completed_at,
    g.run_id,
    exists (
      select
      from retention.hold h
      where h.tenant_id = i.tenant_id::text
        and retention._hold_end(h.released_at, h.expires_at) > now()
    ),
    v_is_all
  from unnest(v_ids) as i (tenant_id)
  join retention.policy d on d.tenant_id = '*'
  left join retention.policy p on p.tenant_id = i.tenant_id::text
    and p.tenant_id <> '*'
  left join retention.progress g on g.tenant_key = retention._tenant_key(i.tenant_id::text);
end
$$;

-- What is flagged and set aside of what completed between two points in time (as it was flagged), of the five oldest
-- batches and the five oldest parts of that time. horizon: of what completed from then on nothing is known. However large
-- the backlog, it reads a few thousand run ids.
create or replace function retention._known_first(p_from timestamptz, p_to timestamptz)
returns table (is_flagged boolean, run_ids retention.run_id[], horizon timestamptz)
language sql
stable
rows 20
as $$
  with overlapping as materialized (
    (
      select true as is_flagged, b.oldest, b.run_ids, row_number() over (order by b.oldest) as place
      from retention.batch b
      where b.settled_at is null
        and b.oldest <= p_to
        and b.newest >= p_from
      order by b.oldest
      limit 6
    )
    union all
    (
      select false, p.oldest, p.run_ids, row_number() over (order by p.oldest)
      from retention.surge_part p
      where p.oldest <= p_to
        and p.newest >= p_from
      order by p.oldest
      limit 6
    )
  )
  select o.is_flagged,
    case when o.place <= 5 then o.run_ids end,
    case when o.place > 5 then o.oldest end
  from overlapping o
$$;

-- The results past a cutoff of some stretches of tenants' lines, oldest first and at most p_limit of each: what _past
-- returns, for many at once by one kept plan. A stretch is tenant_ids[i] after (after_completed_at[i], after_run_ids[i])
-- and before befores[i]; place is i.
create or replace function retention._past_each(
  p_tenant_ids retention.tenant_id[],
  p_after_completed_at timestamptz[],
  p_after_run_ids retention.run_id[],
  p_befores timestamptz[],
  p_limit bigint
)
returns table (
  place bigint,
  run_id retention.run_id,
  bucket text,
  key text,
  completed_at timestamptz,
  due_at timestamptz,
  is_due boolean,
  has_place boolean
)
language plpgsql
stable
rows 1000
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_hashjoin = off
set enable_mergejoin = off
set max_parallel_workers_per_gather = 0
set jit = off
as $$
#variable_conflict use_column
begin
  return query
  select s.place, r.run_id::retention.run_id, r.bucket::text, r.key::text, r.completed_at, r.due_at, r.is_due, r.has_place
  from unnest(p_tenant_ids, p_after_completed_at, p_after_run_ids, p_befores) with ordinality
    as s (tenant_id, after_completed_at, after_run_id, before, place)
  cross join lateral (
    select l.run_id, l.bucket, l.key, l.completed_at, l.due_at, l.is_due, l.has_place
    from retention._live l
    where l.tenant_id = s.tenant_id
      and l.is_candidate
      and l.completed_at < s.before
      and (l.completed_at, l.run_id) > (coalesce(s.after_completed_at, '-infinity'), s.after_run_id)
    order by l.tenant_id, l.completed_at, l.run_id
    limit p_limit
  ) r;
  if array_position(p_tenant_ids, null) is null then
    return;
  end if;
  return query
  select s.place, r.run_id, r.bucket, r.key, r.completed_at, r.due_at, r.is_due, r.has_place
  from unnest(p_tenant_ids, p_after_completed_at, p_after_run_ids, p_befores) with ordinality
    as s (tenant_id, after_completed_at, after_run_id, before, place)
  cross join lateral retention._past(null, s.after_completed_at, s.after_run_id, s.before, p_limit) r
  where s.tenant_id is null;
end
$$;
