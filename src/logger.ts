import type { Writable } from 'node:stream';
import winston from 'winston';
import { RetentionError, describeError } from './errors.ts';
import {
  type Limits,
  type LogFields,
  NARROW,
  WIDE,
  fieldsAsText,
  plainRest,
  toPlainValue,
} from './log-fields.ts';
import { escapeControls, redactAndShorten, shorten } from './safe-text.ts';

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

/** Collectors split or drop lines that are much longer. */
const MAX_LINE_CHARACTERS = 8_000;

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
 * timestamp, level, message and the fields. A message and its fields always stay on one line of
 * bounded length, and secrets in it are masked. An error among the fields brings its remedy with it, its
 * words only where the message does not have them, and its stack only at level debug, or where it
 * is unforeseen.
 */
export function createLogger(options: LoggerOptions = {}): Logger {
  const level = options.level ?? 'info';
  const stream = options.stream ?? process.stderr;
  const isJson = options.json ?? !(stream === process.stderr && process.stderr.isTTY);
  const now = options.now ?? (() => new Date());
  const wide: Limits = { ...WIDE, stacks: level === 'debug' };
  const format = isJson ? (line: Line) => asJson(line, wide) : (line: Line) => asText(line, wide);
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
    const line: Line = {
      timestamp: now().toISOString(),
      level: lineLevel,
      text,
      fields: withRemedy(fields),
    };
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

/** The fields, and what to do about an error among them. */
function withRemedy(fields: LogFields): LogFields {
  const { error } = fields;
  const remedy = error instanceof RetentionError ? error.remedy : undefined;
  return remedy === undefined || 'remedy' in fields ? fields : { ...fields, remedy };
}

/** Whether the message has the words of an error already. */
function isSaid(line: Line, value: unknown): value is Error {
  return value instanceof Error && line.text.includes(describeError(value));
}

function asText(line: Line, limits: Limits): string {
  const message = escapeControls(redactAndShorten(line.text, limits.characters));
  const fields = Object.fromEntries(
    Object.entries(line.fields).filter(([, value]) => !isSaid(line, value)),
  );
  const stacks = limits.stacks ? fieldsAsText(stacksOf(line.fields)) : '';
  const text = `${line.timestamp} ${line.level.toUpperCase()} ${message}${fieldsAsText(fields, limits)}${stacks}`;
  if (text.length <= MAX_LINE_CHARACTERS || limits.stacks) return text;
  return limits === NARROW ? shorten(text, MAX_LINE_CHARACTERS) : asText(line, NARROW);
}

function stacksOf(fields: LogFields): LogFields {
  const errors = Object.entries(fields).filter(([, value]) => value instanceof Error);
  return Object.fromEntries(errors.map(([key, error]) => [`${key}.stack`, (error as Error).stack]));
}

function asJson(line: Line, limits: Limits): string {
  const document: Record<string, unknown> = {
    timestamp: line.timestamp,
    level: line.level.toUpperCase(),
    message: toPlainValue(line.text, limits),
  };
  const plain = toPlainValue(
    Object.fromEntries(Object.entries(line.fields).filter(([, value]) => !isSaid(line, value))),
    limits,
  ) as Record<string, unknown>;
  for (const [key, value] of Object.entries(plain)) {
    document[RESERVED.has(key) ? `_${key}` : key] = value;
  }
  for (const [key, value] of Object.entries(line.fields)) {
    if (isSaid(line, value)) document[key] = plainRest(value, limits);
  }
  // JSON leaves C1 controls and direction marks as they are; they can only stand inside strings.
  const text = escapeControls(JSON.stringify(document));
  if (text.length <= MAX_LINE_CHARACTERS || limits.stacks) return text;
  if (limits !== NARROW) return asJson(line, NARROW);
  return asJson({ ...line, fields: { cut_characters: text.length } }, NARROW);
}

const silence = (): void => undefined;

/** Says nothing: for tests, and for users of the library who bring no logger. */
export const silentLogger: Logger = {
  debug: silence,
  info: silence,
  warning: silence,
  error: silence,
};
