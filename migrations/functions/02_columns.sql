/*
The mapping of the application's columns: the one parser of RETENTION_COLUMNS, and what it finds in the
catalog. Nothing here names a type of the adopted table, for 0002_adopt runs it before those are known.
*/

-- The mapping that RETENTION_COLUMNS asks for, over the runbook's names.
-- p_columns: 'bucket=result_bucket,key="odd, name",bucket=''fixed'''; an empty right side says
-- that the table has no such column; 'status=state:done' names the value that means completed (default:
-- COMPLETED). Returns {view column: {"name": ..., "completed": ...} | {"fixed": ...} | null}.
-- Raises invalid_parameter_value.
create or replace function retention._parse_columns(p_columns text)
returns jsonb
language plpgsql
immutable
as $$
declare
  v_columns jsonb := jsonb_build_object(
    'run_id', jsonb_build_object('name', 'run_id'),
    'tenant_id', jsonb_build_object('name', 'tenant_id'),
    'status', jsonb_build_object('name', 'status', 'completed', 'COMPLETED'),
    'completed_at', jsonb_build_object('name', 'completed_at'),
    'retain_until', null,
    'bucket', jsonb_build_object('name', 'result_s3_bucket'),
    'key', jsonb_build_object('name', 'result_s3_key'),
    'cleared_at', jsonb_build_object('name', 'result_cleared_at'),
    'updated_at', jsonb_build_object('name', 'updated_at')
  );
  v_rest text := btrim(coalesce(p_columns, ''));
  v_match text[];
  v_target jsonb;
  v_completed text := 'COMPLETED';
  v_named text[] := '{}';
