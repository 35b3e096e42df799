import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import {
  APPLICATION_NAME,
  type Application,
  type ApplicationOptions,
  BUCKETS,
} from '../chaos/application.ts';
import {
  type ApplicationSessions,
  epochMs,
  isExpected,
  isGone,
  openSessions,
} from '../chaos/application-sessions.ts';

const TENANTS = [
  { tenantId: 'acme', retainDays: 30 },
  { tenantId: 'brief', retainDays: 1 },
] as const;

/** A step completes so many runs. */
const RUNS_PER_STEP = 5;
/** Every so many steps one hold is placed, and one run is repeated. */
const STEPS_PER_HOLD = 20;
/** So many holds are in force at any time. */
const HOLDS = 3;
const STEPS_PER_CLEANING = 20;
const REMEMBERED_RUNS = 100;

interface KnownRun {
  readonly runId: string;
  readonly bucket: string;
}

/**
 * The platform of a long run: does the same at every time, and keeps its table at one size, so that
 * whatever grows is the reactor's. Its stamped runs go after a while, as an application has it that
 * archives them.
 */
export async function startSteadyApplication(options: ApplicationOptions): Promise<Application> {
  const application = new SteadyWriter(options);
  for (const { tenantId, retainDays } of TENANTS) await application.setPolicy(tenantId, retainDays);
  return application;
}

class SteadyWriter implements Application {
  readonly tooLate = new Map<string, ReadonlySet<string>>();
  readonly done = new Map<string, number>();
  readonly #options: ApplicationOptions;
  readonly #sessions: ApplicationSessions;
  readonly #runs: KnownRun[] = [];
  readonly #holds: string[] = [];
  #isStopped = false;

  constructor(options: ApplicationOptions) {
    this.#options = options;
    this.#sessions = openSessions(options.url, APPLICATION_NAME);
  }

  get acknowledged(): ReadonlyMap<string, number> {
    return this.#sessions.acknowledged;
  }

  async work(): Promise<void> {
    const startedAt = performance.now();
    for (let step = 0; !this.#isStopped; step += 1) {
      await this.#try('complete', () => this.#complete(RUNS_PER_STEP, this.#secondsToDue()));
      if (step % STEPS_PER_HOLD === 0) {
        await this.#try('hold a run', () => this.#hold());
        await this.#try('repeat a run', () => this.#repeat());
      }
      if (step % STEPS_PER_CLEANING === 0) await this.#try('archive', () => this.#archive());
      const nextAt = startedAt + ((step + 1) * 1_000) / this.#options.pace;
      await pause(Math.max(0, nextAt - performance.now()));
    }
  }

  stop(): void {
    this.#isStopped = true;
  }

  async completeDue(count: number): Promise<void> {
    await this.#complete(count, -60);
  }

  async letGo(): Promise<void> {
    await this.#sessions.query(
      'select retention.release_hold(hold_id) from retention.hold where released_at is null',
    );
    this.#holds.length = 0;
  }

  async end(): Promise<void> {
    await this.#sessions.end();
  }

  async setPolicy(tenantId: string, days: number): Promise<void> {
    await this.#sessions.query(
      'select retention.set_policy($1, make_interval(days => $2), true, true)',
      [tenantId, days],
    );
  }

  #secondsToDue(): number {
    return this.#options.draws.integer(-5, 10);
  }

  async #complete(count: number, dueInSeconds: number): Promise<void> {
    const { draws } = this.#options;
    const { tenantId, retainDays } = draws.pick(TENANTS);
    const bucket = draws.pick(BUCKETS);
    const runs = Array.from({ length: count }, () => ({ runId: randomUUID(), bucket }));
    for (const { runId } of runs) this.#put(bucket, `results/${runId}`);
    await this.#sessions.query(
      `insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      select run_id, $2, 'COMPLETED', now() - make_interval(days => $3, secs => -$4::float8), $5,
        'results/' || run_id
      from unnest($1::uuid[]) as made (run_id)`,
      [runs.map(({ runId }) => runId), tenantId, retainDays, dueInSeconds, bucket],
    );
    this.#runs.push(...runs);
    this.#runs.splice(0, Math.max(0, this.#runs.length - REMEMBERED_RUNS));
  }

  /** Holds one of the last runs, and releases what is held the longest. */
  async #hold(): Promise<void> {
    const { runId } = this.#options.draws.pick(this.#runs);
    const [row] = await this.#sessions.query(
      `select hold_id::text, too_late::int, too_late_run_ids
      from retention.place_hold('a long run', $1)`,
      [runId],
    );
    const holdId = String(row?.['hold_id']);
    const tooLate = row?.['too_late_run_ids'] as string[];
    if (Number(row?.['too_late']) === tooLate.length) this.tooLate.set(holdId, new Set(tooLate));
    this.#holds.push(holdId);
    while (this.#holds.length > HOLDS) {
      await this.#sessions.query('select retention.release_hold($1)', [this.#holds[0]]);
      this.#holds.shift();
    }
  }

  /** A run that is done once more, with a result of its own. */
  async #repeat(): Promise<void> {
    const { runId, bucket } = this.#options.draws.pick(this.#runs);
    const key = `results/again/${randomUUID()}`;
    this.#put(bucket, key);
    await this.#sessions.query(
      `update runs
      set result_s3_key = $2, result_cleared_at = null, updated_at = now(),
        completed_at = now() - interval '400 days'
      where run_id = $1`,
      [runId, key],
    );
  }

  async #archive(): Promise<void> {
    await this.#sessions.query(
      `delete from runs where result_cleared_at < clock_timestamp() - interval '20 seconds'`,
    );
  }

  #put(bucket: string, key: string): void {
    this.#options.s3.putObject(bucket, key);
    this.#options.record.notePut(bucket, key, epochMs());
  }

  async #try(name: string, step: () => Promise<void>): Promise<void> {
    try {
      await step();
      this.done.set(name, (this.done.get(name) ?? 0) + 1);
    } catch (error) {
      // A run may have been archived.
      if (!isExpected(error) && !isGone(error)) throw error;
    }
  }
}
