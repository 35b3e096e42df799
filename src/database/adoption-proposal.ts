import { codeOf } from '../errors.ts';
import {
  type ReportClient,
  type ReportLine,
  type ReportSettings,
  askReport,
  withReport,
} from './adoption-report.ts';
import { asDatabaseError, withSession } from './migration-session.ts';
import type { PasswordFile } from './password.ts';

/** A column of the view, and which of the table's it is. */
export interface ProposedColumn {
  readonly view_column: string;
  /** Null: the table has none, or a person has to say which. */
  readonly column: string | null;
  readonly type: string | null;
  /** The word of a status column that means completed. */
  readonly completed: string | null;
  /** The bucket, where it is the same for every row. */
  readonly fixed: string | null;
  /** Whether it was said in RETENTION_COLUMNS. */
  readonly is_given: boolean;
  /** Other columns that look right. */
  readonly others: readonly string[];
  /** Why a person has to say which; null: that is clear. */
  readonly problem: string | null;
  readonly note: string | null;
  /** At most three values; null: there is no column, or it may not be read. They may hold anything. */
  readonly samples: readonly string[] | null;
}

/** What a table suggests, and what stands in the way of adopting it. */
export interface TableProposal {
  readonly database: { readonly name: string; readonly user: string; readonly version: string };
  /** With its schema, in quotes where Postgres wants them; null: it was not found. */
  readonly table: string | null;
  /** Where the table was not found: those that look like one of runs, with an estimate of their rows. */
  readonly tables: readonly { readonly name: string; readonly about_rows: number }[];
  readonly columns: readonly ProposedColumn[];
  /** RETENTION_COLUMNS for it. */
  readonly mapping: string;
  /** The buckets that rows name, at most ten. */
  readonly buckets: readonly string[];
  /** Which of the roles there are. */
  readonly roles: readonly string[];
  readonly checks: readonly ReportLine[];
}

interface ProposalRow {
  readonly view_column: string;
  readonly target: {
    readonly name?: string;
    readonly completed?: string;
    readonly fixed?: string;
  } | null;
  readonly pair: string | null;
  readonly type: string | null;
  readonly is_given: boolean;
  readonly others: readonly string[];
  readonly problem: string | null;
  readonly note: string | null;
  readonly samples: readonly string[] | null;
}

/** What the look is told. */
interface ProposalSettings extends ReportSettings {
  /** How long results are kept, for the count of the trial. */
  readonly retainDays: number;
  /** The roles to look for. */
  readonly roleNames: readonly string[];
}

const INSUFFICIENT_PRIVILEGE = '42501';
const READ_ONLY = '25006';

/** What is said of a server and a role, and not of the columns. */
const WITHOUT_COLUMNS: ReadonlySet<string> = new Set(['schema', 'scheduler', 'role']);

/**
 * Looks at a table that may be adopted: proposes the mapping of its columns, tries it, and says what stands in the way.
 * Everything happens in one transaction that is rolled back.
 *
 * @throws DatabaseError
 */
export async function readTableProposal(
  databaseUrl: string,
  settings: ProposalSettings,
  passwordFile?: PasswordFile,
): Promise<TableProposal> {
  return withSession({ url: databaseUrl, passwordFile, mustWrite: false }, async (client) => {
    try {
      return await proposeFor(client, settings);
    } catch (error) {
      throw asDatabaseError(error);
    }
  });
}

async function proposeFor(
  client: ReportClient,
  settings: ProposalSettings,
): Promise<TableProposal> {
  const database = await readPlace(client);
  try {
    return await withReport(client, () => propose(client, settings, database));
  } catch (error) {
    const check = inTheWay(codeOf(error), database);
    if (check === undefined) throw error;
    const nothing = { table: null, tables: [], columns: [], buckets: [], roles: [] };
    return { database, ...nothing, mapping: settings.columns ?? '', checks: [check] };
  }
}

async function propose(
  client: ReportClient,
  settings: ProposalSettings,
  database: TableProposal['database'],
): Promise<TableProposal> {
  const { table = 'public.runs', columns = '' } = settings;
  const roles = await read<{ readonly rolname: string }>(
    client,
    'select rolname::text from pg_catalog.pg_roles where rolname = any ($1)',
    [settings.roleNames],
  );
  const common = { database, roles: roles.map(({ rolname }) => rolname) };
  const rows = await attempt(client, () =>
    read<ProposalRow>(client, 'select * from pg_temp._propose($1, $2)', [table, columns]),
  );
  if (rows === undefined) {
    const tables = await read<TableProposal['tables'][number]>(
      client,
      'select name, about_rows::float8 as about_rows from pg_temp._tables_like()',
    );
    const checks = await askReport(client, settings);
    return { ...common, tables, table: null, columns: [], mapping: columns, buckets: [], checks };
  }
  const mapping = rows
    .flatMap(({ view_column, pair }) => (pair === null ? [] : [`${view_column}=${pair}`]))
    .join(',');
  const problems = rows.flatMap((row) => problemOf(row));
  const report = await askReport(client, { ...settings, columns: mapping });
  const isClear = problems.length === 0;
  const trial = isClear && report.every(({ name }) => name !== 'table');
  return {
    ...common,
    tables: [],
    table: await readName(client, table),
    columns: rows.map((row) => columnOf(row)),
    mapping,
    buckets: trial ? await readBuckets(client, table, mapping) : [],
    checks: [
      ...problems,
      ...(await adopted(client)),
      ...(isClear ? report : report.filter(({ name }) => WITHOUT_COLUMNS.has(name))),
      ...(trial ? await tryMapping(client, table, mapping, settings.retainDays) : []),
    ],
  };
}

