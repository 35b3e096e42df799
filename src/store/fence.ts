import type { Queryable } from '../database/queryable.ts';

/** `retention.fence`: what this database was accepted as and what it is; keys as in JSON. */
export interface FenceState {
  /** Whether the gate is closed for it. */
  readonly is_copy: boolean;
  readonly because: string | null;
  /** Null: the server does not tell it. */
  readonly accepted_system_identifier: string | null;
  readonly accepted_database: string | null;
  readonly accepted_timeline: number | null;
  readonly system_identifier: string | null;
  readonly database: string;
  readonly timeline: number | null;
  readonly adopted_at: Date | null;
  readonly accepted_at: Date | null;
  readonly accepted_by: string | null;
  readonly accepted_reason: string | null;
  /** Its name; copies share it. */
  readonly fence: string | null;
  readonly fence_in_use: boolean;
  readonly bucket: string | null;
  readonly renewed_at: Date | null;
  readonly renewed_by: string | null;
  readonly lost_at: Date | null;
}

/** `retention.judge_fence`: what the object in S3 says of this database. */
export interface FenceJudgement {
  readonly standing: 'copy' | 'absent' | 'take' | 'known';
  readonly because: string | null;
  /** The number of the token in S3; null: it is not known here. */
  readonly place: number | null;
  /** The number of the last token that was written down here. */
  readonly newest: number | null;
  /** Seconds since it was renewed from here; null: it never was. */
  readonly renewed: number | null;
  /** Seconds since that was last tried. */
  readonly tried: number | null;
  /** Another timeline waits to be accepted. */
  readonly moved: boolean;
}

/** What the fence in S3 knows and this database does not; keys as in JSON. */
export interface FenceLoss {
  readonly kind: 'hold' | 'policy' | 'receipts' | 'unknown';
  readonly detail: string;
}

/**
 * `retention.fence`.
 *
 * @throws DatabaseError
 */
export async function readFence(database: Queryable): Promise<FenceState> {
  const [row] = await database.query<FenceState>('select * from retention.fence()');
  if (row === undefined) throw new Error('retention.fence() returns one row');
  return row;
}

/**
 * `retention.judge_fence`.
 *
 * @throws DatabaseError
 */
export async function judgeFence(
  database: Queryable,
  found: {
    /** The content of the object, or nothing where there is none. */
    readonly object: unknown;
    readonly bucket: string;
    readonly remembered: readonly string[];
  },
): Promise<FenceJudgement> {
  const [row] = await database.query<FenceJudgement>(
    `select standing, because, place::float8 as place, newest::float8 as newest, renewed, tried, moved
    from retention.judge_fence($1::jsonb, $2, $3::uuid[])`,
    [
      found.object === undefined ? null : JSON.stringify(found.object),
      found.bucket,
      [...found.remembered],
    ],
  );
  if (row === undefined) throw new Error('retention.judge_fence() returns one row');
  return row;
}

/**
 * `retention.renew_fence`: what is to be written to S3. Undefined: this database must not renew it.
 *
 * @throws DatabaseError
 */
export async function renewFence(
  database: Queryable,
  next: { readonly token: string; readonly by: string; readonly released: boolean },
): Promise<string | undefined> {
  const [row] = await database.query<{ body: string }>(
    'select body::text from retention.renew_fence($1, $2, $3) as body',
    [next.token, next.by, next.released],
  );
  return row?.body;
}

/**
 * `retention.confirm_fence`: S3 has taken the token. True: another timeline was accepted by it.
 *
 * @throws DatabaseError
 */
export async function confirmFence(
  database: Queryable,
  taken: {
    readonly token: string;
    readonly bucket: string;
    readonly by: string;
    readonly secondsAgo: number;
  },
): Promise<boolean> {
  const [row] = await database.query<{ accepted: boolean }>(
    'select retention.confirm_fence($1, $2, $3, $4) as accepted',
    [taken.token, taken.bucket, taken.by, taken.secondsAgo],
  );
  return row?.accepted ?? false;
}

/**
 * `retention.fence_losses`.
 *
 * @param object the content of the fence in S3; undefined: there is none.
 * @throws DatabaseError
 */
export async function fenceLosses(
  database: Queryable,
  object: unknown,
): Promise<readonly FenceLoss[]> {
  return database.query<FenceLoss>('select kind, detail from retention.fence_losses($1::jsonb)', [
    object === undefined ? null : JSON.stringify(object),
  ]);
}

/**
 * `retention.accept_fence`: this database deletes from now on. False: there was nothing to accept.
 *
 * @throws DatabaseError
 */
export async function acceptFence(database: Queryable, reason?: string): Promise<boolean> {
  const [row] = await database.query<{ accepted: boolean }>(
    'select retention.accept_fence($1) as accepted',
    [reason ?? null],
  );
  return row?.accepted ?? false;
}
