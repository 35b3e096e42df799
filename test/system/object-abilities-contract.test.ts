import {
  DeleteObjectCommand,
  PutBucketLifecycleConfigurationCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { describe, expect, test } from 'vitest';
import type { LifecycleRule, ListedObject, ListingRequest } from '../../src/objects/abilities.ts';
import { ObjectStoreError } from '../../src/objects/store-failure.ts';
import { onBothServers } from '../support/both-servers.ts';
import {
  deny,
  listVersions,
  makeBucket,
  type S3Target,
  type TestBucket,
} from '../support/s3-target.ts';
import { expectAllDeleted } from '../support/reports.ts';

const ODD_KEYS = [
  'a b',
  'a+b',
  'a%20b',
  '100%',
  `quotes ' and "`,
  'new\nline',
  '\n',
  'carriage\rreturn',
  'control \u0001',
  'no XML \uffff',
  ' spaces ',
  'emoji 😀',
  '\u{e000}',
  'é',
  '<&amp;>',
  'a//b/../c',
  '?query#hash=&',
];

function contract(target: () => S3Target): void {
  describe('listing', () => {
    test('gives every key back as it was put, in the order of its bytes', async () => {
      const bucket = await makeBucket(target());
      await bucket.put(...ODD_KEYS);
      const byBytes = ODD_KEYS.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
      for (const pageSize of [1, 5, undefined]) {
        expect(await keysOf(bucket, { pageSize })).toEqual(byBytes);
      }
    });

    test('gives sizes, dates and etags', async () => {
      const bucket = await makeBucket(target());
      await bucket.put('a');
      const [page] = await pagesOf(bucket);
      expect(page).toEqual([
        {
          key: 'a',
          size: 6,
          lastModified: expect.any(Date) as Date,
          etag: expect.stringMatching(/^[^"]+$/u) as string,
        },
      ]);
      expect(Math.abs(Date.now() - Number(page?.[0]?.lastModified))).toBeLessThan(60_000);
    });

    test('goes through pages of 1,000', async () => {
      const bucket = await makeBucket(target());
      const keys = Array.from(
        { length: 1_005 },
        (_, at) => `runs/${String(at).padStart(5, '0')} +`,
      );
      await bucket.put(...keys);
      const pages = await pagesOf(bucket);
      expect(pages.map((it) => it.length)).toEqual([1_000, 5]);
      expect(pages.flat().map((it) => it.key)).toEqual(keys);
    });

    test('keeps to a prefix, also to one that is the prefix of another', async () => {
      const bucket = await makeBucket(target());
      await bucket.put('img', 'img/1', 'img/2', 'img2', 'img2/1', 'im', 'a+b/1', 'a b/1', 'a\nb/1');
      expect(await keysOf(bucket, { prefix: 'img' })).toEqual([
        'img',
        'img/1',
        'img/2',
        'img2',
        'img2/1',
      ]);
      expect(await keysOf(bucket, { prefix: 'img/' })).toEqual(['img/1', 'img/2']);
      expect(await keysOf(bucket, { prefix: 'img2' })).toEqual(['img2', 'img2/1']);
      expect(await keysOf(bucket, { prefix: 'a+' })).toEqual(['a+b/1']);
      expect(await keysOf(bucket, { prefix: 'a ' })).toEqual(['a b/1']);
      expect(await keysOf(bucket, { prefix: 'a\n' })).toEqual(['a\nb/1']);
      expect(await keysOf(bucket, { prefix: 'none' })).toEqual([]);
      expect(await keysOf(bucket, { prefix: 'img', startAfter: 'img/1', pageSize: 1 })).toEqual([
        'img/2',
        'img2',
        'img2/1',
      ]);
    });

    test('leaves out what a delete marker hides', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      await bucket.put('a', 'b');
      await bucket.open().deleteObjects(bucket.name, ['a']);
      expect(await keysOf(bucket)).toEqual(['b']);
    });

    test('ends with the caller’s signal, and with one error where nothing may be listed', async () => {
      const bucket = await makeBucket(target());
      await bucket.put('a');
      await expect(keysOf(bucket, { signal: AbortSignal.abort() })).rejects.toMatchObject({
        kind: 'aborted',
      });
      await deny(bucket, ['s3:ListBucket']);
      await expect(keysOf(bucket)).rejects.toMatchObject({
        kind: 'denied',
        missingAction: 's3:ListBucket',
      });
      const missing = bucket.open().listing.listObjects(`${bucket.name}-missing`);
      await expect(collect(missing)).rejects.toMatchObject({ kind: 'no-bucket' });
    });
  });

  describe('looking at a key', () => {
    test('tells what is there from what is not, whatever its spelling', async () => {
      const bucket = await makeBucket(target());
      await bucket.put(...ODD_KEYS, 'img2');
      const objects = bucket.open();
      for (const key of ODD_KEYS) {
        const state = await objects.listing.headObject(bucket.name, key);
        expect(state, JSON.stringify(key)).toMatchObject({ state: 'exists', size: 6 });
      }
      for (const key of ['img', 'a  b', '\u0002', 'control ']) {
        const state = await objects.listing.headObject(bucket.name, key);
        expect(state, JSON.stringify(key)).toEqual({ state: 'gone' });
      }
    });

    test('gives the version, and sees through a delete marker that there is none', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      await bucket.put('a');
      const [version] = await listVersions(bucket.client, bucket.name);
      const objects = bucket.open();
      expect(await objects.listing.headObject(bucket.name, 'a')).toMatchObject({
        state: 'exists',
        versionId: version?.id,
      });
      await bucket.open().deleteObjects(bucket.name, ['a']);
      expect(await objects.listing.headObject(bucket.name, 'a')).toEqual({ state: 'gone' });
    });

    test('a bucket that is not there is no missing object', async () => {
      const bucket = await makeBucket(target());
      const call = bucket.open().listing.headObject(`${bucket.name}-missing`, 'a');
      await expect(call).rejects.toMatchObject({ kind: 'no-bucket', code: 'NoSuchBucket' });
    });

    test('without the right to read, the listing tells; without both, nothing does', async () => {
      const bucket = await makeBucket(target());
      await bucket.put('img2');
      const objects = bucket.open();
      await deny(bucket, ['s3:GetObject']);
      expect(await objects.listing.headObject(bucket.name, 'img2')).toMatchObject({
        state: 'exists',
      });
      expect(await objects.listing.headObject(bucket.name, 'img')).toEqual({ state: 'gone' });
      await deny(bucket, ['s3:GetObject', 's3:ListBucket']);
      const denied = { state: 'denied', code: 'AccessDenied', missingAction: 's3:GetObject' };
      expect(await objects.listing.headObject(bucket.name, 'img2')).toMatchObject(denied);
      await deny(bucket, ['s3:ListBucket']);
      expect(await objects.listing.headObject(bucket.name, 'img2')).toMatchObject({
        state: 'exists',
      });
      // S3 hides what is missing from who may not list; Ceph does not hide it from the owner.
      const missing = await objects.listing.headObject(bucket.name, 'img');
      expect(['denied', 'gone']).toContain(missing.state);
    });
  });

  describe('describing a bucket', () => {
    test('a plain one', async () => {
      const bucket = await makeBucket(target());
      expect(await bucket.open().inspection.describeBucket(bucket.name)).toMatchObject({
        reachable: true,
        versioning: 'off',
        objectLock: false,
        lifecycle: [],
        problems: [],
      });
    });

    test('a versioned one, a suspended one and one with object lock', async () => {
      const versioned = await makeBucket(target(), { versioned: true });
      const locked = await makeBucket(target(), { objectLock: true });
      const objects = versioned.open();
      const describeIt = (name: string): Promise<unknown> =>
        objects.inspection.describeBucket(name);
      expect(await describeIt(versioned.name)).toMatchObject({ versioning: 'enabled' });
      await suspend(versioned);
      expect(await describeIt(versioned.name)).toMatchObject({
        versioning: 'suspended',
        objectLock: false,
      });
      expect(await describeIt(locked.name)).toMatchObject({
        versioning: 'enabled',
        objectLock: true,
        problems: [],
      });
    });

    test('its lifecycle rules', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      await bucket.client.send(
        new PutBucketLifecycleConfigurationCommand({
          Bucket: bucket.name,
          LifecycleConfiguration: {
            Rules: [
              {
                ID: 'short',
                Status: 'Enabled',
                Filter: { Prefix: 'img' },
                Expiration: { Days: 3 },
              },
              {
                ID: 'old versions',
                Status: 'Enabled',
                Filter: { Prefix: '' },
                NoncurrentVersionExpiration: { NoncurrentDays: 90 },
              },
              {
                ID: 'tagged',
                Status: 'Disabled',
                Filter: { And: { Prefix: 'img2/', Tags: [{ Key: 'k', Value: 'v' }] } },
                Expiration: { Days: 7 },
              },
              {
                ID: 'uploads',
                Status: 'Enabled',
                Filter: { Prefix: '' },
                AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 },
              },
            ],
          },
        }),
      );
      const { lifecycle } = await bucket.open().inspection.describeBucket(bucket.name);
      const rules = lifecycle === 'unknown' ? [] : lifecycle.toSorted(byId);
      expect(rules).toEqual([
        rule({ id: 'old versions', noncurrentDays: 90 }),
        rule({ id: 'short', prefix: 'img', expirationDays: 3 }),
        rule({ id: 'tagged', prefix: 'img2/', enabled: false, narrowed: true, expirationDays: 7 }),
      ]);
    });

    test('each part that may not be read is unknown, with the right that is missing', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      await deny(bucket, ['s3:GetLifecycleConfiguration']);
      const objects = bucket.open();
      expect(await objects.inspection.describeBucket(bucket.name)).toMatchObject({
        reachable: true,
        versioning: 'enabled',
        objectLock: false,
        lifecycle: 'unknown',
        problems: [{ code: 'AccessDenied', missingAction: 's3:GetLifecycleConfiguration' }],
      });
      await deny(bucket, [
        's3:GetLifecycleConfiguration',
        's3:GetBucketVersioning',
        's3:GetBucketObjectLockConfiguration',
        's3:ListBucket',
      ]);
      const description = await objects.inspection.describeBucket(bucket.name);
      expect(description).toMatchObject({
        reachable: true,
        versioning: 'unknown',
        objectLock: 'unknown',
        lifecycle: 'unknown',
      });
      expect(new Set(description.problems.map((it) => it.missingAction))).toEqual(
        new Set([
          's3:GetBucketObjectLockConfiguration',
          's3:GetBucketVersioning',
          's3:GetLifecycleConfiguration',
          's3:ListBucket',
        ]),
      );
    });

    test('one that is not there', async () => {
      const bucket = await makeBucket(target());
      const objects = bucket.open();
      const description = await objects.inspection.describeBucket(`${bucket.name}-missing`);
      expect(description).toMatchObject({
        reachable: false,
        versioning: 'unknown',
        objectLock: 'unknown',
        lifecycle: 'unknown',
      });
      expect(description.problems).toHaveLength(1);
      expect(description.problems[0]?.code).toBe('NoSuchBucket');
    });
  });

  describe('the right to delete', () => {
    test('is found without anything being deleted', async () => {
      const bucket = await makeBucket(target());
      await bucket.put('a');
      expect(await bucket.open().inspection.probeDeleteRight(bucket.name)).toEqual({ ok: true });
      expect(await bucket.keys()).toEqual(['a']);
    });

    test('leaves no delete marker in a versioned bucket', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      const right = await bucket.open().inspection.probeDeleteRight(bucket.name);
      expect(right).toEqual({ ok: true, versions: 'granted' });
      expect(await listVersions(bucket.client, bucket.name)).toEqual([]);
    });

    test('says which delete marker it had to leave', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      await deny(bucket, ['s3:DeleteObjectVersion']);
      const right = await bucket.open().inspection.probeDeleteRight(bucket.name);
      const [marker] = await listVersions(bucket.client, bucket.name);
      const leftMarker = { key: marker?.key, versionId: marker?.id };
      expect(right).toEqual({ ok: true, versions: 'refused', leftMarker });
      expect(marker?.key).toMatch(/^\.retention-doctor\/[0-9a-f-]{36}$/);
    });

    test('that is missing comes with the statement that would give it', async () => {
      const bucket = await makeBucket(target());
      await deny(bucket, ['s3:DeleteObject']);
      expect(await bucket.open().inspection.probeDeleteRight(bucket.name)).toMatchObject({
        ok: false,
        code: 'AccessDenied',
        missingAction: 's3:DeleteObject',
        missingStatement: {
          Effect: 'Allow',
          Action: ['s3:DeleteObject'],
          Resource: [`arn:aws:s3:::${bucket.name}/*`],
        },
      });
    });

    test('may be asked for under a prefix', async () => {
      const bucket = await makeBucket(target());
      await deny(bucket, ['s3:DeleteObject'], 'img2/*');
      const objects = bucket.open();
      expect(await objects.inspection.probeDeleteRight(bucket.name, { prefix: 'img/' })).toEqual({
        ok: true,
      });
      expect(
        await objects.inspection.probeDeleteRight(bucket.name, { prefix: 'img2/' }),
      ).toMatchObject({
        ok: false,
        missingStatement: { Resource: [`arn:aws:s3:::${bucket.name}/img2/*`] },
      });
    });

    test('is not what is missing where the bucket is', async () => {
      const bucket = await makeBucket(target());
      const right = await bucket.open().inspection.probeDeleteRight(`${bucket.name}-missing`);
      expect(right).toMatchObject({ ok: false, code: 'NoSuchBucket' });
      expect(right).not.toHaveProperty('missingStatement.Action');
    });
  });

  describe('purging', () => {
    test('takes every version and delete marker of a key, and nothing of others', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      for (let round = 0; round < 3; round += 1) await bucket.put('img', 'img2', 'img/1');
      const marked = await bucket.open().deleteObjects(bucket.name, ['img', 'img2']);
      const objects = bucket.open();
      const report = await objects.versions.purgeKeys(bucket.name, ['img', 'never/was', '']);
      expect(new Set(report.deleted)).toEqual(new Set(['img', 'never/was']));
      expect(report.ends).toEqual(
        new Map([
          ['img', { end: 'purged', version: marked.ends?.get('img')?.version }],
          ['never/was', { end: 'gone' }],
        ]),
      );
      expect(report.failures).toMatchObject([{ key: '', code: 'EmptyKey' }]);
      const left = await listVersions(bucket.client, bucket.name);
      expect(left.map((it) => it.key).toSorted()).toEqual([
        ...Array.from({ length: 3 }, () => 'img/1'),
        ...Array.from({ length: 4 }, () => 'img2'),
      ]);
    });

    test('takes 1,500 versions of a key, in batches', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      for (let at = 0; at < 100; at += 1) {
        await bucket.put(...Array.from({ length: 15 }, () => 'busy'));
      }
      await bucket.put('busy/other', 'quiet');
      let requests = 0;
      const objects = bucket.open({
        observe: ({ operation }) => (requests += operation === 'DeleteObjects' ? 1 : 0),
      });
      const report = await objects.versions.purgeKeys(bucket.name, ['busy', 'quiet']);
      expectAllDeleted(report, ['busy', 'quiet']);
      expect(requests).toBe(3);
      const left = await listVersions(bucket.client, bucket.name);
      expect(left.map((it) => it.key)).toEqual(['busy/other']);
    });

    test('takes 600 keys at once', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      const keys = Array.from({ length: 600 }, (_, at) => `runs/${at}/result.json`);
      await bucket.put(...keys);
      const report = await bucket.open().versions.purgeKeys(bucket.name, keys);
      expectAllDeleted(report, keys);
      expect(await listVersions(bucket.client, bucket.name)).toEqual([]);
    });

    test('takes odd keys', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      await bucket.put(...ODD_KEYS);
      await bucket.put(...ODD_KEYS);
      const report = await bucket.open().versions.purgeKeys(bucket.name, ODD_KEYS);
      expectAllDeleted(report, ODD_KEYS);
      expect(await listVersions(bucket.client, bucket.name)).toEqual([]);
    });

    test('takes what a bucket without versions holds, and a suspended one', async () => {
      const plain = await makeBucket(target());
      const suspended = await makeBucket(target(), { versioned: true });
      await suspended.put('a');
      await suspend(suspended);
      for (const bucket of [plain, suspended]) {
        await bucket.put('a');
        const report = await bucket.open().versions.purgeKeys(bucket.name, ['a']);
        expectAllDeleted(report, ['a']);
        expect(await listVersions(bucket.client, bucket.name)).toEqual([]);
      }
    });

    test('leaves a locked version, and says until when', async () => {
      const bucket = await makeBucket(target(), { objectLock: true });
      const until = new Date(Math.ceil(Date.now() / 1_000) * 1_000 + 3_600_000);
      await putLocked(bucket, 'locked', until);
      await bucket.put('locked', 'free');
      const objects = bucket.open();
      const report = await objects.versions.purgeKeys(bucket.name, ['locked', 'free']);
      expect(new Set(report.deleted)).toEqual(new Set(['free']));
      expect(report.failures).toMatchObject([
        { key: 'locked', code: 'ObjectLocked', outcome: 'refused' },
      ]);
      expect(report.failures[0]?.reason).toContain(`(GOVERNANCE) until ${until.toISOString()}`);
      // The newer version stays: without it the locked one would be the object again.
      expect(await objects.listing.headObject(bucket.name, 'locked')).toMatchObject({ size: 6 });
      expect(await listVersions(bucket.client, bucket.name)).toHaveLength(2);
    });

    test('of a locked version whose date may not be read says so', async () => {
      const bucket = await makeBucket(target(), { objectLock: true });
      await putLocked(bucket, 'locked', new Date(Date.now() + 3_600_000));
      await deny(bucket, ['s3:GetObjectRetention', 's3:GetObjectLegalHold']);
      const { failures } = await bucket.open().versions.purgeKeys(bucket.name, ['locked']);
      expect(failures).toMatchObject([{ key: 'locked', outcome: 'refused' }]);
      expect(failures[0]?.reason).toMatch(/s3:(GetObjectRetention|DeleteObjectVersion) may be/);
    });

    test('of single keys may be refused, and names the right', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      await bucket.put('kept/1', 'free/1');
      await deny(bucket, ['s3:DeleteObjectVersion'], 'kept/*');
      const report = await bucket.open().versions.purgeKeys(bucket.name, ['kept/1', 'free/1']);
      expect(new Set(report.deleted)).toEqual(new Set(['free/1']));
      expect(report.failures).toMatchObject([
        { key: 'kept/1', code: 'AccessDenied', outcome: 'refused' },
      ]);
      expect(report.failures[0]?.reason).toContain('s3:DeleteObjectVersion');
    });

    test('without the right to list versions fails as a whole', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      await bucket.put('a');
      await deny(bucket, ['s3:ListBucketVersions']);
      const call = bucket.open().versions.purgeKeys(bucket.name, ['a']);
      await expect(call).rejects.toBeInstanceOf(ObjectStoreError);
      await expect(call).rejects.toMatchObject({
        kind: 'denied',
        missingAction: 's3:ListBucketVersions',
      });
      const missing = bucket.open().versions.purgeKeys(`${bucket.name}-missing`, ['a']);
      await expect(missing).rejects.toMatchObject({ kind: 'no-bucket' });
    });
  });

  describe('restoring', () => {
    test('brings back the newest version, from under several delete markers', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      for (const key of ['img', 'odd \u0001+%\n']) {
        await bucket.put(key, `${key}2`);
        await bucket.put(key);
        const versions = await listVersions(bucket.client, bucket.name);
        const newest = versions.find((it) => it.key === key && it.isLatest);
        const command = new DeleteObjectCommand({ Bucket: bucket.name, Key: key });
        for (let marker = 0; marker < 3; marker += 1) await bucket.client.send(command);
        const objects = bucket.open();
        expect(await objects.restoration.restoreObject(bucket.name, key)).toEqual({
          restored: true,
          versionId: newest?.id,
        });
        expect(await objects.listing.headObject(bucket.name, key)).toMatchObject({
          state: 'exists',
        });
      }
    });

    test('refuses what is there', async () => {
      for (const versioned of [true, false]) {
        const bucket = await makeBucket(target(), { versioned });
        await bucket.put('a');
        const answer = await bucket.open().restoration.restoreObject(bucket.name, 'a');
        expect(answer).toMatchObject({ restored: false, reason: 'not-deleted' });
      }
    });

    test('refuses where no version is left', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      await bucket.put('img2');
      const objects = bucket.open();
      const refused = { restored: false, reason: 'no-version' };
      expect(await objects.restoration.restoreObject(bucket.name, 'img')).toMatchObject(refused);
      await bucket.open().deleteObjects(bucket.name, ['img']);
      expect(await objects.restoration.restoreObject(bucket.name, 'img')).toMatchObject(refused);
      expect(await listVersions(bucket.client, bucket.name)).toHaveLength(2);
    });

    test('refuses in a bucket without versions', async () => {
      const bucket = await makeBucket(target());
      const answer = await bucket.open().restoration.restoreObject(bucket.name, 'a');
      expect(answer).toMatchObject({ restored: false, reason: 'not-versioned' });
    });

    test('names the right that is missing', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      await bucket.put('a');
      await bucket.open().deleteObjects(bucket.name, ['a']);
      const objects = bucket.open();
      for (const action of ['s3:DeleteObjectVersion', 's3:ListBucketVersions']) {
        await deny(bucket, [action]);
        const answer = await objects.restoration.restoreObject(bucket.name, 'a');
        expect(answer).toMatchObject({ restored: false, reason: 'denied' });
        expect(answer).toHaveProperty('message', expect.stringContaining(action));
      }
    });
  });
}

