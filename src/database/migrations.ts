import { randomUUID } from 'node:crypto';
import { type RunnerOption, runner } from 'node-pg-migrate';
import type pg from 'pg';
import { pause } from '../lifecycle/pause.ts';
import type { Logger } from '../logger.ts';
import { MIGRATIONS, listMigrations, readFunctions } from './shipped-sql.ts';
import { type ReportLine, lookBefore, reportOn } from './adoption-report.ts';
import { addressWithPassword } from './connection.ts';
import { asDatabaseError, withSession } from './migration-session.ts';
import type { PasswordFile } from './password.ts';
import type { Queryable } from './queryable.ts';

/** What the migrations are told, beside the database's address. */
export interface MigrationSettings {
  /** The application's table, as in RETENTION_TABLE. */
  readonly table?: string | undefined;
  /** Its columns, as in RETENTION_COLUMNS. */
  readonly columns?: string | undefined;
  readonly scheduler?: 'pg_cron' | 'internal' | undefined;
  readonly cronDatabaseUrl?: string | undefined;
  /** Gets the listener's rights. */
  readonly role?: string | undefined;
  /** Gets the operators' rights. */
  readonly operatorRole?: string | undefined;
  /** Gets the observers' rights. */
  readonly observerRole?: string | undefined;
}

/** A run of the migrations. */
export interface MigrationOptions {
  readonly databaseUrl: string;
  /** Read for addresses without a password. */
  readonly passwordFile?: PasswordFile | undefined;
  readonly direction: 'up' | 'down';
  /** How many migrations. Default: all. */
  readonly count?: number | undefined;
  readonly settings?: MigrationSettings | undefined;
  readonly logger: Logger;
}

/** Which migrations a database has. */
export interface MigrationState {
  readonly applied: readonly { readonly name: string; readonly at: Date }[];
  readonly pending: readonly string[];
  /** Applied by a newer version than this. */
  readonly unknown: readonly string[];
}

/** A key of this program: all users of node-pg-migrate share its default. */
export const MIGRATION_LOCK = 7_303_801_452_117_906;

const SCHEMA = 'retention';
const HANDED_OVER = Symbol.for('retention-reactor.handed-over');
const TABLE = 'pgmigrations';

const UNDEFINED_FUNCTION = '42883';
const UNDEFINED_RELATION = '42P01';

/** A migration waits for locks in its own way and builds indexes on large tables. */

const LOCK_RETRY_MILLISECONDS = 250;

/**
 * Runs the migrations up or down and returns the names of those that ran. A second run at the same
 * time waits for the first. When nothing of the schema is left, the schema goes as well.
 *
 * @throws DatabaseError with what was looked for, what was found and which setting to change; then
 * nothing of the run is left.
 */
export async function runMigrations(options: MigrationOptions): Promise<readonly string[]> {
  const { databaseUrl, passwordFile, settings } = options;
  const cronUrl = settings?.cronDatabaseUrl;
  const ticket = registerAddress(cronUrl && (await addressWithPassword(cronUrl, passwordFile)));
  try {
    return await withSession({ url: databaseUrl, passwordFile, mustWrite: true }, (client) =>
      runIn(client, options, ticket),
    );
  } finally {
    addresses.delete(ticket);
  }
}

/** pg_cron looks at its jobs once a second; this is between two looks. */
const BETWEEN_LOOKS_MILLISECONDS = 1_500;

/**
 * Says once more that there is a job. pg_cron 1.4 takes no notice of a job that is committed while it reads its list, and
 * does not run it before the list changes again.
 */
async function scheduleAgain(client: pg.Client): Promise<void> {
  const { rowCount } = await client.query(
    `select from retention.adapter where scheduler = 'pg_cron' and cron_database is null`,
  );
  if (rowCount === 0) return;
  await pause(BETWEEN_LOOKS_MILLISECONDS);
  await client.query('select retention._schedule_tick()');
}

async function runIn(
  client: pg.Client,
  options: MigrationOptions,
  ticket: string,
): Promise<readonly string[]> {
  await setSessionSettings(client, options.settings ?? {}, ticket);
  await acquireLock(client, options.logger);
  try {
    if (options.direction === 'up')
      await lookBefore(client, options.settings ?? {}, options.logger);
    const ran = (await runner(runnerOptions(client, options))).map(({ name }) => name);
    if (options.direction === 'down' || options.count !== undefined) return ran;
    const repeated = await forgetWhatDiffers(client, options);
    if (repeated.length > 0) await runner(runnerOptions(client, options));
    if (ran.some((name) => name.startsWith('0001'))) await scheduleAgain(client);
    return [...ran, ...repeated.filter((name) => !ran.includes(name))];
  } catch (error) {
    throw asDatabaseError(error);
  } finally {
    await dropEmptySchema(client);
  }
}

/**
 * The report on the table that is to be adopted, or was.
 *
 * @throws DatabaseError
 */
export async function readAdoptionReport(
  databaseUrl: string,
  settings: MigrationSettings,
  passwordFile?: PasswordFile,
): Promise<readonly ReportLine[]> {
  return withSession({ url: databaseUrl, passwordFile, mustWrite: false }, async (client) => {
    try {
      return await reportOn(client, settings);
    } catch (error) {
      throw asDatabaseError(error);
    }
  });
}

/**
 * Addresses with a password for the migrations of this process, by ticket. The server may log the
 * settings of a session, so they hold the ticket alone. Another loader loads the migrations, so they
 * share no module with this one.
 */
const registry = globalThis as { [HANDED_OVER]?: Map<string, string> };
const addresses = (registry[HANDED_OVER] ??= new Map());

function registerAddress(address: string | undefined): string {
  const ticket = randomUUID();
  if (address !== undefined) addresses.set(ticket, address);
  return ticket;
}

