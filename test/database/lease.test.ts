import { expect, onTestFinished, test } from 'vitest';
import type { Claim } from '../../src/store/leases.ts';
import { describeDatabase } from '../support/database.ts';
import { failuresOf, useMigrated } from '../support/migrated.ts';

describeDatabase('promise 8: two listeners never work on the same batch', () => {
  const database = useMigrated();

  async function claimOne(
    lease = crypto.randomUUID(),
    leaseSeconds = 60,
  ): Promise<Claim | undefined> {
    return database().store.claim({ lease, leaseSeconds, by: 'test' });
  }

  async function mustClaim(
    lease?: `${string}-${string}-${string}-${string}-${string}`,
  ): Promise<Claim> {
    const claim = await claimOne(lease);
    if (claim === undefined) throw new Error('Nothing was visible.');
    return claim;
  }

  async function flag(count: number, bucket = 'dpp-results'): Promise<void> {
    await database().insertRuns({ count, bucket });
    await database().query('select retention.flag_expired()');
  }

  /** Everything that a stale lease could have changed. */
  async function everything(): Promise<unknown> {
    const { query } = database();
    return [
      await query('select * from retention.batch order by batch_id'),
      await query('select * from retention.flagged order by run_id'),
      await query('select * from retention.bucket order by bucket'),
      await query('select * from retention.unanswered order by unanswered_id'),
      await query('select * from runs order by run_id'),
    ];
  }

  test('a batch that is leased is not handed out again', async () => {
    await flag(3);
    await mustClaim();
    expect(await claimOne()).toBeUndefined();
  });

  test('listeners that claim at the same time get a batch each', async () => {
    await database().set({ batch_size: '10' });
    await flag(100);
    const claims = await Promise.all(Array.from({ length: 14 }, () => claimOne()));
    const made = claims.filter((claim) => claim !== undefined);
    expect(new Set(made.map(({ batchId }) => batchId)).size).toBe(made.length);
    const keys = made.flatMap((claim) => claim.keys);
    expect(keys).toHaveLength(10 * made.length);
    expect(new Set(keys).size).toBe(keys.length);
    let rest = 0;
    while ((await claimOne()) !== undefined) rest += 1;
    expect(made.length + rest).toBe(10);
  });

  test('a lease that has run out is taken over, with everything that is in the batch', async () => {
    await flag(3);
    const first = await mustClaim();
    await database().expireLeases();
    const second = await mustClaim();
    expect(second.batchId).toBe(first.batchId);
    expect(second.keys).toHaveLength(3);
    expect(second.keys.toSorted()).toEqual(first.keys.toSorted());
  });

  test.each(['has run out and was taken over', 'was never given'])(
    'a lease that %s changes nothing, whatever its holder calls',
    async (how) => {
      await flag(4);
      const stale = crypto.randomUUID();
      let claim: Claim;
      if (how === 'was never given') claim = await mustClaim();
      else {
        await mustClaim(stale);
        await database().expireLeases();
        claim = await mustClaim();
      }
      const { store } = database();
      const before = await everything();
      const { batchId, keys } = claim;
      const outcome = { failed: [], milliseconds: 1, unanswered: keys };
      for (const cleared of [keys, 'all'] as const) {
        expect(await store.settle(batchId, stale, { ...outcome, cleared })).toMatchObject({
          settled: false,
          cleared: 0,
          stamped: 0,
        });
      }
      expect(
        await store.settle(batchId, stale, { ...outcome, cleared: [], failed: failuresOf(keys) }),
      ).toMatchObject({ settled: false });
      expect(
        await store.postpone(batchId, stale, {
          code: 'SlowDown',
          message: 'slow',
          unanswered: keys,
        }),
      ).toBeUndefined();
      expect(await store.split(batchId, stale, { unanswered: keys })).toBe(false);
      expect(await everything()).toEqual(before);
    },
  );

  test('a batch is settled once, and who asks again after a lost answer hears the same', async () => {
    await flag(2);
    const lease = crypto.randomUUID();
    const { batchId, keys } = await mustClaim(lease);
    const outcome = { cleared: keys, failed: [], milliseconds: 1 };
    expect(await database().store.settle(batchId, lease, outcome)).toMatchObject({
      settled: true,
      stamped: 2,
    });
    const before = await everything();
    expect(await database().store.settle(batchId, lease, outcome)).toMatchObject({
      settled: true,
      cleared: 2,
      stamped: 2,
    });
    expect(await database().store.settle(batchId, crypto.randomUUID(), outcome)).toMatchObject({
      settled: false,
    });
    expect(await everything()).toEqual(before);
  });

  test('a lease that has run out and that nobody took over still settles', async () => {
    await flag(2);
    const lease = crypto.randomUUID();
    const { batchId, keys } = await mustClaim(lease);
    await database().expireLeases();
    expect(
      await database().store.settle(batchId, lease, {
        cleared: keys,
        failed: [],
        milliseconds: 1,
      }),
    ).toMatchObject({ settled: true, stamped: 2 });
  });

  test('a batch that is split becomes two that hold everything', async () => {
    await flag(5);
    const lease = crypto.randomUUID();
    const { batchId, keys } = await mustClaim(lease);
    expect(await database().store.split(batchId, lease)).toBe(true);
    const [one, other] = [await mustClaim(), await mustClaim()];
    expect([...one.keys, ...other.keys].toSorted()).toEqual(keys.toSorted());
    expect(new Set([one.keys.length, other.keys.length])).toEqual(new Set([2, 3]));
    expect(await claimOne()).toBeUndefined();
  });

  test('a batch of one cannot be split', async () => {
    await flag(1);
    const lease = crypto.randomUUID();
    const { batchId } = await mustClaim(lease);
    expect(await database().store.split(batchId, lease)).toBe(false);
  });

  test('claiming 1,000 results writes one row, and none of what it holds', async () => {
    await flag(1_000);
    const { one, connect } = database();
    // What is out of line is in the TOAST table; a claim that wrote the arrays again would write there.
    const writes = `select
      (select count(*)::int from retention.batch where xmin = pg_current_xact_id()::xid) as batches,
      (select count(*)::int from runs where xmin = pg_current_xact_id()::xid) as runs,
      (
        select n_tup_ins::int
        from pg_stat_xact_all_tables
        where relid = (select reltoastrelid from pg_class where oid = 'retention.batch'::regclass)
      ) as out_of_line`;
    const client = await connect();
    onTestFinished(() => client.end());
    await client.query('begin');
    const { rows } = await client.query<{ keys: string[] }>(
      `select keys from retention.claim(gen_random_uuid(), '1 minute')`,
    );
    expect(rows[0]?.keys).toHaveLength(1_000);
    const { rows: written } = await client.query(writes);
    expect(written).toEqual([{ batches: 1, runs: 0, out_of_line: 0 }]);
    await client.query('commit');
    expect(
      await one('select count(*)::int as leased from retention.batch where lease is not null'),
    ).toEqual({ leased: 1 });
  });

  test('a lease needs a token and a duration', async () => {
    await flag(1);
    for (const call of [
      `null, '1 minute'`,
      `gen_random_uuid(), '0'`,
      `gen_random_uuid(), null`,
      `gen_random_uuid(), '-1 minute'`,
    ]) {
      await expect(database().query(`select * from retention.claim(${call})`)).rejects.toThrow(
        /lease token/,
      );
    }
  });
});

