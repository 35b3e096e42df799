import { describe, expect, test } from 'vitest';
import { createBackoff } from '../../src/lifecycle/backoff.ts';
import { formatDuration, parseDuration } from '../../src/lifecycle/duration.ts';
import { pause } from '../../src/lifecycle/pause.ts';
import { createRateLimit, unlimited } from '../../src/lifecycle/rate-limit.ts';
import { createManualClock, settle } from '../support/manual-clock.ts';

describe('pause', () => {
  test('returns early and quietly when the signal is aborted', async () => {
    const controller = new AbortController();
    const paused = pause(3_600_000, controller.signal);
    controller.abort();
    await paused;
    await pause(3_600_000, controller.signal);
  });

  test('a pause longer than a timer can hold does not end at once', async () => {
    const controller = new AbortController();
    let isOver = false;
    const paused = pause(31_536_000_000, controller.signal).then(() => (isOver = true));
    await pause(20);
    expect(isOver).toBe(false);
    controller.abort();
    await paused;
  });
});

describe('backoff', () => {
  test('pauses double up to the cap', () => {
    const options = { firstMilliseconds: 100, capMilliseconds: 1_000, random: () => 1 };
    const backoff = createBackoff(options);
    const pauses = Array.from({ length: 5_000 }, () => backoff.next());
    expect(pauses.slice(0, 6)).toEqual([100, 200, 400, 800, 1_000, 1_000]);
    // 2 ** 4,999 is Infinity.
    expect(pauses.at(-1)).toBe(1_000);
    backoff.reset();
    expect(backoff.next()).toBe(100);
  });

  test('equal jitter keeps half, full jitter keeps nothing', () => {
    const least = { firstMilliseconds: 100, random: () => 0 };
    expect(createBackoff(least).next()).toBe(50);
    expect(createBackoff({ ...least, jitter: 'full' }).next()).toBe(0);
  });
});

describe('durations', () => {
  test.each([
    ['30d', 2_592_000_000],
    ['12h', 43_200_000],
    ['15m', 900_000],
    ['45s', 45_000],
    ['2w', 1_209_600_000],
    [' 1D ', 86_400_000],
    ['0s', 0],
  ])('reads %s', (text, milliseconds) => {
    expect(parseDuration(text)).toBe(milliseconds);
  });

  test.each(['banana', '', '30', 'd', '-1d', '1.5h', '1d2h', '99999999w', '1e3s', '٣d'])(
    'refuses "%s" with what was expected and given',
    (text) => {
      expect(() => parseDuration(text, '--older-than')).toThrow(
        `--older-than: expected a duration such as 30d, 12h, 15m, 45s or 2w; given "${text}"`,
      );
    },
  );

  test.each([
    [0, '0 ms'],
    [412.4, '412 ms'],
    [999.6, '1 s'],
    [3_210, '3.2 s'],
    [59_990, '1 min'],
    [303_000, '5 min 3 s'],
    [7_500_000, '2 h 5 min'],
    [86_399_999, '1 d'],
    [2_592_000_000, '30 d'],
    [-1_000, '-1 s'],
    [Number.NaN, 'unknown'],
  ])('writes %s ms as "%s"', (milliseconds, text) => {
    expect(formatDuration(milliseconds)).toBe(text);
  });
});

describe('rate limit', () => {
  const never = new AbortController().signal;

  /** Begins so many things each time, and says when. */
  function startTurns(perSecond: number) {
    const clock = createManualClock();
    const limit = createRateLimit(perSecond, clock);
    const begunAt: number[] = [];
    const begin = (count: number, signal = never): Promise<number | undefined> =>
      limit.inTurn(
        signal,
        () => {
          begunAt.push(clock.now());
          return Promise.resolve(count);
        },
        (begun) => begun,
      );
    return { clock, limit, begunAt, begin };
  }

  test('what comes at once begins at even distances, in the order of coming', async () => {
    const { clock, begunAt, begin } = startTurns(100);
    const all = Promise.all([begin(50), begin(20), begin(10), begin(50)]);
    await clock.advance(10_000);
    expect(await all).toEqual([50, 20, 10, 50]);
    expect(begunAt).toEqual([0, 500, 700, 800]);
  });

  test('one at a time: the next waits until it is known what the one before began', async () => {
    const { clock, limit, begunAt, begin } = startTurns(100);
    let tell = (_count: number): void => undefined;
    const slow = limit.inTurn(
      never,
      () => new Promise<number>((resolve) => (tell = resolve)),
      (count) => count,
    );
    const next = begin(1);
    await clock.advance(5_000);
    expect(begunAt).toEqual([]);
    tell(600);
    await slow;
    await clock.advance(999);
    expect(begunAt).toEqual([]);
    await clock.advance(1);
    await next;
    expect(begunAt).toEqual([6_000]);
  });

  test('a quiet time is not made up for', async () => {
    const { clock, begunAt, begin } = startTurns(10);
    await clock.advance(3_600_000);
    const all = Promise.all([begin(10), begin(10), begin(10)]);
    await clock.advance(10_000);
    await all;
    const [first = 0, second = 0, third = 0] = begunAt;
    expect(second - first).toBeGreaterThanOrEqual(980);
    expect(third - second).toBe(1_000);
  });

  test('a turn that comes a little late makes none after it late', async () => {
    const { clock, begunAt, begin } = startTurns(1_000);
    await begin(100);
    await clock.advance(115);
    await begin(100);
    const next = begin(100);
    await clock.advance(1_000);
    await next;
    expect(begunAt).toEqual([0, 115, 200]);
  });

  test('what is larger than the rate is begun at once, and delays the next', async () => {
    const { clock, begunAt, begin } = startTurns(100);
    await begin(1_000);
    const next = begin(1);
    await clock.advance(10_000);
    await next;
    expect(begunAt).toEqual([0, 10_000]);
  });

  test('an aborted wait begins nothing and delays nothing', async () => {
    const { clock, begunAt, begin } = startTurns(10);
    const controller = new AbortController();
    await begin(10);
    const waiting = begin(1_000, controller.signal);
    const next = begin(1);
    await settle();
    controller.abort();
    expect(await waiting).toBeUndefined();
    expect(await begin(5, controller.signal)).toBeUndefined();
    await clock.advance(1_000);
    expect(await next).toBe(1);
    expect(begunAt).toEqual([0, 1_000]);
  });

  test('one that fails or begins nothing costs the next no time', async () => {
    const { begunAt, limit, begin } = startTurns(10);
    const failing = limit.inTurn(
      never,
      () => Promise.reject(new Error('no')),
      () => 1_000,
    );
    await expect(failing).rejects.toThrow('no');
    await begin(0);
    await begin(1);
    expect(begunAt).toEqual([0, 0]);
  });

  test('no ceiling never waits', async () => {
    const begin = (): Promise<number> => Promise.resolve(1_000_000);
    const count = (begun: number): number => begun;
    expect(await unlimited.inTurn(never, begin, count)).toBe(1_000_000);
    expect(await unlimited.inTurn(AbortSignal.abort(), begin, count)).toBeUndefined();
  });
});
