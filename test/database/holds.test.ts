import type pg from 'pg';
import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { HoldRace } from '../support/hold-race.ts';
import { keyOf, useMigrated } from '../support/migrated.ts';
import { until } from '../support/until.ts';

describeDatabase('promise 5: a hold wins', () => {
  const database = useMigrated();

  const RUNS = 36_000;
  const PLACEMENTS = 10_000;

  /** What S3 did not do is claimed again at once. */
  const AT_ONCE = { pause_base: `'1 millisecond'`, retry_cap: `'1 millisecond'` };

  test('no hold of 10,000 that are placed while claims run flat out is followed by a deletion', async ({
    annotate,
  }) => {
    const { insertRuns, set, query, store, connect } = database();
    // Small batches: as many claims as can be, for the holds to fall between.
    await set({ batch_size: '4', flag_limit: '1000', ...AT_ONCE });
    const runIds = await insertRuns({ count: RUNS });
    await query('analyze runs');
    while ((await store.flagExpired({ by: 'test' })) > 0);
    const clients = await Promise.all(Array.from({ length: 8 }, () => connect()));
    const race = new HoldRace(runIds);
    await race.run({
      claimers: clients.slice(0, 4),
      placers: clients.slice(4),
      holds: PLACEMENTS,
      settleOneOf: 5,
    });

    expect(race.violations).toEqual([]);
    expect(race.placed).toBe(PLACEMENTS);
    // The race was one: holds came before, in the middle of, and after the claims of their runs.
    expect(race.tooLate).toBeGreaterThan(0);
    expect(race.sparedByHold).toBeGreaterThan(0);
    expect(race.claims).toBeGreaterThan(1_000);
    await annotate(
      `${race.claims} claims, ${race.tooLate} holds too late, ${race.sparedByHold} spared; ` +
        `the longest wait of place_hold was ${Math.round(race.longestWaitMs)} ms`,
    );
  }, 90_000);

  test('a hold waits only for the claims that are just being made, also of whole batches', async ({
    annotate,
  }) => {
    const { insertRuns, query, set, connect } = database();
    await set(AT_ONCE);
    const runIds = await insertRuns({ count: 20_000 });
    await query('analyze runs');
    await query('select retention.flag_expired()');
    const clients = await Promise.all(Array.from({ length: 8 }, () => connect()));
    const race = new HoldRace(runIds);
    await race.run({
      claimers: clients.slice(0, 6),
      placers: clients.slice(6),
      holds: 300,
      settleOneOf: 20,
    });
    expect(race.violations).toEqual([]);
    expect(race.longestWaitMs).toBeLessThan(10_000);
    await annotate(
      `batches of 1,000: ${race.claims} claims, the longest wait of place_hold was ` +
        `${Math.round(race.longestWaitMs)} ms`,
    );
  }, 60_000);

  /** Flags and claims everything. */
  async function claimAll() {
    const { query, store } = database();
    await query('select retention.flag_expired(p_whole => true)');
    return store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'test' });
  }

  test('a hold on a run in flight says that it is too late', async () => {
    const { store, insertRuns } = database();
    const [first, second] = await insertRuns({ count: 2 });
    expect((await claimAll())?.keys).toHaveLength(2);
    const later = await database().insertRun();
    const holds = await store.placeHolds({ runIds: [first ?? '', later], reason: 'audit' });
    const byRun = new Map(holds.map((hold) => [hold.run_id, hold]));
    expect(byRun.get(first ?? '')).toMatchObject({ too_late: 1, too_late_run_ids: [first] });
    expect(byRun.get(later)).toMatchObject({ too_late: 0, too_late_run_ids: [] });
    // Also when the lease has run out: whoever had it may still be at it.
    await database().expireLeases();
    const [late] = await store.placeHolds({ runIds: [second ?? ''], reason: 'audit' });
    expect(late).toMatchObject({ too_late: 1 });
    const again = await store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'other' });
    expect(again).toMatchObject({ keys: [], spared: 2 });
  });

  test('a hold on a tenant says which of its runs are in flight', async () => {
    const { store, insertRuns } = database();
    const acme = await insertRuns({ count: 3, tenant: 'acme' });
    await insertRuns({ count: 2, tenant: 'globex' });
    await claimAll();
    const [hold] = await store.placeHolds({ tenantIds: ['acme'], reason: 'audit' });
    expect(hold).toMatchObject({ too_late: 3, too_late_run_ids: acme.toSorted() });
  });

  test('a hold waits for a claim under way, and a claim for a hold', async () => {
    const { connect, insertRun, query, store } = database();
    const runId = await insertRun();
    await query('select retention.flag_expired()');
    const claimer = await connect();
    await claimer.query('begin');
    const claimed = await claimer.query('select * from retention.claim(gen_random_uuid(), $1)', [
      '1 minute',
    ]);
    expect(claimed.rows).toMatchObject([{ keys: [keyOf(runId)] }]);
    const placing = store.placeHolds({ runIds: [runId], reason: 'audit' });
    await waitsForLock(claimer);
    await claimer.query('commit');
    expect(await placing).toMatchObject([{ too_late: 1 }]);

    const other = await insertRun();
    await query('select retention.flag_expired(p_whole => true)');
    const placer = await connect();
    await placer.query('begin');
    await placer.query(`select retention.place_hold('audit', $1)`, [other]);
    const claiming = store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'test' });
    await waitsForLock(placer);
    await placer.query('commit');
    expect(await claiming).toMatchObject({ keys: [], spared: 1 });
  });

  async function waitsForLock(blocker: pg.Client): Promise<void> {
    const { rows } = await blocker.query<{ pid: number }>('select pg_backend_pid() as pid');
    await until('somebody waits for it', async () => {
      const waiting = await database().query(
        'select from pg_stat_activity where $1 = any (pg_blocking_pids(pid))',
        [rows[0]?.pid],
      );
      return waiting.length > 0;
    });
  }

  test('a hold that is not committed holds nothing', async () => {
    const { connect, insertRun } = database();
    const runId = await insertRun();
    const placer = await connect();
    await placer.query('begin');
    await placer.query(`select retention.place_hold('audit', $1)`, [runId]);
    await placer.query('rollback');
    expect(await claimAll()).toMatchObject({ keys: [keyOf(runId)] });
  });

  test('several holds are placed together or not at all', async () => {
    const { store, insertRuns } = database();
    const runIds = await insertRuns({ count: 3 });
    const missing = crypto.randomUUID();
    await expect(
      store.placeHolds({ runIds: [...runIds, missing], reason: 'audit' }),
    ).rejects.toThrow(`there is no run ${missing} to hold`);
    expect(await store.listHolds({ all: true })).toEqual([]);
    expect(await store.placeHolds({ runIds, reason: 'audit', by: 'kim' })).toHaveLength(3);
    expect(await store.listHolds({ all: false })).toMatchObject(
      Array.from({ length: 3 }, () => ({ reason: 'audit', placed_by: 'kim', active: true })),
    );
  });

  test.each([
    ['no reason', { runIds: [crypto.randomUUID()], reason: ' ' }, 'a hold needs a reason'],
    ['a run id of another type', { runIds: ['42'], reason: 'x' }, '42 is not a run id'],
    ['an unknown run', { runIds: [crypto.randomUUID()], reason: 'x' }, 'there is no run'],
    ['an unknown tenant', { tenantIds: ['nobody'], reason: 'x' }, 'there is no run of tenant'],
    ['no time at all', { tenantIds: ['acme'], reason: 'x', forSeconds: 0 }, 'longer than no time'],
  ])('with %s, it is refused and nothing is held', async (_, request, message) => {
    const { store, insertRun } = database();
    await insertRun();
    await expect(store.placeHolds(request)).rejects.toThrow(message);
    expect(await store.listHolds({ all: true })).toEqual([]);
  });

  test('a hold ends by itself when its time is over', async () => {
    const { store, insertRun, query } = database();
    const runId = await insertRun();
    await store.placeHolds({ runIds: [runId], reason: 'audit', forSeconds: 3_600 });
    expect(await claimAll()).toBeUndefined();
    await query(`update retention.hold set expires_at = now() - interval '1 second'`);
    expect(await store.listHolds({ all: false })).toEqual([]);
    expect(await store.listHolds({ all: true })).toMatchObject([{ active: false }]);
    expect(await claimAll()).toMatchObject({ keys: [keyOf(runId)] });
  });

  test('a hold is released once, and an unknown one is said to be unknown', async () => {
    const { store, insertRun } = database();
    const runId = await insertRun();
    const [hold] = await store.placeHolds({ runIds: [runId], reason: 'audit' });
    const holdId = hold?.hold_id ?? 0;
    await expect(store.releaseHolds([holdId, 999_999])).rejects.toThrow('there is no hold 999999');
    expect(await store.listHolds({ all: false })).toHaveLength(1);
    expect(await store.releaseHolds([holdId], 'kim')).toEqual([
      { hold_id: holdId, released: true, due: null },
    ]);
    expect(await store.releaseHolds([holdId])).toEqual([
      { hold_id: holdId, released: false, due: null },
    ]);
    expect(await store.listHolds({ all: true })).toMatchObject([{ released_by: 'kim' }]);
    expect(await claimAll()).toMatchObject({ keys: [keyOf(runId)] });
  });

  test('a tenant that is released comes back little by little, and all of it in the end', async () => {
    const { store, insertRuns, query } = database();
    await insertRuns({ count: 800 });
    const [hold] = await store.placeHolds({ tenantIds: ['acme'], reason: 'audit' });
    await store.releaseHolds([hold?.hold_id ?? 0]);
    const flagged: number[] = [];
    for (const minutes of [0, 15, 30, 45, 60]) {
      await query(
        `update retention.hold set released_at = now() - $1::int * interval '1 minute' - interval '1 second'`,
        [minutes],
      );
      await query('select retention.flag_expired(p_whole => true)');
      flagged.push((await query('select from retention.flagged')).length);
    }
    const [atOnce = 0, quarter = 0, half = 0, threeQuarters = 0, all = 0] = flagged;
    expect(atOnce).toBeLessThan(10);
    expect(quarter).toBeGreaterThan(100);
    expect(quarter).toBeLessThan(300);
    expect(half).toBeGreaterThan(300);
    expect(half).toBeLessThan(500);
    expect(threeQuarters).toBeGreaterThan(500);
    expect(threeQuarters).toBeLessThan(700);
    expect(all).toBe(800);
  });
});
