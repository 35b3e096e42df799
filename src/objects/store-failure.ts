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
