import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { type PrivatePostgres, startPrivatePostgres } from '../../stack/private-postgres.ts';
import { runsTableSql } from '../../stack/runs-table.ts';
import type { Figure } from './figure.ts';
import type { BenchOptions } from './options.ts';
import { type Part, runCommand, startPart } from './processes.ts';

/**
 * The same for everything that is measured, on a server that writes to disk for real. An ordinary server
 * has at least this much shared memory; what is not named here is at its default.
 */
export const POSTGRES_SETTINGS = {
  shared_buffers: '512MB',
  huge_pages: 'off',
  shared_preload_libraries: 'pg_stat_statements',
} as const;

/** The application's table: rows with more in them than retention needs. */
export const PAYLOAD_BYTES = 200;
export const TENANTS = 50;

const APPLICATION_TABLE = `${runsTableSql}
alter table runs add payload text not null default repeat('x', ${PAYLOAD_BYTES});`;

export const BUCKET = 'dpp-results';

/** A database of the benchmark's server. */
export interface BenchDatabase {
  readonly name: string;
  readonly url: string;
  query<Row extends object = Record<string, unknown>>(
    sql: string,
    values?: readonly unknown[],
  ): Promise<Row[]>;
  /** A session of one's own; ended with the database. */
  connect(): Promise<pg.Client>;
  /** The settings with which a command finds it and the null S3. */
  readonly env: Readonly<Record<string, string>>;
  drop(): Promise<void>;
}

/** What scenarios are run with. */
export interface Bench {
  readonly options: BenchOptions;
  readonly postgres: PrivatePostgres;
  readonly s3: Part;
  readonly s3Endpoint: string;
  /** A folder that is removed at the end. */
  readonly folder: string;
  /** Tells what is under way. */
  say(line: string): void;
  /** So many rows at this scale. */
  rows(count: number): number;
  /** Makes a database with `runs` filled by `fill` and the schema migrated. */
  makeDatabase(fill: (query: BenchDatabase['query']) => Promise<unknown>): Promise<BenchDatabase>;
  /** A copy of a database, for one run. */
  copyDatabase(database: BenchDatabase): Promise<BenchDatabase>;
  /** Runs `work` on a copy, which is dropped after. */
  onCopy<Result>(
    database: BenchDatabase,
    work: (copy: BenchDatabase) => Promise<Result>,
  ): Promise<Result>;
}

/** One file of `scenarios/`. */
export interface Scenario {
  readonly name: string;
  run(bench: Bench): Promise<Figure[]>;
}

/** Starts what every scenario stands on, for as long as `work` takes. */
export async function withBench(
  options: BenchOptions,
  work: (bench: Bench) => Promise<void>,
): Promise<void> {
  const say = (line: string): void => void process.stderr.write(`${line}\n`);
  const folder = mkdtempSync(join(tmpdir(), 'retention-bench-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
  const postgres = await startPrivatePostgres({ settings: POSTGRES_SETTINGS, durable: true });
  const s3 = await startPart('null-s3');
  try {
    await postgres.sql('create extension if not exists pg_stat_statements');
    const { endpoint } = await s3.ask<{ endpoint: string }>({});
    await work(new RunningBench(options, postgres, s3, { endpoint, folder, say }));
  } finally {
    await s3.stop();
    await postgres.stop();
  }
}

class RunningBench implements Bench {
  readonly options: BenchOptions;
  readonly postgres: PrivatePostgres;
  readonly s3: Part;
  readonly s3Endpoint: string;
  readonly folder: string;
  readonly say: (line: string) => void;
  #databases = 0;

  constructor(
    options: BenchOptions,
    postgres: PrivatePostgres,
    s3: Part,
    rest: Pick<Bench, 'folder' | 'say'> & { readonly endpoint: string },
  ) {
    this.options = options;
    this.postgres = postgres;
    this.s3 = s3;
    this.s3Endpoint = rest.endpoint;
    this.folder = rest.folder;
    this.say = rest.say;
  }

  rows(count: number): number {
    return Math.max(Math.round(count * this.options.scale), 1);
  }

  async makeDatabase(
    fill: (query: BenchDatabase['query']) => Promise<unknown>,
  ): Promise<BenchDatabase> {
    const name = this.#nextName();
    await this.postgres.sql(`create database ${name}`);
    await this.postgres.sql('create extension pg_stat_statements', name);
    const database = this.#open(name);
    await database.query(APPLICATION_TABLE);
    await fill((...statement) => database.query(...statement));
    await runCommand(['migrate', 'up'], database.env);
    await database.query('vacuum analyze');
    return database;
  }

  async copyDatabase(database: BenchDatabase): Promise<BenchDatabase> {
    const name = this.#nextName();
    await disconnected(this.postgres, database.name);
    await this.postgres.sql(`create database ${name} template ${database.name} strategy file_copy`);
    // A copy deletes only where somebody has said so.
    await this.postgres.sql(
      `do $$ begin
        if to_regprocedure('retention.accept_fence(text)') is not null then
          perform retention.accept_fence('a benchmark works on its copies');
        end if;
      end $$`,
      name,
    );
    return this.#open(name);
  }

  async onCopy<Result>(
    database: BenchDatabase,
    work: (copy: BenchDatabase) => Promise<Result>,
  ): Promise<Result> {
    const copy = await this.copyDatabase(database);
    try {
      return await work(copy);
    } finally {
      await copy.drop();
    }
  }

  #nextName(): string {
    this.#databases += 1;
    return `bench_${this.#databases}`;
  }

  #open(name: string): BenchDatabase {
    const url = this.postgres.url(name);
    const sessions: pg.Client[] = [];
    const connect = async (): Promise<pg.Client> => {
      const session = new pg.Client({ connectionString: url });
      // The server's end is not to hide what went wrong before it.
      session.on('error', () => undefined);
      await session.connect();
      sessions.push(session);
      return session;
    };
    return {
      name,
      url,
      env: {
        DATABASE_URL: url,
        S3_ENDPOINT_URL: this.s3Endpoint,
        S3_RESULT_BUCKET: '*',
        RETENTION_SCHEDULER: 'internal',
        DPP_JSON_LOGS: 'false',
      },
      connect,
      query: async <Row extends object>(sql: string, values: readonly unknown[] = []) => {
        // One at a time and never kept: a database with a session cannot be copied.
        const session = new pg.Client({ connectionString: url });
        await session.connect();
        try {
          return (await session.query(sql, [...values])).rows as Row[];
        } finally {
          await session.end();
        }
      },
      drop: async () => {
        await Promise.all(sessions.map((session) => session.end()));
        await this.postgres.sql(`drop database ${name} with (force)`);
      },
    };
  }
}

async function disconnected(postgres: PrivatePostgres, name: string): Promise<void> {
  await postgres.sql(
    `select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '${name}'`,
  );
}

/** Fills `runs` with completed runs, oldest first. Keys are as long as real ones. */
export const INSERT_RUNS = `
insert into runs (
  run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key, created_at, updated_at
)
select m.run_id, 'tenant-' || m.n % $2::int, 'COMPLETED',
  now() - $3::interval + m.n * interval '1 millisecond', '${BUCKET}', 'results/' || m.run_id || '.json',
  now() - interval '60 days', now() - interval '60 days'
from (select n, gen_random_uuid() as run_id from generate_series(1, $1::int) n) m`;
