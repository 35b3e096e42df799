/** The times that bound one call to the object store. */
export interface RetryTimes {
  /** How often a request is tried. Default {@link DEFAULT_MAX_ATTEMPTS}. */
  readonly maxAttempts?: number | undefined;
  /**
   * How long one attempt may wait for a free socket, the connection and the reply's headers, and
   * then for each next part of its body. Default {@link DEFAULT_REQUEST_TIMEOUT_MILLISECONDS}.
   */
  readonly requestTimeoutMilliseconds?: number | undefined;
}

/** The same times as the configuration has them. */
export interface S3TimeSettings {
  readonly s3MaxAttempts: number;
  readonly s3RequestTimeoutSeconds: number;
}

export const DEFAULT_MAX_ATTEMPTS = 3;
export const DEFAULT_REQUEST_TIMEOUT_MILLISECONDS = 30_000;

/**
 * The SDK's longest pauses between attempts: a throttling pause doubles from 1 s up to 20 s, and a
 * Retry-After header may add 5 s. (@smithy/core/retry: StandardRetryStrategy)
 */
const FIRST_PAUSE_MILLISECONDS = 1_000;
const LONGEST_PAUSE_MILLISECONDS = 20_000;
const RETRY_AFTER_MILLISECONDS = 5_000;

/**
 * The most milliseconds that one `deleteObjects` call can take with the given times. The store ends
 * every call at that time. So a longer lease outlasts any call.
 */
export function retryBudgetMilliseconds(times: RetryTimes = {}): number {
  const attempts = times.maxAttempts ?? DEFAULT_MAX_ATTEMPTS;
  const timeout = times.requestTimeoutMilliseconds ?? DEFAULT_REQUEST_TIMEOUT_MILLISECONDS;
  let budget = attempts * timeout;
  for (let pause = 0; pause < attempts - 1; pause += 1) {
    const backoff = Math.min(FIRST_PAUSE_MILLISECONDS * 2 ** pause, LONGEST_PAUSE_MILLISECONDS);
    budget += backoff + RETRY_AFTER_MILLISECONDS;
  }
  return budget;
}

/** The times of a configuration, as the object store takes them. */
export function retryTimesOf(settings: S3TimeSettings): Required<RetryTimes> {
  return {
    maxAttempts: settings.s3MaxAttempts,
    requestTimeoutMilliseconds: settings.s3RequestTimeoutSeconds * 1_000,
  };
}

/** {@link retryBudgetMilliseconds} of a configuration, in seconds. A lease must be longer. */
export function s3BudgetSeconds(settings: S3TimeSettings): number {
  return retryBudgetMilliseconds(retryTimesOf(settings)) / 1_000;
}
