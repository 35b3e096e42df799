import type { Queryable } from '../database/queryable.ts';
import type { Instant } from '../instant.ts';

/** A seal as what leaves the database; keys as in JSON. */
export interface Head {
  readonly seal: number;
  /** SHA-256, in hexadecimal digits. */
  readonly digest: string;
  /** That of the seal before; null: it is the first. */
  readonly previous: string | null;
  readonly sealed_at: string;
  /** The name of the database: its copies share it. */
  readonly database: string | null;
}

/** One thing that does not hold; keys as in JSON. */
export interface SealProblem {
  readonly kind: 'changed' | 'removed' | 'added' | 'reordered' | 'rewritten' | 'missing' | 'cut';
  readonly seal: number | null;
  /** The receipt or change, such as `receipt batch-12`. */
  readonly member: string | null;
  readonly message: string;
}

/** `retention.verify_seals`: one seal, computed again. */
export interface VerifiedSeal {
  readonly sealId: number;
  readonly receipts: number;
  readonly results: number;
  readonly changes: number;
  /** Receipts that were removed after `setting.receipts_kept`. */
  readonly pruned: number;
  readonly problems: readonly SealProblem[];
}

/** `retention.verify_head`: what a head says of the seals here. */
export interface HeadStanding {
  readonly standing: 'holds' | 'rewritten' | 'later' | 'recovered' | 'gone' | 'other' | 'unknown';
  readonly sealId: number | null;
  readonly message: string;
}

/** `retention.verify_repeats`: two receipts that name one result; keys as in JSON. */
export interface RepeatedResult {
  readonly run_id: string;
  readonly bucket: string;
  readonly key: string;
  readonly first_receipt: string;
  readonly later_receipt: string;
  /** It was flagged before the other was settled: the later one was added. */
  readonly was_known: boolean;
}

/**
 * `retention.seal_now`: seals what has settled, some 100,000 results at a time.
 *
 * @returns whether something is left.
 * @throws DatabaseError
 */
export async function sealNow(
  database: Queryable,
): Promise<{ readonly sealId: number; readonly more: boolean }> {
  const [row] = await database.query<{ sealId: number; more: boolean }>(
    'select seal_id as "sealId", more from retention.seal_now()',
  );
  if (row === undefined) throw new Error('retention.seal_now() returns one row');
  return row;
}

/**
 * `retention.list_heads`: those after one, oldest first; without `after` the latest alone.
 *
 * @throws DatabaseError
 */
export async function listHeads(
  database: Queryable,
  { after, limit = 100 }: { readonly after?: number; readonly limit?: number } = {},
): Promise<readonly Head[]> {
  const rows = await database.query<{ head: Head }>(
    'select h as head from retention.list_heads($1, $2) h',
    [after ?? null, limit],
  );
  return rows.map(({ head }) => head);
}

/**
 * `retention.seals_since`: the latest seal before a time, and how much comes after it.
 *
 * @param since default: the beginning.
 * @throws DatabaseError
 */
export async function sealsSince(
  database: Queryable,
  since?: Date,
): Promise<{ readonly after: number; readonly seals: number; readonly results: number }> {
  const [row] = await database.query<{ after: number; seals: number; results: number }>(
    'select after, seals, results from retention.seals_since($1)',
    [since ?? '-infinity'],
  );
  if (row === undefined) throw new Error('retention.seals_since() returns one row');
  return row;
}

/**
 * `retention.verify_seals`: computes the seals after one again, until so many results are computed. Empty: there are
 * no more.
 *
 * @throws DatabaseError
 */
export async function verifySeals(
  database: Queryable,
  after: number,
  results: number,
): Promise<readonly VerifiedSeal[]> {
  return database.query<VerifiedSeal>(
    `select seal_id as "sealId", receipts, results, changes, pruned, problems
    from retention.verify_seals($1, $2)`,
    [after, results],
  );
}

/**
 * `retention.verify_end`: what is wrong beyond the seals themselves.
 *
 * @throws DatabaseError
 */
export async function verifyEnd(database: Queryable): Promise<readonly SealProblem[]> {
  return database.query<SealProblem>(
    'select kind, seal_id as seal, member, message from retention.verify_end()',
  );
}

/**
 * `retention.verify_repeats`: receipts that name the same result twice.
 *
 * @throws DatabaseError
 */
export async function verifyRepeats(database: Queryable): Promise<readonly RepeatedResult[]> {
  return database.query<RepeatedResult>('select * from retention.verify_repeats()');
}

/**
 * `retention.verify_head`.
 *
 * @throws DatabaseError
 */
export async function verifyHead(
  database: Queryable,
  head: {
    readonly digest: string;
    readonly seal?: number | undefined;
    readonly database?: string | null | undefined;
    readonly sealed_at?: string | undefined;
  },
): Promise<HeadStanding> {
  const [row] = await database.query<HeadStanding>(
    `select standing, seal_id as "sealId", message
    from retention.verify_head(decode($1, 'hex'), $2, $3, $4)`,
    [head.digest, head.seal ?? null, head.database ?? null, head.sealed_at ?? null],
  );
  if (row === undefined) throw new Error('retention.verify_head() returns one row');
  return row;
}

/**
 * `retention.export_seals`: the seals after one with all that they are digests of, until so many results are among
 * them. Empty: there are no more.
 *
 * @throws DatabaseError
 */
export async function exportSeals(
  database: Queryable,
  after: number,
  results: number,
): Promise<readonly { readonly sealId: number; readonly document: ExportedDocument }[]> {
  return database.query(
    'select seal_id as "sealId", document from retention.export_seals($1, $2)',
    [after, results],
  );
}

/** A line of an export; the rest of it is for the checker. */
export interface ExportedDocument {
  readonly kind: 'seal' | 'receipt' | 'change';
  readonly leaves?: readonly string[];
}

/**
 * `retention.seals_to_write`: the seals that are not yet an object in a bucket, oldest first.
 *
 * @throws DatabaseError
 */
export async function sealsToWrite(
  database: Queryable,
  bucket: string,
  limit = 100,
): Promise<readonly { readonly head: Head; readonly keptUntil: Instant }[]> {
  return database.query(
    'select head, kept_until as "keptUntil" from retention.seals_to_write($1, $2)',
    [bucket, limit],
  );
}

/**
 * `retention.note_seals_written`.
 *
 * @param to each seal up to this one is an object there.
 * @param problem why the next could not be written.
 * @throws DatabaseError
 */
export async function noteSealsWritten(
  database: Queryable,
  bucket: string,
  to: number,
  problem?: string,
): Promise<void> {
  await database.query('select retention.note_seals_written($1, $2, $3)', [
    bucket,
    to,
    problem ?? null,
  ]);
}
