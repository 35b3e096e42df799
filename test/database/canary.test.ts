import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { silentLogger } from '../../src/logger.ts';
import { verify } from '../../src/reactor/verify.ts';
import { describeDatabase } from '../support/database.ts';
import { listedBucket } from '../support/listed-bucket.ts';
import { failuresOf, useMigrated } from '../support/migrated.ts';

const BUCKET = 'dpp-results';

describeDatabase('the canary', () => {
  const database = useMigrated();

  const begin = () => database().store.beginCanary(BUCKET, 3_600);
  const claim = () => database().store.claim({ lease: randomUUID(), leaseSeconds: 60, by: 'test' });
  /** As if so much time had gone since the last one began. */
  const pass = () =>
    database().query(
      `update retention.canary set began_at = began_at - interval '1 hour', first_at = first_at - interval '4 hours',
        asked_at = null`,
    );
  /** Begins one, and says that it was written. */
  const put = async (): Promise<string> => {
    await begin();
    await pass();
    const next = await begin();
    expect(next?.step).toBe('put');
    await database().store.noteCanary(BUCKET, next?.key ?? '', { what: 'put' });
    return next?.key ?? '';
  };
  const settle = async (cleared: boolean) => {
    const claimed = await database().claimNext();
    const failed = cleared ? [] : failuresOf(claimed.keys);
    return database().store.settle(claimed.batchId, claimed.lease, {
      cleared: cleared ? 'all' : [],
      failed,
      milliseconds: 7,
      unanswered: [],
    });
  };
  const state = async () => (await database().store.readCanaries())[0];

  test('begins an interval after a listener first asked, once for all of them', async () => {
    expect(await begin()).toBeUndefined();
    expect(await begin()).toBeUndefined();
    await pass();
    const both = await Promise.all([begin(), begin()]);
    const [next, ...more] = both.filter((it) => it !== undefined);
    expect(more).toEqual([]);
    expect(next?.key).toMatch(/^\.retention\/canary\/[0-9a-f-]{36}$/u);
    // Its listener was killed: after a minute another one does the same step.
    expect(await begin()).toBeUndefined();
    await database().query(`update retention.canary set asked_at = now() - interval '61 seconds'`);
    expect(await begin()).toEqual(next);
  });

  test('goes the whole way in front of the queue, without a row, and with a receipt', async () => {
    await database().insertRun();
    await database().query('select retention.flag_expired()');
    const before = await database().store.readStatus();
    const key = await put();
    const { flagged, due, oldest_due: oldest } = await database().store.readStatus();
    expect({ flagged, due, oldest_due: oldest }).toEqual({
      flagged: before.flagged,
      due: before.due,
      oldest_due: before.oldest_due,
    });
    const [batch] = await database().query(
      'select kind, results, cardinality(run_ids) as runs from retention.batch order by batch_id desc',
    );
    expect(batch).toEqual({ kind: 'canary', results: 0, runs: 0 });
    const claimed = await database().claimNext();
    expect(claimed).toMatchObject({ bucket: BUCKET, keys: [key], spared: 0 });
    const settled = await database().store.settle(claimed.batchId, claimed.lease, {
      cleared: 'all',
      failed: [],
      milliseconds: 7,
      unanswered: [],
    });
    expect(settled).toMatchObject({ settled: true, cleared: 0, stamped: 0, failed: 0, dead: 0 });
    expect(
      await database().query(
        'select kind, bucket, asked_by is not null as told from retention.receipt',
      ),
    ).toEqual([{ kind: 'canary', bucket: BUCKET, told: true }]);
    expect(await state()).toMatchObject({ confirmed_at: null, code: null });
    expect(await begin()).toEqual({ step: 'look', key });
    await database().store.noteCanary(BUCKET, key, { what: 'gone' });
    const { age_seconds: age, ...after } = (await state()) ?? { age_seconds: NaN };
    expect(age).toBeLessThan(60);
    expect(after).toMatchObject({ code: null, is_off: false });
    // No count of results, no account of stamps and no certificate knows it; the seals do.
    const { cleared_today: cleared } = await database().store.readStatus();
    expect(cleared).toBe(0);
    await database().query('select retention.account_stamps()');
    expect(
      await database().query(`select kind from retention.stamp_account where results > 0`),
    ).toEqual([]);
    const results = await database().query(
      `select * from retention.certificate_results('acme', now() - interval '1 day', now())`,
    );
    expect(JSON.stringify(results)).not.toContain('canary');
    await database().query('select retention.seal_now()');
    const sealed = await database().query(
      `select sum(receipts)::int as receipts, bool_and(coalesce(jsonb_array_length(problems), 0) = 0) as hold
      from retention.verify_seals()`,
    );
    expect(sealed).toEqual([{ receipts: 1, hold: true }]);
  });

  test('is no orphan', async () => {
    const bucket = listedBucket(['.retention/canary/1', 'orphan']);
    const found = await verify({
      store: database().store,
      objects: { listing: bucket.listing },
      logger: silentLogger,
      buckets: [BUCKET],
      repair: false,
    });
    expect(found.orphans.objects).toBe(1);
  });

  test('that fails is named with its reason, announced once, and followed by the next', async () => {
    const heard: string[] = [];
    const session = await database().connect();
    session.on('notification', ({ payload }) => heard.push(payload ?? ''));
    await session.query('listen retention_attention');
    for (const [fail, code] of [
      [async () => void (await settle(false)), 'AccessDenied'],
      [async () => void (await settle(false)), 'AccessDenied'],
      [
        async () => {
          await settle(true);
          const next = await begin();
          await database().store.noteCanary(BUCKET, next?.key ?? '', { what: 'there' });
        },
        'StillThere',
      ],
      [
        async () => {
          await pass();
          expect(await begin()).toBeUndefined();
        },
        'NotDeleted',
      ],
    ] as const) {
      await put();
      await fail();
      expect(await state()).toMatchObject({ code });
    }
    // Late as it is, it comes to its end.
    await settle(true);
    const next = await begin();
    await database().store.noteCanary(BUCKET, next?.key ?? '', { what: 'gone' });
    expect(await state()).toMatchObject({ code: null, problem: null });
    await session.query('select 1');
    expect(heard.map((payload) => JSON.parse(payload) as object)).toEqual(
      ['AccessDenied', 'StillThere', 'NotDeleted'].map((code) => ({
        kind: 'canary',
        bucket: BUCKET,
        code,
      })),
    );
    // A bucket is judged by its results.
    expect(await database().query('select pauses, refused_in_row from retention.bucket')).toEqual([
      { pauses: 0, refused_in_row: 0 },
    ]);
  });

  test('without the right to write is off, and none begins while the gate is closed', async () => {
    await begin();
    await pass();
    await database().query(`select retention.halt('to see')`);
    expect(await begin()).toBeUndefined();
    await database().query('select retention.resume()');
    const next = await begin();
    const denied = { what: 'failed', code: 'AccessDenied', problem: 'Access Denied' } as const;
    await database().store.noteCanary(BUCKET, next?.key ?? '', denied);
    expect(await state()).toMatchObject({ is_off: true, code: 'AccessDenied' });
    expect(await claim()).toBeUndefined();
  });
});
