import { describe, expect, test } from 'vitest';
import { isTransientDatabaseError, isWorthRepeating } from '../../src/errors.ts';

/** An error as pg makes it of what the server or the pooler said. */
function said(code: string | undefined, message: string): Error {
  return Object.assign(new Error(message), code === undefined ? {} : { code });
}

describe('a fault that passes is tried again', () => {
  test.each([
    ['Supavisor is full', 'XX000', 'Max client connections reached'],
    ['an internal error of the server', 'XX000', 'cache lookup failed for relation 4711'],
    ['PgBouncer is full', '08P01', 'no more connections allowed (max_client_conn)'],
    [
      'PgBouncer cannot log in to its server',
      '08P01',
      'server login has been failing, try again later (server_login_retry)',
    ],
    ['PgBouncer waited for a session', '08P01', 'query_wait_timeout'],
    ["PgBouncer's server has crashed", '08P01', 'server conn crashed?'],
    ['PgBouncer is paused', '08P01', 'database is paused'],
    ['PgBouncer shuts down', '08P01', 'pooler is shut down'],
    ['pgcat has no session', '58000', 'could not get connection from the pool - AllServersDown'],
    ['RDS Proxy has no session', '0A000', 'Timed-out waiting to acquire database connection'],
    ['the server is full', '53300', 'sorry, too many clients already'],
    ['a role has too many sessions', '53300', 'too many connections for role "app"'],
    ['the disk is full', '53100', 'could not extend file'],
    [
      'an operator ends the session',
      '57P01',
      'terminating connection due to administrator command',
    ],
    ['the server has crashed', '57P02', 'terminating connection because of crash'],
    ['the server starts', '57P03', 'the database system is starting up'],
    [
      'a standby has not caught up',
      '57P03',
      'the database system is not yet accepting connections',
    ],
    ['the connection is lost', '08006', 'connection failure'],
    ['the server is a standby now', '25006', 'cannot execute UPDATE in a read-only transaction'],
    ['the socket is gone', 'ECONNRESET', 'read ECONNRESET'],
    ['pg says so without a code', undefined, 'Connection terminated unexpectedly'],
  ])('%s', (_what, code, message) => {
    expect(isTransientDatabaseError(said(code, message))).toBe(true);
  });

  test.each([
    ['data that is corrupted', 'XX001', 'invalid page in block 3'],
    ['an index that is corrupted', 'XX002', 'index "i" contains unexpected zero page'],
    [
      'a setting that RDS Proxy refuses',
      '0A000',
      "RDS Proxy currently doesn't support the option statement_timeout",
    ],
    ['a setting that PgBouncer refuses', '08P01', 'unsupported startup parameter: options'],
    [
      'an error of a trigger that speaks of connections',
      'P0001',
      'too many connections for this tenant',
    ],
    ['a constraint', '23514', 'new row violates check constraint'],
    ['a wrong password', '28P01', 'password authentication failed'],
  ])('but not %s', (_what, code, message) => {
    expect(isTransientDatabaseError(said(code, message))).toBe(false);
  });

  test('a settle is tried again also after a refused password, which may have been rotated', () => {
    expect(isWorthRepeating(said('28P01', 'password authentication failed'))).toBe(true);
    expect(isWorthRepeating(said('23514', 'new row violates check constraint'))).toBe(false);
  });
});
