import { pause } from './pause.ts';

/** Time as the lifecycle parts see it, so that tests can turn it by hand. */
export interface Clock {
  /** Milliseconds since some moment; never goes back. */
  now(): number;
  /** As `pause` of pause.ts. */
  pause(milliseconds: number, signal?: AbortSignal): Promise<void>;
}

/** What the two clocks of a machine say, in milliseconds. */
export interface Clocks {
  /** It cannot be set, and it never goes back; it stands still while the machine is suspended. */
  readonly monotonic: () => number;
  /** Goes on while the machine is suspended; a person or a time server may set it. */
  readonly wall: () => number;
}

/** If the wall clock is ahead of the other one by less than this, the difference is ignored. */
const DRIFT_MILLISECONDS = 100;

/**
 * Makes a clock for deadlines that protect a promise. It goes by the monotonic clock. Where the wall clock has
 * moved on further, as after a suspension of the machine, it goes on by that much at once: a deadline may be
 * over too early, and never too late. A wall clock that is set back changes nothing.
 *
 * @returns milliseconds since some moment, which never go back.
 */
export function createSafeNow({ monotonic, wall }: Clocks): () => number {
  let offset = wall() - monotonic();
  let suspended = 0;
  return () => {
    const elapsed = monotonic();
    const ahead = wall() - elapsed - offset;
    if (ahead > DRIFT_MILLISECONDS) suspended += ahead;
    // What was counted once is not counted again, and a clock that was set back starts from there.
    if (ahead > DRIFT_MILLISECONDS || ahead < 0) offset += ahead;
    return elapsed + suspended;
  };
}

/** Milliseconds by both clocks of this machine; see {@link createSafeNow}. For deadlines. */
export const safeNow: () => number = createSafeNow({
  monotonic: () => performance.now(),
  wall: () => Date.now(),
});

export const systemClock: Clock = { now: safeNow, pause };
