import type { Deletion } from './deletion-record.ts';
import {
  type History,
  type Hold,
  type Item,
  type Lease,
  objectName,
  type RunState,
  type Stamp,
  type Version,
} from './history.ts';

/*
Judges a campaign by what was seen on the wire and what triggers wrote, and by the promises alone:
nothing here knows how the product keeps them. A claim looks at the world somewhere between the
write of its lease and its commit, and a change is seen somewhere between its commit and its writer's
answer. Where the two overlap, either order is right; elsewhere there is only one.
*/

/** What a campaign left behind. */
export interface Evidence {
  readonly history: History;
  readonly deletions: readonly Deletion[];
  /** By object: when the application put it there. */
  readonly puts: ReadonlyMap<string, readonly number[]>;
  /** By hold: the runs that were in flight when it was placed, as whoever placed it was told. */
  readonly tooLate: ReadonlyMap<string, ReadonlySet<string>>;
}

/** One broken promise. */
export interface Violation {
  readonly promise: string;
  readonly what: string;
}

/** A clock read in Postgres and one read here are this far apart at most, in milliseconds. */
const CLOCK_GRAIN_MS = 2;

/** Everything that went wrong; nothing, when all promises were kept. */
export function check(evidence: Evidence): Violation[] {
  const { history, deletions } = evidence;
  return [
    ...deletions.flatMap((deletion) => checkDeletion(deletion, evidence)),
    ...deletions.flatMap((deletion) => checkHolds(deletion, evidence)),
    ...history.stamps.flatMap((stamp) => checkStamp(stamp, evidence)),
    ...[...history.leases.values()].flat().filter(tookFromValid).map(asViolation),
    ...history.foreignChanges.map((what) => ({ promise: '4: rows are never deleted', what })),
    ...checkCount(history),
  ];
}

/** Promise 1: at its claim the run was due and free, and pointed at that very object. */
function checkDeletion(deletion: Deletion, evidence: Evidence): Violation[] {
  const { history } = evidence;
  const { bucket, key, arrivedAt, arrivedFrom, doneAt } = deletion;
  const claims = claimsOf(deletion, history);
  const name = objectName(bucket, key);
  if (claims.length === 0) {
    const leases = leasesOf(deletion, history).map(({ lease }) => describeLease(lease));
    const said = `${name} was asked for at ${time(arrivedAt)}, or from ${time(arrivedFrom)} on, and nobody held a lease on it; ${leases.join(', ') || 'nobody ever did'}`;
    return [{ promise: '8: a lease on what is worked on', what: said }];
  }
  const reasons = claims.map(({ item, lease }) => wrongToClaim(item, lease, history));
  if (reasons.includes(undefined) || doneAt === undefined) return [];
  const what = `${name} was deleted at ${time(doneAt)}: ${reasons.join('; ')}`;
  return [{ promise: '1: nothing live is deleted', what }];
}

interface Claim {
  readonly item: Item;
  readonly lease: Lease;
}

/** Under which leases may this have been asked for? */
function claimsOf(deletion: Deletion, history: History): Claim[] {
  return leasesOf(deletion, history).filter(({ lease }) => isWithin(lease, deletion));
}

/** All leases there ever were on an object. */
function leasesOf({ bucket, key }: Deletion, history: History): Claim[] {
  const items = history.items.get(objectName(bucket, key)) ?? [];
  return items.flatMap(({ state: item, from, until }) =>
    (history.leases.get(item.batchId ?? '') ?? [])
      // What claim spares leaves with its commit.
      .filter((lease) => from <= lease.committedAt && until > lease.committedAt)
      .map((lease) => ({ item, lease })),
  );
}

function isWithin({ writtenAt, endedAt, deadline }: Lease, deletion: Deletion): boolean {
  const { arrivedAt, arrivedFrom } = deletion;
  const end = Math.min(endedAt, deadline);
  return writtenAt - CLOCK_GRAIN_MS <= arrivedAt && arrivedFrom <= end + CLOCK_GRAIN_MS;
}

function describeLease({ batchId, writtenAt, endedAt, deadline }: Lease): string {
  const end = endedAt === Infinity ? 'never given back' : `given back at ${time(endedAt)}`;
  return `batch ${batchId} was leased from ${time(writtenAt)} to ${time(deadline)} and ${end}`;
}

