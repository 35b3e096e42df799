import { Gauge, type Registry } from 'prom-client';
import { type Instant, millisecondsOf } from '../instant.ts';
import type { Status } from '../store/status.ts';
import type { Vitals } from '../store/overview.ts';
import type { Reading } from './cached-read.ts';

/** The gauges that say how the database stands. */
export interface DatabaseGauges {
  /** Sets them all; while the database does not answer they show nothing, not old values. */
  show(reading: Reading<Vitals>): void;
}

/** A gauge and where in the status it comes from; undefined: it shows nothing. */
interface StatusGauge {
  readonly name: string;
  readonly help: string;
  readonly of: (status: Status, asOf: Date) => number | undefined;
}

const STATES = ['due', 'flagged', 'leased', 'failed', 'dead'] as const;

const DAY_SECONDS = 86_400;

const STATUS_GAUGES: readonly StatusGauge[] = [
  {
    name: 'retention_results_live_estimate',
    help: 'Estimate of the results that are not yet cleared, as of the last vacuum or analyze.',
    of: (status) => status.live_estimate,
  },
  {
    name: 'retention_results_due_is_capped',
    help: 'Whether state="due" says "at least": 1 or 0. What is not flagged is counted among about 1,000 rows of at most 250 tenants.',
    of: (status) => Number(status.due_is_capped),
  },
  {
    name: 'retention_results_cleared_today',
    help: 'Results cleared since midnight UTC, by any listener or command.',
    of: (status) => status.cleared_today,
  },
  {
    name: 'retention_batches_open',
    help: 'Batches that are not settled.',
    of: (status) => status.batches,
  },
  {
    name: 'retention_holds',
    help: 'Holds in force, on runs and on tenants.',
    of: (status) => status.held,
  },
  {
    name: 'retention_oldest_due_age_seconds',
    help: 'Time since the run of the oldest due result completed; 0 when nothing is due.',
    of: (status, asOf) => secondsFrom(status.oldest_due, asOf) ?? 0,
  },
  {
    name: 'retention_oldest_overdue_seconds',
    help: 'Time for which the oldest due result has been due; 0 when nothing is due.',
    of: (status, asOf) => secondsFrom(status.due_since, asOf) ?? 0,
  },
  {
    name: 'retention_newest_run_age_seconds',
    help: 'Time since the newest run completed that is known here; absent when none is.',
    of: (status, asOf) => secondsFrom(status.newest_run, asOf),
  },
  {
    name: 'retention_seconds_until_next_pass',
    help: 'Time until the next flagging pass; 0 when it is overdue, absent when none comes by itself.',
    of: ({ next_pass: next }, asOf) => (next === null ? undefined : secondsFrom(asOf, next)),
  },
  {
    name: 'retention_seconds_since_last_tick',
    help: 'Time since the last tick from any source; absent when none ever came.',
    of: (status, asOf) => secondsFrom(status.last_tick, asOf),
  },
  {
    name: 'retention_scheduler_healthy',
    help: 'Whether the scheduler ticks: 1 or 0. 0 also while a listener stands in for it.',
    of: ({ scheduler_health: health }) => Number(health === 'ok' || health === 'disabled'),
  },
  {
    name: 'retention_enabled',
    help: 'Whether results are flagged and deleted: 1 or 0.',
    of: (status) => Number(status.enabled),
  },
  {
    name: 'retention_halted_reasons',
    help: 'For how many reasons nothing is flagged or claimed; 0: it works.',
    of: ({ halted }) => halted.length,
  },
  {
    name: 'retention_loop_interval_seconds',
    help: 'How often a tick flags.',
    of: (status) => status.loop_interval_seconds,
  },
  {
    name: 'retention_default_retain_seconds',
    help: 'How long results are kept where a tenant has no policy of its own.',
    of: (status) => status.default_retain_days * DAY_SECONDS,
  },
  {
    name: 'retention_results_set_aside',
    help: 'Late results that are set aside until a person releases them; not among state="due".',
    of: (status) => status.set_aside,
  },
  {
    name: 'retention_policies_pending',
    help: 'Policies that wait for a confirmation.',
    of: (status) => status.policies_pending,
  },
  {
    name: 'retention_buckets_paused',
    help: 'Buckets that pause for what S3 answered.',
    of: (status) => status.buckets_paused,
  },
];

/** The help text of each gauge, so that a dashboard does not add it up over listeners. */
const OF_THE_DATABASE = 'Of the database: the same from every listener.';

