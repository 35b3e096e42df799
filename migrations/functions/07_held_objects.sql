/*
Held objects: a hold keeps the bucket and key of what it found, so that it covers the object also when the row has
gone, or names another object by now.
*/

-- Whether a hold that is in force has found this object. The aggregate and the subquery keep it a probe by object:
-- joined, it may read all objects of a hold for each key.
create or replace function retention._is_held_object(p_bucket text, p_key text)
returns boolean
language sql
stable
as $$
  select coalesce(
    (
      select bool_or(
        (
          select retention._hold_end(h.released_at, h.expires_at) > now()
          from retention.hold h
          where h.hold_id = o.hold_id
        )
      )
      from retention.held_object o
      where o.bucket = p_bucket
        and o.key = p_key collate "C"
    ),
    false
  )
$$;

-- Writes down the objects of a run or of a tenant for a hold. Of a tenant these are the objects of its live results,
-- and those of its flagged results whose rows have gone. bucket and key: one object of a run. Called by place_hold.
create or replace function retention._note_held_objects(
  p_hold_id bigint,
  p_run_id retention.run_id,
  p_tenant_id retention.tenant_id,
  out objects bigint,
  out bucket text,
  out key text
)
language plpgsql
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_default_bucket text := (select s.default_bucket from retention.setting s);
begin
  if p_run_id is not null then
    insert into retention.held_object (hold_id, bucket, key)
    select p_hold_id, retention._bucket(r.bucket, v_default_bucket), r.key
    from retention.result r
    where r.run_id = p_run_id
      and octet_length(retention._bucket(r.bucket, v_default_bucket)) <= 255
      and octet_length(r.key) between 1 and 1024
    on conflict do nothing;
    select o.bucket, o.key
    into bucket, key
    from retention.held_object o
    where o.hold_id = p_hold_id
    order by o.bucket, o.key
    limit 1;
  else
    insert into retention.held_object (hold_id, bucket, key)
    select p_hold_id, l.bucket, l.key
    from retention._live l
    where l.tenant_id = p_tenant_id
      and l.is_candidate
      and l.has_place
    on conflict do nothing;
    insert into retention.held_object (hold_id, bucket, key)
    select p_hold_id, b.bucket, u.key
    from retention.batch b
    cross join lateral retention._results(b) u
    where b.settled_at is null
      and p_tenant_id::text = any (b.tenants)
      and u.tenant_id = p_tenant_id::text
      and u.key <> ''
    on conflict do nothing;
  end if;
  select count(*) into objects from retention.held_object o where o.hold_id = p_hold_id;
end
$$;

-- Takes out of the keys of a batch those whose object is under a hold, and adds their places to the spared ones. Where
-- nothing was ever held, it asks once. Called by _check under the planner settings of claim.
create or replace function retention._spare_held(
  p_batch retention.batch,
  p_spared bigint[],
  p_keys text[],
  out spared bigint[],
  out keys text[]
)
language plpgsql
stable
as $$
declare
  v_held text[];
begin
  spared := p_spared;
  keys := p_keys;
  if not exists (select from retention.held_object) then
    return;
  end if;
  v_held := array(
    select k.key
    from unnest(p_keys) as k (key)
    where retention._is_held_object(p_batch.bucket, k.key)
  );
  if v_held = '{}' then
    return;
  end if;
  keys := array(select k.key from unnest(p_keys) as k (key) where k.key collate "C" not in (select unnest(v_held)));
  spared := array(
    select n.place from unnest(p_spared) as n (place)
    union
    select e.n from retention._results(p_batch) e where e.key collate "C" in (select unnest(v_held))
    order by 1
  );
end
$$;

-- Writes down what the runs under a hold name by now, where it is another object than before, and forgets the objects
-- of holds that have ended. One probe by run id for each hold on a run. Called once an hour.
create or replace function retention._review_held_objects()
returns void
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
begin
  delete from retention.held_object o
  using retention.hold h
  where h.hold_id = o.hold_id
    and retention._hold_end(h.released_at, h.expires_at) < now();
  if to_regclass('retention.result') is null then
    return;
  end if;
  with noted as (
    insert into retention.held_object (hold_id, bucket, key)
    select h.hold_id, retention._bucket(r.bucket, (select s.default_bucket from retention.setting s)), r.key
    from retention.hold h
    join retention.result r on r.run_id = h.run_id
    where h.run_id is not null
      and retention._hold_end(h.released_at, h.expires_at) > now()
      and octet_length(retention._bucket(r.bucket, (select s.default_bucket from retention.setting s))) <= 255
      and octet_length(r.key) between 1 and 1024
    on conflict do nothing
    returning hold_id, bucket, key
  )
  update retention.hold h
  set objects = h.objects + n.objects,
    bucket = coalesce(h.bucket, n.bucket),
    key = coalesce(h.key, n.key)
  from (
    select o.hold_id, count(*) as objects, min(o.bucket) as bucket, (array_agg(o.key order by o.bucket))[1] as key
    from noted o
    group by o.hold_id
  ) n
  where n.hold_id = h.hold_id;
end
$$;
