import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { type MemoryS3, startMemoryS3 } from '../../stack/memory-s3.ts';
import { type PrivatePostgres, startPrivatePostgres } from '../../stack/private-postgres.ts';
import { runsTableSql } from '../../stack/runs-table.ts';
import type { Variables } from '../../support/cli.ts';
import { memoryS3Variables } from '../../support/cli-stack.ts';
import { type HttpProxy, startHttpProxy } from '../../support/http-proxy.ts';
import { migrateUp } from '../../support/migrated.ts';
import { startPgBouncer } from '../../support/pgbouncer.ts';
import { haveProgram } from '../../support/programs.ts';
import { APPLICATION_NAME, type Application, BUCKETS, startApplication } from './application.ts';
import { calmDown } from './calm.ts';
import { type Violation, check } from './checker.ts';
import { compareCounters } from './counters.ts';
import { type Crew, startCrew } from './crew.ts';
import { createDeletionRecord, type DeletionRecord } from './deletion-record.ts';
import { createDraws } from './draws.ts';
import { createTrouble } from './faults.ts';
import { readHistory } from './history.ts';
import { checkReceipts, readReceipts } from './receipt-checker.ts';
import { LISTENER_ROLE } from './scene.ts';

/** What a campaign is asked for. */
export interface CampaignOptions {
  readonly seed: number;
  /** Of faults; the calm after them comes on top. */
  readonly minutes: number;
  /** Default: as many as the seed draws, from 3 to 8. */
  readonly listeners?: number;
  /** Hears how it goes. */
  readonly say?: (line: string) => void;
}

/** How a campaign went. */
export interface Outcome {
  readonly violations: readonly Violation[];
  readonly faults: ReadonlyMap<string, number>;
  readonly applicationSteps: ReadonlyMap<string, number>;
  readonly totals: Readonly<Record<string, number>>;
}

/** Short, so that a campaign of seconds sees what takes hours elsewhere. */
const SHORT_TIMES = `
update retention.setting
set loop_interval = '1 second', max_attempts = 4, retry_base = '100 ms', retry_cap = '2 s',
  pause_base = '100 ms', pause_cap = '2 s', policy_guard = 1000000,
  release_spread = '5 s', batch_size = 50`;

const REACTOR: Variables = {
  DPP_JSON_LOGS: 'true',
  DPP_RETENTION_CONCURRENCY: '3',
  RETENTION_LEASE_SECONDS: '10',
  RETENTION_POLL_SECONDS: '2',
  RETENTION_S3_REQUEST_TIMEOUT_SECONDS: '2',
  RETENTION_S3_MAX_ATTEMPTS: '1',
  RETENTION_SHUTDOWN_GRACE_SECONDS: '5',
  // The product's own tests are for warnings; here they would hide the last words.
  NODE_NO_WARNINGS: '1',
};

const PACE = 8;

/** Everything a campaign stands on. */
export interface Ground {
  readonly postgres: PrivatePostgres;
  readonly s3: MemoryS3;
  readonly proxy: HttpProxy;
  readonly record: DeletionRecord;
  readonly env: Variables;
}

/** Faults for so many minutes, then calm, then judgement. */
export async function runCampaign(options: CampaignOptions): Promise<Outcome> {
  const say = options.say ?? (() => undefined);
  await using ground = await layGround();
  const { postgres, s3, record, env } = ground;
  const draws = (part: number): ReturnType<typeof createDraws> => createDraws(options.seed, part);
  const url = postgres.url();
  const listeners = options.listeners ?? draws(3).integer(3, 8);
  await using pooler = await startPooler(listeners, postgres.port);
  const application = await startApplication({ url, s3, record, draws: draws(0), pace: PACE });
  const crew = await startCrew({
    listeners,
    ...(pooler === undefined ? {} : { pooledPort: pooler.port }),
    databaseUrl: postgres.url('app', LISTENER_ROLE),
    databasePort: postgres.port,
    env,
    draws: draws(1),
  });
  try {
    const scheduler = { isSilent: false };
    const trouble = createTrouble({ ...ground, crew, scheduler, restarting: undefined }, draws(2));
    const ticking = new AbortController();
    const ended = [
      application.work(),
      crew.reconcile(),
      tick(url, scheduler, ticking.signal),
      trouble.work(),
    ];
    const pooled = pooler === undefined ? '' : ', one of them behind PgBouncer';
    say(
      `seed ${options.seed}: ${options.minutes} minutes of faults, ${listeners} listeners${pooled}`,
    );
    await Promise.race([pause(options.minutes * 60_000), ...ended]);
    say('calm');
    trouble.stop();
    application.stop();
    // Each fault heals itself before it ends.
    await Promise.all([ended[0], ended[3]]);
    const calm = await calmDown({ ...ground, application, crew, say });
    ticking.abort();
    await crew.stop();
    await Promise.all(ended);
    // Nothing is in step any more where something was left.
    const counted = calm.length > 0 ? [] : await compareCounters({ ...ground, application });
    return await judge({
      ground,
      listeners,
      application,
      crew,
      faults: trouble.done,
      more: [...calm, ...counted],
      minutes: options.minutes,
    });
  } finally {
    await crew.dispose();
    await application.end();
  }
}

