import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { MemoryS3 } from '../../stack/memory-s3.ts';
import {
  type ApplicationSessions,
  epochMs,
  isExpected,
  isGone,
  openSessions,
} from './application-sessions.ts';
import type { DeletionRecord } from './deletion-record.ts';
import type { Draws } from './draws.ts';

/** By which history knows the application's own changes. */
export const APPLICATION_NAME = 'the application';

export const BUCKETS = ['results-a', 'results-b'] as const;

/** Each with its policy: what is written to it becomes due around the moment it is written. */
const TENANTS = [
  { tenantId: 'acme', retainDays: 30 },
  { tenantId: 'brief', retainDays: 1 },
  { tenantId: 'patient', retainDays: 400 },
  { tenantId: 'wavering', retainDays: 30 },
] as const;

/** What a waverer changes its mind to. */
const LONGER_DAYS = 45;
const REMEMBERED_RUNS = 3_000;

/** What would become due in the next minutes is due at once. */
const BRING_FORWARD = `
update runs r
set completed_at = r.completed_at - interval '3 minutes', updated_at = now()
from retention.policy p
where p.tenant_id = r.tenant_id and r.status = 'COMPLETED' and r.result_cleared_at is null
  and r.completed_at + p.retain between now() and now() + interval '3 minutes'`;

interface KnownRun {
  readonly runId: string;
  readonly bucket: string;
  readonly key: string;
}

/** The platform beside the reactor: completes, repeats, deletes, holds and releases runs. */
export interface Application {
  /** By transaction id, when it had its answer; epoch milliseconds. */
  readonly acknowledged: ReadonlyMap<string, number>;
  /** By hold, the runs it was told were in flight. */
  readonly tooLate: ReadonlyMap<string, ReadonlySet<string>>;
  /** How often it did what. */
  readonly done: ReadonlyMap<string, number>;
  /** Writes at its pace until {@link stop}. */
  readonly work: () => Promise<void>;
  /** Ends after the present step. */
  readonly stop: () => void;
  /** Completes so many runs that are due, and nothing else. */
  readonly completeDue: (count: number) => Promise<void>;
  /** Releases every hold, goes back to the first policies, and leaves nothing to become due soon. */
  readonly letGo: () => Promise<void>;
  readonly end: () => Promise<void>;
}

export interface ApplicationOptions {
  readonly url: string;
  readonly s3: MemoryS3;
  readonly record: DeletionRecord;
  readonly draws: Draws;
  /** Steps a second, about. */
  readonly pace: number;
}

/** Sets its policies and is ready to work. */
export async function startApplication(options: ApplicationOptions): Promise<Application> {
  const application = new Writer(options);
  await application.setPolicies();
  return application;
}

class Writer implements Application {
  readonly tooLate = new Map<string, ReadonlySet<string>>();
  readonly done = new Map<string, number>();
  readonly #options: ApplicationOptions;
  readonly #sessions: ApplicationSessions;
  readonly #runs: KnownRun[] = [];
  readonly #holds = new Set<string>();
  #isStopped = false;
  #isPatient = false;

  constructor(options: ApplicationOptions) {
    this.#options = options;
    this.#sessions = openSessions(options.url, APPLICATION_NAME);
  }

  get acknowledged(): ReadonlyMap<string, number> {
    return this.#sessions.acknowledged;
  }

  async setPolicies(): Promise<void> {
    for (const { tenantId, retainDays } of TENANTS) await this.#setPolicy(tenantId, retainDays);
  }

