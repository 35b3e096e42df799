import { RefusedError, UsageError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { ObjectListing } from '../objects/abilities.ts';
import type { ObjectStore } from '../objects/object-store.ts';
import type { Inventory } from '../objects/inventory.ts';
import { readInventory } from '../objects/inventory-rows.ts';
import { paceListing } from '../objects/paced-listing.ts';
import { ObjectStoreError } from '../objects/store-failure.ts';
import type { Orphan } from '../store/drift.ts';
import type { Store } from '../store/store.ts';
import type { VerifyKind } from '../store/verify-progress.ts';
import { BucketVerify, MOST_TOO_SOON } from './bucket-verify.ts';
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
  /** Only keys that begin with this, or with one of these, which are listed side by side. Default: all. */
  readonly prefix?: string | readonly string[] | undefined;
  /** Begins again, instead of going on where the same verify was broken off. Default: false. */
  readonly restart?: boolean | undefined;
  /** False: nothing goes on with this verify when it is broken off. Default: true. */
  readonly keepsProgress?: boolean | undefined;
  /** Requests to S3, for all that is listed side by side. Default: any number. */
  readonly maxRequestsPerSecond?: number | undefined;
  /** What S3's inventories list stands for the listing of their buckets, which are all that are looked at. */
  readonly inventories?: readonly Inventory[] | undefined;
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

/** An object younger than this is no orphan, since its row may still come. */
const DEFAULT_MARGIN_SECONDS = 86_400;

const SMALLEST_MARGIN_SECONDS = 3_600;

/**
 * Looks for drift both ways, and for orphans: streams each bucket's sorted listing against the rows
 * in key order. Memory is constant, and no transaction is open while S3 is asked. What was broken off goes on with the
 * page that it was at.
 *
 * A bucket that is missing, closed or not allowed is named, and the others are looked at.
 *
 * @throws RefusedError when so much is gone that this looks like the wrong store.
 * @throws UsageError for a margin of less than an hour, and for a ceiling that is none.
 * @throws RetentionError when another verify of the bucket has taken over.
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
  const { maxRequestsPerSecond: ceiling } = options;
  if (ceiling !== undefined && !(ceiling > 0)) {
    throw new UsageError(`expected a ceiling on requests above zero; given ${ceiling}`, {
      remedy: 'Leave it out for no ceiling.',
    });
  }
  return new VerifyRun(options).run();
}

/** The prefixes without those that another one covers; none: all keys. */
function prefixesOf(prefix: string | readonly string[] | undefined): readonly string[] {
  const asked = typeof prefix === 'string' ? [prefix] : (prefix ?? []);
  const covers = (other: string, it: string): boolean => it !== other && it.startsWith(other);
  const widest = [...new Set(asked)].filter((it) => !asked.some((other) => covers(other, it)));
  return widest.includes('') ? [] : widest;
}

class VerifyRun {
  readonly #options: VerifyOptions;
  readonly #listing: ObjectListing;
  readonly #prefixes: readonly string[];
  readonly #kind: VerifyKind;
  readonly #passedBy: readonly string[];
  readonly #failed = new Map<string, FailedBucket>();
  readonly #runs: BucketVerify[] = [];
  #tooSoon = 0;

  constructor(options: VerifyOptions) {
    // A bucket that is named twice is looked at once.
    const buckets = [...new Set(options.buckets)];
    const { allowedBuckets, maxRequestsPerSecond: ceiling, signal } = options;
    const { listing } = options.objects;
    const isAllowed = (bucket: string): boolean => allowedBuckets?.includes(bucket) !== false;
    this.#options = { ...options, buckets: buckets.filter(isAllowed) };
    this.#passedBy = buckets.filter((bucket) => !isAllowed(bucket));
    this.#listing = ceiling === undefined ? listing : paceListing(listing, ceiling, signal);
    this.#prefixes = prefixesOf(options.prefix);
    this.#kind = kindOf(options);
  }

  get #goesOn(): boolean {
    return this.#kind !== 'list' && this.#kind !== 'inventory';
  }

  #checkInventories(): void {
    const { inventories, buckets } = this.#options;
    if (inventories === undefined) return;
    const listed = inventories.map(({ bucket }) => bucket);
    const [without] = [...buckets, ...this.#passedBy].filter((it) => !listed.includes(it));
    const [unasked] = listed.filter((it) => !buckets.includes(it));
    if (without === undefined && unasked === undefined) return;
    const why =
      unasked === undefined
        ? `an inventory of bucket ${without}; given none`
        : `inventories of the allowed buckets that are verified; given one of ${unasked}`;
    throw new UsageError(`--inventory: expected ${why}`, {
      remedy: 'Name buckets of which you have an inventory, and which S3_RESULT_BUCKET names.',
    });
  }

  async run(): Promise<Verification> {
    const { store, logger, buckets, dryRun = false } = this.#options;
    this.#checkInventories();
    if (!dryRun) await refuseWhileClosed(store);
    for (const bucket of this.#passedBy) {
      logger.warning(`Bucket ${bucket} is passed by: it is not allowed`, { bucket });
    }
    try {
      for (const bucket of buckets) await this.#apart(bucket, () => this.#compare(bucket));
      return await this.#finish();
    } catch (error) {
      // Asked again with another answer, it begins again. What is broken off otherwise goes on.
      const isOver = error instanceof RefusedError || !this.#goesOn;
      if (isOver) await this.#forget(this.#runs).catch(() => undefined);
      throw error;
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

  async #compare(bucket: string): Promise<void> {
    const { store, logger, signal, dryRun = false, repair = true } = this.#options;
    const { confirmed = false, restart = false, inventories } = this.#options;
    const inventory = inventories?.find((it) => it.bucket === bucket);
    const progress = await store.resumeVerify({
      bucket,
      prefixes: this.#prefixes,
      kind: this.#kind,
      restart,
      beganAt: inventory?.createdAt,
    });
    if (progress.resumedAt !== undefined) {
      logger.info(`The verify of bucket ${bucket} goes on where it was broken off`, {
        bucket,
        worked_at: progress.resumedAt,
      });
    }
    const run = new BucketVerify({
      store,
      listing: this.#listing,
      logger,
      bucket,
      progress,
      dryRun,
      repair,
      confirmed,
      inventory: inventory && readInventory(inventory, this.#prefixes),
      signal,
      onListed: () => this.#options.onProgress?.(this.#sum('listed')),
      onTooSoon: (results) => this.#countTooSoon(bucket, results),
    });
    this.#runs.push(run);
    await run.compare();
  }

  #countTooSoon(bucket: string, results: number): void {
    const { confirmed = false, dryRun = false } = this.#options;
    this.#tooSoon += results;
    if (this.#tooSoon <= MOST_TOO_SOON || confirmed || dryRun) return;
    throw new RefusedError(
      `More than ${MOST_TOO_SOON} live results that are not due have no object in ${bucket}: ` +
        'this looks like the wrong bucket or store. None of them was stamped.',
      { remedy: 'If the objects are really gone, say --yes.' },
    );
  }

  /** After every bucket was compared: what is gone too soon is only then known not to be too much. */
  async #finish(): Promise<Verification> {
    const { store, dryRun = false, repair = true } = this.#options;
    const { orphanMarginSeconds: margin = DEFAULT_MARGIN_SECONDS } = this.#options;
    const counts = { requeued: 0, objects: 0, bytes: 0 };
    for (const run of this.#runs) await this.#apart(run.bucket, () => run.stampTooSoon());
    for (const run of this.#runs) {
      const { bucket, progress } = run;
      const strays = await store.sortStrays(progress, margin);
      const returned = strays.returned - (await run.dropReturnedThatAreGone());
      const isLeft = dryRun || !repair || returned === 0;
      counts.requeued += isLeft ? returned : await store.requeueReturned(progress);
      counts.objects += strays.orphans;
      counts.bytes += strays.orphanBytes;
      await this.#tellOrphans(bucket, progress.verifyId, margin);
    }
    const result = {
      listed: this.#sum('listed'),
      stamped: this.#sum('stamped'),
      requeued: counts.requeued,
      orphans: { objects: counts.objects, bytes: counts.bytes },
      failedBuckets: [...this.#failed.values()],
      passedBy: this.#passedBy,
    };
    // What has come somewhere goes on the next time.
    const isOver = (run: BucketVerify): boolean =>
      !this.#failed.has(run.bucket) || run.listed === 0 || !this.#goesOn;
    await this.#forget(this.#runs.filter(isOver));
    return result;
  }

  async #forget(runs: readonly BucketVerify[]): Promise<void> {
    for (const { progress } of runs) await this.#options.store.endVerify(progress);
  }

  #sum(of: 'listed' | 'stamped'): number {
    return this.#runs.reduce((all, run) => all + run[of], 0);
  }

  async #tellOrphans(bucket: string, verifyId: string, marginSeconds: number): Promise<void> {
    const { store, signal, onOrphans } = this.#options;
    if (onOrphans === undefined) return;
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

function kindOf(options: VerifyOptions): VerifyKind {
  const { keepsProgress = true, inventories, dryRun, repair } = options;
  if (inventories !== undefined) return 'inventory';
  if (!keepsProgress) return 'list';
  if (repair === false) return 'orphans';
  return dryRun === true ? 'dry run' : 'repair';
}
