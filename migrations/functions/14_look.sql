/*
The look: what would go, as sets. Many results are not looked up one by one: the table is read once or twice, and the
objects that other runs, holds and keepers need are joined. The same rules as 14_list, which looks up a few results by
index, and which a row that cannot be read falls back to. The statements are texts, since each keeper is another table.
*/

-- The statement of the results that are past their date, as in retention.selection. $1: only those that completed
-- before; $2: of this tenant only. p_early: also those that no policy makes due and that no date of their own keeps.
-- p_is_exact: without what is held and what waits for a person. Not exact it is a few more, and Postgres can read the
-- table in parallel for it: where holds are in force, each row is looked up among them.
create or replace function retention._look_source(p_early boolean, p_tenant_id text, p_is_exact boolean)
returns text
language sql
stable
as $$
  select format(
    'select r.run_id::retention.run_id as run_id, r.tenant_id::text as tenant_id, r.bucket::text as bucket,
      r.key::text collate "C" as key, r.completed_at, r.due_at, r.tenant_id as tenant, r.status, r.retain_until
    from retention._live r
    where r.is_candidate
      and r.completed_at < $1
      and %s
      and r.has_place
      and (coalesce(r.due_at < now(), false)%s)
      and r.run_id is not null%s%s',
    case when p_tenant_id is null then '$2 is null' else 'r.tenant_id = $2' end,
    case when p_early then ' or r.due_at is not null and coalesce(r.retain_until, ''-infinity'') < now()' end,
    case
      when p_is_exact and retention._may_hold()
      then ' and not r.held'
    end,
    case
      when p_is_exact and exists (select from retention._waiting_run_ids())
      then ' and not exists (select from retention._waiting_run_ids() as w (run_id) where w.run_id = r.run_id)'
    end
  )
$$;

-- Of the keys of a source (see _look_source), those that another live row has too: one that differs in something that the
-- rules ask for. Most rows have a key of their own, so that the rules are asked of few. Null: none.
create or replace function retention._look_shared_keys(p_source text, p_before timestamptz, p_tenant_id retention.tenant_id)
returns text[]
language plpgsql
stable
set enable_nestloop = off
set jit = off
set work_mem = '128MB'
as $$
declare
  v_keys text[];
begin
  if not (select s.check_shared_objects from retention.setting s) then
    return null;
  end if;
  execute format(
    'select array_agg(distinct o.key)
    from retention._live o
    where exists (
      select
      from (%s) d
      where d.key = o.key
        and (d.run_id, d.completed_at, d.tenant, d.status, d.retain_until)
          is distinct from (o.run_id, o.completed_at, o.tenant_id, o.status, o.retain_until)
    )',
    p_source
  )
  into v_keys
  using p_before, p_tenant_id;
  return v_keys;
end
$$;

-- Of the objects of a source, those that live runs need which are not due, and how many such runs. What a surge that is not
-- released needs counts as more of them than any early result makes up for.
create or replace function retention._look_shared(
  p_source text,
  p_before timestamptz,
  p_tenant_id retention.tenant_id,
  out buckets text[],
  out keys text[],
  out not_due bigint[]
)
language plpgsql
stable
set enable_nestloop = off
set jit = off
set work_mem = '128MB'
as $$
declare
  v_keys text[] := retention._look_shared_keys(p_source, p_before, p_tenant_id);
begin
  if v_keys is null then
    return;
  elsif cardinality(v_keys) <= retention._few_results() then
    select n.buckets, n.keys, n.not_due
    into buckets, keys, not_due
    from retention._look_up_sharers(v_keys) n;
  else
    -- Of its own, so that the rules are asked only of rows that have one of the keys.
    select array_agg(n.bucket), array_agg(n.key), array_agg(n.not_due)
    into buckets, keys, not_due
    from (
      select o.bucket, o.key, count(*) filter (where not o.is_due) as not_due
      from unnest(v_keys) as k (key)
      join retention._live o on o.key = k.key collate "C"
      where o.bucket is not null
      group by o.bucket, o.key
    ) n
    where n.not_due > 0;
  end if;
  if v_keys <> '{}' and exists (select from retention.surge_part) then
    select array_agg(n.bucket), array_agg(n.key), array_agg(n.not_due)
    into buckets, keys, not_due
    from (
      select a.bucket, a.key, max(a.not_due) as not_due
      from (
        select u.bucket, u.key, u.not_due
        from unnest(buckets, keys, not_due) as u (bucket, key, not_due)
        union all
        select p.bucket, k.key, 1000000000
        from (select distinct s.bucket from retention.surge_part s) p
        cross join lateral unnest(retention._set_aside_keys(p.bucket, v_keys)) as k (key)
      ) a
      group by a.bucket, a.key
    ) n;
  end if;
