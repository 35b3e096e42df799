import { afterEach, expect, test } from 'vitest';
import { withBrokenRows } from '../support/broken-rows.ts';
import { describeDatabase } from '../support/database.ts';
import { type LeasedClaim, keyOf, useMigrated } from '../support/migrated.ts';
import { dueRuns } from '../support/due-runs.ts';

/** As data, a rule of the application, a page on disk and the schema raise them. */
const CODES = ['22008', 'P0001', 'XX001', '22P05'];

describeDatabase('a result for which the check of a claim raises', () => {
  const database = useMigrated();
  afterEach(() => database().query('select retention._make_views()'));

  /** Claims until nothing is visible. */
  async function claimAll(): Promise<LeasedClaim[]> {
    const claims: LeasedClaim[] = [];
    for (;;) {
      const lease = crypto.randomUUID();
      const claim = await database().store.claim({ lease, leaseSeconds: 60, by: 'test' });
      if (claim === undefined) return claims;
      claims.push({ ...claim, lease });
      if (claims.length > 100) throw new Error('The same batch is handed out again and again.');
    }
  }

  test.each(CODES)('is booked as failed with %s, and 39 others are handed out', async (code) => {
    const { insertRuns, query, store } = database();
    const { breakRun } = await withBrokenRows(database());
    const runIds = await insertRuns({ count: 20 });
    await insertRuns({ count: 20, bucket: 'dpp-archive' });
    await query('select retention.flag_expired()');
    const bad = runIds[7] ?? '';
    await breakRun(bad, code);
    const claims = await claimAll();
    expect(claims.flatMap(({ keys }) => keys)).toHaveLength(39);
    expect(claims.flatMap(({ keys }) => keys)).not.toContain(keyOf(bad));
    expect(claims.map(({ unchecked }) => unchecked).filter((it) => it !== undefined)).toMatchObject(
      [{ failed: 1, dead: 0, problems: [{ code, message: 'this row is broken', run_ids: [bad] }] }],
    );
    expect(
      await query('select run_id, attempts, code, error from retention.flagged where attempts > 0'),
    ).toEqual([{ run_id: bad, attempts: 1, code, error: 'this row is broken' }]);
    expect(await store.readStatus()).toMatchObject({ failed: 1 });
  });

  test('ends dead and visible after max_attempts, and comes back with retry', async () => {
    const { insertRun, query, store, set, passRetryTimes } = database();
    const { breakRun } = await withBrokenRows(database());
    const bad = await insertRun();
    await set({ max_attempts: '3' });
    await query('select retention.flag_expired()');
    await breakRun(bad, '22008');
    for (const attempts of [1, 2, 3]) {
      const [claim] = await claimAll();
      expect(claim?.unchecked).toMatchObject(
        attempts < 3 ? { failed: 1, dead: 0 } : { failed: 0, dead: 1 },
      );
      await passRetryTimes();
    }
    expect(await claimAll()).toEqual([]);
    expect(await store.readStatus()).toMatchObject({ dead: 1 });
    await breakRun(bad, null);
    expect(await store.retry({ runIds: [bad] })).toBe(1);
    expect((await claimAll()).flatMap(({ keys }) => keys)).toEqual([keyOf(bad)]);
  });

  test('that shares its object with a row that cannot be read fails alone', async () => {
    const { insertRuns, insertRun, query } = database();
    const { breakRun } = await withBrokenRows(database());
    await insertRuns({ count: 30 });
    const sharing = await insertRun({ key: 'results/shared' });
    const live = await insertRun({ key: 'results/shared', completedAgo: '1 day' });
    await query('select retention.flag_expired()');
    await breakRun(live, '22008');
    expect((await claimAll()).flatMap(({ keys }) => keys)).toHaveLength(30);
    expect(await query('select run_id from retention.flagged where attempts = 1')).toEqual([
      { run_id: sharing },
    ]);
  });

  test('each of many is booked with what it raised', async () => {
    const { insertRuns, query } = database();
    const { breakRun } = await withBrokenRows(database());
    const runIds = await insertRuns({ count: 64 });
    await query('select retention.flag_expired()');
    for (const [n, runId] of runIds.entries())
      if (n % 3 === 0) await breakRun(runId, n % 2 === 0 ? '22008' : 'P0001');
    expect((await claimAll()).flatMap(({ keys }) => keys)).toHaveLength(42);
    expect(
      await query(
        `select code, count(*)::int as results from retention.flagged where attempts = 1 group by 1 order by 1`,
      ),
    ).toEqual([
      { code: '22008', results: 11 },
      { code: 'P0001', results: 11 },
    ]);
  });

  test('a name that is missing is not counted against the results, and keeps no bucket waiting', async () => {
    const { insertRun, query } = database();
    const { breakRun } = await withBrokenRows(database());
    const bad = await insertRun({ bucket: 'dpp-archive', completedAgo: '50 days' });
    await insertRun();
    await query('select retention.flag_expired()');
    await breakRun(bad, '42883');
    expect((await claimAll()).flatMap(({ keys }) => keys)).toHaveLength(1);
    expect(
      await query('select attempts, code from retention.flagged where code is not null'),
    ).toEqual([{ attempts: 0, code: '42883' }]);
  });

  test('what says nothing of a result (a full disk, a deadlock) is raised, and nothing is booked', async () => {
    const { insertRun, query } = database();
    const { breakRun } = await withBrokenRows(database());
    const runId = await insertRun();
    await query('select retention.flag_expired()');
    for (const code of ['53100', '40P01', '55P03']) {
      await breakRun(runId, code);
      await expect(claimAll()).rejects.toMatchObject({ sqlState: code });
    }
    expect(await query('select attempts, code from retention.flagged')).toEqual([
      { attempts: 0, code: null },
    ]);
  });

  test('a check that outlasts the time limit moves its batch out of the way at once, in halves', async () => {
    const { insertRuns, insertRun, query, connect, passRetryTimes } = database();
    const { slowRun } = await withBrokenRows(database());
    const [slow = '', other] = await insertRuns({ count: 2, completedAgo: '50 days' });
    const quick = await insertRun({ bucket: 'dpp-archive' });
    await query('select retention.flag_expired()');
    await slowRun(slow, 60);
    const session = await connect();
    await session.query(`set statement_timeout = '300ms'`);
    const claim = async (): Promise<readonly string[] | undefined> => {
      const { rows } = await session.query<{ keys: string[] }>(
        `select keys from retention.claim(gen_random_uuid(), '1 minute')`,
      );
      return rows[0]?.keys;
    };
    expect([await claim(), await claim()].flat()).toEqual([keyOf(quick)]);
    expect(await claim()).toBeUndefined();
    await passRetryTimes();
    const handedOut = [await claim(), await claim(), await claim()].flat();
    expect(handedOut).toContain(keyOf(other ?? ''));
    expect(
      await query('select run_id, attempts, code from retention.flagged where attempts > 0'),
    ).toEqual([{ run_id: slow, attempts: 1, code: '57014' }]);
    await session.end();
  });
});

