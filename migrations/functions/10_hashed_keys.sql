/*
Hashed keys: with setting.receipt_keys = 'hashed', what a receipt keeps of a key from its seal on is a digest, salted as
its leaf is. Who has the key can tell that it is the one, as a row does that still names it; the digest alone tells nothing.

    kept key i = SHA-256(leaf salt i || key)
*/

-- The salt of one leaf of a receipt; p_place counts from 1.
create or replace function retention._leaf_salt(p_salt bytea, p_place bigint)
returns bytea
language sql
immutable
parallel safe
return substr(sha512(p_salt || int4send(((p_place - 1) / 4)::integer)), (16 * ((p_place - 1) % 4) + 1)::integer, 16);

-- The digest of a key as it stands in an array of keys. retention._unpack_key shows it as sha256:<hexadecimal digits>.
create or replace function retention._packed_digest(p_digest bytea)
returns text
language sql
immutable
parallel safe
return E'\x03' || encode(p_digest, 'base64');

-- The same, of a key and the salt of its leaf.
create or replace function retention._hashed_key(p_leaf_salt bytea, p_key text)
returns text
language sql
immutable
parallel safe
return retention._packed_digest(sha256(p_leaf_salt || convert_to(p_key, 'UTF8')));

-- The digests of a receipt, 32 bytes each, as an array of keys.
create or replace function retention._packed_digests(p_digests bytea)
returns text[]
language sql
immutable
parallel safe
as $$
  select coalesce(array_agg(retention._packed_digest(substr(d.digests, 32 * n - 31, 32)) order by n), '{}')
  from (select p_digests || '' as digests offset 0) d
  cross join generate_series(1, length(d.digests) / 32) n
$$;

-- The keys of a receipt as it has them: packed, or as digests.
create or replace function retention._kept_keys(p_keys text[], p_digests bytea)
returns text[]
language sql
immutable
parallel safe
return case when p_digests is null then p_keys else retention._packed_digests(p_digests) end;

-- Hashes the keys of receipts that are about to be sealed, and gives them their salts. Called by _seal_once alone.
create or replace function retention._hash_keys(p_batches bigint[], p_receipts bigint[])
returns void
language plpgsql
as $$
begin
  update retention.batch b
  set salt = h.salt,
    keys = '{}',
    key_digests = h.digests
  from (
    select s.batch_id, s.salt, retention._digests_of(s.salt, s.run_ids, s.keys) as digests
    from (
      select x.batch_id, x.run_ids, x.keys, uuid_send(gen_random_uuid()) as salt
      from retention.batch x
      where x.batch_id = any (p_batches)
      offset 0
    ) s
    offset 0
  ) h
  where b.batch_id = h.batch_id;
  update retention.receipt r
  set salt = h.salt,
    keys = '{}',
    key_digests = h.digests
  from (
    select s.receipt_id, s.salt, retention._digests_of(s.salt, s.run_ids, s.keys) as digests
    from (
      select x.receipt_id, x.run_ids, x.keys, uuid_send(gen_random_uuid()) as salt
      from retention.receipt x
      where x.receipt_id = any (p_receipts)
      offset 0
    ) s
    offset 0
  ) h
  where r.receipt_id = h.receipt_id;
end
$$;

-- The digests of the keys of a receipt, one after the other.
create or replace function retention._digests_of(p_salt bytea, p_run_ids retention.run_id[], p_keys text[])
returns bytea
language sql
stable
as $$
  select string_agg(
    sha256(
      retention._leaf_salt(p_salt, u.n)
        || convert_to(retention._unpack_key(u.key, coalesce(u.run_id::text, '')), 'UTF8')
    ),
    null order by u.n
  )
  from unnest(p_run_ids, p_keys) with ordinality as u (run_id, key, n)
$$;

-- The key that a row of the run names, if it is the one of which p_kept is the digest; else the digest as it is shown.
create or replace function retention._look_up_key(p_kept text, p_run_id retention.run_id, p_salt bytea, p_place bigint)
returns text
language plpgsql
stable
as $$
declare
  v_key text;
begin
  if p_run_id is not null and to_regclass('retention.result') is not null then
    select r.key
    into v_key
    from retention.result r
    where r.run_id = p_run_id
      and retention._hashed_key(retention._leaf_salt(p_salt, p_place), r.key::text) = p_kept
    limit 1;
  end if;
  return coalesce(v_key, retention._unpack_key(p_kept, ''));
end
$$;

-- The key of a result of a receipt, as far as it is known: see _look_up_key. One probe of the table where it is hashed.
create or replace function retention._known_key(p_kept text, p_run_id retention.run_id, p_salt bytea, p_place bigint)
returns text
language sql
stable
return case
  when starts_with(p_kept, E'\x03') then retention._look_up_key(p_kept, p_run_id, p_salt, p_place)
  else retention._unpack_key(p_kept, p_run_id::text)
end;
