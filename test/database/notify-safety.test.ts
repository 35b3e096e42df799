import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { listenInPsql } from '../support/psql.ts';
import { until } from '../support/until.ts';

const CHANNELS = ['retention_expired', 'retention_cleared', 'retention_failed'];
const MOST_BYTES = 8_000;

describeDatabase('notifications', () => {
  const database = useMigrated({ before: 'alter table runs alter column run_id type text' });

  /** Everything that was notified while `work` ran. */
  async function heardDuring(
    work: () => Promise<unknown>,
  ): Promise<{ channel: string; payload: string }[]> {
    const listener = await database().connect();
    const heard: { channel: string; payload: string }[] = [];
    listener.on('notification', ({ channel, payload = '' }) => heard.push({ channel, payload }));
    for (const channel of CHANNELS) await listener.query(`listen ${channel}`);
    await work();
    await database().query(`select pg_notify('retention_failed', 'marker')`);
    await until('the marker came', () => heard.some(({ payload }) => payload === 'marker'));
    await listener.end();
    return heard.filter(({ payload }) => payload !== 'marker');
  }

  // Characters that JSON writes as six bytes, and characters of four.
  test.each([
    ['control characters', String.raw`E'\x01'`],
    ['emoji', `'😀'`],
    ['quotes', `'"'`],
    ['backslashes', String.raw`'\'`],
  ])(
    'stay well below what Postgres allows, with absurd buckets, ids and errors of %s',
    async (_, character) => {
      const { query, store } = database();
      const heard = await heardDuring(async () => {
        await query(`insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
        select repeat(${character}, 1000 / octet_length(${character})) || n, 'acme', 'COMPLETED', now() - interval '31 days',
          n || repeat(${character}, 240 / octet_length(${character})), repeat(${character}, 200) || n
        from generate_series(1, 100) n`);
        await query('select retention.flag_expired()');
        const lease = crypto.randomUUID();
        const claim = await store.claim({ lease, leaseSeconds: 60, by: 'x' });
        const failed = (claim?.keys ?? []).map((key) => ({
          key,
          code: '😀'.repeat(3_000),
          reason: '"'.repeat(50_000),
          outcome: 'refused' as const,
          concerns: 'key' as const,
          final: false,
        }));
        await store.settle(claim?.batchId ?? 0, lease, { cleared: [], failed, milliseconds: 1 });
        const other = crypto.randomUUID();
        const second = await store.claim({ lease: other, leaseSeconds: 60, by: 'x' });
        await store.postpone(second?.batchId ?? 0, other, {
          code: '\\'.repeat(9_000),
          message: '\\'.repeat(9_000),
        });
        const third = crypto.randomUUID();
        const last = await store.claim({ lease: third, leaseSeconds: 60, by: 'x' });
        const cleared = 'all';
        await store.settle(last?.batchId ?? 0, third, { cleared, failed: [], milliseconds: 1 });
      });
      expect(new Set(heard.map(({ channel }) => channel))).toEqual(new Set(CHANNELS));
      for (const { channel, payload } of heard) {
        const bytes = Buffer.byteLength(payload);
        expect(bytes, `${channel}: ${bytes} bytes`).toBeLessThan(MOST_BYTES / 2);
        expect(() => JSON.parse(payload) as unknown).not.toThrow();
      }
    },
  );

  test('are silent for statements that touch no batch', async () => {
    const heard = await heardDuring(() =>
      database().query(`
        insert into retention.batch (bucket, results) select 'b', 1 where false;
        update retention.batch set ms = 1 where false;
        delete from retention.batch where false;
        select retention.flag_expired();
        select retention.tick();
        select * from retention.claim(gen_random_uuid(), '1 minute')`),
    );
    expect(heard).toEqual([]);
  });

  test('are none when a batch is claimed, for nothing has happened yet', async () => {
    await database().insertRuns({ count: 3 });
    await database().query('select retention.flag_expired()');
    const heard = await heardDuring(() =>
      database().query(`select * from retention.claim(gen_random_uuid(), '1 minute')`),
    );
    expect(heard).toEqual([]);
  });

  test('come when what was spared ends its batch, and when a batch is halved', async () => {
    await database().insertRuns({ count: 2 });
    await database().query('select retention.flag_expired()');
    const lease = crypto.randomUUID();
    const claim = await database().store.claim({ lease, leaseSeconds: 60, by: 'x' });
    const given = await heardDuring(() => database().store.split(claim?.batchId ?? 0, lease));
    expect(new Set(given.map(({ channel }) => channel))).toEqual(new Set(['retention_expired']));
    const spared = await heardDuring(async () => {
      await database().query(`select retention.place_hold('audit', null, 'acme')`);
      await database().store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'x' });
    });
    expect(spared).toMatchObject([{ channel: 'retention_cleared' }]);
    expect(JSON.parse(spared[0]?.payload ?? '')).toMatchObject({
      cleared: 0,
      spared: 1,
      failed: 0,
    });
  });

  test('never come from the table of the application: its writers do not pay for them', async () => {
    expect(
      await database().query(
        `select tgname from pg_trigger where tgrelid = 'runs'::regclass and not tgisinternal`,
      ),
    ).toEqual([]);
    const heard = await heardDuring(() => database().insertRuns({ count: 3 }));
    expect(heard).toEqual([]);
  });

  test('are printed by psql for a person who listens', async () => {
    const listener = await listenInPsql(database().url, CHANNELS);
    try {
      await database().insertRuns({ count: 2 });
      await database().query('select retention.flag_expired()');
      const { payload } = await listener.waitFor(({ channel }) => channel === 'retention_expired');
      expect(Object.keys(JSON.parse(payload) as object)).toEqual([
        'batches',
        'results',
        'buckets',
        'oldest',
      ]);
    } finally {
      await listener.close();
    }
  });
});
