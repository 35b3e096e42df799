import {
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteBucketPolicyCommand,
  DeleteObjectCommand,
  ListObjectVersionsCommand,
  type ListObjectVersionsCommandOutput,
  ListObjectsV2Command,
  PutBucketPolicyCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { onTestFinished } from 'vitest';
import type { S3ObjectStoreOptions } from '../../src/objects/s3/connection.ts';
import { type S3ObjectStore, createS3ObjectStore } from '../../src/objects/s3/object-store.ts';

/** An access key and its secret. */
export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** An S3 server that tests may fill. */
export interface S3Target {
  readonly endpoint: string;
  readonly region: string;
  /** May make buckets. */
  readonly owner: S3Credentials;
  /** Known, but with no rights in the owner's buckets; not every server has such a one. */
  readonly other?: S3Credentials | undefined;
}

/** A bucket of one test, with the AWS client beside it for whatever our own store does not do. */
export interface TestBucket {
  readonly name: string;
  readonly client: S3Client;
  /** Our store, as the owner or with other options. */
  open(options?: S3ObjectStoreOptions): S3ObjectStore;
  put(...keys: readonly string[]): Promise<void>;
  /** The keys that a listing shows, in its order. */
  keys(): Promise<string[]>;
}

export interface TestBucketOptions {
  readonly versioned?: boolean;
  readonly objectLock?: boolean;
}

// The tests' own clients need not tell which Node versions the SDK is going to drop.
process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] = 'true';

let bucketsMade = 0;

/** An AWS client for a target; destroyed after the test. */
export function openClient(target: S3Target): S3Client {
  const client = new S3Client({
    endpoint: target.endpoint,
    region: target.region,
    forcePathStyle: true,
    credentials: target.owner,
  });
  onTestFinished(() => client.destroy());
  return client;
}

/** Makes a bucket for the test that calls it, and removes it with all it holds after the test. */
export async function makeBucket(
  target: S3Target,
  options: TestBucketOptions = {},
): Promise<TestBucket> {
  const client = openClient(target);
  bucketsMade += 1;
  const name = `retention-${process.pid}-${Date.now().toString(36)}-${bucketsMade}`;
  await client.send(
    new CreateBucketCommand({
      Bucket: name,
      ...(options.objectLock ? { ObjectLockEnabledForBucket: true } : {}),
    }),
  );
  onTestFinished(() => removeBucket(client, name));
  if (options.versioned) {
    const VersioningConfiguration = { Status: 'Enabled' } as const;
    await client.send(new PutBucketVersioningCommand({ Bucket: name, VersioningConfiguration }));
  }
  return {
    name,
    client,
    open: (more = {}) => closedAfterTest(createS3ObjectStore({ ...asOwner(target), ...more })),
    put: (...keys) => putAll(client, name, keys),
    keys: () => listKeys(client, name),
  };
}

function asOwner({ endpoint, region, owner }: S3Target): S3ObjectStoreOptions {
  return { endpoint, region, clientConfig: { credentials: owner } };
}

function closedAfterTest<T extends { close(): void }>(opened: T): T {
  onTestFinished(() => opened.close());
  return opened;
}

/**
 * Denies actions to everyone: on the given keys or, where they are all, on the bucket itself too.
 * Takes the place of an earlier policy.
 */
export async function deny(
  { client, name }: TestBucket,
  actions: readonly string[],
  keys = '*',
): Promise<void> {
  const bucket = `arn:aws:s3:::${name}`;
  const Resource = [...(keys === '*' ? [bucket] : []), `${bucket}/${keys}`];
  const statement = { Effect: 'Deny', Principal: '*', Action: actions, Resource };
  const Policy = JSON.stringify({ Version: '2012-10-17', Statement: [statement] });
  await client.send(new PutBucketPolicyCommand({ Bucket: name, Policy }));
}

/** All keys of a bucket, in the order of its listing. */
export async function listKeys(
  client: S3Client,
  bucket: string,
  page: { readonly Prefix?: string; readonly StartAfter?: string; readonly MaxKeys?: number } = {},
): Promise<string[]> {
  const keys: string[] = [];
  let token: string | undefined;
  do {
    // Without the encoding, keys that are no XML could not be listed.
    const reply = await client.send(
      new ListObjectsV2Command({
        Bucket: bucket,
        EncodingType: 'url',
        ...page,
        ...(token === undefined ? {} : { ContinuationToken: token }),
      }),
    );
    keys.push(...(reply.Contents ?? []).map((it) => decode(it.Key ?? '')));
    token = reply.NextContinuationToken;
  } while (token !== undefined);
  return keys;
}

/** One entry of a listing of versions. */
export interface ListedVersion {
  readonly key: string;
  readonly id: string;
  readonly isLatest: boolean;
  readonly isMarker: boolean;
}

/** All versions and delete markers of a bucket; per key the newest first. */
export async function listVersions(
  client: S3Client,
  bucket: string,
  pageSize = 1_000,
): Promise<ListedVersion[]> {
  const found: ListedVersion[] = [];
  let after: { KeyMarker?: string; VersionIdMarker?: string } | undefined = {};
  while (after) {
    const reply: ListObjectVersionsCommandOutput = await client.send(
      new ListObjectVersionsCommand({
        Bucket: bucket,
        EncodingType: 'url',
        MaxKeys: pageSize,
        ...after,
      }),
    );
    const versions = (reply.Versions ?? []).map((it) => ({ ...it, isMarker: false }));
    const markers = (reply.DeleteMarkers ?? []).map((it) => ({ ...it, isMarker: true }));
    for (const { Key = '', VersionId = '', IsLatest = false, isMarker } of [
      ...versions,
      ...markers,
    ]) {
      found.push({ key: decode(Key), id: VersionId, isLatest: IsLatest, isMarker });
    }
    after = reply.IsTruncated
      ? {
          KeyMarker: decode(reply.NextKeyMarker ?? ''),
          VersionIdMarker: reply.NextVersionIdMarker ?? '',
        }
      : undefined;
  }
  return found;
}

async function putAll(client: S3Client, bucket: string, keys: readonly string[]): Promise<void> {
  const queue = keys.values();
  const work = async (): Promise<void> => {
    for (const key of queue) {
      await client.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: 'result' }));
    }
  };
  await Promise.all(Array.from({ length: 16 }, work));
}

async function removeBucket(client: S3Client, bucket: string): Promise<void> {
  await client.send(new DeleteBucketPolicyCommand({ Bucket: bucket }));
  for (const { key, id } of await listVersions(client, bucket)) {
    // One by one: some of the keys that tests use are more than a DeleteObjects document carries.
    await client.send(
      new DeleteObjectCommand({
        Bucket: bucket,
        Key: key,
        VersionId: id,
        BypassGovernanceRetention: true,
      }),
    );
  }
  await client.send(new DeleteBucketCommand({ Bucket: bucket }));
}

/** Undoes `EncodingType: 'url'`: a form's encoding in S3, a plain one in other stores. */
function decode(key: string): string {
  return decodeURIComponent(key.replaceAll('+', ' '));
}
