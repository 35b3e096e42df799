import { Writable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { DatabaseError, RetentionError, describeError } from '../../src/errors.ts';
import { messageBeside, sayFailure } from '../../src/failure-words.ts';
import { createFailureLog } from '../../src/lifecycle/failure-log.ts';
import { createLogger } from '../../src/logger.ts';
import { ObjectStoreError } from '../../src/objects/store-failure.ts';
import { createRecordingLogger } from '../support/recording-logger.ts';
import { settle } from '../support/manual-clock.ts';

const refused = (): Error =>
  Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:9'), { code: 'ECONNREFUSED' });

const unreachable = (): DatabaseError =>
  new DatabaseError('cannot connect to Postgres at 127.0.0.1:9/app', {
    code: 'ECONNREFUSED',
    remedy: 'Check that the server is up and that host and port are right.',
    cause: refused(),
  });

async function logged(isJson: boolean, message: string, fields: object): Promise<string> {
  let text = '';
  const stream = new Writable({
    write: (chunk, _encoding, done) => {
      text += String(chunk);
      done();
    },
  });
  createLogger({ json: isJson, stream }).error(message, { ...fields });
  await settle();
  return text;
}

const times = (text: string, word: string): number => text.split(word).length - 1;

describe('a failure of S3 says each word once', () => {
  test.each([
    ['ECONNREFUSED', 'connect ECONNREFUSED 127.0.0.1:9', 'ECONNREFUSED connect 127.0.0.1:9'],
    ['ECONNREFUSED', 'ECONNREFUSED', 'ECONNREFUSED'],
    ['ECONNREFUSED', '', 'ECONNREFUSED'],
    ['ENOTFOUND', 'getaddrinfo ENOTFOUND s3.local', 'ENOTFOUND getaddrinfo s3.local'],
    ['AccessDenied', 'Access Denied', 'AccessDenied'],
    ['AccessDenied', 'Access Denied.', 'AccessDenied'],
    ['AccessDenied', 'AccessDenied: you shall not', 'AccessDenied you shall not'],
    ['SlowDown', 'Please reduce your request rate.', 'SlowDown Please reduce your request rate.'],
    [
      'InternalError',
      'We encountered an internal error.',
      'InternalError We encountered an internal error.',
    ],
    [
      'NoSuchBucket',
      'NoSuchBucketPolicy is another word',
      'NoSuchBucket NoSuchBucketPolicy is another word',
    ],
    ['a.b*(', 'a.b*( is no word', 'a.b*( a.b*( is no word'],
  ])('%s: %s', (code, message, said) => {
    expect(sayFailure(code, message)).toBe(said);
    expect(messageBeside(code, message)).toBe(said.slice(code.length).trim());
  });

  test.each([
    ['ECONNREFUSED', 'connect ECONNREFUSED 127.0.0.1:9'],
    ['ECONNRESET', 'read ECONNRESET'],
    ['ETIMEDOUT', 'connect ETIMEDOUT 10.0.0.1:443'],
  ])('%s in an error with its cause', (code, message) => {
    const cause = Object.assign(new Error(message), { code });
    const error = new ObjectStoreError({
      kind: 'unavailable',
      bucket: 'dpp',
      code,
      reason: message,
      outcome: 'failed',
      concerns: 'store',
      final: false,
      cause,
    });
    expect(times(describeError(error), code)).toBe(1);
    expect(describeError(error)).toContain('in bucket dpp');
  });
});

describe('a failure of the database is one line', () => {
  test.each([[true], [false]])('with its remedy and without a stack (JSON: %s)', async (isJson) => {
    const error = unreachable();
    const text = await logged(isJson, `The retention cycle failed: ${describeError(error)}`, {
      error,
      retry_in_milliseconds: 500,
    });
    expect(text.split('\n')).toHaveLength(2);
    expect(text.length).toBeLessThan(500);
    expect(text).not.toContain('.test.ts');
    expect(times(text, '127.0.0.1:9/app')).toBe(1);
    expect(times(text, 'Check that the server is up')).toBe(1);
  });

  test.each([
    ['a wrapped one', new RetentionError('outer', { cause: new Error('inner') })],
    ['one of the server', new DatabaseError('relation "x" does not exist', { sqlState: '42P01' })],
    ['a broken session', refused()],
  ])('without a stack: %s', async (_, error) => {
    const text = await logged(true, `It failed: ${describeError(error)}`, { error });
    expect(text).not.toContain('one-line.test');
  });

  test('a mistake of this program keeps its stack, once', async () => {
    const text = await logged(true, 'It failed', { error: new TypeError('x is not a function') });
    expect(times(text, 'one-line.test')).toBeGreaterThan(0);
    expect(text.split('\n')).toHaveLength(2);
  });

  test.each([
    ['a long message', 'm'.repeat(100_000), {}],
    ['a long field', 'm', { text: 'x'.repeat(100_000) }],
    [
      'many fields',
      'm',
      Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`f${i}`, 'x'.repeat(300)])),
    ],
    ['a long list', 'm', { list: Array.from({ length: 5_000 }, () => 'x'.repeat(100)) }],
    ['a long name of a field', 'm', { ['k'.repeat(50_000)]: 1 }],
    ['control characters, which grow when they are escaped', '\u0001'.repeat(50_000), {}],
    ['an endless chain of causes', 'm', { error: chain(50) }],
  ])('of bounded length, and still JSON: %s', async (_, message, fields) => {
    const json = await logged(true, message, fields);
    expect(json.length).toBeLessThan(10_000);
    expect(JSON.parse(json)).toMatchObject({ level: 'ERROR' });
    expect((await logged(false, message, fields)).length).toBeLessThan(10_000);
  });
});

