import type { DeletionOptions, DeletionReport } from './deletion-report.ts';
import type { StoreFailure } from './store-failure.ts';
import type { StoreHabits } from './store-habits.ts';

/** One object of a listing. */
export interface ListedObject {
  readonly key: string;
  readonly size: number;
  readonly lastModified: Date;
  /** Without quotes. Absent: the store does not tell it. */
  readonly etag?: string | undefined;
}

/** What is asked of a listing. */
export interface ListingRequest {
  /** Only keys that begin with this text, which need not end a segment. Default: all. */
  readonly prefix?: string | undefined;
  /** Only keys after this one, in the order of UTF-8 bytes. */
  readonly startAfter?: string | undefined;
  /** Objects per page, 1 to 1,000. Default 1,000. */
  readonly pageSize?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Whether a key has an object now. `denied`: neither looking nor listing is allowed. */
export type ObjectState =
  | {
      readonly state: 'exists';
      /** Absent in a bucket without versions, and where only listing is allowed. */
      readonly versionId?: string | undefined;
      readonly size?: number | undefined;
      readonly lastModified?: Date | undefined;
    }
  | { readonly state: 'gone' }
  | {
      readonly state: 'denied';
      readonly code: string;
      readonly reason: string;
      /** Either of the two would do, and S3 hides a missing object from who lacks the second. */
      readonly missingAction: string;
    };

/** What a bucket is, as far as one may know. Each part fails on its own. */
export interface BucketDescription {
  /** Whether the bucket exists and answers. A refusal is an answer. */
  readonly reachable: boolean;
  readonly region?: string | undefined;
  readonly versioning: 'off' | 'enabled' | 'suspended' | 'unknown';
  readonly objectLock: boolean | 'unknown';
  /** What object lock gives to every new version. */
  readonly defaultRetention?: DefaultRetention | undefined;
  /** The rules that expire something; those that only move objects are left out. */
  readonly lifecycle: readonly LifecycleRule[] | 'unknown';
  readonly problems: readonly BucketProblem[];
}

/** The retention that a bucket gives to every new version. */
export interface DefaultRetention {
  readonly mode: string;
  readonly days?: number | undefined;
  readonly years?: number | undefined;
}

/** A lifecycle rule that expires something. */
export interface LifecycleRule {
  /** Empty where it has none. */
  readonly id: string;
  /** Empty: the whole bucket. */
  readonly prefix: string;
  readonly enabled: boolean;
  /** Whether it only concerns objects of certain tags or sizes. */
  readonly narrowed: boolean;
  /** Days after which current versions expire. */
  readonly expirationDays?: number | undefined;
  readonly expirationDate?: Date | undefined;
  /** Whether it removes delete markers that hide nothing any more. */
  readonly removesExpiredMarkers: boolean;
  /** Days after which versions that are no longer current are removed. */
  readonly noncurrentDays?: number | undefined;
  /** How many noncurrent versions it keeps beyond that. */
  readonly noncurrentKept?: number | undefined;
}

/** Why a part of a description is not known. */
export interface BucketProblem extends StoreFailure {
  /** The store does not accept the credentials, so that nothing else was found out. */
  readonly isOfCredentials?: boolean | undefined;
  /** The right that may be missing, such as `s3:GetLifecycleConfiguration`. */
  readonly missingAction?: string | undefined;
}

/** A statement of an IAM policy, in the spelling of its JSON. */
export interface IamStatement {
  readonly Effect: 'Allow';
  readonly Action: readonly string[];
  readonly Resource: readonly string[];
}

/** Whether objects may be deleted. */
export type DeleteRight =
  | {
      readonly ok: true;
      /**
       * Whether versions may be deleted for good, found out on the way where the bucket is
       * versioned; undefined where it is not.
       */
      readonly versions?: 'granted' | 'refused' | undefined;
      /** The delete marker that the probe had to leave behind: it hides nothing. */
      readonly leftMarker?: { readonly key: string; readonly versionId: string } | undefined;
    }
  | {
      readonly ok: false;
      readonly code: string;
      readonly reason: string;
      /** Absent where it is no right that is missing, but the bucket, say, or the network. */
      readonly missingAction?: string | undefined;
      readonly missingStatement?: IamStatement | undefined;
    };

/**
 * What became of a restoration.
 *
 * - `not-versioned`: the bucket keeps no versions, so nothing is left.
 * - `no-version`: there is no version of the object (any more).
 * - `not-deleted`: the object is there; nothing was changed.
 * - `denied`: a right is missing; the message names it.
 * - `not-back`: others kept deleting the object meanwhile.
 */
export type Restoration =
  | { readonly restored: true; readonly versionId: string }
  | {
      readonly restored: false;
      readonly reason: 'not-versioned' | 'no-version' | 'not-deleted' | 'denied' | 'not-back';
      readonly message: string;
    };

/** What a store makes of a deletion that names the version which may go. */
export type ConditionProbe =
  | { readonly found: 'honoured' | 'ignored' | 'refused'; readonly because: string }
  | {
      /** It could not be tried. */
      readonly found: 'unknown';
      readonly code: string;
      readonly reason: string;
      readonly missingAction?: string | undefined;
    };

/** Looks for objects. */
export interface ObjectListing {
  /**
   * The objects of a bucket in the order of their keys' UTF-8 bytes, one page at a time. An object that
   * is put or deleted meanwhile may or may not be in it.
   *
   * @throws {ObjectStoreError} also with code `UnsortedListing`, when the store lists in another order.
   */
  listObjects(bucket: string, request?: ListingRequest): AsyncIterable<readonly ListedObject[]>;

