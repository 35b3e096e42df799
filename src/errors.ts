import { showCount } from './numbers.ts';
import { escapeControls, redactAndShorten } from './safe-text.ts';
import { isPassingFault } from './passing-faults.ts';
import { SOCKET_CODES, SQLSTATE } from './sqlstate.ts';

export { redactSecrets } from './safe-text.ts';
export { SQLSTATE } from './sqlstate.ts';

/** What the process exits with. */
export const EXIT_CODE = {
  /** All was done. */
  done: 0,
  /** Something failed or is dead. */
  failed: 1,
  /** Wrong usage or configuration. */
  usage: 2,
  /** Not done, because it was not confirmed. */
  refused: 3,
} as const;

export type ExitCode = (typeof EXIT_CODE)[keyof typeof EXIT_CODE];

/** What an error may carry beside its message. */
export interface RetentionErrorOptions {
  /** A short constant for programs. Default: `FAILED`. */
  readonly code?: string | undefined;
  /** Default: {@link EXIT_CODE.failed}. */
  readonly exitCode?: ExitCode | undefined;
  /** What a person can do about it, as a whole sentence. */
  readonly remedy?: string | undefined;
  readonly cause?: unknown;
}

/** The root of every error that this package throws on purpose. */
export class RetentionError extends Error {
  override readonly name: string = 'RetentionError';
  readonly code: string;
  readonly exitCode: ExitCode;
  readonly remedy: string | undefined;

  constructor(message: string, options: RetentionErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = options.code ?? 'FAILED';
    this.exitCode = options.exitCode ?? EXIT_CODE.failed;
    this.remedy = options.remedy;
  }
}

/** One thing that is wrong with one setting. Nothing in it is secret. */
export interface ConfigurationFault {
  readonly name: string;
  readonly expected: string;
  /** What was found, with secrets masked. */
  readonly given: string;
  readonly remedy: string;
}

/** Names every fault of a configuration at once. */
export class ConfigurationError extends RetentionError {
  override readonly name = 'ConfigurationError';
  readonly faults: readonly ConfigurationFault[];

  constructor(
    faults: readonly ConfigurationFault[],
    options: Pick<RetentionErrorOptions, 'cause'> = {},
  ) {
    super(describeFaults(faults), { ...options, code: 'CONFIGURATION', exitCode: EXIT_CODE.usage });
    this.faults = faults;
  }
}

function describeFaults(faults: readonly ConfigurationFault[]): string {
  const count = showCount(faults.length, 'setting is wrong', 'settings are wrong');
  const lines = faults.map(
    ({ name, expected, given, remedy }) =>
      `  ${name}: expected ${expected}; given ${given}. ${remedy}`,
  );
  return [`${count}:`, ...lines.map((line) => escapeControls(line))].join('\n');
}

/** A command was given arguments that it cannot use. */
export class UsageError extends RetentionError {
  override readonly name = 'UsageError';

  constructor(message: string, options: Pick<RetentionErrorOptions, 'remedy' | 'cause'> = {}) {
    super(message, { ...options, code: 'USAGE', exitCode: EXIT_CODE.usage });
  }
}

/** Nothing was done, because it needs a confirmation that did not come. */
export class RefusedError extends RetentionError {
  override readonly name = 'RefusedError';

  constructor(message: string, options: Pick<RetentionErrorOptions, 'remedy' | 'cause'> = {}) {
    super(message, { ...options, code: 'REFUSED', exitCode: EXIT_CODE.refused });
  }
}

/** Nothing was done, because the reactor is halted, disabled or not the one that deletes: no confirmation helps. */
export class ClosedError extends RetentionError {
  override readonly name = 'ClosedError';

  constructor(message: string, options: Pick<RetentionErrorOptions, 'remedy' | 'cause'> = {}) {
    super(message, { ...options, code: 'CLOSED', exitCode: EXIT_CODE.failed });
  }
}

/** What is known of a failure in or on the way to the database. */
export interface DatabaseErrorOptions extends RetentionErrorOptions {
  /** The SQLSTATE, when the server itself answered. */
  readonly sqlState?: string | undefined;
  readonly constraint?: string | undefined;
  /** What the server said beside its message. */
  readonly detail?: string | undefined;
}

/** A statement or a connection failed; `code` is the SQLSTATE or the socket's code. */
export class DatabaseError extends RetentionError {
  override readonly name = 'DatabaseError';
  readonly sqlState: string | undefined;
  /** The constraint that a row broke, where the server named one. */
  readonly constraint: string | undefined;
  readonly detail: string | undefined;

  constructor(message: string, options: DatabaseErrorOptions = {}) {
    super(message, { ...options, code: options.code ?? options.sqlState ?? 'DATABASE' });
    this.sqlState = options.sqlState;
    this.constraint = options.constraint;
    this.detail = options.detail;
  }
}