/** Why a claim was wrong; undefined: it was right, or may have been. */
function wrongToClaim(item: Item, lease: Lease, history: History): string | undefined {
  const { runs, holds } = history;
  const states = visibleAt(runs.get(item.runId) ?? [], lease);
  const pointing = states.filter((state) => pointsAt(state, item));
  if (pointing.length === 0) return `run ${item.runId} did not point at it`;
  if (!pointing.some((state) => mayBeDue(state, lease, history))) {
    return `run ${item.runId} was not due`;
  }
  const hold = holds.find((each) =>
    pointing.every((state) => covers(each, state) && heldThroughout(each, lease)),
  );
  if (hold !== undefined) return `run ${item.runId} was under hold ${hold.holdId}`;
  const sharer = sharersOf(item, history).find(
    (versions) =>
      !mayBeAbsent(versions, lease) &&
      visibleAt(versions, lease).every((state) => needsObject(state, item, lease, history)),
  );
  const other = sharer?.[0]?.state.runId;
  return other === undefined ? undefined : `run ${other} shares the object and was not due`;
}

/** What a claim may have seen of a thing. */
function visibleAt<T>(versions: readonly Version<T>[], lease: Lease): T[] {
  const start = lease.writtenAt - CLOCK_GRAIN_MS;
  const end = lease.committedAt + CLOCK_GRAIN_MS;
  return versions
    .filter(({ from, surelyUntil }) => from <= end && surelyUntil >= start)
    .map(({ state }) => state);
}

/** Whether a claim may have found nothing at all of a thing: not yet there, or no more. */
function mayBeAbsent<T>(versions: readonly Version<T>[], lease: Lease): boolean {
  const [first, last] = [versions[0], versions.at(-1)];
  if (first === undefined || last === undefined) return true;
  return (
    first.surelyFrom > lease.writtenAt - CLOCK_GRAIN_MS ||
    last.until < lease.committedAt + CLOCK_GRAIN_MS
  );
}

function pointsAt(state: RunState, { bucket, key }: Item): boolean {
  return state.bucket === bucket && state.key === key && state.clearedAt === undefined;
}

function mayBeDue(state: RunState, lease: Lease, { policies }: History): boolean {
  return retentions(state, lease, policies).some((retain) => isDue(state, retain, lease));
}

function isDue(state: RunState, retain: number, { committedAt }: Lease): boolean {
  return (
    state.status === 'COMPLETED' &&
    state.completedAt !== undefined &&
    state.completedAt + retain < committedAt + CLOCK_GRAIN_MS
  );
}

/** The retention that a claim may have seen in force, in milliseconds. */
function retentions(
  { tenantId }: RunState,
  lease: Lease,
  policies: History['policies'],
): readonly number[] {
  const own = visibleAt(policies.get(tenantId) ?? [], lease);
  return own.length > 0 ? own : visibleAt(policies.get('*') ?? [], lease);
}

function covers({ runId, tenantId }: Hold, state: RunState): boolean {
  return runId === state.runId || tenantId === state.tenantId;
}

function heldThroughout({ surelyFrom, releasedFrom }: Hold, lease: Lease): boolean {
  return (
    surelyFrom < lease.writtenAt - CLOCK_GRAIN_MS &&
    releasedFrom > lease.committedAt + CLOCK_GRAIN_MS
  );
}

const sharers = new WeakMap<History, Map<string, Set<readonly Version<RunState>[]>>>();

/** The other runs that ever pointed at the same object. */
function sharersOf(item: Item, history: History): (readonly Version<RunState>[])[] {
  let byObject = sharers.get(history);
  if (byObject === undefined) {
    byObject = new Map();
    for (const versions of history.runs.values()) {
      for (const { state } of versions) {
        const name = objectName(state.bucket ?? '', state.key ?? '');
        byObject.set(name, (byObject.get(name) ?? new Set()).add(versions));
      }
    }
    sharers.set(history, byObject);
  }
  return [...(byObject.get(objectName(item.bucket, item.key)) ?? [])].filter(
    (versions) => versions[0]?.state.runId !== item.runId,
  );
}

