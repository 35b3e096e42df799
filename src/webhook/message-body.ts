import type { Message } from '../store/messages.ts';
import { countOf } from '../numbers.ts';
import { redactSecrets } from '../safe-text.ts';

/** The document that is posted; keys may be added, never renamed. */
export interface WebhookDocument {
  /** `retention.halted`, `.copy`, `.resumed`, `.surge`, `.dead`, `.sealed` or `.test`. */
  readonly type: string;
  /** When it happened. */
  readonly timestamp: string;
  readonly data: Readonly<Record<string, unknown>> & {
    /** One sentence for people. */
    readonly text: string;
    readonly database_name: string;
    /** How many announcements of this kind it stands for; the latest one is told. */
    readonly announcements: number;
  };
}

/** The body of a message. It is the same at each attempt. */
export function bodyOf(message: Omit<Message, 'attempt' | 'message_id'>): string {
  const { kind, happened_at: timestamp, announcements, database, payload } = message;
  const document: WebhookDocument = {
    type: `retention.${kind}`,
    timestamp,
    data: {
      ...payload,
      kind,
      text: sayMessage(kind, payload),
      database_name: database,
      announcements,
    },
  };
  return JSON.stringify(document, (_key, value: unknown) =>
    typeof value === 'string' ? redactSecrets(value) : value,
  );
}

type Payload = Message['payload'];

function sayMessage(kind: string, payload: Payload): string {
  const { reasons, results, bucket, code, surge_id: surge, seal, digest } = payload;
  const results_ = countOf(Number(results), kind === 'surge' ? 'late result' : 'result');
  switch (kind) {
    case 'halted':
      return `Nothing is flagged and nothing is deleted: ${listOf(reasons)}. See: retention status`;
    case 'copy':
      return 'Nothing is deleted: this looks like a copy of another database. See: retention fence show';
    case 'resumed':
      return 'Results are flagged and deleted again.';
    case 'surge':
      return `${results_} set aside as surge ${String(surge)}. See: retention surge show ${String(surge)}`;
    case 'dead':
      return `${results_} dead in bucket ${String(bucket)}: ${String(code)}. See: retention status`;
    case 'canary':
      return `The canary fails in bucket ${String(bucket)}: ${String(code)}. See: retention status`;
    case 'sealed':
      return `Seal ${String(seal)}: keep ${String(seal)}-${String(digest)}`;
    default:
      return `${kind}. See: retention status`;
  }
}

function listOf(reasons: unknown): string {
  return Array.isArray(reasons) ? reasons.map(String).join(', ') : 'unknown';
}
