/*
Receipts in one shape: settled batches, and what happened outside a batch.
*/

-- Every receipt, sealed or not: source is batch or receipt, and id the number there. kind says why it went: policy, early,
-- verify, restored (of a batch), found_gone, restored, unstamped, orphan or canary (of
-- retention.receipt).
create or replace view retention._receipt as
select 'batch' as source,
  b.batch_id as id,
  coalesce(b.why, 'policy') as kind,
  b.bucket,
  b.cleared as results,
  b.settled_at,
  b.run_ids,
  b.keys,
  b.tenants,
  b.ends,
  b.versions,
  b.request_ids,
  b.asked_by,
  b.revision,
  b.settled_session,
  b.product,
  b.salt,
  b.seal_id
from retention.batch b
where b.settled_at is not null
  and b.cleared > 0
union all
select 'receipt', r.receipt_id, r.kind, r.bucket, r.results, r.settled_at, r.run_ids, r.keys, r.tenants, r.ends, r.versions,
  r.request_ids, r.asked_by, r.revision, r.settled_session, r.product, r.salt, r.seal_id
from retention.receipt r;
