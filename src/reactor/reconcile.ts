import { NEVER_ABORTED } from '../lifecycle/linked-abort.ts';
import { pause } from '../lifecycle/pause.ts';
import type { Selection, Unsettled } from '../store/selection.ts';
import type { StampedAgain } from '../store/stamps.ts';
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
  /** The buckets that may be deleted from. Default: any. */
  readonly buckets?: readonly string[] | undefined;
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
  /** Late results that this one found and set aside. */
  readonly set_aside: number;
  /** The surges that they are in: nothing of one goes before it is released. */
  readonly surges: readonly number[];
  /** Surges that were there before and still wait. */
  readonly surges_before: readonly number[];
  /** What is flagged, was asked for and is still there, and why. */
  readonly waiting: readonly Unsettled[];
  /** True when it was stopped before all was done. */
  readonly interrupted: boolean;
  readonly seconds: number;
}

/** A reconcile waits for pauses up to this long, and leaves the rest to the next one. */
const PATIENCE_SECONDS = 10;

const MAX_WAITS = 12;

/** How often to look while a listener holds what is left. */
const BUSY_MILLISECONDS = 250;

/** For how long: a listener that lives is done sooner. */
const MAX_BUSY_LOOKS = 20;

/**
 * Flags what is due, also before the interval has passed, takes over expired leases, and works until
 * nothing visible is left. Waits for a flagging pass that is running, for short pauses of a bucket and for
 * what a listener has in hand. Needs no listener and no scheduler.
 *
 * @throws ClosedError while the gate is closed.
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
  #batchIds: readonly number[] | undefined;
  #leasedBatchIds: readonly number[] = [];
  #waiting: readonly Unsettled[] = [];
  #known = 0;
  #stampedLater = 0;

  constructor(options: ReconcileOptions) {
    this.#options = options;
    this.#signal = options.signal ?? NEVER_ABORTED;
  }

  async run(): Promise<Reconciliation> {
    const { store, selection } = this.#options;
    await store.tryStamp();
    await this.#stampAgain();
    await refuseWhileClosed(store);
    const known = await this.#surgeIds();
    if (selection === undefined && this.#options.batchSize === undefined) await this.#runAll();
    else await this.#runSelected(selection ?? { all: true });
    if (this.#signal.aborted) this.#waiting = await this.#readWaiting();
    const open = await store.listSurges();
    const found = open.filter(({ surge_id: id }) => id !== null && !known.has(id));
    const { cleared, spared, dead } = this.#totals;
    const unstamped = await this.#stampAgain();
    // Results of a bucket that still pauses wait for an attempt, as refused ones do.
    const failed = this.#totals.failed + (await store.countPostponed(this.#batchIds));
    return {
      flagged: this.#flagged,
      cleared: cleared + this.#stampedLater,
      spared,
      failed: Math.max(failed - this.#stampedLater, unstamped.waiting - unstamped.dead),
      dead,
      set_aside: found.reduce((sum, surge) => sum + surge.found, 0),
      surges: found.flatMap(({ surge_id: id }) => (id === null ? [] : [id])),
      surges_before: open.flatMap(({ surge_id: id }) => (id !== null && known.has(id) ? [id] : [])),
      waiting: this.#waiting,
      interrupted: this.#signal.aborted,
      seconds: Number(((performance.now() - this.#startedAt) / 1_000).toFixed(3)),
    };
  }

  async #surgeIds(): Promise<ReadonlySet<number | null>> {
    const surges = await this.#options.store.listSurges();
    return new Set(surges.map(({ surge_id: id }) => id));
  }

  async #runAll(): Promise<void> {
    const { store } = this.#options;
    this.#known = (await store.readStatus()).flagged;
    for (let whole = true; !this.#signal.aborted; whole = false) {
      const before = this.#totals.cleared;
      const flagged = await store.flagExpired({ by: 'reconcile', whole, waits: true });
      this.#flagged += flagged;
      this.#known += flagged;
      await this.#drain();
      const { more } = await store.pulse();
      // What was cleared may have made room in a backlog that was at its limit.
      if (!more && (flagged === 0 || this.#totals.cleared === before)) return;
      // This pass found only results that are flagged already.
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
    this.#batchIds = selected.batchIds;
    this.#leasedBatchIds = selected.leasedBatchIds;
    try {
      await this.#drain(selected.batchIds);
    } finally {
      // What is left goes by the policy again, also where that has changed meanwhile.
      if (selection.early === true) await this.#options.store.endCutoff(selected.batchIds);
    }
  }

  /** What is left of what was asked for. */
  #readWaiting(): Promise<readonly Unsettled[]> {
    const { store, buckets, selection } = this.#options;
    return store.readUnsettled({
      buckets,
      tenantId: selection?.tenantId,
      runIds: selection?.runIds,
      // The others are not looked through, however many there are. No batch has the id 0. It stands where the first
      // of its own batches would, to whose kin it looks.
      ...(this.#batchIds === undefined
        ? {}
        : {
            batchIds: [
              ...(this.#batchIds?.length === 0 ? [0] : (this.#batchIds ?? [])),
              ...this.#leasedBatchIds,
            ],
          }),
    });
  }

  /** Drains, and waits for what is over soon: a pause after a throttled request, the batch of a listener. */
  async #drain(batchIds?: readonly number[]): Promise<void> {
    const { worker, concurrency, onProgress } = this.#options;
    let waits = 0;
    let looks = 0;
    while (!this.#signal.aborted) {
      const { batches } = await drain({
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
      const again = await this.#stampAgain();
      this.#waiting = await this.#readWaiting();
      if (batches > 0) looks = 0;
      // While slow stamps wait, nothing is claimed.
      if (again.stamped > 0) continue;
      const isBusy = this.#waiting.some(({ kind }) => kind === 'leased' || kind === 'visible');
      const next = Math.min(
        ...this.#waiting.map((it) => millisecondsUntil(it)),
        again.next_seconds === null ? Infinity : again.next_seconds * 1_000,
      );
      const ceiling = Math.min(
        ...this.#waiting
          .filter(({ kind }) => kind === 'ceiling')
          .map((it) => millisecondsUntil(it)),
      );
      if (ceiling <= next && ceiling < Infinity) {
        // Others may go on meanwhile, so that it ends in any case.
        await pause(Math.max(ceiling, 5), this.#signal);
      } else if (next <= PATIENCE_SECONDS * 1_000 && waits < MAX_WAITS) {
        waits += 1;
        await pause(Math.max(next, BUSY_MILLISECONDS), this.#signal);
      } else if (isBusy && looks < MAX_BUSY_LOOKS) {
        looks += 1;
        await pause(BUSY_MILLISECONDS, this.#signal);
      } else {
        return;
      }
    }
  }

  /** Stamps what was deleted and could not be stamped at once, as behind a lock. */
  async #stampAgain(): Promise<StampedAgain> {
    const again = await this.#options.store.stampAgain();
    this.#stampedLater += again.stamped;
    return again;
  }
}

/** Until a retry or the end of a pause; a lease may end sooner than it says, and is looked at more often. */
function millisecondsUntil({ kind, until_seconds: seconds }: Unsettled): number {
  return seconds === null || kind === 'leased' ? Infinity : seconds * 1_000;
}
