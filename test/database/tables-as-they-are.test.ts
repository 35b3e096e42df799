import pg from 'pg';
import { expect, test } from 'vitest';
import { readAdoptionReport } from '../../src/database/migrations.ts';
import { runsTableSql } from '../stack/runs-table.ts';
import { type TestDatabase, describeDatabase, runningPostgres } from '../support/database.ts';
import { hasSchema, migrate, withDatabase } from '../support/migrating.ts';
import { migrateUp } from '../support/migrated.ts';
import { until } from '../support/until.ts';

const INSERT = `insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
  select 'acme', 'COMPLETED', now() - interval '40 days', 'b', 'key ' || n from generate_series(1, 3) n`;

const SWAP = `alter table runs rename to runs_old;
  create table runs (like runs_old including all);
  insert into runs select * from runs_old`;

/** About 3,500 characters that do not compress. */
const LONG = `(select string_agg(md5(n::text || random()::text), '') from generate_series(1, 110) n)`;

const reasons = async ({ query }: TestDatabase): Promise<string[]> =>
  (await query<{ reason: string }>('select reason from retention.gate()')).map(
    ({ reason }) => reason,
  );

const flag = async ({ one }: TestDatabase): Promise<number> =>
  (await one<{ flagged: number }>('select retention.flag_expired(p_whole => true) as flagged'))
    .flagged;

interface Leased {
  readonly batch_id: string;
  readonly keys: string[];
  readonly lease: string;
}

async function claim({ query }: TestDatabase): Promise<Leased | undefined> {
  const lease = crypto.randomUUID();
  const [row] = await query<{ batch_id: string; keys: string[] }>(
    `select batch_id, keys from retention.claim($1, '1 minute')`,
    [lease],
  );
  return row === undefined ? undefined : { ...row, lease };
}

const stamped = async ({ one }: TestDatabase, table: string): Promise<number> =>
  (await one<{ n: number }>(`select count(result_cleared_at)::int as n from ${table}`)).n;

const report = async (
  { url }: Pick<TestDatabase, 'url'>,
  settings: { readonly table?: string; readonly columns?: string } = {},
): Promise<Record<string, string>> => {
  const lines = await readAdoptionReport(url, { scheduler: 'internal', ...settings });
  return Object.fromEntries(
    lines.map(({ name, state, found, remedy }) => [name, `${state}: ${found}. ${remedy ?? ''}`]),
  );
};

