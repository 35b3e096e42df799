import type { ListedObject, ObjectListing, ObjectState } from '../../objects/abilities.ts';
import { compareUtf8 } from '../../objects/utf8-order.ts';
import type { ListedOrphan } from './list-file.ts';

/** What an object is now, beside what its list says. */
export type OrphanState = 'unchanged' | 'changed' | 'gone' | 'denied';

/** Where keys lie closer together than this, one page of a listing tells of many at once. */
const MOST_LISTING_PAGES = 16;

/** Requests under way at once when S3 is asked for single objects. */
const LOOKS_AT_ONCE = 16;

/**
 * Looks at objects again that a list names, in its order: first at the stretch of the bucket's listing that they lie
 * in, and one by one at those that a few pages do not reach.
 *
 * @param after a key before the first of them, with no other orphan between; undefined: none is known.
 * @throws ObjectStoreError when the store did not answer.
 */
export async function lookAtOrphans(
  listing: ObjectListing,
  bucket: string,
  orphans: readonly ListedOrphan[],
  { after, prefix, signal }: { after: string | undefined; prefix: string; signal: AbortSignal },
): Promise<ReadonlyMap<string, OrphanState>> {
  const states = new Map<string, OrphanState>();
  const last = orphans.at(-1)?.key;
  if (last === undefined) return states;
  const wanted = new Map(orphans.map((orphan) => [orphan.key, orphan]));
  let reached: string | undefined;
  let isCutOff = false;
  let pages = 0;
  for await (const page of listing.listObjects(bucket, { prefix, startAfter: after, signal })) {
    for (const object of page) {
      const orphan = wanted.get(object.key);
      if (orphan !== undefined) states.set(object.key, compare(orphan, object));
    }
    reached = page.at(-1)?.key ?? reached;
    pages += 1;
    if (reached !== undefined && compareUtf8(reached, last) >= 0) break;
    isCutOff = pages >= MOST_LISTING_PAGES;
    if (isCutOff) break;
  }
  const isLeft = (key: string): boolean =>
    isCutOff && (reached === undefined || compareUtf8(key, reached) > 0);
  const left = orphans.filter(({ key }) => isLeft(key));
  for (let index = 0; index < left.length; index += LOOKS_AT_ONCE) {
    await Promise.all(
      left.slice(index, index + LOOKS_AT_ONCE).map(async (orphan) => {
        const found = await listing.headObject(bucket, orphan.key, { signal });
        states.set(orphan.key, compareState(orphan, found));
      }),
    );
  }
  for (const { key } of orphans) if (!states.has(key)) states.set(key, 'gone');
  return states;
}

function compareState(orphan: ListedOrphan, found: ObjectState): OrphanState {
  if (found.state !== 'exists') return found.state;
  const { size = orphan.bytes, lastModified } = found;
  // What has no date may be another object.
  if (lastModified === undefined) return 'changed';
  return compare(orphan, { size, lastModified });
}

/** A reply about one object has whole seconds, a listing may have more. */
function compare(
  { bytes, modifiedAt, etag }: ListedOrphan,
  found: Pick<ListedObject, 'size' | 'lastModified' | 'etag'>,
): OrphanState {
  const { size, lastModified } = found;
  const isSame =
    size === bytes &&
    secondsOf(modifiedAt) === secondsOf(lastModified) &&
    (found.etag ?? etag) === (etag ?? found.etag);
  return isSame ? 'unchanged' : 'changed';
}

function secondsOf(date: Date): number {
  return Math.floor(date.getTime() / 1_000);
}
