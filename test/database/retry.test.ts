import { beforeEach, expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { failuresOf, keyOf, useMigrated } from '../support/migrated.ts';

describeDatabase('retry', () => {
  const database = useMigrated();
  let acme: readonly string[];
  let globex: readonly string[];

  /** Claims the next batch and lets S3 refuse all of it. */
  async function refuse(code: string, final: boolean): Promise<void> {
    const { store, claimNext } = database();
    const { batchId, lease, keys } = await claimNext();
    const failed = failuresOf(keys, { code, final });
    await store.settle(batchId, lease, { cleared: [], failed, milliseconds: 1 });
  }

  async function work() {
    const rows = await database().query<{ run_id: string; attempts: number; dead: boolean }>(
      'select run_id, attempts, dead_at is not null as dead from retention.flagged',
    );
    return new Map(rows.map((row) => [row.run_id, row]));
  }

  // Three dead results of one tenant in one bucket, two failed ones of another in another.
  beforeEach(async () => {
    const { insertRuns, query } = database();
    acme = await insertRuns({ count: 3, tenant: 'acme', bucket: 'bucket-a', completedAgo: '40 d' });
    await query('select retention.flag_expired()');
    await refuse('AccessDenied', true);
    globex = await insertRuns({ count: 2, tenant: 'globex', bucket: 'bucket-b' });
    await query('select retention.flag_expired(p_whole => true)');
    await refuse('InvalidRequest', false);
    expect([...(await work()).values()].filter((row) => row.dead)).toHaveLength(3);
  });

  test('revives all that is dead, and brings forward all that failed', async () => {
    const { store, query, claimNext } = database();
    expect(await store.retry({ all: true })).toBe(5);
    expect([...(await work()).values()].every((row) => !row.dead && row.attempts === 0)).toBe(true);
    await query('update retention.bucket set paused_until = null, pauses = 0');
    const claimed: string[] = [];
    for (let batch = 0; batch < 2; batch += 1) {
      claimed.push(...(await claimNext()).keys);
    }
    expect(claimed.toSorted()).toEqual([...acme, ...globex].map(keyOf).toSorted());
    expect(await query('select from retention.batch where settled_at is null')).toHaveLength(2);
    expect(await store.readStatus()).toMatchObject({ dead: 0, failed: 0 });
  });

  test('counts what it has revived only once', async () => {
    const { store } = database();
    expect(await store.retry({ all: true })).toBe(5);
    expect(await store.retry({ all: true })).toBe(0);
  });

  test.each([
    ['by run', () => ({ runIds: [acme[0] ?? '', globex[0] ?? ''] }), 2],
    ['by run, however its id is written', () => ({ runIds: [acme[0]?.toUpperCase() ?? ''] }), 1],
    ['by tenant', () => ({ tenantId: 'acme' }), 3],
    ['by bucket', () => ({ bucket: 'bucket-b' }), 2],
    ['by code', () => ({ code: 'AccessDenied' }), 3],
    ['by all of them together', () => ({ tenantId: 'acme', code: 'InvalidRequest' }), 0],
    ['of a run that has not failed', () => ({ runIds: [crypto.randomUUID()] }), 0],
  ])('%s revives what that names, and nothing else', async (_, selection, revived) => {
    expect(await database().store.retry(selection())).toBe(revived);
    const left = await database().one<{ left: number }>(
      'select count(*)::int as left from retention.flagged where failed_at is not null',
    );
    expect(left).toEqual({ left: 5 - revived });
  });

  test('leaves alone what is being worked on', async () => {
    const { store, passRetryTimes, claimNext } = database();
    await passRetryTimes();
    expect((await claimNext()).keys).toHaveLength(2);
    expect(await store.retry({ runIds: globex })).toBe(0);
    expect(await store.retry({ all: true })).toBe(3);
    expect(
      await database().query('select from retention.batch where lease is not null'),
    ).toHaveLength(1);
  });

  test('refuses what cannot be a run id, and changes nothing', async () => {
    const { store } = database();
    await expect(store.retry({ runIds: [acme[0] ?? '', '17'] })).rejects.toThrow(
      '17 is not a run id of this application (type uuid)',
    );
    expect(await store.readStatus()).toMatchObject({ dead: 3 });
  });
});
