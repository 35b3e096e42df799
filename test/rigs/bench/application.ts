import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Bench, BenchDatabase } from './bench.ts';
import { quantile } from './figure.ts';
import { waitedSeconds } from './processes.ts';

/*
The application beside the reactor: pgbench, with short updates of single rows that are not due, four
sessions, at a pace that it keeps up with easily. What an update takes is counted from the moment it was
due, so that one that had to wait for those before it counts as slow too.
*/

const SESSIONS = 4;
const UPDATES_PER_SECOND = 1_000;

const LOOK_MILLISECONDS = 50;

/** Milliseconds; it has connected before, and is not yet about to end after. */
const MOST_OF_A_SECOND = 700;

/** How many rows the application works on. */
export const LIVE_RUNS = 50_000;

const RUN_ID = `('00000000-0000-4000-8000-' || lpad(to_hex(n::bigint), 12, '0'))::uuid`;

/** Makes them: runs that are not due, with ids that pgbench can draw. */
export const INSERT_LIVE_RUNS = `
insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
select ${RUN_ID}, 'tenant-' || n % 10, 'COMPLETED', now() - interval '20 days' + n * interval '1 ms',
  'dpp-results', 'results/live-' || n || '.json'
from generate_series(1, ${LIVE_RUNS}) n`;

const UPDATE = `
\\set n random(1, ${LIVE_RUNS})
update runs set updated_at = now() where run_id = ${RUN_ID.replace('n::', ':n::')};
`;

/** One update: when it was over, and how long after it was due, in milliseconds. */
interface Update {
  readonly endedAt: number;
  readonly took: number;
}

/** What updates took, in milliseconds. */
export interface Latency {
  readonly p50: number;
  readonly p99: number;
  /** What of the mean its session in Postgres waited for a processor. */
  readonly waited: number;
}

/** Updates for some seconds, and what each waited for a processor. */
interface Updates {
  readonly updates: readonly Update[];
  readonly waited: number;
}

/** The application of a benchmark; undefined where the server came without pgbench. */
export function findApplication(
  bench: Bench,
): ((database: BenchDatabase, seconds: number) => Promise<Updates>) | undefined {
  const pgbench = join(bench.postgres.binFolder, 'pgbench');
  if (!existsSync(pgbench)) return undefined;
  const script = join(bench.folder, 'update.sql');
  writeFileSync(script, UPDATE);
  return (database, seconds) => update(pgbench, script, bench.folder, database, seconds);
}

async function update(
  pgbench: string,
  script: string,
  scratch: string,
  database: BenchDatabase,
  seconds: number,
): Promise<Updates> {
  const folder = mkdtempSync(join(scratch, 'pgbench-'));
  const parameters = [
    ['--no-vacuum', '--protocol=prepared', `--client=${SESSIONS}`, `--time=${seconds}`],
    [`--rate=${UPDATES_PER_SECOND}`, '--log', `--log-prefix=${join(folder, 'log')}`],
    [`--file=${script}`, database.url],
  ].flat();
  const child = spawn(pgbench, parameters, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const closed = once(child, 'close') as Promise<[number | null]>;
  const [[code], waited] = await Promise.all([closed, waitedPerUpdate(database, seconds, child)]);
  if (code !== 0) throw new Error(`pgbench ended with ${code}:\n${said}`);
  const lines = readdirSync(folder).flatMap((name) =>
    readFileSync(join(folder, name), 'utf8').trimEnd().split('\n'),
  );
  rmSync(folder, { recursive: true });
  return { updates: lines.map(readUpdate), waited };
}

/** The milliseconds an update's session waited for a processor, over most of a run of pgbench's. */
async function waitedPerUpdate(
  database: BenchDatabase,
  seconds: number,
  pgbench: ChildProcess,
): Promise<number> {
  let pids: number[] = [];
  while (pids.length < SESSIONS && pgbench.exitCode === null) {
    const rows = await database.query<{ pid: number }>(
      `select pid from pg_stat_activity
      where datname = current_database() and application_name = 'pgbench'`,
    );
    pids = rows.map(({ pid }) => pid);
    await delay(LOOK_MILLISECONDS);
  }
  const waited = (): number => pids.reduce((sum, pid) => sum + waitedSeconds(pid), 0);
  const [before, startedAt] = [waited(), performance.now()];
  await delay(seconds * MOST_OF_A_SECOND);
  const elapsed = (performance.now() - startedAt) / 1_000;
  return ((waited() - before) / (elapsed * UPDATES_PER_SECOND)) * 1_000;
}

/** `client transaction microseconds script seconds microseconds lag`; the second counts the lag in. */
function readUpdate(line: string): Update {
  const [, , microseconds, , epochSeconds, rest] = line.split(' ').map(Number);
  return {
    endedAt: (epochSeconds ?? Number.NaN) * 1_000 + (rest ?? Number.NaN) / 1_000,
    took: (microseconds ?? Number.NaN) / 1_000,
  };
}

/** Of the updates that were over between two moments. */
export function latency({ updates, waited }: Updates, from = 0, to = Infinity): Latency {
  const took = updates
    .filter(({ endedAt }) => endedAt >= from && endedAt <= to)
    .map((each) => each.took);
  return { p50: quantile(took, 0.5), p99: quantile(took, 0.99), waited };
}
