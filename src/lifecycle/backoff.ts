/** How pauses grow. */
export interface BackoffOptions {
  /** The first pause, before jitter. Default: 500. */
  readonly firstMilliseconds?: number;
  /** No pause is longer. Default: 30,000. */
  readonly capMilliseconds?: number;
  /** What each pause is longer than the one before. Default: 2. */
  readonly factor?: number;
  /**
   * `full`: anything from nothing to the whole pause, which spreads a crowd best. `equal`: at least
   * half of it, where coming back at once would hurt. Default: `equal`.
   */
  readonly jitter?: 'full' | 'equal';
  /** From 0 up to 1. Default: `Math.random`. */
  readonly random?: () => number;
}

/** Growing pauses between attempts. */
export interface Backoff {
  /** How many pauses were taken since the last reset. */
  readonly attempts: number;
  /** The next pause in milliseconds. */
  next(): number;
  /** After a success: the next pause is the first again. */
  reset(): void;
}

/**
 * The pause after a number of failures, in milliseconds. (AWS: Exponential Backoff And Jitter)
 *
 * @param attempt 1 for the first failure.
 */
function backoffMilliseconds(attempt: number, options: BackoffOptions = {}): number {
  const first = options.firstMilliseconds ?? 500;
  const cap = options.capMilliseconds ?? 30_000;
  const random = options.random ?? Math.random;
  const whole = Math.min(cap, first * (options.factor ?? 2) ** (attempt - 1));
  const least = options.jitter === 'full' ? 0 : whole / 2;
  return Math.round(least + random() * (whole - least));
}

/** Makes pauses that grow with each attempt. */
export function createBackoff(options: BackoffOptions = {}): Backoff {
  let attempts = 0;
  return {
    get attempts() {
      return attempts;
    },
    next: () => {
      attempts += 1;
      return backoffMilliseconds(attempts, options);
    },
    reset: () => {
      attempts = 0;
    },
  };
}
