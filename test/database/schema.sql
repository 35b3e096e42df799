CREATE SCHEMA retention;

COMMENT ON SCHEMA retention IS 'Retention Reactor: expiry of S3 results whose truth lives in this database';

CREATE DOMAIN retention.run_id AS uuid;

CREATE DOMAIN retention.tenant_id AS text;

CREATE FUNCTION retention._account_words(p_kind text, OUT because text, OUT remedy text) RETURNS record
    LANGUAGE sql STABLE
    AS $$
  select case p_kind
      when 'accounted' then 'stamped, and a receipt says that the object went'
      when 'no_receipt' then 'stamped, and no receipt says that the object which the row names went: stamped by hand or by another program, or the row names another object since'
      when 'before_adoption' then format('stamped before %s, when this schema was adopted; it has no receipts of that time', retention._iso(i.adopted_at))
      when 'receipt_pruned' then format('stamped longer ago than receipts are kept (%s)', s.receipts_kept)
      when 'no_stamp' then 'a receipt says that the object went, and the row is as it was then, without a stamp: it was taken away by hand, or the row was put back from a backup'
      when 'no_row' then 'a receipt says that the object went, and the application has deleted the row since'
      when 'another_result' then 'a receipt says that the object went, and the row has another result since'
      when 'returned' then 'a receipt says that the object went, and a later one that it is back: restored, found by a verify, or the stamp was taken away by retention.unstamp'
    end,
    case p_kind
      when 'no_receipt' then 'retention verify --dry-run says whether the objects are there'
      when 'no_stamp' then 'nothing, where they fall due again: they are then deleted once more and stamped. retention verify stamps those whose object is gone'
    end
  from retention.identity i
  cross join retention.setting s
$$;

CREATE FUNCTION retention._act(p_kind text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
  select case p_kind
    when 'policy' then 'a shorter policy'
    when 'early' then 'an early deletion'
    when 'surge' then 'the release of a surge'
    when 'hold' then 'the end of a hold'
    when 'orphans' then 'deleting orphans'
    when 'purge' then 'purging versions'
    when 'setting' then 'a weaker guard'
    when 'fence' then 'accepting another database'
    when 'keeper' then 'taking a keeper away'
    else p_kind
  end
$$;

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
    v_type := v_domain.type || coalesce(' collate ' || v_domain.collation, '');
    if retention._domain_type(v_domain.name) <> v_type then
      perform retention._retype(v_domain.name, v_type);
      if v_domain.name = 'tenant_id' then
        perform retention._respell_tenants(v_type);
      end if;
      v_changed := true;
    end if;
  end loop;

  if v_adapter.table_name is null then
    insert into retention.adapter (table_name, table_oid, columns, added_cleared_at, scheduler)
    values (v_name, v_table, v_columns, v_columns -> 'cleared_at' ->> 'type' is null, p_scheduler);
    perform retention._mark_indexes();
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
    delete from retention.ahead;
    delete from retention.shared_object;
    perform retention._drop_views();
    v_changed := true;
  end if;
  update retention.adapter
  set table_name = v_name,
    table_oid = v_table,
    columns = v_columns,
    added_cleared_at = v_adapter.added_cleared_at or v_columns -> 'cleared_at' ->> 'type' is null,
    scheduler = p_scheduler;
  perform retention._mark_indexes();
  return v_changed;
end
$$;

CREATE FUNCTION retention._announce_batches() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform retention._tell('dead', row_to_json(p))
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
      and a.seal_id is null
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

CREATE FUNCTION retention._application_path(p_recorded text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ltrim((regexp_replace(COALESCE(p_recorded, ''::text), '(^|,)\s*"?pg_temp[^,]*'::text, ''::text, 'gi'::text) || ', pg_temp'::text), ' ,'::text);

CREATE FUNCTION retention._apply_cool_off() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_before interval := retention._in_seconds(coalesce(old.cool_off, '0'));
  v_after interval := retention._in_seconds(coalesce(new.cool_off, '0'));
begin
  if v_after = v_before then
    return null;
  end if;
  perform retention._take_pass_lock();
  update retention.batch b
  set visible_at = case
      when v_after > v_before then greatest(b.visible_at, b.flagged_at + v_after)
      else greatest(b.flagged_at, b.flagged_at + v_after)
    end
  where b.settled_at is null
    and b.dead_at is null
    and b.deleted_at is null
    and b.lease is null
    and b.early is null
    and (v_after > v_before or b.visible_at = b.flagged_at + v_before);
  return null;
end
$$;

CREATE FUNCTION retention._apply_retain(p_value interval, p_is_first boolean, p_is_again boolean) RETURNS TABLE(outcome text, message text)
    LANGUAGE plpgsql
    AS $$
declare
  v_before interval;
  v_due bigint;
begin
  select p.retain into strict v_before from retention.policy p where p.tenant_id = '*';
  v_due := retention._newly_due('*', p_value);
  if p_value < v_before
    and (
      p_is_again
      or (select s.four_eyes from retention.setting s)
      or v_due > case
        when p_is_first and pg_has_role(session_user, (select n.nspowner from pg_namespace n where n.nspname = 'retention'), 'member')
        then (select s.policy_guard from retention.setting s)
        else 0
      end
    )
  then
    outcome := case when retention._await_policy(p_value, v_due) then 'pending' else 'ignored' end;
    message := format('default policy: stays %s; %s would make %s due at once, and %s', v_before, p_value,
      retention._counted(v_due, 'result'),
      case when outcome = 'pending' then 'waits for a confirmation' else 'another one waits for its confirmation' end);
  else
    perform retention.set_policy('*', p_value);
    outcome := 'applied';
    message := format('default policy: %s -> %s, which makes %s due at once', v_before, p_value, retention._counted(v_due, 'result'));
  end if;
  return next;
end
$$;

CREATE FUNCTION retention._approval_words(p_before jsonb, p_after jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
  select format('request %s for %s, %s: ', r.it ->> 'approval_id', retention._act(r.it ->> 'kind'), left(r.it ->> 'what', 200))
    || case
      when p_before is null then 'asked'
      when p_after is null then 'removed'
      when p_before ->> 'withdrawn_at' is null and p_after ->> 'withdrawn_at' is not null then 'withdrawn'
      when p_before ->> 'used_at' is null and p_after ->> 'used_at' is not null then 'used'
      when p_before ->> 'approved_at' is null and p_after ->> 'approved_at' is not null then 'approved'
      else retention._differences(p_before, p_after)
    end
  from (select coalesce(p_after, p_before) as it) r
$$;

CREATE FUNCTION retention._asked_results(p_kind text, p_what jsonb) RETURNS bigint
    LANGUAGE plpgsql STABLE
    AS $$
begin
  if p_kind <> 'policy' or not p_what ?& '{tenant_id, retain_days}' then
    return null;
  end if;
  return retention._newly_due(
    p_what ->> 'tenant_id', make_interval(secs => (p_what ->> 'retain_days')::double precision * 86400)
  );
exception
  when data_exception then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected a tenant and a number of days, given: %s', left(p_what::text, 500));
end
$$;

CREATE FUNCTION retention._await_policy(p_retain interval, p_due bigint) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
begin
  update retention.policy p
  set pending_retain = p_retain,
    pending_results = p_due,
    pending_at = now(),
    pending_by = session_user || ' (DPP_RETENTION_DAYS)'
  where p.tenant_id = '*'
    and (p.pending_by is null or p.pending_by like '% (DPP_RETENTION_DAYS)');
  return found;
end
$$;

CREATE FUNCTION retention._backoff(p_base interval, p_cap interval, p_tries integer) RETURNS interval
    LANGUAGE sql
    RETURN (LEAST(p_cap, (p_base * power((2)::double precision, (LEAST(p_tries, 30))::double precision))) * ((0.5)::double precision + (random() / (2)::double precision)));

CREATE TABLE retention.batch (
    batch_id bigint NOT NULL,
    bucket text NOT NULL,
    kind text,
    results integer NOT NULL,
    oldest timestamp with time zone NOT NULL,
    newest timestamp with time zone NOT NULL,
    due_since timestamp with time zone,
    late_since timestamp with time zone,
    early interval,
    flagged_at timestamp with time zone DEFAULT now() NOT NULL,
    visible_at timestamp with time zone DEFAULT now() NOT NULL,
    lease uuid,
    leased_at timestamp with time zone,
    leased_by text,
    attempts integer DEFAULT 0 NOT NULL,
    postponed integer DEFAULT 0 NOT NULL,
    stuck_since timestamp with time zone,
    code text,
    error text,
    failed_at timestamp with time zone,
    dead_at timestamp with time zone,
    deleted_at timestamp with time zone,
    given_back uuid,
    cleared integer DEFAULT 0 NOT NULL,
    stamped integer DEFAULT 0 NOT NULL,
    spared integer DEFAULT 0 NOT NULL,
    failed integer DEFAULT 0 NOT NULL,
    dead integer DEFAULT 0 NOT NULL,
    problems jsonb,
    ms integer,
    settled_at timestamp with time zone,
    run_ids retention.run_id[] NOT NULL,
    keys text[] NOT NULL COLLATE pg_catalog."C",
    tenants text[] NOT NULL,
    etags text[] COLLATE pg_catalog."C",
    why text,
    asked_by text,
    revision bigint,
    policies jsonb,
    ends text[],
    versions text[] COLLATE pg_catalog."C",
    request_ids text[],
    settled_session text,
    product text,
    salt bytea,
    seal_id bigint,
    key_digests bytea,
    CONSTRAINT a_batch_ends_after_it_begins CHECK ((oldest <= newest)),
    CONSTRAINT a_batch_has_at_most_1000_results CHECK (((results >= 0) AND (results <= 1000))),
    CONSTRAINT a_canary_has_no_results CHECK (((kind IS NULL) OR (results = 0))),
    CONSTRAINT a_dead_batch_is_not_worked_on CHECK (((dead_at IS NULL) OR ((lease IS NULL) AND (settled_at IS NULL)))),
    CONSTRAINT a_settled_batch_has_no_lease CHECK (((settled_at IS NULL) OR (lease IS NULL))),
    CONSTRAINT an_end_is_known CHECK ((ends <@ ARRAY['deleted'::text, 'gone'::text, 'marker'::text, 'purged'::text])),
    CONSTRAINT kind_is_known CHECK ((kind = 'canary'::text)),
    CONSTRAINT what_s3_has_deleted_is_not_claimed_again CHECK (((deleted_at IS NULL) OR (lease IS NULL))),
    CONSTRAINT why_is_known CHECK ((why = ANY (ARRAY['early'::text, 'verify'::text, 'after_restore'::text])))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_cost_delay='0');
ALTER TABLE ONLY retention.batch ALTER COLUMN run_ids SET STORAGE EXTERNAL;
ALTER TABLE ONLY retention.batch ALTER COLUMN etags SET STORAGE EXTERNAL;
ALTER TABLE ONLY retention.batch ALTER COLUMN key_digests SET STORAGE EXTERNAL;

COMMENT ON TABLE retention.batch IS 'the unit of work and, once settled, the receipt: one bucket, one DeleteObjects request, one lease';

COMMENT ON COLUMN retention.batch.kind IS 'canary: an object of our own, see retention.canary; null: results';

COMMENT ON COLUMN retention.batch.oldest IS 'between here and newest its results completed, as they were flagged: how the batch of a run is found';

COMMENT ON COLUMN retention.batch.late_since IS 'its results were late: a walk that began then had looked, and they were due before and unknown; infinity: no walk had; null: on time';

COMMENT ON COLUMN retention.batch.early IS 'a cutoff confirmed by a person that stands in for the policy while its command lives: see retention.cutoff';

COMMENT ON COLUMN retention.batch.visible_at IS 'when it may be claimed: its retry time, or, while leased, the deadline of the lease';

COMMENT ON COLUMN retention.batch.stuck_since IS 'since when S3 has answered its keys with faults of its own, while it may have deleted others';

COMMENT ON COLUMN retention.batch.code IS 'why all of its results failed when they were last tried (of S3, or an SQLSTATE); null: they have not failed';

COMMENT ON COLUMN retention.batch.dead_at IS 'failed too often, or for good: waits for retention.retry';

COMMENT ON COLUMN retention.batch.deleted_at IS 'since when S3 has deleted its objects and only the stamps are missing: never sent to S3 again, only stamped; null: not so';

COMMENT ON COLUMN retention.batch.given_back IS 'the lease that it was last given back under: who asks again gets the same answer';

COMMENT ON COLUMN retention.batch.problems IS 'what its last attempt ran into: [{"code", "message", "results", "run_ids", "retry_at"}]';

COMMENT ON COLUMN retention.batch.run_ids IS 'its results: run_ids[i] of tenants[i] points at keys[i], packed by retention._pack_key. Of a settled batch those that it cleared: the receipt';

COMMENT ON COLUMN retention.batch.etags IS 'where the rows name etags: etags[i] is what S3 was asked to delete of keys[i], and no other version. Written by each claim; null: nothing is asked';

COMMENT ON COLUMN retention.batch.why IS 'early: asked for before its time; verify: its object had returned; after_restore: it was restored, and fell due again; null: the policy';

COMMENT ON COLUMN retention.batch.asked_by IS 'whose command last put it to work, as session user: early, narrowed, by the release of a surge, by retry; null: the cycle';

COMMENT ON COLUMN retention.batch.revision IS 'the newest row of retention.change when it was last claimed: which policies and holds it was judged by';

COMMENT ON COLUMN retention.batch.policies IS 'how long results were kept when it was last claimed: "*" by the default policy, or by the cutoff of an early deletion, and by tenant those with a policy of their own';

COMMENT ON COLUMN retention.batch.ends IS 'of a receipt: ends[i] says how the result of keys[i] ended: deleted, gone (the store had none), marker or purged. Null: all were deleted';

COMMENT ON COLUMN retention.batch.versions IS 'of a receipt: versions[i] is the version of the delete marker, or the last version that was purged; null: the store named none';

COMMENT ON COLUMN retention.batch.request_ids IS 'how the store names the requests in which it deleted something of it, also where the call failed after that; null: it names none';

COMMENT ON COLUMN retention.batch.settled_session IS 'of a receipt: the session user who wrote down what S3 has deleted; product: the version of that client';

COMMENT ON COLUMN retention.batch.salt IS 'what the salts of its leaves are made from; null: it is not sealed';

COMMENT ON COLUMN retention.batch.seal_id IS 'the seal that covers it; null: it is not sealed';

COMMENT ON COLUMN retention.batch.key_digests IS 'of a sealed receipt whose keys are hashed (setting.receipt_keys): 32 bytes in place of each key, and keys is empty; null: keys has them';

CREATE FUNCTION retention._batch_at(p_batch retention.batch, p_at timestamp with time zone, OUT state text, OUT because text) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
begin
  if p_batch.dead_at <= p_at then
    state := 'dead';
    because := format('S3 had refused it for good at %s: %s', retention._iso(p_batch.dead_at), retention._said(p_batch.code, p_batch.error));
  elsif p_batch.deleted_at <= p_at then
    state := 'failed';
    because := format('S3 had deleted its object at %s, and the run could not be stamped yet', retention._iso(p_batch.deleted_at));
  -- As long as the lease was valid; its deadline stays with a settled batch.
  elsif p_batch.leased_at <= p_at
    and coalesce(
      p_batch.deleted_at,
      case when p_batch.settled_at is not null then least(p_batch.settled_at, p_batch.visible_at) end,
      case when p_batch.lease is not null then p_batch.visible_at end
    ) > p_at
  then
    state := 'in flight';
    because := format('%s worked on it from %s on, in batch %s', coalesce(p_batch.leased_by, 'a listener'),
      retention._iso(p_batch.leased_at), p_batch.batch_id);
  elsif p_batch.failed_at <= p_at then
    state := 'failed';
    because := format('it had failed at %s: %s', retention._iso(p_batch.failed_at), retention._said(p_batch.code, p_batch.error));
  else
    state := 'flagged';
    because := format('it had been flagged at %s and waited in batch %s', retention._iso(p_batch.flagged_at), p_batch.batch_id)
      || case when p_batch.early is not null then '; a person had asked for it before its time' else '' end;
  end if;
end
$$;

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

CREATE FUNCTION retention._batches_with(p_run_id retention.run_id, p_completed_at timestamp with time zone, p_cleared_at timestamp with time zone, p_everywhere boolean, p_since timestamp with time zone) RETURNS bigint[]
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  v_batch_ids bigint[];
begin
  if p_run_id is null then
    return '{}';
  end if;
  if p_everywhere then
    return array(
      select b.batch_id
      from retention.batch b
      where b.settled_at >= coalesce(p_since, '-infinity')
        and b.cleared > 0
        and p_run_id = any (b.run_ids)
    );
  end if;
  v_batch_ids := array(
    select b.batch_id
    from retention.batch b
    where b.settled_at is not null
      and b.cleared > 0
      and tstzrange(b.oldest, b.newest, '[]') @> p_completed_at
      and p_run_id = any (b.run_ids)
  );
  -- When it completed has changed since.
  if p_cleared_at is not null and not exists (
    select
    from retention.batch b
    where b.batch_id = any (v_batch_ids)
      and b.settled_at >= p_cleared_at
  ) then
    v_batch_ids := v_batch_ids || array(
      select b.batch_id
      from retention.batch b
      where b.settled_at between p_cleared_at and p_cleared_at + interval '1 hour'
        and b.cleared > 0
        and p_run_id = any (b.run_ids)
        and b.batch_id <> all (v_batch_ids)
    );
  end if;
  return v_batch_ids;
end
$$;

CREATE FUNCTION retention._bearing_holds(p_run_id retention.run_id, p_tenant_id text, p_bucket text, p_key text) RETURNS jsonb
    LANGUAGE sql STABLE
    AS $$
  select jsonb_agg(
    jsonb_build_object(
      'hold_id', h.hold_id,
      'reason', h.reason,
      'placed_by', h.placed_by,
      'placed_at', retention._iso(h.placed_at),
      'on', case when h.run_id = p_run_id then 'run' when h.tenant_id = p_tenant_id then 'tenant' else 'object' end,
      'ends', retention._iso(nullif(retention._hold_end(h.released_at, h.expires_at), 'infinity'))
    )
    order by h.hold_id
  )
  from retention.hold h
  cross join retention.setting s
  where (
      h.run_id = p_run_id
      or h.tenant_id = p_tenant_id
      or h.hold_id in (
        select o.hold_id
        from retention.held_object o
        where o.bucket = p_bucket
          and o.key = p_key collate "C"
      )
    )
    and retention._hold_end(h.released_at, h.expires_at)
      + case
        when h.tenant_id is distinct from p_tenant_id then interval '0'
        else s.release_spread * retention._place_in_line(p_run_id::text)
      end > now()
$$;

CREATE FUNCTION retention._begin_standing(p_bucket text) RETURNS uuid
    LANGUAGE plpgsql
    AS $$
declare
  v_run retention.verify_run;
begin
  perform retention._drop_verify(r.verify_id)
  from retention.verify_run r
  where r.kind = 'standing'
    and r.bucket = p_bucket;
  insert into retention.verify_run (verify_id, kind, bucket, prefixes, holder)
  values (gen_random_uuid(), 'standing', p_bucket, '{}', gen_random_uuid())
  returning * into v_run;
  perform retention._part_verify(v_run, 1);
  delete from retention.standing_gone g
  using retention.standing_verify s
  where s.bucket = p_bucket
    and g.bucket = p_bucket
    and g.verify_id = s.verify_id;
  update retention.standing_verify s
  set verify_id = v_run.verify_id,
    began_at = v_run.began_at,
    pages = 0,
    expected = 0,
    listed_now = 0,
    found = 0
  where s.bucket = p_bucket;
  return v_run.verify_id;
end
$$;

CREATE FUNCTION retention._begins_unique(p_table oid, p_column text) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
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

CREATE FUNCTION retention._being_deleted(p_bucket text) RETURNS TABLE(run_id retention.run_id)
    LANGUAGE sql STABLE
    AS $$
  select unnest(b.run_ids)
  from retention.batch b
  where b.bucket = p_bucket
    and b.lease is not null
  union all
  select unnest(b.run_ids)
  from retention.batch b
  where b.bucket = p_bucket
    and b.deleted_at is not null
    and b.settled_at is null
$$;

CREATE FUNCTION retention._book_failures(p_batch retention.batch, p_cleared text[], p_failed jsonb, OUT failed bigint, OUT dead bigint, OUT retry_at timestamp with time zone, OUT problems jsonb) RETURNS record
    LANGUAGE plpgsql
    AS $$
declare
  v_setting retention.setting;
  v_kind record;
  v_retry_at timestamptz;
begin
  failed := 0;
  dead := 0;
  problems := '[]';
  select * into strict v_setting from retention.setting;
  for v_kind in
    select * from retention._failures(p_batch, p_cleared, p_failed, v_setting.max_attempts)
  loop
    v_retry_at := case
      when not v_kind.is_dead then clock_timestamp() + retention._backoff(
        case when v_kind.counted then v_setting.retry_base else v_setting.pause_base end,
        -- The store's own faults pass: what they struck is not to wait for hours after.
        case when v_kind.counted then v_setting.retry_cap else v_setting.pause_cap end,
        case when v_kind.counted then p_batch.attempts else p_batch.postponed end
      )
    end;
    retry_at := least(retry_at, v_retry_at);
    insert into retention.batch (
      bucket, results, oldest, newest, due_since, late_since, early, flagged_at, visible_at,
      attempts, postponed, stuck_since, code, error, failed_at, dead_at, why, asked_by, request_ids,
      run_ids, keys, tenants
    )
    values (
      p_batch.bucket,
      cardinality(v_kind.run_ids),
      p_batch.oldest,
      p_batch.newest,
      p_batch.due_since,
      p_batch.late_since,
      p_batch.early,
      p_batch.flagged_at,
      coalesce(v_retry_at, clock_timestamp()),
      p_batch.attempts + v_kind.counted::integer,
      p_batch.postponed + (not v_kind.counted)::integer,
      case when v_kind.is_stuck then coalesce(p_batch.stuck_since, clock_timestamp()) end,
      v_kind.code,
      v_kind.reason,
      clock_timestamp(),
      case when v_kind.is_dead then clock_timestamp() end,
      p_batch.why,
      p_batch.asked_by,
      p_batch.request_ids,
      v_kind.run_ids,
      v_kind.keys,
      v_kind.tenants
    );
    if v_kind.is_dead then
      dead := dead + cardinality(v_kind.run_ids);
    else
      failed := failed + cardinality(v_kind.run_ids);
    end if;
    problems := problems || jsonb_strip_nulls(jsonb_build_object(
      'code', v_kind.code,
      'message', v_kind.reason,
      'results', cardinality(v_kind.run_ids),
      'run_ids', v_kind.run_ids[1:3]::text[],
      'retry_at', retention._iso(v_retry_at),
      'dead', v_kind.is_dead
    ));
  end loop;
end
$$;

CREATE FUNCTION retention._bring_back_times() RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  v_setting retention.setting;
  v_now timestamptz := clock_timestamp();
  v_furthest timestamptz;
begin
  select max(t.until) into v_furthest from retention.times_ahead() t;
  if v_furthest is null then
    return false;
  end if;
  select * into strict v_setting from retention.setting;
  update retention.heartbeat h
  set ticked_at = case when h.ticked_at <= v_now then h.ticked_at end,
    passed_at = case when h.passed_at <= v_now then h.passed_at end,
    swept_at = case when h.swept_at <= v_now then h.swept_at end,
    walk_began_at = case when h.walk_began_at <= v_now then h.walk_began_at end,
    -- By its wrong clock that walk saw all that is due by now.
    seen_at = least(h.seen_at, v_now),
    cleaned_up_at = case when h.cleaned_up_at <= v_now then h.cleaned_up_at end
  from (select x.singleton from retention.heartbeat x for update skip locked) free
  where h.singleton = free.singleton
    and greatest(h.ticked_at, h.passed_at, h.swept_at, h.cleaned_up_at, h.walk_began_at, h.seen_at) > v_now + interval '1 minute';
  update retention.bucket k
  set paused_until = v_now
  from (
    select x.bucket
    from retention.bucket x
    where x.paused_until > v_now + v_setting.pause_cap + interval '1 minute'
    for update skip locked
  ) free
  where k.bucket = free.bucket;
  update retention.batch b
  set visible_at = v_now + case
      -- What was flagged by a clock that was wrong waits for its cool-off from now on.
      when b.lease is null and b.failed_at is null and b.early is null then coalesce(v_setting.cool_off, '0')
      when b.lease is null or b.visible_at - b.leased_at > interval '1 day' then interval '0'
      else b.visible_at - b.leased_at
    end,
    leased_at = case when b.lease is not null then v_now end
  from (
    select x.batch_id
    from retention.batch x
    where x.lease is not null
        and (x.leased_at > v_now + interval '1 minute' or x.visible_at > v_now + interval '1 day 1 minute')
      or x.lease is null
        and x.settled_at is null
        and x.dead_at is null
        and x.visible_at > v_now + greatest(v_setting.retry_cap, v_setting.pause_cap, v_setting.cool_off) + interval '1 minute'
    for update skip locked
  ) free
  where b.batch_id = free.batch_id;
  update retention.unanswered u
  set until = v_now + v_setting.unanswered_for
  where u.until > v_now + v_setting.unanswered_for + interval '1 day 1 minute';
  update retention.gate_state s
  set clock_corrected_at = v_now,
    clock_was_ahead = v_furthest - v_now
  from (select x.singleton from retention.gate_state x for update skip locked) free
  where s.singleton = free.singleton;
  return true;
end
$$;

CREATE FUNCTION retention._bucket(p_bucket text, p_default_bucket text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN COALESCE(NULLIF(p_bucket, ''::text), p_default_bucket);

CREATE FUNCTION retention._buckets_named(p_table text, p_columns text) RETURNS SETOF text
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_bucket jsonb := retention._parse_columns(p_columns) -> 'bucket';
begin
  if v_bucket ? 'fixed' then
    return next v_bucket ->> 'fixed';
  elsif v_bucket ->> 'name' is not null then
    return query execute format(
      'select distinct r.bucket from (select %I::text as bucket from %s limit 1000) r where r.bucket <> '''' order by 1 limit 10',
      v_bucket ->> 'name', retention._find_table(p_table)
    );
  end if;
end
$$;

CREATE FUNCTION retention._can_look() RETURNS boolean
    LANGUAGE plpgsql STABLE
    AS $$
begin
  return to_regclass('retention._live') is not null and retention._missing_indexes() is null;
end
$$;

CREATE FUNCTION retention._candidate(p_columns jsonb, p_view boolean) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
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
    keys_per_request integer,
    deletes text,
    checksum text,
    addressing text,
    conditional text,
    set_at timestamp with time zone,
    set_by text,
    learned jsonb DEFAULT '{}'::jsonb NOT NULL,
    looked_in text,
    looked_at timestamp with time zone,
    looked integer DEFAULT 0 NOT NULL,
    missing integer DEFAULT 0 NOT NULL,
    missing_keys text[] DEFAULT '{}'::text[] NOT NULL,
    missing_confirmed_at timestamp with time zone,
    missing_confirmed_by text,
    set_session text,
    missing_confirmed_session text,
    known_since timestamp with time zone DEFAULT now() NOT NULL,
    max_per_second integer,
    max_in_flight integer,
    CONSTRAINT a_request_has_1_to_1000_keys CHECK (((keys_per_request >= 1) AND (keys_per_request <= 1000))),
    CONSTRAINT addressing_is_known CHECK ((addressing = ANY (ARRAY['path'::text, 'virtual'::text]))),
    CONSTRAINT checksum_is_known CHECK ((checksum = ANY (ARRAY['crc32'::text, 'md5'::text, 'none'::text]))),
    CONSTRAINT conditional_is_known CHECK ((conditional = ANY (ARRAY['honoured'::text, 'ignored'::text]))),
    CONSTRAINT deletes_is_known CHECK ((deletes = ANY (ARRAY['together'::text, 'singly'::text]))),
    CONSTRAINT max_in_flight_is_positive CHECK ((max_in_flight > 0)),
    CONSTRAINT max_per_second_is_positive CHECK ((max_per_second > 0)),
    CONSTRAINT on_versioned_is_known CHECK ((on_versioned = ANY (ARRAY['marker'::text, 'purge'::text]))),
    CONSTRAINT only_what_was_looked_at_is_missing CHECK (((missing >= 0) AND (missing <= looked))),
    CONSTRAINT versioning_is_known CHECK ((versioning = ANY (ARRAY['off'::text, 'enabled'::text, 'suspended'::text]))),
    CONSTRAINT what_is_learned_is_an_object CHECK ((jsonb_typeof(learned) = 'object'::text))
);

COMMENT ON TABLE retention.bucket IS 'what is known and wanted of each bucket';

COMMENT ON COLUMN retention.bucket.on_versioned IS 'marker: a deletion in a versioned bucket adds a delete marker; purge: it takes every version';

COMMENT ON COLUMN retention.bucket.versioning IS 'what S3 said of it at described_at; null: it was not asked';

COMMENT ON COLUMN retention.bucket.paused_until IS 'no batch of it is claimed before then';

COMMENT ON COLUMN retention.bucket.pauses IS 'pauses since the last deletion that succeeded: what makes the next one longer';

COMMENT ON COLUMN retention.bucket.refused_in_row IS 'refusals since the last deletion that succeeded';

COMMENT ON COLUMN retention.bucket.keys_per_request IS 'set by a person, as deletes, checksum and addressing are; null: as learned, or as S3 does it';

COMMENT ON COLUMN retention.bucket.conditional IS 'set by a person: honoured: S3 is asked to delete the version of the row''s etag and no other; ignored: a person accepts that any version goes';

COMMENT ON COLUMN retention.bucket.learned IS 'what refusals and timeouts showed of its store, by habit: {"value", "at", "because"}; believed for a day';

COMMENT ON COLUMN retention.bucket.looked_in IS 'the store in which some of its keys were looked for before the first deletion';

COMMENT ON COLUMN retention.bucket.missing IS 'of the keys that were looked for, how many had no object; most of them: the gate is closed';

COMMENT ON COLUMN retention.bucket.missing_confirmed_at IS 'since when a person has said that the missing objects are really gone';

COMMENT ON COLUMN retention.bucket.max_per_second IS 'a ceiling: so many results of it go a second at most, by all listeners and commands together; null: no ceiling';

COMMENT ON COLUMN retention.bucket.max_in_flight IS 'a ceiling: so many of its batches are leased at once at most; null: no ceiling';

CREATE FUNCTION retention._ceiling_until(p_bucket retention.bucket) RETURNS timestamp with time zone
    LANGUAGE sql
    AS $$
  select greatest(
    case
      when p_bucket.max_per_second is not null
      then retention._paced_until(p_bucket.bucket) + random() * interval '50 milliseconds'
    end,
    case
      when p_bucket.max_in_flight <= retention._in_flight(p_bucket.bucket)
      then clock_timestamp() + interval '1 second'
    end
  )
$$;

CREATE FUNCTION retention._ceiling_words(p_bucket retention.bucket) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
  select nullif(
    concat_ws(
      ' and ',
      'at most ' || p_bucket.max_per_second || ' results a second',
      'at most ' || p_bucket.max_in_flight || ' batches at once'
    ),
    ''
  )
$$;

CREATE TABLE retention.seal (
    seal_id bigint NOT NULL,
    sealed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    complete_to timestamp with time zone,
    snapshot_xmin xid8,
    snapshot_xmax xid8,
    system_identifier text,
    batches bigint[] NOT NULL,
    receipts bigint[] NOT NULL,
    changes bigint[] NOT NULL,
    results bigint NOT NULL,
    digests bytea NOT NULL,
    previous bytea,
    digest bytea NOT NULL,
    pruned_at timestamp with time zone
);

COMMENT ON TABLE retention.seal IS 'one row for each seal: a digest over receipts and changes and over the seal before';

COMMENT ON COLUMN retention.seal.complete_to IS 'whatever was settled before then is covered by this seal or one before: nothing can be added there any more';

COMMENT ON COLUMN retention.seal.snapshot_xmin IS 'between here and snapshot_xmax were the transactions that were open when it was made; system_identifier: of the server whose they are';

COMMENT ON COLUMN retention.seal.digests IS 'SHA-256 of each member, 32 bytes each, of batches, then receipts, then changes; they stay when receipts are pruned';

COMMENT ON COLUMN retention.seal.pruned_at IS 'when its receipts were removed, after setting.receipts_kept; null: they are there';

CREATE FUNCTION retention._chain_problems(p_seal retention.seal, p_before_id bigint, p_before_digest bytea) RETURNS SETOF jsonb
    LANGUAGE sql STABLE
    AS $$
  select jsonb_build_object('kind', w.kind, 'seal', p_seal.seal_id, 'member', null, 'message', w.message)
  from (
    select 'missing' as kind,
      case p_seal.seal_id - p_before_id
        when 2 then format('seal %s is missing', p_before_id + 1)
        else format('seals %s to %s are missing', p_before_id + 1, p_seal.seal_id - 1)
      end as message
    where p_seal.seal_id - p_before_id > 1
    union all
    select 'reordered', format('the members of seal %s were reordered', p_seal.seal_id)
    where p_seal.batches <> array(select unnest(p_seal.batches) order by 1)
      or p_seal.receipts <> array(select unnest(p_seal.receipts) order by 1)
      or p_seal.changes <> array(select unnest(p_seal.changes) order by 1)
    union all
    select 'changed', format('seal %s was changed: it does not give its own digest', p_seal.seal_id)
    where p_seal.digest is distinct from retention._seal_digest(
        p_seal.previous, retention._seal_header(p_seal.seal_id, p_seal.sealed_at, p_seal.complete_to), p_seal.digests
      )
      or length(p_seal.digests)
        <> 32 * (cardinality(p_seal.batches) + cardinality(p_seal.receipts) + cardinality(p_seal.changes))
    union all
    select 'removed',
      format(
        'the receipts of seal %s were removed %s after it was made, and are kept for %s',
        p_seal.seal_id, date_trunc('second', p_seal.pruned_at - p_seal.sealed_at), k.kept
      )
    from (select t.receipts_kept as kept from retention.setting t) k
    where p_seal.pruned_at is not null
      and p_seal.sealed_at > p_seal.pruned_at - k.kept
      and not exists (
        select
        from retention.change c
        cross join lateral unnest(array[c.before, c.after]) as v (value)
        where c.subject = 'setting'
          and p_seal.sealed_at <= p_seal.pruned_at - (v.value ->> 'receipts_kept')::interval
      )
    union all
    select 'rewritten', format('seal %s does not follow seal %s: that one was rewritten', p_seal.seal_id, p_before_id)
    where p_seal.seal_id - p_before_id = 1
      and p_seal.previous is distinct from p_before_digest
  ) w
$$;

CREATE FUNCTION retention._change_digest(p_salt bytea, p_text text) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sha256((p_salt || convert_to(p_text, 'UTF8'::name)));

CREATE TABLE retention.change (
    change_id bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    subject text NOT NULL,
    action text NOT NULL,
    tenant_id text,
    run_id text,
    name text,
    before jsonb,
    after jsonb,
    session_name text DEFAULT SESSION_USER NOT NULL,
    role_name text,
    application text,
    salt bytea DEFAULT uuid_send(gen_random_uuid()) NOT NULL,
    seal_id bigint,
    CONSTRAINT a_change_has_a_side CHECK ((num_nonnulls(before, after) > 0)),
    CONSTRAINT action_is_known CHECK ((action = ANY (ARRAY['insert'::text, 'update'::text, 'delete'::text])))
);

COMMENT ON TABLE retention.change IS 'every change of a policy, hold, setting, keeper, bucket, surge, allowance or approval; append-only. Not what the cycle writes there: a bucket''s pauses and what is learned and looked for, the use of an allowance, the objects that a hold finds';

COMMENT ON COLUMN retention.change.at IS 'when the row was written; others see it from the end of that transaction on';

COMMENT ON COLUMN retention.change.subject IS 'the table: policy, hold, setting, keeper, bucket, surge, surge_release, allowance, approval';

COMMENT ON COLUMN retention.change.tenant_id IS 'as the row has it; ''*'': the default policy; null: it names no tenant';

COMMENT ON COLUMN retention.change.name IS 'what it is called within its subject: a policy''s tenant, a hold''s number, a table, a bucket, the number of a surge, allowance or approval; of the settings, the columns that changed';

COMMENT ON COLUMN retention.change.before IS 'the whole row before; null: it was inserted';

COMMENT ON COLUMN retention.change.role_name IS 'the role that the session had set; null: none beside its own user';

COMMENT ON COLUMN retention.change.application IS 'the application_name of the session, which anybody may choose';

CREATE FUNCTION retention._change_text(p_change retention.change) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select row_to_json(t)::text
  from (
    select p_change.change_id as change,
      retention._iso_exactly(p_change.at) as at,
      p_change.subject,
      p_change.action,
      p_change.tenant_id,
      p_change.run_id,
      p_change.name,
      p_change.before,
      p_change.after,
      p_change.session_name as session,
      p_change.role_name as role,
      p_change.application
  ) t
$$;

CREATE FUNCTION retention._change_words(p_subject text, p_before jsonb, p_after jsonb) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select case p_subject
    when 'policy' then retention._policy_words(p_before, p_after)
    when 'hold' then retention._hold_words(p_before, p_after)
    when 'setting' then retention._setting_words(p_before, p_after)
    when 'approval' then retention._approval_words(p_before, p_after)
    when 'keeper' then format('keeper %s, column %s: ', r.it ->> 'table_name', r.it ->> 'key_column')
      || coalesce(w.word, retention._differences(p_before, p_after, '{question, seen}'))
    when 'bucket' then format('bucket %s: ', r.it ->> 'bucket')
      || case
        when p_before is null then 'first seen'
        else coalesce(
          w.word,
          retention._differences(
            p_before,
            p_after,
            '{versioning, described_at, paused_until, pauses, pause_code, pause_error, refused_in_row, looked_at, set_at, set_session, missing_confirmed_session}'
          )
        )
      end
    when 'surge' then format('surge %s: ', r.it ->> 'surge_id')
      || case
        when p_before is null
        then format('%s late results of %s set aside', p_after ->> 'found',
          case when p_after ->> 'tenants' = '1' then '1 tenant' else (p_after ->> 'tenants') || ' tenants' end)
        when p_before ->> 'closed_at' is null and p_after ->> 'closed_at' is not null
        then 'closed, nothing of it is set aside any more'
        else coalesce(w.word, retention._differences(p_before, p_after))
      end
    when 'surge_release' then format('surge %s: ', r.it ->> 'surge_id')
      || case
        when p_before is null
        then format('%s%s released', retention._counted((p_after ->> 'results')::bigint, 'result'), coalesce(' of tenant ' || (p_after ->> 'tenant_id'), ''))
        else 'its release ' || coalesce(w.word, retention._differences(p_before, p_after))
      end
    when 'allowance' then format('allowance %s: ', r.it ->> 'allowance_id')
      || case
        when p_before is null
        then format(
          '%s late results of %s may go, by %s', p_after ->> 'granted',
          case when p_after ->> 'tenant_key' = '' then 'no tenant' else 'tenant ' || substr(p_after ->> 'tenant_key', 2) end,
          p_after ->> 'reason'
        )
        else coalesce(w.word, retention._differences(p_before, p_after))
      end
    else format('%s: ', p_subject) || coalesce(w.word, retention._differences(p_before, p_after))
  end
  from (select coalesce(p_after, p_before) as it) r
  cross join (select case when p_before is null then 'added' when p_after is null then 'removed' end as word) w
$$;

CREATE FUNCTION retention._changed_parts(p_surge_id bigint, p_found_at timestamp with time zone) RETURNS bigint[]
    LANGUAGE plpgsql STABLE
    SET enable_nestloop TO 'off'
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $$
begin
  return (
    select coalesce(array_agg(distinct s.part_id), '{}')
    from (
      select p.part_id, p.bucket, u.run_id, retention._unpack_key(u.key, u.run_id::text) as key
      from retention.surge_part p
      cross join lateral unnest(p.run_ids, p.keys) as u (run_id, key)
      where p.surge_id = p_surge_id
      offset 0
    ) s
    where not exists (
      select
      from retention._live r
      where r.run_id = s.run_id
        and coalesce(r.key, '') = s.key collate "C"
        and r.bucket = s.bucket
        and coalesce(r.due_at < p_found_at, false)
    )
  );
end
$$;

CREATE FUNCTION retention._changes_of(p_tenant_id text, p_run_id text, p_setting text, p_since timestamp with time zone, p_limit integer) RETURNS bigint[]
    LANGUAGE plpgsql STABLE
    SET plan_cache_mode TO 'force_custom_plan'
    AS $$
declare
  v_since timestamptz := coalesce(p_since, '-infinity');
begin
  if p_setting is not null then
    return array(
      select c.change_id
      from retention.change c
      where c.at >= v_since
        and (
          c.subject = 'setting' and p_setting <> 'retain' and (
            c.name is null
            or p_setting = any (string_to_array(c.name, ', '))
            or p_setting = 'halt' and c.name like '%halted\_%'
          )
          or p_setting = 'retain' and c.subject = 'policy' and c.tenant_id = '*'
        )
      order by c.change_id desc
      limit p_limit
    );
  elsif p_run_id is not null then
    return array(
      select c.change_id
      from retention.change c
      where c.at >= v_since
        and (c.run_id = p_run_id or c.tenant_id = any (array[p_tenant_id, '*']) and c.subject in ('policy', 'hold'))
      order by c.change_id desc
      limit p_limit
    );
  elsif p_tenant_id is not null then
    return array(
      select c.change_id
      from retention.change c
      where c.at >= v_since
        and (c.tenant_id = p_tenant_id or c.tenant_id = '*' and c.subject = 'policy')
      order by c.change_id desc
      limit p_limit
    );
  end if;
  return array(select c.change_id from retention.change c where c.at >= v_since order by c.change_id desc limit p_limit);
end
$$;

CREATE FUNCTION retention._check(p_batch retention.batch, p_shared boolean, OUT spared bigint[], OUT keys text[], OUT failed bigint[], OUT codes text[], OUT errors text[], OUT is_late boolean) RETURNS record
    LANGUAGE plpgsql
    AS $$
declare
  v_firsts integer[] := array[1];
  v_lasts integer[] := array[p_batch.results];
  v_first integer;
  v_last integer;
  v_part retention.batch;
  v_checked record;
begin
  spared := '{}';
  keys := '{}';
  failed := '{}';
  codes := '{}';
  errors := '{}';
  is_late := false;
  while cardinality(v_firsts) > 0 loop
    v_first := v_firsts[cardinality(v_firsts)];
    v_last := v_lasts[cardinality(v_lasts)];
    v_firsts := trim_array(v_firsts, 1);
    v_lasts := trim_array(v_lasts, 1);
    begin
      if v_first = 1 and v_last = p_batch.results then
        select a.spared, a.keys
        into strict spared, keys
        from retention._may_go(p_batch, p_shared) m
        cross join lateral retention._spare_held(p_batch, m.spared, m.keys) h
        cross join lateral retention._spare_set_aside(p_batch, h.spared, h.keys, m.shares) a;
        perform retention._check_text(keys);
        return;
      end if;
      v_part := p_batch;
      v_part.results := v_last - v_first + 1;
      v_part.run_ids := p_batch.run_ids[v_first:v_last];
      v_part.keys := p_batch.keys[v_first:v_last];
      v_part.tenants := p_batch.tenants[v_first:v_last];
      select a.spared, a.keys
      into strict v_checked
      from retention._may_go(v_part, p_shared) m
      cross join lateral retention._spare_held(v_part, m.spared, m.keys) h
      cross join lateral retention._spare_set_aside(v_part, h.spared, h.keys, m.shares) a;
      perform retention._check_text(v_checked.keys);
      spared := spared || array(select s.n + v_first - 1 from unnest(v_checked.spared) as s (n));
      keys := keys || v_checked.keys;
    exception
      when query_canceled then
        is_late := true;
        errors := array[sqlerrm];
        return;
      when others then
        if retention._is_passing(sqlstate) then
          raise;
        end if;
        if v_first = v_last then
          failed := failed || v_first::bigint;
          codes := codes || sqlstate::text;
          errors := errors || sqlerrm::text;
        else
          spared := coalesce(spared, '{}');
          keys := coalesce(keys, '{}');
          v_firsts := v_firsts || ((v_first + v_last) / 2 + 1) || v_first;
          v_lasts := v_lasts || v_last || ((v_first + v_last) / 2);
        end if;
    end;
  end loop;
  keys := array(select distinct k.key collate "C" from unnest(keys) as k (key));
end
$$;

CREATE FUNCTION retention._check_adoption(p_table text, p_columns text, p_scheduler text, p_elsewhere boolean, p_role text) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_failed record;
begin
  select string_agg(f.found, '; ') as message,
    string_agg(f.remedy, ' ') as hint,
    (array_agg(f.code))[1] as code
  into v_failed
  from retention._report(p_table, p_columns, p_scheduler, p_elsewhere, p_role) f
  where f.state = 'failed'
    -- It is adopted in spite of that: it is no worse than before, and doctor still reports it.
    and f.name <> 'collation';
  if v_failed.message is not null then
    raise exception using errcode = v_failed.code, message = v_failed.message, hint = v_failed.hint;
  end if;
end
$$;

CREATE FUNCTION retention._check_certificate(p_tenant_id text, p_from timestamp with time zone, p_to timestamp with time zone) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
begin
  if p_from is null or p_to is null or not isfinite(p_from) or not isfinite(p_to)
    or p_from < timestamptz '0001-01-01 00:00Z'
  then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected when the period begins and when it is over, given: %s and %s', coalesce(p_from::text, 'null'), coalesce(p_to::text, 'null'));
  end if;
  if p_from >= p_to then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected a period that begins before it is over, given: from %s to %s', retention._iso(p_from), retention._iso(p_to)),
      hint = 'The end is the first moment that is no longer in it: of one day it is the next day.';
  end if;
  if p_to > now() then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected a period that is over, given: until %s, and it is %s', retention._iso(p_to), retention._iso(now())),
      hint = format('The latest whole day ends at %s.', retention._iso(date_trunc('day', now(), 'UTC')));
  end if;
  if to_regclass('retention.result') is null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'the application''s table is detached, so nothing is known of its runs',
      hint = 'Run: retention migrate up.';
  end if;
  return retention._read_tenant_id(p_tenant_id)::text;
end
$$;

CREATE FUNCTION retention._check_habits(p_habits jsonb, p_names text[]) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    AS $_$
declare
  v_habit record;
begin
  if jsonb_typeof(p_habits) is distinct from 'object' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected habits as a JSON object, given: %s', coalesce(left(p_habits::text, 100), 'null')),
      hint = 'For example {"keys_per_request": 100}.';
  end if;
  for v_habit in
    select h.key as name, h.value, h.value #>> '{}' as text from jsonb_each(p_habits) h
  loop
    if v_habit.name <> all (p_names) then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('expected one of %s, given: %s', array_to_string(p_names, ', '), left(v_habit.name, 100));
    end if;
    continue when jsonb_typeof(v_habit.value) = 'null';
    if (
      case v_habit.name
        when 'deletes' then v_habit.text in ('together', 'singly')
        when 'checksum' then v_habit.text in ('crc32', 'md5', 'none')
        when 'addressing' then v_habit.text in ('path', 'virtual')
        when 'conditional' then v_habit.text in ('honoured', 'ignored') or v_habit.text = 'refused' and 'keys_in_time' = any (p_names)
        else jsonb_typeof(v_habit.value) = 'number' and v_habit.text ~ '^(1000|[1-9]\d{0,2})$'
      end
    ) is not true then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format(
          'expected %s as %s, given: %s',
          v_habit.name,
          case v_habit.name
            when 'deletes' then 'together or singly'
            when 'checksum' then 'crc32, md5 or none'
            when 'addressing' then 'path or virtual'
            when 'conditional' then 'honoured or ignored'
            else 'a whole number from 1 to 1000'
          end,
          left(v_habit.text, 100)
        );
    end if;
  end loop;
end
$_$;

CREATE FUNCTION retention._check_history(p_tenant_id text, p_run_id text, p_setting text, p_since timestamp with time zone, p_limit integer) RETURNS void
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_known text[] := array(
    select a.attname
    from pg_attribute a
    where a.attrelid = 'retention.setting'::regclass
      and a.attnum > 0
      and not a.attisdropped
      and a.attname <> 'singleton'
    order by a.attname
  ) || '{halt, retain}'::text[];
begin
  if num_nonnulls(p_tenant_id, p_run_id, p_setting) > 1 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'history: expected a tenant, a run or a setting, given: more than one of them';
  end if;
  if p_setting is not null and p_setting <> all (v_known) then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('history: expected the name of a setting, given: %s', left(p_setting, 100)),
      hint = format('There are: %s. retain is the default policy.', array_to_string(v_known, ', '));
  end if;
  if p_since > clock_timestamp() then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('history: expected a time that has passed, given: %s', retention._iso(p_since));
  end if;
  if p_limit is null or p_limit not between 1 and 100000 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('history: expected a limit from 1 to 100000, given: %s', coalesce(p_limit::text, 'null'));
  end if;
end
$$;

CREATE FUNCTION retention._check_indexes() RETURNS void
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_missing text := retention._missing_indexes();
begin
  if v_missing is not null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('the index %s of the application''s table is missing or not valid, and without it this would read the whole table again and again', v_missing),
      hint = 'Run: retention migrate up. It builds the index without a lock.';
  end if;
end
$$;

CREATE FUNCTION retention._check_keeper_table(p_table text, p_found regclass, p_key_column text) RETURNS void
    LANGUAGE plpgsql STABLE
    AS $$
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

CREATE FUNCTION retention._check_margin(p_margin interval) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    AS $$
begin
  if coalesce(p_margin, '0') < '1 hour' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected a margin of at least an hour, given: %s', coalesce(p_margin::text, 'null')),
      hint = 'A younger object may be an upload whose row is not written yet.';
  end if;
end
$$;

CREATE FUNCTION retention._check_narrowing(p_run_ids text[], p_tenant_id text, p_bucket text DEFAULT NULL::text, p_code text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_name text;
begin
  select a.name
  into v_name
  from (
    values ('p_tenant_id', p_tenant_id), ('p_bucket', p_bucket), ('p_code', p_code)
  ) as a (name, value)
  where btrim(a.value, E' \t\r\n') = ''
  limit 1;
  if found then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('%s: expected what to narrow to, given: an empty text', v_name),
      hint = 'An empty text never means everything. Where everything is meant, leave it out and say so.';
  end if;
  if exists (select from unnest(p_run_ids) as i (id) where btrim(coalesce(i.id, ''), E' \t\r\n') = '') then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'p_run_ids: expected the ids of runs, given: a list with a null or an empty text in it',
      hint = 'Take it out of the list.';
  end if;
  if p_run_ids = '{}' then
    raise notice 'p_run_ids is an empty list: no run is selected';
  end if;
end
$$;

CREATE TABLE retention.orphan_list (
    list_id uuid NOT NULL,
    bucket text NOT NULL,
    prefix text NOT NULL,
    margin interval NOT NULL,
    listed bigint NOT NULL,
    orphans bigint NOT NULL,
    bytes bigint NOT NULL,
    digest text NOT NULL,
    made_at timestamp with time zone DEFAULT now() NOT NULL,
    made_by text DEFAULT SESSION_USER NOT NULL,
    begun_at timestamp with time zone,
    begun_by text,
    begun_as text,
    expected bigint,
    worked_at timestamp with time zone,
    deleted bigint DEFAULT 0 NOT NULL,
    spared bigint DEFAULT 0 NOT NULL,
    failed bigint DEFAULT 0 NOT NULL,
    CONSTRAINT a_begun_deletion_says_by_whom CHECK ((num_nonnulls(begun_at, begun_by, begun_as) = ANY (ARRAY[0, 3]))),
    CONSTRAINT a_margin_is_an_hour_at_least CHECK ((margin >= '01:00:00'::interval)),
    CONSTRAINT only_what_was_listed_is_an_orphan CHECK (((orphans >= 0) AND (orphans <= listed)))
);

COMMENT ON TABLE retention.orphan_list IS 'one row for each list of orphans: when it was made, and what was deleted by it';

COMMENT ON COLUMN retention.orphan_list.listed IS 'how many objects S3 listed under the prefix; orphans: how many of them the list names';

COMMENT ON COLUMN retention.orphan_list.digest IS 'SHA-256 of the list without its closing line: another list is not deleted';

COMMENT ON COLUMN retention.orphan_list.begun_at IS 'when its deletion was first asked for; null: it was not';

COMMENT ON COLUMN retention.orphan_list.begun_as IS 'the session user who asked; begun_by is the name that was given';

COMMENT ON COLUMN retention.orphan_list.deleted IS 'how many objects S3 has named as deleted; of the others, spared were left and failed were refused';

CREATE FUNCTION retention._check_orphan_list(p_list retention.orphan_list, p_expected bigint) RETURNS void
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_recent bigint;
  v_why text;
begin
  if p_list.made_at > clock_timestamp() - interval '1 hour' then
    perform retention._refuse_orphans(
      format('the list was made at %s, and a list is at least an hour old', retention._iso(p_list.made_at)),
      format('Ask again from %s on.', retention._iso(p_list.made_at + interval '1 hour'))
    );
  end if;
  if not exists (
    select
    from retention.result r
    where retention._bucket(r.bucket, (select s.default_bucket from retention.setting s)) = p_list.bucket
  ) then
    perform retention._refuse_orphans(
      format('no row of this database names bucket %s, so nothing says which of its objects belong to runs', p_list.bucket),
      'Check DATABASE_URL, RETENTION_TABLE and the bucket. Delete what really belongs to no run with the tools of the store.'
    );
  end if;
  if p_expected <> p_list.orphans then
    perform retention._refuse_orphans(
      format('%s objects were expected, and the list names %s', p_expected, p_list.orphans),
      'Look at the list again before you say its number.'
    );
  end if;
  select coalesce(sum(case when o.begun_at > now() - interval '1 day' then o.orphans else o.deleted end), 0)
  into v_recent
  from retention.orphan_list o
  where o.bucket = p_list.bucket
    and greatest(o.begun_at, o.worked_at) > now() - interval '1 day'
    and o.list_id <> p_list.list_id;
  v_why := case
    when p_list.orphans > 10000 then 'more than 10000'
    when p_list.orphans + v_recent > 10000 then format('with %s of other lists within a day more than 10000', v_recent)
    when p_list.orphans * 10 > p_list.listed then format('more than a tenth of the %s that were listed', p_list.listed)
  end;
  if v_why is not null and p_expected is null then
    perform retention._refuse_orphans(
      format(
        'the list names %s objects of bucket %s%s, %s', p_list.orphans, p_list.bucket,
        coalesce(' under ' || nullif(p_list.prefix, ''), ''), v_why
      ),
      format('If all of them are to go, say exactly that number: --expect %s', p_list.orphans)
    );
  end if;
end
$$;

CREATE FUNCTION retention._check_renamed(p_table text) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_adapter retention.adapter;
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
end
$$;

CREATE FUNCTION retention._check_role(p_role text, p_variable text DEFAULT 'RETENTION_ROLE'::text) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
  if p_role <> '' and not exists (select from pg_roles where rolname = p_role) then
    raise exception using
      errcode = 'undefined_object',
      message = format('%s names the role %s, which does not exist', p_variable, p_role),
      hint = format('create role %I login; then migrate up again.', p_role);
  end if;
end
$$;

CREATE FUNCTION retention._check_scheduler(p_scheduler text, p_elsewhere boolean) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_fault record;
begin
  for v_fault in select * from retention._scheduler_fault(p_scheduler, p_elsewhere) loop
    raise exception using errcode = v_fault.code, message = v_fault.message, hint = v_fault.hint;
  end loop;
  if p_scheduler = 'pg_cron' and not p_elsewhere then
    create extension if not exists pg_cron;
  end if;
end
$$;

CREATE FUNCTION retention._check_scope(p_function text, p_narrowed boolean, p_all boolean, p_what text) RETURNS void
    LANGUAGE plpgsql STABLE
    AS $$
begin
  if p_narrowed and p_all then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('%s: expected %s, or p_all => true, given: both', p_function, p_what),
      hint = 'Leave out one of them.';
  end if;
  if not p_narrowed and p_all is not true then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('%s: expected %s, or p_all => true, given: neither', p_function, p_what),
      hint = 'An argument that is null or left out never means everything. Where everything is meant: p_all => true.';
  end if;
end
$$;

CREATE FUNCTION retention._check_settings(p_function text, p_settings jsonb) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    AS $$
declare
  v_key text;
begin
  if jsonb_typeof(p_settings) is distinct from 'object' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('%s takes an object such as {"enabled": false}, given: %s', p_function, coalesce(left(p_settings::text, 100), 'null'));
  end if;
  for v_key in select jsonb_object_keys(p_settings) loop
    if v_key not in ('enabled', 'retain', 'loop_interval', 'batch_size', 'default_bucket', 'receipt_keys')
      -- No variable says how receipts keep keys.
      or v_key = 'receipt_keys' and p_function <> 'configure'
    then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('%s knows no setting %s', p_function, v_key),
        hint = case p_function
          when 'configure' then 'It takes enabled, retain, loop_interval, batch_size, default_bucket and receipt_keys.'
          else 'It takes enabled, retain, loop_interval, batch_size and default_bucket.'
        end;
    end if;
    -- Of several buckets none is the default, and so a process that names several brings none.
    if coalesce(p_settings ->> v_key, '') = '' and v_key <> 'default_bucket' then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('%s needs a value for %s, given: %s', p_function, v_key, p_settings -> v_key),
        hint = 'Leave out what is to stay as it is.';
    end if;
    if v_key = 'receipt_keys' and p_settings ->> v_key not in ('plain', 'hashed') then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('%s takes plain or hashed as receipt_keys, given: %s', p_function, left(p_settings ->> v_key, 100));
    end if;
  end loop;
end
$$;

CREATE FUNCTION retention._check_table() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_adapter retention.adapter;
begin
  select * into strict v_adapter from retention.adapter;
  if to_regclass(v_adapter.table_name)::oid is distinct from v_adapter.table_oid then
    raise exception using
      errcode = 'RR002',
      message = format('%s is another table than the one that was adopted, so nothing is stamped', v_adapter.table_name),
      hint = 'Run: retention migrate up. It adopts the table as it is now and keeps holds, policies and batches.';
  end if;
end
$$;

CREATE FUNCTION retention._check_text(p_texts text[]) RETURNS void
    LANGUAGE plpgsql STABLE
    AS $$
begin
  if getdatabaseencoding() <> 'UTF8' then
    perform count(convert_to(t.text, 'UTF8')) from unnest(p_texts) as t (text);
  end if;
end
$$;

CREATE FUNCTION retention._claim_canary(p_batch retention.batch, p_bucket retention.bucket) RETURNS TABLE(batch_id bigint, bucket text, keys text[], spared integer, attempts integer, leased_until timestamp with time zone, purge boolean, failed integer, dead integer, problems jsonb, habits jsonb, looked_in text, etags text[])
    LANGUAGE sql STABLE
    AS $$
  select p_batch.batch_id, p_batch.bucket,
    array(select c.key from retention.canary c where c.batch_id = p_batch.batch_id and c.key is not null),
    0, p_batch.attempts, p_batch.visible_at, p_bucket.on_versioned is not distinct from 'purge', 0, 0, '[]'::jsonb,
    retention._habits(p_bucket), null::text, null::text[]
$$;

CREATE FUNCTION retention._clean_up() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    SET lock_timeout TO '2s'
    AS $_$
declare
  v_steps text[] := array[
    'delete from retention.batch b
    using retention.setting s
    where b.settled_at < now() - s.history_kept
      and b.cleared = 0',
    'select retention._prune_receipts()',
    'delete from retention.scan c using retention.setting s where c.started_at < now() - s.history_kept',
    'delete from retention.unanswered u where u.until < now()',
    'delete from retention.past_work p using retention.setting s where p.until < now() - s.history_kept',
    'delete from retention.cutoff c where c.until < now()',
    'delete from retention.attention a where a.at < now() - interval ''1 day''',
    'select retention._review_held_objects()',
    'select retention._forget_dead()',
    'select retention._forget_moved()',
    'select retention._forget_returned()',
    'select retention._review_some()',
    'delete from retention.lateness l where l.at < now() - interval ''25 hours''',
    'delete from retention.allowance a using retention.setting s
    where a.hold_id is null and a.dropped_at < now() - s.history_kept'
  ];
  v_step text;
  v_problem text;
begin
  -- Where pg_cron is none of ours, or lives in another database, its history is not ours either.
  if (select a.scheduler = 'pg_cron' and a.cron_database is null from retention.adapter a) then
    v_steps := v_steps || $cron$
      delete from cron.job_run_details
      where jobid in (select jobid from cron.job where jobname = 'retention-tick' or jobname like 'retention-tick:%')
        and end_time < now() - interval '1 day'
    $cron$::text;
  end if;
  foreach v_step in array v_steps loop
    begin
      execute v_step;
    exception
      when query_canceled or others then
        v_problem := concat_ws('; ', v_problem, format('%s %s', sqlstate, left(sqlerrm, 500)));
        -- Who has locked the table against one step has it locked against the next.
        perform set_config('lock_timeout', '100ms', true) where sqlstate = '55P03';
    end;
  end loop;
  update retention.heartbeat
  set cleaned_up_at = clock_timestamp(),
    clean_up_problem = v_problem;
end
$_$;

CREATE FUNCTION retention._clear_stamps(p_run_ids retention.run_id[], p_before timestamp with time zone) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '500ms'
    SET enable_seqscan TO 'off'
    AS $$
declare
  v_path text := (select retention._application_path(a.application_path) from retention.adapter a);
  v_changed bigint;
begin
  perform set_config('search_path', v_path, true);
  update retention.result r
  set cleared_at = null
  where r.run_id operator(pg_catalog.=) any (p_run_ids)
    and r.cleared_at operator(pg_catalog.<) p_before;
  get diagnostics v_changed = row_count;
  set constraints all immediate;
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  return v_changed;
end
$$;

CREATE FUNCTION retention._close_surge(p_surge_id bigint) RETURNS void
    LANGUAGE sql
    AS $$
  update retention.surge s
  set closed_at = clock_timestamp()
  where s.surge_id = p_surge_id
    and s.closed_at is null
    and not exists (select from retention.surge_part p where p.surge_id = s.surge_id)
$$;

CREATE FUNCTION retention._column_fault(p_table regclass, p_column text, p_name text, p_completed text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION retention._column_type(p_table oid, p_column text) RETURNS TABLE(type text, collation_name text, category "char", oid oid, typmod integer, is_deterministic boolean, is_domain boolean, is_nullable boolean, most_bytes integer)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION retention._columns_like(p_table regclass) RETURNS TABLE(view_column text, name text, type text, place integer, fault text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
  select distinct on (u.view_column, a.attnum)
    u.view_column,
    a.attname::text,
    c.type,
    u.place,
    case
      when u.view_column = 'status' and c.category = 'E'
        then case when c.is_domain then format('column %I is of a domain over the enum %s, whose operators take no domain', a.attname, c.type) end
      else coalesce(
        retention._column_fault(p_table, u.view_column, a.attname, null),
        case
          when u.view_column = 'run_id' and not retention._begins_unique(p_table, a.attname)
          then format('column %I begins no primary key or unique index', a.attname)
        end
      )
    end
  from pg_attribute a
  join retention._usual_names() u on lower(replace(a.attname, '_', '')) ~ ('^(' || u.pattern || ')$')
  cross join lateral retention._column_type(p_table, a.attname) c
  where a.attrelid = p_table
    and a.attnum > 0
    and not a.attisdropped
  order by u.view_column, a.attnum, u.place
$_$;

CREATE FUNCTION retention._complete_to(p_sealed_at timestamp with time zone, p_snapshot pg_snapshot, p_system text) RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    AS $$
  select case
    when not exists (
      select from pg_snapshot_xip(p_snapshot) x where x is distinct from pg_current_xact_id_if_assigned()
    ) then p_sealed_at
    else (
      select s.sealed_at
      from retention.seal s
      where s.snapshot_xmax <= pg_snapshot_xmin(p_snapshot)
        and s.system_identifier is not distinct from p_system
        and s.sealed_at <= p_sealed_at
      order by s.seal_id desc
      limit 1
    )
  end - interval '1 second'
$$;

CREATE FUNCTION retention._completed_word(p_table regclass, p_name text, OUT word text, OUT why text) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_like text[];
  v_all text;
begin
  select array_agg(distinct w.word) filter (
      where lower(w.word) in ('completed', 'complete', 'done', 'finished', 'succeeded', 'success', 'successful')
    ),
    string_agg(distinct left(w.word, 40), ', ')
  into v_like, v_all
  from retention._status_words(p_table, p_name) w;
  word := case
    when v_all is null or 'COMPLETED' = any (v_like) then 'COMPLETED'
    when cardinality(v_like) = 1 and v_like[1] !~ '[,"'':]' then v_like[1]
  end;
  why := case
    when v_all is null then 'there is no row yet; COMPLETED is taken for the word that means completed'
    when word is null and cardinality(v_like) > 1
      then format('several words of column %I may mean completed: %s', p_name, array_to_string(v_like, ', '))
    when word is null then format('no word of column %I reads like completed; there are: %s', p_name, v_all)
  end;
end
$$;

CREATE FUNCTION retention._condition(p_etag text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (p_etag IS NULL) THEN NULL::text WHEN ((octet_length(p_etag) <= 257) AND (p_etag ~ '^("[A-Za-z0-9+/=_.:~-]+"|[A-Za-z0-9+/=_.:~-]+)$'::text)) THEN btrim(p_etag, '"'::text) ELSE '!'::text END;

CREATE FUNCTION retention._conditional_results(p_batch retention.batch) RETURNS TABLE(run_id retention.run_id, key text, etag text, n bigint)
    LANGUAGE sql STABLE
    AS $$
  -- Unnested together: an element of an array out of line costs reading the whole of it.
  select u.run_id, retention._unpack_key(u.key, u.run_id::text), u.etag, u.n
  from unnest(p_batch.run_ids, p_batch.keys, p_batch.etags) with ordinality as u (run_id, key, etag, n)
  offset 0
$$;

CREATE FUNCTION retention._confirm_early(p_expected bigint, p_asked jsonb) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_early bigint := (select count(*) from retention.selection s where s.due_at >= now());
begin
  if v_early > coalesce(p_expected, 0) then
    raise exception using
      errcode = 'RR003',
      message = format(
        '%s of the selected results are not due by their policy, %s; nothing was changed', v_early,
        case when p_expected is null then 'and no number was expected' else format('and %s were expected', p_expected) end
      ),
      hint = format('See them with retention.list_due(..., p_early => true); to delete them early: p_expected => %s.', v_early);
  end if;
  if v_early > 0 then
    perform retention._two_people('early', p_asked);
  end if;
end
$$;

CREATE FUNCTION retention._cool(p_cool_off interval) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
  if p_cool_off is null then
    return;
  end if;
  update retention.batch b
  set visible_at = greatest(b.visible_at, b.flagged_at + retention._in_seconds(p_cool_off))
  where b.flagged_at = now()
    and b.settled_at is null
    and b.lease is null
    and b.early is null
    and b.failed_at is null;
end
$$;

CREATE FUNCTION retention._copy_keys(p_verify_id uuid, p_bucket text, p_prefix text, p_before timestamp with time zone) RETURNS bigint
    LANGUAGE plpgsql
    SET enable_hashagg TO 'off'
    SET work_mem TO '128MB'
    SET jit TO 'off'
    AS $$
declare
  v_copy_id bigint := (
    select c.copy_id
    from retention.key_copy c
    where c.verify_id = p_verify_id
      and c.bucket = p_bucket
      and c.prefix = p_prefix
  );
begin
  if v_copy_id is not null then
    return v_copy_id;
  end if;
  insert into retention.key_copy (verify_id, bucket, prefix)
  values (p_verify_id, p_bucket, p_prefix)
  on conflict do nothing
  returning copy_id into v_copy_id;
  if v_copy_id is null then
    return (
      select c.copy_id
      from retention.key_copy c
      where c.verify_id = p_verify_id
        and c.bucket = p_bucket
        and c.prefix = p_prefix
    );
  end if;
  insert into retention.key_stretch (copy_id, place, first_key, last_key, keys, run_ids)
  select v_copy_id, s.place, min(s.key), max(s.key), array_agg(s.key order by s.n), array_agg(s.run_id order by s.n)
  from (
    select o.key, o.run_id, o.n, (o.n - 1) / 1000 as place
    from (
      select r.key collate "C" as key,
        r.run_id::retention.run_id as run_id,
        row_number() over (order by r.key collate "C") as n
      from retention._live r
      where r.bucket = p_bucket
        and r.is_candidate
        and r.completed_at < p_before
        and r.run_id is not null
        and starts_with(r.key, p_prefix)
    ) o
  ) s
  group by s.place;
  return v_copy_id;
end
$$;

CREATE FUNCTION retention._copy_reason() RETURNS TABLE(because text, since timestamp with time zone, remedy text)
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_differs record;
  v_fence retention.fence;
begin
  select * into v_differs from retention._identity_differs();
  select * into v_fence from retention.fence;
  if num_nonnulls(v_differs.server, v_differs.database, v_differs.timeline, v_fence.lost_because) = 0 then
    return;
  end if;
  because := format(
    'this may be a copy of another database: %s',
    concat_ws('; ', v_differs.server, v_differs.database, v_differs.timeline, v_fence.lost_because)
  );
  since := v_fence.lost_at;
  remedy := 'retention fence accept, if this is the database that is to delete; it says what may be missing here. '
    || 'Otherwise stop its listeners and leave it as it is';
  if num_nonnulls(v_differs.server, v_differs.database, v_fence.lost_because) = 0 and v_fence.renewed_at is not null then
    remedy := 'wait: a listener accepts it by itself when it finds the fence in S3 as this database left it; '
      || 'where that does not come: retention fence accept';
  end if;
  return next;
end
$$;

CREATE FUNCTION retention._count_due_before(p_tenant_id retention.tenant_id, OUT due_before bigint, OUT retain interval) RETURNS record
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_mergejoin TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $$
begin
  select p.retain
  into retain
  from retention.policy p
  where p.tenant_id in ('*', p_tenant_id::text)
  order by p.tenant_id = '*'
  limit 1;
  select count(*)
  into due_before
  from retention._past(p_tenant_id, null, null, now() - retention._in_seconds(retain), null) r
  where r.has_place
    and coalesce(r.retain_until, '-infinity') < now()
    and r.run_id not in (
      select a.run_id
      from retention._set_aside_between('-infinity', now() - retention._in_seconds(retain)) as a (run_id)
      where a.run_id is not null
    );
end
$$;

CREATE FUNCTION retention._count_many(p_tenant_id text, p_older_than interval, p_early boolean, p_limit bigint) RETURNS TABLE(tenant_id text, bucket text, results bigint, oldest timestamp with time zone, early bigint)
    LANGUAGE plpgsql STABLE
    SET enable_nestloop TO 'off'
    SET enable_sort TO 'off'
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $$
#variable_conflict use_column
declare
  v_look record;
begin
  select * into strict v_look from retention._look_many(p_tenant_id, p_older_than, p_early, p_limit);
  return query execute format(
    'select d.tenant_id, d.bucket, count(*), min(d.completed_at), count(*) filter (where d.due_at >= now())
    from (%s) d
    group by d.tenant_id, d.bucket',
    v_look.statement
  )
  using v_look.before, p_tenant_id::retention.tenant_id, v_look.shared_buckets, v_look.shared_keys, v_look.not_due,
    v_look.kept_buckets, v_look.kept_keys;
end
$$;

CREATE FUNCTION retention._count_set_aside(p_surge_id bigint, p_tenant_id text) RETURNS bigint
    LANGUAGE sql STABLE
    AS $$
  select case
    when p_tenant_id is null then coalesce(sum(p.results), 0)
    else (
      select count(*)
      from retention.surge_part x
      cross join lateral unnest(x.tenants) as u (tenant_id)
      where x.surge_id = p_surge_id
        and u.tenant_id = p_tenant_id
    )
  end::bigint
  from retention.surge_part p
  where p.surge_id = p_surge_id
$$;

CREATE FUNCTION retention._count_unknown(p_tenant_id retention.tenant_id, p_from timestamp with time zone, p_to timestamp with time zone, p_dated_before timestamp with time zone DEFAULT now()) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_mergejoin TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $$
begin
  return (
    select count(*)
    from retention._past(p_tenant_id, p_from, null, p_to, null) r
    where r.has_place
      and coalesce(r.retain_until, '-infinity') < p_dated_before
      and not (
        r.held
        and exists (
          select
          from retention.hold h
          where h.run_id = r.run_id
            and retention._hold_end(h.released_at, h.expires_at) > now()
        )
      )
      and r.run_id not in (
        select k.run_id
        from retention._known_between(coalesce(p_from, '-infinity'), p_to) as k (run_id)
        where k.run_id is not null
      )
  );
end
$$;

CREATE FUNCTION retention._counted(p_count bigint, p_one text, p_many text DEFAULT NULL::text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((p_count || ' '::text) || CASE p_count WHEN 1 THEN p_one ELSE COALESCE(p_many, (p_one || 's'::text)) END);

CREATE FUNCTION retention._cut(p_batch_id bigint, p_most integer) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_batch retention.batch;
begin
  select * into strict v_batch from retention.batch b where b.batch_id = p_batch_id;
  -- All at once: taken off one by one, the rest would be written again at every claim.
  insert into retention.batch (
    bucket, results, oldest, newest, due_since, late_since, early, flagged_at, visible_at, leased_at, attempts, postponed,
    stuck_since, code, error, failed_at, why, asked_by, request_ids, run_ids, keys, tenants
  )
  select v_batch.bucket, least(p_most, v_batch.results - n), v_batch.oldest, v_batch.newest, v_batch.due_since,
    v_batch.late_since,
    v_batch.early, v_batch.flagged_at, v_batch.visible_at, v_batch.leased_at, v_batch.attempts, v_batch.postponed,
    v_batch.stuck_since, v_batch.code, v_batch.error, v_batch.failed_at, v_batch.why, v_batch.asked_by, v_batch.request_ids,
    v_batch.run_ids[n + 1:n + p_most], v_batch.keys[n + 1:n + p_most], v_batch.tenants[n + 1:n + p_most]
  from generate_series(p_most, v_batch.results - 1, p_most) n;
  update retention.batch b
  set results = p_most,
    run_ids = v_batch.run_ids[:p_most],
    keys = v_batch.keys[:p_most],
    tenants = v_batch.tenants[:p_most],
    -- The next claim reads them again.
    etags = null
  where b.batch_id = p_batch_id;
end
$$;

CREATE FUNCTION retention._decide_late(p_found_by text, OUT flagged bigint, OUT batches bigint, OUT oldest timestamp with time zone, OUT surge_id bigint, OUT set_aside bigint) RETURNS record
    LANGUAGE plpgsql
    SET enable_seqscan TO 'on'
    SET enable_sort TO 'on'
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $$
#variable_conflict use_variable
declare
  v_keys text[];
  v_results bigint[];
  v_uncovered bigint[];
  v_rules text[];
  v_over text[];
  v_late_since timestamptz := (select coalesce(h.seen_at, 'infinity') from retention.heartbeat h);
begin
  flagged := 0;
  batches := 0;
  set_aside := 0;
  if not exists (select from retention.surge_part p where p.surge_id is null) then
    return;
  end if;
  select array_agg(t.tenant_key), array_agg(t.results)
  into v_keys, v_results
  from (
    select retention._tenant_key(u.tenant_id) as tenant_key, count(*) as results
    from retention.surge_part p
    cross join lateral unnest(p.tenants) as u (tenant_id)
    where p.surge_id is null
    group by 1
  ) t;
  select array_agg(j.tenant_key), array_agg(j.results), array_agg(j.uncovered), array_agg(j.rule),
    coalesce(array_agg(j.tenant_key) filter (where j.rule is not null), '{}'),
    coalesce(sum(j.results) filter (where j.rule is not null), 0)
  into v_keys, v_results, v_uncovered, v_rules, v_over, set_aside
  from retention._judge(v_keys, v_results) j;
  if set_aside < (select sum(r.results) from unnest(v_results) as r (results)) then
    select w.flagged, w.batches, w.oldest
    into flagged, batches, oldest
    from retention._put_to_work(null, v_over, v_late_since) w;
  end if;
  if set_aside > 0 then
    surge_id := retention._open_surge(
      set_aside, cardinality(v_over), case when 'tenant' = any (v_rules) then 'tenant' else 'all' end, p_found_by
    );
    update retention.surge_part p
    set surge_id = _decide_late.surge_id
    where p.surge_id is null;
  end if;
  perform retention._note_lateness(v_keys, v_results, v_uncovered, v_rules);
end
$$;

CREATE FUNCTION retention._differences(p_before jsonb, p_after jsonb, p_but text[] DEFAULT '{}'::text[]) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
  select coalesce(
    string_agg(
      format('%s: %s -> %s', a.key, retention._shown(p_before ->> a.key), retention._shown(a.value)), ', ' order by a.key
    ),
    'written again'
  )
  from jsonb_each_text(p_after) a
  where a.key <> all (p_but)
    and p_before ->> a.key is distinct from a.value
$$;

CREATE FUNCTION retention._differs(p_shipped text, p_table text, p_columns text, p_scheduler text, p_role text, p_operator_role text DEFAULT NULL::text, p_observer_role text DEFAULT NULL::text) RETURNS text[]
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_adapter retention.adapter;
  v_installed retention.installed;
  v_columns jsonb;
  v_differs text[] := '{}';
begin
  -- Here, where nothing has been forgotten yet.
  perform retention._check_role(p_role),
    retention._check_role(p_operator_role, 'RETENTION_OPERATOR_ROLE'),
    retention._check_role(p_observer_role, 'RETENTION_OBSERVER_ROLE');
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
  if coalesce(p_role, '') <> '' and v_adapter.listener_role is distinct from p_role
    or coalesce(p_operator_role, '') <> '' and v_adapter.operator_role is distinct from p_operator_role
    or coalesce(p_observer_role, '') <> '' and v_adapter.observer_role is distinct from p_observer_role
  then
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
    union all
    select pg_get_indexdef(i.indexrelid) || i.indisvalid::text
    from pg_index i
    join pg_class c on c.oid = i.indrelid
    where c.relnamespace = 'retention'::regnamespace
  ) d
$$;

CREATE FUNCTION retention._digests_of(p_salt bytea, p_run_ids retention.run_id[], p_keys text[]) RETURNS bytea
    LANGUAGE sql STABLE
    AS $$
  select string_agg(
    sha256(
      retention._leaf_salt(p_salt, u.n)
        || convert_to(retention._unpack_key(u.key, coalesce(u.run_id::text, '')), 'UTF8')
    ),
    null order by u.n
  )
  from unnest(p_run_ids, p_keys) with ordinality as u (run_id, key, n)
$$;

CREATE FUNCTION retention._domain_type(p_domain text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select format_type(t.typbasetype, t.typtypmod)
    || case when t.typcollation <> b.typcollation then ' collate ' || t.typcollation::regcollation::text else '' end
  from pg_type t
  join pg_type b on b.oid = t.typbasetype
  where t.typname = p_domain
    and t.typnamespace = 'retention'::regnamespace
$$;

CREATE FUNCTION retention._drop_allowances(p_began_at timestamp with time zone) RETURNS void
    LANGUAGE sql
    AS $$
  update retention.allowance a
  set dropped_at = now()
  where a.dropped_at is null
    and (
      a.results = 0
      or a.walk_at <= p_began_at
      and coalesce(a.valid_until < p_began_at, true)
    )
$$;

CREATE FUNCTION retention._drop_verify(p_verify_id uuid) RETURNS void
    LANGUAGE sql
    AS $$
  delete from retention.stray s where s.verify_id = p_verify_id;
  delete from retention.verify_listed l where l.verify_id = p_verify_id;
  delete from retention.verify_run r where r.verify_id = p_verify_id;
  select retention._forget_copies(p_verify_id);
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

CREATE FUNCTION retention._due_words(p_at timestamp with time zone, p_due_at timestamp with time zone, p_retain_until timestamp with time zone, p_retain interval, p_policy text, p_set_by text, p_set_at timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select case
    when p_due_at >= p_at and p_retain_until = p_due_at then format('its own retain-until date kept it %s', retention._until(p_due_at))
    when p_due_at >= p_at then format('%s kept results for %s', p_policy, p_retain)
    else format('it had been due since %s by %s, %s', retention._iso(p_due_at), p_policy, p_retain)
  end
  || coalesce(format(', set by %s at %s', p_set_by, retention._iso(p_set_at)), '')
  || case when p_due_at >= p_at and p_retain_until is distinct from p_due_at then ': due at ' || retention._iso(p_due_at) else '' end
$$;

CREATE FUNCTION retention._end_canary(p_bucket text, p_code text, p_problem text) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
  update retention.canary c
  set key = null,
    batch_id = null,
    settled_at = null,
    asked_at = null
  where c.bucket = p_bucket;
  perform retention._note_canary_problem(p_bucket, p_code, p_problem);
end
$$;

CREATE FUNCTION retention._ends(p_run_ids retention.run_id[], p_keys text[], p_ends jsonb, OUT ends text[], OUT versions text[]) RETURNS record
    LANGUAGE plpgsql IMMUTABLE
    AS $$
begin
  if coalesce(p_ends, '{}') = '{}' then
    return;
  end if;
  if jsonb_typeof(p_ends) = 'object' then
    select array_agg(e.word order by e.n),
      case when count(e.version) > 0 then array_agg(e.version order by e.n) end
    into ends, versions
    from (
      select u.n,
        case when x.it is null then 'deleted' else coalesce(x.it ->> 'end', 'none') end as word,
        x.it ->> 'version' as version
      from unnest(p_run_ids, p_keys) with ordinality as u (run_id, key, n)
      cross join lateral (select p_ends -> retention._unpack_key(u.key, u.run_id::text) as it offset 0) x
    ) e;
  end if;
  if jsonb_typeof(p_ends) <> 'object' or not ends <@ array['deleted', 'gone', 'marker', 'purged'] then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected how keys ended as a JSON object, given: %s', left(p_ends::text, 200)),
      hint = 'For example {"results/a.json": {"end": "marker", "version": "3sL4kq"}}; an end is deleted, gone, marker or purged.';
  end if;
  if ends <@ array['deleted'] then
    ends := null;
  end if;
end
$$;

CREATE FUNCTION retention._entries_of(p_tenant_id text, p_first timestamp with time zone, p_last timestamp with time zone) RETURNS TABLE(receipt text, seal_id bigint, kind text, goes boolean, settled_at timestamp with time zone, bucket text, run_id retention.run_id, key text, kept_key text, how text, version text, retain text, is_last boolean, is_last_of_key boolean)
    LANGUAGE sql STABLE
    AS $$
  select e.*,
    row_number() over (partition by e.run_id order by e.settled_at desc, e.receipt desc) = 1,
    row_number() over (partition by e.run_id, e.key collate "C" order by e.settled_at desc, e.receipt desc) = 1
  from (
    select r.source || '-' || r.id as receipt,
      r.seal_id,
      r.kind,
      r.source = 'batch' or r.kind = 'found_gone' as goes,
      r.settled_at,
      r.bucket,
      u.run_id,
      retention._known_key(u.key, u.run_id, r.salt, u.n) as key,
      retention._unpack_key(u.key, u.run_id::text) as kept_key,
      coalesce(u.how, 'deleted') as how,
      u.version,
      coalesce(r.policies ->> u.tenant_id, r.policies ->> '*') as retain
    from retention._receipt r
    cross join lateral unnest(r.run_ids, r.keys, r.tenants, r.ends, r.versions) with ordinality
      as u (run_id, key, tenant_id, how, version, n)
    where r.settled_at >= p_first
      and r.settled_at < p_last
      and u.run_id is not null
      and u.tenant_id collate "C" is not distinct from p_tenant_id collate "C"
  ) e
$$;

CREATE FUNCTION retention._estimate_live() RETURNS bigint
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
begin
  -- By way of the index: partitions that came later have indexes under names of Postgres's choice.
  return (
    select coalesce(sum(greatest(c.reltuples, 0)) filter (where c.relkind = 'i'), 0)
    from retention.adapter a
    join pg_index i on i.indrelid = a.table_oid
    join pg_description d on d.objoid = i.indexrelid
      and d.classoid = 'pg_class'::regclass
      and d.objsubid = 0
      and d.description = a.index_marks[1]
    cross join lateral (
      select i.indexrelid as relid
      union
      select p.relid
      from pg_partition_tree(i.indexrelid) p
    ) t
    join pg_class c on c.oid = t.relid
  );
end
$$;

CREATE FUNCTION retention._explain(p_run_id text) RETURNS TABLE(run_id text, state text, because text, tenant_id text, status text, completed_at timestamp with time zone, bucket text, key text, cleared_at timestamp with time zone, retain interval, due_at timestamp with time zone, holds jsonb, flagged_at timestamp with time zone, batch_id bigint, attempts integer, last_code text, last_error text, next_attempt_at timestamp with time zone, shares_with text)
    LANGUAGE plpgsql STABLE
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
  v_spared record;
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
  v_run_id := retention._run_id_or_null(p_run_id);
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
  bucket := retention._bucket(v_run.bucket, v_setting.default_bucket);
  select l.* into v_live from retention._live l where l.run_id = v_run_id limit 1;
  retain := v_live.retain;
  -- From here on a date is taken for never, see _live.
  due_at := case when v_live.due_at >= '290000-01-01 00:00Z' then 'infinity' else v_live.due_at end;
  v_batch := retention._batch_of(v_run_id, v_run.completed_at);
  select * into v_bucket from retention.bucket k where k.bucket = coalesce(v_batch.bucket, _explain.bucket);
  flagged_at := v_batch.flagged_at;
  batch_id := case when v_batch.dead_at is null then v_batch.batch_id end;
  attempts := v_batch.attempts;
  last_code := v_batch.code;
  last_error := v_batch.error;
  next_attempt_at := case when v_batch.dead_at is null and (v_batch.lease is null or v_batch.visible_at <= now())
    then greatest(v_batch.visible_at, v_bucket.paused_until) end;
  holds := retention._bearing_holds(v_run_id, v_run.tenant_id::text, _explain.bucket, v_run.key);
  select * into v_work from retention._state_of_batch(v_batch, v_bucket, v_run_id::text);
  select format('the policy of tenant %s', p.tenant_id) into v_policy
  from retention.policy p where p.tenant_id = nullif(_explain.tenant_id, '*');
  if retention._can_look() then
    shares_with := retention._sharer(v_run_id, _explain.bucket, v_run.key);
  end if;
  select * into v_spared from retention._why_spared(v_run_id, _explain.bucket, v_run.key, v_run.etag::text);

  if v_run.cleared_at is not null then
    state := 'cleared';
    because := format('its result was deleted, or found gone, and the run stamped, at %s', retention._iso(v_run.cleared_at))
      || coalesce('; ' || retention._last_receipt_words(v_run_id, v_run.completed_at, v_run.cleared_at), '');
  elsif v_run.status::text is distinct from v_completed then
    state := 'not completed';
    because := format('its status is %s; only results of %s runs expire', coalesce(v_run.status::text, 'null'), v_completed);
  elsif v_run.completed_at is null or v_run.completed_at = '-infinity' then
    state := 'no date';
    because := format('the run is %s but has no completion date, so nothing says when it falls due: set the date', v_completed);
  elsif coalesce(v_run.key, '') = '' then
    state := 'no key';
    because := 'the run names no object, so there is nothing to delete';
  elsif v_live.key is null or v_live.is_candidate is false then
    state := 'too long';
    because := case
      when v_live.key is null then 'its key has more than the 1,024 bytes that S3 can hold, so it names no object'
      else 'its tenant or run id has more than 1,024 bytes, so no pass looks at it and its object stays'
    end;
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
    -- Flagged with a cutoff that a person confirmed, it goes before the policy says so.
    and not (
      v_batch.early is not null
      and retention._has_command(v_batch.flagged_at)
      and retention._is_past(
        v_live.due_at, v_live.completed_at, retention._in_seconds(v_batch.early), v_live.retain_until
      )
    )
  then
    state := 'kept';
    because := retention._why_kept(v_run.completed_at::timestamptz, v_run.retain_until::timestamptz, v_live.due_at, v_live.retain, v_policy);
  elsif shares_with is not null then
    state := 'shared';
    because := retention._why_shared(shares_with);
  elsif exists (select from retention._part_of(v_run_id)) then
    state := 'set aside';
    because := retention._why_in_part(v_run_id, v_live.due_at);
  elsif v_spared.state is not null then
    state := v_spared.state;
    because := v_spared.because;
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
  because := because || case when state <> 'in flight' then retention._still_asked(v_run_id) else '' end;
  return next;
end
$$;

CREATE FUNCTION retention._explain_at(p_run_id text, p_at timestamp with time zone) RETURNS TABLE(run_id text, at timestamp with time zone, state text, because text, tenant_id text, completed_at timestamp with time zone, bucket text, key text, retain interval, policy text, policy_set_by text, policy_set_at timestamp with time zone, due_at timestamp with time zone, holds jsonb, flagged_at timestamp with time zone, batch_id bigint, receipt text, settled_at timestamp with time zone, not_known text[])
    LANGUAGE plpgsql STABLE
    AS $$
#variable_conflict use_column
declare
  v_run_id retention.run_id := retention._run_id_or_null(p_run_id);
  v_run record;
  v_work record;
  v_rule record;
  v_setting jsonb := retention._row_at('setting', null, p_at);
  v_completed text := (select coalesce(a.columns -> 'status' ->> 'completed', 'COMPLETED') from retention.adapter a);
begin
  run_id := p_run_id;
  at := p_at;
  select * into v_run from retention._row_of(v_run_id);
  select * into v_work
  from retention._work_at(v_run_id, v_run.completed_at, v_run.cleared_at, v_run.is_there, p_at);
  tenant_id := case when v_run.is_there then v_run.tenant_id else v_work.tenant_id end;
  completed_at := v_run.completed_at;
  bucket := coalesce(retention._bucket(v_run.bucket, v_setting ->> 'default_bucket'), v_work.bucket);
  key := coalesce(v_run.key, v_work.key);
  flagged_at := v_work.flagged_at;
  batch_id := v_work.batch_id;
  select * into v_rule from retention._policy_at(tenant_id, p_at);
  retain := v_rule.retain;
  policy := v_rule.policy;
  policy_set_by := v_rule.set_by;
  policy_set_at := v_rule.set_at;
  if v_run.completed_at > '-infinity' then
    due_at := greatest(
      least(v_run.completed_at, timestamptz '290000-01-01 00:00Z') + retention._in_seconds(v_rule.retain), v_run.retain_until
    );
  end if;
  holds := retention._holds_at(
    v_run_id, tenant_id, _explain_at.bucket, v_run.key, (v_setting ->> 'release_spread')::interval, p_at
  );
  if v_work.state in ('cleared', 'stamped') then
    state := v_work.state;
    because := v_work.because;
    if v_work.state = 'cleared' then
      bucket := v_work.bucket;
      key := v_work.key;
      receipt := v_work.receipt;
      settled_at := v_work.settled_at;
    end if;
  elsif not v_run.is_there then
    state := coalesce(v_work.state, 'unknown');
    because := coalesce(
      v_work.because,
      case
        when v_run_id is null then 'there is no run with this id; it does not even have the form of one'
        when to_regclass('retention.result') is null then 'the table is detached, so nothing is known of its runs; remedy: retention migrate up'
        when v_work.receipt is null then 'there is no run with this id, and no receipt names it'
        else format('its row is not there any more; the receipt nearest to then is %s, of %s', v_work.receipt, retention._iso(v_work.settled_at))
      end
    );
  else
    select s.state, s.because
    into state, because
    from retention._state_at(v_run, v_work, v_setting, v_completed, due_at, _explain_at.bucket, holds, v_run_id, p_at) s;
    because := coalesce(because, retention._due_words(
      p_at, due_at, v_run.retain_until, v_rule.retain, v_rule.policy, v_rule.set_by, v_rule.set_at
    ));
  end if;
  not_known := retention._not_known(state, v_run.is_there, v_run.cleared_at, p_at);
  return next;
end
$$;

CREATE FUNCTION retention._failures(p_batch retention.batch, p_cleared text[], p_failed jsonb, p_max_attempts integer) RETURNS TABLE(code text, reason text, counted boolean, is_stuck boolean, is_dead boolean, run_ids retention.run_id[], keys text[], tenants text[])
    LANGUAGE sql STABLE
    SET enable_hashjoin TO 'on'
    AS $$
  select case when f.is_dead and not f.counted then 'StoreCannot' else f.code end,
    case
      when f.is_dead and not f.counted
      then left(format('%s at every attempt since %s: %s', f.code, p_batch.stuck_since, min(f.reason)), 500)
      else min(f.reason)
    end,
    f.counted,
    f.is_stuck,
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
      coalesce(f.outcome <> 'refused' and f.concerns = 'key', false) as is_stuck,
      case
        when f.outcome = 'refused' then p_batch.attempts + 1 >= p_max_attempts or coalesce(f.final, false)
        else coalesce(f.outcome = 'failed' and f.concerns = 'key' and b.is_beyond_store, false)
      end as is_dead
    from unnest(p_batch.run_ids, p_batch.keys, p_batch.tenants) with ordinality as u (run_id, key, tenant_id, n)
    cross join (select retention._is_beyond_store(p_batch) as is_beyond_store offset 0) b
    left join (
      select distinct on (j.key collate "C") j.*
      from jsonb_to_recordset(p_failed) as j (
        key text, code text, reason text, outcome text, concerns text, final boolean
      )
    ) f on f.key = retention._unpack_key(u.key, u.run_id::text) collate "C"
    where retention._unpack_key(u.key, u.run_id::text) collate "C" not in (select unnest(p_cleared) collate "C")
  ) f
  group by f.code, f.counted, f.is_stuck, f.is_dead
  order by min(f.n)
$$;

CREATE FUNCTION retention._fence_head() RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET "IntervalStyle" TO 'postgres'
    AS $$
  select jsonb_build_object(
    'seen_at', retention._iso(clock_timestamp()),
    'highest_hold', (select max(h.hold_id) from retention.hold h),
    'holds', (
      select coalesce(jsonb_agg(jsonb_build_object('id', h.hold_id, 'on', h.on_what, 'by', left(h.placed_by, 60)) order by h.hold_id), '[]')
      from (
        select n.*,
          case when n.run_id is not null then format('run %s', left(n.run_id::text, 100)) else format('tenant %s', left(n.tenant_id, 100)) end as on_what
        from (select * from retention.hold order by hold_id desc limit 50) n
        where coalesce(least(n.released_at, n.expires_at), 'infinity') > now()
      ) h
    ),
    'policies', (
      select coalesce(jsonb_object_agg(left(p.tenant_id, 100), p.retain::text), '{}')
      from (
        select * from retention.policy where tenant_id = '*'
        union
        (select * from retention.policy order by set_at desc limit 100)
      ) p
      where octet_length(p.tenant_id) <= 100
    ),
    'receipt', (
      select jsonb_build_object('batch', b.batch_id, 'settled_at', retention._iso(b.settled_at))
      from retention.batch b
      where b.settled_at is not null
      order by b.settled_at desc
      limit 1
    )
  )
$$;

CREATE FUNCTION retention._few_results() RETURNS bigint
    LANGUAGE sql STABLE
    AS $$
  select least(greatest(sum(pg_relation_size(p.relid)) / current_setting('block_size')::integer / 8, 1000), 100000)::bigint
  from retention.adapter a
  cross join lateral (
    select t.relid from pg_partition_tree(a.table_oid) t where t.isleaf
    union
    select a.table_oid
  ) p
$$;

CREATE FUNCTION retention._find_columns(p_table text, p_columns text) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    AS $$
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

CREATE FUNCTION retention._find_table(p_table text) RETURNS regclass
    LANGUAGE plpgsql STABLE
    AS $$
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

CREATE FUNCTION retention._first_batch(p_bucket text, p_batch_ids bigint[]) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
declare
  v_batch_id bigint;
begin
  if p_batch_ids is null then
    select b.batch_id
    into v_batch_id
    from retention.batch b
    where b.bucket = p_bucket
      and b.settled_at is null
      and b.dead_at is null
      and b.deleted_at is null
      and b.visible_at <= clock_timestamp()
      and (b.early is null or b.flagged_at not in (select c.flagged_at from retention.cutoff c where c.until > now()))
    order by b.visible_at, b.batch_id
    limit 1
    for update skip locked;
    return v_batch_id;
  end if;
  select b.batch_id
  into v_batch_id
  from retention.batch b
  where b.batch_id = any (p_batch_ids)
    and b.bucket = p_bucket
    and b.settled_at is null
    and b.dead_at is null
    and b.deleted_at is null
    and b.visible_at <= clock_timestamp()
  order by b.visible_at, b.batch_id
  limit 1
  for update skip locked;
  if not found then
    -- What was split off keeps the moment of flagging, which no other command has.
    select b.batch_id
    into v_batch_id
    from retention.batch b
    where b.bucket = p_bucket
      and b.flagged_at = (select f.flagged_at from retention.batch f where f.batch_id = p_batch_ids[1])
      and b.settled_at is null
      and b.dead_at is null
      and b.visible_at <= clock_timestamp()
    order by b.visible_at, b.batch_id
    limit 1
    for update skip locked;
  end if;
  return v_batch_id;
end
$$;

CREATE FUNCTION retention._first_past(p_tenant_id retention.tenant_id, p_after_completed_at timestamp with time zone, p_after_run_id retention.run_id, p_before timestamp with time zone) RETURNS TABLE(completed_at timestamp with time zone)
    LANGUAGE sql STABLE ROWS 1
    AS $$
  (
    select r.completed_at
    from retention._live r
    where r.tenant_id = p_tenant_id
      and r.is_candidate
      and r.completed_at < p_before
      and (r.completed_at, r.run_id) > (coalesce(p_after_completed_at, '-infinity'), p_after_run_id)
    order by r.tenant_id, r.completed_at
    limit 1
  )
  union all
  (
    select r.completed_at
    from retention._live r
    where p_tenant_id is null
      and r.tenant_id is null
      and r.is_candidate
      and r.completed_at < p_before
      and (r.completed_at, r.run_id) > (coalesce(p_after_completed_at, '-infinity'), p_after_run_id)
    order by r.tenant_id, r.completed_at
    limit 1
  )
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

CREATE FUNCTION retention._flag_carefully(p_rows bigint, p_batch_size integer) RETURNS TABLE(flagged bigint, batches bigint, oldest timestamp with time zone, looked_at bigint, left_alone bigint, without_place bigint, without_place_run_ids text[], skipped bigint, skipped_rows text[], parked bigint, more boolean, tenants bigint)
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_variable
declare
  v_keys text[] := array(select t.tenant_key from retention._tenants() t);
  v_firsts integer[] := array[1];
  v_lasts integer[] := array[cardinality(v_keys)];
  v_first integer;
  v_last integer;
  v_rows bigint;
  v_passed_by integer;
  v_run_id text;
  v_part record;
begin
  flagged := 0;
  batches := 0;
  looked_at := 0;
  left_alone := 0;
  without_place := 0;
  without_place_run_ids := '{}';
  skipped := 0;
  skipped_rows := '{}';
  parked := 0;
  more := false;
  tenants := cardinality(v_keys);
  while cardinality(v_firsts) > 0 loop
    if looked_at >= p_rows then
      more := true;
      exit;
    end if;
    v_first := v_firsts[cardinality(v_firsts)];
    v_last := v_lasts[cardinality(v_lasts)];
    v_firsts := trim_array(v_firsts, 1);
    v_lasts := trim_array(v_lasts, 1);
    v_rows := greatest((p_rows - looked_at) * (v_last - v_first + 1) / cardinality(v_keys), 1);
    v_passed_by := 0;
    loop
      begin
        select * into strict v_part from retention._flag_part(v_rows, p_batch_size, v_keys[v_first:v_last]);
        flagged := flagged + v_part.flagged;
        batches := batches + v_part.batches;
        oldest := least(oldest, v_part.oldest);
        looked_at := looked_at + v_part.looked_at;
        left_alone := left_alone + v_part.left_alone;
        without_place := without_place + v_part.without_place;
        without_place_run_ids := (without_place_run_ids || v_part.without_place_run_ids)[1:10];
        skipped := skipped + v_part.skipped;
        parked := parked + v_part.parked;
        skipped_rows := (skipped_rows || v_part.skipped_rows)[1:10];
        if not v_part.more then
          exit;
        end if;
        if looked_at >= p_rows or v_first < v_last then
          more := true;
          exit;
        end if;
        v_rows := least(v_rows * 8, p_rows - looked_at);
      exception
        when others then
          if retention._is_passing(sqlstate) then
            raise;
          end if;
          if v_first < v_last then
            v_firsts := v_firsts || ((v_first + v_last) / 2 + 1) || v_first;
            v_lasts := v_lasts || v_last || ((v_first + v_last) / 2);
            exit;
          end if;
          if v_rows > 1 then
            v_rows := greatest(v_rows / 8, 1);
          else
            v_run_id := retention._pass_by(v_keys[v_first]);
            looked_at := looked_at + 1;
            skipped := skipped + 1;
            v_passed_by := v_passed_by + 1;
            skipped_rows := (
              skipped_rows || format('run %s cannot be read: %s %s', left(v_run_id, 100), sqlstate, left(sqlerrm, 200))
            )[1:10];
            -- Without a next row, not even its place in the line can be read: the tenant waits for the next pass.
            if v_run_id is null or v_passed_by >= 100 or looked_at >= p_rows then
              more := v_run_id is not null;
              exit;
            end if;
          end if;
      end;
    end loop;
  end loop;
  return next;
end
$$;

CREATE FUNCTION retention._flag_part(p_rows bigint, p_batch_size integer, p_tenant_keys text[] DEFAULT NULL::text[]) RETURNS TABLE(flagged bigint, batches bigint, oldest timestamp with time zone, looked_at bigint, left_alone bigint, without_place bigint, without_place_run_ids text[], skipped bigint, skipped_rows text[], parked bigint, more boolean, tenants bigint)
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_column
begin
  return query
  with tenant as materialized (
    select l.*
    from retention._lines(p_tenant_keys) l
  ),
  -- Tenants with more to look at share a part evenly, and the oldest results get what is over; who has
  -- more to give goes on in the next part, among fewer.
  sharing as materialized (
    select t.*,
      row_number() over (order by r.completed_at)::integer as tenant,
      p_rows / count(*) over ()
        + (row_number() over (order by r.completed_at) <= p_rows % count(*) over ())::integer as share
    from tenant t
    cross join lateral retention._first_past(t.tenant_id, t.after_completed_at, t.after_run_id, t.before) as r (completed_at)
  ),
  -- Columns of a fixed width come first: behind a text each has to be looked for in the row.
  seen as materialized (
    select r.run_id, r.completed_at, r.due_at, t.tenant,
      r.is_due and r.has_place and r.run_id is not null as may_go,
      -- A key that no store can hold is null here, see _possible_key.
      r.is_due and r.run_id is not null and (r.bucket is null or coalesce(r.key = '', false)) as lacks_place,
      -- Where no object is known to be shared, none is looked up.
      r.is_due and (select exists (select from retention.shared_object)) and exists (
        select
        from retention.shared_object o
        where o.bucket = r.bucket
          and o.key = r.key collate "C"
          and o.until > now()
      )
      -- The same of what a keeper has, and of what has changed.
      or r.is_due and (select exists (select from retention.spared_object))
        and retention._is_spared_for_now(r.bucket, r.key) as is_shared,
      r.is_due and r.due_at < t.seen_at and case
        when (select exists (select from retention.hold) or exists (select from retention.shared_object) or exists (select from retention.spared_object))
        then retention._is_late(r.run_id, r.bucket, r.key, t.seen_at)
        else true
      end as is_late,
      r.is_due, r.bucket, r.key, r.tenant_id
    from sharing t
    cross join lateral retention._past(t.tenant_id, t.after_completed_at, t.after_run_id, t.before, t.share) r
  ),
  given as materialized (
    select s.tenant, count(*) as results, min(s.completed_at) as first_completed_at,
      max(s.completed_at) as completed_at
    from seen s
    group by s.tenant
  ),
  flagged as materialized (
    select retention._known_between(
      (select min(g.first_completed_at) from given g), (select max(g.completed_at) from given g)
    ) as run_id
  ),
  made as (
    insert into retention.batch (bucket, results, oldest, newest, due_since, run_ids, keys, tenants)
    select n.bucket, count(*), min(n.completed_at), max(n.completed_at), min(n.due_at),
      array_agg(n.run_id), array_agg(retention._pack_key(n.key, n.run_id::text)), array_agg(n.tenant_id)
    from (
      select s.run_id, s.completed_at, s.due_at, s.bucket, s.key, s.tenant_id,
        (row_number() over (partition by s.bucket collate "C" order by s.completed_at, s.run_id) - 1) / p_batch_size as part
      from seen s
      where not s.is_late and s.may_go and not s.is_shared and s.run_id not in (select f.run_id from flagged f)
    ) n
    group by n.bucket, n.part
    order by min(n.completed_at)
    returning bucket, results, oldest
  ),
  parked as (
    insert into retention.surge_part (bucket, results, oldest, newest, due_since, run_ids, keys, tenants)
    select n.bucket, count(*), min(n.completed_at), max(n.completed_at), min(n.due_at),
      array_agg(n.run_id), array_agg(retention._pack_key(n.key, n.run_id::text)), array_agg(n.tenant_id)
    from (
      select s.run_id, s.completed_at, s.due_at, s.bucket, s.key, s.tenant_id,
        (row_number() over (partition by s.bucket collate "C" order by s.completed_at, s.run_id) - 1) / p_batch_size as part
      from seen s
      where s.is_late and s.may_go and not s.is_shared and s.run_id not in (select f.run_id from flagged f)
    ) n
    group by n.bucket, n.part
    order by min(n.completed_at)
    returning results
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
  select coalesce(m.flagged, 0)::bigint, m.batches, m.oldest, n.looked_at, n.left_alone,
    n.without_place, n.without_place_run_ids, n.skipped, n.skipped_rows,
    n.parked + coalesce((select sum(p.results) from parked p), 0),
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
        where case
          when s.may_go and not s.is_shared then false
          when s.run_id is null then true
          else s.run_id not in (select f.run_id from flagged f)
        end
      ) as left_alone,
      count(*) filter (where s.lacks_place) as without_place,
      coalesce((array_agg(s.run_id::text order by s.completed_at) filter (where s.lacks_place))[1:10], '{}')
        as without_place_run_ids,
      count(*) filter (where s.is_due and not s.may_go and not s.lacks_place) as skipped,
      coalesce((
        array_agg(retention._why_skipped(s.run_id::text, s.bucket, s.key) order by s.completed_at)
        filter (where s.is_due and not s.may_go and not s.lacks_place)
      )[1:10], '{}') as skipped_rows,
      count(*) filter (
        where (select exists (select from retention.surge_part))
          and s.run_id in (
            select retention._set_aside_between(min(g.first_completed_at), max(g.completed_at))
            from given g
          )
      ) as parked
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

CREATE FUNCTION retention._forget_copies(p_verify_id uuid) RETURNS void
    LANGUAGE sql
    AS $$
  with gone as (
    delete from retention.key_copy c
    where c.verify_id = p_verify_id
      or c.made_at < now() - interval '2 days'
      and c.verify_id not in (select r.verify_id from retention.verify_run r)
    returning c.copy_id
  )
  delete from retention.key_stretch s
  where s.copy_id in (select g.copy_id from gone g)
$$;

CREATE FUNCTION retention._forget_dead() RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
declare
  v_batch record;
begin
  if to_regclass('retention._live') is null then
    return;
  end if;
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
end
$$;

CREATE FUNCTION retention._forget_moved() RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
declare
  v_batch retention.batch;
  v_gone retention.run_id[];
begin
  if to_regclass('retention._live') is null then
    return;
  end if;
  for v_batch in
    select b.*
    from retention.batch b
    where b.settled_at is null
      and b.dead_at is null
      and b.deleted_at is null
      and b.lease is null
      and b.visible_at < now() - interval '1 hour'
      and (
        b.batch_id % 24 = extract(hour from now())
        or (select count(*) from retention.batch x where x.settled_at is null and x.dead_at is null) <= 100
      )
    for update skip locked
  loop
    select array_agg(u.run_id)
    into v_gone
    from retention._results(v_batch) as u
    where not exists (
      select
      from retention._live r
      where r.run_id = u.run_id
        and r.key = u.key
        and r.bucket = v_batch.bucket
    );
    if v_gone is not null then
      perform retention._take_out(v_batch.batch_id, v_gone);
    end if;
  end loop;
end
$$;

CREATE FUNCTION retention._forget_returned() RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
begin
  if to_regclass('retention._live') is null then
    return;
  end if;
  delete from retention.returned_result t
  where not exists (
    select
    from retention._live r
    where r.run_id = t.run_id
      and r.key = t.key
      and r.bucket = t.bucket
  );
end
$$;

CREATE FUNCTION retention._free_at(p_run_id retention.run_id, p_tenant_id text, p_due_at timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    AS $$
  select greatest(
    p_due_at,
    (
      select max(retention._hold_end(h.released_at, h.expires_at))
      from retention.hold h
      where h.run_id = p_run_id
    ),
    (
      select max(retention._hold_end(h.released_at, h.expires_at))
        + (select s.release_spread from retention.setting s) * retention._place_in_line(p_run_id::text)
      from retention.hold h
      where h.tenant_id = p_tenant_id
    )
  )
$$;

CREATE FUNCTION retention._grant_ended_holds(p_tenant_id text DEFAULT NULL::text) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
declare
  v_hold record;
  v_count bigint;
  v_slipped bigint;
  v_guard integer := (select s.surge_guard from retention.setting s);
  v_sum bigint := 0;
begin
  if to_regclass('retention._live') is null or v_guard is null then
    return 0;
  end if;
  for v_hold in
    select h.tenant_id,
      array_agg(h.hold_id order by retention._hold_end(h.released_at, h.expires_at) desc, h.hold_id) as hold_ids,
      max(retention._hold_end(h.released_at, h.expires_at)) as ended,
      min(h.placed_at) as placed_at,
      (array_agg(h.due_before order by h.placed_at, h.hold_id))[1] as due_before,
      (array_agg(h.retain order by h.placed_at, h.hold_id))[1] as retain,
      min(coalesce(h.released_by, h.placed_by)) as ended_by
    from retention.hold h
    where h.tenant_id is not null
      and (p_tenant_id is null or h.tenant_id = p_tenant_id)
      and not exists (select from retention.allowance a where a.hold_id = h.hold_id)
    group by h.tenant_id
    having max(retention._hold_end(h.released_at, h.expires_at)) <= now()
  loop
    continue when exists (
      select
      from retention.hold h
      where h.tenant_id = v_hold.tenant_id
        and retention._hold_end(h.released_at, h.expires_at) > now()
    );
    select coalesce(sum(retention._count_unknown(t.tenant_id, null, now() - retention._in_seconds(t.retain))), 0),
      coalesce(
        sum(
          retention._count_unknown(
            t.tenant_id,
            null,
            least(v_hold.placed_at - retention._in_seconds(v_hold.retain), now() - retention._in_seconds(t.retain)),
            v_hold.placed_at
          )
        ) - v_hold.due_before,
        0
      )
    into v_count, v_slipped
    from retention._tenants() t
    where t.tenant_id::text = v_hold.tenant_id;
    v_slipped := greatest(v_slipped, 0);
    if v_slipped > 0 then
      raise notice '% results of tenant % are due since before hold % was placed, and were not then: they are late',
        v_slipped, v_hold.tenant_id, v_hold.hold_ids[cardinality(v_hold.hold_ids)];
    end if;
    insert into retention.allowance (tenant_key, results, granted, reason, granted_by, hold_id, valid_until, dropped_at)
    select retention._tenant_key(v_hold.tenant_id),
      case when u.n = 1 and v_slipped <= v_guard then v_count - v_slipped else 0 end,
      case when u.n = 1 then v_count - v_slipped else 0 end,
      format('the end of hold %s', u.hold_id),
      v_hold.ended_by,
      u.hold_id,
      v_hold.ended + s.release_spread,
      case when u.n > 1 or v_count = 0 or v_slipped > v_guard then now() end
    from unnest(v_hold.hold_ids) with ordinality as u (hold_id, n)
    cross join retention.setting s
    on conflict (hold_id) do nothing;
    v_sum := v_sum + v_count;
  end loop;
  return v_sum;
end
$$;

CREATE FUNCTION retention._grant_policy(p_tenant_id text, p_before interval, p_after interval) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_seen_at timestamptz := retention._seen();
begin
  -- Without a guard nothing is late. Before the first complete walk everything is, and stays so.
  if p_after >= p_before or not isfinite(v_seen_at) or to_regclass('retention._live') is null then
    return;
  end if;
  insert into retention.allowance (tenant_key, results, granted, reason, counted_from, counted_to)
  select n.tenant_key, n.results, n.results, format('the policy of %s: %s instead of %s', p_tenant_id, p_after, p_before),
    n.counted_from, n.counted_to
  from (
    select t.tenant_key, s.counted_from, s.counted_to,
      retention._count_unknown(t.tenant_id, s.counted_from, s.counted_to)
        -- A policy that is made shorter, longer and shorter again grants once.
        - case
          when a.counted_from < s.counted_to and a.counted_to > s.counted_from
          then retention._count_unknown(
            t.tenant_id, greatest(a.counted_from, s.counted_from), least(a.counted_to, s.counted_to)
          )
          else 0
        end as results
    from retention._tenants() t
    cross join lateral (
      select n.seen_at - retention._in_seconds(p_before) as counted_from,
        n.seen_at - retention._in_seconds(p_after) as counted_to
      from retention._seen_of(t.tenant_id::text) as n (seen_at)
    ) s
    cross join lateral (
      select min(w.counted_from) as counted_from, max(w.counted_to) as counted_to
      from retention.allowance w
      where w.tenant_key = t.tenant_key
        and w.dropped_at is null
    ) a
    where t.tenant_id::text = p_tenant_id
      or p_tenant_id = '*'
      and not exists (
        select
        from retention.policy p
        where p.tenant_id = t.tenant_id::text
          and p.tenant_id <> '*'
      )
  ) n
  where n.results > 0;
end
$$;

CREATE FUNCTION retention._grant_rights() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_adapter retention.adapter;
  v_recorded record;
begin
  revoke all on all functions in schema retention from public;
  revoke all on all tables in schema retention from public;
  select * into v_adapter from retention.adapter;
  for v_recorded in select r.role, r.kind from retention._recorded_roles() r loop
    -- A reader that was dropped since is no reason to stop a migration.
    continue when v_recorded.kind = 'reader'
      and not exists (select from pg_roles where rolname = v_recorded.role);
    perform retention._check_role(v_recorded.role, format('RETENTION_%sROLE', case v_recorded.kind
      when 'operator' then 'OPERATOR_'
      when 'observer' then 'OBSERVER_'
      else ''
    end));
    perform retention._grant_to(v_recorded.role, v_recorded.kind);
  end loop;
  -- The job of a pg_cron in another database may run as a role that owns nothing here.
  if v_adapter.cron_database is not null
    and exists (select from pg_roles where rolname = v_adapter.cron_job_owner)
  then
    execute format('grant usage on schema retention to %I', v_adapter.cron_job_owner);
    execute format('grant execute on function retention.tick(text) to %I', v_adapter.cron_job_owner);
  end if;
end
$$;

CREATE FUNCTION retention._grant_to(p_role text, p_kind text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_object record;
begin
  if p_role = (select pg_get_userbyid(n.nspowner) from pg_namespace n where n.nspname = 'retention') then
    return;
  end if;
  execute format('revoke create on schema retention from %I', p_role);
  execute format('revoke all on all sequences in schema retention from %I', p_role);
  if p_kind is null then
    execute format('revoke all on schema retention from %I', p_role);
  else
    execute format('grant usage on schema retention to %I', p_role);
  end if;
  for v_object in
    select i.signature, i.privilege, i.least_role
    from retention._interface() i
  loop
    execute format('revoke all on %s from %I', v_object.signature, p_role);
    if retention._serves(p_kind, v_object.least_role) then
      execute format('grant %s on %s to %I', v_object.privilege, v_object.signature, p_role);
    end if;
  end loop;
end
$$;

CREATE FUNCTION retention._groups(p_salt bytea, p_run_ids retention.run_id[], p_keys text[], p_tenants text[], p_ends text[], p_versions text[], p_policies jsonb) RETURNS TABLE(tenant_id text, digest bytea)
    LANGUAGE sql STABLE ROWS 20
    AS $$
  select l.tenant_id, sha256(string_agg(l.digest, ''))
  from (
    select l.tenant_id collate "C" as tenant_id, retention._leaf_digest(l.leaf_salt, l.leaf_text) as digest
    from retention._leaves(p_salt, p_run_ids, p_keys, p_tenants, p_ends, p_versions, p_policies) l
    -- In the order of i within a tenant, by one sort: ordered within the aggregate, each tenant would be sorted by itself.
    order by 1, l.i
  ) l
  group by l.tenant_id
$$;

CREATE FUNCTION retention._guard_approval() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if tg_op = 'INSERT' then
    new.asked_at := clock_timestamp();
    new.approved_by := null;
    new.approved_at := null;
    new.used_at := null;
    new.used_in := null;
    return new;
  end if;
  if (new.kind, new.what, new.results, new.asked_by) is distinct from (old.kind, old.what, old.results, old.asked_by)
    or new.asked_at > old.asked_at
    or new.approved_by is distinct from old.approved_by and (old.approved_by is not null or new.approved_by <> session_user)
    or old.used_at is not null and (new.used_at is null or new.used_in is distinct from old.used_in)
    or old.withdrawn_at is not null and new.withdrawn_at is null
  then
    raise exception using
      errcode = 'check_violation',
      message = format('request %s is approved by the session of another person, and stays as it was asked for', old.approval_id),
      hint = format('Approve it with: retention approval approve %s', old.approval_id);
  end if;
  return new;
end
$$;

CREATE FUNCTION retention._guard_held_object() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_holds jsonb;
begin
  if not (select s.four_eyes from retention.setting s) then
    return null;
  end if;
  select jsonb_agg(h.hold_id order by h.hold_id)
  into v_holds
  from retention.hold h
  where retention._hold_end(h.released_at, h.expires_at) > clock_timestamp()
    and h.hold_id in (select g.hold_id from gone g);
  if v_holds is not null then
    perform retention._two_people('hold', jsonb_build_object('objects_of', v_holds));
  end if;
  return null;
end
$$;

CREATE FUNCTION retention._guard_hold() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_what jsonb := jsonb_build_object('hold_ids', jsonb_build_array(old.hold_id));
begin
  if tg_op = 'UPDATE' then
    if new.released_at is distinct from old.released_at then
      new.released_session := case when new.released_at is not null then session_user end;
    end if;
    if new.run_id is not distinct from old.run_id
      and new.tenant_id is not distinct from old.tenant_id
      and (old.key is null or (new.bucket, new.key) is not distinct from (old.bucket, old.key))
      and (
        retention._hold_end(new.released_at, new.expires_at) >= retention._hold_end(old.released_at, old.expires_at)
        or retention._hold_end(old.released_at, old.expires_at) <= clock_timestamp()
      )
    then
      return new;
    end if;
    if new.released_at is null then
      v_what := v_what || jsonb_build_object('expires_at', retention._iso(new.expires_at));
    end if;
  elsif retention._hold_end(old.released_at, old.expires_at) <= clock_timestamp() then
    return old;
  end if;
  -- Of several holds that are released together, all were asked for at once.
  if not exists (
    select
    from retention.approval a
    where a.kind = 'hold'
      and a.asked_by = session_user
      and a.used_in = pg_current_xact_id_if_assigned()
      and (a.what -> 'hold_ids') @> (v_what -> 'hold_ids')
      and (a.what - 'hold_ids') = (v_what - 'hold_ids')
  ) then
    perform retention._two_people('hold', v_what);
  end if;
  return case tg_op when 'UPDATE' then new else old end;
end
$$;

CREATE FUNCTION retention._guard_holds() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if exists (select from retention.hold) then
    perform retention._two_people('hold', '{"truncate": true}');
  end if;
  return null;
end
$$;

CREATE FUNCTION retention._guard_keeper() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if tg_op = 'DELETE'
    or (new.table_name, new.table_oid, new.key_column, new.bucket_column, new.until_column)
      is distinct from (old.table_name, old.table_oid, old.key_column, old.bucket_column, old.until_column)
  then
    perform retention._two_people('keeper', jsonb_build_object('keeper_id', old.keeper_id, 'table', old.table_name));
  end if;
  if tg_op = 'DELETE' then
    return old;
  end if;
  new.question := retention._keeper_question(new);
  return new;
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
    new.tenant_id := retention._policy_tenant(new.tenant_id);
  end if;
  if tg_op = 'UPDATE' and new.confirmed_at is distinct from old.confirmed_at and new.retain = old.pending_retain
    and new.pending_retain is null
    and new.confirmed_results is not null
  then
    -- confirm_policy, or what says the same: of a wish that waits, and with a number.
    v_due := case
      -- Counted by this trigger in this very transaction.
      when old.pending_at = now()
        and current_setting('retention.newly_due', true) = format('%s of %s', old.pending_results, new.tenant_id)
      then old.pending_results
      else retention._newly_due(new.tenant_id, new.retain)
    end;
    if v_due > new.confirmed_results then
      raise exception using
        errcode = 'check_violation',
        message = format(
          'the policy would make %s due at once by now, more than the %s that were expected',
          retention._counted(v_due, 'result'), new.confirmed_results
        );
    end if;
    if new.retain < old.retain then
      perform retention._two_people('policy', retention._policy_act(new.tenant_id, new.retain));
    end if;
    new.confirmed_results := v_due;
    delete from retention.progress;
    perform retention._grant_policy(new.tenant_id, old.retain, new.retain);
    return new;
  end if;
  if tg_op <> 'DELETE' and new.confirmed_at is not null then
    -- Nothing else is a confirmation, whatever is written beside it.
    new.confirmed_results := case when tg_op = 'UPDATE' then old.confirmed_results end;
    new.confirmed_at := case when tg_op = 'UPDATE' then old.confirmed_at end;
    new.confirmed_by := case when tg_op = 'UPDATE' then old.confirmed_by end;
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
        message = format(
          'removing the policy of tenant %s would make %s due at once', old.tenant_id, retention._counted(v_due, 'result')
        ),
        hint = 'Use retention.unset_policy(tenant_id) and confirm it with retention.confirm_policy(tenant_id).';
    end if;
    select retain into v_before from retention.policy where tenant_id = '*';
    if v_before < old.retain then
      perform retention._two_people('policy', retention._policy_act(old.tenant_id, v_before));
    end if;
    delete from retention.progress;
    perform retention._grant_policy(old.tenant_id, old.retain, (select retain from retention.policy where tenant_id = '*'));
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
    -- For set_policy, which does not count a second time.
    perform set_config('retention.newly_due', format('%s of %s', v_due, new.tenant_id), true);
    if v_due > v_guard then
      new.pending_retain := new.retain;
      new.pending_results := v_due;
      new.pending_at := now();
      new.pending_by := session_user;
      new.retain := v_before;
      return new;
    end if;
    perform retention._two_people('policy', retention._policy_act(new.tenant_id, new.retain));
  end if;
  new.pending_retain := null;
  new.pending_results := null;
  new.pending_at := null;
  new.pending_by := null;
  -- What a longer policy spares, and what a shorter one makes due, lies behind the progress.
  delete from retention.progress;
  perform retention._grant_policy(new.tenant_id, v_before, new.retain);
  return new;
end
$$;

CREATE FUNCTION retention._guard_purge() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform retention._two_people('purge', jsonb_build_object('bucket', new.bucket, 'on_versioned', 'purge'));
  return new;
end
$$;

CREATE FUNCTION retention._guard_seal() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if tg_op = 'UPDATE'
    and old.pruned_at is null
    and to_jsonb(new) - 'pruned_at' = to_jsonb(old) - 'pruned_at'
    and old.sealed_at < now() - (select s.receipts_kept from retention.setting s)
  then
    return new;
  end if;
  raise exception using
    errcode = 'RR060',
    message = format('seal %s stays as it is', old.seal_id),
    hint = 'Its receipts are removed by the tick when setting.receipts_kept has passed.';
end
$$;

CREATE FUNCTION retention._guard_sealed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if tg_table_name = 'change' then
    if tg_op = 'UPDATE' and old.seal_id is null and to_jsonb(new) - 'seal_id' = to_jsonb(old) - 'seal_id' then
      return new;
    end if;
    raise exception using
      errcode = 'RR060',
      message = format('the log of changes is only appended to: change %s stays as it is', old.change_id);
  end if;
  if tg_op = 'DELETE'
    and exists (select from retention.seal s where s.seal_id = old.seal_id and s.pruned_at is not null)
  then
    return old;
  end if;
  raise exception using
    errcode = 'RR060',
    message = format(
      'receipt %s of seal %s stays as it is',
      tg_table_name || '-' || (to_jsonb(old) ->> (tg_table_name || '_id')), old.seal_id
    ),
    hint = 'What happened later is a receipt of its own.';
end
$$;

CREATE FUNCTION retention._guard_selection(p_expected bigint, p_found_by text, p_asked jsonb, OUT set_aside bigint, OUT surge_id bigint) RETURNS record
    LANGUAGE plpgsql
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $$
#variable_conflict use_variable
declare
  v_selected bigint := (select count(*) from retention.selection);
  v_seen_at timestamptz := retention._seen();
  v_keys text[];
  v_results bigint[];
  v_uncovered bigint[];
  v_rules text[];
  v_over text[];
begin
  set_aside := 0;
  if v_selected <> p_expected then
    raise exception using
      errcode = 'RR003',
      message = format(
        '%s would go, and %s were expected; nothing was changed', retention._counted(v_selected, 'result'), p_expected
      ),
      hint = 'Look at them with: retention reconcile --dry-run, narrowed in the same way';
  end if;
  if not exists (select from retention.selection s where s.due_at < v_seen_at) then
    return;
  end if;
  select array_agg(t.tenant_key), array_agg(t.results)
  into v_keys, v_results
  from (
    select retention._tenant_key(s.tenant_id) as tenant_key, count(*) as results
    from retention.selection s
    where s.due_at < v_seen_at
      and s.due_at < now()
      and s.due_at < retention._seen_of(s.tenant_id)
      and retention._is_late(s.run_id, s.bucket, s.key, v_seen_at)
      and s.run_id not in (select unnest(b.run_ids) from retention.batch b where b.settled_at is null)
    group by 1
  ) t;
  if v_keys is null then
    return;
  end if;
  select array_agg(j.tenant_key), array_agg(j.results), array_agg(j.uncovered), array_agg(j.rule),
    coalesce(array_agg(j.tenant_key) filter (where j.rule is not null), '{}'),
    coalesce(sum(j.results) filter (where j.rule is not null), 0)
  into v_keys, v_results, v_uncovered, v_rules, v_over, set_aside
  from retention._judge(v_keys, v_results) j;
  if p_expected is not null then
    if set_aside > 0 then
      perform retention._two_people('surge', p_asked || jsonb_build_object('late', set_aside));
    end if;
    set_aside := 0;
    return;
  end if;
  if set_aside > 0 then
    surge_id := retention._open_surge(
      set_aside, cardinality(v_over), case when 'tenant' = any (v_rules) then 'tenant' else 'all' end, p_found_by
    );
    with taken as (
      delete from retention.selection s
      where retention._tenant_key(s.tenant_id) in (select unnest(v_over))
        and s.due_at < v_seen_at
        and s.due_at < now()
        and s.due_at < retention._seen_of(s.tenant_id)
        and retention._is_late(s.run_id, s.bucket, s.key, v_seen_at)
        and s.run_id not in (select unnest(b.run_ids) from retention.batch b where b.settled_at is null)
      returning s.*
    )
    insert into retention.surge_part (surge_id, bucket, results, oldest, newest, due_since, run_ids, keys, tenants)
    select _guard_selection.surge_id, n.bucket, count(*), min(n.completed_at), max(n.completed_at), min(n.due_at),
      array_agg(n.run_id order by n.place),
      array_agg(retention._pack_key(n.key, n.run_id::text) order by n.place),
      array_agg(n.tenant_id order by n.place)
    from (
      select t.*, row_number() over (partition by t.bucket order by t.completed_at, t.run_id) as place
      from taken t
    ) n
    group by n.bucket, (n.place - 1) / (select x.batch_size from retention.setting x)
    order by n.bucket, min(n.place);
  end if;
  perform retention._note_lateness(v_keys, v_results, v_uncovered, v_rules);
end
$$;

CREATE FUNCTION retention._guard_setting() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "IntervalStyle" TO 'postgres'
    AS $$
declare
  v_weaker jsonb;
begin
  if tg_op = 'DELETE' then
    perform retention._two_people('setting', '{"deleted": true}');
    return old;
  end if;
  if new.halted_at is distinct from old.halted_at then
    new.halted_session := case when new.halted_at is not null then session_user end;
  end if;
  select coalesce(jsonb_object_agg(w.name, w.value), '{}')
  into v_weaker
  from (
    values ('four_eyes', old.four_eyes and not new.four_eyes, to_jsonb(new.four_eyes)),
      ('policy_guard', new.policy_guard > old.policy_guard, to_jsonb(new.policy_guard)),
      (
        'surge_guard',
        old.surge_guard is not null and coalesce(new.surge_guard > old.surge_guard, true),
        to_jsonb(new.surge_guard)
      ),
      ('surge_guard_all', new.surge_guard_all > old.surge_guard_all, to_jsonb(new.surge_guard_all)),
      (
        'cool_off',
        coalesce(new.cool_off, '0') < coalesce(old.cool_off, '0'),
        to_jsonb(retention._in_days(new.cool_off)::text)
      ),
      (
        'release_spread',
        new.release_spread < old.release_spread,
        to_jsonb(retention._in_days(new.release_spread)::text)
      ),
      (
        'unanswered_for',
        new.unanswered_for < old.unanswered_for,
        to_jsonb(retention._in_days(new.unanswered_for)::text)
      ),
      ('receipts_kept', new.receipts_kept < old.receipts_kept, to_jsonb(retention._in_days(new.receipts_kept)::text)),
      ('receipt_keys', old.receipt_keys = 'plain' and new.receipt_keys <> 'plain', to_jsonb(new.receipt_keys)),
      ('check_shared_objects', old.check_shared_objects and not new.check_shared_objects, 'false'),
      -- Rows that name no bucket mean other objects then.
      (
        'default_bucket',
        old.default_bucket is not null and new.default_bucket is distinct from old.default_bucket,
        to_jsonb(new.default_bucket)
      )
  ) as w (name, is_weaker, value)
  where w.is_weaker;
  if v_weaker <> '{}' then
    perform retention._two_people('setting', v_weaker);
  end if;
  return new;
end
$$;

CREATE FUNCTION retention._guard_surge() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if new.closed_at is not null
    and old.closed_at is null
    and exists (select from retention.surge_part p where p.surge_id = new.surge_id)
  then
    raise exception using
      errcode = 'check_violation',
      message = format(
        'surge %s has %s set aside, and closes by itself when there are none',
        new.surge_id, retention._counted(retention._count_set_aside(new.surge_id, null), 'result that is', 'results that are')
      ),
      hint = format('Release them with: retention surge release %s --expect <number>', new.surge_id);
  end if;
  return new;
end
$$;

CREATE FUNCTION retention._guard_surge_release() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_left bigint := (
    select s.found - retention._count_set_aside(s.surge_id, null)
      - (select coalesce(sum(r.results), 0) from retention.surge_release r where r.surge_id = s.surge_id)
    from retention.surge s
    where s.surge_id = new.surge_id
  );
begin
  if new.results > v_left then
    raise exception using
      errcode = 'check_violation',
      message = format(
        'expected a release of at most %s results, which have left surge %s, given: %s', v_left, new.surge_id, new.results
      ),
      hint = 'retention.release_surge releases, and writes this down.';
  end if;
  new.released_by := session_user;
  return new;
end
$$;

CREATE FUNCTION retention._habits(p_bucket retention.bucket) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    AS $$
begin
  -- Most buckets have none, and this is asked at every claim.
  if p_bucket.learned = '{}'
    and num_nonnulls(
      p_bucket.keys_per_request, p_bucket.deletes, p_bucket.checksum, p_bucket.addressing, p_bucket.conditional
    ) = 0
  then
    return null;
  end if;
  return (
    select jsonb_object_agg(h.key, h.value -> 'value')
    from jsonb_each(retention._habits_of(p_bucket)) h
  );
end
$$;

CREATE FUNCTION retention._habits_of(p_bucket retention.bucket) RETURNS jsonb
    LANGUAGE sql STABLE
    AS $$
  select coalesce(jsonb_object_agg(h.name, h.habit), '{}')
  from (
    select l.key as name,
      jsonb_build_object(
        'value', l.value -> 'value', 'by', 'learned', 'since', l.value -> 'at', 'because', l.value -> 'because'
      ) as habit
    from jsonb_each(p_bucket.learned) l
    where (l.value ->> 'at')::timestamptz > clock_timestamp() - interval '1 day'
      and not (
        l.key in ('keys_per_request', 'keys_in_time') and p_bucket.keys_per_request is not null
        or l.key = 'deletes' and p_bucket.deletes is not null
        or l.key = 'checksum' and p_bucket.checksum is not null
        or l.key = 'addressing' and p_bucket.addressing is not null
        or l.key = 'conditional' and p_bucket.conditional is not null
      )
    union all
    select s.name,
      jsonb_build_object(
        'value', s.value, 'by', 'hand', 'since', p_bucket.set_at, 'because', 'set by ' || p_bucket.set_by
      )
    from (
      values ('keys_per_request', to_jsonb(p_bucket.keys_per_request)),
        ('deletes', to_jsonb(p_bucket.deletes)),
        ('checksum', to_jsonb(p_bucket.checksum)),
        ('addressing', to_jsonb(p_bucket.addressing)),
        ('conditional', to_jsonb(p_bucket.conditional))
    ) as s (name, value)
    where s.value is not null
  ) h
$$;

CREATE FUNCTION retention._halves(p_tenant_keys text[]) RETURNS jsonb
    LANGUAGE sql IMMUTABLE
    AS $$
  select case
    when cardinality(p_tenant_keys) < 2 then '[]'::jsonb
    else jsonb_build_array(
      to_jsonb(p_tenant_keys[:cardinality(p_tenant_keys) / 2]), to_jsonb(p_tenant_keys[cardinality(p_tenant_keys) / 2 + 1:])
    )
  end
$$;

CREATE FUNCTION retention._has_command(p_flagged_at timestamp with time zone) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
  select exists (
    select
    from retention.cutoff c
    where c.flagged_at = p_flagged_at
      and c.until > now()
  )
$$;

CREATE FUNCTION retention._has_runs(p_tenant_id retention.tenant_id) RETURNS boolean
    LANGUAGE plpgsql STABLE
    AS $$
begin
  return exists (
    select
    from retention._live r
    where r.tenant_id = p_tenant_id
      and r.is_candidate
  ) or exists (
    select
    from retention.result r
    where r.tenant_id = p_tenant_id
  );
end
$$;

CREATE FUNCTION retention._hash_expression(p_column text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
  select format('hashtextextended((%s)::text collate "C", 0)', p_column)
$$;

CREATE FUNCTION retention._hash_keys(p_batches bigint[], p_receipts bigint[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
  update retention.batch b
  set salt = h.salt,
    keys = '{}',
    key_digests = h.digests
  from (
    select s.batch_id, s.salt, retention._digests_of(s.salt, s.run_ids, s.keys) as digests
    from (
      select x.batch_id, x.run_ids, x.keys, uuid_send(gen_random_uuid()) as salt
      from retention.batch x
      where x.batch_id = any (p_batches)
      offset 0
    ) s
    offset 0
  ) h
  where b.batch_id = h.batch_id;
  update retention.receipt r
  set salt = h.salt,
    keys = '{}',
    key_digests = h.digests
  from (
    select s.receipt_id, s.salt, retention._digests_of(s.salt, s.run_ids, s.keys) as digests
    from (
      select x.receipt_id, x.run_ids, x.keys, uuid_send(gen_random_uuid()) as salt
      from retention.receipt x
      where x.receipt_id = any (p_receipts)
      offset 0
    ) s
    offset 0
  ) h
  where r.receipt_id = h.receipt_id;
end
$$;

CREATE FUNCTION retention._packed_digest(p_digest bytea) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (''::text || encode(p_digest, 'base64'::text));

CREATE FUNCTION retention._hashed_key(p_leaf_salt bytea, p_key text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN retention._packed_digest(sha256((p_leaf_salt || convert_to(p_key, 'UTF8'::name))));

CREATE FUNCTION retention._head(p_seal_id bigint) RETURNS json
    LANGUAGE sql STABLE
    AS $$
  select row_to_json(h)
  from (
    select s.seal_id as seal,
      encode(s.digest, 'hex') as digest,
      encode(s.previous, 'hex') as previous,
      retention._iso_exactly(s.sealed_at) as sealed_at,
      (select i.fence from retention.identity i) as database
    from retention.seal s
    where s.seal_id = p_seal_id
  ) h
$$;

CREATE FUNCTION retention._hides_rows(p_table oid, p_role oid) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select c.relrowsecurity
    and not (r.rolsuper or r.rolbypassrls)
    and (c.relforcerowsecurity or not pg_has_role(p_role, c.relowner, 'usage'))
  from pg_class c
  join pg_roles r on r.oid = p_role
  where c.oid = p_table
$$;

CREATE FUNCTION retention._hold_end(p_released_at timestamp with time zone, p_expires_at timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (LEAST(p_released_at, p_expires_at) < '290000-01-01 00:00:00+00'::timestamp with time zone) THEN LEAST(p_released_at, p_expires_at) ELSE 'infinity'::timestamp with time zone END;

CREATE FUNCTION retention._hold_in_force(p_holds jsonb, p_at timestamp with time zone DEFAULT now()) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select format('hold %s on its %s, placed by %s: %s', h ->> 'hold_id', h ->> 'on', h ->> 'placed_by', h ->> 'reason')
    || coalesce('; it ends at ' || retention._iso((h ->> 'ends')::timestamptz), '')
  from jsonb_array_elements(p_holds) h
  where (h ->> 'ends') is null
    or (h ->> 'ends')::timestamptz > p_at
  limit 1
$$;

CREATE FUNCTION retention._hold_standing(p_verify_id uuid, p_holder uuid) RETURNS boolean
    LANGUAGE sql
    AS $$
  select exists (select from retention.verify_run r where r.verify_id = p_verify_id and r.kind = 'standing')
    and retention._hold_verify(p_verify_id, p_holder)
$$;

CREATE FUNCTION retention._hold_verify(p_verify_id uuid, p_holder uuid) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
begin
  update retention.verify_run r
  set worked_at = clock_timestamp()
  where r.verify_id = p_verify_id
    and r.holder = p_holder;
  return found;
end
$$;

CREATE FUNCTION retention._hold_words(p_before jsonb, p_after jsonb) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select format('hold %s on %s: ', r.it ->> 'hold_id',
      coalesce('run ' || (r.it ->> 'run_id'), 'tenant ' || (r.it ->> 'tenant_id')))
    || case
      when p_before is null
      then format('placed, %s', p_after ->> 'reason')
        || coalesce(', until ' || retention._iso((p_after ->> 'expires_at')::timestamptz), '')
        || case when p_after ->> 'placed_by' <> p_after ->> 'placed_session' then format(', in the name of %s', p_after ->> 'placed_by') else '' end
        || coalesce('; released at ' || retention._iso((p_after ->> 'released_at')::timestamptz), '')
      when p_after is null then format('removed (%s)', p_before ->> 'reason')
      when p_before ->> 'released_at' is null and p_after ->> 'released_at' is not null
      then 'released'
        || case when p_after ->> 'released_by' <> p_after ->> 'released_session' then format(' in the name of %s', p_after ->> 'released_by') else '' end
        || format(' (%s)', p_after ->> 'reason')
      else retention._differences(p_before, p_after)
    end
  from (select coalesce(p_after, p_before) as it) r
$$;

CREATE FUNCTION retention._holds_at(p_run_id retention.run_id, p_tenant_id text, p_bucket text, p_key text, p_spread interval, p_at timestamp with time zone) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    AS $$
begin
  return (
    with named as (
      select c.name
      from retention.change c
      where c.subject = 'hold'
        and (c.run_id = p_run_id::text or c.tenant_id = p_tenant_id)
      union
      select h.hold_id::text
      from retention.hold h
      where h.run_id = p_run_id
        or h.tenant_id = p_tenant_id
        or h.bucket = p_bucket and h.key = p_key collate "C"
      union
      select o.hold_id::text
      from retention.held_object o
      where o.bucket = p_bucket
        and o.key = p_key collate "C"
    ), was as (
      select w.row,
        (w.row ->> 'hold_id')::bigint as hold_id,
        case
          when w.row ->> 'run_id' = p_run_id::text then 'run'
          when w.row ->> 'tenant_id' = p_tenant_id then 'tenant'
          else 'object'
        end as on_what,
        retention._hold_end((w.row ->> 'released_at')::timestamptz, (w.row ->> 'expires_at')::timestamptz) as ends
      from named n
      cross join lateral (select retention._row_at('hold', n.name, p_at) as row) w
      where w.row is not null
    )
    select jsonb_agg(
      jsonb_build_object(
        'hold_id', w.hold_id,
        'reason', w.row ->> 'reason',
        'placed_by', w.row ->> 'placed_by',
        'placed_at', retention._iso((w.row ->> 'placed_at')::timestamptz),
        'on', w.on_what,
        'ends', retention._iso(nullif(w.ends, 'infinity'))
      )
      order by w.hold_id
    )
    from was w
    where w.ends + case when w.on_what = 'tenant' then p_spread * retention._place_in_line(p_run_id::text) else interval '0' end > p_at
  );
end
$$;

CREATE FUNCTION retention._how_to_set(p_name text, p_value text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
  select case p_name
    when 'default_bucket' then format('select retention.set_default_bucket(%L);', p_value)
    when 'retain' then format('retention policy set ''*'' %sd', extract(epoch from p_value::interval)::bigint / 86400)
    when 'loop_interval' then format('select retention.configure(%L);', jsonb_build_object(p_name, p_value))
    when 'batch_size' then format('select retention.configure(''{"batch_size": %s}'');', p_value)
    else format('select retention.configure(''{"enabled": %s}'');', p_value::boolean::text)
  end
$$;

CREATE FUNCTION retention._identity_differs() RETURNS TABLE(server text, database text, timeline text)
    LANGUAGE sql STABLE
    AS $$
  select case
      when i.singleton is null then 'it does not know where it was adopted'
      when n.system_identifier is distinct from i.system_identifier then format(
        'it was adopted in the server %s, and this is the server %s',
        coalesce(i.system_identifier, 'that told no system identifier'),
        coalesce(n.system_identifier, 'that tells no system identifier')
      )
    end,
    case
      when n.database_oid <> i.database_oid then format(
        'it was adopted in the database %s (oid %s), and this is the database %s (oid %s)',
        i.database_name, i.database_oid, n.database_name, n.database_oid
      )
    end,
    case
      when not pg_is_in_recovery() and n.timeline is distinct from i.timeline then format(
        'the server is on timeline %s, and timeline %s was accepted: it was promoted, or recovered to a point in time',
        coalesce(n.timeline::text, 'unknown'), coalesce(i.timeline::text, 'unknown')
      )
    end
  from retention._identity_now() n
  left join retention.identity i on true
$$;

CREATE FUNCTION retention._identity_fault(p_table oid, p_column text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION retention._identity_now() RETURNS TABLE(system_identifier text, database_oid oid, database_name text, timeline integer)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  database_name := current_database();
  database_oid := (select d.oid from pg_database d where d.datname = database_name);
  -- A managed service may refuse either.
  begin
    system_identifier := (select s.system_identifier from pg_control_system() s);
  exception
    when others then
      system_identifier := null;
  end;
  begin
    -- Not of pg_control_checkpoint(): after a promotion that is the old one until the next checkpoint.
    if not pg_is_in_recovery() then
      timeline := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer;
    end if;
  exception
    when others then
      timeline := null;
  end;
  return next;
end
$$;

CREATE FUNCTION retention._in_days(p_interval interval) RETURNS interval
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (make_interval(days => (floor((EXTRACT(epoch FROM p_interval) / (86400)::numeric)))::integer) + make_interval(secs => ((EXTRACT(epoch FROM p_interval) - ((86400)::numeric * floor((EXTRACT(epoch FROM p_interval) / (86400)::numeric)))))::double precision));

CREATE FUNCTION retention._in_flight(p_bucket text) RETURNS bigint
    LANGUAGE sql
    SET enable_seqscan TO 'off'
    AS $$
  select count(*)
  from retention.batch b
  where b.bucket = p_bucket
    and b.lease is not null
    and b.visible_at > clock_timestamp()
$$;

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
    select retention._bucket(r.bucket, v_setting.default_bucket), r.key
    into v_bucket, v_key
    from retention.result r
    where r.run_id = p_run_id;
    return query
    select p_run_id, max(f.until)
    from (
      select b.bucket, b.run_ids, b.keys, b.visible_at + v_setting.unanswered_for as until
      from retention.batch b
      where b.lease is not null
      union all
      -- What S3 has deleted, and only the stamp is missing.
      select b.bucket, b.run_ids, b.keys, clock_timestamp() + v_setting.unanswered_for
      from retention.batch b
      where b.deleted_at is not null
        and b.settled_at is null
      union all
      select u.bucket, u.run_ids, u.keys, u.until
      from retention.unanswered u
    ) f
    where f.until > clock_timestamp()
      and (
        p_run_id = any (f.run_ids)
        or f.bucket = v_bucket and (v_setting.check_shared_objects or f.run_ids is null) and exists (
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
        select b.bucket, b.run_ids, b.keys, clock_timestamp() + v_setting.unanswered_for
        from retention.batch b
        where b.deleted_at is not null
          and b.settled_at is null
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
        where r.key_hash = retention._key_hash(a.key)
          and r.key = a.key collate "C"
          and r.bucket = a.bucket
        offset 0
      ) r
      where (v_setting.check_shared_objects or a.run_id is null)
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
      retention._candidate(a.columns, false) as is_candidate,
      retention._instant(a.columns -> 'completed_at') as completed_at,
      quote_ident(a.columns -> 'key' ->> 'name') as key,
      quote_ident(a.columns -> 'cleared_at' ->> 'name') as cleared_at
    from retention.adapter a
  ),
  wanted as (
    select n.table_oid,
      'retention_live' as purpose,
      format(
        '(%s) where %s is null and %s',
        concat_ws(', ', n.tenant_id, n.completed_at), n.cleared_at, n.is_candidate
      ) as columns
    from named n
    union all
    select n.table_oid,
      'retention_key',
      format('(%s) where %s is null and %s is not null', retention._hash_expression(n.key), n.cleared_at, n.key)
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
    AS $_$
  select case
    when p_column is null or p_column = 'null' then 'null::timestamptz'
    when p_column ->> 'type' like 'timestamp%without time zone' then format('(%I at time zone ''UTC'')', p_column ->> 'name')
    when p_column ->> 'type' = 'date' then format(
      '((case when %1$I >= date ''294000-01-01'' then timestamp ''infinity'' else %1$I::timestamp end) at time zone ''UTC'')',
      p_column ->> 'name'
    )
    else format('%I', p_column ->> 'name')
  end
$_$;

CREATE FUNCTION retention._interface() RETURNS TABLE(kind text, oid oid, name text, signature text, privilege text, least_role text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
  select 'function',
    p.oid,
    format('function retention.%I', p.proname),
    format('function %s', p.oid::regprocedure),
    'execute',
    case
      when p.proname ~ '^_' or p.prorettype = 'trigger'::regtype then null
      else (
        select max(w.least_role)
        from (values ('readers', 'reader'), ('observers', 'observer'), ('the listener', 'listener'), ('operators', 'operator'))
          as w (word, least_role)
        where obj_description(p.oid, 'pg_proc')
          ~ ('(^|\s)For ' || replace(w.word, ' ', '\s+') || '\.(\s|$)')
        -- A contract that names two roles names none.
        having count(*) = 1
      )
    end
  from pg_proc p
  where p.pronamespace = 'retention'::regnamespace
  union all
  select 'relation',
    c.oid,
    format('retention.%I', c.relname),
    c.oid::regclass::text,
    'select',
    case when c.relname !~ '^_' then 'observer' end
  from pg_class c
  where c.relnamespace = 'retention'::regnamespace
    and c.relkind in ('r', 'v')
$_$;

CREATE FUNCTION retention._invented() RETURNS TABLE(name text, seal_id bigint, because text)
    LANGUAGE sql STABLE
    AS $$
  with given as materialized (
    select coalesce(pg_sequence_last_value(pg_get_serial_sequence('retention.batch', 'batch_id')::regclass), 0) as batches,
      coalesce(pg_sequence_last_value(pg_get_serial_sequence('retention.receipt', 'receipt_id')::regclass), 0) as receipts
  )
  select 'receipt batch-' || b.batch_id, b.seal_id, w.because
  from retention.batch b
  cross join given g
  cross join lateral (
    select case
      when b.batch_id not between 1 and g.batches then format('its number was never given out: the last one is %s', g.batches)
      when b.leased_at is null and b.deleted_at is null then 'no listener has ever claimed it'
      when b.settled_session is null then 'it does not say whose session wrote it down'
      when b.flagged_at > coalesce(b.leased_at, b.deleted_at) + interval '1 hour'
        or coalesce(b.deleted_at, b.leased_at) > b.settled_at + interval '1 hour'
      then format(
        'it was flagged at %s, claimed at %s and settled at %s', retention._iso(b.flagged_at),
        coalesce(retention._iso(coalesce(b.leased_at, b.deleted_at)), 'no time'), retention._iso(b.settled_at)
      )
    end as because
  ) w
  where b.settled_at is not null
    and b.cleared > 0
    and w.because is not null
  union all
  select 'receipt receipt-' || r.receipt_id, r.seal_id, format('its number was never given out: the last one is %s', g.receipts)
  from retention.receipt r
  cross join given g
  where r.receipt_id not between 1 and g.receipts
$$;

CREATE FUNCTION retention._is_beyond_store(p_batch retention.batch) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
  select p_batch.stuck_since < clock_timestamp() - interval '24 hours'
    and p_batch.postponed >= 19
    and exists (
      select
      from retention.batch b
      where b.settled_at > p_batch.stuck_since
        and b.bucket = p_batch.bucket
        and b.cleared > 0
    )
$$;

CREATE FUNCTION retention._is_cooling(p_flagged_at timestamp with time zone, p_visible_at timestamp with time zone, p_failed_at timestamp with time zone, p_early interval) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
  select p_failed_at is null
    and p_early is null
    and p_visible_at > now()
    and p_visible_at <= p_flagged_at + retention._in_seconds((select s.cool_off from retention.setting s))
$$;

CREATE FUNCTION retention._is_held_object(p_bucket text, p_key text) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
  select coalesce(
    (
      select bool_or(
        (
          select retention._hold_end(h.released_at, h.expires_at) > now()
          from retention.hold h
          where h.hold_id = o.hold_id
        )
      )
      from retention.held_object o
      where o.bucket = p_bucket
        and o.key = p_key collate "C"
    ),
    false
  )
$$;

CREATE TABLE retention.keeper (
    keeper_id bigint NOT NULL,
    table_name text NOT NULL,
    table_oid oid NOT NULL,
    key_column text NOT NULL,
    bucket_column text,
    until_column text,
    added_at timestamp with time zone DEFAULT now() NOT NULL,
    added_by text DEFAULT SESSION_USER NOT NULL,
    question text NOT NULL,
    seen text NOT NULL
);

COMMENT ON TABLE retention.keeper IS 'other tables of the application whose rows need objects too: what such a row names is not deleted, and is no orphan';

COMMENT ON COLUMN retention.keeper.table_oid IS 'the table that had the name when it was added: another one of that name is not asked, and closes the gate';

COMMENT ON COLUMN retention.keeper.bucket_column IS 'null: a row keeps its key in every bucket. A row without a value means setting.default_bucket, or where that is null every bucket';

COMMENT ON COLUMN retention.keeper.until_column IS 'null: a row keeps its object as long as it is there. A row without a value keeps it so as well';

COMMENT ON COLUMN retention.keeper.question IS 'what it is asked at each claim, as SQL';

COMMENT ON COLUMN retention.keeper.seen IS 'what the catalog said of its table when it was last looked at closely: while that is so, it is not again';

CREATE FUNCTION retention._is_keeper_as_seen(p_keeper retention.keeper) RETURNS boolean
    LANGUAGE plpgsql STABLE
    AS $$
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

CREATE FUNCTION retention._is_known_shared(p_bucket text, p_key text) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
  select exists (
    select
    from retention.shared_object o
    where o.bucket = p_bucket
      and o.key = p_key collate "C"
      and o.until > now()
  )
$$;

CREATE FUNCTION retention._is_known_tenant(p_tenant_id text) RETURNS boolean
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_known boolean := p_tenant_id is null
    or exists (select from retention.policy p where p.tenant_id = p_tenant_id)
    or exists (select from retention.hold h where h.tenant_id = p_tenant_id);
begin
  if not v_known then
    execute format('select exists (select from retention.result r where r.tenant_id = %L)', p_tenant_id) into v_known;
  end if;
  -- Last, since it reads them all: a tenant that has left, with its rows.
  return v_known or exists (select from retention._receipt r where p_tenant_id = any (r.tenants));
end
$$;

CREATE FUNCTION retention._is_large_surge(p_surge_id bigint) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
  select coalesce(sum(p.results), 0) > retention._few_results()
  from retention.surge_part p
  where p.surge_id = p_surge_id
$$;

CREATE FUNCTION retention._is_late(p_run_id retention.run_id, p_bucket text, p_key text, p_seen_at timestamp with time zone) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
  select not exists (
      select
      from retention.hold h
      where h.run_id = p_run_id
        and retention._hold_end(h.released_at, h.expires_at) > p_seen_at
    )
    and not exists (
      select
      from retention.shared_object o
      where o.bucket = p_bucket
        and o.key = p_key collate "C"
        and o.until > p_seen_at
    )
    -- What a keeper gives up by taking its row away has no such end: a person may have emptied the wrong table.
    and not exists (
      select
      from retention.spared_object o
      where o.bucket = p_bucket
        and o.key = p_key collate "C"
        and o.until > p_seen_at
        and o.until < 'infinity'
    )
$$;

CREATE FUNCTION retention._is_noted(p_schema text, p_catalog text, p_query text, p_table oid) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_is_noted boolean;
begin
  -- Not to_regclass, which raises where the schema is closed.
  if not exists (
    select
    from pg_class c
    where c.relname = p_catalog
      and c.relnamespace = (select n.oid from pg_namespace n where n.nspname = p_schema)
  ) then
    return false;
  end if;
  execute p_query into v_is_noted using p_table;
  return v_is_noted;
exception
  when insufficient_privilege then
    -- The role that stamps may not ask; it is asked as the role that migrates as well.
    return false;
end
$$;

CREATE FUNCTION retention._is_open(p_client text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
  select not exists (select from retention.gate(p_client))
$$;

CREATE FUNCTION retention._is_own_key(p_key text) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    AS $$
  select p_key like '.retention/%'
$$;

CREATE FUNCTION retention._is_passing(p_sqlstate text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((p_sqlstate ~ '^(08|25|40|53|57)'::text) OR (p_sqlstate = ANY (ARRAY['55006'::text, '55P03'::text, 'RR002'::text, 'RR051'::text, 'StampLater'::text])));

CREATE FUNCTION retention._is_past(p_due_at timestamp with time zone, p_completed_at timestamp with time zone, p_early interval, p_retain_until timestamp with time zone) RETURNS boolean
    LANGUAGE sql STABLE
    RETURN ((p_due_at IS NOT NULL) AND COALESCE((GREATEST((LEAST(p_completed_at, '290000-01-01 00:00:00+00'::timestamp with time zone) + p_early), p_retain_until) < now()), false));

CREATE FUNCTION retention._is_read_whole(p_type oid, p_text text, p_read text) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    RETURN CASE p_type WHEN 'numeric'::regtype THEN ((p_text)::numeric = (p_read)::numeric) WHEN 'name'::regtype THEN (p_text = p_read) ELSE true END;

CREATE FUNCTION retention._is_set_aside_object(p_bucket text, p_key text) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
  select exists (select from retention.surge_part)
    and cardinality(retention._set_aside_keys(p_bucket, array[p_key])) > 0
$$;

CREATE FUNCTION retention._is_shown(p_change retention.change) RETURNS boolean
    LANGUAGE sql STABLE
    RETURN (((p_change).tenant_id <> '*'::text) OR (num_nonnulls(((p_change).before ->> 'pending_results'::text), ((p_change).before ->> 'confirmed_results'::text), ((p_change).after ->> 'pending_results'::text), ((p_change).after ->> 'confirmed_results'::text)) = 0));

CREATE FUNCTION retention._is_spared_for_now(p_bucket text, p_key text) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
  select exists (
    select
    from retention.spared_object o
    where o.bucket = p_bucket
      and o.key = p_key collate "C"
      and o.until > now()
      and (o.kept_by is not null or o.etag = retention._object_condition(p_bucket, p_key))
  )
$$;

CREATE FUNCTION retention._is_wanted(p_bucket text, p_key text, p_etag text) RETURNS boolean
    LANGUAGE sql STABLE
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
  select case
    when p_etag <> '' then retention._object_condition(p_bucket, p_key) is not distinct from p_etag
    else exists (
      select
      from retention._live l
      where l.key_hash = retention._key_hash(p_key)
        and l.key = p_key collate "C"
        and l.bucket = p_bucket
    )
  end
$$;

CREATE FUNCTION retention._is_wide_outlook(p_tenant_id text, p_end timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    AS $$
declare
  v_few bigint := retention._few_results();
begin
  return (
    select count(*) > v_few
    from (
      select
      from retention._tenant_ids() as n (tenant_id)
      join retention.policy d on d.tenant_id = '*'
      left join retention.policy p on p.tenant_id = n.tenant_id::text
        and p.tenant_id <> '*'
      cross join lateral retention._past(
        n.tenant_id, null, null,
        p_end - coalesce((select s.cool_off from retention.setting s), '0') - retention._in_seconds(coalesce(p.retain, d.retain)),
        v_few + 1
      ) r
      where p_tenant_id is null or n.tenant_id::text = p_tenant_id
      limit v_few + 1
    ) s
  );
end
$$;

CREATE FUNCTION retention._is_wide_preview(p_tenant_id text, p_retain interval) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    AS $$
declare
  v_few bigint := retention._few_results();
begin
  return (
    select count(*) > v_few
    from (
      select
      from retention._tenants() t
      left join retention.policy p on p.tenant_id = t.tenant_id::text
        and p.tenant_id <> '*'
      cross join lateral retention._past(
        t.tenant_id, now() - retention._in_seconds(t.retain), null, now() - retention._in_seconds(p_retain), v_few + 1
      ) r
      where p_retain < t.retain
        and (t.tenant_id::text = p_tenant_id or p_tenant_id = '*' and p.tenant_id is null)
      limit v_few + 1
    ) s
  );
end
$$;

CREATE FUNCTION retention._iso(p_at timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE WHEN (NOT isfinite(p_at)) THEN (p_at)::text ELSE (to_char((p_at AT TIME ZONE 'UTC'::text), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'::text) || CASE WHEN (p_at < '0001-01-01 00:00:00+00'::timestamp with time zone) THEN ' BC'::text ELSE ''::text END) END;

CREATE FUNCTION retention._iso_exactly(p_at timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE WHEN isfinite(p_at) THEN to_char((p_at AT TIME ZONE 'UTC'::text), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'::text) ELSE (p_at)::text END;

CREATE FUNCTION retention._judge(p_tenant_keys text[], p_results bigint[]) RETURNS TABLE(tenant_key text, results bigint, uncovered bigint, rule text)
    LANGUAGE sql STABLE
    AS $$
  with late as (
    select u.tenant_key,
      u.results,
      greatest(u.results - coalesce(a.results, 0), 0)::bigint as uncovered,
      coalesce(b.results, 0) as before
    from unnest(p_tenant_keys, p_results) as u (tenant_key, results)
    left join (
      select w.tenant_key, sum(w.results) as results
      from retention.allowance w
      where w.dropped_at is null
      group by w.tenant_key
    ) a on a.tenant_key = u.tenant_key
    left join (
      select l.tenant_key, sum(l.results) as results
      from retention.lateness l
      where l.at > now() - interval '24 hours'
      group by l.tenant_key
    ) b on b.tenant_key = u.tenant_key
  ),
  judged as (
    select l.*,
      s.surge_guard_all,
      l.uncovered > 0 and l.uncovered + l.before > s.surge_guard as is_over
    from late l
    cross join retention.setting s
  )
  select j.tenant_key,
    j.results,
    j.uncovered,
    case
      when j.is_over then 'tenant'
      when j.uncovered > 0
        and sum(j.uncovered) filter (where j.is_over is false) over () + (
          select coalesce(sum(l.results), 0)
          from retention.lateness l
          where l.at > now() - interval '24 hours'
            and l.rule is distinct from 'tenant'
        ) > j.surge_guard_all
        -- Null: there is no guard.
        and j.is_over is not null
      then 'all'
    end
  from judged j
$$;

CREATE FUNCTION retention._judge_stamps(p_from timestamp with time zone, p_to timestamp with time zone) RETURNS TABLE(run_id retention.run_id, kind text)
    LANGUAGE sql STABLE
    AS $$
  with event as (
    -- A stamp has the time at which its transaction began, and its receipt the time of the statement: a day lies between
    -- at most.
    select u.run_id,
      hashtextextended(retention._known_key(u.key, u.run_id, b.salt, u.n), 0) as key,
      hashtext(b.bucket) as bucket,
      b.settled_at as gone_at,
      b.newest,
      null::timestamptz as back_at,
      null::timestamptz as stamped_at
    from retention.batch b
    cross join unnest(b.run_ids, retention._kept_keys(b.keys, b.key_digests)) with ordinality as u (run_id, key, n)
    where b.settled_at is not null
      and b.cleared > 0
      and (p_from is null or b.settled_at >= p_from - interval '1 day')
      and (p_to is null or b.settled_at < p_to + interval '1 day')
    union all
    select u.run_id,
      hashtextextended(retention._known_key(u.key, u.run_id, r.salt, u.n), 0),
      hashtext(r.bucket),
      case when r.kind = 'found_gone' then r.settled_at end,
      r.settled_at,
      case when r.kind <> 'found_gone' then r.settled_at end,
      null
    from retention.receipt r
    cross join unnest(r.run_ids, retention._kept_keys(r.keys, r.key_digests)) with ordinality as u (run_id, key, n)
    where r.kind not in ('orphan', 'canary')
    union all
    select s.run_id, hashtextextended(s.key::text, 0), hashtext(nullif(s.bucket, '')), null, null, null, s.cleared_at
    from retention.result s
    where s.cleared_at is not null
      and (p_from is null or s.cleared_at >= p_from - interval '1 day')
      and (p_to is null or s.cleared_at < p_to + interval '1 day')
  ),
  result as (
    select e.run_id,
      e.key,
      max(e.gone_at) as gone_at,
      max(e.newest) as newest,
      max(e.back_at) as back_at,
      max(e.stamped_at) as stamped_at,
      max(e.bucket) filter (where e.stamped_at is not null) as bucket,
      min(e.bucket) filter (where e.gone_at is not null) as first_bucket,
      max(e.bucket) filter (where e.gone_at is not null) as last_bucket
    from event e
    group by e.run_id, e.key
  )
  select x.run_id,
    case
      when x.stamped_at is not null and x.gone_at > coalesce(x.back_at, '-infinity')
        and (x.bucket is null or x.bucket in (x.first_bucket, x.last_bucket))
      then 'accounted'
      when x.stamped_at < (select i.adopted_at from retention.identity i) then 'before_adoption'
      when x.stamped_at < now() - (select s.receipts_kept from retention.setting s) then 'receipt_pruned'
      when x.stamped_at is not null then 'no_receipt'
      when x.back_at >= coalesce(x.gone_at, '-infinity') then 'returned'
      else (
        select case
          when count(*) = 0 then 'no_row'
          -- Its stamp was given another time.
          when bool_or(hashtextextended(r.key::text, 0) = x.key and r.cleared_at is not null) then 'accounted'
          when bool_or(
            hashtextextended(r.key::text, 0) = x.key
            and coalesce(hashtext(nullif(r.bucket, '')) in (x.first_bucket, x.last_bucket), true)
            and r.status::text = (select coalesce(a.columns -> 'status' ->> 'completed', 'COMPLETED') from retention.adapter a)
            and r.completed_at <= x.newest
          )
          then 'no_stamp'
          else 'another_result'
        end
        from retention.result r
        where r.run_id = x.run_id
      )
    end
  from result x
  where (p_from is null or coalesce(x.stamped_at, greatest(x.gone_at, x.back_at)) >= p_from)
    and (p_to is null or coalesce(x.stamped_at, greatest(x.gone_at, x.back_at)) < p_to)
$$;

CREATE FUNCTION retention._keeper_collation(p_table oid, p_column text) RETURNS text
    LANGUAGE sql STABLE
    AS $$
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

CREATE FUNCTION retention._keeper_column_fault(p_table regclass, p_use text, p_column text) RETURNS text
    LANGUAGE sql STABLE
    AS $$
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

CREATE FUNCTION retention._keeper_fault(p_keeper retention.keeper, OUT fault text, OUT remedy text) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
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

CREATE FUNCTION retention._keeper_index(p_table regclass, p_column text) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select case
    when c.relkind = 'p'
    then format('create index on %s (%I); a table with partitions takes no writes meanwhile, unless each gets its own concurrently before', p_table, p_column)
    else format('create index concurrently on %s (%I);', p_table, p_column)
  end
  from pg_class c
  where c.oid = p_table
$$;

CREATE FUNCTION retention._keeper_join(p_keeper retention.keeper, p_bucket text, p_key text, p_default_bucket text) RETURNS text
    LANGUAGE sql STABLE
    AS $_$
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
$_$;

CREATE FUNCTION retention._keeper_of(p_bucket text, p_key text, OUT kept_by text, OUT until timestamp with time zone) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
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

CREATE FUNCTION retention._keeper_parts(p_table oid) RETURNS TABLE(part oid, kind "char")
    LANGUAGE sql STABLE
    AS $$
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

CREATE FUNCTION retention._keeper_plan(p_keeper retention.keeper) RETURNS text
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_plan json;
begin
  execute 'explain (format json) ' || retention._keeper_question(p_keeper)
  into v_plan
  using 'bucket', array['key'], null::text, 'table'::text;
  return v_plan::text;
end
$$;

CREATE FUNCTION retention._keeper_question(p_keeper retention.keeper) RETURNS text
    LANGUAGE sql STABLE
    AS $_$
  select format(
    'select k.key, $4, max(coalesce(%s, ''infinity''))
    from unnest($2) as k (key)
    join %s
    group by k.key',
    retention._keeper_until(p_keeper),
    retention._keeper_join(p_keeper, '$1', 'k.key', '$3')
  )
$_$;

CREATE FUNCTION retention._keeper_reasons() RETURNS TABLE(reason text, because text, remedy text)
    LANGUAGE plpgsql STABLE
    AS $$
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

CREATE FUNCTION retention._keeper_sight(p_keeper retention.keeper) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
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

CREATE FUNCTION retention._keeper_until(p_keeper retention.keeper) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select case (select t.oid from retention._column_type(p_keeper.table_oid, p_keeper.until_column) t)
    when 'timestamptz'::regtype then format('t.%I', p_keeper.until_column)
    when 'timestamp'::regtype then format('(t.%I at time zone ''UTC'')', p_keeper.until_column)
    when 'date'::regtype then format('(t.%I::timestamp at time zone ''UTC'')', p_keeper.until_column)
    else 'null::timestamptz'
  end
$$;

CREATE FUNCTION retention._kept(p_bucket text, p_keys text[], p_is_open boolean DEFAULT false) RETURNS TABLE(key text, kept_by text, until timestamp with time zone)
    LANGUAGE plpgsql STABLE ROWS 10
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET row_security TO 'off'
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION retention._packed_digests(p_digests bytea) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select coalesce(array_agg(retention._packed_digest(substr(d.digests, 32 * n - 31, 32)) order by n), '{}')
  from (select p_digests || '' as digests offset 0) d
  cross join generate_series(1, length(d.digests) / 32) n
$$;

CREATE FUNCTION retention._kept_keys(p_keys text[], p_digests bytea) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (p_digests IS NULL) THEN p_keys ELSE retention._packed_digests(p_digests) END;

CREATE FUNCTION retention._key_hash(p_key text) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    RETURN hashtextextended((p_key COLLATE "C"), (0)::bigint);

CREATE FUNCTION retention._known_between(p_from timestamp with time zone, p_to timestamp with time zone) RETURNS SETOF retention.run_id
    LANGUAGE sql STABLE
    AS $$
  select f.run_id from retention._flagged_between(p_from, p_to) as f (run_id)
  union all
  select a.run_id from retention._set_aside_between(p_from, p_to) as a (run_id)
$$;

CREATE FUNCTION retention._known_bucket(p_bucket text) RETURNS void
    LANGUAGE plpgsql STABLE
    AS $$
begin
  if exists (select from retention.bucket k where k.bucket = p_bucket) then
    return;
  end if;
  raise exception using
    errcode = 'no_data_found',
    message = format('expected a bucket that is known, given: %s', coalesce(left(p_bucket, 100), 'null')),
    hint = coalesce(
      (
        select format('Known: %s.', string_agg(k.bucket, ', ' order by k.bucket))
        from (select b.bucket from retention.bucket b order by b.bucket limit 20) k
      ),
      'None is known yet: a bucket is known once a result in it was flagged.'
    );
end
$$;

CREATE FUNCTION retention._known_first(p_from timestamp with time zone, p_to timestamp with time zone) RETURNS TABLE(is_flagged boolean, run_ids retention.run_id[], horizon timestamp with time zone)
    LANGUAGE sql STABLE ROWS 20
    AS $$
  with overlapping as materialized (
    (
      select true as is_flagged, b.oldest, b.run_ids, row_number() over (order by b.oldest) as place
      from retention.batch b
      where b.settled_at is null
        and b.oldest <= p_to
        and b.newest >= p_from
      order by b.oldest
      limit 6
    )
    union all
    (
      select false, p.oldest, p.run_ids, row_number() over (order by p.oldest)
      from retention.surge_part p
      where p.oldest <= p_to
        and p.newest >= p_from
      order by p.oldest
      limit 6
    )
  )
  select o.is_flagged,
    case when o.place <= 5 then o.run_ids end,
    case when o.place > 5 then o.oldest end
  from overlapping o
$$;

CREATE FUNCTION retention._look_up_key(p_kept text, p_run_id retention.run_id, p_salt bytea, p_place bigint) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_key text;
begin
  if p_run_id is not null and to_regclass('retention.result') is not null then
    select r.key
    into v_key
    from retention.result r
    where r.run_id = p_run_id
      and retention._hashed_key(retention._leaf_salt(p_salt, p_place), r.key::text) = p_kept
    limit 1;
  end if;
  return coalesce(v_key, retention._unpack_key(p_kept, ''));
end
$$;

CREATE FUNCTION retention._unpack_key(p_packed text, p_run_id text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN starts_with(p_packed, ''::text) THEN substr(p_packed, 2) WHEN starts_with(p_packed, ''::text) THEN ('sha256:'::text || encode(decode(substr(p_packed, 2), 'base64'::text), 'hex'::text)) ELSE replace(p_packed, ''::text, p_run_id) END;

CREATE FUNCTION retention._known_key(p_kept text, p_run_id retention.run_id, p_salt bytea, p_place bigint) RETURNS text
    LANGUAGE sql STABLE
    RETURN CASE WHEN starts_with(p_kept, ''::text) THEN retention._look_up_key(p_kept, p_run_id, p_salt, p_place) ELSE retention._unpack_key(p_kept, (p_run_id)::text) END;

CREATE FUNCTION retention._known_since() RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE
    AS $$
begin
  return (
    select greatest(i.adopted_at, (select min(c.at) from retention.change c where c.subject = 'setting'))
    from retention.identity i
  );
end
$$;

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

CREATE FUNCTION retention._lacks_objects(p_bucket retention.bucket) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    AS $$
  select p_bucket.missing * 2 > p_bucket.looked
    and p_bucket.missing_confirmed_at is null
    and (p_bucket.looked >= 5 or p_bucket.missing_keys[1] ~ '^(/|[a-z0-9]+://)')
$$;

CREATE FUNCTION retention._last_due(p_bucket text, p_key text, p_run_id retention.run_id) RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
  select max(
    greatest(
      r.due_at,
      (
        select max(
          retention._hold_end(h.released_at, h.expires_at)
          + case
            when h.tenant_id is null then interval '0'
            else (select s.release_spread from retention.setting s) * retention._place_in_line(r.run_id::text)
          end
        )
        from retention.hold h
        where h.run_id = r.run_id or h.tenant_id = r.tenant_id::text
      )
    )
  )
  from retention._live r
  where r.key_hash = retention._key_hash(p_key)
    and r.key = p_key collate "C"
    and r.bucket = p_bucket
    and r.run_id = p_run_id
    and r.is_due
$$;

CREATE FUNCTION retention._last_holds() RETURNS TABLE(run_id retention.run_id, tenant_id text, ended_at timestamp with time zone)
    LANGUAGE sql STABLE
    AS $$
  select h.run_id, h.tenant_id, max(retention._hold_end(h.released_at, h.expires_at))
  from retention.hold h
  group by h.run_id, h.tenant_id
$$;

CREATE FUNCTION retention._last_receipt_words(p_run_id retention.run_id, p_completed_at timestamp with time zone, p_cleared_at timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select retention._receipt_words(r.receipt, r.kind, r.is_gone, r.how, r.bucket, r.key, r.asked_by, r.retain)
  from retention._run_receipts(
    p_run_id,
    retention._batches_with(p_run_id, p_completed_at, p_cleared_at, false, null),
    p_cleared_at - interval '1 hour'
  ) r
  where r.is_gone
  order by r.settled_at desc
  limit 1
$$;

CREATE FUNCTION retention._latest_sharers(p_keys text[]) RETURNS TABLE(bucket text, key text, run_id retention.run_id, free_at timestamp with time zone, next_free_at timestamp with time zone)
    LANGUAGE sql STABLE
    AS $$
  with sharer as materialized (
    select o.bucket, o.key, o.run_id,
      case
        when o.due_at is null then 'infinity'
        else retention._free_at(o.run_id::retention.run_id, o.tenant_id::text, o.due_at)
      end as free_at
    from unnest(p_keys) as k (key)
    join retention._live o on o.key = k.key collate "C"
    where o.bucket is not null
      and o.run_id is not null
  ),
  latest as (
    select distinct on (s.bucket, s.key) s.bucket, s.key, s.run_id, s.free_at
    from sharer s
    order by s.bucket, s.key, s.free_at desc nulls last
  )
  select l.bucket, l.key, l.run_id, l.free_at, max(s.free_at) filter (where s.run_id <> l.run_id)
  from latest l
  join sharer s on s.bucket = l.bucket
    and s.key = l.key
  group by l.bucket, l.key, l.run_id, l.free_at
$$;

CREATE FUNCTION retention._leaf_digest(p_leaf_salt bytea, p_leaf_text text) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sha256((p_leaf_salt || convert_to(p_leaf_text, 'UTF8'::name)));

CREATE FUNCTION retention._leaf_salt(p_salt bytea, p_place bigint) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN substr(sha512((p_salt || int4send((((p_place - 1) / 4))::integer))), (((16 * ((p_place - 1) % (4)::bigint)) + 1))::integer, 16);

CREATE FUNCTION retention._lease(p_before retention.batch, p_lease uuid, p_lease_for interval, p_by text, p_by_number boolean, p_by_etag boolean) RETURNS retention.batch
    LANGUAGE plpgsql
    AS $$
declare
  v_batch retention.batch;
  v_is_early boolean;
  v_why text;
begin
  v_is_early := p_before.early is not null and p_by_number and retention._has_command(p_before.flagged_at);
  if v_is_early and p_before.why = 'early' then
    v_why := 'early';
  elsif p_before.kind is null and exists (select from retention.returned_result) then
    v_why := retention._tell_returned(p_before.batch_id);
  end if;

  update retention.batch b
  set lease = p_lease,
    leased_at = clock_timestamp(),
    leased_by = p_by,
    early = case when v_is_early then b.early end,
    why = v_why,
    asked_by = case when b.early is null or v_is_early then b.asked_by end,
    revision = (select max(c.change_id) from retention.change c),
    policies = retention._policies_of(b.tenants, case when v_is_early then b.early end),
    -- As the rows are now, not as they were flagged: a result that was written again, with its row, is as due as before.
    etags = case when p_by_etag then retention._read_conditions(b) end,
    visible_at = clock_timestamp() + p_lease_for,
    -- This time its check comes through, or nothing of this is written: see take_turn.
    code = case when b.code not in ('ClaimLost', 'ClaimSuspect') then b.code end,
    error = case when b.code not in ('ClaimLost', 'ClaimSuspect') then b.error end,
    failed_at = case when b.code not in ('ClaimLost', 'ClaimSuspect') then b.failed_at end
  where b.batch_id = p_before.batch_id
  returning * into strict v_batch;
  return v_batch;
end
$$;

CREATE FUNCTION retention._leaves(p_salt bytea, p_run_ids retention.run_id[], p_keys text[], p_tenants text[], p_ends text[], p_versions text[], p_policies jsonb) RETURNS TABLE(i integer, tenant_id text, leaf_salt bytea, leaf_text text)
    LANGUAGE sql STABLE
    AS $$
  select u.n::integer,
    u.tenant_id,
    substr(s.stream, 16 * u.n::integer - 15, 16),
    array_to_json(array[
      u.run_id::text,
      u.tenant_id,
      retention._unpack_key(u.key, coalesce(u.run_id::text, '')),
      coalesce(u.how, 'deleted'),
      u.version,
      coalesce(s.policies ->> u.tenant_id, s.policies ->> '*')
    ])::text
  from (
    select string_agg(sha512(p_salt || int4send(g.n)), '' order by g.n) as stream,
      -- Read from where it is stored once, and not for each leaf.
      p_policies || '{}' as policies
    from generate_series(0, (cardinality(p_run_ids) - 1) / 4) g (n)
    offset 0
  ) s
  cross join unnest(p_run_ids, p_keys, p_tenants, p_ends, p_versions) with ordinality
    as u (run_id, key, tenant_id, how, version, n)
$$;

CREATE FUNCTION retention._lines(p_tenant_keys text[]) RETURNS TABLE(tenant_id retention.tenant_id, tenant_key text, before timestamp with time zone, after_completed_at timestamp with time zone, after_run_id retention.run_id, seen_at timestamp with time zone)
    LANGUAGE sql STABLE ROWS 100
    AS $$
  select t.tenant_id,
    t.tenant_key,
    now() - retention._in_seconds(t.retain),
    g.completed_at,
    g.run_id,
    case
      when (select exists (select from retention.hold h where h.tenant_id is not null))
      then retention._seen_of(t.tenant_id::text)
      else (select retention._seen())
    end
  from retention._tenants() t
  left join retention.progress g on g.tenant_key = t.tenant_key
  where p_tenant_keys is null
    or t.tenant_key = any (p_tenant_keys)
$$;

CREATE UNLOGGED TABLE retention.selection (
    run_id retention.run_id NOT NULL,
    tenant_id text,
    bucket text NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    completed_at timestamp with time zone NOT NULL,
    due_at timestamp with time zone
);

COMMENT ON TABLE retention.selection IS 'what a narrowed reconcile works with; empty between calls';

CREATE FUNCTION retention._list_carefully(p_tenant_id text, p_older_than interval, p_early boolean, p_limit bigint) RETURNS SETOF retention.selection
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $$
#variable_conflict use_column
declare
  v_left bigint := p_limit;
  v_rows retention.selection[] := '{}';
  v_row retention.selection;
  v_tenant record;
  v_next record;
  v_is_careful boolean;
  v_is_full boolean;
  v_found bigint;
begin
  for v_tenant in
    select t.tenant_id,
      now() - retention._in_seconds(
        case when p_early then p_older_than else greatest(t.retain, coalesce(p_older_than, t.retain)) end
      ) as before,
      null::timestamptz as completed_at,
      null::retention.run_id as run_id
    from retention._tenants() t
    where p_tenant_id is null or t.tenant_id::text = p_tenant_id
  loop
    v_is_careful := false;
    loop
      v_is_full := false;
      begin
        if v_is_careful then
          select a.completed_at, a.run_id
          into v_next
          from retention._row_after(v_tenant.tenant_id, v_tenant.completed_at, v_tenant.run_id, v_tenant.before) a;
          exit when not found;
        end if;
        for v_row in
          select s.run_id, s.tenant_id, s.bucket, s.key, s.completed_at, s.due_at
          from retention._past(
            v_tenant.tenant_id, v_tenant.completed_at, v_tenant.run_id, v_tenant.before,
            case when v_is_careful then 1 end
          ) s
          where s.has_place
            and not s.held
            and (s.is_due or p_early and s.due_at is not null and coalesce(s.retain_until, '-infinity') < now())
            and s.run_id is not null
            and s.run_id not in (select retention._waiting_run_ids())
        loop
          v_rows := v_rows || v_row;
          v_tenant.completed_at := v_row.completed_at;
          v_tenant.run_id := v_row.run_id;
          v_is_full := cardinality(v_rows) >= case when v_left < 5000 then 2 * v_left + 100 else 10000 end;
          exit when v_is_full;
        end loop;
        if v_is_careful then
          v_tenant.completed_at := v_next.completed_at;
          v_tenant.run_id := v_next.run_id;
        end if;
        exit when not v_is_full and not v_is_careful;
      exception
        when others then
          if retention._is_passing(sqlstate) then
            raise;
          end if;
          -- From here row by row, until the one that raises has been passed by.
          if v_is_careful then
            raise warning 'run % cannot be read and is passed by: % %', v_next.run_id, sqlstate, sqlerrm;
            v_tenant.completed_at := v_next.completed_at;
            v_tenant.run_id := v_next.run_id;
          end if;
          v_is_careful := not v_is_careful;
      end;
      if v_is_full then
        return query select u.* from retention._unshared_carefully(v_rows, v_left) u;
        get diagnostics v_found = row_count;
        v_left := v_left - v_found;
        v_rows := '{}';
        if v_left <= 0 then
          return;
        end if;
      end if;
    end loop;
  end loop;
  return query select u.* from retention._unshared_carefully(v_rows, v_left) u;
end
$$;

CREATE FUNCTION retention._list_few(p_tenant_id text, p_older_than interval, p_early boolean, p_limit bigint, OUT results retention.selection[], OUT is_complete boolean) RETURNS record
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $$
declare
  v_few bigint := retention._few_results();
  v_rows retention.selection[];
  v_seen bigint;
begin
  -- Of a few that are wanted, most are found among twice as many.
  if p_limit < v_few / 2 then
    v_few := 2 * p_limit + 100;
  end if;
  select coalesce(
      array_agg(p.result) filter (
        where p.is_due
          and (p.result).run_id not in (select retention._waiting_run_ids())
      ),
      '{}'
    ),
    count(*)
  into v_rows, v_seen
  from retention._past_policy(p_tenant_id, p_older_than, p_early, v_few + 1) p;
  is_complete := v_seen <= v_few;
  if is_complete or p_limit <= cardinality(v_rows) then
    results := array(select u from retention._unshared(v_rows, p_limit) u);
    is_complete := is_complete or cardinality(results) >= p_limit;
  end if;
end
$$;

CREATE FUNCTION retention._list_many(p_tenant_id text, p_older_than interval, p_early boolean, p_limit bigint) RETURNS SETOF retention.selection
    LANGUAGE plpgsql STABLE
    SET enable_nestloop TO 'off'
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $$
declare
  v_look record;
begin
  select * into strict v_look from retention._look_many(p_tenant_id, p_older_than, p_early, p_limit);
  -- In their order after the last that can raise: what a statement has returned before it raises stays returned.
  return query execute format(
    'select d.run_id, d.tenant_id, d.bucket, d.key, d.completed_at, d.due_at
    from (%s) d
    order by d.tenant, d.completed_at, d.run_id',
    v_look.statement
  )
  using v_look.before, p_tenant_id::retention.tenant_id, v_look.shared_buckets, v_look.shared_keys, v_look.not_due,
    v_look.kept_buckets, v_look.kept_keys;
end
$$;

CREATE FUNCTION retention._list_runs(p_tenant_id text, p_run_ids text[], p_older_than interval, p_early boolean, p_limit bigint) RETURNS SETOF retention.selection
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $$
declare
  v_run_ids retention.run_id[] := array(select retention._read_run_id(i) from unnest(p_run_ids) i);
  v_rows retention.selection[];
begin
  v_rows := array(
    select row(
        r.run_id::retention.run_id, r.tenant_id::text, r.bucket::text, r.key::text, r.completed_at, r.due_at
      )::retention.selection
    -- Found by their ids before anything else is asked: with is_candidate, a plan without statistics reads the
    -- whole index over live results.
    from (select distinct i as run_id from unnest(v_run_ids) i) u
    cross join lateral (select l.* from retention._live l where l.run_id = u.run_id offset 0) r
    where r.is_candidate
      and r.has_place
      and not r.held
      and (p_tenant_id is null or r.tenant_id::text = p_tenant_id)
      and (p_older_than is null or r.completed_at < now() - p_older_than)
      and (r.is_due or p_early and r.due_at is not null and coalesce(r.retain_until, '-infinity') < now())
      and r.run_id is not null
      and r.run_id not in (select retention._waiting_run_ids())
    order by r.completed_at, r.run_id
  );
  return query select u.* from retention._unshared_carefully(v_rows, p_limit) u;
end
$$;

CREATE FUNCTION retention._lock_holds() RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
  -- Against place_hold, which locks in exclusive mode: a hold either committed before this, and the
  -- check below sees it, or it waits for us and then sees the lease.
  begin
    lock table retention.hold in row share mode;
  exception
    when lock_not_available then
      raise exception using
        errcode = 'lock_not_available',
        message = 'nothing is claimed while a transaction that places a hold is open; it has been for 5 seconds',
        detail = retention._lockers('retention.hold'),
        hint = 'Commit it, or end an idle one: select pg_terminate_backend(<process>)';
  end;
end
$$;

CREATE FUNCTION retention._lock_holds(p_mode text) RETURNS void
    LANGUAGE plpgsql
    SET lock_timeout TO '10s'
    AS $$
begin
  execute format('lock table retention.hold in %s mode', p_mode);
exception
  when lock_not_available then
    raise exception using
      errcode = 'lock_not_available',
      message = format('another transaction keeps the holds locked: %s', coalesce(
        (
          select string_agg(
            coalesce(
              format('process %s (%s, %s)', l.pid, coalesce(nullif(a.application_name, ''), 'no name'),
                coalesce(a.state, 'state not shown')),
              'a prepared transaction'
            ),
            ', '
          )
          from pg_locks l
          left join pg_stat_activity a on a.pid = l.pid
          where l.relation = 'retention.hold'::regclass
            and l.database = (select d.oid from pg_database d where d.datname = current_database())
            and l.granted
            and l.mode in ('ExclusiveLock', 'RowExclusiveLock', 'RowShareLock', 'AccessExclusiveLock')
            and l.pid is distinct from pg_backend_pid()
        ),
        'it has ended meanwhile'
      )),
      hint = 'Try again when it has ended, or end it: select pg_terminate_backend(process).';
end
$$;

CREATE FUNCTION retention._lockers(p_table regclass) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select string_agg(distinct format('process %s (role %s)', l.pid, coalesce(a.usename, 'unknown')), ', ')
  from pg_locks l
  left join pg_stat_activity a on a.pid = l.pid
  where l.relation = p_table
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
    and l.granted
    and l.pid <> pg_backend_pid()
    and l.mode <> 'AccessShareLock'
$$;

CREATE FUNCTION retention._look_at_keepers() RETURNS void
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION retention._look_kept(p_source text, p_before timestamp with time zone, p_tenant_id retention.tenant_id, OUT buckets text[], OUT keys text[]) RETURNS record
    LANGUAGE plpgsql STABLE
    SET jit TO 'off'
    SET work_mem TO '128MB'
    SET row_security TO 'off'
    AS $_$
declare
  v_keeper retention.keeper;
  v_fault record;
  v_found record;
  v_default_bucket text := (select s.default_bucket from retention.setting s);
begin
  buckets := '{}';
  keys := '{}';
  for v_keeper in
    select * from retention.keeper k order by k.keeper_id
  loop
    select * into v_fault from retention._keeper_fault(v_keeper);
    if v_fault.fault is not null then
      raise exception using
        errcode = 'RR051',
        message = format('the keeper %s cannot be asked: %s', v_keeper.table_name, v_fault.fault),
        hint = v_fault.remedy;
    end if;
    execute format(
      'select coalesce(array_agg(n.bucket), ''{}'') as buckets, coalesce(array_agg(n.key), ''{}'') as keys
      from (
        select distinct d.bucket, d.key
        from (%s) d
        join %s
      ) n',
      p_source, retention._keeper_join(v_keeper, 'd.bucket', 'd.key', '$3')
    )
    into v_found
    using p_before, p_tenant_id, v_default_bucket;
    buckets := buckets || v_found.buckets;
    keys := keys || v_found.keys;
  end loop;
end
$_$;

CREATE FUNCTION retention._look_many(p_tenant_id text, p_older_than interval, p_early boolean, p_limit bigint, OUT statement text, OUT before timestamp with time zone, OUT shared_buckets text[], OUT shared_keys text[], OUT not_due bigint[], OUT kept_buckets text[], OUT kept_keys text[]) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_source text := retention._look_source(p_early, p_tenant_id, true);
  v_tenant_id retention.tenant_id := p_tenant_id;
  v_retain interval := (select min(retention._in_seconds(p.retain)) from retention.policy p);
begin
  before := now() - case when p_early then p_older_than else greatest(v_retain, p_older_than) end;
  select s.buckets, s.keys, s.not_due
  into shared_buckets, shared_keys, not_due
  from retention._look_shared(retention._look_source(p_early, p_tenant_id, false), before, v_tenant_id) s;
  select k.buckets, k.keys
  into kept_buckets, kept_keys
  from retention._look_kept(v_source, before, v_tenant_id) k;
  statement := retention._look_statement(v_source, shared_keys is not null, kept_keys <> '{}', p_limit);
end
$$;

CREATE FUNCTION retention._look_shared(p_source text, p_before timestamp with time zone, p_tenant_id retention.tenant_id, OUT buckets text[], OUT keys text[], OUT not_due bigint[]) RETURNS record
    LANGUAGE plpgsql STABLE
    SET enable_nestloop TO 'off'
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $$
declare
  v_keys text[] := retention._look_shared_keys(p_source, p_before, p_tenant_id);
begin
  if v_keys is null then
    return;
  elsif cardinality(v_keys) <= retention._few_results() then
    select n.buckets, n.keys, n.not_due
    into buckets, keys, not_due
    from retention._look_up_sharers(v_keys) n;
  else
    -- Of its own, so that the rules are asked only of rows that have one of the keys.
    select array_agg(n.bucket), array_agg(n.key), array_agg(n.not_due)
    into buckets, keys, not_due
    from (
      select o.bucket, o.key, count(*) filter (where not o.is_due) as not_due
      from unnest(v_keys) as k (key)
      join retention._live o on o.key = k.key collate "C"
      where o.bucket is not null
      group by o.bucket, o.key
    ) n
    where n.not_due > 0;
  end if;
  if v_keys <> '{}' and exists (select from retention.surge_part) then
    select array_agg(n.bucket), array_agg(n.key), array_agg(n.not_due)
    into buckets, keys, not_due
    from (
      select a.bucket, a.key, max(a.not_due) as not_due
      from (
        select u.bucket, u.key, u.not_due
        from unnest(buckets, keys, not_due) as u (bucket, key, not_due)
        union all
        select p.bucket, k.key, 1000000000
        from (select distinct s.bucket from retention.surge_part s) p
        cross join lateral unnest(retention._set_aside_keys(p.bucket, v_keys)) as k (key)
      ) a
      group by a.bucket, a.key
    ) n;
  end if;
end
$$;

CREATE FUNCTION retention._look_shared_keys(p_source text, p_before timestamp with time zone, p_tenant_id retention.tenant_id) RETURNS text[]
    LANGUAGE plpgsql STABLE
    SET enable_nestloop TO 'off'
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $$
declare
  v_keys text[];
begin
  if not (select s.check_shared_objects from retention.setting s) then
    return null;
  end if;
  execute format(
    'select array_agg(distinct o.key)
    from retention._live o
    where exists (
      select
      from (%s) d
      where d.key = o.key
        and (d.run_id, d.completed_at, d.tenant, d.status, d.retain_until)
          is distinct from (o.run_id, o.completed_at, o.tenant_id, o.status, o.retain_until)
    )',
    p_source
  )
  into v_keys
  using p_before, p_tenant_id;
  return v_keys;
end
$$;

CREATE FUNCTION retention._look_source(p_early boolean, p_tenant_id text, p_is_exact boolean) RETURNS text
    LANGUAGE sql STABLE
    AS $_$
  select format(
    'select r.run_id::retention.run_id as run_id, r.tenant_id::text as tenant_id, r.bucket::text as bucket,
      r.key::text collate "C" as key, r.completed_at, r.due_at, r.tenant_id as tenant, r.status, r.retain_until
    from retention._live r
    where r.is_candidate
      and r.completed_at < $1
      and %s
      and r.has_place
      and (coalesce(r.due_at < now(), false)%s)
      and r.run_id is not null%s%s',
    case when p_tenant_id is null then '$2 is null' else 'r.tenant_id = $2' end,
    case when p_early then ' or r.due_at is not null and coalesce(r.retain_until, ''-infinity'') < now()' end,
    case
      when p_is_exact and retention._may_hold()
      then ' and not r.held'
    end,
    case
      when p_is_exact and exists (select from retention._waiting_run_ids())
      then ' and not exists (select from retention._waiting_run_ids() as w (run_id) where w.run_id = r.run_id)'
    end
  )
$_$;

CREATE FUNCTION retention._look_statement(p_source text, p_is_shared boolean, p_is_kept boolean, p_limit bigint) RETURNS text
    LANGUAGE sql STABLE
    AS $_$
  select format('select d.* from (%s) d ', p_source)
    || case
      when p_is_shared
      -- One that is early is itself not due.
      then 'left join unnest($3::text[], $4::text[], $5::bigint[]) as n (bucket, key, not_due)
          on n.bucket = d.bucket and n.key collate "C" = d.key
        where coalesce(n.not_due, 0) <= (d.due_at is null or d.due_at >= now())::integer '
      else 'where $3::text[] is null and $4::text[] is null and $5::bigint[] is null '
    end
    || case
      when p_is_kept
      then 'and not exists (
          select
          from unnest($6::text[], $7::text[]) as k (bucket, key)
          where k.bucket = d.bucket and k.key collate "C" = d.key
        ) '
      else 'and $6::text[] is not null and $7::text[] is not null '
    end
    || case
      when exists (select from retention.held_object)
      then 'and not exists (
          select
          from retention.held_object o
          join retention.hold h on h.hold_id = o.hold_id
          where o.bucket = d.bucket
            and o.key = d.key
            and retention._hold_end(h.released_at, h.expires_at) > now()
        ) '
      else ''
    end
    || case
      when p_limit is not null
      then format('order by d.tenant, d.completed_at, d.run_id limit %s', p_limit)
      else ''
    end
$_$;

CREATE FUNCTION retention._look_up_sharers(p_keys text[], OUT buckets text[], OUT keys text[], OUT not_due bigint[]) RETURNS record
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    AS $$
begin
  select array_agg(b.bucket), array_agg(k.key), array_agg(b.not_due)
  into buckets, keys, not_due
  from unnest(p_keys) as k (key)
  -- The aggregate keeps this a probe by key.
  cross join lateral (
    select array_agg(o.bucket) as buckets
    from retention._live o
    where o.key_hash = retention._key_hash(k.key)
      and o.key = k.key collate "C"
      and not o.is_due
  ) o
  cross join lateral (
    select u.bucket, count(*) as not_due
    from unnest(o.buckets) as u (bucket)
    where u.bucket is not null
    group by u.bucket
  ) b;
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
        %s as etag,
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
    coalesce(quote_ident(v_columns -> 'etag' ->> 'name'), 'null::text'),
    v_columns -> 'cleared_at' ->> 'name',
    coalesce(quote_ident(v_columns -> 'updated_at' ->> 'name'), 'null::timestamptz'),
    v_adapter.table_oid::regclass
  );
  v_candidate := format('(%s)', retention._candidate(v_columns, true));
  /*
  Every row that is not cleared, with what the rules make of it.
  is_candidate: completed and with an object. Of the columns themselves, as the predicate of the index
    retention_live says it: only then does the planner use that index.
  due_at: when its retention ends; null: never. is_due: that is over, and it is not held.
  has_place: it names an object to delete. key_hash: by it, and by no other column, rows are found by their key.

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
      l.key_hash,
      l.etag,
      l.is_candidate,
      l.bucket is not null and octet_length(l.bucket) <= 255 and coalesce(l.key, '') <> '' as has_place,
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
        retention._bucket(r.bucket, (select s.default_bucket from retention.setting s)) as bucket,
        %2$s as key,
        %3$s as key_hash,
        r.etag,
        %1$s as is_candidate,
        coalesce(p.retain, (select d.retain from retention.policy d where d.tenant_id = '*')) as retain,
        case
          -- A date that is none, and one so late that nothing can be added to it, are no errors.
          when %1$s
            and r.completed_at > '-infinity'
            and exists (select from retention.policy d where d.tenant_id = '*')
          then greatest(
            least(r.completed_at, timestamptz '290000-01-01 00:00Z') + coalesce(
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
    v_candidate,
    retention._possible_key('r.key'),
    retention._hash_expression('r.key')
  );
  comment on view retention.result is
    'The application''s table under the names of this schema: the only way from here to it. For observers.';
  comment on column retention.result.tenant_id is 'null where the table has no tenants';
  comment on column retention.result.status is 'only a run whose status means completed has a result to expire';
  comment on column retention.result.completed_at is 'from when its retention is counted';
  comment on column retention.result.retain_until is 'a date before which the result may not go, whatever the policy says';
  comment on column retention.result.bucket is 'null or empty: setting.default_bucket';
  comment on column retention.result.etag is 'the version of the object that the run wrote; null: any version is meant';
  comment on column retention.result.cleared_at is 'when the result was deleted, or found gone; null: it is live';
  comment on column retention.result.updated_at is 'written with cleared_at, where the table has it';
  revoke all on retention.result, retention._live from public;
end
$_$;

CREATE FUNCTION retention._mark_indexes() RETURNS void
    LANGUAGE sql
    AS $$
  update retention.adapter
  set index_marks = array(select p.mark from retention._index_plan() p order by p.purpose desc)
$$;

CREATE FUNCTION retention._max_keys(p_habits jsonb) RETURNS integer
    LANGUAGE sql IMMUTABLE
    AS $$
  select least((p_habits ->> 'keys_per_request')::integer, (p_habits ->> 'keys_in_time')::integer)
$$;

CREATE FUNCTION retention._max_stamps() RETURNS integer
    LANGUAGE sql STABLE
    AS $$
  select s.most from retention.stamping s
$$;

CREATE FUNCTION retention._may_go(p_batch retention.batch, p_shared boolean, OUT spared bigint[], OUT keys text[], OUT shares boolean) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_early interval := retention._in_seconds(p_batch.early);
begin
  -- Results without their run's id in the key may share objects by the thousand. A sample of the keys as they are
  -- packed shows it; one that is missed costs time and nothing else.
  if exists (
    select
    from unnest(
      case
        when p_batch.results < 256 then p_batch.keys
        else p_batch.keys[1:48]
          || p_batch.keys[p_batch.results / 2:p_batch.results / 2 + 47]
          || p_batch.keys[p_batch.results - 47:]
      end
    ) as k (key)
    where strpos(k.key, E'\x01') = 0
    group by k.key
    having count(*) > 1
  ) then
    select m.spared, m.keys, m.shares
    into spared, keys, shares
    from retention._may_go_by_object(p_batch, p_shared, v_early) m;
    return;
  end if;
  -- The aggregates keep this a probe by key, or by run id: joined to the view as a whole, it is a scan.
  if p_shared and v_early is null then
    select coalesce(array_agg(e.n) filter (where o.may_go is not true), '{}'),
      coalesce(array_agg(e.key) filter (where o.may_go), '{}'),
      bool_or(o.runs > 1)
    into spared, keys, shares
    from retention._results(p_batch) e
    cross join lateral (
      -- By its key, one probe finds the run itself and any other that needs the object.
      select bool_or(r.run_id = e.run_id and r.completed_at between p_batch.oldest and p_batch.newest)
        and bool_and(r.is_due) as may_go,
        count(*) as runs
      from retention._live r
      where r.key_hash = retention._key_hash(e.key)
        and r.key = e.key collate "C"
        and r.bucket = p_batch.bucket
    ) o;
  elsif p_shared then
    select coalesce(array_agg(e.n) filter (where o.may_go is not true), '{}'),
      coalesce(array_agg(e.key) filter (where o.may_go), '{}'),
      bool_or(o.runs > 1)
    into spared, keys, shares
    from retention._results(p_batch) e
    cross join lateral (
      select bool_or(r.run_id = e.run_id and r.completed_at between p_batch.oldest and p_batch.newest)
        and bool_and(
          r.is_due
          or r.run_id = e.run_id
            and not r.held
            and retention._is_past(r.due_at, r.completed_at, v_early, r.retain_until)
        ) as may_go,
        count(*) as runs
      from retention._live r
      where r.key_hash = retention._key_hash(e.key)
        and r.key = e.key collate "C"
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
          and retention._is_past(r.due_at, r.completed_at, v_early, r.retain_until)
      ) as may_go
      from retention._live r
      where r.run_id = e.run_id
        and r.key = e.key collate "C"
        and r.bucket = p_batch.bucket
        and r.completed_at between p_batch.oldest and p_batch.newest
    ) o;
  end if;
end
$$;

CREATE FUNCTION retention._may_go_by_object(p_batch retention.batch, p_shared boolean, p_early interval, OUT spared bigint[], OUT keys text[], OUT shares boolean) RETURNS record
    LANGUAGE sql STABLE
    AS $$
  select coalesce(array_agg(x.n order by x.n) filter (where x.may_go is not true), '{}'),
    coalesce(array_agg(distinct x.key) filter (where x.may_go), '{}'),
    p_shared
  from (
    select k.key,
      u.n,
      s.may_go and (not p_shared or o.not_due = s.not_due) as may_go
    from (
      select e.key collate "C" as key,
        array_agg(e.run_id) as run_ids,
        array_agg(e.n) as ns
      from retention._results(p_batch) e
      group by e.key collate "C"
    ) k
    cross join lateral (
      select count(*) filter (where not r.is_due) as not_due
      from retention._live r
      where p_shared
        and r.key_hash = retention._key_hash(k.key)
        and r.key = k.key
        and r.bucket = p_batch.bucket
    ) o
    cross join lateral unnest(k.run_ids, k.ns) as u (run_id, n)
    cross join lateral (
      select bool_and(
          r.is_due
          or p_early is not null
            and not r.held
            and retention._is_past(r.due_at, r.completed_at, p_early, r.retain_until)
        ) as may_go,
        count(*) filter (where not r.is_due) as not_due
      from retention._live r
      where r.run_id = u.run_id
        and r.key = k.key
        and r.bucket = p_batch.bucket
        and r.completed_at between p_batch.oldest and p_batch.newest
    ) s
  ) x
$$;

CREATE FUNCTION retention._may_hold() RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
  select exists (
    select
    from retention.hold h
    cross join retention.setting s
    where retention._hold_end(h.released_at, h.expires_at) + s.release_spread > now()
  )
$$;

CREATE FUNCTION retention._may_stamp() RETURNS boolean
    LANGUAGE plpgsql
    AS $$
declare
  v_stamping retention.stamping;
  v_mark text := retention._trial_mark();
begin
  select * into strict v_stamping from retention.stamping;
  if v_stamping.tried_for is distinct from v_mark
    -- Otherwise each claim would wait for the same locks.
    and (v_stamping.unknown_for = v_mark and v_stamping.unknown_at > clock_timestamp() - interval '10 seconds') is not true
  then
    return retention._try_stamp();
  end if;
  return v_stamping.most is null or not exists (
    select
    from retention.batch b
    where b.deleted_at is not null
      and b.settled_at is null
      and b.dead_at is null
      and b.code = 'StampLater'
  );
end
$$;

CREATE FUNCTION retention._member_problem(p_seal_id bigint, p_name text, p_stated bytea, p_found bytea, p_seal_now bigint, p_is_there boolean) RETURNS jsonb
    LANGUAGE sql IMMUTABLE
    AS $$
  select case
    when p_stated is null then jsonb_build_object(
      'kind', 'added', 'seal', p_seal_id, 'member', p_name,
      'message', format('%s was added: seal %s does not know it', p_name, p_seal_id)
    )
    when p_found is not null and p_found <> p_stated then jsonb_build_object(
      'kind', 'changed', 'seal', p_seal_id, 'member', p_name,
      'message', format('%s of seal %s was changed', p_name, p_seal_id)
    )
    when p_found is null and p_is_there then jsonb_build_object(
      'kind', 'changed', 'seal', p_seal_id, 'member', p_name,
      'message', format(
        '%s of seal %s was changed: it now %s', p_name, p_seal_id,
        case
          when p_seal_now is null then 'belongs to no seal'
          when p_seal_now = p_seal_id then 'is no receipt any more'
          else format('belongs to seal %s', p_seal_now)
        end
      )
    )
    when p_found is null then jsonb_build_object(
      'kind', 'removed', 'seal', p_seal_id, 'member', p_name,
      'message', format('%s of seal %s was removed', p_name, p_seal_id)
    )
  end
$$;

CREATE FUNCTION retention._members_found(p_from bigint, p_to bigint) RETURNS TABLE(seal_id bigint, part integer, id bigint, settled_at timestamp with time zone, digest bytea)
    LANGUAGE sql STABLE
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    AS $$
  select r.seal_id,
    case r.source when 'batch' then 1 else 2 end,
    r.id,
    r.settled_at,
    -- Without a salt there is none.
    coalesce(
      retention._receipt_digest(
        retention._receipt_header(
          r.source, r.id, r.kind, r.bucket, r.settled_at, r.request_ids, r.asked_by, r.revision, r.settled_session, r.product
        ),
        g.groups
      ),
      ''
    )
  from retention._receipt r
  cross join lateral (
    select string_agg(x.digest, null order by x.digest) as groups
    from retention._groups(r.salt, r.run_ids, r.keys, r.tenants, r.ends, r.versions, r.policies) x
  ) g
  where r.seal_id between p_from and p_to
  union all
  select c.seal_id, 3, c.change_id, c.at, coalesce(retention._change_digest(c.salt, retention._change_text(c)), '')
  from retention.change c
  where c.seal_id between p_from and p_to
$$;

CREATE FUNCTION retention._missing_indexes() RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
begin
  return (
    select string_agg(
      case m.n when 1 then 'retention_live' else 'retention_key' end, ', ' order by m.n
    )
    from retention.adapter a
    cross join unnest(a.index_marks) with ordinality as m (mark, n)
    where not exists (
      select
      from pg_catalog.pg_index i
      join pg_catalog.pg_description d on d.objoid = i.indexrelid
        and d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
        and d.objsubid = 0
      where i.indrelid = a.table_oid
        and i.indisvalid
        and d.description = m.mark
    )
  );
end
$$;

CREATE FUNCTION retention._most_watched() RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 250;

CREATE FUNCTION retention._needed(p_bucket text, p_key text, OUT until timestamp with time zone, OUT run_id retention.run_id) RETURNS record
    LANGUAGE sql STABLE
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
  select case
      when bool_or(r.is_due) then greatest(
        max(case when r.held or r.due_at is null or r.due_at < now() then 'infinity' else r.due_at end)
          filter (where not r.is_due),
        case
          when retention._is_held_object(p_bucket, p_key) or retention._is_set_aside_object(p_bucket, p_key)
          then timestamptz 'infinity'
        end
      )
    end,
    (array_agg(r.run_id) filter (where not r.is_due))[1]
  from retention._live r
  where r.key_hash = retention._key_hash(p_key)
    and r.key = p_key collate "C"
    and r.bucket = p_bucket
$$;

CREATE FUNCTION retention._newest_of(p_tenant_ids retention.tenant_id[]) RETURNS timestamp with time zone
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
  select max(n.completed_at)
  into v_newest
  from unnest(p_tenant_ids) as t (tenant_id)
  cross join lateral (
    select r.completed_at
    from retention._live r
    where r.is_candidate
      and r.tenant_id = t.tenant_id
      and r.completed_at <= now()
    order by r.tenant_id desc, r.completed_at desc, r.run_id desc
    limit 1
  ) n;
  if array_position(p_tenant_ids, null) is not null then
    v_newest := greatest(v_newest, (
      select r.completed_at
      from retention._live r
      where r.is_candidate
        and r.tenant_id is null
        and r.completed_at <= now()
      order by r.tenant_id desc, r.completed_at desc, r.run_id desc
      limit 1
    ));
  end if;
  return nullif(v_newest, '-infinity');
end
$$;

CREATE FUNCTION retention._newly_due(p_tenant_id text, p_retain interval) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select coalesce(sum(n.results), 0)::bigint
  from retention.preview_policy(p_tenant_id, p_retain) n
$$;

CREATE FUNCTION retention._next_batch(p_batch_ids bigint[], p_buckets text[]) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
declare
  v_bucket record;
  v_batch_id bigint;
  v_turn text;
  v_busy text;
  v_has_turn boolean := false;
begin
  for v_bucket in
    select k.bucket,
      k.pauses > 0 as is_on_trial,
      num_nonnulls(k.max_per_second, k.max_in_flight) > 0 as has_ceiling
    from retention.bucket k
    cross join lateral (
      select b.visible_at
      from retention.batch b
      where b.bucket = k.bucket
        and b.settled_at is null
        and b.dead_at is null
        and b.deleted_at is null
        and b.visible_at <= clock_timestamp()
        and (b.early is null or p_batch_ids is not null or b.flagged_at not in (select c.flagged_at from retention.cutoff c where c.until > now()))
      order by b.visible_at
      limit 1
    ) first
    cross join lateral (
      select count(*) as batches
      from retention.batch b
      where b.bucket = k.bucket
        and b.lease is not null
    ) leased
    where (k.paused_until is null or k.paused_until <= clock_timestamp())
      and (p_buckets is null or k.bucket = any (p_buckets))
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
    if v_bucket.has_ceiling then
      v_turn := (select retention._take_pace(k) from retention.bucket k where k.bucket = v_bucket.bucket);
      v_has_turn := v_has_turn or v_turn = 'go';
      if v_turn = 'busy' and not v_bucket.is_on_trial then
        v_busy := coalesce(v_busy, v_bucket.bucket);
      end if;
      continue when v_turn <> 'go';
    end if;
    v_batch_id := retention._first_batch(v_bucket.bucket, p_batch_ids);
    if v_batch_id is not null then
      return v_batch_id;
    end if;
  end loop;
  -- With nothing else to do it waits for the claim that has the turn, which is done in milliseconds. Never with a turn of its
  -- own, which that one may wait for.
  if v_busy is not null
    and not v_has_turn
    and (select retention._take_pace(k, true) = 'go' from retention.bucket k where k.bucket = v_busy)
  then
    return retention._first_batch(v_busy, p_batch_ids);
  end if;
  return null;
end
$$;

CREATE FUNCTION retention._not_known(p_state text, p_is_there boolean, p_cleared_at timestamp with time zone, p_at timestamp with time zone) RETURNS text[]
    LANGUAGE plpgsql STABLE
    AS $$
begin
  return (
    select array_remove(
      array[
        case when p_is_there and p_state not in ('cleared', 'stamped')
          then 'earlier values of its row: its status, dates, bucket and key are taken as they are now' end,
        case when p_state in ('due', 'flagged') then 'whether a keeper needed its object, or a run that is cleared by now' end,
        case when p_state in ('due', 'flagged', 'failed') and p_at < clock_timestamp() - s.history_kept
          then 'batches that spared it, and attempts before the last one' end,
        case when p_state = 'cleared' and p_is_there and p_cleared_at is null
          then 'by what change of its row it carries no stamp now' end,
        case when p_at < clock_timestamp() - s.receipts_kept then 'receipts that were pruned since' end
      ],
      null
    )
    from retention.setting s
  );
end
$$;

CREATE FUNCTION retention._not_listed(p_copy_id bigint, p_bucket text, p_after text, p_until text, p_keys text[], p_before timestamp with time zone, p_as_of timestamp with time zone) RETURNS TABLE(run_id text, key text, is_due boolean)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  v_stretch retention.key_stretch;
  v_last_key text;
  v_found bigint := 0;
  v_more bigint;
begin
  for v_stretch in
    select s.*
    from retention.key_stretch s
    where s.copy_id = p_copy_id
      and s.last_key > coalesce(p_after, '') collate "C"
    order by s.copy_id, s.last_key, s.place
  loop
    exit when v_stretch.first_key > p_until collate "C"
      or v_found >= 1000 and v_stretch.first_key <> v_last_key collate "C";
    return query
    select r.run_id::text, r.key::text, r.is_past
    from unnest(v_stretch.keys, v_stretch.run_ids) with ordinality as k (key, run_id, n)
    cross join lateral (
      select l.run_id, l.key, coalesce(l.due_at < now(), false) as is_past
      from retention._live l
      where l.run_id = k.run_id
        and l.key = k.key collate "C"
        and l.bucket = p_bucket
        and l.is_candidate
        and l.completed_at < p_before
        and (
          p_as_of is null
          or not exists (
            select
            from retention.result x
            where x.run_id = l.run_id
              and x.updated_at >= p_as_of
          )
        )
      offset 0
    ) r
    where k.key > coalesce(p_after, '') collate "C"
      and (p_until is null or k.key <= p_until collate "C")
      -- Looked up by hash; as an array, the planner would weigh each of a thousand keys.
      and k.key collate "C" not in (select e.key collate "C" from unnest(p_keys) as e (key))
    order by k.n;
    get diagnostics v_more = row_count;
    v_found := v_found + v_more;
    v_last_key := v_stretch.last_key;
  end loop;
end
$$;

CREATE FUNCTION retention._note_ahead() RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
  with passed as materialized (
    select a.tenant_key
    from retention.ahead a
    where a.due_at <= now()
    union
    select g.tenant_key
    from retention.progress g
    where not exists (select from retention.ahead a where a.tenant_key = g.tenant_key)
  ),
  next as materialized (
    select t.tenant_key,
      -- A date so late that nothing can be added to it is no error.
      case
        when n.completed_at is not null
        then least(n.completed_at, timestamptz '290000-01-01 00:00Z') + retention._in_seconds(coalesce(p.retain, d.retain))
      end as due_at
    from passed t
    join retention.policy d on d.tenant_id = '*'
    left join retention.policy p on p.tenant_id = substr(t.tenant_key, 2)
      and p.tenant_id <> '*'
    left join retention.progress g on g.tenant_key = t.tenant_key
    left join lateral (
      (
        select r.completed_at
        from retention._live r
        -- The empty key may be no tenant's text: no cast is to see it.
        where r.tenant_id = case when t.tenant_key <> '' then substr(t.tenant_key, 2) end::retention.tenant_id
          and r.is_candidate
          and (r.completed_at, r.run_id) > (coalesce(g.completed_at, '-infinity'), g.run_id)
        order by r.tenant_id, r.completed_at
        limit 1
      )
      union all
      (
        select r.completed_at
        from retention._live r
        where t.tenant_key = ''
          and r.tenant_id is null
          and r.is_candidate
          and (r.completed_at, r.run_id) > (coalesce(g.completed_at, '-infinity'), g.run_id)
        order by r.tenant_id, r.completed_at
        limit 1
      )
    ) n on true
  ),
  gone as (
    delete from retention.ahead a
    using next n
    where a.tenant_key = n.tenant_key
      and n.due_at is null
  )
  insert into retention.ahead (tenant_key, due_at)
  select n.tenant_key, n.due_at
  from next n
  where n.due_at is not null
  on conflict (tenant_key) do update
  set due_at = excluded.due_at;
exception
  when others then
    if retention._is_passing(sqlstate) then
      raise;
    end if;
end
$$;

CREATE FUNCTION retention._note_attempt(p_batch retention.batch, p_until timestamp with time zone) RETURNS void
    LANGUAGE sql
    AS $$
  insert into retention.past_work (batch_id, state, since, until, because)
  select p_batch.batch_id, w.state, w.since, w.until, w.because
  from (
    values ('in flight', p_batch.leased_at, least(p_batch.visible_at, p_until, clock_timestamp()), coalesce(p_batch.leased_by, 'a listener')),
      ('failed', p_batch.failed_at, p_batch.leased_at, retention._said(p_batch.code, p_batch.error))
  ) as w (state, since, until, because)
  where w.since < w.until
$$;

CREATE FUNCTION retention._note_canary_problem(p_bucket text, p_code text, p_problem text) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_before text := (select c.code from retention.canary c where c.bucket = p_bucket);
begin
  update retention.canary c
  set code = left(p_code, 64),
    problem = left(p_problem, 500),
    problem_at = clock_timestamp()
  where c.bucket = p_bucket;
  if v_before is distinct from left(p_code, 64) then
    perform retention._tell(
      'canary',
      json_build_object('kind', 'canary', 'bucket', left(p_bucket, 63), 'code', left(p_code, 64))
    );
  end if;
end
$$;

CREATE FUNCTION retention._note_change(p_subject text, p_action text, p_before jsonb, p_after jsonb) RETURNS void
    LANGUAGE sql
    AS $$
  insert into retention.change (subject, action, tenant_id, run_id, name, before, after, role_name, application)
  select p_subject,
    p_action,
    -- A request says what it likes, and an index takes no text of any length.
    left(
      case p_subject
        when 'allowance' then case when r.it ->> 'tenant_key' like '=%' then substr(r.it ->> 'tenant_key', 2) end
        when 'approval' then r.it -> 'what' ->> 'tenant_id'
        else r.it ->> 'tenant_id'
      end,
      1024
    ),
    r.it ->> 'run_id',
    case p_subject
      when 'policy' then left(r.it ->> 'tenant_id', 1024)
      when 'hold' then r.it ->> 'hold_id'
      when 'keeper' then r.it ->> 'table_name'
      when 'bucket' then r.it ->> 'bucket'
      when 'surge' then r.it ->> 'surge_id'
      when 'surge_release' then r.it ->> 'surge_id'
      when 'allowance' then r.it ->> 'allowance_id'
      when 'approval' then r.it ->> 'approval_id'
      when 'setting' then (
        select string_agg(a.key, ', ' order by a.key)
        from jsonb_each(p_after) a
        where p_before is not null
          and a.value is distinct from p_before -> a.key
      )
    end,
    p_before,
    p_after,
    nullif(current_setting('role'), 'none'),
    nullif(current_setting('application_name'), '')
  from (select coalesce(p_after, p_before) as it) r
$$;

CREATE FUNCTION retention._note_changed(p_batch retention.batch, p_keys text[]) RETURNS void
    LANGUAGE sql
    AS $$
  insert into retention.spared_object as s (bucket, key, etag, until, run_id)
  select distinct on (e.key collate "C") p_batch.bucket, e.key, e.etag,
    clock_timestamp() + retention._backoff('1 hour', '7 days', 1),
    e.run_id
  from retention._conditional_results(p_batch) e
  where e.key collate "C" in (select unnest(p_keys) collate "C")
  on conflict (bucket, key, etag) do update
  set until = clock_timestamp() + retention._backoff('1 hour', '7 days', s.times + 1),
    run_id = excluded.run_id,
    times = s.times + 1,
    noted_at = now()
$$;

CREATE FUNCTION retention._note_failure(p_batch retention.batch) RETURNS void
    LANGUAGE sql
    AS $$
  insert into retention.past_work (batch_id, state, since, until, because)
  select p_batch.batch_id,
    case when p_batch.dead_at is null then 'failed' else 'dead' end,
    coalesce(p_batch.dead_at, p_batch.failed_at),
    clock_timestamp(),
    retention._said(p_batch.code, p_batch.error)
  where coalesce(p_batch.dead_at, p_batch.failed_at) is not null
$$;

CREATE FUNCTION retention._note_gate() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_reasons text[];
  v_before text[];
begin
  perform retention._look_at_keepers();
  v_reasons := array(select g.reason from retention.gate() g order by g.reason);
  select s.reasons into v_before from retention.gate_state s where s.reasons <> v_reasons for update;
  if not found then
    return;
  end if;
  update retention.gate_state
  set reasons = v_reasons,
    since = clock_timestamp();
  perform retention._tell(
    case
      when v_reasons = '{}' then 'resumed'
      when 'copy' = any (v_reasons) and not 'copy' = any (v_before) then 'copy'
      else 'halted'
    end,
    row_to_json(p)
  )
  from (
    select case when v_reasons = '{}' then 'resumed' else 'halted' end as kind,
      v_reasons as reasons,
      (select left(string_agg(g.because, '; '), 1000) from retention.gate() g) as because,
      retention._iso(clock_timestamp()) as at
  ) p;
end
$$;

CREATE FUNCTION retention._note_held_objects(p_hold_id bigint, p_run_id retention.run_id, p_tenant_id retention.tenant_id, OUT objects bigint, OUT bucket text, OUT key text) RETURNS record
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  v_default_bucket text := (select s.default_bucket from retention.setting s);
begin
  if p_run_id is not null then
    insert into retention.held_object (hold_id, bucket, key)
    select p_hold_id, retention._bucket(r.bucket, v_default_bucket), r.key
    from retention.result r
    where r.run_id = p_run_id
      and octet_length(retention._bucket(r.bucket, v_default_bucket)) <= 255
      and octet_length(r.key) between 1 and 1024
    on conflict do nothing;
    select o.bucket, o.key
    into bucket, key
    from retention.held_object o
    where o.hold_id = p_hold_id
    order by o.bucket, o.key
    limit 1;
  else
    insert into retention.held_object (hold_id, bucket, key)
    select p_hold_id, l.bucket, l.key
    from retention._live l
    where l.tenant_id = p_tenant_id
      and l.is_candidate
      and l.has_place
    on conflict do nothing;
    insert into retention.held_object (hold_id, bucket, key)
    select p_hold_id, b.bucket, u.key
    from retention.batch b
    cross join lateral retention._results(b) u
    where b.settled_at is null
      and p_tenant_id::text = any (b.tenants)
      and u.tenant_id = p_tenant_id::text
      and u.key <> ''
    on conflict do nothing;
  end if;
  select count(*) into objects from retention.held_object o where o.hold_id = p_hold_id;
end
$$;

CREATE FUNCTION retention._note_identity() RETURNS void
    LANGUAGE sql
    AS $$
  insert into retention.identity (system_identifier, database_oid, database_name, timeline)
  select n.system_identifier, n.database_oid, n.database_name, n.timeline
  from retention._identity_now() n
  where not exists (select from retention.installed)
  on conflict (singleton) do nothing
$$;

CREATE FUNCTION retention._note_lateness(p_tenant_keys text[], p_results bigint[], p_uncovered bigint[], p_rules text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
  insert into retention.lateness (tenant_key, results, rule)
  select u.tenant_key, u.uncovered, u.rule
  from unnest(p_tenant_keys, p_uncovered, p_rules) as u (tenant_key, uncovered, rule)
  where u.uncovered > 0;
  update retention.allowance a
  set results = a.results - t.used
  from (
    select w.allowance_id,
      least(
        w.results,
        u.results - u.uncovered - (sum(w.results) over (partition by w.tenant_key order by w.allowance_id) - w.results)
      ) as used
    from unnest(p_tenant_keys, p_results, p_uncovered) as u (tenant_key, results, uncovered)
    join retention.allowance w on w.tenant_key = u.tenant_key
    where w.dropped_at is null
      and u.results > u.uncovered
  ) t
  where a.allowance_id = t.allowance_id
    and t.used > 0;
end
$$;

CREATE FUNCTION retention._note_left(p_batch retention.batch, p_run_ids retention.run_id[]) RETURNS void
    LANGUAGE sql
    AS $$
  insert into retention.past_work (batch_id, state, since, until, oldest, newest, run_ids)
  select p_batch.batch_id, 'flagged', p_batch.flagged_at, clock_timestamp(), p_batch.oldest, p_batch.newest, p_run_ids
  where cardinality(p_run_ids) > 0;
  select retention._note_failure(p_batch) where cardinality(p_run_ids) > 0
$$;

CREATE FUNCTION retention._note_load(p_bucket text, p_failed jsonb) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_load record;
begin
  select f.code, f.reason
  into v_load
  from jsonb_to_recordset(p_failed) as f (code text, reason text, outcome text, concerns text)
  where f.outcome <> 'refused'
    and f.concerns <> 'key'
  limit 1;
  if found then
    perform retention._pause_bucket(p_bucket, v_load.code, v_load.reason);
  end if;
end
$$;

CREATE FUNCTION retention._note_lost_fence(p_because text) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
  update retention.fence
  set lost_at = clock_timestamp(),
    lost_because = p_because
  where lost_at is null;
  perform retention._note_gate();
end
$$;

CREATE FUNCTION retention._note_pace(p_results bigint, p_taken interval) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_seconds numeric := least(5, nullif(extract(epoch from current_setting('statement_timeout')::interval), 0) / 3);
  v_fits integer := least(1000, greatest(1, v_seconds * p_results / greatest(extract(epoch from p_taken), 0.001)));
begin
  update retention.stamping s
  set most = nullif(v_fits, 1000)
  where s.most is distinct from nullif(v_fits, 1000);
end
$$;

CREATE FUNCTION retention._note_pace(p_bucket text, p_max_per_second integer, p_results bigint) RETURNS void
    LANGUAGE sql
    AS $$
  update retention.pace p
  set next_at = case
      when p_results < 0 then p.next_at
      else greatest(
        case when p.next_at < clock_timestamp() + interval '2 seconds' then p.next_at end,
        clock_timestamp() - interval '125 milliseconds'
      )
    end + retention._paced_for(p_results, p_max_per_second)
  where p.bucket = p_bucket
$$;

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
    skipped integer DEFAULT 0 NOT NULL,
    skipped_rows text[] DEFAULT '{}'::text[] NOT NULL,
    hit_limit boolean NOT NULL,
    oldest timestamp with time zone,
    surge_id bigint,
    set_aside bigint DEFAULT 0 NOT NULL
);

COMMENT ON TABLE retention.scan IS 'one row for each flagging pass that did something';

COMMENT ON COLUMN retention.scan.without_place IS 'due, but the row names no bucket or an empty key: not work, only counted';

COMMENT ON COLUMN retention.scan.skipped IS 'rows that cannot be flagged: no run id, a name that no store can hold, or an error when they are read';

COMMENT ON COLUMN retention.scan.skipped_rows IS 'the first ten of them, each with its reason';

COMMENT ON COLUMN retention.scan.surge_id IS 'the surge that it found; set_aside: with how many results';

CREATE FUNCTION retention._note_pass(p_pass retention.scan, p_left_alone bigint, p_whole boolean, p_began_at timestamp with time zone, p_says_all boolean) RETURNS void
    LANGUAGE plpgsql
    SET lock_timeout TO '60s'
    AS $$
begin
  update retention.heartbeat
  set passed_at = clock_timestamp(),
    more = p_pass.hit_limit,
    swept_at = case when p_whole then clock_timestamp() else swept_at end,
    walk_began_at = case when p_pass.hit_limit then p_began_at end,
    seen_at = case when p_pass.hit_limit then seen_at else coalesce(p_began_at, seen_at) end,
    pass_problem = null,
    left_alone = p_left_alone + case when p_whole then 0 else left_alone end;
  if p_pass.flagged > 0 or p_pass.surge_id is not null or p_says_all and p_pass.without_place + p_pass.skipped > 0 then
    insert into retention.scan (
      started_at, ms, asked_by, looked_at, flagged, batches, without_place, without_place_run_ids,
      skipped, skipped_rows, hit_limit, oldest, surge_id, set_aside
    )
    values (
      p_pass.started_at,
      extract(epoch from clock_timestamp() - p_pass.started_at) * 1000,
      p_pass.asked_by,
      p_pass.looked_at,
      p_pass.flagged,
      p_pass.batches,
      p_pass.without_place,
      p_pass.without_place_run_ids,
      p_pass.skipped,
      p_pass.skipped_rows,
      p_pass.hit_limit,
      p_pass.oldest,
      p_pass.surge_id,
      p_pass.set_aside
    );
  end if;
end
$$;

CREATE FUNCTION retention._note_person(p_name text) RETURNS void
    LANGUAGE sql
    AS $$
  insert into retention.variable (name, set_at, set_by)
  values (p_name, clock_timestamp(), session_user)
  on conflict (name) do update
  set set_at = excluded.set_at,
    set_by = excluded.set_by
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
    bool_and(f.outcome <> 'refused') as is_fault,
    bool_and(f.concerns = 'bucket') as concerns_bucket
  into strict v_refusal
  from jsonb_to_recordset(p_failed) as f (code text, reason text, outcome text, concerns text, final boolean);
  if v_refusal.is_fault and p_batch.stuck_since is null then
    perform retention._pause_bucket(p_batch.bucket, v_refusal.code, v_refusal.reason);
    return;
  end if;
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

CREATE FUNCTION retention._note_session() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if new.set_at is distinct from old.set_at then
    new.set_session := case when new.set_at is not null then session_user end;
  end if;
  if new.missing_confirmed_at is distinct from old.missing_confirmed_at then
    new.missing_confirmed_session := case when new.missing_confirmed_at is not null then session_user end;
  end if;
  return new;
end
$$;

CREATE FUNCTION retention._note_setting() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if tg_table_name = 'policy' then
    perform retention._note_person('retain');
  else
    perform retention._note_person(n.key)
    from jsonb_each(to_jsonb(new)) n
    where n.key in ('enabled', 'loop_interval', 'batch_size', 'default_bucket')
      and n.value is distinct from to_jsonb(old) -> n.key;
  end if;
  return null;
end
$$;

CREATE FUNCTION retention._note_shared_objects(p_batch retention.batch, p_spared bigint[]) RETURNS void
    LANGUAGE sql
    AS $$
  insert into retention.shared_object (bucket, key, until, run_id)
  select p_batch.bucket, k.key, n.until, n.run_id
  from (
    select distinct e.key collate "C" as key
    from retention._results(p_batch) e
    where e.n in (select unnest(p_spared))
  ) k
  cross join lateral retention._needed(p_batch.bucket, k.key) n
  where n.until is not null
  on conflict (bucket, key) do update
  set until = excluded.until,
    run_id = excluded.run_id,
    noted_at = now()
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

CREATE FUNCTION retention._object_condition(p_bucket text, p_key text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
begin
  -- In PL/pgSQL, which keeps the plan: it is asked for each result that was spared.
  return (
    select retention._condition((array_agg(r.etag::text order by r.completed_at desc nulls last, r.etag))[1])
    from retention._live r
    where r.key_hash = retention._key_hash(p_key)
      and r.key = p_key collate "C"
      and r.bucket = p_bucket
      and r.etag is not null
  );
end
$$;

CREATE TABLE retention.approval (
    approval_id bigint NOT NULL,
    kind text NOT NULL,
    what jsonb NOT NULL,
    results bigint,
    asked_by text DEFAULT SESSION_USER NOT NULL,
    asked_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    approved_by text,
    approved_at timestamp with time zone,
    used_at timestamp with time zone,
    used_in xid8,
    withdrawn_at timestamp with time zone,
    withdrawn_by text,
    CONSTRAINT a_withdrawal_says_by_whom CHECK (((withdrawn_at IS NULL) = (withdrawn_by IS NULL))),
    CONSTRAINT an_approval_says_by_whom CHECK (((approved_at IS NULL) = (approved_by IS NULL))),
    CONSTRAINT approval_kind_is_known CHECK ((kind = ANY (ARRAY['policy'::text, 'early'::text, 'surge'::text, 'hold'::text, 'orphans'::text, 'purge'::text, 'setting'::text, 'fence'::text, 'keeper'::text]))),
    CONSTRAINT nobody_approves_their_own_request CHECK ((approved_by <> asked_by)),
    CONSTRAINT only_what_was_approved_is_used CHECK (((used_at IS NULL) OR (approved_at IS NOT NULL))),
    CONSTRAINT what_is_asked_is_an_object CHECK ((jsonb_typeof(what) = 'object'::text))
);

COMMENT ON TABLE retention.approval IS 'where setting.four_eyes asks for two people: what one has asked for, and another has approved';

COMMENT ON COLUMN retention.approval.what IS 'exactly what is asked: another number or another name is another act';

COMMENT ON COLUMN retention.approval.results IS 'of a policy: how many live results it would have made due when it was asked for';

COMMENT ON COLUMN retention.approval.asked_by IS 'the session''s user, whatever role it has set; so is approved_by';

COMMENT ON COLUMN retention.approval.used_at IS 'when it was done; an approval serves once';

CREATE FUNCTION retention._open_approval(p_approval_id bigint) RETURNS retention.approval
    LANGUAGE plpgsql
    AS $$
declare
  v_approval retention.approval;
begin
  select * into v_approval from retention.approval a where a.approval_id = p_approval_id for update;
  if not found then
    raise exception using
      errcode = 'no_data_found',
      message = format('there is no request %s', coalesce(p_approval_id::text, 'null')),
      hint = 'See them with: retention approval list';
  end if;
  if num_nonnulls(v_approval.used_at, v_approval.withdrawn_at) > 0
    or v_approval.asked_at < clock_timestamp() - interval '24 hours'
  then
    raise exception using
      errcode = 'check_violation',
      message = case
        when v_approval.used_at is not null
        then format('request %s was used at %s', p_approval_id, retention._iso(v_approval.used_at))
        when v_approval.withdrawn_at is not null
        then format('request %s was withdrawn by %s', p_approval_id, v_approval.withdrawn_by)
        else format('request %s is older than 24 hours', p_approval_id)
      end,
      hint = 'Ask for it again.';
  end if;
  return v_approval;
end
$$;

CREATE FUNCTION retention._open_surge(p_found bigint, p_tenants bigint, p_rule text, p_found_by text) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
declare
  v_surge_id bigint;
begin
  insert into retention.surge (found_by, seen_at, found, tenants, rule)
  select coalesce(p_found_by, session_user), h.seen_at, p_found, p_tenants, p_rule
  from retention.heartbeat h
  returning surge_id into v_surge_id;
  perform retention._tell('surge', row_to_json(p))
  from (
    select 'surge' as kind,
      v_surge_id as surge_id,
      p_found as results,
      p_tenants as tenants,
      retention._iso(now()) as at
  ) p;
  return v_surge_id;
end
$$;

CREATE FUNCTION retention._orphan_reasons(p_bucket text, p_keys text[]) RETURNS TABLE(key text, reason text)
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
begin
  return query
  with asked as materialized (
    select retention._unpack_key(e.key, e.run_id::text) collate "C" as key
    from (
      select b.run_ids, b.keys
      from retention.batch b
      where b.bucket = p_bucket
        and b.lease is not null
      union all
      select b.run_ids, b.keys
      from retention.batch b
      where b.bucket = p_bucket
        and b.deleted_at is not null
        and b.settled_at is null
      union all
      -- Of orphans themselves there may be an earlier request: to ask again is safe.
      select u.run_ids, u.keys
      from retention.unanswered u
      where u.bucket = p_bucket
        and u.run_ids is not null
        and u.until > clock_timestamp()
    ) a
    cross join unnest(a.run_ids, a.keys) as e (run_id, key)
  ),
  kept as materialized (
    select x.key collate "C" as key
    from retention._kept(p_bucket, p_keys) x
  )
  select k.key,
    case
      when starts_with(k.key, '.retention/') then 'reserved'
      when exists (
        select
        from retention._live r
        where r.key_hash = retention._key_hash(k.key)
          and r.key = k.key collate "C"
          and coalesce(r.bucket, p_bucket) = p_bucket
      )
      then 'has_run'
      when (select exists (select from retention.held_object)) and retention._is_held_object(p_bucket, k.key) then 'held'
      when k.key collate "C" in (select x.key from kept x) then 'kept'
      when k.key collate "C" in (select a.key from asked a) then 'in_flight'
    end
  from unnest(p_keys) with ordinality as k (key, n)
  order by k.n;
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

CREATE FUNCTION retention._outgrown(p_table oid, OUT reason text, OUT remedy text) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_parent regclass := (select i.inhparent from pg_inherits i where i.inhrelid = p_table limit 1);
begin
  if v_parent is not null then
    reason := format('%s is a part of %s by now, and runs of its other parts may point at the same objects', p_table::regclass, v_parent);
    remedy := format('select retention.detach(); then: retention migrate up, with RETENTION_TABLE=%s', v_parent);
  elsif exists (
    select
    from pg_inherits i
    join pg_class c on c.oid = i.inhparent and c.relkind = 'r'
    where i.inhparent = p_table
  )
  -- A hypertable has heirs too, and says more of itself.
  and (select u.reason from retention._unsupported(p_table) u) is null
  then
    reason := format('tables inherit from %s by now, and no index can hold their rows together', p_table::regclass);
    remedy := 'Make it a partitioned table, or take the children out of it: alter table ... no inherit ...';
  else
    select u.reason, u.remedy into reason, remedy from retention._unsupported(p_table) u;
  end if;
end
$$;

CREATE FUNCTION retention._paced_for(p_results bigint, p_max_per_second integer) RETURNS interval
    LANGUAGE sql IMMUTABLE
    AS $$
  select make_interval(secs => p_results / (0.975 * p_max_per_second)::double precision)
$$;

CREATE FUNCTION retention._paced_keys(p_max_per_second integer) RETURNS integer
    LANGUAGE sql IMMUTABLE
    AS $$
  select case when p_max_per_second is not null then greatest(p_max_per_second / 8, 1) end
$$;

CREATE FUNCTION retention._paced_until(p_bucket text) RETURNS timestamp with time zone
    LANGUAGE sql
    AS $$
  select p.next_at
  from retention.pace p
  where p.bucket = p_bucket
    and p.next_at > clock_timestamp()
    and p.next_at < clock_timestamp() + interval '2 seconds'
$$;

CREATE FUNCTION retention._pack_key(p_key text, p_run_id text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN ((strpos(p_key, ''::text) > 0) OR starts_with(p_key, ''::text) OR starts_with(p_key, ''::text)) THEN (''::text || p_key) ELSE replace(p_key, p_run_id, ''::text) END;

CREATE FUNCTION retention._page_end(p_after bigint, p_results bigint) RETURNS bigint
    LANGUAGE sql STABLE
    AS $$
  select coalesce(max(w.seal_id) filter (where w.before < greatest(p_results, 1)), p_after)
  from (
    select s.seal_id,
      -- Each seal has a cost of its own.
      sum(s.cost) over (order by s.seal_id rows unbounded preceding) - s.cost as before
    from (
      select n.seal_id, n.results + 50 as cost
      from retention.seal n
      where n.seal_id > p_after
      order by n.seal_id
      limit 500
    ) s
  ) w
$$;

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
$_$;

CREATE TABLE retention.surge_part (
    part_id bigint NOT NULL,
    surge_id bigint,
    bucket text NOT NULL,
    results integer NOT NULL,
    oldest timestamp with time zone NOT NULL,
    newest timestamp with time zone NOT NULL,
    due_since timestamp with time zone,
    parked_at timestamp with time zone DEFAULT now() NOT NULL,
    looked_at timestamp with time zone DEFAULT now() NOT NULL,
    run_ids retention.run_id[] NOT NULL,
    keys text[] NOT NULL COLLATE pg_catalog."C",
    tenants text[] NOT NULL,
    CONSTRAINT a_part_has_1_to_1000_results CHECK (((results >= 1) AND (results <= 1000)))
);
ALTER TABLE ONLY retention.surge_part ALTER COLUMN run_ids SET STORAGE EXTERNAL;

COMMENT ON TABLE retention.surge_part IS 'late results that are set aside, packed as in a batch; no work until released';

COMMENT ON COLUMN retention.surge_part.surge_id IS 'null: late results of a walk that is not complete; they are judged when it is';

COMMENT ON COLUMN retention.surge_part.looked_at IS 'when its results were last looked at again: what is no longer due leaves it';

CREATE FUNCTION retention._part_of(p_run_id retention.run_id) RETURNS SETOF retention.surge_part
    LANGUAGE sql STABLE ROWS 1
    AS $$
  select p.*
  from retention.surge_part p
  where p_run_id = any (p.run_ids)
  order by p.part_id
  limit 1
$$;

CREATE UNLOGGED TABLE retention.verify_run (
    verify_id uuid NOT NULL,
    kind text NOT NULL,
    bucket text NOT NULL,
    prefixes text[] NOT NULL COLLATE pg_catalog."C",
    holder uuid NOT NULL,
    began_at timestamp with time zone DEFAULT now() NOT NULL,
    worked_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    is_unsorted boolean DEFAULT false NOT NULL,
    CONSTRAINT kind_is_known CHECK ((kind = ANY (ARRAY['repair'::text, 'dry run'::text, 'orphans'::text, 'list'::text, 'inventory'::text, 'standing'::text])))
);

COMMENT ON TABLE retention.verify_run IS 'one row for each bucket that a verify is at; empty between runs, but for what was broken off';

COMMENT ON COLUMN retention.verify_run.holder IS 'who works on it: a verify that is started again takes it over, and the one before stops';

COMMENT ON COLUMN retention.verify_run.is_unsorted IS 'its store lists out of order: what it lists is sorted in retention.verify_listed';

CREATE FUNCTION retention._part_verify(p_run retention.verify_run, p_parts integer) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_splits text[] := '{}';
begin
  if p_run.prefixes = '{}' and not p_run.is_unsorted then
    v_splits := retention._verify_splits(p_parts);
  end if;
  insert into retention.verify_part (verify_id, part, prefix, after_key, until_key)
  select p_run.verify_id, p.part, p.prefix, p.after_key, p.until_key
  from (
    select g as part, '' as prefix, v_splits[g - 1] as after_key, v_splits[g] as until_key
    from generate_series(1, cardinality(v_splits) + 1) g
    where p_run.prefixes = '{}'
    union all
    select u.n, u.prefix, null, null
    from unnest(p_run.prefixes) with ordinality as u (prefix, n)
  ) p;
end
$$;

CREATE FUNCTION retention._pass_by(p_tenant_key text) RETURNS text
    LANGUAGE plpgsql
    AS $$
declare
  v_tenant record;
  v_next record;
begin
  select t.tenant_id, g.completed_at, g.run_id, now() - retention._in_seconds(t.retain) as before
  into v_tenant
  from retention._tenants() t
  left join retention.progress g on g.tenant_key = t.tenant_key
  where t.tenant_key = p_tenant_key;
  select r.*
  into v_next
  from retention._row_after(v_tenant.tenant_id, v_tenant.completed_at, v_tenant.run_id, v_tenant.before) r;
  if not found then
    return null;
  end if;
  insert into retention.progress (tenant_key, completed_at, run_id)
  values (p_tenant_key, v_next.completed_at, v_next.run_id)
  on conflict (tenant_key) do update
  set completed_at = excluded.completed_at,
    run_id = excluded.run_id;
  return coalesce(v_next.run_id::text, '(no run id)');
end
$$;

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
      and (r.completed_at, r.run_id) > (coalesce(p_after_completed_at, '-infinity'), p_after_run_id)
    order by r.tenant_id, r.completed_at, r.run_id
    limit p_limit
  )
$$;

CREATE FUNCTION retention._past_at(p_run_id retention.run_id, p_completed_at timestamp with time zone, p_is_there boolean, p_batch_id bigint, p_at timestamp with time zone, OUT batch_id bigint, OUT flagged_at timestamp with time zone, OUT left_at timestamp with time zone, OUT state text, OUT because text) RETURNS record
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
begin
  select p.batch_id, p.since, p.until
  into batch_id, flagged_at, left_at
  from retention.past_work p
  where p.run_ids is not null
    and p.state = 'flagged'
    and (not p_is_there or tstzrange(p.oldest, p.newest, '[]') @> p_completed_at)
    and p.since <= p_at
    and p.until > p_at
    and p_run_id = any (p.run_ids)
  order by p.since desc, p.batch_id
  limit 1;
  select p.state,
    case p.state
      when 'in flight'
      then format('%s worked on it from %s to %s, in batch %s', p.because, retention._iso(p.since), retention._iso(p.until), p.batch_id)
      when 'dead'
      then format('it had failed for good at %s: %s', retention._iso(p.since), p.because)
      else format('it had failed at %s: %s', retention._iso(p.since), p.because)
    end
  into state, because
  from retention.past_work p
  where p.batch_id in (_past_at.batch_id, p_batch_id)
    and p.state in ('in flight', 'dead', 'failed')
    and p.since <= p_at
    and p.until > p_at
  order by array_position('{in flight, dead, failed}'::text[], p.state), p.since desc
  limit 1;
end
$$;

CREATE FUNCTION retention._past_each(p_tenant_ids retention.tenant_id[], p_after_completed_at timestamp with time zone[], p_after_run_ids retention.run_id[], p_befores timestamp with time zone[], p_limit bigint) RETURNS TABLE(place bigint, run_id retention.run_id, bucket text, key text, completed_at timestamp with time zone, due_at timestamp with time zone, is_due boolean, has_place boolean)
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
  select s.place, r.run_id::retention.run_id, r.bucket::text, r.key::text, r.completed_at, r.due_at, r.is_due, r.has_place
  from unnest(p_tenant_ids, p_after_completed_at, p_after_run_ids, p_befores) with ordinality
    as s (tenant_id, after_completed_at, after_run_id, before, place)
  cross join lateral (
    select l.run_id, l.bucket, l.key, l.completed_at, l.due_at, l.is_due, l.has_place
    from retention._live l
    where l.tenant_id = s.tenant_id
      and l.is_candidate
      and l.completed_at < s.before
      and (l.completed_at, l.run_id) > (coalesce(s.after_completed_at, '-infinity'), s.after_run_id)
    order by l.tenant_id, l.completed_at, l.run_id
    limit p_limit
  ) r;
  if array_position(p_tenant_ids, null) is null then
    return;
  end if;
  return query
  select s.place, r.run_id, r.bucket, r.key, r.completed_at, r.due_at, r.is_due, r.has_place
  from unnest(p_tenant_ids, p_after_completed_at, p_after_run_ids, p_befores) with ordinality
    as s (tenant_id, after_completed_at, after_run_id, before, place)
  cross join lateral retention._past(null, s.after_completed_at, s.after_run_id, s.before, p_limit) r
  where s.tenant_id is null;
end
$$;

CREATE FUNCTION retention._past_policy(p_tenant_id text, p_older_than interval, p_early boolean, p_limit bigint) RETURNS TABLE(result retention.selection, is_due boolean)
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
declare
  v_tenant_id retention.tenant_id := p_tenant_id;
begin
  return query
  -- As _tenant_ids, which would walk over all of them first.
  with recursive name(tenant_id) as (
    (
      select r.tenant_id
      from retention._live r
      where r.is_candidate
        and r.tenant_id is not null
        and p_tenant_id is null
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
  )
  select row(s.run_id, s.tenant_id, s.bucket, s.key, s.completed_at, s.due_at)::retention.selection,
    s.has_place
      and not s.held
      and (s.is_due or p_early and s.due_at is not null and coalesce(s.retain_until, '-infinity') < now())
      and s.run_id is not null
  from (
    select n.tenant_id::retention.tenant_id as tenant_id
    from name n
    where n.tenant_id is not null
    union all
    select v_tenant_id
  ) t
  cross join lateral (
    select retention._in_seconds(
      coalesce(
        (select p.retain from retention.policy p where p.tenant_id = t.tenant_id::text and p.tenant_id <> '*'),
        (select d.retain from retention.policy d where d.tenant_id = '*')
      )
    ) as retain
  ) p
  cross join lateral retention._past(
    t.tenant_id, null, null,
    now() - case when p_early then p_older_than else greatest(p.retain, p_older_than) end,
    null
  ) s
  where not exists (
    select
    from retention.hold h
    where h.tenant_id = t.tenant_id::text
      and retention._hold_end(h.released_at, h.expires_at) > now()
  )
  limit p_limit;
end
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

CREATE FUNCTION retention._pause_standing(p_verify_id uuid) RETURNS void
    LANGUAGE sql
    AS $$
  update retention.standing_verify s
  set next_at = clock_timestamp() + case
      when exists (select from retention.verify_part p where p.verify_id = p_verify_id and p.is_listed)
        and not exists (select from retention.verify_stretch t where t.verify_id = p_verify_id)
        then interval '0'
      else retention._standing_pause(s)
    end,
    code = null,
    problem = null,
    problem_at = null
  where s.verify_id = p_verify_id
$$;

CREATE FUNCTION retention._place_in_line(p_run_id text) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (((hashtextextended(p_run_id, (0)::bigint) & (65535)::bigint))::double precision / (65536)::double precision);

CREATE FUNCTION retention._policies_of(p_tenants text[], p_cutoff interval) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET "IntervalStyle" TO 'postgres'
    AS $$
begin
  if p_cutoff is not null then
    return jsonb_build_object('*', retention._in_days(p_cutoff)::text);
  end if;
  if not exists (select from retention.policy p where p.tenant_id <> '*') then
    return (select jsonb_build_object('*', retention._in_days(p.retain)::text) from retention.policy p);
  end if;
  return (
    select jsonb_object_agg(p.tenant_id, retention._in_days(p.retain)::text)
    from (select distinct u.tenant_id from unnest(p_tenants || '*'::text) as u (tenant_id)) t
    join retention.policy p on p.tenant_id = t.tenant_id
  );
end
$$;

CREATE FUNCTION retention._policies_pending() RETURNS TABLE(policies_pending bigint, policy_pending text)
    LANGUAGE sql STABLE
    AS $$
  select count(*) as policies_pending,
    string_agg(
      format(
        'tenant %s: %s instead of %s would make %s due at once',
        p.tenant_id, p.pending_retain, p.retain, retention._counted(p.pending_results, 'result')
      ),
      '; '
    ) as policy_pending
  from retention.policy p
  where p.pending_retain is not null
$$;

CREATE FUNCTION retention._policy_act(p_tenant_id text, p_retain interval) RETURNS jsonb
    LANGUAGE sql IMMUTABLE
    AS $$
  select jsonb_build_object('tenant_id', p_tenant_id, 'retain_days', trim_scale(extract(epoch from p_retain) / 86400))
$$;

CREATE FUNCTION retention._policy_at(p_tenant_id text, p_at timestamp with time zone, OUT retain interval, OUT policy text, OUT set_by text, OUT set_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_name text := case when p_tenant_id <> '*' then p_tenant_id end;
  v_row jsonb := case when v_name is not null then retention._row_at('policy', v_name, p_at) end;
begin
  policy := 'the policy of tenant ' || v_name;
  if v_row is null then
    v_name := '*';
    v_row := retention._row_at('policy', v_name, p_at);
    policy := 'the default policy';
  end if;
  retain := (v_row ->> 'retain')::interval;
  select c.at, retention._who(c.session_name, c.role_name, c.application)
  into set_at, set_by
  from retention.change c
  where c.subject = 'policy'
    and c.name = v_name
    and c.at <= p_at
    and c.after ->> 'retain' is distinct from c.before ->> 'retain'
  order by c.change_id desc
  limit 1;
  set_at := coalesce(set_at, (v_row ->> 'set_at')::timestamptz);
  set_by := coalesce(set_by, v_row ->> 'set_by');
end
$$;

CREATE FUNCTION retention._policy_name(p_tenant_id text) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN CASE p_tenant_id WHEN '*'::text THEN 'default policy'::text ELSE ('policy of '::text || p_tenant_id) END;

CREATE FUNCTION retention._policy_tenant(p_tenant_id text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  -- Also a tenant that was one before the column got another type.
  if exists (select from retention.policy p where p.tenant_id = p_tenant_id) then
    return p_tenant_id;
  end if;
  return retention._read_tenant_id(p_tenant_id)::text;
end
$$;

CREATE FUNCTION retention._policy_words(p_before jsonb, p_after jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
  select case
    when p_before is null
    then retention._policy_name(p_after ->> 'tenant_id') || ': ' || (p_after ->> 'retain')
    when p_after is null
    then retention._policy_name(p_before ->> 'tenant_id') || ': ' || (p_before ->> 'retain') || ', removed'
    when p_before ->> 'retain' <> p_after ->> 'retain'
    then format('%s: %s -> %s', retention._policy_name(p_after ->> 'tenant_id'), p_before ->> 'retain', p_after ->> 'retain')
      || case
        when p_after ->> 'confirmed_at' is distinct from p_before ->> 'confirmed_at'
        then format(', asked for by %s and confirmed by %s with %s due at once',
          p_before ->> 'pending_by', p_after ->> 'confirmed_by',
          retention._counted((p_after ->> 'confirmed_results')::bigint, 'result'))
        else ''
      end
    when p_after ->> 'pending_retain' is not null
    then format('%s: stays %s; %s would make %s due at once, and waits for a confirmation',
      retention._policy_name(p_after ->> 'tenant_id'), p_after ->> 'retain', p_after ->> 'pending_retain',
      retention._counted((p_after ->> 'pending_results')::bigint, 'result'))
    when p_before ->> 'pending_retain' is not null
    then format('%s: stays %s; %s, which waited for a confirmation, is withdrawn',
      retention._policy_name(p_after ->> 'tenant_id'), p_after ->> 'retain', p_before ->> 'pending_retain')
    else retention._policy_name(p_after ->> 'tenant_id') || ': ' || retention._differences(p_before, p_after)
  end
  || case
    when p_before is null and p_after ->> 'pending_retain' is not null
    then format('; %s would make %s due at once, and waits for a confirmation',
      p_after ->> 'pending_retain', retention._counted((p_after ->> 'pending_results')::bigint, 'result'))
    else ''
  end
$$;

CREATE FUNCTION retention._population(p_tenant_id text, p_from timestamp with time zone, p_to timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE
    SET "TimeZone" TO 'UTC'
    SET "DateStyle" TO 'ISO, YMD'
    SET "IntervalStyle" TO 'postgres'
    AS $_$
  select format(
    $query$select r.run_id, r.completed_at, r.bucket, r.key, r.cleared_at,
  greatest(r.completed_at + %1$s, r.retain_until) as due_at
from retention.result r
where %2$s
  and r.status = %3$L
  and (r.key is not null or r.cleared_at is not null)
  and r.completed_at > '-infinity'
  and r.completed_at < timestamptz %5$L - %1$s
  and (r.retain_until is null or r.retain_until < timestamptz %5$L)
  and (r.completed_at >= timestamptz %4$L - %1$s or r.retain_until >= timestamptz %4$L)$query$,
    coalesce(
      'interval ''' || trim_scale(extract(epoch from retention._retain_of(p_tenant_id))) || ' seconds''',
      -- Without a policy for everybody nothing falls due.
      'null::interval'
    ),
    case when p_tenant_id is null then 'r.tenant_id is null' else format('r.tenant_id = %L', p_tenant_id) end,
    coalesce(a.columns -> 'status' ->> 'completed', 'COMPLETED'),
    p_from,
    p_to
  )
  from retention.adapter a
$_$;

CREATE FUNCTION retention._possible_key(p_column text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $_$
  select format('(case when octet_length(%1$s::text) <= 1024 then %1$s::text end collate "C")', p_column)
$_$;

CREATE FUNCTION retention._prepare_allowances(p_whole boolean) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
  if exists (select from retention.hold h where h.tenant_id is not null) then
    perform retention._grant_ended_holds();
  end if;
  if p_whole then
    update retention.allowance a
    set walk_at = now()
    where a.dropped_at is null
      and a.walk_at is null;
  end if;
end
$$;

CREATE FUNCTION retention._preview_at_once(p_tenant_id text, p_retain interval) RETURNS TABLE(tenant_id text, results bigint)
    LANGUAGE plpgsql STABLE
    SET enable_nestloop TO 'off'
    SET enable_sort TO 'off'
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $_$
begin
  return query execute
    'select r.tenant_id::text, count(*)
    from retention._live r
    where r.is_candidate
      and r.completed_at < $1
      and r.completed_at > $2
      and $3 < r.retain
      and r.completed_at > now() - retention._in_seconds(r.retain)
      and coalesce(r.retain_until, ''-infinity'') < now()'
    || case
      when p_tenant_id = '*'
      then ' and $4 is null
        and not exists (select from retention.policy p where p.tenant_id = r.tenant_id::text and p.tenant_id <> ''*'')'
      else ' and r.tenant_id = $4'
    end
    || case when retention._may_hold() then ' and not r.held' else '' end
    || case
      when exists (select from retention.batch b where b.settled_at is null and b.early is not null)
      then ' and not exists (
        select
        from retention.batch b
        cross join unnest(b.run_ids) as u (run_id)
        where b.settled_at is null
          and b.early is not null
          and u.run_id = r.run_id
      )'
      else ''
    end
    || ' group by r.tenant_id::text'
  using now() - retention._in_seconds(p_retain),
    now() - (select max(retention._in_seconds(p.retain)) from retention.policy p),
    p_retain,
    case when p_tenant_id <> '*' then p_tenant_id end::retention.tenant_id;
end
$_$;

CREATE FUNCTION retention._preview_by_tenant(p_tenant_id text, p_retain interval) RETURNS TABLE(tenant_id text, results bigint)
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
      -- Not yet due, and flagged nevertheless: only with a cutoff that a person confirmed.
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

CREATE FUNCTION retention._propose(p_table text, p_columns text) RETURNS TABLE(view_column text, target jsonb, pair text, type text, is_given boolean, others text[], problem text, note text, samples text[])
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_table regclass := retention._find_table(p_table);
  v_usual jsonb := retention._parse_columns('');
  v_given jsonb := retention._parse_columns(p_columns);
  v_all jsonb := (
    select jsonb_object_agg(l.view_column, l.looks)
    from (select c.view_column, jsonb_agg(c) as looks from retention._columns_like(v_table) c group by 1) l
  );
  v_like record;
  v_word record;
  v_found text;
begin
  foreach view_column in array '{run_id, tenant_id, status, completed_at, retain_until, bucket, key, etag, cleared_at, updated_at}'::text[] loop
    is_given := coalesce(p_columns, '') ~* format('(^|,)\s*%s\s*=', view_column);
    problem := null;
    note := null;
    select array_agg(l.name) filter (where l.fault is null and l.place = l.least) as best,
      array_agg(l.name) filter (where l.fault is null) as all_names,
      (array_agg(l.name) filter (where l.fault is null and l.place = 1))[1] as usual,
      string_agg(l.fault, '; ') filter (where l.fault is not null and (l.place < 4 or view_column <> 'run_id')) as faults,
      coalesce(bool_or(l.name in ('retain_until', 'result_etag')), false) as is_automatic
    into v_like
    from (
      select r.name, r.place, r.fault, min(r.place) filter (where r.fault is null) over () as least
      from jsonb_to_recordset(v_all -> view_column) as r (name text, place integer, fault text)
    ) l;
    v_found := coalesce(v_like.usual, case when cardinality(v_like.best) = 1 then v_like.best[1] end);
    if is_given then
      target := nullif(v_given -> view_column, 'null');
    elsif v_found is not null then
      target := jsonb_build_object('name', v_found);
    else
      target := null;
      if cardinality(v_like.best) > 1 and view_column not in ('updated_at', 'etag') then
        problem := format('several columns look right: %s', (select string_agg(quote_ident(b), ', ') from unnest(v_like.best) b));
      elsif view_column in ('run_id', 'completed_at', 'key') then
        problem := coalesce('no column fits; ' || v_like.faults, 'no column looks right');
      elsif view_column = 'cleared_at' then
        target := v_usual -> view_column;
        note := 'will be added';
      else
        note := case view_column
          when 'tenant_id' then 'none: the default policy holds for every run'
          when 'status' then 'none: every run with a time of completion and a key counts as completed'
          when 'bucket' then 'none: every result lies in the default bucket, the only one of S3_RESULT_BUCKET'
          else 'none'
        end || coalesce('; ' || v_like.faults, '');
      end if;
    end if;
    if view_column = 'status' and target ? 'name' and not is_given then
      select * into v_word from retention._completed_word(v_table, target ->> 'name');
      target := target || jsonb_build_object('completed', coalesce(v_word.word, 'COMPLETED'));
      problem := case when v_word.word is null then v_word.why end;
      note := v_word.why;
    end if;
    others := array(select o from unnest(v_like.all_names) o where o is distinct from target ->> 'name');
    type := (select c.type from retention._column_type(v_table, target ->> 'name') c);
    samples := case when type is not null then retention._samples(v_table, target ->> 'name') end;
    pair := case
      when problem is not null and not is_given then null
      -- These two count without being named, where the table has them; here they have been left out.
      when target is null and view_column in ('retain_until', 'etag')
        then case when is_given or v_like.is_automatic then '' end
      when target is not distinct from nullif(v_usual -> view_column, 'null') then null
      when view_column in ('retain_until', 'etag') and target ->> 'name' in ('retain_until', 'result_etag') then null
      else retention._write_target(view_column, target)
    end;
    return next;
  end loop;
end
$$;

CREATE FUNCTION retention._prune_receipts() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_seals bigint[] := array(
    select w.seal_id
    from (
      select o.seal_id,
        sum(cardinality(o.batches) + cardinality(o.receipts)) over (order by o.seal_id rows unbounded preceding) as receipts
      from (
        select s.seal_id, s.batches, s.receipts
        from retention.seal s
        where s.pruned_at is null
          and s.sealed_at < now() - (select t.receipts_kept from retention.setting t)
        order by s.sealed_at
        limit 1000
      ) o
    ) w
    where w.receipts <= 20000
  );
begin
  update retention.seal s set pruned_at = clock_timestamp() where s.seal_id = any (v_seals);
  delete from retention.batch b
  where b.seal_id = any (v_seals)
    and b.settled_at is not null
    and b.cleared > 0;
  delete from retention.receipt r where r.seal_id = any (v_seals);
end
$$;

CREATE FUNCTION retention._put_to_work(p_surge_id bigint, p_but text[], p_late_since timestamp with time zone, OUT flagged bigint, OUT batches bigint, OUT oldest timestamp with time zone) RETURNS record
    LANGUAGE plpgsql
    SET work_mem TO '128MB'
    AS $$
declare
  -- What was set aside goes since a person has released it.
  v_asked_by text := case when p_surge_id is not null then session_user end;
begin
  insert into retention.bucket (bucket)
  select distinct p.bucket
  from retention.surge_part p
  where p.surge_id is not distinct from p_surge_id
  on conflict do nothing;
  if p_but = '{}' then
    -- Packed as they are.
    with moved as (
      insert into retention.batch (bucket, results, oldest, newest, due_since, late_since, asked_by, run_ids, keys, tenants)
      select p.bucket, p.results, p.oldest, p.newest, p.due_since, p_late_since, v_asked_by, p.run_ids, p.keys, p.tenants
      from retention.surge_part p
      where p.surge_id is not distinct from p_surge_id
      order by p.oldest, p.part_id
      returning batch.results, batch.oldest
    )
    select coalesce(sum(m.results), 0), count(*), min(m.oldest) into flagged, batches, oldest from moved m;
    delete from retention.surge_part p where p.surge_id is not distinct from p_surge_id;
    return;
  end if;
  with moved as (
    insert into retention.batch (bucket, results, oldest, newest, due_since, late_since, asked_by, run_ids, keys, tenants)
    select n.bucket, count(*), min(n.oldest), max(n.newest), min(n.due_since), p_late_since, v_asked_by,
      array_agg(n.run_id order by n.place), array_agg(n.key order by n.place), array_agg(n.tenant_id order by n.place)
    from (
      select p.bucket, p.oldest, p.newest, p.due_since, u.run_id, u.key, u.tenant_id,
        row_number() over (partition by p.bucket order by p.oldest, p.part_id, u.n) as place
      from retention.surge_part p
      cross join lateral unnest(p.run_ids, p.keys, p.tenants) with ordinality as u (run_id, key, tenant_id, n)
      where p.surge_id is not distinct from p_surge_id
        and retention._tenant_key(u.tenant_id) not in (select unnest(p_but))
    ) n
    group by n.bucket, (n.place - 1) / (select s.batch_size from retention.setting s)
    order by min(n.oldest)
    returning batch.results, batch.oldest
  )
  select coalesce(sum(m.results), 0), count(*), min(m.oldest) into flagged, batches, oldest from moved m;
  if flagged = 0 then
    return;
  end if;
  delete from retention.surge_part p
  where p.surge_id is not distinct from p_surge_id
    and not exists (
      select
      from unnest(p.tenants) as u (tenant_id)
      where retention._tenant_key(u.tenant_id) in (select unnest(p_but))
    );
  update retention.surge_part p
  set results = k.results,
    run_ids = k.run_ids,
    keys = k.keys,
    tenants = k.tenants
  from (
    select x.part_id,
      count(*) as results,
      array_agg(u.run_id order by u.n) as run_ids,
      array_agg(u.key order by u.n) as keys,
      array_agg(u.tenant_id order by u.n) as tenants
    from retention.surge_part x
    cross join lateral unnest(x.run_ids, x.keys, x.tenants) with ordinality as u (run_id, key, tenant_id, n)
    where x.surge_id is not distinct from p_surge_id
      and retention._tenant_key(u.tenant_id) in (select unnest(p_but))
    group by x.part_id
  ) k
  where p.part_id = k.part_id
    and p.results <> k.results;
end
$$;

CREATE FUNCTION retention._read_conditions(p_batch retention.batch) RETURNS text[]
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_conditions text[];
begin
  select case when count(k.condition) > 0 then array_agg(k.condition order by e.n) end
  into v_conditions
  from (
    -- Each object once: thousands of results may share one. The probe as in _object_condition, planned once.
    select d.key, o.condition
    from (select distinct x.key collate "C" as key from retention._results(p_batch) x offset 0) d
    cross join lateral (
      select retention._condition((array_agg(r.etag::text order by r.completed_at desc nulls last, r.etag))[1]) as condition
      from retention._live r
      where r.key_hash = retention._key_hash(d.key)
        and r.key = d.key
        and r.bucket = p_batch.bucket
        and r.etag is not null
    ) o
    offset 0
  ) k
  join retention._results(p_batch) e on e.key collate "C" = k.key;
  return v_conditions;
exception
  when query_canceled then
    raise;
  when others then
    if retention._is_passing(sqlstate) then
      raise;
    end if;
    return retention._read_conditions_carefully(p_batch);
end
$$;

CREATE FUNCTION retention._read_conditions_carefully(p_batch retention.batch) RETURNS text[]
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_conditions text[] := '{}';
  v_condition text;
  v_key text;
begin
  for v_key in
    select e.key from retention._results(p_batch) e order by e.n
  loop
    begin
      v_condition := retention._object_condition(p_batch.bucket, v_key);
    exception
      when query_canceled then
        raise;
      when others then
        if retention._is_passing(sqlstate) then
          raise;
        end if;
        v_condition := '!';
    end;
    v_conditions := v_conditions || v_condition;
  end loop;
  return v_conditions;
end
$$;

CREATE FUNCTION retention._read_older_than(p_older_than interval) RETURNS interval
    LANGUAGE sql IMMUTABLE
    AS $$
  select case when p_older_than is not null then retention._in_seconds(least(p_older_than, '2000000 days')) end
$$;

CREATE FUNCTION retention._read_run_id(p_run_id text) RETURNS retention.run_id
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_run_id retention.run_id;
  v_type record;
begin
  select t.typbasetype as base, format_type(t.typbasetype, t.typtypmod) as name
  into strict v_type
  from pg_type t
  where t.oid = 'retention.run_id'::regtype;
  if btrim(p_run_id, E' \t\r\n') = '' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'expected the id of a run, given: an empty text';
  end if;
  begin
    -- Assigned and not cast: a cast cuts off what is too long.
    v_run_id := p_run_id;
    if retention._is_read_whole(v_type.base, p_run_id, v_run_id::text) is not false then
      return v_run_id;
    end if;
  exception
    when data_exception then
      null;
  end;
  raise exception using
    errcode = 'invalid_parameter_value',
    message = format('%s is not a run id of this application (type %s)', p_run_id, v_type.name);
end
$$;

CREATE FUNCTION retention._read_tenant_id(p_tenant_id text) RETURNS retention.tenant_id
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_tenant_id retention.tenant_id;
  v_type record;
begin
  select t.typbasetype as base, format_type(t.typbasetype, t.typtypmod) as name
  into strict v_type
  from pg_type t
  where t.oid = 'retention.tenant_id'::regtype;
  if btrim(p_tenant_id, E' \t\r\n') = '' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'expected the id of a tenant, given: an empty text';
  end if;
  if octet_length(p_tenant_id) > 1024 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('a tenant id has at most 1,024 bytes, given: %s bytes', octet_length(p_tenant_id));
  end if;
  begin
    v_tenant_id := p_tenant_id;
    if retention._is_read_whole(v_type.base, p_tenant_id, v_tenant_id::text) is not false then
      return v_tenant_id;
    end if;
  exception
    when data_exception then
      null;
  end;
  raise exception using
    errcode = 'invalid_parameter_value',
    message = format('%s is not a tenant id of this application (type %s)', p_tenant_id, v_type.name);
end
$$;

CREATE FUNCTION retention._read_time(p_text text) RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return p_text::timestamptz;
exception
  when others then
    return null;
end
$$;

CREATE FUNCTION retention._readable(p_run_ids retention.run_id[]) RETURNS SETOF retention.run_id
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
begin
  return query
  with going as materialized (
    -- In flight, also after a lease has run out, or deleted and not yet stamped; and what a person asked to go early.
    select unnest(b.run_ids) as run_id
    from retention.batch b
    where b.lease is not null
    union all
    select unnest(b.run_ids)
    from retention.batch b
    where b.deleted_at is not null
      and b.settled_at is null
    union all
    select unnest(u.run_ids)
    from retention.unanswered u
    where u.until > now()
    union all
    select unnest(b.run_ids)
    from retention.batch b
    where (select exists (select from retention.cutoff c where c.until > now()))
      and b.settled_at is null
      and b.early is not null
      and retention._has_command(b.flagged_at)
  )
  select l.run_id::retention.run_id
  from retention._live l
  where l.run_id = any (p_run_ids)
    and l.run_id not in (select g.run_id from going g)
  group by l.run_id
  having not bool_or(l.is_due);
end
$$;

CREATE FUNCTION retention._receipt_digest(p_header text, p_groups bytea) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sha256((sha256(convert_to(p_header, 'UTF8'::name)) || p_groups));

CREATE FUNCTION retention._receipt_header(p_source text, p_id bigint, p_kind text, p_bucket text, p_settled_at timestamp with time zone, p_request_ids text[], p_asked_by text, p_revision bigint, p_session text, p_product text) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select row_to_json(h)::text
  from (
    select p_source || '-' || p_id as receipt,
      p_kind as kind,
      p_bucket as bucket,
      retention._iso_exactly(p_settled_at) as settled_at,
      p_request_ids as request_ids,
      p_asked_by as asked_by,
      p_revision as revision,
      p_session as session,
      p_product as product
  ) h
$$;

CREATE FUNCTION retention._receipt_words(p_receipt text, p_kind text, p_is_gone boolean, p_how text, p_bucket text, p_key text, p_asked_by text, p_retain text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $_$
  select format(
    '%s: object %s in bucket %s %s%s', p_receipt,
    p_key || case when p_key ~ '^sha256:[0-9a-f]{64}$' then ' (the digest of its key, which is not kept)' else '' end, p_bucket,
    case
      when p_kind = 'found_gone' then 'found gone and stamped'
      when p_kind = 'restored' then 'brought back, and no longer stamped as gone'
      when not p_is_gone then 'no longer stamped as gone'
      else case p_how
        when 'gone' then 'already gone'
        when 'marker' then 'deleted with a delete marker'
        when 'purged' then 'deleted with all its versions'
        else 'deleted'
      end || case p_kind
        when 'early' then ', asked for before its time' || coalesce(', after ' || p_retain, '')
        when 'verify' then ', its object had returned'
        when 'after_restore' then ', it was restored and fell due again'
        else ', by its policy' || coalesce(' of ' || p_retain, '')
      end
    end,
    coalesce(', asked for by ' || p_asked_by, '')
  )
$_$;

CREATE FUNCTION retention._recheck_gone(p_bucket text) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_run_ids retention.run_id[];
  v_keys text[];
  v_live integer[];
  v_dropped bigint;
  v_dropped_now bigint;
begin
  update retention.standing_verify s
  set rechecked_at = clock_timestamp()
  where s.bucket = p_bucket;
  select array_agg(g.run_id order by g.run_id), array_agg(retention._pack_key(g.key, g.run_id::text) order by g.run_id)
  into v_run_ids, v_keys
  from retention.standing_gone g
  where g.bucket = p_bucket;
  if v_run_ids is null then
    return;
  end if;
  v_live := array(select retention._still_live(p_bucket, v_run_ids, v_keys, '-infinity', 'infinity'));
  with dropped as (
    delete from retention.standing_gone g
    where g.bucket = p_bucket
      and g.run_id not in (select v_run_ids[n] from unnest(v_live) n)
    returning g.verify_id
  )
  select count(*) filter (where d.verify_id is distinct from s.verify_id), count(*) filter (where d.verify_id = s.verify_id)
  into v_dropped, v_dropped_now
  from dropped d
  cross join retention.standing_verify s
  where s.bucket = p_bucket;
  update retention.standing_verify s
  set gone = greatest(s.gone - v_dropped, 0),
    found = greatest(s.found - v_dropped_now, 0),
    next_at = case
      when s.verify_id is null and s.gone > v_dropped and v_live = '{}' then clock_timestamp()
      else s.next_at
    end
  where s.bucket = p_bucket;
end
$$;

CREATE FUNCTION retention._record_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET "IntervalStyle" TO 'postgres'
    AS $$
declare
  v_before jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  v_after jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
begin
  if tg_op = 'UPDATE'
    and tg_table_name in ('policy', 'hold')
    and (v_before ->> 'tenant_id', v_before ->> 'run_id') is distinct from (v_after ->> 'tenant_id', v_after ->> 'run_id')
  then
    perform retention._note_change(tg_table_name, 'delete', v_before, null);
    perform retention._note_change(tg_table_name, 'insert', null, v_after);
  else
    perform retention._note_change(tg_table_name, lower(tg_op), v_before, v_after);
  end if;
  return null;
end
$$;

CREATE FUNCTION retention._record_truncate() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET "IntervalStyle" TO 'postgres'
    AS $$
begin
  execute format(
    'select retention._note_change(%L, ''delete'', to_jsonb(t), null) from %s t', tg_table_name, tg_relid::regclass
  );
  return null;
end
$$;

CREATE FUNCTION retention._recorded_roles() RETURNS TABLE(role text, kind text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select distinct on (r.role) r.role, r.kind
  from retention.adapter a
  cross join lateral (
    select a.operator_role, 'operator', 1
    union all
    select a.listener_role, 'listener', 2
    union all
    select a.observer_role, 'observer', 3
    union all
    select u.role, 'reader', 4
    from unnest(a.reader_roles) as u (role)
  ) as r (role, kind, place)
  where r.role is not null
  order by r.role, r.place
$$;

CREATE FUNCTION retention._refuse_emptying() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_is_needed boolean;
begin
  if tg_op = 'TRUNCATE' and tg_table_name in ('batch', 'receipt', 'change', 'seal', 'keeper', 'held_object') then
    execute format(
      'select exists (select from retention.%I where %s)',
      tg_table_name,
      case when tg_table_name in ('batch', 'receipt') then 'seal_id is not null' else 'true' end
    )
    into v_is_needed;
    if not v_is_needed then
      return null;
    elsif tg_table_name in ('keeper', 'held_object') then
      perform retention._two_people(
        case tg_table_name when 'keeper' then 'keeper' else 'hold' end, jsonb_build_object('truncate', tg_table_name)
      );
      return null;
    end if;
    raise exception using
      errcode = 'RR060',
      message = format('retention.%I is not emptied: what is sealed stays as it is', tg_table_name);
  end if;
  raise exception using
    errcode = 'check_violation',
    message = format('retention.%s cannot be emptied: without its rows nothing is flagged or claimed any more', tg_table_name),
    hint = case tg_table_name
      when 'policy' then 'End the policy of a tenant with: retention policy unset TENANT; change the default with: retention policy set ''*'' DURATION.'
      else 'To stop the reactor: retention halt. To take the schema away: retention migrate down.'
    end;
end
$$;

CREATE FUNCTION retention._refuse_orphans(p_because text, p_hint text) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
  raise exception using
    errcode = 'RR040',
    message = 'no orphan was deleted: ' || p_because,
    hint = p_hint;
end
$$;

CREATE FUNCTION retention._refuse_orphans_while_closed() RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_gate record;
begin
  select g.because, g.remedy into v_gate from retention.gate() g limit 1;
  if found then
    perform retention._refuse_orphans(v_gate.because, v_gate.remedy);
  end if;
end
$$;

CREATE FUNCTION retention._refuse_unreadable(p_sqlstate text, p_message text) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
  raise exception using
    errcode = p_sqlstate,
    message = format('the rows of this tenant cannot all be read, so they cannot be counted: %s', left(p_message, 500)),
    hint = 'Correct the value that the message names. retention explain RUN says whether a run can be read.';
end
$$;

CREATE FUNCTION retention._regroup(p_batch_size integer, p_early interval, p_when tstzmultirange DEFAULT NULL::tstzmultirange) RETURNS TABLE(batch_ids bigint[], newly_flagged bigint, selected bigint, leased bigint[])
    LANGUAGE plpgsql
    SET work_mem TO '128MB'
    AS $$
#variable_conflict use_column
declare
  v_candidates bigint[] := '{}';
  v_found bigint[];
  v_batch_ids bigint[];
  v_selected bigint;
  v_taken bigint;
  v_leased bigint[] := '{}';
begin
  -- Found without a lock. Until it is there, a batch may be settled or split, and what failed goes on in a
  -- batch that was not found: so look again until all are locked.
  loop
    v_found := array(
      select distinct b.batch_id
      from (
        -- Left out before their results are looked at.
        select o.batch_id, o.run_ids
        from retention.batch o
        where o.settled_at is null
          and o.batch_id not in (select unnest(v_candidates))
          and (p_when is null or p_when && tstzrange(o.oldest, o.newest, '[]'))
        offset 0
      ) b
      cross join unnest(b.run_ids) as u (run_id)
      where u.run_id in (select s.run_id from retention.selection s)
    );
    exit when v_found = '{}';
    perform
    from retention.batch b
    where b.batch_id = any (v_found)
    order by b.batch_id
    for update;
    v_candidates := v_candidates || v_found;
  end loop;
  with leased as (
    select b.batch_id
    from retention.batch b
    where b.batch_id = any (v_candidates)
      and b.settled_at is null
      and (b.lease is not null and b.visible_at > clock_timestamp() or b.deleted_at is not null)
  ),
  kept as (
    delete from retention.selection s
    where s.run_id in (
      select unnest(b.run_ids)
      from leased l
      join retention.batch b on b.batch_id = l.batch_id
    )
  )
  select coalesce(array_agg(l.batch_id), '{}') into v_leased from leased l;
  v_candidates := array(select unnest(v_candidates) except select unnest(v_leased));
  -- Such a one loses its lease here, and its last holder may still be asking S3.
  perform retention._note_unanswered(b, null, b.visible_at), retention._note_attempt(b, b.visible_at)
  from retention.batch b
  where b.batch_id = any (v_candidates)
    and b.settled_at is null
    and b.lease is not null
    and exists (
      select
      from unnest(b.run_ids) as u (run_id)
      where u.run_id in (select s.run_id from retention.selection s)
    );
  v_taken := retention._take_out_selected(v_candidates);

  insert into retention.bucket (bucket)
  select distinct s.bucket
  from retention.selection s
  on conflict do nothing;
  with made as (
    insert into retention.batch (
      bucket, results, oldest, newest, due_since, early, why, asked_by, run_ids, keys, tenants
    )
    select n.bucket, count(*), min(n.completed_at), max(n.completed_at), min(n.due_at), p_early,
      case when n.is_early then 'early' end,
      session_user,
      array_agg(n.run_id order by n.place),
      array_agg(retention._pack_key(n.key, n.run_id::text) order by n.place),
      array_agg(n.tenant_id order by n.place)
    from (
      select t.*,
        row_number() over (partition by t.bucket, t.is_early order by t.completed_at, t.run_id) as place
      from (
        select s.*, p_early is not null and (s.due_at < now()) is not true as is_early
        from retention.selection s
      ) t
    ) n
    group by n.bucket, n.is_early, (n.place - 1) / p_batch_size
    order by n.bucket, n.is_early, min(n.place)
    returning batch_id, results
  )
  select coalesce(array_agg(m.batch_id), '{}'), coalesce(sum(m.results), 0)
  into v_batch_ids, v_selected
  from made m;
  delete from retention.selection;
  return query select v_batch_ids, greatest(v_selected - v_taken, 0), v_selected, v_leased;
end
$$;

CREATE FUNCTION retention._remember(p_batch retention.batch, p_run_ids retention.run_id[], p_keys text[], p_tenants text[], p_places integer[], p_codes text[], p_messages text[], p_is_all boolean, OUT failed bigint, OUT dead bigint, OUT retry_at timestamp with time zone, OUT problems jsonb) RETURNS record
    LANGUAGE plpgsql
    AS $$
declare
  v_setting retention.setting;
  v_kind record;
  v_tries integer := case when p_batch.deleted_at is null then 0 else p_batch.attempts end;
  v_postponed integer := case when p_batch.deleted_at is null then 0 else p_batch.postponed end;
  v_is_open boolean := true;
  v_is_counted boolean;
  v_is_dead boolean;
  v_retry_at timestamptz;
begin
  failed := 0;
  dead := 0;
  problems := '[]';
  select * into strict v_setting from retention.setting;
  if p_is_all and not retention._stamp_passes(p_codes[1]) and p_codes[1] = all (p_codes) then
    v_is_open := retention._try_stamp();
  end if;
  for v_kind in
    select f.code, min(f.message) as message, array_agg(f.place order by f.place) as places
    from unnest(p_places, p_codes, p_messages) as f (place, code, message)
    group by f.code
    order by min(f.place)
  loop
    -- While no stamp works at all, no result is to blame.
    v_is_counted := v_is_open and not retention._stamp_passes(v_kind.code);
    v_is_dead := v_is_counted and v_tries + 1 >= v_setting.max_attempts;
    v_retry_at := case
      when not v_is_dead then clock_timestamp() + case
        when v_kind.code = 'StampLater' and not p_is_all then interval '0'
        when v_is_counted then retention._backoff(v_setting.retry_base, v_setting.retry_cap, v_tries)
        else retention._backoff(v_setting.pause_base, v_setting.pause_cap, v_postponed)
      end
    end;
    retry_at := least(retry_at, v_retry_at);
    insert into retention.batch (
      bucket, results, oldest, newest, due_since, late_since, early, flagged_at, visible_at,
      attempts, postponed, code, error, failed_at, dead_at, deleted_at, leased_by, why, asked_by, revision, policies, ends, versions,
      request_ids, settled_session, product, run_ids, keys, tenants
    )
    values (
      p_batch.bucket,
      cardinality(v_kind.places),
      p_batch.oldest,
      p_batch.newest,
      p_batch.due_since,
      p_batch.late_since,
      p_batch.early,
      p_batch.flagged_at,
      coalesce(v_retry_at, clock_timestamp()),
      v_tries + v_is_counted::integer,
      v_postponed + (not v_is_counted)::integer,
      v_kind.code,
      left(v_kind.message, 500),
      clock_timestamp(),
      case when v_is_dead then clock_timestamp() end,
      coalesce(p_batch.deleted_at, clock_timestamp()),
      p_batch.leased_by,
      p_batch.why,
      p_batch.asked_by,
      p_batch.revision,
      p_batch.policies,
      case when p_batch.ends is not null then array(select p_batch.ends[i] from unnest(v_kind.places) i order by i) end,
      case when p_batch.versions is not null then array(select p_batch.versions[i] from unnest(v_kind.places) i order by i) end,
      p_batch.request_ids,
      p_batch.settled_session,
      p_batch.product,
      array(select p_run_ids[i] from unnest(v_kind.places) i order by i),
      array(select p_keys[i] from unnest(v_kind.places) i order by i),
      array(select p_tenants[i] from unnest(v_kind.places) i order by i)
    );
    if v_is_dead then
      dead := dead + cardinality(v_kind.places);
    else
      failed := failed + cardinality(v_kind.places);
    end if;
    problems := problems || jsonb_strip_nulls(jsonb_build_object(
      'code', v_kind.code,
      'message', left(v_kind.message, 500),
      'results', cardinality(v_kind.places),
      'run_ids', array(select p_run_ids[i]::text from unnest(v_kind.places) i order by i limit 3),
      'retry_at', retention._iso(v_retry_at),
      'dead', v_is_dead,
      'deleted', true
    ));
  end loop;
end
$$;

CREATE FUNCTION retention._report(p_table text, p_columns text, p_scheduler text, p_elsewhere boolean, p_role text, p_operator_role text DEFAULT ''::text, p_observer_role text DEFAULT ''::text) RETURNS TABLE(name text, state text, found text, remedy text, code text)
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_table regclass;
  v_found jsonb;
  v_detail text;
  v_hint text;
  v_code text;
begin
  return query
  select 'schema', 'failed', format('role %s may not create the schema retention in database %s', current_user, d.datname),
    format('grant create on database %I to %I;', d.datname, current_user), '42501'
  from pg_database d
  where d.datname = current_database()
    and not exists (select from pg_namespace n where n.nspname = 'retention')
    and not has_database_privilege(d.oid, 'create')
  union all
  select 'schema', 'failed', format('role %s may not create in the schema retention, which belongs to %s', current_user, pg_get_userbyid(n.nspowner)),
    format('Migrate as %s, or: grant create, usage on schema retention to %I;', pg_get_userbyid(n.nspowner), current_user), '42501'
  from pg_namespace n
  where n.nspname = 'retention'
    and not has_schema_privilege(n.oid, 'create')
  union all
  select 'scheduler', 'failed', f.message, f.hint, case f.code when 'invalid_parameter_value' then '22023' else '55000' end
  from retention._scheduler_fault(p_scheduler, p_elsewhere) f
  union all
  select 'role', 'failed', format('%s names the role %s, which does not exist', g.variable, g.role),
    format('create role %I login; then migrate up again.', g.role), '42704'
  from (
    values ('RETENTION_ROLE', p_role),
      ('RETENTION_OPERATOR_ROLE', p_operator_role),
      ('RETENTION_OBSERVER_ROLE', p_observer_role)
  ) as g (variable, role)
  where g.role <> ''
    and not exists (select from pg_roles r where r.rolname = g.role);
  begin
    v_found := retention._find_columns(p_table, p_columns);
    v_table := retention._find_table(p_table);
  exception
    when others then
      get stacked diagnostics v_detail = pg_exception_detail, v_hint = pg_exception_hint, v_code = returned_sqlstate;
      return query
      select 'table', 'failed', concat_ws('. ', sqlerrm, nullif(v_detail, '')), v_hint, v_code;
      return;
  end;
  return query
  select r.name, r.state, r.found, r.remedy, '55000'
  from (
    select 1 as place, c.*
    from retention._report_catalog(v_table, v_found, (select r.oid from pg_roles r where r.rolname = current_user)) c
    union all
    select 2, s.*
    from retention._report_rows(v_table, v_found) s
  ) r
  order by r.state <> 'failed', r.place;
end
$$;

CREATE FUNCTION retention._report_catalog(p_table regclass, p_found jsonb, p_owner oid) RETURNS TABLE(name text, state text, found text, remedy text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
  with tree as (
    select c.*
    from pg_class c
    where c.oid = p_table
      or c.oid in (select t.relid from pg_partition_tree(p_table) t)
  ),
  owner as (
    select r.rolname from pg_roles r where r.oid = p_owner
  )
  select 'size', 'ok',
    format('%s: about %s rows (estimate), %s', p_table,
      (select greatest(sum(t.reltuples) filter (where t.relkind = 'r' and t.reltuples >= 0), 0)::bigint from tree t),
      (select pg_size_pretty(sum(pg_table_size(t.oid))) from tree t where t.relkind = 'r')),
    null
  union all
  select 'encoding', 'failed', 'this database is SQL_ASCII: it does not know which characters a key has, so S3 could be asked for another key',
    'Move to a database with an encoding: create database ... encoding ''UTF8''.'
  from pg_database d
  where d.datname = current_database()
    and pg_encoding_to_char(d.encoding) = 'SQL_ASCII'
  union all
  select 'row-level security', 'failed',
    format('%s hides rows from %I, who owns the adapter view: hidden runs would not protect their objects', p_table, o.rolname),
    format('As a superuser: alter role %I bypassrls; or: alter table %s no force row level security;', o.rolname, p_table)
  from owner o
  where retention._hides_rows(p_table, p_owner)
  union all
  select 'subscription', 'failed',
    format('%s is filled by subscription %I: its runs live in another database, and their results are deleted from there', p_table, s.subscription),
    'Run retention in the database that publishes the table, and only there.'
  from retention._subscription_of(p_table) as s (subscription)
  where s.subscription is not null
  union all
  select 'publication', 'failed',
    format('%s publishes updates of %s, which has no replica identity: every stamp would fail', string_agg(quote_ident(p.pubname), ', '), c.oid::regclass),
    format('alter table %s replica identity full; or give it a primary key.', c.oid::regclass)
  from tree c
  join pg_publication_tables t on (t.schemaname, t.tablename) = (c.relnamespace::regnamespace::name, c.relname)
    or (t.schemaname, t.tablename) = (select n.relnamespace::regnamespace::name, n.relname from pg_class n where n.oid = p_table)
  join pg_publication p on p.pubname = t.pubname and p.pubupdate
  where c.relkind = 'r'
    and (
      c.relreplident = 'n'
      or c.relreplident = 'd' and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)
    )
  group by c.oid
  union all
  select 'publication', 'warning',
    format('%s publishes every table, those of schema retention too: a subscriber with a retention of its own stops on duplicate keys', string_agg(quote_ident(p.pubname), ', ')),
    'Publish the application''s tables by name, and install retention in this database only.'
  from pg_publication p
  where p.puballtables
  having count(*) > 0
  union all
  select 'storage', 'warning', format('%s is unlogged: it is empty after a crash, and its objects are orphans then', p_table),
    format('alter table %s set logged;', p_table)
  from pg_class c
  where c.oid = p_table
    and c.relpersistence = 'u'
  union all
  select 'partitions', 'warning',
    format('%s lies on another server and is passed by when indexes are built: every pass asks that server', string_agg(t.oid::regclass::text, ', ')),
    format('alter table %s detach partition ...; where its runs need no retention.', p_table)
  from tree t
  where t.relkind = 'f'
  having count(*) > 0
  union all
  select 'triggers', 'ok', format('when a row is stamped, these run: %s', string_agg(distinct quote_ident(g.tgname), ', ')), null
  from pg_trigger g
  join tree t on t.oid = g.tgrelid
  where not g.tgisinternal
    and g.tgenabled <> 'D'
    and g.tgtype & 16 = 16
  having count(*) > 0
  union all
  select 'rules', 'warning', format('a rule rewrites updates of %s: %s; a stamp may never arrive', p_table, string_agg(quote_ident(r.rulename), ', ')),
    format('drop rule ... on %s;', p_table)
  from pg_rewrite r
  where r.ev_class = p_table
    and r.ev_type = '2'
  having count(*) > 0
  union all
  select 'collation', 'failed',
    format('the collation of database %I is of version %s in the catalog and %s in the system: indexes over texts may miss rows', d.datname, d.datcollversion, pg_database_collation_actual_version(d.oid)),
    format('reindex database %1$I; then: alter database %1$I refresh collation version;', d.datname)
  from pg_database d
  where d.datname = current_database()
    and d.datcollversion <> pg_database_collation_actual_version(d.oid)
  union all
  select 'collation', 'failed',
    format('the collation %s is of version %s in the catalog and %s in the system: indexes over %I may miss rows', c.oid::regcollation, c.collversion, pg_collation_actual_version(c.oid), a.attname),
    format('reindex table %s; then: alter collation %s refresh version;', p_table, c.oid::regcollation)
  from pg_attribute a
  join pg_collation c on c.oid = a.attcollation
  where a.attrelid = p_table
    and a.attname in (p_found -> 'tenant_id' ->> 'name', p_found -> 'run_id' ->> 'name')
    and c.collversion <> pg_collation_actual_version(c.oid)
$_$;

CREATE FUNCTION retention._report_rows(p_table regclass, p_found jsonb) RETURNS TABLE(name text, state text, found text, remedy text)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_sample record;
  v_run_id text := p_found -> 'run_id' ->> 'name';
  v_status jsonb := p_found -> 'status';
  v_has_null boolean;
begin
  begin
    select * into strict v_sample from retention._sample_rows(p_table, p_found);
    execute format('select exists (select from %s where %I is null)', p_table, v_run_id) into v_has_null;
  exception
    when others then
      return query select 'rows', 'warning', format('they could not be looked at: %s', sqlerrm),
        format('grant select on %s to %I;', p_table, current_user);
      return;
  end;
  return query
  select 'run ids', r.state, r.found, r.remedy
  from (
    select 1 as place, 'failed' as state, format('some row of %s has no %I, so it could never be stamped', p_table, v_run_id) as found,
      format('Give it one, then: alter table %s alter column %I set not null;', p_table, v_run_id) as remedy
    where v_has_null
    union all
    select 2, 'failed', format('runs of %s have the same %I, at least these among the first %s rows: %s', p_table, v_run_id, v_sample.looked_at, v_sample.repeated),
      'Give each run an id of its own: a stamp could not tell them apart.'
    where v_sample.repeated is not null
    union all
    select 3, 'warning', format('%I may be null; such a row is never flagged', v_run_id),
      format('alter table %s alter column %I set not null;', p_table, v_run_id)
    where (select t.is_nullable from retention._column_type(p_table, v_run_id) t)
    union all
    select 4, 'ok',
      case
        when exists (
          select
          from pg_index i
          join pg_attribute a on a.attrelid = p_table and a.attnum = i.indkey[0] and a.attname = v_run_id
          where i.indrelid = p_table and i.indisunique and i.indisvalid and i.indpred is null and i.indnkeyatts = 1
        )
        then format('%I tells every run apart', v_run_id)
        else format('%I tells the %s rows apart that were looked at; no index makes sure of the others: it may come again in another partition',
          v_run_id, v_sample.looked_at)
      end,
      null
  ) r
  order by r.place
  limit 1;
  if v_status ->> 'name' is not null then
    return query
    select 'statuses',
      case when v_sample.with_object = 0 or v_sample.completed > 0 then 'ok' else 'warning' end,
      case
        when v_sample.with_object = 0 then format('no object among %s rows yet', v_sample.looked_at)
        when v_sample.completed > 0
          then format('%s of %s rows with an object are %s', v_sample.completed, v_sample.with_object, v_status ->> 'completed')
        else format('no row with an object is %s, so nothing ever falls due; among %s there are: %s',
          v_status ->> 'completed', v_sample.with_object, v_sample.statuses)
      end,
      case
        when v_sample.with_object > 0 and v_sample.completed = 0
        then format('Name the value that means completed, such as RETENTION_COLUMNS=status=%s:%s, and migrate up.',
          quote_ident(v_status ->> 'name'), left(v_sample.commonest, 60))
      end;
  end if;
  return query
  select 'keys', case when k.odd = '' then 'ok' else 'warning' end,
    case when k.odd = '' then format('as S3 has them, among %s', v_sample.with_object) else format('among %s: %s', v_sample.with_object, k.odd) end,
    case when k.odd <> '' then 'Map a column that holds the key alone, as S3 lists it: RETENTION_COLUMNS=key=... What S3 cannot hold is passed by.' end
  from (
    select concat_ws(
      ', ',
      case when v_sample.addresses > 0 then format('%s are addresses and no keys (with ://)', v_sample.addresses) end,
      case when v_sample.slashes > 0 then format('%s begin with a slash', v_sample.slashes) end,
      case when v_sample.empty_keys > 0 then format('%s are empty', v_sample.empty_keys) end,
      case when v_sample.long_keys > 0 then format('%s have more than the 1,024 bytes that S3 can hold', v_sample.long_keys) end,
      case when v_sample.long_ids > 0 then format('%s have a tenant or run id of more than 1,024 bytes and are passed by', v_sample.long_ids) end
    ) as odd
  ) k;
end
$$;

CREATE FUNCTION retention._respell_tenants(p_type text) RETURNS void
    LANGUAGE plpgsql
    AS $_$
declare
  v_tenant text;
  v_respelled text;
begin
  alter table retention.policy disable trigger user;
  if exists (select from pg_trigger t where t.tgrelid = 'retention.policy'::regclass and t.tgname = 'record_update') then
    alter table retention.policy enable trigger record_change, enable trigger record_update;
  end if;
  for v_tenant in
    select p.tenant_id from retention.policy p where p.tenant_id <> '*'
    union
    select h.tenant_id from retention.hold h where h.tenant_id is not null
  loop
    begin
      execute format('select ($1::%s)::text', p_type) into v_respelled using v_tenant;
    exception
      when data_exception then
        if exists (
          select
          from retention.hold h
          where h.tenant_id = v_tenant
            and coalesce(least(h.released_at, h.expires_at), 'infinity') > now()
        ) then
          raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('a hold is in force on tenant %s, which is no %s, the type of the tenant column by now', v_tenant, p_type),
            hint = 'Halt (retention halt), release that hold, migrate up, place it on the tenant as it is called now, and resume.';
        end if;
        continue;
    end;
    continue when v_respelled = v_tenant;
    update retention.hold set tenant_id = v_respelled where tenant_id = v_tenant;
    delete from retention.policy p
    using retention.policy o
    where p.tenant_id in (v_tenant, v_respelled)
      and o.tenant_id in (v_tenant, v_respelled)
      and (p.retain, p.tenant_id) < (o.retain, o.tenant_id);
    update retention.policy set tenant_id = v_respelled where tenant_id = v_tenant;
  end loop;
  alter table retention.policy enable trigger user;
end
$_$;

CREATE FUNCTION retention._results(p_batch retention.batch) RETURNS TABLE(run_id retention.run_id, key text, tenant_id text, n bigint)
    LANGUAGE sql STABLE
    AS $$
  select u.run_id, retention._unpack_key(u.key, u.run_id::text), u.tenant_id, u.n
  from unnest(p_batch.run_ids, p_batch.keys, p_batch.tenants) with ordinality as u (run_id, key, tenant_id, n)
  -- Unpacked once, however often it is named.
  offset 0
$$;

CREATE FUNCTION retention._retain_of(p_tenant_id text) RETURNS interval
    LANGUAGE sql STABLE
    AS $$
  select retention._in_seconds(coalesce(p.retain, d.retain))
  from retention.policy d
  left join retention.policy p on p.tenant_id = p_tenant_id
    and p.tenant_id <> '*'
  where d.tenant_id = '*'
$$;

CREATE FUNCTION retention._retype(p_domain text, p_type text) RETURNS void
    LANGUAGE plpgsql
    AS $_$
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
    begin
      execute format(
        'alter table %1$s alter column %2$I type retention.%3$I%4$s using %2$I::text%4$s::retention.%3$I%4$s',
        v_column.relation,
        v_column.name,
        'new_' || p_domain,
        case when v_column.is_array then '[]' else '' end
      );
    exception
      when data_exception then
        raise exception using
          errcode = 'object_not_in_prerequisite_state',
          message = format('%s keeps ids that are no %s, the type of the mapped column by now (%s)', v_column.relation, p_type, sqlerrm),
          hint = 'Alter the column so that the ids stay what they are, or start again: retention migrate down, then up. That loses holds, policies and receipts.';
    end;
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
$_$;

CREATE FUNCTION retention._review_held_objects() RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
begin
  delete from retention.held_object o
  using retention.hold h
  where h.hold_id = o.hold_id
    and retention._hold_end(h.released_at, h.expires_at) < now();
  if to_regclass('retention.result') is null then
    return;
  end if;
  with noted as (
    insert into retention.held_object (hold_id, bucket, key)
    select h.hold_id, retention._bucket(r.bucket, (select s.default_bucket from retention.setting s)), r.key
    from retention.hold h
    join retention.result r on r.run_id = h.run_id
    where h.run_id is not null
      and retention._hold_end(h.released_at, h.expires_at) > now()
      and octet_length(retention._bucket(r.bucket, (select s.default_bucket from retention.setting s))) <= 255
      and octet_length(r.key) between 1 and 1024
    on conflict do nothing
    returning hold_id, bucket, key
  )
  update retention.hold h
  set objects = h.objects + n.objects,
    bucket = coalesce(h.bucket, n.bucket),
    key = coalesce(h.key, n.key)
  from (
    select o.hold_id, count(*) as objects, min(o.bucket) as bucket, (array_agg(o.key order by o.bucket))[1] as key
    from noted o
    group by o.hold_id
  ) n
  where n.hold_id = h.hold_id;
end
$$;

CREATE FUNCTION retention._review_part(p_part_id bigint, p_found_at timestamp with time zone) RETURNS bigint
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
declare
  v_left record;
  v_before bigint;
begin
  select count(*) as results,
    array_agg(u.run_id order by u.n) as run_ids,
    array_agg(u.key order by u.n) as keys,
    array_agg(u.tenant_id order by u.n) as tenants,
    max(p.results) as before
  into v_left
  from retention.surge_part p
  cross join lateral unnest(p.run_ids, p.keys, p.tenants) with ordinality as u (run_id, key, tenant_id, n)
  where p.part_id = p_part_id
    and (
      -- The aggregate keeps this a probe by run id.
      select bool_or(
        coalesce(r.key, '') = retention._unpack_key(u.key, u.run_id::text) collate "C"
        and r.bucket = p.bucket
        and coalesce(r.due_at < p_found_at, false)
      )
      from retention._live r
      where r.run_id = u.run_id
    );
  select p.results into v_before from retention.surge_part p where p.part_id = p_part_id;
  if v_left.results < v_before then
    insert into retention.past_work (batch_id, state, since, until, oldest, newest, run_ids)
    select p.surge_id, 'set aside', p_found_at, clock_timestamp(), p.oldest, p.newest,
      array(select u.run_id from unnest(p.run_ids) as u (run_id) where u.run_id not in (select unnest(v_left.run_ids)))
    from retention.surge_part p
    where p.part_id = p_part_id
      and p.surge_id is not null;
  end if;
  if v_left.results = v_before then
    update retention.surge_part p set looked_at = clock_timestamp() where p.part_id = p_part_id;
  elsif v_left.results = 0 then
    delete from retention.surge_part p where p.part_id = p_part_id;
  else
    update retention.surge_part p
    set results = v_left.results,
      run_ids = v_left.run_ids,
      keys = v_left.keys,
      tenants = v_left.tenants,
      looked_at = clock_timestamp()
    where p.part_id = p_part_id;
  end if;
  return v_before - v_left.results;
end
$$;

CREATE FUNCTION retention._review_shared_objects() RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_before timestamptz := (
    select max(o.noted_at)
    from (select s.noted_at from retention.shared_object s order by s.noted_at limit 10000) o
  );
  -- Without a guard nothing is late, and no note is kept for that.
  v_seen_at timestamptz := (
    select case when t.surge_guard is null then 'infinity' else coalesce(h.seen_at, '-infinity') end
    from retention.heartbeat h
    cross join retention.setting t
  );
begin
  if v_before is null then
    return;
  end if;
  merge into retention.shared_object s
  using (
    select o.bucket, o.key, n.until, n.run_id, o.until as noted_until, f.due_at
    from retention.shared_object o
    cross join lateral retention._needed(o.bucket, o.key) n
    cross join lateral retention._last_due(o.bucket, o.key, o.run_id) as f (due_at)
    where o.noted_at <= v_before
  ) n
  on n.bucket = s.bucket
    and n.key = s.key
  when matched and n.until is null and (n.noted_until <= v_seen_at or v_seen_at = 'infinity') then
    delete
  when matched and n.until is null then
    update set until = least(n.noted_until, coalesce(n.due_at, now())), noted_at = now()
  when matched then
    update set until = n.until, run_id = n.run_id, noted_at = now();
end
$$;

CREATE FUNCTION retention._review_some() RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_part record;
  v_gone bigint := 0;
begin
  if to_regclass('retention._live') is null then
    return;
  end if;
  for v_part in
    select p.part_id, s.surge_id, s.found_at
    from retention.surge_part p
    join retention.surge s on s.surge_id = p.surge_id
    where p.looked_at < now() - interval '1 hour'
    order by p.looked_at
    limit (select 10 + count(*) / 20 from retention.surge_part)
  loop
    perform from retention.surge s where s.surge_id = v_part.surge_id for update skip locked;
    continue when not found;
    v_gone := v_gone + coalesce(retention._review_part(v_part.part_id, v_part.found_at), 0);
    perform retention._close_surge(v_part.surge_id);
  end loop;
  if v_gone > 0 then
    delete from retention.progress;
  end if;
end
$$;

CREATE FUNCTION retention._review_spared_objects() RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_before timestamptz := (
    select max(o.noted_at)
    from (select s.noted_at from retention.spared_object s order by s.noted_at limit 10000) o
  );
  v_seen_at timestamptz := retention._seen();
begin
  if v_before is null then
    return;
  end if;
  delete from retention.spared_object o
  where o.noted_at <= v_before
    and not retention._is_wanted(o.bucket, o.key, o.etag);
  merge into retention.spared_object s
  using (
    select o.bucket, o.key, max(k.until) as until, (array_agg(k.kept_by order by k.until desc))[1] as kept_by
    from retention.spared_object o
    left join (
      select b.bucket, k.*
      from (
        select n.bucket, array_agg(n.key) as keys
        from retention.spared_object n
        where n.noted_at <= v_before
          and n.kept_by is not null
        group by n.bucket
      ) b
      cross join lateral retention._kept(b.bucket, b.keys) k
    ) k on k.bucket = o.bucket and k.key = o.key collate "C"
    where o.noted_at <= v_before
      and o.kept_by is not null
    group by o.bucket, o.key
  ) n
  on n.bucket = s.bucket
    and n.key = s.key
    and s.etag = ''
  -- Its time is over: its result fell due then, which a complete walk has to know (see _is_late). Without a guard no
  -- walk has to.
  when matched and n.until is null and s.until <= now() and s.until > v_seen_at and v_seen_at > '-infinity' then
    do nothing
  when matched and n.until is null then
    delete
  when matched then
    update set until = n.until, kept_by = n.kept_by, noted_at = now();
  update retention.spared_object o
  set noted_at = now()
  where o.noted_at <= v_before
    and o.kept_by is null;
exception
  when sqlstate 'RR051' or lock_not_available then
    return;
end
$$;

CREATE FUNCTION retention._review_surge(p_surge_id bigint) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
declare
  v_surge retention.surge;
  v_part_id bigint;
  v_part_ids bigint[];
  v_gone bigint := 0;
begin
  select * into v_surge from retention.surge s where s.surge_id = p_surge_id for update;
  if to_regclass('retention._live') is null then
    return 0;
  end if;
  if retention._is_large_surge(p_surge_id) then
    v_part_ids := retention._changed_parts(p_surge_id, v_surge.found_at);
    update retention.surge_part p
    set looked_at = clock_timestamp()
    where p.surge_id = p_surge_id
      and p.part_id not in (select unnest(v_part_ids));
  end if;
  for v_part_id in
    select p.part_id
    from retention.surge_part p
    where p.surge_id = p_surge_id
      and (v_part_ids is null or p.part_id = any (v_part_ids))
    order by p.part_id
  loop
    v_gone := v_gone + retention._review_part(v_part_id, v_surge.found_at);
  end loop;
  if v_gone > 0 then
    -- What falls due in its time may lie behind the progress.
    delete from retention.progress;
    perform retention._close_surge(p_surge_id);
  end if;
  return v_gone;
end
$$;

CREATE FUNCTION retention._row_after(p_tenant_id retention.tenant_id, p_after_completed_at timestamp with time zone, p_after_run_id retention.run_id, p_before timestamp with time zone) RETURNS TABLE(completed_at timestamp with time zone, run_id retention.run_id)
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
begin
  if p_tenant_id is null then
    return query
    select r.completed_at, r.run_id::retention.run_id
    from retention._live r
    where r.tenant_id is null
      and r.is_candidate
      and r.completed_at < p_before
      and (r.completed_at, r.run_id) > (coalesce(p_after_completed_at, '-infinity'), p_after_run_id)
    order by r.tenant_id, r.completed_at, r.run_id
    limit 1;
  else
    return query
    select r.completed_at, r.run_id::retention.run_id
    from retention._live r
    where r.tenant_id = p_tenant_id
      and r.is_candidate
      and r.completed_at < p_before
      and (r.completed_at, r.run_id) > (coalesce(p_after_completed_at, '-infinity'), p_after_run_id)
    order by r.tenant_id, r.completed_at, r.run_id
    limit 1;
  end if;
end
$$;

CREATE FUNCTION retention._row_at(p_subject text, p_name text, p_at timestamp with time zone) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_change record;
begin
  select c.after as row
  into v_change
  from retention.change c
  where c.subject = p_subject
    and (p_name is null or c.name = p_name)
    and c.at <= p_at
  order by c.change_id desc
  limit 1;
  if not found then
    select c.before as row
    into v_change
    from retention.change c
    where c.subject = p_subject
      and (p_name is null or c.name = p_name)
      and c.at > p_at
    order by c.change_id
    limit 1;
  end if;
  if found then
    return v_change.row;
  end if;
  return case p_subject
    when 'policy' then (select to_jsonb(p) from retention.policy p where p.tenant_id = p_name and p.set_at <= p_at)
    when 'hold' then (select to_jsonb(h) from retention.hold h where h.hold_id::text = p_name and h.placed_at <= p_at)
    else (select to_jsonb(s) from retention.setting s)
  end;
end
$$;

CREATE FUNCTION retention._row_of(p_run_id retention.run_id, OUT is_there boolean, OUT tenant_id text, OUT status text, OUT completed_at timestamp with time zone, OUT retain_until timestamp with time zone, OUT bucket text, OUT key text, OUT cleared_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
begin
  is_there := false;
  if to_regclass('retention.result') is null then
    return;
  end if;
  select true, r.tenant_id::text, r.status::text, r.completed_at, r.retain_until::timestamptz, r.bucket::text, r.key::text,
    r.cleared_at::timestamptz
  into is_there, tenant_id, status, completed_at, retain_until, bucket, key, cleared_at
  from retention.result r
  where r.run_id = p_run_id
  limit 1;
  is_there := coalesce(is_there, false);
end
$$;

CREATE FUNCTION retention._rule_changes(p_tenant_id text, p_from timestamp with time zone) RETURNS SETOF retention.change
    LANGUAGE sql STABLE
    AS $$
  select c.*
  from retention.change c
  where c.subject = 'policy'
    and c.tenant_id in ('*', p_tenant_id)
    and c.before ->> 'retain' is distinct from c.after ->> 'retain'
    -- The last one before the period says by which rule it began.
    and c.at >= coalesce(
      (
        select max(e.at)
        from retention.change e
        where e.subject = 'policy'
          and e.tenant_id = c.tenant_id
          and e.before ->> 'retain' is distinct from e.after ->> 'retain'
          and e.at < p_from
      ),
      '-infinity'
    )
  order by c.change_id
$$;

CREATE FUNCTION retention._run_id_or_null(p_run_id text) RETURNS retention.run_id
    LANGUAGE plpgsql STABLE
    AS $$
begin
  return p_run_id::retention.run_id;
exception
  when data_exception then
    return null;
end
$$;

CREATE FUNCTION retention._run_receipts(p_run_id retention.run_id, p_batch_ids bigint[], p_since timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS TABLE(receipt text, kind text, is_gone boolean, settled_at timestamp with time zone, bucket text, key text, tenant_id text, how text, asked_by text, settled_session text, product text, batch_id bigint, flagged_at timestamp with time zone, began_at timestamp with time zone, deleted_at timestamp with time zone, early interval, late_since timestamp with time zone, retain text)
    LANGUAGE plpgsql STABLE
    AS $$
#variable_conflict use_column
begin
  return query
  select format('%s-%s', r.source, r.id),
    r.kind,
    r.kind not in ('restored', 'unstamped'),
    r.settled_at,
    r.bucket,
    retention._known_key(r.keys[p.place], p_run_id, r.salt, p.place),
    r.tenants[p.place],
    coalesce(r.ends[p.place], 'deleted'),
    r.asked_by,
    r.settled_session,
    r.product,
    b.batch_id,
    b.flagged_at,
    b.leased_at,
    b.deleted_at,
    b.early,
    b.late_since,
    coalesce(r.policies ->> r.tenants[p.place], r.policies ->> '*')
  from (
    select x.* from retention._receipt x where x.source = 'batch' and x.id = any (p_batch_ids)
    union all
    select x.*
    from retention._receipt x
    where x.source = 'receipt'
      and x.kind not in ('orphan', 'canary')
      and x.settled_at >= coalesce(p_since, '-infinity')
      and p_run_id = any (x.run_ids)
  ) r
  cross join lateral (select array_position(r.run_ids, p_run_id) as place) p
  left join retention.batch b on r.source = 'batch' and b.batch_id = r.id
  order by r.settled_at, r.source, r.id;
end
$$;

CREATE FUNCTION retention._said(p_code text, p_message text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (p_code IS NULL) THEN COALESCE(p_message, 'unknown'::text) WHEN (lower(regexp_replace(COALESCE(p_message, ''::text), '[^A-Za-z0-9]'::text, ''::text, 'g'::text)) = ANY (ARRAY[''::text, lower(p_code)])) THEN p_code WHEN (strpos(p_message, p_code) > 0) THEN p_message ELSE (((p_code || ' ('::text) || p_message) || ')'::text) END;

CREATE FUNCTION retention._same_setting(p_name text, p_one text, p_other text) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    AS $$
  select case p_name
    when 'enabled' then p_one::boolean = p_other::boolean
    when 'batch_size' then p_one::integer = p_other::integer
    when 'loop_interval' then p_one::interval = p_other::interval
    when 'retain' then retention._in_days(p_one::interval) = retention._in_days(p_other::interval)
    else p_one = p_other
  end
$$;

CREATE FUNCTION retention._sample_rows(p_table regclass, p_found jsonb) RETURNS TABLE(looked_at bigint, with_object bigint, completed bigint, statuses text, commonest text, addresses bigint, slashes bigint, empty_keys bigint, long_keys bigint, long_ids bigint, repeated text)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
begin
  return query execute format(
    $query$
    with sample as materialized (
      select %1$I::text as run_id,
        %2$s as tenant_id,
        %3$s as status,
        %4$I::text as key
      from (select * from %5$s limit 10000) r
    ),
    by_status as (
      select coalesce(s.status, 'null') as status, count(*) as n
      from sample s
      where s.key is not null
      group by 1
      order by 2 desc, 1
      limit 8
    )
    select count(*),
      count(s.key),
      count(s.key) filter (where s.status = %6$L),
      (select string_agg(format('%%s (%%s)', left(b.status, 60), b.n), ', ') from by_status b),
      (select b.status from by_status b limit 1),
      count(*) filter (where s.key ~ '^[a-z][a-z0-9]*://'),
      count(*) filter (where s.key like '/%%'),
      count(*) filter (where s.key = ''),
      count(*) filter (where octet_length(s.key) > 1024),
      count(*) filter (where octet_length(s.tenant_id) > 1024 or octet_length(s.run_id) > 1024),
      (
        select string_agg(distinct d.run_id, ', ')
        from (
          select x.run_id
          from sample x
          where x.run_id is not null
          group by x.run_id
          having count(*) > 1
          limit 3
        ) d
      )
    from sample s
    $query$,
    p_found -> 'run_id' ->> 'name',
    coalesce(quote_ident(p_found -> 'tenant_id' ->> 'name') || '::text', 'null::text'),
    coalesce(quote_ident(p_found -> 'status' ->> 'name') || '::text', quote_literal('COMPLETED') || '::text'),
    p_found -> 'key' ->> 'name',
    p_table,
    coalesce(p_found -> 'status' ->> 'completed', 'COMPLETED')
  );
end
$_$;

CREATE FUNCTION retention._samples(p_table regclass, p_name text) RETURNS text[]
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $_$
declare
  v_samples text[];
begin
  execute format(
    'select array(select distinct left(%1$I::text, 200) from (select %1$I from %2$s limit 1000) r where %1$I is not null order by 1 limit 3)',
    p_name, p_table
  ) into v_samples;
  return v_samples;
exception
  when insufficient_privilege then
    return null;
end
$_$;

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

CREATE FUNCTION retention._scheduler_fault(p_scheduler text, p_elsewhere boolean) RETURNS TABLE(code text, message text, hint text)
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_home text;
  v_is_created boolean := exists (select from pg_extension where extname = 'pg_cron');
begin
  code := 'object_not_in_prerequisite_state';
  if p_scheduler not in ('pg_cron', 'internal') then
    code := 'invalid_parameter_value';
    message := format('RETENTION_SCHEDULER must be pg_cron or internal, given: %s', p_scheduler);
    hint := 'Set RETENTION_SCHEDULER to one of them.';
    return next;
    return;
  end if;
  if p_scheduler = 'internal' or p_elsewhere then
    return;
  end if;
  -- Where the extension is created, pg_cron lives here, and the setting need not be readable.
  begin
    v_home := case when v_is_created then current_database() else current_setting('cron.database_name', true) end;
  exception
    when insufficient_privilege then
      v_home := current_database();
  end;
  if not exists (select from pg_available_extensions where name = 'pg_cron') then
    message := 'RETENTION_SCHEDULER is pg_cron, but this server does not have pg_cron installed';
    hint := format(
      'Install it (Debian: apt-get install postgresql-%s-cron), set shared_preload_libraries = ''pg_cron'' and cron.database_name = ''%s'', and restart; or set RETENTION_SCHEDULER=internal.',
      current_setting('server_version_num')::integer / 10000, current_database()
    );
  elsif v_home is null then
    message := 'RETENTION_SCHEDULER is pg_cron, but pg_cron is not loaded by this server';
    hint := format(
      'Set shared_preload_libraries = ''pg_cron'' and cron.database_name = ''%s'', and restart; or set RETENTION_SCHEDULER=internal.',
      current_database()
    );
  elsif v_home <> current_database() then
    message := format('pg_cron lives in database %s of this server, not in %s', v_home, current_database());
    hint := format(
      'Set CRON_DATABASE_URL to database %s, and the job is scheduled across; or set cron.database_name = ''%s'' and restart; or set RETENTION_SCHEDULER=internal.',
      v_home, current_database()
    );
  elsif not v_is_created and not (select r.rolsuper from pg_roles r where r.rolname = current_user) then
    message := format('the extension pg_cron is not created in database %s, and role %s may not create it', current_database(), current_user);
    hint := format(
      'As a superuser: create extension pg_cron; grant usage on schema cron to %I; or set RETENTION_SCHEDULER=internal.',
      current_user
    );
  elsif v_is_created and not coalesce(has_schema_privilege(to_regnamespace('cron')::oid, 'usage'), false) then
    code := 'insufficient_privilege';
    message := format('role %s may not use pg_cron', current_user);
    hint := format('As a superuser: grant usage on schema cron to %I; or set RETENTION_SCHEDULER=internal.', current_user);
  else
    return;
  end if;
  return next;
end
$$;

CREATE FUNCTION retention._seal_digest(p_previous bytea, p_header text, p_members bytea) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sha256(((COALESCE(p_previous, '\x'::bytea) || sha256(convert_to(p_header, 'UTF8'::name))) || sha256(p_members)));

CREATE FUNCTION retention._seal_header(p_seal_id bigint, p_sealed_at timestamp with time zone, p_complete_to timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select row_to_json(h)::text
  from (
    select p_seal_id as seal,
      retention._iso_exactly(p_sealed_at) as sealed_at,
      retention._iso_exactly(p_complete_to) as complete_to
  ) h
$$;

CREATE FUNCTION retention._seal_in_tick() RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_until timestamptz := clock_timestamp() + interval '3 seconds';
  v_problem text;
begin
  -- On most ticks of a quiet database there is nothing: three looks at the end of an index.
  if cardinality((select u.batches || u.receipts || u.changes from retention._unsealed(1) u)) = 0 then
    return;
  end if;
  perform from retention.seal_head for update skip locked;
  if not found then
    return;
  end if;
  begin
    while retention._seal_once() loop
      exit when clock_timestamp() >= v_until;
    end loop;
  exception
    when query_canceled or assert_failure or others then
      v_problem := format('%s %s', sqlstate, left(sqlerrm, 500));
  end;
  update retention.seal_head
  set problem = v_problem,
    problem_at = case when v_problem is not null then clock_timestamp() end
  where problem is distinct from v_problem
    or v_problem is not null;
  if v_problem is not null then
    raise warning 'sealing failed: %', v_problem;
  end if;
end
$$;

CREATE FUNCTION retention._seal_once(p_most integer DEFAULT 500) RETURNS boolean
    LANGUAGE plpgsql
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    AS $$
declare
  -- Before the snapshot is taken: what is settled later is not claimed to be covered.
  v_sealed_at timestamptz := case
    when current_setting('transaction_isolation') = 'read committed' then clock_timestamp()
    else transaction_timestamp()
  end;
  v_snapshot pg_snapshot := pg_current_snapshot();
  v_system text := (select n.system_identifier from retention._identity_now() n);
  v_head retention.seal_head;
  v_before retention.seal;
  v_new record;
  v_made record;
  v_seal_id bigint;
  v_complete_to timestamptz;
  v_digest bytea;
begin
  select * into v_new from retention._unsealed(p_most);
  if cardinality(v_new.batches || v_new.receipts || v_new.changes) = 0 or exists (select from retention._copy_reason()) then
    return false;
  end if;
  select * into strict v_head from retention.seal_head;
  select * into v_before from retention.seal s where s.seal_id = v_head.seal_id;
  v_seal_id := v_head.seal_id + 1;
  v_complete_to := case when v_new.is_all then retention._complete_to(v_sealed_at, v_snapshot, v_system) end;
  -- It grows, unless the clock was set back.
  if v_before.complete_to < v_sealed_at then
    v_complete_to := greatest(v_before.complete_to, v_complete_to);
  end if;

  if (select s.receipt_keys = 'hashed' from retention.setting s) then
    perform retention._hash_keys(v_new.batches, v_new.receipts);
  end if;
  with batches as (
    update retention.batch b
    set salt = coalesce(b.salt, uuid_send(gen_random_uuid())),
      seal_id = v_seal_id
    where b.batch_id = any (v_new.batches)
    returning 'batch' as source, b.batch_id as id, coalesce(b.why, 'policy') as kind, b.bucket, b.cleared as results,
      b.settled_at, b.request_ids, b.asked_by, b.revision, b.settled_session, b.product, b.salt, b.run_ids,
      retention._kept_keys(b.keys, b.key_digests) as keys,
      b.tenants, b.ends, b.versions, b.policies
  ),
  receipts as (
    update retention.receipt r
    set salt = coalesce(r.salt, uuid_send(gen_random_uuid())),
      seal_id = v_seal_id
    where r.receipt_id = any (v_new.receipts)
    returning 'receipt' as source, r.receipt_id as id, r.kind, r.bucket, r.results, r.settled_at, r.request_ids,
      r.asked_by, r.revision, r.settled_session, r.product, r.salt, r.run_ids,
      retention._kept_keys(r.keys, r.key_digests), r.tenants, r.ends, r.versions, null::jsonb
  ),
  changes as (
    update retention.change c
    set seal_id = v_seal_id
    where c.change_id = any (v_new.changes)
    returning c.change_id as id, retention._change_digest(c.salt, retention._change_text(c)) as digest
  ),
  members as (
    select case r.source when 'batch' then 1 else 2 end as part, r.id, r.results,
      retention._receipt_digest(
        retention._receipt_header(
          r.source, r.id, r.kind, r.bucket, r.settled_at, r.request_ids, r.asked_by, r.revision, r.settled_session,
          r.product
        ),
        g.groups
      ) as digest
    from (select * from batches union all select * from receipts) r
    cross join lateral (
      select string_agg(x.digest, null order by x.digest) as groups
      from retention._groups(r.salt, r.run_ids, r.keys, r.tenants, r.ends, r.versions, r.policies) x
    ) g
    union all
    select 3, c.id, 0, c.digest
    from changes c
  )
  select coalesce(array_agg(m.id order by m.id) filter (where m.part = 1), '{}') as batches,
    coalesce(array_agg(m.id order by m.id) filter (where m.part = 2), '{}') as receipts,
    coalesce(array_agg(m.id order by m.id) filter (where m.part = 3), '{}') as changes,
    sum(m.results) as results,
    string_agg(m.digest, null order by m.part, m.id) as digests
  into strict v_made
  from members m;

  v_digest := retention._seal_digest(
    v_head.digest, retention._seal_header(v_seal_id, v_sealed_at, v_complete_to), v_made.digests
  );
  insert into retention.seal (
    seal_id, sealed_at, complete_to, snapshot_xmin, snapshot_xmax, system_identifier, batches, receipts, changes, results,
    digests, previous, digest
  )
  values (
    v_seal_id, v_sealed_at, v_complete_to, pg_snapshot_xmin(v_snapshot), pg_snapshot_xmax(v_snapshot), v_system,
    v_made.batches, v_made.receipts, v_made.changes, v_made.results, v_made.digests, v_head.digest, v_digest
  );
  update retention.seal_head
  set seal_id = v_seal_id,
    digest = v_digest,
    sealed_at = v_sealed_at;
  perform retention._tell('sealed', retention._head(v_seal_id));
  return true;
end
$$;

CREATE FUNCTION retention._seen() RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    AS $$
  select case when s.surge_guard is null then '-infinity' else coalesce(h.seen_at, 'infinity') end
  from retention.setting s
  cross join retention.heartbeat h
$$;

CREATE FUNCTION retention._seen_of(p_tenant_id text) RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    AS $$
  select case when e.ended > n.seen_at - s.release_spread then least(n.seen_at, e.ended) else n.seen_at end
  from retention.setting s
  cross join retention._seen() as n (seen_at)
  cross join (
    select max(retention._hold_end(h.released_at, h.expires_at)) as ended
    from retention.hold h
    where h.tenant_id = p_tenant_id
      and retention._hold_end(h.released_at, h.expires_at) <= now()
  ) e
$$;

CREATE FUNCTION retention._selection_asked(p_tenant_id text, p_run_ids text[], p_older_than interval, p_limit bigint, p_expected bigint) RETURNS jsonb
    LANGUAGE sql STABLE
    AS $$
  select jsonb_strip_nulls(jsonb_build_object(
    'all', case when p_tenant_id is null and p_run_ids is null then true end,
    'tenant_id', p_tenant_id,
    'run_ids', case when r.runs <= 100 then r.run_ids end,
    'runs', case when r.runs > 100 then r.runs end,
    'first_run_id', case when r.runs > 100 then r.run_ids -> 0 end,
    'runs_sha256', case when r.runs > 100 then encode(sha256(convert_to(r.run_ids::text, 'UTF8')), 'hex') end,
    'older_than_seconds', extract(epoch from p_older_than)::bigint,
    'limit', p_limit,
    'expected', p_expected
  ))
  from (
    select jsonb_agg(i.id order by i.id collate "C") as run_ids, count(*) as runs
    from (select distinct u.id from unnest(p_run_ids) as u (id)) i
  ) r
$$;

CREATE FUNCTION retention._serves(p_kind text, p_least_role text) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    AS $$
  select coalesce(
    array_position('{reader, observer, listener, operator}'::text[], p_least_role)
      <= array_position('{reader, observer, listener, operator}'::text[], p_kind),
    false
  )
$$;

CREATE FUNCTION retention._set_apart(p_batch retention.batch, p_places bigint[], p_code text, p_error text, p_counts boolean) RETURNS jsonb
    LANGUAGE plpgsql
    AS $$
declare
  v_setting retention.setting;
  v_is_dead boolean;
  v_retry_at timestamptz;
  v_batch_id bigint;
  v_problem jsonb;
begin
  select * into strict v_setting from retention.setting;
  v_is_dead := p_counts and p_batch.attempts + 1 >= v_setting.max_attempts;
  v_retry_at := case
    when not v_is_dead then clock_timestamp() + retention._backoff(
      v_setting.retry_base, v_setting.retry_cap, case when p_counts then p_batch.attempts else p_batch.postponed end
    )
  end;
  insert into retention.batch (
    bucket, results, oldest, newest, due_since, late_since, early, flagged_at, visible_at,
    attempts, postponed, code, error, failed_at, dead_at, why, asked_by, request_ids, run_ids, keys, tenants
  )
  select p_batch.bucket, count(*), p_batch.oldest, p_batch.newest, p_batch.due_since, p_batch.late_since, p_batch.early, p_batch.flagged_at,
    coalesce(v_retry_at, clock_timestamp()),
    p_batch.attempts + p_counts::integer,
    p_batch.postponed + (not p_counts)::integer,
    left(p_code, 64),
    left(p_error, 500),
    clock_timestamp(),
    case when v_is_dead then clock_timestamp() end,
    p_batch.why,
    p_batch.asked_by,
    p_batch.request_ids,
    array_agg(u.run_id order by u.n),
    array_agg(u.key order by u.n),
    array_agg(u.tenant_id order by u.n)
  from unnest(p_batch.run_ids, p_batch.keys, p_batch.tenants) with ordinality as u (run_id, key, tenant_id, n)
  where u.n in (select unnest(p_places))
  returning batch_id into v_batch_id;
  v_problem := jsonb_strip_nulls(jsonb_build_object(
    'code', left(p_code, 64),
    'message', left(p_error, 500),
    'results', cardinality(p_places),
    'run_ids', (select (array_agg(p_batch.run_ids[n.place]::text))[1:3] from unnest(p_places) as n (place)),
    'retry_at', retention._iso(v_retry_at),
    'dead', v_is_dead
  ));
  -- Written by itself, it is announced.
  update retention.batch b set problems = jsonb_build_array(v_problem) where b.batch_id = v_batch_id;
  return v_problem;
end
$$;

CREATE FUNCTION retention._set_aside(p_batch retention.batch, p_error text) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_half bigint := p_batch.results / 2;
begin
  if v_half > 0 then
    perform retention._set_apart(p_batch, array(select generate_series(1, v_half)), '57014', p_error, false);
  end if;
  perform retention._set_apart(
    p_batch, array(select generate_series(v_half + 1, p_batch.results)), '57014', p_error, v_half = 0
  );
  delete from retention.batch b where b.batch_id = p_batch.batch_id;
end
$$;

CREATE FUNCTION retention._set_aside(p_verify_id uuid, p_bucket text, p_keys text[], p_bytes bigint[], p_modified timestamp with time zone[], p_etags text[]) RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    AS $$
begin
  insert into retention.stray (verify_id, bucket, key, bytes, modified_at, etag)
  select p_verify_id, p_bucket, k.key, k.bytes, k.modified_at, k.etag
  from unnest(p_keys, p_bytes, p_modified, p_etags) as k (key, bytes, modified_at, etag)
  where not exists (
    select
    from retention._live r
    where r.key_hash = retention._key_hash(k.key)
      and r.key = k.key collate "C"
      and r.bucket = p_bucket
  )
  on conflict do nothing;
end
$$;

CREATE FUNCTION retention._set_aside_between(p_from timestamp with time zone, p_to timestamp with time zone) RETURNS SETOF retention.run_id
    LANGUAGE sql STABLE
    AS $$
  select unnest(p.run_ids)
  from retention.surge_part p
  where p.oldest <= p_to
    and p.newest >= p_from
$$;

CREATE FUNCTION retention._set_aside_keys(p_bucket text, p_keys text[]) RETURNS text[]
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
declare
  v_found record;
begin
  select array_agg(k.key) as keys,
    array_agg(l.run_id) as run_ids,
    min(l.completed_at) as first_completed_at,
    max(l.completed_at) as completed_at
  into v_found
  from unnest(p_keys) as k (key)
  cross join lateral (
    select r.run_id, r.completed_at
    from retention._live r
    where r.key_hash = retention._key_hash(k.key)
      and r.key = k.key collate "C"
      and r.bucket = p_bucket
    offset 0
  ) l;
  return array(
    select distinct s.key
    from unnest(v_found.keys, v_found.run_ids) as s (key, run_id)
    -- As an expression it is hashed: as a join it would compare each with all.
    where (
      s.run_id in (
        select a.run_id
        from retention._set_aside_between(v_found.first_completed_at, v_found.completed_at) as a (run_id)
      )
    ) is true
  );
end
$$;

CREATE FUNCTION retention._setting_words(p_before jsonb, p_after jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
  select case
    when p_before is null then 'settings: written whole'
    when p_after is null then 'settings: removed'
    else concat_ws(
      ', ',
      case
        when p_before ->> 'halted_at' is null and p_after ->> 'halted_at' is not null
        then 'halted: ' || (p_after ->> 'halted_reason')
          || case when p_after ->> 'halted_by' <> p_after ->> 'halted_session' then format(' (in the name of %s)', p_after ->> 'halted_by') else '' end
        when p_before ->> 'halted_at' is not null and p_after ->> 'halted_at' is null
        then format('resumed (was halted: %s)', p_before ->> 'halted_reason')
      end,
      nullif(
        retention._differences(
          p_before,
          p_after,
          case
            when (p_before ->> 'halted_at' is null) <> (p_after ->> 'halted_at' is null)
            then '{halted_at, halted_by, halted_reason, halted_session}'
            else '{}'
          end::text[]
        ),
        'written again'
      )
    )
  end
$$;

CREATE FUNCTION retention._settle_canary(p_batch retention.batch, p_cleared text[], p_all boolean, p_failed jsonb, p_ends jsonb, p_request_ids text[], p_client text) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_key text := (select c.key from retention.canary c where c.batch_id = p_batch.batch_id);
  v_failed record;
begin
  if v_key is not null and (p_all or v_key = any (p_cleared)) then
    perform retention._write_receipts(
      'canary', p_batch.bucket, '{}', array[v_key], '{}', p_client, e.ends, e.versions, p_request_ids
    )
    from retention._ends('{}', array[E'\x02' || v_key], p_ends) e;
    update retention.canary c
    set settled_at = clock_timestamp(),
      asked_at = null
    where c.batch_id = p_batch.batch_id;
  elsif v_key is not null then
    select f.code, f.reason into v_failed from jsonb_to_recordset(p_failed) as f (code text, reason text) limit 1;
    perform retention._end_canary(
      p_batch.bucket, coalesce(v_failed.code, 'Unanswered'), coalesce(v_failed.reason, 'the store did not name it')
    );
  end if;
  update retention.batch b
  set lease = null,
    given_back = p_batch.lease,
    ms = extract(epoch from clock_timestamp() - b.leased_at) * 1000,
    settled_at = clock_timestamp(),
    product = left(p_client, 100),
    settled_session = session_user
  where b.batch_id = p_batch.batch_id;
end
$$;

CREATE FUNCTION retention._settled_before(p_batch_id bigint, p_lease uuid) RETURNS TABLE(settled boolean, cleared integer, stamped integer, failed integer, dead integer, retry_at timestamp with time zone, problems jsonb)
    LANGUAGE plpgsql STABLE
    AS $$
#variable_conflict use_column
begin
  return query
  select true, b.cleared, b.stamped, b.failed, b.dead,
    (
      select min((j.problem ->> 'retry_at')::timestamptz)
      from jsonb_array_elements(b.problems) as j (problem)
    ),
    coalesce(b.problems, '[]')
  from retention.batch b
  where b.batch_id = p_batch_id
    and b.given_back = p_lease
    and b.settled_at is not null;
  if not found then
    return query select false, 0, 0, 0, 0, null::timestamptz, '[]'::jsonb;
  end if;
end
$$;

CREATE FUNCTION retention._sharer(p_run_id retention.run_id, p_bucket text, p_key text) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  -- Ordered by the run id with a limit, a plan without sorts would walk all runs in the order of their ids.
  select min(o.run_id::text)
  from retention._live o
  where (select s.check_shared_objects from retention.setting s)
    and o.key_hash = retention._key_hash(p_key)
    and o.key = p_key collate "C"
    and o.bucket = p_bucket
    and o.run_id <> p_run_id
    and (
      not o.is_due
      or exists (select from retention._part_of(o.run_id)) and not exists (select from retention._part_of(p_run_id))
    )
$$;

CREATE FUNCTION retention._sharer_at(p_run_id retention.run_id, p_bucket text, p_key text, p_setting jsonb, p_at timestamp with time zone) RETURNS text
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    AS $$
declare
  v_other record;
  v_due_at timestamptz;
begin
  if not (p_setting ->> 'check_shared_objects')::boolean or not retention._can_look() then
    return null;
  end if;
  for v_other in
    select l.run_id, l.tenant_id::text as tenant_id, l.completed_at, l.retain_until::timestamptz as retain_until, l.due_at
    from retention._live l
    where l.key_hash = retention._key_hash(p_key)
      and l.key = p_key collate "C"
      and l.bucket = p_bucket
      and l.run_id <> p_run_id
    limit 1000
  loop
    v_due_at := case
      when v_other.due_at is not null
      then greatest(
        least(v_other.completed_at, timestamptz '290000-01-01 00:00Z')
          + retention._in_seconds((select p.retain from retention._policy_at(v_other.tenant_id, p_at) p)),
        v_other.retain_until
      )
    end;
    if v_due_at is null
      or v_due_at >= p_at
      or retention._holds_at(
        v_other.run_id, v_other.tenant_id, p_bucket, p_key, (p_setting ->> 'release_spread')::interval, p_at
      ) is not null
    then
      return format('it shared its object with run %s, which %s', v_other.run_id,
        case when v_due_at < p_at then 'was held' else 'was not due' end);
    end if;
  end loop;
  return null;
end
$$;

CREATE FUNCTION retention._shown(p_value text) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN COALESCE(NULLIF("left"(p_value, 200), ''::text), 'none'::text);

CREATE FUNCTION retention._some_tenant_ids(p_most integer) RETURNS SETOF retention.tenant_id
    LANGUAGE plpgsql STABLE ROWS 250
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    AS $$
begin
  return query
  select null::retention.tenant_id
  where exists (
    select
    from retention._live r
    where r.is_candidate
      and r.tenant_id is null
  )
  union all
  (
    -- Read no further than its limit.
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
    )
    select n.tenant_id::retention.tenant_id
    from name n
    where n.tenant_id is not null
    limit p_most
  )
  limit p_most;
end
$$;

CREATE FUNCTION retention._sort_out(p_batch retention.batch, p_spared bigint[], p_failed bigint[], p_codes text[], p_errors text[], p_maybe_shared bigint[] DEFAULT NULL::bigint[]) RETURNS jsonb
    LANGUAGE plpgsql
    AS $$
declare
  v_problems jsonb := '[]';
  v_kind record;
  v_kept retention.batch;
begin
  for v_kind in
    select f.code, min(f.error) as error, array_agg(f.n order by f.n) as places
    from unnest(p_failed, p_codes, p_errors) as f (n, code, error)
    group by f.code
    order by f.code
  loop
    -- Names and rights that are missing are the schema's fault and not the result's.
    v_problems := v_problems
      || retention._set_apart(p_batch, v_kind.places, v_kind.code, v_kind.error, v_kind.code !~ '^(42|3D|3F|28)');
  end loop;
  v_kept := retention._without(p_batch, p_spared || p_failed);
  perform retention._note_left(p_batch, array(select p_batch.run_ids[n] from unnest(p_spared || p_failed) n));
  update retention.batch b
  set results = v_kept.results,
    run_ids = v_kept.run_ids,
    keys = v_kept.keys,
    tenants = v_kept.tenants,
    etags = v_kept.etags,
    spared = b.spared + cardinality(p_spared),
    failed = b.failed + cardinality(p_failed),
    lease = case when v_kept.results > 0 then b.lease end,
    ms = case when v_kept.results > 0 then b.ms else 0 end,
    settled_at = case when v_kept.results > 0 then null else clock_timestamp() end
  where b.batch_id = p_batch.batch_id;
  if cardinality(coalesce(p_maybe_shared, p_spared)) > 0
    and (select s.check_shared_objects from retention.setting s)
  then
    perform retention._note_shared_objects(p_batch, coalesce(p_maybe_shared, p_spared));
  end if;
  return v_problems;
end
$$;

CREATE FUNCTION retention._spare_held(p_batch retention.batch, p_spared bigint[], p_keys text[], OUT spared bigint[], OUT keys text[]) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_held text[];
begin
  spared := p_spared;
  keys := p_keys;
  if not exists (select from retention.held_object) then
    return;
  end if;
  v_held := array(
    select k.key
    from unnest(p_keys) as k (key)
    where retention._is_held_object(p_batch.bucket, k.key)
  );
  if v_held = '{}' then
    return;
  end if;
  keys := array(select k.key from unnest(p_keys) as k (key) where k.key collate "C" not in (select unnest(v_held)));
  spared := array(
    select n.place from unnest(p_spared) as n (place)
    union
    select e.n from retention._results(p_batch) e where e.key collate "C" in (select unnest(v_held))
    order by 1
  );
end
$$;

CREATE FUNCTION retention._spare_more(p_batch retention.batch, p_spared bigint[], p_keys text[], OUT spared bigint[], OUT keys text[], OUT etags text[]) RETURNS record
    LANGUAGE plpgsql
    AS $$
declare
  v_kept text[] := '{}';
  v_odd text[] := '{}';
  v_key text;
begin
  spared := p_spared;
  keys := p_keys;
  if cardinality(p_keys) > 0 and exists (select from retention.keeper) then
    with kept as (
      select k.key, (array_agg(k.kept_by order by k.until desc))[1] as kept_by, max(k.until) as until
      from retention._kept(p_batch.bucket, p_keys, true) k
      group by k.key
    ),
    noted as (
      insert into retention.spared_object as s (bucket, key, etag, kept_by, until)
      select p_batch.bucket, k.key, '', k.kept_by, k.until
      from kept k
      on conflict (bucket, key, etag) do update
      set kept_by = excluded.kept_by,
        until = excluded.until,
        noted_at = now()
    )
    select coalesce(array_agg(k.key), '{}') into v_kept from kept k;
  end if;
  if '!' = any (p_batch.etags) then
    v_odd := array(
      select e.key
      from retention._conditional_results(p_batch) e
      where e.etag = '!'
        and e.key collate "C" in (select unnest(p_keys) collate "C")
    );
    perform retention._note_changed(p_batch, v_odd);
  end if;
  if cardinality(v_kept) + cardinality(v_odd) > 0 then
    spared := p_spared || array(
      select e.n
      from retention._results(p_batch) e
      where e.key collate "C" in (select unnest(v_kept || v_odd) collate "C")
        and e.n not in (select unnest(p_spared))
    );
    if cardinality(v_kept) + cardinality(v_odd) <= 20 then
      foreach v_key in array v_kept || v_odd loop
        keys := array_remove(keys, v_key);
      end loop;
    else
      keys := array(
        select k.key from unnest(p_keys) as k (key) where k.key collate "C" not in (select unnest(v_kept || v_odd) collate "C")
      );
    end if;
  end if;
  if p_batch.etags is not null then
    -- Once each: of a key that is named twice, both have one condition.
    select coalesce(array_agg(o.key), '{}'), array_agg(o.etag)
    into keys, etags
    from (
      select distinct on (e.key collate "C") e.key, e.etag
      from retention._conditional_results(p_batch) e
      where e.key collate "C" in (select unnest(keys) collate "C")
        and e.n not in (select unnest(spared))
    ) o;
  end if;
end
$$;

CREATE FUNCTION retention._spare_set_aside(p_batch retention.batch, p_spared bigint[], p_keys text[], p_shares boolean, OUT spared bigint[], OUT keys text[]) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_set_aside text[];
begin
  spared := p_spared;
  keys := p_keys;
  if p_shares is not true or not exists (select from retention.surge_part) then
    return;
  end if;
  v_set_aside := retention._set_aside_keys(p_batch.bucket, array(select distinct k.key from unnest(p_keys) as k (key)));
  if v_set_aside = '{}' then
    return;
  end if;
  keys := array(
    select k.key from unnest(p_keys) as k (key) where k.key collate "C" not in (select unnest(v_set_aside) collate "C")
  );
  spared := array(
    select n.place from unnest(p_spared) as n (place)
    union
    select e.n from retention._results(p_batch) e where e.key collate "C" in (select unnest(v_set_aside) collate "C")
    order by 1
  );
end
$$;

CREATE FUNCTION retention._spare_strays(p_verify_id uuid) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_page record;
begin
  for v_page in
    select o.bucket, array_agg(o.key) as keys
    from (
      select s.bucket, s.key, row_number() over (partition by s.bucket order by s.key) / 1000 as page
      from retention.stray s
      where s.verify_id = p_verify_id
        and s.kind = 'orphan'
    ) o
    group by o.bucket, o.page
  loop
    update retention.stray s
    set kind = null
    where s.verify_id = p_verify_id
      and s.bucket = v_page.bucket
      and s.key in (
        select r.key collate "C" from retention._orphan_reasons(v_page.bucket, v_page.keys) r where r.reason is not null
      );
  end loop;
end
$$;

CREATE FUNCTION retention._spared_now() RETURNS TABLE(kept bigint, changed bigint)
    LANGUAGE sql STABLE
    AS $$
  select count(*) filter (where n.kept_by is not null) as kept,
    count(*) filter (where n.kept_by is null) as changed
  from (
    select s.kept_by
    from retention.spared_object s
    where s.until > now()
    limit 10000
  ) n
$$;

CREATE FUNCTION retention._stamp(p_bucket text, p_run_ids retention.run_id[], p_keys text[], p_oldest timestamp with time zone, p_newest timestamp with time zone) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '500ms'
    SET enable_hashjoin TO 'on'
    AS $$
declare
  v_default_bucket text := (select s.default_bucket from retention.setting s);
  v_path text;
  v_completed text;
  v_is_dated boolean;
  v_has_rules boolean;
  v_has_triggers boolean;
  v_is_young boolean;
  v_stamped bigint;
begin
  select retention._application_path(a.application_path),
    coalesce(a.columns -> 'status' ->> 'completed', 'COMPLETED'),
    a.columns -> 'updated_at' ->> 'name' is not null,
    c.relhasrules,
    c.relhastriggers or c.relhassubclass or c.relkind = 'p',
    c.reltuples < 10000
  into v_path, v_completed, v_is_dated, v_has_rules, v_has_triggers, v_is_young
  from retention.adapter a
  left join pg_class c on c.oid = a.table_oid;
  if v_has_rules then
    return retention._stamp_under_rules(
      p_bucket, p_run_ids, p_keys, p_oldest, p_newest, v_path, v_completed, v_is_dated
    );
  elsif v_has_triggers then
    return retention._stamp_under_triggers(
      p_bucket, p_run_ids, p_keys, p_oldest, p_newest, v_path, v_completed, v_is_dated, v_default_bucket
    );
  end if;
  if v_is_young then
    -- The table may have grown since its statistics, and a plan that was kept for a few rows reads all of them.
    perform set_config('plan_cache_mode', 'force_custom_plan', true);
  end if;
  perform set_config('search_path', v_path, true);
  -- The bucket as _bucket has it, which would be taken for more selective than it is.
  -- The run id is the only condition that an index can answer: what statistics make of the others, or of an index
  -- of the application, changes no plan.
  if v_is_dated then
    update retention.result r
    set cleared_at = pg_catalog.now(),
      updated_at = pg_catalog.now()
    from unnest(p_run_ids, p_keys) as g (run_id, key)
    where r.run_id operator(pg_catalog.=) g.run_id
      and (
        r.key operator(pg_catalog.=) retention._unpack_key(g.key, g.run_id::pg_catalog.text) collate pg_catalog."C"
        and coalesce(case when r.bucket operator(pg_catalog.<>) '' then r.bucket end, v_default_bucket)
          operator(pg_catalog.=) p_bucket
        and r.status::pg_catalog.text operator(pg_catalog.=) v_completed
        and r.completed_at operator(pg_catalog.>=) p_oldest
        and r.completed_at operator(pg_catalog.<=) p_newest
        and r.cleared_at is null
      ) is true;
  else
    update retention.result r
    set cleared_at = pg_catalog.now()
    from unnest(p_run_ids, p_keys) as g (run_id, key)
    where r.run_id operator(pg_catalog.=) g.run_id
      and (
        r.key operator(pg_catalog.=) retention._unpack_key(g.key, g.run_id::pg_catalog.text) collate pg_catalog."C"
        and coalesce(case when r.bucket operator(pg_catalog.<>) '' then r.bucket end, v_default_bucket)
          operator(pg_catalog.=) p_bucket
        and r.status::pg_catalog.text operator(pg_catalog.=) v_completed
        and r.completed_at operator(pg_catalog.>=) p_oldest
        and r.completed_at operator(pg_catalog.<=) p_newest
        and r.cleared_at is null
      ) is true;
  end if;
  get diagnostics v_stamped = row_count;
  set constraints all immediate;
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  perform retention._check_table();
  return v_stamped;
end
$$;

CREATE FUNCTION retention._stamp_or_remember(p_batch retention.batch, p_run_ids retention.run_id[], p_keys text[], p_tenants text[], OUT stamped bigint, OUT left_out integer[], OUT failed bigint, OUT dead bigint, OUT retry_at timestamp with time zone, OUT problems jsonb) RETURNS record
    LANGUAGE plpgsql
    AS $$
declare
  v_most integer := (select s.most from retention.stamping s);
  v_started_at timestamptz := clock_timestamp();
  v_code text;
  v_parts record;
  v_codes text[];
  v_messages text[];
begin
  stamped := 0;
  left_out := '{}';
  failed := 0;
  dead := 0;
  problems := '[]';
  if cardinality(p_run_ids) = 0 then
    return;
  end if;
  if v_most is null or cardinality(p_run_ids) <= v_most then
    begin
      stamped := retention._stamp(p_batch.bucket, p_run_ids, p_keys, p_batch.oldest, p_batch.newest);
    exception
      when query_canceled or assert_failure or others then
        get stacked diagnostics v_code = returned_sqlstate;
    end;
  end if;
  if v_code is null and (v_most is null or cardinality(p_run_ids) <= v_most) then
    if v_most is not null or clock_timestamp() - v_started_at > interval '2 seconds' then
      perform retention._note_pace(cardinality(p_run_ids), clock_timestamp() - v_started_at);
    end if;
    if stamped >= cardinality(p_run_ids) then
      return;
    end if;
    -- What is gone, cleared or completed again, or points elsewhere, is done; what is still as it was is not.
    left_out := array(
      select retention._still_live(p_batch.bucket, p_run_ids, p_keys, p_batch.oldest, p_batch.newest)
    );
    v_codes := array_fill('StampSwallowed'::text, array[cardinality(left_out)]);
    v_messages := array_fill(
      'a trigger, a rule or a row-level security policy of the table swallows the stamp'::text,
      array[cardinality(left_out)]
    );
  else
    select *
    into strict v_parts
    from retention._stamp_parts(
      p_batch, p_run_ids, p_keys, v_code, coalesce(v_most / 5, 1000),
      case when v_code = '57014' then clock_timestamp() else retention._stamp_until() end
    );
    stamped := v_parts.stamped;
    left_out := v_parts.places;
    v_codes := v_parts.codes;
    v_messages := v_parts.messages;
    if v_code = '57014' then
      perform retention._note_pace(cardinality(p_run_ids), (clock_timestamp() - v_started_at) * 2);
    elsif stamped > 0 and v_most is not null then
      perform retention._note_pace(stamped, clock_timestamp() - v_started_at);
    end if;
  end if;
  if cardinality(left_out) > 0 then
    select r.failed, r.dead, r.retry_at, r.problems
    into strict failed, dead, retry_at, problems
    from retention._remember(p_batch, p_run_ids, p_keys, p_tenants, left_out, v_codes, v_messages, stamped = 0) r;
  end if;
end
$$;

CREATE FUNCTION retention._stamp_parts(p_batch retention.batch, p_run_ids retention.run_id[], p_keys text[], p_code text, p_part integer, p_until timestamp with time zone, OUT stamped bigint, OUT places integer[], OUT codes text[], OUT messages text[]) RETURNS record
    LANGUAGE plpgsql
    AS $$
declare
  v_all integer[] := array(select generate_series(1, cardinality(p_run_ids)));
  v_size integer := greatest(p_part, 1);
  v_from integer[] := '{}';
  v_to integer[] := '{}';
  v_first integer;
  v_last integer;
  v_middle integer;
  v_some integer[];
  v_run_ids retention.run_id[];
  v_keys text[];
  v_stamped bigint;
  v_code text;
  v_message text;
begin
  stamped := 0;
  places := '{}';
  codes := '{}';
  messages := '{}';
  if p_code = '55P03' then
    v_message := 'another session has locked the row';
    begin
      v_all := array(
        select retention._still_live(p_batch.bucket, p_run_ids, p_keys, p_batch.oldest, p_batch.newest, true)
      );
      v_some := array(
        select n
        from retention._still_live(p_batch.bucket, p_run_ids, p_keys, p_batch.oldest, p_batch.newest) n
        where n <> all (v_all)
      );
    exception
      when query_canceled or lock_not_available then
        v_message := 'another session has locked the table';
        v_some := v_all;
        v_all := '{}';
    end;
    places := v_some;
    codes := array_fill(p_code, array[cardinality(v_some)]);
    messages := array_fill(v_message, array[cardinality(v_some)]);
  elsif p_code is not null then
    v_size := least(v_size, (cardinality(v_all) + 1) / 2);
  end if;
  -- The last part first, for they are taken from the end.
  for v_first in select n from generate_series(1, cardinality(v_all), greatest(v_size, 1)) n order by n desc loop
    v_from := v_from || v_first;
    v_to := v_to || least(v_first + v_size - 1, cardinality(v_all));
  end loop;

  while cardinality(v_from) > 0 loop
    v_first := v_from[cardinality(v_from)];
    v_last := v_to[cardinality(v_to)];
    v_from := trim_array(v_from, 1);
    v_to := trim_array(v_to, 1);
    v_some := v_all[v_first:v_last];
    v_code := null;
    if clock_timestamp() >= p_until then
      v_code := 'StampLater';
      v_message := 'there was no time left to stamp it';
    else
      v_run_ids := array(select p_run_ids[u.n] from unnest(v_some) with ordinality as u (n, i) order by u.i);
      v_keys := array(select p_keys[u.n] from unnest(v_some) with ordinality as u (n, i) order by u.i);
      begin
        v_stamped := retention._stamp(p_batch.bucket, v_run_ids, v_keys, p_batch.oldest, p_batch.newest);
        stamped := stamped + v_stamped;
        if v_stamped < cardinality(v_some) then
          v_some := array(
            select v_some[n]
            from retention._still_live(p_batch.bucket, v_run_ids, v_keys, p_batch.oldest, p_batch.newest) n
          );
          v_code := 'StampSwallowed';
          v_message := 'a trigger, a rule or a row-level security policy of the table swallows the stamp';
        end if;
      exception
        when query_canceled or assert_failure or others then
          get stacked diagnostics v_code = returned_sqlstate, v_message = message_text;
          if v_code = '57014' then
            p_until := clock_timestamp();
          elsif v_first < v_last then
            v_middle := (v_first + v_last) / 2;
            v_from := v_from || array[v_middle + 1, v_first];
            v_to := v_to || array[v_last, v_middle];
            v_code := null;
          end if;
      end;
    end if;
    if v_code is not null then
      places := places || v_some;
      codes := codes || array_fill(v_code, array[cardinality(v_some)]);
      messages := messages || array_fill(v_message, array[cardinality(v_some)]);
    end if;
  end loop;
end
$$;

CREATE FUNCTION retention._stamp_passes(p_code text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (retention._is_passing(p_code) OR (p_code = 'XX000'::text));

CREATE TABLE retention.stamping (
    singleton boolean DEFAULT true NOT NULL,
    tried_for text,
    failed_since timestamp with time zone,
    code text,
    message text,
    context text,
    tries integer DEFAULT 0 NOT NULL,
    try_at timestamp with time zone,
    unknown_for text,
    unknown_at timestamp with time zone,
    most integer,
    CONSTRAINT at_least_one_stamp_fits CHECK ((most > 0)),
    CONSTRAINT there_is_one_stamping_row CHECK (singleton),
    CONSTRAINT what_fails_has_a_code CHECK (((failed_since IS NULL) = (code IS NULL)))
);

COMMENT ON TABLE retention.stamping IS 'one row: whether stamps work, and how many are written in time';

COMMENT ON COLUMN retention.stamping.tried_for IS 'the view and the installation that a trial last looked at; others want another trial';

COMMENT ON COLUMN retention.stamping.failed_since IS 'since when no row could be stamped: the gate is closed; null: it is not known that stamps fail';

COMMENT ON COLUMN retention.stamping.try_at IS 'when a single row is tried again';

COMMENT ON COLUMN retention.stamping.unknown_for IS 'the view and the installation of the trial of unknown_at';

COMMENT ON COLUMN retention.stamping.unknown_at IS 'when a trial last told nothing, because its rows were locked: a claim asks for the next one ten seconds later';

COMMENT ON COLUMN retention.stamping.most IS 'how many results are stamped in time, where the application''s triggers are slow; null: a whole batch is';

CREATE FUNCTION retention._stamp_remedy(p_stamping retention.stamping) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select case
    when p_stamping.code is null then null
    when left(p_stamping.code, 2) in ('42', '3F') and p_stamping.code <> '42501'
    then format(
      'name the schema in the application''s trigger, or let it look where the application does: update retention.adapter set application_path = ''...'' (now: %s)',
      a.application_path
    )
    when p_stamping.code = '42501'
    then format('grant what the message names to %I, who owns the schema retention', o.nspowner::regrole::text)
    when p_stamping.code = 'StampSwallowed'
    then 'let the trigger, rule or policy of the table pass an update that writes the cleared-at column alone'
    else 'let the table''s triggers and constraints take an update that writes the cleared-at column alone'
  end || '; it is tried again by itself, and nothing is deleted meanwhile'
  from retention.adapter a
  cross join pg_namespace o
  where o.nspname = 'retention'
$$;

CREATE FUNCTION retention._stamp_under_rules(p_bucket text, p_run_ids retention.run_id[], p_keys text[], p_oldest timestamp with time zone, p_newest timestamp with time zone, p_path text, p_completed text, p_is_dated boolean) RETURNS bigint
    LANGUAGE plpgsql
    AS $_$
declare
  v_before integer[] := array(select retention._still_live(p_bucket, p_run_ids, p_keys, p_oldest, p_newest));
  v_update text := format(
    'update retention.result r
    set cleared_at = pg_catalog.now()%s
    from pg_catalog.unnest($1) as g (n)
    where r.run_id operator(pg_catalog.=) ($2)[g.n]
      and pg_catalog.num_nulls(r.cleared_at) operator(pg_catalog.=) 1',
    case when p_is_dated then ', updated_at = pg_catalog.now()' end
  );
begin
  perform set_config('search_path', p_path, true);
  execute v_update using v_before, p_run_ids;
  set constraints all immediate;
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  perform retention._check_table();
  return cardinality(v_before)
    - cardinality(array(select retention._still_live(p_bucket, p_run_ids, p_keys, p_oldest, p_newest)));
end
$_$;

CREATE FUNCTION retention._stamp_under_triggers(p_bucket text, p_run_ids retention.run_id[], p_keys text[], p_oldest timestamp with time zone, p_newest timestamp with time zone, p_path text, p_completed text, p_is_dated boolean, p_default_bucket text) RETURNS bigint
    LANGUAGE plpgsql
    AS $_$
declare
  v_update text := format(
    $update$
    with stamped as (
      update retention.result r
      set cleared_at = pg_catalog.now()%s
      from unnest($1, $2) as g (run_id, key)
      where r.run_id operator(pg_catalog.=) g.run_id
        and (
          r.key operator(pg_catalog.=) retention._unpack_key(g.key, g.run_id::pg_catalog.text) collate pg_catalog."C"
          and coalesce(case when r.bucket operator(pg_catalog.<>) '' then r.bucket end, $7)
            operator(pg_catalog.=) $3
          and r.status::pg_catalog.text operator(pg_catalog.=) $4
          and r.completed_at operator(pg_catalog.>=) $5
          and r.completed_at operator(pg_catalog.<=) $6
          and r.cleared_at is null
        ) is true
      returning r.cleared_at
    )
    select pg_catalog.count(s.cleared_at) from stamped s
    $update$,
    case when p_is_dated then ', updated_at = pg_catalog.now()' end
  );
  v_stamped bigint;
begin
  perform set_config('search_path', p_path, true);
  execute v_update
  into v_stamped
  using p_run_ids, p_keys, p_bucket, p_completed, p_oldest, p_newest, p_default_bucket;
  set constraints all immediate;
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  perform retention._check_table();
  return v_stamped;
end
$_$;

CREATE FUNCTION retention._stamp_until() RETURNS timestamp with time zone
    LANGUAGE sql
    AS $$
  select least(
    clock_timestamp() + interval '10 seconds',
    statement_timestamp() + 0.6 * nullif(current_setting('statement_timeout')::interval, '0')
  )
$$;

CREATE FUNCTION retention._standing(p_run_id retention.run_id, p_completed_at timestamp with time zone, p_work text, p_is_parked boolean, OUT category text, OUT state text) RETURNS record
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
declare
  v_live record;
begin
  select l.* into v_live from retention._live l where l.run_id = p_run_id and l.completed_at = p_completed_at limit 1;
  state := null;
  if not found or not v_live.is_candidate or not v_live.has_place and v_live.bucket is not null then
    category := 'without_place';
  elsif p_work in ('dead', 'in flight') then
    category := case p_work when 'dead' then 'dead' else 'not_yet' end;
    state := p_work;
  elsif v_live.bucket is null then
    category := 'without_place';
  elsif v_live.held or exists (select from retention.held_object) and retention._is_held_object(v_live.bucket, v_live.key) then
    category := 'held';
  elsif (select s.check_shared_objects from retention.setting s) and exists (
    select
    from retention._live o
    where o.key_hash = v_live.key_hash
      and o.key = v_live.key collate "C"
      and o.bucket = v_live.bucket
      and o.run_id <> p_run_id
      and not o.is_due
  ) then
    category := 'shared';
  elsif p_is_parked then
    category := 'surge';
  else
    if exists (select from retention.keeper) or exists (select from retention.spared_object) then
      select case w.state when 'kept' then 'kept' when 'object changed' then 'spared' end
      into category
      from retention._why_spared(p_run_id, v_live.bucket, v_live.key, null) w;
    end if;
    if category is null then
      category := 'not_yet';
      state := coalesce(p_work, 'due');
    end if;
  end if;
exception
  when others then
    if retention._is_passing(sqlstate) or sqlstate in ('42P01', '42703', '42883') then
      raise;
    end if;
    category := 'unreadable';
    state := null;
end
$$;

CREATE TABLE retention.standing_verify (
    bucket text NOT NULL,
    every interval NOT NULL,
    first_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    asked_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    next_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    rechecked_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    verify_id uuid,
    began_at timestamp with time zone,
    pages bigint DEFAULT 0 NOT NULL,
    expected bigint DEFAULT 0 NOT NULL,
    listed_now bigint DEFAULT 0 NOT NULL,
    found bigint DEFAULT 0 NOT NULL,
    finished_at timestamp with time zone,
    listed bigint DEFAULT 0 NOT NULL,
    gone bigint DEFAULT 0 NOT NULL,
    returned bigint DEFAULT 0 NOT NULL,
    orphans bigint DEFAULT 0 NOT NULL,
    orphan_bytes bigint DEFAULT 0 NOT NULL,
    code text,
    problem text,
    problem_at timestamp with time zone,
    CONSTRAINT a_standing_problem_has_a_code CHECK (((code IS NULL) = (problem IS NULL)))
)
WITH (fillfactor='50');

COMMENT ON TABLE retention.standing_verify IS 'one row for each bucket that listeners verify all the time (RETENTION_VERIFY_DAYS): how far they are, and what drift they found';

COMMENT ON COLUMN retention.standing_verify.every IS 'so long after one verify of the bucket began, the next one begins';

COMMENT ON COLUMN retention.standing_verify.asked_at IS 'when a listener last asked for work there, to the hour; first_at: when one first did';

COMMENT ON COLUMN retention.standing_verify.next_at IS 'when the next step is to be done; a listener that is at one has until then';

COMMENT ON COLUMN retention.standing_verify.verify_id IS 'its run in retention.verify_run; null: none is under way. began_at: when it or the last one began';

COMMENT ON COLUMN retention.standing_verify.pages IS 'how many pages of the listing are compared; expected: about how many there are; listed_now: their objects';

COMMENT ON COLUMN retention.standing_verify.found IS 'live rows whose object is gone, found by the one under way; gone: by the last one that came to its end, without those that were stamped since';

COMMENT ON COLUMN retention.standing_verify.finished_at IS 'when one last came to its end; listed: objects that it was listed; returned: cleared rows whose object was there, without those that became work since';

COMMENT ON COLUMN retention.standing_verify.orphans IS 'objects older than a day that no row pointed at, as the last one found them; orphan_bytes: their size';

COMMENT ON COLUMN retention.standing_verify.code IS 'why the last step failed; null: it did not';

CREATE FUNCTION retention._standing_pause(p_standing retention.standing_verify) RETURNS interval
    LANGUAGE sql STABLE
    AS $$
  select least(
    greatest(
      (p_standing.began_at + p_standing.every * 0.9 - clock_timestamp())
        / greatest(p_standing.expected - p_standing.pages, p_standing.pages / 2, 1),
      interval '1 second'
    ),
    interval '1 minute'
  )
$$;

CREATE FUNCTION retention._state_at(p_run record, p_work record, p_setting jsonb, p_completed text, p_due_at timestamp with time zone, p_bucket text, p_holds jsonb, p_run_id retention.run_id, p_at timestamp with time zone, OUT state text, OUT because text) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_held text := retention._hold_in_force(p_holds, p_at);
  v_shared text := retention._sharer_at(p_run_id, p_bucket, p_run.key, p_setting, p_at);
begin
  if p_run.status is distinct from p_completed then
    state := 'not completed';
    because := format('its status is %s; only results of %s runs expire', coalesce(p_run.status, 'null'), p_completed);
  elsif p_run.completed_at is null or p_run.completed_at = '-infinity' then
    state := 'no date';
    because := format('the run is %s but has no completion date, so nothing says when it falls due', p_completed);
  elsif p_run.completed_at > p_at then
    state := 'not completed';
    because := format('the run completed later, at %s', retention._iso(p_run.completed_at));
  elsif coalesce(p_run.key, '') = '' then
    state := 'no key';
    because := 'the run names no object, so there is nothing to delete';
  elsif p_work.state in ('dead', 'in flight') then
    state := p_work.state;
    because := p_work.because;
  elsif p_bucket is null then
    state := 'no bucket';
    because := 'the run names no bucket, and there was no single default (S3_RESULT_BUCKET)';
  elsif v_held is not null then
    state := 'held';
    because := v_held;
  elsif p_holds is not null then
    state := 'coming back';
    because := format(
      'a hold on its tenant had ended; its results came back over %s, this one at %s',
      p_setting ->> 'release_spread',
      retention._iso(
        (select max((h ->> 'ends')::timestamptz) from jsonb_array_elements(p_holds) h where h ->> 'on' = 'tenant')
          + (p_setting ->> 'release_spread')::interval * retention._place_in_line(p_run_id::text)
      )
    );
  elsif p_due_at is null then
    state := 'kept';
    because := 'there was no default policy, so nothing was due';
  elsif p_due_at >= p_at and p_work.early is null then
    state := 'kept';
  elsif v_shared is not null then
    state := 'shared';
    because := v_shared;
  elsif p_work.surge_id is not null then
    state := 'set aside';
    because := format('it was late: due since %s and unknown to the last complete walk; it was set aside%s',
      retention._iso(p_due_at), coalesce(' in surge ' || nullif(p_work.surge_id, 0), ''));
  elsif p_setting ->> 'halted_at' is not null then
    state := 'halted';
    because := format('it was due since %s, but everything was halted by %s since %s: %s', retention._iso(p_due_at),
      p_setting ->> 'halted_by', retention._iso((p_setting ->> 'halted_at')::timestamptz), p_setting ->> 'halted_reason');
  elsif not (p_setting ->> 'enabled')::boolean then
    state := 'disabled';
    because := format('it was due since %s, but retention was switched off', retention._iso(p_due_at));
  elsif p_work.state is not null then
    state := p_work.state;
    because := p_work.because;
  else
    state := 'due';
  end if;
end
$$;

CREATE FUNCTION retention._state_of_batch(p_batch retention.batch, p_bucket retention.bucket, p_run_id text, OUT state text, OUT because text) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $_$
begin
  if p_batch.deleted_at is not null then
    state := case when p_batch.dead_at is null then 'failed' else 'dead' end;
    because := format(
      'S3 deleted its object at %s, but the run could not be stamped: %s (%s); %s',
      retention._iso(p_batch.deleted_at), p_batch.code, p_batch.error,
      case
        when p_batch.dead_at is null then format('it is stamped again from %s on, without asking S3', retention._iso(p_batch.visible_at))
        else format('fix the cause and revive with: retention retry --run %s', p_run_id)
      end
    );
  elsif p_batch.dead_at is not null then
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
      '%s %s%s; next attempt at %s',
      -- An SQLSTATE has five places, one of them a digit; EPIPE is none.
      case when p_batch.code in ('ClaimLost', 'ClaimSuspect') or p_batch.code ~ '^(?=.*[0-9])[0-9A-Z]{5}$' then 'looking at it again ended with' else 'S3 answered' end,
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
        when p_batch.late_since = 'infinity' then '; it was late: it was found before any walk had been complete'
        when p_batch.late_since is not null
        then format('; it was late: due before the walk that began at %s, which did not find it', retention._iso(p_batch.late_since))
        else ''
      end
      || case
        when p_batch.early is not null
        then format(', earlier than its policy says: a person confirmed a cutoff of %s', retention._in_days(p_batch.early))
        else ''
      end
      || case
        when p_bucket.paused_until > now()
        then format('; its bucket pauses until %s after %s', retention._iso(p_bucket.paused_until), p_bucket.pause_code)
        when retention._is_cooling(p_batch.flagged_at, p_batch.visible_at, p_batch.failed_at, p_batch.early)
        then format('; it waits for its cool-off until %s', retention._iso(p_batch.visible_at))
        when p_batch.visible_at > now() then format('; next attempt at %s', retention._iso(p_batch.visible_at))
        else ''
      end;
  end if;
end
$_$;

CREATE FUNCTION retention._status_words(p_table regclass, p_name text) RETURNS TABLE(word text, results bigint)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return query execute format(
    'select r.word, count(*) from (select %I::text as word from %s limit 10000) r where r.word is not null group by 1 order by 2 desc, 1 limit 20',
    p_name, p_table
  );
  return query
  select e.enumlabel::text, 0::bigint
  from retention._column_type(p_table, p_name) c
  join pg_enum e on e.enumtypid = c.oid;
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

CREATE FUNCTION retention._still_live(p_bucket text, p_run_ids retention.run_id[], p_keys text[], p_oldest timestamp with time zone, p_newest timestamp with time zone, p_and_lock boolean DEFAULT false) RETURNS SETOF integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '500ms'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    AS $$
declare
  v_default_bucket text := (select s.default_bucket from retention.setting s);
  v_completed text := (select coalesce(a.columns -> 'status' ->> 'completed', 'COMPLETED') from retention.adapter a);
begin
  if p_and_lock then
    return query
    select g.n::integer
    from unnest(p_run_ids, p_keys) with ordinality as g (run_id, key, n)
    join retention.result r on r.run_id = g.run_id
    where (
        r.key = retention._unpack_key(g.key, g.run_id::text) collate "C"
        and retention._bucket(r.bucket, v_default_bucket) = p_bucket
        and r.status::text = v_completed
        and r.completed_at between p_oldest and p_newest
        and r.cleared_at is null
      ) is true
    for no key update of r skip locked;
  else
    return query
    select g.n::integer
    from unnest(p_run_ids, p_keys) with ordinality as g (run_id, key, n)
    join retention.result r on r.run_id = g.run_id
    where (
        r.key = retention._unpack_key(g.key, g.run_id::text) collate "C"
        and retention._bucket(r.bucket, v_default_bucket) = p_bucket
        and r.status::text = v_completed
        and r.completed_at between p_oldest and p_newest
        and r.cleared_at is null
      ) is true;
  end if;
end
$$;

CREATE FUNCTION retention._stored_settings() RETURNS TABLE(name text, variable text, value text)
    LANGUAGE sql STABLE
    AS $$
  select v.name, v.variable, v.value
  from retention.setting s
  cross join retention.policy p
  cross join lateral (
    values
      ('enabled', 'DPP_RETENTION_ENABLED', s.enabled::text),
      ('retain', 'DPP_RETENTION_DAYS', p.retain::text),
      ('loop_interval', 'DPP_RETENTION_LOOP_INTERVAL_SECONDS', s.loop_interval::text),
      ('batch_size', 'DPP_RETENTION_BATCH_SIZE', s.batch_size::text),
      ('default_bucket', 'S3_RESULT_BUCKET', s.default_bucket)
  ) as v (name, variable, value)
  where p.tenant_id = '*'
$$;

CREATE FUNCTION retention._subscription_of(p_table oid) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select s.subname
  from pg_subscription_rel r
  join pg_subscription s on s.oid = r.srsubid
  where r.srrelid in (select t.relid from pg_partition_tree(p_table) t union select p_table)
  limit 1
$$;

CREATE FUNCTION retention._surge_at(p_run_id retention.run_id, p_completed_at timestamp with time zone, p_is_there boolean, p_flagged_at timestamp with time zone, p_at timestamp with time zone) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    AS $$
declare
  v_surge_id bigint;
  v_past record;
  v_flagged timestamptz[] := array[p_flagged_at];
begin
  select coalesce(p.surge_id, 0)
  into v_surge_id
  from retention.surge_part p
  left join retention.surge g on g.surge_id = p.surge_id
  where p_run_id = any (p.run_ids)
    and least(p.parked_at, g.found_at) <= p_at
  limit 1;
  if found then
    return v_surge_id;
  end if;
  for v_past in
    select p.state, p.batch_id, p.since, p.until
    from retention.past_work p
    where p.run_ids is not null
      and (not p_is_there or tstzrange(p.oldest, p.newest, '[]') @> p_completed_at)
      and p.until > p_at
      and p_run_id = any (p.run_ids)
  loop
    if v_past.state = 'set aside' and v_past.since <= p_at then
      return v_past.batch_id;
    end if;
    v_flagged := v_flagged || v_past.since;
  end loop;
  return (
    select g.surge_id
    from retention.surge_release r
    join retention.surge g on g.surge_id = r.surge_id
    where r.released_at = any (v_flagged)
      and r.released_at > p_at
      and g.found_at <= p_at
    order by r.released_at, g.surge_id
    limit 1
  );
end
$$;

CREATE FUNCTION retention._surge_rows(p_surge_id bigint) RETURNS TABLE(tenant_id text, bucket text, run_id retention.run_id, completed_at timestamp with time zone, due_at timestamp with time zone, is_due boolean)
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $$
#variable_conflict use_column
begin
  return query
  select u.tenant_id, p.bucket, u.run_id, l.completed_at, l.due_at, l.is_due
  from retention.surge_part p
  cross join lateral unnest(p.run_ids, p.tenants) as u (run_id, tenant_id)
  cross join lateral (
    select min(r.completed_at) as completed_at, max(r.due_at) as due_at, bool_or(r.is_due) as is_due
    from retention._live r
    where r.run_id = u.run_id
  ) l
  where p.surge_id = p_surge_id;
end
$$;

CREATE FUNCTION retention._surge_rows_at_once(p_surge_id bigint) RETURNS TABLE(tenant_id text, bucket text, run_id retention.run_id, completed_at timestamp with time zone, due_at timestamp with time zone, is_due boolean)
    LANGUAGE plpgsql STABLE
    SET enable_nestloop TO 'off'
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $$
#variable_conflict use_column
begin
  return query
  with listed as materialized (
    select u.tenant_id, p.bucket, u.run_id
    from retention.surge_part p
    cross join lateral unnest(p.run_ids, p.tenants) as u (run_id, tenant_id)
    where p.surge_id = p_surge_id
  ),
  found as materialized (
    select r.run_id::retention.run_id as run_id, min(r.completed_at) as completed_at, max(r.due_at) as due_at,
      bool_or(r.is_due) as is_due
    from retention._live r
    where r.run_id in (select s.run_id from listed s)
    group by r.run_id
  )
  select s.tenant_id, s.bucket, s.run_id, f.completed_at, f.due_at, f.is_due
  from listed s
  left join found f on f.run_id = s.run_id;
end
$$;

CREATE FUNCTION retention._table_faults(p_table regclass, p_found jsonb) RETURNS TABLE(code text, message text, hint text)
    LANGUAGE sql STABLE
    AS $$
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

CREATE FUNCTION retention._table_reasons() RETURNS TABLE(reason text, because text, remedy text)
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_table record;
  v_owner text;
begin
  select a.table_name,
    a.table_oid,
    to_regclass(a.table_name)::oid as named_oid,
    c.relrowsecurity as is_secured,
    exists (select from pg_subscription_rel) as is_subscribed,
    c.relhassubclass and c.relkind = 'r'
      or exists (select from pg_inherits i where i.inhrelid = a.table_oid)
      or exists (select from pg_class e where e.relname in ('pg_dist_partition', 'hypertable')) as may_be_unsupported,
    exists (
      select
      from unnest(a.index_marks) as m (mark)
      where not exists (
        select
        from pg_index i
        join pg_description d on d.objoid = i.indexrelid
          and d.classoid = 'pg_class'::regclass
          and d.objsubid = 0
        where i.indrelid = a.table_oid
          and i.indisvalid
          and d.description = m.mark
      )
    ) as lacks_index
  into v_table
  from retention.adapter a
  left join pg_class c on c.oid = a.table_oid;
  if v_table.named_oid is distinct from v_table.table_oid then
    reason := 'table replaced';
    because := case
      when v_table.named_oid is null then format('there is no table %s any more', v_table.table_name)
      else format('%s is another table than the one that was adopted', v_table.table_name)
    end
    || coalesce(
      format('; that one is called %s now', (select c.oid::regclass from pg_class c where c.oid = v_table.table_oid)), ''
    );
    remedy := 'retention migrate up (with RETENTION_TABLE, where it has another name now)';
    return next;
    return;
  end if;
  if v_table.is_secured then
    select pg_get_userbyid(v.relowner)
    into v_owner
    from pg_class v
    where v.oid = to_regclass('retention.result')
      and retention._hides_rows(v_table.table_oid, v.relowner);
    if v_owner is not null then
      reason := 'hidden rows';
      because := format(
        'row-level security of %s may hide rows from %I, who owns the view retention.result', v_table.table_name, v_owner
      );
      remedy := format(
        'As a superuser: alter role %I bypassrls; or: alter table %s no force row level security;',
        v_owner, v_table.table_name
      );
      return next;
    end if;
  end if;
  if v_table.is_subscribed and retention._subscription_of(v_table.table_oid) is not null then
    reason := 'subscriber';
    because := format(
      '%s is filled by subscription %I: its runs live in another database, and their results are deleted from there',
      v_table.table_name, retention._subscription_of(v_table.table_oid)
    );
    remedy := 'Run retention in the database that publishes the table, and only there. After a switch-over: drop subscription';
    return next;
  end if;
  if v_table.may_be_unsupported then
    return query
    select 'table unsupported', u.reason, u.remedy
    from retention._outgrown(v_table.table_oid) u
    where u.reason is not null;
  end if;
  if v_table.lacks_index then
    reason := 'index missing';
    because := format(
      'the index %s on %s is missing or not valid, and each pass and claim would read the whole table without it',
      retention._missing_indexes(), v_table.table_name
    );
    remedy := 'retention migrate up, which builds it while the application goes on';
    return next;
  end if;
end
$$;

CREATE FUNCTION retention._tables_like() RETURNS TABLE(name text, about_rows bigint)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select format('%I.%I', n.nspname, c.relname),
    greatest(c.reltuples, 0)::bigint
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p')
    and c.relpersistence <> 't'
    and not c.relispartition
    and n.nspname not in ('pg_catalog', 'information_schema', 'retention', 'cron')
    and (
      select count(distinct l.view_column) = 2
      from retention._columns_like(c.oid) l
      where l.view_column in ('key', 'completed_at')
        and l.fault is null
        and l.place < 4
    )
  order by c.reltuples desc, 1
  limit 20
$$;

CREATE FUNCTION retention._take_apart(p_batch retention.batch) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  -- In eighths and not in halves: each try costs a session, if not the server.
  v_part integer := ceil(p_batch.results / 8.0);
  v_first integer := 1;
begin
  if p_batch.results = 1 then
    p_batch.attempts := (select s.max_attempts - 1 from retention.setting s);
  end if;
  while v_first <= p_batch.results loop
    perform retention._set_apart(
      p_batch,
      array(select generate_series(v_first, least(v_first + v_part - 1, p_batch.results))),
      case when p_batch.results = 1 then 'ClaimLost' else 'ClaimSuspect' end,
      'each session that checked it was lost' || case when p_batch.results > 1 then ', with others' else '' end,
      p_batch.results = 1
    );
    v_first := v_first + v_part;
  end loop;
  delete from retention.batch b where b.batch_id = p_batch.batch_id;
end
$$;

CREATE FUNCTION retention._take_changed(p_batch retention.batch, p_failed jsonb, OUT others jsonb, OUT keys text[], OUT results bigint) RETURNS record
    LANGUAGE plpgsql
    AS $$
begin
  -- Without a condition there was nothing that could have failed it.
  select coalesce(array_agg(e.key), '{}'), count(*)
  into keys, results
  from retention._conditional_results(p_batch) e
  where e.etag is not null
    and e.key collate "C" in (
      select f.key collate "C"
      from jsonb_to_recordset(p_failed) as f (key text, outcome text)
      where f.outcome = 'changed'
    );
  perform retention._note_changed(p_batch, keys);
  others := (
    select coalesce(jsonb_agg(f.failure), '[]')
    from jsonb_array_elements(p_failed) as f (failure)
    where coalesce(f.failure ->> 'key', '') collate "C" not in (select unnest(keys) collate "C")
  );
end
$$;

CREATE FUNCTION retention._take_out(p_batch_id bigint, p_run_ids retention.run_id[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  v_left record;
begin
  perform retention._note_left(b, p_run_ids) from retention.batch b where b.batch_id = p_batch_id;
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
      tenants = v_left.tenants,
      etags = null
    where b.batch_id = p_batch_id;
  end if;
end
$$;

CREATE FUNCTION retention._take_out_selected(p_batch_ids bigint[]) RETURNS bigint
    LANGUAGE plpgsql
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $$
declare
  v_taken bigint := 0;
  v_found record;
  v_batch retention.batch;
  v_kept retention.batch;
begin
  for v_found in
    select u.batch_id, array_agg(u.n order by u.n) as places
    from (
      select b.batch_id, e.run_id, e.n
      from retention.batch b
      cross join unnest(b.run_ids) with ordinality as e (run_id, n)
      where b.batch_id in (select unnest(p_batch_ids))
        and b.settled_at is null
      offset 0
    ) u
    where u.run_id in (select s.run_id from retention.selection s)
    group by u.batch_id
  loop
    select * into strict v_batch from retention.batch b where b.batch_id = v_found.batch_id;
    v_taken := v_taken + cardinality(v_found.places);
    perform retention._note_left(v_batch, array(select v_batch.run_ids[n] from unnest(v_found.places) n));
    if cardinality(v_found.places) = v_batch.results then
      delete from retention.batch b where b.batch_id = v_batch.batch_id;
      continue;
    end if;
    v_kept := retention._without(v_batch, v_found.places);
    update retention.batch b
    set results = v_kept.results,
      run_ids = v_kept.run_ids,
      keys = v_kept.keys,
      tenants = v_kept.tenants,
      etags = null,
      visible_at = case when b.lease is null then b.visible_at else clock_timestamp() end,
      lease = null
    where b.batch_id = v_batch.batch_id;
  end loop;
  return v_taken;
end
$$;

CREATE FUNCTION retention._take_pace(p_bucket retention.bucket, p_waits boolean DEFAULT false) RETURNS text
    LANGUAGE plpgsql
    AS $$
begin
  -- First without the lock: most claims that come too early find that here.
  if p_bucket.max_per_second is not null and retention._paced_until(p_bucket.bucket) is not null then
    return 'wait';
  end if;
  insert into retention.pace (bucket)
  select p_bucket.bucket
  where not exists (select from retention.pace p where p.bucket = p_bucket.bucket)
  on conflict do nothing;
  if p_waits then
    begin
      perform from retention.pace p where p.bucket = p_bucket.bucket for update;
    exception
      when lock_not_available then
        return 'wait';
    end;
  else
    perform from retention.pace p where p.bucket = p_bucket.bucket for update skip locked;
    if not found then
      return 'busy';
    end if;
  end if;
  if p_bucket.max_per_second is not null and retention._paced_until(p_bucket.bucket) is not null
    or p_bucket.max_in_flight <= retention._in_flight(p_bucket.bucket)
  then
    return 'wait';
  end if;
  return 'go';
end
$$;

CREATE FUNCTION retention._take_pass_lock() RETURNS void
    LANGUAGE plpgsql
    SET lock_timeout TO '60s'
    AS $$
begin
  perform from retention.pass_lock for update;
exception
  when lock_not_available then
    raise exception using
      errcode = 'lock_not_available',
      message = 'another transaction has been flagging results for longer than a minute',
      detail = retention._lockers('retention.pass_lock'),
      hint = 'Try again when it has ended. An idle one is ended with: select pg_terminate_backend(<process>)';
end
$$;

CREATE FUNCTION retention._tell(p_kind text, p_payload json) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
  insert into retention.attention (kind, payload)
  values (p_kind, p_payload::jsonb - 'because');
  if pg_notification_queue_usage() <= 0.5 then
    perform pg_notify(
      case when p_kind = 'sealed' then 'retention_sealed' else 'retention_attention' end,
      p_payload::text
    );
  end if;
end
$$;

CREATE FUNCTION retention._tell_returned(p_batch_id bigint) RETURNS text
    LANGUAGE plpgsql
    SET enable_seqscan TO 'on'
    SET enable_hashjoin TO 'on'
    AS $$
declare
  v_batch retention.batch;
  v_whys text[];
  v_is_told boolean;
begin
  select * into strict v_batch from retention.batch b where b.batch_id = p_batch_id;
  select array_agg(r.why order by e.n)
  into v_whys
  from retention._results(v_batch) e
  left join retention.returned_result r on r.run_id = e.run_id
    and r.bucket = v_batch.bucket
    and r.key = e.key collate "C";
  if v_whys[1] is null and array_remove(v_whys, null) = '{}' or v_whys[1] = all (v_whys) then
    return v_whys[1];
  end if;
  -- As claim does: a check that comes through is not suspect.
  v_is_told := coalesce(v_batch.code not in ('ClaimLost', 'ClaimSuspect'), false);
  insert into retention.batch (
    bucket, results, oldest, newest, due_since, late_since, early, flagged_at, visible_at, leased_at, attempts, postponed,
    stuck_since, code, error, failed_at, why, asked_by, request_ids, run_ids, keys, tenants
  )
  select v_batch.bucket, count(*), v_batch.oldest, v_batch.newest, v_batch.due_since, v_batch.late_since, v_batch.early,
    v_batch.flagged_at, v_batch.visible_at, v_batch.leased_at, v_batch.attempts, v_batch.postponed, v_batch.stuck_since,
    case when v_is_told then v_batch.code end,
    case when v_is_told then v_batch.error end,
    case when v_is_told then v_batch.failed_at end,
    v_batch.why, v_batch.asked_by, v_batch.request_ids,
    array_agg(u.run_id order by u.n), array_agg(u.key order by u.n), array_agg(u.tenant_id order by u.n)
  from unnest(v_batch.run_ids, v_batch.keys, v_batch.tenants, v_whys) with ordinality as u (run_id, key, tenant_id, why, n)
  where u.why is distinct from v_whys[1]
  group by u.why;
  update retention.batch b
  set (results, run_ids, keys, tenants) = (
      select count(*), array_agg(u.run_id order by u.n), array_agg(u.key order by u.n), array_agg(u.tenant_id order by u.n)
      from unnest(v_batch.run_ids, v_batch.keys, v_batch.tenants, v_whys) with ordinality
        as u (run_id, key, tenant_id, why, n)
      where u.why is not distinct from v_whys[1]
    ),
    -- The claim reads them again.
    etags = null
  where b.batch_id = p_batch_id;
  return v_whys[1];
end
$$;

CREATE FUNCTION retention._tenant_ids() RETURNS SETOF retention.tenant_id
    LANGUAGE plpgsql STABLE ROWS 100
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    AS $$
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
  )
  select n.tenant_id::retention.tenant_id
  from name n
  where n.tenant_id is not null
  union all
  select null::retention.tenant_id
  where exists (
    select
    from retention._live r
    where r.is_candidate
      and r.tenant_id is null
  );
end
$$;

CREATE FUNCTION retention._tenant_key(p_tenant_id text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (p_tenant_id IS NULL) THEN ''::text ELSE ('='::text || p_tenant_id) END;

CREATE FUNCTION retention._tenant_of_history(p_tenant_id text) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
begin
  if exists (select from retention.change c where c.tenant_id = p_tenant_id) then
    return p_tenant_id;
  end if;
  return retention._policy_tenant(p_tenant_id);
end
$$;

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
  select n.tenant_id,
    retention._tenant_key(n.tenant_id::text),
    coalesce(p.retain, d.retain)
  from retention._tenant_ids() as n (tenant_id)
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

CREATE FUNCTION retention._tenants_due_of(p_tenants integer, p_bound integer, p_tenant_keys text[]) RETURNS TABLE(tenant_id text, retain_days double precision, oldest timestamp with time zone, due_since timestamp with time zone, due bigint, flagged bigint, is_capped boolean)
    LANGUAGE plpgsql STABLE
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
begin
  if not retention._can_look() then
    return;
  end if;
  return query
  with tenant as materialized (
    select row_number() over () as place, t.tenant_id, t.tenant_key, t.retain,
      now() - retention._in_seconds(t.retain) as before
    from retention._watched() t
    where not t.is_held
      and (p_tenant_keys is null or t.tenant_key = any (p_tenant_keys))
  ),
  waiting as materialized (
    select row_number() over (order by w.due_at, w.tenant_key) as place, w.*
    from (
      select t.tenant_id, t.tenant_key, t.retain, t.before, r.due_at
      from (
        select array_agg(t.tenant_id order by t.place) as tenant_ids, array_agg(t.before order by t.place) as befores
        from tenant t
      ) e
      cross join lateral retention._past_each(e.tenant_ids, null, null, e.befores, 1) r
      join tenant t on t.place = r.place
      order by r.due_at, t.tenant_key
      limit p_tenants
    ) w
  ),
  seen as materialized (
    select w.tenant_id, w.tenant_key, w.retain, r.run_id, r.completed_at, r.due_at, r.is_due,
      count(*) over (partition by w.place) as looked_at
    from (
      select array_agg(w.tenant_id order by w.place) as tenant_ids, array_agg(w.before order by w.place) as befores
      from waiting w
    ) e
    cross join lateral retention._past_each(e.tenant_ids, null, null, e.befores, p_bound) r
    join waiting w on w.place = r.place
  ),
  known as materialized (
    select case when k.is_flagged then k.run_ids end as run_ids, case when k.is_flagged then k.horizon end as horizon
    from (
      select min(s.completed_at) as first_completed_at, max(s.completed_at) as last_completed_at
      from seen s
    ) b
    cross join lateral retention._known_first(b.first_completed_at, b.last_completed_at) k
  )
  select s.tenant_id::text,
    (extract(epoch from s.retain) / 86400)::double precision,
    min(s.completed_at),
    min(s.due_at),
    count(*),
    count(*) filter (where s.run_id in (select unnest(k.run_ids) from known k)),
    min(s.looked_at) >= p_bound or coalesce(max(s.completed_at) >= (select min(k.horizon) from known k), false)
  from seen s
  where s.is_due
    and s.run_id is not null
  group by s.tenant_id, s.tenant_key, s.retain
  order by min(s.due_at), s.tenant_key;
end
$$;

CREATE FUNCTION retention._trial_mark() RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
begin
  return (
    select format('%s of %s', to_regclass('retention.result')::oid, extract(epoch from i.at))
    from retention.installed i
  );
end
$$;

CREATE FUNCTION retention._trial_rows() RETURNS TABLE(run_id retention.run_id, bucket text, key text, completed_at timestamp with time zone)
    LANGUAGE plpgsql STABLE ROWS 5
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
begin
  return query
  with known as materialized (
    select unnest(b.run_ids) as run_id
    from retention.batch b
    where b.deleted_at is not null
      and b.settled_at is null
      and b.attempts > 0
  )
  select distinct t.run_id, t.bucket, t.key, t.completed_at
  from (
    select r.run_id::retention.run_id, r.bucket::text, r.key::text, r.completed_at, r.is_candidate and r.has_place as fits
    from (
      select b.run_ids[1] as run_id
      from retention.batch b
      where b.settled_at is null
        and b.dead_at is null
        and (b.deleted_at is null or b.attempts = 0)
      order by b.oldest
      limit 3
    ) f
    cross join lateral (
      select l.*
      from retention._live l
      where l.run_id = f.run_id
      limit 1
    ) r
    union all
    (
      select r.run_id::retention.run_id, r.bucket::text, r.key::text, r.completed_at, true
      from (
        select l.*
        from retention._live l
        where l.is_candidate
        order by l.tenant_id, l.completed_at, l.run_id
        limit 100
      ) r
      where r.has_place
        and r.completed_at is not null
        and r.run_id not in (select k.run_id from known k)
      limit 1
    )
    union all
    (
      select r.run_id::retention.run_id, r.bucket::text, r.key::text, r.completed_at, true
      from (
        select l.*
        from retention._live l
        where l.is_candidate
        order by l.tenant_id desc, l.completed_at desc, l.run_id desc
        limit 100
      ) r
      where r.has_place
        and r.completed_at is not null
        and r.run_id not in (select k.run_id from known k)
      limit 1
    )
  ) t
  where t.fits
    and t.run_id is not null
    and t.completed_at is not null;
end
$$;

CREATE FUNCTION retention._try_mapping(p_table text, p_columns text, p_retain interval) RETURNS TABLE(name text, state text, found text, remedy text)
    LANGUAGE plpgsql
    AS $_$
#variable_conflict use_column
declare
  v_found jsonb := retention._find_columns(p_table, p_columns);
  v_table regclass := retention._find_table(p_table);
  v_cleared_at text := case when v_found -> 'cleared_at' ->> 'type' is not null then quote_ident(v_found -> 'cleared_at' ->> 'name') end;
  v_seen record;
  v_written text;
  v_stamped bigint;
begin
  execute format(
    'select count(*) as looked_at,
      count(*) filter (where %1$s) as completed,
      count(*) filter (where (%1$s) and %2$s is null) as live,
      count(*) filter (where (%1$s) and %2$s is null and %3$s < now() - $1) as due
    from (select * from %4$s limit 10000) r',
    retention._candidate(v_found, false), coalesce(v_cleared_at, 'null'), retention._instant(v_found -> 'completed_at'), v_table
  ) into v_seen using p_retain;
  return query
  select 'trial: reading', case when v_seen.looked_at > 0 and v_seen.completed = 0 then 'warning' else 'ok' end,
    format('of the first %s rows %s are completed and have a key, %s of those have their object still, and %s of those are older than %s days',
      v_seen.looked_at, v_seen.completed, v_seen.live, v_seen.due, extract(day from p_retain)),
    case when v_seen.looked_at > 0 and v_seen.completed = 0 then 'Look at the mapping of status and key: nothing would ever fall due.' end;
  v_written := concat_ws(', ', v_cleared_at || ' = now()', quote_ident(v_found -> 'updated_at' ->> 'name') || ' = now()');
  if v_written = '' or v_seen.live = 0 then
    return query select 'trial: stamping', 'ok',
      case when v_written = '' then 'there is no column to write yet' else 'there is no row to try it with' end || '; `retention doctor` tries it', null;
    return;
  end if;
  if exists (
    select
    from pg_class c
    where (c.oid = v_table or c.oid in (select p.relid from pg_partition_tree(v_table) p))
      and (
        c.relkind = 'f'
        or exists (select from pg_rewrite w where w.ev_class = c.oid and w.ev_type = '2')
        or exists (select from pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal and t.tgenabled <> 'D' and t.tgtype & 16 = 16)
      )
  ) then
    return query select 'trial: stamping', 'ok', 'not tried here, since triggers or rules of the table run then; `retention doctor` tries it', null;
    return;
  end if;
  begin
    perform set_config('lock_timeout', '1s', true);
    execute format(
      'update %1$s set %2$s where (tableoid, ctid) = (
        select r.tableoid, r.ctid from (select tableoid, ctid from %1$s where %3$s limit 1) r
      )',
      v_table, v_written, concat_ws(' and ', retention._candidate(v_found, false), v_cleared_at || ' is null')
    );
    get diagnostics v_stamped = row_count;
    raise exception using errcode = 'RR001', message = 'the trial is over';
  exception
    when sqlstate 'RR001' then
      return query select 'trial: stamping', 'ok',
        case v_stamped when 1 then 'one row took it; it was rolled back' else 'no row to try it with; `retention doctor` tries it' end, null;
    when lock_not_available then
      return query select 'trial: stamping', 'ok', 'not tried, since another session has the row or the table locked; `retention doctor` tries it', null;
    when others then
      return query select 'trial: stamping', 'failed', format('a row refuses it: %s', sqlerrm),
        'Let the table take an update that writes the cleared-at column alone.';
  end;
end
$_$;

CREATE FUNCTION retention._try_stamp() RETURNS boolean
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_mergejoin TO 'off'
    AS $$
declare
  v_mark text := retention._trial_mark();
  v_before retention.stamping;
  v_row record;
  v_started_at timestamptz;
  v_taken interval;
  v_stamped bigint;
  v_code text;
  v_message text;
  v_constraint text;
  v_context text;
  v_first record;
  v_failed integer := 0;
  v_unknown integer := 0;
begin
  for v_row in select * from retention._trial_rows() loop
    v_code := null;
    v_stamped := 0;
    v_started_at := clock_timestamp();
    begin
      v_stamped := retention._stamp(
        v_row.bucket, array[v_row.run_id], array[retention._pack_key(v_row.key, v_row.run_id::text)],
        v_row.completed_at, v_row.completed_at
      );
      v_taken := clock_timestamp() - v_started_at;
      if v_stamped = 0 then
        v_code := case
          when exists (
            select
            from retention._still_live(
              v_row.bucket, array[v_row.run_id], array[retention._pack_key(v_row.key, v_row.run_id::text)],
              v_row.completed_at, v_row.completed_at
            )
          )
          then 'StampSwallowed'
          else 'StampLater'
        end;
        v_message := 'a trigger, a rule or a row-level security policy of the table swallows the stamp';
        v_context := null;
      end if;
      raise exception using errcode = 'RR001', message = 'the trial is over';
    exception
      when sqlstate 'RR001' then
        null;
      when query_canceled or assert_failure or others then
        get stacked diagnostics v_code = returned_sqlstate,
          v_message = message_text,
          v_constraint = constraint_name,
          v_context = pg_exception_context;
        v_context := coalesce(
          'constraint ' || nullif(v_constraint, ''),
          -- "PL/pgSQL function audit() line 3 at SQL statement", in whatever language.
          substring(v_context from '([\w."]+\([^()]*\)),?\s+\S+\s+\d+')
        );
    end;
    exit when v_code is null;
    if retention._stamp_passes(v_code) then
      v_unknown := v_unknown + 1;
    else
      v_failed := v_failed + 1;
      if v_failed = 1 then
        select v_code as code, v_message as message, v_context as context into v_first;
      end if;
    end if;
  end loop;

  select * into strict v_before from retention.stamping;
  if v_stamped > 0 or v_failed = 0 and v_unknown = 0 then
    update retention.stamping s
    set tried_for = case when v_stamped > 0 then v_mark end,
      failed_since = null,
      code = null,
      message = null,
      context = null,
      tries = 0,
      try_at = null,
      -- Planning and reading for the first time take a while too.
      most = case
        when s.most is null and v_taken > interval '20 ms'
        then greatest(1, 5 / extract(epoch from v_taken))::integer
        else s.most
      end
    where s.tried_for is distinct from case when v_stamped > 0 then v_mark end
      or s.failed_since is not null;
    if v_before.failed_since is not null then
      update retention.batch b
      set visible_at = clock_timestamp()
      where b.deleted_at is not null
        and b.settled_at is null
        and b.dead_at is null
        and b.visible_at > clock_timestamp();
      perform retention._note_gate();
    end if;
    return true;
  end if;
  if v_failed = 0 then
    update retention.stamping s
    set try_at = case when s.failed_since is not null then clock_timestamp() + interval '5 seconds' end,
      unknown_for = v_mark,
      unknown_at = clock_timestamp();
    return v_before.failed_since is null;
  end if;
  update retention.stamping s
  set tried_for = v_mark,
    failed_since = coalesce(s.failed_since, clock_timestamp()),
    code = v_first.code,
    message = left(v_first.message, 500),
    context = left(v_first.context, 200),
    tries = s.tries + 1,
    try_at = clock_timestamp() + retention._backoff(interval '4 seconds', interval '5 minutes', s.tries)
  -- Of batches that fail at the same time, the first counts.
  where s.failed_since is null
    or s.try_at <= clock_timestamp();
  if v_before.failed_since is null then
    perform retention._note_gate();
  end if;
  return false;
end
$$;

CREATE FUNCTION retention._two_people(p_kind text, p_what jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_approval retention.approval;
  v_now bigint;
begin
  if not (select s.four_eyes from retention.setting s) then
    return;
  end if;
  select a.*
  into v_approval
  from retention.approval a
  where a.kind = p_kind
    and a.what = p_what
    and a.asked_by = session_user
    and a.approved_by <> session_user
    and a.withdrawn_at is null
    and a.asked_at between clock_timestamp() - interval '24 hours' and clock_timestamp() + interval '1 minute'
    -- What only says how things shall be may be said twice in one transaction.
    and (a.used_at is null or a.used_in = pg_current_xact_id() and p_kind in ('policy', 'setting', 'purge', 'hold', 'keeper'))
  order by a.used_at nulls last, a.approval_id
  limit 1
  for update;
  if not found then
    raise exception using
      errcode = 'RR004',
      message = format('%s needs two people: another one must approve exactly %s', retention._act(p_kind), p_what),
      detail = jsonb_build_object('kind', p_kind, 'what', p_what),
      hint = format(
        'Ask for it: select retention.ask_approval(%L, %L); another person then runs: select retention.approve(<its number>);',
        p_kind, p_what
      );
  end if;
  if v_approval.used_at is not null then
    return;
  end if;
  v_now := retention._asked_results(p_kind, p_what);
  if v_now > v_approval.results + (select s.policy_guard from retention.setting s) then
    raise exception using
      errcode = 'check_violation',
      message = format(
        'by now it would make %s due at once, and %s were approved with request %s',
        retention._counted(v_now, 'result'), v_approval.results, v_approval.approval_id
      ),
      hint = format('Withdraw it and ask again: select retention.withdraw_approval(%s);', v_approval.approval_id);
  end if;
  update retention.approval
  set used_at = clock_timestamp(),
    used_in = pg_current_xact_id()
  where approval_id = v_approval.approval_id;
end
$$;

CREATE FUNCTION retention._typed_column(p_table regclass, p_column text) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
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

CREATE FUNCTION retention._typed_table(p_table text) RETURNS regclass
    LANGUAGE plpgsql STABLE
    AS $$
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

CREATE FUNCTION retention._unflagged(p_bound integer) RETURNS TABLE(due bigint, is_capped boolean, completed_at timestamp with time zone, due_at timestamp with time zone, newest timestamp with time zone)
    LANGUAGE plpgsql STABLE
    AS $$
#variable_conflict use_variable
declare
  v_keys text[];
  v_parts jsonb;
  v_part record;
begin
  return query select u.* from retention._unflagged_of(p_bound, null) u;
exception
  when others then
    if retention._is_passing(sqlstate) then
      raise;
    end if;
    v_keys := array(select t.tenant_key from retention._watched() t);
    due := 0;
    is_capped := true;
    v_parts := jsonb_build_array(to_jsonb(v_keys));
    while jsonb_array_length(v_parts) > 0 loop
      v_keys := array(select jsonb_array_elements_text(v_parts -> 0));
      v_parts := v_parts - 0;
      begin
        select * into strict v_part from retention._unflagged_of(p_bound, v_keys);
        due := due + v_part.due;
        completed_at := least(completed_at, v_part.completed_at);
        due_at := least(due_at, v_part.due_at);
        newest := greatest(newest, v_part.newest);
      exception
        when others then
          if retention._is_passing(sqlstate) then
            raise;
          end if;
          v_parts := v_parts || retention._halves(v_keys);
      end;
    end loop;
    return next;
end
$$;

CREATE FUNCTION retention._unflagged_of(p_bound integer, p_tenant_keys text[]) RETURNS TABLE(due bigint, is_capped boolean, completed_at timestamp with time zone, due_at timestamp with time zone, newest timestamp with time zone)
    LANGUAGE plpgsql STABLE
    SET max_parallel_workers_per_gather TO '0'
    SET join_collapse_limit TO '1'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
begin
  if not retention._can_look() then
    return query select 0::bigint, false, null::timestamptz, null::timestamptz, null::timestamptz;
    return;
  end if;
  return query
  with tenant as materialized (
    select w.*,
      now() - retention._in_seconds(w.retain) as before
    from retention._watched() w
    where p_tenant_keys is null
      or w.tenant_key = any (p_tenant_keys)
  ),
  side as materialized (
    select row_number() over () as place,
      greatest(p_bound / count(*) over (), 1) as share,
      s.*
    from (
      select t.tenant_id, t.before, false as is_behind, t.seen_completed_at, t.seen_run_id,
        t.seen_completed_at as after_completed_at, t.seen_run_id as after_run_id
      from tenant t
      where not t.is_held
      union all
      select t.tenant_id,
        -- The progress itself may have others of its very moment beside it.
        least(t.before, t.seen_completed_at + interval '1 microsecond'),
        true, t.seen_completed_at, t.seen_run_id, null, null
      from tenant t
      where not t.is_held
        and t.seen_completed_at is not null
    ) s
  ),
  first as materialized (
    select s.place, s.share, s.tenant_id, s.before, s.is_behind, s.seen_completed_at, s.seen_run_id,
      r.run_id, r.completed_at, r.due_at, r.bucket, r.key, r.is_due and r.has_place as may_go,
      row_number() over (partition by s.place order by r.completed_at, r.run_id) as n
    from (
      select array_agg(s.tenant_id order by s.place) as tenant_ids,
        array_agg(s.after_completed_at order by s.place) as after_completed_at,
        array_agg(s.after_run_id order by s.place) as after_run_ids,
        array_agg(s.before order by s.place) as befores,
        min(s.share) as share
      from side s
    ) e
    cross join lateral retention._past_each(e.tenant_ids, e.after_completed_at, e.after_run_ids, e.befores, e.share) r
    join side s on s.place = r.place
  ),
  wanting as materialized (
    select row_number() over () as place,
      w.*,
      -- Probing each again for a row or two is not worth it.
      case when w.rest >= 10 then w.rest else 0 end as more
    from (
      select f.is_behind, f.tenant_id, f.before, f.seen_completed_at, f.seen_run_id, f.completed_at, f.run_id,
        (p_bound - (select count(*) from first)) / count(*) over () as rest
      from first f
      where f.n = f.share
    ) w
  ),
  second as materialized (
    select w.place, w.is_behind, w.seen_completed_at, w.seen_run_id,
      r.run_id, r.completed_at, r.due_at, r.bucket, r.key, r.is_due and r.has_place as may_go
    from (
      select array_agg(w.tenant_id order by w.place) as tenant_ids,
        array_agg(w.completed_at order by w.place) as after_completed_at,
        array_agg(w.run_id order by w.place) as after_run_ids,
        array_agg(w.before order by w.place) as befores,
        min(w.more) as more
      from wanting w
    ) e
    cross join lateral retention._past_each(e.tenant_ids, e.after_completed_at, e.after_run_ids, e.befores, e.more) r
    join wanting w on w.place = r.place
  ),
  seen as materialized (
    select x.*
    from (
      select f.is_behind, f.seen_completed_at, f.seen_run_id, f.run_id, f.completed_at, f.due_at, f.bucket, f.key, f.may_go
      from first f
      union all
      select s.is_behind, s.seen_completed_at, s.seen_run_id, s.run_id, s.completed_at, s.due_at, s.bucket, s.key, s.may_go
      from second s
    ) x
    where not x.is_behind
      or x.completed_at < x.seen_completed_at
      or x.completed_at = x.seen_completed_at and coalesce(x.run_id <= x.seen_run_id, x.seen_run_id is null)
  ),
  -- Each side by itself: together they would span all the batches between them.
  known as materialized (
    select b.is_behind, k.run_ids, k.horizon
    from (
      select s.is_behind, min(s.completed_at) as first_completed_at, max(s.completed_at) as last_completed_at
      from seen s
      group by s.is_behind
    ) b
    cross join lateral retention._known_first(b.first_completed_at, b.last_completed_at) k
  ),
  judged as materialized (
    select s.*,
      s.completed_at >= (select min(k.horizon) from known k where not k.is_behind) and not s.is_behind
        or s.completed_at >= (select min(k.horizon) from known k where k.is_behind) and s.is_behind as is_unknown
    from seen s
  )
  select count(*) filter (where w.is_work),
    not coalesce((select t.is_all from tenant t limit 1), true)
      or exists (
        select
        from wanting w
        left join second s on s.place = w.place
        group by w.place, w.more
        having count(s.place) >= w.more
      )
      or exists (select from judged j where j.is_unknown),
    min(w.completed_at) filter (where w.is_work),
    min(w.due_at) filter (where w.is_work),
    (select retention._newest_of(array(select t.tenant_id from tenant t)))
  from (
    select j.completed_at,
      j.due_at,
      j.may_go
        and j.run_id is not null
        and j.is_unknown is not true
        and j.run_id not in (select unnest(k.run_ids) from known k)
        and not (
          (select exists (select from retention.shared_object)) and retention._is_known_shared(j.bucket, j.key)
          or (select exists (select from retention.spared_object)) and retention._is_spared_for_now(j.bucket, j.key)
        ) as is_work
    from judged j
  ) w;
end
$$;

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

CREATE FUNCTION retention._unsealed(p_most integer, OUT batches bigint[], OUT receipts bigint[], OUT changes bigint[], OUT is_all boolean) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
declare
  -- So many results are hashed within a second.
  v_most_results constant bigint := 100000;
  v_most_receipts integer;
  v_looked_at bigint;
begin
  select coalesce(array_agg(w.batch_id) filter (where w.before < v_most_results), '{}'), count(*)
  into strict batches, v_looked_at
  from (
    select b.batch_id, sum(b.results) over (order by b.settled_at, b.batch_id rows unbounded preceding) - b.results as before
    from (
      select u.batch_id, u.settled_at, u.cleared as results
      from retention.batch u
      where u.seal_id is null
        and u.settled_at is not null
        and u.cleared > 0
      order by u.settled_at
      limit p_most
    ) b
  ) w;
  v_most_receipts := greatest(least(p_most - cardinality(batches), v_most_results / 1000), 1);
  receipts := array(
    select r.receipt_id
    from retention.receipt r
    where r.seal_id is null
    order by r.settled_at
    limit v_most_receipts
  );
  changes := array(
    select c.change_id
    from retention.change c
    where c.seal_id is null
    order by c.change_id
    limit p_most
  );
  is_all := v_looked_at < p_most
    and cardinality(batches) = v_looked_at
    and cardinality(receipts) < v_most_receipts
    and cardinality(changes) < p_most;
end
$$;

CREATE FUNCTION retention._unshared(p_rows retention.selection[], p_limit bigint) RETURNS SETOF retention.selection
    LANGUAGE sql STABLE
    AS $$
  select u.run_id, u.tenant_id, u.bucket, u.key, u.completed_at, u.due_at
  from (
    select x.bucket,
      x.key collate "C" as key,
      array_agg(row(x.run_id, x.tenant_id, x.bucket, x.key, x.completed_at, x.due_at)::retention.selection) as rows,
      array_agg(x.n) as places
    from unnest(retention._without_kept(p_rows)) with ordinality as x (run_id, tenant_id, bucket, key, completed_at, due_at, n)
    group by x.bucket, x.key collate "C"
  ) k
  cross join lateral (
    select count(*) filter (where not r.is_due) as not_due, count(*) as runs
    from retention._live r
    where (select s.check_shared_objects from retention.setting s)
      and r.key_hash = retention._key_hash(k.key)
      and r.key = k.key
      and r.bucket = k.bucket
  ) o
  cross join lateral rows from (unnest(k.rows), unnest(k.places))
    as u (run_id, tenant_id, bucket, key, completed_at, due_at, place)
  -- One that is early is itself not due.
  where o.not_due <= (u.due_at is null or u.due_at >= now())::integer
    and not ((select exists (select from retention.held_object)) and retention._is_held_object(k.bucket, k.key))
    and not (
      (select s.check_shared_objects and exists (select from retention.surge_part) from retention.setting s)
      and o.runs > 1
      and retention._is_set_aside_object(k.bucket, k.key)
    )
  order by u.place
  limit p_limit
$$;

CREATE FUNCTION retention._unshared_carefully(p_rows retention.selection[], p_limit bigint) RETURNS SETOF retention.selection
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_row retention.selection;
  v_left bigint := coalesce(p_limit, cardinality(p_rows));
  v_found bigint;
begin
  begin
    return query select u.* from retention._unshared(p_rows, p_limit) u;
    return;
  exception
    when others then
      if retention._is_passing(sqlstate) then
        raise;
      end if;
  end;
  foreach v_row in array p_rows loop
    exit when v_left <= 0;
    begin
      return query select u.* from retention._unshared(array[v_row], 1) u;
      get diagnostics v_found = row_count;
      v_left := v_left - v_found;
    exception
      when others then
        if retention._is_passing(sqlstate) then
          raise;
        end if;
        raise warning 'run % cannot be read and is passed by: % %', v_row.run_id, sqlstate, sqlerrm;
    end;
  end loop;
end
$$;

CREATE FUNCTION retention._unstamp(p_run_ids retention.run_id[], p_before timestamp with time zone, p_kind text, p_why text, p_version text, p_client text) RETURNS bigint
    LANGUAGE plpgsql
    SET lock_timeout TO '500ms'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'on'
    AS $$
declare
  v_default_bucket text := (select s.default_bucket from retention.setting s);
  v_before retention.run_id[] := array(
    select r.run_id
    from retention.result r
    where r.run_id = any (p_run_ids)
      and r.cleared_at < p_before
    for no key update
  );
  v_part record;
  v_unstamped bigint := 0;
begin
  if v_before = '{}' then
    return 0;
  end if;
  perform retention._clear_stamps(v_before, p_before);
  for v_part in
    -- What a trigger has put back is no deed.
    select retention._bucket(r.bucket, v_default_bucket) as bucket,
      array_agg(r.run_id::retention.run_id order by r.run_id) as run_ids,
      array_agg(coalesce(r.key::text, '') order by r.run_id) as keys,
      array_agg(r.tenant_id::text order by r.run_id) as tenants
    from retention.result r
    where r.run_id = any (v_before)
      and r.cleared_at is null
    group by 1
  loop
    v_unstamped := v_unstamped + cardinality(v_part.run_ids);
    perform retention._write_receipts(
      p_kind, coalesce(v_part.bucket, ''), v_part.run_ids, v_part.keys, v_part.tenants, p_client,
      p_versions => case when p_version is not null then array_fill(p_version, array[cardinality(v_part.run_ids)]) end
    );
    insert into retention.returned_result (run_id, bucket, key, why)
    select distinct u.run_id, coalesce(v_part.bucket, ''), u.key, p_why
    from unnest(v_part.run_ids, v_part.keys) as u (run_id, key)
    on conflict (run_id, bucket, key) do update
    set why = excluded.why,
      noted_at = now();
  end loop;
  return v_unstamped;
end
$$;

CREATE FUNCTION retention._unsupported(p_table oid, OUT reason text, OUT remedy text) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
begin
  if retention._is_noted(
    'pg_catalog', 'pg_dist_partition',
    'select exists (select from pg_catalog.pg_dist_partition p where p.logicalrelid = $1)',
    p_table
  ) then
    reason := format('%s is a distributed table of Citus, whose rows no function of this schema can stamp', p_table::regclass);
    remedy := 'Keep the runs in a local table of the coordinator: select undistribute_table(...).';
  elsif retention._is_noted(
    '_timescaledb_catalog', 'hypertable',
    'select exists (
        select
        from _timescaledb_catalog.hypertable h
        join pg_class c on c.relname = h.table_name
        join pg_namespace n on n.oid = c.relnamespace and n.nspname = h.schema_name
        where c.oid = $1
      )',
    p_table
  ) then
    reason := format('%s is a hypertable of Timescale, on which no index can be built concurrently', p_table::regclass);
    remedy := 'Keep the runs in a plain table, or in one that is partitioned by PostgreSQL itself.';
  end if;
end
$_$;

CREATE FUNCTION retention._until(p_at timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE WHEN (p_at = 'infinity'::timestamp with time zone) THEN 'for ever'::text ELSE ('until '::text || retention._iso(p_at)) END;

CREATE FUNCTION retention._upcoming_at_once(p_tenant_id text, p_end timestamp with time zone) RETURNS TABLE(at timestamp with time zone, state text, tenant_id text, bucket text, results bigint)
    LANGUAGE plpgsql STABLE
    SET enable_nestloop TO 'off'
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $_$
#variable_conflict use_column
declare
  v_cool_off interval := coalesce((select s.cool_off from retention.setting s), '0');
  v_spread interval := (select s.release_spread from retention.setting s);
  v_before timestamptz := p_end - v_cool_off - (select min(retention._in_seconds(p.retain)) from retention.policy p);
  v_source text := format(
    'select r.run_id::retention.run_id as run_id, r.tenant_id::text as tenant_id, r.bucket::text as bucket,
      r.key::text collate "C" as key, r.completed_at, r.due_at, r.tenant_id as tenant, r.status, r.retain_until
    from retention._live r
    where r.is_candidate
      and r.completed_at < $1
      and %s
      and r.has_place
      and r.run_id is not null
      and r.due_at < %L::timestamptz',
    case when p_tenant_id is null then '$2 is null' else 'r.tenant_id = $2' end,
    p_end - v_cool_off
  );
  v_shared text[] := retention._look_shared_keys(v_source, v_before, p_tenant_id);
  v_holds boolean := exists (select from retention.hold);
begin
  return query execute format(
    'with freed as (
      select d.run_id, d.tenant_id, d.bucket, d.key, %s as free_at
      from (%s) d
      %s
      where not exists (
        select
        from retention._known_between(''-infinity'', ''infinity'') as f (run_id)
        where f.run_id = d.run_id
      )
    ),
    -- An object goes when the last of the runs that point at it is free.
    shared as (
      select f.*, %s as sharers_free_at, %s as is_spared
      from freed f
      %s
      %s
    )
    select date_trunc(''day'', j.at), j.state, j.tenant_id, j.bucket, count(*)
    from (
      select case
          when s.is_spared is not true and greatest(s.free_at, s.sharers_free_at) + $4 < $3
          then greatest(s.free_at, s.sharers_free_at, now()) + $4
        end as at,
        case
          when s.is_spared then ''spared''
          when greatest(s.free_at, s.sharers_free_at) < now() then ''due''
          when greatest(s.free_at, s.sharers_free_at) + $4 < $3 then ''upcoming''
          when s.free_at + $4 >= $3 then ''held''
          else ''shared''
        end as state,
        s.tenant_id,
        s.bucket
      from shared s
    ) j
    group by 1, j.state, j.tenant_id, j.bucket',
    case
      when v_holds
      then 'greatest(d.due_at, r.ended_at, t.ended_at + $5 * retention._place_in_line(d.run_id::text))'
      else 'd.due_at'
    end,
    v_source,
    case
      when v_holds
      then 'left join retention._last_holds() r on r.run_id = d.run_id
        left join retention._last_holds() t on t.tenant_id = d.tenant_id'
    end,
    case when v_shared is null then 'null::timestamptz' else 'case when o.run_id <> f.run_id then o.free_at else o.next_free_at end' end,
    case when exists (select from retention.spared_object) then 'x.key is not null' else 'false' end,
    case
      when v_shared is not null
      then 'left join retention._latest_sharers($6) o on o.bucket = f.bucket and o.key = f.key'
    end,
    case
      when exists (select from retention.spared_object)
      then 'left join (
        select distinct n.bucket, n.key
        from retention.spared_object n
        where retention._is_spared_for_now(n.bucket, n.key)
      ) x on x.bucket = f.bucket and x.key = f.key'
    end
  )
  using v_before, p_tenant_id::retention.tenant_id, p_end, v_cool_off, v_spread, v_shared;
end
$_$;

CREATE FUNCTION retention._upcoming_by_tenant(p_tenant_keys text[], p_end timestamp with time zone) RETURNS TABLE(at timestamp with time zone, state text, tenant_id text, bucket text, results bigint)
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
declare
  v_setting retention.setting;
  v_cool_off interval;
  v_holds boolean := exists (select from retention.hold);
begin
  select * into strict v_setting from retention.setting;
  v_cool_off := coalesce(v_setting.cool_off, '0');
  return query
  with tenant as materialized (
    select n.tenant_id, p_end - v_cool_off - retention._in_seconds(coalesce(p.retain, d.retain)) as before
    from retention._tenant_ids() as n (tenant_id)
    join retention.policy d on d.tenant_id = '*'
    left join retention.policy p on p.tenant_id = n.tenant_id::text
      and p.tenant_id <> '*'
    where p_tenant_keys is null
      or retention._tenant_key(n.tenant_id::text) = any (p_tenant_keys)
  ),
  seen as materialized (
    select r.run_id, r.tenant_id, r.bucket, r.key, r.completed_at, r.due_at
    from tenant t
    cross join lateral retention._past(t.tenant_id, null, null, t.before, null) r
    where r.has_place
      and r.run_id is not null
      and r.due_at < p_end - v_cool_off
  ),
  freed as materialized (
    select s.*, case when v_holds then retention._free_at(s.run_id, s.tenant_id, s.due_at) else s.due_at end as free_at
    from seen s
    where s.run_id not in (
      select f.run_id
      from retention._known_between(
        (select min(x.completed_at) from seen x), (select max(x.completed_at) from seen x)
      ) as f (run_id)
    )
  ),
  -- An object goes when the last of the runs that point at it is free.
  shared as materialized (
    select f.*,
      case
        when v_setting.check_shared_objects then (
          select greatest(
            -- Another run that is set aside keeps it until the release.
            case
              when count(*) > 0
                and (select exists (select from retention.surge_part))
                and retention._is_set_aside_object(f.bucket, f.key)
              then timestamptz 'infinity'
            end,
            max(
              case
                when o.due_at is null then 'infinity'
                when v_holds then retention._free_at(o.run_id::retention.run_id, o.tenant_id::text, o.due_at)
                else o.due_at
              end
            )
          )
          from retention._live o
          where o.key_hash = retention._key_hash(f.key)
            and o.key = f.key collate "C"
            and o.bucket = f.bucket
            and o.run_id <> f.run_id
        )
      end as sharers_free_at,
      case
        when (select exists (select from retention.spared_object)) then retention._is_spared_for_now(f.bucket, f.key)
      end as is_spared
    from freed f
  ),
  judged as (
    select case
        when s.is_spared is not true and greatest(s.free_at, s.sharers_free_at) + v_cool_off < p_end
        then greatest(s.free_at, s.sharers_free_at, now()) + v_cool_off
      end as at,
      case
        when s.is_spared then 'spared'
        when greatest(s.free_at, s.sharers_free_at) < now() then 'due'
        when greatest(s.free_at, s.sharers_free_at) + v_cool_off < p_end then 'upcoming'
        when s.free_at + v_cool_off >= p_end then 'held'
        else 'shared'
      end as state,
      s.tenant_id,
      s.bucket
    from shared s
  )
  select j.at, j.state, j.tenant_id, j.bucket, count(*)
  from judged j
  group by j.at, j.state, j.tenant_id, j.bucket;
end
$$;

CREATE FUNCTION retention._upcoming_flagged(p_tenant_id text) RETURNS TABLE(at timestamp with time zone, state text, tenant_id text, bucket text, results bigint)
    LANGUAGE sql STABLE
    AS $$
  select case
      when b.dead_at is not null then null
      when b.lease is not null then now()
      else greatest(b.visible_at, now())
    end,
    case when b.dead_at is not null then 'dead' else 'flagged' end,
    u.tenant_id,
    b.bucket,
    count(*)
  from retention.batch b
  cross join unnest(b.tenants) as u (tenant_id)
  where b.settled_at is null
    and (p_tenant_id is null or u.tenant_id = p_tenant_id)
  group by b.batch_id, u.tenant_id
  union all
  select null, 'set aside', u.tenant_id, p.bucket, count(*)
  from retention.surge_part p
  cross join unnest(p.tenants) as u (tenant_id)
  where p_tenant_id is null or u.tenant_id = p_tenant_id
  group by u.tenant_id, p.bucket
$$;

CREATE FUNCTION retention._upcoming_unflagged(p_tenant_id text, p_end timestamp with time zone) RETURNS TABLE(at timestamp with time zone, state text, tenant_id text, bucket text, results bigint)
    LANGUAGE plpgsql STABLE
    AS $$
#variable_conflict use_column
declare
  v_keys text[] := case when p_tenant_id is not null then array[retention._tenant_key(p_tenant_id)] end;
  v_parts jsonb;
begin
  -- Nothing is known of the table while it is detached.
  if to_regclass('retention._live') is null then
    return;
  end if;
  begin
    if retention._is_wide_outlook(p_tenant_id, p_end) then
      return query select u.* from retention._upcoming_at_once(p_tenant_id, p_end) u;
    else
      return query select u.* from retention._upcoming_by_tenant(v_keys, p_end) u;
    end if;
    return;
  exception
    when others then
      if retention._is_passing(sqlstate) then
        raise;
      end if;
  end;
  v_keys := coalesce(v_keys, array(select retention._tenant_key(n.tenant_id::text) from retention._tenant_ids() as n (tenant_id)));
  v_parts := jsonb_build_array(to_jsonb(v_keys));
  while jsonb_array_length(v_parts) > 0 loop
    v_keys := array(select jsonb_array_elements_text(v_parts -> 0));
    v_parts := v_parts - 0;
    begin
      return query select u.* from retention._upcoming_by_tenant(v_keys, p_end) u;
    exception
      when others then
        if retention._is_passing(sqlstate) then
          raise;
        end if;
        if cardinality(v_keys) = 1 then
          raise warning 'a row of tenant % cannot be read, and the tenant is left out: % %',
            coalesce(nullif(substr(v_keys[1], 2), ''), '(none)'), sqlstate, sqlerrm;
        end if;
        v_parts := v_parts || retention._halves(v_keys);
    end;
  end loop;
end
$$;

CREATE FUNCTION retention._usual_names() RETURNS TABLE(view_column text, place integer, pattern text)
    LANGUAGE sql IMMUTABLE
    AS $$
  values ('run_id', 1, 'runid'),
    ('run_id', 2, '(job|task|execution|process|workflow|pipeline|report|export)(run)?(id|uuid)'),
    ('run_id', 3, 'id|uuid|guid'),
    ('run_id', 4, '.*id'),
    ('tenant_id', 1, 'tenantid'),
    ('tenant_id', 2, 'tenant(uuid|key|slug|code|name)?'),
    ('tenant_id', 3, '(org|organi[sz]ation|account|customer|workspace|team|company|client)(id|uuid|key|slug|code)?'),
    ('status', 1, 'status'),
    ('status', 2, '(run|job|task|execution|process|processing)?(status|state)'),
    ('status', 3, 'phase|outcome'),
    ('completed_at', 1, 'completedat'),
    ('completed_at', 2, '(run|job|task|execution)?(completed|completion|finished|finish|ended|end|done)(at|on|time|date|ts|timestamp)?'),
    ('retain_until', 1, 'retainuntil'),
    ('bucket', 1, 'results3bucket'),
    ('bucket', 2, 'resultbucket(name)?'),
    ('bucket', 3, '(s3|output|object|storage|artifact|file|blob)bucket(name)?'),
    ('bucket', 4, 'bucket(name)?'),
    ('key', 1, 'results3key'),
    ('key', 2, 'result(object)?(key|path)'),
    ('key', 3, '(s3|output|object|storage|artifact|file|blob)(object|s3)?(key|path)'),
    ('key', 4, 'key|path'),
    ('etag', 1, 'resultetag'),
    ('etag', 2, '(results3|s3|object)?etag'),
    ('cleared_at', 1, 'resultclearedat'),
    ('cleared_at', 2, '(results3)?clearedat|(result|object|s3)(deleted|removed|purged|expired)at'),
    ('updated_at', 1, 'updatedat'),
    ('updated_at', 2, '(lastupdated|lastmodified|modified|updated)(at|on|time)?')
$$;

CREATE FUNCTION retention._verify_splits(p_parts integer) RETURNS text[]
    LANGUAGE sql STABLE
    AS $$
  select coalesce(array_agg(distinct b.bound collate "C" order by b.bound collate "C"), '{}')
  from (
    select u.bound, row_number() over (order by u.bound collate "C") as n, count(*) over () as bounds
    from retention.adapter a
    join pg_class c on c.oid = a.table_oid
    join pg_namespace m on m.oid = c.relnamespace
    join pg_stats s on s.schemaname = m.nspname
      and s.tablename = c.relname
      and s.attname = a.columns -> 'key' ->> 'name'
    cross join unnest(s.histogram_bounds::text::text[]) as u (bound)
    where c.reltuples >= 100000
      and u.bound <> ''
  ) b
  where b.bounds >= p_parts * 2
    and b.n in (select b.bounds * g / p_parts from generate_series(1, p_parts - 1) g)
$$;

CREATE FUNCTION retention._waiting_run_ids() RETURNS SETOF retention.run_id
    LANGUAGE sql STABLE ROWS 100
    AS $$
  select unnest(b.run_ids)
  from retention.batch b
  where b.dead_at is not null
    and b.settled_at is null
  union all
  select unnest(p.run_ids)
  from retention.surge_part p
$$;

CREATE FUNCTION retention._watched(p_most integer DEFAULT retention._most_watched()) RETURNS TABLE(tenant_id retention.tenant_id, tenant_key text, retain interval, seen_completed_at timestamp with time zone, seen_run_id retention.run_id, is_held boolean, is_all boolean)
    LANGUAGE plpgsql STABLE ROWS 250
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  v_ids retention.tenant_id[];
  v_is_all boolean;
begin
  v_is_all := (select count(*) from (select from retention.ahead limit p_most + 1) a) <= p_most;
  if v_is_all then
    v_ids := array(select i from retention._some_tenant_ids(p_most + 1) i);
    v_is_all := cardinality(v_ids) <= p_most;
  end if;
  if not v_is_all then
    v_ids := array(
      select case when c.tenant_key <> '' then substr(c.tenant_key, 2) end::retention.tenant_id
      from (
        (select a.tenant_key, 1 as place from retention.ahead a order by a.due_at limit p_most / 2)
        union all
        (
          select retention._tenant_key(u.tenant_id), 2
          from (
            (select b.tenants from retention.batch b where b.settled_at is null order by b.oldest limit 1)
            union all
            (select p.tenants from retention.surge_part p order by p.oldest limit 1)
          ) o
          cross join lateral unnest(o.tenants) as u (tenant_id)
        )
        union all
        (select a.tenant_key, 3 from retention.ahead a order by a.due_at limit p_most)
        union all
        select retention._tenant_key(i::text), 4 from unnest(v_ids) i
      ) c
      group by c.tenant_key
      order by min(c.place)
      limit p_most
    );
  end if;
  return query
  select i.tenant_id,
    retention._tenant_key(i.tenant_id::text),
    coalesce(p.retain, d.retain),
    g.completed_at,
    g.run_id,
    exists (
      select
      from retention.hold h
      where h.tenant_id = i.tenant_id::text
        and retention._hold_end(h.released_at, h.expires_at) > now()
    ),
    v_is_all
  from unnest(v_ids) as i (tenant_id)
  join retention.policy d on d.tenant_id = '*'
  left join retention.policy p on p.tenant_id = i.tenant_id::text
    and p.tenant_id <> '*'
  left join retention.progress g on g.tenant_key = retention._tenant_key(i.tenant_id::text);
end
$$;

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

CREATE FUNCTION retention._who(p_session text, p_role text, p_application text) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN ((p_session || COALESCE((' as '::text || NULLIF(p_role, p_session)), ''::text)) || COALESCE(((' ('::text || p_application) || ')'::text), ''::text));

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

CREATE TABLE retention.variable (
    name text NOT NULL,
    value text,
    brought_at timestamp with time zone,
    brought text[] DEFAULT '{}'::text[] NOT NULL,
    applied_at timestamp with time zone,
    returned_at timestamp with time zone,
    set_at timestamp with time zone,
    set_by text,
    CONSTRAINT a_variable_names_a_setting CHECK ((name = ANY (ARRAY['enabled'::text, 'retain'::text, 'loop_interval'::text, 'batch_size'::text, 'default_bucket'::text]))),
    CONSTRAINT what_a_person_set_says_by_whom CHECK (((set_at IS NULL) = (set_by IS NULL)))
);

COMMENT ON TABLE retention.variable IS 'by setting, what processes brought as variables when they started, and when a person last set it';

COMMENT ON COLUMN retention.variable.value IS 'what the last process that had the variable brought; null: none had it';

COMMENT ON COLUMN retention.variable.brought IS 'every value that a process has brought: one that came before is not applied again';

COMMENT ON COLUMN retention.variable.applied_at IS 'when a variable last changed the setting';

COMMENT ON COLUMN retention.variable.returned_at IS 'when a variable last switched on again what another had switched off: at most once in an hour';

COMMENT ON COLUMN retention.variable.set_at IS 'when a person last set it: by a function, a command or an update of the table';

CREATE FUNCTION retention._why_ignored(p_known retention.variable, p_name text, p_value text, p_stored text) RETURNS text
    LANGUAGE sql
    AS $$
  select case
    when p_name = 'default_bucket' and (p_stored is not null or p_known.set_at is not null)
    then 'only retention.set_default_bucket changes a default bucket'
    when p_known.value = p_value and x.by_person
    then format('it is as before, and %s has set another value since, at %s', p_known.set_by, retention._iso(p_known.set_at))
    when p_known.value = p_value
    then 'it is as before'
    when p_known.value is null and p_known.set_at is not null
    then format('%s had set another value before it first came, at %s', p_known.set_by, retention._iso(p_known.set_at))
    when p_name = 'enabled' and not p_value::boolean or p_name = 'retain' and p_value::interval > p_stored::interval
    then null
    when p_name = 'enabled' and x.by_person
    then format('%s has switched it off, at %s, and a person switches it on again', p_known.set_by, retention._iso(p_known.set_at))
    when p_name = 'enabled' and coalesce(p_known.returned_at < clock_timestamp() - interval '1 hour', true)
    then null
    when p_value = any (p_known.brought) and p_name <> 'retain'
    then 'it was brought before and another value came after it; do processes with different variables run?'
  end
  from (select coalesce(p_known.set_at > coalesce(p_known.applied_at, '-infinity'), false) as by_person) x
$$;

CREATE FUNCTION retention._why_in_part(p_run_id retention.run_id, p_due_at timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select format('it is late: due since %s, ', retention._iso(p_due_at))
    || case
      when coalesce(g.seen_at, case when g.surge_id is null then h.seen_at end) is null
      then 'and no walk over the results had been complete when it was found'
      else format(
        'and unknown to the last complete walk, which began at %s', retention._iso(coalesce(g.seen_at, h.seen_at))
      )
    end
    || case
      when g.surge_id is null then '; the walk that found it is not complete yet, and judges it when it is'
      else format('; it is set aside in surge %s: retention surge show %s, then release', g.surge_id, g.surge_id)
    end
  from retention._part_of(p_run_id) p
  cross join retention.heartbeat h
  left join retention.surge g on g.surge_id = p.surge_id
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

CREATE TABLE retention.surge (
    surge_id bigint NOT NULL,
    found_at timestamp with time zone DEFAULT now() NOT NULL,
    found_by text NOT NULL,
    seen_at timestamp with time zone,
    found bigint NOT NULL,
    tenants bigint NOT NULL,
    rule text NOT NULL,
    closed_at timestamp with time zone,
    CONSTRAINT a_surge_has_results CHECK ((found > 0)),
    CONSTRAINT rule_is_known CHECK ((rule = ANY (ARRAY['tenant'::text, 'all'::text])))
);

COMMENT ON TABLE retention.surge IS 'one row for each time that late results were set aside';

COMMENT ON COLUMN retention.surge.seen_at IS 'when the last complete walk before it had begun; null: there was none';

COMMENT ON COLUMN retention.surge.found IS 'how many results it had when it was found';

COMMENT ON COLUMN retention.surge.rule IS 'tenant: some tenant was over setting.surge_guard; all: only all together, over surge_guard_all';

COMMENT ON COLUMN retention.surge.closed_at IS 'since when nothing of it is set aside any more: released, or no longer due';

CREATE FUNCTION retention._why_set_aside(p_surge retention.surge) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select case
      when p_surge.seen_at is null then 'no walk over the results had been complete before, so everything that was due was found at once'
      else format(
        'they were due before %s, when the last complete walk began, and it did not find them: rows were changed since',
        retention._iso(p_surge.seen_at)
      )
    end
    || case p_surge.rule
      when 'tenant' then format('; more of a tenant than the %s late results that may come in 24 hours', s.surge_guard)
      else format('; more of all tenants together than the %s late results that may come in 24 hours', s.surge_guard_all)
    end
  from retention.setting s
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
          when l.is_due then (
            select case
              when p.surge_id is null then 'which is late; the walk that found it is not complete yet'
              else format('which is set aside in surge %s until it is released: retention surge show %s', p.surge_id, p.surge_id)
            end
            from retention._part_of(l.run_id::retention.run_id) p
          )
          else 'which is not due'
        end
        from retention._live l
        where l.run_id = p_sharer::retention.run_id
        limit 1
      ),
      'which is not due'
    )
$$;

CREATE FUNCTION retention._why_skipped(p_run_id text, p_bucket text, p_key text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
  select case
    when p_run_id is null then format('a row without a run id, with the key %s', left(p_key, 100))
    when octet_length(p_bucket) > 255
    then format('run %s: the name of its bucket has %s bytes, and 255 are possible', left(p_run_id, 100), octet_length(p_bucket))
    else format('run %s: its key has more than the 1024 bytes that S3 holds', left(p_run_id, 100))
  end
$$;

CREATE FUNCTION retention._why_spared(p_run_id retention.run_id, p_bucket text, p_key text, p_etag text, OUT state text, OUT because text) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_keeper record;
  v_note retention.spared_object;
begin
  select * into v_keeper from retention._keeper_of(p_bucket, p_key);
  if v_keeper.kept_by is not null then
    state := 'kept';
    because := format('kept by %s, whose rows need its object %s', v_keeper.kept_by, case
      when v_keeper.until = 'infinity' then 'as long as they are there'
      else retention._until(v_keeper.until)
    end);
    return;
  end if;
  select *
  into v_note
  from retention.spared_object o
  where o.bucket = p_bucket
    and o.key = p_key collate "C"
    and o.etag = retention._object_condition(p_bucket, p_key)
    and o.until > now();
  if found then
    state := 'object changed';
    because := case v_note.etag
      when '!' then format('its etag %s is none that S3 could be asked for, so it is kept: correct the etag, or set it to null', coalesce(quote_literal(left(p_etag, 100)), 'of a run that shares it'))
      else format(
        'S3 holds another version of its object than the one with the etag %s, found %s, last at %s; S3 is asked again at %s, or when the row has another etag',
        v_note.etag,
        case v_note.times when 1 then 'once' else v_note.times || ' times' end,
        retention._iso(v_note.noted_at),
        retention._iso(v_note.until)
      )
    end;
  end if;
end
$$;

CREATE FUNCTION retention._without(p_batch retention.batch, p_places bigint[]) RETURNS retention.batch
    LANGUAGE plpgsql STABLE
    AS $$
declare
  v_place bigint;
begin
  if cardinality(p_places) <= 8 then
    -- Most batches lose few: cut out, which costs a tenth of taking the arrays apart.
    for v_place in
      select distinct n from unnest(p_places) as n order by n desc
    loop
      p_batch.run_ids := p_batch.run_ids[:v_place - 1] || p_batch.run_ids[v_place + 1:];
      p_batch.keys := p_batch.keys[:v_place - 1] || p_batch.keys[v_place + 1:];
      p_batch.tenants := p_batch.tenants[:v_place - 1] || p_batch.tenants[v_place + 1:];
      p_batch.etags := p_batch.etags[:v_place - 1] || p_batch.etags[v_place + 1:];
    end loop;
  else
    select coalesce(array_agg(u.run_id order by u.n), '{}'),
      coalesce(array_agg(u.key order by u.n), '{}'),
      coalesce(array_agg(u.tenant_id order by u.n), '{}'),
      case when p_batch.etags is not null then coalesce(array_agg(u.etag order by u.n), '{}') end
    into strict p_batch.run_ids, p_batch.keys, p_batch.tenants, p_batch.etags
    from unnest(p_batch.run_ids, p_batch.keys, p_batch.tenants, p_batch.etags) with ordinality
      as u (run_id, key, tenant_id, etag, n)
    where u.n not in (select unnest(p_places));
  end if;
  p_batch.results := cardinality(p_batch.run_ids);
  return p_batch;
end
$$;

CREATE FUNCTION retention._without_kept(p_rows retention.selection[]) RETURNS retention.selection[]
    LANGUAGE plpgsql STABLE
    AS $$
begin
  if not exists (select from retention.keeper) then
    return p_rows;
  end if;
  return array(
    select row(r.run_id, r.tenant_id, r.bucket, r.key, r.completed_at, r.due_at)::retention.selection
    from unnest(p_rows) with ordinality as r (run_id, tenant_id, bucket, key, completed_at, due_at, n)
    left join (
      select b.bucket, k.key
      from (
        select g.bucket, array_agg(distinct g.key collate "C") as keys
        from unnest(p_rows) as g
        group by g.bucket
      ) b
      cross join lateral retention._kept(b.bucket, b.keys) k
    ) x on x.bucket = r.bucket and x.key = r.key collate "C"
    where x.key is null
    order by r.n
  );
end
$$;

CREATE FUNCTION retention._without_receipt(p_list retention.orphan_list, p_keys text[]) RETURNS text[]
    LANGUAGE sql STABLE
    AS $$
  select coalesce(array_agg(k.key order by k.n), '{}')
  from unnest(p_keys) with ordinality as k (key, n)
  where k.key collate "C" not in (
      select retention._unpack_key(u.key, '') collate "C"
      from retention.receipt r
      cross join unnest(r.keys) as u (key)
      where r.settled_at >= p_list.begun_at
        and r.kind = 'orphan'
        and r.bucket = p_list.bucket
    )
    -- With hashed keys, each is tried with the salt of each receipt.
    and not exists (
      select
      from retention.receipt r
      cross join unnest(retention._kept_keys(r.keys, r.key_digests)) with ordinality as u (key, n)
      where r.settled_at >= p_list.begun_at
        and r.kind = 'orphan'
        and r.bucket = p_list.bucket
        and r.key_digests is not null
        and u.key = retention._hashed_key(retention._leaf_salt(r.salt, u.n), k.key)
    )
$$;

CREATE FUNCTION retention._work_at(p_run_id retention.run_id, p_completed_at timestamp with time zone, p_cleared_at timestamp with time zone, p_is_there boolean, p_at timestamp with time zone, OUT state text, OUT because text, OUT receipt text, OUT settled_at timestamp with time zone, OUT batch_id bigint, OUT flagged_at timestamp with time zone, OUT early interval, OUT tenant_id text, OUT bucket text, OUT key text, OUT surge_id bigint) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
#variable_conflict use_column
declare
  -- A run that completed later than then may have had another result before, under another date.
  v_batch_ids bigint[] := retention._batches_with(
    p_run_id, p_completed_at, p_cleared_at, not p_is_there or coalesce(p_completed_at > p_at, true), null
  );
  v_last record;
  v_next record;
  v_past record;
  v_batch retention.batch;
begin
  select * into v_last from retention._run_receipts(p_run_id, v_batch_ids) r where r.settled_at <= p_at order by r.settled_at desc limit 1;
  select * into v_next from retention._run_receipts(p_run_id, v_batch_ids) r where r.settled_at > p_at order by r.settled_at limit 1;
  receipt := coalesce(v_last.receipt, v_next.receipt);
  settled_at := coalesce(v_last.settled_at, v_next.settled_at);
  tenant_id := coalesce(v_last.tenant_id, v_next.tenant_id);
  bucket := coalesce(v_last.bucket, v_next.bucket);
  key := coalesce(v_last.key, v_next.key);
  -- A run that completed again after that has another result.
  if v_last.is_gone and not coalesce(p_completed_at > v_last.settled_at and p_completed_at <= p_at, false) then
    state := 'cleared';
    because := retention._receipt_words(
        v_last.receipt, v_last.kind, v_last.is_gone, v_last.how, v_last.bucket, v_last.key, v_last.asked_by, v_last.retain
      )
      || format(', at %s', retention._iso(v_last.settled_at))
      || case when v_last.flagged_at is not null then format('; it had been flagged at %s', retention._iso(v_last.flagged_at)) else '' end;
    batch_id := v_last.batch_id;
    flagged_at := v_last.flagged_at;
    return;
  end if;
  if p_cleared_at <= p_at
    and coalesce(p_cleared_at > v_last.settled_at, true)
    and not coalesce(
      v_next.is_gone and p_cleared_at between coalesce(v_next.began_at, v_next.settled_at - interval '1 hour') and v_next.settled_at,
      false
    )
  then
    state := 'stamped';
    because := format('it was stamped at %s, and no receipt says that its result was deleted', retention._iso(p_cleared_at));
    return;
  end if;
  if v_next.is_gone and v_next.batch_id is not null then
    select * into v_batch from retention.batch b where b.batch_id = v_next.batch_id;
  elsif v_next.receipt is null then
    v_batch := retention._batch_of(p_run_id, p_completed_at);
  end if;
  surge_id := retention._surge_at(p_run_id, p_completed_at, p_is_there, v_batch.flagged_at, p_at);
  select * into v_past
  from retention._past_at(p_run_id, p_completed_at, p_is_there, case when v_batch.flagged_at <= p_at then v_batch.batch_id end, p_at);
  if v_past.batch_id is null and coalesce(v_batch.flagged_at > p_at, true) then
    return;
  end if;
  if v_batch.flagged_at <= p_at then
    batch_id := v_batch.batch_id;
    flagged_at := v_batch.flagged_at;
    early := v_batch.early;
    select w.state, w.because into state, because from retention._batch_at(v_batch, p_at) w;
  else
    batch_id := v_past.batch_id;
    flagged_at := v_past.flagged_at;
    state := 'flagged';
    because := format('it had been flagged at %s, waited in batch %s, and left it uncleared at %s',
      retention._iso(v_past.flagged_at), v_past.batch_id, retention._iso(v_past.left_at));
  end if;
  if v_past.state is not null then
    state := v_past.state;
    because := v_past.because;
  end if;
end
$$;

CREATE FUNCTION retention._work_now() RETURNS TABLE(flagged bigint, leased bigint, failed bigint, dead bigint, batches bigint, oldest timestamp with time zone, due_since timestamp with time zone)
    LANGUAGE sql STABLE
    AS $$
  select coalesce(sum(b.results) filter (where b.dead_at is null), 0)::bigint as flagged,
    coalesce(sum(b.results) filter (where b.lease is not null and b.visible_at > now()), 0)::bigint as leased,
    coalesce(sum(b.results) filter (where b.attempts > 0 and b.dead_at is null), 0)::bigint as failed,
    coalesce(sum(b.results) filter (where b.dead_at is not null), 0)::bigint as dead,
    count(*) filter (where b.dead_at is null) as batches,
    min(b.oldest) filter (where b.dead_at is null and b.kind is null) as oldest,
    min(b.due_since) filter (where b.dead_at is null) as due_since
  from retention.batch b
  where b.settled_at is null
$$;

CREATE FUNCTION retention._work_of(p_tenant_id text) RETURNS TABLE(run_id retention.run_id, state text)
    LANGUAGE sql STABLE
    AS $$
  select distinct on (u.run_id) u.run_id,
    case
      when b.dead_at is not null then 'dead'
      when b.deleted_at is not null then 'deleted, not stamped yet'
      when b.lease is not null and b.visible_at > now() then 'in flight'
      when b.failed_at is not null then 'failed'
      else 'flagged'
    end
  from retention.batch b
  cross join lateral unnest(b.run_ids, b.tenants) as u (run_id, tenant_id)
  where b.settled_at is null
    and u.tenant_id collate "C" is not distinct from p_tenant_id collate "C"
  order by u.run_id, b.batch_id
$$;

CREATE FUNCTION retention._write_messages() RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
  insert into retention.webhook (kind)
  select distinct a.kind
  from retention.attention a
  where a.told_at is null
    and not exists (select from retention.webhook w where w.kind = a.kind)
  on conflict do nothing;
  with fresh as (
    update retention.attention a
    set told_at = clock_timestamp()
    from retention.webhook k
    where k.kind = a.kind
      and k.message_id is null
      and k.next_at <= now()
      and a.told_at is null
    returning a.kind, a.attention_id, a.at, a.payload
  ),
  latest as (
    select distinct on (f.kind) f.*,
      count(*) over (partition by f.kind) as announcements
    from fresh f
    order by f.kind, f.attention_id desc
  )
  update retention.webhook w
  set message_id = gen_random_uuid(),
    happened_at = n.at,
    payload = n.payload,
    announcements = n.announcements,
    attempts = 0
  from latest n
  where w.kind = n.kind
    and n.at > now() - interval '1 day'
    and not exists (
      select
      from retention.attention o
      where o.attention_id > n.attention_id
        and case
          when n.kind in ('halted', 'copy') then o.kind = 'resumed'
          when n.kind = 'resumed' then o.kind in ('halted', 'copy')
          else false
        end
    );
end
$$;

CREATE FUNCTION retention._write_receipts(p_kind text, p_bucket text, p_run_ids retention.run_id[], p_keys text[], p_tenants text[], p_client text, p_ends text[] DEFAULT NULL::text[], p_versions text[] DEFAULT NULL::text[], p_request_ids text[] DEFAULT NULL::text[]) RETURNS void
    LANGUAGE sql
    AS $$
  insert into retention.receipt (
    kind, bucket, results, run_ids, keys, tenants, asked_by, revision, ends, versions, request_ids, product
  )
  select p_kind,
    p_bucket,
    count(*),
    array_agg(u.run_id order by u.n),
    array_agg(
      case when u.run_id is null then E'\x02' || u.key else retention._pack_key(u.key, u.run_id::text) end order by u.n
    ),
    array_agg(u.tenant_id order by u.n),
    session_user,
    (select max(c.change_id) from retention.change c),
    case when p_ends is not null then array_agg(u.word order by u.n) end,
    case when p_versions is not null then array_agg(u.version order by u.n) end,
    nullif(p_request_ids, '{}'),
    left(p_client, 100)
  from unnest(p_run_ids, p_keys, p_tenants, p_ends, p_versions) with ordinality
    as u (run_id, key, tenant_id, word, version, n)
  group by (u.n - 1) / 1000
  order by min(u.n)
$$;

CREATE FUNCTION retention._write_target(p_view_column text, p_target jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $_$
  select case
    when p_target ? 'fixed' then quote_literal(p_target ->> 'fixed')
    when p_target ->> 'name' is null then ''
    else case
        when p_target ->> 'name' ~ '^[a-z_][a-z0-9_$]*$' then p_target ->> 'name'
        else '"' || replace(p_target ->> 'name', '"', '""') || '"'
      end
      || case when p_view_column = 'status' and p_target ->> 'completed' <> 'COMPLETED' then ':' || (p_target ->> 'completed') else '' end
  end
$_$;

CREATE FUNCTION retention.accept_fence(p_reason text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if not exists (select from retention._copy_reason()) then
    return false;
  end if;
  perform retention._two_people('fence', to_jsonb(n)) from retention._identity_now() n;
  insert into retention.identity (system_identifier, database_oid, database_name, timeline, accepted_at, accepted_by, accepted_reason)
  select n.system_identifier, n.database_oid, n.database_name, n.timeline, clock_timestamp(), session_user, nullif(btrim(p_reason), '')
  from retention._identity_now() n
  on conflict (singleton) do update
  set system_identifier = excluded.system_identifier,
    database_oid = excluded.database_oid,
    database_name = excluded.database_name,
    timeline = excluded.timeline,
    accepted_at = excluded.accepted_at,
    accepted_by = excluded.accepted_by,
    accepted_reason = excluded.accepted_reason;
  update retention.fence
  -- It may have been lost before it was ever renewed from here: the copy is older than the first renewal.
  set taking = renewed_at is not null or lost_at is not null,
    lost_at = null,
    lost_because = null;
  perform retention._note_gate();
  return true;
end
$$;

COMMENT ON FUNCTION retention.accept_fence(p_reason text) IS 'Says that this database is the one that deletes from now on: what it is now is accepted, and its fence in S3, if one is
in use, is taken by the next look of a listener from the one that has it: the other database halts then. Look at
retention.fence() and retention.fence_losses() before. p_reason: why, for those who read it later. Returns false
where there was nothing to accept.
For operators. Never for the listener''s role.
Locks the rows of retention.identity and retention.fence.';

CREATE FUNCTION retention.account_stamps(p_from timestamp with time zone DEFAULT NULL::timestamp with time zone, p_to timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS TABLE(kind text, results bigint, run_ids text[], because text, remedy text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    SET work_mem TO '32MB'
    SET enable_sort TO 'off'
    AS $$
#variable_conflict use_column
declare
  v_kinds text[] := array[
    'accounted', 'no_receipt', 'before_adoption', 'receipt_pruned', 'no_stamp', 'no_row', 'another_result', 'returned'
  ];
  v_counts bigint[] := array_fill(0::bigint, array[8]);
  v_runs jsonb := '{}';
  v_found record;
  v_place integer;
  v_counted_at timestamptz := clock_timestamp();
begin
  if to_regclass('retention.result') is null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'stamps cannot be counted while the table is detached',
      hint = 'Attach it first: select retention.attach(), or retention migrate up';
  end if;
  if p_to <= p_from then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected an end after the beginning, given: from %s to %s', p_from, p_to);
  end if;
  for v_found in
    -- Two runs of each of many heaps: the first ten of millions without keeping millions.
    select j.kind,
      count(*) as results,
      case when j.kind <> 'accounted' then array[min(j.run_id::text), max(j.run_id::text)] end as run_ids
    from retention._judge_stamps(p_from, p_to) j
    group by j.kind, case when j.kind <> 'accounted' then hashtext(j.run_id::text) & 4095 end
  loop
    v_place := array_position(v_kinds, v_found.kind);
    v_counts[v_place] := v_counts[v_place] + v_found.results;
    if jsonb_array_length(coalesce(v_runs -> v_found.kind, '[]')) < 10 and v_found.run_ids[1] is not null then
      v_runs := jsonb_set(
        v_runs, array[v_found.kind],
        coalesce(v_runs -> v_found.kind, '[]') || to_jsonb(v_found.run_ids[1:least(v_found.results, 2)])
      );
    end if;
  end loop;
  if p_from is null and p_to is null and not current_setting('transaction_read_only')::boolean then
    insert into retention.stamp_account as a (kind, results, run_ids, counted_at)
    select v_kinds[n], v_counts[n], array(select jsonb_array_elements_text(v_runs -> v_kinds[n])), v_counted_at
    from generate_series(1, cardinality(v_kinds)) n
    on conflict (kind) do update
    set results = excluded.results,
      run_ids = excluded.run_ids,
      counted_at = excluded.counted_at,
      counted_by = excluded.counted_by;
  end if;
  return query
  select v_kinds[n], v_counts[n], array(select jsonb_array_elements_text(v_runs -> v_kinds[n]) order by 1), w.because, w.remedy
  from generate_series(1, cardinality(v_kinds)) n
  cross join lateral retention._account_words(v_kinds[n]) w
  order by n;
end
$$;

COMMENT ON FUNCTION retention.account_stamps(p_from timestamp with time zone, p_to timestamp with time zone) IS 'Holds stamps against receipts, and counts by kind: accounted; no_receipt, before_adoption and receipt_pruned (a stamp
without a receipt); no_stamp, no_row, another_result and returned (a receipt without a stamp). because says each in
words, remedy what a person can do, and run_ids names up to ten runs of what is not as usual. p_from and p_to: only
stamps and receipts from p_from on and before p_to, so that consecutive stretches add up but for results that were deleted
twice; by default all, which is what status shows afterwards. It reads the whole table once for each stretch, and keeps no more in memory for more rows.
For observers.
Raises object_not_in_prerequisite_state while the table is detached, and invalid_parameter_value where p_to is not after
p_from.';

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

CREATE FUNCTION retention.add_keeper(p_table text, p_key_column text, p_bucket_column text DEFAULT NULL::text, p_until_column text DEFAULT NULL::text, p_by text DEFAULT NULL::text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
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

COMMENT ON FUNCTION retention.add_keeper(p_table text, p_key_column text, p_bucket_column text, p_until_column text, p_by text) IS 'Adds a keeper: what a row of p_table names in p_key_column is not deleted, and is no orphan. p_bucket_column: the
bucket of the object; a row without a value means the default bucket, or where there is none every bucket; null: a row
keeps its key in every bucket. p_until_column: until when; a row without a value keeps its object as long as it is
there; null: every row does. p_by: who adds it; by default the session''s user. It counts from the next claim on; what
is in flight may still go. Returns its number.
For operators.
Locks nothing of the application''s.
Raises invalid_parameter_value for an empty name, undefined_table, wrong_object_type, undefined_column,
datatype_mismatch, insufficient_privilege with the
statement that grants what is missing, object_not_in_prerequisite_state with the statement that makes the index that
is missing, and duplicate_object for a keeper that is there.';

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
    retention._hides_rows(c.oid, v.relowner),
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
$$;

COMMENT ON FUNCTION retention.adopted_table() IS 'The adopted table: who owns it and the view over it, its row-level security (off, on or forced), whether its
policies are asked when the view''s owner reads it (is_filtered), and how many of them let the view''s owner see
rows. No row while it is detached or gone. Reads catalogs. For observers.';

CREATE FUNCTION retention.adoption_report() RETURNS TABLE(name text, state text, found text, remedy text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $$
  select r.*
  from retention.adapter a
  join pg_class v on v.oid = to_regclass('retention.result')
  cross join lateral (
    select c.* from retention._report_catalog(a.table_oid, a.columns, v.relowner) c
    union all
    select s.* from retention._report_rows(a.table_oid, a.columns) s
  ) r
  where to_regclass(a.table_name)::oid = a.table_oid
$$;

COMMENT ON FUNCTION retention.adoption_report() IS 'What is odd or missing about the adopted table by now, each with the statement that helps, as `retention init` and
`migrate up` say it before it is adopted. state: ok, warning or failed. No row while it is detached or gone. It
looks at catalogs and at 10,000 rows. For observers.';

CREATE FUNCTION retention.apply_variables(p_variables jsonb) RETURNS TABLE(name text, outcome text, message text, remedy text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
declare
  v_known retention.variable;
  v_given record;
  v_why text;
begin
  perform retention._check_settings('apply_variables', p_variables);
  -- One process at a time, in the order in which a person's change takes them too.
  perform from retention.setting for update;
  perform from retention.policy p where p.tenant_id = '*' for update;
  for v_given in
    select s.name, s.variable, s.value as stored, p_variables ->> s.name as value
    from retention._stored_settings() s
    where p_variables ->> s.name <> ''
    order by s.name
  loop
    insert into retention.variable (name) values (v_given.name) on conflict do nothing;
    select v.* into strict v_known from retention.variable v where v.name = v_given.name for update;
    update retention.variable v
    set value = v_given.value,
      brought_at = clock_timestamp(),
      brought = case when v_given.value = any (v.brought) then v.brought else (v_given.value || v.brought)[1:100] end
    where v.name = v_given.name;
    continue when retention._same_setting(v_given.name, v_given.value, v_given.stored);
    v_why := retention._why_ignored(v_known, v_given.name, v_given.value, v_given.stored);
    name := v_given.name;
    remedy := null;
    if v_given.name = 'retain' and exists (
      select
      from retention.policy p
      where p.tenant_id = '*'
        and p.pending_retain = retention._in_days(v_given.value::interval)
    ) then
      outcome := 'pending';
      message := format('default policy: stays %s; %s waits for a confirmation', v_given.stored, v_given.value);
    elsif v_why is not null then
      outcome := 'ignored';
      message := format('%s: stays %s, and %s (%s) is not applied: %s', v_given.name, coalesce(v_given.stored, 'none'),
        v_given.value, v_given.variable, v_why);
    elsif v_given.name = 'retain' then
      select a.outcome, a.message
      into outcome, message
      from retention._apply_retain(
        retention._in_days(v_given.value::interval), v_known.value is null, v_given.value = any (v_known.brought)
      ) a;
    else
      update retention.setting s
      set enabled = case when v_given.name = 'enabled' then v_given.value::boolean else s.enabled end,
        loop_interval = case when v_given.name = 'loop_interval' then v_given.value::interval else s.loop_interval end,
        batch_size = case when v_given.name = 'batch_size' then v_given.value::integer else s.batch_size end,
        default_bucket = case when v_given.name = 'default_bucket' then v_given.value else s.default_bucket end;
      outcome := 'applied';
      message := format('%s: %s -> %s', v_given.name, coalesce(v_given.stored, 'none'), v_given.value);
    end if;
    if outcome = 'applied' then
      update retention.variable v
      set applied_at = clock_timestamp(),
        returned_at = case
          when v_given.name = 'enabled' and v_given.value::boolean and v_given.value = any (v_known.brought) then clock_timestamp()
          else v.returned_at
        end,
        set_at = v_known.set_at,
        set_by = v_known.set_by
      where v.name = v_given.name;
    elsif outcome = 'pending' then
      remedy := 'retention policy confirm';
    else
      remedy := retention._how_to_set(v_given.name, v_given.value);
    end if;
    return next;
  end loop;
  perform retention._note_gate();
end
$$;

COMMENT ON FUNCTION retention.apply_variables(p_variables jsonb) IS 'Writes the settings that a process gets as variables, as it starts. p_variables: as in configure; a key that is absent changes
nothing. A variable is applied where it has changed since a process last brought it. One that came before is
not applied again, and the first one is not applied where a person has set the setting by then: what a person sets
stays. DPP_RETENTION_ENABLED=false and a longer default policy are applied whenever they have changed, and =true once in an hour where
no person has switched it off. A shorter default policy that makes results due, or that came before, waits for confirm_policy. A default bucket is taken where there is none.
Returns a row for each variable that differs from what the database had. outcome: applied, pending or ignored. remedy: what makes it hold;
null: it does.
For the listener.
Locks the row of retention.setting, the default policy, and rows of retention.variable.
Raises what configure raises.';

CREATE FUNCTION retention.approve(p_approval_id bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_approval retention.approval := retention._open_approval(p_approval_id);
begin
  if v_approval.asked_by = session_user then
    raise exception using
      errcode = 'check_violation',
      constraint = 'nobody_approves_their_own_request',
      message = format('request %s was asked for by %s, and another person approves it', p_approval_id, session_user),
      hint = 'The user of the session counts, whatever role it has set.';
  end if;
  if v_approval.approved_at is not null then
    return false;
  end if;
  update retention.approval
  set approved_by = session_user,
    approved_at = clock_timestamp()
  where approval_id = p_approval_id;
  return true;
end
$$;

COMMENT ON FUNCTION retention.approve(p_approval_id bigint) IS 'Approves what another person has asked for: that person may do exactly this, once, within 24 hours of asking.
Returns false where it was approved before.
For operators.
Locks the request.
Raises check_violation for one''s own request, and for one that is used, withdrawn or too old. Raises no_data_found
for one that is not there.';

CREATE FUNCTION retention.ask_approval(p_kind text, p_what jsonb) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_approval_id bigint;
begin
  if retention._act(p_kind) is not distinct from p_kind then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format(
        'expected policy, early, surge, hold, orphans, purge, setting, fence or keeper, given: %s',
        coalesce(left(p_kind, 100), 'null')
      );
  end if;
  if jsonb_typeof(p_what) is distinct from 'object' or octet_length(p_what::text) > 100000 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected what is asked as a JSON object, as the refusal says it, given: %s', coalesce(left(p_what::text, 100), 'null'));
  end if;
  select a.approval_id
  into v_approval_id
  from retention.approval a
  where a.kind = p_kind
    and a.what = p_what
    and a.asked_by = session_user
    and a.used_at is null
    and a.withdrawn_at is null
    and a.asked_at between clock_timestamp() - interval '24 hours' and clock_timestamp() + interval '1 minute'
  order by a.approved_at nulls last, a.approval_id
  limit 1;
  if found then
    return v_approval_id;
  end if;
  insert into retention.approval (kind, what, results)
  values (p_kind, p_what, retention._asked_results(p_kind, p_what))
  returning approval_id into v_approval_id;
  return v_approval_id;
end
$$;

COMMENT ON FUNCTION retention.ask_approval(p_kind text, p_what jsonb) IS 'Asks for an act that needs two people: p_kind and p_what as the refusal names them. Returns the number of the
request. One that this person has asked for in the last 24 hours, and that was neither used nor withdrawn, is
returned again. Commands that are refused ask by themselves.
For operators.
Raises invalid_parameter_value for a kind that is none, and for what is no object.';

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
          from retention._column_type(v_adapter.table_oid, c.value ->> 'name') t
          where t.type = coalesce(c.value ->> 'type', t.type)
            and t.collation_name is not distinct from c.value ->> 'collation'
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

CREATE FUNCTION retention.begin_canary(p_bucket text, p_every interval, p_client text DEFAULT NULL::text) RETURNS TABLE(step text, key text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_canary retention.canary;
begin
  select * into v_canary from retention.canary c where c.bucket = p_bucket for update skip locked;
  if not found then
    insert into retention.canary (bucket, every) values (p_bucket, p_every) on conflict do nothing;
    return;
  end if;
  if v_canary.every <> p_every then
    update retention.canary c set every = p_every where c.bucket = p_bucket;
  end if;
  if v_canary.asked_at > clock_timestamp() - interval '1 minute' then
    return;
  end if;
  if v_canary.key is not null and v_canary.batch_id is not null and v_canary.settled_at is null then
    -- It is on its way. One that was lost on it makes room for the next.
    if not exists (select from retention.batch b where b.batch_id = v_canary.batch_id and b.settled_at is null) then
      perform retention._end_canary(p_bucket, 'Lost', 'its batch has gone without having been settled');
    elsif v_canary.began_at < clock_timestamp() - p_every and v_canary.code is distinct from 'NotDeleted' then
      perform retention._note_canary_problem(
        p_bucket, 'NotDeleted', 'no listener has deleted it in the time after which the next one begins'
      );
    end if;
    return;
  end if;
  if v_canary.key is null then
    if v_canary.began_at > clock_timestamp() - p_every or not retention._is_open(p_client) then
      return;
    end if;
    v_canary.key := '.retention/canary/' || gen_random_uuid();
    v_canary.began_at := clock_timestamp();
  end if;
  update retention.canary c
  set key = v_canary.key,
    began_at = v_canary.began_at,
    asked_at = clock_timestamp()
  where c.bucket = p_bucket;
  return query select case when v_canary.settled_at is null then 'put' else 'look' end, v_canary.key;
end
$$;

COMMENT ON FUNCTION retention.begin_canary(p_bucket text, p_every interval, p_client text) IS 'What the canary of a bucket wants done now, for the first that asks: put (write the object), look (see whether it is
gone), or no row: nothing. p_every: how long after one canary began the next one begins; the first begins so long after
a listener first asked. None begins while the gate is closed. p_client: the client''s version. What a listener
has begun and not come back to is anybody''s after a minute.
For the listener.
Locks the row of the bucket''s canary.';

CREATE FUNCTION retention.begin_orphans(p_list_id uuid, p_digest text, p_expected bigint DEFAULT NULL::bigint, p_by text DEFAULT NULL::text) RETURNS TABLE(bucket text, prefix text, orphans bigint, deleted bigint, is_resumed boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
declare
  v_list retention.orphan_list;
begin
  perform retention._refuse_orphans_while_closed();
  select * into v_list from retention.orphan_list o where o.list_id = p_list_id for update;
  if not found then
    perform retention._refuse_orphans(
      format('this database knows no list %s', coalesce(p_list_id::text, 'null')),
      'It was made from another database, or this one was restored since. Check DATABASE_URL, or make a new list.'
    );
  end if;
  if v_list.digest is distinct from p_digest then
    perform retention._refuse_orphans(
      'the list is not as it was made',
      'Exactly the list that was made is deleted. To leave keys out, place a hold, or make a list with a narrower --prefix.'
    );
  end if;
  if v_list.begun_at is null then
    insert into retention.bucket (bucket) values (v_list.bucket) on conflict do nothing;
    perform from retention.bucket k where k.bucket = v_list.bucket for update;
    perform retention._check_orphan_list(v_list, p_expected);
    perform retention._two_people('orphans', jsonb_build_object(
      'bucket', v_list.bucket, 'prefix', v_list.prefix, 'digest', v_list.digest, 'count', v_list.orphans
    ));
    update retention.orphan_list o
    set begun_at = clock_timestamp(),
      begun_by = coalesce(p_by, session_user),
      begun_as = session_user,
      expected = p_expected
    where o.list_id = p_list_id;
  end if;
  return query
  select v_list.bucket, v_list.prefix, v_list.orphans, v_list.deleted, v_list.begun_at is not null;
end
$$;

COMMENT ON FUNCTION retention.begin_orphans(p_list_id uuid, p_digest text, p_expected bigint, p_by text) IS 'Begins the deletion of a list of orphans, or goes on with it: what was confirmed when it began is not asked again.
p_digest: of the list as it is now. p_expected: exactly how many objects it names; needed where that is more than
a tenth of what was listed, or more than 10,000 of a bucket in a day. p_by: who deletes; by default the session''s user.
For operators.
Locks the row of the list, and the bucket''s. Reads the application''s table until a row names the bucket.
Raises RR040 where it is refused: the gate is closed, the list is not known here, was changed, is less than an hour
old, is larger than was confirmed, or no row names its bucket.';

CREATE FUNCTION retention.begin_verify() RETURNS TABLE(verify_id uuid, started_at timestamp with time zone, before timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform retention._check_indexes();
  return query select gen_random_uuid(), now(), now() - interval '1 hour';
end
$$;

COMMENT ON FUNCTION retention.begin_verify() IS 'Names a verify and says when it began. What completed after before, within the last hour, is not judged: its
object may be younger than the listing. Writes nothing. For operators.
Raises object_not_in_prerequisite_state where an index on the application''s table is missing.';

CREATE FUNCTION retention.busy_buckets(p_limit integer DEFAULT 20) RETURNS TABLE(bucket text, versioning text, on_versioned text, flagged bigint, leased bigint, oldest timestamp with time zone, cleared_24h bigint, dead bigint, paused_until timestamp with time zone, pause_code text, pause_error text, habits jsonb, max_per_second integer, max_in_flight integer)
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
    case when k.paused_until > now() then k.pause_error end,
    retention._habits_of(k),
    k.max_per_second,
    k.max_in_flight
  from retention.bucket k
  left join (
    select b.bucket,
      (sum(b.results) filter (where b.dead_at is null))::bigint as flagged,
      (sum(b.results) filter (where b.lease is not null and b.visible_at > now()))::bigint as leased,
      min(b.oldest) filter (where b.dead_at is null and b.kind is null) as oldest,
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

COMMENT ON FUNCTION retention.busy_buckets(p_limit integer) IS 'The buckets and their work: those that pause first, then those with the most to do. habits: what the store of a
bucket does differently, as known_buckets has it, and its ceilings. Reads open batches, dead ones and those of the last 24 hours by
their indexes. For observers.';

CREATE FUNCTION retention.canary_state() RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
  select jsonb_agg(
    jsonb_build_object(
      'bucket', c.bucket,
      'every_seconds', extract(epoch from c.every),
      'age_seconds', extract(epoch from greatest(clock_timestamp() - coalesce(c.confirmed_at, c.first_at), '0')),
      'confirmed_at', retention._iso(c.confirmed_at),
      'is_off', coalesce(c.code = 'AccessDenied' and c.confirmed_at is null, false),
      'code', c.code,
      'problem', c.problem
    )
    order by c.bucket
  )
  from (
    select *
    from retention.canary c
    where c.began_at > clock_timestamp() - greatest(c.every * 2, interval '1 day')
    order by c.bucket
    limit 50
  ) c
$$;

COMMENT ON FUNCTION retention.canary_state() IS 'How the canaries are, by bucket: {"bucket", "every_seconds", "age_seconds" (since one last went the whole way, or since
listeners first asked), "confirmed_at", "code", "problem"}. is_off: the store has refused to write it, so there is none.
Buckets of which no listener has asked for a day and for twice the interval are left out. Null: there is none.
For observers.';

CREATE FUNCTION retention.certificate_changes(p_tenant_id text, p_from timestamp with time zone, p_to timestamp with time zone) RETURNS TABLE(change_id bigint, seal_id bigint, salt text, change_text text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
begin
  return query
  select c.change_id, c.seal_id, encode(c.salt, 'hex'), retention._change_text(c)
  from retention._rule_changes(retention._check_certificate(p_tenant_id, p_from, p_to), p_from) c
  where c.seal_id is not null
    and retention._is_shown(c);
end
$$;

COMMENT ON FUNCTION retention.certificate_changes(p_tenant_id text, p_from timestamp with time zone, p_to timestamp with time zone) IS 'The changes of the rule that a certificate can prove, with what their digests are made of.
For observers.
Raises what certificate_results raises.';

CREATE FUNCTION retention.certificate_facts(p_tenant_id text, p_from timestamp with time zone, p_to timestamp with time zone) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET "DateStyle" TO 'ISO, YMD'
    SET "IntervalStyle" TO 'postgres'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    AS $$
declare
  v_tenant_id text := retention._check_certificate(p_tenant_id, p_from, p_to);
  v_query text := retention._population(v_tenant_id, p_from, p_to);
  v_counted bigint;
begin
  execute format('select count(*) from (%s) p', v_query) into v_counted;
  return jsonb_build_object(
    'as_of', retention._iso(now()),
    'session', session_user,
    'tenant', v_tenant_id,
    'database', (select i.fence from retention.identity i),
    'adopted_at', (select retention._iso(i.adopted_at) from retention.identity i),
    'receipts_kept', (select s.receipts_kept::text from retention.setting s),
    'receipt_keys', case
      when (select s.receipt_keys from retention.setting s) = 'hashed' or exists (
        select from retention.change c where c.subject = 'setting' and c.after ->> 'receipt_keys' = 'hashed'
      )
      then 'hashed'
      else 'plain'
    end,
    'is_known', retention._is_known_tenant(v_tenant_id),
    'rule', jsonb_build_object(
      'retain', retention._in_days(retention._retain_of(v_tenant_id))::text,
      'in_force', (
        select coalesce(jsonb_agg(jsonb_build_object(
          'policy_of', p.tenant_id,
          'retain', retention._in_days(p.retain)::text,
          'set_at', retention._iso(p.set_at),
          'set_by', p.set_by
        ) order by p.tenant_id), '[]')
        from retention.policy p
        where p.tenant_id in ('*', v_tenant_id)
      ),
      'changes', (
        select coalesce(jsonb_agg(jsonb_build_object(
          'change', c.change_id,
          'at', retention._iso(c.at),
          'policy_of', c.tenant_id,
          'before', retention._in_days((c.before ->> 'retain')::interval)::text,
          'after', retention._in_days((c.after ->> 'retain')::interval)::text,
          'by', c.session_name,
          'role', c.role_name,
          'application', c.application,
          'seal', case when retention._is_shown(c) then c.seal_id end
        ) order by c.change_id), '[]')
        from retention._rule_changes(v_tenant_id, p_from) c
      ),
      'changes_known_since', (select retention._iso(min(c.at)) from retention.change c where c.change_id = (select min(m.change_id) from retention.change m))
    ),
    'query', v_query,
    'counted', v_counted,
    'head', (
      select jsonb_build_object(
        'seal', s.seal_id,
        'digest', encode(s.digest, 'hex'),
        'sealed_at', retention._iso(s.sealed_at),
        'complete_to', retention._iso(s.complete_to)
      )
      from retention.seal s
      order by s.seal_id desc
      limit 1
    )
  );
exception
  when data_exception or raise_exception then
    perform retention._refuse_unreadable(sqlstate, sqlerrm);
end
$$;

COMMENT ON FUNCTION retention.certificate_facts(p_tenant_id text, p_from timestamp with time zone, p_to timestamp with time zone) IS 'What a certificate says beside its results, as one object: as_of, session, database (the fence), adopted_at,
receipts_kept, receipt_keys (hashed: some receipts keep digests of keys), is_known (anything at all tells of the tenant), rule (the policies in force, and their changes with who made them), query (the population, as it can be run) and
counted (what it counts), and head (the last seal; null: there is none).
For observers.
Raises what certificate_results raises.';

CREATE FUNCTION retention.certificate_leaves(p_tenant_id text, p_batches bigint[], p_receipts bigint[]) RETURNS TABLE(receipt text, seal_id bigint, header text, others json, salts json, texts json)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    AS $$
  select r.source || '-' || r.id,
    r.seal_id,
    retention._receipt_header(
      r.source, r.id, r.kind, r.bucket, r.settled_at, r.request_ids, r.asked_by, r.revision, r.settled_session, r.product
    ),
    o.others,
    l.salts,
    l.texts
  from (
    select * from retention._receipt b where b.source = 'batch' and b.id = any (p_batches)
    union all
    select * from retention._receipt e where e.source = 'receipt' and e.id = any (p_receipts)
  ) r
  cross join lateral (
    select json_agg(encode(e.leaf_salt, 'hex') order by e.i) as salts, json_agg(e.leaf_text order by e.i) as texts
    from retention._leaves(r.salt, r.run_ids, r.keys, r.tenants, r.ends, r.versions, r.policies) e
    where e.tenant_id collate "C" is not distinct from p_tenant_id collate "C"
  ) l
  cross join lateral (
    select coalesce(json_agg(encode(g.digest, 'hex') order by g.digest), '[]') as others
    from retention._groups(r.salt, r.run_ids, r.keys, r.tenants, r.ends, r.versions, r.policies) g
    where g.tenant_id collate "C" is distinct from p_tenant_id collate "C"
  ) o
  where r.seal_id is not null
    and r.salt is not null
  order by r.seal_id, r.settled_at, r.source, r.id
$$;

COMMENT ON FUNCTION retention.certificate_leaves(p_tenant_id text, p_batches bigint[], p_receipts bigint[]) IS 'A tenant''s share of sealed receipts: of each its header, the digests of the groups of others, and of the tenant the salts and the texts
of its leaves in their order. Receipts that are not sealed are left out. p_tenant_id: null: results
without a tenant.
For observers.';

CREATE FUNCTION retention.certificate_results(p_tenant_id text, p_from timestamp with time zone, p_to timestamp with time zone) RETURNS TABLE(part text, category text, state text, run_id text, completed_at timestamp with time zone, due_at timestamp with time zone, cleared_at timestamp with time zone, bucket text, key text, receipt text, kind text, settled_at timestamp with time zone, ended text, version text, is_sealed boolean, retain text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET "DateStyle" TO 'ISO, YMD'
    SET work_mem TO '64MB'
    SET max_parallel_workers_per_gather TO '0'
    SET jit TO 'off'
    AS $_$
declare
  v_tenant_id text := retention._check_certificate(p_tenant_id, p_from, p_to);
begin
  return query execute format(
    $query$
    with population as materialized (
      %1$s
    ),
    -- A stamp is written in the transaction of its receipt. What has none may have a receipt of any time since.
    entry as materialized (
      select e.*
      from retention._entries_of(
        $1,
        (select least($2, min(p.cleared_at)) - interval '1 hour' from population p),
        (
          select case when bool_or(p.cleared_at is null) then 'infinity' else greatest($3, max(p.cleared_at)) + interval '1 hour' end
          from population p
        )
      ) e
    ),
    judged as materialized (
      select p.*,
        e.receipt, e.kind, e.settled_at, e.how, e.version, e.retain, e.seal_id, e.goes, e.bucket as receipt_bucket, e.kept_key as receipt_key,
        w.state as work,
        p.cleared_at is null and p.run_id in (select u.run_id from retention.surge_part s cross join unnest(s.run_ids) as u (run_id)) as is_parked
      from population p
      left join entry e on e.run_id = p.run_id
        and e.goes
        -- An application may empty the key of a row whose result has gone.
        and case when coalesce(p.key, '') = '' then e.is_last else e.is_last_of_key and e.key collate "C" = p.key::text collate "C" end
      left join retention._work_of($1) w on w.run_id = p.run_id
        and p.cleared_at is null
    ),
    sorted as materialized (
      select j.*,
        case
          when j.cleared_at is null and s.state = 'due' and j.goes then 'unstamped'
          when j.cleared_at is null then s.category
          when j.goes then 'gone'
          when j.cleared_at < (select i.adopted_at from retention.identity i) then 'stamped_before_adoption'
          when j.cleared_at < now() - (select t.receipts_kept from retention.setting t) then 'stamped_receipt_pruned'
          else 'stamped_without_receipt'
        end as category,
        s.state
      from judged j
      -- As a condition of the join it would be asked of each cleared row as well.
      left join lateral (
        select n.category, n.state
        from retention._standing(j.run_id, j.completed_at, j.work, j.is_parked) n
        where j.cleared_at is null
      ) s on true
    ),
    -- What a receipt says of a run that was flagged again since is no answer to where it stands.
    known as (
      select s.*, s.category in ('gone', 'unstamped') as is_proven from sorted s
    )
    (
      select 'population', k.category, case when k.category = 'not_yet' then k.state end,
        k.run_id::text, k.completed_at, k.due_at, k.cleared_at,
        case when k.is_proven then k.receipt_bucket else retention._bucket(k.bucket, (select s.default_bucket from retention.setting s)) end,
        case when k.is_proven then k.receipt_key else k.key::text end,
        case when k.is_proven then k.receipt end, case when k.is_proven then k.kind end, case when k.is_proven then k.settled_at end,
        case when k.is_proven then k.how end, case when k.is_proven then k.version end, case when k.is_proven then k.seal_id is not null end,
        case when k.is_proven then k.retain end
      from known k
      order by k.due_at, k.run_id::text
    )
    union all
    (
      select 'beside',
        case
          when not e.goes then case e.kind when 'restored' then 'restored' else 'stamp_taken_away' end
          when not r.is_there then 'row_gone'
          when not e.is_last then 'earlier'
          when e.kind = 'early' then 'early'
          else 'due_outside'
        end,
        null, e.run_id::text, null, null, null, e.bucket, e.kept_key, e.receipt, e.kind, e.settled_at, e.how, e.version, e.seal_id is not null, e.retain
      from entry e
      left join known k on k.is_proven
        and k.run_id = e.run_id
        and k.receipt = e.receipt
      cross join lateral (
        select k.run_id is not null or exists (select from retention.result t where t.run_id = e.run_id and %2$s) as is_there
      ) r
      where e.settled_at >= $2
        and e.settled_at < $3
        and k.run_id is null
      order by e.settled_at, e.run_id::text
    )
    $query$,
    retention._population(v_tenant_id, p_from, p_to),
    case when v_tenant_id is null then 't.tenant_id is null' else format('t.tenant_id = %L', v_tenant_id) end
  )
  using v_tenant_id, p_from, p_to;
exception
  when data_exception or raise_exception then
    perform retention._refuse_unreadable(sqlstate, sqlerrm);
end
$_$;

COMMENT ON FUNCTION retention.certificate_results(p_tenant_id text, p_from timestamp with time zone, p_to timestamp with time zone) IS 'What a certificate of a tenant counts: a row for each result. part is population (the run fell due from p_from on and
before p_to, by the policy in force now) or beside (it went in that period, and is not of the population). Of the
population category is one of gone (a receipt says so), held, dead, shared, kept (by a keeper), surge, not_yet (state says how far it is),
spared (S3 holds another version of its object), without_place (its row names no object that could be deleted), unreadable (looking at its row raises an error), stamped_before_adoption, stamped_receipt_pruned, stamped_without_receipt
and unstamped (a receipt says that it went, and its row has no stamp). Beside it is one of early, due_outside
(the run falls due outside the period), row_gone (the tenant has no such run any more), earlier (deleted, and restored or written since), restored and stamp_taken_away.
receipt: which one says so, and retain how long its policy kept the result then. p_tenant_id: null: results without a tenant. Reads the rows of the tenant and the receipts since the
period began; changes nothing.
For observers.
Raises invalid_parameter_value for what cannot be a tenant id and for a period that is none or is not over yet, and
object_not_in_prerequisite_state while the table is detached.';

CREATE FUNCTION retention.certificate_seals(p_after bigint, p_limit integer, p_shown bigint[]) RETURNS TABLE(seal_id bigint, header text, previous text, body text, digests json, names json)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    AS $$
  select s.seal_id,
    retention._seal_header(s.seal_id, s.sealed_at, s.complete_to),
    encode(s.previous, 'hex'),
    encode(sha256(s.digests), 'hex'),
    case when s.seal_id = any (p_shown) then m.digests end,
    case when s.seal_id = any (p_shown) then m.names end
  from retention.seal s
  cross join lateral (
    select json_agg(encode(substr(s.digests, 32 * n.place::integer - 31, 32), 'hex') order by n.place) as digests,
      json_agg(n.name order by n.place) as names
    from (
      select 'batch-' || u.id as name, u.place from unnest(s.batches) with ordinality as u (id, place)
      union all
      select 'receipt-' || u.id, cardinality(s.batches) + u.place from unnest(s.receipts) with ordinality as u (id, place)
      union all
      select 'change-' || u.id, cardinality(s.batches) + cardinality(s.receipts) + u.place from unnest(s.changes) with ordinality as u (id, place)
    ) n
    where s.seal_id = any (p_shown)
  ) m
  where s.seal_id > p_after
  order by s.seal_id
  limit p_limit
$$;

COMMENT ON FUNCTION retention.certificate_seals(p_after bigint, p_limit integer, p_shown bigint[]) IS 'Seals after p_after, at most p_limit, each with its header and the digest of the one before. Of those in p_shown also
the digests of their members and which they are; of the others only the digest over all of them: all that the way to the head
takes.
For observers.';

CREATE FUNCTION retention.claim(p_lease uuid, p_lease_for interval, p_by text DEFAULT NULL::text, p_batch_ids bigint[] DEFAULT NULL::bigint[], p_client text DEFAULT NULL::text, p_buckets text[] DEFAULT NULL::text[]) RETURNS TABLE(batch_id bigint, bucket text, keys text[], spared integer, attempts integer, leased_until timestamp with time zone, purge boolean, failed integer, dead integer, problems jsonb, habits jsonb, looked_in text, etags text[])
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET lock_timeout TO '5s'
    AS $$
#variable_conflict use_column
declare
  v_setting retention.setting;
  v_before retention.batch;
  v_batch retention.batch;
  v_batch_id bigint;
  v_checked record;
  v_problems jsonb := '[]';
  v_bucket retention.bucket;
  v_habits jsonb;
  v_most integer;
  v_asks_by_etag boolean;
  v_etags text[];
  v_maybe_shared bigint[];
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
  if not retention._is_open(p_client) or not retention._may_stamp() then
    return;
  end if;
  v_batch_id := retention._next_batch(p_batch_ids, p_buckets);
  if v_batch_id is null and retention._bring_back_times() then
    v_batch_id := retention._next_batch(p_batch_ids, p_buckets);
  end if;
  if v_batch_id is null then
    return;
  end if;
  perform retention._lock_holds();
  select * into strict v_setting from retention.setting;
  select * into strict v_before from retention.batch b where b.batch_id = v_batch_id;
  if v_before.lease is not null then
    -- Its lease has run out, and its last holder may still be asking S3.
    perform retention._note_unanswered(v_before, null, v_before.visible_at);
    perform retention._note_attempt(v_before, v_before.visible_at);
  end if;
  select * into v_bucket from retention.bucket k where k.bucket = v_before.bucket;
  -- By etag where rows name one, unless a person has said that the bucket's store cannot and any version may go.
  v_asks_by_etag := v_bucket.conditional is distinct from 'ignored'
    and (select a.columns -> 'etag' ->> 'name' is not null from retention.adapter a);
  v_habits := retention._habits(v_bucket);
  -- No more than the store takes in a request, than can be stamped in time, and than may go in a moment.
  v_most := least(
    retention._max_keys(v_habits), retention._max_stamps(), retention._paced_keys(v_bucket.max_per_second)
  );
  if v_before.results > v_most then
    perform retention._cut(v_batch_id, v_most);
  end if;
  v_batch := retention._lease(v_before, p_lease, p_lease_for, p_by, p_batch_ids is not null, v_asks_by_etag);
  if v_batch.kind = 'canary' then
    return query select * from retention._claim_canary(v_batch, v_bucket);
    return;
  end if;
  if v_batch.early is not null then
    -- Its command lives.
    update retention.cutoff c
    set until = now() + interval '15 minutes'
    where c.flagged_at = v_batch.flagged_at
      and c.until < now() + interval '10 minutes';
  end if;

  select * into strict v_checked from retention._check(v_batch, v_setting.check_shared_objects);
  if v_checked.is_late then
    perform retention._set_aside(v_batch, v_checked.errors[1]);
    return query
    select v_batch_id, v_batch.bucket, '{}'::text[], 0, v_batch.attempts, v_batch.visible_at, false, 0, 0, '[]'::jsonb,
      null::jsonb, null::text, null::text[];
    return;
  end if;
  v_maybe_shared := v_checked.spared;
  if v_batch.etags is not null or (select exists (select from retention.keeper)) then
    select m.spared, m.keys, m.etags
    into strict v_checked.spared, v_checked.keys, v_etags
    from retention._spare_more(v_batch, v_checked.spared, v_checked.keys) m;
  end if;
  if cardinality(v_checked.spared) + cardinality(v_checked.failed) > 0 then
    v_problems := retention._sort_out(
      v_batch, v_checked.spared, v_checked.failed, v_checked.codes, v_checked.errors, v_maybe_shared
    );
  end if;
  if v_bucket.max_per_second is not null and v_checked.keys <> '{}' then
    perform retention._note_pace(v_bucket.bucket, v_bucket.max_per_second, cardinality(v_checked.keys));
  end if;
  return query
  select v_batch_id,
    v_batch.bucket,
    v_checked.keys,
    cardinality(v_checked.spared),
    v_batch.attempts,
    v_batch.visible_at,
    v_bucket.on_versioned is not distinct from 'purge',
    coalesce(sum((p.problem ->> 'results')::integer) filter (where p.problem -> 'retry_at' is not null), 0)::integer,
    coalesce(sum((p.problem ->> 'results')::integer) filter (where p.problem -> 'retry_at' is null), 0)::integer,
    v_problems,
    v_habits,
    -- What was sent before may be gone, which must not be taken for missing.
    case
      when v_bucket.looked >= 20
        or v_bucket.looked > 0 and num_nonnulls(v_before.leased_at, v_before.failed_at) > 0
      then v_bucket.looked_in
    end,
    v_etags
  from jsonb_array_elements(v_problems) as p (problem);
end
$$;

COMMENT ON FUNCTION retention.claim(p_lease uuid, p_lease_for interval, p_by text, p_batch_ids bigint[], p_client text, p_buckets text[]) IS 'Leases the next visible batch for p_lease_for and returns the keys that may go. Each result is
checked again: it is due, not held, still points at this key, and no run that is not due shares the object.
What fails the check is spared and leaves the batch. A result for which the check raises an error leaves it
too, and waits for its next attempt: failed and dead count such results, and problems names them as settle
does. No row: nothing is visible, every bucket with work is at its ceiling, or the gate is closed. A row without keys: nothing of the batch may go now,
so ask again. purge: every version of the keys is to go. habits: what the store of the bucket does differently,
as learn_habits has it; null: nothing. looked_in: where its keys were looked for before the first deletion; null:
they were not, or not enough of them. etags: beside each key the version of it that may go, without quotes, and null
where any may; null: of each any may. What a keeper has is spared too. p_lease: the token that settle, postpone and split ask for. p_by: who claims.
p_batch_ids: only these batches, and what was split off them, for a narrowed reconcile. A
cutoff of its own counts in such a claim alone. p_client: the client''s version, for the gate. p_buckets: only
batches of these buckets; by default of any.
For the listener.
Locks the batch. Waits for a transaction that is placing a hold, for 5 seconds at most.
Raises active_sql_transaction outside READ COMMITTED, because there it could not see a hold that has
committed meanwhile. Raises invalid_parameter_value without a token, or without a duration above zero. Raises
lock_not_available when a transaction that places a hold stays open.';

CREATE FUNCTION retention.claim_messages(p_lease interval DEFAULT '00:00:30'::interval, OUT messages jsonb, OUT next_seconds double precision) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
begin
  if not pg_try_advisory_xact_lock(hashtextextended('retention webhook', 0)) then
    next_seconds := 1;
    return;
  end if;
  update retention.webhook w
  set message_id = null,
    problem = format('given up after a day: %s', w.problem)
  where w.message_id is not null
    and w.happened_at < now() - interval '1 day'
    and w.next_at <= now();
  perform retention._write_messages();
  with taken as (
    update retention.webhook w
    set attempts = w.attempts + 1,
      next_at = now() + p_lease
    where w.message_id is not null
      and w.next_at <= now()
    returning w.*
  )
  select jsonb_agg(
    jsonb_build_object(
      'kind', t.kind,
      'message_id', t.message_id,
      'attempt', t.attempts,
      'happened_at', retention._iso(t.happened_at),
      'announcements', t.announcements,
      'database', current_database(),
      'payload', t.payload
    )
    order by t.happened_at
  )
  into messages
  from taken t;
  select extract(epoch from min(w.next_at) - clock_timestamp())
  into next_seconds
  from retention.webhook w
  where w.message_id is not null
    or exists (select from retention.attention a where a.kind = w.kind and a.told_at is null);
end
$$;

COMMENT ON FUNCTION retention.claim_messages(p_lease interval, OUT messages jsonb, OUT next_seconds double precision) IS 'Takes the messages that are to be sent to the webhook now, for one sender alone and for p_lease. messages: null, or
an array of kind, message_id, attempt, happened_at, announcements, database and payload. Of a kind there is one message
a minute at most; one that was refused comes again with the same message_id and growing pauses, for a day.
next_seconds: until there may be one again; null: nothing waits. While another sender takes some, there are none.
For the listener.
Locks rows of retention.webhook.';

CREATE FUNCTION retention.claim_orphans(p_list_id uuid, p_keys text[], p_for interval) RETURNS TABLE(request_id bigint, paused_until timestamp with time zone, keys text[], spared jsonb, purge boolean, habits jsonb)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET lock_timeout TO '5s'
    AS $$
#variable_conflict use_column
declare
  v_list retention.orphan_list;
  v_bucket retention.bucket;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      errcode = 'active_sql_transaction',
      message = format('claim_orphans needs a READ COMMITTED transaction, given: %s', current_setting('transaction_isolation'));
  end if;
  if coalesce(cardinality(p_keys), 0) not between 1 and 1000 or coalesce(p_for, '0') <= '0' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'claim_orphans needs 1 to 1,000 keys and a duration above zero';
  end if;
  perform retention._refuse_orphans_while_closed();
  select * into v_list from retention.orphan_list o where o.list_id = p_list_id;
  if v_list.begun_at is null then
    perform retention._refuse_orphans('the deletion of the list was not begun', 'Call retention.begin_orphans first.');
  end if;
  if v_list.deleted + cardinality(p_keys) > v_list.orphans then
    perform retention._refuse_orphans(
      format('%s of the %s objects of the list are deleted', v_list.deleted, v_list.orphans), 'Make a new list.'
    );
  end if;
  select * into strict v_bucket from retention.bucket k where k.bucket = v_list.bucket;
  paused_until := case
    when v_bucket.paused_until > clock_timestamp() then v_bucket.paused_until
    -- After a pause one request at a time, and a listener has its own.
    when v_bucket.pauses > 0 and exists (
      select
      from retention.batch b
      where b.bucket = v_list.bucket
        and b.lease is not null
        and b.visible_at > clock_timestamp()
    )
    then clock_timestamp() + interval '1 second'
    when num_nonnulls(v_bucket.max_per_second, v_bucket.max_in_flight) > 0
      and retention._take_pace(v_bucket, true) <> 'go'
    then coalesce(retention._ceiling_until(v_bucket), clock_timestamp() + interval '50 milliseconds')
  end;
  p_keys := p_keys[:coalesce(retention._paced_keys(v_bucket.max_per_second), 1000)];
  keys := '{}';
  spared := '[]';
  if paused_until is null then
    -- As claim does: a hold either committed before this, or it waits and then sees the request.
    lock table retention.hold in row share mode;
    select coalesce(array_agg(r.key) filter (where r.reason is null), '{}'),
      coalesce(jsonb_agg(jsonb_build_object('key', r.key, 'reason', r.reason)) filter (where r.reason is not null), '[]')
    into strict keys, spared
    from retention._orphan_reasons(v_list.bucket, p_keys) r;
    if keys <> '{}' then
      insert into retention.unanswered (bucket, keys, until)
      select v_list.bucket, array(select E'\x02' || k.key from unnest(keys) as k (key)),
        clock_timestamp() + p_for + s.unanswered_for
      from retention.setting s
      returning unanswered_id into request_id;
      if v_bucket.max_per_second is not null then
        perform retention._note_pace(v_bucket.bucket, v_bucket.max_per_second, cardinality(keys));
      end if;
    end if;
  end if;
  purge := v_bucket.on_versioned = 'purge';
  habits := retention._habits(v_bucket);
  return next;
end
$$;

COMMENT ON FUNCTION retention.claim_orphans(p_list_id uuid, p_keys text[], p_for interval) IS 'Checks up to 1,000 keys of a list again and gives those that may be deleted now. They are written down as being
deleted until p_for is over, so that a hold placed meanwhile says that it is too late. paused_until: the bucket pauses or
is at its ceiling, nothing was checked. Under a ceiling the first of the keys are checked alone: the others are named nowhere. spared: {"key", "reason"} of the others: see _orphan_reasons. purge: every version of the keys is
to go. habits: what the store does differently. request_id: for settle_orphans; null: no key may go.
For operators.
Waits for a transaction that is placing a hold, for 5 seconds at most.
Raises RR040 while the gate is closed, for a list whose deletion was not begun, and for more keys than the list
names. Raises active_sql_transaction outside READ COMMITTED. Raises invalid_parameter_value for more than 1,000 keys,
and without a duration above zero.';

CREATE FUNCTION retention.clock_state() RETURNS TABLE(at timestamp with time zone, corrected_at timestamp with time zone, was_ahead interval)
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select clock_timestamp(), s.clock_corrected_at, s.clock_was_ahead
  from retention.gate_state s
$$;

COMMENT ON FUNCTION retention.clock_state() IS 'The clock of this server, and what is known of its being wrong: corrected_at is when something that lay too
far ahead was last brought back, was_ahead how far ahead it lay.
For observers.';

CREATE FUNCTION retention.clocks_differ(p_at timestamp with time zone) RETURNS TABLE(reason text, because text, since timestamp with time zone, remedy text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select 'clocks differ',
    format(
      'the clock of the database is ahead of this process''s by %s: by the one it is %s, by the other %s',
      date_trunc('minute', clock_timestamp() - p_at), retention._iso(clock_timestamp()), retention._iso(p_at)
    ),
    null::timestamptz,
    'find out which of the two hosts has the wrong time (date -u) and set it by a time server'
  where clock_timestamp() > p_at + interval '1 hour'
$$;

COMMENT ON FUNCTION retention.clocks_differ(p_at timestamp with time zone) IS 'Whether the clock of this server is ahead of the caller''s by more than an hour, as a reason of the gate for this caller.
One of both is wrong. Where it is this server''s, results would go before their time, so that nothing is claimed. A
server that is behind deletes too late, and is no reason. p_at: the time by the caller''s clock; null: not asked.
For observers.';

CREATE FUNCTION retention.compare_listing(p_verify_id uuid, p_bucket text, p_prefix text, p_after text, p_until text, p_keys text[], p_bytes bigint[], p_modified timestamp with time zone[], p_before timestamp with time zone, p_etags text[] DEFAULT NULL::text[], p_as_of timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS TABLE(run_id text, key text, is_due boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
begin
  perform retention._check_indexes();
  if cardinality(p_keys) > 0 then
    perform retention._set_aside(p_verify_id, p_bucket, p_keys, p_bytes, p_modified, p_etags);
  end if;

  return query
  select n.run_id, n.key, n.is_due
  from retention._not_listed(
    retention._copy_keys(p_verify_id, p_bucket, coalesce(p_prefix, ''), p_before),
    p_bucket, p_after, p_until, p_keys, p_before, p_as_of
  ) n
  order by n.key collate "C"
  fetch first 1000 rows with ties;
end
$$;

COMMENT ON FUNCTION retention.compare_listing(p_verify_id uuid, p_bucket text, p_prefix text, p_after text, p_until text, p_keys text[], p_bytes bigint[], p_modified timestamp with time zone[], p_before timestamp with time zone, p_etags text[], p_as_of timestamp with time zone) IS 'Compares one stretch of a bucket''s listing with the rows. p_keys: all keys that S3 listed in this stretch,
in the order of bytes, with p_bytes, p_modified and p_etags of each (null: not told). The stretch begins after p_after (null: with
the first key of p_prefix) and ends with p_until (null: with the last key of p_prefix). Returns the live
rows of the stretch whose key was not listed. Rows that completed at p_before or later are left out,
because their object may be younger than the listing, and so are rows that were written at p_as_of or later (null: none;
an application''s table without updated_at tells nothing of it). At least 1,000 rows come back where there are so
many; then there may be more after the last key. Listed keys without a live row are set aside under
p_verify_id. The first question for a bucket and a prefix copies the keys of the bucket''s live rows in their order
(retention.key_copy): it reads the table once. What becomes live after that, or gets another key, is not judged.
For operators.';

CREATE FUNCTION retention.configure(p_settings jsonb) RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_old jsonb;
  v_new jsonb;
  v_retain interval;
  v_due bigint;
begin
  perform retention._check_settings('configure', p_settings);
  -- In this order everywhere: the setting, the policy, the variable.
  select to_jsonb(s) into v_old from retention.setting s for update;
  if p_settings ? 'retain' then
    select retain into v_retain from retention.policy where tenant_id = '*' for update;
    if v_retain <> retention._in_days((p_settings ->> 'retain')::interval) then
      v_due := retention.set_policy('*', (p_settings ->> 'retain')::interval);
      if exists (select from retention.policy where tenant_id = '*' and pending_retain is not null) then
        return next format(
          'default policy: stays %s, because %s would make %s due at once; confirm it with retention policy confirm',
          v_retain, p_settings ->> 'retain', retention._counted(v_due, 'result')
        );
      else
        return next format(
          'default policy: %s -> %s, which makes %s due at once', v_retain, p_settings ->> 'retain',
          retention._counted(v_due, 'result')
        );
      end if;
    end if;
  end if;
  if p_settings ->> 'default_bucket' <> v_old ->> 'default_bucket' then
    return next format(
      'default_bucket: stays %s, and %s is not taken; to change it: select retention.set_default_bucket(%L);',
      v_old ->> 'default_bucket', p_settings ->> 'default_bucket', p_settings ->> 'default_bucket'
    );
  end if;
  update retention.setting s
  set enabled = coalesce((p_settings ->> 'enabled')::boolean, s.enabled),
    loop_interval = coalesce((p_settings ->> 'loop_interval')::interval, s.loop_interval),
    batch_size = coalesce((p_settings ->> 'batch_size')::integer, s.batch_size),
    default_bucket = coalesce(s.default_bucket, nullif(p_settings ->> 'default_bucket', '')),
    receipt_keys = coalesce(p_settings ->> 'receipt_keys', s.receipt_keys)
  where s.enabled is distinct from coalesce((p_settings ->> 'enabled')::boolean, s.enabled)
    or s.loop_interval is distinct from coalesce((p_settings ->> 'loop_interval')::interval, s.loop_interval)
    or s.batch_size is distinct from coalesce((p_settings ->> 'batch_size')::integer, s.batch_size)
    or s.default_bucket is null and nullif(p_settings ->> 'default_bucket', '') is not null
    or s.receipt_keys is distinct from coalesce(p_settings ->> 'receipt_keys', s.receipt_keys)
  returning to_jsonb(s) into v_new;
  -- Also where it was so already: the person wants it so.
  perform retention._note_person(k.name)
  from jsonb_object_keys(p_settings) as k (name)
  where p_settings ->> k.name <> ''
    and k.name <> 'receipt_keys';
  perform retention._note_gate();
  return query
  select format('%s: %s -> %s', n.key, coalesce(v_old ->> n.key, 'none'), coalesce(n.value, 'none'))
  from jsonb_each_text(v_new) n
  where n.value is distinct from v_old ->> n.key;
end
$$;

COMMENT ON FUNCTION retention.configure(p_settings jsonb) IS 'Sets what a person wants, and what no variable undoes: enabled, retain, loop_interval, batch_size, default_bucket and
receipt_keys (plain, or hashed: receipts that are sealed from then on keep salted digests of keys).
p_settings: an object with any of them. A key that is absent changes nothing. retain is the default
policy, and is guarded as in set_policy. default_bucket is taken where there is none yet: rows without a bucket mean
another object with another default, so only set_default_bucket changes one. Returns one line for each change: "batch_size: 1000
-> 500". A process that starts later with the same variable as before changes none of it: see apply_variables.
For operators.
Locks the row of retention.setting, and the default policy where that changes.
Raises invalid_parameter_value for an unknown setting, and for a key without a value. Raises check_violation for a
value out of range.';

CREATE FUNCTION retention.confirm_fence(p_token uuid, p_bucket text, p_by text DEFAULT NULL::text, p_seconds_ago double precision DEFAULT 0) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_differs record;
begin
  update retention.fence
  set renewed_at = clock_timestamp() - make_interval(secs => greatest(p_seconds_ago, 0)),
    renewed_by = p_by,
    bucket = p_bucket,
    taking = false
  where p_token = any (tokens)
    and lost_at is null;
  if not found then
    return false;
  end if;
  select * into v_differs from retention._identity_differs();
  if v_differs.timeline is null or num_nonnulls(v_differs.server, v_differs.database) > 0 then
    return false;
  end if;
  update retention.identity
  set timeline = (select n.timeline from retention._identity_now() n),
    accepted_at = clock_timestamp(),
    accepted_by = session_user,
    accepted_reason = 'the fence in S3 was as this database had left it';
  perform retention._note_gate();
  return true;
end
$$;

COMMENT ON FUNCTION retention.confirm_fence(p_token uuid, p_bucket text, p_by text, p_seconds_ago double precision) IS 'Notes that S3 has taken a token, p_seconds_ago at the earliest. Another timeline is accepted by it: who renews the
fence with a token that this database knows is no copy. Returns true when that was so.
For the listener.
Locks the row of retention.fence, and of retention.identity where the timeline is another one.';

CREATE FUNCTION retention.confirm_missing(p_bucket text, p_by text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform retention._known_bucket(p_bucket);
  update retention.bucket k
  set missing_confirmed_at = clock_timestamp(),
    missing_confirmed_by = coalesce(p_by, session_user)
  where k.bucket = p_bucket;
  perform retention._note_gate();
end
$$;

COMMENT ON FUNCTION retention.confirm_missing(p_bucket text, p_by text) IS 'Says that the objects of a bucket that were looked for and not found are really gone, which opens the gate again
where it was closed for that (objects missing). p_by: who says it; by default the session''s user.
For operators.
Locks the bucket''s row.
Raises no_data_found for a bucket that is not known.';

CREATE FUNCTION retention.confirm_policy(p_tenant_id text, p_expected bigint DEFAULT NULL::bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_due bigint;
begin
  p_tenant_id := retention._policy_tenant(p_tenant_id);
  perform
  from retention.policy p
  where p.tenant_id = p_tenant_id
    and p.pending_retain is not null
  for update;
  if not found then
    return 0;
  end if;
  -- What falls due by it is counted by the guard, once.
  update retention.policy p
  set retain = p.pending_retain,
    set_at = now(),
    set_by = p.pending_by,
    pending_retain = null,
    pending_results = null,
    pending_at = null,
    pending_by = null,
    confirmed_results = coalesce(p_expected, 9223372036854775807),
    confirmed_at = clock_timestamp(),
    confirmed_by = session_user
  where p.tenant_id = p_tenant_id
  returning p.confirmed_results into v_due;
  return v_due;
end
$$;

COMMENT ON FUNCTION retention.confirm_policy(p_tenant_id text, p_expected bigint) IS 'Lets a pending policy take effect, and notes who confirmed it, when, and how many results it made due.
Returns that number; 0 when nothing is pending. p_expected: the number that was seen before.
For operators.
Locks the policy.
Raises check_violation when the policy would now make more results due than p_expected.';

CREATE FUNCTION retention.cooling() RETURNS TABLE(results bigint, first_at timestamp with time zone, last_at timestamp with time zone)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
  select coalesce(sum(b.results), 0)::bigint, min(b.visible_at), max(b.visible_at)
  from retention.batch b
  where (select s.cool_off > '0' from retention.setting s)
    and b.settled_at is null
    and b.lease is null
    and num_nonnulls(b.dead_at, b.deleted_at) = 0
    and retention._is_cooling(b.flagged_at, b.visible_at, b.failed_at, b.early)
$$;

COMMENT ON FUNCTION retention.cooling() IS 'What waits for its cool-off: how many results, and when the first and the last of them may go. Reads the batches
that are not settled, and nothing without a cool-off.
For observers.';

CREATE FUNCTION retention.count_due(p_tenant_id text DEFAULT NULL::text, p_run_ids text[] DEFAULT NULL::text[], p_older_than interval DEFAULT NULL::interval, p_early boolean DEFAULT false, p_limit bigint DEFAULT NULL::bigint) RETURNS TABLE(tenant_id text, bucket text, results bigint, oldest timestamp with time zone, early bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
declare
  v_older_than interval := retention._read_older_than(p_older_than);
  v_few record;
begin
  perform retention._check_indexes();
  perform retention._check_narrowing(p_run_ids, p_tenant_id);
  p_tenant_id := retention._read_tenant_id(p_tenant_id)::text;
  if p_run_ids is null then
    begin
      select * into strict v_few from retention._list_few(p_tenant_id, v_older_than, p_early, p_limit);
      if v_few.is_complete then
        return query
        select d.tenant_id, d.bucket, count(*), min(d.completed_at), count(*) filter (where d.due_at >= now())
        from unnest(v_few.results) d
        group by d.tenant_id, d.bucket
        order by d.tenant_id, d.bucket;
      else
        return query
        select c.*
        from retention._count_many(p_tenant_id, v_older_than, p_early, p_limit) c
        order by c.tenant_id, c.bucket;
      end if;
      return;
    exception
      when others then
        if retention._is_passing(sqlstate) then
          raise;
        end if;
    end;
  end if;
  return query
  select d.tenant_id, d.bucket, count(*), min(d.completed_at), count(*) filter (where d.early)
  from retention.list_due(p_tenant_id, p_run_ids, p_older_than, p_early, p_limit) d
  group by d.tenant_id, d.bucket
  order by d.tenant_id, d.bucket;
end
$$;

COMMENT ON FUNCTION retention.count_due(p_tenant_id text, p_run_ids text[], p_older_than interval, p_early boolean, p_limit bigint) IS 'What list_due lists, counted by tenant and bucket: when the oldest of each completed, and how many are not due
by the policy in force (early). Changes nothing. For the listener. Raises what list_due raises.';

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
(null: of all). For the listener.';

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

CREATE FUNCTION retention.drop_strays(p_verify_id uuid, p_keys text[]) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with dropped as (
    delete from retention.stray s
    where s.verify_id = p_verify_id
      and s.key = any (p_keys)
    returning 1
  )
  select count(*) from dropped
$$;

COMMENT ON FUNCTION retention.drop_strays(p_verify_id uuid, p_keys text[]) IS 'Takes keys out of what a verify has set aside, since they are not there any more. Returns how many.
For operators.';

CREATE FUNCTION retention.end_cutoff(p_batch_ids bigint[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  delete from retention.cutoff c
  where c.flagged_at in (select b.flagged_at from retention.batch b where b.batch_id = any (p_batch_ids))
$$;

COMMENT ON FUNCTION retention.end_cutoff(p_batch_ids bigint[]) IS 'Ends the cutoff of a reconcile that is over: what is left of its batches goes by the policy again. p_batch_ids: what
flag_selected returned.
For operators.
Locks a row of retention.cutoff.';

CREATE FUNCTION retention.end_standing(p_verify_id uuid, p_holder uuid) RETURNS TABLE(gone bigint, returned bigint, orphans bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
declare
  v_run retention.verify_run;
  v_strays record;
begin
  if not retention._hold_standing(p_verify_id, p_holder) then
    return;
  end if;
  select * into strict v_run from retention.verify_run r where r.verify_id = p_verify_id;
  select t.* into strict v_strays from retention.sort_strays(p_verify_id, v_run.began_at, interval '1 day') t;
  delete from retention.standing_gone g where g.bucket = v_run.bucket and g.verify_id <> p_verify_id;
  perform retention._pause_standing(p_verify_id);
  update retention.standing_verify s
  set verify_id = null,
    finished_at = clock_timestamp(),
    listed = s.listed_now,
    gone = s.found,
    found = 0,
    returned = v_strays.returned,
    orphans = v_strays.orphans,
    orphan_bytes = v_strays.orphan_bytes,
    next_at = greatest(s.began_at + s.every, clock_timestamp())
  where s.verify_id = p_verify_id
  returning s.gone, s.returned, s.orphans into gone, returned, orphans;
  perform retention._drop_verify(p_verify_id);
  return next;
end
$$;

COMMENT ON FUNCTION retention.end_standing(p_verify_id uuid, p_holder uuid) IS 'Ends the standing verify of a bucket, of which everything was listed: it counts what is drift, and the next verify begins in its
time. Returns the counts. It reads the application''s table once where objects were listed that no live row points at, so the session should have no
statement_timeout. Returns no row, and writes nothing, when another listener has taken over.
For the listener.
Locks the rows of the bucket''s verify.';

CREATE FUNCTION retention.end_verify(p_verify_id uuid, p_holder uuid) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select retention._drop_verify(r.verify_id)
  from retention.verify_run r
  where r.verify_id = p_verify_id
    and r.holder = p_holder
$$;

COMMENT ON FUNCTION retention.end_verify(p_verify_id uuid, p_holder uuid) IS 'Ends a run that is p_holder''s: its progress and all that it has set aside is forgotten.
For operators.
Locks the row of the run.';

CREATE FUNCTION retention.explain(p_run_id text) RETURNS TABLE(run_id text, state text, because text, tenant_id text, status text, completed_at timestamp with time zone, bucket text, key text, cleared_at timestamp with time zone, retain interval, due_at timestamp with time zone, holds jsonb, flagged_at timestamp with time zone, batch_id bigint, attempts integer, last_code text, last_error text, next_attempt_at timestamp with time zone, shares_with text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
begin
  return query select e.* from retention._explain(p_run_id) e;
exception
  when others then
    -- A name that is not there is a fault of this schema, and says nothing of the row.
    if retention._is_passing(sqlstate) or sqlstate in ('42P01', '42703', '42883') then
      raise;
    end if;
    run_id := p_run_id;
    state := 'unreadable';
    because := format(
      'its row cannot be read: %s (SQLSTATE %s). No pass and no claim takes it, and its object stays. Correct the value that the message names, or what the table runs when it is read',
      left(sqlerrm, 500), sqlstate
    );
    return next;
end
$$;

COMMENT ON FUNCTION retention.explain(p_run_id text) IS 'Why a result is kept, or what becomes of it, in plain words. It always returns one row. state is one of:
unknown, cleared, not completed, no date, no key, too long, no bucket, held, coming back, kept (by its policy, its own
date or a keeper), shared, object changed, in flight, dead, failed, flagged, set aside, due, unreadable (looking at its
row raises an error), or a reason of the gate (disabled, halted,
detached, table replaced, index missing and others).
For observers.';

CREATE FUNCTION retention.explain_at(p_run_id text, p_at timestamp with time zone) RETURNS TABLE(run_id text, at timestamp with time zone, state text, because text, tenant_id text, completed_at timestamp with time zone, bucket text, key text, retain interval, policy text, policy_set_by text, policy_set_at timestamp with time zone, due_at timestamp with time zone, holds jsonb, flagged_at timestamp with time zone, batch_id bigint, receipt text, settled_at timestamp with time zone, not_known text[])
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET "IntervalStyle" TO 'postgres'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
begin
  if p_at is null or p_at > clock_timestamp() then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected a time that has passed, given: %s', coalesce(retention._iso(p_at), 'null')),
      hint = 'What is true now: retention explain <run_id>; what comes: retention upcoming.';
  end if;
  if p_at < retention._known_since() then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format(
        'nothing is known of %s: changes are recorded since %s', retention._iso(p_at), retention._iso(retention._known_since())
      );
  end if;
  return query select e.* from retention._explain_at(p_run_id, p_at) e;
exception
  when others then
    if retention._is_passing(sqlstate)
      or sqlstate in ('42P01', '42703', '42883')
      or p_at is null
      or p_at not between retention._known_since() and clock_timestamp()
    then
      raise;
    end if;
    run_id := p_run_id;
    at := p_at;
    state := 'unreadable';
    because := format(
      'its row cannot be read: %s (SQLSTATE %s), so nothing can be said of then either', left(sqlerrm, 500), sqlstate
    );
    return next;
end
$$;

COMMENT ON FUNCTION retention.explain_at(p_run_id text, p_at timestamp with time zone) IS 'Why the result of a run was kept at a time that has passed, or what had become of it, in plain words. It always returns one row.
state is as in explain, of that time: unknown, cleared (receipt says by which), stamped (without a receipt), not
completed, no date, no key, no bucket, in flight, dead, held, coming back, kept, shared, set aside, halted, disabled, failed,
flagged, due or unreadable. retain, policy, policy_set_by, policy_set_at: the policy that was in force, and who had
set it. holds: as in explain. not_known: what the rows of today cannot say of then.
Of a run whose row is gone, or that completed later, it reads every receipt, which takes long where there are years of
them.
For observers.
Raises invalid_parameter_value for a time that has not come, and for one before changes were recorded.';

CREATE FUNCTION retention.export_seals(p_after bigint DEFAULT 0, p_results bigint DEFAULT 10000) RETURNS TABLE(seal_id bigint, document json)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    AS $$
  with seals as materialized (
    select s.* from retention.seal s where s.seal_id between p_after + 1 and retention._page_end(p_after, p_results)
  ),
  documents as (
    select s.seal_id, 0 as part, 0::bigint as id,
      json_build_object(
        'kind', 'seal',
        'seal', s.seal_id,
        'header', retention._seal_header(s.seal_id, s.sealed_at, s.complete_to),
        'previous', encode(s.previous, 'hex'),
        'digest', encode(s.digest, 'hex'),
        'members', array(select 'batch-' || b from unnest(s.batches) b)
          || array(select 'receipt-' || r from unnest(s.receipts) r)
          || array(select 'change-' || c from unnest(s.changes) c),
        'digests', encode(s.digests, 'hex'),
        'pruned', s.pruned_at is not null
      ) as document
    from seals s
    union all
    select r.seal_id, case r.source when 'batch' then 1 else 2 end, r.id,
      json_build_object(
        'kind', 'receipt',
        'seal', r.seal_id,
        'receipt', r.source || '-' || r.id,
        'header', retention._receipt_header(
          r.source, r.id, r.kind, r.bucket, r.settled_at, r.request_ids, r.asked_by, r.revision, r.settled_session, r.product
        ),
        'salt', encode(r.salt, 'hex'),
        'leaves', array(
          select l.leaf_text
          from retention._leaves(r.salt, r.run_ids, r.keys, r.tenants, r.ends, r.versions, r.policies) l
          order by l.i
        )
      )
    from retention._receipt r
    where r.seal_id between p_after + 1 and retention._page_end(p_after, p_results)
    union all
    select c.seal_id, 3, c.change_id,
      json_build_object(
        'kind', 'change',
        'seal', c.seal_id,
        'change', c.change_id,
        'salt', encode(c.salt, 'hex'),
        'text', retention._change_text(c)
      )
    from retention.change c
    where c.seal_id between p_after + 1 and retention._page_end(p_after, p_results)
  )
  select d.seal_id, d.document
  from documents d
  order by d.seal_id, d.part, d.id
$$;

COMMENT ON FUNCTION retention.export_seals(p_after bigint, p_results bigint) IS 'Seals after p_after with their members, as JSON documents in the order in which they are checked, until about p_results
results are among them. For each seal {"kind": "seal", "seal", "header", "previous", "digest", "members", "digests",
"pruned"}, and then for each member that is there {"kind": "receipt", "seal", "receipt", "header", "salt", "leaves"}
or {"kind": "change", "seal", "change", "salt", "text"}. header, text and each of leaves are texts: what was hashed.
Bytes are in hexadecimal digits. No row: p_after is the last seal.
For observers.';

CREATE FUNCTION retention.fence() RETURNS TABLE(is_copy boolean, because text, accepted_system_identifier text, accepted_database text, accepted_timeline integer, system_identifier text, database text, timeline integer, adopted_at timestamp with time zone, accepted_at timestamp with time zone, accepted_by text, accepted_reason text, fence uuid, fence_in_use boolean, bucket text, renewed_at timestamp with time zone, renewed_by text, lost_at timestamp with time zone)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select c.because is not null,
    c.because,
    i.system_identifier,
    i.database_name,
    i.timeline,
    n.system_identifier,
    n.database_name,
    n.timeline,
    i.adopted_at,
    i.accepted_at,
    i.accepted_by,
    i.accepted_reason,
    i.fence,
    f.renewed_at is not null,
    f.bucket,
    f.renewed_at,
    f.renewed_by,
    f.lost_at
  from retention._identity_now() n
  cross join retention.fence f
  left join retention.identity i on true
  left join retention._copy_reason() c on true
$$;

COMMENT ON FUNCTION retention.fence() IS 'What this database was accepted as, what it is now, and how its fence stands: one row. is_copy: the gate is
closed for it, and because says why. fence_in_use: a listener renews an object in S3.
For observers.';

CREATE FUNCTION retention.fence_losses(p_object jsonb) RETURNS TABLE(kind text, detail text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET "IntervalStyle" TO 'postgres'
    AS $$
declare
  v_head jsonb := p_object -> 'head';
  v_here timestamptz := (select max(b.settled_at) from retention.batch b where b.settled_at is not null);
  v_there timestamptz := retention._read_time(v_head -> 'receipt' ->> 'settled_at');
  v_highest bigint := coalesce((select max(h.hold_id) from retention.hold h), 0);
begin
  if jsonb_typeof(v_head) is distinct from 'object' then
    return query select 'unknown', 'nothing outside this database says what it knew: holds, policies and receipts may be missing';
    return;
  end if;
  return query
  select 'hold', format('hold %s on %s, placed by %s', j.hold ->> 'id', j.hold ->> 'on', j.hold ->> 'by')
  from jsonb_array_elements(v_head -> 'holds') as j (hold)
  where not exists (select from retention.hold h where h.hold_id::text = j.hold ->> 'id');
  if (v_head ->> 'highest_hold')::numeric > v_highest then
    return query select 'hold', format('the ids of holds go up to %s there, and to %s here', v_head ->> 'highest_hold', v_highest);
  end if;
  return query
  select 'policy', format(
    'policy of %s: %s there, %s here', p.tenant_id, p.retain, coalesce(o.retain::text, 'none of its own')
  )
  from jsonb_each_text(v_head -> 'policies') as p (tenant_id, retain)
  left join retention.policy o on o.tenant_id = p.tenant_id
  where o.retain::text is distinct from p.retain
  order by 2;
  if v_there > coalesce(v_here, '-infinity') then
    return query select 'receipts', format(
      'deletions %s to %s: %s there, %s here; their runs have no stamp here. retention reconcile --verify stamps them',
      coalesce('after ' || retention._iso(v_here), 'up'),
      retention._iso(v_there),
      format('batch %s was settled', v_head -> 'receipt' ->> 'batch'),
      coalesce('batch ' || (select max(b.batch_id)::text from retention.batch b where b.settled_at = v_here), 'none')
    );
  end if;
exception
  -- Anybody who may write to the bucket may have written it.
  when data_exception then
    return query select 'unknown', 'the fence in S3 cannot be read: holds, policies and receipts may be missing';
end
$$;

COMMENT ON FUNCTION retention.fence_losses(p_object jsonb) IS 'What the object of a fence knows and this database does not: holds, policies and receipts; at least these.
p_object: its content. kind is one of: hold, policy, receipts, unknown.
For operators.';

CREATE FUNCTION retention.find_tenant(p_tenant_id text) RETURNS TABLE(tenant_id text, is_known boolean)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
begin
  tenant_id := retention._policy_tenant(p_tenant_id);
  is_known := exists (select from retention.policy p where p.tenant_id = find_tenant.tenant_id);
  if not is_known then
    is_known := retention._has_runs(retention._read_tenant_id(tenant_id));
  end if;
  return next;
end
$$;

COMMENT ON FUNCTION retention.find_tenant(p_tenant_id text) IS 'A tenant in the spelling of its column, as policies and holds keep it, and whether it is known: it has a run, or a
policy of its own. ''*'' is. It may read the table.
For operators.
Raises invalid_parameter_value for what cannot be a tenant id.';

CREATE FUNCTION retention.flag_expired(p_max_rows integer DEFAULT NULL::integer, p_asked_by text DEFAULT NULL::text, p_whole boolean DEFAULT false, p_wait boolean DEFAULT false) RETURNS integer
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
    SET lock_timeout TO '2s'
    AS $$
declare
  v_started_at timestamptz := clock_timestamp();
  v_setting retention.setting;
  v_beat retention.heartbeat;
  v_backlog bigint;
  v_waiting bigint;
  v_left bigint;
  v_by_time boolean;
  v_whole boolean;
  v_began_at timestamptz;
  v_decided record;
  v_part_rows bigint := 10000;
  v_part record;
  v_more boolean := true;
  v_is_over boolean := false;
  v_pass retention.scan;
  v_left_alone bigint := 0;
begin
  if p_max_rows < 1 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('max_rows must be 1 or more, given: %s', p_max_rows);
  end if;
  if p_wait then
    perform set_config('lock_timeout', '60s', true);
    perform retention._take_pass_lock();
  else
    perform from retention.pass_lock for update skip locked;
    if not found then
      return 0;
    end if;
  end if;
  if not retention._is_open() then
    return 0;
  end if;
  select * into strict v_setting from retention.setting;
  select * into strict v_beat from retention.heartbeat;
  -- What waits for a person: dead, or set aside.
  select coalesce(sum(b.results) filter (where b.dead_at is null), 0),
    coalesce(sum(b.results) filter (where b.dead_at is not null), 0)
      + (select coalesce(sum(p.results), 0) from retention.surge_part p)
  into v_backlog, v_waiting
  from retention.batch b
  where b.settled_at is null;
  v_left := least(coalesce(p_max_rows, v_setting.flag_limit), v_setting.backlog_limit - v_backlog);
  if v_left <= 0 then
    -- As if there had been no pass: the next tick looks again, whatever the interval.
    update retention.heartbeat set passed_at = null, more = false;
    return 0;
  end if;

  -- A walk that takes longer than the interval is gone on with: begun again, it would never be complete.
  v_by_time := v_beat.swept_at is null
    or v_beat.walk_began_at is null and v_beat.swept_at <= now() - least(v_setting.sweep_interval, '100 years');
  -- Not while a walk is under way: what is left alone would be looked at for ever, and nothing behind.
  v_whole := p_whole
    or v_by_time
    or not v_beat.more and v_backlog + v_waiting + v_beat.left_alone <= v_setting.small_backlog;
  v_began_at := case when v_whole then now() else v_beat.walk_began_at end;
  if v_whole then
    delete from retention.progress;
  end if;
  perform retention._prepare_allowances(v_whole);
  if p_whole or v_by_time then
    perform retention._review_shared_objects();
    perform retention._review_spared_objects();
  end if;

  v_pass.flagged := 0;
  v_pass.batches := 0;
  v_pass.looked_at := 0;
  v_pass.without_place := 0;
  v_pass.without_place_run_ids := '{}';
  v_pass.skipped := 0;
  v_pass.skipped_rows := '{}';
  v_pass.set_aside := 0;
  loop
    v_part_rows := least(v_part_rows, v_left);
    begin
      select * into strict v_part from retention._flag_part(v_part_rows, v_setting.batch_size);
    exception
      when query_canceled then
        -- The session's time limit, which strikes once. What was flagged so far stays; a pass that was too slow
        -- for its first part does a small one, so that each gets somewhere.
        v_is_over := true;
        exit when v_pass.looked_at > 0;
        select * into strict v_part from retention._flag_part(least(v_part_rows, 500), v_setting.batch_size);
      when others then
        if retention._is_passing(sqlstate) then
          raise;
        end if;
        select * into strict v_part from retention._flag_carefully(v_part_rows, v_setting.batch_size);
    end;
    v_pass.flagged := v_pass.flagged + v_part.flagged;
    v_pass.batches := v_pass.batches + v_part.batches;
    v_pass.oldest := least(v_pass.oldest, v_part.oldest);
    v_pass.looked_at := v_pass.looked_at + v_part.looked_at;
    v_pass.without_place := v_pass.without_place + v_part.without_place;
    v_pass.without_place_run_ids := (v_pass.without_place_run_ids || v_part.without_place_run_ids)[1:10];
    v_pass.skipped := v_pass.skipped + v_part.skipped;
    v_pass.skipped_rows := (v_pass.skipped_rows || v_part.skipped_rows)[1:10];
    v_left_alone := v_left_alone + v_part.left_alone;
    -- What is set aside is no work.
    v_left := v_left - v_part.looked_at + v_part.parked;
    v_more := v_part.more;
    v_is_over := v_is_over or clock_timestamp() > v_started_at + interval '10 seconds';
    exit when not v_more or v_left <= 0 or v_is_over;
    -- A part begins with a probe or two of each tenant: they are to stay few beside its rows.
    v_part_rows := greatest(v_part_rows, 10 * v_part.tenants);
  end loop;

  if not v_more then
    perform retention._note_ahead();
    v_decided := retention._decide_late(coalesce(p_asked_by, session_user));
    v_pass.flagged := v_pass.flagged + v_decided.flagged;
    v_pass.batches := v_pass.batches + v_decided.batches;
    v_pass.oldest := least(v_pass.oldest, v_decided.oldest);
    v_pass.surge_id := v_decided.surge_id;
    v_pass.set_aside := v_decided.set_aside;
    perform retention._drop_allowances(v_began_at);
  end if;
  perform retention._cool(v_setting.cool_off);
  v_pass.started_at := v_started_at;
  v_pass.asked_by := coalesce(p_asked_by, session_user);
  v_pass.hit_limit := v_more;
  perform retention._note_pass(v_pass, v_left_alone, v_whole, v_began_at, v_by_time or p_whole);
  return v_pass.flagged;
end
$$;

COMMENT ON FUNCTION retention.flag_expired(p_max_rows integer, p_asked_by text, p_whole boolean, p_wait boolean) IS 'Writes down what is due as batches of one bucket each, oldest first. Returns how many results it flagged.
It works in parts of about 10,000 results. p_max_rows: how many results are looked at; by default
setting.flag_limit. p_asked_by: who is noted in retention.scan; by default the session''s user. p_whole:
start from the oldest result and not from the progress. A pass ends after 10 seconds and is gone on with by the
next one. Late results wait until a walk over all results is complete, and may be set aside: see
retention.list_surges. Returns 0 at once when the gate is closed and when the backlog has reached its limit. Returns 0 at
once while another pass runs; p_wait: it waits for that pass instead, for a minute at most.
For the listener.
Locks the row of retention.pass_lock, and nothing of the application''s.
Raises invalid_parameter_value for p_max_rows below 1, and lock_not_available with p_wait.';

CREATE FUNCTION retention.flag_selected(p_tenant_id text DEFAULT NULL::text, p_run_ids text[] DEFAULT NULL::text[], p_older_than interval DEFAULT NULL::interval, p_early boolean DEFAULT false, p_limit bigint DEFAULT NULL::bigint, p_batch_size integer DEFAULT NULL::integer, p_all boolean DEFAULT false, p_expected bigint DEFAULT NULL::bigint) RETURNS TABLE(batch_ids bigint[], newly_flagged bigint, selected bigint, leased bigint[], set_aside bigint, surge_id bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    SET lock_timeout TO '60s'
    AS $$
#variable_conflict use_column
declare
  v_setting retention.setting;
  v_guarded record;
  v_asked jsonb := retention._selection_asked(p_tenant_id, p_run_ids, p_older_than, p_limit, p_expected);
begin
  perform retention._check_narrowing(p_run_ids, p_tenant_id);
  perform retention._check_scope('flag_selected', num_nonnulls(p_tenant_id, p_run_ids) > 0, p_all, 'p_tenant_id or p_run_ids');
  if p_early and (p_older_than is null or p_older_than < '1 day') then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('a cutoff that stands in for the policy must be 1 day or more, given: %s', p_older_than);
  end if;
  select * into strict v_setting from retention.setting;
  if not retention._is_open() then
    return query select '{}'::bigint[], 0::bigint, 0::bigint, '{}'::bigint[], 0::bigint, null::bigint;
    return;
  end if;
  perform retention._take_pass_lock();
  delete from retention.selection;
  insert into retention.selection (run_id, tenant_id, bucket, key, completed_at, due_at)
  select d.run_id, d.tenant_id, d.bucket, d.key, d.completed_at, d.due_at
  from retention.list_due(p_tenant_id, p_run_ids, p_older_than, p_early, p_limit) d;
  if p_early then
    perform retention._confirm_early(p_expected, v_asked);
    insert into retention.cutoff (flagged_at, until)
    values (now(), now() + interval '15 minutes')
    on conflict (flagged_at) do update
    set until = excluded.until;
  end if;

  select * into strict v_guarded
  from retention._guard_selection(case when not p_early then p_expected end, 'reconcile', v_asked);

  return query
  select g.batch_ids, g.newly_flagged, g.selected, g.leased, v_guarded.set_aside, v_guarded.surge_id
  from retention._regroup(
    coalesce(p_batch_size, v_setting.batch_size),
    case when p_early then p_older_than end,
    (select range_agg(tstzrange(s.completed_at, s.completed_at, '[]')) from retention.selection s)
  ) g;
end
$$;

COMMENT ON FUNCTION retention.flag_selected(p_tenant_id text, p_run_ids text[], p_older_than interval, p_early boolean, p_limit bigint, p_batch_size integer, p_all boolean, p_expected bigint) IS 'Puts what list_due finds into batches of its own and returns them: the work of a narrowed reconcile.
Flagged results leave their former batches, and a batch with a valid lease keeps its results. It needs p_tenant_id or
p_run_ids, or p_all => true, which says everything that is due. An empty list of runs selects nothing. p_batch_size:
by default setting.batch_size. leased: the batches that keep what was selected, since a listener works on it. Late
results pass the guard (see list_surges): set_aside says how many did not, and are in no batch, and surge_id where.
p_expected: how many results the caller has seen that it selects (count_due counts them); then they all go.
p_early: p_older_than stands in for the policy where it is shorter. Then p_expected says how many results that are
not due a person has seen: with more of them nothing is changed, and late ones pass the guard.
With p_early its batches are handed out only to claims that name them, as long as those come at least every 15
minutes and until end_cutoff; after that they go by the policy. Returns no batches when the gate is closed.
For operators.
Locks the row of retention.pass_lock (it waits for a flagging pass, for a minute at most) and the batches that it
takes results from. No tick waits for it.
Raises invalid_parameter_value for a call that says neither what nor p_all, or both, for an empty text, for a text that
cannot be a run id or a tenant id, and with p_early for a cutoff below 1 day. Raises RR003 for more early results than
p_expected, or without it, and where without p_early p_expected is not the number. Raises lock_not_available when another transaction keeps a lock for a minute.';

CREATE FUNCTION retention.forget_habits(p_bucket text, p_by_hand boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform retention._known_bucket(p_bucket);
  update retention.bucket k
  set learned = '{}',
    looked_in = null,
    looked_at = null,
    looked = 0,
    missing = 0,
    missing_keys = '{}',
    keys_per_request = case when p_by_hand then null else k.keys_per_request end,
    deletes = case when p_by_hand then null else k.deletes end,
    checksum = case when p_by_hand then null else k.checksum end,
    addressing = case when p_by_hand then null else k.addressing end,
    conditional = case when p_by_hand then null else k.conditional end
  where k.bucket = p_bucket;
  perform retention._note_gate();
end
$$;

COMMENT ON FUNCTION retention.forget_habits(p_bucket text, p_by_hand boolean) IS 'Forgets what was learned of the store of a bucket and where its keys were looked for, so that both are found out
again. p_by_hand: also what a person has set.
For operators.
Locks the bucket''s row.
Raises no_data_found for a bucket that is not known.';

CREATE FUNCTION retention.forget_strays(p_verify_id uuid) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  delete from retention.stray s
  where s.verify_id = p_verify_id
    or s.noted_at < now() - interval '2 days'
    and s.verify_id not in (select r.verify_id from retention.verify_run r);
  select retention._forget_copies(p_verify_id);
$$;

COMMENT ON FUNCTION retention.forget_strays(p_verify_id uuid) IS 'Removes what a verify set aside and copied, and what verifies of more than 2 days ago left behind without progress to go on with.
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
  v_stamping retention.stamping;
  v_fits text;
begin
  select * into strict v_setting from retention.setting;
  select * into v_adapter from retention.adapter;
  select * into v_seen from retention.gate_state;
  if not v_setting.enabled then
    return query select 'disabled', 'retention is disabled',
      case when 'disabled' = any (v_seen.reasons) then v_seen.since end,
      'set DPP_RETENTION_ENABLED=true and start a listener (where no person has switched it off), or: select retention.configure(''{"enabled": true}'')';
  end if;
  if v_setting.halted_at is not null then
    return query select 'halted', format(
        'halted by %s: %s',
        v_setting.halted_by || coalesce(format(' (as %s)', nullif(v_setting.halted_session, v_setting.halted_by)), ''),
        v_setting.halted_reason
      ),
      v_setting.halted_at, 'retention resume';
  end if;
  return query
  select 'copy', c.because, coalesce(c.since, case when 'copy' = any (v_seen.reasons) then v_seen.since end), c.remedy
  from retention._copy_reason() c;
  if v_adapter.detached_at is not null or to_regclass('retention.result') is null then
    return query select 'detached', 'the application''s table is detached', v_adapter.detached_at,
      'select retention.attach(), or: retention migrate up';
  end if;
  return query
  select r.reason, r.because, case when r.reason = any (v_seen.reasons) then v_seen.since end, r.remedy
  from retention._table_reasons() r;
  if found then
    return;
  end if;
  select * into v_stamping from retention.stamping;
  if v_stamping.failed_since is not null then
    return query select 'stamps fail',
      format('stamps fail with %s: %s', v_stamping.code, v_stamping.message) || coalesce(format(' (%s)', v_stamping.context), ''),
      v_stamping.failed_since, retention._stamp_remedy(v_stamping);
  end if;
  return query select 'objects missing',
    format(
      '%s of %s keys that were looked for in bucket %s have no object there, such as %s',
      k.missing, k.looked, k.bucket, array_to_string(k.missing_keys, ', ')
    ),
    k.looked_at,
    'compare these keys with the bucket, check S3_ENDPOINT_URL, and run retention doctor, which looks again; '
    || format('where the objects are really gone: retention bucket confirm %s', k.bucket)
  from retention.bucket k
  where k.missing * 2 > k.looked
    and k.missing_confirmed_at is null
    and (k.looked >= 5 or k.missing_keys[1] ~ '^(/|[a-z0-9]+://)');
  if exists (select from retention.keeper) then
    return query
    select r.reason, r.because, case when r.reason = any (v_seen.reasons) then v_seen.since end, r.remedy
    from retention._keeper_reasons() r;
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
disabled, halted, copy, detached, table replaced, hidden rows, subscriber, table unsupported, index missing, stamps fail,
objects missing, keeper fails, version. because says it in words, and remedy says what to do. p_client: the version
of the client that asks; null: no client is judged. Costs a few look-ups in catalogs.
For observers.';

CREATE FUNCTION retention.grant_rights(p_role text, p_kind text DEFAULT 'listener'::text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if retention._serves(p_kind, 'reader') is not true then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected listener, operator, observer or reader, given: %s', coalesce(left(p_kind, 100), 'null'));
  end if;
  if coalesce(p_role, '') = '' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected the name of a role, given: %s', coalesce(p_role, 'null'));
  end if;
  perform retention._check_role(p_role, 'grant_rights');
  update retention.adapter
  set listener_role = case when p_kind = 'listener' then p_role else nullif(listener_role, p_role) end,
    operator_role = case when p_kind = 'operator' then p_role else nullif(operator_role, p_role) end,
    observer_role = case when p_kind = 'observer' then p_role else nullif(observer_role, p_role) end,
    reader_roles = array_remove(reader_roles, p_role)
      || case when p_kind = 'reader' then array[p_role] else '{}'::text[] end;
  perform retention._grant_rights();
end
$$;

COMMENT ON FUNCTION retention.grant_rights(p_role text, p_kind text) IS 'Gives p_role the rights of p_kind and remembers it: listener (the cycle), operator (also holds, policies, early
and narrowed work, verify, orphans, restore, release), observer (looks), or reader (an application that asks
which results may be read; there may be several). Rights of another kind that it had are taken away. Each
installation grants them again. Of a role that was recorded before in its place, the rights stay: see revoke_rights.
For the owner of the schema.
Locks the row of retention.adapter.
Raises undefined_object for a role that is not there, and invalid_parameter_value for another kind.';

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
    AS $_$
declare
  v_is_there boolean;
begin
  if not retention._can_look() then
    return false;
  end if;
  execute (
    select format(
      'select exists (select from %s tablesample system (%s) where %I is null and starts_with(%I, $1))',
      a.table_oid::regclass,
      least(100, 100 * 5000 / greatest(sum(pg_relation_size(coalesce(t.relid, a.table_oid))) / current_setting('block_size')::integer, 1)),
      a.columns -> 'cleared_at' ->> 'name',
      a.columns -> 'key' ->> 'name'
    )
    from retention.adapter a
    left join lateral pg_partition_tree(a.table_oid) t on true
    group by a.table_oid, a.columns
  )
  into v_is_there
  using p_prefix;
  return v_is_there;
end
$_$;

COMMENT ON FUNCTION retention.has_key_under(p_prefix text) IS 'Whether some live result''s key begins with p_prefix. Looked for in all of a small table, and else in 5,000 pages that
are spread over it: false says then that it is none of many. For observers.';

CREATE FUNCTION retention.health() RETURNS TABLE(enabled boolean, scheduler text, cron_database text, ticked_seconds_ago double precision, ticked_by text, installed_seconds_ago double precision, loop_interval_seconds double precision, naive_columns text[], default_bucket text, notify_queue_usage double precision, default_retain_days double precision, shortest_retain_days double precision, longest_retain_days double precision, tenant_policies bigint, pending_policies text[], holds bigint, etag_column text)
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
    ),
    a.columns -> 'etag' ->> 'name'
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
            'tenant %s: %s instead of %s would make %s due at once',
            tenant_id, pending_retain, retain, retention._counted(pending_results, 'result')
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

CREATE FUNCTION retention.history(p_tenant_id text DEFAULT NULL::text, p_run_id text DEFAULT NULL::text, p_setting text DEFAULT NULL::text, p_since timestamp with time zone DEFAULT NULL::timestamp with time zone, p_limit integer DEFAULT 100) RETURNS TABLE(at timestamp with time zone, what text, done_by text, subject text, action text, tenant_id text, run_id text, name text, session_name text, role_name text, application text, before jsonb, after jsonb, change_id bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET "IntervalStyle" TO 'postgres'
    AS $$
#variable_conflict use_column
declare
  v_run_id retention.run_id;
  v_tenant_id text;
  v_batch_ids bigint[];
begin
  perform retention._check_history(p_tenant_id, p_run_id, p_setting, p_since, p_limit);
  if p_run_id is not null then
    v_run_id := retention._read_run_id(p_run_id);
    select w.tenant_id, retention._batches_with(v_run_id, w.completed_at, w.cleared_at, not w.is_there, p_since)
    into v_tenant_id, v_batch_ids
    from retention._row_of(v_run_id) w;
    v_tenant_id := coalesce(
      v_tenant_id, (select max(r.tenant_id) from retention._run_receipts(v_run_id, v_batch_ids, p_since) r)
    );
  elsif p_tenant_id is not null then
    v_tenant_id := retention._tenant_of_history(p_tenant_id);
  end if;
  return query
  select h.*
  from (
    select c.at,
      retention._change_words(c.subject, c.before, c.after),
      retention._who(c.session_name, c.role_name, c.application),
      c.subject, c.action, c.tenant_id, c.run_id, c.name, c.session_name, c.role_name, c.application, c.before, c.after,
      c.change_id
    from retention.change c
    where c.change_id = any (retention._changes_of(v_tenant_id, v_run_id::text, p_setting, p_since, p_limit))
    union all
    select r.settled_at,
      retention._receipt_words(r.receipt, r.kind, r.is_gone, r.how, r.bucket, r.key, r.asked_by, r.retain),
      coalesce(r.settled_session, 'the cycle') || coalesce(' (retention ' || r.product || ')', ''),
      'receipt', r.kind, r.tenant_id, p_run_id, r.receipt, r.settled_session, null, null, null, null, null
    from retention._run_receipts(v_run_id, v_batch_ids, p_since) r
    where v_run_id is not null
      and r.settled_at >= coalesce(p_since, '-infinity')
    order by 1 desc, 14 desc nulls first
    limit p_limit
  ) h
  order by 1, 14 nulls last;
end
$$;

COMMENT ON FUNCTION retention.history(p_tenant_id text, p_run_id text, p_setting text, p_since timestamp with time zone, p_limit integer) IS 'Who changed what, and when: the newest p_limit changes, oldest first. Without an argument, of everything: policies,
holds, settings, keepers, buckets, surges and their releases, allowances and requests for a second person.
p_tenant_id: what names this tenant, and the default policy; ''*'': that alone. p_run_id: the holds and policies of the run and
its tenant, and its receipts (what was deleted, restored or un-stamped). p_setting: of this setting; retain is the default
policy, and halt what retention.halt and retention.resume did. p_since: nothing before. what: in words; done_by: the
user of the session, with the role that it had set and the program. before, after: the row.
Of a run whose row is gone, it reads every receipt since p_since, which takes long where there are years of them.
For observers.
Raises invalid_parameter_value for more than one of tenant, run and setting, for what can be none of them, for a time
that has not come, and for a limit that is not from 1 to 100000.';

CREATE FUNCTION retention.index_state() RETURNS TABLE(name text, is_there boolean)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select p.name, p.is_there
  from retention._index_plan() p
$$;

COMMENT ON FUNCTION retention.index_state() IS 'The indexes of this schema on the adopted table, and whether each is there and valid.
For observers.';

CREATE FUNCTION retention.is_readable(p_run_id text) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_run_id retention.run_id := retention._run_id_or_null(p_run_id);
begin
  if v_run_id is null or to_regclass('retention._live') is null then
    return null;
  end if;
  if exists (select from retention._readable(array[v_run_id]::retention.run_id[])) then
    return true;
  end if;
  return case when exists (select from retention.result r where r.run_id = v_run_id) then false end;
end
$$;

COMMENT ON FUNCTION retention.is_readable(p_run_id text) IS 'Whether an application may still show the result of a run: false once it is due, flagged early, being deleted or
cleared; true while it is live, also while a hold keeps it, and for a run that has no result yet. Null for a run
that is not there, for what cannot be a run id, and while the table is detached. One probe by run id.
For readers.';

CREATE FUNCTION retention.judge_fence(p_object jsonb, p_bucket text, p_remembered uuid[] DEFAULT '{}'::uuid[]) RETURNS TABLE(standing text, because text, place bigint, newest bigint, renewed double precision, tried double precision, moved boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
#variable_conflict use_column
declare
  v_differs record;
  v_fence retention.fence;
  v_text text := p_object ->> 'token';
  v_token uuid;
  v_at integer;
begin
  select * into v_differs from retention._identity_differs();
  select * into v_fence from retention.fence;
  moved := v_differs.timeline is not null;
  because := concat_ws('; ', v_differs.server, v_differs.database, v_fence.lost_because);
  if because <> '' then
    standing := 'copy';
    return next;
    return;
  end if;
  if v_text ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
    v_token := v_text::uuid;
    v_at := array_position(v_fence.tokens, v_token);
  end if;
  if v_at is null
    and v_token = any (p_remembered)
    and v_fence.tokens[1] = any (p_remembered)
  then
    -- The same process wrote both: what this database lacks are the seconds that a failover has lost.
    update retention.fence f
    set tokens = (array[v_token] || f.tokens)[1:20],
      newest = f.newest + 1
    where f.tokens[1] = v_fence.tokens[1]
    returning * into v_fence;
    v_at := array_position(v_fence.tokens, v_token);
  end if;
  newest := v_fence.newest;
  renewed := extract(epoch from clock_timestamp() - v_fence.renewed_at);
  tried := extract(epoch from clock_timestamp() - v_fence.tried_at);
  if v_fence.taking then
    standing := 'take';
  elsif p_object is null and v_fence.renewed_at is null then
    standing := 'absent';
  elsif v_at is not null then
    standing := 'known';
    place := v_fence.newest - v_at + 1;
  else
    standing := 'copy';
    because := case
      when p_object is null then format(
        'its fence in bucket %s, last renewed at %s, is not in bucket %s any more',
        v_fence.bucket, retention._iso(v_fence.renewed_at), p_bucket
      )
      else format(
        'another database renewed the fence in bucket %s%s%s',
        p_bucket,
        coalesce(' at ' || retention._iso(retention._read_time(p_object ->> 'renewed_at')), ''),
        coalesce(', from ' || left(regexp_replace(p_object ->> 'renewed_by', '[^[:print:]]', '', 'g'), 100), '')
      )
    end;
    perform retention._note_lost_fence(because);
  end if;
  return next;
end
$_$;

COMMENT ON FUNCTION retention.judge_fence(p_object jsonb, p_bucket text, p_remembered uuid[]) IS 'Judges the object of the fence as a listener has just read it in S3. p_object: its content; null: there is none.
p_bucket: where it was looked for. p_remembered: the last tokens that this process saw as this database''s or wrote
itself, of the last three minutes: a standby that was promoted may have lost those seconds. standing is one of:
copy: this database must not renew it, because says why. absent: it was never written. take: a person has accepted this
database, it is to be taken. known: its token is of this database. place: the number of its token, newest: of the last one here. renewed, tried: seconds
since it was last renewed from here, and since that was last tried. moved: another timeline waits to be accepted.
For the listener.
Locks the row of retention.fence where it writes: an unknown token closes the gate.';

CREATE FUNCTION retention.known_buckets(p_bucket text DEFAULT NULL::text, p_limit integer DEFAULT 100) RETURNS TABLE(bucket text, on_versioned text, versioning text, pause text, habits jsonb, looked integer, missing integer, max_per_second integer, max_in_flight integer)
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
    end,
    retention._habits_of(k),
    k.looked,
    k.missing,
    k.max_per_second,
    k.max_in_flight
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
it pauses; null: it does not. max_per_second and max_in_flight: its ceilings (see set_ceilings); null: it has none. habits: what its store does differently, by name: {"value", "by": "hand" or
"learned", "since", "because"}. looked, missing: how many of its keys were looked for, and how many of those had
no object.
For observers.';

CREATE FUNCTION retention.learn_habits(p_bucket text, p_learned jsonb, p_because text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_bucket retention.bucket;
begin
  perform retention._check_habits(
    p_learned, '{keys_per_request, keys_in_time, deletes, checksum, addressing, conditional}'
  );
  select * into v_bucket from retention.bucket k where k.bucket = p_bucket for update;
  update retention.bucket k
  set learned = (
      select coalesce(jsonb_object_agg(l.key, l.value), '{}')
      from jsonb_each(v_bucket.learned) l
      where not p_learned ? l.key
        and (l.value ->> 'at')::timestamptz > clock_timestamp() - interval '1 day'
    ) || (
      select coalesce(
        jsonb_object_agg(
          l.key,
          jsonb_build_object('value', l.value, 'at', clock_timestamp(), 'because', left(p_because, 500))
        ),
        '{}'
      )
      from (
        select j.key,
          case
            when j.key = 'keys_per_request'
              and (v_bucket.learned -> j.key ->> 'at')::timestamptz > clock_timestamp() - interval '1 day'
            then least(j.value, v_bucket.learned -> j.key -> 'value')
            else j.value
          end as value
        from jsonb_each(p_learned) j
        where jsonb_typeof(j.value) <> 'null'
      ) l
    )
  where k.bucket = p_bucket;
end
$$;

COMMENT ON FUNCTION retention.learn_habits(p_bucket text, p_learned jsonb, p_because text) IS 'Remembers for a day what an attempt showed of the store of a bucket. p_learned: habits by name, as in
{"keys_per_request": 62, "checksum": "md5"}; a null value forgets one. p_because: what showed it. Of two limits
of keys that were refused the lower one stays. Unknown buckets are passed by. What a person has set stays in
force.
For the listener.
Locks the bucket''s row.
Raises invalid_parameter_value for what is no habit.';

CREATE FUNCTION retention.list_approvals(p_all boolean DEFAULT false) RETURNS TABLE(approval_id bigint, state text, kind text, what jsonb, results bigint, asked_by text, asked_at timestamp with time zone, approved_by text, approved_at timestamp with time zone, expires_at timestamp with time zone, used_at timestamp with time zone, withdrawn_by text, withdrawn_at timestamp with time zone)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select a.approval_id,
    s.state,
    a.kind,
    a.what,
    a.results,
    a.asked_by,
    a.asked_at,
    a.approved_by,
    a.approved_at,
    a.asked_at + interval '24 hours',
    a.used_at,
    a.withdrawn_by,
    a.withdrawn_at
  from retention.approval a
  cross join lateral (
    select case
      when a.used_at is not null then 'used'
      when a.withdrawn_at is not null then 'withdrawn'
      when a.asked_at < clock_timestamp() - interval '24 hours' then 'expired'
      when a.approved_at is not null then 'approved'
      else 'waiting'
    end as state
  ) s
  where p_all
    or s.state in ('waiting', 'approved')
  order by a.approval_id
$$;

COMMENT ON FUNCTION retention.list_approvals(p_all boolean) IS 'The requests that wait for another person or may still be used, or with p_all every one, oldest first. state:
waiting, approved, used, withdrawn or expired. results: of a policy, how many live results it would have made due
when it was asked for.
For observers.';

CREATE FUNCTION retention.list_due(p_tenant_id text DEFAULT NULL::text, p_run_ids text[] DEFAULT NULL::text[], p_older_than interval DEFAULT NULL::interval, p_early boolean DEFAULT false, p_limit bigint DEFAULT NULL::bigint) RETURNS TABLE(run_id retention.run_id, tenant_id text, bucket text, key text, completed_at timestamp with time zone, due_at timestamp with time zone, early boolean)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
declare
  v_older_than interval := retention._read_older_than(p_older_than);
  v_few record;
begin
  perform retention._check_indexes();
  perform retention._check_narrowing(p_run_ids, p_tenant_id);
  p_tenant_id := retention._read_tenant_id(p_tenant_id)::text;
  if p_run_ids is not null then
    return query
    select u.run_id, u.tenant_id, u.bucket, u.key, u.completed_at, u.due_at, u.due_at >= now()
    from retention._list_runs(p_tenant_id, p_run_ids, v_older_than, p_early, p_limit) u;
    return;
  end if;
  begin
    select * into strict v_few from retention._list_few(p_tenant_id, v_older_than, p_early, p_limit);
    if v_few.is_complete then
      return query
      select u.run_id, u.tenant_id, u.bucket, u.key, u.completed_at, u.due_at, u.due_at >= now()
      from unnest(v_few.results) u;
    else
      return query
      select u.run_id, u.tenant_id, u.bucket, u.key, u.completed_at, u.due_at, u.due_at >= now()
      from retention._list_many(p_tenant_id, v_older_than, p_early, p_limit) u;
    end if;
    return;
  exception
    when others then
      if retention._is_passing(sqlstate) then
        raise;
      end if;
  end;
  return query
  select u.run_id, u.tenant_id, u.bucket, u.key, u.completed_at, u.due_at, u.due_at >= now()
  from retention._list_carefully(p_tenant_id, v_older_than, p_early, p_limit) u;
end
$$;

COMMENT ON FUNCTION retention.list_due(p_tenant_id text, p_run_ids text[], p_older_than interval, p_early boolean, p_limit bigint) IS 'What claim would hand out now, flagged or not, in the order of tenants and oldest first. p_tenant_id,
p_run_ids and p_older_than narrow it; null does not narrow. p_early: p_older_than stands in for the policy
where it is shorter. early in a row: the result is not due by the policy in force. A row that cannot be read
is passed by with a warning that names it. Changes nothing.
For the listener.
Raises invalid_parameter_value for an empty text, and for a text that cannot be a run id or a tenant id, and
object_not_in_prerequisite_state where an index on the application''s table is missing. An empty list of runs
lists nothing.';

CREATE FUNCTION retention.list_guards() RETURNS TABLE(name text, value text, meaning text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "IntervalStyle" TO 'postgres'
    AS $$
  select g.name,
    coalesce(g.value, 'none'),
    col_description('retention.setting'::regclass, a.attnum)
  from retention.setting s
  cross join lateral (
    values (1, 'policy_guard', s.policy_guard::text),
      (2, 'surge_guard', s.surge_guard::text),
      (3, 'surge_guard_all', s.surge_guard_all::text),
      (4, 'cool_off', retention._in_days(s.cool_off)::text),
      (5, 'release_spread', retention._in_days(s.release_spread)::text),
      (6, 'four_eyes', case when s.four_eyes then 'on' else 'off' end)
  ) as g (place, name, value)
  join pg_attribute a on a.attrelid = 'retention.setting'::regclass
    and a.attname = g.name
  order by g.place
$$;

COMMENT ON FUNCTION retention.list_guards() IS 'The settings that stop a slip: each with its value as text (none: there is no guard) and what it does.
For observers.';

CREATE FUNCTION retention.list_heads(p_after bigint DEFAULT NULL::bigint, p_limit integer DEFAULT 100) RETURNS SETOF json
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
  select retention._head(s.seal_id)
  from (
    select s.seal_id
    from retention.seal s
    where case when p_after is null then s.seal_id = (select h.seal_id from retention.seal_head h) else s.seal_id > p_after end
    order by s.seal_id
    limit greatest(p_limit, 0)
  ) s
$$;

COMMENT ON FUNCTION retention.list_heads(p_after bigint, p_limit integer) IS 'The heads of the seals after p_after, oldest first, at most p_limit of them; p_after null: the latest alone. As what
leaves the database: {"seal", "digest", "previous", "sealed_at", "database"}.
For observers.';

CREATE FUNCTION retention.list_holds(p_all boolean DEFAULT false) RETURNS TABLE(hold_id bigint, run_id text, tenant_id text, reason text, placed_by text, placed_at timestamp with time zone, expires_at timestamp with time zone, released_at timestamp with time zone, released_by text, active boolean, placed_session text, released_session text, bucket text, key text, objects bigint)
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
    retention._hold_end(h.released_at, h.expires_at) > now(),
    h.placed_session,
    h.released_session,
    h.bucket,
    h.key,
    h.objects
  from retention.hold h
  where p_all
    or retention._hold_end(h.released_at, h.expires_at) > now()
  order by h.hold_id
$$;

COMMENT ON FUNCTION retention.list_holds(p_all boolean) IS 'The holds that are in force, or with p_all every hold, oldest first. placed_session, released_session: the users of
the sessions beside the names, which may be typed. objects: how many objects each covers also when
their rows have gone; bucket and key: which one, of a hold on a run. For observers.';

CREATE FUNCTION retention.list_keepers() RETURNS TABLE(keeper_id bigint, table_name text, key_column text, bucket_column text, until_column text, added_at timestamp with time zone, added_by text, kept bigint, fault text, remedy text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
  select k.keeper_id, k.table_name, k.key_column, k.bucket_column, k.until_column, k.added_at, k.added_by,
    (select count(*) from retention.spared_object o where o.kept_by = k.table_name and o.until > now()),
    f.fault, f.remedy
  from retention.keeper k
  cross join lateral retention._keeper_fault(k) f
  order by k.keeper_id
$$;

COMMENT ON FUNCTION retention.list_keepers() IS 'The keepers, in the order in which they were added. fault: why one cannot be asked, which closes the gate; remedy:
what to do; null: it can. kept: how many objects are known to be kept for its table.
For observers.';

CREATE FUNCTION retention.list_orphan_lists(p_limit integer DEFAULT 100) RETURNS TABLE(list_id uuid, bucket text, prefix text, margin interval, listed bigint, orphans bigint, bytes bigint, digest text, made_at timestamp with time zone, made_by text, begun_at timestamp with time zone, begun_by text, begun_as text, expected bigint, worked_at timestamp with time zone, deleted bigint, spared bigint, failed bigint)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select o.list_id, o.bucket, o.prefix, o.margin, o.listed, o.orphans, o.bytes, o.digest, o.made_at, o.made_by,
    o.begun_at, o.begun_by, o.begun_as, o.expected, o.worked_at, o.deleted, o.spared, o.failed
  from retention.orphan_list o
  order by o.made_at desc, o.list_id
  limit p_limit
$$;

COMMENT ON FUNCTION retention.list_orphan_lists(p_limit integer) IS 'The lists of orphans, newest first: when each was made and by whom, and what was deleted by it. begun_by is the name
that was given, and begun_as the session user who deleted. For observers.';

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

CREATE FUNCTION retention.list_releases(p_surge_id bigint DEFAULT NULL::bigint) RETURNS TABLE(surge_id bigint, tenant_id text, results bigint, released_at timestamp with time zone, released_by text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select r.surge_id, r.tenant_id, r.results, r.released_at, r.released_by
  from retention.surge_release r
  where p_surge_id is null or r.surge_id = p_surge_id
  order by r.released_at desc
$$;

COMMENT ON FUNCTION retention.list_releases(p_surge_id bigint) IS 'Who released what of which surge, the newest first. For observers.';

CREATE FUNCTION retention.list_roles() RETURNS TABLE(role text, may text, lacks text[], exceeds text[])
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select pg_get_userbyid(s.nspowner)::text, 'owner', '{}'::text[], '{}'::text[]
  from pg_namespace s
  where s.nspname = 'retention'
  union all
  (
    select r.role,
      r.kind,
      coalesce((array_agg(i.name order by i.name) filter (where i.is_for and not i.may))[:10], '{}'),
      coalesce((array_agg(i.name order by i.name) filter (where not i.is_for and i.may))[:10], '{}')
    from retention._recorded_roles() r
    join pg_roles p on p.rolname = r.role
    cross join lateral (
      select i.name,
        retention._serves(r.kind, i.least_role) as is_for,
        case i.kind
          when 'function' then has_function_privilege(p.oid, i.oid, 'execute')
          else has_table_privilege(p.oid, i.oid, 'select')
        end as may
      from retention._interface() i
    ) i
    where r.role <> (select pg_get_userbyid(n.nspowner) from pg_namespace n where n.nspname = 'retention')
    group by r.role, r.kind
    order by array_position('{operator, listener, observer, reader}'::text[], r.kind), r.role
  )
$$;

COMMENT ON FUNCTION retention.list_roles() IS 'The recorded roles, and the owner of the schema first. may: owner, operator, listener, observer or reader. lacks:
what is missing of it. exceeds: what it may beyond it, also as a member of another role or as a superuser; for
each at most ten. Reads catalogs.
For observers.';

CREATE FUNCTION retention.list_surges(p_all boolean DEFAULT false) RETURNS TABLE(surge_id bigint, state text, found_at timestamp with time zone, found_by text, seen_at timestamp with time zone, results bigint, found bigint, released bigint, tenants bigint, oldest timestamp with time zone, due_since timestamp with time zone, because text, remedy text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    AS $$
  select s.surge_id,
    case when s.closed_at is null then 'open' else 'closed' end,
    s.found_at,
    s.found_by,
    s.seen_at,
    p.results,
    s.found,
    (select coalesce(sum(r.results), 0)::bigint from retention.surge_release r where r.surge_id = s.surge_id),
    s.tenants,
    p.oldest,
    p.due_since,
    retention._why_set_aside(s),
    case when s.closed_at is null then format('retention surge show %s', s.surge_id) end
  from retention.surge s
  cross join lateral (
    select coalesce(sum(x.results), 0)::bigint as results, min(x.oldest) as oldest, min(x.due_since) as due_since
    from retention.surge_part x
    where x.surge_id = s.surge_id
  ) p
  where p_all or s.closed_at is null
  union all
  select null, 'counting', p.parked_at, null, h.seen_at, p.results, p.results, 0, null, p.oldest, p.due_since,
    format('late results of a walk that began at %s and is not complete yet', retention._iso(h.walk_began_at)),
    'wait until it has been counted: the next ticks go on'
  from (
    select sum(x.results)::bigint as results, min(x.oldest) as oldest, min(x.due_since) as due_since,
      min(x.parked_at) as parked_at
    from retention.surge_part x
    where x.surge_id is null
    having sum(x.results) > 0
  ) p
  cross join retention.heartbeat h
  order by 1
$$;

COMMENT ON FUNCTION retention.list_surges(p_all boolean) IS 'Surges that are open, oldest first; p_all: closed ones too. results: how many are set aside now; found: how many
were when it was found; released: how many were released. seen_at: when the last complete walk before it began: its
results were due before then and unknown; null: there was none, so this is what an adoption found. state is one of:
counting (a walk is under way, and nothing of it can be released yet; it has no id), open, closed.
For observers.';

CREATE FUNCTION retention.missing_rights(p_role text DEFAULT CURRENT_USER, p_kind text DEFAULT NULL::text) RETURNS TABLE(missing text, granted_by text)
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
    where retention._serves(
        coalesce(p_kind, (select r.kind from retention._recorded_roles() r where r.role = p_role), 'listener'),
        i.least_role
      )
      and case i.kind
        when 'function' then not has_function_privilege(p_role, i.oid, 'execute')
        else not has_table_privilege(p_role, i.oid, 'select')
      end
  ) m
  where s.nspname = 'retention'
  order by m.place, m.missing
$$;

COMMENT ON FUNCTION retention.missing_rights(p_role text, p_kind text) IS 'What p_role lacks of the SQL interface, in the words of GRANT, and who can grant it; no row: nothing. p_kind: as
what it is judged (operator, listener, observer or reader); by default as what it was recorded, and else as a
listener. Reads catalogs.
For observers.
Raises undefined_object for a role that is not there.';

CREATE FUNCTION retention.next_listed(p_verify_id uuid, p_prefix text, p_after text, p_limit integer DEFAULT 1000) RETURNS TABLE(key text, bytes bigint, modified_at timestamp with time zone, etag text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select l.key, l.bytes, l.modified_at, l.etag
  from retention.verify_listed l
  where l.verify_id = p_verify_id
    and l.key > coalesce(p_after, '') collate "C"
    and l.key >= p_prefix collate "C"
    and starts_with(l.key, p_prefix)
  order by l.key
  limit p_limit
$$;

COMMENT ON FUNCTION retention.next_listed(p_verify_id uuid, p_prefix text, p_after text, p_limit integer) IS 'The next of what note_listed noted, in the order of bytes: the first p_limit keys of p_prefix after p_after.
For operators.';

CREATE FUNCTION retention.next_orphans(p_verify_id uuid, p_bucket text, p_after text, p_margin interval, p_limit integer) RETURNS TABLE(key text, bytes bigint, modified_at timestamp with time zone, still_orphan boolean, etag text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
declare
  v_strays retention.stray[];
begin
  perform retention._check_margin(p_margin);
  v_strays := array(
    select s
    from retention.stray s
    where s.verify_id = p_verify_id
      and s.bucket = p_bucket
      and s.kind = 'orphan'
      and s.modified_at < now() - p_margin
      and s.key > coalesce(p_after, '') collate "C"
    order by s.key
    limit p_limit
  );
  return query
  select s.key, s.bytes, s.modified_at, n.reason is null, s.etag
  from unnest(v_strays) s
  join retention._orphan_reasons(p_bucket, array(select u.key from unnest(v_strays) u)) n
    on n.key collate "C" = s.key
  order by s.key;
end
$$;

COMMENT ON FUNCTION retention.next_orphans(p_verify_id uuid, p_bucket text, p_after text, p_margin interval, p_limit integer) IS 'The next p_limit orphans of a bucket after the key p_after, in the order of keys. Only those older than
p_margin. still_orphan: nothing needs the object now. etag: as it was listed, without quotes; null: not told.
For operators.
Raises invalid_parameter_value for a margin of less than an hour.';

CREATE FUNCTION retention.next_pass() RETURNS TABLE(comes_at timestamp with time zone, because text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
begin
  return query
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
          format(
            '%s flagged, as many as backlog_limit lets wait; a pass comes when there are fewer',
            retention._counted(s.backlog, 'result is', 'results are')
          )
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
  from judged j;
end
$$;

COMMENT ON FUNCTION retention.next_pass() IS 'When the next flagging pass is to come, and by what. comes_at is null where none comes by itself: because then
says what keeps it. A listener that stands in for a silent scheduler may flag before. Cheap at any size.
For observers.';

CREATE FUNCTION retention.next_returned(p_verify_id uuid, p_after text DEFAULT NULL::text) RETURNS SETOF text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select s.key
  from retention.stray s
  where s.verify_id = p_verify_id
    and s.kind = 'returned'
    and s.key > coalesce(p_after, '') collate "C"
  order by s.key collate "C"
  limit 1000
$$;

COMMENT ON FUNCTION retention.next_returned(p_verify_id uuid, p_after text) IS 'The keys of cleared rows that were listed, as sort_strays has found them, in order and at most 1,000 after p_after.
For operators.';

CREATE FUNCTION retention.next_standing_step(p_buckets text[], p_every interval) RETURNS TABLE(step text, bucket text, verify_id uuid, holder uuid, after_key text, stretch_id bigint, keys text[], seconds double precision)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
declare
  v_standing retention.standing_verify;
  v_holder uuid := gen_random_uuid();
begin
  seconds := 60;
  if not pg_try_advisory_xact_lock(hashtextextended('retention standing verify', 0)) then
    return next;
    return;
  end if;
  perform retention._check_indexes();
  insert into retention.standing_verify (bucket, every)
  select u.b, p_every
  from unnest(p_buckets) as u (b)
  where not exists (select from retention.standing_verify s where s.bucket = u.b);
  update retention.standing_verify s
  set asked_at = clock_timestamp(),
    every = p_every,
    next_at = case when s.verify_id is null and s.every <> p_every then coalesce(s.began_at + p_every, s.next_at) else s.next_at end
  where s.bucket = any (p_buckets)
    and (s.every <> p_every or s.asked_at < clock_timestamp() - interval '1 hour');
  perform retention._recheck_gone(s.bucket)
  from retention.standing_verify s
  where s.bucket = any (p_buckets)
    and s.rechecked_at < clock_timestamp() - interval '10 minutes';

  select s.* into v_standing
  from retention.standing_verify s
  where s.bucket = any (p_buckets)
    and s.next_at <= clock_timestamp()
    -- One after the other; what cannot go on at present keeps no other waiting.
    and (
      s.verify_id is not null
      or not exists (
        select
        from retention.standing_verify o
        where o.bucket = any (p_buckets)
          and o.verify_id is not null
          and o.code is null
      )
    )
  order by s.verify_id is null, s.next_at, s.bucket
  limit 1
  for update skip locked;
  if not found then
    select least(greatest(extract(epoch from min(s.next_at) - clock_timestamp()), 1), 60) into seconds
    from retention.standing_verify s
    where s.bucket = any (p_buckets);
    seconds := coalesce(seconds, 60);
    return next;
    return;
  end if;
  if v_standing.verify_id is null
    or not exists (select from retention.verify_run r where r.verify_id = v_standing.verify_id)
  then
    v_standing.verify_id := retention._begin_standing(v_standing.bucket);
  end if;
  -- Locked: its listener is at the step, however long that takes.
  perform from retention.verify_run r where r.verify_id = v_standing.verify_id for update skip locked;
  if not found then
    return next;
    return;
  end if;
  update retention.verify_run r
  set holder = v_holder,
    worked_at = clock_timestamp()
  where r.verify_id = v_standing.verify_id;
  update retention.standing_verify s
  set next_at = clock_timestamp() + interval '5 minutes'
  where s.bucket = v_standing.bucket;
  return query
  select case when t.stretch_id is not null then 'look' when p.is_listed then 'end' else 'list' end,
    v_standing.bucket, p.verify_id, v_holder,
    case when t.stretch_id is null then p.at_key else t.after_key end,
    t.stretch_id, t.keys, 0::double precision
  from retention.verify_part p
  left join lateral (
    select s.stretch_id, s.after_key, s.keys
    from retention.verify_stretch s
    where s.verify_id = p.verify_id
      and s.part = p.part
    order by s.stretch_id
    limit 1
  ) t on true
  where p.verify_id = v_standing.verify_id;
end
$$;

COMMENT ON FUNCTION retention.next_standing_step(p_buckets text[], p_every interval) IS 'What the standing verify wants done now, for whichever listener asks first. step: list (one page of the bucket''s listing,
after after_key), look (whether the keys still have no object; they come after after_key in the listing), end (of the
bucket), or null: nothing, for so many seconds. What is given is that listener''s for 5 minutes. p_buckets: those that it may
look at; one after the other is verified. p_every: how long after a verify of a bucket began its next one begins.
For the listener.
Locks the rows of the bucket''s verify.
Raises object_not_in_prerequisite_state where an index on the application''s table is missing.';

CREATE FUNCTION retention.next_stretch(p_verify_id uuid, p_part integer DEFAULT NULL::integer, p_after_id bigint DEFAULT 0) RETURNS TABLE(stretch_id bigint, after_key text, run_ids text[], keys text[], dues boolean[])
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select s.stretch_id, s.after_key, s.run_ids, s.keys, s.dues
  from retention.verify_stretch s
  where s.verify_id = p_verify_id
    and (p_part is null and s.is_gone or s.part = p_part and not s.is_gone)
    and s.stretch_id > p_after_id
  order by s.stretch_id
  limit 1
$$;

COMMENT ON FUNCTION retention.next_stretch(p_verify_id uuid, p_part integer, p_after_id bigint) IS 'The next stretch of a part whose missing results wait for a second look, after p_after_id; without a part, the next of
those that the second look has not found and that are not due.
For operators.';

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

CREATE FUNCTION retention.note_canary(p_bucket text, p_key text, p_what text, p_code text DEFAULT NULL::text, p_problem text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_canary retention.canary;
  v_batch_id bigint;
begin
  if p_what is null or p_what not in ('put', 'gone', 'there', 'failed') then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected put, gone, there or failed of a canary, given: %s', coalesce(left(p_what, 100), 'null'));
  end if;
  select * into v_canary from retention.canary c where c.bucket = p_bucket and c.key = p_key for update;
  if not found then
    return;
  end if;
  if p_what = 'put' and v_canary.batch_id is null then
    insert into retention.bucket (bucket) values (p_bucket) on conflict do nothing;
    -- In front of the queue: it shows whether objects are deleted, not how many wait.
    insert into retention.batch (bucket, kind, results, oldest, newest, visible_at, run_ids, keys, tenants)
    values (p_bucket, 'canary', 0, now(), now(), timestamptz '1970-01-01Z', '{}', '{}', '{}')
    returning batch_id into v_batch_id;
    update retention.canary c set batch_id = v_batch_id, asked_at = null where c.bucket = p_bucket;
  elsif p_what = 'gone' and v_canary.settled_at is not null then
    update retention.canary c
    set key = null,
      batch_id = null,
      settled_at = null,
      asked_at = null,
      confirmed_at = clock_timestamp(),
      code = null,
      problem = null,
      problem_at = null
    where c.bucket = p_bucket;
  elsif p_what = 'there' then
    perform retention._end_canary(p_bucket, 'StillThere', 'the store named it as deleted, and it is still there');
  elsif p_what = 'failed' then
    perform retention._end_canary(p_bucket, coalesce(p_code, 'Unknown'), coalesce(p_problem, ''));
  end if;
end
$$;

COMMENT ON FUNCTION retention.note_canary(p_bucket text, p_key text, p_what text, p_code text, p_problem text) IS 'Writes down what became of the step that begin_canary gave. p_what: put (the object is there: it is flagged), gone (it
was looked for after its deletion, and is not there), there (it still is), or failed. p_code, p_problem: why. Of
another key than the canary has by now nothing is written.
For the listener.
Locks the row of the bucket''s canary.
Raises invalid_parameter_value for any other word.';

CREATE FUNCTION retention.note_listed(p_verify_id uuid, p_keys text[], p_bytes bigint[], p_modified timestamp with time zone[], p_etags text[] DEFAULT NULL::text[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  insert into retention.verify_listed (verify_id, key, bytes, modified_at, etag)
  select p_verify_id, k.key, k.bytes, k.modified_at, k.etag
  from unnest(p_keys, p_bytes, p_modified, p_etags) as k (key, bytes, modified_at, etag)
  on conflict do nothing
$$;

COMMENT ON FUNCTION retention.note_listed(p_verify_id uuid, p_keys text[], p_bytes bigint[], p_modified timestamp with time zone[], p_etags text[]) IS 'Notes what a listing out of order or an inventory names. What is noted twice is noted once.
For operators.';

CREATE FUNCTION retention.note_look(p_bucket text, p_store text, p_looked integer, p_missing text[], p_again boolean DEFAULT false) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_bucket retention.bucket;
  v_again boolean;
begin
  select * into v_bucket from retention.bucket k where k.bucket = p_bucket for update;
  if not found then
    return true;
  end if;
  v_again := p_again or v_bucket.looked_in is distinct from p_store;
  update retention.bucket k
  set looked_in = p_store,
    looked_at = clock_timestamp(),
    looked = p_looked + case when v_again then 0 else k.looked end,
    missing = cardinality(p_missing) + case when v_again then 0 else k.missing end,
    missing_keys = (p_missing || case when v_again then '{}' else k.missing_keys end)[:3],
    missing_confirmed_at = case
      when k.looked_in is not distinct from p_store then k.missing_confirmed_at
    end,
    missing_confirmed_by = case
      when k.looked_in is not distinct from p_store then k.missing_confirmed_by
    end
  where k.bucket = p_bucket
  returning * into v_bucket;
  perform retention._note_gate();
  return not retention._lacks_objects(v_bucket);
end
$$;

COMMENT ON FUNCTION retention.note_look(p_bucket text, p_store text, p_looked integer, p_missing text[], p_again boolean) IS 'Notes how many keys of a bucket were looked for, and which of them had no object, before anything is deleted in
p_store (how the store is called). A look in another store begins again. Returns whether deleting may go on: with
most objects missing it may not, and the gate closes (objects missing). p_again: forget earlier looks.
For the listener.
Locks the bucket''s row.';

CREATE FUNCTION retention.note_orphan_list(p_list_id uuid, p_bucket text, p_prefix text, p_margin interval, p_listed bigint, p_orphans bigint, p_bytes bigint, p_digest text) RETURNS timestamp with time zone
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $_$
declare
  v_made_at timestamptz;
begin
  if p_digest is null or p_digest !~ '^[0-9a-f]{64}$' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected a SHA-256 digest in hexadecimal, given: %s', coalesce(left(p_digest, 100), 'null'));
  end if;
  insert into retention.orphan_list (list_id, bucket, prefix, margin, listed, orphans, bytes, digest)
  values (p_list_id, p_bucket, coalesce(p_prefix, ''), p_margin, p_listed, p_orphans, p_bytes, p_digest)
  returning made_at into v_made_at;
  return v_made_at;
end
$_$;

COMMENT ON FUNCTION retention.note_orphan_list(p_list_id uuid, p_bucket text, p_prefix text, p_margin interval, p_listed bigint, p_orphans bigint, p_bytes bigint, p_digest text) IS 'Writes down a list of orphans that was just made: what was listed, how many it names, and its digest. Only a list
that is written down here is deleted, and only from an hour later on. Returns when it was made.
For operators.
Raises check_violation for a margin of less than an hour, and for more orphans than listed objects. Raises
invalid_parameter_value for a digest that is none.';

CREATE FUNCTION retention.note_part_done(p_verify_id uuid, p_holder uuid, p_part integer, p_what text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if not retention._hold_verify(p_verify_id, p_holder) then
    return false;
  end if;
  update retention.verify_part p
  set is_listed = true,
    is_compared = p.is_compared or p_what = 'compared'
  where p.verify_id = p_verify_id
    and p.part = p_part;
  return true;
end
$$;

COMMENT ON FUNCTION retention.note_part_done(p_verify_id uuid, p_holder uuid, p_part integer, p_what text) IS 'Writes down that a part is listed to its end (p_what: listed), or that all of it is compared and confirmed (compared).
Returns false, and writes nothing, when another verify has taken over.
For operators.
Locks the row of the run.';

CREATE FUNCTION retention.note_seals_written(p_bucket text, p_to bigint, p_problem text DEFAULT NULL::text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  insert into retention.seal_copy as c (bucket, written_to, written_at, problem, problem_at)
  values (
    p_bucket, p_to, case when p_to > 0 then clock_timestamp() end, left(p_problem, 500),
    case when p_problem is not null then clock_timestamp() end
  )
  on conflict (bucket) do update
  set written_to = greatest(c.written_to, excluded.written_to),
    written_at = case when excluded.written_to > c.written_to then excluded.written_at else c.written_at end,
    looked_at = now(),
    problem = case when c.written_to <= excluded.written_to then excluded.problem else c.problem end,
    problem_at = case when c.written_to <= excluded.written_to then excluded.problem_at else c.problem_at end
$$;

COMMENT ON FUNCTION retention.note_seals_written(p_bucket text, p_to bigint, p_problem text) IS 'Notes that each seal up to p_to is an object in p_bucket, or why the one after it could not be written.
For the listener.
Locks the row of retention.seal_copy.';

CREATE FUNCTION retention.note_standing_look(p_verify_id uuid, p_holder uuid, p_stretch_id bigint, p_gone text[]) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_bucket text := (select r.bucket from retention.verify_run r where r.verify_id = p_verify_id);
  v_run_ids retention.run_id[];
  v_keys text[];
  v_live integer[];
  v_kept bigint := (select count(*) from retention.standing_gone g where g.verify_id = p_verify_id);
begin
  if not retention._hold_standing(p_verify_id, p_holder) then
    return false;
  end if;
  select array_agg(u.run_id order by u.n), array_agg(u.key order by u.n)
  into v_run_ids, v_keys
  from retention.verify_stretch s
  cross join unnest(s.run_ids, s.keys) with ordinality as u (run_id, key, n)
  where s.verify_id = p_verify_id
    and s.stretch_id = p_stretch_id
    and u.key in (select g from unnest(p_gone) g);
  if v_run_ids is not null then
    v_live := array(
      select n
      from retention._still_live(
        v_bucket, v_run_ids,
        array(select retention._pack_key(u.key, u.run_id::text) from unnest(v_run_ids, v_keys) with ordinality as u (run_id, key, n) order by u.n),
        '-infinity', 'infinity'
      ) n
      where v_run_ids[n] not in (select a.run_id from retention._being_deleted(v_bucket) a)
    );
    insert into retention.standing_gone (bucket, run_id, key, verify_id)
    select distinct on (v_run_ids[n]) v_bucket, v_run_ids[n], v_keys[n], p_verify_id
    from unnest(v_live) n
    limit greatest(1000 - v_kept, 0)
    on conflict on constraint standing_gone_pkey do update
    set key = excluded.key,
      verify_id = excluded.verify_id;
    update retention.standing_verify s set found = s.found + cardinality(v_live) where s.verify_id = p_verify_id;
  end if;
  delete from retention.verify_stretch s where s.verify_id = p_verify_id and s.stretch_id = p_stretch_id;
  perform retention._pause_standing(p_verify_id);
  return true;
end
$$;

COMMENT ON FUNCTION retention.note_standing_look(p_verify_id uuid, p_holder uuid, p_stretch_id bigint, p_gone text[]) IS 'Ends the look that next_standing_step asked for. p_gone: which of its keys have no object now either. Their rows count as drift if
they still point there, and if no listener deletes them at this moment. Returns false, and writes nothing, when another
listener has taken over.
For the listener.
Locks the rows of the bucket''s verify.';

CREATE FUNCTION retention.note_standing_page(p_verify_id uuid, p_holder uuid, p_until text, p_keys text[], p_bytes bigint[], p_modified timestamp with time zone[], p_etags text[]) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_part retention.verify_part;
  v_run retention.verify_run;
  v_run_ids text[];
  v_keys text[];
  v_dues boolean[];
  v_after text;
  v_until text := p_until;
  v_listed bigint;
begin
  if not retention._hold_standing(p_verify_id, p_holder) then
    return false;
  end if;
  select * into strict v_run from retention.verify_run r where r.verify_id = p_verify_id;
  select * into strict v_part from retention.verify_part p where p.verify_id = p_verify_id;
  select array_agg(c.run_id order by c.n), array_agg(c.key order by c.n), array_agg(c.is_due order by c.n)
  into v_run_ids, v_keys, v_dues
  from retention.compare_listing(
    p_verify_id, v_run.bucket, v_part.prefix, v_part.at_key, p_until, p_keys, p_bytes, p_modified,
    v_run.began_at - interval '1 hour', p_etags
  ) with ordinality as c (run_id, key, is_due, n);
  if v_keys is not null then
    -- The last listed key before the first missing one: where a second look begins.
    select max(k collate "C") into v_after from unnest(p_keys) k where k < v_keys[1] collate "C";
    insert into retention.verify_stretch (verify_id, part, after_key, run_ids, keys, dues)
    values (p_verify_id, v_part.part, coalesce(v_after, v_part.at_key), v_run_ids, v_keys, v_dues);
    if cardinality(v_keys) >= 1000 then
      -- There may be more: the next page begins after the last of them.
      v_until := v_keys[cardinality(v_keys)];
    end if;
  end if;
  select count(*) into v_listed from unnest(p_keys) k where v_until is null or k <= v_until collate "C";
  update retention.verify_part p
  set at_key = coalesce(v_until, p.at_key),
    is_listed = v_until is null,
    listed = p.listed + v_listed
  where p.verify_id = p_verify_id;
  update retention.standing_verify s
  set pages = s.pages + 1,
    listed_now = s.listed_now + v_listed,
    expected = case
      when s.pages > 0 then s.expected
      else greatest(
        s.listed / 1000,
        (select count(*) from retention.key_copy c join retention.key_stretch t using (copy_id) where c.verify_id = p_verify_id)
      ) + 1
    end
  where s.verify_id = p_verify_id;
  perform retention._pause_standing(p_verify_id);
  return true;
end
$$;

COMMENT ON FUNCTION retention.note_standing_page(p_verify_id uuid, p_holder uuid, p_until text, p_keys text[], p_bytes bigint[], p_modified timestamp with time zone[], p_etags text[]) IS 'Writes down a page of the listing that next_standing_step asked for. p_until: its last key; null: there is no more. p_keys: what it
lists in the order of bytes, without our own objects; p_bytes, p_modified, p_etags: of each. The first page of a bucket
copies the keys of its live rows: it reads the application''s table once, so the session should have no statement_timeout.
Returns false, and writes nothing, when another listener has taken over.
For the listener.
Locks the rows of the bucket''s verify.';

CREATE FUNCTION retention.note_standing_problem(p_verify_id uuid, p_holder uuid, p_code text, p_problem text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  update retention.standing_verify s
  set code = left(coalesce(p_code, 'Unknown'), 64),
    problem = left(coalesce(p_problem, ''), 500),
    problem_at = clock_timestamp(),
    next_at = clock_timestamp() + case when p_code = 'AccessDenied' then interval '1 hour' else interval '10 minutes' end
  from retention.verify_run r
  where s.verify_id = p_verify_id
    and r.verify_id = p_verify_id
    and r.holder = p_holder
$$;

COMMENT ON FUNCTION retention.note_standing_problem(p_verify_id uuid, p_holder uuid, p_code text, p_problem text) IS 'Writes down why a step could not be done: it is tried again in 10 minutes, and after an hour where it was denied. Other
buckets go on meanwhile. Of a step that another listener has taken over nothing is written.
For the listener.
Locks the row of the bucket''s verify.';

CREATE FUNCTION retention.note_stretch(p_verify_id uuid, p_holder uuid, p_stretch_id bigint, p_stamped bigint DEFAULT 0, p_gone integer[] DEFAULT '{}'::integer[]) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if not retention._hold_verify(p_verify_id, p_holder) then
    return false;
  end if;
  update retention.verify_part p
  set stamped = p.stamped + p_stamped
  from retention.verify_stretch s
  where s.stretch_id = p_stretch_id
    and p.verify_id = s.verify_id
    and p.part = s.part
    and p_stamped > 0;
  update retention.verify_stretch s
  set is_gone = true,
    run_ids = array(select s.run_ids[n] from unnest(p_gone) with ordinality as u (n, i) order by i),
    keys = array(select s.keys[n] from unnest(p_gone) with ordinality as u (n, i) order by i),
    dues = array(select s.dues[n] from unnest(p_gone) with ordinality as u (n, i) order by i)
  where s.stretch_id = p_stretch_id
    and p_gone <> '{}';
  if not found then
    delete from retention.verify_stretch s where s.stretch_id = p_stretch_id;
  end if;
  return true;
end
$$;

COMMENT ON FUNCTION retention.note_stretch(p_verify_id uuid, p_holder uuid, p_stretch_id bigint, p_stamped bigint, p_gone integer[]) IS 'Ends the second look at a stretch: p_stamped of its results were stamped; p_gone of them (places from 1) are gone before
they are due and wait for the end. Returns false, and writes nothing, when another verify has taken over.
For operators.
Locks the row of the run.';

CREATE FUNCTION retention.note_verified(p_verify_id uuid, p_holder uuid, p_part integer, p_at_key text, p_listed bigint DEFAULT 0, p_token text DEFAULT NULL::text, p_after text DEFAULT NULL::text, p_run_ids text[] DEFAULT '{}'::text[], p_keys text[] DEFAULT '{}'::text[], p_dues boolean[] DEFAULT '{}'::boolean[]) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if not retention._hold_verify(p_verify_id, p_holder) then
    -- Of a run that has ended meanwhile nothing is left, not what was set aside since either.
    delete from retention.stray s
    where s.verify_id = p_verify_id
      and not exists (select from retention.verify_run r where r.verify_id = p_verify_id);
    return false;
  end if;
  update retention.verify_part p
  set at_key = coalesce(p_at_key, p.at_key),
    token = p_token,
    listed = p.listed + p_listed
  where p.verify_id = p_verify_id
    and p.part = p_part;
  if p_run_ids <> '{}' then
    insert into retention.verify_stretch (verify_id, part, after_key, run_ids, keys, dues)
    values (p_verify_id, p_part, p_after, p_run_ids, p_keys, p_dues);
  end if;
  return true;
end
$$;

COMMENT ON FUNCTION retention.note_verified(p_verify_id uuid, p_holder uuid, p_part integer, p_at_key text, p_listed bigint, p_token text, p_after text, p_run_ids text[], p_keys text[], p_dues boolean[]) IS 'Writes down that a part was compared up to p_at_key (null: as far as before), with the live rows of it whose key was not
listed: run_ids[i] points at keys[i] and is due where dues[i]. p_after: where their stretch begins. p_listed: how many
more objects were listed. p_token: how a listing out of order goes on. Returns false, and writes nothing, when another
verify has taken over.
For operators.
Locks the row of the run.';

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

CREATE FUNCTION retention.place_hold(p_reason text, p_run_id text DEFAULT NULL::text, p_tenant_id text DEFAULT NULL::text, p_for interval DEFAULT NULL::interval, p_placed_by text DEFAULT NULL::text) RETURNS TABLE(hold_id bigint, too_late bigint, too_late_run_ids text[], bucket text, key text, objects bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
declare
  v_run_id retention.run_id;
  v_tenant_id retention.tenant_id;
  v_hold_id bigint;
  v_found record;
  v_due_before bigint;
  v_retain interval;
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
    v_tenant_id := retention._read_tenant_id(p_tenant_id);
    if not retention._has_runs(v_tenant_id) then
      raise exception using
        errcode = 'no_data_found',
        message = format('there is no run of tenant %s to hold', p_tenant_id);
    end if;
  end if;

  v_hold_id := nextval('retention.hold_hold_id_seq');
  -- Before the lock: a tenant may have many results, and claims wait for it.
  select * into strict v_found from retention._note_held_objects(v_hold_id, v_run_id, v_tenant_id);
  if p_tenant_id is not null then
    select c.due_before, c.retain into strict v_due_before, v_retain from retention._count_due_before(v_tenant_id) c;
  end if;
  perform retention._lock_holds('exclusive');
  insert into retention.hold (
    hold_id, run_id, tenant_id, reason, placed_by, expires_at, bucket, key, objects, due_before, retain
  )
  overriding system value
  values (
    v_hold_id, v_run_id, v_tenant_id::text, p_reason, coalesce(p_placed_by, session_user), now() + p_for,
    v_found.bucket, v_found.key, v_found.objects,
    v_due_before, v_retain
  );

  return query
  select v_hold_id,
    count(*),
    coalesce((array_agg(f.run_id::text order by f.run_id))[1:1000], '{}'),
    v_found.bucket,
    v_found.key,
    v_found.objects
  from retention._in_flight(v_run_id, v_tenant_id) f;
end
$$;

COMMENT ON FUNCTION retention.place_hold(p_reason text, p_run_id text, p_tenant_id text, p_for interval, p_placed_by text) IS 'Places a hold on one run or on one tenant. After its commit nothing of it is claimed. It keeps the bucket and key of
what it finds, and covers these objects also when their rows have gone: objects counts them, and bucket and key say
which it is for a run (null: the run names none yet). A deletion that is in flight, or may be, cannot be called
back: too_late counts such results, and too_late_run_ids names up to 1,000 of them. p_for: how long the hold lasts; by default until it is released. p_placed_by: who places it;
by default the session''s user.
For operators.
Reads all live results of the tenant before it locks.
Locks retention.hold: it waits for claims that are being made, and later claims wait for this transaction.
Keep that transaction short. Raises lock_not_available when another transaction keeps the lock for ten seconds.
Raises invalid_parameter_value without a reason, without exactly one of a run and a tenant, for what can be
neither, and for a duration that is not above zero. Raises no_data_found for a run or tenant that is not there. Raises
active_sql_transaction outside READ COMMITTED.';

CREATE FUNCTION retention.place_holds(p_reason text, p_run_ids text[] DEFAULT '{}'::text[], p_tenant_ids text[] DEFAULT '{}'::text[], p_for interval DEFAULT NULL::interval, p_placed_by text DEFAULT NULL::text) RETURNS TABLE(hold_id bigint, run_id text, tenant_id text, too_late bigint, too_late_run_ids text[], cleared_at timestamp with time zone, bucket text, key text, objects bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
declare
  v_wanted record;
begin
  if coalesce(cardinality(p_run_ids), 0) + coalesce(cardinality(p_tenant_ids), 0) = 0 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'place_holds: expected the ids of runs or tenants, given: none; nothing is held by that';
  end if;
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
      ),
      h.bucket,
      h.key,
      h.objects
    from retention.place_hold(p_reason, v_wanted.run_id, v_wanted.tenant_id, p_for, p_placed_by) h;
  end loop;
end
$$;

COMMENT ON FUNCTION retention.place_holds(p_reason text, p_run_ids text[], p_tenant_ids text[], p_for interval, p_placed_by text) IS 'Places a hold on each run and on each tenant, all of them or none, as place_hold does. cleared_at: of a hold on
a run, when its result was cleared, if it was before. Of several tenants, the results of all but the first are read
under the lock. For operators. Raises what place_hold raises, and invalid_parameter_value where both lists are empty.';

CREATE FUNCTION retention.postpone(p_batch_id bigint, p_lease uuid, p_code text, p_message text, p_unanswered text[] DEFAULT '{}'::text[], p_request_ids text[] DEFAULT NULL::text[], p_unasked boolean DEFAULT false) RETURNS timestamp with time zone
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
    -- Asked again, after the answer was lost.
    return (
      select b.visible_at
      from retention.batch b
      where b.batch_id = p_batch_id
        and b.given_back = p_lease
        and b.lease is null
        and b.settled_at is null
    );
  end if;
  perform retention._note_unanswered(v_batch, p_unanswered, clock_timestamp());
  perform retention._note_attempt(v_batch, clock_timestamp());
  if p_unasked then
    perform retention._note_pace(k.bucket, k.max_per_second, -v_batch.results)
    from retention.bucket k
    where k.bucket = v_batch.bucket
      and k.max_per_second is not null;
  end if;
  v_until := greatest(retention._pause_bucket(v_batch.bucket, p_code, p_message), clock_timestamp());
  update retention.batch b
  set lease = null,
    given_back = p_lease,
    visible_at = v_until,
    postponed = b.postponed + 1,
    request_ids = nullif(b.request_ids || p_request_ids, '{}'),
    problems = jsonb_build_array(jsonb_build_object(
      'code', left(p_code, 64),
      'message', left(p_message, 500),
      'results', b.results,
      'run_ids', b.run_ids[1:3]::text[],
      'retry_at', retention._iso(v_until)
    ))
  where b.batch_id = p_batch_id;
  if v_batch.results > 1 and v_batch.postponed >= 5 and exists (
    select
    from retention.batch b
    where b.settled_at > v_batch.leased_at - interval '1 hour'
      and b.bucket = v_batch.bucket
      and b.cleared > 0
  ) then
    perform retention._cut(p_batch_id, (v_batch.results + 1) / 2);
  end if;
  return v_until;
end
$$;

COMMENT ON FUNCTION retention.postpone(p_batch_id bigint, p_lease uuid, p_code text, p_message text, p_unanswered text[], p_request_ids text[], p_unasked boolean) IS 'Takes a batch back that S3 did not work on (throttled, timed out, 5xx, expired credentials). This is not
counted as an attempt. The bucket pauses, longer each time. A batch that comes back time after time, while others
of its bucket are deleted, is halved: one of its keys may be what the store fails at. p_code, p_message: why.
p_unanswered: the keys that S3 may still delete later. p_request_ids: how S3 names requests of the call in which it has
deleted something, for the receipt. p_unasked: S3 was not asked, so that its share of the bucket''s ceiling is returned. Returns when the batch may be claimed again, also when asked
again, or null when p_lease is no longer the batch''s lease.
For the listener.
Locks the batch and its bucket.';

CREATE FUNCTION retention.preview_policy(p_tenant_id text, p_retain interval) RETURNS TABLE(tenant_id text, results bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
declare
  v_tenant_id text := retention._policy_tenant(p_tenant_id);
begin
  if retention._is_wide_preview(v_tenant_id, p_retain) then
    begin
      return query select c.* from retention._preview_at_once(v_tenant_id, p_retain) c;
      return;
    exception
      when others then
        -- A row that the policy does not concern may be one that cannot be read.
        if retention._is_passing(sqlstate) then
          raise;
        end if;
    end;
  end if;
  return query select c.* from retention._preview_by_tenant(v_tenant_id, p_retain) c;
end
$$;

COMMENT ON FUNCTION retention.preview_policy(p_tenant_id text, p_retain interval) IS 'How many live results a policy would make due at once that are not due now, by tenant. p_tenant_id: a
tenant, or ''*'' for all tenants without a policy of their own. It reads the rows that it counts and changes
nothing.
For operators.
Raises invalid_parameter_value for what cannot be a tenant id.';

CREATE FUNCTION retention.pulse(p_client text DEFAULT NULL::text, p_buckets text[] DEFAULT NULL::text[]) RETURNS TABLE(enabled boolean, halted text[], scheduler text, visible_now boolean, next_visible_seconds double precision, more boolean, ticked_seconds_ago double precision, ticked_by text, last_scan_id bigint, next_stamp_seconds double precision)
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
  with next as (
    select min(greatest(
        f.visible_at,
        k.paused_until,
        case when num_nonnulls(k.max_per_second, k.max_in_flight) > 0 then retention._ceiling_until(k) end
      )) as visible_at
    from retention.bucket k
    cross join lateral (
      select b.visible_at
      from retention.batch b
      where b.bucket = k.bucket
        and b.settled_at is null
        and b.dead_at is null
        and (b.early is null or b.flagged_at not in (select c.flagged_at from retention.cutoff c where c.until > now()))
        and b.deleted_at is null
      order by b.visible_at
      limit 1
    ) f
    where p_buckets is null or k.bucket = any (p_buckets)
  )
  select s.enabled,
    array(select g.reason from retention.gate(p_client) g),
    a.scheduler,
    coalesce(n.visible_at <= clock_timestamp(), false),
    extract(epoch from n.visible_at - clock_timestamp())::double precision,
    h.more,
    -- A tick of the future says nothing: the clock was wrong.
    case
      when h.ticked_at <= clock_timestamp() + interval '1 minute'
      then extract(epoch from clock_timestamp() - h.ticked_at)::double precision
    end,
    h.ticked_by,
    (select coalesce(max(c.scan_id), 0) from retention.scan c),
    (
      select extract(epoch from coalesce(t.try_at, min(b.visible_at)) - clock_timestamp())::double precision
      from retention.stamping t
      left join retention.batch b on b.deleted_at is not null
        and b.settled_at is null
        and b.dead_at is null
      group by t.try_at
    )
  from retention.setting s
  cross join retention.heartbeat h
  cross join retention.adapter a
  cross join next n
$$;

COMMENT ON FUNCTION retention.pulse(p_client text, p_buckets text[]) IS 'What a listener has to know when it has nothing to do, in one statement: whether a batch is visible now,
when the next one is, whether the last pass hit a limit, when the scheduler last ticked, and the reasons of
the gate. p_client: the client''s version, for the gate. p_buckets: what is visible in these buckets; by default in
any. next_stamp_seconds: when stamp_again has something to do; null: nothing waits for it. Cheap at any size.
For the listener.';

CREATE FUNCTION retention.read_status() RETURNS TABLE(enabled boolean, live_estimate bigint, due bigint, due_is_capped boolean, flagged bigint, leased bigint, failed bigint, dead bigint, held bigint, cleared_today bigint, spared_today bigint, oldest_due timestamp with time zone, batches bigint, buckets_paused bigint, last_tick timestamp with time zone, last_pass timestamp with time zone, scheduler text, scheduler_health text, loop_interval_seconds bigint, default_retain_days double precision, policies_pending bigint, policy_pending text, due_since timestamp with time zone, halted text[], next_pass timestamp with time zone, next_pass_because text, newest_run timestamp with time zone, set_aside bigint, surges bigint, cooling bigint, cooling_until timestamp with time zone, kept bigint, object_changed bigint, stamps_without_receipt bigint, receipts_without_stamp bigint, receipts_without_row bigint, stamps_counted_at timestamp with time zone)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET join_collapse_limit TO '1'
    AS $$
#variable_conflict use_column
begin
  -- In PL/pgSQL, which keeps the plan: planned at each call, it would take as long again.
  return query
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
    -- Where nothing is live, of the receipt that was written last.
    coalesce(
      u.newest,
      (select b.newest from retention.batch b where b.settled_at is not null order by b.settled_at desc limit 1)
    ),
    (select coalesce(sum(p.results), 0)::bigint from retention.surge_part p),
    (select count(*) from retention.surge g where g.closed_at is null),
    c.results,
    c.first_at,
    o.kept,
    o.changed,
    m.no_receipt,
    m.no_stamp,
    m.no_row,
    m.counted_at
  from retention.setting s
  cross join retention.heartbeat h
  cross join retention.adapter a
  cross join retention.next_pass() x
  cross join retention.cooling() c
  join retention.policy d on d.tenant_id = '*'
  cross join lateral retention._unflagged(1000) u
  cross join retention._work_now() w
  cross join lateral (
    select count(*) as held
    from retention.hold o
    where (o.released_at is null or o.released_at > now())
      and retention._hold_end(o.released_at, o.expires_at) > now()
  ) y
  cross join lateral (
    select coalesce(sum(b.cleared), 0)::bigint as cleared_today,
      coalesce(sum(b.spared), 0)::bigint as spared_today
    from retention.batch b
    where b.settled_at >= date_trunc('day', now(), 'UTC')
  ) z
  cross join lateral (
    select count(*) as buckets_paused
    from retention.bucket o
    where o.paused_until > now()
  ) k
  cross join retention._spared_now() o
  cross join (
    select max(t.results) filter (where t.kind = 'no_receipt') as no_receipt,
      max(t.results) filter (where t.kind = 'no_stamp') as no_stamp,
      max(t.results) filter (where t.kind = 'no_row') as no_row,
      max(t.counted_at) as counted_at
    from retention.stamp_account t
  ) m
  cross join retention._policies_pending() v;
end
$$;

COMMENT ON FUNCTION retention.read_status() IS 'The row of the view retention.status, which calls it with the rights of its reader.
For observers.';

CREATE FUNCTION retention.readable(p_run_ids text[]) RETURNS SETOF text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if to_regclass('retention._live') is null then
    return;
  end if;
  return query
  select r::text
  from retention._readable(
    array(
      select i.run_id
      from (select retention._run_id_or_null(x.id) as run_id from unnest(p_run_ids) as x (id)) i
      where i.run_id is not null
    )::retention.run_id[]
  ) r;
end
$$;

COMMENT ON FUNCTION retention.readable(p_run_ids text[]) IS 'Of runs, those that is_readable says true of, for lists: where run_id in (select * from retention.readable(...)).
What cannot be a run id is passed by. For the whole list it looks once at what is being deleted.
For readers.';

CREATE FUNCTION retention.release_hold(p_hold_id bigint, p_released_by text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '10s'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_tenant_id text;
  v_results bigint;
begin
  perform retention._lock_holds('row exclusive');
  update retention.hold h
  set released_at = now(),
    released_by = coalesce(p_released_by, session_user)
  where h.hold_id = p_hold_id
    -- Released by a clock that was wrong, it is not released yet.
    and (h.released_at is null or h.released_at > clock_timestamp())
  returning h.tenant_id into v_tenant_id;
  if found then
    if v_tenant_id is not null then
      v_results := retention._grant_ended_holds(v_tenant_id);
      if v_results > 0 then
        raise notice '% results of tenant % are due by now and come back', v_results, v_tenant_id;
      end if;
    end if;
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

COMMENT ON FUNCTION retention.release_hold(p_hold_id bigint, p_released_by text) IS 'Releases a hold. The results of a tenant come back over setting.release_spread, and not all at once. A notice says
how many of them are due by now; they are accounted for, and no surge.
p_released_by: who releases it; by default the session''s user. Returns false when it was released before.
For operators.
Locks the hold.
Raises no_data_found for a hold that is not there, and lock_not_available after ten seconds of waiting.';

CREATE FUNCTION retention.release_holds(p_hold_ids bigint[], p_released_by text DEFAULT NULL::text) RETURNS TABLE(hold_id bigint, released boolean, due bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_variable
declare
  v_hold_id bigint;
  v_active jsonb := (
    select jsonb_agg(h.hold_id order by h.hold_id)
    from retention.hold h
    where h.hold_id = any (p_hold_ids)
      and retention._hold_end(h.released_at, h.expires_at) > clock_timestamp()
  );
begin
  if coalesce(cardinality(p_hold_ids), 0) = 0 then
    raise notice 'p_hold_ids names none: no hold is released';
  end if;
  if v_active is not null then
    perform retention._two_people('hold', jsonb_build_object('hold_ids', v_active));
  end if;
  for v_hold_id in
    select distinct i.id
    from unnest(p_hold_ids) as i (id)
    order by 1
  loop
    hold_id := v_hold_id;
    released := retention.release_hold(v_hold_id, p_released_by);
    due := case when released then (select a.granted from retention.allowance a where a.hold_id = v_hold_id) end;
    return next;
  end loop;
end
$$;

COMMENT ON FUNCTION retention.release_holds(p_hold_ids bigint[], p_released_by text) IS 'Releases several holds, all of them or none; released is false for those that had been released before. due: how
many results of its tenant are due by now and come back; null: nothing was counted.
For operators.
Raises no_data_found for an unknown one.';

CREATE FUNCTION retention.release_surge(p_surge_id bigint, p_expected bigint, p_tenant_id text DEFAULT NULL::text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    AS $$
declare
  v_surge retention.surge;
  v_tenant_id text := retention._read_tenant_id(p_tenant_id)::text;
  v_but text[] := '{}';
  v_found bigint;
begin
  if p_expected is null then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'the release of a surge needs the number of results that is expected to go',
      hint = format('See it with: retention surge show %s', p_surge_id);
  end if;
  select * into v_surge from retention.surge s where s.surge_id = p_surge_id for update;
  if not found then
    raise exception using
      errcode = 'no_data_found',
      message = format('there is no surge %s', p_surge_id),
      hint = 'See them with: retention surge list';
  end if;
  perform retention._review_surge(p_surge_id);
  v_found := retention._count_set_aside(p_surge_id, v_tenant_id);
  if v_found = 0 then
    raise exception using
      errcode = 'no_data_found',
      message = format('nothing of surge %s%s is set aside any more', p_surge_id, ' and tenant ' || v_tenant_id),
      hint = 'See what is with: retention surge list';
  end if;
  if v_found <> p_expected then
    raise exception using
      errcode = 'check_violation',
      message = format(
        'surge %s%s has %s, and %s were expected; nothing was released',
        p_surge_id, coalesce(' of tenant ' || v_tenant_id, ''), retention._counted(v_found, 'result'), p_expected
      ),
      hint = format('Look at it with: retention surge show %s', p_surge_id);
  end if;
  perform retention._two_people(
    'surge', jsonb_strip_nulls(jsonb_build_object('surge_id', p_surge_id, 'expected', p_expected, 'tenant_id', v_tenant_id))
  );
  if v_tenant_id is not null then
    select coalesce(array_agg(distinct retention._tenant_key(u.tenant_id)), '{}')
    into v_but
    from retention.surge_part p
    cross join lateral unnest(p.tenants) as u (tenant_id)
    where p.surge_id = p_surge_id
      and u.tenant_id is distinct from v_tenant_id;
  end if;
  perform retention._put_to_work(p_surge_id, v_but, coalesce(v_surge.seen_at, 'infinity'));
  -- The moment that its batches were flagged at: by that, a batch is known to come out of this surge.
  insert into retention.surge_release (surge_id, tenant_id, results, released_at)
  values (p_surge_id, v_tenant_id, v_found, now());
  perform retention._close_surge(p_surge_id);
  return v_found;
end
$$;

COMMENT ON FUNCTION retention.release_surge(p_surge_id bigint, p_expected bigint, p_tenant_id text) IS 'Releases a surge, or the results of one tenant in it: exactly those that are recorded become batches, and each is
checked again when it is claimed. p_expected: how many results that is, as show_surge says it. Who changed a row
back meanwhile has taken it out. Returns how many results.
For operators.
Locks the surge.
Raises no_data_found for a surge or tenant that is not there. Raises invalid_parameter_value without p_expected.
Raises check_violation where the number is another, and changes nothing.';

CREATE FUNCTION retention.remove_keeper(p_table text, p_key_column text DEFAULT NULL::text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
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

COMMENT ON FUNCTION retention.remove_keeper(p_table text, p_key_column text) IS 'Removes the keepers of a table: what only they kept may be deleted again, from the next pass on. p_key_column: only
that of this column; null: all of the table. The table need not be there any more. Returns how many.
For operators.
Raises no_data_found where there is no such keeper, with those that are.';

CREATE FUNCTION retention.renew_fence(p_token uuid, p_by text DEFAULT NULL::text, p_released boolean DEFAULT false) RETURNS SETOF jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
begin
  if exists (select from retention._identity_differs() d where num_nonnulls(d.server, d.database) > 0) then
    return;
  end if;
  update retention.fence
  set tokens = (array[p_token] || tokens)[1:20],
    newest = newest + 1,
    tried_at = clock_timestamp()
  where lost_at is null;
  if not found then
    return;
  end if;
  return query
  select jsonb_build_object(
    'fence', i.fence,
    'token', p_token,
    'renewed_at', retention._iso(clock_timestamp()),
    'renewed_by', left(p_by, 100),
    'released', p_released,
    'database', n.database_name,
    'system_identifier', n.system_identifier,
    'timeline', n.timeline,
    'head', retention._fence_head()
  )
  from retention.identity i
  cross join retention._identity_now() n;
end
$$;

COMMENT ON FUNCTION retention.renew_fence(p_token uuid, p_by text, p_released boolean) IS 'Writes the next token down before it is written to S3, and returns what is to be written there. No row: this
database must not renew the fence (any more). p_token: the next token. p_by: who renews it. p_released: the one who renews it
stops, so that the next need not wait.
For the listener.
Locks the row of retention.fence.';

CREATE FUNCTION retention.requeue_returned(p_verify_id uuid, p_started_at timestamp with time zone, p_client text DEFAULT NULL::text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    SET enable_nestloop TO 'off'
    AS $$
declare
  v_run_ids retention.run_id[] := array(
    select r.run_id
    from retention.stray s
    cross join retention.setting t
    join retention.result r on r.key = s.key collate "default"
      and retention._bucket(r.bucket, t.default_bucket) = s.bucket
    where s.verify_id = p_verify_id
      and s.kind = 'returned'
      and r.cleared_at < p_started_at
      and r.run_id is not null
  );
  v_some retention.run_id[];
  v_run_id retention.run_id;
  v_requeued bigint := 0;
begin
  for v_first in 1..cardinality(v_run_ids) by 1000 loop
    v_some := v_run_ids[v_first:v_first + 999];
    begin
      v_requeued := v_requeued + retention._unstamp(v_some, p_started_at, 'unstamped', 'verify', null, p_client);
    exception
      when others then
        foreach v_run_id in array v_some loop
          begin
            v_requeued := v_requeued + retention._unstamp(
              array[v_run_id], p_started_at, 'unstamped', 'verify', null, p_client
            );
          exception
            when others then
              raise warning 'the stamp of run % cannot be taken: %', v_run_id, sqlerrm;
          end;
        end loop;
    end;
  end loop;
  if v_requeued > 0 then
    delete from retention.progress;
    -- What the standing verify has found of it is repaired.
    update retention.standing_verify s
    set returned = greatest(s.returned - v_requeued, 0)
    where s.bucket in (select t.bucket from retention.stray t where t.verify_id = p_verify_id and t.kind = 'returned');
  end if;
  return v_requeued;
end
$$;

COMMENT ON FUNCTION retention.requeue_returned(p_verify_id uuid, p_started_at timestamp with time zone, p_client text) IS 'Takes the stamp from rows that were cleared before p_started_at and whose object is back, so that they fall
due again. A row whose stamp cannot be taken is left out: the next verify finds it again. It reads the whole table
once. Each has a receipt (unstamped). p_client: the client''s version. Returns how many rows.
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

CREATE FUNCTION retention.resume_verify(p_bucket text, p_prefixes text[] DEFAULT '{}'::text[], p_kind text DEFAULT 'repair'::text, p_restart boolean DEFAULT false, p_began_at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS TABLE(verify_id uuid, holder uuid, started_at timestamp with time zone, before timestamp with time zone, is_unsorted boolean, resumed_at timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
declare
  v_run retention.verify_run;
  v_prefixes text[] := array(select distinct u.p collate "C" from unnest(p_prefixes) as u (p) order by 1);
  v_before timestamptz;
begin
  perform retention._check_indexes();
  perform retention._drop_verify(r.verify_id)
  from retention.verify_run r
  where r.worked_at < now() - interval '7 days'
    or p_restart
    and p_kind in ('repair', 'dry run', 'orphans')
    and (r.kind, r.bucket, r.prefixes) = (p_kind, p_bucket, v_prefixes);
  delete from retention.stray s
  where s.noted_at < now() - interval '2 days'
    and s.verify_id not in (select r.verify_id from retention.verify_run r);
  insert into retention.verify_run (verify_id, kind, bucket, prefixes, holder, began_at, is_unsorted)
  values (
    gen_random_uuid(), p_kind, p_bucket, v_prefixes, gen_random_uuid(), least(coalesce(p_began_at, now()), now()),
    p_kind = 'inventory'
  )
  on conflict do nothing
  returning * into v_run;
  if found then
    perform retention._part_verify(v_run, 4);
  else
    select * into strict v_run
    from retention.verify_run r
    where (r.kind, r.bucket, r.prefixes) = (p_kind, p_bucket, v_prefixes)
    for update;
    v_before := v_run.worked_at;
    update retention.verify_run r
    set holder = gen_random_uuid(),
      worked_at = clock_timestamp()
    where r.verify_id = v_run.verify_id
    returning * into strict v_run;
  end if;
  return query
  select v_run.verify_id, v_run.holder, v_run.began_at,
    (case when p_kind = 'inventory' then v_run.began_at else now() end) - interval '1 hour',
    v_run.is_unsorted, v_before;
end
$$;

COMMENT ON FUNCTION retention.resume_verify(p_bucket text, p_prefixes text[], p_kind text, p_restart boolean, p_began_at timestamp with time zone) IS 'Begins to verify a bucket, or goes on with what was broken off: the same kind, bucket and prefixes. p_kind: repair, dry
run or orphans; list and inventory never go on. p_prefixes: empty: all keys. p_restart: what was broken off is forgotten. Progress that was
not worked on for 7 days is forgotten too. p_began_at: when what was listed was so; null: now. The process that worked on it
before does not go on: the holder is another one. before: what completed then or later is not judged, since its object may
be younger than the listing. resumed_at: when it was last worked on; null: it begins.
For operators.
Locks the row of the run. Raises object_not_in_prerequisite_state where an index on the application''s table is missing.';

CREATE FUNCTION retention.retry(p_run_ids text[] DEFAULT NULL::text[], p_tenant_id text DEFAULT NULL::text, p_bucket text DEFAULT NULL::text, p_code text DEFAULT NULL::text, p_all boolean DEFAULT false) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    SET lock_timeout TO '60s'
    AS $$
declare
  v_run_ids retention.run_id[];
  v_batch_ids bigint[];
  v_revived bigint;
begin
  perform retention._check_narrowing(p_run_ids, p_tenant_id, p_bucket, p_code);
  perform retention._check_scope(
    'retry', num_nonnulls(p_run_ids, p_tenant_id, p_bucket, p_code) > 0, p_all, 'one of p_run_ids, p_tenant_id, p_bucket and p_code'
  );
  v_run_ids := array(select retention._read_run_id(i) from unnest(p_run_ids) i);
  p_tenant_id := retention._read_tenant_id(p_tenant_id)::text;
  perform retention._take_pass_lock();
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
    perform retention._note_unanswered(b, null, b.visible_at), retention._note_attempt(b, b.visible_at)
    from retention.batch b
    where b.batch_id = any (v_batch_ids)
      and b.lease is not null;
    perform retention._note_failure(b) from retention.batch b where b.batch_id = any (v_batch_ids);
    with revived as (
      update retention.batch b
      set attempts = 0,
        code = null,
        error = null,
        failed_at = null,
        dead_at = null,
        -- What S3 has deleted went as it went.
        early = case when b.deleted_at is not null then b.early end,
        why = case when b.deleted_at is not null then b.why end,
        asked_by = case when b.deleted_at is not null then b.asked_by else session_user end,
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
  -- What S3 has deleted stays in its batches, which are stamped again whole.
  with chosen as (
    select b.batch_id, count(*) as results
    from retention.batch b
    cross join unnest(b.run_ids, b.tenants) as u (run_id, tenant_id)
    where b.deleted_at is not null
      and b.settled_at is null
      and b.failed_at is not null
      and (p_bucket is null or b.bucket = p_bucket)
      and (p_code is null or b.code = p_code)
      and (p_run_ids is null or u.run_id in (select unnest(v_run_ids)))
      and (p_tenant_id is null or u.tenant_id = p_tenant_id)
    group by b.batch_id
  ),
  revived as (
    update retention.batch b
    set attempts = 0,
      code = null,
      error = null,
      failed_at = null,
      dead_at = null,
      visible_at = now()
    from chosen c
    where b.batch_id = c.batch_id
    returning c.results
  )
  select v_revived + coalesce(sum(r.results), 0) into v_revived from revived r;
  return v_revived;
end
$$;

COMMENT ON FUNCTION retention.retry(p_run_ids text[], p_tenant_id text, p_bucket text, p_code text, p_all boolean) IS 'Revives dead results, and brings forward failed results that wait for their next attempt. Their attempts
count from 0 again. It needs one of p_run_ids, p_tenant_id, p_bucket and p_code (of the error), which narrow it
together, or p_all => true, which says all of them. An empty list of runs revives nothing. A batch with a valid
lease is left as it is. Returns how many results.
For operators.
Locks the row of retention.pass_lock (it waits for a flagging pass, for a minute at most) and the batches that it
changes.
Raises invalid_parameter_value for a call that says neither what nor p_all, or both, for an empty text, and for a text
that cannot be a run id or a tenant id.';

CREATE FUNCTION retention.revoke_rights(p_role text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform retention._check_role(p_role, 'revoke_rights');
  update retention.adapter
  set listener_role = nullif(listener_role, p_role),
    operator_role = nullif(operator_role, p_role),
    observer_role = nullif(observer_role, p_role),
    reader_roles = array_remove(reader_roles, p_role);
  perform retention._grant_to(p_role, null);
end
$$;

COMMENT ON FUNCTION retention.revoke_rights(p_role text) IS 'Takes every right on this schema away from p_role and forgets it, whatever its kind was.
For the owner of the schema.
Locks the row of retention.adapter.
Raises undefined_object for a role that is not there.';

CREATE FUNCTION retention.sample_keys(p_bucket text, p_limit integer DEFAULT 20) RETURNS SETOF text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
begin
  if to_regclass('retention._live') is null then
    return;
  end if;
  return query
  select l.key::text
  from (
    select r.bucket, r.key
    from retention._live r
    where r.key is not null
    limit 1000
  ) l
  where l.bucket = p_bucket
    and l.key <> ''
  limit p_limit;
end
$$;

COMMENT ON FUNCTION retention.sample_keys(p_bucket text, p_limit integer) IS 'The keys of some live results in a bucket, at most p_limit, looked for among a thousand. For observers.';

CREATE FUNCTION retention.seal_now(OUT seal_id bigint, OUT more boolean) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
begin
  perform from retention.seal_head for update;
  more := retention._seal_once();
  if more then
    update retention.seal_head h set problem = null, problem_at = null where h.problem is not null;
    more := cardinality((select u.batches || u.receipts || u.changes from retention._unsealed(1) u)) > 0;
  end if;
  seal_id := (select h.seal_id from retention.seal_head h);
end
$$;

COMMENT ON FUNCTION retention.seal_now(OUT seal_id bigint, OUT more boolean) IS 'Seals what has settled, some 100,000 results at a time, and does not wait for the next tick. seal_id: the latest seal
afterwards; 0: there is none. more: something is left, so call it again.
For the listener.
Locks the row of retention.seal_head, and waits for who seals.';

CREATE FUNCTION retention.seals_since(p_at timestamp with time zone, OUT after bigint, OUT seals bigint, OUT results bigint) RETURNS record
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select f.after, count(s.seal_id), coalesce(sum(s.results), 0)
  from (
    select coalesce(max(b.seal_id), 0) as after from retention.seal b where b.sealed_at < p_at
  ) f
  left join retention.seal s on s.seal_id > f.after
  group by f.after
$$;

COMMENT ON FUNCTION retention.seals_since(p_at timestamp with time zone, OUT after bigint, OUT seals bigint, OUT results bigint) IS 'The latest seal that was made before p_at (0: there is none), and of those after it how many there are, with how many
results.
For observers.';

CREATE FUNCTION retention.seals_to_write(p_bucket text, p_limit integer DEFAULT 100) RETURNS TABLE(head json, kept_until timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
begin
  insert into retention.seal_copy as c (bucket)
  values (p_bucket)
  on conflict (bucket) do update
  set looked_at = excluded.looked_at
  where c.looked_at < now() - interval '1 hour';
  return query
  select retention._head(s.seal_id), s.sealed_at + t.receipts_kept
  from retention.seal s
  cross join retention.setting t
  where s.seal_id > (select c.written_to from retention.seal_copy c where c.bucket = p_bucket)
  order by s.seal_id
  limit greatest(p_limit, 0);
end
$$;

COMMENT ON FUNCTION retention.seals_to_write(p_bucket text, p_limit integer) IS 'The seals that are not yet an object in p_bucket, oldest first: as what leaves the database, and until when receipts of
that age are kept.
For the listener.
Once an hour it writes down that it was asked.';

CREATE FUNCTION retention.set_ceilings(p_bucket text, p_ceilings jsonb, p_by text DEFAULT NULL::text, p_new boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  v_ceiling record;
begin
  if jsonb_typeof(p_ceilings) is distinct from 'object' or p_ceilings = '{}' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected ceilings as a JSON object, given: %s', coalesce(left(p_ceilings::text, 100), 'null')),
      hint = 'For example {"max_per_second": 2000}.';
  end if;
  for v_ceiling in
    select c.key as name, c.value, c.value #>> '{}' as text from jsonb_each(p_ceilings) c
  loop
    if v_ceiling.name not in ('max_per_second', 'max_in_flight') then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('expected max_per_second or max_in_flight, given: %s', left(v_ceiling.name, 100));
    end if;
    if jsonb_typeof(v_ceiling.value) <> 'null'
      and (jsonb_typeof(v_ceiling.value) = 'number' and v_ceiling.text ~ '^[1-9]\d{0,8}$') is not true
    then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format(
          'expected %s as a whole number from 1 to 999999999, or null for no ceiling, given: %s',
          v_ceiling.name, left(v_ceiling.text, 100)
        );
    end if;
  end loop;
  if p_new and btrim(coalesce(p_bucket, '')) <> '' then
    insert into retention.bucket (bucket) values (p_bucket) on conflict do nothing;
  end if;
  perform retention._known_bucket(p_bucket);
  update retention.bucket k
  set max_per_second = case
      when p_ceilings ? 'max_per_second' then (p_ceilings ->> 'max_per_second')::integer
      else k.max_per_second
    end,
    max_in_flight = case
      when p_ceilings ? 'max_in_flight' then (p_ceilings ->> 'max_in_flight')::integer
      else k.max_in_flight
    end,
    set_at = clock_timestamp(),
    set_by = coalesce(p_by, session_user)
  where k.bucket = p_bucket;
end
$_$;

COMMENT ON FUNCTION retention.set_ceilings(p_bucket text, p_ceilings jsonb, p_by text, p_new boolean) IS 'Sets the ceilings of a bucket, which all listeners and commands keep together from their next batch on. p_ceilings:
{"max_per_second": 2000, "max_in_flight": 4}, one or both; a null value takes a ceiling away. max_per_second: so many results
go a second at most; max_in_flight: so many batches are leased at once at most. p_by: who sets it; by default the session''s
user. p_new: the bucket need not be known yet.
For operators.
Locks the bucket''s row.
Raises invalid_parameter_value for what is no ceiling, and no_data_found for a bucket that is not known.';

CREATE FUNCTION retention.set_default_bucket(p_bucket text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  v_before text;
begin
  if p_bucket !~ '^[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]$' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('a bucket has a name of 3 to 255 letters, digits, dots, hyphens or underscores, given: %s', p_bucket);
  end if;
  select s.default_bucket into strict v_before from retention.setting s for update;
  update retention.setting set default_bucket = p_bucket;
  perform retention._note_person('default_bucket');
  if p_bucket is distinct from v_before then
    -- What lies behind the progress means other objects now.
    delete from retention.progress;
  end if;
  return v_before;
end
$_$;

COMMENT ON FUNCTION retention.set_default_bucket(p_bucket text) IS 'Sets the bucket of results whose row names none; null: they have none, are no work, and protect no object. With
another one such rows mean other objects. Returns the one before.
For operators.
Locks the row of retention.setting.
Raises invalid_parameter_value for what is no name of a bucket.';

CREATE FUNCTION retention.set_guard(p_name text, p_value text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "IntervalStyle" TO 'postgres'
    AS $_$
declare
  v_before text := (select g.value from retention.list_guards() g where g.name = p_name);
  v_value text := lower(btrim(p_value));
  v_expected text;
begin
  if v_before is null then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format(
        'expected one of %s, given: %s',
        (select string_agg(g.name, ', ') from retention.list_guards() g),
        coalesce(left(p_name, 100), 'null')
      );
  end if;
  v_expected := case
    when p_name = 'four_eyes' then 'on or off'
    when p_name = 'cool_off' then 'a duration from 0 seconds to 10 years, such as ''36 hours'', or none'
    when p_name = 'release_spread' then 'a duration from 0 seconds to 10 years, such as ''2 hours'''
    when p_name = 'surge_guard' then 'a whole number from 0 to 2000000000, or none'
    else 'a whole number from 0 to 2000000000'
  end;
  begin
    if p_name = 'four_eyes' then
      if v_value not in ('on', 'off', 'true', 'false') then
        raise data_exception;
      end if;
    elsif p_name in ('cool_off', 'release_spread') then
      if v_value = 'none' and p_name = 'cool_off' then
        v_value := null;
      elsif v_value is null
        or not retention._in_days(v_value::interval) between '0' and '3653 days'
        -- A bare number is taken for seconds, and more is meant.
        or v_value ~ '^[0-9.]+$' and v_value::numeric > 0
      then
        raise data_exception;
      end if;
    elsif v_value = 'none' and p_name = 'surge_guard' then
      v_value := null;
    elsif v_value is null or v_value !~ '^\d{1,10}$' or v_value::bigint > 2000000000 then
      raise data_exception;
    end if;
    if p_value is null then
      raise data_exception;
    end if;
  exception
    when data_exception then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('expected %s as %s, given: %s', p_name, v_expected, coalesce(left(p_value, 100), 'null'));
  end;
  execute format('update retention.setting set %I = %L', p_name, v_value);
  return v_before;
end
$_$;

COMMENT ON FUNCTION retention.set_guard(p_name text, p_value text) IS 'Sets one of the settings of list_guards. p_value: a whole number, a duration such as ''36 hours'', on or off; none
takes surge_guard or cool_off away. A cool-off counts from then on also for what is flagged and waits. With four
eyes, a weaker guard needs two people. Returns what it was before, as list_guards shows it.
For operators.
Locks the row of retention.setting; for a cool-off also that of retention.pass_lock.
Raises invalid_parameter_value for a guard that is none and for a value that it cannot have, and RR004 where another
person must approve it.';

CREATE FUNCTION retention.set_habits(p_bucket text, p_habits jsonb, p_by text DEFAULT NULL::text, p_new boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform retention._check_habits(p_habits, '{keys_per_request, deletes, checksum, addressing, conditional}');
  if p_new and btrim(coalesce(p_bucket, '')) <> '' then
    insert into retention.bucket (bucket) values (p_bucket) on conflict do nothing;
  end if;
  perform retention._known_bucket(p_bucket);
  update retention.bucket k
  set keys_per_request = case
      when p_habits ? 'keys_per_request' then (p_habits ->> 'keys_per_request')::integer
      else k.keys_per_request
    end,
    deletes = case when p_habits ? 'deletes' then p_habits ->> 'deletes' else k.deletes end,
    checksum = case when p_habits ? 'checksum' then p_habits ->> 'checksum' else k.checksum end,
    addressing = case when p_habits ? 'addressing' then p_habits ->> 'addressing' else k.addressing end,
    conditional = case when p_habits ? 'conditional' then p_habits ->> 'conditional' else k.conditional end,
    set_at = clock_timestamp(),
    set_by = coalesce(p_by, session_user)
  where k.bucket = p_bucket;
end
$$;

COMMENT ON FUNCTION retention.set_habits(p_bucket text, p_habits jsonb, p_by text, p_new boolean) IS 'Sets habits of the store of a bucket by hand: they win over what is learned and are not forgotten. p_habits:
{"keys_per_request": 100, "deletes": "singly", "checksum": "md5", "addressing": "virtual", "conditional": "ignored"},
any of them; a null value leaves a habit to be learned again. p_by: who sets it; by default the session''s user. p_new: the bucket
need not be known yet.
For operators.
Locks the bucket''s row.
Raises invalid_parameter_value for what is no habit, and no_data_found for a bucket that is not known.';

CREATE FUNCTION retention.set_on_versioned(p_bucket text, p_on_versioned text, p_new boolean DEFAULT false) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_before text;
begin
  if p_on_versioned is null or p_on_versioned not in ('marker', 'purge') then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected marker or purge, given: %s', coalesce(left(p_on_versioned, 100), 'null'));
  end if;
  if p_new and btrim(coalesce(p_bucket, '')) <> '' then
    insert into retention.bucket (bucket) values (p_bucket) on conflict do nothing;
  end if;
  perform retention._known_bucket(p_bucket);
  select k.on_versioned into v_before from retention.bucket k where k.bucket = p_bucket for update;
  update retention.bucket set on_versioned = p_on_versioned where bucket = p_bucket;
  return v_before;
end
$$;

COMMENT ON FUNCTION retention.set_on_versioned(p_bucket text, p_on_versioned text, p_new boolean) IS 'Says what a deletion does in a versioned bucket: marker adds a delete marker, purge takes every version. p_new: the
bucket need not be known yet. With four eyes, purge needs two people. Returns what it was before.
For operators.
Locks the bucket''s row.
Raises invalid_parameter_value for another word, no_data_found for a bucket that is not known, and RR004 where another
person must approve it.';

CREATE FUNCTION retention.set_policy(p_tenant_id text, p_retain interval, p_confirm boolean DEFAULT false, p_new_tenant boolean DEFAULT false) RETURNS bigint
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
  if v_retain is null or v_retain < '1 day' or v_retain > '36160 days' then
    raise exception using
      errcode = 'check_violation',
      constraint = case when v_retain > '1 day' then 'retain_is_below_a_century' else 'retain_is_at_least_one_day' end,
      message = format('a policy keeps results for 1 day to 99 years, given: %s', coalesce(p_retain::text, 'null'));
  end if;
  if not p_new_tenant and not (select t.is_known from retention.find_tenant(p_tenant_id) t) then
    raise exception using
      errcode = 'no_data_found',
      message = format('there is no run of tenant %s', p_tenant_id),
      hint = 'Where its first run is yet to come: retention.set_policy(tenant_id, retain, p_new_tenant => true).';
  end if;
  p_tenant_id := retention._policy_tenant(p_tenant_id);
  perform set_config('retention.newly_due', '', true);
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
  -- A policy that is not shorter makes nothing due, and is not counted.
  v_due := coalesce(substring(current_setting('retention.newly_due') from '^\d+')::bigint, 0);
  if p_confirm then
    perform retention.confirm_policy(p_tenant_id);
  end if;
  perform set_config('retention.newly_due', '', true);
  return v_due;
end
$$;

COMMENT ON FUNCTION retention.set_policy(p_tenant_id text, p_retain interval, p_confirm boolean, p_new_tenant boolean) IS 'Sets how long results are kept, for one tenant or, with ''*'', for all tenants without a policy of their own.
Returns how many live results it makes due at once. With more of them than setting.policy_guard, the policy
is pending until confirm_policy, or takes effect at once with p_confirm. To ask for the policy in force
withdraws a pending one. What is flagged or claimed afterwards is judged by the new policy. p_new_tenant: the
tenant need not have a run yet.
For operators.
Locks the policy.
Raises invalid_parameter_value without a tenant, and for what cannot be a tenant id. Raises no_data_found for a
tenant without a run, unless p_new_tenant. Raises check_violation for less than 1 day and more than 99 years.';

CREATE FUNCTION retention.settle(p_batch_id bigint, p_lease uuid, p_cleared text[] DEFAULT '{}'::text[], p_all boolean DEFAULT false, p_failed jsonb DEFAULT '[]'::jsonb, p_ms integer DEFAULT NULL::integer, p_unanswered text[] DEFAULT '{}'::text[], p_ends jsonb DEFAULT NULL::jsonb, p_request_ids text[] DEFAULT NULL::text[], p_client text DEFAULT NULL::text) RETURNS TABLE(settled boolean, cleared integer, stamped integer, failed integer, dead integer, retry_at timestamp with time zone, problems jsonb)
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
  v_batch retention.batch;
  v_done record;
  v_stamps record;
  v_failed bigint := 0;
  v_dead bigint := 0;
  v_retry_at timestamptz;
  v_problems jsonb := '[]';
  v_changed bigint := 0;
  v_changed_keys text[] := '{}';
begin
  select * into v_batch
  from retention.batch b
  where b.batch_id = p_batch_id
    and b.lease = p_lease
  for update;
  if not found then
    return query select * from retention._settled_before(p_batch_id, p_lease);
    return;
  end if;
  if v_batch.kind = 'canary' then
    perform retention._settle_canary(v_batch, p_cleared, p_all, p_failed, p_ends, p_request_ids, p_client);
    return query select * from retention._settled_before(p_batch_id, p_lease);
    return;
  end if;
  perform retention._note_unanswered(v_batch, p_unanswered, clock_timestamp());

  if p_all then
    select v_batch.results::bigint as results, v_batch.run_ids as run_ids, v_batch.keys as keys, v_batch.tenants as tenants,
      v_batch.etags as etags
    into strict v_done;
  else
    select count(*) as results,
      coalesce(array_agg(u.run_id order by u.n), '{}') as run_ids,
      coalesce(array_agg(u.key order by u.n), '{}') as keys,
      coalesce(array_agg(u.tenant_id order by u.n), '{}') as tenants,
      case when v_batch.etags is not null then coalesce(array_agg(u.etag order by u.n), '{}') end as etags
    into strict v_done
    from unnest(v_batch.run_ids, v_batch.keys, v_batch.tenants, v_batch.etags) with ordinality
      as u (run_id, key, tenant_id, etag, n)
    -- Bare, it would be joined by a nested loop; so it is looked up in a hash.
    where (retention._unpack_key(u.key, u.run_id::text) collate "C" in (select unnest(p_cleared) collate "C")) is true;
    if v_batch.etags is not null and p_failed @> '[{"outcome": "changed"}]' then
      select c.others, c.keys, c.results
      into strict p_failed, v_changed_keys, v_changed
      from retention._take_changed(v_batch, p_failed) c;
    end if;
    select f.failed, f.dead, f.retry_at, f.problems
    into strict v_failed, v_dead, v_retry_at, v_problems
    from retention._book_failures(v_batch, p_cleared || v_changed_keys, p_failed) f;
  end if;
  -- A store that has found another version works.
  if v_done.results + v_changed > 0 then
    perform retention._note_success(v_batch.bucket);
    if not p_all then
      perform retention._note_load(v_batch.bucket, p_failed);
    end if;
  else
    perform retention._note_refusal(v_batch, p_failed);
  end if;
  -- What is remembered of it says the same as its receipt.
  select e.ends, e.versions into v_batch.ends, v_batch.versions from retention._ends(v_done.run_ids, v_done.keys, p_ends) e;
  v_batch.request_ids := nullif(v_batch.request_ids || p_request_ids, '{}');
  v_batch.settled_session := session_user;
  v_batch.product := left(p_client, 100);
  select * into strict v_stamps
  from retention._stamp_or_remember(v_batch, v_done.run_ids, v_done.keys, v_done.tenants);
  if v_batch.why is not null then
    delete from retention.returned_result t where t.run_id = any (v_done.run_ids) and t.bucket = v_batch.bucket;
  end if;

  return query
  update retention.batch b
  set lease = null,
    given_back = p_lease,
    cleared = v_done.results - cardinality(v_stamps.left_out),
    stamped = v_stamps.stamped,
    spared = b.spared + v_changed,
    failed = v_failed + v_stamps.failed,
    dead = v_dead + v_stamps.dead,
    problems = nullif(v_problems || v_stamps.problems, '[]'),
    ms = coalesce(p_ms, extract(epoch from clock_timestamp() - b.leased_at) * 1000),
    settled_at = clock_timestamp(),
    ends = v_batch.ends,
    versions = v_batch.versions,
    request_ids = v_batch.request_ids,
    settled_session = v_batch.settled_session,
    product = v_batch.product
  where b.batch_id = p_batch_id
  returning true, b.cleared, b.stamped, b.failed, b.dead, least(v_retry_at, v_stamps.retry_at),
    coalesce(b.problems, '[]');
  if v_done.results - cardinality(v_stamps.left_out) < v_batch.results then
    -- The receipt names what was cleared and nothing else.
    update retention.batch b
    set (run_ids, keys, tenants, etags, ends, versions) = (
      select coalesce(array_agg(u.run_id order by u.n), '{}'),
        coalesce(array_agg(u.key order by u.n), '{}'),
        coalesce(array_agg(u.tenant_id order by u.n), '{}'),
        case when v_done.etags is not null then coalesce(array_agg(u.etag order by u.n), '{}') end,
        case when v_batch.ends is not null then coalesce(array_agg(u.word order by u.n), '{}') end,
        case when v_batch.versions is not null then coalesce(array_agg(u.version order by u.n), '{}') end
      from unnest(v_done.run_ids, v_done.keys, v_done.tenants, v_done.etags, v_batch.ends, v_batch.versions) with ordinality
        as u (run_id, key, tenant_id, etag, word, version, n)
      where u.n not in (select unnest(v_stamps.left_out))
    )
    where b.batch_id = p_batch_id;
    perform retention._note_attempt(v_batch, clock_timestamp());
    perform retention._note_left(
      v_batch,
      array(
        select u.run_id
        from unnest(v_batch.run_ids) as u (run_id)
        where u.run_id not in (select unnest(b.run_ids) from retention.batch b where b.batch_id = p_batch_id)
      )
    );
  end if;
end
$$;

COMMENT ON FUNCTION retention.settle(p_batch_id bigint, p_lease uuid, p_cleared text[], p_all boolean, p_failed jsonb, p_ms integer, p_unanswered text[], p_ends jsonb, p_request_ids text[], p_client text) IS 'Takes a batch back after S3 has answered, and stamps the runs of what was deleted. What S3 refused is tried
again later, or is dead after too many attempts. What S3 has deleted and could not be stamped is remembered and
stamped later (retention.stamp_again), without asking S3 again. p_cleared: the keys that S3 named as deleted or
as already gone. p_all: every key of the batch was cleared. p_failed: [{"key", "code", "reason", "outcome",
"concerns", "final"}]. Its outcome is refused (counted as an attempt), failed or unknown (neither is
counted), or changed (S3 holds another version than the claim''s etag: the result is spared, and asked for again much
later, or when its row has another etag). It concerns key, bucket or store. It is final where another attempt cannot help. A key that is in
neither list is tried again and is not counted. p_ms: how long the request took; by default the time since
the claim. p_unanswered: the keys that S3 may still delete later. For the receipt: p_ends says how keys ended that were
not simply deleted ({"<key>": {"end": "gone", "marker" or "purged", "version"}}), p_request_ids how S3 names the requests,
and p_client the client''s version. cleared: how many results are done; stamped:
how many rows were stamped of them. retry_at: when the first of what waits is tried again. Who asks again after
it was settled under p_lease gets the same answer. When p_lease is no longer the batch''s lease, settled is false
and nothing is changed.
For the listener.
Locks the batch, its bucket, and the rows that it stamps.
Raises invalid_parameter_value for p_ends that say anything else.';

CREATE FUNCTION retention.settle_message(p_message_id uuid, p_problem text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  update retention.webhook w
  set message_id = case when p_problem is not null then w.message_id end,
    delivered_at = case when p_problem is null then clock_timestamp() else w.delivered_at end,
    problem = left(p_problem, 300),
    next_at = clock_timestamp() + case
      when p_problem is null then interval '1 minute'
      else least(interval '5 minutes', interval '1 second' * 2 ^ least(w.attempts - 1, 9)) * (0.75 + random() / 4)
    end
  where w.message_id = p_message_id;
  return found;
end
$$;

COMMENT ON FUNCTION retention.settle_message(p_message_id uuid, p_problem text) IS 'What became of a message that was taken. p_problem: why it was not delivered, null: it was. It changes nothing where
the message has gone to another sender and was delivered. Returns whether it was still to be sent.
For the listener.
Locks one row of retention.webhook.';

CREATE FUNCTION retention.settle_orphans(p_list_id uuid, p_request_id bigint, p_deleted bigint, p_spared bigint, p_failed bigint, p_unanswered text[] DEFAULT '{}'::text[], p_code text DEFAULT NULL::text, p_message text DEFAULT NULL::text, p_keys text[] DEFAULT '{}'::text[], p_ends jsonb DEFAULT NULL::jsonb, p_request_ids text[] DEFAULT NULL::text[], p_client text DEFAULT NULL::text) RETURNS timestamp with time zone
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_list retention.orphan_list;
  v_keys text[];
begin
  select * into v_list from retention.orphan_list o where o.list_id = p_list_id and o.begun_at is not null for update;
  if not found then
    return null;
  end if;
  update retention.orphan_list o
  set deleted = greatest(o.deleted, p_deleted),
    spared = p_spared,
    failed = p_failed,
    worked_at = clock_timestamp()
  where o.list_id = p_list_id;
  v_keys := case
    when p_request_id is null then retention._without_receipt(v_list, p_keys)
    -- Said twice, it is written once.
    when p_deleted > v_list.deleted then p_keys
  end;
  if v_keys <> '{}' then
    perform retention._write_receipts(
      'orphan', v_list.bucket, '{}', v_keys, '{}', p_client, e.ends, e.versions, p_request_ids
    )
    from retention._ends(
      '{}', array(select E'\x02' || k.key from unnest(v_keys) with ordinality as k (key, n) order by k.n), p_ends
    ) e;
  end if;
  if p_unanswered = '{}' then
    delete from retention.unanswered u where u.unanswered_id = p_request_id and u.run_ids is null;
  else
    update retention.unanswered u
    set keys = array(select E'\x02' || k.key from unnest(p_unanswered) as k (key)),
      until = clock_timestamp() + (select s.unanswered_for from retention.setting s)
    where u.unanswered_id = p_request_id
      and u.run_ids is null;
  end if;
  if p_code is not null then
    return greatest(retention._pause_bucket(v_list.bucket, p_code, coalesce(p_message, '')), clock_timestamp());
  end if;
  if p_deleted > v_list.deleted then
    perform retention._note_success(v_list.bucket);
  end if;
  return null;
end
$$;

COMMENT ON FUNCTION retention.settle_orphans(p_list_id uuid, p_request_id bigint, p_deleted bigint, p_spared bigint, p_failed bigint, p_unanswered text[], p_code text, p_message text, p_keys text[], p_ends jsonb, p_request_ids text[], p_client text) IS 'Writes down what became of keys that claim_orphans gave. p_request_id: its request; null: there was none. p_deleted,
p_spared, p_failed: how many of the whole list S3 has named as deleted so far, were left, and were refused; as sums, so
that it may be said twice.
p_unanswered: the keys that S3 may still delete. p_code, p_message: why the bucket is to pause; null: it is not.
p_keys: the keys that S3 has named as deleted in this request, which get a receipt (orphan); without a request those that
were found gone after an earlier one, of which those without a receipt get one. p_ends and p_request_ids say of them what
settle is told, and p_client is the client''s version. Returns until when it pauses; null: it does not.
For operators.
Locks the row of the list, and the bucket''s.
Raises invalid_parameter_value for p_ends that settle would not take.';

CREATE FUNCTION retention.show_surge(p_surge_id bigint) RETURNS TABLE(tenant_id text, bucket text, results bigint, oldest timestamp with time zone, due_since timestamp with time zone, still_due bigint, run_ids text[], because text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    SET work_mem TO '128MB'
    AS $$
#variable_conflict use_column
declare
  v_is_large boolean := retention._is_large_surge(p_surge_id);
begin
  if not exists (select from retention.surge s where s.surge_id = p_surge_id) then
    raise exception using
      errcode = 'no_data_found',
      message = format('there is no surge %s', p_surge_id),
      hint = 'See them with: retention surge list';
  end if;
  perform retention._review_surge(p_surge_id);
  if to_regclass('retention._live') is null then
    return query
    select u.tenant_id, p.bucket, count(*), min(p.oldest), min(p.due_since), null::bigint,
      (array_agg(u.run_id::text order by p.oldest, u.n))[1:10], 'the table is detached'
    from retention.surge_part p
    cross join lateral unnest(p.run_ids, p.tenants) with ordinality as u (run_id, tenant_id, n)
    where p.surge_id = p_surge_id
    group by u.tenant_id, p.bucket
    order by 3 desc, 1, 2;
    return;
  end if;
  return query
  with listed as materialized (
    select l.* from retention._surge_rows_at_once(p_surge_id) l where v_is_large
    union all
    select l.* from retention._surge_rows(p_surge_id) l where not v_is_large
  )
  select g.tenant_id, g.bucket, g.results, g.oldest, g.due_since, g.still_due, g.run_ids,
    (select e.because from retention.explain(g.run_ids[1]) e)
  from (
    select l.tenant_id, l.bucket, count(*) as results, min(l.completed_at) as oldest, min(l.due_at) as due_since,
      count(*) filter (where l.is_due) as still_due,
      (array_agg(l.run_id::text order by l.due_at, l.run_id))[1:10] as run_ids
    from listed l
    group by l.tenant_id, l.bucket
    order by count(*) desc, l.tenant_id, l.bucket
  ) g;
end
$$;

COMMENT ON FUNCTION retention.show_surge(p_surge_id bigint) IS 'One surge by tenant and bucket, the largest first: how many results are set aside, when the run of the oldest
completed, since when they have been due, and how many are due now and would go. run_ids: up to ten of them, and
because says why the first one was found late. It first looks at its results again: what has been undone leaves
the surge. It costs a probe for each result, or where they are many a reading of the table.
For observers.
Locks the surge.
Raises no_data_found for a surge that is not there.';

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
          and retention._bucket(r.bucket, t.default_bucket) is not null
        ) as returned
      from retention.stray o
      join retention.result r on r.key = o.key collate "default"
      cross join retention.setting t
      where o.verify_id = p_verify_id
        and coalesce(retention._bucket(r.bucket, t.default_bucket), o.bucket) = o.bucket
      group by o.bucket, o.key
    ) p
    where s.verify_id = p_verify_id
      and s.bucket = p.bucket
      and s.key = p.key;
    perform retention._spare_strays(p_verify_id);
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
orphan: no row points at it, and no keeper has it. These keys are left out: those that were cleared at p_started_at or
later, because their object may have been listed before; those that a live row or a hold needs by now; and those
that a row without a bucket may mean. Returns the counts and the bytes. Of orphans only those older than
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
    -- Asked again, after the answer was lost.
    return (
      select b.batch_id
      from retention.batch b
      where b.batch_id = p_batch_id
        and b.given_back = p_lease
        and b.lease is null
        and b.settled_at is null
    );
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
  perform retention._note_attempt(v_batch, clock_timestamp());
  v_half := v_batch.results / 2;
  insert into retention.batch (
    bucket, results, oldest, newest, due_since, late_since, early, flagged_at, attempts, postponed,
    stuck_since, code, error, failed_at, why, asked_by, request_ids, run_ids, keys, tenants
  )
  values (
    v_batch.bucket, v_half, v_batch.oldest, v_batch.newest, v_batch.due_since, v_batch.late_since, v_batch.early, v_batch.flagged_at,
    v_batch.attempts, v_batch.postponed, v_batch.stuck_since, v_batch.code, v_batch.error, v_batch.failed_at,
    v_batch.why, v_batch.asked_by, v_batch.request_ids, v_batch.run_ids[1:v_half], v_batch.keys[1:v_half], v_batch.tenants[1:v_half]
  )
  returning batch_id into v_batch_id;
  update retention.batch b
  set lease = null,
    given_back = p_lease,
    results = v_batch.results - v_half,
    run_ids = v_batch.run_ids[v_half + 1:],
    keys = v_batch.keys[v_half + 1:],
    tenants = v_batch.tenants[v_half + 1:],
    etags = null,
    visible_at = clock_timestamp()
  where b.batch_id = p_batch_id;
  return v_batch_id;
end
$$;

COMMENT ON FUNCTION retention.split(p_batch_id bigint, p_lease uuid, p_unanswered text[]) IS 'Takes a batch back whose request was refused whole because of one bad key, and halves it. After a few turns
the bad key is alone in its batch. When more than 20 requests in a row were refused, no single key is the
cause: the bucket pauses and the batch stays whole. p_unanswered: the keys that S3 may still delete later.
Returns the batch that was split off, or the batch itself when it stays whole or had been split under p_lease
before. Returns null when p_lease is no longer the batch''s lease, and for a batch of one result.
For the listener.
Locks the batch and its bucket.';

CREATE FUNCTION retention.stamp_again(p_client text DEFAULT NULL::text) RETURNS TABLE(stamped bigint, waiting bigint, dead bigint, next_seconds double precision)
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
  v_until timestamptz := retention._stamp_until();
  v_stamping retention.stamping;
  v_batch retention.batch;
  v_done record;
  v_kept integer[];
  v_stamped bigint := 0;
begin
  if not exists (
    select from retention.gate(p_client) g where g.reason in ('detached', 'table replaced', 'version')
  ) then
    select * into strict v_stamping from retention.stamping;
    if v_stamping.failed_since is not null and v_stamping.try_at <= clock_timestamp() and retention._can_look() then
      perform retention._try_stamp();
      select * into strict v_stamping from retention.stamping;
    end if;
    while v_stamping.failed_since is null and clock_timestamp() < v_until loop
      select *
      into v_batch
      from retention.batch b
      where b.deleted_at is not null
        and b.settled_at is null
        and b.dead_at is null
        and b.visible_at <= clock_timestamp()
      order by b.visible_at, b.batch_id
      limit 1
      for update skip locked;
      exit when not found;
      select * into strict v_done
      from retention._stamp_or_remember(v_batch, v_batch.run_ids, v_batch.keys, v_batch.tenants);
      v_stamped := v_stamped + v_done.stamped;
      v_kept := array(select n from generate_series(1, v_batch.results) n where n <> all (v_done.left_out));
      if v_kept = '{}' then
        delete from retention.batch b where b.batch_id = v_batch.batch_id;
      else
        -- Its receipt. How it failed before is history.
        update retention.batch b
        set cleared = cardinality(v_kept),
          stamped = v_done.stamped,
          failed = v_done.failed,
          dead = v_done.dead,
          problems = nullif(v_done.problems, '[]'),
          settled_at = clock_timestamp(),
          run_ids = array(select v_batch.run_ids[n] from unnest(v_kept) n order by n),
          keys = array(select v_batch.keys[n] from unnest(v_kept) n order by n),
          tenants = array(select v_batch.tenants[n] from unnest(v_kept) n order by n),
          ends = case when b.ends is not null then array(select v_batch.ends[n] from unnest(v_kept) n order by n) end,
          versions = case when b.versions is not null then array(select v_batch.versions[n] from unnest(v_kept) n order by n) end
        where b.batch_id = v_batch.batch_id;
      end if;
      select * into strict v_stamping from retention.stamping;
    end loop;
  end if;
  return query
  select v_stamped,
    coalesce(sum(b.results), 0)::bigint,
    coalesce(sum(b.results) filter (where b.dead_at is not null), 0)::bigint,
    extract(
      epoch from coalesce(v_stamping.try_at, min(b.visible_at) filter (where b.dead_at is null and v_stamping.singleton))
        - clock_timestamp()
    )::double precision
  from retention.batch b
  where b.deleted_at is not null
    and b.settled_at is null;
end
$$;

COMMENT ON FUNCTION retention.stamp_again(p_client text) IS 'Stamps what S3 has deleted and could not be stamped before, as far as its time has come, for ten seconds at most.
S3 is not asked again. While the gate says that stamps fail, a single row is tried, with growing pauses; when that
works, the gate opens and all that waits is stamped. p_client: the client''s version, for the gate. stamped: how
many rows were stamped. waiting and dead: how many results still wait for a stamp, and how many of them for a
person. next_seconds: when the next try is due; null: nothing waits. Costs a few look-ups where nothing waits.
For the listener.
Locks the batches that it works on and the rows that it stamps.';

CREATE FUNCTION retention.stamp_gone(p_bucket text, p_run_ids text[], p_keys text[], p_client text DEFAULT NULL::text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET lock_timeout TO '5s'
    AS $$
declare
  v_batch retention.batch;
  v_run_ids retention.run_id[] := p_run_ids::retention.run_id[];
  v_keys text[] := array(
    select retention._pack_key(u.key, u.run_id::retention.run_id::text)
    from unnest(p_run_ids, p_keys) with ordinality as u (run_id, key, n)
    order by u.n
  );
  v_places integer[];
  v_stamped bigint;
  v_left integer[];
  v_code text;
begin
  begin
    -- As place_hold does: a claim either committed before this, and its results are left to it, or it waits, and then
    -- spares what is stamped here. Otherwise a result could have two receipts.
    lock table retention.hold in exclusive mode;
    -- Locked, so that what changes from here on is what is stamped here.
    v_places := array(
      select n
      from retention._still_live(p_bucket, v_run_ids, v_keys, '-infinity', 'infinity', true) n
      where v_run_ids[n] not in (select a.run_id from retention._being_deleted(p_bucket) a)
      order by n
    );
  exception
    when query_canceled or lock_not_available then
      v_places := '{}';
  end;
  if v_places = '{}' then
    return 0;
  end if;
  v_run_ids := array(select v_run_ids[n] from unnest(v_places) with ordinality as u (n, i) order by i);
  v_keys := array(select v_keys[n] from unnest(v_places) with ordinality as u (n, i) order by i);
  begin
    v_stamped := retention._stamp(p_bucket, v_run_ids, v_keys, '-infinity', 'infinity');
    v_left := case
      when v_stamped = cardinality(v_run_ids) then '{}'
      else array(select retention._still_live(p_bucket, v_run_ids, v_keys, '-infinity', 'infinity'))
    end;
  exception
    when query_canceled or assert_failure or others then
      get stacked diagnostics v_code = returned_sqlstate;
  end;
  if v_code is not null then
    v_batch.bucket := p_bucket;
    v_batch.oldest := '-infinity';
    v_batch.newest := 'infinity';
    select t.stamped, t.places
    into strict v_stamped, v_left
    from retention._stamp_parts(v_batch, v_run_ids, v_keys, v_code, 1000, retention._stamp_until()) t;
  end if;
  if v_stamped > 0 then
    perform retention._write_receipts(
      'found_gone', p_bucket, s.run_ids, s.keys, s.tenants, p_client,
      array_fill('gone'::text, array[cardinality(s.keys)])
    )
    from (
      select array_agg(u.run_id order by u.n) as run_ids,
        array_agg(retention._unpack_key(u.key, u.run_id::text) order by u.n) as keys,
        array_agg((select r.tenant_id::text from retention.result r where r.run_id = u.run_id limit 1) order by u.n) as tenants
      from unnest(v_run_ids, v_keys) with ordinality as u (run_id, key, n)
      where u.n not in (select unnest(v_left))
    ) s
    where s.run_ids is not null;
  end if;
  return v_stamped;
end
$$;

COMMENT ON FUNCTION retention.stamp_gone(p_bucket text, p_run_ids text[], p_keys text[], p_client text) IS 'Stamps live rows whose object S3 has just named as gone. p_run_ids[i] points at p_keys[i]; a row that
points at another key by now is left out, and so is one that cannot be stamped, is locked, or is being deleted by a
listener, which stamps it itself: the next verify finds it again. The next claim spares what of it is flagged. What is
stamped has a receipt of its own (found_gone) in retention.receipt. p_client: the client''s version. Returns how many rows.
For operators.
Locks the rows that it stamps, and keeps claims waiting meanwhile.';

CREATE FUNCTION retention.standing_state() RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
  select jsonb_agg(
    jsonb_build_object(
      'bucket', s.bucket,
      'every_seconds', extract(epoch from s.every),
      'age_seconds', extract(epoch from greatest(clock_timestamp() - coalesce(s.finished_at, s.first_at), '0')),
      'finished_at', retention._iso(s.finished_at),
      'listed', s.listed,
      'gone', greatest(s.gone, s.found),
      'returned', s.returned,
      'orphans', s.orphans,
      'orphan_bytes', s.orphan_bytes,
      'is_running', s.verify_id is not null,
      'listed_now', s.listed_now,
      'is_off', coalesce(s.code = 'AccessDenied', false),
      'code', s.code,
      'problem', s.problem
    )
    order by s.bucket
  )
  from (
    select *
    from retention.standing_verify s
    where s.asked_at > clock_timestamp() - interval '1 day'
    order by s.bucket
    limit 50
  ) s
$$;

COMMENT ON FUNCTION retention.standing_state() IS 'What the standing verify has found, by bucket: {"bucket", "every_seconds", "age_seconds" (since the last one that came to its end,
or since listeners first asked), "finished_at", "listed" (by it), "gone" (live rows whose object is gone, by it or
since), "returned" (cleared rows whose object is there), "orphans", "orphan_bytes", "is_running", "listed_now", "is_off" (it may
not list), "code", "problem"}. Buckets of which no listener has asked for a day are left out. Null: there is none.
For observers.';

CREATE FUNCTION retention.take_turn(p_batch_ids bigint[] DEFAULT NULL::bigint[], p_client text DEFAULT NULL::text, p_buckets text[] DEFAULT NULL::text[]) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
declare
  v_batch_id bigint;
  v_batch retention.batch;
begin
  if not retention._is_open(p_client) then
    return null;
  end if;
  loop
    v_batch_id := retention._next_batch(p_batch_ids, p_buckets);
    if v_batch_id is null then
      return null;
    end if;
    select * into strict v_batch from retention.batch b where b.batch_id = v_batch_id;
    if v_batch.lease is not null then
      -- Its lease has run out, and its last holder may still be asking S3.
      perform retention._note_unanswered(v_batch, null, v_batch.visible_at);
      perform retention._note_attempt(v_batch, v_batch.visible_at);
    end if;
    exit when v_batch.code is distinct from 'ClaimLost';
    perform retention._take_apart(v_batch);
  end loop;
  update retention.batch b
  set code = 'ClaimLost',
    error = 'the session that checked it was lost',
    failed_at = clock_timestamp(),
    lease = null,
    visible_at = clock_timestamp()
  where b.batch_id = v_batch_id;
  return v_batch_id;
end
$$;

COMMENT ON FUNCTION retention.take_turn(p_batch_ids bigint[], p_client text, p_buckets text[]) IS 'Writes down that the batch which a claim would take next is about to be checked, and returns it: it goes to the end of
the line, and claim is to be asked for it. One that was written down before, and came to nothing, is taken apart instead.
Null: nothing is visible, or the gate is closed. For a process whose last claim was lost with its session. The
parameters are those of claim.
For the listener.
Locks the batch.';

CREATE FUNCTION retention.tenants_due(p_tenants integer DEFAULT 20, p_bound integer DEFAULT 100) RETURNS TABLE(tenant_id text, retain_days double precision, oldest timestamp with time zone, due_since timestamp with time zone, due bigint, flagged bigint, is_capped boolean)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
declare
  v_keys text[];
  v_parts jsonb;
  v_left integer := p_tenants;
  v_found integer;
begin
  return query select t.* from retention._tenants_due_of(p_tenants, p_bound, null) t;
exception
  when others then
    if retention._is_passing(sqlstate) then
      raise;
    end if;
    v_parts := jsonb_build_array(to_jsonb(array(select t.tenant_key from retention._watched() t)));
    while jsonb_array_length(v_parts) > 0 and v_left > 0 loop
      v_keys := array(select jsonb_array_elements_text(v_parts -> 0));
      v_parts := v_parts - 0;
      begin
        return query select t.* from retention._tenants_due_of(v_left, p_bound, v_keys) t;
        get diagnostics v_found = row_count;
        v_left := v_left - v_found;
      exception
        when others then
          if retention._is_passing(sqlstate) then
            raise;
          end if;
          v_parts := v_parts || retention._halves(v_keys);
      end;
    end loop;
end
$$;

COMMENT ON FUNCTION retention.tenants_due(p_tenants integer, p_bound integer) IS 'The p_tenants tenants whose oldest result past its policy has waited longest, with the number of their
results that wait, flagged or not. The number is counted among the p_bound oldest results of each tenant.
is_capped: there may be more of both. A tenant under a hold is left out, and so is one of which a row cannot be read; then
the others come in parts. With more than 250 tenants it looks at those of which something waits or falls due next. It costs
an index probe for each of them, and at most p_bound rows for each tenant that it returns.
For observers.';

CREATE FUNCTION retention.tick(p_by text DEFAULT 'pg_cron'::text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET lock_timeout TO '1s'
    AS $$
declare
  v_beat retention.heartbeat;
  v_setting retention.setting;
  v_problem text;
  v_flagged integer := 0;
begin
  perform from retention.heartbeat for update skip locked;
  if not found then
    return 0;
  end if;
  perform retention._bring_back_times();
  select * into strict v_beat from retention.heartbeat;
  update retention.heartbeat
  set ticked_at = clock_timestamp(),
    ticked_by = p_by;
  begin
    perform retention._note_gate();
  exception
    when lock_not_available then
      -- The transaction that opens or closes the gate announces it.
      null;
  end;
  if v_beat.cleaned_up_at is null or v_beat.cleaned_up_at < now() - interval '1 hour' then
    perform retention._clean_up();
  end if;
  select * into strict v_setting from retention.setting;
  if v_beat.more
    or v_beat.passed_at is null
    or v_beat.passed_at <= now() - retention._in_seconds(least(v_setting.loop_interval, '100 years'))
  then
    begin
      v_flagged := retention.flag_expired(p_asked_by => p_by);
    exception
      when others then
        v_problem := format('%s %s', sqlstate, left(sqlerrm, 500));
    end;
  end if;
  perform retention._seal_in_tick();
  if v_problem is null then
    return v_flagged;
  end if;
  raise warning 'the flagging pass failed: %', v_problem;
  if v_beat.pass_problem is distinct from v_problem then
    insert into retention.scan (ms, asked_by, looked_at, flagged, batches, without_place, skipped_rows, hit_limit)
    values (0, p_by, 0, 0, 0, 0, array['the pass failed: ' || v_problem], false);
    update retention.heartbeat set pass_problem = v_problem;
  end if;
  return 0;
end
$$;

COMMENT ON FUNCTION retention.tick(p_by text) IS 'What the scheduler calls every minute. It notes that the scheduler is alive, and cleans up once an hour. It
flags when the interval has passed, or when the last pass hit a limit. It seals what has settled, for a few seconds
at most. p_by: who calls. Returns how many results it flagged. Returns 0 while another tick is at work. What fails
in cleaning up, flagging or sealing does not fail the tick: it is a warning, and written down in
retention.heartbeat, retention.scan and retention.seal_head.
For the listener.
Locks the row of retention.heartbeat. It waits for a lock for a few seconds at most.';

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

CREATE FUNCTION retention.times_ahead() RETURNS TABLE(what text, places bigint, until timestamp with time zone)
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
  with limits as (
    select clock_timestamp() + interval '1 minute' as past,
      clock_timestamp() + s.pause_cap + interval '1 minute' as pause,
      clock_timestamp() + greatest(s.retry_cap, s.pause_cap, s.cool_off) + interval '1 minute' as retry,
      -- No lease is longer than a day (RETENTION_LEASE_SECONDS).
      clock_timestamp() + interval '1 day 1 minute' as lease,
      clock_timestamp() + s.unanswered_for + interval '1 day 1 minute' as unanswered
    from retention.setting s
  )
  select f.what, count(*), max(f.until)
  from (
    select 'ticks and passes' as what, greatest(h.ticked_at, h.passed_at, h.swept_at, h.cleaned_up_at, h.walk_began_at, h.seen_at) as until
    from retention.heartbeat h
    cross join limits l
    where greatest(h.ticked_at, h.passed_at, h.swept_at, h.cleaned_up_at, h.walk_began_at, h.seen_at) > l.past
    union all
    select 'pauses of buckets', k.paused_until
    from retention.bucket k
    cross join limits l
    where k.paused_until > l.pause
    union all
    select 'leases', b.visible_at
    from retention.batch b
    cross join limits l
    where b.lease is not null
      and (b.leased_at > l.past or b.visible_at > l.lease)
    union all
    select 'next attempts', b.visible_at
    from retention.bucket k
    cross join limits l
    cross join lateral (
      select b.visible_at
      from retention.batch b
      where b.bucket = k.bucket
        and b.settled_at is null
        and b.dead_at is null
        and b.lease is null
        and b.visible_at > l.retry
      order by b.visible_at desc
      limit 1000
    ) b
    union all
    select 'requests without an answer', u.until
    from retention.unanswered u
    cross join limits l
    where u.until > l.unanswered
  ) f
  group by f.what
$$;

COMMENT ON FUNCTION retention.times_ahead() IS 'What lies further ahead than it can, by the clock of this server, one row for each kind. what: in words;
places: how many; until: the furthest. No row where the clock has not been set back. Costs a probe for each
bucket, and what is leased.
For observers.';

CREATE FUNCTION retention.trend(p_due bigint DEFAULT NULL::bigint, p_is_capped boolean DEFAULT NULL::boolean) RETURNS TABLE(waiting bigint, is_at_least boolean, flagged bigint, flagged_before bigint, direction text, cleared_per_second double precision, seconds_to_go double precision, gone_at timestamp with time zone, because text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
declare
  v_hour constant timestamptz := now() - interval '1 hour';
  v_window constant timestamptz := now() - interval '10 minutes';
  v_open record;
  v_settled record;
  v_closed text := (select g.because from retention.gate() g limit 1);
begin
  waiting := p_due;
  is_at_least := p_is_capped;
  if waiting is null then
    select s.due, s.due_is_capped into waiting, is_at_least from retention.read_status() s;
  end if;
  select coalesce(sum(b.results) filter (where b.dead_at is null), 0)::bigint as now,
    coalesce(sum(b.results) filter (where b.flagged_at <= v_hour and (b.dead_at is null or b.dead_at > v_hour)), 0)::bigint
      as before,
    coalesce(bool_or(b.dead_at is null and (b.lease is null and b.visible_at > now() or k.paused_until > now())), false)
      as is_later
  into v_open
  from retention.batch b
  left join retention.bucket k on k.bucket = b.bucket
  where b.settled_at is null;
  select coalesce(sum(b.results) filter (where b.flagged_at <= v_hour), 0)::bigint as before,
    coalesce(sum(b.cleared) filter (where b.settled_at > v_window), 0)::double precision as cleared,
    min(b.settled_at - make_interval(secs => coalesce(b.ms, 0) / 1000.0)) filter (where b.settled_at > v_window) as began_at
  into v_settled
  from retention.batch b
  where b.settled_at > v_hour;
  flagged := v_open.now;
  flagged_before := v_open.before + v_settled.before;
  direction := case
    when flagged > flagged_before * 1.01 then 'growing'
    when flagged < flagged_before * 0.99 then 'shrinking'
    else 'steady'
  end;
  is_at_least := is_at_least or v_open.is_later;
  cleared_per_second := v_settled.cleared
    / greatest(extract(epoch from now() - greatest(v_settled.began_at, v_window)), 1)::double precision;
  because := case
    when waiting = 0 then 'nothing waits'
    when v_closed is not null then 'nothing goes: ' || v_closed
    when v_settled.cleared = 0 then 'nothing was cleared in the last 10 minutes'
  end;
  if because is null then
    seconds_to_go := waiting / cleared_per_second;
    -- A pace of next to nothing would lead past what a date can hold.
    gone_at := now() + make_interval(secs => least(seconds_to_go, 86400.0 * 36500));
    because := 'at the pace of the last 10 minutes; what falls due meanwhile comes on top';
  end if;
  return next;
end
$$;

COMMENT ON FUNCTION retention.trend(p_due bigint, p_is_capped boolean) IS 'How the backlog moves. waiting: results that are due, flagged or not; flagged: those of them in batches, and flagged_before
the same an hour ago, by the batches that were open then; direction: growing, shrinking or steady, by these two.
cleared_per_second: over the last 10 minutes, or since the first batch that settled in them began. seconds_to_go and
gone_at: an estimate, when what waits will be gone at that pace; null: there is none, and because says why. is_at_least:
it takes longer, since more may wait than was counted, or some of it waits for a later time. What falls due meanwhile comes
on top.
p_due and p_is_capped: due and due_is_capped of retention.status, where the caller has them; otherwise they are read.
Reads open batches and those settled in the last hour by their indexes. For observers.';

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

CREATE FUNCTION retention.try_stamp() RETURNS TABLE(works boolean, code text, message text, context text, remedy text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
begin
  if not exists (select from retention.gate() g where g.reason in ('detached', 'table replaced', 'index missing')) then
    perform retention._try_stamp();
  end if;
  return query
  select case
      when s.failed_since is not null then false
      when s.tried_for = retention._trial_mark() then true
    end,
    s.code,
    s.message,
    s.context,
    retention._stamp_remedy(s)
  from retention.stamping s;
end
$$;

COMMENT ON FUNCTION retention.try_stamp() IS 'Tries to stamp one live row and rolls that back, and opens or closes the gate by what it shows. Nothing of the
application''s table is changed; what its triggers do outside of the database cannot be taken back. works: null
where there is no row to try, or all of them are locked. code, message, context: what failed, with the constraint
or the trigger''s function where that is known.
For the listener.
Locks a few rows of the application''s table for the time of the trial; it waits half a second for each at most.';

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
  if not retention._can_look() then
    return query select 0::bigint, '{}'::text[];
    return;
  end if;
  return query
  with undated as (
    select r.run_id::text as run_id
    from retention._tenant_ids() as t (tenant_id)
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
  p_tenant_id := retention._policy_tenant(p_tenant_id);
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

CREATE FUNCTION retention.unsettled(p_batch_ids bigint[] DEFAULT NULL::bigint[], p_tenant_id text DEFAULT NULL::text, p_run_ids text[] DEFAULT NULL::text[], p_buckets text[] DEFAULT NULL::text[]) RETURNS TABLE(bucket text, kind text, reason text, until timestamp with time zone, results bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  v_run_ids retention.run_id[] := array(select retention._read_run_id(i) from unnest(p_run_ids) i);
  v_flagged_at timestamptz := (select b.flagged_at from retention.batch b where b.batch_id = p_batch_ids[1]);
begin
  perform retention._check_narrowing(p_run_ids, p_tenant_id);
  return query
  with known as materialized (
    select o.bucket, o.pause_code, o.pause_error, o.paused_until,
      retention._ceiling_words(o) as ceiling,
      case when retention._ceiling_words(o) is not null then retention._ceiling_until(o) end as ceiling_until
    from retention.bucket o
  )
  select w.bucket,
    w.kind,
    case w.kind
      when 'dead' then 'dead: ' || retention._said(w.code, w.error)
      when 'unstamped' then 'deleted, and not stamped yet: ' || retention._said(w.code, w.error)
      when 'leased' then format('%s works on it', coalesce(w.leased_by, 'a listener'))
      when 'not allowed' then 'bucket not allowed: S3_RESULT_BUCKET, as it is set here, does not list it'
      when 'paused' then 'the bucket pauses: ' || retention._said(w.pause_code, w.pause_error)
      when 'ceiling' then 'the bucket is at its ceiling: ' || w.ceiling
      when 'failed' then 'failed: ' || retention._said(w.code, w.error)
      when 'cooling' then 'it waits for its cool-off'
      when 'later' then 'it waits for its next attempt'
      else case
        when exists (select from retention.gate()) then (select string_agg(g.because, '; ') from retention.gate() g)
        when min(w.visible_at) < clock_timestamp() - interval '5 minutes'
        then 'no listener has taken it up: is the bucket in the S3_RESULT_BUCKET of one?'
        else 'it waits for a listener'
      end
    end,
    case
      when w.kind = 'paused' then greatest(w.paused_until, min(w.visible_at))
      when w.kind = 'ceiling' then w.ceiling_until
      when w.kind in ('unstamped', 'leased', 'failed', 'cooling', 'later') then min(w.visible_at)
    end,
    sum(w.results)::bigint
  from (
    select b.bucket,
      case
        when b.dead_at is not null then 'dead'
        when b.deleted_at is not null then 'unstamped'
        when b.lease is not null and b.visible_at > clock_timestamp() then 'leased'
        when p_buckets is not null and b.bucket <> all (p_buckets) then 'not allowed'
        when k.paused_until > clock_timestamp() then 'paused'
        when b.visible_at <= clock_timestamp() and k.ceiling_until > clock_timestamp() then 'ceiling'
        when b.visible_at <= clock_timestamp() then 'visible'
        when b.failed_at is not null then 'failed'
        when retention._is_cooling(b.flagged_at, b.visible_at, b.failed_at, b.early) then 'cooling'
        else 'later'
      end as kind,
      case when b.dead_at is not null or b.deleted_at is not null or b.visible_at > clock_timestamp() and b.lease is null then b.code end as code,
      case when b.dead_at is not null or b.deleted_at is not null or b.visible_at > clock_timestamp() and b.lease is null then b.error end as error,
      case when b.visible_at > clock_timestamp() then b.leased_by end as leased_by,
      k.pause_code,
      k.pause_error,
      k.paused_until,
      k.ceiling,
      k.ceiling_until,
      b.visible_at,
      case
        when p_tenant_id is null and p_run_ids is null then b.results
        else (
          select count(*)
          from unnest(b.run_ids, b.tenants) as u (run_id, tenant_id)
          where (p_tenant_id is null or u.tenant_id = p_tenant_id)
            and (p_run_ids is null or u.run_id in (select unnest(v_run_ids)))
        )
      end as results
    from retention.batch b
    left join known k on k.bucket = b.bucket
    where b.settled_at is null
      and (p_batch_ids is null or b.batch_id = any (p_batch_ids) or b.flagged_at = v_flagged_at)
  ) w
  where w.results > 0
  group by w.bucket, w.kind, w.code, w.error, w.leased_by, w.pause_code, w.pause_error, w.paused_until, w.ceiling, w.ceiling_until
  order by w.bucket, w.kind, 4, 3;
end
$$;

COMMENT ON FUNCTION retention.unsettled(p_batch_ids bigint[], p_tenant_id text, p_run_ids text[], p_buckets text[]) IS 'What is flagged and waits, by bucket, reason and until when (null: nothing says when). kind is one of: dead,
unstamped, leased, not allowed, paused, ceiling, failed, cooling, later, visible. reason says it in words. Without
arguments, everything. p_batch_ids: what flag_selected returned, and what was split off it. p_tenant_id and
p_run_ids: results of this tenant and of these runs, in whatever batch they are. p_buckets: the buckets that the
asking process may delete from; by default any. Leased batches are among them: a listener works on them. It reads
the batches that are not settled.
For observers.
Raises invalid_parameter_value for an empty text, and for a text that cannot be a run id.';

CREATE FUNCTION retention.unsort_verify(p_verify_id uuid, p_holder uuid) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_run retention.verify_run;
begin
  update retention.verify_run r
  set is_unsorted = true,
    worked_at = clock_timestamp()
  where r.verify_id = p_verify_id
    and r.holder = p_holder
  returning * into v_run;
  if not found then
    return false;
  end if;
  delete from retention.stray s where s.verify_id = p_verify_id;
  delete from retention.verify_stretch s where s.verify_id = p_verify_id;
  delete from retention.verify_part p where p.verify_id = p_verify_id;
  perform retention._part_verify(v_run, 1);
  return true;
end
$$;

COMMENT ON FUNCTION retention.unsort_verify(p_verify_id uuid, p_holder uuid) IS 'Begins a run again whose store lists out of order: what it lists is noted first, and read in order after that. Returns
false, and writes nothing, when another verify has taken over.
For operators.
Locks the row of the run.';

CREATE FUNCTION retention.unstamp(p_run_id text, p_restored boolean DEFAULT false, p_version text DEFAULT NULL::text, p_client text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
begin
  return retention._unstamp(
    array[retention._read_run_id(p_run_id)],
    'infinity',
    case when p_restored then 'restored' else 'unstamped' end,
    'after_restore',
    p_version,
    p_client
  ) > 0;
end
$$;

COMMENT ON FUNCTION retention.unstamp(p_run_id text, p_restored boolean, p_version text, p_client text) IS 'Takes the stamp from a run whose object was brought back. It has a receipt: restored where p_restored says that it was
brought back just now, with p_version in sight, and unstamped otherwise. p_client: the client''s version. Returns false
when the run was not stamped.
For operators.
Locks the row of the run.
Raises invalid_parameter_value for what cannot be a run id.';

CREATE FUNCTION retention.upcoming(p_days integer DEFAULT 7, p_tenant_id text DEFAULT NULL::text) RETURNS TABLE(day date, state text, tenant_id text, bucket text, results bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  v_end timestamptz;
  v_tenant_id text;
begin
  if p_days is null or p_days not between 0 and 366 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected 0 to 366 days, given: %s', coalesce(p_days::text, 'null'));
  end if;
  if p_tenant_id = '' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'expected a tenant id, or null for all tenants, given: an empty text';
  end if;
  v_tenant_id := retention._read_tenant_id(p_tenant_id)::text;
  v_end := date_trunc('day', now()) + make_interval(days => p_days + 1);
  return query
  select f.at::date, f.state, f.tenant_id, f.bucket, sum(f.results)::bigint
  from (
    select w.* from retention._upcoming_flagged(v_tenant_id) w where w.at is null or w.at < v_end
    union all
    select u.* from retention._upcoming_unflagged(v_tenant_id, v_end) u
  ) f
  group by f.at::date, f.state, f.tenant_id, f.bucket
  order by f.at::date nulls last, f.state, f.tenant_id, f.bucket;
end
$$;

COMMENT ON FUNCTION retention.upcoming(p_days integer, p_tenant_id text) IS 'What goes when, by day, tenant and bucket: today and the p_days days after it, by UTC. day: when it may go at the
earliest, by the rules as they are now and with the cool-off. state: flagged (it waits in a batch), due (the
next pass takes it), upcoming (it falls due on that day, or a hold on it ends then); and without a day: held (a
hold keeps it beyond these days), shared (another run needs its object), spared (a keeper has its object, or S3 holds another version of it), set aside
(it waits for the release of a surge), dead (it waits for retention.retry).
Results without a bucket or key are left out. p_tenant_id: of this tenant only. A tenant of which a row cannot be read is
left out with a warning that names it. Changes nothing.
For observers.
Raises invalid_parameter_value for less than 0 and more than 366 days, and for what cannot be a tenant id.';

CREATE FUNCTION retention.variables(p_given jsonb DEFAULT '{}'::jsonb) RETURNS TABLE(name text, variable text, value text, stored text, differs boolean, brought_at timestamp with time zone, set_at timestamp with time zone, set_by text, remedy text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
begin
  perform retention._check_settings('variables', p_given);
  return query
  select s.name,
    s.variable,
    g.value,
    s.value,
    d.differs,
    case when v.value = g.value then v.brought_at end,
    v.set_at,
    v.set_by,
    case
      when d.differs
      then format('to make the variable hold: %s; to keep what the database has: take %s away, or give it that value',
        rtrim(retention._how_to_set(s.name, g.value), ';'), s.variable)
    end
  from retention._stored_settings() s
  left join retention.variable v on v.name = s.name
  cross join lateral (select coalesce(nullif(p_given ->> s.name, ''), v.value) as value) g
  cross join lateral (
    select coalesce(retention._same_setting(s.name, g.value, s.value), false) is false as differs
  ) d
  where g.value is not null
  order by s.name;
end
$$;

COMMENT ON FUNCTION retention.variables(p_given jsonb) IS 'Variables and settings side by side: what the last process that started brought, or with p_given this process, and what the
database has. set_at, set_by: when and by whom a person last set it. remedy: what to do where they differ.
For observers.
Raises what configure raises.';

CREATE FUNCTION retention.verify_end() RETURNS TABLE(kind text, seal_id bigint, member text, message text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
  with last as materialized (
    select s.seal_id, s.digest, s.complete_to from retention.seal s order by s.seal_id desc limit 1
  ),
  strangers as (
    select 'receipt batch-' || b.batch_id as name, b.seal_id, b.settled_at
    from retention.batch b
    where b.settled_at is not null
      and b.cleared > 0
      and (
        b.seal_id > (select coalesce(max(l.seal_id), 0) from last l)
        or b.seal_id < 1
        or b.seal_id is null and b.settled_at <= (select l.complete_to from last l)
      )
    union all
    select 'receipt receipt-' || r.receipt_id, r.seal_id, r.settled_at
    from retention.receipt r
    where r.seal_id > (select coalesce(max(l.seal_id), 0) from last l)
      or r.seal_id < 1
      or r.seal_id is null and r.settled_at <= (select l.complete_to from last l)
    union all
    select 'change ' || c.change_id, c.seal_id, c.at
    from retention.change c
    where c.seal_id > (select coalesce(max(l.seal_id), 0) from last l)
      or c.seal_id < 1
      or c.seal_id is null and c.at <= (select l.complete_to from last l)
  )
  select 'cut',
    h.seal_id,
    null,
    case
      when l.seal_id is null then format('the seals were cut off: there is none, and seal %s was the latest', h.seal_id)
      when h.seal_id > l.seal_id then
        format('the end was cut off: seal %s is the last one here, and seal %s was the latest', l.seal_id, h.seal_id)
      else format('seal %s was rewritten, or added: the latest was seal %s with another digest', l.seal_id, h.seal_id)
    end
  from retention.seal_head h
  full join last l on true
  where (h.seal_id, h.digest) is distinct from (coalesce(l.seal_id, 0), l.digest)
  union all
  select case when s.seal_id is null then 'added' else 'removed' end,
    s.seal_id,
    s.name,
    case
      when s.seal_id is null then format(
        '%s was added: it says %s, and all that was settled until %s had been sealed',
        s.name, retention._iso(s.settled_at), retention._iso((select l.complete_to from last l))
      )
      else format('%s belongs to seal %s, which is not here', s.name, s.seal_id)
    end
  from strangers s
  union all
  select 'added', i.seal_id, i.name, format('%s was added: %s', i.name, i.because)
  from retention._invented() i
  limit 10000
$$;

COMMENT ON FUNCTION retention.verify_end() IS 'What is wrong beyond the seals themselves: the end was cut off, a receipt names a seal that is not there, or one that
is not sealed says it was settled when everything had been sealed, or the cycle cannot have written it. No row: nothing.
For observers.';

CREATE FUNCTION retention.verify_head(p_digest bytea, p_seal_id bigint DEFAULT NULL::bigint, p_database uuid DEFAULT NULL::uuid, p_sealed_at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS TABLE(standing text, seal_id bigint, message text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
  select w.standing,
    w.seal_id,
    case w.standing
      when 'other' then format(
        'the head is of the database %s, and this is %s', p_database,
        coalesce(i.fence::text, 'one that does not know where it was adopted')
      )
      when 'holds' then format('seal %s is as %s has it', w.seal_id, w.head)
      when 'rewritten' then format('seal %s was rewritten: %s names another digest', w.seal_id, w.head)
      when 'gone' then format('seal %s was removed: %s names it, and later ones are here', w.seal_id, w.head)
      when 'later' then format(
        'this database does not know the seals from %s on: it ends before %s, that is of seal %s',
        coalesce(l.seal_id, 0) + 1, w.head, w.seal_id
      )
      when 'recovered' then format(
        'this database does not know the seals from %s on that %s stands for: it was accepted at %s in place of the one that '
          'made them, and its own seals from there on are others',
        (select min(n.seal_id) from retention.seal n where n.sealed_at >= i.accepted_at), w.head, retention._iso(i.accepted_at)
      )
      else format('no seal has the digest of %s: what it stands for was rewritten or cut off, or it is of another database', w.head)
    end
  from (select max(m.seal_id) as seal_id from retention.seal m) l
  left join retention.identity i on true
  cross join lateral (
    select coalesce(p_seal_id, (select d.seal_id from retention.seal d where d.digest = p_digest limit 1)) as seal_id
  ) n
  left join retention.seal s on s.seal_id = n.seal_id
  cross join lateral (
    select n.seal_id,
      coalesce('the head of ' || retention._iso(p_sealed_at), 'the head ' || left(encode(p_digest, 'hex'), 12)) as head,
      case
        when p_database <> i.fence then 'other'
        when n.seal_id is null then 'unknown'
        when s.digest = p_digest then 'holds'
        when s.sealed_at >= i.accepted_at then 'recovered'
        when s.seal_id is not null then 'rewritten'
        when n.seal_id <= l.seal_id then 'gone'
        else 'later'
      end as standing
  ) w
$$;

COMMENT ON FUNCTION retention.verify_head(p_digest bytea, p_seal_id bigint, p_database uuid, p_sealed_at timestamp with time zone) IS 'What a head that was kept outside says of the seals here. p_seal_id null: only its digest is known. standing: holds;
rewritten (that seal has another digest here); later (the database ends before it); recovered (the seal here was made
after the database was accepted in place of another); gone (it was taken out); other (it is of another database); or
unknown (no seal has that digest). p_sealed_at: when its seal was made, for the words alone.
For observers.';

CREATE FUNCTION retention.verify_parts(p_verify_id uuid) RETURNS TABLE(part integer, prefix text, after_key text, until_key text, at_key text, token text, is_listed boolean, is_compared boolean, listed bigint, stamped bigint, too_soon bigint)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select p.part, p.prefix, p.after_key, p.until_key, p.at_key, p.token, p.is_listed, p.is_compared, p.listed, p.stamped,
    (
      select coalesce(sum(cardinality(s.run_ids)), 0)::bigint
      from retention.verify_stretch s
      where s.verify_id = p_verify_id
        and s.is_gone
    )
  from retention.verify_part p
  where p.verify_id = p_verify_id
  order by p.part
$$;

COMMENT ON FUNCTION retention.verify_parts(p_verify_id uuid) IS 'The parts of a run in order, with how far each has come: see retention.verify_part. too_soon: how many results that are
not due were found gone so far, in the whole run.
For operators.';

CREATE FUNCTION retention.verify_repeats() RETURNS TABLE(run_id text, bucket text, key text, first_receipt text, later_receipt text, was_known boolean)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    AS $$
declare
  v_hashes bigint[];
begin
  select coalesce(array_agg(h.hash), '{}')
  into strict v_hashes
  from (
    select hashtextextended(u.run_id::text || ' ' || retention._known_key(u.key, u.run_id, b.salt, u.n), hashtext(b.bucket))
        as hash
    from retention.batch b
    cross join lateral unnest(b.run_ids, retention._kept_keys(b.keys, b.key_digests)) with ordinality as u (run_id, key, n)
    where b.settled_at is not null
      and b.cleared > 0
    group by 1
    having count(*) > 1
    limit 1000
  ) h;
  if v_hashes = '{}' then
    return;
  end if;
  return query
  select w.run_id, w.bucket, w.key, 'batch-' || w.before_id, 'batch-' || w.batch_id,
    w.flagged_at < w.before_at
  from (
    select u.run_id, b.bucket, u.key, b.batch_id, b.flagged_at,
      lag(b.batch_id) over same as before_id,
      lag(b.settled_at) over same as before_at
    from retention.batch b
    cross join lateral (
      select e.run_id::text as run_id, retention._known_key(e.key, e.run_id, b.salt, e.n) as key
      from unnest(b.run_ids, retention._kept_keys(b.keys, b.key_digests)) with ordinality as e (run_id, key, n)
      offset 0
    ) u
    where b.settled_at is not null
      and b.cleared > 0
      and hashtextextended(u.run_id || ' ' || u.key, hashtext(b.bucket)) in (select unnest(v_hashes))
    window same as (partition by u.run_id, b.bucket, u.key order by b.settled_at, b.batch_id)
  ) w
  where w.before_id is not null
  limit 1000;
end
$$;

COMMENT ON FUNCTION retention.verify_repeats() IS 'Receipts that name the same result of the same bucket twice. was_known: it was flagged before the other was settled,
which the cycle does not do, so the later one was added; else the result was deleted again: its run was restored, or
written once more. At most 1,000 results. Hashes every receipt.
For observers.';

CREATE FUNCTION retention.verify_seals(p_after bigint DEFAULT 0, p_results bigint DEFAULT 50000) RETURNS TABLE(seal_id bigint, sealed_at timestamp with time zone, receipts bigint, results bigint, changes bigint, pruned bigint, problems jsonb)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    AS $$
  with page as materialized (
    select retention._page_end(p_after, p_results) as last
  ),
  seals as materialized (
    select s.*,
      s as itself,
      lag(s.seal_id, 1, 0::bigint) over w as before_id,
      lag(s.digest) over w as before_digest,
      lag(s.complete_to) over w as before_complete_to
    from retention.seal s
    cross join page p
    where s.seal_id between p_after and p.last
    window w as (order by s.seal_id)
  ),
  stated as (
    select s.seal_id, m.part, m.id, substr(s.digests, (32 * m.place - 31)::integer, 32) as digest
    from seals s
    cross join lateral (
      select case
          when u.place <= cardinality(s.batches) then 1
          when u.place <= cardinality(s.batches) + cardinality(s.receipts) then 2
          else 3
        end as part,
        u.id,
        u.place
      from unnest(s.batches || s.receipts || s.changes) with ordinality as u (id, place)
    ) m
    where s.seal_id > p_after
  ),
  compared as (
    select coalesce(x.seal_id, f.seal_id) as seal_id,
      coalesce(x.part, f.part) as part,
      coalesce(x.id, f.id) as id,
      x.digest as stated,
      f.digest as found,
      f.settled_at
    from stated x
    full join (
      select f.* from page p cross join lateral retention._members_found(p_after + 1, p.last) f
    ) f on f.seal_id = x.seal_id and f.part = x.part and f.id = x.id
  ),
  judged as (
    select c.seal_id,
      count(*) filter (where c.stated = c.found and c.part < 3) as receipts,
      count(*) filter (where c.stated = c.found and c.part = 3) as changes,
      count(*) filter (where w.is_pruned) as pruned,
      coalesce(jsonb_agg(w.problem order by c.part, c.id) filter (where w.problem is not null), '[]')
        || coalesce(
          jsonb_agg(
            jsonb_build_object(
              'kind', 'added', 'seal', c.seal_id, 'member', w.name,
              'message', format(
                '%s was added: it says %s, and all that was settled until %s had been sealed when seal %s was made',
                w.name, retention._iso(c.settled_at), retention._iso(s.before_complete_to), s.seal_id
              )
            )
            order by c.part, c.id
          ) filter (where c.stated = c.found and c.settled_at <= s.before_complete_to and c.settled_at <= s.complete_to),
          '[]'
        ) as problems
    from compared c
    left join seals s on s.seal_id = c.seal_id
    cross join lateral (
      select case c.part when 1 then 'receipt batch-' when 2 then 'receipt receipt-' else 'change ' end || c.id as name,
        c.found is null and c.part < 3 and s.pruned_at is not null as is_pruned
    ) n
    -- One by one, by its number, and only where it is looked for: joined, the whole table would be read.
    left join lateral (
      select b.seal_id, true as is_there from retention.batch b where c.found is null and c.part = 1 and b.batch_id = c.id
      union all
      select r.seal_id, true as is_there from retention.receipt r where c.found is null and c.part = 2 and r.receipt_id = c.id
      union all
      select g.seal_id, true as is_there from retention.change g where c.found is null and c.part = 3 and g.change_id = c.id
      limit 1
    ) e on true
    cross join lateral (
      select n.name,
        n.is_pruned and e.is_there is null as is_pruned,
        case
          when n.is_pruned and e.is_there is null then null
          else retention._member_problem(c.seal_id, n.name, c.stated, c.found, e.seal_id, e.is_there is not null)
        end as problem
    ) w
    group by c.seal_id
  )
  select s.seal_id,
    s.sealed_at,
    coalesce(j.receipts, 0),
    case when coalesce(j.pruned, 0) = 0 then s.results else 0 end,
    coalesce(j.changes, 0),
    coalesce(j.pruned, 0),
    coalesce(
      (
        select jsonb_agg(x)
        from retention._chain_problems(s.itself, s.before_id, s.before_digest) x
      ),
      '[]'
    ) || coalesce(j.problems, '[]')
  from seals s
  left join judged j on j.seal_id = s.seal_id
  where s.seal_id > p_after
  order by s.seal_id
$$;

COMMENT ON FUNCTION retention.verify_seals(p_after bigint, p_results bigint) IS 'Computes seals again from their receipts and changes: those after p_after, until about p_results results are computed.
One row for each seal: how many receipts, results and changes of it are as they were sealed, how many receipts were
removed after setting.receipts_kept (pruned), and what is wrong: [{"kind", "seal", "member", "message"}], kind being
changed, removed, added, reordered, rewritten or missing. No row: p_after is the last seal. Call it again with the last
seal_id.
For observers.';

CREATE FUNCTION retention.version() RETURNS TABLE(version text, oldest_client text)
    LANGUAGE sql IMMUTABLE
    AS $$
  select '0.1.0', '0.1.0'
$$;

COMMENT ON FUNCTION retention.version() IS 'The version of the product that installed this schema, and the oldest client that it serves. A client that
is older than oldest_client works on nothing. A client that is newer than version by more than the last
part works on nothing.
For observers.';

CREATE FUNCTION retention.vitals(p_buckets integer DEFAULT 50) RETURNS TABLE(as_of timestamp with time zone, paused_bucket_names text[], notify_queue_usage double precision, seals_unwritten bigint)
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
    pg_notification_queue_usage(),
    (
      select max(greatest(h.seal_id - c.written_to, 0))
      from retention.seal_copy c
      cross join retention.seal_head h
      where c.looked_at > now() - interval '1 day'
    )
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
  select 'the tick', null, 'the last one ran into this, and went on: ' || concat_ws('; ', h.pass_problem, h.clean_up_problem, 'sealing: ' || s.problem),
    null, 'fix what the message names; the next tick tries again'
  from retention.heartbeat h
  cross join retention.seal_head s
  where num_nonnulls(h.pass_problem, h.clean_up_problem, s.problem) > 0
  union all
  select 'seals in bucket ' || c.bucket, null,
    format('those from %s on are not written there: %s', c.written_to + 1, c.problem), null,
    'fix what the message names; a listener tries again'
  from retention.seal_copy c
  where c.problem is not null
    and c.looked_at > now() - interval '1 day'
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
    select format('bucket %s', k.bucket), w.results, 'its ceiling lets ' || retention._ceiling_words(k) || ' go', null,
      'retention bucket set'
    from retention.bucket k
    cross join lateral (
      select sum(b.results)::bigint as results
      from retention.batch b
      where b.bucket = k.bucket
        and b.settled_at is null
        and b.dead_at is null
        and b.deleted_at is null
        and b.lease is null
        and b.visible_at <= now()
    ) w
    where num_nonnulls(k.max_per_second, k.max_in_flight) > 0
      and w.results > 0
    order by w.results desc, k.bucket
    limit p_limit
  )
  union all
  select 'the cool-off', c.results, 'the first of them may go then', c.first_at, null
  from retention.cooling() c
  where c.results > 0
  union all
  (
    select format('%s in bucket %s', t.state, t.bucket), t.results, retention._said(t.code, t.error),
      t.next_attempt_at,
      case when t.state = 'dead' then 'fix the cause, then: retention retry --all' end
    from retention.troubles(p_limit) t
  )
  union all
  (
    select coalesce(format('surge %s', g.surge_id), 'late results'), g.results, g.because, null, g.remedy
    from retention.list_surges() g
    order by g.surge_id
    limit p_limit
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
    select format('keeper %s', n.kept_by), count(*), 'its rows need the objects', nullif(min(n.until), 'infinity'),
      'retention keeper list'
    from retention.spared_object n
    where n.kept_by is not null
      and n.until > now()
    group by n.kept_by
    order by count(*) desc, n.kept_by
    limit p_limit
  )
  union all
  (
    select format('changed objects in bucket %s', n.bucket), count(*),
      format('S3 holds another version than the etag of the row names, for example of %s', min(n.key)), min(n.until),
      'correct the etags of the rows; where the runs are to keep the new objects, their date'
    from retention.spared_object n
    where n.kept_by is null
      and n.until > now()
    group by n.bucket
    order by count(*) desc, n.bucket
    limit p_limit
  )
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
coming, buckets that pause, failed and dead results by bucket and code, surges, policies that wait for a confirmation,
holds, what keepers have, objects that have changed, and rows that name no object. results is null where nothing was
counted. ends_at: when it ends by itself;
null: it waits for a person. At most p_limit rows of each kind. Cheap at any size. For observers.';

CREATE FUNCTION retention.withdraw_approval(p_approval_id bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if exists (select from retention.approval a where a.approval_id = p_approval_id and a.withdrawn_at is not null) then
    return false;
  end if;
  perform retention._open_approval(p_approval_id);
  update retention.approval
  set withdrawn_by = session_user,
    withdrawn_at = clock_timestamp()
  where approval_id = p_approval_id;
  return true;
end
$$;

COMMENT ON FUNCTION retention.withdraw_approval(p_approval_id bigint) IS 'Withdraws a request, also one that was approved and not yet used. Returns false where it was withdrawn before.
For operators.
Locks the request.
Raises check_violation for one that is used or too old, and no_data_found for one that is not there.';

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
    placed_session text DEFAULT SESSION_USER NOT NULL,
    released_session text,
    bucket text,
    key text COLLATE pg_catalog."C",
    objects bigint DEFAULT 0 NOT NULL,
    due_before bigint,
    retain interval,
    CONSTRAINT a_hold_has_a_reason CHECK ((btrim(reason) <> ''::text)),
    CONSTRAINT a_hold_is_on_a_run_or_a_tenant CHECK ((num_nonnulls(run_id, tenant_id) = 1)),
    CONSTRAINT a_released_hold_says_by_whom CHECK (((released_at IS NULL) = (released_by IS NULL)))
);

COMMENT ON TABLE retention.hold IS 'what must not be deleted; place with retention.place_hold, which knows what is in flight';

COMMENT ON COLUMN retention.hold.placed_session IS 'the session''s user beside the name in placed_by, which anybody may type; so is released_session';

COMMENT ON COLUMN retention.hold.bucket IS 'of a hold on a run: where its object was when the hold was placed, or first named one; null: none is named yet';

COMMENT ON COLUMN retention.hold.objects IS 'how many objects it covers also when their rows have gone: see retention.held_object';

COMMENT ON COLUMN retention.hold.due_before IS 'of a hold on a tenant: how many of its results were due by retain when it was placed, and not set aside; null: not counted';

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
    CONSTRAINT retain_is_below_a_century CHECK ((retain <= '36160 days'::interval))
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
    NULL::text AS etag,
    runs.result_cleared_at AS cleared_at,
    runs.updated_at
   FROM public.runs;

COMMENT ON VIEW retention.result IS 'The application''s table under the names of this schema: the only way from here to it. For observers.';

COMMENT ON COLUMN retention.result.tenant_id IS 'null where the table has no tenants';

COMMENT ON COLUMN retention.result.status IS 'only a run whose status means completed has a result to expire';

COMMENT ON COLUMN retention.result.completed_at IS 'from when its retention is counted';

COMMENT ON COLUMN retention.result.retain_until IS 'a date before which the result may not go, whatever the policy says';

COMMENT ON COLUMN retention.result.bucket IS 'null or empty: setting.default_bucket';

COMMENT ON COLUMN retention.result.etag IS 'the version of the object that the run wrote; null: any version is meant';

COMMENT ON COLUMN retention.result.cleared_at IS 'when the result was deleted, or found gone; null: it is live';

COMMENT ON COLUMN retention.result.updated_at IS 'written with cleared_at, where the table has it';

CREATE TABLE retention.setting (
    singleton boolean DEFAULT true NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
    halted_at timestamp with time zone,
    halted_by text,
    halted_reason text,
    halted_session text,
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
    receipt_keys text DEFAULT 'plain'::text NOT NULL,
    default_bucket text,
    check_shared_objects boolean DEFAULT true NOT NULL,
    policy_guard integer DEFAULT 1000 NOT NULL,
    surge_guard integer DEFAULT 1000,
    surge_guard_all integer DEFAULT 10000 NOT NULL,
    cool_off interval,
    four_eyes boolean DEFAULT false NOT NULL,
    release_spread interval DEFAULT '01:00:00'::interval NOT NULL,
    unanswered_for interval DEFAULT '00:15:00'::interval NOT NULL,
    CONSTRAINT a_batch_fits_one_delete_objects_request CHECK (((batch_size >= 1) AND (batch_size <= 1000))),
    CONSTRAINT a_halt_says_who_and_why CHECK ((num_nonnulls(halted_at, halted_by, halted_reason) = ANY (ARRAY[0, 3]))),
    CONSTRAINT backlog_limit_is_positive CHECK ((backlog_limit > 0)),
    CONSTRAINT cool_off_is_not_negative CHECK ((cool_off >= '00:00:00'::interval)),
    CONSTRAINT default_bucket_is_not_empty CHECK ((default_bucket <> ''::text)),
    CONSTRAINT flag_limit_is_positive CHECK ((flag_limit > 0)),
    CONSTRAINT loop_interval_is_at_least_a_second CHECK ((loop_interval >= '00:00:01'::interval)),
    CONSTRAINT max_attempts_is_positive CHECK ((max_attempts > 0)),
    CONSTRAINT policy_guard_is_not_negative CHECK ((policy_guard >= 0)),
    CONSTRAINT receipt_keys_are_plain_or_hashed CHECK ((receipt_keys = ANY (ARRAY['plain'::text, 'hashed'::text]))),
    CONSTRAINT receipts_are_kept_for_a_day_at_least CHECK ((receipts_kept >= '1 day'::interval)),
    CONSTRAINT small_backlog_is_not_negative CHECK ((small_backlog >= 0)),
    CONSTRAINT surge_guard_all_is_not_negative CHECK ((surge_guard_all >= 0)),
    CONSTRAINT surge_guard_is_not_negative CHECK ((surge_guard >= 0)),
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

COMMENT ON COLUMN retention.setting.receipt_keys IS 'plain: receipts keep keys as they are; hashed: from their seal on, a salted digest of each, and no receipt before is changed';

COMMENT ON COLUMN retention.setting.default_bucket IS 'the bucket of results whose row names none';

COMMENT ON COLUMN retention.setting.check_shared_objects IS 'false gives up: two runs on one key, one due and one not, lose the object';

COMMENT ON COLUMN retention.setting.policy_guard IS 'a policy that makes more live results than this due at once waits for a confirmation';

COMMENT ON COLUMN retention.setting.surge_guard IS 'with more late results of a tenant than this in 24 hours, they are set aside as a surge; null: there is no guard';

COMMENT ON COLUMN retention.setting.surge_guard_all IS 'the same over all tenants together';

COMMENT ON COLUMN retention.setting.cool_off IS 'how long a flagged result waits before it may be claimed; null: not at all';

COMMENT ON COLUMN retention.setting.four_eyes IS 'true: what deletes more or earlier needs two people, one who asks and another who approves';

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
    l.key_hash,
    l.etag,
    l.is_candidate,
    ((l.bucket IS NOT NULL) AND (octet_length(l.bucket) <= 255) AND (COALESCE(l.key, ''::text) <> ''::text)) AS has_place,
    l.retain,
    l.due_at,
    l.held,
    (COALESCE((l.due_at < now()), false) AND (NOT l.held)) AS is_due
   FROM ( SELECT r.run_id,
            r.tenant_id,
            r.status,
            r.completed_at,
            r.retain_until,
            retention._bucket(r.bucket, ( SELECT s.default_bucket
                   FROM retention.setting s)) AS bucket,
            (
                CASE
                    WHEN (octet_length(r.key) <= 1024) THEN r.key
                    ELSE NULL::text
                END COLLATE "C") AS key,
            hashtextextended((r.key COLLATE "C"), (0)::bigint) AS key_hash,
            r.etag,
            ((r.status = 'COMPLETED'::text) AND (r.key IS NOT NULL) AND (COALESCE(octet_length(((r.tenant_id)::character varying)::text), 0) <= 1024)) AS is_candidate,
            COALESCE(p.retain, ( SELECT d.retain
                   FROM retention.policy d
                  WHERE (d.tenant_id = '*'::text))) AS retain,
                CASE
                    WHEN ((r.status = 'COMPLETED'::text) AND (r.key IS NOT NULL) AND (COALESCE(octet_length(((r.tenant_id)::character varying)::text), 0) <= 1024) AND (r.completed_at > '-infinity'::timestamp with time zone) AND (EXISTS ( SELECT
                       FROM retention.policy d
                      WHERE (d.tenant_id = '*'::text)))) THEN GREATEST((LEAST(r.completed_at, '290000-01-01 00:00:00+00'::timestamp with time zone) + COALESCE(retention._in_seconds(p.retain), ( SELECT retention._in_seconds(d.retain) AS _in_seconds
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

CREATE TABLE retention.receipt (
    receipt_id bigint NOT NULL,
    kind text NOT NULL,
    bucket text NOT NULL,
    results integer NOT NULL,
    settled_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    run_ids retention.run_id[] NOT NULL,
    keys text[] NOT NULL COLLATE pg_catalog."C",
    tenants text[] NOT NULL,
    asked_by text,
    revision bigint,
    ends text[],
    versions text[] COLLATE pg_catalog."C",
    request_ids text[],
    settled_session text DEFAULT SESSION_USER NOT NULL,
    product text,
    salt bytea,
    seal_id bigint,
    key_digests bytea,
    CONSTRAINT a_receipt_has_1_to_1000_results CHECK (((results >= 1) AND (results <= 1000))),
    CONSTRAINT an_end_is_known CHECK ((ends <@ ARRAY['deleted'::text, 'gone'::text, 'marker'::text, 'purged'::text])),
    CONSTRAINT kind_is_known CHECK ((kind = ANY (ARRAY['found_gone'::text, 'restored'::text, 'unstamped'::text, 'orphan'::text, 'canary'::text])))
);
ALTER TABLE ONLY retention.receipt ALTER COLUMN run_ids SET STORAGE EXTERNAL;
ALTER TABLE ONLY retention.receipt ALTER COLUMN key_digests SET STORAGE EXTERNAL;

COMMENT ON TABLE retention.receipt IS 'receipts of what happens outside a batch; those of deletions by the cycle are the settled batches';

COMMENT ON COLUMN retention.receipt.kind IS 'found_gone: stamped, for its object was not there; restored: brought back, and its stamp taken away; unstamped: only its stamp was taken away; orphan: an object without a run was deleted; canary: an object of our own was';

COMMENT ON COLUMN retention.receipt.run_ids IS 'run_ids[i] of tenants[i] points at keys[i], packed as in a batch; null elements: orphans belong to no run';

COMMENT ON COLUMN retention.receipt.asked_by IS 'the session user whose command it was; product: the version of the client';

COMMENT ON COLUMN retention.receipt.revision IS 'the newest row of retention.change when it was written';

COMMENT ON COLUMN retention.receipt.versions IS 'restored: the version that is in sight again; orphan: as in a batch';

CREATE VIEW retention._receipt AS
 SELECT 'batch'::text AS source,
    b.batch_id AS id,
    COALESCE(b.why, 'policy'::text) AS kind,
    b.bucket,
    b.cleared AS results,
    b.settled_at,
    b.run_ids,
    retention._kept_keys(b.keys, b.key_digests) AS keys,
    b.tenants,
    b.ends,
    b.versions,
    b.policies,
    b.request_ids,
    b.asked_by,
    b.revision,
    b.settled_session,
    b.product,
    b.salt,
    b.seal_id
   FROM retention.batch b
  WHERE ((b.settled_at IS NOT NULL) AND (b.cleared > 0))
UNION ALL
 SELECT 'receipt'::text AS source,
    r.receipt_id AS id,
    r.kind,
    r.bucket,
    r.results,
    r.settled_at,
    r.run_ids,
    retention._kept_keys(r.keys, r.key_digests) AS keys,
    r.tenants,
    r.ends,
    r.versions,
    NULL::jsonb AS policies,
    r.request_ids,
    r.asked_by,
    r.revision,
    r.settled_session,
    r.product,
    r.salt,
    r.seal_id
   FROM retention.receipt r;

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
    operator_role text,
    observer_role text,
    reader_roles text[] DEFAULT '{}'::text[] NOT NULL,
    application_path text,
    detached_at timestamp with time zone,
    index_marks text[],
    CONSTRAINT scheduler_is_known CHECK ((scheduler = ANY (ARRAY['pg_cron'::text, 'internal'::text]))),
    CONSTRAINT there_is_one_adapter_row CHECK (singleton)
);

COMMENT ON TABLE retention.adapter IS 'one row: which table was adopted, and how its columns are called';

COMMENT ON COLUMN retention.adapter.table_oid IS 'the table under the view retention.result; another table of that name is not worked on';

COMMENT ON COLUMN retention.adapter.reader_roles IS 'roles of applications that may ask which results can be read, and nothing else';

COMMENT ON COLUMN retention.adapter.application_path IS 'the search path under which the application''s triggers run when a row is stamped; first that of the session that migrated';

COMMENT ON COLUMN retention.adapter.detached_at IS 'since when retention.detach has taken the views away; null: they are there';

COMMENT ON COLUMN retention.adapter.index_marks IS 'the comments by which our indexes on that table are known: of retention_live, then of retention_key';

CREATE TABLE retention.ahead (
    tenant_key text NOT NULL,
    due_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE retention.ahead IS 'by tenant, when the first result falls due that no pass has looked at: which tenants a status looks at first';

COMMENT ON COLUMN retention.ahead.due_at IS 'by the policy of the pass that noted it';

CREATE TABLE retention.allowance (
    allowance_id bigint NOT NULL,
    tenant_key text NOT NULL,
    results bigint NOT NULL,
    granted bigint NOT NULL,
    reason text NOT NULL,
    granted_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    granted_by text DEFAULT SESSION_USER NOT NULL,
    hold_id bigint,
    counted_from timestamp with time zone,
    counted_to timestamp with time zone,
    valid_until timestamp with time zone,
    walk_at timestamp with time zone,
    dropped_at timestamp with time zone,
    CONSTRAINT an_allowance_is_not_negative CHECK ((results >= 0))
);

COMMENT ON TABLE retention.allowance IS 'how many late results of a tenant a person has accounted for; results: how many are left';

COMMENT ON COLUMN retention.allowance.hold_id IS 'the hold on a tenant whose end it is for: each is counted once';

COMMENT ON COLUMN retention.allowance.counted_from IS 'of a policy: it counted runs that completed from here to counted_to, which another one need not count again';

COMMENT ON COLUMN retention.allowance.valid_until IS 'not dropped before a walk that began after this is complete';

COMMENT ON COLUMN retention.allowance.walk_at IS 'the first walk that began with it; when one is complete, the rest is dropped';

ALTER TABLE retention.allowance ALTER COLUMN allowance_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME retention.allowance_allowance_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE retention.approval ALTER COLUMN approval_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME retention.approval_approval_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE retention.attention (
    attention_id bigint NOT NULL,
    kind text NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    payload jsonb NOT NULL,
    told_at timestamp with time zone
);

COMMENT ON TABLE retention.attention IS 'one row for each announcement of what a person should know at once, kept for a day';

COMMENT ON COLUMN retention.attention.kind IS 'halted, copy, resumed, surge, dead, canary, sealed';

COMMENT ON COLUMN retention.attention.payload IS 'what was announced, without texts that may name keys';

COMMENT ON COLUMN retention.attention.told_at IS 'when it became part of a message to the webhook, or was overtaken; null: not yet, or there is no webhook';

ALTER TABLE retention.attention ALTER COLUMN attention_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME retention.attention_attention_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE retention.batch ALTER COLUMN batch_id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME retention.batch_batch_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE retention.canary (
    bucket text NOT NULL,
    every interval NOT NULL,
    first_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    began_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    key text,
    asked_at timestamp with time zone,
    batch_id bigint,
    settled_at timestamp with time zone,
    confirmed_at timestamp with time zone,
    code text,
    problem text,
    problem_at timestamp with time zone,
    CONSTRAINT a_problem_has_a_code CHECK (((code IS NULL) = (problem IS NULL)))
)
WITH (fillfactor='50');

COMMENT ON TABLE retention.canary IS 'by bucket, the object of our own that goes the whole way to its deletion once in a while (RETENTION_CANARY_SECONDS)';

COMMENT ON COLUMN retention.canary.first_at IS 'when a listener first asked for it; began_at: when the present or the last one began';

COMMENT ON COLUMN retention.canary.key IS 'the object that is on its way; null: none is. asked_at: a listener was given its next step then';

COMMENT ON COLUMN retention.canary.settled_at IS 'when the store named it as deleted; null: it has not yet';

COMMENT ON COLUMN retention.canary.confirmed_at IS 'when one was last looked for after its deletion, and was not there';

COMMENT ON COLUMN retention.canary.code IS 'why the last one failed; null: it did not';

ALTER TABLE retention.change ALTER COLUMN change_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME retention.change_change_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE retention.cutoff (
    flagged_at timestamp with time zone NOT NULL,
    until timestamp with time zone NOT NULL
);

COMMENT ON TABLE retention.cutoff IS 'one row for each reconcile that deletes earlier than the policy, while it lives';

COMMENT ON COLUMN retention.cutoff.until IS 'its command claims before then, or is gone: then its batches go by the policy again';

CREATE TABLE retention.fence (
    singleton boolean DEFAULT true NOT NULL,
    tokens uuid[] DEFAULT '{}'::uuid[] NOT NULL,
    newest bigint DEFAULT 0 NOT NULL,
    tried_at timestamp with time zone,
    renewed_at timestamp with time zone,
    renewed_by text,
    bucket text,
    taking boolean DEFAULT false NOT NULL,
    lost_at timestamp with time zone,
    lost_because text,
    CONSTRAINT a_lost_fence_says_why CHECK (((lost_at IS NULL) = (lost_because IS NULL))),
    CONSTRAINT there_is_one_fence_row CHECK (singleton)
)
WITH (fillfactor='20');

COMMENT ON TABLE retention.fence IS 'one row: the tokens that were written to the fence in S3; a token there that is none of them is of a copy';

COMMENT ON COLUMN retention.fence.tokens IS 'the last 20, newest first; each is written here before it is written to S3';

COMMENT ON COLUMN retention.fence.newest IS 'the number of tokens[1]; they are counted from 1';

COMMENT ON COLUMN retention.fence.renewed_at IS 'when the fence in S3 was last renewed from here; null: it never was, and is not asked for';

COMMENT ON COLUMN retention.fence.taking IS 'retention.accept_fence() was called: the next look takes the fence in S3 from any other database';

COMMENT ON COLUMN retention.fence.lost_at IS 'since when another database has the fence: the gate is closed until retention.accept_fence()';

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
    b.dead_at,
    b.deleted_at
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

COMMENT ON COLUMN retention.flagged.code IS 'why it failed when it was last tried, by S3 or by the stamp (a SQLSTATE); null: it has not failed';

COMMENT ON COLUMN retention.flagged.error IS 'the message beside code';

COMMENT ON COLUMN retention.flagged.dead_at IS 'since when it is dead, and waits for retention.retry; null: it is not dead';

COMMENT ON COLUMN retention.flagged.deleted_at IS 'since when S3 has deleted it and only its stamp is missing, for the reason in code; null: not so';

CREATE TABLE retention.gate_state (
    singleton boolean DEFAULT true NOT NULL,
    reasons text[] DEFAULT '{}'::text[] NOT NULL,
    since timestamp with time zone DEFAULT now() NOT NULL,
    clock_corrected_at timestamp with time zone,
    clock_was_ahead interval,
    CONSTRAINT there_is_one_gate_state_row CHECK (singleton)
);

COMMENT ON TABLE retention.gate_state IS 'one row: the reasons of retention.gate() that were last announced';

COMMENT ON COLUMN retention.gate_state.clock_corrected_at IS 'when something that lay further ahead than it can was last brought back: the clock had been wrong';

CREATE TABLE retention.heartbeat (
    singleton boolean DEFAULT true NOT NULL,
    ticked_at timestamp with time zone,
    ticked_by text,
    passed_at timestamp with time zone,
    more boolean DEFAULT false NOT NULL,
    swept_at timestamp with time zone,
    walk_began_at timestamp with time zone,
    seen_at timestamp with time zone,
    left_alone integer DEFAULT 0 NOT NULL,
    cleaned_up_at timestamp with time zone,
    clean_up_problem text,
    pass_problem text,
    CONSTRAINT there_is_one_heartbeat_row CHECK (singleton)
)
WITH (fillfactor='20');

COMMENT ON TABLE retention.heartbeat IS 'one row: when the scheduler last ticked, and what the last pass left';

COMMENT ON COLUMN retention.heartbeat.more IS 'the last pass hit a limit: the next tick need not wait for the interval';

COMMENT ON COLUMN retention.heartbeat.swept_at IS 'when a pass last started from the oldest result';

COMMENT ON COLUMN retention.heartbeat.walk_began_at IS 'since when passes have been on their way from the oldest result to the newest; null: the last walk is complete';

COMMENT ON COLUMN retention.heartbeat.seen_at IS 'when the last complete walk began: what was due before then and is not known yet is late; null: there was none';

COMMENT ON COLUMN retention.heartbeat.left_alone IS 'results past their policy that passes since then went by: held, without a place, or under retain_until';

COMMENT ON COLUMN retention.heartbeat.clean_up_problem IS 'what the last cleaning up ran into: SQLSTATE and message; null: nothing';

COMMENT ON COLUMN retention.heartbeat.pass_problem IS 'why the last pass that a tick asked for failed: SQLSTATE and message; null: it did not';

CREATE TABLE retention.held_object (
    bucket text NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    hold_id bigint NOT NULL
);

COMMENT ON TABLE retention.held_object IS 'the objects that a hold found: it covers them also when their rows have gone';

ALTER TABLE retention.hold ALTER COLUMN hold_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME retention.hold_hold_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE retention.identity (
    singleton boolean DEFAULT true NOT NULL,
    fence uuid DEFAULT gen_random_uuid() NOT NULL,
    system_identifier text,
    database_oid oid NOT NULL,
    database_name text NOT NULL,
    timeline integer,
    adopted_at timestamp with time zone DEFAULT now() NOT NULL,
    accepted_at timestamp with time zone,
    accepted_by text,
    accepted_reason text,
    CONSTRAINT there_is_one_identity_row CHECK (singleton)
);

COMMENT ON TABLE retention.identity IS 'one row: which server, database and timeline the schema was adopted in, or accepted for; another one is a copy';

COMMENT ON COLUMN retention.identity.fence IS 'the name of the fence: copies of this database share it, and other platforms do not';

COMMENT ON COLUMN retention.identity.system_identifier IS 'of pg_control_system(); null: the server does not tell it';

COMMENT ON COLUMN retention.identity.database_oid IS 'not the name: a renamed database is no copy';

COMMENT ON COLUMN retention.identity.timeline IS 'of the write-ahead log: a promotion and a recovery to a point in time begin another; null: the server does not tell it';

COMMENT ON COLUMN retention.identity.accepted_by IS 'the session''s user who said that this is the database that deletes; null: it was adopted here';

CREATE TABLE retention.installed (
    singleton boolean DEFAULT true NOT NULL,
    version text NOT NULL,
    shipped text NOT NULL,
    found text NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT there_is_one_installed_row CHECK (singleton)
);

COMMENT ON TABLE retention.installed IS 'what functions/*.sql the schema was last given (shipped), and a digest of what the catalog held then (found)';

ALTER TABLE retention.keeper ALTER COLUMN keeper_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME retention.keeper_keeper_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE UNLOGGED TABLE retention.key_copy (
    copy_id bigint NOT NULL,
    verify_id uuid NOT NULL,
    bucket text NOT NULL,
    prefix text NOT NULL,
    made_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE retention.key_copy IS 'that a verify has copied the keys of a bucket''s live rows, as far as they begin with prefix; empty between runs';

ALTER TABLE retention.key_copy ALTER COLUMN copy_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME retention.key_copy_copy_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE UNLOGGED TABLE retention.key_stretch (
    copy_id bigint NOT NULL,
    place bigint NOT NULL,
    first_key text NOT NULL COLLATE pg_catalog."C",
    last_key text NOT NULL COLLATE pg_catalog."C",
    keys text[] NOT NULL,
    run_ids retention.run_id[] NOT NULL
);

COMMENT ON TABLE retention.key_stretch IS 'up to a thousand keys of a copy in the order of bytes, each with the run that had it then; empty between runs';

CREATE TABLE retention.lateness (
    tenant_key text NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    results bigint NOT NULL,
    rule text
);

COMMENT ON TABLE retention.lateness IS 'by tenant and walk, how many results were late and not covered by an allowance';

COMMENT ON COLUMN retention.lateness.rule IS 'by which guard they were set aside, as in retention.surge; null: they were not';

CREATE TABLE retention.pace (
    bucket text NOT NULL,
    next_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL
)
WITH (fillfactor='50');

COMMENT ON TABLE retention.pace IS 'when the next request of a bucket with a ceiling may go';

CREATE TABLE retention.pass_lock (
    singleton boolean DEFAULT true NOT NULL,
    CONSTRAINT there_is_one_pass_lock_row CHECK (singleton)
);

COMMENT ON TABLE retention.pass_lock IS 'one row, locked by a flagging pass: one at a time';

CREATE TABLE retention.past_work (
    batch_id bigint NOT NULL,
    state text NOT NULL,
    since timestamp with time zone NOT NULL,
    until timestamp with time zone NOT NULL,
    because text,
    oldest timestamp with time zone,
    newest timestamp with time zone,
    run_ids retention.run_id[],
    CONSTRAINT past_state_is_known CHECK ((state = ANY (ARRAY['flagged'::text, 'in flight'::text, 'failed'::text, 'dead'::text, 'set aside'::text])))
);
ALTER TABLE ONLY retention.past_work ALTER COLUMN run_ids SET STORAGE EXTERNAL;

COMMENT ON TABLE retention.past_work IS 'what batches were before: results that left them without being cleared, and attempts that came to nothing; kept for setting.history_kept';

COMMENT ON COLUMN retention.past_work.state IS 'what it was from since to until. flagged: run_ids were in the batch, and left it then; set aside: they were in the surge of that number. The others: the whole batch was';

COMMENT ON COLUMN retention.past_work.oldest IS 'between here and newest its results completed, as the batch has it';

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
    run_id retention.run_id
);

COMMENT ON TABLE retention.progress IS 'by tenant, the last result that flagging has looked at';

COMMENT ON COLUMN retention.progress.tenant_key IS 'see retention._tenant_key(): the empty string stands for results without a tenant';

COMMENT ON COLUMN retention.progress.run_id IS 'null: every row that completed at that moment has been looked at';

ALTER TABLE retention.receipt ALTER COLUMN receipt_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME retention.receipt_receipt_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE retention.returned_result (
    run_id retention.run_id NOT NULL,
    bucket text NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    why text NOT NULL,
    noted_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT why_is_known CHECK ((why = ANY (ARRAY['verify'::text, 'after_restore'::text])))
);

COMMENT ON TABLE retention.returned_result IS 'results whose object is back, since their stamp was taken away: the receipt of their next deletion says why it is another';

COMMENT ON COLUMN retention.returned_result.why IS 'verify: a verify found the object; after_restore: it was restored, or its stamp was taken away by hand';

ALTER TABLE retention.scan ALTER COLUMN scan_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME retention.scan_scan_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE retention.seal_copy (
    bucket text NOT NULL,
    written_to bigint DEFAULT 0 NOT NULL,
    written_at timestamp with time zone,
    looked_at timestamp with time zone DEFAULT now() NOT NULL,
    problem text,
    problem_at timestamp with time zone
);

COMMENT ON TABLE retention.seal_copy IS 'one row for each bucket that seals are written to (RETENTION_SEAL_BUCKET)';

COMMENT ON COLUMN retention.seal_copy.written_to IS 'each seal up to this one is an object there';

COMMENT ON COLUMN retention.seal_copy.looked_at IS 'when a listener last asked what is to be written there, to the hour';

COMMENT ON COLUMN retention.seal_copy.problem IS 'why the next one could not be written; null: it could, or there is none';

CREATE TABLE retention.seal_head (
    singleton boolean DEFAULT true NOT NULL,
    seal_id bigint DEFAULT 0 NOT NULL,
    digest bytea,
    sealed_at timestamp with time zone,
    problem text,
    problem_at timestamp with time zone,
    CONSTRAINT a_head_has_a_digest CHECK (((seal_id = 0) = (digest IS NULL))),
    CONSTRAINT there_is_one_seal_head_row CHECK (singleton)
)
WITH (fillfactor='20');

COMMENT ON TABLE retention.seal_head IS 'one row: the latest seal, and why sealing fails; locked by who seals';

COMMENT ON COLUMN retention.seal_head.problem IS 'why sealing failed when it was last tried; null: it did not';

CREATE TABLE retention.shared_object (
    bucket text NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    until timestamp with time zone NOT NULL,
    run_id retention.run_id,
    noted_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE retention.shared_object IS 'objects that a run which is not due still needs: no other run''s result on them is flagged';

COMMENT ON COLUMN retention.shared_object.until IS 'when the last of the runs that need it falls due; infinity: nothing says when. A sweep looks again in any case';

COMMENT ON COLUMN retention.shared_object.run_id IS 'one of the runs that need it';

CREATE TABLE retention.spared_object (
    bucket text NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    etag text NOT NULL COLLATE pg_catalog."C",
    kept_by text,
    until timestamp with time zone NOT NULL,
    run_id retention.run_id,
    times integer DEFAULT 1 NOT NULL,
    noted_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT what_is_kept_has_no_etag CHECK (((kept_by IS NOT NULL) = (etag = ''::text)))
);

COMMENT ON TABLE retention.spared_object IS 'objects that were spared for a keeper, or since S3 holds another version than the row names: not flagged before until';

COMMENT ON COLUMN retention.spared_object.etag IS 'the etag that S3 did not find, as _condition has it: a result with another one is flagged again. Empty: it is kept';

COMMENT ON COLUMN retention.spared_object.kept_by IS 'the table of the keeper; null: the object has changed';

COMMENT ON COLUMN retention.spared_object.until IS 'kept: until when (infinity: as long as the keeper has the row); changed: when S3 is asked again';

COMMENT ON COLUMN retention.spared_object.times IS 'how often in a row S3 held another version: the wait doubles';

CREATE TABLE retention.stamp_account (
    kind text NOT NULL,
    results bigint NOT NULL,
    run_ids text[] NOT NULL,
    counted_at timestamp with time zone NOT NULL,
    counted_by text DEFAULT SESSION_USER NOT NULL,
    CONSTRAINT kind_is_known CHECK ((kind = ANY (ARRAY['accounted'::text, 'no_receipt'::text, 'before_adoption'::text, 'receipt_pruned'::text, 'no_stamp'::text, 'no_row'::text, 'another_result'::text, 'returned'::text])))
);

COMMENT ON TABLE retention.stamp_account IS 'what the last retention.account_stamps() has found, by kind; empty: it was never asked';

COMMENT ON COLUMN retention.stamp_account.run_ids IS 'up to ten of the runs; of what is as it should be, none';

CREATE TABLE retention.standing_gone (
    bucket text NOT NULL,
    run_id retention.run_id NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    verify_id uuid NOT NULL
);

COMMENT ON TABLE retention.standing_gone IS 'up to 1,000 live rows of a bucket whose object a standing verify has found gone, as long as they are live';

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
    read_status.newest_run,
    read_status.set_aside,
    read_status.surges,
    read_status.cooling,
    read_status.cooling_until,
    read_status.kept,
    read_status.object_changed,
    read_status.stamps_without_receipt,
    read_status.receipts_without_stamp,
    read_status.receipts_without_row,
    read_status.stamps_counted_at
   FROM retention.read_status() read_status(enabled, live_estimate, due, due_is_capped, flagged, leased, failed, dead, held, cleared_today, spared_today, oldest_due, batches, buckets_paused, last_tick, last_pass, scheduler, scheduler_health, loop_interval_seconds, default_retain_days, policies_pending, policy_pending, due_since, halted, next_pass, next_pass_because, newest_run, set_aside, surges, cooling, cooling_until, kept, object_changed, stamps_without_receipt, receipts_without_stamp, receipts_without_row, stamps_counted_at);

COMMENT ON VIEW retention.status IS 'One row that says how things stand. Cheap at any size.
For observers.';

COMMENT ON COLUMN retention.status.enabled IS 'false: nothing is flagged and nothing is claimed';

COMMENT ON COLUMN retention.status.live_estimate IS 'an estimate of how many results are live: the size of an index at its last vacuum or analyze';

COMMENT ON COLUMN retention.status.due IS 'results past their policy that wait, flagged or not; those not flagged are counted among about 1,000 rows of at most 250 tenants';

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

COMMENT ON COLUMN retention.status.set_aside IS 'late results that wait for retention.release_surge, or for the end of a walk; they are not among the due ones';

COMMENT ON COLUMN retention.status.surges IS 'surges that wait for retention.release_surge';

COMMENT ON COLUMN retention.status.cooling IS 'flagged results that wait for their cool-off, and for nothing else';

COMMENT ON COLUMN retention.status.cooling_until IS 'when the first of them may go; null: there are none';

COMMENT ON COLUMN retention.status.kept IS 'objects of due results that a keeper has, as far as they were claimed before; with object_changed counted up to 10,000';

COMMENT ON COLUMN retention.status.object_changed IS 'objects of due results that stay, since S3 holds another version than the row''s etag names';

COMMENT ON COLUMN retention.status.stamps_without_receipt IS 'of the last retention.account_stamps(): stamps that no receipt accounts for, set by hand or by another program';

COMMENT ON COLUMN retention.status.receipts_without_stamp IS 'of the same: results with a receipt whose row has lost its stamp';

COMMENT ON COLUMN retention.status.receipts_without_row IS 'of the same: results with a receipt whose row the application has deleted since';

COMMENT ON COLUMN retention.status.stamps_counted_at IS 'when that was counted; null: never';

CREATE UNLOGGED TABLE retention.stray (
    verify_id uuid NOT NULL,
    bucket text NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    bytes bigint NOT NULL,
    modified_at timestamp with time zone NOT NULL,
    etag text,
    noted_at timestamp with time zone DEFAULT now() NOT NULL,
    kind text,
    CONSTRAINT stray_kind_is_known CHECK ((kind = ANY (ARRAY['orphan'::text, 'returned'::text])))
);

COMMENT ON TABLE retention.stray IS 'listed keys without a live row that a verify has set aside; empty between runs';

COMMENT ON COLUMN retention.stray.kind IS 'see retention.sort_strays(); null: neither, or not yet sorted';

ALTER TABLE retention.surge_part ALTER COLUMN part_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME retention.surge_part_part_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE retention.surge_release (
    surge_id bigint NOT NULL,
    tenant_id text,
    results bigint NOT NULL,
    released_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    released_by text DEFAULT SESSION_USER NOT NULL
);

COMMENT ON TABLE retention.surge_release IS 'who released how many results of a surge; tenant_id is null where it was all of it';

ALTER TABLE retention.surge ALTER COLUMN surge_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME retention.surge_surge_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE retention.unanswered (
    unanswered_id bigint NOT NULL,
    bucket text NOT NULL,
    run_ids retention.run_id[],
    keys text[] NOT NULL COLLATE pg_catalog."C",
    until timestamp with time zone NOT NULL
);

COMMENT ON TABLE retention.unanswered IS 'results that S3 may still delete until then: a request for them got no answer, or its sender is gone';

COMMENT ON COLUMN retention.unanswered.run_ids IS 'null: orphans, which belong to no run';

ALTER TABLE retention.unanswered ALTER COLUMN unanswered_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME retention.unanswered_unanswered_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE UNLOGGED TABLE retention.verify_listed (
    verify_id uuid NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    bytes bigint NOT NULL,
    modified_at timestamp with time zone NOT NULL,
    etag text
);

COMMENT ON TABLE retention.verify_listed IS 'what a listing out of order or an inventory named, so that it can be read in order; empty between runs';

CREATE UNLOGGED TABLE retention.verify_part (
    verify_id uuid NOT NULL,
    part integer NOT NULL,
    prefix text NOT NULL COLLATE pg_catalog."C",
    after_key text COLLATE pg_catalog."C",
    until_key text COLLATE pg_catalog."C",
    at_key text COLLATE pg_catalog."C",
    token text,
    is_listed boolean DEFAULT false NOT NULL,
    is_compared boolean DEFAULT false NOT NULL,
    listed bigint DEFAULT 0 NOT NULL,
    stamped bigint DEFAULT 0 NOT NULL
);

COMMENT ON TABLE retention.verify_part IS 'the parts that a bucket is listed in: a prefix, or a range of its keys';

COMMENT ON COLUMN retention.verify_part.at_key IS 'everything from after_key up to here is compared; null: nothing yet';

COMMENT ON COLUMN retention.verify_part.token IS 'of a listing out of order: how the store goes on';

CREATE UNLOGGED TABLE retention.verify_stretch (
    stretch_id bigint NOT NULL,
    verify_id uuid NOT NULL,
    part integer NOT NULL,
    after_key text COLLATE pg_catalog."C",
    run_ids text[] NOT NULL,
    keys text[] NOT NULL COLLATE pg_catalog."C",
    dues boolean[] NOT NULL,
    is_gone boolean DEFAULT false NOT NULL
);

COMMENT ON TABLE retention.verify_stretch IS 'live rows whose key was not listed: they are stamped when a second look has not found it either';

COMMENT ON COLUMN retention.verify_stretch.is_gone IS 'the second look has not found them; they are not due, and are stamped at the end where they are not too many';

ALTER TABLE retention.verify_stretch ALTER COLUMN stretch_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME retention.verify_stretch_stretch_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE retention.webhook (
    kind text NOT NULL,
    message_id uuid,
    happened_at timestamp with time zone,
    payload jsonb,
    announcements bigint,
    attempts integer DEFAULT 0 NOT NULL,
    next_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    delivered_at timestamp with time zone,
    problem text
);

COMMENT ON TABLE retention.webhook IS 'one row for each kind of message: the one that is being sent to RETENTION_WEBHOOK_URL, and when the next may be';

COMMENT ON COLUMN retention.webhook.message_id IS 'of the message that is not delivered yet, the same at each attempt; null: there is none';

COMMENT ON COLUMN retention.webhook.announcements IS 'how many announcements it stands for: the latest one is in payload';

COMMENT ON COLUMN retention.webhook.next_at IS 'before then nothing of this kind is sent';

COMMENT ON COLUMN retention.webhook.problem IS 'why the last attempt failed; null: it did not';

ALTER TABLE ONLY retention.pgmigrations ALTER COLUMN id SET DEFAULT nextval('retention.pgmigrations_id_seq'::regclass);

ALTER TABLE ONLY retention.keeper
    ADD CONSTRAINT a_keeper_is_added_once UNIQUE (table_name, key_column);

ALTER TABLE ONLY retention.key_copy
    ADD CONSTRAINT a_verify_copies_keys_once UNIQUE (verify_id, bucket, prefix);

ALTER TABLE ONLY retention.adapter
    ADD CONSTRAINT adapter_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY retention.ahead
    ADD CONSTRAINT ahead_pkey PRIMARY KEY (tenant_key);

ALTER TABLE ONLY retention.allowance
    ADD CONSTRAINT allowance_hold_id_key UNIQUE (hold_id);

ALTER TABLE ONLY retention.allowance
    ADD CONSTRAINT allowance_pkey PRIMARY KEY (allowance_id);

ALTER TABLE ONLY retention.approval
    ADD CONSTRAINT approval_pkey PRIMARY KEY (approval_id);

ALTER TABLE ONLY retention.attention
    ADD CONSTRAINT attention_pkey PRIMARY KEY (attention_id);

ALTER TABLE ONLY retention.batch
    ADD CONSTRAINT batch_pkey PRIMARY KEY (batch_id);

ALTER TABLE ONLY retention.bucket
    ADD CONSTRAINT bucket_pkey PRIMARY KEY (bucket);

ALTER TABLE ONLY retention.canary
    ADD CONSTRAINT canary_pkey PRIMARY KEY (bucket);

ALTER TABLE ONLY retention.change
    ADD CONSTRAINT change_pkey PRIMARY KEY (change_id);

ALTER TABLE ONLY retention.cutoff
    ADD CONSTRAINT cutoff_pkey PRIMARY KEY (flagged_at);

ALTER TABLE ONLY retention.fence
    ADD CONSTRAINT fence_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY retention.gate_state
    ADD CONSTRAINT gate_state_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY retention.heartbeat
    ADD CONSTRAINT heartbeat_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY retention.held_object
    ADD CONSTRAINT held_object_pkey PRIMARY KEY (bucket, key, hold_id);

ALTER TABLE ONLY retention.hold
    ADD CONSTRAINT hold_pkey PRIMARY KEY (hold_id);

ALTER TABLE ONLY retention.identity
    ADD CONSTRAINT identity_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY retention.installed
    ADD CONSTRAINT installed_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY retention.keeper
    ADD CONSTRAINT keeper_pkey PRIMARY KEY (keeper_id);

ALTER TABLE ONLY retention.key_copy
    ADD CONSTRAINT key_copy_pkey PRIMARY KEY (copy_id);

ALTER TABLE ONLY retention.key_stretch
    ADD CONSTRAINT key_stretch_pkey PRIMARY KEY (copy_id, place);

ALTER TABLE ONLY retention.orphan_list
    ADD CONSTRAINT orphan_list_pkey PRIMARY KEY (list_id);

ALTER TABLE ONLY retention.pace
    ADD CONSTRAINT pace_pkey PRIMARY KEY (bucket);

ALTER TABLE ONLY retention.pass_lock
    ADD CONSTRAINT pass_lock_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY retention.pgmigrations
    ADD CONSTRAINT pgmigrations_pkey PRIMARY KEY (id);

ALTER TABLE ONLY retention.policy
    ADD CONSTRAINT policy_pkey PRIMARY KEY (tenant_id);

ALTER TABLE ONLY retention.progress
    ADD CONSTRAINT progress_pkey PRIMARY KEY (tenant_key);

ALTER TABLE ONLY retention.receipt
    ADD CONSTRAINT receipt_pkey PRIMARY KEY (receipt_id);

ALTER TABLE ONLY retention.returned_result
    ADD CONSTRAINT returned_result_pkey PRIMARY KEY (run_id, bucket, key);

ALTER TABLE ONLY retention.scan
    ADD CONSTRAINT scan_pkey PRIMARY KEY (scan_id);

ALTER TABLE ONLY retention.seal_copy
    ADD CONSTRAINT seal_copy_pkey PRIMARY KEY (bucket);

ALTER TABLE ONLY retention.seal_head
    ADD CONSTRAINT seal_head_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY retention.seal
    ADD CONSTRAINT seal_pkey PRIMARY KEY (seal_id);

ALTER TABLE ONLY retention.setting
    ADD CONSTRAINT setting_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY retention.shared_object
    ADD CONSTRAINT shared_object_pkey PRIMARY KEY (bucket, key);

ALTER TABLE ONLY retention.spared_object
    ADD CONSTRAINT spared_object_pkey PRIMARY KEY (bucket, key, etag);

ALTER TABLE ONLY retention.stamp_account
    ADD CONSTRAINT stamp_account_pkey PRIMARY KEY (kind);

ALTER TABLE ONLY retention.stamping
    ADD CONSTRAINT stamping_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY retention.standing_gone
    ADD CONSTRAINT standing_gone_pkey PRIMARY KEY (bucket, run_id);

ALTER TABLE ONLY retention.standing_verify
    ADD CONSTRAINT standing_verify_pkey PRIMARY KEY (bucket);

ALTER TABLE ONLY retention.stray
    ADD CONSTRAINT stray_pkey PRIMARY KEY (verify_id, bucket, key);

ALTER TABLE ONLY retention.surge_part
    ADD CONSTRAINT surge_part_pkey PRIMARY KEY (part_id);

ALTER TABLE ONLY retention.surge
    ADD CONSTRAINT surge_pkey PRIMARY KEY (surge_id);

ALTER TABLE ONLY retention.unanswered
    ADD CONSTRAINT unanswered_pkey PRIMARY KEY (unanswered_id);

ALTER TABLE ONLY retention.variable
    ADD CONSTRAINT variable_pkey PRIMARY KEY (name);

ALTER TABLE ONLY retention.verify_listed
    ADD CONSTRAINT verify_listed_pkey PRIMARY KEY (verify_id, key);

ALTER TABLE ONLY retention.verify_part
    ADD CONSTRAINT verify_part_pkey PRIMARY KEY (verify_id, part);

ALTER TABLE ONLY retention.verify_run
    ADD CONSTRAINT verify_run_pkey PRIMARY KEY (verify_id);

ALTER TABLE ONLY retention.verify_stretch
    ADD CONSTRAINT verify_stretch_pkey PRIMARY KEY (stretch_id);

ALTER TABLE ONLY retention.webhook
    ADD CONSTRAINT webhook_pkey PRIMARY KEY (kind);

CREATE INDEX ahead_due_at ON retention.ahead USING btree (due_at);

CREATE INDEX allowance_open ON retention.allowance USING btree (tenant_key) WHERE (dropped_at IS NULL);

CREATE INDEX approval_open ON retention.approval USING btree (kind, asked_by) WHERE ((used_at IS NULL) AND (withdrawn_at IS NULL));

CREATE INDEX attention_gate ON retention.attention USING btree (kind, attention_id DESC) WHERE (kind = ANY (ARRAY['halted'::text, 'copy'::text, 'resumed'::text]));

CREATE INDEX attention_untold ON retention.attention USING btree (kind, attention_id) WHERE (told_at IS NULL);

CREATE INDEX batch_failed ON retention.batch USING btree (failed_at) WHERE ((failed_at IS NOT NULL) AND (settled_at IS NULL));

CREATE INDEX batch_history ON retention.batch USING btree (settled_at) WHERE ((settled_at IS NOT NULL) AND (cleared = 0));

CREATE INDEX batch_leased ON retention.batch USING btree (bucket) WHERE (lease IS NOT NULL);

CREATE INDEX batch_open ON retention.batch USING btree (oldest) WHERE (settled_at IS NULL);

CREATE INDEX batch_receipt_range ON retention.batch USING gist (tstzrange(oldest, newest, '[]'::text)) WHERE ((settled_at IS NOT NULL) AND (cleared > 0));

CREATE INDEX batch_seal ON retention.batch USING btree (seal_id, settled_at) WHERE ((settled_at IS NOT NULL) AND (cleared > 0));

CREATE INDEX batch_settled ON retention.batch USING btree (settled_at) WHERE (settled_at IS NOT NULL);

CREATE INDEX batch_unstamped ON retention.batch USING btree (visible_at, batch_id) WHERE ((deleted_at IS NOT NULL) AND (settled_at IS NULL));

CREATE INDEX batch_visible ON retention.batch USING btree (bucket, visible_at, batch_id) WHERE ((settled_at IS NULL) AND (dead_at IS NULL));

CREATE INDEX bucket_lacks_objects ON retention.bucket USING btree (bucket) WHERE (((missing * 2) > looked) AND (missing_confirmed_at IS NULL) AND ((looked >= 5) OR (missing_keys[1] ~ '^(/|[a-z0-9]+://)'::text)));

CREATE INDEX canary_batch ON retention.canary USING btree (batch_id);

CREATE INDEX change_at ON retention.change USING btree (at);

CREATE INDEX change_run ON retention.change USING btree (run_id, change_id) WHERE (run_id IS NOT NULL);

CREATE INDEX change_seal ON retention.change USING btree (seal_id, change_id);

CREATE INDEX change_subject ON retention.change USING btree (subject, name, change_id);

CREATE INDEX change_tenant ON retention.change USING btree (tenant_id, change_id) WHERE (tenant_id IS NOT NULL);

CREATE INDEX held_object_hold ON retention.held_object USING btree (hold_id);

CREATE INDEX hold_object ON retention.hold USING btree (bucket, key) WHERE (key IS NOT NULL);

CREATE INDEX hold_released ON retention.hold USING btree (released_at);

CREATE INDEX hold_run ON retention.hold USING btree (run_id) WHERE (run_id IS NOT NULL);

CREATE INDEX hold_tenant ON retention.hold USING btree (tenant_id) WHERE (tenant_id IS NOT NULL);

CREATE INDEX key_stretch_in_order ON retention.key_stretch USING btree (copy_id, last_key, place);

CREATE INDEX lateness_at ON retention.lateness USING btree (at);

CREATE INDEX past_work_batch ON retention.past_work USING btree (batch_id, since);

CREATE INDEX past_work_range ON retention.past_work USING gist (tstzrange(oldest, newest, '[]'::text)) WHERE (run_ids IS NOT NULL);

CREATE INDEX past_work_until ON retention.past_work USING btree (until);

CREATE INDEX policy_newest ON retention.policy USING btree (set_at);

CREATE INDEX policy_pending ON retention.policy USING btree (pending_at) WHERE (pending_retain IS NOT NULL);

CREATE INDEX receipt_seal ON retention.receipt USING btree (seal_id, settled_at);

CREATE INDEX receipt_settled ON retention.receipt USING btree (settled_at);

CREATE INDEX scan_started_at ON retention.scan USING btree (started_at);

CREATE INDEX seal_unpruned ON retention.seal USING btree (sealed_at) WHERE (pruned_at IS NULL);

CREATE INDEX selection_run ON retention.selection USING btree (run_id);

CREATE INDEX spared_object_noted_at ON retention.spared_object USING btree (noted_at);

CREATE INDEX spared_object_until ON retention.spared_object USING btree (until);

CREATE INDEX surge_part_looked_at ON retention.surge_part USING btree (looked_at);

CREATE INDEX surge_part_oldest ON retention.surge_part USING btree (oldest);

CREATE INDEX surge_part_surge ON retention.surge_part USING btree (surge_id);

CREATE INDEX unanswered_until ON retention.unanswered USING btree (until);

CREATE UNIQUE INDEX verify_run_resumed ON retention.verify_run USING btree (kind, bucket, prefixes) WHERE (kind = ANY (ARRAY['repair'::text, 'dry run'::text, 'orphans'::text]));

CREATE INDEX verify_stretch_run ON retention.verify_stretch USING btree (verify_id, part, stretch_id);

CREATE TRIGGER announce_batches AFTER INSERT ON retention.batch REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION retention._announce_batches();

CREATE TRIGGER announce_change AFTER UPDATE ON retention.batch REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION retention._announce_change();

CREATE TRIGGER apply_cool_off AFTER UPDATE OF cool_off ON retention.setting FOR EACH ROW EXECUTE FUNCTION retention._apply_cool_off();

CREATE TRIGGER guard_approval BEFORE INSERT OR UPDATE ON retention.approval FOR EACH ROW EXECUTE FUNCTION retention._guard_approval();

CREATE TRIGGER guard_changed_held_object AFTER UPDATE ON retention.held_object REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION retention._guard_held_object();

CREATE TRIGGER guard_held_object AFTER DELETE ON retention.held_object REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION retention._guard_held_object();

CREATE TRIGGER guard_hold BEFORE DELETE OR UPDATE ON retention.hold FOR EACH ROW EXECUTE FUNCTION retention._guard_hold();

CREATE TRIGGER guard_holds BEFORE TRUNCATE ON retention.hold FOR EACH STATEMENT EXECUTE FUNCTION retention._guard_holds();

CREATE TRIGGER guard_keeper BEFORE DELETE OR UPDATE OF table_name, table_oid, key_column, bucket_column, until_column, question ON retention.keeper FOR EACH ROW EXECUTE FUNCTION retention._guard_keeper();

CREATE TRIGGER guard_new_purge BEFORE INSERT ON retention.bucket FOR EACH ROW WHEN ((new.on_versioned = 'purge'::text)) EXECUTE FUNCTION retention._guard_purge();

CREATE TRIGGER guard_policy BEFORE INSERT OR DELETE OR UPDATE ON retention.policy FOR EACH ROW EXECUTE FUNCTION retention._guard_policy();

CREATE TRIGGER guard_purge BEFORE UPDATE OF on_versioned ON retention.bucket FOR EACH ROW WHEN (((new.on_versioned = 'purge'::text) AND (old.on_versioned IS DISTINCT FROM new.on_versioned))) EXECUTE FUNCTION retention._guard_purge();

CREATE TRIGGER guard_seal BEFORE DELETE OR UPDATE ON retention.seal FOR EACH ROW EXECUTE FUNCTION retention._guard_seal();

CREATE TRIGGER guard_sealed BEFORE DELETE OR UPDATE ON retention.batch FOR EACH ROW WHEN ((old.seal_id IS NOT NULL)) EXECUTE FUNCTION retention._guard_sealed();

CREATE TRIGGER guard_sealed BEFORE DELETE OR UPDATE ON retention.change FOR EACH ROW EXECUTE FUNCTION retention._guard_sealed();

CREATE TRIGGER guard_sealed BEFORE DELETE OR UPDATE ON retention.receipt FOR EACH ROW WHEN ((old.seal_id IS NOT NULL)) EXECUTE FUNCTION retention._guard_sealed();

CREATE TRIGGER guard_setting BEFORE DELETE OR UPDATE ON retention.setting FOR EACH ROW EXECUTE FUNCTION retention._guard_setting();

CREATE TRIGGER guard_surge BEFORE UPDATE OF closed_at ON retention.surge FOR EACH ROW EXECUTE FUNCTION retention._guard_surge();

CREATE TRIGGER guard_surge_release BEFORE INSERT ON retention.surge_release FOR EACH ROW EXECUTE FUNCTION retention._guard_surge_release();

CREATE TRIGGER note_default_policy AFTER INSERT OR UPDATE OF retain ON retention.policy FOR EACH ROW WHEN ((new.tenant_id = '*'::text)) EXECUTE FUNCTION retention._note_setting();

CREATE TRIGGER note_session BEFORE UPDATE OF set_at, missing_confirmed_at ON retention.bucket FOR EACH ROW EXECUTE FUNCTION retention._note_session();

CREATE TRIGGER note_setting AFTER UPDATE OF enabled, loop_interval, batch_size, default_bucket ON retention.setting FOR EACH ROW EXECUTE FUNCTION retention._note_setting();

CREATE TRIGGER record_change AFTER INSERT ON retention.allowance FOR EACH ROW EXECUTE FUNCTION retention._record_change();

CREATE TRIGGER record_change AFTER INSERT OR DELETE ON retention.approval FOR EACH ROW EXECUTE FUNCTION retention._record_change();

CREATE TRIGGER record_change AFTER INSERT OR DELETE ON retention.bucket FOR EACH ROW EXECUTE FUNCTION retention._record_change();

CREATE TRIGGER record_change AFTER INSERT OR DELETE ON retention.hold FOR EACH ROW EXECUTE FUNCTION retention._record_change();

CREATE TRIGGER record_change AFTER INSERT OR DELETE ON retention.keeper FOR EACH ROW EXECUTE FUNCTION retention._record_change();

CREATE TRIGGER record_change AFTER INSERT OR DELETE ON retention.policy FOR EACH ROW EXECUTE FUNCTION retention._record_change();

CREATE TRIGGER record_change AFTER INSERT OR DELETE ON retention.setting FOR EACH ROW EXECUTE FUNCTION retention._record_change();

CREATE TRIGGER record_change AFTER INSERT OR DELETE ON retention.surge FOR EACH ROW EXECUTE FUNCTION retention._record_change();

CREATE TRIGGER record_change AFTER INSERT OR DELETE ON retention.surge_release FOR EACH ROW EXECUTE FUNCTION retention._record_change();

CREATE TRIGGER record_deletion AFTER DELETE ON retention.allowance FOR EACH ROW WHEN ((old.dropped_at IS NULL)) EXECUTE FUNCTION retention._record_change();

CREATE TRIGGER record_truncate BEFORE TRUNCATE ON retention.allowance FOR EACH STATEMENT EXECUTE FUNCTION retention._record_truncate();

CREATE TRIGGER record_truncate BEFORE TRUNCATE ON retention.approval FOR EACH STATEMENT EXECUTE FUNCTION retention._record_truncate();

CREATE TRIGGER record_truncate BEFORE TRUNCATE ON retention.bucket FOR EACH STATEMENT EXECUTE FUNCTION retention._record_truncate();

CREATE TRIGGER record_truncate BEFORE TRUNCATE ON retention.hold FOR EACH STATEMENT EXECUTE FUNCTION retention._record_truncate();

CREATE TRIGGER record_truncate BEFORE TRUNCATE ON retention.keeper FOR EACH STATEMENT EXECUTE FUNCTION retention._record_truncate();

CREATE TRIGGER record_truncate BEFORE TRUNCATE ON retention.policy FOR EACH STATEMENT EXECUTE FUNCTION retention._record_truncate();

CREATE TRIGGER record_truncate BEFORE TRUNCATE ON retention.setting FOR EACH STATEMENT EXECUTE FUNCTION retention._record_truncate();

CREATE TRIGGER record_truncate BEFORE TRUNCATE ON retention.surge FOR EACH STATEMENT EXECUTE FUNCTION retention._record_truncate();

CREATE TRIGGER record_truncate BEFORE TRUNCATE ON retention.surge_release FOR EACH STATEMENT EXECUTE FUNCTION retention._record_truncate();

CREATE TRIGGER record_update AFTER UPDATE ON retention.allowance FOR EACH ROW WHEN ((((to_jsonb(old.*) - '{results,walk_at,dropped_at}'::text[]) IS DISTINCT FROM (to_jsonb(new.*) - '{results,walk_at,dropped_at}'::text[])) OR (new.results > old.results) OR ((new.dropped_at IS NULL) AND (old.dropped_at IS NOT NULL)))) EXECUTE FUNCTION retention._record_change();

CREATE TRIGGER record_update AFTER UPDATE ON retention.approval FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION retention._record_change();

CREATE TRIGGER record_update AFTER UPDATE ON retention.bucket FOR EACH ROW WHEN (((((((((((((((((old.bucket IS DISTINCT FROM new.bucket) OR (old.on_versioned IS DISTINCT FROM new.on_versioned)) OR (old.keys_per_request IS DISTINCT FROM new.keys_per_request)) OR (old.deletes IS DISTINCT FROM new.deletes)) OR (old.checksum IS DISTINCT FROM new.checksum)) OR (old.addressing IS DISTINCT FROM new.addressing)) OR (old.conditional IS DISTINCT FROM new.conditional)) OR (old.max_per_second IS DISTINCT FROM new.max_per_second)) OR (old.max_in_flight IS DISTINCT FROM new.max_in_flight)) OR (old.set_at IS DISTINCT FROM new.set_at)) OR (old.set_by IS DISTINCT FROM new.set_by)) OR (old.set_session IS DISTINCT FROM new.set_session)) OR (old.missing_confirmed_at IS DISTINCT FROM new.missing_confirmed_at)) OR (old.missing_confirmed_by IS DISTINCT FROM new.missing_confirmed_by)) OR (old.missing_confirmed_session IS DISTINCT FROM new.missing_confirmed_session)) OR ((new.learned = '{}'::jsonb) AND (old.learned <> '{}'::jsonb)) OR ((new.looked_in IS NULL) AND (old.looked_in IS NOT NULL)))) EXECUTE FUNCTION retention._record_change();

CREATE TRIGGER record_update AFTER UPDATE ON retention.hold FOR EACH ROW WHEN ((((to_jsonb(old.*) - '{bucket,key,objects}'::text[]) IS DISTINCT FROM (to_jsonb(new.*) - '{bucket,key,objects}'::text[])) OR ((old.key IS NOT NULL) AND ((old.bucket IS DISTINCT FROM new.bucket) OR (old.key IS DISTINCT FROM new.key))))) EXECUTE FUNCTION retention._record_change();

CREATE TRIGGER record_update AFTER UPDATE ON retention.keeper FOR EACH ROW WHEN (((to_jsonb(old.*) - '{question,seen}'::text[]) IS DISTINCT FROM (to_jsonb(new.*) - '{question,seen}'::text[]))) EXECUTE FUNCTION retention._record_change();

CREATE TRIGGER record_update AFTER UPDATE ON retention.policy FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION retention._record_change();

CREATE TRIGGER record_update AFTER UPDATE ON retention.setting FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION retention._record_change();

CREATE TRIGGER record_update AFTER UPDATE ON retention.surge FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION retention._record_change();

CREATE TRIGGER record_update AFTER UPDATE ON retention.surge_release FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION retention._record_change();

CREATE TRIGGER refuse_deleting BEFORE DELETE ON retention.adapter FOR EACH ROW EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_deleting BEFORE DELETE ON retention.fence FOR EACH ROW EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_deleting BEFORE DELETE ON retention.gate_state FOR EACH ROW EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_deleting BEFORE DELETE ON retention.heartbeat FOR EACH ROW EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_deleting BEFORE DELETE ON retention.identity FOR EACH ROW EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_deleting BEFORE DELETE ON retention.installed FOR EACH ROW EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_deleting BEFORE DELETE ON retention.pass_lock FOR EACH ROW EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_deleting BEFORE DELETE ON retention.seal_head FOR EACH ROW EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_deleting BEFORE DELETE ON retention.setting FOR EACH ROW EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_deleting BEFORE DELETE ON retention.stamping FOR EACH ROW EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_emptying BEFORE TRUNCATE ON retention.adapter FOR EACH STATEMENT EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_emptying BEFORE TRUNCATE ON retention.batch FOR EACH STATEMENT EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_emptying BEFORE TRUNCATE ON retention.change FOR EACH STATEMENT EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_emptying BEFORE TRUNCATE ON retention.fence FOR EACH STATEMENT EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_emptying BEFORE TRUNCATE ON retention.gate_state FOR EACH STATEMENT EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_emptying BEFORE TRUNCATE ON retention.heartbeat FOR EACH STATEMENT EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_emptying BEFORE TRUNCATE ON retention.held_object FOR EACH STATEMENT EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_emptying BEFORE TRUNCATE ON retention.identity FOR EACH STATEMENT EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_emptying BEFORE TRUNCATE ON retention.installed FOR EACH STATEMENT EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_emptying BEFORE TRUNCATE ON retention.keeper FOR EACH STATEMENT EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_emptying BEFORE TRUNCATE ON retention.pass_lock FOR EACH STATEMENT EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_emptying BEFORE TRUNCATE ON retention.policy FOR EACH STATEMENT EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_emptying BEFORE TRUNCATE ON retention.receipt FOR EACH STATEMENT EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_emptying BEFORE TRUNCATE ON retention.seal FOR EACH STATEMENT EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_emptying BEFORE TRUNCATE ON retention.seal_head FOR EACH STATEMENT EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_emptying BEFORE TRUNCATE ON retention.setting FOR EACH STATEMENT EXECUTE FUNCTION retention._refuse_emptying();

CREATE TRIGGER refuse_emptying BEFORE TRUNCATE ON retention.stamping FOR EACH STATEMENT EXECUTE FUNCTION retention._refuse_emptying();

ALTER TABLE ONLY retention.surge_part
    ADD CONSTRAINT surge_part_surge_id_fkey FOREIGN KEY (surge_id) REFERENCES retention.surge(surge_id);

ALTER TABLE ONLY retention.surge_release
    ADD CONSTRAINT surge_release_surge_id_fkey FOREIGN KEY (surge_id) REFERENCES retention.surge(surge_id);

ALTER TABLE ONLY retention.verify_part
    ADD CONSTRAINT verify_part_verify_id_fkey FOREIGN KEY (verify_id) REFERENCES retention.verify_run(verify_id) ON DELETE CASCADE;

ALTER TABLE ONLY retention.verify_stretch
    ADD CONSTRAINT verify_stretch_verify_id_fkey FOREIGN KEY (verify_id) REFERENCES retention.verify_run(verify_id) ON DELETE CASCADE;
