import { expect, test } from 'vitest';
import {
  MIGRATION_LOCK,
  type MigrationSettings,
  readMigrationState,
  runMigrations,
} from '../../src/database/migrations.ts';
import { DatabaseError } from '../../src/errors.ts';
import { silentLogger } from '../../src/logger.ts';
import {
  type TestDatabase,
  createDatabase,
  describeDatabase,
  runningPostgres,
} from '../support/database.ts';
import { createRecordingLogger } from '../support/recording-logger.ts';
import { dumpSchema } from '../support/schema-dump.ts';
import { until } from '../support/until.ts';

describeDatabase('the migrations', () => {
  async function migrate(
    { url }: Pick<TestDatabase, 'url'>,
    direction: 'up' | 'down',
    options: { readonly count?: number; readonly settings?: MigrationSettings } = {},
  ): Promise<readonly string[]> {
    return runMigrations({
      databaseUrl: url,
      direction,
      count: options.count,
      settings: { scheduler: 'internal', ...options.settings },
      logger: silentLogger,
    });
  }

  async function withDatabase(work: (database: TestDatabase) => Promise<void>): Promise<void> {
    const database = await createDatabase();
    try {
      await work(database);
    } finally {
      await database.drop();
    }
  }

  async function hasSchema({ query }: TestDatabase): Promise<boolean> {
    const rows = await query(`select from pg_namespace where nspname = 'retention'`);
    return rows.length === 1;
  }

  test('up, down and up again leave the table as it was, with what was cleared', async () => {
    await withDatabase(async (database) => {
      const { query } = database;
      await query(`insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key, result_cleared_at)
        select 'acme', 'COMPLETED', now() - interval '40 days', 'b', 'key ' || n, case when n % 2 = 0 then now() end
        from generate_series(1, 10) n`);
      const before = await dumpSchema(database.url);
      const rows = await query('select * from runs order by run_id');
      const ran = await migrate(database, 'up');
      const schema = await dumpSchema(database.url);
      expect(await query('select * from runs order by run_id')).toEqual(rows);

      expect(await migrate(database, 'down')).toEqual(ran.toReversed());
      expect(await dumpSchema(database.url)).toBe(before);
      expect(await hasSchema(database)).toBe(false);
      expect(await query('select * from runs order by run_id')).toEqual(rows);

      expect(await migrate(database, 'up')).toEqual(ran);
      expect(await dumpSchema(database.url)).toBe(schema);
      expect(await query('select * from runs order by run_id')).toEqual(rows);
    });
  });

  test('every one of them goes up, down to where it was, and up again', async () => {
    await withDatabase(async (database) => {
      const { pending } = await readMigrationState(database.url);
      const dump = async (): Promise<string> => {
        const text = await dumpSchema(database.url, { privileges: false });
        // The first one down takes the schema with it, and the runner's own table.
        return (await hasSchema(database))
          ? text.replace(/^CREATE SCHEMA retention;$/mu, '')
          : text;
      };
      expect(pending.length).toBeGreaterThan(10);
      let before = await dump();
      for (const name of pending) {
        expect(await migrate(database, 'up', { count: 1 })).toEqual([name]);
        const after = await dump();
        expect(await migrate(database, 'down', { count: 1 })).toEqual([name]);
        expect([name, await dump()]).toEqual([name, before]);
        expect(await migrate(database, 'up', { count: 1 })).toEqual([name]);
        expect([name, await dump()]).toEqual([name, after]);
        before = after;
      }
      for (const name of pending.toReversed()) {
        expect(await migrate(database, 'down', { count: 1 })).toEqual([name]);
      }
      expect(await hasSchema(database)).toBe(false);
    });
  });

  test('are as the committed dump says', async () => {
    // What pg_dump writes differs from one major release to the next.
    if (runningPostgres().major !== 15) return;
    await withDatabase(async (database) => {
      await migrate(database, 'up');
      const text = await dumpSchema(database.url, { schema: 'retention', privileges: false });
      await expect(`${text}\n`).toMatchFileSnapshot('./schema.sql');
    });
  });

  test('know what a database has and what it lacks', async () => {
    await withDatabase(async (database) => {
      const before = await readMigrationState(database.url);
      expect(before.applied).toEqual([]);
      await migrate(database, 'up', { count: 2 });
      const half = await readMigrationState(database.url);
      expect(half.applied.map(({ name }) => name)).toEqual(before.pending.slice(0, 2));
      expect(half.pending).toEqual(before.pending.slice(2));
      for (const { at } of half.applied)
        expect(Math.abs(Date.now() - at.getTime())).toBeLessThan(60_000);
      expect(await migrate(database, 'up')).toEqual(before.pending.slice(2));
      expect((await readMigrationState(database.url)).pending).toEqual([]);
      expect(await migrate(database, 'up')).toEqual([]);
    });
  });

  test('run twice at once: one waits, and both succeed', async () => {
    await withDatabase(async (database) => {
      const { pending } = await readMigrationState(database.url);
      const runs = await Promise.all([
        migrate(database, 'up'),
        migrate(database, 'up'),
        migrate(database, 'up'),
      ]);
      expect(runs.toSorted((a, b) => b.length - a.length)).toEqual([pending, [], []]);
    });
  });

  test('wait for a run that is under way, and say so', async () => {
    await withDatabase(async (database) => {
      const other = await database.connect();
      await other.query('select pg_advisory_lock($1)', [MIGRATION_LOCK]);
      const logger = createRecordingLogger();
      const running = runMigrations({
        databaseUrl: database.url,
        direction: 'up',
        settings: { scheduler: 'internal' },
        logger,
      });
      await until('it says that it waits', () =>
        logger.lines.some(({ message }) => message.includes('waiting')),
      );
      expect(await hasSchema(database)).toBe(false);
      await other.query('select pg_advisory_unlock_all()');
      expect(await running).not.toEqual([]);
    });
  });

  test('stay out of the way of a live table: a lock that is taken is waited for in short turns', async () => {
    await withDatabase(async (database) => {
      const writer = await database.connect();
      await writer.query('begin');
      await writer.query(`insert into runs (tenant_id, status) values ('acme', 'RUNNING')`);
      const running = migrate(database, 'up');
      await until('the index waits for the writer', () =>
        database
          .query(
            `select from pg_stat_activity where query like 'create index%' and wait_event_type = 'Lock'`,
          )
          .then((rows) => rows.length > 0),
      );
      // Whoever comes after the migration's wait is not stuck behind it.
      await database.query(`insert into runs (tenant_id, status) values ('acme', 'RUNNING')`);
      await writer.query('commit');
      await running;
      expect(await database.query('select from runs')).toHaveLength(2);
    });
  });

  const faults: [string, string, MigrationSettings, RegExp, RegExp][] = [
    [
      'the table is not there',
      'alter table runs rename to jobs',
      {},
      /public\.runs was not found in database .*jobs/u,
      /RETENTION_TABLE/,
    ],
    [
      'the table has another name',
      '',
      { table: 'public.results' },
      /public\.results was not found.*runs/u,
      /RETENTION_TABLE/,
    ],
    [
      'the name is no name of a table',
      '',
      { table: 'public.runs; drop table runs' },
      /cannot be read as the name of a table/,
      /schema\.table/,
    ],
    [
      'it is a view',
      'create view seen as select * from runs',
      { table: 'public.seen' },
      /seen is not a table/,
      /plain or partitioned/,
    ],
    [
      'columns have other names',
      'alter table runs rename column result_s3_key to result_key; alter table runs rename column completed_at to finished_at',
      {},
      /key: looked for column result_s3_key.*completed_at: looked for column completed_at.*runs has: .*result_key/su,
      /RETENTION_COLUMNS/,
    ],
    [
      'a column has another type',
      'alter table runs drop column completed_at, add column completed_at text',
      {},
      /completed_at.*of type text, a timestamp is needed/,
      /RETENTION_COLUMNS/,
    ],
    ['the mapping cannot be read', '', { columns: 'bucket' }, /RETENTION_COLUMNS/, /./],
    [
      'the mapping names no view column',
      '',
      { columns: 'buckets=x' },
      /unknown view column buckets/,
      /run_id, tenant_id/,
    ],
    [
      'the mapping leaves out what is needed',
      '',
      { columns: 'key=' },
      /key must name a column/,
      /cannot be left out/,
    ],
    [
      'the run id is not unique',
      'alter table runs drop constraint runs_pkey',
      {},
      /unique/,
      /RETENTION_COLUMNS=run_id/,
    ],
    [
      'the role is not there',
      '',
      { role: 'nobody_of_that_name' },
      /nobody_of_that_name, which does not exist/,
      /create role/,
    ],
    [
      'pg_cron lives in another database',
      '',
      { scheduler: 'pg_cron' },
      /pg_cron lives in database postgres of this server, not in test_/,
      /CRON_DATABASE_URL.*RETENTION_SCHEDULER=internal/su,
    ],
  ];
  test.each(faults)(
    'stop when %s, saying what mends it, and leave nothing',
    async (_, sql, settings, message, remedy) => {
      await withDatabase(async (database) => {
        if (sql !== '') await database.query(sql);
        const before = await dumpSchema(database.url);
        const error: unknown = await migrate(database, 'up', { settings }).catch(
          (it: unknown) => it,
        );
        expect(error).toBeInstanceOf(DatabaseError);
        expect((error as DatabaseError).message).toMatch(message);
        expect((error as DatabaseError).remedy).toMatch(remedy);
        expect(await dumpSchema(database.url)).toBe(before);
        expect(await hasSchema(database)).toBe(false);
      });
    },
  );

  test('add the cleared-at column where it is missing, and leave it and its data behind', async () => {
    await withDatabase(async (database) => {
      const { query, one } = database;
      await query('alter table runs drop column result_cleared_at');
      await query(`insert into runs (tenant_id, status) values ('acme', 'COMPLETED')`);
      await migrate(database, 'up');
      expect(
        await one(`select format_type(atttypid, atttypmod) as type from pg_attribute
          where attrelid = 'runs'::regclass and attname = 'result_cleared_at'`),
      ).toEqual({ type: 'timestamp with time zone' });
      await query('update runs set result_cleared_at = now()');
      await migrate(database, 'down');
      expect(await one('select result_cleared_at is not null as is_kept from runs')).toEqual({
        is_kept: true,
      });
      await migrate(database, 'up');
      expect(await one('select cleared_at is not null as is_kept from retention.result')).toEqual({
        is_kept: true,
      });
    });
  });

  test('build both partial indexes, also over what a lost try has left invalid', async () => {
    await withDatabase(async (database) => {
      const { query } = database;
      await query('create index retention_live on runs (tenant_id)');
      await query(
        `update pg_index set indisvalid = false where indexrelid = 'retention_live'::regclass`,
      );
      await migrate(database, 'up');
      const indexes = await query<{ name: string; definition: string; is_valid: boolean }>(
        `select c.relname as name, pg_get_indexdef(i.indexrelid) as definition, i.indisvalid as is_valid
        from pg_index i join pg_class c on c.oid = i.indexrelid
        where i.indrelid = 'runs'::regclass and c.relname like 'retention%' order by 1`,
      );
      expect(indexes).toMatchObject([
        { name: 'retention_key', is_valid: true },
        { name: 'retention_live', is_valid: true },
      ]);
      expect(indexes[0]?.definition).toMatch(
        /\(result_s3_key.*WHERE \(result_cleared_at IS NULL\)/,
      );
      expect(indexes[1]?.definition).toMatch(
        /\(tenant_id, completed_at, run_id\) WHERE .*result_cleared_at IS NULL/,
      );
      await migrate(database, 'down');
      expect(
        await query(`select from pg_class where relname in ('retention_live', 'retention_key')`),
      ).toEqual([]);
    });
  });

  test('never meet the migrations of the application', async () => {
    await withDatabase(async (database) => {
      const { query } = database;
      await query(
        'create table public.pgmigrations (id serial primary key, name text not null, run_on timestamp not null)',
      );
      await query(`insert into public.pgmigrations (name, run_on) values ('0001_app', now())`);
      await migrate(database, 'up');
      await migrate(database, 'down');
      expect(await query('select name from public.pgmigrations')).toEqual([{ name: '0001_app' }]);
    });
  });

  test('leave what somebody else put into the schema', async () => {
    await withDatabase(async (database) => {
      await migrate(database, 'up');
      await database.query('create table retention.mine ()');
      await migrate(database, 'down');
      expect(await hasSchema(database)).toBe(true);
      expect(await database.query('select from retention.mine')).toEqual([]);
    });
  });

  test.each<[string, string, MigrationSettings]>([
    ['text keys', 'alter table runs alter column run_id type text', {}],
    [
      'integer keys',
      'alter table runs drop column run_id; alter table runs add column run_id bigint generated always as identity primary key',
      {},
    ],
    [
      'a fixed bucket and no updated_at',
      'alter table runs drop column result_s3_bucket, drop column updated_at',
      { columns: `bucket='dpp-results',updated_at=` },
    ],
    [
      'no tenants and no status',
      'alter table runs drop column tenant_id, drop column status',
      { columns: 'tenant_id=,status=' },
    ],
    [
      'points in time without a zone',
      'alter table runs alter column completed_at type timestamp',
      {},
    ],
    [
      'odd names',
      'alter table runs rename to "Odd, ""runs"""; alter table "Odd, ""runs""" rename column result_s3_key to "Key, of result"',
      { table: 'public."Odd, ""runs"""', columns: 'key="Key, of result"' },
    ],
  ])('adopt a table with %s, and its work goes through', async (_, sql, settings) => {
    await withDatabase(async (database) => {
      const { query, one } = database;
      await query(sql);
      await migrate(database, 'up', { settings });
      await query(`do $$ begin
        execute (select format('insert into %s (%s) values (%s)', table_name,
          concat_ws(', ', columns -> 'completed_at' ->> 'name', quote_ident(columns -> 'key' ->> 'name'),
            columns -> 'tenant_id' ->> 'name', columns -> 'status' ->> 'name', columns -> 'bucket' ->> 'name'),
          concat_ws(', ', 'now() - interval ''31 days''', '''the key''',
            case when columns -> 'tenant_id' ->> 'name' is not null then '''acme''' end,
            case when columns -> 'status' ->> 'name' is not null then '''COMPLETED''' end,
            case when columns -> 'bucket' ->> 'name' is not null then '''dpp-results''' end))
          from retention.adapter);
      end $$`);
      expect(await one('select retention.flag_expired() as flagged')).toEqual({ flagged: 1 });
      const lease = crypto.randomUUID();
      const claim = await one<{
        batch_id: string;
        bucket: string;
        run_ids: string[];
        keys: string[];
      }>(`select * from retention.claim($1, '1 minute')`, [lease]);
      expect(claim).toMatchObject({ bucket: 'dpp-results', keys: ['the key'] });
      expect(
        await one('select stamped from retention.settle($1, $2, $3::retention.run_id[])', [
          claim.batch_id,
          lease,
          claim.run_ids,
        ]),
      ).toEqual({ stamped: 1 });
      expect(await one('select cleared_at is not null as stamped from retention.result')).toEqual({
        stamped: true,
      });
      await migrate(database, 'down');
      expect(await hasSchema(database)).toBe(false);
    });
  });
});
