/*
Keepers: other tables of the application whose rows need objects too. What such a row names is not deleted and is
no orphan. A keeper that cannot be asked closes the gate: it is never ignored.
*/

-- A table by its name as SQL writes it; without a schema it is in public. Null: there is none. As to_regclass, which
-- raises where the schema is closed to the role that asks.
create or replace function retention._typed_table(p_table text)
returns regclass
language plpgsql
stable
as $$
declare
  v_parts text[];
begin
  v_parts := parse_ident(p_table);
  return (
    select c.oid
    from pg_namespace n
    join pg_class c on c.relnamespace = n.oid
    where cardinality(v_parts) <= 2
      and n.nspname = case when cardinality(v_parts) = 1 then 'public' else v_parts[1] end
      and c.relname = v_parts[cardinality(v_parts)]
  );
exception
  when invalid_parameter_value then
    return null;
end
$$;

-- The tables that hold a keeper's rows: itself, or all its partitions and children.
create or replace function retention._keeper_parts(p_table oid)
returns table (part oid, kind "char")
language sql
stable
as $$
  with recursive part (relid) as (
    select p_table
    union
    select i.inhrelid
    from part p
    join pg_inherits i on i.inhparent = p.relid
  )
  select c.oid, c.relkind
  from part p
  join pg_class c on c.oid = p.relid
  where c.relkind <> 'p'
$$;

-- The collation under which an index of every part answers which rows have a key: that of the column, where it can be.
-- Null: none does, so that each look would read a whole table. Only an index that is valid, begins with the column,
-- compares texts and leaves no row out counts.
create or replace function retention._keeper_collation(p_table oid, p_column text)
returns text
language sql
stable
as $$
  select format('%I.%I', n.nspname, c.collname)
  from (
    select a.attcollation as oid, true as is_own
    from pg_attribute a
    where a.attrelid = p_table
      and a.attname = p_column
      and not a.attisdropped
    union
    select i.indcollation[0], false
    from retention._keeper_parts(p_table) p
    join pg_index i on i.indrelid = p.part
  ) w
  join pg_collation c on c.oid = w.oid
  join pg_namespace n on n.oid = c.collnamespace
  where c.collisdeterministic
    and not exists (
      select
      from retention._keeper_parts(p_table) p
      where not exists (
        select
        from pg_index i
        join pg_class x on x.oid = i.indexrelid
        join pg_am m on m.oid = x.relam and m.amname in ('btree', 'hash')
        join pg_attribute k on k.attrelid = p.part and k.attnum = i.indkey[0] and k.attname = p_column
        join pg_opclass o on o.oid = i.indclass[0]
        join pg_amop s on s.amopfamily = o.opcfamily
          and s.amopopr = 'pg_catalog.=(pg_catalog.text, pg_catalog.text)'::regoperator
        where i.indrelid = p.part
          and i.indisvalid
          and i.indisready
          and i.indislive
          and i.indpred is null
          and i.indcollation[0] = c.oid
      )
    )
  order by w.is_own desc
  limit 1
$$;

-- The statement that makes the index that a keeper needs. On a partitioned table it cannot be made concurrently.
create or replace function retention._keeper_index(p_table regclass, p_column text)
returns text
language sql
stable
as $$
  select case
    when c.relkind = 'p'
    then format('create index on %s (%I); a table with partitions takes no writes meanwhile, unless each gets its own concurrently before', p_table, p_column)
    else format('create index concurrently on %s (%I);', p_table, p_column)
  end
  from pg_class c
  where c.oid = p_table
$$;

-- What is wrong with one column of a keeper; null: nothing. p_use: key, bucket or until.
create or replace function retention._keeper_column_fault(p_table regclass, p_use text, p_column text)
returns text
language sql
stable
as $$
  select case
    when p_column is null then null
    when t.oid is null then format('%s has no column %I', p_table, p_column)
    when not has_column_privilege(current_user, p_table, p_column, 'select') then null
    when p_use = 'until' and t.oid not in ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
    then format('column %I of %s is of type %s, a timestamp or a date is needed', p_column, p_table, t.type)
    when p_use <> 'until' and t.oid not in ('text'::regtype, 'varchar'::regtype)
    then format('column %I of %s is of type %s, text is needed', p_column, p_table, t.type)
    when p_use <> 'until' and not t.is_deterministic
    then format('column %I of %s has a collation that takes different texts for equal', p_column, p_table)
  end
  from (select) one
  left join retention._column_type(p_table, p_column) t on true
$$;

