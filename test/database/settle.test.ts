import { expect, test } from 'vitest';
import type { Failure, Settlement } from '../../src/store/leases.ts';
import { describeDatabase } from '../support/database.ts';
import { failuresOf, keyOf, useMigrated } from '../support/migrated.ts';
import { listenInPsql } from '../support/psql.ts';

interface FlaggedRow extends Record<string, unknown> {
  readonly run_id: string;
  readonly attempts: number;
  readonly code: string;
  readonly error: string;
  readonly dead: boolean;
  /** Until it may be claimed again. */
  readonly wait_seconds: number | null;
}

const WORK = `
select f.run_id::text, f.attempts, f.code, f.error, f.dead_at is not null as dead,
  case when f.dead_at is null then extract(epoch from f.visible_at - clock_timestamp())::float8 end
    as wait_seconds
from retention.flagged f
left join runs r on r.run_id = f.run_id
order by r.completed_at, f.run_id`;

describeDatabase('settling a batch', () => {
  const database = useMigrated();
  const work = (): Promise<FlaggedRow[]> => database().query<FlaggedRow>(WORK);

  /** Flags so many new runs, claims them, and settles as `decide` says of each run by its place. */
  async function settleNew(
    count: number,
    decide: (place: number) => 'cleared' | 'unnamed' | Partial<Failure>,
  ): Promise<{ runIds: string[]; settlement: Settlement }> {
    const runIds = await database().insertRuns({ count });
    await database().query('select retention.flag_expired()');
    return { runIds, settlement: await settleClaimed(runIds, decide) };
  }

  async function settleClaimed(
    runIds: readonly string[],
    decide: (place: number) => 'cleared' | 'unnamed' | Partial<Failure>,
  ): Promise<Settlement> {
    const { batchId, lease, keys } = await database().claimNext();
    const cleared: string[] = [];
    const failed: Failure[] = [];
    for (const key of keys) {
      const decision = decide(runIds.findIndex((runId) => keyOf(runId) === key));
      if (decision === 'cleared') cleared.push(key);
      else if (decision !== 'unnamed') failed.push(...failuresOf([key], decision));
    }
    return database().store.settle(batchId, lease, { cleared, failed, milliseconds: 12 });
  }

  test('promise 3 and 4: stamps what was deleted, moves updated_at with it, and touches no other row', async () => {
    const { run, query } = database();
    const fresh = await database().insertRun({ completedAgo: '1 day' });
    const { runIds, settlement } = await settleNew(3, () => 'cleared');
    expect(settlement).toMatchObject({ settled: true, cleared: 3, stamped: 3, failed: 0, dead: 0 });
    for (const runId of runIds) {
      const { result_cleared_at, updated_at } = await run(runId);
      expect(result_cleared_at).toBeInstanceOf(Date);
      expect(Date.now() - (result_cleared_at?.getTime() ?? 0)).toBeLessThan(60_000);
      expect(updated_at).toEqual(result_cleared_at);
    }
    const untouched = await run(fresh);
    expect(untouched.result_cleared_at).toBeNull();
    expect(Date.now() - untouched.updated_at.getTime()).toBeGreaterThan(59 * 86_400_000);
    expect(await query('select from runs')).toHaveLength(4);
    expect(await work()).toEqual([]);
  });

  test('leaves every other column as it was', async () => {
    const columns =
      'run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key, created_at';
    await database().insertRuns({ count: 3 });
    const before = await database().query(`select ${columns} from runs order by run_id`);
    await database().query('select retention.flag_expired()');
    await settleClaimed([], () => 'cleared');
    expect(await database().query(`select ${columns} from runs order by run_id`)).toEqual(before);
  });

  test.each([
    ['points at another key by now', `update runs set result_s3_key = 'results/new'`],
    ['points at another bucket by now', `update runs set result_s3_bucket = 'dpp-archive'`],
    ['was stamped by somebody else', `update runs set result_cleared_at = '2020-01-01'`],
    ['is gone by now', 'delete from runs'],
    ['has completed again by now', 'update runs set completed_at = now()'],
  ])('promise 3: a run that %s is not stamped', async (_, change) => {
    await database().insertRun();
    await database().query('select retention.flag_expired()');
    const { batchId, lease } = await database().claimNext();
    await database().query(change);
    const before = await database().query('select * from runs');
    expect(
      await database().store.settle(batchId, lease, {
        cleared: 'all',
        failed: [],
        milliseconds: 1,
      }),
    ).toMatchObject({ settled: true, cleared: 1, stamped: 0 });
    expect(await database().query('select * from runs')).toEqual(before);
    expect(await work()).toEqual([]);
  });

  test('promise 3: a run of another batch, or of none, cannot be stamped', async () => {
    const { insertRuns, query, countStamped, store } = database();
    await database().set({ batch_size: '2' });
    const runIds = await insertRuns({ count: 4 });
    const fresh = await insertRuns({ completedAgo: '1 day' });
    await query('select retention.flag_expired()');
    const { batchId, lease } = await database().claimNext();
    expect(
      await store.settle(batchId, lease, {
        cleared: [...runIds, ...fresh].map(keyOf),
        failed: [],
        milliseconds: 1,
      }),
    ).toMatchObject({ cleared: 2, stamped: 2 });
    expect(await countStamped()).toBe(2);
  });

  test('promise 3: another run on the same object is not stamped with it', async () => {
    const { insertRun, query, run, store, claimNext } = database();
    const due = await insertRun({ key: 'results/shared' });
    await query('select retention.flag_expired()');
    const { batchId, lease } = await claimNext();
    const live = await insertRun({ key: 'results/shared' });
    // In nothing but its id does it differ from the one that was claimed.
    await query(
      `update runs set completed_at = (select d.completed_at from runs d where d.run_id = $1)
      where run_id = $2`,
      [due, live],
    );
    await store.settle(batchId, lease, { cleared: 'all', failed: [], milliseconds: 1 });
    expect((await run(due)).result_cleared_at).not.toBeNull();
    expect((await run(live)).result_cleared_at).toBeNull();
  });

  test('promise 6: what was refused waits, and the others of its batch are cleared', async () => {
    const { runIds, settlement } = await settleNew(10, (place) => (place === 4 ? {} : 'cleared'));
    expect(settlement).toMatchObject({ cleared: 9, stamped: 9, failed: 1, dead: 0 });
    expect(settlement.retryAt).toBeInstanceOf(Date);
    const [row, ...others] = await work();
    expect(others).toEqual([]);
    expect(row).toMatchObject({
      run_id: runIds[4],
      attempts: 1,
      code: 'AccessDenied',
      error: 'Access Denied',
      dead: false,
    });
    expect(row?.wait_seconds).toBeGreaterThan(10);
    expect(await database().countStamped()).toBe(9);
    await database().passRetryTimes();
    expect(await settleClaimed(runIds, () => 'cleared')).toMatchObject({ cleared: 1, stamped: 1 });
    expect(await database().countStamped()).toBe(10);
  });

  test('promise 6: pauses between attempts grow up to a cap, and the tenth failure is the last', async () => {
    const waits: number[] = [];
    const { runIds } = await settleNew(1, () => ({}));
    for (let attempt = 1; attempt < 10; attempt += 1) {
      const [row] = await work();
      expect(row).toMatchObject({ attempts: attempt, dead: false });
      waits.push(row?.wait_seconds ?? 0);
      await database().passRetryTimes();
      const settlement = await settleClaimed(runIds, () => ({}));
      expect(settlement).toMatchObject(
        attempt === 9 ? { failed: 0, dead: 1 } : { failed: 1, dead: 0 },
      );
    }
    waits.forEach((wait, index) => {
      const longest = 30 * 2 ** index;
      expect(wait).toBeGreaterThan(longest / 2 - 2);
      expect(wait).toBeLessThanOrEqual(longest);
    });
    expect(await work()).toMatchObject([
      { attempts: 10, dead: true, wait_seconds: null, code: 'AccessDenied' },
    ]);
    // What is dead stays away until a person revives it, and is in nobody's way.
    await database().passRetryTimes();
    expect(await database().one('select retention.flag_expired() as flagged')).toEqual({
      flagged: 0,
    });
    expect(
      await database().store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'test' }),
    ).toBeUndefined();
    await settleNew(2, () => 'cleared');
    expect(await database().countStamped()).toBe(2);
  });

  test('promise 6: no pause is longer than the cap', async () => {
    await database().set({ retry_cap: `'40 seconds'`, max_attempts: '30' });
    const { runIds } = await settleNew(1, () => ({}));
    for (let attempt = 0; attempt < 8; attempt += 1) {
      await database().passRetryTimes();
      await settleClaimed(runIds, () => ({}));
    }
    const [row] = await work();
    expect(row?.wait_seconds).toBeGreaterThan(18);
    expect(row?.wait_seconds).toBeLessThanOrEqual(40);
  });

  test('what trying again cannot help is dead at once', async () => {
    const { settlement } = await settleNew(2, (place) =>
      place === 0 ? { final: true, code: 'BucketNotAllowed' } : 'cleared',
    );
    expect(settlement).toMatchObject({ cleared: 1, failed: 0, dead: 1 });
    expect(await work()).toMatchObject([{ dead: true, code: 'BucketNotAllowed' }]);
  });

  test('what was throttled or timed out is not counted against a result', async () => {
    const { runIds } = await settleNew(1, () => ({
      outcome: 'failed',
      code: 'SlowDown',
      reason: 'slow',
    }));
    for (let attempt = 0; attempt < 15; attempt += 1) {
      await database().passRetryTimes();
      expect(
        await settleClaimed(runIds, () => ({ outcome: 'unknown', code: 'SlowDown' })),
      ).toMatchObject({ failed: 1, dead: 0 });
    }
    expect(await work()).toMatchObject([{ attempts: 0, dead: false, code: 'SlowDown' }]);
  });

  test('promise 3: a key that the reply did not name was not deleted, and is tried again', async () => {
    const { runIds, settlement } = await settleNew(3, (place) =>
      place === 1 ? 'unnamed' : 'cleared',
    );
    expect(settlement).toMatchObject({ cleared: 2, stamped: 2, failed: 1, dead: 0 });
    expect(await work()).toMatchObject([{ run_id: runIds[1], attempts: 0, code: 'Unanswered' }]);
    expect((await database().run(runIds[1] ?? '')).result_cleared_at).toBeNull();
  });

  test('every outcome at once goes its own way', async () => {
    const { runIds, settlement } = await settleNew(5, (place) => {
      if (place === 0) return {};
      if (place === 1) return { outcome: 'failed', code: 'SlowDown' };
      if (place === 2) return { final: true, code: 'KeyTooLongError' };
      return place === 3 ? 'unnamed' : 'cleared';
    });
    expect(settlement).toMatchObject({ cleared: 1, stamped: 1, failed: 3, dead: 1 });
    expect(settlement.retryAt).toBeInstanceOf(Date);
    expect(await work()).toMatchObject([
      { run_id: runIds[0], attempts: 1, code: 'AccessDenied', dead: false },
      { run_id: runIds[1], attempts: 0, code: 'SlowDown', dead: false },
      { run_id: runIds[2], code: 'KeyTooLongError', dead: true },
      { run_id: runIds[3], attempts: 0, code: 'Unanswered', dead: false },
    ]);
    expect(
      await database().one(
        'select cleared, failed, dead, ms from retention.batch where settled_at is not null',
      ),
    ).toEqual({ cleared: 1, failed: 3, dead: 1, ms: 12 });
    expect(
      await database().query(`select b.results from retention.batch b where settled_at is null
        and results <> (select count(*) from retention.flagged e where e.batch_id = b.batch_id)`),
    ).toEqual([]);
  });

  test('is announced in two notifications, as psql prints them', async () => {
    const listener = await listenInPsql(database().url, ['retention_cleared', 'retention_failed']);
    try {
      const { runIds } = await settleNew(5, (place) => (place > 0 ? 'cleared' : {}));
      const cleared = await listener.waitFor(({ channel }) => channel === 'retention_cleared');
      const { batch_id } = await database().one<{ batch_id: string }>(
        'select batch_id from retention.batch where settled_at is not null',
      );
      expect(cleared.payload).toBe(
        `{"batch":${batch_id},"bucket":"dpp-results","cleared":4,"spared":0,"failed":1,"ms":12}`,
      );
      const failed = await listener.waitFor(({ channel }) => channel === 'retention_failed');
      expect(failed.payload).toMatch(
        new RegExp(
          `^\\{"batch":${batch_id},"bucket":"dpp-results","code":"AccessDenied","results":1,` +
            `"run_ids":\\["${runIds[0]}"\\],"retry_at":"\\d{4}-\\d\\d-\\d\\dT[\\d:.]+Z"\\}$`,
        ),
      );
      expect(listener.notifications).toHaveLength(2);
    } finally {
      await listener.close();
    }
  });

  test('tells of many refused results in one notification with a few of their ids', async () => {
    const listener = await listenInPsql(database().url, ['retention_failed']);
    try {
      await settleNew(1_000, () => ({}));
      const { payload } = await listener.waitFor(({ channel }) => channel === 'retention_failed');
      const told = JSON.parse(payload) as { results: number; run_ids: string[] };
      expect(told.results).toBe(1_000);
      expect(told.run_ids.length).toBeLessThanOrEqual(3);
      expect(payload.length).toBeLessThan(500);
    } finally {
      await listener.close();
    }
  });

  test('a bucket that is gone pauses at once; one that refuses everything, the second time', async () => {
    const paused = async (): Promise<boolean> => {
      const { is_paused } = await database().one<{ is_paused: boolean }>(
        `select coalesce(paused_until > now(), false) as is_paused from retention.bucket`,
      );
      return is_paused;
    };
    const { runIds } = await settleNew(3, () => ({}));
    expect(await paused()).toBe(false);
    await database().passRetryTimes();
    await settleClaimed(runIds, () => ({}));
    expect(await paused()).toBe(true);
    // One success, and it is as if nothing had been.
    await database().passRetryTimes();
    await settleClaimed(runIds, (place) => (place === 0 ? 'cleared' : {}));
    expect(await paused()).toBe(false);
    await database().passRetryTimes();
    await settleClaimed(runIds, () => ({ code: 'NoSuchBucket', concerns: 'bucket' }));
    expect(await paused()).toBe(true);
  });

  test('a single key that is refused says nothing about its bucket', async () => {
    const { runIds } = await settleNew(1, () => ({}));
    for (let attempt = 0; attempt < 4; attempt += 1) {
      await database().passRetryTimes();
      await settleClaimed(runIds, () => ({}));
    }
    expect(await database().query('select pauses, paused_until from retention.bucket')).toEqual([
      { pauses: 0, paused_until: null },
    ]);
  });

  test('pauses of a bucket that S3 throttles grow, and the whole batch waits uncounted', async () => {
    await database().insertRuns({ count: 3 });
    await database().query('select retention.flag_expired()');
    const waits: number[] = [];
    for (let turn = 0; turn < 4; turn += 1) {
      const { batchId, lease } = await database().claimNext();
      const until = await database().store.postpone(batchId, lease, {
        code: 'SlowDown',
        message: 'slow',
      });
      waits.push(((until?.getTime() ?? 0) - Date.now()) / 1_000);
      await database().passRetryTimes();
    }
    waits.forEach((wait, turn) => {
      expect(wait).toBeGreaterThan(2 ** turn - 1);
      expect(wait).toBeLessThanOrEqual(2 * 2 ** turn + 0.1);
    });
    expect(
      await database().one('select attempts, postponed, results from retention.batch'),
    ).toEqual({
      attempts: 0,
      postponed: 4,
      results: 3,
    });
  });

  test('what fails alike goes on in one batch, and the others each in one of their own', async () => {
    const { runIds } = await settleNew(6, (place) => {
      if (place < 2) return {};
      if (place < 4) return { code: 'InternalError' };
      return place === 4 ? { code: 'InternalError', outcome: 'failed' } : { final: true };
    });
    const batches = await database().query(
      `select b.run_ids::text[] as run_ids, b.code, b.attempts, b.postponed, b.dead_at is not null as dead
      from retention.batch b where b.settled_at is null order by b.batch_id`,
    );
    expect(batches).toEqual([
      { run_ids: runIds.slice(0, 2), code: 'AccessDenied', attempts: 1, postponed: 0, dead: false },
      {
        run_ids: runIds.slice(2, 4),
        code: 'InternalError',
        attempts: 1,
        postponed: 0,
        dead: false,
      },
      {
        run_ids: runIds.slice(4, 5),
        code: 'InternalError',
        attempts: 0,
        postponed: 1,
        dead: false,
      },
      { run_ids: runIds.slice(5), code: 'AccessDenied', attempts: 1, postponed: 0, dead: true },
    ]);
  });

  test('says when the first of what waits may be tried again, also when more is dead', async () => {
    const { settlement } = await settleNew(3, (place) => {
      if (place === 0) return {};
      return place === 1 ? { outcome: 'failed', code: 'SlowDown' } : { final: true };
    });
    const { first } = await database().one<{ first: Date }>(
      `select min(visible_at) as first from retention.batch where settled_at is null and dead_at is null`,
    );
    expect(settlement.retryAt).toEqual(first);
  });
});
