import type { MigrationBuilder } from 'node-pg-migrate';
import { cronDatabaseUrl, scheduleAcross, unscheduleAcross } from './cron-database.ts';
import { withAllLocks } from './live-table.ts';
import { setting } from './setting.ts';
import { readFunction, readFunctions } from './shipped.mjs';

/** What names no type of the adopted table, and so can be there before it is adopted. */
const ADOPTION = /^0[1-3]_/u;

/** What a function or view of another shape is in the way of, and a drop solves. */
const OTHER_SHAPE = new Set(['42P13', '42P16', '42723', '2BP01', '42804']);

/** Everything of the schema that is done and not kept, as one statement drops it. */
const DROP_ALL = `do $$
declare
  v_object text;
begin
  for v_object in
    select format('trigger %I on %s', t.tgname, t.tgrelid::regclass)
    from pg_trigger t
    join pg_class c on c.oid = t.tgrelid
    where c.relnamespace = 'retention'::regnamespace
      and not t.tgisinternal
  loop
    execute 'drop ' || v_object;
  end loop;
  select 'view ' || string_agg(c.oid::regclass::text, ', ')
  into v_object
  from pg_class c
  where c.relnamespace = 'retention'::regnamespace
    and c.relkind = 'v';
  if v_object is not null then
    execute 'drop ' || v_object;
  end if;
  select 'function ' || string_agg(p.oid::regprocedure::text, ', ')
  into v_object
  from pg_proc p
  where p.pronamespace = 'retention'::regnamespace;
  if v_object is not null then
    execute 'drop ' || v_object;
  end if;
end
$$`;

/** Every function, view and trigger of the schema, with the mark of the transaction that wrote it last. */
const WRITTEN = `select format('function %s', p.oid::regprocedure) as name, p.xmin::text as mark, 3 as place
  from pg_proc p
  where p.pronamespace = 'retention'::regnamespace
  union all
  select format('view %s', c.oid::regclass), r.xmin::text, 2
  from pg_class c
  join pg_rewrite r on r.ev_class = c.oid
  where c.relnamespace = 'retention'::regnamespace and c.relkind = 'v'
  union all
  select format('trigger %I on %s', t.tgname, t.tgrelid::regclass), t.xmin::text, 1
  from pg_trigger t
  join pg_class c on c.oid = t.tgrelid
  where c.relnamespace = 'retention'::regnamespace and not t.tgisinternal
  order by 3, 1`;

interface Written {
  readonly name: string;
  readonly mark: string;
}

/** Installs what adopting a table needs. */
export async function installAdoption(pgm: MigrationBuilder): Promise<void> {
  await run(pgm, (name) => ADOPTION.test(name));
}

/**
 * Installs functions, views, triggers, rights and the job as they are today, in the migration's
 * transaction. What is no longer shipped goes; where something has another shape than before, all of it is
 * dropped first.
 */
export async function installFunctions(pgm: MigrationBuilder): Promise<void> {
  await withAllLocks(pgm, () => replaceFunctions(pgm));
  const role = setting('role', 'RETENTION_ROLE', '');
  const operator = setting('operator_role', 'RETENTION_OPERATOR_ROLE', '');
  const observer = setting('observer_role', 'RETENTION_OBSERVER_ROLE', '');
  await pgm.db.query(
    // What this session began with, whatever the runner has set: the application's triggers expect no other.
    `update retention.adapter
    set detached_at = null,
      application_path = coalesce(application_path, (
        select reset_val from pg_catalog.pg_settings where name = 'search_path'
      )),
      listener_role = coalesce(nullif(${role}, ''), listener_role),
      operator_role = coalesce(nullif(${operator}, ''), operator_role),
      observer_role = coalesce(nullif(${observer}, ''), observer_role)`,
  );
  const cronUrl = await cronDatabaseUrl(pgm);
  if (cronUrl === undefined) await pgm.db.query('select retention._schedule_tick()');
  else await scheduleAcross(pgm, cronUrl);
  await pgm.db.query('select retention._grant_rights()');
  await pgm.db.query('select retention._note_identity()');
  await pgm.db.query('select retention._note_gate()');
  await pgm.db.query(
    `insert into retention.installed (version, shipped, found)
    select v.version, '${readFunctions().digest}', retention._digest()
    from retention.version() v
    on conflict (singleton) do update
    set version = excluded.version,
      shipped = excluded.shipped,
      found = excluded.found,
      at = excluded.at`,
  );
}

async function replaceFunctions(pgm: MigrationBuilder): Promise<void> {
  const before = (await pgm.db.select(WRITTEN)) as Written[];
  await pgm.db.query('savepoint functions');
  try {
    await run(pgm);
    const unwritten = new Set(before.map(({ name, mark }) => `${name} ${mark}`));
    const stale = ((await pgm.db.select(WRITTEN)) as Written[]).filter(({ name, mark }) =>
      unwritten.has(`${name} ${mark}`),
    );
    for (const { name } of stale) await pgm.db.query(`drop ${name}`);
  } catch (error) {
    if (!OTHER_SHAPE.has((error as { readonly code?: string }).code ?? '')) throw error;
    await pgm.db.query('rollback to savepoint functions');
    await dropFunctions(pgm);
    await run(pgm);
  }
}

/** Takes the job away and leaves what adopting a table has installed. */
export async function uninstallFunctions(pgm: MigrationBuilder): Promise<void> {
  const [adapter] = (await pgm.db.select('select cron_database from retention.adapter')) as {
    readonly cron_database: string | null;
  }[];
  const elsewhere = adapter?.cron_database ?? undefined;
  if (elsewhere === undefined) {
    // Where it has been dropped by hand, it is there again for this.
    await pgm.db.query(readFunction('18_schedule.sql'));
    await pgm.db.query('select retention._unschedule_tick()');
  } else {
    await unscheduleAcross(pgm, await cronDatabaseUrl(pgm), elsewhere);
  }
  await dropFunctions(pgm);
  await dropOwnIndexes(pgm);
  await installAdoption(pgm);
  await pgm.db.query('delete from retention.installed');
}

async function dropOwnIndexes(pgm: MigrationBuilder): Promise<void> {
  const made = readFunction('04_own_indexes.sql').matchAll(
    /^create (?:unique )?index if not exists (\w+)/gmu,
  );
  for (const [, name] of made) await pgm.db.query(`drop index if exists retention.${name}`);
}

/** Drops every function, view and trigger of the schema. */
export async function dropFunctions(pgm: MigrationBuilder): Promise<void> {
  await pgm.db.query(DROP_ALL);
}

async function run(pgm: MigrationBuilder, wanted: (name: string) => boolean = () => true) {
  for (const { name, sql } of readFunctions().files) {
    if (wanted(name)) await pgm.db.query(sql);
  }
}