  async work(): Promise<void> {
    const { draws, pace } = this.#options;
    while (!this.#isStopped) {
      const [name, step] = draws.weighted<readonly [string, () => Promise<unknown>]>([
        [40, ['complete', () => this.#complete()]],
        [8, ['repeat under a new key', () => this.#repeatElsewhere()]],
        [6, ['repeat under the old key', () => this.#repeatInPlace()]],
        [4, ['share an object', () => this.#share()]],
        [14, ['hold a run', () => this.#holdRun()]],
        [2, ['hold a tenant', () => this.#place(undefined, draws.pick(TENANTS).tenantId)]],
        [14, ['release a hold', () => this.#release()]],
        [3, ['change a policy', () => this.#waver()]],
        [3, ['delete a run', () => this.#deleteRun()]],
        [2, ['complete without a place', () => this.#insert(1, -5, null)]],
      ]);
      try {
        await step();
        this.done.set(name, (this.done.get(name) ?? 0) + 1);
      } catch (error) {
        // The server is down, or a fault of the campaign hit this too: an application tries again.
        if (!isExpected(error)) throw error;
      }
      await pause(draws.integer(0, 2_000 / pace));
    }
  }

  stop(): void {
    this.#isStopped = true;
  }

  async completeDue(count: number): Promise<void> {
    await this.#insert(count, -60, undefined);
  }

  async letGo(): Promise<void> {
    while (this.#holds.size > 0) await this.#release();
    await this.#sessions.query(
      'select retention.release_hold(hold_id) from retention.hold where released_at is null',
    );
    await this.setPolicies();
    await this.#sessions.query(BRING_FORWARD);
  }

  async end(): Promise<void> {
    await this.#sessions.end();
  }

  /** A run that becomes due within seconds, or was due seconds ago. */
  async #complete(): Promise<void> {
    const { draws } = this.#options;
    await this.#insert(draws.integer(1, 60), draws.integer(-20, 15), undefined);
  }

  /** @param dueInSeconds below zero: ago. */
  async #insert(count: number, dueInSeconds: number, place: null | undefined): Promise<void> {
    const { draws } = this.#options;
    const { tenantId, retainDays } = draws.pick(TENANTS);
    const bucket = draws.pick(BUCKETS);
    const made = Array.from({ length: count }, () => {
      const runId = randomUUID();
      return {
        runId,
        bucket,
        key: draws.percent(3) ? this.#oddKey(runId) : `results/${tenantId}/${runId}`,
      };
    });
    if (place === undefined) for (const { key } of made) this.#put(bucket, key);
    await this.#sessions.query(
      `insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      select run_id, $2, 'COMPLETED', now() - make_interval(days => $3, secs => -$4::float8), $5, key
      from unnest($1::uuid[], $6::text[]) as made (run_id, key)`,
      [
        made.map(({ runId }) => runId),
        tenantId,
        retainDays,
        dueInSeconds,
        place === undefined ? bucket : place,
        made.map(({ key }) => (place === undefined ? key : place)),
      ],
    );
    if (place === undefined) this.#remember(made);
  }

  #oddKey(runId: string): string {
    const { draws } = this.#options;
    return draws.pick([
      `odd/<&>"'${runId}`,
      `odd/ü € 𝄞 ${runId}`,
      `odd/+ %2F%25 ?#${runId}`,
      `odd/\u0001\u000b${runId}`,
      `odd/line\nbreak\r${runId}`,
      `${runId}/${'k'.repeat(1_024 - 37)}`,
    ]);
  }

  async #repeatElsewhere(): Promise<void> {
    const known = this.#pickRun();
    if (known === undefined) return;
    const key = `results/again/${randomUUID()}`;
    const moved = { ...known, key };
    this.#put(known.bucket, key);
    await this.#sessions.query(
      `update runs
      set result_s3_key = $2, result_cleared_at = null, status = 'COMPLETED', updated_at = now(),
        completed_at = now() - case when $3 then interval '0' else interval '400 days' end
      where run_id = $1`,
      [known.runId, key, this.#options.draws.percent(50)],
    );
    this.#remember([moved]);
  }

  /** As an application has to: it holds, and writes only when nothing is in flight. */
  async #repeatInPlace(): Promise<void> {
    await this.#underHold(async ({ runId, bucket, key }) => {
      this.#put(bucket, key);
      await this.#sessions.query(
        `update runs set completed_at = now(), updated_at = now(), result_cleared_at = null
        where run_id = $1 and result_s3_key = $2`,
        [runId, key],
      );
    });
  }

  /** A second run, not due, on the object of another. */
  async #share(): Promise<void> {
    await this.#underHold(async ({ bucket, key }) => {
      const runId = randomUUID();
      this.#put(bucket, key);
      await this.#sessions.query(
        `insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
        values ($1, 'acme', 'COMPLETED', now() - interval '30 days' + make_interval(secs => $4), $2, $3)`,
        [runId, bucket, key, this.#options.draws.integer(5, 60)],
      );
    });
  }

  async #underHold(write: (run: KnownRun) => Promise<void>): Promise<void> {
    const known = this.#pickRun();
    if (known === undefined) return;
    const placed = await this.#place(known.runId, undefined);
    if (placed === undefined) return;
    try {
      // The run as it is under the hold: it may have moved, or gone, meanwhile.
      const [row] = await this.#sessions.query(
        `select result_s3_key as key from runs r
        where run_id = $1
          and not exists (
            select from runs o
            where o.result_s3_key = r.result_s3_key and o.run_id <> r.run_id
          )`,
        [known.runId],
      );
      if (placed.isFree && row?.['key'] === known.key) await write(known);
    } finally {
      await this.#releaseHold(placed.holdId);
    }
  }

  async #holdRun(): Promise<void> {
    const known = this.#pickRun();
    if (known !== undefined) await this.#place(known.runId, undefined);
  }

  async #place(
    runId: string | undefined,
    tenantId: string | undefined,
  ): Promise<{ readonly holdId: string; readonly isFree: boolean } | undefined> {
    const [row] = await this.#sessions
      .query(
        `select hold_id::text, too_late::int, too_late_run_ids
      from retention.place_hold('a campaign', $1, $2)`,
        [runId ?? null, tenantId ?? null],
      )
      .catch((error: unknown) => {
        // The run was deleted, or the tenant has none.
        if (isGone(error)) return [];
        throw error;
      });
    if (row === undefined) return undefined;
    const holdId = String(row['hold_id']);
    const tooLate = row['too_late_run_ids'] as string[];
    // More were in flight than the answer names: it cannot be held to the rest.
    if (Number(row['too_late']) === tooLate.length) this.tooLate.set(holdId, new Set(tooLate));
    this.#holds.add(holdId);
    return { holdId, isFree: Number(row['too_late']) === 0 };
  }

  async #release(): Promise<void> {
    const holdId = [...this.#holds][0];
    if (holdId !== undefined) await this.#releaseHold(holdId);
  }

  async #releaseHold(holdId: string): Promise<void> {
    await this.#sessions.query('select retention.release_hold($1)', [holdId]);
    this.#holds.delete(holdId);
  }

  async #waver(): Promise<void> {
    await this.#setPolicy('wavering', this.#isPatient ? 30 : LONGER_DAYS);
    this.#isPatient = !this.#isPatient;
  }

  async #setPolicy(tenantId: string, days: number): Promise<void> {
    await this.#sessions.query(
      'select retention.set_policy($1, make_interval(days => $2), true, true)',
      [tenantId, days],
    );
  }

  async #deleteRun(): Promise<void> {
    const known = this.#pickRun();
    if (known !== undefined)
      await this.#sessions.query('delete from runs where run_id = $1', [known.runId]);
  }

  /** Mostly one of the last, which is about to go. */
  #pickRun(): KnownRun | undefined {
    const { draws } = this.#options;
    const recent = draws.percent(80) ? this.#runs.slice(-300) : this.#runs;
    return recent.length === 0 ? undefined : draws.pick(recent);
  }

  #remember(runs: readonly KnownRun[]): void {
    this.#runs.push(...runs);
    if (this.#runs.length > REMEMBERED_RUNS)
      this.#runs.splice(0, this.#runs.length - REMEMBERED_RUNS);
  }

  #put(bucket: string, key: string): void {
    this.#options.s3.putObject(bucket, key);
    this.#options.record.notePut(bucket, key, epochMs());
  }
}
