import { type LibraryOptions, withStore } from './assembly.ts';
import { checkSelection } from './store/scope.ts';
import type { DueGroup, DueRun, Selection } from './store/selection.ts';
import { type Store, createStore } from './store/store.ts';

/**
 * Lends a store that writes nothing, and whose functions all see the same rows.
 *
 * @throws DatabaseError
 */
export async function withSnapshot<Result>(
  options: Pick<LibraryOptions, 'config' | 'logger'>,
  work: (store: Store) => Promise<Result>,
): Promise<Result> {
  return withStore(options, (_store, database) =>
    database.withSnapshot((client) => work(createStore(client))),
  );
}

/**
 * What a reconcile of a selection would delete now, by tenant and bucket, and how many of it are not due by their
 * policy: with `early`, the number to pass as `expected`. Changes nothing.
 *
 * @throws UsageError for a selection that does not say what it means.
 * @throws DatabaseError
 */
export async function preview(
  options: Pick<LibraryOptions, 'config' | 'logger'> & { readonly selection: Selection },
): Promise<readonly DueGroup[]> {
  checkSelection(options.selection);
  return withStore(options, (store) => store.dueGroups(options.selection));
}

/**
 * The runs behind `preview`, oldest first and page by page: any number of them needs no more memory. Changes nothing.
 *
 * @throws UsageError for a selection that does not say what it means.
 * @throws DatabaseError
 */
export async function previewRuns(
  options: Pick<LibraryOptions, 'config' | 'logger'> & {
    readonly selection: Selection;
    /** Given each page in turn, and waited for. */
    readonly onRuns: (runs: readonly DueRun[]) => void | Promise<void>;
  },
): Promise<void> {
  checkSelection(options.selection);
  await withSnapshot(options, async (store) => {
    for await (const runs of store.readDueRuns(options.selection)) await options.onRuns(runs);
  });
}
