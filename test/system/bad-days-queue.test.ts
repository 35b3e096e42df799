import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type MemoryS3, startMemoryS3 } from '../stack/memory-s3.ts';
import { runsTableSql } from '../stack/runs-table.ts';
import type { Findings } from '../../src/reactor/doctor/check.ts';
import { type RunningCli, type Variables, runCli, startCli } from '../support/cli.ts';
import { memoryS3Variables } from '../support/cli-stack.ts';
import { asExamination } from '../support/doctor.ts';
import {
  type EmbeddedPostgres,
  findEmbeddedPostgres,
  startEmbeddedPostgres,
} from '../support/embedded-postgres.ts';
import { IMPATIENT } from '../support/faulty-network.ts';
import { migrateUp } from '../support/migrated.ts';
import { until } from '../support/until.ts';

/** The least that PostgreSQL 17 and later take: half a megabyte, of usually eight thousand. */
const QUEUE_PAGES = '64';

/** Nearly a page. */
const LONG_PAYLOAD = `repeat('x', 7900)`;

const native = findEmbeddedPostgres();

describe.skipIf(native === undefined)('a bad day of the notification queue', () => {
  let server: EmbeddedPostgres;
  let s3: MemoryS3;
  beforeAll(async () => {
    server = await startEmbeddedPostgres(native ?? '', {
      databaseName: 'app',
      settings: { max_notify_queue_pages: QUEUE_PAGES },
    });
    await server.sql(runsTableSql, 'app');
    await migrateUp(server.url('app'));
    await server.sql(`update retention.setting set retry_base = '300 ms'`, 'app');
    s3 = await startMemoryS3();
    s3.createBucket('dpp-results');
  });
  afterAll(async () => {
    await s3?.stop();
    await server?.stop();
  });

  const env = (): Variables => ({
    DATABASE_URL: server.url('app'),
    RETENTION_SCHEDULER: 'internal',
    DPP_JSON_LOGS: 'false',
    ...memoryS3Variables(s3),
    ...IMPATIENT,
  });
  const sql = (text: string): Promise<string> => server.sql(text, 'app');
  const usage = async (): Promise<number> =>
    Number(await sql('select pg_notification_queue_usage()'));

  async function connect(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: server.url('app') });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  }

  async function insertDue(...keys: readonly string[]): Promise<void> {
    for (const key of keys) s3.putObject('dpp-results', key);
    await sql(`insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      select 'acme', 'COMPLETED', now() - interval '31 days', 'dpp-results', k
      from unnest(string_to_array('${keys.join(',')}', ',')) k`);
  }

  const cleared = (count: number, listener: RunningCli) =>
    until(
      `${count} are cleared`,
      async () =>
        (await sql('select count(*) from runs where result_cleared_at is not null')) ===
        String(count),
      { limitMs: 20_000, pollMs: 100, seen: () => listener.stderr },
    );

  test('really full: nothing is announced, the work goes on, and it is said everywhere', async () => {
    await using listener = startCli(['listen'], { env: { ...env(), RETENTION_HTTP_PORT: '0' } });
    const served = await listener.waitForLine('Serving health, metrics and status on');
    const [base = ''] = /http:\/\/[\w.:]+\//u.exec(served) ?? [];
    const get = async (path: string): Promise<string> => (await fetch(new URL(path, base))).text();
    await listener.waitForLine('Listening for notifications');

    // Who listens in a transaction that never ends takes nothing out of the queue, and keeps the rest.
    const idle = await connect();
    await idle.query('listen anything');
    await idle.query('begin; select 1');
    const watcher = await connect();
    const heard: string[] = [];
    watcher.on('notification', ({ channel }) => heard.push(channel));
    await watcher.query(
      'listen retention_expired; listen retention_cleared; listen retention_failed',
    );

    const flooder = await connect();
    while ((await usage()) <= 0.5) {
      await flooder.query(
        `select pg_notify('anything', ${LONG_PAYLOAD} || n) from generate_series(1, 4) n`,
      );
    }
    await insertDue('past-half');
    await sql('select retention.flag_expired()');
    await cleared(1, listener);

    await expect(
      (async () => {
        for (;;) await flooder.query(`select pg_notify('anything', ${LONG_PAYLOAD})`);
      })(),
    ).rejects.toThrow('too many notifications in the NOTIFY queue');
    // What is full to the last page fails every commit that notifies.
    await expect(
      (async () => {
        for (;;) await flooder.query(`select pg_notify('anything', 'x')`);
      })(),
    ).rejects.toThrow('too many notifications in the NOTIFY queue');
    // Who starts now hears nothing of its own, and polls.
    await using second = startCli(['listen'], { env: env() });
    await second.waitForLine(/Not listening for notifications.*too many notifications/u);
    await insertDue('full-1', 'full-2');
    await sql(`insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      values ('acme', 'COMPLETED', now() - interval '31 days', 'no-such-bucket', 'refused')`);
    await sql('select retention.flag_expired()');
    await cleared(3, listener);
    await until(
      'what S3 refused is written down',
      async () => (await sql('select count(*) from retention.flagged where attempts > 0')) === '1',
    );
    expect(heard).toEqual([]);
    for (const { stderr } of [listener, second]) {
      expect(stderr).not.toContain('retention cycle failed');
    }

    const doctor = await runCli(['doctor', '--json'], { env: env() });
    const { check } = asExamination(JSON.parse(doctor.stdout) as Findings);
    expect(check('notification queue')).toMatchObject({ state: 'failed' });
    expect(check('notification queue').found).toMatch(/announcements are silent/u);
    expect(await get('/')).toMatch(/The notification queue of the server is \d+ % full/u);
    const ratio = /^retention_notify_queue_usage_ratio (.*)$/mu.exec(await get('metrics'));
    expect(Number(ratio?.[1])).toBeGreaterThan(0.9);

    await idle.query('rollback');
    await until('the queue is empty', async () => (await usage()) < 0.1, { limitMs: 20_000 });
    await second.waitForLine(/Listening for notifications/u, 40_000);
    await insertDue('after');
    await sql('select retention.flag_expired()');
    await cleared(4, listener);
    await until('it is announced again', () => heard.includes('retention_cleared'));
    for (const client of [idle, watcher, flooder]) await client.end();
    for (const each of [listener, second]) {
      each.kill();
      expect((await each.ended()).code).toBe(0);
    }
  });
});
