import type { LogFields, LogLevel, Logger } from '../../src/logger.ts';

/** A line as it was logged. */
export interface RecordedLine {
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: LogFields;
}

/** A logger that keeps what it is told. */
export interface RecordingLogger extends Logger {
  readonly lines: readonly RecordedLine[];
  /** How many lines of a level were logged. */
  count(level: LogLevel): number;
}

/** Makes a logger for tests that look at what was logged. */
export function createRecordingLogger(): RecordingLogger {
  const lines: RecordedLine[] = [];
  const record =
    (level: LogLevel) =>
    (message: string, fields: LogFields = {}): void => {
      lines.push({ level, message, fields });
    };
  return {
    lines,
    count: (level) => lines.filter((line) => line.level === level).length,
    debug: record('debug'),
    info: record('info'),
    warning: record('warning'),
    error: record('error'),
  };
}
