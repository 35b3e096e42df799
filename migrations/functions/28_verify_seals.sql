/*
Verifying: everything is computed again from the rows, and compared with the seals, the seals with each other, and they
with heads that were kept outside. Read only; page by page, each page set-wise.
*/

-- What verify_seals says of one member of a seal that is not as it was sealed. p_stated, p_found: its digests; null:
-- it is not among the members, or it is not there.
create or replace function retention._member_problem(
  p_seal_id bigint,
  p_name text,
  p_stated bytea,
  p_found bytea,
  p_seal_now bigint,
  p_is_there boolean
)
returns jsonb
language sql
immutable
as $$
  select case
    when p_stated is null then jsonb_build_object(
      'kind', 'added', 'seal', p_seal_id, 'member', p_name,
      'message', format('%s was added: seal %s does not know it', p_name, p_seal_id)
    )
    when p_found is not null and p_found <> p_stated then jsonb_build_object(
      'kind', 'changed', 'seal', p_seal_id, 'member', p_name,
      'message', format('%s of seal %s was changed', p_name, p_seal_id)
    )
    when p_found is null and p_is_there then jsonb_build_object(
      'kind', 'changed', 'seal', p_seal_id, 'member', p_name,
      'message', format(
        '%s of seal %s was changed: it now %s', p_name, p_seal_id,
        case
          when p_seal_now is null then 'belongs to no seal'
          when p_seal_now = p_seal_id then 'is no receipt any more'
          else format('belongs to seal %s', p_seal_now)
        end
      )
    )
    when p_found is null then jsonb_build_object(
      'kind', 'removed', 'seal', p_seal_id, 'member', p_name,
      'message', format('%s of seal %s was removed', p_name, p_seal_id)
    )
  end
$$;

-- The members of the seals from p_from to p_to that are there now, each with its digest as computed from its row.
create or replace function retention._members_found(p_from bigint, p_to bigint)
returns table (seal_id bigint, part integer, id bigint, settled_at timestamptz, digest bytea)
language sql
stable
set timezone = 'UTC'
set jit = off
set max_parallel_workers_per_gather = 0
as $$
  select r.seal_id,
    case r.source when 'batch' then 1 else 2 end,
    r.id,
    r.settled_at,
    -- Without a salt there is none.
    coalesce(
      retention._receipt_digest(
        retention._receipt_header(
          r.source, r.id, r.kind, r.bucket, r.settled_at, r.request_ids, r.asked_by, r.revision, r.settled_session, r.product
        ),
        g.groups
      ),
      ''
    )
  from retention._receipt r
  cross join lateral (
    select string_agg(x.digest, null order by x.digest) as groups
    from retention._groups(r.salt, r.run_ids, r.keys, r.tenants, r.ends, r.versions, r.policies) x
  ) g
  where r.seal_id between p_from and p_to
  union all
  select c.seal_id, 3, c.change_id, c.at, coalesce(retention._change_digest(c.salt, retention._change_text(c)), '')
  from retention.change c
  where c.seal_id between p_from and p_to
$$;

-- What is wrong with the chain itself at one seal: what it says of itself does not give its digest, or it does not
-- follow the one before. p_before: that one as it is here.
create or replace function retention._chain_problems(p_seal retention.seal, p_before_id bigint, p_before_digest bytea)
returns setof jsonb
language sql
stable
as $$
  select jsonb_build_object('kind', w.kind, 'seal', p_seal.seal_id, 'member', null, 'message', w.message)
  from (
    select 'missing' as kind,
      case p_seal.seal_id - p_before_id
        when 2 then format('seal %s is missing', p_before_id + 1)
        else format('seals %s to %s are missing', p_before_id + 1, p_seal.seal_id - 1)
      end as message
    where p_seal.seal_id - p_before_id > 1
    union all
    select 'reordered', format('the members of seal %s were reordered', p_seal.seal_id)
    where p_seal.batches <> array(select unnest(p_seal.batches) order by 1)
      or p_seal.receipts <> array(select unnest(p_seal.receipts) order by 1)
      or p_seal.changes <> array(select unnest(p_seal.changes) order by 1)
    union all
    select 'changed', format('seal %s was changed: it does not give its own digest', p_seal.seal_id)
    where p_seal.digest is distinct from retention._seal_digest(
        p_seal.previous, retention._seal_header(p_seal.seal_id, p_seal.sealed_at, p_seal.complete_to), p_seal.digests
      )
      or length(p_seal.digests)
        <> 32 * (cardinality(p_seal.batches) + cardinality(p_seal.receipts) + cardinality(p_seal.changes))
    union all
    select 'removed',
      format(
        'the receipts of seal %s were removed %s after it was made, and are kept for %s',
        p_seal.seal_id, date_trunc('second', p_seal.pruned_at - p_seal.sealed_at), k.kept
      )
    from (select t.receipts_kept as kept from retention.setting t) k
    where p_seal.pruned_at is not null
      and p_seal.sealed_at > p_seal.pruned_at - k.kept
      and not exists (
        select
        from retention.change c
        cross join lateral unnest(array[c.before, c.after]) as v (value)
        where c.subject = 'setting'
          and p_seal.sealed_at <= p_seal.pruned_at - (v.value ->> 'receipts_kept')::interval
      )
    union all
    select 'rewritten', format('seal %s does not follow seal %s: that one was rewritten', p_seal.seal_id, p_before_id)
    where p_seal.seal_id - p_before_id = 1
      and p_seal.previous is distinct from p_before_digest
  ) w
