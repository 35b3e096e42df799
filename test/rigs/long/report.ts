import { round, type Verdict } from './flatness.ts';
import type { LongRunOutcome } from './long-run.ts';

/** A long run in lines for people: one table, the totals, and the seed. */
export function report(outcome: LongRunOutcome): string {
  const { seed, verdicts, violations, faults, applicationSteps, totals, file } = outcome;
  // A table that nothing was ever written to says nothing.
  const telling = verdicts.filter(({ end, isFlat }) => end !== 0 || !isFlat);
  const shown = violations.slice(0, 20).map(({ promise, what }) => `  ${promise}\n    ${what}`);
  return [
    'Figure, by the medians of the three thirds',
    ...rows(telling),
    `  and ${verdicts.length - telling.length} more that are 0 in the end`,
    'Faults',
    ...list(faults),
    'The application',
    ...list(applicationSteps),
    'Totals',
    ...list(Object.entries(totals)),
    `Samples: ${file}`,
    `${violations.length} violations`,
    ...shown,
    `Seed ${seed}`,
  ].join('\n');
}

function rows(verdicts: readonly Verdict[]): string[] {
  const cells = [
    ['', 'start', 'middle', 'end', 'at most', '', ''],
    ...verdicts.map(({ name, unit, start, middle, end, limit, isFlat }) => [
      name,
      ...[start, middle, end, limit].map(round),
      unit,
      isFlat ? 'flat' : 'NOT FLAT',
    ]),
  ];
  const widths = cells[0]?.map((_, column) =>
    Math.max(...cells.map((row) => row[column]?.length ?? 0)),
  );
  return cells.map((row) =>
    row
      .map((cell, column) => {
        const width = widths?.[column] ?? 0;
        return column === 0 || column > 4 ? cell.padEnd(width) : cell.padStart(width);
      })
      .join('  ')
      .trimEnd(),
  );
}

function list(counts: Iterable<readonly [string, number]>): string[] {
  return [...counts]
    .toSorted(([, one], [, other]) => other - one)
    .map(([name, count]) => `  ${String(count).padStart(7)}  ${name}`);
}
