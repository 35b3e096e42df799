import { beforeEach, expect, test, vi } from 'vitest';
import { drain, NO_TOTALS } from '../../src/reactor/drain.ts';
import type { BatchOutcome, Worker } from '../../src/reactor/worker.ts';
import type { Claim } from '../../src/store/leases.ts';

const pauses = vi.hoisted((): number[] => []);
const endPauses = vi.hoisted((): (AbortSignal | undefined)[] => []);
vi.mock('../../src/lifecycle/pause.ts', () => ({
  pause: (milliseconds: number, end?: AbortSignal): Promise<void> => {
    pauses.push(milliseconds);
    endPauses.push(end);
    return Promise.resolve();
  },
}));
beforeEach(() => {
  pauses.length = 0;
  endPauses.length = 0;
});

const never = new AbortController().signal;

test('a drain that is stopped before it begins claims nothing and ends', async () => {
  const worker: Worker = { workOnce: () => Promise.reject(new Error('it has begun')) };
  const stop = AbortSignal.abort();
  expect(await drain({ worker, concurrency: 4, stop, abort: never })).toEqual(NO_TOTALS);
});

test('a drain fails with the first error of a slot', async () => {
  const worker: Worker = { workOnce: () => Promise.reject(new Error('the database is away')) };
  const draining = drain({ worker, concurrency: 4, stop: never, abort: never });
  await expect(draining).rejects.toThrow('the database is away');
});

test('a drain that begins where it is crowded brings in no slot', async () => {
  let calls = 0;
  const worker: Worker = {
    workOnce: ({ onClaimed }) => {
      calls += 1;
      if (calls > 1) return Promise.resolve(undefined);
      onClaimed?.({ crowded: true } as Claim);
      expect(calls).toBe(1);
      return Promise.resolve(makeOutcome(true));
    },
  };
  const totals = await drain({ worker, concurrency: 4, stop: never, abort: never });
  expect(totals.batches).toBe(1);
  expect(calls).toBe(2);
});

test('a crowded drain pauses longer each time, up to four seconds, and anew after four batches that were not', async () => {
  const crowded = [true, true, true, true, false, false, false, true];
  crowded.push(false, false, false, false, true);
  const worker: Worker = {
    workOnce: () => {
      const next = crowded.shift();
      return Promise.resolve(next === undefined ? undefined : makeOutcome(next));
    },
  };
  const totals = await drain({ worker, concurrency: 4, stop: never, abort: never });
  expect(totals).toMatchObject({ batches: 13, cleared: 13 });
  expect(pauses).toHaveLength(6);
  for (const [index, most] of [1_000, 2_000, 4_000, 4_000, 4_000, 1_000].entries()) {
    expect(pauses[index]).toBeGreaterThanOrEqual(most / 2);
    expect(pauses[index]).toBeLessThanOrEqual(most);
  }
});

test('a crowded drain that is stopped does not wait for the end of its pause', async () => {
  const crowded = [true];
  const worker: Worker = {
    workOnce: () => Promise.resolve(crowded.pop() === true ? makeOutcome(true) : undefined),
  };
  const stop = new AbortController().signal;
  await drain({ worker, concurrency: 4, stop, abort: never });
  expect(endPauses).toHaveLength(1);
  expect(endPauses[0]).toBe(stop);
});

function makeOutcome(crowded: boolean): BatchOutcome {
  return {
    batchId: 1,
    bucket: 'b',
    claimed: 1,
    cleared: 1,
    stamped: 1,
    spared: 0,
    failed: 0,
    dead: 0,
    postponed: false,
    leaseLost: false,
    crowded,
    milliseconds: 1,
  };
}
