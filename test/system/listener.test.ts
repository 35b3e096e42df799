import { PutBucketPolicyCommand, S3Client } from '@aws-sdk/client-s3';
import { expect, test } from 'vitest';
import { DEFAULT_USERS } from '../stack/memory-s3.ts';
import { runCli } from '../support/cli.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { until } from '../support/until.ts';

const CHANNELS = ['retention_expired', 'retention_cleared', 'retention_failed'];

describeDatabase('a listener', () => {
  const stack = useCliStack();
  const flag = (): Promise<unknown> => stack.database().query('select retention.flag_expired()');

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
    // First, because the listener's own tick may come between the two.
    const lost = await stack.database().insertRun({ bucket: null });
    await stack.insertResults({ count: 25 });
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
    const tables = ['setting', 'policy', 'hold', 'bucket', 'progress', 'batch', 'scan'];
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
    expect(await stack.database().query('select from retention.flagged')).toEqual([]);
  });

  test('leaves buckets that it is not allowed to those that may, and says that they wait', async () => {
    await stack.insertResults({ count: 2, bucket: 'elsewhere' });
    await stack.insertResults({ count: 2 });
    await stack.database().query('select retention.flag_expired()');
    await stack.listen({ S3_RESULT_BUCKET: 'dpp-results,dpp-archive' });
    await stack.cleared(2);
    const waiting = await stack
      .database()
      .query(
        `select kind, results::int from retention.unsettled(p_buckets => '{dpp-results,dpp-archive}')`,
      );
    expect(waiting).toEqual([{ kind: 'not allowed', results: 2 }]);
    expect(
      await stack.database().query('select from retention.flagged where dead_at is null'),
    ).toHaveLength(2);
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
});
