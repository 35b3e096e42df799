import { type LibraryOptions, withStore } from './assembly.ts';
import { type Config, allowedBuckets } from './config/config.ts';
import { UsageError } from './errors.ts';
import { createRateLimit, unlimited } from './lifecycle/rate-limit.ts';
import { silentLogger } from './logger.ts';
import { abilityOf } from './objects/object-store.ts';
import { withObjectStore } from './objects/open-object-store.ts';
import { fenced, withFence } from './reactor/open-fence.ts';
import { refuseWhileDisabled } from './reactor/gate.ts';
import { deleteOrphans as runDeletion } from './reactor/orphans/deletion.ts';
import type { OrphanDeletion } from './reactor/orphans/tally.ts';
import { type OrphanListing, listOrphans as runListing } from './reactor/orphans/making.ts';
import type { OrphanList } from './store/orphans.ts';
import type { Store } from './store/store.ts';

/** Which list of orphans is made. */
export interface OrphanListRequest extends LibraryOptions {
  /** Where the list is written; a file that is not there yet. */
  readonly file: string;
  /** Default: the one bucket that is allowed or known. */
  readonly bucket?: string | undefined;
  /** Only keys that begin with this. Default: all. */
  readonly prefix?: string | undefined;
  /** Younger objects are no orphans. At least 3,600. Default: 86,400. */
  readonly marginSeconds?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (objects: number) => void;
}

/** Which list of orphans is deleted. */
export interface OrphanDeletionRequest extends LibraryOptions {
  /** The list, as it was made at least an hour ago. */
  readonly file: string;
  /** Exactly how many objects it names; needed for more than a tenth of the bucket, or more than 10,000. */
  readonly expected?: number | undefined;
  /** Who deletes. Default: the database's user. */
  readonly by?: string | undefined;
  /** Ends it after the page that is being worked on. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (done: number, known: number) => void;
}

/**
 * Writes a list of the objects that no run points at. Deletes nothing.
 *
 * @throws UsageError when the file is there already, when the bucket is not allowed or there are several, and for a
 * margin of less than an hour.
 * @throws RetentionError when the bucket cannot be listed.
 * @throws DatabaseError
 */
export async function listOrphans(request: OrphanListRequest): Promise<OrphanListing> {
  const { config, logger = silentLogger, file, prefix, marginSeconds, signal } = request;
  const empty = (['file', 'bucket', 'prefix'] as const).find((name) => request[name] === '');
  if (empty !== undefined) {
    throw new UsageError(`${empty}: expected a text; given an empty one; no list was made`, {
      remedy: 'Leave out what is not to narrow the list.',
    });
  }
  return withStore({ config, logger }, async (store) => {
    const bucket = await chooseBucket(config, store, request.bucket);
    return withObjectStore({ ...request, config, logger }, (objects) =>
      runListing({
        store,
        objects: { listing: abilityOf(objects, 'listing') },
        logger,
        file,
        bucket,
        prefix,
        marginSeconds,
        signal,
        onProgress: request.onProgress,
      }),
    );
  });
}

/**
 * Deletes exactly the objects of a list, each checked again just before. Goes on where an earlier call with the
 * same list has stopped; what it returns counts both.
 *
 * @throws UsageError for a list that is not as it was made.
 * @throws RefusedError where the list may not be deleted: the gate is closed, it is too young, of another database,
 * of a bucket that is not allowed or that no row names, or larger than was confirmed.
 * @throws DatabaseError
 */
export async function deleteOrphans(request: OrphanDeletionRequest): Promise<OrphanDeletion> {
  const { config, logger = silentLogger, file, expected, by, signal } = request;
  refuseWhileDisabled(config);
  return withStore({ config, logger, mustWrite: true }, (store) =>
    withObjectStore({ ...request, config, logger }, (objects) =>
      withFence({ config, store, objects, logger, signal }, (fence) =>
        runDeletion({
          store,
          objects: {
            ...fenced(objects, fence),
            listing: abilityOf(objects, 'listing'),
          },
          logger,
          rateLimit:
            config.maxDeletesPerSecond === undefined
              ? unlimited
              : createRateLimit(config.maxDeletesPerSecond),
          leaseSeconds: config.leaseSeconds,
          file,
          expected,
          by,
          allowedBuckets: allowedBuckets(config),
          signal,
          onProgress: request.onProgress,
        }),
      ),
    ),
  );
}

/**
 * The lists of orphans that were made from a database, newest first, and what was deleted by each.
 *
 * @throws DatabaseError
 */
export async function orphanLists(
  options: Pick<LibraryOptions, 'config' | 'logger'>,
): Promise<readonly OrphanList[]> {
  return withStore(options, (store) => store.listOrphanLists());
}

async function chooseBucket(
  config: Config,
  store: Store,
  given: string | undefined,
): Promise<string> {
  const allowed = allowedBuckets(config);
  if (given !== undefined) {
    if (allowed === undefined || allowed.includes(given)) return given;
    throw new UsageError(`expected one of the allowed buckets; given "${given}"`, {
      remedy: `S3_RESULT_BUCKET names ${allowed.join(', ')}.`,
    });
  }
  const known = allowed ?? (await store.knownBuckets());
  const [only, ...others] = known;
  if (only !== undefined && others.length === 0) return only;
  throw new UsageError(
    known.length === 0
      ? 'no bucket is known to list'
      : `a list is of one bucket; given none of ${known.slice(0, 20).join(', ')}`,
    { remedy: 'Name one with --bucket.' },
  );
}
