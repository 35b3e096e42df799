import { type KeyFailure, ObjectStoreError } from '../store-failure.ts';
import type { S3Connection } from './connection.ts';
import { isMissingRight, localFailure, saysLocked } from './failures.ts';

/** A version that was not deleted, and what the store said of it. */
export interface RefusedVersion extends KeyFailure {
  readonly versionId: string;
  readonly isMarker: boolean;
}

/** What holds a version: `until` a date, `held` without one, or a lock that may not be read. */
interface Lock {
  readonly versionId: string;
  readonly kind: 'until' | 'held' | 'unreadable';
  readonly mode?: string | undefined;
  readonly until?: Date | undefined;
}

/**
 * One failure for all refused versions of a key: locked, where one of them is; else what the store
 * said first that counts.
 */
export async function explainRefusals(
  connection: S3Connection,
  bucket: string,
  key: string,
  refusals: readonly RefusedVersion[],
  signal: AbortSignal,
): Promise<KeyFailure> {
  const locks: Lock[] = [];
  for (const refusal of refusals) {
    // A delete marker has no retention, and only a refusal may come from a lock.
    if (refusal.isMarker || refusal.outcome !== 'refused') continue;
    const lock = await lockOf(connection, bucket, refusal, signal);
    if (lock) locks.push(lock);
  }
  const [first] = locks;
  if (first) {
    const reason = describe(locks, first);
    return localFailure({ key, code: 'ObjectLocked', reason, outcome: 'refused' });
  }
  const told = refusals.find((it) => it.outcome === 'refused') ?? refusals[0];
  if (told === undefined) throw new RangeError('expected a refused version, got none');
  const { versionId, isMarker: _isMarker, ...failure } = told;
  const right = isMissingRight(failure) ? '; s3:DeleteObjectVersion may be missing' : '';
  return { ...failure, key, reason: `version ${versionId}: ${failure.reason}${right}` };
}

async function lockOf(
  connection: S3Connection,
  bucket: string,
  refusal: RefusedVersion,
  outer: AbortSignal,
): Promise<Lock | undefined> {
  const { versionId } = refusal;
  const named = { Bucket: bucket, Key: refusal.key, VersionId: versionId };
  const retention = await readable(
    connection.ask('GetObjectRetention', bucket, outer, (sdk, client, signal) =>
      client.send(new sdk.GetObjectRetentionCommand(named), { abortSignal: signal }),
    ),
  );
  const { Mode: mode, RetainUntilDate: until } = retention?.Retention ?? {};
  const locked = until !== undefined && until.getTime() > Date.now();
  if (locked) return { versionId, kind: 'until', mode, until };
  const hold = await readable(
    connection.ask('GetObjectLegalHold', bucket, outer, (sdk, client, signal) =>
      client.send(new sdk.GetObjectLegalHoldCommand(named), { abortSignal: signal }),
    ),
  );
  if (hold?.LegalHold?.Status === 'ON') return { versionId, kind: 'held' };
  return saysLocked(refusal) ? { versionId, kind: 'unreadable' } : undefined;
}

/** The reply, or undefined where the store refuses to give one, for whatever reason. */
async function readable<T>(reply: Promise<T>): Promise<T | undefined> {
  try {
    return await reply;
  } catch (error) {
    if (error instanceof ObjectStoreError && error.kind !== 'aborted') return undefined;
    throw error;
  }
}

function describe(locks: readonly Lock[], first: Lock): string {
  const held = locks.find((it) => it.kind === 'held');
  if (held) return `version ${held.versionId} is under a legal hold, which has no end of its own`;
  const dated = locks.flatMap(({ versionId, mode, until }) =>
    until ? [{ versionId, mode, until }] : [],
  );
  const [last] = dated.toSorted((a, b) => b.until.getTime() - a.until.getTime());
  if (last) {
    return `version ${last.versionId} is locked (${last.mode}) until ${last.until.toISOString()}`;
  }
  return (
    `version ${first.versionId} is locked, until when may not be read: ` +
    's3:GetObjectRetention may be missing'
  );
}
