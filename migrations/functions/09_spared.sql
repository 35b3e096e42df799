/*
Objects that were spared and may go later: a keeper needs them, or S3 holds another version than the row names. They
are noted, so that no pass flags their results before their time (retention.spared_object).
*/

-- The etag of a row as the condition that S3 gets: without quotes. Null: the row has none, and nothing is asked. What is
-- no strong etag (empty, with spaces, W/"...", *) is '!', which no object has: the result is kept, since S3 could
-- not tell what the row means.
create or replace function retention._condition(p_etag text)
returns text
language sql
immutable
parallel safe
return case
  when p_etag is null then null
  -- Without bounds, which would make the pattern slow.
  when octet_length(p_etag) <= 257 and p_etag ~ '^("[A-Za-z0-9+/=_.:~-]+"|[A-Za-z0-9+/=_.:~-]+)$' then btrim(p_etag, '"')
  else '!'
end;

-- The version of an object that its runs mean, as a condition: what the newest says of those that are not cleared and
-- name an etag. Null: none does. One probe by key, whatever the caller's settings.
create or replace function retention._object_condition(p_bucket text, p_key text)
returns text
language plpgsql
stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
begin
  -- In PL/pgSQL, which keeps the plan: it is asked for each result that was spared.
  return (
    select retention._condition((array_agg(r.etag::text order by r.completed_at desc nulls last, r.etag))[1])
    from retention._live r
    where r.key_hash = retention._key_hash(p_key)
      and r.key = p_key collate "C"
      and r.bucket = p_bucket
      and r.etag is not null
  );
end
$$;

-- The results of a batch as _results has them, each with its condition.
create or replace function retention._conditional_results(p_batch retention.batch)
returns table (run_id retention.run_id, key text, etag text, n bigint)
language sql
stable
rows 1000
as $$
  -- Unnested together: an element of an array out of line costs reading the whole of it.
  select u.run_id, retention._unpack_key(u.key, u.run_id::text), u.etag, u.n
  from unnest(p_batch.run_ids, p_batch.keys, p_batch.etags) with ordinality as u (run_id, key, etag, n)
  offset 0
$$;

-- The conditions of a batch's results, in their order, as its rows are now. Null: none has one. Read before the check of
-- promise 1: whatever changes in a row from here on, S3 is asked for the version that was due.
create or replace function retention._read_conditions(p_batch retention.batch)
returns text[]
language plpgsql
stable
as $$
declare
  v_conditions text[];
begin
  select case when count(k.condition) > 0 then array_agg(k.condition order by e.n) end
  into v_conditions
  from (
    -- Each object once: thousands of results may share one. The probe as in _object_condition, planned once.
    select d.key, o.condition
    from (select distinct x.key collate "C" as key from retention._results(p_batch) x offset 0) d
    cross join lateral (
      select retention._condition((array_agg(r.etag::text order by r.completed_at desc nulls last, r.etag))[1]) as condition
      from retention._live r
      where r.key_hash = retention._key_hash(d.key)
        and r.key = d.key
        and r.bucket = p_batch.bucket
        and r.etag is not null
    ) o
    offset 0
  ) k
  join retention._results(p_batch) e on e.key collate "C" = k.key;
  return v_conditions;
exception
  when query_canceled then
    raise;
  when others then
    if retention._is_passing(sqlstate) then
      raise;
    end if;
    return retention._read_conditions_carefully(p_batch);
end
$$;

-- The same, result by result. One whose row cannot be read gets the condition that no object meets.
create or replace function retention._read_conditions_carefully(p_batch retention.batch)
returns text[]
language plpgsql
stable
as $$
declare
  v_conditions text[] := '{}';
  v_condition text;
  v_key text;
begin
  for v_key in
    select e.key from retention._results(p_batch) e order by e.n
  loop
    begin
      v_condition := retention._object_condition(p_batch.bucket, v_key);
    exception
      when query_canceled then
        raise;
      when others then
        if retention._is_passing(sqlstate) then
          raise;
        end if;
        v_condition := '!';
    end;
    v_conditions := v_conditions || v_condition;
  end loop;
  return v_conditions;
end
$$;

