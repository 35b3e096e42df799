import { z } from 'zod';
import { anyRow, count, date, digest, head, id, text } from './fields.ts';

/** Documents about what went, and who changed what. */

const history = z.object({
  has_more: z.boolean(),
  history: z.array(
    z.object({
      at: date,
      what: text,
      done_by: text,
      subject: text,
      action: text,
      tenant_id: text.nullable(),
      run_id: text.nullable(),
      name: text.nullable(),
      session_name: text.nullable(),
      role_name: text.nullable(),
      application: text.nullable(),
      before: anyRow.nullable(),
      after: anyRow.nullable(),
      change_id: id.nullable(),
    }),
  ),
});

const counts = { seals: count, receipts: count, results: count, changes: count };

const proofVerify = z.object({
  holds: z.boolean(),
  ...counts,
  pruned: count,
  problems: z.array(
    z.object({ kind: text, seal: id.nullable(), member: text.nullable(), message: text }),
  ),
  heads: z.array(
    z.object({ seal: id.nullable(), digest: text, holds: z.boolean(), message: text }),
  ),
  deleted_again: count,
  stamps: z
    .array(
      z.object({
        kind: text,
        results: count,
        run_ids: z.array(text),
        because: text,
        remedy: text.nullable(),
      }),
    )
    .nullable(),
  head: head.nullable(),
  unsealed_because: text.nullable(),
});

/** As an object of RETENTION_SEAL_BUCKET has it. */
const proofHead = z.union([head, z.object({ seal: z.literal(0), digest: z.null() })]);

const proofExport = z.object({
  file: text,
  ...counts,
  head: head.nullable(),
  unsealed_because: text.nullable(),
});

const proofKey = z.object({ key_file: text, public_key: text, sha256: text });

const proofReceiptKeys = z.object({
  receipt_keys: z.enum(['plain', 'hashed']),
  changed: z.boolean(),
});

const perCategory = z.record(z.string(), count);

const certificate = z.object({
  folder: text,
  certificate: z.literal('retention-reactor/1'),
  product: text,
  made_at: text,
  made_by: text,
  as_of: text,
  database: text,
  scope: z.object({ tenant: text.nullable(), from: text, to: text, keys: z.boolean() }),
  rule: z.object({ retain: text.nullable(), in_force: z.array(anyRow), changes: z.array(anyRow) }),
  population: z.object({
    query: text,
    counted: count,
    results: perCategory,
    difference: z.int(),
  }),
  gone: anyRow,
  beside: z.object({ results: perCategory }),
  leaves: count,
  not_sealed: count,
  head: anyRow.nullable(),
  method: z.array(text),
  not_covered: z.array(text),
  adopted_at: text,
  receipts_kept: text,
  public_key: text,
  files: z.record(z.string(), digest),
});

const listed = { list: text, bucket: text, prefix: text, listed: count };

const orphans = z.union([
  z.object({
    ...listed,
    list_id: text,
    orphans: count,
    bytes: count,
    sha256: digest,
    made_at: date,
  }),
  z.object({
    ...listed,
    deleted: count,
    deleted_bytes: count,
    spared: perCategory,
    failed: count,
    not_reached: count,
    resumed: z.boolean(),
    stopped: text.nullable(),
    progress: text,
  }),
  z.object({
    lists: z.array(
      z.object({
        list_id: text,
        bucket: text,
        prefix: text,
        listed: count,
        orphans: count,
        bytes: count,
        digest,
        made_at: date,
        made_by: text,
        begun_at: date.nullable(),
        begun_by: text.nullable(),
        begun_as: text.nullable(),
        expected: count.nullable(),
        worked_at: date.nullable(),
        deleted: count,
        spared: count,
        failed: count,
      }),
    ),
  }),
]);

/** By the words of the command that prints it. */
export const PROOF_DOCUMENTS = {
  certificate: certificate,
  history,
  orphans: orphans,
  'proof export': proofExport,
  'proof head': proofHead,
  'proof key': proofKey,
  'proof receipt-keys': proofReceiptKeys,
  'proof verify': proofVerify,
} as const;
