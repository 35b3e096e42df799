import { expect, test } from 'vitest';
import { writeMigrationSql } from '../../src/database/migration-sql.ts';
import { readMigrationState } from '../../src/database/migrations.ts';
import { createPool } from '../../src/database/pool.ts';
import { silentLogger } from '../../src/logger.ts';
import { createStore } from '../../src/store/store.ts';
import { type TestDatabase, describeDatabase } from '../support/database.ts';
import { migrate, withDatabase } from '../support/migrating.ts';
import { migrateUp } from '../support/migrated.ts';
import { psql } from '../support/psql.ts';
import { dumpSchema } from '../support/schema-dump.ts';

const INSERT = `insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
  select 'acme', 'COMPLETED', now() - interval '40 days', 'b', 'key ' || n from generate_series(1, 10) n`;

const reasons = async ({ query }: TestDatabase): Promise<string[]> =>
  (await query<{ reason: string }>('select reason from retention.gate()')).map(
    ({ reason }) => reason,
  );

describeDatabase('the remedy for anything missing is migrate up', () => {
  test.each([
    ['a function', 'drop function retention.retry(text[], text, text, text, boolean)'],
    ['a function that up itself needs', 'drop function retention._digest()'],
    [
      'a changed function',
      `create or replace function retention.version()
      returns table (version text, oldest_client text) language sql as $$ select '9', '9' $$`,
    ],
    ['a trigger', 'drop trigger announce_batches on retention.batch'],
    ['a disabled trigger', 'alter table retention.batch disable trigger guard_nothing'],
    ['a view', 'drop view retention.flagged'],
    ['an index', 'drop index retention_key'],
    [
      'a right of PUBLIC',
      'grant execute on function retention.claim(uuid, interval, text, bigint[], text, text[]) to public',
    ],
    [
      'a function of nobody',
      'create function retention.left_over() returns int language sql as $$ select 1 $$',
    ],
  ])('%s', async (_, sql) => {
    await withDatabase(async (database) => {
      await migrate(database, 'up');
      const schema = await dumpSchema(database.url);
      await database.query(sql.replace('guard_nothing', 'announce_change'));
      expect(await migrate(database, 'up')).not.toEqual([]);
      expect(await dumpSchema(database.url)).toBe(schema);
      expect(await migrate(database, 'up')).toEqual([]);
    });
  });
});

describeDatabase('the application stays free', () => {
  test('to swap its table by rename: halted at once, adopted by migrate up, work and holds kept', async () => {
    await withDatabase(async (database) => {
      const { query, one } = database;
      await query(INSERT);
      await migrateUp(database.url);
      const { run_id: held } = await one<{ run_id: string }>('select run_id from runs limit 1');
      await query(`select retention.place_hold('audit', $1)`, [held]);
      await query(`begin; alter table runs rename to runs_old;
        create table runs (like runs_old including all);
        insert into runs select * from runs_old; commit`);
      expect(await reasons(database)).toEqual(['table replaced']);
      expect(await one('select retention.flag_expired() as flagged')).toEqual({ flagged: 0 });
      expect(await migrate(database, 'up')).toEqual(['0002_adopt', '0003_functions']);
      expect(await reasons(database)).toEqual([]);
      expect(await one('select retention.flag_expired() as flagged')).toEqual({ flagged: 9 });
      expect(await one('select count(*)::int as holds from retention.hold')).toEqual({ holds: 1 });
      expect(await migrate(database, 'up')).toEqual([]);
    });
  });

  test('to alter the type of a mapped column between detach and attach, with flagged work', async () => {
    await withDatabase(async (database) => {
      const { query, one } = database;
      await query(INSERT);
      await migrateUp(database.url);
      await query('select retention.flag_expired()');
      const alter = 'alter table runs alter column run_id type text';
      await expect(query(alter)).rejects.toMatchObject({ code: '0A000' });
      await query('select retention.detach()');
      expect(await reasons(database)).toEqual(['detached']);
      expect(await query(`select * from retention.claim(gen_random_uuid(), '1 minute')`)).toEqual(
        [],
      );
      expect(await one('select flagged from retention.status')).toEqual({ flagged: '10' });
      await query(alter);
      await expect(query('select retention.attach()')).rejects.toThrow('is not as it was adopted');
      expect(await migrate(database, 'up')).toEqual(['0002_adopt', '0003_functions']);
      const claim = await one<{ keys: string[]; spared: number }>(
        `select keys, spared from retention.claim(gen_random_uuid(), '1 minute')`,
      );
      expect([claim.keys.length, claim.spared]).toEqual([10, 0]);
    });
  });

  test('to add a column between detach and attach', async () => {
    await withDatabase(async (database) => {
      const { query } = database;
      await migrateUp(database.url);
      const schema = await dumpSchema(database.url);
      await query('select retention.detach()');
      await query('alter table runs add column note text; alter table runs drop column note');
      await query('select retention.attach()');
      expect(await reasons(database)).toEqual([]);
      expect(await migrate(database, 'up')).toEqual([]);
      expect(await dumpSchema(database.url)).toBe(schema);
    });
  });

  test('to move its table to another schema: the message says what to set', async () => {
    await withDatabase(async (database) => {
      await migrateUp(database.url);
      await database.query('create schema app; alter table runs set schema app');
      expect(await reasons(database)).toEqual(['table replaced']);
      await expect(migrate(database, 'up')).rejects.toMatchObject({
        remedy: expect.stringContaining('RETENTION_TABLE=app.runs') as string,
      });
      await migrateUp(database.url, { table: 'app.runs' });
      expect(await reasons(database)).toEqual([]);
    });
  });

  test('but another table than the one that was adopted is refused, with the way to change it', async () => {
    await withDatabase(async (database) => {
      await migrateUp(database.url);
      await database.query('create table jobs (like runs including all)');
      await expect(migrateUp(database.url, { table: 'public.jobs' })).rejects.toMatchObject({
        remedy: expect.stringContaining('retention.detach()') as string,
      });
      expect(await reasons(database)).toEqual([]);
      await database.query('select retention.detach()');
      await migrateUp(database.url, { table: 'public.jobs' });
      expect(await database.query('select table_name from retention.adapter')).toEqual([
        { table_name: 'public.jobs' },
      ]);
    });
  });
});

