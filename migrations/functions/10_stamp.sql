/*
Stamping: the only statement of this schema that writes the cleared-at column of a live row, and what is done
where it fails.

The application's triggers run with it, and find what they find when the application writes: names are looked up
under the recorded search path. Between the two changes of the path no text of ours may leave a name, an
operator, a type or a collation to be looked up, or it could be led to a stranger's with the rights of the owner.
*/

-- The recorded search path as stamps use it. Temporary objects come last, or a caller's own temporary table
-- would stand in for one that a trigger names.
create or replace function retention._application_path(p_recorded text)
returns text
language sql
immutable
parallel safe
return ltrim(regexp_replace(coalesce(p_recorded, ''), '(^|,)\s*"?pg_temp[^,]*', '', 'gi') || ', pg_temp', ' ,');

-- Whether a failure of a stamp passes by itself: see _is_passing. A trigger of the application may reach another
-- server through a pooler, which gives what it says the code of an internal error.
create or replace function retention._stamp_passes(p_code text)
returns boolean
language sql
immutable
parallel safe
return retention._is_passing(p_code) or p_code = 'XX000';

-- Writes the cleared-at column of the rows that still are as they were claimed, and updated-at where the table
-- has one: the same bucket and key, completed between p_oldest and p_newest, and not completed again. p_run_ids[i]
-- points at p_keys[i], as _pack_key has it. Returns how many rows carry a stamp afterwards: what a trigger, a rule
-- or a policy has swallowed is not among them. Waits half a second for a locked row at most. Checks deferred
-- constraints, which would fail the commit. Raises whatever the application's triggers and constraints raise.
create or replace function retention._stamp(
  p_bucket text,
  p_run_ids retention.run_id[],
  p_keys text[],
  p_oldest timestamptz,
  p_newest timestamptz
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
-- Of a small table all rows may be cheaper to read than probes by run id: then they are to be looked up in a
-- hash of the batch, and not each compared with all of it.
set enable_hashjoin = on
as $$
declare
  v_default_bucket text := (select s.default_bucket from retention.setting s);
  v_path text;
  v_completed text;
  v_is_dated boolean;
  v_has_rules boolean;
  v_has_triggers boolean;
  v_is_young boolean;
  v_stamped bigint;
begin
  select retention._application_path(a.application_path),
    coalesce(a.columns -> 'status' ->> 'completed', 'COMPLETED'),
    a.columns -> 'updated_at' ->> 'name' is not null,
    c.relhasrules,
    c.relhastriggers or c.relhassubclass or c.relkind = 'p',
    c.reltuples < 10000
  into v_path, v_completed, v_is_dated, v_has_rules, v_has_triggers, v_is_young
  from retention.adapter a
  left join pg_class c on c.oid = a.table_oid;
  if v_has_rules then
    return retention._stamp_under_rules(
      p_bucket, p_run_ids, p_keys, p_oldest, p_newest, v_path, v_completed, v_is_dated
    );
  elsif v_has_triggers then
    return retention._stamp_under_triggers(
      p_bucket, p_run_ids, p_keys, p_oldest, p_newest, v_path, v_completed, v_is_dated, v_default_bucket
    );
  end if;
  if v_is_young then
    -- The table may have grown since its statistics, and a plan that was kept for a few rows reads all of them.
    perform set_config('plan_cache_mode', 'force_custom_plan', true);
  end if;
  perform set_config('search_path', v_path, true);
  -- The bucket as _bucket has it, which would be taken for more selective than it is.
  -- The run id is the only condition that an index can answer: what statistics make of the others, or of an index
  -- of the application, changes no plan.
  if v_is_dated then
    update retention.result r
    set cleared_at = pg_catalog.now(),
      updated_at = pg_catalog.now()
    from unnest(p_run_ids, p_keys) as g (run_id, key)
    where r.run_id operator(pg_catalog.=) g.run_id
      and (
        r.key operator(pg_catalog.=) retention._unpack_key(g.key, g.run_id::pg_catalog.text) collate pg_catalog."C"
        and coalesce(case when r.bucket operator(pg_catalog.<>) '' then r.bucket end, v_default_bucket)
          operator(pg_catalog.=) p_bucket
        and r.status::pg_catalog.text operator(pg_catalog.=) v_completed
        and r.completed_at operator(pg_catalog.>=) p_oldest
        and r.completed_at operator(pg_catalog.<=) p_newest
        and r.cleared_at is null
      ) is true;
  else
    update retention.result r
    set cleared_at = pg_catalog.now()
    from unnest(p_run_ids, p_keys) as g (run_id, key)
    where r.run_id operator(pg_catalog.=) g.run_id
      and (
        r.key operator(pg_catalog.=) retention._unpack_key(g.key, g.run_id::pg_catalog.text) collate pg_catalog."C"
        and coalesce(case when r.bucket operator(pg_catalog.<>) '' then r.bucket end, v_default_bucket)
          operator(pg_catalog.=) p_bucket
        and r.status::pg_catalog.text operator(pg_catalog.=) v_completed
        and r.completed_at operator(pg_catalog.>=) p_oldest
        and r.completed_at operator(pg_catalog.<=) p_newest
        and r.cleared_at is null
      ) is true;
  end if;
  get diagnostics v_stamped = row_count;
  set constraints all immediate;
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  perform retention._check_table();
  return v_stamped;
end
$$;

-- As _stamp, for a table with triggers or partitions: a trigger may take the stamp out of the row again, so what
-- came of each is counted. Called by _stamp alone, under its settings.
create or replace function retention._stamp_under_triggers(
  p_bucket text,
  p_run_ids retention.run_id[],
  p_keys text[],
  p_oldest timestamptz,
  p_newest timestamptz,
  p_path text,
  p_completed text,
  p_is_dated boolean,
  p_default_bucket text
)
returns bigint
language plpgsql
as $$
declare
  v_update text := format(
    $update$
    with stamped as (
      update retention.result r
      set cleared_at = pg_catalog.now()%s
      from unnest($1, $2) as g (run_id, key)
      where r.run_id operator(pg_catalog.=) g.run_id
        and (
          r.key operator(pg_catalog.=) retention._unpack_key(g.key, g.run_id::pg_catalog.text) collate pg_catalog."C"
          and coalesce(case when r.bucket operator(pg_catalog.<>) '' then r.bucket end, $7)
            operator(pg_catalog.=) $3
          and r.status::pg_catalog.text operator(pg_catalog.=) $4
          and r.completed_at operator(pg_catalog.>=) $5
          and r.completed_at operator(pg_catalog.<=) $6
          and r.cleared_at is null
        ) is true
      returning r.cleared_at
    )
    select pg_catalog.count(s.cleared_at) from stamped s
    $update$,
    case when p_is_dated then ', updated_at = pg_catalog.now()' end
  );
  v_stamped bigint;
begin
  perform set_config('search_path', p_path, true);
  execute v_update
  into v_stamped
  using p_run_ids, p_keys, p_bucket, p_completed, p_oldest, p_newest, p_default_bucket;
  set constraints all immediate;
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  perform retention._check_table();
  return v_stamped;
end
$$;

-- As _stamp, for a table with rules: they allow no RETURNING, and what they swallow is found by looking again.
-- Called by _stamp alone, under its settings.
create or replace function retention._stamp_under_rules(
  p_bucket text,
  p_run_ids retention.run_id[],
  p_keys text[],
  p_oldest timestamptz,
  p_newest timestamptz,
  p_path text,
  p_completed text,
  p_is_dated boolean
)
returns bigint
language plpgsql
as $$
declare
  v_before integer[] := array(select retention._still_live(p_bucket, p_run_ids, p_keys, p_oldest, p_newest));
  v_update text := format(
    'update retention.result r
    set cleared_at = pg_catalog.now()%s
    from pg_catalog.unnest($1) as g (n)
    where r.run_id operator(pg_catalog.=) ($2)[g.n]
      and pg_catalog.num_nulls(r.cleared_at) operator(pg_catalog.=) 1',
    case when p_is_dated then ', updated_at = pg_catalog.now()' end
  );
begin
  perform set_config('search_path', p_path, true);
  execute v_update using v_before, p_run_ids;
  set constraints all immediate;
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  perform retention._check_table();
  return cardinality(v_before)
    - cardinality(array(select retention._still_live(p_bucket, p_run_ids, p_keys, p_oldest, p_newest)));
end
$$;

-- The places (from 1) of the runs that _stamp would stamp. p_and_lock: only those that no other session has
-- locked, and locks them.
create or replace function retention._still_live(
  p_bucket text,
  p_run_ids retention.run_id[],
  p_keys text[],
  p_oldest timestamptz,
  p_newest timestamptz,
  p_and_lock boolean default false
)
returns setof integer
language plpgsql
rows 1000
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
-- By the run id alone, whatever a plan that was kept for a few rows makes of it.
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  v_default_bucket text := (select s.default_bucket from retention.setting s);
  v_completed text := (select coalesce(a.columns -> 'status' ->> 'completed', 'COMPLETED') from retention.adapter a);
begin
  if p_and_lock then
    return query
    select g.n::integer
    from unnest(p_run_ids, p_keys) with ordinality as g (run_id, key, n)
    join retention.result r on r.run_id = g.run_id
    where (
        r.key = retention._unpack_key(g.key, g.run_id::text) collate "C"
        and retention._bucket(r.bucket, v_default_bucket) = p_bucket
        and r.status::text = v_completed
        and r.completed_at between p_oldest and p_newest
        and r.cleared_at is null
      ) is true
    for no key update of r skip locked;
  else
    return query
    select g.n::integer
    from unnest(p_run_ids, p_keys) with ordinality as g (run_id, key, n)
    join retention.result r on r.run_id = g.run_id
    where (
        r.key = retention._unpack_key(g.key, g.run_id::text) collate "C"
        and retention._bucket(r.bucket, v_default_bucket) = p_bucket
        and r.status::text = v_completed
        and r.completed_at between p_oldest and p_newest
        and r.cleared_at is null
      ) is true;
  end if;
end
$$;

-- Until when stamping may take in this statement: ten seconds, and well within what the caller's statement has left.
create or replace function retention._stamp_until()
returns timestamptz
language sql
volatile
as $$
  select least(
    clock_timestamp() + interval '10 seconds',
    statement_timestamp() + 0.6 * nullif(current_setting('statement_timeout')::interval, '0')
  )
$$;

-- Stamps what can be, after _stamp has failed or where it is slow: in parts, and what raises is halved until the
-- bad rows stand alone. p_code: how the stamp of all of them failed; null: it was not tried. p_part: how many are
-- tried at once. p_until: when to stop. stamped: how many were. Of the others that are still as they were claimed,
-- places (from 1) are those that were not stamped, with the SQLSTATE and message of each.
create or replace function retention._stamp_parts(
  p_batch retention.batch,
  p_run_ids retention.run_id[],
  p_keys text[],
  p_code text,
  p_part integer,
  p_until timestamptz,
  out stamped bigint,
  out places integer[],
  out codes text[],
  out messages text[]
)
language plpgsql
as $$
declare
  v_all integer[] := array(select generate_series(1, cardinality(p_run_ids)));
  v_size integer := greatest(p_part, 1);
  v_from integer[] := '{}';
  v_to integer[] := '{}';
  v_first integer;
  v_last integer;
  v_middle integer;
  v_some integer[];
  v_run_ids retention.run_id[];
  v_keys text[];
  v_stamped bigint;
  v_code text;
  v_message text;
begin
  stamped := 0;
  places := '{}';
  codes := '{}';
  messages := '{}';
  if p_code = '55P03' then
    v_message := 'another session has locked the row';
    begin
      v_all := array(
        select retention._still_live(p_batch.bucket, p_run_ids, p_keys, p_batch.oldest, p_batch.newest, true)
      );
      v_some := array(
        select n
        from retention._still_live(p_batch.bucket, p_run_ids, p_keys, p_batch.oldest, p_batch.newest) n
        where n <> all (v_all)
      );
    exception
      when query_canceled or lock_not_available then
        v_message := 'another session has locked the table';
        v_some := v_all;
        v_all := '{}';
    end;
    places := v_some;
    codes := array_fill(p_code, array[cardinality(v_some)]);
    messages := array_fill(v_message, array[cardinality(v_some)]);
  elsif p_code is not null then
    v_size := least(v_size, (cardinality(v_all) + 1) / 2);
  end if;
  -- The last part first, for they are taken from the end.
  for v_first in select n from generate_series(1, cardinality(v_all), greatest(v_size, 1)) n order by n desc loop
    v_from := v_from || v_first;
    v_to := v_to || least(v_first + v_size - 1, cardinality(v_all));
  end loop;

  while cardinality(v_from) > 0 loop
    v_first := v_from[cardinality(v_from)];
    v_last := v_to[cardinality(v_to)];
    v_from := trim_array(v_from, 1);
    v_to := trim_array(v_to, 1);
    v_some := v_all[v_first:v_last];
    v_code := null;
    if clock_timestamp() >= p_until then
      v_code := 'StampLater';
      v_message := 'there was no time left to stamp it';
    else
      v_run_ids := array(select p_run_ids[u.n] from unnest(v_some) with ordinality as u (n, i) order by u.i);
      v_keys := array(select p_keys[u.n] from unnest(v_some) with ordinality as u (n, i) order by u.i);
      begin
        v_stamped := retention._stamp(p_batch.bucket, v_run_ids, v_keys, p_batch.oldest, p_batch.newest);
        stamped := stamped + v_stamped;
        if v_stamped < cardinality(v_some) then
          v_some := array(
            select v_some[n]
            from retention._still_live(p_batch.bucket, v_run_ids, v_keys, p_batch.oldest, p_batch.newest) n
          );
          v_code := 'StampSwallowed';
          v_message := 'a trigger, a rule or a row-level security policy of the table swallows the stamp';
        end if;
      exception
        when query_canceled or assert_failure or others then
          get stacked diagnostics v_code = returned_sqlstate, v_message = message_text;
          if v_code = '57014' then
            p_until := clock_timestamp();
          elsif v_first < v_last then
            v_middle := (v_first + v_last) / 2;
            v_from := v_from || array[v_middle + 1, v_first];
            v_to := v_to || array[v_last, v_middle];
            v_code := null;
          end if;
      end;
    end if;
    if v_code is not null then
      places := places || v_some;
      codes := codes || array_fill(v_code, array[cardinality(v_some)]);
      messages := messages || array_fill(v_message, array[cardinality(v_some)]);
    end if;
  end loop;
end
$$;
