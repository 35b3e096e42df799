import type { Queryable } from '../database/queryable.ts';

/** A row of `retention.list_guards`; keys as in the command line's JSON. */
export interface Guard {
  readonly name: string;
  /** `none`: there is no guard. */
  readonly value: string;
  readonly meaning: string;
}

/**
 * `retention.list_guards`: the settings that stop a slip.
 *
 * @throws DatabaseError
 */
export async function listGuards(database: Queryable): Promise<readonly Guard[]> {
  return database.query<Guard>('select * from retention.list_guards()');
}

/**
 * `retention.set_guard`. Returns what it was before.
 *
 * @throws DatabaseError for a guard that is none, for a value that it cannot have, and with `RR004` where another
 * person must approve it.
 */
export async function setGuard(database: Queryable, name: string, value: string): Promise<string> {
  const [row] = await database.query<{ before: string }>(
    'select retention.set_guard($1, $2) as before',
    [name, value],
  );
  return row?.before ?? '';
}
