/*
The mapping of the application's columns: the one parser of RETENTION_COLUMNS, and the expressions that are made of
a mapping. Nothing here names a type of the adopted table, for 0002_adopt runs it before those are known.
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
    'etag', null,
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
        hint = 'The view columns are run_id, tenant_id, status, completed_at, retain_until, bucket, key, etag, cleared_at and updated_at.';
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

-- The predicate of a run that is completed and has an object, over the columns of the mapping; p_row: what they
-- are columns of, with a dot. The index retention_live has it, and only a query that has it too can use that
-- index. It leaves out what the index cannot hold (a row of it has 2,704 bytes at most), so that no INSERT of
-- the application fails because of us. As varchar, a cast stays in its text, and the application may alter the column
-- to any type that can be written.
create or replace function retention._candidate(p_columns jsonb, p_view boolean)
returns text
language sql
immutable
as $$
  select concat_ws(
    ' and ',
    case
      when p_columns -> 'status' ->> 'name' is not null
      then format('%s = %L', case when p_view then 'r.status' else quote_ident(p_columns -> 'status' ->> 'name') end,
        p_columns -> 'status' ->> 'completed')
    end,
    case when p_view then 'r.key' else quote_ident(p_columns -> 'key' ->> 'name') end || ' is not null',
    case
      when p_columns -> 'tenant_id' ->> 'name' is not null
        and coalesce((p_columns -> 'tenant_id' ->> 'most_bytes')::integer, 2000) > 1024
      then format('coalesce(octet_length(%s::varchar), 0) <= 1024',
        case when p_view then 'r.tenant_id' else quote_ident(p_columns -> 'tenant_id' ->> 'name') end)
    end,
    case
      when coalesce((p_columns -> 'run_id' ->> 'most_bytes')::integer, 2000) > 1024
      then format('octet_length(%s::varchar) <= 1024',
        case when p_view then 'r.run_id' else quote_ident(p_columns -> 'run_id' ->> 'name') end)
    end
  )
$$;

-- The key in the order of bytes, as S3 lists: null where S3 can hold no such key. p_column: the column, as SQL writes it.
create or replace function retention._possible_key(p_column text)
returns text
language sql
immutable
as $$
  select format('(case when octet_length(%1$s::text) <= 1024 then %1$s::text end collate "C")', p_column)
$$;

-- What the index retention_key holds of a key, whatever its length: 8 bytes of it, so that who asks compares the key
-- itself too. p_column: the column, as SQL writes it. The same as _key_hash returns; written out, since the application's
-- table is to depend on nothing in this schema.
create or replace function retention._hash_expression(p_column text)
returns text
language sql
immutable
as $$
  select format('hashtextextended((%s)::text collate "C", 0)', p_column)
$$;

-- The number by which live rows with a key are found: retention._live has it as key_hash. A query that names only the
-- key reads the whole table.
create or replace function retention._key_hash(p_key text)
returns bigint
language sql
immutable
return hashtextextended(p_key collate "C", 0);

-- The expression of a point in time over one of the table's columns. A timestamp without time zone
-- is read as UTC, immutably, so that it can be indexed. A date beyond the last timestamp is infinity: it must raise
-- nowhere, for the application's INSERT writes the index too.
create or replace function retention._instant(p_column jsonb)
returns text
language sql
immutable
as $$
  select case
    when p_column is null or p_column = 'null' then 'null::timestamptz'
    when p_column ->> 'type' like 'timestamp%without time zone' then format('(%I at time zone ''UTC'')', p_column ->> 'name')
    when p_column ->> 'type' = 'date' then format(
      '((case when %1$I >= date ''294000-01-01'' then timestamp ''infinity'' else %1$I::timestamp end) at time zone ''UTC'')',
      p_column ->> 'name'
    )
    else format('%I', p_column ->> 'name')
  end
$$;
