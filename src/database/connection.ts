import { Socket } from 'node:net';
import type pg from 'pg';
import { DatabaseError, RetentionError, SQLSTATE, codeOf } from '../errors.ts';
import { ADDRESS_ATTEMPTS } from '../lifecycle/address-attempts.ts';
import { hasStrayAt, parseUrl } from '../safe-text.ts';
import { type PasswordFile, readPasswordFile } from './password.ts';

/** A server that does not answer at all is given up after this. */
const CONNECT_TIMEOUT_MILLISECONDS = 10_000;

/** After this silence, TCP asks whether the other end is still there. */
const KEEP_ALIVE_MILLISECONDS = 10_000;

const DEFAULT_PORT = '5432';

/** `host:port/database` of an address, without user and password. */
export function describeTarget(url: string): string {
  const parsed = parseUrl(url);
  if (parsed === undefined || hasStrayAt(parsed)) return 'an unreadable address';
  const { searchParams } = parsed;
  const host = decode(searchParams.get('host') ?? parsed.hostname) || 'localhost';
  const port = searchParams.get('port') ?? (parsed.port || DEFAULT_PORT);
  const database = decode(parsed.pathname.slice(1)) || decode(parsed.username) || 'postgres';
  return `${host}:${port}/${database}`;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** pg connects by port and host alone, and so with Node's own time for each address of the host. */
class PatientSocket extends Socket {
  override connect(...parameters: unknown[]): this {
    const [port, host] = parameters;
    // Of all the ways to call it, pg uses two: a port and a host, or the path of a socket.
    const connect = super.connect.bind(this) as (...rest: unknown[]) => this;
    return typeof port === 'number' && typeof host === 'string'
      ? connect({ port, host, ...ADDRESS_ATTEMPTS })
      : connect(...parameters);
  }
}

/** The open sockets of one owner, so that none can outlive it. */
export interface SocketTracker {
  /** Makes a socket for a client to connect; pg's `stream` option. */
  open(): Socket;
  readonly isEmpty: boolean;
  /** Destroys every open socket and waits until all are closed. */
  cut(): Promise<void>;
  /** Resolves when every socket is closed. */
  whenEmpty(): Promise<void>;
}

/**
 * pg ends a session by waiting for the server to close the connection, which never happens on a dead
 * network, and pg-listen forgets sessions that it was just opening. The owner of the sockets can end
 * both.
 */
export function trackSockets(): SocketTracker {
  const sockets = new Set<Socket>();
  const closed = async (): Promise<void> => {
    await Promise.all(
      [...sockets].map((socket) => new Promise((resolve) => socket.once('close', resolve))),
    );
  };
  return {
    open: () => {
      const socket = new PatientSocket();
      sockets.add(socket);
      socket.once('close', () => sockets.delete(socket));
      return socket;
    },
    get isEmpty() {
      return sockets.size === 0;
    },
    cut: async () => {
      const closing = closed();
      for (const socket of sockets) socket.destroy();
      await closing;
    },
    whenEmpty: closed,
  };
}

/** How a session is opened. */
export interface SessionOptions {
  readonly url: string;
  /** What the server shows in `pg_stat_activity`. */
  readonly applicationName: string;
  /** How long an answer may take before the session counts as dead. */
  readonly queryTimeoutMilliseconds: number;
  readonly sockets: SocketTracker;
}

/**
 * pg's settings for a session that notices a dead network. They ask the server for no setting, which poolers
 * refuse: {@link prepareSession} sets them.
 */
export function sessionConfig(options: SessionOptions): pg.ClientConfig {
  return {
    connectionString: withoutLimits(options.url),
    application_name: options.applicationName,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MILLISECONDS,
    query_timeout: options.queryTimeoutMilliseconds,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_MILLISECONDS,
    stream: () => options.sockets.open(),
  };
}

/** What an address may ask for and sessions of ours have anyway. */
const LIMITS = ['statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout'];

function withoutLimits(url: string): string {
  const parsed = parseUrl(url);
  if (parsed === undefined || !LIMITS.some((name) => parsed.searchParams.has(name))) return url;
  const [address = '', query = ''] = url.split('?', 2);
  const kept = query.split('&').filter((pair) => !LIMITS.includes(pair.split('=')[0] ?? ''));
  return [address, kept.join('&')].filter((part) => part !== '').join('?');
}

/**
 * The reader of an address's password: asked for each session, since passwords are rotated while processes
 * run. Undefined: the address has a password, or the file is another user's.
 */
export function passwordReader(
  url: string,
  file: PasswordFile | undefined,
): (() => Promise<string>) | undefined {
  const parsed = parseUrl(url);
  if (file === undefined || parsed === undefined || parsed.password !== '') return undefined;
  if (parsed.searchParams.has('password') || decode(parsed.username) !== file.user)
    return undefined;
  return () => readPasswordFile(file.path);
}

/** An address with the password of its file in it, for what takes nothing but an address. */
export async function addressWithPassword(
  url: string,
  file: PasswordFile | undefined,
): Promise<string> {
  const password = await passwordReader(url, file)?.();
  if (password === undefined) return url;
  const separator = url.includes('?') ? '&' : '?';
  return `${url}${separator}password=${encodeURIComponent(password)}`;
}

const NAME_THE_AUTHORITY =
  "Name the file of the server's certificate authority: ?sslmode=verify-full&sslrootcert=/path/to/ca.pem.";

const CONNECT_REMEDIES: Readonly<Record<string, string>> = {
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: NAME_THE_AUTHORITY,
  UNABLE_TO_GET_ISSUER_CERT: NAME_THE_AUTHORITY,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: NAME_THE_AUTHORITY,
  SELF_SIGNED_CERT_IN_CHAIN: NAME_THE_AUTHORITY,
  DEPTH_ZERO_SELF_SIGNED_CERT: NAME_THE_AUTHORITY,
  ERR_TLS_CERT_ALTNAME_INVALID: "Connect by a name that the server's certificate has.",
  CERT_HAS_EXPIRED: "Renew the server's certificate.",
  ECONNREFUSED: 'Check that the server is up and that host and port are right.',
  ENOTFOUND: 'Check the name of the host.',
  EAI_AGAIN: 'Check the name of the host, and that names can be resolved here.',
  ETIMEDOUT: 'Check that no firewall stands in the way.',
  [SQLSTATE.invalid_password]:
    'Check user and password in the address, or the file that DATABASE_PASSWORD_FILE names.',
  [SQLSTATE.invalid_authorization_specification]: "Check the user, and the server's pg_hba.conf.",
  [SQLSTATE.invalid_catalog_name]: 'Check the name of the database in the address.',
  [SQLSTATE.too_many_connections]: 'Raise max_connections, or lower what others use.',
  [SQLSTATE.protocol_violation]:
    'Take what the address asks for behind the ? (such as options) away: this server or pooler refuses it.',
  [SQLSTATE.feature_not_supported]:
    'Take what the address asks for behind the ? (such as options) away: this server or pooler refuses it.',
};

/** Wraps what went wrong while a connection was opened; says where to, and nothing secret. */
export function connectError(error: unknown, target: string): RetentionError {
  if (error instanceof RetentionError) return error;
  const code = codeOf(error);
  return new DatabaseError(`cannot connect to Postgres at ${target}`, {
    code,
    sqlState: sqlStateOf(error),
    remedy: code === undefined ? undefined : CONNECT_REMEDIES[code],
    cause: error,
  });
}

/** Wraps what went wrong with a statement. What is not from pg stays as it is. */
export function queryError(error: unknown): unknown {
  if (error instanceof RetentionError || !(error instanceof Error)) return error;
  return new DatabaseError(error.message, {
    code: codeOf(error),
    sqlState: sqlStateOf(error),
    constraint: textOf(error, 'constraint'),
    detail: textOf(error, 'detail'),
    remedy:
      textOf(error, 'hint') ??
      STATEMENT_REMEDIES[codeOf(error) ?? ''] ??
      remedyForSchema(error) ??
      remedyForRights(error),
    cause: error,
  });
}

const STATEMENT_REMEDIES: Readonly<Record<string, string>> = {
  [SQLSTATE.read_only_sql_transaction]:
    'This session cannot write: the server is a standby, or default_transaction_read_only is on.',
  [SQLSTATE.lock_not_available]:
    'Another session keeps a lock: look in pg_stat_activity for one that is idle in a transaction, and try again.',
};

const SCHEMA_CODES: ReadonlySet<string | undefined> = new Set([
  SQLSTATE.undefined_table,
  SQLSTATE.undefined_function,
  SQLSTATE.invalid_schema_name,
]);

/** A schema that is missing or out of date has one remedy. */
function remedyForSchema(error: Error): string | undefined {
  if (!SCHEMA_CODES.has(codeOf(error)) || !error.message.includes('retention')) return undefined;
  return 'The schema retention is missing here or not up to date: run `retention migrate up`.';
}

/** A function that is not for this role: the server names it without saying whose work it is. */
function remedyForRights(error: Error): string | undefined {
  if (codeOf(error) !== SQLSTATE.insufficient_privilege) return undefined;
  if (!/^permission denied for (?:function|schema retention)/u.test(error.message))
    return undefined;
  return (
    'Connect as the role of RETENTION_OPERATOR_ROLE or as the owner of the schema: ' +
    'select * from retention.list_roles() names them.'
  );
}

/** The SQLSTATE, if the server sent this error; a socket's error has no severity. */
function sqlStateOf(error: unknown): string | undefined {
  return error instanceof Error && 'severity' in error ? codeOf(error) : undefined;
}

function textOf(error: Error, key: 'constraint' | 'detail' | 'hint'): string | undefined {
  const value = (error as Partial<Record<typeof key, unknown>>)[key];
  return typeof value === 'string' && value !== '' ? value : undefined;
}
