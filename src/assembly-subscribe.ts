import type { Config } from './config/config.ts';
import { openPool } from './assembly-store.ts';
import { type NotificationsState, createNotifications } from './database/notifications.ts';
import { UsageError } from './errors.ts';
import { type Logger, silentLogger } from './logger.ts';
import { CHANNEL_SCHEMAS, type Channel, readNotification } from './payloads/channels.ts';
import type { Notification } from './payloads/payloads.ts';

/** The channels that the database announces on; any role may listen and notify there. */
export const CHANNELS = Object.keys(CHANNEL_SCHEMAS) as readonly Channel[];

/** What a subscription tells. */
export type RetentionEvent =
  /** It has the shape that the database gives it. Anyone may have sent it: the tables are the truth. */
  | ({ readonly type: 'notification' } & Notification)
  /**
   * From here on notifications arrive. What came before, or while there was no session, is in the tables: look there now.
   */
  | { readonly type: 'connected' | 'reconnected' }
  /** It has another shape: from a later version of the schema, or not from the database's triggers. */
  | { readonly type: 'unknown'; readonly channel: string; readonly raw: string };

/** Told of each event, in their order. What it throws or rejects with is logged. */
export type OnEvent = (event: RetentionEvent) => void | Promise<void>;

/** What is listened to. */
export interface SubscribeRequest {
  /** From `readConfig`. */
  readonly config: Config;
  /** Default: silent. */
  readonly logger?: Logger;
  /** Default: all of them. */
  readonly channels?: readonly Channel[];
  readonly onEvent: OnEvent;
}

/** A subscription that goes on until it is stopped. */
export interface EventSubscription {
  /** What is known about the listening session. */
  state(): NotificationsState;
  /** Resolves when nothing of it is left. May be called twice. */
  stop(): Promise<void>;
}

/**
 * Listens to what the database announces, typed, and reconnects whenever the server was lost. Resolves at once and does not
 * wait for the database: the event `connected` says when it listens, and `reconnected` when it does again.
 *
 * @throws UsageError for no channel, or one that there is not.
 */
export async function subscribe(request: SubscribeRequest): Promise<EventSubscription> {
  const { config, logger = silentLogger, channels = CHANNELS, onEvent } = request;
  const wrong = channels.find((name) => !CHANNELS.includes(name));
  if (channels.length === 0 || wrong !== undefined) {
    const given = wrong === undefined ? 'none' : `"${wrong}"`;
    throw new UsageError(`subscribe: expected channels of ${CHANNELS.join(', ')}; given ${given}`);
  }
  const database = openPool(config, logger, {
    applicationName: 'retention subscribe',
    onRenewed: () => notifications.renew(),
  });
  const tell = createTeller(onEvent, logger);
  const notifications = createNotifications({
    listenUrl: config.databaseListenUrl,
    passwordFile: config.passwordFile,
    notifier: database,
    channels,
    logger,
    applicationName: 'retention subscribe',
    onNotification: tell.notification,
    onCaughtUp: tell.caughtUp,
  });
  await notifications.start();
  let stopping: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    await notifications.stop();
    await database.close();
  };
  return { state: () => notifications.state(), stop: () => (stopping ??= stop()) };
}

/** Makes events of what a listening session hears. */
export function createTeller(
  onEvent: OnEvent,
  logger: Logger,
): {
  readonly notification: (channel: string, payload: unknown, raw: string) => void;
  readonly caughtUp: (type: 'connected' | 'reconnected') => void;
} {
  const tell = (event: RetentionEvent): void => {
    const report = (error: unknown): void =>
      logger.error('An event could not be handled', { type: event.type, error });
    try {
      Promise.resolve(onEvent(event)).catch(report);
    } catch (error) {
      report(error);
    }
  };
  return {
    notification: (channel, payload, raw) => {
      const known = readNotification(channel, payload);
      tell(
        known === undefined
          ? { type: 'unknown', channel, raw }
          : { type: 'notification', ...known },
      );
    },
    caughtUp: (type) => tell({ type }),
  };
}
