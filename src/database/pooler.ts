import pg from 'pg';
import { onAbort } from '../lifecycle/linked-abort.ts';
import {
  addressWithPassword,
  connectError,
  describeTarget,
  trackSockets,
  sessionConfig,
} from './connection.ts';
import type { PasswordFile } from './password.ts';

const ANSWER_MILLISECONDS = 10_000;

/** Where to listen, and where the password of that address is read. */
export interface ListenAddress {
  readonly url: string;
  readonly passwordFile?: PasswordFile | undefined;
}

/**
 * Whether a session reaches its server through a pooler. The process that greeted us is then
 * another than the one that works for us. `pg_listening_channels()` and a NOTIFY from the same
 * client are no evidence: behind a transaction pooler both look well.
 */
async function isPooledClient(client: pg.ClientBase): Promise<boolean> {
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
  // pg's types leave out the number that the server sent with its greeting.
  const { processID } = client as unknown as { readonly processID: number | null };
  return rows[0]?.pid !== processID;
}

/**
 * Opens a session at an address and asks {@link isPooledClient}.
 *
 * @param signal cuts the session off.
 * @throws DatabaseError when the address cannot be reached.
 */
export async function detectPooler(
  { url, passwordFile }: ListenAddress,
  applicationName: string,
  signal?: AbortSignal,
): Promise<boolean> {
  const sockets = trackSockets();
  const address = await addressWithPassword(url, passwordFile);
  const client = new pg.Client(
    sessionConfig({
      url: address,
      applicationName,
      queryTimeoutMilliseconds: ANSWER_MILLISECONDS,
      sockets,
    }),
  );
  // The statement that waits for it reports its loss.
  client.on('error', () => undefined);
  const release = onAbort(signal, () => void sockets.cut());
  try {
    signal?.throwIfAborted();
    await client.connect();
    return await isPooledClient(client);
  } catch (error) {
    throw connectError(error, describeTarget(url));
  } finally {
    release();
    await sockets.cut();
  }
}
