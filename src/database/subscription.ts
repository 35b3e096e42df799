import pgListen from 'pg-listen';
import { codeOf } from '../errors.ts';
import {
  addressWithPassword,
  connectError,
  describeTarget,
  trackSockets,
  sessionConfig,
} from './connection.ts';
import type { ListenAddress } from './pooler.ts';
import { settlesWithin } from '../lifecycle/deadline.ts';
import { onAbort } from '../lifecycle/linked-abort.ts';

/** What a notification said. */
export interface ReceivedNotification {
  readonly channel: string;
  /** The JSON value, or the text itself where that is not JSON; `undefined` for an empty one. */
  readonly payload: unknown;
  /** As it was sent, cut at {@link MAX_PAYLOAD_CHARACTERS}. */
  readonly raw: string;
}

/** One session that listens. */
export interface Subscription {
  /** Resolves with the reason once the session is lost. */
  readonly lost: Promise<Error>;
  /** Ends the session; afterwards no socket and no timer is left. May be repeated. */
  close(): Promise<void>;
}

/** What to listen to, and where. */
export interface SubscriptionOptions extends ListenAddress {
  readonly applicationName: string;
  readonly channels: readonly string[];
  /** Ends the attempt to connect. */
  readonly signal: AbortSignal;
  /** Must not throw: it is called by the reader of the connection. */
  onNotification(notification: ReceivedNotification): void;
}

/** Postgres allows less than 8,000 bytes, so a longer payload is not from Postgres. */
export const MAX_PAYLOAD_CHARACTERS = 8_000;

const ANSWER_MILLISECONDS = 10_000;
const GOODBYE_MILLISECONDS = 1_000;

type CreateSubscriber = typeof pgListen.default;

/** Under ESM the callable is the module itself or its `default`, depending on who loads it. */
const createSubscriber: CreateSubscriber =
  typeof pgListen === 'function' ? pgListen : pgListen.default;

interface ReadPayload {
  readonly payload: unknown;
  readonly raw: string;
}

/** Never throws: pg-listen raises an `error` event when its `parse` throws. */
function readPayload(text: string): ReadPayload {
  const raw = text.slice(0, MAX_PAYLOAD_CHARACTERS);
  if (text.length > MAX_PAYLOAD_CHARACTERS) return { payload: raw, raw };
  try {
    return { payload: JSON.parse(text) as unknown, raw };
  } catch {
    return { payload: raw, raw };
  }
}

/**
 * Opens a session and listens. When it is lost, the caller opens another, and pg-listen's own
 * reconnecting is off: it gives up for good after 3 s by default, leaks a session when it is closed
 * meanwhile, and reports the new session before notifications are proven to arrive.
 *
 * @throws DatabaseError when the server cannot be reached or refuses LISTEN; nothing is left then.
 */
export async function subscribe(options: SubscriptionOptions): Promise<Subscription> {
  const url = await addressWithPassword(options.url, options.passwordFile);
  try {
    return await subscribeOnce(withoutIdleTimeout(url), options);
  } catch (error) {
    // Whatever the words of the refusal: without it the session may be ended while it is idle, and no worse.
    if (options.signal.aborted || !isAnswer(error)) throw error;
    return subscribeOnce(url, options);
  }
}

/**
 * An address that asks the server not to end its idle session, as the default of a role may do. It is asked while
 * connecting, since pg-listen does not show its session. Poolers may refuse it.
 */
function withoutIdleTimeout(url: string): string {
  if (/[?&]options=/u.test(url)) return url;
  return `${url}${url.includes('?') ? '&' : '?'}options=-c%20idle_session_timeout%3D0`;
}

/** The server, or a pooler or proxy before it, has answered: it was reached. */
function isAnswer(error: unknown): boolean {
  return (
    /^[0-9A-Z]{5}$/u.test(codeOf(error) ?? '') && !/^(?:28|3D|57|53)/u.test(codeOf(error) ?? '')
  );
}

async function subscribeOnce(url: string, options: SubscriptionOptions): Promise<Subscription> {
  const { applicationName, signal } = options;
  const sockets = trackSockets();
  const subscriber = createSubscriber(
    sessionConfig({ url, applicationName, queryTimeoutMilliseconds: ANSWER_MILLISECONDS, sockets }),
    // 1 means no attempt at all, since it counts from 1; 0 would mean without end.
    { paranoidChecking: false, retryLimit: 1, retryTimeout: 0, parse: readPayload },
  );
  const lost = new Promise<Error>((resolve) => subscriber.events.on('error', resolve));
  subscriber.events.on('notification', ({ channel, payload }) => {
    const read = (payload ?? { payload: undefined, raw: '' }) as ReadPayload;
    options.onNotification({ channel, payload: read.payload, raw: read.raw });
  });

  const close = async (): Promise<void> => {
    const closed = subscriber.close().catch(() => undefined);
    await settlesWithin(GOODBYE_MILLISECONDS, Promise.all([closed, sockets.whenEmpty()]));
    await sockets.cut();
  };
  const release = onAbort(signal, () => void sockets.cut());
  try {
    signal.throwIfAborted();
    await subscriber.connect();
    for (const channel of options.channels) await subscriber.listenTo(channel);
    return { lost, close };
  } catch (error) {
    await close();
    throw connectError(error, describeTarget(url));
  } finally {
    release();
  }
}
