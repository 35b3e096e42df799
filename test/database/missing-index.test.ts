import { expect, test } from 'vitest';
import { type TestDatabase, describeDatabase } from '../support/database.ts';
import { migrate, withDatabase } from '../support/migrating.ts';
import { migrateUp } from '../support/migrated.ts';
import { dumpSchema } from '../support/schema-dump.ts';

const INSERT = `insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
  select 'acme', 'COMPLETED', now() - interval '40 days', 'b', 'key ' || n from generate_series(1, 10) n`;

const reasons = async ({ query }: TestDatabase): Promise<Record<string, unknown>[]> =>
  query('select reason, because, remedy from retention.gate()');

const flag = async ({ one }: TestDatabase): Promise<number> =>
  (await one<{ flagged: number }>('select retention.flag_expired(p_whole => true) as flagged'))
    .flagged;

const claim = async ({ query }: TestDatabase): Promise<number> =>
  (await query(`select from retention.claim(gen_random_uuid(), '1 minute')`)).length;

/** What one statement reads of the application's table, and what it raises. */
async function reads(
  database: TestDatabase,
  statement: string,
): Promise<{ readonly scans: number; readonly code?: string }> {
  const session = await database.connect();
  await session.query('begin');
  await session.query('savepoint before');
  const code = await session.query(statement).then(
    () => undefined,
    (error: unknown) => (error as { readonly code: string }).code,
  );
  await session.query('rollback to savepoint before');
  const { rows } = await session.query<{ scans: number }>(
    `select seq_scan::int as scans from pg_stat_xact_user_tables where relid = 'runs'::regclass`,
  );
  await session.query('rollback');
  return { scans: rows[0]?.scans ?? 0, ...(code === undefined ? {} : { code }) };
}

const LIVE = `(tenant_id, completed_at, run_id)`;

