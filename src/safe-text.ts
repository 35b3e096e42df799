/**
 * Everything that ends a line, moves a terminal's cursor or changes the direction of reading: C0,
 * DEL, C1, the line and paragraph separators, and the bidirectional marks. (Unicode TR 36)
 */
const UNPRINTABLE =
  // oxlint-disable-next-line no-control-regex -- these characters are what is looked for
  /[\u0000-\u001F\u007F-\u009F\u061C\u200E\u200F\u2028\u2029\u202A-\u202E\u2066-\u2069\uFEFF]/gu;

const SHORT_ESCAPES: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** The text in place of a secret. */
export const MASK = '***';

/**
 * Writes control and direction characters visibly (`\n`, `\u001b`), so that a text that came from
 * outside stays on its line and says what it says.
 */
export function escapeControls(text: string): string {
  return text.replaceAll(
    UNPRINTABLE,
    (character) =>
      SHORT_ESCAPES[character] ??
      `\\u${character.charCodeAt(0).toString(16).padStart(4, '0').toLowerCase()}`,
  );
}

/** Cuts a text after `limit` characters and says so. */
export function shorten(text: string, limit: number): string {
  if (text.length <= limit) return text;
  return `${text.slice(0, limit)}... (${text.length} characters)`;
}

const SECRET_NAMES =
  'password|passwd|pgpassword|sslpassword|secret|secretaccesskey|secret_access_key|' +
  'aws_secret_access_key|sessiontoken|session_token|aws_session_token|x-amz-security-token|' +
  'x-amz-signature|x-amz-credential|signature|credential|access_token';

const REDACTIONS: readonly (readonly [pattern: RegExp, replacement: string])[] = [
  // scheme://user:password@host. Greedy up to the last @ of the word: a raw @ in a password is
  // common, and masking too much is the safe mistake. Bounded, since every "://" is a new start; a
  // token that stands for a password can be 2,000 characters long.
  [/(:\/\/[^\s:@/]{0,300}):[^\s]{0,4000}@/gu, `$1:${MASK}@`],
  // "password": "...", also inside JSON that was put into a string.
  [
    new RegExp(String.raw`(\\?["'](?:${SECRET_NAMES})\\?["']\s*:\s*\\?["'])[^"'\\]*`, 'giu'),
    `$1${MASK}`,
  ],
  // password=..., also quoted as in a libpq connection string, and in a URL's query.
  [
    new RegExp(
      String.raw`(?<![\w-])((?:${SECRET_NAMES})\s*=\s*)(?:'(?:[^'\\]|\\.)*'|"[^"]*"|[^\s&,;"']+)`,
      'giu',
    ),
    `$1${MASK}`,
  ],
];

/** Masks the passwords of URLs and connection strings, and AWS secrets, wherever they stand. */
export function redactSecrets(text: string): string {
  let safe = text;
  for (const [pattern, replacement] of REDACTIONS) safe = safe.replaceAll(pattern, replacement);
  return safe;
}

/**
 * Masks the secrets of a text that may be of any length, and cuts it after `limit` characters. Cut
 * generously before, so that the patterns stay quick, and to size only after.
 */
export function redactAndShorten(text: string, limit: number): string {
  const safe = redactSecrets(text.slice(0, limit * 4));
  if (text.length <= limit * 4) return shorten(safe, limit);
  return `${safe.slice(0, limit)}... (${text.length} characters)`;
}

/**
 * A URL for people: without password and without query. A text that is no URL may be anything,
 * also a password pasted in the wrong place, so nothing of it is shown but its scheme and length.
 */
export function maskUrl(text: string): string {
  const scheme = /^[a-z][a-z0-9+.-]*:\/\//iu.exec(text)?.[0];
  const url = parseUrl(text);
  // `user:password@host` is a URL as well, of the scheme "user".
  if (url === undefined || scheme === undefined || hasStrayAt(url)) {
    return scheme === undefined
      ? `a text of ${text.length} characters that is no URL`
      : `${scheme.toLowerCase()}... (${text.length} characters)`;
  }
  if (url.password !== '') url.password = MASK;
  url.hash = '';
  const query = url.search === '' ? '' : '?...';
  url.search = '';
  return escapeControls(url.href + query);
}

/** A URL of which path, query and user are secrets: its scheme and host. */
export function maskPath(text: string): string {
  const url = /^[a-z][a-z0-9+.-]*:\/\//iu.test(text) ? parseUrl(text) : undefined;
  if (url === undefined || hasStrayAt(url)) return maskUrl(text);
  return escapeControls(`${url.protocol}//${url.host}/...`);
}

/**
 * Whether there is an @ behind the host. Then a /, ? or # in a password has probably ended the host too early, and
 * what looks like host and database is a part of that password.
 */
export function hasStrayAt({ pathname, search, hash }: URL): boolean {
  return [pathname, search, hash].some((part) => part.includes('@'));
}

/** Parses a URL, also with a user but no host, as in `postgres://me@/db?host=/socket/folder`. */
export function parseUrl(text: string): URL | undefined {
  for (const candidate of [text, text.replace('@/', '@localhost/')]) {
    if (URL.canParse(candidate)) return new URL(candidate);
  }
  return undefined;
}
