import { NEVER_ABORTED } from '../lifecycle/linked-abort.ts';
import { type ListenAddress, detectPooler } from './pooler.ts';
import { createProbe } from './probe.ts';
import type { Queryable } from './queryable.ts';
import { subscribe } from './subscription.ts';

/** Whether notifications arrive at an address. */
export interface ListenProof {
  readonly arrived: boolean;
  /** Whether a pooler stands between us and the server. */
  readonly pooled: boolean;
  readonly milliseconds: number;
}

/**
 * Listens at an address and sends a notification from another session. That LISTEN was accepted and
 * that `pg_listening_channels()` names the channel prove nothing: a transaction pooler does both
 * and delivers nothing.
 *
 * @param notifier sends; another session of the same database.
 * @param timeoutMilliseconds how long the notification may take.
 * @throws DatabaseError when the address cannot be reached, or nothing could be sent.
 */
export async function proveListening(
  address: ListenAddress,
  notifier: Queryable,
  timeoutMilliseconds: number,
): Promise<ListenProof> {
  const applicationName = 'retention doctor';
  const probe = createProbe(notifier);
  const session = await subscribe({
    ...address,
    applicationName,
    channels: [probe.channel],
    signal: NEVER_ABORTED,
    onNotification: ({ raw }) => probe.arrived(raw),
  });
  try {
    const startedAt = performance.now();
    const outcome = await probe.send(timeoutMilliseconds, NEVER_ABORTED);
    const milliseconds = performance.now() - startedAt;
    if (outcome.kind === 'unsent') throw outcome.error;
    const pooled = await detectPooler(address, applicationName);
    return { arrived: outcome.kind === 'arrived', pooled, milliseconds };
  } finally {
    await session.close();
  }
}
