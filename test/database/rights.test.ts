import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Database } from '../../src/database/database.ts';
import { createPool } from '../../src/database/pool.ts';
import { silentLogger } from '../../src/logger.ts';
import { type Store, createStore } from '../../src/store/store.ts';
import { type TestDatabase, createDatabase, describeDatabase } from '../support/database.ts';
import { type MigratedDatabase, migrateUp, withHelpers } from '../support/migrated.ts';
import { dueRuns } from '../support/due-runs.ts';

// Roles belong to the whole server, and test files share it.
const LISTENER = `listener_${process.pid}`;
const OWNER = `owner_${process.pid}`;
const STRANGER = `stranger_${process.pid}`;

const DENIED = { code: '42501' };

describeDatabase("promise 10: the listener's role", () => {
  let database: TestDatabase;
  let migrated: MigratedDatabase;
  let pool: Database;
  let store: Store;
  let listener: pg.Client;

  async function connectAs(user: string): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: database.urlAs(user) });
    await client.connect();
    return client;
  }

  beforeAll(async () => {
    database = await createDatabase();
    const { query } = database;
    await query(
      `create role ${LISTENER} login; create role ${STRANGER} login; create role ${OWNER} login`,
    );
    await query(`alter table runs owner to ${OWNER};
      grant create on database ${database.name} to ${OWNER};
      grant create on schema public to ${OWNER}`);
    // As the application's owner, who is no superuser, and whose table lets nobody else see a row.
    await query('alter table runs enable row level security');
    await migrateUp(database.urlAs(OWNER), { role: LISTENER });
    pool = createPool({
      url: database.urlAs(LISTENER),
      applicationName: 'test',
      logger: silentLogger,
    });
    store = createStore(pool);
    migrated = withHelpers(database, store);
    listener = await connectAs(LISTENER);
  });
  beforeEach(() => migrated.clear());
  afterAll(async () => {
    await listener?.end();
    await pool?.close();
    await database?.query(
      `drop owned by ${LISTENER}; drop owned by ${STRANGER}; drop owned by ${OWNER} cascade`,
    );
    await database?.query(`drop role ${LISTENER}; drop role ${STRANGER}; drop role ${OWNER}`);
    await database?.drop();
  });

  test.each([
    'select * from runs',
    'select run_id from runs limit 1',
    'select count(*) from runs',
    'update runs set result_cleared_at = now()',
    'delete from runs',
    'truncate runs',
    `insert into runs (tenant_id, status) values ('x', 'COMPLETED')`,
    'do $$ begin lock table runs in share mode; end $$',
    'alter table runs disable row level security',
    'create trigger t after update on runs for each row execute function suppress_redundant_updates_trigger()',
    'copy runs to stdout',
  ])("cannot do this to the application's table: %s", async (sql) => {
    await migrated.insertRun();
    await expect(listener.query(sql)).rejects.toMatchObject(DENIED);
  });

  test.each(['run_id', 'tenant_id', 'status', 'completed_at', 'bucket', 'key', 'cleared_at'])(
    "cannot change the view's column %s",
    async (column) => {
      await expect(
        listener.query(`update retention.result set ${column} = null`),
      ).rejects.toMatchObject(DENIED);
    },
  );

  test.each([
    'delete from retention.result',
    `insert into retention.result (key) values ('x')`,
    'create or replace view retention.result as select 1',
    'drop view retention.result',
  ])('cannot do this to the view: %s', async (sql) => {
    await expect(listener.query(sql)).rejects.toMatchObject(DENIED);
  });

  test('cannot write to any table of the schema but through its functions', async () => {
    const tables = await database.query<{ name: string }>(
      `select format('retention.%I', relname) as name from pg_class
      where relnamespace = 'retention'::regnamespace and relkind = 'r'`,
    );
    expect(tables.length).toBeGreaterThan(8);
    for (const { name } of tables) {
      for (const sql of [
        `delete from ${name}`,
        `truncate ${name}`,
        `insert into ${name} default values`,
        `drop table ${name}`,
      ]) {
        await expect(listener.query(sql), sql).rejects.toMatchObject(DENIED);
      }
    }
    for (const sql of [
      'update retention.setting set enabled = true',
      'update retention.batch set lease = null',
    ]) {
      await expect(listener.query(sql), sql).rejects.toMatchObject(DENIED);
    }
  });

  test('cannot call what is not meant for it, or make something in the schema', async () => {
    for (const sql of [
      `select retention._adopt('runs', '', 'internal')`,
      'select retention.detach()',
      'select retention.attach()',
      `select retention.grant_rights('${STRANGER}')`,
      `select retention._stamp('b', '{}', '{}', now(), now())`,
      'select retention._schedule_tick()',
      'select retention._unschedule_tick()',
      'create function retention.mine() returns int language sql as $$ select 1 $$',
      'create table retention.mine ()',
    ]) {
      await expect(listener.query(sql), sql).rejects.toMatchObject(DENIED);
    }
  });

  test('does its whole work under row-level security with default deny', async () => {
    const due = await migrated.insertRuns({ count: 25 });
    await migrated.insertRuns({ count: 5, completedAgo: '1 day' });
    expect(await store.tick('internal')).toBe(25);
    expect(await store.flagExpired({ by: 'test' })).toBe(0);
    const lease = crypto.randomUUID();
    const claim = await store.claim({ lease, leaseSeconds: 60, by: 'test' });
    expect(claim?.keys).toHaveLength(25);
    const [key = '', ...cleared] = claim?.keys ?? [];
    const refused = key.replace('results/', '');
    const about = { reason: 'no', concerns: 'key', final: false } as const;
    const failed = [{ key, code: 'AccessDenied', outcome: 'refused' as const, ...about }];
    expect(
      await store.settle(claim?.batchId ?? 0, lease, { cleared, failed, milliseconds: 1 }),
    ).toMatchObject({ settled: true, stamped: 24, failed: 1 });
    expect(await migrated.countStamped()).toBe(24);
    expect(due).toContain(refused);

    expect(await store.pulse()).toMatchObject({ enabled: true });
    expect(await store.readStatus()).toMatchObject({ flagged: 1, failed: 1 });
    expect(await store.scansAfter(0)).toHaveLength(1);
    expect(await store.applyVariables({ batch_size: 500 })).toMatchObject([
      { message: 'batch_size: 1000 -> 500' },
    ]);
    expect(await store.dueGroups({})).toMatchObject([{ results: 1 }]);
    expect(await dueRuns({ url: database.urlAs(LISTENER) }, { runIds: [refused] })).toHaveLength(1);
    // What a person asks for is no work of the listener's.
    await expect(store.flagSelected({ runIds: [refused] })).rejects.toMatchObject({
      sqlState: DENIED.code,
      remedy: expect.stringContaining('RETENTION_OPERATOR_ROLE') as string,
    });
    await database.query(`select retention.flag_selected(p_run_ids => array['${refused}'])`);
    await database.query(`select retention.place_hold('audit', '${refused}')`);
    const again = crypto.randomUUID();
    expect(await store.claim({ lease: again, leaseSeconds: 60, by: 'test' })).toMatchObject({
      keys: [],
      spared: 1,
    });
  });

  test('takes part in every way of giving a batch back', async () => {
    await migrated.insertRuns({ count: 4 });
    await store.flagExpired({ by: 'test' });
    const claimOne = async (): Promise<{ batchId: number; lease: string }> => {
      const lease = crypto.randomUUID();
      const claim = await store.claim({ lease, leaseSeconds: 60, by: 'test' });
      return { batchId: claim?.batchId ?? 0, lease };
    };
    const second = await claimOne();
    expect(await store.split(second.batchId, second.lease)).toBe(true);
    const third = await claimOne();
    expect(
      await store.postpone(third.batchId, third.lease, { code: 'SlowDown', message: 'slow' }),
    ).toBeInstanceOf(Date);
  });

  test("cannot smuggle in objects of its own: the functions' search path is pinned", async () => {
    await migrated.insertRun();
    await listener.query(`set search_path = pg_temp, public;
      create temporary table runs (run_id uuid); create temporary table setting (enabled boolean);
      create temporary table selection (run_id uuid)`);
    try {
      expect((await listener.query('select retention.flag_expired() as flagged')).rows).toEqual([
        { flagged: 1 },
      ]);
    } finally {
      await listener.query('discard all');
    }
    expect(
      await database.query(`select p.proname from pg_proc p
        where p.pronamespace = 'retention'::regnamespace and p.prosecdef
          and not coalesce(array_to_string(p.proconfig, ','), '') like '%search_path=pg_catalog, pg_temp%'`),
    ).toEqual([]);
  });

  test('is the only one with rights: PUBLIC has none', async () => {
    const stranger = await connectAs(STRANGER);
    try {
      for (const sql of [
        'select * from retention.result',
        'select * from retention.status',
        'select retention.tick()',
        'select retention.flag_expired()',
      ]) {
        await expect(stranger.query(sql), sql).rejects.toMatchObject(DENIED);
      }
    } finally {
      await stranger.end();
    }
    expect(
      await database.query(
        `select p.oid::regprocedure::text as name from pg_proc p
        where p.pronamespace = 'retention'::regnamespace and has_function_privilege('${STRANGER}', p.oid, 'execute')
        union all
        select c.oid::regclass::text from pg_class c
        where c.relnamespace = 'retention'::regnamespace and c.relkind in ('r', 'v', 'S')
          and has_table_privilege('${STRANGER}', c.oid, 'select, insert, update, delete, truncate, references, trigger')`,
      ),
    ).toEqual([]);
  });
});
