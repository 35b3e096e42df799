import type { Queryable } from '../database/queryable.ts';

/** Which failed and dead results to revive: those that match everything that is named, or all of them by `all`. */
export interface RetrySelection {
  /** An empty list means none. */
  readonly runIds?: readonly string[];
  readonly tenantId?: string;
  readonly bucket?: string;
  /** The code that S3 answered with last, such as `AccessDenied`. */
  readonly code?: string;
  /** In the place of the others. */
  readonly all?: true;
}

/**
 * `retention.retry`: revives dead results and brings forward failed ones. Returns how many.
 *
 * @throws DatabaseError when neither a selection nor all is named.
 */
export async function retry(database: Queryable, selection: RetrySelection): Promise<number> {
  const [row] = await database.query<{ revived: number }>(
    'select retention.retry($1::text[], $2, $3, $4, $5) as revived',
    [
      selection.runIds ?? null,
      selection.tenantId ?? null,
      selection.bucket ?? null,
      selection.code ?? null,
      selection.all ?? false,
    ],
  );
  return row?.revived ?? 0;
}
