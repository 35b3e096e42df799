import { randomUUID } from 'node:crypto';

import type { DeleteRight, IamStatement } from '../abilities.ts';
import { ObjectStoreError } from '../store-failure.ts';
import type { CallHabits } from '../store-habits.ts';
import type { DeletionCall, S3DeleteRequests } from './delete-requests.ts';
import {
  familyOfKey,
  isMissingRight,
  isOfContent,
  lacksOperation,
  storeError,
  words,
} from './failures.ts';
import { DeletionNotes } from './deletion-notes.ts';

/**
 * Asks to delete a key that cannot exist. In a versioned bucket that makes a delete marker even so,
 * which is taken away again; that tells whether versions may be deleted, too.
 */
export async function probeDeleteRight(
  requests: S3DeleteRequests,
  bucket: string,
  prefix: string,
  habits: CallHabits,
  signal: AbortSignal,
): Promise<DeleteRight> {
  const call = { signal, unanswered: new Set<string>(), notes: new DeletionNotes(), habits };
  const key = `${prefix}.retention-doctor/${randomUUID()}`;
  let marker: string | undefined;
  try {
    marker = await deleteKey(requests, bucket, key, call);
  } catch (error) {
    if (!(error instanceof ObjectStoreError) || error.kind === 'aborted') throw error;
    return refused(bucket, prefix, error);
  }
  if (marker === undefined) return { ok: true };
  try {
    await requests.deleteObject(bucket, { key, versionId: marker }, call);
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
  call: DeletionCall,
): Promise<string | undefined> {
  if (call.habits.known.deletes === 'singly') return requests.deleteObject(bucket, { key }, call);
  try {
    const { Deleted, Errors } = await requests.deleteObjects(bucket, [{ key }], call);
    const [error] = Errors ?? [];
    if (error) throw refusedKey(bucket, error.Code ?? 'Unknown', error.Message);
    if (!Deleted?.some((it) => it.Key === key)) {
      throw storeError({
        bucket,
        kind: 'unavailable',
        code: 'Unanswered',
        reason: 'the reply to DeleteObjects does not name the key that was asked for',
        outcome: 'unknown',
      });
    }
    return Deleted.find((it) => it.DeleteMarker)?.DeleteMarkerVersionId;
  } catch (error) {
    if (!(error instanceof ObjectStoreError)) throw error;
    if (!lacksOperation(error) && !isOfContent(error)) throw error;
    return requests.deleteObject(bucket, { key }, call);
  }
}

function refusedKey(bucket: string, code: string, message: string | undefined): ObjectStoreError {
  const said = { code, reason: words(message, code) };
  return storeError({
    ...said,
    bucket,
    kind: familyOfKey(said),
    missingAction: isMissingRight(said) ? 's3:DeleteObject' : undefined,
  });
}

function refused(bucket: string, prefix: string, error: ObjectStoreError): DeleteRight {
  const { code, reason, missingAction } = error;
  const missingStatement =
    missingAction === undefined ? undefined : statementFor(missingAction, bucket, prefix);
  return { ok: false, code, reason, missingAction, missingStatement };
}

function statementFor(action: string, bucket: string, prefix: string): IamStatement {
  // An access point is named by its own ARN, and its objects are below that.
  const objects = bucket.startsWith('arn:') ? `${bucket}/object` : `arn:aws:s3:::${bucket}`;
  return { Effect: 'Allow', Action: [action], Resource: [`${objects}/${prefix}*`] };
}
