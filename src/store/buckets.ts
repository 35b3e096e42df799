import type { Queryable } from '../database/queryable.ts';

/** What the store of a bucket does otherwise than S3. */
export interface Habits {
  readonly keys_per_request?: number;
  readonly keys_in_time?: number;
  readonly deletes?: 'together' | 'singly';
  readonly checksum?: 'crc32' | 'md5' | 'none';
  readonly addressing?: 'path' | 'virtual';
  readonly conditional?: 'honoured' | 'ignored' | 'refused';
}

/** One habit, and how it is known; keys as in JSON. */
export interface KnownHabit {
  readonly value: number | string;
  readonly by: 'hand' | 'learned';
  readonly since: string;
  readonly because: string | null;
}

/** Habits by name; null: one that is over, or that a person leaves to be learned again. */
export type HabitChanges = {
  readonly [Name in keyof Habits]?: Habits[Name] | null | undefined;
};

/** What is known of a bucket here. */
export interface KnownBucket {
  readonly bucket: string;
  /** What a deletion is to do where versions are kept. */
  readonly on_versioned: 'marker' | 'purge';
  /** Null: S3 was not asked yet. */
  readonly versioning: 'off' | 'enabled' | 'suspended' | null;
  /** Why and until when it pauses; null: it does not. */
  readonly pause: string | null;
  readonly habits: Readonly<Partial<Record<keyof Habits, KnownHabit>>>;
  /** Of so many keys that were looked for, so many had no object. */
  readonly looked: number;
  readonly missing: number;
  /** Its ceilings, kept by all listeners and commands together; null: it has none. */
  readonly max_per_second: number | null;
  readonly max_in_flight: number | null;
}

/** Ceilings of a bucket by name; null takes one away. */
export interface Ceilings {
  /** So many results go a second at most. */
  readonly max_per_second?: number | null;
  /** So many batches are leased at once at most. */
  readonly max_in_flight?: number | null;
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

/**
 * `retention.learn_habits`: remembers for a day what an attempt showed of the store of a bucket.
 *
 * @throws DatabaseError
 */
export async function learnHabits(
  database: Queryable,
  bucket: string,
  learned: { readonly habits: HabitChanges; readonly because: string },
): Promise<void> {
  await database.query('select retention.learn_habits($1, $2::jsonb, $3)', [
    bucket,
    JSON.stringify(learned.habits),
    learned.because,
  ]);
}

/**
 * `retention.set_habits`: what a person says of the store of a bucket; it wins over what is learned.
 *
 * @throws DatabaseError
 */
export async function setHabits(
  database: Queryable,
  bucket: string,
  habits: HabitChanges,
  { by, isNew = false }: { readonly by?: string | undefined; readonly isNew?: boolean } = {},
): Promise<void> {
  await database.query('select retention.set_habits($1, $2::jsonb, $3, $4)', [
    bucket,
    JSON.stringify(habits),
    by ?? null,
    isNew,
  ]);
}

/**
 * `retention.set_ceilings`: how fast a bucket is deleted from at most, by all listeners and commands together.
 *
 * @throws DatabaseError
 */
export async function setCeilings(
  database: Queryable,
  bucket: string,
  ceilings: Ceilings,
  { by, isNew = false }: { readonly by?: string | undefined; readonly isNew?: boolean } = {},
): Promise<void> {
  await database.query('select retention.set_ceilings($1, $2::jsonb, $3, $4)', [
    bucket,
    JSON.stringify(ceilings),
    by ?? null,
    isNew,
  ]);
}

/**
 * `retention.set_on_versioned`: what a deletion does in a versioned bucket.
 *
 * @throws DatabaseError
 */
export async function setOnVersioned(
  database: Queryable,
  bucket: string,
  onVersioned: 'marker' | 'purge',
  isNew = false,
): Promise<void> {
  await database.query('select retention.set_on_versioned($1, $2, $3)', [
    bucket,
    onVersioned,
    isNew,
  ]);
}

/**
 * `retention.forget_habits`: what was learned of the store of a bucket, and where its keys were looked for.
 *
 * @param byHand also what a person has set.
 *
 * @throws DatabaseError
 */
export async function forgetHabits(
  database: Queryable,
  bucket: string,
  byHand = false,
): Promise<void> {
  await database.query('select retention.forget_habits($1, $2)', [bucket, byHand]);
}

/**
 * `retention.note_look`: how many keys were looked for before the first deletion, and which had no object.
 * False: most had none, so that nothing may be deleted.
 *
 * @throws DatabaseError
 */
export async function noteLook(
  database: Queryable,
  bucket: string,
  look: {
    /** How the store is called. */
    readonly place: string;
    readonly looked: number;
    readonly missing: readonly string[];
    /** Earlier looks are forgotten. Default: false. */
    readonly again?: boolean;
  },
): Promise<boolean> {
  const [row] = await database.query<{ may: boolean }>(
    'select retention.note_look($1, $2, $3, $4::text[], $5) as may',
    [bucket, look.place, look.looked, look.missing, look.again ?? false],
  );
  return row?.may ?? true;
}

/**
 * `retention.confirm_missing`: the objects that were not found are really gone.
 *
 * @throws DatabaseError
 */
export async function confirmMissing(
  database: Queryable,
  bucket: string,
  by?: string,
): Promise<void> {
  await database.query('select retention.confirm_missing($1, $2)', [bucket, by ?? null]);
}
