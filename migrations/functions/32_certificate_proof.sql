/*
Certificates, what they hang on: the rule and who changed it, and the tenant's share of receipts and seals. See
26_leaves for what is a digest of what. Nothing here tells of another tenant more than salted digests.
*/

-- The changes of the policies that a tenant was under, oldest first: of its own and of the one for everybody. is_own: its
-- own. Those that only ask for another length, or confirm one, are left out.
create or replace function retention._rule_changes(p_tenant_id text, p_from timestamptz)
returns setof retention.change
language sql
stable
as $$
  select c.*
  from retention.change c
  where c.subject = 'policy'
    and c.tenant_id in ('*', p_tenant_id)
    and c.before ->> 'retain' is distinct from c.after ->> 'retain'
    -- The last one before the period says by which rule it began.
    and c.at >= coalesce(
      (
        select max(e.at)
        from retention.change e
        where e.subject = 'policy'
          and e.tenant_id = c.tenant_id
          and e.before ->> 'retain' is distinct from e.after ->> 'retain'
          and e.at < p_from
      ),
      '-infinity'
    )
  order by c.change_id
$$;

-- Whether the text of a change may be shown to a tenant: the policy for everybody may say how many results of all tenants
-- it made due.
create or replace function retention._is_shown(p_change retention.change)
returns boolean
language sql
stable
return p_change.tenant_id <> '*'
  or num_nonnulls(
    p_change.before ->> 'pending_results',
    p_change.before ->> 'confirmed_results',
    p_change.after ->> 'pending_results',
    p_change.after ->> 'confirmed_results'
  ) = 0;

-- Whether anything at all says that there is such a tenant: a row, a policy, a hold, or a receipt. p_tenant_id: null:
-- results without a tenant, which need no sign.
create or replace function retention._is_known_tenant(p_tenant_id text)
returns boolean
language plpgsql
stable
as $$
declare
  v_known boolean := p_tenant_id is null
    or exists (select from retention.policy p where p.tenant_id = p_tenant_id)
    or exists (select from retention.hold h where h.tenant_id = p_tenant_id);
begin
  if not v_known then
    execute format('select exists (select from retention.result r where r.tenant_id = %L)', p_tenant_id) into v_known;
  end if;
  -- Last, since it reads them all: a tenant that has left, with its rows.
  return v_known or exists (select from retention._receipt r where p_tenant_id = any (r.tenants));
end
$$;

-- What a certificate says beside its results, as one object: as_of, session, database (the fence), adopted_at,
-- receipts_kept, receipt_keys (hashed: some receipts keep digests of keys), is_known (anything at all tells of the tenant), rule (the policies in force, and their changes with who made them), query (the population, as it can be run) and
-- counted (what it counts), and head (the last seal; null: there is none).
-- For observers.
-- Raises what certificate_results raises.
create or replace function retention.certificate_facts(p_tenant_id text, p_from timestamptz, p_to timestamptz)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO, YMD'
set intervalstyle = 'postgres'
set max_parallel_workers_per_gather = 0
set jit = off
as $$
declare
  v_tenant_id text := retention._check_certificate(p_tenant_id, p_from, p_to);
  v_query text := retention._population(v_tenant_id, p_from, p_to);
  v_counted bigint;
begin
  execute format('select count(*) from (%s) p', v_query) into v_counted;
  return jsonb_build_object(
    'as_of', retention._iso(now()),
    'session', session_user,
    'tenant', v_tenant_id,
    'database', (select i.fence from retention.identity i),
    'adopted_at', (select retention._iso(i.adopted_at) from retention.identity i),
    'receipts_kept', (select s.receipts_kept::text from retention.setting s),
    'receipt_keys', case
      when (select s.receipt_keys from retention.setting s) = 'hashed' or exists (
        select from retention.change c where c.subject = 'setting' and c.after ->> 'receipt_keys' = 'hashed'
      )
      then 'hashed'
      else 'plain'
    end,
    'is_known', retention._is_known_tenant(v_tenant_id),
    'rule', jsonb_build_object(
      'retain', retention._in_days(retention._retain_of(v_tenant_id))::text,
      'in_force', (
        select coalesce(jsonb_agg(jsonb_build_object(
          'policy_of', p.tenant_id,
          'retain', retention._in_days(p.retain)::text,
          'set_at', retention._iso(p.set_at),
          'set_by', p.set_by
        ) order by p.tenant_id), '[]')
        from retention.policy p
        where p.tenant_id in ('*', v_tenant_id)
      ),
      'changes', (
        select coalesce(jsonb_agg(jsonb_build_object(
          'change', c.change_id,
          'at', retention._iso(c.at),
          'policy_of', c.tenant_id,
          'before', retention._in_days((c.before ->> 'retain')::interval)::text,
          'after', retention._in_days((c.after ->> 'retain')::interval)::text,
          'by', c.session_name,
          'role', c.role_name,
          'application', c.application,
          'seal', case when retention._is_shown(c) then c.seal_id end
        ) order by c.change_id), '[]')
        from retention._rule_changes(v_tenant_id, p_from) c
      ),
      'changes_known_since', (select retention._iso(min(c.at)) from retention.change c where c.change_id = (select min(m.change_id) from retention.change m))
    ),
    'query', v_query,
    'counted', v_counted,
    'head', (
      select jsonb_build_object(
        'seal', s.seal_id,
        'digest', encode(s.digest, 'hex'),
        'sealed_at', retention._iso(s.sealed_at),
        'complete_to', retention._iso(s.complete_to)
      )
      from retention.seal s
      order by s.seal_id desc
      limit 1
    )
  );
