import { PutBucketPolicyCommand, S3Client } from '@aws-sdk/client-s3';
import { expect, onTestFinished, test } from 'vitest';
import { DEFAULT_USERS } from '../../src/demo/memory-s3.ts';
import { runCli, startCli } from '../support/cli.ts';
import { memoryS3Variables, useCliStack } from '../support/cli-stack.ts';
import { describeDatabase, startOwnPostgres } from '../support/database.ts';
import { migrateUp } from '../support/migrated.ts';
import { until } from '../support/until.ts';

const CHANNELS = ['retention_expired', 'retention_cleared', 'retention_failed'];

describeDatabase('a listener', () => {
  const stack = useCliStack();
  const flag = (): Promise<unknown> => stack.database().query('select retention.flag_expired()');

  /** Lets everybody read the table and nobody stamp in it, until it is released. */
  async function holdStamps(): Promise<() => Promise<void>> {
    const session = await stack.database().connect();
    const release = async (): Promise<void> => {
      await session.query('rollback');
      await session.end();
    };
    onTestFinished(() => session.end().catch(() => undefined));
    await session.query('begin');
    await session.query('lock table runs in share mode');
    return release;
  }

  /** Waits until a listener stands before its stamp; returns its session's process id. */
  function settleWaits(): Promise<number> {
    return until('the settle waits', async () => {
      const [row] = await stack.database().query<{ pid: number }>(
        `select pid from pg_stat_activity
        where datname = current_database()
          and wait_event_type = 'Lock'
          and query like '%retention.settle%'`,
      );
      return row?.pid;
    });
  }

  test('reacts to what is flagged, with one request per batch, and leaves the rest alone', async () => {
    await stack.listen();
    const due = await stack.insertResults({ count: 250 });
    const [fresh] = await stack.insertResults({ completedAgo: '1 day' });
    const [failed] = await stack.insertResults({ status: 'FAILED' });
    await flag();
    await stack.cleared(250);
    expect(await stack.countCleared()).toBe(250);
    for (const runId of [fresh, failed]) {
      expect(stack.s3().hasObject('dpp-results', `results/${runId}`)).toBe(true);
    }
    const asked = stack.requests().filter(({ operation }) => operation === 'DeleteObjects');
    expect(asked).toHaveLength(1);
    expect(asked[0]?.keys.toSorted()).toEqual(due.map((runId) => `results/${runId}`).toSorted());
  });

  test('logs in the words of the operating guide', async () => {
    const listener = await stack.listen();
    await stack.insertResults({ count: 25 });
    const lost = await stack.database().insertRun({ bucket: null });
    await flag();
    await stack.cleared(25);
    const time = String.raw`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`;
    const lines = [
      'INFO Starting Retention Loop...',
      'INFO Found 25 expired runs for retention cleanup',
      'INFO Retention cleanup completed: 25 S3 objects deleted, 25 runs marked as cleared',
      `WARNING Run ${lost} missing S3 info, skipping`,
    ];
    for (const line of lines)
      await listener.waitForLine(new RegExp(`${time} ${escape(line)}`, 'u'));

    const [refused] = await stack.insertResults({ key: 'locked/one' });
    await denyDeleting('locked/*');
    await stack.insertResults({ count: 3 });
    await flag();
    await stack.cleared(28);
    await listener.waitForLine(
      new RegExp(`${time} ERROR Failed to delete S3 object for run ${refused}: AccessDenied`, 'u'),
    );
    expect(listener.stdout).toBe('');
  });

  function escape(text: string): string {
    return text.replaceAll(/[.*+?^${}()|[\]\\]/gu, String.raw`\$&`);
  }

  async function denyDeleting(keys: string): Promise<void> {
    const [owner] = DEFAULT_USERS;
    const client = new S3Client({
      endpoint: stack.s3().endpoint,
      region: stack.s3().region,
      forcePathStyle: true,
      credentials: owner,
    });
    const Policy = JSON.stringify({
      Version: '2012-10-17',
      Statement: [
        {
          Effect: 'Deny',
          Principal: '*',
          Action: 's3:DeleteObject',
          Resource: `arn:aws:s3:::dpp-results/${keys}`,
        },
      ],
    });
    await client.send(new PutBucketPolicyCommand({ Bucket: 'dpp-results', Policy }));
    client.destroy();
  }

  test('asks for the next pass at once when the last one hit its limit', async () => {
    await stack.database().set({ flag_limit: '100', batch_size: '100' });
    await stack.insertResults({ count: 1_000 });
    await stack.listen();
    await stack.cleared(1_000, 15_000);
    const { passes } = await stack
      .database()
      .one<{ passes: number }>('select count(*)::int as passes from retention.scan');
    expect(passes).toBe(10);
  });

  test('promise 2 and 3: killed between the answer of S3 and the settle, another one finishes', async () => {
    const { query, countStamped, expireLeases } = stack.database();
    await stack.insertResults({ count: 20 });
    await flag();
    const release = await holdStamps();
    const listener = await stack.listen();
    const settling = await settleWaits();
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
    const release = await holdStamps();
    const listener = await stack.listen();
    await settleWaits();
    listener.kill();
    await listener.waitForLine('finishing what is in flight');
    await release();
    expect((await listener.ended()).code).toBe(0);
    expect(await stack.countCleared()).toBe(5);
  });

  test('promise 9: no payload, however garbled, huge or hostile, changes anything', async () => {
    const { query, insertRun } = stack.database();
    const [fresh] = await stack.insertResults({ completedAgo: '1 day' });
    const held = await insertRun();
    await query(`insert into retention.hold (run_id, reason) values ($1, 'audit')`, [held]);
    const listener = await stack.listen();
    await until('it has ticked', () =>
      query('select from retention.heartbeat where ticked_at is not null').then(
        (rows) => rows.length > 0,
      ),
    );
    const tables = ['setting', 'policy', 'hold', 'bucket', 'progress', 'batch', 'expired', 'scan'];
    const everything = (): Promise<unknown[]> =>
      Promise.all([
        query('select * from runs order by run_id'),
        ...tables.map((table) => query(`select * from retention.${table} t order by t::text`)),
      ]);
    const before = await everything();
    const payloads = [
      '',
      'null',
      '{',
      '[[[[[[[[',
      'x'.repeat(7_999),
      `[${'['.repeat(3_000)}`,
      `{"batches":1,"results":1,"buckets":["dpp-results"],"oldest":"2020-01-01T00:00:00Z","run_ids":["${fresh}"]}`,
      `{"batch":1,"bucket":"dpp-results","cleared":1,"run_ids":["${fresh}"]}`,
      `'; delete from runs; --`,
      '{"__proto__":{"enabled":false},"constructor":{"prototype":{"x":1}}}',
      '\u001B[2J\u0007\u202E',
      '9'.repeat(400),
    ];
    for (const channel of CHANNELS) {
      for (const payload of payloads) await query('select pg_notify($1, $2)', [channel, payload]);
    }
    await query(`select pg_notify('retention_expired', n::text) from generate_series(1, 5000) n`);
    // It has got through them all when it reacts to what comes after.
    const [due] = await stack.insertResults();
    await flag();
    await stack.cleared(1);
    expect((await stack.database().run(due ?? '')).result_cleared_at).not.toBeNull();
    const after = await everything();
    expect(after.slice(1, 4)).toEqual(before.slice(1, 4));
    expect(
      (after[0] as unknown[]).filter((row) => (row as { run_id: string }).run_id !== due),
    ).toEqual(before[0]);
    expect(stack.s3().hasObject('dpp-results', `results/${fresh}`)).toBe(true);
    expect(listener.stderr).not.toMatch(/ERROR/);
    listener.kill();
    expect((await listener.ended()).code).toBe(0);
  });

  test('flags and deletes nothing while it is disabled, and says so in the database', async () => {
    await stack.insertResults({ count: 3 });
    const listener = await stack.listen({ DPP_RETENTION_ENABLED: 'false' });
    await listener.waitForLine('enabled: true -> false');
    await flag();
    await stack.database().query(`select pg_notify('retention_expired', '')`);
    listener.kill();
    expect((await listener.ended()).code).toBe(0);
    expect(await stack.countCleared()).toBe(0);
    expect(await stack.database().query('select from retention.expired')).toEqual([]);
  });

  test('refuses buckets that it is not allowed, for good and in a list', async () => {
    await stack.insertResults({ count: 2, bucket: 'elsewhere' });
    await stack.insertResults({ count: 2 });
    await stack.database().query('select retention.flag_expired()');
    await stack.listen({ S3_RESULT_BUCKET: 'dpp-results,dpp-archive' });
    await stack.cleared(2);
    await until('the others are dead', () =>
      stack
        .database()
        .query(
          `select from retention.expired where dead_at is not null and last_code = 'BucketNotAllowed'`,
        )
        .then((rows) => rows.length === 2),
    );
    expect(stack.s3().countObjects('elsewhere')).toBe(2);
  });

  test('two share the work, and each object is asked for once', async () => {
    await stack.database().set({ batch_size: '20' });
    await stack.listen();
    await stack.listen();
    await stack.insertResults({ count: 1_000 });
    await flag();
    await stack.cleared(1_000);
    const keys = stack
      .requests()
      .flatMap((request) => (request.operation === 'DeleteObjects' ? request.keys : []));
    expect(keys).toHaveLength(1_000);
    expect(new Set(keys).size).toBe(1_000);
  });

  test('ends at once without DATABASE_URL, and says what is missing', async () => {
    const { code, stderr } = await runCli(['listen'], { env: { AWS_REGION: 'us-east-1' } });
    expect(code).toBe(2);
    expect(stderr).toMatch(/DATABASE_URL: expected .*given nothing/);
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
