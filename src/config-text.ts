import { parseUrl } from './safe-text.ts';

/** What a value should have been, and what to do about one that is not. */
export interface ExpectedText {
  /** Continues "expected ...". */
  readonly expected: string;
  /** A whole sentence. */
  readonly remedy: string;
}

/** Why a text is not a value; whatever is given here says more than the setting's own words. */
export class InvalidText extends Error {
  override readonly name = 'InvalidText';
  readonly expected: string | undefined;
  readonly remedy: string | undefined;

  constructor(reason: Partial<ExpectedText> = {}) {
    super(reason.expected ?? 'invalid');
    this.expected = reason.expected;
    this.remedy = reason.remedy;
  }
}

/** @throws InvalidText when it is not a whole number between both ends, in digits. */
export function parseWholeNumber(
  text: string,
  limits: { readonly min: number; readonly max: number },
): number {
  const isShort = /^\d{1,15}$/u.test(text);
  const value = Number(text);
  if (!isShort || value < limits.min || value > limits.max) throw new InvalidText();
  return value;
}

const BOOLEANS: ReadonlyMap<string, boolean> = new Map([
  ['true', true],
  ['1', true],
  ['yes', true],
  ['false', false],
  ['0', false],
  ['no', false],
]);

/** @throws InvalidText for any word but true, false, yes, no, 1 and 0. */
export function parseBoolean(text: string): boolean {
  const value = BOOLEANS.get(text.toLowerCase());
  if (value === undefined) throw new InvalidText();
  return value;
}

export type LogLevel = 'debug' | 'info' | 'warning' | 'error';

const LOG_LEVELS: ReadonlyMap<string, LogLevel> = new Map([
  ['debug', 'debug'],
  ['info', 'info'],
  ['warning', 'warning'],
  ['warn', 'warning'],
  ['error', 'error'],
  // Python's highest level: whoever asks for it wants errors only, and there is nothing above.
  ['critical', 'error'],
  ['fatal', 'error'],
]);

/** Reads a level by the names that Python's and Node's loggers have for it. */
export function parseLogLevel(text: string): LogLevel {
  const level = LOG_LEVELS.get(text.toLowerCase());
  if (level === undefined) throw new InvalidText();
  return level;
}

/** Checks the address of a Postgres database and returns it unchanged. */
export function parsePostgresUrl(text: string): string {
  if (!/^postgres(ql)?:\/\//iu.test(text)) throw new InvalidText();
  const url = parseUrl(text);
  if (url === undefined || !isDecodable(url)) throw new InvalidText();
  if (url.hash !== '') {
    throw new InvalidText({ expected: 'an address without a bare # (written %23)' });
  }
  return text;
}

function isDecodable(url: URL): boolean {
  try {
    for (const part of [url.username, url.password, url.hostname, url.pathname]) {
      decodeURIComponent(part);
    }
    return true;
  } catch {
    return false;
  }
}

/** Checks the address of an S3 endpoint and returns it without a closing slash. */
export function parseEndpointUrl(text: string): string {
  const url = parseUrl(text);
  if (url === undefined || !/^https?:$/u.test(url.protocol)) throw new InvalidText();
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    throw new InvalidText({ expected: 'an address without credentials and without a query' });
  }
  return text.replace(/\/+$/u, '');
}

/** AWS's rules, widened by what older buckets and compatible stores have. */
const BUCKET_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/u;
const ACCESS_POINT = /^arn:[A-Za-z0-9-]+:s3[A-Za-z0-9-]*:[A-Za-z0-9:/._-]+$/u;

/** Whether a text can be the name of a bucket, or the ARN of an access point. */
export function isBucketName(text: string): boolean {
  return BUCKET_NAME.test(text) || ACCESS_POINT.test(text);
}

/** Reads a comma-separated list of buckets; what is named twice counts once. */
export function parseBuckets(text: string): readonly string[] {
  const names = text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  if (names.length === 0 || !names.every((name) => isBucketName(name))) throw new InvalidText();
  return [...new Set(names)];
}

/** @throws InvalidText when it cannot be the code of a region. */
export function parseRegion(text: string): string {
  if (!/^[A-Za-z0-9-]{1,64}$/u.test(text)) throw new InvalidText();
  return text;
}

/** @throws InvalidText for what could not be a host: a URL, a port, a blank. */
export function parseHost(text: string): string {
  const isHost = /^[A-Za-z0-9._-]{1,253}$/u.test(text) || /^[0-9A-Fa-f:.]{2,45}$/u.test(text);
  if (!isHost) throw new InvalidText();
  return text;
}
