import { InvalidText, isBucketName } from './config-text.ts';

/** The columns of the adapter view, in its order. */
export const VIEW_COLUMNS = [
  'run_id',
  'tenant_id',
  'status',
  'completed_at',
  'retain_until',
  'bucket',
  'key',
  'cleared_at',
  'updated_at',
] as const;

export type ViewColumn = (typeof VIEW_COLUMNS)[number];

/** Where a column of the adapter view comes from. */
export type ColumnSource =
  | { readonly kind: 'column'; readonly name: string }
  | { readonly kind: 'constant'; readonly value: string }
  /** The table has no such column. */
  | { readonly kind: 'absent' };

/** A parsed `RETENTION_COLUMNS`. */
export interface ColumnMapping {
  /** As it was given; empty when it was not. */
  readonly text: string;
  /** Every column of the view; what was not named keeps the runbook's name. */
  readonly sources: Readonly<Record<ViewColumn, ColumnSource>>;
  /** The columns that were named, in their order. */
  readonly named: readonly ViewColumn[];
}

/** The runbook's columns. It knows no `retain_until`. */
export const RUNBOOK_COLUMNS: Readonly<Record<ViewColumn, ColumnSource>> = {
  run_id: { kind: 'column', name: 'run_id' },
  tenant_id: { kind: 'column', name: 'tenant_id' },
  status: { kind: 'column', name: 'status' },
  completed_at: { kind: 'column', name: 'completed_at' },
  retain_until: { kind: 'absent' },
  bucket: { kind: 'column', name: 'result_s3_bucket' },
  key: { kind: 'column', name: 'result_s3_key' },
  cleared_at: { kind: 'column', name: 'result_cleared_at' },
  updated_at: { kind: 'column', name: 'updated_at' },
};

/** Without these, nobody could tell what is due, delete it, or stamp it. */
const INDISPENSABLE: ReadonlySet<ViewColumn> = new Set([
  'run_id',
  'completed_at',
  'key',
  'cleared_at',
]);
const WRITTEN: readonly ViewColumn[] = ['cleared_at', 'updated_at'];

/** PostgreSQL cuts longer names without an error, and then means another table. */
const MAX_IDENTIFIER_BYTES = 63;

/** A table's name in its parts, as Postgres stores them. */
export interface TableName {
  /** `undefined`: wherever the search path finds it. */
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
const PAIR = new RegExp(
  String.raw`\s*(?<left>[^=,"']*?)\s*=\s*(?<right>${QUOTED}|'[^']*'|[^,"']*?)\s*(?:,|$)`,
  'uy',
);

/**
 * Reads an SQL identifier: folded to lower case unless it is quoted.
 *
 * @throws InvalidText when Postgres would not take it as one name.
 */
export function parseIdentifier(text: string): string {
  if (!IDENTIFIER.test(text)) {
    throw new InvalidText({
      expected: 'an SQL name',
      remedy: `Put it in double quotes: "${text.replaceAll('"', '""')}".`,
    });
  }
  const isQuoted = text.startsWith('"');
  const name = isQuoted ? text.slice(1, -1).replaceAll('""', '"') : foldCase(text);
  if (Buffer.byteLength(name) > MAX_IDENTIFIER_BYTES || name.includes('\0')) {
    throw new InvalidText({ expected: `an SQL name of at most ${MAX_IDENTIFIER_BYTES} bytes` });
  }
  return name;
}

// Postgres folds ASCII only in a UTF-8 database.
function foldCase(text: string): string {
  return text.replaceAll(/[A-Z]/gu, (letter) => letter.toLowerCase());
}

/** Reads a table's name, optionally with its schema. */
export function parseTable(text: string): TableName {
  const parts = TABLE.exec(text.trim())?.groups;
  if (parts?.['name'] === undefined) throw new InvalidText();
  const schema = parts['schema'];
  return {
    schema: schema === undefined ? undefined : parseIdentifier(schema),
    name: parseIdentifier(parts['name']),
  };
}

/** Writes a table's name so that Postgres reads it back as the same, whatever is in it. */
export function formatTable(table: TableName): string {
  const parts = table.schema === undefined ? [table.name] : [table.schema, table.name];
  return parts.map((part) => `"${part.replaceAll('"', '""')}"`).join('.');
}

/**
 * Reads `view_column=table_column,...`. An empty right side says that the table has no such
 * column; `bucket='name'` in single quotes is one fixed bucket.
 *
 * @throws InvalidText with the pair that is wrong.
 */
export function parseColumns(text: string): ColumnMapping {
  const given = new Map<ViewColumn, ColumnSource>();
  for (const [left, right] of splitPairs(text)) {
    const column = parseViewColumn(left);
    if (given.has(column)) throw new InvalidText({ expected: `${column} to be named once` });
    given.set(column, parseSource(column, right));
  }
  const sources = { ...RUNBOOK_COLUMNS, ...Object.fromEntries(given) };
  refuseSharedTargets(sources);
  return { text: text.trim(), sources, named: [...given.keys()] };
}

function splitPairs(text: string): readonly (readonly [left: string, right: string])[] {
  const pairs: [string, string][] = [];
  const whole = text.trim().replace(/,$/u, '');
  PAIR.lastIndex = 0;
  while (PAIR.lastIndex < whole.length) {
    const start = PAIR.lastIndex;
    const groups = PAIR.exec(whole)?.groups;
    if (groups === undefined) {
      throw new InvalidText({ expected: `view_column=table_column at "${whole.slice(start)}"` });
    }
    pairs.push([groups['left'] ?? '', groups['right'] ?? '']);
  }
  return pairs;
}

function parseViewColumn(text: string): ViewColumn {
  const column = VIEW_COLUMNS.find((name) => name === text.toLowerCase());
  if (column === undefined) {
    throw new InvalidText({
      expected: `one of ${VIEW_COLUMNS.join(', ')} left of "=", not "${text}"`,
      remedy: "The view's column stands left, the table's column right.",
    });
  }
  return column;
}

function parseSource(column: ViewColumn, text: string): ColumnSource {
  if (text === '') {
    if (!INDISPENSABLE.has(column)) return { kind: 'absent' };
    throw new InvalidText({
      expected: `a column for ${column}`,
      remedy: `A table without ${column} cannot be adopted.`,
    });
  }
  if (!text.startsWith("'")) return { kind: 'column', name: parseIdentifier(text) };
  const value = text.slice(1, -1);
  if (column === 'bucket' && isBucketName(value)) return { kind: 'constant', value };
  throw new InvalidText({
    expected: column === 'bucket' ? "a bucket's name in single quotes" : `a column for ${column}`,
    remedy: "Only bucket may be a constant, as in bucket='dpp-results'; quote columns with \".",
  });
}

/** What is written to must not be read as something else: a stamp would change when a run is due. */
function refuseSharedTargets(sources: Readonly<Record<ViewColumn, ColumnSource>>): void {
  for (const written of WRITTEN) {
    const target = sources[written];
    if (target.kind !== 'column') continue;
    const other = VIEW_COLUMNS.find((column) => {
      const source = sources[column];
      return column !== written && source.kind === 'column' && source.name === target.name;
    });
    if (other !== undefined) {
      throw new InvalidText({
        expected: `${written} and ${other} to be different columns, not both "${target.name}"`,
      });
    }
  }
}
