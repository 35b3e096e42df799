import { describe, expect, test, vi } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { surgeTools } from '../support/surges.ts';

describeDatabase('promise 13: late results', () => {
  vi.setConfig({ testTimeout: 120_000 });
  const database = useMigrated({ guarded: true });
  const { fill, walk, pass, clearFlagged, open, setAside, flagged } = surgeTools(database);

  /** Ten tenants with 5,000 results that are not due, and a complete walk that has seen them. */
  async function steady(count = 20_000): Promise<void> {
    await fill({ count, tenants: 10, from: '20 days', to: '1 day' });
    await walk();
    expect(await flagged()).toBe(0);
    await pass('10 minutes');
  }

  const SLIPS = {
    'rewrites completion dates': `update runs set completed_at = completed_at - interval '1 year'`,
    'rewrites retain-until dates': `update runs set retain_until = now() - interval '1 year', completed_at = completed_at - interval '1 year'`,
    'turns failed runs into completed ones': `update runs set status = 'COMPLETED' where status = 'FAILED'`,
    'hands runs to another tenant': `update runs set tenant_id = 'other', completed_at = completed_at - interval '40 days'`,
    'fills keys in': `update runs set result_s3_key = 'results/' || run_id where result_s3_key is null`,
    'fills buckets in': `update runs set result_s3_bucket = 'dpp-results' where result_s3_bucket is null`,
    'takes stamps away': `update runs set result_cleared_at = null`,
  } as const;

  test.each(Object.entries(SLIPS))('an update that %s reaches no batch', async (name, slip) => {
    const { query } = database();
    await query(`alter table runs add column if not exists retain_until timestamptz`);
    await fill({ count: 20_000, tenants: 10, from: '25 days', to: '20 days' });
    if (name.includes('failed')) {
      await query(
        `update runs set status = 'FAILED', completed_at = completed_at - interval '60 days'`,
      );
    }
    if (name.includes('keys')) {
      await query(
        `update runs set result_s3_key = null, completed_at = completed_at - interval '60 days'`,
      );
    }
    if (name.includes('buckets')) {
      await query(
        `update runs set result_s3_bucket = null, completed_at = completed_at - interval '60 days'`,
      );
    }
    if (name.includes('stamps')) {
      await query(
        `update runs set result_cleared_at = now(), completed_at = completed_at - interval '60 days'`,
      );
    }
    await walk();
    expect(await flagged()).toBe(0);
    await query(slip);
    // What falls due on time goes on: it fell due after the last walk.
    await pass('10 minutes');
    await fill({ count: 50, tenants: 5, from: '30 days 5 minutes', to: '30 days 1 minute' });
    expect(await walk()).toBe(50);
    expect(await setAside()).toBe(20_000);
    expect(await open()).toMatchObject([{ state: 'open', results: 20_000, found: 20_000 }]);
    for (let hour = 0; hour < 3; hour += 1) {
      await pass('1 hour');
      expect(await walk()).toBe(0);
    }
    expect(await flagged()).toBe(50);
  });

  test('an import of old rows reaches no batch', async () => {
    await steady();
    await fill({ count: 5_000, from: '2 years', to: '1 year' });
    expect(await walk()).toBe(0);
    expect(await open()).toMatchObject([{ results: 5_000 }]);
  });

  test('1,000 late results of a tenant are ordinary, and 1,001 are all set aside', async () => {
    await steady(1_000);
    await fill({ count: 1_000, from: '1 year' });
    expect(await walk()).toBe(1_000);
    await clearFlagged();
    await database().query('truncate retention.lateness');
    await fill({ count: 1_001, from: '1 year' });
    expect(await walk()).toBe(0);
    expect(await setAside()).toBe(1_001);
  });

  test('a drip of 900 an hour does not pass for ever', async () => {
    await steady(1_000);
    let gone = 0;
    for (let hour = 0; hour < 30; hour += 1) {
      await fill({ count: 900, from: '1 year' });
      gone += await walk();
      await clearFlagged();
      await pass('1 hour');
    }
    expect(gone).toBe(900);
    expect(await setAside()).toBe(29 * 900);
  });

  test('of an update that commits in the middle of a walk no more than one guard lets through goes in all', async () => {
    const { query, one, set } = database();
    await set({ surge_guard: '10' });
    // Rows that a walk looks at and leaves alone, so that it takes two passes.
    await fill({ count: 30, from: '60 days', to: '50 days' });
    await query(`update runs set result_s3_bucket = null`);
    await fill({ count: 40, from: '20 days', to: '1 day' });
    await walk();
    await pass('10 minutes');
    const looked = (rows: number, whole: boolean) =>
      query('select retention.flag_expired($1, $2, $3)', [rows, 'test', whole]);
    await looked(15, true);
    expect(await one('select more from retention.heartbeat')).toEqual({ more: true });
    // The first pass has gone by the places of most of them, and the second one finds eight.
    await query(`with slipped as (
        select run_id, row_number() over (order by run_id) as n
        from runs where result_s3_bucket is not null
      )
      update runs r set completed_at = now() - case when s.n <= 8 then interval '52 days' else interval '58 days' end
      from slipped s where s.run_id = r.run_id`);
    await looked(1_000, false);
    expect(await one('select more from retention.heartbeat')).toEqual({ more: false });
    expect({ flagged: await flagged(), setAside: await setAside() }).toEqual({
      flagged: 8,
      setAside: 0,
    });
    for (let hour = 0; hour < 3; hour += 1) {
      expect(await walk()).toBe(0);
      await pass('1 hour');
    }
    expect(await open()).toMatchObject([{ results: 32 }]);
    expect(await flagged()).toBe(8);
  });

  test('a thousand tenants with 200 late results each are a surge', async () => {
    await steady(1_000);
    await fill({ count: 200_000, tenants: 1_000, from: '1 year' });
    expect(await walk()).toBe(0);
    const [surge] = await open();
    expect(surge).toMatchObject({ results: 200_000 });
    expect(await database().query('select rule, tenants::int from retention.surge')).toEqual([
      { rule: 'all', tenants: 1_000 },
    ]);
  });

  describe('a release', () => {
    async function surge(count = 5_000): Promise<number> {
      await steady(2_000);
      await fill({ count, tenants: 2, from: '1 year' });
      await walk();
      const [found] = await open();
      return found?.surge_id ?? 0;
    }
    const release = (...values: readonly unknown[]) =>
      database().one('select retention.release_surge($1, $2, $3)::int as released', [
        values[0],
        values[1],
        values[2] ?? null,
      ]);

    test('frees exactly what was counted, and a row that joins later does not ride along', async () => {
      const id = await surge();
      await fill({ count: 1, from: '1 year' });
      expect(await release(id, 5_000)).toEqual({ released: 5_000 });
      expect(await flagged()).toBe(5_000);
      expect(await walk()).toBe(0);
      expect(await open()).toMatchObject([{ results: 1 }]);
      expect(await clearFlagged()).toBe(5_000);
      await pass('1 hour');
      // The same update again is another surge.
      await fill({ count: 5_000, tenants: 2, from: '1 year' });
      expect(await walk()).toBe(0);
      expect(await setAside()).toBe(5_001);
    });

    test('is refused with another number, or none, and changes nothing', async () => {
      const id = await surge();
      await expect(release(id, 4_999)).rejects.toThrow(
        `surge ${id} has 5000 results, and 4999 were expected; nothing was released`,
      );
      await expect(release(id, null)).rejects.toThrow('needs the number of results');
      await expect(release(id + 1, 1)).rejects.toThrow(`there is no surge ${id + 1}`);
      expect(await setAside()).toBe(5_000);
      expect(await flagged()).toBe(0);
    });

    test('of one tenant leaves the others set aside', async () => {
      const id = await surge();
      expect(await release(id, 2_500, 't1')).toEqual({ released: 2_500 });
      expect(await open()).toMatchObject([{ results: 2_500, released: 2_500 }]);
      expect(await database().query('select distinct tenant_id from retention.flagged')).toEqual([
        { tenant_id: 't1' },
      ]);
      await expect(release(id, 2_500, 't1')).rejects.toThrow('nothing of surge');
      expect(await release(id, 2_500)).toEqual({ released: 2_500 });
      expect(await open()).toEqual([]);
      expect(
        await database().query(
          'select tenant_id, results::int, released_by from retention.list_releases()',
        ),
      ).toEqual([
        { tenant_id: null, results: 2_500, released_by: 'postgres' },
        { tenant_id: 't1', results: 2_500, released_by: 'postgres' },
      ]);
    });

    test('a slip that is undone leaves the surge, and falls due in its time', async () => {
      const id = await surge();
      const { query } = database();
      await query(
        `update runs set completed_at = now() - interval '10 days' where tenant_id = 't1' and completed_at < now() - interval '300 days'`,
      );
      expect(
        await database().query(
          `select tenant_id, results::int, still_due::int from retention.show_surge(${id})`,
        ),
      ).toEqual([{ tenant_id: 't2', results: 2_500, still_due: 2_500 }]);
      await query(
        `update runs set completed_at = now() - interval '10 days' where completed_at < now() - interval '300 days'`,
      );
      await query(`update retention.surge_part set looked_at = now() - interval '1 day'`);
      await query('select retention._clean_up()');
      expect(await open()).toEqual([]);
      await walk();
      expect(await flagged()).toBe(0);
      await pass('19 days');
      await walk();
      expect(await open()).toEqual([]);
      await pass('2 days');
      await walk();
      expect(await open()).toEqual([]);
      expect(await flagged()).toBeGreaterThanOrEqual(5_000);
    });
  });
});
