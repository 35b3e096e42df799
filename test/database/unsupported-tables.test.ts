import { expect, test } from 'vitest';
import { type TestDatabase, createDatabase, describeDatabase } from '../support/database.ts';
import { migrateUp } from '../support/migrated.ts';

describeDatabase('a table that only looks like one', () => {
  /** Adopts what a text of SQL has made of the table, and returns what was said. */
  async function adopt(before: string): Promise<unknown> {
    const database: TestDatabase = await createDatabase();
    try {
      await database.query(before);
      return await migrateUp(database.url).then(
        () => 'adopted',
        (error: unknown) => error,
      );
    } finally {
      await database.query('drop subscription if exists copy').catch(() => undefined);
      await database.drop();
    }
  }

  // As these extensions note which tables are theirs.
  const HYPERTABLE = `
    create schema _timescaledb_catalog;
    create table _timescaledb_catalog.hypertable (schema_name name, table_name name);`;
  const SUBSCRIPTION = `
    create subscription copy connection 'host=127.0.0.1 dbname=away' publication p
      with (connect = false, slot_name = none);
    set allow_system_table_mods = on;
    insert into pg_subscription_rel (srsubid, srrelid, srsubstate)
    select s.oid, 'TABLE'::regclass, 'r' from pg_subscription s where s.subname = 'copy';
    reset allow_system_table_mods;`;

  test.each([
    [
      'a distributed table of Citus',
      `set allow_system_table_mods = on;
      create table pg_catalog.pg_dist_partition (logicalrelid regclass);
      insert into pg_catalog.pg_dist_partition values ('public.runs');
      reset allow_system_table_mods;`,
      /distributed table of Citus/u,
    ],
    [
      'a hypertable of Timescale',
      `${HYPERTABLE} insert into _timescaledb_catalog.hypertable values ('public', 'runs');`,
      /hypertable of Timescale/u,
    ],
    [
      "a subscriber's copy",
      SUBSCRIPTION.replace('TABLE', 'public.runs'),
      /is filled by subscription/u,
    ],
    [
      'a foreign table',
      `create extension postgres_fdw;
      create server away foreign data wrapper postgres_fdw;
      alter table runs rename to local_runs;
      create foreign table runs (run_id uuid, tenant_id text) server away;`,
      /is not a table/u,
    ],
    [
      'a view',
      'alter table runs rename to r; create view runs as select * from r;',
      /is not a table/u,
    ],
  ])('%s is refused by name, and nothing is changed', async (_what, before, said) => {
    const refused = await adopt(before);
    expect(refused).toBeInstanceOf(Error);
    expect(String(refused)).toMatch(said);
    expect((refused as { remedy?: string }).remedy).toBeTruthy();
  });

  test.each([
    [
      'other hypertables',
      `${HYPERTABLE} insert into _timescaledb_catalog.hypertable values ('public', 'metrics');`,
    ],
    [
      'a subscription to other tables',
      `create table other (n int primary key); ${SUBSCRIPTION.replace('TABLE', 'public.other')}`,
    ],
  ])('a plain table beside %s is adopted', async (_what, before) => {
    expect(await adopt(before)).toBe('adopted');
  });
});

describeDatabase('a table that becomes something else after it was adopted', () => {
  const CITUS = `set allow_system_table_mods = on;
    create table pg_catalog.pg_dist_partition (logicalrelid regclass);
    insert into pg_catalog.pg_dist_partition values ('TABLE');
    reset allow_system_table_mods;`;
  const TIMESCALE = `create schema _timescaledb_catalog;
    create table _timescaledb_catalog.hypertable (schema_name name, table_name name);
    insert into _timescaledb_catalog.hypertable values ('public', 'TABLE');`;
  const INSERT = `insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
    values ('acme', 'COMPLETED', now() - interval '40 days', 'b', 'key');`;

  /** Adopts the table, lets a text of SQL change it, and returns what the gate says and what is flagged. */
  async function outgrow(after: string) {
    const database: TestDatabase = await createDatabase();
    try {
      await migrateUp(database.url);
      await database.query(INSERT);
      await database.query(after);
      const gate = await database.query('select reason, because, remedy from retention.gate()');
      const { flagged } = await database.one('select retention.flag_expired() as flagged');
      return { gate, flagged };
    } finally {
      await database.drop();
    }
  }

  test.each([
    ['distributed by Citus', CITUS.replace('TABLE', 'public.runs'), /distributed table of Citus/u],
    ['a hypertable of Timescale', TIMESCALE.replace('TABLE', 'runs'), /hypertable of Timescale/u],
    [
      'a hypertable of Timescale, with its chunks',
      `${TIMESCALE.replace('TABLE', 'runs')} create table chunk () inherits (runs);`,
      /hypertable of Timescale/u,
    ],
    [
      'one that others inherit from',
      'create table runs_of_2020 () inherits (runs);',
      /tables inherit from public.runs by now/u,
    ],
    [
      'a part of another',
      `create table every_run (like runs) partition by list (tenant_id);
      alter table every_run attach partition runs default;`,
      /is a part of public.every_run by now/u,
    ],
  ])('%s: the gate closes and says so, and nothing is flagged', async (_what, after, said) => {
    expect(await outgrow(after)).toEqual({
      flagged: 0,
      gate: [
        {
          reason: 'table unsupported',
          because: expect.stringMatching(said) as string,
          remedy: expect.stringMatching(/\S/u) as string,
        },
      ],
    });
  });

  test.each([
    ['another table is distributed', `create table other (); ${CITUS.replace('TABLE', 'other')}`],
    ['another table is a hypertable', TIMESCALE.replace('TABLE', 'metrics')],
    ['a table of the application is called hypertable', 'create table hypertable (n int);'],
    [
      'heirs came and went',
      'create table heir () inherits (runs); alter table heir no inherit runs;',
    ],
  ])('%s: work goes on', async (_what, after) => {
    expect(await outgrow(after)).toEqual({ flagged: 1, gate: [] });
  });
});
