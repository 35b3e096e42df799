import { MASK, redactSecrets } from './safe-text.ts';

const MOST_CHARACTERS = 40;

/** What begins like a key, a token or a private key of services that everybody uses. */
const TOKEN =
  /^(?:AKIA|ASIA|sk[-_]|pk[-_]|rk[-_]|gh[pousr]_|github_pat_|glpat-|xox[abprs]-|eyJ|AIza|-----BEGIN)/u;

/** A long text of letters and digits alone, in both cases: no path, no word and no id that people read. */
const RANDOM = /^(?=.*[a-z])(?=.*[A-Z])(?=.*\d)[\w+=-]{24,}$/u;

/** A value of an application's column as it may be shown: cut short, with what looks like a secret masked. */
export function cutSample(text: string): string {
  if (TOKEN.test(text) || RANDOM.test(text)) return MASK;
  // What follows the question mark of an address is often a signature.
  const safe = redactSecrets(text).replace(/(:\/\/[^?]*)\?.*$/su, `$1?${MASK}`);
  const characters = Array.from(safe);
  return characters.length <= MOST_CHARACTERS
    ? safe
    : `${characters.slice(0, MOST_CHARACTERS - 3).join('')}...`;
}
