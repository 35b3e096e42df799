/*
The report on a table that is to be adopted, or was: all that is missing or odd at once, each with the statement that
helps. `retention init`, `migrate up` and `retention doctor` show it. It changes nothing, names no type of the adopted
table and nothing of this schema but what begins with an underscore in 02 and here: `retention init` runs it as
temporary functions, before there is a schema.
*/

-- Why the scheduler cannot be had, and what to install or set; no row: it can. p_scheduler: 'pg_cron' or
-- 'internal'; p_elsewhere: pg_cron lives in another database. Changes nothing.
create or replace function retention._scheduler_fault(p_scheduler text, p_elsewhere boolean)
returns table (code text, message text, hint text)
language plpgsql
stable
as $$
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

-- Stops the migration before anything is done when the scheduler cannot be had, and creates its extension where
-- only that is missing. Raises object_not_in_prerequisite_state with what to install or set.
create or replace function retention._check_scheduler(p_scheduler text, p_elsewhere boolean)
returns void
language plpgsql
as $$
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

-- Stops the migration before anything is done when a role that is to get rights does not exist. p_variable: who
-- names it.
-- Raises undefined_object.
create or replace function retention._check_role(p_role text, p_variable text default 'RETENTION_ROLE')
returns void
language plpgsql
as $$
begin
  if p_role <> '' and not exists (select from pg_roles where rolname = p_role) then
    raise exception using
      errcode = 'undefined_object',
      message = format('%s names the role %s, which does not exist', p_variable, p_role),
      hint = format('create role %I login; then migrate up again.', p_role);
  end if;
end
$$;

-- Whether row-level security hides rows of a table from p_role: from the owner of the adapter view, and so from
-- every check that nothing else needs an object.
create or replace function retention._hides_rows(p_table oid, p_role oid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select c.relrowsecurity
    and not (r.rolsuper or r.rolbypassrls)
    and (c.relforcerowsecurity or not pg_has_role(p_role, c.relowner, 'usage'))
  from pg_class c
  join pg_roles r on r.oid = p_role
  where c.oid = p_table
$$;

-- The subscription that fills a table of this database from another one; null: none does.
create or replace function retention._subscription_of(p_table oid)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select s.subname
  from pg_subscription_rel r
  join pg_subscription s on s.oid = r.srsubid
  where r.srrelid in (select t.relid from pg_partition_tree(p_table) t union select p_table)
  limit 1
$$;

-- Counts over the first 10,000 rows of a table, so that the report costs the same whatever its size. p_found: its
-- columns, as _find_columns finds them. Names runs and no keys: a key may be an address with a signature.
create or replace function retention._sample_rows(p_table regclass, p_found jsonb)
returns table (
  looked_at bigint,
  with_object bigint,
  completed bigint,
  statuses text,
  commonest text,
  addresses bigint,
  slashes bigint,
  empty_keys bigint,
  long_keys bigint,
  long_ids bigint,
  repeated text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
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
$$;

-- What the rows of a table say: ids, statuses, keys.
create or replace function retention._report_rows(p_table regclass, p_found jsonb)
returns table (name text, state text, found text, remedy text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
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

-- What the catalog says of a table: storage, partitions, replication, triggers, collations. p_owner: who owns the
-- adapter view, or is to own it.
create or replace function retention._report_catalog(p_table regclass, p_found jsonb, p_owner oid)
returns table (name text, state text, found text, remedy text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
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
$$;

-- The report before a table is adopted, failed ones first. p_elsewhere: pg_cron lives in another database.
create or replace function retention._report(
  p_table text,
  p_columns text,
  p_scheduler text,
  p_elsewhere boolean,
  p_role text,
  p_operator_role text default '',
  p_observer_role text default ''
)
returns table (name text, state text, found text, remedy text, code text)
language plpgsql
stable
as $$
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

-- Stops the migration before anything is done when anything of the report has failed, and says all of it.
-- Raises what failed first, with the messages and remedies of all.
create or replace function retention._check_adoption(
  p_table text,
  p_columns text,
  p_scheduler text,
  p_elsewhere boolean,
  p_role text
)
returns void
language plpgsql
as $$
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
