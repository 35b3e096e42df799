import { expect, test } from 'vitest';
import type { Status } from '../../src/store/status.ts';
import { describeDatabase } from '../support/database.ts';
import { examineWith } from '../support/doctor.ts';
import { useMigrated } from '../support/migrated.ts';

const BOUND = 1_000;

describeDatabase('what waits and what comes next', () => {
  const database = useMigrated({ before: 'alter table runs alter column tenant_id drop not null' });
  const status = (): Promise<Status> => database().store.readStatus();
  const flag = (): Promise<number> => database().store.flagExpired({ by: 'test' });

  /** A pass is over, the next is a day away, and everybody's progress is far ahead of old rows. */
  async function passed(...tenants: readonly string[]): Promise<void> {
    for (const tenant of tenants) {
      await database().insertRuns({ count: 2, tenant, completedAgo: '31 days' });
    }
    await database().store.tick('internal');
    await flag();
    await database().query(
      `delete from retention.batch;
      update runs set result_cleared_at = now()`,
    );
  }

  async function overdueDays(): Promise<number> {
    const [row] = await database().query<{ days: number }>(
      'select extract(epoch from now() - due_since)::float8 / 86400 as days from retention.status',
    );
    return row?.days ?? 0;
  }

  test('700 old rows imported after the last pass are due at once, and since when', async () => {
    await passed('acme', 'bolt');
    expect(await status()).toMatchObject({ due: 0, due_since: null });
    await database().insertRuns({ count: 700, completedAgo: '200 days' });
    expect(await status()).toMatchObject({ due: 700, due_is_capped: false, flagged: 0 });
    expect(await overdueDays()).toBeCloseTo(170, 1);
  });

  test('the status, the dry run and the next pass agree on what was imported', async () => {
    await passed('acme', 'bolt');
    await database().insertRuns({ count: 300, completedAgo: '200 days' });
    await database().insertRuns({ count: 40, tenant: 'bolt', completedAgo: '90 days' });
    await database().insertRuns({ count: 5, tenant: 'bolt', completedAgo: '2 days' });
    const groups = await database().store.dueGroups({});
    const listed = groups.reduce((sum, { results }) => sum + results, 0);
    expect({ listed, due: (await status()).due }).toEqual({ listed: 340, due: 340 });
    expect(await database().store.flagExpired({ by: 'test', whole: true })).toBe(340);
    expect(await status()).toMatchObject({ due: 340, flagged: 340 });
  });

  test('what is flagged is counted once, on both sides of the progress', async () => {
    await database().insertRuns({ count: 50, completedAgo: '60 days' });
    await flag();
    await database().insertRuns({ count: 7, completedAgo: '90 days' });
    await database().insertRuns({ count: 4, completedAgo: '59 days' });
    await database().insertRuns({ count: 3, completedAgo: '2 days' });
    expect(await status()).toMatchObject({ due: 61, flagged: 50, due_is_capped: false });
  });

  test('rows of the very moment at which a pass stopped are counted once each', async () => {
    const at = `now() - interval '40 days'`;
    const insert = (count: number): Promise<unknown> =>
      database().query(
        `insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
        select gen_random_uuid(), 'acme', 'COMPLETED', date_trunc('hour', ${at}), 'b', 'k' || random()
        from generate_series(1, $1::int)`,
        [count],
      );
    await insert(20);
    await flag();
    await insert(30);
    expect(await status()).toMatchObject({ due: 50, flagged: 20 });
  });

  test('held results, young ones, ones with a date of their own and without an object are not due', async () => {
    await passed('acme');
    const [held = ''] = await database().insertRuns({ count: 1, completedAgo: '200 days' });
    await database().store.placeHolds({ runIds: [held], reason: 'test' });
    await database().insertRuns({ count: 2, completedAgo: '200 days', key: '' });
    await database().insertRuns({ count: 2, completedAgo: '3 days' });
    await database().insertRuns({ count: 3, completedAgo: '200 days', status: 'RUNNING' });
    await database().insertRuns({ count: 4, tenant: 'whole', completedAgo: '200 days' });
    await database().store.placeHolds({ tenantIds: ['whole'], reason: 'test' });
    expect(await status()).toMatchObject({ due: 0, due_since: null });
  });

  test('more than it looks at: "at least", also of a small tenant behind a large one', async () => {
    await passed('acme', 'small');
    await database().insertRuns({ count: BOUND + 500, completedAgo: '100 days' });
    await database().insertRuns({ count: 12, tenant: 'small', completedAgo: '300 days' });
    const { due, due_is_capped } = await status();
    expect(due).toBeGreaterThan(BOUND - 100);
    expect(due).toBeLessThanOrEqual(BOUND + 12);
    expect(due_is_capped).toBe(true);
    expect(await overdueDays()).toBeCloseTo(270, 1);
  });

  test('while the table is detached nothing is counted, and nothing raises', async () => {
    await database().insertRuns({ count: 3 });
    await database().query('select retention.detach()');
    expect(await status()).toMatchObject({ due: 0, halted: ['detached'], next_pass: null });
    await database().query('select retention.attach()');
    expect(await status()).toMatchObject({ due: 3 });
  });

  async function secondsToNextPass(): Promise<number> {
    const [row] = await database().query<{ seconds: number }>(
      'select extract(epoch from next_pass - now())::float8 as seconds from retention.status',
    );
    return row?.seconds ?? Number.NaN;
  }

  test('the next pass comes a whole interval after the last one, with a tick', async () => {
    await database().store.tick('internal');
    const { next_pass_because: because } = await status();
    expect(because).toBe('a tick flags 1 day after the last pass');
    expect(await secondsToNextPass()).toBeGreaterThan(86_400 - 60);
    expect(await secondsToNextPass()).toBeLessThan(86_400 + 61);
  });

  test('the next pass comes with the next tick after one that hit its limit', async () => {
    await database().insertRuns({ count: 5 });
    await database().set({ flag_limit: '2' });
    await database().store.tick('internal');
    expect((await status()).next_pass_because).toContain('hit a limit');
    expect(await secondsToNextPass()).toBeLessThanOrEqual(60);
  });

  test.each([
    ['no tick ever came', `update retention.heartbeat set ticked_at = null`, 'never been a tick'],
    [
      'the ticks have stopped',
      `update retention.heartbeat set ticked_at = now() - interval '1 hour'`,
      'no tick has come since',
    ],
    [
      'it is disabled',
      `select retention.configure('{"enabled": false}')`,
      'retention is disabled; remedy: set DPP_RETENTION_ENABLED=true',
    ],
    [
      'somebody halted it',
      `select retention.halt('fire', 'kim')`,
      'halted by kim (as postgres): fire',
    ],
    [
      'the backlog is full',
      `update retention.setting set backlog_limit = 1`,
      '2 results are flagged, as many as backlog_limit lets wait',
    ],
  ])('no pass comes by itself while %s, and it says so', async (_, change, because) => {
    await database().insertRuns({ count: 2 });
    await database().store.tick('internal');
    await database().query(change);
    expect(await status()).toMatchObject({
      next_pass: null,
      next_pass_because: expect.stringContaining(because) as string,
    });
  });

  test('the newest run is that of any tenant, also a held one and one without a tenant', async () => {
    expect((await status()).newest_run).toBeNull();
    await database().insertRuns({ tenant: 'acme', completedAgo: '40 days' });
    await database().insertRuns({ tenant: 'zeta', completedAgo: '20 days' });
    const age = async (): Promise<number | undefined> => {
      const [row] = await database().query<{ days: number }>(
        'select extract(epoch from now() - newest_run)::float8 / 86400 as days from retention.status',
      );
      return row?.days;
    };
    expect(await age()).toBeCloseTo(20, 2);
    await database().insertRuns({ tenant: 'held', completedAgo: '6 days' });
    await database().store.placeHolds({ tenantIds: ['held'], reason: 'test' });
    expect(await age()).toBeCloseTo(6, 2);
    await database().query(
      `insert into runs (run_id, status, completed_at, result_s3_bucket, result_s3_key)
      values (gen_random_uuid(), 'COMPLETED', now() - interval '5 days', 'b', 'k')`,
    );
    expect(await age()).toBeCloseTo(5, 2);
    await database().insertRuns({ tenant: 'acme', completedAgo: '-400 days' });
    expect(await age()).toBeCloseTo(5, 2);
  });

  test('when every result has gone, the newest run is that of the last receipt', async () => {
    await database().insertRuns({ count: 3, completedAgo: '50 days' });
    await flag();
    const { batchId, lease } = await database().claimNext();
    await database().store.settle(batchId, lease, { cleared: 'all', failed: [], milliseconds: 1 });
    const [row] = await database().query<{ days: number }>(
      'select extract(epoch from now() - newest_run)::float8 / 86400 as days from retention.status',
    );
    expect(row?.days).toBeCloseTo(50, 1);
  });

  test('doctor says when the next pass comes, and warns of no new run for weeks', async () => {
    const examine = () => examineWith({ DATABASE_URL: database().url });
    await database().insertRuns({ completedAgo: '3 days' });
    await database().store.tick('internal');
    const fine = await examine();
    expect(fine.check('next pass')).toMatchObject({
      state: 'ok',
      found: expect.stringMatching(/^at 2\S+Z: a tick flags 1 day after the last pass$/u) as string,
    });
    expect(fine.check('newest run')).toMatchObject({ state: 'ok' });
    await database().query(`update runs set completed_at = now() - interval '15 days'`);
    await database().query('update retention.heartbeat set ticked_at = null');
    const quiet = await examine();
    expect(quiet.check('newest run')).toMatchObject({
      state: 'warning',
      found: expect.stringContaining('none has completed for 15 d') as string,
      remedy: expect.stringContaining('retention migrate up') as string,
    });
    expect(quiet.check('next pass')).toMatchObject({
      state: 'warning',
      found: expect.stringContaining('there has never been a tick') as string,
    });
  });

  test('what waits is listed with why, until when and what to do', async () => {
    const { insertRuns, store, query, failRuns } = database();
    const runs = await insertRuns({ count: 4, bucket: 'one' });
    await insertRuns({ count: 2, bucket: 'two' });
    await store.tick('internal');
    await failRuns(runs.slice(0, 1), { code: 'AccessDenied', error: 'Access Denied', dead: true });
    await failRuns(runs.slice(1, 3), { code: 'SlowDown', error: 'Please reduce your rate' });
    await query(
      `update retention.bucket set paused_until = now() + interval '1 minute',
        pause_code = 'ECONNREFUSED', pause_error = 'connect ECONNREFUSED 127.0.0.1:9'
      where bucket = 'two'`,
    );
    await insertRuns({ tenant: 'other', completedAgo: '1 day' });
    await store.placeHolds({ tenantIds: ['other'], reason: 'law', forSeconds: 60 });
    await store.halt({ reason: 'fire', by: 'kim' });
    const causes = await store.readWaitCauses();
    expect(causes.map(({ what, results }) => [what, results])).toEqual([
      ['everything', null],
      ['bucket two', 2],
      ['dead in bucket one', 1],
      ['failed in bucket one', 2],
      ['holds', null],
    ]);
    expect(causes.map(({ because }) => because)).toEqual([
      expect.stringMatching(/^halted by kim \(as \w+\): fire, since 2/u) as string,
      'pauses after connect ECONNREFUSED 127.0.0.1:9',
      'AccessDenied',
      'SlowDown (Please reduce your rate)',
      '1 in force, on runs and on tenants',
    ]);
    expect(causes.filter(({ ends_at: end }) => end !== null).map(({ what }) => what)).toEqual([
      'bucket two',
      'failed in bucket one',
      'holds',
    ]);
  });
});