describeDatabase('a table that is swapped by rename', () => {
  test('while a batch is in flight: its stamp lands in neither, and comes after migrate up', async () => {
    await withDatabase(async (database) => {
      const { query } = database;
      await query(INSERT);
      await migrateUp(database.url);
      await flag(database);
      const held = await claim(database);
      await query(`begin; ${SWAP}; commit`);
      expect(await reasons(database)).toContain('table replaced');
      const settle = query('select * from retention.settle($1, $2, p_all => true)', [
        held?.batch_id,
        held?.lease,
      ]);
      await settle.catch(() => undefined);
      expect(await stamped(database, 'runs_old')).toBe(0);
      expect(await stamped(database, 'runs')).toBe(0);
      await migrateUp(database.url);
      expect(await reasons(database)).toEqual([]);
      await query(`update retention.batch set visible_at = now() where settled_at is null`);
      // S3 has deleted it: it is only stamped.
      expect(await claim(database)).toBeUndefined();
      await query('select retention.stamp_again()');
      expect(await stamped(database, 'runs_old')).toBe(0);
      expect(await stamped(database, 'runs')).toBe(3);
    });
  });

  test('while a stamp waits for its lock: the stamp lands in neither', async () => {
    await withDatabase(async (database) => {
      const { query, one } = database;
      await query(INSERT);
      await migrateUp(database.url);
      await flag(database);
      const held = await claim(database);
      const application = await database.connect();
      await application.query(`begin; ${SWAP}`);
      const settle = query('select * from retention.settle($1, $2, p_all => true)', [
        held?.batch_id,
        held?.lease,
      ]).catch((error: unknown) => error);
      await until(
        'the stamp waits',
        async () =>
          (
            await one<{ n: number }>(
              `select count(*)::int as n from pg_locks l join pg_database d on d.oid = l.database
              where not l.granted and d.datname = current_database()`,
            )
          ).n > 0,
      );
      await application.query('commit');
      await settle;
      expect(await stamped(database, 'runs_old')).toBe(0);
      expect(await stamped(database, 'runs')).toBe(0);
    });
  });

  test('and back: work goes on by itself', async () => {
    await withDatabase(async (database) => {
      const { query } = database;
      await query(INSERT);
      await migrateUp(database.url);
      await query('alter table runs rename to runs_old');
      expect(await reasons(database)).toEqual(['table replaced']);
      expect(await flag(database)).toBe(0);
      await query('alter table runs_old rename to runs');
      expect(await reasons(database)).toEqual([]);
      expect(await flag(database)).toBe(3);
    });
  });

  test('dropped with cascade and restored: migrate up adopts it again, holds and policies kept', async () => {
    await withDatabase(async (database) => {
      const { query, one } = database;
      await query(INSERT);
      await migrateUp(database.url);
      await query(`select retention.set_policy('acme', '90 days')`);
      const { run_id: held } = await one<{ run_id: string }>('select run_id from runs limit 1');
      await query(`select retention.place_hold('audit', $1)`, [held]);
      await query(`create table backup as select * from runs; drop table runs cascade`);
      expect(await reasons(database)).not.toEqual([]);
      await expect(migrateUp(database.url)).rejects.toThrow('public.runs was not found');
      await query(
        `create table runs (like backup, primary key (run_id)); insert into runs select * from backup`,
      );
      expect(await flag(database)).toBe(0);
      await migrateUp(database.url);
      expect(await reasons(database)).toEqual([]);
      await query(`select retention.unset_policy('acme', true)`);
      expect(await flag(database)).toBe(2);
      expect(await migrate(database, 'up')).toEqual([]);
    });
  });

  test('under another mapping than before: adopted, not ignored', async () => {
    await withDatabase(async (database) => {
      const { query } = database;
      await query(INSERT);
      await query(
        `alter table runs add column state text; update runs set state = 'done' where result_s3_key = 'key 1'`,
      );
      await migrateUp(database.url);
      await migrateUp(database.url, { columns: 'status=state:done' });
      expect(await flag(database)).toBe(1);
      await expect(migrateUp(database.url, { columns: 'status=nothing:done' })).rejects.toThrow(
        'status: looked for column nothing',
      );
      expect(await reasons(database)).toEqual([]);
    });
  });
});

