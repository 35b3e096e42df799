import { randomUUID } from 'node:crypto';
import { describeError, isWorthRepeating } from '../errors.ts';
import { createBackoff } from '../lifecycle/backoff.ts';
import { safeNow } from '../lifecycle/clock.ts';
import { withGrace } from '../lifecycle/deadline.ts';
import { withLinkedAbort } from '../lifecycle/linked-abort.ts';
import { pause } from '../lifecycle/pause.ts';
import type { RateLimit } from '../lifecycle/rate-limit.ts';
import { sayFailure } from '../failure-words.ts';
import type { Logger } from '../logger.ts';
import type { DeletionReport } from '../objects/deletion-report.ts';
import type { ObjectStore } from '../objects/object-store.ts';
import { isOwnKey } from '../objects/own-keys.ts';
import { ObjectStoreError, type StoreFailure } from '../objects/store-failure.ts';
import type { LearnedHabits } from '../objects/store-habits.ts';
import type { Claim, Failure, Settlement } from '../store/leases.ts';
import type { Store } from '../store/store.ts';
import { type BatchLog, createBatchLog } from './batch-log.ts';
import { type CarefulClaims, createCarefulClaims } from './careful-claims.ts';
import type { Fence } from './fence.ts';
import { lookForObjects } from './first-look.ts';

/** What a worker works with. */
export interface WorkerOptions {
  readonly store: Store;
  /**
   * Without `versions`, the batches of buckets where every version is to be deleted wait. With `listing` and
   * `place`, some keys are looked for before the first deletion in a bucket.
   */
  readonly objects: Pick<ObjectStore, 'deleteObjects' | 'versions' | 'listing' | 'place'>;
  readonly logger: Logger;
  /** Shown beside the leases that it takes. */
  readonly name: string;
  /** Must be longer than the object store's longest call. */
  readonly leaseSeconds: number;
  /** The buckets that may be deleted from. Default: any. */
  readonly allowedBuckets?: readonly string[] | undefined;
  readonly rateLimit: RateLimit;
  /** Asked before each claim, and before S3. Default: batches may be claimed. */
  readonly fence?: Pick<Fence, 'isHeld' | 'whyNot' | 'heldUntil'> | undefined;
}

/** What became of one batch. */
export interface BatchOutcome {
  readonly batchId: number;
  readonly bucket: string;
  /** Results that were taken up, without those spared. */
  readonly claimed: number;
  /** Results that S3 named as deleted and whose work is done. */
  readonly cleared: number;
  readonly stamped: number;
  readonly spared: number;
  readonly failed: number;
  readonly dead: number;
  /** Whether the bucket pauses for what S3 answered. */
  readonly postponed: boolean;
  readonly leaseLost: boolean;
  readonly milliseconds: number;
  /** It was no batch of results but the canary. */
  readonly isCanary?: boolean;
}

/** How one batch is worked on. */
export interface WorkOptions {
  /** Nothing is claimed once this is aborted. */
  readonly stop: AbortSignal;
  /**
   * Ends the S3 call and repeated settling early; the batch's lease is then left to run out, since
   * S3 may still be at it.
   */
  readonly abort: AbortSignal;
  /** Only these. Default: any. */
  readonly batchIds?: readonly number[] | undefined;
  /** Hears of a batch as soon as it is claimed. */
  readonly onClaimed?: (claim: Claim) => void;
}

/** Claims, deletes, settles: one batch at a time. */
export interface Worker {
  /**
   * One batch from claim to settle. Undefined: nothing was visible, or `stop` was aborted first. The
   * ceiling on deletions is waited for before a claim and never under a lease, which the wait could
   * outlast.
   *
   * @throws DatabaseError when the database fails; the lease then runs out and the batch is taken
   * up again.
   */
  workOnce(options: WorkOptions): Promise<BatchOutcome | undefined>;
}

const OBJECTS_MISSING = {
  code: 'ObjectsMissing',
  reason: 'most keys that were looked for have no object in this bucket; see retention status',
} as const;

