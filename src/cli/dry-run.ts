import { countOf } from '../numbers.ts';
import type { Verification } from '../reactor/verify.ts';
import { escapeControls } from '../safe-text.ts';
import type { DueGroup, DueRun, Selection } from '../store/selection.ts';
import type { Store } from '../store/store.ts';
import { countEarly, describeEarly } from './early.ts';
import { openTable, printJsonInPages, printLine, printTable } from './output.ts';
import { type VerifyOptions, describeVerified, printVerified } from './verification.ts';

/** What a dry run shows. */
export interface DryRunOptions extends VerifyOptions {
  readonly json?: boolean;
  readonly verbose?: boolean;
  /** The buckets that may be deleted from. Default: any. */
  readonly allowedBuckets: readonly string[] | undefined;
}

/**
 * Prints what would go, and changes nothing. Runs are read and printed page by page.
 *
 * @param store of a snapshot, so that the groups are the sums of the runs.
 * @param verified what a verify before it found.
 * @throws DatabaseError
 */
export async function dryRun(
  store: Store,
  selection: Selection | undefined,
  options: DryRunOptions,
  verified: Verification | undefined,
): Promise<void> {
  const groups = await store.dueGroups(selection ?? {});
  const early = countEarly(groups);
  const due = sumOf(groups);
  const refusedGroups = groups.filter((group) => isRefused(group, options));
  if (options.json === true) {
    const head = {
      dry_run: true,
      due,
      ...(selection?.early === true ? { early } : {}),
      groups: groups.map((group) => describeGroup(group, options)),
    };
    const runs = store.readDueRuns(selection ?? {});
    await printJsonInPages(head, 'runs', runs, describeVerified(verified, options));
    return;
  }
  printVerified(verified, options);
  const refused = sumOf(refusedGroups);
  printLine(`${countOf(due - refused, 'result')} would go; nothing was changed.`);
  if (early > 0) printLine(describeEarly(early));
  if (refused > 0) {
    const names = [...new Set(refusedGroups.map(({ bucket }) => bucket))].join(', ');
    printLine(
      `${countOf(refused, 'result')} would be refused: S3_RESULT_BUCKET does not list ${escapeControls(names)}.`,
    );
  }
  if (groups.length > 0) {
    printLine();
    printTable(
      ['tenant', 'bucket', 'results', 'oldest'],
      groups.map((group) => [group.tenant_id, group.bucket, group.results, group.oldest]),
    );
  }
  if (options.verbose === true && groups.length > 0) {
    await printRuns(store.readDueRuns(selection ?? {}));
  }
}

async function printRuns(pages: AsyncIterable<readonly DueRun[]>): Promise<void> {
  printLine();
  const print = openTable(['run', 'tenant', 'bucket', 'key', 'completed']);
  for await (const runs of pages) {
    print(
      runs.map((each) => [each.run_id, each.tenant_id, each.bucket, each.key, each.completed_at]),
    );
  }
}

function isRefused({ bucket }: DueGroup, { allowedBuckets }: DryRunOptions): boolean {
  return allowedBuckets?.includes(bucket) === false;
}

function describeGroup(group: DueGroup, options: DryRunOptions): object {
  const { tenant_id, bucket, results, oldest } = group;
  const refusal = isRefused(group, options) ? { refused: 'bucket not allowed' } : {};
  return { tenant_id, bucket, results, oldest, ...refusal };
}

function sumOf(groups: readonly DueGroup[]): number {
  return groups.reduce((total, { results }) => total + results, 0);
}
