import { RetentionError } from '../errors.ts';
import { settlesWithin } from '../lifecycle/deadline.ts';

/** How a read is shared. */
export interface CachedReadOptions<Value> {
  readonly read: () => Promise<Value>;
  /** How long an answer serves. */
  readonly freshMilliseconds: number;
  /** How long a failure serves: shorter, so that a recovery is soon seen. Default: a second. */
  readonly failureMilliseconds?: number;
  /** How long to wait for one. Default: five seconds. */
  readonly limitMilliseconds?: number;
  /** Milliseconds of some clock. Default: the system's. */
  readonly now?: () => number;
}

/** What was read, or why it could not be. */
export type Reading<Value> =
  | { readonly ok: true; readonly value: Value; readonly at: Date }
  | { readonly ok: false; readonly error: unknown; readonly at: Date };

const FAILURE_MILLISECONDS = 1_000;
const LIMIT_MILLISECONDS = 5_000;

/**
 * Makes a read that all callers share: at most one is under way, and its answer serves for a
 * while, and no caller waits for it longer than the limit. Never rejects.
 */
export function createCachedRead<Value>(
  options: CachedReadOptions<Value>,
): () => Promise<Reading<Value>> {
  const { read, freshMilliseconds, now = () => performance.now() } = options;
  const { failureMilliseconds = FAILURE_MILLISECONDS } = options;
  const { limitMilliseconds = LIMIT_MILLISECONDS } = options;
  let last: { readonly reading: Reading<Value>; readonly until: number } | undefined;
  let reading: Promise<Reading<Value>> | undefined;

  const readOnce = async (): Promise<Reading<Value>> => {
    let outcome: Reading<Value>;
    try {
      outcome = { ok: true, value: await read(), at: new Date() };
    } catch (error) {
      outcome = { ok: false, error, at: new Date() };
    }
    last = {
      reading: outcome,
      until: now() + (outcome.ok ? freshMilliseconds : failureMilliseconds),
    };
    reading = undefined;
    return outcome;
  };
  return () => {
    if (last !== undefined && now() < last.until) return Promise.resolve(last.reading);
    // The limit is the caller's: a longer read goes on, and no second one begins meanwhile.
    return withinLimit((reading ??= readOnce()), limitMilliseconds);
  };
}

async function withinLimit<Value>(
  reading: Promise<Reading<Value>>,
  milliseconds: number,
): Promise<Reading<Value>> {
  if (await settlesWithin(milliseconds, reading)) return reading;
  const error = new RetentionError(`no answer within ${milliseconds} ms`, { code: 'TIMEOUT' });
  return { ok: false, error, at: new Date() };
}
