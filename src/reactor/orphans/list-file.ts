import { type Hash, createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname, resolve } from 'node:path';
import { UsageError, describeError } from '../../errors.ts';
import { readLines, readObject } from './lines.ts';

/** What a list of orphans is of. */
export interface OrphanListHead {
  readonly listId: string;
  readonly bucket: string;
  readonly prefix: string;
  readonly marginSeconds: number;
}

/** One object of a list. */
export interface ListedOrphan {
  readonly key: string;
  readonly bytes: number;
  readonly modifiedAt: Date;
  /** The version that was listed. Undefined: the store did not tell it. */
  readonly etag?: string | undefined;
}

/** What a whole list says of itself. */
export interface OrphanListSummary extends OrphanListHead {
  readonly orphans: number;
  readonly bytes: number;
  /** SHA-256 of all lines before the last one, in hexadecimal. */
  readonly digest: string;
}

/** How many objects are checked and deleted together. */
const ORPHANS_PER_PAGE = 1_000;

const VERSION = 1;

/** Writes a list of orphans: nothing of it is to be seen under its name before it is complete. */
export class OrphanListWriter {
  readonly #path: string;
  readonly #unfinished: string;
  readonly #file: number;
  readonly #hash: Hash = createHash('sha256');
  orphans = 0;
  bytes = 0;

