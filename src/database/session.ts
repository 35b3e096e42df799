import type pg from 'pg';
import { DatabaseError, SQLSTATE, codeOf } from '../errors.ts';

/** What differs between our sessions. */
export interface SessionLimits {
  /** The server ends a longer statement; 0 is no limit. */
  readonly statementTimeoutMilliseconds: number;
  /** Default: nothing but the server's own catalog. Migrations keep the path of their own role. */
  readonly keepsSearchPath?: boolean;
}

/**
 * What sessions are set to after connecting. A role or a database may have other defaults for each of these. They
 * are never sent while connecting: poolers refuse a connection that asks for settings (PgBouncer 08P01, RDS Proxy
 * 0A000, others with codes and words of their own).
 *
 * Two are left out. default_transaction_read_only means that a person wants no writes. synchronous_commit may stay
 * off: a stamp that a crash loses is made again when its lease has run out.
 */
const SETTINGS: readonly (readonly [name: string, value: string])[] = [
  ['datestyle', 'ISO, YMD'],
  ['intervalstyle', 'postgres'],
  ['timezone', 'UTC'],
  ['client_encoding', 'UTF8'],
  ['bytea_output', 'hex'],
  ['extra_float_digits', '1'],
  ['standard_conforming_strings', 'on'],
  ['array_nulls', 'on'],
  ['transform_null_equals', 'off'],
  ['row_security', 'on'],
  ['default_transaction_isolation', 'read committed'],
  ['default_transaction_deferrable', 'off'],
  ['plan_cache_mode', 'auto'],
  ['jit', 'off'],
];

/** The session's search path: no name that we send is looked up among an application's. */
const SEARCH_PATH = ['search_path', 'pg_catalog, pg_temp'] as const;

/** A process that is stopped in a transaction keeps its locks no longer than this. */
const IDLE_IN_TRANSACTION_MILLISECONDS = 60_000;

const ANSWER_MILLISECONDS = 10_000;

type Setting = readonly [name: string, value: string];

/** Limits by their names in the server; which of them there are depends on its version. */
function limitsOf({ statementTimeoutMilliseconds, keepsSearchPath = false }: SessionLimits) {
  const idle = statementTimeoutMilliseconds === 0 && keepsSearchPath;
  return [
    ['statement_timeout', `${statementTimeoutMilliseconds} ms`],
    ['lock_timeout', '0 ms'],
    ['idle_in_transaction_session_timeout', `${idle ? 0 : IDLE_IN_TRANSACTION_MILLISECONDS} ms`],
    ['idle_session_timeout', '0 ms'],
    ['transaction_timeout', '0 ms'],
  ] satisfies Setting[];
}

function settingsOf(limits: SessionLimits): readonly Setting[] {
  const path = limits.keepsSearchPath === true ? [] : [SEARCH_PATH];
  return [...SETTINGS, ...path, ...limitsOf(limits)];
}

/** Rows of (name, value) of the settings that the server has. All of it is text of this file. */
function valuesOf(settings: readonly Setting[]): string {
  const rows = settings.map(([name, value]) => `('${name}', '${value}')`);
  return `(values ${rows.join(', ')}) s (name, value) where current_setting(s.name, true) is not null`;
}

/** How a transaction is begun. */
export type TransactionMode =
  | 'isolation level read committed'
  | 'isolation level repeatable read, read only';

/**
 * Begins a transaction with our settings for as long as it lasts. For sessions behind a pooler: what is set
 * for the session there reaches other clients, and other statements of ours have other sessions.
 */
export function beginWith(
  limits: SessionLimits,
  mode: TransactionMode = 'isolation level read committed',
): string {
  return (
    `begin ${mode}; set local ${SEARCH_PATH[0]} = ${SEARCH_PATH[1]}; ` +
    `select set_config(s.name, s.value, true) from ${valuesOf(settingsOf(limits))}`
  );
}

/** Sets a session also behind a pooler: for work that has a session for itself. */
export function setForSession(limits: SessionLimits): string {
  return `select set_config(s.name, s.value, false) from ${valuesOf(settingsOf(limits))}`;
}

/** Which server and which database a session has reached; the same for all sessions of one. */
export interface ServerIdentity {
  readonly database: string;
  /** The server's system identifier; null where this role may not ask for it. */
  readonly system: string | null;
}

/** What is known of a session once it is prepared. */
export interface PreparedSession {
  /** A pooler stands between us and the server. */
  readonly isPooled: boolean;
  readonly identity: ServerIdentity;
}

interface Answer {
  readonly pid: number;
  readonly is_standby: boolean;
  readonly is_read_only: boolean;
  readonly read_only_source: string | null;
  readonly replication_role: string;
  readonly differing: readonly string[];
  readonly database: string;
  readonly system: string | null;
}

/**
 * Sets a session, unless it belongs to a pooler, and reads back its settings. It takes one round trip: a text of
 * two statements runs in one session of the server, also behind a pooler.
 *
 * @param mustWrite a session that cannot write is refused.
 * @throws DatabaseError when the settings did not take, or the session cannot write.
 */
