import type { Queryable } from '../database/queryable.ts';

/** What is known of a bucket here. */
export interface KnownBucket {
  readonly bucket: string;
  /** What a deletion is to do where versions are kept. */
  readonly on_versioned: 'marker' | 'purge';
  /** Null: nobody has asked S3 yet. */
  readonly versioning: 'off' | 'enabled' | 'suspended' | null;
  /** Why and until when it pauses; null: it does not. */
  readonly pause: string | null;
}

/**
 * `retention.known_buckets`: those with work first; at most 100.
 *
 * @throws DatabaseError
 */
export async function readBuckets(database: Queryable): Promise<readonly KnownBucket[]> {
  return database.query<KnownBucket>('select * from retention.known_buckets()');
}

/**
 * `retention.known_buckets` of one; undefined: it is not known.
 *
 * @throws DatabaseError
 */
export async function knownBucket(
  database: Queryable,
  bucket: string,
): Promise<KnownBucket | undefined> {
  const [row] = await database.query<KnownBucket>('select * from retention.known_buckets($1)', [
    bucket,
  ]);
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
