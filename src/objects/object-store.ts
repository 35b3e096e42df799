import { UsageError } from '../errors.ts';
import type {
  BucketInspection,
  ConditionalWrites,
  ObjectListing,
  ObjectRestoration,
  VersionPurge,
} from './abilities.ts';
import type { DeletionOptions, DeletionReport } from './deletion-report.ts';

/**
 * Deletes objects, and may be able to do more. It knows nothing of runs, batches or leases. Each ability
 * is there as a whole or not at all; a store that only deletes is enough for the cycle.
 */
export interface ObjectStore {
  /**
   * Deletes up to {@link MAX_KEYS_PER_REQUEST} keys of one bucket with one DeleteObjects request, or with as many
   * as its store wants; keys that XML does not carry unchanged go one by one with DeleteObject.
   *
   * Every key of `keys` ends in exactly one of `deleted` or `failures`; a key given twice is sent
   * once and reported once. `deleted` holds only what the store itself named: a key that its reply
   * leaves out is a failure with code `Unanswered`. A reply that names no key at all, or
   * throttles all that it names, is a request that failed as a whole.
   *
   * @throws {RangeError} when there are too many keys.
   * @throws {ObjectStoreError} when the request as a whole failed. Keys may have been deleted even so
   * (a lost reply): asking again is always safe.
   */
  deleteObjects(
    bucket: string,
    keys: readonly string[],
    options?: DeletionOptions,
  ): Promise<DeletionReport>;

  /** How people call the store, without secrets. Default: it has no name. */
  readonly place?: string;

  /** Wanted by verify and restore, and to see before the first deletion whether the objects are there. */
  readonly listing?: ObjectListing;
  /** Wanted by buckets of which every version is to be deleted: without it, their batches wait. */
  readonly versions?: VersionPurge;
  /** Wanted by doctor and by the notes on buckets. */
  readonly inspection?: BucketInspection;
  /** Wanted by restore. */
  readonly restoration?: ObjectRestoration;
  /** Wanted by the fence. */
  readonly conditional?: ConditionalWrites;

  /** Loads what the first call would have to wait for. Default: there is nothing to load. */
  prepare?(): Promise<void>;

  /** Closes idle connections. Calls in flight are not waited for. */
  close(): void;
}

/** What an object store may be able to do beside deleting, each with what it is asked for. */
const ABILITIES = {
  listing: 'list objects',
  versions: 'delete versions',
  inspection: 'describe buckets',
  restoration: 'restore objects',
  conditional: 'write on a condition',
} as const;

/** The name of an ability. */
export type Ability = keyof typeof ABILITIES;

/**
 * An ability of a store that the caller cannot do without.
 *
 * @throws {UsageError} when the store does not have it.
 */
export function abilityOf<Name extends Ability>(
  objects: Pick<ObjectStore, Name>,
  name: Name,
): NonNullable<ObjectStore[Name]> {
  const ability: ObjectStore[Name] = objects[name];
  if (ability !== undefined) return ability;
  throw new UsageError(`this object store cannot ${ABILITIES[name]}`, {
    remedy: `Give an object store with \`${name}\`, or none for S3 as the configuration says.`,
  });
}
