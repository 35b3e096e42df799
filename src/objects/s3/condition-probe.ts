import { randomUUID } from 'node:crypto';
import type { ConditionProbe } from '../abilities.ts';
import { ObjectStoreError } from '../store-failure.ts';
import { CallHabits, type StoreHabits } from '../store-habits.ts';
import type { S3Connection } from './connection.ts';
import type { S3Deletion } from './deletion.ts';
import type { S3Purge } from './purge.ts';
import { DeletionNotes } from './deletion-notes.ts';

/** No object has it: it is that of no content that anybody knows. */
const ANOTHER_ETAG = '00000000000000000000000000000000';

/** With what, where, and how a store is tried. */
interface Trial {
  readonly connection: S3Connection;
  readonly deletion: S3Deletion;
  readonly purge: S3Purge;
  readonly bucket: string;
  readonly prefix: string;
  readonly habits: StoreHabits;
  readonly signal: AbortSignal;
}

/** Tries with an object of our own whether the store deletes the version that it is told, and no other. */
export async function probeConditions(trial: Trial): Promise<ConditionProbe> {
  const key = `${trial.prefix}.retention/condition-${randomUUID()}`;
  const { bucket, connection, signal } = trial;
  let etag: string | undefined;
  let isVersioned = false;
  try {
    const put = await connection.ask('PutObject', bucket, signal, (sdk, client, inTime) =>
      client.send(new sdk.PutObjectCommand({ Bucket: bucket, Key: key, Body: key }), {
        abortSignal: inTime,
      }),
    );
    etag = put.ETag?.replaceAll('"', '');
    isVersioned = put.VersionId !== undefined;
  } catch (error) {
    return unknown(error);
  }
  try {
    return await tryBoth(trial, key, etag);
  } catch (error) {
    return unknown(error);
  } finally {
    await putAway(trial, key, isVersioned);
  }
}

async function tryBoth(
  trial: Trial,
  key: string,
  etag: string | undefined,
): Promise<ConditionProbe> {
  if (etag === undefined) return { found: 'refused', because: 'it gives objects no etags' };
  const other = await remove(trial, key, ANOTHER_ETAG);
  if (other === undefined)
    return { found: 'ignored', because: 'an object was deleted by the etag of another' };
  if (other.code === 'ConditionRefused') return { found: 'refused', because: other.reason };
  if (other.outcome !== 'changed')
    return {
      found: 'unknown',
      code: other.code,
      reason: other.reason,
      missingAction: other.code === 'AccessDenied' ? 's3:GetObject' : undefined,
    };
  const own = await remove(trial, key, etag);
  if (own === undefined)
    return { found: 'honoured', because: 'an object was deleted by its etag, and not by another' };
  return {
    found: 'refused',
    because: `an object is not deleted by its own etag either: ${own.code}`,
  };
}

/** @returns why it was not deleted; undefined: it was. */
async function remove(
  { deletion, bucket, habits, signal }: Trial,
  key: string,
  etag: string,
): Promise<
  { readonly code: string; readonly reason: string; readonly outcome: string } | undefined
> {
  const { conditional: _tried, ...known } = habits;
  const call = {
    signal,
    unanswered: new Set<string>(),
    notes: new DeletionNotes(),
    habits: new CallHabits(known),
    etags: new Map([[key, etag]]),
  };
  try {
    return (await deletion.run(bucket, [key], call)).failures[0];
  } catch (error) {
    if (!(error instanceof ObjectStoreError) || error.kind === 'aborted') throw error;
    return error;
  }
}

/** What cannot be put away stays: a few bytes under a name of our own. */
async function putAway(
  { deletion, purge, bucket, habits, signal }: Trial,
  key: string,
  isVersioned: boolean,
): Promise<void> {
  const call = {
    signal,
    unanswered: new Set<string>(),
    notes: new DeletionNotes(),
    habits: new CallHabits(habits),
  };
  const work = isVersioned ? purge.run(bucket, [key], call) : deletion.run(bucket, [key], call);
  await work.catch(() => undefined);
}

function unknown(error: unknown): ConditionProbe {
  if (!(error instanceof ObjectStoreError) || error.kind === 'aborted') throw error;
  const { code, reason, missingAction } = error;
  return { found: 'unknown', code, reason, missingAction };
}
