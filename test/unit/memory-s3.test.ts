import { connect } from 'node:net';
import {
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetBucketTaggingCommand,
  HeadObjectCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  PutObjectRetentionCommand,
} from '@aws-sdk/client-s3';
import { describe, expect, onTestFinished, test } from 'vitest';
import { parseDelete } from '../stack/memory-s3-xml.ts';
import {
  type MemoryS3,
  type MemoryS3Options,
  type MemoryS3Request,
  startMemoryS3,
} from '../stack/memory-s3.ts';
import { compareUtf8 } from '../../src/objects/utf8-order.ts';
import { listVersions, makeBucket, openClient, type S3Target } from '../support/s3-target.ts';
import { expectAllDeleted } from '../support/reports.ts';

// What it does as other servers do is in the contract suite. Here is what only it has.

async function start(options: MemoryS3Options = {}): Promise<{ s3: MemoryS3; target: S3Target }> {
  const s3 = await startMemoryS3(options);
  onTestFinished(() => s3.stop());
  const [owner] = s3.users;
  if (!owner) throw new Error('it has no user');
  return { s3, target: { endpoint: s3.endpoint, region: s3.region, owner } };
}

test('objects can be put and looked at without HTTP', async () => {
  const { s3, target } = await start();
  s3.createBucket('results');
  s3.createBucket('results');
  s3.putObject('results', 'a', Buffer.from('four'));
  s3.putObject('results', 'b');
  expect(s3.hasObject('results', 'a')).toBe(true);
  expect(s3.countObjects('results')).toBe(2);
  const client = openClient(target);
  const head = await client.send(new HeadObjectCommand({ Bucket: 'results', Key: 'a' }));
  expect(head.ContentLength).toBe(4);
  await client.send(new DeleteObjectCommand({ Bucket: 'results', Key: 'a' }));
  expect(s3.hasObject('results', 'a')).toBe(false);
  expect(s3.countObjects('results')).toBe(1);
  expect(() => s3.putObject('nowhere', 'a')).toThrow(/does not exist/);
});

test('a bucket can be taken away with all that is in it, and made again', async () => {
  const { s3 } = await start();
  s3.createBucket('results');
  s3.putObject('results', 'a');
  s3.removeBucket('results');
  expect(() => s3.hasObject('results', 'a')).toThrow(/does not exist/);
  s3.createBucket('results');
  expect(s3.countObjects('results')).toBe(0);
});

test('delete markers are no objects', async () => {
  const { s3, target } = await start();
  const bucket = await makeBucket(target, { versioned: true });
  await bucket.put('a', 'b');
  await bucket.open().deleteObjects(bucket.name, ['a', 'never/was']);
  expect(s3.hasObject(bucket.name, 'a')).toBe(false);
  expect(s3.countObjects(bucket.name)).toBe(1);
});

test('every request is told of, with its keys and how it ended', async () => {
  const requests: MemoryS3Request[] = [];
  const { s3, target } = await start({ onRequest: (request) => requests.push(request) });
  s3.createBucket('results');
  const client = openClient(target);
  await client.send(new PutObjectCommand({ Bucket: 'results', Key: 'a/b', Body: '' }));
  const Delete = { Objects: [{ Key: 'a/b' }, { Key: 'c' }] };
  await client.send(new DeleteObjectsCommand({ Bucket: 'results', Delete }));
  await expect(
    client.send(new HeadObjectCommand({ Bucket: 'results', Key: 'a/b' })),
  ).rejects.toThrow();
  await expect(client.send(new GetBucketTaggingCommand({ Bucket: 'results' }))).rejects.toThrow();
  expect(requests).toEqual([
    { operation: 'PutObject', bucket: 'results', keys: ['a/b'], status: 200 },
    { operation: 'DeleteObjects', bucket: 'results', keys: ['a/b', 'c'], status: 200 },
    { operation: 'HeadObject', bucket: 'results', keys: ['a/b'], status: 404 },
    { operation: 'GET_tagging', bucket: 'results', keys: [], status: 501 },
  ]);
});

test('in null mode every key is named as deleted, and nothing happens', async () => {
  const { s3, target } = await start({ nullMode: true });
  const bucket = await makeBucket(target);
  s3.putObject(bucket.name, 'a&b');
  const report = await bucket.open().deleteObjects(bucket.name, ['a&b', 'other']);
  expectAllDeleted(report, ['a&b', 'other']);
  expect(s3.hasObject(bucket.name, 'a&b')).toBe(true);
});

test('it stops although a client has not finished asking', async () => {
  const { s3 } = await start();
  const socket = connect(Number(new URL(s3.endpoint).port), '127.0.0.1');
  socket.on('error', () => undefined);
  await new Promise((resolve) => socket.write('GET /results HTTP/1.1\r\nhost:', resolve));
  const closed = new Promise((resolve) => socket.once('close', resolve));
  await s3.stop();
  await closed;
  await expect(fetch(s3.endpoint)).rejects.toThrow();
});

