import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { listenInPsql } from '../support/psql.ts';
import { useMigrated } from '../support/migrated.ts';
import { dueRuns } from '../support/due-runs.ts';

describeDatabase('an object that many runs share', () => {
  const database = useMigrated();

  test('50,000 results on one key are claimed well under a second, and the key is named once', async () => {
    const { insertRuns, store, claimNext, countStamped } = database();
    await insertRuns({ count: 50_000, key: 'results/cached' });
    await insertRuns({ count: 20, bucket: 'dpp-archive' });
    await store.flagExpired({ by: 'test', whole: true });
    let slowest = 0;
    const keys: string[] = [];
    for (let batch = 0; batch < 4; batch += 1) {
      const startedAt = performance.now();
      const claim = await claimNext();
      slowest = Math.max(slowest, performance.now() - startedAt);
      keys.push(claim.keys.length === 1 ? (claim.keys[0] ?? '') : claim.bucket);
      await store.settle(claim.batchId, claim.lease, {
        cleared: 'all',
        failed: [],
        milliseconds: 1,
      });
    }
    expect(slowest).toBeLessThan(1_000);
    expect(keys.toSorted()).toEqual([
      'dpp-archive',
      ...Array.from({ length: 3 }, () => 'results/cached'),
    ]);
    expect(await countStamped()).toBe(3_020);
  });

  test('a dry run and a narrowed reconcile cost as much as there is, and not its square', async () => {
    const { insertRuns, store } = database();
    await insertRuns({ count: 20_000, key: 'results/cached' });
    const startedAt = performance.now();
    expect(await dueRuns(database(), {})).toHaveLength(20_000);
    expect(await store.dueGroups({ tenantId: 'acme', limit: 10 })).toMatchObject([{ results: 10 }]);
    expect(await store.flagSelected({ tenantId: 'acme' })).toMatchObject({ selected: 20_000 });
    expect(performance.now() - startedAt).toBeLessThan(5_000);
  });

  test('50,000 results that share with one live run are spared quickly, and nobody else waits', async () => {
    const { insertRuns, insertRun, store, query } = database();
    await insertRuns({ count: 50_000, key: 'results/cached' });
    await insertRun({ key: 'results/cached', completedAgo: '1 day' });
    await insertRuns({ count: 20, bucket: 'dpp-archive' });
    await store.flagExpired({ by: 'test', whole: true });
    const startedAt = performance.now();
    const handedOut: string[] = [];
    for (let claims = 0; claims < 60; claims += 1) {
      const lease = crypto.randomUUID();
      const claim = await store.claim({ lease, leaseSeconds: 60, by: 'test' });
      if (claim === undefined) break;
      handedOut.push(...claim.keys);
    }
    expect(handedOut).toHaveLength(20);
    expect(performance.now() - startedAt).toBeLessThan(30_000);
    expect(await query('select key from retention.shared_object')).toEqual([
      { key: 'results/cached' },
    ]);
    // They are not flagged and spared again.
    expect(await store.flagExpired({ by: 'test' })).toBe(0);
    expect(await dueRuns(database(), {})).toHaveLength(20);
  });

  test.each([
    ['holds no run id', 'results/cached'],
    ['holds the id of one of them', undefined],
  ])('goes once all are due, where its key %s', async (_, key) => {
    const { insertRun, store, claimNext, query } = database();
    const first = await insertRun(key === undefined ? {} : { key });
    const shared = key ?? `results/${first}`;
    const second = await insertRun({ key: shared });
    await store.flagExpired({ by: 'test' });
    expect((await claimNext()).keys).toContain(shared);
    expect(
      await query('select run_id from runs where run_id = any ($1)', [[first, second]]),
    ).toHaveLength(2);
  });

  test('results that share with each other are kept apart from those that do not', async () => {
    const { insertRun, insertRuns, store, claimNext, claimed, query } = database();
    const pair = await insertRuns({ count: 2, key: 'results/pair' });
    const blocked = await insertRuns({ count: 2, key: 'results/blocked' });
    await insertRun({ key: 'results/blocked', status: 'FAILED' });
    const moved = await insertRun({ key: 'results/pair' });
    const alone = await insertRun();
    await store.flagExpired({ by: 'test' });
    await query(`update runs set result_s3_key = 'results/elsewhere' where run_id = $1`, [moved]);
    const claim = await claimNext();
    expect(claim.spared).toBe(3);
    expect(claim.keys.toSorted()).toEqual(['results/pair', `results/${alone}`].toSorted());
    expect((await claimed(claim)).toSorted()).toEqual([...pair, alone].toSorted());
    expect(blocked).toHaveLength(2);
  });

  test('the check of an early cutoff holds for shared objects too', async () => {
    const { insertRuns, store } = database();
    const early = { olderThanSeconds: 7 * 86_400, early: true };
    await insertRuns({ count: 2, completedAgo: '40 days', key: 'results/due' });
    await insertRuns({ count: 1, completedAgo: '10 days', key: 'results/one-early' });
    const { batchIds } = await store.flagSelected({ ...early, all: true, expected: 10 });
    await insertRuns({ count: 1, completedAgo: '1 day', key: 'results/one-early' });
    const claimOne = () =>
      store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'test', batchIds });
    // What was due without the cutoff is in a batch of its own.
    expect(await claimOne()).toMatchObject({ keys: ['results/due'], spared: 0 });
    expect(await claimOne()).toMatchObject({ keys: [], spared: 1 });
  });
});

