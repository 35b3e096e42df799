/*
What a seal is a digest of. A receipt is a header and, by tenant, the digest over the leaves of its results. A leaf has a
salt of its own: one tenant's share of a receipt can be shown, and nothing of another can be guessed from the rest.

    leaf salt i = the i-th 16 bytes of SHA-512(salt of the receipt || 0) || SHA-512(salt || 1) || ..., the numbers as four
                  bytes, the highest first
    leaf i      = SHA-256(leaf salt i || leaf text i)
    group       = SHA-256(the leaves of one tenant, in the order of i)
    receipt     = SHA-256(SHA-256(header) || the groups, ordered by their bytes)
    change      = SHA-256(salt of the change || its text)
    seal        = SHA-256(digest of the seal before || SHA-256(header) || SHA-256(digests of its members))

Texts are JSON without spaces, in UTF-8. No header holds a count of results: it would tell how many the others have.
*/

-- A point in time with all that Postgres keeps of it.
create or replace function retention._iso_exactly(p_at timestamptz)
returns text
language sql
stable
parallel safe
return case
  when isfinite(p_at) then to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
  else p_at::text
end;

-- The leaves of one receipt, from its arrays: i counts from 1. leaf_text: [run, tenant, key, end, version,
-- how long its policy kept it]; of a key that is hashed, its digest: sha256:<hexadecimal>.
create or replace function retention._leaves(
  p_salt bytea,
  p_run_ids retention.run_id[],
  p_keys text[],
  p_tenants text[],
  p_ends text[],
  p_versions text[],
  p_policies jsonb
)
returns table (i integer, tenant_id text, leaf_salt bytea, leaf_text text)
language sql
stable
rows 1000
as $$
  select u.n::integer,
    u.tenant_id,
    substr(s.stream, 16 * u.n::integer - 15, 16),
    array_to_json(array[
      u.run_id::text,
      u.tenant_id,
      retention._unpack_key(u.key, coalesce(u.run_id::text, '')),
      coalesce(u.how, 'deleted'),
      u.version,
      coalesce(s.policies ->> u.tenant_id, s.policies ->> '*')
    ])::text
  from (
    select string_agg(sha512(p_salt || int4send(g.n)), '' order by g.n) as stream,
      -- Read from where it is stored once, and not for each leaf.
      p_policies || '{}' as policies
    from generate_series(0, (cardinality(p_run_ids) - 1) / 4) g (n)
    offset 0
  ) s
  cross join unnest(p_run_ids, p_keys, p_tenants, p_ends, p_versions) with ordinality
    as u (run_id, key, tenant_id, how, version, n)
$$;

-- The digest of one leaf.
create or replace function retention._leaf_digest(p_leaf_salt bytea, p_leaf_text text)
returns bytea
language sql
stable
parallel safe
return sha256(p_leaf_salt || convert_to(p_leaf_text, 'UTF8'));

-- The groups of one receipt: each tenant (null is one too) with the digest over its leaves.
create or replace function retention._groups(
  p_salt bytea,
  p_run_ids retention.run_id[],
  p_keys text[],
  p_tenants text[],
  p_ends text[],
  p_versions text[],
  p_policies jsonb
)
returns table (tenant_id text, digest bytea)
language sql
stable
rows 20
as $$
  select l.tenant_id, sha256(string_agg(l.digest, ''))
  from (
    select l.tenant_id collate "C" as tenant_id, retention._leaf_digest(l.leaf_salt, l.leaf_text) as digest
    from retention._leaves(p_salt, p_run_ids, p_keys, p_tenants, p_ends, p_versions, p_policies) l
    -- In the order of i within a tenant, by one sort: ordered within the aggregate, each tenant would be sorted by itself.
    order by 1, l.i
  ) l
  group by l.tenant_id
$$;

-- The header of a receipt, as retention._receipt has it.
create or replace function retention._receipt_header(
  p_source text,
  p_id bigint,
  p_kind text,
  p_bucket text,
  p_settled_at timestamptz,
  p_request_ids text[],
  p_asked_by text,
  p_revision bigint,
  p_session text,
  p_product text
)
returns text
language sql
stable
as $$
  select row_to_json(h)::text
  from (
    select p_source || '-' || p_id as receipt,
      p_kind as kind,
      p_bucket as bucket,
      retention._iso_exactly(p_settled_at) as settled_at,
      p_request_ids as request_ids,
      p_asked_by as asked_by,
      p_revision as revision,
      p_session as session,
      p_product as product
  ) h
$$;

-- The digest of a receipt. p_groups: the digests of its groups, ordered by their bytes, one after the other.
create or replace function retention._receipt_digest(p_header text, p_groups bytea)
returns bytea
language sql
stable
parallel safe
return sha256(sha256(convert_to(p_header, 'UTF8')) || p_groups);

-- A change as text.
create or replace function retention._change_text(p_change retention.change)
returns text
language sql
stable
as $$
  select row_to_json(t)::text
  from (
    select p_change.change_id as change,
      retention._iso_exactly(p_change.at) as at,
      p_change.subject,
      p_change.action,
      p_change.tenant_id,
      p_change.run_id,
      p_change.name,
      p_change.before,
      p_change.after,
      p_change.session_name as session,
      p_change.role_name as role,
      p_change.application
  ) t
$$;

-- The digest of a change.
create or replace function retention._change_digest(p_salt bytea, p_text text)
returns bytea
language sql
stable
parallel safe
return sha256(p_salt || convert_to(p_text, 'UTF8'));

-- The header of a seal.
create or replace function retention._seal_header(p_seal_id bigint, p_sealed_at timestamptz, p_complete_to timestamptz)
returns text
language sql
stable
as $$
  select row_to_json(h)::text
  from (
    select p_seal_id as seal,
      retention._iso_exactly(p_sealed_at) as sealed_at,
      retention._iso_exactly(p_complete_to) as complete_to
  ) h
$$;

-- The digest of a seal. p_previous: that of the seal before; null: it is the first. p_members: the digests of its
-- batches, receipts and changes, one after the other.
create or replace function retention._seal_digest(p_previous bytea, p_header text, p_members bytea)
returns bytea
language sql
stable
parallel safe
return sha256(coalesce(p_previous, '') || sha256(convert_to(p_header, 'UTF8')) || sha256(p_members));
