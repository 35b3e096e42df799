import { describe, expect, test } from 'vitest';
import type { Claim } from '../../src/store/leases.ts';
import { failuresOf, useMigrated } from '../support/migrated.ts';

const database = useMigrated();

async function habits(bucket = 'dpp-results') {
  return (await database().store.knownBucket(bucket))?.habits;
}

async function learn(learned: Record<string, unknown>, bucket = 'dpp-results'): Promise<void> {
  await database().store.learnHabits(bucket, { habits: learned, because: 'a test' });
}

async function flag(count: number, bucket = 'dpp-results'): Promise<string[]> {
  const runIds = await database().insertRuns({ count, bucket });
  await database().store.flagExpired({ by: 'test' });
  return runIds;
}

describe('a bucket whose store takes few keys', () => {
  test('gets batches of so many, in the order in which they were flagged', async () => {
    const runIds = await flag(25);
    await learn({ keys_per_request: 10 });
    const claims = [];
    for (let at = 0; at < 3; at += 1) claims.push(await database().claimNext());
    expect(claims.map(({ keys }) => keys.length)).toEqual([10, 10, 5]);
    expect(claims[0]?.habits).toEqual({ keys_per_request: 10 });
    const claimed = await Promise.all(claims.map((claim) => database().claimed(claim)));
    expect(claimed.flat().toSorted()).toEqual(runIds.toSorted());
  });

  test('and is deleted from is stamped whole, each batch for itself', async () => {
    await flag(7);
    await learn({ keys_per_request: 3 });
    for (let at = 0; at < 3; at += 1) {
      const { batchId, lease } = await database().claimNext();
      const settled = { cleared: 'all', failed: [], milliseconds: 1 } as const;
      await database().store.settle(batchId, lease, settled);
    }
    expect(await database().countStamped()).toBe(7);
  });

  test('is reconciled whole also where a reconcile is narrowed to its batches', async () => {
    await database().insertRuns({ count: 7 });
    const { batchIds } = await database().store.flagSelected({ tenantId: 'acme' });
    await learn({ keys_per_request: 3 });
    const claim = (): Promise<Claim | undefined> =>
      database().store.claim({
        lease: crypto.randomUUID(),
        leaseSeconds: 60,
        by: 'test',
        batchIds,
      });
    const claims = [await claim(), await claim(), await claim(), await claim()];
    expect(claims.map((it) => it?.keys.length)).toEqual([3, 3, 1, undefined]);
  });

  test('shares what is known with every listener, and after a restart', async () => {
    await flag(1);
    await learn({ checksum: 'md5', deletes: 'singly', addressing: 'virtual', keys_in_time: 4 });
    expect((await database().claimNext()).habits).toEqual({
      checksum: 'md5',
      deletes: 'singly',
      addressing: 'virtual',
      keys_in_time: 4,
    });
  });
});

describe('what is learned', () => {
  test('is forgotten after a day', async () => {
    await flag(3);
    await learn({ keys_per_request: 1, checksum: 'md5' });
    await database().query(`update retention.bucket set learned =
      jsonb_set(learned, '{keys_per_request, at}', to_jsonb(now() - interval '25 hours'))`);
    const claim = await database().claimNext();
    expect(claim.habits).toEqual({ checksum: 'md5' });
    expect(claim.keys).toHaveLength(3);
  });

  test('is as low as the lowest of two that learn it at once', async () => {
    await flag(1);
    await learn({ keys_per_request: 62 });
    await learn({ keys_per_request: 125 });
    expect((await habits())?.keys_per_request?.value).toBe(62);
  });

  test('grows again where the store has become fast', async () => {
    await flag(1);
    await learn({ keys_in_time: 50 });
    await learn({ keys_in_time: 400 });
    expect((await habits())?.keys_in_time?.value).toBe(400);
    await learn({ keys_in_time: null });
    expect(await habits()).toEqual({});
  });

  test('says what showed it and when', async () => {
    await flag(1);
    await learn({ keys_per_request: 62 });
    expect((await habits())?.keys_per_request).toMatchObject({ by: 'learned', because: 'a test' });
  });

  test.each([
    [
      { keys_per_request: 0 },
      'expected keys_per_request as a whole number from 1 to 1000, given: 0',
    ],
    [
      { keys_per_request: '5' },
      'expected keys_per_request as a whole number from 1 to 1000, given: 5',
    ],
    [{ keys_per_request: 1.5 }, 'given: 1.5'],
    [{ checksum: 'sha1' }, 'expected checksum as crc32, md5 or none, given: sha1'],
    [{ colour: 'red' }, 'given: colour'],
    [[], 'expected habits as a JSON object, given: []'],
  ])('is refused where it is none: %j', async (learned, message) => {
    await flag(1);
    await expect(learn(learned as never)).rejects.toThrow(message);
    expect(await habits()).toEqual({});
  });
});

