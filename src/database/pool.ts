import pg from 'pg';
import { DatabaseError, RetentionError, SQLSTATE, isRefusedLogin, codeOf } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { safeNow } from '../lifecycle/clock.ts';
import { settlesWithin } from '../lifecycle/deadline.ts';
import {
  connectError,
  describeTarget,
  passwordReader,
  trackSockets,
  queryError,
  sessionConfig,
} from './connection.ts';
import type { Database, SessionFault } from './database.ts';
import type { PasswordFile } from './password.ts';
import type { Queryable } from './queryable.ts';
import {
  ANOTHER_DATABASE,
  type SessionLimits,
  beginWith,
  canWrite,
  guardIdentity,
  prepareSession,
} from './session.ts';
import { inTransaction } from './transactions.ts';
import { valueTypes } from './value-types.ts';

/** How a pool is made. */
export interface PoolOptions {
  readonly url: string;
  /** What the server shows in `pg_stat_activity`. */
  readonly applicationName: string;
  /** The most sessions at once. Default: 5. */
  readonly max?: number | undefined;
  /** The server ends a longer statement; 0 is no limit. Default: 30,000. */
  readonly statementTimeoutMilliseconds?: number | undefined;
  /** Read for each session, where the address has no password. */
  readonly passwordFile?: PasswordFile | undefined;
  /** Refuses sessions that cannot write, also one that was idle since it could. Default: false. */
  readonly mustWrite?: boolean | undefined;
  /** Told when all sessions are replaced, because one of them could not write or did not answer. */
  readonly onRenewed?: (() => void) | undefined;
  readonly logger: Logger;
}

const DEFAULT_MAX = 5;
const DEFAULT_STATEMENT_TIMEOUT_MILLISECONDS = 30_000;

/** How long after its own limit a server may answer before its session counts as dead. */
const ANSWER_MARGIN_MILLISECONDS = 5_000;

/** Longer than the pauses of an idle reactor, so that it keeps its session from poll to poll. */
const IDLE_MILLISECONDS = 120_000;

/** Sessions are replaced regularly: the pool then notices a failover, and servers free memory. */
const LIFETIME_SECONDS = 1_800;

/** A session that was idle for longer is asked whether it can still write, where that matters. */
const TRUSTED_MILLISECONDS = 5_000;

/** How long sessions may take to close. */
const CLOSE_MILLISECONDS = 5_000;

/** Makes a pool of sessions; connects when first asked for something. */
export function createPool(options: PoolOptions): Database {
  return new PooledDatabase(options);
}

