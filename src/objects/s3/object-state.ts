import type { ObjectState } from '../abilities.ts';
import { ObjectStoreError } from '../store-failure.ts';
import type { S3Connection } from './connection.ts';
import { listPage } from './listing.ts';

/**
 * Whether a key has an object. A HEAD reply has no body and so no code: its 404 may mean the bucket,
 * and its 403 a missing object that the caller may not know of. A listing of one key tells.
 */
export async function readObjectState(
  connection: S3Connection,
  bucket: string,
  key: string,
  signal?: AbortSignal,
): Promise<ObjectState> {
  try {
    return await head(connection, bucket, key, signal);
  } catch (error) {
    if (!(error instanceof ObjectStoreError) || !isAmbiguous(error)) throw error;
    return lookUp(connection, bucket, key, error, signal);
  }
}

async function head(
  connection: S3Connection,
  bucket: string,
  key: string,
  outer: AbortSignal | undefined,
): Promise<ObjectState> {
  const reply = await connection.ask('HeadObject', bucket, outer, (sdk, client, signal) =>
    client.send(new sdk.HeadObjectCommand({ Bucket: bucket, Key: key }), { abortSignal: signal }),
  );
  return {
    state: 'exists',
    versionId: reply.VersionId,
    size: reply.ContentLength,
    lastModified: reply.LastModified,
  };
}

/** 400 is what an object under a customer's key answers, and 405 a delete marker in some stores. */
function isAmbiguous({ httpStatus }: ObjectStoreError): boolean {
  return httpStatus !== undefined && [400, 403, 404, 405].includes(httpStatus);
}

async function lookUp(
  connection: S3Connection,
  bucket: string,
  key: string,
  refusal: ObjectStoreError,
  signal: AbortSignal | undefined,
): Promise<ObjectState> {
  try {
    const { objects } = await listPage(connection, bucket, { prefix: key, pageSize: 1, signal });
    const [first] = objects;
    if (first?.key !== key) return { state: 'gone' };
    return { state: 'exists', size: first.size, lastModified: first.lastModified };
  } catch (error) {
    if (!(error instanceof ObjectStoreError) || error.kind !== 'denied') throw error;
    // S3 answers 403 for a missing object when the caller may not list, so a 404 can be believed.
    if (refusal.httpStatus === 404) return { state: 'gone' };
    return {
      state: 'denied',
      code: error.code,
      reason: `neither looking at the object nor listing it is allowed: ${refusal.reason}`,
      missingAction: 's3:GetObject',
    };
  }
}