begin
  while v_rest <> '' loop
    v_match := regexp_match(
      v_rest,
      '^\s*([A-Za-z_]+)\s*=\s*("(?:[^"]|"")*"(?::[^,"'']*?)?|''(?:[^'']|'''')*''|[^,"'']*?)\s*(?:,|$)(.*)$'
    );
    if v_match is null then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('RETENTION_COLUMNS cannot be read from here on: %s', v_rest),
        hint = 'Write it as view_column=table_column, separated by commas, for example bucket=result_bucket,key=result_key.';
    end if;
    v_match[1] := lower(v_match[1]);
    if not v_columns ? v_match[1] then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('RETENTION_COLUMNS names the unknown view column %s', v_match[1]),
        hint = 'The view columns are run_id, tenant_id, status, completed_at, retain_until, bucket, key, cleared_at and updated_at.';
    end if;
    if v_match[1] = 'status' and v_match[2] ~ '^("(?:[^"]|"")*"|[^":'']+):[^:]+$' then
      v_completed := btrim(regexp_replace(v_match[2], '^("(?:[^"]|"")*"|[^":'']+):', ''));
      v_match[2] := btrim(left(v_match[2], -length(regexp_replace(v_match[2], '^("(?:[^"]|"")*"|[^":'']+):', '')) - 1));
    end if;
    if v_match[1] = any (v_named) then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('RETENTION_COLUMNS names %s twice', v_match[1]),
        hint = 'Name each view column once.';
    end if;
    v_named := v_named || v_match[1];
    v_target := case
      when v_match[2] = '' then 'null'::jsonb
      when v_match[2] like '"%' then
        jsonb_build_object('name', replace(substr(v_match[2], 2, length(v_match[2]) - 2), '""', '"'))
      when v_match[2] like '''%' then
        jsonb_build_object('fixed', replace(substr(v_match[2], 2, length(v_match[2]) - 2), '''''', ''''))
      else jsonb_build_object('name', lower(btrim(v_match[2])))
    end;
    if v_target = 'null' and v_match[1] in ('run_id', 'completed_at', 'key', 'cleared_at')
      or v_target ? 'fixed' and v_match[1] <> 'bucket'
    then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('RETENTION_COLUMNS: %s must name a column of the table, given: %s', v_match[1], v_match[2]),
        hint = 'Only bucket may be a fixed value; run_id, completed_at, key and cleared_at cannot be left out.';
    end if;
    if octet_length(v_target ->> 'name') > 63
      or v_target ->> 'fixed' !~ '^[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]$'
    then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('RETENTION_COLUMNS: %s cannot be %s', v_match[1], v_match[2]),
        hint = 'A column has a name of at most 63 bytes, and a bucket one of 3 to 255 letters, digits, dots, hyphens or underscores.';
    end if;
    if v_match[1] = 'status' and v_target ? 'name' then
      v_target := v_target || jsonb_build_object('completed', v_completed);
    end if;
    v_columns := jsonb_set(v_columns, array[v_match[1]], v_target);
    v_rest := btrim(v_match[3]);
  end loop;
  if exists (
    select
    from jsonb_each(v_columns) c
    where c.key <> 'cleared_at'
      and c.value ->> 'name' = v_columns -> 'cleared_at' ->> 'name'
  ) then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'RETENTION_COLUMNS: cleared_at must be a column of its own',
      hint = 'It is written when a result is deleted, so no other view column may name the same table column.';
  end if;
  return v_columns;
end
$$;

-- Finds what the mapping names in the application's table, or says all that is missing at once.
-- Returns {view column: {"name", "type", "collation", "completed"} | {"fixed"} | null}; cleared_at is null-typed
-- where the column is still to be added. Reads catalogs only.
-- Raises undefined_table, undefined_column, datatype_mismatch, insufficient_privilege.
create or replace function retention._find_columns(p_table text, p_columns text)
returns jsonb
language plpgsql
stable
as $$
declare
  v_table regclass;
  v_reason text;
  v_remedy text;
  v_owner name;
  v_columns jsonb := retention._parse_columns(p_columns);
  v_found jsonb := '{}';
  v_faults text[] := '{}';
  v_column text;
  v_name text;
  v_attribute record;
  v_names text;
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
  select string_agg(a.attname, ', ' order by a.attnum), pg_get_userbyid(c.relowner)
  into v_names, v_owner
  from pg_class c
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  where c.oid = v_table
    and c.relkind in ('r', 'p')
  group by c.relowner;
  if v_names is null then
    raise exception using
      errcode = 'wrong_object_type',
      message = format('%s is not a table', v_table),
      hint = 'Set RETENTION_TABLE to a plain or partitioned table.';
  end if;
  select u.reason, u.remedy
  into v_reason, v_remedy
  from retention._unsupported(v_table) u;
  if v_reason is not null then
    raise exception using
      errcode = 'feature_not_supported',
      message = v_reason,
      hint = v_remedy;
  end if;
  if not pg_has_role(v_owner, 'usage') then
    raise exception using
      errcode = 'insufficient_privilege',
      message = format('role %s may not adopt %s, which belongs to %s', current_user, v_table, v_owner),
      hint = format('Migrate as %s, as a member of it, or as a superuser (DATABASE_MIGRATE_URL).', v_owner);
  end if;

  if not (
    select has_schema_privilege(c.relnamespace, 'create')
    from pg_class c
    where c.oid = v_table
  ) then
    raise exception using
      errcode = 'insufficient_privilege',
      message = format('role %s may not create indexes in the schema of %s', current_user, v_table),
      hint = format('grant create on schema %s to %I;', (
        select n.nspname
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        where c.oid = v_table
      ), current_user);
  end if;

  for v_column in select jsonb_object_keys(v_columns) loop
    v_name := v_columns -> v_column ->> 'name';
    -- The runbook has no such column; where the application does, it counts without being named.
    if v_column = 'retain_until' and v_name is null and coalesce(p_columns, '') !~ 'retain_until\s*=' then
      v_name := 'retain_until';
    end if;
    if v_name is null then
      v_found := v_found || jsonb_build_object(v_column, v_columns -> v_column);
      continue;
    end if;
    select format_type(a.atttypid, a.atttypmod) as type,
      t.typcategory as category,
      case when a.attcollation <> t.typcollation then a.attcollation::regcollation::text end as collation
    into v_attribute
    from pg_attribute a
    join pg_type t on t.oid = a.atttypid
    where a.attrelid = v_table
      and a.attname = v_name
      and a.attnum > 0
      and not a.attisdropped;
    if not found then
      if v_column = 'cleared_at' then
        v_found := v_found || jsonb_build_object(v_column, jsonb_build_object('name', v_name));
      elsif v_column = 'retain_until' and (v_columns -> v_column) = 'null' then
        v_found := v_found || jsonb_build_object(v_column, null);
      else
        v_faults := v_faults || format('%s: looked for column %I', v_column, v_name);
      end if;
      continue;
    end if;
    if v_column in ('completed_at', 'cleared_at', 'updated_at', 'retain_until') and v_attribute.category <> 'D' then
      v_faults := v_faults || format('%s: column %I is of type %s, a timestamp is needed', v_column, v_name, v_attribute.type);
    elsif v_column in ('bucket', 'key') and v_attribute.category <> 'S' then
      v_faults := v_faults || format('%s: column %I is of type %s, text is needed', v_column, v_name, v_attribute.type);
    end if;
    v_found := v_found || jsonb_build_object(
      v_column,
      -- A JSON null before || would make an array.
      coalesce(nullif(v_columns -> v_column, 'null'), '{}')
        || jsonb_build_object('name', v_name, 'type', v_attribute.type, 'collation', v_attribute.collation)
    );
  end loop;

  if v_faults <> '{}' then
    raise exception using
      errcode = 'undefined_column',
      message = format('the columns of %s differ from what was looked for: %s', v_table, array_to_string(v_faults, '; ')),
      detail = format('%s has: %s', v_table, v_names),
      hint = 'Name what the table has in RETENTION_COLUMNS, for example bucket=result_bucket,key=result_key; an empty right side (updated_at=) says that there is none.';
  end if;
  if not exists (
    select
    from pg_index i
    join pg_attribute a on a.attrelid = v_table and a.attnum = i.indkey[0]
    where i.indrelid = v_table
      and i.indisunique
      and i.indpred is null
      and a.attname = v_found -> 'run_id' ->> 'name'
      and (i.indnkeyatts = 1 or exists (select from pg_partitioned_table p where p.partrelid = v_table))
  ) then
    raise exception using
      errcode = 'undefined_object',
      message = format('%s has no primary key or unique index that begins with %I', v_table, v_found -> 'run_id' ->> 'name'),
      hint = 'Make the run id unique, or name the right column: RETENTION_COLUMNS=run_id=...';
  end if;
  return v_found;
end
$$;

-- The expression of a point in time over one of the table's columns. A timestamp without time zone
-- is read as UTC, immutably, so that it can be indexed.
create or replace function retention._instant(p_column jsonb)
returns text
language sql
immutable
as $$
  select case
    when p_column is null or p_column = 'null' then 'null::timestamptz'
    when p_column ->> 'type' like 'timestamp%without time zone' then format('(%I at time zone ''UTC'')', p_column ->> 'name')
    when p_column ->> 'type' = 'date' then format('(%I::timestamp at time zone ''UTC'')', p_column ->> 'name')
    else format('%I', p_column ->> 'name')
  end
$$;
