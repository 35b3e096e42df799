import { codeOf, describeError } from '../errors.ts';
import type { LogFields, Logger } from '../logger.ts';
import { showCount } from '../numbers.ts';
import { type Clock, systemClock } from './clock.ts';
import { formatDuration } from './duration.ts';

/** The texts of a failure log, and where they go. */
export interface FailureLogOptions {
  readonly logger: Logger;
  /** The beginning of each line: `The retention cycle failed`. */
  readonly failed: string;
  /** The line when it is over: `The retention cycle works again`. */
  readonly recovered: string;
  /** Default: `error`. */
  readonly level?: 'error' | 'warning';
  readonly clock?: Clock;
  /** Default: the system's. */
  readonly now?: () => Date;
}

/** Says a failure that goes on in a few lines: when it begins, ever more rarely, and when it is over. */
export interface FailureLog {
  /**
   * A failure. The 1st, 2nd, 4th, 8th ... of one kind is a line, no two of them within a second; the
   * others are for level debug.
   */
  failed(error: unknown, fields?: LogFields): void;
  /** The same for what is no error: of the same `kind` is the same failure. */
  said(kind: string, text: string, fields?: LogFields): void;
  /** It works. One line after a failure, none otherwise. */
  works(): void;
}

/** What fails together, as the slots of a listener do, is one event. */
const TOGETHER_MILLISECONDS = 1_000;

const MOST_KINDS = 100;

/** Makes a failure log. */
export function createFailureLog(options: FailureLogOptions): FailureLog {
  const { logger, level = 'error', clock = systemClock, now = () => new Date() } = options;
  const kinds = new Map<string, { times: number; saidAt: number }>();
  let inRow = 0;
  let startedAt = 0;
  let since = '';

  const said = (kind: string, text: string, fields: LogFields = {}): void => {
    const at = clock.now();
    if (inRow === 0) {
      startedAt = at;
      since = now().toISOString();
    }
    inRow += 1;
    // By kind, so that two that take turns are not news each time.
    const known = kinds.get(kind) ?? { times: 0, saidAt: at };
    if (kinds.size < MOST_KINDS) kinds.set(kind, known);
    known.times += 1;
    const isFirst = known.times === 1;
    const isNews =
      isFirst ||
      (Number.isInteger(Math.log2(known.times)) && at - known.saidAt >= TOGETHER_MILLISECONDS);
    if (isNews) known.saidAt = at;
    const again = isFirst ? '' : `, still: ${showCount(inRow, 'time')} since ${since}`;
    logger[isNews ? level : 'debug'](`${options.failed}${again}: ${text}`, fields);
  };
  return {
    failed: (error, fields = {}) => {
      const text = describeError(error);
      // By its code: messages have times and addresses in them.
      said(codeOf(error) ?? text, text, { error, ...fields });
    },
    said,
    works: () => {
      if (inRow === 0) return;
      const duration = formatDuration(clock.now() - startedAt);
      logger.info(`${options.recovered} after ${showCount(inRow, 'failure')} in ${duration}`);
      inRow = 0;
      kinds.clear();
    },
  };
}
