import { INSERT_RUNS, type Scenario, TENANTS } from '../bench.ts';
import type { Figure } from '../figure.ts';
import { drainShown, flagHidden, startListener } from '../work.ts';

const CEILING = 2_000;
const SECONDS = 40;
const LISTENERS = 4;
const WINDOW_MILLISECONDS = 10_000;

interface Request {
  readonly at: number;
  readonly keys: number;
}

/** Four listeners under one ceiling of a bucket, as S3 sees them. */
export const ceiling: Scenario = {
  name: 'ceiling',
  run: async (bench) => {
    const rows = bench.rows(CEILING * SECONDS);
    const most: number[] = [];
    const least: number[] = [];
    const statements: number[] = [];
    const base = await bench.makeDatabase((query) =>
      query(INSERT_RUNS, [rows, TENANTS, '40 days']),
    );
    await base.query('update retention.setting set surge_guard = null');
    await flagHidden(base);
    await base.query(`update retention.bucket set max_per_second = $1`, [
      Math.ceil(CEILING * bench.options.scale),
    ]);
    for (let run = 0; run < bench.options.runs; run += 1) {
      bench.say(`ceiling: run ${run + 1}`);
      await bench.onCopy(base, async (copy) => {
        const listeners = await Promise.all(
          Array.from({ length: LISTENERS }, () => startListener(copy)),
        );
        try {
          await bench.s3.ask({ forget: true });
          await copy.query('select pg_stat_statements_reset()');
          const seconds = await drainShown(copy);
          const [row] = await copy.query<{ calls: number }>(
            `select sum(calls)::int as calls from pg_stat_statements where query ~ 'retention.(claim|pulse|settle)'`,
          );
          const { times } = await bench.s3.ask<{ times: readonly Request[] }>({ times: true });
          const rates = ratesOf(times).map((rate) => rate / bench.options.scale);
          most.push(Math.max(...rates));
          least.push(Math.min(...rates));
          statements.push((row?.calls ?? 0) / seconds);
        } finally {
          await Promise.all(listeners.map((listener) => listener.stop()));
        }
      });
    }
    await base.drop();
    const title = `four listeners under a ceiling of 2,000 a second, as S3 sees them: a window of ten seconds with the`;
    return [
      {
        name: 'ceiling-most',
        title: `${title} most, results a second`,
        unit: '/s',
        samples: most,
        target: { is: 'at most', value: CEILING },
      },
      {
        name: 'ceiling-least',
        title: `${title} fewest, results a second`,
        unit: '/s',
        samples: least,
        target: { is: 'at least', value: CEILING * 0.95 },
        detail: `${statements.map((each) => each.toFixed(0)).join(', ')} statements a second of all four together`,
      },
    ] satisfies Figure[];
  },
};

/** Results a second in each window that begins with a request, as far as it lies within the work. */
function ratesOf(times: readonly Request[]): number[] {
  const last = times.at(-1)?.at ?? 0;
  return times
    .filter(({ at }) => at + WINDOW_MILLISECONDS <= last)
    .map(({ at }) =>
      times
        .filter((other) => other.at >= at && other.at < at + WINDOW_MILLISECONDS)
        .reduce((sum, { keys }) => sum + keys, 0),
    )
    .map((keys) => keys / (WINDOW_MILLISECONDS / 1_000));
}