/** What is said of a database that has the schema already. */
async function adopted(client: ReportClient): Promise<readonly ReportLine[]> {
  return read<ReportLine>(
    client,
    `select 'adopted' as name, 'warning' as state, 'this database has the schema retention already' as found,
      'What it works with now: retention doctor; another mapping is taken over by retention migrate up.' as remedy,
      '55000' as code
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where (n.nspname, c.relname) = ('retention', 'adapter')`,
  );
}

/** Runs a statement that may fail without ending the transaction; undefined: it failed. */
async function attempt<Result>(
  client: ReportClient,
  work: () => Promise<Result>,
): Promise<Result | undefined> {
  await client.query('savepoint attempt');
  try {
    return await work();
  } catch {
    await client.query('rollback to savepoint attempt');
    return undefined;
  }
}

async function tryMapping(
  client: ReportClient,
  table: string,
  mapping: string,
  retainDays: number,
): Promise<readonly ReportLine[]> {
  try {
    return await read<ReportLine>(
      client,
      `select t.*, '55000' as code from pg_temp._try_mapping($1, $2, make_interval(days => $3)) t`,
      [table, mapping, retainDays],
    );
  } catch (error) {
    const found = `the mapping could not be tried: ${(error as Error).message}`;
    const remedy = 'Look at the mapping, and at the rights on the table.';
    return [{ name: 'trial', state: 'failed', found, remedy, code: codeOf(error) ?? '' }];
  }
}

async function readBuckets(
  client: ReportClient,
  table: string,
  mapping: string,
): Promise<readonly string[]> {
  const rows = await attempt(client, () =>
    read<{ readonly bucket: string }>(
      client,
      'select b.bucket from pg_temp._buckets_named($1, $2) as b (bucket)',
      [table, mapping],
    ),
  );
  return rows?.map(({ bucket }) => bucket) ?? [];
}

async function readPlace(client: ReportClient): Promise<TableProposal['database']> {
  const [place] = await read<TableProposal['database']>(
    client,
    `select current_database()::text as name, current_user::text as user,
      current_setting('server_version') as version`,
  );
  if (place === undefined) throw new Error('the server did not say which database this is');
  return place;
}

async function readName(client: ReportClient, table: string): Promise<string | null> {
  const [row] = await read<{ readonly name: string }>(
    client,
    `select format('%I.%I', n.nspname, c.relname) as name
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = to_regclass($1)`,
    [table],
  );
  return row?.name ?? null;
}

async function read<Row>(
  client: ReportClient,
  sql: string,
  values: unknown[] = [],
): Promise<readonly Row[]> {
  return (await client.query(sql, values)).rows as readonly Row[];
}

function columnOf(row: ProposalRow): ProposedColumn {
  const { view_column, type, is_given, others, problem, note, samples } = row;
  const { name = null, completed = null, fixed = null } = row.target ?? {};
  return {
    view_column,
    column: name,
    type,
    completed,
    fixed,
    is_given,
    others,
    problem,
    note,
    samples,
  };
}

function problemOf({ view_column, is_given, problem, target }: ProposalRow): ReportLine[] {
  if (problem === null || is_given) return [];
  const example = view_column === 'status' ? `${target?.name ?? 'state'}:done` : 'its_column';
  return [
    {
      name: `column ${view_column}`,
      state: 'failed',
      found: problem,
      remedy: `Say which: --columns ${view_column}=${example}`,
      code: '42703',
    },
  ];
}

/** What keeps a role or a server from being asked at all. */
function inTheWay(
  code: string | undefined,
  { name, user }: TableProposal['database'],
): ReportLine | undefined {
  if (code === INSUFFICIENT_PRIVILEGE) {
    return {
      name: 'temporary functions',
      state: 'failed',
      found: `role ${user} may make no temporary functions in database ${name}, and the look is made of them`,
      remedy: `grant temporary on database "${name}" to "${user}";`,
      code,
    };
  }
  if (code === READ_ONLY) {
    return {
      name: 'server',
      state: 'failed',
      found: `this session of database ${name} takes no writes, and what is tried here is written and rolled back`,
      remedy: 'Name the address of the primary.',
      code,
    };
  }
  return undefined;
}
