import { UsageError } from '../errors.ts';
import { escapeControls, shorten } from '../safe-text.ts';

/** Milliseconds of each unit, longest first. */
export const MILLISECONDS = {
  week: 604_800_000,
  day: 86_400_000,
  hour: 3_600_000,
  minute: 60_000,
  second: 1_000,
} as const;

const UNITS: Readonly<Record<string, number>> = {
  w: MILLISECONDS.week,
  d: MILLISECONDS.day,
  h: MILLISECONDS.hour,
  m: MILLISECONDS.minute,
  s: MILLISECONDS.second,
};

/** Longer than any retention; keeps dates far inside what JavaScript and Postgres can hold. */
const LONGEST_DURATION = 36_500 * MILLISECONDS.day;

/**
 * Reads a duration such as `30d`, `12h`, `15m`, `45s` or `2w`, and returns milliseconds.
 *
 * @param name what the duration is for, as in `--older-than`.
 * @throws UsageError for anything else, and for more than 36,500 days.
 */
export function parseDuration(text: string, name = 'the duration'): number {
  const groups = /^(?<count>\d{1,12})\s?(?<unit>[wdhms])$/iu.exec(text.trim())?.groups;
  const unit = UNITS[groups?.['unit']?.toLowerCase() ?? ''];
  const milliseconds = Number(groups?.['count']) * (unit ?? Number.NaN);
  if (milliseconds >= 0 && milliseconds <= LONGEST_DURATION) return milliseconds;
  const given = shorten(escapeControls(text), 60);
  throw new UsageError(
    `${name}: expected a duration such as 30d, 12h, 15m, 45s or 2w; given "${given}"`,
    { remedy: 'Write a whole number and one of w, d, h, m, s, without blanks: 30d.' },
  );
}

/** Milliseconds for people, in at most two units: `412 ms`, `3.2 s`, `2 h 5 min`, `30 d`. */
export function formatDuration(milliseconds: number): string {
  if (!Number.isFinite(milliseconds)) return 'unknown';
  if (milliseconds < 0) return `-${formatDuration(-milliseconds)}`;
  if (milliseconds < 999.5) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 59_950) return `${Number((milliseconds / MILLISECONDS.second).toFixed(1))} s`;

  const { day, hour, minute, second } = MILLISECONDS;
  const [large, small] =
    milliseconds < hour - second / 2
      ? ([minute, second] as const)
      : milliseconds < day - minute / 2
        ? ([hour, minute] as const)
        : ([day, hour] as const);
  const total = Math.round(milliseconds / small) * small;
  const rest = (total % large) / small;
  const first = `${Math.floor(total / large)} ${UNIT_NAMES.get(large)}`;
  return rest === 0 ? first : `${first} ${rest} ${UNIT_NAMES.get(small)}`;
}

const UNIT_NAMES: ReadonlyMap<number, string> = new Map([
  [MILLISECONDS.day, 'd'],
  [MILLISECONDS.hour, 'h'],
  [MILLISECONDS.minute, 'min'],
  [MILLISECONDS.second, 's'],
]);
