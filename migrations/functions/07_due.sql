/*
Reading what is past its policy: tenant by tenant, oldest first, in the order of one index. The index has no run ids: results
of one moment are read together and sorted.
*/

-- The results of one tenant past a cutoff, oldest first, with what the rules make of each.
-- p_after_*: where to go on from (null: from the oldest). Reads at most p_limit rows of one index
-- range. A row may be without a run id. Without settings of its own, so that it becomes a part of the statement
-- that names it: that statement takes care that no plan that sorts or reads the table looks cheaper.
create or replace function retention._past(
  p_tenant_id retention.tenant_id,
  p_after_completed_at timestamptz,
  p_after_run_id retention.run_id,
  p_before timestamptz,
  p_limit bigint
)
returns table (
  run_id retention.run_id,
  tenant_id text,
  bucket text,
  key text,
  completed_at timestamptz,
  retain_until timestamptz,
  due_at timestamptz,
  held boolean,
  is_due boolean,
  has_place boolean
)
language sql
stable
rows 1000
as $$
  -- A comparison of rows with a null at its end is still decided by its first pair, and still a range
  -- of the index.
  (
    select r.run_id::retention.run_id,
      r.tenant_id::text,
      r.bucket::text,
      r.key::text,
      r.completed_at,
      r.retain_until::timestamptz,
      r.due_at,
      r.held,
      r.is_due,
      r.has_place
    from retention._live r
    where r.tenant_id = p_tenant_id
      and r.is_candidate
      and r.completed_at < p_before
      and (r.completed_at, r.run_id) > (coalesce(p_after_completed_at, '-infinity'), p_after_run_id)
    order by r.tenant_id, r.completed_at, r.run_id
    limit p_limit
  )
  union all
  (
    select r.run_id::retention.run_id,
      r.tenant_id::text,
      r.bucket::text,
      r.key::text,
      r.completed_at,
      r.retain_until::timestamptz,
      r.due_at,
      r.held,
      r.is_due,
      r.has_place
    from retention._live r
    where p_tenant_id is null
      and r.tenant_id is null
      and r.is_candidate
      and r.completed_at < p_before
      and (r.completed_at, r.run_id) > (coalesce(p_after_completed_at, '-infinity'), p_after_run_id)
    order by r.tenant_id, r.completed_at, r.run_id
    limit p_limit
  )
$$;

-- When the first of what _past returns completed; no row: there is none. Asked of each tenant in each part of a pass, so
-- that it sorts nothing.
create or replace function retention._first_past(
  p_tenant_id retention.tenant_id,
  p_after_completed_at timestamptz,
  p_after_run_id retention.run_id,
  p_before timestamptz
)
returns table (completed_at timestamptz)
language sql
stable
rows 1
as $$
  (
    select r.completed_at
    from retention._live r
    where r.tenant_id = p_tenant_id
      and r.is_candidate
      and r.completed_at < p_before
      and (r.completed_at, r.run_id) > (coalesce(p_after_completed_at, '-infinity'), p_after_run_id)
    order by r.tenant_id, r.completed_at
    limit 1
  )
  union all
  (
    select r.completed_at
    from retention._live r
    where p_tenant_id is null
      and r.tenant_id is null
      and r.is_candidate
      and r.completed_at < p_before
      and (r.completed_at, r.run_id) > (coalesce(p_after_completed_at, '-infinity'), p_after_run_id)
    order by r.tenant_id, r.completed_at
    limit 1
  )
$$;

-- The tenants that have results not yet cleared, and null where some have none: one index probe per tenant.
create or replace function retention._tenant_ids()
returns setof retention.tenant_id
language plpgsql
stable
rows 100
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set max_parallel_workers_per_gather = 0
set jit = off
as $$
begin
  return query
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
  union all
  select null::retention.tenant_id
  where exists (
    select
    from retention._live r
    where r.is_candidate
      and r.tenant_id is null
  );
end
$$;

-- The tenants that have results not yet cleared, with the policy in force for each: one index probe
-- per tenant. A tenant under a hold is left out.
create or replace function retention._tenants()
returns table (tenant_id retention.tenant_id, tenant_key text, retain interval)
language plpgsql
stable
rows 100
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
  select n.tenant_id,
    retention._tenant_key(n.tenant_id::text),
    coalesce(p.retain, d.retain)
  from retention._tenant_ids() as n (tenant_id)
  join retention.policy d on d.tenant_id = '*'
  left join retention.policy p on p.tenant_id = n.tenant_id::text
    and p.tenant_id <> '*'
  where not exists (
    select
    from retention.hold h
    where h.tenant_id = n.tenant_id::text
      and retention._hold_end(h.released_at, h.expires_at) > now()
  );
end
$$;

