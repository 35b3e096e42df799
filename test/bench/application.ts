import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Bench, BenchDatabase } from './bench.ts';
import { quantile } from './figure.ts';

/*
The application beside the reactor: pgbench, with short updates of single rows that are not due, four
sessions, at a pace that it keeps up with easily. What an update takes is counted from the moment it was
due, so that one that had to wait for those before it counts as slow too.
*/

const SESSIONS = 4;
const UPDATES_PER_SECOND = 1_000;

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

/** What updates took. */
export interface Latency {
  readonly p50: number;
  readonly p99: number;
}

/** The application of a benchmark; undefined where the server came without pgbench. */
export function findApplication(
  bench: Bench,
): ((database: BenchDatabase, seconds: number) => Promise<Update[]>) | undefined {
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
): Promise<Update[]> {
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
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`pgbench ended with ${code}:\n${said}`);
  const lines = readdirSync(folder).flatMap((name) =>
    readFileSync(join(folder, name), 'utf8').trimEnd().split('\n'),
  );
  rmSync(folder, { recursive: true });
  return lines.map(readUpdate);
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
export function latency(updates: readonly Update[], from = 0, to = Infinity): Latency {
  const took = updates
    .filter(({ endedAt }) => endedAt >= from && endedAt <= to)
    .map((each) => each.took);
  return { p50: quantile(took, 0.5), p99: quantile(took, 0.99) };
}
