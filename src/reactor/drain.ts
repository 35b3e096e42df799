import type { Claim } from '../store/leases.ts';
import type { BatchOutcome, Worker } from './worker.ts';

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
  /** Only these. Gets those that are cut off them. Default: any. */
  readonly batchIds?: number[] | undefined;
  readonly onBatch?: (outcome: BatchOutcome) => void;
}

/**
 * Works until nothing is visible. A slot that has claimed something brings in the next while S3 is
 * asked, and so on: one result costs two claims that find nothing, not one per slot. After a throttled
 * batch its slot ends.
 *
 * @throws the first error of a slot, when all slots have ended.
 */
export async function drain(options: DrainOptions): Promise<Totals> {
  const { worker, concurrency, stop, abort, batchIds } = options;
  const onClaimed = (claim: Claim): void => {
    // What was cut off one of these batches is one of them as well.
    batchIds?.push(...claim.cut);
    startSlot();
  };
  let totals = NO_TOTALS;
  let slots = 0;
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
        if (outcome.postponed) return;
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
  await new Promise<void>((resolve) => {
    end = resolve;
    startSlot();
    if (slots === 0) resolve();
  });
  if (failure !== undefined) throw failure.error;
  return totals;
}
