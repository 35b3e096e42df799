import { expect, onTestFinished, test } from 'vitest';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { until } from '../support/until.ts';

const LISTENERS = 8;
const RESULTS = 1_000;

describeDatabase('a bad day of a crowd', () => {
  const stack = useCliStack();

  test('12: eight listeners, spoofed, malformed and flooded notifications, and a long idle transaction', async () => {
    const { connect, set, query, insertRun } = stack.database();
    await set({ batch_size: '10', flag_limit: '300' });
    const listeners = Array.from({ length: LISTENERS }, () =>
      stack.start({ RETENTION_POLL_SECONDS: '1' }),
    );
    for (const listener of listeners) {
      await listener.waitForLine('Listening for notifications', 60_000);
    }
    const [fresh = ''] = await stack.insertResults({ completedAgo: '1 day' });
    const held = await insertRun();
    stack.s3().putObject('dpp-results', `results/${held}`);
    await query(`insert into retention.hold (run_id, reason) values ($1, 'audit')`, [held]);

    // Keeps every notification in the queue, and every dead row in the tables.
    const idle = await connect();
    onTestFinished(() => idle.end());
    await idle.query('listen retention_expired');
    await idle.query('begin; select count(*) from retention.batch');
    const flooder = await connect();
    const over = new AbortController();
    let sent = 0;
    const flood = async (): Promise<void> => {
      const payloads = [
        '{',
        'null',
        '9'.repeat(400),
        `{"batches":1,"results":1,"buckets":["dpp-results"],"run_ids":["${fresh}","${held}"]}`,
        `{"batch":1,"bucket":"dpp-results","cleared":1,"run_ids":["${fresh}"]}`,
        '\u001B[2J\u0007\u202E',
      ];
      while (!over.signal.aborted) {
        for (const payload of payloads) {
          await flooder.query(
            `select pg_notify(c, $1 || n) from generate_series(1, 50) n,
              unnest(array['retention_expired', 'retention_cleared', 'retention_failed']) c`,
            [payload],
          );
          sent += 150;
        }
      }
    };
    const flooding = flood();
    await stack.insertResults({ count: RESULTS });
    await query('select retention.flag_expired()');
    await stack.cleared(RESULTS, 60_000);
    over.abort();
    await flooding;
    expect(sent).toBeGreaterThan(1_000);

    // Every key was asked for once, by one of them.
    const deleting = stack.requests().filter(({ operation }) => operation.startsWith('Delete'));
    const asked = deleting.flatMap(({ keys }) => keys);
    expect([asked.length, new Set(asked).size]).toEqual([RESULTS, RESULTS]);
    for (const runId of [fresh, held]) {
      expect(stack.s3().hasObject('dpp-results', `results/${runId}`)).toBe(true);
    }
    expect(await query('select from retention.flagged')).toEqual([]);
    await idle.query('rollback');
    const workers = await query(
      'select distinct leased_by from retention.batch where leased_by is not null',
    );
    expect(workers.length).toBeGreaterThan(1);

    // Idle again: nobody is at it any more, and nobody has complained.
    for (const listener of listeners) listener.kill();
    for (const listener of listeners) {
      const { code, stderr } = await listener.ended();
      expect([code, stderr.match(/WARNING|ERROR/gu)]).toEqual([0, null]);
    }
    await flooder.end();
  });

  test('100,000 dead results delay nothing, and are revived by one command', async () => {
    const { insertRuns, query, one } = stack.database();
    const dead = 100_000;
    await insertRuns({ count: dead, completedAgo: '60 days' });
    await query(`
      insert into retention.bucket (bucket) values ('dpp-results') on conflict do nothing;
      insert into retention.batch (
        bucket, results, oldest, newest, attempts, code, error, failed_at, dead_at, run_ids, keys, tenants
      )
      select result_s3_bucket, count(*), min(completed_at), max(completed_at), 10, 'AccessDenied',
        'Access Denied', now(), now(), array_agg(run_id), array_agg(result_s3_key), array_agg(tenant_id)
      from (select *, row_number() over (order by completed_at) / 500 as part from runs) r
      group by result_s3_bucket, part;
      analyze runs; analyze retention.batch`);
    /** Quick is what takes no longer than it does with nothing dead, on a loaded machine. */
    const quickly = async <Result>(
      limitMs: number,
      work: () => Promise<Result>,
    ): Promise<Result> => {
      const startedAt = performance.now();
      const result = await work();
      expect(performance.now() - startedAt).toBeLessThan(limitMs);
      return result;
    };
    const listener = await stack.listen({ RETENTION_HTTP_PORT: '0', RETENTION_POLL_SECONDS: '1' });
    const line = await listener.waitForLine('Serving health, metrics and status on');
    const [base = ''] = /http:\/\/[\w.:]+\//u.exec(line) ?? [];

    const status = await quickly(15_000, () => stack.run(['status', '--json']));
    expect(JSON.parse(status.stdout)).toMatchObject({ dead });
    await quickly(10_000, async () => (await fetch(new URL('/', base))).text());
    await quickly(6_000, async () => (await fetch(new URL('metrics', base))).text());
    await stack.insertResults({ count: 500 });
    await quickly(5_000, () => query('select retention.flag_expired()'));
    await quickly(10_000, () => stack.cleared(500));
    await quickly(20_000, () => query('select retention._clean_up()'));
    const reconciled = await stack.run(['reconcile', '--json']);
    expect(JSON.parse(reconciled.stdout)).toMatchObject({ flagged: 0, cleared: 0 });
    expect(
      await one('select count(*)::int from retention.flagged where dead_at is not null'),
    ).toEqual({ count: dead });

    const retried = await stack.run(['retry', '--all', '--json']);
    expect([retried.stderr, JSON.parse(retried.stdout)]).toEqual(['', { revived: dead }]);
    await until(
      'all are stamped',
      async () => (await stack.database().countStamped()) === dead + 500,
      { limitMs: 90_000, pollMs: 250, seen: () => listener.stderr },
    );
    expect(await query('select from retention.flagged')).toEqual([]);
  });
});