async function pagesOf(
  bucket: TestBucket,
  request: ListingRequest = {},
): Promise<(readonly ListedObject[])[]> {
  return collect(bucket.open().listing.listObjects(bucket.name, request));
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

async function keysOf(bucket: TestBucket, request: ListingRequest = {}): Promise<string[]> {
  return (await pagesOf(bucket, request)).flat().map((it) => it.key);
}

async function suspend({ client, name }: TestBucket): Promise<void> {
  const VersioningConfiguration = { Status: 'Suspended' } as const;
  await client.send(new PutBucketVersioningCommand({ Bucket: name, VersioningConfiguration }));
}

async function putLocked({ client, name }: TestBucket, key: string, until: Date): Promise<void> {
  await client.send(
    new PutObjectCommand({
      Bucket: name,
      Key: key,
      Body: 'locked result',
      ObjectLockMode: 'GOVERNANCE',
      ObjectLockRetainUntilDate: until,
    }),
  );
}

function rule(known: Partial<LifecycleRule>): LifecycleRule {
  return {
    id: '',
    prefix: '',
    enabled: true,
    narrowed: false,
    removesExpiredMarkers: false,
    ...known,
  };
}

function byId(a: LifecycleRule, b: LifecycleRule): number {
  return a.id < b.id ? -1 : 1;
}

onBothServers(contract);
