import { PutBucketPolicyCommand } from '@aws-sdk/client-s3';
import { describe, expect, inject, test } from 'vitest';
import { runCli } from '../support/cli.ts';
import { useMigrated } from '../support/migrated.ts';
import { makeBucket } from '../support/s3-target.ts';

const s3 = inject('realS3');
const isMissing = s3.kind === 'missing' || inject('postgres').kind === 'missing';

describe.skipIf(isMissing)('promise 6: a key that the real S3 refuses', () => {
  const database = useMigrated();

  test('hides nothing: the others are cleared, and it is tried again later', async () => {
    if (s3.kind === 'missing') return;
    const bucket = await makeBucket(s3.target);
    const runIds = await database().insertRuns({ count: 20, bucket: bucket.name });
    await bucket.put(...runIds.map((runId) => `results/${runId}`));
    const [, refused = ''] = runIds;
    const setPolicy = (effect: 'Allow' | 'Deny'): Promise<unknown> =>
      bucket.client.send(
        new PutBucketPolicyCommand({
          Bucket: bucket.name,
          Policy: JSON.stringify({
            Version: '2012-10-17',
            Statement: [
              {
                Effect: effect,
                Principal: '*',
                Action: 's3:DeleteObject',
                Resource: `arn:aws:s3:::${bucket.name}/results/${refused}`,
              },
            ],
          }),
        }),
      );
    const reconcile = () =>
      runCli(['reconcile', '--json'], {
        env: {
          DATABASE_URL: database().url,
          S3_ENDPOINT_URL: s3.target.endpoint,
          S3_RESULT_BUCKET: bucket.name,
          AWS_REGION: s3.target.region,
          AWS_ACCESS_KEY_ID: s3.target.owner.accessKeyId,
          AWS_SECRET_ACCESS_KEY: s3.target.owner.secretAccessKey,
        },
      });

    await setPolicy('Deny');
    const first = await reconcile();
    expect(JSON.parse(first.stdout)).toMatchObject({ cleared: 19, failed: 1, dead: 0 });
    expect(first.code).toBe(1);
    expect(first.stderr).toContain(`Failed to delete S3 object for run ${refused}: AccessDenied`);
    expect(await bucket.keys()).toEqual([`results/${refused}`]);
    expect(await database().countStamped()).toBe(19);
    expect((await database().run(refused)).result_cleared_at).toBeNull();
    expect(
      await database().one(`select e.run_id::text, e.attempts, e.code, b.visible_at > now() as waits
        from retention.flagged e join retention.batch b using (batch_id)`),
    ).toEqual({ run_id: refused, attempts: 1, code: 'AccessDenied', waits: true });

    // While it waits, work that comes later goes its way.
    const later = await database().insertRuns({ count: 5, bucket: bucket.name });
    await bucket.put(...later.map((runId) => `results/${runId}`));
    expect(JSON.parse((await reconcile()).stdout)).toMatchObject({ cleared: 5, failed: 0 });

    await setPolicy('Allow');
    await database().passRetryTimes();
    const last = await reconcile();
    expect(JSON.parse(last.stdout)).toMatchObject({ cleared: 1, failed: 0 });
    expect(last.code).toBe(0);
    expect(await bucket.keys()).toEqual([]);
    expect(await database().countStamped()).toBe(25);
  });
});
