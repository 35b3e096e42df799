import type { Queryable } from '../database/queryable.ts';
import type { Listed, MissingResult, VerifyStart } from './drift.ts';

/** What a verify does: kinds that were broken off go on, but for `list` and `inventory`. */
export type VerifyKind = 'repair' | 'dry run' | 'orphans' | 'list' | 'inventory';

/** A bucket that is verified, by whom, and since when. */
export interface VerifyProgress extends VerifyStart {
  /** Another verify that takes over has another one. */
  readonly holder: string;
  readonly isUnsorted: boolean;
  /** When it was last worked on. Undefined: it begins. */
  readonly resumedAt: Date | undefined;
}

/** A part of a bucket that is listed by itself, and how far it has come. */
export interface VerifyPart {
  readonly part: number;
  readonly prefix: string;
  readonly afterKey: string | undefined;
  readonly untilKey: string | undefined;
  readonly atKey: string | undefined;
  readonly token: string | undefined;
  readonly isListed: boolean;
  readonly isCompared: boolean;
  readonly listed: number;
  readonly stamped: number;
  /** Results of the whole run that are gone before they are due. */
  readonly tooSoon: number;
}

/** Live rows whose key was not listed, which wait for a second look. */
export interface MissingStretch {
  readonly stretchId: number;
  readonly afterKey: string | undefined;
  readonly missing: readonly MissingResult[];
}

/** What a page of a part has shown. */
export interface ComparedPage {
  /** Everything up to here is compared. Undefined: as far as before. */
  readonly atKey?: string | undefined;
  readonly listed: number;
  readonly token?: string | undefined;
  /** A key before the first missing one: where a second look begins. */
  readonly afterKey?: string | undefined;
  readonly missing?: readonly MissingResult[];
}

/**
 * `retention.resume_verify`
 *
 * @throws DatabaseError
 */
export async function resumeVerify(
  database: Queryable,
  request: {
    readonly bucket: string;
    readonly prefixes: readonly string[];
    readonly kind: VerifyKind;
    readonly restart: boolean;
    readonly beganAt?: Date | undefined;
  },
): Promise<VerifyProgress> {
  const { bucket, prefixes, kind, restart, beganAt } = request;
  const [row] = await database.query<{
    verify_id: string;
    holder: string;
    started_at: Date;
    before: Date;
    is_unsorted: boolean;
    resumed_at: Date | null;
  }>('select * from retention.resume_verify($1, $2::text[], $3, $4, $5)', [
    bucket,
    prefixes,
    kind,
    restart,
    beganAt ?? null,
  ]);
  if (row === undefined) throw new Error('the database did not name the verify');
  return {
    verifyId: row.verify_id,
    holder: row.holder,
    startedAt: row.started_at,
    before: row.before,
    asOf: kind === 'inventory' ? row.started_at : undefined,
    isUnsorted: row.is_unsorted,
    resumedAt: row.resumed_at ?? undefined,
  };
}

/**
 * `retention.verify_parts`
 *
 * @throws DatabaseError
 */
export async function verifyParts(
  database: Queryable,
  verifyId: string,
): Promise<readonly VerifyPart[]> {
  const rows = await database.query<{
    part: number;
    prefix: string;
    after_key: string | null;
    until_key: string | null;
    at_key: string | null;
    token: string | null;
    is_listed: boolean;
    is_compared: boolean;
    listed: number;
    stamped: number;
    too_soon: number;
  }>('select * from retention.verify_parts($1)', [verifyId]);
  return rows.map((row) => ({
    part: row.part,
    prefix: row.prefix,
    afterKey: row.after_key ?? undefined,
    untilKey: row.until_key ?? undefined,
    atKey: row.at_key ?? undefined,
    token: row.token ?? undefined,
    isListed: row.is_listed,
    isCompared: row.is_compared,
    listed: row.listed,
    stamped: row.stamped,
    tooSoon: row.too_soon,
  }));
}

type Held = Pick<VerifyProgress, 'verifyId' | 'holder'>;

/**
 * `retention.note_verified`. False: another verify has taken over.
 *
 * @throws DatabaseError
 */
export function noteVerified(
  database: Queryable,
  { verifyId, holder }: Held,
  part: number,
  page: ComparedPage,
): Promise<boolean> {
  const { atKey, listed, token, afterKey, missing = [] } = page;
  return isOurs(
    database,
    `select retention.note_verified($1, $2, $3, $4, $5, $6, $7, $8::text[], $9::text[], $10::boolean[]) as ours`,
    [
      verifyId,
      holder,
      part,
      atKey ?? null,
      listed,
      token ?? null,
      afterKey ?? null,
      missing.map(({ runId }) => runId),
      missing.map(({ key }) => key),
      missing.map(({ isDue }) => isDue),
    ],
  );
}

