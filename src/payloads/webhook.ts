import { z } from 'zod';
import { count, text } from './fields.ts';

/** What is posted to RETENTION_WEBHOOK_URL. */
export const webhookMessage = z.object({
  type: z.enum([
    'retention.halted',
    'retention.copy',
    'retention.resumed',
    'retention.surge',
    'retention.dead',
    'retention.canary',
    'retention.sealed',
    'retention.test',
  ]),
  timestamp: text,
  data: z.object({
    kind: text,
    text,
    database_name: text.optional(),
    announcements: count.optional(),
  }),
});
