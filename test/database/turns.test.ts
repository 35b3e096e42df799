import type pg from 'pg';
import { afterEach, expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';

const WAIT_MILLISECONDS = 200;

describeDatabase('claims and settles take turns', () => {
  const database = useMigrated();
  const sessions: pg.Client[] = [];

  afterEach(async () => {
    await Promise.all(sessions.splice(0).map((session) => session.query('rollback')));
  });

  async function begin(): Promise<pg.Client> {
    const session = await database().connect();
    await session.query('begin');
    sessions.push(session);
    return session;
  }

  /** Claims in a transaction that stays open; how long that took. */
  async function claimIn(session: pg.Client): Promise<number> {
    const startedAt = performance.now();
    const { rows } = await session.query(
      `select run_ids from retention.claim(gen_random_uuid(), '1 minute')`,
    );
    expect(rows).toHaveLength(1);
    return performance.now() - startedAt;
  }

  async function placeOf(session: pg.Client): Promise<number | undefined> {
    const { rows } = await session.query<{ place: number }>(
      `select objid::int as place from pg_locks
      where locktype = 'advisory' and pid = pg_backend_pid() and granted`,
    );
    expect(rows.length).toBeLessThan(2);
    return rows[0]?.place;
  }

  test('in as many places as there are, and who has waited a while goes on without one', async () => {
    await database().set({ statements_at_once: '2', batch_size: '1' });
    await database().insertRuns({ count: 4 });
    await database().query('select retention.flag_expired()');
    const [first, second, third] = [await begin(), await begin(), await begin()];
    await claimIn(first);
    await claimIn(second);
    expect(new Set([await placeOf(first), await placeOf(second)])).toEqual(new Set([1, 2]));
    expect(await claimIn(third)).toBeGreaterThanOrEqual(WAIT_MILLISECONDS - 1);
    expect(await placeOf(third)).toBeUndefined();
    await first.query('commit');
    const fourth = await begin();
    await claimIn(fourth);
    expect(await placeOf(fourth)).toBe(1);
  });

  test('a settle takes one too, and gives it back with its transaction', async () => {
    await database().set({ statements_at_once: '1' });
    await database().insertRuns({ count: 2 });
    await database().query('select retention.flag_expired()');
    const lease = crypto.randomUUID();
    const claim = await database().store.claim({ lease, leaseSeconds: 60, by: 'test' });
    const session = await begin();
    await session.query('select from retention.settle($1, $2, $3::retention.run_id[])', [
      claim?.batchId,
      lease,
      claim?.runIds,
    ]);
    expect(await placeOf(session)).toBe(1);
    await session.query('commit');
    expect(await placeOf(session)).toBeUndefined();
  });
});
