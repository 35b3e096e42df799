import type { KeyFailure, LocalFailureCode } from '../store-failure.ts';
import { localFailure } from './failures.ts';

/** S3 counts a key's length in bytes of UTF-8. */
const MAX_KEY_BYTES = 1_024;

/**
 * What does not survive XML unchanged in every store and parser: control characters (most are no
 * XML 1.0 `Char` at all; CR, LF, NEL and LS are subject to line-end normalisation, and a text of
 * white space with a line end in it is dropped as indentation), U+FFFE and U+FFFF (no `Char`), and
 * white space at either end (trimmed by some).
 */
// oxlint-disable-next-line no-control-regex -- control characters are what it looks for
const NOT_CARRIED_BY_XML = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\ufffe\uffff]|^\s|\s$/u;

/** A UTF-16 surrogate without its other half: UTF-8 has no form for it, so no request has. */
const LONE_SURROGATE = /\p{Surrogate}/u;

/** The keys of one call, by how they have to be sent. */
export interface SortedKeys {
  /** Each key once. */
  readonly distinct: ReadonlySet<string>;
  /** XML carries them: they share one DeleteObjects request. */
  readonly together: string[];
  /** To be deleted one by one. */
  readonly alone: string[];
  /** Never sent. */
  readonly refused: KeyFailure[];
}

/** Sorts keys by how they have to be sent; a key given twice appears once. */
export function sortKeys(keys: readonly string[]): SortedKeys {
  const distinct = new Set(keys);
  const sorted: SortedKeys = { distinct, together: [], alone: [], refused: [] };
  for (const key of distinct) {
    const refusal = refusalOf(key);
    if (refusal) sorted.refused.push(refusal);
    else if (NOT_CARRIED_BY_XML.test(key)) sorted.alone.push(key);
    else sorted.together.push(key);
  }
  return sorted;
}

function refusalOf(key: string): KeyFailure | undefined {
  // An empty key in a path would be DeleteBucket.
  if (key === '') return refuse(key, 'EmptyKey', 'the key is empty');
  if (LONE_SURROGATE.test(key)) {
    return refuse(
      key,
      'UnencodableKey',
      'the key holds half of a surrogate pair, for which UTF-8 has no form',
    );
  }
  // A UTF-16 unit takes at most three bytes, so most keys need no counting.
  const bytes = key.length * 3 > MAX_KEY_BYTES ? Buffer.byteLength(key) : 0;
  if (bytes > MAX_KEY_BYTES) {
    return refuse(
      key,
      'KeyTooLongError',
      `the key takes ${bytes} bytes of UTF-8, and S3 allows ${MAX_KEY_BYTES}`,
    );
  }
  return undefined;
}

function refuse(key: string, code: LocalFailureCode, reason: string): KeyFailure {
  return localFailure({ key, code, reason, outcome: 'refused', final: true });
}
