/*
Results whose object is gone: a verify stamps their rows, and the receipt says that it was found gone.
*/

-- The runs of a bucket whose objects a listener deletes now, or has deleted without having stamped them.
create or replace function retention._being_deleted(p_bucket text)
returns table (run_id retention.run_id)
language sql
stable
as $$
  select unnest(b.run_ids)
  from retention.batch b
  where b.bucket = p_bucket
    and b.lease is not null
  union all
  select unnest(b.run_ids)
  from retention.batch b
  where b.bucket = p_bucket
    and b.deleted_at is not null
    and b.settled_at is null
$$;

-- Stamps live rows whose object S3 has just named as gone. p_run_ids[i] points at p_keys[i]; a row that
-- points at another key by now is left out, and so is one that cannot be stamped, is locked, or is being deleted by a
-- listener, which stamps it itself: the next verify finds it again. The next claim spares what of it is flagged. What is
-- stamped has a receipt of its own (found_gone) in retention.receipt. p_client: the client's version. Returns how many rows.
-- For operators.
-- Locks the rows that it stamps, and keeps claims waiting meanwhile.
create or replace function retention.stamp_gone(p_bucket text, p_run_ids text[], p_keys text[], p_client text default null)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
set lock_timeout = '5s'
as $$
declare
  v_batch retention.batch;
  v_run_ids retention.run_id[] := p_run_ids::retention.run_id[];
  v_keys text[] := array(
    select retention._pack_key(u.key, u.run_id::retention.run_id::text)
    from unnest(p_run_ids, p_keys) with ordinality as u (run_id, key, n)
    order by u.n
  );
  v_places integer[];
  v_stamped bigint;
  v_left integer[];
  v_code text;
begin
  begin
    -- As place_hold does: a claim either committed before this, and its results are left to it, or it waits, and then
    -- spares what is stamped here. Otherwise a result could have two receipts.
    lock table retention.hold in exclusive mode;
    -- Locked, so that what changes from here on is what is stamped here.
    v_places := array(
      select n
      from retention._still_live(p_bucket, v_run_ids, v_keys, '-infinity', 'infinity', true) n
      where v_run_ids[n] not in (select a.run_id from retention._being_deleted(p_bucket) a)
      order by n
    );
  exception
    when query_canceled or lock_not_available then
      v_places := '{}';
  end;
  if v_places = '{}' then
    return 0;
  end if;
  v_run_ids := array(select v_run_ids[n] from unnest(v_places) with ordinality as u (n, i) order by i);
  v_keys := array(select v_keys[n] from unnest(v_places) with ordinality as u (n, i) order by i);
  begin
    v_stamped := retention._stamp(p_bucket, v_run_ids, v_keys, '-infinity', 'infinity');
    v_left := case
      when v_stamped = cardinality(v_run_ids) then '{}'
      else array(select retention._still_live(p_bucket, v_run_ids, v_keys, '-infinity', 'infinity'))
    end;
  exception
    when query_canceled or assert_failure or others then
      get stacked diagnostics v_code = returned_sqlstate;
  end;
  if v_code is not null then
    v_batch.bucket := p_bucket;
    v_batch.oldest := '-infinity';
    v_batch.newest := 'infinity';
    select t.stamped, t.places
    into strict v_stamped, v_left
    from retention._stamp_parts(v_batch, v_run_ids, v_keys, v_code, 1000, retention._stamp_until()) t;
  end if;
  if v_stamped > 0 then
    perform retention._write_receipts(
      'found_gone', p_bucket, s.run_ids, s.keys, s.tenants, p_client,
      array_fill('gone'::text, array[cardinality(s.keys)])
    )
    from (
      select array_agg(u.run_id order by u.n) as run_ids,
        array_agg(retention._unpack_key(u.key, u.run_id::text) order by u.n) as keys,
        array_agg((select r.tenant_id::text from retention.result r where r.run_id = u.run_id limit 1) order by u.n) as tenants
      from unnest(v_run_ids, v_keys) with ordinality as u (run_id, key, n)
      where u.n not in (select unnest(v_left))
    ) s
    where s.run_ids is not null;
  end if;
  return v_stamped;
end
$$;
