import { expect, onTestFinished, test } from 'vitest';
import { unlimited } from '../../src/lifecycle/rate-limit.ts';
import { silentLogger } from '../../src/logger.ts';
import type { ObjectStore } from '../../src/objects/object-store.ts';
import { createListener } from '../../src/reactor/listener.ts';
import { reconcile } from '../../src/reactor/reconcile.ts';
import { createWorker } from '../../src/reactor/worker.ts';
import type { Claim } from '../../src/store/leases.ts';
import type { Store } from '../../src/store/store.ts';
import { describeDatabase } from '../support/database.ts';
import { failuresOf, useMigrated } from '../support/migrated.ts';
import { until } from '../support/until.ts';

describeDatabase('a ceiling of a bucket', () => {
  const database = useMigrated();
  const BUCKET = 'dpp-results';

  const set = (ceilings: Readonly<Record<string, number | null>>, bucket = BUCKET): Promise<void> =>
    database().store.setCeilings(bucket, ceilings, { isNew: true });

  async function flag(count: number, batchSize = 1_000, bucket = BUCKET): Promise<void> {
    await database().set({ batch_size: String(batchSize) });
    await database().insertRuns({ count, bucket });
    await database().query('select retention.flag_expired()');
  }

  const claim = (buckets?: readonly string[]): Promise<Claim | undefined> =>
    database().store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'test', buckets });

  /** As so much time later. */
  const pass = (milliseconds: number): Promise<unknown> =>
    database().query(`update retention.pace set next_at = next_at - make_interval(secs => $1)`, [
      milliseconds / 1_000,
    ]);

  /** When the next request may go, in milliseconds. */
  const nextAt = async (bucket = BUCKET): Promise<number> => {
    const { at } = await database().one<{ at: number }>(
      'select (extract(epoch from next_at) * 1000)::float8 as at from retention.pace where bucket = $1',
      [bucket],
    );
    return at;
  };

  /** For how many milliseconds the next request has to wait. */
  const wait = async (): Promise<number> => {
    const [row] = await database().query<{ ms: number }>(
      'select (extract(epoch from next_at - clock_timestamp()) * 1000)::float8 as ms from retention.pace',
    );
    return row?.ms ?? 0;
  };

  test('lets a request have an eighth of a second of it, and the next go when that has passed', async () => {
    await flag(50);
    await set({ max_per_second: 80 });
    expect((await claim())?.keys).toHaveLength(10);
    // The first turn begins an eighth of a second ago, so that its own time is over at once; the second waits for all of it.
    await pass(1_000);
    expect((await claim())?.keys).toHaveLength(10);
    await pass(-1_000);
    expect(await claim()).toBeUndefined();
    await pass(1_000);
    expect((await claim())?.keys).toHaveLength(10);
  });

  test.each([
    ['at the start', '-infinity'],
    ['after an hour without work', '1 hour ago'],
  ])('lets no burst go %s', async (_when, next) => {
    await flag(60, 1);
    await set({ max_per_second: 1 });
    await database().query(`insert into retention.pace values ($1, now() - interval '1 hour')`, [
      BUCKET,
    ]);
    if (next === '-infinity')
      await database().query(`update retention.pace set next_at = '-infinity'`);
    const claims = [await claim(), await claim(), await claim()];
    expect(claims.filter((it) => it !== undefined)).toHaveLength(1);
    expect(await wait()).toBeGreaterThan(0);
  });

  test('a claim that gives nothing says when to come again, and not sooner', async () => {
    await flag(50);
    await set({ max_per_second: 1 });
    expect((await claim())?.keys).toHaveLength(1);
    expect(await database().store.pulse()).toMatchObject({ visibleNow: false });
    const { nextVisibleSeconds } = await database().store.pulse();
    expect(nextVisibleSeconds).toBeGreaterThan(0.5);
    expect(nextVisibleSeconds).toBeLessThan(1.1);
    expect(await database().store.readUnsettled({})).toContainEqual(
      expect.objectContaining({
        kind: 'ceiling',
        reason: 'the bucket is at its ceiling: at most 1 results a second',
        results: 49,
      }),
    );
    expect(await database().store.readWaitCauses()).toContainEqual(
      expect.objectContaining({ what: `bucket ${BUCKET}`, results: 49 }),
    );
  });

  test('what fails counts, and what was given back unasked does not', async () => {
    await flag(50);
    await set({ max_per_second: 1 });
    const first = await database().claimNext();
    const counted = await nextAt();
    await database().store.settle(first.batchId, first.lease, {
      cleared: [],
      failed: failuresOf(first.keys),
      milliseconds: 1,
    });
    expect(await nextAt()).toBe(counted);
    for (const [unasked, returned] of [
      [true, 1_000 / 0.975],
      [false, 0],
    ] as const) {
      await pass(60_000);
      await database().passRetryTimes();
      const { batchId, lease } = await database().claimNext();
      const before = await nextAt();
      await database().store.postpone(batchId, lease, { code: 'Any', message: 'any', unasked });
      expect(before - (await nextAt())).toBeCloseTo(returned, 0);
    }
  });

  test('holds up no other bucket, and each has its own', async () => {
    for (const bucket of [BUCKET, 'others', 'free']) await flag(30, 10, bucket);
    await set({ max_per_second: 1 });
    await set({ max_per_second: 2 }, 'others');
    await database().query(
      `insert into retention.pace
      select bucket, clock_timestamp() + interval '1.9 seconds' from retention.bucket`,
    );
    const claims = [await claim(), await claim(), await claim()];
    expect(claims.map((it) => it?.bucket)).toEqual(['free', 'free', 'free']);
    await database().query(`update retention.pace set next_at = '-infinity'`);
    const paced = [await claim(), await claim()];
    expect(new Set(paced.map((it) => it?.bucket))).toEqual(new Set([BUCKET, 'others']));
    expect(await nextAt('others')).toBeLessThan((await nextAt()) + 400);
  });

  test('is kept by claims that come all at once', async () => {
    await flag(100, 10);
    await set({ max_in_flight: 3 });
    const claims = await Promise.all(Array.from({ length: 12 }, () => claim()));
    expect(claims.filter((it) => it !== undefined)).toHaveLength(3);
    expect((await database().store.pulse()).visibleNow).toBe(false);
    await database().query('update retention.batch set visible_at = now() where lease is not null');
    // A lease that has run out belongs to no listener.
    expect(await claim()).toBeDefined();
    await set({ max_in_flight: null, max_per_second: 1 });
    await database().query(`update retention.pace set next_at = '-infinity'`);
    const paced = await Promise.all(Array.from({ length: 12 }, () => claim()));
    expect(paced.filter((it) => it !== undefined)).toHaveLength(1);
    await set({ max_per_second: null });
    expect(await claim()).toBeDefined();
  });

  test('holds for orphans, whose requests are cut to it', async () => {
    await database().insertRun({ completedAgo: '5 days' });
    await set({ max_per_second: 16 });
    const listId = crypto.randomUUID();
    const { store, query } = database();
    const digest = 'a'.repeat(64);
    const made = { listId, bucket: BUCKET, prefix: '', marginSeconds: 86_400, bytes: 0 };
    await store.noteOrphanList({ ...made, listed: 100, orphans: 4, digest });
    await query(`update retention.orphan_list set made_at = now() - interval '2 hours'`);
    await store.beginOrphans({ listId, digest, expected: 4 });
    const keys = ['a', 'b', 'c', 'd'];
    expect(await store.claimOrphans(listId, keys, 60)).toMatchObject({
      keys: ['a', 'b'],
      paused_until: null,
    });
    await pass(-1_000);
    const { keys: none, paused_until: wakes } = await store.claimOrphans(listId, keys, 60);
    expect(none).toEqual([]);
    expect(wakes?.getTime()).toBeGreaterThan(Date.now());
  });

  test('outlives a clock that was set back', async () => {
    await flag(50);
    await set({ max_per_second: 80 });
    await claim();
    await database().query(`update retention.pace set next_at = now() + interval '1 year'`);
    expect(await claim()).toBeDefined();
    expect(await wait()).toBeLessThan(2_000);
  });

  test('is refused where it is none, and nothing is changed', async () => {
    await set({ max_per_second: 5 });
    for (const [ceilings, message] of [
      [{}, /ceilings as a JSON object/u],
      [{ max_per_second: 0 }, /max_per_second as a whole number from 1/u],
      [{ max_in_flight: -1 }, /max_in_flight as a whole number from 1/u],
      [{ max_per_second: 1.5 }, /given: 1.5/u],
      [{ max_per_minute: 1 }, /max_per_second or max_in_flight, given: max_per_minute/u],
    ] as const) {
      await expect(set(ceilings)).rejects.toThrow(message);
    }
    await expect(database().store.setCeilings('unknown', { max_per_second: 1 })).rejects.toThrow(
      /expected a bucket that is known/u,
    );
    expect(await database().store.knownBucket(BUCKET)).toMatchObject({
      max_per_second: 5,
      max_in_flight: null,
    });
  });

  test('is written down with who set it', async () => {
    await database().store.setCeilings(BUCKET, { max_per_second: 5 }, { isNew: true, by: 'ada' });
    expect(await database().query('select what from retention.history()')).toContainEqual({
      what: expect.stringMatching(/max_per_second.*5/u) as string,
    });
  });

  interface Together {
    readonly store: Store;
    readonly deleteObjects: ObjectStore['deleteObjects'];
  }

  const work = ({ store, deleteObjects }: Together, name: string) =>
    createWorker({
      store,
      objects: { deleteObjects },
      logger: silentLogger,
      name,
      leaseSeconds: 60,
      rateLimit: unlimited,
    });

  test('is kept by four listeners and a reconcile together, which sleep until it lets them go', async () => {
    await flag(480, 100);
    await set({ max_per_second: 400 });
    let statements = 0;
    const count =
      <Parameters extends unknown[], Result>(call: (...parameters: Parameters) => Result) =>
      (...parameters: Parameters): Result => {
        statements += 1;
        return call(...parameters);
      };
    const counted = Object.entries(database().store).map(([name, call]) => [
      name,
      count(call as (...parameters: unknown[]) => unknown),
    ]);
    const store = Object.fromEntries(counted) as Store;
    const deleteObjects: ObjectStore['deleteObjects'] = (_bucket, keys) =>
      Promise.resolve({ deleted: keys, all: true, failures: [], unanswered: [] });
    const together = { store, deleteObjects };
    const listeners = [1, 2, 3, 4].map((number) =>
      createListener({
        store,
        worker: work(together, `listener ${number}`),
        logger: silentLogger,
        concurrency: 4,
        pollSeconds: 60,
        shutdownGraceSeconds: 5,
      }),
    );
    onTestFinished(async () => {
      await Promise.all(listeners.map((listener) => listener.stop()));
    });
    const startedAt = performance.now();
    await Promise.all(listeners.map((listener) => listener.start()));
    const done = await reconcile({ store, worker: work(together, 'command'), concurrency: 4 });
    await until('all is done', async () => (await database().countStamped()) === 480);
    const seconds = (performance.now() - startedAt) / 1_000;
    expect(done).toMatchObject({ interrupted: false, failed: 0, waiting: [] });
    // By the database's clock: this process may be late to hear of a claim.
    const sent = await database().query<{ at: number; keys: number }>(
      `select (extract(epoch from leased_at) * 1000)::float8 as at, cleared as keys from retention.batch where cleared > 0`,
    );
    // What may go at once at the start is an eighth of a second of it and one request.
    for (const { at } of sent) {
      const window = sent.filter((it) => it.at >= at && it.at < at + 500);
      expect(window.reduce((sum, it) => sum + it.keys, 0)).toBeLessThanOrEqual(400 * 0.5 + 100);
    }
    expect(seconds).toBeGreaterThan((480 - 100) / 400);
    expect(sent.every(({ keys }) => keys <= 50)).toBe(true);
    // Each request takes a claim and a settle, and the five that wait look again once or twice each.
    expect(statements / sent.length).toBeLessThan(30);
  });
});
