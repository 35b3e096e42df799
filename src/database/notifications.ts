import { RetentionError, describeError } from '../errors.ts';
import { createAbortableLoop } from '../lifecycle/abortable-loop.ts';
import { type Backoff, createBackoff } from '../lifecycle/backoff.ts';
import { withLinkedAbort } from '../lifecycle/linked-abort.ts';
import { pause } from '../lifecycle/pause.ts';
import type { Service } from '../lifecycle/service.ts';
import type { Logger } from '../logger.ts';
import { type ListenAddress, detectPooler } from './pooler.ts';
import { type Probe, createProbe } from './probe.ts';
import type { Queryable } from './queryable.ts';
import { type ReceivedNotification, type Subscription, subscribe } from './subscription.ts';

/** How notifications are received. */
export interface NotificationsOptions {
  /** Must reach a real session of the notifier's database. */
  readonly listenUrl: string;
  readonly passwordFile?: ListenAddress['passwordFile'];
  /** Sends the probes; must not be the listening session. */
  readonly notifier: Queryable;
  readonly channels: readonly string[];
  readonly logger: Logger;
  /** What the server shows in `pg_stat_activity`. Default: `retention listen`. */
  readonly applicationName?: string;
  /**
   * Told of every notification. The payload is a JSON value, or the text itself where that is not
   * JSON; `raw` is the text. Anyone may have sent it.
   */
  onNotification(channel: string, payload: unknown, raw: string): void;
  /**
   * Told whenever listening has been proven to work, at first and after each loss: from here on
   * notifications arrive, so the caller can catch up on what it missed.
   */
  onCaughtUp(reason: 'connected' | 'reconnected'): void;
  /** A session from which nothing was heard for this long is probed. Default: 60,000. */
  readonly probeIntervalMilliseconds?: number;
  /** How long a probe may take to come back. Default: 10,000. */
  readonly probeTimeoutMilliseconds?: number;
  /** Pauses between attempts. Default: from half a second up to 30 seconds. */
  readonly backoff?: Backoff;
}

/** What is known about the listening session. */
export interface NotificationsState {
  /** Whether notifications were seen to arrive on the present session. */
  readonly listening: boolean;
  /** When one arrived last. */
  readonly provenAt: Date | undefined;
  /** How often listening was taken up again after a loss. */
  readonly reconnects: number;
  /** Why it is not listening, or not certain to be; one safe line. */
  readonly reason: string | undefined;
}

/** Listens until it is stopped, and reconnects whenever the server was lost. */
export interface Notifications extends Service {
  state(): NotificationsState;
  /** Replaces the session: what ended the notifier's sessions may concern this one as well. */
  renew(): void;
}

const DEFAULT_APPLICATION_NAME = 'retention listen';

/** One statement a minute when nothing else is heard. */
const PROBE_INTERVAL_MILLISECONDS = 60_000;
const PROBE_TIMEOUT_MILLISECONDS = 10_000;

/** Behind a transaction pooler an early retry is of no use. */
const POOLER_PAUSE_MILLISECONDS = 300_000;

/**
 * Receives notifications. `start` does not wait for the database and never rejects because of it;
 * while there is no session, the caller polls. Each session is proven by a notification that is
 * sent from another session, at first and after each long silence, and replaced when that does not
 * arrive. A loss is logged at once, and then less and less often while it lasts.
 */
export function createNotifications(options: NotificationsOptions): Notifications {
  return new ReconnectingNotifications(options);
}

class ReconnectingNotifications implements Notifications {
  readonly #options: NotificationsOptions;
  readonly #backoff: Backoff;
  readonly #loop: Service;
  readonly #probe: Probe;
  readonly #applicationName: string;
  #listening = false;
  #provenAt: Date | undefined;
  #proofs = 0;
  #reason: string | undefined = 'not started';
  #isPooled = false;
  #endSession: (() => void) | undefined;

