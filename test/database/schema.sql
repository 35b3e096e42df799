CREATE SCHEMA retention;

COMMENT ON SCHEMA retention IS 'Retention Reactor: expiry of S3 results whose truth lives in this database';

CREATE DOMAIN retention.run_id AS uuid;

CREATE DOMAIN retention.tenant_id AS text;

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

CREATE FUNCTION retention.adopt(p_table text, p_columns text, p_scheduler text) RETURNS void
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION retention.announce_change() RETURNS trigger
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
      (a.settled_at is not null and b.settled_at is null) as is_settled,
      (a.lease is null and b.lease is not null and a.settled_at is null and a.visible_at <= now()) as is_back,
      (a.problems is not null and a.problems is distinct from b.problems) as has_problems
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
          retention.iso(v_batch.oldest) as oldest
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

CREATE FUNCTION retention.announce_expired() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_payload text;
begin
  if pg_notification_queue_usage() > 0.5 then
    return null;
  end if;
  select row_to_json(p)::text
  into v_payload
  from (
    select count(*) as batches,
      sum(b.results) as results,
      (array_agg(distinct left(b.bucket, 63)))[1:8] as buckets,
      retention.iso(min(b.oldest)) as oldest
    from made b
    where b.visible_at <= now()
      and b.settled_at is null
    having count(*) > 0
  ) p;
  if v_payload is not null then
    perform pg_notify('retention_expired', v_payload);
  end if;
  return null;
end
$$;

CREATE FUNCTION retention.check_role(p_role text) RETURNS void
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

CREATE FUNCTION retention.check_scheduler(p_scheduler text, p_elsewhere boolean) RETURNS void
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

CREATE FUNCTION retention.claim(p_lease uuid, p_lease_for interval, p_by text DEFAULT NULL::text, p_batch_ids bigint[] DEFAULT NULL::bigint[], p_ours integer DEFAULT 0) RETURNS TABLE(batch_id bigint, bucket text, run_ids text[], keys text[], spared integer, attempts integer, leased_until timestamp with time zone, purge boolean, crowded boolean)
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
  v_batch_id bigint;
  v_crowded boolean;
  v_checked record;
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
  select * into strict v_setting from retention.setting;
  if not v_setting.enabled then
    return;
  end if;
  v_batch_id := retention.next_batch(p_batch_ids);
  if v_batch_id is null then
    return;
  end if;
  -- Against place_hold, which locks in exclusive mode: a hold either committed before this, and the
  -- check below sees it, or it waits for us and then sees the lease. And against reclaim, which moves
  -- results: what looks at them from here on sees them where they are.
  lock table retention.hold, retention.expired in row share mode;
  v_crowded := not retention.take_place(v_setting, p_ours);

  update retention.batch b
  set lease = p_lease,
    leased_at = clock_timestamp(),
    leased_by = p_by,
    visible_at = clock_timestamp() + p_lease_for
  where b.batch_id = v_batch_id
  returning * into strict v_batch;

  select coalesce(array_agg(c.run_id::text) filter (where c.may_go), '{}') as run_ids,
    coalesce(array_agg(c.key) filter (where c.may_go), '{}') as keys,
    array_agg(c.run_id) filter (where not c.may_go) as spared,
    count(*) filter (where not c.may_go) as spared_count,
    count(*) filter (where c.may_go) as count
  into v_checked
  from retention.recheck(v_batch_id, v_batch.early, v_setting.check_shared_objects) c;

  if v_checked.spared_count > 0 or v_checked.count <> v_batch.results then
    delete from retention.expired e
    where e.batch_id = v_batch_id
      and e.run_id = any (v_checked.spared);
    update retention.batch b
    set results = v_checked.count,
      spared = b.spared + v_checked.spared_count,
      lease = case when v_checked.count > 0 then b.lease end,
      ms = case when v_checked.count > 0 then b.ms else 0 end,
      settled_at = case when v_checked.count > 0 then null else clock_timestamp() end
    where b.batch_id = v_batch_id;
  end if;
  return query
  select v_batch_id,
    v_batch.bucket,
    v_checked.run_ids,
    v_checked.keys,
    v_checked.spared_count::integer,
    v_batch.attempts,
    v_batch.visible_at,
    exists (
      select
      from retention.bucket k
      where k.bucket = v_batch.bucket
        and k.on_versioned = 'purge'
    ),
    v_crowded;
end
$$;

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
    perform retention.set_aside(p_verify_id, p_bucket, p_keys, p_bytes, p_modified);
  end if;

  return query
  select r.run_id::text, r.key::text, coalesce(r.due_at < now(), false)
  from retention.live r
  where r.key > coalesce(p_after, '') collate "C"
    and r.key >= p_prefix collate "C"
    and (p_until is null or r.key <= p_until collate "C")
    and starts_with(r.key, p_prefix)
    and r.bucket = p_bucket
    and r.status = 'COMPLETED'
    and r.completed_at < p_before
    -- Looked up by hash; as an array, the planner would weigh each of a thousand keys.
    and r.key not in (select k.key collate "C" from unnest(p_keys) k (key))
  order by r.key
  fetch first 1000 rows with ties;
end
$$;

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
    if v_retain <> retention.in_days((p_settings ->> 'retain')::interval) then
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
  return query
  select format('%s: %s -> %s', n.key, coalesce(v_old ->> n.key, 'none'), coalesce(n.value, 'none'))
  from jsonb_each_text(v_new) n
  where n.value is distinct from v_old ->> n.key;
end
$$;

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
  v_due := retention.newly_due(p_tenant_id, v_policy.pending_retain);
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

CREATE FUNCTION retention.count_due(p_bound integer) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
  select count(*)
  from (
    select
    from retention.tenants() t
    left join retention.progress g on g.tenant_key = t.tenant_key
    cross join lateral retention.look(
      t.tenant_id, g.completed_at, g.run_id, now() - retention.exactly(t.retain), p_bound
    ) r
    where r.due_at < now()
      and not r.held
      and not r.flagged
      and r.bucket is not null
      and r.key <> ''
    limit p_bound
  ) d
$$;

CREATE FUNCTION retention.estimate_live() RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  -- By way of the index: partitions that came later have indexes under names of Postgres's choice.
  select coalesce(sum(greatest(c.reltuples, 0)) filter (where c.relkind = 'i'), 0)::bigint
  from retention.adapter a
  join pg_index i on i.indrelid = a.table_name::regclass
  join pg_class x on x.oid = i.indexrelid
    and x.relname = 'retention_live'
  cross join lateral (
    select x.oid as relid
    union
    select p.relid
    from pg_partition_tree(x.oid) p
  ) t
  join pg_class c on c.oid = t.relid
$$;

CREATE FUNCTION retention.exactly(p_interval interval) RETURNS interval
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN make_interval(secs => (EXTRACT(epoch FROM p_interval))::double precision);

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
  v_work retention.expired;
  v_batch retention.batch;
  v_bucket retention.bucket;
  v_hold record;
  v_setting retention.setting;
  v_policy text;
  v_in_flight_until timestamptz;
