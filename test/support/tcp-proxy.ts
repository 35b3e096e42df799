import { once } from 'node:events';
import { type AddressInfo, type Socket, connect, createServer } from 'node:net';

/** A network that can go dead: between a client and a server on this machine. */
export interface TcpProxy {
  /** The address of the server, by way of the proxy. */
  through(url: string): string;
  /** Whether new connections are let through; otherwise they are accepted and nothing more. */
  isOpen: boolean;
  /** How many connections the clients hold. */
  readonly connections: number;
  /** Swallows all that the present connections carry from now on, without closing them. */
  freeze(): void;
  close(): Promise<void>;
}

/** Starts a proxy in front of a port of this machine. */
export async function startTcpProxy(targetPort: number): Promise<TcpProxy> {
  const pairs = new Set<readonly [Socket, Socket | undefined]>();
  const proxy = { isOpen: true };
  const server = createServer((client) => {
    client.on('error', () => undefined);
    const upstream = proxy.isOpen ? connect(targetPort, '127.0.0.1') : undefined;
    const pair = [client, upstream] as const;
    pairs.add(pair);
    client.once('close', () => {
      pairs.delete(pair);
      upstream?.destroy();
    });
    if (upstream === undefined) {
      // A socket that is not read does not notice its end.
      client.resume();
      return;
    }
    upstream.on('error', () => client.destroy());
    upstream.once('close', () => client.destroy());
    client.pipe(upstream);
    upstream.pipe(client);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;

  return Object.defineProperty(
    Object.assign(proxy, {
      through: (url: string) => {
        const address = new URL(url);
        address.port = String(port);
        return address.href;
      },
      freeze: () => {
        for (const [client, upstream] of pairs) {
          if (upstream === undefined) continue;
          client.unpipe(upstream).resume();
          upstream.unpipe(client).resume();
        }
      },
      close: async () => {
        for (const [client] of pairs) client.destroy();
        server.close();
        await once(server, 'close');
      },
      connections: 0,
    }),
    'connections',
    { get: () => pairs.size },
  );
}
