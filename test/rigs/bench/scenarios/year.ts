import type pg from 'pg';
import { type Bench, BUCKET, type BenchDatabase, type Scenario } from '../bench.ts';
import { type Figure, median } from '../figure.ts';
import { startListener, untilDrained } from '../work.ts';

/*
A year of a platform in about an hour. The clock stands still and the rows and the policy move: each day's runs completed
a day after those before, and the policy for everybody is a day shorter, so that those of a day fall due. The first runs
completed a year and a month ago.
*/

const DAYS = 365;
const KEPT_DAYS = 30;
const TENANTS = 1_000;
const RUNS_A_MONTH = 2_000_000;
const DAYS_A_MONTH = 365 / 12;
const QUARTERS = 4;
/** Autovacuum looks once a minute, and a day is over in seconds. */
const DAYS_BETWEEN_VACUUMS = 7;
/** On two days of each fortnight the store refuses one request of three. */
const FORTNIGHT = 14;
const FAULTY_DAYS = 2;
const REFUSED_ONE_OF = 3;

/** The runs of day $1, counted from the first on; $2: how many. A key is as long as a real one. */
const INSERT_DAY = `
insert into runs (
  run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key, created_at, updated_at
)
select m.run_id, 'tenant-' || (random() * ${TENANTS - 1})::int, 'COMPLETED',
  now() - make_interval(days => ${DAYS + KEPT_DAYS}) + $1::int * interval '1 day' + m.n * (interval '1 day' / $2::int),
  '${BUCKET}', 'results/' || m.run_id || '.json', now(), now()
from (select n, gen_random_uuid() as run_id from generate_series(1, $2::int) n) m`;

/** What grew by the end of a quarter. */
interface Quarter {
  readonly passMilliseconds: number;
  readonly statusMilliseconds: number;
  /** Of our indexes on the application's table. */
  readonly indexBytes: number;
  /** Of this schema's tables, with their indexes. */
  readonly tableBytes: number;
  readonly cleared: number;
}

/** What a year leaves behind: sizes, and the time of a pass and of status, quarter by quarter. */
export const year: Scenario = {
  name: 'year',
  run: async (bench) => {
    const runsADay = Math.max(Math.round(bench.rows(RUNS_A_MONTH) / DAYS_A_MONTH), 1);
    bench.say(`year: ${runsADay} runs a day, ${DAYS} days`);
    const database = await bench.makeDatabase(async (query) => {
      for (let day = 0; day < KEPT_DAYS; day += 1) await query(INSERT_DAY, [day, runsADay]);
    });
    await database.query(
      `update retention.setting set surge_guard = null, pause_base = '100 ms', pause_cap = '1 second'`,
    );
    const listener = await startListener(database);
    try {
      const quarters = await liveThrough(bench, database, runsADay);
      return figuresOf(quarters, runsADay);
    } finally {
      await bench.s3.ask({ refuseOneOf: 0 });
      await listener.stop();
      await database.drop();
    }
  },
};

async function liveThrough(
  bench: Bench,
  database: BenchDatabase,
  runsADay: number,
): Promise<Quarter[]> {
  const session = await database.connect();
  const quarters: Quarter[] = [];
  let passes: number[] = [];
  for (let day = 1; day <= DAYS; day += 1) {
    const isFaulty = day % FORTNIGHT < FAULTY_DAYS;
    await bench.s3.ask({ refuseOneOf: isFaulty ? REFUSED_ONE_OF : 0 });
    await session.query(INSERT_DAY, [KEPT_DAYS + day - 1, runsADay]);
    // As if a day had passed: to its triggers it would be a shorter policy.
    await session.query('set session_replication_role = replica');
    await session.query(
      `update retention.policy set retain = make_interval(days => $1) where tenant_id = '*'`,
      [DAYS + KEPT_DAYS - day],
    );
    await session.query('reset session_replication_role');
    passes.push(await passOf(session));
    await untilDrained(database);
    if (day % DAYS_BETWEEN_VACUUMS === 0) await session.query('vacuum analyze');
    if (day === Math.round((DAYS * (quarters.length + 1)) / QUARTERS)) {
      await session.query('vacuum analyze');
      quarters.push(await lookAt(session, median(passes)));
      passes = [];
      bench.say(`year: ${quarters.length} of ${QUARTERS} quarters are over`);
    }
  }
  return quarters;
}

/** Flags all that fell due with a day: the milliseconds of the passes that found something. */
async function passOf(session: pg.Client): Promise<number> {
  let milliseconds = 0;
  for (;;) {
    const startedAt = performance.now();
    const { rows } = await session.query<{ flagged: number }>(
      'select retention.flag_expired(p_wait => true) as flagged',
    );
    if (rows[0]?.flagged === 0) return milliseconds;
    milliseconds += performance.now() - startedAt;
  }
}

async function lookAt(session: pg.Client, passMilliseconds: number): Promise<Quarter> {
  const times: number[] = [];
  for (let read = 0; read < 15; read += 1) {
    const startedAt = performance.now();
    await session.query('select * from retention.status');
    times.push(performance.now() - startedAt);
  }
  const { rows } = await session.query<{ indexes: string; tables: string; cleared: string }>(
    `select pg_relation_size('retention_live') + pg_relation_size('retention_key') as indexes,
      (
        select sum(pg_total_relation_size(c.oid))
        from pg_class c
        where c.relnamespace = 'retention'::regnamespace
          and c.relkind = 'r'
      ) as tables,
      (select count(*) from runs where result_cleared_at is not null) as cleared`,
  );
  return {
    passMilliseconds,
    statusMilliseconds: median(times),
    indexBytes: Number(rows[0]?.indexes),
    tableBytes: Number(rows[0]?.tables),
    cleared: Number(rows[0]?.cleared),
  };
}

function figuresOf(quarters: readonly Quarter[], runsADay: number): Figure[] {
  const [first] = quarters;
  const last = quarters.at(-1);
  if (first === undefined || last === undefined) throw new Error('the year had no quarter');
  if (last.cleared !== DAYS * runsADay) {
    throw new Error(`expected ${DAYS * runsADay} results to be cleared, got ${last.cleared}`);
  }
  const figure = (
    name: string,
    title: string,
    of: (quarter: Quarter) => number,
    unit: string,
  ): Figure => ({
    name,
    title: `a year of 1,000 tenants and 2,000,000 runs a month: ${title}, last quarter / first`,
    unit: '×',
    samples: [of(last) / of(first)],
    target: { is: 'at most', value: 1.3 },
    detail: `${quarters.map((quarter) => of(quarter).toFixed(1)).join(', ')} ${unit}`,
  });
  const megabyte = 1024 ** 2;
  return [
    figure('year-pass', 'the pass of a day', (it) => it.passMilliseconds, 'ms'),
    figure('year-status', 'status', (it) => it.statusMilliseconds, 'ms'),
    figure('year-indexes', 'our indexes on the table', (it) => it.indexBytes / megabyte, 'MB'),
    figure(
      'year-tables',
      'what the schema keeps for each cleared result',
      (it) => it.tableBytes / it.cleared,
      'bytes',
    ),
  ];
}
