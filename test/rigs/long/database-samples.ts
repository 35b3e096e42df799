import pg from 'pg';
import type { PrivatePostgres } from '../../stack/private-postgres.ts';

/** What the server holds for the reactor. */
export interface DatabaseSample {
  /** By name of the application, how many sessions the reactor's role has. */
  readonly sessions: Readonly<Record<string, number>>;
  readonly tables: Readonly<Record<string, TableSample>>;
}

/** One table of the schema. */
export interface TableSample {
  readonly tableKb: number;
  readonly indexesKb: number;
  readonly deadTuples: number;
}

/** A trail that is kept for ever: it grows by what people do, and not by what passes through. */
const KEPT = ['hold'];

/** A server that is coming up, or whose tables are locked, is not looked at. */
const PATIENCE_MS = 3_000;

/** Counts dead tuples, where the server has the means; elsewhere they are what Postgres believes. */
export async function prepareToCount(postgres: PrivatePostgres): Promise<boolean> {
  const found = await postgres.sql(
    `select count(*) from pg_available_extensions where name = 'pgstattuple'`,
    'app',
  );
  if (found !== '1') return false;
  await postgres.sql('create extension pgstattuple schema history', 'app');
  return true;
}

/** Looks at the server; undefined when it has no answer. */
export async function sampleDatabase(
  url: string,
  role: string,
  counts: boolean,
): Promise<DatabaseSample | undefined> {
  const client = new pg.Client({
    connectionString: url,
    application_name: 'the sampler',
    connectionTimeoutMillis: PATIENCE_MS,
    query_timeout: PATIENCE_MS,
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
    const sessions = await client.query<{ name: string; sessions: number }>(
      `select application_name as name, count(*)::int as sessions
      from pg_stat_activity where usename = $1 group by 1`,
      [role],
    );
    const tables = await client.query<TableSample & { readonly name: string }>(
      `select c.relname as name,
        pg_table_size(c.oid)::float8 / 1024 as "tableKb",
        pg_indexes_size(c.oid)::float8 / 1024 as "indexesKb",
        ${counts ? '(history.pgstattuple(c.oid::regclass)).dead_tuple_count' : 'pg_stat_get_dead_tuples(c.oid)'}::float8
          as "deadTuples"
      from pg_class c
      where c.relnamespace = 'retention'::regnamespace and c.relkind = 'r' and c.relname <> all($1)`,
      [KEPT],
    );
    return {
      sessions: Object.fromEntries(sessions.rows.map(({ name, sessions: count }) => [name, count])),
      tables: Object.fromEntries(tables.rows.map(({ name, ...sizes }) => [name, sizes])),
    };
  } catch {
    return undefined;
  } finally {
    await client.end().catch(() => undefined);
  }
}
