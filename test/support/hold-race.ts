import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { failuresOf, keyOf } from './migrated.ts';

/** How a race is run. */
export interface HoldRaceOptions {
  /** Sessions that claim and settle as fast as they can. */
  readonly claimers: readonly pg.Client[];
  /** Sessions that place holds, one after the other. */
  readonly placers: readonly pg.Client[];
  /** How many holds to place. */
  readonly holds: number;
  /** One batch in so many is cleared; S3 does the others not at all, and they are claimed again. */
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
  text: `select batch_id, keys, spared from retention.claim($1::uuid, interval '5 minutes')`,
};
const CLEAR = {
  name: 'clear',
  text: 'select settled from retention.settle($1, $2::uuid, p_all => true)',
};
const FAIL = {
  name: 'fail',
  text: 'select settled from retention.settle($1, $2::uuid, p_failed => $3::jsonb)',
};
const HOLD = {
  name: 'hold',
  text: `select too_late from retention.place_hold('race', $1)`,
};

/**
 * Places holds on runs while they are claimed, and judges from the order in which the answers came:
 * all of it happens in one process, so a hold whose answer is there has committed.
 */
export class HoldRace {
  readonly #keys: readonly string[];
  readonly #places: ReadonlyMap<string, number>;
  /** How far first claims have come. */
  #frontier = 0;
  /** The runs by the keys that a claim gives. */
  readonly #runIds: ReadonlyMap<string, string>;
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
    this.#keys = runIds.map(keyOf);
    this.#places = new Map(this.#keys.map((key, place) => [key, place]));
    this.#runIds = new Map(runIds.map((runId) => [keyOf(runId), runId]));
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
      const { rows } = await client.query<{ batch_id: string; keys: string[]; spared: number }>(
        CLAIM,
        [lease],
      );
      const [batch] = rows;
      if (batch === undefined) continue;
      this.claims += 1;
      this.sparedByHold += batch.spared;
      if (batch.keys.length === 0) continue;
      this.#judge(batch.keys, askedAt);
      this.#advance(batch.keys);
      await this.#delete(batch.keys);
      if (this.claims % settleOneOf === 0) await client.query(CLEAR, [batch.batch_id, lease]);
      else {
        const failed = failuresOf(batch.keys, { code: 'InternalError', outcome: 'failed' });
        await client.query(FAIL, [batch.batch_id, lease, JSON.stringify(failed)]);
      }
    }
  }

  async #delete(keys: readonly string[]): Promise<void> {
    const since = this.#tick();
    for (const key of keys) this.#deleting.set(key, since);
    // As long as a quick answer of S3 takes.
    await delay(1);
    for (const key of keys) this.#deleting.delete(key);
  }

  #judge(keys: readonly string[], askedAt: number): void {
    for (const key of keys) {
      const hold = this.#held.get(key);
      if (hold === undefined) continue;
      if (askedAt > hold.at) this.violations.push(`${key} was claimed after its hold`);
      else if (!hold.isTooLate) {
        this.violations.push(`${key} was in flight when its hold said that it was in time`);
      }
    }
  }

  async #place(client: pg.Client, holds: number): Promise<void> {
    for (;;) {
      const key = this.#next();
      if (key === undefined || this.placed >= holds) return;
      this.placed += 1;
      const startedAt = performance.now();
      const askedAt = this.#tick();
      const { rows } = await client.query<{ too_late: string }>(HOLD, [this.#runIds.get(key)]);
      this.longestWaitMs = Math.max(this.longestWaitMs, performance.now() - startedAt);
      const isTooLate = Number(rows[0]?.too_late) > 0;
      if (isTooLate) this.tooLate += 1;
      if (!isTooLate && (this.#deleting.get(key) ?? Infinity) < askedAt) {
        this.violations.push(`${key} was being deleted when its hold said that it was in time`);
      }
      this.#held.set(key, { at: this.#tick(), isTooLate });
    }
  }

  #advance(keys: readonly string[]): void {
    for (const key of keys) {
      this.#frontier = Math.max(this.#frontier, (this.#places.get(key) ?? 0) + 1);
    }
  }

  /**
   * One hold in four goes where a deletion is, the others where the next claims are being made, so
   * that they meet.
   */
  #next(): string | undefined {
    if (this.placed % 4 === 0) {
      for (const key of this.#deleting.keys()) {
        if (!this.#chosen.has(key)) return this.#choose(key);
      }
    }
    for (let tries = 0; tries < 1_000; tries += 1) {
      const place = this.#frontier + Math.floor(Math.random() * (REACH + tries ** 2));
      const key = this.#keys[place % this.#keys.length];
      if (key !== undefined && !this.#chosen.has(key)) return this.#choose(key);
    }
    return undefined;
  }

  #choose(key: string): string {
    this.#chosen.add(key);
    return key;
  }

  #tick(): number {
    this.#clock += 1;
    return this.#clock;
  }
}
