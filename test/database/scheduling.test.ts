import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import {
  type MigrationSettings,
  readMigrationState,
  runMigrations,
} from '../../src/database/migrations.ts';
import { type PrivatePostgres, startPrivatePostgres } from '../stack/private-postgres.ts';
import { runsTableSql } from '../stack/runs-table.ts';
import { silentLogger } from '../../src/logger.ts';
import { describeDatabase, startOwnPostgres } from '../support/database.ts';

const run = promisify(execFile);

describeDatabase('the one job of pg_cron', () => {
  let server: PrivatePostgres;
  beforeAll(async () => {
    server = await startOwnPostgres();
  });
  afterAll(() => server?.stop());
  beforeEach(async () => {
    await server.sql('drop schema if exists retention cascade');
    await server.sql(`delete from cron.job`).catch(() => undefined);
    await server.sql(
      'drop table if exists public.pgmigrations; drop index if exists retention_live, retention_key',
    );
  });

  async function migrate(
    direction: 'up' | 'down' = 'up',
    settings: MigrationSettings = {},
    user = 'postgres',
  ): Promise<readonly string[]> {
    return runMigrations({
      databaseUrl: server.url('app', user),
      direction,
      settings: { scheduler: 'pg_cron', ...settings },
      logger: silentLogger,
    });
  }

  const jobs = (): Promise<string> =>
    server.sql('select jobname, schedule, command, database, active from cron.job order by jobid');

  const THE_JOB = 'retention-tick|* * * * *|select retention.tick()|app|t';

  test('is there once, however often the migrations run', async () => {
    await migrate();
    expect(await jobs()).toBe(THE_JOB);
    await migrate();
    expect(await jobs()).toBe(THE_JOB);
    await Promise.all([migrate(), migrate()]);
    expect(await jobs()).toBe(THE_JOB);
    await migrate('down');
    expect(await jobs()).toBe('');
    await migrate();
    expect(await jobs()).toBe(THE_JOB);
  });

  test('is told of once more after the first migration: pg_cron can miss it while it reads its list', async () => {
    const isToldLater = (): Promise<string> =>
      server.sql(`select j.xmin::text::bigint > (select max(m.xmin::text::bigint) from retention.pgmigrations m)
        from cron.job j`);
    await migrate();
    expect(await isToldLater()).toBe('t');
    await server.sql('drop function retention.retry(text[], text, text, text, boolean)');
    await migrate();
    expect(await isToldLater()).toBe('f');
  });

  test('is there once when two run for the first time at once', async () => {
    await Promise.all([migrate(), migrate()]);
    expect(await jobs()).toBe(THE_JOB);
  });

  test('is there once when the last step is taken back and done again by somebody else', async () => {
    await migrate();
    await server.sql('create role second_owner superuser login').catch(() => undefined);
    await runMigrations({
      databaseUrl: server.url('app'),
      direction: 'down',
      count: 1,
      logger: silentLogger,
    });
    await migrate('up', {}, 'second_owner');
    expect(await jobs()).toBe(THE_JOB);
    await migrate('down');
    expect(await jobs()).toBe('');
  });

  test('is not made for the internal scheduler', async () => {
    await migrate('up', { scheduler: 'internal' });
    expect(await jobs()).toBe('');
    await migrate('down', { scheduler: 'internal' });
  });

  test('leaves the jobs of others alone', async () => {
    await server.sql(`select cron.schedule('nightly', '0 3 * * *', 'vacuum')`);
    await migrate();
    await migrate('down');
    expect(await jobs()).toBe('nightly|0 3 * * *|vacuum|app|t');
  });

  describe('made by plain node-pg-migrate', () => {
    const main = createRequire(import.meta.url).resolve('node-pg-migrate/bin/node-pg-migrate');
    const folder = fileURLToPath(new URL('../..', import.meta.url));

    async function plain(direction: string, ...flags: string[]): Promise<void> {
      await run(process.execPath, [main, direction, ...flags], {
        cwd: folder,
        env: { PATH: process.env['PATH'], DATABASE_URL: server.url('app') },
      });
    }

    test('beside the migrations of a project, in a schema of its own, and known to the product', async () => {
      const own = mkdtempSync(join(tmpdir(), 'retention-project-'));
      onTestFinished(() => rmSync(own, { recursive: true, force: true }));
      writeFileSync(join(own, '1_notes.sql'), 'create table notes (id int);');
      await plain('up', '-m', own);
      const flags = ['--migrations-schema', 'retention', '--create-migrations-schema'];
      await plain('up', ...flags);
      expect(await jobs()).toBe(THE_JOB);
      const { applied, pending } = await readMigrationState(server.url('app'));
      expect([applied.length > 2, pending]).toEqual([true, []]);
      expect(await migrate()).toEqual([]);
      // A later one of the project comes after ours, and an earlier one of ours is none of its own.
      writeFileSync(join(own, '2_notes.sql'), 'alter table notes add column text text;');
      await plain('up', '-m', own);
      expect(await server.sql(`select string_agg(name, ',' order by id) from pgmigrations`)).toBe(
        '1_notes,2_notes',
      );
      await plain('up', ...flags);
      expect(await jobs()).toBe(THE_JOB);
      expect(await server.sql('select flagged from retention.flag_expired() as flagged')).toBe('0');
      expect(await migrate('down')).toHaveLength(applied.length);
      expect(await jobs()).toBe('');
      await server.sql('drop table notes, pgmigrations');
    });

    test('without any flags', async () => {
      await plain('up');
      expect(await jobs()).toBe(THE_JOB);
      expect(await server.sql('select flagged from retention.flag_expired() as flagged')).toBe('0');
      await plain('down', '9999');
      expect(await jobs()).toBe('');
      expect(await server.sql(`select to_regclass('retention.batch') is null`)).toBe('t');
    });
  });
});

describeDatabase('a server without pg_cron', () => {
  let server: PrivatePostgres;
  beforeAll(async () => {
    server = await startPrivatePostgres({ databaseName: 'app' });
    await server.sql(runsTableSql);
  });
  afterAll(() => server?.stop());

  const migrate = (scheduler: 'pg_cron' | 'internal'): Promise<readonly string[]> =>
    runMigrations({
      databaseUrl: server.url('app'),
      direction: 'up',
      settings: { scheduler },
      logger: silentLogger,
    });

  test('stops the migrations with what to install or to set, and keeps nothing of them', async () => {
    await expect(migrate('pg_cron')).rejects.toMatchObject({
      message: expect.stringMatching(
        /pg_cron is not loaded|does not have pg_cron installed/,
      ) as string,
      remedy: expect.stringMatching(
        /shared_preload_libraries = 'pg_cron'.*RETENTION_SCHEDULER=internal/su,
      ) as string,
    });
    expect(await server.sql(`select count(*) from pg_namespace where nspname = 'retention'`)).toBe(
      '0',
    );
  });

  test('is served by the internal scheduler', async () => {
    expect(await migrate('internal')).not.toEqual([]);
    expect(await server.sql(`select retention.tick('internal')`)).toBe('0');
  });
});
