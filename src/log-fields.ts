import { codeOf, describeError } from './errors.ts';
import { escapeControls, MASK, redactAndShorten, redactSecrets, shorten } from './safe-text.ts';

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
const MAX_KEY_CHARACTERS = 100;

/** How much of a value a line takes. */
export interface Limits {
  /** The most characters of one text. */
  readonly characters: number;
  /** The most items of one list. */
  readonly items: number;
  /** Whether errors bring their stacks. Unforeseen ones always do. */
  readonly stacks: boolean;
}

/** What a line has room for. */
export const WIDE: Limits = { characters: 4_000, items: 100, stacks: false };
/** For a line that would be too long otherwise. */
export const NARROW: Limits = { characters: 200, items: 5, stacks: false };

const SECRET_KEY =
  /^(?:password|passwd|secret|secret_?access_?key|(?:aws_)?session_?token|aws_secret_access_key|token|authorization)$/iu;

/**
 * Makes anything fit for a log: errors keep code, message and cause, secrets are masked, long values are
 * cut, and what JSON cannot carry becomes text. Calls nothing but `toString`.
 */
export function toPlainValue(value: unknown, limits = WIDE, depth = 0): PlainValue | undefined {
  if (typeof value === 'string') return redactAndShorten(value, limits.characters);
  if (typeof value === 'boolean' || value === null) return value;
  if (typeof value === 'number') return Number.isFinite(value) ? value : String(value);
  if (typeof value === 'bigint' || typeof value === 'symbol') return String(value);
  if (typeof value !== 'object') return undefined;
  if (depth >= MAX_DEPTH) return '[...]';
  if (value instanceof Date) return dateText(value);
  if (value instanceof URL) return redactSecrets(value.href);
  if (value instanceof Error) return plainError(value, limits, depth);
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (value instanceof Map) return plainObject([...value.entries()], limits, depth);
  if (Array.isArray(value) || value instanceof Set) return plainArray([...value], limits, depth);
  return plainObject(Object.entries(value), limits, depth);
}

function dateText(date: Date): string {
  return Number.isNaN(date.getTime()) ? 'Invalid Date' : date.toISOString();
}

function plainError(error: Error, limits: Limits, depth: number): PlainValue {
  const message = error.message || describeError(error);
  const { cause } = error;
  // A wrapper often says what its cause says.
  const isRetold =
    cause instanceof Error && cause.message !== '' && message.includes(cause.message);
  return plainObject(
    [
      ['name', error.name],
      ['code', codeOf(error)],
      ['message', message],
      ['cause', isRetold && !limits.stacks ? undefined : cause],
      ['stack', stackOf(error, limits)],
    ],
    limits,
    depth,
  );
}

/** What failed on purpose says what it has to say without a stack; a mistake of this program does not. */
function stackOf(error: Error, limits: Limits): string | undefined {
  return limits.stacks || isUnforeseen(error) ? error.stack : undefined;
}

function isUnforeseen(error: Error): boolean {
  return codeOf(error) === undefined;
}

/** An error beside a message that has its words already. */
export function plainRest(error: Error, limits: Limits): PlainValue {
  return plainObject(
    [
      ['name', error.name],
      ['code', codeOf(error)],
      ['cause', limits.stacks ? error.cause : undefined],
      ['stack', stackOf(error, limits)],
    ],
    limits,
    0,
  );
}

function plainArray(items: readonly unknown[], limits: Limits, depth: number): PlainValue {
  const plain = items
    .slice(0, limits.items)
    .map((item) => toPlainValue(item, limits, depth + 1) ?? null);
  return items.length > limits.items ? [...plain, `... (${items.length} items)`] : plain;
}

function plainObject(
  entries: readonly (readonly [key: unknown, value: unknown])[],
  limits: Limits,
  depth: number,
): PlainValue {
  const plain: Record<string, PlainValue> = {};
  for (const [name, value] of entries.slice(0, limits.items)) {
    const key = shorten(String(name), MAX_KEY_CHARACTERS);
    const safe = SECRET_KEY.test(key) ? MASK : toPlainValue(value, limits, depth + 1);
    if (safe !== undefined && key !== '__proto__') plain[key] = safe;
  }
  return plain;
}

/** The fields as ` key=value` texts for one line; a value with blanks or quotes is in quotes. */
export function fieldsAsText(fields: LogFields, limits = WIDE): string {
  let text = '';
  for (const [name, value] of Object.entries(fields).slice(0, limits.items)) {
    const shown = valueAsText(value, name, limits);
    const key = shorten(name, MAX_KEY_CHARACTERS).replaceAll(/[^\w.-]/gu, '_');
    if (shown !== undefined) text += ` ${key}=${shown}`;
  }
  return text;
}

function valueAsText(value: unknown, key: string, limits: Limits): string | undefined {
  if (SECRET_KEY.test(key)) return MASK;
  const plain = value instanceof Error ? describeError(value) : toPlainValue(value, limits);
  if (plain === undefined) return undefined;
  const isBare = typeof plain === 'string' && /^[^\s"=]+$/u.test(plain);
  return escapeControls(isBare ? plain : JSON.stringify(plain));
}
