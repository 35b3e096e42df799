import { type ReadReply, readReply, unanswered } from './deletion-reply.ts';
import { sortKeys } from './object-keys.ts';
import type { DeletionReport, KeyFailure } from '../deletion-report.ts';
import { ObjectStoreError } from '../store-failure.ts';
import type { DeletionCall, S3DeleteRequests } from './delete-requests.ts';
import { isGone, isNoBucket, isThrottling, isTransientCode, lacksOperation } from './failures.ts';

const SINGLE_DELETES_IN_FLIGHT = 8;

interface BatchOutcome {
  readonly deleted: readonly string[];
  readonly failures: readonly KeyFailure[];
  /** To be deleted one by one. */
  readonly again: readonly string[];
}

const NOTHING: BatchOutcome = { deleted: [], failures: [], again: [] };

interface SinglesOutcome {
  readonly deleted: readonly string[];
  readonly failures: readonly KeyFailure[];
  /** Set when not one key had an answer of its own. */
  readonly unanimous: ObjectStoreError | undefined;
}

/** Deletes keys with what the bucket's store is able to do. */
export class S3Deletion {
  readonly #requests: S3DeleteRequests;
  /** Buckets whose store has no DeleteObjects: found out once and not per batch. */
  readonly #singly = new Set<string>();

  constructor(requests: S3DeleteRequests) {
    this.#requests = requests;
  }

  async run(bucket: string, keys: readonly string[], call: DeletionCall): Promise<DeletionReport> {
    const { distinct, together, alone, refused } = sortKeys(keys);
    const batch = await this.#deleteTogether(bucket, together, call);
    if (batch.deleted.length === distinct.size) return { deleted: distinct, failures: [] };
    const singles = await this.#deleteAlone(bucket, [...batch.again, ...alone], call);
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
    call: DeletionCall,
  ): Promise<BatchOutcome> {
    if (keys.length === 0 || this.#singly.has(bucket)) {
      return { ...NOTHING, again: keys };
    }
    try {
      const reply = await this.#requests.deleteKeys(bucket, keys, call);
      if (reply === 'all') return { ...NOTHING, deleted: keys };
      return judge(bucket, readReply(reply, keys), call);
    } catch (error) {
      if (!(error instanceof ObjectStoreError && lacksOperation(error))) throw error;
      this.#singly.add(bucket);
      return { ...NOTHING, again: keys };
    }
  }

  /**
   * One DeleteObject request per key, a few at a time. What concerns the whole bucket ends it for
   * the keys that are left; a key's own trouble, even a 500, must not hold up the others.
   */
  async #deleteAlone(
    bucket: string,
    keys: readonly string[],
    call: DeletionCall,
  ): Promise<SinglesOutcome> {
    const queue = keys.values();
    const deleted: string[] = [];
    const failures: KeyFailure[] = [];
    let stopped: ObjectStoreError | undefined;
    let last: ObjectStoreError | undefined;
    const work = async (): Promise<void> => {
      for (const key of queue) {
        const error = stopped ?? (await this.#deleteOne(bucket, key, call));
        if (!error) deleted.push(key);
        else failures.push(failureOf(key, error));
        if (error && (call.signal.aborted || concernsBucket(error))) stopped ??= error;
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
    call: DeletionCall,
  ): Promise<ObjectStoreError | undefined> {
    try {
      await this.#requests.deleteObject(bucket, { key }, call);
      return undefined;
    } catch (error) {
      if (!(error instanceof ObjectStoreError)) throw error;
      return isGone(error.code) ? undefined : error;
    }
  }
}

/** Sorts out a reply. Keys that it spells in another way have to be asked for one by one. */
function judge(bucket: string, reply: ReadReply, { onUnanswered }: DeletionCall): BatchOutcome {
  const { deleted, failures, unnamed, misspelt, keyless } = reply;
  const noBucket = failures.find((failure) => isNoBucket(failure.code));
  if (noBucket) {
    const { code, message } = noBucket;
    throw new ObjectStoreError({ kind: 'no-bucket', code, bucket, message });
  }
  if (misspelt) return { deleted, failures, again: unnamed };
  if (unnamed.length > 0) onUnanswered?.(unnamed);
  const unknown = unnamed.map((key) => unanswered(key, keyless));
  // Of no key in particular, so nothing that the keys should be told apart by: the bucket pauses.
  const [first] = [...failures, ...unknown];
  if (first && deleted.length === 0 && failures.every(({ code }) => isThrottling(code))) {
    const kind = failures.length === 0 ? 'unavailable' : 'throttled';
    throw new ObjectStoreError({ kind, code: first.code, bucket, message: first.message });
  }
  return { deleted, failures: [...failures, ...unknown], again: [] };
}

function concernsBucket(error: ObjectStoreError): boolean {
  return error.kind === 'credentials' || error.kind === 'no-bucket';
}

/** What a request that failed for one key means for that key. */
export function failureOf(key: string, error: ObjectStoreError): KeyFailure {
  const transient =
    isTransientCode(error.code) || (error.kind !== 'denied' && error.kind !== 'malformed');
  return { key, code: error.code, message: error.message, transient };
}
