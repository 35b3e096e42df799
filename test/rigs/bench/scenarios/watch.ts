import type pg from 'pg';
import { type Bench, type BenchDatabase, INSERT_RUNS, type Scenario } from '../bench.ts';
import { type Figure, median, quantile, ratios } from '../figure.ts';
import { ranSeconds } from '../processes.ts';
import { drainShown, flagHidden, startListener } from '../work.ts';

/** How often a scrape comes, and what it may cost of a core. */
const SCRAPE_SECONDS = 10;

const READS = 15;
const FRESH_SESSIONS = 5;
const PATHS = ['/metrics', '/status.json', '/', '/readyz'] as const;

/** What status costs, by size, and how long a scrape takes beside a drain. */
export const watch: Scenario = {
  name: 'watch',
  run: async (bench) => {
    const one = bench.rows(1_000_000);
    bench.say('watch: making tables of 1,000,000, 2,000,000 and 10,000,000 rows');
    const base = await young(bench, one, 200, 0);
    const tenants = await young(
      bench,
      bench.rows(1_700_000),
      bench.rows(20_000),
      bench.rows(300_000),
    );
    const large = await young(bench, bench.rows(9_000_000), 200, one);
    const flagged = await bench.copyDatabase(large);
    await flagHidden(flagged);
    const places = { base, tenants, large, flagged };
    const reads: Record<Place, Read[]> = { base: [], tenants: [], large: [], flagged: [] };
    const bare: number[] = [];
    const scrapes: Record<Path | 'bare', number[]> = {
      '/metrics': [],
      '/status.json': [],
      '/': [],
      '/readyz': [],
      bare: [],
    };
    for (let run = 0; run < bench.options.runs; run += 1) {
      bench.say(`watch: run ${run + 1}`);
      for (const place of Object.keys(places) as Place[]) {
        reads[place].push(await read(places[place]));
      }
      bare.push(await bareRead(base));
      const took = await bench.onCopy(flagged, besideDrain);
      for (const path of [...PATHS, 'bare'] as const) scrapes[path].push(took[path]);
    }
    for (const database of [base, tenants, large, flagged]) await database.drop();
    return [...figuresOfReads(reads, bare), ...figuresOfScrapes(scrapes)];
  },
};

type Place = 'base' | 'tenants' | 'large' | 'flagged';
type Path = (typeof PATHS)[number];

/** What one reading of `retention.status` takes, in milliseconds. */
interface Read {
  /** Of a session that has read it before. */
  readonly warm: number;
  /** The first of a session. */
  readonly first: number;
  /** The processor time of a warm one. */
  readonly cpu: number;
}

/** Completed runs of so many tenants, most of them young, without a guard. */
async function young(
  bench: Bench,
  rows: number,
  tenants: number,
  due: number,
): Promise<BenchDatabase> {
  const database = await bench.makeDatabase(async (query) => {
    if (due > 0) await query(INSERT_RUNS, [due, tenants, '40 days']);
    await query(INSERT_RUNS, [rows, tenants, '20 days']);
  });
  await database.query('update retention.setting set surge_guard = null');
  return database;
}

async function read(database: BenchDatabase): Promise<Read> {
  const firsts: number[] = [];
  for (let n = 0; n < FRESH_SESSIONS; n += 1) {
    const session = await database.connect();
    firsts.push(await timed(session, 'select * from retention.status'));
    await session.end();
  }
  const session = await database.connect();
  const { rows } = await session.query<{ pid: number }>('select pg_backend_pid() as pid');
  // A plan is kept from the sixth call on.
  for (let n = 0; n < 6; n += 1) await session.query('select * from retention.status');
  const ran = ranSeconds(rows[0]?.pid ?? 0);
  const warm: number[] = [];
  for (let n = 0; n < READS; n += 1) {
    warm.push(await timed(session, 'select * from retention.status'));
  }
  const cpu = ((ranSeconds(rows[0]?.pid ?? 0) - ran) * 1_000) / READS;
  await session.end();
  return { warm: median(warm), first: median(firsts), cpu };
}