const NO_TABLES: [what: string, sql: string, table: string, message: RegExp, remedy: RegExp][] = [
  [
    'a view',
    'create view other as select * from runs',
    'public.other',
    /is not a table but a view/u,
    /plain or partitioned/u,
  ],
  [
    'a materialized view',
    'create materialized view other as select * from runs',
    'public.other',
    /materialized view/u,
    /plain or partitioned/u,
  ],
  [
    'a sequence',
    'create sequence other',
    'public.other',
    /is not a table/u,
    /plain or partitioned/u,
  ],
  [
    'a partition',
    'create table whole (like runs, primary key (run_id)) partition by hash (run_id); create table other partition of whole for values with (modulus 1, remainder 0)',
    'public.other',
    /is a part of whole/u,
    /RETENTION_TABLE=whole/u,
  ],
  [
    'an inheriting table',
    'create table other () inherits (runs)',
    'public.other',
    /is a part of runs/u,
    /RETENTION_TABLE=runs/u,
  ],
  [
    'a table that others inherit from',
    'create table other () inherits (runs)',
    'public.runs',
    /tables that inherit from it/u,
    /no inherit/u,
  ],
  [
    'an index that is not valid over its ids',
    `alter table runs drop constraint runs_pkey; create unique index other on runs (run_id); update pg_index set indisvalid = false where indexrelid = 'other'::regclass`,
    'public.runs',
    /no primary key or unique index/u,
    /Make the run id unique/u,
  ],
  [
    'a generated cleared-at column',
    'alter table runs drop column result_cleared_at, add column result_cleared_at timestamptz generated always as (completed_at) stored',
    'public.runs',
    /result_cleared_at is generated: it cannot be written/u,
    /RETENTION_COLUMNS/u,
  ],
  [
    'a generated updated-at column',
    'alter table runs drop column updated_at, add column updated_at timestamptz generated always as (completed_at) stored',
    'public.runs',
    /updated_at is generated/u,
    /RETENTION_COLUMNS/u,
  ],
  [
    'a cleared-at column that is never null',
    'alter table runs drop column result_cleared_at, add column result_cleared_at timestamptz not null default now()',
    'public.runs',
    /is not null, so every run counts as cleared/u,
    /RETENTION_COLUMNS/u,
  ],
  [
    'an enum status without COMPLETED',
    `create type state as enum ('done', 'open'); alter table runs alter column status type state using 'done'`,
    'public.runs',
    /is an enum without 'COMPLETED'; it has done, open/u,
    /RETENTION_COLUMNS/u,
  ],
  [
    'a key of type citext',
    'create extension citext; alter table runs alter column result_s3_key type citext',
    'public.runs',
    /result_s3_key is of type public.citext, text is needed/u,
    /RETENTION_COLUMNS/u,
  ],
  [
    'a key of a fixed length',
    'alter table runs alter column result_s3_key type character(200)',
    'public.runs',
    /result_s3_key is of type character\(200\), text is needed/u,
    /RETENTION_COLUMNS/u,
  ],
  [
    'a time for a date',
    'alter table runs drop column completed_at, add column completed_at time',
    'public.runs',
    /a timestamp is needed/u,
    /RETENTION_COLUMNS/u,
  ],
  [
    'a run without an id',
    `alter table runs drop constraint runs_pkey, alter column run_id drop not null, add unique (run_id); insert into runs (run_id, tenant_id, status) values (null, 'a', 'RUNNING')`,
    'public.runs',
    /some row of public.runs has no run_id/u,
    /set not null/u,
  ],
  [
    'the same id in two monthly partitions',
    `create table monthly (like runs, month int not null, primary key (run_id, month)) partition by list (month);
    create table monthly_1 partition of monthly for values in (1); create table monthly_2 partition of monthly for values in (2);
    insert into monthly (run_id, tenant_id, status, created_at, updated_at, month)
    select 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'a', 'RUNNING', now(), now(), n from generate_series(1, 2) n`,
    'public.monthly',
    /have the same run_id, at least these among the first 2 rows: a0eebc99/u,
    /id of its own/u,
  ],
  [
    'a published table without a replica identity',
    'alter table runs replica identity nothing; create publication feed for table runs',
    'public.runs',
    /feed publishes updates of public.runs, which has no replica identity/u,
    /replica identity full/u,
  ],
  [
    'a table that a subscription fills',
    `create subscription feed connection '' publication feed with (connect = false, slot_name = none);
    insert into pg_subscription_rel (srsubid, srrelid, srsubstate) select oid, 'runs'::regclass, 'r' from pg_subscription where subname = 'feed'`,
    'public.runs',
    /is filled by subscription feed/u,
    /database that publishes/u,
  ],
];

