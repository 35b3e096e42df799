import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

import { MemoryBucket } from './memory-s3-bucket.ts';
import type { Answer, BucketRequest } from './memory-s3-request.ts';
import { operationFor, subresourceOf } from './memory-s3-routes.ts';
import { REGION } from './memory-s3-settings.ts';
import { element, S3Fault, xmlDocument } from './memory-s3-xml.ts';

/** Someone who may ask. The signature is not checked, only that the access key is known. */
export interface MemoryS3User {
  readonly name: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** One request that was answered. */
export interface MemoryS3Request {
  /** S3's name of the operation, or method and subresource of one that is not known here. */
  readonly operation: string;
  readonly bucket: string;
  readonly keys: readonly string[];
  readonly status: number;
}

export interface MemoryS3Options {
  /** Default: any free port. */
  readonly port?: number;
  /** The first owns what is made without HTTP. Default {@link DEFAULT_USERS}. */
  readonly users?: readonly MemoryS3User[];
  readonly onRequest?: (request: MemoryS3Request) => void;
  /** DeleteObjects names every key as deleted, at once and whatever there is. Default false. */
  readonly nullMode?: boolean;
  /** What becomes of the etag of a deletion, as stores differ. Default: as S3 does it. */
  readonly conditions?: BucketRequest['conditions'];
}

/** A running server. */
export interface MemoryS3 {
  readonly endpoint: string;
  readonly region: string;
  readonly users: readonly MemoryS3User[];
  /** Makes a bucket, unless there is one. */
  createBucket(bucket: string): void;
  /** Takes a bucket away with all that is in it, without HTTP. */
  removeBucket(bucket: string): void;
  /** Puts an object without HTTP. Objects that share a body share its memory. */
  putObject(bucket: string, key: string, body?: Uint8Array): void;
  /** Whether the key's current version is an object. */
  hasObject(bucket: string, key: string): boolean;
  countObjects(bucket: string): number;
  /** Ends it, with whatever is in flight. */
  stop(): Promise<void>;
}

export const DEFAULT_USERS: readonly [MemoryS3User, MemoryS3User] = [
  { name: 'owner', accessKeyId: 'MEMORYS3OWNER0000001', secretAccessKey: 'memory-s3-owner-secret' },
  { name: 'other', accessKeyId: 'MEMORYS3OTHER0000002', secretAccessKey: 'memory-s3-other-secret' },
];

const EMPTY = new Uint8Array();

/**
 * Starts a small S3 in this process: real HTTP on a loopback port, path-style, all in memory. It
 * answers as S3 does in what it knows, and 501 to the rest.
 */
export async function startMemoryS3(options: MemoryS3Options = {}): Promise<MemoryS3> {
  const store = new MemoryStore(options);
  const server = createServer((request, response) => void store.serve(request, response));
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(options.port ?? 0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    endpoint: `http://127.0.0.1:${port}`,
    region: REGION,
    users: store.users,
    createBucket: (bucket) => void store.makeBucket(bucket, store.users[0]?.name ?? ''),
    removeBucket: (bucket) => store.removeBucket(bucket),
    putObject: (bucket, key, body = EMPTY) => void store.bucket(bucket).put(key, body),
    hasObject: (bucket, key) => store.bucket(bucket).find(key)?.body !== undefined,
    countObjects: (bucket) => store.bucket(bucket).countObjects(),
    stop: () => stop(server),
  };
}

/** The buckets and how requests reach them. */
class MemoryStore {
  readonly users: readonly MemoryS3User[];
  readonly #options: MemoryS3Options;
  readonly #buckets = new Map<string, MemoryBucket>();
  #requests = 0;

  constructor(options: MemoryS3Options) {
    this.#options = options;
    this.users = options.users ?? DEFAULT_USERS;
  }

  bucket(name: string): MemoryBucket {
    const bucket = this.#buckets.get(name);
    if (!bucket) throw new S3Fault(404, 'NoSuchBucket', 'The specified bucket does not exist');
    return bucket;
  }

  /** As in us-east-1: making one's own bucket once more is no error. */
  makeBucket(name: string, owner: string): MemoryBucket {
    const known = this.#buckets.get(name);
    if (known && known.owner !== owner) throw new S3Fault(409, 'BucketAlreadyExists');
    const bucket = known ?? new MemoryBucket(name, owner);
    this.#buckets.set(name, bucket);
    return bucket;
  }

