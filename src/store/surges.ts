import type { Queryable } from '../database/queryable.ts';
import type { Instant } from '../instant.ts';

/** Late results that are set aside; keys as in the command line's JSON. */
export interface Surge {
  /** Null while a walk is under way that is not complete: nothing of it can be released yet. */
  readonly surge_id: number | null;
  readonly state: 'counting' | 'open' | 'closed';
  readonly found_at: Date;
  readonly found_by: string | null;
  /** When the last complete walk before it began; null: there was none. */
  readonly seen_at: Date | null;
  /** How many results are set aside now. */
  readonly results: number;
  /** How many were when it was found. */
  readonly found: number;
  readonly released: number;
  readonly tenants: number | null;
  /** When the run of the oldest completed. */
  readonly oldest: Instant | null;
  readonly due_since: Instant | null;
  readonly because: string;
  readonly remedy: string | null;
}

/** Results of one tenant in one bucket that are set aside; keys as in the command line's JSON. */
export interface SurgeGroup {
  readonly tenant_id: string | null;
  readonly bucket: string;
  readonly results: number;
  readonly oldest: Instant | null;
  readonly due_since: Instant | null;
  /** How many of them would go now; null: the table is detached. */
  readonly still_due: number | null;
  /** Up to ten of them. */
  readonly run_ids: readonly string[];
  /** Why the first of them was late. */
  readonly because: string | null;
}

/** Who released what of a surge. */
export interface SurgeRelease {
  readonly surge_id: number;
  /** Null: all of it. */
  readonly tenant_id: string | null;
  readonly results: number;
  readonly released_at: Date;
  readonly released_by: string;
}

/**
 * `retention.list_surges`: oldest first.
 *
 * @param options `all`: closed ones too.
 * @throws DatabaseError
 */
export async function listSurges(
  database: Queryable,
  options: { readonly all?: boolean } = {},
): Promise<readonly Surge[]> {
  return database.query<Surge>('select * from retention.list_surges($1)', [options.all ?? false]);
}

/**
 * `retention.show_surge`: by tenant and bucket, the largest first. Looks at every result again first.
 *
 * @throws DatabaseError when there is no such surge.
 */
export async function showSurge(
  database: Queryable,
  surgeId: number,
): Promise<readonly SurgeGroup[]> {
  return database.query<SurgeGroup>('select * from retention.show_surge($1)', [surgeId]);
}

/**
 * `retention.release_surge`: exactly the results that were counted become work. Returns how many.
 *
 * @param expected how many they are, as {@link showSurge} counts them.
 * @throws DatabaseError when it is another number; nothing is released then.
 */
export async function releaseSurge(
  database: Queryable,
  surgeId: number,
  expected: number,
  tenantId?: string,
): Promise<number> {
  const [row] = await database.query<{ released: number }>(
    'select retention.release_surge($1, $2, $3) as released',
    [surgeId, expected, tenantId ?? null],
  );
  return row?.released ?? 0;
}

/**
 * `retention.list_releases`: the newest first.
 *
 * @throws DatabaseError
 */
export async function listReleases(
  database: Queryable,
  surgeId: number,
): Promise<readonly SurgeRelease[]> {
  return database.query<SurgeRelease>('select * from retention.list_releases($1)', [surgeId]);
}
