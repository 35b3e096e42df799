import {
  DatabaseError,
  ClosedError,
  RefusedError,
  SQLSTATE,
  describeError,
  isTransientDatabaseError,
} from '../../errors.ts';
import { sayFailure } from '../../failure-words.ts';
import { safeNow } from '../../lifecycle/clock.ts';
import { NEVER_ABORTED } from '../../lifecycle/linked-abort.ts';
import { pause } from '../../lifecycle/pause.ts';
import type { RateLimit } from '../../lifecycle/rate-limit.ts';
import type { Logger } from '../../logger.ts';
import type { DeletionReport } from '../../objects/deletion-report.ts';
import type { ObjectStore } from '../../objects/object-store.ts';
import { ObjectStoreError } from '../../objects/store-failure.ts';
import type { OrphanClaim, OrphanSettlement } from '../../store/orphans.ts';
import type { Store } from '../../store/store.ts';
import { OrphanListReader, type OrphanListSummary } from './list-file.ts';
import { OrphanListLock } from './list-lock.ts';
import { lookAtOrphans } from './look.ts';
import { OrphanPage } from './page.ts';
import { OrphanProgress } from './progress-file.ts';
import { type OrphanDeletion, OrphanTally } from './tally.ts';

/** What a deletion of orphans works with. */
export interface OrphanDeletionOptions {
  readonly store: Store;
  readonly objects: Pick<ObjectStore, 'deleteObjects' | 'versions'> &
    Required<Pick<ObjectStore, 'listing'>>;
  readonly logger: Logger;
  readonly rateLimit: RateLimit;
  /** How long one request may take with all its repetitions. */
  readonly leaseSeconds: number;
  /** The list, as it was made. */
  readonly file: string;
  /** Exactly how many objects the list names; needed where that is much. */
  readonly expected?: number | undefined;
  /** Who deletes. Default: the database's user. */
  readonly by?: string | undefined;
  /** The buckets that may be deleted from. Default: any. */
  readonly allowedBuckets?: readonly string[] | undefined;
  /** Ends it after the page that is being worked on. */
  readonly signal?: AbortSignal | undefined;
  /** Told after every page: how many objects of the list are done, of how many. */
  readonly onProgress?: ((done: number, known: number) => void) | undefined;
}

/** After so many pauses without a deletion between them, the rest is left to another time. */
const MOST_PAUSES_IN_ROW = 12;

/** What is kept of the time of a request for writing down what it came to. */
const SETTLE_SHARE = 0.1;

/** Why a deletion ends early. */
class Stop extends Error {
  readonly isRefused: boolean;

  constructor(because: string, isRefused = false) {
    super(because);
    this.isRefused = isRefused;
  }
}

/**
 * Deletes exactly the objects of a list that was made at least an hour ago. Each is looked at and checked again just
 * before, and each request is written down before it is sent. Goes on where an earlier command has stopped.
 *
 * @throws UsageError for a list that is not as it was made, or whose bucket is not allowed.
 * @throws ClosedError while the gate is closed.
 * @throws RefusedError where the database refuses: see `retention.begin_orphans`.
 * @throws DatabaseError
 */
export async function deleteOrphans(options: OrphanDeletionOptions): Promise<OrphanDeletion> {
  using list = new OrphanListReader(options.file);
  const { summary } = list;
  const { allowedBuckets, store, expected, by } = options;
  if (allowedBuckets !== undefined && !allowedBuckets.includes(summary.bucket)) {
    throw new RefusedError(
      `no orphan was deleted: bucket ${summary.bucket} is not one of the allowed buckets`,
      { remedy: 'S3_RESULT_BUCKET does not name it.' },
    );
  }
  const { listId, digest } = summary;
  using _lock = new OrphanListLock(options.file);
  const [closed] = await store.readGate();
  if (closed !== undefined) {
    throw new ClosedError(`no orphan was deleted: ${closed.because}`, { remedy: closed.remedy });
  }
  const begun = await refusing(store.beginOrphans({ listId, digest, expected, by }));
  using progress = new OrphanProgress(options.file, digest);
  return await new OrphanRun(options, list, progress).run(begun.is_resumed);
}

/** What the database refuses, as the error that says so. */
async function refusing<Result>(work: Promise<Result>): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    const isRefusal = error instanceof DatabaseError && error.sqlState === SQLSTATE.orphans_refused;
    if (!isRefusal) throw error;
    throw new RefusedError(error.message, { remedy: error.remedy, cause: error });
  }
}

