const DAY = /^\d{4}-\d{2}-\d{2}$/u;
const TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:Z|[+-]\d{2}:\d{2})$/u;

/**
 * Reads a day, which begins at midnight by UTC, or a time with its time zone.
 *
 * @param name the option, as in `--from`.
 * @throws UsageError for anything else, and for a day that no calendar has.
 */
export async function readMoment(text: string, name: string): Promise<Date> {
  const trimmed = text.trim();
  const at = new Date(DAY.test(trimmed) ? `${trimmed}T00:00:00Z` : trimmed);
  const isRead = (DAY.test(trimmed) || TIME.test(trimmed)) && !Number.isNaN(at.getTime());
  // JavaScript makes the 2nd of March of the 30th of February.
  const isReal = isRead && Number(trimmed.slice(8, 10)) <= daysOf(trimmed);
  if (isReal && at.getTime() >= Date.UTC(1, 0, 1)) return at;
  const [{ UsageError }, { escapeControls, shorten }] = await Promise.all([
    import('../errors.ts'),
    import('../safe-text.ts'),
  ]);
  throw new UsageError(
    `${name}: expected a day such as 2026-01-31 or a time such as 2026-01-31T09:00:00Z; given "${shorten(escapeControls(text), 60)}"`,
    { remedy: 'A day begins at midnight by UTC. A time says its time zone: Z, or +09:00.' },
  );
}

/** How many days the month of a date has. */
function daysOf(date: string): number {
  return new Date(Date.UTC(Number(date.slice(0, 4)), Number(date.slice(5, 7)), 0)).getUTCDate();
}
