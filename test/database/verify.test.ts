import { expect, test } from 'vitest';
import type { VerifyStart } from '../../src/store/drift.ts';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';

describeDatabase('comparing a listing with the rows', () => {
  const database = useMigrated();
  const old = new Date(Date.now() - 48 * 3_600_000);

  /** Begins a verify that has seen these keys of the bucket, and nothing else in it. */
  async function see(...keys: readonly string[]): Promise<VerifyStart> {
    const { store } = database();
    const start = await store.beginVerify();
    await seeMore(start, ...keys);
    return start;
  }

  function seeMore(start: VerifyStart, ...keys: readonly string[]) {
    return database().store.compareListing(start, {
      bucket: 'dpp-results',
      prefix: '',
      after: undefined,
      until: undefined,
      objects: keys.map((key) => ({ key, size: 7, lastModified: old })),
    });
  }

  const orphansOf = (start: VerifyStart, marginSeconds = 86_400) =>
    database().store.nextOrphans({
      verifyId: start.verifyId,
      bucket: 'dpp-results',
      after: undefined,
      marginSeconds,
      limit: 10,
    });

  test('a prefix of which every result is cleared is still known, and a mistyped one is not', async () => {
    const { store, insertRun } = database();
    await insertRun({ key: 'results/2026-01/a', clearedAgo: '1 day' });
    expect(await store.hasKeyLike('results/2026-01/')).toBe(true);
    expect(await store.hasKeyLike('result/2026')).toBe(false);
    // It is a text and no pattern.
    expect(await store.hasKeyLike('results/%')).toBe(false);
  });

  test('a row inserted after the listing protects its object', async () => {
    const { store } = database();
    const start = await see('one', 'other', 'third');
    // Before the strays are sorted, it never becomes an orphan.
    await database().insertRun({ key: 'one', status: 'RUNNING', completedAgo: null });
    expect(await store.sortStrays(start)).toEqual({ returned: 0, orphans: 2, orphanBytes: 14 });
    // After that, it is found when the orphans are about to be deleted.
    await database().insertRun({ key: 'other', status: 'RUNNING', completedAgo: null });
    expect((await orphansOf(start)).map(({ key, stillOrphan }) => [key, stillOrphan])).toEqual([
      ['other', false],
      ['third', true],
    ]);
    // So does one that does not say in which bucket.
    await database().insertRun({ key: 'third', bucket: null });
    expect((await orphansOf(start)).some(({ stillOrphan }) => stillOrphan)).toBe(false);
  });

  test('what is back is taken up in one pass over the table, however much that is', async () => {
    const keys = Array.from({ length: 40 }, (_, index) => `back/${index}`);
    for (const key of keys) await database().insertRun({ key, clearedAgo: '1 day' });
    await database().insertRuns({ count: 3_000 });
    await database().query('analyze runs');
    const start = await see(...keys);
    expect(await database().store.sortStrays(start)).toMatchObject({ returned: keys.length });
    const session = await database().connect();
    await session.query('begin');
    const requeue = 'select retention.requeue_returned($1, $2)::int as requeued';
    const { rows } = await session.query<object>(requeue, [start.verifyId, start.startedAt]);
    expect(rows).toEqual([{ requeued: keys.length }]);
    const { rows: scans } = await session.query(
      `select seq_scan::int as passes from pg_stat_xact_user_tables where relname = 'runs'`,
    );
    await session.query('rollback');
    expect(scans).toEqual([{ passes: 1 }]);
  });

  test('a row of another bucket protects nothing', async () => {
    const { store } = database();
    await database().insertRun({ key: 'one', bucket: 'dpp-archive' });
    await database().insertRun({ key: 'two', bucket: 'dpp-archive', clearedAgo: '1 day' });
    const start = await see('one', 'two');
    expect(await store.sortStrays(start)).toEqual({ returned: 0, orphans: 2, orphanBytes: 14 });
    expect((await orphansOf(start)).map(({ stillOrphan }) => stillOrphan)).toEqual([true, true]);
  });

  test('the margin counts from when the object was written', async () => {
    const start = await see('one');
    await database().store.sortStrays(start);
    expect(await orphansOf(start, 47 * 3_600)).toHaveLength(1);
    expect(await orphansOf(start, 49 * 3_600)).toEqual([]);
  });

  test('what is cleared while the bucket is listed is neither back nor an orphan', async () => {
    const { store, query } = database();
    const runId = await database().insertRun({ key: 'one' });
    await database().insertRun({ key: 'two', clearedAgo: '1 day' });
    const start = await store.beginVerify();
    // S3 has listed both; a listener deletes one and stamps it before the page is compared.
    await query('update runs set result_cleared_at = clock_timestamp() where run_id = $1', [runId]);
    await seeMore(start, 'one', 'two');
    expect(await store.sortStrays(start)).toEqual({ returned: 1, orphans: 0, orphanBytes: 0 });
    expect(await store.requeueReturned(start)).toBe(1);
    expect((await database().run(runId)).result_cleared_at).not.toBeNull();
    expect(await orphansOf(start)).toEqual([]);
  });

  test('a cleared row whose key a live one bears again stays cleared', async () => {
    const { store } = database();
    const cleared = await database().insertRun({ key: 'one', clearedAgo: '1 day' });
    const start = await see('one');
    await database().insertRun({ key: 'one', completedAgo: '1 minute' });
    expect(await store.sortStrays(start)).toEqual({ returned: 0, orphans: 0, orphanBytes: 0 });
    expect(await store.requeueReturned(start)).toBe(0);
    expect((await database().run(cleared)).result_cleared_at).not.toBeNull();
  });

  test('the default bucket is the bucket of rows that name none', async () => {
    const { store } = database();
    await database().set({ default_bucket: `'dpp-results'` });
    await database().insertRun({ bucket: null, key: 'back', clearedAgo: '1 day' });
    await database().insertRun({ bucket: '', key: 'there' });
    const gone = await database().insertRun({ bucket: '', key: 'gone' });
    const start = await store.beginVerify();
    const missing = await seeMore(start, 'back', 'there');
    expect(missing).toEqual([{ runId: gone, key: 'gone', isDue: true }]);
    expect(await store.stampGone('dpp-results', missing)).toBe(1);
    expect(await store.sortStrays(start)).toMatchObject({ returned: 1, orphans: 0 });
    expect(await store.requeueReturned(start)).toBe(1);
  });

  test('a row that points elsewhere by now is not stamped', async () => {
    const { store, query } = database();
    const runId = await database().insertRun({ key: 'one', completedAgo: '5 days' });
    const missing = await seeMore(await store.beginVerify());
    expect(missing).toEqual([{ runId, key: 'one', isDue: false }]);
    await query(`update runs set result_s3_key = 'two' where run_id = $1`, [runId]);
    expect(await store.stampGone('dpp-results', missing)).toBe(0);
    await query(`update runs set result_s3_key = 'one', result_s3_bucket = 'dpp-archive'`);
    expect(await store.stampGone('dpp-results', missing)).toBe(0);
    expect((await database().run(runId)).result_cleared_at).toBeNull();
  });

  test('a page of missing rows does not end within a key', async () => {
    const { store, query } = database();
    await database().insertRuns({ count: 999 });
    await query(`update runs set result_s3_key = 'a/' || result_s3_key`);
    await database().insertRuns({ count: 4, key: 'b' });
    await database().insertRuns({ count: 2, key: 'c' });
    const start = await store.beginVerify();
    const first = await seeMore(start);
    expect(first).toHaveLength(1_003);
    const stretch = { bucket: 'dpp-results', prefix: '', until: undefined, objects: [] };
    const rest = await store.compareListing(start, { ...stretch, after: first.at(-1)?.key });
    expect(rest.map(({ key }) => key)).toEqual(['c', 'c']);
  });

  test('verifies do not see each other’s strays, and forget their own', async () => {
    const { store, query } = database();
    const one = await see('orphan');
    const other = await see('orphan', 'second');
    expect(await store.sortStrays(one)).toMatchObject({ orphans: 1 });
    expect(await store.sortStrays(other)).toMatchObject({ orphans: 2 });
    await store.forgetStrays(other.verifyId);
    expect(await query('select key from retention.stray')).toEqual([{ key: 'orphan' }]);
    await query(`update retention.stray set noted_at = now() - interval '3 days'`);
    await store.forgetStrays(other.verifyId);
    expect(await query('select from retention.stray')).toEqual([]);
  });

  test('taking a stamp from what is no run id is refused in words', async () => {
    await expect(database().query(`select retention.unstamp('42')`)).rejects.toMatchObject({
      code: '22023',
      message: '42 is not a run id of this application (type uuid)',
    });
  });
});
