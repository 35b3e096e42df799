import { type Clock, systemClock } from './clock.ts';

/** A ceiling on how many things happen per second. */
export interface RateLimit {
  /**
   * Runs `begin` when its turn has come: first come, first served, one at a time. The distance to the
   * next turn is the time that the things of this one take at the ceiling.
   *
   * @param countOf how many things `begin` has started.
   * @returns undefined when the signal was aborted before its turn; then nothing was begun.
   */
  inTurn<Begun>(
    signal: AbortSignal,
    begin: () => Promise<Begun>,
    countOf: (begun: Begun) => number,
  ): Promise<Begun | undefined>;
}

/** A turn that is late by up to this, as timers are, does not delay the turns after it. */
const LATE_MILLISECONDS = 20;

/**
 * Allows `perSecond` things a second, evenly. Unused allowance is not saved up, since a ceiling is
 * there to prevent the burst that it would allow.
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