class OrphanRun {
  readonly #options: OrphanDeletionOptions;
  readonly #list: OrphanListReader;
  readonly #summary: OrphanListSummary;
  readonly #progress: OrphanProgress;
  readonly #signal: AbortSignal;
  /** Of the pages that are not being worked on. */
  readonly #done = new OrphanTally();
  #pausesInRow = 0;
  /** The store takes no request that names a version. */
  #refusesEtags = false;

  constructor(options: OrphanDeletionOptions, list: OrphanListReader, progress: OrphanProgress) {
    this.#options = options;
    this.#list = list;
    this.#summary = list.summary;
    this.#progress = progress;
    this.#signal = options.signal ?? NEVER_ABORTED;
  }

  async run(resumed: boolean): Promise<OrphanDeletion> {
    const { bucket, prefix, orphans: listed } = this.#summary;
    for (const outcome of this.#progress.outcomes()) this.#done.add(outcome);
    const stopped = await this.#stopOf(this.#deleteAll());
    const { deleted, bytes, failed } = this.#done;
    return {
      bucket,
      prefix,
      listed,
      deleted,
      deletedBytes: bytes,
      spared: this.#done.sparedByReason(),
      failed,
      notReached: listed - this.#done.all,
      resumed,
      progressFile: this.#progress.path,
      stopped: stopped && { because: stopped.message, isRefused: stopped.isRefused },
    };
  }

  async #stopOf(work: Promise<void>): Promise<Stop | undefined> {
    try {
      await work;
      return undefined;
    } catch (error) {
      if (error instanceof Stop) return error;
      if (error instanceof RefusedError || error instanceof ClosedError) {
        return new Stop([error.message, error.remedy].filter(Boolean).join('; '), true);
      }
      if (isTransientDatabaseError(error)) return new Stop(describeError(error));
      throw error;
    }
  }

  async #deleteAll(): Promise<void> {
    let number = 0;
    let after: string | undefined;
    for (const orphans of this.#list.pages()) {
      const before = this.#progress.outcomeOf(number);
      const failed = new Set(before?.failed.map(({ key }) => key));
      const isDone = before !== undefined && failed.size === 0;
      if (!isDone) {
        if (this.#signal.aborted) throw new Stop('it was asked to end');
        if (before !== undefined) this.#done.takeBack(before);
        const page = new OrphanPage(orphans, before, this.#progress.askedOf(number));
        await this.#deletePage(number, page, after);
      }
      number += 1;
      after = orphans.at(-1)?.key;
    }
  }

  async #deletePage(number: number, page: OrphanPage, after: string | undefined): Promise<void> {
    try {
      while (page.left.length > 0) await this.#askOnce(number, page, after);
    } catch (error) {
      if (!(error instanceof Stop) || page.left.length > 0) throw error;
      this.#end(number, page);
      throw error;
    }
    this.#end(number, page);
  }

