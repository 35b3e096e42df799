import { afterAll, beforeAll, expect, test } from 'vitest';
import type { PrivatePostgres } from '../stack/private-postgres.ts';
import type { Findings } from '../../src/reactor/doctor/check.ts';
import { runCli } from '../support/cli.ts';
import { describeDatabase, startOwnPostgres } from '../support/database.ts';
import { asExamination } from '../support/doctor.ts';
import { until } from '../support/until.ts';

/** A tick comes each minute, on the minute. */
const TICK_LIMIT_MS = 80_000;

describeDatabase('pg_cron in another database of the server', () => {
  let server: PrivatePostgres;
  beforeAll(async () => {
    server = await startOwnPostgres({ cron: { databaseName: 'jobs' } });
    await server.sql('create extension pg_cron', 'jobs');
  });
  afterAll(() => server?.stop());

  const env = (more: Readonly<Record<string, string>> = {}) => ({
    DATABASE_URL: server.url('app'),
    CRON_DATABASE_URL: server.url('jobs'),
    ...more,
  });
  const jobs = (): Promise<string> =>
    server.sql('select jobname, database, command, active from cron.job order by jobid', 'jobs');
  const examine = async (more: Readonly<Record<string, string>> = {}) => {
    const { stdout } = await runCli(['doctor', '--json'], { env: env(more) });
    return asExamination(JSON.parse(stdout) as Findings);
  };

  test('without its address, the migrations say which one is needed, and do nothing', async () => {
    const { code, stderr } = await runCli(['migrate', 'up'], {
      env: { DATABASE_URL: server.url('app') },
    });
    expect(code).toBe(1);
    expect(stderr).toContain('pg_cron lives in database jobs');
    expect(stderr).toContain('CRON_DATABASE_URL');
    expect(await server.sql(`select to_regnamespace('retention') is null`)).toBe('t');
  });

  test('a real tick from there flags here; down removes the job', async () => {
    expect((await runCli(['migrate', 'up'], { env: env() })).code).toBe(0);
    expect((await runCli(['migrate', 'up'], { env: env() })).code).toBe(0);
    expect(await jobs()).toBe('retention-tick:app|app|select retention.tick()|t');
    // Another's job of that name is left alone.
    await server.sql(`select cron.schedule('retention-tick:other', '0 3 * * *', 'vacuum')`, 'jobs');

    await server.sql(
      `insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      values ('acme', 'COMPLETED', now() - interval '31 days', 'dpp-results', 'due')`,
    );
    await until(
      'a tick has flagged it',
      async () => (await server.sql('select count(*) from retention.flagged')) === '1',
      { limitMs: TICK_LIMIT_MS, pollMs: 250 },
    );
    expect(await server.sql('select ticked_by from retention.heartbeat')).toBe('pg_cron');

    await until(
      'the run is on record',
      async () =>
        (await server.sql(
          `select count(*) from cron.job_run_details where status = 'succeeded'`,
          'jobs',
        )) !== '0',
    );
    const well = await examine();
    expect(well.check('pg_cron')).toMatchObject({ state: 'ok' });
    expect(well.check('pg_cron').found).toContain('"retention-tick:app" of postgres');
    expect(well.check('ticks')).toMatchObject({ state: 'ok' });

    expect((await examine({ CRON_DATABASE_URL: '' })).check('pg_cron')).toMatchObject({
      state: 'warning',
      remedy: 'Set CRON_DATABASE_URL to it.',
    });
    await server.sql(
      `select cron.alter_job(jobid, active := false) from cron.job where database = 'app'`,
      'jobs',
    );
    const off = await examine();
    expect(off.check('pg_cron')).toMatchObject({ state: 'failed' });
    expect(off.check('pg_cron').remedy).toContain('active := true');
    await server.sql(
      `insert into cron.job_run_details (jobid, runid, status, return_message)
      select jobid, 1000000, 'failed', 'connection failed' from cron.job where database = 'app';
      select cron.alter_job(jobid, active := true) from cron.job where database = 'app'`,
      'jobs',
    );
    expect((await examine()).check('pg_cron').found).toContain('connection failed');

    const lost = await runCli(['migrate', 'down', '--yes'], {
      env: { DATABASE_URL: server.url('app'), RETENTION_SCHEDULER: 'pg_cron' },
    });
    expect(lost.code).toBe(1);
    expect(lost.stderr).toContain('CRON_DATABASE_URL');
    expect((await runCli(['migrate', 'down', '--yes'], { env: env() })).code).toBe(0);
    expect(await jobs()).toBe('retention-tick:other|jobs|vacuum|t');
    expect(await server.sql(`select to_regnamespace('retention') is null`)).toBe('t');
  });
});
