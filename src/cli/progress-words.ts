import { formatDuration } from '../lifecycle/duration.ts';
import { showCount, showNumber } from '../numbers.ts';

/** What is counted. */
export interface Counted {
  /** One of it. Default: `result`. */
  readonly one?: string;
  /** What was done to it. Default: `done`. */
  readonly verb?: string;
  /** Whether the number of all is an estimate, which may be too low. Default: false. */
  readonly isEstimate?: boolean;
}

const SECOND = 1_000;
/** Before that, a pace says little. */
const LEAST_MILLISECONDS = SECOND;

/** `2,000 of 10,000 results done in 8 s, about 32 s to go`. */
export function describeProgress(
  at: { readonly done: number; readonly known: number; readonly milliseconds: number },
  { one = 'result', verb = 'done', isEstimate = false }: Counted = {},
): string {
  const { done, known, milliseconds } = at;
  const total = Math.max(done, known);
  // What has been overtaken was no good estimate.
  const said =
    isEstimate && known <= done
      ? `${showCount(done, one)} ${verb}`
      : `${showNumber(done)} of ${isEstimate ? 'about ' : ''}${showCount(total, one)} ${verb}`;
  if (milliseconds < LEAST_MILLISECONDS) return said;
  const left = (milliseconds / done) * (total - done);
  const toGo = done > 0 && done < total ? `, about ${inSeconds(left)} to go` : '';
  return `${said} in ${inSeconds(milliseconds)}${toGo}`;
}

function inSeconds(milliseconds: number): string {
  return formatDuration(Math.max(1, Math.round(milliseconds / SECOND)) * SECOND);
}
