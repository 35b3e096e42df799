import { styleText } from 'node:util';
import { formatDuration } from '../lifecycle/duration.ts';

const DEFAULT_COLUMNS = 80;
const DEFAULT_ROWS = 24;

/** Whether stdout is a terminal that shows colours, and its user wants them (NO_COLOR). */
function isColored(): boolean {
  return process.stdout.isTTY && process.stdout.hasColors();
}

/** Colours a text, where stdout shows that. */
export function paint(color: 'yellow' | 'green' | 'red', text: string): string {
  return isColored() ? styleText(color, text) : text;
}

/**
 * Whether a stream is a terminal on which a person sees what is drawn over. A CI gives its jobs one as well, and keeps all
 * that was written to it; TERM=dumb names one that cannot go back.
 */
export function canRedraw(stream: { readonly isTTY?: boolean }): boolean {
  return stream.isTTY === true && !isCi() && process.env['TERM'] !== 'dumb';
}

/** Whether a person can be asked: there is a terminal, and it is not that of a CI, where none answers. */
export function canAsk(): boolean {
  return process.stdin.isTTY && !isCi();
}

/** As CI services set it; some tools set it to `false` or `0` where there is none. */
function isCi(): boolean {
  return !['', '0', 'false'].includes(process.env['CI'] ?? '');
}

/** How many columns a line has, where that is known: on a terminal, and where COLUMNS says so. */
export function lineWidth(): number | undefined {
  const { columns, isTTY } = process.stdout;
  if (isTTY && columns > 0) return columns;
  return readSize('COLUMNS') ?? (isTTY ? DEFAULT_COLUMNS : undefined);
}

/** How many lines the terminal has. */
export function screenHeight(): number {
  const { rows, isTTY } = process.stdout;
  return isTTY && rows > 0 ? rows : (readSize('LINES') ?? DEFAULT_ROWS);
}

function readSize(name: 'COLUMNS' | 'LINES'): number | undefined {
  const size = Number(process.env[name]);
  return Number.isSafeInteger(size) && size > 0 ? size : undefined;
}

/**
 * Breaks a text at its blanks into lines of at most so many columns. A word that is longer stays whole, so that it can be
 * copied.
 */
export function wrapText(text: string, columns: number): readonly string[] {
  const lines: string[] = [];
  let line: string | undefined;
  for (const word of text.split(' ')) {
    const longer = line === undefined ? word : `${line} ${word}`;
    if (line === undefined || longer.length <= columns) line = longer;
    else {
      lines.push(line);
      line = word;
    }
  }
  return [...lines, line ?? ''];
}

/** Cuts a line that is too long, and says so. */
export function cutLine(line: string, columns: number): string {
  return line.length <= columns ? line : `${line.slice(0, Math.max(0, columns - 3))}...`;
}

/** The time of day, `12:00:05`. */
export function clockTime(date = new Date()): string {
  return date.toTimeString().slice(0, 'hh:mm:ss'.length);
}

/** `2 min ago`, `in 3 h`; `now` for less than a second. */
export function distanceOf(date: Date, now = new Date()): string {
  const milliseconds = now.getTime() - date.getTime();
  const away = Math.round(Math.abs(milliseconds) / 1_000) * 1_000;
  if (away === 0) return 'now';
  return milliseconds > 0 ? `${formatDuration(away)} ago` : `in ${formatDuration(away)}`;
}

/** Takes a terminal's screen for what is printed next. */
export function clearScreen(): void {
  process.stdout.write('\u001B[H\u001B[2J');
}
