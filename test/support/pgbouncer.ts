import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findFreePort } from '../stack/free-port.ts';
import { until } from './until.ts';

const HOST = '127.0.0.1';
const NOBODY = 65_534;

/** A transaction pooler in front of a server of this machine. */
export interface PgBouncer {
  readonly port: number;
  /** The address of a database, by way of the pooler. */
  through(url: string): string;
  stop(): Promise<void>;
}

/**
 * Starts a PgBouncer in transaction mode that lets everyone in, with its other defaults.
 *
 * @param role whom everyone becomes.
 */
export async function startPgBouncer(
  path: string,
  serverPort: number,
  role = 'postgres',
): Promise<PgBouncer> {
  const port = await findFreePort(HOST);
  const folder = mkdtempSync(join(tmpdir(), 'retention-pgbouncer-'));
  const file = join(folder, 'pgbouncer.ini');
  writeFileSync(file, configuration(port, serverPort, role));
  chmodSync(folder, 0o755);
  // PgBouncer refuses to run as root.
  const user = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
  const child = spawn(path, ['-q', file], { ...user, cwd: '/', stdio: 'ignore' });
  const exited = once(child, 'exit');
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await until('pgbouncer answers', () => accepts(port));
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    port,
    through: (url) => {
      const address = new URL(url);
      address.port = String(port);
      return address.href;
    },
    stop,
  };
}

function configuration(port: number, serverPort: number, role: string): string {
  return [
    '[databases]',
    `* = host=${HOST} port=${serverPort} user=${role}`,
    '[pgbouncer]',
    `listen_addr = ${HOST}`,
    `listen_port = ${port}`,
    'unix_socket_dir =',
    'auth_type = any',
    'pool_mode = transaction',
    '',
  ].join('\n');
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, HOST);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
