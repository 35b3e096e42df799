import { countOf } from '../numbers.ts';
import { RefusedError, UsageError } from '../errors.ts';
import { prefetch } from '../lifecycle/prefetch.ts';
import type { Logger } from '../logger.ts';
import type { ListedObject } from '../objects/abilities.ts';
import { isOwnKey } from '../objects/own-keys.ts';
import type { ObjectStore } from '../objects/object-store.ts';
import { ObjectStoreError } from '../objects/store-failure.ts';
import {
  MISSING_PAGE,
  type ListedStretch,
  type MissingResult,
  type Orphan,
  type VerifyStart,
} from '../store/drift.ts';
import type { Store } from '../store/store.ts';
import { refuseWhileClosed } from './gate.ts';

/** What a verify works with and looks at. */
export interface VerifyOptions {
  readonly store: Store;
  /** Must be able to list. */
  readonly objects: Required<Pick<ObjectStore, 'listing'>>;
  readonly logger: Logger;
  readonly buckets: readonly string[];
  /** The buckets that may be looked at and stamped for. Default: any. */
  readonly allowedBuckets?: readonly string[] | undefined;
  /** Only keys that begin with this. Default: all. */
  readonly prefix?: string | undefined;
  /** Report what would be done, and change nothing. */
  readonly dryRun?: boolean | undefined;
  /** Whether drift is repaired. Default: true. */
  readonly repair?: boolean | undefined;
  /** Stamp results that are gone before they are due, however many. */
  readonly confirmed?: boolean | undefined;
  /** Younger orphans are not reported. At least 3,600. Default: 86,400. */
  readonly orphanMarginSeconds?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Told of the orphans of each bucket, in the order of keys. Default: they are only counted. */
  readonly onOrphans?: (bucket: string, orphans: readonly Orphan[]) => Promise<void>;
  readonly onProgress?: (objects: number) => void;
}

/** What a verify found and did; in a dry run, what it would do. */
export interface Verification {
  /** Objects that were listed. */
  readonly listed: number;
  /** Live rows whose object is gone: stamped. */
  readonly stamped: number;
  /** Cleared rows whose object is back: made work again. */
  readonly requeued: number;
  readonly orphans: {
    readonly objects: number;
    readonly bytes: number;
  };
  /** Buckets that could not be looked at to their end, and why; the others were. */
  readonly failedBuckets: readonly FailedBucket[];
  /** Buckets that are known but not allowed, and so were passed by. */
  readonly passedBy: readonly string[];
}

/** Why a bucket could not be looked at; keys as in the command line's JSON. */
export interface FailedBucket {
  readonly bucket: string;
  readonly code: string;
  readonly reason: string;
}

/** With more live results gone before they are due than this, the store is probably the wrong one. */
const SUSPICIOUS_RESULTS = 1_000;

/** An object younger than this is no orphan, since its row may still come. */
const DEFAULT_MARGIN_SECONDS = 86_400;

const SMALLEST_MARGIN_SECONDS = 3_600;

/** Requests under way at once when S3 is asked for single objects. */
const LOOKS_AT_ONCE = 16;

/**
 * Looks for drift both ways, and for orphans: streams each bucket's sorted listing against the rows
 * in key order. Memory is constant, and no transaction is open while S3 is asked.
 *
 * A bucket that is missing, closed or not allowed is named, and the others are looked at.
 *
 * @throws RefusedError when so much is gone that this looks like the wrong store.
 * @throws UsageError for a margin of less than an hour.
 * @throws DatabaseError
 */
export async function verify(options: VerifyOptions): Promise<Verification> {
  const { orphanMarginSeconds: margin = DEFAULT_MARGIN_SECONDS } = options;
  // Also where it is not a number.
  if (!(margin >= SMALLEST_MARGIN_SECONDS)) {
    throw new UsageError(`expected a margin of at least an hour; given ${margin} seconds`, {
      remedy: 'A younger object may be an upload whose row is still to come.',
    });
  }
  return new VerifyRun(options).run();
}

class VerifyRun {
  readonly #options: VerifyOptions;
  #listed = 0;
  #stamped = 0;
  #goneTooSoon = 0;
  readonly #passedBy: readonly string[];
  readonly #failed = new Map<string, FailedBucket>();
  /** Stamped at the end, when there are not too many of them. */
  readonly #suspicious: { readonly bucket: string; readonly gone: readonly MissingResult[] }[] = [];

  constructor(options: VerifyOptions) {
    // A bucket that is named twice is looked at once.
    const buckets = [...new Set(options.buckets)];
    const { allowedBuckets } = options;
    const isAllowed = (bucket: string): boolean => allowedBuckets?.includes(bucket) !== false;
    this.#options = { ...options, buckets: buckets.filter(isAllowed) };
    this.#passedBy = buckets.filter((bucket) => !isAllowed(bucket));
  }

