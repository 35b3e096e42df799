import type { Queryable } from '../database/queryable.ts';

/** What is known of a bucket here. */
export interface KnownBucket {
  readonly bucket: string;
  /** What a deletion is to do where versions are kept. */
  readonly onVersioned: 'marker' | 'purge';
  /** Null: nobody has asked S3 yet. */
  readonly versioning: 'off' | 'enabled' | 'suspended' | null;
  /** Why and until when it pauses; null: it does not. */
  readonly pause: string | null;
}

const COLUMNS = `k.bucket,
  k.on_versioned as "onVersioned",
  k.versioning,
  case
    when k.paused_until > now()
    then format('%s (%s) until %s', k.pause_code, k.pause_error, k.paused_until)
  end as pause`;

/**
 * The rows of `retention.bucket`, those with work first; at most 100.
 *
 * @throws DatabaseError
 */
export async function readBuckets(database: Queryable): Promise<readonly KnownBucket[]> {
  return database.query<KnownBucket>(
    `select ${COLUMNS}
    from retention.bucket k
    order by (
        exists (
          select
          from retention.batch b
          where b.bucket = k.bucket
            and b.settled_at is null
        )
      ) desc,
      k.bucket
    limit 100`,
  );
}

/**
 * The row of `retention.bucket`; undefined: there is none.
 *
 * @throws DatabaseError
 */
export async function knownBucket(
  database: Queryable,
  bucket: string,
): Promise<KnownBucket | undefined> {
  const [row] = await database.query<KnownBucket>(
    `select ${COLUMNS} from retention.bucket k where k.bucket = $1`,
    [bucket],
  );
  return row;
}

/**
 * `retention.note_bucket`: notes what S3 says of a bucket.
 *
 * @throws DatabaseError
 */
export async function noteBucket(
  database: Queryable,
  bucket: string,
  versioning: 'off' | 'enabled' | 'suspended',
): Promise<void> {
  await database.query('select retention.note_bucket($1, $2)', [bucket, versioning]);
}
