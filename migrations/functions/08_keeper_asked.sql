/*
Keepers, asked: which of some keys they keep. See 08_keeper.
*/

-- When what a row of a keeper (t) keeps may go, as SQL: a point in time as everywhere here: without a time zone it is UTC's,
-- and a date begins at midnight. Null: as long as it has the row.
create or replace function retention._keeper_until(p_keeper retention.keeper)
returns text
language sql
stable
as $$
  select case (select t.oid from retention._column_type(p_keeper.table_oid, p_keeper.until_column) t)
    when 'timestamptz'::regtype then format('t.%I', p_keeper.until_column)
    when 'timestamp'::regtype then format('(t.%I at time zone ''UTC'')', p_keeper.until_column)
    when 'date'::regtype then format('(t.%I::timestamp at time zone ''UTC'')', p_keeper.until_column)
    else 'null::timestamptz'
  end
$$;

-- A keeper's table as t, joined to what it keeps, as SQL. p_bucket, p_key and p_default_bucket: the object and the default
-- bucket, as SQL.
create or replace function retention._keeper_join(
  p_keeper retention.keeper,
  p_bucket text,
  p_key text,
  p_default_bucket text
)
returns text
language sql
stable
as $$
  select format(
    '%1$s t on t.%2$I = %3$s collate %4$s
      and coalesce(%5$s, ''infinity'') > now()
      and coalesce(retention._bucket(%6$s, %7$s), %8$s) = %8$s',
    p_keeper.table_oid::regclass,
    p_keeper.key_column,
    p_key,
    retention._keeper_collation(p_keeper.table_oid, p_keeper.key_column),
    retention._keeper_until(p_keeper),
    -- Without the column, a row keeps its key in every bucket: the default would have to be no other.
    case when p_keeper.bucket_column is null then p_bucket else format('t.%I::text', p_keeper.bucket_column) end,
    p_default_bucket,
    p_bucket
  )
$$;

-- The question to a keeper, as SQL: which of the keys $2 do its rows keep in bucket $1, and until when? $3: the default
-- bucket; $4: the table's name, which is part of the answer.
create or replace function retention._keeper_question(p_keeper retention.keeper)
returns text
language sql
stable
as $$
  select format(
    'select k.key, $4, max(coalesce(%s, ''infinity''))
    from unnest($2) as k (key)
    join %s
    group by k.key',
    retention._keeper_until(p_keeper),
    retention._keeper_join(p_keeper, '$1', 'k.key', '$3')
  )
$$;

-- Which of some keys of a bucket the keepers keep, by which table, and until when (infinity: as long as it has the row).
-- One question to each keeper, whatever the number of keys. What has committed when it is asked counts. Called with the
-- rights of the schema's owner. p_is_open: the gate has just said that all of them can be asked. Raises RR051 where a
-- keeper cannot be asked: nothing may be deleted then.
create or replace function retention._kept(p_bucket text, p_keys text[], p_is_open boolean default false)
returns table (key text, kept_by text, until timestamptz)
language plpgsql
stable
rows 10
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
-- A policy that hides rows raises, and does not read as "keeps nothing".
set row_security = off
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_keeper retention.keeper;
  v_fault record;
  v_default_bucket text := (select s.default_bucket from retention.setting s);
begin
  for v_keeper in
    select * from retention.keeper k order by k.keeper_id
  loop
    if not p_is_open and retention._is_keeper_as_seen(v_keeper) is not true then
      select * into v_fault from retention._keeper_fault(v_keeper);
      if v_fault.fault is not null then
        raise exception using
          errcode = 'RR051',
          message = format('the keeper %s cannot be asked: %s', v_keeper.table_name, v_fault.fault),
          hint = v_fault.remedy;
      end if;
      v_keeper.question := retention._keeper_question(v_keeper);
    end if;
    return query execute v_keeper.question using p_bucket, p_keys, v_default_bucket, v_keeper.table_name;
  end loop;
end
$$;

-- Who keeps one object, and until when; null: no keeper does, or a keeper cannot be asked, which the gate says.
create or replace function retention._keeper_of(p_bucket text, p_key text, out kept_by text, out until timestamptz)
language plpgsql
stable
as $$
begin
  if p_bucket is null or p_key is null or not exists (select from retention.keeper) then
    return;
  end if;
  select k.kept_by, k.until
  into kept_by, until
  from retention._kept(p_bucket, array[p_key]) k
  order by k.until desc
  limit 1;
exception
  when sqlstate 'RR051' or insufficient_privilege then
    return;
end
$$;

-- The keepers that cannot be asked, for the gate. No row: all can.
create or replace function retention._keeper_reasons()
returns table (reason text, because text, remedy text)
language plpgsql
stable
as $$
begin
  return query
  select 'keeper fails',
    format('the keeper %s cannot be asked what it needs: %s', k.table_name, f.fault),
    f.remedy
  from retention.keeper k
  cross join lateral retention._keeper_fault(k) f
  where retention._is_keeper_as_seen(k) is not true
    and f.fault is not null
  order by k.keeper_id;
end
$$;

-- The plan of the question to a keeper, as it is asked.
create or replace function retention._keeper_plan(p_keeper retention.keeper)
returns text
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
set search_path = pg_catalog, pg_temp
as $$
declare
  v_plan json;
begin
  execute 'explain (format json) ' || retention._keeper_question(p_keeper)
  into v_plan
  using 'bucket', array['key'], null::text, 'table'::text;
  return v_plan::text;
end
$$;

-- Looks closely at keepers whose tables have changed, and remembers what it saw where they can be asked. Called with
-- every note of the gate, so by every tick.
create or replace function retention._look_at_keepers()
returns void
language plpgsql
as $$
declare
  v_keeper retention.keeper;
begin
  for v_keeper in
    select * from retention.keeper k order by k.keeper_id
  loop
    if retention._keeper_sight(v_keeper) <> v_keeper.seen
      and (select f.fault from retention._keeper_fault(v_keeper) f) is null
    then
      update retention.keeper k
      set question = retention._keeper_question(v_keeper),
        seen = retention._keeper_sight(v_keeper)
      where k.keeper_id = v_keeper.keeper_id;
    end if;
  end loop;
end
$$;
