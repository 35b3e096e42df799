// An object store on a disk: a bucket is a folder, an object is a file.
import { existsSync } from 'node:fs';
import { readdir, rm, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { type KeyFailure, type ObjectStore, ObjectStoreError } from 'retention-reactor';

const ENDING = '.object';

/** Where an object is, below the folder of its bucket: its key in pieces that can be names of files. */
export function pathOf(key: string): string {
  // Throws for half of a character, which no file name and no request can carry.
  return join(...(encodeURIComponent(key).match(/.{1,200}/gu) ?? [])) + ENDING;
}

export function keyAt(path: string): string {
  return decodeURIComponent(path.slice(0, -ENDING.length).replaceAll('/', ''));
}

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

function refuse(bucket: string, kind: 'aborted' | 'no-bucket' | 'timeout', code: string): never {
  const outcome = kind === 'no-bucket' ? 'refused' : 'failed';
  const what = { kind, bucket, code, reason: code, outcome, concerns: 'bucket', final: false };
  throw new ObjectStoreError(what as ConstructorParameters<typeof ObjectStoreError>[0]);
}

/** Makes the store. `root` holds a folder for each bucket. */
export function createFolderStore(root: string): ObjectStore {
  const folderOf = (bucket: string, signal?: AbortSignal): string => {
    if (signal?.aborted === true) refuse(bucket, 'aborted', 'Aborted');
    const folder = join(root, bucket);
    return existsSync(folder) ? folder : refuse(bucket, 'no-bucket', 'NoSuchBucket');
  };
  return {
    place: `the folder ${root}`,
    deleteObjects: async (bucket, keys, { signal, endsAt = Infinity, etags } = {}) => {
      if (keys.length > 1_000) throw new RangeError('expected at most 1,000 keys');
      if (endsAt < performance.now()) refuse(bucket, 'timeout', 'Timeout');
      const folder = folderOf(bucket, signal);
      const deleted: string[] = [];
      const failures: KeyFailure[] = [];
      for (const key of new Set(keys)) {
        try {
          if (key === '' || etags?.has(key) === true) throw new Error('this store cannot do that');
          await rm(join(folder, pathOf(key)), { force: true });
          deleted.push(key);
        } catch (error) {
          const failure = { key, code: 'Refused', reason: String(error), final: true } as const;
          failures.push({ ...failure, outcome: 'refused', concerns: 'key' });
        }
      }
      return { deleted, failures, all: failures.length === 0, unanswered: [] };
    },
    listing: {
      listObjects: async function* (bucket, request = {}) {
        const { prefix = '', startAfter = '', pageSize = 1_000, signal } = request;
        const folder = folderOf(bucket, signal);
        const entries = await readdir(folder, { recursive: true, withFileTypes: true });
        const keys = entries
          .filter((entry) => entry.isFile())
          .map((entry) => keyAt(relative(folder, join(entry.parentPath, entry.name))))
          .filter((key) => key.startsWith(prefix) && byBytes(key, startAfter) > 0)
          .toSorted(byBytes);
        for (let from = 0; from < keys.length; from += pageSize) {
          const look = async (key: string) => {
            const { size, mtime: lastModified } = await stat(join(folder, pathOf(key)));
            return { key, size, lastModified };
          };
          yield await Promise.all(keys.slice(from, from + pageSize).map((key) => look(key)));
        }
      },
      headObject: async (bucket, key, { signal } = {}) => {
        const isThere = existsSync(join(folderOf(bucket, signal), pathOf(key)));
        return { state: isThere ? 'exists' : 'gone' };
      },
    },
    close: () => undefined,
  };
}
