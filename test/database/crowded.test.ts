import type pg from 'pg';
import { afterEach, expect, test } from 'vitest';
import { unlimited } from '../../src/lifecycle/rate-limit.ts';
import { silentLogger } from '../../src/logger.ts';
import type { ObjectStore } from '../../src/objects/object-store.ts';
import { drain } from '../../src/reactor/drain.ts';
import { type Worker, createWorker } from '../../src/reactor/worker.ts';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { until } from '../support/until.ts';

describeDatabase('where enough claims and settles are at work', () => {
  const database = useMigrated();
  const sessions: pg.Client[] = [];

  afterEach(async () => {
    await Promise.all(sessions.splice(0).map((session) => session.query('rollback')));
  });

  async function begin(): Promise<pg.Client> {
    const session = await database().connect();
    await session.query('begin');
    // Whoever waits for a place instead of going on fails.
    await session.query(`set local lock_timeout = '5s'`);
    sessions.push(session);
    return session;
  }

  /** Claims in a transaction that stays open, beside so many of the same listener. */
  async function claimIn(session: pg.Client, ours = 0): Promise<{ crowded: boolean }> {
    const { rows } = await session.query<{ crowded: boolean }>(
      `select crowded from retention.claim(gen_random_uuid(), '1 minute', p_ours => $1)`,
      [ours],
    );
    const [row] = rows;
    if (row === undefined) throw new Error('nothing was claimed');
    return row;
  }

  /** @param remove returns the keys that S3 has deleted. */
  function makeWorker(remove: (keys: readonly string[]) => Promise<readonly string[]>): Worker {
    const objects: ObjectStore = {
      deleteObjects: async (_bucket, keys) => {
        const deleted = await remove(keys);
        return { deleted, all: deleted.length === keys.length, failures: [], unanswered: [] };
      },
      close: () => undefined,
    };
    return createWorker({
      store: database().store,
      objects,
      logger: silentLogger,
      name: 'test',
      leaseSeconds: 60,
      rateLimit: unlimited,
    });
  }

  async function isSettleWaiting(): Promise<boolean> {
    const waiting = await database().query(
      `select from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock'
        and query like '%retention.settle%'`,
    );
    return waiting.length === 1;
  }

  async function placeOf(session: pg.Client): Promise<number | undefined> {
    const { rows } = await session.query<{ place: number }>(
      `select objid::int as place from pg_locks
      where locktype = 'advisory' and pid = pg_backend_pid() and granted`,
    );
    expect(rows.length).toBeLessThan(2);
    return rows[0]?.place;
  }

  async function flag(count: number): Promise<void> {
    await database().insertRuns({ count });
    await database().query('select retention.flag_expired()');
  }

  test('a claim goes on, and says so', async () => {
    await database().set({ statements_at_once: '2', batch_size: '1' });
    await flag(4);
    const [first, second, third] = [await begin(), await begin(), await begin()];
    expect(await claimIn(first)).toEqual({ crowded: false });
    expect(await claimIn(second)).toEqual({ crowded: false });
    expect(new Set([await placeOf(first), await placeOf(second)])).toEqual(new Set([1, 2]));
    expect(await claimIn(third)).toEqual({ crowded: true });
    expect(await placeOf(third)).toBeUndefined();
    await first.query('commit');
    const fourth = await begin();
    expect(await claimIn(fourth)).toEqual({ crowded: false });
    expect(await placeOf(fourth)).toBe(1);
  });

  test('a claim does not count those of its own listener', async () => {
    await database().set({ statements_at_once: '2', batch_size: '1' });
    await flag(6);
    const [other, another] = [await begin(), await begin()];
    expect(await claimIn(other)).toEqual({ crowded: false });
    const [first, second, third] = [await begin(), await begin(), await begin()];
    expect(await claimIn(first)).toEqual({ crowded: false });
    expect(await claimIn(second, 1)).toEqual({ crowded: false });
    expect(await claimIn(third, 2)).toEqual({ crowded: false });
    await Promise.all([second, third].map((session) => session.query('commit')));
    expect(await claimIn(another)).toEqual({ crowded: true });
  });

  test('a settle goes on and says so too, and gives its place back with its transaction', async () => {
    await database().set({ statements_at_once: '1', batch_size: '1' });
    await flag(2);
    const { store } = database();
    const [lease, other] = [crypto.randomUUID(), crypto.randomUUID()];
    const [claim, otherClaim] = [
      await store.claim({ lease, leaseSeconds: 60, by: 'test' }),
      await store.claim({ lease: other, leaseSeconds: 60, by: 'test' }),
    ];
    if (claim === undefined || otherClaim === undefined) throw new Error('nothing was claimed');
    const session = await begin();
    const { rows } = await session.query(
      'select cleared, crowded from retention.settle($1, $2::uuid, $3::retention.run_id[])',
      [claim.batchId, lease, claim.runIds],
    );
    expect(rows).toEqual([{ cleared: 1, crowded: false }]);
    expect(await placeOf(session)).toBe(1);
    const outcome = { cleared: otherClaim.runIds, failed: [], milliseconds: 1 };
    expect(await store.settle(otherClaim.batchId, other, outcome)).toMatchObject({
      cleared: 1,
      crowded: true,
    });
    await session.query('commit');
    expect(await placeOf(session)).toBeUndefined();
  });

  test('a listener is not in its own way', async () => {
    await database().set({ statements_at_once: '1', batch_size: '1' });
    await flag(5);
    const held = await begin();
    await held.query(
      `select from runs
      where run_id::text = (select run_id::text from retention.expired order by batch_id limit 1)
      for update`,
    );
    let asked = 0;
    const worker = makeWorker(async (keys) => {
      asked += 1;
      if (asked === 1) await until('the next is claimed', () => asked === 2);
      else await until('the first waits, in its place', isSettleWaiting);
      return keys;
    });
    const signal = new AbortController().signal;
    const crowded: boolean[] = [];
    const draining = drain({
      worker,
      concurrency: 2,
      stop: signal,
      abort: signal,
      onBatch: (outcome) => crowded.push(outcome.crowded),
    });
    await until('all batches but one are settled', () => crowded.length === 4);
    await held.query('rollback');
    expect(await draining).toMatchObject({ cleared: 5 });
    expect(crowded).toEqual([false, false, false, false, false]);
  });

  test('a drain goes down to one batch at a time with pauses, and up again when there is room', async () => {
    await database().set({ statements_at_once: '100', batch_size: '1' });
    await flag(20);
    const asked: (() => void)[] = [];
    let askedAt = 0;
    const worker = makeWorker(async (keys) => {
      askedAt = Date.now();
      await new Promise<void>((resolve) => asked.push(resolve));
      return keys;
    });
    const signal = new AbortController().signal;
    const draining = drain({ worker, concurrency: 3, stop: signal, abort: signal });
    const untilAsked = (count: number): Promise<true> =>
      until(`${count} requests are under way`, () => asked.length === count, {
        seen: () => asked.length,
      });
    const answerAll = (): void => asked.splice(0).forEach((answer) => answer());
    await untilAsked(3);

    const crowd = await begin();
    await database().set({ statements_at_once: '1' });
    // As many as are counted beside two statements of ours.
    await crowd.query(
      'select pg_advisory_xact_lock(1382380609, place) from generate_series(1, 3) place',
    );
    const pauses: number[] = [];
    let settledAt = 0;
    for (let settled = 3; settled < 6; settled += 1) {
      answerAll();
      await until('what was answered is settled', async () => {
        const [row] = await database().query<{ batches: number; at: Date }>(
          `select count(*)::int as batches, max(settled_at) as at
          from retention.batch where settled_at is not null`,
        );
        settledAt = row?.at.getTime() ?? 0;
        return row?.batches === settled;
      });
      await until('a request is under way', () => asked.length > 0);
      pauses.push(askedAt - settledAt);
      // Time for others to claim, if there are any.
      for (let look = 0; look < 20; look += 1) await database().query('select');
      expect(asked).toHaveLength(1);
    }
    // From 500 to 1,000 ms at first, and from 2,000 to 4,000 in the end.
    expect(pauses[0]).toBeGreaterThan(450);
    expect(pauses[2]).toBeGreaterThan(1_900);

    await database().set({ statements_at_once: '100' });
    // This one was claimed where it was crowded, and only the fifth after it finds that there is room.
    for (let batch = 0; batch < 4; batch += 1) {
      answerAll();
      await until('a request is under way', () => asked.length > 0);
      for (let look = 0; look < 20; look += 1) await database().query('select');
      expect(asked).toHaveLength(1);
    }
    answerAll();
    await untilAsked(3);
    const answering = setInterval(answerAll, 1);
    expect(await draining).toMatchObject({ cleared: 20 });
    clearInterval(answering);
  });
});
