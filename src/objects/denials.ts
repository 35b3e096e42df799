/** What stands behind a denial, other than a right that is missing. */
export type DenialCause = 'mfa' | 'explicit deny' | 'lock' | 'addressing';

const MFA = /\bmfa\b|multi-?factor/iu;
const EXPLICIT_DENY = /explicit(?:ly)? den(?:y|ied)/iu;
/** Some stores say it in their refusal, which is all there is to go by without the right to read. */
const LOCK = /object[ -]?lock|retention|legal[ -]?hold|\bWORM\b|immutab/iu;

/** Why a request or a key was denied, where the store says that it is no missing right. */
export function causeOfDenial(code: string, reason: string): DenialCause | undefined {
  if (wantedAddressing(code, reason) !== undefined) return 'addressing';
  if (MFA.test(reason)) return 'mfa';
  if (LOCK.test(reason) || /ObjectLock|WORM|Immutab|Retention/iu.test(code)) return 'lock';
  return EXPLICIT_DENY.test(reason) ? 'explicit deny' : undefined;
}

/** What to do about a denial for which no right is missing. */
export const DENIAL_REMEDIES: Readonly<Record<DenialCause, string>> = {
  mfa: 'The bucket has MFA delete, which no service can satisfy: its owner switches it off, or keeps the results elsewhere.',
  'explicit deny':
    'A policy denies it in so many words, which no grant outweighs: take this statement out of the policy of the bucket or of the organisation.',
  lock: 'Object lock, a retention or a legal hold keeps the object: wait for its date, or have it lifted.',
  addressing:
    'Set how the bucket is addressed: retention bucket set BUCKET --addressing virtual (or path).',
};

/**
 * How a store wants a bucket to be addressed, where it refuses the other way. (Alibaba Cloud OSS:
 * SecondLevelDomainForbidden)
 */
export function wantedAddressing(code: string, reason: string): 'path' | 'virtual' | undefined {
  if (
    /SecondLevelDomain|VirtualHost\w*(?:Required|Only)|PathStyle\w*(?:Forbidden|NotAllowed|NotSupported|Unsupported|Disabled)/iu.test(
      code,
    )
  ) {
    return 'virtual';
  }
  if (
    /PathStyle\w*(?:Required|Only)|VirtualHost\w*(?:Forbidden|NotAllowed|NotSupported|Unsupported|Disabled)/iu.test(
      code,
    )
  ) {
    return 'path';
  }
  const refused = String.raw`.{0,30}(?:not (?:supported|allowed|enabled)|forbidden|disabled|unsupported)`;
  if (new RegExp(`virtual[- ]?host${refused}|use path[- ]style`, 'iu').test(reason)) return 'path';
  if (new RegExp(`use (?:the )?virtual[- ]?host|path[- ]style${refused}`, 'iu').test(reason)) {
    return 'virtual';
  }
  return undefined;
}
