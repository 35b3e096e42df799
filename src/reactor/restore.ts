import type { Instant } from '../instant.ts';
import { describeError } from '../errors.ts';
import type { ObjectStore } from '../objects/object-store.ts';
import type { Store } from '../store/store.ts';

/** What a restore works with. */
export interface RestoreOptions {
  readonly store: Pick<Store, 'explain' | 'placeHolds' | 'releaseHolds' | 'unstamp'>;
  /** Must be able to list and to restore. */
  readonly objects: Required<Pick<ObjectStore, 'listing' | 'restoration'>>;
  /** How long the hold lasts; without one the next tick would flag the result again. */
  readonly holdForSeconds: number;
  /** The buckets that may be restored in. Default: any. */
  readonly allowedBuckets?: readonly string[] | undefined;
}

/** How the restore of one run ended; keys as in the command line's JSON. */
export interface RestoredRun {
  readonly run_id: string;
  readonly restored: boolean;
  readonly bucket: string | null;
  readonly key: string | null;
  /** The version that is in sight again. */
  readonly version_id: string | null;
  /** The hold that was placed and stays. */
  readonly hold_id: number | null;
  /** Why it was not restored, in plain words. */
  readonly reason: string | null;
}

const HOLD_REASON = 'restored';

const MAY_GO_AGAIN =
  'S3 may still be at an earlier request to delete it: `retention explain` says until when';

/**
 * Brings the result of a cleared run back: places a hold, takes the delete marker away, looks
 * whether the object is there, and clears the stamp. Where that cannot be done it says why, and the
 * hold is released again.
 *
 * @throws DatabaseError when the database fails.
 */
export async function restoreRun(options: RestoreOptions, runId: string): Promise<RestoredRun> {
  const { store, holdForSeconds } = options;
  const nothing = { run_id: runId, restored: false, version_id: null, hold_id: null } as const;
  const [run] = await store.explain([runId]);
  if (run === undefined || run.state === 'unknown') {
    return { ...nothing, bucket: null, key: null, reason: 'there is no such run' };
  }
  const { bucket, key } = run;
  const refusal = refuse(run) ?? refuseBucket(bucket, options.allowedBuckets);
  if (refusal !== undefined || bucket === null || key === null) {
    return { ...nothing, bucket, key, reason: refusal ?? 'the run names no object' };
  }
  const [hold] = await store.placeHolds({
    runIds: [runId],
    reason: HOLD_REASON,
    forSeconds: holdForSeconds,
  });
  if (hold === undefined) throw new Error('retention.place_hold returned no row');
  const { hold_id } = hold;
  const found =
    hold.too_late > 0 ? { reason: MAY_GO_AGAIN } : await bringBack(options, bucket, key);
  if (found.reason !== undefined) {
    await store.releaseHolds([hold_id]);
    return { ...nothing, bucket, key, reason: found.reason };
  }
  // From here on the hold stays, also after an error: the object is there.
  const { versionId: version_id = null, isBroughtBack: restored = false } = found;
  await store.unstamp(runId, { restored, ...(version_id === null ? {} : { version: version_id }) });
  return { run_id: runId, restored: true, bucket, key, version_id, hold_id, reason: null };
}

function refuse(run: {
  readonly cleared_at: Instant | null;
  readonly because: string;
}): string | undefined {
  if (run.cleared_at !== null) return undefined;
  return `its result was never cleared (${run.because})`;
}

function refuseBucket(
  bucket: string | null,
  allowedBuckets: readonly string[] | undefined,
): string | undefined {
  if (bucket === null || allowedBuckets?.includes(bucket) !== false) return undefined;
  return `S3_RESULT_BUCKET, as it is set here, does not list its bucket ${bucket}`;
}

async function bringBack(
  { objects }: RestoreOptions,
  bucket: string,
  key: string,
): Promise<{
  readonly versionId?: string | undefined;
  /** Absent: the object was there already. */
  readonly isBroughtBack?: true;
  readonly reason?: string;
}> {
  try {
    const restoration = await objects.restoration.restoreObject(bucket, key);
    // The object is there already; only its stamp is to be cleared.
    if (!restoration.restored && restoration.reason !== 'not-deleted') {
      return { reason: restoration.message };
    }
    const object = await objects.listing.headObject(bucket, key);
    if (object.state === 'gone') return { reason: `${key} is not back in bucket ${bucket}` };
    // A role that may delete but not read relies on S3's answer to the deletion of the marker.
    if (restoration.restored) return { versionId: restoration.versionId, isBroughtBack: true };
    return { versionId: object.state === 'exists' ? object.versionId : undefined };
  } catch (error) {
    return { reason: describeError(error) };
  }
}
