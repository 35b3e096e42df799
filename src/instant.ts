/**
 * A point in time out of the database. What no date of ours holds (infinity, a year before 1 or after 9999)
 * stays the text that Postgres has for it.
 */
export type Instant = Date | string;

/** A point in time for people and for JSON. */
export function showInstant(instant: Instant): string {
  return typeof instant === 'string' ? instant : instant.toISOString();
}

/** Milliseconds since 1970. Of an instant that no Date can hold: infinity, or minus infinity for the past. */
export function millisecondsOf(instant: Instant): number {
  if (typeof instant !== 'string') return instant.getTime();
  return instant.startsWith('-') || instant.endsWith('BC')
    ? Number.NEGATIVE_INFINITY
    : Number.POSITIVE_INFINITY;
}
