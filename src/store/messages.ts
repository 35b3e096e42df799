import type { Queryable } from '../database/queryable.ts';

/** A message to the webhook; keys as in SQL. */
export interface Message {
  /** `halted`, `copy`, `resumed`, `surge`, `dead`, `sealed`. */
  readonly kind: string;
  /** The same at each attempt. */
  readonly message_id: string;
  /** 1 for the first. */
  readonly attempt: number;
  readonly happened_at: string;
  /** How many announcements it stands for: the latest one is in `payload`. */
  readonly announcements: number;
  readonly database: string;
  /** As it was announced, without texts that may name keys. */
  readonly payload: Readonly<Record<string, unknown>>;
}

/** The messages that this sender alone has for a while. */
export interface ClaimedMessages {
  readonly messages: readonly Message[];
  /** Until there may be more; undefined: nothing waits. */
  readonly nextSeconds: number | undefined;
}

/**
 * `retention.claim_messages`: takes what is to be sent to the webhook now.
 *
 * @throws DatabaseError
 */
export async function claimMessages(
  database: Queryable,
  leaseSeconds: number,
): Promise<ClaimedMessages> {
  const [row] = await database.query<{
    messages: readonly Message[] | null;
    next_seconds: number | null;
  }>('select messages, next_seconds from retention.claim_messages($1)', [
    `${leaseSeconds} seconds`,
  ]);
  return { messages: row?.messages ?? [], nextSeconds: row?.next_seconds ?? undefined };
}

/**
 * `retention.settle_message`: writes down what became of a message.
 *
 * @param problem why it was not delivered. Default: it was.
 * @throws DatabaseError
 */
export async function settleMessage(
  database: Queryable,
  messageId: string,
  problem?: string,
): Promise<void> {
  await database.query('select retention.settle_message($1, $2)', [messageId, problem ?? null]);
}
