import { createInterface } from 'node:readline/promises';
import { showNumber } from '../numbers.ts';
import { escapeControls, redactSecrets } from '../safe-text.ts';
import { canAsk, lineWidth, wrapText } from './terminal.ts';

let hasPrinted = false;

/** Writes the one document of `--json`. */
export function printJson(document: unknown): void {
  for (const line of JSON.stringify(document, null, 2).split('\n')) printJsonText(line);
}

/** Writes one document of many, on a line of its own. */
export function printJsonLine(document: unknown): void {
  printJsonText(JSON.stringify(document));
}

/** JSON does not escape all that steers a terminal; inside its strings an escape says the same. */
function printJsonText(line: string): void {
  printLine(escapeControls(line));
}

/** Writes one line for people. */
export function printLine(line = ''): void {
  printText(`${line}\n`);
}

/**
 * Writes one document of `--json` of which one list comes in pages, so that it never is in memory as a whole. It reads as
 * what `printJson` writes of `{...head, [name]: [...], ...tail}`.
 */
export async function printJsonInPages(
  head: object,
  name: string,
  pages: AsyncIterable<readonly unknown[]>,
  tail: object,
): Promise<void> {
  let hasItems = false;
  printText(escapeLines(`{\n${membersOf(head)},\n  ${JSON.stringify(name)}: [`));
  for await (const page of pages) {
    const items = page.map((item) => indented(JSON.stringify(item, null, 2), '    '));
    printText(escapeLines((hasItems ? ',\n' : '\n') + items.join(',\n')));
    hasItems ||= items.length > 0;
  }
  const rest = membersOf(tail);
  printText(escapeLines(`${hasItems ? '\n  ' : ''}]${rest === '' ? '' : ',\n'}${rest}\n}\n`));
}

/** The members of an object as `JSON.stringify` writes them with two spaces, without the braces. */
function membersOf(document: object): string {
  return JSON.stringify(document, null, 2).slice(2, -2);
}

function indented(text: string, spaces: string): string {
  return spaces + text.replaceAll('\n', `\n${spaces}`);
}

/** Escapes what steers a terminal, and leaves the ends of lines. */
function escapeLines(text: string): string {
  return text
    .split('\n')
    .map((line) => escapeControls(line))
    .join('\n');
}

function printText(text: string): void {
  hasPrinted = true;
  process.stdout.write(text);
}

/** Writes rows as columns, padded; figures are aligned to the right. */
export function printTable(head: readonly string[], rows: readonly (readonly unknown[])[]): void {
  openTable(head)(rows);
}

/**
 * Begins a table whose rows come in parts. Returns what writes the next ones. The columns are as wide as what has come so
 * far: those of a first part that is all look as if they came at once. Where a row of the first part is wider than a line of
 * the terminal, each row becomes a block of lines instead, a line for each cell.
 */
export function openTable(
  head: readonly string[],
): (rows: readonly (readonly unknown[])[]) => void {
  const widths = head.map((title) => title.length);
  const columns = lineWidth() ?? Number.POSITIVE_INFINITY;
  let isFirst = true;
  let isWide = false;
  return (rows) => {
    const texts = rows.map((row) => row.map((cell) => showCell(cell)));
    for (const row of texts) {
      for (const [column, text] of row.entries()) {
        widths[column] = Math.max(widths[column] ?? 0, text.length);
      }
    }
    if (isFirst) isWide = widths.reduce((sum, width) => sum + 2 + width, 0) > columns;
    if (isWide) printBlocks(head, rows, columns, isFirst);
    else {
      const isFigure = head.map((_, column) =>
        rows.every((row) => typeof row[column] === 'number'),
      );
      printColumns(isFirst ? [head, ...texts] : texts, widths, isFigure);
    }
    isFirst = false;
  };
}

function printColumns(
  rows: readonly (readonly string[])[],
  widths: readonly number[],
  isFigure: readonly boolean[],
): void {
  const lines = rows.map((cells) => {
    const padded = cells.map((cell, column) =>
      isFigure[column] === true
        ? cell.padStart(widths[column] ?? 0)
        : cell.padEnd(widths[column] ?? 0),
    );
    return `  ${padded.join('  ')}`.trimEnd();
  });
  printText(lines.map((line) => `${line}\n`).join(''));
}

