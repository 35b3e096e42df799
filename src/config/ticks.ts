/** pg_cron ticks every minute; an internal scheduler, and a listener in its place, as often. */
export const TICK_SECONDS = 60;

/**
 * A scheduler without a tick for this long is silent: listeners tick in its place, and doctor fails.
 * `retention.status` says the same by the same five minutes.
 */
export const SILENT_SCHEDULER_SECONDS = 300;

/** By now a listener has polled, found the scheduler silent, and ticked, unless none is there. */
export const MISSING_TICKS_SECONDS = SILENT_SCHEDULER_SECONDS + 2 * TICK_SECONDS;

/** Without a run that completed for this long, the application may be writing to another table. */
export const QUIET_SECONDS = 14 * 86_400;