describeDatabase(
  'a table that cannot be adopted is refused in one sentence, and nothing is left',
  () => {
    test.each(NO_TABLES)('%s', async (_, sql, table, message, remedy) => {
      await withDatabase(async (database) => {
        await database.query(sql);
        try {
          await expect(migrateUp(database.url, { table })).rejects.toMatchObject({
            message: expect.stringMatching(message) as string,
            remedy: expect.stringMatching(remedy) as string,
          });
          expect(await hasSchema(database)).toBe(false);
          expect(Object.values(await report(database, { table })).join('\n')).toMatch(message);
        } finally {
          await database.query(`do $$ begin if exists (select from pg_subscription where subname = 'feed'
          and subdbid = (select oid from pg_database where datname = current_database())) then
          drop subscription feed; end if; end $$`);
        }
      });
    });

    test('whether an index makes sure of the run ids is said before and after', async () => {
      await withDatabase(async (database) => {
        expect((await report(database))['run ids']).toBe('ok: run_id tells every run apart. ');
        await database.query(`create table monthly (like runs, primary key (run_id, created_at)) partition by range (created_at);
          create table monthly_all partition of monthly for values from (minvalue) to (maxvalue)`);
        const table = 'public.monthly';
        const said =
          /^ok: run_id tells the 0 rows apart that were looked at; no index makes sure of the others/u;
        expect((await report(database, { table }))['run ids']).toMatch(said);
        await migrateUp(database.url, { table });
        expect((await report(database, { table }))['run ids']).toMatch(said);
      });
    });

    test('several faults are said together', async () => {
      await withDatabase(async (database) => {
        await database.query(
          `alter table runs drop constraint runs_pkey; alter table runs rename column result_s3_key to k`,
        );
        await expect(
          migrateUp(database.url, { role: 'nobody_of_that_name' }),
        ).rejects.toMatchObject({
          message: expect.stringMatching(
            /nobody_of_that_name.*looked for column result_s3_key/su,
          ) as string,
        });
        const { table = '' } = await report(database, { columns: 'key=k' });
        expect(table).toContain('no primary key or unique index');
      });
    });
  },
);

const ODDITIES: [what: string, sql: string, name: string, said: RegExp][] = [
  [
    'statuses in lower case',
    `${INSERT}; update runs set status = 'completed'`,
    'statuses',
    /^warning: no row with an object is COMPLETED.*completed \(3\).*status=status:completed/u,
  ],
  ['the status that is mapped', INSERT, 'statuses', /^ok: 3 of 3 rows/u],
  [
    'keys that are addresses',
    `${INSERT}; update runs set result_s3_key = 's3://b/' || result_s3_key`,
    'keys',
    /^warning: among 3: 3 are addresses/u,
  ],
  [
    'signed addresses',
    `${INSERT}; update runs set result_s3_key = 'https://b.example/k?X-Amz-Signature=verysecret'`,
    'keys',
    /^warning: among 3: 3 are addresses(?!.*verysecret)/u,
  ],
  [
    'keys with a leading slash',
    `${INSERT}; update runs set result_s3_key = '/' || result_s3_key`,
    'keys',
    /3 begin with a slash/u,
  ],
  ['empty keys', `${INSERT}; update runs set result_s3_key = ''`, 'keys', /3 are empty/u],
  [
    'keys that S3 cannot hold',
    `${INSERT}; update runs set result_s3_key = ${LONG}`,
    'keys',
    /3 have more than the 1,024 bytes/u,
  ],
  [
    'an id that may be null',
    'alter table runs drop constraint runs_pkey, alter column run_id drop not null, add unique (run_id)',
    'run ids',
    /^warning: run_id may be null.*set not null/u,
  ],
  [
    'an unlogged table',
    'alter table runs set unlogged',
    'storage',
    /^warning: public.runs is unlogged.*set logged/u,
  ],
  [
    'triggers that a stamp runs',
    `create function note() returns trigger language plpgsql as 'begin return new; end'; create trigger "My note" before update on runs for each row execute function note()`,
    'triggers',
    /^ok: when a row is stamped, these run: "My note"/u,
  ],
  [
    'a rule on updates',
    'create rule quiet as on update to runs do instead nothing',
    'rules',
    /^warning: a rule rewrites updates.*quiet/u,
  ],
  [
    'a publication of every table',
    'create publication everything for all tables',
    'publication',
    /^warning: everything publishes every table/u,
  ],
  [
    'a changed collation of a column',
    `create schema app; create collation app.en (provider = icu, locale = 'en'); alter table runs alter column tenant_id type text collate app.en; update pg_collation set collversion = '0' where collname = 'en' and collnamespace = 'app'::regnamespace`,
    'collation',
    /^failed: the collation app.en .*reindex table public.runs.*alter collation app.en refresh/u,
  ],
];

