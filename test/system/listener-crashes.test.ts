import { expect, test } from 'vitest';
import { startCli } from '../support/cli.ts';
import { memoryS3Variables, useCliStack } from '../support/cli-stack.ts';
import { describeDatabase, startOwnPostgres } from '../support/database.ts';
import { migrateUp } from '../support/migrated.ts';
import { until } from '../support/until.ts';

describeDatabase('a listener that is ended, or whose database is', () => {
  const stack = useCliStack();
  const flag = (): Promise<unknown> => stack.database().query('select retention.flag_expired()');

  test('promise 2 and 3: killed between the answer of S3 and the settle, another one finishes', async () => {
    const { query, countStamped, expireLeases } = stack.database();
    await stack.insertResults({ count: 20 });
    await flag();
    const release = await stack.holdStamps();
    const listener = await stack.listen();
    const settling = await stack.settleWaits();
    expect(stack.s3().countObjects('dpp-results')).toBe(0);
    listener.kill('SIGKILL');
    await listener.ended();
    // The statement that was already sent dies with its session, as with the host it came from.
    await query('select pg_terminate_backend($1)', [settling]);
    await release();
    expect(await countStamped()).toBe(0);
    expect(await query('select from retention.expired')).toHaveLength(20);

    // While the lease lasts, another listener leaves the batch alone.
    const second = await stack.listen();
    await stack.insertResults({ count: 1 });
    await flag();
    await stack.cleared(1);
    expect(await countStamped()).toBe(1);
    await expireLeases();
    await query(`select pg_notify('retention_expired', '')`);
    await stack.cleared(21);
    expect(await query('select from retention.expired')).toEqual([]);
    second.kill();
    expect((await second.ended()).code).toBe(0);
  });

  test('promise 3: killed while S3 has not answered, nothing is stamped that was not deleted', async () => {
    const { query, expireLeases } = stack.database();
    await stack.insertResults({ count: 20 });
    await flag();
    const listener = await stack.listen({ S3_ENDPOINT_URL: 'http://127.0.0.1:9' });
    await until('a batch is leased or was put off', () =>
      query('select from retention.batch where lease is not null or postponed > 0').then(
        (rows) => rows.length > 0,
      ),
    );
    listener.kill('SIGKILL');
    await listener.ended();
    expect(await stack.countCleared()).toBe(0);
    expect(stack.s3().countObjects('dpp-results')).toBeGreaterThanOrEqual(20);
    await expireLeases();
    await stack.database().passRetryTimes();
    await stack.listen();
    await stack.cleared(20);
  });

  test.each(['SIGTERM', 'SIGINT'] as const)(
    'stops on %s with exit code 0 and leaves no lease',
    async (signal) => {
      const listener = await stack.listen();
      await stack.insertResults({ count: 10 });
      await flag();
      await stack.cleared(10);
      listener.kill(signal);
      const { code, stderr } = await listener.ended();
      expect([code, stderr.includes('Stopped')]).toEqual([0, true]);
      expect(
        await stack.database().query('select from retention.batch where lease is not null'),
      ).toEqual([]);
    },
  );

  test('finishes what is in flight before it stops', async () => {
    await stack.insertResults({ count: 5 });
    await flag();
    const release = await stack.holdStamps();
    const listener = await stack.listen();
    await stack.settleWaits();
    listener.kill();
    await listener.waitForLine('finishing what is in flight');
    await release();
    expect((await listener.ended()).code).toBe(0);
    expect(await stack.countCleared()).toBe(5);
  });

  test('started before the database is up, comes up when the database does', async () => {
    const server = await startOwnPostgres({ cron: false });
    try {
      await migrateUp(server.url());
      await server.sql(`insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
        values ('acme', 'COMPLETED', now() - interval '31 days', 'dpp-results', 'early')`);
      stack.s3().createBucket('dpp-results');
      stack.s3().putObject('dpp-results', 'early');
      await server.down();
      await using listener = startCli(['listen'], {
        env: {
          DATABASE_URL: server.url(),
          DPP_JSON_LOGS: 'false',
          ...memoryS3Variables(stack.s3()),
        },
      });
      await listener.waitForLine(/ERROR .*(ECONNREFUSED|refused)/u);
      await server.up();
      await until(
        'it has worked',
        async () =>
          (await server.sql('select count(*) from runs where result_cleared_at is not null')) ===
          '1',
        {
          limitMs: 30_000,
          seen: () => listener.stderr,
        },
      );
      expect(stack.s3().hasObject('dpp-results', 'early')).toBe(false);
      listener.kill();
      expect((await listener.ended()).code).toBe(0);
    } finally {
      await server.stop();
    }
  });

  test('outlives a crash of the database and goes on', async () => {
    const server = await startOwnPostgres({ cron: false });
    try {
      await migrateUp(server.url());
      stack.s3().createBucket('dpp-results');
      await using listener = startCli(['listen'], {
        env: {
          DATABASE_URL: server.url(),
          DPP_JSON_LOGS: 'false',
          ...memoryS3Variables(stack.s3()),
        },
      });
      await until(
        'it has ticked',
        async () =>
          (await server.sql('select ticked_at is not null from retention.heartbeat')) === 't',
      );
      await server.restart('immediate');
      stack.s3().putObject('dpp-results', 'later');
      await server.sql(`insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
        values ('acme', 'COMPLETED', now() - interval '31 days', 'dpp-results', 'later');
        select retention.flag_expired()`);
      await until(
        'it has worked',
        async () =>
          (await server.sql('select count(*) from runs where result_cleared_at is not null')) ===
          '1',
        {
          limitMs: 30_000,
          seen: () => listener.stderr,
        },
      );
      listener.kill();
      expect((await listener.ended()).code).toBe(0);
    } finally {
      await server.stop();
    }
  });
});
