import { redactSecrets } from '../../safe-text.ts';
import {
  type KeyFailure,
  ObjectStoreError,
  type ObjectStoreErrorDetails,
  type ObjectStoreErrorKind,
  type StoreFailure,
} from '../store-failure.ts';
import { causeOfDenial, wantedAddressing } from '../denials.ts';
import { isOfChecksum, kindOfKey, kindOfRequest } from './meanings.ts';

/*
What a failure means. Its code, its words and its status tell its family (see meanings.ts), and the family says
what it means for the request and for its keys. Nothing else interprets what a store says.
*/

type Meaning = Pick<StoreFailure, 'outcome' | 'concerns' | 'final'>;

/** What each family means for the whole request, and what a failure of it concerns when it is one key's. */
const FAMILIES: Readonly<
  Record<ObjectStoreErrorKind, Meaning & { readonly ofKey: StoreFailure['concerns'] }>
> = {
  throttled: { outcome: 'failed', concerns: 'bucket', ofKey: 'bucket', final: false },
  unavailable: { outcome: 'failed', concerns: 'store', ofKey: 'key', final: false },
  credentials: { outcome: 'failed', concerns: 'store', ofKey: 'store', final: false },
  denied: { outcome: 'refused', concerns: 'bucket', ofKey: 'key', final: false },
  'no-bucket': { outcome: 'refused', concerns: 'bucket', ofKey: 'bucket', final: false },
  malformed: { outcome: 'refused', concerns: 'key', ofKey: 'key', final: false },
  timeout: { outcome: 'failed', concerns: 'store', ofKey: 'key', final: false },
  aborted: { outcome: 'failed', concerns: 'store', ofKey: 'store', final: false },
};

/** A 403 may name the bucket's region too, but asking there would change nothing. */
const ELSEWHERE_CODES = new Set([
  'AuthorizationHeaderMalformed',
  'IllegalLocationConstraintException',
  'PermanentRedirect',
]);

/** What the SDK says where the store gave no code, or no words. */
const SAYS_NOTHING = new Set(['400', 'BadRequest', 'Unknown', 'UnknownError']);

/** Refusals that are each key's, unless all keys of a request get the same one. */
const BUCKET_REFUSALS = new Set(['AccessDenied', 'AccountProblem', 'AllAccessDisabled']);

const GONE_CODES = new Set(['NoSuchKey', 'NoSuchVersion']);

/** How S3 says that a bucket has no such setting. */
const ABSENT_CODES = new Set([
  'NoSuchLifecycleConfiguration',
  'ObjectLockConfigurationNotFoundError',
  'NoSuchObjectLockConfiguration',
]);

/** The errors of a connection that was never made: nothing was sent over it. */
const NEVER_CONNECTED =
  /^(?:EAI_AGAIN|ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|ERR_TLS_\w+|UNABLE_TO_\w+|\w*CERT\w*)$/u;
const CONNECT_TIMEOUT = /did not establish a connection/u;

const NO_WORDS = 'the store gave no reason';

const REGION = /^[a-z0-9-]{1,32}$/;

/** What a failed request says of itself. */
export interface RequestFailure extends Meaning {
  readonly kind: ObjectStoreErrorKind;
  readonly code: string;
  readonly reason: string;
  readonly httpStatus: number | undefined;
  readonly requestId: string | undefined;
  /** The region to ask instead, where the store says that the bucket is elsewhere. */
  readonly region: string | undefined;
  /** How to address the bucket instead, where the store says that it takes no other way. */
  readonly addressing: 'path' | 'virtual' | undefined;
}

/** Thrown in place of sending a request, so the store knows nothing of it. */
export class NeverSent extends Error {
  override readonly name = 'Timeout';
}

/** Says what a failed request means. Never throws, whatever it is given. */
export function classify(error: unknown): RequestFailure {
  const metadata = property(error, '$metadata');
  const httpStatus = asNumber(property(metadata, 'httpStatusCode'));
  const code = codeOf(error);
  const reason = wordsOf(error, code);
  const kind = kindOfRequest(code, reason, httpStatus);
  const { outcome, concerns, final } = FAMILIES[kind];
  const isKnown = hasAnswered(error, httpStatus) || wasNeverSent(error, kind);
  // Of something before the store, whose refusal must not be counted against a key.
  const isForeign = kind === 'malformed' && typeof property(error, 'Code') !== 'string';
  return {
    kind,
    code,
    reason,
    outcome: isForeign ? 'failed' : isKnown ? outcome : 'unknown',
    concerns,
    final,
    httpStatus,
    requestId: asText(property(metadata, 'requestId')),
    region: saysElsewhere(code, httpStatus) ? regionOf(error) : undefined,
    addressing: wantedAddressing(code, reason),
  };
}

