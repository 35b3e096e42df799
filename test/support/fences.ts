import pg from 'pg';
import { onTestFinished } from 'vitest';
import { createPool } from '../../src/database/pool.ts';
import { silentLogger } from '../../src/logger.ts';
import type { ConditionalWrites } from '../../src/objects/abilities.ts';
import { createS3ObjectStore } from '../../src/objects/s3/object-store.ts';
import { type Fence, createFence } from '../../src/reactor/fence.ts';
import { FENCE_TIMES } from '../../src/reactor/fence-proof.ts';
import { type Store, createStore } from '../../src/store/store.ts';
import type { MemoryS3 } from '../stack/memory-s3.ts';
import type { ManualClock } from './manual-clock.ts';
import { type RecordingLogger, createRecordingLogger } from './recording-logger.ts';

export const FENCE_BUCKET = 'dpp-results';

/** A process with a fence, as far as a test drives it. */
export interface FencedProcess {
  readonly fence: Fence;
  readonly logger: RecordingLogger;
  readonly store: Store;
  readonly url: string;
  readonly query: (sql: string) => Promise<readonly Record<string, unknown>[]>;
}

/** A store for conditional writes only; closed after the test. */
export function openConditional(s3: MemoryS3, user = 0): ConditionalWrites {
  const credentials = s3.users[user];
  const objects = createS3ObjectStore({
    endpoint: s3.endpoint,
    region: s3.region,
    ...(credentials === undefined ? {} : { clientConfig: { credentials } }),
  });
  onTestFinished(() => objects.close());
  return objects.conditional;
}

/** A process at a database, whose loop the test drives. */
export function fencedProcess(
  url: string,
  s3: MemoryS3,
  options: {
    readonly clock: ManualClock;
    readonly name?: string;
    readonly mode?: 's3' | 'none' | undefined;
    readonly conditional?: ConditionalWrites | undefined;
  },
): FencedProcess {
  const database = createPool({ url, applicationName: 'fenced', logger: silentLogger });
  onTestFinished(() => database.close());
  const store = createStore(database);
  const logger = createRecordingLogger();
  const fence = createFence({
    store,
    conditional: openConditional(s3),
    mode: 's3',
    bucket: FENCE_BUCKET,
    logger,
    name: 'a test',
    ...options,
  });
  return { fence, logger, store, url, query: (sql) => database.query(sql) };
}

/**
 * Lets time pass for databases and processes: by the clock of the processes, and in the dates of the databases. Each
 * process looks as often as it would.
 */
export async function letPass(
  seconds: number,
  clock: ManualClock,
  processes: readonly FencedProcess[],
): Promise<void> {
  const step = FENCE_TIMES.renew / 3_000;
  for (let passed = 0; passed < seconds; passed += step) {
    await clock.advance(step * 1_000);
    const databases = new Map(processes.map(({ url, query }) => [url, query]));
    for (const query of databases.values()) {
      await query(
        `update retention.fence set renewed_at = renewed_at - interval '${step} seconds', tried_at = tried_at - interval '${step} seconds'`,
      );
    }
    for (const { fence } of processes) await fence.look();
  }
}

/** Copies a database so that it looks as the original does: what a snapshot of the disk brings up elsewhere. */
export async function snapshotOf(url: string): Promise<string> {
  const name = new URL(url).pathname.slice(1);
  const copy = `${name}_copy_${Math.trunc(performance.now())}`;
  const administer = async (
    sql: string,
    at = url.replace(/[^/]*$/u, 'postgres'),
  ): Promise<void> => {
    const client = new pg.Client({ connectionString: at });
    await client.connect();
    try {
      await client.query(sql);
    } finally {
      await client.end();
    }
  };
  await administer(
    `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${name}' and pid <> pg_backend_pid()`,
  );
  await administer(`create database ${copy} template ${name}`);
  onTestFinished(() => administer(`drop database if exists ${copy} with (force)`));
  const copyUrl = url.replace(/[^/]*$/u, copy);
  await administer(
    `update retention.identity set database_oid = (select oid from pg_database where datname = current_database()), database_name = current_database()`,
    copyUrl,
  );
  return copyUrl;
}
