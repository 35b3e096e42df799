import type { BatchObservableResult, Observable } from '@opentelemetry/api';
import type { Registry } from 'prom-client';
import type { OpenTelemetry } from './open-telemetry.ts';

const NAME = 'retention-reactor';

/** What of a registry goes to OpenTelemetry too. What concerns the process, the application's own SDK has. */
const OURS = /^retention_/u;

/** Metrics that an SDK reads from a registry, by the same names. */
export interface MirroredMetrics {
  /** A value of a histogram, which an SDK cannot read by itself. */
  record(name: string, value: number, labels?: Readonly<Record<string, string>>): void;
  stop(): void;
}

/**
 * Gives the metrics of a registry to the application's SDK under their names: counters and gauges as often as it asks, and
 * histograms as they come.
 *
 * @param refresh brings the registry up to date, before each reading.
 */
export async function mirrorMetrics(
  api: OpenTelemetry,
  registry: Registry,
  refresh: () => Promise<void>,
): Promise<MirroredMetrics> {
  const meter = api.metrics.getMeter(NAME);
  const observed = new Map<string, Observable>();
  const histograms = new Map<string, ReturnType<typeof meter.createHistogram>>();
  for (const { name, help: description, type } of await typesOf(registry)) {
    if (type === 'counter')
      observed.set(name, meter.createObservableCounter(name, { description }));
    if (type === 'gauge') observed.set(name, meter.createObservableGauge(name, { description }));
    if (type === 'histogram') histograms.set(name, meter.createHistogram(name, { description }));
  }
  const observe = async (result: BatchObservableResult): Promise<void> => {
    await refresh();
    for (const { name, values } of await registry.getMetricsAsJSON()) {
      const metric = observed.get(name);
      if (metric === undefined) continue;
      for (const { value, labels } of values) result.observe(metric, value, { ...labels });
    }
  };
  const metrics = [...observed.values()];
  meter.addBatchObservableCallback(observe, metrics);
  return {
    record: (name, value, labels) => histograms.get(name)?.record(value, labels),
    stop: () => meter.removeBatchObservableCallback(observe, metrics),
  };
}

async function typesOf(
  registry: Registry,
): Promise<readonly { readonly name: string; readonly help: string; readonly type: string }[]> {
  const all = await registry.getMetricsAsJSON();
  return all
    .filter(({ name }) => OURS.test(name))
    .map(({ name, help, type }) => ({ name, help, type: String(type) }));
}
