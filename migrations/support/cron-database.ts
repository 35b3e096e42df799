import type { MigrationBuilder } from 'node-pg-migrate';
import pg from 'pg';
import { setLimits } from './limits.ts';
import { setting } from './setting.ts';

const JOB = 'retention-tick';

interface Session {
  readonly database: string;
  readonly role: string;
  readonly is_superuser: boolean;
  readonly started: string;
}

const WHO = `select current_database() as database, current_user as role,
  (select rolsuper from pg_roles where rolname = current_user) as is_superuser,
  pg_postmaster_start_time()::text as started`;

const HANDED_OVER = Symbol.for('retention-reactor.handed-over');

/**
 * Where pg_cron lives, if it is another database and pg_cron is wanted at all. The address itself
 * stays in this process: it may hold a password, and the server may log what it is sent.
 */
export async function cronDatabaseUrl(pgm: MigrationBuilder): Promise<string | undefined> {
  const [row] = (await pgm.db.select(
    `select nullif(current_setting('retention.cron_database', true), '') as ticket,
      ${setting('scheduler', 'RETENTION_SCHEDULER', 'pg_cron')} as scheduler`,
  )) as { readonly ticket: string | null; readonly scheduler: string }[];
  if (row?.scheduler !== 'pg_cron') return undefined;
  const registry = globalThis as { readonly [HANDED_OVER]?: ReadonlyMap<string, string> };
  // Without a ticket, node-pg-migrate was started by itself.
  if (row.ticket !== null) return registry[HANDED_OVER]?.get(row.ticket);
  return process.env['CRON_DATABASE_URL'] || undefined;
}

/**
 * Looks whether jobs can be scheduled from there for here.
 *
 * @throws Error that says what is missing and what to do.
 */
export async function checkCronDatabase(pgm: MigrationBuilder, url: string): Promise<void> {
  const [here] = (await pgm.db.select(WHO)) as Session[];
  await withCronDatabase(url, async (client) => {
    const { rows } = await client.query<Session & { readonly has_cron: boolean }>(
      `${WHO}, exists (select from pg_extension where extname = 'pg_cron') as has_cron`,
    );
    const [there] = rows;
    if (there === undefined || here === undefined) throw new Error('no answer from the database');
    if (there.started !== here.started) {
      throw hinted(
        `CRON_DATABASE_URL reaches another server than the database ${here.database}`,
        'pg_cron schedules within its own server only; set RETENTION_SCHEDULER=internal instead.',
      );
    }
    if (!there.has_cron) {
      throw hinted(
        `the extension pg_cron is not created in database ${there.database} (CRON_DATABASE_URL)`,
        'As a superuser, there: create extension pg_cron; or set RETENTION_SCHEDULER=internal.',
      );
    }
    const { rows: rights } = await client.query<{ readonly may: boolean }>(
      `select coalesce(bool_or(has_function_privilege(p.oid, 'execute')), false) as may
      from pg_proc p
      join pg_namespace n on n.oid = p.pronamespace
      where n.nspname = 'cron' and p.proname = 'schedule_in_database'
        and has_schema_privilege('cron', 'usage')`,
    );
    if (rights[0]?.may !== true) {
      throw hinted(
        `role ${there.role} may not schedule jobs for other databases from ${there.database}`,
        `As a superuser, there: grant usage on schema cron to "${there.role.replaceAll('"', '""')}"; ` +
          `grant execute on all functions in schema cron to "${there.role.replaceAll('"', '""')}";`,
      );
    }
  });
}

/** Schedules the one job over there, or leaves the one that is there. */
export async function scheduleAcross(pgm: MigrationBuilder, url: string): Promise<void> {
  const [here] = (await pgm.db.select(WHO)) as Session[];
  if (here === undefined) throw new Error('no answer from the database');
  await withCronDatabase(url, async (client) => {
    const { rows } = await client.query<Session>(WHO);
    const there = rows[0];
    if (there === undefined) throw new Error('no answer from the cron database');
    const { rowCount } = await client.query(
      'select from cron.job where jobname = $1 and database = $2',
      [jobName(here.database), here.database],
    );
    if (rowCount === 0) {
      await client.query('select cron.schedule_in_database($1, $2, $3, $4, $5)', [
        jobName(here.database),
        '* * * * *',
        'select retention.tick()',
        here.database,
        there.is_superuser ? here.role : null,
      ]);
    }
    const runner = there.is_superuser ? here.role : there.role;
    await pgm.db.query(
      `update retention.adapter set cron_database = ${literal(there.database)}, ` +
        `cron_job_owner = ${literal(runner)}`,
    );
  });
}

/** Removes the job over there. */
export async function unscheduleAcross(
  pgm: MigrationBuilder,
  url: string | undefined,
  cronDatabase: string,
): Promise<void> {
  if (url === undefined) {
    throw hinted(
      `the job was scheduled from database ${cronDatabase}`,
      'Set CRON_DATABASE_URL to it, so that the job can be removed.',
    );
  }
  const [here] = (await pgm.db.select(WHO)) as Session[];
  if (here === undefined) throw new Error('no answer from the database');
  await withCronDatabase(url, async (client) => {
    await client.query(
      'select cron.unschedule(jobid) from cron.job where jobname = $1 and database = $2',
      [jobName(here.database), here.database],
    );
  });
}

/** Several databases of a server may each have a reactor; names of jobs are unique by role. */
function jobName(database: string): string {
  return `${JOB}:${database}`;
}

async function withCronDatabase(
  url: string,
  work: (client: pg.Client) => Promise<void>,
): Promise<void> {
  const client = new pg.Client({ connectionString: url, application_name: 'retention migrate' });
  try {
    await client.connect();
    await setLimits(client);
  } catch (error) {
    throw hinted(
      `cannot connect to CRON_DATABASE_URL: ${error instanceof Error ? error.message : String(error)}`,
      'Point it at the database that cron.database_name names, on the same server.',
    );
  }
  try {
    await work(client);
  } finally {
    await client.end();
  }
}

function hinted(message: string, hint: string): Error {
  return Object.assign(new Error(message), { hint });
}

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
