import { DeleteBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { expect, test } from 'vitest';
import { DEFAULT_USERS } from '../stack/memory-s3.ts';
import type { RunningCli } from '../support/cli.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { useFaultyNetwork } from '../support/faulty-network.ts';
import { type HttpFault, type PassingReply, isDeleteObjects } from '../support/http-proxy.ts';
import { until } from '../support/until.ts';

const error = (code: string): string =>
  `<?xml version="1.0"?><Error><Code>${code}</Code><Message>on a bad day</Message></Error>`;

describeDatabase('a bad day of S3', () => {
  const stack = useCliStack();
  const network = useFaultyNetwork(stack);
  const { database } = stack;
  const flag = (): Promise<unknown> => database().query('select retention.flag_expired()');
  const listen = (): Promise<RunningCli> =>
    stack.listen(network.env({ RETENTION_S3_REQUEST_TIMEOUT_SECONDS: '1' }));
  const linesOf = ({ stderr }: RunningCli, what: RegExp): number =>
    stderr.split('\n').filter((line) => what.test(line)).length;

  /** Short pauses of a bucket and between tries, as no test has minutes. */
  const hurry = (): Promise<void> =>
    database().set({ pause_base: `'300 ms'`, pause_cap: `'1 second'`, retry_base: `'300 ms'` });

  /** No trace of the trouble is left: no work, no lease, no pause. */
  async function expectPeace(): Promise<void> {
    expect(await database().query('select from retention.flagged')).toEqual([]);
    expect(await database().query('select from retention.batch where settled_at is null')).toEqual(
      [],
    );
    expect(
      await database().query('select from retention.bucket where paused_until > now()'),
    ).toEqual([]);
  }

  const rewritten = (change: (body: string) => string): HttpFault => ({
    kind: 'rewrite',
    change: (reply: PassingReply) => ({
      ...reply,
      body: Buffer.from(change(reply.body.toString())),
    }),
  });

  test('8: a mixed 200 clears what it names, retries the rest, and clears all in the end', async () => {
    await hurry();
    const [internal = '', denied = '', unnamed = ''] = await stack.insertResults({
      count: 20,
    });
    const failing = new Map([
      [internal, 'InternalError'],
      [denied, 'AccessDenied'],
      [unnamed, undefined],
    ]);
    // The others are deleted for real; these three never reach the server.
    network.http().steer((request) => {
      if (!isDeleteObjects(request)) return undefined;
      const asked = [...request.body.toString().matchAll(/<Key>results\/([^<]*)<\/Key>/gu)];
      const kept = asked.map(([, runId = '']) => runId).filter((runId) => !failing.has(runId));
      const parts = asked.map(([, runId = '']) => {
        const code = failing.get(runId);
        const key = `<Key>results/${runId}</Key>`;
        if (kept.includes(runId)) return `<Deleted>${key}</Deleted>`;
        return code === undefined ? '' : `<Error>${key}<Code>${code}</Code></Error>`;
      });
      return {
        kind: 'answer',
        status: 200,
        body: `<DeleteResult>${parts.join('')}</DeleteResult>`,
      };
    });
    await flag();
    const listener = await listen();
    await until('all but three are stamped', async () => (await database().countStamped()) === 17);
    const left = () =>
      database().query<{ run_id: string; attempts: number; code: string }>(
        'select run_id::text, attempts, code from retention.flagged',
      );
    await until('the refused one has been tried again', async () =>
      (await left()).some(({ run_id, attempts }) => run_id === denied && attempts > 1),
    );
    const byRun = new Map((await left()).map((row) => [row.run_id, row]));
    expect(byRun.get(internal)).toMatchObject({ attempts: 0, code: 'InternalError' });
    expect(byRun.get(unnamed)).toMatchObject({ attempts: 0, code: 'Unanswered' });
    for (const runId of failing.keys()) {
      expect((await database().run(runId)).result_cleared_at).toBeNull();
    }
    network.http().heal();
    await until('all are stamped', async () => (await database().countStamped()) === 20);
    for (const runId of failing.keys()) {
      expect(stack.s3().hasObject('dpp-results', `results/${runId}`)).toBe(false);
    }
    await expectPeace();
    expect(listener.stderr).toContain(`Failed to delete S3 object for run ${denied}: AccessDenied`);
  });

  test.each([
    ['an empty 200', { kind: 'answer', status: 200 }],
    ['a 200 that holds an error', { kind: 'answer', status: 200, body: error('InternalError') }],
    ['an HTML 502', { kind: 'answer', status: 502, body: '<html><body>Bad Gateway</body></html>' }],
    ['an HTML 200', { kind: 'answer', status: 200, body: '<html><body>Log in</body></html>' }],
    ['a SlowDown storm', { kind: 'answer', status: 503, body: error('SlowDown') }],
    ['a hung socket', { kind: 'hang' }],
    ['a reply that trickles', { kind: 'throttle', bytesPerSecond: 10 }],
    ['a reply that is lost', { kind: 'lose-reply' }],
    ['a reply that is cut', { kind: 'cut-reply', bytes: 60 }],
    ['a connection that is dropped', { kind: 'drop' }],
    ['a reply in which keys are cut off', rewritten((body) => body.replace(/<Deleted>.*$/su, ''))],
  ] as const satisfies readonly (readonly [string, HttpFault])[])(
    '8, 9: %s stamps nothing, harms no result, and all is cleared when it ends',
    async (_, fault) => {
      await hurry();
      await stack.insertResults({ count: 20 });
      network.http().steer((request) => (isDeleteObjects(request) ? fault : undefined));
      await flag();
      const listener = await listen();
      await until('it was asked twice', () => (network.http().injected.get(fault.kind) ?? 0) >= 2, {
        limitMs: 20_000,
        seen: () => listener.stderr,
      });
      expect(await database().countStamped()).toBe(0);
      expect(
        await database().one(
          `select count(*)::int, max(attempts) as attempts, count(dead_at)::int as dead
          from retention.flagged`,
        ),
      ).toEqual({ count: 20, attempts: 0, dead: 0 });
      network.http().heal();
      await stack.cleared(20);
      expect(stack.s3().countObjects('dpp-results')).toBe(0);
      await until('there is peace', () => expectPeace().then(() => true));
      // One line per try, and never one per result.
      const tries = network.http().injected.get(fault.kind) ?? 0;
      expect(linesOf(listener, /WARNING|ERROR/u)).toBeLessThanOrEqual(tries + 1);
      listener.kill();
      expect((await listener.ended()).code).toBe(0);
    },
  );

  test('9: a storm on one bucket slows its own requests down, and no other bucket', async () => {
    await database().set({ pause_base: `'500 ms'`, batch_size: '10' });
    await stack.insertResults({ count: 100 });
    network
      .http()
      .steer((request) =>
        isDeleteObjects(request) && request.url.startsWith('/dpp-results')
          ? { kind: 'answer', status: 503, body: error('SlowDown') }
          : undefined,
      );
    await flag();
    const listener = await listen();
    await listener.waitForLine('Bucket dpp-results pauses: SlowDown');
    await stack.insertResults({ count: 50, bucket: 'dpp-archive' });
    await flag();
    await stack.cleared(50);
    // Pauses double from half a second: of ten batches in four slots, a handful of requests.
    expect(network.http().injected.get('answer')).toBeLessThan(20);
    network.http().heal();
    await stack.cleared(150);
    await until('there is peace', () => expectPeace().then(() => true));
  });

  test('expired credentials that come back cost no attempt and leave no trace', async () => {
    await hurry();
    await stack.insertResults({ count: 20 });
    network.http().steer(() => ({ kind: 'answer', status: 400, body: error('ExpiredToken') }));
    await flag();
    const listener = await listen();
    await listener.waitForLine('Bucket dpp-results pauses: ExpiredToken');
    await until('it was asked twice', () => (network.http().injected.get('answer') ?? 0) >= 2);
    expect(await database().one('select max(attempts) as most from retention.flagged')).toEqual({
      most: 0,
    });
    network.http().heal();
    await stack.cleared(20);
    await until('there is peace', () => expectPeace().then(() => true));
  });

  test('a bucket that is deleted and made again: its results wait, and are then cleared', async () => {
    await hurry();
    const gone = await database().insertRuns({ count: 10 });
    const [owner] = DEFAULT_USERS;
    const client = new S3Client({
      endpoint: stack.s3().endpoint,
      region: stack.s3().region,
      forcePathStyle: true,
      credentials: owner,
    });
    await client.send(new DeleteBucketCommand({ Bucket: 'dpp-results' }));
    client.destroy();
    await stack.insertResults({ count: 5, bucket: 'dpp-archive' });
    await flag();
    const listener = await listen();
    await listener.waitForLine(/Failed to delete S3 object for run .* NoSuchBucket/u);
    await until('the other bucket is cleared', async () => (await database().countStamped()) === 5);
    stack.s3().createBucket('dpp-results');
    for (const runId of gone.slice(0, 7)) stack.s3().putObject('dpp-results', `results/${runId}`);
    await until('all are stamped', async () => (await database().countStamped()) === 15, {
      limitMs: 20_000,
      seen: () => listener.stderr,
    });
    expect(stack.s3().countObjects('dpp-results')).toBe(0);
    await expectPeace();
  });
});
