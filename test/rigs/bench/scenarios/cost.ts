import type pg from 'pg';
import { type BenchDatabase, INSERT_RUNS, type Scenario, TENANTS } from '../bench.ts';
import { type Figure, median, ratios } from '../figure.ts';
import { cpuSeconds, ranSeconds } from '../processes.ts';
import { STAMP } from '../stamp.ts';

const BATCH_SIZE = 1_000;

/** As many as a listener works with, and the floor. */
const SESSIONS = 4;

/** Linux counts processor time in hundredths of a second: what takes less tells nothing. */
const LEAST_ROWS = 5_000;

/** What one way of stamping all rows cost the server. */
interface Cost {
  /** Processor seconds of the sessions' processes, user and system. */
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

/** A session with its process in the server. */
interface Session {
  readonly client: pg.Client;
  readonly pid: number;
}

/** The floor's UPDATE of all rows, oldest first, committed per 1,000. */
async function updateBare(copy: BenchDatabase): Promise<Cost> {
  const sessions = await openSessions(copy);
  const rows = await copy.query<{ run_id: string }>(
    'select run_id from runs order by completed_at',
  );
  const runIds = rows.map((row) => row.run_id);
  const batches = Array.from({ length: Math.ceil(runIds.length / BATCH_SIZE) }, (_, index) =>
    runIds.slice(index * BATCH_SIZE, (index + 1) * BATCH_SIZE),
  );
  return measure(sessions, async () => {
    const queue = batches.values();
    await Promise.all(
      sessions.map(async ({ client }) => {
        for (const batch of queue) {
          await client.query({ name: 'stamp', text: STAMP, values: [batch] });
        }
      }),
    );
  });
}

/** All that the reactor asks of Postgres for the same rows, as if S3 had deleted every key at once. */
async function workOff(
  copy: BenchDatabase,
  rows: number,
): Promise<Cost & { readonly steps: Steps; readonly kept: number }> {
  const sessions = await openSessions(copy);
  const [first] = sessions;
  if (first === undefined) throw new Error('a session is needed');
  await copy.query('select count(*) from runs');
  const steps: Steps = { flag: 0, claim: 0, settle: 0 };
  const step = async <Result>(
    name: keyof Steps,
    { client, pid }: Session,
    work: (client: pg.Client) => Promise<Result>,
  ): Promise<Result> => {
    const before = ranSeconds(pid);
    const result = await work(client);
    steps[name] += ranSeconds(pid) - before;
    return result;
  };
  const used = await measure(sessions, async () => {
    while ((await step('flag', first, flag)) > 0);
    await Promise.all(
      sessions.map(async (session) => {
        for (;;) {
          const batch = await step('claim', session, claim);
          if (batch === undefined) break;
          await step('settle', session, (client) => settle(client, batch));
        }
      }),
    );
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
 * What `work` costs in these sessions. A checkpoint goes before, so that each page that is changed is written
 * whole to the log once, here as there.
 */
async function measure(sessions: readonly Session[], work: () => Promise<void>): Promise<Cost> {
  const [first] = sessions;
  if (first === undefined) throw new Error('a session is needed');
  await first.client.query('checkpoint');
  const cpu = (): number => sessions.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0);
  const [cpuBefore, walBefore] = [cpu(), await walPosition(first.client)];
  await work();
  return { cpu: cpu() - cpuBefore, wal: (await walPosition(first.client)) - walBefore };
}

async function walPosition(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ bytes: string }>(
    `select pg_current_wal_insert_lsn() - '0/0'::pg_lsn as bytes`,
  );
  return Number(rows[0]?.bytes);
}

async function openSessions(copy: BenchDatabase): Promise<Session[]> {
  return Promise.all(
    Array.from({ length: SESSIONS }, async () => {
      const client = await copy.connect();
      const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
      return { client, pid: rows[0]?.pid ?? 0 };
    }),
  );
}
