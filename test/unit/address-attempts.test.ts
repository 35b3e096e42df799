import { Socket } from 'node:net';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { trackSockets } from '../../src/database/connection.ts';

describe('a host with addresses of both families, of which one is not routed', () => {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  function connectedWith(...parameters: readonly unknown[]): unknown {
    const connect = vi.spyOn(Socket.prototype, 'connect').mockImplementation(function stay(
      this: Socket,
    ) {
      return this;
    });
    const socket = trackSockets().open();
    (socket.connect as (...rest: readonly unknown[]) => unknown)(...parameters);
    return connect.mock.calls[0];
  }

  test('is given more time for each address than 320 ms, as a distant server needs', () => {
    const [options] = connectedWith(5432, 'db.example.com') as [Record<string, unknown>];
    expect(options).toMatchObject({ port: 5432, host: 'db.example.com', autoSelectFamily: true });
    expect(options['autoSelectFamilyAttemptTimeout']).toBeGreaterThan(1_000);
    // Four addresses are tried within the time that a connection may take.
    expect(options['autoSelectFamilyAttemptTimeout']).toBeLessThan(10_000 / 4);
  });

  test('the path of a Unix socket stays what it is', () => {
    expect(connectedWith('/run/postgresql/.s.PGSQL.5432')).toEqual([
      '/run/postgresql/.s.PGSQL.5432',
    ]);
  });
});
