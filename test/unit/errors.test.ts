import { describe, expect, test } from 'vitest';
import {
  ConfigurationError,
  DatabaseError,
  RefusedError,
  RetentionError,
  SQLSTATE,
  UsageError,
  describeError,
  isTransientDatabaseError,
  redactSecrets,
} from '../../src/errors.ts';
import { escapeControls, maskUrl } from '../../src/safe-text.ts';

/** An error as pg makes it of what the server said. */
function serverError(code: string, message = 'the server says no'): Error {
  return Object.assign(new Error(message), { code, name: 'error' });
}

describe('error classes', () => {
  test('each has the exit code that the command line promises', () => {
    expect(new RetentionError('x').exitCode).toBe(1);
    expect(new DatabaseError('x').exitCode).toBe(1);
    expect(new UsageError('x').exitCode).toBe(2);
    expect(new ConfigurationError([]).exitCode).toBe(2);
    expect(new RefusedError('x').exitCode).toBe(3);
  });

  test('remedy and cause are kept', () => {
    const cause = new Error('below');
    const error = new UsageError('x', { remedy: 'Do y.', cause });
    expect(error.remedy).toBe('Do y.');
    expect(error.cause).toBe(cause);
    expect(error).toBeInstanceOf(RetentionError);
    expect('cause' in new RetentionError('x')).toBe(false);
  });

  test('a configuration error is one report of every fault', () => {
    const fault = { name: 'A', expected: 'b', given: '"c\nd"', remedy: 'Do e.' };
    expect(new ConfigurationError([fault, { ...fault, name: 'F' }]).message).toBe(
      '2 settings are wrong:\n' +
        '  A: expected b; given "c\\nd". Do e.\n' +
        '  F: expected b; given "c\\nd". Do e.',
    );
  });
});

describe('transient database errors', () => {
  test.each([
    SQLSTATE.serialization_failure,
    SQLSTATE.deadlock_detected,
    SQLSTATE.lock_not_available,
    SQLSTATE.query_canceled,
    SQLSTATE.admin_shutdown,
    SQLSTATE.cannot_connect_now,
    SQLSTATE.too_many_connections,
    SQLSTATE.disk_full,
    SQLSTATE.connection_failure,
    SQLSTATE.read_only_sql_transaction,
    'ECONNREFUSED',
    'ECONNRESET',
    'ENOTFOUND',
    'EPIPE',
  ])('%s may pass', (code) => {
    expect(isTransientDatabaseError(serverError(code))).toBe(true);
  });

  test.each([
    SQLSTATE.undefined_table,
    SQLSTATE.insufficient_privilege,
    SQLSTATE.check_violation,
    SQLSTATE.duplicate_prepared_statement,
    SQLSTATE.invalid_password,
    SQLSTATE.raise_exception,
    'USAGE',
    'ENOENT',
  ])('%s stays', (code) => {
    expect(isTransientDatabaseError(serverError(code))).toBe(false);
  });

  test.each([
    'Connection terminated unexpectedly',
    'Query read timeout',
    'timeout exceeded when trying to connect',
    'Client has encountered a connection error and is not queryable',
  ])('"%s", which has no code, may pass', (message) => {
    expect(isTransientDatabaseError(new Error(message))).toBe(true);
  });

  test("a pooler's one code is told apart by its words", () => {
    const { protocol_violation } = SQLSTATE;
    const busy = serverError(protocol_violation, 'no more connections allowed (max_client_conn)');
    const never = serverError(protocol_violation, 'unsupported startup parameter: options');
    expect(isTransientDatabaseError(busy)).toBe(true);
    expect(isTransientDatabaseError(never)).toBe(false);
    const { internal_error } = SQLSTATE;
    for (const words of [
      'Max client connections reached',
      'no available connections',
      'remaining connection slots are reserved',
    ]) {
      expect(isTransientDatabaseError(serverError(internal_error, words)), words).toBe(true);
    }
  });

  test('the cause behind wrappers counts, and a missing socket is a server that is not up', () => {
    const wrapped = new RetentionError('flagging failed', {
      cause: new DatabaseError('lost', { cause: serverError('ECONNRESET') }),
    });
    const socket = Object.assign(serverError('ENOENT'), { syscall: 'connect' });
    expect(isTransientDatabaseError(wrapped)).toBe(true);
    expect(isTransientDatabaseError(new DatabaseError('x', { sqlState: '40001' }))).toBe(true);
    expect(isTransientDatabaseError(socket)).toBe(true);
    expect(isTransientDatabaseError('Connection terminated')).toBe(false);
  });
});

