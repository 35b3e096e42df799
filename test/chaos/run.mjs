// `npm run test:chaos -- --seed N --minutes M`: one randomized campaign. See campaign.ts.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const USAGE = 'npm run test:chaos -- [--seed N] [--minutes M]';

const { seed, minutes } = readOptions();
console.log(`Seed ${seed}; once more: npm run test:chaos -- --seed ${seed} --minutes ${minutes}`);
const { status } = spawnSync(
  process.execPath,
  [
    fileURLToPath(new URL('../../node_modules/vitest/vitest.mjs', import.meta.url)),
    'run',
    '--project',
    'chaos',
  ],
  {
    stdio: 'inherit',
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
    env: {
      ...process.env,
      RETENTION_CHAOS_SEED: String(seed),
      RETENTION_CHAOS_MINUTES: String(minutes),
    },
  },
);
process.exitCode = status ?? 1;

function readOptions() {
  try {
    const { values } = parseArgs({
      options: { seed: { type: 'string' }, minutes: { type: 'string', default: '10' } },
    });
    const chosen = values.seed ?? String(Math.floor(Math.random() * 1_000_000));
    return {
      seed: number('--seed', chosen, /^\d{1,9}$/u, 'a whole number of up to nine digits'),
      minutes: number('--minutes', values.minutes, /^\d+(\.\d+)?$/u, 'a number of minutes'),
    };
  } catch (error) {
    console.error(`${error.message}\nUsage: ${USAGE}`);
    process.exit(2);
  }
}

function number(name, text, shape, expected) {
  if (shape.test(text) && Number(text) >= 0) return Number(text);
  throw new Error(`${name}: expected ${expected}, given: ${text}`);
}
