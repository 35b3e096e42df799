import { type LibraryOptions, withStore } from './assembly.ts';
import type { Keeper, KeeperRequest } from './store/keepers.ts';

type Options = Pick<LibraryOptions, 'config' | 'logger'>;

/**
 * Adds a keeper: what a row of its table names is not deleted, and is no orphan. It counts from the next claim on.
 * Returns its number.
 *
 * @throws DatabaseError with what to do where the table cannot be a keeper.
 */
export async function addKeeper({
  config,
  logger,
  ...request
}: Options & KeeperRequest): Promise<number> {
  return withStore({ config, ...(logger && { logger }), mustWrite: true }, (store) =>
    store.addKeeper(request),
  );
}

/**
 * Removes the keepers of a table. Returns how many.
 *
 * @throws DatabaseError where there is none.
 */
export async function removeKeeper({
  config,
  logger,
  table,
  keyColumn,
}: Options & {
  readonly table: string;
  /** Only that of this column. Default: all of the table. */
  readonly keyColumn?: string | undefined;
}): Promise<number> {
  return withStore({ config, ...(logger && { logger }), mustWrite: true }, (store) =>
    store.removeKeeper(table, keyColumn),
  );
}

/**
 * The keepers, in the order in which they were added, with what is wrong with each.
 *
 * @throws DatabaseError
 */
export async function listKeepers({ config, logger }: Options): Promise<readonly Keeper[]> {
  return withStore({ config, ...(logger && { logger }) }, (store) => store.listKeepers());
}
