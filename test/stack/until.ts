import { RetentionError } from '../../src/errors.ts';
import { pause } from '../../src/lifecycle/pause.ts';

/** How long to look, and what ends the looking. */
export interface UntilOptions {
  readonly signal: AbortSignal;
  readonly limitSeconds: number;
  /** Default: 100. */
  readonly pollMilliseconds?: number;
}

const POLL_MILLISECONDS = 100;

/**
 * Looks again and again until there is something to see, and returns it.
 *
 * @param what continues "Waited 30 s in vain for ...".
 * @param look returns undefined while there is nothing yet.
 * @throws RetentionError when the time is over; the signal's reason when it is aborted.
 */
export async function until<Found>(
  what: string,
  look: () => Found | undefined | Promise<Found | undefined>,
  { signal, limitSeconds, pollMilliseconds = POLL_MILLISECONDS }: UntilOptions,
): Promise<Found> {
  const deadline = performance.now() + limitSeconds * 1_000;
  for (;;) {
    signal.throwIfAborted();
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > deadline) {
      throw new RetentionError(`Waited ${limitSeconds} s in vain for ${what}.`);
    }
    await pause(pollMilliseconds, signal);
  }
}
