import { UsageError } from './errors.ts';
import { escapeControls, shorten } from './safe-text.ts';

const FORM =
  /^(?<date>\d{4}-\d{2}-\d{2})(?:[T ](?<time>\d{2}:\d{2}(?::\d{2})?)(?<fraction>\.\d{1,6})?\s?(?<zone>Z|[+-]\d{2}(?::?\d{2})?)?)?$/iu;

/**
 * Reads a point in time such as `2026-04-01` (midnight), `2026-04-01T09:30Z` or `2026-04-01 09:30:15.25+09:00`, by UTC
 * where no zone is said. Returns it as Postgres and JavaScript read it, to the microsecond.
 *
 * @param name what it is for, as in `--at`.
 * @throws UsageError for anything else, and for a day that is in no calendar.
 */
export function parsePointInTime(text: string, name: string): string {
  const groups = FORM.exec(text.trim())?.groups;
  if (groups !== undefined) {
    const { date = '', time = '00:00', fraction = '', zone = 'Z' } = groups;
    const seconds = time.length === 5 ? `${time}:00` : time;
    const isSane = isCalendarDay(date) && seconds < '24' && !/:[6-9]/u.test(seconds);
    const read = `${date}T${seconds}${fraction}${offsetOf(zone)}`;
    if (isSane && !Number.isNaN(Date.parse(read))) return read;
  }
  const given = shorten(escapeControls(text), 60);
  throw new UsageError(
    `${name}: expected a point in time such as 2026-04-01 or 2026-04-01T09:30Z; given "${given}"`,
    { remedy: 'Without a zone it is by UTC; with one: 2026-04-01T09:30+09:00.' },
  );
}

function isCalendarDay(date: string): boolean {
  const midnight = new Date(`${date}T00:00:00Z`);
  return !Number.isNaN(midnight.getTime()) && midnight.toISOString().startsWith(date);
}

function offsetOf(zone: string): string {
  if (zone.toUpperCase() === 'Z') return 'Z';
  const digits = zone.slice(1).replace(':', '').padEnd(4, '0');
  return `${zone.slice(0, 1)}${digits.slice(0, 2)}:${digits.slice(2)}`;
}
