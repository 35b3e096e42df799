import type * as AwsS3 from '@aws-sdk/client-s3';
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3';

import { DeadlinePassed, unlessAborted, withDeadline } from '../../lifecycle/deadline.ts';
import { ObjectStoreError } from '../store-failure.ts';
import { Semaphore } from '../../lifecycle/semaphore.ts';
import {
  DEFAULT_REQUEST_TIMEOUT_MILLISECONDS,
  retryBudgetMilliseconds,
  type RetryTimes,
} from '../../retry-budget.ts';
import { causeOfDenial } from '../denials.ts';
import { HabitMemory } from '../store-habits.ts';
import { type Agents, createAgents } from '../../network/agents.ts';
import {
  type ClientTraits,
  clientConfig,
  connect,
  FALLBACK_REGION,
  withoutLog,
  withoutNodeWarning,
} from './client.ts';
import { classify, storeError } from './failures.ts';
import { RIGHTS, type S3Operation } from './operations.ts';

/** How to reach the store, and how long to wait for it. */
export interface S3ObjectStoreOptions extends RetryTimes {
  /** A store other than AWS; addressed path-style, unless it refuses that. */
  readonly endpoint?: string | undefined;
  /** Default: the AWS chain's, or us-east-1. A bucket elsewhere is followed to its own region. */
  readonly region?: string | undefined;
  /** Default: 5 s. */
  readonly connectTimeoutMilliseconds?: number | undefined;
  /** Requests, and so connections, at once. Default {@link DEFAULT_MAX_SOCKETS}. */
  readonly maxSockets?: number | undefined;
  /** Told of each request when it has ended; the attempts within it are not told apart. */
  readonly observe?: ((request: ObservedRequest) => void) | undefined;
  /** Told of what a person should know, such as an SDK that has changed under this package. */
  readonly warn?: ((message: string) => void) | undefined;
  /** Laid over the client's configuration, such as fixed credentials. */
  readonly clientConfig?: Partial<S3ClientConfig> | undefined;
}

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

export const DEFAULT_MAX_SOCKETS = 50;

/** New credentials are looked for at most so often, however many requests are refused for theirs. */
const RENEWAL_MILLISECONDS = 5_000;

/** Anything else would become part of another request's path. */
const BUCKET_NAME = /^(?:[A-Za-z0-9][\w.-]{1,254}|arn:.+)$/;

/** The AWS SDK, once it is loaded: by the first request, not by importing this file. */
export type Sdk = typeof AwsS3;

/** Sends requests: in the bucket's own region, within the signal's time, and observed. */
export class S3Connection {
  /** The most milliseconds that one request takes, with all its attempts. */
  readonly budgetMilliseconds: number;
  readonly requestTimeoutMilliseconds: number;
  readonly place: string;
  readonly habits = new HabitMemory();
  readonly #options: S3ObjectStoreOptions;
  readonly #clients = new Map<string, Promise<S3Client>>();
  readonly #regions = new Map<string, string>();
  readonly #addressing = new Map<string, 'path' | 'virtual'>();
  /** Who waits for a socket within the SDK has its timers running. */
  readonly #sockets: Semaphore;
  #agents: Agents | undefined;
  #renewedAt = -Infinity;

  constructor(options: S3ObjectStoreOptions) {
    this.#options = options;
    this.budgetMilliseconds = retryBudgetMilliseconds(options);
    this.requestTimeoutMilliseconds =
      options.requestTimeoutMilliseconds ?? DEFAULT_REQUEST_TIMEOUT_MILLISECONDS;
    this.#sockets = new Semaphore(options.maxSockets ?? DEFAULT_MAX_SOCKETS);
    this.place = placeOf(options.endpoint);
  }

  /** How the bucket is addressed, where that was set or found out. */
  addressingOf(bucket: string): 'path' | 'virtual' | undefined {
    return this.#addressing.get(bucket);
  }

  /** Addresses the bucket in this way from now on. Undefined: as before. */
  address(bucket: string, addressing: 'path' | 'virtual' | undefined): void {
    if (addressing !== undefined) this.#addressing.set(bucket, addressing);
  }

  /** The region to which the bucket's requests were sent on, where they were. */
  regionOf(bucket: string): string | undefined {
    return this.#regions.get(bucket);
  }

  /** Loads the SDK and makes the client of the first request. Sends nothing. */
  async prepare(): Promise<void> {
    await this.#clientFor(await import('@aws-sdk/client-s3'), {});
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
      ...clientConfig(this.#options, { region: FALLBACK_REGION }),
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
    this.#agents?.httpAgent.destroy();
    this.#agents?.httpsAgent.destroy();
    this.#agents = undefined;
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
    try {
      return await this.#sockets.run(signal, () =>
        this.#sendNow(operation, bucket, signal, request, right),
      );
    } catch (error) {
      // Its time was over before its turn.
      if (error instanceof ObjectStoreError) throw error;
      throw toObjectStoreError(bucket, right, error, signal).with({ outcome: 'failed' });
    }
  }

