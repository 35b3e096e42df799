import type { ConditionalObject } from '../abilities.ts';
import { ObjectStoreError } from '../store-failure.ts';
import type { S3Connection } from './connection.ts';
import { isGone } from './failures.ts';

/** How a store says that the condition of a request does not hold: by now, or at all. */
const NOT_WRITTEN = new Set([
  'PreconditionFailed',
  'ConditionalRequestConflict',
  'NoSuchKey',
  'OperationAborted',
]);

/** Reads a small object whole. Undefined: there is none. */
export async function readObject(
  connection: S3Connection,
  bucket: string,
  key: string,
  outer?: AbortSignal,
): Promise<ConditionalObject | undefined> {
  try {
    return await connection.ask('GetObject', bucket, outer, async (sdk, client, signal) => {
      const reply = await client.send(new sdk.GetObjectCommand({ Bucket: bucket, Key: key }), {
        abortSignal: signal,
      });
      return { body: (await reply.Body?.transformToString()) ?? '', etag: reply.ETag ?? '' };
    });
  } catch (error) {
    if (error instanceof ObjectStoreError && isGone(error.code)) return undefined;
    throw error;
  }
}

/**
 * Writes an object in place of the one with that etag, or where there is none. False: the condition does not hold.
 * Ceph compares the etag of a PutObject without its quotes, so it is asked for once more like that. (rgw_rados.cc)
 */
export async function writeObject(
  connection: S3Connection,
  bucket: string,
  {
    key,
    body,
    instead,
    lockedUntil,
  }: { key: string; body: string; instead: string | undefined; lockedUntil?: Date | undefined },
  outer?: AbortSignal,
): Promise<boolean> {
  const request = {
    Bucket: bucket,
    Key: key,
    Body: body,
    ContentType: 'application/json',
    ...(lockedUntil === undefined
      ? {}
      : { ObjectLockMode: 'GOVERNANCE' as const, ObjectLockRetainUntilDate: lockedUntil }),
  };
  const write = async (condition: { IfNoneMatch?: string; IfMatch?: string }): Promise<boolean> => {
    try {
      await connection.ask('PutObject', bucket, outer, (sdk, client, signal) =>
        client.send(new sdk.PutObjectCommand({ ...request, ...condition }), {
          abortSignal: signal,
        }),
      );
      return true;
    } catch (error) {
      const isRefusedByCondition =
        error instanceof ObjectStoreError &&
        (NOT_WRITTEN.has(error.code) || error.httpStatus === 412 || error.httpStatus === 409);
      if (isRefusedByCondition) return false;
      throw error;
    }
  };
  if (instead === undefined) return write({ IfNoneMatch: '*' });
  const bare = instead.replaceAll('"', '');
  return (
    (await write({ IfMatch: instead })) || (bare !== instead && (await write({ IfMatch: bare })))
  );
}
