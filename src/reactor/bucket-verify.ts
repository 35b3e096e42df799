import { countOf } from '../numbers.ts';
import { RetentionError } from '../errors.ts';
import { withLinkedAbort } from '../lifecycle/linked-abort.ts';
import { Semaphore } from '../lifecycle/semaphore.ts';
import type { Logger } from '../logger.ts';
import type { ListedObject, ObjectListing } from '../objects/abilities.ts';
import { isOwnKey } from '../objects/own-keys.ts';
import { ObjectStoreError } from '../objects/store-failure.ts';
import { compareUtf8 } from '../objects/utf8-order.ts';
import { MISSING_PAGE, type MissingResult } from '../store/drift.ts';
import type { Store } from '../store/store.ts';
import type { VerifyPart, VerifyProgress } from '../store/verify-progress.ts';
import { type SecondLookOptions, findGone, findGoneSingly, keyBefore } from './second-look.ts';
import { dropReturnedThatAreGone, noteInventory } from './verify-inventory.ts';

/** What the verify of one bucket works with. */
export interface BucketVerifyOptions {
  readonly store: Store;
  readonly listing: ObjectListing;
  readonly logger: Logger;
  readonly bucket: string;
  readonly progress: VerifyProgress;
  readonly dryRun: boolean;
  readonly repair: boolean;
  readonly confirmed: boolean;
  /** What an inventory lists: then the store is asked for no listing. */
  readonly inventory?: AsyncIterable<readonly ListedObject[]> | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onListed: (objects: number) => void;
  /** Told of results that are gone before they are due; throws when they are too many. */
  readonly onTooSoon: (results: number) => void;
}

/** So many parts of a bucket are listed at once. */
const SIDE_BY_SIDE = 4;

/** With more live results gone before they are due than this, the store is probably the wrong one. */
export const MOST_TOO_SOON = 1_000;

/** With so many missing results that are not due, it is asked at once whether this is the wrong store. */
const MANY_TOO_SOON = 10_000;

/**
 * Compares one bucket with the rows, part by part. A page is listed, compared and written down before the next one of its
 * part is asked for, so that what was broken off repeats one page of each part at most. Results whose key is not listed
 * wait until their part has been listed to its end, which shows that the store lists in order, and are looked for again.
 */
export class BucketVerify {
  readonly #options: BucketVerifyOptions;
  #isUnsorted: boolean;
  #parts: readonly VerifyPart[] = [];
  #listed = 0;
  #stamped = 0;
  #notDue = 0;
  #goneEarly = 0;
  #asksEarly = true;

  constructor(options: BucketVerifyOptions) {
    this.#options = options;
    this.#isUnsorted = options.progress.isUnsorted;
  }

  get bucket(): string {
    return this.#options.bucket;
  }

  get progress(): VerifyProgress {
    return this.#options.progress;
  }

  get listed(): number {
    return this.#listed;
  }

  get stamped(): number {
    return this.#stamped;
  }

  /**
   * @throws ObjectStoreError when the bucket cannot be looked at to its end.
   * @throws RefusedError from `onTooSoon`.
   * @throws RetentionError when another verify has taken over.
   */
  async compare(): Promise<void> {
    await this.#readParts();
    const { store: noted, inventory } = this.#options;
    const { verifyId } = this.progress;
    await noteInventory(noted, verifyId, inventory, (objects) => this.#count(objects));
    const [first] = this.#parts;
    if (first !== undefined && first.tooSoon > 0) this.#options.onTooSoon(first.tooSoon);
    try {
      await this.#compareParts();
    } catch (error) {
      const { listing, store, logger, bucket } = this.#options;
      const isUnsorted = error instanceof ObjectStoreError && error.code === 'UnsortedListing';
      if (!isUnsorted || this.#isUnsorted || listing.listUnsorted === undefined) throw error;
      logger.info(`Bucket ${bucket} lists out of order: it is listed again and sorted here`);
      this.#isUnsorted = true;
      await this.#keep(store.unsortVerify(this.progress));
      await this.#readParts();
      await this.#compareParts();
    }
  }

  /** Stamps what is gone before it was due, when it is still gone. */
  async stampTooSoon(): Promise<void> {
    const { store, bucket } = this.#options;
    for (;;) {
      const found = await store.nextStretch(this.progress.verifyId, undefined);
      if (found === undefined) return;
      const gone = await this.#findGoneSingly(found.missing);
      const stamped = await this.#stamp(bucket, gone);
      const looked = { stamped, tooSoon: [] };
      await this.#keep(store.noteStretch(this.progress, found.stretchId, looked));
    }
  }

  async #readParts(): Promise<void> {
    this.#parts = await this.#options.store.verifyParts(this.progress.verifyId);
    const sum = (of: 'listed' | 'stamped'): number =>
      this.#parts.reduce((all, part) => all + part[of], 0);
    this.#listed = sum('listed');
    this.#stamped = sum('stamped');
    if (this.#listed > 0) this.#options.onListed(0);
  }

  async #compareParts(): Promise<void> {
    const places = new Semaphore(SIDE_BY_SIDE);
    await withLinkedAbort(this.#options.signal, async (others) => {
      const all = this.#parts.map((part) =>
        places
          .run(others.signal, () => this.#comparePart(part, others.signal))
          .catch((error: unknown) => {
            // The first failure ends the others, and is the one that is told.
            others.abort(error);
            throw others.signal.reason;
          }),
      );
      const ended = await Promise.allSettled(all);
      const failed = ended.find((each) => each.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
    });
  }

  async #comparePart(part: VerifyPart, signal: AbortSignal): Promise<void> {
    const { store, inventory } = this.#options;
    if (part.isCompared) return;
    if (this.#isUnsorted) {
      if (!part.isListed && inventory === undefined) await this.#noteListing(part, signal);
      await this.#comparePages(part, this.#notedPages(part));
    } else if (!part.isListed) {
      await this.#comparePages(part, this.#listedPages(part, signal));
    }
    await this.#keep(store.notePartDone(this.progress, part.part, 'listed'));
    await this.#lookAgain(part, signal);
    await this.#keep(store.notePartDone(this.progress, part.part, 'compared'));
  }

