import type { Config } from '../config/config.ts';
import type { Logger } from '../logger.ts';
import { createProgress } from './progress.ts';

/** A listing that takes longer than this is worth a question to the database. */
const ASK_AFTER_MILLISECONDS = 2_000;

/**
 * Shows how far a listing has come. How many objects there are is estimated by the live results that the database has, where
 * all of them are listed.
 *
 * @param about `isNarrowed`: only some of the objects are listed, so nothing tells how many there are.
 */
export async function withListingProgress<Result>(
  about: { readonly config: Config; readonly logger: Logger; readonly isNarrowed: boolean },
  work: (onProgress: (listed: number) => void) => Promise<Result>,
): Promise<Result> {
  const progress = await createProgress({ one: 'object', verb: 'listed', isEstimate: true });
  const beganAt = performance.now();
  let estimate = 0;
  const ask = async (): Promise<void> => {
    estimate = await estimateLive(about.config, about.logger);
  };
  let asking: Promise<void> | undefined;
  try {
    return await work((listed) => {
      const isLong = performance.now() - beganAt > ASK_AFTER_MILLISECONDS;
      if (isLong && !about.isNarrowed) asking ??= ask();
      progress.update(listed, estimate);
    });
  } finally {
    progress.end();
    await asking;
  }
}

/** How many results are live, by an estimate; 0 where the database does not say so. */
async function estimateLive(config: Config, logger: Logger): Promise<number> {
  const { withStore } = await import('../assembly-store.ts');
  try {
    const { live_estimate: live } = await withStore({ config, logger }, (store) =>
      store.readStatus(),
    );
    return live;
  } catch {
    // A figure for people is missing then; what it is about goes on.
    return 0;
  }
}
