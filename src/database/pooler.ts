import pg from 'pg';
import { SQLSTATE, codeOf } from '../errors.ts';
import { onAbort } from '../lifecycle/linked-abort.ts';
import { connectError, describeTarget, trackSockets, sessionConfig } from './connection.ts';

const ANSWER_MILLISECONDS = 10_000;

/**
 * Whether a session reaches its server through a pooler. The process that greeted us is then
 * another than the one that works for us. `pg_listening_channels()` and a NOTIFY from the same
 * client are no evidence: behind a transaction pooler both look well.
 */
export async function isPooledClient(client: pg.ClientBase): Promise<boolean> {
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
  url: string,
  applicationName: string,
  signal?: AbortSignal,
): Promise<boolean> {
  const sockets = trackSockets();
  const client = new pg.Client(
    sessionConfig({ url, applicationName, queryTimeoutMilliseconds: ANSWER_MILLISECONDS, sockets }),
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

/** Whether a connection was refused because poolers do not pass start-up settings on. */
export function isRefusedStartupSetting(error: unknown): boolean {
  return (
    codeOf(error) === SQLSTATE.protocol_violation &&
    error instanceof Error &&
    /unsupported startup parameter/iu.test(error.message)
  );
}