describeDatabase('a due run that shares its object with a live one', () => {
  const database = useMigrated();

  async function shareAndSpare(): Promise<{ readonly due: string; readonly live: string }> {
    const { insertRun, store, claimNext } = database();
    const due = await insertRun({ key: 'results/shared' });
    const live = await insertRun({
      key: 'results/shared',
      completedAgo: '10 days',
      tenant: 'globex',
    });
    expect(await store.flagExpired({ by: 'test', whole: true })).toBe(1);
    expect(await claimNext()).toMatchObject({ keys: [], spared: 1 });
    return { due, live };
  }

  test('is flagged, spared and announced once, and not at every pass', async () => {
    const { store, url, query } = database();
    const { live } = await shareAndSpare();
    expect(
      await query(`select run_id, until - now() between '19 days' and '21 days' as is_right
      from retention.shared_object`),
    ).toEqual([{ run_id: live, is_right: true }]);
    const listener = await listenInPsql(url, ['retention_expired', 'retention_cleared']);
    try {
      expect(await store.flagExpired({ by: 'test' })).toBe(0);
      // A whole sweep looks again, and does not make it work.
      expect(await store.flagExpired({ by: 'test', whole: true })).toBe(0);
      await query(`update retention.heartbeat set swept_at = now() - interval '2 hours'`);
      expect(await store.flagExpired({ by: 'test' })).toBe(0);
      await query(`select pg_notify('retention_cleared', 'marker')`);
      await listener.waitFor(({ payload }) => payload === 'marker');
      expect(listener.notifications).toHaveLength(1);
    } finally {
      await listener.close();
    }
    expect(await query('select flagged from retention.scan')).toEqual([{ flagged: 1 }]);
  });

  test.each([
    ['falls due', `update runs set completed_at = now() - interval '40 days' where run_id = $1`],
    ['is cleared', 'update runs set result_cleared_at = now() where run_id = $1'],
    ['is deleted', 'delete from runs where run_id = $1'],
    ['gets another key', `update runs set result_s3_key = 'results/other' where run_id = $1`],
    [
      'falls due by a shorter policy',
      `select retention.set_policy('globex', '7 days') where $1 <> ''`,
    ],
  ])('is flagged by the next sweep when that one %s', async (_, change) => {
    const { query, store } = database();
    const { live } = await shareAndSpare();
    await query(change, [live]);
    expect(await store.flagExpired({ by: 'test', whole: true })).toBeGreaterThan(0);
    expect(
      await query(`select key from retention.flagged where key = 'results/shared' limit 1`),
    ).toHaveLength(1);
    expect(await query('select from retention.shared_object')).toEqual([]);
  });

  test('is flagged without a sweep when the date of that one has come', async () => {
    const { query, store } = database();
    const { live } = await shareAndSpare();
    await query(`update runs set completed_at = now() - interval '31 days' where run_id = $1`, [
      live,
    ]);
    await query(`update retention.shared_object set until = now() - interval '1 second'`);
    expect(await store.flagExpired({ by: 'test' })).toBe(2);
  });

  test('is not flagged while that one is held, running or failed', async () => {
    const { query, store } = database();
    const { live } = await shareAndSpare();
    await query(`update runs set completed_at = now() - interval '40 days' where run_id = $1`, [
      live,
    ]);
    await query('select retention.place_hold($1, $2)', ['audit', live]);
    expect(await store.flagExpired({ by: 'test', whole: true })).toBe(0);
    await query('select retention.release_hold(hold_id) from retention.hold');
    expect(await store.flagExpired({ by: 'test', whole: true })).toBe(2);
  });

  test('a result spared for another reason is not remembered', async () => {
    const { insertRun, query, store, claimNext } = database();
    const runId = await insertRun();
    await store.flagExpired({ by: 'test' });
    await query('select retention.place_hold($1, $2)', ['audit', runId]);
    expect(await claimNext()).toMatchObject({ spared: 1 });
    expect(await query('select from retention.shared_object')).toEqual([]);
  });
});
