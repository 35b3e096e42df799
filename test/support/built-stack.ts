import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll } from 'vitest';
import { PROJECT } from '../stack/project.ts';

const run = promisify(execFile);
const SCRATCH = join(PROJECT, '.scratch');

/**
 * Compiles `test/stack` for the tests of a file, because Node 20 runs no TypeScript: into a folder of
 * their own, since `npm run demo` may run at the same time.
 *
 * @returns the path of a compiled file of it, such as `main.js`.
 */
export function useBuiltStack(): (file: string) => string {
  let folder = '';
  beforeAll(async () => {
    mkdirSync(SCRATCH, { recursive: true });
    folder = mkdtempSync(join(SCRATCH, 'stack-test-'));
    const compiler = join(PROJECT, 'node_modules/.bin/tsc');
    await run(compiler, ['-p', 'test/stack', '--outDir', folder], { cwd: PROJECT });
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return (file) => join(folder, 'test/stack', file);
}
