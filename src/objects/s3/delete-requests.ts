import { withDeadline } from '../../lifecycle/deadline.ts';
import type { DeletionReply } from './deletion-reply.ts';
import type { DeletionOptions } from '../deletion-report.ts';
import { ObjectStoreError } from '../store-failure.ts';
import { CallHabits, type StoreHabits } from '../store-habits.ts';
import { Attempts } from './attempts.ts';
import { DeletionNotes } from './deletion-notes.ts';
import type { S3Connection, Sdk } from './connection.ts';
import { isOfContent, refusesChecksum } from './failures.ts';
import { findPlainXmlFault } from './plain-xml-check.ts';
import { usePlainXml } from './plain-xml.ts';

/** What a request is to delete: the current version, or the named one. */
export interface DeletionTarget {
  readonly key: string;
  readonly versionId?: string | undefined;
  /** Without quotes: what the current version must be. */
  readonly etag?: string | undefined;
}

/** One call, of however many requests. */
export interface DeletionCall {
  /** Ends it early. */
  readonly signal: AbortSignal;
  /** See {@link DeletionOptions.endsAt}. */
  readonly endsAt?: DeletionOptions['endsAt'];
  /** See {@link DeletionOptions.etags}. */
  readonly etags?: DeletionOptions['etags'];
  /** Gets the keys that the store may still delete; complete when the call has ended. */
  readonly unanswered: Set<string>;
  /** Gets what the store says of what it has deleted. */
  readonly notes: DeletionNotes;
  /** What the bucket's store is known to do otherwise than S3; gets what is learned of it. */
  readonly habits: CallHabits;
}

/** The checksum that a DeleteObjects request carries. */
type Checksum = NonNullable<StoreHabits['checksum']>;

/** In which order checksums are tried. S3 takes the first two. */
const CHECKSUMS: readonly Checksum[] = ['crc32', 'md5', 'none'];

/** The two requests that delete. Both throw {@link ObjectStoreError} with the SDK's as its cause. */
export class S3DeleteRequests {
  readonly #connection: S3Connection;
  /** Buckets whose store has taken the checksum that it was sent: a refusal there has another reason. */
  readonly #taken = new Set<string>();
  #plainXml: Promise<boolean> | undefined;

  constructor(connection: S3Connection) {
    this.#connection = connection;
  }

  get requestTimeoutMilliseconds(): number {
    return this.#connection.requestTimeoutMilliseconds;
  }

  /** Loads what the first request would have to wait for. */
  async prepare(): Promise<void> {
    await this.#connection.prepare();
    await this.#hasPlainXml();
  }

