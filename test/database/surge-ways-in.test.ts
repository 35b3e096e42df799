import { expect, test, vi } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { listenInPsql } from '../support/psql.ts';
import { surgeTools } from '../support/surges.ts';

describeDatabase('promise 13: late results are found by whichever way', () => {
  vi.setConfig({ testTimeout: 120_000 });
  const database = useMigrated({ guarded: true });
  const { fill, walk, pass, clearFlagged, open, setAside, flagged } = surgeTools(database);

  /** A table that a complete walk has seen, and 1,500 late rows of tenant t1. */
  async function slip(): Promise<void> {
    await fill({ count: 100, from: '20 days' });
    await walk();
    await pass('10 minutes');
    await fill({ count: 1_500, from: '1 year' });
  }

  test('a narrowed reconcile sets them aside, and takes what was on time', async () => {
    const { store, query } = database();
    await slip();
    await fill({ count: 7, from: '30 days 1 minute' });
    const selected = await store.flagSelected({ tenantId: 't1' });
    expect(selected).toMatchObject({ selected: 7, newlyFlagged: 7, setAside: 1_500 });
    expect(await open()).toMatchObject([{ results: 1_500, state: 'open' }]);
    // Neither it, nor a dry run, nor a retry takes what is set aside.
    expect(await store.flagSelected({ tenantId: 't1' })).toMatchObject({
      selected: 7,
      setAside: 0,
    });
    expect(await store.dueGroups({ tenantId: 't1' })).toMatchObject([{ results: 7 }]);
    expect(await store.retry({ tenantId: 't1' })).toBe(0);
    const [run] = await query<{ run_id: string }>(
      'select p.run_ids[1]::text as run_id from retention.surge_part p',
    );
    expect(await store.flagSelected({ runIds: [run?.run_id ?? ''] })).toMatchObject({
      selected: 0,
    });
    expect(await walk()).toBe(0);
    expect(await setAside()).toBe(1_500);
  });

  test('a narrowed reconcile in pieces of 400 does not get past the guard', async () => {
    const { store } = database();
    await slip();
    let taken = 0;
    for (let piece = 0; piece < 5; piece += 1) {
      const { selected } = await store.flagSelected({ tenantId: 't1', limit: 400 });
      taken += selected;
      await clearFlagged();
    }
    expect(taken).toBe(800);
    expect(await setAside()).toBe(700);
  });

  test('a narrowed reconcile with the exact number takes them, and with another changes nothing', async () => {
    const { store } = database();
    await slip();
    await expect(store.flagSelected({ tenantId: 't1', expected: 1_499 })).rejects.toThrow(
      '1500 results would go, and 1499 were expected; nothing was changed',
    );
    expect(await flagged()).toBe(0);
    expect(await store.flagSelected({ tenantId: 't1', expected: 1_500 })).toMatchObject({
      selected: 1_500,
      setAside: 0,
    });
    expect(await open()).toEqual([]);
  });

  test('an early cutoff does not confirm what is late', async () => {
    const { store } = database();
    await slip();
    expect(
      await store.flagSelected({
        tenantId: 't1',
        olderThanSeconds: 15 * 86_400,
        early: true,
        expected: 100,
      }),
    ).toMatchObject({ selected: 100, setAside: 1_500 });
  });

  test('what a verify flags again is late too', async () => {
    const { query } = database();
    await slip();
    await query(
      "update runs set result_cleared_at = now() where completed_at < now() - interval '300 days'",
    );
    await walk();
    expect(await setAside()).toBe(0);
    const { verify_id: id } = await database().one<{ verify_id: string }>(
      'select * from retention.begin_verify()',
    );
    await query(
      `insert into retention.stray (verify_id, bucket, key, bytes, modified_at, kind)
      select $1, 'dpp-results', result_s3_key, 1, now(), 'returned' from runs where result_cleared_at is not null`,
      [id],
    );
    expect(
      await query(
        `select retention.requeue_returned($1, now() + interval '1 minute')::int as requeued`,
        [id],
      ),
    ).toEqual([{ requeued: 1_500 }]);
    expect(await walk()).toBe(0);
    expect(await open()).toMatchObject([{ results: 1_500 }]);
  });

  test('a first adoption of 130,000 results is one surge, and goes when it is released', async () => {
    await fill({ count: 130_000, tenants: 20, from: '2 years', to: '31 days' });
    expect(await walk()).toBe(0);
    const [surge] = await open();
    expect(surge).toMatchObject({ results: 130_000, state: 'open' });
    expect(
      await database().query(
        `select state from retention.explain((select run_id::text from runs limit 1))`,
      ),
    ).toEqual([{ state: 'set aside' }]);
    // What falls due from now on is on time.
    await pass('1 minute');
    await fill({ count: 30, from: '30 days 10 seconds' });
    expect(await walk()).toBe(30);
    await database().query(`select retention.release_surge($1, 130000)`, [surge?.surge_id]);
    expect(await flagged()).toBe(130_030);
    expect(await open()).toEqual([]);
  });

  test('a walk that is not complete shows what it has parked, and lets nothing of it go', async () => {
    const { query, one } = database();
    await slip();
    await fill({ count: 600, from: '30 days 1 minute' });
    await query('select retention.flag_expired(500, null, true)');
    expect(await one('select more from retention.heartbeat')).toEqual({ more: true });
    expect(await open()).toMatchObject([{ surge_id: null, state: 'counting', results: 1_500 }]);
    expect(await flagged()).toBe(500);
    expect(await one(`select set_aside::int, surges::int from retention.status`)).toEqual({
      set_aside: 1_500,
      surges: 0,
    });
    await expect(query('select retention.release_surge(null, 500)')).rejects.toThrow(
      'there is no surge',
    );
    await walk();
    expect(await open()).toMatchObject([{ state: 'open', results: 1_500 }]);
  });

  test('late results of all tenants together are set aside, from the first above 10,000', async () => {
    await fill({ count: 100, from: '20 days' });
    await walk();
    await pass('10 minutes');
    await fill({ count: 10_000, tenants: 50, from: '1 year' });
    expect(await walk()).toBe(10_000);
    await fill({ count: 1, from: '1 year' });
    expect(await walk()).toBe(0);
    expect(await open()).toMatchObject([{ results: 1 }]);
  });

  test('a tenant over its guard leaves the late results of the others ordinary', async () => {
    await slip();
    await database().query(
      `update runs set tenant_id = 't2' where run_id in (select run_id from runs where completed_at < now() - interval '300 days' limit 300)`,
    );
    expect(await walk()).toBe(300);
    expect(await setAside()).toBe(1_200);
    expect(await database().query('select distinct tenant_id from retention.flagged')).toEqual([
      { tenant_id: 't2' },
    ]);
    expect(
      await database().one(
        `select because from retention.explain((select run_id::text from retention.flagged limit 1))`,
      ),
    ).toMatchObject({
      because: expect.stringContaining('it was late: due before the walk') as string,
    });
  });

  test('a surge is announced once, with its number, and shown where people look', async () => {
    const { url, query, one } = database();
    const listener = await listenInPsql(url, ['retention_attention']);
    try {
      await slip();
      await walk();
      await walk();
      await query(`select pg_notify('retention_attention', 'marker')`);
      await listener.waitFor(({ payload }) => payload === 'marker');
      const [surge] = await open();
      expect(listener.notifications.map(({ payload }) => payload)).toEqual([
        expect.stringContaining(
          `"kind":"surge","surge_id":${surge?.surge_id},"results":1500,"tenants":1`,
        ) as string,
        'marker',
      ]);
      expect(
        await query(
          `select what, results::int, remedy from retention.wait_causes() where what like 'surge%'`,
        ),
      ).toEqual([
        {
          what: `surge ${surge?.surge_id}`,
          results: 1_500,
          remedy: `retention surge show ${surge?.surge_id}`,
        },
      ]);
      expect(
        await one(
          `select surge_id::int, set_aside::int from retention.scan where surge_id is not null`,
        ),
      ).toEqual({
        surge_id: surge?.surge_id,
        set_aside: 1_500,
      });
      expect(await one('select due::int, set_aside::int from retention.status')).toEqual({
        due: 0,
        set_aside: 1_500,
      });
    } finally {
      await listener.close();
    }
  });

  test('a held result stays in its surge, and the end of its hold releases nothing', async () => {
    const { query } = database();
    await slip();
    await walk();
    await query(
      `insert into retention.hold (run_id, reason) select run_id, 'audit' from runs where completed_at < now() - interval '300 days'`,
    );
    const [surge] = await open();
    expect(
      await query(`select results::int, still_due::int from retention.show_surge($1)`, [
        surge?.surge_id,
      ]),
    ).toEqual([{ results: 1_500, still_due: 0 }]);
    await query(`update retention.hold set released_at = now(), released_by = 'kim'`);
    expect(await walk()).toBe(0);
    expect(await setAside()).toBe(1_500);
  });

  test('without a guard everything is flagged as it is found', async () => {
    await slip();
    await database().set({ surge_guard: 'null' });
    expect(await walk()).toBe(1_500);
  });

  test('a run whose sharer slipped into a surge does not take the object along', async () => {
    const { query } = database();
    await fill({ count: 1_500, from: '29 days 23 hours' });
    await query(`insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key, created_at, updated_at)
      select gen_random_uuid(), 't9', 'COMPLETED', now() - interval '10 days', result_s3_bucket, result_s3_key, now(), now() from runs`);
    await walk();
    await pass('2 hours');
    await walk();
    // What a claim does with results whose object another run needs.
    await query(
      `select retention._note_shared_objects(b, array(select generate_series(1, b.results))) from retention.batch b where settled_at is null`,
    );
    await query('delete from retention.batch where settled_at is null');
    await walk();
    expect(await flagged()).toBe(0);
    await query(
      `update runs set completed_at = completed_at - interval '1 year' where tenant_id = 't9'`,
    );
    await pass('2 hours');
    await walk();
    expect(await flagged()).toBe(0);
    expect(await setAside()).toBe(3_000);
  });
});