/** Makes the gauges that say how the database stands. */
export function createDatabaseGauges(registers: Registry[]): DatabaseGauges {
  const up = new Gauge({
    name: 'retention_database_up',
    help: 'Whether the database answered the last look, or one in the last 30 s, of this process: 1 or 0.',
    registers,
  });
  const results = new Gauge({
    name: 'retention_results',
    help: `Results by state, as in retention.status: due contains flagged, flagged contains leased and failed. ${OF_THE_DATABASE}`,
    labelNames: ['state'],
    registers,
  });
  const paused = new Gauge({
    name: 'retention_bucket_paused',
    help: `The buckets that pause for what S3 answered, 1 each; at most 50. ${OF_THE_DATABASE}`,
    labelNames: ['bucket'],
    registers,
  });
  const queue = new Gauge({
    name: 'retention_notify_queue_usage_ratio',
    help: `How full the server's notification queue is, from 0 to 1; past a half nothing is announced. ${OF_THE_DATABASE}`,
    registers,
  });
  const seals = new Gauge({
    name: 'retention_seals_not_written',
    help: `Seals that are not yet an object in RETENTION_SEAL_BUCKET; absent where no listener has one. ${OF_THE_DATABASE}`,
    registers,
  });
  const canaryAge = new Gauge({
    name: 'retention_canary_age_seconds',
    help: `Time since a canary of the bucket last went the whole way to its deletion; absent where there is none. ${OF_THE_DATABASE}`,
    labelNames: ['bucket'],
    registers,
  });
  const canaryInterval = new Gauge({
    name: 'retention_canary_interval_seconds',
    help: `How often a canary begins in the bucket: RETENTION_CANARY_SECONDS. ${OF_THE_DATABASE}`,
    labelNames: ['bucket'],
    registers,
  });
  const drift = new Gauge({
    name: 'retention_drift_results',
    help: `What the standing verify of the bucket found last: gone: live results without an object, returned: cleared results with one; absent where there is none. ${OF_THE_DATABASE}`,
    labelNames: ['bucket', 'kind'],
    registers,
  });
  const orphans = new Gauge({
    name: 'retention_orphan_objects',
    help: `Objects older than a day that no row points at, as the standing verify of the bucket found last; absent where there is none. ${OF_THE_DATABASE}`,
    labelNames: ['bucket'],
    registers,
  });
  const verifyAge = new Gauge({
    name: 'retention_verify_age_seconds',
    help: `Time since the standing verify of the bucket last came to its end; absent where there is none. ${OF_THE_DATABASE}`,
    labelNames: ['bucket'],
    registers,
  });
  const verifyInterval = new Gauge({
    name: 'retention_verify_interval_seconds',
    help: `How often the bucket is to be verified: RETENTION_VERIFY_DAYS. ${OF_THE_DATABASE}`,
    labelNames: ['bucket'],
    registers,
  });
  const age = new Gauge({
    name: 'retention_status_age_seconds',
    help: 'How old the figures of the database are that this scrape shows; absent when it shows none. As a look of this process: seconds.',
    registers,
  });
  const gauges = STATUS_GAUGES.map(({ name, help, of }) => ({
    gauge: new Gauge({ name, help: `${help} ${OF_THE_DATABASE}`, registers }),
    of,
  }));
  return {
    show: (reading) => {
      up.set(reading.ok ? 1 : 0);
      for (const { gauge } of gauges) gauge.remove();
      queue.remove();
      seals.remove();
      age.remove();
      results.reset();
      paused.reset();
      canaryAge.reset();
      canaryInterval.reset();
      for (const gauge of [drift, orphans, verifyAge, verifyInterval]) gauge.reset();
      if (!reading.ok) return;
      const { asOf, status, pausedBuckets, notifyQueueUsage, sealsUnwritten } = reading.value;
      for (const { bucket, age_seconds: seconds, every_seconds: every, is_off: isOff } of reading
        .value.canaries ?? []) {
        if (isOff) continue;
        canaryAge.set({ bucket }, seconds);
        canaryInterval.set({ bucket }, every);
      }
      for (const verify of reading.value.verifies ?? []) {
        const { bucket } = verify;
        if (verify.is_off) continue;
        drift.set({ bucket, kind: 'gone' }, verify.gone);
        drift.set({ bucket, kind: 'returned' }, verify.returned);
        if (verify.finished_at !== null) orphans.set({ bucket }, verify.orphans);
        verifyAge.set({ bucket }, verify.age_seconds);
        verifyInterval.set({ bucket }, verify.every_seconds);
      }
      for (const { gauge, of } of gauges) {
        const value = of(status, asOf);
        if (value !== undefined) gauge.set(value);
      }
      for (const state of STATES) results.set({ state }, status[state]);
      for (const bucket of pausedBuckets) paused.set({ bucket }, 1);
      queue.set(notifyQueueUsage);
      if (sealsUnwritten !== null) seals.set(sealsUnwritten);
      age.set(Math.max(0, (Date.now() - reading.at.getTime()) / 1_000));
    },
  };
}

function secondsFrom(date: Instant | null, asOf: Date): number | undefined {
  return date === null ? undefined : Math.max(0, (asOf.getTime() - millisecondsOf(date)) / 1_000);
}
