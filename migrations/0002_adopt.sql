-- Up Migration

/*
Adoption: the only place that knows the application's table. These functions run
as whoever migrates and are dropped when the schema goes.
*/

-- The mapping that RETENTION_COLUMNS asks for, over the runbook's names.
-- p_columns: 'bucket=result_bucket,key="odd, name",bucket=''fixed'''; an empty right side says
-- that the table has no such column. Returns {view column: {"name": ...} | {"fixed": ...} | null}.
-- Raises invalid_parameter_value.
create function retention.parse_columns(p_columns text)
returns jsonb
language plpgsql
immutable
as $$
declare
  v_columns jsonb := jsonb_build_object(
    'run_id', jsonb_build_object('name', 'run_id'),
    'tenant_id', jsonb_build_object('name', 'tenant_id'),
    'status', jsonb_build_object('name', 'status'),
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
begin
  while v_rest <> '' loop
    v_match := regexp_match(
      v_rest,
      '^\s*([a-z_]+)\s*=\s*("(?:[^"]|"")*"|''(?:[^'']|'''')*''|[^,"'']*?)\s*(?:,|$)(.*)$'
    );
    if v_match is null then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('RETENTION_COLUMNS cannot be read from here on: %s', v_rest),
        hint = 'Write it as view_column=table_column, separated by commas, for example bucket=result_bucket,key=result_key.';
    end if;
    if not v_columns ? v_match[1] then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('RETENTION_COLUMNS names the unknown view column %s', v_match[1]),
        hint = 'The view columns are run_id, tenant_id, status, completed_at, retain_until, bucket, key, cleared_at and updated_at.';
    end if;
    v_target := case
      when v_match[2] = '' then 'null'::jsonb
      when v_match[2] like '"%' then
        jsonb_build_object('name', replace(substr(v_match[2], 2, length(v_match[2]) - 2), '""', '"'))
      when v_match[2] like '''%' then
        jsonb_build_object('fixed', replace(substr(v_match[2], 2, length(v_match[2]) - 2), '''''', ''''))
      else jsonb_build_object('name', lower(v_match[2]))
    end;
    if v_target = 'null' and v_match[1] in ('run_id', 'completed_at', 'key', 'cleared_at')
      or v_target ? 'fixed' and v_match[1] <> 'bucket'
    then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('RETENTION_COLUMNS: %s must name a column of the table, given: %s', v_match[1], v_match[2]),
        hint = 'Only bucket may be a fixed value; run_id, completed_at, key and cleared_at cannot be left out.';
    end if;
    v_columns := jsonb_set(v_columns, array[v_match[1]], v_target);
    v_rest := btrim(v_match[3]);
  end loop;
  return v_columns;
end
$$;

-- Finds what the mapping names in the application's table, or says all that is missing at once.
-- Returns {view column: {"name", "type", "collation"} | {"fixed"} | null}; cleared_at is null-typed
-- where the column is still to be added. Reads catalogs only.
-- Raises undefined_table, undefined_column, datatype_mismatch, insufficient_privilege.
create function retention.find_columns(p_table text, p_columns text)
returns jsonb
language plpgsql
stable
as $$
declare
  v_table regclass;
  v_owner name;
  v_columns jsonb := retention.parse_columns(p_columns);
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
      jsonb_build_object('name', v_name, 'type', v_attribute.type, 'collation', v_attribute.collation)
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

-- Stops the migration before anything is done when the scheduler cannot be had.
-- p_scheduler: 'pg_cron' or 'internal'; p_elsewhere: pg_cron lives in another database.
-- Raises object_not_in_prerequisite_state with what to install or set.
create function retention.check_scheduler(p_scheduler text, p_elsewhere boolean)
returns void
language plpgsql
as $$
declare
  v_home text;
begin
  if p_scheduler not in ('pg_cron', 'internal') then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('RETENTION_SCHEDULER must be pg_cron or internal, given: %s', p_scheduler);
  end if;
  if p_scheduler = 'internal' or p_elsewhere then
    return;
  end if;
  if not exists (select from pg_available_extensions where name = 'pg_cron') then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'RETENTION_SCHEDULER is pg_cron, but this server does not have pg_cron installed',
      hint = format(
        'Install it (Debian: apt-get install postgresql-%s-cron), set shared_preload_libraries = ''pg_cron'' and cron.database_name = ''%s'', and restart; or set RETENTION_SCHEDULER=internal.',
        current_setting('server_version_num')::integer / 10000, current_database()
      );
  end if;
  -- Where the extension is created, pg_cron lives here, and the setting need not be readable.
  if exists (select from pg_extension where extname = 'pg_cron') then
    v_home := current_database();
  else
    begin
      v_home := current_setting('cron.database_name', true);
    exception
      when insufficient_privilege then
        v_home := current_database();
    end;
  end if;
  if v_home is null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'RETENTION_SCHEDULER is pg_cron, but pg_cron is not loaded by this server',
      hint = format(
        'Set shared_preload_libraries = ''pg_cron'' and cron.database_name = ''%s'', and restart; or set RETENTION_SCHEDULER=internal.',
        current_database()
      );
  end if;
  if v_home <> current_database() then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('pg_cron lives in database %s of this server, not in %s', v_home, current_database()),
      hint = format(
        'Set CRON_DATABASE_URL to database %s, and the job is scheduled across; or set cron.database_name = ''%s'' and restart; or set RETENTION_SCHEDULER=internal.',
        v_home, current_database()
      );
  end if;
  if not exists (select from pg_extension where extname = 'pg_cron') then
    if not (select rolsuper from pg_roles where rolname = current_user) then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = format('the extension pg_cron is not created in database %s, and role %s may not create it', current_database(), current_user),
        hint = format(
          'As a superuser: create extension pg_cron; grant usage on schema cron to %I; or set RETENTION_SCHEDULER=internal.',
          current_user
        );
    end if;
    create extension pg_cron;
  end if;
  if not has_schema_privilege('cron', 'usage') then
    raise exception using
      errcode = 'insufficient_privilege',
      message = format('role %s may not use pg_cron', current_user),
      hint = format('As a superuser: grant usage on schema cron to %I; or set RETENTION_SCHEDULER=internal.', current_user);
  end if;
end
$$;

-- Stops the migration before anything is done when the role that is to get rights does not exist.
-- Raises undefined_object.
create function retention.check_role(p_role text)
returns void
language plpgsql
as $$
begin
  if p_role <> '' and not exists (select from pg_roles where rolname = p_role) then
    raise exception using
      errcode = 'undefined_object',
      message = format('RETENTION_ROLE names the role %s, which does not exist', p_role),
      hint = format('create role %I login; then migrate up again.', p_role);
  end if;
end
$$;

-- The expression of a point in time over one of the table's columns. A timestamp without time zone
-- is read as UTC, immutably, so that it can be indexed.
create function retention.instant(p_column jsonb)
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

-- Makes the domains, the adapter view and the stamping function over the adopted table.
-- Locks nothing but what it makes. Raises what find_columns raises.
create function retention.adopt(p_table text, p_columns text, p_scheduler text)
returns void
language plpgsql
as $$
declare
  v_columns jsonb := retention.find_columns(p_table, p_columns);
  v_table text := (
    select format('%I.%I', n.nspname, c.relname)
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.oid = to_regclass(p_table)
  );
begin
  insert into retention.adapter (table_name, columns, added_cleared_at, scheduler)
  values (v_table, v_columns, v_columns -> 'cleared_at' ->> 'type' is null, p_scheduler);

  execute format(
    'create domain retention.run_id as %s %s',
    v_columns -> 'run_id' ->> 'type',
    'collate ' || (v_columns -> 'run_id' ->> 'collation')
  );
  execute format(
    'create domain retention.tenant_id as %s %s',
    coalesce(v_columns -> 'tenant_id' ->> 'type', 'text'),
    'collate ' || (v_columns -> 'tenant_id' ->> 'collation')
  );
end
$$;

-- Down Migration

drop function retention.adopt(text, text, text), retention.instant(jsonb),
  retention.check_role(text), retention.check_scheduler(text, boolean), retention.find_columns(text, text),
  retention.parse_columns(text);
