const S3_CONNECT_SECONDS = 5;
const S3_LONGEST_PAUSE_SECONDS = 20;
const S3_RETRY_AFTER_SECONDS = 5;

/**
 * The most seconds that one S3 request can take with all its attempts: each may connect and then
 * use its whole time, and the pauses between double from 1 s up to 20 s, or 5 s more when the
 * server asks for it. A lease must be longer. (@smithy/core: StandardRetryStrategy)
 */
export function s3BudgetSeconds(attempts: number, requestTimeoutSeconds: number): number {
  let budget = attempts * (requestTimeoutSeconds + S3_CONNECT_SECONDS);
  for (let pause = 0; pause < attempts - 1; pause += 1) {
    budget += Math.min(2 ** pause, S3_LONGEST_PAUSE_SECONDS) + S3_RETRY_AFTER_SECONDS;
  }
  return budget;
}
