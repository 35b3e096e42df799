import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';

/** How a race is run. */
export interface HoldRaceOptions {
  /** Sessions that claim, settle and give back as fast as they can. */
  readonly claimers: readonly pg.Client[];
  /** Sessions that place holds, one after the other. */
  readonly placers: readonly pg.Client[];
  /** How many holds to place. */
  readonly holds: number;
  /** One in so many batches is settled; the others are given back, to be claimed again. */
  readonly settleOneOf: number;
}

interface PlacedHold {
  readonly at: number;
  readonly isTooLate: boolean;
}

/** How many runs the claims that are being made now may reach. */
const REACH = 24;

const CLAIM = {
  name: 'claim',
  text: `select batch_id, run_ids, spared from retention.claim($1::uuid, interval '5 minutes')`,
};
const SETTLE = {
  name: 'settle',
  text: 'select settled from retention.settle($1, $2::uuid, $3::text[]::retention.run_id[])',
};
const GIVE_BACK = { name: 'give back', text: 'select retention.give_back($1, $2::uuid)' };
const HOLD = {
  name: 'hold',
  text: `select too_late from retention.place_hold('race', $1)`,
};

/**
 * Places holds on runs while they are claimed, and judges from the order in which the answers came:
 * all of it happens in one process, so a hold whose answer is there has committed.
 */
export class HoldRace {
  readonly #runIds: readonly string[];
  readonly #places: ReadonlyMap<string, number>;
  /** How far first claims have come. */
  #frontier = 0;
  readonly #held = new Map<string, PlacedHold>();
  readonly #chosen = new Set<string>();
  /** What a listener would be deleting now, and since when: its end has not even been asked for. */
  readonly #deleting = new Map<string, number>();
  #clock = 0;
  #placersLeft = 0;
  /** What broke promise 5, in words. */
  readonly violations: string[] = [];
  placed = 0;
  tooLate = 0;
  claims = 0;
  sparedByHold = 0;
  longestWaitMs = 0;

  /** @param runIds flagged runs, in the order in which they will be claimed first. */
  constructor(runIds: readonly string[]) {
    this.#runIds = runIds;
    this.#places = new Map(runIds.map((runId, place) => [runId, place]));
  }

  async run({ claimers, placers, holds, settleOneOf }: HoldRaceOptions): Promise<void> {
    this.#placersLeft = placers.length;
    await Promise.all([
      ...claimers.map((client) => this.#claim(client, settleOneOf)),
      ...placers.map((client) =>
        this.#place(client, holds).finally(() => {
          this.#placersLeft -= 1;
        }),
      ),
    ]);
  }

  async #claim(client: pg.Client, settleOneOf: number): Promise<void> {
    while (this.#placersLeft > 0) {
      const lease = crypto.randomUUID();
      const askedAt = this.#tick();
      const { rows } = await client.query<{ batch_id: string; run_ids: string[]; spared: number }>(
        CLAIM,
        [lease],
      );
      const [batch] = rows;
      if (batch === undefined) continue;
      this.claims += 1;
      this.sparedByHold += batch.spared;
      if (batch.run_ids.length === 0) continue;
      this.#judge(batch.run_ids, askedAt);
      this.#advance(batch.run_ids);
      await this.#delete(batch.run_ids);
      const isSettled = this.claims % settleOneOf === 0;
      if (isSettled) await client.query(SETTLE, [batch.batch_id, lease, batch.run_ids]);
      else await client.query(GIVE_BACK, [batch.batch_id, lease]);
    }
  }

  async #delete(runIds: readonly string[]): Promise<void> {
    const since = this.#tick();
    for (const runId of runIds) this.#deleting.set(runId, since);
    // As long as a quick answer of S3 takes.
    await delay(1);
    for (const runId of runIds) this.#deleting.delete(runId);
  }

  #judge(runIds: readonly string[], askedAt: number): void {
    for (const runId of runIds) {
      const hold = this.#held.get(runId);
      if (hold === undefined) continue;
      if (askedAt > hold.at) this.violations.push(`${runId} was claimed after its hold`);
      else if (!hold.isTooLate) {
        this.violations.push(`${runId} was in flight when its hold said that it was in time`);
      }
    }
  }

  async #place(client: pg.Client, holds: number): Promise<void> {
    for (;;) {
      const runId = this.#next();
      if (runId === undefined || this.placed >= holds) return;
      this.placed += 1;
      const startedAt = performance.now();
      const askedAt = this.#tick();
      const { rows } = await client.query<{ too_late: string }>(HOLD, [runId]);
      this.longestWaitMs = Math.max(this.longestWaitMs, performance.now() - startedAt);
      const isTooLate = Number(rows[0]?.too_late) > 0;
      if (isTooLate) this.tooLate += 1;
      if (!isTooLate && (this.#deleting.get(runId) ?? Infinity) < askedAt) {
        this.violations.push(`${runId} was being deleted when its hold said that it was in time`);
      }
      this.#held.set(runId, { at: this.#tick(), isTooLate });
    }
  }

  #advance(runIds: readonly string[]): void {
    for (const runId of runIds) {
      this.#frontier = Math.max(this.#frontier, (this.#places.get(runId) ?? 0) + 1);
    }
  }

  /**
   * One hold in four goes where a deletion is, the others where the next claims are being made, so
   * that they meet.
   */
  #next(): string | undefined {
    if (this.placed % 4 === 0) {
      for (const runId of this.#deleting.keys()) {
        if (!this.#chosen.has(runId)) return this.#choose(runId);
      }
    }
    for (let tries = 0; tries < 1_000; tries += 1) {
      const place = this.#frontier + Math.floor(Math.random() * (REACH + tries ** 2));
      const runId = this.#runIds[place % this.#runIds.length];
      if (runId !== undefined && !this.#chosen.has(runId)) return this.#choose(runId);
    }
    return undefined;
  }

  #choose(runId: string): string {
    this.#chosen.add(runId);
    return runId;
  }

  #tick(): number {
    this.#clock += 1;
    return this.#clock;
  }
}
