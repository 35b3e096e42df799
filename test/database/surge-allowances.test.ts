import { describe, expect, test, vi } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { surgeTools } from '../support/surges.ts';

describeDatabase('what a person has accounted for is no surge', () => {
  vi.setConfig({ testTimeout: 120_000 });
  const database = useMigrated({ guarded: true });
  const { fill, walk, pass, clearFlagged, open, setAside, flagged } = surgeTools(database);
  const allowances = () =>
    database().query(
      `select tenant_key, results::int, granted::int from retention.allowance
      where dropped_at is null and granted > 0 order by tenant_key, allowance_id`,
    );

  async function steady(): Promise<void> {
    await fill({ count: 12_000, tenants: 2, from: '29 days', to: '1 day' });
    await walk();
    await pass('10 minutes');
  }

  test.each([
    ['the policy of a tenant', `select retention.set_policy('t1', '10 days', true)`, 1],
    ['the policy of everybody', `select retention.set_policy('*', '10 days', true)`, 2],
    [
      'a policy that waited for its confirmation',
      `select retention.set_policy('t1', '10 days'); select retention.confirm_policy('t1')`,
      1,
    ],
    [
      'a policy that is written by hand',
      `update retention.setting set policy_guard = 1000000; insert into retention.policy (tenant_id, retain) values ('t1', '10 days')`,
      1,
    ],
  ])('%s, made shorter, lets what it makes due go', async (_name, sql, tenants) => {
    await steady();
    await database().query(sql);
    const granted = (await allowances()).map((row) => Number(row['granted']));
    expect(granted).toHaveLength(tenants);
    expect(granted[0]).toBeGreaterThan(4_000);
    const sum = granted.reduce((some, one) => some + one, 0);
    // A few have fallen due on time since the last walk.
    expect((await walk()) - sum).toBeLessThan(10);
    expect(await setAside()).toBe(0);
    expect(await flagged()).toBeGreaterThanOrEqual(sum);
    expect(await open()).toEqual([]);
    expect(await allowances()).toEqual([]);
  });

  test('a policy of a tenant that is removed lets what the default makes due go', async () => {
    await database().query(`select retention.set_policy('t1', '60 days', p_new_tenant => true)`);
    await fill({ count: 6_000, from: '50 days', to: '1 day' });
    await walk();
    await pass('10 minutes');
    await database().query(`select retention.unset_policy('t1', true)`);
    expect(await walk()).toBeGreaterThan(2_000);
    expect(await open()).toEqual([]);
    expect(await database().query(`select from retention.policy where tenant_id = 't1'`)).toEqual(
      [],
    );
  });

  test('more than a shorter policy makes due is a surge, and what is left over is dropped', async () => {
    await steady();
    await database().query(`select retention.set_policy('t1', '10 days', true)`);
    await fill({ count: 1_001, from: '1 year' });
    // A few have fallen due on time since the last walk.
    expect(await walk()).toBeLessThan(10);
    expect(await setAside()).toBeGreaterThan(5_000);
    expect(await open()).toHaveLength(1);
    expect(await allowances()).toEqual([]);
  });

  test('an allowance that no result has used is dropped by the next complete walk', async () => {
    await steady();
    await database().query(`select retention.set_policy('t1', '10 days', true)`);
    await database().query(`select retention.set_policy('t1', '40 days')`);
    expect(await allowances()).toHaveLength(1);
    await walk();
    expect(await allowances()).toEqual([]);
    await fill({ count: 1_001, from: '1 year' });
    expect(await walk()).toBe(0);
  });

  test('a policy that goes back and forth grants once', async () => {
    await steady();
    for (const days of [10, 40, 10]) {
      await database().query(`select retention.set_policy('t1', $1::interval, true)`, [
        `${days} days`,
      ]);
    }
    const [first, second] = await allowances();
    expect(Number(first?.['granted'])).toBeGreaterThan(4_000);
    expect(second).toBeUndefined();
  });

  test('what fell due while the scheduler was down, and a policy made shorter then, go', async () => {
    await steady();
    await pass('3 days');
    await database().query(`select retention.set_policy('t1', '20 days', true)`);
    await walk();
    expect(await open()).toEqual([]);
    expect(await setAside()).toBe(0);
  });

  describe('a hold on a tenant', () => {
    async function held(): Promise<number> {
      await steady();
      const { hold_id: id } = await database().one<{ hold_id: number }>(
        `select hold_id::int from retention.place_hold('audit', p_tenant_id => 't1')`,
      );
      for (let day = 0; day < 12; day += 1) {
        await pass('1 day');
        await walk();
        await clearFlagged();
      }
      return id;
    }

    test('that is released grants what is due, says how many, and all come back', async () => {
      const id = await held();
      const due = await database().one<{ due: number }>(
        `select count(*)::int as due from runs where tenant_id = 't1' and result_cleared_at is null and completed_at < now() - interval '30 days'`,
      );
      expect(due.due).toBeGreaterThan(2_000);
      expect(
        await database().query(
          `select released, due::int from retention.release_holds(array[${id}])`,
        ),
      ).toEqual([{ released: true, due: due.due }]);
      // What falls due in the hour after the end is on time, also where its turn comes later.
      await fill({ count: 3_000, from: '30 days', to: '29 days 23 hours' });
      let back = 0;
      for (let part = 0; part < 9; part += 1) {
        await pass('10 minutes');
        await walk();
        back += await clearFlagged();
      }
      expect(await open()).toEqual([]);
      expect(back).toBeGreaterThan(due.due);
      expect(await allowances()).toEqual([]);
      await fill({ count: 1_001, from: '1 year' });
      await walk();
      expect(await open()).toMatchObject([{ results: 1_001 }]);
    });

    test('that ends by itself grants the same, once', async () => {
      const id = await held();
      await database().query(
        `update retention.hold set expires_at = now() - interval '1 minute' where hold_id = ${id}`,
      );
      for (let part = 0; part < 9; part += 1) {
        await walk();
        await clearFlagged();
        await pass('10 minutes');
      }
      await walk();
      await clearFlagged();
      expect(await open()).toEqual([]);
      expect(
        await database().one(
          `select count(*)::int as due from retention._live where is_due and tenant_id = 't1'`,
        ),
      ).toEqual({ due: 0 });
      await walk();
      expect(await database().query('select from retention.allowance')).toHaveLength(1);
      await fill({ count: 1_001, from: '1 year' });
      await walk();
      expect(await open()).toHaveLength(1);
    });

    test('more than it covered is a surge', async () => {
      const id = await held();
      await database().query(`select retention.release_hold(${id})`);
      await fill({ count: 1_001, from: '1 year' });
      await pass('61 minutes');
      await walk();
      expect(await open()).toHaveLength(1);
    });

    /** Ten minutes at a time, until all has come back. Returns how many results of the tenant were cleared. */
    async function comeBack(): Promise<number> {
      for (let part = 0; part < 9; part += 1) {
        await walk();
        await clearFlagged();
        await pass('10 minutes');
      }
      const { cleared } = await database().one<{ cleared: number }>(
        `select count(*)::int as cleared from runs where tenant_id = 't1' and result_cleared_at is not null`,
      );
      return cleared;
    }

    test.each([
      ['that is released', `select retention.release_hold($1)`],
      [
        'that ends by itself',
        `update retention.hold set expires_at = now() - interval '1 minute' where hold_id = $1`,
      ],
    ])('%s covers no rows that were rewritten under it', async (_, end) => {
      const id = await held();
      const { query } = database();
      await query(`update runs set completed_at = completed_at - interval '1 year'
        where tenant_id = 't1' and completed_at > now() - interval '25 days'`);
      await query(end, [id]);
      // Together with what fell due meanwhile, for nobody can tell a person which of them are meant.
      expect(await comeBack()).toBeLessThanOrEqual(1_000);
      expect(await open()).not.toEqual([]);
      expect(await setAside()).toBeGreaterThan(3_900);
    });

    test('gives back what was due before it, and what a policy made shorter meanwhile makes due', async () => {
      const { query, one } = database();
      await fill({ count: 6_000, from: '29 days', to: '1 day' });
      await walk();
      await pass('10 days');
      // So many are flagged, and the hold comes between.
      expect(await walk()).toBeGreaterThan(1_900);
      const { hold_id: id } = await one<{ hold_id: number }>(
        `select hold_id::int from retention.place_hold('audit', p_tenant_id => 't1')`,
      );
      await clearFlagged();
      await pass('1 day');
      await walk();
      await query(`select retention.set_policy('t1', '20 days', true)`);
      await pass('10 minutes');
      await walk();
      const { due } = await one<{ due: number }>(
        `select count(*)::int as due from runs where completed_at < now() - interval '20 days'`,
      );
      expect(due).toBeGreaterThan(4_000);
      await query('select retention.release_hold($1)', [id]);
      expect(await comeBack()).toBeGreaterThanOrEqual(due);
      expect(await open()).toEqual([]);
    });

    test('whose row is deleted grants nothing', async () => {
      await held();
      await database().query('delete from retention.hold');
      await walk();
      expect(await open()).toHaveLength(1);
      expect(await flagged()).toBe(0);
    });
  });

  test('holds on 1,500 runs that end together, and shared objects, are on time', async () => {
    const { query } = database();
    await steady();
    await query(
      `insert into retention.hold (run_id, reason) select run_id, 'audit' from runs where tenant_id = 't1' order by completed_at limit 1500`,
    );
    await pass('10 days');
    await walk();
    await clearFlagged();
    await query(`update retention.hold set released_at = now(), released_by = 'kim'`);
    expect(await walk()).toBe(1_500);
    expect(await open()).toEqual([]);
    await clearFlagged();
    // 1,500 runs share their objects with others that are kept ten days longer.
    await query(`insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key, created_at, updated_at)
      select gen_random_uuid(), 't3', 'COMPLETED', now() - x.age, 'dpp-results', 'shared/' || n, now(), now()
      from generate_series(1, 1500) n cross join (values (interval '29 days'), (interval '19 days')) x (age)`);
    await walk();
    await pass('2 days');
    await walk();
    await query(
      `select retention._note_shared_objects(b, array(select generate_series(1, b.results))) from retention.batch b where settled_at is null`,
    );
    await query(`delete from retention.batch where settled_at is null`);
    expect(await query('select from retention.shared_object')).toHaveLength(1_500);
    await walk();
    expect(await query(`select from retention.flagged where key like 'shared/%'`)).toEqual([]);
    await pass('10 days');
    await walk();
    expect(await open()).toEqual([]);
    expect(
      await database().one(
        `select count(*)::int as flagged from retention.flagged where key like 'shared/%'`,
      ),
    ).toEqual({ flagged: 3_000 });
    await pass('2 hours');
    await walk();
    await pass('2 hours');
    await walk();
    expect(await query('select from retention.shared_object')).toEqual([]);
  });
});
