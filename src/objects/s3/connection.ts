import type * as AwsS3 from '@aws-sdk/client-s3';
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3';

import { DeadlinePassed, unlessAborted, withDeadline } from '../../lifecycle/deadline.ts';
import type { ObjectStoreError } from '../store-failure.ts';
import {
  DEFAULT_MAX_ATTEMPTS,
  DEFAULT_REQUEST_TIMEOUT_MILLISECONDS,
  retryBudgetMilliseconds,
  type RetryTimes,
} from '../../retry-budget.ts';
import { classify, storeError } from './failures.ts';

/** How to reach the store, and how long to wait for it. */
export interface S3ObjectStoreOptions extends RetryTimes {
  /** A store other than AWS; addressed path-style. */
  readonly endpoint?: string | undefined;
  /** Default: the AWS chain's, or us-east-1. A bucket elsewhere is followed to its own region. */
  readonly region?: string | undefined;
  /** Default {@link DEFAULT_CONNECT_TIMEOUT_MILLISECONDS}. */
  readonly connectTimeoutMilliseconds?: number | undefined;
  /** Connections per region. Default {@link DEFAULT_MAX_SOCKETS}. */
  readonly maxSockets?: number | undefined;
  /** Told of each request when it has ended; the attempts within it are not told apart. */
  readonly observe?: ((request: ObservedRequest) => void) | undefined;
  /** Told of what a person should know, such as an SDK that has changed under this package. */
  readonly warn?: ((message: string) => void) | undefined;
  /** Laid over the client's configuration, such as fixed credentials. */
  readonly clientConfig?: Partial<S3ClientConfig> | undefined;
}

/** The requests that are sent, by S3's own names. */
export type S3Operation = keyof typeof RIGHTS;

/** One request that has ended. */
export interface ObservedRequest {
  readonly operation: S3Operation;
  readonly bucket: string;
  /** `ok`, or an ObjectStoreErrorKind. Keys refused within a reply do not make it less `ok`. */
  readonly outcome: string;
  readonly milliseconds: number;
}

/** What is looked at of a request that goes nowhere. */
export interface RehearsedRequest {
  readonly body?: unknown;
  readonly headers: Readonly<Record<string, string>>;
}

export const DEFAULT_CONNECT_TIMEOUT_MILLISECONDS = 5_000;
export const DEFAULT_MAX_SOCKETS = 50;

const FALLBACK_REGION = 'us-east-1';
const WARNING_SWITCH = 'AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED';

/** The right that each request needs. */
const RIGHTS = {
  DeleteObject: 's3:DeleteObject',
  DeleteObjects: 's3:DeleteObject',
  GetBucketLifecycleConfiguration: 's3:GetLifecycleConfiguration',
  GetBucketVersioning: 's3:GetBucketVersioning',
  GetObjectLegalHold: 's3:GetObjectLegalHold',
  GetObjectLockConfiguration: 's3:GetBucketObjectLockConfiguration',
  GetObjectRetention: 's3:GetObjectRetention',
  HeadBucket: 's3:ListBucket',
  HeadObject: 's3:GetObject',
  ListObjectsV2: 's3:ListBucket',
  ListObjectVersions: 's3:ListBucketVersions',
} as const;

/** Anything else would become part of another request's path. */
const BUCKET_NAME = /^(?:[A-Za-z0-9][\w.-]{1,254}|arn:.+)$/;

/** The AWS SDK, once it is loaded: by the first request, not by importing this file. */
export type Sdk = typeof AwsS3;

/** Sends requests: in the bucket's own region, within the signal's time, and observed. */
export class S3Connection {
  /** The most milliseconds that one request takes, with all its attempts. */
  readonly budgetMilliseconds: number;
  readonly #options: S3ObjectStoreOptions;
  readonly #clients = new Map<string | undefined, Promise<S3Client>>();
  readonly #regions = new Map<string, string>();

  constructor(options: S3ObjectStoreOptions) {
    this.#options = options;
    this.budgetMilliseconds = retryBudgetMilliseconds(options);
  }

  /** The region to which the bucket's requests were sent on, where they were. */
  regionOf(bucket: string): string | undefined {
    return this.#regions.get(bucket);
  }

  /** Loads the SDK and makes the client of the first request. Sends nothing. */
  async prepare(): Promise<void> {
    await this.#clientFor(await import('@aws-sdk/client-s3'), undefined);
  }

