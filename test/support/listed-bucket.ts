import type {
  ListedObject,
  ListingRequest,
  ObjectListing,
  UnsortedRequest,
} from '../../src/objects/abilities.ts';
import { ObjectStoreError } from '../../src/objects/store-failure.ts';
import { compareUtf8 } from '../../src/objects/utf8-order.ts';

/** What a listing was asked. */
export interface AskedPage {
  readonly prefix: string;
  readonly after: string | undefined;
}

/** A bucket that lists, of which a test sees each request. */
export interface ListedBucket {
  readonly listing: ObjectListing;
  readonly keys: Set<string>;
  /** One for each LIST request, in their order. */
  readonly pages: AskedPage[];
  /** One for each object that was asked for by name. */
  readonly heads: string[];
  /** Called before each LIST request is answered: may wait, change the keys, or throw. */
  beforePage: (page: AskedPage) => Promise<void> | void;
}

/** Makes a bucket of some keys, all of them two days old, with pages of `pageSize`. */
export function listedBucket(
  keys: Iterable<string>,
  { pageSize = 2, isUnsorted = false } = {},
): ListedBucket {
  const bucket: ListedBucket = {
    keys: new Set(keys),
    pages: [],
    heads: [],
    beforePage: () => undefined,
    listing: {
      listObjects: (_name, request) => sorted(request),
      listUnsorted: (_name, request) => unsorted(request),
      headObject: (_name, key) => {
        bucket.heads.push(key);
        return Promise.resolve(bucket.keys.has(key) ? { state: 'exists' } : { state: 'gone' });
      },
    },
  };
  const ask = async (prefix: string, after: string | undefined): Promise<void> => {
    bucket.pages.push({ prefix, after });
    await bucket.beforePage({ prefix, after });
  };
  const found = (prefix: string): string[] =>
    [...bucket.keys].filter((key) => key.startsWith(prefix));
  const shown = (key: string): ListedObject => ({
    key,
    size: 7,
    lastModified: new Date(Date.now() - 48 * 3_600_000),
  });
  async function* sorted({ prefix = '', startAfter: from, signal }: ListingRequest = {}) {
    let after = from;
    for (;;) {
      signal?.throwIfAborted();
      await ask(prefix, after);
      if (isUnsorted) {
        throw new ObjectStoreError({
          kind: 'malformed',
          code: 'UnsortedListing',
          reason: 'mixed',
          bucket: 'dpp-results',
          outcome: 'failed',
          concerns: 'bucket',
          final: false,
        });
      }
      const left = found(prefix)
        .filter((key) => after === undefined || compareUtf8(key, after) > 0)
        .toSorted(compareUtf8);
      const page = left.slice(0, pageSize).map(shown);
      if (page.length > 0) yield page;
      if (left.length <= pageSize) return;
      after = page.at(-1)?.key;
    }
  }
  async function* unsorted({ prefix = '', token: from }: UnsortedRequest = {}) {
    let token: string | undefined = from;
    do {
      await ask(prefix, token);
      const start = Number(token ?? 0);
      // Backwards, so that no two keys are in order.
      const all = found(prefix).toSorted(compareUtf8).toReversed();
      const next = start + pageSize;
      token = next < all.length ? String(next) : undefined;
      yield { objects: all.slice(start, next).map(shown), token };
    } while (token !== undefined);
  }
  return bucket;
}