describeDatabase('a row that a flagging pass cannot read', () => {
  const database = useMigrated();
  afterEach(() => database().query('select retention._make_views()'));

  test.each(CODES)('(%s) is passed by and named, and stops nobody else', async (code) => {
    const { insertRuns, query, store } = database();
    const { breakRun } = await withBrokenRows(database());
    await insertRuns({ count: 30, tenant: 'globex' });
    const [first = '', , , middle = '', , last = ''] = await insertRuns({ count: 6 });
    await insertRuns({ count: 30, tenant: 'zeta' });
    for (const bad of [first, middle, last]) await breakRun(bad, code);
    expect(await store.flagExpired({ by: 'test', whole: true })).toBe(63);
    const [scan] = await query<{ skipped: number; skipped_rows: string[] }>(
      'select skipped, skipped_rows from retention.scan',
    );
    expect(scan?.skipped).toBe(3);
    for (const bad of [first, middle, last])
      expect(scan?.skipped_rows).toContain(`run ${bad} cannot be read: ${code} this row is broken`);
    // The next pass goes on where this one has stopped.
    const later = await insertRuns({ count: 2, completedAgo: '30 days 1 hour' });
    expect(await store.flagExpired({ by: 'test' })).toBe(2);
    expect(
      await query('select from retention.flagged where run_id = any ($1)', [later]),
    ).toHaveLength(2);
    await breakRun(middle, null);
    expect(await store.flagExpired({ by: 'test', whole: true })).toBe(1);
  });

  test('300 of one tenant delay no other tenant, and do not stop their own for good', async () => {
    const { insertRuns, insertRun, query, store } = database();
    const { breakRun } = await withBrokenRows(database());
    const bad = await insertRuns({ count: 300, completedAgo: '90 days' });
    await query(`insert into public.trouble select run_id::text, '22008' from runs`);
    expect(bad).toHaveLength(300);
    await breakRun(bad[0] ?? '', '22008');
    const behind = await insertRun();
    await insertRuns({ count: 5, tenant: 'globex' });
    expect(await store.flagExpired({ by: 'test', whole: true })).toBe(6);
    expect(await query('select from retention.flagged where run_id = $1', [behind])).toHaveLength(
      1,
    );
  });

  test('is passed by when a reconcile is narrowed, early or limited', async () => {
    const { insertRuns, store } = database();
    const { breakRun } = await withBrokenRows(database());
    const runIds = await insertRuns({ count: 10, completedAgo: '10 days' });
    await insertRuns({ count: 3, tenant: 'globex' });
    await breakRun(runIds[4] ?? '', '22008');
    expect(await dueRuns(database(), { olderThanSeconds: 86_400, early: true })).toHaveLength(12);
    expect(
      await dueRuns(database(), { olderThanSeconds: 86_400, early: true, limit: 7 }),
    ).toHaveLength(7);
    const { selected } = await store.flagSelected({
      tenantId: 'acme',
      olderThanSeconds: 86_400,
      early: true,
      expected: 9,
    });
    expect(selected).toBe(9);
  });

  test('that shares an object with a due one keeps only that one out of a narrowed reconcile', async () => {
    const { insertRuns, insertRun } = database();
    const { breakRun } = await withBrokenRows(database());
    await insertRuns({ count: 10 });
    await insertRun({ key: 'results/shared' });
    await breakRun(await insertRun({ key: 'results/shared', completedAgo: '1 day' }), '22008');
    expect(await dueRuns(database(), { tenantId: 'acme' })).toHaveLength(10);
  });

  test('what says nothing of a row fails the pass, and nothing is passed by', async () => {
    const { insertRun, query, store } = database();
    const { breakRun } = await withBrokenRows(database());
    await breakRun(await insertRun(), '53100');
    await expect(store.flagExpired({ by: 'test' })).rejects.toMatchObject({ sqlState: '53100' });
    // A tick that asked for it goes on, and says so.
    expect(await store.tick('internal')).toBe(0);
    expect(
      await query(
        `select pass_problem, ticked_at is not null as has_ticked from retention.heartbeat`,
      ),
    ).toEqual([{ pass_problem: '53100 this row is broken', has_ticked: true }]);
    expect(await query('select skipped_rows from retention.scan')).toEqual([
      { skipped_rows: ['the pass failed: 53100 this row is broken'] },
    ]);
  });
});

