import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createFolderStore, pathOf } from '../../docs/examples/folder-store.ts';
import { testObjectStore } from '../../src/testing/object-store.ts';
import { read } from '../support/project-files.ts';

describe('the example of a second store', () => {
  testObjectStore({
    test,
    open: async () => {
      const root = await mkdtemp(join(tmpdir(), 'retention-folder-'));
      const bucket = 'results';
      const folder = join(root, bucket);
      await mkdir(folder);
      const store = createFolderStore(root);
      return {
        store,
        bucket,
        put: async (key) => {
          const file = join(folder, pathOf(key));
          await mkdir(dirname(file), { recursive: true });
          await writeFile(file, 'result');
        },
        keys: async () => {
          const files = await readdir(folder, { recursive: true, withFileTypes: true });
          const names = files
            .filter((entry) => entry.isFile())
            .map(({ parentPath, name }) => join(parentPath, name).slice(folder.length + 1));
          return names.map((name) =>
            decodeURIComponent(name.slice(0, -'.object'.length).replaceAll('/', '')),
          );
        },
        close: () => rm(root, { recursive: true, force: true }),
      };
    },
  });

  test('is short', () => {
    expect(read('docs/examples/folder-store.ts').split('\n').length).toBeLessThan(110);
  });
});

/** A store that does one thing wrong is told by the test of that thing. */
describe('the contract of an object store', () => {
  const flaws = {
    'deletes nothing': 'deletes what it is asked to, and nothing else',
    'deletes by prefix': 'deletes what it is asked to, and nothing else',
    'names a key twice': 'reports a key that is given twice once',
    'goes on after its last moment': 'deletes nothing after the last moment of a call',
    'says nothing of a missing bucket': 'says that a bucket is not there',
  } as const;
  type Flaw = keyof typeof flaws;

  async function namesOfFailed(flaw: Flaw): Promise<string[]> {
    const failed: string[] = [];
    const running: Promise<void>[] = [];
    testObjectStore({
      test: (name, work) => running.push(work().catch(() => void failed.push(name))),
      open: () => Promise.resolve(flawedStore(flaw)),
    });
    await Promise.all(running);
    return failed;
  }

  function flawedStore(flaw: Flaw) {
    const there = new Set<string>();
    return {
      bucket: 'b',
      put: (key: string) => Promise.resolve(void there.add(key)),
      keys: () => Promise.resolve([...there]),
      store: {
        close: () => undefined,
        deleteObjects: (_bucket: string, keys: readonly string[]) => {
          for (const key of flaw === 'deletes nothing' ? [] : keys) {
            if (flaw !== 'deletes by prefix') there.delete(key);
            else for (const each of there) if (each.startsWith(key)) there.delete(each);
          }
          const deleted = flaw === 'names a key twice' ? keys : [...new Set(keys)];
          return Promise.resolve({ deleted, failures: [], all: true, unanswered: [] });
        },
      },
    };
  }

  test.each(Object.entries(flaws))('notices a store that %s', async (flaw, name) => {
    expect(await namesOfFailed(flaw as Flaw)).toContain(name);
  });
});