begin
  select * into strict v_setting from retention.setting;
  run_id := p_run_id;
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
  select l.* into v_live from retention.live l where l.run_id = v_run_id limit 1;
  select * into v_work from retention.expired e where e.run_id = v_run_id;
  select * into v_batch from retention.batch b where b.batch_id = v_work.batch_id;
  select * into v_bucket from retention.bucket k where k.bucket = coalesce(v_work.bucket, explain.bucket);
  retain := v_live.retain;
  due_at := v_live.due_at;
  flagged_at := v_work.flagged_at;
  batch_id := v_work.batch_id;
  attempts := v_work.attempts;
  last_code := v_work.last_code;
  last_error := v_work.last_error;
  next_attempt_at := case
    when v_batch.lease is null or v_batch.visible_at <= now()
    then greatest(v_batch.visible_at, v_bucket.paused_until)
  end;
  select jsonb_agg(
    jsonb_build_object('hold_id', h.hold_id, 'reason', h.reason, 'placed_by', h.placed_by, 'placed_at', h.placed_at,
      'on', case when h.run_id is null then 'tenant' else 'run' end,
      'ends', nullif(retention.hold_end(h.released_at, h.expires_at), 'infinity'))
    order by h.hold_id
  )
  into holds
  from retention.hold h
  where (h.run_id = v_run_id or h.tenant_id = v_run.tenant_id::text)
    and retention.hold_end(h.released_at, h.expires_at)
      + case when h.tenant_id is null then interval '0' else v_setting.release_spread * retention.place_in_line(v_run.run_id::text) end > now();
  v_policy := case
    when exists (select from retention.policy p where p.tenant_id = v_run.tenant_id::text and p.tenant_id <> '*')
    then format('the policy of tenant %s', v_run.tenant_id)
    else 'the default policy'
  end;
  select o.run_id::text
  into shares_with
  from retention.live o
  where v_setting.check_shared_objects
    and o.key = v_run.key collate "C"
    and o.bucket = coalesce(nullif(v_run.bucket, ''), v_setting.default_bucket)
    and o.run_id <> v_run_id
    and (o.due_at is null or o.due_at >= now() or o.held)
  order by o.run_id
  limit 1;

  if v_run.cleared_at is not null then
    state := 'cleared';
    because := format('its result was deleted, or found gone, and the run stamped, at %s', retention.iso(v_run.cleared_at));
  elsif v_run.status::text is distinct from 'COMPLETED' then
    state := 'not completed';
    because := format('its status is %s; only results of COMPLETED runs expire', coalesce(v_run.status::text, 'null'));
  elsif v_run.completed_at is null then
    state := 'no date';
    because := 'the run is COMPLETED but has no completion date, so nothing says when it falls due: set the date';
  elsif coalesce(v_run.key, '') = '' then
    state := 'no key';
    because := 'the run names no object, so there is nothing to delete';
  elsif v_work.dead_at is not null then
    state := 'dead';
    because := case v_work.last_code
      when 'BucketNotAllowed' then format('bucket not allowed: %s is not listed in S3_RESULT_BUCKET; add it and revive with: retention retry --run %s', v_work.bucket, v_run_id)
      else format('failed %s, last with %s (%s); mend the cause and revive with: retention retry --run %s',
        case v_work.attempts when 1 then 'once' else v_work.attempts || ' times' end, v_work.last_code, v_work.last_error, v_run_id)
    end;
  elsif v_batch.lease is not null and v_batch.visible_at > now() then
    state := 'in flight';
    because := format('%s has been working on it since %s, until %s at most',
      coalesce(v_batch.leased_by, 'a listener'), retention.iso(v_batch.leased_at), retention.iso(v_batch.visible_at));
  elsif bucket is null then
    state := 'no bucket';
    because := 'the run names no bucket and there is no single default (S3_RESULT_BUCKET): skipped and counted';
  elsif exists (
    select
    from jsonb_array_elements(holds) h
    where (h ->> 'ends') is null or (h ->> 'ends')::timestamptz > now()
  ) then
    select h ->> 'hold_id' as hold_id, h ->> 'on' as kind, h ->> 'reason' as reason, h ->> 'placed_by' as placed_by
    into v_hold
    from jsonb_array_elements(holds) h
    where (h ->> 'ends') is null or (h ->> 'ends')::timestamptz > now()
    limit 1;
    state := 'held';
    because := format('hold %s on its %s, placed by %s: %s', v_hold.hold_id, v_hold.kind, v_hold.placed_by, v_hold.reason);
  elsif holds is not null then
    state := 'coming back';
    because := format('a hold on its tenant has ended; its results come back over %s', v_setting.release_spread);
  elsif v_live.due_at >= now()
    -- Flagged with a cutoff that somebody confirmed, it goes before the policy says so.
    and not coalesce(
      greatest(v_live.completed_at + retention.exactly(v_batch.early), v_live.retain_until) < now(), false
    )
  then
    state := 'kept';
    because := case
      when v_run.retain_until >= now() and v_run.retain_until::timestamptz = v_live.due_at
      then format('its own retain-until date keeps it until %s', retention.iso(v_live.due_at))
      else format('%s keeps results for %s: due at %s', v_policy, v_live.retain, retention.iso(v_live.due_at))
    end;
  elsif shares_with is not null then
    state := 'shared';
    because := format('it shares its object with run %s, which is not due', shares_with);
  elsif not v_setting.enabled then
    state := 'disabled';
    because := 'it is due, but retention is disabled (DPP_RETENTION_ENABLED=false)';
  elsif v_work.failed_at is not null then
    state := 'failed';
    because := format('S3 answered %s (%s)%s; next attempt at %s',
      v_work.last_code, v_work.last_error,
      case when v_work.attempts > 0 then format(' on attempt %s', v_work.attempts)
        else ', which is not counted against it' end,
      retention.iso(next_attempt_at));
  elsif v_work.run_id is not null then
    state := 'flagged';
    because := format('it was flagged at %s and waits in batch %s', retention.iso(v_work.flagged_at), v_work.batch_id)
      || case when v_bucket.paused_until > now()
        then format('; its bucket pauses until %s after %s', retention.iso(v_bucket.paused_until), v_bucket.pause_code)
        else '' end;
  else
    state := 'due';
    because := format('it has been due since %s by %s; the next flagging pass takes it', retention.iso(v_live.due_at), v_policy);
  end if;
  if state <> 'in flight' then
    select f.until into v_in_flight_until from retention.in_flight(v_run_id, null) f;
    because := because || case
      when v_in_flight_until is not null
      then format('; S3 may still be at an earlier request to delete it, until %s at most', retention.iso(v_in_flight_until))
      else ''
    end;
  end if;
  return next;
end
$$;

CREATE FUNCTION retention.failures(p_batch_id bigint, p_failed jsonb, p_max_attempts integer) RETURNS TABLE(run_id retention.run_id, completed_at timestamp with time zone, due_at timestamp with time zone, code text, message text, transient boolean, is_dead boolean)
    LANGUAGE sql STABLE
    AS $$
  select e.run_id,
    e.completed_at,
    e.due_at,
    coalesce(f.code, 'Unanswered'),
    coalesce(f.message, 'the reply did not name this key'),
    coalesce(f.transient, f.run_id is null),
    not coalesce(f.transient, f.run_id is null)
      and (e.attempts + 1 >= p_max_attempts or coalesce(f.final, false))
  from retention.expired e
  left join jsonb_to_recordset(p_failed) as f (run_id text, code text, message text, transient boolean, final boolean)
    on f.run_id = e.run_id::text
  where e.batch_id = p_batch_id
$$;

CREATE FUNCTION retention.find_columns(p_table text, p_columns text) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    AS $$
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

CREATE FUNCTION retention.flag_expired(p_max_rows integer DEFAULT NULL::integer, p_asked_by text DEFAULT NULL::text, p_whole boolean DEFAULT false) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET work_mem TO '64MB'
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
  select * into strict v_setting from retention.setting;
  if not v_setting.enabled then
    return 0;
  end if;
  select * into v_beat from retention.heartbeat for update skip locked;
  if not found then
    return 0;
  end if;

  select coalesce(sum(b.results), 0)
  into v_backlog
  from retention.batch b
  where b.settled_at is null;
  v_left := least(coalesce(p_max_rows, v_setting.flag_limit), v_setting.backlog_limit - v_backlog);
  if v_left <= 0 then
    -- As if there had been no pass: the next tick looks again, whatever the interval.
    update retention.heartbeat set passed_at = null, more = false;
    return 0;
  end if;

  select count(*)
  into v_dead
  from (
    select
    from retention.expired e
    where e.dead_at is not null
    limit v_setting.small_backlog + 1
  ) d;
  if v_backlog + v_dead <= v_setting.small_backlog then
    perform retention.reclaim(v_setting);
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
    with tenant as materialized (
      select t.tenant_id,
        t.tenant_key,
        now() - retention.exactly(t.retain) as before,
        g.completed_at as after_completed_at,
        g.run_id as after_run_id
      from retention.tenants() t
      left join retention.progress g on g.tenant_key = t.tenant_key
    ),
    -- Tenants with more to look at share a part evenly, and the oldest results get what is over; who has
    -- more to give goes on in the next part, among fewer.
    sharing as materialized (
      select t.*,
        v_part_rows / count(*) over ()
          + (row_number() over (order by r.completed_at, r.run_id) <= v_part_rows % count(*) over ())::integer as share
      from tenant t
      cross join lateral retention.past(t.tenant_id, t.after_completed_at, t.after_run_id, t.before, 1) r
    ),
    -- What has a fixed width first, here and below: what comes behind a text has to be looked for in each
    -- row whenever it is compared.
    seen as materialized (
      select r.run_id,
        r.completed_at,
        r.due_at,
        r.due_at < now() and not r.held as is_due,
        r.bucket is not null and r.key <> '' as has_place,
        r.bucket,
        r.key,
        t.tenant_key
      from sharing t
      cross join lateral retention.past(
        t.tenant_id, t.after_completed_at, t.after_run_id, t.before, t.share
      ) r
    ),
    -- In the order of its bucket, each batch_size-th result begins a batch, and those up to the next
    -- belong to it. In the statement itself: a list of its own, or a second window, would keep all once more.
    -- Written in the order of the primary key, and what is flagged already is looked for just before:
    -- ids are random, and in any other order each would have to fetch its own page of that index, twice.
    flagged as (
      insert into retention.expired (run_id, batch_id, bucket, key, completed_at, due_at)
      select p.run_id, p.batch_id, p.bucket, p.key, p.completed_at, p.due_at
      from (
        select n.*
        from (
          select s.run_id,
            s.completed_at,
            s.due_at,
            s.bucket,
            s.key,
            case
              when (
                row_number() over (partition by s.bucket collate "C" order by s.completed_at, s.run_id) - 1
              ) % v_setting.batch_size = 0
              then nextval('retention.batch_batch_id_seq')
              else currval('retention.batch_batch_id_seq')
            end as batch_id
          from seen s
          where s.is_due
            and s.has_place
        ) n
        order by n.run_id
      ) p
      left join lateral (
        select true as is_flagged
        from retention.expired e
        where e.run_id = p.run_id
        limit 1
      ) f on true
      where f.is_flagged is null
      returning batch_id, bucket, completed_at, due_at
    ),
    made as (
      insert into retention.batch (batch_id, bucket, results, oldest, due_since)
      select f.batch_id, f.bucket, count(*), min(f.completed_at), min(f.due_at)
      from flagged f
      group by f.batch_id, f.bucket
      returning bucket, results, oldest
    ),
    known as (
      insert into retention.bucket (bucket)
      select distinct m.bucket
      from made m
      where not exists (select from retention.bucket k where k.bucket = m.bucket)
      on conflict do nothing
    ),
    given as materialized (
      select s.tenant_key,
        count(*) as results,
        max(s.completed_at) as completed_at
      from seen s
      group by s.tenant_key
    ),
    moved as (
      insert into retention.progress (tenant_key, completed_at, run_id)
      select distinct on (s.tenant_key) s.tenant_key, s.completed_at, s.run_id
      from seen s
      join given g on g.tenant_key = s.tenant_key
        and g.completed_at = s.completed_at
      order by s.tenant_key, s.run_id desc
      on conflict (tenant_key) do update
      set completed_at = excluded.completed_at,
        run_id = excluded.run_id
    )
    select coalesce(m.flagged, 0) as flagged,
      m.batches,
      m.oldest,
      n.*,
      exists (
        select
        from given g
        join sharing t on t.tenant_key = g.tenant_key
        where g.results >= t.share
      ) as more,
      (select count(*) from tenant) as tenants
    into v_part
    from (
      select sum(results) as flagged, count(*) as batches, min(oldest) as oldest
      from made
    ) m
    cross join (
      select count(*) as looked_at,
        count(*) filter (
          where case
            when s.is_due and s.has_place then false
            else (select true from retention.expired e where e.run_id = s.run_id limit 1) is null
          end
        ) as left_alone,
        count(*) filter (where s.is_due and not s.has_place) as without_place,
        coalesce(
          (array_agg(s.run_id::text order by s.completed_at) filter (where s.is_due and not s.has_place))[1:10],
          '{}'
        ) as without_place_run_ids
      from seen s
    ) n;

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

