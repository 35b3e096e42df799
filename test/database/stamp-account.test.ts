import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { keyOf, useMigrated } from '../support/migrated.ts';

describeDatabase('stamps and receipts held against each other', () => {
  const database = useMigrated();

  /** Deletes whatever is due. */
  const deleteDue = async (): Promise<void> => {
    await database().query('select retention.flag_expired()');
    for (;;) {
      const lease = crypto.randomUUID();
      const claim = await database().store.claim({ lease, leaseSeconds: 60, by: 'test' });
      if (claim === undefined) return;
      const outcome = { cleared: 'all', failed: [], milliseconds: 1 } as const;
      await database().store.settle(claim.batchId, lease, outcome);
    }
  };

  /** The runs of each kind, but of those that are as they should be, how many. */
  const account = async (stretch: { from?: Date; to?: Date } = {}) => {
    const rows = await database().store.accountStamps(stretch);
    return Object.fromEntries(
      rows
        .filter(({ results }) => results > 0)
        .map(({ kind, results, run_ids }) => [
          kind,
          run_ids.length === 0 ? results : run_ids.toSorted(),
        ]),
    );
  };

  test('each kind is counted apart, with its runs and its words, and status shows the last count', async () => {
    const { insertRuns, query, store, one } = database();
    const before = await store.readStatus();
    expect(before).toMatchObject({ stamps_without_receipt: null, stamps_counted_at: null });
    const runs = await insertRuns({ count: 12 });
    const [ok = '', unstamped = '', gone = '', moved = '', again = '', running = ''] = runs;
    const [restored = '', found = '', twice = '', shared = '', noBucket = '', byHand = ''] =
      runs.slice(6);
    await query(`
      update runs set result_s3_bucket = null where run_id = '${noBucket}';
      update runs set result_s3_key = 'results/${ok}' where run_id = '${shared}';
      update retention.setting set default_bucket = 'dpp-results';
      update runs set completed_at = now() - interval '1 day' where run_id in ('${byHand}', '${found}')`);
    await deleteDue();
    expect(await account()).toEqual({ accounted: 10 });
    // What people, the application and this product make of it.
    await store.unstamp(restored);
    await store.unstamp(twice);
    await deleteDue();
    await store.unstamp(restored);
    await store.stampGone('dpp-results', [{ runId: found, key: keyOf(found), isDue: false }]);
    const stamped = await insertRuns({ clearedAgo: '1 hour' });
    const [old = ''] = await insertRuns({ clearedAgo: '5 days' });
    await query(`
      update retention.setting set default_bucket = 'elsewhere', receipts_kept = '10 days';
      update retention.identity set adopted_at = now() - interval '3 days';
      update runs set result_cleared_at = now() where run_id = '${byHand}';
      update runs set result_cleared_at = null where run_id = '${unstamped}';
      delete from runs where run_id = '${gone}';
      update runs set result_s3_key = 'results/new', result_cleared_at = null where run_id = '${moved}';
      update runs set completed_at = now(), result_cleared_at = null where run_id = '${again}';
      update runs set status = 'RUNNING', result_cleared_at = null where run_id = '${running}'`);
    const expected = {
      accounted: 5, // ok, shared, noBucket, found, twice
      no_receipt: [byHand, ...stamped].toSorted(),
      before_adoption: [old],
      no_stamp: [unstamped],
      no_row: [gone],
      another_result: [again, moved, running].toSorted(),
      returned: [restored],
    };
    expect(await account()).toEqual(expected);
    await query(`update retention.identity set adopted_at = now() - interval '300 days';
      update retention.setting set receipts_kept = '4 days'`);
    const { before_adoption: pruned, ...others } = expected;
    expect(await account()).toEqual({ ...others, receipt_pruned: pruned });
    const words = await store.accountStamps();
    expect(words.map(({ kind }) => kind)).toHaveLength(8);
    expect(words.every(({ because }) => because.length > 20)).toBe(true);
    const status = await store.readStatus();
    expect(status).toMatchObject({
      stamps_without_receipt: 2,
      receipts_without_stamp: 1,
      receipts_without_row: 1,
    });
    expect(status.stamps_counted_at).toBeInstanceOf(Date);
    // Stretches of time add up, and change nothing that status shows.
    await query(
      `update runs set result_cleared_at = now() - interval '2 days' where run_id = '${stamped[0]}'`,
    );
    const middle = new Date(Date.now() - 86_400_000);
    expect(await account({ to: middle })).toEqual({ no_receipt: stamped, receipt_pruned: pruned });
    expect(await account({ from: middle })).toEqual({
      ...others,
      no_receipt: [byHand],
    });
    expect((await store.readStatus()).stamps_counted_at).toEqual(status.stamps_counted_at);
    expect(await one('select count(*)::int as kinds from retention.stamp_account')).toEqual({
      kinds: 8,
    });
  });

  test('a receipt whose stamp another session made, and one of a run that went before its stamp, break nothing', async () => {
    const { insertRuns, query, store, claimNext } = database();
    const [stamped = '', gone = '', moved = ''] = await insertRuns({ count: 3 });
    await query('select retention.flag_expired()');
    const { batchId, lease } = await claimNext();
    await query(`
      update runs set result_cleared_at = now() where run_id = '${stamped}';
      delete from runs where run_id = '${gone}';
      update runs set result_s3_key = 'results/k2' where run_id = '${moved}'`);
    await store.settle(batchId, lease, { cleared: 'all', failed: [], milliseconds: 1 });
    expect(await account()).toEqual({ accounted: 1, no_row: [gone], another_result: [moved] });
  });

  test('what is deleted and waits for its stamp is in neither', async () => {
    const { insertRuns, query, claimNext, store } = database();
    await insertRuns({ count: 2 });
    await query(`
      create function public.stop_all() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
      create trigger stop_all before update of result_cleared_at on runs for each row execute function public.stop_all()`);
    try {
      await query(
        'select retention.flag_expired(); update retention.stamping set tried_for = retention._trial_mark()',
      );
      const { batchId, lease } = await claimNext();
      await store.settle(batchId, lease, { cleared: 'all', failed: [], milliseconds: 1 });
      expect(await account()).toEqual({});
    } finally {
      await query('drop trigger stop_all on runs; drop function public.stop_all()');
    }
  });

  test('a stretch that ends before it begins, and a table that is detached, are refused in one sentence', async () => {
    const { store, query } = database();
    const now = new Date();
    await expect(store.accountStamps({ from: now, to: now })).rejects.toThrow(
      /expected an end after the beginning/u,
    );
    await query('select retention.detach()');
    try {
      await expect(store.accountStamps()).rejects.toThrow(/while the table is detached/u);
    } finally {
      await query('select retention.attach()');
    }
  });

  test('an observer may ask, and in a session that may only read nothing is written down', async () => {
    const { insertRuns, connect, one } = database();
    await insertRuns({ count: 1, clearedAgo: '1 hour' });
    const session = await connect();
    await session.query('set default_transaction_read_only = on');
    const { rows } = await session.query(
      `select kind, results from retention.account_stamps() where results > 0`,
    );
    expect(rows).toHaveLength(1);
    expect(await one('select count(*)::int as rows from retention.stamp_account')).toEqual({
      rows: 0,
    });
  });
});
