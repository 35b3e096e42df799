import { withDeadline } from '../deadline.ts';
import { MAX_KEYS_PER_REQUEST, type ObjectStore } from '../object-store.ts';
import { S3Connection, type S3ObjectStoreOptions } from './connection.ts';
import { S3DeleteRequests } from './delete-requests.ts';
import { S3Deletion } from './deletion.ts';

/**
 * An object store over S3 or anything that speaks its language, with the AWS default credential
 * chain. The AWS SDK is loaded by `prepare` or the first call, not by importing this file.
 */
export function createS3ObjectStore(options: S3ObjectStoreOptions = {}): ObjectStore {
  const connection = new S3Connection(options);
  const deletion = new S3Deletion(new S3DeleteRequests(connection));
  return {
    async deleteObjects(bucket, keys, { signal, endsAt, onUnanswered } = {}) {
      if (keys.length > MAX_KEYS_PER_REQUEST) {
        throw new RangeError(
          `expected at most ${MAX_KEYS_PER_REQUEST} keys per call, got ${keys.length}`,
        );
      }
      return withDeadline(connection.budgetMilliseconds, signal, (inTime) =>
        deletion.run(bucket, keys, { signal: inTime, endsAt, onUnanswered }),
      );
    },
    prepare: () => connection.prepare(),
    close: () => connection.close(),
  };
}
