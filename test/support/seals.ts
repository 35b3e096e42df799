import type { TestDatabase } from './database.ts';

/** Seals what is settled and what was changed, as the tick does. Returns the number of the seal. */
export async function seal(database: Pick<TestDatabase, 'one'>): Promise<number> {
  const { seal_id: sealId } = await database.one<{ seal_id: number }>(SEAL);
  return sealId;
}

const SEAL = `
with next as (
  select coalesce(max(s.seal_id), 0) + 1 as seal_id from retention.seal s
),
batch as (
  update retention.batch b
  set salt = uuid_send(gen_random_uuid()), seal_id = n.seal_id
  from next n
  where b.settled_at is not null and b.cleared > 0 and b.seal_id is null
  returning 'batch' as source, b.batch_id as id, coalesce(b.why, 'policy') as kind, b.bucket, b.settled_at, b.run_ids, b.keys,
    b.tenants, b.ends, b.versions, b.request_ids, b.asked_by, b.revision, b.settled_session, b.product, b.salt, b.cleared as results
),
receipt as (
  update retention.receipt r
  set salt = uuid_send(gen_random_uuid()), seal_id = n.seal_id
  from next n
  where r.seal_id is null
  returning 'receipt', r.receipt_id, r.kind, r.bucket, r.settled_at, r.run_ids, r.keys,
    r.tenants, r.ends, r.versions, r.request_ids, r.asked_by, r.revision, r.settled_session, r.product, r.salt, r.results
),
change as (
  update retention.change c
  set seal_id = n.seal_id
  from next n
  where c.seal_id is null
  returning c.change_id as id, retention._change_digest(c.salt, retention._change_text(c)) as digest
),
member as (
  select r.source, r.id, r.results, retention._receipt_digest(
    retention._receipt_header(
      r.source, r.id, r.kind, r.bucket, r.settled_at, r.request_ids, r.asked_by, r.revision, r.settled_session, r.product
    ),
    (
      select string_agg(g.digest, '' order by g.digest)
      from retention._groups(r.salt, r.run_ids, r.keys, r.tenants, r.ends, r.versions) g
    )
  ) as digest
  from (select * from batch union all select * from receipt) r
  union all
  select 'seal', c.id, 0, c.digest from change c
),
made as (
  select n.seal_id, clock_timestamp() as sealed_at, p.digest as previous,
    coalesce((select array_agg(m.id order by m.id) from member m where m.source = 'batch'), '{}') as batches,
    coalesce((select array_agg(m.id order by m.id) from member m where m.source = 'receipt'), '{}') as receipts,
    coalesce((select array_agg(m.id order by m.id) from member m where m.source = 'seal'), '{}') as changes,
    coalesce((select sum(m.results) from member m), 0) as results,
    coalesce((select string_agg(m.digest, '' order by m.source, m.id) from member m), '') as digests
  from next n
  left join retention.seal p on p.seal_id = n.seal_id - 1
)
insert into retention.seal (seal_id, sealed_at, batches, receipts, changes, results, digests, previous, digest)
select m.seal_id, m.sealed_at, m.batches, m.receipts, m.changes, m.results, m.digests, m.previous,
  retention._seal_digest(m.previous, retention._seal_header(m.seal_id, m.sealed_at, null), m.digests)
from made m
returning seal_id::integer`;
