import { createServer } from 'node:net';
import { RetentionError } from '../../src/errors.ts';

// Below the range that the kernel hands out to outgoing connections, so that the port is still
// free when a server comes back from a restart.
const FIRST_PORT = 20_000;
const LAST_PORT = 32_000;
const TRIES = 20;

/**
 * Finds a TCP port that nobody listens on. It may be taken before it is used: try again then.
 *
 * @param host the address to listen on.
 * @throws when chance meets taken ports only.
 */
export async function findFreePort(host: string): Promise<number> {
  for (let attempt = 1; attempt <= TRIES; attempt += 1) {
    const port = FIRST_PORT + Math.floor(Math.random() * (LAST_PORT - FIRST_PORT));
    if (await isFree(host, port)) return port;
  }
  throw new RetentionError(`No free port found between ${FIRST_PORT} and ${LAST_PORT}.`);
}

function isFree(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => {
      resolve(false);
    });
    probe.listen(port, host, () => {
      probe.close(() => {
        resolve(true);
      });
    });
  });
}
