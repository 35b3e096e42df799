import { type AddressInfo, connect } from 'node:net';
import { once } from 'node:events';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { type Reading, createCachedRead } from '../../src/telemetry/cached-read.ts';
import { createHttpServer } from '../../src/telemetry/http-server.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { observeDeletion } from '../../src/telemetry/observed-deletion.ts';
import type { Pulse } from '../../src/store/flagging.ts';
import { judgeReadiness } from '../../src/telemetry/readiness.ts';
import { createRecordingLogger } from '../support/recording-logger.ts';
import { createTelemetry } from '../../src/telemetry/telemetry.ts';
import { snapshotOf } from '../support/snapshot.ts';
import { slowDown } from '../support/reports.ts';

const LISTENING = { listening: true, provenAt: new Date(), reconnects: 0, stopping: false };

describe('a shared read', () => {
  test('reads once in five seconds, however many ask, and sooner again after a failure', async () => {
    let reads = 0;
    let now = 0;
    let fails = false;
    const read = createCachedRead({
      read: () => {
        reads += 1;
        return fails ? Promise.reject(new Error('away')) : Promise.resolve(reads);
      },
      freshMilliseconds: 5_000,
      now: () => now,
    });
    const [first, second] = await Promise.all([read(), read()]);
    expect(first).toEqual(second);
    now = 4_999;
    await read();
    expect(reads).toBe(1);
    now = 5_000;
    fails = true;
    expect(await read()).toMatchObject({ ok: false });
    now = 5_999;
    await read();
    expect(reads).toBe(2);
    now = 6_000;
    fails = false;
    expect(await read()).toMatchObject({ ok: true, value: 3 });
  });

  test('no caller waits longer than the limit, and no second read begins meanwhile', async () => {
    let reads = 0;
    let answer: (value: number) => void = () => undefined;
    const read = createCachedRead<number>({
      read: () => {
        reads += 1;
        return new Promise((resolve) => {
          answer = resolve;
        });
      },
      freshMilliseconds: 5_000,
      limitMilliseconds: 20,
    });
    expect(await read()).toMatchObject({ ok: false, error: { code: 'TIMEOUT' } });
    expect(await read()).toMatchObject({ ok: false });
    expect(reads).toBe(1);
    answer(7);
    await Promise.resolve();
    expect(await read()).toMatchObject({ ok: true, value: 7 });
  });

  test('while the next answer is under way, callers get the last one in a moment, and its age', async () => {
    let now = 0;
    let reads = 0;
    let answer: (value: number) => void = () => undefined;
    const read = createCachedRead<number>({
      read: () => {
        reads += 1;
        if (reads === 1) return Promise.resolve(1);
        return new Promise((resolve) => {
          answer = resolve;
        });
      },
      freshMilliseconds: 5_000,
      patienceMilliseconds: 10,
      limitMilliseconds: 20,
      now: () => now,
    });
    const first = await read();
    now = 5_000;
    // The database is slow: many ask, one read is at work, and all get what the first one got.
    const asked = await Promise.all(Array.from({ length: 20 }, () => read()));
    expect(asked.every((reading) => reading === first)).toBe(true);
    expect(reads).toBe(2);
    now = 29_999;
    expect(await read()).toBe(first);
    // Too old to stand for the present.
    now = 30_000;
    expect(await read()).toMatchObject({ ok: false, error: { code: 'TIMEOUT' } });
    answer(2);
    await Promise.resolve();
    expect(await read()).toMatchObject({ ok: true, value: 2 });
    expect(reads).toBe(2);
  });

  test('beside a database that is slow the last answer comes at once, and the next is fetched beside it', async () => {
    let now = 0;
    let reads = 0;
    const answers: (() => void)[] = [];
    const read = createCachedRead<number>({
      read: () => {
        reads += 1;
        const number = reads;
        return new Promise((resolve) => answers.push(() => resolve(number)));
      },
      freshMilliseconds: 5_000,
      // Longer than any caller waits: one that is made to wait is seen.
      patienceMilliseconds: 60_000,
      staleMilliseconds: 10_000_000,
      now: () => now,
    });
    const answered = async (): Promise<void> => {
      now += 60_001;
      answers.pop()?.();
      await new Promise(setImmediate);
    };
    const first = read();
    await answered();
    expect(await first).toMatchObject({ value: 1 });
    now += 5_000;
    expect(await read()).toMatchObject({ value: 1 });
    expect(reads).toBe(2);
    await answered();
    expect(await read()).toMatchObject({ value: 2 });
    expect(reads).toBe(2);
  });

  test('a read that fails is told at once, and not covered by an older answer', async () => {
    let now = 0;
    let fails = false;
    const read = createCachedRead({
      read: () => (fails ? Promise.reject(new Error('away')) : Promise.resolve(1)),
      freshMilliseconds: 5_000,
      now: () => now,
    });
    expect(await read()).toMatchObject({ ok: true });
    fails = true;
    now = 5_000;
    expect(await read()).toMatchObject({ ok: false });
    expect(await read()).toMatchObject({ ok: false });
  });
});

