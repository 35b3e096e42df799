import { execFileSync, spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, rmdirSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const BALLAST_PART = Buffer.alloc(1 << 20, 1);
const SMALLEST_PART = 4_096;

/** A small file system of its own, to be filled to the brim. */
export interface SmallDisk {
  readonly folder: string;
  /** Takes every byte that is left. */
  readonly fill: () => void;
  /** Gives them back. */
  readonly free: () => void;
  /** Unmounts it, whoever still uses it. */
  readonly remove: () => void;
}

const asRoot = process.getuid?.() === 0 ? [] : ['sudo', '-n'];

function root(...words: readonly string[]): void {
  const [program = '', ...parameters] = [...asRoot, ...words];
  execFileSync(program, parameters, { stdio: 'pipe' });
}

/**
 * Whether a file system can be mounted here; where not, stderr says what is skipped. Not a failure of
 * CI: other tests hold the same with what Postgres says on a full disk.
 */
export function canHaveSmallDisk(): boolean {
  try {
    makeSmallDisk(1).remove();
    return true;
  } catch (error) {
    const said = (error as { stderr?: Buffer }).stderr?.toString().trim();
    process.stderr.write(
      `Tests on a disk that is really full are skipped: none can be mounted (${said ?? String(error)}).\n`,
    );
    return false;
  }
}

/**
 * Mounts a file system of so many megabytes, in memory.
 *
 * @throws when that is not allowed.
 */
export function makeSmallDisk(megabytes: number): SmallDisk {
  const folder = mkdtempSync(join(tmpdir(), 'retention-disk-'));
  try {
    const owner = `mode=0755,uid=${process.getuid?.() ?? 0},gid=${process.getgid?.() ?? 0}`;
    root('mount', '-t', 'tmpfs', '-o', `size=${megabytes}m,${owner}`, 'retention-disk', folder);
  } catch (error) {
    rmdirSync(folder);
    throw error;
  }
  const callOff = unmountWithUs(folder);
  const ballast = join(folder, 'ballast');
  return {
    folder,
    fill: () => {
      const file = openSync(ballast, 'a');
      for (let size = BALLAST_PART.length; size >= SMALLEST_PART; size /= 2) {
        while (isWritten(file, BALLAST_PART.subarray(0, size)));
      }
      closeSync(file);
    },
    free: () => rmSync(ballast, { force: true }),
    remove: () => {
      root('umount', '--lazy', folder);
      rmdirSync(folder);
      callOff();
    },
  };
}

/** False: there is no room for it. */
function isWritten(file: number, part: Uint8Array): boolean {
  try {
    return writeSync(file, part) === part.length;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') return false;
    throw error;
  }
}

/** A mount outlives its process; this takes it away when ours ends without having done so. */
function unmountWithUs(folder: string): () => void {
  const script = 'read -r word && exit 0; "$@"; rmdir "$0"';
  const words = ['-c', script, folder, ...asRoot, 'umount', '--lazy', folder];
  const guard = spawn('/bin/sh', words, {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  guard.on('error', () => undefined);
  guard.stdin.on('error', () => undefined);
  guard.unref();
  (guard.stdin as unknown as { unref(): void }).unref();
  return () => void guard.stdin.end('done\n');
}
