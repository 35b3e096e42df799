import { cpus } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { type Latency, INSERT_LIVE_RUNS, findApplication, latency } from '../application.ts';
import { type Bench, type BenchDatabase, INSERT_RUNS, type Scenario, TENANTS } from '../bench.ts';
import { type Figure, median, ratios } from '../figure.ts';
import { startPart } from '../processes.ts';
import { drainShown, flagHidden, startListener } from '../work.ts';

const PHASE_SECONDS = 4;

/** A session of pgbench's and a listener have connected and planned by then. */
const WARM_UP_MILLISECONDS = 500;

/** As many as a drain at full speed has: the listener and a session for each slot. */
const READY_PROCESSES = 5;

/** What the application is measured beside: a drain, or processes that only count. */
type Beside = 'full' | 'fifth' | 'busy' | 'busy-many' | 'busy-fifth';

type Application = NonNullable<ReturnType<typeof findApplication>>;

/** What the application's own updates take while results are deleted beside them. */
export const beside: Scenario = {
  name: 'beside',
  run: async (bench) => {
    const application = findApplication(bench);
    if (application === undefined) {
      bench.say('beside: left out, for there is no pgbench beside this server');
      return [];
    }
    // More than a phase at full speed can work off.
    const rows = bench.rows(400_000);
    const base = await bench.makeDatabase(async (query) => {
      await query(INSERT_RUNS, [rows, TENANTS, '40 days']);
      await query(INSERT_LIVE_RUNS);
    });
    await flagHidden(base);
    const latencies: Record<Beside | 'alone', Latency[]> = {
      alone: [],
      full: [],
      fifth: [],
      busy: [],
      'busy-many': [],
      'busy-fifth': [],
    };
    const rates: Record<'full' | 'fifth', number[]> = { full: [], fifth: [] };
    for (let run = 0; run < bench.options.runs; run += 1) {
      bench.say(`beside: run ${run + 1}`);
      const measure = async (env: Readonly<Record<string, string>>): Promise<Measured> =>
        bench.onCopy(base, (copy) => besideDrain(bench, application, copy, env));
      const full = await measure({});
      latencies.alone.push(full.alone);
      latencies.full.push(full.draining);
      rates.full.push(full.rate);
      const ceiling = Math.max(Math.round(full.rate / 5), 1);
      const fifth = await measure({ DPP_RETENTION_MAX_DELETES_PER_SECOND: String(ceiling) });
      latencies.fifth.push(fifth.draining);
      rates.fifth.push(fifth.rate);
      const busy = (processes: number, share: number): Promise<Latency> =>
        bench.onCopy(base, (copy) => besideCounting(bench, application, copy, processes, share));
      latencies.busy.push(await busy(cpus().length, 1));
      latencies['busy-many'].push(await busy(READY_PROCESSES, 1));
      latencies['busy-fifth'].push(await busy(cpus().length, 1 / 5));
    }
    await base.drop();
    const p99 = (some: readonly Latency[]): number[] => some.map((each) => each.p99);
    const ms = (some: readonly Latency[]): string => {
      const of = (name: keyof Latency): string => median(some.map((each) => each[name])).toFixed(2);
      return `${of('p99')} ms (p50 ${of('p50')}, waited for a processor ${of('waited')})`;
    };
    const figure = (name: Beside, title: string): Figure => ({
      name: `beside-${name}`,
      title,
      unit: '×',
      samples: ratios(p99(latencies[name]), p99(latencies.alone)),
      detail: `${ms(latencies[name])} / ${ms(latencies.alone)}`,
    });
    const drained = (name: 'full' | 'fifth', title: string, value: number): Figure => {
      const { detail, ...rest } = figure(name, title);
      const rate = `${Math.round(median(rates[name]))}/s deleted meanwhile`;
      return { ...rest, target: { is: 'at most', value }, detail: `${detail}; ${rate}` };
    };
    return [
      drained('full', "the application's updates, p99 beside a drain at full speed / alone", 2),
      figure('busy-many', `the same beside ${READY_PROCESSES} processes that only count / alone`),
      figure('busy', 'the same beside one for each core / alone'),
      drained('fifth', 'the same beside a drain held to a fifth of that speed / alone', 1.2),
      figure('busy-fifth', 'the same beside one for each core, a fifth of the time / alone'),
    ];
  },
};

interface Measured {
  readonly alone: Latency;
  readonly draining: Latency;
  /** Results per second while it was measured. */
  readonly rate: number;
}

/** Latency beside a process for each core that counts for this share of the time. */
async function besideCounting(
  bench: Bench,
  application: Application,
  copy: BenchDatabase,
  processes: number,
  share: number,
): Promise<Latency> {
  const parts = await Promise.all(Array.from({ length: processes }, () => startPart('busy', true)));
  try {
    await application(copy, 1);
    await Promise.all(parts.map((part) => part.ask({ share })));
    await delay(WARM_UP_MILLISECONDS);
    return latency(await application(copy, phaseSeconds(bench)));
  } finally {
    await Promise.all(parts.map((part) => part.stop()));
  }
}

function phaseSeconds(bench: Bench): number {
  return Math.max(Math.round(PHASE_SECONDS * Math.min(bench.options.scale * 10, 1)), 1);
}

/** Latency before the work is shown and while it is worked on. */
async function besideDrain(
  bench: Bench,
  application: Application,
  copy: BenchDatabase,
  env: Readonly<Record<string, string>>,
): Promise<Measured> {
  const seconds = phaseSeconds(bench);
  const listener = await startListener(copy, env);
  try {
    await application(copy, 1);
    const alone = latency(await application(copy, seconds));
    const drained = drainShown(copy);
    // What is broken off is dropped with its database.
    drained.catch(() => undefined);
    await delay(WARM_UP_MILLISECONDS);
    const from = Date.now();
    const updates = await application(copy, seconds);
    const [work] = await copy.query<{ cleared: number; to: Date }>(
      `select coalesce(sum(cleared) filter (where settled_at >= to_timestamp($1)), 0)::int as cleared,
        case when bool_and(settled_at is not null) then max(settled_at) else now() end as to
      from retention.batch`,
      [from / 1_000],
    );
    const to = work?.to.getTime() ?? Number.NaN;
    return {
      alone,
      draining: latency(updates, from, to),
      rate: (work?.cleared ?? 0) / ((to - from) / 1_000),
    };
  } finally {
    await listener.stop();
  }
}
