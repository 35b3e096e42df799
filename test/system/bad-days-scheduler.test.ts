import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type MemoryS3, startMemoryS3 } from '../stack/memory-s3.ts';
import type { PrivatePostgres } from '../stack/private-postgres.ts';
import { type RunningCli, type Variables, runCli, startCli } from '../support/cli.ts';
import { memoryS3Variables } from '../support/cli-stack.ts';
import { describeDatabase, startOwnPostgres } from '../support/database.ts';
import { until } from '../support/until.ts';

const THE_JOB = 'retention-tick|* * * * *|select retention.tick()|app|t';

describeDatabase('a bad day of the scheduler', () => {
  let server: PrivatePostgres;
  let s3: MemoryS3;
  beforeAll(async () => {
    server = await startOwnPostgres();
    s3 = await startMemoryS3();
    s3.createBucket('dpp-results');
    for (const role of ['first_owner', 'second_owner']) {
      await server.sql(`create role ${role} superuser login`);
    }
    await server.sql('create role stranger login');
  });
  afterAll(async () => {
    await s3?.stop();
    await server?.stop();
  });
  beforeEach(async () => {
    await server.sql(`drop schema if exists retention cascade`);
    await server.sql(`truncate runs; delete from cron.job`).catch(() => undefined);
  });

  const env = (user?: string): Variables => ({
    DATABASE_URL: server.url('app', user),
    DPP_JSON_LOGS: 'false',
    RETENTION_POLL_SECONDS: '1',
    ...memoryS3Variables(s3),
  });
  const migrate = (user?: string, direction = ['up']) =>
    runCli(['migrate', ...direction], { env: env(user) });
  const jobs = (): Promise<string> =>
    server.sql('select jobname, schedule, command, database, active from cron.job order by jobid');

  async function insertDue(key: string): Promise<void> {
    s3.putObject('dpp-results', key);
    await server.sql(`insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      values ('acme', 'COMPLETED', now() - interval '31 days', 'dpp-results', '${key}')`);
  }

  const cleared = (listener: RunningCli, key: string) =>
    until(
      `${key} is cleared`,
      async () =>
        (await server.sql(
          `select result_cleared_at is not null from runs where result_s3_key = '${key}'`,
        )) === 't',
      { limitMs: 20_000, pollMs: 100, seen: () => listener.stderr },
    );

  /** As if this long had passed since pg_cron was heard of. */
  const silence = (): Promise<string> =>
    server.sql(`update retention.heartbeat
      set ticked_at = now() - interval '6 minutes', passed_at = now() - interval '2 days'`);

  async function standsIn(listener: RunningCli): Promise<void> {
    await listener.waitForLine(/WARNING pg_cron has been silent for too long/u);
    await cleared(listener, 'missed');
    expect(await server.sql('select ticked_by from retention.heartbeat')).toBe('listener');
    const doctor = await runCli(['doctor'], { env: env() });
    expect([doctor.code, doctor.stdout]).toEqual([1, expect.stringMatching(/tick/u)]);
    // pg_cron is back: it says so once, and leaves the flagging to it.
    await server.sql('select retention.tick()');
    await listener.waitForLine('The scheduler ticks again');
    expect(listener.stderr.match(/pg_cron has been silent/gu)).toHaveLength(1);
    listener.kill();
    expect((await listener.ended()).code).toBe(0);
  }

  test('11: pg_cron dead: a listener notices, says so once, and flags in its place', async () => {
    expect((await migrate()).code).toBe(0);
    // A signal to no number at all would go to this very test.
    const launcher = await until(
      'pg_cron is up',
      async () =>
        Number(
          await server.sql(
            `select max(pid) from pg_stat_activity where application_name = 'pg_cron scheduler'`,
          ),
        ),
      { seen: () => server.logTail(5) },
    );
    process.kill(launcher, 'SIGSTOP');
    try {
      await silence();
      await insertDue('missed');
      await using listener = startCli(['listen'], { env: env() });
      await standsIn(listener);
    } finally {
      process.kill(launcher, 'SIGCONT');
    }
  });

  test('11: the job disabled: a listener notices, says so once, and flags in its place', async () => {
    expect((await migrate()).code).toBe(0);
    await server.sql('update cron.job set active = false');
    await silence();
    await insertDue('missed');
    await using listener = startCli(['listen'], { env: env() });
    await standsIn(listener);
  });

  test('11: the job gone: a listener flags in its place, and reconciling needs neither', async () => {
    expect((await migrate()).code).toBe(0);
    await server.sql('delete from cron.job');
    await silence();
    await insertDue('missed');
    const { code, stdout } = await runCli(['reconcile', '--json'], { env: env() });
    expect([code, JSON.parse(stdout)]).toMatchObject([0, { flagged: 1, cleared: 1 }]);
    await insertDue('again');
    await silence();
    await using listener = startCli(['listen'], { env: env() });
    await cleared(listener, 'again');
    const doctor = await runCli(['doctor'], { env: env() });
    expect([doctor.code, doctor.stdout]).toEqual([1, expect.stringMatching(/job/u)]);
  });

  test('11: migrated by two roles at once, there is one job, and either may go on', async () => {
    const both = await Promise.all([migrate('first_owner'), migrate('second_owner')]);
    expect(both.map(({ code, stderr }) => [code, stderr.match(/error/giu)])).toEqual([
      [0, null],
      [0, null],
    ]);
    expect(await jobs()).toBe(THE_JOB);
    for (const user of ['first_owner', 'second_owner', undefined]) {
      expect((await migrate(user)).code).toBe(0);
    }
    expect(await jobs()).toBe(THE_JOB);
    const refused = await migrate('stranger', ['down', '--yes']);
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringMatching(/permission|role/u)]);
    expect(await jobs()).toBe(THE_JOB);
    const other = (await server.sql('select username from cron.job')) === 'first_owner';
    const down = await migrate(other ? 'second_owner' : 'first_owner', ['down', '--yes']);
    expect([down.code, await jobs()]).toEqual([0, '']);
  });

  test('11: the job of a role that is not there any more is noticed, and its work done', async () => {
    expect((await migrate('first_owner')).code).toBe(0);
    // It fails each minute from now on, as pg_cron says in its run history alone.
    await server.sql(`alter role first_owner nologin;
      revoke all on function retention.tick(text) from public;
      update cron.job set username = 'stranger'`);
    await silence();
    await insertDue('missed');
    await using listener = startCli(['listen'], { env: env() });
    await standsIn(listener);
    await server.sql('alter role first_owner login');
  });
});
