import pg from 'pg';
import { afterAll, beforeAll, describe, inject } from 'vitest';
import type { PrivatePostgresOptions } from '../stack/postgres-settings.ts';
import { type PrivatePostgres, startPrivatePostgres } from '../stack/private-postgres.ts';
import { runsTableSql } from '../stack/runs-table.ts';
import { TEMPLATE_DATABASE } from './postgres-setup.ts';

/** A row as pg returns it. */
export type Row = Record<string, unknown>;

/** A database that one test file has for itself, holding the application's empty `runs` table. */
export interface TestDatabase {
  readonly name: string;
  /** Its address as the superuser. */
  readonly url: string;
  /** Its address as another user. */
  readonly urlAs: (user: string) => string;
  /** Runs one statement, or several without parameters, and returns the rows of it. */
  readonly query: <R extends Row = Row>(
    sql: string,
    parameters?: readonly unknown[],
  ) => Promise<R[]>;
  /** Runs a statement and returns its only row. */
  readonly one: <R extends Row = Row>(sql: string, parameters?: readonly unknown[]) => Promise<R>;
  /** A session of one's own, for locks and LISTEN; ended with the database when still open. */
  readonly connect: () => Promise<pg.Client>;
  /** Ends every session and drops it. */
  readonly drop: () => Promise<void>;
}

/** A `describe` that is skipped when this machine can have no PostgreSQL; the set-up says why. */
export function describeDatabase(name: string, body: () => void): void {
  describe.skipIf(inject('postgres').kind === 'missing')(name, body);
}

let databasesMade = 0;

/** Makes a database that is a copy of the template: an empty `runs` table and nothing else. */
export async function createDatabase(): Promise<TestDatabase> {
  databasesMade += 1;
  const name = `test_${process.pid}_${Date.now().toString(36)}_${databasesMade}`;
  await administer(`create database ${name} template ${TEMPLATE_DATABASE}`);
  return openDatabase(name);
}

/**
 * Makes a database for the tests of the file or `describe` that calls it, and drops it after
 * them. Read it inside tests and hooks only; before those it does not exist yet.
 *
 * @param prepare runs once after the database has been made, for a schema or rows.
 */
export function useDatabase(
  prepare: (database: TestDatabase) => Promise<void> = () => Promise.resolve(),
): () => TestDatabase {
  let database: TestDatabase | undefined;
  beforeAll(async () => {
    database = await createDatabase();
    await prepare(database);
  });
  afterAll(async () => {
    await database?.drop();
  });
  return () => {
    if (database === undefined) throw new Error('The database is only there inside tests.');
    return database;
  };
}

/**
 * Starts a PostgreSQL with pg_cron for one test file alone, with the `runs` table in its database
 * `app`, for tests that need a real tick or that take the server down. Stop it after use.
 */
export async function startOwnPostgres(
  options: PrivatePostgresOptions = {},
): Promise<PrivatePostgres> {
  const server = await startPrivatePostgres({ databaseName: 'app', cron: true, ...options });
  try {
    await server.sql(runsTableSql, options.databaseName ?? 'app');
    return server;
  } catch (error) {
    await server.stop();
    throw error;
  }
}

/** The run's PostgreSQL: its port, its psql and its folders. */
export function runningPostgres(): Extract<
  ReturnType<typeof inject<'postgres'>>,
  { kind: 'running' }
> {
  const postgres = inject('postgres');
  if (postgres.kind === 'missing') throw new Error(postgres.reason);
  return postgres;
}

function addressOf(databaseName: string, user = 'postgres'): string {
  const { host, port } = runningPostgres();
  return `postgresql://${encodeURIComponent(user)}@${host}:${port}/${databaseName}`;
}

function openDatabase(name: string): TestDatabase {
  const url = addressOf(name);
  const pool = new pg.Pool({ connectionString: url, max: 5 });
  // Dropping the database ends idle sessions, which the pool reports here.
  pool.on('error', () => undefined);
  const clients = new Set<pg.Client>();

  const query = async <R extends Row>(
    sql: string,
    parameters?: readonly unknown[],
  ): Promise<R[]> => {
    const result = await pool.query<R>(sql, parameters === undefined ? undefined : [...parameters]);
    return lastOf(result).rows;
  };
  return {
    name,
    url,
    urlAs: (user) => addressOf(name, user),
    query,
    one: async <R extends Row>(sql: string, parameters?: readonly unknown[]) => {
      const rows = await query<R>(sql, parameters);
      const [row] = rows;
      if (row === undefined || rows.length > 1) {
        throw new Error(`Expected one row, got ${rows.length}: ${sql}`);
      }
      return row;
    },
    connect: async () => {
      const client = new pg.Client({ connectionString: url });
      client.on('error', () => undefined);
      await client.connect();
      clients.add(client);
      return client;
    },
    drop: async () => {
      await Promise.all([...clients].map((client) => client.end().catch(() => undefined)));
      await pool.end();
      await administer(`drop database if exists ${name} with (force)`);
    },
  };
}

// Several statements in one text come back as an array that pg's types do not mention.
function lastOf<R extends Row>(result: pg.QueryResult<R>): pg.QueryResult<R> {
  return Array.isArray(result) ? (result.at(-1) as pg.QueryResult<R>) : result;
}

async function administer(sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: addressOf('postgres') });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
