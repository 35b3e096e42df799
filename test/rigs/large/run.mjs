// `npm run test:large -- --scale 0.02 --only faults`: that part of the rows, and the cases whose name contains that. See
// large.test.ts.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const options = readOptions();
const { status } = spawnSync(
  process.execPath,
  [
    fileURLToPath(new URL('../../../node_modules/vitest/vitest.mjs', import.meta.url)),
    'run',
    '--project',
    'large',
    ...(options.only === undefined ? [] : ['-t', options.only]),
  ],
  {
    stdio: 'inherit',
    cwd: fileURLToPath(new URL('../../..', import.meta.url)),
    env: { ...process.env, RETENTION_LARGE_SCALE: options.scale },
  },
);
process.exitCode = status ?? 1;

function readOptions() {
  try {
    const { values } = parseArgs({
      options: { scale: { type: 'string', default: '1' }, only: { type: 'string' } },
    });
    if (/^(?:1|0\.\d*[1-9]\d*)$/u.test(values.scale)) return values;
    throw new Error(`--scale: expected a number above 0, at most 1, given: ${values.scale}`);
  } catch (error) {
    console.error(`${error.message}\nUsage: npm run test:large -- [--scale S] [--only NAME]`);
    process.exit(2);
  }
}
