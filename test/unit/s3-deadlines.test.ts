import { describe, expect, test, vi } from 'vitest';
import { safeNow } from '../../src/lifecycle/clock.ts';
import { retryBudgetMilliseconds } from '../../src/retry-budget.ts';
import { deleteAll } from '../support/scripted-s3.ts';
import { failure, milliseconds, useScriptedStore } from '../support/scripted-store.ts';

const { open, play, requests } = useScriptedStore();

describe('time', () => {
  const times = { maxAttempts: 2, requestTimeoutMilliseconds: 150 };

  test('has a budget that counts every attempt and the longest pauses', () => {
    expect(retryBudgetMilliseconds({ maxAttempts: 1, requestTimeoutMilliseconds: 700 })).toBe(700);
    expect(retryBudgetMilliseconds()).toBe(3 * 30_000 + 1_000 + 5_000 + 2_000 + 5_000);
    expect(retryBudgetMilliseconds({ maxAttempts: 7, requestTimeoutMilliseconds: 0 })).toBe(
      1_000 + 2_000 + 4_000 + 8_000 + 16_000 + 20_000 + 6 * 5_000,
    );
  });

  test('sends nothing after its last moment, when its process was stopped until then', async () => {
    play(deleteAll);
    let endsAt = Infinity;
    const credentials = (): Promise<{ accessKeyId: string; secretAccessKey: string }> => {
      stopUntil(endsAt + 10);
      return Promise.resolve({ accessKeyId: 'A', secretAccessKey: 'S' });
    };
    const opened = open({ clientConfig: { credentials } });
    await opened.prepare?.();
    endsAt = safeNow() + 100;
    const error = await failure(opened.deleteObjects('bucket', ['a'], { endsAt }));
    expect(error.kind).toBe('timeout');
    expect(requests()).toEqual([]);
  });

  test('sends no second attempt when the machine was suspended after the first, until the lease was over', async () => {
    const wall = vi.spyOn(Date, 'now');
    try {
      play((_request, response) => {
        // The monotonic clock and the timers stand still meanwhile.
        const awake = Date.now() + 300_000;
        wall.mockImplementation(() => awake);
        response.writeHead(503).end();
      });
      const endsAt = safeNow() + 60_000;
      await failure(open(times).deleteObjects('bucket', ['a'], { endsAt }));
      expect(requests()).toHaveLength(1);
    } finally {
      wall.mockRestore();
    }
  });

  test('sends no second attempt after its budget, when no lease bounds the call', async () => {
    const wall = vi.spyOn(Date, 'now');
    try {
      play((_request, response) => {
        const awake = Date.now() + 300_000;
        wall.mockImplementation(() => awake);
        response.writeHead(503).end();
      });
      await failure(open(times).deleteObjects('bucket', ['a']));
      expect(requests()).toHaveLength(1);
    } finally {
      wall.mockRestore();
    }
  });

  test('ends a call that is never answered, after every attempt', async () => {
    play(() => undefined);
    const took = await milliseconds(async () => {
      const error = await failure(open(times).deleteObjects('bucket', ['a']));
      expect(error.kind).toBe('timeout');
    });
    expect(requests()).toHaveLength(2);
    expect(took).toBeLessThan(5_000);
  });

  test('ends a call whose answer is always just about to come, after every attempt', async () => {
    const promises = new Set<NodeJS.Timeout>();
    play((_request, response) => {
      promises.add(setInterval(() => response.writeProcessing(), 20));
    });
    const error = await failure(open(times).deleteObjects('bucket', ['a']));
    for (const promise of promises) clearInterval(promise);
    expect(error.kind).toBe('timeout');
    expect(requests()).toHaveLength(2);
  });

  test('ends a call whose answer stops in the middle', async () => {
    play((_request, response) => {
      response.writeHead(200, { 'content-length': '1000' }).write('<DeleteResult>');
    });
    const took = await milliseconds(async () => {
      const error = await failure(open(times).deleteObjects('bucket', ['a']));
      expect(error.kind).toBe('timeout');
    });
    expect(requests()).toHaveLength(2);
    expect(took).toBeLessThan(5_000);
  });

  test('ends a call whose answer only trickles, with the whole budget', async () => {
    const trickles = new Set<NodeJS.Timeout>();
    play((_request, response) => {
      response.writeHead(200, { 'content-length': '100000' });
      trickles.add(setInterval(() => response.write(' '), 20));
    });
    const opened = open({ maxAttempts: 1, requestTimeoutMilliseconds: 300 });
    const took = await milliseconds(async () => {
      const error = await failure(opened.deleteObjects('bucket', ['a']));
      expect(error).toMatchObject({ kind: 'timeout', code: 'Timeout' });
    });
    for (const trickle of trickles) clearInterval(trickle);
    expect(took).toBeGreaterThanOrEqual(299);
    expect(took).toBeLessThan(5_000);
  });

  test('ends a call whose credentials never come', async () => {
    const credentials = (): Promise<never> => new Promise(() => undefined);
    const opened = open({
      maxAttempts: 1,
      requestTimeoutMilliseconds: 100,
      clientConfig: { credentials },
    });
    expect((await failure(opened.deleteObjects('bucket', ['a']))).kind).toBe('timeout');
  });

  test('ends a call to an address that does not answer at all', async () => {
    // TEST-NET-1 (RFC 5737): nobody is there, so a connection is never made, or refused on the way.
    const opened = open({
      endpoint: 'http://192.0.2.1',
      ...times,
      connectTimeoutMilliseconds: 100,
    });
    const took = await milliseconds(async () => {
      const error = await failure(opened.deleteObjects('bucket', ['a']));
      expect(['timeout', 'unavailable']).toContain(error.kind);
    });
    expect(took).toBeLessThan(5_000);
  });

  test('up in the middle of single deletes keeps what was deleted', async () => {
    play((request, response) => {
      if (!request.url.includes('%01hang')) deleteAll(request, response);
    });
    const keys = ['\u0001hang', '\u0001a', '\u0001b'];
    const opened = open({ maxAttempts: 1, requestTimeoutMilliseconds: 1_000 });
    const report = await opened.deleteObjects('bucket', keys);
    expect(new Set(report.deleted)).toEqual(new Set(['\u0001a', '\u0001b']));
    expect(report.failures).toMatchObject([{ key: '\u0001hang', outcome: 'unknown' }]);
  });

  test('is given up at once when the caller says so', async () => {
    const abort = new AbortController();
    play(() => abort.abort());
    const call = open().deleteObjects('bucket', ['a'], { signal: abort.signal });
    expect((await failure(call)).kind).toBe('aborted');
    const late = open().deleteObjects('bucket', ['a'], { signal: abort.signal });
    expect((await failure(late)).kind).toBe('aborted');
    expect(requests()).toHaveLength(1);
  });

  test('is given up in the middle of single deletes, too', async () => {
    const abort = new AbortController();
    play((request, response) => {
      if (request.url.includes('%01last')) abort.abort();
      else deleteAll(request, response);
    });
    const keys = Array.from({ length: 20 }, (_, index) => `\u0001${index}`);
    const call = open().deleteObjects('bucket', [...keys, '\u0001last'], abort);
    expect((await failure(call)).kind).toBe('aborted');
  });
});

/** As SIGSTOP does: nothing of this process goes on until then. */
function stopUntil(moment: number): void {
  const left = moment - safeNow();
  if (Number.isFinite(left)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, left);
}
