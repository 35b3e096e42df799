import type { Overview, Vitals } from '../store/overview.ts';
import type { Reading } from './cached-read.ts';
import type { ListenerState } from './listening.ts';
import type { Installation } from './page-frame.ts';
import type { Readiness } from './readiness.ts';

/** Everything that the status page and its JSON say, as of one moment. */
export interface Snapshot {
  readonly installation: Installation;
  readonly at: Date;
  /** How old the figures are where the database has not answered since in time; 0: it has. */
  readonly staleSeconds: number;
  readonly startedAt: Date;
  readonly vitals: Reading<Vitals>;
  readonly overview: Reading<Overview>;
  readonly listener: ListenerState;
  readonly readiness: Readiness;
}

/** The document of `/status.json`: the columns of `retention.status`, and beside them the lists. */
export function snapshotAsJson(snapshot: Snapshot): string {
  const { at, staleSeconds, startedAt, vitals, overview, listener, readiness } = snapshot;
  const document = {
    at,
    stale_seconds: staleSeconds,
    ready: readiness.ready,
    reasons: readiness.reasons,
    ...(vitals.ok ? { ...vitals.value.status, verifies: vitals.value.verifies ?? [] } : {}),
    listener: {
      listening: listener.listening,
      proven_at: listener.provenAt ?? null,
      reconnects: listener.reconnects,
      stopping: listener.stopping,
      started_at: startedAt,
    },
    ...(overview.ok ? listsOf(overview.value) : {}),
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

function listsOf({ pendingPolicies, surges, head, cut, ...lists }: Overview): object {
  // `surges` is the column of retention.status: how many there are.
  return {
    ...lists,
    pending_policies: pendingPolicies,
    open_surges: surges,
    last_seal: head,
    lists_cut: cut,
  };
}
