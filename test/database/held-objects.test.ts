import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { keyOf, useMigrated } from '../support/migrated.ts';
import { dueRuns } from '../support/due-runs.ts';

describeDatabase('promise 5: a hold covers the object also when the row has gone', () => {
  const database = useMigrated();

  const flagAndClaim = async () => {
    await database().query('select retention.flag_expired(p_whole => true)');
    return database().store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'test' });
  };
  const hold = async (runId: string) => {
    const [placed] = await database().store.placeHolds({ runIds: [runId], reason: 'audit' });
    return placed;
  };
  const drop = (runId: string) => database().query('delete from runs where run_id = $1', [runId]);

  test('place_hold and list_holds say which object a hold on a run keeps', async () => {
    const runId = await database().insertRun();
    const found = { bucket: 'dpp-results', key: keyOf(runId), objects: 1 };
    expect(await hold(runId)).toMatchObject(found);
    expect(await database().store.listHolds({ all: false })).toMatchObject([found]);
    expect(await database().query('select bucket, key from retention.hold')).toEqual([
      { bucket: found.bucket, key: found.key },
    ]);
  });

  test('a run that shares the object of a held run whose row was deleted is spared', async () => {
    const { insertRun, query, store } = database();
    const held = await insertRun({ key: 'shared' });
    const other = await insertRun({ key: 'shared' });
    await hold(held);
    await drop(held);
    const [due] = await store.dueGroups({});
    expect(due).toBeUndefined();
    const claim = await flagAndClaim();
    expect(claim?.keys).toEqual([]);
    expect(claim?.spared).toBe(1);
    expect((await database().run(other)).result_cleared_at).toBeNull();
    // Noted, so that no pass flags it again before the hold has ended.
    expect(await query('select until::text from retention.shared_object')).toEqual([
      { until: 'infinity' },
    ]);
    expect(await query('select * from retention.explain($1)', [other])).toMatchObject([
      {
        state: 'held',
        because: expect.stringMatching(/^hold \d+ on its object.*audit/u) as string,
      },
    ]);
  });

  test('early deletion, runs named one by one and batches of many sharers are no way past it', async () => {
    const { insertRun, insertRuns, store } = database();
    const held = await insertRun({ key: 'shared', completedAgo: '5 days' });
    const others = await insertRuns({ key: 'shared', completedAgo: '5 days', count: 40 });
    const free = await insertRun({ completedAgo: '5 days' });
    await hold(held);
    await drop(held);
    const early = { olderThanSeconds: 86_400, early: true } as const;
    expect(await dueRuns(database(), early)).toMatchObject([{ run_id: free }]);
    expect(await store.flagSelected({ ...early, runIds: others })).toMatchObject({ selected: 0 });
    // Flagged before the hold was placed.
    await database().query(
      `insert into retention.batch (bucket, results, oldest, newest, early, run_ids, keys, tenants)
      select 'dpp-results', count(*), min(completed_at), max(completed_at), '1 day',
        array_agg(run_id), array_agg(retention._pack_key(result_s3_key, run_id::text)), array_agg(tenant_id)
      from runs`,
    );
    await database().query(
      `insert into retention.bucket (bucket) values ('dpp-results') on conflict do nothing`,
    );
    await database().query(
      `insert into retention.cutoff select flagged_at, now() + interval '1 hour' from retention.batch`,
    );
    const [{ ids } = { ids: [] }] = await database().query<{ ids: number[] }>(
      'select array_agg(batch_id)::int[] as ids from retention.batch',
    );
    const claim = await store.claim({
      lease: crypto.randomUUID(),
      leaseSeconds: 60,
      by: 'test',
      batchIds: ids,
    });
    expect(claim?.keys).toEqual([keyOf(free)]);
    expect(claim?.spared).toBe(40);
  });

  test('of a batch, exactly what is held is spared', async () => {
    const { insertRun, insertRuns } = database();
    const held = await insertRun({ key: 'results/kept' });
    await insertRun({ key: 'results/kept' });
    const free = await insertRuns({ count: 5 });
    await hold(held);
    await drop(held);
    const claim = await flagAndClaim();
    expect(claim?.keys.toSorted()).toEqual(free.map((id) => keyOf(id)).toSorted());
    expect(claim?.spared).toBe(1);
  });

  test('when the held run names another object by now, both are kept', async () => {
    const { insertRun, query } = database();
    const held = await insertRun({ key: 'first' });
    await hold(held);
    await query(`update runs set result_s3_key = 'second' where run_id = $1`, [held]);
    await insertRun({ key: 'first' });
    await insertRun({ key: 'second' });
    expect((await flagAndClaim())?.keys).toEqual([]);
    // Within an hour the second is known too, and its row may go.
    await query('select retention._clean_up()');
    await drop(held);
    expect(await query('select key from retention.held_object order by key')).toEqual([
      { key: 'first' },
      { key: 'second' },
    ]);
    await query('delete from retention.shared_object');
    expect((await flagAndClaim())?.keys).toEqual([]);
  });

  test('a run that names no object yet is said to, and its object is noted once it does', async () => {
    const { insertRun, query, store } = database();
    const held = await insertRun({ key: null, status: 'RUNNING', completedAgo: null });
    expect(await hold(held)).toMatchObject({ bucket: null, key: null, objects: 0 });
    await query(`update runs set result_s3_key = 'late' where run_id = $1`, [held]);
    await query('select retention._clean_up()');
    const found = { bucket: 'dpp-results', key: 'late', objects: 1 };
    expect(await store.listHolds({ all: false })).toMatchObject([found]);
  });

  test('a hold on a tenant keeps the objects of its results, also of deleted rows that are flagged', async () => {
    const { insertRun, query, store } = database();
    const gone = await insertRun({ tenant: 'held', key: 'flagged' });
    await query('select retention.flag_expired()');
    await drop(gone);
    const there = await insertRun({ tenant: 'held', key: 'young', completedAgo: '5 days' });
    const [placed] = await store.placeHolds({ tenantIds: ['held'], reason: 'audit' });
    expect(placed).toMatchObject({ objects: 2, bucket: null, key: null });
    await drop(there);
    await insertRun({ tenant: 'other', key: 'flagged' });
    await insertRun({ tenant: 'other', key: 'young' });
    expect((await flagAndClaim())?.keys ?? []).toEqual([]);
    expect((await flagAndClaim())?.keys ?? []).toEqual([]);
    expect(await database().countStamped()).toBe(0);
  });

  test('when the hold has ended, its object may go again, and is forgotten', async () => {
    const { insertRun, query, store } = database();
    const held = await insertRun({ key: 'shared' });
    await insertRun({ key: 'shared' });
    const placed = await hold(held);
    await drop(held);
    expect((await flagAndClaim())?.keys).toEqual([]);
    await store.releaseHolds([placed?.hold_id ?? 0]);
    await query('select retention.flag_expired(p_whole => true)');
    expect((await flagAndClaim())?.keys).toEqual(['shared']);
    await query('select retention._clean_up()');
    expect(await query('select from retention.held_object')).toEqual([]);
    // What it was on stays known.
    expect(await store.listHolds({ all: true })).toMatchObject([{ key: 'shared' }]);
  });

  test('a hold that expires by itself covers nothing any more', async () => {
    const { insertRun, query } = database();
    const held = await insertRun({ key: 'shared' });
    await insertRun({ key: 'shared' });
    await hold(held);
    await drop(held);
    await query(
      `update retention.hold set placed_at = now() - interval '2 hours', expires_at = now() - interval '1 hour'`,
    );
    expect((await flagAndClaim())?.keys).toEqual(['shared']);
  });

  test('a hold on a tenant of many results makes the claims of others read nothing more', async () => {
    const { insertRuns, store, connect } = database();
    await insertRuns({ count: 20_000, tenant: 'big', completedAgo: '5 days' });
    await insertRuns({ count: 1_000, tenant: 'small' });
    const [placed] = await store.placeHolds({ tenantIds: ['big'], reason: 'audit' });
    expect(placed).toMatchObject({ objects: 20_000, too_late: 0 });
    await store.flagExpired({ by: 'test' });
    // As fresh as it is, nothing is known of the table of held objects.
    const session = await connect();
    await session.query('begin');
    const claim = `select cardinality(keys) as keys from retention.claim(gen_random_uuid(), '1 minute')`;
    expect((await session.query(claim)).rows).toEqual([{ keys: 1_000 }]);
    const { rows } = await session.query<{ fetched: number }>(
      `select idx_tup_fetch::int + seq_tup_read::int as fetched
      from pg_stat_xact_user_tables where relname = 'held_object'`,
    );
    await session.query('rollback');
    expect(rows[0]?.fetched).toBeLessThan(1_000);
  });
});
