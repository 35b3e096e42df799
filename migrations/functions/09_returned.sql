/*
Results whose object is back: their stamp was taken away (17_unstamp), so that they fall due again. The receipt of their
next deletion says that it is another one. They are told apart when they are claimed, whichever way they were flagged.
*/

-- Why a batch goes, as far as its results have been back: verify, after_restore, or null. A batch has one such reason: what has
-- another than its first result leaves it for a batch of its own, which takes its place in the queue. Called by claim
-- where any result is back, before it leases the batch.
create or replace function retention._tell_returned(p_batch_id bigint)
returns text
language plpgsql
set enable_seqscan = on
set enable_hashjoin = on
as $$
declare
  v_batch retention.batch;
  v_whys text[];
  v_is_told boolean;
begin
  select * into strict v_batch from retention.batch b where b.batch_id = p_batch_id;
  select array_agg(r.why order by e.n)
  into v_whys
  from retention._results(v_batch) e
  left join retention.returned_result r on r.run_id = e.run_id
    and r.bucket = v_batch.bucket
    and r.key = e.key collate "C";
  if v_whys[1] is null and array_remove(v_whys, null) = '{}' or v_whys[1] = all (v_whys) then
    return v_whys[1];
  end if;
  -- As claim does: a check that comes through is not suspect.
  v_is_told := coalesce(v_batch.code not in ('ClaimLost', 'ClaimSuspect'), false);
  insert into retention.batch (
    bucket, results, oldest, newest, due_since, late_since, early, flagged_at, visible_at, leased_at, attempts, postponed,
    stuck_since, code, error, failed_at, why, asked_by, request_ids, run_ids, keys, tenants
  )
  select v_batch.bucket, count(*), v_batch.oldest, v_batch.newest, v_batch.due_since, v_batch.late_since, v_batch.early,
    v_batch.flagged_at, v_batch.visible_at, v_batch.leased_at, v_batch.attempts, v_batch.postponed, v_batch.stuck_since,
    case when v_is_told then v_batch.code end,
    case when v_is_told then v_batch.error end,
    case when v_is_told then v_batch.failed_at end,
    v_batch.why, v_batch.asked_by, v_batch.request_ids,
    array_agg(u.run_id order by u.n), array_agg(u.key order by u.n), array_agg(u.tenant_id order by u.n)
  from unnest(v_batch.run_ids, v_batch.keys, v_batch.tenants, v_whys) with ordinality as u (run_id, key, tenant_id, why, n)
  where u.why is distinct from v_whys[1]
  group by u.why;
  update retention.batch b
  set (results, run_ids, keys, tenants) = (
      select count(*), array_agg(u.run_id order by u.n), array_agg(u.key order by u.n), array_agg(u.tenant_id order by u.n)
      from unnest(v_batch.run_ids, v_batch.keys, v_batch.tenants, v_whys) with ordinality
        as u (run_id, key, tenant_id, why, n)
      where u.why is not distinct from v_whys[1]
    ),
    -- The claim reads them again.
    etags = null
  where b.batch_id = p_batch_id;
  return v_whys[1];
end
$$;

-- Forgets results that will not be deleted again as they are: the row has gone, is stamped, or names another object.
create or replace function retention._forget_returned()
returns void
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
begin
  if to_regclass('retention._live') is null then
    return;
  end if;
  delete from retention.returned_result t
  where not exists (
    select
    from retention._live r
    where r.run_id = t.run_id
      and r.key = t.key
      and r.bucket = t.bucket
  );
end
$$;
