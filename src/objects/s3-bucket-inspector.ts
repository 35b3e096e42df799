import type { BucketInspector } from './bucket-inspector.ts';
import { withDeadline } from './deadline.ts';
import { MAX_KEYS_PER_REQUEST } from './object-store.ts';
import { describeBucket } from './s3-bucket-description.ts';
import { S3Connection, type S3ObjectStoreOptions } from './s3-connection.ts';
import { S3DeleteRequests } from './s3-delete-requests.ts';
import { probeDeleteRight } from './s3-delete-right.ts';
import { listPages } from './s3-listing.ts';
import { readObjectState } from './s3-object-state.ts';
import { S3Purge } from './s3-purge.ts';
import { restoreObject } from './s3-restore.ts';

/** An inspector of buckets in S3 or anything that speaks its language; see createS3ObjectStore. */
export function createS3BucketInspector(options: S3ObjectStoreOptions = {}): BucketInspector {
  const connection = new S3Connection(options);
  const requests = new S3DeleteRequests(connection);
  const purge = new S3Purge(connection, requests);
  const budget = connection.budgetMilliseconds;
  return {
    listObjects: (bucket, request) => listPages(connection, bucket, request),
    headObject: (bucket, key, { signal } = {}) => readObjectState(connection, bucket, key, signal),
    describeBucket: (bucket, { signal } = {}) => describeBucket(connection, bucket, signal),
    probeDeleteRight: (bucket, { prefix = '', signal } = {}) =>
      withDeadline(budget, signal, (inTime) => probeDeleteRight(requests, bucket, prefix, inTime)),
    async purgeKeys(bucket, keys, { signal, endsAt, onUnanswered } = {}) {
      if (keys.length > MAX_KEYS_PER_REQUEST) {
        throw new RangeError(
          `expected at most ${MAX_KEYS_PER_REQUEST} keys per call, got ${keys.length}`,
        );
      }
      return withDeadline(budget, signal, (inTime) =>
        purge.run(bucket, keys, { signal: inTime, endsAt, onUnanswered }),
      );
    },
    restoreObject: (bucket, key, { signal } = {}) =>
      restoreObject(connection, requests, bucket, key, signal),
    close: () => connection.close(),
  };
}
