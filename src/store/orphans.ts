import type { Queryable } from '../database/queryable.ts';
import type { Habits } from './buckets.ts';
import { type Deed, endsAsJson } from './receipts.ts';
import { PRODUCT_VERSION } from './version.ts';

/** A list of orphans that was just made. */
export interface MadeOrphanList {
  readonly listId: string;
  readonly bucket: string;
  readonly prefix: string;
  readonly marginSeconds: number;
  /** How many objects S3 listed under the prefix. */
  readonly listed: number;
  /** How many of them the list names. */
  readonly orphans: number;
  readonly bytes: number;
  /** SHA-256, in hexadecimal. */
  readonly digest: string;
}

/** A deletion of a list that has begun. */
export interface BegunOrphans {
  readonly bucket: string;
  readonly prefix: string;
  readonly orphans: number;
  readonly deleted: number;
  readonly is_resumed: boolean;
}

/** Keys of a list that may be deleted now. */
export interface OrphanClaim {
  /** Null: none may. */
  readonly request_id: number | null;
  /** The bucket pauses until then, and nothing was checked. */
  readonly paused_until: Date | null;
  readonly keys: readonly string[];
  readonly spared: readonly { readonly key: string; readonly reason: string }[];
  /** Every version of each key is to go, for good. */
  readonly purge: boolean;
  readonly habits: Habits | null;
}

/** How far the deletion of a list has come, and what a request came to. */
export interface OrphanSettlement extends Deed {
  readonly listId: string;
  readonly requestId: number | null;
  /** Of the whole list so far, as the two after it. */
  readonly deleted: number;
  readonly spared: number;
  readonly failed: number;
  /** The keys that S3 may still delete. Default: none. */
  readonly unanswered?: readonly string[];
  /** What went by this request, or without one what was found gone after an earlier one. Default: nothing. */
  readonly keys?: readonly string[] | undefined;
  /** Why the bucket is to pause. Default: it is not. */
  readonly pause?: { readonly code: string; readonly reason: string } | undefined;
}

/** A row of `retention.list_orphan_lists`; keys as in the command line's JSON. */
export interface OrphanList {
  readonly list_id: string;
  readonly bucket: string;
  readonly prefix: string;
  readonly listed: number;
  readonly orphans: number;
  readonly bytes: number;
  readonly digest: string;
  readonly made_at: Date;
  readonly made_by: string;
  /** When its deletion was first asked for; null: it was not. */
  readonly begun_at: Date | null;
  readonly begun_by: string | null;
  readonly begun_as: string | null;
  readonly expected: number | null;
  readonly worked_at: Date | null;
  readonly deleted: number;
  readonly spared: number;
  readonly failed: number;
}

/**
 * `retention.note_orphan_list`: writes a list down. Returns when it was made.
 *
 * @throws DatabaseError
 */
export async function noteOrphanList(database: Queryable, list: MadeOrphanList): Promise<Date> {
  const [row] = await database.query<{ made_at: Date }>(
    `select retention.note_orphan_list($1::uuid, $2, $3, make_interval(secs => $4), $5, $6, $7, $8) as made_at`,
    [
      list.listId,
      list.bucket,
      list.prefix,
      list.marginSeconds,
      list.listed,
      list.orphans,
      list.bytes,
      list.digest,
    ],
  );
  if (row === undefined) throw new Error('retention.note_orphan_list returned no row');
  return row.made_at;
}

/**
 * `retention.begin_orphans`: begins the deletion of a list, or goes on with it.
 *
 * @throws DatabaseError with `orphans_refused` where it is refused.
 */
export async function beginOrphans(
  database: Queryable,
  request: {
    readonly listId: string;
    readonly digest: string;
    readonly expected?: number | undefined;
    readonly by?: string | undefined;
  },
): Promise<BegunOrphans> {
  const [row] = await database.query<BegunOrphans>(
    'select * from retention.begin_orphans($1::uuid, $2, $3, $4)',
    [request.listId, request.digest, request.expected ?? null, request.by ?? null],
  );
  if (row === undefined) throw new Error('retention.begin_orphans returned no row');
  return row;
}

/**
 * `retention.claim_orphans`: checks keys of a list again, just before they are deleted.
 *
 * @throws DatabaseError with `orphans_refused` where nothing may be deleted any more.
 */
export async function claimOrphans(
  database: Queryable,
  listId: string,
  keys: readonly string[],
  leaseSeconds: number,
): Promise<OrphanClaim> {
  const [row] = await database.query<OrphanClaim>(
    `select request_id, paused_until, to_json(keys) as keys, spared, purge, habits
    from retention.claim_orphans($1::uuid, $2::text[], make_interval(secs => $3))`,
    [listId, keys, leaseSeconds],
  );
  if (row === undefined) throw new Error('retention.claim_orphans returned no row');
  return row;
}

/**
 * `retention.settle_orphans`: writes down what became of a request. Returns until when the bucket pauses.
 *
 * @throws DatabaseError
 */
export async function settleOrphans(
  database: Queryable,
  it: OrphanSettlement,
): Promise<Date | undefined> {
  const [row] = await database.query<{ until: Date | null }>(
    'select retention.settle_orphans($1::uuid, $2, $3, $4, $5, $6::text[], $7, $8, $9::text[], $10::jsonb, $11::text[], $12) as until',
    [
      it.listId,
      it.requestId,
      it.deleted,
      it.spared,
      it.failed,
      it.unanswered ?? [],
      it.pause?.code ?? null,
      it.pause?.reason ?? null,
      it.keys ?? [],
      endsAsJson(it.ends),
      it.requestIds ?? null,
      PRODUCT_VERSION,
    ],
  );
  return row?.until ?? undefined;
}

/**
 * `retention.list_orphan_lists`: newest first.
 *
 * @throws DatabaseError
 */
export async function listOrphanLists(database: Queryable): Promise<readonly OrphanList[]> {
  return database.query<OrphanList>('select * from retention.list_orphan_lists()');
}
