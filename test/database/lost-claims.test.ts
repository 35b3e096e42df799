import { afterEach, expect, test } from 'vitest';
import type { DatabaseError } from '../../src/errors.ts';
import { unlimited } from '../../src/lifecycle/rate-limit.ts';
import { silentLogger } from '../../src/logger.ts';
import { type Worker, createWorker } from '../../src/reactor/worker.ts';
import { withBrokenRows } from '../support/broken-rows.ts';
import { describeDatabase } from '../support/database.ts';
import { keyOf, useMigrated } from '../support/migrated.ts';

describeDatabase('a batch whose check ends the session each time', () => {
  const database = useMigrated();
  afterEach(() => database().query('select retention._make_views()'));

  function makeWorker(deleted: string[]): Worker {
    return createWorker({
      store: database().store,
      objects: {
        deleteObjects: (_bucket, keys) => {
          deleted.push(...keys);
          return Promise.resolve({ all: true, deleted: keys, failures: [], unanswered: [] });
        },
      },
      logger: silentLogger,
      name: 'test',
      leaseSeconds: 60,
      rateLimit: unlimited,
    });
  }

  /** Works until nothing is visible; returns how many sessions were lost. */
  async function workOff(worker: Worker): Promise<number> {
    const { signal } = new AbortController();
    for (let lost = 0; lost < 50;) {
      try {
        if ((await worker.workOnce({ stop: signal, abort: signal })) === undefined) return lost;
      } catch (error) {
        expect((error as DatabaseError).sqlState).toBe('57P01');
        lost += 1;
      }
    }
    throw new Error('The same batch is taken up again and again.');
  }

  test('is the first one twice, and keeps no other from being worked off', async () => {
    const { insertRuns, store, set, countStamped } = database();
    const { breakRun } = await withBrokenRows(database());
    await set({ batch_size: '10' });
    const [first = ''] = await insertRuns({ count: 10, completedAgo: '90 days' });
    await insertRuns({ count: 50 });
    await store.flagExpired({ by: 'test' });
    await breakRun(first, 'KILL');
    const deleted: string[] = [];
    const worker = makeWorker(deleted);
    expect(await workOff(worker)).toBe(2);
    expect(await countStamped()).toBe(50);
    expect(deleted).not.toContain(keyOf(first));
  });

  test('is taken apart until the bad result stands alone, dead and named; retry brings it back', async () => {
    const { insertRuns, store, query, passRetryTimes, countStamped } = database();
    const { breakRun } = await withBrokenRows(database());
    const runIds = await insertRuns({ count: 1_000 });
    const bad = runIds[613] ?? '';
    await store.flagExpired({ by: 'test' });
    await breakRun(bad, 'KILL');
    const deleted: string[] = [];
    const worker = makeWorker(deleted);
    let lost = 0;
    for (let turn = 0; turn < 10; turn += 1) {
      lost += await workOff(worker);
      await passRetryTimes();
    }
    // 1,000, 125, 16, 2 and 1, each twice at most.
    expect(lost).toBeLessThanOrEqual(10);
    expect(await countStamped()).toBe(999);
    expect(
      await query('select run_id, code, dead_at is not null as dead from retention.flagged'),
    ).toEqual([{ run_id: bad, code: 'ClaimLost', dead: true }]);
    const [said] = await store.explain([(await insertRuns({ count: 1 }))[0] ?? '']);
    expect(said?.state).toBe('due');
    await breakRun(bad, null);
    await query('select retention.retry(p_all => true)');
    expect(await workOff(worker)).toBe(0);
    expect(await countStamped()).toBe(1_000);
  });

  test('that comes through leaves no trace', async () => {
    const { insertRuns, store, query } = database();
    const { breakRun } = await withBrokenRows(database());
    const [bad = ''] = await insertRuns({ count: 3 });
    await store.flagExpired({ by: 'test' });
    await breakRun(bad, 'KILL');
    const { signal } = new AbortController();
    const worker = makeWorker([]);
    await expect(worker.workOnce({ stop: signal, abort: signal })).rejects.toThrow();
    await breakRun(bad, null);
    expect(await store.takeTurn({})).toBe(
      (await query<{ batch_id: number }>('select batch_id::int from retention.batch'))[0]?.batch_id,
    );
    expect(await query('select code from retention.batch')).toEqual([{ code: 'ClaimLost' }]);
    const claim = await store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'test' });
    expect(claim?.keys).toHaveLength(3);
    expect(await query('select code, error, failed_at from retention.batch')).toEqual([
      { code: null, error: null, failed_at: null },
    ]);
  });

  test('is not claimed behind a closed gate, nor out of buckets and batches that were not asked for', async () => {
    const { insertRuns, store, query } = database();
    await insertRuns({ count: 2 });
    await store.flagExpired({ by: 'test' });
    expect(await store.takeTurn({ buckets: ['other'] })).toBeUndefined();
    expect(await store.takeTurn({ batchIds: [0] })).toBeUndefined();
    await query(`select retention.halt('x')`);
    expect(await store.takeTurn({})).toBeUndefined();
    await query('select retention.resume()');
    expect(await store.takeTurn({ buckets: ['dpp-results'] })).toBeGreaterThan(0);
  });

  test('of a lease that ran out is still in flight', async () => {
    const { insertRuns, store, expireLeases, query, claimNext } = database();
    await insertRuns({ count: 2 });
    await store.flagExpired({ by: 'test' });
    await claimNext();
    await expireLeases();
    expect(await store.takeTurn({})).toBeGreaterThan(0);
    expect(await query('select from retention.unanswered')).toHaveLength(1);
  });
});