/** The error of a request, with what its family means. */
export function storeError(
  details: Omit<ObjectStoreErrorDetails, keyof Meaning> & Partial<Meaning>,
): ObjectStoreError {
  const { outcome, concerns, final } = FAMILIES[details.kind];
  return new ObjectStoreError({ outcome, concerns, final, ...details });
}

/** There is no such bucket, as a reply says that has no body for a code. */
export function noSuchBucket(bucket: string): ObjectStoreError {
  return storeError({
    bucket,
    kind: 'no-bucket',
    code: 'NoSuchBucket',
    reason: 'the bucket does not exist',
  });
}

/** The failure of a key that a reply names with a code. */
export function failureOfCode(key: string, code: string, message: string | undefined): KeyFailure {
  const reason = words(message, code);
  const { outcome, ofKey, final } = FAMILIES[kindOfKey(code, reason)];
  return { key, code, reason, outcome, concerns: ofKey, final };
}

/** What a request that failed for one key means for that key. */
export function failureOfKey(key: string, error: ObjectStoreError): KeyFailure {
  const { code, reason, outcome, final } = error;
  return { key, code, reason, outcome, concerns: FAMILIES[error.kind].ofKey, final };
}

/** The failure of a key whose turn did not come, since the request of another ended the call. */
export function failureOfUntried(key: string, error: ObjectStoreError): KeyFailure {
  return { ...failureOfKey(key, error), outcome: 'failed', concerns: error.concerns };
}

/** A failure that is found out here; it concerns the key alone. */
export function localFailure(
  failure: Pick<KeyFailure, 'key' | 'code' | 'reason' | 'outcome'> & { readonly final?: boolean },
): KeyFailure {
  return { concerns: 'key', final: false, ...failure };
}

/**
 * The failures of a reply that deletes no key and refuses all of several for the same missing right:
 * that is how S3 says that the right is missing in the whole bucket.
 */
export function withBucketRefusal(failures: readonly KeyFailure[]): readonly KeyFailure[] {
  const [first, ...others] = failures;
  if (first === undefined || others.length === 0) return failures;
  const isOfBucket =
    BUCKET_REFUSALS.has(first.code) && others.every(({ code }) => code === first.code);
  return isOfBucket ? failures.map((it) => ({ ...it, concerns: 'bucket' as const })) : failures;
}

/** The family of what the store said of one key. */
export function familyOfKey({
  code,
  reason,
}: Pick<StoreFailure, 'code' | 'reason'>): ObjectStoreErrorKind {
  return kindOfKey(code, reason);
}

/** Whether a denial says that a right is missing, and nothing that says otherwise. */
export function isMissingRight({ code, reason }: Pick<StoreFailure, 'code' | 'reason'>): boolean {
  return code === 'AccessDenied' && causeOfDenial(code, reason) === undefined;
}

/** Whether a request was refused for what it holds: one of its keys, or too many of them. */
export function isOfContent(error: unknown): error is ObjectStoreError {
  return error instanceof ObjectStoreError && error.kind === 'malformed' && !lacksOperation(error);
}

/** Whether the store itself failed at a request, and not what stands before it. */
export function isOwnFault({ kind, outcome, code, httpStatus }: ObjectStoreError): boolean {
  return (
    kind === 'unavailable' &&
    outcome === 'failed' &&
    httpStatus !== undefined &&
    code.startsWith('Internal')
  );
}

/**
 * Whether a request may have been too much work for the store: it gave no answer, or what stands before it did not
 * wait for one.
 */
export function isTooSlow(error: unknown): boolean {
  return (
    error instanceof ObjectStoreError && error.kind === 'timeout' && error.outcome !== 'failed'
  );
}

/**
 * The failure of a key of which a version was asked for: where the store holds another one, it is spared. Without a
 * condition, nothing can have failed one.
 */
