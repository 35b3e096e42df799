import pg from 'pg';
import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { type RunsToInsert, useMigrated } from '../support/migrated.ts';

describeDatabase("the runbook's rule", () => {
  const database = useMigrated();

  /** Whether a pass flags the only run there is. */
  async function isFlagged(run: RunsToInsert, flag = 'select retention.flag_expired()') {
    const { insertRun, query } = database();
    const runId = await insertRun(run);
    await query(flag);
    const rows = await query('select from retention.flagged where run_id = $1', [runId]);
    return rows.length === 1;
  }

  test.each<[string, boolean, RunsToInsert]>([
    ['a second past its retention', true, { completedAgo: '30 days 1 second' }],
    ['a second before it', false, { completedAgo: '29 days 23:59:59' }],
    ['years past it', true, { completedAgo: '10 years' }],
    ['that completed in the future', false, { completedAgo: '-1 day' }],
    ['that FAILED', false, { status: 'FAILED' }],
    ['that is RUNNING', false, { status: 'RUNNING' }],
    ['that is completed in lower case', false, { status: 'completed' }],
    ['that completed nobody knows when', false, { completedAgo: null }],
    ['without a key', false, { key: null }],
    ['with an empty key', false, { key: '' }],
    ['without a bucket', false, { bucket: null }],
    ['with an empty bucket', false, { bucket: '' }],
    ['that is already cleared', false, { clearedAgo: '1 day' }],
  ])('a run %s: due is %s', async (_, isDue, run) => {
    expect(await isFlagged(run)).toBe(isDue);
  });

  test('a result without a bucket is in the default bucket, if there is one', async () => {
    await database().set({ default_bucket: `'dpp-default'` });
    expect(await isFlagged({ bucket: null })).toBe(true);
    expect(await isFlagged({ bucket: '' })).toBe(true);
    expect(await database().query('select distinct bucket from retention.flagged')).toEqual([
      { bucket: 'dpp-default' },
    ]);
  });

  test("a tenant's policy counts for the tenant, the default for all others", async () => {
    const { query } = database();
    await query(
      `select retention.set_policy('long', '90 days', p_new_tenant => true),
        retention.set_policy('short', '7 days', p_new_tenant => true)`,
    );
    expect(await isFlagged({ tenant: 'long', completedAgo: '89 days 23:59:59' })).toBe(false);
    expect(await isFlagged({ tenant: 'long', completedAgo: '90 days 1 second' })).toBe(true);
    expect(await isFlagged({ tenant: 'short', completedAgo: '6 days 23:59:59' })).toBe(false);
    expect(await isFlagged({ tenant: 'short', completedAgo: '7 days 1 second' })).toBe(true);
    expect(await isFlagged({ tenant: 'other', completedAgo: '8 days' })).toBe(false);
    expect(await isFlagged({ tenant: 'other', completedAgo: '31 days' })).toBe(true);
  });

  test('a tenant called * has no policy of its own and changes nobody else', async () => {
    expect(await isFlagged({ tenant: '*', completedAgo: '31 days' })).toBe(true);
    expect(await isFlagged({ tenant: '*', completedAgo: '29 days' })).toBe(false);
  });

  test('the default policy is what it was set to', async () => {
    await database().query(`select retention.set_policy('*', '90 days')`);
    expect(await isFlagged({ completedAgo: '89 days 23:59:59' })).toBe(false);
    expect(await isFlagged({ completedAgo: '90 days 1 second' })).toBe(true);
  });

  test('a policy below a day or beyond a century is refused', async () => {
    for (const retain of ['23 hours', '0', '-30 days', '200 years', null]) {
      await expect(
        database().query('select retention.set_policy($1, $2::interval)', ['*', retain]),
      ).rejects.toThrow(/1 day to 99 years/);
    }
    await expect(
      database().query(`update retention.policy set retain = '23 hours'`),
    ).rejects.toThrow(/retain_is_at_least_one_day/);
  });

  test('a day is 24 hours in every time zone and across every change of clocks', async () => {
    const { query, url } = database();
    // 120 days reach over a change of clocks from any day of the year.
    await query(`select retention.set_policy('*', '120 days')`);
    const session = new pg.Client({
      connectionString: url,
      options: '-c timezone=America/New_York',
    });
    await session.connect();
    try {
      const flagged = async (seconds: number): Promise<number> => {
        await session.query('delete from runs');
        await session.query(
          `insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
          values ('a', 'COMPLETED', now() - make_interval(secs => $1), 'b', 'k')`,
          [seconds],
        );
        const { rows } = await session.query<{ flagged: number }>(
          'select retention.flag_expired() as flagged',
        );
        return rows[0]?.flagged ?? -1;
      };
      expect(await flagged(120 * 86_400 - 1)).toBe(0);
      expect(await flagged(120 * 86_400 + 1)).toBe(1);
    } finally {
      await session.end();
    }
  });

  test('what is not due at the deadline is due a moment later', async () => {
    const { insertRun, query, one } = database();
    const runId = await insertRun({ completedAgo: '29 days 23:59:59.9' });
    const flag = async (): Promise<number> => {
      const { flagged } = await one<{ flagged: number }>(
        'select retention.flag_expired() as flagged',
      );
      return flagged;
    };
    expect(await flag()).toBe(0);
    await query(
      `update runs set completed_at = completed_at - interval '1 second' where run_id = $1`,
      [runId],
    );
    expect(await flag()).toBe(1);
    expect(await flag()).toBe(0);
  });
});

describeDatabase('a table with a date of its own to keep results until', () => {
  const database = useMigrated({
    before: 'alter table runs add column retain_until timestamptz',
  });

  test('takes it as a floor: both it and the policy must have passed', async () => {
    const { query, insertRun, one } = database();
    const cases = [
      ['40 days', '1 second', 1],
      ['40 days', '-1 second', 0],
      ['29 days', '1 day', 0],
      ['40 days', null, 1],
    ] as const;
    for (const [completedAgo, untilAgo, expected] of cases) {
      const runId = await insertRun({ completedAgo });
      await query('update runs set retain_until = now() - $2::interval where run_id = $1', [
        runId,
        untilAgo,
      ]);
      expect([
        completedAgo,
        untilAgo,
        await one('select retention.flag_expired() as flagged'),
      ]).toEqual([completedAgo, untilAgo, { flagged: expected }]);
    }
  });
});
