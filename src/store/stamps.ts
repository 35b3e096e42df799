import type { Queryable } from '../database/queryable.ts';

/**
 * `retention.unstamp`: clears the stamp of a run whose object is back. False: it had none.
 *
 * @throws DatabaseError
 */
export async function unstamp(database: Queryable, runId: string): Promise<boolean> {
  const [row] = await database.query<{ unstamped: boolean }>(
    'select retention.unstamp($1) as unstamped',
    [runId],
  );
  return row?.unstamped ?? false;
}
