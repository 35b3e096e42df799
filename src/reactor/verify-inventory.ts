import { prefetch } from '../lifecycle/prefetch.ts';
import type { ListedObject } from '../objects/abilities.ts';
import type { Store } from '../store/store.ts';
import { type SecondLookOptions, findThere } from './second-look.ts';

/** Notes what an inventory lists, to be read in the order of keys after that. */
export async function noteInventory(
  store: Pick<Store, 'noteListed'>,
  verifyId: string,
  inventory: AsyncIterable<readonly ListedObject[]> | undefined,
  onListed: (objects: number) => void,
): Promise<void> {
  if (inventory === undefined) return;
  for await (const objects of prefetch(inventory)) {
    await store.noteListed(
      verifyId,
      objects.filter(({ key }) => !key.includes('\0')),
    );
    onListed(objects.length);
  }
}

/**
 * An inventory may be older than a deletion: of cleared rows only those are back whose object is there now. Returns how
 * many keys were not.
 *
 * @throws ObjectStoreError
 */
export async function dropReturnedThatAreGone(
  store: Pick<Store, 'nextReturned' | 'dropStrays'>,
  verifyId: string,
  bucket: string,
  look: SecondLookOptions,
): Promise<number> {
  let dropped = 0;
  let after: string | undefined;
  for (;;) {
    const keys = await store.nextReturned(verifyId, after);
    if (keys.length === 0) return dropped;
    after = keys.at(-1);
    const there = await findThere(bucket, keys, look);
    const gone = keys.filter((key) => !there.has(key));
    await store.dropStrays(verifyId, gone);
    dropped += gone.length;
  }
}