export function withCondition(
  failure: KeyFailure,
  etags: ReadonlyMap<string, string> | undefined,
): KeyFailure {
  const etag = etags?.get(failure.key);
  if (etag === undefined || failure.code !== 'PreconditionFailed') return failure;
  const reason = `object changed: the store holds another version than the one with the etag ${etag}`;
  return { ...failure, reason, outcome: 'changed', concerns: 'key', final: false };
}

/** Nothing of a bucket is deleted whose store refuses to be told which version may go. */
export function conditionRefused(bucket: string, said: string): ObjectStoreError {
  return storeError({
    bucket,
    kind: 'unavailable',
    code: 'ConditionRefused',
    reason:
      `the store refuses to delete an object by its etag (${said}), so nothing is deleted here. ` +
      `Where any version may go: retention bucket set ${bucket} --conditional ignore`,
    outcome: 'failed',
    concerns: 'bucket',
  });
}

/** Whether a code says that the object is not there (any more). */
export function isGone(code: string): boolean {
  return GONE_CODES.has(code);
}

/** Whether a bucket has no such setting; a store that does not know the request has none either. */
export function isAbsentSetting(error: ObjectStoreError): boolean {
  return ABSENT_CODES.has(error.code) || lacksOperation(error);
}

/** Whether the store's words say that a version is locked. */
export function saysLocked({ code, reason }: Pick<StoreFailure, 'code' | 'reason'>): boolean {
  return causeOfDenial(code, reason) === 'lock';
}

/**
 * Whether a store refused the checksum of the request rather than its content. Stores older than
 * the SDK's CRC32 checksums want Content-MD5 and name what they miss in different ways.
 */
export function refusesChecksum({ code, reason }: Pick<StoreFailure, 'code' | 'reason'>): boolean {
  return isOfChecksum(code, reason);
}

/** Whether a store does not know what it was asked for. (Google Cloud Storage: NotImplemented with a 400) */
export function lacksOperation({
  httpStatus,
  code,
}: Pick<RequestFailure, 'httpStatus' | 'code'>): boolean {
  return (
    httpStatus === 501 || httpStatus === 405 || /^(?:NotImplemented|MethodNotAllowed)$/u.test(code)
  );
}

/**
 * Whether the store itself has spoken. A 5xx without a code of the store's is a gateway's, which may
 * have given up on a store that has not.
 */
function hasAnswered(error: unknown, httpStatus: number | undefined): boolean {
  if (httpStatus === undefined) return false;
  return (httpStatus >= 300 && httpStatus < 500) || typeof property(error, 'Code') === 'string';
}

function wasNeverSent(error: unknown, kind: ObjectStoreErrorKind): boolean {
  if (error instanceof NeverSent || kind === 'credentials' || kind === 'no-bucket') return true;
  const code = property(error, 'code');
  if (typeof code === 'string') return NEVER_CONNECTED.test(code);
  return error instanceof Error && CONNECT_TIMEOUT.test(error.message);
}

/** The answer to a HEAD request has no body, hence no code: a 400 that names a region means that. */
function saysElsewhere(code: string, httpStatus: number | undefined): boolean {
  if (httpStatus === 400 && SAYS_NOTHING.has(code)) return true;
  return httpStatus === 301 || ELSEWHERE_CODES.has(code);
}

/**
 * The store's code is the error's name. The system's codes come first, though: the SDK calls a
 * refused or reset connection a `TimeoutError`.
 */
function codeOf(error: unknown): string {
  const system = asText(property(error, 'code'));
  if (system !== undefined && /^E[A-Z_]+$/u.test(system)) return system;
  return asText(property(error, 'name')) ?? 'Error';
}

/** Node's own errors have their code amid their words, and the same facts beside them. */
function wordsOf(error: unknown, code: string): string {
  const syscall = asText(property(error, 'syscall'));
  if (syscall === undefined) return words(asText(property(error, 'message')), code);
  const address = asText(property(error, 'address')) ?? asText(property(error, 'hostname'));
  const port = asNumber(property(error, 'port'));
  const place = port === undefined ? address : `${address}:${port}`;
  return address === undefined ? `${syscall} failed` : `${syscall} failed, ${place}`;
}

/** The store's words. When it refuses a signature, it quotes what was signed, with the session's token. */
export function words(message: string | undefined, code: string): string {
  if (message === undefined || message === '' || message === code) return NO_WORDS;
  return SAYS_NOTHING.has(message) ? NO_WORDS : redactSecrets(message);
}

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
