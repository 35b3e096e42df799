import { type DeletionReply, readReply, unanswered } from './deletion-reply.ts';
import { sendInParts } from './in-parts.ts';
import { inParallel } from './in-parallel.ts';
import { sortKeys } from './object-keys.ts';
import { MAX_KEYS_PER_REQUEST } from '../deletion-report.ts';
import { type KeyFailure, ObjectStoreError } from '../store-failure.ts';
import type { S3Connection } from './connection.ts';
import type { DeletionCall, S3DeleteRequests } from './delete-requests.ts';
import type { KeyOutcomes } from './deletion.ts';
import {
  failureOfKey,
  failureOfUntried,
  lacksOperation,
  localFailure,
  withCondition,
} from './failures.ts';
import { type ListedVersion, versionPages } from './listing.ts';
import { explainRefusals, type RefusedVersion } from './object-lock.ts';

/** Keys are done in portions, so that a call whose time is over has some to show for it. */
const KEYS_AT_A_TIME = 250;
const REQUESTS_IN_FLIGHT = 16;

/** How many refused versions of a key are looked at to find the last date. */
const REFUSALS_KEPT = 10;

/** What is known of one key while it is purged. */
interface KeyState {
  readonly key: string;
  /** Goes last: under it an older version would come to light. */
  current?: ListedVersion;
  /** The newest version that was listed, which is the last to go; undefined: none was. */
  newest?: string;
  readonly refusals: RefusedVersion[];
  failure?: KeyFailure;
}

/** Deletes keys with all their versions, for good. */
export class S3Purge {
  readonly #connection: S3Connection;
  readonly #requests: S3DeleteRequests;

  constructor(connection: S3Connection, requests: S3DeleteRequests) {
    this.#connection = connection;
    this.#requests = requests;
  }

  async run(bucket: string, keys: readonly string[], call: DeletionCall): Promise<KeyOutcomes> {
    const { together, alone, refused } = sortKeys(keys);
    const plain = new Set(together);
    const all = [...together, ...alone];
    const deleted: string[] = [];
    const failures = [...refused];
    for (let at = 0; at < all.length; at += KEYS_AT_A_TIME) {
      const portion = new Portion(this.#connection, this.#requests, bucket, plain, call);
      try {
        const states = await portion.purge(all.slice(at, at + KEYS_AT_A_TIME));
        for (const { key, failure, newest } of states) {
          if (failure) {
            failures.push(failure);
            continue;
          }
          deleted.push(key);
          call.notes.noteEnd(
            key,
            newest === undefined ? { end: 'gone' } : { end: 'purged', version: newest },
          );
        }
      } catch (error) {
        const isOwn = error instanceof ObjectStoreError && error.kind !== 'aborted';
        if (!isOwn || at === 0) throw error;
        for (const key of all.slice(at)) failures.push(failureOfUntried(key, error));
        break;
      }
    }
    return { deleted, failures };
  }
}

/** The keys that are purged at the same time. */
class Portion {
  readonly #connection: S3Connection;
  readonly #requests: S3DeleteRequests;
  readonly #bucket: string;
  /** The keys that XML carries. */
  readonly #plain: ReadonlySet<string>;
  readonly #call: DeletionCall;
  readonly #states = new Map<string, KeyState>();
  readonly #waiting: ListedVersion[] = [];

  constructor(
    connection: S3Connection,
    requests: S3DeleteRequests,
    bucket: string,
    plain: ReadonlySet<string>,
    call: DeletionCall,
  ) {
    this.#connection = connection;
    this.#requests = requests;
    this.#bucket = bucket;
    this.#plain = plain;
    this.#call = call;
  }

  async purge(keys: readonly string[]): Promise<KeyState[]> {
    for (const key of keys) this.#states.set(key, { key, refusals: [] });
    const states = [...this.#states.values()];
    await this.#each(states, (state) => this.#deleteNoncurrent(state));
    await this.#delete(this.#waiting.splice(0));
    const clear = states.filter((it) => it.current && !it.failure && it.refusals.length === 0);
    const currents = clear.flatMap(({ current }) => current ?? []);
    await this.#delete(currents);
    const gone = clear.filter((it) => !it.failure && it.refusals.length === 0);
    await this.#each(gone, (state) => this.#checkNoneLeft(state));
    await this.#each(
      states.filter((it) => !it.failure && it.refusals.length > 0),
      async (state) => {
        state.failure = await explainRefusals(
          this.#connection,
          this.#bucket,
          state.key,
          state.refusals,
          this.#call.signal,
        );
      },
    );
    return states;
  }

