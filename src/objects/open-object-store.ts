import { type Logger, silentLogger } from '../logger.ts';
import { retryTimesOf, type S3TimeSettings } from '../retry-budget.ts';
import type { ObjectStore } from './object-store.ts';
import { createS3ObjectStore } from './s3/object-store.ts';

/** The settings of the object store, as the configuration has them. */
export interface ObjectStoreSettings extends S3TimeSettings {
  /** A store other than AWS. */
  readonly s3EndpointUrl?: string | undefined;
  readonly awsRegion?: string | undefined;
  /** Batches at once. */
  readonly concurrency?: number | undefined;
}

/** Requests at once. A batch that purges versions sends several. */
const LEAST_SOCKETS = 50;
const SOCKETS_PER_BATCH = 2;

/**
 * Opens the object store that the configuration names: the one place that decides which implementation
 * it is and how it is set up. A process opens one, and closes it.
 *
 * @param logger hears of what a person should know.
 */
export function openObjectStore(
  settings: ObjectStoreSettings,
  logger: Pick<Logger, 'warning'>,
): ObjectStore {
  return createS3ObjectStore({
    endpoint: settings.s3EndpointUrl,
    region: settings.awsRegion,
    maxSockets: Math.max(LEAST_SOCKETS, (settings.concurrency ?? 1) * SOCKETS_PER_BATCH),
    ...retryTimesOf(settings),
    warn: (message) => logger.warning(message),
  });
}

/** Uses the given object store, or opens one for as long as `work` takes. */
export async function withObjectStore<Result>(
  options: {
    readonly config: ObjectStoreSettings;
    readonly logger?: Pick<Logger, 'warning'>;
    /** Not closed. */
    readonly objects?: ObjectStore;
  },
  work: (objects: ObjectStore) => Promise<Result>,
): Promise<Result> {
  const { config, logger = silentLogger, objects: given } = options;
  const objects = given ?? openObjectStore(config, logger);
  try {
    return await work(objects);
  } finally {
    if (given === undefined) objects.close();
  }
}