describe('readiness', () => {
  const ticked = (secondsAgo: number | null, enabled = true): Reading<Pulse> => ({
    ok: true,
    at: new Date(),
    value: {
      enabled,
      halted: [],
      scheduler: 'pg_cron',
      visibleNow: false,
      nextVisibleSeconds: undefined,
      more: false,
      tickedSecondsAgo: secondsAgo ?? undefined,
      tickedBy: secondsAgo === null ? undefined : 'pg_cron',
      lastScanId: 0,
      nextStampSeconds: undefined,
    },
  });
  const halted = (...reasons: readonly string[]): Reading<Pulse> => {
    const reading = ticked(1);
    return reading.ok ? { ...reading, value: { ...reading.value, halted: reasons } } : reading;
  };

  test.each([
    ['all is well', ticked(20), LISTENING, []],
    ['ticks are late, but a listener may still stand in', ticked(419), LISTENING, []],
    ['ticks stay away', ticked(422), LISTENING, ['No tick has come for 7 minutes.']],
    ['none ever came', ticked(null), LISTENING, ['The scheduler has never ticked.']],
    ['none comes, because it is disabled', ticked(null, false), LISTENING, []],
    [
      'it does not listen',
      ticked(1),
      { ...LISTENING, listening: false },
      ['It is not proven that notifications arrive; the log says why.'],
    ],
    ['a person has halted it', halted('halted', 'disabled'), LISTENING, []],
    [
      'stamps fail',
      halted('stamps fail'),
      LISTENING,
      ['Nothing is flagged and nothing deleted: stamps fail.'],
    ],
    ['it stops', ticked(1), { ...LISTENING, stopping: true }, ['This listener is stopping.']],
  ] as const)('when %s', (_, reading, listener, reasons) => {
    expect(judgeReadiness(reading, listener)).toEqual({ ready: reasons.length === 0, reasons });
  });

  test('names a failure by its code and nothing else', () => {
    const error = Object.assign(new Error('connect ECONNREFUSED 10.1.2.3:5432'), {
      code: 'ECONNREFUSED',
    });
    expect(judgeReadiness({ ok: false, error, at: new Date() }, LISTENING).reasons).toEqual([
      'The database does not answer (ECONNREFUSED).',
    ]);
  });
});

describe('metrics', () => {
  const outcome = {
    batchId: 1,
    bucket: 'b',
    claimed: 10,
    cleared: 0,
    stamped: 0,
    spared: 0,
    failed: 0,
    dead: 0,
    postponed: false,
    leaseLost: false,
    milliseconds: 1_500,
  };
  const make = () =>
    createMetrics({
      readVitals: () => Promise.resolve(snapshotOf().vitals),
      listener: () => ({ ...LISTENING, reconnects: 3 }),
    });

  test('count a postponed batch as refused, a lost lease as neither', async () => {
    const metrics = make();
    metrics.countBatch({ ...outcome, postponed: true });
    metrics.countBatch({ ...outcome, leaseLost: true });
    metrics.countBatch({ ...outcome, cleared: 7, stamped: 6, failed: 2, dead: 1 });
    metrics.countNotification();
    const { text } = await metrics.render();
    for (const line of [
      'retention_cleanup_runs_scanned_total 30',
      'retention_cleanup_s3_objects_deleted_total 7',
      'retention_cleanup_errors_total 13',
      'retention_results_buried_total 1',
      'retention_leases_lost_total 1',
      'retention_notifications_received_total 1',
      'retention_reconnects_total 3',
      'retention_batch_duration_seconds_count{outcome="cleared in part"} 1',
      'retention_results{state="due"} 18250',
    ]) {
      expect(text).toContain(`${line}\n`);
    }
    // Scraping does not add up what is only looked at.
    expect((await metrics.render()).text).toContain('retention_reconnects_total 3\n');
  });

  test('time S3 by how it ended', async () => {
    const metrics = make();
    const error = slowDown();
    const objects = observeDeletion(
      { deleteObjects: () => Promise.reject(error) },
      metrics.timeS3Call,
    );
    await expect(objects.deleteObjects('b', ['k'])).rejects.toBe(error);
    const { text } = await metrics.render();
    expect(text).toContain('retention_s3_request_duration_seconds_count{outcome="throttled"} 1');
  });
});