-- What the check of a batch left over, without what keepers keep, and without results whose etag is none. p_spared and
-- p_keys: as _check returns them. etags: the conditions beside keys; null: there is none. Both are noted. Called by claim
-- where there are keepers or conditions.
create or replace function retention._spare_more(
  p_batch retention.batch,
  p_spared bigint[],
  p_keys text[],
  out spared bigint[],
  out keys text[],
  out etags text[]
)
language plpgsql
as $$
declare
  v_kept text[] := '{}';
  v_odd text[] := '{}';
  v_key text;
begin
  spared := p_spared;
  keys := p_keys;
  if cardinality(p_keys) > 0 and exists (select from retention.keeper) then
    with kept as (
      select k.key, (array_agg(k.kept_by order by k.until desc))[1] as kept_by, max(k.until) as until
      from retention._kept(p_batch.bucket, p_keys, true) k
      group by k.key
    ),
    noted as (
      insert into retention.spared_object as s (bucket, key, etag, kept_by, until)
      select p_batch.bucket, k.key, '', k.kept_by, k.until
      from kept k
      on conflict (bucket, key, etag) do update
      set kept_by = excluded.kept_by,
        until = excluded.until,
        noted_at = now()
    )
    select coalesce(array_agg(k.key), '{}') into v_kept from kept k;
  end if;
  if '!' = any (p_batch.etags) then
    v_odd := array(
      select e.key
      from retention._conditional_results(p_batch) e
      where e.etag = '!'
        and e.key collate "C" in (select unnest(p_keys) collate "C")
    );
    perform retention._note_changed(p_batch, v_odd);
  end if;
  if cardinality(v_kept) + cardinality(v_odd) > 0 then
    spared := p_spared || array(
      select e.n
      from retention._results(p_batch) e
      where e.key collate "C" in (select unnest(v_kept || v_odd) collate "C")
        and e.n not in (select unnest(p_spared))
    );
    if cardinality(v_kept) + cardinality(v_odd) <= 20 then
      foreach v_key in array v_kept || v_odd loop
        keys := array_remove(keys, v_key);
      end loop;
    else
      keys := array(
        select k.key from unnest(p_keys) as k (key) where k.key collate "C" not in (select unnest(v_kept || v_odd) collate "C")
      );
    end if;
  end if;
  if p_batch.etags is not null then
    -- Once each: of a key that is named twice, both have one condition.
    select coalesce(array_agg(o.key), '{}'), array_agg(o.etag)
    into keys, etags
    from (
      select distinct on (e.key collate "C") e.key, e.etag
      from retention._conditional_results(p_batch) e
      where e.key collate "C" in (select unnest(keys) collate "C")
        and e.n not in (select unnest(spared))
    ) o;
  end if;
end
$$;

-- Notes objects of a batch of which S3 holds another version than it was asked for. The wait until it is asked again
-- doubles from an hour to a week; a row with another etag does not wait.
create or replace function retention._note_changed(p_batch retention.batch, p_keys text[])
returns void
language sql
as $$
  insert into retention.spared_object as s (bucket, key, etag, until, run_id)
  select distinct on (e.key collate "C") p_batch.bucket, e.key, e.etag,
    clock_timestamp() + retention._backoff('1 hour', '7 days', 1),
    e.run_id
  from retention._conditional_results(p_batch) e
  where e.key collate "C" in (select unnest(p_keys) collate "C")
  on conflict (bucket, key, etag) do update
  set until = clock_timestamp() + retention._backoff('1 hour', '7 days', s.times + 1),
    run_id = excluded.run_id,
    times = s.times + 1,
    noted_at = now()
$$;

-- Takes out of the failures of a batch those for which S3 holds another version of the object (outcome: changed), and
-- notes them. others: the failures without them; keys and results: what was taken out. Called by settle alone.
create or replace function retention._take_changed(
  p_batch retention.batch,
  p_failed jsonb,
  out others jsonb,
  out keys text[],
  out results bigint
)
language plpgsql
as $$
begin
  -- Without a condition there was nothing that could have failed it.
  select coalesce(array_agg(e.key), '{}'), count(*)
  into keys, results
  from retention._conditional_results(p_batch) e
  where e.etag is not null
    and e.key collate "C" in (
      select f.key collate "C"
      from jsonb_to_recordset(p_failed) as f (key text, outcome text)
      where f.outcome = 'changed'
    );
  perform retention._note_changed(p_batch, keys);
  others := (
    select coalesce(jsonb_agg(f.failure), '[]')
    from jsonb_array_elements(p_failed) as f (failure)
    where coalesce(f.failure ->> 'key', '') collate "C" not in (select unnest(keys) collate "C")
  );