/** Of a store that was not asked, or has refused everything. */
const NOTHING_TOLD: Pick<DeletionReport, 'ends' | 'requestIds'> = {};

/** What is kept of a lease for the settle after the last moment for S3. */
const SETTLE_SHARE_OF_LEASE = 0.1;

/** How long a settle is repeated: while the lease lasts, and until the signal. */
interface RetryWindow {
  readonly startedAt: number;
  readonly signal: AbortSignal;
}

/** A batch that is ours, and the keys of it that S3 may still delete. */
interface Leased {
  readonly claim: Claim;
  readonly lease: string;
  readonly unanswered: readonly string[];
}

/** What S3 answered, or why it was not asked. */
type Answer =
  | { readonly kind: 'report'; readonly report: DeletionReport }
  | {
      readonly kind: 'whole';
      readonly failure: StoreFailure;
      readonly unanswered: readonly string[];
      readonly requestIds: readonly string[];
    };

/** Makes a worker, for all slots of a listener. */
export function createWorker(options: WorkerOptions): Worker {
  return new BatchWorker(options);
}

class BatchWorker implements Worker {
  readonly #options: WorkerOptions;
  readonly #log: BatchLog;
  readonly #carefulClaims: CarefulClaims;

  constructor(options: WorkerOptions) {
    this.#options = options;
    this.#carefulClaims = createCarefulClaims(options.store);
    this.#log = createBatchLog(options.logger);
  }

  async workOnce({
    stop,
    abort,
    batchIds,
    onClaimed,
  }: WorkOptions): Promise<BatchOutcome | undefined> {
    const { store, leaseSeconds, name, rateLimit, allowedBuckets: buckets } = this.#options;
    const taken = await rateLimit.inTurn(
      stop,
      async () => {
        if (this.#options.fence?.isHeld() === false) return undefined;
        const lease = randomUUID();
        // Counted from before the claim, by the clock that is further on: ours ends before the database's.
        const startedAt = safeNow();
        const only = await this.#carefulClaims.turn({ batchIds, buckets });
        const claim = await this.#carefulClaims.watch(() =>
          store.claim({ lease, leaseSeconds, by: name, batchIds: only, buckets }),
        );
        return claim && { claim, lease, startedAt };
      },
      (it) => it?.claim.keys.length ?? 0,
    );
    if (taken === undefined) return undefined;
    const { claim, lease, startedAt } = taken;
    onClaimed?.(claim);
    this.#log.unchecked(claim);

    const base = {
      batchId: claim.batchId,
      bucket: claim.bucket,
      claimed: claim.keys.length,
      spared: claim.spared,
      ...(isOwnKey(claim.keys[0] ?? '') ? { isCanary: true } : {}),
    };
    const { failed = 0, dead = 0 } = claim.unchecked ?? {};
    const nothing = { cleared: 0, stamped: 0, failed, dead, postponed: false };
    if (claim.keys.length === 0) {
      const milliseconds = safeNow() - startedAt;
      return { ...base, ...nothing, leaseLost: false, milliseconds };
    }
    const answer = await this.#delete(claim, startedAt, abort);
    const leased = { claim, lease, unanswered: unansweredOf(answer) };
    const settled = await this.#settle(leased, answer, { startedAt, signal: abort });
    const outcome = {
      ...base,
      ...nothing,
      ...settled,
      failed: failed + (settled.failed ?? 0),
      dead: dead + (settled.dead ?? 0),
      milliseconds: safeNow() - startedAt,
    };
    this.#report(outcome);
    return outcome;
  }

