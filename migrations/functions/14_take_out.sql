/*
How a selection leaves the batches that carry it.
*/

-- Takes the results that are in retention.selection out of batches that are not settled, and ends their leases; a batch
-- without any left goes. Returns how many results it took. As one statement, for a backlog of thousands of batches that
-- each have a few of them. The caller has locked the batches.
create or replace function retention._take_out_selected(p_batch_ids bigint[])
returns bigint
language plpgsql
set jit = off
set work_mem = '128MB'
as $$
declare
  v_taken bigint;
begin
  with remaining as materialized (
    select u.batch_id,
      count(*) as before,
      count(*) filter (where not u.is_selected) as results,
      array_agg(u.run_id order by u.n) filter (where not u.is_selected) as run_ids,
      array_agg(u.key order by u.n) filter (where not u.is_selected) as keys,
      array_agg(u.tenant_id order by u.n) filter (where not u.is_selected) as tenants
    from (
      select b.batch_id, e.run_id, e.key, e.tenant_id, e.n,
        e.run_id in (select s.run_id from retention.selection s) as is_selected
      from retention.batch b
      cross join unnest(b.run_ids, b.keys, b.tenants) with ordinality as e (run_id, key, tenant_id, n)
      where b.batch_id in (select unnest(p_batch_ids))
        and b.settled_at is null
      offset 0
    ) u
    group by u.batch_id
  ),
  emptied as (
    delete from retention.batch b
    using remaining r
    where b.batch_id = r.batch_id
      and r.results = 0
  ),
  shortened as (
    update retention.batch b
    set results = r.results,
      run_ids = r.run_ids,
      keys = r.keys,
      tenants = r.tenants,
      etags = null,
      visible_at = case when b.lease is null then b.visible_at else clock_timestamp() end,
      lease = null
    from remaining r
    where b.batch_id = r.batch_id
      and r.results between 1 and r.before - 1
  )
  select coalesce(sum(r.before - r.results), 0) into v_taken from remaining r;
  return v_taken;
end
$$;
