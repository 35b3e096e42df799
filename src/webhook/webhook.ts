import { randomUUID } from 'node:crypto';
import { DatabaseError, describeError } from '../errors.ts';
import { type AbortableLoop, createAbortableLoop } from '../lifecycle/abortable-loop.ts';
import { createBackoff } from '../lifecycle/backoff.ts';
import { MILLISECONDS } from '../lifecycle/duration.ts';
import { createFailureLog } from '../lifecycle/failure-log.ts';
import type { Logger } from '../logger.ts';
import type { Message } from '../store/messages.ts';
import type { Store } from '../store/store.ts';
import { bodyOf } from './message-body.ts';
import { post } from './post.ts';
import { readSecrets, signedHeaders } from './signature.ts';

/** Where messages go. */
export interface WebhookAddress {
  readonly url: string;
  /** A file with the secrets that sign, read for each message: they may be replaced meanwhile. */
  readonly secretFile: string;
}

/** What sends messages. */
export interface WebhookOptions extends WebhookAddress {
  readonly store: Pick<Store, 'claimMessages' | 'settleMessage'>;
  readonly logger: Logger;
  /** How often it looks when nothing has woken it. */
  readonly pollSeconds: number;
  /** How long a server may take to answer. Default: 10,000. */
  readonly timeoutMilliseconds?: number;
}

const TIMEOUT_MILLISECONDS = 10_000;

/** Longer than an attempt takes. Of a listener that was killed, another one sends the message then. */
const LEASE_SECONDS = 30;

/** The longest pause while the database does not answer. */
const LONGEST_PAUSE_MILLISECONDS = 30_000;

/**
 * Sends what a person should know at once. The database says what is to be sent and by which listener; a wake is only a
 * reason to look. A server that fails or hangs keeps nothing else waiting: of each kind one message is under way, and
 * `stop` ends the requests.
 */
export function createWebhook(options: WebhookOptions): AbortableLoop {
  const { store, logger, pollSeconds, timeoutMilliseconds = TIMEOUT_MILLISECONDS } = options;
  const failures = createFailureLog({
    logger,
    failed: 'The webhook failed',
    recovered: 'The webhook works again',
    level: 'warning',
  });

  const send = async (message: Message, signal: AbortSignal): Promise<void> => {
    let problem: string | undefined;
    try {
      const { kind, attempt } = message;
      await deliver(
        options,
        { id: message.message_id, body: bodyOf(message) },
        {
          timeoutMilliseconds,
          signal,
        },
      );
      failures.works();
      logger.debug('A message was delivered to the webhook', { kind, attempt });
    } catch (error) {
      // The server may have it: its lease runs out, and the next attempt has the same id.
      if (signal.aborted) return;
      failures.failed(error, { kind: message.kind, attempt: message.attempt });
      problem = describeError(error);
    }
    await store.settleMessage(message.message_id, problem);
  };

  return createAbortableLoop({
    name: 'the webhook',
    turn: async (signal) => {
      const { messages, nextSeconds = Infinity } = await store.claimMessages(LEASE_SECONDS);
      await Promise.all(messages.map((message) => send(message, signal)));
      if (messages.length > 0) return 0;
      return Math.min(pollSeconds, Math.max(nextSeconds, 0)) * MILLISECONDS.second + 5;
    },
    intervalMilliseconds: pollSeconds * MILLISECONDS.second,
    backoff: createBackoff({ capMilliseconds: LONGEST_PAUSE_MILLISECONDS }),
    onError: (error) => {
      // The listener says what the database has.
      if (error instanceof DatabaseError) logger.debug(`The webhook: ${describeError(error)}`);
      else failures.failed(error);
    },
  });
}

/**
 * Sends a message of the type `retention.test`, once.
 *
 * @throws RetentionError when it was not delivered.
 */
export async function sendTest(address: WebhookAddress, signal?: AbortSignal): Promise<string> {
  const id = randomUUID();
  const body = JSON.stringify({
    type: 'retention.test',
    timestamp: new Date().toISOString(),
    data: { kind: 'test', text: 'This is a test of the webhook of Retention Reactor.' },
  });
  await deliver(address, { id, body }, { timeoutMilliseconds: TIMEOUT_MILLISECONDS, signal });
  return id;
}

async function deliver(
  { url, secretFile }: WebhookAddress,
  message: { readonly id: string; readonly body: string },
  limits: { readonly timeoutMilliseconds: number; readonly signal?: AbortSignal | undefined },
): Promise<void> {
  const headers = signedHeaders(await readSecrets(secretFile), message, new Date());
  await post({ url, headers, body: message.body, ...limits });
}
