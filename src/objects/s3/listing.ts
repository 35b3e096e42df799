import type { ListObjectVersionsCommandOutput } from '@aws-sdk/client-s3';

import type { ListedObject, ListingRequest, UnsortedPage, UnsortedRequest } from '../abilities.ts';
import type { ObjectStoreError } from '../store-failure.ts';
import type { S3Connection } from './connection.ts';
import { storeError } from './failures.ts';
import { compareUtf8 } from '../utf8-order.ts';

/** The most entries that S3 puts into one page. */
export const MAX_PAGE_SIZE = 1_000;

/** Most keys have a version or two, and what follows in the page are other keys. */
const FIRST_VERSIONS_PAGE_SIZE = 100;

/**
 * The objects of a bucket, page by page. Each page begins after the last key of the one before, not
 * with the store's token: not every store spells that in a way that XML carries for every key.
 */
export async function* listPages(
  connection: S3Connection,
  bucket: string,
  request: ListingRequest = {},
): AsyncGenerator<readonly ListedObject[]> {
  let after = request.startAfter ?? '';
  for (let more = true; more;) {
    const page = await listPage(connection, bucket, { ...request, startAfter: after });
    const objects: ListedObject[] = [];
    for (const object of page.objects) {
      // Some stores name a key twice, one entry behind the other.
      if (object.key === objects.at(-1)?.key) continue;
      if (compareUtf8(object.key, after) <= 0) throw unsorted(bucket, object.key, after);
      after = object.key;
      objects.push(object);
    }
    // A store that does not know the prefix lists everything, which must not be taken for orphans.
    const asked = objects.filter(({ key }) => key.startsWith(request.prefix ?? ''));
    if (asked.length > 0) yield asked;
    more = page.truncated;
    if (more && objects.length === 0) throw unsorted(bucket, '', after);
  }
}

/**
 * The objects of a bucket whose store lists in no order: page by page, each by the token that the one before has named.
 */
export async function* unsortedPages(
  connection: S3Connection,
  bucket: string,
  { prefix = '', token: from, signal }: UnsortedRequest = {},
): AsyncGenerator<UnsortedPage> {
  let token = from;
  do {
    const page = await listPage(connection, bucket, { prefix, signal, token });
    if (page.truncated && (page.token === undefined || page.token === token)) {
      throw storeError({
        kind: 'malformed',
        code: 'UnsortedListing',
        bucket,
        reason:
          'expected a listing out of order to name a token that goes on, got none or the same again',
      });
    }
    token = page.truncated ? page.token : undefined;
    yield { objects: page.objects.filter(({ key }) => key.startsWith(prefix)), token };
  } while (token !== undefined);
}

/** One page of a listing, and whether it is not the last. */
export interface ListingPage {
  readonly objects: readonly ListedObject[];
  readonly truncated: boolean;
  /** What the store goes on with. */
  readonly token?: string | undefined;
}

/** One ListObjectsV2 request. */
export async function listPage(
  connection: S3Connection,
  bucket: string,
  request: ListingRequest & { readonly token?: string | undefined },
): Promise<ListingPage> {
  const { prefix = '', startAfter = '', pageSize = MAX_PAGE_SIZE, token } = request;
  const reply = await connection.ask(
    'ListObjectsV2',
    bucket,
    request.signal,
    (sdk, client, signal) =>
      client.send(
        new sdk.ListObjectsV2Command({
          Bucket: bucket,
          // Without it, keys that are no XML could not be listed.
          EncodingType: 'url',
          MaxKeys: pageSize,
          ...(prefix === '' ? {} : { Prefix: prefix }),
          ...(startAfter === '' ? {} : { StartAfter: startAfter }),
          ...(token === undefined ? {} : { ContinuationToken: token }),
        }),
        { abortSignal: signal },
      ),
  );
  const objects = (reply.Contents ?? []).map((it) => ({
    key: spelling(bucket, reply.EncodingType, it.Key),
    size: it.Size ?? 0,
    lastModified: dateOf(it.LastModified),
    etag: it.ETag?.replaceAll('"', ''),
  }));
  // Where a store does not say whether there is more, a full page or a token may mean that there is.
  const mayGoOn = reply.NextContinuationToken !== undefined || objects.length >= pageSize;
  return {
    objects,
    truncated: reply.IsTruncated ?? mayGoOn,
    token: reply.NextContinuationToken,
  };
}

