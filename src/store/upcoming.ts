import type { Queryable } from '../database/queryable.ts';

/** What goes on one day, or is kept; a row of `retention.upcoming`, keys as in the command line's JSON. */
export interface Upcoming {
  /** A day of UTC such as `2026-04-01`; null: nothing says when. */
  readonly day: string | null;
  readonly state:
    | 'flagged'
    | 'due'
    | 'upcoming'
    | 'held'
    | 'shared'
    | 'spared'
    | 'set aside'
    | 'dead';
  readonly tenant_id: string | null;
  readonly bucket: string;
  readonly results: number;
}

/** What is asked. */
export interface UpcomingRequest {
  /** Today and so many days after it. Default: 7. */
  readonly days?: number | undefined;
  /** Default: all tenants. */
  readonly tenantId?: string | undefined;
}

/**
 * `retention.upcoming`: what goes when, by day, tenant and bucket.
 *
 * @throws DatabaseError for a number of days or a tenant that cannot be.
 */
export async function readUpcoming(
  database: Queryable,
  { days, tenantId }: UpcomingRequest,
): Promise<readonly Upcoming[]> {
  return database.query<Upcoming>(
    `select to_char(u.day, 'YYYY-MM-DD') as day, u.state, u.tenant_id, u.bucket, u.results
    from retention.upcoming(coalesce($1::integer, 7), $2) with ordinality as u (day, state, tenant_id, bucket, results, n)
    order by u.n`,
    [days ?? null, tenantId ?? null],
  );
}
