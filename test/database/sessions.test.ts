import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Database } from '../../src/database/database.ts';
import { proveListening } from '../../src/database/listen-proof.ts';
import { readMigrationState } from '../../src/database/migrations.ts';
import { type PoolOptions, createPool } from '../../src/database/pool.ts';
import { guardIdentity, prepareSession } from '../../src/database/session.ts';
import { DatabaseError } from '../../src/errors.ts';
import { silentLogger } from '../../src/logger.ts';
import {
  describeDatabase,
  runningPostgres,
  startOwnPostgres,
  useDatabase,
} from '../support/database.ts';
import { migrateUp } from '../support/migrated.ts';
import { startPgBouncer } from '../support/pgbouncer.ts';
import { type PostgresFront, startPostgresFront } from '../support/postgres-front.ts';
import { haveProgram } from '../support/programs.ts';

const pgBouncerPath = haveProgram('pgbouncer').path;

/** What a stranger may have set for a role or a database, and what a session of ours has all the same. */
const STRANGERS: readonly (readonly [name: string, theirs: string, ours: string])[] = [
  ['datestyle', "'German'", 'ISO, YMD'],
  ['intervalstyle', "'sql_standard'", 'postgres'],
  ['timezone', "'Pacific/Kiritimati'", 'UTC'],
  ['bytea_output', "'escape'", 'hex'],
  ['extra_float_digits', '-15', '1'],
  ['standard_conforming_strings', 'off', 'on'],
  ['array_nulls', 'off', 'on'],
  ['transform_null_equals', 'on', 'off'],
  ['row_security', 'off', 'on'],
  ['default_transaction_isolation', "'serializable'", 'read committed'],
  ['default_transaction_deferrable', 'on', 'off'],
  ['search_path', 'nowhere', 'pg_catalog, pg_temp'],
  ['statement_timeout', "'2s'", '30s'],
  ['lock_timeout', "'1s'", '0'],
  ['idle_in_transaction_session_timeout', "'1s'", '1min'],
  ['idle_session_timeout', "'90s'", '0'],
  ['plan_cache_mode', "'force_generic_plan'", 'auto'],
  ['jit', 'on', 'off'],
];

const SHOW = `select ${STRANGERS.map(([name]) => `current_setting('${name}') as ${name}`).join(', ')}`;
const OURS = Object.fromEntries(STRANGERS.map(([name, , ours]) => [name, ours]));

