import { codeOf, describeError } from './errors.ts';
import { escapeControls, MASK, redactAndShorten, redactSecrets } from './safe-text.ts';

/** What a line says beside its message. */
export type LogFields = Readonly<Record<string, unknown>>;

/** A value that JSON can carry as it is. */
export type PlainValue =
  | string
  | number
  | boolean
  | null
  | readonly PlainValue[]
  | { readonly [key: string]: PlainValue };

const MAX_DEPTH = 6;
const MAX_ITEMS = 100;
/** The most characters of one text in a line. */
export const MAX_TEXT_CHARACTERS = 4_000;
const SECRET_KEY =
  /^(?:password|passwd|secret|secret_?access_?key|(?:aws_)?session_?token|aws_secret_access_key|token|authorization)$/iu;

/**
 * Makes anything fit for a log: errors keep code, message, cause and stack, secrets are masked,
 * long values are cut, and what JSON cannot carry becomes text. Calls nothing but `toString`.
 */
export function toPlainValue(value: unknown, depth = 0): PlainValue | undefined {
  if (typeof value === 'string') return redactAndShorten(value, MAX_TEXT_CHARACTERS);
  if (typeof value === 'boolean' || value === null) return value;
  if (typeof value === 'number') return Number.isFinite(value) ? value : String(value);
  if (typeof value === 'bigint' || typeof value === 'symbol') return String(value);
  if (typeof value !== 'object') return undefined;
  if (depth >= MAX_DEPTH) return '[...]';
  if (value instanceof Date) return dateText(value);
  if (value instanceof URL) return redactSecrets(value.href);
  if (value instanceof Error) return plainError(value, depth);
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (value instanceof Map) return plainObject([...value.entries()], depth);
  if (Array.isArray(value) || value instanceof Set) return plainArray([...value], depth);
  return plainObject(Object.entries(value), depth);
}

function dateText(date: Date): string {
  return Number.isNaN(date.getTime()) ? 'Invalid Date' : date.toISOString();
}

function plainError(error: Error, depth: number): PlainValue {
  return plainObject(
    [
      ['name', error.name],
      ['code', codeOf(error)],
      ['message', error.message || describeError(error)],
      ['cause', error.cause],
      ['stack', error.stack],
    ],
    depth,
  );
}

function plainArray(items: readonly unknown[], depth: number): PlainValue {
  const plain = items.slice(0, MAX_ITEMS).map((item) => toPlainValue(item, depth + 1) ?? null);
  return items.length > MAX_ITEMS ? [...plain, `... (${items.length} items)`] : plain;
}

function plainObject(
  entries: readonly (readonly [key: unknown, value: unknown])[],
  depth: number,
): PlainValue {
  const plain: Record<string, PlainValue> = {};
  for (const [name, value] of entries.slice(0, MAX_ITEMS)) {
    const key = String(name);
    const safe = SECRET_KEY.test(key) ? MASK : toPlainValue(value, depth + 1);
    if (safe !== undefined && key !== '__proto__') plain[key] = safe;
  }
  return plain;
}

/** The fields as ` key=value` texts for one line; a value with blanks or quotes is in quotes. */
export function fieldsAsText(fields: LogFields): string {
  let text = '';
  for (const [key, value] of Object.entries(fields)) {
    const shown = valueAsText(value, key);
    if (shown !== undefined) text += ` ${key.replaceAll(/[^\w.-]/gu, '_')}=${shown}`;
  }
  return text;
}

function valueAsText(value: unknown, key: string): string | undefined {
  if (SECRET_KEY.test(key)) return MASK;
  const plain = value instanceof Error ? describeError(value) : toPlainValue(value);
  if (plain === undefined) return undefined;
  const isBare = typeof plain === 'string' && /^[^\s"=]+$/u.test(plain);
  return escapeControls(isBare ? plain : JSON.stringify(plain));
}
