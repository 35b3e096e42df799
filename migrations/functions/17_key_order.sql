/*
The order of keys, while a verify needs it. The index retention_key finds a key and knows no order, so that it costs the
application little. A verify compares rows with S3's listing stretch by stretch: it copies the keys of the bucket's live
rows, sorted, by the thousand and with the runs that they are of. A copy only says where to look: what is told of a row
is what the row says at that moment. A crash of the server empties both tables, and the next question makes the copy again.
*/

-- The copy of a verify for a bucket and a prefix, made if there is none: it reads the table once. Of rows that are
-- candidates and completed before p_before. One copy, however many sessions ask at once: the others wait for it.
create or replace function retention._copy_keys(p_verify_id uuid, p_bucket text, p_prefix text, p_before timestamptz)
returns bigint
language plpgsql
-- As a hash, the arrays of all stretches would be in memory together.
set enable_hashagg = off
set work_mem = '128MB'
set jit = off
as $$
declare
  v_copy_id bigint := (
    select c.copy_id
    from retention.key_copy c
    where c.verify_id = p_verify_id
      and c.bucket = p_bucket
      and c.prefix = p_prefix
  );
begin
  if v_copy_id is not null then
    return v_copy_id;
  end if;
  insert into retention.key_copy (verify_id, bucket, prefix)
  values (p_verify_id, p_bucket, p_prefix)
  on conflict do nothing
  returning copy_id into v_copy_id;
  if v_copy_id is null then
    return (
      select c.copy_id
      from retention.key_copy c
      where c.verify_id = p_verify_id
        and c.bucket = p_bucket
        and c.prefix = p_prefix
    );
  end if;
  insert into retention.key_stretch (copy_id, place, first_key, last_key, keys, run_ids)
  select v_copy_id, s.place, min(s.key), max(s.key), array_agg(s.key order by s.n), array_agg(s.run_id order by s.n)
  from (
    select o.key, o.run_id, o.n, (o.n - 1) / 1000 as place
    from (
      select r.key collate "C" as key,
        r.run_id::retention.run_id as run_id,
        row_number() over (order by r.key collate "C") as n
      from retention._live r
      where r.bucket = p_bucket
        and r.is_candidate
        and r.completed_at < p_before
        and r.run_id is not null
        and starts_with(r.key, p_prefix)
    ) o
  ) s
  group by s.place;
  return v_copy_id;
end
$$;

-- Live rows of a stretch of a bucket's keys that are not among p_keys, in the order of keys: what compare_listing returns.
-- At least 1,000 come back where there are so many, and with a key all of its rows. Each is found by its run.
create or replace function retention._not_listed(
  p_copy_id bigint,
  p_bucket text,
  p_after text,
  p_until text,
  p_keys text[],
  p_before timestamptz,
  p_as_of timestamptz
)
returns table (run_id text, key text, is_due boolean)
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_stretch retention.key_stretch;
  v_last_key text;
  v_found bigint := 0;
  v_more bigint;
begin
  for v_stretch in
    select s.*
    from retention.key_stretch s
    where s.copy_id = p_copy_id
      and s.last_key > coalesce(p_after, '') collate "C"
    order by s.copy_id, s.last_key, s.place
  loop
    exit when v_stretch.first_key > p_until collate "C"
      or v_found >= 1000 and v_stretch.first_key <> v_last_key collate "C";
    return query
    select r.run_id::text, r.key::text, r.is_past
    from unnest(v_stretch.keys, v_stretch.run_ids) with ordinality as k (key, run_id, n)
    cross join lateral (
      select l.run_id, l.key, coalesce(l.due_at < now(), false) as is_past
      from retention._live l
      where l.run_id = k.run_id
        and l.key = k.key collate "C"
        and l.bucket = p_bucket
        and l.is_candidate
        and l.completed_at < p_before
        and (
          p_as_of is null
          or not exists (
            select
            from retention.result x
            where x.run_id = l.run_id
              and x.updated_at >= p_as_of
          )
        )
      offset 0
    ) r
    where k.key > coalesce(p_after, '') collate "C"
      and (p_until is null or k.key <= p_until collate "C")
      -- Looked up by hash; as an array, the planner would weigh each of a thousand keys.
      and k.key collate "C" not in (select e.key collate "C" from unnest(p_keys) as e (key))
    order by k.n;
    get diagnostics v_more = row_count;
    v_found := v_found + v_more;
    v_last_key := v_stretch.last_key;
  end loop;
end
$$;

-- Removes the copies of a verify, and those that verifies of more than 2 days ago left behind without progress to go on with.
create or replace function retention._forget_copies(p_verify_id uuid)
returns void
language sql
as $$
  with gone as (
    delete from retention.key_copy c
    where c.verify_id = p_verify_id
      or c.made_at < now() - interval '2 days'
      and c.verify_id not in (select r.verify_id from retention.verify_run r)
    returning c.copy_id
  )
  delete from retention.key_stretch s
  where s.copy_id in (select g.copy_id from gone g)
$$;