describeDatabase('a session is ours', () => {
  const database = useDatabase();
  const pools: Database[] = [];

  function makePool(options: Partial<PoolOptions> = {}): Database {
    const pool = createPool({
      url: database().url,
      applicationName: 'session test',
      logger: silentLogger,
      ...options,
    });
    pools.push(pool);
    return pool;
  }

  async function failureOf(promise: Promise<unknown>): Promise<DatabaseError> {
    const failure = await promise.then(
      () => undefined,
      (error: unknown) => error,
    );
    if (failure instanceof DatabaseError) return failure;
    throw new Error('expected a DatabaseError', { cause: failure });
  }

  afterEach(async () => {
    await Promise.all(pools.splice(0).map((pool) => pool.close()));
  });

  describe('whatever a role or a database has for a default', () => {
    beforeEach(async () => {
      const { name } = database();
      for (const [setting, theirs] of STRANGERS) {
        await database().query(`alter database ${name} set ${setting} = ${theirs}`);
        await database().query(
          `alter role postgres in database ${name} set ${setting} = ${theirs}`,
        );
      }
    });
    afterEach(async () => {
      const { name } = database();
      await database().query(`alter database ${name} reset all`);
      await database().query(`alter role postgres in database ${name} reset all`);
    });

    test('each setting that matters is ours', async () => {
      expect(await makePool().query(SHOW)).toEqual([OURS]);
    });

    test('in a transaction as well', async () => {
      expect(await makePool().withTransaction((client) => client.query(SHOW))).toEqual([OURS]);
    });

    test('dates, intervals, bytes and numbers are read as what they are', async () => {
      const [row] = await makePool().query<{ at: Date; day: Date; text: string; bytes: Buffer }>(
        `select '2026-02-17T12:00:00.123456Z'::timestamptz as at, '2026-02-03'::date::timestamptz as day,
          '2026-02-17T12:00:00Z'::timestamptz::text as text, '\\x00ff'::bytea as bytes`,
      );
      expect(row).toEqual({
        at: new Date('2026-02-17T12:00:00.123Z'),
        day: new Date('2026-02-03T00:00:00Z'),
        text: '2026-02-17 12:00:00+00',
        bytes: Buffer.from([0, 255]),
      });
    });

    test.skipIf(pgBouncerPath === undefined)(
      'behind a transaction pooler as well, and nothing of it reaches its other clients',
      async () => {
        const bouncer = await startPgBouncer(pgBouncerPath ?? '', runningPostgres().port);
        try {
          const through = bouncer.through(database().url);
          const pool = makePool({ url: through, max: 1 });
          expect(await pool.query(SHOW)).toEqual([OURS]);
          expect(await pool.withTransaction((client) => client.query(SHOW))).toEqual([OURS]);
          const others = await pool.withClient((client) => client.query(SHOW));
          expect(others).toMatchObject([{ search_path: 'nowhere', statement_timeout: '2s' }]);
        } finally {
          await Promise.all(pools.splice(0).map((pool) => pool.close()));
          await bouncer.stop();
        }
      },
    );

    test('a limit of zero is none, whatever the role has', async () => {
      await database().query(
        `alter role postgres in database ${database().name} set statement_timeout = '400ms'`,
      );
      const pool = makePool({ statementTimeoutMilliseconds: 0 });
      await pool.query('select pg_sleep(0.6)');
      expect(await pool.query('show statement_timeout')).toEqual([{ statement_timeout: '0' }]);
    });
  });

  test('the migration builds its indexes whatever statement_timeout and lock_timeout the role has', async () => {
    const { name, url, query } = database();
    // As long as an index takes on 5,000,000 rows.
    await query(`
      create function slow_index() returns event_trigger language plpgsql as $$
      begin perform pg_sleep(0.4); end $$;
      create event trigger slow_index on ddl_command_end when tag in ('CREATE INDEX')
        execute function slow_index();
      alter role postgres in database ${name} set statement_timeout = '300ms';
      alter role postgres in database ${name} set lock_timeout = '200ms';
      alter role postgres in database ${name} set datestyle = 'German'`);
    try {
      await migrateUp(url);
      const { applied, pending } = await readMigrationState(url);
      expect(pending).toEqual([]);
      for (const { at } of applied)
        expect(Math.abs(Date.now() - at.getTime())).toBeLessThan(60_000);
    } finally {
      await query(
        `alter role postgres in database ${name} reset all; drop event trigger slow_index`,
      );
    }
  });

  test.each([
    ['RDS Proxy', '0A000', "RDS Proxy currently doesn't support the option statement_timeout"],
    ['PgBouncer', '08P01', 'unsupported startup parameter: statement_timeout'],
    ['a pooler with words of its own', 'XX000', 'que?'],
    ['a pooler that takes it for a setting it does not know', '42704', 'unrecognized parameter'],
  ])(
    '%s, which refuses settings while connecting, is connected through',
    async (_who, code, message) => {
      await using front = await startPostgresFront(runningPostgres().port);
      front.refusal = { code, message };
      const url = front.through(database().url);
      const pool = makePool({ url, mustWrite: true });
      expect(await pool.query(SHOW)).toEqual([OURS]);
      const proof = await proveListening({ url }, pool, 5_000);
      expect(proof.arrived).toBe(true);
      await Promise.all(pools.splice(0).map((each) => each.close()));
    },
  );

  test('what an address itself asks for and a pooler refuses is named', async () => {
    await using front = await startPostgresFront(runningPostgres().port);
    front.refusal = {
      code: '0A000',
      message: "RDS Proxy currently doesn't support command-line options",
    };
    const pool = makePool({ url: `${front.through(database().url)}?options=-c%20jit%3Doff` });
    const failure = await failureOf(pool.query('select 1'));
    expect(failure.remedy).toContain('options');
    // Time limits in an address are ours anyway.
    const limited = makePool({
      url: `${front.through(database().url)}?statement_timeout=1&lock_timeout=2`,
    });
    expect(await limited.query('show statement_timeout')).toEqual([{ statement_timeout: '30s' }]);
    await Promise.all(pools.splice(0).map((each) => each.close()));
  });

  test('a session that did not take one of our settings is refused, and the setting is named', async () => {
    const answer = { pid: 7, differing: ['datestyle'], replication_role: 'origin' };
    const deaf = { processID: 7, query: () => Promise.resolve([{ rows: [answer] }]) };
    const preparing = prepareSession(
      deaf as unknown as pg.ClientBase,
      { statementTimeoutMilliseconds: 0 },
      false,
    );
    await expect(preparing).rejects.toThrow(/settings: datestyle/u);
  });

  test('a session in which triggers are switched off is refused', async () => {
    await database().query(`
      alter role postgres in database ${database().name} set session_replication_role = replica`);
    try {
      const failure = await failureOf(makePool().query('select 1'));
      expect(failure.message).toContain('session_replication_role');
    } finally {
      await database().query(`alter role postgres in database ${database().name} reset all`);
    }
  });
});

