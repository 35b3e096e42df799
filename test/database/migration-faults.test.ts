import { expect, test } from 'vitest';
import type { MigrationSettings } from '../../src/database/migrations.ts';
import { DatabaseError } from '../../src/errors.ts';
import { describeDatabase } from '../support/database.ts';
import { hasSchema, migrate, withDatabase } from '../support/migrating.ts';
import { dumpSchema } from '../support/schema-dump.ts';

/** What is wrong, how it came to be, what was asked for, what is said, and what fixes it. */
const FAULTS: [string, string, MigrationSettings, RegExp, RegExp][] = [
  [
    'the table is not there',
    'alter table runs rename to jobs',
    {},
    /public\.runs was not found in database .*jobs/u,
    /RETENTION_TABLE/,
  ],
  [
    'the table has another name',
    '',
    { table: 'public.results' },
    /public\.results was not found.*runs/u,
    /RETENTION_TABLE/,
  ],
  [
    'the name is no name of a table',
    '',
    { table: 'public.runs; drop table runs' },
    /cannot be read as the name of a table/,
    /schema\.table/,
  ],
  [
    'it is a view',
    'create view seen as select * from runs',
    { table: 'public.seen' },
    /seen is not a table/,
    /plain or partitioned/,
  ],
  [
    'columns have other names',
    'alter table runs rename column result_s3_key to result_key; alter table runs rename column completed_at to finished_at',
    {},
    /key: looked for column result_s3_key.*completed_at: looked for column completed_at.*runs has: .*result_key/su,
    /RETENTION_COLUMNS/,
  ],
  [
    'a column has another type',
    'alter table runs drop column completed_at, add column completed_at text',
    {},
    /completed_at.*of type text, a timestamp is needed/,
    /RETENTION_COLUMNS/,
  ],
  ['the mapping cannot be read', '', { columns: 'bucket' }, /RETENTION_COLUMNS/, /./],
  [
    'the mapping names no view column',
    '',
    { columns: 'buckets=x' },
    /unknown view column buckets/,
    /run_id, tenant_id/,
  ],
  [
    'the mapping leaves out what is needed',
    '',
    { columns: 'key=' },
    /key must name a column/,
    /cannot be left out/,
  ],
  [
    'the run id is not unique',
    'alter table runs drop constraint runs_pkey',
    {},
    /unique/,
    /RETENTION_COLUMNS=run_id/,
  ],
  [
    'the role is not there',
    '',
    { role: 'nobody_of_that_name' },
    /nobody_of_that_name, which does not exist/,
    /create role/,
  ],
  [
    'pg_cron lives in another database',
    '',
    { scheduler: 'pg_cron' },
    /pg_cron lives in database postgres of this server, not in test_/,
    /CRON_DATABASE_URL.*RETENTION_SCHEDULER=internal/su,
  ],
];

describeDatabase('the migrations', () => {
  test.each(FAULTS)(
    'stop when %s, saying what fixes it, and leave nothing',
    async (_, sql, settings, message, remedy) => {
      await withDatabase(async (database) => {
        if (sql !== '') await database.query(sql);
        const before = await dumpSchema(database.url);
        const error: unknown = await migrate(database, 'up', { settings }).catch(
          (it: unknown) => it,
        );
        expect(error).toBeInstanceOf(DatabaseError);
        expect((error as DatabaseError).message).toMatch(message);
        expect((error as DatabaseError).remedy).toMatch(remedy);
        expect(await dumpSchema(database.url)).toBe(before);
        expect(await hasSchema(database)).toBe(false);
      });
    },
  );

  test('have their indexes again on the way up when a way down ended half-way', async () => {
    await withDatabase(async (database) => {
      await migrate(database, 'up');
      const whole = await dumpSchema(database.url);
      // Of somebody who built on ours: it is in the way of what is dropped after the indexes.
      await database.query('create view dashboard as select * from retention.status');
      await expect(migrate(database, 'down')).rejects.toThrow(/dashboard|depend/u);
      await database.query('drop view dashboard');
      await migrate(database, 'up');
      expect(await dumpSchema(database.url)).toBe(whole);
    });
  });
});
