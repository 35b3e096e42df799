import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { failuresOf, useMigrated } from '../support/migrated.ts';
import { dueRuns } from '../support/due-runs.ts';

// What this transaction has read of the application's table, by the server's own count.
const READ = `select seq_scan::int as scans,
    (seq_tup_read + coalesce(idx_tup_fetch, 0))::int as rows
  from pg_stat_xact_user_tables where relid = 'runs'::regclass`;

describeDatabase('promise 11: cost follows the work', () => {
  const database = useMigrated();

  test.each([
    ['results that are not due', { completedAgo: '1 day' }],
    ['results of another tenant', { completedAgo: '1 day', tenant: 'globex' }],
    ['results that are cleared', { completedAgo: '90 days', clearedAgo: '10 days' }],
    ['runs that failed', { completedAgo: '90 days', status: 'FAILED' }],
  ])('a pass reads what is newly due, and not %s', async (_, others) => {
    const { insertRuns, query, connect } = database();
    await insertRuns({ count: 3_000, ...others });
    await insertRuns({ count: 20 });
    await query('vacuum analyze runs');
    const session = await connect();
    await session.query('begin');
    const flagged = await session.query('select retention.flag_expired() as flagged');
    const read = await session.query<{ scans: number; rows: number }>(READ);
    await session.query('commit');
    expect(flagged.rows).toEqual([{ flagged: 20 }]);
    expect(read.rows[0]?.scans).toBe(0);
    expect(read.rows[0]?.rows).toBeLessThan(200);
  });

  test('a claim reads what is in its batch', async () => {
    const { insertRuns, query, connect } = database();
    await insertRuns({ count: 3_000, completedAgo: '1 day' });
    await insertRuns({ count: 20 });
    await query('vacuum analyze runs');
    await query('select retention.flag_expired()');
    const session = await connect();
    await session.query('begin');
    const claim = await session.query<{ keys: string[] }>(
      `select keys from retention.claim(gen_random_uuid(), '1 minute')`,
    );
    const read = await session.query<{ scans: number; rows: number }>(READ);
    await session.query('commit');
    expect(claim.rows[0]?.keys).toHaveLength(20);
    expect(read.rows[0]?.scans).toBe(0);
    expect(read.rows[0]?.rows).toBeLessThan(200);
  });

  test.each([
    ['as they are', true],
    ['from before there was anything live', false],
  ])('a settle reads what is in its batch, with statistics %s', async (_, isAnalyzed) => {
    const { insertRuns, query, connect, claimNext } = database();
    await insertRuns({ count: 3_000, completedAgo: '90 days', clearedAgo: '10 days' });
    await query('vacuum analyze runs');
    await insertRuns({ count: 3_000, completedAgo: '1 day' });
    await insertRuns({ count: 20 });
    if (isAnalyzed) await query('vacuum analyze runs');
    await query('select retention.flag_expired()');
    const { batchId, lease, keys } = await claimNext();
    const session = await connect();
    await session.query('begin');
    const settled = await session.query(
      'select stamped from retention.settle($1, $2::uuid, $3::text[])',
      [batchId, lease, keys],
    );
    const read = await session.query<{ scans: number; rows: number }>(READ);
    await session.query('commit');
    expect(settled.rows).toEqual([{ stamped: 20 }]);
    expect(read.rows[0]?.scans).toBe(0);
    expect(read.rows[0]?.rows).toBeLessThan(200);
  });

  // With each result compared with all others, each takes several times as long as it may.
  test('a settle, a hold on a tenant and a list of what is due cost as much as there is, not its square', async () => {
    const { insertRuns, query, store, claimNext } = database();
    await insertRuns({ count: 20_000 });
    await query('select retention.flag_expired()');
    for (const refused of [0, 1, 999]) {
      const { batchId, lease, keys } = await claimNext();
      const settling = performance.now();
      await store.settle(batchId, lease, {
        cleared: refused === 0 ? 'all' : keys.slice(refused),
        failed: failuresOf(keys.slice(0, refused)),
        milliseconds: 1,
      });
      expect(performance.now() - settling).toBeLessThan(1_000);
    }
    const listing = performance.now();
    expect(await dueRuns(database(), {})).toHaveLength(18_000);
    expect(performance.now() - listing).toBeLessThan(3_000);
    for (let batch = 0; batch < 10; batch += 1) await claimNext();
    const placing = performance.now();
    expect(await store.placeHolds({ tenantIds: ['acme'], reason: 'audit' })).toMatchObject([
      { too_late: 10_000 },
    ]);
    expect(performance.now() - placing).toBeLessThan(3_000);
  });
});
