import type pg from 'pg';
import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { until } from '../support/until.ts';

const DIGEST = 'a'.repeat(64);
const REFUSED = { sqlState: 'RR040' };

describeDatabase('the deletion of a list of orphans, in the database', () => {
  const database = useMigrated();

  /** A list as it was noted; made two hours ago unless something else is said. */
  async function note(
    list: {
      listed?: number;
      orphans?: number;
      prefix?: string;
      bucket?: string;
      ago?: string;
    } = {},
  ): Promise<string> {
    const listId = crypto.randomUUID();
    const {
      listed = 1_000,
      orphans = 3,
      prefix = '',
      bucket = 'dpp-results',
      ago = '2 hours',
    } = list;
    const made = { listId, bucket, prefix, marginSeconds: 86_400, bytes: 6 * orphans };
    await database().store.noteOrphanList({ ...made, listed, orphans, digest: DIGEST });
    await database().query(
      'update retention.orphan_list set made_at = now() - $2::interval where list_id = $1',
      [listId, ago],
    );
    return listId;
  }

  const begin = (listId: string, expected?: number) =>
    database().store.beginOrphans({ listId, digest: DIGEST, expected });

  /** A list whose deletion has begun, beside a row that knows the bucket. */
  async function begun(orphans = 3): Promise<string> {
    await database().insertRun({ completedAgo: '5 days' });
    const listId = await note({ orphans });
    await begin(listId, orphans);
    return listId;
  }

  test.each([
    ['3 of 30', { listed: 30, orphans: 3 }, undefined],
    ['4 of 30', { listed: 30, orphans: 4 }, /more than a tenth of the 30/u],
    ['1 of 9', { listed: 9, orphans: 1 }, /more than a tenth/u],
    ['10,000', { listed: 1_000_000, orphans: 10_000 }, undefined],
    ['10,001', { listed: 1_000_000, orphans: 10_001 }, /more than 10000/u],
    ['none of none', { listed: 0, orphans: 0 }, undefined],
    ['made 59 minutes ago', { ago: '59 minutes' }, /at least an hour old/u],
    ['made 61 minutes ago', { ago: '61 minutes' }, undefined],
    ['made in the future, by a clock that was wrong', { ago: '-1 day' }, /at least an hour old/u],
    ['of another bucket', { bucket: 'dpp-others' }, /no row of this database names bucket/u],
  ] as const)('both sides of each bound: %s', async (_name, list, refusal) => {
    await database().insertRun({ completedAgo: '5 days' });
    const listId = await note(list);
    if (refusal === undefined) {
      expect(await begin(listId)).toMatchObject({ is_resumed: false, deleted: 0 });
    } else {
      await expect(begin(listId)).rejects.toMatchObject(REFUSED);
      await expect(begin(listId)).rejects.toThrow(refusal);
      expect(
        await database().query('select from retention.orphan_list where begun_at is not null'),
      ).toEqual([]);
    }
  });

  test('several lists that are begun at once count together', async () => {
    await database().insertRun({ completedAgo: '5 days' });
    const lists = await Promise.all(
      Array.from({ length: 4 }, () => note({ listed: 1_000_000, orphans: 4_000 })),
    );
    const begunLists = await Promise.allSettled(lists.map((listId) => begin(listId)));
    expect(begunLists.filter(({ status }) => status === 'fulfilled')).toHaveLength(2);
  });

  test('a cleared row is enough to know a bucket by, and so is the default bucket', async () => {
    const cleared = await note();
    await database().insertRun({ clearedAgo: '1 day' });
    expect(await begin(cleared)).toMatchObject({ is_resumed: false });
    await database().query('delete from runs');
    await database().insertRun({ bucket: null, key: 'x' });
    await expect(begin(await note())).rejects.toThrow('no row of this database names');
    await database().set({ default_bucket: `'dpp-results'` });
    expect(await begin(await note())).toMatchObject({ is_resumed: false });
  });

  test('what was confirmed once is not asked again, and is written down with who asked', async () => {
    await database().insertRun({ completedAgo: '5 days' });
    const listId = await note({ listed: 3 });
    await begin(listId, 3);
    expect(await begin(listId)).toMatchObject({ is_resumed: true });
    const [list] = await database().store.listOrphanLists();
    expect(list).toMatchObject({ expected: 3, begun_at: expect.any(Date) as Date });
    expect(list?.begun_as).toBe(list?.begun_by);
  });

  test('with four eyes nobody deletes orphans alone, and nothing is begun', async () => {
    await database().insertRun({ completedAgo: '5 days' });
    const listId = await note();
    await database().set({ four_eyes: 'true' });
    await expect(begin(listId)).rejects.toThrow(/orphans needs two people/u);
    await expect(database().store.claimOrphans(listId, ['a'], 60)).rejects.toMatchObject(REFUSED);
  });

  test('no more keys are given out than the list names, whoever asks', async () => {
    const { store, query } = database();
    const listId = await begun(2);
    await expect(store.claimOrphans(listId, ['a', 'b', 'c'], 60)).rejects.toThrow(/0 of the 2/u);
    const { request_id: requestId, keys } = await store.claimOrphans(listId, ['a', 'b'], 60);
    expect(keys).toEqual(['a', 'b']);
    const settled = { listId, requestId, deleted: 2, spared: 0, failed: 0 };
    await store.settleOrphans(settled);
    // Said twice, it counts once.
    await store.settleOrphans(settled);
    await expect(store.claimOrphans(listId, ['a'], 60)).rejects.toThrow(/2 of the 2/u);
    expect(await query('select from retention.unanswered')).toEqual([]);
    await expect(store.claimOrphans(crypto.randomUUID(), ['a'], 60)).rejects.toMatchObject(REFUSED);
  });

  test('each reason for which an object stays, at the moment of its deletion', async () => {
    const { store, insertRun, query } = database();
    const listId = await begun(8);
    await insertRun({ key: 'run', status: 'RUNNING', completedAgo: null });
    await insertRun({ key: 'run of no bucket', bucket: null });
    await insertRun({ key: 'run elsewhere', bucket: 'dpp-others' });
    const held = await insertRun({ key: 'held' });
    await store.placeHolds({ runIds: [held], reason: 'audit' });
    await query('delete from runs where run_id = $1', [held]);
    const flying = await insertRun({ key: 'flying' });
    await query('select retention.flag_expired(p_whole => true)');
    await database().claimNext();
    await query('delete from runs where run_id = $1', [flying]);
    const keys = [
      '.retention/fence',
      'flying',
      'free',
      'held',
      'run',
      'run elsewhere',
      'run of no bucket',
    ];
    const claim = await store.claimOrphans(listId, keys, 60);
    expect(claim.keys).toEqual(['free', 'run elsewhere']);
    expect(Object.fromEntries(claim.spared.map(({ key, reason }) => [key, reason]))).toEqual({
      '.retention/fence': 'reserved',
      flying: 'in_flight',
      held: 'held',
      run: 'has_run',
      'run of no bucket': 'has_run',
    });
  });

  test('promise 5: a hold placed while an orphan is being deleted says that it is too late', async () => {
    const { store, insertRun, query, set } = database();
    // Also where runs are not expected to share objects.
    await set({ check_shared_objects: 'false' });
    const listId = await begun(2);
    const claim = await store.claimOrphans(listId, ['upload', 'other'], 60);
    const late = await insertRun({ key: 'upload', completedAgo: '5 days', tenant: 'late' });
    const place = async (request: { runIds?: string[]; tenantIds?: string[] }) => {
      const [placed] = await store.placeHolds({ ...request, reason: 'audit' });
      return placed?.too_late;
    };
    expect(await place({ runIds: [late] })).toBe(1);
    expect(await place({ tenantIds: ['late'] })).toBe(1);
    const { request_id: requestId } = claim;
    const unanswered = ['other'];
    await store.settleOrphans({ listId, requestId, deleted: 1, spared: 0, failed: 0, unanswered });
    expect(await place({ runIds: [late] })).toBe(0);
    expect(await query('select keys from retention.unanswered')).toHaveLength(1);
  });

  test('promise 5: keys are given out only when no hold is being placed', async () => {
    const { store, insertRun, connect, query } = database();
    const listId = await begun(1);
    const held = await insertRun({ key: 'held', completedAgo: '5 days' });
    const placing: pg.Client = await connect();
    await placing.query('begin');
    await placing.query(`select retention.place_hold('audit', $1)`, [held]);
    await query('delete from runs where run_id = $1', [held]);
    const claiming = store.claimOrphans(listId, ['held'], 60);
    await until('it waits for the hold', async () => {
      const waiting = await query(
        `select from pg_stat_activity where wait_event_type = 'Lock' and query like '%claim_orphans%'
          and datname = current_database() and pid <> pg_backend_pid()`,
      );
      return waiting.length === 1;
    });
    await placing.query('commit');
    await placing.end();
    expect(await claiming).toMatchObject({ keys: [], spared: [{ key: 'held', reason: 'held' }] });
  });

  test('a pause of the bucket holds back a list, and a failure of a list pauses the bucket', async () => {
    const { store, query } = database();
    const listId = await begun(1);
    const { request_id: requestId } = await store.claimOrphans(listId, ['a'], 60);
    const pause = { code: 'SlowDown', reason: 'slow' };
    const left = { listId, requestId, deleted: 0, spared: 0, failed: 0 };
    const pausedUntil = await store.settleOrphans({ ...left, pause });
    expect(await store.claimOrphans(listId, ['a'], 60)).toMatchObject({
      request_id: null,
      paused_until: pausedUntil,
      keys: [],
    });
    expect(await query('select pause_code from retention.bucket')).toEqual([
      { pause_code: 'SlowDown' },
    ]);
  });

  test('what is no list is not written down', async () => {
    const { query } = database();
    const noting = (margin: string, listed: number, digest: string) =>
      query(`select retention.note_orphan_list(gen_random_uuid(), 'b', '', $1, $2, 5, 5, $3)`, [
        margin,
        listed,
        digest,
      ]);
    await expect(noting('59 minutes', 9, DIGEST)).rejects.toThrow(/a_margin_is_an_hour_at_least/u);
    await expect(noting('1 hour', 4, DIGEST)).rejects.toThrow(/only_what_was_listed_is_an_orphan/u);
    await expect(noting('1 hour', 9, 'abc')).rejects.toThrow(/expected a SHA-256 digest/u);
    await expect(
      query(`select * from retention.next_orphans(gen_random_uuid(), 'b', '', '0', 5)`),
    ).rejects.toThrow(/expected a margin of at least an hour/u);
  });

  test('held objects, and our own files, are no orphans of a verify either', async () => {
    const { store, insertRun, query } = database();
    const held = await insertRun({ key: 'held' });
    await store.placeHolds({ runIds: [held], reason: 'audit' });
    await query('delete from runs');
    const start = await store.beginVerify();
    await store.compareListing(start, {
      bucket: 'dpp-results',
      prefix: '',
      after: undefined,
      until: undefined,
      objects: ['.retention/fence', 'held', 'orphan'].map((key) => ({
        key,
        size: 7,
        lastModified: new Date(Date.now() - 48 * 3_600_000),
      })),
    });
    expect(await store.sortStrays(start)).toEqual({ returned: 0, orphans: 1, orphanBytes: 7 });
  });
});