test('a request without credentials is refused', async () => {
  const { s3 } = await start();
  s3.createBucket('results');
  const response = await fetch(`${s3.endpoint}/results/a`, { method: 'DELETE' });
  expect(response.status).toBe(403);
  expect(await response.text()).toContain('<Code>AccessDenied</Code>');
});

test('a DeleteObjects request without any checksum is refused', async () => {
  const { s3, target } = await start();
  s3.createBucket('results');
  const response = await fetch(`${s3.endpoint}/results?delete`, {
    method: 'POST',
    headers: { authorization: `AWS4-HMAC-SHA256 Credential=${target.owner.accessKeyId}/x` },
    body: '<Delete><Object><Key>a</Key></Object></Delete>',
  });
  expect(response.status).toBe(400);
  expect(await response.text()).toContain('Content-MD5');
});

test('a suspended versioning replaces the null version and keeps the others', async () => {
  const { target } = await start();
  const bucket = await makeBucket(target, { versioned: true });
  await bucket.put('a');
  const VersioningConfiguration = { Status: 'Suspended' } as const;
  await bucket.client.send(
    new PutBucketVersioningCommand({ Bucket: bucket.name, VersioningConfiguration }),
  );
  await bucket.put('a');
  await bucket.put('a');
  await bucket.open().deleteObjects(bucket.name, ['a']);
  const versions = await listVersions(bucket.client, bucket.name);
  expect(versions).toMatchObject([
    { isMarker: false, isLatest: false, id: expect.not.stringMatching('null') as string },
    { isMarker: true, isLatest: true, id: 'null' },
  ]);
});

test('a governed retention yields to who may bypass it, and to time', async () => {
  const { target } = await start();
  const bucket = await makeBucket(target, { objectLock: true });
  await bucket.put('a');
  const [version] = await listVersions(bucket.client, bucket.name);
  const named = { Bucket: bucket.name, Key: 'a', VersionId: version?.id };
  const retain = (Mode: 'GOVERNANCE' | 'COMPLIANCE', milliseconds: number): Promise<unknown> => {
    const Retention = { Mode, RetainUntilDate: new Date(Date.now() + milliseconds) };
    return bucket.client.send(new PutObjectRetentionCommand({ ...named, Retention }));
  };
  const remove = (BypassGovernanceRetention: boolean): Promise<unknown> =>
    bucket.client.send(new DeleteObjectCommand({ ...named, BypassGovernanceRetention }));
  await retain('COMPLIANCE', 3_600_000);
  await expect(remove(true)).rejects.toMatchObject({ name: 'AccessDenied' });
  await retain('GOVERNANCE', 3_600_000);
  await expect(remove(false)).rejects.toMatchObject({ name: 'AccessDenied' });
  await retain('COMPLIANCE', -1_000);
  await remove(false);
  expect(await listVersions(bucket.client, bucket.name)).toEqual([]);
});

describe('a DeleteObjects document', () => {
  const object = (key: string): string => `<Object><Key>${key}</Key></Object>`;

  test('is read with its version ids, references and white space', () => {
    const xml = `<?xml version="1.0" encoding="UTF-8"?>
      <Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
        <Object>
          <Key>a &amp; b&#x0D;&#10;</Key><VersionId>v1</VersionId>
        </Object>
        ${object(' c\r\nd ')}
        <Quiet>true</Quiet>
      </Delete>`;
    expect(parseDelete(xml)).toEqual({
      objects: [
        { key: 'a & b\r\n', versionId: 'v1' },
        { key: ' c\nd ', versionId: undefined },
      ],
      quiet: true,
    });
  });

  test.each([
    ['nothing', ''],
    ['no objects', '<Delete></Delete>'],
    ['another root', `<Remove>${object('a')}</Remove>`],
    ['no end', `<Delete>${object('a')}`],
    ['something after the end', `<Delete>${object('a')}</Delete>more`],
    ['an object without a key', '<Delete><Object></Object></Delete>'],
    ['an empty key', `<Delete>${object('')}</Delete>`],
    ['a crossed closing tag', '<Delete><Object><Key>a</Object></Key></Delete>'],
    ['a bare ampersand', `<Delete>${object('a & b')}</Delete>`],
    ['an unknown reference', `<Delete>${object('&nbsp;')}</Delete>`],
    ['a character that is no XML', `<Delete>${object('\u0001')}</Delete>`],
    ['a reference to one', `<Delete>${object('&#1;')}</Delete>`],
    ['1,001 objects', `<Delete>${object('a').repeat(1_001)}</Delete>`],
  ])('with %s is malformed', (_name, xml) => {
    expect(() => parseDelete(xml)).toThrow(/not well-formed/);
  });
});

test('its order is that of the bytes', () => {
  const texts = [
    '',
    'a',
    'aa',
    'b',
    '\u007f',
    'é',
    '\ud7ff',
    '\ue000',
    '\uffff',
    '😀',
    '\u{10ffff}',
  ];
  for (const a of texts) {
    for (const b of texts) {
      const expected = Buffer.compare(Buffer.from(a), Buffer.from(b));
      expect(Math.sign(compareUtf8(a, b)), JSON.stringify([a, b])).toBe(expected);
    }
  }
});
