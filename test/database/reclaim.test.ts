import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { until } from '../support/until.ts';

const PLACE = `select pg_relation_filenode('retention.expired') as filenode`;
const WORK = 'select * from retention.expired order by run_id';

describeDatabase('the space of what has passed through', () => {
  const database = useMigrated();

  async function flag(count: number): Promise<void> {
    if (count > 0) await database().insertRuns({ count });
    await database().query('select retention.flag_expired()');
  }

  async function isGivenBackBy(work: () => Promise<unknown>): Promise<boolean> {
    const before = await database().one(PLACE);
    await work();
    return JSON.stringify(await database().one(PLACE)) !== JSON.stringify(before);
  }

  /** Two batches, one of which fails and waits, and a result that is dead. */
  async function leaveSome(): Promise<void> {
    const { set, store, query, passRetryTimes } = database();
    await set({ reclaim_over: '0', batch_size: '5', max_attempts: '2' });
    await flag(10);
    for (const attempt of [1, 2, 3]) {
      const lease = crypto.randomUUID();
      const claim = await store.claim({ lease, leaseSeconds: 60, by: 'test' });
      if (claim === undefined) throw new Error('Nothing was visible.');
      const [first, ...others] = claim.runIds;
      const failed = [
        { run_id: first ?? '', code: 'AccessDenied', message: 'no', transient: false },
      ];
      await store.settle(claim.batchId, lease, { cleared: others, failed, milliseconds: 1 });
      if (attempt === 2) await passRetryTimes();
    }
    expect(
      await query('select dead_at is not null as dead from retention.expired order by 1'),
    ).toEqual([{ dead: false }, { dead: true }]);
  }

  test('comes back with the next pass, and what is failed or dead stays as it is', async () => {
    await leaveSome();
    const before = await database().query(WORK);
    expect(await isGivenBackBy(() => flag(0))).toBe(true);
    expect(await database().query(WORK)).toEqual(before);
    await flag(3);
    expect(await database().query(WORK)).toHaveLength(before.length + 3);
  });

  test('does not come back while it is little', async () => {
    await leaveSome();
    await database().set({ reclaim_over: '1000000' });
    expect(await isGivenBackBy(() => flag(1))).toBe(false);
  });

  test('does not come back while somebody works on a batch', async () => {
    const { set, store } = database();
    await set({ reclaim_over: '0' });
    await flag(3);
    await store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'test' });
    expect(await isGivenBackBy(() => flag(1))).toBe(false);
  });

  test('does not come back while much is left', async () => {
    await database().set({ reclaim_over: '0', small_backlog: '2' });
    await flag(3);
    expect(await isGivenBackBy(() => flag(1))).toBe(false);
  });

  test('is not waited for: a pass flags beside a long transaction that has read the table', async () => {
    await leaveSome();
    const reader = await database().connect();
    await reader.query('begin');
    await reader.query('select count(*) from retention.expired');
    await database().insertRuns({ count: 3 });
    expect(
      await isGivenBackBy(async () => {
        expect(await database().one('select retention.flag_expired() as flagged')).toEqual({
          flagged: 3,
        });
      }),
    ).toBe(false);
    await reader.query('rollback');
    await reader.end();
  });

  test('promise 2: a claim that waits for it finds every result where it is then', async () => {
    const { connect, passRetryTimes, store, one, query } = database();
    await leaveSome();
    await passRetryTimes();
    const pass = await connect();
    await pass.query('begin');
    await pass.query('select retention.flag_expired()');
    const claimed = store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'test' });
    await until('the claim waits', async () => {
      const { waiting } = await one<{ waiting: number }>(
        `select count(*)::int as waiting from pg_locks
        where not granted and relation = 'retention.expired'::regclass
          and database = (select oid from pg_database where datname = current_database())`,
      );
      return waiting > 0;
    });
    await pass.query('commit');
    await pass.end();
    const claim = await claimed;
    expect(claim?.runIds).toEqual(
      (await query('select run_id from retention.expired where dead_at is null')).map(
        ({ run_id }) => run_id,
      ),
    );
    expect(claim?.spared).toBe(0);
  });
});
