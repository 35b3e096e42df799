import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { RetentionError } from '../../src/errors.ts';
import { INSTALL_SCRIPT } from './install-script.ts';

const APT_GET = '/usr/bin/apt-get';
const TAIL_LINES = 15;

/** How packages may be installed here: as root, through sudo without a password, or not at all. */
export type InstallRight = 'root' | 'sudo' | 'none';

/** Whether this is Debian or one of its descendants. */
export function hasApt(): boolean {
  return existsSync(APT_GET);
}

/** How this process may install packages. */
export function installRight(): InstallRight {
  if (process.getuid?.() === 0) return 'root';
  return spawnSync('sudo', ['-n', 'true'], { stdio: 'ignore' }).status === 0 ? 'sudo' : 'none';
}

/** The major version of PostgreSQL that this distribution ships, where it is known. */
export function distributionMajor(): number | undefined {
  const dependencies = aptCache(['depends', 'postgresql']);
  const major = Number(/Depends: postgresql-(\d+)/.exec(dependencies)?.[1]);
  return Number.isInteger(major) ? major : undefined;
}

/** Whether the package lists of this machine offer a package. */
export function isOffered(packageName: string): boolean {
  return /Candidate: (?!\(none\))\S/.test(aptCache(['policy', packageName]));
}

function aptCache(parameters: readonly string[]): string {
  try {
    return execFileSync('apt-cache', parameters, {
      encoding: 'utf8',
      env: { ...process.env, LC_ALL: 'C' },
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  } catch {
    return '';
  }
}

/** The command that a person would type to install packages. */
export function installCommand(packages: readonly string[]): string {
  return `sudo apt-get update && sudo apt-get install --no-install-recommends -y ${packages.join(' ')}`;
}

/** Refreshes the package lists, after saying so. */
export async function refreshLists(
  right: 'root' | 'sudo',
  say: (line: string) => void,
): Promise<void> {
  say('Refreshing the package lists (apt-get update)...');
  await runInstallScript(right, []);
}

/**
 * Installs packages of the distribution in one transaction, after saying so. Waits while another
 * program holds the package database, refreshes the package lists when they are out of date, and lets
 * no package make a database cluster or start a service.
 *
 * @throws when apt-get fails; the message carries the command to run and the tail of its output.
 */
export async function installPackages(
  packages: readonly string[],
  right: 'root' | 'sudo',
  say: (line: string) => void,
): Promise<void> {
  const how = right === 'root' ? 'apt-get' : 'sudo apt-get';
  say(
    `Installing ${packages.join(', ')} from ${distributionName()} with ${how}; no service of theirs is started...`,
  );
  const startedAt = Date.now();
  await runInstallScript(right, packages);
  say(`Installed in ${Math.round((Date.now() - startedAt) / 1000)} s.`);
}

async function runInstallScript(
  right: 'root' | 'sudo',
  packages: readonly string[],
): Promise<void> {
  const script = ['/bin/sh', '-c', INSTALL_SCRIPT, 'retention-install', ...packages];
  const [program, parameters] =
    right === 'root' ? ['/bin/sh', script.slice(1)] : ['sudo', ['-n', ...script]];
  const child = spawn(program, parameters, {
    cwd: '/',
    // Its own session: a Ctrl-C in the middle of dpkg would leave half-configured packages.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const keep = (chunk: Buffer): void => {
    output += chunk.toString();
  };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  const [status] = (await once(child, 'close')) as [number | null];
  if (status === 0) return;
  const command = packages.length > 0 ? installCommand(packages) : 'sudo apt-get update';
  const tail = output.trim().split('\n').slice(-TAIL_LINES).join('\n');
  throw new RetentionError(
    `apt-get failed. Run it by hand to see why:\n  ${command}\nIt said:\n${tail}`,
  );
}

function distributionName(): string {
  try {
    const release = readFileSync('/etc/os-release', 'utf8');
    return /^PRETTY_NAME="?([^"\n]+)/m.exec(release)?.[1] ?? 'the distribution';
  } catch {
    return 'the distribution';
  }
}