  /**
   * A client like the real ones, whose requests go to a function instead of the network, signed with
   * credentials that are none. The caller destroys it.
   */
  async rehearsal(
    handle: (request: RehearsedRequest) => Promise<object>,
  ): Promise<{ readonly sdk: Sdk; readonly client: S3Client }> {
    const sdk = await import('@aws-sdk/client-s3');
    const config = {
      ...clientConfig(this.#options, FALLBACK_REGION),
      credentials: { accessKeyId: 'rehearsal', secretAccessKey: 'rehearsal' },
      maxAttempts: 1,
      requestHandler: { handle } as unknown as NonNullable<S3ClientConfig['requestHandler']>,
    };
    return { sdk, client: withoutLog(withoutNodeWarning(() => new sdk.S3Client(config))) };
  }

  /** Passes a warning on to the store's owner. */
  warn(message: string): void {
    this.#options.warn?.(message);
  }

  close(): void {
    for (const client of this.#clients.values()) {
      client.then((it) => it.destroy()).catch(() => undefined);
    }
    this.#clients.clear();
  }

  /**
   * Sends one request.
   *
   * @param signal ends it early; an aborted {@link withDeadline} makes it a timeout.
   * @param right what the request needs, where its operation alone does not tell.
   * @throws {ObjectStoreError} with the SDK's error as its cause.
   */
  async send<T>(
    operation: S3Operation,
    bucket: string,
    signal: AbortSignal,
    request: (sdk: Sdk, client: S3Client) => Promise<T>,
    right: string = RIGHTS[operation],
  ): Promise<T> {
    const started = performance.now();
    let outcome = 'ok';
    try {
      return await unlessAborted(this.#sendToItsRegion(bucket, request), signal);
    } catch (error) {
      const failed = toObjectStoreError(bucket, right, error, signal);
      outcome = failed.kind;
      throw failed;
    } finally {
      const milliseconds = performance.now() - started;
      this.#options.observe?.({ operation, bucket, outcome, milliseconds });
    }
  }

  /** Sends one request that may take its whole {@link budgetMilliseconds}. */
  ask<T>(
    operation: S3Operation,
    bucket: string,
    signal: AbortSignal | undefined,
    request: (sdk: Sdk, client: S3Client, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    return withDeadline(this.budgetMilliseconds, signal, (inTime) =>
      this.send(operation, bucket, inTime, (sdk, client) => request(sdk, client, inTime)),
    );
  }

  /**
   * Not the SDK's `followRegionRedirects`: that asks the wrong region first every time, and changes
   * the whole client's region while it follows one of several requests in flight.
   */
  async #sendToItsRegion<T>(
    bucket: string,
    request: (sdk: Sdk, client: S3Client) => Promise<T>,
  ): Promise<T> {
    if (!BUCKET_NAME.test(bucket)) {
      throw Object.assign(new Error('not a bucket name'), { name: 'InvalidBucketName' });
    }
    const sdk = await import('@aws-sdk/client-s3');
    const asked = this.#regions.get(bucket);
    try {
      return await request(sdk, await this.#clientFor(sdk, asked));
    } catch (error) {
      const { region } = classify(error);
      if (region === undefined || region === asked) throw error;
      this.#regions.set(bucket, region);
      return request(sdk, await this.#clientFor(sdk, region));
    }
  }

  #clientFor(sdk: Sdk, region: string | undefined): Promise<S3Client> {
    const known = this.#clients.get(region);
    if (known) return known;
    const client = connect(sdk, this.#options, region);
    this.#clients.set(region, client);
    client.catch(() => this.#clients.delete(region));
    return client;
  }
}

async function connect(
  sdk: Sdk,
  options: S3ObjectStoreOptions,
  region: string | undefined,
): Promise<S3Client> {
  const client = withoutNodeWarning(() => new sdk.S3Client(clientConfig(options, region)));
  withoutLog(client);
  try {
    await client.config.region();
    return client;
  } catch {
    // No region is set anywhere. Any will do: a bucket elsewhere says where it is.
    client.destroy();
    return withoutLog(new sdk.S3Client(clientConfig(options, FALLBACK_REGION)));
  }
}

/** Nobody reads the SDK's log, for which it copies each of a thousand keys, there and back. */
function withoutLog(client: S3Client): S3Client {
  client.middlewareStack.remove('loggerMiddleware');
  return client;
}

function clientConfig(options: S3ObjectStoreOptions, learnt: string | undefined): S3ClientConfig {
  const requestTimeout = options.requestTimeoutMilliseconds ?? DEFAULT_REQUEST_TIMEOUT_MILLISECONDS;
  const maxSockets = options.maxSockets ?? DEFAULT_MAX_SOCKETS;
  return {
    maxAttempts: options.maxAttempts ?? DEFAULT_MAX_ATTEMPTS,
    requestHandler: {
      connectionTimeout: options.connectTimeoutMilliseconds ?? DEFAULT_CONNECT_TIMEOUT_MILLISECONDS,
      // Watches until the headers are there; without the flag it only warns.
      requestTimeout,
      throwOnRequestTimeout: true,
      // Ends a body that stalls. One that trickles is left to the call's deadline.
      socketTimeout: requestTimeout,
      httpAgent: { maxSockets },
      httpsAgent: { maxSockets },
    },
    ...(options.region === undefined ? {} : { region: options.region }),
    ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint, forcePathStyle: true }),
    ...options.clientConfig,
    ...(learnt === undefined ? {} : { region: learnt }),
  };
}

function toObjectStoreError(
  bucket: string,
  right: string,
  error: unknown,
  signal: AbortSignal,
): ObjectStoreError {
  const { region: _region, ...failure } = classify(error);
  if (signal.aborted) {
    const by: unknown = signal.reason;
    const outcome = 'unknown';
    return by instanceof DeadlinePassed
      ? storeError({
          bucket,
          kind: 'timeout',
          code: 'Timeout',
          reason: by.message,
          outcome,
          cause: error,
        })
      : storeError({
          bucket,
          kind: 'aborted',
          code: 'Aborted',
          reason: 'given up',
          outcome,
          cause: error,
        });
  }
  const isDenied = failure.kind === 'denied' && failure.httpStatus === 403;
  return storeError({
    ...failure,
    bucket,
    missingAction: isDenied ? right : undefined,
    cause: error,
  });
}

/**
 * The SDK warns once per process on a Node version that it is going to drop, which is this
 * package's concern and not its user's. The switch is set only while the SDK looks at it.
 */
function withoutNodeWarning<T>(construct: () => T): T {
  const before = process.env[WARNING_SWITCH];
  process.env[WARNING_SWITCH] = before ?? 'true';
  try {
    return construct();
  } finally {
    if (before === undefined) delete process.env[WARNING_SWITCH];
  }
}
