import { setTimeout as delay } from 'node:timers/promises';
import { type BenchDatabase, INSERT_RUNS, type Scenario } from '../bench.ts';
import { type Figure, median, ratios } from '../figure.ts';
import { startPart } from '../processes.ts';
import { drainShown, flagHidden, startListener } from '../work.ts';

const PHASE_MILLISECONDS = 4_000;

interface Latency {
  readonly p50: number;
  readonly p99: number;
}

/** What the application's own updates take while results are deleted beside them. */
export const beside: Scenario = {
  name: 'beside',
  run: async (bench) => {
    const rows = bench.rows(100_000);
    const base = await bench.makeDatabase(async (query) => {
      await query(INSERT_RUNS, [rows, 10, '40 days']);
      await query(INSERT_RUNS, [rows, 10, '20 days']);
    });
    await flagHidden(base);
    const phase = Math.max(PHASE_MILLISECONDS * Math.min(bench.options.scale * 10, 1), 500);
    const latencies: Record<'alone' | 'full' | 'fifth', Latency[]> = {
      alone: [],
      full: [],
      fifth: [],
    };
    for (let run = 0; run < bench.options.runs; run += 1) {
      bench.say(`beside: run ${run + 1}`);
      const rate = await bench.onCopy(base, async (copy) => {
        const full = await besideDrain(copy, phase, {});
        latencies.alone.push(full.alone);
        latencies.full.push(full.draining);
        return rows / full.seconds;
      });
      const ceiling = Math.max(Math.round(rate / 5), 1);
      await bench.onCopy(base, async (copy) => {
        const env = { DPP_RETENTION_MAX_DELETES_PER_SECOND: String(ceiling) };
        latencies.fifth.push((await besideDrain(copy, phase, env)).draining);
      });
    }
    await base.drop();
    const p99 = (some: readonly Latency[]): number[] => some.map((each) => each.p99);
    const ms = (some: readonly Latency[]): string =>
      `${median(p99(some)).toFixed(2)} ms (p50 ${median(some.map((each) => each.p50)).toFixed(2)})`;
    const figure = (name: 'full' | 'fifth', title: string, limit: number): Figure => ({
      name: `beside-${name}`,
      title,
      unit: '×',
      samples: ratios(p99(latencies[name]), p99(latencies.alone)),
      target: { is: 'at most', value: limit },
      detail: `${ms(latencies[name])} / ${ms(latencies.alone)}`,
    });
    return [
      figure('full', "the application's updates, p99 beside a drain at full speed / alone", 2),
      figure('fifth', 'the same beside a drain held to a fifth of that speed / alone', 1.2),
    ];
  },
};

/** Latency before the work is shown and while it is worked on. */
async function besideDrain(
  copy: BenchDatabase,
  phase: number,
  env: Readonly<Record<string, string>>,
): Promise<{ alone: Latency; draining: Latency; seconds: number }> {
  const application = await startPart('application');
  const listener = await startListener(copy, env);
  try {
    await application.ask({ prepare: copy.url });
    const measure = async (until: Promise<unknown>): Promise<Latency> => {
      await application.ask({ go: 'start' });
      await until;
      return application.ask<Latency>({ go: 'stop' });
    };
    const alone = await measure(delay(phase));
    const drained = drainShown(copy);
    const isWhole = Object.keys(env).length === 0;
    const draining = await measure(isWhole ? drained : Promise.race([drained, delay(phase)]));
    // What is broken off is dropped with its database.
    drained.catch(() => undefined);
    const seconds = isWhole ? await drained : phase / 1_000;
    await application.ask({ go: 'end' });
    return { alone, draining, seconds };
  } finally {
    await Promise.all([application.stop(), listener.stop()]);
  }
}
