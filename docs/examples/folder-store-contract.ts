import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { test } from 'node:test';
import { testObjectStore } from 'retention-reactor/testing/object-store';
import { createFolderStore, keyAt, pathOf } from './folder-store.ts';

testObjectStore({
  test,
  open: async () => {
    const root = await mkdtemp(join(tmpdir(), 'folder-store-'));
    const folder = join(root, 'results');
    await mkdir(folder);
    return {
      store: createFolderStore(root),
      bucket: 'results',
      put: async (key) => {
        const file = join(folder, pathOf(key));
        await mkdir(dirname(file), { recursive: true });
        await writeFile(file, 'result');
      },
      keys: async () => {
        const entries = await readdir(folder, { recursive: true, withFileTypes: true });
        return entries
          .filter((entry) => entry.isFile())
          .map(({ parentPath, name }) => keyAt(relative(folder, join(parentPath, name))));
      },
      close: () => rm(root, { recursive: true }),
    };
  },
});
