import pg from 'pg';
import { DatabaseError, type RetentionError } from '../errors.ts';
import {
  addressWithPassword,
  connectError,
  describeTarget,
  sessionConfig,
  trackSockets,
} from './connection.ts';
import type { PasswordFile } from './password.ts';
import { prepareSession, setForSession } from './session.ts';

const NO_LIMIT = 0;

/** Where the migrations run. */
interface MigrationAddress {
  readonly url: string;
  readonly passwordFile: PasswordFile | undefined;
  readonly mustWrite: boolean;
}

/**
 * Opens a session of the migrations for as long as `work` takes: without limits of time, and with the search path of
 * its role.
 *
 * @throws DatabaseError
 */
export async function withSession<Result>(
  { url, passwordFile, mustWrite }: MigrationAddress,
  work: (client: pg.Client) => Promise<Result>,
): Promise<Result> {
  const sockets = trackSockets();
  const client = new pg.Client(
    sessionConfig({
      url: await addressWithPassword(url, passwordFile),
      applicationName: 'retention migrate',
      queryTimeoutMilliseconds: NO_LIMIT,
      sockets,
    }),
  );
  client.on('error', () => undefined);
  try {
    await client.connect();
    const limits = { statementTimeoutMilliseconds: NO_LIMIT, keepsSearchPath: true };
    const { isPooled } = await prepareSession(client, limits, mustWrite);
    // Migrations keep a lock and settings in their session, also behind a pooler.
    if (isPooled) await client.query(setForSession(limits));
  } catch (error) {
    await sockets.cut();
    throw connectError(error, describeTarget(url));
  }
  try {
    return await work(client);
  } finally {
    await client.end().catch(() => undefined);
    await sockets.cut();
  }
}

/** What a migration raised, with the detail and the hint of the server. */
export function asDatabaseError(error: unknown): RetentionError {
  if (error instanceof DatabaseError) return error;
  const { code, detail, hint } = error as {
    readonly code?: string;
    readonly detail?: string;
    readonly hint?: string;
  };
  const message = error instanceof Error ? error.message : String(error);
  return new DatabaseError([message, detail].filter(Boolean).join('. '), {
    sqlState: code,
    remedy: hint,
    cause: error,
  });
}
