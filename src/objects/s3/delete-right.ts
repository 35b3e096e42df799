import { randomUUID } from 'node:crypto';

import type { DeleteRight, IamStatement } from '../abilities.ts';
import { ObjectStoreError } from '../store-failure.ts';
import type { S3DeleteRequests } from './delete-requests.ts';
import { lacksOperation } from './failures.ts';

/**
 * Asks to delete a key that cannot exist. In a versioned bucket that makes a delete marker even so,
 * which is taken away again; that tells whether versions may be deleted, too.
 */
export async function probeDeleteRight(
  requests: S3DeleteRequests,
  bucket: string,
  prefix: string,
  signal: AbortSignal,
): Promise<DeleteRight> {
  const key = `${prefix}.retention-doctor/${randomUUID()}`;
  let marker: string | undefined;
  try {
    marker = await deleteKey(requests, bucket, key, signal);
  } catch (error) {
    if (!(error instanceof ObjectStoreError) || error.kind === 'aborted') throw error;
    return refused(bucket, prefix, error);
  }
  if (marker === undefined) return { ok: true };
  try {
    await requests.deleteObject(bucket, { key, versionId: marker }, { signal });
    return { ok: true, versions: 'granted' };
  } catch (error) {
    if (!(error instanceof ObjectStoreError) || error.kind === 'aborted') throw error;
    const leftMarker = { key, versionId: marker };
    return { ok: true, versions: error.kind === 'denied' ? 'refused' : undefined, leftMarker };
  }
}

/** As the listener deletes: with DeleteObjects, where the store has it. */
async function deleteKey(
  requests: S3DeleteRequests,
  bucket: string,
  key: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    const { Deleted, Errors } = await requests.deleteObjects(bucket, [{ key }], { signal });
    const [error] = Errors ?? [];
    if (error) throw refusedKey(bucket, error.Code ?? 'Unknown', error.Message);
    if (!Deleted?.some((it) => it.Key === key)) {
      throw new ObjectStoreError({
        kind: 'unavailable',
        code: 'Unanswered',
        bucket,
        message: 'the reply to DeleteObjects does not name the key that was asked for',
      });
    }
    return Deleted.find((it) => it.DeleteMarker)?.DeleteMarkerVersionId;
  } catch (error) {
    if (!(error instanceof ObjectStoreError) || !lacksOperation(error)) throw error;
    return requests.deleteObject(bucket, { key }, { signal });
  }
}

function refusedKey(bucket: string, code: string, message = code): ObjectStoreError {
  const denied = code === 'AccessDenied';
  return new ObjectStoreError({
    kind: denied ? 'denied' : 'unavailable',
    code,
    bucket,
    message,
    missingAction: denied ? 's3:DeleteObject' : undefined,
  });
}

function refused(bucket: string, prefix: string, error: ObjectStoreError): DeleteRight {
  const { code, message, missingAction } = error;
  const missingStatement =
    missingAction === undefined ? undefined : statementFor(missingAction, bucket, prefix);
  return { ok: false, code, message, missingAction, missingStatement };
}

function statementFor(action: string, bucket: string, prefix: string): IamStatement {
  // An access point is named by its own ARN, and its objects are below that.
  const objects = bucket.startsWith('arn:') ? `${bucket}/object` : `arn:aws:s3:::${bucket}`;
  return { Effect: 'Allow', Action: [action], Resource: [`${objects}/${prefix}*`] };
}
