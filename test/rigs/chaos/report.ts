import type { Outcome } from './campaign.ts';

/** A campaign in lines for people. */
export function report({ violations, faults, applicationSteps, totals }: Outcome): string {
  const list = (counts: Iterable<readonly [string, number]>): string[] =>
    [...counts]
      .toSorted(([, one], [, other]) => other - one)
      .map(([name, count]) => `  ${String(count).padStart(7)}  ${name}`);
  const shown = violations.slice(0, 20).map(({ promise, what }) => `  ${promise}\n    ${what}`);
  return [
    'Faults',
    ...list(faults),
    'The application',
    ...list(applicationSteps),
    'Totals',
    ...list(Object.entries(totals)),
    `${violations.length} violations`,
    ...shown,
  ].join('\n');
}
