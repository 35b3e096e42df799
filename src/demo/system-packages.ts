import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { RetentionError } from '../errors.ts';
import { choosePostgresServer, findPostgresServers, type PostgresServer } from './find-postgres.ts';
import { INSTALL_SCRIPT } from './install-script.ts';

const APT_GET = '/usr/bin/apt-get';
const TAIL_LINES = 15;

/** How packages may be installed here: as root, through sudo without a password, or not at all. */
export type InstallRight = 'root' | 'sudo' | 'none';

/** What is known of this machine before deciding what to do. */
export interface PackageFacts {
  /** The servers that are installed, newest first. */
  readonly servers: readonly PostgresServer[];
  /** Whether pg_cron is needed. */
  readonly cron: boolean;
  /** Whether this is Debian or one of its descendants. */
  readonly hasApt: boolean;
  readonly right: InstallRight;
  /** The major version that this distribution ships, where it is known. */
  readonly distributionMajor: number | undefined;
  /** Whether the distribution offers a package. */
  readonly isOffered: (packageName: string) => boolean;
}

/** What to do about a PostgreSQL server. */
export type PackagePlan =
  | { readonly kind: 'use'; readonly server: PostgresServer }
  | { readonly kind: 'install'; readonly packages: readonly string[] }
  | { readonly kind: 'refuse'; readonly message: string };

/**
 * Decides how to get a PostgreSQL server: use one that is there, add pg_cron to one that is there,
 * or install the distribution's own. Asks nothing and changes nothing.
 */
export function planPostgres(facts: PackageFacts): PackagePlan {
  const server = choosePostgresServer(facts.servers, facts.cron);
  if (server !== undefined) return { kind: 'use', server };
  const wanted = facts.cron ? 'a PostgreSQL server with pg_cron' : 'a PostgreSQL server';
  if (!facts.hasApt) {
    return {
      kind: 'refuse',
      message:
        `This needs ${wanted}, and there is none on this machine. It can be installed by itself ` +
        'only on Debian and Ubuntu: install it by hand and put the folder of its initdb on the PATH.',
    };
  }
  const packages = neededPackages(facts);
  if (packages === undefined) {
    return {
      kind: 'refuse',
      message:
        `This needs ${wanted}, and the package sources of this machine offer none. Add the ` +
        'distribution\'s main repository, or apt.postgresql.org, and run "sudo apt-get update".',
    };
  }
  if (facts.right === 'none') {
    return {
      kind: 'refuse',
      message:
        `This needs ${wanted}, which is not installed, and only root, or sudo without a password, ` +
        `may install it. Run this once:\n  ${installCommand(packages)}`,
    };
  }
  return { kind: 'install', packages };
}

// A server that is there and lacks only pg_cron is completed rather than joined by another.
function neededPackages(facts: PackageFacts): string[] | undefined {
  const installed = facts.servers.map(({ major }) => major);
  const majors = [
    ...installed,
    ...(facts.distributionMajor === undefined ? [] : [facts.distributionMajor]),
  ];
  for (const major of majors) {
    const packages = [
      ...(installed.includes(major) ? [] : [`postgresql-${major}`]),
      ...(facts.cron ? [`postgresql-${major}-cron`] : []),
    ];
    if (packages.every(facts.isOffered)) return packages;
  }
  return undefined;
}

/** The command that a person would type to install packages. */
export function installCommand(packages: readonly string[]): string {
  return `sudo apt-get update && sudo apt-get install --no-install-recommends -y ${packages.join(' ')}`;
}

/**
 * Finds a PostgreSQL server, and installs the distribution's when there is none and this process
 * may. No system cluster is made or started by that.
 *
 * @param options.cron whether pg_cron is needed too.
 * @param options.say hears what is about to be installed, before it happens.
 * @throws when there is none and it cannot be installed; the message says what to run.
 */
export async function ensurePostgres(options: {
  readonly cron: boolean;
  readonly say: (line: string) => void;
}): Promise<PostgresServer> {
  const found = choosePostgresServer(findPostgresServers(), options.cron);
  if (found !== undefined) return found;
  const plan = await planAfterRefresh(options);
  if (plan.kind === 'refuse') throw new RetentionError(plan.message);
  if (plan.kind === 'use') return plan.server;

  await installPackages(plan.packages, options.say);
  const server = choosePostgresServer(findPostgresServers(), options.cron);
  if (server === undefined) {
    throw new RetentionError(
      `${plan.packages.join(' and ')} went in without an error, yet there is still no usable ` +
        'PostgreSQL server. Look at: dpkg -L ' +
        plan.packages[0],
    );
  }
  return server;
}

// A machine fresh from an image has empty package lists, so at first it seems to offer nothing.
async function planAfterRefresh(options: {
  readonly cron: boolean;
  readonly say: (line: string) => void;
}): Promise<PackagePlan> {
  const facts = gatherFacts(options.cron);
  const plan = planPostgres(facts);
  if (plan.kind !== 'refuse' || !facts.hasApt || facts.right === 'none') return plan;
  options.say('Refreshing the package lists (apt-get update)...');
  await runInstallScript(facts.right, []);
  return planPostgres(gatherFacts(options.cron));
}

function gatherFacts(cron: boolean): PackageFacts {
  return {
    servers: findPostgresServers(),
    cron,
    hasApt: existsSync(APT_GET),
    right: installRight(),
    distributionMajor: distributionMajor(),
    isOffered,
  };
}

/** How this process may install packages. */
export function installRight(): InstallRight {
  if (process.getuid?.() === 0) return 'root';
  return spawnSync('sudo', ['-n', 'true'], { stdio: 'ignore' }).status === 0 ? 'sudo' : 'none';
}

function distributionMajor(): number | undefined {
  const dependencies = aptCache(['depends', 'postgresql']);
  const major = Number(/Depends: postgresql-(\d+)/.exec(dependencies)?.[1]);
  return Number.isInteger(major) ? major : undefined;
}

function isOffered(packageName: string): boolean {
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

/**
 * Installs packages of the distribution, after saying so. Waits while another program holds the
 * package database, refreshes the package lists when they are out of date, and lets no package
 * make a database cluster or start a service.
 *
 * @throws when this process may not install, or apt-get fails; the message carries the command to
 *   run and the tail of apt-get's output.
 */
export async function installPackages(
  packages: readonly string[],
  say: (line: string) => void,
): Promise<void> {
  const right = installRight();
  if (right === 'none') {
    throw new RetentionError(
      `Only root, or sudo without a password, may install ${packages.join(' and ')}. Run this ` +
        `once:\n  ${installCommand(packages)}`,
    );
  }
  const how = right === 'root' ? 'apt-get' : 'sudo apt-get';
  say(
    `Installing ${packages.join(' and ')} from ${distributionName()} with ${how}; no service of theirs is started...`,
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