describeDatabase('a password that is rotated while the process runs', () => {
  const database = useDatabase();
  let front: PostgresFront;
  let folder: string;
  let pool: Database | undefined;
  beforeEach(async () => {
    front = await startPostgresFront(runningPostgres().port);
    folder = await mkdtemp(join(tmpdir(), 'retention-password-'));
  });
  afterEach(async () => {
    await pool?.close();
    await front[Symbol.asyncDispose]();
    await rm(folder, { recursive: true });
  });

  const openPool = (path?: string): Database => {
    const passwordFile = path === undefined ? undefined : { path, user: 'postgres' };
    pool = createPool({
      url: front.through(database().url),
      passwordFile,
      applicationName: 'password test',
      logger: silentLogger,
    });
    return pool;
  };

  test('is read again for the next session, from DATABASE_PASSWORD_FILE', async () => {
    const path = join(folder, 'password');
    await writeFile(path, 'ol@d/#?\n');
    front.password = 'ol@d/#?';
    const opened = openPool(path);
    expect(await opened.query('select 1 as one')).toEqual([{ one: 1 }]);
    front.password = 'new';
    await opened.query('select pg_terminate_backend(pg_backend_pid())').catch(() => undefined);
    await expect(opened.query('select 1')).rejects.toMatchObject({ sqlState: '28P01' });
    expect(opened.fault()).toMatchObject({ kind: 'login refused' });
    await writeFile(path, 'new');
    expect(await opened.query('select 1 as one')).toEqual([{ one: 1 }]);
    expect(opened.fault()).toBeUndefined();
    const address = {
      url: front.through(database().url),
      passwordFile: { path, user: 'postgres' },
    };
    expect((await proveListening(address, opened, 5_000)).arrived).toBe(true);
  });

  test('is read again for the next session, from the file that PGPASSFILE names', async () => {
    const path = join(folder, 'pgpass');
    vi.stubEnv('PGPASSFILE', path);
    try {
      front.password = 'old';
      await writeFile(path, '*:*:*:postgres:old\n', { mode: 0o600 });
      const opened = openPool();
      expect(await opened.query('select 1 as one')).toEqual([{ one: 1 }]);
      front.password = 'new';
      await opened.query('select pg_terminate_backend(pg_backend_pid())').catch(() => undefined);
      await writeFile(path, '*:*:*:postgres:new\n', { mode: 0o600 });
      expect(await opened.query('select 1 as one')).toEqual([{ one: 1 }]);
    } finally {
      vi.unstubAllEnvs();
    }
  });

  test('a file that is not there is named, and what it should hold is not printed', async () => {
    front.password = 'secret';
    const opened = openPool(join(folder, 'nothing'));
    await expect(opened.query('select 1')).rejects.toThrow(/DATABASE_PASSWORD_FILE.*nothing/u);
  });

  test("an address of another user does not get the file's password", async () => {
    const path = join(folder, 'password');
    await writeFile(path, 'for postgres');
    front.password = 'for postgres';
    const url = front.through(database().urlAs('somebody'));
    pool = createPool({
      url,
      passwordFile: { path, user: 'postgres' },
      applicationName: 'password test',
      logger: silentLogger,
    });
    await expect(pool.query('select 1')).rejects.toThrow();
  });
});

