import type { LearnedHabits } from './store-habits.ts';
import { messageBeside } from '../failure-words.ts';

/**
 * What a failure says of the deletion that was asked for.
 *
 * - `refused`: the store said no. It counts against the result.
 * - `failed`: load, time, credentials or a fault of the store. It does not count; the bucket pauses.
 * - `unknown`: no answer came, and the store may still do it. It does not count either.
 * - `changed`: the store holds another version than the one that was asked for, and has kept it. It is spared.
 */
export type FailureOutcome = 'refused' | 'failed' | 'unknown' | 'changed';

/**
 * One failure. The object store classifies it once, and no other room interprets its code. Messages are
 * composed where they are shown.
 */
export interface StoreFailure {
  /** Absent: the whole request failed. */
  readonly key?: string | undefined;
  /** The store's own code (`AccessDenied`, ...), or one that is given here ({@link LocalFailureCode}). */
  readonly code: string;
  /** The store's words, without the code. Never empty, and without secrets. */
  readonly reason: string;
  readonly outcome: FailureOutcome;
  /**
   * What the failure is about. When a whole request is refused and this is `key`, one of its keys is the
   * reason: sent in halves, the others are deleted.
   */
  readonly concerns: 'key' | 'bucket' | 'store';
  /** Trying again cannot help. */
  readonly final: boolean;
}

/** The failure of one key. */
export interface KeyFailure extends StoreFailure {
  readonly key: string;
}

/**
 * The codes of failures that no store sent.
 *
 * - `EmptyKey`, `KeyTooLongError`, `UnencodableKey`: no request can carry the key.
 * - `Unanswered`: the reply did not name the key, so nothing is known of it.
 * - `Timeout`: the call's time was over before the answer came, or before the key's turn.
 * - `Aborted`: the caller ended the call.
 * - `ObjectLocked`: a version is under retention or legal hold; the reason names the date.
 * - `VersionsLeft`: a version was written while the key was purged.
 * - `ConditionRefused`: the store deletes nothing of which the version is named.
 */
export type LocalFailureCode =
  | 'EmptyKey'
  | 'KeyTooLongError'
  | 'UnencodableKey'
  | 'Unanswered'
  | 'Timeout'
  | 'Aborted'
  | 'ObjectLocked'
  | 'VersionsLeft'
  | 'ConditionRefused';

/**
 * The family of a request's failure, for metrics and for what the store itself does next. What it means
 * for the keys is in `outcome` and `concerns`.
 *
 * - `throttled`: slow down and ask again.
 * - `unavailable`: 5xx, a broken connection or an answer that is not S3's; ask again later.
 * - `credentials`: none were found, or the store does not accept them (any more).
 * - `denied`: the credentials are good, but may not do this in this bucket.
 * - `no-bucket`: there is no such bucket.
 * - `malformed`: refused for what the request holds.
 * - `timeout`: no answer came in time, or the whole retry budget is used up.
 * - `aborted`: the caller's signal ended it.
 */
export type ObjectStoreErrorKind =
  | 'throttled'
  | 'unavailable'
  | 'credentials'
  | 'denied'
  | 'no-bucket'
  | 'malformed'
  | 'timeout'
  | 'aborted';

/** What is known of a request that failed as a whole. */
export interface ObjectStoreErrorDetails extends StoreFailure {
  readonly key?: undefined;
  readonly kind: ObjectStoreErrorKind;
  readonly bucket: string;
  /** Keys that the store may still delete. Default: none. */
  readonly unanswered?: readonly string[] | undefined;
  readonly httpStatus?: number | undefined;
  readonly requestId?: string | undefined;
  /** How the store names requests of the call in which it has deleted something. Default: there are none. */
  readonly requestIds?: readonly string[] | undefined;
  /** The right that may be missing (`s3:DeleteObject`, ...), where the store denied the request. */
  readonly missingAction?: string | undefined;
  /** What the call has learned of the store. */
  readonly learned?: LearnedHabits | undefined;
  readonly cause?: unknown;
}

/** A request to the object store that failed as a whole. */
export class ObjectStoreError extends Error implements StoreFailure {
  override readonly name = 'ObjectStoreError';
  /** For `describeError`: the SDK's error has the same code and words. */
  readonly saysAll = true;
  readonly #details: ObjectStoreErrorDetails;
  readonly kind: ObjectStoreErrorKind;
  readonly code: string;
  readonly reason: string;
  readonly outcome: FailureOutcome;
  readonly concerns: StoreFailure['concerns'];
  readonly final: boolean;
  readonly bucket: string;
  readonly unanswered: readonly string[];
  readonly httpStatus: number | undefined;
  readonly requestId: string | undefined;
  readonly requestIds: readonly string[];
  readonly missingAction: string | undefined;
  readonly learned: LearnedHabits | undefined;

  constructor(details: ObjectStoreErrorDetails) {
    const said = messageBeside(details.code, details.reason);
    super(`${details.code} in bucket ${details.bucket}${said === '' ? '' : `: ${said}`}`, {
      cause: details.cause,
    });
    this.#details = details;
    this.kind = details.kind;
    this.code = details.code;
    this.reason = details.reason;
    this.outcome = details.outcome;
    this.concerns = details.concerns;
    this.final = details.final;
    this.bucket = details.bucket;
    this.unanswered = details.unanswered ?? [];
    this.httpStatus = details.httpStatus;
    this.requestId = details.requestId;
    this.requestIds = details.requestIds ?? [];
    this.missingAction = details.missingAction;
    this.learned = details.learned;
  }

  /** The same failure, with something that became known of it later. */
  with(
    more: Partial<
      Pick<ObjectStoreErrorDetails, 'outcome' | 'unanswered' | 'requestIds' | 'learned'>
    >,
  ): ObjectStoreError {
    return new ObjectStoreError({ ...this.#details, ...more });
  }
}
