import { describeError, isWorthRepeating } from '../errors.ts';
import { createBackoff } from '../lifecycle/backoff.ts';
import { safeNow } from '../lifecycle/clock.ts';
import { pause } from '../lifecycle/pause.ts';
import type { Logger } from '../logger.ts';

/** How long a settle is repeated: while the lease lasts, and until the signal. */
export interface RetryWindow {
  readonly startedAt: number;
  readonly leaseSeconds: number;
  readonly signal: AbortSignal;
}

/**
 * Repeats what must not get lost while the lease lasts: a deadlock, a restart or a full disk of
 * the database is over sooner than a lease. Repeating is safe, because the lease fences it.
 *
 * @throws what it failed with last.
 */
export async function repeatWhileLeased<Result>(
  { startedAt, leaseSeconds, signal }: RetryWindow,
  logger: Logger,
  work: () => Promise<Result>,
): Promise<Result> {
  const backoff = createBackoff({ firstMilliseconds: 100, capMilliseconds: 5_000 });
  const endsAt = startedAt + leaseSeconds * 1_000;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      const wait = backoff.next();
      const isOver = signal.aborted || safeNow() + wait > endsAt;
      if (isOver || !isWorthRepeating(error)) throw error;
      // The 1st, 2nd, 4th ... time: an outage takes one line, not one for every few seconds of it.
      const level = Number.isInteger(Math.log2(backoff.attempts)) ? 'warning' : 'debug';
      logger[level](`Settling is tried again: ${describeError(error)}`, { error });
      await pause(wait, signal);
    }
  }
}