/**
 * Which migrations a database has and which it lacks.
 *
 * @throws DatabaseError
 */
export async function readMigrationState(
  databaseUrl: string,
  passwordFile?: PasswordFile,
): Promise<MigrationState> {
  return withSession({ url: databaseUrl, passwordFile, mustWrite: false }, async (client) => {
    const { rows: places } = await client.query<{ exists: boolean }>(
      `select to_regclass($1) is not null as exists`,
      [`${SCHEMA}.${TABLE}`],
    );
    const applied =
      places[0]?.exists !== true
        ? []
        : (
            await client.query<{ name: string; at: Date }>(
              `select name, run_on at time zone current_setting('timezone') as at
              from ${SCHEMA}.${TABLE} order by id`,
            )
          ).rows;
    const known = await listMigrations();
    const names = applied.map(({ name }) => name);
    return {
      applied,
      pending: known.filter((name) => !names.includes(name)),
      unknown: names.filter((name) => !known.includes(name)),
    };
  });
}

/**
 * Compares what is installed with what is shipped, and lets the runner forget the migrations that make it so:
 * they are written to be run again. Returns their names.
 */
async function forgetWhatDiffers(
  client: pg.Client,
  { settings = {}, logger }: MigrationOptions,
): Promise<readonly string[]> {
  const { table = 'public.runs', columns = '', scheduler = 'pg_cron', role = '' } = settings;
  const { operatorRole = '', observerRole = '' } = settings;
  const differs = await readDifferences(client, [
    (await readFunctions()).digest,
    table,
    columns,
    scheduler,
    role,
    operatorRole,
    observerRole,
  ]);
  if (differs.length === 0) return [];
  logger.info(`Bringing the schema up to date: ${differs.join('; ')}`);
  const first = differs.some((difference) => difference.startsWith('table')) ? '0002' : '0003';
  const { rows } = await client.query<{ name: string }>(
    `delete from ${SCHEMA}.${TABLE}
    where left(name, 4) >= $1 and name ~ '^(0002_adopt|[0-9]+_functions)$'
    returning name`,
    [first],
  );
  return rows.map(({ name }) => name).toSorted();
}

async function readDifferences(
  client: pg.Client,
  parameters: readonly string[],
): Promise<readonly string[]> {
  try {
    const { rows } = await client.query<{ differs: string[] }>(
      'select retention._differs($1, $2, $3, $4, $5, $6, $7) as differs',
      [...parameters],
    );
    return rows[0]?.differs ?? [];
  } catch (error) {
    // A function of the schema is not there, or not as this release knows it.
    const { code = '' } = error as { readonly code?: string };
    if (code === UNDEFINED_FUNCTION || code === UNDEFINED_RELATION) {
      return ['table, functions: something is missing'];
    }
    throw error;
  }
}

/**
 * Reads a mapping of columns as `migrate up` would; the schema's own function has the grammar.
 *
 * @throws DatabaseError with invalid_parameter_value when it cannot be read, and what any statement
 * may throw, also where the schema is not there.
 */
export async function checkColumns(database: Queryable, columns: string): Promise<void> {
  await database.query('select retention._parse_columns($1)', [columns]);
}

function runnerOptions(client: pg.Client, options: MigrationOptions): RunnerOption {
  const { logger } = options;
  return {
    dbClient: client,
    dir: MIGRATIONS,
    direction: options.direction,
    count: options.count ?? Number.POSITIVE_INFINITY,
    schema: 'public',
    migrationsSchema: SCHEMA,
    createMigrationsSchema: true,
    migrationsTable: TABLE,
    noLock: true,
    singleTransaction: true,
    verbose: false,
    logger: {
      info: (message) => logger.debug(message),
      warn: (message) => logger.debug(message),
      // Errors are thrown, and the caller reports them once.
      error: (message) => logger.debug(message),
    },
  };
}

/**
 * One run at a time. Polled, since one long statement that waits for the lock would block the run
 * that has it: building an index concurrently waits for every older statement.
 */
async function acquireLock(client: pg.Client, logger: Logger): Promise<void> {
  for (let isFirst = true; ; isFirst = false) {
    const { rows } = await client.query<{ acquired: boolean }>(
      'select pg_try_advisory_lock($1) as acquired',
      [MIGRATION_LOCK],
    );
    if (rows[0]?.acquired === true) return;
    if (isFirst) logger.info('Another migration is running; waiting for it');
    await pause(LOCK_RETRY_MILLISECONDS);
  }
}

/** The migrations read these of their session before they look at the environment. */
async function setSessionSettings(
  client: pg.Client,
  settings: MigrationSettings,
  ticket: string,
): Promise<void> {
  const { table, columns, scheduler, role } = settings;
  const { operatorRole: operator_role, observerRole: observer_role } = settings;
  const given = {
    table,
    columns,
    scheduler,
    cron_database: ticket,
    role,
    operator_role,
    observer_role,
  };
  for (const [name, value] of Object.entries({ ...given, by_library: 'on' })) {
    await client.query('select set_config($1, $2, false)', [`retention.${name}`, value ?? '']);
  }
}

/** The runner makes schema and table before the first migration; after a failed run they go again. */
async function dropEmptySchema(client: pg.Client): Promise<void> {
  try {
    await client.query(
      `do $$
      begin
        if to_regclass('${SCHEMA}.${TABLE}') is not null
          and not exists (select from ${SCHEMA}.${TABLE})
        then
          drop table ${SCHEMA}.${TABLE};
          drop schema ${SCHEMA};
        end if;
      end
      $$`,
    );
  } catch {
    // Objects of the application, or another run of the migrations, live there: then it stays.
  }
}