describeDatabase(
  'what is odd about a table is said by retention init before, and by doctor after',
  () => {
    test.each(ODDITIES)('%s', async (_, sql, name, said) => {
      await withDatabase(async (database) => {
        await database.query(sql);
        const before = await report(database);
        expect(before[name]).toMatch(said);
        expect(await hasSchema(database)).toBe(false);
        await migrateUp(database.url);
        const after = await database.query<{ name: string; line: string }>(
          `select name, format('%s: %s. %s', state, found, remedy) as line from retention.adoption_report()`,
        );
        expect(after.find((line) => line.name === name)?.line).toMatch(said);
      });
    });
  },
);

describeDatabase('what our indexes cannot hold', () => {
  test("is never in the way of the application's INSERT, nor of the adoption", async () => {
    await withDatabase(async (database) => {
      const { query, one } = database;
      await query(
        `alter table runs drop constraint runs_pkey, alter column run_id type text, add primary key (run_id)`,
      );
      const long = (columns: string, values: string) =>
        query(
          `insert into runs (${columns}) select ${values}, 'COMPLETED', now() - interval '40 days', 'b'`,
        );
      const rest = 'status, completed_at, result_s3_bucket';
      const insertAll = async () => {
        await long(
          `run_id, tenant_id, result_s3_key, ${rest}`,
          `md5(random()::text), 'acme', ${LONG}`,
        );
        await long(
          `run_id, tenant_id, result_s3_key, ${rest}`,
          `md5(random()::text), ${LONG}, 'shared'`,
        );
        await long(
          `run_id, tenant_id, result_s3_key, ${rest}`,
          `left(${LONG}, 2000), left(${LONG}, 1000), 'k'`,
        );
        await long(
          `run_id, tenant_id, result_s3_key, ${rest}`,
          `left(${LONG}, 1000), left(${LONG}, 1000), 'own'`,
        );
        await long(
          `run_id, tenant_id, result_s3_key, ${rest}`,
          `md5(random()::text), 'acme', left(${LONG}, 1024)`,
        );
      };
      await insertAll();
      await migrateUp(database.url);
      await insertAll();
      // Due, on the object that a run with an immense tenant still needs.
      await long(`run_id, tenant_id, result_s3_key, ${rest}`, `'sharer', 'acme', 'shared'`);
      await flag(database);
      const keys: string[] = [];
      for (let held = await claim(database); held !== undefined; held = await claim(database)) {
        keys.push(...held.keys);
      }
      expect([...new Set(keys)].map((key) => key.length).toSorted((a, b) => a - b)).toEqual([
        3, 1024, 1024,
      ]);
      expect(keys).not.toContain('shared');
      expect(
        await one(
          `select state, because from retention.explain((select run_id from runs where octet_length(run_id) = 2000 limit 1))`,
        ),
      ).toMatchObject({ state: 'too long' });
      const [odd] = await query<{ found: string }>(
        `select found from retention.adoption_report() where name = 'keys'`,
      );
      expect(odd?.found).toMatch(
        /2 have more than the 1,024 bytes.*4 have a tenant or run id of more/u,
      );
    });
  });

  test('does not keep the application from altering the type of its columns', async () => {
    await withDatabase(async (database) => {
      const { query } = database;
      await query(
        `alter table runs alter column tenant_id type text, alter column run_id type text`,
      );
      await migrateUp(database.url);
      await query(
        `insert into runs (run_id, tenant_id, status) values (gen_random_uuid()::text, '7', 'RUNNING')`,
      );
      await query('select retention.detach()');
      await query(`alter table runs alter column run_id type uuid using run_id::uuid`);
      await query(`alter table runs alter column tenant_id type bigint using tenant_id::bigint`);
      await query(`alter table runs alter column result_s3_key type varchar(1024)`);
      await migrateUp(database.url);
      expect(await reasons(database)).toEqual([]);
      expect(await migrate(database, 'up')).toEqual([]);
    });
  });
});

