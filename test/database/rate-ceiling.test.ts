import { expect, test } from 'vitest';
import { createRateLimit } from '../../src/lifecycle/rate-limit.ts';
import { silentLogger } from '../../src/logger.ts';
import type { ObjectStore } from '../../src/objects/object-store.ts';
import { drain } from '../../src/reactor/drain.ts';
import { createWorker } from '../../src/reactor/worker.ts';
import { describeDatabase } from '../support/database.ts';
import { type ManualClock, createManualClock } from '../support/manual-clock.ts';
import { useMigrated } from '../support/migrated.ts';
import { until } from '../support/until.ts';

describeDatabase('a ceiling on deletions', () => {
  const database = useMigrated();
  const never = new AbortController().signal;

  /** Names every key as deleted, and says when it was asked. */
  function objectsAt(clock: ManualClock, asked: number[]): ObjectStore {
    return {
      deleteObjects: (_bucket, keys) => {
        asked.push(clock.now());
        return Promise.resolve({ deleted: keys, all: true, failures: [], unanswered: [] });
      },
      close: () => undefined,
    };
  }

  function makeWorker(clock: ManualClock, asked: number[], perSecond: number) {
    return createWorker({
      store: database().store,
      objects: objectsAt(clock, asked),
      logger: silentLogger,
      name: 'test',
      leaseSeconds: 10,
      rateLimit: createRateLimit(perSecond, clock),
    });
  }

  test('that a batch cannot meet within its lease delays the next claim, never this batch', async () => {
    await database().query('update retention.setting set batch_size = 50');
    await database().insertRuns({ count: 100, completedAgo: '40 days' });
    await database().query('select retention.flag_expired()');
    const clock = createManualClock();
    const asked: number[] = [];
    const worker = makeWorker(clock, asked, 1);
    const stop = new AbortController();
    const draining = drain({ worker, concurrency: 1, stop: stop.signal, abort: never });
    await until('it waits', () => clock.waiting.length > 0);
    // The first batch is done at once; nothing is leased while what it spent is paid off.
    expect(asked).toHaveLength(1);
    expect(await database().query('select from retention.batch where lease is not null')).toEqual(
      [],
    );
    await clock.advance(50_000);
    await until(
      'it has worked and waits again',
      () => asked.length === 2 && clock.waiting.length > 0,
    );
    stop.abort();
    expect(await draining).toMatchObject({ batches: 2, cleared: 100, postponed: 0 });
    expect((asked[1] ?? 0) - (asked[0] ?? 0)).toBeGreaterThanOrEqual(50_000);
  });

  test('all slots together work at even distances, from the first batch on', async () => {
    await database().query('update retention.setting set batch_size = 50');
    await database().insertRuns({ count: 300, completedAgo: '40 days' });
    await database().query('select retention.flag_expired()');
    const clock = createManualClock();
    await clock.advance(3_600_000);
    const asked: number[] = [];
    const worker = makeWorker(clock, asked, 100);
    const stop = new AbortController();
    const draining = drain({ worker, concurrency: 4, stop: stop.signal, abort: never });
    for (let batches = 1; batches <= 6; batches += 1) {
      await until('the next has been worked on and all wait', () => {
        return asked.length === batches && clock.waiting.length > 0;
      });
      const [leased] = await database().query<{ count: number }>(
        'select count(*)::int as count from retention.batch where lease is not null',
      );
      expect(leased?.count).toBeLessThanOrEqual(1);
      await clock.advance(500);
    }
    expect(await draining).toMatchObject({ batches: 6, cleared: 300 });
    const distances = asked.slice(1).map((at, index) => at - (asked[index] ?? 0));
    for (const distance of distances) expect(distance).toBeGreaterThanOrEqual(480);
  });
});
