import { redactSecrets } from '../../safe-text.ts';
import type { ObjectStoreErrorKind } from '../store-failure.ts';

/** What a failed request says of itself, whoever threw the error. */
export interface RequestFailure {
  readonly kind: ObjectStoreErrorKind;
  readonly code: string;
  readonly message: string;
  readonly httpStatus: number | undefined;
  readonly requestId: string | undefined;
  /** The region to ask instead, where the store says that the bucket is elsewhere. */
  readonly region: string | undefined;
}

const CREDENTIAL_CODES = new Set([
  'AuthFailure',
  'AuthorizationHeaderMalformed',
  'CredentialsProviderError',
  'ExpiredToken',
  'ExpiredTokenException',
  'InvalidAccessKeyId',
  'InvalidClientTokenId',
  'InvalidToken',
  'ProviderError',
  'RequestExpired',
  'RequestTimeTooSkewed',
  'SignatureDoesNotMatch',
  'TokenProviderError',
  'TokenRefreshRequired',
  'UnrecognizedClientException',
]);

const NO_BUCKET_CODES = new Set(['InvalidBucketName', 'NoSuchBucket']);

const THROTTLING_CODES = new Set([
  'BandwidthLimitExceeded',
  'RequestLimitExceeded',
  'RequestThrottled',
  'SlowDown',
  'Throttling',
  'ThrottlingException',
  'TooManyRequests',
  'TooManyRequestsException',
]);

const TIMEOUT_CODES = new Set([
  'ETIMEDOUT',
  'RequestTimeout',
  'RequestTimeoutException',
  'Timeout',
  'TimeoutError',
]);

/** The store's or the wire's trouble, although some of these come with a 4xx. */
const UNAVAILABLE_CODES = new Set([
  'BadDigest',
  'IncompleteBody',
  'InternalError',
  'OperationAborted',
  'ServiceUnavailable',
  'XAmzContentSHA256Mismatch',
]);

/** A 403 may name the bucket's region too, but asking there would change nothing. */
const ELSEWHERE_CODES = new Set([
  'AuthorizationHeaderMalformed',
  'IllegalLocationConstraintException',
  'PermanentRedirect',
]);

/** What the SDK says where the store gave no code. */
const NO_CODES = new Set(['400', 'BadRequest', 'Unknown', 'UnknownError']);

const GONE_CODES = new Set(['NoSuchKey', 'NoSuchVersion']);

const REGION = /^[a-z0-9-]{1,32}$/;

/** Says what a failed request means. Never throws, whatever it is given. */
export function readFailure(error: unknown): RequestFailure {
  const metadata = property(error, '$metadata');
  const httpStatus = asNumber(property(metadata, 'httpStatusCode'));
  const code = codeOf(error);
  return {
    kind: kindOf(code, httpStatus),
    code,
    // A store that refuses a signature quotes what was signed, with the session's token.
    message: redactSecrets(asText(property(error, 'message')) ?? code),
    httpStatus,
    requestId: asText(property(metadata, 'requestId')),
    region: saysElsewhere(code, httpStatus) ? regionOf(error) : undefined,
  };
}

/** The answer to a HEAD request has no body, hence no code: a 400 that names a region means that. */
function saysElsewhere(code: string, httpStatus: number | undefined): boolean {
  if (httpStatus === 400 && NO_CODES.has(code)) return true;
  return httpStatus === 301 || ELSEWHERE_CODES.has(code);
}

/** Whether a code that the store gave for one key is no fault of the key. */
export function isTransientCode(code: string): boolean {
  return kindOfCode(code) !== undefined || /^5\d\d$/.test(code);
}

/** Whether a code that the store gave for one key asks for fewer requests. */
export function isThrottling(code: string): boolean {
  return kindOfCode(code) === 'throttled';
}

/** Whether a code says that the object is not there (any more). */
export function isGone(code: string): boolean {
  return GONE_CODES.has(code);
}

/** Whether a code says that the bucket is not there. */
export function isNoBucket(code: string): boolean {
  return NO_BUCKET_CODES.has(code);
}

/**
 * Whether a store refused the checksum of the request rather than its content. Stores older than
 * the SDK's CRC32 checksums want Content-MD5 and name what they miss in different ways.
 */
export function wantsContentMd5(failure: RequestFailure): boolean {
  if (['MissingContentMD5', 'InvalidDigest'].includes(failure.code)) return true;
  return (
    ['InvalidArgument', 'InvalidRequest', 'NotImplemented'].includes(failure.code) &&
    /md5|checksum|header/i.test(failure.message)
  );
}

/** Whether a store does not know what it was asked for. */
export function lacksOperation({ httpStatus }: Pick<RequestFailure, 'httpStatus'>): boolean {
  return httpStatus === 501 || httpStatus === 405;
}

/**
 * The store's code is the error's name. The system's codes come first, though: the SDK calls a
 * refused or reset connection a `TimeoutError`.
 */
function codeOf(error: unknown): string {
  const system = asText(property(error, 'code'));
  if (system !== undefined && /^E[A-Z_]+$/.test(system)) return system;
  return asText(property(error, 'name')) ?? 'Error';
}

function kindOf(code: string, httpStatus: number | undefined): ObjectStoreErrorKind {
  return kindOfCode(code) ?? KIND_OF_STATUS.get(httpStatus) ?? 'unavailable';
}

function kindOfCode(code: string): ObjectStoreErrorKind | undefined {
  if (CREDENTIAL_CODES.has(code)) return 'credentials';
  if (NO_BUCKET_CODES.has(code)) return 'no-bucket';
  if (THROTTLING_CODES.has(code)) return 'throttled';
  if (TIMEOUT_CODES.has(code)) return 'timeout';
  if (UNAVAILABLE_CODES.has(code)) return 'unavailable';
  return undefined;
}

/**
 * What a status means when its code is not known. Everything else is as good as no answer: also a
 * 404 that does not name the bucket and a 200 that cannot be read, since both are not this store's.
 */
const KIND_OF_STATUS: ReadonlyMap<number | undefined, ObjectStoreErrorKind> = new Map([
  [400, 'malformed'],
  [401, 'credentials'],
  [403, 'denied'],
  [408, 'timeout'],
  [409, 'denied'],
  [411, 'malformed'],
  [412, 'denied'],
  [413, 'malformed'],
  [422, 'malformed'],
  [423, 'denied'],
  [429, 'throttled'],
]);

function regionOf(error: unknown): string | undefined {
  const headers = property(property(error, '$response'), 'headers');
  const region =
    asText(property(headers, 'x-amz-bucket-region')) ?? asText(property(error, 'Region'));
  return region !== undefined && REGION.test(region) ? region : undefined;
}

function property(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  return Reflect.get(value, name);
}

function asText(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function asNumber(value: unknown): number | undefined {
  return typeof value === 'number' ? value : undefined;
}