describeDatabase('a session that cannot write', () => {
  test('is ended and replaced, and the pool says so, until the server takes writes again', async () => {
    const server = await startOwnPostgres({ cron: false });
    let renewed = 0;
    const pool = createPool({
      url: server.url(),
      applicationName: 'read-only test',
      logger: silentLogger,
      mustWrite: true,
      onRenewed: () => (renewed += 1),
    });
    const switchTo = async (value: 'on' | 'off') => {
      await server.sql(`alter system set default_transaction_read_only = ${value}`);
      await server.sql('select pg_reload_conf()');
      await vi.waitFor(async () => {
        const shown = await server.sql('show default_transaction_read_only');
        expect(shown).toContain(value);
      });
    };
    try {
      await pool.query('create table public.written (n int)');
      await switchTo('on');
      await vi.waitFor(() =>
        expect(pool.query('insert into public.written values (1)')).rejects.toMatchObject({
          sqlState: '25006',
        }),
      );
      expect(renewed).toBe(1);
      // New sessions are refused for what they are, before anything is asked of them.
      const refused = await pool.query('select 1').catch((error: unknown) => error);
      expect(refused).toMatchObject({ sqlState: '25006' });
      expect(String(refused)).toContain('sessions are read-only');
      expect(pool.fault()).toMatchObject({ kind: 'read-only' });
      await server.sql('alter system reset default_transaction_read_only');
      await server.sql('select pg_reload_conf()');
      await vi.waitFor(() => pool.query('insert into public.written values (1)'), {
        timeout: 5_000,
      });
      expect(pool.fault()).toBeUndefined();
    } finally {
      await pool.close();
      await server.stop();
    }
  });

  test('an idle session is asked before it is used again, also for what only reads', async () => {
    const server = await startOwnPostgres({ cron: false });
    let renewed = 0;
    const pool = createPool({
      url: server.url(),
      applicationName: 'read-only test',
      logger: silentLogger,
      mustWrite: true,
      onRenewed: () => (renewed += 1),
    });
    try {
      await pool.query('select 1');
      await server.sql('alter system set default_transaction_read_only = on');
      await server.sql('select pg_reload_conf()');
      let ahead = 0;
      const wall = vi.spyOn(Date, 'now');
      wall.mockImplementation(() => performance.timeOrigin + performance.now() + ahead);
      await vi.waitFor(async () => {
        ahead += 10_000;
        await expect(pool.query('select 1')).rejects.toMatchObject({ sqlState: '25006' });
      });
      wall.mockRestore();
      expect(renewed).toBe(1);
    } finally {
      vi.restoreAllMocks();
      await pool.close();
      await server.stop();
    }
  });

  test('another server or another database than at the start is refused', () => {
    const guard = guardIdentity();
    guard.check({ database: 'app', system: '1' });
    guard.check({ database: 'app', system: '1' });
    // Where the identifier may not be read, nothing is guessed.
    guard.check({ database: 'app', system: null });
    expect(() => guard.check({ database: 'app', system: '2' })).toThrow(/another database/u);
    expect(() => guard.check({ database: 'other', system: '1' })).toThrow(/another database/u);
  });

  test('an address that leads to another server from now on stops the pool, and says which', async () => {
    const server = await startOwnPostgres({ cron: false });
    await using front = await startPostgresFront(runningPostgres().port);
    const url = front.through(`postgresql://postgres@127.0.0.1/postgres`);
    const pool = createPool({ url, applicationName: 'other test', logger: silentLogger });
    try {
      await pool.query('select 1');
      front.target = server.port;
      await pool.query('select pg_terminate_backend(pg_backend_pid())').catch(() => undefined);
      await expect(pool.query('select 1')).rejects.toMatchObject({ code: 'ANOTHER_DATABASE' });
      expect(pool.fault()).toMatchObject({ kind: 'another database' });
      front.target = runningPostgres().port;
      expect(await pool.query('select 1 as one')).toEqual([{ one: 1 }]);
      expect(pool.fault()).toBeUndefined();
    } finally {
      await pool.close();
      await server.stop();
    }
  });
});
