import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NEVER_ABORTED } from '../../src/lifecycle/linked-abort.ts';
import { unlimited } from '../../src/lifecycle/rate-limit.ts';
import { silentLogger } from '../../src/logger.ts';
import type { Fence } from '../../src/reactor/fence.ts';
import { FENCE_TIMES } from '../../src/reactor/fence-proof.ts';
import { createWorker } from '../../src/reactor/worker.ts';
import { type MemoryS3, type MemoryS3Request, startMemoryS3 } from '../stack/memory-s3.ts';
import { describeDatabase } from '../support/database.ts';
import {
  FENCE_BUCKET,
  type FencedProcess,
  fencedProcess,
  letPass,
  openConditional,
  snapshotOf,
} from '../support/fences.ts';
import { createManualClock } from '../support/manual-clock.ts';
import { useMigrated } from '../support/migrated.ts';

const TEN_MINUTES = 600;

describeDatabase('promise 13: the fence in S3', () => {
  const database = useMigrated();
  let s3: MemoryS3;
  const requests: MemoryS3Request[] = [];
  let clock = createManualClock();

  beforeEach(async () => {
    requests.length = 0;
    s3 = await startMemoryS3({ onRequest: (request) => requests.push(request) });
    s3.createBucket(FENCE_BUCKET);
    clock = createManualClock();
    await database().query(
      `update retention.fence set tokens = '{}', newest = 0, tried_at = null, renewed_at = null, renewed_by = null,
        bucket = null, taking = false, lost_at = null, lost_because = null;
      update retention.identity set fence = gen_random_uuid(), timeline = (select timeline from retention._identity_now())`,
    );
  });
  afterEach(() => s3.stop());

  const start = (
    url = database().url,
    more: Partial<Parameters<typeof fencedProcess>[2]> = {},
  ): FencedProcess => fencedProcess(url, s3, { clock, ...more });
  const gateOf = async ({ query }: FencedProcess) =>
    query('select reason, because, remedy from retention.gate()');
  const written = (): number =>
    requests.filter(({ operation, status }) => operation === 'PutObject' && status === 200).length;

  test('is written by the first listener, which claims at once, and renewed twice a minute', async () => {
    const original = start();
    expect(original.fence.isHeld()).toBe(false);
    await original.fence.look();
    expect(original.fence.isHeld()).toBe(true);
    const before = written();
    await letPass(TEN_MINUTES, clock, [original]);
    expect(original.fence.isHeld()).toBe(true);
    expect(written() - before).toBe(TEN_MINUTES / 30);
    expect(await gateOf(original)).toEqual([]);
  });

  test('a copy that looks identical claims nothing in ten minutes and is told; the original goes on', async () => {
    const original = start();
    await original.fence.look();
    const copyUrl = await snapshotOf(database().url);
    const copy = start(copyUrl);
    // It looks before the original has renewed: nothing tells them apart yet.
    await copy.fence.look();
    expect(copy.fence.isHeld()).toBe(false);
    const held: boolean[] = [];
    for (let minute = 0; minute < 10; minute += 1) {
      await letPass(60, clock, [original, copy]);
      held.push(copy.fence.isHeld());
      expect(original.fence.isHeld()).toBe(true);
    }
    expect(held).toEqual(Array.from({ length: 10 }, () => false));
    expect(await gateOf(original)).toEqual([]);
    const [reason] = await gateOf(copy);
    expect(reason).toMatchObject({ reason: 'copy' });
    expect(reason?.['because']).toContain(
      'another database renewed the fence in bucket dpp-results at ',
    );
    expect(reason?.['remedy']).toContain('retention fence accept');
    expect(
      await copy.query(`select * from retention.claim(gen_random_uuid(), '1 minute')`),
    ).toEqual([]);
  });

  test('a copy that starts just before a renewal does not take what only the original was going to write', async () => {
    const original = start();
    await original.fence.look();
    // The next token is written down, and the copy is made before S3 has it.
    await original.query(`select retention.renew_fence('11111111-1111-1111-1111-111111111111')`);
    const copy = start(await snapshotOf(database().url));
    await copy.fence.look();
    const key = `.retention/fence-${String((await original.query('select fence from retention.identity'))[0]?.['fence'])}`;
    const found = await openConditional(s3).readObject(FENCE_BUCKET, key);
    const body = JSON.stringify({ token: '11111111-1111-1111-1111-111111111111' });
    await openConditional(s3).writeObject(FENCE_BUCKET, { key, body, instead: found?.etag });
    await copy.fence.look();
    expect(copy.fence.isHeld()).toBe(false);
  });

  test('several listeners of one database renew it without tripping each other, at the pace of one', async () => {
    const first = start();
    await first.fence.look();
    const others = [start(), start(), start()];
    await Promise.all(others.map(({ fence }) => fence.look()));
    const all = [first, ...others];
    await letPass(60, clock, all);
    const before = written();
    await letPass(TEN_MINUTES, clock, all);
    // Each tests once whether the store keeps to conditions, and that is refused.
    expect(written() - before).toBeLessThanOrEqual(TEN_MINUTES / 30 + 2);
    expect(all.map(({ fence }) => fence.isHeld())).toEqual([true, true, true, true]);
    expect(await gateOf(first)).toEqual([]);
    await Promise.all(
      Array.from({ length: 5 }, () => all)
        .flat()
        .map(({ fence }) => fence.look()),
    );
    expect(await gateOf(first)).toEqual([]);
  });

  test('who was stopped tidily lets the next begin at once; after a crash the next one watches first', async () => {
    const original = start();
    await original.fence.look();
    await original.fence.stop();
    const next = start();
    await next.fence.look();
    expect(next.fence.isHeld()).toBe(true);

    const afterCrash = start();
    await afterCrash.fence.look();
    expect(afterCrash.fence.isHeld()).toBe(false);
    await letPass(80, clock, [afterCrash]);
    expect(afterCrash.fence.isHeld()).toBe(false);
    await letPass(20, clock, [afterCrash]);
    expect(afterCrash.fence.isHeld()).toBe(true);
  });

  test.each([
    ['before it reached S3', false],
    ['after it reached S3', true],
  ])('a renewal that was cut off %s is known as ours', async (_when, reached) => {
    const original = start();
    await original.fence.look();
    const conditional = openConditional(s3);
    const crashing = start(undefined, {
      conditional: {
        ...conditional,
        writeObject: async (...rest) => {
          if (reached) await conditional.writeObject(...rest);
          throw new Error('killed');
        },
      },
    });
    await letPass(40, clock, [original]);
    await database().query(
      `update retention.fence set renewed_at = now() - interval '1 hour', tried_at = null`,
    );
    await crashing.fence.look().catch(() => undefined);
    await clock.advance(100_000);
    await crashing.fence.look().catch(() => undefined);
    const after = start();
    await letPass(120, clock, [after]);
    expect(after.fence.isHeld()).toBe(true);
    expect(await gateOf(after)).toEqual([]);
  });

  test('without an answer of S3 it is held no longer than it is valid, and comes back by itself', async () => {
    const conditional = openConditional(s3);
    let isDown = false;
    const original = start(undefined, {
      conditional: {
        writeObject: (...rest) => conditional.writeObject(...rest),
        readObject: (...rest) =>
          isDown
            ? openConditional({ ...s3, endpoint: 'http://127.0.0.1:9' }).readObject(...rest)
            : conditional.readObject(...rest),
      },
    });
    await original.fence.look();
    isDown = true;
    await letPass(70, clock, [original]);
    expect(original.fence.isHeld()).toBe(true);
    await letPass(10, clock, [original]);
    expect(original.fence.isHeld()).toBe(false);
    expect(original.fence.whyNot()).toContain('could not be renewed');
    isDown = false;
    await letPass(20, clock, [original]);
    expect(original.fence.isHeld()).toBe(true);
    expect(await gateOf(original)).toEqual([]);
  }, 60_000);

  test('a listener that was suspended for twenty minutes claims nothing before it has looked again', async () => {
    const original = start();
    await original.fence.look();
    const copy = start(await snapshotOf(database().url));
    await clock.advance(20 * 60_000);
    expect(original.fence.isHeld()).toBe(false);
    await copy.store.acceptFence('moved');
    await letPass(120, clock, [copy]);
    expect(copy.fence.isHeld()).toBe(true);
    await original.fence.look();
    expect(original.fence.isHeld()).toBe(false);
    expect((await gateOf(original))[0]).toMatchObject({ reason: 'copy' });
  });

  describe('accepting a copy', () => {
    test('halts the original, says so there, and the copy claims only when the original has stopped', async () => {
      const original = start();
      await original.fence.look();
      const copy = start(await snapshotOf(database().url));
      await copy.fence.look();
      await letPass(60, clock, [original, copy]);
      expect((await gateOf(copy))[0]).toMatchObject({ reason: 'copy' });

      expect(await copy.store.acceptFence('production moves here')).toBe(true);
      expect(await gateOf(copy)).toEqual([]);
      // It has the fence, and the original does not know yet.
      await copy.fence.look();
      expect([original, copy].map(({ fence }) => fence.isHeld())).toEqual([true, false]);
      for (let second = 0; second < 120; second += 10) {
        await letPass(10, clock, [copy, original]);
        expect(copy.fence.isHeld() && original.fence.isHeld()).toBe(false);
      }
      expect(copy.fence.isHeld()).toBe(true);
      expect((await gateOf(original))[0]?.['because']).toContain(
        'another database renewed the fence',
      );
      const [row] = await copy.query('select accepted_by, accepted_reason from retention.fence()');
      expect(row).toEqual({ accepted_by: 'postgres', accepted_reason: 'production moves here' });
    });

    test('there is nothing to accept where nothing differs, and it changes nothing', async () => {
      const original = start();
      await original.fence.look();
      expect(await original.store.acceptFence()).toBe(false);
      expect(await original.query('select taking from retention.fence')).toEqual([
        { taking: false },
      ]);
    });

    test('lists holds, policies and deletions that the fence knows and this database does not', async () => {
      const original = start();
      const { query, insertRuns } = database();
      await database().insertRun({ completedAgo: '1 day' });
      await query(`select retention.set_policy('acme', '60 days', true, true)`);
      const copyUrl = await snapshotOf(database().url);
      await query(`select retention.place_hold(p_tenant_id => 'acme', p_reason => 'litigation')`);
      await query(`select retention.set_policy('acme', '90 days', true, true)`);
      await insertRuns({ tenant: 'other', count: 3 });
      await query(`select retention.flag_expired()`);
      const { lease, batchId } = await database().claimNext();
      await database().store.settle(batchId, lease, {
        cleared: 'all',
        failed: [],
        milliseconds: 1,
      });
      await original.fence.look();

      const copy = start(copyUrl);
      await copy.fence.look();
      const key = `.retention/fence-${String((await original.query('select fence from retention.identity'))[0]?.['fence'])}`;
      const found = await openConditional(s3).readObject(FENCE_BUCKET, key);
      const losses = await copy.store.fenceLosses(JSON.parse(found?.body ?? ''));
      expect(losses.map(({ kind }) => kind).toSorted()).toEqual([
        'hold',
        'hold',
        'policy',
        'receipts',
      ]);
      const details = losses.map(({ detail }) => detail).join('\n');
      expect(details).toMatch(/hold \d+ on tenant acme, placed by postgres/u);
      expect(details).toContain('policy of acme: 90 days there, 60 days here');
      expect(details).toMatch(/deletions up to \d{4}-.*batch \d+ was settled there, none here/u);
      expect(await original.store.fenceLosses(JSON.parse(found?.body ?? ''))).toEqual([]);
      expect(Buffer.byteLength(found?.body ?? '')).toBeLessThan(65_536);
    });

    test.each([
      ['nothing', undefined],
      ['no object', 17],
      ['a head of nonsense', { head: { holds: 'x', highest_hold: 'y', policies: [1] } }],
    ])('says that nothing is known where the fence holds %s', async (_what, object) => {
      const original = start();
      expect(await original.store.fenceLosses(object)).toMatchObject([{ kind: 'unknown' }]);
    });
  });

  test('a fence stays small with thousands of holds and policies', async () => {
    const { query } = database();
    await query(`
      insert into retention.hold (tenant_id, reason) select repeat('ü', 400) || n, 'x' from generate_series(1, 3000) n;
      insert into retention.policy (tenant_id, retain) select repeat('ä', 40) || n, '40 days' from generate_series(1, 3000) n`);
    const [row] = await query<{ size: number }>(
      'select octet_length(retention._fence_head()::text) as size',
    );
    expect(row?.size).toBeLessThan(64_000);
    expect(row?.size).toBeGreaterThan(10_000);
  });

  test('a fence that is gone halts, and is there again once that is accepted', async () => {
    const original = start();
    await original.fence.look();
    s3.removeBucket(FENCE_BUCKET);
    s3.createBucket(FENCE_BUCKET);
    await letPass(30, clock, [original]);
    expect(original.fence.isHeld()).toBe(false);
    expect((await gateOf(original))[0]?.['because']).toContain(
      'is not in bucket dpp-results any more',
    );
    await original.store.acceptFence();
    await letPass(120, clock, [original]);
    expect(original.fence.isHeld()).toBe(true);
  });

  test.each([
    ['no JSON', 'broken'],
    ['no token', '{}'],
    ['a token that is none', '{"token": "x"}'],
  ])(
    'an object of a stranger with %s is another fence, and nothing is claimed',
    async (_what, body) => {
      const original = start();
      await original.fence.look();
      const key = `.retention/fence-${String((await original.query('select fence from retention.identity'))[0]?.['fence'])}`;
      s3.putObject(FENCE_BUCKET, key, Buffer.from(body));
      await original.fence.look();
      expect(original.fence.isHeld()).toBe(false);
      expect((await gateOf(original))[0]).toMatchObject({ reason: 'copy' });
    },
  );

  test('two platforms on one bucket know nothing of each other', async () => {
    const first = start();
    await first.fence.look();
    const otherUrl = await snapshotOf(database().url);
    const other = start(otherUrl);
    await other.query(
      `update retention.identity set fence = gen_random_uuid(); update retention.fence set tokens = '{}', newest = 0, renewed_at = null`,
    );
    await other.fence.look();
    await letPass(TEN_MINUTES, clock, [first, other]);
    expect([first, other].map(({ fence }) => fence.isHeld())).toEqual([true, true]);
    expect(s3.countObjects(FENCE_BUCKET)).toBe(2);
  });

  test('a standby that lost the last seconds is known by the process that wrote them, and by no other', async () => {
    const original = start();
    await original.fence.look();
    const row = JSON.stringify((await original.query('select * from retention.fence'))[0]);
    await letPass(30, clock, [original]);
    const lose = `update retention.fence f set tokens = o.tokens, newest = o.newest, renewed_at = o.renewed_at
      from json_populate_record(null::retention.fence, '${row}') o`;
    await original.query(lose);
    await original.query('update retention.identity set timeline = timeline - 1');
    await original.fence.look();
    expect(original.fence.isHeld()).toBe(true);
    expect(await gateOf(original)).toEqual([]);
    expect(original.logger.lines.map(({ message }) => message)).toContainEqual(
      expect.stringContaining('on another timeline'),
    );

    await letPass(30, clock, [original]);
    await original.query(lose);
    const stranger = start();
    await stranger.fence.look();
    expect((await gateOf(stranger))[0]).toMatchObject({ reason: 'copy' });
  });

  test('a recovery to an hour ago is no lost second, also for the process that goes on', async () => {
    const original = start();
    await original.fence.look();
    const row = JSON.stringify((await original.query('select * from retention.fence'))[0]);
    await letPass(3_600, clock, [original]);
    await original.query(`update retention.fence f set tokens = o.tokens, newest = o.newest
      from json_populate_record(null::retention.fence, '${row}') o`);
    await original.query('update retention.identity set timeline = timeline - 1');
    await original.fence.look();
    expect(original.fence.isHeld()).toBe(false);
    expect((await gateOf(original))[0]).toMatchObject({ reason: 'copy' });
  }, 120_000);

  test('another timeline without a fence waits for a person; with one the listener accepts it', async () => {
    const { query, one } = database();
    await query('update retention.identity set timeline = timeline - 1');
    const reason = await one('select reason, because, remedy from retention.gate()');
    expect(reason).toMatchObject({ reason: 'copy' });
    expect(reason['because']).toMatch(
      /on timeline \d+, and timeline \d+ was accepted: it was promoted, or recovered/u,
    );
    expect(reason['remedy']).toContain('retention fence accept');
    await query(`select retention.accept_fence('promoted')`);
    expect(await query('select * from retention.gate()')).toEqual([]);
  });

  test('a process without the variable keeps to a fence that this database has used, and one that says none does not', async () => {
    const original = start();
    await original.fence.look();
    const forgetful = start(undefined, { mode: undefined });
    await forgetful.fence.look();
    expect(forgetful.fence.isUsed()).toBe(true);
    expect(forgetful.fence.isHeld()).toBe(false);
    const without = start(undefined, { mode: 'none' });
    await without.fence.look();
    expect(without.fence.isHeld()).toBe(true);
    expect(without.logger.count('warning')).toBe(1);
  });

  test('where it is not asked for and was never used, nothing is asked of S3', async () => {
    const plain = start(undefined, { mode: undefined });
    await plain.fence.look();
    expect(plain.fence.isHeld()).toBe(true);
    expect(requests).toEqual([]);
  });

  test.each([
    ['may not be written', 's3:PutObject'],
    ['may not be read', 's3:GetObject'],
  ])(
    'where it %s nothing is claimed, and one sentence names the variable',
    async (_what, action) => {
      const policy = {
        Statement: [
          {
            Effect: 'Deny',
            Principal: '*',
            Action: [action],
            Resource: `arn:aws:s3:::${FENCE_BUCKET}/*`,
          },
        ],
      };
      await fetch(`${s3.endpoint}/${FENCE_BUCKET}?policy`, {
        method: 'PUT',
        headers: { authorization: `AWS4-HMAC-SHA256 Credential=${s3.users[0]?.accessKeyId}/x` },
        body: JSON.stringify({ Version: '2012-10-17', ...policy }),
      });
      const original = start();
      await original.fence.look();
      await original.fence.look();
      expect(original.fence.isHeld()).toBe(false);
      const said = original.logger.lines.filter(({ level }) => level === 'error');
      expect(said).toHaveLength(1);
      expect(said[0]?.message).toMatch(/RETENTION_FENCE=s3 .*AccessDenied.*RETENTION_FENCE=none/u);
      await expect(original.fence.hold()).rejects.toMatchObject({ exitCode: 1 });
      expect(await gateOf(original)).toEqual([]);
    },
  );

  test('a store that ignores conditions is found out, and nothing is claimed', async () => {
    const conditional = openConditional(s3);
    const original = start(undefined, {
      conditional: {
        readObject: (...rest) => conditional.readObject(...rest),
        writeObject: (bucket, { key, body }) => {
          s3.putObject(bucket, key, Buffer.from(body));
          return Promise.resolve(true);
        },
      },
    });
    await original.fence.look();
    expect(original.fence.isHeld()).toBe(false);
    expect(original.fence.whyNot()).toContain('ignores If-Match');
  });

  test('a worker claims nothing without it, and asks S3 nothing when it is lost after the claim', async () => {
    await database().insertRuns({ count: 3 });
    await database().query('select retention.flag_expired()');
    let asked = 0;
    const work = async (fence: Pick<Fence, 'isHeld' | 'whyNot' | 'heldUntil'>) =>
      createWorker({
        store: database().store,
        objects: {
          deleteObjects: () => {
            asked += 1;
            throw new Error('S3 was asked');
          },
        },
        logger: silentLogger,
        name: 'test',
        leaseSeconds: 60,
        rateLimit: unlimited,
        fence,
      }).workOnce({ stop: NEVER_ABORTED, abort: NEVER_ABORTED });
    expect(
      await work({ isHeld: () => false, whyNot: () => 'not held', heldUntil: () => -Infinity }),
    ).toBeUndefined();
    expect(
      await work({ isHeld: () => true, whyNot: () => 'lost meanwhile', heldUntil: () => 0 }),
    ).toMatchObject({
      cleared: 0,
      postponed: true,
    });
    expect(asked).toBe(0);
    expect(await database().countStamped()).toBe(0);
  });

  test('the times leave no moment at which two databases may claim', () => {
    expect(FENCE_TIMES.watch).toBeGreaterThan(FENCE_TIMES.valid);
    expect(FENCE_TIMES.valid).toBeGreaterThan(2 * FENCE_TIMES.renew);
  });
});
