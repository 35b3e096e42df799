import type { Writable } from 'node:stream';
import { styleText } from 'node:util';
import { escapeControls } from '../../src/safe-text.ts';

/** Whose words a line repeats. */
export type Speaker = 'listener' | 'postgres' | 'psql' | 's3' | 'runs' | 'retention';

/** Tells the tour: numbered steps, short lines, and what the parts say themselves, marked as theirs. */
export interface Narrator {
  title(text: string): void;
  /** Opens the next step. */
  step(title: string): void;
  say(...lines: readonly string[]): void;
  /** A command that is about to be run, as a person would type it. */
  command(text: string): void;
  /** A line that a part of the stack printed, or something that was seen in it. */
  hear(speaker: Speaker, line: string): void;
  table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): void;
  /** The closing line. */
  verdict(isGood: boolean, text: string): void;
}

type Style = Parameters<typeof styleText>[0];

const SPEAKER_STYLE: Readonly<Record<Speaker, Style>> = {
  listener: 'cyan',
  postgres: 'gray',
  psql: 'magenta',
  s3: 'yellow',
  runs: 'green',
  retention: 'blue',
};
const SPEAKER_WIDTH = Math.max(...Object.keys(SPEAKER_STYLE).map((name) => name.length));

/**
 * Makes a narrator. Colour only where the terminal has it and NO_COLOR does not forbid it; no line
 * is ever taken back.
 *
 * @param stream default: stdout.
 */
export function createNarrator(stream: Writable = process.stdout): Narrator {
  const isColoured =
    stream === process.stdout && process.stdout.isTTY && process.stdout.hasColors();
  const paint = (style: Style, text: string): string =>
    isColoured ? styleText(style, text) : text;
  const write = (line = ''): void => void stream.write(`${line}\n`);
  let steps = 0;
  return {
    title: (text) => write(paint('bold', text)),
    step: (title) => {
      steps += 1;
      write();
      write(paint('bold', `${steps}. ${title}`));
    },
    say: (...lines) => {
      for (const line of lines) write(line === '' ? '' : `   ${line}`);
    },
    command: (text) => write(`   ${paint('bold', `$ ${text}`)}`),
    hear: (speaker, line) => {
      const name = paint(SPEAKER_STYLE[speaker], `${speaker.padStart(SPEAKER_WIDTH)} |`);
      write(`   ${name} ${escapeControls(line)}`);
    },
    table: (head, rows) => {
      const [title = '', ...lines] = layOut(head, rows);
      write(`   ${paint('bold', title)}`);
      for (const line of lines) write(`   ${line}`);
    },
    verdict: (isGood, text) => {
      write();
      write(paint(isGood ? 'green' : 'red', text));
    },
  };
}

/** Pads cells into columns; figures are aligned to the right. */
function layOut(
  head: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): readonly string[] {
  const isFigure = head.map((_, column) => rows.every((row) => typeof row[column] === 'number'));
  const texts = [head, ...rows.map((row) => row.map((cell) => cell.toLocaleString('en')))];
  const widths = head.map((_, column) =>
    Math.max(...texts.map((cells) => cells[column]?.length ?? 0)),
  );
  return texts.map((cells) =>
    cells
      .map((cell, column) =>
        isFigure[column] === true
          ? cell.padStart(widths[column] ?? 0)
          : cell.padEnd(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd(),
  );
}
