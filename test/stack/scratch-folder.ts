import { execFileSync, spawnSync } from 'node:child_process';
import { chownSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RetentionError } from '../../src/errors.ts';

/** Whom a server process runs as; `undefined` is whoever runs this program. */
export type ServerUser = { readonly uid: number; readonly gid: number } | undefined;

/**
 * The user that a PostgreSQL server runs as: itself refuses to run as root, so for root it is the
 * `postgres` user that every PostgreSQL package makes.
 *
 * @throws when this is root and there is no such user.
 */
export function postgresUser(): ServerUser {
  if (process.getuid?.() !== 0) return undefined;
  try {
    return { uid: idOf('-u'), gid: idOf('-g') };
  } catch (cause) {
    throw new RetentionError(
      'PostgreSQL does not run as root, and this machine has no "postgres" user to run it as. ' +
        'Make one (useradd --system postgres) or run this as an ordinary user.',
      { cause },
    );
  }
}

function idOf(flag: '-u' | '-g'): number {
  return Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8', stdio: 'pipe' }).trim());
}

// The kernel takes 107 bytes for a socket's path; PostgreSQL appends ".s.PGSQL.65535.lock".
const LONGEST_SOCKET_FOLDER = 107 - '/.s.PGSQL.65535.lock'.length;

/**
 * Makes an empty folder that a server's user owns and can reach.
 *
 * @param user who must own it and be able to walk down to it.
 * @param wanted where; by default a new folder in the system's temporary folder, or in /tmp when
 *   that one is closed to the user or too deep for a socket.
 * @returns its real path.
 * @throws when the wanted folder is not empty, not reachable or too deep.
 */
export function makeScratchFolder(user: ServerUser, wanted?: string): string {
  const folder = wanted === undefined ? makeTemporary(user) : makeWanted(user, wanted);
  if (folder === undefined) {
    const tried = wanted ?? `${tmpdir()}, /tmp`;
    throw new RetentionError(
      `No usable scratch folder (tried ${tried}): the server's user must be able to reach it, and ` +
        `its path may be at most ${LONGEST_SOCKET_FOLDER} bytes long, since a socket lies in it.`,
    );
  }
  return folder;
}

function makeTemporary(user: ServerUser): string | undefined {
  for (const parent of new Set([tmpdir(), '/tmp'])) {
    const folder = realpathSync(mkdtempSync(join(parent, 'retention-postgres-')));
    if (handOver(folder, user)) return folder;
    rmSync(folder, { recursive: true });
  }
  return undefined;
}

function makeWanted(user: ServerUser, wanted: string): string | undefined {
  const made = mkdirSync(wanted, { recursive: true, mode: 0o700 });
  if (readdirSync(wanted).length > 0) {
    throw new RetentionError(
      `The folder ${wanted} is not empty; a private PostgreSQL wants a new one.`,
    );
  }
  const folder = realpathSync(wanted);
  if (handOver(folder, user)) return folder;
  if (made !== undefined) rmSync(made, { recursive: true });
  return undefined;
}

function handOver(folder: string, user: ServerUser): boolean {
  if (Buffer.byteLength(folder) > LONGEST_SOCKET_FOLDER) return false;
  if (user === undefined) return true;
  chownSync(folder, user.uid, user.gid);
  return spawnSync('test', ['-x', folder], { ...user, cwd: '/' }).status === 0;
}