  /**
   * The objects of a bucket in whatever order the store has, one page at a time, for stores that list in no
   * order. Default: a listing out of order is an error.
   *
   * @throws {ObjectStoreError}
   */
  listUnsorted?(bucket: string, request?: UnsortedRequest): AsyncIterable<UnsortedPage>;

  /**
   * @param options.without `listing`: no listing is asked where the store's answer is not clear, but the object for
   * its first byte. Default: what is cheaper.
   * @throws {ObjectStoreError} when the bucket does not exist, or the store did not answer.
   */
  headObject(
    bucket: string,
    key: string,
    options?: { signal?: AbortSignal | undefined; without?: 'listing' | undefined },
  ): Promise<ObjectState>;
}

/** What is asked of a listing in no order. */
export interface UnsortedRequest {
  /** Only keys that begin with this text. Default: all. */
  readonly prefix?: string | undefined;
  /** Goes on after the page that named this. Default: from the beginning. */
  readonly token?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** One page of a listing in no order. */
export interface UnsortedPage {
  readonly objects: readonly ListedObject[];
  /** How the listing goes on. Undefined: this was the last page. */
  readonly token: string | undefined;
}

/** Looks at buckets and at rights in them. */
export interface BucketInspection {
  /** Never throws for what the store says: that is among the problems. */
  describeBucket(
    bucket: string,
    options?: { signal?: AbortSignal | undefined; habits?: StoreHabits | undefined },
  ): Promise<BucketDescription>;

  /**
   * Writes a small object, `<prefix>.retention/condition-<uuid>`, asks to delete another version of it, then this
   * one, and takes it away. Default: it is not known.
   */
  probeConditions?(
    bucket: string,
    options?: {
      prefix?: string | undefined;
      signal?: AbortSignal | undefined;
      habits?: StoreHabits | undefined;
    },
  ): Promise<ConditionProbe>;

  /**
   * Asks to delete a key that cannot exist, `<prefix>.retention-doctor/<uuid>`.
   *
   * @param options.prefix where the right is wanted, for policies that grant it there only.
   */
  probeDeleteRight(
    bucket: string,
    options?: {
      prefix?: string | undefined;
      signal?: AbortSignal | undefined;
      habits?: StoreHabits | undefined;
    },
  ): Promise<DeleteRight>;
}

/** Deletes objects for good in buckets that keep versions. */
export interface VersionPurge {
  /**
   * Deletes every version and delete marker of up to 1,000 keys, for good. A key counts as deleted
   * only when a listing after that shows none. The current version goes last, so that no older one
   * comes to light, and stays when another could not be deleted. Ends in the time of one
   * `deleteObjects` call: the keys that are left then are failures that do not count.
   *
   * @throws {RangeError} when there are too many keys.
   * @throws {ObjectStoreError} when nothing could be done. Asking again is always safe.
   */
  purgeKeys(
    bucket: string,
    keys: readonly string[],
    options?: DeletionOptions,
  ): Promise<DeletionReport>;
}

/** A small object as it was read. */
export interface ConditionalObject {
  readonly body: string;
  /** What a write names that is to take its place. */
  readonly etag: string;
}

/** Reads and writes small objects so that of two writers one wins. */
export interface ConditionalWrites {
  /**
   * Undefined: there is no such object.
   *
   * @throws {ObjectStoreError}
   */
  readObject(
    bucket: string,
    key: string,
    options?: { signal?: AbortSignal | undefined },
  ): Promise<ConditionalObject | undefined>;

  /**
   * Writes an object in place of the one with the etag `instead`, or, without that, where there is none.
   *
   * @param object `lockedUntil`: an object lock of mode GOVERNANCE until then, in a bucket that has object lock.
   * @returns false: another one is there, or none any more. After a lost reply it may be our own.
   * @throws {ObjectStoreError}
   */
  writeObject(
    bucket: string,
    object: {
      readonly key: string;
      readonly body: string;
      readonly instead?: string | undefined;
      readonly lockedUntil?: Date | undefined;
    },
    options?: { signal?: AbortSignal | undefined },
  ): Promise<boolean>;
}

/** Brings objects back in buckets that keep versions. */
export interface ObjectRestoration {
  /**
   * Removes the delete markers over the newest version of an object, and checks that it is back.
   *
   * @throws {ObjectStoreError} when the bucket does not exist, or the store did not answer.
   */
  restoreObject(
    bucket: string,
    key: string,
    options?: { signal?: AbortSignal | undefined },
  ): Promise<Restoration>;
}