exception
  when data_exception or raise_exception then
    perform retention._refuse_unreadable(sqlstate, sqlerrm);
end
$$;

-- The changes of the rule that a certificate can prove, with what their digests are made of.
-- For observers.
-- Raises what certificate_results raises.
create or replace function retention.certificate_changes(p_tenant_id text, p_from timestamptz, p_to timestamptz)
returns table (change_id bigint, seal_id bigint, salt text, change_text text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
begin
  return query
  select c.change_id, c.seal_id, encode(c.salt, 'hex'), retention._change_text(c)
  from retention._rule_changes(retention._check_certificate(p_tenant_id, p_from, p_to), p_from) c
  where c.seal_id is not null
    and retention._is_shown(c);
end
$$;

-- A tenant's share of sealed receipts: of each its header, the digests of the groups of others, and of the tenant the salts and the texts
-- of its leaves in their order. Receipts that are not sealed are left out. p_tenant_id: null: results
-- without a tenant.
-- For observers.
create or replace function retention.certificate_leaves(p_tenant_id text, p_batches bigint[], p_receipts bigint[])
returns table (receipt text, seal_id bigint, header text, others json, salts json, texts json)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
as $$
  select r.source || '-' || r.id,
    r.seal_id,
    retention._receipt_header(
      r.source, r.id, r.kind, r.bucket, r.settled_at, r.request_ids, r.asked_by, r.revision, r.settled_session, r.product
    ),
    o.others,
    l.salts,
    l.texts
  from (
    select * from retention._receipt b where b.source = 'batch' and b.id = any (p_batches)
    union all
    select * from retention._receipt e where e.source = 'receipt' and e.id = any (p_receipts)
  ) r
  cross join lateral (
    select json_agg(encode(e.leaf_salt, 'hex') order by e.i) as salts, json_agg(e.leaf_text order by e.i) as texts
    from retention._leaves(r.salt, r.run_ids, r.keys, r.tenants, r.ends, r.versions, r.policies) e
    where e.tenant_id collate "C" is not distinct from p_tenant_id collate "C"
  ) l
  cross join lateral (
    select coalesce(json_agg(encode(g.digest, 'hex') order by g.digest), '[]') as others
    from retention._groups(r.salt, r.run_ids, r.keys, r.tenants, r.ends, r.versions, r.policies) g
    where g.tenant_id collate "C" is distinct from p_tenant_id collate "C"
  ) o
  where r.seal_id is not null
    and r.salt is not null
  order by r.seal_id, r.settled_at, r.source, r.id
$$;

-- Seals after p_after, at most p_limit, each with its header and the digest of the one before. Of those in p_shown also
-- the digests of their members and which they are; of the others only the digest over all of them: all that the way to the head
-- takes.
-- For observers.
create or replace function retention.certificate_seals(p_after bigint, p_limit integer, p_shown bigint[])
returns table (seal_id bigint, header text, previous text, body text, digests json, names json)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
as $$
  select s.seal_id,
    retention._seal_header(s.seal_id, s.sealed_at, s.complete_to),
    encode(s.previous, 'hex'),
    encode(sha256(s.digests), 'hex'),
    case when s.seal_id = any (p_shown) then m.digests end,
    case when s.seal_id = any (p_shown) then m.names end
  from retention.seal s
  cross join lateral (
    select json_agg(encode(substr(s.digests, 32 * n.place::integer - 31, 32), 'hex') order by n.place) as digests,
      json_agg(n.name order by n.place) as names
    from (
      select 'batch-' || u.id as name, u.place from unnest(s.batches) with ordinality as u (id, place)
      union all
      select 'receipt-' || u.id, cardinality(s.batches) + u.place from unnest(s.receipts) with ordinality as u (id, place)
      union all
      select 'change-' || u.id, cardinality(s.batches) + cardinality(s.receipts) + u.place from unnest(s.changes) with ordinality as u (id, place)
    ) n
    where s.seal_id = any (p_shown)
  ) m
  where s.seal_id > p_after
  order by s.seal_id
  limit p_limit
$$;
