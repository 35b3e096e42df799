import { expect, onTestFinished, test } from 'vitest';
import { createPool } from '../../src/database/pool.ts';
import { millisecondsOf } from '../../src/instant.ts';
import { silentLogger } from '../../src/logger.ts';
import { createStore } from '../../src/store/store.ts';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';

describeDatabase('what telemetry reads', () => {
  const database = useMigrated();

  test('activity puts passes and settled batches into 48 parts of the time that was asked for', async () => {
    const { query } = database();
    await query(`
      insert into retention.scan (started_at, ms, asked_by, looked_at, flagged, batches, without_place, hit_limit)
      values (now() - interval '10 minutes', 1, 'test', 10, 10, 1, 0, false),
        (now() - interval '20 minutes', 1, 'test', 5, 5, 1, 0, false),
        (now() - interval '23 hours 45 minutes', 1, 'test', 7, 7, 1, 0, false),
        (now() - interval '25 hours', 1, 'test', 99, 99, 1, 0, false);
      insert into retention.batch (
        bucket, results, oldest, newest, run_ids, keys, tenants, settled_at, cleared, failed, dead
      )
      select 'b', 0, now(), now(), '{}', '{}', '{}', now() - s.ago, s.cleared, s.failed, s.dead
      from (
        values (interval '5 minutes', 8, 1, 2), ('40 minutes', 3, 0, 0), ('30 hours', 99, 0, 0)
      ) s (ago, cleared, failed, dead)`);
    const rows = await query<{ flagged: number; cleared: number; failed: number }>(
      'select flagged::int, cleared::int, failed::int from retention.activity(24)',
    );
    expect(rows).toHaveLength(48);
    expect(rows[47]).toEqual({ flagged: 15, cleared: 8, failed: 3 });
    expect(rows[46]).toEqual({ flagged: 0, cleared: 3, failed: 0 });
    expect(rows[0]).toEqual({ flagged: 7, cleared: 0, failed: 0 });
    expect(rows.slice(1, 46).every((row) => row.flagged + row.cleared + row.failed === 0)).toBe(
      true,
    );
  });

  test('tenants come longest overdue first, held and young results aside, counts up to a bound', async () => {
    const { insertRuns, store, query } = database();
    await insertRuns({ count: 12, tenant: 'acme', completedAgo: '35 days' });
    const [held = ''] = await insertRuns({ count: 2, tenant: 'bolt', completedAgo: '50 days' });
    await insertRuns({ count: 3, tenant: 'young', completedAgo: '2 days' });
    await insertRuns({ count: 2, tenant: 'whole', completedAgo: '60 days' });
    await store.placeHolds({ runIds: [held], reason: 'test' });
    await store.placeHolds({ tenantIds: ['whole'], reason: 'test' });
    await query('select retention.flag_expired(1)');
    const rows = await query(
      'select tenant_id, retain_days, due::int, flagged::int from retention.tenants_due(10, 5)',
    );
    expect(rows).toEqual([
      { tenant_id: 'bolt', retain_days: 30, due: 1, flagged: 0 },
      { tenant_id: 'acme', retain_days: 30, due: 5, flagged: 0 },
    ]);
    expect(await query('select tenant_id from retention.tenants_due(1, 5)')).toHaveLength(1);
  });

  test('status says since when the oldest due result has been due, flagged or not', async () => {
    const { insertRuns, store } = database();
    expect((await store.readStatus()).due_since).toBeNull();
    await insertRuns({ completedAgo: '33 days' });
    const overdueDays = async (): Promise<number> => {
      const { due_since } = await store.readStatus();
      return (Date.now() - (due_since === null ? 0 : millisecondsOf(due_since))) / 86_400_000;
    };
    expect(await overdueDays()).toBeCloseTo(3, 2);
    await store.flagExpired({ by: 'test' });
    expect(await overdueDays()).toBeCloseTo(3, 2);
  });

  test('a scheduler for whom a listener stands in is silent', async () => {
    const { query, store } = database();
    await query(`update retention.adapter set scheduler = 'pg_cron'`);
    await store.tick('pg_cron');
    expect((await store.readStatus()).scheduler_health).toBe('ok');
    await store.tick('listener');
    expect((await store.readStatus()).scheduler_health).toBe('silent');
    await query(`update retention.adapter set scheduler = 'internal'`);
    expect((await store.readStatus()).scheduler_health).toBe('ok');
  });

  test('the overview puts failed and dead results together by bucket and code', async () => {
    const { query, insertRuns, failRuns, store } = database();
    const one = await insertRuns({ count: 5, bucket: 'one' });
    const two = await insertRuns({ count: 2, bucket: 'two' });
    await query('select retention.flag_expired()');
    await failRuns(one.slice(0, 3), { error: 'no' });
    await failRuns(one.slice(3), { error: 'no' });
    await failRuns(two, { dead: true, code: 'ObjectLocked' });
    const { troubles, buckets } = await store.readOverview();
    expect(troubles).toMatchObject([
      { state: 'dead', bucket: 'two', code: 'ObjectLocked', results: 2, next_attempt_at: null },
      { state: 'failed', bucket: 'one', code: 'AccessDenied', results: 5, error: 'no' },
    ]);
    expect(troubles[1]?.next_attempt_at).toBeInstanceOf(Date);
    expect(buckets.find(({ bucket }) => bucket === 'one')).toMatchObject({ flagged: 5, dead: 0 });
    expect(buckets.find(({ bucket }) => bucket === 'two')).toMatchObject({ dead: 2 });
    const { pausedBuckets, notifyQueueUsage } = await store.readVitals();
    expect({ pausedBuckets, notifyQueueUsage }).toEqual({ pausedBuckets: [], notifyQueueUsage: 0 });
  });

  test('the overview counts the oldest results of a tenant, and says when that is not all', async () => {
    const { insertRuns, store } = database();
    const [held] = await insertRuns({ count: 101, tenant: 'large' });
    await insertRuns({ count: 2, tenant: 'small' });
    await store.placeHolds({ runIds: [held ?? ''], reason: 'audit' });
    const { tenants } = await store.readOverview();
    expect(tenants).toMatchObject([
      { tenant_id: 'large', due: 99, is_capped: true },
      { tenant_id: 'small', due: 2, is_capped: false },
    ]);
  });

  test("the listener's role may read all of it", async () => {
    const { query, urlAs } = database();
    const role = `telemetry_${process.pid}`;
    await query(`create role ${role} login`);
    await query('select retention.grant_rights($1)', [role]);
    const pool = createPool({ url: urlAs(role), applicationName: 'test', logger: silentLogger });
    onTestFinished(async () => {
      await pool.close();
      await query(`drop owned by ${role}`);
      await query(`drop role ${role}`);
    });
    const store = createStore(pool);
    expect((await store.readVitals()).status.enabled).toBe(true);
    expect((await store.readOverview()).activity).toHaveLength(48);
  });

  test('the trend tells how fast the backlog goes, and about when it is gone', async () => {
    const { query, insertRuns, store } = database();
    const settled = (ago: string, results: number, flaggedAgo: string): Promise<unknown> =>
      query(
        `insert into retention.batch (
          bucket, results, oldest, newest, run_ids, keys, tenants, flagged_at, settled_at, cleared, ms
        )
        select 'b', $2::int, now(), now(), '{}', '{}', '{}', now() - $3::interval, now() - $1::interval, $2, 20000`,
        [ago, results, flaggedAgo],
      );
    expect(await store.readTrend()).toMatchObject({
      waiting: 0,
      is_at_least: false,
      flagged: 0,
      flagged_before: 0,
      direction: 'steady',
      cleared_per_second: 0,
      seconds_to_go: null,
      gone_at: null,
      because: 'nothing waits',
    });
    await insertRuns({ count: 300 });
    await query('select retention.flag_expired()');
    // Settled long ago, so it tells nothing of the pace: that the backlog was larger an hour ago.
    await settled('50 minutes', 900, '2 hours');
    expect(await store.readTrend()).toMatchObject({
      waiting: 300,
      flagged: 300,
      flagged_before: 900,
      direction: 'shrinking',
      seconds_to_go: null,
      because: 'nothing was cleared in the last 10 minutes',
    });
    // Work began 100 seconds ago: 1,000 results in 100 seconds.
    await settled('80 seconds', 600, '2 minutes');
    await settled('10 seconds', 400, '2 minutes');
    const trend = await store.readTrend();
    expect(trend.cleared_per_second).toBeCloseTo(10, 0);
    expect(trend.seconds_to_go).toBeCloseTo(30, -1);
    expect(trend.is_at_least).toBe(false);
    const [now] = await query<{ now: Date }>('select now()');
    const left = ((trend.gone_at?.getTime() ?? 0) - (now?.now.getTime() ?? 0)) / 1_000;
    expect(Math.abs(left - (trend.seconds_to_go ?? 0))).toBeLessThan(5);
    // The caller's figures are used as they are; a backlog of which not all was counted takes longer.
    const given = await store.readTrend({ due: 6_000, due_is_capped: true });
    expect(given).toMatchObject({ waiting: 6_000, is_at_least: true });
    expect(given.seconds_to_go).toBeCloseTo(600, -2);
    // What waits for its next attempt goes later than the pace says, and what is dead not at all.
    await query(
      `update retention.batch set visible_at = now() + interval '1 day' where settled_at is null`,
    );
    expect(await store.readTrend()).toMatchObject({ is_at_least: true });
    await query(`select retention.halt('a drill', 'kim')`);
    expect(await store.readTrend()).toMatchObject({
      seconds_to_go: null,
      because: expect.stringMatching(/^nothing goes: halted by kim.*: a drill$/u) as unknown,
    });
    await query('update retention.batch set dead_at = now() where settled_at is null');
    expect(await store.readTrend()).toMatchObject({ flagged: 0, waiting: 0 });
  });
});
