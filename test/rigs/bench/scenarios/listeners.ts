import type { BenchDatabase, Scenario } from '../bench.ts';
import { type Figure, median, ratios } from '../figure.ts';
import { flaggedDatabase, runDrain } from './drain.ts';

/** Enough for each of four to have worked a while: what is measured is work, and not how they begin. */
const WARM_UP_BATCHES = 200;
const BATCH_SIZE = 1_000;
/** The target is nearer to what is measured than two samples are to each other: one in each run is few. */
const ROUNDS_PER_RUN = 2;

/** More listener processes on the same work. */
export const listeners: Scenario = {
  name: 'listeners',
  run: async (bench) => {
    const rows = bench.rows(300_000);
    const warmUp = Math.round(WARM_UP_BATCHES * bench.options.scale);
    const all = rows + warmUp * BATCH_SIZE;
    const base = await flaggedDatabase(bench, all);
    const rates: Record<1 | 2 | 4, number[]> = { 1: [], 2: [], 4: [] };
    const cpus: Record<1 | 2 | 4, string> = { 1: '', 2: '', 4: '' };
    const measure = async (processes: 1 | 2 | 4): Promise<void> =>
      bench.onCopy(base, async (copy) => {
        const { seconds, cpu, said } = await runDrain(bench, copy, processes, warmUp);
        await checkWork(copy, all, said);
        cpus[processes] = cpu;
        rates[processes].push(rows / seconds);
      });
    const rounds = bench.options.runs * ROUNDS_PER_RUN;
    for (let round = 0; round < rounds; round += 1) {
      bench.say(`listeners: round ${round + 1}`);
      for (const processes of [1, 2, 4] as const) await measure(processes);
    }
    await measure(1);
    await base.drop();
    // The one before and the one after, so that what became slower meanwhile drops out.
    const single = rates[1]
      .slice(1)
      .map((after, index) => (after + (rates[1][index] ?? after)) / 2);
    const perSecond = (some: readonly number[]): string => `${Math.round(median(some))}/s`;
    return ([2, 4] as const).map((processes): Figure => ({
      name: `drain-${processes}-listeners`,
      title: `drain with ${processes} listener processes / with 1`,
      unit: '×',
      samples: ratios(rates[processes], single),
      // Two cores are busy with one: what is asked for is that it does not fall.
      target: { is: 'at least', value: 0.95 },
      detail:
        `${perSecond(rates[processes])} / ${perSecond(rates[1])}; no error, nothing twice; ` +
        `${cpus[processes]} / with 1: ${cpus[1]}`,
    }));
  },
};

/** Every result once, and nothing to complain of. */
async function checkWork(copy: BenchDatabase, rows: number, said: string): Promise<void> {
  const [work] = await copy.query<{ cleared: number; stamped: number; attempts: number }>(
    `select (select sum(cleared)::int from retention.batch) as cleared,
      (select count(*)::int from runs where result_cleared_at is not null) as stamped,
      (select max(attempts) from retention.batch) as attempts`,
  );
  const isOnce = work?.cleared === rows && work.stamped === rows && work.attempts === 0;
  const complaints = said.split('\n').filter((line) => /\b(?:WARNING|ERROR)\b/u.test(line));
  if (!isOnce || complaints.length > 0) {
    throw new Error(`expected ${rows} results once each, got ${JSON.stringify(work)}:\n${said}`);
  }
}
