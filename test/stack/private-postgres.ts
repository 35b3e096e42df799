import { execFile } from 'node:child_process';
import { appendFileSync, existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import {
  choosePostgresServer,
  describeServer,
  findPostgresServers,
  type PostgresServer,
} from './find-postgres.ts';
import { NEVER_ABORTED } from '../../src/lifecycle/linked-abort.ts';
import { findFreePort } from './free-port.ts';
import { guardAgainstOrphans } from './orphan-guard.ts';
import {
  PostgresProcess,
  PostgresStartError,
  type StopMode,
  serverEnvironment,
} from './postgres-process.ts';
import {
  configuration,
  cronDatabaseName,
  type PrivatePostgresOptions,
} from './postgres-settings.ts';
import { makeScratchFolder, postgresUser, type ServerUser } from './scratch-folder.ts';
import { until } from './until.ts';

const run = promisify(execFile);

const SUPERUSER = 'postgres';
const HOST = '127.0.0.1';
const PORT_TRIES = 20;

/** A PostgreSQL server of one's own, reachable from this machine only. */
export interface PrivatePostgres {
  readonly folder: string;
  readonly host: string;
  readonly port: number;
  readonly socketFolder: string;
  readonly logFile: string;
  readonly binFolder: string;
  readonly psqlPath: string;
  readonly major: number;
  /** The postmaster's process id, while it runs. */
  readonly pid: number | undefined;
  /** The address of a database, over TCP. Default: the database asked for, as the superuser. */
  readonly url: (databaseName?: string, user?: string) => string;
  /** Runs SQL through psql as the superuser and returns what it printed, unaligned. */
  readonly sql: (text: string, databaseName?: string) => Promise<string>;
  /** The last lines of the server's log. */
  readonly logTail: (lines?: number) => string;
  /** Takes the server down and leaves its data; `immediate` is a crash. Default: `fast`. */
  readonly down: (mode?: StopMode) => Promise<void>;
  /** Brings it up again on the same port. */
  readonly up: () => Promise<void>;
  /** Down and up. */
  readonly restart: (mode?: StopMode) => Promise<void>;
  /** Takes it down for good and removes its folder; harmless when repeated. */
  readonly stop: () => Promise<void>;
}

/**
 * Starts a PostgreSQL server of one's own in a scratch folder: 127.0.0.1 and a socket only, every
 * local user trusted, gone without a trace after `stop()` or when this process ends, however it
 * ends. Other clusters of the machine are neither used nor touched.
 *
 * @throws when no server can be had or it does not start; the message carries its log's tail.
 */
export async function startPrivatePostgres(
  options: PrivatePostgresOptions = {},
): Promise<PrivatePostgres> {
  const server = findServer(options);
  const user = postgresUser();
  const folder = makeScratchFolder(user, options.folder);
  const callOffGuard = guardAgainstOrphans(folder);
  const logFile = join(folder, 'postgres.log');
  const dataFolder = join(folder, 'data');
  const postmaster = new PostgresProcess({
    binFolder: server.binFolder,
    dataFolder,
    logFile,
    user,
  });

  const stop = async (): Promise<void> => {
    await postmaster.down('fast');
    rmSync(folder, { recursive: true, force: true });
    callOffGuard();
  };

  try {
    await initialise(server.binFolder, dataFolder, user);
    writeFileSync(logFile, '');
    const port = await startOnFreePort(postmaster, options.port, (candidate) =>
      appendFileSync(
        join(dataFolder, 'postgresql.conf'),
        configuration(options, { host: HOST, folder, port: candidate }),
      ),
    );
    const started = describe({ ...server, folder, logFile, port }, options, postmaster, stop);
    await makeDatabases(started, options);
    return started;
  } catch (error) {
    await stop();
    throw error;
  }
}

function findServer({ binFolder, cron = false }: PrivatePostgresOptions): PostgresServer {
  if (binFolder !== undefined) {
    const server = describeServer(binFolder);
    if (server !== undefined) return server;
    throw new PostgresStartError(`There is no PostgreSQL in ${binFolder} that runs here.`);
  }
  const server = choosePostgresServer(findPostgresServers(), cron !== false);
  if (server !== undefined) return server;
  const wanted = cron === false ? 'A PostgreSQL server' : 'A PostgreSQL server with pg_cron';
  throw new PostgresStartError(
    `${wanted} is not installed. "npm run packages -- postgres" installs the distribution's; ` +
      'one that is elsewhere is found when the folder of its initdb is on the PATH.',
  );
}

interface Place {
  readonly binFolder: string;
  readonly major: number;
  readonly folder: string;
  readonly logFile: string;
  readonly port: number;
}

function describe(
  place: Place,
  options: PrivatePostgresOptions,
  postmaster: PostgresProcess,
  stop: () => Promise<void>,
): PrivatePostgres {
  const { binFolder, major, folder, logFile, port } = place;
  const psqlPath = existsSync(join(binFolder, 'psql')) ? join(binFolder, 'psql') : 'psql';
  const mainDatabase = options.databaseName ?? SUPERUSER;
  const url = (databaseName = mainDatabase, user = SUPERUSER): string =>
    `postgresql://${encodeURIComponent(user)}@${HOST}:${port}/${encodeURIComponent(databaseName)}`;
  return {
    folder,
    host: HOST,
    port,
    socketFolder: folder,
    logFile,
    binFolder,
    psqlPath,
    major,
    get pid() {
      return postmaster.pid;
    },
    url,
    sql: async (text, databaseName) => {
      const parameters = ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-d', url(databaseName)];
      const { stdout } = await run(psqlPath, [...parameters, '-c', text], {
        env: serverEnvironment(),
      });
      return stdout.trimEnd();
    },
    logTail: (lines) => postmaster.logTail(lines),
    down: (mode) => postmaster.down(mode),
    up: () => postmaster.up(),
    restart: async (mode) => {
      await postmaster.down(mode);
      await postmaster.up();
    },
    stop,
  };
}

async function initialise(binFolder: string, dataFolder: string, user: ServerUser): Promise<void> {
  const character = ['--encoding=UTF8', '--locale=C'];
  const quick = ['--no-sync', '--no-instructions'];
  const parameters = ['-D', dataFolder, '-U', SUPERUSER, '--auth=trust', ...character, ...quick];
  await run(join(binFolder, 'initdb'), parameters, {
    ...user,
    cwd: join(dataFolder, '..'),
    env: serverEnvironment(),
  });
}

async function makeDatabases(
  postgres: PrivatePostgres,
  options: PrivatePostgresOptions,
): Promise<void> {
  const wanted = new Set([options.databaseName, cronDatabaseName(options)]);
  for (const name of wanted) {
    if (name === undefined || name === SUPERUSER) continue;
    await postgres.sql(`create database "${name.replaceAll('"', '""')}"`, SUPERUSER);
  }
  const cron = cronDatabaseName(options);
  if (cron !== undefined) await waitForCron(postgres, cron);
}

/**
 * pg_cron's scheduler begins a second after its database is there, and looks at its jobs once a second from then on. What
 * follows finds it at work.
 */
async function waitForCron(postgres: PrivatePostgres, database: string): Promise<void> {
  const scheduler = `select count(*) from pg_stat_activity
    where backend_type like 'pg_cron%' and datname = '${database.replaceAll("'", "''")}'`;
  await until(
    "pg_cron's scheduler",
    async () => ((await postgres.sql(scheduler, SUPERUSER)).trim() === '1' ? true : undefined),
    { signal: NEVER_ABORTED, limitSeconds: 30 },
  );
}

// Between finding a port free and binding it, another program may take it; then the next is tried.
async function startOnFreePort(
  postmaster: PostgresProcess,
  wanted: number | undefined,
  configure: (port: number) => void,
): Promise<number> {
  for (let attempt = 1; ; attempt += 1) {
    const port = wanted ?? (await findFreePort(HOST));
    configure(port);
    try {
      await postmaster.up();
      return port;
    } catch (error) {
      const isTaken =
        error instanceof PostgresStartError && error.message.includes('Address already in use');
      if (!isTaken || wanted !== undefined || attempt >= PORT_TRIES) throw error;
    }
  }
}
