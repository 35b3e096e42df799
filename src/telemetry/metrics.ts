import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { BatchOutcome } from '../reactor/worker.ts';
import type { Vitals } from '../store/overview.ts';
import type { Reading } from './cached-read.ts';
import { createDatabaseGauges } from './database-gauges.ts';
import type { ListenerState } from './listening.ts';
import type { S3Outcome } from './observed-deletion.ts';
import type { OpenTelemetry } from './open-telemetry.ts';
import { type MirroredMetrics, mirrorMetrics } from './open-telemetry-metrics.ts';
import { collectProcessMetrics } from './process-metrics.ts';

/** What the metrics are drawn from. */
export interface MetricsOptions {
  readonly readVitals: () => Promise<Reading<Vitals>>;
  readonly listener: () => ListenerState;
}

/** Counts what this process does, and shows how the database stands. */
export interface Metrics {
  readonly countBatch: (outcome: BatchOutcome) => void;
  readonly countNotification: () => void;
  readonly timeS3Call: (outcome: S3Outcome, seconds: number) => void;
  /** Gives them to OpenTelemetry as well, by the same names. Returns what ends that. */
  mirror(api: OpenTelemetry): Promise<() => void>;
  /** The text that Prometheus scrapes. */
  render(): Promise<{ readonly contentType: string; readonly text: string }>;
}

/** The help text of each counter, so that a dashboard adds it up over listeners. */
const BY_THIS_PROCESS = 'by this process since it started.';

const BATCH_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];
const S3_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];
const BATCH_SIZES = [1, 5, 10, 25, 50, 100, 250, 500, 750, 1000];

/**
 * Makes the metrics.
 *
 * Counters count what this process did since it started, and say so: sums over listeners are then
 * right, `rate()` and `increase()` see through restarts, and a scrape costs the database nothing. A
 * total read from the tables would count once per listener, and fall when history is pruned. What
 * concerns the database as a whole is a gauge, the same from every listener.
 */
export function createMetrics(options: MetricsOptions): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const work = createWorkMetrics(registers);
  addListenerMetrics(registers, options.listener);
  const gauges = createDatabaseGauges(registers);
  collectProcessMetrics(registry);
  const refresh = async (): Promise<void> => gauges.show(await options.readVitals());
  let mirrored: MirroredMetrics | undefined;
  return {
    countBatch: (outcome) => {
      work.countBatch(outcome);
      const seconds = outcome.milliseconds / 1_000;
      mirrored?.record(BATCH_DURATION, seconds, { outcome: nameOutcome(outcome) });
      mirrored?.record(BATCH_RESULTS, outcome.claimed);
    },
    countNotification: addNotificationCounter(registers),
    timeS3Call: (outcome, seconds) => {
      work.timeS3Call(outcome, seconds);
      mirrored?.record(S3_DURATION, seconds, { outcome });
    },
    mirror: async (api) => {
      mirrored = await mirrorMetrics(api, registry, refresh);
      return () => mirrored?.stop();
    },
    render: async () => {
      await refresh();
      return { contentType: registry.contentType, text: await registry.metrics() };
    },
  };
}

const BATCH_DURATION = 'retention_batch_duration_seconds';
const BATCH_RESULTS = 'retention_batch_results';
const S3_DURATION = 'retention_s3_request_duration_seconds';

function createWorkMetrics(registers: Registry[]): Pick<Metrics, 'countBatch' | 'timeS3Call'> {
  const counter = (name: string, help: string): Counter =>
    new Counter({ name, help: `${help}, ${BY_THIS_PROCESS}`, registers });
  const scanned = counter(
    'retention_cleanup_runs_scanned_total',
    'Runs whose results were taken up to be deleted, each attempt counted',
  );
  const deleted = counter(
    'retention_cleanup_s3_objects_deleted_total',
    'Objects that S3 named as deleted or already gone and whose work is done',
  );
  const errors = counter(
    'retention_cleanup_errors_total',
    'Results that could not be deleted, each attempt counted',
  );
  const stamped = counter('retention_runs_stamped_total', 'Runs that were marked as cleared');
  const spared = counter(
    'retention_results_spared_total',
    'Results that were flagged but no longer due when their batch was claimed',
  );
  const buried = counter(
    'retention_results_buried_total',
    'Results that became dead: they failed too often and wait for a person',
  );
  const leasesLost = counter(
    'retention_leases_lost_total',
    'Batches that had passed to another listener before they were settled',
  );
  const duration = new Histogram({
    name: BATCH_DURATION,
    help: `How long batches took from claim to settle, by what became of them, ${BY_THIS_PROCESS}`,
    labelNames: ['outcome'],
    buckets: BATCH_SECONDS,
    registers,
  });
  const size = new Histogram({
    name: BATCH_RESULTS,
    help: `How many results batches held when they were claimed, without those spared, ${BY_THIS_PROCESS}`,
    buckets: BATCH_SIZES,
    registers,
  });
  const s3 = new Histogram({
    name: S3_DURATION,
    help: `How long S3 took for the keys of a batch, retries included, by outcome, ${BY_THIS_PROCESS}`,
    labelNames: ['outcome'],
    buckets: S3_SECONDS,
    registers,
  });
  // A series that is there from the start has a rate from its first event on.
  duration.zero({ outcome: 'cleared' });
  s3.zero({ outcome: 'deleted' });
  return {
    countBatch: (outcome) => {
      scanned.inc(outcome.claimed + outcome.spared);
      deleted.inc(outcome.cleared);
      // A batch that was postponed was refused as a whole.
      errors.inc(outcome.failed + outcome.dead + (outcome.postponed ? outcome.claimed : 0));
      stamped.inc(outcome.stamped);
      spared.inc(outcome.spared);
      buried.inc(outcome.dead);
      if (outcome.leaseLost) leasesLost.inc();
      duration.observe({ outcome: nameOutcome(outcome) }, outcome.milliseconds / 1_000);
      size.observe(outcome.claimed);
    },
    timeS3Call: (outcome, seconds) => s3.observe({ outcome }, seconds),
  };
}

function nameOutcome(outcome: BatchOutcome): string {
  if (outcome.leaseLost) return 'lease lost';
  if (outcome.postponed) return 'postponed';
  if (outcome.claimed === 0) return 'spared';
  if (outcome.cleared === outcome.claimed) return 'cleared';
  if (outcome.cleared + outcome.failed + outcome.dead === 0) return 'given back';
  return outcome.cleared === 0 ? 'failed' : 'cleared in part';
}

function addNotificationCounter(registers: Registry[]): () => void {
  const received = new Counter({
    name: 'retention_notifications_received_total',
    help: `Notifications of flagged results that arrived, ${BY_THIS_PROCESS}`,
    registers,
  });
  return () => received.inc();
}

function addListenerMetrics(registers: Registry[], listener: () => ListenerState): void {
  const listening: Gauge = new Gauge({
    name: 'retention_listening',
    help: 'Whether notifications were seen to arrive on the present session of this process: 1 or 0.',
    registers,
    collect: () => listening.set(listener().listening ? 1 : 0),
  });
  const reconnects: Counter = new Counter({
    name: 'retention_reconnects_total',
    help: `How often listening was taken up again after a loss, ${BY_THIS_PROCESS}`,
    registers,
    collect: () => {
      reconnects.reset();
      reconnects.inc(listener().reconnects);
    },
  });
}