-- Why a keeper cannot be asked, and what to do; null: it can. Reads catalogs only. For the role that owns the schema,
-- which reads the keeper's table.
create or replace function retention._keeper_fault(p_keeper retention.keeper, out fault text, out remedy text)
language plpgsql
stable
as $$
declare
  v_table regclass := retention._typed_table(p_keeper.table_name);
  v_class pg_class;
  v_again text := format('retention keeper remove %s, and where it is still needed: retention keeper add', p_keeper.table_name);
begin
  if v_table::oid is distinct from p_keeper.table_oid then
    fault := case
      when v_table is null then format('there is no table %s any more', p_keeper.table_name)
      else format('%s is another table than the one that was added as a keeper', p_keeper.table_name)
    end || coalesce(
      '; that one is called ' || (select c.oid::regclass::text from pg_class c where c.oid = p_keeper.table_oid) || ' now', ''
    );
    remedy := v_again;
    return;
  end if;
  select * into strict v_class from pg_class c where c.oid = v_table;
  if not has_schema_privilege(current_user, v_class.relnamespace, 'usage') then
    fault := format('role %I may not look into the schema of %s', current_user, p_keeper.table_name);
    remedy := format('grant usage on schema %s to %I;', v_class.relnamespace::regnamespace, current_user);
    return;
  end if;
  select f.fault
  into fault
  from (
    values (retention._keeper_column_fault(v_table, 'key', p_keeper.key_column)),
      (retention._keeper_column_fault(v_table, 'bucket', p_keeper.bucket_column)),
      (retention._keeper_column_fault(v_table, 'until', p_keeper.until_column))
  ) as f (fault)
  where f.fault is not null
  limit 1;
  if fault is not null then
    remedy := v_again || ' with the columns as they are now';
    return;
  end if;
  if exists (
    select
    from unnest(array[p_keeper.key_column, p_keeper.bucket_column, p_keeper.until_column]) as c (name)
    where c.name is not null
      and not has_column_privilege(current_user, v_table, c.name, 'select')
  ) then
    fault := format('role %I, who owns the schema retention, may not read %s', current_user, p_keeper.table_name);
    remedy := format('grant select on %s to %I;', p_keeper.table_name, current_user);
  elsif retention._hides_rows(v_table, current_user::regrole) then
    fault := format('row-level security of %s may hide rows from %I, who owns the schema retention', p_keeper.table_name, current_user);
    remedy := format(
      'As a superuser: alter role %I bypassrls; or: alter table %s no force row level security;',
      current_user, p_keeper.table_name
    );
  elsif exists (select from retention._keeper_parts(v_table) p where p.kind = 'f') then
    fault := format('a part of %s is a foreign table, whose rows live in another database', p_keeper.table_name);
    remedy := v_again || ' with a table of this database';
  elsif retention._keeper_collation(v_table, p_keeper.key_column) is null then
    fault := format(
      'no index of %s answers which rows have a key: a valid btree or hash index that begins with %I, without a condition, is needed',
      p_keeper.table_name, p_keeper.key_column
    );
    remedy := retention._keeper_index(v_table, p_keeper.key_column);
  end if;
end
$$;

-- What the catalog says of a keeper's table, as far as it bears on whether and how it is asked, in one text: the same
-- text, the same answer of _keeper_fault, but for rights. In PL/pgSQL, which keeps the plans: asked at each claim.
create or replace function retention._keeper_sight(p_keeper retention.keeper)
returns text
language plpgsql
stable
as $$
declare
  v_class record;
  v_attributes text;
  v_indexes text;
begin
  select c.relkind, c.relrowsecurity, c.relforcerowsecurity, c.relhassubclass, c.relname, c.relnamespace
  into v_class
  from pg_class c
  where c.oid = p_keeper.table_oid;
  select string_agg(concat_ws(':', a.attname, a.attnum, a.atttypid, a.attcollation), ' ' order by a.attnum)
  into v_attributes
  from pg_attribute a
  where a.attrelid = p_keeper.table_oid
    and a.attname in (p_keeper.key_column, p_keeper.bucket_column, p_keeper.until_column)
    and not a.attisdropped;
  if v_class.relhassubclass or v_class.relkind = 'p' then
    select string_agg(
      concat_ws(':', p.part, p.kind, i.indexrelid, i.indisvalid, i.indisready, i.indislive), ' ' order by p.part, i.indexrelid
    )
    into v_indexes
    from retention._keeper_parts(p_keeper.table_oid) p
    left join pg_index i on i.indrelid = p.part;
  else
    select string_agg(concat_ws(':', i.indexrelid, i.indisvalid, i.indisready, i.indislive), ' ' order by i.indexrelid)
    into v_indexes
    from pg_index i
    where i.indrelid = p_keeper.table_oid;
  end if;
  return concat_ws(
    '; ', v_class.relkind, v_class.relrowsecurity, v_class.relforcerowsecurity, v_class.relnamespace, v_class.relname,
    v_attributes, v_indexes
  );
