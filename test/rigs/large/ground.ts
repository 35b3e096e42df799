import pg from 'pg';
import { type MemoryS3, startMemoryS3 } from '../../stack/memory-s3.ts';
import { type PrivatePostgres, startPrivatePostgres } from '../../stack/private-postgres.ts';
import { runsTableSql } from '../../stack/runs-table.ts';
import { type RunningCli, runCli, startCli, type Variables } from '../../support/cli.ts';
import { memoryS3Variables } from '../../support/cli-stack.ts';
import { type HttpProxy, startHttpProxy } from '../../support/http-proxy.ts';
import { until } from '../../support/until.ts';
import { runMigrations } from '../../../src/database/migrations.ts';
import { silentLogger } from '../../../src/logger.ts';

/*
What a large case stands on: a Postgres and an S3 of its own, and two real listeners. Time passes for the reactor and
not for the rows: what it remembers lies further back, and what fell due meanwhile is inserted as it is by then.
*/

export const BUCKET = 'dpp-results';
const LISTENERS = 2;
const LIMIT_MS = 900_000;

/** Every point in time that the reactor has written lies further back. */
const AGE = `
do $do$
declare
  v_table record;
begin
  for v_table in
    select c.oid::regclass as name,
      string_agg(format('%1$I = %1$I - interval ''5 minutes''', a.attname), ', ') as changes
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relkind = 'r'
      and c.relnamespace = 'retention'::regnamespace
      and c.relname in ('heartbeat', 'lateness', 'allowance', 'surge')
      and a.atttypid = 'timestamptz'::regtype
    group by c.oid
  loop
    execute format('update %s set %s', v_table.name, v_table.changes);
  end loop;
end
$do$`;

/** Rows to insert by one statement, with an object for each. */
export interface RowsToInsert {
  readonly count: number;
  /** What their keys begin with: how S3's requests tell them apart. */
  readonly kind: string;
  /** How many tenants share them. */
  readonly tenants: number;
  /** Default: `tenant-`. */
  readonly tenant?: string;
  /** Default: `COMPLETED`. */
  readonly status?: string;
  /** When they completed, as intervals before now: spread evenly between the two. */
  readonly from: string;
  readonly to: string;
  /** SQL. Default: null. */
  readonly retainUntil?: string;
}

/** A migrated database with the reactor at work. */
export interface Ground {
  readonly sql: <R extends pg.QueryResultRow>(text: string, values?: unknown[]) => Promise<R[]>;
  readonly count: (what: string) => Promise<number>;
  readonly insert: (rows: RowsToInsert) => Promise<void>;
  /** Adopts the table; of a part of the rows, with that part of the guards. */
  readonly adopt: (scale: number) => Promise<void>;
  readonly startListeners: () => Promise<void>;
  /** What stands between the listeners and S3. */
  readonly proxy: HttpProxy;
  /** Ends a listener without a warning, and starts another. */
  readonly replaceListener: () => Promise<void>;
  /** Ticks until a pass finds no more. */
  readonly tick: () => Promise<void>;
  /** Lets five minutes pass. */
  readonly age: () => Promise<void>;
  /** Runs the command and reads its JSON. */
  readonly ask: <Answer>(...words: readonly string[]) => Promise<Answer>;
  /** How many objects of a kind S3 was asked to delete. */
  readonly asked: (kind: string) => number;
  readonly objects: () => number;
  readonly until: (what: string, holds: () => Promise<boolean> | boolean) => Promise<unknown>;
  readonly [Symbol.asyncDispose]: () => Promise<void>;
}

/** Starts everything but the listeners, over an empty table. */
export async function layLargeGround(): Promise<Ground> {
  const asked = new Map<string, number>();
  const s3 = await startMemoryS3({
    onRequest: ({ operation, keys }) => {
      if (!operation.startsWith('DeleteObject')) return;
      for (const key of keys) {
        const kind = key.slice(0, key.indexOf('/'));
        asked.set(kind, (asked.get(kind) ?? 0) + 1);
      }
    },
  });
  s3.createBucket(BUCKET);
  const proxy = await startHttpProxy(s3.endpoint);
  const postgres = await startPrivatePostgres({
    databaseName: 'app',
    settings: { shared_buffers: '512MB', maintenance_work_mem: '256MB', max_wal_size: '8GB' },
  });
  const pool = new pg.Pool({ connectionString: postgres.url(), max: 4 });
  pool.on('error', () => undefined);
  await pool.query(runsTableSql);
  await pool.query('alter table runs add column retain_until timestamptz');
  return new LargeGround(postgres, s3, proxy, pool, asked);
}

