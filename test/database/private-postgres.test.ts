import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { type PrivatePostgres, startPrivatePostgres } from '../stack/private-postgres.ts';
import { useBuiltStack } from '../support/built-stack.ts';
import { describeDatabase, runningPostgres } from '../support/database.ts';
import { until } from '../support/until.ts';

let server: PrivatePostgres | undefined;

afterEach(async () => {
  await server?.stop();
  server = undefined;
});

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });
}

// A dead process whose parent has not taken note of it yet still answers to signals.
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

describeDatabase('a private PostgreSQL', () => {
  const stack = useBuiltStack();

  test('starts with pg_cron beside another server, and stops leaving nothing', async () => {
    server = await startPrivatePostgres({ databaseName: 'app', cron: true });
    const { port, pid, folder } = server;
    expect(port).not.toBe(runningPostgres().port);
    await server.sql('create extension pg_cron');
    expect(await server.sql(`select current_database(), current_setting('fsync')`)).toBe('app|off');

    await server.stop();
    await server.stop();
    expect(await accepts(port)).toBe(false);
    expect(isAlive(pid as number)).toBe(false);
    expect(existsSync(folder)).toBe(false);
  });

  test('listens on this machine only, and on a socket in its own folder', async () => {
    server = await startPrivatePostgres();
    expect(await server.sql('show listen_addresses')).toBe('127.0.0.1');
    expect(existsSync(join(server.socketFolder, `.s.PGSQL.${server.port}`))).toBe(true);
  });

  test('keeps its rows, its port and its address over a restart and a crash', async () => {
    server = await startPrivatePostgres({ databaseName: 'app' });
    const address = server.url();
    await server.sql('create table kept as select 1 as one');
    const firstPid = server.pid;
    await server.restart();
    await server.restart('immediate');
    expect(server.pid).not.toBe(firstPid);
    expect(server.url()).toBe(address);
    expect(await server.sql('select one from kept')).toBe('1');
  });

  test('puts pg_cron into another database when asked to', async () => {
    server = await startPrivatePostgres({ databaseName: 'app', cron: { databaseName: 'jobs' } });
    await server.sql('create extension pg_cron', 'jobs');
    await expect(server.sql('create extension pg_cron')).rejects.toThrow(
      /can only create extension/,
    );
  });

  test('shows the end of its log when it does not start, and leaves nothing', async () => {
    const parent = mkdtempSync('/tmp/retention-test-');
    chmodSync(parent, 0o755);
    const folder = join(parent, 'postgres');
    const starting = startPrivatePostgres({ folder, settings: { shared_buffers: 'nonsense' } });
    await expect(starting).rejects.toThrow(/ended while starting[^]*shared_buffers/);
    expect(existsSync(folder)).toBe(false);
    rmSync(parent, { recursive: true });
  });

  test.runIf(process.getuid?.() === 0)('refuses a folder closed to its user', async () => {
    const closed = mkdtempSync('/tmp/retention-test-');
    const starting = startPrivatePostgres({ folder: join(closed, 'postgres') });
    await expect(starting).rejects.toThrow(/must be able to reach it/);
    expect(readdirSync(closed)).toEqual([]);
    rmSync(closed, { recursive: true });
  });

  test('refuses a folder that holds something', async () => {
    await expect(startPrivatePostgres({ folder: tmpdir() })).rejects.toThrow(/not empty/);
  });

  test.each(['SIGINT', 'SIGKILL', 'uncaught error'] as const)(
    'is gone after its program ended by %s',
    async (end) => {
      const owner = await startOwner(stack('private-postgres.js'), end === 'uncaught error');
      if (end !== 'uncaught error') owner.child.kill(end);
      await owner.ended;
      await until('the server ended', () => !isAlive(owner.pid));
      await until('its folder is removed', () => !existsSync(owner.folder));
    },
  );
});

interface Owner {
  readonly child: ReturnType<typeof spawn>;
  readonly ended: Promise<unknown>;
  readonly pid: number;
  readonly folder: string;
}

// A program that starts a server and never stops it.
async function startOwner(module: string, throws: boolean): Promise<Owner> {
  const program = `
    const { startPrivatePostgres } = await import(${JSON.stringify(pathToFileURL(module).href)});
    const { pid, folder } = await startPrivatePostgres();
    console.log(JSON.stringify({ pid, folder }));
    if (${throws}) setTimeout(() => { throw new Error('meant to happen'); });
    setInterval(() => undefined, 1000);
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const ended = once(child, 'exit');
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  return { child, ended, ...(JSON.parse(line.toString()) as { pid: number; folder: string }) };
}
