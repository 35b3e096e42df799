import type { Queryable } from '../database/queryable.ts';
import type { Status } from './status.ts';

/** How the backlog moves; keys as in the command line's JSON. */
export interface Trend {
  /** Due results, flagged or not. */
  readonly waiting: number;
  /** Whether it takes longer than the estimate: more may wait, or some of it waits for a later time. */
  readonly is_at_least: boolean;
  readonly flagged: number;
  /** How many were flagged an hour ago. */
  readonly flagged_before: number;
  readonly direction: 'growing' | 'shrinking' | 'steady';
  /** Over the last ten minutes, or since the first batch of them began. */
  readonly cleared_per_second: number;
  /** An estimate; null: there is none, and `because` says why. */
  readonly seconds_to_go: number | null;
  readonly gone_at: Date | null;
  readonly because: string;
}

/**
 * `retention.trend`: how fast the backlog goes, and about when it will be gone.
 *
 * @param status what was read of `retention.status` already. Default: it is read.
 * @throws DatabaseError
 */
export async function readTrend(
  database: Queryable,
  status?: Pick<Status, 'due' | 'due_is_capped'>,
): Promise<Trend> {
  const [row] = await database.query<Trend>('select * from retention.trend($1, $2)', [
    status?.due ?? null,
    status?.due_is_capped ?? null,
  ]);
  if (row === undefined) throw new Error('retention.trend() returned no row');
  return row;
}