  async #sendNow<T>(
    operation: S3Operation,
    bucket: string,
    signal: AbortSignal,
    request: (sdk: Sdk, client: S3Client) => Promise<T>,
    right: string,
  ): Promise<T> {
    const started = performance.now();
    let outcome = 'ok';
    try {
      return await unlessAborted(this.#sendToItsPlace(bucket, request), signal);
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
    const right = RIGHTS[operation];
    return this.#sockets.run(signal, () =>
      withDeadline(this.budgetMilliseconds, signal, (inTime) =>
        this.#sendNow(
          operation,
          bucket,
          inTime,
          (sdk, client) => request(sdk, client, inTime),
          right,
        ),
      ),
    );
  }

  /**
   * Each of region, addressing and credentials is found out once. Not the SDK's `followRegionRedirects`: that asks
   * the wrong region first every time, and changes the whole client's region while it follows one of several
   * requests in flight.
   */
  async #sendToItsPlace<T>(
    bucket: string,
    request: (sdk: Sdk, client: S3Client) => Promise<T>,
  ): Promise<T> {
    if (!BUCKET_NAME.test(bucket)) {
      throw Object.assign(new Error('not a bucket name'), { name: 'InvalidBucketName' });
    }
    const sdk = await import('@aws-sdk/client-s3');
    const tried = new Set<string>();
    for (;;) {
      const region = this.#regions.get(bucket);
      const addressing = this.#addressing.get(bucket);
      const client = this.#clientFor(sdk, { region, addressing });
      try {
        return await request(sdk, await client);
      } catch (error) {
        const wanted = classify(error);
        if (wanted.region !== undefined && wanted.region !== region && !tried.has('region')) {
          tried.add('region');
          this.#regions.set(bucket, wanted.region);
        } else if (
          wanted.addressing !== undefined &&
          wanted.addressing !== addressing &&
          !tried.has('addressing')
        ) {
          tried.add('addressing');
          this.#addressing.set(bucket, wanted.addressing);
        } else if (wanted.kind === 'credentials' && !tried.has('credentials')) {
          tried.add('credentials');
          if (!this.#renewCredentials(client)) throw error;
        } else throw error;
      }
    }
  }

  /**
   * Drops the clients, so that new ones look for credentials again: a file may hold others by now.
   *
   * @param used by the request that was refused.
   * @returns whether another client is to be tried.
   */
  #renewCredentials(used: Promise<S3Client>): boolean {
    if (this.#options.clientConfig?.credentials !== undefined) return false;
    if (![...this.#clients.values()].includes(used)) return true;
    if (performance.now() - this.#renewedAt < RENEWAL_MILLISECONDS) return false;
    this.#renewedAt = performance.now();
    // Not destroyed: others may be in flight on the agents that all share.
    this.#clients.clear();
    return true;
  }

  #clientFor(sdk: Sdk, traits: ClientTraits): Promise<S3Client> {
    const name = JSON.stringify([traits.region, traits.addressing]);
    const known = this.#clients.get(name);
    if (known) return known;
    this.#agents ??= createAgents(
      this.#options.endpoint === undefined ? AWS_HOST : new URL(this.#options.endpoint).host,
      this.#options.maxSockets ?? DEFAULT_MAX_SOCKETS,
    );
    const client = connect(sdk, this.#options, traits, this.#agents);
    this.#clients.set(name, client);
    client.catch(() => this.#clients.delete(name));
    return client;
  }
}

const AWS_HOST = 's3.amazonaws.com';

/** Without what a URL may hold beside the host: it is written down and shown. */
function placeOf(endpoint: string | undefined): string {
  if (endpoint === undefined) return 'AWS';
  const { protocol, host, pathname } = new URL(endpoint);
  return `${protocol}//${host}${pathname === '/' ? '' : pathname}`;
}

function toObjectStoreError(
  bucket: string,
  right: string,
  error: unknown,
  signal: AbortSignal,
): ObjectStoreError {
  const { region: _region, addressing: _addressing, ...failure } = classify(error);
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
  const isDenied =
    failure.kind === 'denied' &&
    failure.httpStatus === 403 &&
    causeOfDenial(failure.code, failure.reason) === undefined;
  return storeError({
    ...failure,
    bucket,
    missingAction: isDenied ? right : undefined,
    cause: error,
  });
}
