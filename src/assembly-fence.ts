import { type LibraryOptions, withStore } from './assembly.ts';
import { silentLogger } from './logger.ts';
import { withObjectStore } from './objects/open-object-store.ts';
import { type FenceReport, reportFence } from './reactor/fence-report.ts';

/**
 * Reads whether this database is the one that deletes or a copy of it, and what it may lack; with `accept` it is the
 * one that deletes from now on.
 *
 * @throws DatabaseError
 */
export async function fenceReport(
  options: LibraryOptions & { readonly accept?: { readonly reason?: string | undefined } },
): Promise<FenceReport> {
  const { config, logger = silentLogger, accept } = options;
  return withStore({ config, logger }, (store) =>
    withObjectStore(options, (objects) => reportFence({ config, store, objects, logger, accept })),
  );
}
