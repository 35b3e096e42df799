import pg from 'pg';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import { type MigrationSettings, runMigrations } from '../../src/database/migrations.ts';
import { createPool } from '../../src/database/pool.ts';
import type { Database } from '../../src/database/database.ts';
import { silentLogger } from '../../src/logger.ts';
import type { Claim, Failure } from '../../src/store/leases.ts';
import { type Store, createStore } from '../../src/store/store.ts';
import { type TestDatabase, createDatabase } from './database.ts';

/** The rows to put into the application's table. */
export interface RunsToInsert {
  /** Default: 1. */
  readonly count?: number;
  readonly tenant?: string;
  readonly status?: string;
  /** How long ago they completed, by the server's clock; null: not at all. Default: 31 days. */
  readonly completedAgo?: string | null;
  readonly bucket?: string | null;
  /** Of every row. Default: `results/<run id>`. */
  readonly key?: string | null;
  /** Default: not cleared. */
  readonly clearedAgo?: string | null;
}

/** A row of the application's table. */
export interface RunRow extends Record<string, unknown> {
  readonly run_id: string;
  readonly tenant_id: string;
  readonly result_s3_bucket: string | null;
  readonly result_s3_key: string | null;
  readonly result_cleared_at: Date | null;
  readonly updated_at: Date;
}

/** How a batch has failed. */
export interface BatchFailure {
  /** Default: `AccessDenied`. */
  readonly code?: string;
  /** Default: `Access Denied`. */
  readonly error?: string;
  /** For good. Default: false. */
  readonly dead?: boolean;
}

/** The key that a run is given by default. */
export function keyOf(runId: string): string {
  return `results/${runId}`;
}

/**
 * These keys as the store did not delete them.
 *
 * @param failure default: refused for the key alone with AccessDenied, and worth another attempt.
 */
export function failuresOf(keys: readonly string[], failure: Partial<Failure> = {}): Failure[] {
  return keys.map((key) => ({
    key,
    code: 'AccessDenied',
    reason: 'Access Denied',
    outcome: 'refused',
    concerns: 'key',
    final: false,
    ...failure,
  }));
}

/** A claim with the token that it was made under. */
export type LeasedClaim = Claim & { readonly lease: string };

/** A database with the schema `retention`, and what tests do with it all the time. */
export interface MigratedDatabase extends TestDatabase {
  /** The functions of the schema, as the product calls them. */
  readonly store: Store;
  /** Inserts runs, one millisecond apart, and returns their ids, oldest first. */
  readonly insertRuns: (runs?: RunsToInsert) => Promise<string[]>;
  /** Inserts one run and returns its id. */
  readonly insertRun: (run?: Omit<RunsToInsert, 'count'>) => Promise<string>;
  readonly run: (runId: string) => Promise<RunRow>;
  /** Claims the next batch for a minute. Throws when none is visible. */
  readonly claimNext: (by?: string) => Promise<LeasedClaim>;
  /** The runs of a claimed batch, in its order; of no batch, none. */
  readonly claimed: (claim: Claim | undefined) => Promise<string[]>;
  /** Puts due runs into batches of their own (one for each bucket) that have failed once. */
  readonly failRuns: (runIds: readonly string[], failure?: BatchFailure) => Promise<void>;
  /** How many runs carry a stamp. */
  readonly countStamped: () => Promise<number>;
  /** Changes columns of `retention.setting`; values are SQL. */
  readonly set: (settings: Readonly<Record<string, string>>) => Promise<void>;
  /** Lets every lease run out. */
  readonly expireLeases: () => Promise<void>;
  /** Lets every retry time and every pause of a bucket be over. */
  readonly passRetryTimes: () => Promise<void>;
  /** As it was after migrating: no runs, no work, default settings. */
  readonly clear: () => Promise<void>;
}

// What is sealed stays as it is, unless its triggers are off.
const CLEAR = `
set lock_timeout = '20s';
set session_replication_role = replica;
truncate retention.receipt, retention.change, retention.seal, retention.seal_copy;
delete from retention.seal_head;
insert into retention.seal_head default values;
truncate runs, retention.batch, retention.progress, retention.ahead, retention.hold,
  retention.bucket, retention.pace, retention.scan, retention.past_work, retention.selection, retention.stray,
  retention.unanswered, retention.verify_run, retention.verify_part, retention.verify_stretch, retention.verify_listed,
  retention.canary, retention.key_copy, retention.key_stretch, retention.standing_verify, retention.standing_gone,
  retention.shared_object, retention.spared_object, retention.keeper, retention.cutoff, retention.surge, retention.surge_part, retention.surge_release,
  retention.lateness, retention.allowance, retention.held_object, retention.orphan_list, retention.receipt,
  retention.returned_result, retention.stamp_account, retention.attention, retention.webhook;
alter table retention.setting disable trigger guard_setting;
delete from retention.setting;
insert into retention.setting default values;
alter table retention.setting enable trigger guard_setting;
delete from retention.heartbeat;
insert into retention.heartbeat default values;
delete from retention.stamping;
insert into retention.stamping default values;
delete from retention.policy where tenant_id <> '*';
update retention.policy set retain = '30 days', pending_retain = null, pending_results = null, pending_at = null,
  pending_by = null, confirmed_results = null, confirmed_at = null, confirmed_by = null;
-- Most tests make more late rows at once than the guard lets through: see MigratedOptions.guarded.
update retention.setting set surge_guard = null;
delete from retention.variable;
reset session_replication_role;
reset lock_timeout;
`;

