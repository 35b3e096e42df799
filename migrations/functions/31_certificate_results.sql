/*
Certificates: the results, each with what became of it. See 30_certificate for which they are.
*/

-- The results of a tenant in batches that are not settled, each with how its batch has it.
create or replace function retention._work_of(p_tenant_id text)
returns table (run_id retention.run_id, state text)
language sql
stable
as $$
  select distinct on (u.run_id) u.run_id,
    case
      when b.dead_at is not null then 'dead'
      when b.deleted_at is not null then 'deleted, not stamped yet'
      when b.lease is not null and b.visible_at > now() then 'in flight'
      when b.failed_at is not null then 'failed'
      else 'flagged'
    end
  from retention.batch b
  cross join lateral unnest(b.run_ids, b.tenants) as u (run_id, tenant_id)
  where b.settled_at is null
    and u.tenant_id collate "C" is not distinct from p_tenant_id collate "C"
  order by u.run_id, b.batch_id
$$;

-- What receipts say of a tenant, for those that were settled from p_first on and before p_last: a row for each result. goes: its
-- object went; the others take a stamp away. is_last: of its run, and is_last_of_key: of its run and key.
-- kept_key: the key as the receipt has it; key: as it is known, which differs where keys are hashed.
create or replace function retention._entries_of(p_tenant_id text, p_first timestamptz, p_last timestamptz)
returns table (
  receipt text,
  seal_id bigint,
  kind text,
  goes boolean,
  settled_at timestamptz,
  bucket text,
  run_id retention.run_id,
  key text,
  kept_key text,
  how text,
  version text,
  retain text,
  is_last boolean,
  is_last_of_key boolean
)
language sql
stable
as $$
  select e.*,
    row_number() over (partition by e.run_id order by e.settled_at desc, e.receipt desc) = 1,
    row_number() over (partition by e.run_id, e.key collate "C" order by e.settled_at desc, e.receipt desc) = 1
  from (
    select r.source || '-' || r.id as receipt,
      r.seal_id,
      r.kind,
      r.source = 'batch' or r.kind = 'found_gone' as goes,
      r.settled_at,
      r.bucket,
      u.run_id,
      retention._known_key(u.key, u.run_id, r.salt, u.n) as key,
      retention._unpack_key(u.key, u.run_id::text) as kept_key,
      coalesce(u.how, 'deleted') as how,
      u.version,
      coalesce(r.policies ->> u.tenant_id, r.policies ->> '*') as retain
    from retention._receipt r
    cross join lateral unnest(r.run_ids, r.keys, r.tenants, r.ends, r.versions) with ordinality
      as u (run_id, key, tenant_id, how, version, n)
    where r.settled_at >= p_first
      and r.settled_at < p_last
      and u.run_id is not null
      and u.tenant_id collate "C" is not distinct from p_tenant_id collate "C"
  ) e
$$;

