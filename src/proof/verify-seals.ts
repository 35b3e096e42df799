import { DatabaseError, RetentionError, SQLSTATE } from '../errors.ts';
import type { Head, RepeatedResult, SealProblem } from '../store/seals.ts';
import type { StampAccount } from '../store/receipts.ts';
import type { Store } from '../store/store.ts';
import type { KeptHead } from './heads.ts';

/** What is verified. */
export interface VerifySealsOptions {
  readonly store: Store;
  /** Heads that were kept outside. Default: none. */
  readonly heads?: readonly KeptHead[];
  /** Only the seals that were made since. Default: all. */
  readonly since?: Date | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (done: number, known: number) => void;
}

/** What a head that was kept outside says; keys as in JSON. */
export interface JudgedHead {
  readonly seal: number | null;
  readonly digest: string;
  readonly holds: boolean;
  readonly message: string;
}

/** What came of verifying; keys as in JSON. */
export interface SealVerification {
  /** Nothing was changed, removed, added or reordered, and each head is that of its seal. */
  readonly holds: boolean;
  readonly seals: number;
  readonly receipts: number;
  readonly results: number;
  readonly changes: number;
  /** Receipts that were removed after `setting.receipts_kept`; their digests are there. */
  readonly pruned: number;
  /** What does not hold, in the order of the seals. */
  readonly problems: readonly SealProblem[];
  readonly heads: readonly JudgedHead[];
  /** Results that were deleted again after a first time: restored, or written once more. Breaks nothing. */
  readonly deleted_again: number;
  /** Stamps and receipts held against each other. None of it breaks a seal. Null: the table is detached. */
  readonly stamps: readonly StampAccount[] | null;
  /** The latest seal; null: there is none. */
  readonly head: Head | null;
  /** Why what has settled since was not sealed first; null: it was. */
  readonly unsealed_because: string | null;
}

/** So many results are computed at a time: a third of a second. */
const PAGE_RESULTS = 50_000;

/** @throws RetentionError when the work was ended by a signal. */
export function refuseStopped(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  throw new RetentionError('It was stopped before its end. The rest was not checked', {
    code: 'STOPPED',
  });
}

/** Seals what has settled. Returns why it could not be, in a sentence. */
export async function sealFirst(
  store: Pick<Store, 'sealNow' | 'readGate'>,
  signal?: AbortSignal,
): Promise<string | null> {
  try {
    while ((await store.sealNow()).more) refuseStopped(signal);
  } catch (error) {
    const code = error instanceof DatabaseError ? error.sqlState : undefined;
    if (code === SQLSTATE.insufficient_privilege) {
      return 'this role may not seal; what has settled since is sealed by the next tick';
    }
    if (code === SQLSTATE.read_only_sql_transaction) return 'this server is read-only';
    throw error;
  }
  const gate = await store.readGate();
  const copy = gate.find(({ reason }) => reason === 'copy');
  return copy === undefined ? null : `nothing is sealed here: ${copy.because}`;
}

/**
 * Computes every seal again from its receipts and changes, page by page.
 *
 * @throws DatabaseError
 */
export async function verifySeals(options: VerifySealsOptions): Promise<SealVerification> {
  const { store, heads = [], since, signal, onProgress } = options;
  const unsealed = await sealFirst(store, signal);
  const known = await store.sealsSince(since);
  const counts = { seals: 0, receipts: 0, results: 0, changes: 0, pruned: 0 };
  const problems: SealProblem[] = [];
  // Beside the seals: it reads other rows, and for as long.
  const accounting = account(store, since);
  // Where the seals cannot be read, that is what is said.
  accounting.catch(() => undefined);
  let { after } = known;
  for (;;) {
    refuseStopped(signal);
    const page = await store.verifySeals(after, PAGE_RESULTS);
    for (const seal of page) {
      counts.seals += 1;
      counts.receipts += seal.receipts;
      counts.results += seal.results;
      counts.changes += seal.changes;
      counts.pruned += seal.pruned;
      problems.push(...seal.problems);
      after = seal.sealId;
    }
    if (page.length === 0) break;
    onProgress?.(counts.results, known.results);
  }
  problems.push(...(await store.verifyEnd()));
  const repeats = await store.verifyRepeats();
  problems.push(...repeats.filter((it) => it.was_known).map((it) => addedTwice(it)));
  const judged: JudgedHead[] = [];
  for (const head of heads) judged.push(await judge(store, head));
  const [head] = await store.listHeads();
  return {
    holds: problems.length === 0 && judged.every(({ holds }) => holds),
    ...counts,
    problems,
    heads: judged,
    deleted_again: repeats.filter((it) => !it.was_known).length,
    stamps: await accounting,
    head: head ?? null,
    unsealed_because: unsealed,
  };
}

function addedTwice(repeat: RepeatedResult): SealProblem {
  return {
    kind: 'added',
    seal: null,
    member: `receipt ${repeat.later_receipt}`,
    message:
      `receipt ${repeat.later_receipt} was added: it names run ${repeat.run_id}, as receipt ` +
      `${repeat.first_receipt} does, and was flagged before that was settled`,
  };
}

async function judge(store: Store, head: KeptHead): Promise<JudgedHead> {
  const { standing, sealId, message } = await store.verifyHead(head);
  return { seal: sealId, digest: head.digest, holds: standing === 'holds', message };
}

async function account(store: Store, from: Date | undefined): Promise<SealVerification['stamps']> {
  try {
    return await store.accountStamps({ from });
  } catch (error) {
    const isDetached =
      error instanceof DatabaseError &&
      error.sqlState === SQLSTATE.object_not_in_prerequisite_state;
    if (isDetached) return null;
    throw error;
  }
}
