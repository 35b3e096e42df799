import type { Queryable } from '../database/queryable.ts';

/** A table whose rows need objects too. */
export interface KeeperRequest {
  /** As SQL writes it; without a schema it is in `public`. */
  readonly table: string;
  readonly keyColumn: string;
  /** Default: a row keeps its key in every bucket. */
  readonly bucketColumn?: string | undefined;
  /** Default: a row keeps its object as long as it is there. */
  readonly untilColumn?: string | undefined;
  /** Default: the database's user. */
  readonly by?: string | undefined;
}

/** A keeper; keys as in the command line's JSON. */
export interface Keeper {
  readonly keeper_id: number;
  readonly table_name: string;
  readonly key_column: string;
  readonly bucket_column: string | null;
  readonly until_column: string | null;
  readonly added_at: Date;
  readonly added_by: string;
  /** How many objects of due results are known to be kept for its table. */
  readonly kept: number;
  /** Why it cannot be asked, so that nothing is flagged or claimed; null: it can. */
  readonly fault: string | null;
  readonly remedy: string | null;
}

/**
 * `retention.add_keeper`. Returns its number.
 *
 * @throws DatabaseError with what to do where the table cannot be a keeper.
 */
export async function addKeeper(
  database: Queryable,
  { table, keyColumn, bucketColumn, untilColumn, by }: KeeperRequest,
): Promise<number> {
  const [row] = await database.query<{ keeper_id: number }>(
    'select retention.add_keeper($1, $2, $3, $4, $5) as keeper_id',
    [table, keyColumn, bucketColumn ?? null, untilColumn ?? null, by ?? null],
  );
  if (row === undefined) throw new Error('retention.add_keeper returned no row');
  return row.keeper_id;
}

/**
 * `retention.remove_keeper`: those of a table. Returns how many.
 *
 * @param keyColumn only that of this column. Default: all of the table.
 * @throws DatabaseError where there is no such keeper.
 */
export async function removeKeeper(
  database: Queryable,
  table: string,
  keyColumn?: string,
): Promise<number> {
  const [row] = await database.query<{ removed: number }>(
    'select retention.remove_keeper($1, $2) as removed',
    [table, keyColumn ?? null],
  );
  return row?.removed ?? 0;
}

/**
 * `retention.list_keepers`: in the order in which they were added.
 *
 * @throws DatabaseError
 */
export async function listKeepers(database: Queryable): Promise<readonly Keeper[]> {
  return database.query<Keeper>('select * from retention.list_keepers()');
}