describeDatabase('rows that are hidden or come from elsewhere', () => {
  const OWNER = `Odd Owner ${process.pid}`;

  async function owned(work: (database: TestDatabase) => Promise<void>): Promise<void> {
    await withDatabase(async (database) => {
      await database.query(`create role "${OWNER}" login`);
      try {
        await database.query(`alter table runs owner to "${OWNER}"`);
        await work(database);
      } finally {
        await database.query(
          `reassign owned by "${OWNER}" to postgres; drop owned by "${OWNER}"; drop role "${OWNER}"`,
        );
      }
    });
  }

  test('rights: every one that is missing, as grants that can be run as they are', async () => {
    await owned(async (database) => {
      const url = database.urlAs(OWNER);
      await database.query('revoke create on schema public from public');
      const error = (await migrateUp(url).catch((it: unknown) => it)) as {
        message: string;
        remedy: string;
      };
      expect(error.message).toMatch(
        /may not create the schema retention in database .*may not create indexes/su,
      );
      for (const grant of error.remedy.match(/grant [^;]+;/gu) ?? []) await database.query(grant);
      await migrateUp(url);
      expect(await report({ url })).not.toHaveProperty('schema');
    });
  });

  test('row-level security that hides rows of the owner: refused before, and nothing is claimed after', async () => {
    await owned(async (database) => {
      const { query } = database;
      const url = database.urlAs(OWNER);
      await query(
        `grant create on database "${database.name}" to "${OWNER}"; grant create on schema public to "${OWNER}"`,
      );
      await query(`alter table runs enable row level security, force row level security`);
      await query(`create policy mine on runs using (tenant_id = 'acme')`);
      await expect(migrateUp(url)).rejects.toMatchObject({
        message: expect.stringContaining('hides rows from "Odd Owner') as string,
        remedy: expect.stringContaining(`alter role "${OWNER}" bypassrls`) as string,
      });
      await query('alter table runs no force row level security');
      await migrateUp(url);
      await query(INSERT);
      // The one that does not show needs the object.
      await query(`insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
        values ('globex', 'COMPLETED', now(), 'b', 'key 1')`);
      expect(await flag(database)).toBe(3);
      await query('alter table runs force row level security');
      expect(await reasons(database)).toEqual(['hidden rows']);
      expect(await claim(database)).toBeUndefined();
      await query(`alter role "${OWNER}" bypassrls`);
      expect(await reasons(database)).toEqual([]);
      expect((await claim(database))?.keys.toSorted()).toEqual(['key 2', 'key 3']);
    });
  });

  test('a database that becomes a subscriber: nothing is claimed there', async () => {
    await withDatabase(async (database) => {
      const { query } = database;
      await query(INSERT);
      await migrateUp(database.url);
      await query(`create subscription feed connection '' publication feed with (connect = false, slot_name = none);
        insert into pg_subscription_rel (srsubid, srrelid, srsubstate) select oid, 'runs'::regclass, 'r' from pg_subscription where subname = 'feed'`);
      try {
        expect(await reasons(database)).toEqual(['subscriber']);
        expect(await flag(database)).toBe(0);
      } finally {
        await query('drop subscription feed');
      }
      expect(await flag(database)).toBe(3);
    });
  });

  test('a foreign partition is passed by when indexes are built, and named; its runs are as any other', async () => {
    await withDatabase(async (database) => {
      const { query } = database;
      const { host, port } = runningPostgres();
      await query(`create extension postgres_fdw;
        create server archive foreign data wrapper postgres_fdw
          options (host '${host}', port '${port}', dbname '${database.name}');
        create user mapping for current_user server archive options (user 'postgres');
        create table archived (like runs, primary key (run_id));
        create table monthly (like runs) partition by range (created_at);
        create table monthly_new partition of monthly for values from ('2020-01-01') to ('2100-01-01');
        create unique index on monthly_new (run_id)`);
      const table = 'public.monthly';
      await query(`create foreign table monthly_old partition of monthly
        for values from ('2000-01-01') to ('2020-01-01') server archive options (table_name 'archived')`);
      await query(`insert into monthly (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key, created_at, updated_at)
        select gen_random_uuid(), 'acme', 'COMPLETED', now() - interval '40 days', 'b', 'key ' || n,
          case when n < 3 then '2010-01-01' else '2026-01-01' end::timestamptz, now()
        from generate_series(1, 4) n
        union all
        select gen_random_uuid(), 'acme', 'COMPLETED', now(), 'b', 'key 4', '2010-01-01', now()`);
      const before = await report(database, { table });
      expect(before['partitions']).toMatch(/^warning: public.monthly_old lies on another server/u);
      await migrateUp(database.url, { table });
      await flag(database);
      const held = await claim(database);
      // The archived run of today still needs the fourth.
      expect(held?.keys.toSorted()).toEqual(['key 1', 'key 2', 'key 3']);
      await query('select retention.settle($1, $2, p_all => true)', [held?.batch_id, held?.lease]);
      expect(await stamped(database, 'archived')).toBe(2);
      expect(await stamped(database, 'monthly')).toBe(3);
      expect(await migrate(database, 'up', { settings: { table } })).toEqual([]);
    });
  });
});