/** A block for each row, with an empty line between two; empty cells are left out. */
function printBlocks(
  head: readonly string[],
  rows: readonly (readonly unknown[])[],
  columns: number,
  isFirst: boolean,
): void {
  const width = Math.max(...head.map((title) => title.length));
  const blocks = rows.map((cells) =>
    cells
      .flatMap((cell, column) =>
        isNothing(cell) ? [] : showEntry(head[column] ?? '', showCell(cell), width, columns),
      )
      .map((line) => `${line}\n`)
      .join(''),
  );
  printText(blocks.map((block, index) => (isFirst && index === 0 ? '' : '\n') + block).join(''));
}

/** A name and what it stands for, on as many lines as it takes. */
export function showEntry(
  name: string,
  text: string,
  width: number,
  columns: number,
): readonly string[] {
  const indent = ' '.repeat(width + 4);
  return wrapText(text, columns - indent.length).map((line, index) =>
    ((index === 0 ? `  ${name.padEnd(width)}  ` : indent) + line).trimEnd(),
  );
}

function isNothing(cell: unknown): cell is null | undefined {
  return cell === null || cell === undefined;
}

/** A cell as text. */
export function showCell(cell: unknown): string {
  if (isNothing(cell)) return '-';
  if (cell instanceof Date) return cell.toISOString();
  if (typeof cell === 'number') return showNumber(cell);
  return escapeControls(typeof cell === 'string' ? cell : JSON.stringify(cell));
}

/**
 * Asks for a yes, unless it was given.
 *
 * @param remedy what to say instead of a yes. Default: `--yes`.
 * @throws RefusedError when it does not come, or stdin is no terminal to ask at.
 */
export async function confirm(
  question: string,
  isGiven: boolean,
  remedy = 'Say --yes to confirm.',
): Promise<void> {
  if (isGiven) return;
  const { RefusedError } = await import('../errors.ts');
  if (!canAsk()) {
    throw new RefusedError(`${question} There is no terminal to ask at; nothing was done.`, {
      remedy,
    });
  }
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    // The input may end (Ctrl-D): by the version of Node an error comes then, or no answer ever.
    const ended = new Promise<string>((resolve) => prompt.once('close', () => resolve('')));
    const asked = prompt.question(`${escapeControls(question)} [y/N] `).catch(() => '');
    const answer = await Promise.race([asked, ended]);
    if (/^y(?:es)?$/iu.test(answer.trim())) return;
  } finally {
    prompt.close();
  }
  throw new RefusedError('Not confirmed; nothing was done.');
}

/**
 * Says what went wrong and what to do, on stderr; with `--json` also as the document on stdout, where
 * there is none yet. Returns what to exit with.
 */
export async function reportError(error: unknown, isJson = false): Promise<number> {
  const { ConfigurationError, RetentionError, describeError } = await import('../errors.ts');
  // A configuration report has a line for each fault.
  const text = error instanceof ConfigurationError ? error.message : describeError(error);
  process.stderr.write(`error: ${text}\n`);
  const remedy = error instanceof RetentionError ? error.remedy : undefined;
  // The remedy may be a hint of the server, and so any text.
  if (remedy !== undefined) process.stderr.write(`${escapeControls(redactSecrets(remedy))}\n`);
  const exitCode = error instanceof RetentionError ? error.exitCode : 1;
  if (isJson) {
    const code = error instanceof RetentionError ? error.code : 'FAILED';
    printJsonError({ code, message: text, remedy, exitCode });
  }
  return exitCode;
}

/** Writes the document of a command that failed; nothing where it has written one. */
export function printJsonError(failure: {
  readonly code: string;
  readonly message: string;
  readonly remedy?: string | undefined;
  readonly exitCode: number;
}): void {
  if (hasPrinted) return;
  const { code, message, remedy, exitCode } = failure;
  printJson({
    error: {
      code,
      message: redactSecrets(message),
      remedy: remedy === undefined ? null : redactSecrets(remedy),
      exit_code: exitCode,
    },
  });
}

/**
 * Reports an error that was not caught, and ends. Node would print the error with all its properties,
 * and the error of an unreadable URL has the URL with its password.
 */
export async function reportCrash(error: unknown, isJson = false): Promise<never> {
  const { EXIT_CODE, describeError } = await import('../errors.ts');
  const frames = (error instanceof Error ? (error.stack ?? '') : '')
    .split('\n')
    .filter((line) => /^ {4}at /u.test(line));
  const lines = [`error: this should not happen: ${describeError(error)}`, ...frames];
  for (const line of lines) process.stderr.write(`${escapeControls(redactSecrets(line))}\n`);
  if (isJson) {
    printJsonError({ code: 'CRASH', message: describeError(error), exitCode: EXIT_CODE.failed });
  }
  process.exit(EXIT_CODE.failed);
}
