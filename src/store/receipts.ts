import type { Queryable } from '../database/queryable.ts';

/** How a key ended that was not simply deleted. */
export interface EndOfKey {
  readonly end: 'gone' | 'marker' | 'purged';
  readonly version?: string | undefined;
}

/** What a receipt says beside which keys went. */
export interface Deed {
  /** Default: all were deleted. */
  readonly ends?: ReadonlyMap<string, EndOfKey> | undefined;
  /** How the store names its requests. Default: it does not. */
  readonly requestIds?: readonly string[] | undefined;
}

/** S3's own names have some tens of characters. */
const LONGEST_VERSION = 1_024;

/** What `p_ends` of SQL takes; null: all were deleted. A name that Postgres cannot keep is left out. */
export function endsAsJson(ends: Deed['ends']): string | null {
  if (ends === undefined || ends.size === 0) return null;
  const told = Array.from(ends, ([key, { end, version }]) => [
    key,
    isStorable(version) ? { end, version } : { end },
  ]);
  return JSON.stringify(Object.fromEntries(told));
}

function isStorable(version: string | undefined): version is string {
  return (
    version !== undefined &&
    version.length <= LONGEST_VERSION &&
    !version.includes('\0') &&
    !/\p{Surrogate}/u.test(version)
  );
}

/** How many results are stamped, have a receipt, or both; keys as in SQL. */
export interface StampAccount {
  readonly kind:
    | 'accounted'
    | 'no_receipt'
    | 'before_adoption'
    | 'receipt_pruned'
    | 'no_stamp'
    | 'no_row'
    | 'another_result'
    | 'returned';
  readonly results: number;
  /** Up to ten of them. */
  readonly run_ids: readonly string[];
  readonly because: string;
  /** Null: there is nothing to do. */
  readonly remedy: string | null;
}

/**
 * `retention.account_stamps`: holds stamps and receipts against each other. Reads the whole table.
 *
 * @param stretch only those from `from` on and before `to`. Default: all.
 * @throws DatabaseError
 */
export async function accountStamps(
  database: Queryable,
  stretch: { readonly from?: Date | undefined; readonly to?: Date | undefined } = {},
): Promise<readonly StampAccount[]> {
  return database.query<StampAccount>(
    `select kind, results, run_ids, because, remedy
    from retention.account_stamps($1::timestamptz, $2::timestamptz)`,
    [stretch.from ?? null, stretch.to ?? null],
  );
}
