import { once } from 'node:events';
import { type AddressInfo, type Socket, connect, createServer } from 'node:net';

const HOST = '127.0.0.1';
const SSL_REQUEST = 80_877_103;
const HEAD_BYTES = 8;

/** A server that stands before a PostgreSQL and looks at how each connection begins. */
export interface PostgresFront extends AsyncDisposable {
  /** The address of a database, by way of this server. */
  readonly through: (url: string) => string;
  /** What each connection asked for when it began, in order. */
  readonly asked: ReadonlyMap<string, string>[];
  /** Which server new connections reach. */
  target: number;
  /** Refuses connections that ask for any setting, with this code and these words; undefined: none. */
  refusal: { readonly code: string; readonly message: string } | undefined;
  /** The password that it wants; undefined: none. */
  password: string | undefined;
}

/** What a connection may ask for and still get past a {@link PostgresFront.refusal}. */
const PLAIN: ReadonlySet<string> = new Set([
  'user',
  'database',
  'client_encoding',
  'application_name',
  'fallback_application_name',
]);

/** Starts one. */
export async function startPostgresFront(port: number): Promise<PostgresFront> {
  const sockets = new Set<Socket>();
  const asked: ReadonlyMap<string, string>[] = [];
  const server = createServer((client) => {
    sockets.add(client);
    client.on('error', () => undefined);
    client.on('close', () => sockets.delete(client));
    client.once('data', (first) => greet(client, first));
  });
  const forward = (client: Socket, startup: Buffer): void => {
    const upstream = connect(front.target, HOST);
    sockets.add(upstream);
    upstream.on('error', () => client.destroy());
    upstream.on('close', () => sockets.delete(upstream));
    client.on('close', () => upstream.destroy());
    upstream.write(startup);
    client.pipe(upstream);
    upstream.pipe(client);
  };
  const greet = (client: Socket, startup: Buffer): void => {
    if (startup.readInt32BE(4) === SSL_REQUEST) {
      client.write('N');
      client.once('data', (next) => greet(client, next));
      return;
    }
    const wanted = readStartup(startup);
    asked.push(wanted);
    const { refusal, password } = front;
    if (refusal !== undefined && [...wanted.keys()].some((name) => !PLAIN.has(name))) {
      client.end(fatal(refusal.code, refusal.message));
    } else if (password === undefined) {
      forward(client, startup);
    } else {
      // Asks for a password in plain text.
      client.write(Buffer.from([0x52, 0, 0, 0, 8, 0, 0, 0, 3]));
      client.once('data', (answer) => {
        const given = answer.subarray(5, -1).toString();
        if (given === front.password) forward(client, startup);
        else client.end(fatal('28P01', 'password authentication failed'));
      });
    }
  };
  server.listen(0, HOST);
  await once(server, 'listening');
  const { port: own } = server.address() as AddressInfo;
  const front: PostgresFront = {
    through: (url) => {
      const address = new URL(url);
      address.port = String(own);
      return address.href;
    },
    asked,
    target: port,
    refusal: undefined,
    password: undefined,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
  return front;
}

function readStartup(message: Buffer): ReadonlyMap<string, string> {
  const words = message.subarray(HEAD_BYTES).toString().split('\0');
  const pairs = new Map<string, string>();
  for (let at = 0; words[at] !== undefined && words[at] !== ''; at += 2) {
    pairs.set(words[at] ?? '', words[at + 1] ?? '');
  }
  return pairs;
}

function fatal(code: string, message: string): Buffer {
  const body = Buffer.from(`SFATAL\0VFATAL\0C${code}\0M${message}\0\0`);
  const head = Buffer.alloc(5);
  head.write('E', 'latin1');
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}
