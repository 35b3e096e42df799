import type { Queryable } from '../database/queryable.ts';

/** Which failed and dead results to revive; nothing: all of them. */
export interface RetrySelection {
  readonly runIds?: readonly string[] | undefined;
  readonly tenantId?: string | undefined;
  readonly bucket?: string | undefined;
  /** The code that S3 answered with last, such as `AccessDenied`. */
  readonly code?: string | undefined;
}

/**
 * `retention.retry`: revives dead results and brings forward failed ones. Returns how many.
 *
 * @throws DatabaseError
 */
export async function retry(database: Queryable, selection: RetrySelection): Promise<number> {
  const [row] = await database.query<{ revived: number }>(
    'select retention.retry($1::text[], $2, $3, $4) as revived',
    [
      selection.runIds ?? null,
      selection.tenantId ?? null,
      selection.bucket ?? null,
      selection.code ?? null,
    ],
  );
  return row?.revived ?? 0;
}
