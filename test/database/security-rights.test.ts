import type pg from 'pg';
import { beforeAll, expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { LISTENER, OWNER, STRANGER, useGuarded } from '../support/rights-roles.ts';

const DENIED = { code: '42501' };

/**
 * The SQL interface: what the listener's role may call. This list is the only one; what is not here begins
 * with an underscore, or is the owner's alone.
 */
const CALLABLE = [
  'active_holds(integer)',
  'activity(integer)',
  'adopted_table()',
  'adoption_report()',
  'begin_verify()',
  'busy_buckets(integer)',
  'claim(uuid,interval,text,bigint[],text,text[])',
  'clock_state()',
  'compare_listing(uuid,text,text,text,text,text[],bigint[],timestamp with time zone[],timestamp with time zone)',
  'configure(jsonb)',
  'confirm_fence(uuid,text,text,double precision)',
  'confirm_missing(text,text)',
  'confirm_policy(text,bigint)',
  'count_due(text,text[],interval,boolean,bigint)',
  'count_postponed(bigint[])',
  'cron_state()',
  'dead_by_code()',
  'end_cutoff(bigint[])',
  'explain(text)',
  'fence()',
  'fence_losses(jsonb)',
  'find_tenant(text)',
  'flag_expired(integer,text,boolean,boolean)',
  'flag_selected(text,text[],interval,boolean,bigint,integer)',
  'forget_habits(text,boolean)',
  'forget_strays(uuid)',
  'gate(text)',
  'halt(text,text)',
  'has_key_under(text)',
  'health()',
  'index_state()',
  'judge_fence(jsonb,text,uuid[])',
  'known_buckets(text,integer)',
  'learn_habits(text,jsonb,text)',
  'list_due(text,text[],interval,boolean,bigint)',
  'list_holds(boolean)',
  'list_policies()',
  'missing_rights(text)',
  'next_orphans(uuid,text,text,interval,integer)',
  'next_pass()',
  'note_bucket(text,text)',
  'note_look(text,text,integer,text[],boolean)',
  'pending_policies(integer)',
  'place_hold(text,text,text,interval,text)',
  'place_holds(text,text[],text[],interval,text)',
  'postpone(bigint,uuid,text,text,text[])',
  'preview_policy(text,interval)',
  'pulse(text,text[])',
  'read_status()',
  'release_hold(bigint,text)',
  'release_holds(bigint[],text)',
  'renew_fence(uuid,text,boolean)',
  'requeue_returned(uuid,timestamp with time zone)',
  'resume()',
  'retry(text[],text,text,text)',
  'sample_keys(text,integer)',
  'set_default_bucket(text)',
  'set_habits(text,jsonb,text,boolean)',
  'set_policy(text,interval,boolean,boolean)',
  'settle(bigint,uuid,text[],boolean,jsonb,integer,text[])',
  'sort_strays(uuid,timestamp with time zone,interval)',
  'split(bigint,uuid,text[])',
  'stamp_again(text)',
  'stamp_gone(text,text[],text[])',
  'tenants_due(integer,integer)',
  'tick(text)',
  'tick_jobs(text)',
  'times_ahead()',
  'troubles(integer)',
  'try_stamp()',
  'undated(integer)',
  'unset_policy(text,boolean)',
  'unsettled(bigint[],text,text[],text[])',
  'unstamp(text)',
  'version()',
  'vitals(integer)',
  'wait_causes(integer)',
  'working_listeners(integer)',
].map((signature) => `retention.${signature}`);

const READABLE = (
  'adapter batch bucket cutoff fence flagged gate_state heartbeat hold identity installed pass_lock pgmigrations policy ' +
  'progress result scan selection setting shared_object stamping status stray unanswered'
)
  .split(' ')
  .map((name) => `retention.${name}`);

const MATRIX = `
select c.oid::regclass::text || ': ' || string_agg(p.privilege, ', ' order by p.privilege) as may
from pg_class c
cross join unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) as p (privilege)
where (c.relnamespace = 'retention'::regnamespace or c.oid = 'public.runs'::regclass)
  and c.relkind in ('r', 'p', 'v', 'm', 'f')
  and has_table_privilege($1, c.oid, p.privilege)
group by c.oid
union all
select c.oid::regclass::text || ': ' || p.privilege
from pg_class c
cross join unnest(array['USAGE', 'SELECT', 'UPDATE']) as p (privilege)
where c.relnamespace = 'retention'::regnamespace
  and c.relkind = 'S'
  and has_sequence_privilege($1, c.oid, p.privilege)
order by may`;

// What a column may beyond its table.
const COLUMNS = `
select format('%s.%I: %s', c.oid::regclass, a.attname, p.privilege) as may
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
cross join unnest(array['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) as p (privilege)
where (c.relnamespace = 'retention'::regnamespace or c.oid = 'public.runs'::regclass)
  and c.relkind in ('r', 'p', 'v', 'm', 'f')
  and has_column_privilege($1, c.oid, a.attnum, p.privilege)
  and not has_table_privilege($1, c.oid, p.privilege)
order by 1`;

const FUNCTIONS = `
select p.oid::regprocedure::text as may
from pg_proc p
where p.pronamespace = 'retention'::regnamespace
  and has_function_privilege($1, p.oid, 'execute')
order by 1`;

describeDatabase('promise 10: by the catalog', () => {
  const database = useGuarded();
  const may = async (sql: string, role: string): Promise<string[]> =>
    (await database().query<{ may: string }>(sql, [role])).map((row) => row.may);

  test("the listener's role reads the schema and has nothing more: what is stamped, functions stamp", async () => {
    expect(await may(MATRIX, LISTENER)).toEqual(READABLE.map((name) => `${name}: SELECT`));
    expect(await may(COLUMNS, LISTENER)).toEqual([]);
  });

  test("the listener's role may call these functions and no other", async () => {
    expect(await may(FUNCTIONS, LISTENER)).toEqual(CALLABLE);
  });

  test('a stranger may nothing, and PUBLIC neither', async () => {
    for (const sql of [MATRIX, COLUMNS, FUNCTIONS]) {
      expect(await may(sql, STRANGER)).toEqual([]);
      expect(await may(sql, 'public')).toEqual([]);
    }
  });

  test.each([LISTENER, STRANGER])(
    '%s is no member of another role, owns nothing and makes nothing',
    async (role) => {
      const [row] = await database().query(
        `select
          (select count(*) from pg_auth_members m where m.member = r.oid)::int as memberships,
          (select count(*) from pg_shdepend d where d.refobjid = r.oid and d.deptype = 'o')::int as owned,
          has_schema_privilege(r.oid, 'retention', 'create') as makes,
          has_database_privilege(r.oid, current_database(), 'create') as makes_schemas,
          rolsuper or rolcreaterole or rolbypassrls or rolreplication as is_mighty
        from pg_roles r where rolname = $1`,
        [role],
      );
      expect(row).toEqual({
        memberships: 0,
        owned: 0,
        makes: false,
        makes_schemas: false,
        is_mighty: false,
      });
    },
  );
});

/** A statement for each way to reach past one's rights. */
const ATTEMPTS = [
  // The application's table.
  'select * from public.runs',
  'select ctid from public.runs',
  'select r from public.runs r',
  'select count(*) from public.runs',
  'table public.runs',
  'copy public.runs to stdout',
  'copy (select * from public.runs) to stdout',
  `copy public.runs to program 'true'`,
  'update public.runs set result_cleared_at = null',
  'update public.runs set updated_at = now()',
  'delete from public.runs',
  'truncate public.runs',
  `insert into public.runs (tenant_id, status) values ('a', 'b')`,
  `merge into public.runs r using (select 1) s on true when matched then delete`,
  'lock table public.runs in access share mode',
  'lock table public.runs in access exclusive mode',
  'create trigger spy before update on public.runs for each row execute function suppress_redundant_updates_trigger()',
  'create rule spy as on update to public.runs do instead nothing',
  'create index on public.runs (tenant_id)',
  'create policy open on public.runs using (true)',
  'alter table public.runs disable row level security',
  'alter table public.runs disable trigger all',
  'alter table public.runs owner to current_user',
  'comment on table public.runs is null',
  'create table pg_temp.child () inherits (public.runs)',
  'create table public.mine (r uuid references public.runs)',
  `select * from pg_catalog.pg_statistic`,
  // The view beyond its columns.
  'delete from retention.result',
  `insert into retention.result (key) values ('a')`,
  ...['run_id', 'tenant_id', 'status', 'completed_at', 'bucket', 'key', 'cleared_at'].map(
    (column) => `update retention.result set ${column} = null`,
  ),
  'lock table retention.result in exclusive mode',
  `create or replace view retention.result as select * from public.runs`,
  'alter view retention.result set (security_invoker = true)',
  'create trigger spy instead of update on retention.result for each row execute function suppress_redundant_updates_trigger()',
  'alter view retention.result owner to current_user',
  'select * from retention._live',
  'select retention.detach()',
  'select retention.attach()',
  'select retention.accept_fence()',
  'update retention.identity set timeline = 2',
  'delete from retention.identity',
  'update retention.fence set lost_at = null, lost_because = null',
  // The rules.
  'create schema authorization current_user',
  'create table retention.mine ()',
  'create view retention.mine as select 1',
  'create function retention.mine() returns int language sql as $$ select 1 $$',
  `create or replace function retention.tick(p_by text default 'pg_cron') returns integer language sql as $$ select 1 $$`,
  'alter function retention.claim(uuid, interval, text, bigint[], text, text[]) reset search_path',
  'alter function retention.claim(uuid, interval, text, bigint[], text, text[]) security invoker',
  'alter function retention.claim(uuid, interval, text, bigint[], text, text[]) set search_path = public',
  'drop function retention.tick(text)',
  'alter schema retention owner to current_user',
  'drop schema retention cascade',
  'alter domain retention.run_id drop not null',
  'alter table retention.batch disable trigger all',
  'alter table retention.policy drop constraint retain_is_at_least_one_day',
  'lock table retention.hold in exclusive mode',
  'lock table retention.heartbeat in row exclusive mode',
  'select from retention.heartbeat for update',
  'select from retention.batch for key share',
  `select nextval('retention.batch_batch_id_seq')`,
  `select setval('retention.batch_batch_id_seq', 1)`,
  'alter sequence retention.batch_batch_id_seq restart',
  // Other roles and the server.
  `set role ${OWNER}`,
  `set session authorization ${OWNER}`,
  `set role postgres`,
  `grant ${OWNER} to current_user`,
  `alter role ${OWNER} superuser`,
  'create role more login',
  'grant select on public.runs to current_user',
  'grant execute on function retention._stamp(text, retention.run_id[], text[], timestamptz, timestamptz) to current_user',
  'set session_replication_role = replica',
  `select pg_read_file('PG_VERSION')`,
  `select pg_ls_dir('.')`,
  `select lo_import('/etc/passwd')`,
  `create extension pg_cron`,
  `create event trigger spy on ddl_command_start execute function suppress_redundant_updates_trigger()`,
  `create publication spy for table public.runs`,
];

describeDatabase('promise 10: by trying', () => {
  const database = useGuarded();
  let listener: pg.Client;
  let stranger: pg.Client;

  beforeAll(async () => {
    listener = await database().connectAs(LISTENER);
    stranger = await database().connectAs(STRANGER);
  });

  /** Tries a statement and leaves the session as it was; returns the code of the refusal. */
  async function attempt(client: pg.Client, sql: string): Promise<string | undefined> {
    await client.query('begin');
    try {
      await client.query(sql);
      return undefined;
    } catch (error) {
      return (error as { readonly code?: string }).code;
    } finally {
      await client.query('rollback');
    }
  }

  test.each(ATTEMPTS)('nobody but the owner does this: %s', async (sql) => {
    const before = await database().insertRun();
    for (const client of [listener, stranger]) {
      expect(await attempt(client, sql)).toBe(DENIED.code);
    }
    expect(await database().run(before)).toMatchObject({ result_cleared_at: null });
  });

  test('a stranger does not even look', async () => {
    const relations = await database().query<{ name: string }>(
      `select oid::regclass::text as name from pg_class
      where relnamespace = 'retention'::regnamespace and relkind in ('r', 'v', 'S')`,
    );
    expect(relations.length).toBeGreaterThan(15);
    for (const { name } of relations) {
      await expect(stranger.query(`select * from ${name}`), name).rejects.toMatchObject(DENIED);
    }
  });

  test("each of the owner's own functions refuses the listener's role", async () => {
    const functions = await database().query<{ call: string }>(
      `select format('select %s(%s)', p.oid::regproc, (
        select string_agg(format('null::%s', format_type(t, null)), ', ') from unnest(p.proargtypes) t
      )) as call
      from pg_proc p
      where p.pronamespace = 'retention'::regnamespace
        and p.prorettype <> 'trigger'::regtype
        and p.oid::regprocedure::text <> all ($1)`,
      [CALLABLE],
    );
    expect(functions.length).toBeGreaterThan(15);
    for (const { call } of functions) {
      await expect(listener.query(call), call).rejects.toMatchObject(DENIED);
    }
  });
});
