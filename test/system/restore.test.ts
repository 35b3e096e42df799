import { DeleteObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { describe, expect, test } from 'vitest';
import { onBothServers } from '../support/both-servers.ts';
import { runCli, startCli } from '../support/cli.ts';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { s3Environment } from '../support/s3-environment.ts';
import {
  type S3Target,
  type TestBucket,
  type TestBucketOptions,
  deny,
  listVersions,
  makeBucket,
} from '../support/s3-target.ts';
import { until } from '../support/until.ts';

/** What `retention restore --json` prints. */
interface Restored {
  readonly restored: number;
  readonly failed: number;
  readonly runs: readonly {
    readonly run_id: string;
    readonly restored: boolean;
    readonly version_id: string | null;
    readonly hold_id: number | null;
    readonly reason: string | null;
  }[];
}

describeDatabase('versioned buckets', () => {
  const database = useMigrated();

  function contract(target: () => S3Target): void {
    /** A bucket with one due run, its object put. */
    async function makeDue(options: TestBucketOptions = { versioned: true }) {
      const bucket = await makeBucket(target(), options);
      const runId = await database().insertRun({ bucket: bucket.name });
      const key = `results/${runId}`;
      await bucket.put(key);
      return { bucket, runId, key };
    }

    const command = (
      bucket: TestBucket,
      parameters: readonly string[],
      env: Readonly<Record<string, string>> = {},
    ) =>
      runCli(parameters, {
        env: { DATABASE_URL: database().url, ...s3Environment(target(), bucket.name), ...env },
      });

    async function reconcile(bucket: TestBucket): Promise<Record<string, unknown>> {
      const { stdout, stderr } = await command(bucket, ['reconcile', '--json']);
      if (stdout === '') throw new Error(stderr);
      return JSON.parse(stdout) as Record<string, unknown>;
    }

    async function restore(bucket: TestBucket, runIds: readonly string[], ...more: string[]) {
      const { code, stdout, stderr } = await command(bucket, [
        'restore',
        ...runIds,
        '--json',
        ...more,
      ]);
      if (stdout === '') throw new Error(stderr);
      return { code, ...(JSON.parse(stdout) as Restored) };
    }

    const holds = () =>
      database().query<{ active: boolean; reason: string; days: number | null }>(
        `select released_at is null as active, reason,
          round(extract(epoch from expires_at - now()) / 86400)::int as days
        from retention.hold order by hold_id`,
      );

    describe('restore', () => {
      test('brings a result back, under a hold that keeps it', async () => {
        const { bucket, runId, key } = await makeDue();
        expect(await reconcile(bucket)).toMatchObject({ cleared: 1 });
        expect(await bucket.keys()).toEqual([]);
        // A repeated deletion leaves a second marker.
        await bucket.client.send(new DeleteObjectCommand({ Bucket: bucket.name, Key: key }));

        const { code, restored, runs } = await restore(bucket, [runId]);
        expect([code, restored]).toEqual([0, 1]);
        expect(runs[0]).toMatchObject({ run_id: runId, restored: true, reason: null });
        expect(await bucket.keys()).toEqual([key]);
        expect((await database().run(runId)).result_cleared_at).toBeNull();
        expect(await holds()).toEqual([{ active: true, reason: 'restored', days: 7 }]);

        expect(await reconcile(bucket)).toMatchObject({ cleared: 0 });
        expect(await bucket.keys()).toEqual([key]);
        await database().query(`select retention.release_hold(hold_id) from retention.hold`);
        expect(await reconcile(bucket)).toMatchObject({ cleared: 1 });
        const markers = (await listVersions(bucket.client, bucket.name))
          .filter(({ isMarker }) => isMarker)
          .map(({ id }) => id);
        const told = await database().query(
          `select source, kind, ends, versions, cardinality(request_ids) as requests
          from retention._receipt order by settled_at`,
        );
        expect(told).toMatchObject([
          { source: 'batch', kind: 'policy', ends: ['marker'], requests: 1 },
          { source: 'receipt', kind: 'restored', versions: [runs[0]?.version_id] },
          {
            source: 'batch',
            kind: 'after_restore',
            ends: ['marker'],
            versions: markers,
            requests: 1,
          },
        ]);
      });

      test('takes a length for the hold, and clears the stamp of what is there', async () => {
        const { bucket, runId, key } = await makeDue();
        await reconcile(bucket);
        await bucket.put(key);
        const { code, runs } = await restore(bucket, [runId], '--hold-for', '2d');
        expect(code).toBe(0);
        expect(runs[0]).toMatchObject({ restored: true });
        expect((await database().run(runId)).result_cleared_at).toBeNull();
        expect(await holds()).toEqual([{ active: true, reason: 'restored', days: 2 }]);
      });

      test('refuses a run that is not there, and one that was never cleared', async () => {
        const { bucket, runId } = await makeDue();
        const { code, restored, failed, runs } = await restore(bucket, [
          runId,
          crypto.randomUUID(),
          'no-id-at-all',
        ]);
        expect([code, restored, failed]).toEqual([1, 0, 3]);
        expect(runs.map(({ reason }) => reason)).toEqual([
          expect.stringMatching(/^its result was never cleared/u),
          'there is no such run',
          'there is no such run',
        ]);
        expect(await holds()).toEqual([]);
      });

      test('refuses where nothing is left, and takes its hold away again', async () => {
        const plain = await makeDue({});
        await reconcile(plain.bucket);
        const gone = await restore(plain.bucket, [plain.runId]);
        expect(gone.code).toBe(1);
        expect(gone.runs[0]?.reason).toContain('keeps no versions');
        expect(gone.runs[0]?.hold_id).toBeNull();
        expect((await database().run(plain.runId)).result_cleared_at).not.toBeNull();

        const purged = await makeDue();
        await reconcile(purged.bucket);
        for (const { key, id } of await listVersions(purged.bucket.client, purged.bucket.name)) {
          await purged.bucket.client.send(
            new DeleteObjectCommand({ Bucket: purged.bucket.name, Key: key, VersionId: id }),
          );
        }
        const lost = await restore(purged.bucket, [purged.runId]);
        expect(lost.runs[0]?.reason).toContain('no version of');
        expect((await holds()).map(({ active }) => active)).toEqual([false, false]);
      });

      test('refuses while S3 may still be at a request that would delete it again', async () => {
        const { bucket, runId, key } = await makeDue();
        await reconcile(bucket);
        await database().query(
          `insert into retention.unanswered (bucket, run_ids, keys, until)
          values ($2, array[$1::uuid], array[$3], now() + interval '1 minute')`,
          [runId, bucket.name, key],
        );
        const refused = await restore(bucket, [runId]);
        expect(refused.code).toBe(1);
        expect(refused.runs[0]?.reason).toContain('S3 may still be at an earlier request');
        expect((await holds()).map(({ active }) => active)).toEqual([false]);
        await database().query('update retention.unanswered set until = now()');
        expect(await restore(bucket, [runId])).toMatchObject({ code: 0, restored: 1 });
        expect(await bucket.keys()).toEqual([key]);
      });

      test('refuses without the right, and names it', async () => {
        const { bucket, runId } = await makeDue();
        await reconcile(bucket);
        await deny(bucket, ['s3:DeleteObjectVersion']);
        const { code, runs } = await restore(bucket, [runId]);
        expect(code).toBe(1);
        expect(runs[0]?.reason).toContain('a right is missing');
        expect((await holds()).map(({ active }) => active)).toEqual([false]);
        expect((await database().run(runId)).result_cleared_at).not.toBeNull();
      });

      test('says so in words, and does the rest when one is refused', async () => {
        const { bucket, runId, key } = await makeDue();
        await reconcile(bucket);
        const unknown = crypto.randomUUID();
        const { code, stdout } = await command(bucket, ['restore', unknown, runId]);
        expect(code).toBe(1);
        expect(stdout).toContain(`run ${unknown}: not restored: there is no such run`);
        expect(stdout).toContain(`run ${runId}: restored ${key} in bucket ${bucket.name}`);
        expect(stdout).toContain('1 of 2 results restored.');
        expect((await command(bucket, ['restore', runId, '--hold-for', '0d'])).code).toBe(2);
      });
    });

    describe('purge', () => {
      const purge = (bucket: TestBucket) =>
        database().query(
          `insert into retention.bucket (bucket, on_versioned) values ('${bucket.name}', 'purge')`,
        );

      test('takes every version of what is due, and nothing else', async () => {
        const { bucket, key, runId } = await makeDue();
        await bucket.put(key);
        const kept = await database().insertRun({ bucket: bucket.name, completedAgo: '1 day' });
        await bucket.put(`results/${kept}`, `results/${kept}`, `${key}2`);
        await purge(bucket);
        expect(await reconcile(bucket)).toMatchObject({ cleared: 1, failed: 0, dead: 0 });
        const left = await listVersions(bucket.client, bucket.name);
        expect(left.map((version) => version.key).toSorted()).toEqual(
          [`${key}2`, `results/${kept}`, `results/${kept}`].toSorted(),
        );
        expect((await database().run(runId)).result_cleared_at).not.toBeNull();
        const { runs } = await restore(bucket, [runId]);
        expect(runs[0]?.reason).toContain('no version of');
      });

      test('of a locked version fails with its date, and stamps nothing', async () => {
        const { bucket, key, runId } = await makeDue({ objectLock: true });
        const lockedUntil = new Date(Date.now() + 3_600_000);
        await bucket.client.send(
          new PutObjectCommand({
            Bucket: bucket.name,
            Key: key,
            Body: 'locked',
            ObjectLockMode: 'GOVERNANCE',
            ObjectLockRetainUntilDate: lockedUntil,
          }),
        );
        const free = await database().insertRun({ bucket: bucket.name });
        await bucket.put(`results/${free}`);
        await purge(bucket);
        expect(await reconcile(bucket)).toMatchObject({ cleared: 1, failed: 1 });
        expect((await database().run(runId)).result_cleared_at).toBeNull();
        expect((await database().run(free)).result_cleared_at).not.toBeNull();
        expect(
          await database().one(`select code, error like $1 as names_date from retention.flagged`, [
            `%${lockedUntil.toISOString().slice(0, 16)}%`,
          ]),
        ).toEqual({ code: 'ObjectLocked', names_date: true });
      });

      test('is what a listener does too; it notes once what a deletion means', async () => {
        const { bucket, runId } = await makeDue();
        await using listener = startCli(['listen'], {
          env: { DATABASE_URL: database().url, ...s3Environment(target(), bucket.name) },
        });
        await listener.waitForLine('1 run marked as cleared', 30_000);
        await listener.waitForLine(
          `Bucket ${bucket.name}: versioning is on: a deletion only hides`,
        );
        expect(
          await database().one(`select versioning from retention.bucket where bucket = $1`, [
            bucket.name,
          ]),
        ).toEqual({ versioning: 'enabled' });
        expect((await database().run(runId)).result_cleared_at).not.toBeNull();
        const second = await database().insertRun({ bucket: bucket.name });
        await bucket.put(`results/${second}`);
        await database().query(`update retention.bucket set on_versioned = 'purge';
          select retention.flag_expired(p_whole => true)`);
        await until('both are stamped', async () => (await database().countStamped()) === 2);
        listener.kill();
        expect((await listener.ended()).code).toBe(0);
        const left = await listVersions(bucket.client, bucket.name);
        expect(left.filter(({ key }) => key === `results/${second}`)).toEqual([]);
        expect(left.filter(({ isMarker }) => isMarker)).toHaveLength(1);
        expect(left.filter(({ isMarker }) => !isMarker)).toHaveLength(1);
      });
    });
  }

  onBothServers(contract);
});
