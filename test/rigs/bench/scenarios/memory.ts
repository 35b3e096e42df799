import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Bench, BenchDatabase, Scenario } from '../bench.ts';
import { drawBacklog } from '../backlog-plot.ts';
import { type Figure, median, ratios } from '../figure.ts';
import { peakMegabytes } from '../processes.ts';
import { PROJECT } from '../../../stack/project.ts';
import { type BacklogPoint, drainShown, startListener } from '../work.ts';
import { flaggedDatabase } from './drain.ts';

/** The memory of a listener after few and after many results; and the curve of the many. */
export const memory: Scenario = {
  name: 'memory',
  run: async (bench) => {
    const megabytes = { few: [] as number[], many: [] as number[] };
    const rates: number[] = [];
    const sizes = { few: bench.rows(10_000), many: bench.rows(1_000_000) };
    const bases = {
      few: await flaggedDatabase(bench, sizes.few),
      many: await flaggedDatabase(bench, sizes.many),
    };
    for (let run = 0; run < bench.options.runs; run += 1) {
      bench.say(`memory: run ${run + 1}`);
      for (const size of ['few', 'many'] as const) {
        const points: BacklogPoint[] = [];
        const drained = await bench.onCopy(bases[size], (copy) => drainAndLook(copy, points));
        megabytes[size].push(drained.megabytes);
        if (size === 'many') rates.push(sizes.many / drained.seconds);
        if (size === 'many' && run === 0) plot(bench, points);
      }
    }
    await Promise.all([bases.few.drop(), bases.many.drop()]);
    return [
      {
        name: 'memory-ratio',
        title: 'peak memory draining 1,000,000 / draining 10,000',
        unit: '×',
        samples: ratios(megabytes.many, megabytes.few),
        target: { is: 'at most', value: 1.2 },
        detail: `${Math.round(median(rates))}/s over the whole`,
      },
      {
        name: 'memory-peak',
        title: 'peak memory draining 1,000,000',
        unit: 'MB',
        samples: megabytes.many,
        target: { is: 'at most', value: 200 },
      },
    ] satisfies Figure[];
  },
};

async function drainAndLook(
  copy: BenchDatabase,
  points: BacklogPoint[],
): Promise<{ seconds: number; megabytes: number }> {
  const listener = await startListener(copy);
  try {
    const seconds = await drainShown(copy, points);
    return { seconds, megabytes: peakMegabytes(listener.pid) };
  } finally {
    await listener.stop();
  }
}

function plot(bench: Bench, points: readonly BacklogPoint[]): void {
  const file = bench.options.plot
    ? join(PROJECT, 'docs/backlog.svg')
    : join(PROJECT, '.scratch/bench/backlog.svg');
  writeFileSync(file, drawBacklog(points));
  bench.say(`memory: the backlog against time is drawn in ${file}`);
}
