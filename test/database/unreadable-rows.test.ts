import { afterEach, expect, test } from 'vitest';
import { withBrokenRows } from '../support/broken-rows.ts';
import { describeDatabase } from '../support/database.ts';
import { migrate, withDatabase } from '../support/migrating.ts';
import { useMigrated } from '../support/migrated.ts';
import { dueRuns } from '../support/due-runs.ts';

describeDatabase('a row that cannot be read', () => {
  const database = useMigrated();
  afterEach(() => database().query('select retention._make_views()'));

  test.each(['22008', '22P05', 'P0001', 'XX001'])(
    'is explained in a sentence with its SQLSTATE (%s), and the others beside it',
    async (code) => {
      const { insertRuns, store } = database();
      const { breakRun } = await withBrokenRows(database());
      const [bad = '', good = ''] = await insertRuns({ count: 2, completedAgo: '1 day' });
      await breakRun(bad, code);
      const [said, kept] = await store.explain([bad, good]);
      expect(said).toMatchObject({
        run_id: bad,
        state: 'unreadable',
        because: expect.stringContaining(
          `its row cannot be read: this row is broken (SQLSTATE ${code})`,
        ) as string,
      });
      expect(kept?.state).toBe('kept');
    },
  );

  test.each(['53100', '57014', '40P01'])(
    'is not what a fault of the server is taken for: %s is raised',
    async (code) => {
      const { insertRun, store } = database();
      const { breakRun } = await withBrokenRows(database());
      const bad = await insertRun();
      await breakRun(bad, code);
      await expect(store.explain([bad])).rejects.toMatchObject({ sqlState: code });
    },
  );

  test('keeps status and the dry run from nothing, and is named by the dry run', async () => {
    const { insertRuns, store, query, connect } = database();
    const { breakRun } = await withBrokenRows(database());
    const [bad = ''] = await insertRuns({ count: 3 });
    await insertRuns({ count: 4, tenant: 'globex' });
    await breakRun(bad, '22008');
    // "At least": what the bad one hides is not counted, and nothing of other tenants is hidden.
    expect(await store.readStatus()).toMatchObject({ due: 4, due_is_capped: true });
    expect(await query('select tenant_id, due::int from retention.tenants_due()')).toEqual([
      { tenant_id: 'globex', due: 4 },
    ]);
    await store.readOverview();
    await store.readVitals();
    expect(await dueRuns(database(), {})).toHaveLength(6);
    const session = await connect();
    const warnings: (string | undefined)[] = [];
    session.on('notice', ({ message }) => warnings.push(message));
    await session.query('select * from retention.list_due()');
    expect(warnings).toEqual([
      `run ${bad} cannot be read and is passed by: 22008 this row is broken`,
    ]);
  });
});

describeDatabase('a date column beyond the last timestamp', () => {
  const database = useMigrated({
    before: `alter table runs alter column completed_at type date, add column retain_until date`,
  });

  test.each(['5874897-12-31', '294277-01-01', '294000-01-01', 'infinity'])(
    "%s: the application's INSERT, passes, claims and reports go on, and the run is kept for ever",
    async (date) => {
      const { insertRuns, insertRun, query, store, claimNext } = database();
      await insertRuns({ count: 5 });
      const late = await insertRun();
      await query('update runs set completed_at = $2::date where run_id = $1', [late, date]);
      const floor = await insertRun();
      await query('update runs set retain_until = $2::date where run_id = $1', [floor, date]);
      // One that is due shares its object with it.
      await insertRun({ key: `results/${late}` });
      expect(await store.flagExpired({ by: 'test', whole: true })).toBe(6);
      expect(await claimNext()).toMatchObject({ spared: 1 });
      expect(await store.readStatus()).toMatchObject({ due: 5, due_is_capped: false });
      expect(await dueRuns(database(), {})).toHaveLength(5);
      const [first, second] = await store.explain([late, floor]);
      expect(first).toMatchObject({ state: 'kept' });
      expect(second).toMatchObject({
        state: 'kept',
        because: expect.stringContaining('for ever') as string,
      });
    },
  );

  test('-infinity is no date, as in any column', async () => {
    const { insertRun, query, store } = database();
    const run = await insertRun();
    await query(`update runs set completed_at = '-infinity' where run_id = $1`, [run]);
    expect(await store.flagExpired({ by: 'test', whole: true })).toBe(0);
    expect(await store.explain([run])).toMatchObject([{ state: 'no date' }]);
  });

  test('adoption goes through such rows', async () => {
    await withDatabase(async (other) => {
      await other.query(`alter table runs alter column completed_at type date;
        insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
        values ('acme', 'COMPLETED', '5874897-12-31', 'b', 'k'),
          ('acme', 'COMPLETED', now() - interval '40 days', 'b', 'l')`);
      await migrate(other, 'up');
      expect(await other.one('select retention.flag_expired() as flagged')).toEqual({ flagged: 1 });
    });
  });
});
