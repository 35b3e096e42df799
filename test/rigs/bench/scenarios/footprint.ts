import { execFile } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Bench, type BenchDatabase, INSERT_RUNS, type Scenario } from '../bench.ts';
import { type Figure, median, ratios } from '../figure.ts';

const run = promisify(execFile);

const ROWS = 10_000_000;
const TENANTS = 200;
/** Lives whose log is measured at once. */
const LIVES = 200_000;
/** Of each half of a pair. */
const PAGES_SECONDS = 20;
const SESSIONS = 4;

/** The same table as the application's, which retention never heard of. */
const BARE_TABLE = `create table bare (like runs including defaults, primary key (run_id))`;

type Table = 'runs' | 'bare';

const LIFE = (table: Table): string[] => [
  `insert into ${table} (run_id, tenant_id, status)
  select gen_random_uuid(), 'tenant-' || n % ${TENANTS}, 'PENDING' from generate_series(1, $1::int) n`,
  `update ${table} set status = 'RUNNING', updated_at = now() where status = 'PENDING' and $1 > 0`,
  `update ${table} set status = 'COMPLETED', completed_at = clock_timestamp(), updated_at = now(),
    result_s3_bucket = 'dpp-results', result_s3_key = 'results/' || run_id || '.json'
  where status = 'RUNNING' and $1 > 0`,
];

/** A page of the application's that creates a run, one that starts it, and one that completes it. */
const PAGES = (table: Table): string => `
\\set n random(1, 9000000000000000)
\\set tenant random(1, ${TENANTS})
insert into ${table} (run_id, tenant_id, status) values (md5(:n::text)::uuid, 'tenant-' || :tenant, 'PENDING');
update ${table} set status = 'RUNNING', updated_at = now() where run_id = md5(:n::text)::uuid;
update ${table} set status = 'COMPLETED', completed_at = now(), updated_at = now(),
  result_s3_bucket = 'dpp-results', result_s3_key = 'results/' || run_id || '.json' where run_id = md5(:n::text)::uuid;
`;

/** What our two indexes cost the application: room, log, and transactions of its own. */
export const footprint: Scenario = {
  name: 'footprint',
  run: async (bench) => {
    const rows = bench.rows(ROWS);
    bench.say(`footprint: making a table of ${rows} rows`);
    const database = await bench.makeDatabase((query) =>
      query(INSERT_RUNS, [rows, TENANTS, '20 days']),
    );
    const figures = [await bytesOf(database, rows), await logOf(bench)];
    const pages = await pagesOf(bench, database);
    await database.drop();
    return [...figures, ...pages];
  },
};

async function bytesOf(database: BenchDatabase, rows: number): Promise<Figure> {
  const [size] = await database.query<{ live: string; key: string; bare: string }>(
    `select pg_relation_size('retention_live') as live, pg_relation_size('retention_key') as key,
      pg_relation_size('runs_pkey') as bare`,
  );
  const each = (bytes: string | undefined): number => Number(bytes) / rows;
  return {
    name: 'footprint-bytes',
    title: 'footprint: bytes of our indexes for each live row of 10,000,000',
    unit: 'bytes',
    samples: [each(size?.live) + each(size?.key)],
    target: { is: 'at most', value: 70 },
    detail:
      `${each(size?.live).toFixed(1)} of retention_live and ${each(size?.key).toFixed(1)} of retention_key; ` +
      `the primary key over uuid has ${each(size?.bare).toFixed(1)}`,
  };
}

/** In tables that are empty at first: else it would be whole pages, of which each is logged once after a checkpoint. */
async function logOf(bench: Bench): Promise<Figure> {
  const database = await bench.makeDatabase(() => Promise.resolve());
  const lives = bench.rows(LIVES);
  const bytes = { runs: [] as number[], bare: [] as number[] };
  await database.query(BARE_TABLE);
  for (let n = 0; n < bench.options.runs; n += 1) {
    bench.say(`footprint: log, run ${n + 1}`);
    for (const table of inTurn(n)) bytes[table].push(await logOfLife(database, table, lives));
  }
  await database.drop();
  return {
    name: 'footprint-log',
    title: 'footprint: log of a run’s life (insert, two updates) with / without our indexes',
    unit: '×',
    samples: ratios(bytes.runs, bytes.bare),
    target: { is: 'at most', value: 1.12 },
    detail: `${Math.round(median(bytes.runs))} / ${Math.round(median(bytes.bare))} bytes, written ${lives} at a time`,
  };
}

