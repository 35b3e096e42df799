import {
  type Bench,
  BUCKET,
  type BenchDatabase,
  INSERT_RUNS,
  type Scenario,
  TENANTS,
} from '../bench.ts';
import { type Figure, median, ratios } from '../figure.ts';
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { describeCpuProfiles, describeStatements, profileFlags } from '../profile.ts';
import { childrenCpuSeconds, cpuSeconds, startPart } from '../processes.ts';
import { drainShown, flagHidden, startListener, warmUp } from '../work.ts';

const CONCURRENCY = 4;
const LOOP_SHARE = 50;
/** They take two seconds each, and a noisy machine changes its pace within that: one in each run is few. */
const PAIRS_PER_RUN = 3;
/** Then what is measured is work, and not how a process begins. */
const WARM_UP_BATCHES = 60;
const BATCH_SIZE = 1_000;

/** From flagged to cleared, against the least work that can do the job and against the loop. */
export const drain: Scenario = {
  name: 'drain',
  run: async (bench) => {
    const rows = bench.rows(100_000);
    const warmUpBatches = Math.round(WARM_UP_BATCHES * bench.options.scale);
    const base = await flaggedDatabase(bench, rows);
    const warmBase = await flaggedDatabase(bench, rows + warmUpBatches * BATCH_SIZE);
    const seconds = { floor: [], drain: [], warmFloor: [], warmDrain: [] } as Record<
      'floor' | 'drain' | 'warmFloor' | 'warmDrain',
      number[]
    >;
    const loopRates: number[] = [];
    const cpu = { drain: '', warmDrain: '' };
    for (let run = 0; run < bench.options.runs; run += 1) {
      bench.say(`drain: run ${run + 1}`);
      for (let pair = 0; pair < PAIRS_PER_RUN; pair += 1) {
        seconds.floor.push(await bench.onCopy(base, (copy) => runFloor(bench, copy, rows)));
        const drained = await bench.onCopy(base, (copy) => runDrain(bench, copy, 1));
        seconds.drain.push(drained.seconds);
        cpu.drain = drained.cpu;
      }
      const warmFloor = await bench.onCopy(warmBase, (copy) =>
        runFloor(bench, copy, rows, warmUpBatches),
      );
      seconds.warmFloor.push(warmFloor);
      const warmDrained = await bench.onCopy(warmBase, (copy) =>
        runDrain(bench, copy, 1, warmUpBatches),
      );
      seconds.warmDrain.push(warmDrained.seconds);
      cpu.warmDrain = warmDrained.cpu;
      const loopRows = Math.max(Math.round(rows / LOOP_SHARE), 10);
      const loopSeconds = await bench.onCopy(base, (copy) => runLoop(bench, copy, loopRows));
      loopRates.push(loopRows / loopSeconds);
    }
    if (bench.options.profile) await bench.onCopy(base, (copy) => profileDrain(bench, copy));
    await Promise.all([base.drop(), warmBase.drop()]);
    const rate = (some: readonly number[]): number[] => some.map((each) => rows / each);
    const perSecond = (some: readonly number[]): string => `${Math.round(median(some))}/s`;
    const floorRates = rate(seconds.floor);
    const drainRates = rate(seconds.drain);
    const [warmFloorRates, warmDrainRates] = [rate(seconds.warmFloor), rate(seconds.warmDrain)];
    return [
      {
        name: 'drain-to-floor',
        title: 'drain / floor, results per second',
        unit: '×',
        samples: ratios(drainRates, floorRates),
        target: { is: 'at least', value: 0.75 },
        detail: `drain ${perSecond(drainRates)}, floor ${perSecond(floorRates)}; ${cpu.drain}`,
      },
      {
        name: 'drain-to-floor-warm',
        title: 'the same, when both have worked before',
        unit: '×',
        samples: ratios(warmDrainRates, warmFloorRates),
        detail: `drain ${perSecond(warmDrainRates)}, floor ${perSecond(warmFloorRates)}; ${cpu.warmDrain}`,
      },
      {
        name: 'drain-to-loop',
        title: 'drain / loop, results per second',
        unit: '×',
        samples: ratios(
          drainRates.filter((_, index) => index % PAIRS_PER_RUN === PAIRS_PER_RUN - 1),
          loopRates,
        ),
        target: { is: 'at least', value: 40 },
        detail: `drain ${perSecond(drainRates)}, loop ${perSecond(loopRates)}`,
      },
    ] satisfies Figure[];
  },
};

