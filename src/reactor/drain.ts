import { createBackoff } from '../lifecycle/backoff.ts';
import { pause } from '../lifecycle/pause.ts';
import type { Claim } from '../store/leases.ts';
import type { BatchOutcome, Worker } from './worker.ts';

/** How long a drain with one slot leaves the work to those who are at it, longer each time. */
const CROWDED_PAUSE = {
  firstMilliseconds: 1_000,
  capMilliseconds: 4_000,
  jitter: 'equal',
} as const;
/** So many batches in a row that were in nobody's way show that there is room: one may be a gap. */
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
 * Works until nothing is visible. A slot that has claimed something brings in the next while S3 is
 * asked, and so on: one result costs two claims that find nothing, not one per slot. Where enough
 * others are at work it brings in none, and ends after its batch; the last one pauses instead. Slots
 * come back after some batches that were in nobody's way, so that of several drains one does the most,
 * for less than all of them would take. After a throttled batch its slot ends.
 *
 * @throws the first error of a slot, when all slots have ended.
 */
export async function drain(options: DrainOptions): Promise<Totals> {
  const { worker, concurrency, stop, abort, batchIds } = options;
  let totals = NO_TOTALS;
  let slots = 0;
  let calmBatches = ROOM_AFTER_BATCHES;
  const leaving = createBackoff(CROWDED_PAUSE);
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
        if (calmBatches >= ROOM_AFTER_BATCHES) leaving.reset();
        if (outcome.postponed || (outcome.crowded && slots > 1)) return;
        if (outcome.crowded) await pause(leaving.next(), stop);
      }
    } catch (error) {
      failure ??= { error };
    } finally {
      slots -= 1;
      // Only slots bring in slots: after the last there is no other.
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