/**
 * `retention.note_part_done`. False: another verify has taken over.
 *
 * @throws DatabaseError
 */
export function notePartDone(
  database: Queryable,
  { verifyId, holder }: Held,
  part: number,
  what: 'listed' | 'compared',
): Promise<boolean> {
  return isOurs(database, 'select retention.note_part_done($1, $2, $3, $4) as ours', [
    verifyId,
    holder,
    part,
    what,
  ]);
}

/**
 * `retention.next_stretch`. Without a part: of what is gone before it was due.
 *
 * @throws DatabaseError
 */
export async function nextStretch(
  database: Queryable,
  verifyId: string,
  part: number | undefined,
  afterId = 0,
): Promise<MissingStretch | undefined> {
  const [row] = await database.query<{
    stretch_id: number;
    after_key: string | null;
    run_ids: string[];
    keys: string[];
    dues: boolean[];
  }>('select * from retention.next_stretch($1, $2, $3)', [verifyId, part ?? null, afterId]);
  if (row === undefined) return undefined;
  return {
    stretchId: row.stretch_id,
    afterKey: row.after_key ?? undefined,
    missing: row.run_ids.map((runId, place) => ({
      runId,
      key: row.keys[place] ?? '',
      isDue: row.dues[place] ?? false,
    })),
  };
}

/**
 * `retention.note_stretch`. False: another verify has taken over.
 *
 * @param looked how many were stamped, and the places (from 1) of what is gone before it was due.
 * @throws DatabaseError
 */
export function noteStretch(
  database: Queryable,
  { verifyId, holder }: Held,
  stretchId: number,
  looked: { readonly stamped: number; readonly tooSoon: readonly number[] },
): Promise<boolean> {
  return isOurs(database, 'select retention.note_stretch($1, $2, $3, $4, $5::integer[]) as ours', [
    verifyId,
    holder,
    stretchId,
    looked.stamped,
    looked.tooSoon,
  ]);
}

/**
 * `retention.unsort_verify`. False: another verify has taken over.
 *
 * @throws DatabaseError
 */
export function unsortVerify(database: Queryable, { verifyId, holder }: Held): Promise<boolean> {
  return isOurs(database, 'select retention.unsort_verify($1, $2) as ours', [verifyId, holder]);
}

/**
 * `retention.note_listed`
 *
 * @throws DatabaseError
 */
export async function noteListed(
  database: Queryable,
  verifyId: string,
  objects: readonly Listed[],
): Promise<void> {
  await database.query(
    'select retention.note_listed($1, $2::text[], $3::bigint[], $4::timestamptz[], $5::text[])',
    [
      verifyId,
      objects.map(({ key }) => key),
      objects.map(({ size }) => size),
      objects.map(({ lastModified }) => lastModified),
      objects.map(({ etag }) => etag ?? null),
    ],
  );
}

/**
 * `retention.next_listed`: the next thousand in the order of bytes.
 *
 * @throws DatabaseError
 */
export async function nextListed(
  database: Queryable,
  verifyId: string,
  prefix: string,
  after: string | undefined,
): Promise<readonly Listed[]> {
  const rows = await database.query<{
    key: string;
    bytes: number;
    modified_at: Date;
    etag: string | null;
  }>('select * from retention.next_listed($1, $2, $3)', [verifyId, prefix, after ?? null]);
  return rows.map((row) => ({
    key: row.key,
    size: row.bytes,
    lastModified: row.modified_at,
    etag: row.etag ?? undefined,
  }));
}

/**
 * `retention.next_returned`
 *
 * @throws DatabaseError
 */
export async function nextReturned(
  database: Queryable,
  verifyId: string,
  after: string | undefined,
): Promise<readonly string[]> {
  const rows = await database.query<{ key: string }>(
    'select k as key from retention.next_returned($1, $2) k',
    [verifyId, after ?? null],
  );
  return rows.map(({ key }) => key);
}

/**
 * `retention.drop_strays`
 *
 * @throws DatabaseError
 */
export async function dropStrays(
  database: Queryable,
  verifyId: string,
  keys: readonly string[],
): Promise<void> {
  await database.query('select retention.drop_strays($1, $2::text[])', [verifyId, keys]);
}

/**
 * `retention.end_verify`
 *
 * @throws DatabaseError
 */
export async function endVerify(database: Queryable, { verifyId, holder }: Held): Promise<void> {
  await database.query('select retention.end_verify($1, $2)', [verifyId, holder]);
}

async function isOurs(
  database: Queryable,
  text: string,
  parameters: readonly unknown[],
): Promise<boolean> {
  const [row] = await database.query<{ ours: boolean }>(text, [...parameters]);
  return row?.ours === true;
}