  #end(number: number, page: OrphanPage): void {
    const outcome = page.outcome();
    this.#progress.end(number, outcome);
    this.#done.add(outcome);
    this.#options.onProgress?.(this.#done.all, this.#summary.orphans);
  }

  /** One look, one check, one request. What of the page is left after it comes to the next one. */
  async #askOnce(number: number, page: OrphanPage, after: string | undefined): Promise<void> {
    const { objects, rateLimit, store, leaseSeconds } = this.#options;
    const { bucket, prefix, listId } = this.#summary;
    const inBucket = { after, prefix, signal: this.#signal };
    const states = await this.#asking(page, undefined, () =>
      lookAtOrphans(objects.listing, bucket, page.left, inBucket),
    );
    if (states === undefined) return;
    const { candidates, wentBefore } = page.sortOut(states);
    if (wentBefore.length > 0) await this.#settle(page, undefined, { keys: wentBefore });
    if (candidates.length === 0) return;
    const turn = await rateLimit.inTurn(
      this.#signal,
      async () => {
        const startedAt = safeNow();
        const claim = await refusing(store.claimOrphans(listId, candidates, leaseSeconds));
        return { claim, startedAt };
      },
      ({ claim }) => claim.keys.length,
    );
    if (turn === undefined) throw new Stop('it was asked to end');
    const { claim, startedAt } = turn;
    if (claim.paused_until !== null) {
      const until = claim.paused_until;
      this.#options.logger.info(`Bucket ${bucket} pauses`, { bucket, until });
      await this.#wait(claim.paused_until);
      return;
    }
    page.spare(claim.spared);
    if (claim.keys.length === 0) return;
    if (claim.purge && objects.versions === undefined) {
      await this.#settle(page, claim);
      throw new Stop('every version must be deleted, and this object store cannot do that');
    }
    this.#progress.ask(number, claim.keys);
    page.noteAsked(claim.keys);
    const endsAt = startedAt + leaseSeconds * 1_000 * (1 - SETTLE_SHARE);
    const etags = this.#mayAskByEtag(claim) ? page.etagsOf(claim.keys) : undefined;
    const report = await this.#asking(page, claim, () => this.#delete(claim, endsAt, etags));
    if (report === undefined) return;
    const failure = page.settle(report);
    const { deleted: keys, ends, requestIds, unanswered } = report;
    const until = await this.#settle(page, claim, {
      keys,
      ends,
      requestIds,
      unanswered,
      pause: failure,
    });
    if (report.deleted.length > 0) this.#pausesInRow = 0;
    if (failure !== undefined) await this.#pauseAfter(failure, until);
  }

  /** Unless the bucket's store is known to have no such condition: then the look before has to do. */
  #mayAskByEtag({ habits }: OrphanClaim): boolean {
    const known = habits?.conditional;
    return !this.#refusesEtags && known !== 'ignored' && known !== 'refused';
  }

  #delete(
    claim: OrphanClaim,
    endsAt: number,
    etags: ReadonlyMap<string, string> | undefined,
  ): Promise<DeletionReport> {
    const { objects } = this.#options;
    const { bucket } = this.#summary;
    // Not ended by the signal: what S3 was asked for is waited for.
    const options = { endsAt, etags, ...(claim.habits === null ? {} : { habits: claim.habits }) };
    if (claim.purge && objects.versions !== undefined) {
      return objects.versions.purgeKeys(bucket, claim.keys, options);
    }
    return objects.deleteObjects(bucket, claim.keys, options);
  }

  /**
   * Asks S3. A failure that passes makes the bucket pause; any other one ends the deletion, and is what the keys that
   * are left have failed with. Undefined: to be asked again.
   */
  async #asking<Result>(
    page: OrphanPage,
    claim: OrphanClaim | undefined,
    ask: () => Promise<Result>,
  ): Promise<Result | undefined> {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof ObjectStoreError)) throw error;
      if (error.kind === 'aborted') throw new Stop('it was asked to end');
      const { code, reason, outcome, unanswered } = error;
      if (code === 'ConditionRefused' && !this.#refusesEtags) {
        this.#refusesEtags = true;
        await this.#settle(page, claim, { unanswered });
        return undefined;
      }
      if (outcome === 'refused') {
        page.fail(code);
        await this.#settle(page, claim, { unanswered });
        throw new Stop(`S3 refuses it: ${sayFailure(code, reason)}`);
      }
      const pauses = { code, reason };
      const until = await this.#settle(page, claim, { unanswered, pause: pauses });
      await this.#pauseAfter({ code, reason }, until);
      return undefined;
    }
  }

  async #settle(
    page: OrphanPage,
    claim: OrphanClaim | undefined,
    it: Pick<OrphanSettlement, 'keys' | 'ends' | 'requestIds' | 'unanswered' | 'pause'> = {},
  ): Promise<Date | undefined> {
    const { deleted, spared, failed } = this.#done.with(page.outcome());
    return this.#options.store.settleOrphans({
      listId: this.#summary.listId,
      requestId: claim?.request_id ?? null,
      deleted,
      spared,
      failed,
      ...it,
    });
  }

  async #pauseAfter(
    { code, reason }: { readonly code: string; readonly reason: string },
    until: Date | undefined,
  ): Promise<void> {
    const { logger } = this.#options;
    const { bucket } = this.#summary;
    this.#pausesInRow += 1;
    if (this.#pausesInRow >= MOST_PAUSES_IN_ROW) {
      throw new Stop(`bucket ${bucket} does not come back: ${sayFailure(code, reason)}`);
    }
    logger.warning(`Bucket ${bucket} pauses: ${sayFailure(code, reason)}`, { bucket, until });
    await this.#wait(until ?? new Date(Date.now() + 1_000));
  }

  async #wait(until: Date): Promise<void> {
    await pause(Math.max(until.getTime() - Date.now(), 50), this.#signal);
    if (this.#signal.aborted) throw new Stop('it was asked to end');
  }
}
