import type { DeletionOptions, DeletionReport } from '../objects/deletion-report.ts';
import type { ObjectStore } from '../objects/object-store.ts';
import { ObjectStoreError } from '../objects/store-failure.ts';

/** How one call to S3 for the keys of a batch ended. */
export type S3Outcome = 'deleted' | 'refused-in-part' | ObjectStoreError['kind'] | 'error';

/** Told of every such call. */
export type OnS3Call = (outcome: S3Outcome, seconds: number) => void;

/** The parts of an object store that delete, and that look before a deletion. */
type Deleting = Pick<ObjectStore, 'deleteObjects' | 'versions' | 'listing' | 'place'>;

type DeleteKeys = (
  bucket: string,
  keys: readonly string[],
  options?: DeletionOptions,
) => Promise<DeletionReport>;

/** The same parts, with every call timed. */
export function observeDeletion(objects: Deleting, onCall: OnS3Call): Deleting {
  const { versions, listing, place } = objects;
  const looking = {
    ...(listing === undefined ? {} : { listing }),
    ...(place === undefined ? {} : { place }),
  };
  const deleteObjects = timed((...rest) => objects.deleteObjects(...rest), onCall);
  if (versions === undefined) return { ...looking, deleteObjects };
  return {
    ...looking,
    deleteObjects,
    versions: { purgeKeys: timed((...rest) => versions.purgeKeys(...rest), onCall) },
  };
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