describe('the HTTP server', () => {
  const logger = createRecordingLogger();

  async function serve(): Promise<AddressInfo> {
    const server = createHttpServer({
      host: '127.0.0.1',
      port: 0,
      logger,
      routes: { '/fails': () => Promise.reject(new Error('secret details')) },
    });
    await server.start();
    onTestFinished(() => server.stop());
    const address = server.address();
    if (address === undefined) throw new Error('It has no address.');
    return address;
  }

  test('tells only the log why an answer failed', async () => {
    const { port } = await serve();
    const reply = await fetch(`http://127.0.0.1:${port}/fails`);
    expect(reply.status).toBe(500);
    expect(await reply.text()).toBe('This failed; see the log.\n');
    expect(logger.lines.some(({ message }) => message.includes('secret details'))).toBe(true);
  });

  test('stops although a client keeps its connection and says nothing', async () => {
    const server = createHttpServer({ host: '127.0.0.1', port: 0, logger, routes: {} });
    await server.start();
    const silent = connect({ host: '127.0.0.1', port: server.address()?.port ?? 0 });
    silent.on('error', () => undefined);
    await once(silent, 'connect');
    silent.write('GET /fails HTTP/1.1\r\n');
    const startedAt = performance.now();
    await server.stop();
    expect(performance.now() - startedAt).toBeLessThan(3_000);
    silent.destroy();
  });
});

describe('what is served while the database is slow', () => {
  test('every path answers at once with the last figures and says how old they are; a probe asks for no count', async () => {
    vi.useFakeTimers({ toFake: ['performance', 'Date'] });
    onTestFinished(() => void vi.useRealTimers());
    const { vitals, overview } = snapshotOf();
    if (!vitals.ok || !overview.ok) throw new Error('The sample has both.');
    const asked: string[] = [];
    let answers = true;
    const answer = <Value>(what: string, value: Value): Promise<Value> => {
      asked.push(what);
      return answers ? Promise.resolve(value) : new Promise(() => undefined);
    };
    const pulse = {
      enabled: true,
      halted: [],
      scheduler: 'internal',
      visibleNow: false,
      nextVisibleSeconds: undefined,
      more: false,
      tickedSecondsAgo: 1,
      tickedBy: 'internal',
      lastScanId: 0,
      nextStampSeconds: undefined,
    } as const;
    const telemetry = createTelemetry({
      host: '127.0.0.1',
      port: 0,
      store: {
        readVitals: () => answer('vitals', vitals.value),
        readOverview: () => answer('overview', overview.value),
        pulse: () => answer('pulse', pulse),
        explain: () => Promise.reject(new Error('It is not asked.')),
      },
      target: 'db:5432/dpp',
      listener: () => LISTENING,
      logger: createRecordingLogger(),
    });
    await telemetry.start();
    onTestFinished(() => telemetry.stop());
    const get = async (
      path: string,
    ): Promise<{ readonly body: string; readonly status: number }> => {
      const reply = await fetch(`http://127.0.0.1:${telemetry.port()}${path}`);
      return { status: reply.status, body: await reply.text() };
    };
    expect((await get('/readyz')).status).toBe(200);
    expect(asked).toEqual(['pulse']);
    for (const path of ['/metrics', '/status.json', '/'])
      expect((await get(path)).status).toBe(200);
    answers = false;
    asked.length = 0;
    vi.advanceTimersByTime(9_500);
    const replies = await Promise.all(
      ['/metrics', '/status.json', '/', '/readyz', '/metrics', '/status.json', '/'].map(get),
    );
    expect(replies.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 200, 200]);
    const [metrics, json] = replies.map(({ body }) => body);
    expect(metrics).toMatch(/^retention_status_age_seconds 9\.5/mu);
    expect(metrics).toContain('retention_results{state="due"} 18250');
    expect(JSON.parse(json ?? '')).toMatchObject({ due: 18_250, stale_seconds: 0 });
    // One read of each kind is at work, however many ask, and what counts waits for its turn.
    expect(asked.toSorted()).toEqual(['pulse', 'vitals']);
    vi.advanceTimersByTime(10_000);
    const [later, page] = await Promise.all(['/status.json', '/', '/readyz'].map(get));
    expect(JSON.parse(later?.body ?? '')).toMatchObject({
      stale_seconds: 20,
      ready: false,
      reasons: ['The database does not answer (TIMEOUT).'],
    });
    expect(page?.body).toContain(
      'These figures are 20 s old: the database has not answered since.',
    );
  });
});