-- The flagged results that completed between two points in time (as they were flagged), dead ones too.
create or replace function retention._flagged_between(p_from timestamptz, p_to timestamptz)
returns setof retention.run_id
language sql
stable
rows 1000
as $$
  select unnest(b.run_ids)
  from retention.batch b
  where b.settled_at is null
    and b.oldest <= p_to
    and b.newest >= p_from
$$;

-- The results that are set aside and completed between two points in time: see 07_late.
create or replace function retention._set_aside_between(p_from timestamptz, p_to timestamptz)
returns setof retention.run_id
language sql
stable
rows 1000
as $$
  select unnest(p.run_ids)
  from retention.surge_part p
  where p.oldest <= p_to
    and p.newest >= p_from
$$;

-- What _flagged_between returns, and what is set aside: no pass takes either again.
create or replace function retention._known_between(p_from timestamptz, p_to timestamptz)
returns setof retention.run_id
language sql
stable
rows 1000
as $$
  select f.run_id from retention._flagged_between(p_from, p_to) as f (run_id)
  union all
  select a.run_id from retention._set_aside_between(p_from, p_to) as a (run_id)
$$;

-- The row after a point of a tenant's line, without a look at what the rules make of it: how a row that cannot
-- be read is passed by. No row: there is none.
create or replace function retention._row_after(
  p_tenant_id retention.tenant_id,
  p_after_completed_at timestamptz,
  p_after_run_id retention.run_id,
  p_before timestamptz
)
returns table (completed_at timestamptz, run_id retention.run_id)
language plpgsql
stable
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
begin
  if p_tenant_id is null then
    return query
    select r.completed_at, r.run_id::retention.run_id
    from retention._live r
    where r.tenant_id is null
      and r.is_candidate
      and r.completed_at < p_before
      and (r.completed_at, r.run_id) > (coalesce(p_after_completed_at, '-infinity'), p_after_run_id)
    order by r.tenant_id, r.completed_at, r.run_id
    limit 1;
  else
    return query
    select r.completed_at, r.run_id::retention.run_id
    from retention._live r
    where r.tenant_id = p_tenant_id
      and r.is_candidate
      and r.completed_at < p_before
      and (r.completed_at, r.run_id) > (coalesce(p_after_completed_at, '-infinity'), p_after_run_id)
    order by r.tenant_id, r.completed_at, r.run_id
    limit 1;
  end if;
end
$$;

-- Whether an object is known to be needed by a run that is not due: its results are not flagged before that run is.
create or replace function retention._is_known_shared(p_bucket text, p_key text)
returns boolean
language sql
stable
as $$
  select exists (
    select
    from retention.shared_object o
    where o.bucket = p_bucket
      and o.key = p_key collate "C"
      and o.until > now()
  )
$$;

-- The moment before which what is due and unknown is late. -infinity: there is no guard, and nothing is late.
-- infinity: no walk has been complete yet.
create or replace function retention._seen()
returns timestamptz
language sql
stable
as $$
  select case when s.surge_guard is null then '-infinity' else coalesce(h.seen_at, 'infinity') end
  from retention.setting s
  cross join retention.heartbeat h
$$;

-- The same for one tenant. No walk saw what a hold on it covered, and what comes back after its end comes over
-- setting.release_spread: until a walk has begun after that, walks have seen nothing later than that end.
create or replace function retention._seen_of(p_tenant_id text)
returns timestamptz
language sql
stable
as $$
  select case when e.ended > n.seen_at - s.release_spread then least(n.seen_at, e.ended) else n.seen_at end
  from retention.setting s
  cross join retention._seen() as n (seen_at)
  cross join (
    select max(retention._hold_end(h.released_at, h.expires_at)) as ended
    from retention.hold h
    where h.tenant_id = p_tenant_id
      and retention._hold_end(h.released_at, h.expires_at) <= now()
  ) e
$$;

-- The tenants that a pass looks at, each with the policy's cutoff, where its progress stands, and the moment before
-- which what is due and unknown is late. p_tenant_keys: of these only (null: of all).
create or replace function retention._lines(p_tenant_keys text[])
returns table (
  tenant_id retention.tenant_id,
  tenant_key text,
  before timestamptz,
  after_completed_at timestamptz,
  after_run_id retention.run_id,
  seen_at timestamptz
)
language sql
stable
rows 100
as $$
  select t.tenant_id,
    t.tenant_key,
    now() - retention._in_seconds(t.retain),
    g.completed_at,
    g.run_id,
    case
      when (select exists (select from retention.hold h where h.tenant_id is not null))
      then retention._seen_of(t.tenant_id::text)
      else (select retention._seen())
    end
  from retention._tenants() t
  left join retention.progress g on g.tenant_key = t.tenant_key
  where p_tenant_keys is null
    or t.tenant_key = any (p_tenant_keys)
$$;