  /** @throws UsageError when the file is there already, or cannot be written. */
  constructor(path: string, head: OrphanListHead) {
    this.#path = path;
    this.#unfinished = `${path}.unfinished-${process.pid}`;
    if (existsSync(path)) throw alreadyThere(path);
    try {
      this.#file = openSync(this.#unfinished, 'wx', 0o600);
    } catch (error) {
      throw cannotWrite(path, error);
    }
    const { listId, bucket, prefix, marginSeconds } = head;
    this.#write({
      orphan_list: VERSION,
      list_id: listId,
      bucket,
      prefix,
      margin_seconds: marginSeconds,
    });
  }

  add(orphans: readonly ListedOrphan[]): void {
    for (const { key, bytes, modifiedAt, etag } of orphans) {
      this.#write({ key, bytes, modified_at: modifiedAt, etag });
      this.orphans += 1;
      this.bytes += bytes;
    }
  }

  /**
   * Writes the last line, and gives the list its name.
   *
   * @param note told of the digest before the list is there; what it returns is written into the last line.
   * @throws UsageError when another file has taken the name meanwhile.
   */
  async end<Told extends { readonly listed: number; readonly madeAt: Date }>(
    note: (digest: string) => Promise<Told>,
  ): Promise<Told> {
    const digest = this.#hash.digest('hex');
    const told = await note(digest);
    const { listed, madeAt } = told;
    const last = { end: true, listed, orphans: this.orphans, bytes: this.bytes, made_at: madeAt };
    writeSync(this.#file, `${JSON.stringify({ ...last, sha256: digest })}\n`);
    fsyncSync(this.#file);
    try {
      // Unlike a rename, it replaces nothing.
      linkSync(this.#unfinished, this.#path);
    } catch (error) {
      throw existsSync(this.#path) ? alreadyThere(this.#path) : cannotWrite(this.#path, error);
    }
    const folder = openSync(dirname(resolve(this.#path)), 'r');
    fsyncSync(folder);
    closeSync(folder);
    return told;
  }

  /** Removes what is unfinished; after `end` the list stays. */
  [Symbol.dispose](): void {
    closeSync(this.#file);
    unlinkSync(this.#unfinished);
  }

  #write(line: object): void {
    const text = `${JSON.stringify(line)}\n`;
    this.#hash.update(text);
    writeSync(this.#file, text);
  }
}

/** A list that was read to its end, and is as it was made. */
export class OrphanListReader {
  readonly #path: string;
  readonly #file: number;
  readonly summary: OrphanListSummary;

  /** @throws UsageError for a file that is no list, is not complete, or was changed. */
  constructor(path: string) {
    this.#path = path;
    try {
      // A FIFO would keep it waiting when it is opened.
      if (!statSync(path).isFile()) throw notAList(path, 'it is no regular file');
      this.#file = openSync(path, 'r');
    } catch (error) {
      if (error instanceof UsageError) throw error;
      throw new UsageError(`--list: cannot read ${path}: ${describeError(error)}`, {
        remedy: 'Make a list with: retention orphans --list FILE',
        cause: error,
      });
    }
    try {
      if (!fstatSync(this.#file).isFile()) throw notAList(path, 'it is no regular file');
      this.summary = this.#check();
    } catch (error) {
      closeSync(this.#file);
      throw error;
    }
  }

  /** The objects of the list, {@link ORPHANS_PER_PAGE} at a time, in its order. */
  *pages(): Generator<readonly ListedOrphan[]> {
    let page: ListedOrphan[] = [];
    let isFirst = true;
    for (const line of readLines(this.#file)) {
      const entry = isFirst ? undefined : readEntry(line);
      isFirst = false;
      if (entry === undefined) continue;
      page.push(entry);
      if (page.length < ORPHANS_PER_PAGE) continue;
      yield page;
      page = [];
    }
    if (page.length > 0) yield page;
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }

  #check(): OrphanListSummary {
    const hash = createHash('sha256');
    let head: OrphanListHead | undefined;
    let last: Record<string, unknown> | undefined;
    let orphans = 0;
    let bytes = 0;
    for (const line of readLines(this.#file)) {
      if (last !== undefined) throw this.#changed();
      if (head === undefined) {
        head = this.#readHead(line);
      } else {
        const entry = readEntry(line);
        if (entry === undefined) {
          last = readObject(line);
          if (last?.['end'] !== true) throw this.#changed();
          continue;
        }
        orphans += 1;
        bytes += entry.bytes;
      }
      hash.update(line);
      hash.update('\n');
    }
    if (head === undefined) throw notAList(this.#path, 'it is empty');
    if (last === undefined) {
      throw new UsageError(`${this.#path} is not complete: its last line is missing`, {
        remedy: 'Make the list again, into a new file.',
      });
    }
    const digest = hash.digest('hex');
    if (last['sha256'] !== digest || last['orphans'] !== orphans) throw this.#changed();
    return { ...head, orphans, bytes, digest };
  }

  #readHead(line: Buffer): OrphanListHead {
    const said = readObject(line) ?? {};
    const version = said['orphan_list'];
    if (version === undefined) throw notAList(this.#path, 'its first line is none of a list');
    const { list_id: listId, bucket, prefix, margin_seconds: marginSeconds } = said;
    const isReadable =
      version === VERSION &&
      typeof listId === 'string' &&
      /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/u.test(listId) &&
      typeof bucket === 'string' &&
      typeof prefix === 'string' &&
      typeof marginSeconds === 'number';
    if (!isReadable) throw notAList(this.#path, `its first line is not of version ${VERSION}`);
    return { listId, bucket, prefix, marginSeconds };
  }

  #changed(): UsageError {
    return new UsageError(`${this.#path} is not as it was made; nothing was deleted`, {
      remedy:
        'Exactly the list that was made is deleted. To leave keys out, place a hold, or make a list with a narrower --prefix.',
    });
  }
}

/** Undefined: the line names no object. */
function readEntry(line: Buffer): ListedOrphan | undefined {
  const { key, bytes, modified_at: modified, etag: told } = readObject(line) ?? {};
  const etag = typeof told === 'string' && told !== '' ? told : undefined;
  const modifiedAt = new Date(typeof modified === 'string' ? modified : Number.NaN);
  if (typeof key !== 'string' || key === '' || typeof bytes !== 'number') return undefined;
  return Number.isNaN(modifiedAt.getTime()) ? undefined : { key, bytes, modifiedAt, etag };
}

function notAList(path: string, because: string): UsageError {
  return new UsageError(`--list: expected a list of orphans; given ${path}: ${because}`, {
    remedy: 'Make one with: retention orphans --list FILE',
  });
}

function alreadyThere(path: string): UsageError {
  return new UsageError(`--list: ${path} is there already; it was not changed`, {
    remedy: 'Name a new file. To delete what this list names, add --delete.',
  });
}

function cannotWrite(path: string, error: unknown): UsageError {
  return new UsageError(`--list: cannot write ${path}: ${describeError(error)}`, {
    remedy: 'Name a file in a folder that you may write to.',
    cause: error,
  });
}