describeDatabase('retention migrate sql', () => {
  test('fed to psql leaves what migrate up leaves, and migrate up has nothing to do after it', async () => {
    const settings = { scheduler: 'internal' } as const;
    let byUp = '';
    await withDatabase(async (database) => {
      await migrate(database, 'up');
      byUp = await dumpSchema(database.url);
    });
    await withDatabase(async (database) => {
      await psql(database.url, await writeMigrationSql({ settings }));
      expect(await dumpSchema(database.url)).toBe(byUp);
      expect((await readMigrationState(database.url)).pending).toEqual([]);
      expect(await migrate(database, 'up')).toEqual([]);
      await database.query('drop function retention.retry(text[], text, text, text, boolean)');
      // As Flyway runs a file: in a transaction of its own, and with ${...} for its placeholders.
      const bare = await writeMigrationSql({ from: '0003', transaction: false, settings });
      expect(bare).not.toMatch(/^(?:begin|commit);$|\$\{/mu);
      await psql(database.url, `begin;\n${bare}\ncommit;`);
      expect(await dumpSchema(database.url)).toBe(byUp);
    });
  });

  test('knows only the migrations that are there', async () => {
    await expect(writeMigrationSql({ from: '0042', settings: {} })).rejects.toThrow(
      'there is no migration 0042',
    );
  });
});

describeDatabase('versions that do not fit', () => {
  test.each([
    ['0.1.0', undefined],
    ['0.1.7', undefined],
    ['0.2.0', /is still 0\.1\.0.*retention migrate up/u],
    ['1.0.0', /is still 0\.1\.0.*retention migrate up/u],
    ['0.0.9', /serves clients from 0\.1\.0 on.*bring this listener up to date/u],
  ])('a client of %s', async (client, said) => {
    await withDatabase(async (database) => {
      await database.query(INSERT);
      await migrateUp(database.url);
      await database.query('select retention.flag_expired()');
      const rows = await database.query<{ because: string; remedy: string }>(
        'select because, remedy from retention.gate($1)',
        [client],
      );
      const claimed = await database.query(
        `select from retention.claim(gen_random_uuid(), '1 minute', 'x', null, $1)`,
        [client],
      );
      expect(claimed).toHaveLength(said === undefined ? 1 : 0);
      if (said === undefined) expect(rows).toEqual([]);
      else expect(`${rows[0]?.because}. ${rows[0]?.remedy}`).toMatch(said);
    });
  });
});

describeDatabase('a later release', () => {
  const LATER = `
    drop function retention.claim(uuid, interval, text, bigint[], text, text[]);
    create function retention.claim(p_lease uuid, p_lease_for interval) returns table (batch_id bigint, wait integer)
    language sql as $$ select 1::bigint, 2 $$;
    drop view retention.status;
    create view retention.status as select *, 1 as more from retention.read_status()`;

  test('with another claim and another status: this one is installed over it, and keeps work, holds and rights', async () => {
    await withDatabase(async (database) => {
      const { query, one } = database;
      const role = `later_${process.pid}`;
      await query(`create role ${role} login`);
      try {
        await query(INSERT);
        await migrateUp(database.url, { role });
        await query('select retention.flag_expired()');
        const schema = await dumpSchema(database.url);
        await query(LATER);
        await migrateUp(database.url, { role });
        expect(await dumpSchema(database.url)).toBe(schema);
        expect(await one('select flagged from retention.status')).toEqual({ flagged: '10' });
        const pool = createPool({
          url: database.urlAs(role),
          applicationName: 'test',
          logger: silentLogger,
        });
        try {
          const lease = crypto.randomUUID();
          const claim = await createStore(pool).claim({ lease, leaseSeconds: 60, by: 'test' });
          expect(claim?.keys).toHaveLength(10);
        } finally {
          await pool.close();
        }
      } finally {
        await query(`drop owned by ${role}; drop role ${role}`);
      }
    });
  });
});
