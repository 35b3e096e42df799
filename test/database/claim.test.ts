import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { type RunsToInsert, keyOf, useMigrated } from '../support/migrated.ts';
import { until } from '../support/until.ts';

describeDatabase('promise 1: nothing live is deleted', () => {
  const database = useMigrated();

  /** Inserts and flags one due run, lets something happen, and claims. */
  async function claimAfter(
    change: string | ((runId: string) => Promise<unknown>),
    run: RunsToInsert = {},
  ) {
    const { insertRun, query, store } = database();
    const runId = await insertRun(run);
    await query('select retention.flag_expired()');
    expect(await query('select from retention.flagged')).toHaveLength(1);
    if (typeof change === 'string') await query(change.replaceAll('$run', `'${runId}'`));
    else await change(runId);
    return {
      runId,
      claim: await store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'test' }),
    };
  }

  test('a result that is still due is handed out', async () => {
    const { runId, claim } = await claimAfter('');
    expect(claim).toMatchObject({
      bucket: 'dpp-results',
      keys: [keyOf(runId)],
      spared: 0,
      attempts: 0,
    });
    expect(await database().claimed(claim)).toEqual([runId]);
  });

  test.each([
    ['its policy was lengthened', `select retention.set_policy('*', '90 days')`],
    ['its tenant got a longer policy', `select retention.set_policy('acme', '90 days')`],
    ['it is held', `select retention.place_hold('audit', $run)`],
    ['its tenant is held', `select retention.place_hold('audit', null, 'acme')`],
    [
      'it points at another key',
      `update runs set result_s3_key = 'results/new' where run_id = $run`,
    ],
    ['it points at no key', `update runs set result_s3_key = null where run_id = $run`],
    [
      'it points at another bucket',
      `update runs set result_s3_bucket = 'dpp-archive' where run_id = $run`,
    ],
    ['it points at no bucket', `update runs set result_s3_bucket = null where run_id = $run`],
    ['its row was deleted', `delete from runs where run_id = $run`],
    [
      'it runs again',
      `update runs set status = 'RUNNING', completed_at = null where run_id = $run`,
    ],
    ['it failed', `update runs set status = 'FAILED' where run_id = $run`],
    ['it completed again just now', `update runs set completed_at = now() where run_id = $run`],
    [
      'it completed at another time than when it was flagged, though past its retention as well',
      `update runs set completed_at = completed_at - interval '1 day' where run_id = $run`,
    ],
    [
      'it was cleared by somebody else',
      `update runs set result_cleared_at = now() where run_id = $run`,
    ],
  ])('a result is spared when %s', async (_, change) => {
    const { claim } = await claimAfter(change);
    expect(claim).toMatchObject({ keys: [], spared: 1 });
    expect(await database().query('select from retention.flagged')).toEqual([]);
    expect(
      await database().query(
        'select spared, results, lease from retention.batch where settled_at is not null',
      ),
    ).toEqual([{ spared: 1, results: 0, lease: null }]);
  });

  test.each([
    [
      'a hold that was released',
      `select retention.release_hold(hold_id) from retention.place_hold('audit', $run)`,
    ],
    [
      'a hold that has run out',
      `insert into retention.hold (run_id, reason, placed_at, expires_at) values ($run, 'audit', now() - interval '2 days', now() - interval '3 hours')`,
    ],
    [
      "another tenant's hold",
      `insert into retention.hold (tenant_id, reason) values ('globex', 'audit')`,
    ],
    [
      'a longer policy of another tenant',
      `select retention.set_policy('globex', '90 days', p_new_tenant => true)`,
    ],
    [
      'a change of columns that are none of ours',
      `update runs set updated_at = now() where run_id = $run`,
    ],
  ])('%s spares nothing', async (_, change) => {
    const { runId, claim } = await claimAfter(change);
    expect(claim?.keys).toEqual([keyOf(runId)]);
  });

  const SHARING = `insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key, result_cleared_at)
    select $tenant, $status, now() - $ago::interval, $bucket, result_s3_key, $cleared from runs where run_id = $run`;

  function sharing(
    values: Partial<Record<'tenant' | 'status' | 'ago' | 'bucket' | 'cleared', string>>,
  ) {
    const all = {
      tenant: `'globex'`,
      status: `'COMPLETED'`,
      ago: `'31 days'`,
      bucket: `'dpp-results'`,
      cleared: 'null',
      ...values,
    };
    return Object.entries(all).reduce(
      (sql, [name, value]) => sql.replaceAll(`$${name}`, value),
      SHARING,
    );
  }

  test.each([
    ['is not due', sharing({ ago: `'29 days'` })],
    ['has failed', sharing({ status: `'FAILED'` })],
    ['is still running', sharing({ status: `'RUNNING'`, ago: 'null' })],
    [
      'is due by the default policy but not by that of its tenant',
      `select retention.set_policy('globex', '90 days', p_new_tenant => true); ${sharing({})}`,
    ],
    ['is due but held', `${sharing({})}; select retention.place_hold('audit', null, 'globex')`],
  ])('an object is spared while another run that points at it %s', async (_, change) => {
    const { claim } = await claimAfter(change);
    expect(claim).toMatchObject({ keys: [], spared: 1 });
  });

  test.each([
    ['a run whose result is cleared already', sharing({ ago: `'1 day'`, cleared: 'now()' })],
    ['the same key in another bucket', sharing({ ago: `'1 day'`, bucket: `'dpp-archive'` })],
  ])('%s is nobody to spare an object for', async (_, change) => {
    const { claim } = await claimAfter(change);
    expect(claim).toMatchObject({ spared: 0 });
    expect(claim?.keys).toHaveLength(1);
  });

  test('two due runs on one object are both handed out, and both stamped', async () => {
    const { insertRuns, query, store, countStamped, claimNext, claimed } = database();
    const runIds = await insertRuns({ count: 2, key: 'results/shared' });
    await query('select retention.flag_expired()');
    const claim = await claimNext();
    expect(new Set(claim.keys)).toEqual(new Set(['results/shared']));
    expect((await claimed(claim)).toSorted()).toEqual(runIds.toSorted());
    await store.settle(claim.batchId, claim.lease, {
      cleared: ['results/shared'],
      failed: [],
      milliseconds: 1,
    });
    expect(await countStamped()).toBe(2);
  });

  test.each([
    ['it failed', `update runs set status = 'FAILED'`],
    ['it is held', `select retention.place_hold('audit', run_id::text) from runs`],
    ['it points at another key', `update runs set result_s3_key = 'results/new'`],
  ])('a result that was selected early is spared when %s', async (_, change) => {
    const { insertRun, query, store } = database();
    await insertRun({ completedAgo: '10 days' });
    const { newlyFlagged, batchIds } = await store.flagSelected({
      all: true,
      olderThanSeconds: 86_400,
      early: true,
      expected: 1,
    });
    expect(newlyFlagged).toBe(1);
    await query(change);
    const lease = crypto.randomUUID();
    const claim = await store.claim({ lease, leaseSeconds: 60, by: 'test', batchIds });
    expect(claim).toMatchObject({ keys: [], spared: 1 });
  });

  test('an application whose keys are unique may switch the check of shared objects off', async () => {
    await database().set({ check_shared_objects: 'false' });
    const { runId, claim } = await claimAfter(sharing({ ago: `'1 day'` }));
    expect(claim?.keys).toEqual([keyOf(runId)]);
  });

  test('of a batch, only what is no longer due is spared', async () => {
    const { insertRuns, query, one, claimNext, claimed } = database();
    const runIds = await insertRuns({ count: 10 });
    await query('select retention.flag_expired()');
    await query('select retention.place_hold($1, $2)', ['audit', runIds[3]]);
    const claim = await claimNext();
    const others = runIds.filter((_, n) => n !== 3).toSorted();
    expect((await claimed(claim)).toSorted()).toEqual(others);
    expect(claim.keys.toSorted()).toEqual(others.map(keyOf));
    expect(
      await one('select results, spared, lease is not null as is_leased from retention.batch'),
    ).toEqual({
      results: 9,
      spared: 1,
      is_leased: true,
    });
  });

  test('what was spared is made work again when it becomes due again', async () => {
    const { query, one, store } = database();
    const { runId } = await claimAfter(`select retention.set_policy('*', '90 days')`);
    await query(`select retention.set_policy('*', '30 days')`);
    expect(await one('select retention.flag_expired() as flagged')).toEqual({ flagged: 1 });
    const claim = await store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'test' });
    expect(claim?.keys).toEqual([keyOf(runId)]);
  });

  test('claim cannot be called where it would not see what has committed meanwhile', async () => {
    const client = await database().connect();
    for (const level of ['repeatable read', 'serializable']) {
      await client.query(`begin isolation level ${level}`);
      await expect(
        client.query(`select * from retention.claim(gen_random_uuid(), '1 minute')`),
      ).rejects.toThrow(/READ COMMITTED/);
      await client.query('rollback');
    }
    await client.end();
  });

  test('nothing is handed out while the reactor is disabled', async () => {
    const { set, store } = database();
    const { claim } = await claimAfter(async () => set({ enabled: 'false' }));
    expect(claim).toBeUndefined();
    await set({ enabled: 'true' });
    expect(
      await store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'test' }),
    ).toBeDefined();
  });
});