describe('what a person sets', () => {
  test('wins over what is learned, and is not forgotten with it', async () => {
    const { store } = database();
    await flag(20);
    await learn({ keys_per_request: 5, checksum: 'md5' });
    await store.setHabits('dpp-results', { keys_per_request: 8 }, { by: 'ada' });
    expect(await habits()).toMatchObject({
      keys_per_request: { value: 8, by: 'hand', because: 'set by ada' },
      checksum: { value: 'md5', by: 'learned' },
    });
    expect((await database().claimNext()).keys).toHaveLength(8);
    await store.forgetHabits('dpp-results');
    expect(Object.keys((await habits()) ?? {})).toEqual(['keys_per_request']);
    await store.forgetHabits('dpp-results', true);
    expect(await habits()).toEqual({});
  });

  test('leaves the others as they are, and null leaves one to be learned', async () => {
    const { store } = database();
    await flag(1);
    await store.setHabits('dpp-results', { keys_per_request: 8, checksum: 'none' });
    await store.setHabits('dpp-results', { checksum: null });
    expect(Object.keys((await habits()) ?? {})).toEqual(['keys_per_request']);
  });

  test('is refused for a bucket that nobody knows, with those that are known', async () => {
    await flag(1);
    const set = database().store.setHabits('dpp-result', { checksum: 'md5' });
    await expect(set).rejects.toMatchObject({
      message: 'expected a bucket that is known, given: dpp-result',
      remedy: 'Known: dpp-results.',
    });
    await database().store.setHabits('to-come', { checksum: 'md5' }, { isNew: true });
    expect(await habits('to-come')).toMatchObject({ checksum: { value: 'md5' } });
  });
});

describe('a look before the first deletion', () => {
  const place = 'https://store.example';

  test('that finds most objects missing halts everything until a person says so', async () => {
    const { store } = database();
    await flag(30);
    const missing = Array.from({ length: 18 }, (_, index) => `results/${index}`);
    const may = await store.noteLook('dpp-results', { place, looked: 20, missing });
    expect(may).toBe(false);
    const [reason] = await store.readGate();
    expect(reason).toMatchObject({
      reason: 'objects missing',
      because:
        '18 of 20 keys that were looked for in bucket dpp-results have no object there, ' +
        'such as results/0, results/1, results/2',
    });
    expect(reason?.remedy).toContain('retention bucket confirm dpp-results');
    const claim = store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'test' });
    expect(await claim).toBeUndefined();
    await store.confirmMissing('dpp-results', 'ada');
    expect(await store.readGate()).toEqual([]);
    expect((await database().claimNext()).lookedIn).toBe(place);
  });

  test('that finds some missing, as in ordinary running, halts nothing', async () => {
    const { store } = database();
    await flag(30);
    const missing = Array.from({ length: 10 }, (_, index) => `results/${index}`);
    expect(await store.noteLook('dpp-results', { place, looked: 20, missing })).toBe(true);
    expect(await store.readGate()).toEqual([]);
  });

  test('of a few keys is gone on with until enough were looked for', async () => {
    const { store } = database();
    await flag(1);
    expect(
      await store.noteLook('dpp-results', { place, looked: 4, missing: ['a', 'b', 'c', 'd'] }),
    ).toBe(true);
    expect((await database().claimNext()).lookedIn).toBeUndefined();
    expect(await store.noteLook('dpp-results', { place, looked: 1, missing: ['e'] })).toBe(false);
  });

  test.each(['s3://dpp-results/results/1', '/results/1', 'https://host/b/k', 's3a://b/k'])(
    'that misses a key written as a place (%s) halts at once',
    async (key) => {
      await flag(1);
      const look = { place, looked: 1, missing: [key] };
      expect(await database().store.noteLook('dpp-results', look)).toBe(false);
    },
  );

  test('in another store begins again, and a confirmation is not for that one', async () => {
    const { store } = database();
    await flag(1);
    const missing = ['a', 'b', 'c', 'd', 'e'];
    await store.noteLook('dpp-results', { place, looked: 5, missing });
    await store.confirmMissing('dpp-results');
    expect(await store.noteLook('dpp-results', { place, looked: 20, missing: [] })).toBe(true);
    const elsewhere = { place: 'https://other.example', looked: 5, missing };
    expect(await store.noteLook('dpp-results', elsewhere)).toBe(false);
  });

  test('is done again where it is forgotten', async () => {
    const { store } = database();
    await flag(1);
    const missing = ['a', 'b', 'c', 'd', 'e'];
    await store.noteLook('dpp-results', { place, looked: 5, missing });
    await store.forgetHabits('dpp-results');
    expect(await store.readGate()).toEqual([]);
  });
});

