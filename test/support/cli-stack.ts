import { afterEach, beforeEach, onTestFinished } from 'vitest';
import {
  DEFAULT_USERS,
  type MemoryS3,
  type MemoryS3Request,
  startMemoryS3,
} from '../stack/memory-s3.ts';
import { type CliResult, type RunningCli, type Variables, runCli, startCli } from './cli.ts';
import {
  type MigratedDatabase,
  type MigratedOptions,
  type RunsToInsert,
  useMigrated,
} from './migrated.ts';
import { until } from './until.ts';

/** A migrated database, a small S3, and the built command between them. */
export interface CliStack {
  readonly database: () => MigratedDatabase;
  readonly s3: () => MemoryS3;
  /** What the S3 was asked since the test began. */
  readonly requests: () => readonly MemoryS3Request[];
  /** Inserts runs and puts an object for each; returns the run ids, oldest first. */
  readonly insertResults: (runs?: RunsToInsert) => Promise<string[]>;
  /** How many of these runs are stamped, after checking that no stamp stands for an object that is there. */
  readonly countCleared: () => Promise<number>;
  /** Waits until so many runs are stamped. */
  readonly cleared: (count: number, limitMs?: number) => Promise<unknown>;
  readonly env: (more?: Variables) => Variables;
  /** Runs the command to its end. */
  readonly run: (parameters: readonly string[], more?: Variables) => Promise<CliResult>;
  /** Lets everybody claim and nobody settle, until what it returns is called. */
  readonly holdStamps: () => Promise<() => Promise<void>>;
  /** Waits until a listener stands before its stamp; returns its session's process id. */
  readonly settleWaits: () => Promise<number>;
  /** Starts `retention listen`, ended after the test, whatever it has to say. */
  readonly start: (more?: Variables) => RunningCli;
  /** Starts `retention listen`, ended after the test, and waits until it listens and has ticked. */
  readonly listen: (more?: Variables) => Promise<RunningCli>;
}

const HAS_TICKED = `
select
from retention.heartbeat h, retention.setting s, retention.adapter a
where h.ticked_at is not null
  or not s.enabled
  or a.scheduler <> 'internal'`;

/** Lets no settle commit, until this session ends or unlocks. */
const HOLD_STAMPS = `
select pg_advisory_lock(4711);
create or replace function public.hold_stamps() returns trigger language plpgsql as $$
begin
  perform pg_advisory_xact_lock_shared(4711);
  return null;
end
$$;
create or replace trigger hold_stamps
after update on retention.batch
for each row
when (new.settled_at is not null)
execute function public.hold_stamps()`;

/** The variables by which the command finds the small S3, and may delete from any bucket of it. */
export function memoryS3Variables(s3: MemoryS3): Variables {
  const [owner] = DEFAULT_USERS;
  return {
    S3_ENDPOINT_URL: s3.endpoint,
    S3_RESULT_BUCKET: '*',
    AWS_REGION: s3.region,
    AWS_ACCESS_KEY_ID: owner.accessKeyId,
    AWS_SECRET_ACCESS_KEY: owner.secretAccessKey,
  };
}

/** Makes the stack for the tests of the `describe` that calls it. */
export function useCliStack(settings: MigratedOptions = {}): CliStack {
  const database = useMigrated(settings);
  const started: RunningCli[] = [];
  const requests: MemoryS3Request[] = [];
  let s3: MemoryS3 | undefined;

  beforeEach(async () => {
    s3 = await startMemoryS3({ onRequest: (request) => requests.push(request) });
    s3.createBucket('dpp-results');
  });
  afterEach(async () => {
    await Promise.all(started.splice(0).map((listener) => listener[Symbol.asyncDispose]()));
    await s3?.stop();
    requests.length = 0;
  });

  const theS3 = (): MemoryS3 => {
    if (s3 === undefined) throw new Error('The S3 is only there inside tests.');
    return s3;
  };
  const env = (more: Variables = {}): Variables => ({
    DATABASE_URL: database().url,
    DPP_JSON_LOGS: 'false',
    ...memoryS3Variables(theS3()),
    ...more,
  });
  const insertResults = async (runs: RunsToInsert = {}): Promise<string[]> => {
    const runIds = await database().insertRuns(runs);
    const bucket = runs.bucket ?? 'dpp-results';
    theS3().createBucket(bucket);
    for (const runId of runIds) theS3().putObject(bucket, runs.key ?? `results/${runId}`);
    return runIds;
  };
  const countCleared = async (): Promise<number> => {
    const rows = await database().query<{ bucket: string; key: string }>(
      `select result_s3_bucket as bucket, result_s3_key as key
      from runs where result_cleared_at is not null`,
    );
    const lies = rows.filter(({ bucket, key }) => theS3().hasObject(bucket, key));
    if (lies.length > 0) throw new Error(`${lies.length} runs are stamped whose objects are there`);
    return rows.length;
  };
  const start = (more?: Variables): RunningCli => {
    const listener = startCli(['listen'], { env: env(more) });
    started.push(listener);
    return listener;
  };
  return {
    database,
    s3: theS3,
    requests: () => requests,
    insertResults,
    countCleared,
    cleared: (count, limitMs = 20_000) =>
      until(`${count} runs are cleared`, async () => (await countCleared()) >= count, {
        limitMs,
        pollMs: 50,
        seen: () => started.map(({ stderr }) => stderr),
      }),
    env,
    holdStamps: async () => {
      const session = await database().connect();
      onTestFinished(() => session.end().catch(() => undefined));
      // A lock on the table would not do: a stamp waits half a second for one.
      await session.query(HOLD_STAMPS);
      return async () => {
        await session.query(
          'select pg_advisory_unlock_all(); drop trigger hold_stamps on retention.batch',
        );
        await session.end();
      };
    },
    settleWaits: () =>
      until('the settle waits', async () => {
        const [row] = await database().query<{ pid: number }>(
          `select pid from pg_stat_activity
          where datname = current_database()
            and wait_event_type = 'Lock'
            and query like '%retention.settle%'`,
        );
        return row?.pid;
      }),
    run: (parameters, more) => runCli(parameters, { env: env(more) }),
    start,
    listen: async (more) => {
      const listener = start(more);
      await listener.waitForLine('Listening for notifications');
      // It ticks when it starts. A pass of the test's own that met that one would flag nothing.
      await until('it has ticked', async () => (await database().query(HAS_TICKED)).length > 0, {
        seen: () => listener.stderr,
      });
      return listener;
    },
  };
}
