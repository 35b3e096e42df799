import { Writable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { DatabaseError } from '../../src/errors.ts';
import { type LogLevel, type Logger, createLogger, silentLogger } from '../../src/logger.ts';
import { settle } from '../support/manual-clock.ts';

const NOON = '2026-02-17T12:00:00.000Z';

interface Captured {
  readonly logger: Logger;
  /** Everything written so far. */
  text(): Promise<string>;
}

function capture(options: { readonly level?: LogLevel; readonly json?: boolean } = {}): Captured {
  let written = '';
  const stream = new Writable({
    write: (chunk, _encoding, done) => {
      written += String(chunk);
      done();
    },
  });
  const logger = createLogger({ json: false, ...options, stream, now: () => new Date(NOON) });
  return {
    logger,
    text: async () => {
      await settle();
      return written;
    },
  };
}

async function linesOf(log: (logger: Logger) => void, level?: LogLevel): Promise<string> {
  const captured = capture(level === undefined ? {} : { level });
  log(captured.logger);
  return captured.text();
}

async function document(log: (logger: Logger) => void): Promise<Record<string, unknown>> {
  const captured = capture({ json: true });
  log(captured.logger);
  return JSON.parse(await captured.text()) as Record<string, unknown>;
}

describe('text lines', () => {
  test("are the runbook's, letter for letter", async () => {
    const text = await linesOf((logger) => {
      logger.info('Found 25 expired runs for retention cleanup');
      logger.warning('Run abc123 missing S3 info, skipping');
      logger.error('Failed to delete S3 object for run def456: AccessDenied');
    });
    expect(text).toBe(
      `${NOON} INFO Found 25 expired runs for retention cleanup\n` +
        `${NOON} WARNING Run abc123 missing S3 info, skipping\n` +
        `${NOON} ERROR Failed to delete S3 object for run def456: AccessDenied\n`,
    );
  });

  test('fields follow as key=value, in quotes where they must be', async () => {
    const fields = {
      batch: 42,
      bucket: 'dpp-results',
      reason: 'two words',
      empty: '',
      at: new Date(NOON),
      ids: ['a', 'b'],
      big: 9_007_199_254_740_993n,
      ok: true,
      nothing: null,
      absent: undefined,
    };
    expect(await linesOf((logger) => logger.info('done', fields))).toBe(
      `${NOON} INFO done batch=42 bucket=dpp-results reason="two words" empty="" at=${NOON} ` +
        'ids=["a","b"] big=9007199254740993 ok=true nothing=null\n',
    );
  });

  test('nothing that a message or a field holds can forge a line', async () => {
    const forged = `x\n${NOON} INFO forged\r\u001B[1A\u0085\u2028\u202E`;
    const text = await linesOf((logger) => logger.warning(forged, { key: forged, [forged]: 1 }));
    expect(text.split('\n')).toHaveLength(2);
    // oxlint-disable-next-line no-control-regex -- none of these may be left
    expect(text.slice(0, -1)).not.toMatch(/[\u0000-\u001F\u007F-\u009F\u2028\u202E]/u);
    expect(text).toContain(String.raw`x\n${NOON} INFO forged\r\u001b[1A\u0085\u2028\u202e`);
  });

  test('an error is its one line; on DEBUG the stack follows', async () => {
    const error = new DatabaseError('lost', { cause: new Error('below') });
    const brief = await linesOf((logger) => logger.error('failed', { error }));
    expect(brief).toBe(`${NOON} ERROR failed error="lost; caused by: below"\n`);
    const long = await linesOf((logger) => logger.error('failed', { error }), 'debug');
    expect(long).toContain('error.stack="');
    expect(long.split('\n')).toHaveLength(2);
  });
});

describe('secrets', () => {
  const url = 'postgres://u:geheim@h/d';

  test.each([
    ['in a message', (logger: Logger) => logger.info(`connecting to ${url}`)],
    ['in a field', (logger: Logger) => logger.info('x', { url })],
    ['in a nested field', (logger: Logger) => logger.info('x', { a: { b: [url] } })],
    ['in a URL object', (logger: Logger) => logger.info('x', { url: new URL(url) })],
    ['under a telling name', (logger: Logger) => logger.info('x', { password: 'geheim' })],
    [
      'under a nested name',
      (logger: Logger) => logger.info('x', { a: { secretAccessKey: 'geheim' } }),
    ],
    ['in an error', (logger: Logger) => logger.info('x', { error: new Error(url) })],
    [
      'in a cause',
      (logger: Logger) => logger.info('x', { error: new Error('y', { cause: new Error(url) }) }),
    ],
  ])('%s are masked', async (_where, log) => {
    const text = await linesOf(log, 'debug');
    expect(text).not.toContain('geheim');
    expect(text).toContain('***');
    expect(JSON.stringify(await document(log))).not.toContain('geheim');
  });
});

describe('JSON lines', () => {
  test('have timestamp, level, message and the fields', async () => {
    expect(await document((logger) => logger.warning('m', { batch: 42, ids: ['a'] }))).toEqual({
      timestamp: NOON,
      level: 'WARNING',
      message: 'm',
      batch: 42,
      ids: ['a'],
    });
  });

  test('keep code, message and cause of an error, and leave it unchanged', async () => {
    const error = new DatabaseError('lost', {
      sqlState: '57P01',
      cause: Object.assign(new Error('below'), { code: 'ECONNRESET' }),
    });
    const before = Object.keys(error);
    const line = await document((logger) => logger.error('m', { error }));
    expect(line['message']).toBe('m');
    expect(line['error']).toMatchObject({
      name: 'DatabaseError',
      code: '57P01',
      message: 'lost',
      cause: { code: 'ECONNRESET', message: 'below' },
    });
    expect(Object.keys(error)).toEqual(before);
  });

  test('a field cannot take the place of the line itself', async () => {
    const fields = { level: 'DEBUG', message: 'other', timestamp: 'never', __proto__: { a: 1 } };
    const line = await document((logger) => logger.error('m', fields));
    expect(line).toMatchObject({ level: 'ERROR', message: 'm', timestamp: NOON });
    expect(line).toMatchObject({ _level: 'DEBUG', _message: 'other', _timestamp: 'never' });
  });

  test('carry what JSON cannot: circles, big numbers, maps, dates that are none', async () => {
    const circle: Record<string, unknown> = {
      big: 1n,
      map: new Map([['a', new Date(Number.NaN)]]),
    };
    circle['self'] = circle;
    const line = await document((logger) => logger.info('m', { circle, infinite: Infinity }));
    expect(line['circle']).toMatchObject({ big: '1', map: { a: 'Invalid Date' } });
    expect(line['infinite']).toBe('Infinity');
  });

  test('are one line without control characters, and read back as they were', async () => {
    const captured = capture({ json: true });
    captured.logger.info('a\nb\u0085\u2028\u202Ec');
    const text = await captured.text();
    // oxlint-disable-next-line no-control-regex -- none of these may be left
    expect(text.slice(0, -1)).not.toMatch(/[\u0000-\u001F\u007F-\u009F\u2028\u202E]/u);
    expect(JSON.parse(text)).toMatchObject({ message: 'a\nb\u0085\u2028\u202Ec' });
  });

  test('cut what is endless', async () => {
    const line = await document((logger) =>
      logger.info('m', { text: 'x'.repeat(1e6), list: Array.from({ length: 1e4 }, () => 1) }),
    );
    expect((line['text'] as string).length).toBeLessThan(4_100);
    expect(line['list']).toHaveLength(101);
  });
});

describe('levels', () => {
  test.each([
    ['debug', 4],
    ['info', 3],
    ['warning', 2],
    ['error', 1],
  ] as const)('%s lets %i of four through', async (level, lines) => {
    const text = await linesOf((logger) => {
      logger.debug('m');
      logger.info('m');
      logger.warning('m');
      logger.error('m');
    }, level);
    expect(text.split('\n')).toHaveLength(lines + 1);
  });

  test('a disabled level looks at nothing that it was given', async () => {
    let looks = 0;
    const costly = {
      get value() {
        looks += 1;
        return 1;
      },
    };
    await linesOf((logger) => logger.debug('m', costly));
    expect(looks).toBe(0);
    await linesOf((logger) => logger.info('m', costly));
    expect(looks).toBeGreaterThan(0);
  });

  test('the silent logger says nothing', () => {
    silentLogger.error('m', { error: new Error('x') });
  });
});

test('a reader that went away is survived', async () => {
  const stream = new Writable({
    write: (_chunk, _encoding, done) => done(Object.assign(new Error('closed'), { code: 'EPIPE' })),
  });
  const logger = createLogger({ json: false, stream });
  logger.info('one');
  await settle();
  logger.info('two');
  await settle();
});
