import { describe, expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { type LeasedClaim, failuresOf, keyOf, useMigrated } from '../support/migrated.ts';

describeDatabase('promise 5: what S3 may still be at is in flight', () => {
  const database = useMigrated();
  const slow = { code: 'SlowDown', message: 'slow' };

  async function flagAndClaim(): Promise<LeasedClaim> {
    await database().query('select retention.flag_expired(p_whole => true)');
    return database().claimNext();
  }

  /** As if S3 had answered that it did none of it: nothing is in flight by it. */
  async function answer({ batchId, lease, keys }: LeasedClaim): Promise<void> {
    await database().store.settle(batchId, lease, {
      cleared: [],
      failed: failuresOf(keys, { outcome: 'failed', code: 'InternalError' }),
      milliseconds: 1,
    });
  }

  /** Which of these runs a hold on each would be too late for. Places none. */
  async function tooLateFor(runIds: readonly string[]): Promise<string[]> {
    const client = await database().connect();
    await client.query('begin');
    const { rows } = await client.query<{ run_id: string }>(
      `select i as run_id from unnest($1::text[]) i, retention.place_hold('audit', i) h where h.too_late = 1`,
      [runIds],
    );
    await client.query('rollback');
    await client.end();
    return rows.map(({ run_id }) => run_id).toSorted();
  }

  /** As if this had passed since everything was noted and every lease was taken. */
  async function pass(time: string): Promise<void> {
    await database().query(
      `update retention.unanswered set until = until - '${time}'::interval;
      update retention.batch set visible_at = visible_at - '${time}'::interval where lease is not null`,
    );
  }

  test('a request that got no answer is, for as long as S3 may take it', async () => {
    const runIds = await database().insertRuns({ count: 2 });
    const { batchId, lease } = await flagAndClaim();
    await database().store.postpone(batchId, lease, { ...slow, unanswered: runIds.map(keyOf) });
    expect(await tooLateFor(runIds)).toEqual(runIds.toSorted());
    await pass('14 minutes');
    expect(await tooLateFor(runIds)).toEqual(runIds.toSorted());
    await pass('2 minutes');
    expect(await tooLateFor(runIds)).toEqual([]);
  });

  test('a request that was answered is not', async () => {
    const runIds = await database().insertRuns({ count: 2 });
    const { batchId, lease } = await flagAndClaim();
    await database().store.postpone(batchId, lease, slow);
    expect(await tooLateFor(runIds)).toEqual([]);
  });

  test('of a request that was answered in part, the part that was not is', async () => {
    const runIds = await database().insertRuns({ count: 4 });
    const [cleared = '', refused = '', unnamed = '', again = ''] = runIds;
    const { batchId, lease } = await flagAndClaim();
    await database().store.settle(batchId, lease, {
      cleared: [cleared, again].map(keyOf),
      failed: failuresOf([keyOf(refused)]),
      milliseconds: 1,
      // The last one was cleared by a second attempt, and S3 may still be at the first.
      unanswered: [unnamed, again].map(keyOf),
    });
    expect(await tooLateFor(runIds)).toEqual([unnamed, again].toSorted());
  });

  test('a request that was refused whole may have been tried before', async () => {
    const runIds = await database().insertRuns({ count: 4 });
    const { batchId, lease } = await flagAndClaim();
    await database().store.split(batchId, lease, { unanswered: runIds.map(keyOf) });
    expect(await tooLateFor(runIds)).toEqual(runIds.toSorted());
  });

  test('what a dead listener had asked for is, also when others have it now', async () => {
    const { store, passRetryTimes } = database();
    const runIds = await database().insertRuns({ count: 2 });
    await flagAndClaim();
    await pass('2 minutes');
    expect(await tooLateFor(runIds)).toEqual(runIds.toSorted());
    const { batchId, lease } = await database().claimNext();
    await store.postpone(batchId, lease, slow);
    expect(await tooLateFor(runIds)).toEqual(runIds.toSorted());
    await passRetryTimes();
    await answer(await database().claimNext());
    // Counted from the end of its lease, a minute ago.
    await pass('13 minutes');
    expect(await tooLateFor(runIds)).toEqual(runIds.toSorted());
    await pass('2 minutes');
    expect(await tooLateFor(runIds)).toEqual([]);
  });

  test('a lease that ran out long ago is not', async () => {
    const runIds = await database().insertRuns({ count: 2 });
    await flagAndClaim();
    await pass('17 minutes');
    expect(await tooLateFor(runIds)).toEqual([]);
    const claimed = await database().claimNext();
    expect(await tooLateFor(runIds)).toEqual(runIds.toSorted());
    await answer(claimed);
    expect(await tooLateFor(runIds)).toEqual([]);
  });

  test.each(['retry', 'retry --run', 'reconcile --run'])(
    'what a dead listener had asked for is, also when %s has taken it over',
    async (how) => {
      const { store, query } = database();
      const runIds = await database().insertRuns({ count: 3 });
      const [chosen = ''] = runIds;
      await flagAndClaim();
      await query('update retention.batch set failed_at = now(), attempts = 1');
      await pass('2 minutes');
      if (how === 'retry') await query('select retention.retry(p_all => true)');
      else if (how === 'retry --run') await query('select retention.retry($1)', [[chosen]]);
      else await query('select retention.flag_selected(p_run_ids => $1)', [[chosen]]);
      expect(await query('select from retention.batch where lease is not null')).toEqual([]);
      // Those that stayed behind have lost their lease with it.
      expect(await tooLateFor(runIds)).toEqual(runIds.toSorted());
      expect((await store.explain([chosen]))[0]?.because).toMatch(
        /S3 may still be at an earlier request to delete it, until \S+ at most$/u,
      );
    },
  );

  test('it stays so for what is spared meanwhile', async () => {
    const { store, query } = database();
    const runIds = await database().insertRuns({ count: 2 });
    await flagAndClaim();
    await pass('2 minutes');
    await query(`select retention.set_policy('acme', '90 days')`);
    expect((await database().claimNext()).spared).toBe(2);
    expect(await query('select from retention.flagged')).toEqual([]);
    expect(await tooLateFor(runIds)).toEqual(runIds.toSorted());
    const [explained] = await store.explain(runIds.slice(0, 1));
    expect(explained).toMatchObject({ state: 'kept' });
    expect(explained?.because).toMatch(/; S3 may still be at an earlier request to delete it/u);
  });

  test('a hold on a tenant names it among its own', async () => {
    const { store } = database();
    const acme = await database().insertRuns({ count: 3, tenant: 'acme' });
    const globex = await database().insertRuns({ count: 2, tenant: 'globex' });
    const { batchId, lease } = await flagAndClaim();
    await store.postpone(batchId, lease, {
      ...slow,
      unanswered: [...acme.slice(1), ...globex].map(keyOf),
    });
    const [hold] = await store.placeHolds({ tenantIds: ['acme'], reason: 'audit' });
    expect(hold).toMatchObject({ too_late: 2, too_late_run_ids: acme.slice(1).toSorted() });
  });

  describe('also by what was sent for another run that shares the object', () => {
    /** Two runs of different tenants on one object; the claim is for the first. */
    async function share(): Promise<{ asked: string; sharer: string; claimed: LeasedClaim }> {
      const [asked = ''] = await database().insertRuns({ count: 1, tenant: 'acme' });
      const [sharer = ''] = await database().insertRuns({ count: 1, tenant: 'globex' });
      await database().query(
        `update runs set result_s3_key = 'shared', completed_at = now() - interval '31 days'`,
      );
      await database().query('select retention.flag_selected(p_run_ids => $1)', [[asked]]);
      const claimed = await database().claimNext();
      expect(await database().claimed(claimed)).toEqual([asked]);
      return { asked, sharer, claimed };
    }

    const meanwhile: readonly (readonly [string, string])[] = [
      ['stays', 'select $1'],
      ['is deleted', 'delete from runs where run_id::text = $1'],
      ['is re-run with another key', `update runs set result_s3_key = 'x' where run_id::text = $1`],
    ];
    test.each(meanwhile)('and %s: while it is leased', async (_what, change) => {
      const { asked, sharer, claimed } = await share();
      await database().query(change, [asked]);
      expect(await tooLateFor([sharer])).toEqual([sharer]);
      const [hold] = await database().store.placeHolds({ tenantIds: ['globex'], reason: 'audit' });
      expect(hold).toMatchObject({ too_late: 1, too_late_run_ids: [sharer] });
      await answer(claimed);
      expect(await tooLateFor([sharer])).toEqual([]);
    });

    test.each(meanwhile)('and %s: once nobody waits for it any more', async (_what, change) => {
      const { asked, sharer, claimed } = await share();
      await database().store.postpone(claimed.batchId, claimed.lease, {
        ...slow,
        unanswered: ['shared'],
      });
      await database().query(change, [asked]);
      expect(await tooLateFor([sharer])).toEqual([sharer]);
      const [hold] = await database().store.placeHolds({ tenantIds: ['globex'], reason: 'audit' });
      expect(hold).toMatchObject({ too_late: 1, too_late_run_ids: [sharer] });
      await pass('16 minutes');
      expect(await tooLateFor([sharer])).toEqual([]);
    });
  });

  test('nobody can say so of what is in no batch of theirs', async () => {
    const { store, query } = database();
    const [mine = ''] = await database().insertRuns({ count: 1 });
    const { batchId, lease } = await flagAndClaim();
    const [other = ''] = await database().insertRuns({ count: 1 });
    const unanswered = [mine, other].map(keyOf);
    await store.postpone(batchId, crypto.randomUUID(), { ...slow, unanswered });
    expect(await query('select from retention.unanswered')).toEqual([]);
    await store.postpone(batchId, lease, { ...slow, unanswered });
    expect(await query('select run_ids::text[] as run_ids from retention.unanswered')).toEqual([
      { run_ids: [mine] },
    ]);
  });

  test('it is forgotten when its time is over, and never noted of what goes well', async () => {
    const { store, query } = database();
    const runIds = await database().insertRuns({ count: 2 });
    const first = await flagAndClaim();
    await store.postpone(first.batchId, first.lease, { ...slow, unanswered: runIds.map(keyOf) });
    await query('select retention._clean_up()');
    expect(await query('select from retention.unanswered')).toHaveLength(1);
    await pass('16 minutes');
    await query('select retention._clean_up()');
    expect(await query('select from retention.unanswered')).toEqual([]);
    await database().passRetryTimes();
    const { batchId, lease } = await database().claimNext();
    await store.settle(batchId, lease, { cleared: 'all', failed: [], milliseconds: 1 });
    expect(await query('select from retention.unanswered')).toEqual([]);
  });
});
