import { closeSync, existsSync, fsyncSync, openSync, readSync, statSync, writeSync } from 'node:fs';
import { UsageError, describeError } from '../../errors.ts';
import { readLines, readObject } from './lines.ts';

/** What became of a page of a list. */
export interface PageOutcome {
  readonly deleted: number;
  readonly bytes: number;
  /** Keys that were left, counted by reason. */
  readonly spared: Readonly<Record<string, number>>;
  /** Keys that S3 refused: they are asked for again when the deletion goes on. */
  readonly failed: readonly { readonly key: string; readonly code: string }[];
}

/** What is known of a page. */
interface KnownPage {
  /** The keys that S3 was asked for since the last outcome. */
  readonly asked: Set<string>;
  readonly outcome: PageOutcome | undefined;
}

const VERSION = 1;

/**
 * What was deleted of a list, beside the list. Each request is written down before it is sent, so that after a
 * crash it is known which keys may have gone. Only ever added to.
 */
export class OrphanProgress {
  readonly path: string;
  readonly #file: number;
  readonly #pages = new Map<number, KnownPage>();

  /** @throws UsageError when the file is of another list, or cannot be written. */
  constructor(listPath: string, digest: string) {
    this.path = `${listPath}.progress`;
    try {
      if (existsSync(this.path) && !statSync(this.path).isFile()) {
        throw new Error('it is no regular file');
      }
      this.#file = openSync(this.path, 'a+', 0o600);
      const { size } = statSync(this.path);
      if (size === 0) this.#write({ orphan_progress: VERSION, sha256: digest });
      else this.#read(digest, size);
    } catch (error) {
      if (error instanceof UsageError) throw error;
      throw new UsageError(
        `cannot write down in ${this.path} what is deleted: ${describeError(error)}; nothing was deleted`,
        { remedy: 'Put the list into a folder that you may write to.', cause: error },
      );
    }
  }

  /** What became of a page, as far as it is known. */
  outcomeOf(page: number): PageOutcome | undefined {
    return this.#pages.get(page)?.outcome;
  }

  /** The keys of a page that S3 was asked for, and of which it is not known whether they went. */
  askedOf(page: number): ReadonlySet<string> {
    return this.#pages.get(page)?.asked ?? new Set();
  }

  /** The outcomes of all pages. */
  *outcomes(): Generator<PageOutcome> {
    for (const { outcome } of this.#pages.values()) if (outcome !== undefined) yield outcome;
  }

  /** Written before S3 is asked. */
  ask(page: number, keys: readonly string[]): void {
    this.#write({ page, asked: keys });
    this.#noteAsked(page, keys);
  }

  /** Written when a page has come to its end. */
  end(page: number, outcome: PageOutcome): void {
    this.#write({ page, ...outcome });
    this.#pages.set(page, { asked: new Set(), outcome });
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }

  #read(digest: string, size: number): void {
    let isFirst = true;
    for (const line of readLines(this.#file)) {
      const it = readObject(line);
      if (isFirst && (it?.['orphan_progress'] !== VERSION || it['sha256'] !== digest)) {
        throw new UsageError(`${this.path} belongs to another list; nothing was deleted`, {
          remedy: 'Move it away, or use the list that it belongs to.',
        });
      }
      isFirst = false;
      // A line that a crash has cut off says nothing.
      if (typeof it?.['page'] !== 'number') continue;
      const page = it['page'];
      if (Array.isArray(it['asked'])) this.#noteAsked(page, it['asked'] as readonly string[]);
      else this.#pages.set(page, { asked: new Set(), outcome: it as unknown as PageOutcome });
    }
    const last = Buffer.alloc(1);
    readSync(this.#file, last, 0, 1, size - 1);
    if (last.toString() !== '\n') writeSync(this.#file, '\n');
  }

  #noteAsked(page: number, keys: readonly string[]): void {
    const { asked = new Set<string>(), outcome } = this.#pages.get(page) ?? {};
    for (const key of keys) asked.add(key);
    this.#pages.set(page, { asked, outcome });
  }

  #write(line: object): void {
    writeSync(this.#file, `${JSON.stringify(line)}\n`);
    fsyncSync(this.#file);
  }
}