  constructor(options: NotificationsOptions) {
    this.#options = options;
    this.#backoff = options.backoff ?? createBackoff();
    this.#probe = createProbe(options.notifier);
    this.#applicationName = options.applicationName ?? DEFAULT_APPLICATION_NAME;
    this.#loop = createAbortableLoop({
      name: 'notifications',
      turn: (signal) => this.#runSession(signal),
      intervalMilliseconds: 0,
      backoff: this.#poolerAwareBackoff(),
      onError: (error, { attempt }) => this.#reportLoss(error, attempt),
    });
  }

  start(): Promise<void> {
    this.#reason = 'connecting';
    return this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
    this.#reason = 'stopped';
  }

  state(): NotificationsState {
    return {
      listening: this.#listening,
      provenAt: this.#provenAt,
      reconnects: Math.max(0, this.#proofs - 1),
      reason: this.#reason,
    };
  }

  renew(): void {
    this.#endSession?.();
  }

  get #address(): ListenAddress {
    return { url: this.#options.listenUrl, passwordFile: this.#options.passwordFile };
  }

  #whenRenewed(): Promise<never> {
    return new Promise((_resolve, reject) => {
      this.#endSession = () =>
        reject(new RetentionError("the notifier's sessions were replaced", { code: 'RENEWED' }));
    });
  }

  /** Opens a session, proves it, and keeps it until it is lost or the signal is aborted. */
  async #runSession(signal: AbortSignal): Promise<void> {
    this.#isPooled = false;
    const session = await subscribe({
      ...this.#address,
      applicationName: this.#applicationName,
      channels: [...this.#options.channels, this.#probe.channel],
      signal,
      onNotification: (notification) => this.#receive(notification),
    });
    await withLinkedAbort(signal, async (ended) => {
      const watching = this.#watch(ended.signal);
      try {
        await Promise.race([watching, rejectWhenLost(session), this.#whenRenewed()]);
      } finally {
        this.#endSession = undefined;
        ended.abort();
        // The next session must not begin before everything of this one has ended.
        await watching.catch(() => undefined);
        this.#listening = false;
        await session.close();
      }
    });
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const { probeIntervalMilliseconds: interval = PROBE_INTERVAL_MILLISECONDS } = this.#options;
    await this.#prove(signal);
    while (!signal.aborted) {
      const heardAt = this.#provenAt;
      await pause(interval, signal);
      // Any notification proves as much as a probe would.
      const isQuiet = heardAt === this.#provenAt;
      if (isQuiet || this.#reason !== undefined) await this.#prove(signal);
    }
  }

  async #prove(signal: AbortSignal): Promise<void> {
    const { probeTimeoutMilliseconds: timeout = PROBE_TIMEOUT_MILLISECONDS } = this.#options;
    const outcome = await this.#probe.send(timeout, signal);
    if (signal.aborted) return;
    if (outcome.kind === 'arrived') this.#markProven();
    if (outcome.kind === 'silent') throw await this.#explainSilence(timeout, signal);
    if (outcome.kind === 'unsent') {
      if (!this.#listening) throw outcome.error;
      // The listening session may be healthy.
      this.#reason = `the probe could not be sent: ${describeError(outcome.error)}`;
    }
  }

  #markProven(): void {
    const { logger } = this.#options;
    this.#backoff.reset();
    this.#reason = undefined;
    if (this.#listening) return;
    this.#listening = true;
    this.#proofs += 1;
    const isFirst = this.#proofs === 1;
    const reconnects = this.#proofs - 1;
    if (isFirst) logger.info('Listening for notifications', { channels: this.#options.channels });
    else logger.info('Listening for notifications again', { reconnects });
    this.#guard(() => this.#options.onCaughtUp(isFirst ? 'connected' : 'reconnected'));
  }

  async #explainSilence(timeout: number, signal: AbortSignal): Promise<Error> {
    const asked = detectPooler(this.#address, this.#applicationName, signal);
    this.#isPooled = await asked.catch(() => false);
    const message = `a notification that was sent did not arrive within ${timeout} ms`;
    return this.#isPooled
      ? new RetentionError(`${message}, because a pooler stands before the server`, {
          code: 'POOLED',
          remedy: "Set DATABASE_LISTEN_URL to the server's own address, past the pooler.",
        })
      : new RetentionError(message, {
          code: 'SILENT',
          remedy: 'Check that DATABASE_LISTEN_URL and DATABASE_URL are the same database.',
        });
  }

  #receive({ channel, payload, raw }: ReceivedNotification): void {
    this.#provenAt = new Date();
    if (channel === this.#probe.channel) this.#probe.arrived(raw);
    else this.#guard(() => this.#options.onNotification(channel, payload, raw));
  }

  #reportLoss(error: unknown, attempt: number): void {
    const remedy = error instanceof RetentionError ? error.remedy : undefined;
    const reason = describeError(error);
    this.#reason = remedy === undefined ? reason : `${reason}. ${remedy}`;
    // The 1st, 2nd, 4th, 8th ... failure in a row.
    const isDue = Number.isInteger(Math.log2(attempt));
    const level = isDue ? 'warning' : 'debug';
    const message = 'Not listening for notifications, polling instead';
    this.#options.logger[level](message, { attempt, reason, remedy });
  }

  #poolerAwareBackoff(): Backoff {
    const inner = this.#backoff;
    const next = (): number => {
      const milliseconds = inner.next();
      return this.#isPooled ? POOLER_PAUSE_MILLISECONDS : milliseconds;
    };
    return {
      get attempts() {
        return inner.attempts;
      },
      next,
      // A turn ends without an error only when stopped; #markProven resets instead.
      reset: () => undefined,
    };
  }

  /** An error thrown into the reader of a connection would end the connection. */
  #guard(tell: () => void): void {
    try {
      tell();
    } catch (error) {
      this.#options.logger.error('A notification could not be handled', { error });
    }
  }
}

async function rejectWhenLost(session: Subscription): Promise<never> {
  throw new RetentionError('the listening session was lost', {
    code: 'LOST',
    cause: await session.lost,
  });
}
