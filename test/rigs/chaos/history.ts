import pg from 'pg';

/** Something that was so from one commit until the next. Times are epoch milliseconds. */
export interface Version<T> {
  readonly state: T;
  /** Its commit: before this nobody can have seen it. */
  readonly from: number;
  /** Once its writer had the answer, everybody who looks sees it. */
  readonly surelyFrom: number;
  /** The next one's commit; Infinity: it is so still. */
  until: number;
  surelyUntil: number;
}

export interface RunState {
  readonly runId: string;
  readonly tenantId: string;
  readonly status: string;
  readonly completedAt: number | undefined;
  readonly bucket: string | undefined;
  readonly key: string | undefined;
  readonly clearedAt: number | undefined;
}

export interface Stamp {
  readonly runId: string;
  readonly bucket: string;
  readonly key: string;
  readonly committedAt: number;
}

export interface Item {
  readonly runId: string;
  readonly batchId: string | undefined;
  readonly bucket: string;
  readonly key: string;
}

export interface Lease {
  readonly batchId: string;
  readonly lease: string;
  /** When claim wrote it, and when that was committed: it looked at the world in between. */
  readonly writtenAt: number;
  readonly committedAt: number;
  /** What it ran until, whether or not it was given back before. */
  readonly deadline: number;
  endedAt: number;
  /** Of the batch, when it was claimed while another's lease was valid. */
  readonly tookFromValid: boolean;
}

export interface Hold {
  readonly holdId: string;
  readonly runId: string | undefined;
  readonly tenantId: string | undefined;
  readonly from: number;
  readonly surelyFrom: number;
  releasedFrom: number;
}

/** All that happened to the tables, as the triggers of history-tables.sql saw it. */
export interface History {
  readonly runs: ReadonlyMap<string, readonly Version<RunState>[]>;
  readonly stamps: readonly Stamp[];
  /** Of each object, what was flagged of it. Key: {@link objectName}. */
  readonly items: ReadonlyMap<string, readonly Version<Item>[]>;
  readonly leases: ReadonlyMap<string, readonly Lease[]>;
  readonly holds: readonly Hold[];
  readonly policies: ReadonlyMap<string, readonly Version<number>[]>;
  /** Of the batches that were settled: what their rows say was cleared. */
  readonly settledCleared: number;
  /** Results that left the work tables in the transaction that settled their batch. */
  readonly itemsSettled: number;
  /** Changes to the application's rows that nobody but the application may make. */
  readonly foreignChanges: readonly string[];
}

/** When the writer of a transaction had its answer, by transaction id; epoch milliseconds. */
export type Acknowledgements = ReadonlyMap<string, number>;

/** How long an unanswered commit may take until everybody sees it, in milliseconds. */
const UNANSWERED_MS = 5_000;

export function objectName(bucket: string, key: string): string {
  return `${bucket}/${key}`;
}

/**
 * Reads what the triggers wrote.
 *
 * @param applicationName by which the application's own changes are known.
 */
export async function readHistory(
  url: string,
  acknowledged: Acknowledgements,
  applicationName: string,
): Promise<History> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const read = async (table: string, columns: string): Promise<Change[]> => {
      const { rows } = await client.query<Change>(
        `select ${columns}, xid::text as xid,
          extract(epoch from pg_xact_commit_timestamp(xid::xid))::float8 * 1000 as committed
        from history.${table} order by seq`,
      );
      return rows;
    };
    const surely = ({ xid, committed }: Change): number =>
      acknowledged.get(xid) ?? committed + UNANSWERED_MS;
    const runChanges = await read(
      'run_change',
      `by, op, run_id, tenant_id, status, bucket, key, only_stamped,
      ${epoch('completed_at')}, ${epoch('cleared_at')}, ${epoch('was_cleared_at')}`,
    );
    const itemChanges = await read('item_change', 'op, run_id, batch_id::text, bucket, key');
    const batchChanges = await read(
      'batch_change',
      `batch_id::text, lease, was_lease, cleared, ${epoch('at')}, ${epoch('visible_at')},
      ${epoch('was_visible_at')}, ${epoch('settled_at')}, ${epoch('was_settled_at')}`,
    );
    const holdChanges = await read(
      'hold_change',
      `hold_id::text, run_id, tenant_id, ${epoch('released_at')}`,
    );
    const policyChanges = await read(
      'policy_change',
      'tenant_id, extract(epoch from retain)::float8 * 1000 as retain',
    );
    const settling = new Set(
      batchChanges.filter(isSettled).map(({ xid, batch_id }) => `${xid} ${batch_id}`),
    );
    return {
      runs: versionsOf(runChanges, (change) => change.run_id, stateOfRun, surely),
      stamps: runChanges.filter(isStamp).map((change) => ({
        runId: change.run_id,
        bucket: change.bucket ?? '',
        key: change.key ?? '',
        committedAt: change.committed,
      })),
      items: itemsOf(itemChanges, surely),
      leases: leasesOf(batchChanges),
      holds: holdsOf(holdChanges, surely),
      policies: versionsOf(
        policyChanges,
        (change) => change.tenant_id,
        (change) => change.retain,
        surely,
      ),
      settledCleared: batchChanges.filter(isSettled).reduce((sum, { cleared }) => sum + cleared, 0),
      itemsSettled: itemChanges.filter(
        ({ op, xid, batch_id }) => op === 'DELETE' && settling.has(`${xid} ${batch_id}`),
      ).length,
      foreignChanges: runChanges
        .filter(({ by, only_stamped }) => by !== applicationName && only_stamped !== true)
        .map(({ by, op, run_id }) => `${op} of run ${run_id} by ${by || 'somebody'}`),
    };
  } finally {
    await client.end();
  }
}

