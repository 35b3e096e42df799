/*
Keepers, as people set them: see 08_keeper.
*/

-- A column of a table by the name that a person typed, as it is or as SQL writes it. What names none stays as it is.
create or replace function retention._typed_column(p_table regclass, p_column text)
returns text
language plpgsql
stable
as $$
declare
  v_parts text[];
begin
  if p_column is null or exists (
    select
    from pg_attribute a
    where a.attrelid = p_table
      and a.attname = p_column
      and a.attnum > 0
      and not a.attisdropped
  ) then
    return p_column;
  end if;
  v_parts := parse_ident(p_column);
  return case when cardinality(v_parts) = 1 then v_parts[1] else p_column end;
exception
  when invalid_parameter_value then
    return p_column;
end
$$;

-- Raises what a table cannot be a keeper for, whatever its rights and indexes.
create or replace function retention._check_keeper_table(p_table text, p_found regclass, p_key_column text)
returns void
language plpgsql
stable
as $$
declare
  v_class pg_class;
  v_adapter retention.adapter;
  v_why text;
begin
  if p_found is null then
    raise exception using
      errcode = 'undefined_table',
      message = format('expected a table whose rows need objects, given: %s, which is not there in database %s', left(p_table, 200), current_database()),
      hint = 'Write it as schema.table; put double quotes around odd names.';
  end if;
  select * into strict v_class from pg_class c where c.oid = p_found;
  select * into v_adapter from retention.adapter;
  v_why := case
    when v_class.relkind not in ('r', 'p')
    then case v_class.relkind
      when 'v' then 'a view has no index of its own, and may change what it shows: name the table under it'
      when 'm' then 'a materialized view is as old as its last refresh: name the tables under it'
      when 'f' then 'the rows of a foreign table live in another database, which may be out of reach'
      else 'it is no table'
    end
    when v_class.relkind = 'p' and exists (
      select
      from pg_partition_tree(p_found) t
      join pg_class c on c.oid = t.relid
      where c.relkind = 'f'
    )
    then 'a partition of it is a foreign table, whose rows live in another database, which may be out of reach'
    when v_class.relpersistence = 't' then 'no other session sees a temporary table'
    when v_class.relpersistence = 'u' then 'a crash empties an unlogged table, and then nothing would be kept'
    when v_class.relnamespace = 'retention'::regnamespace then 'it belongs to this schema: to keep results, place a hold'
    when v_class.oid = v_adapter.table_oid and p_key_column = v_adapter.columns -> 'key' ->> 'name'
    then 'each run would keep its own result for ever: to keep results longer, set a policy or a hold, or map retain_until'
  end;
  if v_why is not null then
    raise exception using
      errcode = 'wrong_object_type',
      message = format('%s cannot be a keeper: %s', p_found, v_why),
      hint = 'Name a plain or partitioned table whose rows hold keys of objects.';
  end if;
end
$$;

-- Adds a keeper: what a row of p_table names in p_key_column is not deleted, and is no orphan. p_bucket_column: the
-- bucket of the object; a row without a value means the default bucket, or where there is none every bucket; null: a row
-- keeps its key in every bucket. p_until_column: until when; a row without a value keeps its object as long as it is
-- there; null: every row does. p_by: who adds it; by default the session's user. It counts from the next claim on; what
-- is in flight may still go. Returns its number.
-- For operators.
-- Locks nothing of the application's.
-- Raises invalid_parameter_value for an empty name, undefined_table, wrong_object_type, undefined_column,
-- datatype_mismatch, insufficient_privilege with the
-- statement that grants what is missing, object_not_in_prerequisite_state with the statement that makes the index that
-- is missing, and duplicate_object for a keeper that is there.
create or replace function retention.add_keeper(
  p_table text,
  p_key_column text,
  p_bucket_column text default null,
  p_until_column text default null,
  p_by text default null
)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_keeper retention.keeper;
  v_table regclass;
  v_fault record;
  v_missing text;
