import { describe, expect, test } from 'vitest';
import { backoffMilliseconds, createBackoff } from '../../src/lifecycle/backoff.ts';
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
    const pauses = Array.from({ length: 6 }, () => backoff.next());
    expect(pauses).toEqual([100, 200, 400, 800, 1_000, 1_000]);
    backoff.reset();
    expect(backoff.next()).toBe(100);
    expect(backoffMilliseconds(5_000, options)).toBe(1_000);
  });

  test('equal jitter keeps half, full jitter keeps nothing', () => {
    const least = { firstMilliseconds: 100, random: () => 0 };
    expect(backoffMilliseconds(1, least)).toBe(50);
    expect(backoffMilliseconds(1, { ...least, jitter: 'full' })).toBe(0);
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
  test('allows a burst of one second and then the rate', async () => {
    const clock = createManualClock();
    const limit = createRateLimit(100, clock);
    let taken = 0;
    const take = () => limit.take(50).then(() => (taken += 50));
    const all = [take(), take(), take(), take()];
    await clock.advance(0);
    expect(taken).toBe(100);
    await clock.advance(499);
    expect(taken).toBe(100);
    await clock.advance(1);
    expect(taken).toBe(150);
    await clock.advance(500);
    expect(taken).toBe(200);
    await Promise.all(all);
  });

  test('a long quiet time allows no more than one second at once', async () => {
    const clock = createManualClock();
    const limit = createRateLimit(10, clock);
    await clock.advance(3_600_000);
    await limit.take(10);
    const next = limit.take(1);
    await settle();
    expect(clock.waiting).toEqual([100]);
    await clock.advance(100);
    expect(await next).toBe(true);
  });

  test('a count above the rate waits until it is paid for', async () => {
    const clock = createManualClock();
    const limit = createRateLimit(100, clock);
    const taking = limit.take(1_000);
    await settle();
    expect(clock.waiting).toEqual([9_000]);
    await clock.advance(9_000);
    expect(await taking).toBe(true);
  });

  test('an aborted wait takes nothing', async () => {
    const clock = createManualClock();
    const limit = createRateLimit(10, clock);
    const controller = new AbortController();
    await limit.take(10);
    const taking = limit.take(1_000, controller.signal);
    controller.abort();
    expect(await taking).toBe(false);
    expect(await limit.take(5, controller.signal)).toBe(false);
    const next = limit.take(1);
    await clock.advance(100);
    expect(await next).toBe(true);
  });

  test('no ceiling never waits', async () => {
    expect(await unlimited.take(1_000_000)).toBe(true);
    expect(await unlimited.take(1, AbortSignal.abort())).toBe(false);
  });
});
