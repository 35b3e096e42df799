import type { Restoration } from '../abilities.ts';
import { ObjectStoreError } from '../store-failure.ts';
import type { S3Connection } from './connection.ts';
import type { S3DeleteRequests } from './delete-requests.ts';
import { type ListedVersion, versionPages } from './listing.ts';

type Refusal = Extract<Restoration, { restored: false }>;

/**
 * Markers pile up where a deletion was asked for again after a lost reply. Beyond this many someone
 * keeps on deleting.
 */
const MOST_MARKERS = 1_000;

/** What lies on top of a key's versions, and the newest object below. */
interface Top {
  readonly current: ListedVersion | undefined;
  readonly newest: ListedVersion | undefined;
}

/** Takes away the delete markers over the newest version of an object. */
export async function restoreObject(
  connection: S3Connection,
  requests: S3DeleteRequests,
  bucket: string,
  key: string,
  signal?: AbortSignal,
): Promise<Restoration> {
  try {
    const { current, newest } = await topOf(connection, bucket, key, signal);
    if (current && !current.isMarker) {
      return refuse('not-deleted', `${key} is there, as version ${current.versionId}`);
    }
    if (!current || !newest) return await nothingLeft(connection, bucket, key, signal);
    return await uncover(connection, requests, bucket, current, signal);
  } catch (error) {
    if (!(error instanceof ObjectStoreError) || error.kind !== 'denied') throw error;
    const missing = error.missingAction === undefined ? '' : ` (${error.missingAction})`;
    return refuse('denied', `a right is missing${missing}: ${error.code}: ${error.reason}`);
  }
}

async function uncover(
  connection: S3Connection,
  requests: S3DeleteRequests,
  bucket: string,
  marker: ListedVersion,
  signal: AbortSignal | undefined,
): Promise<Restoration> {
  const { key } = marker;
  let onTop = marker;
  for (let removed = 0; removed < MOST_MARKERS; removed += 1) {
    await requests.deleteInTime(bucket, { key, versionId: onTop.versionId }, signal);
    const { current } = await topOf(connection, bucket, key, signal);
    if (!current) return refuse('no-version', `the versions of ${key} went meanwhile`);
    if (!current.isMarker) return { restored: true, versionId: current.versionId };
    onTop = current;
  }
  return refuse('not-back', `${key} has a delete marker still, after ${MOST_MARKERS} were removed`);
}

/** Looks at as few pages as tell both. */
async function topOf(
  connection: S3Connection,
  bucket: string,
  key: string,
  signal: AbortSignal | undefined,
): Promise<Top> {
  let current: ListedVersion | undefined;
  let newest: ListedVersion | undefined;
  for await (const page of versionPages(connection, bucket, key, signal)) {
    current ??= page.find((it) => it.isLatest);
    newest ??= page.find((it) => !it.isMarker);
    if (current && newest) break;
  }
  return { current, newest };
}

async function nothingLeft(
  connection: S3Connection,
  bucket: string,
  key: string,
  outer: AbortSignal | undefined,
): Promise<Refusal> {
  const Bucket = bucket;
  const versioning = await connection
    .ask('GetBucketVersioning', bucket, outer, (sdk, client, signal) =>
      client.send(new sdk.GetBucketVersioningCommand({ Bucket }), { abortSignal: signal }),
    )
    .catch((error: unknown) => {
      if (error instanceof ObjectStoreError && error.kind === 'denied') return undefined;
      throw error;
    });
  return versioning && versioning.Status === undefined
    ? refuse('not-versioned', `bucket ${bucket} keeps no versions, so nothing is left of ${key}`)
    : refuse('no-version', `no version of ${key} is left in bucket ${bucket}`);
}

function refuse(reason: Refusal['reason'], message: string): Refusal {
  return { restored: false, reason, message };
}
