import { execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readdirSync } from 'node:fs';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { howToGet, missingPrograms } from '../stack/programs.ts';
import { cephConfig } from './ceph-config.ts';
import { guardCeph } from './ceph-guard.ts';
import type { S3Target } from './s3-target.ts';
import { until } from './until.ts';

/** A running one-node Ceph with its S3 gateway. */
export interface Ceph extends Required<S3Target> {
  /** Ends it and removes all that it kept. */
  stop(): Promise<void>;
}

const OWNER = {
  accessKeyId: 'TESTOWNERKEY00000001',
  secretAccessKey: 'test-owner-secret-000000000000000000001',
};
const OTHER = {
  accessKeyId: 'TESTOTHERKEY00000002',
  secretAccessKey: 'test-other-secret-000000000000000000002',
};

const STEP_LIMIT_MS = 60_000;
const run = promisify(execFile);

/**
 * Starts a Ceph of one monitor, one store in memory and one gateway, in a scratch folder and on
 * free loopback ports. It ends with this process, whatever ends that.
 *
 * @throws when a part is not installed; the message says which, and what to do.
 */
export async function startCeph(): Promise<Ceph> {
  const missing = missingPrograms('ceph');
  if (missing.length > 0) throw new Error(howToGet(missing));
  // Ceph's configuration knows no quoting, and its sockets no long paths.
  const folder = await mkdtemp('/tmp/retention-ceph-');
  const stop = guardCeph(folder);
  try {
    const endpoint = await new CephCluster(folder).up();
    return { endpoint, region: 'us-east-1', owner: OWNER, other: OTHER, stop };
  } catch (error) {
    const logs = await logTails(folder);
    await stop();
    throw new Error(`Ceph did not start: ${messageOf(error)}\n${logs}`, { cause: error });
  }
}

/** The parts of one cluster, each started when the one it needs is there. */
class CephCluster {
  readonly #folder: string;
  readonly #configFile: string;

  constructor(folder: string) {
    this.#folder = folder;
    this.#configFile = join(folder, 'ceph.conf');
  }

  /** Starts everything. @returns the gateway's address, once that answers. */
  async up(): Promise<string> {
    for (const name of ['run', 'log', 'mon', 'osd', 'rgw', 'crash']) {
      mkdirSync(join(this.#folder, name));
    }
    const [monitorPort, gatewayPort] = await freePorts();
    const clusterId = randomUUID();
    const osdId = randomUUID();
    const places = { folder: this.#folder, clusterId, osdId, monitorPort, gatewayPort };
    await writeFile(this.#configFile, cephConfig(places));
    await Promise.all([
      this.#makeMonitor(clusterId, monitorPort),
      this.#run('ceph-osd', '-i', '0', '--no-mon-config', '--mkfs', '--osd-uuid', osdId),
    ]);
    const monitor = await this.#launch('ceph-mon', '-i', 'a', '-f');
    await this.#run('ceph', 'osd', 'new', osdId);
    const osd = await this.#launch('ceph-osd', '-i', '0', '-f');
    await this.#makeUser('owner', OWNER);
    const gateway = await this.#launch('radosgw', '-n', 'client.rgw.x', '-f');
    await this.#makeUser('other', OTHER);
    const endpoint = `http://127.0.0.1:${gatewayPort}`;
    const ended = Promise.race([monitor, osd, gateway].map((part) => part.ended));
    await Promise.race([ended, until('its gateway answers', () => answers(endpoint), PATIENCE)]);
    return endpoint;
  }

  async #makeMonitor(clusterId: string, port: number): Promise<void> {
    const map = join(this.#folder, 'monmap');
    const address = `[v2:127.0.0.1:${port}/0]`;
    const create = ['--create', '--clobber', '--fsid', clusterId, '--addv', 'a', address, map];
    await run('monmaptool', create, { timeout: STEP_LIMIT_MS });
    await this.#run('ceph-mon', '-i', 'a', '--mkfs', '--monmap', map);
  }

  async #makeUser(name: string, keys: S3Target['owner']): Promise<void> {
    await this.#run(
      'radosgw-admin',
      'user',
      'create',
      `--uid=${name}`,
      `--display-name=${name}`,
      `--access-key=${keys.accessKeyId}`,
      `--secret-key=${keys.secretAccessKey}`,
      '--max-buckets=0',
    );
  }

  async #run(program: string, ...parameters: readonly string[]): Promise<void> {
    await run(program, ['-c', this.#configFile, ...parameters], { timeout: STEP_LIMIT_MS });
  }

  /** Starts a part that goes on running. Its `ended` only ever rejects. */
  async #launch(
    program: string,
    ...parameters: readonly string[]
  ): Promise<{ readonly ended: Promise<never> }> {
    const log = openSync(join(this.#folder, 'log', `${program}.out`), 'a');
    const child = spawn(program, ['-c', this.#configFile, ...parameters], {
      cwd: this.#folder,
      // Its own session: a Ctrl-C is for the tests, which then stop what they started.
      detached: true,
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    child.unref();
    const ended = new Promise<never>((_resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) =>
        reject(new Error(`${program} ended with ${code ?? signal}`)),
      );
    });
    ended.catch(() => undefined);
    // The guard knows what to end from these files.
    await writeFile(join(this.#folder, 'run', `${program}.pid`), String(child.pid ?? ''));
    return { ended };
  }
}

const PATIENCE = { limitMs: STEP_LIMIT_MS, pollMs: 50 };

async function answers(endpoint: string): Promise<boolean> {
  const response = await fetch(endpoint, { signal: AbortSignal.timeout(5_000) });
  await response.text();
  return response.ok;
}

/** Two free ports. Held at the same time, so that they differ. */
async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()];
  try {
    const [first, second] = await Promise.all(
      servers.map(
        (server) =>
          new Promise<number>((resolve, reject) => {
            server.once('error', reject).listen(0, '127.0.0.1', () => {
              const address = server.address();
              if (address !== null && typeof address === 'object') resolve(address.port);
            });
          }),
      ),
    );
    return [first as number, second as number];
  } finally {
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  }
}

async function logTails(folder: string): Promise<string> {
  const logs = readdirSync(join(folder, 'log'));
  const tails = logs.map(async (name) => {
    const text = await readFile(join(folder, 'log', name), 'utf8');
    return text.trim() === '' ? '' : `--- ${name}\n${text.trim().split('\n').slice(-5).join('\n')}`;
  });
  return (await Promise.all(tails)).filter((tail) => tail !== '').join('\n');
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
