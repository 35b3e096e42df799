CREATE SCHEMA retention;

COMMENT ON SCHEMA retention IS 'Retention Reactor: expiry of S3 results whose truth lives in this database';

CREATE DOMAIN retention.run_id AS uuid;

CREATE DOMAIN retention.tenant_id AS text;

CREATE FUNCTION retention._adopt(p_table text, p_columns text, p_scheduler text) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
declare
  v_adapter retention.adapter;
  v_columns jsonb;
  v_table regclass;
  v_name text;
  v_domain record;
  v_type text;
  v_changed boolean := false;
begin
  select * into v_adapter from retention.adapter;
  if v_adapter.table_name is not null
    and to_regclass(p_table) is null
    and exists (select from pg_class c where c.oid = v_adapter.table_oid)
  then
    raise exception using
      errcode = 'undefined_table',
      message = format('the application''s table %s was not found; the table that was adopted is called %s now', p_table, v_adapter.table_oid::regclass),
      hint = format('Set RETENTION_TABLE=%s and migrate up again.', v_adapter.table_oid::regclass);
  end if;
  v_columns := retention._find_columns(p_table, p_columns);
  v_table := to_regclass(p_table);
  if v_adapter.table_oid <> v_table
    and v_adapter.detached_at is null
    and to_regclass(v_adapter.table_name)::oid = v_adapter.table_oid
  then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('RETENTION_TABLE names %s, but %s was adopted and is still there', v_table, v_adapter.table_name),
      hint = 'To work on the other table from now on: select retention.detach(); then migrate up again. Otherwise set RETENTION_TABLE back.';
  end if;
  select format('%I.%I', n.nspname, c.relname)
  into v_name
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where c.oid = v_table;

  for v_domain in
    select d.name,
      coalesce(v_columns -> d.name ->> 'type', 'text') as type,
      v_columns -> d.name ->> 'collation' as collation
    from (values ('run_id'), ('tenant_id')) d (name)
  loop
    select format_type(t.typbasetype, t.typtypmod)
      || case when t.typcollation <> b.typcollation then ' ' || t.typcollation::regcollation::text else '' end
    into v_type
    from pg_type t
    join pg_type b on b.oid = t.typbasetype
    where t.oid = format('retention.%I', v_domain.name)::regtype;
    if v_type <> v_domain.type || coalesce(' ' || v_domain.collation, '') then
      perform retention._retype(v_domain.name, v_domain.type || coalesce(' collate ' || v_domain.collation, ''));
      v_changed := true;
    end if;
  end loop;

  if v_adapter.table_name is null then
    insert into retention.adapter (table_name, table_oid, columns, added_cleared_at, scheduler)
    values (v_name, v_table, v_columns, v_columns -> 'cleared_at' ->> 'type' is null, p_scheduler);
    return true;
  end if;
  if v_changed
    or v_adapter.table_name <> v_name
    or v_adapter.table_oid <> v_table
    or v_adapter.columns - 'cleared_at' <> v_columns - 'cleared_at'
    or v_adapter.columns -> 'cleared_at' ->> 'name' <> v_columns -> 'cleared_at' ->> 'name'
    or v_columns -> 'cleared_at' ->> 'type' is null
  then
    -- What was seen of another table says nothing of this one.
    delete from retention.progress;
    perform retention._drop_views();
    v_changed := true;
  end if;
  update retention.adapter
  set table_name = v_name,
    table_oid = v_table,
    columns = v_columns,
    added_cleared_at = v_adapter.added_cleared_at or v_columns -> 'cleared_at' ->> 'type' is null,
    scheduler = p_scheduler;
  return v_changed;
end
$$;

CREATE FUNCTION retention._announce_batches() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if pg_notification_queue_usage() > 0.5 then
    return null;
  end if;
  perform pg_notify('retention_expired', row_to_json(p)::text)
  from (
    select count(*) as batches,
      sum(m.results) as results,
      (array_agg(distinct left(m.bucket, 63)))[1:8] as buckets,
      retention._iso(min(m.oldest)) as oldest
    from made m
    where m.visible_at <= now()
      and m.settled_at is null
      and m.dead_at is null
    having count(*) > 0
  ) p;
  perform pg_notify('retention_attention', row_to_json(p)::text)
  from (
    select 'dead' as kind,
      left(m.bucket, 63) as bucket,
      left(m.code, 64) as code,
      sum(m.results) as results
    from made m
    where m.dead_at is not null
    group by m.bucket, m.code
    limit 10
  ) p;
  return null;
end
$$;

CREATE FUNCTION retention._announce_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_batch record;
begin
  if pg_notification_queue_usage() > 0.5 then
    return null;
  end if;
  for v_batch in
    select a.*,
      a.settled_at is not null and b.settled_at is null as is_settled,
      a.settled_at is null
        and a.dead_at is null
        and a.visible_at <= now()
        and (b.lease is not null or b.dead_at is not null or b.visible_at > now()) as is_back,
      a.problems is not null and a.problems is distinct from b.problems as has_problems
    from after a
    join before b on b.batch_id = a.batch_id
    where a.lease is null
  loop
    if v_batch.is_back then
      perform pg_notify('retention_expired', row_to_json(p)::text)
      from (
        select 1 as batches,
          v_batch.results as results,
          array[left(v_batch.bucket, 63)] as buckets,
          retention._iso(v_batch.oldest) as oldest
      ) p;
    end if;
    if v_batch.is_settled and v_batch.cleared + v_batch.spared > 0 then
      perform pg_notify('retention_cleared', row_to_json(p)::text)
      from (
        select v_batch.batch_id as batch,
          left(v_batch.bucket, 63) as bucket,
          v_batch.cleared as cleared,
          v_batch.spared as spared,
          v_batch.failed + v_batch.dead as failed,
          coalesce(v_batch.ms, 0) as ms
      ) p;
    end if;
    if v_batch.has_problems then
      perform pg_notify('retention_failed', row_to_json(p)::text)
      from (
        select v_batch.batch_id as batch,
          left(v_batch.bucket, 63) as bucket,
          left(j.problem ->> 'code', 64) as code,
          (j.problem ->> 'results')::integer as results,
          array(select left(i, 64) from jsonb_array_elements_text(j.problem -> 'run_ids') i) as run_ids,
          j.problem ->> 'retry_at' as retry_at
        from jsonb_array_elements(v_batch.problems) as j (problem)
        limit 10
      ) p;
    end if;
  end loop;
  return null;
end
$$;

CREATE FUNCTION retention._backoff(p_base interval, p_cap interval, p_tries integer) RETURNS interval
    LANGUAGE sql
    RETURN (LEAST(p_cap, (p_base * power((2)::double precision, (LEAST(p_tries, 30))::double precision))) * ((0.5)::double precision + (random() / (2)::double precision)));

CREATE TABLE retention.batch (
    batch_id bigint NOT NULL,
    bucket text NOT NULL,
    results integer NOT NULL,
    oldest timestamp with time zone NOT NULL,
    newest timestamp with time zone NOT NULL,
    due_since timestamp with time zone,
    early interval,
    flagged_at timestamp with time zone DEFAULT now() NOT NULL,
    visible_at timestamp with time zone DEFAULT now() NOT NULL,
    lease uuid,
    leased_at timestamp with time zone,
    leased_by text,
    attempts integer DEFAULT 0 NOT NULL,
    postponed integer DEFAULT 0 NOT NULL,
    code text,
    error text,
    failed_at timestamp with time zone,
    dead_at timestamp with time zone,
    cleared integer DEFAULT 0 NOT NULL,
    spared integer DEFAULT 0 NOT NULL,
    failed integer DEFAULT 0 NOT NULL,
    dead integer DEFAULT 0 NOT NULL,
    problems jsonb,
    ms integer,
    settled_at timestamp with time zone,
    run_ids retention.run_id[] NOT NULL,
    keys text[] NOT NULL COLLATE pg_catalog."C",
    tenants text[] NOT NULL,
    CONSTRAINT a_batch_ends_after_it_begins CHECK ((oldest <= newest)),
    CONSTRAINT a_batch_has_at_most_1000_results CHECK (((results >= 0) AND (results <= 1000))),
    CONSTRAINT a_dead_batch_is_not_worked_on CHECK (((dead_at IS NULL) OR ((lease IS NULL) AND (settled_at IS NULL)))),
    CONSTRAINT a_settled_batch_has_no_lease CHECK (((settled_at IS NULL) OR (lease IS NULL)))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_cost_delay='0');
ALTER TABLE ONLY retention.batch ALTER COLUMN run_ids SET STORAGE EXTERNAL;

COMMENT ON TABLE retention.batch IS 'the unit of work and, once settled, the receipt: one bucket, one DeleteObjects request, one lease';

COMMENT ON COLUMN retention.batch.oldest IS 'between here and newest its results completed, as they were flagged: how the batch of a run is found';

COMMENT ON COLUMN retention.batch.early IS 'a cutoff confirmed by a person that stands in for the policy, for this batch';

COMMENT ON COLUMN retention.batch.visible_at IS 'when it may be claimed: its retry time, or, while leased, the deadline of the lease';

COMMENT ON COLUMN retention.batch.code IS 'why all of its results failed when they were last tried; null: they have not failed';

COMMENT ON COLUMN retention.batch.dead_at IS 'failed too often, or for good: waits for retention.retry';

COMMENT ON COLUMN retention.batch.problems IS 'what its last attempt ran into: [{"code", "message", "results", "run_ids", "retry_at"}]';

COMMENT ON COLUMN retention.batch.run_ids IS 'its results: run_ids[i] of tenants[i] points at keys[i], packed by retention._pack_key. Of a settled batch those that it cleared: the receipt';

CREATE FUNCTION retention._batch_of(p_run_id retention.run_id, p_completed_at timestamp with time zone) RETURNS retention.batch
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_batch retention.batch;
begin
  select b.*
  into v_batch
  from retention.batch b
  where b.settled_at is null
    and p_completed_at between b.oldest and b.newest
    and p_run_id = any (b.run_ids)
  order by b.batch_id
  limit 1;
  if not found then
    select b.*
    into v_batch
    from retention.batch b
    where b.settled_at is null
      and p_run_id = any (b.run_ids)
    order by b.batch_id
    limit 1;
  end if;
  return v_batch;
end
$$;

CREATE FUNCTION retention._bearing_holds(p_run_id retention.run_id, p_tenant_id text) RETURNS jsonb
    LANGUAGE sql STABLE
    AS $$
  select jsonb_agg(
    jsonb_build_object(
      'hold_id', h.hold_id,
      'reason', h.reason,
      'placed_by', h.placed_by,
      'placed_at', retention._iso(h.placed_at),
      'on', case when h.run_id is null then 'tenant' else 'run' end,
      'ends', retention._iso(nullif(retention._hold_end(h.released_at, h.expires_at), 'infinity'))
    )
    order by h.hold_id
  )
  from retention.hold h
  cross join retention.setting s
  where (h.run_id = p_run_id or h.tenant_id = p_tenant_id)
    and retention._hold_end(h.released_at, h.expires_at)
      + case
        when h.tenant_id is null then interval '0'
        else s.release_spread * retention._place_in_line(p_run_id::text)
      end > now()
$$;

CREATE FUNCTION retention._check_role(p_role text) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
  if p_role <> '' and not exists (select from pg_roles where rolname = p_role) then
    raise exception using
      errcode = 'undefined_object',
      message = format('RETENTION_ROLE names the role %s, which does not exist', p_role),
      hint = format('create role %I login; then migrate up again.', p_role);
  end if;
end
$$;

CREATE FUNCTION retention._check_scheduler(p_scheduler text, p_elsewhere boolean) RETURNS void
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION retention._clean_up() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $_$
declare
  v_setting retention.setting;
  v_batch record;
begin
  select * into strict v_setting from retention.setting;
  delete from retention.batch b
  where b.settled_at < now() - case when b.cleared > 0 then v_setting.receipts_kept else v_setting.history_kept end;
  delete from retention.scan where started_at < now() - v_setting.history_kept;
  delete from retention.unanswered where until < now();
  -- A dead result whose run went on (another key, cleared by hand, deleted) needs no person any more.
  if to_regclass('retention._live') is not null then
    for v_batch in
      select b.batch_id,
        array_agg(u.run_id) as gone
      from retention.batch b
      cross join lateral retention._results(b) as u
      where b.dead_at is not null
        and b.settled_at is null
        and not exists (
          select
          from retention._live r
          where r.run_id = u.run_id
            and r.key = u.key
            and r.bucket = b.bucket
        )
      group by b.batch_id
    loop
      perform retention._take_out(v_batch.batch_id, v_batch.gone);
    end loop;
  end if;
  begin
    if to_regclass('cron.job_run_details') is not null then
      execute $cron$
        delete from cron.job_run_details
        where jobid in (select jobid from cron.job where jobname = 'retention-tick' or jobname like 'retention-tick:%')
          and end_time < now() - interval '1 day'
      $cron$;
    end if;
  exception
    when insufficient_privilege then
      null;
  end;
  update retention.heartbeat set cleaned_up_at = clock_timestamp();
end
$_$;

CREATE FUNCTION retention._dead_run_ids() RETURNS SETOF retention.run_id
    LANGUAGE sql STABLE ROWS 100
    AS $$
  select unnest(b.run_ids)
  from retention.batch b
  where b.dead_at is not null
    and b.settled_at is null
$$;

CREATE FUNCTION retention._differs(p_shipped text, p_table text, p_columns text, p_scheduler text, p_role text) RETURNS text[]
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_adapter retention.adapter;
  v_installed retention.installed;
  v_columns jsonb;
  v_differs text[] := '{}';
begin
  select * into v_adapter from retention.adapter;
  select * into v_installed from retention.installed;
  v_columns := retention._find_columns(p_table, p_columns);
  if v_adapter.detached_at is not null then
    v_differs := v_differs || 'table: detached'::text;
  end if;
  if v_adapter.table_oid is distinct from to_regclass(p_table)::oid
    or v_adapter.table_oid is distinct from to_regclass(v_adapter.table_name)::oid
  then
    v_differs := v_differs || 'table: another one now'::text;
  end if;
  if v_adapter.columns - 'cleared_at' <> v_columns - 'cleared_at'
    or v_adapter.columns -> 'cleared_at' ->> 'name' <> v_columns -> 'cleared_at' ->> 'name'
    or v_columns -> 'cleared_at' ->> 'type' is null
  then
    v_differs := v_differs || 'table: its columns, or how they are mapped'::text;
  end if;
  if exists (select from retention._index_plan() p where not p.is_there)
    or exists (select from retention._our_indexes(true))
  then
    v_differs := v_differs || 'table: its indexes'::text;
  end if;
  if v_installed.shipped is distinct from p_shipped then
    v_differs := v_differs || 'functions: another release'::text;
  elsif v_installed.found is distinct from retention._digest() then
    v_differs := v_differs || 'functions: not as they were installed'::text;
  end if;
  if v_adapter.scheduler <> p_scheduler then
    v_differs := v_differs || 'table: its scheduler'::text;
  end if;
  if coalesce(p_role, '') <> '' and v_adapter.listener_role is distinct from p_role then
    v_differs := v_differs || 'rights: of another role'::text;
  end if;
  if retention._lacks_job() then
    v_differs := v_differs || 'job: not scheduled'::text;
  end if;
  return v_differs;
end
$$;

CREATE FUNCTION retention._digest() RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select encode(sha256(convert_to(string_agg(d.line, E'\n' order by d.line collate "C"), 'UTF8')), 'hex')
  from (
    select pg_get_functiondef(p.oid)
      || coalesce((select string_agg(a::text, ',' order by a::text) from unnest(p.proacl) a), '') as line
    from pg_proc p
    where p.pronamespace = 'retention'::regnamespace
    union all
    select c.relname || pg_get_viewdef(c.oid)
      || coalesce((select string_agg(a::text, ',' order by a::text) from unnest(c.relacl) a), '')
    from pg_class c
    where c.relnamespace = 'retention'::regnamespace
      and c.relkind = 'v'
    union all
    select pg_get_triggerdef(t.oid) || t.tgenabled::text
    from pg_trigger t
    join pg_class c on c.oid = t.tgrelid
    where c.relnamespace = 'retention'::regnamespace
      and not t.tgisinternal
  ) d
$$;

CREATE FUNCTION retention._drop_views() RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_views text := (
    select string_agg(c.oid::regclass::text, ', ')
    from pg_class c
    where c.relnamespace = 'retention'::regnamespace
      and c.relkind = 'v'
  );
begin
  if v_views is not null then
    execute 'drop view ' || v_views;
  end if;
end
$$;

CREATE FUNCTION retention._estimate_live() RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  -- By way of the index: partitions that came later have indexes under names of Postgres's choice.
  select coalesce(sum(greatest(c.reltuples, 0)) filter (where c.relkind = 'i'), 0)::bigint
  from retention.adapter a
  join pg_index i on i.indrelid = a.table_oid
  join retention._index_plan() w on w.purpose = 'retention_live'
    and obj_description(i.indexrelid, 'pg_class') = w.mark
  cross join lateral (
    select i.indexrelid as relid
    union
    select p.relid
    from pg_partition_tree(i.indexrelid) p
  ) t
  join pg_class c on c.oid = t.relid
$$;

CREATE FUNCTION retention._failures(p_batch retention.batch, p_cleared text[], p_failed jsonb, p_max_attempts integer) RETURNS TABLE(code text, reason text, counted boolean, is_dead boolean, run_ids retention.run_id[], keys text[], tenants text[])
    LANGUAGE sql STABLE
    SET enable_hashjoin TO 'on'
    AS $$
  select f.code,
    min(f.reason),
    f.counted,
    f.is_dead,
    array_agg(f.run_id order by f.n),
    array_agg(f.key order by f.n),
    array_agg(f.tenant_id order by f.n)
  from (
    select u.run_id,
      u.key,
      u.tenant_id,
      u.n,
      left(coalesce(f.code, 'Unanswered'), 64) as code,
      left(coalesce(f.reason, 'the reply did not name this key'), 500) as reason,
      coalesce(f.outcome = 'refused', false) as counted,
      coalesce(f.outcome = 'refused', false)
        and (p_batch.attempts + 1 >= p_max_attempts or coalesce(f.final, false)) as is_dead
    from unnest(p_batch.run_ids, p_batch.keys, p_batch.tenants) with ordinality as u (run_id, key, tenant_id, n)
    left join (
      select distinct on (j.key collate "C") j.*
      from jsonb_to_recordset(p_failed) as j (key text, code text, reason text, outcome text, final boolean)
    ) f on f.key = retention._unpack_key(u.key, u.run_id::text) collate "C"
    where retention._unpack_key(u.key, u.run_id::text) collate "C" not in (select unnest(p_cleared) collate "C")
  ) f
  group by f.code, f.counted, f.is_dead
  order by min(f.n)
$$;

CREATE FUNCTION retention._find_columns(p_table text, p_columns text) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_table regclass;
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

CREATE FUNCTION retention._fits(p_client text) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select case
    when p_client is null or p_client !~ '^\d+\.\d+\.\d+' then 'fits'
    when c.parts < string_to_array(v.oldest_client, '.')::integer[] then 'client too old'
    when c.parts[1:2] > (string_to_array(v.version, '.')::integer[])[1:2] then 'schema too old'
    else 'fits'
  end
  from retention.version() v
  cross join (
    select string_to_array(substring(p_client from '^\d+\.\d+\.\d+'), '.')::integer[] as parts
  ) c
$$;

CREATE FUNCTION retention._flag_part(p_rows bigint, p_batch_size integer) RETURNS TABLE(flagged bigint, batches bigint, oldest timestamp with time zone, looked_at bigint, left_alone bigint, without_place bigint, without_place_run_ids text[], more boolean, tenants bigint)
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_column
begin
  return query
  with tenant as materialized (
    select t.tenant_id,
      t.tenant_key,
      now() - retention._in_seconds(t.retain) as before,
      g.completed_at as after_completed_at,
      g.run_id as after_run_id
    from retention._tenants() t
    left join retention.progress g on g.tenant_key = t.tenant_key
  ),
  -- Tenants with more to look at share a part evenly, and the oldest results get what is over; who has
  -- more to give goes on in the next part, among fewer.
  sharing as materialized (
    select t.*,
      row_number() over (order by r.completed_at, r.run_id)::integer as tenant,
      p_rows / count(*) over ()
        + (row_number() over (order by r.completed_at, r.run_id) <= p_rows % count(*) over ())::integer as share
    from tenant t
    cross join lateral retention._past(t.tenant_id, t.after_completed_at, t.after_run_id, t.before, 1) r
  ),
  -- Columns of a fixed width come first: behind a text each has to be looked for in the row.
  seen as materialized (
    select r.run_id,
      r.completed_at,
      r.due_at,
      t.tenant,
      r.is_due and r.has_place as may_go,
      r.is_due,
      r.bucket,
      r.key,
      r.tenant_id
    from sharing t
    cross join lateral retention._past(t.tenant_id, t.after_completed_at, t.after_run_id, t.before, t.share) r
  ),
  given as materialized (
    select s.tenant,
      count(*) as results,
      min(s.completed_at) as first_completed_at,
      max(s.completed_at) as completed_at
    from seen s
    group by s.tenant
  ),
  flagged as materialized (
    select retention._flagged_between(
      (select min(g.first_completed_at) from given g), (select max(g.completed_at) from given g)
    ) as run_id
  ),
  made as (
    insert into retention.batch (bucket, results, oldest, newest, due_since, run_ids, keys, tenants)
    select n.bucket,
      count(*),
      min(n.completed_at),
      max(n.completed_at),
      min(n.due_at),
      array_agg(n.run_id),
      array_agg(retention._pack_key(n.key, n.run_id::text)),
      array_agg(n.tenant_id)
    from (
      select s.run_id,
        s.completed_at,
        s.due_at,
        s.bucket,
        s.key,
        s.tenant_id,
        (
          row_number() over (partition by s.bucket collate "C" order by s.completed_at, s.run_id) - 1
        ) / p_batch_size as part
      from seen s
      where s.may_go
        and s.run_id not in (select f.run_id from flagged f)
    ) n
    group by n.bucket, n.part
    order by min(n.completed_at)
    returning bucket, results, oldest
  ),
  noted as (
    insert into retention.bucket (bucket)
    select distinct m.bucket
    from made m
    where not exists (select from retention.bucket k where k.bucket = m.bucket)
    on conflict do nothing
  ),
  moved as (
    insert into retention.progress (tenant_key, completed_at, run_id)
    select distinct on (t.tenant_key) t.tenant_key, s.completed_at, s.run_id
    from seen s
    join given g on g.tenant = s.tenant
      and g.completed_at = s.completed_at
    join sharing t on t.tenant = g.tenant
    order by t.tenant_key, s.run_id desc
    on conflict (tenant_key) do update
    set completed_at = excluded.completed_at,
      run_id = excluded.run_id
  )
  select coalesce(m.flagged, 0)::bigint,
    m.batches,
    m.oldest,
    n.looked_at,
    n.left_alone,
    n.without_place,
    n.without_place_run_ids,
    exists (
      select
      from given g
      join sharing t on t.tenant = g.tenant
      where g.results >= t.share
    ),
    (select count(*) from tenant)
  from (
    select sum(x.results) as flagged, count(*) as batches, min(x.oldest) as oldest
    from made x
  ) m
  cross join (
    select count(*) as looked_at,
      count(*) filter (
        where case when s.may_go then false else s.run_id not in (select f.run_id from flagged f) end
      ) as left_alone,
      count(*) filter (where s.is_due and not s.may_go) as without_place,
      coalesce(
        (array_agg(s.run_id::text order by s.completed_at) filter (where s.is_due and not s.may_go))[1:10],
        '{}'
      ) as without_place_run_ids
    from seen s
  ) n;
end
$$;

CREATE FUNCTION retention._flagged_between(p_from timestamp with time zone, p_to timestamp with time zone) RETURNS SETOF retention.run_id
    LANGUAGE sql STABLE
    AS $$
  select unnest(b.run_ids)
  from retention.batch b
  where b.settled_at is null
    and b.oldest <= p_to
    and b.newest >= p_from
$$;

CREATE FUNCTION retention._grant_rights() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_adapter retention.adapter;
  v_role text;
  v_object record;
begin
  revoke all on all functions in schema retention from public;
  revoke all on all tables in schema retention from public;
  select * into v_adapter from retention.adapter;
  v_role := v_adapter.listener_role;
  -- The job of a pg_cron in another database may run as a role that owns nothing here.
  if v_adapter.cron_database is not null
    and exists (select from pg_roles where rolname = v_adapter.cron_job_owner)
  then
    execute format('grant usage on schema retention to %I', v_adapter.cron_job_owner);
    execute format('grant execute on function retention.tick(text) to %I', v_adapter.cron_job_owner);
  end if;
  if v_role is null then
    return;
  end if;
  perform retention._check_role(v_role);
  execute format('grant usage on schema retention to %I', v_role);
  for v_object in
    select i.signature, i.privilege, i.is_public
    from retention._interface() i
  loop
    execute format('revoke all on %s from %I', v_object.signature, v_role);
    if v_object.is_public then
      execute format('grant %s on %s to %I', v_object.privilege, v_object.signature, v_role);
    end if;
  end loop;
