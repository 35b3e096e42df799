import { expect, onTestFinished, test } from 'vitest';
import type { ConditionalWrites } from '../../src/objects/abilities.ts';
import { ObjectStoreError } from '../../src/objects/store-failure.ts';
import type { ObjectStore } from '../../src/objects/object-store.ts';
import { createSealWatch } from '../../src/proof/seal-watch.ts';
import type { Head } from '../../src/store/seals.ts';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { sealRuns } from '../support/proof.ts';
import { createRecordingLogger } from '../support/recording-logger.ts';
import { until } from '../support/until.ts';

const BUCKET = 'seals';

/** A bucket in memory that may be out of order. */
function createBucket(lock: { objectLock: boolean; defaultRetention?: { mode: string } }) {
  const written = new Map<string, { body: string; lockedUntil?: Date | undefined }>();
  const state = { refusal: undefined as ObjectStoreError | undefined, puts: 0 };
  const conditional: ConditionalWrites = {
    readObject: (_bucket, key) => {
      const found = written.get(key);
      return Promise.resolve(found && { body: found.body, etag: 'x' });
    },
    writeObject: async (_bucket, { key, body, lockedUntil }) => {
      await Promise.resolve();
      if (state.refusal) throw state.refusal;
      if (written.has(key)) return false;
      state.puts += 1;
      written.set(key, { body, lockedUntil });
      return true;
    },
  };
  const inspection = { describeBucket: () => Promise.resolve({ ...lock, problems: [] }) };
  const objects = { conditional, inspection } as unknown as Pick<
    ObjectStore,
    'conditional' | 'inspection'
  >;
  return { written, state, objects };
}

describeDatabase('promise 14: heads leave the database', () => {
  const database = useMigrated();

  function watch(bucket: ReturnType<typeof createBucket>, to = BUCKET) {
    const logger = createRecordingLogger();
    const { store } = database();
    const watching = createSealWatch({
      store,
      objects: bucket.objects,
      logger,
      bucket: to === 'none' ? undefined : to,
      pollSeconds: 60,
    });
    onTestFinished(() => watching.stop());
    const lines = () => logger.lines.map(({ message }) => message);
    return { watching, logger, lines };
  }

  const writtenTo = async (): Promise<unknown> => {
    const [row] = await database().query(
      'select written_to, problem from retention.seal_copy where bucket = $1',
      [BUCKET],
    );
    return row;
  };

  test('each seal is an object, written once by several listeners, and a line in the log of each', async () => {
    const bucket = createBucket({ objectLock: false });
    await sealRuns(database(), 1);
    const { store } = database();
    const watches = [watch(bucket), watch(bucket)];
    for (const { watching } of watches) await watching.start();
    await until('the first is written', () => bucket.written.size === 1);
    await sealRuns(database(), 1);
    const heads = await store.listHeads({ after: 0 });
    for (const { watching } of watches) watching.wake();
    await until('both have said it', () => watches.every(({ lines }) => lines().length > 0));
    await until(
      'it is noted',
      async () => ((await writtenTo()) as { written_to: string }).written_to === '2',
    );
    const last = heads.at(-1) as Head;
    for (const { lines } of watches) expect(lines()).toEqual([`Sealed: 2-${last.digest}`]);
    expect(bucket.state.puts).toBe(2);
    expect([...bucket.written.keys()]).toEqual(
      [1, 2].map((seal) => `.retention/seals/${last.database}/00000000000${seal}.json`),
    );
    expect([...bucket.written.values()].map(({ body }) => JSON.parse(body) as unknown)).toEqual(
      heads,
    );
  });

  test('what an outage kept from it is written later, and until then shown as not written', async () => {
    const { store, query } = database();
    const bucket = createBucket({ objectLock: true, defaultRetention: { mode: 'COMPLIANCE' } });
    bucket.state.refusal = new ObjectStoreError({
      bucket: BUCKET,
      kind: 'denied',
      code: 'AccessDenied',
      reason: 'no right',
      outcome: 'refused',
      concerns: 'bucket',
      final: false,
    });
    await sealRuns(database(), 1);
    await sealRuns(database(), 1);
    const { watching, logger } = watch(bucket);
    await watching.start();
    await until('it has failed', () => logger.count('error') === 1);
    expect(await writtenTo()).toEqual({ written_to: '0', problem: 'AccessDenied no right' });
    expect((await store.readVitals()).sealsUnwritten).toBe(2);
    expect(
      await query(
        `select because from retention.wait_causes() where what = 'seals in bucket seals'`,
      ),
    ).toEqual([{ because: 'those from 1 on are not written there: AccessDenied no right' }]);
    bucket.state.refusal = undefined;
    await until('all are written', () => bucket.written.size === 2);
    await until('it is noted', async () => (await store.readVitals()).sealsUnwritten === 0);
    expect(await writtenTo()).toEqual({ written_to: '2', problem: null });
    // The bucket gives each object a retention by itself.
    expect([...bucket.written.values()].map(({ lockedUntil }) => lockedUntil)).toEqual([
      undefined,
      undefined,
    ]);
  });

  test('with object lock and without a retention of the bucket’s own, until receipts_kept', async () => {
    const bucket = createBucket({ objectLock: true });
    await sealRuns(database(), 1);
    const { watching } = watch(bucket);
    await watching.start();
    await until('it is written', () => bucket.written.size === 1);
    const [written] = [...bucket.written.values()];
    const years = ((written?.lockedUntil?.getTime() ?? 0) - Date.now()) / 86_400_000 / 365.25;
    expect(years).toBeCloseTo(7, 1);
  });

  test('an object of another seal is not written over: seals were rewritten, or this is a copy', async () => {
    const bucket = createBucket({ objectLock: false });
    await sealRuns(database(), 1);
    const [head] = await database().store.listHeads();
    const key = `.retention/seals/${head?.database}/000000000001.json`;
    bucket.written.set(key, { body: JSON.stringify({ ...head, digest: 'ab'.repeat(32) }) });
    const { watching, lines } = watch(bucket);
    await watching.start();
    await until('it is said', () =>
      lines().some((line) => line.includes('holds another digest than seal 1')),
    );
    expect(JSON.parse(bucket.written.get(key)?.body ?? '')).toMatchObject({
      digest: 'ab'.repeat(32),
    });
  });

  test('without a bucket nothing is written, and the latest is a line in the log', async () => {
    const bucket = createBucket({ objectLock: false });
    const { watching, lines } = watch(bucket, 'none');
    await watching.start();
    watching.wake();
    await sealRuns(database(), 1);
    await until('it is said', () => {
      watching.wake();
      return lines().length > 0;
    });
    expect(lines()).toEqual([expect.stringMatching(/^Sealed: 1-[0-9a-f]{64}$/u) as string]);
    expect(bucket.written.size).toBe(0);
    expect(await writtenTo()).toBeUndefined();
  });
});