class PooledDatabase implements Database {
  readonly target: string;
  readonly #options: PoolOptions;
  readonly #limits: SessionLimits;
  readonly #sockets = trackSockets();
  readonly #identity = guardIdentity();
  /** Which sessions a pooler lends, and when each was last known to work. */
  readonly #sessions = new WeakMap<pg.ClientBase, SessionState>();
  #pool: pg.Pool;
  #fault: SessionFault | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#limits = {
      statementTimeoutMilliseconds:
        options.statementTimeoutMilliseconds ?? DEFAULT_STATEMENT_TIMEOUT_MILLISECONDS,
    };
    this.target = describeTarget(options.url);
    this.#pool = this.#makePool();
  }

  async query<Row extends object>(...statement: Parameters<Queryable['query']>) {
    return this.#lend((client) => {
      const session = this.#queryable(client);
      if (!this.#isPooled(client)) return session.query<Row>(...statement);
      return inTransaction(
        session,
        (inside) => inside.query<Row>(...statement),
        beginWith(this.#limits),
      );
    });
  }

  async withClient<Result>(work: (client: Queryable) => Promise<Result>): Promise<Result> {
    return this.#lend((client) => work(this.#queryable(client)));
  }

  withTransaction<Result>(work: (client: Queryable) => Promise<Result>): Promise<Result> {
    return this.#lend((client) =>
      inTransaction(
        this.#queryable(client),
        work,
        this.#isPooled(client) ? beginWith(this.#limits) : 'begin',
      ),
    );
  }

  withSnapshot<Result>(work: (client: Queryable) => Promise<Result>): Promise<Result> {
    const mode = 'isolation level repeatable read, read only';
    return this.#lend((client) =>
      inTransaction(
        this.#queryable(client),
        work,
        this.#isPooled(client) ? beginWith(this.#limits, mode) : `begin ${mode}`,
      ),
    );
  }

  isPooled(): Promise<boolean> {
    return this.#lend((client) => Promise.resolve(this.#isPooled(client)));
  }

  fault(): SessionFault | undefined {
    return this.#fault;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async cut(): Promise<void> {
    const closed = this.close();
    await this.#sockets.cut();
    await closed;
  }

  async #close(): Promise<void> {
    const ended = this.#pool.end().then(() => this.#sockets.whenEmpty());
    // A lent session or a dead network may take for ever.
    await settlesWithin(CLOSE_MILLISECONDS, ended);
    await this.#sockets.cut();
  }

  #makePool(): pg.Pool {
    const timeout = this.#limits.statementTimeoutMilliseconds;
    const options = {
      ...sessionConfig({
        url: this.#options.url,
        applicationName: this.#options.applicationName,
        queryTimeoutMilliseconds: timeout === 0 ? 0 : timeout + ANSWER_MARGIN_MILLISECONDS,
        sockets: this.#sockets,
      }),
      Client: clientWith(passwordReader(this.#options.url, this.#options.passwordFile)),
      types: valueTypes,
      max: this.#options.max ?? DEFAULT_MAX,
      idleTimeoutMillis: IDLE_MILLISECONDS,
      maxLifetimeSeconds: LIFETIME_SECONDS,
      onConnect: (client: pg.ClientBase) => this.#prepare(client),
    };
    const pool = new pg.Pool(options);
    // Without a handler, the loss of an idle session would end the process.
    pool.on('error', (error) => this.#report('An idle session was lost', error));
    // So would the loss of a session in use, which its statement reports, and of one that is lost
    // just after it was opened, before its user can add a handler.
    pool.on('connect', (client) => client.on('error', () => undefined));
    return pool;
  }

  async #prepare(client: pg.ClientBase): Promise<void> {
    try {
      const { mustWrite = false } = this.#options;
      const { isPooled, identity } = await prepareSession(client, this.#limits, mustWrite);
      this.#identity.check(identity);
      this.#sessions.set(client, { isPooled, workedAt: safeNow() });
      this.#fault = undefined;
    } catch (error) {
      // The pool waits until the session has ended, which a dead network would keep it from.
      destroySocket(client);
      throw error;
    }
  }

  #isPooled(client: pg.ClientBase): boolean {
    return this.#sessions.get(client)?.isPooled === true;
  }

  async #lend<Result>(work: (client: pg.PoolClient) => Promise<Result>): Promise<Result> {
    const { client, pool } = await this.#connect();
    let isReusable = false;
    try {
      const result = await work(client);
      isReusable = true;
      return result;
    } catch (error) {
      isReusable = isOnlyRefused(error);
      if (isSilence(error) || isReadOnly(error)) this.#renew(pool, error);
      throw error;
    } finally {
      const state = this.#sessions.get(client);
      if (state !== undefined) state.workedAt = safeNow();
      client.release(!isReusable || client.getTransactionStatus() !== 'I');
    }
  }

  /** A session and the pool it is from. One that was idle and cannot write any more takes the others with it. */
  async #connect(): Promise<{ readonly client: pg.PoolClient; readonly pool: pg.Pool }> {
    if (this.#closing !== undefined) {
      throw new RetentionError(`the pool for ${this.target} is closed`, { code: 'CLOSED' });
    }
    try {
      const pool = this.#pool;
      const client = await pool.connect();
      if (await this.#isFit(client)) return { client, pool };
      client.release(true);
      this.#renew(pool);
      return { client: await this.#pool.connect(), pool: this.#pool };
    } catch (error) {
      const failure = connectError(error, this.target);
      this.#noteFault(failure);
      throw failure;
    }
  }

  async #isFit(client: pg.PoolClient): Promise<boolean> {
    const { workedAt = 0 } = this.#sessions.get(client) ?? {};
    if (this.#options.mustWrite !== true || safeNow() - workedAt < TRUSTED_MILLISECONDS)
      return true;
    return canWrite(client).catch(() => false);
  }

  /**
   * Replaces the pool. Where the network is dead for one session, it is dead for the idle ones, and each of
   * them would take the whole time limit of a statement to notice; and where one session has been left on a
   * server that is read-only, all have.
   */
  #renew(old: pg.Pool, error?: unknown): void {
    if (this.#pool !== old || this.#closing !== undefined) return;
    this.#pool = this.#makePool();
    if (error !== undefined) this.#noteFault(error);
    old.end().catch((failure: unknown) => this.#report('A pool did not end', failure));
    this.#options.onRenewed?.();
  }

  #noteFault(error: unknown): void {
    const kind = faultOf(error);
    if (kind !== undefined && kind !== this.#fault?.kind) this.#fault = { kind, since: new Date() };
  }

  #queryable(client: pg.PoolClient): Queryable {
    return {
      query: async <Row extends object>(...statement: Parameters<Queryable['query']>) => {
        const [text, values = [], { name } = {}] = statement;
        try {
          const isNamed = name !== undefined && !this.#isPooled(client);
          const query = { text, values: [...values], ...(isNamed ? { name } : {}) };
          const result = await client.query<Row & pg.QueryResultRow>(query);
          // Of several statements in one text, the last.
          return [result].flat().at(-1)?.rows ?? [];
        } catch (error) {
          throw queryError(error);
        }
      },
    };
  }

  #report(message: string, error: unknown): void {
    if (this.#closing !== undefined) return;
    this.#options.logger.warning(message, { database: this.target, error });
  }
}