end
$$;

-- Whether a result is not flagged for a time, since a keeper has its object or S3 holds another version than it names.
-- Asked only where anything is noted.
create or replace function retention._is_spared_for_now(p_bucket text, p_key text)
returns boolean
language sql
stable
as $$
  select exists (
    select
    from retention.spared_object o
    where o.bucket = p_bucket
      and o.key = p_key collate "C"
      and o.until > now()
      and (o.kept_by is not null or o.etag = retention._object_condition(p_bucket, p_key))
  )
$$;

-- Some rows of a selection, without those that a keeper keeps: one question to each keeper for each bucket.
create or replace function retention._without_kept(p_rows retention.selection[])
returns retention.selection[]
language plpgsql
stable
as $$
begin
  if not exists (select from retention.keeper) then
    return p_rows;
  end if;
  return array(
    select row(r.run_id, r.tenant_id, r.bucket, r.key, r.completed_at, r.due_at)::retention.selection
    from unnest(p_rows) with ordinality as r (run_id, tenant_id, bucket, key, completed_at, due_at, n)
    left join (
      select b.bucket, k.key
      from (
        select g.bucket, array_agg(distinct g.key collate "C") as keys
        from unnest(p_rows) as g
        group by g.bucket
      ) b
      cross join lateral retention._kept(b.bucket, b.keys) k
    ) x on x.bucket = r.bucket and x.key = r.key collate "C"
    where x.key is null
    order by r.n
  );
end
$$;

-- Whether a run that is not cleared points at an object, and means that version of it (empty: any). One probe by key,
-- whatever the caller's settings.
create or replace function retention._is_wanted(p_bucket text, p_key text, p_etag text)
returns boolean
language sql
stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
  select case
    when p_etag <> '' then retention._object_condition(p_bucket, p_key) is not distinct from p_etag
    else exists (
      select
      from retention._live l
      where l.key_hash = retention._key_hash(p_key)
        and l.key = p_key collate "C"
        and l.bucket = p_bucket
    )
  end
$$;

-- Looks again at what was spared, the oldest 10,000 notes at a time: forgets objects that no keeper keeps any more, and
-- those that no run which is not cleared points at. Where a keeper cannot be asked, its notes stay.
create or replace function retention._review_spared_objects()
returns void
language plpgsql
as $$
declare
  v_before timestamptz := (
    select max(o.noted_at)
    from (select s.noted_at from retention.spared_object s order by s.noted_at limit 10000) o
  );
  v_seen_at timestamptz := retention._seen();
begin
  if v_before is null then
    return;
  end if;
  delete from retention.spared_object o
  where o.noted_at <= v_before
    and not retention._is_wanted(o.bucket, o.key, o.etag);
  merge into retention.spared_object s
  using (
    select o.bucket, o.key, max(k.until) as until, (array_agg(k.kept_by order by k.until desc))[1] as kept_by
    from retention.spared_object o
    left join (
      select b.bucket, k.*
      from (
        select n.bucket, array_agg(n.key) as keys
        from retention.spared_object n
        where n.noted_at <= v_before
          and n.kept_by is not null
        group by n.bucket
      ) b
      cross join lateral retention._kept(b.bucket, b.keys) k
    ) k on k.bucket = o.bucket and k.key = o.key collate "C"
    where o.noted_at <= v_before
      and o.kept_by is not null
    group by o.bucket, o.key
  ) n
  on n.bucket = s.bucket
    and n.key = s.key
    and s.etag = ''
  -- Its time is over: its result fell due then, which a complete walk has to know (see _is_late). Without a guard no
  -- walk has to.
  when matched and n.until is null and s.until <= now() and s.until > v_seen_at and v_seen_at > '-infinity' then
    do nothing
  when matched and n.until is null then
    delete
  when matched then
    update set until = n.until, kept_by = n.kept_by, noted_at = now();
  update retention.spared_object o
  set noted_at = now()
  where o.noted_at <= v_before
    and o.kept_by is null;
exception
  when sqlstate 'RR051' or lock_not_available then
    return;
end
$$;