end
$$;

-- Of some keys, the objects that live runs need which are not due, and how many such runs: each key is looked up once.
create or replace function retention._look_up_sharers(
  p_keys text[],
  out buckets text[],
  out keys text[],
  out not_due bigint[]
)
language plpgsql
stable
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_hashjoin = off
set enable_mergejoin = off
set max_parallel_workers_per_gather = 0
set jit = off
as $$
begin
  select array_agg(b.bucket), array_agg(k.key), array_agg(b.not_due)
  into buckets, keys, not_due
  from unnest(p_keys) as k (key)
  -- The aggregate keeps this a probe by key.
  cross join lateral (
    select array_agg(o.bucket) as buckets
    from retention._live o
    where o.key_hash = retention._key_hash(k.key)
      and o.key = k.key collate "C"
      and not o.is_due
  ) o
  cross join lateral (
    select u.bucket, count(*) as not_due
    from unnest(o.buckets) as u (bucket)
    where u.bucket is not null
    group by u.bucket
  ) b;
end
$$;

-- Of the objects of a source, those that keepers keep. Whether the keeper is read as a whole or by its index is left
-- to the planner: a keeper may be much larger than what is due. Raises RR051 where a keeper cannot be asked.
create or replace function retention._look_kept(
  p_source text,
  p_before timestamptz,
  p_tenant_id retention.tenant_id,
  out buckets text[],
  out keys text[]
)
language plpgsql
stable
set jit = off
set work_mem = '128MB'
-- A policy that hides rows raises, and does not read as "keeps nothing".
set row_security = off
as $$
declare
  v_keeper retention.keeper;
  v_fault record;
  v_found record;
  v_default_bucket text := (select s.default_bucket from retention.setting s);
begin
  buckets := '{}';
  keys := '{}';
  for v_keeper in
    select * from retention.keeper k order by k.keeper_id
  loop
    select * into v_fault from retention._keeper_fault(v_keeper);
    if v_fault.fault is not null then
      raise exception using
        errcode = 'RR051',
        message = format('the keeper %s cannot be asked: %s', v_keeper.table_name, v_fault.fault),
        hint = v_fault.remedy;
    end if;
    execute format(
      'select coalesce(array_agg(n.bucket), ''{}'') as buckets, coalesce(array_agg(n.key), ''{}'') as keys
      from (
        select distinct d.bucket, d.key
        from (%s) d
        join %s
      ) n',
      p_source, retention._keeper_join(v_keeper, 'd.bucket', 'd.key', '$3')
    )
    into v_found
    using p_before, p_tenant_id, v_default_bucket;
    buckets := buckets || v_found.buckets;
    keys := keys || v_found.keys;
  end loop;
end
$$;

-- The statement of what is left of a source: without what other runs, holds and keepers need. $3 to $5: what
-- _look_shared found; $6 and $7: what _look_kept found. p_limit: the first so many, by tenant and oldest first.
create or replace function retention._look_statement(
  p_source text,
  p_is_shared boolean,
  p_is_kept boolean,
  p_limit bigint
)
returns text
language sql
stable
as $$
  select format('select d.* from (%s) d ', p_source)
    || case
      when p_is_shared
      -- One that is early is itself not due.
      then 'left join unnest($3::text[], $4::text[], $5::bigint[]) as n (bucket, key, not_due)
          on n.bucket = d.bucket and n.key collate "C" = d.key
        where coalesce(n.not_due, 0) <= (d.due_at is null or d.due_at >= now())::integer '
      else 'where $3::text[] is null and $4::text[] is null and $5::bigint[] is null '
    end
    || case
      when p_is_kept
      then 'and not exists (
          select
          from unnest($6::text[], $7::text[]) as k (bucket, key)
          where k.bucket = d.bucket and k.key collate "C" = d.key
        ) '
      else 'and $6::text[] is not null and $7::text[] is not null '
    end
    || case
      when exists (select from retention.held_object)
      then 'and not exists (
          select
          from retention.held_object o
          join retention.hold h on h.hold_id = o.hold_id
          where o.bucket = d.bucket
            and o.key = d.key
            and retention._hold_end(h.released_at, h.expires_at) > now()
        ) '
      else ''
    end
    || case
      when p_limit is not null
      then format('order by d.tenant, d.completed_at, d.run_id limit %s', p_limit)
      else ''
    end
