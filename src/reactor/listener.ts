import { SILENT_SCHEDULER_SECONDS, TICK_SECONDS } from '../config/ticks.ts';
import { type AbortableLoop, createAbortableLoop } from '../lifecycle/abortable-loop.ts';
import { createBackoff } from '../lifecycle/backoff.ts';
import { withGrace } from '../lifecycle/deadline.ts';
import { type FailureLog, createFailureLog } from '../lifecycle/failure-log.ts';
import { pause } from '../lifecycle/pause.ts';
import { type Service, createService } from '../lifecycle/service.ts';
import type { Logger } from '../logger.ts';
import { countOf } from '../numbers.ts';
import type { Pulse } from '../store/flagging.ts';
import type { StampedAgain } from '../store/stamps.ts';
import type { Store } from '../store/store.ts';
import { NO_TOTALS, type Totals, addBatch, drain } from './drain.ts';
import type { Fence } from './fence.ts';
import type { BatchOutcome, Worker } from './worker.ts';

/** What a listener is made of. */
export interface ListenerOptions {
  readonly store: Store;
  readonly worker: Worker;
  readonly logger: Logger;
  readonly concurrency: number;
  /** The buckets that may be deleted from. Default: any. */
  readonly buckets?: readonly string[] | undefined;
  /** How often it looks for work that no notification announced; each wait is jittered. */
  readonly pollSeconds: number;
  /** How long batches in flight may take when it is stopped; then their calls are cut. */
  readonly shutdownGraceSeconds: number;
  /** Claims only while it is held. Default: always. */
  readonly fence?: Pick<Fence, 'isHeld' | 'look' | 'wake'> | undefined;
  /** Runs before the first turn, and again until it succeeds. */
  readonly prepare?: () => Promise<void>;
  readonly onBatch?: (outcome: BatchOutcome) => void;
  /** How often it says how far it is while it works off a backlog. Default: 60. */
  readonly reportEverySeconds?: number;
}

/** Works when it is told of work, when it is time to look, and when the tables say so. */
export interface Listener extends Service {
  /** A hint that there is something to do; hints coalesce. */
  wake(): void;
}

/** How long to wait while another listener holds what is left. */
const BUSY_MILLISECONDS = 500;

/** The longest pause after turns that failed. */
const LONGEST_PAUSE_MILLISECONDS = 5_000;

/** A backlog may take hours, and a listener that logs nothing meanwhile looks hung. */
const REPORT_SECONDS = 60;

/** How often what could not be stamped is looked at while a backlog is worked off. */
const STAMP_AGAIN_MILLISECONDS = 15_000;

/** The random part of each wait, so that listeners do not poll all at once. */
const JITTER = 0.1;

/** Makes a listener. `start` does not wait for the database; it goes on trying. */
export function createListener(options: ListenerOptions): Listener {
  return new RetentionListener(options);
}