describe('describing errors', () => {
  test('names message, code and causes once each', () => {
    const cause = Object.assign(new Error('connect refused'), { code: 'ECONNREFUSED' });
    const error = new DatabaseError('cannot reach Postgres', { cause });
    expect(describeError(error)).toBe(
      'cannot reach Postgres; caused by: connect refused (ECONNREFUSED)',
    );
    expect(describeError(new Error('a: b', { cause: new Error('b') }))).toBe('a: b');
  });

  test('an aggregate without a message speaks through its first error', () => {
    // oxlint-disable-next-line unicorn/error-message -- as Node makes it of refused connections
    const error = new AggregateError([new Error('connect ECONNREFUSED ::1:5432')], '');
    expect(describeError(error)).toContain('connect ECONNREFUSED ::1:5432');
  });

  test("an AWS error's name leads", () => {
    const error = Object.assign(new Error('Access Denied'), { name: 'AccessDenied' });
    expect(describeError(error)).toBe('AccessDenied: Access Denied');
  });

  test('a circle of causes ends, and long texts are cut', () => {
    const error = new Error('x'.repeat(5_000));
    error.cause = error;
    expect(describeError(error).length).toBeLessThan(1_050);
  });

  test.each([
    ['text', 'text'],
    [undefined, 'a thrown undefined: undefined'],
    [null, 'a thrown null: null'],
    [{ message: 'like an error' }, 'like an error'],
  ])('%s, thrown, is described', (thrown, text) => {
    expect(describeError(thrown)).toBe(text);
  });

  test('is one line without secrets', () => {
    const error = new Error('bad\n2026 INFO all is well\u001B[2K postgres://u:geheim@h/d');
    expect(describeError(error)).toBe('bad\\n2026 INFO all is well\\u001b[2K postgres://u:***@h/d');
  });
});

describe('redacting secrets', () => {
  test.each([
    ['postgres://user:geheim@host:5432/db', 'postgres://user:***@host:5432/db'],
    ['see postgresql://u:gehe@im@h/d now', 'see postgresql://u:***@h/d now'],
    ['postgres://:geheim@h/d', 'postgres://:***@h/d'],
    ['https://key:geheim@s3.example.com', 'https://key:***@s3.example.com'],
    ['postgres://h/d?user=u&password=geheim&x=1', 'postgres://h/d?user=u&password=***&x=1'],
    ["host=h password='ge he\\'im' user=u", 'host=h password=*** user=u'],
    ['AWS_SECRET_ACCESS_KEY=geheim', 'AWS_SECRET_ACCESS_KEY=***'],
    ['{"secretAccessKey":"geheim","a":1}', '{"secretAccessKey":"***","a":1}'],
    ['GET /k?X-Amz-Signature=geheim&a=1', 'GET /k?X-Amz-Signature=***&a=1'],
    ['PGPASSWORD=geheim', 'PGPASSWORD=***'],
  ])('%s', (text, redacted) => {
    expect(redactSecrets(text)).toBe(redacted);
  });

  test.each([
    'postgres://host:5432/db',
    'a batch of s3://bucket/key',
    'at 12:00 by me@example.com',
  ])('"%s" stays as it is', (text) => {
    expect(redactSecrets(text)).toBe(text);
  });

  test('stays quick on long hostile texts', () => {
    const started = performance.now();
    for (const part of ['x', 'a://a:', 'password=', '"password":', "'", ' ']) {
      describeError(part.repeat(200_000));
    }
    expect(performance.now() - started).toBeLessThan(2_000);
  });
});

describe('safe text', () => {
  test('what cannot be seen is written out', () => {
    expect(escapeControls('a\n\r\t\0\u001B\u007F\u0085\u2028\u202E\u2066b')).toBe(
      String.raw`a\n\r\t\u0000\u001b\u007f\u0085\u2028\u202e\u2066b`,
    );
    expect(escapeControls('한국어 ünïcödé 🎉')).toBe('한국어 ünïcödé 🎉');
  });

  test.each([
    ['postgres://u:geheim@h:5432/d?sslmode=require', 'postgres://u:***@h:5432/d?...'],
    ['postgres://u:geheim@/d?host=/socket', 'postgres://u:***@localhost/d?...'],
    ['postgres://u:ge#heim@h/d', 'postgres://... (24 characters)'],
    ['password=geheim', 'a text of 15 characters that is no URL'],
  ])('masks %s', (text, masked) => {
    expect(maskUrl(text)).toBe(masked);
  });
});
