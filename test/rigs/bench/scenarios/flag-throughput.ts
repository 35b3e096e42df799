import { BUCKET, type BenchDatabase, INSERT_RUNS, type Scenario, TENANTS } from '../bench.ts';
import { type Figure, median, ratios } from '../figure.ts';

/** The ids and keys of the same rows into a table with a key and nothing else, in one statement. */
const BARE_TABLE = 'create table bare (run_id uuid primary key, key text not null)';
const BARE = `
insert into bare (run_id, key)
select run_id, result_s3_key
from runs
where tenant_id = any ($1)
  and status = 'COMPLETED'
  and completed_at < now() - interval '30 days'
  and result_cleared_at is null
  and result_s3_key is not null`;

/** The first run over years of backlog: pass after pass until nothing is left to flag. */
export const flagThroughput: Scenario = {
  name: 'flag-throughput',
  run: async (bench) => {
    const rows = bench.rows(1_000_000);
    bench.say(`flag-throughput: making a table of ${rows} rows`);
    const base = await bench.makeDatabase((query) =>
      query(INSERT_RUNS, [rows, TENANTS, '90 days']),
    );
    const seconds = { bare: [] as number[], passes: [] as number[] };
    const longest: number[] = [];
    const passCounts: number[] = [];
    for (let run = 0; run < bench.options.runs; run += 1) {
      bench.say(`flag-throughput: run ${run + 1}`);
      seconds.bare.push(await bench.onCopy(base, insertBare));
      const passes = await bench.onCopy(base, (copy) => flagAll(copy, rows));
      seconds.passes.push(passes.reduce((sum, each) => sum + each, 0));
      longest.push(Math.max(...passes));
      passCounts.push(passes.length);
    }
    await base.drop();
    const rate = (some: readonly number[]): string => `${Math.round(rows / median(some))}/s`;
    return [
      {
        name: 'flag-throughput',
        title: 'flag 1,000,000 due / a bare INSERT ... SELECT, results per second',
        unit: '×',
        samples: ratios(seconds.bare, seconds.passes),
        target: { is: 'at least', value: 1 },
        detail: `flag ${rate(seconds.passes)} in ${median(passCounts)} passes, bare ${rate(seconds.bare)}`,
      },
      {
        name: 'flag-longest-pass',
        title: 'flag: the longest of those passes',
        unit: 's',
        samples: longest,
        target: { is: 'at most', value: 1 },
      },
    ] satisfies Figure[];
  },
};

async function insertBare(copy: BenchDatabase): Promise<number> {
  await copy.query(BARE_TABLE);
  await copy.query('select count(*) from runs');
  const tenants = Array.from({ length: TENANTS }, (_, index) => `tenant-${index}`);
  const startedAt = performance.now();
  await copy.query(BARE, [tenants]);
  return (performance.now() - startedAt) / 1_000;
}

async function flagAll(copy: BenchDatabase, rows: number): Promise<number[]> {
  await copy.query('select count(*) from runs');
  const session = await copy.connect();
  const seconds: number[] = [];
  let flagged = 0;
  while (flagged < rows) {
    const startedAt = performance.now();
    const { rows: found } = await session.query<{ flagged: number }>(
      `select retention.flag_expired(p_asked_by => 'bench') as flagged`,
    );
    seconds.push((performance.now() - startedAt) / 1_000);
    const newly = found[0]?.flagged ?? 0;
    if (newly === 0)
      throw new Error(`only ${flagged} of ${rows} results in ${BUCKET} were flagged`);
    flagged += newly;
  }
  return seconds;
}
