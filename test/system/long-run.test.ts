import { expect, test } from 'vitest';
import { TWO_MINUTES } from '../rigs/long/bounds.ts';
import { runLong } from '../rigs/long/long-run.ts';
import { SHORT_PACE } from '../rigs/long/pace.ts';
import { report } from '../rigs/long/report.ts';
import { describeDatabase } from '../support/database.ts';

// `npm run test:long` takes an hour, and sees what grows by little.
describeDatabase('two minutes of steady work with faults', () => {
  test('nothing grows, nothing is lost', { timeout: 600_000 }, async () => {
    const outcome = await runLong({
      seed: 1,
      minutes: 2,
      bounds: TWO_MINUTES,
      pace: SHORT_PACE,
    });
    expect(outcome.totals['stamps'], report(outcome)).toBeGreaterThan(0);
    expect(outcome.violations, report(outcome)).toEqual([]);
  });
});
