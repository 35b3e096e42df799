import { z } from 'zod';
import { CHANNEL_SCHEMAS, type Channel } from './channels.ts';
import { PEOPLE_DOCUMENTS } from './people-documents.ts';
import { PROOF_DOCUMENTS } from './proof-documents.ts';
import { webhookMessage } from './webhook.ts';
import { WORK_DOCUMENTS, error, statusJson } from './work-documents.ts';

export {
  type Channel,
  type ChannelPayloads,
  type Notification,
  readNotification,
} from './channels.ts';

/** The schema of the document that each command prints with `--json`, by its words. */
export const DOCUMENT_SCHEMAS = {
  ...PEOPLE_DOCUMENTS,
  ...PROOF_DOCUMENTS,
  ...WORK_DOCUMENTS,
} as const;

/** The words of a command that prints a document. */
export type DocumentName = keyof typeof DOCUMENT_SCHEMAS;

/** The document of each command; of one that failed before it had one, {@link ErrorDocument}. */
export type Documents = {
  readonly [Name in DocumentName]: Readonly<z.infer<(typeof DOCUMENT_SCHEMAS)[Name]>>;
};

/** What a command prints with `--json` that failed. */
export type ErrorDocument = Readonly<z.infer<typeof error>>;

/** The document of `/status.json`. */
export type StatusJson = Readonly<z.infer<typeof statusJson>>;

/** What is posted to a webhook. */
export type WebhookMessage = Readonly<z.infer<typeof webhookMessage>>;

/** Everything that has a schema: channels, documents by the words of their command, and three more. */
export const SCHEMAS = {
  ...CHANNEL_SCHEMAS,
  ...DOCUMENT_SCHEMAS,
  'status.json': statusJson,
  webhook: webhookMessage,
  error,
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
