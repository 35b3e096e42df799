import { DatabaseError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { readFunctions } from './shipped-sql.ts';

/** The arguments of the report on a table, as in `MigrationSettings`. */
export interface ReportSettings {
  readonly table?: string | undefined;
  readonly columns?: string | undefined;
  readonly scheduler?: 'pg_cron' | 'internal' | undefined;
  readonly cronDatabaseUrl?: string | undefined;
  readonly role?: string | undefined;
  readonly operatorRole?: string | undefined;
  readonly observerRole?: string | undefined;
}

/** What the report needs of a session of pg. */
export interface ReportClient {
  query(sql: string, values?: unknown[]): Promise<{ readonly rows: readonly unknown[] }>;
}

/** One line of the report; the keys are those of a check of the doctor. */
export interface ReportLine {
  readonly name: string;
  readonly state: 'ok' | 'warning' | 'failed';
  readonly found: string;
  readonly remedy: string | null;
  /** The SQLSTATE that a migration would raise. */
  readonly code: string;
}

/** What the report consists of, and what it calls. */
const REPORT = /^0(?:2_columns|2_table|3_proposal|3_report|3_trial|3_unsupported)\.sql$/u;

const INSUFFICIENT_PRIVILEGE = '42501';

/**
 * The report on the table that is to be adopted, failed lines first. It needs no schema and leaves nothing: its
 * functions are temporary, in a transaction that is rolled back. No line where the role may make none.
 */
export async function reportOn(
  client: ReportClient,
  settings: ReportSettings,
): Promise<readonly ReportLine[]> {
  try {
    return await withReport(client, () => askReport(client, settings));
  } catch (error) {
    if ((error as { readonly code?: string }).code === INSUFFICIENT_PRIVILEGE) return [];
    throw error;
  }
}

/**
 * Has the functions of the report for as long as `work` takes: as temporary ones (`pg_temp._report`), in a transaction
 * that is rolled back.
 */
export async function withReport<Result>(
  client: ReportClient,
  work: () => Promise<Result>,
): Promise<Result> {
  const { files } = await readFunctions();
  await client.query('begin');
  try {
    await client.query('set local check_function_bodies = off');
    for (const { name, sql } of files) {
      if (REPORT.test(name)) await client.query(sql.replaceAll('retention._', 'pg_temp._'));
    }
    return await work();
  } finally {
    await client.query('rollback');
  }
}

/** Asks for the report, inside {@link withReport}. */
export async function askReport(
  client: ReportClient,
  { table, columns, scheduler, cronDatabaseUrl, role, operatorRole, observerRole }: ReportSettings,
): Promise<readonly ReportLine[]> {
  const { rows } = await client.query('select * from pg_temp._report($1, $2, $3, $4, $5, $6, $7)', [
    table ?? 'public.runs',
    columns ?? '',
    scheduler ?? 'pg_cron',
    cronDatabaseUrl !== undefined,
    role ?? '',
    operatorRole ?? '',
    observerRole ?? '',
  ]);
  return rows as readonly ReportLine[];
}

/**
 * Before the first migration: reports what is odd, and throws with all obstacles if there are any.
 *
 * @throws DatabaseError
 */
export async function lookBefore(
  client: ReportClient,
  settings: ReportSettings,
  logger: Logger,
): Promise<void> {
  const { rows } = await client.query(
    `select to_regclass('retention.adapter') is not null as "isThere"`,
  );
  const [row] = rows as readonly { readonly isThere: boolean }[];
  if (row?.isThere === true) return;
  const report = await reportOn(client, settings);
  // A collation whose version has changed is as bad without us; doctor goes on saying it.
  const failed = report.filter(({ state, name }) => state === 'failed' && name !== 'collation');
  for (const line of report) {
    if (line.state === 'warning') logger.warning(describeLine(line));
  }
  const [first] = failed;
  if (first === undefined) return;
  throw new DatabaseError(failed.map(({ found }) => found).join('; '), {
    sqlState: first.code,
    remedy: failed.map(({ remedy }) => remedy).join(' '),
  });
}

function describeLine({ name, found, remedy }: ReportLine): string {
  return remedy === null ? `${name}: ${found}` : `${name}: ${found}. ${remedy}`;
}
