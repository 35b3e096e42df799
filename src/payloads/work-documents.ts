import { z } from 'zod';
import { anyRow, count, date, gateReasons, id, instant, text } from './fields.ts';

/** Documents about the work: what is due, what goes, what failed. */

const statusRow = z.object({
  enabled: z.boolean(),
  live_estimate: count,
  due: count,
  due_is_capped: z.boolean(),
  flagged: count,
  leased: count,
  failed: count,
  dead: count,
  held: count,
  cleared_today: count,
  spared_today: count,
  oldest_due: instant.nullable(),
  batches: count,
  buckets_paused: count,
  last_tick: date.nullable(),
  last_pass: date.nullable(),
  scheduler: text,
  scheduler_health: text,
  loop_interval_seconds: z.number(),
  default_retain_days: z.number(),
  policies_pending: count,
  policy_pending: text.nullable(),
  due_since: instant.nullable(),
  halted: z.array(text),
  next_pass: date.nullable(),
  next_pass_because: text,
  newest_run: instant.nullable(),
  cooling: count,
  cooling_until: date.nullable(),
  kept: count,
  object_changed: count,
  stamps_without_receipt: count.nullable(),
  receipts_without_stamp: count.nullable(),
  receipts_without_row: count.nullable(),
  stamps_counted_at: date.nullable(),
  set_aside: count,
  surges: count,
});

const variable = z.object({
  name: text,
  variable: text,
  value: text.nullable(),
  stored: text.nullable(),
  differs: z.boolean(),
  brought_at: instant.nullable(),
  set_at: instant.nullable(),
  set_by: text.nullable(),
  remedy: text.nullable(),
});

const waitCause = z.object({
  what: text,
  results: count.nullable(),
  because: text,
  ends_at: date.nullable(),
  remedy: text.nullable(),
});

const canary = z.object({
  bucket: text,
  every_seconds: z.number(),
  age_seconds: z.number(),
  confirmed_at: date.nullable(),
  is_off: z.boolean(),
  code: text.nullable(),
  problem: text.nullable(),
});

/** What the standing verify of a bucket has found: `RETENTION_VERIFY_DAYS`. */
const standingVerify = z.object({
  bucket: text,
  every_seconds: z.number(),
  age_seconds: z.number(),
  finished_at: date.nullable(),
  listed: count,
  gone: count,
  returned: count,
  orphans: count,
  orphan_bytes: count,
  is_running: z.boolean(),
  listed_now: count,
  is_off: z.boolean(),
  code: text.nullable(),
  problem: text.nullable(),
});

/** With `--watch`, each line is the row alone. */
const status = statusRow.extend({
  variables: z.array(variable).optional(),
  not_allowed: z.array(waitCause).optional(),
  canaries: z.array(canary).optional(),
  verifies: z.array(standingVerify).optional(),
});

/** `/status.json`. Where the database does not answer, what is of it is missing. */
export const statusJson = statusRow.partial().extend({
  at: date,
  stale_seconds: count,
  ready: z.boolean(),
  reasons: z.array(text),
  listener: z.object({
    listening: z.boolean(),
    proven_at: date.nullable(),
    reconnects: count,
    stopping: z.boolean(),
    started_at: date,
  }),
  verifies: z.array(standingVerify).optional(),
  activity: z
    .array(z.object({ begins_at: date, flagged: count, cleared: count, failed: count }))
    .optional(),
  tenants: z
    .array(
      z.object({
        tenant_id: text.nullable(),
        retain_days: z.number(),
        oldest: instant,
        due_since: instant,
        due: count,
        flagged: count,
        is_capped: z.boolean(),
      }),
    )
    .optional(),
  buckets: z
    .array(
      z.object({
        bucket: text,
        versioning: text.nullable(),
        on_versioned: text,
        flagged: count,
        leased: count,
        oldest: instant.nullable(),
        cleared_24h: count,
        dead: count,
        paused_until: date.nullable(),
        pause_code: text.nullable(),
        pause_error: text.nullable(),
        habits: anyRow,
      }),
    )
    .optional(),
  troubles: z
    .array(
      z.object({
        state: z.enum(['failed', 'dead']),
        bucket: text,
        code: text,
        results: count,
        run_id: text,
        error: text.nullable(),
        last_at: date,
        next_attempt_at: date.nullable(),
      }),
    )
    .optional(),
  listeners: z
    .array(z.object({ listener: text, batches: count, results: count, leased_until: date }))
    .optional(),
  holds: z
    .array(
      z.object({
        hold_id: id,
        run_id: text.nullable(),
        tenant_id: text.nullable(),
        reason: text,
        placed_by: text,
        placed_at: date,
        expires_at: instant.nullable(),
      }),
    )
    .optional(),
  pending_policies: z.array(anyRow).optional(),
});

