import type { LibraryOptions } from './assembly.ts';
import { withStore } from './assembly-store.ts';
import { allowedBuckets } from './config/config.ts';
import { UsageError } from './errors.ts';
import { silentLogger } from './logger.ts';
import { readInventories } from './objects/inventory.ts';
import { abilityOf } from './objects/object-store.ts';
import { withObjectStore } from './objects/open-object-store.ts';
import { refuseWhileDisabled } from './reactor/gate.ts';
import { withFence } from './reactor/open-fence.ts';
import { type Verification, type VerifyOptions, verify as runVerify } from './reactor/verify.ts';
import { refuseMissing } from './store/scope.ts';

/** What a verify looks at, and what it may do. */
export type VerifyRequest = LibraryOptions &
  Omit<
    VerifyOptions,
    'store' | 'objects' | 'logger' | 'buckets' | 'allowedBuckets' | 'inventories' | 'keepsProgress'
  > & {
    /** Default: those of the inventories, or the allowed buckets and every bucket that results were flagged in. */
    readonly buckets?: readonly string[];
    /** The files of S3's inventories of the buckets, each with its manifest: what they list stands for the listing. */
    readonly inventory?: readonly string[];
  };

/**
 * Looks for drift between the rows and the buckets both ways, and for orphans. A bucket that is missing or
 * closed is named in what it returns, and the others are looked at. What was broken off goes on where it was.
 *
 * @throws UsageError when no bucket is known, for `buckets`, `inventory` or a `prefix` without a value, for an inventory
 * that cannot be used, and when the given object store cannot list.
 * @throws ConfigurationError when the configuration names no bucket.
 * @throws RefusedError when so much is gone that this looks like the wrong store, and while the
 * reactor is disabled, unless this is a dry run.
 * @throws RetentionError when another verify of the bucket has taken over.
 * @throws DatabaseError
 */
export async function verify(request: VerifyRequest): Promise<Verification> {
  const { config, logger = silentLogger, inventory } = request;
  refuseMissing('verify', request, ['buckets', 'prefix', 'inventory']);
  for (const name of ['prefix', 'inventory'] as const) {
    const given = request[name];
    if (!Array.isArray(given) || given.length > 0) continue;
    throw new UsageError(`verify.${name}: expected at least one; given none`, {
      remedy: 'An empty list never means everything: leave it out where it is not meant.',
    });
  }
  const allowed = allowedBuckets(config);
  if (request.dryRun !== true) refuseWhileDisabled(config);
  const inventories = inventory && (await readInventories(inventory));
  return withStore({ config, logger }, async (store) => {
    const known = [...new Set([...(allowed ?? []), ...(await store.knownBuckets())])];
    const buckets = request.buckets ?? inventories?.map(({ bucket }) => bucket) ?? known;
    if (buckets.length === 0) {
      throw new UsageError('no bucket is known to verify', {
        remedy: 'Name one with --bucket, or in S3_RESULT_BUCKET.',
      });
    }
    const { signal, dryRun = false } = request;
    return withObjectStore({ ...request, config, logger }, (objects) =>
      withFence({ config, store, objects, logger, signal, dryRun }, () =>
        runVerify({
          ...request,
          allowedBuckets: allowed,
          inventories,
          store,
          logger,
          buckets,
          objects: { listing: abilityOf(objects, 'listing') },
        }),
      ),
    );
  });
}
