import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { failuresOf, useMigrated } from '../support/migrated.ts';

describeDatabase('a cutoff that a person confirmed for one reconcile', () => {
  const database = useMigrated();
  const EARLY = { all: true, olderThanSeconds: 86_400, early: true, expected: 100 } as const;

  async function claim(batchIds?: readonly number[]) {
    const lease = crypto.randomUUID();
    const claimed = await database().store.claim({ lease, leaseSeconds: 60, by: 'test', batchIds });
    return claimed && { ...claimed, lease };
  }

  /** Selects runs of 10 days before their policy, in batches of 4. */
  async function selectEarly(count = 12): Promise<readonly number[]> {
    await database().insertRuns({ count, completedAgo: '10 days' });
    const { batchIds } = await database().store.flagSelected({ ...EARLY, batchSize: 4 });
    return batchIds;
  }

  test('is worked off by its command alone, and no listener spares its results meanwhile', async () => {
    const { store } = database();
    const batchIds = await selectEarly();
    expect(await claim()).toBeUndefined();
    expect(await store.pulse()).toMatchObject({ visibleNow: false });
    expect(await claim(batchIds)).toMatchObject({ spared: 0 });
    expect(await claim()).toBeUndefined();
  });

  test.each([
    ['ends', (batchIds: readonly number[]) => database().store.endCutoff(batchIds)],
    [
      'is gone',
      () => database().query(`update retention.cutoff set until = now() - interval '1 second'`),
    ],
  ])('stands for nothing once its command %s: what is left goes by the policy', async (_, end) => {
    const { store, query } = database();
    const batchIds = await selectEarly();
    expect(await claim(batchIds)).toMatchObject({ spared: 0 });
    await query(`select retention.set_policy('*', '90 days')`);
    await end(batchIds);
    // Not even by the command itself, should it come back.
    expect(await claim(batchIds)).toMatchObject({ keys: [], spared: 4 });
    expect(await claim()).toMatchObject({ keys: [], spared: 4 });
    expect(await claim()).toBeUndefined();
    expect(await store.flagExpired({ by: 'test', whole: true })).toBe(0);
  });

  test('is kept alive by the claims of its command', async () => {
    const { query } = database();
    const batchIds = await selectEarly();
    await query(`update retention.cutoff set until = now() + interval '1 minute'`);
    await claim(batchIds);
    expect(
      await query(`select until > now() + interval '14 minutes' as lives from retention.cutoff`),
    ).toEqual([{ lives: true }]);
  });

  test('holds for what was split off its batches, and that is handed to its command', async () => {
    const { store } = database();
    const batchIds = await selectEarly(4);
    const first = await claim(batchIds);
    expect(await store.split(first?.batchId ?? 0, first?.lease ?? '')).toBe(true);
    const halves = [await claim(batchIds), await claim(batchIds)];
    expect(halves.map((half) => half?.keys.length)).toEqual([2, 2]);
    expect(await claim(batchIds)).toBeUndefined();
    expect(await claim()).toBeUndefined();
  });

  test('ends for what failed with its command as well', async () => {
    const { store, passRetryTimes } = database();
    const batchIds = await selectEarly(4);
    const first = await claim(batchIds);
    await store.settle(first?.batchId ?? 0, first?.lease ?? '', {
      cleared: [],
      failed: failuresOf(first?.keys ?? []),
      milliseconds: 1,
    });
    await store.endCutoff(batchIds);
    await passRetryTimes();
    expect(await claim()).toMatchObject({ keys: [], spared: 4 });
  });

  test('is forgotten by the housekeeping when its command is gone', async () => {
    const { query, store } = database();
    await selectEarly();
    await query(`update retention.cutoff set until = now() - interval '1 second'`);
    await store.tick('internal');
    expect(await query('select from retention.cutoff')).toEqual([]);
    expect(await claim()).toMatchObject({ keys: [], spared: 4 });
  });

  test('of a result that falls due meanwhile ends as any other due one', async () => {
    const { query, store } = database();
    const batchIds = await selectEarly(4);
    await query(`select retention.set_policy('*', '7 days')`);
    await store.endCutoff(batchIds);
    expect((await claim())?.keys).toHaveLength(4);
  });

  test('of one command is none of another', async () => {
    const first = await selectEarly(4);
    const second = await selectEarly(4);
    await database().store.endCutoff(first);
    // The second has taken the results of the first over.
    expect((await claim(second))?.keys).toHaveLength(4);
    expect((await claim(second))?.keys).toHaveLength(4);
    expect(await claim(first)).toBeUndefined();
  });
});

