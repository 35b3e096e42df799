import { expect, test } from 'vitest';
import {
  MIGRATION_LOCK,
  readMigrationState,
  runMigrations,
} from '../../src/database/migrations.ts';
import { describeDatabase, runningPostgres } from '../support/database.ts';
import { hasSchema, migrate, withDatabase } from '../support/migrating.ts';
import { createRecordingLogger } from '../support/recording-logger.ts';
import { dumpSchema } from '../support/schema-dump.ts';
import { until } from '../support/until.ts';

describeDatabase('the migrations', () => {
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
      expect(pending.length).toBeGreaterThan(2);
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
    // A hundred migrations and dumps.
  }, 120_000);

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
        /hashtextextended.*result_s3_key.*WHERE \(\(result_cleared_at IS NULL\) AND \(result_s3_key IS NOT NULL\)\)/su,
      );
      expect(indexes[1]?.definition).toMatch(
        /\(tenant_id, completed_at\) WHERE .*result_cleared_at IS NULL/,
      );
      await migrate(database, 'down');
      expect(
        await query(`select from pg_class where relname in ('retention_live', 'retention_key')`),
      ).toEqual([]);
    });
  });

  test("leave an application's own index called retention_live alone, up and down", async () => {
    await withDatabase(async (database) => {
      const { query } = database;
      const OWN = 'create index retention_live on runs (tenant_id)';
      await query(`${OWN}; comment on index retention_live is 'of the application'`);
      const definition = () =>
        query(`select pg_get_indexdef('retention_live'::regclass) as definition`);
      const before = await definition();
      await migrate(database, 'up');
      expect(await definition()).toEqual(before);
      expect(await query('select is_there from retention.index_state()')).toEqual([
        { is_there: true },
        { is_there: true },
      ]);
      expect(await query('select reason from retention.gate()')).toEqual([]);
      await migrate(database, 'down');
      expect(await definition()).toEqual(before);
      expect(
        await query(
          `select from pg_index i where i.indrelid = 'runs'::regclass and not i.indisprimary`,
        ),
      ).toHaveLength(1);
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
});