const INSERT = `
with made as (
  select gen_random_uuid() as run_id, n
  from generate_series(1, $1::int) n
)
insert into runs (
  run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key, result_cleared_at,
  created_at, updated_at
)
select run_id, $2, $3, now() - $4::interval + (n - 1) * interval '1 millisecond', $5,
  case when $6::boolean then $7 else 'results/' || run_id end, now() - $8::interval,
  now() - interval '60 days', now() - interval '60 days'
from made
order by n
returning run_id::text`;

/** How a migrated database is made. */
export interface MigratedOptions extends MigrationSettings {
  /** Sets late results aside, as the product does. Default: false, so that any number of fresh rows is flagged. */
  readonly guarded?: boolean;
  /** Empties it before the first test alone: the others find what was made by those before. Default: false. */
  readonly keepsRows?: boolean;
  /** SQL to run before the migrations, for a table that differs from the runbook's. */
  readonly before?: string;
}

/**
 * Runs every migration on a database, without pg_cron. Any number of fresh rows is flagged: the guard over late
 * results is for the tests that are about it.
 */
export async function migrateUp(url: string, settings: MigrationSettings = {}): Promise<void> {
  await runMigrations({
    databaseUrl: url,
    direction: 'up',
    settings: { scheduler: 'internal', ...settings },
    logger: silentLogger,
  });
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query('update retention.setting set surge_guard = null');
  } finally {
    await client.end();
  }
}

/**
 * Makes a migrated database for the tests of the file or `describe` that calls it, empties it
 * before each of them, and drops it after the last.
 *
 * @param options default: the internal scheduler, and the runbook's table.
 */
export function useMigrated(options: MigratedOptions = {}): () => MigratedDatabase {
  const { before, guarded = false, keepsRows = false, ...settings } = options;
  let migrated: MigratedDatabase | undefined;
  let pool: Database | undefined;
  beforeAll(async () => {
    const database = await createDatabase();
    pool = createPool({ url: database.url, applicationName: 'test', logger: silentLogger });
    migrated = withHelpers(database, createStore(pool));
    if (before !== undefined) await database.query(before);
    await migrateUp(database.url, settings);
  });
  let isCleared = false;
  beforeEach(async () => {
    if (keepsRows && isCleared) return;
    isCleared = true;
    await migrated?.clear();
    if (guarded) await migrated?.set({ surge_guard: '1000' });
  });
  afterAll(async () => {
    await pool?.close();
    await migrated?.drop();
  });
  return () => {
    if (migrated === undefined) throw new Error('The database is only there inside tests.');
    return migrated;
  };
}

/** Adds the helpers to a database that is migrated, or will be. */
export function withHelpers(database: TestDatabase, store: Store): MigratedDatabase {
  const { query, one } = database;
  const insertRuns = async (runs: RunsToInsert = {}): Promise<string[]> => {
    const rows = await query<{ run_id: string }>(INSERT, [
      runs.count ?? 1,
      runs.tenant ?? 'acme',
      runs.status ?? 'COMPLETED',
      runs.completedAgo === undefined ? '31 days' : runs.completedAgo,
      runs.bucket === undefined ? 'dpp-results' : runs.bucket,
      runs.key !== undefined,
      runs.key ?? null,
      runs.clearedAgo ?? null,
    ]);
    return rows.map(({ run_id }) => run_id);
  };
  return {
    ...database,
    store,
    insertRuns,
    insertRun: async (run) => {
      const [runId] = await insertRuns(run);
      if (runId === undefined) throw new Error('No run was inserted.');
      return runId;
    },
    run: (runId) => one<RunRow>('select * from runs where run_id = $1', [runId]),
    claimNext: async (by = 'test') => {
      const lease = crypto.randomUUID();
      const claim = await store.claim({ lease, leaseSeconds: 60, by });
      if (claim === undefined) throw new Error('Nothing was visible.');
      return { ...claim, lease };
    },
    claimed: async (claim) => {
      const [batch] = await query<{ run_ids: string[] }>(
        'select run_ids::text[] as run_ids from retention.batch where batch_id = $1',
        [claim?.batchId ?? null],
      );
      return batch?.run_ids ?? [];
    },
    failRuns: async (
      runIds,
      { code = 'AccessDenied', error = 'Access Denied', dead = false } = {},
    ) => {
      const { batchIds, selected } = await store.flagSelected({ runIds });
      if (selected !== runIds.length) throw new Error(`${selected} of ${runIds.length} are due.`);
      await query(
        `update retention.batch
        set attempts = 1, code = $2, error = $3, failed_at = now(),
          visible_at = now() + interval '30 seconds', dead_at = case when $4 then now() end
        where batch_id = any ($1)`,
        [batchIds, code, error, dead],
      );
    },
    countStamped: async () => {
      const { stamped } = await one<{ stamped: number }>(
        'select count(*)::int as stamped from runs where result_cleared_at is not null',
      );
      return stamped;
    },
    set: async (settings) => {
      const changes = Object.entries(settings).map(([name, value]) => `${name} = ${value}`);
      await query(`update retention.setting set ${changes.join(', ')}`);
    },
    expireLeases: async () => {
      await query(
        `update retention.batch set visible_at = now() - interval '1 second' where lease is not null`,
      );
    },
    passRetryTimes: async () => {
      await query(`
        update retention.batch set visible_at = now() where lease is null and settled_at is null and dead_at is null;
        update retention.bucket set paused_until = now() - interval '1 second'
        where paused_until is not null`);
    },
    clear: async () => {
      await query(CLEAR);
    },
  };
}
