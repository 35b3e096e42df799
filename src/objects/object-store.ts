/** One key that was not deleted, and whether that counts against it. */
export interface KeyFailure {
  readonly key: string;
  /** The store's own code (`AccessDenied`, ...), or one of {@link LocalFailureCode}. */
  readonly code: string;
  readonly message: string;
  /** True: not the key's fault (throttled, 5xx, unanswered); not counted against it. */
  readonly transient: boolean;
}

/**
 * The codes of failures that no store sent.
 *
 * - `EmptyKey`, `KeyTooLongError`, `UnencodableKey`: refused here, never sent.
 * - `Unanswered`: the reply did not name the key, so nothing is known of it.
 * - `Timeout`: the call's time was over before the key's turn or its answer came.
 */
export type LocalFailureCode =
  | 'EmptyKey'
  | 'KeyTooLongError'
  | 'UnencodableKey'
  | 'Unanswered'
  | 'Timeout';

/** What became of the keys of one call: each is in exactly one of the two. */
export interface DeletionReport {
  /** Named by the store as deleted, or as already gone. */
  readonly deleted: ReadonlySet<string>;
  readonly failures: readonly KeyFailure[];
}

/** How a call that deletes is made. */
export interface DeletionOptions {
  /** Ends the call early; what was already deleted is then not known. */
  readonly signal?: AbortSignal | undefined;
  /**
   * No request is sent after it, in milliseconds of `performance.now()`. A process that was stopped goes
   * on where it was, and a timer that is to end the call may come after the request.
   */
  readonly endsAt?: number | undefined;
  /**
   * Told of keys for which a request was sent and no answer of the store's came, so that the store may
   * still delete them, whatever the call itself comes to: it may have ended with the answer to a
   * second attempt. Told before the call ends, and more than once perhaps.
   */
  readonly onUnanswered?: ((keys: readonly string[]) => void) | undefined;
}

/** The most keys that one DeleteObjects request may carry. */
export const MAX_KEYS_PER_REQUEST = 1_000;

/** Deletes objects. Knows nothing of runs, batches or leases. */
export interface ObjectStore {
  /**
   * Deletes up to {@link MAX_KEYS_PER_REQUEST} keys of one bucket with one DeleteObjects request;
   * keys that XML does not carry unchanged go one by one with DeleteObject.
   *
   * Every key of `keys` ends in exactly one of `deleted` or `failures`; a key given twice is sent
   * once and reported once. `deleted` holds only what the store itself named: a key that its reply
   * leaves out is a transient failure with code `Unanswered`. A reply that names no key at all, or
   * throttles all that it names, is a request that failed as a whole.
   *
   * @throws {RangeError} when there are too many keys.
   * @throws {ObjectStoreError} when the request as a whole failed. Keys may have been deleted all
   * the same (a lost reply): asking again is always safe.
   */
  deleteObjects(
    bucket: string,
    keys: readonly string[],
    options?: DeletionOptions,
  ): Promise<DeletionReport>;

  /** Loads what the first call would have to wait for. Default: there is nothing to load. */
  prepare?(): Promise<void>;

  /** Closes idle connections. Calls in flight are not waited for. */
  close(): void;
}

/**
 * Why a request failed as a whole, in terms of what to do next.
 *
 * - `throttled`: slow down and ask again.
 * - `unavailable`: 5xx, a broken connection or an answer that is not S3's; ask again later.
 * - `credentials`: none were found, or the store does not accept them (any more).
 * - `denied`: the credentials are good, but may not do this in this bucket.
 * - `no-bucket`: there is no such bucket.
 * - `malformed`: refused for what the request holds; split the batch to find the bad key.
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
export interface ObjectStoreErrorDetails {
  readonly kind: ObjectStoreErrorKind;
  /** The store's own code where it gave one, else the error's name. */
  readonly code: string;
  readonly bucket: string;
  readonly message: string;
  readonly httpStatus?: number | undefined;
  readonly requestId?: string | undefined;
  /** The right that may be missing (`s3:DeleteObject`, ...), where the store denied the request. */
  readonly missingAction?: string | undefined;
  readonly cause?: unknown;
}

/** A request to the object store that failed as a whole; see {@link ObjectStoreErrorKind}. */
export class ObjectStoreError extends Error {
  override readonly name = 'ObjectStoreError';
  readonly kind: ObjectStoreErrorKind;
  readonly code: string;
  readonly bucket: string;
  readonly httpStatus: number | undefined;
  readonly requestId: string | undefined;
  readonly missingAction: string | undefined;

  constructor(details: ObjectStoreErrorDetails) {
    super(`${details.code} in bucket ${details.bucket}: ${details.message}`, {
      cause: details.cause,
    });
    this.kind = details.kind;
    this.code = details.code;
    this.bucket = details.bucket;
    this.httpStatus = details.httpStatus;
    this.requestId = details.requestId;
    this.missingAction = details.missingAction;
  }
}