describeDatabase('batches of different buckets', () => {
  const database = useMigrated();

  async function claimedBuckets(most: number): Promise<string[]> {
    const buckets: string[] = [];
    for (let turn = 0; turn < most; turn += 1) {
      const claim = await database().store.claim({
        lease: crypto.randomUUID(),
        leaseSeconds: 60,
        by: 'test',
      });
      if (claim === undefined) break;
      buckets.push(claim.bucket);
    }
    return buckets;
  }

  test('go round fairly, however much one bucket has', async () => {
    const { set, insertRuns, query } = database();
    await set({ batch_size: '1' });
    await insertRuns({ count: 20, bucket: 'whale', completedAgo: '90 days' });
    await insertRuns({ count: 2, bucket: 'shrimp', completedAgo: '31 days' });
    await query('select retention.flag_expired()');
    const buckets = await claimedBuckets(4);
    expect(buckets.toSorted()).toEqual(['shrimp', 'shrimp', 'whale', 'whale']);
  });

  test('are passed by while their bucket is paused, and no other is', async () => {
    const { set, insertRuns, query } = database();
    await set({ batch_size: '1' });
    await insertRuns({ count: 3, bucket: 'paused', completedAgo: '90 days' });
    await insertRuns({ count: 3, bucket: 'open' });
    await query('select retention.flag_expired()');
    await query(
      `update retention.bucket set pauses = 1, paused_until = now() + interval '1 minute' where bucket = 'paused'`,
    );
    expect(await claimedBuckets(10)).toEqual(['open', 'open', 'open']);
  });

  test('come one at a time after a pause, until one succeeds', async () => {
    const { set, insertRuns, query, store, passRetryTimes } = database();
    await set({ batch_size: '1' });
    await insertRuns({ count: 4, bucket: 'slow' });
    await query('select retention.flag_expired()');
    const lease = crypto.randomUUID();
    const first = await store.claim({ lease, leaseSeconds: 60, by: 'test' });
    expect(
      await store.postpone(first?.batchId ?? 0, lease, { code: 'SlowDown', message: 'slow' }),
    ).toBeInstanceOf(Date);
    expect(await claimedBuckets(10)).toEqual([]);
    await passRetryTimes();

    const trial = crypto.randomUUID();
    const second = await store.claim({ lease: trial, leaseSeconds: 60, by: 'test' });
    expect(second).toBeDefined();
    expect(await claimedBuckets(10)).toEqual([]);
    await store.settle(second?.batchId ?? 0, trial, {
      cleared: second?.keys ?? [],
      failed: [],
      milliseconds: 1,
    });
    expect(await claimedBuckets(10)).toEqual(['slow', 'slow', 'slow']);
  });

  test('a bucket on trial is not blocked for ever by a listener that died with the trial batch', async () => {
    const { set, insertRuns, query, expireLeases } = database();
    await set({ batch_size: '1' });
    await insertRuns({ count: 2, bucket: 'slow' });
    await query('select retention.flag_expired()');
    await query(
      `update retention.bucket set pauses = 1, paused_until = now() - interval '1 second'`,
    );
    expect(await claimedBuckets(10)).toEqual(['slow']);
    await expireLeases();
    expect(await claimedBuckets(10)).toEqual(['slow']);
  });
});