CREATE FUNCTION retention.flag_selected(p_tenant_id text DEFAULT NULL::text, p_run_ids text[] DEFAULT NULL::text[], p_older_than interval DEFAULT NULL::interval, p_early boolean DEFAULT false, p_limit bigint DEFAULT NULL::bigint, p_batch_size integer DEFAULT NULL::integer) RETURNS TABLE(batch_ids bigint[], newly_flagged bigint, selected bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
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
  if not v_setting.enabled then
    return query select '{}'::bigint[], 0::bigint, 0::bigint;
    return;
  end if;
  perform from retention.heartbeat for update;

  delete from retention.selection;
  insert into retention.selection (run_id, bucket, key, completed_at, due_at)
  select d.run_id, d.bucket, d.key, d.completed_at, d.due_at
  from retention.list_due(p_tenant_id, p_run_ids, p_older_than, p_early, p_limit) d;

  return query
  select g.batch_ids, g.newly_flagged, g.selected
  from retention.regroup(
    coalesce(p_batch_size, v_setting.batch_size), case when p_early then p_older_than end
  ) g;
end
$$;

CREATE FUNCTION retention.forget_strays(p_verify_id uuid) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  delete from retention.stray s
  where s.verify_id = p_verify_id
    or s.noted_at < now() - interval '2 days'
$$;

CREATE FUNCTION retention.give_back(p_batch_id bigint, p_lease uuid) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
begin
  update retention.batch b
  set lease = null,
    visible_at = now()
  where b.batch_id = p_batch_id
    and b.lease = p_lease;
  return found;
end
$$;

CREATE FUNCTION retention.grant_rights(p_role text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform retention.check_role(p_role);
  execute format('grant usage on schema retention to %I', p_role);
  execute format('grant select on all tables in schema retention to %I', p_role);
  if (select columns -> 'updated_at' ->> 'name' from retention.adapter) is null then
    execute format('grant update (cleared_at) on retention.result to %I', p_role);
  else
    execute format('grant update (cleared_at, updated_at) on retention.result to %I', p_role);
  end if;
  execute format(
    'grant execute on function
      retention.tick(text), retention.flag_expired(integer, text, boolean), retention.keep_house(),
      retention.claim(uuid, interval, text, bigint[], integer),
      retention.settle(bigint, uuid, retention.run_id[], jsonb, integer, retention.run_id[], integer),
      retention.postpone(bigint, uuid, text, text, retention.run_id[]),
      retention.split(bigint, uuid, retention.run_id[]), retention.give_back(bigint, uuid),
      retention.pulse(), retention.read_status(), retention.count_due(integer), retention.oldest_due(), retention.estimate_live(),
      retention.activity(integer), retention.tenants_due(integer, integer),
      retention.exactly(interval), retention.in_days(interval), retention.tenant_key(text),
      retention.list_due(text, text[], interval, boolean, bigint),
      retention.flag_selected(text, text[], interval, boolean, bigint, integer),
      retention.newly_due(text, interval), retention.newly_due_by_tenant(text, interval),
      retention.set_policy(text, interval, boolean), retention.unset_policy(text, boolean),
      retention.confirm_policy(text, bigint), retention.configure(jsonb),
      retention.place_hold(text, text, text, interval, text), retention.release_hold(bigint, text),
      retention.hold_end(timestamptz, timestamptz), retention.place_in_line(text), retention.iso(timestamptz),
      retention.retry(text[], text, text, text), retention.explain(text),
      retention.compare_listing(uuid, text, text, text, text, text[], bigint[], timestamptz[], timestamptz),
      retention.stamp_gone(text, text[], text[]), retention.sort_strays(uuid, timestamptz, interval),
      retention.requeue_returned(uuid, timestamptz),
      retention.next_orphans(uuid, text, text, interval, integer), retention.forget_strays(uuid),
      retention.note_bucket(text, text), retention.unstamp(text)
    to %I',
    p_role
  );
  update retention.adapter set listener_role = p_role;
end
$$;

CREATE FUNCTION retention.growing(p_base interval, p_cap interval, p_tries integer) RETURNS interval
    LANGUAGE sql
    AS $$
  select least(p_cap, p_base * power(2, least(p_tries, 30))) * (0.5 + random() / 2)
$$;

CREATE FUNCTION retention.guard_policy() RETURNS trigger
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
    new.retain := retention.in_days(new.retain);
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
    v_due := retention.newly_due(old.tenant_id, (select retain from retention.policy where tenant_id = '*'));
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
    v_due := retention.newly_due(new.tenant_id, new.retain);
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

CREATE FUNCTION retention.hold_end(p_released_at timestamp with time zone, p_expires_at timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN COALESCE(LEAST(p_released_at, p_expires_at), 'infinity'::timestamp with time zone);

CREATE FUNCTION retention.in_days(p_interval interval) RETURNS interval
    LANGUAGE sql IMMUTABLE
    RETURN (make_interval(days => (floor((EXTRACT(epoch FROM p_interval) / (86400)::numeric)))::integer) + make_interval(secs => ((EXTRACT(epoch FROM p_interval) - ((86400)::numeric * floor((EXTRACT(epoch FROM p_interval) / (86400)::numeric)))))::double precision));

CREATE FUNCTION retention.in_flight(p_run_id retention.run_id, p_tenant_id retention.tenant_id) RETURNS TABLE(run_id retention.run_id, until timestamp with time zone)
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
    select f.run_id, max(f.until)
    from (
      select p_run_id as run_id, b.visible_at + v_setting.unanswered_for as until
      from retention.expired e
      join retention.batch b on b.batch_id = e.batch_id
      where e.run_id = p_run_id
        and b.lease is not null
      union all
      select p_run_id, u.until
      from retention.unanswered u
      where u.run_id = p_run_id
      union all
      select p_run_id, b.visible_at + v_setting.unanswered_for
      from retention.batch b
      -- Kept apart: read the other way round, it would cost what is flagged.
      cross join lateral (
        select
        from retention.expired e
        where e.batch_id = b.batch_id
          and e.key = v_key collate "C"
        offset 0
      ) e
      where b.bucket = v_bucket
        and b.lease is not null
      union all
      select p_run_id, u.until
      from retention.unanswered u
      where u.key = v_key collate "C"
        and u.bucket = v_bucket
    ) f
    where f.until > clock_timestamp()
    group by f.run_id;
  else
    return query
    with asked as materialized (
      select e.run_id, e.bucket, e.key, b.visible_at + v_setting.unanswered_for as until
      from retention.batch b
      cross join lateral (
        select i.run_id, i.bucket, i.key
        from retention.expired i
        where i.batch_id = b.batch_id
        offset 0
      ) e
      where b.lease is not null
        and b.visible_at + v_setting.unanswered_for > clock_timestamp()
      union all
      select u.run_id, u.bucket, u.key, u.until
      from retention.unanswered u
      where u.until > clock_timestamp()
    )
    select f.run_id, max(f.until)
    from (
      select a.run_id, a.until
      from asked a
      join retention.result r on r.run_id = a.run_id
      where r.tenant_id = p_tenant_id
      union all
      select r.run_id::retention.run_id, a.until
      from asked a
      join retention.live r on r.key = a.key
        and r.bucket = a.bucket
      where v_setting.check_shared_objects
        and r.tenant_id = p_tenant_id
    ) f
    group by f.run_id;
  end if;
end
$$;

CREATE FUNCTION retention.instant(p_column jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
  select case
    when p_column is null or p_column = 'null' then 'null::timestamptz'
    when p_column ->> 'type' like 'timestamp%without time zone' then format('(%I at time zone ''UTC'')', p_column ->> 'name')
    when p_column ->> 'type' = 'date' then format('(%I::timestamp at time zone ''UTC'')', p_column ->> 'name')
    else format('%I', p_column ->> 'name')
  end
$$;

CREATE FUNCTION retention.iso(p_at timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN to_char((p_at AT TIME ZONE 'UTC'::text), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'::text);

CREATE FUNCTION retention.keep_house() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $_$
declare
  v_kept interval := (select history_kept from retention.setting);
begin
  delete from retention.batch where settled_at < now() - v_kept;
  delete from retention.scan where started_at < now() - v_kept;
  delete from retention.unanswered where until < now();
  -- A dead result whose run went on (another key, cleared by hand, deleted) is nobody's any more.
  delete from retention.expired e
  where e.dead_at is not null
    and not exists (
      select
      from retention.live r
      where r.run_id = e.run_id
        and r.key = e.key
        and r.bucket = e.bucket
    );
  if to_regclass('cron.job_run_details') is not null then
    begin
      execute $cron$
        delete from cron.job_run_details
        where jobid in (select jobid from cron.job where jobname = 'retention-tick' or jobname like 'retention-tick:%')
          and end_time < now() - interval '1 day'
      $cron$;
    exception
      when insufficient_privilege then
        null;
    end;
  end if;
  update retention.heartbeat set kept_house_at = clock_timestamp();
end
$_$;

CREATE FUNCTION retention.list_due(p_tenant_id text DEFAULT NULL::text, p_run_ids text[] DEFAULT NULL::text[], p_older_than interval DEFAULT NULL::interval, p_early boolean DEFAULT false, p_limit bigint DEFAULT NULL::bigint) RETURNS TABLE(run_id retention.run_id, tenant_id text, bucket text, key text, completed_at timestamp with time zone, due_at timestamp with time zone, early boolean)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  v_run_ids retention.run_id[];
begin
  if p_run_ids is not null then
    v_run_ids := array(select retention.read_run_id(i) from unnest(p_run_ids) i);
    return query
    select r.run_id::retention.run_id, r.tenant_id::text, r.bucket::text, r.key::text, r.completed_at, r.due_at, r.due_at >= now()
    from retention.live r
    where r.run_id = any (v_run_ids)
      and r.status = 'COMPLETED'
      and (p_tenant_id is null or r.tenant_id::text = p_tenant_id)
      and (p_older_than is null or r.completed_at < now() - retention.exactly(p_older_than))
      and (r.due_at < now() or p_early and coalesce(r.retain_until, '-infinity') < now())
      and retention.may_be_due(r.run_id, r.bucket, r.key, r.held)
    limit p_limit;
  else
    return query
    select s.run_id, t.tenant_id::text, s.bucket, s.key, s.completed_at, s.due_at, s.due_at >= now()
    from retention.tenants() t
    cross join lateral retention.look(
      t.tenant_id,
      null,
      null,
      now() - retention.exactly(
        case when p_early then p_older_than else greatest(t.retain, coalesce(p_older_than, t.retain)) end
      ),
      null
    ) s
    where (p_tenant_id is null or t.tenant_id::text = p_tenant_id)
      and (s.due_at < now() or p_early and coalesce(s.retain_until, '-infinity') < now())
      and retention.may_be_due(s.run_id, s.bucket, s.key, s.held)
    limit p_limit;
  end if;
end
$$;

CREATE FUNCTION retention.look(p_tenant_id retention.tenant_id, p_after_completed_at timestamp with time zone, p_after_run_id retention.run_id, p_before timestamp with time zone, p_limit bigint) RETURNS TABLE(run_id retention.run_id, bucket text, key text, completed_at timestamp with time zone, retain_until timestamp with time zone, due_at timestamp with time zone, held boolean, flagged boolean)
    LANGUAGE plpgsql STABLE
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
  select r.run_id,
    r.bucket,
    r.key,
    r.completed_at,
    r.retain_until,
    r.due_at,
    r.held,
    coalesce(f.flagged, false)
  from retention.past(p_tenant_id, p_after_completed_at, p_after_run_id, p_before, p_limit) r
  left join lateral (
    select true as flagged
    from retention.expired e
    where e.run_id = r.run_id
    limit 1
  ) f on true;
end
$$;

CREATE FUNCTION retention.may_be_due(p_run_id retention.run_id, p_bucket text, p_key text, p_held boolean) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
  select p_bucket is not null
    and p_key <> ''
    and not p_held
    and not exists (
      select
      from retention.expired e
      where e.run_id = p_run_id
        and e.dead_at is not null
    )
    and (
      not (select s.check_shared_objects from retention.setting s)
      or not exists (
        select
        from retention.live o
        where o.key = p_key collate "C"
          and o.bucket = p_bucket
          and o.run_id <> p_run_id
          and (o.due_at is null or o.due_at >= now() or o.held)
      )
    )
$$;

CREATE FUNCTION retention.newly_due(p_tenant_id text, p_retain interval) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select coalesce(sum(n.results), 0)::bigint
  from retention.newly_due_by_tenant(p_tenant_id, p_retain) n
$$;

CREATE FUNCTION retention.newly_due_by_tenant(p_tenant_id text, p_retain interval) RETURNS TABLE(tenant_id text, results bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
begin
  return query
  select t.tenant_id::text, c.results
  from retention.tenants() t
  left join retention.policy p on p.tenant_id = t.tenant_id::text
    and p.tenant_id <> '*'
  cross join lateral (
    select count(*) as results
    from retention.look(
      t.tenant_id, now() - retention.exactly(t.retain), null, now() - retention.exactly(p_retain), null
    ) r
    where not r.held
      and not r.flagged
      and coalesce(r.retain_until, '-infinity') < now()
  ) c
  where p_retain < t.retain
    and (t.tenant_id::text = p_tenant_id or p_tenant_id = '*' and p.tenant_id is null)
    and c.results > 0;
end
$$;

CREATE FUNCTION retention.next_batch(p_batch_ids bigint[]) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
declare
  v_bucket record;
  v_batch_id bigint;
  v_ran_out_at timestamptz;
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
      select b.batch_id, case when b.lease is not null then b.visible_at end
      into v_batch_id, v_ran_out_at
      from retention.batch b
      where b.bucket = v_bucket.bucket
        and b.settled_at is null
        and b.visible_at <= clock_timestamp()
      order by b.visible_at, b.batch_id
      limit 1
      for update skip locked;
    else
      select b.batch_id, case when b.lease is not null then b.visible_at end
      into v_batch_id, v_ran_out_at
      from retention.batch b
      where b.batch_id = any (p_batch_ids)
        and b.bucket = v_bucket.bucket
        and b.settled_at is null
        and b.visible_at <= clock_timestamp()
      order by b.visible_at, b.batch_id
      limit 1
      for update skip locked;
    end if;
    if v_ran_out_at is not null then
      perform retention.note_unanswered(v_batch_id, null, v_ran_out_at);
    end if;
    if v_batch_id is not null then
      return v_batch_id;
    end if;
  end loop;
  return null;
end
$$;

CREATE FUNCTION retention.next_orphans(p_verify_id uuid, p_bucket text, p_after text, p_margin interval, p_limit integer) RETURNS TABLE(key text, bytes bigint, modified_at timestamp with time zone, still_orphan boolean)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    AS $$
  select s.key, s.bytes, s.modified_at, not exists (
    select
    from retention.live r
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

CREATE FUNCTION retention.note_unanswered(p_batch_id bigint, p_run_ids retention.run_id[], p_sent_at timestamp with time zone) RETURNS void
    LANGUAGE sql
    AS $$
  insert into retention.unanswered (run_id, bucket, key, until)
  select e.run_id, e.bucket, e.key, p_sent_at + s.unanswered_for
  from retention.expired e
  cross join retention.setting s
  where p_sent_at + s.unanswered_for > clock_timestamp()
    and e.batch_id = p_batch_id
    and (p_run_ids is null or e.run_id = any (p_run_ids))
  order by e.run_id
  on conflict (run_id, bucket, key) do update
  set until = greatest(excluded.until, unanswered.until)
$$;

CREATE FUNCTION retention.note_unanswered_in(p_batch_id bigint, p_run_ids retention.run_id[]) RETURNS void
    LANGUAGE sql
    AS $$
  select retention.note_unanswered(p_batch_id, p_run_ids, clock_timestamp())
  where cardinality(p_run_ids) > 0
$$;

CREATE FUNCTION retention.oldest_due() RETURNS TABLE(completed_at timestamp with time zone, due_at timestamp with time zone)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
  select min(o.completed_at), min(o.due_at)
  from retention.tenants() t
  left join retention.progress g on g.tenant_key = t.tenant_key
  cross join lateral (
    select r.completed_at, r.due_at
    from retention.look(
      t.tenant_id, g.completed_at, g.run_id, now() - retention.exactly(t.retain), 1000
    ) r
    where r.due_at < now()
      and not r.held
      and not r.flagged
      and r.bucket is not null
      and r.key <> ''
    limit 1
  ) o
$$;

CREATE FUNCTION retention.parse_columns(p_columns text) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE
    AS $_$
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
$_$;

CREATE FUNCTION retention.place_in_line(p_run_id text) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (((hashtextextended(p_run_id, (0)::bigint) & (65535)::bigint))::double precision / (65536)::double precision);

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

CREATE TABLE retention.setting (
    singleton boolean DEFAULT true NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
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
    default_bucket text,
    check_shared_objects boolean DEFAULT true NOT NULL,
    policy_guard integer DEFAULT 1000 NOT NULL,
    release_spread interval DEFAULT '01:00:00'::interval NOT NULL,
    unanswered_for interval DEFAULT '00:15:00'::interval NOT NULL,
    reclaim_over integer DEFAULT 16777216 NOT NULL,
    statements_at_once integer DEFAULT 2 NOT NULL,
    CONSTRAINT a_batch_fits_one_delete_objects_request CHECK (((batch_size >= 1) AND (batch_size <= 1000))),
    CONSTRAINT backlog_limit_is_positive CHECK ((backlog_limit > 0)),
    CONSTRAINT default_bucket_is_not_empty CHECK ((default_bucket <> ''::text)),
    CONSTRAINT flag_limit_is_positive CHECK ((flag_limit > 0)),
    CONSTRAINT loop_interval_is_at_least_a_second CHECK ((loop_interval >= '00:00:01'::interval)),
    CONSTRAINT max_attempts_is_positive CHECK ((max_attempts > 0)),
    CONSTRAINT policy_guard_is_not_negative CHECK ((policy_guard >= 0)),
    CONSTRAINT reclaim_over_is_not_negative CHECK ((reclaim_over >= 0)),
    CONSTRAINT small_backlog_is_not_negative CHECK ((small_backlog >= 0)),
    CONSTRAINT statements_at_once_is_positive CHECK ((statements_at_once > 0)),
    CONSTRAINT there_is_one_setting_row CHECK (singleton),
    CONSTRAINT unanswered_for_is_not_negative CHECK ((unanswered_for >= '00:00:00'::interval))
);

COMMENT ON COLUMN retention.setting.enabled IS 'false: nothing is flagged and nothing is claimed; status, dry runs and holds work';

COMMENT ON COLUMN retention.setting.loop_interval IS 'how often a tick flags; the tick itself comes every minute';

COMMENT ON COLUMN retention.setting.sweep_interval IS 'how often, at least, a pass starts from the oldest result again instead of going on from its progress';

COMMENT ON COLUMN retention.setting.small_backlog IS 'with no more than this many results behind its progress, every pass starts from the oldest';

COMMENT ON COLUMN retention.setting.default_bucket IS 'the bucket of results whose row names none';

COMMENT ON COLUMN retention.setting.check_shared_objects IS 'false gives up: two runs on one key, one due and one not, lose the object';

COMMENT ON COLUMN retention.setting.policy_guard IS 'a policy that makes more live results than this due at once waits for a confirmation';

COMMENT ON COLUMN retention.setting.release_spread IS 'over how long the results of a tenant come back after a hold on it has ended';

COMMENT ON COLUMN retention.setting.unanswered_for IS 'how long S3 may still perform a request that got no answer: it takes none whose signature is older than 15 minutes';

COMMENT ON COLUMN retention.setting.reclaim_over IS 'how many bytes retention.expired may take before a pass that finds next to nothing in it starts it anew';

COMMENT ON COLUMN retention.setting.statements_at_once IS 'while so many claims and settles of others are at work, a listener goes down to one batch at a time, with pauses';

CREATE VIEW retention.live AS
 SELECT r.run_id,
    r.tenant_id,
    r.status,
    r.completed_at,
    r.retain_until,
    COALESCE(NULLIF(r.bucket, ''::text), ( SELECT s.default_bucket
           FROM retention.setting s)) AS bucket,
    (r.key COLLATE "C") AS key,
    (r.key IS NOT NULL) AS has_key,
    COALESCE(p.retain, ( SELECT d.retain
           FROM retention.policy d
          WHERE (d.tenant_id = '*'::text))) AS retain,
        CASE
            WHEN ((r.status = 'COMPLETED'::text) AND (r.completed_at IS NOT NULL) AND (EXISTS ( SELECT
               FROM retention.policy d
              WHERE (d.tenant_id = '*'::text)))) THEN GREATEST((r.completed_at + COALESCE(retention.exactly(p.retain), ( SELECT retention.exactly(d.retain) AS exactly
               FROM retention.policy d
              WHERE (d.tenant_id = '*'::text)))), r.retain_until)
            ELSE NULL::timestamp with time zone
        END AS due_at,
    ((EXISTS ( SELECT
           FROM retention.hold)) AND ((EXISTS ( SELECT
           FROM retention.hold h
          WHERE (((h.run_id)::uuid = r.run_id) AND (retention.hold_end(h.released_at, h.expires_at) > now())))) OR (EXISTS ( SELECT
           FROM retention.hold h
          WHERE ((h.tenant_id = r.tenant_id) AND ((retention.hold_end(h.released_at, h.expires_at) + (( SELECT s.release_spread
                   FROM retention.setting s) * retention.place_in_line((r.run_id)::text))) > now())))))) AS held
   FROM (retention.result r
     LEFT JOIN retention.policy p ON (((p.tenant_id = r.tenant_id) AND (p.tenant_id <> '*'::text))))
  WHERE (r.cleared_at IS NULL);

CREATE FUNCTION retention.past(p_tenant_id retention.tenant_id, p_after_completed_at timestamp with time zone, p_after_run_id retention.run_id, p_before timestamp with time zone, p_limit bigint) RETURNS TABLE(run_id retention.run_id, bucket text, key text, completed_at timestamp with time zone, retain_until timestamp with time zone, due_at timestamp with time zone, held boolean)
    LANGUAGE sql STABLE
    BEGIN ATOMIC
( SELECT (r.run_id)::retention.run_id AS run_id,
     r.bucket,
     r.key,
     r.completed_at,
     r.retain_until,
     r.due_at,
     r.held
    FROM retention.live r
   WHERE ((r.tenant_id = (past.p_tenant_id)::text) AND (r.status = 'COMPLETED'::text) AND r.has_key AND (r.completed_at < past.p_before) AND (ROW(r.completed_at, r.run_id) > ROW(COALESCE(past.p_after_completed_at, '-infinity'::timestamp with time zone), (past.p_after_run_id)::uuid)))
   ORDER BY r.tenant_id, r.completed_at, r.run_id
  LIMIT past.p_limit)
 UNION ALL
 ( SELECT (r.run_id)::retention.run_id AS run_id,
     r.bucket,
     r.key,
     r.completed_at,
     r.retain_until,
     r.due_at,
     r.held
    FROM retention.live r
   WHERE ((past.p_tenant_id IS NULL) AND (r.tenant_id IS NULL) AND (r.status = 'COMPLETED'::text) AND r.has_key AND (r.completed_at < past.p_before) AND (ROW(r.completed_at, r.run_id) > ROW(COALESCE(past.p_after_completed_at, '-infinity'::timestamp with time zone), (past.p_after_run_id)::uuid)))
   ORDER BY r.tenant_id, r.completed_at, r.run_id
  LIMIT past.p_limit);
END;

CREATE FUNCTION retention.pause_bucket(p_bucket text, p_code text, p_error text) RETURNS timestamp with time zone
    LANGUAGE plpgsql
    AS $$
declare
  v_setting retention.setting;
  v_until timestamptz;
begin
  select * into strict v_setting from retention.setting;
  update retention.bucket k
  set paused_until = clock_timestamp() + retention.growing(v_setting.pause_base, v_setting.pause_cap, k.pauses),
    pauses = k.pauses + 1,
    pause_code = left(p_code, 64),
    pause_error = left(p_error, 500)
  where k.bucket = p_bucket
    and (k.paused_until is null or k.paused_until <= clock_timestamp());
  select k.paused_until into v_until from retention.bucket k where k.bucket = p_bucket;
  return v_until;
end
$$;

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
    v_run_id := retention.read_run_id(p_run_id);
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
      from retention.result r
      where r.tenant_id = v_tenant_id
        and r.cleared_at is null
        and r.status = 'COMPLETED'
        and r.key is not null
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
  from retention.in_flight(v_run_id, v_tenant_id) f;
end
$$;

CREATE FUNCTION retention.postpone(p_batch_id bigint, p_lease uuid, p_code text, p_message text, p_unanswered retention.run_id[] DEFAULT '{}'::retention.run_id[]) RETURNS timestamp with time zone
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
  perform retention.note_unanswered_in(p_batch_id, p_unanswered);
  v_until := greatest(retention.pause_bucket(v_batch.bucket, p_code, p_message), clock_timestamp());
  update retention.batch b
  set lease = null,
    visible_at = v_until,
    postponed = b.postponed + 1,
    problems = jsonb_build_array(jsonb_build_object(
      'code', left(p_code, 64),
      'message', left(p_message, 500),
      'results', b.results,
      'run_ids', (
        select coalesce(jsonb_agg(i.run_id), '[]')
        from (select e.run_id::text from retention.expired e where e.batch_id = p_batch_id limit 3) i
      ),
      'retry_at', retention.iso(v_until)
    ))
  where b.batch_id = p_batch_id;
  return v_until;
end
$$;

CREATE FUNCTION retention.pulse() RETURNS TABLE(enabled boolean, scheduler text, visible_now boolean, next_visible_seconds double precision, more boolean, ticked_seconds_ago double precision, ticked_by text, last_scan_id bigint)
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
      order by b.visible_at
      limit 1
    ) f
  )
  select s.enabled,
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

CREATE FUNCTION retention.read_run_id(p_run_id text) RETURNS retention.run_id
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

CREATE TABLE retention.adapter (
    singleton boolean DEFAULT true NOT NULL,
    table_name text NOT NULL,
    columns jsonb NOT NULL,
    added_cleared_at boolean NOT NULL,
    scheduler text NOT NULL,
    cron_database text,
    cron_job_owner text,
    listener_role text,
    CONSTRAINT scheduler_is_known CHECK ((scheduler = ANY (ARRAY['pg_cron'::text, 'internal'::text]))),
    CONSTRAINT there_is_one_adapter_row CHECK (singleton)
);

CREATE TABLE retention.batch (
    batch_id bigint NOT NULL,
    bucket text NOT NULL,
    results integer NOT NULL,
    oldest timestamp with time zone,
    due_since timestamp with time zone,
    early interval,
    flagged_at timestamp with time zone DEFAULT now() NOT NULL,
    visible_at timestamp with time zone DEFAULT now() NOT NULL,
    lease uuid,
    leased_at timestamp with time zone,
    leased_by text,
    attempts integer DEFAULT 0 NOT NULL,
    postponed integer DEFAULT 0 NOT NULL,
    cleared integer DEFAULT 0 NOT NULL,
    spared integer DEFAULT 0 NOT NULL,
    failed integer DEFAULT 0 NOT NULL,
    dead integer DEFAULT 0 NOT NULL,
    problems jsonb,
    ms integer,
    settled_at timestamp with time zone,
    CONSTRAINT a_batch_has_at_most_1000_results CHECK (((results >= 0) AND (results <= 1000))),
    CONSTRAINT a_settled_batch_has_no_lease CHECK (((settled_at IS NULL) OR (lease IS NULL)))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_cost_delay='0');

COMMENT ON COLUMN retention.batch.early IS 'a cutoff confirmed by a person that stands in for the policy, for this batch';

COMMENT ON COLUMN retention.batch.visible_at IS 'when it may be claimed: its retry time, or, while leased, the deadline of the lease';

COMMENT ON COLUMN retention.batch.problems IS 'what its last attempt ran into: [{"code", "message", "results", "run_ids", "retry_at"}]';

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

CREATE TABLE retention.expired (
    run_id retention.run_id NOT NULL,
    batch_id bigint,
    bucket text NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    completed_at timestamp with time zone NOT NULL,
    due_at timestamp with time zone NOT NULL,
    flagged_at timestamp with time zone DEFAULT now() NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    last_code text,
    last_error text,
    failed_at timestamp with time zone,
    dead_at timestamp with time zone,
    CONSTRAINT a_dead_result_is_in_no_batch CHECK (((dead_at IS NULL) = (batch_id IS NOT NULL)))
)
WITH (autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_cost_delay='0');

CREATE TABLE retention.heartbeat (
    singleton boolean DEFAULT true NOT NULL,
    ticked_at timestamp with time zone,
    ticked_by text,
    passed_at timestamp with time zone,
    more boolean DEFAULT false NOT NULL,
    swept_at timestamp with time zone,
    left_alone integer DEFAULT 0 NOT NULL,
    kept_house_at timestamp with time zone,
    CONSTRAINT there_is_one_heartbeat_row CHECK (singleton)
)
WITH (fillfactor='20');

COMMENT ON COLUMN retention.heartbeat.more IS 'the last pass hit a limit: the next tick need not wait for the interval';

COMMENT ON COLUMN retention.heartbeat.swept_at IS 'when a pass last started from the oldest result';

COMMENT ON COLUMN retention.heartbeat.left_alone IS 'results past their policy that passes since then went by: held, without a place, or under retain_until';

CREATE VIEW retention.status_now AS
 SELECT s.enabled,
    retention.estimate_live() AS live_estimate,
    (q.due_unflagged + w.flagged) AS due,
    (q.due_unflagged >= 10000) AS due_is_capped,
    w.flagged,
    w.leased,
    w.failed,
    x.dead,
    y.held,
    z.cleared_today,
    z.spared_today,
    LEAST(w.oldest, u.completed_at) AS oldest_due,
    w.batches,
    k.buckets_paused,
    h.ticked_at AS last_tick,
    h.passed_at AS last_pass,
    a.scheduler,
        CASE
            WHEN (NOT s.enabled) THEN 'disabled'::text
            WHEN (h.ticked_at IS NULL) THEN 'never ticked'::text
            WHEN (h.ticked_at < (now() - '00:05:00'::interval)) THEN 'silent'::text
            WHEN ((a.scheduler = 'pg_cron'::text) AND (h.ticked_by = 'listener'::text)) THEN 'silent'::text
            ELSE 'ok'::text
        END AS scheduler_health,
    (EXTRACT(epoch FROM s.loop_interval))::bigint AS loop_interval_seconds,
    ((EXTRACT(epoch FROM d.retain) / (86400)::numeric))::double precision AS default_retain_days,
    v.policies_pending,
    v.policy_pending,
    LEAST(w.due_since, u.due_at) AS due_since
   FROM (((((((((((retention.setting s
     CROSS JOIN retention.heartbeat h)
     CROSS JOIN retention.adapter a)
     JOIN retention.policy d ON ((d.tenant_id = '*'::text)))
     CROSS JOIN LATERAL ( SELECT retention.count_due(10000) AS due_unflagged) q)
     CROSS JOIN LATERAL ( SELECT COALESCE(sum(b.results), (0)::bigint) AS flagged,
            COALESCE(sum(b.results) FILTER (WHERE ((b.lease IS NOT NULL) AND (b.visible_at > now()))), (0)::bigint) AS leased,
            COALESCE(sum(b.results) FILTER (WHERE (b.attempts > 0)), (0)::bigint) AS failed,
            count(*) AS batches,
            min(b.oldest) AS oldest,
            min(b.due_since) AS due_since
           FROM retention.batch b
          WHERE (b.settled_at IS NULL)) w)
     CROSS JOIN LATERAL ( SELECT count(*) AS dead
           FROM retention.expired e
          WHERE (e.dead_at IS NOT NULL)) x)
     CROSS JOIN LATERAL ( SELECT count(*) AS held
           FROM retention.hold o
          WHERE (retention.hold_end(o.released_at, o.expires_at) > now())) y)
     CROSS JOIN LATERAL ( SELECT COALESCE(sum(b.cleared), (0)::bigint) AS cleared_today,
            COALESCE(sum(b.spared), (0)::bigint) AS spared_today
           FROM retention.batch b
          WHERE (b.settled_at >= date_trunc('day'::text, now(), 'UTC'::text))) z)
     CROSS JOIN LATERAL ( SELECT count(*) AS buckets_paused
           FROM retention.bucket c
          WHERE (c.paused_until > now())) k)
     CROSS JOIN LATERAL ( SELECT count(*) AS policies_pending,
            string_agg(format('tenant %s: %s instead of %s would make %s results due at once'::text, p.tenant_id, p.pending_retain, p.retain, p.pending_results), '; '::text) AS policy_pending
           FROM retention.policy p
          WHERE (p.pending_retain IS NOT NULL)) v)
     LEFT JOIN LATERAL ( SELECT o.completed_at,
            o.due_at
           FROM retention.oldest_due() o(completed_at, due_at)
          WHERE (q.due_unflagged > 0)) u ON (true));

CREATE FUNCTION retention.read_status() RETURNS SETOF retention.status_now
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
  select * from retention.status_now
$$;

CREATE FUNCTION retention.recheck(p_batch_id bigint, p_early interval, p_shared boolean) RETURNS TABLE(run_id retention.run_id, key text, may_go boolean)
    LANGUAGE plpgsql STABLE
    AS $$
#variable_conflict use_column
begin
  -- The aggregates keep this a probe by key, or by run id: joined to the view as a whole, it is a scan.
  if p_shared then
    return query
    select e.run_id, e.key, coalesce(o.may_go, false)
    from retention.expired e
    left join lateral (
      -- By its key, one probe finds the run itself and whoever else needs the object.
      select bool_or(r.run_id = e.run_id and r.completed_at = e.completed_at)
        and bool_and(
          not r.held
          and case
            when p_early is null or r.run_id <> e.run_id then coalesce(r.due_at < now(), false)
            else r.status = 'COMPLETED'
              and greatest(r.completed_at + retention.exactly(p_early), r.retain_until) < now()
          end
        ) as may_go
      from retention.live r
      where r.key = e.key
        and r.bucket = e.bucket
    ) o on true
    where e.batch_id = p_batch_id;
  else
    return query
    select e.run_id, e.key, coalesce(o.may_go, false)
    from retention.expired e
    left join lateral (
      select bool_and(
        not r.held
        and case
          when p_early is null then coalesce(r.due_at < now(), false)
          else r.status = 'COMPLETED'
            and greatest(r.completed_at + retention.exactly(p_early), r.retain_until) < now()
        end
      ) as may_go
      from retention.live r
      where r.run_id = e.run_id
        and r.key = e.key
        and r.bucket = e.bucket
        and r.completed_at = e.completed_at
    ) o on true
    where e.batch_id = p_batch_id;
  end if;
end
$$;

CREATE FUNCTION retention.reclaim(p_setting retention.setting) RETURNS boolean
    LANGUAGE plpgsql
    SET lock_timeout TO '200ms'
    AS $$
declare
  v_kept retention.expired[];
begin
  if pg_table_size('retention.expired') <= p_setting.reclaim_over then
    return false;
  end if;
  lock table retention.expired in access exclusive mode;
  -- A claim locks the table before it looks at its results, so from here on none begins; a settle
  -- wants a lease that was there before.
  if exists (select from retention.batch b where b.lease is not null) then
    -- Rolls the lock back.
    raise lock_not_available;
  end if;
  v_kept := array(
    select e
    from retention.batch b
    join retention.expired e on e.batch_id = b.batch_id
    where b.settled_at is null
    union all
    select e
    from retention.expired e
    where e.dead_at is not null
  );
  truncate retention.expired;
  insert into retention.expired
  select k.*
  from unnest(v_kept) k;
  return true;
exception
  when lock_not_available then
    return false;
end
$$;

CREATE FUNCTION retention.regroup(p_batch_size integer, p_early interval) RETURNS TABLE(batch_ids bigint[], newly_flagged bigint, selected bigint)
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_column
declare
  v_batch_ids bigint[];
  v_flagged bigint;
  v_taken bigint;
begin
  -- What is leased stays where it is: somebody works on it.
  perform
  from retention.batch b
  where b.settled_at is null
    and b.batch_id in (
      select e.batch_id
      from retention.expired e
      join retention.selection s on s.run_id = e.run_id
    )
  order by b.batch_id
  for update;
  delete from retention.selection s
  using retention.expired e, retention.batch b
  where e.run_id = s.run_id
    and b.batch_id = e.batch_id
    and b.lease is not null
    and b.visible_at > clock_timestamp();

  update retention.selection s
  set batch_id = p.batch_id
  from (
    select q.run_id,
      first_value(q.id) over (partition by q.bucket, q.part order by q.place) as batch_id
    from (
      select n.*,
        case when (n.place - 1) % p_batch_size = 0
          then nextval('retention.batch_batch_id_seq')
        end as id
      from (
        select t.run_id,
          t.bucket,
          row_number() over (partition by t.bucket order by t.completed_at, t.run_id) as place,
          (row_number() over (partition by t.bucket order by t.completed_at, t.run_id) - 1)
            / p_batch_size as part
        from retention.selection t
      ) n
    ) q
  ) p
  where p.run_id = s.run_id;

  -- Of a batch whose lease has run out, also those that stay: it loses its lease here.
  perform retention.note_unanswered(b.batch_id, null, b.visible_at)
  from retention.batch b
  where b.lease is not null
    and b.batch_id in (
      select e.batch_id
      from retention.expired e
      join retention.selection s on s.run_id = e.run_id
    );
  with taken as (
    select e.batch_id, count(*) as results
    from retention.expired e
    join retention.selection s on s.run_id = e.run_id
    group by e.batch_id
  )
  update retention.batch b
  set results = b.results - t.results,
    lease = null,
    visible_at = case when b.lease is null then b.visible_at else clock_timestamp() end
  from taken t
  where b.batch_id = t.batch_id;
  update retention.expired e
  set batch_id = s.batch_id,
    completed_at = s.completed_at,
    due_at = s.due_at,
    bucket = s.bucket,
    key = s.key,
    dead_at = null
  from retention.selection s
  where e.run_id = s.run_id;
  get diagnostics v_taken = row_count;
  delete from retention.batch b where b.settled_at is null and b.results = 0;

  insert into retention.expired (run_id, batch_id, bucket, key, completed_at, due_at)
  select s.run_id, s.batch_id, s.bucket, s.key, s.completed_at, s.due_at
  from retention.selection s
  where not exists (select from retention.expired e where e.run_id = s.run_id);
  get diagnostics v_flagged = row_count;
  insert into retention.bucket (bucket)
  select distinct s.bucket
  from retention.selection s
  on conflict do nothing;
  with made as (
    insert into retention.batch (batch_id, bucket, results, oldest, due_since, early)
    select s.batch_id, s.bucket, count(*), min(s.completed_at), min(s.due_at), p_early
    from retention.selection s
    group by s.batch_id, s.bucket
    order by s.batch_id
    returning batch_id
  )
  select coalesce(array_agg(m.batch_id), '{}') into v_batch_ids from made m;
  delete from retention.selection;
  return query select v_batch_ids, v_flagged, v_flagged + v_taken;
end
$$;

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

CREATE FUNCTION retention.retry(p_run_ids text[] DEFAULT NULL::text[], p_tenant_id text DEFAULT NULL::text, p_bucket text DEFAULT NULL::text, p_code text DEFAULT NULL::text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  v_run_ids retention.run_id[];
  v_revived bigint;
  v_batch_ids bigint[];
begin
  v_run_ids := array(select retention.read_run_id(i) from unnest(p_run_ids) i);
  perform from retention.heartbeat for update;
  delete from retention.selection;
  insert into retention.selection (run_id, bucket, key, completed_at, due_at)
  select e.run_id, e.bucket, e.key, e.completed_at, e.due_at
  from retention.expired e
  where e.failed_at is not null
    and (p_run_ids is null or e.run_id = any (v_run_ids))
    and (p_bucket is null or e.bucket = p_bucket)
    and (p_code is null or e.last_code = p_code)
    and (
      p_tenant_id is null
      or exists (
        select
        from retention.result r
        where r.run_id = e.run_id
          and r.tenant_id::text = p_tenant_id
      )
    );
  select g.batch_ids, g.selected
  into v_batch_ids, v_revived
  from retention.regroup((select s.batch_size from retention.setting s), null) g;
  update retention.expired e
  set attempts = 0,
    failed_at = null
  where e.batch_id = any (v_batch_ids);
  return v_revived;
end
$$;

CREATE FUNCTION retention.schedule_tick() RETURNS text
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

CREATE FUNCTION retention.set_aside(p_verify_id uuid, p_bucket text, p_keys text[], p_bytes bigint[], p_modified timestamp with time zone[]) RETURNS void
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
    from retention.live r
    where r.key = k.key collate "C"
      and r.key >= p_keys[1] collate "C"
      and r.key <= p_keys[cardinality(p_keys)] collate "C"
      and r.bucket = p_bucket
  )
  on conflict do nothing;
end
$$;

CREATE FUNCTION retention.set_policy(p_tenant_id text, p_retain interval, p_confirm boolean DEFAULT false) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_retain interval := retention.in_days(p_retain);
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
  v_due := retention.newly_due(p_tenant_id, v_retain);
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

CREATE FUNCTION retention.settle(p_batch_id bigint, p_lease uuid, p_cleared retention.run_id[], p_failed jsonb DEFAULT '[]'::jsonb, p_ms integer DEFAULT NULL::integer, p_unanswered retention.run_id[] DEFAULT '{}'::retention.run_id[], p_ours integer DEFAULT 0) RETURNS TABLE(settled boolean, cleared integer, stamped integer, failed integer, dead integer, retry_at timestamp with time zone, crowded boolean)
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
  v_stamped bigint := 0;
  v_cleared bigint := 0;
  v_retry_at timestamptz;
  v_failed bigint := 0;
  v_dead bigint := 0;
  v_problems jsonb := '[]';
  v_refusal text;
  v_part record;
  v_batch_id bigint;
  v_crowded boolean;
begin
  select * into v_batch
  from retention.batch b
  where b.batch_id = p_batch_id
    and b.lease = p_lease
  for update;
  if not found then
    return query select false, 0, 0, 0, 0, null::timestamptz, false;
    return;
  end if;
  select * into strict v_setting from retention.setting;
  v_crowded := not retention.take_place(v_setting, p_ours);

  if cardinality(p_unanswered) > 0 then
    perform retention.note_unanswered_in(p_batch_id, p_unanswered);
  end if;
  if cardinality(p_cleared) > 0 then
    select s.cleared, s.stamped
    into v_cleared, v_stamped
    from retention.stamp(p_batch_id, v_batch.bucket, p_cleared, v_setting.default_bucket) s;
  end if;

  if v_cleared < v_batch.results then
    -- The counted and the uncounted go on in batches of their own, each with its own pause.
    for v_part in
      select f.transient,
        f.is_dead,
        count(*) as results,
        array_agg(f.run_id) as run_ids,
        min(f.completed_at) as oldest,
        min(f.due_at) as due_since
      from retention.failures(p_batch_id, p_failed, v_setting.max_attempts) f
      group by f.transient, f.is_dead
    loop
      v_batch_id := null;
      if v_part.is_dead then
        v_dead := v_dead + v_part.results;
      else
        v_failed := v_failed + v_part.results;
        v_retry_at := clock_timestamp() + retention.growing(
          case when v_part.transient then v_setting.pause_base else v_setting.retry_base end,
          v_setting.retry_cap,
          case when v_part.transient then v_batch.postponed else v_batch.attempts end
        );
        insert into retention.batch (
          bucket, results, oldest, due_since, early, flagged_at, visible_at, attempts, postponed
        )
        values (
          v_batch.bucket,
          v_part.results,
          v_part.oldest,
          v_part.due_since,
          v_batch.early,
          v_batch.flagged_at,
          v_retry_at,
          v_batch.attempts + case when v_part.transient then 0 else 1 end,
          v_batch.postponed + case when v_part.transient then 1 else 0 end
        )
        returning batch_id into v_batch_id;
      end if;
      select v_problems || coalesce(jsonb_agg(p.problem), '[]')
      into v_problems
      from (
        select jsonb_build_object(
          'code', f.code,
          'message', min(f.message),
          'results', count(*),
          'run_ids', (array_agg(f.run_id::text order by f.run_id))[1:3],
          'retry_at', retention.iso(v_retry_at),
          'dead', v_part.is_dead
        ) - case when v_part.is_dead then 'retry_at' else '' end as problem
        from retention.failures(p_batch_id, p_failed, v_setting.max_attempts) f
        where f.run_id = any (v_part.run_ids)
        group by f.code
      ) p;
      update retention.expired e
      set attempts = e.attempts + case when v_part.transient then 0 else 1 end,
        last_code = left(f.code, 64),
        last_error = left(f.message, 500),
        failed_at = clock_timestamp(),
        batch_id = v_batch_id,
        dead_at = case when v_part.is_dead then clock_timestamp() end
      from retention.failures(p_batch_id, p_failed, v_setting.max_attempts) f
      where e.run_id = f.run_id
        and e.run_id = any (v_part.run_ids);
    end loop;
  end if;

  if v_cleared > 0 then
    update retention.bucket k
    set pauses = 0,
      paused_until = null,
      pause_code = null,
      pause_error = null,
      refused_in_row = 0
    where k.bucket = v_batch.bucket
      and (k.pauses > 0 or k.refused_in_row > 0);
  else
    select min(f ->> 'code')
    into v_refusal
    from jsonb_array_elements(p_failed) f
    having count(distinct f ->> 'code') = 1
      and min(f ->> 'code') in ('AccessDenied', 'AllAccessDisabled', 'NoSuchBucket', 'AccountProblem');
    -- One key that is refused alone says nothing of its bucket; a bucket that is gone does.
    if v_refusal = 'NoSuchBucket' or v_refusal is not null and v_batch.results > 1 then
      update retention.bucket k
      set refused_in_row = k.refused_in_row + 1
      where k.bucket = v_batch.bucket
      returning k.refused_in_row into v_part;
      if v_refusal = 'NoSuchBucket' or v_part.refused_in_row > 1 then
        perform retention.pause_bucket(v_batch.bucket, v_refusal, p_failed -> 0 ->> 'message');
      end if;
    end if;
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
  return query
  select true, v_cleared::integer, v_stamped::integer, v_failed::integer, v_dead::integer, v_retry_at, v_crowded;
end
$$;

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

CREATE FUNCTION retention.split(p_batch_id bigint, p_lease uuid, p_unanswered retention.run_id[] DEFAULT '{}'::retention.run_id[]) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_batch retention.batch;
  v_half retention.run_id[];
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
  perform retention.note_unanswered_in(p_batch_id, p_unanswered);
  update retention.bucket k
  set refused_in_row = k.refused_in_row + 1
  where k.bucket = v_batch.bucket
  returning k.refused_in_row into v_refused;
  if v_refused > 20 then
    perform retention.postpone(p_batch_id, p_lease, 'MalformedRequest', 'request after request is refused whole');
    return p_batch_id;
  end if;
  v_half := array(
    select e.run_id
    from retention.expired e
    where e.batch_id = p_batch_id
    order by e.completed_at, e.run_id
    limit v_batch.results / 2
  );
  insert into retention.batch (bucket, results, oldest, due_since, early, flagged_at, attempts, postponed)
  select v_batch.bucket, count(*), min(e.completed_at), min(e.due_at), v_batch.early, v_batch.flagged_at, v_batch.attempts, v_batch.postponed
  from retention.expired e
  where e.batch_id = p_batch_id
    and e.run_id = any (v_half)
  returning batch_id into v_batch_id;
  update retention.expired e
  set batch_id = v_batch_id
  where e.batch_id = p_batch_id
    and e.run_id = any (v_half);
  update retention.batch b
  set lease = null,
    results = b.results - cardinality(v_half),
    visible_at = clock_timestamp()
  where b.batch_id = p_batch_id;
  return v_batch_id;
end
$$;

CREATE FUNCTION retention.stamp(p_batch_id bigint, p_bucket text, p_cleared retention.run_id[], p_default_bucket text, OUT cleared bigint, OUT stamped bigint) RETURNS record
    LANGUAGE plpgsql
    AS $_$
    declare
      v_run_ids retention.run_id[];
      v_keys text[];
    begin
      -- Only a list that the planner sees is looked up by hash, and not from its start for each result.
      execute
        'with gone as (
          delete from retention.expired e
          where e.batch_id = $1
            and e.run_id = any ($2)
          returning e.run_id, e.key
        )
        select count(*), array_agg(g.run_id), array_agg(g.key) from gone g'
      into cleared, v_run_ids, v_keys
      using p_batch_id, p_cleared;
      update retention.result r
      set cleared_at = now(), updated_at = now()
      from unnest(v_run_ids, v_keys) as g (run_id, key)
      where r.run_id = g.run_id
        and r.key = g.key collate "C"
        and coalesce(nullif(r.bucket, ''), p_default_bucket) = p_bucket
        and r.cleared_at is null;
      get diagnostics stamped = row_count;
    end
    $_$;

CREATE FUNCTION retention.stamp_gone(p_bucket text, p_run_ids text[], p_keys text[]) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_stamped bigint;
begin
  v_stamped := retention.stamp_rows(
    p_bucket, p_run_ids::retention.run_id[], p_keys, (select s.default_bucket from retention.setting s)
  );
  -- What of it is flagged is spared by the next claim.
  return v_stamped;
end
$$;

CREATE FUNCTION retention.stamp_rows(p_bucket text, p_run_ids retention.run_id[], p_keys text[], p_default_bucket text) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
    declare
      v_stamped bigint;
    begin
      update retention.result r
      set cleared_at = now(), updated_at = now()
      from unnest(p_run_ids, p_keys) as g (run_id, key)
      where r.run_id = g.run_id
        and r.key = g.key
        and coalesce(nullif(r.bucket, ''), p_default_bucket) = p_bucket
        and r.cleared_at is null;
      get diagnostics v_stamped = row_count;
      return v_stamped;
    end
    $$;

CREATE FUNCTION retention.take_place(p_setting retention.setting, p_ours integer) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
begin
  for v_place in 1..p_setting.statements_at_once + p_ours loop
    if pg_try_advisory_xact_lock(1382380609, v_place) then
      return true;
    end if;
  end loop;
  return false;
end
$$;

CREATE FUNCTION retention.tenant_key(p_tenant_id text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (p_tenant_id IS NULL) THEN ''::text ELSE ('='::text || p_tenant_id) END;

CREATE FUNCTION retention.tenants() RETURNS TABLE(tenant_id retention.tenant_id, tenant_key text, retain interval)
    LANGUAGE sql STABLE ROWS 100
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    AS $$
  with recursive name(tenant_id) as (
    (
      select r.tenant_id
      from retention.result r
      where r.cleared_at is null
        and r.status = 'COMPLETED'
        and r.key is not null
        and r.tenant_id is not null
      order by r.tenant_id
      limit 1
    )
    union all
    select (
      select r.tenant_id
      from retention.result r
      where r.cleared_at is null
        and r.status = 'COMPLETED'
        and r.key is not null
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
      from retention.result r
      where r.cleared_at is null
        and r.status = 'COMPLETED'
        and r.key is not null
        and r.tenant_id is null
    )
  )
  select n.tenant_id::retention.tenant_id,
    retention.tenant_key(n.tenant_id::text),
    coalesce(p.retain, d.retain)
  from named n
  join retention.policy d on d.tenant_id = '*'
  left join retention.policy p on p.tenant_id = n.tenant_id::text
    and p.tenant_id <> '*'
  where not exists (
    select
    from retention.hold h
    where h.tenant_id = n.tenant_id::text
      and retention.hold_end(h.released_at, h.expires_at) > now()
  )
$$;

CREATE FUNCTION retention.tenants_due(p_tenants integer DEFAULT 20, p_bound integer DEFAULT 1000) RETURNS TABLE(tenant_id text, retain_days double precision, oldest timestamp with time zone, due_since timestamp with time zone, due bigint, flagged bigint, is_capped boolean)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
  select t.tenant_id::text,
    (extract(epoch from t.retain) / 86400)::double precision,
    min(r.completed_at),
    min(r.due_at),
    count(*),
    count(*) filter (where r.flagged),
    min(r.looked_at) >= p_bound
  from (
    select t.*, f.due_at
    from retention.tenants() t
    cross join lateral (
      select r.due_at
      from retention.look(t.tenant_id, null, null, now() - retention.exactly(t.retain), 1) r
    ) f
    order by f.due_at, t.tenant_key
    limit p_tenants
  ) t
  cross join lateral (
    select r.completed_at, r.due_at, r.flagged, r.held, count(*) over () as looked_at
    from retention.look(t.tenant_id, null, null, now() - retention.exactly(t.retain), p_bound) r
  ) r
  where r.due_at < now()
    and not r.held
  group by t.tenant_id, t.tenant_key, t.retain
  order by min(r.due_at), t.tenant_key
$$;

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
  if v_beat.kept_house_at is null or v_beat.kept_house_at < now() - interval '1 hour' then
    perform retention.keep_house();
  end if;
  select * into strict v_setting from retention.setting;
  if v_beat.more
    or v_beat.passed_at is null
    or v_beat.passed_at <= now() - retention.exactly(v_setting.loop_interval)
  then
    return retention.flag_expired(p_asked_by => p_by);
  end if;
  return 0;
end
$$;

CREATE FUNCTION retention.unschedule_tick() RETURNS void
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

CREATE FUNCTION retention.unstamp(p_run_id text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
begin
  update retention.result r
  set cleared_at = null
  where r.run_id = p_run_id::retention.run_id
    and r.cleared_at is not null;
  return found;
end
$$;

ALTER TABLE retention.batch ALTER COLUMN batch_id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME retention.batch_batch_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE retention.hold ALTER COLUMN hold_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME retention.hold_hold_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

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

COMMENT ON COLUMN retention.progress.tenant_key IS 'see retention.tenant_key(): the empty string stands for results without a tenant';

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
    bucket text NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    completed_at timestamp with time zone NOT NULL,
    due_at timestamp with time zone NOT NULL,
    batch_id bigint
);

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
    read_status.due_since
   FROM retention.read_status() read_status(enabled, live_estimate, due, due_is_capped, flagged, leased, failed, dead, held, cleared_today, spared_today, oldest_due, batches, buckets_paused, last_tick, last_pass, scheduler, scheduler_health, loop_interval_seconds, default_retain_days, policies_pending, policy_pending, due_since);

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

CREATE TABLE retention.unanswered (
    run_id retention.run_id NOT NULL,
    bucket text NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    until timestamp with time zone NOT NULL
);

COMMENT ON TABLE retention.unanswered IS 'results that S3 may still delete until then: a request for them got no answer, or whoever sent it is gone';

ALTER TABLE ONLY retention.pgmigrations ALTER COLUMN id SET DEFAULT nextval('retention.pgmigrations_id_seq'::regclass);

ALTER TABLE ONLY retention.adapter
    ADD CONSTRAINT adapter_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY retention.batch
    ADD CONSTRAINT batch_pkey PRIMARY KEY (batch_id);

ALTER TABLE ONLY retention.bucket
    ADD CONSTRAINT bucket_pkey PRIMARY KEY (bucket);

ALTER TABLE ONLY retention.expired
    ADD CONSTRAINT expired_pkey PRIMARY KEY (run_id);

ALTER TABLE ONLY retention.heartbeat
    ADD CONSTRAINT heartbeat_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY retention.hold
    ADD CONSTRAINT hold_pkey PRIMARY KEY (hold_id);

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
    ADD CONSTRAINT unanswered_pkey PRIMARY KEY (run_id, bucket, key);

CREATE INDEX batch_leased ON retention.batch USING btree (bucket) WHERE (lease IS NOT NULL);

CREATE INDEX batch_settled ON retention.batch USING btree (settled_at) WHERE (settled_at IS NOT NULL);

CREATE INDEX batch_visible ON retention.batch USING btree (bucket, visible_at, batch_id) WHERE (settled_at IS NULL);

CREATE INDEX expired_batch ON retention.expired USING btree (batch_id) WHERE (batch_id IS NOT NULL);

CREATE INDEX expired_dead ON retention.expired USING btree (dead_at) WHERE (dead_at IS NOT NULL);

CREATE INDEX expired_failed ON retention.expired USING btree (failed_at) WHERE (failed_at IS NOT NULL);

CREATE INDEX hold_run ON retention.hold USING btree (run_id) WHERE (run_id IS NOT NULL);

CREATE INDEX hold_tenant ON retention.hold USING btree (tenant_id) WHERE (tenant_id IS NOT NULL);

CREATE INDEX scan_started_at ON retention.scan USING btree (started_at);

CREATE INDEX unanswered_key ON retention.unanswered USING btree (key);

CREATE TRIGGER announce_change AFTER UPDATE ON retention.batch REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION retention.announce_change();

CREATE TRIGGER announce_expired AFTER INSERT ON retention.batch REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION retention.announce_expired();

CREATE TRIGGER guard_policy BEFORE INSERT OR DELETE OR UPDATE ON retention.policy FOR EACH ROW EXECUTE FUNCTION retention.guard_policy();
