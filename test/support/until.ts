import { setTimeout as delay } from 'node:timers/promises';

const DEFAULT_LIMIT_MS = 10_000;
const POLL_MS = 15;

/** How long and how often to look. */
export interface UntilOptions {
  /** Milliseconds before giving up. Default: ten seconds. */
  readonly limitMs?: number;
  /** Milliseconds between two looks. Default: 15. */
  readonly pollMs?: number;
  /** Tells, on giving up, what was seen instead. */
  readonly seen?: () => unknown;
}

/**
 * Looks at a condition again and again until it holds.
 *
 * @param what the condition in words, for the error.
 * @param look returns a truthy value once it holds; may fail meanwhile.
 * @returns what `look` returned.
 * @throws when it does not hold in time, with what was seen last.
 */
export async function until<Found>(
  what: string,
  look: () => Found | Promise<Found>,
  options: UntilOptions = {},
): Promise<Exclude<Found, false | null | undefined | 0 | ''>> {
  const limitMs = options.limitMs ?? DEFAULT_LIMIT_MS;
  const deadline = performance.now() + limitMs;
  for (;;) {
    let failure: unknown;
    let found: Found | undefined;
    try {
      found = await look();
    } catch (error) {
      failure = error;
    }
    if (found) return found as Exclude<Found, false | null | undefined | 0 | ''>;
    if (performance.now() > deadline)
      throw givingUp(what, limitMs, options.seen?.() ?? found, failure);
    await delay(options.pollMs ?? POLL_MS);
  }
}

function givingUp(what: string, limitMs: number, seen: unknown, failure: unknown): Error {
  const detail =
    failure === undefined ? `last seen: ${JSON.stringify(seen)}` : 'the last look failed';
  return new Error(`Waited ${limitMs} ms in vain until ${what}; ${detail}`, { cause: failure });
}
