import type { ObjectStore } from './object-store.ts';
import { createS3ObjectStore } from './s3/object-store.ts';

/** The settings of the object store, as the configuration has them. */
export interface ObjectStoreSettings {
  /** A store other than AWS. */
  readonly s3EndpointUrl?: string | undefined;
  readonly awsRegion?: string | undefined;
  readonly s3MaxAttempts: number;
  readonly s3RequestTimeoutSeconds: number;
}

/**
 * Opens the object store that the configuration names: the one place that decides which implementation
 * it is and how it is set up. A process opens one, and closes it.
 */
export function openObjectStore(settings: ObjectStoreSettings): ObjectStore {
  return createS3ObjectStore({
    endpoint: settings.s3EndpointUrl,
    region: settings.awsRegion,
    maxAttempts: settings.s3MaxAttempts,
    requestTimeoutMilliseconds: settings.s3RequestTimeoutSeconds * 1_000,
  });
}
