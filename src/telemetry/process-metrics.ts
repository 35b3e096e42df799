import { type Registry, collectDefaultMetrics } from 'prom-client';

/** Gauges with names of counters, which promtool refuses. */
const MISNAMED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
];

/** Tells every reader Node's version, and with it its known vulnerabilities. */
const VERSION_INFO = 'nodejs_version_info';

/** Adds what is known of this process: processor, memory, open files, event loop, collections. */
export function collectProcessMetrics(registry: Registry): void {
  collectDefaultMetrics({ register: registry });
  for (const name of [...MISNAMED, VERSION_INFO]) registry.removeSingleMetric(name);
}
