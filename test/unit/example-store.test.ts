import { describe, expect, test, vi } from 'vitest';
import { testObjectStore } from '../../src/testing/object-store.ts';
import { read } from '../support/project-files.ts';

vi.mock('node:test', async () => ({ test: (await import('vitest')).test }));

describe('the example of a second store', async () => {
  // As its document runs it, but for the runner.
  await import('../../docs/examples/folder-store-contract.ts');

  test('is 80 lines, and the document shows it', () => {
    const example = read('docs/examples/folder-store.ts');
    expect(example.trimEnd().split('\n').length).toBeLessThanOrEqual(80);
    const document = read('docs/object-store.md');
    expect(document).toContain('](examples/folder-store.ts)');
    expect(document).toContain(`\`\`\`ts\n${read('docs/examples/folder-store-contract.ts')}\`\`\``);
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
