// An object store on a disk: a bucket is a folder, an object is a file. Buckets are made by others.
import { type Dirent, existsSync } from 'node:fs';
import { readdir, rm, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import {
  type DeletionReport,
  type KeyFailure,
  type ObjectStore,
  ObjectStoreError,
} from 'retention-reactor';

const ENDING = '.object';
const MOST_KEYS = 1_000;
const PAGE_SIZE = 1_000;

/** Where an object is, below the folder of its bucket: the key in pieces that a file name can be. */
export function pathOf(key: string): string {
  // Throws for a key that no text can be.
  const pieces = encodeURIComponent(key).match(/.{1,200}/gu) ?? [];
  return join(...pieces) + ENDING;
}

function keyAt(path: string): string {
  return decodeURIComponent(path.slice(0, -ENDING.length).replaceAll('/', ''));
}

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

/** Makes the store. `root` holds a folder for each bucket. */
export function createFolderStore(root: string): ObjectStore {
  const refuse = (
    bucket: string,
    kind: 'aborted' | 'no-bucket' | 'timeout',
    code: string,
  ): never => {
    const outcome = kind === 'no-bucket' ? 'refused' : 'failed';
    const details = { outcome, concerns: 'bucket', final: false, code, reason: code } as const;
    throw new ObjectStoreError({ ...details, kind, bucket });
  };
  const folderOf = (bucket: string, signal?: AbortSignal): string => {
    if (signal?.aborted === true) refuse(bucket, 'aborted', 'Aborted');
    const folder = join(root, bucket);
    return existsSync(folder) ? folder : refuse(bucket, 'no-bucket', 'NoSuchBucket');
  };
  const deleteObjects: ObjectStore['deleteObjects'] = async (bucket, keys, call = {}) => {
    if (keys.length > MOST_KEYS) throw new RangeError(`expected at most ${MOST_KEYS} keys`);
    if ((call.endsAt ?? Infinity) < performance.now()) refuse(bucket, 'timeout', 'Timeout');
    const folder = folderOf(bucket, call.signal);
    const deleted: string[] = [];
    const failures: KeyFailure[] = [];
    for (const key of new Set(keys)) {
      try {
        if (key === '' || call.etags?.has(key) === true) throw new Error('no such key is taken');
        await rm(join(folder, pathOf(key)), { force: true });
        deleted.push(key);
      } catch (error) {
        const failed = {
          outcome: 'refused',
          concerns: 'key',
          final: true,
          reason: String(error),
        } as const;
        failures.push({ ...failed, key, code: 'BadKey' });
      }
    }
    const report: DeletionReport = {
      deleted,
      failures,
      all: failures.length === 0,
      unanswered: [],
    };
    return report;
  };
  return {
    place: `the folder ${root}`,
    deleteObjects,
    listing: {
      listObjects: async function* (
        bucket,
        { prefix = '', startAfter = '', pageSize = PAGE_SIZE, signal } = {},
      ) {
        const folder = folderOf(bucket, signal);
        const isFile = (entry: Dirent): boolean => entry.isFile();
        const entries = (await readdir(folder, { recursive: true, withFileTypes: true })).filter(
          isFile,
        );
        const keys = entries
          .map((entry) => keyAt(relative(folder, join(entry.parentPath, entry.name))))
          .filter((key) => key.startsWith(prefix) && byBytes(key, startAfter) > 0)
          .toSorted(byBytes);
        for (let from = 0; from < keys.length; from += pageSize) {
          const page = keys.slice(from, from + pageSize).map(async (key) => {
            const { size, mtime } = await stat(join(folder, pathOf(key)));
            return { key, size, lastModified: mtime };
          });
          yield await Promise.all(page);
        }
      },
      headObject: async (bucket, key, { signal } = {}) =>
        existsSync(join(folderOf(bucket, signal), pathOf(key)))
          ? { state: 'exists' }
          : { state: 'gone' },
    },
    close: () => undefined,
  };
}
