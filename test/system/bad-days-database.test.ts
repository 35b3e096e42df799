import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type MemoryS3, startMemoryS3 } from '../stack/memory-s3.ts';
import type { PrivatePostgres } from '../stack/private-postgres.ts';
import { type RunningCli, startCli } from '../support/cli.ts';
import { memoryS3Variables } from '../support/cli-stack.ts';
import { describeDatabase, startOwnPostgres } from '../support/database.ts';
import { IMPATIENT } from '../support/faulty-network.ts';
import { migrateUp } from '../support/migrated.ts';
import { until } from '../support/until.ts';

/** Longer than pg-listen is patient by default. */
const OUTAGE_MILLISECONDS = 4_000;

describeDatabase('a bad day of a server that goes down', () => {
  let server: PrivatePostgres;
  let s3: MemoryS3;
  beforeAll(async () => {
    server = await startOwnPostgres({ cron: false });
    await migrateUp(server.url());
    s3 = await startMemoryS3();
    s3.createBucket('dpp-results');
  });
  afterAll(async () => {
    await s3?.stop();
    await server?.stop();
  });
  beforeEach(async () => {
    await server.sql('truncate runs, retention.batch');
  });

  const listen = (): RunningCli =>
    startCli(['listen'], {
      env: {
        DATABASE_URL: server.url(),
        DPP_JSON_LOGS: 'false',
        ...memoryS3Variables(s3),
        ...IMPATIENT,
      },
    });

  async function insert(key: string): Promise<void> {
    s3.putObject('dpp-results', key);
    await server.sql(`insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      values ('acme', 'COMPLETED', now() - interval '31 days', 'dpp-results', '${key}')`);
  }

  const cleared = (listener: RunningCli, count: number) =>
    until(
      `${count} are cleared`,
      async () =>
        (await server.sql('select count(*) from runs where result_cleared_at is not null')) ===
        String(count),
      { limitMs: 40_000, pollMs: 100, seen: () => listener.stderr },
    );

  async function stopped(listener: RunningCli): Promise<void> {
    listener.kill();
    expect((await listener.ended()).code).toBe(0);
  }

  const linesOf = ({ stderr }: RunningCli, what: RegExp): number =>
    stderr.split('\n').filter((line) => what.test(line)).length;

  test('6: started before the database is up, comes up when the database does', async () => {
    await insert('early');
    await server.down();
    await using listener = listen();
    await listener.waitForLine(/ERROR .*(ECONNREFUSED|refused)/u);
    await server.up();
    await cleared(listener, 1);
    expect(s3.hasObject('dpp-results', 'early')).toBe(false);
    await stopped(listener);
  });

  test('6: down for longer than pg-listen is patient: says so a few times, listens again, catches up', async () => {
    await using listener = listen();
    await listener.waitForLine('Listening for notifications');
    await insert('before');
    await server.down('fast');
    const downAt = performance.now();
    await until('the outage has lasted', () => performance.now() - downAt > OUTAGE_MILLISECONDS);
    await server.up();
    await listener.waitForLine('Listening for notifications again', 40_000);
    await insert('after');
    await server.sql('select retention.flag_expired()');
    await cleared(listener, 2);
    // Growing pauses: a few lines of each kind and not one per try.
    expect(linesOf(listener, /WARNING|ERROR/u)).toBeLessThan(20);
    expect(linesOf(listener, /Not listening for notifications/u)).toBeLessThan(6);
    await stopped(listener);
  });

  test('stopped in immediate mode in the middle of a settle: settles once it is back', async () => {
    await insert('midway');
    await server.sql('select retention.flag_expired()');
    // Holds every stamp up for as long as the server lives.
    const holding = server
      .sql('begin; lock table runs in share mode; select pg_sleep(600)')
      .catch(() => undefined);
    await until(
      'the table is locked',
      async () =>
        (await server.sql(`select count(*) from pg_locks where mode = 'ShareLock' and granted`)) !==
        '0',
    );
    await using listener = listen();
    await until(
      'the settle waits',
      async () =>
        (await server.sql(
          `select count(*) from pg_stat_activity
          where wait_event_type = 'Lock' and query like '%retention.settle%' and pid <> pg_backend_pid()`,
        )) === '1',
      { seen: () => listener.stderr },
    );
    expect(s3.hasObject('dpp-results', 'midway')).toBe(false);
    await server.down('immediate');
    await holding;
    await listener.waitForLine('Settling is tried again');
    await server.up();
    await cleared(listener, 1);
    expect(await server.sql('select count(*) from retention.flagged')).toBe('0');
    await stopped(listener);
  });
});
