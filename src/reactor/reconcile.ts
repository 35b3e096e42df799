import { NEVER_ABORTED } from '../lifecycle/linked-abort.ts';
import { pause } from '../lifecycle/pause.ts';
import type { Selection } from '../store/selection.ts';
import type { Store } from '../store/store.ts';
import { refuseWhileClosed } from './gate.ts';
import { NO_TOTALS, type Totals, addBatch, drain } from './drain.ts';
import type { Worker } from './worker.ts';

/** What a reconcile works with, and what it is narrowed to. */
export interface ReconcileOptions {
  readonly store: Store;
  readonly worker: Worker;
  readonly concurrency: number;
  readonly selection?: Selection | undefined;
  /** Results per batch, for this reconcile. Default: the database's setting. */
  readonly batchSize?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Told of every batch: how many results are done, of how many that are known of so far. */
  readonly onProgress?: (done: number, known: number) => void;
}

/** What a reconcile did. */
export interface Reconciliation {
  readonly flagged: number;
  readonly cleared: number;
  readonly spared: number;
  /** Results that wait for their next attempt. */
  readonly failed: number;
  readonly dead: number;
  /** True when it was stopped before all was done. */
  readonly interrupted: boolean;
  readonly seconds: number;
}

/** A reconcile waits for pauses up to this long, and leaves the rest to the next one. */
const PATIENCE_SECONDS = 10;

const MAX_WAITS = 12;

/** How long to wait while a listener holds what is left. */
const BUSY_MILLISECONDS = 250;

/**
 * Flags what is due, also before the interval has passed, takes over expired leases, and works until
 * nothing visible is left. Needs no listener and no scheduler.
 *
 * @throws RefusedError while the reactor is disabled.
 * @throws DatabaseError
 */
export async function reconcile(options: ReconcileOptions): Promise<Reconciliation> {
  return new Sweep(options).run();
}

class Sweep {
  readonly #options: ReconcileOptions;
  readonly #signal: AbortSignal;
  readonly #startedAt = performance.now();
  #totals: Totals = NO_TOTALS;
  #flagged = 0;
  #batchIds: number[] | undefined;
  #known = 0;

  constructor(options: ReconcileOptions) {
    this.#options = options;
    this.#signal = options.signal ?? NEVER_ABORTED;
  }

  async run(): Promise<Reconciliation> {
    const { store, selection } = this.#options;
    await refuseWhileClosed(store);
    if (selection === undefined && this.#options.batchSize === undefined) await this.#runAll();
    else await this.#runSelected(selection ?? {});
    const { cleared, spared, dead } = this.#totals;
    // Results of a bucket that still pauses wait for an attempt, as refused ones do.
    const failed = this.#totals.failed + (await store.countPostponed(this.#batchIds));
    return {
      flagged: this.#flagged,
      cleared,
      spared,
      failed,
      dead,
      interrupted: this.#signal.aborted,
      seconds: Number(((performance.now() - this.#startedAt) / 1_000).toFixed(3)),
    };
  }

  async #runAll(): Promise<void> {
    const { store } = this.#options;
    this.#known = (await store.readStatus()).flagged;
    for (let whole = true; !this.#signal.aborted; whole = false) {
      const flagged = await store.flagExpired({ by: 'reconcile', whole });
      this.#flagged += flagged;
      this.#known += flagged;
      await this.#drain();
      const { more } = await store.pulse();
      if (!more) return;
      // Another pass was running, or this one found only results that are flagged already.
      if (flagged === 0) await pause(BUSY_MILLISECONDS, this.#signal);
    }
  }

  async #runSelected(selection: Selection): Promise<void> {
    const selected = await this.#options.store.flagSelected({
      ...selection,
      batchSize: this.#options.batchSize,
    });
    this.#flagged = selected.newlyFlagged;
    this.#known = selected.selected;
    const batchIds = [...selected.batchIds];
    this.#batchIds = batchIds;
    if (batchIds.length > 0) await this.#drain(batchIds);
  }

  /** Drains, and waits for short pauses of a bucket, such as after a throttled request. */
  async #drain(batchIds?: number[]): Promise<void> {
    const { worker, concurrency, store, onProgress } = this.#options;
    let waits = 0;
    while (!this.#signal.aborted) {
      const { batches, postponed } = await drain({
        worker,
        concurrency,
        stop: this.#signal,
        abort: NEVER_ABORTED,
        batchIds,
        onBatch: (outcome) => {
          this.#totals = addBatch(this.#totals, outcome);
          onProgress?.(this.#totals.cleared + this.#totals.spared, this.#known);
        },
      });
      const { visibleNow, nextVisibleSeconds = Infinity } = await store.pulse();
      if (visibleNow && batches > 0 && batchIds === undefined) continue;
      const isWorthWaiting = postponed > 0 && nextVisibleSeconds <= PATIENCE_SECONDS;
      if (!isWorthWaiting || waits >= MAX_WAITS) return;
      waits += 1;
      await pause(Math.max(nextVisibleSeconds * 1_000, BUSY_MILLISECONDS), this.#signal);
    }
  }
}
