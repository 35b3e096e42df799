import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Findings } from '../../src/reactor/doctor/check.ts';
import { type MemoryS3, startMemoryS3 } from '../stack/memory-s3.ts';
import { runsTableSql } from '../stack/runs-table.ts';
import { runCli, startCli } from '../support/cli.ts';
import { memoryS3Variables } from '../support/cli-stack.ts';
import { asExamination } from '../support/doctor.ts';
import {
  type EmbeddedPostgres,
  findEmbeddedPostgres,
  startEmbeddedPostgres,
} from '../support/embedded-postgres.ts';
import { until } from '../support/until.ts';

const native = findEmbeddedPostgres();

describe.skipIf(native === undefined)('a newer PostgreSQL without pg_cron', () => {
  let server: EmbeddedPostgres;
  let s3: MemoryS3;
  beforeAll(async () => {
    server = await startEmbeddedPostgres(native ?? '', { databaseName: 'app' });
    await server.sql(runsTableSql, 'app');
    s3 = await startMemoryS3();
    s3.createBucket('dpp-results');
  });
  afterAll(async () => {
    await s3?.stop();
    await server?.stop();
  });

  const env = (more: Readonly<Record<string, string>> = {}) => ({
    DATABASE_URL: server.url('app'),
    RETENTION_SCHEDULER: 'internal',
    DPP_JSON_LOGS: 'false',
    ...memoryS3Variables(s3),
    ...more,
  });

  test('the migrations say what to do when pg_cron is asked for', async () => {
    const { code, stderr } = await runCli(['migrate', 'up'], {
      env: env({ RETENTION_SCHEDULER: 'pg_cron' }),
    });
    expect(code).toBe(1);
    expect(stderr).toContain('does not have pg_cron installed');
    expect(stderr).toContain('RETENTION_SCHEDULER=internal');
    expect(await server.sql(`select to_regnamespace('retention') is null`, 'app')).toBe('t');
  });

  test('the whole cycle: migrate, tick by a listener, delete, stamp, reconcile, down', async () => {
    expect(server.major).toBeGreaterThan(15);
    expect((await runCli(['migrate', 'up'], { env: env() })).code).toBe(0);
    for (const key of ['due', 'fresh', 'later']) s3.putObject('dpp-results', key);
    const insert = (key: string, ago: string): Promise<string> =>
      server.sql(
        `insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
        values ('acme', 'COMPLETED', now() - interval '${ago}', 'dpp-results', '${key}')`,
        'app',
      );
    await insert('due', '31 days');
    await insert('fresh', '29 days');
    const stamped = (): Promise<string> =>
      server.sql(
        `select string_agg(result_s3_key, ',' order by result_s3_key) from runs
        where result_cleared_at is not null`,
        'app',
      );
    {
      await using listener = startCli(['listen'], { env: env() });
      await listener.waitForLine('1 S3 object deleted, 1 run marked as cleared', 30_000);
      expect(await stamped()).toBe('due');
      expect(await server.sql('select ticked_by from retention.heartbeat', 'app')).toBe('internal');

      const doctor = await runCli(['doctor', '--json'], { env: env() });
      const { named, check } = asExamination(JSON.parse(doctor.stdout) as Findings);
      expect(named('failed')).toEqual([]);
      expect(check('scheduler').found).toContain('internal');
      expect(check('ticks').state).toBe('ok');
      expect(check('DATABASE_URL').found).toContain(`PostgreSQL ${server.major}.`);
      expect(doctor.code).toBe(0);

      listener.kill();
      expect((await listener.ended()).code).toBe(0);
    }
    await insert('later', '40 days');
    const { code, stdout } = await runCli(['reconcile', '--json'], { env: env() });
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ flagged: 1, cleared: 1, failed: 0, dead: 0 });
    await until('both are stamped', async () => (await stamped()) === 'due,later');
    expect(s3.countObjects('dpp-results')).toBe(1);
    expect(s3.hasObject('dpp-results', 'fresh')).toBe(true);
    const status = await runCli(['status', '--json'], { env: env() });
    expect(JSON.parse(status.stdout)).toMatchObject({ due: 0, cleared_today: 2 });

    expect((await runCli(['migrate', 'down', '--yes'], { env: env() })).code).toBe(0);
    expect(await server.sql(`select to_regnamespace('retention') is null`, 'app')).toBe('t');
    expect(await stamped()).toBe('due,later');
  });
});
