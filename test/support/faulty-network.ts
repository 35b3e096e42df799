import { afterEach, beforeEach } from 'vitest';
import type { Variables } from './cli.ts';
import type { CliStack } from './cli-stack.ts';
import { type HttpProxy, startHttpProxy } from './http-proxy.ts';
import { type TcpProxy, startTcpProxy } from './tcp-proxy.ts';

/** A network with faults between the command and both of its servers. */
export interface FaultyNetwork {
  /** In front of S3. */
  readonly http: () => HttpProxy;
  /** In front of Postgres, for the work. */
  readonly tcp: () => TcpProxy;
  /** In front of Postgres, for LISTEN. */
  readonly listenTcp: () => TcpProxy;
  /** The variables that lead the command through it, and make it impatient. */
  readonly env: (more?: Variables) => Variables;
}

/** Times as short as they may be: an S3 call of at most eight seconds under a lease of ten. */
export const IMPATIENT: Variables = {
  RETENTION_LEASE_SECONDS: '10',
  RETENTION_POLL_SECONDS: '1',
  RETENTION_S3_REQUEST_TIMEOUT_SECONDS: '3',
  RETENTION_S3_MAX_ATTEMPTS: '1',
};

/** Puts the network around a stack, a new one for each test of the `describe` that calls it. */
export function useFaultyNetwork(stack: CliStack): FaultyNetwork {
  let http: HttpProxy | undefined;
  let tcp: TcpProxy | undefined;
  let listenTcp: TcpProxy | undefined;
  beforeEach(async () => {
    http = await startHttpProxy(stack.s3().endpoint);
    const port = Number(new URL(stack.database().url).port);
    tcp = await startTcpProxy(port);
    listenTcp = await startTcpProxy(port);
  });
  afterEach(async () => {
    await http?.close();
    await tcp?.close();
    await listenTcp?.close();
  });
  const there = <Proxy>(proxy: Proxy | undefined): Proxy => {
    if (proxy === undefined) throw new Error('The network is only there inside tests.');
    return proxy;
  };
  return {
    http: () => there(http),
    tcp: () => there(tcp),
    listenTcp: () => there(listenTcp),
    env: (more = {}) => ({
      DATABASE_URL: there(tcp).through(stack.database().url),
      DATABASE_LISTEN_URL: there(listenTcp).through(stack.database().url),
      S3_ENDPOINT_URL: there(http).endpoint,
      ...IMPATIENT,
      ...more,
    }),
  };
}
