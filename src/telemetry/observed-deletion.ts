import type { BucketInspector } from '../objects/bucket-inspector.ts';
import {
  type DeletionOptions,
  type DeletionReport,
  type ObjectStore,
  ObjectStoreError,
} from '../objects/object-store.ts';

/** How one call to S3 for the keys of a batch ended. */
export type S3Outcome = 'deleted' | 'refused-in-part' | ObjectStoreError['kind'] | 'error';

/** Told of every such call. */
export type OnS3Call = (outcome: S3Outcome, seconds: number) => void;

type DeleteKeys = (
  bucket: string,
  keys: readonly string[],
  options?: DeletionOptions,
) => Promise<DeletionReport>;

/** The same object store, with every call timed. */
export function observeObjects(objects: ObjectStore, onCall: OnS3Call): ObjectStore {
  return {
    deleteObjects: timed((...rest) => objects.deleteObjects(...rest), onCall),
    close: () => objects.close(),
  };
}

/** The purge of the same inspector, with every call timed. */
export function observePurges(
  inspector: Pick<BucketInspector, 'purgeKeys'>,
  onCall: OnS3Call,
): Pick<BucketInspector, 'purgeKeys'> {
  return { purgeKeys: timed((...rest) => inspector.purgeKeys(...rest), onCall) };
}

function timed(deleteKeys: DeleteKeys, onCall: OnS3Call): DeleteKeys {
  return async (...rest) => {
    const startedAt = performance.now();
    const tell = (outcome: S3Outcome): void =>
      onCall(outcome, (performance.now() - startedAt) / 1_000);
    try {
      const report = await deleteKeys(...rest);
      tell(report.failures.length === 0 ? 'deleted' : 'refused-in-part');
      return report;
    } catch (error) {
      tell(error instanceof ObjectStoreError ? error.kind : 'error');
      throw error;
    }
  };
}