interface SessionState {
  readonly isPooled: boolean;
  workedAt: number;
}

/** A client that asks for its password each time. pg takes no function beside an address. */
function clientWith(readPassword: (() => Promise<string>) | undefined): typeof pg.Client {
  if (readPassword === undefined) return pg.Client;
  const read = readPassword;
  return class extends pg.Client {
    override password = (() =>
      read().catch((error: unknown) => {
        // pg reports the error and leaves the connection to the server.
        destroySocket(this);
        throw error;
      })) as unknown as string;
  };
}

function destroySocket(client: pg.ClientBase): void {
  // pg's types leave the connection out.
  const { connection } = client as unknown as {
    readonly connection?: { readonly stream?: { readonly destroy: () => void } };
  };
  connection?.stream?.destroy();
}

function faultOf(error: unknown): SessionFault['kind'] | undefined {
  if (isReadOnly(error)) return 'read-only';
  if (isRefusedLogin(error)) return 'login refused';
  return codeOf(error) === ANOTHER_DATABASE ? 'another database' : undefined;
}

function isReadOnly(error: unknown): boolean {
  return error instanceof DatabaseError && error.sqlState === SQLSTATE.read_only_sql_transaction;
}

/** Whether the server did not answer, not even by ending the statement at its own limit. */
function isSilence(error: unknown): boolean {
  return error instanceof DatabaseError && error.message === 'Query read timeout';
}

/**
 * Whether a session can be used after an error: only after an answer of the server, and not after
 * one that ends the session. (By class, since the word FATAL is translated.)
 */
function isOnlyRefused(error: unknown): boolean {
  const sqlState = error instanceof DatabaseError ? error.sqlState : undefined;
  return sqlState !== undefined && !/^(?:08|57P|25006|25P03|25P04|XX)/u.test(sqlState);
}
