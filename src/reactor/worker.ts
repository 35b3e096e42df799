import { randomUUID } from 'node:crypto';
import { safeNow } from '../lifecycle/clock.ts';
import type { RateLimit } from '../lifecycle/rate-limit.ts';
import { type BatchTrace, type Tracing, noTracing } from '../lifecycle/tracing.ts';
import { sayFailure } from '../failure-words.ts';
import type { Logger } from '../logger.ts';
import type { DeletionReport } from '../objects/deletion-report.ts';
import type { ObjectStore } from '../objects/object-store.ts';
import type { Claim, Settlement } from '../store/leases.ts';
import type { Store } from '../store/store.ts';
import { isOwnKey } from '../objects/own-keys.ts';
import { type Answer, sortOut, unansweredOf } from './batch-answer.ts';
import { deleteBatch } from './batch-deletion.ts';
import { type BatchLog, createBatchLog } from './batch-log.ts';
import { type CarefulClaims, createCarefulClaims } from './careful-claims.ts';
import type { Fence } from './fence.ts';
import { type RetryWindow, repeatWhileLeased } from './settle-retry.ts';

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
  /** Default: no spans are made. */
  readonly tracing?: Tracing | undefined;
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

/** Of a store that was not asked, or has refused everything. */
const NOTHING_TOLD: Pick<DeletionReport, 'ends' | 'requestIds'> = {};

/** A batch that is ours, and the keys of it that S3 may still delete. */
interface Leased {
  readonly claim: Claim;
  readonly lease: string;
  readonly unanswered: readonly string[];
}

/** A batch as it was claimed. */
interface Taken {
  readonly claim: Claim;
  readonly lease: string;
  readonly startedAt: number;
}

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
    const { claim, startedAt } = taken;
    onClaimed?.(claim);
    const { tracing = noTracing } = this.#options;
    const attributes = {
      batch_id: claim.batchId,
      bucket: claim.bucket,
      results: claim.keys.length,
      spared: claim.spared,
    };
    return tracing.batch({ claimMilliseconds: safeNow() - startedAt, attributes }, (trace) =>
      this.#work(taken, abort, trace),
    );
  }

  /** A batch from the end of its claim on. */
  async #work(
    { claim, lease, startedAt }: Taken,
    signal: AbortSignal,
    trace: BatchTrace,
  ): Promise<BatchOutcome> {
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
    const { leaseSeconds } = this.#options;
    const answer = await deleteBatch(this.#options, claim, { startedAt, signal, trace });
    const leased = { claim, lease, unanswered: unansweredOf(answer) };
    const settled = await trace.step('settle', () =>
      this.#settle(leased, answer, { startedAt, leaseSeconds, signal }),
    );
    const outcome = {
      ...base,
      ...nothing,
      ...settled,
      failed: failed + (settled.failed ?? 0),
      dead: dead + (settled.dead ?? 0),
      milliseconds: safeNow() - startedAt,
    };
    const { cleared, failed: failures, dead: buried, postponed, leaseLost } = outcome;
    trace.note(
      { cleared, failed: failures, dead: buried, postponed },
      failures > 0 || buried > 0 || postponed || leaseLost,
    );
    this.#report(outcome);
    return outcome;
  }

  async #settle(
    leased: Leased,
    answer: Answer,
    retryWindow: RetryWindow,
  ): Promise<Partial<BatchOutcome> & Pick<BatchOutcome, 'leaseLost'>> {
    const { store, logger } = this.#options;
    const { claim, lease, unanswered } = leased;
    if (answer.kind === 'whole' && answer.failure.outcome !== 'refused') {
      const { code, reason: message } = answer.failure;
      const { requestIds, unasked } = answer;
      const until = await repeatWhileLeased(retryWindow, logger, () =>
        store.postpone(claim.batchId, lease, { code, message, unanswered, requestIds, unasked }),
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
      logger.warning(
        `A request was refused whole, its batch is halved: ${sayFailure(code, reason)}`,
        { batch: claim.batchId, results: claim.keys.length },
      );
      const isOurs = await repeatWhileLeased(retryWindow, logger, () =>
        store.split(claim.batchId, lease, { unanswered }),
      );
      return { leaseLost: !isOurs };
    }
    const { cleared, failed } = sortOut(claim, answer);
    const { ends, requestIds } = answer.kind === 'report' ? answer.report : NOTHING_TOLD;
    const milliseconds = safeNow() - retryWindow.startedAt;
    const settlement = await repeatWhileLeased(retryWindow, logger, () =>
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
