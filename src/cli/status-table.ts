import { showInstant } from '../instant.ts';
import { MILLISECONDS, formatDuration } from '../lifecycle/duration.ts';
import { showCount, showNumber } from '../numbers.ts';
import { escapeControls } from '../safe-text.ts';
import type { Canary } from '../store/canary.ts';
import { type StandingVerify, describeDrift } from '../store/standing.ts';
import type { Unsettled } from '../store/selection.ts';
import type { Variable } from '../store/settings.ts';
import type { Status, WaitCause } from '../store/status.ts';
import type { Trend } from '../store/trend.ts';
import { showDirection, showPace, showTimeToGo } from '../telemetry/trend-words.ts';
import { printLine, showCell, showEntry } from './output.ts';
import { lineWidth, wrapText } from './terminal.ts';

/** Writes the view and the trend, a line for each figure. */
export function printStatus(row: Status, trend: Trend): void {
  const entries = [
    ...Object.entries(row as unknown as Record<string, unknown>)
      .filter(([name]) => name !== 'due_is_capped')
      .map(([name, value]) => [name.replaceAll('_', ' '), showValue(name, value, row)] as const),
    ...describeTrend(trend),
  ];
  const width = Math.max(...entries.map(([name]) => name.length));
  const columns = lineWidth() ?? Number.POSITIVE_INFINITY;
  printLine();
  for (const [name, value] of entries) {
    for (const line of showEntry(name, showCell(value), width, columns)) printLine(line);
  }
}

/** How fast the backlog goes, and about when it is gone. */
export function describeTrend(trend: Trend): readonly (readonly [name: string, text: string])[] {
  const left = showTimeToGo(trend);
  return [
    ['pace', `${showPace(trend)} cleared; ${showDirection(trend)}`],
    ['backlog gone in', left === undefined ? `not known: ${trend.because}` : `${left} (estimate)`],
  ];
}

/** As a text, so that the column is not aligned as one of figures. */
function showValue(name: string, value: unknown, row: Status): unknown {
  if (name === 'due') return dueText(row);
  if (Array.isArray(value)) return value.length === 0 ? 'no' : value.join(', ');
  return typeof value === 'number' ? showNumber(value) : value;
}

/** How much is due; where counting stopped at its bound, at least that. */
export function dueText({ due, due_is_capped }: Pick<Status, 'due' | 'due_is_capped'>): string {
  return `${due_is_capped ? 'at least ' : ''}${showNumber(due)}`;
}

/** Writes what waits, why, until when and what to do; nothing where nothing waits. */
export function printWaitCauses(causes: readonly WaitCause[]): void {
  if (causes.length === 0) return;
  printLine();
  printLine('What waits, and why:');
  for (const cause of causes) printItem(describeCause(cause));
}

function describeCause({ what, results, because, ends_at: end, remedy }: WaitCause): string {
  const count = results === null ? '' : ` (${showCount(results, 'result')})`;
  return [
    `${what}${count}: ${because}`,
    ...(end === null ? [] : [`until ${showInstant(end)}`]),
    ...(remedy === null ? [] : [`remedy: ${remedy}`]),
  ].join('; ');
}

/** Writes which canaries fail, and why; of those that work nothing. */
export function printCanaries(canaries: readonly Canary[]): void {
  for (const { bucket, code, problem, age_seconds: age } of canaries) {
    if (code === null) continue;
    const since = formatDuration(age * MILLISECONDS.second);
    printLine();
    printLine(
      escapeControls(
        `No canary of bucket ${bucket} was deleted for ${since}: ${code} ${problem ?? ''}; see: retention doctor`,
      ),
    );
  }
}

/** Writes which buckets have drift or cannot be verified; of the others nothing. */
export function printDrift(verifies: readonly StandingVerify[]): void {
  for (const text of verifies.map(describeDrift).filter((it) => it !== undefined)) {
    printLine();
    printLine(escapeControls(text));
  }
}

/** Writes the variables that say something else than the database, side by side with it. */
export function printVariables(variables: readonly Variable[]): void {
  if (variables.length === 0) return;
  printLine();
  printLine('Variables that are not in force:');
  for (const { variable, value, name, stored, set_at, set_by, remedy } of variables) {
    const by = set_at === null ? '' : `, set by ${set_by} at ${showInstant(set_at)}`;
    printItem(
      `${variable}=${value}; the database has ${name} = ${stored ?? 'none'}${by}; remedy: ${remedy}`,
    );
  }
}

/** One of several, on as many lines as it takes. */
function printItem(text: string): void {
  const columns = lineWidth() ?? Number.POSITIVE_INFINITY;
  for (const [index, line] of wrapText(escapeControls(text), columns - 4).entries()) {
    printLine((index === 0 ? '  ' : '    ') + line);
  }
}

/** What waits in buckets that a process with this configuration may not delete from, as causes. */
export function causesOfRefusal(waiting: readonly Unsettled[]): readonly WaitCause[] {
  return waiting
    .filter(({ kind }) => kind === 'not allowed')
    .map(({ bucket, results, reason }) => ({
      what: `bucket ${bucket}`,
      results,
      because: reason,
      ends_at: null,
      remedy: 'where they are to go, add it to the S3_RESULT_BUCKET of a listener',
    }));
}
