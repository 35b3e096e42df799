import { expect, test } from 'vitest';
import { report } from './report.ts';
import { runSlipCampaign } from './slip-campaign.ts';

const seed = Number(process.env['RETENTION_CHAOS_SEED'] ?? '1');
const minutes = Number(process.env['RETENTION_CHAOS_MINUTES'] ?? '1');

test(`promise 13: seed ${seed}, ${minutes} minutes of slips: no more than the guards allow, nothing forgotten`, async () => {
  const outcome = await runSlipCampaign({
    seed,
    minutes,
    say: (line) => process.stdout.write(`${line}\n`),
  });
  process.stdout.write(`${report(outcome)}\n`);
  expect(outcome.violations).toEqual([]);
});