describeDatabase('a claim for some buckets', () => {
  const database = useMigrated();

  async function claim(...buckets: string[]) {
    const lease = crypto.randomUUID();
    return database().store.claim({ lease, leaseSeconds: 60, by: 'test', buckets });
  }

  test('takes nothing of others, which stay work and are no failures', async () => {
    const { insertRuns, query, store } = database();
    await insertRuns({ count: 3, bucket: 'one' });
    await insertRuns({ count: 2, bucket: 'two' });
    await query('select retention.flag_expired()');
    expect((await claim('one'))?.bucket).toBe('one');
    expect(await claim('one')).toBeUndefined();
    expect(await claim('three')).toBeUndefined();
    expect(await store.pulse(['one'])).toMatchObject({ visibleNow: false });
    expect(await store.pulse(['two'])).toMatchObject({ visibleNow: true });
    expect((await claim('two', 'one'))?.bucket).toBe('two');
    expect(await store.readStatus()).toMatchObject({ dead: 0, failed: 0, flagged: 5 });
  });

  test('leaves a bucket that nobody may delete from visible as waiting', async () => {
    const { insertRuns, query, store } = database();
    await insertRuns({ count: 2, bucket: 'nobody' });
    await query('select retention.flag_expired()');
    expect(await store.readUnsettled({ buckets: ['one'] })).toMatchObject([
      { bucket: 'nobody', kind: 'not allowed', results: 2, until: null },
    ]);
    await query(`update retention.batch set visible_at = now() - interval '6 minutes'`);
    expect(await store.readUnsettled({})).toMatchObject([
      {
        bucket: 'nobody',
        kind: 'visible',
        reason: expect.stringMatching(/^no listener has taken it up/u) as string,
      },
    ]);
  });
});

describeDatabase('what waits', () => {
  const database = useMigrated();

  test('is said with its reason and until when', async () => {
    const { insertRuns, store, set, claimNext, query } = database();
    await set({ batch_size: '2', pause_base: `'1 hour'`, pause_cap: `'1 hour'` });
    await insertRuns({ count: 4, bucket: 'one', tenant: 'acme' });
    await insertRuns({ count: 2, bucket: 'two', tenant: 'globex' });
    await query('select retention.flag_expired()');
    const claims = [await claimNext('host:1'), await claimNext('host:2')];
    const two = claims.find(({ bucket }) => bucket === 'two');
    await store.postpone(two?.batchId ?? 0, two?.lease ?? '', {
      code: 'SlowDown',
      message: 'slow',
    });
    const third = await claimNext('host:3');
    await store.settle(third.batchId, third.lease, {
      cleared: third.keys.slice(0, 1),
      failed: failuresOf(third.keys.slice(1), { final: true }),
      milliseconds: 1,
    });
    const waiting = await store.readUnsettled({});
    expect(waiting).toMatchObject([
      {
        bucket: 'one',
        kind: 'dead',
        reason: 'dead: AccessDenied',
        until: null,
        results: 1,
      },
      {
        bucket: 'one',
        kind: 'leased',
        reason: expect.stringMatching(/^host:\d works on it$/u) as string,
        results: 2,
      },
      { bucket: 'two', kind: 'paused', reason: 'the bucket pauses: SlowDown (slow)', results: 2 },
    ]);
    expect(waiting[2]?.until_seconds).toBeGreaterThan(1_000);
    expect(await store.readUnsettled({ tenantId: 'globex' })).toMatchObject([{ bucket: 'two' }]);
    const [runId = ''] = (
      await query<{ run_id: string }>(
        `select run_id from retention.flagged where dead_at is not null`,
      )
    ).map(({ run_id }) => run_id);
    expect(await store.readUnsettled({ runIds: [runId] })).toMatchObject([
      { kind: 'dead', results: 1 },
    ]);
  });
});
