import { NEVER_ABORTED } from '../lifecycle/linked-abort.ts';
import { createRateLimit } from '../lifecycle/rate-limit.ts';
import type { ObjectListing } from './abilities.ts';

/**
 * The same listing with no more than `perSecond` requests a second, over all that ask. What the client repeats after a failure
 * is not counted.
 */
export function paceListing(
  listing: ObjectListing,
  perSecond: number,
  signal: AbortSignal = NEVER_ABORTED,
): ObjectListing {
  const limit = createRateLimit(perSecond);
  const turn = async (): Promise<void> => {
    await limit.inTurn(
      signal,
      () => Promise.resolve(),
      () => 1,
    );
    signal.throwIfAborted();
  };
  const paced = async function* <Page>(pages: AsyncIterable<Page>): AsyncGenerator<Page> {
    const iterator = pages[Symbol.asyncIterator]();
    try {
      for (;;) {
        await turn();
        const next = await iterator.next();
        if (next.done === true) return;
        yield next.value;
      }
    } finally {
      await iterator.return?.();
    }
  };
  const listUnsorted = listing.listUnsorted?.bind(listing);
  return {
    listObjects: (...rest) => paced(listing.listObjects(...rest)),
    ...(listUnsorted === undefined
      ? {}
      : { listUnsorted: (...rest) => paced(listUnsorted(...rest)) }),
    headObject: async (...rest) => {
      await turn();
      return listing.headObject(...rest);
    },
  };
}
