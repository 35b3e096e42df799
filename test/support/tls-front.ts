import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type AddressInfo, connect } from 'node:net';
import { createServer } from 'node:tls';
import type { Certificates } from './certificates.ts';

/** Speaks TLS for a server that does not. */
export interface TlsFront {
  /** By the name that the certificate has. */
  readonly endpoint: string;
  readonly stop: () => Promise<void>;
}

/** Starts one in front of a port of this machine. */
export async function startTlsFront(
  targetPort: number,
  { certificateFile, keyFile }: Certificates,
): Promise<TlsFront> {
  const server = createServer(
    { cert: readFileSync(certificateFile), key: readFileSync(keyFile) },
    (client) => {
      const upstream = connect({ host: '127.0.0.1', port: targetPort });
      client.on('error', () => upstream.destroy());
      upstream.on('error', () => client.destroy());
      client.pipe(upstream).pipe(client);
    },
  );
  // A client that does not trust us says so by hanging up.
  server.on('tlsClientError', () => undefined);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    endpoint: `https://localhost:${(server.address() as AddressInfo).port}`,
    stop: async () => {
      server.close();
      await once(server, 'close');
    },
  };
}
