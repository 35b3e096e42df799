import { z } from 'zod';
import { count, head, id, sentInstant, text } from './fields.ts';

/** Results were flagged, or may be claimed again. */
const expired = z.object({
  batches: count,
  results: count,
  buckets: z.array(text),
  oldest: sentInstant.nullable(),
});

/** A batch was settled. */
const cleared = z.object({
  batch: id,
  bucket: text,
  cleared: count,
  spared: count,
  failed: count,
  ms: count,
});

/** Results of a batch that failed alike. */
const failed = z.object({
  batch: id,
  bucket: text,
  code: text,
  results: count,
  /** Some of them. */
  run_ids: z.array(text),
  /** Null: they are dead. */
  retry_at: sentInstant.nullable().default(null),
});

/** What a person should know at once. */
const attention = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('halted'),
    reasons: z.array(text),
    because: text.nullable(),
    at: sentInstant,
  }),
  z.object({
    kind: z.literal('resumed'),
    reasons: z.array(text),
    because: text.nullable(),
    at: sentInstant,
  }),
  z.object({
    kind: z.literal('surge'),
    surge_id: id,
    results: count,
    tenants: count,
    at: sentInstant,
  }),
  z.object({ kind: z.literal('dead'), bucket: text, code: text, results: count }),
  z.object({ kind: z.literal('canary'), bucket: text, code: text }),
]);

/** The schema of each channel's payload. */
export const CHANNEL_SCHEMAS = {
  retention_expired: expired,
  retention_cleared: cleared,
  retention_failed: failed,
  retention_attention: attention,
  retention_sealed: head,
} as const;

/** A channel that the database announces on. */
export type Channel = keyof typeof CHANNEL_SCHEMAS;

/** The payload of each channel. */
export type ChannelPayloads = {
  readonly [Name in Channel]: Readonly<z.infer<(typeof CHANNEL_SCHEMAS)[Name]>>;
};

/** A notification that has the shape which the database gives it. Anyone may have sent it still. */
export type Notification = {
  readonly [Name in Channel]: { readonly channel: Name; readonly payload: ChannelPayloads[Name] };
}[Channel];

/**
 * Reads a notification.
 *
 * @param payload the JSON value, not its text.
 * @returns undefined where it is none of a known channel, or has another shape.
 */
export function readNotification(channel: string, payload: unknown): Notification | undefined {
  if (!Object.hasOwn(CHANNEL_SCHEMAS, channel)) return undefined;
  const name = channel as Channel;
  const read = CHANNEL_SCHEMAS[name].safeParse(payload);
  return read.success ? ({ channel: name, payload: read.data } as Notification) : undefined;
}
