import { once } from 'node:events';
import { type AddressInfo, type Socket, connect, createServer } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

const HOST = '127.0.0.1';

/** A network with faults: between a client and a server on this machine. */
export interface TcpProxy {
  readonly port: number;
  /** The address of the server, by way of the proxy. */
  readonly through: (url: string) => string;
  /** Lets new connections through, or accepts them and does nothing more. */
  readonly letThrough: (isOpen: boolean) => void;
  /** Resets new connections at once, as a port does that nobody listens on. */
  readonly refuse: (isRefused: boolean) => void;
  /** How many connections hang because they were not let through. */
  readonly hanging: () => number;
  /** How many connections are let through at present. */
  readonly connected: () => number;
  /**
   * Swallows all that the present connections carry from now on, also their ends, as a network does
   * that went dead.
   */
  readonly freeze: () => void;
  /**
   * Ends, towards the server, what is frozen and has lost its client: what the server's own
   * keep-alive does in the end, and never here, where both ends stand on one machine.
   */
  readonly expire: () => void;
  /** The same towards the client: ends, with a reset, what is frozen. */
  readonly lapse: () => void;
  /** Cuts the present connections. */
  readonly cut: () => void;
  /** Carries every piece so many milliseconds late; 0 is none. */
  readonly delay: (milliseconds: number) => void;
  /** Carries at most so many bytes a second on each connection and way; Infinity is no limit. */
  readonly throttle: (bytesPerSecond: number) => void;
  /** Lets the server say so many bytes more on each present connection, then cuts it mid-word. */
  readonly cutAfter: (bytes: number) => void;
  /** No fault for what comes from now on. What is frozen stays frozen: a dead network loses it. */
  readonly heal: () => void;
  readonly close: () => Promise<void>;
}

interface Pair {
  readonly client: Socket;
  readonly upstream: Socket;
  isFrozen: boolean;
  /** Bytes that the server may still say. */
  allowance: number;
}

/** Starts a proxy in front of a port of this machine. */
export async function startTcpProxy(targetPort: number): Promise<TcpProxy> {
  const pairs = new Set<Pair>();
  const hanging = new Set<Socket>();
  const forsaken = new Set<Socket>();
  let isOpen = true;
  let isRefused = false;
  let delayMs = 0;
  let bytesPerSecond = Infinity;

  const hang = (client: Socket): void => {
    hanging.add(client);
    client.once('close', () => hanging.delete(client));
    // A socket that is not read does not notice its end.
    client.once('end', () => client.destroy());
    client.resume();
  };
  const cutPair = ({ client, upstream }: Pair): void => {
    client.resetAndDestroy();
    upstream.destroy();
  };
  const carry = async (pair: Pair, from: Socket, to: Socket): Promise<void> => {
    // One way may end while the other goes on.
    const chunks = from.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
    for await (const chunk of chunks) {
      if (delayMs > 0) await pause(delayMs);
      for (const piece of slices(chunk, bytesPerSecond)) {
        if (piece.length < chunk.length) await pause((piece.length / bytesPerSecond) * 1_000);
        if (pair.isFrozen) continue;
        const isFromServer = from === pair.upstream;
        if (isFromServer && piece.length > pair.allowance) {
          to.write(piece.subarray(0, pair.allowance), () => cutPair(pair));
          return;
        }
        if (isFromServer) pair.allowance -= piece.length;
        if (!to.destroyed && !to.write(piece)) await drained(to);
      }
    }
    if (!pair.isFrozen) to.end();
  };

  // Half-open ends are passed on one way at a time.
  const server = createServer({ allowHalfOpen: true }, (client) => {
    client.on('error', () => client.destroy());
    if (isRefused) {
      client.resetAndDestroy();
      return;
    }
    if (!isOpen) {
      hang(client);
      return;
    }
    const upstream = connect({ port: targetPort, host: HOST, allowHalfOpen: true });
    const pair: Pair = { client, upstream, isFrozen: false, allowance: Infinity };
    pairs.add(pair);
    const forsake = (): void => {
      if (pair.isFrozen && !upstream.destroyed) forsaken.add(upstream);
    };
    // A client that goes away says no more than one that goes on listening.
    client.once('end', forsake);
    client.once('close', () => {
      pairs.delete(pair);
      if (!pair.isFrozen) upstream.destroy();
      forsake();
    });
    upstream.once('close', () => {
      forsaken.delete(upstream);
      if (!pair.isFrozen) client.end();
    });
    const breakOff = (other: Socket) => () => {
      if (!pair.isFrozen) other.destroy();
    };
    upstream.on('error', breakOff(client));
    carry(pair, client, upstream).catch(breakOff(upstream));
    carry(pair, upstream, client).catch(breakOff(client));
  });
  server.listen(0, HOST);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;

  return {
    port,
    through: (url) => {
      const address = new URL(url);
      address.port = String(port);
      return address.href;
    },
    letThrough: (isAllowed) => {
      isOpen = isAllowed;
    },
    refuse: (isNow) => {
      isRefused = isNow;
    },
    hanging: () => hanging.size,
    connected: () => pairs.size,
    freeze: () => {
      for (const pair of pairs) pair.isFrozen = true;
    },
    expire: () => {
      for (const upstream of forsaken) upstream.destroy();
    },
    lapse: () => {
      for (const { client, isFrozen } of pairs) if (isFrozen) client.resetAndDestroy();
    },
    cut: () => {
      for (const pair of pairs) cutPair(pair);
    },
    delay: (milliseconds) => {
      delayMs = milliseconds;
    },
    throttle: (limit) => {
      bytesPerSecond = limit;
    },
    cutAfter: (bytes) => {
      for (const pair of pairs) pair.allowance = bytes;
    },
    heal: () => {
      isOpen = true;
      isRefused = false;
      delayMs = 0;
      bytesPerSecond = Infinity;
      for (const pair of pairs) pair.allowance = Infinity;
      // A client that waits for an answer to its first word would wait for ever.
      for (const socket of hanging) socket.destroy();
    },
    close: async () => {
      for (const { client, upstream } of pairs) {
        client.destroy();
        upstream.destroy();
      }
      for (const socket of [...hanging, ...forsaken]) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Pieces of what a tenth of a second carries. */
function* slices(chunk: Buffer, bytesPerSecond: number): Generator<Buffer> {
  const size = Math.max(1, Math.floor(Math.min(bytesPerSecond / 10, chunk.length)));
  for (let start = 0; start < chunk.length; start += size) {
    yield chunk.subarray(start, start + size);
  }
}

/** A socket that ends while it is full never drains. */
async function drained(socket: Socket): Promise<void> {
  await new Promise<void>((resolve) => {
    socket.once('drain', resolve);
    socket.once('close', () => resolve());
  });
}
