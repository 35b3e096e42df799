import { execFile } from 'node:child_process';
import { appendFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { expect, onTestFinished } from 'vitest';
import { findFreePort } from '../stack/free-port.ts';
import type { MemoryS3 } from '../stack/memory-s3.ts';
import { PostgresProcess, serverEnvironment } from '../stack/postgres-process.ts';
import type { PrivatePostgres } from '../stack/private-postgres.ts';
import { makeScratchFolder, postgresUser } from '../stack/scratch-folder.ts';
import { type RunningCli, type Variables, runCli, startCli } from './cli.ts';
import { memoryS3Variables } from './cli-stack.ts';
import { startHttpProxy } from './http-proxy.ts';
import { addressOf } from './scrape.ts';

const run = promisify(execFile);

/** A copy of a whole server. */
export interface ServerCopy {
  readonly url: (database: string) => string;
  readonly port: number;
  readonly stop: () => Promise<void>;
}

/** How a copy of a server begins. */
export interface ServerCopyOptions {
  /** `as it is`: like after a crash. `standby`: follows the original. `recovery`: as `settings` say. */
  readonly mode: 'as it is' | 'standby' | 'recovery';
  readonly settings?: Readonly<Record<string, string>>;
}

/** The files of a running server, taken while it runs. Removed after the test. */
export async function backUp(server: PrivatePostgres): Promise<string> {
  const user = postgresUser();
  const folder = makeScratchFolder(user);
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  await run(
    join(server.binFolder, 'pg_basebackup'),
    [
      `--pgdata=${join(folder, 'data')}`,
      `--host=${server.host}`,
      `--port=${server.port}`,
      '--username=postgres',
      '--wal-method=stream',
      '--checkpoint=fast',
      '--no-sync',
    ],
    { ...user, cwd: folder, env: serverEnvironment() },
  );
  return folder;
}

/** Brings the files up as a server of their own; stopped after the test. */
export async function bringUp(
  server: PrivatePostgres,
  folder: string,
  { mode, settings = {} }: ServerCopyOptions,
): Promise<ServerCopy> {
  const user = postgresUser();
  const dataFolder = join(folder, 'data');
  const port = await findFreePort('127.0.0.1');
  const lines = {
    port: String(port),
    unix_socket_directories: folder,
    archive_mode: 'off',
    ...(mode === 'standby'
      ? { primary_conninfo: `host=${server.host} port=${server.port} user=postgres` }
      : {}),
    ...settings,
  };
  appendFileSync(
    join(dataFolder, 'postgresql.conf'),
    Object.entries(lines)
      .map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`)
      .join(''),
  );
  if (mode !== 'as it is') writeFileSync(join(dataFolder, `${mode}.signal`), '');
  const logFile = join(folder, 'copy.log');
  writeFileSync(logFile, '');
  const postmaster = new PostgresProcess({
    binFolder: server.binFolder,
    dataFolder,
    logFile,
    user,
  });
  onTestFinished(() => postmaster.down('immediate'));
  await postmaster.up();
  return {
    port,
    url: (database) => `postgresql://postgres@127.0.0.1:${port}/${database}`,
    stop: () => postmaster.down('immediate'),
  };
}

/** Runs SQL at an address, each time on a session of its own. */
export async function sqlAt(
  url: string,
  text: string,
): Promise<readonly Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const result = (await client.query(text)) as pg.QueryResult | pg.QueryResult[];
    return (Array.isArray(result) ? result.at(-1) : result)?.rows as Record<string, unknown>[];
  } finally {
    await client.end();
  }
}

/** What a copy is asked, and how often it asked S3 to delete something. */
export interface WatchedCopy {
  readonly url: string;
  readonly env: Variables;
  /** Its requests to delete. */
  readonly deletions: () => number;
  readonly run: (...words: readonly string[]) => ReturnType<typeof runCli>;
  readonly listen: (more?: Variables) => RunningCli;
  readonly sql: (text: string) => Promise<readonly Record<string, unknown>[]>;
}

/** Watches what a copy does, at a way of its own to S3. */
export async function watchCopy(
  url: string,
  s3: MemoryS3,
  more: Variables = {},
): Promise<WatchedCopy> {
  let deletions = 0;
  const proxy = await startHttpProxy(s3.endpoint, ({ request: { method, url: path, body } }) => {
    // Doctor asks to delete a key that cannot exist.
    if (body.includes('.retention-doctor/') || path.includes('.retention-doctor/')) return;
    if (method === 'DELETE' || (method === 'POST' && /[?&]delete/u.test(path))) deletions += 1;
  });
  onTestFinished(() => proxy.close());
  const env = {
    DATABASE_URL: url,
    ...memoryS3Variables(s3),
    S3_ENDPOINT_URL: proxy.endpoint,
    S3_RESULT_BUCKET: 'dpp-results',
    RETENTION_SCHEDULER: 'internal',
    RETENTION_POLL_SECONDS: '1',
    RETENTION_HTTP_PORT: '0',
    DPP_JSON_LOGS: 'false',
    ...more,
  };
  return {
    url,
    env,
    deletions: () => deletions,
    run: (...words) => runCli(words, { env }),
    listen: (others = {}) => {
      const listener = startCli(['listen'], { env: { ...env, ...others } });
      onTestFinished(() => listener[Symbol.asyncDispose]());
      return listener;
    },
    sql: (text) => sqlAt(url, text),
  };
}

/** Ten minutes of ticks, hints and leases that run out, by their dates. */
export async function playTenMinutes({ sql }: Pick<WatchedCopy, 'sql'>): Promise<void> {
  for (let minute = 0; minute < 10; minute += 1) {
    await sql(`
      update retention.heartbeat set ticked_at = ticked_at - interval '1 minute', passed_at = passed_at - interval '1 day';
      update retention.batch set visible_at = now() where settled_at is null and dead_at is null;
      select retention.tick('internal');
      select pg_notify('retention_expired', '{}')`);
  }
}

/** A copy deletes nothing in ten minutes, and says why and what to do wherever one looks. */
export async function expectToldAsCopy(copy: WatchedCopy, because: RegExp): Promise<void> {
  const listener = copy.listen();
  const line = await listener.waitForLine(/Nothing is (?:flagged|claimed).*/u, 30_000);
  expect(line).toMatch(because);
  const base = await addressOf(listener);
  await playTenMinutes(copy);

  const reconciled = await copy.run('reconcile');
  expect(reconciled).toMatchObject({ code: 1 });
  expect(reconciled.stderr).toMatch(because);

  const doctor = JSON.parse((await copy.run('doctor', '--json')).stdout) as {
    readonly checks: readonly Record<string, string>[];
  };
  const gate = doctor.checks.find(
    ({ name, found }) => name === 'gate' && because.test(found ?? ''),
  );
  expect(gate).toMatchObject({ state: 'failed' });
  expect(gate?.['remedy']).toContain('retention fence accept');
  const status = JSON.parse((await copy.run('status', '--json')).stdout) as {
    readonly halted: readonly string[];
  };
  expect(status.halted).toContain('copy');

  const ready = await fetch(new URL('readyz', base));
  expect(ready.status).toBe(503);
  expect(await ready.text()).toContain('retention fence accept');
  const page = await (await fetch(base)).text();
  expect(page).toContain('retention fence accept');
  expect(page).toContain('this may be a copy of another database');
  listener.kill();
  await listener.ended();
  expect(copy.deletions()).toBe(0);
}
