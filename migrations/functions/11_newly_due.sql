/*
The preview of a policy: how many results it would make due at once. Few are counted by index, tenant by tenant, and many
as one aggregate over the table.
*/

-- What preview_policy returns, tenant by tenant in the order of an index. p_tenant_id: as policies name it.
create or replace function retention._preview_by_tenant(p_tenant_id text, p_retain interval)
returns table (tenant_id text, results bigint)
language plpgsql
stable
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
  select t.tenant_id::text, c.results
  from retention._tenants() t
  left join retention.policy p on p.tenant_id = t.tenant_id::text
    and p.tenant_id <> '*'
  cross join lateral (
    select count(*) as results
    from retention._past(
      t.tenant_id, now() - retention._in_seconds(t.retain), null, now() - retention._in_seconds(p_retain), null
    ) r
    where not r.held
      and coalesce(r.retain_until, '-infinity') < now()
      -- Not yet due, and flagged nevertheless: only with a cutoff that a person confirmed.
      and r.run_id not in (
        select unnest(b.run_ids)
        from retention.batch b
        where b.settled_at is null
          and b.early is not null
      )
  ) c
  where p_retain < t.retain
    and (t.tenant_id::text = p_tenant_id or p_tenant_id = '*' and p.tenant_id is null)
    and c.results > 0;
end
$$;

-- Whether a policy concerns more results than are counted by index.
create or replace function retention._is_wide_preview(p_tenant_id text, p_retain interval)
returns boolean
language plpgsql
stable
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_hashjoin = off
set enable_mergejoin = off
set max_parallel_workers_per_gather = 0
set jit = off
as $$
declare
  v_few bigint := retention._few_results();
begin
  return (
    select count(*) > v_few
    from (
      select
      from retention._tenants() t
      left join retention.policy p on p.tenant_id = t.tenant_id::text
        and p.tenant_id <> '*'
      cross join lateral retention._past(
        t.tenant_id, now() - retention._in_seconds(t.retain), null, now() - retention._in_seconds(p_retain), v_few + 1
      ) r
      where p_retain < t.retain
        and (t.tenant_id::text = p_tenant_id or p_tenant_id = '*' and p.tenant_id is null)
      limit v_few + 1
    ) s
  );
end
$$;

-- What preview_policy returns, as one aggregate over the table. Where no hold is in force, none is looked up, which
-- lets Postgres read the table in parallel: see _look_source.
create or replace function retention._preview_at_once(p_tenant_id text, p_retain interval)
returns table (tenant_id text, results bigint)
language plpgsql
stable
set enable_nestloop = off
set enable_sort = off
set jit = off
set work_mem = '128MB'
as $$
begin
  return query execute
    'select r.tenant_id::text, count(*)
    from retention._live r
    where r.is_candidate
      and r.completed_at < $1
      and r.completed_at > $2
      and $3 < r.retain
      and r.completed_at > now() - retention._in_seconds(r.retain)
      and coalesce(r.retain_until, ''-infinity'') < now()'
    || case
      when p_tenant_id = '*'
      then ' and $4 is null
        and not exists (select from retention.policy p where p.tenant_id = r.tenant_id::text and p.tenant_id <> ''*'')'
      else ' and r.tenant_id = $4'
    end
    || case when retention._may_hold() then ' and not r.held' else '' end
    || case
      when exists (select from retention.batch b where b.settled_at is null and b.early is not null)
      then ' and not exists (
        select
        from retention.batch b
        cross join unnest(b.run_ids) as u (run_id)
        where b.settled_at is null
          and b.early is not null
          and u.run_id = r.run_id
      )'
      else ''
    end
    || ' group by r.tenant_id::text'
  using now() - retention._in_seconds(p_retain),
    now() - (select max(retention._in_seconds(p.retain)) from retention.policy p),
    p_retain,
    case when p_tenant_id <> '*' then p_tenant_id end::retention.tenant_id;
end
$$;

-- How many live results a policy would make due at once that are not due now, by tenant. p_tenant_id: a
-- tenant, or '*' for all tenants without a policy of their own. It reads the rows that it counts and changes
-- nothing.
-- For operators.
-- Raises invalid_parameter_value for what cannot be a tenant id.
create or replace function retention.preview_policy(p_tenant_id text, p_retain interval)
returns table (tenant_id text, results bigint)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  v_tenant_id text := retention._policy_tenant(p_tenant_id);
begin
  if retention._is_wide_preview(v_tenant_id, p_retain) then
    begin
      return query select c.* from retention._preview_at_once(v_tenant_id, p_retain) c;
      return;
    exception
      when others then
        -- A row that the policy does not concern may be one that cannot be read.
        if retention._is_passing(sqlstate) then
          raise;
        end if;
    end;
  end if;
  return query select c.* from retention._preview_by_tenant(v_tenant_id, p_retain) c;
end
$$;

-- The sum of preview_policy.
create or replace function retention._newly_due(p_tenant_id text, p_retain interval)
returns bigint
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(sum(n.results), 0)::bigint
  from retention.preview_policy(p_tenant_id, p_retain) n
$$;
