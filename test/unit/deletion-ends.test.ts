import { PutBucketVersioningCommand } from '@aws-sdk/client-s3';
import { expect, onTestFinished, test } from 'vitest';
import { endsAsJson } from '../../src/store/receipts.ts';
import { startMemoryS3 } from '../stack/memory-s3.ts';
import { listVersions, makeBucket, openClient } from '../support/s3-target.ts';
import { useScriptedStore } from '../support/scripted-store.ts';

const { open, play } = useScriptedStore();

/** Why a reply names a request, as S3 does. */
const NAMED = { 'x-amz-request-id': 'R-1' } as const;

async function memory() {
  const s3 = await startMemoryS3();
  onTestFinished(() => s3.stop());
  const [owner] = s3.users;
  if (owner === undefined) throw new Error('it has no user');
  const target = { endpoint: s3.endpoint, region: s3.region, owner };
  return { s3, target, bucket: await makeBucket(target) };
}

test('a key that was simply deleted has no end to tell, and its request has a name', async () => {
  const { s3, bucket } = await memory();
  s3.putObject(bucket.name, 'a');
  const report = await bucket.open().deleteObjects(bucket.name, ['a', 'never there']);
  expect(report).toMatchObject({ all: true, requestIds: [expect.stringMatching(/^memory-\d+$/u)] });
  // S3 names a key that was never there as deleted: nobody can tell the two apart.
  expect(report.ends).toBeUndefined();
});

test('in a bucket with versions each end names its marker, together and alone', async () => {
  const { s3, target, bucket } = await memory();
  const client = openClient(target);
  await client.send(
    new PutBucketVersioningCommand({
      Bucket: bucket.name,
      VersioningConfiguration: { Status: 'Enabled' },
    }),
  );
  for (const key of ['a', 'b', 'odd\u0001']) s3.putObject(bucket.name, key);
  const keys = ['a', 'b', 'odd\u0001'];
  const report = await bucket.open().deleteObjects(bucket.name, keys);
  const markers = new Map(
    (await listVersions(client, bucket.name))
      .filter(({ isMarker }) => isMarker)
      .map(({ key, id }) => [key, { end: 'marker', version: id }]),
  );
  expect(report.ends).toEqual(markers);
  // Keys that XML does not carry have a request of their own.
  expect(report.requestIds).toHaveLength(2);

  const purged = await bucket.open().versions.purgeKeys(bucket.name, [...keys, 'never there']);
  expect(purged.ends?.get('a')).toEqual({ end: 'purged', version: markers.get('a')?.version });
  expect(purged.ends?.get('odd\u0001')?.end).toBe('purged');
  expect(purged.ends?.get('never there')).toEqual({ end: 'gone' });
  expect(purged.requestIds?.length).toBeGreaterThan(1);
});

test('a store that tells what it does not have is believed, together and alone', async () => {
  play((request, response) => {
    if (request.method === 'DELETE') {
      response.writeHead(404, NAMED).end('<Error><Code>NoSuchKey</Code></Error>');
      return;
    }
    response.writeHead(200, NAMED);
    response.end(
      '<DeleteResult><Deleted><Key>a</Key></Deleted>' +
        '<Error><Key>b</Key><Code>NoSuchKey</Code></Error></DeleteResult>',
    );
  });
  const together = await open().deleteObjects('bucket', ['a', 'b']);
  expect(together).toMatchObject({ all: true, requestIds: ['R-1'] });
  expect(together.ends).toEqual(new Map([['b', { end: 'gone' }]]));
  const alone = await open().deleteObjects('bucket', ['odd\u0001']);
  expect(alone).toMatchObject({ deleted: ['odd\u0001'], requestIds: ['R-1'] });
  expect(alone.ends).toEqual(new Map([['odd\u0001', { end: 'gone' }]]));
});

test('a request in which nothing was deleted is not among those that a receipt names', async () => {
  play((_request, response) => {
    response.writeHead(200, NAMED);
    response.end(
      '<DeleteResult><Error><Key>a</Key><Code>AccessDenied</Code></Error></DeleteResult>',
    );
  });
  const report = await open().deleteObjects('bucket', ['a', 'b']);
  expect(report.deleted).toEqual([]);
  expect(report.requestIds).toBeUndefined();
});

test('what no database can keep is left out of a receipt', () => {
  const end = 'marker' as const;
  expect(endsAsJson(undefined)).toBeNull();
  expect(endsAsJson(new Map())).toBeNull();
  const told = endsAsJson(
    new Map([
      ['__proto__', { end, version: 'v1' }],
      ['b', { end, version: 'a\0b' }],
      ['c', { end, version: '\ud800' }],
      ['d', { end, version: 'x'.repeat(5_000) }],
    ]),
  );
  expect(told).toBe(
    '{"__proto__":{"end":"marker","version":"v1"},"b":{"end":"marker"},"c":{"end":"marker"},"d":{"end":"marker"}}',
  );
});