  async #delete(claim: Claim, startedAt: number, signal: AbortSignal): Promise<Answer> {
    const { objects, leaseSeconds, allowedBuckets } = this.#options;
    if (allowedBuckets?.includes(claim.bucket) === false) {
      const reason = `${claim.bucket} is none of the allowed buckets (${allowedBuckets.join(', ')})`;
      return notAsked({ code: 'BucketNotAllowed', reason, outcome: 'refused', final: true });
    }
    const whyNot = this.#options.fence?.whyNot();
    if (whyNot !== undefined) return notAsked({ code: 'FenceNotHeld', reason: whyNot });
    const endsAt = startedAt + leaseSeconds * 1_000 * (1 - SETTLE_SHARE_OF_LEASE);
    const left = endsAt - safeNow();
    if (left <= 0) return notAsked({ code: 'LeaseTooOld', reason: 'claimed too long ago' });
    try {
      signal.throwIfAborted();
      const { versions } = objects;
      const ask: ObjectStore['deleteObjects'] | undefined = claim.purge
        ? versions && ((...rest) => versions.purgeKeys(...rest))
        : (...rest) => objects.deleteObjects(...rest);
      if (ask === undefined) {
        const reason = 'every version is to be deleted, and nothing here can do that';
        return notAsked({ code: 'PurgeUnavailable', reason });
      }
      const report = await withLinkedAbort(signal, (ended) =>
        withGrace(
          left,
          () => ended.abort(),
          async () => {
            if (!(await this.#mayDelete(claim, ended.signal))) return undefined;
            const { habits } = claim;
            const etags = etagsOf(claim);
            // Another database takes the fence only after that.
            const sentBy = Math.min(endsAt, this.#options.fence?.heldUntil() ?? Infinity);
            const options = { signal: ended.signal, endsAt: sentBy, habits, etags };
            return ask(claim.bucket, claim.keys, options);
          },
        ),
      );
      if (report === undefined) return notAsked(OBJECTS_MISSING);
      await this.#learn(claim.bucket, report.learned);
      return { kind: 'report', report };
    } catch (error) {
      if (!(error instanceof ObjectStoreError) || error.kind === 'aborted') throw error;
      await this.#learn(claim.bucket, error.learned);
      const { unanswered, requestIds } = error;
      return { kind: 'whole', failure: error, unanswered, requestIds };
    }
  }

  /** Whether the objects are where they are thought to be, as far as one may look. */
  async #mayDelete({ bucket, keys, lookedIn }: Claim, signal: AbortSignal): Promise<boolean> {
    const { objects, store } = this.#options;
    const { listing, place } = objects;
    if (listing === undefined || place === undefined || lookedIn === place) return true;
    // A canary says nothing of where the results are.
    if (isOwnKey(keys[0] ?? '')) return true;
    return (await lookForObjects(bucket, keys, { listing, place, store, signal })).mayGoOn;
  }

  /** What is not written down is learned again by the next batch. */
  async #learn(bucket: string, learned: LearnedHabits | undefined): Promise<void> {
    if (learned === undefined) return;
    const { store, logger } = this.#options;
    logger.info(`Bucket ${bucket}: its store is found to differ: ${learned.because}`);
    await store
      .learnHabits(bucket, learned)
      .catch((error: unknown) => logger.debug(`Not remembered: ${describeError(error)}`));
  }

