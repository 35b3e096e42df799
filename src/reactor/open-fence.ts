import { hostname } from 'node:os';
import { type Config, firstBucket } from '../config/config.ts';
import { ClosedError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { DeletionOptions } from '../objects/deletion-report.ts';
import type { ObjectStore } from '../objects/object-store.ts';
import type { Store } from '../store/store.ts';
import { type Fence, createFence } from './fence.ts';

/** What a fence is opened with. */
export interface OpenFenceOptions {
  readonly config: Pick<Config, 'fence' | 'resultBuckets'>;
  readonly store: Store;
  readonly objects: Pick<ObjectStore, 'conditional'>;
  readonly logger: Logger;
  readonly onHeld?: () => void;
}

/** The fence of this process, as the configuration says. */
export function openFence({ config, store, objects, logger, onHeld }: OpenFenceOptions): Fence {
  return createFence({
    store,
    logger,
    conditional: objects.conditional,
    mode: config.fence,
    bucket: firstBucket(config),
    name: `${hostname()}:${process.pid}`,
    ...(onHeld === undefined ? {} : { onHeld }),
  });
}

/**
 * Holds the fence for as long as `work` takes.
 *
 * @throws ClosedError when another database has it, or S3 refuses it or does not answer.
 */
export async function withFence<Result>(
  options: OpenFenceOptions & {
    readonly signal?: AbortSignal | undefined;
    /** Nothing is changed: nothing is held. Default: false. */
    readonly dryRun?: boolean;
  },
  work: (fence: Fence) => Promise<Result>,
): Promise<Result> {
  const fence = openFence(options);
  if (options.dryRun === true) return work(fence);
  await fence.hold(options.signal);
  await fence.start();
  try {
    return await work(fence);
  } finally {
    await fence.stop();
  }
}

/** A store that deletes, objects or versions, only while the fence is held. */
export function fenced(
  objects: Pick<ObjectStore, 'deleteObjects' | 'versions'>,
  fence: Fence,
): Pick<ObjectStore, 'deleteObjects' | 'versions'> {
  const { versions } = objects;
  const inTime = (options: DeletionOptions = {}): DeletionOptions => {
    const whyNot = fence.whyNot();
    if (whyNot !== undefined) throw new ClosedError(`Nothing more is deleted: ${whyNot}`);
    return { ...options, endsAt: Math.min(options.endsAt ?? Infinity, fence.heldUntil()) };
  };
  return {
    deleteObjects: async (bucket, keys, options) =>
      objects.deleteObjects(bucket, keys, inTime(options)),
    ...(versions === undefined
      ? {}
      : {
          versions: {
            purgeKeys: async (bucket, keys, options) =>
              versions.purgeKeys(bucket, keys, inTime(options)),
          },
        }),
  };
}
