/*
What receipts say beside what was cleared: how each result ended, and what happens outside a batch. A settled batch is
its own receipt.
*/

-- How results ended, from what the store has told of their keys. p_ends: {"<key>": {"end": "gone", "marker" or "purged",
-- "version"}}; a key that is not in it was deleted. ends[i] and versions[i] are of p_keys[i], packed as in a batch. Null:
-- all were deleted, and the store has named no version.
-- Raises invalid_parameter_value for anything else.
create or replace function retention._ends(
  p_run_ids retention.run_id[],
  p_keys text[],
  p_ends jsonb,
  out ends text[],
  out versions text[]
)
language plpgsql
immutable
as $$
begin
  if coalesce(p_ends, '{}') = '{}' then
    return;
  end if;
  if jsonb_typeof(p_ends) = 'object' then
    select array_agg(e.word order by e.n),
      case when count(e.version) > 0 then array_agg(e.version order by e.n) end
    into ends, versions
    from (
      select u.n,
        case when x.it is null then 'deleted' else coalesce(x.it ->> 'end', 'none') end as word,
        x.it ->> 'version' as version
      from unnest(p_run_ids, p_keys) with ordinality as u (run_id, key, n)
      cross join lateral (select p_ends -> retention._unpack_key(u.key, u.run_id::text) as it offset 0) x
    ) e;
  end if;
  if jsonb_typeof(p_ends) <> 'object' or not ends <@ array['deleted', 'gone', 'marker', 'purged'] then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected how keys ended as a JSON object, given: %s', left(p_ends::text, 200)),
      hint = 'For example {"results/a.json": {"end": "marker", "version": "3sL4kq"}}; an end is deleted, gone, marker or purged.';
  end if;
  if ends <@ array['deleted'] then
    ends := null;
  end if;
end
$$;

-- Writes down receipts of what happened outside a batch, at most 1,000 results in each. p_run_ids[i] of p_tenants[i]
-- points at p_keys[i]; without run ids and tenants, the keys are orphans. p_client: the client's version.
create or replace function retention._write_receipts(
  p_kind text,
  p_bucket text,
  p_run_ids retention.run_id[],
  p_keys text[],
  p_tenants text[],
  p_client text,
  p_ends text[] default null,
  p_versions text[] default null,
  p_request_ids text[] default null
)
returns void
language sql
as $$
  insert into retention.receipt (
    kind, bucket, results, run_ids, keys, tenants, asked_by, revision, ends, versions, request_ids, product
  )
  select p_kind,
    p_bucket,
    count(*),
    array_agg(u.run_id order by u.n),
    array_agg(
      case when u.run_id is null then E'\x02' || u.key else retention._pack_key(u.key, u.run_id::text) end order by u.n
    ),
    array_agg(u.tenant_id order by u.n),
    session_user,
    (select max(c.change_id) from retention.change c),
    case when p_ends is not null then array_agg(u.word order by u.n) end,
    case when p_versions is not null then array_agg(u.version order by u.n) end,
    nullif(p_request_ids, '{}'),
    left(p_client, 100)
  from unnest(p_run_ids, p_keys, p_tenants, p_ends, p_versions) with ordinality
    as u (run_id, key, tenant_id, word, version, n)
  group by (u.n - 1) / 1000
  order by min(u.n)
$$;
