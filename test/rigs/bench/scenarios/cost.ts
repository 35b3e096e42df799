import type pg from 'pg';
import { type BenchDatabase, INSERT_RUNS, type Scenario, TENANTS } from '../bench.ts';
import { type Figure, median, ratios } from '../figure.ts';
import { cpuSeconds, ranSeconds } from '../processes.ts';
import { STAMP } from '../stamp.ts';

const BATCH_SIZE = 1_000;

/** Linux counts processor time in hundredths of a second: what takes less tells nothing. */
const LEAST_ROWS = 5_000;

/** What one way of stamping all rows cost the server. */
interface Cost {
  /** Processor seconds of the session's process, user and system. */
  readonly cpu: number;
  /** Bytes of the write-ahead log. */
  readonly wal: number;
}

/** What each step took of the processor, in seconds. */
interface Steps {
  flag: number;
  claim: number;
  settle: number;
}

/** What flagging, claiming and settling cost the server beside the UPDATE that they end in. */
export const cost: Scenario = {
  name: 'cost',
  run: async (bench) => {
    const rows = Math.max(bench.rows(100_000), LEAST_ROWS);
    const base = await bench.makeDatabase((query) =>
      query(INSERT_RUNS, [rows, TENANTS, '40 days']),
    );
    const bare: Cost[] = [];
    const ours: (Cost & { readonly steps: Steps; readonly kept: number })[] = [];
    for (let run = 0; run < bench.options.runs; run += 1) {
      bench.say(`cost: run ${run + 1}`);
      bare.push(await bench.onCopy(base, updateBare));
      ours.push(await bench.onCopy(base, (copy) => workOff(copy, rows)));
    }
    await base.drop();
    const cpu = (some: readonly Cost[]): number[] => some.map((each) => each.cpu);
    const wal = (some: readonly Cost[]): number[] => some.map((each) => each.wal / rows);
    const seconds = (some: readonly number[]): string => `${median(some).toFixed(2)} s`;
    const step = (name: keyof Steps): string => seconds(ours.map(({ steps }) => steps[name]));
    return [
      {
        name: 'cost-cpu',
        title: "Postgres CPU: flag, claim and settle 100,000 / the bare UPDATE's",
        unit: '×',
        samples: ratios(cpu(ours), cpu(bare)),
        target: { is: 'at most', value: 1.8 },
        detail:
          `${seconds(cpu(ours))} (flag ${step('flag')}, claim ${step('claim')}, ` +
          `settle ${step('settle')}) / ${seconds(cpu(bare))}`,
      },
      {
        name: 'cost-wal',
        title: "write-ahead log: flag, claim and settle 100,000 / the bare UPDATE's",
        unit: '×',
        samples: ratios(wal(ours), wal(bare)),
        target: { is: 'at most', value: 1.05 },
        detail: `${Math.round(median(wal(ours)))} / ${Math.round(median(wal(bare)))} bytes per result`,
      },
      {
        name: 'kept',
        title: 'bytes kept per cleared result, after a vacuum',
        unit: 'bytes',
        samples: ours.map(({ kept }) => kept),
        target: { is: 'at most', value: 40 },
        detail: 'the whole of retention.batch: run ids, keys and tenants of all that was cleared',
      },
    ] satisfies Figure[];
  },
};

/** The floor's UPDATE of all rows, oldest first, committed per 1,000. */
async function updateBare(copy: BenchDatabase): Promise<Cost> {
  const session = await copy.connect();
  const { rows } = await session.query<{ run_id: string }>(
    'select run_id from runs order by completed_at',
  );
  const runIds = rows.map((row) => row.run_id);
  return measure(session, async () => {
    for (let from = 0; from < runIds.length; from += BATCH_SIZE) {
      const values = [runIds.slice(from, from + BATCH_SIZE)];
      await session.query({ name: 'stamp', text: STAMP, values });
    }
  });
}

/** All that the reactor asks of Postgres for the same rows, as if S3 had deleted every key at once. */
async function workOff(
  copy: BenchDatabase,
  rows: number,
): Promise<Cost & { readonly steps: Steps; readonly kept: number }> {
  const session = await copy.connect();
  await copy.query('select count(*) from runs');
  const steps: Steps = { flag: 0, claim: 0, settle: 0 };
  const pid = await processId(session);
  const step = async <Result>(name: keyof Steps, work: Promise<Result>): Promise<Result> => {
    const before = ranSeconds(pid);
    const result = await work;
    steps[name] += ranSeconds(pid) - before;
    return result;
  };
  const used = await measure(session, async () => {
    while ((await step('flag', flag(session))) > 0);
    for (;;) {
      const batch = await step('claim', claim(session));
      if (batch === undefined) break;
      await step('settle', settle(session, batch));
    }
  });
  await checkAllCleared(copy, rows);
  await copy.query('vacuum retention.batch');
  const [size] = await copy.query<{ bytes: string }>(
    `select pg_total_relation_size('retention.batch') as bytes`,
  );
  return { ...used, steps, kept: Number(size?.bytes) / rows };
}

async function flag(session: pg.Client): Promise<number> {
  const { rows } = await session.query<{ flagged: number }>(
    'select retention.flag_expired() as flagged',
  );
  return rows[0]?.flagged ?? 0;
}

const LEASE = '8a6e0804-2bd0-4672-b79d-d97027f9071a';

async function claim(session: pg.Client): Promise<string | undefined> {
  const { rows } = await session.query<{ batch_id: string }>({
    name: 'claim',
    text: `select batch_id, bucket, keys from retention.claim($1, '2 minutes')`,
    values: [LEASE],
  });
  return rows[0]?.batch_id;
}

async function settle(session: pg.Client, batchId: string): Promise<void> {
  await session.query({
    name: 'settle',
    text: 'select * from retention.settle($1, $2, p_all => true)',
    values: [batchId, LEASE],
  });
}

async function checkAllCleared(copy: BenchDatabase, rows: number): Promise<void> {
  const [left] = await copy.query<{ stamped: number }>(
    'select count(*)::int as stamped from runs where result_cleared_at is not null',
  );
  if (left?.stamped !== rows) throw new Error(`${left?.stamped} of ${rows} results were stamped`);
}

/**
 * What `work` costs in one session. A checkpoint goes before, so that each page that is changed is written
 * whole to the log once, here as there.
 */
async function measure(session: pg.Client, work: () => Promise<void>): Promise<Cost> {
  const pid = await processId(session);
  await session.query('checkpoint');
  const [cpuBefore, walBefore] = [cpuSeconds(pid), await walPosition(session)];
  await work();
  return { wal: (await walPosition(session)) - walBefore, cpu: cpuSeconds(pid) - cpuBefore };
}

async function walPosition(session: pg.Client): Promise<number> {
  const { rows } = await session.query<{ bytes: string }>(
    `select pg_current_wal_insert_lsn() - '0/0'::pg_lsn as bytes`,
  );
  return Number(rows[0]?.bytes);
}

async function processId(session: pg.Client): Promise<number> {
  const { rows } = await session.query<{ pid: number }>('select pg_backend_pid() as pid');
  return rows[0]?.pid ?? 0;
}
