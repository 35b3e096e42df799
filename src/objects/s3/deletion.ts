import { type KeyFailure, ObjectStoreError } from '../store-failure.ts';
import {
  findGone,
  isConditional,
  learnRefusal,
  learnRefusals,
  refuseUnlessPossible,
} from './conditions.ts';
import type { S3Connection } from './connection.ts';
import type { DeletionCall, S3DeleteRequests } from './delete-requests.ts';
import { type ReadReply, readReply, unanswered } from './deletion-reply.ts';
import {
  failureOfKey,
  failureOfUntried,
  familyOfKey,
  isGone,
  isOwnFault,
  lacksOperation,
  storeError,
  withBucketRefusal,
  withCondition,
} from './failures.ts';
import { type SentInParts, sendInParts } from './in-parts.ts';
import { sortKeys } from './object-keys.ts';

const SINGLE_DELETES_IN_FLIGHT = 8;

/** So many keys go one by one where together they were refused, before the store is taken to have no other way. */
const ENOUGH_SINGLES = 2;

/** What became of the keys of a call: each is in one of the two. */
export interface KeyOutcomes {
  readonly deleted: readonly string[];
  readonly failures: readonly KeyFailure[];
}

interface BatchOutcome extends KeyOutcomes {
  /** To be deleted one by one. */
  readonly again: readonly string[];
  /** Why the store may have no DeleteObjects; it has none where one by one works. */
  readonly lacking?: string;
}

interface SinglesOutcome extends KeyOutcomes {
  /** Set when not one key had an answer of its own. */
  readonly unanimous: ObjectStoreError | undefined;
}

/** Deletes keys with what the bucket's store is able to do. */
export class S3Deletion {
  readonly #connection: S3Connection;
  readonly #requests: S3DeleteRequests;

  constructor(connection: S3Connection, requests: S3DeleteRequests) {
    this.#connection = connection;
    this.#requests = requests;
  }

  async run(bucket: string, keys: readonly string[], call: DeletionCall): Promise<KeyOutcomes> {
    refuseUnlessPossible(bucket, keys, call);
    try {
      const { deleted, failures } = await this.#deleteAll(bucket, keys, call);
      if (failures.length === 0 || call.etags === undefined) return { deleted, failures };
      const told = learnRefusals(bucket, { deleted, failures }, call);
      const gone = await findGone(this.#connection, bucket, told, call);
      if (gone.size === 0) return { deleted, failures: told };
      for (const key of gone) call.notes.noteEnd(key, { end: 'gone' });
      return {
        deleted: [...deleted, ...gone],
        failures: told.filter(({ key }) => !gone.has(key)),
      };
    } catch (error) {
      if (!(error instanceof ObjectStoreError)) throw error;
      throw learnRefusal(bucket, keys, call, error);
    }
  }

  async #deleteAll(
    bucket: string,
    keys: readonly string[],
    call: DeletionCall,
  ): Promise<KeyOutcomes> {
    const { distinct, together, alone, refused } = sortKeys(keys);
    const batch = await this.#deleteTogether(bucket, together, call);
    if (batch.deleted.length === distinct.size) return batch;
    const singles = await this.#deleteAlone(bucket, [...batch.again, ...alone], call);
    const answered = batch.deleted.length + batch.failures.length > 0;
    if (singles.unanimous && !answered) throw singles.unanimous;
    const works =
      singles.deleted.length > 0 || singles.failures.some(({ outcome }) => outcome === 'changed');
    if (batch.lacking !== undefined && works) {
      call.habits.learn('deletes', 'singly', batch.lacking);
    }
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
    if (keys.length === 0 || call.habits.known.deletes === 'singly') {
      return { deleted: [], failures: [], again: keys };
    }
    const collected = new Collected();
    const ask = (part: readonly string[]) => this.#requests.deleteKeys(bucket, part, call);
    try {
      const sent = await sendInParts(
        keys,
        call.habits,
        this.#requests.requestTimeoutMilliseconds,
        async (part) => {
          const reply = await ask(part);
          const read = reply.all === true ? undefined : readReply(reply, part);
          if (read === undefined || read.deleted.length > 0) {
            call.notes.noteRequest(reply.$metadata?.requestId);
          }
          if (read === undefined) collected.addDeleted(part);
          else collected.add(judge(bucket, read, call));
        },
        ask,
      );
      return await this.#finish(bucket, sent, collected, call);
    } catch (error) {
      if (!(error instanceof ObjectStoreError)) throw error;
      const [only, ...others] = keys;
      if (lacksOperation(error)) {
        const lacking = `DeleteObjects is answered with ${error.code}`;
        // It may be the etags that it does not know.
        if (!isConditional(keys, call)) call.habits.learn('deletes', 'singly', lacking);
        return { deleted: [], failures: [], again: keys, lacking };
      }
      if (only === undefined) throw error;
      // Of a store without DeleteObjects, or of something before it that lets no POST through.
      if (error.httpStatus === 404 && error.kind !== 'no-bucket') {
        return this.#deleteInstead(bucket, keys, error, call);
      }
      // What the only key that was asked for is answered says nothing of the bucket's others.
      if ((error.kind === 'denied' || isOwnFault(error)) && others.length === 0) {
        return { deleted: [], failures: [failureOfKey(only, error)], again: [] };
      }
      throw error;
    }
  }

