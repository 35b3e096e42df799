import type { ListedObject, ObjectListing } from '../objects/abilities.ts';
import { compareUtf8 } from '../objects/utf8-order.ts';
import type { MissingResult } from '../store/drift.ts';

/** How missing keys of a stretch are looked for again. */
export interface SecondLookOptions {
  readonly listing: ObjectListing;
  readonly signal?: AbortSignal | undefined;
  /** `listing`: the store is asked for none. */
  readonly without?: 'listing' | undefined;
}

/** Requests under way at once when S3 is asked for single objects. */
const LOOKS_AT_ONCE = 16;

/** Up to so many keys are asked for one by one: a listing costs as much as a dozen of such requests. */
const MOST_SINGLE_LOOKS = 8;

/**
 * Which of some keys have no object now, by one listing of the stretch that they lie in, or key by key where they are few.
 *
 * @param keys in the order of bytes.
 * @param stretch what a listing begins with; undefined: the store lists in no order.
 * @throws ObjectStoreError
 */
export async function findGone(
  bucket: string,
  keys: readonly string[],
  stretch: { readonly prefix: string; readonly after: string | undefined } | undefined,
  options: SecondLookOptions,
): Promise<ReadonlySet<string>> {
  if (stretch === undefined || keys.length <= MOST_SINGLE_LOOKS) {
    return findGoneSingly(bucket, keys, options);
  }
  const { listing, signal } = options;
  const last = keys.at(-1) ?? '';
  const gone = new Set(keys);
  const pages = listing.listObjects(bucket, {
    prefix: stretch.prefix,
    startAfter: stretch.after,
    signal,
  });
  for await (const page of pages) {
    for (const { key } of page) gone.delete(key);
    if (compareUtf8(page.at(-1)?.key ?? '', last) >= 0) break;
  }
  return gone;
}

/**
 * Which of some keys have no object now, with one request for each.
 *
 * @throws ObjectStoreError
 */
export function findGoneSingly(
  bucket: string,
  keys: readonly string[],
  options: SecondLookOptions,
): Promise<ReadonlySet<string>> {
  return findIn('gone', bucket, keys, options);
}

/**
 * Which of some keys have an object now, with one request for each.
 *
 * @throws ObjectStoreError
 */
export function findThere(
  bucket: string,
  keys: readonly string[],
  options: SecondLookOptions,
): Promise<ReadonlySet<string>> {
  return findIn('exists', bucket, keys, options);
}

async function findIn(
  wanted: 'gone' | 'exists',
  bucket: string,
  keys: readonly string[],
  { listing, signal, without }: SecondLookOptions,
): Promise<ReadonlySet<string>> {
  const found = new Set<string>();
  for (let index = 0; index < keys.length; index += LOOKS_AT_ONCE) {
    const some = keys.slice(index, index + LOOKS_AT_ONCE);
    await Promise.all(
      some.map(async (key) => {
        const { state } = await listing.headObject(bucket, key, { signal, without });
        if (state === wanted) found.add(key);
      }),
    );
  }
  return found;
}

/** The last listed key before the first missing one. */
export function keyBefore(
  missing: readonly MissingResult[],
  objects: readonly ListedObject[],
  after: string | undefined,
): string | undefined {
  const [first] = missing;
  if (first === undefined) return after;
  const before = objects.findLast(({ key }) => compareUtf8(key, first.key) < 0)?.key;
  return before !== undefined && (after === undefined || compareUtf8(before, after) > 0)
    ? before
    : after;
}