describeDatabase('a database of another kind', () => {
  /** Makes a database of one's own with the application's table for as long as `work` takes. */
  async function withOther(
    options: string,
    work: (url: string, client: pg.Client) => Promise<void>,
  ): Promise<void> {
    await withDatabase(async (database) => {
      const name = `${database.name}_other`;
      await database.query(`create database ${name} ${options} template template0`);
      const url = database.url.replace(database.name, name);
      const client = new pg.Client({ connectionString: url });
      await client.connect();
      try {
        await client.query(runsTableSql);
        await work(url, client);
      } finally {
        await client.end();
        await database.query(`drop database ${name} with (force)`);
      }
    });
  }

  test('LATIN1: adopted, and its keys arrive as they are', async () => {
    await withOther(`encoding 'LATIN1' locale 'C'`, async (url, client) => {
      await migrateUp(url);
      await client.query(INSERT.replace("'key '", "'clé '"));
      await client.query('select retention.flag_expired()');
      const { rows } = await client.query<{ keys: string[] }>(
        `select keys from retention.claim(gen_random_uuid(), '1 minute')`,
      );
      expect(rows[0]?.keys.toSorted()).toEqual(['clé 1', 'clé 2', 'clé 3']);
    });
  });

  test('SQL_ASCII: refused in one sentence', async () => {
    await withOther(`encoding 'SQL_ASCII' locale 'C'`, async (url) => {
      await expect(migrateUp(url)).rejects.toThrow('this database is SQL_ASCII');
    });
  });

  test('a collation that has changed under its indexes: said before and after, with REINDEX', async () => {
    await withOther(
      `encoding 'UTF8' locale 'C' locale_provider icu icu_locale 'en'`,
      async (url, client) => {
        await client.query(
          `update pg_database set datcollversion = '0' where datname = current_database()`,
        );
        const said =
          /^failed: the collation of database .*reindex database .*refresh collation version/u;
        expect((await report({ url }))['collation']).toMatch(said);
        await migrateUp(url);
        expect((await report({ url }))['collation']).toMatch(said);
      },
    );
  });
});
