import { isLostSession } from '../errors.ts';
import type { ClaimRequest } from '../store/leases.ts';
import type { Store } from '../store/store.ts';

/** How many claims are made with care after one was lost. */
const CAREFUL_CLAIMS = 64;

/** Which batches a claim may take. */
export type Wanted = Pick<ClaimRequest, 'batchIds' | 'buckets'>;

/**
 * Claims after one that was lost with its session: a batch whose check ends the session each time would be the first
 * one again for ever, since what a lost claim has written is gone. So its turn is written down before it.
 */
export interface CarefulClaims {
  /**
   * The batches to ask the next claim for: those that are wanted, or, with care, the one whose turn it is.
   *
   * @throws DatabaseError
   */
  turn(wanted: Wanted): Promise<readonly number[] | undefined>;
  /** Does a claim; one that loses its session is followed by some with care. */
  watch<Result>(claim: () => Promise<Result>): Promise<Result>;
}

/** Makes it, for all slots of a listener. */
export function createCarefulClaims(store: Pick<Store, 'takeTurn'>): CarefulClaims {
  let left = 0;
  return {
    turn: async ({ batchIds, buckets }) => {
      if (left === 0) return batchIds;
      left -= 1;
      const batchId = await store.takeTurn({ batchIds, buckets });
      return batchId === undefined ? batchIds : [batchId];
    },
    watch: async (claim) => {
      try {
        return await claim();
      } catch (error) {
        if (isLostSession(error)) left = CAREFUL_CLAIMS;
        throw error;
      }
    },
  };
}
