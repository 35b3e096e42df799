import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { mutations } from '../rigs/mutations/mutations.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const PROMISES = 14;

const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8');

describe('the mutations', () => {
  test('break every promise, each under a name of its own', () => {
    const promises = new Set(mutations.map(({ promise }) => promise));
    expect([...promises]).toEqual(Array.from({ length: PROMISES }, (_, index) => index + 1));
    expect(new Set(mutations.map(({ name }) => name)).size).toBe(mutations.length);
  });

  test.each(mutations.map((mutation) => [mutation.name, mutation] as const))(
    '"%s" still finds what it breaks, and the test that notices',
    (_name, { edits, testFile, test: title }) => {
      for (const { file, search, replace } of edits) {
        expect(read(file).split(search), `${file}: ${search}`).toHaveLength(2);
        expect(replace).not.toBe(search);
      }
      const tests = read(testFile);
      for (const part of typeof title === 'string' ? [title] : title) {
        expect(tests.includes(part), `${testFile}: ${part}`).toBe(true);
      }
    },
  );
});