  async run(): Promise<Verification> {
    const {
      store,
      buckets,
      dryRun = false,
      repair = true,
      orphanMarginSeconds = DEFAULT_MARGIN_SECONDS,
    } = this.#options;
    if (!dryRun) await refuseWhileClosed(this.#options.store);
    const start = await store.beginVerify();
    try {
      for (const bucket of this.#passedBy) {
        this.#options.logger.warning(`Bucket ${bucket} is passed by: it is not allowed`, {
          bucket,
        });
      }
      for (const bucket of buckets) {
        await this.#apart(bucket, () => this.#compareBucket(start, bucket));
      }
      for (const { bucket, gone } of this.#suspicious) await this.#stamp(bucket, gone);
      const strays = await store.sortStrays(start, orphanMarginSeconds);
      const requeued =
        dryRun || !repair || strays.returned === 0
          ? strays.returned
          : await store.requeueReturned(start);
      await this.#tellOrphans(start, orphanMarginSeconds);
      return {
        listed: this.#listed,
        stamped: this.#stamped,
        requeued,
        orphans: { objects: strays.orphans, bytes: strays.orphanBytes },
        failedBuckets: [...this.#failed.values()],
        passedBy: this.#passedBy,
      };
    } finally {
      await store.forgetStrays(start.verifyId);
    }
  }

  /** What S3 refuses of one bucket is noted, and stops no other. */
  async #apart(bucket: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const isItsOwn = error instanceof ObjectStoreError && error.kind !== 'aborted';
      if (!isItsOwn) throw error;
      const { code, reason } = error;
      this.#failed.set(bucket, { bucket, code, reason });
      this.#options.logger.error(`Bucket ${bucket} cannot be verified: ${code} ${reason}`, {
        bucket,
      });
    }
  }

  async #compareBucket(start: VerifyStart, bucket: string): Promise<void> {
    const { listing } = this.#options.objects;
    const { prefix = '', signal } = this.#options;
    let after: string | undefined;
    // One page is compared while S3 lists the next.
    let comparing: Promise<void> = Promise.resolve();
    for await (const page of prefetch(listing.listObjects(bucket, { prefix, signal }))) {
      this.#count(page);
      // Postgres texts cannot hold U+0000, so no row points at such a key.
      const objects = page.filter(({ key }) => !key.includes('\0') && !isOwnKey(key));
      const until = objects.at(-1)?.key;
      if (until === undefined) continue;
      await comparing;
      comparing = this.#compare(start, { bucket, prefix, after, until, objects });
      // Its failure is thrown where it is awaited, before the next page.
      comparing.catch(() => undefined);
      after = until;
    }
    await comparing;
    await this.#compare(start, { bucket, prefix, after, until: undefined, objects: [] });
  }

  #count(objects: readonly ListedObject[]): void {
    this.#listed += objects.length;
    this.#options.onProgress?.(this.#listed);
  }

  async #compare(start: VerifyStart, stretch: ListedStretch): Promise<void> {
    const { store } = this.#options;
    let { after } = stretch;
    for (;;) {
      const missing = await store.compareListing(start, { ...stretch, after });
      if (this.#options.repair !== false) await this.#stampGone(stretch.bucket, missing);
      if (missing.length < MISSING_PAGE) return;
      after = missing.at(-1)?.key;
    }
  }

  /** A listing may be older than the row: each object is asked for by name before its row is stamped. */
  async #stampGone(bucket: string, missing: readonly MissingResult[]): Promise<void> {
    const { logger, dryRun = false, confirmed = false } = this.#options;
    const keys = [...new Set(missing.map((each) => each.key))];
    const goneKeys = new Set<string>();
    for (let index = 0; index < keys.length; index += LOOKS_AT_ONCE) {
      const some = keys.slice(index, index + LOOKS_AT_ONCE);
      const states = await Promise.all(some.map((key) => this.#isGone(bucket, key)));
      for (const [place, key] of some.entries()) if (states[place] === true) goneKeys.add(key);
    }
    const gone = missing.filter((each) => goneKeys.has(each.key));
    const tooSoon = gone.filter((each) => !each.isDue);
    this.#goneTooSoon += tooSoon.length;
    if (this.#goneTooSoon > SUSPICIOUS_RESULTS && !confirmed && !dryRun) {
      throw new RefusedError(
        `More than ${SUSPICIOUS_RESULTS} live results that are not due have no object in ${bucket}: ` +
          'this looks like the wrong bucket or store. None of them was stamped.',
        { remedy: 'If the objects are really gone, say --yes.' },
      );
    }
    for (const each of tooSoon.slice(0, 10)) {
      logger.warning(`The object of run ${each.runId} is gone before it was due`, { bucket });
    }
    if (dryRun || confirmed) {
      await this.#stamp(bucket, gone);
      return;
    }
    const due = gone.filter((each) => each.isDue);
    await this.#stamp(bucket, due);
    if (tooSoon.length > 0) this.#suspicious.push({ bucket, gone: tooSoon });
  }

  async #stamp(bucket: string, gone: readonly MissingResult[]): Promise<void> {
    if (gone.length === 0) return;
    const { store, logger, dryRun = false } = this.#options;
    const stamped = dryRun ? gone.length : await store.stampGone(bucket, gone);
    this.#stamped += stamped;
    if (stamped < gone.length) {
      logger.warning(
        `${countOf(gone.length - stamped, 'result')} whose object is gone ${gone.length - stamped === 1 ? 'was' : 'were'} not stamped`,
        {
          bucket,
        },
      );
    }
  }

  async #isGone(bucket: string, key: string): Promise<boolean> {
    const found = await this.#options.objects.listing.headObject(bucket, key, {
      signal: this.#options.signal,
    });
    return found.state === 'gone';
  }

  async #tellOrphans({ verifyId }: VerifyStart, marginSeconds: number): Promise<void> {
    const { store, signal, onOrphans, buckets } = this.#options;
    if (onOrphans === undefined) return;
    for (const bucket of buckets) {
      let after: string | undefined;
      for (;;) {
        signal?.throwIfAborted();
        const request = { verifyId, bucket, after, marginSeconds, limit: 1_000 };
        const found = await store.nextOrphans(request);
        if (found.length === 0) break;
        after = found.at(-1)?.key;
        await onOrphans(
          bucket,
          found.filter((orphan) => orphan.stillOrphan),
        );
      }
    }
  }
}
