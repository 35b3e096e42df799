/*
What the catalog says of the application's table: whether it can be adopted, and all that stands in the way at once.
Nothing here names a type of the adopted table, for 0002_adopt runs it before those are known.
*/

-- The type of a table's column, as the domains under it end: a name that is the same under every search path, the
-- collation where it is not the type's own, whether one value of it has one text (see _identity_fault), and the
-- most bytes that a value takes (null: no bound). No row: there is no such column. Reads catalogs only.
create or replace function retention._column_type(p_table oid, p_column text)
returns table (
  type text,
  collation_name text,
  category "char",
  oid oid,
  typmod integer,
  is_deterministic boolean,
  is_domain boolean,
  is_nullable boolean,
  most_bytes integer
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive part as (
    select a.atttypid as type_oid,
      a.atttypmod as typmod,
      a.attcollation as collation_oid,
      not a.attnotnull as is_nullable
    from pg_attribute a
    where a.attrelid = p_table
      and a.attname = p_column
      and a.attnum > 0
      and not a.attisdropped
    union all
    select t.typbasetype, t.typtypmod, p.collation_oid, p.is_nullable and not t.typnotnull
    from part p
    join pg_type t on t.oid = p.type_oid
    where t.typtype = 'd'
  )
  select format_type(t.oid, p.typmod),
    case when p.collation_oid <> t.typcollation then p.collation_oid::regcollation::text end,
    t.typcategory,
    t.oid,
    p.typmod,
    coalesce((select c.collisdeterministic from pg_collation c where c.oid = p.collation_oid), true),
    (select count(*) from part) > 1,
    p.is_nullable,
    case
      when t.typlen > 0 then t.typlen::integer
      when t.oid in ('varchar'::regtype, 'bpchar'::regtype) and p.typmod > 4
        then (p.typmod - 4) * pg_encoding_max_length((select d.encoding from pg_database d where d.datname = current_database()))
      when t.oid = 'numeric'::regtype then 512
      when t.oid in ('inet'::regtype, 'cidr'::regtype) then 32
    end
  from part p
  join pg_type t on t.oid = p.type_oid
  where t.typtype <> 'd'
$$;

-- Why values of a column cannot be told apart by their texts; null: they can. Policies, holds and batches keep
-- tenants and runs as texts, so one value must have one text, whatever the session, and two values two.
create or replace function retention._identity_fault(p_table oid, p_column text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when not c.is_deterministic
      then format('column %I has a collation that takes different texts for equal (%s)', p_column, c.collation_name)
    when c.oid = 'numeric'::regtype and c.typmod = -1
      then format('column %I is of type numeric without a scale, where 1.0 and 1 are equal and written differently', p_column)
    when c.oid in (
        'text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'name'::regtype, 'uuid'::regtype, 'smallint'::regtype,
        'integer'::regtype, 'bigint'::regtype, 'numeric'::regtype, 'oid'::regtype, 'inet'::regtype, 'cidr'::regtype,
        'macaddr'::regtype, 'macaddr8'::regtype
      )
      then null
    when c.category = 'E' then format('column %I is of the enum %s, whose operators take no domain', p_column, c.type)
    else format('column %I is of type %s, of which one value may be written in several ways', p_column, c.type)
  end
  from retention._column_type(p_table, p_column) c
$$;

-- The table that RETENTION_TABLE names.
-- Raises undefined_table, wrong_object_type or feature_not_supported with what to set instead.
create or replace function retention._find_table(p_table text)
returns regclass
language plpgsql
stable
as $$
declare
  v_table regclass;
  v_class pg_class;
  v_parent regclass;
  v_unsupported record;
  v_hint text := 'Set RETENTION_TABLE to a plain or partitioned table.';
begin
  begin
    v_table := to_regclass(p_table);
  exception
    when others then
      raise exception using
        errcode = 'undefined_table',
        message = format('RETENTION_TABLE cannot be read as the name of a table: %s', p_table),
        hint = 'Write it as schema.table; put double quotes around odd names.';
  end;
  if v_table is null then
    raise exception using
      errcode = 'undefined_table',
      message = format('the application''s table %s was not found in database %s', p_table, current_database()),
      detail = coalesce(
        'Tables here with a column like a result key: ' || (
          select string_agg(distinct a.attrelid::regclass::text, ', ')
          from pg_attribute a
          join pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p')
          join pg_namespace n on n.oid = c.relnamespace
          where a.attname like '%result%key%'
            and n.nspname not in ('pg_catalog', 'information_schema', 'retention')
        ),
        'No table here has a column like a result key.'
      ),
      hint = 'Set RETENTION_TABLE to the table that holds the runs (schema.table), or point the database URL at the right database.';
  end if;
  select * into strict v_class from pg_class c where c.oid = v_table;
  select i.inhparent into v_parent from pg_inherits i where i.inhrelid = v_table limit 1;
  if v_class.relkind not in ('r', 'p') then
    raise exception using
      errcode = 'wrong_object_type',
      message = format('%s is not a table%s', v_table, case v_class.relkind
        when 'v' then ' but a view'
        when 'm' then ' but a materialized view'
        when 'f' then ' but a foreign table: its rows live in another database'
        else ''
      end),
      hint = case v_class.relkind
        when 'f' then 'Run retention in the database that holds the rows.'
        else v_hint
      end;
  elsif v_class.relpersistence = 't' then
    raise exception using
      errcode = 'wrong_object_type',
      message = format('%s is a temporary table, which no other session sees', v_table),
      hint = v_hint;
  elsif v_parent is not null then
    raise exception using
      errcode = 'wrong_object_type',
      message = format('%s is a part of %s, and runs of its other parts may point at the same objects', v_table, v_parent),
      hint = format('Set RETENTION_TABLE=%s.', v_parent);
  elsif v_class.relkind = 'r' and exists (select from pg_inherits i where i.inhparent = v_table) then
    raise exception using
      errcode = 'wrong_object_type',
      message = format('%s has tables that inherit from it, and no index can hold their rows together', v_table),
      hint = 'Make it a partitioned table, or take the children out of it: alter table ... no inherit ...';
  end if;
  select u.reason, u.remedy into v_unsupported from retention._unsupported(v_table) u;
  if v_unsupported.reason is not null then
    raise exception using
      errcode = 'feature_not_supported',
      message = v_unsupported.reason,
      hint = v_unsupported.remedy;
  end if;
  return v_table;
end
$$;

-- Whether a valid unique index of a table begins with a column: alone, or in a partitioned table and its parts with
-- what they are partitioned by.
create or replace function retention._begins_unique(p_table oid, p_column text)
returns boolean
language sql
stable
as $$
  select exists (
    select
    from pg_index i
    join pg_attribute a on a.attrelid = p_table and a.attnum = i.indkey[0]
    where i.indrelid = p_table
      and i.indisunique
      and i.indisvalid
      and i.indpred is null
      and a.attname = p_column
      and (i.indnkeyatts = 1 or exists (select from pg_partition_tree(p_table) t where t.level > 0 or not t.isleaf))
  )
$$;

-- What stands in the way of adopting a table, beside its columns: rights, and a run id that is not unique.
-- p_found: the columns, as _find_columns finds them.
create or replace function retention._table_faults(p_table regclass, p_found jsonb)
returns table (code text, message text, hint text)
language sql
stable
as $$
  select 'insufficient_privilege',
    format('role %s may not adopt %s, which belongs to %s', current_user, p_table, pg_get_userbyid(c.relowner)),
    format('Migrate as %s, as a member of it, or as a superuser (DATABASE_MIGRATE_URL).', pg_get_userbyid(c.relowner))
  from pg_class c
  where c.oid = p_table
    and not pg_has_role(c.relowner, 'usage')
  union all
  select 'insufficient_privilege',
    format('role %s may not create indexes in the schema of %s', current_user, p_table),
    format('grant create on schema %I to %I;', n.nspname, current_user)
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where c.oid = p_table
    and not has_schema_privilege(c.relnamespace, 'create')
  union all
  select 'undefined_object',
    format('%s has no primary key or unique index that begins with %I', p_table, p_found -> 'run_id' ->> 'name'),
    'Make the run id unique, or name the right column: RETENTION_COLUMNS=run_id=...'
  where p_found ? 'run_id'
    and not retention._begins_unique(p_table, p_found -> 'run_id' ->> 'name')
    -- No unique index can be over a foreign partition; each of the others has its own then.
    and not (
      exists (
        select from pg_partition_tree(p_table) t join pg_class c on c.oid = t.relid and c.relkind = 'f'
      )
      and not exists (
        select
        from pg_partition_tree(p_table) t
        join pg_class c on c.oid = t.relid and c.relkind = 'r'
        where not retention._begins_unique(t.relid, p_found -> 'run_id' ->> 'name')
      )
    )
$$;

-- What is wrong with one column of the mapping; null: nothing. p_column: the view column; p_name: the table's.
create or replace function retention._column_fault(p_table regclass, p_column text, p_name text, p_completed text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when exists (
        select
        from pg_attribute a
        where a.attrelid = p_table
          and a.attname = p_name
          and (a.attgenerated = 'v' or a.attgenerated = 's' and p_column in ('cleared_at', 'updated_at'))
      )
      then format('column %I is generated: it %s', p_name, case
        when p_column in ('cleared_at', 'updated_at') then 'cannot be written'
        else 'can be part of no index, unless it is stored'
      end)
    when p_column in ('run_id', 'tenant_id') then retention._identity_fault(p_table, p_name)
    when p_column in ('completed_at', 'cleared_at', 'updated_at', 'retain_until') then
      case
        when c.oid not in ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
        then format('column %I is of type %s, a timestamp is needed', p_name, c.type)
        when p_column = 'cleared_at' and not c.is_nullable
        then format('column %I is not null, so every run counts as cleared', p_name)
      end
    when p_column in ('bucket', 'key', 'etag') and c.oid not in ('text'::regtype, 'varchar'::regtype)
      then format('column %I is of type %s, text is needed', p_name, c.type)
    when p_column = 'status' and c.category = 'E' and not exists (
        select from pg_enum e where e.enumtypid = c.oid and e.enumlabel = p_completed
      )
      then format('column %I is an enum without %L; it has %s', p_name, p_completed, (
        select string_agg(e.enumlabel, ', ' order by e.enumsortorder) from pg_enum e where e.enumtypid = c.oid
      ))
    when p_column = 'status' and c.category = 'E' and c.is_domain
      then format('column %I is of a domain over the enum %s, whose operators take no domain', p_name, c.type)
    when p_column = 'status' and c.category <> 'E' and c.oid <> 'boolean'::regtype then retention._identity_fault(p_table, p_name)
  end
  from retention._column_type(p_table, p_name) c
$$;

-- Finds what the mapping names in the application's table, or says all that is missing at once.
-- Returns {view column: {"name", "type", "collation", "most_bytes", "completed"} | {"fixed"} | null}; cleared_at is null-typed
-- where the column is still to be added. Reads catalogs only.
-- Raises undefined_table, undefined_column, datatype_mismatch, insufficient_privilege.
create or replace function retention._find_columns(p_table text, p_columns text)
returns jsonb
language plpgsql
stable
as $$
declare
  v_table regclass;
  v_columns jsonb := retention._parse_columns(p_columns);
  v_found jsonb := '{}';
  v_faults text[] := '{}';
  v_column text;
  v_name text;
  v_type record;
  v_fault record;
  v_is_optional boolean;
begin
  v_table := retention._find_table(p_table);
  for v_column in select jsonb_object_keys(v_columns) loop
    v_name := v_columns -> v_column ->> 'name';
    -- The runbook has no such column; where the application does, it counts without being named.
    v_is_optional := v_column in ('retain_until', 'etag') and v_name is null;
    if v_is_optional and coalesce(p_columns, '') !~* format('\m%s\s*=', v_column) then
      v_name := case v_column when 'etag' then 'result_etag' else v_column end;
    end if;
    if v_name is null then
      v_found := v_found || jsonb_build_object(v_column, v_columns -> v_column);
      continue;
    end if;
    select * into v_type from retention._column_type(v_table, v_name);
    if not found then
      if v_column = 'cleared_at' then
        v_found := v_found || jsonb_build_object(v_column, jsonb_build_object('name', v_name));
      elsif v_is_optional then
        v_found := v_found || jsonb_build_object(v_column, null);
      else
        v_faults := v_faults || format('%s: looked for column %I', v_column, v_name);
      end if;
      continue;
    end if;
    v_faults := v_faults || (
      v_column || ': '
      || retention._column_fault(v_table, v_column, v_name, v_columns -> 'status' ->> 'completed')
    );
    v_found := v_found || jsonb_build_object(
      v_column,
      -- A JSON null before || would make an array.
      coalesce(nullif(v_columns -> v_column, 'null'), '{}')
        || jsonb_build_object(
          'name', v_name, 'type', v_type.type, 'collation', v_type.collation_name, 'most_bytes', v_type.most_bytes
        )
    );
  end loop;
  v_faults := array_remove(v_faults, null);

  for v_fault in
    select min(f.code) as code, string_agg(f.message, '; ') as message, string_agg(f.hint, ' ') as hint
    from (
      select * from retention._table_faults(v_table, case when v_faults = '{}' then v_found else '{}' end)
      union all
      select 'undefined_column',
        format('the columns of %s differ from what was looked for: %s', v_table, array_to_string(v_faults, '; ')),
        'Name what the table has in RETENTION_COLUMNS, for example bucket=result_bucket,key=result_key; an empty right side (updated_at=) says that there is none.'
      where v_faults <> '{}'
    ) f
    having count(*) > 0
  loop
    raise exception using
      errcode = v_fault.code,
      message = v_fault.message,
      detail = case when v_faults <> '{}' then format('%s has: %s', v_table, (
        select string_agg(a.attname, ', ' order by a.attnum)
        from pg_attribute a
        where a.attrelid = v_table and a.attnum > 0 and not a.attisdropped
      )) else '' end,
      hint = v_fault.hint;
  end loop;
  return v_found;
end
$$;
