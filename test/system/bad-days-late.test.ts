import { expect, onTestFinished, test } from 'vitest';
import type { RunningCli } from '../support/cli.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { useFaultyNetwork } from '../support/faulty-network.ts';
import { isDeleteObjects } from '../support/http-proxy.ts';
import { until } from '../support/until.ts';

const SLOW_DOWN =
  '<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>on a bad day</Message></Error>';

describeDatabase('promise 5 on a bad day: S3 works on what nobody waits for any more', () => {
  const stack = useCliStack();
  const network = useFaultyNetwork(stack);
  const { database } = stack;
  const flag = (): Promise<unknown> => database().query('select retention.flag_expired()');
  const listen = (more = {}): Promise<RunningCli> =>
    stack.listen(network.env({ RETENTION_S3_REQUEST_TIMEOUT_SECONDS: '1', ...more }));

  /** Holds the next deletion back on its way to S3, and refuses all that come after it. */
  function holdFirst(): () => void {
    let letGo = (): void => undefined;
    const released = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    let isFirst = true;
    network.http().steer((request) => {
      if (!isDeleteObjects(request)) return undefined;
      if (!isFirst) return { kind: 'answer', status: 503, body: SLOW_DOWN };
      isFirst = false;
      return { kind: 'hold', until: released };
    });
    // Else the proxy would wait for it when it is closed.
    onTestFinished(letGo);
    return letGo;
  }

  const isSent = () => until('S3 is asked', () => network.http().injected.get('hold') === 1);

  interface Placed {
    readonly code: number | null;
    readonly tooLate: number;
    readonly runIds: readonly string[];
  }

  async function placeHold(...what: readonly string[]): Promise<Placed> {
    const { code, stdout } = await stack.run([
      'hold',
      'place',
      ...what,
      '--reason',
      'audit',
      '--json',
    ]);
    const { too_late: tooLate, holds } = JSON.parse(stdout) as {
      too_late: number;
      holds: readonly { too_late_run_ids: readonly string[] }[];
    };
    return { code, tooLate, runIds: holds.flatMap((hold) => hold.too_late_run_ids).toSorted() };
  }

  /** S3 performs it now, and so breaks no word that was given. */
  async function performed(letGo: () => void): Promise<void> {
    expect(stack.s3().countObjects('dpp-results')).toBeGreaterThan(0);
    letGo();
    await until('S3 has deleted', () => stack.s3().countObjects('dpp-results') === 0);
    expect(await database().countStamped()).toBe(0);
  }

  test('a request that timed out: the hold says that it may be too late', async () => {
    const runIds = await stack.insertResults({ count: 3 });
    await flag();
    const letGo = holdFirst();
    const listener = await listen();
    await listener.waitForLine('Bucket dpp-results pauses: Timeout');
    expect(await placeHold('--tenant', 'acme')).toEqual({
      code: 1,
      tooLate: 3,
      runIds: runIds.toSorted(),
    });
    const { stdout } = await stack.run(['explain', runIds[0] ?? '']);
    expect(stdout).toMatch(
      /S3 may still be at an earlier request to delete it, until \S+ at most/u,
    );
    await performed(letGo);
  });

  test('a first attempt that timed out, and a second one that was refused', async () => {
    const runIds = await stack.insertResults({ count: 3 });
    await flag();
    const letGo = holdFirst();
    const listener = await listen({
      RETENTION_S3_MAX_ATTEMPTS: '2',
      RETENTION_LEASE_SECONDS: '20',
    });
    await listener.waitForLine('Bucket dpp-results pauses: SlowDown');
    const [run = ''] = runIds;
    expect(await placeHold('--run', run)).toEqual({ code: 1, tooLate: 1, runIds: [run] });
    await performed(letGo);
  });

  test('a connection that was cut', async () => {
    await stack.insertResults({ count: 3 });
    await flag();
    network.http().steer((request) => (isDeleteObjects(request) ? { kind: 'drop' } : undefined));
    const listener = await listen();
    await listener.waitForLine('Bucket dpp-results pauses: ECONNRESET');
    expect(await placeHold('--tenant', 'acme')).toMatchObject({ code: 1, tooLate: 3 });
  });

  test('a listener killed after it had sent, whose batch has gone through other hands since', async () => {
    const runIds = await stack.insertResults({ count: 3 });
    await flag();
    const letGo = holdFirst();
    const killed = await listen();
    await isSent();
    killed.kill('SIGKILL');
    await killed.ended();
    await database().expireLeases();
    const heir = await listen();
    await heir.waitForLine('Bucket dpp-results pauses: SlowDown');
    expect(await placeHold('--tenant', 'acme')).toEqual({
      code: 1,
      tooLate: 3,
      runIds: runIds.toSorted(),
    });
    await performed(letGo);
  });

  test('a call cut at the end of a listener’s grace', async () => {
    await stack.insertResults({ count: 3 });
    await flag();
    const letGo = holdFirst();
    const stopped = await listen({
      RETENTION_SHUTDOWN_GRACE_SECONDS: '1',
      RETENTION_S3_REQUEST_TIMEOUT_SECONDS: '5',
      RETENTION_LEASE_SECONDS: '20',
    });
    await isSent();
    stopped.kill();
    expect((await stopped.ended()).code).toBe(0);
    expect(await placeHold('--tenant', 'acme')).toMatchObject({ code: 1, tooLate: 3 });
    await performed(letGo);
  });

  test('what S3 refused, and what never reached it, is not too late', async () => {
    const runIds = await stack.insertResults({ count: 3 });
    await flag();
    network
      .http()
      .steer((request) =>
        isDeleteObjects(request) ? { kind: 'answer', status: 503, body: SLOW_DOWN } : undefined,
      );
    const refused = await listen();
    await refused.waitForLine('Bucket dpp-results pauses: SlowDown');
    refused.kill();
    await refused.ended();
    expect(await placeHold('--run', runIds[0] ?? '')).toEqual({ code: 0, tooLate: 0, runIds: [] });
    await database().passRetryTimes();
    const unconnected = await listen({ S3_ENDPOINT_URL: 'http://127.0.0.1:1' });
    await unconnected.waitForLine('Bucket dpp-results pauses: ECONNREFUSED');
    unconnected.kill();
    await unconnected.ended();
    expect(await placeHold('--tenant', 'acme')).toEqual({ code: 0, tooLate: 0, runIds: [] });
    // And held it is: nothing of it goes, however long one waits.
    network.http().heal();
    await database().passRetryTimes();
    const { stdout } = await stack.run(['reconcile', '--json'], network.env());
    expect(JSON.parse(stdout)).toMatchObject({ cleared: 0, failed: 0 });
    expect(stack.s3().countObjects('dpp-results')).toBe(3);
  });
});
