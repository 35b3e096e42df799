// `npm run test:large -- --scale 0.02`: that part of the rows. See large.test.ts.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { status } = spawnSync(
  process.execPath,
  [
    fileURLToPath(new URL('../../../node_modules/vitest/vitest.mjs', import.meta.url)),
    'run',
    '--project',
    'large',
  ],
  {
    stdio: 'inherit',
    cwd: fileURLToPath(new URL('../../..', import.meta.url)),
    env: { ...process.env, RETENTION_LARGE_SCALE: readScale() },
  },
);
process.exitCode = status ?? 1;

function readScale() {
  try {
    const { values } = parseArgs({ options: { scale: { type: 'string', default: '1' } } });
    if (/^(?:1|0\.\d*[1-9]\d*)$/u.test(values.scale)) return values.scale;
    throw new Error(`--scale: expected a number above 0, at most 1, given: ${values.scale}`);
  } catch (error) {
    console.error(`${error.message}\nUsage: npm run test:large -- [--scale S]`);
    process.exit(2);
  }
}
