import { setTimeout as delay } from 'node:timers/promises';

/** Node's timers take no more; a longer one would fire at once. */
const LONGEST_TIMER_MILLISECONDS = 2 ** 31 - 1;

/**
 * Waits, or returns early when the signal is aborted, without an error: loops check the signal
 * themselves. Keeps the process alive, and leaves no timer. A pause of 0 still yields to other work.
 */
export async function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  const options = signal === undefined ? {} : { signal };
  let left = milliseconds;
  try {
    do {
      const part = Math.min(Math.max(left, 0), LONGEST_TIMER_MILLISECONDS);
      await delay(part, undefined, options);
      left -= part;
    } while (left > 0);
  } catch (error) {
    if (signal?.aborted !== true) throw error;
  }
}
