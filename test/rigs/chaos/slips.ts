import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { MemoryS3 } from '../../stack/memory-s3.ts';
import {
  type ApplicationSessions,
  epochMs,
  isExpected,
  openSessions,
} from './application-sessions.ts';
import { BUCKETS } from './application.ts';
import type { DeletionRecord } from './deletion-record.ts';
import type { Draws } from './draws.ts';
import { createEmptyings, type Emptyings } from './emptyings.ts';

/*
The platform of a campaign of slips: what it completes falls due on time, and now and then somebody changes many
rows by mistake. Which rows, it writes down in the same transaction, so that the judge needs nothing of the product.
*/

const TENANTS = ['north', 'south', 'east'] as const;
/** With a policy of a year of its own. */
const PATIENT = 'patient';
const RETAIN_DAYS = 30;
/** Holds copies of results, under their keys. Nobody may delete from it. */
export const ARCHIVE = 'archive';
/** So many live runs of each kind and tenant are there to slip. */
const POPULATION = 4_000;

/** What the campaign keeps of slips. */
export const SLIP_TABLES = `
create table history.slip (
  run_id uuid not null,
  tenant_id text not null,
  kind text not null,
  at timestamptz not null default clock_timestamp(),
  undone_at timestamptz,
  was text
);
create index slip_run on history.slip (run_id)`;

/** A platform with a steady trade and clumsy hands. */
export interface Slipping {
  /** How often which slip was made. */
  readonly done: ReadonlyMap<string, number>;
  readonly work: () => Promise<void>;
  readonly slip: () => Promise<void>;
  readonly stop: () => void;
  /** Puts right what no release would: runs that are away, and rows that name a wrong bucket. */
  readonly putRight: () => Promise<void>;
  readonly emptyings: Emptyings;
  readonly end: () => Promise<void>;
}

export interface SlippingOptions {
  readonly url: string;
  readonly s3: MemoryS3;
  readonly record: DeletionRecord;
  readonly draws: Draws;
}

/** Fills the table with results that are not due for long, and is ready to work. */
export async function startSlipping(options: SlippingOptions): Promise<Slipping> {
  const platform = new Platform(options);
  await platform.fill();
  return platform;
}

class Platform implements Slipping {
  readonly done = new Map<string, number>();
  readonly emptyings: Emptyings;
  readonly #options: SlippingOptions;
  readonly #sessions: ApplicationSessions;
  readonly #stopping = new AbortController();

  constructor(options: SlippingOptions) {
    this.#options = options;
    this.#sessions = openSessions(options.url, 'a platform that slips');
    this.emptyings = createEmptyings(this.#sessions, options.draws);
  }

  async fill(): Promise<void> {
    await this.#sessions.query(
      `select retention.set_policy('${PATIENT}', interval '365 days', true, true)`,
    );
    for (const tenant of TENANTS) {
      await this.#insert(POPULATION, tenant, 'COMPLETED', '10 days');
      await this.#insert(POPULATION / 4, tenant, 'FAILED', '200 days');
    }
    await this.#insert(POPULATION, PATIENT, 'COMPLETED', '100 days');
  }