async function logOfLife(database: BenchDatabase, table: Table, lives: number): Promise<number> {
  await database.query(`truncate ${table}`);
  await database.query('checkpoint');
  const before = await writtenBytes(database);
  for (const statement of LIFE(table)) await database.query(statement, [lives]);
  return ((await writtenBytes(database)) - before) / lives;
}

async function writtenBytes(database: BenchDatabase): Promise<number> {
  const [row] = await database.query<{ bytes: string }>(
    `select pg_current_wal_insert_lsn() - '0/0' as bytes`,
  );
  return Number(row?.bytes);
}

/** Pairs of the application's own pages; none where the server came without pgbench. */
async function pagesOf(bench: Bench, database: BenchDatabase): Promise<Figure[]> {
  const pgbench = join(bench.postgres.binFolder, 'pgbench');
  if (!existsSync(pgbench)) return [];
  await database.query(BARE_TABLE);
  await database.query('insert into bare select * from runs');
  await database.query('vacuum analyze bare');
  const seconds = Math.max(Math.round(PAGES_SECONDS * Math.min(bench.options.scale * 10, 1)), 5);
  const rates = { runs: [] as number[], bare: [] as number[] };
  const bytes = { runs: [] as number[], bare: [] as number[] };
  for (let n = 0; n < bench.options.runs; n += 1) {
    bench.say(`footprint: pages, pair ${n + 1}`);
    for (const table of inTurn(n)) {
      const script = join(bench.folder, `pages-${table}.sql`);
      writeFileSync(script, PAGES(table));
      await database.query('checkpoint');
      const before = await writtenBytes(database);
      const { rate, lives } = await runPages(pgbench, script, database, seconds);
      rates[table].push(rate);
      bytes[table].push(((await writtenBytes(database)) - before) / lives);
    }
  }
  return [
    {
      name: 'footprint-pages',
      title:
        'footprint: the application creates, starts and completes runs with / without us, a second',
      unit: '×',
      samples: ratios(rates.runs, rates.bare),
      target: { is: 'at least', value: 0.95 },
      detail: `${Math.round(median(rates.runs))} / ${Math.round(median(rates.bare))} runs a second, ${SESSIONS} sessions`,
    },
    {
      name: 'footprint-pages-log',
      title:
        'footprint: log of such a run with / without us, each change a transaction, whole pages with it',
      unit: '×',
      samples: ratios(bytes.runs, bytes.bare),
      detail:
        `${Math.round(median(bytes.runs))} / ${Math.round(median(bytes.bare))} bytes; ` +
        'without us no index has a column that changes, so that each update stays in its page',
    },
  ];
}

async function runPages(
  pgbench: string,
  script: string,
  database: BenchDatabase,
  seconds: number,
): Promise<{ readonly rate: number; readonly lives: number }> {
  const { stdout } = await run(pgbench, [
    '--no-vacuum',
    '--protocol=prepared',
    `--client=${SESSIONS}`,
    `--time=${seconds}`,
    `--file=${script}`,
    database.url,
  ]);
  const rate = Number(/tps = ([\d.]+)/u.exec(stdout)?.[1]);
  const lives = Number(/transactions actually processed: (\d+)/u.exec(stdout)?.[1]);
  if (!(rate > 0 && lives > 0)) throw new Error(`pgbench said:\n${stdout}`);
  return { rate, lives };
}

/** Whichever is first gains or loses by it, so that they take turns. */
function inTurn(n: number): readonly Table[] {
  return n % 2 === 0 ? ['bare', 'runs'] : ['runs', 'bare'];
}
