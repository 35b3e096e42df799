import { type Clock, systemClock } from './clock.ts';

/** A ceiling on how many things happen per second. */
export interface RateLimit {
  /**
   * Waits until `count` more things may happen. First come, first served. With a count of 0: waits
   * until what was spent is paid off.
   *
   * @returns false when the signal was aborted first; then nothing was taken.
   */
  take(count: number, signal?: AbortSignal): Promise<boolean>;

  /** Notes that `count` things happen now, whether they may or not: whoever takes next waits. */
  spend(count: number): void;
}

/**
 * Allows `perSecond` things a second, and at most one second's worth at once after a quiet time. A
 * count that is larger than that waits until it is paid for, and so keeps the average.
 */
export function createRateLimit(perSecond: number, clock: Clock = systemClock): RateLimit {
  let allowance = perSecond;
  let countedAt = clock.now();

  const refill = (): void => {
    const now = clock.now();
    allowance = Math.min(perSecond, allowance + ((now - countedAt) / 1_000) * perSecond);
    countedAt = now;
  };
  return {
    spend: (count) => {
      refill();
      allowance -= count;
    },
    take: async (count, signal) => {
      const isAborted = (): boolean => signal?.aborted === true;
      if (isAborted()) return false;
      refill();
      // Taken at once and paid off by waiting: whoever comes later waits behind this debt.
      allowance -= count;
      if (allowance < 0) await clock.pause((-allowance / perSecond) * 1_000, signal);
      if (!isAborted()) return true;
      refill();
      allowance = Math.min(perSecond, allowance + count);
      return false;
    },
  };
}

/** No ceiling. */
export const unlimited: RateLimit = {
  take: (_count, signal) => Promise.resolve(signal?.aborted !== true),
  spend: () => undefined,
};