  /** One DeleteObjects request; two while it is not known which checksum the store takes. */
  deleteObjects(
    bucket: string,
    targets: readonly DeletionTarget[],
    call: DeletionCall,
  ): Promise<DeletionReply> {
    const keys = targets.map(({ key }) => key);
    return this.#withChecksum(bucket, call, (checksum) =>
      this.#attempt(keys, call, (attempts) =>
        this.#connection.send(
          'DeleteObjects',
          bucket,
          call.signal,
          (sdk, client) => {
            const command = deleteObjectsCommand(sdk, bucket, targets, checksum);
            attempts.watch(command);
            return client.send(command, { abortSignal: call.signal });
          },
          rightFor(targets[0]),
        ),
      ),
    );
  }

  /**
   * The same for the current versions of keys that XML carries, past the SDK's slow reading and writing
   * of XML while that works.
   *
   * @returns with `all` when the reply names each key as deleted and says nothing else.
   */
  async deleteKeys(
    bucket: string,
    keys: readonly string[],
    call: DeletionCall,
  ): Promise<DeletionReply & { readonly all?: true }> {
    if (!(await this.#hasPlainXml())) {
      return this.deleteObjects(
        bucket,
        keys.map((key) => ({ key, etag: call.etags?.get(key) })),
        call,
      );
    }
    return this.#withChecksum(bucket, call, (checksum) =>
      this.#attempt(keys, call, (attempts) =>
        this.#connection.send('DeleteObjects', bucket, call.signal, async (sdk, client) => {
          const placeholder = keys.slice(0, 1).map((key) => ({ key }));
          const command = deleteObjectsCommand(sdk, bucket, placeholder, checksum);
          const readNamed = usePlainXml(command, keys, call.etags);
          attempts.watch(command);
          const reply = await client.send(command, { abortSignal: call.signal });
          const named = readNamed();
          const { $metadata } = reply;
          if (named === 'all') return { all: true, $metadata };
          return named === undefined
            ? reply
            : { Deleted: named.map((Key) => ({ Key })), $metadata };
        }),
      ),
    );
  }

  /** Found out once: an update of the SDK may have moved what {@link usePlainXml} leans on. */
  #hasPlainXml(): Promise<boolean> {
    this.#plainXml ??= findPlainXmlFault(this.#connection).then((fault) => {
      if (fault === undefined) return true;
      this.#connection.warn(
        `The fast way of deleting does not fit this version of the AWS SDK (${fault}): ` +
          "the SDK's own way is used, which takes more CPU time",
      );
      return false;
    });
    return this.#plainXml;
  }

  /** Each checksum is tried once, where the store refuses the one that it is known to take, or S3 takes. */
  async #withChecksum<Reply>(
    bucket: string,
    { habits }: DeletionCall,
    send: (checksum: Checksum) => Promise<Reply>,
  ): Promise<Reply> {
    const known = habits.known.checksum ?? 'crc32';
    const name = `${bucket} ${known}`;
    let refusal: ObjectStoreError | undefined;
    for (const checksum of [known, ...CHECKSUMS.filter((it) => it !== known)]) {
      try {
        const reply = await send(checksum);
        if (refusal === undefined) this.#taken.add(name);
        else habits.learn('checksum', checksum, `${known} is answered with ${refusal.code}`);
        return reply;
      } catch (error) {
        if (!(error instanceof ObjectStoreError)) throw error;
        const isRefused = refusesChecksum(error) && !this.#taken.has(name);
        // What is refused with any checksum is refused for what the first answer says.
        if (!isRefused) throw refusal !== undefined && isOfContent(error) ? refusal : error;
        refusal ??= error;
      }
    }
    throw refusal ?? new RangeError('expected a checksum to try');
  }

  /**
   * A single key has no document to be named in: the status says that it is deleted. The SDK takes
   * any 2xx for that, also one of something that stands before the store.
   *
   * @returns the version id of the delete marker that it made, where it made one.
   */
  async deleteObject(
    bucket: string,
    target: DeletionTarget,
    call: DeletionCall,
  ): Promise<string | undefined> {
    const { key, versionId, etag } = target;
    const named = {
      Bucket: bucket,
      Key: key,
      ...(versionId === undefined ? {} : { VersionId: versionId }),
      ...(etag === undefined ? {} : { IfMatch: quote(etag) }),
    };
    const reply = await this.#attempt([key], call, (attempts) =>
      this.#connection.send(
        'DeleteObject',
        bucket,
        call.signal,
        async (sdk, client) => {
          const command = new sdk.DeleteObjectCommand(named);
          attempts.watch(command);
          const answer = await client.send(command, { abortSignal: call.signal });
          const { httpStatusCode: status, requestId } = answer.$metadata;
          // S3 answers 204. Some stores answer 200, and then it takes their name on the answer.
          if (status === 204 || (status === 200 && requestId !== undefined)) return answer;
          attempts.disbelieve();
          const message = `expected 204, which says that the key is deleted, given: ${status}`;
          throw Object.assign(new Error(message), { name: 'Unanswered' });
        },
        rightFor(target),
      ),
    );
    call.notes.noteRequest(reply.$metadata.requestId);
    if (versionId !== undefined || reply.DeleteMarker !== true) return undefined;
    call.notes.noteEnd(key, { end: 'marker', version: reply.VersionId });
    return reply.VersionId;
  }

  /** A DeleteObject request that may take its whole budget, like a request that only reads. */
  async deleteInTime(
    bucket: string,
    target: DeletionTarget,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    await withDeadline(this.#connection.budgetMilliseconds, signal, (inTime) =>
      this.deleteObject(bucket, target, {
        signal: inTime,
        unanswered: new Set(),
        notes: new DeletionNotes(),
        habits: new CallHabits(),
      }),
    );
  }

  async #attempt<T>(
    keys: readonly string[],
    { endsAt, unanswered }: DeletionCall,
    send: (attempts: Attempts) => Promise<T>,
  ): Promise<T> {
    const attempts = new Attempts(endsAt);
    try {
      return await send(attempts);
    } catch (error) {
      // A call may also end before anything of it was sent.
      const isSure = error instanceof ObjectStoreError && !attempts.areUnanswered;
      throw isSure && error.outcome === 'unknown' ? error.with({ outcome: 'failed' }) : error;
    } finally {
      if (attempts.areUnanswered) for (const key of keys) unanswered.add(key);
    }
  }
}

/** An etag as HTTP writes it: what is between the quotes is the etag of every store. */
function quote(etag: string): string {
  return `"${etag}"`;
}

function rightFor(target: DeletionTarget | undefined): string {
  return target?.versionId === undefined ? 's3:DeleteObject' : 's3:DeleteObjectVersion';
}

function deleteObjectsCommand(
  sdk: Sdk,
  bucket: string,
  targets: readonly DeletionTarget[],
  checksum: Checksum,
): InstanceType<Sdk['DeleteObjectsCommand']> {
  // Not quiet: in a quiet reply a key that was deleted and one that was lost look the same.
  const Objects = targets.map(({ key, versionId, etag }) => ({
    Key: key,
    ...(versionId === undefined ? {} : { VersionId: versionId }),
    ...(etag === undefined ? {} : { ETag: quote(etag) }),
  }));
  const Delete = { Objects, Quiet: false };
  if (checksum === 'crc32') return new sdk.DeleteObjectsCommand({ Bucket: bucket, Delete });
  const command = new sdk.DeleteObjectsCommand({
    Bucket: bucket,
    Delete,
    ChecksumAlgorithm: 'MD5',
  });
  // Stores that want Content-MD5 are older than this header, and some refuse what they do not know.
  const unwanted =
    checksum === 'md5'
      ? ['x-amz-sdk-checksum-algorithm']
      : ['x-amz-sdk-checksum-algorithm', 'content-md5'];
  command.middlewareStack.add(
    (next) => (args) => {
      if (hasHeaders(args.request)) {
        const { headers } = args.request;
        for (const name of Object.keys(headers)) {
          if (unwanted.includes(name.toLowerCase())) delete headers[name];
        }
      }
      return next(args);
    },
    { name: 'withoutChecksumName', step: 'build', priority: 'low' },
  );
  return command;
}

function hasHeaders(request: unknown): request is { headers: Record<string, string> } {
  return typeof request === 'object' && request !== null && 'headers' in request;
}