export async function prepareSession(
  client: pg.ClientBase,
  limits: SessionLimits,
  mustWrite: boolean,
): Promise<PreparedSession> {
  // pg's types leave out the number that the server sent with its greeting. A pooler greets with its own.
  const { processID } = client as unknown as { readonly processID: number | null };
  const pid = Number.isSafeInteger(processID) ? Number(processID) : -1;
  const { pid: answering, ...answer } = await ask(client, limits, pid);
  const isPooled = answering !== pid;
  if (!isPooled && answer.differing.length > 0) {
    throw new DatabaseError(
      `the session did not accept these settings: ${answer.differing.join(', ')}`,
      {
        code: 'SESSION_SETTINGS',
        remedy: 'Find out what prevents it: an extension of the server, or a proxy before it.',
      },
    );
  }
  if (answer.replication_role === 'replica') {
    throw new DatabaseError('session_replication_role is replica, which switches triggers off', {
      code: 'SESSION_SETTINGS',
      remedy: 'Reset it for this role and this database.',
    });
  }
  if (mustWrite && answer.is_read_only) throw readOnlyError(answer);
  return { isPooled, identity: { database: answer.database, system: answer.system } };
}

async function ask(client: pg.ClientBase, limits: SessionLimits, pid: number): Promise<Answer> {
  const settings = settingsOf(limits);
  const set = [
    // First, and with full names: from here on no name of an application's fits better than the server's.
    limits.keepsSearchPath === true
      ? undefined
      : `select pg_catalog.set_config('${SEARCH_PATH[0]}', '${SEARCH_PATH[1]}', false) ` +
        `where pg_catalog.pg_backend_pid() operator(pg_catalog.=) ${pid}`,
    `select set_config(s.name, s.value, false) from ${valuesOf(settings)} ` +
      `and pg_backend_pid() = ${pid}`,
  ];
  const before = set.filter((text) => text !== undefined).join('; ');
  try {
    return await askOnce(client, `${before}; ${readBack(settings, SYSTEM)}`);
  } catch (error) {
    // Some managed servers forbid to read the control file.
    const code = codeOf(error);
    if (code !== SQLSTATE.insufficient_privilege && code !== SQLSTATE.undefined_function) {
      throw error;
    }
    return askOnce(client, `${before}; ${readBack(settings, 'null::text')}`);
  }
}

async function askOnce(client: pg.ClientBase, text: string): Promise<Answer> {
  const query = { text, query_timeout: ANSWER_MILLISECONDS };
  const results = (await client.query(query)) as unknown as readonly pg.QueryResult<Answer>[];
  const [answer] = results.at(-1)?.rows ?? [];
  if (answer === undefined) throw new DatabaseError('the session did not say how it is set');
  return answer;
}

const SYSTEM = '(select c.system_identifier::text from pg_control_system() c)';

function readBack(settings: readonly Setting[], system: string): string {
  return `select pg_backend_pid() as pid,
    pg_is_in_recovery() as is_standby,
    current_setting('transaction_read_only') = 'on' as is_read_only,
    case
      when current_setting('default_transaction_read_only') = 'on'
      then (select g.source from pg_settings g where g.name = 'default_transaction_read_only')
    end as read_only_source,
    current_setting('session_replication_role') as replication_role,
    array(
      select s.name
      from ${valuesOf(settings)}
        and case
          when s.value ~ ' ms$' then current_setting(s.name)::interval <> s.value::interval
          else lower(current_setting(s.name)) <> lower(s.value)
        end
    ) as differing,
    current_database() as database,
    ${system} as system`;
}

/** Who asked for sessions that only read, by the source that the server names. */
const READ_ONLY_SOURCES: Readonly<Record<string, string>> = {
  user: 'alter role ... reset default_transaction_read_only',
  database: 'alter database ... reset default_transaction_read_only',
  'database user': 'alter role ... in database ... reset default_transaction_read_only',
};

/** A session that cannot write: on a standby, or because a person asked for it. */
function readOnlyError({
  is_standby: isStandby,
  read_only_source: source,
}: Pick<Answer, 'is_standby' | 'read_only_source'>): DatabaseError {
  const reset = READ_ONLY_SOURCES[source ?? ''];
  return new DatabaseError(
    isStandby
      ? 'the server is a standby, which cannot be written to'
      : 'sessions are read-only here (default_transaction_read_only is on)',
    {
      sqlState: SQLSTATE.read_only_sql_transaction,
      remedy: isStandby
        ? 'Point the address at the primary. After a switchover this ends by itself.'
        : `Nothing is done while it is on. To write again: ${reset ?? 'change it in the configuration of the server'}.`,
    },
  );
}

/** Whether a session that was idle can still be written in; a switchover may have changed that. */
export async function canWrite(client: pg.ClientBase): Promise<boolean> {
  const query = {
    text: `select current_setting('transaction_read_only') = 'off' as can_write`,
    query_timeout: ANSWER_MILLISECONDS,
  };
  const { rows } = await client.query<{ can_write: boolean }>(query);
  return rows[0]?.can_write === true;
}

/** Remembers the first server and refuses another one. */
export interface IdentityGuard {
  /** @throws DatabaseError for a session of another server or database than the first. */
  check(found: ServerIdentity): void;
}

export function guardIdentity(): IdentityGuard {
  let first: ServerIdentity | undefined;
  return {
    check: (found) => {
      first ??= found;
      const isSameServer =
        first.system === null || found.system === null || first.system === found.system;
      if (isSameServer && first.database === found.database) return;
      throw new DatabaseError(
        'the address leads to another database than at the start of this process',
        {
          code: ANOTHER_DATABASE,
          remedy:
            `It was ${describeIdentity(first)}, and it is ${describeIdentity(found)}. ` +
            'If you mean it, start the process again.',
        },
      );
    },
  };
}

/** The code of a session that has reached another server or database than the first one. */
export const ANOTHER_DATABASE = 'ANOTHER_DATABASE';

function describeIdentity({ database, system }: ServerIdentity): string {
  return `database ${database} of server ${system ?? 'unknown'}`;
}
