import type { BucketInspector } from '../bucket-inspector.ts';
import { withDeadline } from '../deadline.ts';
import { MAX_KEYS_PER_REQUEST } from '../object-store.ts';
import { describeBucket } from './bucket-description.ts';
import { S3Connection, type S3ObjectStoreOptions } from './connection.ts';
import { S3DeleteRequests } from './delete-requests.ts';
import { probeDeleteRight } from './delete-right.ts';
import { listPages } from './listing.ts';
import { readObjectState } from './object-state.ts';
import { S3Purge } from './purge.ts';
import { restoreObject } from './restore.ts';

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
