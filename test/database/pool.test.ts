import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import type { Database } from '../../src/database/database.ts';
import { type PoolOptions, createPool } from '../../src/database/pool.ts';
import { DatabaseError, describeError, isTransientDatabaseError } from '../../src/errors.ts';
import { silentLogger } from '../../src/logger.ts';
import { describeDatabase, runningPostgres, useDatabase } from '../support/database.ts';
import { countOpenSockets } from '../support/open-handles.ts';
import { startPgBouncer } from '../support/pgbouncer.ts';
import { haveProgram } from '../support/programs.ts';
import { createRecordingLogger } from '../support/recording-logger.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';

const pgBouncerPath = haveProgram('pgbouncer').path;

/** What a promise was rejected with. */
async function failureOf(promise: Promise<unknown>): Promise<DatabaseError> {
  const failure = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (failure instanceof DatabaseError) return failure;
  throw new Error('expected a DatabaseError', { cause: failure });
}

/** Says in one piece what Postgres says when a session is terminated as it begins. */
async function startCurtServer(): Promise<AsyncDisposable & { readonly url: string }> {
  const message = (type: string, ...parts: readonly Buffer[]): Buffer => {
    const body = Buffer.concat(parts);
    const head = Buffer.alloc(5);
    head.write(type, 'latin1');
    head.writeInt32BE(body.length + 4, 1);
    return Buffer.concat([head, body]);
  };
  const greeting = Buffer.concat([
    message('R', Buffer.alloc(4)),
    message('Z', Buffer.from('I')),
    message('E', Buffer.from('SFATAL\0C57P01\0Mterminating connection\0\0')),
  ]);
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => socket.end(greeting));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `postgresql://postgres@127.0.0.1:${port}/app`,
    [Symbol.asyncDispose]: async () => {
      server.close();
      await once(server, 'close');
    },
  };
}

