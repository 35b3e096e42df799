import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { DatabaseError } from '../../src/errors.ts';
import { unlimited } from '../../src/lifecycle/rate-limit.ts';
import type { ObjectStoreError } from '../../src/objects/store-failure.ts';
import { type WorkOptions, createWorker } from '../../src/reactor/worker.ts';
import type { Store } from '../../src/store/store.ts';
import { type RecordingLogger, createRecordingLogger } from '../support/recording-logger.ts';
import { slowDown } from '../support/reports.ts';

/** Neither told to stop nor cut short, unless by this. */
const unhindered = (abort = new AbortController().signal): WorkOptions => ({
  stop: new AbortController().signal,
  abort,
});

const time = vi.hoisted(() => ({
  now: 0,
  onPause: (): void => undefined,
}));
vi.mock('../../src/lifecycle/pause.ts', () => ({
  pause: (milliseconds: number): Promise<void> => {
    time.now += milliseconds;
    time.onPause();
    return Promise.resolve();
  },
}));

const LEASE_SECONDS = 300;
const away = new DatabaseError('connect ECONNREFUSED 127.0.0.1:5432', { code: 'ECONNREFUSED' });

describe('settling while the database is away', () => {
  let logger: RecordingLogger;
  let asked: number;
  let tries: number;
  beforeEach(() => {
    logger = createRecordingLogger();
    asked = 0;
    tries = 0;
    time.now = 0;
    time.onPause = () => undefined;
    vi.spyOn(performance, 'now').mockImplementation(() => time.now);
  });
  afterEach(() => {
    vi.restoreAllMocks();
  });

  const claim = { batchId: 7, bucket: 'b', keys: ['k'], spared: 0, attempts: 0 };

  /** A worker whose first so many tries to give its batch back fail. */
  function makeWorker(failures: number, error: Error = away, s3?: ObjectStoreError) {
    const failing =
      <Result>(result: Result) =>
      (): Promise<Result> => {
        tries += 1;
        return tries > failures ? Promise.resolve(result) : Promise.reject(error);
      };
    const settled = { settled: true, cleared: 1, stamped: 1, failed: 0, dead: 0, problems: [] };
    const store = {
      claim: () => Promise.resolve({ ...claim, purge: false }),
      settle: failing({ ...settled, retryAt: undefined }),
      postpone: failing(new Date(0)),
      split: failing(true),
    };
    return createWorker({
      store: store as unknown as Store,
      objects: {
        deleteObjects: (_bucket, keys) => {
          asked += 1;
          if (s3 !== undefined) return Promise.reject(s3);
          return Promise.resolve({ deleted: keys, all: true, failures: [], unanswered: [] });
        },
      },
      logger,
      name: 'test',
      leaseSeconds: LEASE_SECONDS,
      rateLimit: unlimited,
    });
  }

  /** Of each line about it, the level. */
  const levels = (): string[] =>
    logger.lines
      .filter(({ message }) => message.startsWith('Settling is tried again: '))
      .map(({ level }) => level);

  test('is tried again and again, and S3 is not asked again', async () => {
    const outcome = await makeWorker(20).workOnce(unhindered());
    expect(outcome).toMatchObject({ cleared: 1, stamped: 1, leaseLost: false });
    expect([asked, tries]).toEqual([1, 21]);
  });

  test.each([
    ['a pooler is full', 'XX000', 'Max client connections reached'],
    ['a pooler cannot log in', '08P01', 'server login has been failing, try again later'],
    ['the server is read-only after a switchover', '25006', 'cannot execute UPDATE'],
    ['the password was rotated a moment ago', '28P01', 'password authentication failed'],
  ])('is tried again when %s', async (_why, sqlState, message) => {
    const outcome = await makeWorker(3, new DatabaseError(message, { sqlState })).workOnce(
      unhindered(),
    );
    expect(outcome).toMatchObject({ cleared: 1, leaseLost: false });
    expect([asked, tries]).toEqual([1, 4]);
  });

  test('is said at the 1st, 2nd, 4th, 8th ... time, and only in detail the other times', async () => {
    await makeWorker(20).workOnce(unhindered());
    const loud = levels().flatMap((level, index) => (level === 'warning' ? [index + 1] : []));
    expect(loud).toEqual([1, 2, 4, 8, 16]);
    expect(levels().filter((level) => level === 'debug')).toHaveLength(15);
    const [first] = logger.lines;
    expect(first?.message).toContain('connect ECONNREFUSED 127.0.0.1:5432');
    expect(first?.fields['error']).toBe(away);
  });

  test('waits longer each time, up to five seconds', async () => {
    const waits: number[] = [];
    let before = 0;
    time.onPause = () => {
      waits.push(time.now - before);
      before = time.now;
    };
    await makeWorker(20).workOnce(unhindered());
    expect(waits[0]).toBeLessThanOrEqual(100);
    for (const wait of waits.slice(7)) {
      expect(wait).toBeGreaterThanOrEqual(2_500);
      expect(wait).toBeLessThanOrEqual(5_000);
    }
  });

  test('ends with the lease, which others may have after that', async () => {
    await expect(makeWorker(Infinity).workOnce(unhindered())).rejects.toBe(away);
    expect(time.now).toBeLessThanOrEqual(LEASE_SECONDS * 1_000);
    expect(time.now).toBeGreaterThan((LEASE_SECONDS - 6) * 1_000);
    expect(tries).toBeGreaterThan(LEASE_SECONDS / 5);
    expect(asked).toBe(1);
  });

  test('ends when the listener’s grace is over', async () => {
    const grace = new AbortController();
    time.onPause = () => {
      if (tries === 3) grace.abort();
    };
    await expect(makeWorker(Infinity).workOnce(unhindered(grace.signal))).rejects.toBe(away);
    expect(tries).toBe(4);
  });

  test('a pooler that has no connection to give now is asked again', async () => {
    const full = new DatabaseError('Max client connections reached', { sqlState: 'XX000' });
    await makeWorker(3, full).workOnce(unhindered());
    expect([tries, asked]).toEqual([4, 1]);
  });

  test('is not tried again where that cannot help', async () => {
    const denied = new DatabaseError('permission denied for function settle', {
      sqlState: '42501',
    });
    await expect(makeWorker(Infinity, denied).workOnce(unhindered())).rejects.toBe(denied);
    expect([tries, levels()]).toEqual([1, []]);
  });

  test('is tried again as well where S3 has refused', async () => {
    const worker = makeWorker(2, away, slowDown());
    const outcome = await worker.workOnce(unhindered());
    expect(outcome).toMatchObject({ postponed: true, cleared: 0, leaseLost: false });
    expect([tries, levels()]).toEqual([3, ['warning', 'warning']]);
  });
});
