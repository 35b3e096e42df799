import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';

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
});