end
$$;

CREATE FUNCTION retention._guard_policy() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_guard integer := (select policy_guard from retention.setting);
  v_before interval;
  v_due bigint;
begin
  if tg_op <> 'DELETE' then
    -- A year is 360 days where intervals are compared, and 365.25 where they are added to a date.
    new.retain := retention._in_days(new.retain);
  end if;
  if tg_op = 'UPDATE' and new.confirmed_at is distinct from old.confirmed_at then
    -- confirm_policy: what is due now was counted there.
    delete from retention.progress;
    return new;
  end if;
  if tg_op = 'DELETE' then
    if old.tenant_id = '*' then
      raise exception using
        errcode = 'check_violation',
        message = 'the default policy (*) cannot be removed, only changed';
    end if;
    v_due := retention._newly_due(old.tenant_id, (select retain from retention.policy where tenant_id = '*'));
    if v_due > v_guard then
      raise exception using
        errcode = 'check_violation',
        message = format('removing the policy of tenant %s would make %s results due at once', old.tenant_id, v_due),
        hint = 'Use retention.unset_policy(tenant_id) and confirm it with retention.confirm_policy(tenant_id).';
    end if;
    delete from retention.progress;
    return old;
  end if;
  if tg_op = 'UPDATE' then
    if new.tenant_id <> old.tenant_id then
      raise exception using
        errcode = 'check_violation',
        message = format('the policy of tenant %s cannot be handed to tenant %s: set the one and unset the other', old.tenant_id, new.tenant_id);
    end if;
    v_before := old.retain;
  else
    select retain into v_before from retention.policy where tenant_id = '*';
  end if;
  if v_before is null or new.retain is not distinct from v_before then
    return new;
  end if;
  if new.retain < v_before then
    v_due := retention._newly_due(new.tenant_id, new.retain);
    if v_due > v_guard then
      new.pending_retain := new.retain;
      new.pending_results := v_due;
      new.pending_at := now();
      new.pending_by := session_user;
      new.retain := v_before;
      return new;
    end if;
  end if;
  new.pending_retain := null;
  new.pending_results := null;
  new.pending_at := null;
  new.pending_by := null;
  -- What a longer policy spares, and what a shorter one makes due, lies behind the progress.
  delete from retention.progress;
  return new;
end
$$;

