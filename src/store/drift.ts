import type { Queryable } from '../database/queryable.ts';
import { PRODUCT_VERSION } from './version.ts';

/** A verify's name for what it sets aside, when it began, and the youngest completion it judges. */
export interface VerifyStart {
  readonly verifyId: string;
  readonly startedAt: Date;
  readonly before: Date;
  /** Rows that were written since then are not judged. Undefined: all are. */
  readonly asOf?: Date | undefined;
}

/** One listed object. */
export interface Listed {
  readonly key: string;
  readonly size: number;
  readonly lastModified: Date;
  readonly etag?: string | undefined;
}

/** A stretch of a bucket's listing: all keys after `after` up to and including `until`. */
export interface ListedStretch {
  readonly bucket: string;
  readonly prefix: string;
  /** Undefined: from the prefix's start. */
  readonly after: string | undefined;
  /** Undefined: to the prefix's end. */
  readonly until: string | undefined;
  readonly objects: readonly Listed[];
}

/** A live row whose key was not listed. */
export interface MissingResult {
  readonly runId: string;
  readonly key: string;
  readonly isDue: boolean;
}

/** What listed keys without a live row turned out to be. */
export interface StrayCounts {
  readonly returned: number;
  readonly orphans: number;
  readonly orphanBytes: number;
}

/** One object that no run points at. */
export interface Orphan {
  readonly key: string;
  readonly bytes: number;
  readonly modifiedAt: Date;
  /** Undefined: the store did not tell it. */
  readonly etag: string | undefined;
  /** Whether that is so at this very moment. */
  readonly stillOrphan: boolean;
}

/** With fewer rows than this, `retention.compare_listing` has come to the end of a stretch. */
export const MISSING_PAGE = 1_000;

/**
 * `retention.begin_verify`: names a verify. What completed within the last hour is not judged: its
 * object may be younger than the listing.
 *
 * @throws DatabaseError
 */
export async function beginVerify(database: Queryable): Promise<VerifyStart> {
  const [row] = await database.query<{ verify_id: string; started_at: Date; before: Date }>(
    'select * from retention.begin_verify()',
  );
  if (row === undefined) throw new Error('the database did not name the verify');
  return { verifyId: row.verify_id, startedAt: row.started_at, before: row.before };
}

/**
 * `retention.compare_listing`
 *
 * @throws DatabaseError
 */
export async function compareListing(
  database: Queryable,
  start: VerifyStart,
  stretch: ListedStretch,
): Promise<readonly MissingResult[]> {
  const { bucket, prefix, after, until, objects } = stretch;
  const rows = await database.query<{ run_id: string; key: string; is_due: boolean }>(
    `select run_id, key, is_due
    from retention.compare_listing($1, $2, $3, $4, $5, $6::text[], $7::bigint[], $8::timestamptz[], $9, $10::text[], $11)`,
    [
      start.verifyId,
      bucket,
      prefix,
      after ?? null,
      until ?? null,
      objects.map((object) => object.key),
      objects.map((object) => object.size),
      objects.map((object) => object.lastModified),
      start.before,
      objects.map(({ etag }) => etag ?? null),
      start.asOf ?? null,
    ],
    { name: 'retention-compare-listing' },
  );
  return rows.map((row) => ({ runId: row.run_id, key: row.key, isDue: row.is_due }));
}

/**
 * `retention.stamp_gone`: stamps live rows whose object S3 has said is gone. Returns how many.
 *
 * @throws DatabaseError
 */
export async function stampGone(
  database: Queryable,
  bucket: string,
  gone: readonly MissingResult[],
): Promise<number> {
  const [row] = await database.query<{ stamped: number }>(
    'select retention.stamp_gone($1, $2::text[], $3::text[], $4) as stamped',
    [bucket, gone.map((each) => each.runId), gone.map((each) => each.key), PRODUCT_VERSION],
  );
  return row?.stamped ?? 0;
}

/**
 * `retention.sort_strays`
 *
 * @param marginSeconds younger orphans are not counted.
 * @throws DatabaseError
 */
export async function sortStrays(
  database: Queryable,
  start: VerifyStart,
  marginSeconds = 0,
): Promise<StrayCounts> {
  const [row] = await database.query<{ returned: number; orphans: number; orphan_bytes: number }>(
    `select returned, orphans, orphan_bytes
    from retention.sort_strays($1, $2, make_interval(secs => $3))`,
    [start.verifyId, start.startedAt, marginSeconds],
  );
  return {
    returned: row?.returned ?? 0,
    orphans: row?.orphans ?? 0,
    orphanBytes: row?.orphan_bytes ?? 0,
  };
}

/**
 * `retention.requeue_returned`: cleared rows whose object is back become live. Returns how many.
 *
 * @throws DatabaseError
 */
export async function requeueReturned(database: Queryable, start: VerifyStart): Promise<number> {
  const [row] = await database.query<{ requeued: number }>(
    'select retention.requeue_returned($1, $2, $3) as requeued',
    [start.verifyId, start.startedAt, PRODUCT_VERSION],
  );
  return row?.requeued ?? 0;
}

/**
 * `retention.next_orphans`: the next ones in key order that are older than a margin.
 *
 * @throws DatabaseError
 */
export async function nextOrphans(
  database: Queryable,
  request: {
    readonly verifyId: string;
    readonly bucket: string;
    readonly after: string | undefined;
    readonly marginSeconds: number;
    readonly limit: number;
  },
): Promise<readonly Orphan[]> {
  const rows = await database.query<{
    key: string;
    bytes: number;
    modified_at: Date;
    still_orphan: boolean;
    etag: string | null;
  }>(
    `select key, bytes, modified_at, still_orphan, etag
    from retention.next_orphans($1, $2, $3, make_interval(secs => $4), $5)`,
    [request.verifyId, request.bucket, request.after ?? null, request.marginSeconds, request.limit],
  );
  return rows.map((row) => ({
    key: row.key,
    bytes: row.bytes,
    modifiedAt: row.modified_at,
    stillOrphan: row.still_orphan,
    etag: row.etag ?? undefined,
  }));
}

/**
 * `retention.forget_strays`
 *
 * @throws DatabaseError
 */
export async function forgetStrays(database: Queryable, verifyId: string): Promise<void> {
  await database.query('select retention.forget_strays($1)', [verifyId]);
}

/**
 * The buckets that results were ever flagged in.
 *
 * @throws DatabaseError
 */
export async function knownBuckets(database: Queryable): Promise<readonly string[]> {
  const rows = await database.query<{ bucket: string }>(
    'select bucket from retention.bucket order by bucket',
  );
  return rows.map((row) => row.bucket);
}