/** A row of one of the tables; each has some of these. */
interface Change {
  readonly xid: string;
  readonly committed: number;
  readonly by: string;
  readonly op: string;
  readonly run_id: string;
  readonly tenant_id: string;
  readonly status: string;
  readonly completed_at: number | null;
  readonly bucket: string | null;
  readonly key: string | null;
  readonly cleared_at: number | null;
  readonly was_cleared_at: number | null;
  readonly only_stamped: boolean | null;
  readonly batch_id: string | null;
  readonly at: number;
  readonly lease: string | null;
  readonly was_lease: string | null;
  readonly visible_at: number;
  readonly was_visible_at: number | null;
  readonly settled_at: number | null;
  readonly was_settled_at: number | null;
  readonly cleared: number;
  readonly hold_id: string;
  readonly released_at: number | null;
  readonly retain: number;
}

function epoch(column: string): string {
  return `extract(epoch from ${column})::float8 * 1000 as ${column}`;
}

function isStamp({ op, cleared_at, was_cleared_at, only_stamped }: Change): boolean {
  return op === 'UPDATE' && only_stamped === true && cleared_at !== null && was_cleared_at === null;
}

/** A batch of which all was spared ends with its claim, and clears nothing. */
/** Under a lease, or stamped later without one. */
function isSettled({ settled_at, was_settled_at, cleared }: Change): boolean {
  return settled_at !== null && was_settled_at === null && cleared > 0;
}

function stateOfRun(change: Change): RunState | undefined {
  if (change.op === 'DELETE') return undefined;
  return {
    runId: change.run_id,
    tenantId: change.tenant_id,
    status: change.status,
    completedAt: change.completed_at ?? undefined,
    bucket: change.bucket ?? undefined,
    key: change.key ?? undefined,
    clearedAt: change.cleared_at ?? undefined,
  };
}

/** The states of each thing, one after the other. A state of undefined is none. */
function versionsOf<T>(
  changes: readonly Change[],
  nameOf: (change: Change) => string,
  stateOf: (change: Change) => T | undefined,
  surely: (change: Change) => number,
): Map<string, Version<T>[]> {
  const all = new Map<string, Version<T>[]>();
  for (const change of changes) {
    const versions = all.get(nameOf(change)) ?? [];
    all.set(nameOf(change), versions);
    const last = versions.at(-1);
    if (last !== undefined && last.until === Infinity) {
      last.until = change.committed;
      last.surelyUntil = surely(change);
    }
    const state = stateOf(change);
    if (state === undefined) continue;
    versions.push({
      state,
      from: change.committed,
      surelyFrom: surely(change),
      until: Infinity,
      surelyUntil: Infinity,
    });
  }
  return all;
}

function itemsOf(
  changes: readonly Change[],
  surely: (change: Change) => number,
): Map<string, Version<Item>[]> {
  const byRun = versionsOf<Item>(
    changes,
    (change) => change.run_id,
    (change) =>
      change.op === 'DELETE'
        ? undefined
        : {
            runId: change.run_id,
            batchId: change.batch_id ?? undefined,
            bucket: change.bucket ?? '',
            key: change.key ?? '',
          },
    surely,
  );
  const byObject = new Map<string, Version<Item>[]>();
  for (const version of [...byRun.values()].flat()) {
    const name = objectName(version.state.bucket, version.state.key);
    const versions = byObject.get(name) ?? [];
    versions.push(version);
    byObject.set(name, versions);
  }
  return byObject;
}

function leasesOf(changes: readonly Change[]): Map<string, Lease[]> {
  const all = new Map<string, Lease[]>();
  for (const change of changes) {
    const batchId = change.batch_id ?? '';
    const leases = all.get(batchId) ?? [];
    all.set(batchId, leases);
    if (change.lease === change.was_lease) continue;
    const last = leases.at(-1);
    if (last !== undefined) last.endedAt = Math.min(last.endedAt, change.committed);
    if (change.lease === null) continue;
    leases.push({
      batchId,
      lease: change.lease,
      writtenAt: change.at,
      committedAt: change.committed,
      deadline: change.visible_at,
      endedAt: Infinity,
      tookFromValid: change.was_lease !== null && (change.was_visible_at ?? 0) > change.at,
    });
  }
  return all;
}

function holdsOf(changes: readonly Change[], surely: (change: Change) => number): Hold[] {
  const holds = new Map<string, Hold>();
  for (const change of changes) {
    const known = holds.get(change.hold_id);
    if (known === undefined) {
      holds.set(change.hold_id, {
        holdId: change.hold_id,
        runId: change.run_id ?? undefined,
        tenantId: change.tenant_id ?? undefined,
        from: change.committed,
        surelyFrom: surely(change),
        releasedFrom: Infinity,
      });
    } else if (change.released_at !== null) {
      known.releasedFrom = Math.min(known.releasedFrom, change.committed);
    }
  }
  return [...holds.values()];
}
