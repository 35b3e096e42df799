import type { Queryable } from '../database/queryable.ts';
import type { Instant } from '../instant.ts';

/** What JSON carries of a setting. */
type Stored = Readonly<Record<string, string | number | boolean | null>>;

/** What became of a variable that differs from the database. */
export interface VariableOutcome {
  readonly outcome: 'applied' | 'pending' | 'ignored';
  readonly message: string;
  /** What makes it hold; null: it does. */
  readonly remedy: string | null;
}

/** A variable and the setting that it stands for; keys as in the command line's JSON. */
export interface Variable {
  readonly name: string;
  readonly variable: string;
  /** What this process was given, or else what the last process that started brought. */
  readonly value: string;
  /** What the database has. */
  readonly stored: string | null;
  readonly differs: boolean;
  /** Null: no process has brought that value when it started last. */
  readonly brought_at: Instant | null;
  /** When and by whom a person last set it; null: no person has. */
  readonly set_at: Instant | null;
  readonly set_by: string | null;
  /** Null: both are the same. */
  readonly remedy: string | null;
}

/**
 * `retention.apply_variables`: writes what a process brings when it starts, where no person has set it since.
 *
 * @throws DatabaseError
 */
export async function applyVariables(
  database: Queryable,
  variables: Stored,
): Promise<readonly VariableOutcome[]> {
  return database.query<VariableOutcome>(
    'select outcome, message, remedy from retention.apply_variables($1::jsonb)',
    [JSON.stringify(variables)],
  );
}

/**
 * `retention.variables`: variables and settings side by side.
 *
 * @param given what this process was given.
 * @throws DatabaseError
 */
export async function readVariables(
  database: Queryable,
  given: Stored,
): Promise<readonly Variable[]> {
  return database.query<Variable>(
    `select name, variable, value, stored, differs, brought_at, set_at, set_by, remedy
    from retention.variables($1::jsonb)`,
    [JSON.stringify(given)],
  );
}

/** The settings that live in the database; what is undefined keeps its value there. */
export interface DatabaseSettings {
  readonly enabled?: boolean | undefined;
  readonly retentionDays?: number | undefined;
  readonly loopIntervalSeconds?: number | undefined;
  readonly batchSize?: number | undefined;
  /** The bucket of results whose row names none: taken where there is none yet. */
  readonly defaultBucket?: string | null | undefined;
  /** How receipts that are sealed from then on keep keys. */
  readonly receiptKeys?: 'plain' | 'hashed' | undefined;
}

/**
 * `retention.configure`: sets what a person wants, and what no variable undoes. Returns one line per change.
 *
 * @throws DatabaseError
 */
export async function configure(
  database: Queryable,
  settings: DatabaseSettings,
): Promise<readonly string[]> {
  const { enabled, retentionDays, loopIntervalSeconds, batchSize, defaultBucket, receiptKeys } =
    settings;
  // JSON leaves out what is undefined, and so does configure.
  const given = {
    enabled,
    retain: retentionDays === undefined ? undefined : `${retentionDays} days`,
    loop_interval: loopIntervalSeconds === undefined ? undefined : `${loopIntervalSeconds} seconds`,
    batch_size: batchSize,
    default_bucket: defaultBucket,
    receipt_keys: receiptKeys,
  };
  const rows = await database.query<{ change: string }>(
    'select * from retention.configure($1::jsonb) as change',
    [JSON.stringify(given)],
  );
  return rows.map((row) => row.change);
}
