import { writeFileSync } from 'node:fs';
import type { Reporter, TestModule } from 'vitest/node';

/** How many tests ended in which way. */
export interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

/** The closing line: `N passed, N failed`, and `, N skipped` when any were. */
export function closingLine({ passed, failed, skipped }: Tally): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}

/**
 * Prints the closing line as the last one of a run, after the default reporter, and writes the
 * figures to the file that `TEST_TALLY` names, for a program that adds up several runs.
 *
 * A file that could not even be loaded, and an error outside any test, count as one failure each,
 * so that the line never says 0 failed of a run that failed.
 */
export default class ClosingLineReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const tally: Tally = { passed: 0, failed: unhandledErrors.length, skipped: 0 };
    for (const module of modules) countModule(module, tally);
    const file = process.env['TEST_TALLY'];
    if (file !== undefined && file !== '') writeFileSync(file, JSON.stringify(tally));
    process.stdout.write(`${closingLine(tally)}\n`);
  }
}

function countModule(module: TestModule, tally: Tally): void {
  const failedBefore = tally.failed;
  for (const test of module.children.allTests()) {
    const { state } = test.result();
    if (state === 'passed') tally.passed += 1;
    else if (state === 'failed') tally.failed += 1;
    else tally.skipped += 1;
  }
  if (module.state() === 'failed' && tally.failed === failedBefore) tally.failed += 1;
}