  async #settle(
    leased: Leased,
    answer: Answer,
    retryWindow: RetryWindow,
  ): Promise<Partial<BatchOutcome> & Pick<BatchOutcome, 'leaseLost'>> {
    const { store } = this.#options;
    const { claim, lease, unanswered } = leased;
    if (answer.kind === 'whole' && answer.failure.outcome !== 'refused') {
      const { code, reason: message } = answer.failure;
      const { requestIds } = answer;
      const until = await this.#retry(retryWindow, () =>
        store.postpone(claim.batchId, lease, { code, message, unanswered, requestIds }),
      );
      this.#log.paused(claim.bucket, code, message, {
        batch: claim.batchId,
        results: claim.keys.length,
        until,
      });
      return { postponed: true, leaseLost: until === undefined };
    }
    if (answer.kind === 'whole' && answer.failure.concerns === 'key' && claim.keys.length > 1) {
      const { code, reason } = answer.failure;
      this.#options.logger.warning(
        `A request was refused whole, its batch is halved: ${sayFailure(code, reason)}`,
        { batch: claim.batchId, results: claim.keys.length },
      );
      const isOurs = await this.#retry(retryWindow, () =>
        store.split(claim.batchId, lease, { unanswered }),
      );
      return { leaseLost: !isOurs };
    }
    const { cleared, failed } = sortOut(claim, answer);
    const { ends, requestIds } = answer.kind === 'report' ? answer.report : NOTHING_TOLD;
    const milliseconds = safeNow() - retryWindow.startedAt;
    const settlement = await this.#retry(retryWindow, () =>
      store.settle(claim.batchId, lease, {
        cleared,
        failed,
        milliseconds,
        unanswered,
        ends,
        requestIds,
      }),
    );
    this.#log.problems(claim.bucket, settlement.problems);
    if (settlement.cleared > 0) this.#log.works(claim.bucket);
    const changed = failed.filter(({ outcome: what }) => what === 'changed').map(({ key }) => key);
    if (settlement.settled) this.#log.changed(claim, changed);
    return {
      ...describeSettlement(settlement),
      spared: claim.spared + (settlement.settled ? changed.length : 0),
    };
  }

  /**
   * Repeats what must not get lost while the lease lasts: a deadlock, a restart or a full disk of
   * the database is over sooner than a lease. Repeating is safe, because the lease fences it.
   */
  async #retry<Result>(
    { startedAt, signal }: RetryWindow,
    work: () => Promise<Result>,
  ): Promise<Result> {
    const backoff = createBackoff({ firstMilliseconds: 100, capMilliseconds: 5_000 });
    const endsAt = startedAt + this.#options.leaseSeconds * 1_000;
    for (;;) {
      try {
        return await work();
      } catch (error) {
        const wait = backoff.next();
        const isOver = signal.aborted || safeNow() + wait > endsAt;
        if (isOver || !isWorthRepeating(error)) throw error;
        // The 1st, 2nd, 4th ... time: an outage takes one line, not one for every few seconds of it.
        const level = Number.isInteger(Math.log2(backoff.attempts)) ? 'warning' : 'debug';
        this.#options.logger[level](`Settling is tried again: ${describeError(error)}`, { error });
        await pause(wait, signal);
      }
    }
  }

  #report(outcome: BatchOutcome): void {
    const { batchId, ...rest } = outcome;
    const fields = { batch: batchId, ...rest, milliseconds: Math.round(rest.milliseconds) };
    if (outcome.leaseLost) {
      this.#options.logger.warning('A lease was lost; another listener has its batch', fields);
    } else {
      this.#options.logger.debug('Batch settled', fields);
    }
  }
}

function describeSettlement(settlement: Settlement) {
  const { cleared, stamped, failed, dead, settled } = settlement;
  return { cleared, stamped, failed, dead, leaseLost: !settled };
}

/** The versions that may go; undefined: any. */
function etagsOf({ keys, etags }: Claim): ReadonlyMap<string, string> | undefined {
  if (etags === undefined) return undefined;
  const versions = new Map<string, string>();
  for (const [place, key] of keys.entries()) {
    const etag = etags[place] ?? null;
    if (etag !== null) versions.set(key, etag);
  }
  return versions;
}

/** Why a batch is not sent to S3. */
function notAsked(
  failure: Pick<StoreFailure, 'code' | 'reason'> & Partial<StoreFailure>,
): Extract<Answer, { kind: 'whole' }> {
  const defaults = { outcome: 'failed', concerns: 'bucket', final: false } as const;
  return { kind: 'whole', failure: { ...defaults, ...failure }, unanswered: [], requestIds: [] };
}

/** The keys that S3 may still delete, whatever it came to. */
function unansweredOf(answer: Answer): readonly string[] {
  return answer.kind === 'report' ? answer.report.unanswered : answer.unanswered;
}

/** Which keys are cleared and which failed; what is in neither was not answered for. */
function sortOut(
  claim: Claim,
  answer: Answer,
): { readonly cleared: readonly string[] | 'all'; readonly failed: readonly Failure[] } {
  if (answer.kind === 'report') {
    const { all, deleted, failures } = answer.report;
    return { cleared: all ? 'all' : deleted, failed: failures };
  }
  const { code, reason, outcome, concerns, final } = answer.failure;
  const failed = claim.keys.map((key) => ({ key, code, reason, outcome, concerns, final }));
  return { cleared: [], failed };
}
