import type pg from 'pg';
import { beforeAll, expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import {
  LISTENER,
  OBSERVER,
  OPERATOR,
  OWNER,
  READER,
  STRANGER,
  useGuarded,
} from '../support/rights-roles.ts';

const DENIED = { code: '42501' };

/**
 * The SQL interface: what operators may call. This list is the only one; what is not here begins with an
 * underscore, or is the owner's alone.
 */
const CALLABLE = [
  'accept_fence(text)',
  'account_stamps(timestamp with time zone,timestamp with time zone)',
  'active_holds(integer)',
  'activity(integer)',
  'add_keeper(text,text,text,text,text)',
  'adopted_table()',
  'adoption_report()',
  'apply_variables(jsonb)',
  'begin_orphans(uuid,text,bigint,text)',
  'begin_verify()',
  'begin_canary(text,interval,text)',
  'canary_state()',
  'note_canary(text,text,text,text,text)',
  'next_standing_step(text[],interval)',
  'note_standing_page(uuid,uuid,text,text[],bigint[],timestamp with time zone[],text[])',
  'note_standing_look(uuid,uuid,bigint,text[])',
  'end_standing(uuid,uuid)',
  'note_standing_problem(uuid,uuid,text,text)',
  'standing_state()',
  'drop_strays(uuid,text[])',
  'end_verify(uuid,uuid)',
  'next_listed(uuid,text,text,integer)',
  'next_returned(uuid,text)',
  'next_stretch(uuid,integer,bigint)',
  'note_listed(uuid,text[],bigint[],timestamp with time zone[],text[])',
  'note_part_done(uuid,uuid,integer,text)',
  'note_stretch(uuid,uuid,bigint,bigint,integer[])',
  'note_verified(uuid,uuid,integer,text,bigint,text,text,text[],text[],boolean[])',
  'resume_verify(text,text[],text,boolean,timestamp with time zone)',
  'unsort_verify(uuid,uuid)',
  'verify_parts(uuid)',
  'busy_buckets(integer)',
  'certificate_changes(text,timestamp with time zone,timestamp with time zone)',
  'certificate_facts(text,timestamp with time zone,timestamp with time zone)',
  'certificate_leaves(text,bigint[],bigint[])',
  'certificate_results(text,timestamp with time zone,timestamp with time zone)',
  'certificate_seals(bigint,integer,bigint[])',
  'claim(uuid,interval,text,bigint[],text,text[])',
  'claim_messages(interval)',
  'claim_orphans(uuid,text[],interval)',
  'clock_state()',
  'clocks_differ(timestamp with time zone)',
  'compare_listing(uuid,text,text,text,text,text[],bigint[],timestamp with time zone[],timestamp with time zone,text[],timestamp with time zone)',
  'configure(jsonb)',
  'cooling()',
  'is_readable(text)',
  'readable(text[])',
  'upcoming(integer,text)',
  'approve(bigint)',
  'ask_approval(text,jsonb)',
  'confirm_fence(uuid,text,text,double precision)',
  'confirm_missing(text,text)',
  'confirm_policy(text,bigint)',
  'count_due(text,text[],interval,boolean,bigint)',
  'count_postponed(bigint[])',
  'cron_state()',
  'dead_by_code()',
  'end_cutoff(bigint[])',
  'explain(text)',
  'explain_at(text,timestamp with time zone)',
  'history(text,text,text,timestamp with time zone,integer)',
  'fence()',
  'fence_losses(jsonb)',
  'find_tenant(text)',
  'flag_expired(integer,text,boolean,boolean)',
  'flag_selected(text,text[],interval,boolean,bigint,integer,boolean,bigint)',
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
  'list_approvals(boolean)',
  'list_guards()',
  'list_due(text,text[],interval,boolean,bigint)',
  'list_holds(boolean)',
  'list_keepers()',
  'list_orphan_lists(integer)',
  'list_policies()',
  'list_releases(bigint)',
  'list_surges(boolean)',
  'list_roles()',
  'missing_rights(text,text)',
  'next_orphans(uuid,text,text,interval,integer)',
  'next_pass()',
  'note_bucket(text,text)',
  'note_look(text,text,integer,text[],boolean)',
  'note_orphan_list(uuid,text,text,interval,bigint,bigint,bigint,text)',
  'pending_policies(integer)',
  'place_hold(text,text,text,interval,text)',
  'place_holds(text,text[],text[],interval,text)',
  'postpone(bigint,uuid,text,text,text[],text[],boolean)',
  'preview_policy(text,interval)',
  'pulse(text,text[])',
  'read_status()',
  'release_hold(bigint,text)',
  'release_holds(bigint[],text)',
  'release_surge(bigint,bigint,text)',
  'remove_keeper(text,text)',
  'renew_fence(uuid,text,boolean)',
  'requeue_returned(uuid,timestamp with time zone,text)',
  'resume()',
  'retry(text[],text,text,text,boolean)',
  'sample_keys(text,integer)',
  'set_default_bucket(text)',
  'set_guard(text,text)',
  'set_on_versioned(text,text,boolean)',
  'set_ceilings(text,jsonb,text,boolean)',
  'set_habits(text,jsonb,text,boolean)',
  'set_policy(text,interval,boolean,boolean)',
  'settle(bigint,uuid,text[],boolean,jsonb,integer,text[],jsonb,text[],text)',
  'show_surge(bigint)',
  'settle_message(uuid,text)',
  'settle_orphans(uuid,bigint,bigint,bigint,bigint,text[],text,text,text[],jsonb,text[],text)',
  'sort_strays(uuid,timestamp with time zone,interval)',
  'split(bigint,uuid,text[])',
  'stamp_again(text)',
  'stamp_gone(text,text[],text[],text)',
  'take_turn(bigint[],text,text[])',
  'tenants_due(integer,integer)',
  'tick(text)',
  'tick_jobs(text)',
  'times_ahead()',
  'trend(bigint,boolean)',
  'troubles(integer)',
  'try_stamp()',
  'undated(integer)',
  'unset_policy(text,boolean)',
  'unsettled(bigint[],text,text[],text[])',
  'unstamp(text,boolean,text,text)',
  'variables(jsonb)',
  'version()',
  'vitals(integer)',
  'wait_causes(integer)',
  'withdraw_approval(bigint)',
  'working_listeners(integer)',
  'export_seals(bigint,bigint)',
  'list_heads(bigint,integer)',
  'note_seals_written(text,bigint,text)',
  'seal_now()',
  'seals_since(timestamp with time zone)',
  'seals_to_write(text,integer)',
  'verify_end()',
  'verify_head(bytea,bigint,uuid,timestamp with time zone)',
  'verify_repeats()',
  'verify_seals(bigint,bigint)',
]
  .map((signature) => `retention.${signature}`)
  .toSorted();

/** What of it the listener may not: it is for operators alone. */
const OPERATORS_ALONE = (
  'accept_fence fence_losses approve ask_approval configure add_keeper remove_keeper set_guard set_on_versioned withdraw_approval begin_verify compare_listing confirm_missing confirm_policy end_cutoff find_tenant flag_selected ' +
  'begin_orphans note_orphan_list claim_orphans settle_orphans forget_habits forget_strays halt next_orphans place_hold place_holds preview_policy release_hold ' +
  'release_holds requeue_returned resume retry release_surge set_ceilings set_default_bucket set_habits set_policy sort_strays stamp_gone ' +
  'unset_policy unstamp drop_strays end_verify next_listed next_returned next_stretch note_listed note_part_done note_stretch note_verified ' +
  'resume_verify unsort_verify verify_parts'
).split(' ');

/** What the listener may and observers may not: it changes something. */
const LISTENERS_WORK = (
  'claim take_turn confirm_fence judge_fence renew_fence apply_variables count_due count_postponed flag_expired learn_habits list_due ' +
  'note_bucket note_look note_seals_written postpone pulse seal_now seals_to_write settle claim_messages settle_message split stamp_again tick ' +
  'try_stamp begin_canary note_canary next_standing_step note_standing_page note_standing_look end_standing note_standing_problem'
).split(' ');

/** What an application may that asks which results can be read. */
const READERS: readonly string[] = ['is_readable', 'readable'];

const nameOf = (signature: string): string => signature.replace(/^retention\.(\w+)\(.*$/u, '$1');
const without = (signatures: readonly string[], names: readonly string[]): string[] =>
  signatures.filter((signature) => !names.includes(nameOf(signature)));

const MAY: Readonly<Record<string, readonly string[]>> = {
  [OPERATOR]: CALLABLE,
  [LISTENER]: without(CALLABLE, OPERATORS_ALONE),
  [OBSERVER]: without(CALLABLE, [...OPERATORS_ALONE, ...LISTENERS_WORK]),
  [READER]: CALLABLE.filter((signature) => READERS.includes(nameOf(signature))),
};

const READABLE = (
  'adapter ahead allowance approval attention batch bucket canary change cutoff fence flagged gate_state heartbeat held_object hold ' +
  'identity installed keeper key_copy key_stretch lateness orphan_list pace pass_lock past_work pgmigrations policy progress receipt ' +
  'result returned_result scan seal seal_copy seal_head selection setting shared_object spared_object stamp_account stamping standing_gone standing_verify status ' +
  'stray surge surge_part surge_release unanswered variable verify_listed verify_part verify_run verify_stretch webhook'
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

  test.each([OPERATOR, LISTENER, OBSERVER])(
    '%s reads the schema and has nothing more: what is stamped, functions stamp',
    async (role) => {
      expect(await may(MATRIX, role)).toEqual(READABLE.map((name) => `${name}: SELECT`));
      expect(await may(COLUMNS, role)).toEqual([]);
    },
  );

  test('an application that asks which results can be read reads no table', async () => {
    expect(await may(MATRIX, READER)).toEqual([]);
    expect(await may(COLUMNS, READER)).toEqual([]);
  });

  test.each([OPERATOR, LISTENER, OBSERVER, READER])(
    '%s may call the functions that are for it and no other',
    async (role) => {
      expect(await may(FUNCTIONS, role)).toEqual(MAY[role]);
    },
  );

  test('what is internal, nobody may call', async () => {
    for (const role of [OPERATOR, LISTENER, OBSERVER, READER]) {
      expect((await may(FUNCTIONS, role)).filter((name) => name.startsWith('retention._'))).toEqual(
        [],
      );
    }
  });

  test('each public function names in its contract exactly one role that it is for', async () => {
    expect(
      await database().query(
        `select name from retention._interface() where kind = 'function' and least_role is null
        and name !~ '\\._' and name not in (
          'function retention.attach', 'function retention.detach',
          'function retention.grant_rights', 'function retention.revoke_rights')
        and exists (select from pg_proc p where p.oid = _interface.oid and p.prorettype <> 'trigger'::regtype)`,
      ),
    ).toEqual([]);
  });

  test('a stranger may nothing, and PUBLIC neither', async () => {
    for (const sql of [MATRIX, COLUMNS, FUNCTIONS]) {
      expect(await may(sql, STRANGER)).toEqual([]);
      expect(await may(sql, 'public')).toEqual([]);
    }
  });

  test.each([LISTENER, OPERATOR, OBSERVER, READER, STRANGER])(
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
  // What another person has to approve.
  `insert into retention.approval (kind, what, approved_by, approved_at) values ('purge', '{}', 'x', now())`,
  `update retention.approval set approved_by = 'x', approved_at = now()`,
  'alter table retention.setting disable trigger guard_setting',
  'update retention.setting set four_eyes = false',
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
  const clients = new Map<string, pg.Client>();
  const as = (role: string): pg.Client => {
    const client = clients.get(role);
    if (client === undefined) throw new Error(`no session as ${role}`);
    return client;
  };

  beforeAll(async () => {
    for (const role of [OPERATOR, LISTENER, OBSERVER, READER, STRANGER]) {
      clients.set(role, await database().connectAs(role));
    }
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
    for (const [role, client] of clients)
      expect(await attempt(client, sql), role).toBe(DENIED.code);
    expect(await database().run(before)).toMatchObject({ result_cleared_at: null });
  });

  test('a stranger does not even look', async () => {
    const relations = await database().query<{ name: string }>(
      `select oid::regclass::text as name from pg_class
      where relnamespace = 'retention'::regnamespace and relkind in ('r', 'v', 'S')`,
    );
    expect(relations.length).toBeGreaterThan(15);
    for (const { name } of relations) {
      await expect(as(STRANGER).query(`select * from ${name}`), name).rejects.toMatchObject(DENIED);
    }
  });

  test.each([OPERATOR, LISTENER, OBSERVER, READER, STRANGER])(
    'each function that is not for it refuses %s',
    async (role) => {
      const functions = await database().query<{ call: string }>(
        `select format('select %s(%s)', p.oid::regproc, (
          select string_agg(format('null::%s', format_type(t, null)), ', ') from unnest(p.proargtypes) t
        )) as call
        from pg_proc p
        where p.pronamespace = 'retention'::regnamespace
          and p.prorettype <> 'trigger'::regtype
          and p.oid::regprocedure::text <> all ($1)`,
        [MAY[role] ?? []],
      );
      expect(functions.length).toBeGreaterThan(15);
      for (const { call } of functions) {
        await expect(as(role).query(call), call).rejects.toMatchObject(DENIED);
      }
    },
  );
});
