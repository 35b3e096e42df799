import { describe, expect, test } from 'vitest';
import { unlimited } from '../../src/lifecycle/rate-limit.ts';
import { silentLogger } from '../../src/logger.ts';
import type { DeletionOptions } from '../../src/objects/deletion-report.ts';
import { ObjectStoreError } from '../../src/objects/store-failure.ts';
import { drain } from '../../src/reactor/drain.ts';
import { type WorkOptions, createWorker } from '../../src/reactor/worker.ts';
import type { Store } from '../../src/store/store.ts';
import { until } from '../support/until.ts';

/** Neither told to stop nor cut short. */
const unhindered = (): WorkOptions => ({
  stop: new AbortController().signal,
  abort: new AbortController().signal,
});

const LEASE_SECONDS = 1;

/** As S3 that never answers: ends when it is told to. */
function untilAborted({ signal }: DeletionOptions): Promise<never> {
  return new Promise((_resolve, reject) => {
    const giveUp = (): void =>
      reject(
        new ObjectStoreError({
          kind: 'aborted',
          code: 'Aborted',
          bucket: 'b',
          reason: 'given up',
          outcome: 'unknown',
          concerns: 'store',
          final: false,
        }),
      );
    if (signal?.aborted === true) giveUp();
    else signal?.addEventListener('abort', giveUp);
  });
}

describe('an S3 that is slower than the lease', () => {
  const calls: string[] = [];
  let lastMoment: number | undefined;
  const worker = (claimed: () => Promise<void> = () => Promise.resolve()) =>
    createWorker({
      store: {
        claim: async () => {
          await claimed();
          const batch = { batchId: 7, bucket: 'b', runIds: ['1'], keys: ['k'], spared: 0 };
          return { ...batch, attempts: 0, purge: false };
        },
        settle: () => Promise.resolve(void calls.push('settle')),
        postpone: () => Promise.resolve(void calls.push('postpone')),
        split: () => Promise.resolve(void calls.push('split')),
      } as unknown as Store,
      objects: {
        deleteObjects: (_bucket, _keys, options = {}) => {
          calls.push('delete');
          lastMoment = options.endsAt;
          return untilAborted(options);
        },
      },
      logger: silentLogger,
      name: 'test',
      leaseSeconds: LEASE_SECONDS,
      rateLimit: unlimited,
    });

  test('is given up while a part of the lease is left, and the batch is left to run out', async () => {
    calls.length = 0;
    const timers = [0.8, 1].map((part) =>
      setTimeout(() => calls.push(`${part} of the lease`), LEASE_SECONDS * 1_000 * part),
    );
    const working = worker().workOnce(unhindered());
    await expect(working).rejects.toMatchObject({ kind: 'aborted' });
    // S3 may still be at it: nobody else is to have it yet, and nothing is known of it.
    expect(calls).toEqual(['delete', '0.8 of the lease']);
    for (const timer of timers) clearTimeout(timer);
  });

  test('is told the last moment for a request, before the lease has run out', async () => {
    lastMoment = undefined;
    const abort = new AbortController();
    const startedAt = performance.now();
    const working = worker().workOnce({ ...unhindered(), abort: abort.signal });
    await until('S3 is asked', () => lastMoment !== undefined);
    expect(lastMoment).toBeGreaterThan(startedAt);
    expect(lastMoment).toBeLessThan(startedAt + LEASE_SECONDS * 1_000);
    abort.abort();
    await expect(working).rejects.toMatchObject({ kind: 'aborted' });
  });

  test('is asked by every slot at once, and not by one after the other', async () => {
    calls.length = 0;
    const [stop, abort] = [new AbortController(), new AbortController()];
    const draining = drain({
      worker: worker(),
      concurrency: 3,
      stop: stop.signal,
      abort: abort.signal,
    });
    await until('three requests are under way', () => calls.length === 3);
    expect(calls).toEqual(['delete', 'delete', 'delete']);
    stop.abort();
    abort.abort();
    await expect(draining).rejects.toMatchObject({ kind: 'aborted' });
  });

  test('is not asked where the claim itself has taken that long', async () => {
    calls.length = 0;
    const late = (): Promise<void> =>
      new Promise((resolve) => setTimeout(resolve, LEASE_SECONDS * 950));
    await worker(late).workOnce(unhindered());
    expect(calls).toEqual(['postpone']);
  });
});
