import { showCount } from './numbers.ts';
import { escapeControls, redactAndShorten } from './safe-text.ts';
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

/** What is known of a failure in or on the way to the database. */
export interface DatabaseErrorOptions extends RetentionErrorOptions {
  /** The SQLSTATE, when the server itself answered. */
  readonly sqlState?: string | undefined;
  readonly constraint?: string | undefined;
}

/** A statement or a connection failed; `code` is the SQLSTATE or the socket's code. */
export class DatabaseError extends RetentionError {
  override readonly name = 'DatabaseError';
  readonly sqlState: string | undefined;
  /** The constraint that a row broke, where the server named one. */
  readonly constraint: string | undefined;

  constructor(message: string, options: DatabaseErrorOptions = {}) {
    super(message, { ...options, code: options.code ?? options.sqlState ?? 'DATABASE' });
    this.sqlState = options.sqlState;
    this.constraint = options.constraint;
  }
}

const TRANSIENT_SQLSTATES: ReadonlySet<string> = new Set([
  SQLSTATE.serialization_failure,
  SQLSTATE.deadlock_detected,
  SQLSTATE.lock_not_available,
  SQLSTATE.query_canceled,
  SQLSTATE.admin_shutdown,
  SQLSTATE.crash_shutdown,
  SQLSTATE.cannot_connect_now,
  SQLSTATE.idle_session_timeout,
  SQLSTATE.idle_in_transaction_session_timeout,
  SQLSTATE.transaction_timeout,
  // After a failover, the old primary is a standby until the next connection finds the new one.
  SQLSTATE.read_only_sql_transaction,
]);

/** Connection exceptions, and insufficient resources: disk, memory, connections. */
const TRANSIENT_CLASSES: ReadonlySet<string> = new Set(['08', '53']);

/** What pg and poolers say of a lost or refused connection without giving it a code of its own. */
const TRANSIENT_MESSAGES =
  /connection terminated|timeout expired|timeout exceeded when trying to connect|query read timeout|not queryable|connection ended|no more connections|too many (clients|connections)|query_wait_timeout|server (conn(ection)? )?(crashed|login)|(is|database) paused|server_lifetime|idle.*timeout/iu;

/**
 * Whether the same thing may succeed later: the connection was lost or refused, the server is
 * starting, stopping or full, or another transaction was in the way. Looks through wrappers.
 */
export function isTransientDatabaseError(error: unknown): boolean {
  return chainOf(error).some((link) => isTransientLink(link));
}

function isTransientLink(link: Error): boolean {
  const code = codeOf(link);
  if (code !== undefined && SOCKET_CODES.has(code)) return true;
  // A missing file stays missing; a missing Unix socket is a server that is not up.
  if (code === 'ENOENT') return 'syscall' in link && link.syscall === 'connect';
  const sqlState = link instanceof DatabaseError ? link.sqlState : code;
  // Poolers give every refusal this one code, so only its words tell "busy" from "never".
  if (sqlState === SQLSTATE.protocol_violation) return TRANSIENT_MESSAGES.test(link.message);
  if (sqlState !== undefined && /^[0-9A-Z]{5}$/u.test(sqlState)) {
    return TRANSIENT_SQLSTATES.has(sqlState) || TRANSIENT_CLASSES.has(sqlState.slice(0, 2));
  }
  return code === undefined && TRANSIENT_MESSAGES.test(link.message);
}

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
  }
  const text = parts.length === 0 ? describeThrown(error) : parts.join('; caused by: ');
  return escapeControls(redactAndShorten(text, MAX_DESCRIPTION_CHARACTERS));
}

function describeLink(link: Error): string {
  const { name, message } = link;
  const code = codeOf(link);
  const isPlain = name === 'Error' || name === 'AggregateError' || link instanceof RetentionError;
  // pg names its errors "error"; only names that say something are worth reading.
  const isNamed = !isPlain && name !== '' && name !== 'error' && !message.startsWith(name);
  const text = isNamed ? (message === '' ? name : `${name}: ${message}`) : message || name;
  const isWorthwhile =
    code !== undefined && !text.includes(code) && !(link instanceof RetentionError);
  return isWorthwhile ? `${text} (${code})` : text;
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