/** Whatever the claim saw of its policy and its holds: it had to spare the object for this run. */
function needsObject(state: RunState, item: Item, lease: Lease, history: History): boolean {
  if (!pointsAt(state, item)) return false;
  const isHeld = history.holds.some((hold) => covers(hold, state) && heldThroughout(hold, lease));
  return isHeld || !mayBeDue(state, lease, history);
}

/** Promise 5: after a hold's answer nothing of it goes, but what that answer named. */
function checkHolds(deletion: Deletion, { history, tooLate }: Evidence): Violation[] {
  const { bucket, key, doneAt } = deletion;
  if (doneAt === undefined) return [];
  const name = objectName(bucket, key);
  return history.holds
    .filter((hold) => hold.surelyFrom < doneAt - CLOCK_GRAIN_MS && hold.releasedFrom > doneAt)
    .flatMap((hold) => {
      const answer = tooLate.get(hold.holdId);
      // Nobody had its answer, so nobody relied on it.
      if (answer === undefined) return [];
      const run = heldRuns(hold, deletion, history).find((runId) => !answer.has(runId));
      if (run === undefined) return [];
      const what = `${name} of run ${run} was deleted at ${time(doneAt)}, under hold ${hold.holdId} of ${time(hold.surelyFrom)}`;
      return [{ promise: '5: a hold wins', what }];
    });
}

/** The runs under a hold that pointed at an object all the time from the hold to its deletion. */
function heldRuns(hold: Hold, { bucket, key, doneAt = 0 }: Deletion, history: History): string[] {
  const item: Item = { runId: '', batchId: undefined, bucket, key };
  return sharersOf(item, history)
    .filter((versions) =>
      versions.some(
        ({ state, surelyFrom, until }) =>
          covers(hold, state) && pointsAt(state, item) && surelyFrom < hold.from && until > doneAt,
      ),
    )
    .map((versions) => versions[0]?.state.runId ?? '');
}

/** Promise 3: somebody had been told that this object is gone, since it was put there last. */
function checkStamp({ runId, bucket, key, committedAt }: Stamp, evidence: Evidence): Violation[] {
  const name = objectName(bucket, key);
  const putAt = (evidence.puts.get(name) ?? []).filter((at) => at < committedAt).at(-1) ?? 0;
  const isTold = acknowledgementsOf(evidence)
    .get(name)
    ?.some((at) => at >= putAt - CLOCK_GRAIN_MS && at <= committedAt + CLOCK_GRAIN_MS);
  if (isTold === true) return [];
  const what = `run ${runId} was stamped at ${time(committedAt)}, and S3 had not said that ${name} is gone`;
  return [{ promise: '3: a stamp is true', what }];
}

const acknowledgements = new WeakMap<Evidence, Map<string, number[]>>();

function acknowledgementsOf(evidence: Evidence): Map<string, number[]> {
  let byObject = acknowledgements.get(evidence);
  if (byObject === undefined) {
    byObject = new Map();
    for (const { bucket, key, toldGoneAt } of evidence.deletions) {
      if (toldGoneAt === undefined) continue;
      const name = objectName(bucket, key);
      const times = byObject.get(name) ?? [];
      times.push(toldGoneAt);
      byObject.set(name, times);
    }
    acknowledgements.set(evidence, byObject);
  }
  return byObject;
}

function tookFromValid({ tookFromValid: isSo }: Lease): boolean {
  return isSo;
}

function asViolation({ batchId, writtenAt }: Lease): Violation {
  const what = `batch ${batchId} was claimed at ${time(writtenAt)} while another's lease was valid`;
  return { promise: '8: two listeners never work on the same batch', what };
}

/** Promise 12: what batches say was cleared is what left the work tables with them. */
function checkCount({ settledCleared, itemsSettled, stamps }: History): Violation[] {
  const promise = '12: every figure is one it counted';
  const wrong: Violation[] = [];
  if (settledCleared !== itemsSettled) {
    const what = `batches say ${settledCleared} cleared, ${itemsSettled} results left the work tables`;
    wrong.push({ promise, what });
  }
  if (stamps.length > settledCleared) {
    wrong.push({ promise, what: `${stamps.length} stamps, but only ${settledCleared} cleared` });
  }
  return wrong;
}

function time(epochMs: number): string {
  return new Date(epochMs).toISOString().slice(11, 23);
}
