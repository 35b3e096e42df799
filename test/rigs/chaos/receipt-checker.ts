import pg from 'pg';
import type { Violation } from './checker.ts';
import type { Deletion } from './deletion-record.ts';
import { type History, objectName } from './history.ts';

/*
Holds receipts against the wire: what S3 has acknowledged has one receipt, and a receipt says nothing else. An object
has as many lives as it was put there; a key that was asked for twice in one life has one receipt.
*/

/** A result that a receipt names. Times are epoch milliseconds. */
export interface ReceiptLine {
  /** Of the receipt. */
  readonly name: string;
  readonly runId: string;
  readonly bucket: string;
  readonly key: string;
  /** Before its commit. */
  readonly settledAt: number;
}

/** What receipts are judged by. */
export interface ReceiptEvidence {
  readonly history: Pick<History, 'runs' | 'stamps'>;
  readonly deletions: readonly Deletion[];
  readonly puts: ReadonlyMap<string, readonly number[]>;
  readonly receipts: readonly ReceiptLine[];
}

const PROMISE = '14: what went can be proven';

/** A clock read in Postgres and one read here are this far apart at most, in milliseconds. */
const CLOCK_GRAIN_MS = 2;

/** Reads the receipts of deletions, result by result. */
export async function readReceipts(url: string): Promise<ReceiptLine[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query<ReceiptLine>(
      `select r.source || '-' || r.id as name, u.run_id::text as "runId", r.bucket,
        case when starts_with(u.key, E'\\x02') then substr(u.key, 2) else replace(u.key, E'\\x01', u.run_id::text) end as key,
        extract(epoch from r.settled_at)::float8 * 1000 as "settledAt"
      from retention._receipt r
      cross join unnest(r.run_ids, r.keys) as u (run_id, key)
      where r.source = 'batch'
      order by r.settled_at, r.id`,
    );
    return rows;
  } finally {
    await client.end();
  }
}

/** Every acknowledged key without its one receipt, and every receipt without its acknowledgement or its one stamp. */
export function checkReceipts(evidence: ReceiptEvidence): Violation[] {
  const lives = livesOf(evidence);
  const left = runsLeftAt(evidence.history);
  return [
    ...lives.flatMap((life) => checkAcknowledged(life, left)),
    ...lives.flatMap((life) => checkLines(life)),
  ].map((what) => ({ promise: PROMISE, what }));
}

/** What happened to an object from when it was put there until it was put there again. */
interface Life {
  readonly bucket: string;
  readonly key: string;
  readonly from: number;
  readonly until: number;
  /** When S3's word that it is gone reached who had asked. */
  readonly told: number[];
  readonly lines: ReceiptLine[];
  /** When which run was stamped for it. */
  readonly stamps: { readonly runId: string; readonly committedAt: number }[];
}

function livesOf({ deletions, puts, receipts, history }: ReceiptEvidence): Life[] {
  const lives = new Map<string, Life[]>();
  const lifeAt = (bucket: string, key: string, at: number): Life => {
    const name = objectName(bucket, key);
    let all = lives.get(name);
    if (all === undefined) {
      const starts = [-Infinity, ...(puts.get(name) ?? [])];
      all = starts.map((from, place) => ({
        bucket,
        key,
        from,
        until: starts[place + 1] ?? Infinity,
        told: [],
        lines: [],
        stamps: [],
      }));
      lives.set(name, all);
    }
    const life = all.findLast(({ from }) => from <= at + CLOCK_GRAIN_MS);
    if (life === undefined) throw new Error('an object without a life');
    return life;
  };
  for (const { bucket, key, toldGoneAt } of deletions) {
    if (toldGoneAt !== undefined) lifeAt(bucket, key, toldGoneAt).told.push(toldGoneAt);
  }
  for (const line of receipts) lifeAt(line.bucket, line.key, line.settledAt).lines.push(line);
  for (const { runId, bucket, key, committedAt } of history.stamps) {
    lifeAt(bucket, key, committedAt).stamps.push({ runId, committedAt });
  }
  return [...lives.values()].flat();
}

/** S3 has said that it is gone: each run that pointed at it then, and was stamped or points at it still, has a receipt. */
function checkAcknowledged(life: Life, left: RunsLeft): string[] {
  const { bucket, key, told, lines, stamps } = life;
  const stamped = stamps.map(({ runId }) => runId);
  const pointing = told.length === 0 ? [] : pointingAt(life, left);
  // A row that the application has changed before it could be stamped is not waited for.
  const owed = new Set([...stamped, ...pointing]);
  for (const { runId } of lines) owed.delete(runId);
  return Array.from(
    owed,
    (runId) =>
      `S3 said that ${objectName(bucket, key)} of run ${runId} is gone, and no receipt says so`,
  );
}

/** By the name of the object: which run points at it without a stamp until the end, and since when. */
type RunsLeft = ReadonlyMap<string, readonly { readonly runId: string; readonly from: number }[]>;

function runsLeftAt({ runs }: Pick<History, 'runs'>): RunsLeft {
  const left = new Map<string, { readonly runId: string; readonly from: number }[]>();
  for (const [runId, versions] of runs) {
    for (const { state, from, until } of versions) {
      const { bucket, key, clearedAt } = state;
      if (bucket === undefined || key === undefined) continue;
      if (until !== Infinity || clearedAt !== undefined) continue;
      const name = objectName(bucket, key);
      left.set(name, [...(left.get(name) ?? []), { runId, from }]);
    }
  }
  return left;
}

/** The runs that have pointed at an object, without a stamp, from when S3 had said that it is gone until the end. */
function pointingAt({ bucket, key, told, until }: Life, left: RunsLeft): string[] {
  if (until !== Infinity) return [];
  const last = Math.max(...told);
  const pointing = left.get(objectName(bucket, key)) ?? [];
  return pointing.filter(({ from }) => from <= last).map(({ runId }) => runId);
}

function checkLines({ bucket, key, told, lines, stamps }: Life): string[] {
  const name = objectName(bucket, key);
  return lines.flatMap((line, place) => {
    const { runId, settledAt } = line;
    const wrong: string[] = [];
    if (!told.some((at) => at <= settledAt + CLOCK_GRAIN_MS)) {
      wrong.push(`${line.name} says that ${name} is gone, and S3 had not said so`);
    }
    const before = lines.slice(0, place).filter((other) => other.runId === runId);
    // Where the application has changed the row meanwhile, it was not stamped, and is deleted again.
    const isTold = stamps.some((it) => it.runId === runId && it.committedAt < settledAt);
    if (before.length > 0 && (isTold || before.some((other) => other.name === line.name))) {
      wrong.push(
        `${before[0]?.name} and ${line.name} both say that ${name} of run ${runId} is gone`,
      );
    }
    return wrong;
  });
}
