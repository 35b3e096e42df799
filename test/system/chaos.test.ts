import { expect, test } from 'vitest';
import { runCampaign } from '../rigs/chaos/campaign.ts';
import { report } from '../rigs/chaos/report.ts';
import { describeDatabase } from '../support/database.ts';

// The same draws each time; `npm run test:chaos -- --seed N --minutes M` makes others, and longer.
const SEEDS = [2, 5];
const MINUTES = 0.3;

describeDatabase('a short campaign of faults', () => {
  test.each(SEEDS)(
    'seed %i: nothing lost, nothing wrongly deleted, every figure counted',
    { timeout: 480_000 },
    async (seed) => {
      const outcome = await runCampaign({ seed, minutes: MINUTES, listeners: 3 });
      expect(outcome.totals['stamps'], report(outcome)).toBeGreaterThan(0);
      expect(outcome.violations, report(outcome)).toEqual([]);
    },
  );
});
