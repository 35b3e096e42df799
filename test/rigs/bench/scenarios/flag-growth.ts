import type pg from 'pg';
import { type Bench, BUCKET, type BenchDatabase, INSERT_RUNS, type Scenario } from '../bench.ts';
import { type Figure, median, ratios } from '../figure.ts';

const NEWLY_DUE = 1_000;
/** A pass takes some 20 ms, so one alone would tell what else the machine did in that moment. */
const PASSES = 9;

/** What a flagging pass costs while the table, the backlog or the share of what is kept long grows. */
export const flagGrowth: Scenario = {
  name: 'flag-growth',
  run: async (bench) => {
    const many = bench.rows(10_000_000);
    bench.say(`flag-growth: making tables of ${many} and ${many / 10} rows`);
    const large = await keptDatabase(bench, many);
    const small = await keptDatabase(bench, Math.round(many / 10));
    const sessions = { large: await large.connect(), small: await small.connect() };
    const backlog = bench.rows(100_000);
    const times: Times = { small: [], large: [], backlog: [], oneTenant: [], longPolicies: [] };
    // The first pass of a session reads catalogs and plans.
    for (const session of [sessions.small, sessions.large]) await timePasses(session);
    for (let run = 0; run < bench.options.runs; run += 1) {
      bench.say(`flag-growth: run ${run + 1}`);
      times.small.push(await timePasses(sessions.small));
      times.large.push(await timePasses(sessions.large));
      times.oneTenant.push(await timePasses(sessions.large, undefined, 1));
      times.longPolicies.push(await timePasses(sessions.large, keepMostLong, 1));
      times.backlog.push(await timePasses(sessions.large, (it) => makeBacklog(it, backlog)));
      // What was undone is still in the index, for every later pass to walk over, until it is vacuumed.
      for (const session of [sessions.small, sessions.large]) {
        await session.query('vacuum (index_cleanup on) runs');
      }
    }
    await Promise.all([large.drop(), small.drop()]);
    return compare(times);
  },
};

type Times = Record<'small' | 'large' | 'backlog' | 'oneTenant' | 'longPolicies', number[]>;

function compare(times: Times): Figure[] {
  const ms = (some: readonly number[]): string => `${median(some).toFixed(1)} ms`;
  const figure = (
    name: string,
    title: string,
    [above, below]: readonly [readonly number[], readonly number[]],
    limit: number,
  ): Figure => ({
    name,
    title,
    unit: '×',
    samples: ratios(above, below),
    target: { is: 'at most', value: limit },
    detail: `${ms(above)} / ${ms(below)}`,
  });
  return [
    figure(
      'flag-table',
      'flag: 1,000 newly due of 10,000,000 / of 1,000,000 rows',
      [times.large, times.small],
      1.3,
    ),
    figure(
      'flag-backlog',
      'flag: 1,000 newly due behind a backlog of 100,000 / of 0',
      [times.backlog, times.large],
      1.5,
    ),
    figure(
      'flag-policies',
      'flag: 1,000 newly due, 90 % of 10,000,000 rows past the default but kept long / none',
      [times.longPolicies, times.oneTenant],
      1.5,
    ),
  ];
}

/** Rows of ten tenants that are all kept: those of tenant-0 completed 5 days ago, the others 20. */
async function keptDatabase(bench: Bench, rows: number): Promise<BenchDatabase> {
  const database = await bench.makeDatabase(async (query) => {
    await query('alter table runs drop constraint runs_pkey');
    await query(INSERT_RUNS, [rows, 10, '20 days']);
    await query(
      `update runs set completed_at = completed_at + interval '15 days' where tenant_id = 'tenant-0'`,
    );
    await query('vacuum runs');
    await query('alter table runs add primary key (run_id)');
  });
  // A pass before: what it leaves is the progress that the next goes on from.
  await database.query('select retention.flag_expired()');
  return database;
}

/** The median of some passes, each with 1,000 results newly due and undone afterwards. */
async function timePasses(
  session: pg.Client,
  before: (session: pg.Client) => Promise<unknown> = () => Promise.resolve(),
  tenants = 10,
): Promise<number> {
  const times: number[] = [];
  await session.query('begin');
  try {
    await before(session);
    while (times.length < PASSES) {
      await session.query('savepoint before_pass');
      await session.query(INSERT_RUNS, [NEWLY_DUE, tenants, '31 days']);
      times.push(await timePass(session));
      await session.query('rollback to before_pass');
    }
  } finally {
    await session.query('rollback');
  }
  return median(times);
}

async function timePass(session: pg.Client): Promise<number> {
  const startedAt = performance.now();
  const { rows } = await session.query<{ flagged: number }>(
    'select retention.flag_expired() as flagged',
  );
  const milliseconds = performance.now() - startedAt;
  if (rows[0]?.flagged !== NEWLY_DUE) {
    throw new Error(`expected ${NEWLY_DUE} results to be flagged, got ${rows[0]?.flagged}`);
  }
  return milliseconds;
}

/** So many results that passes before have flagged and nobody has worked on. */
async function makeBacklog(session: pg.Client, results: number): Promise<void> {
  await session.query(
    `insert into runs (
      run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key, created_at, updated_at
    )
    select gen_random_uuid(), 'tenant-' || n % 10, 'COMPLETED',
      now() - interval '32 days' + n * interval '1 millisecond', $2, 'backlog/' || n, now(), now()
    from generate_series(1, $1::int) n`,
    [results, BUCKET],
  );
  await session.query(
    `insert into retention.batch (bucket, results, oldest, newest, due_since, run_ids, keys, tenants)
    select $1, count(*), min(r.completed_at), max(r.completed_at), now(),
      array_agg(r.run_id), array_agg(r.result_s3_key), array_agg(r.tenant_id)
    from (
      select *, (row_number() over (order by completed_at) - 1) / 1000 as part
      from runs
      where result_s3_key like 'backlog/%'
    ) r
    group by r.part`,
    [BUCKET],
  );
  // Passes have gone over it, so progress stands behind it.
  await session.query(
    `insert into retention.progress (tenant_key, completed_at, run_id)
    select distinct on (r.tenant_id) retention._tenant_key(r.tenant_id), r.completed_at, r.run_id
    from runs r
    where r.result_s3_key like 'backlog/%'
    order by r.tenant_id, r.completed_at desc, r.run_id desc
    on conflict (tenant_key) do update
    set completed_at = excluded.completed_at, run_id = excluded.run_id`,
  );
  await session.query('update retention.heartbeat set swept_at = now()');
}

/** Nine of ten tenants are kept for ten years; what they have is past the new default policy. */
async function keepMostLong(session: pg.Client): Promise<void> {
  await session.query(`update retention.policy set retain = '10 days' where tenant_id = '*'`);
  await session.query(
    `insert into retention.policy (tenant_id, retain)
    select 'tenant-' || n, interval '3650 days' from generate_series(1, 9) n`,
  );
}
