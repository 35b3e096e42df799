import { expect, test } from 'vitest';
import { HOUR } from './bounds.ts';
import { runLong } from './long-run.ts';
import { HOUR_PACE } from './pace.ts';
import { report } from './report.ts';

const seed = Number(process.env['RETENTION_LONG_SEED'] ?? '1');
const minutes = Number(process.env['RETENTION_LONG_MINUTES'] ?? '60');

test(`seed ${seed}, ${minutes} minutes: nothing grows`, async () => {
  const outcome = await runLong({
    seed,
    minutes,
    bounds: HOUR,
    pace: HOUR_PACE,
    say: (line) => process.stdout.write(`${line}\n`),
  });
  process.stdout.write(`${report(outcome)}\n`);
  expect(outcome.violations).toEqual([]);
});
