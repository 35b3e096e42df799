import { afterAll, beforeAll, expect, test } from 'vitest';
import { runMigrations } from '../../src/database/migrations.ts';
import { type MemoryS3, startMemoryS3 } from '../stack/memory-s3.ts';
import type { PrivatePostgres } from '../stack/private-postgres.ts';
import { silentLogger } from '../../src/logger.ts';
import { startCli } from '../support/cli.ts';
import { memoryS3Variables } from '../support/cli-stack.ts';
import { describeDatabase, startOwnPostgres } from '../support/database.ts';
import { listenInPsql } from '../support/psql.ts';
import { until } from '../support/until.ts';

/** A tick comes each minute, on the minute. */
const TICK_LIMIT_MS = 80_000;

describeDatabase('a real tick of pg_cron', () => {
  let server: PrivatePostgres;
  let s3: MemoryS3;

  beforeAll(async () => {
    server = await startOwnPostgres();
    s3 = await startMemoryS3();
    s3.createBucket('dpp-results');
    s3.createBucket('seals');
    await runMigrations({
      databaseUrl: server.url(),
      direction: 'up',
      settings: { scheduler: 'pg_cron' },
      logger: silentLogger,
    });
  });
  afterAll(async () => {
    await s3?.stop();
    await server?.stop();
  });

  test('flags, is announced in psql, and leads to deletion with nothing else but a listener', async () => {
    for (const name of ['due', 'fresh', 'failed']) s3.putObject('dpp-results', name);
    await server.sql(`insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key) values
      ('acme', 'COMPLETED', now() - interval '31 days', 'dpp-results', 'due'),
      ('acme', 'COMPLETED', now() - interval '29 days', 'dpp-results', 'fresh'),
      ('acme', 'FAILED', now() - interval '31 days', 'dpp-results', 'failed')`);
    const person = await listenInPsql(
      server.url(),
      ['retention_expired', 'retention_cleared', 'retention_failed'],
      server.psqlPath,
    );
    try {
      await using listener = startCli(['listen'], {
        env: {
          DATABASE_URL: server.url(),
          DPP_JSON_LOGS: 'false',
          RETENTION_SEAL_BUCKET: 'seals',
          ...memoryS3Variables(s3),
        },
      });
      await listener.waitForLine('Listening for notifications');
      const expired = await person.waitFor(
        ({ channel }) => channel === 'retention_expired',
        TICK_LIMIT_MS,
      );
      const cleared = await person.waitFor(({ channel }) => channel === 'retention_cleared');
      const oldest = await server.sql(
        `select retention._iso(completed_at) from runs where result_s3_key = 'due'`,
      );
      expect(expired.payload).toBe(
        `{"batches":1,"results":1,"buckets":["dpp-results"],"oldest":"${oldest}"}`,
      );
      expect(cleared.payload).toMatch(
        /^\{"batch":1,"bucket":"dpp-results","cleared":1,"spared":0,"failed":0,"ms":\d+\}$/u,
      );
      expect(
        await server.sql('select result_s3_key from runs where result_cleared_at is not null'),
      ).toBe('due');
      expect(['due', 'fresh', 'failed'].map((key) => s3.hasObject('dpp-results', key))).toEqual([
        false,
        true,
        true,
      ]);

      // It was pg_cron and nobody else.
      expect(await server.sql('select asked_by from retention.scan')).toBe('pg_cron');
      expect(await server.sql('select ticked_by from retention.heartbeat')).toBe('pg_cron');
      await until(
        'pg_cron has written down that it succeeded',
        async () =>
          (await server.sql(
            `select status from cron.job_run_details where command = 'select retention.tick()' order by runid limit 1`,
          )) === 'succeeded',
      );

      // Its receipt is sealed, and the head leaves the database: a line in the log, and an object for each seal.
      const seal = Number(await server.sql('select seal_id from retention.seal_now()'));
      expect(
        await server.sql('select count(*) from retention.batch where seal_id is not null'),
      ).toBe('1');
      await listener.waitForLine(`Sealed: ${seal}-`);
      await until('each seal is an object', () => s3.countObjects('seals') === seal);
      listener.kill();
      expect((await listener.ended()).code).toBe(0);
    } finally {
      await person.close();
    }
  });

  test('whose run history is pruned', async () => {
    await server.sql(`insert into cron.job_run_details (jobid, runid, command, status, end_time)
      select jobid, 1000 + n, command, 'succeeded', now() - interval '2 days' from cron.job, generate_series(1, 50) n;
      update retention.heartbeat set cleaned_up_at = now() - interval '2 hours';
      select retention.tick()`);
    expect(
      await server.sql(
        `select count(*) from cron.job_run_details where end_time < now() - interval '1 day'`,
      ),
    ).toBe('0');
    expect(await server.sql('select count(*) > 0 from cron.job_run_details')).toBe('t');
  });

  test('that stays away is noticed, and the listener flags by itself', async () => {
    s3.putObject('dpp-results', 'missed');
    await server.sql(`update cron.job set active = false;
      update retention.heartbeat set ticked_at = now() - interval '6 minutes', passed_at = now() - interval '2 days';
      insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      values ('acme', 'COMPLETED', now() - interval '31 days', 'dpp-results', 'missed')`);
    await using listener = startCli(['listen'], {
      env: { DATABASE_URL: server.url(), DPP_JSON_LOGS: 'false', ...memoryS3Variables(s3) },
    });
    await listener.waitForLine(/WARNING pg_cron has been silent for too long/u);
    await until(
      'the result is cleared',
      async () =>
        (await server.sql(
          `select result_cleared_at is not null from runs where result_s3_key = 'missed'`,
        )) === 't',
    );
    expect(
      await server.sql('select asked_by from retention.scan order by scan_id desc limit 1'),
    ).toBe('listener');
  });
});