describeDatabase('a row that no store can hold', () => {
  const database = useMigrated({
    before: `alter table runs drop constraint runs_pkey, alter column run_id drop not null;
      create unique index on runs (run_id);
      alter table runs alter column tenant_id type text, alter column result_s3_bucket type text,
        alter column result_s3_key type text`,
  });
  // Random, so that it does not compress into an index.
  const noise = (bytes: number): string =>
    Array.from({ length: bytes / 32 }, () => crypto.randomUUID().replaceAll('-', '')).join('');

  test.each([
    ['a bucket of 3,008 bytes', { bucket: noise(3_008) }, /the name of its bucket has 3008 bytes/u],
    ['a bucket of 256 bytes', { bucket: noise(256) }, /the name of its bucket has 256 bytes/u],
    [
      'a key of 1,056 bytes',
      { key: noise(1_056) },
      /its key has more than the 1024 bytes that S3 holds/u,
    ],
    [
      'a key of 1,026 bytes in 513 letters',
      { key: 'ü'.repeat(513) },
      /its key has more than the 1024 bytes/u,
    ],
  ])('%s is skipped, counted and named', async (_, run, reason) => {
    const { insertRun, insertRuns, store } = database();
    const odd = await insertRun({ ...run, completedAgo: '40 days' });
    await insertRuns({ count: 5 });
    expect(await store.flagExpired({ by: 'test', whole: true })).toBe(5);
    const [scan] = await store.scansAfter(0);
    expect(scan).toMatchObject({ flagged: 5, skipped: 1 });
    expect(scan?.skippedRows[0]).toMatch(reason);
    expect(scan?.skippedRows[0]).toContain(odd);
    expect(await dueRuns(database(), {})).toHaveLength(5);
    expect(await store.flagSelected({ all: true })).toMatchObject({ selected: 5 });
  });

  test.each([
    ['a tenant of 1,056 bytes', noise(1_056)],
    ['a tenant of 20,000 equal letters', 'a'.repeat(20_000)],
  ])('%s is in the way of nothing, and explain names it', async (_, tenant) => {
    const { insertRun, insertRuns, store } = database();
    const odd = await insertRun({ tenant, completedAgo: '40 days' });
    await insertRuns({ count: 5 });
    expect(await store.flagExpired({ by: 'test', whole: true })).toBe(5);
    expect(await dueRuns(database(), {})).toHaveLength(5);
    expect(await store.explain([odd])).toMatchObject([{ state: 'too long' }]);
  });

  test.each([
    ['a bucket of 255 bytes', { bucket: 'b'.repeat(255) }],
    ['a key of 1,024 bytes', { key: noise(1_024) }],
    ['a tenant of 1,024 bytes', { tenant: noise(1_024) }],
  ])('%s is work like any other', async (_, run) => {
    await database().insertRun(run);
    expect(await database().store.flagExpired({ by: 'test', whole: true })).toBe(1);
  });

  test('a row without a run id is counted and named by its key, wherever it stands in the line', async () => {
    const { query, insertRuns, set, store } = database();
    await set({ flag_limit: '2' });
    await query(`
      insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      select null, 'acme', 'COMPLETED', now() - interval '90 days', 'dpp-results', 'results/' || n
      from generate_series(1, 5) n`);
    await insertRuns({ count: 3 });
    let flagged = await store.flagExpired({ by: 'test', whole: true });
    for (let pass = 0; pass < 6; pass += 1) flagged += await store.flagExpired({ by: 'test' });
    expect(flagged).toBe(3);
    const [scan] = await store.scansAfter(0);
    expect(scan?.skippedRows[0]).toMatch(/^a row without a run id, with the key results\/\d$/u);
  });
});

