import { z } from 'zod';

/** What fields of payloads and documents are made of. Objects may have more keys than are said here: keys are added. */

export const count = z.int().min(0);

/** A number that names a row, such as a hold's or a batch's. */
export const id = z.int();

export const text = z.string();

export const date = z.iso.datetime().describe('a point in time, UTC');

/** A point in time of a row, which may be one that no calendar has. */
export const instant = z
  .string()
  .min(1)
  .describe('a point in time, UTC; of what no calendar holds the text of Postgres: infinity');

const SENT_INSTANT = /^(?:-?infinity|\d{4,6}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z(?: BC)?)$/u;

/** A point in time of a notification, as `retention._iso()` writes it. */
export const sentInstant = z.string().regex(SENT_INSTANT);

export const digest = z
  .string()
  .regex(/^[0-9a-f]{64}$/u)
  .describe('SHA-256, in hexadecimal digits');

/** Rows that the schema of the database describes: any keys. */
export const anyRow = z.record(z.string(), z.unknown());

export const gateReasons = z.array(
  z.object({ reason: text, because: text, since: date.nullable(), remedy: text }),
);

export const head = z.object({
  seal: z.int().min(1),
  digest,
  previous: digest.nullable(),
  sealed_at: sentInstant,
  database: text.nullable(),
});
