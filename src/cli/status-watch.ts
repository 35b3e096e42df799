import { describeError } from '../errors.ts';
import { millisecondsOf, showInstant } from '../instant.ts';
import { formatDuration } from '../lifecycle/duration.ts';
import { pause } from '../lifecycle/pause.ts';
import { watchStopSignals } from '../lifecycle/signals.ts';
import { showCount, showNumber } from '../numbers.ts';
import { escapeControls } from '../safe-text.ts';
import type { Status } from '../store/status.ts';
import type { Trend } from '../store/trend.ts';
import { printJsonLine, printLine } from './output.ts';
import { describeTrend, dueText } from './status-table.ts';
import {
  canRedraw,
  clearScreen,
  clockTime,
  cutLine,
  distanceOf,
  lineWidth,
  screenHeight,
} from './terminal.ts';

/** What is looked at. */
export interface StatusAndTrend {
  readonly row: Status;
  readonly trend: Trend;
}

/**
 * Shows the status until SIGINT or SIGTERM: redrawn on a terminal, a line each time otherwise.
 * Reports a database that does not answer, and asks again.
 */
export async function watchStatus(
  first: StatusAndTrend,
  read: () => Promise<StatusAndTrend>,
  intervalMilliseconds: number,
  isJson: boolean,
): Promise<void> {
  const signals = watchStopSignals();
  const show = isJson ? printDocument : canRedraw(process.stdout) ? redraw : printCompact;
  show(first);
  for (;;) {
    await pause(intervalMilliseconds, signals.signal);
    if (signals.signal.aborted) break;
    try {
      show(await read());
    } catch (error) {
      process.stderr.write(`${clockTime()} no answer: ${describeError(error)}\n`);
    }
  }
  signals.dispose();
}

function printDocument({ row, trend }: StatusAndTrend): void {
  printJsonLine({ ...row, trend });
}

/** One screen: what is longer than a line is cut, and `retention status` has all of it. */
function redraw(seen: StatusAndTrend): void {
  const columns = lineWidth() ?? Number.POSITIVE_INFINITY;
  const entries = entriesOf(seen);
  const width = Math.max(...entries.map(([name]) => name.length));
  const lines = [
    `${clockTime()}, until Ctrl-C; all of it: retention status`,
    ...entries.map(([name, text]) => `  ${name.padEnd(width)}  ${escapeControls(text)}`),
  ];
  clearScreen();
  // The cursor stays below the last line.
  for (const line of lines.slice(0, screenHeight() - 1)) printLine(cutLine(line, columns));
}

/** The figures by what they are about, so that all of them fit 24 lines; what needs a person comes first. */
function entriesOf({ row, trend }: StatusAndTrend): readonly (readonly [string, string])[] {
  const { due_since: since, oldest_due: oldest } = row;
  return [
    ['halted', row.halted.length === 0 ? 'no' : row.halted.join(', ')],
    ['set aside', `${showNumber(row.set_aside)}, ${showCount(row.surges, 'surge')}`],
    ['dead', showNumber(row.dead)],
    ['policy pending', row.policy_pending ?? 'none'],
    ['due', dueText(row) + (since === null ? '' : `, the oldest since ${showInstant(since)}`)],
    ['oldest due', oldest === null ? 'none' : `completed ${showInstant(oldest)}`],
    [
      'flagged',
      `${showNumber(row.flagged)} in ${showCount(row.batches, 'batch', 'batches')}, ` +
        `${showNumber(row.leased)} leased`,
    ],
    ['failed', `${showNumber(row.failed)}, ${showCount(row.buckets_paused, 'bucket')} paused`],
    [
      'cooling',
      `${showNumber(row.cooling)}${row.cooling_until === null ? '' : `, the first may go ${distanceOf(row.cooling_until)}`}`,
    ],
    ['cleared today', `${showNumber(row.cleared_today)}, ${showNumber(row.spared_today)} spared`],
    ...describeTrend(trend),
    ['holds', showNumber(row.held)],
    ['kept', `${showNumber(row.kept)} by keepers, ${showNumber(row.object_changed)} changed`],
    ['live estimate', showNumber(row.live_estimate)],
    ['scheduler', `${row.scheduler}: ${row.scheduler_health}`],
    ['last tick', row.last_tick === null ? 'never' : distanceOf(row.last_tick)],
    ['last pass', row.last_pass === null ? 'never' : distanceOf(row.last_pass)],
    ['next pass', row.next_pass === null ? row.next_pass_because : distanceOf(row.next_pass)],
    ['newest run', describeNewest(row)],
  ];
}

function describeNewest({ newest_run: newest }: Status): string {
  if (newest === null) return 'none known';
  const at = millisecondsOf(newest);
  return Number.isFinite(at) ? `completed ${distanceOf(new Date(at))}` : showInstant(newest);
}

function printCompact({ row, trend }: StatusAndTrend): void {
  const figures = [
    ['flagged', row.flagged],
    ['leased', row.leased],
    ['failed', row.failed],
    ['dead', row.dead],
    ['held', row.held],
    ['cleared today', row.cleared_today],
  ] as const;
  const shown = [
    `due ${dueText(row)}`,
    ...figures.map(([name, figure]) => `${name} ${showNumber(figure)}`),
  ];
  const tick =
    row.last_tick === null
      ? 'no tick yet'
      : `last tick ${formatDuration(Math.max(0, Date.now() - row.last_tick.getTime()))} ago`;
  const left = trend.seconds_to_go === null ? '' : `; ${describeTrend(trend)[1]?.join(' ') ?? ''}`;
  const pending = row.policy_pending === null ? '' : `; to be confirmed: ${row.policy_pending}`;
  printLine(
    escapeControls(
      `${clockTime()} ${shown.join(', ')}${left}; ${tick}, scheduler ${row.scheduler_health}${pending}`,
    ),
  );
}
