import {
  PutBucketLifecycleConfigurationCommand,
  PutObjectLockConfigurationCommand,
} from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Findings } from '../../src/reactor/doctor/check.ts';
import { onBothServers } from '../support/both-servers.ts';
import { runCli, startCli } from '../support/cli.ts';
import { describeDatabase, runningPostgres } from '../support/database.ts';
import { type Examination, asExamination } from '../support/doctor.ts';
import { useMigrated } from '../support/migrated.ts';
import { type PgBouncer, startPgBouncer } from '../support/pgbouncer.ts';
import { haveProgram } from '../support/programs.ts';
import { s3Environment } from '../support/s3-environment.ts';
import { type S3Target, type TestBucket, deny, makeBucket } from '../support/s3-target.ts';
import { until } from '../support/until.ts';

describeDatabase('retention doctor', () => {
  const database = useMigrated();

  async function examine(
    env: Readonly<Record<string, string>>,
  ): Promise<Examination & { readonly code: number | null }> {
    const { code, stdout, stderr } = await runCli(['doctor', '--json'], {
      env: { DATABASE_URL: database().url, ...env },
    });
    if (stdout === '') throw new Error(stderr);
    return { code, ...asExamination(JSON.parse(stdout) as Findings) };
  }

  const { path: pgBouncerPath } = haveProgram('pgbouncer');
  describe.skipIf(pgBouncerPath === undefined)('through a transaction pooler', () => {
    let pooler: PgBouncer;
    beforeAll(async () => {
      pooler = await startPgBouncer(pgBouncerPath ?? '', runningPostgres().port);
    });
    afterAll(() => pooler?.stop());

    test('it finds the silent LISTEN, and says what to do', async () => {
      const { code, ok, check, named } = await examine({
        DATABASE_URL: pooler.through(database().url),
      });
      expect([code, ok]).toEqual([1, false]);
      expect(named('failed')).toEqual(['listening']);
      expect(check('DATABASE_URL').found).toContain('through a pooler');
      expect(check('DATABASE_URL').state).toBe('ok');
      expect(check('listening').found).toContain('a transaction pooler stands before the server');
      expect(check('listening').remedy).toContain('DATABASE_LISTEN_URL');
    });

    test('nothing fails with the listening address past it', async () => {
      const { code, check } = await examine({
        DATABASE_URL: pooler.through(database().url),
        DATABASE_LISTEN_URL: database().url,
      });
      expect(code).toBe(0);
      expect(check('listening').state).toBe('ok');
    });

    test('a listener polls and says so; what is due still goes', async () => {
      await using listener = startCli(['listen'], {
        env: {
          DATABASE_URL: pooler.through(database().url),
          S3_ENDPOINT_URL: 'http://127.0.0.1:1',
          S3_RESULT_BUCKET: 'dpp-results',
          RETENTION_POLL_SECONDS: '1',
          RETENTION_S3_MAX_ATTEMPTS: '1',
          AWS_REGION: 'us-east-1',
          AWS_ACCESS_KEY_ID: 'x',
          AWS_SECRET_ACCESS_KEY: 'y',
        },
      });
      const line = await listener.waitForLine('polling instead', 40_000);
      expect(line).toContain('pooler');
      await database().insertRun();
      await database().query('select retention.flag_expired()');
      // It has noticed without a notification: it claimed, and S3 could not be had.
      await until(
        'the batch was claimed',
        async () =>
          (await database().query('select from retention.batch where postponed > 0')).length > 0,
        { limitMs: 20_000 },
      );
      listener.kill();
      expect((await listener.ended()).code).toBe(0);
    });
  });

  function contract(target: () => S3Target): void {
    const examineBucket = async (bucket: TestBucket, credentials?: S3Target['owner']) => {
      const found = await examine(s3Environment(target(), bucket.name, credentials));
      const of = (part: string) => found.check(`bucket ${bucket.name}${part}`);
      return { ...found, of };
    };
    const lifecycle = (bucket: TestBucket, ...rules: readonly object[]) =>
      bucket.client.send(
        new PutBucketLifecycleConfigurationCommand({
          Bucket: bucket.name,
          LifecycleConfiguration: {
            Rules: rules.map((rule, at) => ({
              ID: `rule-${at}`,
              Status: 'Enabled' as const,
              Filter: { Prefix: '' },
              ...rule,
            })),
          },
        }),
      );

    test('a plain bucket is fine, and what a deletion means there is noted', async () => {
      const bucket = await makeBucket(target());
      await database().query(`select retention.tick('internal')`);
      const { code, of, named } = await examineBucket(bucket);
      expect(named('failed')).toEqual([]);
      expect(code).toBe(0);
      expect(of('').found).toContain('reachable');
      expect(of(': versions')).toMatchObject({ state: 'ok' });
      expect(of(': object lock')).toMatchObject({ state: 'ok', found: 'off' });
      expect(of(': lifecycle')).toMatchObject({ state: 'ok' });
      expect(of(': right to delete')).toMatchObject({ state: 'ok' });
      expect(await database().query('select bucket, versioning from retention.bucket')).toEqual([
        { bucket: bucket.name, versioning: 'off' },
      ]);
    });

    test('a bucket that is not there fails', async () => {
      const { code, check } = await examine(s3Environment(target(), 'retention-no-such-bucket'));
      expect(code).toBe(1);
      expect(check('bucket retention-no-such-bucket').state).toBe('failed');
      expect(check('bucket retention-no-such-bucket').remedy).toContain('S3_ENDPOINT_URL');
    });

    test('a versioned bucket is told of, and that its versions never go', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      const marked = await examineBucket(bucket);
      expect(marked.of(': versions')).toMatchObject({ state: 'warning' });
      expect(marked.of(': versions').found).toContain('behind a delete marker');
      expect(marked.of(': lifecycle').found).toContain('no rule ever removes noncurrent versions');
      expect(marked.of(': right to delete').found).toContain('for versions as well');

      await lifecycle(bucket, { NoncurrentVersionExpiration: { NoncurrentDays: 7 } });
      expect((await examineBucket(bucket)).of(': lifecycle').state).toBe('ok');

      await database().query(`update retention.bucket set on_versioned = 'purge'`);
      expect((await examineBucket(bucket)).of(': versions')).toMatchObject({ state: 'ok' });
    });

    test('a rule that is faster than the policy is warned of, where results are', async () => {
      const bucket = await makeBucket(target());
      await database().insertRun({ bucket: bucket.name, completedAgo: '1 day' });
      await lifecycle(
        bucket,
        { Filter: { Prefix: 'results/' }, Expiration: { Days: 20 } },
        { Filter: { Prefix: 'logs/' }, Expiration: { Days: 1 } },
        { Filter: { Prefix: 'results/slow/' }, Expiration: { Days: 400 } },
      );
      const { of } = await examineBucket(bucket);
      expect(of(': lifecycle').state).toBe('warning');
      expect(of(': lifecycle').found).toContain(
        'deletes under results/ after 20 days, while the longest policy keeps results for 30 days',
      );
    });

    test('object lock is told of, and matters where versions are purged', async () => {
      const bucket = await makeBucket(target(), { objectLock: true });
      await bucket.client.send(
        new PutObjectLockConfigurationCommand({
          Bucket: bucket.name,
          ObjectLockConfiguration: {
            ObjectLockEnabled: 'Enabled',
            Rule: { DefaultRetention: { Mode: 'GOVERNANCE', Days: 40 } },
          },
        }),
      );
      const marked = await examineBucket(bucket);
      expect(marked.of(': object lock')).toMatchObject({ state: 'ok' });
      expect(marked.of(': object lock').found).toContain('locked for 40 days (GOVERNANCE)');
      await database().query(`update retention.bucket set on_versioned = 'purge'`);
      expect((await examineBucket(bucket)).of(': object lock')).toMatchObject({ state: 'warning' });
    });

    test('a missing right to delete fails, with the statement that gives it', async () => {
      const bucket = await makeBucket(target());
      await database().insertRun({ bucket: bucket.name, completedAgo: '1 day' });
      await deny(bucket, ['s3:DeleteObject']);
      const { code, of } = await examineBucket(bucket);
      expect(code).toBe(1);
      expect(of(': right to delete').state).toBe('failed');
      const [statement] = /\{.*\}/u.exec(of(': right to delete').remedy ?? '') ?? [''];
      expect(JSON.parse(statement)).toEqual({
        Effect: 'Allow',
        Action: ['s3:DeleteObject'],
        Resource: [`arn:aws:s3:::${bucket.name}/results/*`],
      });
    });

    test('what may not be looked at is a warning with its right', async () => {
      const bucket = await makeBucket(target());
      await deny(bucket, ['s3:GetLifecycleConfiguration']);
      const { of } = await examineBucket(bucket);
      expect(of(': lifecycle').state).toBe('warning');
      expect(of(': lifecycle').remedy).toContain('s3:GetLifecycleConfiguration');
    });

    test('a bucket that is known but not allowed is warned of', async () => {
      const bucket = await makeBucket(target());
      await database().query(`insert into retention.bucket (bucket) values ('elsewhere')`);
      const { check } = await examineBucket(bucket);
      expect(check('bucket elsewhere')).toMatchObject({ state: 'warning' });
      expect(check('bucket elsewhere').remedy).toContain('S3_RESULT_BUCKET');
    });
  }

  onBothServers(contract);

  test('says it in words, with remedies', async () => {
    const { code, stdout } = await runCli(['doctor'], { env: { DATABASE_URL: database().url } });
    expect(code).toBe(0);
    expect(stdout).toMatch(/^ok {7}DATABASE_URL: /mu);
    expect(stdout).toMatch(/^warning {2}buckets: none is known/mu);
    expect(stdout).toMatch(/^ {9}-> Set S3_RESULT_BUCKET/mu);
    expect(stdout).toMatch(/\d+ ok, \d+ warnings?, 0 failed\.\n$/u);
  });
});