end
$$;

-- Whether a keeper can be asked as it was when it was last looked at: a few look-ups in catalogs, at each claim. False
-- says nothing yet: _keeper_fault does.
create or replace function retention._is_keeper_as_seen(p_keeper retention.keeper)
returns boolean
language plpgsql
stable
as $$
begin
  return retention._keeper_sight(p_keeper) = p_keeper.seen
    and retention._typed_table(p_keeper.table_name)::oid = p_keeper.table_oid
    and has_schema_privilege(current_user, (select c.relnamespace from pg_class c where c.oid = p_keeper.table_oid), 'usage')
    and (
      has_table_privilege(current_user, p_keeper.table_oid, 'select')
      or has_column_privilege(current_user, p_keeper.table_oid, p_keeper.key_column, 'select')
        and coalesce(has_column_privilege(current_user, p_keeper.table_oid, p_keeper.bucket_column, 'select'), true)
        and coalesce(has_column_privilege(current_user, p_keeper.table_oid, p_keeper.until_column, 'select'), true)
    )
    -- Who is asked by policies may change without the table.
    and not (select c.relrowsecurity from pg_class c where c.oid = p_keeper.table_oid);
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

-- The question to a keeper, as SQL: which of the keys $2 do its rows keep in bucket $1, and until when? $3: the default
-- bucket; $4: the table's name, which is part of the answer.
create or replace function retention._keeper_question(p_keeper retention.keeper)
returns text
language sql
stable
as $$
  select format(
    'select k.key, $4, max(coalesce(%1$s, ''infinity''))
    from unnest($2) as k (key)
    join %2$s t on t.%3$I = k.key collate %4$s
    where coalesce(%1$s, ''infinity'') > now()
      and coalesce(retention._bucket(%5$s, $3), $1) = $1
    group by k.key',
    -- A point in time as everywhere here: without a time zone it is UTC's, and a date begins at midnight.
    case (select t.oid from retention._column_type(p_keeper.table_oid, p_keeper.until_column) t)
      when 'timestamptz'::regtype then format('t.%I', p_keeper.until_column)
      when 'timestamp'::regtype then format('(t.%I at time zone ''UTC'')', p_keeper.until_column)
      when 'date'::regtype then format('(t.%I::timestamp at time zone ''UTC'')', p_keeper.until_column)
      else 'null::timestamptz'
    end,
    p_keeper.table_oid::regclass,
    p_keeper.key_column,
    retention._keeper_collation(p_keeper.table_oid, p_keeper.key_column),
    -- Without the column, a row keeps its key in every bucket: the default would have to be no other.
    case when p_keeper.bucket_column is null then '$1' else format('t.%I::text', p_keeper.bucket_column) end
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

-- Who keeps one object, and until when; null: nobody does, or a keeper cannot be asked, which the gate says.
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

-- The keepers that cannot be asked, for the gate. No row: all can, or there are none.
create or replace function retention._keeper_reasons()
returns table (reason text, because text, remedy text)
language plpgsql
stable
as $$
begin
  if exists (select from retention.keeper) then
    return query
    select 'keeper fails',
      format('the keeper %s cannot be asked what it needs: %s', k.table_name, f.fault),
      f.remedy
    from retention.keeper k
    cross join lateral retention._keeper_fault(k) f
    where retention._is_keeper_as_seen(k) is not true
      and f.fault is not null
    order by k.keeper_id;
  end if;
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

-- Takes what keepers have out of the strays that a verify has sorted: it is no orphan. Called by sort_strays.
create or replace function retention._spare_kept_strays(p_verify_id uuid)
returns void
language plpgsql
as $$
declare
  v_part record;
begin
  if not exists (select from retention.keeper) then
    return;
  end if;
  for v_part in
    select o.bucket, array_agg(o.key) as keys
    from (
      select s.bucket, s.key, row_number() over (partition by s.bucket order by s.key) / 1000 as part
      from retention.stray s
      where s.verify_id = p_verify_id
        and s.kind = 'orphan'
    ) o
    group by o.bucket, o.part
  loop
    update retention.stray s
    set kind = null
    where s.verify_id = p_verify_id
      and s.bucket = v_part.bucket
      and s.key in (select k.key collate "C" from retention._kept(v_part.bucket, v_part.keys) k);
  end loop;
end
$$;
