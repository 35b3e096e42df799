import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** How a program ended. */
export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The package, as it would be published, installed into an otherwise empty project. */
export interface InstalledPackage {
  readonly tarball: string;
  /** Every file in it, without the leading folder. */
  readonly files: readonly string[];
  /** Bytes of the tarball. */
  readonly size: number;
  /** The project's folder. */
  readonly project: string;
  /** Where npm has put the package. */
  readonly folder: string;
  readonly remove: () => void;
}

interface PackReport {
  readonly filename: string;
  readonly size: number;
  readonly files: readonly { readonly path: string }[];
}

/** Packs what has been built and installs it. npm's cache is asked first, the registry second. */
export async function installPackage(): Promise<InstalledPackage> {
  const scratch = mkdtempSync(join(tmpdir(), 'retention-package-'));
  const remove = (): void => rmSync(scratch, { recursive: true, force: true });
  try {
    const packed = await npm(ROOT, [
      'pack',
      '--json',
      '--ignore-scripts',
      '--pack-destination',
      scratch,
    ]);
    const [report] = JSON.parse(packed.stdout) as readonly PackReport[];
    if (report === undefined) throw new Error('npm pack reported no package');
    const tarball = join(scratch, report.filename);
    const project = join(scratch, 'project');
    mkdirSync(project);
    writeFileSync(join(project, 'package.json'), '{ "private": true, "type": "module" }\n');
    await npm(project, ['install', ...QUIETLY, tarball]);
    return {
      tarball,
      files: report.files.map(({ path }) => path),
      size: report.size,
      project,
      folder: join(project, 'node_modules/retention-reactor'),
      remove,
    };
  } catch (error) {
    remove();
    throw error;
  }
}

/**
 * Installs another version of Node from npm, into a folder of its own.
 *
 * @returns the path of its program, or why there is none.
 */
export async function installNode(
  version: string,
  folder: string,
): Promise<{ readonly node: string } | { readonly reason: string }> {
  const name = `node-${process.platform}-${process.arch}`;
  mkdirSync(folder);
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
  const node = join(folder, 'node_modules', name, 'bin/node');
  try {
    await npm(folder, ['install', ...QUIETLY, `${name}@${version}`]);
    const { stdout } = await run(node, ['--version'], folder);
    if (stdout.trim() === `v${version}`) return { node };
    return { reason: `${name}@${version} turned out to be ${stdout.trim()}` };
  } catch (error) {
    if (process.env['CI'] === 'true') throw error;
    return { reason: `Node ${version} cannot be had from npm: ${String(error).slice(0, 200)}` };
  }
}

/** Runs a program to its end, without any of the variables that the product or npm's scripts set. */
export function run(
  program: string,
  parameters: readonly string[],
  folder: string,
  variables: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  const options = {
    cwd: folder,
    env: { ...bareEnvironment(), ...variables },
    timeout: 120_000,
    maxBuffer: 16 * 1024 * 1024,
  };
  return new Promise((resolve, reject) => {
    execFile(program, [...parameters], options, (error, stdout, stderr) => {
      const code = error === null ? 0 : error.code;
      if (typeof code === 'number') resolve({ code, stdout, stderr });
      else reject(new Error(`${program} did not end by itself: ${stderr}`, { cause: error }));
    }).stdin?.end();
  });
}

const QUIETLY = ['--prefer-offline', '--ignore-scripts', '--no-audit', '--no-fund'];

async function npm(folder: string, parameters: readonly string[]): Promise<Ended> {
  const ended = await run('npm', parameters, folder);
  if (ended.code === 0) return ended;
  throw new Error(`npm ${parameters[0]} failed with ${ended.code}: ${ended.stderr}`);
}

const NOT_HANDED_ON =
  /^(?:DATABASE_|CRON_DATABASE_|DPP_|RETENTION_|S3_|AWS_|PG|VITEST|NODE_OPTIONS$|NODE_ENV$|npm_(?:package|lifecycle|command|config_local_prefix))/u;

function bareEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !NOT_HANDED_ON.test(name)),
  );
}
