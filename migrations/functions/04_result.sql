/*
The views over the application's table.

retention.result is a plain column-renaming view over one table, hence updatable, lockable and inlined, so
that the application's indexes are used. Its owner reads the table; others need rights on the view's columns
only, which makes row-level security on the table a non-event.

retention._live is the one place that says what due means. Both are made from the mapping that was adopted, and
can be taken away and put back while the application changes its table.
*/

-- Makes retention.result and retention._live over the adopted table, or makes them again. Locks nothing of the
-- application's. Called by attach and when the schema is installed.
create or replace function retention._make_views()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $make$
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
$make$;

-- Takes away the views over the application's table, so that the application's own migration can alter, swap
-- or rename it. Nothing is flagged or claimed until retention.attach() or `retention migrate up`. Holds,
-- policies, batches and receipts stay.
-- For the owner of the schema.
-- Locks both views: it waits for statements that use them.
create or replace function retention.detach()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update retention.adapter
  set detached_at = coalesce(detached_at, clock_timestamp());
  drop view if exists retention._live, retention.result;
  perform retention._note_gate();
end
$$;

-- Puts the views back over the table that was adopted. Where the table has changed since, `retention migrate
-- up` adopts it again.
-- For the owner of the schema.
-- Locks the row of retention.adapter.
-- Raises object_not_in_prerequisite_state where another table has its name now, or where a mapped column has
-- another name or type.
create or replace function retention.attach()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
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

-- Whether a text is what was read from it: numeric rounds and name cuts off without a word. p_type: the type it was
-- read as; p_read: that, as text.
create or replace function retention._is_read_whole(p_type oid, p_text text, p_read text)
returns boolean
language sql
immutable
return case p_type
  when 'numeric'::regtype then p_text::numeric = p_read::numeric
  when 'name'::regtype then p_text = p_read
  else true
end;

-- A run id out of text. Raises invalid_parameter_value for what cannot be one, and for an empty text.
create or replace function retention._read_run_id(p_run_id text)
returns retention.run_id
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
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

-- A tenant id out of text, compared from then on as its column compares. Raises invalid_parameter_value for what
-- cannot be one, and for an empty text.
create or replace function retention._read_tenant_id(p_tenant_id text)
returns retention.tenant_id
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
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

-- Raises RR002 where the view reads another table than the one that has its name now,
-- so that no stamp lands in a table that was renamed away. Asked after the rows were written: from then on no session
-- can rename it before this transaction has ended.
create or replace function retention._check_table()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
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

-- Why nothing may be claimed from the adopted table as it is: another one has its name, its rows are hidden from
-- us, it is filled from another database, it has become what cannot be worked on, or an index is missing. No row: it
-- may. Asked by the gate at every claim: a few look-ups in catalogs where nothing is wrong.
create or replace function retention._table_reasons()
returns table (reason text, because text, remedy text)
language plpgsql
stable
as $$
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

select retention._make_views();
