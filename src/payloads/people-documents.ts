import { z } from 'zod';
import { anyRow, count, date, gateReasons, id, instant, text } from './fields.ts';

/** Documents about what people decide: policies, holds, surges, keepers, buckets, copies. */

const policy = z.object({
  tenant_id: text,
  retain_days: z.number(),
  set_at: date,
  set_by: text,
  pending_retain_days: z.number().nullable(),
  pending_results: count.nullable(),
  pending_at: date.nullable(),
  pending_by: text.nullable(),
  confirmed_results: count.nullable(),
  confirmed_at: date.nullable(),
  confirmed_by: text.nullable(),
});

const policyList = z.object({ policies: z.array(policy) });

const policyEffect = z.object({
  tenant_id: text,
  policy: policy.nullable(),
  results: count,
});

const policyConfirm = z.object({ policies: z.array(policyEffect) });

const holdPlace = z.object({
  holds: z.array(
    z.object({
      hold_id: id,
      run_id: text.nullable(),
      tenant_id: text.nullable(),
      too_late: count,
      too_late_run_ids: z.array(text),
      cleared_at: instant.nullable(),
      bucket: text.nullable(),
      key: text.nullable(),
      objects: count,
    }),
  ),
  too_late: count,
});

const holdRelease = z.object({
  holds: z.array(z.object({ hold_id: id, released: z.boolean(), due: count.nullable() })),
});

const holdList = z.object({
  holds: z.array(
    z.object({
      hold_id: id,
      run_id: text.nullable(),
      tenant_id: text.nullable(),
      reason: text,
      placed_by: text,
      placed_at: date,
      expires_at: instant.nullable(),
      released_at: date.nullable(),
      released_by: text.nullable(),
      active: z.boolean(),
      placed_session: text,
      released_session: text.nullable(),
      bucket: text.nullable(),
      key: text.nullable(),
      objects: count,
    }),
  ),
});

const surge = z.object({
  surge_id: id.nullable(),
  state: z.enum(['counting', 'open', 'closed']),
  found_at: date,
  found_by: text.nullable(),
  seen_at: date.nullable(),
  results: count,
  found: count,
  released: count,
  tenants: count.nullable(),
  oldest: instant.nullable(),
  due_since: instant.nullable(),
  because: text,
  remedy: text.nullable(),
});

const surgeList = z.object({ surges: z.array(surge) });

const surgeShow = z.object({
  surge: surge.nullable(),
  groups: z.array(
    z.object({
      tenant_id: text.nullable(),
      bucket: text,
      results: count,
      oldest: instant.nullable(),
      due_since: instant.nullable(),
      still_due: count.nullable(),
      run_ids: z.array(text),
      because: text.nullable(),
    }),
  ),
  releases: z.array(
    z.object({
      surge_id: id,
      tenant_id: text.nullable(),
      results: count,
      released_at: date,
      released_by: text,
    }),
  ),
});

const surgeRelease = z.object({ surge_id: id, tenant_id: text.nullable(), released: count });

const approval = z.object({
  approval_id: id,
  state: z.enum(['waiting', 'approved', 'used', 'withdrawn', 'expired']),
  kind: text,
  what: anyRow,
  results: count.nullable(),
  asked_by: text,
  asked_at: date,
  approved_by: text.nullable(),
  approved_at: date.nullable(),
  expires_at: date,
  used_at: date.nullable(),
  withdrawn_by: text.nullable(),
  withdrawn_at: date.nullable(),
});

const approvalList = z.object({ approvals: z.array(approval) });

const approvalApprove = z.object({ approved: z.boolean(), approval: approval.optional() });

const approvalWithdraw = z.object({ withdrawn: z.boolean() });

const guardList = z.object({
  guards: z.array(z.object({ name: text, value: text, meaning: text })),
});

const guardSet = z.object({ name: text, before: text.nullable(), value: text });

const keeper = z.object({
  keeper_id: id,
  table_name: text,
  key_column: text,
  bucket_column: text.nullable(),
  until_column: text.nullable(),
  added_at: date,
  added_by: text,
  kept: count,
  fault: text.nullable(),
  remedy: text.nullable(),
});

const keeperAdd = z.object({ keeper: keeper.optional() });

const keeperRemove = z.object({ removed: count });

const keeperList = z.object({ keepers: z.array(keeper) });

const bucket = z.object({
  bucket: text,
  on_versioned: z.enum(['marker', 'purge']),
  versioning: z.enum(['off', 'enabled', 'suspended']).nullable(),
  pause: text.nullable(),
  habits: z.record(
    z.string(),
    z.object({
      value: z.union([z.number(), text]),
      by: z.enum(['hand', 'learned']),
      since: text,
      because: text.nullable(),
    }),
  ),
  looked: count,
  missing: count,
});

const bucketList = z.object({ buckets: z.array(bucket) });

const bucketChange = z.object({ bucket: bucket.nullable() });

const bucketConfirm = z.object({
  bucket: text,
  confirmed: z.literal(true),
  reasons: gateReasons,
});

const fence = z.object({
  fence: z.object({
    is_copy: z.boolean(),
    because: text.nullable(),
    accepted_system_identifier: text.nullable(),
    accepted_database: text.nullable(),
    accepted_timeline: z.int().nullable(),
    system_identifier: text.nullable(),
    database: text,
    timeline: z.int().nullable(),
    adopted_at: date.nullable(),
    accepted_at: date.nullable(),
    accepted_by: text.nullable(),
    accepted_reason: text.nullable(),
    fence: text.nullable(),
    fence_in_use: z.boolean(),
    bucket: text.nullable(),
    renewed_at: date.nullable(),
    renewed_by: text.nullable(),
    lost_at: date.nullable(),
    outside: z
      .object({
        bucket: text,
        key: text,
        problem: text.nullable(),
        renewed_at: text.nullable(),
        renewed_by: text.nullable(),
        database: text.nullable(),
      })
      .nullable(),
    missing: z.array(z.object({ kind: text, detail: text })),
    accepted: z.boolean(),
  }),
});

const webhookTest = z.object({ delivered: z.literal(true), webhook_id: text });

/** By the words of the command that prints it. */
export const PEOPLE_DOCUMENTS = {
  'approval approve': approvalApprove,
  'approval list': approvalList,
  'approval withdraw': approvalWithdraw,
  'bucket confirm': bucketConfirm,
  'bucket forget': bucketChange,
  'bucket list': bucketList,
  'bucket set': bucketChange,
  'fence accept': fence,
  'fence show': fence,
  'guard list': guardList,
  'guard set': guardSet,
  'hold list': holdList,
  'hold place': holdPlace,
  'hold release': holdRelease,
  'keeper add': keeperAdd,
  'keeper list': keeperList,
  'keeper remove': keeperRemove,
  'policy confirm': policyConfirm,
  'policy list': policyList,
  'policy set': policyEffect,
  'policy unset': policyEffect,
  'surge list': surgeList,
  'surge release': surgeRelease,
  'surge show': surgeShow,
  'webhook test': webhookTest,
} as const;
