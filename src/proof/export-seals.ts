import { createWriteStream, existsSync } from 'node:fs';
import { rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { UsageError, describeError } from '../errors.ts';
import type { Head } from '../store/seals.ts';
import type { Store } from '../store/store.ts';
import { refuseStopped, sealFirst } from './verify-seals.ts';

/** What is exported, and where to. */
export interface ExportSealsOptions {
  readonly store: Store;
  /** A folder that is there, or a file that is not. */
  readonly out: string;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (done: number, known: number) => void;
}

/** What was exported; keys as in JSON. */
export interface SealExport {
  readonly file: string;
  readonly seals: number;
  readonly receipts: number;
  readonly results: number;
  readonly changes: number;
  /** The latest seal; null: there is none. */
  readonly head: Head | null;
  /** Why what has settled since was not sealed first; null: it was. */
  readonly unsealed_because: string | null;
}

/** The file in a folder that was named. */
const FILE_NAME = 'proof.jsonl';

/** So many results are read at a time: about two megabytes. */
const PAGE_RESULTS = 10_000;

/**
 * Writes all seals with what they are digests of as JSON Lines. The file has its name when it is whole.
 *
 * @throws UsageError when the file is there already, or cannot be written.
 * @throws DatabaseError
 */
export async function exportSeals(options: ExportSealsOptions): Promise<SealExport> {
  const { store, signal, onProgress } = options;
  const file = await placeOf(options.out);
  const unsealed = await sealFirst(store, signal);
  const known = await store.sealsSince();
  const counts = { seals: 0, receipts: 0, results: 0, changes: 0 };
  const lines = async function* (): AsyncGenerator<string> {
    for (let after = 0; ;) {
      refuseStopped(signal);
      const page = await store.exportSeals(after, PAGE_RESULTS);
      for (const { sealId, document } of page) {
        after = sealId;
        if (document.kind === 'seal') counts.seals += 1;
        if (document.kind === 'change') counts.changes += 1;
        if (document.kind === 'receipt') counts.receipts += 1;
        counts.results += document.leaves?.length ?? 0;
        yield `${JSON.stringify(document)}\n`;
      }
      if (page.length === 0) return;
      onProgress?.(counts.results, known.results);
    }
  };
  const part = `${file}.part`;
  try {
    await pipeline(Readable.from(lines()), createWriteStream(part, { flags: 'wx' }));
    await rename(part, file);
  } catch (error) {
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (code !== 'EEXIST') await rm(part, { force: true });
    if (syscall === undefined) throw error;
    throw new UsageError(`the export cannot be written: ${describeError(error)}`, {
      cause: error,
      remedy:
        code === 'EEXIST'
          ? 'Another export is under way, or was cut: remove that file.'
          : 'Name another file with --out.',
    });
  }
  const [head] = await store.listHeads();
  return { file, ...counts, head: head ?? null, unsealed_because: unsealed };
}

async function placeOf(out: string): Promise<string> {
  const found = await stat(out).catch(() => undefined);
  const file = found?.isDirectory() === true ? join(out, FILE_NAME) : out;
  if (existsSync(file)) {
    throw new UsageError(`--out: expected a folder, or a file that is not there; given ${file}`, {
      remedy: 'An export is never written over: name another file.',
    });
  }
  return file;
}
