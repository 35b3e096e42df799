import { z } from 'zod';
import { CHANNEL_SCHEMAS, type Channel } from './channels.ts';
import * as people from './people-documents.ts';
import * as proof from './proof-documents.ts';
import { webhookMessage } from './webhook.ts';
import * as work from './work-documents.ts';

export {
  type Channel,
  type ChannelPayloads,
  type Notification,
  readNotification,
} from './channels.ts';

/** The schema of the document that each command prints with `--json`, by its words. */
export const DOCUMENT_SCHEMAS = {
  'approval approve': people.approvalApprove,
  'approval list': people.approvalList,
  'approval withdraw': people.approvalWithdraw,
  'bucket confirm': people.bucketConfirm,
  'bucket forget': people.bucketChange,
  'bucket list': people.bucketList,
  'bucket set': people.bucketChange,
  certificate: proof.certificate,
  doctor: work.findings,
  explain: work.explain,
  'fence accept': people.fence,
  'fence show': people.fence,
  'guard list': people.guardList,
  'guard set': people.guardSet,
  halt: work.halt,
  history: proof.history,
  'hold list': people.holdList,
  'hold place': people.holdPlace,
  'hold release': people.holdRelease,
  init: work.findings,
  'keeper add': people.keeperAdd,
  'keeper list': people.keeperList,
  'keeper remove': people.keeperRemove,
  'migrate status': work.migrateStatus,
  orphans: proof.orphans,
  'policy confirm': people.policyConfirm,
  'policy list': people.policyList,
  'policy set': people.policyEffect,
  'policy unset': people.policyEffect,
  'proof export': proof.proofExport,
  'proof head': proof.proofHead,
  'proof key': proof.proofKey,
  'proof receipt-keys': proof.proofReceiptKeys,
  'proof verify': proof.proofVerify,
  reconcile: work.reconcile,
  restore: work.restore,
  resume: work.resume,
  retry: work.retry,
  status: work.status,
  'surge list': people.surgeList,
  'surge release': people.surgeRelease,
  'surge show': people.surgeShow,
  upcoming: work.upcoming,
  watch: work.watch,
  'webhook test': people.webhookTest,
} as const;

/** The words of a command that prints a document. */
export type DocumentName = keyof typeof DOCUMENT_SCHEMAS;

/** The document of each command; of one that failed before it had one, {@link ErrorDocument}. */
export type Documents = {
  readonly [Name in DocumentName]: Readonly<z.infer<(typeof DOCUMENT_SCHEMAS)[Name]>>;
};

/** What a command prints with `--json` that failed. */
export type ErrorDocument = Readonly<z.infer<typeof work.error>>;

/** The document of `/status.json`. */
export type StatusJson = Readonly<z.infer<typeof work.statusJson>>;

/** What is posted to a webhook. */
export type WebhookMessage = Readonly<z.infer<typeof webhookMessage>>;

/** Everything that has a schema: channels, documents by the words of their command, and three more. */
export const SCHEMAS = {
  ...CHANNEL_SCHEMAS,
  ...DOCUMENT_SCHEMAS,
  'status.json': work.statusJson,
  webhook: webhookMessage,
  error: work.error,
} as const;

/** What has a schema. */
export type SchemaName = Channel | DocumentName | 'status.json' | 'webhook' | 'error';

/** The names of all schemas. */
export const SCHEMA_NAMES: readonly SchemaName[] = Object.keys(SCHEMAS) as SchemaName[];

/** A JSON Schema, draft 2020-12. Objects may have more keys than it names: later versions add some. */
export function jsonSchema(name: SchemaName): Readonly<Record<string, unknown>> {
  const schema: z.ZodType = SCHEMAS[name];
  return { title: `retention-reactor: ${name}`, ...z.toJSONSchema(schema, { io: 'input' }) };
}
