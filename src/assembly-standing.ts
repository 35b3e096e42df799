import { openPool } from './assembly-store.ts';
import { type Config, namedBuckets } from './config/config.ts';
import type { Service } from './lifecycle/service.ts';
import type { Logger } from './logger.ts';
import type { ObjectStore } from './objects/object-store.ts';
import { createStandingVerify } from './reactor/standing-verify.ts';
import { createStore } from './store/store.ts';

/** The first page of a bucket copies its keys in order: one statement that may take as long as the table is large. */
const NO_STATEMENT_TIMEOUT = 0;

/** The standing verify, with a session of its own, so that no batch waits for it; undefined: there is none. */
export function openStandingVerify(
  config: Config,
  { objects, logger }: { readonly objects: ObjectStore; readonly logger: Logger },
): Service | undefined {
  const { verifyDays: everyDays, pollSeconds } = config;
  if (everyDays === undefined) return undefined;
  const buckets = namedBuckets(config);
  const { listing } = objects;
  if (buckets === undefined || listing === undefined) {
    const why =
      listing === undefined ? 'the object store cannot list' : 'S3_RESULT_BUCKET names no bucket';
    logger.warning(`RETENTION_VERIFY_DAYS: nothing is verified, since ${why}`);
    return undefined;
  }
  const database = openPool(config, logger, {
    applicationName: 'retention verify',
    statementTimeoutMilliseconds: NO_STATEMENT_TIMEOUT,
    mustWrite: true,
  });
  const store = createStore(database);
  const loop = createStandingVerify({ store, listing, logger, buckets, everyDays, pollSeconds });
  return {
    start: () => loop.start(),
    stop: async () => {
      // Nothing waits for a long statement: what it was at is repeated.
      const stopped = loop.stop();
      await database.cut();
      await stopped;
    },
  };
}
