import { expect, test } from 'vitest';
import { drain, NO_TOTALS } from '../../src/reactor/drain.ts';
import type { Worker } from '../../src/reactor/worker.ts';

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
