import { type LibraryOptions, withStore } from './assembly.ts';
import type { ExplanationThen, HistoryEntry, HistoryRequest } from './store/history.ts';

/**
 * Who changed what, and when: of everything, or of one tenant, run or setting; oldest first. Of a run also its receipts.
 *
 * @throws DatabaseError for what cannot be asked.
 */
export async function history(
  options: Omit<LibraryOptions, 'objects'> & HistoryRequest,
): Promise<readonly HistoryEntry[]> {
  return withStore(options, (store) => store.readHistory(options));
}

/**
 * Why the result of each run was kept at a time that has passed, or what had become of it.
 *
 * @throws DatabaseError for a time that has not come, or before changes were recorded.
 */
export async function explainAt(
  options: Omit<LibraryOptions, 'objects'> & {
    readonly runIds: readonly string[];
    readonly at: Date;
  },
): Promise<readonly ExplanationThen[]> {
  return withStore(options, (store) => store.explainAt(options.runIds, options.at));
}
