import { z } from 'zod';
import { type Kind, failure } from './values.ts';

/** PostgreSQL cuts longer names without an error, and then means another table. */
const MAX_IDENTIFIER_BYTES = 63;

/** A table's name in its parts, as Postgres stores them. */
export interface TableName {
  /** `undefined`: Postgres looks along the search path. */
  readonly schema: string | undefined;
  readonly name: string;
}

const PLAIN = String.raw`[A-Za-z_\u0080-\uFFFF][\w$\u0080-\uFFFF]*`;
const QUOTED = String.raw`"(?:[^"]|"")+"`;
const IDENTIFIER = new RegExp(`^(?:${PLAIN}|${QUOTED})$`, 'u');
const TABLE = new RegExp(
  String.raw`^(?:(?<schema>${PLAIN}|${QUOTED})\s*\.\s*)?(?<name>${PLAIN}|${QUOTED})$`,
  'u',
);

/** An SQL name, folded to lower case unless it is quoted. */
const identifier = z
  .string()
  .superRefine((text, context) => {
    if (IDENTIFIER.test(text)) return;
    const remedy = `Put it in double quotes: "${text.replaceAll('"', '""')}".`;
    context.addIssue({ code: 'custom', ...failure({ expected: 'an SQL name', remedy }) });
  })
  .transform((text) => unquote(text))
  .refine(
    (name) => Buffer.byteLength(name) <= MAX_IDENTIFIER_BYTES && !name.includes('\0'),
    failure({ expected: `an SQL name of at most ${MAX_IDENTIFIER_BYTES} bytes` }),
  );

function unquote(text: string): string {
  if (text.startsWith('"')) return text.slice(1, -1).replaceAll('""', '"');
  // In a UTF-8 database Postgres folds ASCII only.
  return text.replaceAll(/[A-Z]/gu, (letter) => letter.toLowerCase());
}

/** The name of a role. */
export function roleName(): Kind<string> {
  return {
    schema: identifier,
    unit: null,
    secret: false,
    expected: 'the name of a role, in double quotes where Postgres wants them',
    remedy: 'Give one existing role, or leave it out.',
  };
}

const tableParts = z.object({ schema: identifier.optional(), name: identifier });

/** A table's name, with or without its schema. */
export function tableName(): Kind<TableName> {
  return {
    schema: z
      .string()
      .regex(TABLE, { abort: true })
      .transform((text) => TABLE.exec(text)?.groups as z.input<typeof tableParts>)
      .pipe(tableParts)
      .transform(({ schema, name }) => ({ schema, name })),
    unit: null,
    secret: false,
    expected: 'a table such as public.runs, parts in double quotes where Postgres wants them',
    remedy: 'Quote a part that has capitals, spaces, dots or hyphens: public."Run-Results".',
  };
}

/** Writes a table's name, with any characters in it, so that Postgres reads the same name. */
export function formatTable(table: TableName): string {
  const parts = table.schema === undefined ? [table.name] : [table.schema, table.name];
  return parts.map((part) => quoteIdentifier(part)).join('.');
}

/** Writes an SQL name, with any characters in it, so that Postgres reads the same name. */
export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
