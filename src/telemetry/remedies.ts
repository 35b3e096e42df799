import { causeOfDenial, DENIAL_REMEDIES } from '../objects/denials.ts';
import type { Trouble } from '../store/overview.ts';

/** What to do about failed and dead results: in words, and the command that revives them. */
export interface Remedy {
  readonly words: string;
  readonly command: string;
}

const WORDS: Readonly<Record<string, string>> = {
  AccessDenied: 'The right to delete is missing; retention doctor names it. Grant it, then:',
  AllAccessDisabled: 'The store has closed the bucket to everybody. Have it opened, then:',
  BucketNotAllowed: 'Add the bucket to S3_RESULT_BUCKET and restart the listeners, then:',
  EmptyKey: 'The row names no object. Fix the row, then:',
  KeyTooLongError: 'No store takes a key this long. Fix the row, then:',
  NoSuchBucket: 'Make the bucket, or fix the rows that name it, then:',
  StoreCannot: 'The store fails at these keys, and at no others. Have its operator look, then:',
  ObjectLocked: 'Object lock keeps a version. Once its date has passed:',
  UnencodableKey: 'The key cannot be sent as it is. Fix the row, then:',
};

/** What to do about results that failed with one code in one bucket. */
export function remedyFor({ bucket, code, state, error }: Trouble): Remedy {
  const cause = causeOfDenial(code, error ?? '');
  const otherwise =
    state === 'dead' ? 'Fix the cause, then:' : 'It is tried again by itself; to hurry it:';
  const filter = code === 'unknown' ? '' : ` --code ${quoteForShell(code)}`;
  return {
    words: cause === undefined ? (WORDS[code] ?? otherwise) : `${DENIAL_REMEDIES[cause]} Then:`,
    command: `retention retry --bucket ${quoteForShell(bucket)}${filter}`,
  };
}

/** A word that a shell takes as it is. */
export function quoteForShell(word: string): string {
  if (/^[\w.:@%+/-]+$/u.test(word)) return word;
  return `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
