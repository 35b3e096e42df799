import type { LifecycleRule as S3LifecycleRule, S3Client } from '@aws-sdk/client-s3';

import type {
  BucketDescription,
  BucketProblem,
  DefaultRetention,
  LifecycleRule,
} from '../abilities.ts';
import { ObjectStoreError } from '../store-failure.ts';
import type { S3Connection, Sdk } from './connection.ts';
import type { S3Operation } from './operations.ts';
import { isAbsentSetting, noSuchBucket } from './failures.ts';

interface Lock {
  readonly enabled: boolean;
  readonly defaultRetention: DefaultRetention | undefined;
}

/** Describes a bucket; what one may not know of it is among the problems. */
export async function describeBucket(
  connection: S3Connection,
  bucket: string,
  signal?: AbortSignal,
): Promise<BucketDescription> {
  const reading = new Reading(connection, bucket, signal);
  const { reachable, region, isVague = false } = await reading.reach();
  if (!reachable) {
    // A reply to HEAD has no words: what is wrong is said to a request that has a body.
    if (isVague) await reading.versioning();
    const unknown = { versioning: 'unknown', objectLock: 'unknown', lifecycle: 'unknown' } as const;
    return { reachable, region, ...unknown, problems: reading.problems };
  }
  const [versioning, lock, lifecycle] = await Promise.all([
    reading.versioning(),
    reading.lock(),
    reading.lifecycle(),
  ]);
  return {
    reachable,
    region: region ?? connection.regionOf(bucket),
    versioning,
    objectLock: lock === 'unknown' ? lock : lock.enabled,
    defaultRetention: lock === 'unknown' ? undefined : lock.defaultRetention,
    lifecycle,
    problems: reading.problems,
  };
}

/** Reads the parts of one bucket, and collects why some cannot be read. */
class Reading {
  readonly problems: BucketProblem[] = [];
  readonly #connection: S3Connection;
  readonly #bucket: string;
  readonly #signal: AbortSignal | undefined;

  constructor(connection: S3Connection, bucket: string, signal: AbortSignal | undefined) {
    this.#connection = connection;
    this.#bucket = bucket;
    this.#signal = signal;
  }

  async reach(): Promise<{
    reachable: boolean;
    region?: string | undefined;
    isVague?: boolean;
  }> {
    const Bucket = this.#bucket;
    try {
      const reply = await this.#ask('HeadBucket', (sdk, client, abortSignal) =>
        client.send(new sdk.HeadBucketCommand({ Bucket }), { abortSignal }),
      );
      return { reachable: true, region: reply.BucketRegion };
    } catch (error) {
      if (!(error instanceof ObjectStoreError) || error.httpStatus !== 404) {
        const { kind, httpStatus } = this.#note(error);
        return { reachable: kind === 'denied', isVague: httpStatus === 400 };
      }
      // A reply without a body has no code of its own.
      this.#note(noSuchBucket(Bucket));
      return { reachable: false };
    }
  }

  versioning(): Promise<BucketDescription['versioning']> {
    const Bucket = this.#bucket;
    return this.#part('off', async () => {
      const reply = await this.#ask('GetBucketVersioning', (sdk, client, abortSignal) =>
        client.send(new sdk.GetBucketVersioningCommand({ Bucket }), { abortSignal }),
      );
      if (reply.Status === 'Enabled') return 'enabled';
      return reply.Status === 'Suspended' ? 'suspended' : 'off';
    });
  }

  lock(): Promise<Lock | 'unknown'> {
    const Bucket = this.#bucket;
    const none: Lock = { enabled: false, defaultRetention: undefined };
    return this.#part(none, async () => {
      const reply = await this.#ask('GetObjectLockConfiguration', (sdk, client, abortSignal) =>
        client.send(new sdk.GetObjectLockConfigurationCommand({ Bucket }), { abortSignal }),
      );
      const { ObjectLockEnabled, Rule } = reply.ObjectLockConfiguration ?? {};
      const { Mode, Days, Years } = Rule?.DefaultRetention ?? {};
      return {
        enabled: ObjectLockEnabled === 'Enabled',
        defaultRetention: Mode === undefined ? undefined : { mode: Mode, days: Days, years: Years },
      };
    });
  }

  lifecycle(): Promise<readonly LifecycleRule[] | 'unknown'> {
    const Bucket = this.#bucket;
    return this.#part<readonly LifecycleRule[]>([], async () => {
      const reply = await this.#ask('GetBucketLifecycleConfiguration', (sdk, client, abortSignal) =>
        client.send(new sdk.GetBucketLifecycleConfigurationCommand({ Bucket }), { abortSignal }),
      );
      const rules = reply.Rules ?? [];
      return rules.filter((it) => it.Expiration ?? it.NoncurrentVersionExpiration).map(readRule);
    });
  }

  async #part<T>(absent: T, read: () => Promise<T>): Promise<T | 'unknown'> {
    try {
      return await read();
    } catch (error) {
      if (error instanceof ObjectStoreError && isAbsentSetting(error)) return absent;
      this.#note(error);
      return 'unknown';
    }
  }

  #ask<T>(
    operation: S3Operation,
    request: (sdk: Sdk, client: S3Client, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    return this.#connection.ask(operation, this.#bucket, this.#signal, request);
  }

  /** @throws what is no answer of the store, and what the caller's signal ended. */
  #note(error: unknown): ObjectStoreError {
    if (!(error instanceof ObjectStoreError) || error.kind === 'aborted') throw error;
    const { code, reason, outcome, concerns, final, missingAction } = error;
    const isOfCredentials = error.kind === 'credentials';
    this.problems.push({ code, reason, outcome, concerns, final, missingAction, isOfCredentials });
    return error;
  }
}

function readRule(rule: S3LifecycleRule): LifecycleRule {
  const { Filter, Expiration, NoncurrentVersionExpiration } = rule;
  const both = Filter?.And;
  const narrowing = [
    Filter?.Tag,
    Filter?.ObjectSizeGreaterThan,
    Filter?.ObjectSizeLessThan,
    both?.Tags?.[0],
    both?.ObjectSizeGreaterThan,
    both?.ObjectSizeLessThan,
  ];
  return {
    id: rule.ID ?? '',
    prefix: Filter?.Prefix ?? both?.Prefix ?? oldPrefixOf(rule) ?? '',
    enabled: rule.Status === 'Enabled',
    narrowed: narrowing.some((it) => it !== undefined),
    expirationDays: Expiration?.Days,
    expirationDate: Expiration?.Date,
    removesExpiredMarkers: Expiration?.ExpiredObjectDeleteMarker ?? false,
    noncurrentDays: NoncurrentVersionExpiration?.NoncurrentDays,
    noncurrentKept: NoncurrentVersionExpiration?.NewerNoncurrentVersions,
  };
}

/** Rules from before filters have their prefix beside them, and buckets keep such rules. */
function oldPrefixOf(rule: { readonly Prefix?: string | undefined }): string | undefined {
  return rule.Prefix;
}
