/*
The export: seals with all that they are digests of, as JSON, for a checker that knows nothing of this software.
*/

-- Seals after p_after with their members, as JSON documents in the order in which they are checked, until about p_results
-- results are among them. For each seal {"kind": "seal", "seal", "header", "previous", "digest", "members", "digests",
-- "pruned"}, and then for each member that is there {"kind": "receipt", "seal", "receipt", "header", "salt", "leaves"}
-- or {"kind": "change", "seal", "change", "salt", "text"}. header, text and each of leaves are texts: what was hashed.
-- Bytes are in hexadecimal digits. No row: p_after is the last seal.
-- For observers.
create or replace function retention.export_seals(p_after bigint default 0, p_results bigint default 10000)
returns table (seal_id bigint, document json)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
as $$
  with seals as materialized (
    select s.* from retention.seal s where s.seal_id between p_after + 1 and retention._page_end(p_after, p_results)
  ),
  documents as (
    select s.seal_id, 0 as part, 0::bigint as id,
      json_build_object(
        'kind', 'seal',
        'seal', s.seal_id,
        'header', retention._seal_header(s.seal_id, s.sealed_at, s.complete_to),
        'previous', encode(s.previous, 'hex'),
        'digest', encode(s.digest, 'hex'),
        'members', array(select 'batch-' || b from unnest(s.batches) b)
          || array(select 'receipt-' || r from unnest(s.receipts) r)
          || array(select 'change-' || c from unnest(s.changes) c),
        'digests', encode(s.digests, 'hex'),
        'pruned', s.pruned_at is not null
      ) as document
    from seals s
    union all
    select r.seal_id, case r.source when 'batch' then 1 else 2 end, r.id,
      json_build_object(
        'kind', 'receipt',
        'seal', r.seal_id,
        'receipt', r.source || '-' || r.id,
        'header', retention._receipt_header(
          r.source, r.id, r.kind, r.bucket, r.settled_at, r.request_ids, r.asked_by, r.revision, r.settled_session, r.product
        ),
        'salt', encode(r.salt, 'hex'),
        'leaves', array(
          select l.leaf_text
          from retention._leaves(r.salt, r.run_ids, r.keys, r.tenants, r.ends, r.versions, r.policies) l
          order by l.i
        )
      )
    from retention._receipt r
    where r.seal_id between p_after + 1 and retention._page_end(p_after, p_results)
    union all
    select c.seal_id, 3, c.change_id,
      json_build_object(
        'kind', 'change',
        'seal', c.seal_id,
        'change', c.change_id,
        'salt', encode(c.salt, 'hex'),
        'text', retention._change_text(c)
      )
    from retention.change c
    where c.seal_id between p_after + 1 and retention._page_end(p_after, p_results)
  )
  select d.seal_id, d.document
  from documents d
  order by d.seal_id, d.part, d.id
$$;
