import type { Queryable } from '../database/queryable.ts';
import { PRODUCT_VERSION } from './version.ts';

/** A reason to flag and claim nothing; keys as in JSON. */
export interface GateReason {
  /** As `retention.gate` names it: `disabled`, `halted`, `detached`, `table replaced` and others. */
  readonly reason: string;
  /** The same in words. */
  readonly because: string;
  /** Null: not known. */
  readonly since: Date | null;
  readonly remedy: string;
}

/**
 * `retention.gate` and `retention.clocks_differ`: why nothing is flagged or claimed by this process; empty: go.
 *
 * @throws DatabaseError
 */
export async function readGate(database: Queryable): Promise<readonly GateReason[]> {
  return database.query<GateReason>(
    `select reason, because, since, remedy from retention.gate($1)
    union all
    select reason, because, since, remedy from retention.clocks_differ($2)`,
    [PRODUCT_VERSION, new Date()],
  );
}

/**
 * `retention.halt`: stops everything at once. False: it was halted already.
 *
 * @throws DatabaseError
 */
export async function halt(
  database: Queryable,
  { reason, by }: { readonly reason: string; readonly by?: string | undefined },
): Promise<boolean> {
  const [row] = await database.query<{ halted: boolean }>(
    'select retention.halt($1, $2) as halted',
    [reason, by ?? null],
  );
  return row?.halted ?? false;
}

/**
 * `retention.resume`: ends a halt by hand. False: it was not halted.
 *
 * @throws DatabaseError
 */
export async function resume(database: Queryable): Promise<boolean> {
  const [row] = await database.query<{ resumed: boolean }>('select retention.resume() as resumed');
  return row?.resumed ?? false;
}