function chain(length: number): Error {
  let error = new Error('e'.repeat(3_000));
  for (let index = 0; index < length; index += 1) {
    error = new Error(`${index}${'e'.repeat(3_000)}`, { cause: error });
  }
  return error;
}

describe('a failure that goes on', () => {
  const begun = new Date('2026-02-17T12:00:00.000Z');

  function start() {
    const logger = createRecordingLogger();
    let now = 0;
    const log = createFailureLog({
      logger,
      failed: 'The cycle failed',
      recovered: 'The cycle works again',
      clock: { now: () => now, pause: () => Promise.resolve() },
      now: () => begun,
    });
    return {
      log,
      lines: (): string[] =>
        logger.lines.filter(({ level }) => level !== 'debug').map(({ message }) => message),
      pass: (milliseconds: number): void => {
        now += milliseconds;
      },
    };
  }

  test('is said ever more rarely, with how often and since when, and once when it is over', () => {
    const { log, lines, pass } = start();
    for (let turn = 0; turn < 1_000; turn += 1) {
      log.failed(unreachable());
      pass(1_000);
    }
    expect(lines()).toHaveLength(10);
    expect(lines()[0]).toBe(
      'The cycle failed: cannot connect to Postgres at 127.0.0.1:9/app; ' +
        'caused by: connect ECONNREFUSED 127.0.0.1:9',
    );
    expect(lines()[9]).toContain(
      'The cycle failed, still: 512 times since 2026-02-17T12:00:00.000Z: cannot connect',
    );
    log.works();
    log.works();
    expect(lines()).toHaveLength(11);
    expect(lines()[10]).toBe('The cycle works again after 1,000 failures in 16 min 40 s');
  });

  test('another failure is news at once; two that take turns are not news each time', () => {
    const { log, lines, pass } = start();
    const denied = new DatabaseError('permission denied', { sqlState: '42501' });
    for (let turn = 0; turn < 64; turn += 1) {
      log.failed(turn % 2 === 0 ? unreachable() : denied);
      pass(1_000);
    }
    expect(
      lines()
        .slice(0, 2)
        .map((line) => line.includes('permission')),
    ).toEqual([false, true]);
    expect(lines()).toHaveLength(12);
  });

  test('one failure and its end are two lines, in the singular', () => {
    const { log, lines, pass } = start();
    log.failed(unreachable());
    pass(500);
    log.works();
    expect(lines()[1]).toBe('The cycle works again after 1 failure in 500 ms');
  });

  test('what fails together, as slots do, is one line', () => {
    const { log, lines, pass } = start();
    for (let slot = 0; slot < 64; slot += 1) log.said('SlowDown', 'SlowDown');
    expect(lines()).toEqual(['The cycle failed: SlowDown']);
    pass(60_000);
    for (let slot = 0; slot < 64; slot += 1) log.said('SlowDown', 'SlowDown');
    expect(lines()).toHaveLength(2);
  });

  test('what never failed says nothing', () => {
    const { log, lines } = start();
    log.works();
    expect(lines()).toEqual([]);
  });
});
