import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { dueRuns } from '../support/due-runs.ts';

describeDatabase('a date at the end of time', () => {
  const database = useMigrated({ before: 'alter table runs add column retain_until timestamptz' });

  async function insertWith(column: string, value: string, run = {}): Promise<string> {
    const runId = await database().insertRun(run);
    await database().query(`update runs set ${column} = $2 where run_id = $1`, [runId, value]);
    return runId;
  }

  test.each(['294276-12-15', '294276-12-31 23:59:59Z', '290000-01-01', 'infinity', '-infinity'])(
    'a run completed at %s is never due, and raises nowhere',
    async (date) => {
      const { insertRuns, query, store, claimNext } = database();
      const odd = await insertWith('completed_at', date);
      // One that is due shares its object with it.
      await insertRuns({ count: 1, key: `results/${odd}` });
      await insertRuns({ count: 40 });
      expect(await store.flagExpired({ by: 'test', whole: true })).toBe(41);
      expect(await claimNext()).toMatchObject({ spared: 1 });
      expect(await store.flagExpired({ by: 'test', whole: true })).toBe(0);
      const [explained] = await store.explain([odd]);
      expect(explained?.state).toBe(date === '-infinity' ? 'no date' : 'kept');
      expect(JSON.stringify(explained)).toContain(odd);
      expect(await dueRuns(database(), {})).toHaveLength(40);
      expect(await dueRuns(database(), { olderThanSeconds: 86_400, early: true })).toHaveLength(40);
      expect(
        await dueRuns(database(), { runIds: [odd], olderThanSeconds: 86_400, early: true }),
      ).toEqual([]);
      expect(await store.readStatus()).toMatchObject({ due: 40 });
      await store.readVitals();
      await query(`select * from retention.preview_policy('*', '2 days')`);
      await query('select * from retention.tenants_due()');
    },
  );

  test('an early cutoff leaves such runs alone when it claims', async () => {
    const { store, insertRun, query } = database();
    const early = { olderThanSeconds: 86_400, early: true };
    for (const date of ['-infinity', '294276-12-31', 'infinity']) {
      const runId = await insertRun({ completedAgo: '10 days' });
      const { batchIds } = await store.flagSelected({ ...early, runIds: [runId], expected: 1 });
      await query('update runs set completed_at = $2 where run_id = $1', [runId, date]);
      const lease = crypto.randomUUID();
      expect(await store.claim({ lease, leaseSeconds: 60, by: 'test', batchIds })).toMatchObject({
        keys: [],
        spared: 1,
      });
    }
  });

  test.each([
    ['infinity', 0, 'kept'],
    ['294276-12-31', 0, 'kept'],
    ['-infinity', 1, 'due'],
  ])('a result to be kept until %s: %i flagged, and explained as %s', async (date, due, state) => {
    const { store, query } = database();
    const runId = await insertWith('retain_until', date);
    const [explained] = await store.explain([runId]);
    expect(explained).toMatchObject({ state });
    if (date === 'infinity') {
      expect(explained).toMatchObject({
        because: 'its own retain-until date keeps it for ever',
        due_at: 'infinity',
      });
    }
    expect(await dueRuns(database(), {})).toHaveLength(due);
    expect(await store.flagExpired({ by: 'test' })).toBe(due);
    await query(`select * from retention.preview_policy('*', '2 days')`);
  });

  test('a hold that ends in the last hour of time holds', async () => {
    const { store, insertRun, query } = database();
    await insertRun();
    await query(`insert into retention.hold (tenant_id, reason, expires_at)
      values ('acme', 'audit', '294276-12-31 23:59:59Z')`);
    expect(await store.flagExpired({ by: 'test' })).toBe(0);
    expect(await dueRuns(database(), {})).toEqual([]);
  });

  test('a cutoff longer than time is, narrows to nothing', async () => {
    await database().insertRun();
    expect(await dueRuns(database(), { olderThanSeconds: 1e13 })).toEqual([]);
    await expect(
      database().query(`select * from retention.list_due(p_older_than => '170000000 years')`),
    ).resolves.toEqual([]);
  });

  test('settings of a million years stop no tick', async () => {
    const { query, set, store, insertRun } = database();
    await insertRun();
    await set({ loop_interval: `'1000000 years'`, sweep_interval: `'1000000 years'` });
    await store.tick('internal');
    await store.tick('internal');
    await query('update retention.heartbeat set more = true');
    await insertRun();
    expect(await store.tick('internal')).toBe(1);
  });
});