describeDatabase('an index on the table that is gone after adoption', () => {
  test.each([
    ['dropped: the one over live results', 'drop index retention_live', 'retention_live'],
    ['dropped: the one over keys', 'drop index retention_key', 'retention_key'],
    ['dropped: both', 'drop index retention_live, retention_key', 'retention_live, retention_key'],
    [
      'left invalid by a build that failed',
      `update pg_index set indisvalid = false where indexrelid = 'retention_live'::regclass`,
      'retention_live',
    ],
    [
      'replaced by one of the same name on other columns',
      `drop index retention_live; create index retention_live on runs (tenant_id)`,
      'retention_live',
    ],
    [
      'replaced by one with another predicate',
      `drop index retention_live; create index retention_live on runs ${LIVE}`,
      'retention_live',
    ],
  ])('%s: the gate closes, says which, and migrate up opens it', async (_, sql, named) => {
    await withDatabase(async (database) => {
      await database.query(INSERT);
      await migrateUp(database.url);
      await flag(database);
      await database.query(`update retention.batch set visible_at = now()`);
      await database.query(sql);
      expect(await reasons(database)).toEqual([
        {
          reason: 'index missing',
          because: expect.stringContaining(
            `the index ${named} on public.runs is missing`,
          ) as string,
          remedy: expect.stringContaining('retention migrate up') as string,
        },
      ]);
      expect(await flag(database)).toBe(0);
      expect(await claim(database)).toBe(0);
      expect(await migrate(database, 'up')).not.toEqual([]);
      expect(await reasons(database)).toEqual([]);
      expect(await claim(database)).toBe(1);
      expect(await migrate(database, 'up')).toEqual([]);
    });
  });

  test('since when is known from the next tick on, and it is shown in status and in what waits', async () => {
    await withDatabase(async (database) => {
      await migrateUp(database.url);
      await database.query('drop index retention_live');
      await database.query('select retention.tick()');
      const [closed] = await database.query('select since from retention.gate()');
      expect(closed?.['since']).toBeInstanceOf(Date);
      expect(await database.one('select halted, due::int from retention.status')).toEqual({
        halted: ['index missing'],
        due: 0,
      });
      expect(
        await database.query(
          `select what from retention.wait_causes() where because ~ 'retention_live'`,
        ),
      ).toEqual([{ what: 'everything' }]);
    });
  });

  test.each([
    ['a pass', 'select retention.flag_expired()'],
    ['a tick', 'select retention.tick()'],
    ['a claim', `select retention.claim(gen_random_uuid(), '1 minute')`],
    ['status', 'select * from retention.status'],
    ['the trial of a stamp', 'select * from retention.try_stamp()'],
    ['stamping again', 'select * from retention.stamp_again()'],
    ['the tenants that wait', 'select * from retention.tenants_due()'],
    ['the runs without a date', 'select * from retention.undated()'],
    ['a probe for a prefix', `select retention.has_key_under('k')`],
    ['a selection', `select * from retention.flag_selected('acme')`],
  ])('%s does not read the whole table', async (_, statement) => {
    await withDatabase(async (database) => {
      await database.query(INSERT);
      await migrateUp(database.url);
      await flag(database);
      await database.query(
        `update retention.stamping set failed_since = now(), code = 'X', message = 'x', try_at = now();
        drop index retention_live, retention_key`,
      );
      expect(await reads(database, statement)).toEqual({ scans: 0 });
    });
  });

  test.each([
    ['a dry run', 'select * from retention.list_due()'],
    ['the beginning of a verify', 'select * from retention.begin_verify()'],
    [
      'a page of a verify under way',
      `select * from retention.compare_listing(gen_random_uuid(), 'b', '', null, null, '{}', '{}', '{}', now())`,
    ],
  ])('%s is refused with the remedy, and reads nothing', async (_, statement) => {
    await withDatabase(async (database) => {
      await database.query(INSERT);
      await migrateUp(database.url);
      await database.query('drop index retention_key');
      expect(await reads(database, statement)).toEqual({ scans: 0, code: '55000' });
      await expect(database.query(statement)).rejects.toMatchObject({
        message: expect.stringContaining('retention_key') as string,
        hint: expect.stringContaining('retention migrate up') as string,
      });
    });
  });

  test.each([
    ['renamed', 'alter index retention_live rename to by_age'],
    ['rebuilt by reindex', 'reindex index retention_live'],
    ['rebuilt beside the application', 'reindex index concurrently retention_live'],
    ['on a table that is rewritten', 'vacuum full runs'],
    [
      'on a table whose other column gets another type',
      'alter table runs alter column created_at type timestamp',
    ],
    ['beside one of somebody else', `create index by_status on runs (status)`],
  ])('%s: it is still ours, and work goes on', async (_, sql) => {
    await withDatabase(async (database) => {
      await database.query(INSERT);
      await migrateUp(database.url);
      await database.query(sql);
      expect(await reasons(database)).toEqual([]);
      expect(await flag(database)).toBe(10);
      expect(await claim(database)).toBe(1);
    });
  });

  test('a partition that comes later has them at once', async () => {
    await withDatabase(async (database) => {
      await database.query(`create table monthly (like runs) partition by range (completed_at);
        alter table monthly add unique (run_id, completed_at);
        create table monthly_old partition of monthly for values from (minvalue) to ('2030-01-01')`);
      const settings = { table: 'public.monthly' };
      await migrate(database, 'up', { settings });
      await database.query(
        `create table monthly_next partition of monthly for values from ('2030-01-01') to (maxvalue)`,
      );
      expect(await reasons(database)).toEqual([]);
      await database.query('drop index retention_live');
      expect(await reasons(database)).toMatchObject([{ reason: 'index missing' }]);
      await migrate(database, 'up', { settings });
      expect(await reasons(database)).toEqual([]);
    });
  });
});

describeDatabase('an index on a table of the schema', () => {
  test('whichever is dropped or left invalid, migrate up makes it again', async () => {
    await withDatabase(async (database) => {
      await migrate(database, 'up');
      const schema = await dumpSchema(database.url);
      const [dropped] = await database.query<{ names: string }>(
        `select string_agg(i.indexrelid::regclass::text, ', ') as names
        from pg_index i
        join pg_class c on c.oid = i.indrelid and c.relnamespace = 'retention'::regnamespace
        where not exists (select from pg_constraint n where n.conindid = i.indexrelid)`,
      );
      await database.query(`drop index ${dropped?.names}`);
      expect(await migrate(database, 'up')).not.toEqual([]);
      expect(await dumpSchema(database.url)).toBe(schema);
      await database.query(
        `update pg_index set indisvalid = false where indexrelid = 'retention.batch_open'::regclass`,
      );
      expect(await migrate(database, 'up')).not.toEqual([]);
      expect(
        await database.one(
          `select indisvalid from pg_index where indexrelid = 'retention.batch_open'::regclass`,
        ),
      ).toEqual({ indisvalid: true });
      expect(await migrate(database, 'up')).toEqual([]);
    });
  });
});
