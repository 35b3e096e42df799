import { createHash } from 'node:crypto';
import {
  DeleteObjectCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { expect, onTestFinished, test } from 'vitest';
import { unlimited } from '../../src/lifecycle/rate-limit.ts';
import { createS3ObjectStore } from '../../src/objects/s3/object-store.ts';
import { type BatchOutcome, createWorker } from '../../src/reactor/worker.ts';
import type { Claim } from '../../src/store/leases.ts';
import type { Store } from '../../src/store/store.ts';
import {
  DEFAULT_USERS,
  type MemoryS3Options,
  type MemoryS3Request,
  startMemoryS3,
} from '../stack/memory-s3.ts';
import { describeDatabase } from '../support/database.ts';
import { keyOf, useMigrated } from '../support/migrated.ts';
import { createRecordingLogger } from '../support/recording-logger.ts';

const BUCKET = 'dpp-results';
const OLD = Buffer.from('what was due');
const NEW = Buffer.from('what was written since');
const md5 = (body: Buffer): string => createHash('md5').update(body).digest('hex');

describeDatabase('an object that is written again between claim and delete', () => {
  const database = useMigrated({ before: 'alter table runs add column result_etag text' });

  /** A worker over an S3 of its own; something may happen between claim and delete. */
  async function stack(options: MemoryS3Options = {}) {
    const requests: MemoryS3Request[] = [];
    const s3 = await startMemoryS3({ onRequest: (request) => requests.push(request), ...options });
    onTestFinished(() => s3.stop());
    s3.createBucket(BUCKET);
    const { endpoint, region } = s3;
    const credentials = DEFAULT_USERS[0];
    const objects = createS3ObjectStore({ endpoint, region, clientConfig: { credentials } });
    onTestFinished(() => objects.close());
    const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials });
    onTestFinished(() => client.destroy());
    const logger = createRecordingLogger();
    const { store } = database();
    const drain = async (
      meanwhile: (claim: Claim) => Promise<unknown> = () => Promise.resolve(),
    ): Promise<readonly BatchOutcome[]> => {
      const watched: Store = {
        ...store,
        claim: async (...rest) => {
          const claim = await store.claim(...rest);
          if (claim !== undefined && claim.keys.length > 0) await meanwhile(claim);
          return claim;
        },
      };
      const worker = createWorker({
        store: watched,
        objects,
        logger,
        name: 'test',
        leaseSeconds: 120,
        rateLimit: unlimited,
      });
      const { signal } = new AbortController();
      const outcomes: BatchOutcome[] = [];
      for (;;) {
        const outcome = await worker.workOnce({ stop: signal, abort: signal });
        if (outcome === undefined) return outcomes;
        outcomes.push(outcome);
      }
    };
    return { s3, requests, client, drain, logger };
  }

  async function insert(
    s3: { putObject: (...rest: [string, string, Buffer]) => void },
    count: number,
  ) {
    const { insertRuns, query } = database();
    const runIds = await insertRuns({ count });
    await query('update runs set result_etag = $1', [`"${md5(OLD)}"`]);
    for (const runId of runIds) s3.putObject(BUCKET, keyOf(runId), OLD);
    return runIds;
  }

  test('is not lost: of 10,000 none is, whether its row says so or not, with one request a batch', async () => {
    const { store, query, countStamped } = database();
    const { s3, requests, drain, logger } = await stack();
    const runIds = await insert(s3, 11_000);
    await store.flagExpired({ by: 'test', whole: true });
    const rewritten = new Set<string>();
    const outcomes = await drain(async (claim) => {
      const again = claim.keys.filter((_, at) => at % 12 !== 0).slice(0, 10_000 - rewritten.size);
      for (const key of again) {
        rewritten.add(key);
        s3.putObject(BUCKET, key, NEW);
      }
      const told = again.filter((_, at) => at % 3 === 0);
      await query(
        `update runs set result_etag = $2, completed_at = now() where run_id = any ($1)`,
        [told.map((key) => key.slice('results/'.length)), md5(NEW)],
      );
    });
    expect(rewritten.size).toBe(10_000);
    const lost = [...rewritten].filter((key) => !s3.hasObject(BUCKET, key));
    expect(lost).toEqual([]);
    expect(s3.countObjects(BUCKET)).toBe(10_000);
    expect(await countStamped()).toBe(1_000);
    expect(
      await query(
        'select from runs where result_cleared_at is not null and result_s3_key = any ($1)',
        [[...rewritten]],
      ),
    ).toHaveLength(0);
    expect(runIds).toHaveLength(11_000);
    // One to delete for each batch, and one look, which tells whether the bucket keeps versions.
    expect(outcomes).toHaveLength(11);
    const deletions = requests.filter(({ operation }) => operation.startsWith('Delete'));
    expect(deletions.map(({ operation }) => operation)).toEqual(
      outcomes.map(() => 'DeleteObjects'),
    );
    expect(outcomes.reduce((sum, { spared }) => sum + spared, 0)).toBe(10_000);
    expect(outcomes.every(({ failed, dead, postponed }) => failed + dead === 0 && !postponed)).toBe(
      true,
    );
    expect(logger.lines.filter(({ level }) => level === 'warning')[0]?.message).toContain(
      'object changed',
    );
    expect(logger.count('error')).toBe(0);
    // What is due by its row as before is asked for once more only after its wait, and nothing fails.
    expect(await store.flagExpired({ by: 'test', whole: true })).toBe(0);
    expect(await store.readStatus()).toMatchObject({ failed: 0, dead: 0, flagged: 0 });
  }, 240_000);

  test('goes when its row says that the new version is due', async () => {
    const { store, query, countStamped } = database();
    const { s3, drain } = await stack();
    const [runId = ''] = await insert(s3, 1);
    await store.flagExpired({ by: 'test' });
    await drain(() => Promise.resolve(s3.putObject(BUCKET, keyOf(runId), NEW)));
    expect(await countStamped()).toBe(0);
    await query('update runs set result_etag = $1', [md5(NEW)]);
    await store.flagExpired({ by: 'test' });
    expect(await drain()).toMatchObject([{ cleared: 1, spared: 0 }]);
    expect(s3.hasObject(BUCKET, keyOf(runId))).toBe(false);
  });

  test('is not taken for changed where S3 has nothing any more: the run is stamped', async () => {
    const { store, countStamped } = database();
    const { s3, client, drain } = await stack();
    await insert(s3, 3);
    await store.flagExpired({ by: 'test' });
    const [outcome] = await drain(async (claim) => {
      // Gone without a trace, and behind a delete marker.
      const [first = '', second = ''] = claim.keys;
      const Bucket = BUCKET;
      await s3Delete(client, first);
      await client.send(
        new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: 'Enabled' } }),
      );
      await s3Delete(client, second);
    });
    expect(outcome).toMatchObject({ cleared: 3, spared: 0 });
    expect(await countStamped()).toBe(3);
  });

  test.each(['Enabled', 'Suspended', undefined] as const)(
    'is kept where every version is to be deleted, with versioning %s',
    async (Status) => {
      const { store, query, countStamped } = database();
      const { s3, client, drain } = await stack();
      const Bucket = BUCKET;
      if (Status !== undefined) {
        await client.send(
          new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status } }),
        );
      }
      const [kept = '', gone = ''] = await insert(s3, 2);
      await store.flagExpired({ by: 'test' });
      await query(`update retention.bucket set on_versioned = 'purge'`);
      const [outcome] = await drain(async () => {
        await client.send(new PutObjectCommand({ Bucket, Key: keyOf(kept), Body: NEW }));
      });
      expect(outcome).toMatchObject({ cleared: 1, spared: 1, failed: 0 });
      expect([s3.hasObject(BUCKET, keyOf(kept)), s3.hasObject(BUCKET, keyOf(gone))]).toEqual([
        true,
        false,
      ]);
      expect(await countStamped()).toBe(1);
    },
  );

  test('is not put at risk by a store that refuses etags: its bucket pauses until a person decides', async () => {
    const { store, countStamped, passRetryTimes } = database();
    const { s3, drain, requests } = await stack({ conditions: 'refused' });
    await insert(s3, 5);
    await store.flagExpired({ by: 'test' });
    expect(await drain()).toMatchObject([{ postponed: true, cleared: 0, failed: 0, dead: 0 }]);
    expect(s3.countObjects(BUCKET)).toBe(5);
    const [bucket] = await store.readBuckets();
    expect(bucket?.pause).toContain('retention bucket set dpp-results --conditional ignore');
    expect(bucket?.habits.conditional).toMatchObject({ value: 'refused', by: 'learned' });
    await passRetryTimes();
    requests.length = 0;
    expect(await drain()).toMatchObject([{ postponed: true }]);
    expect(requests.filter(({ operation }) => operation.startsWith('Delete'))).toEqual([]);
    await store.setHabits(BUCKET, { conditional: 'ignored' });
    await passRetryTimes();
    expect(await drain()).toMatchObject([{ cleared: 5 }]);
    expect(await countStamped()).toBe(5);
  });
});

async function s3Delete(client: S3Client, Key: string): Promise<void> {
  await client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key }));
}
