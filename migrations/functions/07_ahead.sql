/*
What lies ahead: when the first result of a tenant falls due that no pass has looked at. A status with more tenants than it
can look at begins with those whose time has come.
*/

-- Notes it for the tenants of which a pass that found no more has passed what was noted. Costs one probe for each of
-- them, and none for a tenant of which nothing was due. A row that cannot be read leaves what was noted, and fails no pass.
-- Called by flag_expired, under its settings.
create or replace function retention._note_ahead()
returns void
language plpgsql
as $$
begin
  with passed as materialized (
    select a.tenant_key
    from retention.ahead a
    where a.due_at <= now()
    union
    select g.tenant_key
    from retention.progress g
    where not exists (select from retention.ahead a where a.tenant_key = g.tenant_key)
  ),
  next as materialized (
    select t.tenant_key,
      -- A date so late that nothing can be added to it is no error.
      case
        when n.completed_at is not null
        then least(n.completed_at, timestamptz '290000-01-01 00:00Z') + retention._in_seconds(coalesce(p.retain, d.retain))
      end as due_at
    from passed t
    join retention.policy d on d.tenant_id = '*'
    left join retention.policy p on p.tenant_id = substr(t.tenant_key, 2)
      and p.tenant_id <> '*'
    left join retention.progress g on g.tenant_key = t.tenant_key
    left join lateral (
      (
        select r.completed_at
        from retention._live r
        -- The empty key may be no tenant's text: no cast is to see it.
        where r.tenant_id = case when t.tenant_key <> '' then substr(t.tenant_key, 2) end::retention.tenant_id
          and r.is_candidate
          and (r.completed_at, r.run_id) > (coalesce(g.completed_at, '-infinity'), g.run_id)
        order by r.tenant_id, r.completed_at
        limit 1
      )
      union all
      (
        select r.completed_at
        from retention._live r
        where t.tenant_key = ''
          and r.tenant_id is null
          and r.is_candidate
          and (r.completed_at, r.run_id) > (coalesce(g.completed_at, '-infinity'), g.run_id)
        order by r.tenant_id, r.completed_at
        limit 1
      )
    ) n on true
  ),
  gone as (
    delete from retention.ahead a
    using next n
    where a.tenant_key = n.tenant_key
      and n.due_at is null
  )
  insert into retention.ahead (tenant_key, due_at)
  select n.tenant_key, n.due_at
  from next n
  where n.due_at is not null
  on conflict (tenant_key) do update
  set due_at = excluded.due_at;
exception
  when others then
    if retention._is_passing(sqlstate) then
      raise;
    end if;
end
$$;
