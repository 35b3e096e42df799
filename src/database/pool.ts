import pg from 'pg';
import { DatabaseError, RetentionError, SQLSTATE, codeOf } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { settlesWithin } from '../lifecycle/deadline.ts';
import {
  connectError,
  describeTarget,
  trackSockets,
  queryError,
  sessionConfig,
} from './connection.ts';
import type { Database } from './database.ts';
import { isPooledClient, isRefusedStartupSetting } from './pooler.ts';
import type { Queryable } from './queryable.ts';
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

/**
 * A function refuses another isolation level with the first code, and a single statement gets the
 * second only in another level. Both have changed nothing, so the statement can be repeated.
 */
const WANTS_READ_COMMITTED: ReadonlySet<string | undefined> = new Set([
  SQLSTATE.active_sql_transaction,
  SQLSTATE.serialization_failure,
]);

/** How long sessions may take to close. */
const CLOSE_MILLISECONDS = 5_000;

/** Makes a pool of sessions; connects when first asked for something. */
export function createPool(options: PoolOptions): Database {
  return new PooledDatabase(options);
}

class PooledDatabase implements Database {
  readonly target: string;
  readonly #options: PoolOptions;
  readonly #sockets = trackSockets();
  #takesStartupSettings = true;
  #pool: pg.Pool;
  #pooled: Promise<boolean> | undefined;
  /** Whether the role or the database defaults to another isolation level than READ COMMITTED. */
  #isElsewhereByDefault = false;
  #closing: Promise<void> | undefined;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.target = describeTarget(options.url);
    this.#pool = this.#makePool();
  }

  async query<Row extends object>(...statement: Parameters<Queryable['query']>) {
    if (!this.#isElsewhereByDefault) {
      try {
        return await this.withClient((client) => client.query<Row>(...statement));
      } catch (error) {
        if (!WANTS_READ_COMMITTED.has(codeOf(error))) throw error;
        this.#isElsewhereByDefault = true;
      }
    }
    return this.withTransaction((client) => client.query<Row>(...statement));
  }

  async withClient<Result>(work: (client: Queryable) => Promise<Result>): Promise<Result> {
    return this.#lend((client) => work(this.#queryable(client)));
  }

  withTransaction<Result>(work: (client: Queryable) => Promise<Result>): Promise<Result> {
    return this.withClient((client) => inTransaction(client, work));
  }

  isPooled(): Promise<boolean> {
    this.#pooled ??= this.#forgetFailure(this.#lend((client) => isPooledClient(client)));
    return this.#pooled;
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
    const timeout =
      this.#options.statementTimeoutMilliseconds ?? DEFAULT_STATEMENT_TIMEOUT_MILLISECONDS;
    const pool = new pg.Pool({
      ...sessionConfig({
        url: this.#options.url,
        applicationName: this.#options.applicationName,
        queryTimeoutMilliseconds: timeout === 0 ? 0 : timeout + ANSWER_MARGIN_MILLISECONDS,
        sockets: this.#sockets,
      }),
      ...(this.#takesStartupSettings && timeout > 0 ? { statement_timeout: timeout } : {}),
      types: valueTypes,
      max: this.#options.max ?? DEFAULT_MAX,
      idleTimeoutMillis: IDLE_MILLISECONDS,
      maxLifetimeSeconds: LIFETIME_SECONDS,
    });
    // Without a handler, the loss of an idle session would end the process.
    pool.on('error', (error) => this.#report('An idle session was lost', error));
    // So would the loss of a session in use, which its statement reports, and of one that is lost
    // just after it was opened, before its user can add a handler.
    pool.on('connect', (client) => client.on('error', () => undefined));
    return pool;
  }

  async #lend<Result>(work: (client: pg.PoolClient) => Promise<Result>): Promise<Result> {
    const client = await this.#connect();
    const pool = this.#pool;
    let isReusable = false;
    try {
      const result = await work(client);
      isReusable = true;
      return result;
    } catch (error) {
      isReusable = isOnlyRefused(error);
      if (isSilence(error)) this.#renew(pool);
      throw error;
    } finally {
      client.release(!isReusable || client.getTransactionStatus() !== 'I');
    }
  }

  async #connect(): Promise<pg.PoolClient> {
    if (this.#closing !== undefined) {
      throw new RetentionError(`the pool for ${this.target} is closed`, { code: 'CLOSED' });
    }
    const pool = this.#pool;
    try {
      return await pool.connect();
    } catch (error) {
      if (!isRefusedStartupSetting(error)) throw connectError(error, this.target);
      this.#goWithoutStartupSettings(pool);
    }
    try {
      return await this.#pool.connect();
    } catch (error) {
      throw connectError(error, this.target);
    }
  }

  /** Not behind a pooler, where the settings of a session would reach other clients. */
  #goWithoutStartupSettings(refused: pg.Pool): void {
    if (this.#pool !== refused) return;
    this.#takesStartupSettings = false;
    this.#pooled = Promise.resolve(true);
    this.#renew(refused);
  }

  /**
   * Replaces the pool: where the network is dead for one session, it is dead for the idle ones, and
   * each of them would take the whole time limit of a statement to notice.
   */
  #renew(old: pg.Pool): void {
    if (this.#pool !== old || this.#closing !== undefined) return;
    this.#pool = this.#makePool();
    old.end().catch((error: unknown) => this.#report('A pool did not end', error));
  }

  #queryable(client: pg.PoolClient): Queryable {
    return {
      query: async <Row extends object>(...statement: Parameters<Queryable['query']>) => {
        const [text, values = [], { name } = {}] = statement;
        try {
          const isNamed = name !== undefined && !(await this.#isPooledVia(client));
          const query = { text, values: [...values], ...(isNamed ? { name } : {}) };
          const result = await client.query<Row & pg.QueryResultRow>(query);
          return result.rows;
        } catch (error) {
          throw queryError(error);
        }
      },
    };
  }

  #isPooledVia(client: pg.PoolClient): Promise<boolean> {
    this.#pooled ??= this.#forgetFailure(isPooledClient(client));
    return this.#pooled;
  }

  #forgetFailure(asked: Promise<boolean>): Promise<boolean> {
    asked.catch(() => {
      this.#pooled = undefined;
    });
    return asked;
  }

  #report(message: string, error: unknown): void {
    if (this.#closing !== undefined) return;
    this.#options.logger.warning(message, { database: this.target, error });
  }
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
  return sqlState !== undefined && !/^(?:08|57P|25P03|25P04|XX)/u.test(sqlState);
}
