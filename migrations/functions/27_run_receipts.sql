/*
The receipts of one run: what became of its result, and when.
*/

-- The row of a run as it is now, and whether there is one. Of a detached table, there is none.
create or replace function retention._row_of(
  p_run_id retention.run_id,
  out is_there boolean,
  out tenant_id text,
  out status text,
  out completed_at timestamptz,
  out retain_until timestamptz,
  out bucket text,
  out key text,
  out cleared_at timestamptz
)
language plpgsql
stable
as $$
begin
  is_there := false;
  if to_regclass('retention.result') is null then
    return;
  end if;
  select true, r.tenant_id::text, r.status::text, r.completed_at, r.retain_until::timestamptz, r.bucket::text, r.key::text,
    r.cleared_at::timestamptz
  into is_there, tenant_id, status, completed_at, retain_until, bucket, key, cleared_at
  from retention.result r
  where r.run_id = p_run_id
  limit 1;
  is_there := coalesce(is_there, false);
end
$$;

-- Which settled batches a run is in. Looked for among those whose results completed around the time when the run did,
-- and those that were settled when it was stamped: an index finds both. p_everywhere: for a run whose row does not
-- say it, among all that were settled since p_since, which reads them.
create or replace function retention._batches_with(
  p_run_id retention.run_id,
  p_completed_at timestamptz,
  p_cleared_at timestamptz,
  p_everywhere boolean,
  p_since timestamptz
)
returns bigint[]
language plpgsql
stable
set enable_seqscan = off
set jit = off
as $$
declare
  v_batch_ids bigint[];
begin
  if p_run_id is null then
    return '{}';
  end if;
  if p_everywhere then
    return array(
      select b.batch_id
      from retention.batch b
      where b.settled_at >= coalesce(p_since, '-infinity')
        and b.cleared > 0
        and p_run_id = any (b.run_ids)
    );
  end if;
  v_batch_ids := array(
    select b.batch_id
    from retention.batch b
    where b.settled_at is not null
      and b.cleared > 0
      and tstzrange(b.oldest, b.newest, '[]') @> p_completed_at
      and p_run_id = any (b.run_ids)
  );
  -- When it completed has changed since.
  if p_cleared_at is not null and not exists (
    select
    from retention.batch b
    where b.batch_id = any (v_batch_ids)
      and b.settled_at >= p_cleared_at
  ) then
    v_batch_ids := v_batch_ids || array(
      select b.batch_id
      from retention.batch b
      where b.settled_at between p_cleared_at and p_cleared_at + interval '1 hour'
        and b.cleared > 0
        and p_run_id = any (b.run_ids)
        and b.batch_id <> all (v_batch_ids)
    );
  end if;
  return v_batch_ids;
end
$$;

-- The receipts of a run, oldest first. p_batch_ids: of _batches_with. is_gone: its result was deleted or found gone; false: its stamp was taken away.
-- began_at: of a batch, when its last claim began; flagged_at, deleted_at, early and late_since as the batch has them.
create or replace function retention._run_receipts(
  p_run_id retention.run_id,
  p_batch_ids bigint[],
  p_since timestamptz default null
)
returns table (
  receipt text,
  kind text,
  is_gone boolean,
  settled_at timestamptz,
  bucket text,
  key text,
  tenant_id text,
  how text,
  asked_by text,
  settled_session text,
  product text,
  batch_id bigint,
  flagged_at timestamptz,
  began_at timestamptz,
  deleted_at timestamptz,
  early interval,
  late_since timestamptz
)
language plpgsql
stable
as $$
#variable_conflict use_column
begin
  return query
  select format('%s-%s', r.source, r.id),
    r.kind,
    r.kind not in ('restored', 'unstamped') or r.source = 'batch',
    r.settled_at,
    r.bucket,
    retention._unpack_key(r.keys[p.place], p_run_id::text),
    r.tenants[p.place],
    coalesce(r.ends[p.place], 'deleted'),
    r.asked_by,
    r.settled_session,
    r.product,
    b.batch_id,
    b.flagged_at,
    b.leased_at,
    b.deleted_at,
    b.early,
    b.late_since
  from (
    select x.* from retention._receipt x where x.source = 'batch' and x.id = any (p_batch_ids)
    union all
    select x.*
    from retention._receipt x
    where x.source = 'receipt'
      and x.kind not in ('orphan', 'canary')
      and x.settled_at >= coalesce(p_since, '-infinity')
      and p_run_id = any (x.run_ids)
  ) r
  cross join lateral (select array_position(r.run_ids, p_run_id) as place) p
  left join retention.batch b on r.source = 'batch' and b.batch_id = r.id
  order by r.settled_at, r.source, r.id;
end
$$;