$$;

-- Runs a statement over what would go, which names it as %s. Called by _count_many and _list_many under their settings.
-- The statement, with its parameters bound: what is shared and kept is found first.
create or replace function retention._look_many(
  p_tenant_id text,
  p_older_than interval,
  p_early boolean,
  p_limit bigint,
  out statement text,
  out before timestamptz,
  out shared_buckets text[],
  out shared_keys text[],
  out not_due bigint[],
  out kept_buckets text[],
  out kept_keys text[]
)
language plpgsql
stable
as $$
declare
  v_source text := retention._look_source(p_early, p_tenant_id, true);
  v_tenant_id retention.tenant_id := p_tenant_id;
  v_retain interval := (select min(retention._in_seconds(p.retain)) from retention.policy p);
begin
  before := now() - case when p_early then p_older_than else greatest(v_retain, p_older_than) end;
  select s.buckets, s.keys, s.not_due
  into shared_buckets, shared_keys, not_due
  from retention._look_shared(retention._look_source(p_early, p_tenant_id, false), before, v_tenant_id) s;
  select k.buckets, k.keys
  into kept_buckets, kept_keys
  from retention._look_kept(v_source, before, v_tenant_id) k;
  statement := retention._look_statement(v_source, shared_keys is not null, kept_keys <> '{}', p_limit);
end
$$;

-- What _list_few lists, of many results.
create or replace function retention._list_many(p_tenant_id text, p_older_than interval, p_early boolean, p_limit bigint)
returns setof retention.selection
language plpgsql
stable
set enable_nestloop = off
set jit = off
set work_mem = '128MB'
as $$
declare
  v_look record;
begin
  select * into strict v_look from retention._look_many(p_tenant_id, p_older_than, p_early, p_limit);
  -- In their order after the last that can raise: what a statement has returned before it raises stays returned.
  return query execute format(
    'select d.run_id, d.tenant_id, d.bucket, d.key, d.completed_at, d.due_at
    from (%s) d
    order by d.tenant, d.completed_at, d.run_id',
    v_look.statement
  )
  using v_look.before, p_tenant_id::retention.tenant_id, v_look.shared_buckets, v_look.shared_keys, v_look.not_due,
    v_look.kept_buckets, v_look.kept_keys;
end
$$;

-- The same, counted by tenant and bucket: see count_due.
create or replace function retention._count_many(p_tenant_id text, p_older_than interval, p_early boolean, p_limit bigint)
returns table (tenant_id text, bucket text, results bigint, oldest timestamptz, early bigint)
language plpgsql
stable
set enable_nestloop = off
-- In no order: a sort before the aggregate would cost more than the aggregate.
set enable_sort = off
set jit = off
set work_mem = '128MB'
as $$
#variable_conflict use_column
declare
  v_look record;
begin
  select * into strict v_look from retention._look_many(p_tenant_id, p_older_than, p_early, p_limit);
  return query execute format(
    'select d.tenant_id, d.bucket, count(*), min(d.completed_at), count(*) filter (where d.due_at >= now())
    from (%s) d
    group by d.tenant_id, d.bucket',
    v_look.statement
  )
  using v_look.before, p_tenant_id::retention.tenant_id, v_look.shared_buckets, v_look.shared_keys, v_look.not_due,
    v_look.kept_buckets, v_look.kept_keys;
end
$$;