$$;

-- Up to which seal a page goes that begins after p_after and computes about p_results results.
create or replace function retention._page_end(p_after bigint, p_results bigint)
returns bigint
language sql
stable
as $$
  select coalesce(max(w.seal_id) filter (where w.before < greatest(p_results, 1)), p_after)
  from (
    select s.seal_id,
      -- Each seal has a cost of its own.
      sum(s.cost) over (order by s.seal_id rows unbounded preceding) - s.cost as before
    from (
      select n.seal_id, n.results + 50 as cost
      from retention.seal n
      where n.seal_id > p_after
      order by n.seal_id
      limit 500
    ) s
  ) w
$$;

-- Computes seals again from their receipts and changes: those after p_after, until about p_results results are computed.
-- One row for each seal: how many receipts, results and changes of it are as they were sealed, how many receipts were
-- removed after setting.receipts_kept (pruned), and what is wrong: [{"kind", "seal", "member", "message"}], kind being
-- changed, removed, added, reordered, rewritten or missing. No row: p_after is the last seal. Call it again with the last
-- seal_id.
-- For observers.
create or replace function retention.verify_seals(p_after bigint default 0, p_results bigint default 50000)
returns table (
  seal_id bigint,
  sealed_at timestamptz,
  receipts bigint,
  results bigint,
  changes bigint,
  pruned bigint,
  problems jsonb
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
as $$
  with page as materialized (
    select retention._page_end(p_after, p_results) as last
  ),
  seals as materialized (
    select s.*,
      s as itself,
      lag(s.seal_id, 1, 0::bigint) over w as before_id,
      lag(s.digest) over w as before_digest,
      lag(s.complete_to) over w as before_complete_to
    from retention.seal s
    cross join page p
    where s.seal_id between p_after and p.last
    window w as (order by s.seal_id)
  ),
  stated as (
    select s.seal_id, m.part, m.id, substr(s.digests, (32 * m.place - 31)::integer, 32) as digest
    from seals s
    cross join lateral (
      select case
          when u.place <= cardinality(s.batches) then 1
          when u.place <= cardinality(s.batches) + cardinality(s.receipts) then 2
          else 3
        end as part,
        u.id,
        u.place
      from unnest(s.batches || s.receipts || s.changes) with ordinality as u (id, place)
    ) m
    where s.seal_id > p_after
  ),
  compared as (
    select coalesce(x.seal_id, f.seal_id) as seal_id,
      coalesce(x.part, f.part) as part,
      coalesce(x.id, f.id) as id,
      x.digest as stated,
      f.digest as found,
      f.settled_at
    from stated x
    full join (
      select f.* from page p cross join lateral retention._members_found(p_after + 1, p.last) f
    ) f on f.seal_id = x.seal_id and f.part = x.part and f.id = x.id
  ),
  judged as (
    select c.seal_id,
      count(*) filter (where c.stated = c.found and c.part < 3) as receipts,
      count(*) filter (where c.stated = c.found and c.part = 3) as changes,
      count(*) filter (where w.is_pruned) as pruned,
      coalesce(jsonb_agg(w.problem order by c.part, c.id) filter (where w.problem is not null), '[]')
        || coalesce(
          jsonb_agg(
            jsonb_build_object(
              'kind', 'added', 'seal', c.seal_id, 'member', w.name,
              'message', format(
                '%s was added: it says %s, and all that was settled until %s had been sealed when seal %s was made',
                w.name, retention._iso(c.settled_at), retention._iso(s.before_complete_to), s.seal_id
              )
            )
            order by c.part, c.id
          ) filter (where c.stated = c.found and c.settled_at <= s.before_complete_to and c.settled_at <= s.complete_to),
          '[]'
        ) as problems
    from compared c
    left join seals s on s.seal_id = c.seal_id
    cross join lateral (
      select case c.part when 1 then 'receipt batch-' when 2 then 'receipt receipt-' else 'change ' end || c.id as name,
        c.found is null and c.part < 3 and s.pruned_at is not null as is_pruned
    ) n
    -- One by one, by its number, and only where it is looked for: joined, the whole table would be read.
    left join lateral (
      select b.seal_id, true as is_there from retention.batch b where c.found is null and c.part = 1 and b.batch_id = c.id
      union all
      select r.seal_id, true as is_there from retention.receipt r where c.found is null and c.part = 2 and r.receipt_id = c.id
      union all
      select g.seal_id, true as is_there from retention.change g where c.found is null and c.part = 3 and g.change_id = c.id
      limit 1
    ) e on true
    cross join lateral (
      select n.name,
        n.is_pruned and e.is_there is null as is_pruned,
        case
          when n.is_pruned and e.is_there is null then null
          else retention._member_problem(c.seal_id, n.name, c.stated, c.found, e.seal_id, e.is_there is not null)
        end as problem
    ) w
    group by c.seal_id
  )
  select s.seal_id,
    s.sealed_at,
    coalesce(j.receipts, 0),
    case when coalesce(j.pruned, 0) = 0 then s.results else 0 end,
    coalesce(j.changes, 0),
    coalesce(j.pruned, 0),
    coalesce(
      (
        select jsonb_agg(x)
        from retention._chain_problems(s.itself, s.before_id, s.before_digest) x
      ),
      '[]'
    ) || coalesce(j.problems, '[]')
  from seals s
  left join judged j on j.seal_id = s.seal_id
  where s.seal_id > p_after
  order by s.seal_id
$$;
