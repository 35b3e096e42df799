import { once } from 'node:events';
import { type AddressInfo, type Socket, connect, createServer } from 'node:net';

const HOST = '127.0.0.1';

/** A network that can go dead: between a client and a server on this machine. */
export interface TcpProxy {
  /** The address of the server, by way of the proxy. */
  readonly through: (url: string) => string;
  /** Lets new connections through, or accepts them and does nothing more. */
  readonly letThrough: (isOpen: boolean) => void;
  /** How many connections hang because they were not let through. */
  readonly hanging: () => number;
  /**
   * Swallows all that the present connections carry from now on, also their ends, as a network does
   * that went dead.
   */
  readonly freeze: () => void;
  readonly close: () => Promise<void>;
}

/** Starts a proxy in front of a port of this machine. */
export async function startTcpProxy(targetPort: number): Promise<TcpProxy> {
  const pairs = new Set<readonly [client: Socket, upstream: Socket]>();
  const hanging = new Set<Socket>();
  let isOpen = true;

  const hang = (client: Socket): void => {
    hanging.add(client);
    client.once('close', () => hanging.delete(client));
    // A socket that is not read does not notice its end.
    client.once('end', () => client.destroy());
    client.resume();
  };
  // Half-open ends are passed on by the pipes, and by nothing else once those are cut.
  const server = createServer({ allowHalfOpen: true }, (client) => {
    client.on('error', () => client.destroy());
    if (!isOpen) {
      hang(client);
      return;
    }
    const upstream = connect({ port: targetPort, host: HOST, allowHalfOpen: true });
    upstream.on('error', () => client.destroy());
    const pair = [client, upstream] as const;
    pairs.add(pair);
    client.once('close', () => pairs.delete(pair));
    client.pipe(upstream);
    upstream.pipe(client);
  });
  server.listen(0, HOST);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;

  return {
    through: (url) => {
      const address = new URL(url);
      address.port = String(port);
      return address.href;
    },
    letThrough: (isAllowed) => {
      isOpen = isAllowed;
    },
    hanging: () => hanging.size,
    freeze: () => {
      for (const [client, upstream] of pairs) {
        client.unpipe(upstream).resume();
        upstream.unpipe(client).resume();
      }
    },
    close: async () => {
      for (const pair of pairs) for (const socket of pair) socket.destroy();
      for (const socket of hanging) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
