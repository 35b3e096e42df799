import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { isExecutable } from './programs.ts';

/** A PostgreSQL server found on this machine. */
export interface PostgresServer {
  /** The major version, such as 15. */
  readonly major: number;
  /** The folder that holds `initdb`, `postgres` and, usually, `psql`. */
  readonly binFolder: string;
  /** Whether this server can load pg_cron. */
  readonly hasCron: boolean;
}

const DEBIAN_SERVERS = '/usr/lib/postgresql';

/**
 * Finds every PostgreSQL server of this machine: Debian's folders, what `pg_config` names, and
 * what is on the PATH.
 *
 * @returns the servers, newest first.
 */
export function findPostgresServers(): PostgresServer[] {
  const folders = new Set(
    [...debianFolders(), pgConfig('pg_config', '--bindir'), ...pathFolders()]
      .filter((folder) => folder !== undefined && hasServer(folder))
      .map((folder) => realpathSync(folder as string)),
  );
  return [...folders]
    .map(describeServer)
    .filter((server) => server !== undefined)
    .toSorted((a, b) => b.major - a.major);
}

/**
 * Chooses the server to use: the newest one, or the newest that can load pg_cron.
 *
 * @param servers what was found, newest first.
 * @param cron whether pg_cron is needed.
 */
export function choosePostgresServer(
  servers: readonly PostgresServer[],
  cron: boolean,
): PostgresServer | undefined {
  return servers.find((server) => server.hasCron || !cron);
}

function debianFolders(): string[] {
  if (!existsSync(DEBIAN_SERVERS)) return [];
  return readdirSync(DEBIAN_SERVERS).map((major) => join(DEBIAN_SERVERS, major, 'bin'));
}

function pathFolders(): string[] {
  return (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
}

// A client-only package also makes a bin folder, so both server programs are asked for.
function hasServer(folder: string): boolean {
  return ['initdb', 'postgres'].every((program) => isExecutable(join(folder, program)));
}

/** What is known of the server in a folder; undefined: its `postgres` does not run. */
export function describeServer(binFolder: string): PostgresServer | undefined {
  const version = output(join(binFolder, 'postgres'), ['--version']);
  const major = Number(/(\d+)(?:\.\d+|beta|rc|devel)/.exec(version ?? '')?.[1]);
  if (!Number.isInteger(major)) return undefined;
  return { major, binFolder, hasCron: libraryFolders(binFolder).some(holdsCron) };
}

function libraryFolders(binFolder: string): string[] {
  const named = pgConfig(join(binFolder, 'pg_config'), '--pkglibdir');
  return [join(binFolder, '..', 'lib'), ...(named === undefined ? [] : [named])];
}

function holdsCron(libraryFolder: string): boolean {
  return existsSync(join(libraryFolder, 'pg_cron.so'));
}

function pgConfig(program: string, question: string): string | undefined {
  return output(program, [question])?.trim();
}

function output(program: string, parameters: readonly string[]): string | undefined {
  try {
    return execFileSync(program, parameters, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  } catch {
    return undefined;
  }
}