-- What a certificate of a tenant counts: a row for each result. part is population (the run fell due from p_from on and
-- before p_to, by the policy in force now) or beside (it went in that period, and is not of the population). Of the
-- population category is one of gone (a receipt says so), held, dead, shared, kept (by a keeper), surge, not_yet (state says how far it is),
-- spared (S3 holds another version of its object), without_place (its row names no object that could be deleted), unreadable (looking at its row raises an error), stamped_before_adoption, stamped_receipt_pruned, stamped_without_receipt
-- and unstamped (a receipt says that it went, and its row has no stamp). Beside it is one of early, due_outside
-- (the run falls due outside the period), row_gone (the tenant has no such run any more), earlier (deleted, and restored or written since), restored and stamp_taken_away.
-- receipt: which one says so, and retain how long its policy kept the result then. p_tenant_id: null: results without a tenant. Reads the rows of the tenant and the receipts since the
-- period began; changes nothing.
-- For observers.
-- Raises invalid_parameter_value for what cannot be a tenant id and for a period that is none or is not over yet, and
-- object_not_in_prerequisite_state while the table is detached.
create or replace function retention.certificate_results(p_tenant_id text, p_from timestamptz, p_to timestamptz)
returns table (
  part text,
  category text,
  state text,
  run_id text,
  completed_at timestamptz,
  due_at timestamptz,
  cleared_at timestamptz,
  bucket text,
  key text,
  receipt text,
  kind text,
  settled_at timestamptz,
  ended text,
  version text,
  is_sealed boolean,
  retain text
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO, YMD'
set work_mem = '64MB'
set max_parallel_workers_per_gather = 0
set jit = off
as $$
declare
  v_tenant_id text := retention._check_certificate(p_tenant_id, p_from, p_to);
begin
  return query execute format(
    $query$
    with population as materialized (
      %1$s
    ),
    -- A stamp is written in the transaction of its receipt. What has none may have a receipt of any time since.
    entry as materialized (
      select e.*
      from retention._entries_of(
        $1,
        (select least($2, min(p.cleared_at)) - interval '1 hour' from population p),
        (
          select case when bool_or(p.cleared_at is null) then 'infinity' else greatest($3, max(p.cleared_at)) + interval '1 hour' end
          from population p
        )
      ) e
    ),
    judged as materialized (
      select p.*,
        e.receipt, e.kind, e.settled_at, e.how, e.version, e.retain, e.seal_id, e.goes, e.bucket as receipt_bucket, e.kept_key as receipt_key,
        w.state as work,
        p.cleared_at is null and p.run_id in (select u.run_id from retention.surge_part s cross join unnest(s.run_ids) as u (run_id)) as is_parked
      from population p
      left join entry e on e.run_id = p.run_id
        and e.goes
        -- An application may empty the key of a row whose result has gone.
        and case when coalesce(p.key, '') = '' then e.is_last else e.is_last_of_key and e.key collate "C" = p.key::text collate "C" end
      left join retention._work_of($1) w on w.run_id = p.run_id
        and p.cleared_at is null
    ),
    sorted as materialized (
      select j.*,
        case
          when j.cleared_at is null and s.state = 'due' and j.goes then 'unstamped'
          when j.cleared_at is null then s.category
          when j.goes then 'gone'
          when j.cleared_at < (select i.adopted_at from retention.identity i) then 'stamped_before_adoption'
          when j.cleared_at < now() - (select t.receipts_kept from retention.setting t) then 'stamped_receipt_pruned'
          else 'stamped_without_receipt'
        end as category,
        s.state
      from judged j
      -- As a condition of the join it would be asked of each cleared row as well.
      left join lateral (
        select n.category, n.state
        from retention._standing(j.run_id, j.completed_at, j.work, j.is_parked) n
        where j.cleared_at is null
      ) s on true
    ),
    -- What a receipt says of a run that was flagged again since is no answer to where it stands.
    known as (
      select s.*, s.category in ('gone', 'unstamped') as is_proven from sorted s
    )
    (
      select 'population', k.category, case when k.category = 'not_yet' then k.state end,
        k.run_id::text, k.completed_at, k.due_at, k.cleared_at,
        case when k.is_proven then k.receipt_bucket else retention._bucket(k.bucket, (select s.default_bucket from retention.setting s)) end,
        case when k.is_proven then k.receipt_key else k.key::text end,
        case when k.is_proven then k.receipt end, case when k.is_proven then k.kind end, case when k.is_proven then k.settled_at end,
        case when k.is_proven then k.how end, case when k.is_proven then k.version end, case when k.is_proven then k.seal_id is not null end,
        case when k.is_proven then k.retain end
      from known k
      order by k.due_at, k.run_id::text
    )
    union all
    (
      select 'beside',
        case
          when not e.goes then case e.kind when 'restored' then 'restored' else 'stamp_taken_away' end
          when not r.is_there then 'row_gone'
          when not e.is_last then 'earlier'
          when e.kind = 'early' then 'early'
          else 'due_outside'
        end,
        null, e.run_id::text, null, null, null, e.bucket, e.kept_key, e.receipt, e.kind, e.settled_at, e.how, e.version, e.seal_id is not null, e.retain
      from entry e
      left join known k on k.is_proven
        and k.run_id = e.run_id
        and k.receipt = e.receipt
      cross join lateral (
        select k.run_id is not null or exists (select from retention.result t where t.run_id = e.run_id and %2$s) as is_there
      ) r
      where e.settled_at >= $2
        and e.settled_at < $3
        and k.run_id is null
      order by e.settled_at, e.run_id::text
    )
    $query$,
    retention._population(v_tenant_id, p_from, p_to),
    case when v_tenant_id is null then 't.tenant_id is null' else format('t.tenant_id = %L', v_tenant_id) end
  )
  using v_tenant_id, p_from, p_to;
exception
  when data_exception or raise_exception then
    perform retention._refuse_unreadable(sqlstate, sqlerrm);
end
$$;
