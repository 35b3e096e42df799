import type { ObjectStoreErrorKind } from '../store-failure.ts';

/*
The one table of what codes and words mean. Stores have codes of their own, so that most rows tell a family of
codes by its parts, and words speak where a code says nothing. docs/stores.md names the stores.

Sources: Amazon S3, "Error responses" (docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html); the retryable
and throttling codes of the AWS SDK (@smithy/core/retry); MinIO, cmd/api-errors.go; Ceph, src/rgw/rgw_common.cc;
Google Cloud Storage, XML API status codes; Alibaba Cloud OSS, error codes.
*/

interface Row {
  readonly kind: ObjectStoreErrorKind;
  /** Of a code, whatever the status and the words. */
  readonly code: RegExp;
  /** Of the words, where the code is in no row or says nothing by itself. */
  readonly words?: RegExp;
}

/** The first row that fits decides. */
const ROWS: readonly Row[] = [
  {
    kind: 'no-bucket',
    code: /^(?:InvalidBucketName|NoSuchBucket(?:Exception)?|BucketNotFound)$/u,
  },
  {
    kind: 'throttled',
    code: /SlowDown|Throttl|^TooManyRequests|^RequestLimitExceeded|Bandwidth\w*Exceeded|(?:Qps|Rate|Concurrency)\w*(?:Exceeded|Limit)|ServerBusy|ReduceYourRequestRate/iu,
    words:
      /reduce your (?:request )?rate|slow ?down|too many requests|throttl|rate (?:limit|exceeded)|(?:qps|request rate)\b.{0,40}exceed/iu,
  },
  {
    kind: 'timeout',
    code: /^(?:ETIMEDOUT|ESOCKETTIMEDOUT|(?:Request)?Time(?:d)?out\w*|RequestTimeoutException|TimeoutError)$/iu,
  },
  {
    kind: 'credentials',
    code: /^(?:AuthFailure|AuthorizationHeaderMalformed|CredentialsProviderError|(?:Expired|Invalid)(?:Security|Session)?Token\w*|InvalidAccessKey\w*|InvalidClientTokenId|InvalidSecurity\w*|\w*AccessKey(?:Id)?(?:Expired|Disabled|NotFound|Inactive)|ProviderError|RequestExpired|RequestTimeTooSkewed|SecurityToken\w*|SignatureDoesNotMatch|InvalidSignature\w*|TokenProviderError|TokenRefreshRequired|UnrecognizedClientException)$/u,
  },
  {
    // The store's or the wire's trouble, although some of these come with a 4xx.
    kind: 'unavailable',
    code: /^5\d\d$|^Internal(?:Server)?(?:Error|Failure|Exception)$|Unavailable|^ServiceFailure$|^(?:BackendError|BadDigest|ConditionalRequestConflict|IncompleteBody|OperationAborted|XAmzContentSHA256Mismatch)$|Quorum|NotReady|TryAgain|NotInitialized/u,
    words:
      /internal (?:server )?error|please (?:try|retry)|try (?:again|later)|temporarily|not ready|server busy/iu,
  },
  {
    kind: 'denied',
    code: /Denied|Forbidden|NotPermitted|NotAllowed|AllAccessDisabled|AccountProblem|NotSignedUp|InvalidObjectState|ObjectLock|Immutable|Retention|LegalHold|^WORM|InvalidPayer|UnauthorizedAccess/iu,
  },
  {
    kind: 'malformed',
    code: /^(?:Malformed\w*|InvalidArgument|InvalidRequest|InvalidDigest|InvalidURI|InvalidKey\w*|InvalidObjectName|Missing\w+|Unexpected\w*|UserKeyMustBeSpecified|XMinioInvalid\w*)$|Too(?:Long|Large|Big|Many(?:Keys|Objects))|(?:Size|Length)Exceeded/u,
  },
];

/** Codes that are given for so many reasons that the words say more. */
const VAGUE = new Set(['AccessDenied', 'Forbidden', 'InvalidArgument', 'InvalidRequest']);

/**
 * What a status means when neither its code nor its words are known. Everything else is as good as no answer:
 * also a 404 that does not name the bucket and a 200 that cannot be read, since both are not this store's.
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
  [414, 'malformed'],
  [422, 'malformed'],
  [423, 'denied'],
  [429, 'throttled'],
  [504, 'timeout'],
  [524, 'timeout'],
]);

/** What a whole request's failure is, by its code, its words and its status, in this order. */
export function kindOfRequest(
  code: string,
  reason: string,
  status: number | undefined,
): ObjectStoreErrorKind {
  if (status === 429) return 'throttled';
  const known = kindOf(code, reason);
  return known ?? KIND_OF_STATUS.get(status) ?? 'unavailable';
}

/** What a key's failure within a reply is. An unknown code is no refusal: the key is tried again. */
export function kindOfKey(code: string, reason: string): ObjectStoreErrorKind {
  return kindOf(code, reason) ?? 'unavailable';
}

function kindOf(code: string, reason: string): ObjectStoreErrorKind | undefined {
  const byCode = ROWS.find((row) => row.code.test(code))?.kind;
  if (byCode !== undefined && !VAGUE.has(code)) return byCode;
  return ROWS.find((row) => row.words?.test(reason))?.kind ?? byCode;
}

/** Whether a refusal is about the checksum of a request and not about what it holds. */
export function isOfChecksum(code: string, reason: string): boolean {
  if (
    /^(?:MissingContentMD5|InvalidDigest|BadDigest|XAmzContentSHA256Mismatch|\w*Checksum\w*|ContentMD5\w*)$/iu.test(
      code,
    )
  ) {
    return true;
  }
  return (
    /^(?:InvalidArgument|InvalidRequest|NotImplemented|BadRequest|400|501|MissingRequiredHeader\w*|Unknown\w*|InvalidHeader\w*|UnsupportedHeader\w*)$/u.test(
      code,
    ) && /content-?\s?md5|checksum|digest|\bcrc\s?-?(?:32|64)|\bheader/iu.test(reason)
  );
}