describeDatabase('a run id that stands in two partitions', () => {
  const database = useMigrated({
    before: `alter table runs rename to runs_old;
      create table runs (like runs_old including defaults, primary key (run_id, created_at))
        partition by range (created_at);
      create table runs_1 partition of runs for values from (minvalue) to ('2020-01-01');
      create table runs_2 partition of runs for values from ('2020-01-01') to (maxvalue);
      drop table runs_old`,
  });

  async function insertTwice(firstKey: string, secondKey: string): Promise<string> {
    const runId = crypto.randomUUID();
    await database().query(
      `insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key, created_at)
      values ($1, 'acme', 'COMPLETED', now() - interval '50 days', 'dpp-results', $2, '2019-06-01'),
        ($1, 'acme', 'COMPLETED', now() - interval '40 days', 'dpp-results', $3, '2021-06-01')`,
      [runId, firstKey, secondKey],
    );
    return runId;
  }

  test.each([
    ['with two objects', 'results/one', 'results/two'],
    ['with one object', 'results/one', 'results/one'],
  ])(
    '%s is flagged, narrowed to, claimed and stamped, each row by its key',
    async (_, one, two) => {
      const { insertRuns, store, countStamped, claimNext, query } = database();
      const runId = await insertTwice(one, two);
      await insertRuns({ count: 4 });
      expect(await store.flagExpired({ by: 'test', whole: true })).toBe(6);
      const { selected } = await store.flagSelected({ runIds: [runId] });
      expect(selected).toBe(2);
      for (;;) {
        const rows = await query('select from retention.batch where settled_at is null');
        if (rows.length === 0) break;
        const { batchId, lease } = await claimNext();
        await store.settle(batchId, lease, { cleared: 'all', failed: [], milliseconds: 1 });
      }
      expect(await countStamped()).toBe(6);
    },
  );
});