/**
 * Whether the same thing may succeed later: the connection was lost or refused, the server is
 * starting, stopping or full, or another transaction was in the way. Looks through wrappers.
 */
export function isTransientDatabaseError(error: unknown): boolean {
  return chainOf(error).some((link) => isTransientLink(link));
}

function isTransientLink(link: Error): boolean {
  const code = codeOf(link);
  // A missing file stays missing; a missing Unix socket is a server that is not up.
  if (code === 'ENOENT') return 'syscall' in link && link.syscall === 'connect';
  return isPassingFault(code, link.message);
}

/**
 * Whether work that must not be lost is tried again after this error. A refused password counts: it may have been
 * changed a moment ago, and is read again for the next connection.
 */
export function isWorthRepeating(error: unknown): boolean {
  return isTransientDatabaseError(error) || isRefusedLogin(error);
}

/** Whether the session itself ended, or could not be had: the server may have gone down with it. Looks through wrappers. */
export function isLostSession(error: unknown): boolean {
  return chainOf(error).some((link) => {
    const code = codeOf(link) ?? '';
    return LOST_SESSION.has(code) || code.startsWith('08') || LOST_WORDS.test(link.message);
  });
}

const LOST_SESSION: ReadonlySet<string> = new Set([
  ...SOCKET_CODES,
  SQLSTATE.admin_shutdown,
  SQLSTATE.crash_shutdown,
  SQLSTATE.cannot_connect_now,
]);

/** As pg says it, and a pooler whose server is gone. */
const LOST_WORDS =
  /connection (terminated|ended)|server (conn(ection)? )?(crashed|closed the connection)/iu;

/** Whether the server refused who connects: the role or its password. */
export function isRefusedLogin(error: unknown): boolean {
  return chainOf(error).some((link) => REFUSED_LOGIN.has(codeOf(link)));
}

const REFUSED_LOGIN: ReadonlySet<string | undefined> = new Set([
  SQLSTATE.invalid_password,
  SQLSTATE.invalid_authorization_specification,
]);

const MAX_DESCRIPTION_CHARACTERS = 1_000;
const MAX_CHAIN_LENGTH = 8;

/**
 * One safe line about anything that was thrown: the message, the code, and what caused it, without
 * secrets and control characters.
 */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  for (const link of chainOf(error)) {
    const part = describeLink(link);
    // A wrapper's message often ends with its cause's, or tells it in words of its own, with its code.
    const code = codeOf(link);
    const isSaid = parts.some(
      (earlier) =>
        earlier.includes(part) ||
        (link.message !== '' && earlier.includes(link.message)) ||
        (code !== undefined && SOCKET_CODES.has(code) && earlier.includes(code)),
    );
    if (!isSaid) parts.push(part);
    if (saysAll(link)) break;
  }
  const text = parts.length === 0 ? describeThrown(error) : parts.join('; caused by: ');
  return escapeControls(redactAndShorten(text, MAX_DESCRIPTION_CHARACTERS));
}

function describeLink(link: Error): string {
  const { name, message } = link;
  const code = codeOf(link);
  const isPlain =
    name === 'Error' ||
    name === 'AggregateError' ||
    link instanceof RetentionError ||
    saysAll(link);
  // pg names its errors "error"; only names that say something are worth reading.
  const isNamed = !isPlain && name !== '' && name !== 'error' && !message.startsWith(name);
  const text = isNamed ? (message === '' ? name : `${name}: ${message}`) : message || name;
  const isWorthwhile =
    code !== undefined && !text.includes(code) && !(link instanceof RetentionError);
  return isWorthwhile ? `${text} (${code})` : text;
}

/** Whether an error's message holds all that its causes have to say, in other words. */
function saysAll(link: Error): boolean {
  return 'saysAll' in link && link.saysAll === true;
}

function describeThrown(thrown: unknown): string {
  if (typeof thrown === 'string') return thrown;
  if (typeof thrown === 'object' && thrown !== null && 'message' in thrown) {
    return String(thrown.message);
  }
  return `a thrown ${thrown === null ? 'null' : typeof thrown}: ${String(thrown)}`;
}

/** The code of an error: a SQLSTATE, a socket's code, or one of ours. */
export function codeOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' && error.code !== '' ? error.code : undefined;
}

/** An error and what caused it, outermost first; of an aggregate, its first error. */
function chainOf(error: unknown): readonly Error[] {
  const chain: Error[] = [];
  let link: unknown = error;
  while (link instanceof Error && !chain.includes(link) && chain.length < MAX_CHAIN_LENGTH) {
    chain.push(link);
    link = link.cause ?? (link instanceof AggregateError ? (link.errors[0] as unknown) : undefined);
  }
  return chain;
}
