import type { Overview } from '../../src/store/overview.ts';
import type { Status } from '../../src/store/status.ts';
import type { Snapshot } from '../../src/telemetry/snapshot.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A snapshot of a busy reactor in which a few things are wrong, for tests of what is drawn of it. */
export function snapshotOf(
  lists: Partial<Overview> = {},
  columns: Partial<Status> = {},
  now = new Date(),
): Snapshot {
  const ago = (milliseconds: number): Date => new Date(now.getTime() - milliseconds);
  return {
    installation: { target: 'db.staging.internal:5432/dpp', version: '0.1.0' },
    at: now,
    staleSeconds: 0,
    startedAt: ago(3 * HOUR),
    vitals: {
      ok: true,
      at: now,
      value: {
        asOf: now,
        status: { ...statusOf(ago), ...columns },
        pausedBuckets: [],
        notifyQueueUsage: 0,
        sealsUnwritten: null,
        gate: [],
      },
    },
    overview: { ok: true, at: now, value: { ...listsOf(ago), ...lists } },
    listener: { listening: true, provenAt: ago(12_000), reconnects: 1, stopping: false },
    readiness: { ready: true, reasons: [] },
  };
}

type Ago = (milliseconds: number) => Date;

function statusOf(ago: Ago): Status {
  return {
    enabled: true,
    live_estimate: 4_812_650,
    due: 18_250,
    due_is_capped: true,
    flagged: 8_250,
    leased: 4_000,
    failed: 36,
    dead: 2,
    held: 3,
    cleared_today: 231_998,
    spared_today: 14,
    oldest_due: ago(30 * DAY + 2 * HOUR),
    due_since: ago(2 * HOUR),
    batches: 10,
    buckets_paused: 1,
    last_tick: ago(24_000),
    last_pass: ago(84_000),
    scheduler: 'pg_cron',
    scheduler_health: 'ok',
    loop_interval_seconds: 86_400,
    default_retain_days: 30,
    policies_pending: 1,
    policy_pending:
      'tenant tenant_abc: 7 days instead of 30 days would make 5120 results due at once',
    halted: [],
    next_pass: new Date(ago(0).getTime() + 23 * HOUR),
    next_pass_because: 'a tick flags 1 day after the last pass',
    set_aside: 0,
    surges: 0,
    newest_run: ago(5 * MINUTE),
    cooling: 0,
    cooling_until: null,
    kept: 0,
    object_changed: 0,
    stamps_without_receipt: null,
    receipts_without_stamp: null,
    receipts_without_row: null,
    stamps_counted_at: null,
  };
}

function listsOf(ago: Ago): Overview {
  const bucket = {
    versioning: 'off',
    on_versioned: 'marker',
    oldest: ago(30 * DAY),
    habits: {},
    max_per_second: null,
    max_in_flight: null,
  } as const;
  const open = { paused_until: null, pause_code: null, pause_error: null };
  return {
    activity: Array.from({ length: 48 }, (_, part) => ({
      begins_at: ago((48 - part) * 30 * MINUTE),
      flagged: part % 6 === 0 ? 30_000 + part * 500 : 800 + part * 30,
      cleared: part % 6 === 5 ? 900 : Math.max(0, 9_500 - (part % 6) * 1_600 + part * 40),
      failed: part === 31 ? 1_200 : 0,
    })),
    tenants: [
      {
        tenant_id: 'tenant_abc',
        retain_days: 30,
        oldest: ago(30 * DAY),
        due_since: ago(2 * HOUR),
        due: 1_000,
        flagged: 1_000,
        is_capped: true,
      },
      {
        tenant_id: 'acme',
        retain_days: 90,
        oldest: ago(90 * DAY),
        due_since: ago(40 * MINUTE),
        due: 212,
        flagged: 0,
        is_capped: false,
      },
      {
        tenant_id: null,
        retain_days: 30,
        oldest: ago(30 * DAY),
        due_since: ago(3 * MINUTE),
        due: 4,
        flagged: 4,
        is_capped: false,
      },
    ],
    buckets: [
      {
        ...bucket,
        bucket: 'dpp-archive',
        flagged: 36,
        leased: 0,
        cleared_24h: 0,
        dead: 2,
        paused_until: ago(-90_000),
        pause_code: 'AccessDenied',
        pause_error: 'User is not authorized to perform s3:DeleteObject',
      },
      {
        ...bucket,
        ...open,
        bucket: 'dpp-results',
        flagged: 8_214,
        leased: 4_000,
        cleared_24h: 231_998,
        dead: 0,
      },
      {
        ...bucket,
        ...open,
        bucket: 'dpp-results-eu',
        versioning: 'enabled',
        flagged: 0,
        leased: 0,
        cleared_24h: 1_200,
        dead: 0,
      },
    ],
    troubles: [
      {
        state: 'dead',
        bucket: 'dpp-archive',
        code: 'ObjectLocked',
        results: 2,
        run_id: '3f0c9a52-7c1e-4a52-9d0e-0c7b6a1f2d11',
        error: 'a version is kept until 2027-01-31',
        last_at: ago(9 * HOUR),
        next_attempt_at: null,
      },
      {
        state: 'failed',
        bucket: 'dpp-archive',
        code: 'AccessDenied',
        results: 36,
        run_id: '5d8f3b1c-90c4-4f1c-8a8e-4a3f5f7f6a20',
        error: 'User is not authorized to perform s3:DeleteObject',
        last_at: ago(4 * MINUTE),
        next_attempt_at: ago(-11 * MINUTE),
      },
    ],
    listeners: [
      { listener: 'retention-7d9c5:1', batches: 3, results: 3_000, leased_until: ago(-270_000) },
      { listener: 'retention-b4kk2:1', batches: 1, results: 1_000, leased_until: ago(-294_000) },
    ],
    holds: [
      {
        hold_id: 12,
        run_id: null,
        tenant_id: 'globex',
        reason: 'legal hold 2026-114',
        placed_by: 'kim',
        placed_at: ago(6 * DAY),
        expires_at: null,
      },
      {
        hold_id: 9,
        run_id: 'c1a4c7c2-9df8-4cf4-bd65-36a4f7a0a3b9',
        tenant_id: null,
        reason: 'restored',
        placed_by: 'retention',
        placed_at: ago(2 * DAY),
        expires_at: ago(-5 * DAY),
      },
    ],
    pendingPolicies: [
      {
        tenant_id: 'tenant_abc',
        retain_days: 30,
        pending_retain_days: 7,
        pending_results: 5_120,
        pending_at: ago(20 * MINUTE),
        pending_by: 'lee',
      },
    ],
    surges: [],
    trend: {
      waiting: 18_250,
      is_at_least: true,
      flagged: 8_250,
      flagged_before: 11_400,
      direction: 'shrinking',
      cleared_per_second: 412.6,
      seconds_to_go: 44,
      gone_at: ago(-44_000),
      because: 'at the pace of the last 10 minutes; what falls due meanwhile comes on top',
    },
    head: {
      seal: 1_204,
      digest: '9f2c41d07be85a33'.repeat(4),
      previous: null,
      sealed_at: ago(50_000).toISOString(),
      database: null,
    },
    cut: [],
  };
}
