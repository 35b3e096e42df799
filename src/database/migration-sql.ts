import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UsageError } from '../errors.ts';
import type { MigrationSettings } from './migrations.ts';
import { MIGRATIONS, type ShippedFunctions, listMigrations, readFunctions } from './shipped-sql.ts';

/** Which migrations to print, and for which table. */
export interface MigrationSqlOptions {
  /** The first, by its number or name. Default: the first there is. */
  readonly from?: string | undefined;
  /** The last. Default: the last there is. */
  readonly to?: string | undefined;
  /** Whether the text opens and ends its transaction. Default: true; false for a tool that does. */
  readonly transaction?: boolean | undefined;
  readonly settings: MigrationSettings;
}

/**
 * What the migrations would run, as one plain SQL text for teams whose migrations are run by another tool.
 * It builds the indexes with the table locked against writes, unless they are there already: the text says
 * how to build them beforehand.
 *
 * @throws UsageError for a migration that is not there, and where pg_cron lives in another database.
 */
export async function writeMigrationSql(options: MigrationSqlOptions): Promise<string> {
  const { settings, transaction = true } = options;
  if (settings.cronDatabaseUrl !== undefined && settings.scheduler !== 'internal') {
    throw new UsageError('one SQL text cannot schedule a job in another database', {
      remedy:
        'Unset CRON_DATABASE_URL and schedule `select retention.tick()` there by hand, or run ' +
        '`retention migrate up`.',
    });
  }
  const names = await listMigrations();
  const first = positionOf(names, options.from, 0);
  const last = positionOf(names, options.to, names.length - 1);
  const chosen = names.slice(first, last + 1);
  const shipped = await readFunctions();
  const parts = await Promise.all(chosen.map((name) => write(name, chosen, shipped, settings)));
  return [
    '-- What `retention migrate up` would run. As one transaction; run it as the owner of the table.',
    ...(transaction ? ['begin;'] : []),
    BOOK_KEEPING,
    ...parts.filter((part) => part !== ''),
    ...chosen.map(
      (name) =>
        `insert into retention.pgmigrations (name, run_on)\nselect ${literal(name)}, now()\n` +
        `where not exists (select from retention.pgmigrations where name = ${literal(name)});`,
    ),
    ...(transaction ? ['commit;'] : []),
    '',
  ].join('\n\n');
}

const BOOK_KEEPING = `create schema if not exists retention;
create table if not exists retention.pgmigrations (
  id serial primary key,
  name varchar(255) not null,
  run_on timestamp not null
);`;

async function write(
  name: string,
  chosen: readonly string[],
  { files, digest }: ShippedFunctions,
  settings: MigrationSettings,
): Promise<string> {
  if (name.endsWith('_functions')) {
    // Of several only the last does anything.
    if (chosen.findLast((each) => each.endsWith('_functions')) !== name) return '';
    return [...files.map(({ sql }) => sql), installation(digest, settings)].join('\n');
  }
  if (name.endsWith('_adopt')) {
    const needed = files.filter((file) => /^0[1-3]_/u.test(file.name));
    return [...needed.map(({ sql }) => sql), adoption(settings)].join('\n');
  }
  const text = await readFile(join(MIGRATIONS, `${name}.sql`), 'utf8');
  return text.replace(/^-- Down Migration[\s\S]*$/mu, '').replace(/^-- Up Migration\n/mu, '');
}

function adoption({ table, columns, scheduler, role }: MigrationSettings): string {
  const which = literal(scheduler ?? 'pg_cron');
  const whole = `${literal(table ?? 'public.runs')}, ${literal(columns ?? '')}`;
  return `select retention._check_renamed(${literal(table ?? 'public.runs')});
select retention._check_adoption(${whole}, ${which}, false, ${literal(role ?? '')});
select retention._check_scheduler(${which}, false);
select retention._adopt(${literal(table ?? 'public.runs')}, ${literal(columns ?? '')}, ${which});

-- On a large table, build the two indexes beforehand, concurrently, and give each the comment that
-- retention._index_plan() names as its mark: what is there is left as it is.
do $$
declare
  v_adapter retention.adapter;
  v_index record;
begin
  select * into strict v_adapter from retention.adapter;
  if v_adapter.columns -> 'cleared_at' ->> 'type' is null then
    execute format(
      'alter table %s add column if not exists %I timestamptz',
      v_adapter.table_oid::regclass, v_adapter.columns -> 'cleared_at' ->> 'name'
    );
    update retention.adapter
    set columns = jsonb_set(columns, '{cleared_at,type}', '"timestamp with time zone"');
  end if;
  for v_index in select * from retention._index_plan() p where not p.is_there loop
    execute format('create index %I on %s %s', v_index.name, v_adapter.table_oid::regclass, v_index.columns);
    execute format(
      'comment on index %I.%I is %L',
      (select c.relnamespace::regnamespace::text from pg_class c where c.oid = v_adapter.table_oid),
      v_index.name,
      v_index.mark
    );
  end loop;
end
$$;`;
}

function installation(
  digest: string,
  { role, operatorRole, observerRole }: MigrationSettings,
): string {
  return `update retention.adapter
set detached_at = null,
  listener_role = coalesce(nullif(${literal(role ?? '')}, ''), listener_role),
  operator_role = coalesce(nullif(${literal(operatorRole ?? '')}, ''), operator_role),
  observer_role = coalesce(nullif(${literal(observerRole ?? '')}, ''), observer_role);
select retention._schedule_tick();
select retention._grant_rights();
select retention._note_identity();
select retention._note_gate();
insert into retention.installed (version, shipped, found)
select v.version, ${literal(digest)}, retention._digest()
from retention.version() v
on conflict (singleton) do update
set version = excluded.version,
  shipped = excluded.shipped,
  found = excluded.found,
  at = excluded.at;`;
}

function positionOf(
  names: readonly string[],
  wanted: string | undefined,
  fallback: number,
): number {
  if (wanted === undefined) return fallback;
  const position = names.findIndex((name) => name === wanted || name.split('_')[0] === wanted);
  if (position >= 0) return position;
  throw new UsageError(`there is no migration ${wanted}`, {
    remedy: `There are: ${names.join(', ')}.`,
  });
}

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