  /** The steady trade: what it completes falls due in some seconds. */
  async work(): Promise<void> {
    const { draws } = this.#options;
    await this.#repeat(100, 400, async () => {
      const age = `${RETAIN_DAYS * 86_400 - draws.integer(4, 12)} seconds`;
      await this.#insert(draws.integer(1, 40), draws.pick(TENANTS), 'COMPLETED', age);
    });
  }

  async slip(): Promise<void> {
    const { draws } = this.#options;
    await this.#repeat(1_000, 4_000, async () => {
      const [kind, make] = draws.weighted<readonly [string, () => Promise<unknown>]>([
        [4, ['dates of a tenant', () => this.#backdate(draws.pick(TENANTS), this.#many())]],
        [2, ['dates of all tenants', () => this.#backdate(undefined, this.#many())]],
        [4, ['a slow drip', () => this.#backdate(draws.pick(TENANTS), draws.integer(10, 60))]],
        [2, ['status', () => this.#complete(draws.integer(50, 600))]],
        [2, ['tenant', () => this.#move(this.#many())]],
        [2, ['import of old runs', () => this.#import(this.#many())]],
        [3, ['taken back', () => this.#undo()]],
        [2, ['bucket', () => this.#misplace(this.#many())]],
        [1, ['bucket put right', () => this.#putBucketsRight()]],
        [1, ['the table emptied, and filled again', () => this.emptyings.takeRuns(undefined)]],
        [1, ["a tenant's runs away, and back", () => this.emptyings.takeRuns(draws.pick(TENANTS))]],
        [2, ['a table of the reactor emptied', () => this.emptyings.emptyOwnTable()]],
      ]);
      await make();
      this.done.set(kind, (this.done.get(kind) ?? 0) + 1);
    });
  }

  stop(): void {
    this.#stopping.abort();
  }

  async putRight(): Promise<void> {
    await this.emptyings.putBack();
    await this.#putBucketsRight();
  }

  async end(): Promise<void> {
    await this.#sessions.end();
  }

  async #repeat(minMs: number, maxMs: number, step: () => Promise<void>): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        await step();
      } catch (error) {
        if (!isExpected(error)) throw error;
      }
      await pause(this.#options.draws.integer(minMs, maxMs), undefined, { signal }).catch(
        () => undefined,
      );
    }
  }

  #many(): number {
    return this.#options.draws.integer(200, 1_500);
  }

  async #insert(count: number, tenant: string, status: string, age: string): Promise<void> {
    const bucket = this.#options.draws.pick(BUCKETS);
    await this.#sessions.query(
      `insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      select run_id, $2, $3, now() - $4::interval, $5, 'results/' || run_id
      from unnest($1::uuid[]) run_id`,
      [this.#put(count, bucket), tenant, status, age, bucket],
    );
  }

  #put(count: number, bucket: string): string[] {
    const { s3, record } = this.#options;
    const runIds = Array.from({ length: count }, () => randomUUID());
    for (const runId of runIds) {
      s3.putObject(bucket, `results/${runId}`);
      record.notePut(bucket, `results/${runId}`, epochMs());
    }
    return runIds;
  }

  /** Someone subtracts a year. */
  async #backdate(tenant: string | undefined, count: number): Promise<void> {
    await this.#change(
      'dates',
      `completed_at = completed_at - interval '1 year'`,
      `status = 'COMPLETED' and completed_at > now() - interval '15 days' and tenant_id = coalesce($1, tenant_id)`,
      tenant ?? null,
      count,
    );
  }

  async #complete(count: number): Promise<void> {
    await this.#change(
      'status',
      `status = 'COMPLETED'`,
      `status = 'FAILED' and $1::text is null`,
      null,
      count,
    );
  }

  async #move(count: number): Promise<void> {
    await this.#change(
      'tenant',
      `tenant_id = '${this.#options.draws.pick(TENANTS)}'`,
      'tenant_id = $1',
      PATIENT,
      count,
    );
  }

  async #change(
    kind: string,
    set: string,
    where: string,
    tenant: string | null,
    count: number,
  ): Promise<void> {
    await this.#sessions.query(
      `with slipped as (
        update runs r set ${set}, updated_at = now()
        from (
          select run_id from runs where result_cleared_at is null and ${where}
          order by run_id limit $2 for update skip locked
        ) c
        where r.run_id = c.run_id
        returning r.run_id, r.tenant_id
      )
      insert into history.slip (run_id, tenant_id, kind) select run_id, tenant_id, $3 from slipped`,
      [tenant, count, kind],
    );
  }

  async #import(count: number): Promise<void> {
    const bucket = this.#options.draws.pick(BUCKETS);
    await this.#sessions.query(
      `with slipped as (
        insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
        select run_id, $2, 'COMPLETED', now() - interval '300 days', $3, 'results/' || run_id
        from unnest($1::uuid[]) run_id
        returning run_id, tenant_id
      )
      insert into history.slip (run_id, tenant_id, kind) select run_id, tenant_id, 'import' from slipped`,
      [this.#put(count, bucket), this.#options.draws.pick(TENANTS), bucket],
    );
  }

  /** Somebody notices, and adds the year again to what is still there. */
  async #undo(): Promise<void> {
    await this.#sessions.query(
      `with undone as (
        update runs r set completed_at = completed_at + interval '1 year', updated_at = now()
        from (
          select distinct s.run_id from history.slip s where s.kind = 'dates' and s.undone_at is null
          order by s.run_id limit $1
        ) c
        where r.run_id = c.run_id and r.result_cleared_at is null
        returning r.run_id
      )
      update history.slip s set undone_at = clock_timestamp()
      from undone u
      where s.run_id = u.run_id`,
      [this.#many()],
    );
  }

  /** Rows of all kinds point at the archive, which has an object under each of their keys. */
  async #misplace(count: number): Promise<void> {
    const rows = await this.#sessions.query(
      `with slipped as (
        update runs r set result_s3_bucket = '${ARCHIVE}', updated_at = now()
        from (
          select run_id, result_s3_bucket as was from runs
          where result_cleared_at is null and result_s3_bucket <> '${ARCHIVE}'
          order by run_id desc limit $1 for update skip locked
        ) c
        where r.run_id = c.run_id
        returning r.run_id, r.tenant_id, c.was
      )
      insert into history.slip (run_id, tenant_id, kind, was)
      select run_id, tenant_id, 'bucket', was from slipped
      returning run_id::text`,
      [count],
    );
    for (const { run_id: runId } of rows) {
      this.#options.s3.putObject(ARCHIVE, `results/${String(runId)}`);
    }
  }

  async #putBucketsRight(): Promise<void> {
    await this.#sessions.query(
      `with undone as (
        update history.slip s set undone_at = clock_timestamp()
        where s.kind = 'bucket' and s.undone_at is null
        returning s.run_id, s.was
      )
      update runs r set result_s3_bucket = u.was, updated_at = now()
      from undone u
      where r.run_id = u.run_id`,
    );
  }
}
