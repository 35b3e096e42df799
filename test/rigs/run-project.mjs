import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

/**
 * Runs one vitest project whose test is told a seed and a time by RETENTION_<NAME>_SEED and
 * RETENTION_<NAME>_MINUTES, and ends as it does.
 *
 * @param {string} project its name, and that of its script `test:<project>`.
 * @param {string} defaultMinutes
 */
export function runProject(project, defaultMinutes) {
  const { seed, minutes } = readOptions(project, defaultMinutes);
  const script = `npm run test:${project} --`;
  console.log(`Seed ${seed}; once more: ${script} --seed ${seed} --minutes ${minutes}`);
  const variable = `RETENTION_${project.toUpperCase()}`;
  const { status } = spawnSync(
    process.execPath,
    [
      fileURLToPath(new URL('../../node_modules/vitest/vitest.mjs', import.meta.url)),
      'run',
      '--project',
      project,
    ],
    {
      stdio: 'inherit',
      cwd: fileURLToPath(new URL('../..', import.meta.url)),
      env: {
        ...process.env,
        [`${variable}_SEED`]: String(seed),
        [`${variable}_MINUTES`]: String(minutes),
      },
    },
  );
  process.exitCode = status ?? 1;
}

function readOptions(project, defaultMinutes) {
  try {
    const { values } = parseArgs({
      options: { seed: { type: 'string' }, minutes: { type: 'string', default: defaultMinutes } },
    });
    const chosen = values.seed ?? String(Math.floor(Math.random() * 1_000_000));
    return {
      seed: number('--seed', chosen, /^\d{1,9}$/u, 'a whole number of up to nine digits'),
      minutes: number('--minutes', values.minutes, /^\d+(\.\d+)?$/u, 'a number of minutes'),
    };
  } catch (error) {
    console.error(`${error.message}\nUsage: npm run test:${project} -- [--seed N] [--minutes M]`);
    process.exit(2);
  }
}

function number(name, text, shape, expected) {
  if (shape.test(text) && Number(text) >= 0) return Number(text);
  throw new Error(`${name}: expected ${expected}, given: ${text}`);
}
