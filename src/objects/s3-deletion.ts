import { type DeletionReply, readReply, unanswered } from './deletion-reply.ts';
import { sortKeys } from './object-keys.ts';
import { type DeletionReport, type KeyFailure, ObjectStoreError } from './object-store.ts';
import {
  isGone,
  isNoBucket,
  isTransientCode,
  lacksDeleteObjects,
  readFailure,
  wantsContentMd5,
} from './s3-failures.ts';

/** The checksum that a DeleteObjects request carries. */
export type Checksum = 'crc32' | 'md5';

/** The two requests that delete. Both throw {@link ObjectStoreError} with the SDK's as its cause. */
export interface DeletionRequests {
  deleteObjects(
    bucket: string,
    keys: readonly string[],
    checksum: Checksum,
    signal: AbortSignal,
  ): Promise<DeletionReply>;
  deleteObject(bucket: string, key: string, signal: AbortSignal): Promise<void>;
}

const SINGLE_DELETES_IN_FLIGHT = 8;

/** What has been learnt of a bucket's store, so that it is found out once and not per batch. */
interface StoreHabits {
  checksum?: Checksum;
  singly?: boolean;
}

interface BatchOutcome {
  readonly deleted: readonly string[];
  readonly failures: readonly KeyFailure[];
  /** To be deleted one by one. */
  readonly again: readonly string[];
}

interface SinglesOutcome {
  readonly deleted: readonly string[];
  readonly failures: readonly KeyFailure[];
  /** Set when not one key had an answer of its own. */
  readonly unanimous: ObjectStoreError | undefined;
}

/** Deletes keys with what the bucket's store is able to do. */
export class S3Deletion {
  readonly #requests: DeletionRequests;
  readonly #habits = new Map<string, StoreHabits>();

  constructor(requests: DeletionRequests) {
    this.#requests = requests;
  }

  async run(bucket: string, keys: readonly string[], signal: AbortSignal): Promise<DeletionReport> {
    const { together, alone, refused } = sortKeys(keys);
    const batch = await this.#deleteTogether(bucket, together, signal);
    const singles = await this.#deleteAlone(bucket, [...batch.again, ...alone], signal);
    const answered = batch.deleted.length + batch.failures.length > 0;
    if (singles.unanimous && !answered) throw singles.unanimous;
    return {
      deleted: new Set([...batch.deleted, ...singles.deleted]),
      failures: [...refused, ...batch.failures, ...singles.failures],
    };
  }

  async #deleteTogether(
    bucket: string,
    keys: readonly string[],
    signal: AbortSignal,
  ): Promise<BatchOutcome> {
    const habits = this.#habitsOf(bucket);
    if (keys.length === 0 || habits.singly) return { deleted: [], failures: [], again: keys };
    try {
      return judge(bucket, await this.#sendBatch(bucket, keys, signal), keys);
    } catch (error) {
      if (!lacksDeleteObjects(readCause(error))) throw error;
      habits.singly = true;
      return { deleted: [], failures: [], again: keys };
    }
  }

  /** One DeleteObjects request; two while it is not known which checksum the store takes. */
  async #sendBatch(
    bucket: string,
    keys: readonly string[],
    signal: AbortSignal,
  ): Promise<DeletionReply> {
    const habits = this.#habitsOf(bucket);
    try {
      const checksum = habits.checksum ?? 'crc32';
      const reply = await this.#requests.deleteObjects(bucket, keys, checksum, signal);
      habits.checksum ??= checksum;
      return reply;
    } catch (error) {
      if (habits.checksum !== undefined || !wantsContentMd5(readCause(error))) throw error;
    }
    const reply = await this.#requests.deleteObjects(bucket, keys, 'md5', signal);
    habits.checksum = 'md5';
    return reply;
  }

  /**
   * One DeleteObject request per key, a few at a time. What concerns the whole bucket ends it for
   * the keys that are left; a key's own trouble, even a 500, must not hold up the others.
   */
  async #deleteAlone(
    bucket: string,
    keys: readonly string[],
    signal: AbortSignal,
  ): Promise<SinglesOutcome> {
    const queue = keys.values();
    const deleted: string[] = [];
    const failures: KeyFailure[] = [];
    let stopped: ObjectStoreError | undefined;
    let last: ObjectStoreError | undefined;
    const work = async (): Promise<void> => {
      for (const key of queue) {
        const error = stopped ?? (await this.#deleteOne(bucket, key, signal));
        if (!error) deleted.push(key);
        else failures.push(failureOf(key, error));
        if (error && (signal.aborted || concernsBucket(error))) stopped ??= error;
        last = error ?? last;
      }
    };
    await Promise.all(Array.from({ length: SINGLE_DELETES_IN_FLIGHT }, work));
    if (stopped?.kind === 'aborted') throw stopped;
    const answered = deleted.length > 0 || failures.some((failure) => !failure.transient);
    return { deleted, failures, unanimous: answered ? undefined : (stopped ?? last) };
  }

  async #deleteOne(
    bucket: string,
    key: string,
    signal: AbortSignal,
  ): Promise<ObjectStoreError | undefined> {
    try {
      await this.#requests.deleteObject(bucket, key, signal);
      return undefined;
    } catch (error) {
      if (!(error instanceof ObjectStoreError)) throw error;
      return isGone(error.code) ? undefined : error;
    }
  }

  #habitsOf(bucket: string): StoreHabits {
    const known = this.#habits.get(bucket);
    if (known) return known;
    const habits: StoreHabits = {};
    this.#habits.set(bucket, habits);
    return habits;
  }
}

/** Sorts out a reply. Keys that it spells in another way have to be asked for one by one. */
function judge(bucket: string, reply: DeletionReply, sent: readonly string[]): BatchOutcome {
  const { deleted, failures, unnamed, misspelt, keyless } = readReply(reply, sent);
  const noBucket = failures.find((failure) => isNoBucket(failure.code));
  if (noBucket) {
    const { code, message } = noBucket;
    throw new ObjectStoreError({ kind: 'no-bucket', code, bucket, message });
  }
  if (misspelt) return { deleted, failures, again: unnamed };
  const unknown = unnamed.map((key) => unanswered(key, keyless));
  return { deleted, failures: [...failures, ...unknown], again: [] };
}

function concernsBucket(error: ObjectStoreError): boolean {
  return error.kind === 'credentials' || error.kind === 'no-bucket';
}

function failureOf(key: string, error: ObjectStoreError): KeyFailure {
  const transient =
    isTransientCode(error.code) || (error.kind !== 'denied' && error.kind !== 'malformed');
  return { key, code: error.code, message: error.message, transient };
}

function readCause(error: unknown): ReturnType<typeof readFailure> {
  return readFailure(error instanceof ObjectStoreError ? error.cause : error);
}
