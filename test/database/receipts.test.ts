import { expect, test } from 'vitest';
import { PRODUCT_VERSION } from '../../src/store/version.ts';
import { describeDatabase } from '../support/database.ts';
import { until } from '../support/until.ts';
import { failuresOf, keyOf, type LeasedClaim, useMigrated } from '../support/migrated.ts';

interface Told extends Record<string, unknown> {
  readonly kind: string;
  readonly runs: readonly string[];
  readonly keys: readonly string[];
  readonly tenants: readonly (string | null)[];
  readonly ends: readonly string[] | null;
  readonly versions: readonly (string | null)[] | null;
  readonly request_ids: readonly string[] | null;
  readonly asked_by: string | null;
  readonly revision: number | null;
  readonly settled_session: string;
  readonly product: string | null;
}

const RECEIPTS = `
select r.source, r.kind, r.bucket, r.run_ids::text[] as runs, r.tenants, r.ends, r.versions, r.request_ids, r.asked_by, r.revision,
  r.settled_session, r.product,
  array(select retention._unpack_key(u.key, u.run_id::text) from unnest(r.run_ids, r.keys) as u (run_id, key)) as keys
from retention._receipt r
order by r.settled_at, r.id`;

describeDatabase('what a receipt says', () => {
  const database = useMigrated();
  const receipts = (): Promise<Told[]> => database().query<Told>(RECEIPTS);
  const flag = (): Promise<unknown> => database().query('select retention.flag_expired()');
  const settleAll = (claim: LeasedClaim, more: object = {}) =>
    database().store.settle(claim.batchId, claim.lease, {
      cleared: 'all',
      failed: [],
      milliseconds: 1,
      ...more,
    });
  /** Flags, claims and clears whatever is due; why its receipts say it went. */
  const deleteDue = async (): Promise<void> => {
    await flag();
    for (;;) {
      const lease = crypto.randomUUID();
      const claim = await database().store.claim({ lease, leaseSeconds: 60, by: 'test' });
      if (claim === undefined) return;
      await settleAll({ ...claim, lease });
    }
  };

  test('an ordinary batch says who deleted it, by which revision, and in which request of S3', async () => {
    await database().query(
      `insert into retention.change (subject, action, after) values ('policy', 'insert', '{}')`,
    );
    const [runId] = await database().insertRuns();
    await flag();
    await settleAll(await database().claimNext('host:1'), { requestIds: ['R1', 'R2'] });
    const [{ newest } = { newest: 0 }] = await database().query<{ newest: number }>(
      'select max(change_id)::int as newest from retention.change',
    );
    expect(await receipts()).toMatchObject([
      {
        source: 'batch',
        kind: 'policy',
        runs: [runId],
        ends: null,
        versions: null,
        request_ids: ['R1', 'R2'],
        asked_by: null,
        settled_session: 'postgres',
        product: PRODUCT_VERSION,
      },
    ]);
    expect(await database().one('select leased_by, revision::int from retention.batch')).toEqual({
      leased_by: 'host:1',
      revision: newest,
    });
  });

  test('each result has its own end and version, whichever were deleted, and of two runs on one key both', async () => {
    const runs = await database().insertRuns({ count: 4 });
    const twins = await database().insertRuns({ count: 2, key: 'results/both' });
    await flag();
    const claim = await database().claimNext();
    const keys = [keyOf(runs[0] ?? ''), keyOf(runs[1] ?? ''), keyOf(runs[2] ?? ''), 'results/both'];
    const failed = failuresOf([keyOf(runs[3] ?? '')]);
    const ends = new Map([
      [keys[1] ?? '', { end: 'gone' as const }],
      [keys[2] ?? '', { end: 'marker' as const, version: 'v1' }],
      ['results/both', { end: 'marker' as const, version: 'v2' }],
      ['another', { end: 'gone' as const }],
    ]);
    await settleAll(claim, { cleared: keys, failed, ends });
    const [receipt] = await receipts();
    const told = Object.fromEntries(
      (receipt?.runs ?? []).map((run, n) => [run, [receipt?.ends?.[n], receipt?.versions?.[n]]]),
    );
    expect(told).toEqual({
      [runs[0] ?? '']: ['deleted', null],
      [runs[1] ?? '']: ['gone', null],
      [runs[2] ?? '']: ['marker', 'v1'],
      [twins[0] ?? '']: ['marker', 'v2'],
      [twins[1] ?? '']: ['marker', 'v2'],
    });
    expect(receipt?.keys).toHaveLength(5);
  });

  test('asked again after its answer was lost, a settle writes nothing twice; ends that are none change nothing', async () => {
    const runs = await database().insertRuns({ count: 2 });
    await flag();
    const claim = await database().claimNext();
    for (const ends of ['[]', '"gone"', '{"K": "gone"}', '{"K": {"end": "lost"}}', '{"K": {}}']) {
      const work = database().query(
        `select retention.settle($1, $2::uuid, p_all => true, p_ends => $3::jsonb)`,
        [claim.batchId, claim.lease, ends.replace('K', keyOf(runs[0] ?? ''))],
      );
      await expect(work).rejects.toMatchObject({ code: '22023' });
    }
    expect(await receipts()).toEqual([]);
    expect(await database().countStamped()).toBe(0);
    const ends = new Map([[keyOf(runs[1] ?? ''), { end: 'gone' as const }]]);
    await settleAll(claim, { requestIds: ['R1'], ends });
    await settleAll(claim, { requestIds: ['R2'] });
    const told = [{ runs, ends: ['deleted', 'gone'], versions: null, request_ids: ['R1'] }];
    expect(await receipts()).toMatchObject(told);
  });

  test('what is deleted and cannot be stamped keeps what its receipt will say, over retries too', async () => {
    const { query, insertRuns, store, set } = database();
    const [stuck = '', other = '', fine = ''] = await insertRuns({ count: 3 });
    await set({ max_attempts: '1' });
    await query(`
      insert into retention.change (subject, action, after) values ('policy', 'insert', '{}');
      create function public.stop_stuck() returns trigger language plpgsql as
        $$ begin raise exception 'not this one'; end $$;
      create trigger stop_stuck before update of result_cleared_at on runs for each row
        when (new.result_cleared_at is not null and new.run_id in ('${stuck}', '${other}'))
        execute function public.stop_stuck()`);
    try {
      await flag();
      const claim = await database().claimNext('host:1');
      const ends = new Map([
        [keyOf(stuck), { end: 'marker' as const, version: 'v1' }],
        [keyOf(fine), { end: 'gone' as const }],
      ]);
      const settled = await settleAll(claim, { ends, requestIds: ['R1'] });
      expect(settled).toMatchObject({ cleared: 1, dead: 2 });
      expect(await receipts()).toMatchObject([{ runs: [fine], ends: ['gone'], versions: [null] }]);
      await store.retry({ runIds: [stuck, other] });
    } finally {
      await query('drop trigger stop_stuck on runs; drop function public.stop_stuck()');
    }
    expect(await store.stampAgain()).toMatchObject({ stamped: 2, waiting: 0 });
    const told = (await receipts()).find(({ runs }) => runs.includes(stuck));
    expect(told).toMatchObject({
      runs: [stuck, other],
      ends: ['marker', 'deleted'],
      versions: ['v1', null],
      request_ids: ['R1'],
      settled_session: 'postgres',
      product: PRODUCT_VERSION,
    });
    expect(
      await query('select distinct leased_by, revision is not null as has from retention.batch'),
    ).toEqual([{ leased_by: 'host:1', has: true }]);
  });

  test('a call that failed after S3 had deleted something leaves its requests to the receipt, however its batch is cut', async () => {
    const { insertRuns, store, passRetryTimes, claimNext } = database();
    await insertRuns({ count: 4 });
    await flag();
    const first = await claimNext();
    const problem = { code: 'SlowDown', message: 'slow', requestIds: ['R1'] };
    await store.postpone(first.batchId, first.lease, problem);
    await passRetryTimes();
    const second = await claimNext();
    await store.split(second.batchId, second.lease);
    const half = await claimNext();
    await settleAll(half, { requestIds: ['R2'] });
    const rest = await claimNext();
    const [refused = '', ...cleared] = rest.keys;
    const failed = failuresOf([refused]);
    await settleAll(rest, { cleared, failed, requestIds: ['R3'] });
    await passRetryTimes();
    await settleAll(await claimNext(), { requestIds: ['R4'] });
    expect((await receipts()).map(({ request_ids }) => request_ids)).toEqual([
      ['R1', 'R2'],
      ['R1', 'R3'],
      ['R1', 'R4'],
    ]);
  });

  test('an early deletion says so and by whom, but not of what was due without it', async () => {
    const { insertRuns, query, store } = database();
    const [due = ''] = await insertRuns();
    const [young = '', left = ''] = await insertRuns({ count: 2, completedAgo: '5 days' });
    const early = (runIds: string[]) =>
      store.flagSelected({ runIds, early: true, olderThanSeconds: 86_400, expected: 1 });
    const { batchIds } = await early([due, young]);
    for (const _ of batchIds) {
      const lease = crypto.randomUUID();
      const claim = await store.claim({ lease, leaseSeconds: 60, by: 'test', batchIds });
      if (claim !== undefined) await settleAll({ ...claim, lease });
    }
    const told = (await receipts()).map(({ kind, runs, asked_by }) => ({ kind, runs, asked_by }));
    expect(told).toHaveLength(2);
    expect(told).toContainEqual({ kind: 'policy', runs: [due], asked_by: 'postgres' });
    expect(told).toContainEqual({ kind: 'early', runs: [young], asked_by: 'postgres' });
    // Its command is gone, and the policy has come to it.
    await early([left]);
    await query(
      `truncate retention.cutoff; update runs set completed_at = completed_at - interval '40 days' where run_id = '${left}'`,
    );
    await query(
      `update retention.batch set oldest = oldest - interval '40 days' where settled_at is null`,
    );
    await settleAll(await database().claimNext());
    expect((await receipts()).at(-1)).toMatchObject({
      kind: 'policy',
      runs: [left],
      asked_by: null,
    });
  });

  test('a receipt says how long the policy kept each result, whatever becomes of the policy, or after how long a person asked for it', async () => {
    const { insertRun, query, store, one } = database();
    await store.setPolicy('globex', 20, false, true);
    const usual = await insertRun();
    const own = await insertRun({ tenant: 'globex' });
    const young = await insertRun({ completedAgo: '5 days' });
    await flag();
    const claim = await database().claimNext();
    await query(`update retention.policy set retain = '25 days' where tenant_id = 'globex'`);
    await settleAll(claim);
    await query(`delete from retention.policy where tenant_id = 'globex'`);
    const early = { runIds: [young], early: true, olderThanSeconds: 86_400, expected: 1 };
    const { batchIds } = await store.flagSelected(early);
    const lease = crypto.randomUUID();
    const asked = await store.claim({ lease, leaseSeconds: 60, by: 'test', batchIds });
    if (asked !== undefined) await settleAll({ ...asked, lease });
    await store.sealNow();
    const expected = { [usual]: '30 days', [own]: '20 days', [young]: '1 day' };
    const exported = await query<{ leaves: string[] }>(
      `select array(select json_array_elements_text(document -> 'leaves')) as leaves
      from retention.export_seals() where document ->> 'kind' = 'receipt'`,
    );
    const leaves = exported.flatMap((row) =>
      row.leaves.map((text) => JSON.parse(text) as string[]),
    );
    expect(Object.fromEntries(leaves.map((leaf) => [leaf[0], leaf[5]]))).toEqual(expected);
    for (const [runId, length] of Object.entries(expected)) {
      const words =
        runId === young
          ? `asked for before its time, after ${length}`
          : `by its policy of ${length}`;
      const [now] = await store.explain([runId]);
      const [then] = await store.explainAt([runId], new Date());
      const history = await store.readHistory({ runId });
      const told = history.find(({ subject }) => subject === 'receipt')?.what;
      for (const said of [now?.because, then?.because, told]) {
        expect(said).toContain(words);
      }
    }
    const { told } = await one<{ told: unknown }>(
      `select jsonb_object_agg(run_id, retain) as told
      from retention.certificate_results('acme', now() - interval '20 days', now())`,
    );
    expect(told).toEqual({ [usual]: '30 days', [young]: '1 day' });
  });

  test('a surge and a retry say whose command put it to work', async () => {
    const { insertRuns, query, store, set } = database();
    const [late = ''] = await insertRuns();
    await set({ surge_guard: '0' });
    await flag();
    const [surge] = await store.listSurges();
    expect(await store.releaseSurge(surge?.surge_id ?? 0, 1)).toBe(1);
    await settleAll(await database().claimNext());
    await set({ surge_guard: 'null' });
    const [dead = ''] = await insertRuns();
    await flag();
    await query(
      `update retention.batch set failed_at = now(), dead_at = now(), code = 'x', error = 'x' where settled_at is null`,
    );
    await store.retry({ all: true });
    await settleAll(await database().claimNext());
    expect(await receipts()).toMatchObject([
      { kind: 'policy', runs: [late], asked_by: 'postgres' },
      { kind: 'policy', runs: [dead], asked_by: 'postgres' },
    ]);
  });

  test('what was restored, or found again by a verify, says so when it is deleted again, and only it', async () => {
    const { insertRuns, query, store } = database();
    const [restored = '', found = '', moved = ''] = await insertRuns({ count: 3 });
    await deleteDue();
    await store.unstamp(restored, { restored: true, version: 'v7' });
    await store.unstamp(moved);
    await query(`update runs set result_s3_key = 'results/another' where run_id = '${moved}'`);
    const start = await store.beginVerify();
    await query(
      `insert into retention.stray (verify_id, bucket, key, bytes, modified_at, kind)
      values ($1, 'dpp-results', $2, 1, now(), 'returned')`,
      [start.verifyId, keyOf(found)],
    );
    expect(await store.requeueReturned({ ...start, startedAt: new Date(Date.now() + 1_000) })).toBe(
      1,
    );
    const [fresh = ''] = await insertRuns();
    // Flagged together, they are told apart by their claims.
    await deleteDue();
    const told = (await receipts()).map(({ source, kind, runs, versions }) => ({
      source,
      kind,
      runs,
      versions,
    }));
    expect(told.slice(1, 4)).toEqual([
      { source: 'receipt', kind: 'restored', runs: [restored], versions: ['v7'] },
      { source: 'receipt', kind: 'unstamped', runs: [moved], versions: null },
      { source: 'receipt', kind: 'unstamped', runs: [found], versions: null },
    ]);
    const again = new Map(told.slice(4).map(({ kind, runs }) => [kind, runs]));
    expect(again.get('after_restore')).toEqual([restored]);
    expect(again.get('verify')).toEqual([found]);
    expect(new Set(again.get('policy'))).toEqual(new Set([moved, fresh]));
    // Once: the next life of the run is another result, and what went on is forgotten.
    await query('select retention._forget_returned()');
    expect(await query('select from retention.returned_result')).toEqual([]);
    await query(`update runs set result_cleared_at = null where run_id = '${restored}'`);
    await deleteDue();
    expect((await receipts()).at(-1)).toMatchObject({ kind: 'policy', runs: [restored] });
  });

  test('a stamp that a trigger puts back has no receipt of having been taken away', async () => {
    const { insertRuns, query, store } = database();
    const [runId = ''] = await insertRuns({ clearedAgo: '1 day' });
    await query(`
      create function public.keep_stamp() returns trigger language plpgsql as
        $$ begin new.result_cleared_at := coalesce(new.result_cleared_at, old.result_cleared_at); return new; end $$;
      create trigger keep_stamp before update on runs for each row execute function public.keep_stamp()`);
    try {
      expect(await store.unstamp(runId)).toBe(false);
      expect(await receipts()).toEqual([]);
    } finally {
      await query('drop trigger keep_stamp on runs; drop function public.keep_stamp()');
    }
    expect(await store.unstamp(runId)).toBe(true);
    expect(await store.unstamp(runId)).toBe(false);
    expect(await receipts()).toMatchObject([
      { kind: 'unstamped', runs: [runId], product: PRODUCT_VERSION },
    ]);
  });

  test('what a verify found gone has its own receipts, a thousand in each; what a listener is deleting is left to it', async () => {
    const { insertRuns, insertRun, query, store, connect } = database();
    const inFlight = await insertRun();
    await flag();
    const claim = await database().claimNext();
    const runs = await insertRuns({ count: 1_003, completedAgo: '2 days', tenant: 'beta' });
    const [swallowed = '', locked = '', ...gone] = runs;
    await query(`
      create function public.swallow() returns trigger language plpgsql as $$ begin return null; end $$;
      create trigger swallow before update on runs for each row when (old.run_id = '${swallowed}')
        execute function public.swallow()`);
    const session = await connect();
    await session.query(`begin; select from runs where run_id = '${locked}' for update`);
    const missing = [...runs, inFlight].map((runId) => ({ runId, key: keyOf(runId), isDue: true }));
    expect(await store.stampGone('dpp-results', missing)).toBe(1_001);
    await session.query('rollback');
    await query('drop trigger swallow on runs; drop function public.swallow()');
    const told = await receipts();
    expect(told.map(({ kind, runs: { length } }) => [kind, length])).toEqual([
      ['found_gone', 1_000],
      ['found_gone', 1],
    ]);
    expect(told.flatMap((each) => each.runs)).toEqual(gone);
    expect(told[1]).toMatchObject({
      tenants: ['beta'],
      ends: ['gone'],
      asked_by: 'postgres',
      product: PRODUCT_VERSION,
    });
    await settleAll(claim);
    expect((await receipts()).filter((each) => each.runs.includes(inFlight))).toHaveLength(1);
    expect(await store.stampGone('dpp-results', missing)).toBe(2);
  });

  test('a claim waits for a verify that is stamping, and then spares what it has stamped', async () => {
    const { insertRun, store, connect, query } = database();
    const runId = await insertRun();
    await flag();
    const session = await connect();
    await session.query('begin');
    await session.query(`select retention.stamp_gone('dpp-results', array[$1], array[$2])`, [
      runId,
      keyOf(runId),
    ]);
    const lease = crypto.randomUUID();
    const claiming = store.claim({ lease, leaseSeconds: 60, by: 'test' });
    await until('the claim waits', async () => {
      const waiting = `select from pg_locks where relation = 'retention.hold'::regclass and not granted`;
      return (await query(waiting)).length > 0;
    });
    await session.query('commit');
    expect(await claiming).toMatchObject({ keys: [], spared: 1 });
    expect(await receipts()).toMatchObject([{ kind: 'found_gone', runs: [runId] }]);
  });

  test('each orphan that went has one receipt, also where its answer was lost and it was found gone later', async () => {
    const { query, store, insertRun } = database();
    await insertRun();
    const listId = crypto.randomUUID();
    const digest = 'a'.repeat(64);
    await query(
      `insert into retention.orphan_list (list_id, bucket, prefix, margin, listed, orphans, bytes, digest, made_at)
      values ($1, 'dpp-results', '', '1 day', 100, 4, 4, $2, now() - interval '2 hours')`,
      [listId, digest],
    );
    await store.beginOrphans({ listId, digest });
    const keys = ['x/1', 'x/2', 'x/3', 'x/4'];
    const { request_id: requestId } = await store.claimOrphans(listId, keys, 60);
    const sums = { listId, requestId, spared: 0, failed: 0 };
    const ends = new Map([['x/2', { end: 'marker' as const, version: 'v2' }]]);
    const first = { ...sums, deleted: 2, keys: ['x/1', 'x/2'], ends, requestIds: ['R1'] };
    await store.settleOrphans(first);
    await store.settleOrphans(first);
    // A later command finds three of them gone: it does not know which it was told of.
    await store.settleOrphans({
      ...sums,
      requestId: null,
      deleted: 3,
      keys: ['x/1', 'x/2', 'x/3'],
    });
    await store.settleOrphans({
      ...sums,
      requestId: null,
      deleted: 3,
      keys: ['x/1', 'x/2', 'x/3'],
    });
    expect(await receipts()).toMatchObject([
      {
        kind: 'orphan',
        runs: [null, null],
        tenants: [null, null],
        ends: ['deleted', 'marker'],
        versions: [null, 'v2'],
        request_ids: ['R1'],
        asked_by: 'postgres',
        product: PRODUCT_VERSION,
      },
      { kind: 'orphan', ends: null, request_ids: null },
    ]);
    const [{ told } = { told: [] }] = await query<{ told: string[] }>(
      `select array_agg(retention._unpack_key(u.key, null) order by u.key) as told
      from retention.receipt r cross join unnest(r.keys) as u (key)`,
    );
    expect(told).toEqual(['x/1', 'x/2', 'x/3']);
  });
});