class RetentionListener implements Listener {
  readonly #options: ListenerOptions;
  readonly #service: Service;
  readonly #loop: AbortableLoop;
  readonly #failures: FailureLog;
  readonly #abort = new AbortController();
  #isPrepared = false;
  #hinted = false;
  #lastScanId: number | undefined;
  readonly #startedAt = performance.now();
  #saidSilent = false;
  #saidHalted = '';

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.#failures = createFailureLog({
      logger: options.logger,
      failed: 'The retention cycle failed',
      recovered: 'The retention cycle works again',
    });
    this.#loop = createAbortableLoop({
      name: 'the listener',
      turn: async (signal) => {
        const wait = await this.#turn(signal);
        this.#failures.works();
        return wait;
      },
      intervalMilliseconds: () => jittered(options.pollSeconds) * 1_000,
      // A database that is back after a switchover is noticed within seconds.
      backoff: createBackoff({ capMilliseconds: LONGEST_PAUSE_MILLISECONDS }),
      onError: (error, { retryInMilliseconds }) =>
        this.#failures.failed(error, { retry_in_milliseconds: retryInMilliseconds }),
    });
    this.#service = createService({
      name: 'the listener',
      start: () => {
        options.logger.info('Starting Retention Loop...');
        return this.#loop.start();
      },
      stop: () => this.#stop(),
    });
  }

  start(): Promise<void> {
    return this.#service.start();
  }

  stop(): Promise<void> {
    return this.#service.stop();
  }

  wake(): void {
    this.#hinted = true;
    this.#loop.wake();
  }

  async #stop(): Promise<void> {
    await withGrace(
      this.#options.shutdownGraceSeconds * 1_000,
      () => this.#abort.abort(),
      () => this.#loop.stop(),
    );
  }

  /** One turn; returns how many milliseconds to wait for the next at most. */
  async #turn(stop: AbortSignal): Promise<number> {
    if (!this.#isPrepared) {
      await this.#options.prepare?.();
      await this.#options.fence?.look();
      // What is flagged during the trial is news of this listener's.
      await this.#reportScans(await this.#options.store.pulse(this.#options.buckets));
      // Before the first batch: what cannot be stamped must not be deleted. The gate says what it showed.
      await this.#options.store.tryStamp();
      // It ticks before its first batch, whatever has hinted at one.
      this.#hinted = false;
    }
    this.#isPrepared = true;
    // A hint costs one claim; a look without a hint costs one pulse.
    if (this.#hinted && this.#lastScanId !== undefined) {
      this.#hinted = false;
      // In parallel, so that the log says what was found before it says what was deleted.
      await Promise.all([this.#reportScansAfter(this.#lastScanId), this.#drain(stop)]);
    }
    this.#hinted = false;
    for (;;) {
      const pulse = await this.#options.store.pulse(this.#options.buckets);
      await this.#reportScans(pulse);
      await this.#reportGate(pulse);
      let { nextStampSeconds } = pulse;
      if (nextStampSeconds !== undefined && nextStampSeconds <= 0) {
        const again = await this.#stampAgain();
        const mayBeOpen = pulse.halted.includes('stamps fail') && again.next_seconds === null;
        if (again.stamped > 0 || mayBeOpen) continue;
        nextStampSeconds = again.next_seconds ?? undefined;
      }
      if (pulse.halted.length > 0 || this.#options.fence?.isHeld() === false) {
        // A listener of another release does nothing at all; the others keep the scheduler's time.
        if (!pulse.halted.includes('version')) await this.#tickIfNeeded(pulse);
        return untilStamp(jittered(this.#options.pollSeconds) * 1_000, nextStampSeconds);
      }
      if (stop.aborted) return jittered(this.#options.pollSeconds) * 1_000;
      const ticked = await this.#tickIfNeeded(pulse);
      if (pulse.visibleNow) {
        // Visible, but claimed by others, or in a bucket that takes one batch at a time.
        if ((await this.#drain(stop)) === 0) return BUSY_MILLISECONDS;
      } else if (pulse.more) {
        // The last pass hit its limit and its work is done: flag on without waiting for a tick.
        const flagged = await this.#options.store.flagExpired({ by: 'listener' });
        if (flagged === 0) await pause(BUSY_MILLISECONDS, stop);
      } else if (!ticked) {
        return untilStamp(this.#waitMilliseconds(pulse), nextStampSeconds);
      }
    }
  }

  /** Stamps what was deleted before and could not be stamped then. */
  async #stampAgain(): Promise<StampedAgain> {
    const again = await this.#options.store.stampAgain();
    if (again.stamped > 0) {
      this.#options.logger.info(
        `${countOf(again.stamped, 'run was', 'runs were')} stamped whose S3 objects had been deleted before`,
        { waiting: again.waiting },
      );
    }
    return again;
  }

  async #drain(stop: AbortSignal): Promise<number> {
    const { worker, concurrency, onBatch, reportEverySeconds = REPORT_SECONDS } = this.#options;
    let reportedAt = performance.now();
    let news = NO_TOTALS;
    let stampedAt = performance.now();
    let stamping: Promise<unknown> | undefined;
    const report = (): void => {
      this.#reportTotals(news);
      reportedAt = performance.now();
      news = NO_TOTALS;
    };
    try {
      const { batches } = await drain({
        worker,
        concurrency,
        stop,
        abort: this.#abort.signal,
        onBatch: (outcome) => {
          onBatch?.(outcome);
          news = addBatch(news, outcome);
          if (performance.now() - reportedAt >= reportEverySeconds * 1_000) report();
          if (performance.now() - stampedAt < STAMP_AGAIN_MILLISECONDS) return;
          stampedAt = performance.now();
          // Its failure is that of the turn's own, which comes after the backlog.
          stamping = this.#stampAgain().catch(() => undefined);
        },
      });
      return batches;
    } finally {
      // Also after a failed slot, since the others have done their part.
      report();
      await stamping;
    }
  }

  async #tickIfNeeded(pulse: Pulse): Promise<boolean> {
    const uptimeSeconds = (performance.now() - this.#startedAt) / 1_000;
    const silentSeconds = pulse.tickedSecondsAgo ?? uptimeSeconds;
    if (pulse.scheduler === 'internal') {
      if (pulse.tickedSecondsAgo !== undefined && silentSeconds < TICK_SECONDS) return false;
      await this.#options.store.tick('internal');
      return true;
    }
    // A tick by a listener in its place does not show that pg_cron works.
    const isStandIn = pulse.tickedBy !== undefined && pulse.tickedBy !== 'pg_cron';
    if (silentSeconds < (isStandIn ? TICK_SECONDS : SILENT_SCHEDULER_SECONDS)) {
      if (this.#saidSilent && !isStandIn) this.#options.logger.info('The scheduler ticks again');
      this.#saidSilent &&= isStandIn;
      return false;
    }
    if (!this.#saidSilent) {
      this.#options.logger.warning(
        'pg_cron has been silent for too long; this listener flags by itself until it ticks again. ' +
          'See `retention doctor`',
        { silent_seconds: Math.round(silentSeconds) },
      );
    }
    this.#saidSilent = true;
    await this.#options.store.tick('listener');
    return true;
  }

  #waitMilliseconds(pulse: Pulse): number {
    const { pollSeconds } = this.#options;
    const untilTick = Math.max(TICK_SECONDS - (pulse.tickedSecondsAgo ?? 0), 1);
    const next = Math.max(pulse.nextVisibleSeconds ?? Infinity, 0);
    const isInternal = pulse.scheduler === 'internal';
    // The turn of its own tick looks for work as well; a poll just before would be wasted.
    const poll = isInternal && pollSeconds >= TICK_SECONDS ? untilTick : jittered(pollSeconds);
    return Math.min(poll, isInternal ? untilTick : Infinity, next) * 1_000 + 5;
  }

  /** Says what keeps the gate closed when that changes, and when it opens. */
  async #reportGate({ halted }: Pulse): Promise<void> {
    const reasons = halted.join(', ');
    if (reasons === this.#saidHalted) return;
    // After a failover, whose timeline the fence accepts.
    if (halted.includes('copy')) this.#options.fence?.wake();
    this.#saidHalted = reasons;
    if (halted.length === 0) {
      this.#options.logger.info('Nothing keeps retention from working any more');
    }
    for (const { because, remedy } of halted.length === 0
      ? []
      : await this.#options.store.readGate()) {
      this.#options.logger.warning(`Nothing is flagged and nothing deleted: ${because}`, {
        remedy,
      });
    }
  }

  async #reportScans(pulse: Pulse): Promise<void> {
    // What was flagged before this listener started was news of another listener.
    this.#lastScanId ??= pulse.lastScanId;
    if (pulse.lastScanId > this.#lastScanId) await this.#reportScansAfter(this.#lastScanId);
  }

  async #reportScansAfter(after: number): Promise<void> {
    const { logger, store } = this.#options;
    for (const scan of await store.scansAfter(after)) {
      if (scan.flagged > 0) {
        logger.info(`Found ${countOf(scan.flagged, 'expired run')} for retention cleanup`);
      }
      if (scan.surgeId !== undefined) {
        logger.warning(
          `${countOf(scan.setAside, 'late result')} set aside as surge ${scan.surgeId}: nothing of it goes before it is released`,
          { remedy: `retention surge show ${scan.surgeId}` },
        );
      }
      for (const runId of scan.withoutPlaceRunIds) {
        logger.warning(`Run ${runId} missing S3 info, skipping`);
      }
      const others = scan.withoutPlace - scan.withoutPlaceRunIds.length;
      if (others > 0) {
        logger.warning(`${countOf(others, 'more run')} missing S3 info, skipping`);
      }
      for (const row of scan.skippedRows) logger.warning(`Not flagged: ${row}`);
      const unnamed = scan.skipped - scan.skippedRows.length;
      if (unnamed > 0) logger.warning(`${countOf(unnamed, 'more row')} cannot be flagged`);
      this.#lastScanId = scan.scanId;
    }
  }

  #reportTotals(totals: Totals): void {
    if (totals.batches === 0) return;
    const { batches, spared, failed, dead } = totals;
    this.#options.logger.info(
      `Retention cleanup completed: ${countOf(totals.cleared, 'S3 object')} deleted, ` +
        `${countOf(totals.stamped, 'run')} marked as cleared`,
      { batches, spared, failed, dead },
    );
  }
}

/** A wait that ends when the next stamp is due; another listener may be at it just now. */
function untilStamp(milliseconds: number, nextStampSeconds: number | undefined): number {
  if (nextStampSeconds === undefined) return milliseconds;
  return Math.min(milliseconds, Math.max(nextStampSeconds * 1_000, BUSY_MILLISECONDS));
}

function jittered(seconds: number): number {
  return seconds * (1 - JITTER * Math.random());
}
