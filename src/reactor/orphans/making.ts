import { randomUUID } from 'node:crypto';
import { RetentionError } from '../../errors.ts';
import type { Logger } from '../../logger.ts';
import type { ObjectStore } from '../../objects/object-store.ts';
import type { Store } from '../../store/store.ts';
import { verify } from '../verify.ts';
import { OrphanListWriter } from './list-file.ts';

/** What a list of orphans is made with and of. */
export interface OrphanListOptions {
  readonly store: Store;
  readonly objects: Required<Pick<ObjectStore, 'listing'>>;
  readonly logger: Logger;
  /** Where the list is written; a file that is not there yet. */
  readonly file: string;
  readonly bucket: string;
  /** Only keys that begin with this. Default: all. */
  readonly prefix?: string | undefined;
  /** Younger objects are no orphans. At least 3,600. Default: 86,400. */
  readonly marginSeconds?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((objects: number) => void) | undefined;
}

/** A list of orphans that was made. */
export interface OrphanListing {
  readonly file: string;
  readonly listId: string;
  readonly bucket: string;
  readonly prefix: string;
  /** How many objects S3 listed. */
  readonly listed: number;
  /** How many of them no run points at. */
  readonly orphans: number;
  readonly bytes: number;
  readonly digest: string;
  readonly madeAt: Date;
}

const DEFAULT_MARGIN_SECONDS = 86_400;

/**
 * Writes a list of the objects of a bucket that no run points at, for a person to look at and for
 * {@link deleteOrphans}. Deletes nothing, and is made also while the reactor is halted.
 *
 * @throws UsageError when the file is there already, and for a margin of less than an hour.
 * @throws RetentionError when the bucket cannot be listed to its end.
 * @throws DatabaseError
 */
export async function listOrphans(options: OrphanListOptions): Promise<OrphanListing> {
  const { store, objects, logger, file, bucket, prefix = '', signal, onProgress } = options;
  const { marginSeconds = DEFAULT_MARGIN_SECONDS } = options;
  const listId = randomUUID();
  using list = new OrphanListWriter(file, { listId, bucket, prefix, marginSeconds });
  const { listed, failedBuckets } = await verify({
    store,
    objects,
    logger,
    buckets: [bucket],
    prefix,
    repair: false,
    dryRun: true,
    keepsProgress: false,
    orphanMarginSeconds: marginSeconds,
    signal,
    onOrphans: async (_bucket, orphans) => list.add(orphans),
    ...(onProgress === undefined ? {} : { onProgress }),
  });
  const [failed] = failedBuckets;
  if (failed !== undefined) {
    throw new RetentionError(
      `bucket ${bucket} cannot be listed: ${failed.code} ${failed.reason}; no list was made`,
    );
  }
  const { orphans, bytes } = list;
  const made = { listId, bucket, prefix, marginSeconds, listed, orphans, bytes };
  const told = await list.end(async (digest) => {
    const madeAt = await store.noteOrphanList({ ...made, digest });
    return { listed, madeAt, digest };
  });
  return { file, listId, bucket, prefix, orphans, bytes, ...told };
}
