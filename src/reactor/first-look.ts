import type { ObjectListing } from '../objects/abilities.ts';
import type { Store } from '../store/store.ts';

/** What of a store and of the database a look needs. */
export interface LookOptions {
  readonly listing: Pick<ObjectListing, 'headObject'>;
  /** How the store is called. */
  readonly place: string;
  readonly store: Pick<Store, 'noteLook'>;
  readonly signal?: AbortSignal | undefined;
  /** Earlier looks are forgotten. Default: false. */
  readonly again?: boolean;
}

/** What a look showed. */
export interface Look {
  readonly looked: number;
  readonly missing: readonly string[];
  /** Whether the database lets deletions go on. */
  readonly mayGoOn: boolean;
}

/** So many keys of a batch are looked for. */
export const KEYS_LOOKED_FOR = 20;

/** A key that is written as a URL or a path. */
const WRITTEN_AS_PLACE = /^(?:[a-z0-9]+:\/\/[^/]*)?\/(?<rest>.+)$/u;

/**
 * Looks whether some keys have objects, before the first of them is deleted in a store: S3 says "deleted" of what
 * never was, so a wrong key column or a wrong store would stamp every row and delete nothing. Keys that may not be
 * looked at count for nothing.
 *
 * @throws ObjectStoreError when the bucket does not exist, or the store did not answer.
 * @throws DatabaseError
 */
export async function lookForObjects(
  bucket: string,
  keys: readonly string[],
  { listing, place, store, signal, again = false }: LookOptions,
): Promise<Look> {
  const chosen = spread(keys, KEYS_LOOKED_FOR);
  const states = await Promise.all(
    chosen.map(async (key) => {
      const { state } = await listing.headObject(bucket, key, { signal });
      return { key, state };
    }),
  );
  const looked = states.filter(({ state }) => state !== 'denied').length;
  const missing = states.filter(({ state }) => state === 'gone').map(({ key }) => key);
  const written = missing.toSorted((a, b) => Number(isPlace(b)) - Number(isPlace(a)));
  const mayGoOn = await store.noteLook(bucket, { place, looked, missing: written, again });
  return { looked, missing: written, mayGoOn };
}

function isPlace(key: string): boolean {
  return WRITTEN_AS_PLACE.test(key);
}

/** Some of a list, from all over it. */
function spread<Item>(items: readonly Item[], most: number): readonly Item[] {
  if (items.length <= most) return items;
  return items.filter(
    (_item, index) =>
      Math.floor((index * most) / items.length) !== Math.floor(((index - 1) * most) / items.length),
  );
}
