import { RetentionError } from '../errors.ts';
import { settlesWithin } from '../lifecycle/deadline.ts';

/** How a read is shared. */
export interface CachedReadOptions<Value> {
  readonly read: () => Promise<Value>;
  /** How long an answer serves. */
  readonly freshMilliseconds: number;
  /** How long a failure serves: shorter, so that a recovery is soon seen. Default: a second. */
  readonly failureMilliseconds?: number;
  /** How long to wait for one where the last answer is too old to serve. Default: five seconds. */
  readonly limitMilliseconds?: number;
  /** How long to wait for one where the last answer may serve instead. Default: 50 ms. */
  readonly patienceMilliseconds?: number;
  /** How old an answer may be that serves while the next is under way. Default: 30 seconds. */
  readonly staleMilliseconds?: number;
  /** Milliseconds of some clock. Default: the system's. */
  readonly now?: () => number;
}

/** What was read, or why it could not be; `at`: when. */
export type Reading<Value> =
  | { readonly ok: true; readonly value: Value; readonly at: Date }
  | { readonly ok: false; readonly error: unknown; readonly at: Date };

const FAILURE_MILLISECONDS = 1_000;
const LIMIT_MILLISECONDS = 5_000;
const PATIENCE_MILLISECONDS = 50;
const STALE_MILLISECONDS = 30_000;

/**
 * Makes a read that all callers share: at most one is under way, and its answer serves for a while. While the
 * next is under way, a caller waits a moment for it and gets the last answer then, which says how old it is. Where the
 * last read took longer than that moment, as while the database is busy, it gets the last answer at once. Without one that is
 * recent, it waits for the next up to the limit. Never rejects.
 */
export function createCachedRead<Value>(
  options: CachedReadOptions<Value>,
): () => Promise<Reading<Value>> {
  const { read, freshMilliseconds, now = () => performance.now() } = options;
  const { failureMilliseconds = FAILURE_MILLISECONDS } = options;
  const { limitMilliseconds = LIMIT_MILLISECONDS } = options;
  const { patienceMilliseconds = PATIENCE_MILLISECONDS } = options;
  const { staleMilliseconds = STALE_MILLISECONDS } = options;
  let last: { readonly reading: Reading<Value>; readonly since: number } | undefined;
  let reading: Promise<Reading<Value>> | undefined;
  let beganAt = 0;
  let lastTook = 0;

  const readOnce = async (): Promise<Reading<Value>> => {
    let outcome: Reading<Value>;
    // The time at which it began: changes after that may be missing.
    const at = new Date();
    beganAt = now();
    try {
      outcome = { ok: true, value: await read(), at };
    } catch (error) {
      outcome = { ok: false, error, at };
    }
    last = { reading: outcome, since: now() };
    lastTook = now() - beganAt;
    reading = undefined;
    return outcome;
  };
  return async () => {
    const age = last === undefined ? Number.POSITIVE_INFINITY : now() - last.since;
    if (last !== undefined) {
      const serves = last.reading.ok ? freshMilliseconds : failureMilliseconds;
      if (age < serves) return last.reading;
    }
    // The limit is the caller's: a longer read goes on, and no second one begins meanwhile.
    const next = (reading ??= readOnce());
    const instead = last?.reading.ok === true && age < staleMilliseconds ? last.reading : undefined;
    if (instead !== undefined) {
      const wait = lastTook > patienceMilliseconds ? 0 : patienceMilliseconds - (now() - beganAt);
      return wait > 0 && (await settlesWithin(wait, next)) ? next : instead;
    }
    if (await settlesWithin(limitMilliseconds, next)) return next;
    const error = new RetentionError(`no answer within ${limitMilliseconds} ms`, {
      code: 'TIMEOUT',
    });
    return { ok: false, error, at: new Date() };
  };
}
