import { expect, onTestFinished, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';

describeDatabase("promise 7: locks on the application's table", () => {
  const database = useMigrated();

  test('claiming waits for no writer, not even for one that keeps all others out', async () => {
    const { insertRuns, connect, query, store } = database();
    await insertRuns({ count: 3 });
    await query('select retention.flag_expired()');
    const writer = await connect();
    onTestFinished(() => writer.end());
    await writer.query('begin');
    await writer.query('lock table runs in exclusive mode');
    const lease = crypto.randomUUID();
    const claim = await store.claim({ lease, leaseSeconds: 60, by: 'test' });
    expect(claim?.keys).toHaveLength(3);
    await writer.query('rollback');
  });

  test('settling stands in the way of no other row, and leaves no lock behind', async () => {
    const { insertRuns, insertRun, connect, query, store, countStamped } = database();
    await insertRuns({ count: 3 });
    const other = await insertRun({ completedAgo: '1 day' });
    await query('select retention.flag_expired()');
    const lease = crypto.randomUUID();
    const claim = await store.claim({ lease, leaseSeconds: 60, by: 'test' });
    const writer = await connect();
    onTestFinished(() => writer.end());
    await writer.query('begin');
    await writer.query('update runs set updated_at = now() where run_id = $1', [other]);
    await store.settle(claim?.batchId ?? 0, lease, {
      cleared: claim?.keys ?? [],
      failed: [],
      milliseconds: 1,
    });
    expect(await countStamped()).toBe(3);
    const held = await query(
      // Databases that were copied from one another know their tables by the same numbers.
      `select mode from pg_locks
      where relation = 'runs'::regclass and pid <> pg_backend_pid() and pid <> $1
        and database = (select oid from pg_database where datname = current_database())`,
      [(writer as unknown as { readonly processID: number }).processID],
    );
    expect(held).toEqual([]);
    await writer.query('commit');
  });
});
