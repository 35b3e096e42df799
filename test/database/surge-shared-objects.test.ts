import { expect, test, vi } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { surgeTools } from '../support/surges.ts';
import { dueRuns } from '../support/due-runs.ts';

describeDatabase('promise 13: an object that a run in a surge shares', () => {
  vi.setConfig({ testTimeout: 60_000 });
  const database = useMigrated({ guarded: true });
  const { walk, pass, open, flagged, setAside } = surgeTools(database);

  /**
   * Three objects, each of two runs: that of `acme` falls due on time, that of `slip` by an update that a guard of two
   * sets aside.
   */
  async function slip(keyOf = (n: number) => `results/shared-${n}`): Promise<string> {
    const { insertRun, query, set } = database();
    await set({ surge_guard: '2' });
    let first = '';
    for (const n of [1, 2, 3]) {
      const run = await insertRun({ key: keyOf(n), completedAgo: '29 days 23:55' });
      first ||= run;
      await insertRun({ key: keyOf(n), tenant: 'slip', completedAgo: '5 days' });
    }
    await insertRun({ completedAgo: '29 days 23:55' });
    await walk();
    await pass('10 minutes');
    await query(
      `update runs set completed_at = completed_at - interval '1 year' where tenant_id = 'slip'`,
    );
    expect(await walk()).toBe(4);
    expect(await open()).toMatchObject([{ results: 3 }]);
    return first;
  }

  async function clear(): Promise<readonly string[]> {
    const { store, claimNext } = database();
    const claim = await claimNext();
    if (claim.keys.length > 0) {
      const outcome = { cleared: 'all', failed: [], milliseconds: 1 } as const;
      await store.settle(claim.batchId, claim.lease, outcome);
    }
    return claim.keys.toSorted();
  }

  test.each([
    ['each its own', undefined],
    ['one by all', () => 'results/cached'],
  ])(
    'stays until the surge is released, though another run falls due on time (%s)',
    async (_, keyOf) => {
      const { query, countStamped } = database();
      const run = await slip(keyOf);
      expect(await clear()).toHaveLength(1);
      expect(await countStamped()).toBe(1);
      const [said] = await query('select state, because from retention.explain($1)', [run]);
      expect(said?.['state']).toBe('shared');
      expect(said?.['because']).toMatch(
        /^it shares its object with run .*, which is set aside in surge (\d+) until it is released: retention surge show \1$/u,
      );
      expect(
        await query(`select state, results::int from retention.upcoming(0, 'acme') order by state`),
      ).toEqual([{ state: 'shared', results: 3 }]);
      // Neither is work for the next sweeps, and nothing of it is found late.
      expect(await dueRuns(database(), {})).toEqual([]);
      for (let hour = 0; hour < 2; hour += 1) {
        await pass('2 hours');
        expect(await walk()).toBe(0);
      }
      expect(await setAside()).toBe(3);
      expect(await flagged()).toBe(0);

      await query('select retention.release_surge(surge_id, 3) from retention.surge');
      expect(await clear()).toHaveLength(keyOf === undefined ? 3 : 1);
      // What has waited for it fell due by that, and is not late.
      await pass('2 hours');
      expect(await walk()).toBe(3);
      await clear();
      expect(await countStamped()).toBe(7);
      expect(await open()).toEqual([]);
    },
  );

  test('of which one tenant is released waits for the other', async () => {
    const { query, insertRun } = database();
    await insertRun({ key: 'results/shared-1', tenant: 'slip-2', completedAgo: '5 days' });
    await insertRun({ tenant: 'slip-2', completedAgo: '5 days' });
    await insertRun({ tenant: 'slip-2', completedAgo: '5 days' });
    await slip();
    await query(
      `update runs set completed_at = completed_at - interval '1 year' where tenant_id = 'slip-2'`,
    );
    await walk();
    await clear();
    await query(
      `select retention.release_surge(surge_id, 3, 'slip') from retention.surge order by surge_id limit 1`,
    );
    expect(await clear()).toEqual(['results/shared-2', 'results/shared-3']);
    await query(`select retention.release_surge(max(surge_id), 3) from retention.surge`);
    expect(await clear()).toContain('results/shared-1');
    await pass('2 hours');
    expect(await walk()).toBe(4);
  });

  test('is not deleted early either, and goes where nobody wants shared objects looked for', async () => {
    const { query, store, set, insertRun } = database();
    await slip();
    const early = await insertRun({ key: 'results/shared-1', completedAgo: '8 days' });
    const { batchIds } = await store.flagSelected({
      runIds: [early],
      olderThanSeconds: 86_400,
      early: true,
      expected: 1,
    });
    const lease = crypto.randomUUID();
    const claim = { lease, leaseSeconds: 60, by: 'test', batchIds };
    expect(await store.claim(claim)).toBeUndefined();
    await query('delete from runs where run_id = $1', [early]);
    await set({ check_shared_objects: 'false' });
    expect(await clear()).toHaveLength(4);
  });
});
