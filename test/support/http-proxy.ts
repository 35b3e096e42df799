import { once } from 'node:events';
import {
  Agent,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type ServerResponse,
  createServer,
  request as ask,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { watchStalls } from './stalls.ts';

const HOST = '127.0.0.1';
const SLICES_PER_SECOND = 10;

/** A request on its way to S3. */
export interface PassingRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** A reply on its way back. */
export interface PassingReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly body: Buffer;
}

/**
 * What happens to one request. The first three never reach the server; with the others the server
 * has done its work, whatever its client learns of it.
 */
export type HttpFault =
  /** The connection ends before the server hears of it. */
  | { readonly kind: 'drop' }
  /** Nothing is said, and the connection stays. */
  | { readonly kind: 'hang' }
  /** Somebody between answers instead of the server. */
  | {
      readonly kind: 'answer';
      readonly status: number;
      readonly body?: string;
      readonly headers?: Readonly<Record<string, string>>;
    }
  /** The server hears it so many milliseconds late, unless its client has gone away by then. */
  | { readonly kind: 'delay'; readonly milliseconds: number }
  /** The server hears it once the promise is kept, whether or not its client still waits. */
  | { readonly kind: 'hold'; readonly until: Promise<unknown> }
  /** The reply comes so many milliseconds late. */
  | { readonly kind: 'delay-reply'; readonly milliseconds: number }
  /** The reply comes once the promise is kept. */
  | { readonly kind: 'hold-reply'; readonly until: Promise<unknown> }
  /** The server answers, and the answer is lost with its connection. */
  | { readonly kind: 'lose-reply' }
  /** So many bytes of the answer's body come, and never all; then the connection ends. */
  | { readonly kind: 'cut-reply'; readonly bytes: number }
  /** The answer's body comes at so many bytes a second. */
  | { readonly kind: 'throttle'; readonly bytesPerSecond: number }
  /** The answer is another than the server gave. */
  | { readonly kind: 'rewrite'; readonly change: (reply: PassingReply) => PassingReply };

/**
 * What became of one request, told when it is over for its client and for the server: where a client
 * goes away first, once the server has answered. Times are epoch milliseconds.
 */
export interface Exchange {
  readonly request: PassingRequest;
  readonly arrivedAt: number;
  /** It may have come as early as this, and have waited for the proxy's own process since. */
  readonly arrivedFrom: number;
  readonly fault: HttpFault['kind'] | undefined;
  /** When the server had done it; undefined: it never heard of it. */
  readonly doneAt: number | undefined;
  /** What its client was told to the last byte, and when that began; undefined: it was not. */
  readonly told: (PassingReply & { readonly at: number }) | undefined;
}

/** A fault proxy between a client of S3 and an S3 server. */
export interface HttpProxy {
  readonly endpoint: string;
  /** How often each kind of fault was done. */
  readonly injected: ReadonlyMap<HttpFault['kind'], number>;
  /** From now on this decides about each request; nothing is no fault. */
  readonly steer: (choose: (request: PassingRequest) => HttpFault | undefined) => void;
  /** One fault for the next requests that match, then none. */
  readonly next: (fault: HttpFault, options?: NextFault) => void;
  /** No faults from now on; what hangs is cut. */
  readonly heal: () => void;
  /** How many connections of clients are open. */
  readonly connections: () => Promise<number>;
  /** How many requests hang. */
  readonly hanging: () => number;
  /** How many requests are not over, for their client or for the server. */
  readonly underWay: () => number;
  readonly close: () => Promise<void>;
}

export interface NextFault {
  /** Default 1. */
  readonly times?: number;
  /** Default every request. */
  readonly when?: (request: PassingRequest) => boolean;
}

/** Is it a DeleteObjects? */
export function isDeleteObjects({ method, url }: PassingRequest): boolean {
  return method === 'POST' && /[?&]delete(?:[=&]|$)/.test(url);
}

/**
 * Starts a proxy in front of an S3 server. Signatures stay valid: the server is told the host that
 * was asked.
 *
 * @param onExchange hears of each request, in the order in which they end.
 */