/** From so many listeners on, one of them has a transaction pooler before its database. */
const WITH_A_POOLER = 4;

async function startPooler(
  listeners: number,
  serverPort: number,
): Promise<({ readonly port: number } & AsyncDisposable) | undefined> {
  const path = listeners < WITH_A_POOLER ? undefined : haveProgram('pgbouncer').path;
  if (path === undefined) return undefined;
  const pooler = await startPgBouncer(path, serverPort, LISTENER_ROLE);
  return { port: pooler.port, [Symbol.asyncDispose]: () => pooler.stop() };
}

interface Case {
  readonly ground: Ground;
  readonly listeners: number;
  readonly application: Application;
  readonly crew: Crew;
  readonly faults: ReadonlyMap<string, number>;
  readonly more: readonly Violation[];
  readonly minutes: number;
}

async function judge(given: Case): Promise<Outcome> {
  const { ground, application, crew, faults, more } = given;
  const { deletions, puts, requests } = ground.record;
  const history = await readHistory(
    ground.postgres.url(),
    application.acknowledged,
    APPLICATION_NAME,
  );
  const receipts = await readReceipts(ground.postgres.url());
  const violations = [
    ...check({ history, deletions, puts, tooLate: application.tooLate }),
    ...checkReceipts({ history, deletions, puts, receipts }),
    ...more,
    ...crew.complaints.map((what) => ({ promise: 'a process ends when it is told to', what })),
  ];
  const s3Faults = [...ground.proxy.injected].map(
    ([kind, count]) => [`requests: ${kind}`, count] as const,
  );
  return {
    violations,
    faults: new Map([...faults, ...s3Faults]),
    applicationSteps: application.done,
    totals: {
      minutes: given.minutes,
      listeners: given.listeners,
      runs: history.runs.size,
      batches: history.leases.size,
      leases: [...history.leases.values()].flat().length,
      requests: requests(),
      deletions: deletions.length,
      deletionsDone: deletions.filter(({ doneAt }) => doneAt !== undefined).length,
      stamps: history.stamps.length,
      receipts: receipts.length,
      holds: history.holds.length,
      processes: crew.started(),
    },
  };
}

/**
 * A migrated Postgres that writes its history down, and an S3 behind a proxy.
 *
 * @param autovacuumNaptime how often autovacuum looks.
 */
export async function layGround(autovacuumNaptime = '5s'): Promise<Ground & AsyncDisposable> {
  const postgres = await startPrivatePostgres({
    databaseName: 'app',
    cron: true,
    settings: { track_commit_timestamp: 'on', autovacuum_naptime: autovacuumNaptime },
  });
  const record = createDeletionRecord();
  const s3 = await startMemoryS3();
  const proxy = await startHttpProxy(s3.endpoint, record.note);
  const dispose = async (): Promise<void> => {
    await proxy.close();
    await s3.stop();
    await postgres.stop();
  };
  try {
    for (const bucket of BUCKETS) s3.createBucket(bucket);
    await postgres.sql(runsTableSql);
    await postgres.sql(`create role ${LISTENER_ROLE} login`);
    await migrateUp(postgres.url(), { scheduler: 'pg_cron', role: LISTENER_ROLE });
    await postgres.sql(readFileSync(new URL('history-tables.sql', import.meta.url), 'utf8'));
    await postgres.sql(SHORT_TIMES);
    const env = { ...memoryS3Variables(s3), ...REACTOR, S3_ENDPOINT_URL: proxy.endpoint };
    return { postgres, s3, proxy, record, env, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** What pg_cron does every minute, every half second or as told. */
export async function tick(
  url: string,
  scheduler: { readonly isSilent: boolean },
  signal: AbortSignal,
  everyMs = 500,
): Promise<void> {
  while (!signal.aborted) {
    await pause(everyMs);
    if (scheduler.isSilent) continue;
    const client = new pg.Client({ connectionString: url, application_name: 'the scheduler' });
    client.on('error', () => undefined);
    try {
      await client.connect();
      await client.query('select retention.tick()');
    } catch {
      // As pg_cron: a tick that fails is not made up for.
    } finally {
      await client.end().catch(() => undefined);
    }
  }
}
