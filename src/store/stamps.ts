import type { Queryable } from '../database/queryable.ts';
import { PRODUCT_VERSION } from './version.ts';

/**
 * `retention.unstamp`: clears the stamp of a run whose object is back. False: it had none.
 *
 * @param restored whether the object was brought back just now, and the version that is in sight.
 * @throws DatabaseError
 */
export async function unstamp(
  database: Queryable,
  runId: string,
  { restored = false, version }: { readonly restored?: boolean; readonly version?: string } = {},
): Promise<boolean> {
  const [row] = await database.query<{ unstamped: boolean }>(
    'select retention.unstamp($1, $2, $3, $4) as unstamped',
    [runId, restored, version ?? null, PRODUCT_VERSION],
  );
  return row?.unstamped ?? false;
}

/** What a stamp of what was deleted before came to; keys as in SQL. */
export interface StampedAgain {
  readonly stamped: number;
  /** Results whose object is deleted and whose run is not stamped yet, dead ones too. */
  readonly waiting: number;
  readonly dead: number;
  /** Until the next try is due; null: nothing waits for one. */
  readonly next_seconds: number | null;
}

/**
 * `retention.stamp_again`: stamps what S3 has deleted and could not be stamped before.
 *
 * @throws DatabaseError
 */
export async function stampAgain(database: Queryable): Promise<StampedAgain> {
  const [row] = await database.query<StampedAgain>(
    'select stamped, waiting, dead, next_seconds from retention.stamp_again($1)',
    [PRODUCT_VERSION],
    { name: 'retention-stamp-again' },
  );
  return row ?? { stamped: 0, waiting: 0, dead: 0, next_seconds: null };
}

/** What a trial of the stamp has shown; keys as in SQL. */
export interface StampTrial {
  /** Null: there is no row to try, or all of them are locked. */
  readonly works: boolean | null;
  /** The SQLSTATE, or `StampSwallowed`; null: it works. */
  readonly code: string | null;
  readonly message: string | null;
  /** The constraint or the trigger's function, where that is known. */
  readonly context: string | null;
  readonly remedy: string | null;
}

/**
 * `retention.try_stamp`: tries to stamp one live row and rolls that back; the gate closes or opens by what it shows.
 *
 * @throws DatabaseError
 */
export async function tryStamp(database: Queryable): Promise<StampTrial> {
  const [row] = await database.query<StampTrial>(
    'select works, code, message, context, remedy from retention.try_stamp()',
  );
  if (row === undefined) throw new Error('retention.stamping is empty');
  return row;
}
