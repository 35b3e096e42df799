import { afterEach, expect, test, vi } from 'vitest';
import { openTable, printJson, printJsonInPages, printTable } from '../../src/cli/output.ts';

afterEach(() => vi.restoreAllMocks());

/** What is written to stdout meanwhile. */
async function written(work: () => unknown): Promise<string> {
  const texts: string[] = [];
  const spy = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    texts.push(String(text));
    return true;
  });
  await work();
  spy.mockRestore();
  return texts.join('');
}

async function* paged<Item>(...pages: Item[][]): AsyncGenerator<Item[]> {
  for (const page of pages) yield Promise.resolve(page) as unknown as Item[];
}

const HEAD = { dry_run: true, groups: [{ bucket: 'a', oldest: null }] };

test.each([
  ['no page', [], {}],
  ['one page', [[{ run_id: '1', key: 'k' }, { run_id: '2' }]], {}],
  [
    'several pages and what comes behind',
    [[{ run_id: '1' }], [{ run_id: '\u001B[31m"\n', nested: { a: [1, 2] } }]],
    { verify: { gone: 1 } },
  ],
])('a document with %s is the one that is printed at once', async (_, pages, tail) => {
  const inPages = await written(() =>
    printJsonInPages(HEAD, 'runs', paged<object>(...(pages as object[][])), tail),
  );
  const atOnce = await written(() => {
    printJson({ ...HEAD, runs: pages.flat(), ...tail });
  });
  expect(inPages).toBe(atOnce);
});

test('a table of one part is the one that is printed at once, and any number of rows is printed', async () => {
  const rows = [
    ['run-1', 12],
    ['a', 1_000],
  ];
  const atOnce = await written(() => {
    printTable(['run', 'results'], rows);
  });
  expect(atOnce).toBe('  run    results\n  run-1       12\n  a        1,000\n');
  const many = Array.from({ length: 300_000 }, (_, index) => [`run-${index}`]);
  const text = await written(() => {
    const print = openTable(['run']);
    print(many);
    print([['last']]);
  });
  expect(text.split('\n')).toHaveLength(300_003);
  expect(text.endsWith('  last\n')).toBe(true);
});
