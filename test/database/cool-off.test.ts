import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { examineWith } from '../support/doctor.ts';
import { useMigrated } from '../support/migrated.ts';
import { until } from '../support/until.ts';

describeDatabase('cool-off: a flagged result waits before it may be claimed', () => {
  const database = useMigrated();

  const claim = (
    batchIds?: readonly number[],
  ): ReturnType<ReturnType<typeof database>['store']['claim']> =>
    database().store.claim({
      lease: crypto.randomUUID(),
      leaseSeconds: 60,
      by: 'test',
      ...(batchIds === undefined ? {} : { batchIds }),
    });
  /** Lets the cool-off of what is flagged pass by so much. */
  const wait = (interval: string): Promise<unknown> =>
    database().query(`update retention.batch set flagged_at = flagged_at - interval '${interval}',
      visible_at = visible_at - interval '${interval}'`);

  test('both sides of the moment', async () => {
    await database().set({ cool_off: `interval '1 day'` });
    await database().insertRuns({ count: 3 });
    await database().store.flagExpired({ by: 'test' });
    expect(await claim()).toBeUndefined();
    await wait('23:59:50');
    expect(await claim()).toBeUndefined();
    await wait('10 seconds');
    expect((await claim())?.keys).toHaveLength(3);
  });

  test('none by default, and then nothing is written twice', async () => {
    await database().insertRuns({ count: 3 });
    await database().store.flagExpired({ by: 'test' });
    expect(
      await database().query('select visible_at = flagged_at as at_once from retention.batch'),
    ).toEqual([{ at_once: true }]);
    expect((await claim())?.keys).toHaveLength(3);
  });

  test('a longer one holds at once for what is flagged and waits', async () => {
    await database().insertRuns({ count: 3 });
    await database().store.flagExpired({ by: 'test' });
    await database().query(`select retention.set_guard('cool_off', '2 days')`);
    expect(await claim()).toBeUndefined();
    await wait('2 days');
    expect((await claim())?.keys).toHaveLength(3);
  });

  test('also where a pass is flagging while it is set', async () => {
    const { connect, insertRuns, query } = database();
    await insertRuns({ count: 3 });
    const pass = await connect();
    await pass.query('begin');
    await pass.query('select retention.flag_expired()');
    const setting = await connect();
    let isDone = false;
    const set = setting.query(`select retention.set_guard('cool_off', '2 days')`).finally(() => {
      isDone = true;
    });
    await until('the setting to wait for the pass', async () => {
      const waiting = await query('select from pg_locks where not granted');
      return isDone || waiting.length > 0;
    });
    await pass.query('commit');
    await set;
    expect(
      await query('select visible_at > now() + $$1 day$$::interval as waits from retention.batch'),
    ).toEqual([{ waits: true }]);
  });

  test('a shorter one and none let go what waits for the former', async () => {
    await database().set({ cool_off: `interval '2 days'` });
    await database().insertRuns({ count: 3 });
    await database().store.flagExpired({ by: 'test' });
    await database().query(`select retention.set_guard('cool_off', '1 day')`);
    expect(await claim()).toBeUndefined();
    await wait('1 day');
    expect((await claim())?.keys).toHaveLength(3);
    await database().insertRuns({ count: 2 });
    await database().store.flagExpired({ by: 'test' });
    await database().query(`select retention.set_guard('cool_off', 'none')`);
    expect((await claim())?.keys).toHaveLength(2);
  });

  test('a shorter one brings no retry forward', async () => {
    const { set, insertRuns, failRuns, query } = database();
    await set({ cool_off: `interval '2 days'` });
    const runs = await insertRuns({ count: 2 });
    await failRuns(runs);
    await query(`update retention.batch set visible_at = now() + interval '3 hours'`);
    await query(`select retention.set_guard('cool_off', 'none')`);
    expect(
      await query(
        'select visible_at > now() + $$2 hours$$::interval as waits from retention.batch',
      ),
    ).toEqual([{ waits: true }]);
  });

  test('a hold placed meanwhile wins', async () => {
    const { insertRun, set, query, store } = database();
    await set({ cool_off: `interval '1 day'` });
    const run = await insertRun();
    await store.flagExpired({ by: 'test' });
    await query(`select * from retention.place_hold('audit', '${run}')`);
    await wait('1 day');
    expect((await claim())?.keys ?? []).toEqual([]);
  });

  test('what a person narrows or selects early does not wait', async () => {
    const { set, insertRuns, store } = database();
    await set({ cool_off: `interval '1 day'` });
    const runs = await insertRuns({ count: 2 });
    await store.flagExpired({ by: 'test' });
    const { batchIds } = await store.flagSelected({ runIds: runs });
    expect((await claim(batchIds))?.keys).toHaveLength(2);
  });

  test('the clock that brings back what lies too far ahead does not cut it', async () => {
    const { set, insertRuns, query, store } = database();
    await set({ cool_off: `interval '30 days'` });
    await insertRuns({ count: 2 });
    await store.flagExpired({ by: 'test' });
    expect(await query('select what from retention.times_ahead()')).toEqual([]);
    await store.tick('internal');
    expect(await claim()).toBeUndefined();
    // A clock that was a year ahead: it waits from now on.
    await wait('-365 days');
    expect(await query('select what from retention.times_ahead()')).toEqual([
      { what: 'next attempts' },
    ]);
    await query('select retention._bring_back_times()');
    expect(
      await query(
        `select visible_at between now() + interval '29 days' and now() + interval '31 days' as waits from retention.batch`,
      ),
    ).toEqual([{ waits: true }]);
  });

  test('status, explain, the pulse, the causes and doctor say until when', async () => {
    const { set, insertRuns, query, store, url } = database();
    await set({ cool_off: `interval '1 day'` });
    const [run = ''] = await insertRuns({ count: 2 });
    await store.flagExpired({ by: 'test' });
    const status = await store.readStatus();
    expect(status).toMatchObject({ flagged: 2, cooling: 2 });
    const first = status.cooling_until?.toISOString() ?? '';
    expect((await store.explain([run]))[0]?.because).toContain(
      `it waits for its cool-off until ${first}`,
    );
    expect(await store.readWaitCauses()).toContainEqual(
      expect.objectContaining({ what: 'the cool-off', results: 2, ends_at: status.cooling_until }),
    );
    expect(await query('select kind, reason, results from retention.unsettled()')).toEqual([
      { kind: 'cooling', reason: 'it waits for its cool-off', results: '2' },
    ]);
    const pulse = await store.pulse();
    expect(pulse.nextVisibleSeconds ?? 0).toBeGreaterThan(86_000);
    const { check } = await examineWith({ DATABASE_URL: url });
    expect(check('cool-off').found).toContain(
      `2 results wait for it; the first may go at ${first}`,
    );
  });
});