  /** Tries one by one what was refused alone, which tells a bad key from a store without DeleteObjects. */
  async #finish(
    bucket: string,
    sent: SentInParts<string>,
    collected: Collected,
    call: DeletionCall,
  ): Promise<BatchOutcome> {
    const { deleted, failures, again } = collected;
    const { refused, stopped } = sent;
    if (refused.length === 0) {
      const left = stopped?.targets.map((key) => failureOfUntried(key, stopped.error)) ?? [];
      return { deleted, failures: [...failures, ...left], again };
    }
    const keys = refused.map(({ target }) => target);
    const singles = await this.#deleteAlone(bucket, keys, call);
    if (!sent.taken && stopped === undefined && singles.unanimous) throw singles.unanimous;
    const isSingly = !sent.taken && singles.deleted.length >= ENOUGH_SINGLES;
    if (isSingly) {
      const because = `DeleteObjects is answered with ${refused[0]?.error.code}, DeleteObject works`;
      call.habits.learn('deletes', 'singly', because);
    }
    const rest = stopped?.targets ?? [];
    if (stopped !== undefined && !sent.taken && singles.deleted.length === 0) {
      // Request after request is refused, whatever key is in it: not the keys' fault.
      const { code, reason } = refused[0]?.error ?? stopped.error;
      const said = `request after request is refused: ${reason}`;
      throw storeError({
        bucket,
        kind: 'malformed',
        code,
        reason: said,
        outcome: 'failed',
        concerns: 'bucket',
        cause: stopped.error,
      });
    }
    const left =
      isSingly || stopped === undefined
        ? []
        : rest.map((key) => failureOfUntried(key, stopped.error));
    return {
      deleted: [...deleted, ...singles.deleted],
      failures: [...failures, ...singles.failures, ...left],
      again: isSingly ? [...again, ...rest] : again,
    };
  }

  /** @throws what the request was answered, where one by one nothing is deleted either. */
  async #deleteInstead(
    bucket: string,
    keys: readonly string[],
    error: ObjectStoreError,
    call: DeletionCall,
  ): Promise<BatchOutcome> {
    const singles = await this.#deleteAlone(bucket, keys.slice(0, 1), call);
    if (singles.deleted.length === 0) throw error;
    const because = `DeleteObjects is answered with ${error.httpStatus}, DeleteObject works`;
    call.habits.learn('deletes', 'singly', because);
    return { deleted: singles.deleted, failures: [], again: keys.slice(1) };
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
        else failures.push(withCondition(failureOfKey(key, error), call.etags));
        if (error && (call.signal.aborted || endsAll(error))) stopped ??= error;
        last = error ?? last;
      }
    };
    await Promise.all(Array.from({ length: SINGLE_DELETES_IN_FLIGHT }, work));
    if (stopped?.kind === 'aborted') throw stopped;
    const isOwn = ({ outcome, concerns }: KeyFailure): boolean =>
      (outcome === 'refused' || outcome === 'changed') && concerns === 'key';
    const isAlone = keys.length === 1 && last !== undefined && isOwnFault(last);
    const answered = deleted.length > 0 || failures.some(isOwn) || isAlone;
    return { deleted, failures, unanimous: answered ? undefined : (stopped ?? last) };
  }

  async #deleteOne(
    bucket: string,
    key: string,
    call: DeletionCall,
  ): Promise<ObjectStoreError | undefined> {
    try {
      await this.#requests.deleteObject(bucket, { key, etag: call.etags?.get(key) }, call);
      return undefined;
    } catch (error) {
      if (!(error instanceof ObjectStoreError)) throw error;
      if (!isGone(error.code)) return error;
      call.notes.noteRequest(error.requestId);
      call.notes.noteEnd(key, { end: 'gone' });
      return undefined;
    }
  }
}

/** What the replies of a call have come to so far. */
class Collected implements BatchOutcome {
  deleted: readonly string[] = [];
  failures: readonly KeyFailure[] = [];
  again: readonly string[] = [];

  addDeleted(keys: readonly string[]): void {
    // Most calls are one request, whose keys need no copy.
    this.deleted = this.deleted.length === 0 ? keys : [...this.deleted, ...keys];
  }

  add({ deleted, failures, again }: BatchOutcome): void {
    this.addDeleted(deleted);
    this.failures = [...this.failures, ...failures];
    this.again = [...this.again, ...again];
  }
}

/** Sorts out a reply. Keys that it spells in another way have to be asked for one by one. */
function judge(bucket: string, reply: ReadReply, call: DeletionCall): BatchOutcome {
  const { deleted, failures, ends, unnamed, misspelt, keyless } = reply;
  call.notes.noteEnds(ends);
  const noBucket = failures.find((it) => familyOfKey(it) === 'no-bucket');
  if (noBucket) {
    const { code, reason } = noBucket;
    throw storeError({ bucket, kind: 'no-bucket', code, reason });
  }
  if (misspelt) return { deleted, failures, again: unnamed };
  for (const key of unnamed) call.unanswered.add(key);
  const unknown = unnamed.map((key) => unanswered(key, keyless));
  // Of no key in particular, so nothing that the keys should be told apart by: the bucket pauses.
  const [first] = [...failures, ...unknown];
  const isThrottled = (it: KeyFailure): boolean => familyOfKey(it) === 'throttled';
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
