import { type KeyFailure, ObjectStoreError } from '../store-failure.ts';
import type { DeletionCall, S3DeleteRequests } from './delete-requests.ts';
import { type ReadReply, readReply, unanswered } from './deletion-reply.ts';
import {
  failureOfKey,
  failureOfUntried,
  familyOfKeyCode,
  isGone,
  lacksOperation,
  storeError,
  withBucketRefusal,
} from './failures.ts';
import { sortKeys } from './object-keys.ts';

const SINGLE_DELETES_IN_FLIGHT = 8;

/** What became of the keys of a call: each is in one of the two. */
export interface KeyOutcomes {
  readonly deleted: readonly string[];
  readonly failures: readonly KeyFailure[];
}

interface BatchOutcome extends KeyOutcomes {
  /** To be deleted one by one. */
  readonly again: readonly string[];
}

const NOTHING: BatchOutcome = { deleted: [], failures: [], again: [] };

interface SinglesOutcome extends KeyOutcomes {
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

  async run(bucket: string, keys: readonly string[], call: DeletionCall): Promise<KeyOutcomes> {
    const { distinct, together, alone, refused } = sortKeys(keys);
    const batch = await this.#deleteTogether(bucket, together, call);
    if (batch.deleted.length === distinct.size) return batch;
    const singles = await this.#deleteAlone(bucket, [...batch.again, ...alone], call);
    const answered = batch.deleted.length + batch.failures.length > 0;
    if (singles.unanimous && !answered) throw singles.unanimous;
    return {
      deleted: [...batch.deleted, ...singles.deleted],
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
      if (!(error instanceof ObjectStoreError)) throw error;
      const [only, ...others] = keys;
      // A right that is missing for the only key that was asked for says nothing of the bucket's others.
      if (error.kind === 'denied' && only !== undefined && others.length === 0) {
        return { ...NOTHING, failures: [failureOfKey(only, error)] };
      }
      if (!lacksOperation(error)) throw error;
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
        if (stopped) {
          failures.push(failureOfUntried(key, stopped));
          continue;
        }
        const error = await this.#deleteOne(bucket, key, call);
        if (!error) deleted.push(key);
        else failures.push(failureOfKey(key, error));
        if (error && (call.signal.aborted || endsAll(error))) stopped ??= error;
        last = error ?? last;
      }
    };
    await Promise.all(Array.from({ length: SINGLE_DELETES_IN_FLIGHT }, work));
    if (stopped?.kind === 'aborted') throw stopped;
    const isOwn = ({ outcome, concerns }: KeyFailure): boolean =>
      outcome === 'refused' && concerns === 'key';
    const answered = deleted.length > 0 || failures.some(isOwn);
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
function judge(bucket: string, reply: ReadReply, call: DeletionCall): BatchOutcome {
  const { deleted, failures, unnamed, misspelt, keyless } = reply;
  const noBucket = failures.find(({ code }) => familyOfKeyCode(code) === 'no-bucket');
  if (noBucket) {
    const { code, reason } = noBucket;
    throw storeError({ bucket, kind: 'no-bucket', code, reason });
  }
  if (misspelt) return { deleted, failures, again: unnamed };
  for (const key of unnamed) call.unanswered.add(key);
  const unknown = unnamed.map((key) => unanswered(key, keyless));
  // Of no key in particular, so nothing that the keys should be told apart by: the bucket pauses.
  const [first] = [...failures, ...unknown];
  const isThrottled = ({ code }: KeyFailure): boolean => familyOfKeyCode(code) === 'throttled';
  if (first && deleted.length === 0 && failures.every(isThrottled)) {
    const kind = failures.length === 0 ? 'unavailable' : 'throttled';
    const { code, reason, outcome } = first;
    throw storeError({ bucket, kind, code, reason, outcome });
  }
  const isWhole = deleted.length + unnamed.length === 0;
  const told = isWhole ? withBucketRefusal(failures) : failures;
  return { deleted, failures: [...told, ...unknown], again: [] };
}

function endsAll({ kind }: ObjectStoreError): boolean {
  return kind === 'credentials' || kind === 'no-bucket';
}