/** When Amazon S3 began. No object is older, so an earlier date is none. */
const FIRST_OBJECT = Date.UTC(2006, 2, 14);

/** What has no date is young: only what is known to be old may be taken for forgotten. */
function dateOf(told: Date | undefined): Date {
  const isDate = told !== undefined && told.getTime() >= FIRST_OBJECT;
  return isDate ? told : new Date();
}

/** One version of a key, or a delete marker. */
export interface ListedVersion {
  readonly key: string;
  readonly versionId: string;
  readonly isLatest: boolean;
  readonly isMarker: boolean;
  /** Without quotes. */
  readonly etag?: string | undefined;
}

/**
 * The versions and delete markers of one key, page by page, each page the versions first and both
 * the newest first. A key comes before all that it is a prefix of, so the first other key ends it.
 */
export async function* versionPages(
  connection: S3Connection,
  bucket: string,
  key: string,
  signal?: AbortSignal,
): AsyncGenerator<readonly ListedVersion[]> {
  let after: string | undefined;
  for (let more = true; more;) {
    const reply = await listVersions(connection, bucket, key, after, signal);
    const listed = [
      ...(reply.Versions ?? []).map((it) => ({ ...it, isMarker: false })),
      ...(reply.DeleteMarkers ?? []).map((it) => ({ ...it, isMarker: true, ETag: undefined })),
    ];
    const own = listed
      .filter((it) => spelling(bucket, reply.EncodingType, it.Key) === key)
      .map((it) => ({
        key,
        versionId: it.VersionId ?? 'null',
        isLatest: it.IsLatest ?? false,
        isMarker: it.isMarker,
        etag: it.ETag?.replaceAll('"', ''),
      }));
    if (own.length > 0) yield own;
    const next = reply.NextVersionIdMarker;
    more = (reply.IsTruncated ?? false) && own.length === listed.length;
    if (more && (next === undefined || next === after)) throw unsorted(bucket, key, key);
    after = next;
  }
}

function listVersions(
  connection: S3Connection,
  bucket: string,
  key: string,
  after: string | undefined,
  outer: AbortSignal | undefined,
): Promise<ListObjectVersionsCommandOutput> {
  return connection.ask('ListObjectVersions', bucket, outer, (sdk, client, signal) =>
    client.send(
      new sdk.ListObjectVersionsCommand({
        Bucket: bucket,
        Prefix: key,
        EncodingType: 'url',
        ...(after === undefined
          ? { MaxKeys: FIRST_VERSIONS_PAGE_SIZE }
          : { MaxKeys: MAX_PAGE_SIZE, KeyMarker: key, VersionIdMarker: after }),
      }),
      { abortSignal: signal },
    ),
  );
}

/** Undoes `EncodingType: 'url'`: a form's encoding in S3, a plain one in other stores. */
function spelling(bucket: string, encoding: string | undefined, key = ''): string {
  if (encoding !== 'url' || !/[%+]/u.test(key)) return key;
  try {
    return decodeURIComponent(key.replaceAll('+', ' '));
  } catch (error) {
    throw storeError({
      kind: 'malformed',
      code: 'UndecodableKey',
      bucket,
      reason: `expected keys in UTF-8, got ${key}`,
      cause: error,
    });
  }
}

function unsorted(bucket: string, key: string, after: string): ObjectStoreError {
  return storeError({
    kind: 'malformed',
    code: 'UnsortedListing',
    bucket,
    reason:
      `expected a listing in the order of the keys' bytes that goes on after ` +
      `${JSON.stringify(after)}, got ${JSON.stringify(key)}`,
  });
}