const verified = {
  drift: z.object({ stamped: count, requeued: count }).optional(),
  orphans: z.object({ objects: count, bytes: count }).optional(),
  buckets_failed: z.array(z.object({ bucket: text, code: text, reason: text })).optional(),
  buckets_passed_by: z.array(text).optional(),
};

const reconcile = z.discriminatedUnion('dry_run', [
  z.object({
    dry_run: z.literal(false),
    flagged: count,
    cleared: count,
    spared: count,
    failed: count,
    dead: count,
    set_aside: count,
    surges: z.array(id),
    surges_before: z.array(id),
    waiting: z.array(
      z.object({ bucket: text, reason: text, until: date.nullable(), results: count }),
    ),
    interrupted: z.boolean(),
    seconds: z.number(),
    ...verified,
  }),
  z.object({
    dry_run: z.literal(true),
    due: count,
    early: count.optional(),
    groups: z.array(
      z.object({
        tenant_id: text.nullable(),
        bucket: text,
        results: count,
        oldest: instant,
        refused: text.optional(),
      }),
    ),
    runs: z.array(
      z.object({
        run_id: text,
        tenant_id: text.nullable(),
        bucket: text,
        key: text,
        completed_at: instant,
      }),
    ),
    ...verified,
  }),
]);

const bearingHolds = z
  .array(
    z.object({
      hold_id: id,
      on: z.enum(['run', 'tenant']),
      reason: text,
      placed_by: text,
      placed_at: text,
      ends: text.nullable(),
    }),
  )
  .nullable();

const explained = {
  run_id: text,
  state: text,
  because: text,
  tenant_id: text.nullable(),
  completed_at: instant.nullable(),
  bucket: text.nullable(),
  key: text.nullable(),
  retain_days: z.number().nullable(),
  due_at: instant.nullable(),
  holds: bearingHolds,
  flagged_at: date.nullable(),
  batch_id: id.nullable(),
};

/** With `--at`, the document has `at`, and its runs are as they were then. */
const explain = z.object({
  at: date.optional(),
  runs: z.array(
    z.union([
      z.object({
        ...explained,
        status: text.nullable(),
        cleared_at: instant.nullable(),
        attempts: count.nullable(),
        last_code: text.nullable(),
        last_error: text.nullable(),
        next_attempt_at: instant.nullable(),
        shares_with: text.nullable(),
      }),
      z.object({
        ...explained,
        at: date,
        policy: text.nullable(),
        policy_set_by: text.nullable(),
        policy_set_at: date.nullable(),
        receipt: text.nullable(),
        settled_at: date.nullable(),
        not_known: z.array(text).nullable(),
      }),
    ]),
  ),
});

const upcoming = z.object({
  days: count,
  tenant_id: text.nullable(),
  results: count,
  upcoming: z.array(
    z.object({
      day: text.nullable().describe('a day of UTC; null: nothing says when'),
      state: text,
      tenant_id: text.nullable(),
      bucket: text,
      results: count,
    }),
  ),
});

/** One line of `watch --json`. */
const watch = z.union([
  z.object({ at: date, channel: text, payload: anyRow }),
  z.object({ at: date, channel: text, raw: text }),
]);

const retry = z.object({ revived: count });

const restore = z.object({ restored: count, failed: count, runs: z.array(anyRow) });

const checks = z.array(
  z.object({
    name: text,
    state: z.enum(['ok', 'warning', 'failed']),
    found: text,
    remedy: text.nullable(),
  }),
);

const findings = z.object({ ok: z.boolean(), checks });

const migrateStatus = z.object({
  applied: z.array(z.object({ name: text, at: date })),
  pending: z.array(text),
  unknown: z.array(text),
});

const halt = z.object({ halted: z.boolean(), reasons: gateReasons });

const resume = z.object({ resumed: z.boolean(), reasons: gateReasons });

/** In the place of any document, of a command that failed before it had one. */
export const error = z.object({
  error: z.object({
    code: text,
    message: text,
    remedy: text.nullable(),
    exit_code: z.int(),
  }),
});

/** By the words of the command that prints it. */
export const WORK_DOCUMENTS = {
  doctor: findings,
  explain: explain,
  halt: halt,
  init: findings,
  'migrate status': migrateStatus,
  reconcile: reconcile,
  restore: restore,
  resume: resume,
  retry: retry,
  status: status,
  upcoming: upcoming,
  watch: watch,
} as const;
