import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { serverEnvironment } from '../stack/postgres-process.ts';
import { runningPostgres } from './database.ts';
import { type MigratedDatabase, failuresOf } from './migrated.ts';
import { ROOT } from './project-files.ts';
import { settleAll } from './proof.ts';

const run = promisify(execFile);

/** Where the dump of each release and the digests of its migrations lie. */
export const RELEASES = join(ROOT, 'test/releases');

/** Of each release, by the name of the file, the SHA-256 of its numbered migrations in hex. */
export type MigrationDigests = Record<string, Record<string, string>>;

/** The numbered migrations as they are now. */
export function digestsOfMigrations(): Record<string, string> {
  const folder = join(ROOT, 'migrations');
  const names = readdirSync(folder).filter((name) => /^\d{4}_/u.test(name));
  return Object.fromEntries(
    names.toSorted().map((name) => {
      const content = readFileSync(join(folder, name));
      return [name, createHash('sha256').update(content).digest('hex')];
    }),
  );
}

/** A whole database as text that psql takes, without owners and rights. */
export async function dumpDatabase(url: string): Promise<string> {
  const { stdout } = await run(
    join(runningPostgres().binFolder, 'pg_dump'),
    ['--no-owner', '--no-privileges', url],
    { env: serverEnvironment(), maxBuffer: 64 * 1024 * 1024 },
  );
  // Newer minor releases bracket a dump with commands that older ones of psql do not know.
  return stdout.replaceAll(/^\\(?:un)?restrict .*\n/gmu, '');
}

/**
 * Leaves work of every kind behind, whatever the time is when it is found: policies, holds, batches that are flagged,
 * leased, failed, dead and settled, a surge, and seals.
 */
export async function leaveWork(database: MigratedDatabase): Promise<void> {
  const { query, store, insertRuns, insertRun, failRuns, claimNext } = database;
  await insertRuns({ count: 2, tenant: 'held' });
  await query(`select retention.set_policy('keeper', '99 years', true, true);
    select retention.place_hold('a tax audit', p_tenant_id => 'held', p_placed_by => 'ada')`);
  await insertRuns({ count: 4, tenant: 'settled' });
  await settleAll(database);
  await store.sealNow();
  await insertRuns({ count: 3, tenant: 'keeper' });
  const held = await insertRun({ tenant: 'held run' });
  await query(`select retention.place_hold('a question', $1)`, [held]);
  await failRuns(await insertRuns({ count: 2, tenant: 'failed', bucket: 'failed' }));
  await failRuns(await insertRuns({ count: 2, tenant: 'dead', bucket: 'dead' }), { dead: true });
  await insertRuns({ count: 3, tenant: 'leased', bucket: 'leased' });
  await query('select retention.flag_expired()');
  const leased = await claimNext('a listener of that time');
  await insertRuns({ count: 3, tenant: 'half', bucket: 'half' });
  await query('select retention.flag_expired()');
  const half = await claimNext('a listener of that time');
  const [cleared = '', ...others] = half.keys;
  await store.settle(half.batchId, half.lease, {
    cleared: [cleared],
    failed: failuresOf(others.slice(0, 1)),
    milliseconds: 5,
  });
  if (leased.bucket !== 'leased') throw new Error(`${leased.bucket} was leased`);
  await insertRuns({ count: 3, tenant: 'flagged', bucket: 'flagged' });
  await query('select retention.flag_expired()');
  await query('update retention.setting set surge_guard = 3');
  await insertRuns({ count: 5, tenant: 'late', completedAgo: '90 days' });
  await query('select retention.flag_expired()');
  await insertRuns({ count: 2, tenant: 'due' });
}
