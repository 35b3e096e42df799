/*
Keepers: other tables of the application whose rows need objects too. What such a row names is not deleted and is
no orphan. A keeper that cannot be asked closes the gate: it is never ignored. Here: whether a table can be one.
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
