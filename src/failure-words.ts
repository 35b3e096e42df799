/**
 * A failure in words: its code, then the message without what the code has said already. Stores and
 * systems repeat the code in their message ("connect ECONNREFUSED 127.0.0.1:9", "Access Denied").
 */
export function sayFailure(code: string, message: string | null | undefined): string {
  const rest = messageBeside(code, message);
  return rest === '' ? code : `${code} ${rest}`;
}

/** A message that is shown beside its code; empty where it says no more than that. */
export function messageBeside(code: string, message: string | null | undefined): string {
  const words = message ?? '';
  const rest = /^\w+$/u.test(code) ? words.replaceAll(asWord(code), ' ') : words;
  const tidy = rest
    .replaceAll(/\s+/gu, ' ')
    .replace(/^[\s:,;.-]+/u, '')
    .trim();
  return plain(tidy) === plain(code) ? '' : tidy;
}

function asWord(code: string): RegExp {
  return new RegExp(String.raw`(?<!\w)${code}(?!\w)`, 'gu');
}

function plain(text: string): string {
  return text.replaceAll(/[^A-Za-z0-9]/gu, '').toLowerCase();
}
