import { randomUUID } from 'node:crypto';
import { withLinkedAbort } from '../lifecycle/linked-abort.ts';
import { pause } from '../lifecycle/pause.ts';
import type { Queryable } from './queryable.ts';

/** How a probe ended. */
export type ProbeOutcome =
  | { readonly kind: 'arrived' }
  /** Sent, but it did not come back in time. */
  | { readonly kind: 'silent' }
  /** Says nothing about the listening session: the other one could not send. */
  | { readonly kind: 'unsent'; readonly error: unknown }
  /** Aborted. */
  | { readonly kind: 'aborted' };

/** Sends notifications from another session to the listening one, and waits for them. */
export interface Probe {
  /** A private channel that must be listened to. */
  readonly channel: string;
  /** Takes the payload of each notification on the channel. */
  arrived(raw: string): void;
  send(timeoutMilliseconds: number, signal: AbortSignal): Promise<ProbeOutcome>;
}

/**
 * Makes a probe with a channel of its own. Each probe sends its own word and waits for that word, so
 * that no late answer and no notification of another program counts.
 */
export function createProbe(notifier: Queryable): Probe {
  const channel = `retention_probe_${randomUUID().replaceAll('-', '').slice(0, 16)}`;
  const awaited = new Map<string, () => void>();

  const sendWord = async (word: string): Promise<ProbeOutcome | undefined> => {
    try {
      await notifier.query('select pg_notify($1, $2)', [channel, word]);
      return undefined;
    } catch (error) {
      return { kind: 'unsent', error };
    }
  };
  return {
    channel,
    arrived: (raw) => awaited.get(raw)?.(),
    send: async (timeoutMilliseconds, signal) => {
      if (signal.aborted) return { kind: 'aborted' };
      const word = randomUUID();
      let hasArrived = false;
      try {
        return await withLinkedAbort(signal, async (waiting) => {
          awaited.set(word, () => {
            hasArrived = true;
            waiting.abort();
          });
          // The limit is for sending as well: a pool may take longer to find its network dead.
          const sending = sendWord(word).then((failed) => {
            if (failed !== undefined) waiting.abort();
            return failed;
          });
          const patience = pause(timeoutMilliseconds, waiting.signal);
          const failed = await Promise.race([sending, patience.then(() => undefined)]);
          await patience;
          if (hasArrived) return { kind: 'arrived' };
          if (signal.aborted) return { kind: 'aborted' };
          return failed ?? { kind: 'silent' };
        });
      } finally {
        awaited.delete(word);
      }
    },
  };
}
