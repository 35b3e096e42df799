import { countOf, showCount } from '../numbers.ts';
import type { DueGroup, Selection } from '../store/selection.ts';
import { confirm } from './output.ts';

/** What was said on the command line about results that are not due. */
export interface EarlyOptions {
  readonly olderThan?: string;
  readonly all?: boolean;
  readonly yes?: boolean;
}

/** So many results a mere yes confirms; more of them want their number. */
const MOST_BY_YES = 1_000;

/** How many results of some groups are not due by their policy. */
export function countEarly(groups: readonly DueGroup[]): number {
  return groups.reduce((sum, { early }) => sum + early, 0);
}

/**
 * Asks for the deletion of results that are not due by their policy: it needs a tenant, runs, or `--all`, and the very
 * number. Returns the selection as it was confirmed.
 *
 * @param early how many there are now.
 * @param expected the number that was given with `--expect`.
 * @throws RefusedError when it was not confirmed.
 */
export async function confirmEarly(
  selection: Selection,
  early: number,
  options: EarlyOptions,
  expected: number | undefined,
): Promise<Selection> {
  if (early === 0) return { ...selection, early: false };
  const { RefusedError } = await import('../errors.ts');
  const results = `${showCount(early, 'result')} older than ${options.olderThan} ${early === 1 ? 'is' : 'are'} not due by their policy`;
  const scope = selection.all === true ? '--all ' : '';
  const remedy = `Look at them with --dry-run. To delete them early: ${scope}--expect ${early}.`;
  if (selection.all === true && options.all !== true) {
    throw new RefusedError(
      `${results}, and neither a tenant nor runs are named; nothing was done.`,
      { remedy: `Name --tenant or --run. ${remedy}` },
    );
  }
  if (expected !== undefined) {
    if (early <= expected) return { ...selection, expected };
    throw new RefusedError(`${results}, more than the ${expected} of --expect; nothing was done.`, {
      remedy,
    });
  }
  if (early > MOST_BY_YES && options.yes === true) {
    throw new RefusedError(`${results}: for so many, --yes is not enough; nothing was done.`, {
      remedy,
    });
  }
  await confirm(
    `${results}; deleting them cannot be undone. Go on?`,
    options.yes === true,
    `Say --expect ${early}.`,
  );
  return { ...selection, expected: early };
}

/** What a dry run says of results that are not due. */
export function describeEarly(early: number): string {
  return `${countOf(early, 'result')} of them ${early === 1 ? 'is' : 'are'} not due by the policy; to delete them early: --expect ${early}`;
}
