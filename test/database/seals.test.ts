import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';

describeDatabase('a seal', () => {
  const database = useMigrated();

  test('covers what has settled', async () => {
    const { insertRuns, query, one, claimNext, store, set } = database();
    await set({ batch_size: '2' });
    await insertRuns({ count: 6 });
    await query('select retention.flag_expired()');
    for (let n = 0; n < 3; n += 1) {
      const { batchId, lease, keys } = await claimNext();
      await store.settle(batchId, lease, { cleared: 'all', failed: [], milliseconds: 1 });
      void keys;
    }
    console.log(await one('select * from retention.seal_now()'));
    console.log(
      await query(
        'select seal_id, sealed_at, complete_to, batches, receipts, changes, results, length(digests) from retention.seal',
      ),
    );
    console.log(JSON.stringify(await query('select * from retention.verify_seals()')));
    console.log(await query('select * from retention.verify_end()'));
    console.log(await query('select * from retention.list_heads()'));
    await one('select retention.tick()');
    console.log(await query('select * from retention.seal_head'));
    expect(1).toBe(1);
  });
});