  removeBucket(name: string): void {
    this.#buckets.delete(name);
  }

  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const method = request.method ?? '';
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer);
    } catch {
      return; // The client went away.
    }
    const requestId = `memory-${(this.#requests += 1)}`;
    const log = { operation: method, bucket: '', keys: [] as readonly string[] };
    let answer: Answer;
    try {
      answer = this.#answer(request, Buffer.concat(chunks), log);
    } catch (error) {
      answer = refusal(error, requestId);
    }
    response.writeHead(answer.status, {
      'x-amz-request-id': requestId,
      ...(typeof answer.body === 'string' ? { 'content-type': 'application/xml' } : {}),
      ...answer.headers,
    });
    response.end(method === 'HEAD' ? undefined : answer.body);
    this.#options.onRequest?.({ ...log, keys: answer.keys ?? log.keys, status: answer.status });
  }

  #answer(
    request: IncomingMessage,
    body: Buffer,
    log: { operation: string; bucket: string; keys: readonly string[] },
  ): Answer {
    const { method = '', headers } = request;
    const { bucketName, key, query } = readTarget(request.url ?? '/');
    log.bucket = bucketName;
    log.keys = key === '' ? [] : [key];
    const operation = operationFor(method, key, query, this.#options.nullMode ?? false);
    log.operation = operation?.name ?? method + subresourceOf(query);
    const user = this.#userOf(headers.authorization);
    if (key === '' && subresourceOf(query) === '') {
      if (method === 'PUT') return this.#createBucket(log, headers, user);
      if (method === 'DELETE') return this.#deleteBucket(log, user);
    }
    if (!operation || bucketName === '') {
      throw new S3Fault(501, 'NotImplemented', `${log.operation} is not known here`);
    }
    const bucket = this.bucket(bucketName);
    const permits: BucketRequest['permits'] = (action, on) =>
      bucket.policy.permits({
        user: user.name,
        owner: bucket.owner,
        action,
        resource: on === '' ? bucketName : `${bucketName}/${on}`,
      });
    const version = operation.name === 'DeleteObject' && query.has('versionId') ? 'Version' : '';
    if (operation.action !== undefined && !permits(operation.action + version, key)) {
      throw new S3Fault(403, 'AccessDenied', 'Access Denied');
    }
    const { conditions = 'honoured' } = this.#options;
    return operation.run({ bucket, key, query, headers, body, conditions, permits });
  }

  #createBucket(
    log: { operation: string; readonly bucket: string },
    headers: IncomingMessage['headers'],
    user: MemoryS3User,
  ): Answer {
    log.operation = 'CreateBucket';
    if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(log.bucket)) {
      throw new S3Fault(400, 'InvalidBucketName', 'The specified bucket is not valid');
    }
    const bucket = this.makeBucket(log.bucket, user.name);
    if (headers['x-amz-bucket-object-lock-enabled'] === 'true') {
      bucket.versioning = 'Enabled';
      const enabled = element('ObjectLockEnabled', 'Enabled');
      bucket.documents.set('object-lock', xmlDocument('ObjectLockConfiguration', enabled));
    }
    return { status: 200, headers: { location: `/${log.bucket}` } };
  }

  #deleteBucket(log: { operation: string; readonly bucket: string }, user: MemoryS3User): Answer {
    log.operation = 'DeleteBucket';
    const bucket = this.bucket(log.bucket);
    if (bucket.owner !== user.name) throw new S3Fault(403, 'AccessDenied', 'Access Denied');
    if (!bucket.isEmpty) throw new S3Fault(409, 'BucketNotEmpty', 'The bucket is not empty');
    this.#buckets.delete(log.bucket);
    return { status: 204 };
  }

  #userOf(authorization: string | undefined): MemoryS3User {
    const accessKeyId = /Credential=([^/]+)\//.exec(authorization ?? '')?.[1];
    if (accessKeyId === undefined) throw new S3Fault(403, 'AccessDenied', 'Access Denied');
    const user = this.users.find((it) => it.accessKeyId === accessKeyId);
    if (user) return user;
    throw new S3Fault(
      403,
      'InvalidAccessKeyId',
      'The AWS Access Key Id you provided does not exist in our records.',
    );
  }
}

/** Not with `URL`, which would resolve dots in keys away. */
function readTarget(url: string): { bucketName: string; key: string; query: URLSearchParams } {
  const mark = url.indexOf('?');
  const path = mark < 0 ? url : url.slice(0, mark);
  const slash = path.indexOf('/', 1);
  try {
    return {
      bucketName: decodeURIComponent(slash < 0 ? path.slice(1) : path.slice(1, slash)),
      key: slash < 0 ? '' : decodeURIComponent(path.slice(slash + 1)),
      query: new URLSearchParams(mark < 0 ? '' : url.slice(mark + 1)),
    };
  } catch {
    throw new S3Fault(400, 'InvalidURI', "Couldn't parse the specified URI.");
  }
}

function refusal(error: unknown, requestId: string): Answer {
  const fault = error instanceof S3Fault ? error : new S3Fault(500, 'InternalError', String(error));
  const content =
    element('Code', fault.code) +
    element('Message', fault.message) +
    element('RequestId', requestId);
  return {
    status: fault.status,
    body: `<?xml version="1.0" encoding="UTF-8"?>\n<Error>${content}</Error>`,
  };
}

async function stop(server: Server): Promise<void> {
  const closed = new Promise((resolve) => server.close(resolve));
  server.closeAllConnections();
  await closed;
}