/** The least that a look can take: the first statement of a session, with one row. */
async function bareRead(database: BenchDatabase): Promise<number> {
  const times: number[] = [];
  for (let n = 0; n < FRESH_SESSIONS; n += 1) {
    const session = await database.connect();
    times.push(await timed(session, 'select * from retention.setting'));
    await session.end();
  }
  return median(times);
}

async function timed(session: pg.Client, sql: string): Promise<number> {
  const startedAt = performance.now();
  await session.query(sql);
  return performance.now() - startedAt;
}

/** The 99th percentile of each path in milliseconds while a listener drains, and of one that asks nothing. */
async function besideDrain(database: BenchDatabase): Promise<Record<Path | 'bare', number>> {
  const listener = await startListener(database, { RETENTION_HTTP_PORT: '0' });
  try {
    const base = /http:\/\/[\w.:]+\//u.exec(listener.stdout + listener.stderr)?.[0];
    if (base === undefined) throw new Error('the listener did not say where it serves');
    const get = async (path: string): Promise<number> => {
      const startedAt = performance.now();
      await (await fetch(new URL(path, base))).text();
      return performance.now() - startedAt;
    };
    for (const path of PATHS) await get(path);
    const drained = new AbortController();
    const drain = drainShown(database).finally(() => drained.abort());
    const took: Record<Path | 'bare', number[]> = {
      '/metrics': [],
      '/status.json': [],
      '/': [],
      '/readyz': [],
      bare: [],
    };
    while (!drained.signal.aborted) {
      for (const path of PATHS) took[path].push(await get(path));
      took.bare.push(await get('/healthz'));
    }
    await drain;
    const p99 = (path: Path | 'bare'): number => quantile(took[path], 0.99);
    return {
      '/metrics': p99('/metrics'),
      '/status.json': p99('/status.json'),
      '/': p99('/'),
      '/readyz': p99('/readyz'),
      bare: p99('bare'),
    };
  } finally {
    await listener.stop();
  }
}

function figuresOfReads(reads: Record<Place, readonly Read[]>, bare: readonly number[]): Figure[] {
  const of = (place: Place, what: keyof Read): number[] => reads[place].map((it) => it[what]);
  const ms = (some: readonly number[]): string => `${median(some).toFixed(1)} ms`;
  const places: readonly (readonly [Place, string])[] = [
    ['base', '1,000,000 rows, 200 tenants, nothing due'],
    ['large', '10,000,000 rows, 200 tenants, 1,000,000 due and none flagged'],
    ['flagged', 'the same with 1,000,000 flagged'],
    ['tenants', '2,000,000 rows, 20,000 tenants, 300,000 due'],
  ];
  return [
    ...places.flatMap(([place, title]): Figure[] => [
      {
        name: `status-${place}`,
        title: `status: ${title}`,
        unit: 'ms',
        samples: of(place, 'warm'),
        target: { is: 'at most', value: 25 },
        detail: `the first of a session ${ms(of(place, 'first'))}, a bare one ${ms(bare)}`,
      },
    ]),
    ...places.slice(1).map(([place, title]): Figure => ({
      name: `status-${place}-growth`,
      title: `status: ${title} / 1,000,000 rows and nothing due, processor time`,
      unit: '×',
      samples: ratios(of(place, 'cpu'), of('base', 'cpu')),
      target: { is: 'at most', value: 2.5 },
      detail: `${ms(of(place, 'cpu'))} / ${ms(of('base', 'cpu'))}`,
    })),
    {
      name: 'scrape-core',
      title: `a scrape every ${SCRAPE_SECONDS} s: share of a core of the database`,
      unit: '%',
      samples: of('flagged', 'cpu').map((cpu) => (cpu / 1_000 / SCRAPE_SECONDS) * 100),
      target: { is: 'at most', value: 0.2 },
    },
  ];
}

function figuresOfScrapes(scrapes: Record<Path | 'bare', readonly number[]>): Figure[] {
  return PATHS.map((path) => ({
    name: `scrape-${path === '/' ? 'page' : path.slice(1).replace('.json', '')}`,
    title: `GET ${path} beside a drain of 1,000,000, 99th percentile`,
    unit: 'ms',
    samples: scrapes[path],
    target: { is: 'at most', value: 100 },
    detail: `/healthz, which asks nothing: ${median(scrapes.bare).toFixed(1)} ms`,
  }));
}
