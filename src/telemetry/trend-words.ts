import { formatDuration } from '../lifecycle/duration.ts';
import { showNumber } from '../numbers.ts';
import type { Trend } from '../store/trend.ts';

/** `1,240 a second`, `0.4 a second`. */
export function showPace({ cleared_per_second: pace }: Trend): string {
  const digits = pace > 0 && pace < 10 ? 1 : 0;
  const shown = Number(pace.toFixed(digits));
  if (shown === 0 && pace > 0) return 'less than 0.1 a second';
  return `${showNumber(shown)} a second`;
}

/** About how long it takes until the backlog is gone; undefined: there is no estimate. */
export function showTimeToGo({
  seconds_to_go: seconds,
  is_at_least: isAtLeast,
}: Trend): string | undefined {
  if (seconds === null) return undefined;
  const shown = formatDuration(Math.max(1, Math.round(seconds)) * 1_000);
  return isAtLeast ? `at least ${shown}` : `about ${shown}`;
}

/** Which way the backlog goes: `growing, 3,000 flagged an hour ago`. */
export function showDirection({ direction, flagged_before: before }: Trend): string {
  return `${direction}, ${showNumber(before)} flagged an hour ago`;
}
