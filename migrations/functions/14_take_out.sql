/*
How a selection leaves the batches that carry it.
*/

-- Takes the results that are in retention.selection out of batches that are not settled, and ends their leases; a batch
-- without any left goes. Writes down that they left. Returns how many results it took. For a backlog of thousands of batches that
-- each have a few of them: a few are cut out of their batch, which costs a tenth of putting it together again. The caller has
-- locked the batches.
create or replace function retention._take_out_selected(p_batch_ids bigint[])
returns bigint
language plpgsql
set jit = off
set work_mem = '128MB'
as $$
declare
  v_taken bigint := 0;
  v_found record;
  v_batch retention.batch;
  v_kept retention.batch;
begin
  for v_found in
    select u.batch_id, array_agg(u.n order by u.n) as places
    from (
      select b.batch_id, e.run_id, e.n
      from retention.batch b
      cross join unnest(b.run_ids) with ordinality as e (run_id, n)
      where b.batch_id in (select unnest(p_batch_ids))
        and b.settled_at is null
      offset 0
    ) u
    where u.run_id in (select s.run_id from retention.selection s)
    group by u.batch_id
  loop
    select * into strict v_batch from retention.batch b where b.batch_id = v_found.batch_id;
    v_taken := v_taken + cardinality(v_found.places);
    perform retention._note_left(v_batch, array(select v_batch.run_ids[n] from unnest(v_found.places) n));
    if cardinality(v_found.places) = v_batch.results then
      delete from retention.batch b where b.batch_id = v_batch.batch_id;
      continue;
    end if;
    v_kept := retention._without(v_batch, v_found.places);
    update retention.batch b
    set results = v_kept.results,
      run_ids = v_kept.run_ids,
      keys = v_kept.keys,
      tenants = v_kept.tenants,
      etags = null,
      visible_at = case when b.lease is null then b.visible_at else clock_timestamp() end,
      lease = null
    where b.batch_id = v_batch.batch_id;
  end loop;
  return v_taken;
end
$$;
