import { type BenchDatabase, INSERT_RUNS, type Scenario, TENANTS } from '../bench.ts';
import { median, ratios } from '../figure.ts';
import { runCommand } from '../processes.ts';
import { runFloor } from './drain.ts';

/** One command that flags and deletes all that is due, from its start to its end. */
export const reconcile: Scenario = {
  name: 'reconcile',
  run: async (bench) => {
    const rows = bench.rows(100_000);
    const base = await bench.makeDatabase((query) =>
      query(INSERT_RUNS, [rows, TENANTS, '40 days']),
    );
    const rates = { floor: [] as number[], reconcile: [] as number[] };
    for (let run = 0; run < bench.options.runs; run += 1) {
      bench.say(`reconcile: run ${run + 1}`);
      rates.floor.push(rows / (await bench.onCopy(base, (copy) => runFloor(bench, copy, rows))));
      rates.reconcile.push(rows / (await bench.onCopy(base, (copy) => runReconcile(copy, rows))));
    }
    await base.drop();
    const perSecond = (some: readonly number[]): string => `${Math.round(median(some))}/s`;
    return [
      {
        name: 'reconcile-to-floor',
        title: 'retention reconcile of 100,000 due, start included / floor, results per second',
        unit: '×',
        samples: ratios(rates.reconcile, rates.floor),
        target: { is: 'at least', value: 0.45 },
        detail: `reconcile ${perSecond(rates.reconcile)}, floor ${perSecond(rates.floor)}`,
      },
    ];
  },
};

async function runReconcile(copy: BenchDatabase, rows: number): Promise<number> {
  await copy.query('select count(*) from runs');
  const startedAt = performance.now();
  await runCommand(['reconcile'], copy.env);
  const seconds = (performance.now() - startedAt) / 1_000;
  const [work] = await copy.query<{ stamped: number }>(
    'select count(*)::int as stamped from runs where result_cleared_at is not null',
  );
  if (work?.stamped !== rows) throw new Error(`${work?.stamped} of ${rows} results were stamped`);
  return seconds;
}