  #listedPages(part: VerifyPart, signal: AbortSignal): AsyncIterable<readonly ListedObject[]> {
    const { listing, bucket } = this.#options;
    const startAfter = part.atKey ?? part.afterKey;
    return listing.listObjects(bucket, { prefix: part.prefix, startAfter, signal });
  }

  async *#notedPages(part: VerifyPart): AsyncGenerator<readonly ListedObject[]> {
    let after = part.atKey;
    for (;;) {
      const { verifyId } = this.progress;
      const page = await this.#options.store.nextListed(verifyId, part.prefix, after);
      if (page.length === 0) return;
      after = page.at(-1)?.key;
      yield page;
    }
  }

  /** What a store lists in no order is noted, to be read in order after that. */
  async #noteListing(part: VerifyPart, signal: AbortSignal): Promise<void> {
    const { listing, store, bucket } = this.#options;
    const { prefix } = part;
    let from = part.token;
    const pages = listing.listUnsorted?.(bucket, { prefix, token: from, signal }) ?? [];
    for await (const { objects, token } of pages) {
      const kept = objects.filter(({ key }) => !key.includes('\0'));
      await store.noteListed(this.progress.verifyId, kept);
      // The last page has none: what is broken off after it lists it again.
      from = token ?? from;
      const page = { listed: objects.length, token: from };
      await this.#keep(store.noteVerified(this.progress, part.part, page));
      this.#count(objects.length);
    }
    await this.#keep(store.notePartDone(this.progress, part.part, 'listed'));
  }

  async #comparePages(
    part: VerifyPart,
    pages: AsyncIterable<readonly ListedObject[]>,
  ): Promise<void> {
    let after = part.atKey ?? part.afterKey;
    let uncounted = 0;
    for await (const page of pages) {
      const within = page.filter(
        ({ key }) => part.untilKey === undefined || compareUtf8(key, part.untilKey) <= 0,
      );
      if (!this.#isUnsorted) {
        uncounted += within.length;
        this.#count(within.length);
      }
      // Postgres texts cannot hold U+0000, so no row points at such a key.
      const objects = within.filter(({ key }) => !key.includes('\0') && !isOwnKey(key));
      const until = objects.at(-1)?.key;
      if (until !== undefined) {
        await this.#compare(part, { after, until, objects, listed: uncounted });
        after = until;
        uncounted = 0;
      }
      if (within.length < page.length) break;
    }
    const { untilKey: until } = part;
    await this.#compare(part, { after, until, objects: [], listed: uncounted });
  }

  #count(objects: number): void {
    this.#listed += objects;
    this.#options.onListed(objects);
  }

  async #compare(
    part: VerifyPart,
    stretch: {
      readonly after: string | undefined;
      readonly until: string | undefined;
      readonly objects: readonly ListedObject[];
      readonly listed: number;
    },
  ): Promise<void> {
    const { store, bucket, repair } = this.#options;
    const { prefix } = part;
    const { until, objects, listed } = stretch;
    let { after } = stretch;
    for (;;) {
      const missing = await store.compareListing(this.progress, {
        bucket,
        prefix,
        after,
        until,
        objects,
      });
      const isLast = !repair || missing.length < MISSING_PAGE;
      // Where a thousand are missing and more follow, all is compared up to the last of them.
      const atKey = isLast ? until : missing.at(-1)?.key;
      const page = {
        atKey,
        listed: isLast ? listed : 0,
        ...(repair ? { missing, afterKey: keyBefore(missing, objects, after) } : {}),
      };
      await this.#keep(store.noteVerified(this.progress, part.part, page));
      if (repair) await this.#askEarly(missing);
      if (isLast) return;
      after = atKey;
    }
  }

  /** A wrong store is not listed to its end before it shows. */
  async #askEarly(missing: readonly MissingResult[]): Promise<void> {
    const { dryRun, confirmed, onTooSoon } = this.#options;
    const notDue = missing.filter(({ isDue }) => !isDue);
    this.#notDue += notDue.length;
    if (!this.#asksEarly || dryRun || confirmed || this.#notDue <= MANY_TOO_SOON) return;
    this.#asksEarly = false;
    const gone = await this.#findGoneSingly(notDue);
    this.#goneEarly += gone.length;
    this.#asksEarly = gone.length > notDue.length / 2;
    // Their second look counts them; here it only stops what is too much already.
    if (this.#goneEarly > MOST_TOO_SOON) onTooSoon(this.#goneEarly);
  }

  /** Looks again for what was not listed: only what is not there now either is gone. */
  async #lookAgain(part: VerifyPart, signal: AbortSignal): Promise<void> {
    const { store, logger, bucket, dryRun, confirmed, onTooSoon } = this.#options;
    for (;;) {
      const found = await store.nextStretch(this.progress.verifyId, part.part);
      if (found === undefined) return;
      const { missing, afterKey: after, stretchId } = found;
      const keys = [...new Set(missing.map(({ key }) => key))];
      const where = this.#isUnsorted ? undefined : { prefix: part.prefix, after };
      const goneKeys = await findGone(bucket, keys, where, this.#secondLook(signal));
      const gone = missing.filter(({ key }) => goneKeys.has(key));
      const tooSoon = gone.filter(({ isDue }) => !isDue);
      onTooSoon(tooSoon.length);
      for (const { runId } of tooSoon.slice(0, 10)) {
        logger.warning(`The object of run ${runId} is gone before it was due`, { bucket });
      }
      const isAll = dryRun || confirmed;
      const stamped = await this.#stamp(bucket, isAll ? gone : gone.filter(({ isDue }) => isDue));
      const places = isAll
        ? []
        : missing.flatMap((each, place) => (tooSoon.includes(each) ? [place + 1] : []));
      const looked = { stamped, tooSoon: places };
      await this.#keep(store.noteStretch(this.progress, stretchId, looked));
    }
  }

  async #findGoneSingly(missing: readonly MissingResult[]): Promise<readonly MissingResult[]> {
    const { bucket, signal } = this.#options;
    const keys = [...new Set(missing.map(({ key }) => key))];
    const gone = await findGoneSingly(bucket, keys, this.#secondLook(signal));
    return missing.filter(({ key }) => gone.has(key));
  }

  #secondLook(signal: AbortSignal | undefined): SecondLookOptions {
    const { listing, inventory } = this.#options;
    return { listing, signal, without: inventory === undefined ? undefined : 'listing' };
  }

  /** Takes out what an inventory lists and was deleted since. Returns how much that is. */
  async dropReturnedThatAreGone(): Promise<number> {
    const { inventory, store, bucket, signal } = this.#options;
    if (inventory === undefined) return 0;
    return dropReturnedThatAreGone(store, this.progress.verifyId, bucket, this.#secondLook(signal));
  }

  async #stamp(bucket: string, gone: readonly MissingResult[]): Promise<number> {
    if (gone.length === 0) return 0;
    const { store, logger, dryRun } = this.#options;
    const stamped = dryRun ? gone.length : await store.stampGone(bucket, gone);
    this.#stamped += stamped;
    if (stamped < gone.length) {
      const left = countOf(gone.length - stamped, 'result');
      logger.warning(`${left} not stamped, though the object is gone`, { bucket });
    }
    return stamped;
  }

  async #keep(noting: Promise<boolean>): Promise<void> {
    if (await noting) return;
    throw new RetentionError(
      `another verify of bucket ${this.bucket} has taken over, and goes on where this one was`,
      { remedy: 'Let one of them run.' },
    );
  }
}
