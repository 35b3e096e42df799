import { hostname } from 'node:os';
import { type Config, allowedBuckets } from '../config/config.ts';
import { createRateLimit, unlimited } from '../lifecycle/rate-limit.ts';
import type { Logger } from '../logger.ts';
import type { ObjectStore } from '../objects/object-store.ts';
import type { Store } from '../store/store.ts';
import { createTracing, loadOpenTelemetry, withTraceContext } from '../telemetry/open-telemetry.ts';
import type { Fence } from './fence.ts';
import { type Worker, createWorker } from './worker.ts';

/** The worker of this process, as the configuration says. */
export function openWorker(
  { config, logger }: { readonly config: Config; readonly logger: Logger },
  store: Store,
  objects: Pick<ObjectStore, 'deleteObjects' | 'versions' | 'listing' | 'place'>,
  fence: Fence,
): Worker {
  const openTelemetry = loadOpenTelemetry();
  return createWorker({
    store,
    objects,
    logger: withTraceContext(openTelemetry, logger),
    name: `${hostname()}:${process.pid}`,
    fence,
    tracing: createTracing(openTelemetry),
    leaseSeconds: config.leaseSeconds,
    allowedBuckets: allowedBuckets(config),
    rateLimit:
      config.maxDeletesPerSecond === undefined
        ? unlimited
        : createRateLimit(config.maxDeletesPerSecond),
  });
}
