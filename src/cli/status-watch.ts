import { describeError } from '../errors.ts';
import { formatDuration } from '../lifecycle/duration.ts';
import { pause } from '../lifecycle/pause.ts';
import { watchStopSignals } from '../lifecycle/signals.ts';
import { showNumber } from '../numbers.ts';
import { escapeControls } from '../safe-text.ts';
import type { Status } from '../store/status.ts';
import { printJsonLine, printLine } from './output.ts';
import { dueText, printStatus } from './status-table.ts';
import { clearScreen, clockTime } from './terminal.ts';

/**
 * Shows the status until SIGINT or SIGTERM: redrawn on a terminal, a line each time otherwise.
 * Reports a database that does not answer, and asks again.
 */
export async function watchStatus(
  first: Status,
  read: () => Promise<Status>,
  intervalMilliseconds: number,
  isJson: boolean,
): Promise<void> {
  const signals = watchStopSignals();
  const show = isJson ? printJsonLine : process.stdout.isTTY ? redraw : printCompact;
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

function redraw(row: Status): void {
  clearScreen();
  printLine(`${clockTime()}, until Ctrl-C`);
  printStatus(row);
}

function printCompact(row: Status): void {
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
  const pending = row.policy_pending === null ? '' : `; to be confirmed: ${row.policy_pending}`;
  printLine(
    escapeControls(
      `${clockTime()} ${shown.join(', ')}; ${tick}, scheduler ${row.scheduler_health}${pending}`,
    ),
  );
}