describeDatabase('the pool', () => {
  const database = useDatabase();
  const pools: Database[] = [];
  let applications = 0;

  function makePool(options: Partial<PoolOptions> = {}) {
    applications += 1;
    const applicationName = `pool test ${applications}`;
    const pool = createPool({
      url: database().url,
      applicationName,
      logger: silentLogger,
      ...options,
    });
    pools.push(pool);
    return { pool, applicationName };
  }

  async function sessionsOf(applicationName: string): Promise<number> {
    const { count } = await database().one<{ count: number }>(
      `select count(*)::int as count from pg_stat_activity
            where application_name = $1 and datname = current_database()`,
      [applicationName],
    );
    return count;
  }

  async function terminate(applicationName: string): Promise<void> {
    await database().query(
      `select pg_terminate_backend(pid) from pg_stat_activity
        where application_name = $1 and datname = current_database()`,
      [applicationName],
    );
  }

  afterEach(async () => {
    await Promise.all(pools.splice(0).map((pool) => pool.close()));
  });

  test('reads values as the port promises', async () => {
    const { pool } = makePool();
    const rows = await pool.query(
      `select 42::bigint as small, 9007199254740993::bigint as large, $1::text as given,
              array[1, null, 9007199254740993]::bigint[] as many, 1.50::numeric as exact,
              '2026-02-17T12:00:00Z'::timestamptz as moment, null::bigint as nothing`,
      ['text'],
    );
    expect(rows).toEqual([
      {
        small: 42,
        large: '9007199254740993',
        given: 'text',
        many: [1, null, '9007199254740993'],
        exact: '1.50',
        moment: new Date('2026-02-17T12:00:00Z'),
        nothing: null,
      },
    ]);
  });

  test('a refused statement has its SQLSTATE, its constraint and its hint', async () => {
    const { pool } = makePool();
    const missing = await failureOf(pool.query('select * from nowhere'));
    expect(missing).toMatchObject({ sqlState: '42P01', code: '42P01' });
    const raised = await failureOf(
      pool.query(`do $$ begin raise exception 'no' using hint = 'Do y.'; end $$`),
    );
    expect(raised).toMatchObject({ message: 'no', remedy: 'Do y.', sqlState: 'P0001' });
    await pool.query('create table public.narrow (a int constraint a_is_positive check (a > 0))');
    const narrow = await failureOf(pool.query('insert into public.narrow values (-1)'));
    expect(narrow.constraint).toBe('a_is_positive');
  });

  test('a failed connection names host, port and database, and never the password', async () => {
    const { pool } = makePool({ url: 'postgres://me:geheim@127.0.0.1:1/mine' });
    const failure = await failureOf(pool.query('select 1'));
    expect(failure.message).toBe('cannot connect to Postgres at 127.0.0.1:1/mine');
    expect(failure.code).toBe('ECONNREFUSED');
    expect(failure.remedy).toContain('server is up');
    expect(isTransientDatabaseError(failure)).toBe(true);
    expect(describeError(failure)).not.toContain('geheim');
  });

  test('a database that does not exist is no passing trouble', async () => {
    const { pool } = makePool({ url: `${database().url}_not` });
    const failure = await failureOf(pool.query('select 1'));
    expect(failure.sqlState).toBe('3D000');
    expect(isTransientDatabaseError(failure)).toBe(false);
  });

  test('an idle session that the server ends is logged and replaced', async () => {
    const logger = createRecordingLogger();
    const { pool, applicationName } = makePool({ logger });
    await pool.query('select 1');
    await terminate(applicationName);
    await until('the loss is logged', () => logger.count('warning') === 1);
    expect(await pool.query('select 1 as one')).toEqual([{ one: 1 }]);
  });

  test('a session that is lost while it works fails its statement and is replaced', async () => {
    const { pool, applicationName } = makePool();
    const failing = failureOf(pool.query('select pg_sleep(60)'));
    await until('it works', async () => (await sessionsOf(applicationName)) === 1);
    await terminate(applicationName);
    expect(isTransientDatabaseError(await failing)).toBe(true);
    expect(await pool.query('select 1 as one')).toEqual([{ one: 1 }]);
  });

  test('a session that is lost while it is lent and silent does not end the process', async () => {
    const { pool, applicationName } = makePool();
    const failing = failureOf(
      pool.withClient(async (client) => {
        await client.query('select 1');
        await terminate(applicationName);
        await until('it is gone', async () => (await sessionsOf(applicationName)) === 0);
        await client.query('select 1');
      }),
    );
    expect(isTransientDatabaseError(await failing)).toBe(true);
  });

  test('a session that is greeted and ended in one breath does not end the process', async () => {
    await using server = await startCurtServer();
    const { pool } = makePool({ url: server.url });
    const uncaught: unknown[] = [];
    const note = (error: unknown): void => void uncaught.push(error);
    process.on('uncaughtExceptionMonitor', note);
    try {
      const failure = await failureOf(pool.query('select 1'));
      expect([isTransientDatabaseError(failure), uncaught]).toEqual([true, []]);
    } finally {
      process.off('uncaughtExceptionMonitor', note);
    }
  });

  test('a session that comes back in an open transaction is not lent again', async () => {
    const { pool } = makePool({ max: 1 });
    const pid = (client: Pick<Database, 'query'>) =>
      client.query<{ pid: number; at: Date }>('select pg_backend_pid() as pid');
    const first = await pool.withClient(async (client) => {
      await client.query('begin');
      return pid(client);
    });
    expect(await pid(pool)).not.toEqual(first);
  });

  test('a refused statement does not cost its session', async () => {
    const { pool } = makePool({ max: 1 });
    const pid = () => pool.query('select pg_backend_pid() as pid');
    const before = await pid();
    await failureOf(pool.query('select 1/0'));
    expect(await pid()).toEqual(before);
  });

  test('a transaction commits, and rolls back on an error, also on one that was caught', async () => {
    const { pool } = makePool();
    await pool.query('create table public.kept (a int)');
    await pool.withTransaction((client) => client.query('insert into public.kept values (1)'));
    const thrown = pool.withTransaction(async (client) => {
      await client.query('insert into public.kept values (2)');
      throw new Error('changed my mind');
    });
    await expect(thrown).rejects.toThrow('changed my mind');
    const swallowed = pool.withTransaction(async (client) => {
      await client.query('insert into public.kept values (3)');
      await client.query('select 1/0').catch(() => undefined);
    });
    await expect(swallowed).rejects.toThrow('had failed before its commit');
    expect(await pool.query('select a from public.kept')).toEqual([{ a: 1 }]);
  });

  test('the server ends a statement that takes too long', async () => {
    const { pool } = makePool({ statementTimeoutMilliseconds: 50 });
    const failure = await failureOf(pool.query('select pg_sleep(60)'));
    expect(failure.sqlState).toBe('57014');
  });

  test('a dead network fails the statement, and leaves no socket after closing', async () => {
    const proxy = await startTcpProxy(runningPostgres().port);
    try {
      const { pool } = makePool({
        url: proxy.through(database().url),
        statementTimeoutMilliseconds: 50,
      });
      await pool.query('select 1');
      proxy.freeze();
      expect(isTransientDatabaseError(await failureOf(pool.query('select 1')))).toBe(true);
      expect(await pool.query('select 1 as one')).toEqual([{ one: 1 }]);
      proxy.freeze();
      // Keeps the test's own session from ending of idleness meanwhile.
      await database().query('select 1');
      const before = countOpenSockets();
      await pool.close();
      // Both ends of the proxy stay.
      expect(countOpenSockets()).toBe(before - 1);
    } finally {
      await proxy.close();
    }
  });

  test('a session that fell silent takes the idle ones with it: the next statement waits for none', async () => {
    const proxy = await startTcpProxy(runningPostgres().port);
    try {
      const { pool } = makePool({
        url: proxy.through(database().url),
        statementTimeoutMilliseconds: 50,
      });
      await Promise.all(Array.from({ length: 4 }, () => pool.query('select pg_sleep(0.03)')));
      expect(proxy.connected()).toBe(4);
      proxy.freeze();
      await failureOf(pool.query('select 1'));
      expect(await pool.query('select 1 as one')).toEqual([{ one: 1 }]);
    } finally {
      await proxy.close();
    }
  });

  test('works in READ COMMITTED where that is no default', async () => {
    await database().query(`
      create or replace function level() returns text language plpgsql as $$
      begin
        if current_setting('transaction_isolation') <> 'read committed' then
          raise exception using errcode = 'active_sql_transaction', message = 'not so';
        end if;
        return current_setting('transaction_isolation');
      end $$;
      alter role postgres in database ${database().name}
        set default_transaction_isolation = 'serializable'`);
    try {
      const { pool } = makePool();
      const shown = 'show transaction_isolation';
      expect(await pool.query(shown)).toEqual([{ transaction_isolation: 'read committed' }]);
      expect(await pool.query('select public.level()')).toEqual([{ level: 'read committed' }]);
      expect(await pool.query(shown)).toEqual([{ transaction_isolation: 'read committed' }]);
    } finally {
      await database().query(
        `alter role postgres in database ${database().name} reset default_transaction_isolation`,
      );
    }
  });

  test('waits in READ COMMITTED for what could not be serialized where that is no default', async () => {
    await database().query(`
      create table counted (n int); insert into counted values (0);
      alter role postgres in database ${database().name}
        set default_transaction_isolation = 'repeatable read'`);
    try {
      const { pool, applicationName } = makePool();
      const other = await database().connect();
      await other.query('begin isolation level read committed; update counted set n = n + 1');
      const counting = pool.query('update public.counted set n = n + 1 returning n');
      await until('it waits', async () => {
        const waiting = await database().query(
          `select from pg_stat_activity where application_name = $1 and wait_event_type = 'Lock'`,
          [applicationName],
        );
        return waiting.length > 0;
      });
      await other.query('commit');
      expect(await counting).toEqual([{ n: 2 }]);
    } finally {
      await database().query(
        `alter role postgres in database ${database().name} reset default_transaction_isolation`,
      );
    }
  });

  test('a named statement is prepared once per session', async () => {
    const { pool } = makePool({ max: 1 });
    const prepared = () =>
      pool.query<{ name: string }>('select name from pg_prepared_statements order by name');
    for (let time = 0; time < 3; time += 1) await pool.query('select 1', [], { name: 'one' });
    expect(await prepared()).toEqual([{ name: 'one' }]);
    expect(await pool.isPooled()).toBe(false);
  });

  test('closing waits for what is under way, is repeatable, and is final', async () => {
    const { pool, applicationName } = makePool();
    const working = pool.query('select pg_sleep(0.2), 1 as one');
    await until('it works', async () => (await sessionsOf(applicationName)) === 1);
    await Promise.all([pool.close(), pool.close()]);
    expect(await working).toMatchObject([{ one: 1 }]);
    expect(await sessionsOf(applicationName)).toBe(0);
    await expect(pool.query('select 1')).rejects.toThrow('is closed');
  });

  describe.skipIf(pgBouncerPath === undefined)('behind a transaction pooler', () => {
    test('works without start-up settings and without statement names', async () => {
      const bouncer = await startPgBouncer(pgBouncerPath ?? '', runningPostgres().port);
      try {
        const { pool } = makePool({ url: bouncer.through(database().url) });
        await pool.query('select 1', [], { name: 'one' });
        expect(await pool.query('select name from pg_prepared_statements')).toEqual([]);
        expect(await pool.isPooled()).toBe(true);
        // Without a limit of ours there, the pooler accepts the same session and is still seen.
        const { pool: other } = makePool({
          url: bouncer.through(database().url),
          statementTimeoutMilliseconds: 0,
        });
        await other.query('select 1', [], { name: 'one' });
        expect(await other.query('select name from pg_prepared_statements')).toEqual([]);
        expect(await other.isPooled()).toBe(true);
        await Promise.all([pool.close(), other.close()]);
      } finally {
        await bouncer.stop();
      }
    });
  });
});
