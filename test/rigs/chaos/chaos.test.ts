import { expect, test } from 'vitest';
import { runCampaign } from './campaign.ts';
import { report } from './report.ts';

const seed = Number(process.env['RETENTION_CHAOS_SEED'] ?? '1');
const minutes = Number(process.env['RETENTION_CHAOS_MINUTES'] ?? '1');

test(`seed ${seed}, ${minutes} minutes: nothing lost, nothing wrongly deleted`, async () => {
  const outcome = await runCampaign({
    seed,
    minutes,
    say: (line) => process.stdout.write(`${line}\n`),
  });
  process.stdout.write(`${report(outcome)}\n`);
  expect(outcome.violations).toEqual([]);
});
