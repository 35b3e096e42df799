import type { Command } from 'commander';
import { formatDuration } from '../lifecycle/duration.ts';
import { canRedraw } from './terminal.ts';

const SECOND = 1_000;
/** On a terminal a person waits; what reads a pipe or keeps a log does not wonder as soon. */
const FIRST_ON_TERMINAL = 2 * SECOND;
const FIRST_IN_LOG = 10 * SECOND;
/** Each wait for the next line is so much longer than the one before. */
const LONGER = 2;
const LONGEST = 60 * SECOND;

/** Run until they are stopped, and say by themselves what they do. */
const ENDLESS = new Set(['listen', 'watch']);

/** Says of whichever command is called that it is still at work, until that ends. */
export function watchPatience(program: Command): Patience {
  let patience: Patience | undefined;
  program.hook('preAction', (_, command) => {
    if (ENDLESS.has(command.name()) || command.opts()['watch'] === true) return;
    patience = sayStillAtWork(nameOf(command));
  });
  return { end: () => patience?.end() };
}

/** `migrate up`: its own name behind that of what it belongs to, without the program's. */
function nameOf(command: Command): string {
  const { parent } = command;
  if (parent === null) return '';
  return `${nameOf(parent)} ${command.name()}`.trim();
}

/** Ends what {@link sayStillAtWork} began. */
export interface Patience {
  end(): void;
}

/**
 * Says on stderr that a command is still at work, after two seconds and then less and less often, as long as nothing else is
 * printed. It is a line of its own and draws over nothing, so that it mixes with any other output.
 *
 * @param name the command, such as `migrate up`.
 */
function sayStillAtWork(name: string): Patience {
  const beganAt = performance.now();
  let wait = canRedraw(process.stderr) ? FIRST_ON_TERMINAL : FIRST_IN_LOG;
  let seen = writtenBytes();
  let timer: NodeJS.Timeout | undefined;
  const look = (): void => {
    if (writtenBytes() === seen && !isAsking()) {
      const age = Math.round((performance.now() - beganAt) / SECOND) * SECOND;
      process.stderr.write(`retention ${name}: still at work, for ${formatDuration(age)} now\n`);
      wait = Math.min(wait * LONGER, LONGEST);
    }
    seen = writtenBytes();
    again();
  };
  const again = (): void => {
    // It keeps no process alive.
    timer = setTimeout(look, wait).unref();
  };
  again();
  return { end: () => clearTimeout(timer) };
}

/** Whether something is read from the terminal: then it is the person who takes their time. */
function isAsking(): boolean {
  return process.stdin.isTTY && process.stdin.readableFlowing === true;
}

/** How much was printed so far, where the streams count it; a file does not. */
function writtenBytes(): number {
  return countOf(process.stdout) + countOf(process.stderr);
}

function countOf(stream: object): number {
  return 'bytesWritten' in stream && typeof stream.bytesWritten === 'number'
    ? stream.bytesWritten
    : 0;
}