describe('faults of the store that it answers for single keys', () => {
  const fault = { code: 'InternalError', reason: 'We failed', outcome: 'failed' } as const;

  async function failOnce(more: Partial<Parameters<typeof failuresOf>[1]> = {}) {
    const { batchId, lease, keys } = await database().claimNext();
    const failed = failuresOf(keys, { ...fault, ...more });
    const outcome = { cleared: [], failed, milliseconds: 1 };
    return database().store.settle(batchId, lease, outcome);
  }

  async function paused(): Promise<boolean> {
    const { is_paused: isPaused } = await database().one<{ is_paused: boolean }>(
      'select coalesce(paused_until > now(), false) as is_paused from retention.bucket',
    );
    return isPaused;
  }

  test('for all of them pause the bucket, and none waits for long or counts', async () => {
    await flag(5);
    expect(await failOnce()).toMatchObject({ failed: 5, dead: 0 });
    expect(await paused()).toBe(true);
    await database().query('update retention.batch set postponed = 30 where settled_at is null');
    await database().passRetryTimes();
    const { retryAt } = await failOnce();
    expect((retryAt?.getTime() ?? 0) - Date.now()).toBeLessThan(6 * 60_000);
  });

  test('for some of them, as too many requests, pause the bucket although others went', async () => {
    await flag(2);
    const { batchId, lease, keys } = await database().claimNext();
    const failed = failuresOf(keys.slice(1), {
      code: 'SlowDownWrite',
      outcome: 'failed',
      concerns: 'bucket',
    });
    await database().store.settle(batchId, lease, {
      cleared: keys.slice(0, 1),
      failed,
      milliseconds: 1,
    });
    expect(await paused()).toBe(true);
  });

  async function stick(hours: number, attempts: number): Promise<void> {
    await failOnce();
    await database().query(
      `update retention.batch set stuck_since = now() - make_interval(hours => $1), postponed = $2
      where settled_at is null`,
      [hours, attempts],
    );
    await database().passRetryTimes();
  }

  async function clearAnother(): Promise<void> {
    await database().query(
      `insert into retention.batch (bucket, results, oldest, newest, cleared, settled_at, run_ids, keys, tenants)
      values ('dpp-results', 1, now(), now(), 1, now(), '{}', '{}', '{}')`,
    );
  }

  test('for one of them for a day, while others go, bury it as what the store cannot', async () => {
    await flag(1);
    await stick(25, 19);
    await clearAnother();
    const settled = await failOnce();
    expect(settled).toMatchObject({ dead: 1, problems: [{ code: 'StoreCannot' }] });
    expect(settled.problems[0]?.message).toContain('InternalError at every attempt since');
  });

  test.each([
    ['for less than a day', 23, 30, true],
    ['with few attempts', 30, 5, true],
    ['while nothing else goes', 30, 30, false],
  ])('%s bury nothing', async (_name, hours, attempts, others) => {
    await flag(1);
    await stick(hours, attempts);
    if (others) await clearAnother();
    expect(await failOnce()).toMatchObject({ dead: 0, failed: 1 });
  });

  test('for a whole request time after time, while others go, halve its batch', async () => {
    await flag(8);
    await clearAnother();
    await database().query('update retention.batch set postponed = 5 where settled_at is null');
    const { batchId, lease } = await database().claimNext();
    await database().store.postpone(batchId, lease, { code: 'InternalError', message: 'no' });
    const batches = await database().query<{ results: number }>(
      'select results from retention.batch where settled_at is null order by results',
    );
    expect(batches).toEqual([{ results: 4 }, { results: 4 }]);
  });
});