CREATE FUNCTION retention._hold_end(p_released_at timestamp with time zone, p_expires_at timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN COALESCE(LEAST(p_released_at, p_expires_at), 'infinity'::timestamp with time zone);

CREATE FUNCTION retention._hold_in_force(p_holds jsonb) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select format('hold %s on its %s, placed by %s: %s', h ->> 'hold_id', h ->> 'on', h ->> 'placed_by', h ->> 'reason')
    || coalesce('; it ends at ' || retention._iso((h ->> 'ends')::timestamptz), '')
  from jsonb_array_elements(p_holds) h
  where (h ->> 'ends') is null
    or (h ->> 'ends')::timestamptz > now()
  limit 1
$$;

CREATE FUNCTION retention._in_days(p_interval interval) RETURNS interval
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (make_interval(days => (floor((EXTRACT(epoch FROM p_interval) / (86400)::numeric)))::integer) + make_interval(secs => ((EXTRACT(epoch FROM p_interval) - ((86400)::numeric * floor((EXTRACT(epoch FROM p_interval) / (86400)::numeric)))))::double precision));

CREATE FUNCTION retention._in_flight(p_run_id retention.run_id, p_tenant_id retention.tenant_id) RETURNS TABLE(run_id retention.run_id, until timestamp with time zone)
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  v_setting retention.setting;
  v_bucket text;
  v_key text;
begin
  select * into strict v_setting from retention.setting;
  if p_run_id is not null then
    if v_setting.check_shared_objects then
      select coalesce(nullif(r.bucket, ''), v_setting.default_bucket), r.key
      into v_bucket, v_key
      from retention.result r
      where r.run_id = p_run_id;
    end if;
    return query
    select p_run_id, max(f.until)
    from (
      select b.bucket, b.run_ids, b.keys, b.visible_at + v_setting.unanswered_for as until
      from retention.batch b
      where b.lease is not null
      union all
      select u.bucket, u.run_ids, u.keys, u.until
      from retention.unanswered u
    ) f
    where f.until > clock_timestamp()
      and (
        p_run_id = any (f.run_ids)
        or f.bucket = v_bucket and exists (
          select
          from unnest(f.run_ids, f.keys) as e (run_id, key)
          where retention._unpack_key(e.key, e.run_id::text) = v_key collate "C"
        )
      )
    having count(*) > 0;
  else
    return query
    with asked as materialized (
      select a.bucket, e.run_id, retention._unpack_key(e.key, e.run_id::text) as key, a.until
      from (
        select b.bucket, b.run_ids, b.keys, b.visible_at + v_setting.unanswered_for as until
        from retention.batch b
        where b.lease is not null
        union all
        select u.bucket, u.run_ids, u.keys, u.until
        from retention.unanswered u
      ) a
      cross join unnest(a.run_ids, a.keys) as e (run_id, key)
      where a.until > clock_timestamp()
    )
    select f.run_id, max(f.until)
    from (
      -- The aggregate and the offset keep both a probe by run id and by key: of what comes out of arrays the
      -- planner knows nothing, and a join may compare everything with all results of the tenant.
      select a.run_id, a.until
      from asked a
      cross join lateral (
        select bool_or(r.tenant_id = p_tenant_id) as is_asked
        from retention.result r
        where r.run_id = a.run_id
      ) r
      where r.is_asked
      union all
      select r.run_id::retention.run_id, a.until
      from asked a
      cross join lateral (
        select r.run_id, r.tenant_id
        from retention._live r
        where r.key = a.key collate "C"
          and r.bucket = a.bucket
        offset 0
      ) r
      where v_setting.check_shared_objects
        and r.tenant_id = p_tenant_id
    ) f
    group by f.run_id;
  end if;
end
$$;

CREATE FUNCTION retention._in_seconds(p_interval interval) RETURNS interval
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN make_interval(secs => (EXTRACT(epoch FROM p_interval))::double precision);

CREATE FUNCTION retention._index_plan() RETURNS TABLE(purpose text, name text, columns text, mark text, is_there boolean)
    LANGUAGE sql STABLE
    AS $$
  with named as (
    select a.table_oid,
      quote_ident(a.columns -> 'tenant_id' ->> 'name') as tenant_id,
      quote_ident(a.columns -> 'status' ->> 'name') as status,
      a.columns -> 'status' ->> 'completed' as completed,
      retention._instant(a.columns -> 'completed_at') as completed_at,
      quote_ident(a.columns -> 'run_id' ->> 'name') as run_id,
      quote_ident(a.columns -> 'key' ->> 'name') as key,
      quote_ident(a.columns -> 'cleared_at' ->> 'name') as cleared_at
    from retention.adapter a
  ),
  wanted as (
    select n.table_oid,
      'retention_live' as purpose,
      format(
        '(%s) where %s is null%s and %s is not null',
        concat_ws(', ', n.tenant_id, n.completed_at, n.run_id),
        n.cleared_at,
        case when n.status is null then '' else format(' and %s = %L', n.status, n.completed) end,
        n.key
      ) as columns
    from named n
    union all
    select n.table_oid,
      'retention_key',
      format('(%s collate "C") where %s is null', n.key, n.cleared_at)
    from named n
  )
  select w.purpose,
    case
      when exists (
        select
        from pg_class o
        join pg_class t on t.oid = w.table_oid
        left join pg_index i on i.indexrelid = o.oid
        where o.relname = w.purpose
          and o.relnamespace = t.relnamespace
          and (
            i.indrelid is distinct from w.table_oid
            or i.indisvalid
            and obj_description(o.oid, 'pg_class') is distinct from 'retention-reactor: ' || w.columns
          )
      )
      then w.purpose || '_' || w.table_oid
      else w.purpose
    end,
    w.columns,
    'retention-reactor: ' || w.columns,
    exists (
      select
      from pg_index i
      where i.indrelid = w.table_oid
        and i.indisvalid
        and obj_description(i.indexrelid, 'pg_class') = 'retention-reactor: ' || w.columns
    )
  from wanted w
$$;

CREATE FUNCTION retention._instant(p_column jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
  select case
    when p_column is null or p_column = 'null' then 'null::timestamptz'
    when p_column ->> 'type' like 'timestamp%without time zone' then format('(%I at time zone ''UTC'')', p_column ->> 'name')
    when p_column ->> 'type' = 'date' then format('(%I::timestamp at time zone ''UTC'')', p_column ->> 'name')
    else format('%I', p_column ->> 'name')
  end
$$;

CREATE FUNCTION retention._interface() RETURNS TABLE(kind text, oid oid, name text, signature text, privilege text, is_public boolean)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select 'function',
    p.oid,
    format('function retention.%I', p.proname),
    format('function %s', p.oid::regprocedure),
    'execute',
    p.proname !~ '^_'
      and p.prorettype <> 'trigger'::regtype
      and p.proname not in ('detach', 'attach', 'grant_rights')
  from pg_proc p
  where p.pronamespace = 'retention'::regnamespace
  union all
  select 'relation',
    c.oid,
    format('retention.%I', c.relname),
    c.oid::regclass::text,
    'select',
    c.relname !~ '^_'
  from pg_class c
  where c.relnamespace = 'retention'::regnamespace
    and c.relkind in ('r', 'v')
$$;

CREATE FUNCTION retention._is_open(p_client text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
  select not exists (select from retention.gate(p_client))
$$;

CREATE FUNCTION retention._iso(p_at timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE WHEN (NOT isfinite(p_at)) THEN (p_at)::text ELSE (to_char((p_at AT TIME ZONE 'UTC'::text), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'::text) || CASE WHEN (p_at < '0001-01-01 00:00:00+00'::timestamp with time zone) THEN ' BC'::text ELSE ''::text END) END;

CREATE FUNCTION retention._lacks_job() RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_adapter retention.adapter;
begin
  select * into v_adapter from retention.adapter;
  if v_adapter.scheduler <> 'pg_cron' or v_adapter.cron_database is not null then
    return false;
  end if;
  if v_adapter.cron_job_owner is distinct from current_user::text
    and not (select r.rolsuper from pg_roles r where r.rolname = current_user)
  then
    return v_adapter.cron_job_owner is null;
  end if;
  return not exists (
    select
    from cron.job j
    where j.jobname = 'retention-tick'
      and j.database = current_database()
  );
end
$$;

CREATE FUNCTION retention._make_views() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  v_adapter retention.adapter;
  v_columns jsonb;
  v_candidate text;
begin
  select * into strict v_adapter from retention.adapter;
  v_columns := v_adapter.columns;
  execute format(
    'create or replace view retention.result as
      select %I as run_id,
        %s as tenant_id,
        %s as status,
        %s as completed_at,
        %s as retain_until,
        %s as bucket,
        %I as key,
        %I as cleared_at,
        %s as updated_at
      from %s',
    v_columns -> 'run_id' ->> 'name',
    coalesce(quote_ident(v_columns -> 'tenant_id' ->> 'name'), 'null::text'),
    coalesce(quote_ident(v_columns -> 'status' ->> 'name'), '''COMPLETED''::text'),
    retention._instant(v_columns -> 'completed_at'),
    retention._instant(v_columns -> 'retain_until'),
    case
      when v_columns -> 'bucket' ? 'fixed' then format('%L::text', v_columns -> 'bucket' ->> 'fixed')
      else coalesce(quote_ident(v_columns -> 'bucket' ->> 'name'), 'null::text')
    end,
    v_columns -> 'key' ->> 'name',
    v_columns -> 'cleared_at' ->> 'name',
    coalesce(quote_ident(v_columns -> 'updated_at' ->> 'name'), 'null::timestamptz'),
    v_adapter.table_oid::regclass
  );
  v_candidate := case
    when v_columns -> 'status' ->> 'name' is null then 'r.key is not null'
    else format('(r.status = %L and r.key is not null)', v_columns -> 'status' ->> 'completed')
  end;
  /*
  Every row that is not cleared, with what the rules make of it.
  is_candidate: completed and with an object. Of the columns themselves, as the predicate of the index
    retention_live says it: only then does the planner use that index.
  due_at: when its retention ends; null: never. is_due: that is over, and it is not held.
  has_place: it names an object to delete.

  What is the same for every row stands in a select of its own, which Postgres runs once for each statement:
  joined, it would be looked up again for each row. Without a policy for everybody nothing is due.
  */
  execute format(
    $view$
    create or replace view retention._live as
    select l.run_id,
      l.tenant_id,
      l.status,
      l.completed_at,
      l.retain_until,
      l.bucket,
      l.key,
      l.is_candidate,
      l.bucket is not null and l.key <> '' as has_place,
      l.retain,
      l.due_at,
      l.held,
      coalesce(l.due_at < now(), false) and not l.held as is_due
    from (
      select r.run_id,
        r.tenant_id,
        r.status,
        r.completed_at,
        r.retain_until,
        coalesce(nullif(r.bucket, ''), (select s.default_bucket from retention.setting s)) as bucket,
        -- In the order of bytes, as S3 lists: one index serves look-ups and comparisons with listings.
        r.key::text collate "C" as key,
        %1$s as is_candidate,
        coalesce(p.retain, (select d.retain from retention.policy d where d.tenant_id = '*')) as retain,
        case
          when %1$s
            and r.completed_at is not null
            and exists (select from retention.policy d where d.tenant_id = '*')
          then greatest(
            r.completed_at + coalesce(
              retention._in_seconds(p.retain),
              (select retention._in_seconds(d.retain) from retention.policy d where d.tenant_id = '*')
            ),
            r.retain_until
          )
        end as due_at,
        -- Where nothing was ever held, no result is looked up among the holds.
        exists (select from retention.hold)
        and (
          exists (
            select
            from retention.hold h
            where h.run_id = r.run_id
              and retention._hold_end(h.released_at, h.expires_at) > now()
          )
          or exists (
            select
            from retention.hold h
            where h.tenant_id = r.tenant_id::text
              and retention._hold_end(h.released_at, h.expires_at)
                + (select s.release_spread from retention.setting s)
                * retention._place_in_line(r.run_id::text) > now()
          )
        ) as held
      from retention.result r
      -- Where no tenant has a policy of its own, none is looked up.
      left join retention.policy p on (select exists (select from retention.policy d where d.tenant_id <> '*'))
        and p.tenant_id = r.tenant_id::text
        and p.tenant_id <> '*'
      where r.cleared_at is null
    ) l
    $view$,
    v_candidate
  );
  comment on view retention.result is
    'The application''s table under the names of this schema: the only way from here to it. For observers.';
  comment on column retention.result.tenant_id is 'null where the table has no tenants';
  comment on column retention.result.status is 'only a run whose status means completed has a result to expire';
  comment on column retention.result.completed_at is 'from when its retention is counted';
  comment on column retention.result.retain_until is 'a date before which the result may not go, whatever the policy says';
  comment on column retention.result.bucket is 'null or empty: setting.default_bucket';
  comment on column retention.result.cleared_at is 'when the result was deleted, or found gone; null: it is live';
  comment on column retention.result.updated_at is 'written with cleared_at, where the table has it';
  revoke all on retention.result, retention._live from public;
end
$_$;

CREATE FUNCTION retention._may_go(p_batch retention.batch, p_shared boolean, OUT spared bigint[], OUT keys text[]) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_early interval := retention._in_seconds(p_batch.early);
begin
  -- The aggregates keep this a probe by key, or by run id: joined to the view as a whole, it is a scan.
  if p_shared and v_early is null then
    select coalesce(array_agg(e.n) filter (where o.may_go is not true), '{}'),
      coalesce(array_agg(e.key) filter (where o.may_go), '{}')
    into spared, keys
    from retention._results(p_batch) e
    cross join lateral (
      -- By its key, one probe finds the run itself and any other that needs the object.
      select bool_or(r.run_id = e.run_id) and bool_and(r.is_due) as may_go
      from retention._live r
      where r.key = e.key collate "C"
        and r.bucket = p_batch.bucket
    ) o;
  elsif p_shared then
    select coalesce(array_agg(e.n) filter (where o.may_go is not true), '{}'),
      coalesce(array_agg(e.key) filter (where o.may_go), '{}')
    into spared, keys
    from retention._results(p_batch) e
    cross join lateral (
      select bool_or(r.run_id = e.run_id)
        and bool_and(
          r.is_due
          or r.run_id = e.run_id
            and not r.held
            and r.is_candidate
            and coalesce(greatest(r.completed_at + v_early, r.retain_until) < now(), false)
        ) as may_go
      from retention._live r
      where r.key = e.key collate "C"
        and r.bucket = p_batch.bucket
    ) o;
  else
    select coalesce(array_agg(e.n) filter (where o.may_go is not true), '{}'),
      coalesce(array_agg(e.key) filter (where o.may_go), '{}')
    into spared, keys
    from retention._results(p_batch) e
    cross join lateral (
      select bool_and(
        r.is_due
        or v_early is not null
          and not r.held
          and r.is_candidate
          and coalesce(greatest(r.completed_at + v_early, r.retain_until) < now(), false)
      ) as may_go
      from retention._live r
      where r.run_id = e.run_id
        and r.key = e.key collate "C"
        and r.bucket = p_batch.bucket
    ) o;
  end if;
end
$$;

CREATE FUNCTION retention._newest_run() RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    AS $$
declare
  v_newest timestamptz;
begin
  if to_regclass('retention._live') is not null then
    with recursive tenant(tenant_id, completed_at) as (
      (
        select r.tenant_id, null::timestamptz
        from retention._live r
        where r.is_candidate
          and r.tenant_id is not null
        order by r.tenant_id
        limit 1
      )
      union all
      select (
          select r.tenant_id
          from retention._live r
          where r.is_candidate
            and r.tenant_id > t.tenant_id
          order by r.tenant_id
          limit 1
        ),
        (
          select r.completed_at
          from retention._live r
          where r.is_candidate
            and r.tenant_id = t.tenant_id
            and r.completed_at <= now()
          order by r.tenant_id desc, r.completed_at desc, r.run_id desc
          limit 1
        )
      from tenant t
      where t.tenant_id is not null
    )
    select greatest(
      (select max(t.completed_at) from tenant t),
      (
        select r.completed_at
        from retention._live r
        where r.is_candidate
          and r.tenant_id is null
          and r.completed_at <= now()
        order by r.tenant_id desc, r.completed_at desc, r.run_id desc
        limit 1
      )
    )
    into v_newest;
  end if;
  return coalesce(
    nullif(v_newest, '-infinity'),
    (select b.newest from retention.batch b where b.settled_at is not null order by b.settled_at desc limit 1)
  );
end
$$;

CREATE FUNCTION retention._newly_due(p_tenant_id text, p_retain interval) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select coalesce(sum(n.results), 0)::bigint
  from retention.preview_policy(p_tenant_id, p_retain) n
$$;

CREATE FUNCTION retention._next_batch(p_batch_ids bigint[]) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
declare
  v_bucket record;
  v_batch_id bigint;
begin
  for v_bucket in
    select k.bucket,
      k.pauses > 0 as is_on_trial
    from retention.bucket k
    cross join lateral (
      select b.visible_at
      from retention.batch b
      where b.bucket = k.bucket
        and b.settled_at is null
        and b.dead_at is null
        and b.visible_at <= clock_timestamp()
      order by b.visible_at
      limit 1
    ) first
    cross join lateral (
      select count(*) as batches
      from retention.batch b
      where b.bucket = k.bucket
        and b.lease is not null
    ) leased
    where k.paused_until is null
      or k.paused_until <= clock_timestamp()
    order by leased.batches, first.visible_at
  loop
    if v_bucket.is_on_trial then
      perform
      from retention.bucket k
      where k.bucket = v_bucket.bucket
      for update skip locked;
      continue when not found or exists (
        select
        from retention.batch b
        where b.bucket = v_bucket.bucket
          and b.lease is not null
          and b.visible_at > clock_timestamp()
      );
    end if;
    if p_batch_ids is null then
      select b.batch_id
      into v_batch_id
      from retention.batch b
      where b.bucket = v_bucket.bucket
        and b.settled_at is null
        and b.dead_at is null
        and b.visible_at <= clock_timestamp()
      order by b.visible_at, b.batch_id
      limit 1
      for update skip locked;
    else
      select b.batch_id
      into v_batch_id
      from retention.batch b
      where b.batch_id = any (p_batch_ids)
        and b.bucket = v_bucket.bucket
        and b.settled_at is null
        and b.dead_at is null
        and b.visible_at <= clock_timestamp()
      order by b.visible_at, b.batch_id
      limit 1
      for update skip locked;
    end if;
    if v_batch_id is not null then
      return v_batch_id;
    end if;
  end loop;
  return null;
end
$$;

CREATE FUNCTION retention._note_gate() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_reasons text[] := array(select g.reason from retention.gate() g order by g.reason);
  v_before text[];
begin
  select s.reasons into v_before from retention.gate_state s where s.reasons <> v_reasons for update;
  if not found then
    return;
  end if;
  update retention.gate_state
  set reasons = v_reasons,
    since = clock_timestamp();
  if pg_notification_queue_usage() <= 0.5 then
    perform pg_notify('retention_attention', row_to_json(p)::text)
    from (
      select case when v_reasons = '{}' then 'resumed' else 'halted' end as kind,
        v_reasons as reasons,
        (select left(string_agg(g.because, '; '), 1000) from retention.gate() g) as because,
        retention._iso(clock_timestamp()) as at
    ) p;
  end if;
end
$$;

CREATE FUNCTION retention._note_refusal(p_batch retention.batch, p_failed jsonb) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_refusal record;
  v_in_row integer;
begin
  select count(distinct f.code) as codes,
    min(f.code) as code,
    min(f.reason) as reason,
    bool_and(f.outcome = 'refused' and not coalesce(f.final, false)) as is_refusal,
    bool_and(f.concerns = 'bucket') as concerns_bucket
  into strict v_refusal
  from jsonb_to_recordset(p_failed) as f (code text, reason text, outcome text, concerns text, final boolean);
  if v_refusal.codes <> 1
    or not v_refusal.is_refusal
    or p_batch.results = 1 and not coalesce(v_refusal.concerns_bucket, false)
  then
    return;
  end if;
  update retention.bucket k
  set refused_in_row = k.refused_in_row + 1
  where k.bucket = p_batch.bucket
  returning k.refused_in_row into v_in_row;
  if v_refusal.concerns_bucket or v_in_row > 1 then
    perform retention._pause_bucket(p_batch.bucket, v_refusal.code, v_refusal.reason);
  end if;
end
$$;

CREATE FUNCTION retention._note_success(p_bucket text) RETURNS void
    LANGUAGE sql
    AS $$
  update retention.bucket k
  set pauses = 0,
    paused_until = null,
    pause_code = null,
    pause_error = null,
    refused_in_row = 0
  where k.bucket = p_bucket
    and (k.pauses > 0 or k.refused_in_row > 0)
$$;

CREATE FUNCTION retention._note_unanswered(p_batch retention.batch, p_keys text[], p_sent_at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_until timestamptz := p_sent_at + (select s.unanswered_for from retention.setting s);
begin
  if v_until <= clock_timestamp() or p_keys = '{}' then
    return;
  end if;
  insert into retention.unanswered (bucket, run_ids, keys, until)
  select p_batch.bucket, array_agg(u.run_id), array_agg(u.key), v_until
  from unnest(p_batch.run_ids, p_batch.keys) as u (run_id, key)
  where p_keys is null
    or retention._unpack_key(u.key, u.run_id::text) collate "C" in (select unnest(p_keys) collate "C")
  having count(*) > 0;
end
$$;

CREATE FUNCTION retention._our_indexes(p_stale boolean DEFAULT false) RETURNS SETOF text
    LANGUAGE sql STABLE
    AS $$
  select format('%I.%I', n.nspname, c.relname)
  from retention.adapter a
  join pg_index i on i.indrelid = a.table_oid
  join pg_class c on c.oid = i.indexrelid
  join pg_namespace n on n.oid = c.relnamespace
  where obj_description(c.oid, 'pg_class') like 'retention-reactor: %'
    and (
      not p_stale
      or not exists (
        select
        from retention._index_plan() p
        where p.mark = obj_description(c.oid, 'pg_class')
      )
    )
$$;

CREATE FUNCTION retention._pack_key(p_key text, p_run_id text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN ((strpos(p_key, ''::text) > 0) OR starts_with(p_key, ''::text)) THEN (''::text || p_key) ELSE replace(p_key, p_run_id, ''::text) END;

CREATE FUNCTION retention._parse_columns(p_columns text) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE
    AS $_$
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
$_$;

CREATE FUNCTION retention._past(p_tenant_id retention.tenant_id, p_after_completed_at timestamp with time zone, p_after_run_id retention.run_id, p_before timestamp with time zone, p_limit bigint) RETURNS TABLE(run_id retention.run_id, tenant_id text, bucket text, key text, completed_at timestamp with time zone, retain_until timestamp with time zone, due_at timestamp with time zone, held boolean, is_due boolean, has_place boolean)
    LANGUAGE sql STABLE
    AS $$
  -- A comparison of rows with a null at its end is still decided by its first pair, and still a range
  -- of the index.
  (
    select r.run_id::retention.run_id,
      r.tenant_id::text,
      r.bucket::text,
      r.key::text,
      r.completed_at,
      r.retain_until::timestamptz,
      r.due_at,
      r.held,
      r.is_due,
      r.has_place
    from retention._live r
    where r.tenant_id = p_tenant_id
      and r.is_candidate
      and r.completed_at < p_before
      and r.run_id is not null
      and (r.completed_at, r.run_id) > (coalesce(p_after_completed_at, '-infinity'), p_after_run_id)
    order by r.tenant_id, r.completed_at, r.run_id
    limit p_limit
  )
  union all
  (
    select r.run_id::retention.run_id,
      r.tenant_id::text,
      r.bucket::text,
      r.key::text,
      r.completed_at,
      r.retain_until::timestamptz,
      r.due_at,
      r.held,
      r.is_due,
      r.has_place
    from retention._live r
    where p_tenant_id is null
      and r.tenant_id is null
      and r.is_candidate
      and r.completed_at < p_before
      and r.run_id is not null
      and (r.completed_at, r.run_id) > (coalesce(p_after_completed_at, '-infinity'), p_after_run_id)
    order by r.tenant_id, r.completed_at, r.run_id
    limit p_limit
  )
$$;

CREATE FUNCTION retention._pause_bucket(p_bucket text, p_code text, p_error text) RETURNS timestamp with time zone
    LANGUAGE plpgsql
    AS $$
declare
  v_setting retention.setting;
  v_until timestamptz;
begin
  select * into strict v_setting from retention.setting;
  update retention.bucket k
  set paused_until = clock_timestamp() + retention._backoff(v_setting.pause_base, v_setting.pause_cap, k.pauses),
    pauses = k.pauses + 1,
    pause_code = left(p_code, 64),
    pause_error = left(p_error, 500)
  where k.bucket = p_bucket
    and (k.paused_until is null or k.paused_until <= clock_timestamp());
  select k.paused_until into v_until from retention.bucket k where k.bucket = p_bucket;
  return v_until;
end
$$;

CREATE FUNCTION retention._place_in_line(p_run_id text) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (((hashtextextended(p_run_id, (0)::bigint) & (65535)::bigint))::double precision / (65536)::double precision);

CREATE FUNCTION retention._read_run_id(p_run_id text) RETURNS retention.run_id
    LANGUAGE plpgsql STABLE
    AS $$
begin
  -- Cast here: what RETURN casts by itself is cast after this block, and its errors are not caught.
  return p_run_id::retention.run_id;
exception
  when data_exception then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('%s is not a run id of this application (type %s)', p_run_id, (
        select format_type(t.typbasetype, t.typtypmod) from pg_type t where t.oid = 'retention.run_id'::regtype
      ));
end
$$;

CREATE FUNCTION retention._regroup(p_batch_size integer, p_early interval) RETURNS TABLE(batch_ids bigint[], newly_flagged bigint, selected bigint)
    LANGUAGE plpgsql
    SET work_mem TO '128MB'
    AS $$
#variable_conflict use_column
declare
  v_candidates bigint[] := '{}';
  v_found bigint[];
  v_batch record;
  v_batch_ids bigint[];
  v_selected bigint;
  v_taken bigint := 0;
begin
  -- Found without a lock. Until it is there, a batch may be settled or split, and what failed goes on in a
  -- batch that was not found: so look again until all are locked.
  loop
    v_found := array(
      select distinct b.batch_id
      from retention.batch b
      cross join unnest(b.run_ids) as u (run_id)
      where b.settled_at is null
        and b.batch_id <> all (v_candidates)
        and u.run_id in (select s.run_id from retention.selection s)
    );
    exit when v_found = '{}';
    perform
    from retention.batch b
    where b.batch_id = any (v_found)
    order by b.batch_id
    for update;
    v_candidates := v_candidates || v_found;
  end loop;
  for v_batch in
    select b.*,
      b.lease is not null and b.visible_at > clock_timestamp() as is_leased,
      array(
        select u.run_id
        from unnest(b.run_ids) as u (run_id)
        where u.run_id in (select s.run_id from retention.selection s)
      ) as chosen
    from retention.batch b
    where b.batch_id = any (v_candidates)
      and b.settled_at is null
  loop
    if v_batch.is_leased then
      delete from retention.selection s where s.run_id = any (v_batch.chosen);
      continue;
    end if;
    if v_batch.lease is not null then
      -- It loses its lease here, and whoever had it may still be asking S3.
      perform retention._note_unanswered(b, null, b.visible_at)
      from retention.batch b
      where b.batch_id = v_batch.batch_id;
      update retention.batch b
      set lease = null,
        visible_at = clock_timestamp()
      where b.batch_id = v_batch.batch_id;
    end if;
    v_taken := v_taken + cardinality(v_batch.chosen);
    perform retention._take_out(v_batch.batch_id, v_batch.chosen);
  end loop;

  insert into retention.bucket (bucket)
  select distinct s.bucket
  from retention.selection s
  on conflict do nothing;
  with made as (
    insert into retention.batch (
      bucket, results, oldest, newest, due_since, early, run_ids, keys, tenants
    )
    select n.bucket, count(*), min(n.completed_at), max(n.completed_at), min(n.due_at), p_early,
      array_agg(n.run_id order by n.place),
      array_agg(retention._pack_key(n.key, n.run_id::text) order by n.place),
      array_agg(n.tenant_id order by n.place)
    from (
      select s.*,
        row_number() over (partition by s.bucket order by s.completed_at, s.run_id) as place
      from retention.selection s
    ) n
    group by n.bucket, (n.place - 1) / p_batch_size
    order by n.bucket, min(n.place)
    returning batch_id, results
  )
  select coalesce(array_agg(m.batch_id), '{}'), coalesce(sum(m.results), 0)
  into v_batch_ids, v_selected
  from made m;
  delete from retention.selection;
  return query select v_batch_ids, v_selected - v_taken, v_selected;
end
$$;

CREATE FUNCTION retention._results(p_batch retention.batch) RETURNS TABLE(run_id retention.run_id, key text, tenant_id text, n bigint)
    LANGUAGE sql STABLE
    AS $$
  select u.run_id, retention._unpack_key(u.key, u.run_id::text), u.tenant_id, u.n
  from unnest(p_batch.run_ids, p_batch.keys, p_batch.tenants) with ordinality as u (run_id, key, tenant_id, n)
  -- Unpacked once, however often it is named.
  offset 0
$$;

CREATE FUNCTION retention._retype(p_domain text, p_type text) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_column record;
  v_function text;
begin
  perform retention._drop_views();
  for v_function in
    select p.oid::regprocedure::text
    from pg_proc p
    where p.pronamespace = 'retention'::regnamespace
      and exists (
        select
        from pg_type t
        where t.typnamespace = p.pronamespace
          and t.typname in (p_domain, '_' || p_domain)
          and t.oid = any (p.prorettype || p.proargtypes::oid[] || coalesce(p.proallargtypes, '{}'))
      )
  loop
    execute format('drop function %s', v_function);
  end loop;
  execute format('create domain retention.%I as %s', 'new_' || p_domain, p_type);
  for v_column in
    select c.oid::regclass::text as relation,
      a.attname as name,
      t.typcategory = 'A' as is_array,
      case a.attstorage when 'e' then 'external' end as storage
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid and c.relkind = 'r' and c.relnamespace = 'retention'::regnamespace
    join pg_type t on t.oid = a.atttypid
    join pg_type d on d.oid in (t.oid, t.typelem)
    where d.typnamespace = 'retention'::regnamespace
      and d.typname = p_domain
      and not a.attisdropped
  loop
    execute format(
      'alter table %s alter column %I type retention.%I%s using %I::text%s::retention.%I%s',
      v_column.relation,
      v_column.name,
      'new_' || p_domain,
      case when v_column.is_array then '[]' else '' end,
      v_column.name,
      case when v_column.is_array then '[]' else '' end,
      'new_' || p_domain,
      case when v_column.is_array then '[]' else '' end
    );
    -- A new type brings its own storage.
    if v_column.storage is not null then
      execute format(
        'alter table %s alter column %I set storage %s', v_column.relation, v_column.name, v_column.storage
      );
    end if;
  end loop;
  execute format('drop domain retention.%I', p_domain);
  execute format('alter domain retention.%I rename to %I', 'new_' || p_domain, p_domain);
end
$$;

CREATE FUNCTION retention._said(p_code text, p_message text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (p_code IS NULL) THEN COALESCE(p_message, 'unknown'::text) WHEN (lower(regexp_replace(COALESCE(p_message, ''::text), '[^A-Za-z0-9]'::text, ''::text, 'g'::text)) = ANY (ARRAY[''::text, lower(p_code)])) THEN p_code WHEN (strpos(p_message, p_code) > 0) THEN p_message ELSE (((p_code || ' ('::text) || p_message) || ')'::text) END;

CREATE FUNCTION retention._schedule_tick() RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_owner text;
begin
  if (select scheduler from retention.adapter) <> 'pg_cron'
    or (select cron_database from retention.adapter) is not null
  then
    return null;
  end if;
  -- A role sees its own jobs only, and names are unique by role: what was scheduled is written down.
  select cron_job_owner into v_owner from retention.adapter for update;
  if v_owner is not null and v_owner <> current_user then
    return v_owner;
  end if;
  select j.username
  into v_owner
  from cron.job j
  where j.jobname = 'retention-tick'
    and j.database = current_database()
    and j.username <> current_user
  limit 1;
  if found then
    update retention.adapter set cron_job_owner = v_owner;
    return v_owner;
  end if;
  perform cron.schedule('retention-tick', '* * * * *', 'select retention.tick()');
  update retention.adapter set cron_job_owner = current_user;
  return current_user;
end
$$;

CREATE FUNCTION retention._set_aside(p_verify_id uuid, p_bucket text, p_keys text[], p_bytes bigint[], p_modified timestamp with time zone[]) RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_nestloop TO 'off'
    SET enable_mergejoin TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    AS $$
begin
  insert into retention.stray (verify_id, bucket, key, bytes, modified_at)
  select p_verify_id, p_bucket, k.key, k.bytes, k.modified_at
  from unnest(p_keys, p_bytes, p_modified) as k (key, bytes, modified_at)
  where not exists (
    select
    from retention._live r
    where r.key = k.key collate "C"
      and r.key >= p_keys[1] collate "C"
      and r.key <= p_keys[cardinality(p_keys)] collate "C"
      and r.bucket = p_bucket
  )
  on conflict do nothing;
end
$$;

CREATE FUNCTION retention._sharer(p_run_id retention.run_id, p_bucket text, p_key text) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  -- Ordered by the run id with a limit, a plan without sorts would walk all runs in the order of their ids.
  select min(o.run_id::text)
  from retention._live o
  where (select s.check_shared_objects from retention.setting s)
    and o.key = p_key collate "C"
    and o.bucket = p_bucket
    and o.run_id <> p_run_id
    and not o.is_due
$$;

CREATE FUNCTION retention._stamp(p_bucket text, p_run_ids retention.run_id[], p_keys text[], p_before timestamp with time zone) RETURNS bigint
    LANGUAGE plpgsql
    SET enable_hashjoin TO 'on'
    AS $$
declare
  v_default_bucket text := (select s.default_bucket from retention.setting s);
  v_stamped bigint;
begin
  -- As "is null", the last condition would let the planner read an index over all live results instead of
  -- probing by run id, where its statistics say that few are live.
  if (select a.columns -> 'updated_at' ->> 'name' from retention.adapter a) is null then
    update retention.result r
    set cleared_at = now()
    from unnest(p_run_ids, p_keys) as g (run_id, key)
    where r.run_id = g.run_id
      and r.key = retention._unpack_key(g.key, g.run_id::text) collate "C"
      and coalesce(nullif(r.bucket, ''), v_default_bucket) = p_bucket
      and r.completed_at < p_before
      and num_nulls(r.cleared_at) = 1;
  else
    update retention.result r
    set cleared_at = now(),
      updated_at = now()
    from unnest(p_run_ids, p_keys) as g (run_id, key)
    where r.run_id = g.run_id
      and r.key = retention._unpack_key(g.key, g.run_id::text) collate "C"
      and coalesce(nullif(r.bucket, ''), v_default_bucket) = p_bucket
      and r.completed_at < p_before
      and num_nulls(r.cleared_at) = 1;
  end if;
  get diagnostics v_stamped = row_count;
  return v_stamped;
end
$$;

CREATE TABLE retention.bucket (
    bucket text NOT NULL,
    on_versioned text DEFAULT 'marker'::text NOT NULL,
    versioning text,
    described_at timestamp with time zone,
    paused_until timestamp with time zone,
    pauses integer DEFAULT 0 NOT NULL,
    pause_code text,
    pause_error text,
    refused_in_row integer DEFAULT 0 NOT NULL,
    known_since timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT on_versioned_is_known CHECK ((on_versioned = ANY (ARRAY['marker'::text, 'purge'::text]))),
    CONSTRAINT versioning_is_known CHECK ((versioning = ANY (ARRAY['off'::text, 'enabled'::text, 'suspended'::text])))
);

COMMENT ON TABLE retention.bucket IS 'what is known and wanted of each bucket';

COMMENT ON COLUMN retention.bucket.on_versioned IS 'marker: a deletion in a versioned bucket adds a delete marker; purge: it takes every version';

COMMENT ON COLUMN retention.bucket.versioning IS 'what S3 said of it at described_at; null: it was not asked';

COMMENT ON COLUMN retention.bucket.paused_until IS 'no batch of it is claimed before then';

COMMENT ON COLUMN retention.bucket.pauses IS 'pauses since the last deletion that succeeded: what makes the next one longer';

COMMENT ON COLUMN retention.bucket.refused_in_row IS 'refusals since the last deletion that succeeded';

CREATE FUNCTION retention._state_of_batch(p_batch retention.batch, p_bucket retention.bucket, p_run_id text, OUT state text, OUT because text) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
begin
  if p_batch.dead_at is not null then
    state := 'dead';
    because := case p_batch.code
      when 'BucketNotAllowed'
      then format(
        'bucket not allowed: %s is not listed in S3_RESULT_BUCKET; add it and revive with: retention retry --run %s',
        p_batch.bucket, p_run_id
      )
      else format(
        'failed %s, last with %s; fix the cause and revive with: retention retry --run %s',
        case p_batch.attempts when 1 then 'once' else p_batch.attempts || ' times' end,
        retention._said(p_batch.code, p_batch.error), p_run_id
      )
    end;
  elsif p_batch.lease is not null and p_batch.visible_at > now() then
    state := 'in flight';
    because := format(
      '%s has been working on it since %s, until %s at most',
      coalesce(p_batch.leased_by, 'a listener'), retention._iso(p_batch.leased_at), retention._iso(p_batch.visible_at)
    );
  elsif p_batch.failed_at is not null then
    state := 'failed';
    because := format(
      'S3 answered %s%s; next attempt at %s',
      retention._said(p_batch.code, p_batch.error),
      case
        when p_batch.attempts > 0 then format(' on attempt %s', p_batch.attempts)
        else ', which is not counted against it'
      end,
      retention._iso(greatest(p_batch.visible_at, p_bucket.paused_until))
    );
  elsif p_batch.batch_id is not null then
    state := 'flagged';
    because := format('it was flagged at %s and waits in batch %s', retention._iso(p_batch.flagged_at), p_batch.batch_id)
      || case
        when p_batch.early is not null
        then format(', earlier than its policy says: a person confirmed a cutoff of %s', retention._in_days(p_batch.early))
        else ''
      end
      || case
        when p_bucket.paused_until > now()
        then format('; its bucket pauses until %s after %s', retention._iso(p_bucket.paused_until), p_bucket.pause_code)
        when p_batch.visible_at > now() then format('; next attempt at %s', retention._iso(p_batch.visible_at))
        else ''
      end;
  end if;
end
$$;

CREATE FUNCTION retention._still_asked(p_run_id retention.run_id) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select coalesce(
    (
      select format('; S3 may still be at an earlier request to delete it, until %s at most', retention._iso(f.until))
      from retention._in_flight(p_run_id, null) f
    ),
    ''
  )
$$;

CREATE FUNCTION retention._take_out(p_batch_id bigint, p_run_ids retention.run_id[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_left record;
begin
  select count(*) as results,
    array_agg(u.run_id order by u.n) as run_ids,
    array_agg(u.key order by u.n) as keys,
    array_agg(u.tenant_id order by u.n) as tenants
  into v_left
  from retention.batch b
  cross join unnest(b.run_ids, b.keys, b.tenants) with ordinality as u (run_id, key, tenant_id, n)
  where b.batch_id = p_batch_id
    and u.run_id not in (select unnest(p_run_ids));
  if v_left.results = 0 then
    delete from retention.batch b where b.batch_id = p_batch_id;
  else
    update retention.batch b
    set results = v_left.results,
      run_ids = v_left.run_ids,
      keys = v_left.keys,
      tenants = v_left.tenants
    where b.batch_id = p_batch_id;
  end if;
end
$$;

CREATE FUNCTION retention._tenant_key(p_tenant_id text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (p_tenant_id IS NULL) THEN ''::text ELSE ('='::text || p_tenant_id) END;

CREATE FUNCTION retention._tenants() RETURNS TABLE(tenant_id retention.tenant_id, tenant_key text, retain interval)
    LANGUAGE plpgsql STABLE ROWS 100
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
begin
  return query
  with recursive name(tenant_id) as (
    (
      select r.tenant_id
      from retention._live r
      where r.is_candidate
        and r.tenant_id is not null
      order by r.tenant_id
      limit 1
    )
    union all
    select (
      select r.tenant_id
      from retention._live r
      where r.is_candidate
        and r.tenant_id > n.tenant_id
      order by r.tenant_id
      limit 1
    )
    from name n
    where n.tenant_id is not null
  ),
  named as (
    select n.tenant_id
    from name n
    where n.tenant_id is not null
    union all
    select null
    where exists (
      select
      from retention._live r
      where r.is_candidate
        and r.tenant_id is null
    )
  )
  select n.tenant_id::retention.tenant_id,
    retention._tenant_key(n.tenant_id::text),
    coalesce(p.retain, d.retain)
  from named n
  join retention.policy d on d.tenant_id = '*'
  left join retention.policy p on p.tenant_id = n.tenant_id::text
    and p.tenant_id <> '*'
  where not exists (
    select
    from retention.hold h
    where h.tenant_id = n.tenant_id::text
      and retention._hold_end(h.released_at, h.expires_at) > now()
  );
end
$$;

CREATE FUNCTION retention._unflagged(p_bound integer) RETURNS TABLE(due bigint, is_capped boolean, completed_at timestamp with time zone, due_at timestamp with time zone)
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $$
#variable_conflict use_column
begin
  if to_regclass('retention._live') is null then
    return query select 0::bigint, false, null::timestamptz, null::timestamptz;
    return;
  end if;
  return query
  with tenant as materialized (
    select t.tenant_id,
      now() - retention._in_seconds(t.retain) as before,
      g.completed_at as seen_completed_at,
      g.run_id as seen_run_id
    from retention._tenants() t
    left join retention.progress g on g.tenant_key = t.tenant_key
  ),
  side as materialized (
    select t.*, false as is_behind, t.seen_completed_at as after_completed_at, t.seen_run_id as after_run_id
    from tenant t
    union all
    select t.tenant_id,
      -- The progress itself may have others of its very moment beside it.
      least(t.before, t.seen_completed_at + interval '1 microsecond'),
      t.seen_completed_at,
      t.seen_run_id,
      true,
      null,
      null
    from tenant t
    where t.seen_completed_at is not null
  ),
  stretch as materialized (
    select row_number() over () as place,
      greatest(p_bound / count(*) over (), 1) as share,
      s.*
    from side s
    cross join lateral retention._past(s.tenant_id, s.after_completed_at, s.after_run_id, s.before, 1) r
  ),
  first as materialized (
    select s.place, s.is_behind, s.seen_completed_at, s.seen_run_id,
      r.run_id, r.completed_at, r.due_at, r.is_due and r.has_place as may_go
    from stretch s
    cross join lateral retention._past(s.tenant_id, s.after_completed_at, s.after_run_id, s.before, s.share) r
  ),
  wanting as materialized (
    select s.*,
      l.completed_at as last_completed_at,
      l.run_id as last_run_id,
      greatest((p_bound - (select count(*) from first)) / count(*) over (), 0) as more
    from stretch s
    join (select f.place, count(*) as results from first f group by f.place) n on n.place = s.place
      and n.results >= s.share
    join (
      select distinct on (f.place) f.place, f.completed_at, f.run_id
      from first f
      order by f.place, f.completed_at desc, f.run_id desc
    ) l on l.place = s.place
  ),
  second as materialized (
    select w.place, w.is_behind, w.seen_completed_at, w.seen_run_id,
      r.run_id, r.completed_at, r.due_at, r.is_due and r.has_place as may_go
    from wanting w
    cross join lateral retention._past(w.tenant_id, w.last_completed_at, w.last_run_id, w.before, w.more) r
    where w.more > 0
  ),
  seen as materialized (
    select x.*
    from (select f.* from first f union all select s.* from second s) x
    where not x.is_behind
      or x.completed_at < x.seen_completed_at
      or x.completed_at = x.seen_completed_at and coalesce(x.run_id <= x.seen_run_id, x.seen_run_id is null)
  ),
  -- Each side by itself: together they would span all the batches between them.
  flagged as materialized (
    select f.run_id
    from (
      select min(s.completed_at) as first_completed_at, max(s.completed_at) as last_completed_at
      from seen s
      group by s.is_behind
    ) b
    cross join lateral retention._flagged_between(b.first_completed_at, b.last_completed_at) as f (run_id)
  )
  select count(*),
    exists (
      select
      from wanting w
      where (select count(*) from second s where s.place = w.place) >= w.more
    ),
    min(s.completed_at),
    min(s.due_at)
  from seen s
  where s.may_go
    and s.run_id is not null
    and s.run_id not in (select f.run_id from flagged f);
end
$$;

CREATE FUNCTION retention._unpack_key(p_packed text, p_run_id text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN starts_with(p_packed, ''::text) THEN substr(p_packed, 2) ELSE replace(p_packed, ''::text, p_run_id) END;

CREATE FUNCTION retention._unschedule_tick() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_owner text := (select cron_job_owner from retention.adapter);
begin
  if v_owner is null
    or (select cron_database from retention.adapter) is not null
    or to_regclass('cron.job') is null
  then
    return;
  end if;
  -- By its number: by its name, pg_cron finds the jobs of the calling role only.
  perform cron.unschedule(j.jobid)
  from cron.job j
  where j.jobname = 'retention-tick'
    and j.database = current_database();
  if not found
    and v_owner <> current_user
    and exists (select from pg_roles where rolname = v_owner)
    and not (select rolsuper from pg_roles where rolname = current_user)
  then
    raise exception using
      errcode = 'insufficient_privilege',
      message = format('the job retention-tick belongs to role %s, and role %s cannot remove it', v_owner, current_user),
      hint = format('Migrate down as %s or as a superuser (DATABASE_MIGRATE_URL).', v_owner);
  end if;
  update retention.adapter set cron_job_owner = null;
end
$$;

CREATE FUNCTION retention._until(p_at timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE WHEN (p_at = 'infinity'::timestamp with time zone) THEN 'for ever'::text ELSE ('until '::text || retention._iso(p_at)) END;

CREATE FUNCTION retention._when_back(p_holds jsonb, p_run_id retention.run_id) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select format(
    'a hold on its tenant has ended; its results come back over %s, this one at %s',
    s.release_spread,
    retention._iso(
      (select max((h ->> 'ends')::timestamptz) from jsonb_array_elements(p_holds) h where h ->> 'on' = 'tenant')
        + s.release_spread * retention._place_in_line(p_run_id::text)
    )
  )
  from retention.setting s
$$;

CREATE FUNCTION retention._why_due(p_due_at timestamp with time zone, p_policy text) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select format('it has been due since %s by %s; ', retention._iso(p_due_at), coalesce(p_policy, 'the default policy'))
    || case
      when n.comes_at is null then 'no flagging pass comes by itself: ' || n.because
      else format('the flagging pass at %s takes it', retention._iso(n.comes_at))
    end
  from retention.next_pass() n
$$;

CREATE FUNCTION retention._why_kept(p_completed_at timestamp with time zone, p_retain_until timestamp with time zone, p_due_at timestamp with time zone, p_retain interval, p_policy text) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select case
    when p_retain_until >= now() and p_retain_until = p_due_at
    then format('its own retain-until date keeps it %s', retention._until(p_due_at))
    when not isfinite(p_completed_at)
    then format('its completion date is %s, so it is kept for ever: correct the date', p_completed_at)
    else format('%s keeps results for %s: due at %s', coalesce(p_policy, 'the default policy'), p_retain, retention._iso(p_due_at))
  end
$$;

CREATE FUNCTION retention._why_shared(p_sharer text) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select format('it shares its object with run %s, ', p_sharer)
    || coalesce(
      (
        select case
          when l.held then 'which is held'
          when l.due_at is null then format('which does not fall due: its status is %s', coalesce(l.status::text, 'null'))
          when l.due_at >= now() then format('which keeps it %s', retention._until(l.due_at))
          else 'which is not due'
        end
        from retention._live l
        where l.run_id = p_sharer::retention.run_id
        limit 1
      ),
      'which is not due'
    )
$$;

CREATE FUNCTION retention.active_holds(p_limit integer DEFAULT 20) RETURNS TABLE(hold_id bigint, run_id text, tenant_id text, reason text, placed_by text, placed_at timestamp with time zone, expires_at timestamp with time zone)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select h.hold_id, h.run_id::text, h.tenant_id, h.reason, h.placed_by, h.placed_at, h.expires_at
  from retention.hold h
  where retention._hold_end(h.released_at, h.expires_at) > now()
  order by h.hold_id desc
  limit p_limit
$$;

COMMENT ON FUNCTION retention.active_holds(p_limit integer) IS 'The holds in force, the newest first. For observers.';

CREATE FUNCTION retention.activity(p_hours integer DEFAULT 24) RETURNS TABLE(begins_at timestamp with time zone, flagged bigint, cleared bigint, failed bigint)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    AS $$
  with span as (
    select now() - make_interval(hours => p_hours) as begins_at,
      make_interval(secs => p_hours * 3600 / 48.0) as width
  ),
  part as (
    select n, s.begins_at + n * s.width as begins_at
    from span s
    cross join generate_series(0, 47) n
  ),
  scan as (
    select least(floor(extract(epoch from c.started_at - s.begins_at) / extract(epoch from s.width)), 47) as n,
      sum(c.flagged) as flagged
    from span s
    join retention.scan c on c.started_at >= s.begins_at
    group by 1
  ),
  batch as (
    select least(floor(extract(epoch from b.settled_at - s.begins_at) / extract(epoch from s.width)), 47) as n,
      sum(b.cleared) as cleared,
      sum(b.failed + b.dead) as failed
    from span s
    join retention.batch b on b.settled_at >= s.begins_at
    group by 1
  )
  select p.begins_at,
    coalesce(c.flagged, 0)::bigint,
    coalesce(b.cleared, 0)::bigint,
    coalesce(b.failed, 0)::bigint
  from part p
  left join scan c on c.n = p.n
  left join batch b on b.n = p.n
  order by p.n
$$;

COMMENT ON FUNCTION retention.activity(p_hours integer) IS 'What was flagged, cleared and refused in the last p_hours, in 48 equal parts, oldest first. failed counts
refused results, dead ones too. It reads one row for each pass and each batch of that time, by index, and
no results.
For observers.';

CREATE FUNCTION retention.adopted_table() RETURNS TABLE(table_name text, table_owner text, view_owner text, row_security text, is_filtered boolean, policies bigint)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select a.table_name,
    pg_get_userbyid(c.relowner),
    pg_get_userbyid(v.relowner),
    case
      when not c.relrowsecurity then 'off'
      when c.relforcerowsecurity then 'forced'
      else 'on'
    end,
    c.relrowsecurity
      and not (o.rolsuper or o.rolbypassrls)
      and (c.relforcerowsecurity or not pg_has_role(v.relowner, c.relowner, 'usage')),
    (
      select count(*)
      from pg_policy p
      where p.polrelid = c.oid
        and p.polpermissive
        and exists (
          select
          from unnest(p.polroles) as r (role)
          where r.role = 0
            or pg_has_role(v.relowner, r.role, 'usage')
        )
    )
  from retention.adapter a
  join pg_class c on c.oid = a.table_oid
  join pg_class v on v.oid = to_regclass('retention.result')
  join pg_roles o on o.oid = v.relowner
$$;

COMMENT ON FUNCTION retention.adopted_table() IS 'The adopted table: who owns it and the view over it, its row-level security (off, on or forced), whether its
policies are asked when the view''s owner reads it (is_filtered), and how many of them let the view''s owner see
rows. No row while it is detached or gone. Reads catalogs. For observers.';

CREATE FUNCTION retention.attach() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_adapter retention.adapter;
begin
  select * into strict v_adapter from retention.adapter for update;
  if to_regclass(v_adapter.table_name)::oid is distinct from v_adapter.table_oid
    or exists (
      select
      from jsonb_each(v_adapter.columns) c
      where c.value ? 'type'
        and not exists (
          select
          from pg_attribute a
          where a.attrelid = v_adapter.table_oid
            and a.attname = c.value ->> 'name'
            and not a.attisdropped
            and format_type(a.atttypid, a.atttypmod) = coalesce(c.value ->> 'type', format_type(a.atttypid, a.atttypmod))
        )
    )
  then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('%s is not as it was adopted: another table, or a mapped column has another name or type', v_adapter.table_name),
      hint = 'Run: retention migrate up. It adopts the table as it is now and keeps holds, policies and batches.';
  end if;
  perform retention._make_views();
  perform retention._grant_rights();
  update retention.adapter set detached_at = null;
  perform retention._note_gate();
end
$$;

COMMENT ON FUNCTION retention.attach() IS 'Puts the views back over the table that was adopted. Where the table has changed since, `retention migrate
up` adopts it again.
For the owner of the schema.
Locks the row of retention.adapter.
Raises object_not_in_prerequisite_state where another table has its name now, or where a mapped column has
another name or type.';

CREATE FUNCTION retention.begin_verify() RETURNS TABLE(verify_id uuid, started_at timestamp with time zone, before timestamp with time zone)
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select gen_random_uuid(), now(), now() - interval '1 hour'
$$;

COMMENT ON FUNCTION retention.begin_verify() IS 'Names a verify and says when it began. What completed after before, within the last hour, is not judged: its
object may be younger than the listing. Writes nothing. For operators.';

CREATE FUNCTION retention.busy_buckets(p_limit integer DEFAULT 20) RETURNS TABLE(bucket text, versioning text, on_versioned text, flagged bigint, leased bigint, oldest timestamp with time zone, cleared_24h bigint, dead bigint, paused_until timestamp with time zone, pause_code text, pause_error text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
  select k.bucket,
    k.versioning,
    k.on_versioned,
    coalesce(w.flagged, 0),
    coalesce(w.leased, 0),
    w.oldest,
    coalesce(c.cleared, 0),
    coalesce(w.dead, 0),
    case when k.paused_until > now() then k.paused_until end,
    case when k.paused_until > now() then k.pause_code end,
    case when k.paused_until > now() then k.pause_error end
  from retention.bucket k
  left join (
    select b.bucket,
      (sum(b.results) filter (where b.dead_at is null))::bigint as flagged,
      (sum(b.results) filter (where b.lease is not null and b.visible_at > now()))::bigint as leased,
      min(b.oldest) filter (where b.dead_at is null) as oldest,
      (sum(b.results) filter (where b.dead_at is not null))::bigint as dead
    from retention.batch b
    where b.settled_at is null
    group by b.bucket
  ) w on w.bucket = k.bucket
  left join (
    select b.bucket, sum(b.cleared)::bigint as cleared
    from retention.batch b
    where b.settled_at >= now() - interval '24 hours'
    group by b.bucket
  ) c on c.bucket = k.bucket
  order by k.paused_until > now() desc nulls last, w.flagged desc nulls last, c.cleared desc nulls last, k.bucket
  limit p_limit
$$;

COMMENT ON FUNCTION retention.busy_buckets(p_limit integer) IS 'The buckets and their work: those that pause first, then those with the most to do. Reads open batches, dead
ones and those of the last 24 hours by their indexes. For observers.';

CREATE FUNCTION retention.claim(p_lease uuid, p_lease_for interval, p_by text DEFAULT NULL::text, p_batch_ids bigint[] DEFAULT NULL::bigint[], p_client text DEFAULT NULL::text) RETURNS TABLE(batch_id bigint, bucket text, keys text[], spared integer, attempts integer, leased_until timestamp with time zone, purge boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  v_setting retention.setting;
  v_before retention.batch;
  v_batch retention.batch;
  v_batch_id bigint;
  v_checked record;
  v_kept record;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      errcode = 'active_sql_transaction',
      message = format('claim needs a READ COMMITTED transaction, given: %s', current_setting('transaction_isolation'));
  end if;
  if p_lease is null or coalesce(p_lease_for, '0') <= '0' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'claim needs a lease token and a duration above zero';
  end if;
  if not retention._is_open(p_client) then
    return;
  end if;
  v_batch_id := retention._next_batch(p_batch_ids);
  if v_batch_id is null then
    return;
  end if;
  -- Against place_hold, which locks in exclusive mode: a hold either committed before this, and the
  -- check below sees it, or it waits for us and then sees the lease.
  lock table retention.hold in row share mode;
  select * into strict v_setting from retention.setting;
  select * into strict v_before from retention.batch b where b.batch_id = v_batch_id;
  if v_before.lease is not null then
    -- Its lease has run out, and whoever had it may still be asking S3.
    perform retention._note_unanswered(v_before, null, v_before.visible_at);
  end if;

  update retention.batch b
  set lease = p_lease,
    leased_at = clock_timestamp(),
    leased_by = p_by,
    visible_at = clock_timestamp() + p_lease_for
  where b.batch_id = v_batch_id
  returning * into strict v_batch;

  select m.spared, m.keys
  into strict v_checked
  from retention._may_go(v_batch, v_setting.check_shared_objects) m;
  if cardinality(v_checked.spared) > 0 then
    select count(*) as results,
      coalesce(array_agg(u.run_id order by u.n), '{}') as run_ids,
      coalesce(array_agg(u.key order by u.n), '{}') as keys,
      coalesce(array_agg(u.tenant_id order by u.n), '{}') as tenants
    into strict v_kept
    from unnest(v_batch.run_ids, v_batch.keys, v_batch.tenants) with ordinality as u (run_id, key, tenant_id, n)
    where u.n not in (select unnest(v_checked.spared));
    update retention.batch b
    set results = v_kept.results,
      run_ids = v_kept.run_ids,
      keys = v_kept.keys,
      tenants = v_kept.tenants,
      spared = b.spared + cardinality(v_checked.spared),
      lease = case when v_kept.results > 0 then b.lease end,
      ms = case when v_kept.results > 0 then b.ms else 0 end,
      settled_at = case when v_kept.results > 0 then null else clock_timestamp() end
    where b.batch_id = v_batch_id;
  end if;
  return query
  select v_batch_id,
    v_batch.bucket,
    v_checked.keys,
    cardinality(v_checked.spared),
    v_batch.attempts,
    v_batch.visible_at,
    exists (
      select
      from retention.bucket k
      where k.bucket = v_batch.bucket
        and k.on_versioned = 'purge'
    );
end
$$;

COMMENT ON FUNCTION retention.claim(p_lease uuid, p_lease_for interval, p_by text, p_batch_ids bigint[], p_client text) IS 'Leases the next visible batch for p_lease_for and returns the keys that may go. Each result is checked
again: it is due, not held, still points at this key, and no run that is not due shares the object. What
fails the check is spared and leaves the batch. No row: nothing is visible, or the gate is closed. A row
without keys: everything was spared, so ask again. purge: every version of the keys is to go. p_lease: the
token that settle, postpone and split ask for. p_by: who claims. p_batch_ids: only these batches, for a
narrowed reconcile. p_client: the client''s version, for the gate.
For the listener.
Locks the batch. Waits for transactions that are placing a hold.
Raises active_sql_transaction outside READ COMMITTED, because there it could not see a hold that has
committed meanwhile. Raises invalid_parameter_value without a token, or without a duration above zero.';

CREATE FUNCTION retention.compare_listing(p_verify_id uuid, p_bucket text, p_prefix text, p_after text, p_until text, p_keys text[], p_bytes bigint[], p_modified timestamp with time zone[], p_before timestamp with time zone) RETURNS TABLE(run_id text, key text, is_due boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_custom_plan'
    AS $$
#variable_conflict use_column
begin
  if cardinality(p_keys) > 0 then
    perform retention._set_aside(p_verify_id, p_bucket, p_keys, p_bytes, p_modified);
  end if;

  return query
  select r.run_id::text, r.key::text, coalesce(r.due_at < now(), false)
  from retention._live r
  where r.key > coalesce(p_after, '') collate "C"
    and r.key >= p_prefix collate "C"
    and (p_until is null or r.key <= p_until collate "C")
    and starts_with(r.key, p_prefix)
    and r.bucket = p_bucket
    and r.is_candidate
    and r.completed_at < p_before
    -- Looked up by hash; as an array, the planner would weigh each of a thousand keys.
    and r.key not in (select k.key collate "C" from unnest(p_keys) k (key))
  order by r.key
  fetch first 1000 rows with ties;
end
$$;

COMMENT ON FUNCTION retention.compare_listing(p_verify_id uuid, p_bucket text, p_prefix text, p_after text, p_until text, p_keys text[], p_bytes bigint[], p_modified timestamp with time zone[], p_before timestamp with time zone) IS 'Compares one stretch of a bucket''s listing with the rows. p_keys: all keys that S3 listed in this stretch,
in the order of bytes, with p_bytes and p_modified of each. The stretch begins after p_after (null: with
the first key of p_prefix) and ends with p_until (null: with the last key of p_prefix). Returns the live
rows of the stretch whose key was not listed. Rows that completed at p_before or later are left out,
because their object may be younger than the listing. At least 1,000 rows come back where there are so
many; then there may be more after the last key. Listed keys without a live row are set aside under
p_verify_id.
For operators.';

CREATE FUNCTION retention.configure(p_settings jsonb) RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_key text;
  v_old jsonb;
  v_new jsonb;
  v_retain interval;
  v_due bigint;
begin
  for v_key in select jsonb_object_keys(p_settings) loop
    if v_key not in ('enabled', 'retain', 'loop_interval', 'batch_size', 'default_bucket') then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('configure knows no setting %s', v_key),
        hint = 'It takes enabled, retain, loop_interval, batch_size and default_bucket.';
    end if;
  end loop;
  if p_settings ? 'retain' then
    select retain into v_retain from retention.policy where tenant_id = '*';
    if v_retain <> retention._in_days((p_settings ->> 'retain')::interval) then
      v_due := retention.set_policy('*', (p_settings ->> 'retain')::interval);
      if exists (select from retention.policy where tenant_id = '*' and pending_retain is not null) then
        return next format(
          'default policy: stays %s, because %s would make %s results due at once; confirm it with retention policy confirm',
          v_retain, p_settings ->> 'retain', v_due
        );
      else
        return next format('default policy: %s -> %s, which makes %s results due at once', v_retain, p_settings ->> 'retain', v_due);
      end if;
    end if;
  end if;
  select to_jsonb(s) into v_old from retention.setting s for update;
  update retention.setting s
  set enabled = coalesce((p_settings ->> 'enabled')::boolean, s.enabled),
    loop_interval = coalesce((p_settings ->> 'loop_interval')::interval, s.loop_interval),
    batch_size = coalesce((p_settings ->> 'batch_size')::integer, s.batch_size),
    default_bucket = case when p_settings ? 'default_bucket' then p_settings ->> 'default_bucket' else s.default_bucket end
  where s.enabled is distinct from coalesce((p_settings ->> 'enabled')::boolean, s.enabled)
    or s.loop_interval is distinct from coalesce((p_settings ->> 'loop_interval')::interval, s.loop_interval)
    or s.batch_size is distinct from coalesce((p_settings ->> 'batch_size')::integer, s.batch_size)
    or p_settings ? 'default_bucket' and s.default_bucket is distinct from p_settings ->> 'default_bucket'
  returning to_jsonb(s) into v_new;
  perform retention._note_gate();
  return query
  select format('%s: %s -> %s', n.key, coalesce(v_old ->> n.key, 'none'), coalesce(n.value, 'none'))
  from jsonb_each_text(v_new) n
  where n.value is distinct from v_old ->> n.key;
end
$$;

COMMENT ON FUNCTION retention.configure(p_settings jsonb) IS 'Writes the settings that a process gets as variables. p_settings: an object with any of enabled, retain,
loop_interval, batch_size and default_bucket. A key that is absent changes nothing. retain is the default
policy, and is guarded as in set_policy. Returns one line for each change, for the log: "batch_size: 1000
-> 500".
For the listener.
Locks the row of retention.setting, and the default policy where that changes.
Raises invalid_parameter_value for an unknown setting. Raises check_violation for a value out of range.';

CREATE FUNCTION retention.confirm_policy(p_tenant_id text, p_expected bigint DEFAULT NULL::bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_policy retention.policy;
  v_due bigint;
begin
  select * into v_policy
  from retention.policy p
  where p.tenant_id = p_tenant_id
    and p.pending_retain is not null
  for update;
  if not found then
    return 0;
  end if;
  v_due := retention._newly_due(p_tenant_id, v_policy.pending_retain);
  if v_due > p_expected then
    raise exception using
      errcode = 'check_violation',
      message = format('the policy would make %s results due at once by now, more than the %s that were expected', v_due, p_expected);
  end if;
  update retention.policy p
  set retain = p.pending_retain,
    set_at = now(),
    set_by = p.pending_by,
    pending_retain = null,
    pending_results = null,
    pending_at = null,
    pending_by = null,
    confirmed_results = v_due,
    confirmed_at = clock_timestamp(),
    confirmed_by = session_user
  where p.tenant_id = p_tenant_id;
  return v_due;
end
$$;

COMMENT ON FUNCTION retention.confirm_policy(p_tenant_id text, p_expected bigint) IS 'Lets a pending policy take effect, and notes who confirmed it, when, and how many results it made due.
Returns that number; 0 when nothing is pending. p_expected: the number that was seen before.
For operators.
Locks the policy.
Raises check_violation when the policy would now make more results due than p_expected.';

CREATE FUNCTION retention.count_due(p_tenant_id text DEFAULT NULL::text, p_run_ids text[] DEFAULT NULL::text[], p_older_than interval DEFAULT NULL::interval, p_early boolean DEFAULT false, p_limit bigint DEFAULT NULL::bigint) RETURNS TABLE(tenant_id text, bucket text, results bigint, oldest timestamp with time zone, early bigint)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select d.tenant_id, d.bucket, count(*), min(d.completed_at), count(*) filter (where d.early)
  from retention.list_due(p_tenant_id, p_run_ids, p_older_than, p_early, p_limit) d
  group by d.tenant_id, d.bucket
  order by d.tenant_id, d.bucket
$$;

COMMENT ON FUNCTION retention.count_due(p_tenant_id text, p_run_ids text[], p_older_than interval, p_early boolean, p_limit bigint) IS 'What list_due lists, counted by tenant and bucket: when the oldest of each completed, and how many are not due
by the policy in force (early). Changes nothing. For operators. Raises what list_due raises.';

CREATE FUNCTION retention.count_postponed(p_batch_ids bigint[] DEFAULT NULL::bigint[]) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select coalesce(sum(b.results), 0)::bigint
  from retention.batch b
  where b.settled_at is null
    and b.lease is null
    and b.problems is not null
    and (p_batch_ids is null or b.batch_id = any (p_batch_ids))
$$;

COMMENT ON FUNCTION retention.count_postponed(p_batch_ids bigint[]) IS 'How many results wait in batches that the object store did not work on; p_batch_ids: of these batches only
(null: of all). For operators.';

CREATE FUNCTION retention.cron_state() RETURNS TABLE(home text, may_see_settings boolean, extension text, may_look boolean, uses_workers boolean)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select coalesce(
      c.database_name,
      case when not m.may_see_settings and e.extversion is not null then current_database() end
    ),
    m.may_see_settings,
    e.extversion,
    case
      -- to_regclass() raises where the role may not use the schema.
      when has_schema_privilege(to_regnamespace('cron')::oid, 'usage')
      then coalesce(has_table_privilege(to_regclass('cron.job')::oid, 'select'), false)
        and coalesce(has_table_privilege(to_regclass('cron.job_run_details')::oid, 'select'), false)
      else false
    end,
    coalesce(c.uses_workers, false)
  -- Its settings are for superusers: current_setting() raises where this view shows nothing.
  from (
    select max(setting) filter (where name = 'cron.database_name') as database_name,
      bool_or(setting = 'on') filter (where name = 'cron.use_background_workers') as uses_workers
    from pg_settings
    where name like 'cron.%'
  ) c
  cross join (select pg_has_role('pg_read_all_settings', 'usage') as may_see_settings) m
  left join pg_extension e on e.extname = 'pg_cron'
$$;

COMMENT ON FUNCTION retention.cron_state() IS 'What this role may know of pg_cron in this database, one row. home: the database it lives in; null: the server
does not load it, or may_see_settings is false, and then that is not known. extension: its version; null: it is
not there. may_look: whether this role may read its jobs. It reads catalogs with the rights of its caller.
For observers.';

CREATE FUNCTION retention.dead_by_code() RETURNS TABLE(code text, results bigint)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
  select coalesce(b.code, 'unknown'), sum(b.results)::bigint
  from retention.batch b
  where b.dead_at is not null
    and b.settled_at is null
  group by 1
  order by 2 desc, 1
$$;

COMMENT ON FUNCTION retention.dead_by_code() IS 'How many results are dead, by code, most first. Reads dead batches by their index. For observers.';

CREATE FUNCTION retention.detach() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  update retention.adapter
  set detached_at = coalesce(detached_at, clock_timestamp());
  drop view if exists retention._live, retention.result;
  perform retention._note_gate();
end
$$;

COMMENT ON FUNCTION retention.detach() IS 'Takes away the views over the application''s table, so that the application''s own migration can alter, swap
or rename it. Nothing is flagged or claimed until retention.attach() or `retention migrate up`. Holds,
policies, batches and receipts stay.
For the owner of the schema.
Locks both views: it waits for statements that use them.';

CREATE FUNCTION retention.explain(p_run_id text) RETURNS TABLE(run_id text, state text, because text, tenant_id text, status text, completed_at timestamp with time zone, bucket text, key text, cleared_at timestamp with time zone, retain interval, due_at timestamp with time zone, holds jsonb, flagged_at timestamp with time zone, batch_id bigint, attempts integer, last_code text, last_error text, next_attempt_at timestamp with time zone, shares_with text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  v_run_id retention.run_id;
  v_run record;
  v_live record;
  v_batch retention.batch;
  v_bucket retention.bucket;
  v_work record;
  v_setting retention.setting;
  v_policy text;
  v_completed text;
  v_gate record;
begin
  select * into strict v_setting from retention.setting;
  select coalesce(a.columns -> 'status' ->> 'completed', 'COMPLETED') into v_completed from retention.adapter a;
  run_id := p_run_id;
  if to_regclass('retention._live') is null then
    select * into v_gate from retention.gate() limit 1;
    state := v_gate.reason;
    because := format('%s, so nothing is known of its runs; remedy: %s', v_gate.because, v_gate.remedy);
    return next;
    return;
  end if;
  begin
    v_run_id := p_run_id;
  exception
    when data_exception then
      v_run_id := null;
  end;
  select r.* into v_run from retention.result r where r.run_id = v_run_id limit 1;
  if not found then
    state := 'unknown';
    because := 'there is no run with this id' || case when v_run_id is null then '; it does not even have the form of one' else '' end;
    return next;
    return;
  end if;
  tenant_id := v_run.tenant_id::text;
  status := v_run.status::text;
  completed_at := v_run.completed_at;
  key := v_run.key;
  cleared_at := v_run.cleared_at;
  bucket := coalesce(nullif(v_run.bucket, ''), v_setting.default_bucket);
  select l.* into v_live from retention._live l where l.run_id = v_run_id limit 1;
  retain := v_live.retain;
  due_at := v_live.due_at;
  v_batch := retention._batch_of(v_run_id, v_run.completed_at);
  select * into v_bucket from retention.bucket k where k.bucket = coalesce(v_batch.bucket, explain.bucket);
  flagged_at := v_batch.flagged_at;
  batch_id := case when v_batch.dead_at is null then v_batch.batch_id end;
  attempts := v_batch.attempts;
  last_code := v_batch.code;
  last_error := v_batch.error;
  next_attempt_at := case
    when v_batch.dead_at is null and (v_batch.lease is null or v_batch.visible_at <= now())
    then greatest(v_batch.visible_at, v_bucket.paused_until)
  end;
  holds := retention._bearing_holds(v_run_id, v_run.tenant_id::text);
  select * into v_work from retention._state_of_batch(v_batch, v_bucket, v_run_id::text);
  select format('the policy of tenant %s', p.tenant_id) into v_policy
  from retention.policy p where p.tenant_id = nullif(explain.tenant_id, '*');
  shares_with := retention._sharer(v_run_id, explain.bucket, v_run.key);

  if v_run.cleared_at is not null then
    state := 'cleared';
    because := format('its result was deleted, or found gone, and the run stamped, at %s', retention._iso(v_run.cleared_at));
  elsif v_run.status::text is distinct from v_completed then
    state := 'not completed';
    because := format('its status is %s; only results of %s runs expire', coalesce(v_run.status::text, 'null'), v_completed);
  elsif v_run.completed_at is null then
    state := 'no date';
    because := format('the run is %s but has no completion date, so nothing says when it falls due: set the date', v_completed);
  elsif coalesce(v_run.key, '') = '' then
    state := 'no key';
    because := 'the run names no object, so there is nothing to delete';
  elsif v_work.state in ('dead', 'in flight') then
    state := v_work.state;
    because := v_work.because;
  elsif bucket is null then
    state := 'no bucket';
    because := 'the run names no bucket and there is no single default (S3_RESULT_BUCKET): skipped and counted';
  elsif retention._hold_in_force(holds) is not null then
    state := 'held';
    because := retention._hold_in_force(holds);
  elsif holds is not null then
    state := 'coming back';
    because := retention._when_back(holds, v_run_id);
  elsif v_live.due_at >= now()
    -- Flagged with a cutoff that somebody confirmed, it goes before the policy says so.
    and not coalesce(
      greatest(v_live.completed_at + retention._in_seconds(v_batch.early), v_live.retain_until) < now(), false
    )
  then
    state := 'kept';
    because := retention._why_kept(v_run.completed_at::timestamptz, v_run.retain_until::timestamptz, v_live.due_at, v_live.retain, v_policy);
  elsif shares_with is not null then
    state := 'shared';
    because := retention._why_shared(shares_with);
  elsif not retention._is_open() then
    select * into v_gate from retention.gate() limit 1;
    state := v_gate.reason;
    because := format('it is due, but %s%s; remedy: %s', v_gate.because,
      coalesce(', since ' || retention._iso(v_gate.since), ''), v_gate.remedy);
  elsif v_work.state is not null then
    state := v_work.state;
    because := v_work.because;
  else
    state := 'due';
    because := retention._why_due(v_live.due_at, v_policy);
  end if;
  if state <> 'in flight' then
    because := because || retention._still_asked(v_run_id);
  end if;
  return next;
end
$$;

COMMENT ON FUNCTION retention.explain(p_run_id text) IS 'Why a result is kept, or what becomes of it, in plain words. It always returns one row. state is one of:
unknown, cleared, not completed, no date, no key, no bucket, held, coming back, kept, shared, in flight,
dead, failed, flagged, due, or a reason of the gate (disabled, halted, detached, table replaced).
For observers.';

CREATE FUNCTION retention.flag_expired(p_max_rows integer DEFAULT NULL::integer, p_asked_by text DEFAULT NULL::text, p_whole boolean DEFAULT false) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_mergejoin TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $$
declare
  v_started_at timestamptz := clock_timestamp();
  v_setting retention.setting;
  v_beat retention.heartbeat;
  v_backlog bigint;
  v_dead bigint;
  v_left bigint;
  v_by_time boolean;
  v_whole boolean;
  v_part_rows bigint := 10000;
  v_part record;
  v_pass retention.scan;
  v_left_alone bigint := 0;
begin
  if p_max_rows < 1 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('max_rows must be 1 or more, given: %s', p_max_rows);
  end if;
  if not retention._is_open() then
    return 0;
  end if;
  select * into strict v_setting from retention.setting;
  select * into v_beat from retention.heartbeat for update skip locked;
  if not found then
    return 0;
  end if;

  select coalesce(sum(b.results) filter (where b.dead_at is null), 0),
    coalesce(sum(b.results) filter (where b.dead_at is not null), 0)
  into v_backlog, v_dead
  from retention.batch b
  where b.settled_at is null;
  v_left := least(coalesce(p_max_rows, v_setting.flag_limit), v_setting.backlog_limit - v_backlog);
  if v_left <= 0 then
    -- As if there had been no pass: the next tick looks again, whatever the interval.
    update retention.heartbeat set passed_at = null, more = false;
    return 0;
  end if;

  v_by_time := v_beat.swept_at is null or v_beat.swept_at <= now() - v_setting.sweep_interval;
  -- Not while a walk is under way: what is left alone would be looked at for ever, and nothing behind.
  v_whole := p_whole
    or v_by_time
    or not v_beat.more and v_backlog + v_dead + v_beat.left_alone <= v_setting.small_backlog;
  if v_whole then
    delete from retention.progress;
  end if;

  v_pass.flagged := 0;
  v_pass.batches := 0;
  v_pass.looked_at := 0;
  v_pass.without_place := 0;
  v_pass.without_place_run_ids := '{}';
  loop
    v_part_rows := least(v_part_rows, v_left);
    select * into strict v_part from retention._flag_part(v_part_rows, v_setting.batch_size);
    v_pass.flagged := v_pass.flagged + v_part.flagged;
    v_pass.batches := v_pass.batches + v_part.batches;
    v_pass.oldest := least(v_pass.oldest, v_part.oldest);
    v_pass.looked_at := v_pass.looked_at + v_part.looked_at;
    v_pass.without_place := v_pass.without_place + v_part.without_place;
    v_pass.without_place_run_ids := (v_pass.without_place_run_ids || v_part.without_place_run_ids)[1:10];
    v_left_alone := v_left_alone + v_part.left_alone;
    v_left := v_left - v_part.looked_at;
    exit when not v_part.more or v_left <= 0;
    -- A part begins with a probe or two of each tenant: they are to stay few beside its rows.
    v_part_rows := greatest(v_part_rows, 10 * v_part.tenants);
  end loop;

  update retention.heartbeat
  set passed_at = clock_timestamp(),
    more = v_part.more,
    swept_at = case when v_whole then clock_timestamp() else swept_at end,
    left_alone = v_left_alone + case when v_whole then 0 else left_alone end;

  if v_pass.flagged > 0 or v_pass.without_place > 0 and (v_by_time or p_whole) then
    insert into retention.scan (
      started_at, ms, asked_by, looked_at, flagged, batches, without_place, without_place_run_ids, hit_limit, oldest
    )
    values (
      v_started_at,
      extract(epoch from clock_timestamp() - v_started_at) * 1000,
      coalesce(p_asked_by, session_user),
      v_pass.looked_at,
      v_pass.flagged,
      v_pass.batches,
      v_pass.without_place,
      v_pass.without_place_run_ids,
      v_part.more,
      v_pass.oldest
    );
  end if;
  return v_pass.flagged;
end
$$;

COMMENT ON FUNCTION retention.flag_expired(p_max_rows integer, p_asked_by text, p_whole boolean) IS 'Writes down what is due as batches of one bucket each, oldest first. Returns how many results it flagged.
It works in parts of about 10,000 results. p_max_rows: how many results are looked at; by default
setting.flag_limit. p_asked_by: who is noted in retention.scan; by default the session''s user. p_whole:
start from the oldest result and not from the progress. Returns 0 at once while another pass runs, when the
gate is closed, and when the backlog has reached its limit.
For the listener.
Locks the row of retention.heartbeat and nothing of the application''s.
Raises invalid_parameter_value for p_max_rows below 1.';

CREATE FUNCTION retention.flag_selected(p_tenant_id text DEFAULT NULL::text, p_run_ids text[] DEFAULT NULL::text[], p_older_than interval DEFAULT NULL::interval, p_early boolean DEFAULT false, p_limit bigint DEFAULT NULL::bigint, p_batch_size integer DEFAULT NULL::integer) RETURNS TABLE(batch_ids bigint[], newly_flagged bigint, selected bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  v_setting retention.setting;
begin
  if p_early and (p_older_than is null or p_older_than < '1 day') then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('a cutoff that stands in for the policy must be 1 day or more, given: %s', p_older_than);
  end if;
  select * into strict v_setting from retention.setting;
  if not retention._is_open() then
    return query select '{}'::bigint[], 0::bigint, 0::bigint;
    return;
  end if;
  perform from retention.heartbeat for update;

  delete from retention.selection;
  insert into retention.selection (run_id, tenant_id, bucket, key, completed_at, due_at)
  select d.run_id, d.tenant_id, d.bucket, d.key, d.completed_at, d.due_at
  from retention.list_due(p_tenant_id, p_run_ids, p_older_than, p_early, p_limit) d;

  return query
  select g.batch_ids, g.newly_flagged, g.selected
  from retention._regroup(
    coalesce(p_batch_size, v_setting.batch_size), case when p_early then p_older_than end
  ) g;
end
$$;

COMMENT ON FUNCTION retention.flag_selected(p_tenant_id text, p_run_ids text[], p_older_than interval, p_early boolean, p_limit bigint, p_batch_size integer) IS 'Puts what list_due finds into batches of its own and returns them: the work of a narrowed reconcile.
Flagged results leave their former batches, and a batch with a valid lease keeps its results. p_batch_size:
by default setting.batch_size. Returns no batches when the gate is closed.
For operators.
Locks the row of retention.heartbeat (it waits for a flagging pass) and the batches that it takes results
from.
Raises invalid_parameter_value for a text that cannot be a run id, and with p_early for a cutoff below 1
day.';

CREATE FUNCTION retention.forget_strays(p_verify_id uuid) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  delete from retention.stray s
  where s.verify_id = p_verify_id
    or s.noted_at < now() - interval '2 days'
$$;

COMMENT ON FUNCTION retention.forget_strays(p_verify_id uuid) IS 'Removes what a verify set aside, and what verifies of more than 2 days ago left behind.
For operators.';

CREATE FUNCTION retention.gate(p_client text DEFAULT NULL::text) RETURNS TABLE(reason text, because text, since timestamp with time zone, remedy text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_setting retention.setting;
  v_adapter retention.adapter;
  v_seen retention.gate_state;
  v_fits text;
begin
  select * into strict v_setting from retention.setting;
  select * into v_adapter from retention.adapter;
  select * into v_seen from retention.gate_state;
  if not v_setting.enabled then
    return query select 'disabled', 'retention is disabled',
      case when 'disabled' = any (v_seen.reasons) then v_seen.since end,
      'set DPP_RETENTION_ENABLED=true and start a listener, or: select retention.configure(''{"enabled": true}'')';
  end if;
  if v_setting.halted_at is not null then
    return query select 'halted', format('halted by %s: %s', v_setting.halted_by, v_setting.halted_reason),
      v_setting.halted_at, 'retention resume';
  end if;
  if v_adapter.detached_at is not null or to_regclass('retention.result') is null then
    return query select 'detached', 'the application''s table is detached', v_adapter.detached_at,
      'select retention.attach(), or: retention migrate up';
  end if;
  if to_regclass(v_adapter.table_name)::oid is distinct from v_adapter.table_oid then
    return query select 'table replaced',
      case
        when to_regclass(v_adapter.table_name) is null then format('there is no table %s any more', v_adapter.table_name)
        else format('%s is another table than the one that was adopted', v_adapter.table_name)
      end
      || coalesce(
        format('; that one is called %s now', (select c.oid::regclass from pg_class c where c.oid = v_adapter.table_oid)),
        ''
      ),
      case when 'table replaced' = any (v_seen.reasons) then v_seen.since end,
      'retention migrate up (with RETENTION_TABLE, where it has another name now)';
  end if;
  v_fits := retention._fits(p_client);
  if v_fits <> 'fits' then
    return query select 'version',
      format(
        case v_fits
          when 'client too old' then 'this client is %s, and the schema is %s, which serves clients from %s on'
          else 'this client is %s, and the schema is still %s'
        end,
        p_client, v.version, v.oldest_client
      ),
      null::timestamptz,
      case v_fits
        when 'client too old' then format('bring this listener up to date: to version %s', v.version)
        else 'retention migrate up, with this version'
      end
    from retention.version() v;
  end if;
end
$$;

COMMENT ON FUNCTION retention.gate(p_client text) IS 'The reasons to flag and claim nothing. Without a row, flagging and claiming go on. reason is one of:
disabled, halted, detached, table replaced, version. because says it in words, and remedy says what to do.
p_client: the version of the client that asks; null: no client is judged. Costs a few look-ups in catalogs.
For observers.';

CREATE FUNCTION retention.grant_rights(p_role text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform retention._check_role(p_role);
  update retention.adapter set listener_role = p_role;
  perform retention._grant_rights();
end
$$;

COMMENT ON FUNCTION retention.grant_rights(p_role text) IS 'Gives p_role the listener''s rights and remembers the role. Each installation grants them again.
For the owner of the schema.
Locks the row of retention.adapter.
Raises undefined_object for a role that is not there.';

CREATE FUNCTION retention.halt(p_reason text, p_by text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if btrim(coalesce(p_reason, '')) = '' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'a halt needs a reason',
      hint = 'Say why, for those who find it: retention halt --reason "..."';
  end if;
  update retention.setting
  set halted_at = clock_timestamp(),
    halted_by = coalesce(p_by, session_user),
    halted_reason = p_reason
  where halted_at is null;
  if not found then
    return false;
  end if;
  perform retention._note_gate();
  return true;
end
$$;

COMMENT ON FUNCTION retention.halt(p_reason text, p_by text) IS 'Halts flagging and claiming for all listeners until retention.resume(). Status, doctor and readiness show
p_reason. What is in flight is finished. p_by: who halts; by default the session''s user. Returns false
where a halt was there already: that halt stays as it is.
For operators.
Locks the row of retention.setting.
Raises invalid_parameter_value without a reason.';

CREATE FUNCTION retention.has_key_under(p_prefix text) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
begin
  if to_regclass('retention._live') is null then
    return false;
  end if;
  return coalesce(
    (
      select starts_with(l.key, p_prefix)
      from (
        select r.key
        from retention._live r
        where r.key >= p_prefix collate "C"
        order by r.key
        limit 1
      ) l
    ),
    false
  );
end
$$;

COMMENT ON FUNCTION retention.has_key_under(p_prefix text) IS 'Whether some live result''s key begins with p_prefix. One probe of the index over keys. For observers.';

CREATE FUNCTION retention.health() RETURNS TABLE(enabled boolean, scheduler text, cron_database text, ticked_seconds_ago double precision, ticked_by text, installed_seconds_ago double precision, loop_interval_seconds double precision, naive_columns text[], default_bucket text, notify_queue_usage double precision, default_retain_days double precision, shortest_retain_days double precision, longest_retain_days double precision, tenant_policies bigint, pending_policies text[], holds bigint)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
  select s.enabled,
    a.scheduler,
    a.cron_database,
    extract(epoch from clock_timestamp() - h.ticked_at)::double precision,
    h.ticked_by,
    extract(epoch from clock_timestamp() - i.at)::double precision,
    extract(epoch from s.loop_interval)::double precision,
    array(
      select format('%s (%s)', c.value ->> 'name', c.value ->> 'type')
      from jsonb_each(a.columns) c
      where c.value ->> 'type' ~ 'without time zone|^date$'
        and c.key in ('completed_at', 'retain_until', 'cleared_at', 'updated_at')
      order by c.key
    ),
    coalesce(a.columns -> 'bucket' ->> 'fixed', s.default_bucket),
    pg_notification_queue_usage(),
    p.default_retain_days,
    p.shortest_retain_days,
    p.longest_retain_days,
    p.tenant_policies,
    p.pending_policies,
    (
      select count(*)
      from retention.hold o
      where retention._hold_end(o.released_at, o.expires_at) > now()
    )
  from retention.setting s
  cross join retention.adapter a
  cross join retention.heartbeat h
  cross join retention.installed i
  cross join (
    select (max(extract(epoch from retain)) filter (where tenant_id = '*') / 86400)::double precision
        as default_retain_days,
      (min(extract(epoch from retain)) / 86400)::double precision as shortest_retain_days,
      (max(extract(epoch from retain)) / 86400)::double precision as longest_retain_days,
      count(*) filter (where tenant_id <> '*') as tenant_policies,
      coalesce(
        array_agg(
          format(
            'tenant %s: %s instead of %s would make %s results due at once',
            tenant_id, pending_retain, retain, pending_results
          )
          order by tenant_id
        ) filter (where pending_retain is not null),
        '{}'
      ) as pending_policies
    from retention.policy
  ) p
$_$;

COMMENT ON FUNCTION retention.health() IS 'One row of what the tables of the schema say of the reactor''s health. naive_columns: mapped dates without a
time zone, as `completed_at (timestamp without time zone)`. default_bucket: of results whose row names none.
installed_seconds_ago: since the functions were installed. Cheap at any size. For observers.';

CREATE FUNCTION retention.index_state() RETURNS TABLE(name text, is_there boolean)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select p.name, p.is_there
  from retention._index_plan() p
$$;

COMMENT ON FUNCTION retention.index_state() IS 'The indexes of this schema on the adopted table, and whether each is there and valid.
For observers.';

CREATE FUNCTION retention.known_buckets(p_bucket text DEFAULT NULL::text, p_limit integer DEFAULT 100) RETURNS TABLE(bucket text, on_versioned text, versioning text, pause text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
  select k.bucket,
    k.on_versioned,
    k.versioning,
    case
      when k.paused_until > now()
      then format('%s until %s', retention._said(k.pause_code, k.pause_error), retention._iso(k.paused_until))
    end
  from retention.bucket k
  where p_bucket is null
    or k.bucket = p_bucket
  order by (
      exists (
        select
        from retention.batch b
        where b.bucket = k.bucket
          and b.settled_at is null
      )
    ) desc,
    k.bucket
  limit p_limit
$$;

COMMENT ON FUNCTION retention.known_buckets(p_bucket text, p_limit integer) IS 'What is known of each bucket, those with work first; p_bucket: of this one only. pause says why and until when
it pauses; null: it does not.
For the listener.';

CREATE FUNCTION retention.list_due(p_tenant_id text DEFAULT NULL::text, p_run_ids text[] DEFAULT NULL::text[], p_older_than interval DEFAULT NULL::interval, p_early boolean DEFAULT false, p_limit bigint DEFAULT NULL::bigint) RETURNS TABLE(run_id retention.run_id, tenant_id text, bucket text, key text, completed_at timestamp with time zone, due_at timestamp with time zone, early boolean)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $$
#variable_conflict use_column
declare
  v_run_ids retention.run_id[];
begin
  if p_run_ids is not null then
    v_run_ids := array(select retention._read_run_id(i) from unnest(p_run_ids) i);
    return query
    select r.run_id::retention.run_id, r.tenant_id::text, r.bucket::text, r.key::text, r.completed_at, r.due_at,
      r.due_at >= now()
    from retention._live r
    where r.run_id = any (v_run_ids)
      and r.is_candidate
      and r.has_place
      and not r.held
      and (p_tenant_id is null or r.tenant_id::text = p_tenant_id)
      and (p_older_than is null or r.completed_at < now() - retention._in_seconds(p_older_than))
      and (r.is_due or p_early and coalesce(r.retain_until, '-infinity') < now())
      and r.run_id not in (select retention._dead_run_ids())
      and retention._sharer(r.run_id, r.bucket, r.key) is null
    limit p_limit;
  else
    return query
    select s.run_id, s.tenant_id, s.bucket, s.key, s.completed_at, s.due_at, s.due_at >= now()
    from retention._tenants() t
    cross join lateral retention._past(
      t.tenant_id,
      null,
      null,
      now() - retention._in_seconds(
        case when p_early then p_older_than else greatest(t.retain, coalesce(p_older_than, t.retain)) end
      ),
      null
    ) s
    where (p_tenant_id is null or t.tenant_id::text = p_tenant_id)
      and s.has_place
      and not s.held
      and (s.is_due or p_early and coalesce(s.retain_until, '-infinity') < now())
      and s.run_id not in (select retention._dead_run_ids())
      and retention._sharer(s.run_id, s.bucket, s.key) is null
    limit p_limit;
  end if;
end
$$;

COMMENT ON FUNCTION retention.list_due(p_tenant_id text, p_run_ids text[], p_older_than interval, p_early boolean, p_limit bigint) IS 'What claim would hand out now, flagged or not, in the order of tenants and oldest first. p_tenant_id,
p_run_ids and p_older_than narrow it; null does not narrow. p_early: p_older_than stands in for the policy
where it is shorter. early in a row: the result is not due by the policy in force. Changes nothing.
For operators.
Raises invalid_parameter_value for a text that cannot be a run id.';

CREATE FUNCTION retention.list_holds(p_all boolean DEFAULT false) RETURNS TABLE(hold_id bigint, run_id text, tenant_id text, reason text, placed_by text, placed_at timestamp with time zone, expires_at timestamp with time zone, released_at timestamp with time zone, released_by text, active boolean)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select h.hold_id,
    h.run_id::text,
    h.tenant_id,
    h.reason,
    h.placed_by,
    h.placed_at,
    h.expires_at,
    h.released_at,
    h.released_by,
    retention._hold_end(h.released_at, h.expires_at) > now()
  from retention.hold h
  where p_all
    or retention._hold_end(h.released_at, h.expires_at) > now()
  order by h.hold_id
$$;

COMMENT ON FUNCTION retention.list_holds(p_all boolean) IS 'The holds that are in force, or with p_all every hold, oldest first. For observers.';

CREATE FUNCTION retention.list_policies() RETURNS TABLE(tenant_id text, retain_days double precision, set_at timestamp with time zone, set_by text, pending_retain_days double precision, pending_results bigint, pending_at timestamp with time zone, pending_by text, confirmed_results bigint, confirmed_at timestamp with time zone, confirmed_by text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select p.tenant_id,
    (extract(epoch from p.retain) / 86400)::double precision,
    p.set_at,
    p.set_by,
    (extract(epoch from p.pending_retain) / 86400)::double precision,
    p.pending_results,
    p.pending_at,
    p.pending_by,
    p.confirmed_results,
    p.confirmed_at,
    p.confirmed_by
  from retention.policy p
  order by p.tenant_id <> '*', p.tenant_id
$$;

COMMENT ON FUNCTION retention.list_policies() IS 'The policies, the default one first, with what waits for a confirmation and what was confirmed last.
For observers.';

CREATE FUNCTION retention.missing_rights(p_role text DEFAULT CURRENT_USER) RETURNS TABLE(missing text, granted_by text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select m.missing, pg_get_userbyid(s.nspowner)
  from pg_namespace s
  cross join lateral (
    select 0 as place, 'usage on schema retention' as missing
    where not has_schema_privilege(p_role, s.oid, 'usage')
    union all
    select 1, format('%s on %s', i.privilege, i.name)
    from retention._interface() i
    where i.is_public
      and case i.kind
        when 'function' then not has_function_privilege(p_role, i.oid, 'execute')
        else not has_table_privilege(p_role, i.oid, 'select')
      end
  ) m
  where s.nspname = 'retention'
  order by m.place, m.missing
$$;

COMMENT ON FUNCTION retention.missing_rights(p_role text) IS 'What p_role lacks of the SQL interface, in the words of GRANT, and who can grant it; no row: nothing. Reads
catalogs.
For observers.
Raises undefined_object for a role that is not there.';

CREATE FUNCTION retention.next_orphans(p_verify_id uuid, p_bucket text, p_after text, p_margin interval, p_limit integer) RETURNS TABLE(key text, bytes bigint, modified_at timestamp with time zone, still_orphan boolean)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    AS $$
  select s.key, s.bytes, s.modified_at, not exists (
    select
    from retention._live r
    where r.key = s.key
      and coalesce(r.bucket, s.bucket) = s.bucket
  )
  from retention.stray s
  where s.verify_id = p_verify_id
    and s.bucket = p_bucket
    and s.kind = 'orphan'
    and s.modified_at < now() - p_margin
    and s.key > coalesce(p_after, '') collate "C"
  order by s.key
  limit p_limit
$$;

COMMENT ON FUNCTION retention.next_orphans(p_verify_id uuid, p_bucket text, p_after text, p_margin interval, p_limit integer) IS 'The next p_limit orphans of a bucket after the key p_after, in the order of keys. Only those older than
p_margin. still_orphan: no live row points at the key now, so the object may be deleted at this moment.
For operators.';

CREATE FUNCTION retention.next_pass() RETURNS TABLE(comes_at timestamp with time zone, because text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    AS $$
  with state as (
    select s.loop_interval,
      s.backlog_limit,
      h.ticked_at,
      h.ticked_by,
      h.passed_at,
      h.more,
      a.scheduler,
      g.because as closed,
      g.remedy,
      case
        when h.passed_at is null or h.more then h.ticked_at + interval '1 minute'
        else h.passed_at + retention._in_seconds(s.loop_interval)
      end as earliest,
      (
        select coalesce(sum(b.results), 0)
        from retention.batch b
        where b.settled_at is null
          and b.dead_at is null
      ) as backlog
    from retention.setting s
    cross join retention.heartbeat h
    cross join retention.adapter a
    left join lateral (select w.because, w.remedy from retention.gate() w limit 1) g on true
  ),
  judged as (
    select s.*,
      case
        when s.closed is not null then format('%s; remedy: %s', s.closed, s.remedy)
        when s.ticked_at is null then format('there has never been a tick; %s', d.remedy)
        when s.ticked_at < now() - interval '5 minutes' then
          format('no tick has come since %s; %s', retention._iso(s.ticked_at), d.remedy)
        when s.backlog >= s.backlog_limit then
          format('%s results are flagged, as many as backlog_limit lets wait; a pass comes when there are fewer', s.backlog)
      end as obstacle
    from state s
    cross join lateral (
      select case s.scheduler
        when 'pg_cron' then 'see: retention doctor'
        else 'start a listener: retention listen'
      end as remedy
    ) d
  )
  select case
      when j.obstacle is null
      -- A pass comes with a tick, and ticks come a minute apart.
      then j.ticked_at + interval '1 minute' * greatest(
        ceil(extract(epoch from j.earliest - j.ticked_at) / 60), 1
      )::double precision
    end,
    case
      when j.obstacle is not null then j.obstacle
      when j.more then 'the last pass hit a limit, and the next tick goes on'
      when j.passed_at is null then 'there has been no pass yet, and the next tick begins'
      else format('a tick flags %s after the last pass', retention._in_days(j.loop_interval))
    end
  from judged j
$$;

COMMENT ON FUNCTION retention.next_pass() IS 'When the next flagging pass is to come, and by what. comes_at is null where none comes by itself: because then
says what keeps it. A listener that stands in for a silent scheduler may flag before. Cheap at any size.
For observers.';

CREATE FUNCTION retention.note_bucket(p_bucket text, p_versioning text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  insert into retention.bucket (bucket, versioning, described_at)
  values (p_bucket, p_versioning, clock_timestamp())
  on conflict (bucket) do update
  set versioning = excluded.versioning,
    described_at = excluded.described_at
$$;

COMMENT ON FUNCTION retention.note_bucket(p_bucket text, p_versioning text) IS 'Notes what S3 says of a bucket. p_versioning: off, enabled or suspended.
For the listener.
Locks the row of the bucket.
Raises check_violation for any other word.';

CREATE FUNCTION retention.pending_policies(p_limit integer DEFAULT 20) RETURNS TABLE(tenant_id text, retain_days double precision, pending_retain_days double precision, pending_results bigint, pending_at timestamp with time zone, pending_by text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select p.tenant_id,
    (extract(epoch from p.retain) / 86400)::double precision,
    (extract(epoch from p.pending_retain) / 86400)::double precision,
    p.pending_results,
    p.pending_at,
    p.pending_by
  from retention.policy p
  where p.pending_retain is not null
  order by p.pending_at, p.tenant_id
  limit p_limit
$$;

COMMENT ON FUNCTION retention.pending_policies(p_limit integer) IS 'The policies that wait for a confirmation, the longest waiting first. For observers.';

CREATE FUNCTION retention.place_hold(p_reason text, p_run_id text DEFAULT NULL::text, p_tenant_id text DEFAULT NULL::text, p_for interval DEFAULT NULL::interval, p_placed_by text DEFAULT NULL::text) RETURNS TABLE(hold_id bigint, too_late bigint, too_late_run_ids text[])
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
declare
  v_run_id retention.run_id;
  v_tenant_id retention.tenant_id;
  v_hold_id bigint;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      errcode = 'active_sql_transaction',
      message = format('place_hold needs a READ COMMITTED transaction, given: %s', current_setting('transaction_isolation'));
  end if;
  if num_nonnulls(p_run_id, p_tenant_id) <> 1 or btrim(coalesce(p_reason, '')) = '' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'a hold needs a reason, and either a run or a tenant';
  end if;
  if p_for <= '0' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('a hold lasts longer than no time at all, given: %s', p_for);
  end if;
  if p_run_id is not null then
    v_run_id := retention._read_run_id(p_run_id);
    if not exists (select from retention.result r where r.run_id = v_run_id) then
      raise exception using
        errcode = 'no_data_found',
        message = format('there is no run %s to hold', p_run_id);
    end if;
  else
    begin
      v_tenant_id := p_tenant_id;
    exception
      when data_exception then
        v_tenant_id := null;
    end;
    -- The first is a probe of the index over what is live; the second may read the table.
    if not exists (
      select
      from retention._live r
      where r.tenant_id = v_tenant_id
        and r.is_candidate
    ) and not exists (
      select
      from retention.result r
      where r.tenant_id = v_tenant_id
    ) then
      raise exception using
        errcode = 'no_data_found',
        message = format('there is no run of tenant %s to hold', p_tenant_id);
    end if;
  end if;

  lock table retention.hold in exclusive mode;
  insert into retention.hold (run_id, tenant_id, reason, placed_by, expires_at)
  values (v_run_id, v_tenant_id::text, p_reason, coalesce(p_placed_by, session_user), now() + p_for)
  returning hold.hold_id into v_hold_id;

  return query
  select v_hold_id,
    count(*),
    coalesce((array_agg(f.run_id::text order by f.run_id))[1:1000], '{}')
  from retention._in_flight(v_run_id, v_tenant_id) f;
end
$$;

COMMENT ON FUNCTION retention.place_hold(p_reason text, p_run_id text, p_tenant_id text, p_for interval, p_placed_by text) IS 'Places a hold on one run or on one tenant. After its commit nothing of it is claimed. A deletion that is in
flight, or may be, cannot be called back: too_late counts such results, and too_late_run_ids names up to
1,000 of them. p_for: how long the hold lasts; by default until it is released. p_placed_by: who places it;
by default the session''s user.
For operators.
Locks retention.hold: it waits for claims that are being made, and later claims wait for this transaction.
Keep that transaction short.
Raises invalid_parameter_value without a reason, without exactly one of a run and a tenant, and for a
duration that is not above zero. Raises no_data_found for a run or tenant that is not there. Raises
active_sql_transaction outside READ COMMITTED.';

CREATE FUNCTION retention.place_holds(p_reason text, p_run_ids text[] DEFAULT '{}'::text[], p_tenant_ids text[] DEFAULT '{}'::text[], p_for interval DEFAULT NULL::interval, p_placed_by text DEFAULT NULL::text) RETURNS TABLE(hold_id bigint, run_id text, tenant_id text, too_late bigint, too_late_run_ids text[], cleared_at timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
declare
  v_wanted record;
begin
  for v_wanted in
    select distinct i.id as run_id, null::text as tenant_id
    from unnest(p_run_ids) as i (id)
    union all
    select distinct null, i.id
    from unnest(p_tenant_ids) as i (id)
    order by 2 nulls first, 1
  loop
    return query
    select h.hold_id,
      v_wanted.run_id,
      v_wanted.tenant_id,
      h.too_late,
      h.too_late_run_ids,
      (
        select r.cleared_at::timestamptz
        from retention.result r
        where r.run_id = retention._read_run_id(v_wanted.run_id)
        limit 1
      )
    from retention.place_hold(p_reason, v_wanted.run_id, v_wanted.tenant_id, p_for, p_placed_by) h;
  end loop;
end
$$;

COMMENT ON FUNCTION retention.place_holds(p_reason text, p_run_ids text[], p_tenant_ids text[], p_for interval, p_placed_by text) IS 'Places a hold on each run and on each tenant, all of them or none, as place_hold does. cleared_at: of a hold on
a run, when its result was cleared, if it was before. For operators. Raises what place_hold raises.';

CREATE FUNCTION retention.postpone(p_batch_id bigint, p_lease uuid, p_code text, p_message text, p_unanswered text[] DEFAULT '{}'::text[]) RETURNS timestamp with time zone
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_batch retention.batch;
  v_until timestamptz;
begin
  select * into v_batch
  from retention.batch b
  where b.batch_id = p_batch_id
    and b.lease = p_lease
  for update;
  if not found then
    return null;
  end if;
  perform retention._note_unanswered(v_batch, p_unanswered, clock_timestamp());
  v_until := greatest(retention._pause_bucket(v_batch.bucket, p_code, p_message), clock_timestamp());
  update retention.batch b
  set lease = null,
    visible_at = v_until,
    postponed = b.postponed + 1,
    problems = jsonb_build_array(jsonb_build_object(
      'code', left(p_code, 64),
      'message', left(p_message, 500),
      'results', b.results,
      'run_ids', b.run_ids[1:3]::text[],
      'retry_at', retention._iso(v_until)
    ))
  where b.batch_id = p_batch_id;
  return v_until;
end
$$;

COMMENT ON FUNCTION retention.postpone(p_batch_id bigint, p_lease uuid, p_code text, p_message text, p_unanswered text[]) IS 'Takes a batch back that S3 did not work on (throttled, timed out, 5xx, expired credentials). This is not
counted as an attempt. The bucket pauses, longer each time. p_code, p_message: why. p_unanswered: the keys
that S3 may still delete later. Returns when the batch may be claimed again, or null when p_lease is no
longer the batch''s lease.
For the listener.
Locks the batch and its bucket.';

CREATE FUNCTION retention.preview_policy(p_tenant_id text, p_retain interval) RETURNS TABLE(tenant_id text, results bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
begin
  return query
  select t.tenant_id::text, c.results
  from retention._tenants() t
  left join retention.policy p on p.tenant_id = t.tenant_id::text
    and p.tenant_id <> '*'
  cross join lateral (
    select count(*) as results
    from retention._past(
      t.tenant_id, now() - retention._in_seconds(t.retain), null, now() - retention._in_seconds(p_retain), null
    ) r
    where not r.held
      and coalesce(r.retain_until, '-infinity') < now()
      -- Not yet due, and flagged all the same: only with a cutoff that somebody confirmed.
      and r.run_id not in (
        select unnest(b.run_ids)
        from retention.batch b
        where b.settled_at is null
          and b.early is not null
      )
  ) c
  where p_retain < t.retain
    and (t.tenant_id::text = p_tenant_id or p_tenant_id = '*' and p.tenant_id is null)
    and c.results > 0;
end
$$;

COMMENT ON FUNCTION retention.preview_policy(p_tenant_id text, p_retain interval) IS 'How many live results a policy would make due at once that are not due now, by tenant. p_tenant_id: a
tenant, or ''*'' for all tenants without a policy of their own. It reads the rows that it counts and changes
nothing.
For operators.';

CREATE FUNCTION retention.pulse(p_client text DEFAULT NULL::text) RETURNS TABLE(enabled boolean, halted text[], scheduler text, visible_now boolean, next_visible_seconds double precision, more boolean, ticked_seconds_ago double precision, ticked_by text, last_scan_id bigint)
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
  with next as (
    select min(greatest(f.visible_at, coalesce(k.paused_until, '-infinity'))) as visible_at
    from retention.bucket k
    cross join lateral (
      select b.visible_at
      from retention.batch b
      where b.bucket = k.bucket
        and b.settled_at is null
        and b.dead_at is null
      order by b.visible_at
      limit 1
    ) f
  )
  select s.enabled,
    array(select g.reason from retention.gate(p_client) g),
    a.scheduler,
    coalesce(n.visible_at <= clock_timestamp(), false),
    extract(epoch from n.visible_at - clock_timestamp())::double precision,
    h.more,
    extract(epoch from clock_timestamp() - h.ticked_at)::double precision,
    h.ticked_by,
    (select coalesce(max(c.scan_id), 0) from retention.scan c)
  from retention.setting s
  cross join retention.heartbeat h
  cross join retention.adapter a
  cross join next n
$$;

COMMENT ON FUNCTION retention.pulse(p_client text) IS 'What a listener has to know when it has nothing to do, in one statement: whether a batch is visible now,
when the next one is, whether the last pass hit a limit, when the scheduler last ticked, and the reasons of
the gate. p_client: the client''s version, for the gate. Cheap at any size.
For the listener.';

CREATE FUNCTION retention.read_status() RETURNS TABLE(enabled boolean, live_estimate bigint, due bigint, due_is_capped boolean, flagged bigint, leased bigint, failed bigint, dead bigint, held bigint, cleared_today bigint, spared_today bigint, oldest_due timestamp with time zone, batches bigint, buckets_paused bigint, last_tick timestamp with time zone, last_pass timestamp with time zone, scheduler text, scheduler_health text, loop_interval_seconds bigint, default_retain_days double precision, policies_pending bigint, policy_pending text, due_since timestamp with time zone, halted text[], next_pass timestamp with time zone, next_pass_because text, newest_run timestamp with time zone)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
  select s.enabled,
    retention._estimate_live(),
    u.due + w.flagged,
    u.is_capped,
    w.flagged,
    w.leased,
    w.failed,
    w.dead,
    y.held,
    z.cleared_today,
    z.spared_today,
    least(w.oldest, u.completed_at),
    w.batches,
    k.buckets_paused,
    h.ticked_at,
    h.passed_at,
    a.scheduler,
    case
      when not s.enabled then 'disabled'
      when h.ticked_at is null then 'never ticked'
      when h.ticked_at < now() - interval '5 minutes' then 'silent'
      -- A listener stands in for it; its next tick would be its own again.
      when a.scheduler = 'pg_cron' and h.ticked_by = 'listener' then 'silent'
      else 'ok'
    end,
    extract(epoch from s.loop_interval)::bigint,
    (extract(epoch from d.retain) / 86400)::double precision,
    v.policies_pending,
    v.policy_pending,
    least(w.due_since, u.due_at),
    array(select g.reason from retention.gate() g),
    x.comes_at,
    x.because,
    retention._newest_run()
  from retention.setting s
  cross join retention.heartbeat h
  cross join retention.adapter a
  cross join retention.next_pass() x
  join retention.policy d on d.tenant_id = '*'
  cross join lateral retention._unflagged(10000) u
  cross join lateral (
    select coalesce(sum(b.results) filter (where b.dead_at is null), 0)::bigint as flagged,
      coalesce(sum(b.results) filter (where b.lease is not null and b.visible_at > now()), 0)::bigint as leased,
      coalesce(sum(b.results) filter (where b.attempts > 0 and b.dead_at is null), 0)::bigint as failed,
      coalesce(sum(b.results) filter (where b.dead_at is not null), 0)::bigint as dead,
      count(*) filter (where b.dead_at is null) as batches,
      min(b.oldest) filter (where b.dead_at is null) as oldest,
      min(b.due_since) filter (where b.dead_at is null) as due_since
    from retention.batch b
    where b.settled_at is null
  ) w
  cross join lateral (
    select count(*) as held
    from retention.hold o
    where retention._hold_end(o.released_at, o.expires_at) > now()
  ) y
  cross join lateral (
    select coalesce(sum(b.cleared), 0)::bigint as cleared_today,
      coalesce(sum(b.spared), 0)::bigint as spared_today
    from retention.batch b
    where b.settled_at >= date_trunc('day', now(), 'UTC')
  ) z
  cross join lateral (
    select count(*) as buckets_paused
    from retention.bucket c
    where c.paused_until > now()
  ) k
  cross join lateral (
    select count(*) as policies_pending,
      string_agg(
        format(
          'tenant %s: %s instead of %s would make %s results due at once',
          p.tenant_id, p.pending_retain, p.retain, p.pending_results
        ),
        '; '
      ) as policy_pending
    from retention.policy p
    where p.pending_retain is not null
  ) v
$$;

COMMENT ON FUNCTION retention.read_status() IS 'The row of the view retention.status, which calls it with the rights of its reader.
For observers.';

CREATE FUNCTION retention.release_hold(p_hold_id bigint, p_released_by text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  update retention.hold h
  set released_at = now(),
    released_by = coalesce(p_released_by, session_user)
  where h.hold_id = p_hold_id
    and h.released_at is null;
  if found then
    return true;
  end if;
  if not exists (select from retention.hold h where h.hold_id = p_hold_id) then
    raise exception using
      errcode = 'no_data_found',
      message = format('there is no hold %s', p_hold_id);
  end if;
  return false;
end
$$;

COMMENT ON FUNCTION retention.release_hold(p_hold_id bigint, p_released_by text) IS 'Releases a hold. The results of a tenant come back over setting.release_spread, and not all at once.
p_released_by: who releases it; by default the session''s user. Returns false when it was released before.
For operators.
Locks the hold.
Raises no_data_found for a hold that is not there.';

CREATE FUNCTION retention.release_holds(p_hold_ids bigint[], p_released_by text DEFAULT NULL::text) RETURNS TABLE(hold_id bigint, released boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_hold_id bigint;
begin
  for v_hold_id in
    select distinct i.id
    from unnest(p_hold_ids) as i (id)
    order by 1
  loop
    return query select v_hold_id, retention.release_hold(v_hold_id, p_released_by);
  end loop;
end
$$;

COMMENT ON FUNCTION retention.release_holds(p_hold_ids bigint[], p_released_by text) IS 'Releases several holds, all of them or none; released is false for those that had been released before.
For operators.
Raises no_data_found for an unknown one.';

CREATE FUNCTION retention.requeue_returned(p_verify_id uuid, p_started_at timestamp with time zone) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    SET enable_nestloop TO 'off'
    AS $$
declare
  v_requeued bigint;
begin
  update retention.result r
  set cleared_at = null
  from retention.stray s, retention.setting t
  where s.verify_id = p_verify_id
    and s.kind = 'returned'
    and r.key = s.key collate "default"
    and coalesce(nullif(r.bucket, ''), t.default_bucket) = s.bucket
    and r.cleared_at < p_started_at;
  get diagnostics v_requeued = row_count;
  if v_requeued > 0 then
    delete from retention.progress;
  end if;
  return v_requeued;
end
$$;

COMMENT ON FUNCTION retention.requeue_returned(p_verify_id uuid, p_started_at timestamp with time zone) IS 'Takes the stamp from rows that were cleared before p_started_at and whose object is back, so that they fall
due again. It reads the whole table once. Returns how many rows.
For operators.
Locks the rows that it changes.';

CREATE FUNCTION retention.resume() RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  update retention.setting
  set halted_at = null,
    halted_by = null,
    halted_reason = null
  where halted_at is not null;
  if not found then
    return false;
  end if;
  perform retention._note_gate();
  return true;
end
$$;

COMMENT ON FUNCTION retention.resume() IS 'Ends a halt. Other reasons of the gate stay. Returns false where there was no halt.
For operators.
Locks the row of retention.setting.';

CREATE FUNCTION retention.retry(p_run_ids text[] DEFAULT NULL::text[], p_tenant_id text DEFAULT NULL::text, p_bucket text DEFAULT NULL::text, p_code text DEFAULT NULL::text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    AS $$
declare
  v_run_ids retention.run_id[];
  v_batch_ids bigint[];
  v_revived bigint;
begin
  v_run_ids := array(select retention._read_run_id(i) from unnest(p_run_ids) i);
  perform from retention.heartbeat for update;
  if p_run_ids is null and p_tenant_id is null then
    v_batch_ids := array(
      select b.batch_id
      from retention.batch b
      where b.failed_at is not null
        and b.settled_at is null
        and (b.lease is null or b.visible_at <= clock_timestamp())
        and (p_bucket is null or b.bucket = p_bucket)
        and (p_code is null or b.code = p_code)
      order by b.batch_id
      for update
    );
    -- Such a lease has run out. Its holder may still be asking S3.
    perform retention._note_unanswered(b, null, b.visible_at)
    from retention.batch b
    where b.batch_id = any (v_batch_ids)
      and b.lease is not null;
    with revived as (
      update retention.batch b
      set attempts = 0,
        code = null,
        error = null,
        failed_at = null,
        dead_at = null,
        early = null,
        lease = null,
        visible_at = now()
      where b.batch_id = any (v_batch_ids)
      returning b.results
    )
    select coalesce(sum(r.results), 0) into v_revived from revived r;
    return v_revived;
  end if;
  delete from retention.selection;
  insert into retention.selection (run_id, tenant_id, bucket, key, completed_at, due_at)
  select distinct on (u.run_id) u.run_id, u.tenant_id, b.bucket, u.key,
    -- As it is by now; what has no row any more is spared by the claim.
    coalesce((select r.completed_at from retention.result r where r.run_id = u.run_id limit 1), b.oldest),
    b.due_since
  from retention.batch b
  cross join lateral retention._results(b) as u
  where b.failed_at is not null
    and b.settled_at is null
    and (p_bucket is null or b.bucket = p_bucket)
    and (p_code is null or b.code = p_code)
    and (p_run_ids is null or u.run_id in (select unnest(v_run_ids)))
    and (p_tenant_id is null or u.tenant_id = p_tenant_id);
  select g.selected
  into v_revived
  from retention._regroup((select s.batch_size from retention.setting s), null) g;
  return v_revived;
end
$$;

COMMENT ON FUNCTION retention.retry(p_run_ids text[], p_tenant_id text, p_bucket text, p_code text) IS 'Revives dead results, and brings forward failed results that wait for their next attempt. Their attempts
count from 0 again. p_run_ids, p_tenant_id, p_bucket and p_code (of the error) narrow it; null does not
narrow. A batch with a valid lease is left as it is. Returns how many results.
For operators.
Locks the row of retention.heartbeat (it waits for a flagging pass) and the batches that it changes.
Raises invalid_parameter_value for a text that cannot be a run id.';

CREATE FUNCTION retention.sample_key(p_bucket text) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
begin
  if to_regclass('retention._live') is null then
    return null;
  end if;
  return (
    select l.key
    from (
      select r.bucket, r.key
      from retention._live r
      where r.key is not null
      limit 1000
    ) l
    where l.bucket = p_bucket
      and l.key <> ''
    limit 1
  );
end
$$;

COMMENT ON FUNCTION retention.sample_key(p_bucket text) IS 'The key of some live result in a bucket, looked for among a thousand; null: none was found. For observers.';

CREATE FUNCTION retention.set_policy(p_tenant_id text, p_retain interval, p_confirm boolean DEFAULT false) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_retain interval := retention._in_days(p_retain);
  v_due bigint;
begin
  if coalesce(p_tenant_id, '') = '' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'a policy needs a tenant id, or * for the default';
  end if;
  if v_retain is null or v_retain < '1 day' or v_retain > '36134 days' then
    raise exception using
      errcode = 'check_violation',
      constraint = case when v_retain > '1 day' then 'retain_is_below_a_century' else 'retain_is_at_least_one_day' end,
      message = format('a policy keeps results for 1 day to 99 years, given: %s', coalesce(p_retain::text, 'null'));
  end if;
  v_due := retention._newly_due(p_tenant_id, v_retain);
  -- Also when nothing changes: a wish that was pending is withdrawn by asking for what is in force.
  -- Not an upsert: the guard would judge its insert before its update.
  update retention.policy p
  set retain = v_retain,
    set_at = case when p.retain = v_retain then p.set_at else now() end,
    set_by = case when p.retain = v_retain then p.set_by else session_user end,
    pending_retain = null,
    pending_results = null,
    pending_at = null,
    pending_by = null
  where p.tenant_id = p_tenant_id;
  if not found then
    insert into retention.policy (tenant_id, retain, set_by)
    values (p_tenant_id, v_retain, session_user)
    on conflict do nothing;
  end if;
  if p_confirm then
    perform retention.confirm_policy(p_tenant_id);
  end if;
  return v_due;
end
$$;

COMMENT ON FUNCTION retention.set_policy(p_tenant_id text, p_retain interval, p_confirm boolean) IS 'Sets how long results are kept, for one tenant or, with ''*'', for all tenants without a policy of their own.
Returns how many live results it makes due at once. With more of them than setting.policy_guard, the policy
is pending until confirm_policy, or takes effect at once with p_confirm. To ask for the policy in force
withdraws a pending one. What is flagged or claimed afterwards is judged by the new policy.
For operators.
Locks the policy.
Raises invalid_parameter_value without a tenant. Raises check_violation for less than 1 day and more than
99 years.';

CREATE FUNCTION retention.settle(p_batch_id bigint, p_lease uuid, p_cleared text[] DEFAULT '{}'::text[], p_all boolean DEFAULT false, p_failed jsonb DEFAULT '[]'::jsonb, p_ms integer DEFAULT NULL::integer, p_unanswered text[] DEFAULT '{}'::text[]) RETURNS TABLE(settled boolean, cleared integer, stamped integer, failed integer, dead integer, retry_at timestamp with time zone, problems jsonb)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  v_setting retention.setting;
  v_batch retention.batch;
  v_done record;
  v_cleared bigint;
  v_stamped bigint := 0;
  v_retry_at timestamptz;
  v_first_retry_at timestamptz;
  v_failed bigint := 0;
  v_dead bigint := 0;
  v_problems jsonb := '[]';
  v_kind record;
begin
  select * into v_batch
  from retention.batch b
  where b.batch_id = p_batch_id
    and b.lease = p_lease
  for update;
  if not found then
    return query select false, 0, 0, 0, 0, null::timestamptz, '[]'::jsonb;
    return;
  end if;
  select * into strict v_setting from retention.setting;
  perform retention._note_unanswered(v_batch, p_unanswered, clock_timestamp());

  if p_all then
    v_cleared := v_batch.results;
    v_stamped := retention._stamp(v_batch.bucket, v_batch.run_ids, v_batch.keys, v_batch.leased_at);
  else
    select count(*) as results,
      coalesce(array_agg(u.run_id order by u.n), '{}') as run_ids,
      coalesce(array_agg(u.key order by u.n), '{}') as keys,
      coalesce(array_agg(u.tenant_id order by u.n), '{}') as tenants
    into strict v_done
    from unnest(v_batch.run_ids, v_batch.keys, v_batch.tenants) with ordinality as u (run_id, key, tenant_id, n)
    -- Bare, it would be joined by a nested loop; so it is looked up in a hash.
    where (retention._unpack_key(u.key, u.run_id::text) collate "C" in (select unnest(p_cleared) collate "C")) is true;
    v_cleared := v_done.results;
    if v_cleared > 0 then
      v_stamped := retention._stamp(v_batch.bucket, v_done.run_ids, v_done.keys, v_batch.leased_at);
    end if;
    for v_kind in
      select * from retention._failures(v_batch, p_cleared, p_failed, v_setting.max_attempts)
    loop
      v_retry_at := case
        when not v_kind.is_dead then clock_timestamp() + retention._backoff(
          case when v_kind.counted then v_setting.retry_base else v_setting.pause_base end,
          v_setting.retry_cap,
          case when v_kind.counted then v_batch.attempts else v_batch.postponed end
        )
      end;
      v_first_retry_at := least(v_first_retry_at, v_retry_at);
      insert into retention.batch (
        bucket, results, oldest, newest, due_since, early, flagged_at, visible_at,
        attempts, postponed, code, error, failed_at, dead_at, run_ids, keys, tenants
      )
      values (
        v_batch.bucket,
        cardinality(v_kind.run_ids),
        v_batch.oldest,
        v_batch.newest,
        v_batch.due_since,
        v_batch.early,
        v_batch.flagged_at,
        coalesce(v_retry_at, clock_timestamp()),
        v_batch.attempts + v_kind.counted::integer,
        v_batch.postponed + (not v_kind.counted)::integer,
        v_kind.code,
        v_kind.reason,
        clock_timestamp(),
        case when v_kind.is_dead then clock_timestamp() end,
        v_kind.run_ids,
        v_kind.keys,
        v_kind.tenants
      );
      if v_kind.is_dead then
        v_dead := v_dead + cardinality(v_kind.run_ids);
      else
        v_failed := v_failed + cardinality(v_kind.run_ids);
      end if;
      v_problems := v_problems || jsonb_strip_nulls(jsonb_build_object(
        'code', v_kind.code,
        'message', v_kind.reason,
        'results', cardinality(v_kind.run_ids),
        'run_ids', v_kind.run_ids[1:3]::text[],
        'retry_at', retention._iso(v_retry_at),
        'dead', v_kind.is_dead
      ));
    end loop;
  end if;

  if v_cleared > 0 then
    perform retention._note_success(v_batch.bucket);
  else
    perform retention._note_refusal(v_batch, p_failed);
  end if;

  update retention.batch b
  set lease = null,
    cleared = v_cleared,
    failed = v_failed,
    dead = v_dead,
    problems = nullif(v_problems, '[]'),
    ms = coalesce(p_ms, extract(epoch from clock_timestamp() - b.leased_at) * 1000),
    settled_at = clock_timestamp()
  where b.batch_id = p_batch_id;
  if v_cleared < v_batch.results then
    -- The receipt names what was cleared and nothing else.
    update retention.batch b
    set run_ids = v_done.run_ids,
      keys = v_done.keys,
      tenants = v_done.tenants
    where b.batch_id = p_batch_id;
  end if;
  return query
  select true, v_cleared::integer, v_stamped::integer, v_failed::integer, v_dead::integer, v_first_retry_at, v_problems;
end
$$;

COMMENT ON FUNCTION retention.settle(p_batch_id bigint, p_lease uuid, p_cleared text[], p_all boolean, p_failed jsonb, p_ms integer, p_unanswered text[]) IS 'Takes a batch back after S3 has answered, and stamps the runs of what was deleted. What failed is tried
again later, or is dead after too many attempts. p_cleared: the keys that S3 named as deleted or as already
gone. p_all: every key of the batch was cleared. p_failed: [{"key", "code", "reason", "outcome",
"concerns", "final"}]. Its outcome is refused (counted as an attempt), failed or unknown (neither is
counted). It concerns key, bucket or store. It is final where another attempt cannot help. A key that is in
neither list is tried again and is not counted. p_ms: how long the request took; by default the time since
the claim. p_unanswered: the keys that S3 may still delete later. stamped: how many rows were stamped.
retry_at: when the first of what waits is tried again. When p_lease is no longer the batch''s lease, settled
is false and nothing is changed.
For the listener.
Locks the batch, its bucket, and the rows that it stamps.';

CREATE FUNCTION retention.sort_strays(p_verify_id uuid, p_started_at timestamp with time zone, p_margin interval DEFAULT '00:00:00'::interval) RETURNS TABLE(returned bigint, orphans bigint, orphan_bytes bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    AS $$
begin
  if exists (select from retention.stray s where s.verify_id = p_verify_id) then
    update retention.stray s
    set kind = 'orphan'
    where s.verify_id = p_verify_id;
    analyze retention.stray;
    -- Joined, not looked up key by key: cleared rows have no index on the key.
    update retention.stray s
    set kind = case when p.returned then 'returned' end
    from (
      select o.bucket,
        o.key,
        bool_and(
          r.cleared_at is not null
          and r.cleared_at < p_started_at
          and coalesce(nullif(r.bucket, ''), t.default_bucket) is not null
        ) as returned
      from retention.stray o
      join retention.result r on r.key = o.key collate "default"
      cross join retention.setting t
      where o.verify_id = p_verify_id
        and coalesce(nullif(r.bucket, ''), t.default_bucket, o.bucket) = o.bucket
      group by o.bucket, o.key
    ) p
    where s.verify_id = p_verify_id
      and s.bucket = p.bucket
      and s.key = p.key;
  end if;
  return query
  select count(*) filter (where s.kind = 'returned'),
    count(*) filter (where s.kind = 'orphan' and s.modified_at < now() - p_margin),
    coalesce(sum(s.bytes) filter (where s.kind = 'orphan' and s.modified_at < now() - p_margin), 0)::bigint
  from retention.stray s
  where s.verify_id = p_verify_id;
end
$$;

COMMENT ON FUNCTION retention.sort_strays(p_verify_id uuid, p_started_at timestamp with time zone, p_margin interval) IS 'Sorts what compare_listing set aside. returned: only cleared rows point at the key, so its object is back.
orphan: no row points at it. Three kinds of keys are left out: those that were cleared at p_started_at or
later, because their object may have been listed before; those that a live row needs by now; and those that
a row without a bucket may mean. Returns the counts and the bytes. Of orphans only those older than
p_margin count, because a younger one may be an upload whose row is still to come. It reads the whole table
once.
For operators.';

CREATE FUNCTION retention.split(p_batch_id bigint, p_lease uuid, p_unanswered text[] DEFAULT '{}'::text[]) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_batch retention.batch;
  v_half integer;
  v_batch_id bigint;
  v_refused integer;
begin
  select * into v_batch
  from retention.batch b
  where b.batch_id = p_batch_id
    and b.lease = p_lease
    and b.results > 1
  for update;
  if not found then
    return null;
  end if;
  update retention.bucket k
  set refused_in_row = k.refused_in_row + 1
  where k.bucket = v_batch.bucket
  returning k.refused_in_row into v_refused;
  if v_refused > 20 then
    perform retention.postpone(
      p_batch_id, p_lease, 'MalformedRequest', 'request after request is refused whole', p_unanswered
    );
    return p_batch_id;
  end if;
  perform retention._note_unanswered(v_batch, p_unanswered, clock_timestamp());
  v_half := v_batch.results / 2;
  insert into retention.batch (
    bucket, results, oldest, newest, due_since, early, flagged_at, attempts, postponed,
    code, error, failed_at, run_ids, keys, tenants
  )
  values (
    v_batch.bucket, v_half, v_batch.oldest, v_batch.newest, v_batch.due_since, v_batch.early, v_batch.flagged_at,
    v_batch.attempts, v_batch.postponed, v_batch.code, v_batch.error, v_batch.failed_at,
    v_batch.run_ids[1:v_half], v_batch.keys[1:v_half], v_batch.tenants[1:v_half]
  )
  returning batch_id into v_batch_id;
  update retention.batch b
  set lease = null,
    results = v_batch.results - v_half,
    run_ids = v_batch.run_ids[v_half + 1:],
    keys = v_batch.keys[v_half + 1:],
    tenants = v_batch.tenants[v_half + 1:],
    visible_at = clock_timestamp()
  where b.batch_id = p_batch_id;
  return v_batch_id;
end
$$;

COMMENT ON FUNCTION retention.split(p_batch_id bigint, p_lease uuid, p_unanswered text[]) IS 'Takes a batch back whose request was refused whole because of one bad key, and halves it. After a few turns
the bad key is alone in its batch. When more than 20 requests in a row were refused, no single key is the
cause: the bucket pauses and the batch stays whole. p_unanswered: the keys that S3 may still delete later.
Returns the batch that was split off, or the batch itself when it stays whole. Returns null when p_lease is
no longer the batch''s lease, and for a batch of one result.
For the listener.
Locks the batch and its bucket.';

CREATE FUNCTION retention.stamp_gone(p_bucket text, p_run_ids text[], p_keys text[]) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
begin
  return retention._stamp(
    p_bucket,
    p_run_ids::retention.run_id[],
    array(
      select retention._pack_key(u.key, u.run_id::retention.run_id::text)
      from unnest(p_run_ids, p_keys) with ordinality as u (run_id, key, n)
      order by u.n
    ),
    'infinity'
  );
end
$$;

COMMENT ON FUNCTION retention.stamp_gone(p_bucket text, p_run_ids text[], p_keys text[]) IS 'Stamps live rows whose object S3 has just named as gone. p_run_ids[i] points at p_keys[i]; a row that
points at another key by now is left out. The next claim spares what of it is flagged. Returns how many
rows.
For operators.
Locks the rows that it stamps.';

CREATE FUNCTION retention.tenants_due(p_tenants integer DEFAULT 20, p_bound integer DEFAULT 1000) RETURNS TABLE(tenant_id text, retain_days double precision, oldest timestamp with time zone, due_since timestamp with time zone, due bigint, flagged bigint, is_capped boolean)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $$
#variable_conflict use_column
begin
  if to_regclass('retention._live') is null then
    return;
  end if;
  return query
  with waiting as materialized (
    select t.tenant_id, t.tenant_key, t.retain, f.due_at
    from retention._tenants() t
    cross join lateral retention._past(t.tenant_id, null, null, now() - retention._in_seconds(t.retain), 1) f
    order by f.due_at, t.tenant_key
    limit p_tenants
  ),
  seen as materialized (
    select t.tenant_id, t.tenant_key, t.retain, r.run_id, r.completed_at, r.due_at, r.is_due,
      count(*) over (partition by t.tenant_key) as looked_at
    from waiting t
    cross join lateral retention._past(t.tenant_id, null, null, now() - retention._in_seconds(t.retain), p_bound) r
  )
  select s.tenant_id::text,
    (extract(epoch from s.retain) / 86400)::double precision,
    min(s.completed_at),
    min(s.due_at),
    count(*),
    count(*) filter (
      where s.run_id in (
        select retention._flagged_between(
          (select min(x.completed_at) from seen x), (select max(x.completed_at) from seen x)
        )
      )
    ),
    min(s.looked_at) >= p_bound
  from seen s
  where s.is_due
  group by s.tenant_id, s.tenant_key, s.retain
  order by min(s.due_at), s.tenant_key;
end
$$;

COMMENT ON FUNCTION retention.tenants_due(p_tenants integer, p_bound integer) IS 'The p_tenants tenants whose oldest result past its policy has waited longest, with the number of their
results that wait, flagged or not. The number is counted among the p_bound oldest results of each tenant.
is_capped: there may be more. A tenant under a hold is left out. It costs one index probe for each tenant,
and at most p_bound rows for each tenant that it returns.
For observers.';

CREATE FUNCTION retention.tick(p_by text DEFAULT 'pg_cron'::text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_beat retention.heartbeat;
  v_setting retention.setting;
begin
  update retention.heartbeat
  set ticked_at = clock_timestamp(),
    ticked_by = p_by
  returning * into strict v_beat;
  perform retention._note_gate();
  if v_beat.cleaned_up_at is null or v_beat.cleaned_up_at < now() - interval '1 hour' then
    perform retention._clean_up();
  end if;
  select * into strict v_setting from retention.setting;
  if v_beat.more
    or v_beat.passed_at is null
    or v_beat.passed_at <= now() - retention._in_seconds(v_setting.loop_interval)
  then
    return retention.flag_expired(p_asked_by => p_by);
  end if;
  return 0;
end
$$;

COMMENT ON FUNCTION retention.tick(p_by text) IS 'What the scheduler calls every minute. It notes that the scheduler is alive, and cleans up once an hour. It
flags when the interval has passed, or when the last pass hit a limit. p_by: who calls. Returns how many
results it flagged.
For the listener.
Locks the row of retention.heartbeat.';

CREATE FUNCTION retention.tick_jobs(p_database text DEFAULT current_database()) RETURNS TABLE(job_id bigint, name text, active boolean, schedule text, owner text, last_runs jsonb)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if not (select c.may_look from retention.cron_state() c) then
    return;
  end if;
  return query
  select j.jobid,
    coalesce(j.jobname::text, j.command),
    j.active,
    j.schedule,
    j.username,
    (
      select coalesce(
        jsonb_agg(jsonb_build_object('status', d.status, 'message', d.return_message) order by d.runid desc),
        '[]'
      )
      from (
        select r.runid, r.status, r.return_message
        from cron.job_run_details r
        where r.jobid = j.jobid
        order by r.runid desc
        limit 5
      ) d
    )
  from cron.job j
  where j.database = p_database
    and j.command like '%retention.tick()%'
  order by j.active desc, j.jobid;
end
$$;

COMMENT ON FUNCTION retention.tick_jobs(p_database text) IS 'The jobs of pg_cron in this database that tick for p_database (default: this one), as far as this role sees
them, active ones first; last_runs: the newest five runs, newest first. No row where pg_cron is not there or
this role may not look. It reads with the rights of its caller.
For observers.';

CREATE FUNCTION retention.troubles(p_limit integer DEFAULT 20) RETURNS TABLE(state text, bucket text, code text, results bigint, run_id text, error text, last_at timestamp with time zone, next_attempt_at timestamp with time zone)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
  select t.state,
    t.bucket,
    t.code,
    t.results,
    l.run_ids[1]::text,
    l.error,
    l.failed_at,
    case when t.state = 'failed' then l.visible_at end
  from (
    select case when b.dead_at is null then 'failed' else 'dead' end as state,
      b.bucket,
      coalesce(b.code, 'unknown') as code,
      sum(b.results)::bigint as results,
      (array_agg(b.batch_id order by b.failed_at desc))[1] as last
    from retention.batch b
    where b.failed_at is not null
      and b.settled_at is null
    group by 1, 2, 3
    order by 1, 4 desc, 2, 3
    limit p_limit
  ) t
  join retention.batch l on l.batch_id = t.last
  order by t.state, t.results desc, t.bucket, t.code
$$;

COMMENT ON FUNCTION retention.troubles(p_limit integer) IS 'Failed and dead results by bucket and code, dead ones first and then by how many. run_id and error are those
of the batch that failed last; next_attempt_at is null for dead ones, which wait for a person. Reads what has
failed by its index. For observers.';

CREATE FUNCTION retention.undated(p_bound integer DEFAULT 1000) RETURNS TABLE(results bigint, run_ids text[])
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
begin
  if to_regclass('retention._live') is null then
    return query select 0::bigint, '{}'::text[];
    return;
  end if;
  return query
  with recursive tenant(tenant_id) as (
    (
      select r.tenant_id
      from retention._live r
      where r.is_candidate
        and r.tenant_id is not null
      order by r.tenant_id
      limit 1
    )
    union all
    select (
      select r.tenant_id
      from retention._live r
      where r.is_candidate
        and r.tenant_id > t.tenant_id
      order by r.tenant_id
      limit 1
    )
    from tenant t
    where t.tenant_id is not null
  ),
  undated as (
    select r.run_id::text as run_id
    from tenant t
    cross join lateral (
      select x.run_id
      from retention._live x
      where x.tenant_id = t.tenant_id
        and x.is_candidate
        and x.completed_at is null
      limit p_bound
    ) r
    union all
    (
      select x.run_id::text
      from retention._live x
      where x.tenant_id is null
        and x.is_candidate
        and x.completed_at is null
      limit p_bound
    )
    limit p_bound
  )
  select count(*), coalesce((array_agg(u.run_id order by u.run_id))[1:3], '{}')
  from undated u;
end
$$;

COMMENT ON FUNCTION retention.undated(p_bound integer) IS 'Runs that are completed and have an object, but no date, and so never fall due: how many, counted up to
p_bound, and three of them. One index probe per tenant, and at most p_bound rows. For observers.';

CREATE FUNCTION retention.unset_policy(p_tenant_id text, p_confirm boolean DEFAULT false) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_default interval := (select retain from retention.policy where tenant_id = '*');
  v_due bigint;
begin
  if p_tenant_id = '*' or not exists (select from retention.policy p where p.tenant_id = p_tenant_id) then
    raise exception using
      errcode = 'no_data_found',
      message = format('tenant %s has no policy of its own to unset', p_tenant_id);
  end if;
  v_due := retention.set_policy(p_tenant_id, v_default, p_confirm);
  delete from retention.policy p
  where p.tenant_id = p_tenant_id
    and p.retain = v_default
    and p.pending_retain is null;
  return v_due;
end
$$;

COMMENT ON FUNCTION retention.unset_policy(p_tenant_id text, p_confirm boolean) IS 'Takes away a tenant''s own policy, so that the default holds for it. Returns how many live results that
makes due at once. With more of them than setting.policy_guard, the length of the default is pending until
confirm_policy, or takes effect at once with p_confirm.
For operators.
Locks the policy.
Raises no_data_found when the tenant has no policy of its own.';

CREATE FUNCTION retention.unstamp(p_run_id text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
begin
  update retention.result r
  set cleared_at = null
  where r.run_id = retention._read_run_id(p_run_id)
    and r.cleared_at is not null;
  return found;
end
$$;

COMMENT ON FUNCTION retention.unstamp(p_run_id text) IS 'Takes the stamp from a run whose object was brought back. Returns false when the run was not stamped.
For operators.
Locks the row of the run.
Raises invalid_parameter_value for what cannot be a run id.';

CREATE FUNCTION retention.version() RETURNS TABLE(version text, oldest_client text)
    LANGUAGE sql IMMUTABLE
    AS $$
  select '0.1.0', '0.1.0'
$$;

COMMENT ON FUNCTION retention.version() IS 'The version of the product that installed this schema, and the oldest client that it serves. A client that
is older than oldest_client works on nothing. A client that is newer than version by more than the last
part works on nothing.
For observers.';

CREATE FUNCTION retention.vitals(p_buckets integer DEFAULT 50) RETURNS TABLE(as_of timestamp with time zone, paused_bucket_names text[], notify_queue_usage double precision)
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
  select clock_timestamp(),
    array(
      select k.bucket
      from retention.bucket k
      where k.paused_until > now()
      order by k.bucket
      limit p_buckets
    ),
    pg_notification_queue_usage()
$$;

COMMENT ON FUNCTION retention.vitals(p_buckets integer) IS 'What a scrape asks for beside retention.status: the database''s clock, the first p_buckets buckets that pause,
and how much of the server''s notification queue is used, from 0 to 1. Cheap at any size. For observers.';

CREATE FUNCTION retention.wait_causes(p_limit integer DEFAULT 10) RETURNS TABLE(what text, results bigint, because text, ends_at timestamp with time zone, remedy text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    AS $$
  select 'everything', null::bigint, g.because || coalesce(', since ' || retention._iso(g.since), ''),
    null::timestamptz, g.remedy
  from retention.gate() g
  union all
  select 'the next pass', null, n.because, null, null
  from retention.next_pass() n
  where n.comes_at is null
    and not exists (select from retention.gate())
  union all
  (
    select format('bucket %s', k.bucket), w.results, 'pauses after ' || retention._said(k.pause_code, k.pause_error),
      k.paused_until, null
    from retention.bucket k
    cross join lateral (
      select coalesce(sum(b.results), 0)::bigint as results
      from retention.batch b
      where b.bucket = k.bucket
        and b.settled_at is null
        and b.dead_at is null
    ) w
    where k.paused_until > now()
    order by w.results desc, k.bucket
    limit p_limit
  )
  union all
  (
    select format('%s in bucket %s', t.state, t.bucket), t.results, retention._said(t.code, t.error),
      t.next_attempt_at,
      case when t.state = 'dead' then 'fix the cause, then: retention retry' end
    from retention.troubles(p_limit) t
  )
  union all
  (
    select format('the policy of tenant %s', p.tenant_id), p.pending_results,
      format('%s instead of %s would make them due at once; asked for by %s', p.pending_retain, p.retain, p.pending_by),
      null, 'retention policy confirm'
    from retention.policy p
    where p.pending_retain is not null
    order by p.pending_at, p.tenant_id
    limit p_limit
  )
  union all
  select 'holds', null, format('%s in force, on runs and on tenants', h.holds), nullif(h.first_end, 'infinity'),
    'retention hold list'
  from (
    select count(*) as holds, min(retention._hold_end(o.released_at, o.expires_at)) as first_end
    from retention.hold o
    where retention._hold_end(o.released_at, o.expires_at) > now()
  ) h
  where h.holds > 0
  union all
  (
    select 'rows without an object', s.without_place::bigint,
      format('due, but no bucket or key is named, as a pass of %s saw it: %s', retention._iso(s.started_at),
        array_to_string(s.without_place_run_ids, ', ')),
      null, 'set bucket and key in the rows'
    from retention.scan s
    where s.started_at > now() - interval '1 day'
      and s.without_place > 0
    order by s.started_at desc
    limit 1
  )
$$;

COMMENT ON FUNCTION retention.wait_causes(p_limit integer) IS 'Why results that are due or flagged do not go at this moment: what closes the gate, what keeps the next pass from
coming, buckets that pause, failed and dead results by bucket and code, policies that wait for a confirmation,
holds, and rows that name no object. results is null where nothing was counted. ends_at: when it ends by itself;
null: it waits for a person. At most p_limit rows of each kind. Cheap at any size. For observers.';

CREATE FUNCTION retention.working_listeners(p_limit integer DEFAULT 20) RETURNS TABLE(listener text, batches bigint, results bigint, leased_until timestamp with time zone)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
  select coalesce(b.leased_by, 'unknown') as listener,
    count(*),
    sum(b.results)::bigint,
    max(b.visible_at)
  from retention.batch b
  where b.lease is not null
    and b.visible_at > now()
  group by 1
  order by 1
  limit p_limit
$$;

COMMENT ON FUNCTION retention.working_listeners(p_limit integer) IS 'Who works on batches at this moment, and on how many. Reads what is leased by its index. For observers.';

CREATE TABLE retention.hold (
    hold_id bigint NOT NULL,
    run_id retention.run_id,
    tenant_id text,
    reason text NOT NULL,
    placed_by text DEFAULT SESSION_USER NOT NULL,
    placed_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone,
    released_at timestamp with time zone,
    released_by text,
    CONSTRAINT a_hold_has_a_reason CHECK ((btrim(reason) <> ''::text)),
    CONSTRAINT a_hold_is_on_a_run_or_a_tenant CHECK ((num_nonnulls(run_id, tenant_id) = 1)),
    CONSTRAINT a_released_hold_says_by_whom CHECK (((released_at IS NULL) = (released_by IS NULL)))
);

COMMENT ON TABLE retention.hold IS 'what must not be deleted; place with retention.place_hold, which knows what is in flight';

CREATE TABLE retention.policy (
    tenant_id text NOT NULL,
    retain interval NOT NULL,
    set_at timestamp with time zone DEFAULT now() NOT NULL,
    set_by text DEFAULT SESSION_USER NOT NULL,
    pending_retain interval,
    pending_results bigint,
    pending_at timestamp with time zone,
    pending_by text,
    confirmed_results bigint,
    confirmed_at timestamp with time zone,
    confirmed_by text,
    CONSTRAINT a_pending_policy_is_at_least_one_day CHECK ((pending_retain >= '1 day'::interval)),
    CONSTRAINT a_pending_policy_is_whole CHECK ((num_nonnulls(pending_retain, pending_results, pending_at, pending_by) = ANY (ARRAY[0, 4]))),
    CONSTRAINT retain_is_at_least_one_day CHECK ((retain >= '1 day'::interval)),
    CONSTRAINT retain_is_below_a_century CHECK ((retain <= '36134 days'::interval))
);

COMMENT ON TABLE retention.policy IS 'how long a result is kept after its run completed; ''*'' is the default';

COMMENT ON COLUMN retention.policy.pending_retain IS 'asked for, but it would make so many results due at once that it waits for confirm_policy';

CREATE VIEW retention.result AS
 SELECT runs.run_id,
    runs.tenant_id,
    runs.status,
    runs.completed_at,
    NULL::timestamp with time zone AS retain_until,
    runs.result_s3_bucket AS bucket,
    runs.result_s3_key AS key,
    runs.result_cleared_at AS cleared_at,
    runs.updated_at
   FROM public.runs;

COMMENT ON VIEW retention.result IS 'The application''s table under the names of this schema: the only way from here to it. For observers.';

COMMENT ON COLUMN retention.result.tenant_id IS 'null where the table has no tenants';

COMMENT ON COLUMN retention.result.status IS 'only a run whose status means completed has a result to expire';

COMMENT ON COLUMN retention.result.completed_at IS 'from when its retention is counted';

COMMENT ON COLUMN retention.result.retain_until IS 'a date before which the result may not go, whatever the policy says';

COMMENT ON COLUMN retention.result.bucket IS 'null or empty: setting.default_bucket';

COMMENT ON COLUMN retention.result.cleared_at IS 'when the result was deleted, or found gone; null: it is live';

COMMENT ON COLUMN retention.result.updated_at IS 'written with cleared_at, where the table has it';

CREATE TABLE retention.setting (
    singleton boolean DEFAULT true NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
    halted_at timestamp with time zone,
    halted_by text,
    halted_reason text,
    loop_interval interval DEFAULT '1 day'::interval NOT NULL,
    batch_size integer DEFAULT 1000 NOT NULL,
    flag_limit integer DEFAULT 50000 NOT NULL,
    backlog_limit integer DEFAULT 1000000 NOT NULL,
    sweep_interval interval DEFAULT '01:00:00'::interval NOT NULL,
    small_backlog integer DEFAULT 5000 NOT NULL,
    max_attempts integer DEFAULT 10 NOT NULL,
    retry_base interval DEFAULT '00:00:30'::interval NOT NULL,
    retry_cap interval DEFAULT '06:00:00'::interval NOT NULL,
    pause_base interval DEFAULT '00:00:02'::interval NOT NULL,
    pause_cap interval DEFAULT '00:05:00'::interval NOT NULL,
    history_kept interval DEFAULT '7 days'::interval NOT NULL,
    receipts_kept interval DEFAULT '7 years'::interval NOT NULL,
    default_bucket text,
    check_shared_objects boolean DEFAULT true NOT NULL,
    policy_guard integer DEFAULT 1000 NOT NULL,
    release_spread interval DEFAULT '01:00:00'::interval NOT NULL,
    unanswered_for interval DEFAULT '00:15:00'::interval NOT NULL,
    CONSTRAINT a_batch_fits_one_delete_objects_request CHECK (((batch_size >= 1) AND (batch_size <= 1000))),
    CONSTRAINT a_halt_says_who_and_why CHECK ((num_nonnulls(halted_at, halted_by, halted_reason) = ANY (ARRAY[0, 3]))),
    CONSTRAINT backlog_limit_is_positive CHECK ((backlog_limit > 0)),
    CONSTRAINT default_bucket_is_not_empty CHECK ((default_bucket <> ''::text)),
    CONSTRAINT flag_limit_is_positive CHECK ((flag_limit > 0)),
    CONSTRAINT loop_interval_is_at_least_a_second CHECK ((loop_interval >= '00:00:01'::interval)),
    CONSTRAINT max_attempts_is_positive CHECK ((max_attempts > 0)),
    CONSTRAINT policy_guard_is_not_negative CHECK ((policy_guard >= 0)),
    CONSTRAINT receipts_are_kept_for_a_day_at_least CHECK ((receipts_kept >= '1 day'::interval)),
    CONSTRAINT small_backlog_is_not_negative CHECK ((small_backlog >= 0)),
    CONSTRAINT there_is_one_setting_row CHECK (singleton),
    CONSTRAINT unanswered_for_is_not_negative CHECK ((unanswered_for >= '00:00:00'::interval))
);

COMMENT ON TABLE retention.setting IS 'one row: what operators choose for the whole database';

COMMENT ON COLUMN retention.setting.enabled IS 'false: nothing is flagged and nothing is claimed; status, dry runs and holds work';

COMMENT ON COLUMN retention.setting.halted_at IS 'since when a person has halted everything (retention.halt); null: there is no halt';

COMMENT ON COLUMN retention.setting.loop_interval IS 'how often a tick flags; the tick itself comes every minute';

COMMENT ON COLUMN retention.setting.batch_size IS 'results per batch, and so keys per DeleteObjects request';

COMMENT ON COLUMN retention.setting.flag_limit IS 'how many results one pass looks at, at most; the next tick goes on';

COMMENT ON COLUMN retention.setting.backlog_limit IS 'with this many flagged results waiting, no pass flags more';

COMMENT ON COLUMN retention.setting.sweep_interval IS 'how often, at least, a pass starts from the oldest result again instead of going on from its progress';

COMMENT ON COLUMN retention.setting.small_backlog IS 'with no more than this many results behind its progress, every pass starts from the oldest';

COMMENT ON COLUMN retention.setting.max_attempts IS 'a result that S3 has refused this often is dead';

COMMENT ON COLUMN retention.setting.retry_base IS 'how long a refused result waits for its second attempt; each wait doubles';

COMMENT ON COLUMN retention.setting.retry_cap IS 'the longest wait between two attempts';

COMMENT ON COLUMN retention.setting.pause_base IS 'how long a bucket pauses for the first time; each pause doubles';

COMMENT ON COLUMN retention.setting.pause_cap IS 'the longest pause of a bucket';

COMMENT ON COLUMN retention.setting.history_kept IS 'how long passes, and batches that cleared nothing, are remembered';

COMMENT ON COLUMN retention.setting.receipts_kept IS 'how long a batch that cleared something is kept as its receipt';

COMMENT ON COLUMN retention.setting.default_bucket IS 'the bucket of results whose row names none';

COMMENT ON COLUMN retention.setting.check_shared_objects IS 'false gives up: two runs on one key, one due and one not, lose the object';

COMMENT ON COLUMN retention.setting.policy_guard IS 'a policy that makes more live results than this due at once waits for a confirmation';

COMMENT ON COLUMN retention.setting.release_spread IS 'over how long the results of a tenant come back after a hold on it has ended';

COMMENT ON COLUMN retention.setting.unanswered_for IS 'how long S3 may still perform a request that got no answer: it takes none whose signature is older than 15 minutes';

CREATE VIEW retention._live AS
 SELECT l.run_id,
    l.tenant_id,
    l.status,
    l.completed_at,
    l.retain_until,
    l.bucket,
    l.key,
    l.is_candidate,
    ((l.bucket IS NOT NULL) AND (l.key <> ''::text)) AS has_place,
    l.retain,
    l.due_at,
    l.held,
    (COALESCE((l.due_at < now()), false) AND (NOT l.held)) AS is_due
   FROM ( SELECT r.run_id,
            r.tenant_id,
            r.status,
            r.completed_at,
            r.retain_until,
            COALESCE(NULLIF(r.bucket, ''::text), ( SELECT s.default_bucket
                   FROM retention.setting s)) AS bucket,
            (r.key COLLATE "C") AS key,
            ((r.status = 'COMPLETED'::text) AND (r.key IS NOT NULL)) AS is_candidate,
            COALESCE(p.retain, ( SELECT d.retain
                   FROM retention.policy d
                  WHERE (d.tenant_id = '*'::text))) AS retain,
                CASE
                    WHEN ((r.status = 'COMPLETED'::text) AND (r.key IS NOT NULL) AND (r.completed_at IS NOT NULL) AND (EXISTS ( SELECT
                       FROM retention.policy d
                      WHERE (d.tenant_id = '*'::text)))) THEN GREATEST((r.completed_at + COALESCE(retention._in_seconds(p.retain), ( SELECT retention._in_seconds(d.retain) AS _in_seconds
                       FROM retention.policy d
                      WHERE (d.tenant_id = '*'::text)))), r.retain_until)
                    ELSE NULL::timestamp with time zone
                END AS due_at,
            ((EXISTS ( SELECT
                   FROM retention.hold)) AND ((EXISTS ( SELECT
                   FROM retention.hold h
                  WHERE (((h.run_id)::uuid = r.run_id) AND (retention._hold_end(h.released_at, h.expires_at) > now())))) OR (EXISTS ( SELECT
                   FROM retention.hold h
                  WHERE ((h.tenant_id = r.tenant_id) AND ((retention._hold_end(h.released_at, h.expires_at) + (( SELECT s.release_spread
                           FROM retention.setting s) * retention._place_in_line((r.run_id)::text))) > now())))))) AS held
           FROM (retention.result r
             LEFT JOIN retention.policy p ON ((( SELECT (EXISTS ( SELECT
                           FROM retention.policy d
                          WHERE (d.tenant_id <> '*'::text))) AS "exists") AND (p.tenant_id = r.tenant_id) AND (p.tenant_id <> '*'::text))))
          WHERE (r.cleared_at IS NULL)) l;

CREATE TABLE retention.adapter (
    singleton boolean DEFAULT true NOT NULL,
    table_name text NOT NULL,
    table_oid oid NOT NULL,
    columns jsonb NOT NULL,
    added_cleared_at boolean NOT NULL,
    scheduler text NOT NULL,
    cron_database text,
    cron_job_owner text,
    listener_role text,
    detached_at timestamp with time zone,
    CONSTRAINT scheduler_is_known CHECK ((scheduler = ANY (ARRAY['pg_cron'::text, 'internal'::text]))),
    CONSTRAINT there_is_one_adapter_row CHECK (singleton)
);

COMMENT ON TABLE retention.adapter IS 'one row: which table was adopted, and how its columns are called';

COMMENT ON COLUMN retention.adapter.table_oid IS 'the table under the view retention.result; another table of that name is not worked on';

COMMENT ON COLUMN retention.adapter.detached_at IS 'since when retention.detach has taken the views away; null: they are there';

ALTER TABLE retention.batch ALTER COLUMN batch_id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME retention.batch_batch_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE VIEW retention.flagged AS
 SELECT u.run_id,
    u.tenant_id,
    b.bucket,
        CASE
            WHEN starts_with(u.key, ''::text) THEN substr(u.key, 2)
            ELSE replace(u.key, ''::text, ((u.run_id)::text COLLATE "C"))
        END AS key,
    b.batch_id,
    b.flagged_at,
    b.visible_at,
    ((b.lease IS NOT NULL) AND (b.visible_at > now())) AS leased,
    b.attempts,
    b.code,
    b.error,
    b.failed_at,
    b.dead_at
   FROM (retention.batch b
     CROSS JOIN LATERAL UNNEST(b.run_ids, b.keys, b.tenants) u(run_id, key, tenant_id))
  WHERE (b.settled_at IS NULL);

COMMENT ON VIEW retention.flagged IS 'One row for each flagged result: its batch, its attempts, and why it failed.
For observers.';

COMMENT ON COLUMN retention.flagged.run_id IS 'the run whose result it is';

COMMENT ON COLUMN retention.flagged.key IS 'the object, in the bucket beside it';

COMMENT ON COLUMN retention.flagged.batch_id IS 'the batch that carries it';

COMMENT ON COLUMN retention.flagged.visible_at IS 'when its batch may be claimed: now, at its next attempt, or when its lease runs out';

COMMENT ON COLUMN retention.flagged.leased IS 'a listener works on it';

COMMENT ON COLUMN retention.flagged.attempts IS 'how often S3 has refused it';

COMMENT ON COLUMN retention.flagged.code IS 'why it failed when it was last tried; null: it has not failed';

COMMENT ON COLUMN retention.flagged.error IS 'the message beside code';

COMMENT ON COLUMN retention.flagged.dead_at IS 'since when it is dead, and waits for retention.retry; null: it is not dead';

CREATE TABLE retention.gate_state (
    singleton boolean DEFAULT true NOT NULL,
    reasons text[] DEFAULT '{}'::text[] NOT NULL,
    since timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT there_is_one_gate_state_row CHECK (singleton)
);

COMMENT ON TABLE retention.gate_state IS 'one row: the reasons of retention.gate() that were last announced';

CREATE TABLE retention.heartbeat (
    singleton boolean DEFAULT true NOT NULL,
    ticked_at timestamp with time zone,
    ticked_by text,
    passed_at timestamp with time zone,
    more boolean DEFAULT false NOT NULL,
    swept_at timestamp with time zone,
    left_alone integer DEFAULT 0 NOT NULL,
    cleaned_up_at timestamp with time zone,
    CONSTRAINT there_is_one_heartbeat_row CHECK (singleton)
)
WITH (fillfactor='20');

COMMENT ON TABLE retention.heartbeat IS 'one row: when the scheduler last ticked, and what the last pass left';

COMMENT ON COLUMN retention.heartbeat.more IS 'the last pass hit a limit: the next tick need not wait for the interval';

COMMENT ON COLUMN retention.heartbeat.swept_at IS 'when a pass last started from the oldest result';

COMMENT ON COLUMN retention.heartbeat.left_alone IS 'results past their policy that passes since then went by: held, without a place, or under retain_until';

ALTER TABLE retention.hold ALTER COLUMN hold_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME retention.hold_hold_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE retention.installed (
    singleton boolean DEFAULT true NOT NULL,
    version text NOT NULL,
    shipped text NOT NULL,
    found text NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT there_is_one_installed_row CHECK (singleton)
);

COMMENT ON TABLE retention.installed IS 'what functions/*.sql the schema was last given (shipped), and a digest of what the catalog held then (found)';

CREATE TABLE retention.pgmigrations (
    id integer NOT NULL,
    name character varying(255) NOT NULL,
    run_on timestamp without time zone NOT NULL
);

CREATE SEQUENCE retention.pgmigrations_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE retention.pgmigrations_id_seq OWNED BY retention.pgmigrations.id;

CREATE TABLE retention.progress (
    tenant_key text NOT NULL,
    completed_at timestamp with time zone NOT NULL,
    run_id retention.run_id NOT NULL
);

COMMENT ON TABLE retention.progress IS 'by tenant, the last result that flagging has looked at';

COMMENT ON COLUMN retention.progress.tenant_key IS 'see retention._tenant_key(): the empty string stands for results without a tenant';

CREATE TABLE retention.scan (
    scan_id bigint NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    ms integer NOT NULL,
    asked_by text NOT NULL,
    looked_at integer NOT NULL,
    flagged integer NOT NULL,
    batches integer NOT NULL,
    without_place integer NOT NULL,
    without_place_run_ids text[] DEFAULT '{}'::text[] NOT NULL,
    hit_limit boolean NOT NULL,
    oldest timestamp with time zone
);

COMMENT ON TABLE retention.scan IS 'one row for each flagging pass that did something';

COMMENT ON COLUMN retention.scan.without_place IS 'due, but the row names no bucket or an empty key: not work, only counted';

ALTER TABLE retention.scan ALTER COLUMN scan_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME retention.scan_scan_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE UNLOGGED TABLE retention.selection (
    run_id retention.run_id NOT NULL,
    tenant_id text,
    bucket text NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    completed_at timestamp with time zone NOT NULL,
    due_at timestamp with time zone,
    batch_id bigint
);

COMMENT ON TABLE retention.selection IS 'what a narrowed reconcile works with; empty between calls';

CREATE VIEW retention.status AS
 SELECT read_status.enabled,
    read_status.live_estimate,
    read_status.due,
    read_status.due_is_capped,
    read_status.flagged,
    read_status.leased,
    read_status.failed,
    read_status.dead,
    read_status.held,
    read_status.cleared_today,
    read_status.spared_today,
    read_status.oldest_due,
    read_status.batches,
    read_status.buckets_paused,
    read_status.last_tick,
    read_status.last_pass,
    read_status.scheduler,
    read_status.scheduler_health,
    read_status.loop_interval_seconds,
    read_status.default_retain_days,
    read_status.policies_pending,
    read_status.policy_pending,
    read_status.due_since,
    read_status.halted,
    read_status.next_pass,
    read_status.next_pass_because,
    read_status.newest_run
   FROM retention.read_status() read_status(enabled, live_estimate, due, due_is_capped, flagged, leased, failed, dead, held, cleared_today, spared_today, oldest_due, batches, buckets_paused, last_tick, last_pass, scheduler, scheduler_health, loop_interval_seconds, default_retain_days, policies_pending, policy_pending, due_since, halted, next_pass, next_pass_because, newest_run);

COMMENT ON VIEW retention.status IS 'One row that says how things stand. Cheap at any size.
For observers.';

COMMENT ON COLUMN retention.status.enabled IS 'false: nothing is flagged and nothing is claimed';

COMMENT ON COLUMN retention.status.live_estimate IS 'an estimate of how many results are live: the size of an index at its last vacuum or analyze';

COMMENT ON COLUMN retention.status.due IS 'results past their policy that wait, flagged or not; those not flagged are counted among about 10,000 rows';

COMMENT ON COLUMN retention.status.due_is_capped IS 'due says "at least": there may be more than were counted';

COMMENT ON COLUMN retention.status.flagged IS 'flagged results that are not dead, leased ones too';

COMMENT ON COLUMN retention.status.leased IS 'flagged results that a listener works on';

COMMENT ON COLUMN retention.status.failed IS 'results that S3 refused and that wait for their next attempt';

COMMENT ON COLUMN retention.status.dead IS 'results that wait for retention.retry';

COMMENT ON COLUMN retention.status.held IS 'holds in force, on runs and on tenants';

COMMENT ON COLUMN retention.status.cleared_today IS 'results cleared since midnight UTC';

COMMENT ON COLUMN retention.status.spared_today IS 'results spared since midnight UTC';

COMMENT ON COLUMN retention.status.oldest_due IS 'when the oldest of the due results completed';

COMMENT ON COLUMN retention.status.batches IS 'batches that are neither settled nor dead';

COMMENT ON COLUMN retention.status.buckets_paused IS 'buckets whose batches wait until a pause ends';

COMMENT ON COLUMN retention.status.last_tick IS 'when the scheduler last ticked';

COMMENT ON COLUMN retention.status.last_pass IS 'when a flagging pass last ended';

COMMENT ON COLUMN retention.status.scheduler IS 'pg_cron or internal';

COMMENT ON COLUMN retention.status.scheduler_health IS 'ok, disabled, never ticked, or silent: no tick of its own for 5 minutes';

COMMENT ON COLUMN retention.status.loop_interval_seconds IS 'how often a tick flags';

COMMENT ON COLUMN retention.status.default_retain_days IS 'the default policy';

COMMENT ON COLUMN retention.status.policies_pending IS 'policies that wait for retention.confirm_policy';

COMMENT ON COLUMN retention.status.policy_pending IS 'the same in words; null: none';

COMMENT ON COLUMN retention.status.due_since IS 'when the due result that waits longest fell due';

COMMENT ON COLUMN retention.status.halted IS 'the reasons of retention.gate(); empty: none';

COMMENT ON COLUMN retention.status.next_pass IS 'when the next flagging pass comes; null: none comes by itself';

COMMENT ON COLUMN retention.status.next_pass_because IS 'what the next pass waits for, or what keeps it from coming';

COMMENT ON COLUMN retention.status.newest_run IS 'when the newest run completed that is known here; long ago: the application may write to another table';

CREATE UNLOGGED TABLE retention.stray (
    verify_id uuid NOT NULL,
    bucket text NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    bytes bigint NOT NULL,
    modified_at timestamp with time zone NOT NULL,
    noted_at timestamp with time zone DEFAULT now() NOT NULL,
    kind text,
    CONSTRAINT stray_kind_is_known CHECK ((kind = ANY (ARRAY['orphan'::text, 'returned'::text])))
);

COMMENT ON TABLE retention.stray IS 'listed keys without a live row that a verify has set aside; empty between runs';

COMMENT ON COLUMN retention.stray.kind IS 'see retention.sort_strays(); null: neither, or not yet sorted';

CREATE TABLE retention.unanswered (
    unanswered_id bigint NOT NULL,
    bucket text NOT NULL,
    run_ids retention.run_id[] NOT NULL,
    keys text[] NOT NULL COLLATE pg_catalog."C",
    until timestamp with time zone NOT NULL
);

COMMENT ON TABLE retention.unanswered IS 'results that S3 may still delete until then: a request for them got no answer, or its sender is gone';

ALTER TABLE retention.unanswered ALTER COLUMN unanswered_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME retention.unanswered_unanswered_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE ONLY retention.pgmigrations ALTER COLUMN id SET DEFAULT nextval('retention.pgmigrations_id_seq'::regclass);

ALTER TABLE ONLY retention.adapter
    ADD CONSTRAINT adapter_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY retention.batch
    ADD CONSTRAINT batch_pkey PRIMARY KEY (batch_id);

ALTER TABLE ONLY retention.bucket
    ADD CONSTRAINT bucket_pkey PRIMARY KEY (bucket);

ALTER TABLE ONLY retention.gate_state
    ADD CONSTRAINT gate_state_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY retention.heartbeat
    ADD CONSTRAINT heartbeat_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY retention.hold
    ADD CONSTRAINT hold_pkey PRIMARY KEY (hold_id);

ALTER TABLE ONLY retention.installed
    ADD CONSTRAINT installed_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY retention.pgmigrations
    ADD CONSTRAINT pgmigrations_pkey PRIMARY KEY (id);

ALTER TABLE ONLY retention.policy
    ADD CONSTRAINT policy_pkey PRIMARY KEY (tenant_id);

ALTER TABLE ONLY retention.progress
    ADD CONSTRAINT progress_pkey PRIMARY KEY (tenant_key);

ALTER TABLE ONLY retention.scan
    ADD CONSTRAINT scan_pkey PRIMARY KEY (scan_id);

ALTER TABLE ONLY retention.selection
    ADD CONSTRAINT selection_pkey PRIMARY KEY (run_id);

ALTER TABLE ONLY retention.setting
    ADD CONSTRAINT setting_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY retention.stray
    ADD CONSTRAINT stray_pkey PRIMARY KEY (verify_id, bucket, key);

ALTER TABLE ONLY retention.unanswered
    ADD CONSTRAINT unanswered_pkey PRIMARY KEY (unanswered_id);

CREATE INDEX batch_failed ON retention.batch USING btree (failed_at) WHERE ((failed_at IS NOT NULL) AND (settled_at IS NULL));

CREATE INDEX batch_leased ON retention.batch USING btree (bucket) WHERE (lease IS NOT NULL);

CREATE INDEX batch_open ON retention.batch USING btree (oldest) WHERE (settled_at IS NULL);

CREATE INDEX batch_settled ON retention.batch USING btree (settled_at) WHERE (settled_at IS NOT NULL);

CREATE INDEX batch_visible ON retention.batch USING btree (bucket, visible_at, batch_id) WHERE ((settled_at IS NULL) AND (dead_at IS NULL));

CREATE INDEX hold_run ON retention.hold USING btree (run_id) WHERE (run_id IS NOT NULL);

CREATE INDEX hold_tenant ON retention.hold USING btree (tenant_id) WHERE (tenant_id IS NOT NULL);

CREATE INDEX scan_started_at ON retention.scan USING btree (started_at);

CREATE INDEX unanswered_until ON retention.unanswered USING btree (until);

CREATE TRIGGER announce_batches AFTER INSERT ON retention.batch REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION retention._announce_batches();

CREATE TRIGGER announce_change AFTER UPDATE ON retention.batch REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION retention._announce_change();

CREATE TRIGGER guard_policy BEFORE INSERT OR DELETE OR UPDATE ON retention.policy FOR EACH ROW EXECUTE FUNCTION retention._guard_policy();
