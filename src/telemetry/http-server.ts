import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { RetentionError, codeOf, describeError } from '../errors.ts';
import { withGrace } from '../lifecycle/deadline.ts';
import { type Service, createService } from '../lifecycle/service.ts';
import type { Logger } from '../logger.ts';

/** What is sent back. */
export interface HttpAnswer {
  /** Default: 200. */
  readonly status?: number;
  readonly contentType: string;
  readonly body: string;
  /** Default: nothing may be loaded, run or framed. */
  readonly contentSecurityPolicy?: string;
  /** After how many seconds a browser asks again. Default: it does not. */
  readonly refreshSeconds?: number | undefined;
}

/** What a path is answered with. */
export type HttpRoute = (query: URLSearchParams) => HttpAnswer | Promise<HttpAnswer>;

/** How a server is made. */
export interface HttpServerOptions {
  readonly host: string;
  /** 0 takes any free one. */
  readonly port: number;
  /** By path, such as `/metrics`. */
  readonly routes: Readonly<Record<string, HttpRoute>>;
  readonly logger: Logger;
}

/** Answers GET and HEAD on a few paths until it is stopped. */
export interface HttpServer extends Service {
  /** Where it listens; undefined before it does. */
  address(): AddressInfo | undefined;
}

const SECOND = 1_000;

/** How long a client may take for a request, and a connection for its first byte. */
const REQUEST_MILLISECONDS = 10 * SECOND;
/** How often Node enforces that; its default of 30 s would let a slow client stay that long. */
const CHECK_MILLISECONDS = SECOND;
const IDLE_MILLISECONDS = 5 * SECOND;
const SOCKET_MILLISECONDS = 20 * SECOND;

/** Prometheus, probes and a few people. */
const MAX_CONNECTIONS = 128;
const MAX_HEADER_BYTES = 8_192;

/** How long answers under way may take when it is stopped. */
const GRACE_MILLISECONDS = SECOND;

const NOTHING_ALLOWED =
  "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

const TEXT = 'text/plain; charset=utf-8';

/**
 * Makes a server. `start` rejects when the port cannot be had.
 */
export function createHttpServer(options: HttpServerOptions): HttpServer {
  const { host, port, logger } = options;
  const server = createServer(
    {
      requestTimeout: REQUEST_MILLISECONDS,
      connectionsCheckingInterval: CHECK_MILLISECONDS,
      maxHeaderSize: MAX_HEADER_BYTES,
    },
    (request, response) => void answer(options, request, response),
  );
  server.headersTimeout = REQUEST_MILLISECONDS;
  server.keepAliveTimeout = IDLE_MILLISECONDS;
  server.maxConnections = MAX_CONNECTIONS;
  server.setTimeout(SOCKET_MILLISECONDS);
  const service = createService({
    name: 'the HTTP server',
    start: async () => {
      await listen(server, host, port);
      server.on('error', (error) => logger.error('The HTTP server failed', { error }));
      logger.info(`Serving health, metrics and status on ${describeAddress(server)}`);
    },
    stop: () => close(server),
  });
  return {
    start: () => service.start(),
    stop: () => service.stop(),
    address: () => addressOf(server),
  };
}

async function answer(
  { routes, logger }: HttpServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  // What a client sends along is of no interest, and unread it would block the connection.
  request.resume();
  response.on('error', () => undefined);
  const { method = 'GET' } = request;
  if (method !== 'GET' && method !== 'HEAD') {
    response.setHeader('Allow', 'GET, HEAD');
    send(request, response, { status: 405, contentType: TEXT, body: 'Only GET and HEAD.\n' });
    return;
  }
  const [path = '/', query = ''] = (request.url ?? '/').split(/[?#]/u, 2);
  const route = Object.hasOwn(routes, path) ? routes[path] : undefined;
  if (route === undefined) {
    const known = Object.keys(routes).join('\n');
    send(request, response, { status: 404, contentType: TEXT, body: `There is only:\n${known}\n` });
    return;
  }
  try {
    send(request, response, await route(new URLSearchParams(query)));
  } catch (error) {
    logger.error(`An answer to ${path} failed: ${describeError(error)}`, { error });
    send(request, response, {
      status: 500,
      contentType: TEXT,
      body: 'This failed; see the log.\n',
    });
  }
}

function send(request: IncomingMessage, response: ServerResponse, reply: HttpAnswer): void {
  if (response.headersSent || response.destroyed) return;
  response.writeHead(reply.status ?? 200, {
    'Content-Type': reply.contentType,
    'Content-Length': Buffer.byteLength(reply.body),
    'Content-Security-Policy': reply.contentSecurityPolicy ?? NOTHING_ALLOWED,
    ...(reply.refreshSeconds === undefined ? {} : { Refresh: String(reply.refreshSeconds) }),
    'Cache-Control': 'no-store',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
  });
  response.end(request.method === 'HEAD' ? undefined : reply.body);
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const refuse = (error: Error): void => reject(explain(error, host, port));
    server.once('error', refuse);
    server.listen({ host, port }, () => {
      server.off('error', refuse);
      resolve();
    });
  });
}

const PORT_PROBLEMS: Readonly<Record<string, readonly [what: string, remedy: string]>> = {
  EADDRINUSE: [
    'another program has it',
    'Set RETENTION_HTTP_PORT to a free port, or to 0 for any free one.',
  ],
  EACCES: ['this user may not open it', 'Set RETENTION_HTTP_PORT to a port above 1023.'],
  EADDRNOTAVAIL: [
    'this machine has no such address',
    'Set RETENTION_HTTP_HOST to an address of this machine, or to 0.0.0.0 for all of them.',
  ],
  ENOTFOUND: [
    'the host name is unknown',
    'Set RETENTION_HTTP_HOST to an address of this machine, or to 0.0.0.0 for all of them.',
  ],
};

function explain(error: Error, host: string, port: number): RetentionError {
  const code = codeOf(error);
  const [what, remedy] = PORT_PROBLEMS[code ?? ''] ?? [describeError(error), undefined];
  return new RetentionError(`port ${port} on ${host} cannot be served: ${what}`, {
    code,
    remedy,
    cause: error,
  });
}

async function close(server: Server): Promise<void> {
  if (!server.listening) return;
  const closed = new Promise<void>((resolve) => {
    server.close(() => resolve());
  });
  server.closeIdleConnections();
  await withGrace(
    GRACE_MILLISECONDS,
    () => server.closeAllConnections(),
    () => closed,
  );
}

function addressOf(server: Server): AddressInfo | undefined {
  const address = server.address();
  return address === null || typeof address === 'string' ? undefined : address;
}

function describeAddress(server: Server): string {
  const address = addressOf(server);
  if (address === undefined) return 'no port';
  const host = address.family === 'IPv6' ? `[${address.address}]` : address.address;
  return `http://${host}:${address.port}/`;
}
