import { type Hash, createHash } from 'node:crypto';
import { once } from 'node:events';
import { type WriteStream, createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { finished } from 'node:stream/promises';
import { RetentionError, UsageError, codeOf } from '../errors.ts';

/** A file that is written piece by piece. */
export interface HashedFile {
  write(piece: string | Uint8Array): Promise<void>;
}

/** A folder that comes to be as a whole, or not at all. */
export interface CertificateFolder {
  /** Opens a file for as long as `work` takes, and keeps the SHA-256 of what was written. */
  withFile(name: string, work: (file: HashedFile) => Promise<void>): Promise<void>;
  /** SHA-256 of each file that was written, in hexadecimal. */
  digests(): Readonly<Record<string, string>>;
  /** Gives the folder its name. Nothing is written to it after. */
  finish(): Promise<void>;
}

/**
 * Makes a folder for as long as `work` takes. It is written under another name beside, and gets its own when
 * `work` finishes it; when `work` throws, nothing of it is left.
 *
 * @throws UsageError when there is something of that name that is no empty folder, or no folder to put it in.
 */
export async function withFolder<Result>(
  path: string,
  work: (folder: CertificateFolder) => Promise<Result>,
): Promise<Result> {
  const target = resolve(path);
  await refuseWhatIsThere(target);
  const parent = dirname(target);
  const folder = await makeBeside(parent, basename(target));
  const digests: Record<string, string> = {};
  try {
    return await work({
      withFile: async (name, write) => {
        digests[name] = await writeHashed(join(folder, name), write);
      },
      digests: () => digests,
      finish: async () => {
        await syncFolder(folder);
        // Onto an empty folder, as one act; onto one that was filled meanwhile it fails.
        await rename(folder, target).catch((error: unknown) => {
          throw new UsageError(`--out: ${target} was filled meanwhile`, {
            cause: error,
            remedy: 'Name another folder: nothing is overwritten.',
          });
        });
        await syncFolder(parent);
      },
    });
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    const code = codeOf(error);
    if (error instanceof Error && 'syscall' in error && code !== undefined) {
      throw new RetentionError(`${target} could not be written (${code}); nothing of it is left`, {
        cause: error,
        remedy: 'See whether the disk is full, then give the same command again.',
      });
    }
    throw error;
  }
}

async function refuseWhatIsThere(target: string): Promise<void> {
  const names = await readdir(target).catch((error: unknown) => {
    const code = codeOf(error);
    if (code === 'ENOENT') return [];
    throw new UsageError(
      `--out: expected a folder that is new or empty; given ${target} (${code ?? 'unreadable'})`,
      { cause: error, remedy: 'Name another one. Nothing was written.' },
    );
  });
  if (names.length === 0) return;
  throw new UsageError(
    `--out: expected a folder that is new or empty; given ${target}, which is not empty`,
    { remedy: 'Name another one: nothing is overwritten. Nothing was written.' },
  );
}

async function makeBeside(parent: string, name: string): Promise<string> {
  try {
    await mkdir(parent, { recursive: true });
    return await mkdtemp(join(parent, `.${name}.part-`));
  } catch (error) {
    throw new UsageError(
      `--out: expected a folder that can be written to; given ${join(parent, name)} (${codeOf(error) ?? 'unwritable'})`,
      { cause: error, remedy: 'Name a folder that this user may write to. Nothing was written.' },
    );
  }
}

async function writeHashed(
  path: string,
  write: (file: HashedFile) => Promise<void>,
): Promise<string> {
  const hash = createHash('sha256');
  // A certificate tells what a customer had: it is for those whom its owner hands it to.
  const stream = createWriteStream(path, { flags: 'wx', mode: 0o600, flush: true });
  // Reported by the next piece, or at the end.
  stream.on('error', () => undefined);
  try {
    await write({ write: (piece) => writeTo(stream, hash, piece) });
    stream.end();
    await finished(stream);
  } catch (error) {
    stream.destroy();
    throw error;
  }
  return hash.digest('hex');
}

async function writeTo(stream: WriteStream, hash: Hash, piece: string | Uint8Array): Promise<void> {
  if (stream.errored !== null) throw stream.errored;
  hash.update(piece);
  if (!stream.write(piece)) await once(stream, 'drain');
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
