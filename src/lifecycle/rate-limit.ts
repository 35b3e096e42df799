import { type Clock, systemClock } from './clock.ts';

/** A ceiling on how many things happen per second. */
export interface RateLimit {
  /**
   * Runs `begin` when its turn has come: first come, first served, one at a time, and at even
   * distances, each as long as what the one before began with takes at the ceiling.
   *
   * @param countOf how many things `begin` has set going, which only it finds out.
   * @returns undefined when the signal was aborted before its turn; then nothing was begun.
   */
  inTurn<Begun>(
    signal: AbortSignal,
    begin: () => Promise<Begun>,
    countOf: (begun: Begun) => number,
  ): Promise<Begun | undefined>;
}

/** What a turn may be late, as timers are, without those after it being later. */
const LATE_MILLISECONDS = 20;

/**
 * Allows `perSecond` things a second, as evenly as they come: what was not used in a quiet time is
 * not made up for, since the burst that it would allow is what a ceiling is there to prevent.
 */
export function createRateLimit(perSecond: number, clock: Clock = systemClock): RateLimit {
  let nextAt = clock.now();
  let before: Promise<unknown> = Promise.resolve();

  const take = async <Begun>(
    signal: AbortSignal,
    begin: () => Promise<Begun>,
    countOf: (begun: Begun) => number,
  ): Promise<Begun | undefined> => {
    const wait = nextAt - clock.now();
    if (wait > 0) await clock.pause(wait, signal);
    if (signal.aborted) return undefined;
    const startedAt = Math.max(nextAt, clock.now() - LATE_MILLISECONDS);
    const begun = await begin();
    nextAt = startedAt + (countOf(begun) / perSecond) * 1_000;
    return begun;
  };
  return {
    inTurn: (signal, begin, countOf) => {
      if (signal.aborted) return Promise.resolve(undefined);
      const turn = before.then(() => take(signal, begin, countOf));
      // The next one has its turn also after a failed one.
      before = turn.catch(() => undefined);
      return turn;
    },
  };
}

/** No ceiling. */
export const unlimited: RateLimit = {
  inTurn: (signal, begin) => (signal.aborted ? Promise.resolve(undefined) : begin()),
};
