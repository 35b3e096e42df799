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

/**
 * The same with one request and without a listing: a GET of the first byte, whose 404 says in its body whether it is the
 * key or the bucket that is not there.
 */
export async function readFirstByte(
  connection: S3Connection,
  bucket: string,
  key: string,
  outer?: AbortSignal,
): Promise<ObjectState> {
  try {
    const reply = await connection.ask('GetObject', bucket, outer, async (sdk, client, signal) => {
      const got = await client.send(
        new sdk.GetObjectCommand({ Bucket: bucket, Key: key, Range: 'bytes=0-0' }),
        { abortSignal: signal },
      );
      // A store that does not know ranges would send all of it.
      const { Body: body } = got;
      if (body !== undefined && 'destroy' in body) body.destroy();
      return got;
    });
    return { state: 'exists', versionId: reply.VersionId, lastModified: reply.LastModified };
  } catch (error) {
    if (!(error instanceof ObjectStoreError)) throw error;
    const { code, httpStatus, reason } = error;
    if (code === 'NoSuchKey') return { state: 'gone' };
    // An empty object has no first byte, and an archived one is not read.
    if (httpStatus === 416 || code === 'InvalidObjectState') return { state: 'exists' };
    if (error.kind !== 'denied') throw error;
    return { state: 'denied', code, reason, missingAction: 's3:GetObject' };
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
