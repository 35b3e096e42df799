// Installs the node modules of the lock file when they are missing or not the ones it names.
// Plain JavaScript without dependencies: it runs before anything is installed.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const OLDEST_NODE = [20, 19];

/**
 * Why the installed modules do not fit the lock file, or undefined when they do. Looks at files
 * only, never at the network.
 */
export function whyNotInstalled(root) {
  const lock = readJson(`${root}/package-lock.json`);
  const installed = readJson(`${root}/node_modules/.package-lock.json`);
  if (lock === undefined) return 'package-lock.json is missing';
  if (installed === undefined) return 'node_modules is missing';
  const { '': lockedRoot, ...wanted } = lock.packages;
  const manifest = readJson(`${root}/package.json`);
  for (const kind of ['dependencies', 'devDependencies', 'optionalDependencies']) {
    if (asText(manifest[kind]) !== asText(lockedRoot[kind])) {
      return `package.json and package-lock.json disagree about ${kind}`;
    }
  }
  for (const [path, entry] of Object.entries(wanted)) {
    const found = installed.packages[path];
    // npm leaves out what is made for another platform.
    if (found === undefined && entry.optional) continue;
    const isThere =
      found?.version === entry.version &&
      found?.integrity === entry.integrity &&
      existsSync(`${root}/${path}`);
    if (!isThere) return `${path} is not at ${entry.version}`;
  }
  return undefined;
}

/** Installs when needed, telling it aloud. Ends the process when it cannot be done. */
export function ensureInstalled() {
  refuseOldNode();
  const reason = whyNotInstalled(ROOT);
  if (reason === undefined) {
    console.log('node modules: up to date with package-lock.json');
    return;
  }
  console.log(`node modules: ${reason}; running npm ci`);
  const { status, error } = runNpm(['ci', '--include=dev', '--no-audit', '--no-fund']);
  if (status === 0) return;
  console.error(`node modules: npm ci failed${error ? ` (${error.message})` : ''}`);
  process.exit(1);
}

/** Runs the npm that runs this, or else the one on the PATH, without any input. */
export function runNpm(parameters, env = process.env) {
  const npm = process.env.npm_execpath;
  const [program, all] = npm?.endsWith('.js')
    ? [process.execPath, [npm, ...parameters]]
    : ['npm', parameters];
  return spawnSync(program, all, { cwd: ROOT, env, stdio: ['ignore', 'inherit', 'inherit'] });
}

function refuseOldNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  const [oldestMajor, oldestMinor] = OLDEST_NODE;
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return;
  console.error(`Node ${OLDEST_NODE.join('.')} or newer is needed; this is ${process.version}.`);
  process.exit(1);
}

function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

function asText(dependencies = {}) {
  return JSON.stringify(Object.entries(dependencies).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) ensureInstalled();
