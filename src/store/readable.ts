import type { Queryable } from '../database/queryable.ts';

/**
 * `retention.readable`: of runs, those whose result an application may still show: live and not due, or held.
 *
 * @throws DatabaseError
 */
export async function readReadable(
  database: Queryable,
  runIds: readonly string[],
): Promise<readonly string[]> {
  const rows = await database.query<{ id: string }>(
    'select r as id from retention.readable($1::text[]) r',
    [runIds],
  );
  return rows.map(({ id }) => id);
}