export async function startHttpProxy(
  target: string,
  onExchange: (exchange: Exchange) => void = () => undefined,
): Promise<HttpProxy> {
  const { hostname, port: targetPort } = new URL(target);
  const injected = new Map<HttpFault['kind'], number>();
  const hung = new Set<ServerResponse>();
  const agent = new Agent({ keepAlive: true });
  const stalls = watchStalls();
  let underWay = 0;
  let choose: (request: PassingRequest) => HttpFault | undefined = () => undefined;

  const forward = async ({ method, url, headers, body }: PassingRequest): Promise<PassingReply> => {
    const upstream = ask({ hostname, port: targetPort, method, path: url, headers, agent });
    upstream.end(body);
    const [reply] = (await once(upstream, 'response')) as [IncomingMessage];
    return {
      status: reply.statusCode ?? 0,
      headers: passedOn(reply.headers),
      body: await bodyOf(reply),
    };
  };
  const serve = async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
    const request: PassingRequest = {
      method: incoming.method ?? '',
      url: incoming.url ?? '',
      headers: incoming.headers,
      body: await bodyOf(incoming),
    };
    const fault = choose(request);
    if (fault !== undefined) injected.set(fault.kind, (injected.get(fault.kind) ?? 0) + 1);
    const arrivedAt = epochMs();
    const arrivedFrom = arrivedAt - stalls.recent();
    underWay += 1;
    let doneAt: number | undefined;
    let reply: PassingReply | undefined;
    let repliedAt = arrivedAt;
    // Its client may go away while the server works, or is yet to begin.
    let isServed = fault?.kind !== 'hold';
    let isClosed = false;
    const tell = (): void => {
      underWay -= 1;
      const isTold = response.writableFinished && reply !== undefined;
      const told = isTold && reply !== undefined ? { ...reply, at: repliedAt } : undefined;
      onExchange({ request, arrivedAt, arrivedFrom, fault: fault?.kind, doneAt, told });
    };
    response.once('close', () => {
      isClosed = true;
      if (isServed) tell();
    });
    switch (fault?.kind) {
      case 'drop':
        response.destroy();
        return;
      case 'hang':
        hung.add(response);
        response.once('close', () => hung.delete(response));
        return;
      case 'answer':
        reply = {
          status: fault.status,
          headers: { 'content-type': 'application/xml', ...fault.headers },
          body: Buffer.from(fault.body ?? ''),
        };
        break;
      case 'delay':
        await pause(fault.milliseconds);
        // Who has gone away has taken the request along.
        if (response.destroyed) return;
        break;
      case 'hold':
        await fault.until;
        break;
      default:
    }
    if (reply === undefined) {
      isServed = false;
      try {
        reply = await forward(request);
        doneAt = epochMs();
      } finally {
        isServed = true;
        if (isClosed) tell();
      }
      if (response.destroyed) return;
      if (fault?.kind === 'rewrite') reply = fault.change(reply);
    }
    if (fault?.kind === 'delay-reply') await pause(fault.milliseconds);
    if (fault?.kind === 'hold-reply') await fault.until;
    repliedAt = epochMs();
    await send(fault, reply, response);
  };

  const server = createServer((incoming, response) => {
    response.on('error', () => undefined);
    // The server behind may be gone: its client sees a connection that ends.
    serve(incoming, response).catch(() => response.destroy());
  });
  server.listen(0, HOST);
  await once(server, 'listening');
  const heal = (): void => {
    choose = () => undefined;
    for (const response of hung) response.destroy();
  };
  return {
    endpoint: `http://${HOST}:${(server.address() as AddressInfo).port}`,
    injected,
    steer: (chooser) => {
      choose = chooser;
    },
    // Looking whether an object is there comes before the first deletion, and is no deletion.
    next: (fault, { times = 1, when = ({ method }: PassingRequest) => method !== 'HEAD' } = {}) => {
      let left = times;
      choose = (request) => {
        if (left === 0 || !when(request)) return undefined;
        left -= 1;
        return fault;
      };
    },
    heal,
    connections: promisify(server.getConnections.bind(server)),
    hanging: () => hung.size,
    underWay: () => underWay,
    close: async () => {
      heal();
      stalls.stop();
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
      agent.destroy();
    },
  };
}

/** Sends the reply, or what is left of it. */
async function send(
  fault: HttpFault | undefined,
  { status, headers, body }: PassingReply,
  response: ServerResponse,
): Promise<void> {
  // Of an empty body the headers are all.
  if (fault?.kind === 'lose-reply' || (fault?.kind === 'cut-reply' && body.length === 0)) {
    response.destroy();
    return;
  }
  const isOurs = fault?.kind === 'rewrite' || fault?.kind === 'answer';
  response.writeHead(status, {
    ...headers,
    ...(isOurs ? { 'content-length': String(body.length) } : {}),
  });
  if (fault?.kind === 'cut-reply') {
    const bytes = Math.min(fault.bytes, body.length - 1);
    response.write(body.subarray(0, bytes), () => response.destroy());
  } else if (fault?.kind === 'throttle') {
    await trickle(response, body, fault.bytesPerSecond);
  } else {
    response.end(body);
  }
}

async function trickle(
  response: ServerResponse,
  body: Buffer,
  bytesPerSecond: number,
): Promise<void> {
  const size = Math.max(1, Math.floor(bytesPerSecond / SLICES_PER_SECOND));
  for (let start = 0; start < body.length && !response.destroyed; start += size) {
    response.write(body.subarray(start, start + size));
    await pause(1_000 / SLICES_PER_SECOND);
  }
  response.end();
}

/** Without what belongs to one connection alone. */
function passedOn(headers: IncomingHttpHeaders): Record<string, string | string[]> {
  const { connection: _connection, 'transfer-encoding': _encoding, ...rest } = headers;
  const given: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(rest)) if (value !== undefined) given[name] = value;
  return given;
}

async function bodyOf(message: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of message as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function epochMs(): number {
  return performance.timeOrigin + performance.now();
}