/** A database with so many flagged results that nobody sees yet. */
export async function flaggedDatabase(bench: Bench, rows: number): Promise<BenchDatabase> {
  const base = await bench.makeDatabase((query) => query(INSERT_RUNS, [rows, TENANTS, '40 days']));
  await flagHidden(base);
  return base;
}

/** DeleteObjects and the bare UPDATE, four at once; returns the seconds. */
export async function runFloor(
  bench: Bench,
  copy: BenchDatabase,
  rows: number,
  warmUpBatches = 0,
): Promise<number> {
  await copy.query('select count(*) from runs');
  const part = await startPart('floor');
  const place = { url: copy.url, endpoint: bench.s3Endpoint, bucket: BUCKET };
  try {
    const all = rows + warmUpBatches * BATCH_SIZE;
    await part.ask({ prepare: place, concurrency: CONCURRENCY, rows: all });
    if (warmUpBatches > 0) await part.ask({ go: 'floor', batches: warmUpBatches });
    const { seconds } = await part.ask<{ seconds: number }>({ go: 'floor' });
    await part.ask({ end: true });
    return seconds;
  } finally {
    await part.stop();
  }
}

async function runLoop(bench: Bench, copy: BenchDatabase, rows: number): Promise<number> {
  const part = await startPart('floor');
  const place = { url: copy.url, endpoint: bench.s3Endpoint, bucket: BUCKET };
  try {
    await part.ask({ prepare: place, concurrency: 1, rows });
    const { seconds } = await part.ask<{ seconds: number }>({ go: 'loop' });
    await part.ask({ end: true });
    return seconds;
  } finally {
    await part.stop();
  }
}

/** One more drain, watched closely and therefore not measured. */
async function profileDrain(bench: Bench, copy: BenchDatabase): Promise<void> {
  const folder = mkdtempSync(join(bench.folder, 'profile-'));
  await copy.query(`alter database ${copy.name} set pg_stat_statements.track = 'all'`);
  const listener = await startListener(copy, {}, profileFlags(folder));
  await drainShown(copy);
  await listener.stop();
  for (const line of describeCpuProfiles(folder)) bench.say(line);
  for (const line of await describeStatements(copy)) bench.say(line);
}

/**
 * Drains with so many listener processes.
 *
 * @param warmUpBatches are worked off before and not counted.
 */
export async function runDrain(
  bench: Bench,
  copy: BenchDatabase,
  processes: number,
  warmUpBatches = 0,
): Promise<{ seconds: number; cpu: string; said: string }> {
  await copy.query('select count(*) from runs');
  const listeners = await Promise.all(Array.from({ length: processes }, () => startListener(copy)));
  try {
    if (warmUpBatches > 0) await warmUp(copy, warmUpBatches);
    const used = (): number[] => [
      listeners.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0),
      childrenCpuSeconds(bench.postgres.pid ?? 0),
      cpuSeconds(bench.s3.pid),
    ];
    const before = used();
    const seconds = await drainShown(copy);
    const [listener, postgres, s3] = used().map((it, index) => it - (before[index] ?? 0));
    const [row] = await copy.query<{ batches: number }>(
      `select count(*)::int - $1 as batches from retention.batch where cleared > 0`,
      [warmUpBatches],
    );
    const each = (it = 0): string => ((it / (row?.batches ?? 1)) * 1_000).toFixed(1);
    return {
      seconds,
      cpu: `CPU ms per batch: listener ${each(listener)}, Postgres ${each(postgres)}, S3 ${each(s3)}`,
      said: listeners.map(({ stderr }) => stderr).join(''),
    };
  } finally {
    await Promise.all(listeners.map((listener) => listener.stop()));
  }
}
