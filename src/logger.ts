import type { Writable } from 'node:stream';
import winston from 'winston';
import { type LogFields, MAX_TEXT_CHARACTERS, fieldsAsText, toPlainValue } from './log-fields.ts';
import { escapeControls, redactAndShorten } from './safe-text.ts';

export type { LogFields } from './log-fields.ts';

/** The levels, most important last. */
export type LogLevel = 'debug' | 'info' | 'warning' | 'error';

/** Writes the log. A message is a constant or nearly; values are fields. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warning(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

/** How a logger is made. */
export interface LoggerOptions {
  /** The least level that is written. Default: `info`. */
  readonly level?: LogLevel | undefined;
  /** One JSON document per line, or text. Default: text on a terminal, JSON otherwise. */
  readonly json?: boolean | undefined;
  /** Default: stderr, because stdout is for what a command prints. */
  readonly stream?: Writable | undefined;
  /** The time that lines carry. Default: the system's. */
  readonly now?: () => Date;
}

// winston counts downwards: a smaller number is more important.
const LEVELS: Readonly<Record<LogLevel, number>> = { error: 0, warning: 1, info: 2, debug: 3 };

/** The keys of a JSON line that a field cannot take. */
const RESERVED: ReadonlySet<string> = new Set(['timestamp', 'level', 'message']);

interface Line {
  readonly timestamp: string;
  readonly level: LogLevel;
  readonly text: string;
  readonly fields: LogFields;
}

/**
 * Makes a logger. A text line is `2026-02-17T12:00:00.000Z INFO message key=value`; a JSON line has
 * timestamp, level, message and the fields. A message and its fields always stay on one line,
 * and secrets in it are masked.
 */
export function createLogger(options: LoggerOptions = {}): Logger {
  const level = options.level ?? 'info';
  const stream = options.stream ?? process.stderr;
  const isJson = options.json ?? !(stream === process.stderr && process.stderr.isTTY);
  const now = options.now ?? (() => new Date());
  const format = isJson ? asJson : (line: Line) => asText(line, level === 'debug');
  surviveClosedStream(stream);

  const writer = winston.createLogger({
    levels: LEVELS,
    level,
    transports: [new winston.transports.Stream({ stream, eol: '\n' })],
    format: winston.format.printf((info) => format(info['line'] as Line)),
  });
  const log = (lineLevel: LogLevel, text: string, fields: LogFields = {}): void => {
    // Asked here: winston runs a logger's formats for disabled levels as well.
    if (LEVELS[lineLevel] > LEVELS[level]) return;
    const line: Line = { timestamp: now().toISOString(), level: lineLevel, text, fields };
    // The line travels under a key of its own: winston would mix an error's fields, a `message` or
    // a `level` among the fields into the line itself, and change the objects it was given.
    writer.log({ level: lineLevel, message: '', line });
  };
  return {
    debug: (message, fields) => log('debug', message, fields),
    info: (message, fields) => log('info', message, fields),
    warning: (message, fields) => log('warning', message, fields),
    error: (message, fields) => log('error', message, fields),
  };
}

const guarded = new WeakSet<Writable>();

/** The loss of the reader must not end the process. */
function surviveClosedStream(stream: Writable): void {
  if (guarded.has(stream)) return;
  guarded.add(stream);
  stream.on('error', () => undefined);
}

function asText(line: Line, withStacks: boolean): string {
  const message = escapeControls(redactAndShorten(line.text, MAX_TEXT_CHARACTERS));
  const stacks = withStacks ? fieldsAsText(stacksOf(line.fields)) : '';
  return `${line.timestamp} ${line.level.toUpperCase()} ${message}${fieldsAsText(line.fields)}${stacks}`;
}

function stacksOf(fields: LogFields): LogFields {
  const errors = Object.entries(fields).filter(([, value]) => value instanceof Error);
  return Object.fromEntries(errors.map(([key, error]) => [`${key}.stack`, (error as Error).stack]));
}

function asJson(line: Line): string {
  const document: Record<string, unknown> = {
    timestamp: line.timestamp,
    level: line.level.toUpperCase(),
    message: toPlainValue(line.text),
  };
  const fields = toPlainValue(line.fields) as Record<string, unknown>;
  for (const [key, value] of Object.entries(fields)) {
    document[RESERVED.has(key) ? `_${key}` : key] = value;
  }
  // JSON leaves C1 controls and direction marks as they are; they can only stand inside strings.
  return escapeControls(JSON.stringify(document));
}

const silence = (): void => undefined;

/** Says nothing: for tests, and for users of the library who bring no logger. */
export const silentLogger: Logger = {
  debug: silence,
  info: silence,
  warning: silence,
  error: silence,
};