describeDatabase('promise 5: a hold wins', () => {
  const database = useMigrated();

  test('placing a hold on what is in flight says so', async () => {
    const { insertRuns, query, store, one } = database();
    const runIds = await insertRuns({ count: 3 });
    await query('select retention.flag_expired()');
    await store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'test' });
    expect(
      await one('select too_late::int, too_late_run_ids from retention.place_hold($1, $2)', [
        'audit',
        runIds[1],
      ]),
    ).toEqual({ too_late: 1, too_late_run_ids: [runIds[1]] });
    expect(
      await one(
        `select too_late::int, too_late_run_ids from retention.place_hold('audit', null, 'acme')`,
      ),
    ).toMatchObject({ too_late: 3 });
  });

  test('a claim waits for a hold that is being placed, and then spares what it covers', async () => {
    const { insertRun, query, store, connect } = database();
    const runId = await insertRun();
    await query('select retention.flag_expired()');
    const placing = await connect();
    await placing.query('begin');
    await placing.query('select retention.place_hold($1, $2)', ['audit', runId]);
    const claiming = store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'test' });
    await waitsForLock();
    await placing.query('commit');
    expect(await claiming).toMatchObject({ keys: [], spared: 1 });
    await placing.end();
  });

  test('a hold waits for a claim that is being made, and then says that it is too late', async () => {
    const { insertRun, query, connect } = database();
    const runId = await insertRun();
    await query('select retention.flag_expired()');
    const claiming = await connect();
    await claiming.query('begin');
    await claiming.query(`select * from retention.claim(gen_random_uuid(), '1 minute')`);
    const placing = query<{ too_late: string }>(
      'select too_late from retention.place_hold($1, $2)',
      ['audit', runId],
    );
    await waitsForLock();
    await claiming.query('commit');
    expect(await placing).toEqual([{ too_late: '1' }]);
    await claiming.end();
  });

  async function waitsForLock(): Promise<void> {
    await until('somebody waits for a lock', () =>
      database()
        .query(
          `select from pg_locks
          where not granted
            and database = (select oid from pg_database where datname = current_database())`,
        )
        .then((waiting) => waiting.length > 0),
    );
  }
});
