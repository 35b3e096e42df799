import { expect, onTestFinished, test } from 'vitest';
import { startCli } from '../support/cli.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { until } from '../support/until.ts';

interface Document {
  readonly cleared: number;
  readonly waiting: readonly {
    readonly bucket: string;
    readonly reason: string;
    readonly until: string | null;
    readonly results: number;
  }[];
}

describeDatabase('a reconcile that meets something in its way', () => {
  const stack = useCliStack();

  /** Keeps every pass from flagging until what it returns is called. */
  async function holdPass(): Promise<() => Promise<unknown>> {
    const session = await stack.database().connect();
    onTestFinished(() => session.end().catch(() => undefined));
    await session.query('begin; select from retention.pass_lock for update');
    return () => session.query('commit');
  }

  const waitsForPass = () =>
    until('the reconcile waits for the pass', async () => {
      const rows = await stack.database().query(
        `select from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and query ~ 'flag_'`,
      );
      return rows.length > 0;
    });

  async function reconcile(...more: readonly string[]) {
    const { code, stdout, stderr } = await stack.run(['reconcile', '--json', ...more]);
    return { code, stderr, document: JSON.parse(stdout) as Document };
  }

  test.each([
    ['whole', []],
    ['narrowed', ['--tenant', 'acme']],
  ])('waits for another pass and clears everything, with 0: %s', async (_what, narrowed) => {
    await stack.insertResults({ count: 20 });
    const release = await holdPass();
    await using running = startCli(['reconcile', '--json', ...narrowed], { env: stack.env() });
    await waitsForPass();
    await release();
    const { code, stdout } = await running.ended();
    expect([code, JSON.parse(stdout)]).toMatchObject([0, { cleared: 20, waiting: [] }]);
  });

  test('a bucket that pauses for a minute: 1, with what waits, why and until when', async () => {
    await stack.insertResults({ count: 20 });
    await stack.database().store.flagExpired({ by: 'test' });
    await stack.database().query(
      `update retention.bucket set paused_until = now() + interval '1 minute', pauses = 1,
        pause_code = 'SlowDown', pause_error = 'Please reduce your request rate.'`,
    );
    const { code, document } = await reconcile();
    expect(code).toBe(1);
    expect(document).toMatchObject({
      cleared: 0,
      waiting: [
        {
          bucket: 'dpp-results',
          reason: expect.stringMatching(/^the bucket pauses: .*SlowDown/u) as string,
          results: 20,
        },
      ],
    });
    const left = Date.parse(document.waiting[0]?.until ?? '') - Date.now();
    expect(left).toBeGreaterThan(20_000);
    const { stdout } = await stack.run(['reconcile']);
    expect(stdout).toMatch(/^Still there:$/mu);
    expect(stdout).toMatch(/dpp-results +20 +\d{4}-.* +the bucket pauses/u);
  });

  test('a bucket whose pause is over in a moment: it waits, and clears everything with 0', async () => {
    await stack.insertResults({ count: 20 });
    await stack.database().store.flagExpired({ by: 'test' });
    await stack.database().query(
      `update retention.bucket set paused_until = now() + interval '2 seconds', pauses = 1,
        pause_code = 'SlowDown', pause_error = 'no'`,
    );
    expect(await reconcile()).toMatchObject({ code: 0, document: { cleared: 20, waiting: [] } });
  });

  test('a batch under the lease of another process: 1, with who works on it and until when', async () => {
    await stack.insertResults({ count: 20 });
    await stack.database().store.flagExpired({ by: 'test' });
    await stack.database().claimNext('listener 7 on db1');
    const { code, document } = await reconcile();
    expect(code).toBe(1);
    expect(document).toMatchObject({
      cleared: 0,
      waiting: [{ reason: 'listener 7 on db1 works on it', results: 20 }],
    });
    expect(Date.parse(document.waiting[0]?.until ?? '')).toBeGreaterThan(Date.now());
  });

  test('a batch of which the other process settles in time: 0', async () => {
    await stack.database().insertRuns({ count: 20 });
    await stack.database().store.flagExpired({ by: 'test' });
    const { batchId, lease } = await stack.database().claimNext('listener 7');
    await using running = startCli(['reconcile', '--json'], { env: stack.env() });
    await until('it looks', async () => {
      const rows = await stack
        .database()
        .query(
          `select from pg_stat_activity where datname = current_database() and query ~ 'retention.unsettled'`,
        );
      return rows.length > 0;
    });
    await stack
      .database()
      .store.settle(batchId, lease, { cleared: 'all', failed: [], milliseconds: 1 });
    const { code, stdout } = await running.ended();
    expect([code, JSON.parse(stdout)]).toMatchObject([0, { waiting: [] }]);
  });

  test('results that wait for their next attempt: 1, with the error and the time', async () => {
    const [runId = ''] = await stack.insertResults();
    await stack.database().failRuns([runId]);
    await stack
      .database()
      .query(`update retention.batch set visible_at = now() + interval '1 hour'`);
    const { code, document } = await reconcile();
    expect(code).toBe(1);
    expect(document.waiting).toMatchObject([
      { reason: 'failed: AccessDenied', until: expect.any(String) as string },
    ]);
    // Named, it is tried at once.
    expect(await reconcile('--run', runId)).toMatchObject({ code: 0, document: { cleared: 1 } });
  });

  test('dead ones: 1, and they are named as such', async () => {
    const [runId = ''] = await stack.insertResults();
    await stack.database().failRuns([runId], { dead: true });
    const { code, document } = await reconcile();
    expect(code).toBe(1);
    expect(document.waiting).toMatchObject([
      { reason: expect.stringMatching(/^dead: /u) as string },
    ]);
  });

  test('a dry run says of a bucket that is not allowed that its results would be refused', async () => {
    await stack.insertResults({ count: 2 });
    await stack.database().insertRuns({ count: 3, bucket: 'elsewhere' });
    const env = { S3_RESULT_BUCKET: 'dpp-results' };
    const { stdout } = await stack.run(['reconcile', '--dry-run'], env);
    expect(stdout).toContain('2 results would go');
    expect(stdout).toContain(
      '3 results would be refused: S3_RESULT_BUCKET does not list elsewhere.',
    );
    const { stdout: json } = await stack.run(['reconcile', '--dry-run', '--json'], env);
    expect(JSON.parse(json)).toMatchObject({
      groups: [
        expect.not.objectContaining({ refused: expect.anything() as unknown }) as unknown,
        { bucket: 'elsewhere', refused: 'bucket not allowed' },
      ],
    });
  });
});