  async #deleteNoncurrent(state: KeyState): Promise<void> {
    const { key } = state;
    const etag = this.#call.etags?.get(key);
    for await (const page of versionPages(this.#connection, this.#bucket, key, this.#call.signal)) {
      // What is current is in the first page: nothing of a key has gone when it turns out to have changed.
      const latest = page.find((version) => version.isLatest && !version.isMarker);
      if (etag !== undefined && latest !== undefined && latest.etag !== etag) {
        state.failure = withCondition(otherVersion(key), this.#call.etags);
        return;
      }
      const newest = page.find((version) => version.isLatest) ?? page[0];
      if (newest !== undefined) state.newest ??= newest.versionId;
      for (const version of page) {
        // A condition is about the current version, and a name means one version. Only a current `null` may be another
        // one by then: S3 looks again.
        if (!version.isLatest) this.#waiting.push({ ...version, etag: undefined });
        else if (version.isMarker || version.versionId !== 'null') {
          state.current = { ...version, etag: undefined };
        } else state.current = { ...version, etag };
      }
      while (this.#waiting.length >= MAX_KEYS_PER_REQUEST) {
        await this.#delete(this.#waiting.splice(0, MAX_KEYS_PER_REQUEST));
      }
    }
  }

  async #checkNoneLeft(state: KeyState): Promise<void> {
    const { key } = state;
    for await (const page of versionPages(this.#connection, this.#bucket, key, this.#call.signal)) {
      if (page.length === 0) continue;
      state.failure = localFailure({
        key,
        code: 'VersionsLeft',
        reason: `a version of the key was written while it was purged: ${page[0]?.versionId}`,
        outcome: 'failed',
      });
      return;
    }
  }

  async #delete(versions: readonly ListedVersion[]): Promise<void> {
    const together = versions.filter((it) => this.#plain.has(it.key));
    const alone = versions.filter((it) => !this.#plain.has(it.key));
    const again: ListedVersion[] = [];
    for (let at = 0; at < together.length; at += MAX_KEYS_PER_REQUEST) {
      again.push(...(await this.#deleteTogether(together.slice(at, at + MAX_KEYS_PER_REQUEST))));
    }
    await inParallel(REQUESTS_IN_FLIGHT, [...again, ...alone], (it) => this.#deleteAlone(it));
  }

  /** @returns the versions that have to be deleted one by one. */
  async #deleteTogether(versions: readonly ListedVersion[]): Promise<readonly ListedVersion[]> {
    const { habits } = this.#call;
    if (versions.length === 0 || habits.known.deletes === 'singly') return versions;
    const again: ListedVersion[] = [];
    const ask = (part: readonly ListedVersion[]) =>
      this.#requests.deleteObjects(this.#bucket, part, this.#call);
    try {
      const { refused, stopped } = await sendInParts(
        versions,
        habits,
        this.#requests.requestTimeoutMilliseconds,
        async (part) => {
          again.push(...this.#read(part, await ask(part)));
        },
        ask,
      );
      if (stopped !== undefined) throw stopped.error;
      return [...again, ...refused.map(({ target }) => target)];
    } catch (error) {
      if (!(error instanceof ObjectStoreError) || !lacksOperation(error)) throw error;
      habits.learn('deletes', 'singly', `DeleteObjects is answered with ${error.code}`);
      return [...versions];
    }
  }

  /** @returns the versions that the reply names in another way. */
  #read(versions: readonly ListedVersion[], reply: DeletionReply): ListedVersion[] {
    const byName = new Map(versions.map((it) => [nameOf(it.key, it.versionId), it]));
    const named = (name: string): ListedVersion[] => {
      const version = byName.get(name);
      return version ? [version] : [];
    };
    const read = readReply(reply, [...byName.keys()], ({ Key, VersionId }) =>
      Key === undefined ? Key : nameOf(Key, VersionId),
    );
    if (read.deleted.length > 0) this.#call.notes.noteRequest(reply.$metadata?.requestId);
    for (const failure of read.failures) {
      for (const version of named(failure.key)) this.#refuse(version, failure);
    }
    const unnamed = read.unnamed.flatMap(named);
    if (read.misspelt) return unnamed;
    for (const { key } of unnamed) this.#call.unanswered.add(key);
    for (const it of unnamed) this.#refuse(it, unanswered(it.key, read.keyless));
    return [];
  }

  async #deleteAlone(version: ListedVersion): Promise<void> {
    try {
      await this.#requests.deleteObject(this.#bucket, version, this.#call);
    } catch (error) {
      const failed = this.#ownTrouble(error);
      this.#refuse(version, failureOfKey(version.key, failed));
    }
  }

  #refuse({ key, versionId, isMarker }: ListedVersion, failure: KeyFailure): void {
    const told = withCondition(failure, this.#call.etags);
    const state = this.#states.get(key);
    if (told.outcome === 'changed' && state !== undefined) state.failure = told;
    const refusals = this.#states.get(key)?.refusals;
    if (!refusals || refusals.length >= REFUSALS_KEPT) return;
    refusals.push({ ...failure, key, versionId, isMarker });
  }

  /** Does something for several keys, where one key's trouble must not hold up the others. */
  async #each(
    states: readonly KeyState[],
    work: (state: KeyState) => Promise<void>,
  ): Promise<void> {
    await inParallel(REQUESTS_IN_FLIGHT, states, async (state) => {
      try {
        await work(state);
      } catch (error) {
        state.failure = failureOfKey(state.key, this.#ownTrouble(error));
      }
    });
  }

  /** @throws what concerns more than one key: no bucket, no right, no answer, no time left. */
  #ownTrouble(error: unknown): ObjectStoreError {
    if (!(error instanceof ObjectStoreError) || this.#call.signal.aborted) throw error;
    const isListing = error.missingAction === 's3:ListBucketVersions';
    if (isListing || COMMON_TROUBLE.has(error.kind)) throw error;
    return error;
  }
}

const COMMON_TROUBLE: ReadonlySet<string> = new Set([
  'aborted',
  'credentials',
  'no-bucket',
  'throttled',
  'timeout',
]);

function otherVersion(key: string): KeyFailure {
  return localFailure({ key, code: 'PreconditionFailed', reason: '', outcome: 'refused' });
}

/** A version's name in a request; versions from before a bucket had any are called `null`. */
function nameOf(key: string, versionId = 'null'): string {
  return JSON.stringify([versionId, key]);
}
