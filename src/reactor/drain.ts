import { createBackoff } from '../lifecycle/backoff.ts';
import { pause } from '../lifecycle/pause.ts';
import type { Claim } from '../store/leases.ts';
import type { BatchOutcome, Worker } from './worker.ts';

/** How long a drain with one slot pauses while enough others work. */
const CROWDED_PAUSE = {
  firstMilliseconds: 1_000,
  capMilliseconds: 4_000,
  jitter: 'equal',
} as const;
/** After so many batches in a row without a crowd there is room again; one may be a coincidence. */
const ROOM_AFTER_BATCHES = 4;

/** Sums over batches. */
export interface Totals {
  readonly batches: number;
  readonly cleared: number;
  readonly stamped: number;
  readonly spared: number;
  readonly failed: number;
  readonly dead: number;
  readonly postponed: number;
  readonly leasesLost: number;
}

export const NO_TOTALS: Totals = {
  batches: 0,
  cleared: 0,
  stamped: 0,
  spared: 0,
  failed: 0,
  dead: 0,
  postponed: 0,
  leasesLost: 0,
};

/** Adds one batch. */
export function addBatch(totals: Totals, outcome: BatchOutcome): Totals {
  return {
    batches: totals.batches + 1,
    cleared: totals.cleared + outcome.cleared,
    stamped: totals.stamped + outcome.stamped,
    spared: totals.spared + outcome.spared,
    failed: totals.failed + outcome.failed,
    dead: totals.dead + outcome.dead,
    postponed: totals.postponed + (outcome.postponed ? 1 : 0),
    leasesLost: totals.leasesLost + (outcome.leaseLost ? 1 : 0),
  };
}

/** How a drain goes. */
export interface DrainOptions {
  readonly worker: Worker;
  /** How many batches are worked on at once. */
  readonly concurrency: number;
  /** No batch is claimed any more once this is aborted. */
  readonly stop: AbortSignal;
  /** Ends what is in flight. */
  readonly abort: AbortSignal;
  readonly batchIds?: readonly number[] | undefined;
  readonly onBatch?: (outcome: BatchOutcome) => void;
}

/**
 * Works until nothing is visible. Each slot that claims a batch starts the next slot, so that a single
 * result costs two empty claims and not one per slot. In a crowd, slots end after their batch, and the
 * last one pauses; they come back when there is room. A slot also ends after a throttled batch.
 *
 * @throws the first error of a slot, when all slots have ended.
 */
export async function drain(options: DrainOptions): Promise<Totals> {
  const { worker, concurrency, stop, abort, batchIds } = options;
  let totals = NO_TOTALS;
  let slots = 0;
  let calmBatches = ROOM_AFTER_BATCHES;
  const backoff = createBackoff(CROWDED_PAUSE);
  let failure: { readonly error: unknown } | undefined;
  let end = (): void => undefined;

  const isOver = (): boolean => stop.aborted || failure !== undefined;
  const runSlot = async (): Promise<void> => {
    try {
      while (!isOver()) {
        const outcome = await worker.workOnce({ stop, abort, batchIds, onClaimed });
        if (outcome === undefined) return;
        totals = addBatch(totals, outcome);
        options.onBatch?.(outcome);
        calmBatches = outcome.crowded ? 0 : calmBatches + 1;
        if (calmBatches >= ROOM_AFTER_BATCHES) backoff.reset();
        if (outcome.postponed || (outcome.crowded && slots > 1)) return;
        if (outcome.crowded) await pause(backoff.next(), stop);
      }
    } catch (error) {
      failure ??= { error };
    } finally {
      slots -= 1;
      // Only a slot starts another, so after the last one the drain is over.
      if (slots === 0) end();
    }
  };
  const startSlot = (): void => {
    if (slots >= concurrency || isOver()) return;
    slots += 1;
    void runSlot();
  };
  const onClaimed = ({ crowded }: Claim): void => {
    if (!crowded && calmBatches >= ROOM_AFTER_BATCHES) startSlot();
  };

  await new Promise<void>((resolve) => {
    end = resolve;
    startSlot();
    if (slots === 0) resolve();
  });
  if (failure !== undefined) throw failure.error;
  return totals;
}
