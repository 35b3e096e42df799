import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { RefusedError, UsageError, describeError } from '../../errors.ts';
import { readObject } from './lines.ts';

/** The locks of this process. */
const held = new Set<string>();

/** Lets one process at a time delete a list: two of them would each count what the other has done. */
export class OrphanListLock {
  readonly #path: string;

  /**
   * Takes over what a process of this host has left that does not live any more.
   *
   * @throws RefusedError where another process is at it.
   * @throws UsageError where it cannot be written.
   */
  constructor(listPath: string) {
    this.#path = `${resolve(listPath)}.lock`;
    if (this.#take()) return;
    const holder = this.#readHolder();
    if (holder.isGone) rmSync(this.#path, { force: true });
    if (holder.isGone && this.#take()) return;
    throw new RefusedError(
      `no orphan was deleted: ${holder.name} is deleting the same list (see ${this.#path})`,
      {
        remedy: 'Wait until it has ended. If it has ended already, remove that file.',
      },
    );
  }

  [Symbol.dispose](): void {
    held.delete(this.#path);
    rmSync(this.#path, { force: true });
  }

  /** False: the file is there. */
  #take(): boolean {
    try {
      const file = openSync(this.#path, 'wx', 0o600);
      writeSync(file, `${JSON.stringify({ host: hostname(), pid: process.pid })}\n`);
      closeSync(file);
      held.add(this.#path);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
      throw new UsageError(
        `cannot write ${this.#path}: ${describeError(error)}; nothing was deleted`,
        { remedy: 'Put the list into a folder that you may write to.', cause: error },
      );
    }
  }

  #readHolder(): { readonly name: string; readonly isGone: boolean } {
    let line: Buffer;
    try {
      line = readFileSync(this.#path);
    } catch {
      // It has ended meanwhile.
      return { name: 'another process', isGone: true };
    }
    const { host, pid } = readObject(line) ?? {};
    if (typeof host !== 'string' || typeof pid !== 'number') {
      return { name: 'another process', isGone: false };
    }
    // In a container a process may have the number of the one before it.
    const isAlive = pid === process.pid ? held.has(this.#path) : isThere(pid);
    return { name: `process ${pid} of ${host}`, isGone: host === hostname() && !isAlive };
  }
}

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