class LargeGround implements Ground {
  readonly #postgres: PrivatePostgres;
  readonly #s3: MemoryS3;
  readonly proxy: HttpProxy;
  readonly #pool: pg.Pool;
  readonly #asked: Map<string, number>;
  readonly #listeners: RunningCli[] = [];

  constructor(
    postgres: PrivatePostgres,
    s3: MemoryS3,
    proxy: HttpProxy,
    pool: pg.Pool,
    asked: Map<string, number>,
  ) {
    this.#postgres = postgres;
    this.#s3 = s3;
    this.proxy = proxy;
    this.#pool = pool;
    this.#asked = asked;
  }

  get #env(): Variables {
    return {
      ...memoryS3Variables(this.#s3),
      S3_ENDPOINT_URL: this.proxy.endpoint,
      S3_RESULT_BUCKET: BUCKET,
      DATABASE_URL: this.#postgres.url(),
      RETENTION_SCHEDULER: 'internal',
      RETENTION_POLL_SECONDS: '1',
      DPP_JSON_LOGS: 'false',
    };
  }

  sql = async <R extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<R[]> =>
    (await this.#pool.query<R>(text, values)).rows;

  count = async (what: string): Promise<number> => {
    const [row] = await this.sql<{ n: string }>(`select (${what}) as n`);
    return Number(row?.n ?? 0);
  };

  insert = async (rows: RowsToInsert): Promise<void> => {
    const made = await this.#pool.query<[string]>({
      rowMode: 'array',
      text: `insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key, retain_until)
        select i.id, $2 || i.n % $3, $4, now() - $5::interval + ($5::interval - $6::interval) * (i.n::float8 / $1),
          '${BUCKET}', $7 || '/' || i.id, ${rows.retainUntil ?? 'null'}
        from (select gen_random_uuid() as id, n from generate_series(0, $1 - 1) n) i
        returning result_s3_key`,
      values: [
        rows.count,
        rows.tenant ?? 'tenant-',
        rows.tenants,
        rows.status ?? 'COMPLETED',
        rows.from,
        rows.to,
        rows.kind,
      ],
    });
    for (const [key] of made.rows) this.#s3.putObject(BUCKET, key);
  };

  adopt = async (scale: number): Promise<void> => {
    await runMigrations({
      databaseUrl: this.#postgres.url(),
      direction: 'up',
      settings: { scheduler: 'internal', columns: 'retain_until=retain_until' },
      logger: silentLogger,
    });
    await this.sql(
      `update retention.setting
      set surge_guard = ceil(surge_guard * $1::float8), surge_guard_all = ceil(surge_guard_all * $1::float8)`,
      [scale],
    );
    await this.sql('vacuum analyze runs');
  };

  startListeners = async (): Promise<void> => {
    for (let index = 0; index < LISTENERS; index += 1) await this.#startListener();
  };

  readonly #startListener = async (): Promise<void> => {
    const listener = startCli(['listen'], { env: { ...this.#env, RETENTION_HTTP_PORT: '0' } });
    this.#listeners.push(listener);
    await listener.waitForLine(/Starting Retention Loop/u, 60_000);
  };

  replaceListener = async (): Promise<void> => {
    this.#listeners.shift()?.kill('SIGKILL');
    await this.#startListener();
  };

  tick = async (): Promise<void> => {
    await this.sql('update retention.heartbeat set passed_at = null');
    for (;;) {
      await this.sql('select retention.tick()');
      const [beat] = await this.sql<{ more: boolean; pass_problem: string | null }>(
        'select more, pass_problem from retention.heartbeat',
      );
      const problem = beat?.pass_problem ?? '';
      if (problem !== '') throw new Error(`a pass failed: ${problem}`);
      if (beat?.more !== true) return;
    }
  };

  age = async (): Promise<void> => {
    await this.sql(AGE);
  };

  ask = async <Answer>(...words: readonly string[]): Promise<Answer> => {
    const { code, stdout, stderr } = await runCli([...words, '--json'], { env: this.#env });
    if (code !== 0) throw new Error(`retention ${words.join(' ')} ended with ${code}: ${stderr}`);
    return JSON.parse(stdout) as Answer;
  };

  asked = (kind: string): number => this.#asked.get(kind) ?? 0;

  objects = (): number => this.#s3.countObjects(BUCKET);

  until = (what: string, holds: () => Promise<boolean> | boolean): Promise<unknown> =>
    until(what, holds, { limitMs: LIMIT_MS, pollMs: 250 });

  [Symbol.asyncDispose] = async (): Promise<void> => {
    await Promise.all(this.#listeners.map((listener) => listener[Symbol.asyncDispose]()));
    await this.#pool.end();
    await this.proxy.close();
    await this.#s3.stop();
    await this.#postgres.stop();
  };
}
