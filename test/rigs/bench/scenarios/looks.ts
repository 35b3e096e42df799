import type pg from 'pg';
import { type Bench, type BenchDatabase, INSERT_RUNS, type Scenario } from '../bench.ts';
import { type Figure, median, ratios } from '../figure.ts';

const ROWS = 2_000_000;
const TENANTS = 20_000;
/** Rows are a millisecond apart when they are made; here they cover as many days as rows of a busy month. */
const SPREAD = `update runs set completed_at = now() - interval '35 days'
  + (completed_at - (select min(completed_at) from runs)) * $1::double precision`;
const DAYS = 33.4;
const MILLISECONDS_A_DAY = 86_400_000;

const IS_LIVE = `status = 'COMPLETED' and result_cleared_at is null and result_s3_key is not null`;

/** What a person looks at before anything is deleted, each beside the bare count of the same rows. */
const LOOKS = {
  'dry-run': {
    title: 'dry run of 300,000 due of 2,000,000, 20,000 tenants / a bare aggregate',
    bare: `select tenant_id, result_s3_bucket, count(*), min(completed_at) from runs
      where ${IS_LIVE} and completed_at < now() - interval '30 days' group by 1, 2`,
    ours: 'select * from retention.count_due()',
  },
  'policy-preview': {
    title: 'preview of a shorter default policy / a bare count',
    bare: `select tenant_id, count(*) from runs
      where ${IS_LIVE} and completed_at between now() - interval '30 days' and now() - interval '20 days' group by 1`,
    ours: `select * from retention.preview_policy('*', '20 days')`,
  },
  upcoming: {
    title: 'upcoming, a week of it / a bare aggregate by day',
    bare: `select (completed_at + interval '30 days')::date, tenant_id, result_s3_bucket, count(*) from runs
      where ${IS_LIVE} and completed_at < now() - interval '22 days' group by 1, 2, 3`,
    ours: 'select * from retention.upcoming(7)',
  },
} as const;

/** First looks: what a dry run, a preview and upcoming take, without a backlog and beside one. */
export const looks: Scenario = {
  name: 'looks',
  run: async (bench) => {
    const rows = bench.rows(ROWS);
    bench.say(`looks: making a table of ${rows} rows`);
    const database = await bench.makeDatabase(async (query) => {
      await query(INSERT_RUNS, [
        rows,
        Math.max(Math.round(TENANTS * bench.options.scale), 1),
        '60 days',
      ]);
      await query(SPREAD, [(DAYS * MILLISECONDS_A_DAY) / rows]);
      await query('vacuum full runs');
    });
    await database.query('update retention.setting set surge_guard = null');
    const free = await timeLooks(bench, database, 'no backlog');
    const tenant = await timeTenant(bench, database);
    await flagAll(database);
    const behind = await timeLooks(bench, database, 'all due flagged');
    const tenantBehind = await timeTenant(bench, database);
    await database.drop();
    return [
      ...figuresOf(free, ''),
      ...figuresOf(behind, ', all of them flagged'),
      {
        name: 'tenant-behind-backlog',
        title: 'select the due results of one tenant, all due flagged / none',
        unit: '×',
        samples: ratios(tenantBehind, tenant),
        target: { is: 'at most', value: 1.5 },
        detail: `${inMilliseconds(tenantBehind)} / ${inMilliseconds(tenant)}`,
      } satisfies Figure,
    ];
  },
};

type Name = keyof typeof LOOKS;
type Times = Record<Name, { readonly bare: number[]; readonly ours: number[] }>;

async function timeLooks(bench: Bench, database: BenchDatabase, what: string): Promise<Times> {
  const times: Times = {
    'dry-run': { bare: [], ours: [] },
    'policy-preview': { bare: [], ours: [] },
    upcoming: { bare: [], ours: [] },
  };
  const session = await database.connect();
  for (let run = 0; run < bench.options.runs; run += 1) {
    bench.say(`looks: ${what}, run ${run + 1}`);
    for (const name of Object.keys(LOOKS) as Name[]) {
      times[name].bare.push(await time(session, LOOKS[name].bare));
      times[name].ours.push(await time(session, LOOKS[name].ours));
    }
  }
  return times;
}

function figuresOf(times: Times, suffix: string): Figure[] {
  return (Object.keys(LOOKS) as Name[]).map((name) => ({
    name: suffix === '' ? name : `${name}-behind-backlog`,
    title: LOOKS[name].title + suffix,
    unit: '×',
    samples: ratios(times[name].ours, times[name].bare),
    target: { is: 'at most', value: 3 },
    detail: `${inMilliseconds(times[name].ours)} / ${inMilliseconds(times[name].bare)}`,
  }));
}

/** What a narrowed reconcile does before it deletes; undone each time. */
async function timeTenant(bench: Bench, database: BenchDatabase): Promise<number[]> {
  const session = await database.connect();
  const times: number[] = [];
  for (let run = 0; run < bench.options.runs; run += 1) {
    await session.query('begin');
    times.push(await time(session, `select * from retention.flag_selected('tenant-7')`));
    await session.query('rollback');
  }
  return times;
}

async function flagAll(database: BenchDatabase): Promise<void> {
  const session = await database.connect();
  for (;;) {
    const { rows } = await session.query<{ flagged: number }>(
      `select retention.flag_expired(p_asked_by => 'bench')::int as flagged`,
    );
    if (rows[0]?.flagged === 0) break;
  }
  await session.query('vacuum analyze');
}

async function time(session: pg.Client, statement: string): Promise<number> {
  const startedAt = performance.now();
  await session.query(statement);
  return performance.now() - startedAt;
}

function inMilliseconds(some: readonly number[]): string {
  return `${Math.round(median(some))} ms`;
}
