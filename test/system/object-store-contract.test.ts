import {
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetBucketLifecycleConfigurationCommand,
  GetBucketVersioningCommand,
  GetObjectCommand,
  HeadObjectCommand,
  PutBucketLifecycleConfigurationCommand,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { describe, expect, test } from 'vitest';
import { ObjectStoreError } from '../../src/objects/store-failure.ts';
import { testObjectStore } from '../../src/testing/object-store.ts';
import { onBothServers } from '../support/both-servers.ts';
import {
  deny,
  listKeys,
  listVersions,
  makeBucket,
  openClient,
  type S3Target,
} from '../support/s3-target.ts';
import { expectAllDeleted } from '../support/reports.ts';

/** What both servers must do, so that tests on the one in memory say something about real ones. */
function contract(target: () => S3Target): void {
  describe('as a store of any kind', () => {
    testObjectStore({
      test,
      open: async () => {
        const made = await makeBucket(target());
        return {
          store: made.open(),
          bucket: made.name,
          put: (key) => made.put(key),
          keys: () => made.keys(),
        };
      },
    });
  });

  describe('deleting', () => {
    test('takes away what it is told to, and nothing else', async () => {
      const bucket = await makeBucket(target());
      await bucket.put('a', 'b', 'runs/1/result.json', 'runs/1/result.json.bak', 'runs/1');
      const keys = ['a', 'runs/1/result.json'];
      const report = await bucket.open().deleteObjects(bucket.name, keys);
      expectAllDeleted(report, keys);
      expect(report.requestIds).toHaveLength(1);
      expect(report.ends).toBeUndefined();
      expect(await bucket.keys()).toEqual(['b', 'runs/1', 'runs/1/result.json.bak']);
    });

    test('what is already gone succeeds', async () => {
      const bucket = await makeBucket(target());
      await bucket.put('there');
      const store = bucket.open();
      const keys = ['there', 'never/was'];
      expect(new Set((await store.deleteObjects(bucket.name, keys)).deleted)).toEqual(
        new Set(keys),
      );
      expect(new Set((await store.deleteObjects(bucket.name, keys)).deleted)).toEqual(
        new Set(keys),
      );
    });

    test('a key given twice deletes and reports it once', async () => {
      const bucket = await makeBucket(target());
      await bucket.put('twice');
      const report = await bucket.open().deleteObjects(bucket.name, ['twice', 'twice']);
      expectAllDeleted(report, ['twice']);
    });

    test('takes 1,000 keys with one request', async () => {
      const bucket = await makeBucket(target());
      const keys = Array.from({ length: 1_000 }, (_, index) => `runs/${index}/deep/er/result.json`);
      await bucket.put(...keys);
      const operations: string[] = [];
      const store = bucket.open({ observe: (request) => operations.push(request.operation) });
      const report = await store.deleteObjects(bucket.name, keys);
      expectAllDeleted(report, keys);
      expect(operations).toEqual(['DeleteObjects']);
      expect(await bucket.keys()).toEqual([]);
    });

    test('takes nested keys that are also prefixes of each other', async () => {
      const bucket = await makeBucket(target());
      const deep = Array.from({ length: 100 }, (_, index) => 'd/'.repeat(index + 1) + 'x');
      await bucket.put(...deep, 'd', 'd/');
      const report = await bucket.open().deleteObjects(bucket.name, deep);
      expectAllDeleted(report, deep);
      expect(await bucket.keys()).toEqual(['d', 'd/']);
    });
  });

  describe('odd keys', () => {
    /** Beside each, what a server or client that got its spelling wrong would take instead. */
    const odd: readonly (readonly [name: string, key: string, decoys: readonly string[]])[] = [
      ['a space', 'a b', ['a+b', 'a%20b', 'ab']],
      ['a plus', 'c+d', ['c d', 'c%2Bd']],
      ['a percent sign', 'e%20f', ['e f', 'e%2520f']],
      ['an invalid escape', '100%', ['100%25', '100']],
      ['quotes', `g'h"i`, ['g&apos;h&quot;i', 'ghi']],
      ['markup', '<j>&amp;&k;', ['<j>&&k;', '&lt;j&gt;&amp;&k;']],
      ['a newline', 'l\nm', ['l m', 'lm', 'l\r\nm']],
      ['a carriage return', 'n\ro', ['n\no', 'n\r\no', 'n o']],
      ['a tab', 'p\tq', ['p q', 'pq']],
      ['a space at the front', ' r', ['r']],
      ['a space at the end', 's ', ['s']],
      ['nothing but a newline', '\n', [' ', '\t']],
      ['an emoji', 'u😀', ['u', 'u\ufffd', 'u\ufffd\ufffd']],
      ['a composed letter', 'v\u00e9', ['ve\u0301']],
      ['dots for segments', 'w/../x', ['x', 'w/x', 'w/./x']],
      ['double slashes', 'y//z', ['y/z', 'y///z']],
      ['a slash at the front', '/aa', ['aa', '//aa']],
      ['a question mark and a hash', 'bb?c=d#e', ['bb', 'bb?c=d']],
      ['1,024 bytes', 'é'.repeat(512), ['é'.repeat(511)]],
      ['a control character', 'dd\u0001', ['dd', 'dd\ufffd', 'dd\u0002']],
      ['a character that is no XML', 'ee\uffff', ['ee', 'ee\ufffd']],
      ['a line end of another kind', 'ff\u0085gg', ['ff\ngg', 'ff gg', 'ffgg']],
    ];

    test.each(odd)('with %s', async (_name, key, decoys) => {
      const bucket = await makeBucket(target());
      await bucket.put(key, ...decoys);
      const report = await bucket.open().deleteObjects(bucket.name, [key]);
      expectAllDeleted(report, [key]);
      expect((await bucket.keys()).toSorted()).toEqual(decoys.toSorted());
    });

    test('do not hold up the others of their batch', async () => {
      const bucket = await makeBucket(target());
      const keys = odd.map(([, key]) => key);
      await bucket.put(...keys);
      const all = [...keys, '', 'x'.repeat(1_025), 'half \ud83d'];
      const report = await bucket.open().deleteObjects(bucket.name, all);
      expect(new Set(report.deleted)).toEqual(new Set(keys));
      expect(report.failures.map((it) => it.code)).toEqual([
        'EmptyKey',
        'KeyTooLongError',
        'UnencodableKey',
      ]);
      expect(await bucket.keys()).toEqual([]);
    });

    test('that are no XML have a whole request refused, which is why they go alone', async () => {
      const bucket = await makeBucket(target());
      await bucket.put('fine');
      const Delete = { Objects: [{ Key: 'fine' }, { Key: 'dd\u0001' }] };
      const call = bucket.client.send(new DeleteObjectsCommand({ Bucket: bucket.name, Delete }));
      await expect(call).rejects.toMatchObject({ $metadata: { httpStatusCode: 400 } });
      expect(await bucket.keys()).toEqual(['fine']);
    });
  });

  describe('refusals', () => {
    test('of single keys by a bucket policy leave the others deleted', async () => {
      const bucket = await makeBucket(target());
      await bucket.put('free/1', 'kept/1', 'kept/\u0001', 'free/\u0001');
      await deny(bucket, ['s3:DeleteObject'], 'kept/*');
      const keys = ['free/1', 'kept/1', 'kept/\u0001', 'free/\u0001'];
      const report = await bucket.open().deleteObjects(bucket.name, keys);
      expect(new Set(report.deleted)).toEqual(new Set(['free/1', 'free/\u0001']));
      expect(report.failures.map(({ key, code, outcome }) => [key, code, outcome])).toEqual([
        ['kept/1', 'AccessDenied', 'refused'],
        ['kept/\u0001', 'AccessDenied', 'refused'],
      ]);
      expect(await bucket.keys()).toEqual(['kept/\u0001', 'kept/1']);
    });

    test('for a bucket that does not exist', async () => {
      const bucket = await makeBucket(target());
      const missing = `${bucket.name}-missing`;
      for (const keys of [['a'], ['\u0001']]) {
        const call = bucket.open().deleteObjects(missing, keys);
        await expect(call).rejects.toBeInstanceOf(ObjectStoreError);
        await expect(call).rejects.toMatchObject({ kind: 'no-bucket', code: 'NoSuchBucket' });
      }
    });

    test('for an access key that nobody knows', async () => {
      const bucket = await makeBucket(target());
      const credentials = { accessKeyId: 'NOBODYKNOWSTHISKEY00', secretAccessKey: 'secret' };
      const call = bucket.open({ clientConfig: { credentials } }).deleteObjects(bucket.name, ['a']);
      await expect(call).rejects.toMatchObject({ kind: 'credentials' });
    });

    test('for someone without rights in the bucket', async ({ skip }) => {
      const { other } = target();
      if (!other) return skip('this server has no second user');
      const bucket = await makeBucket(target());
      await bucket.put('a');
      const store = bucket.open({ clientConfig: { credentials: other } });
      const outcome = await store.deleteObjects(bucket.name, ['a']).catch((it: unknown) => it);
      if (outcome instanceof ObjectStoreError) expect(outcome.kind).toBe('denied');
      else expect(outcome).toMatchObject({ failures: [{ code: 'AccessDenied' }] });
      expect(await bucket.keys()).toEqual(['a']);
    });
  });

  describe('a versioned bucket', () => {
    test('gets a delete marker, and what is under it stays', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      await bucket.put('a');
      const store = bucket.open();
      const report = await store.deleteObjects(bucket.name, ['a']);
      expect(new Set(report.deleted)).toEqual(new Set(['a']));
      expect(await bucket.keys()).toEqual([]);
      const versions = await listVersions(bucket.client, bucket.name);
      const version = versions.find(({ isMarker }) => isMarker)?.id;
      expect(report.ends).toEqual(new Map([['a', { end: 'marker', version }]]));
      expect(versions.map(({ key, isMarker }) => [key, isMarker])).toContainEqual(['a', true]);
      expect(versions.map(({ key, isMarker }) => [key, isMarker])).toContainEqual(['a', false]);
      const get = bucket.client.send(new GetObjectCommand({ Bucket: bucket.name, Key: 'a' }));
      await expect(get).rejects.toMatchObject({ name: 'NoSuchKey' });
    });

    test('takes back its object when the delete marker is deleted', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      await bucket.put('a');
      await bucket.open().deleteObjects(bucket.name, ['a']);
      const versions = await listVersions(bucket.client, bucket.name);
      const marker = versions.find((it) => it.isMarker);
      expect(marker?.isLatest).toBe(true);
      const reply = await bucket.client.send(
        new DeleteObjectCommand({ Bucket: bucket.name, Key: 'a', VersionId: marker?.id }),
      );
      expect(reply.DeleteMarker).toBe(true);
      expect(await bucket.keys()).toEqual(['a']);
      const object = await bucket.client.send(
        new GetObjectCommand({ Bucket: bucket.name, Key: 'a' }),
      );
      expect(await object.Body?.transformToString()).toBe('result');
    });

    test('whose policy keeps the versions can still be given a delete marker', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      await bucket.put('a');
      const [version] = await listVersions(bucket.client, bucket.name);
      await deny(bucket, ['s3:DeleteObjectVersion']);
      const call = bucket.client.send(
        new DeleteObjectCommand({ Bucket: bucket.name, Key: 'a', VersionId: version?.id }),
      );
      await expect(call).rejects.toMatchObject({ name: 'AccessDenied' });
      const report = await bucket.open().deleteObjects(bucket.name, ['a']);
      expectAllDeleted(report, ['a']);
    });

    test('says that it is one', async () => {
      const plain = await makeBucket(target());
      const versioned = await makeBucket(target(), { versioned: true });
      const ask = async (Bucket: string): Promise<string | undefined> =>
        (await plain.client.send(new GetBucketVersioningCommand({ Bucket }))).Status;
      expect(await ask(plain.name)).toBeUndefined();
      expect(await ask(versioned.name)).toBe('Enabled');
    });

    test('lists all its versions through pages', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      for (const key of ['a', 'b', 'b', 'b', 'c']) await bucket.put(key);
      await bucket.open().deleteObjects(bucket.name, ['b']);
      const expected = ['a', 'b', 'b', 'b', 'b', 'c'];
      for (const pageSize of [1, 2, 1_000]) {
        const versions = await listVersions(bucket.client, bucket.name, pageSize);
        expect(versions.map((it) => it.key).toSorted()).toEqual(expected);
        expect(new Set(versions.map((it) => `${it.key} ${it.id}`)).size).toBe(6);
        expect(versions.filter((it) => it.isLatest)).toHaveLength(3);
      }
    });

    test('with a retention hides the object, and refuses to delete the version', async () => {
      const bucket = await makeBucket(target(), { objectLock: true });
      const put = await bucket.client.send(
        new PutObjectCommand({
          Bucket: bucket.name,
          Key: 'locked',
          Body: 'result',
          ObjectLockMode: 'GOVERNANCE',
          ObjectLockRetainUntilDate: new Date(Date.now() + 3_600_000),
        }),
      );
      const report = await bucket.open().deleteObjects(bucket.name, ['locked']);
      expect(new Set(report.deleted)).toEqual(new Set(['locked']));
      const Objects = [{ Key: 'locked', VersionId: put.VersionId }];
      const reply = await bucket.client.send(
        new DeleteObjectsCommand({ Bucket: bucket.name, Delete: { Objects } }),
      );
      expect(reply.Deleted ?? []).toEqual([]);
      expect(reply.Errors).toMatchObject([{ Key: 'locked', Code: 'AccessDenied' }]);
      const head = new HeadObjectCommand({
        Bucket: bucket.name,
        Key: 'locked',
        VersionId: put.VersionId,
      });
      expect((await bucket.client.send(head)).ContentLength).toBe(6);
    });
  });

  describe('listing', () => {
    test('goes by the bytes of UTF-8, which is not the order of JavaScript', async () => {
      const bucket = await makeBucket(target());
      const keys = ['Z', 'a', 'a b', 'a/b', 'a0', 'é', '\u{e000}x', '\uffeex', '😀', 'z'];
      await bucket.put(...keys.toReversed());
      const byBytes = keys.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
      expect(byBytes).not.toEqual(keys.toSorted());
      expect(await bucket.keys()).toEqual(byBytes);
      expect(await listKeys(bucket.client, bucket.name, { MaxKeys: 3 })).toEqual(byBytes);
    });

    test('follows what is put and deleted between two of them', async () => {
      const bucket = await makeBucket(target());
      await bucket.put('b', 'd');
      expect(await bucket.keys()).toEqual(['b', 'd']);
      await bucket.put('c', 'a');
      expect(await bucket.keys()).toEqual(['a', 'b', 'c', 'd']);
      await bucket.open().deleteObjects(bucket.name, ['b', 'd']);
      expect(await bucket.keys()).toEqual(['a', 'c']);
    });

    test('begins after a key, and keeps to a prefix', async () => {
      const bucket = await makeBucket(target());
      await bucket.put('a', 'b/1', 'b/2', 'b/3', 'b0', 'c');
      const list = (page: Parameters<typeof listKeys>[2]): Promise<string[]> =>
        listKeys(bucket.client, bucket.name, page);
      expect(await list({ Prefix: 'b/' })).toEqual(['b/1', 'b/2', 'b/3']);
      expect(await list({ StartAfter: 'b/2' })).toEqual(['b/3', 'b0', 'c']);
      expect(await list({ StartAfter: 'b/11' })).toEqual(['b/2', 'b/3', 'b0', 'c']);
      expect(await list({ Prefix: 'b/', StartAfter: 'b/1', MaxKeys: 1 })).toEqual(['b/2', 'b/3']);
      expect(await list({ Prefix: 'b/', StartAfter: 'c' })).toEqual([]);
      expect(await list({ Prefix: 'nothing' })).toEqual([]);
    });
  });

  test('lifecycle rules are given back, and their absence has a name', async () => {
    const bucket = await makeBucket(target());
    const ask = new GetBucketLifecycleConfigurationCommand({ Bucket: bucket.name });
    await expect(bucket.client.send(ask)).rejects.toMatchObject({
      name: 'NoSuchLifecycleConfiguration',
    });
    const rule = { ID: 'gone', Status: 'Enabled', Filter: { Prefix: 'runs/' } } as const;
    await bucket.client.send(
      new PutBucketLifecycleConfigurationCommand({
        Bucket: bucket.name,
        LifecycleConfiguration: { Rules: [{ ...rule, Expiration: { Days: 3 } }] },
      }),
    );
    const { Rules } = await bucket.client.send(ask);
    expect(Rules).toMatchObject([{ ID: 'gone', Status: 'Enabled', Expiration: { Days: 3 } }]);
  });

  test('a client may look for a bucket that is not there', async () => {
    const client = openClient(target());
    const call = listKeys(client, `retention-${process.pid}-nowhere`);
    await expect(call).rejects.toMatchObject({ name: 'NoSuchBucket' });
  });
}

onBothServers(contract);
