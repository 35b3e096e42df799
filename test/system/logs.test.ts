import { expect, onTestFinished, test } from 'vitest';
import { createListener } from '../../src/reactor/listener.ts';
import { createWorker } from '../../src/reactor/worker.ts';
import { unlimited } from '../../src/lifecycle/rate-limit.ts';
import { type RunningCli, startCli } from '../support/cli.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { createRecordingLogger } from '../support/recording-logger.ts';
import { startScriptedS3 } from '../support/scripted-s3.ts';
import { until } from '../support/until.ts';

interface Line {
  readonly timestamp: string;
  readonly level: string;
  readonly message: string;
  readonly error?: Readonly<Record<string, unknown>>;
}

const FORGED = '2026-02-17T12:00:00.000Z INFO Retention cleanup completed';

describeDatabase('the log of a listener', () => {
  const stack = useCliStack();
  const flag = (): Promise<unknown> => stack.database().query('select retention.flag_expired()');

  test('has a line for what was done, and none for each key', async () => {
    await stack.insertResults({ count: 2_000 });
    await flag();
    const listener = await stack.listen({ DPP_JSON_LOGS: 'true' });
    await stack.cleared(2_000);
    await listener.waitForLine('Retention cleanup completed');
    const lines = linesOf(await ended(listener));
    expect(lines.length).toBeLessThan(15);
    expect(lines.filter(({ message }) => message.includes('results/'))).toEqual([]);
    expect(new Set(lines.map(({ level }) => level))).toEqual(new Set(['INFO']));
    const done = lines
      .map(({ message }) => /^Retention cleanup completed: (\d+) S3/u.exec(message)?.[1])
      .reduce((sum, deleted) => sum + Number(deleted ?? 0), 0);
    expect(done).toBe(2_000);
  });

  test('is not forged by keys or by what S3 says', async () => {
    const s3 = await startScriptedS3();
    onTestFinished(() => s3.stop());
    const key = `a\n${FORGED}`;
    s3.play(({ keys }, response) => {
      const errors = keys.map(
        (it) =>
          `<Error><Key>${it}</Key><Code>AccessDenied</Code><Message>no\r\n${FORGED}\u2028</Message></Error>`,
      );
      response.writeHead(200, { 'content-type': 'application/xml' });
      response.end(
        `<?xml version="1.0" encoding="UTF-8"?><DeleteResult>${errors.join('')}</DeleteResult>`,
      );
    });
    await stack.database().insertRun({ key });
    await stack.database().insertRun();
    await flag();
    for (const json of ['true', 'false']) {
      await stack.database().passRetryTimes();
      const listener = await stack.listen({ S3_ENDPOINT_URL: s3.endpoint, DPP_JSON_LOGS: json });
      await listener.waitForLine('Failed to delete S3 object');
      const text = await ended(listener);
      const lines = text.split('\n').filter((line) => line !== '');
      expect(lines.filter((line) => line.startsWith(FORGED))).toEqual([]);
      expect(text).not.toContain('\r');
      expect(text).not.toContain('\u2028');
      if (json === 'true') linesOf(text);
    }
  });

  test.each([
    ['ERROR', /^(?:ERROR)$/u, 'Failed to delete S3 object'],
    ['WARNING', /^(?:WARNING|ERROR)$/u, 'Failed to delete S3 object'],
    ['DEBUG', /^(?:DEBUG|INFO|WARNING|ERROR)$/u, 'Batch settled'],
  ])('holds at LOG_LEVEL=%s what that lets through', async (level, allowed, wanted) => {
    await stack.database().insertRun({ bucket: 'no-such-bucket' });
    await flag();
    const listener = startCli(['listen'], {
      env: stack.env({ DPP_JSON_LOGS: 'true', LOG_LEVEL: level }),
    });
    onTestFinished(() => listener[Symbol.asyncDispose]());
    await listener.waitForLine(wanted, 30_000);
    const levels = linesOf(await ended(listener)).map((line) => line.level);
    expect(levels.filter((it) => !allowed.test(it))).toEqual([]);
  });

  test('has code, remedy and one line for an error, and no stack', async () => {
    const listener = startCli(['listen'], {
      env: stack.env({ DPP_JSON_LOGS: 'true', DATABASE_URL: 'postgres://me@127.0.0.1:9/app' }),
    });
    onTestFinished(() => listener[Symbol.asyncDispose]());
    await listener.waitForLine('The retention cycle failed', 30_000);
    const text = await ended(listener);
    const failed = linesOf(text).filter(({ message }) =>
      message.startsWith('The retention cycle failed'),
    );
    expect(failed[0]).toMatchObject({
      level: 'ERROR',
      message: expect.stringContaining('cannot connect to Postgres at 127.0.0.1:9/app') as string,
      remedy: 'Check that the server is up and that host and port are right.',
      error: { name: 'DatabaseError', code: 'ECONNREFUSED' },
    });
    expect(text).not.toMatch(/\bat \S+\.js:\d+/u);
    const [line = ''] = text.split('\n').filter((it) => it.includes('cycle failed'));
    expect(line.length).toBeLessThan(600);
    expect(line.split('127.0.0.1:9/app')).toHaveLength(2);
  });

  test('says how far it is while it works off a backlog', async () => {
    const { store, insertRuns, set, query } = stack.database();
    await set({ batch_size: '10' });
    await insertRuns({ count: 50 });
    await query('select retention.flag_expired()');
    const logger = createRecordingLogger();
    const worker = createWorker({
      store,
      objects: {
        deleteObjects: (_bucket, keys) =>
          Promise.resolve({ deleted: keys, all: true, failures: [], unanswered: [] }),
      },
      logger,
      name: 'test',
      leaseSeconds: 60,
      rateLimit: unlimited,
    });
    const listener = createListener({
      store,
      worker,
      logger,
      concurrency: 1,
      pollSeconds: 60,
      shutdownGraceSeconds: 5,
      reportEverySeconds: 0,
    });
    await listener.start();
    onTestFinished(() => listener.stop());
    await until('all are cleared', async () => (await stack.database().countStamped()) === 50);
    await listener.stop();
    const said = logger.lines.filter(({ message }) => message.startsWith('Retention cleanup'));
    expect(said.map(({ message }) => message)).toEqual(
      Array.from(
        { length: 5 },
        () => 'Retention cleanup completed: 10 S3 objects deleted, 10 runs marked as cleared',
      ),
    );
  });

  async function ended(listener: RunningCli): Promise<string> {
    listener.kill();
    const { stderr } = await listener.ended();
    return stderr;
  }

  /** Every line is a document of its own. */
  function linesOf(text: string): readonly Line[] {
    const lines = text.split('\n').filter((line) => line !== '');
    return lines.map((line) => {
      const parsed = JSON.parse(line) as Line;
      expect(parsed.timestamp).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/u);
      return parsed;
    });
  }
});
