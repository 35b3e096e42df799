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
});