begin
  v_table := retention._typed_table(p_table);
  if coalesce(btrim(p_key_column), '') = '' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'expected the column that holds the keys, given: nothing',
      hint = 'For example: select retention.add_keeper(''public.invoices'', ''pdf_key'');';
  end if;
  v_keeper.key_column := retention._typed_column(v_table, p_key_column);
  v_keeper.bucket_column := retention._typed_column(v_table, nullif(p_bucket_column, ''));
  v_keeper.until_column := retention._typed_column(v_table, nullif(p_until_column, ''));
  perform retention._check_keeper_table(p_table, v_table, v_keeper.key_column);
  v_keeper.table_oid := v_table;
  select format('%I.%I', n.nspname, c.relname)
  into strict v_keeper.table_name
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where c.oid = v_table;
  select string_agg(quote_ident(c.name), ', ')
  into v_missing
  from unnest(array[v_keeper.key_column, v_keeper.bucket_column, v_keeper.until_column]) as c (name)
  where c.name is not null
    and not exists (select from retention._column_type(v_table, c.name));
  if v_missing is not null then
    raise exception using
      errcode = 'undefined_column',
      message = format('expected columns of %s, given: %s', v_keeper.table_name, v_missing),
      hint = format('It has: %s.', (
        select string_agg(quote_ident(a.attname), ', ' order by a.attnum)
        from pg_attribute a
        where a.attrelid = v_table and a.attnum > 0 and not a.attisdropped
      ));
  end if;
  select * into v_fault from retention._keeper_fault(v_keeper);
  if v_fault.fault is not null then
    raise exception using
      errcode = case
        when v_fault.remedy like 'grant %' then 'insufficient_privilege'
        when v_fault.fault like 'column %' then 'datatype_mismatch'
        else 'object_not_in_prerequisite_state'
      end,
      message = format('%s cannot be a keeper: %s', v_keeper.table_name, v_fault.fault),
      hint = case when v_fault.fault like 'column %' then 'Name other columns.' else v_fault.remedy end;
  end if;
  -- What the catalog promises, the planner has to do.
  if retention._keeper_plan(v_keeper) like '%"Seq Scan"%' then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('%s cannot be a keeper: its index is not used to look for a key, so each claim would read the table', v_keeper.table_name),
      hint = retention._keeper_index(v_table, v_keeper.key_column);
  end if;
  insert into retention.keeper (table_name, table_oid, key_column, bucket_column, until_column, added_by, question, seen)
  values (
    v_keeper.table_name, v_keeper.table_oid, v_keeper.key_column, v_keeper.bucket_column, v_keeper.until_column,
    coalesce(p_by, session_user), retention._keeper_question(v_keeper), retention._keeper_sight(v_keeper)
  )
  on conflict on constraint a_keeper_is_added_once do nothing
  returning keeper_id into v_keeper.keeper_id;
  if v_keeper.keeper_id is null then
    raise exception using
      errcode = 'duplicate_object',
      message = format('%s keeps what its column %I names already', v_keeper.table_name, v_keeper.key_column),
      hint = format('To change it: retention keeper remove %s, then add it again.', v_keeper.table_name);
  end if;
  perform retention._note_gate();
  return v_keeper.keeper_id;
end
$$;

-- Removes the keepers of a table: what only they kept may be deleted again, from the next pass on. p_key_column: only
-- that of this column; null: all of the table. The table need not be there any more. Returns how many.
-- For operators.
-- Raises no_data_found where there is no such keeper, with those that are.
create or replace function retention.remove_keeper(p_table text, p_key_column text default null)
returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_names text[];
  v_oid oid;
begin
  v_oid := retention._typed_table(p_table);
  with removed as (
    delete from retention.keeper k
    where (p_table in (k.table_name, replace(k.table_name, 'public.', '')) or k.table_oid = v_oid)
      and (p_key_column is null or k.key_column in (p_key_column, trim(both '"' from p_key_column)))
    returning k.table_name
  )
  select array_agg(r.table_name) into v_names from removed r;
  if v_names is null then
    raise exception using
      errcode = 'no_data_found',
      message = format('expected a keeper, given: %s', left(concat_ws(', column ', p_table, p_key_column), 200)),
      hint = coalesce(
        (
          select 'There are: ' || string_agg(format('%s (%I)', k.table_name, k.key_column), ', ' order by k.keeper_id) || '.'
          from retention.keeper k
        ),
        'There is none.'
      );
  end if;
  -- Another keeper of the table notes its own again.
  delete from retention.spared_object o where o.kept_by = any (v_names);
  delete from retention.progress;
  perform retention._note_gate();
  return cardinality(v_names);
end
$$;

-- The keepers, in the order in which they were added. fault: why one cannot be asked, which closes the gate; remedy:
-- what to do; null: it can. kept: how many objects are known to be kept for its table.
-- For observers.
create or replace function retention.list_keepers()
returns table (
  keeper_id bigint,
  table_name text,
  key_column text,
  bucket_column text,
  until_column text,
  added_at timestamptz,
  added_by text,
  kept bigint,
  fault text,
  remedy text
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  select k.keeper_id, k.table_name, k.key_column, k.bucket_column, k.until_column, k.added_at, k.added_by,
    (select count(*) from retention.spared_object o where o.kept_by = k.table_name and o.until > now()),
    f.fault, f.remedy
  from retention.keeper k
  cross join lateral retention._keeper_fault(k) f
  order by k.keeper_id
$$;
