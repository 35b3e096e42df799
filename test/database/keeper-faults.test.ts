import { beforeEach, expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { keyOf, useMigrated } from '../support/migrated.ts';
import { OWNER, useGuarded } from '../support/rights-roles.ts';
import { dueRuns } from '../support/due-runs.ts';

const TABLE = `drop table if exists invoices, invoices_old cascade;
drop schema if exists closed cascade;
create table invoices (id integer, pdf_key text, pdf_bucket text, keep_until timestamptz);
create index invoices_pdf_key on invoices (pdf_key)`;

describeDatabase('a keeper', () => {
  const database = useMigrated();

  beforeEach(() => database().query(TABLE));

  const add = (table = 'public.invoices', key = 'pdf_key', bucket?: string, until?: string) =>
    database().store.addKeeper({
      table,
      keyColumn: key,
      bucketColumn: bucket,
      untilColumn: until,
      by: 'ann',
    });
  const refusal = async (call: Promise<unknown>): Promise<{ message: string; remedy: string }> => {
    const error = await call.then(
      () => new Error('it was taken'),
      (it: unknown) => it as Error & { remedy?: string },
    );
    expect(await database().query('select from retention.keeper')).toHaveLength(0);
    return { message: error.message, remedy: 'remedy' in error ? (error.remedy ?? '') : '' };
  };

  test('is listed with who added it, and goes when it is removed', async () => {
    const { store } = database();
    await add('Invoices', 'PDF_KEY', 'pdf_bucket', 'keep_until');
    expect(await store.listKeepers()).toMatchObject([
      {
        table_name: 'public.invoices',
        key_column: 'pdf_key',
        bucket_column: 'pdf_bucket',
        until_column: 'keep_until',
        added_by: 'ann',
        kept: 0,
        fault: null,
        remedy: null,
      },
    ]);
    await expect(add()).rejects.toThrow('keeps what its column pdf_key names already');
    await expect(store.removeKeeper('invoicez')).rejects.toMatchObject({
      message: 'expected a keeper, given: invoicez',
      remedy: 'There are: public.invoices (pdf_key).',
    });
    await expect(store.removeKeeper('invoices', 'pdf')).rejects.toThrow(
      'given: invoices, column pdf',
    );
    expect(await store.removeKeeper('public.invoices', 'pdf_key')).toBe(1);
    expect(await store.listKeepers()).toEqual([]);
    await expect(store.removeKeeper('invoices')).rejects.toMatchObject({
      remedy: 'There is none.',
    });
  });

  test.each([
    ['none', 'drop index invoices_pdf_key'],
    [
      'one that begins with another column',
      'drop index invoices_pdf_key; create index on invoices (id, pdf_key)',
    ],
    [
      'a partial one',
      `drop index invoices_pdf_key; create index on invoices (pdf_key) where id > 0`,
    ],
    [
      'one over an expression',
      'drop index invoices_pdf_key; create index on invoices (lower(pdf_key))',
    ],
    [
      'one that scans the table',
      'drop index invoices_pdf_key; create index on invoices using brin (pdf_key)',
    ],
    [
      'one that is not valid',
      `update pg_index set indisvalid = false where indexrelid = 'invoices_pdf_key'::regclass`,
    ],
  ])('whose only index is %s is refused, with the statement that makes one', async (_, sql) => {
    await database().query(sql);
    const { message, remedy } = await refusal(add());
    expect(message).toContain('no index of public.invoices answers which rows have a key');
    expect(remedy).toBe('create index concurrently on public.invoices (pdf_key);');
    await database().query(remedy);
    expect(await add()).toBeTypeOf('number');
  });

  test.each([
    ['for patterns', 'create index on invoices (pdf_key text_pattern_ops)'],
    ['with a collation of its own', 'create index on invoices (pdf_key collate "C")'],
    ['by hash', 'create index on invoices using hash (pdf_key)'],
    ['that is unique, with more columns', 'create unique index on invoices (pdf_key, id)'],
  ])('with an index %s is taken, and its objects are kept by it', async (_, sql) => {
    const { query, insertRun, store, claimNext } = database();
    await query(`drop index invoices_pdf_key; ${sql};
      insert into invoices select n, 'other/' || n from generate_series(1, 3000) n; analyze invoices`);
    await add();
    const runId = await insertRun();
    await query('insert into invoices values (0, $1)', [keyOf(runId)]);
    await store.flagExpired({ by: 'test' });
    const reads = `select seq_scan from pg_stat_all_tables where relname = 'invoices'`;
    await query('select pg_stat_force_next_flush()');
    const [before] = await query(reads);
    expect(await claimNext()).toMatchObject({ keys: [], spared: 1 });
    await query('select pg_stat_force_next_flush()');
    expect(await query(reads)).toEqual([before]);
  });

  test('with one partition that has no index is refused', async () => {
    const { query } = database();
    await query(`create table closed_exports (k text, y integer) partition by list (y);
      create table closed_exports_1 partition of closed_exports for values in (1);
      create table closed_exports_2 partition of closed_exports for values in (2);
      create index on closed_exports_1 (k)`);
    const { message, remedy } = await refusal(add('closed_exports', 'k'));
    expect(message).toContain('no index of public.closed_exports');
    expect(remedy).toContain('create index on public.closed_exports (k)');
    await query('drop table closed_exports');
  });

  test.each([
    [
      'that is not there',
      '',
      'public.nothing',
      'pdf_key',
      'given: public.nothing, which is not there',
    ],
    ['with an odd name that cannot be read', '', 'a..b', 'pdf_key', 'given: a..b'],
    [
      'without the column',
      '',
      'invoices',
      'pdf',
      'expected columns of public.invoices, given: pdf',
    ],
    ['named without a column', '', 'invoices', ' ', 'expected the column that holds the keys'],
    [
      'whose column is no text',
      '',
      'invoices',
      'id',
      'column id of public.invoices is of type integer, text is needed',
    ],
    [
      'that takes different keys for equal',
      `create collation blurred (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
      create table vague (k text collate blurred); create index on vague (k)`,
      'vague',
      'k',
      'takes different texts for equal',
    ],
    [
      'that is a view',
      'create view seen as select * from invoices',
      'seen',
      'pdf_key',
      'a view has no index of its own',
    ],
    [
      'that is a materialized view',
      'create materialized view stored as select * from invoices; create index on stored (pdf_key)',
      'stored',
      'pdf_key',
      'as old as its last refresh',
    ],
    [
      'that a crash empties',
      'create unlogged table fragile (k text); create index on fragile (k)',
      'fragile',
      'k',
      'a crash empties an unlogged table',
    ],
    [
      'that is a foreign table',
      `create foreign data wrapper afar; create server afar foreign data wrapper afar;
      create foreign table elsewhere (k text) server afar`,
      'elsewhere',
      'k',
      'the rows of a foreign table live in another database, which may be out of reach',
    ],
    [
      'with a partition that is a foreign table',
      `create foreign data wrapper afar; create server afar foreign data wrapper afar;
      create table partly (k text, y integer) partition by list (y);
      create table partly_1 partition of partly for values in (1);
      create index on partly_1 (k);
      create foreign table partly_2 partition of partly for values in (2) server afar`,
      'partly',
      'k',
      'a partition of it is a foreign table',
    ],
    ['of this schema', '', 'retention.shared_object', 'key', 'place a hold'],
    [
      'of the runs themselves',
      'create index if not exists runs_key on runs (result_s3_key)',
      'runs',
      'result_s3_key',
      'each run would keep its own result for ever',
    ],
  ])('%s is refused in one clear message', async (_, sql, table, key, said) => {
    if (sql !== '') await database().query(sql);
    expect((await refusal(add(table, key))).message).toContain(said);
    await database().query(`drop view if exists seen; drop materialized view if exists stored;
      drop foreign data wrapper if exists afar cascade; drop table if exists vague, fragile, partly; drop collation if exists blurred; drop index if exists runs_key`);
  });

  test('may be the table of the runs, where its column names the objects of other runs', async () => {
    const { query, insertRun, store, claimNext } = database();
    await query(
      'alter table runs add column parent_key text; create index runs_parent on runs (parent_key)',
    );
    await add('runs', 'parent_key');
    const [parent, other] = [await insertRun(), await insertRun()];
    const child = await insertRun({ completedAgo: '1 day' });
    await query('update runs set parent_key = $1 where run_id = $2', [keyOf(parent), child]);
    await store.flagExpired({ by: 'test' });
    expect(await claimNext()).toMatchObject({ keys: [keyOf(other)], spared: 1 });
    await store.removeKeeper('runs');
    await query('alter table runs drop column parent_key');
  });

  test.each([
    [
      'has a date that is none',
      'id',
      'column id of public.invoices is of type integer, a timestamp or a date is needed',
    ],
    ['has no such date', 'nothing', 'expected columns of public.invoices, given: nothing'],
  ])('that %s is refused', async (_, until, said) => {
    expect((await refusal(add('invoices', 'pdf_key', undefined, until))).message).toContain(said);
  });

  test.each([
    [
      'is dropped',
      'drop table invoices',
      'there is no table public.invoices any more',
      'retention keeper remove',
    ],
    [
      'is renamed',
      'alter table invoices rename to invoices_old',
      'there is no table public.invoices any more; that one is called public.invoices_old now',
      'retention keeper remove',
    ],
    [
      'is swapped for another',
      `alter table invoices rename to invoices_old; create table invoices (like invoices_old including all)`,
      'is another table than the one that was added as a keeper',
      'retention keeper remove',
    ],
    [
      'loses its index',
      'drop index invoices_pdf_key',
      'no index of public.invoices',
      'create index concurrently',
    ],
    [
      'loses its column',
      'alter table invoices drop column pdf_key',
      'has no column pdf_key',
      'retention keeper remove',
    ],
    [
      'loses its date',
      'alter table invoices rename keep_until to kept',
      'has no column keep_until',
      'with the columns as they are now',
    ],
    [
      'gets a key of another type',
      'alter table invoices alter pdf_key type integer using 0',
      'is of type integer, text is needed',
      'retention keeper remove',
    ],
    [
      'gets a part without an index',
      'create table part () inherits (invoices)',
      'no index of public.invoices',
      'create index',
    ],
  ])(
    'that %s afterwards keeps everything: nothing is flagged or deleted until a person has looked',
    async (_, sql, said, remedy) => {
      const { insertRun, store, query } = database();
      const runId = await insertRun();
      await add('invoices', 'pdf_key', 'pdf_bucket', 'keep_until');
      await store.flagExpired({ by: 'test' });
      await query(sql);
      const lease = crypto.randomUUID();
      expect(await store.claim({ lease, leaseSeconds: 60, by: 'test' })).toBeUndefined();
      await insertRun();
      expect(await store.flagExpired({ by: 'test', whole: true })).toBe(0);
      const [reason] = await store.readGate();
      expect(reason).toMatchObject({
        reason: 'keeper fails',
        because: expect.stringContaining(said) as string,
        remedy: expect.stringContaining(remedy) as string,
      });
      expect((await store.readStatus()).halted).toEqual(['keeper fails']);
      expect((await store.explain([runId]))[0]).toMatchObject({ state: 'keeper fails' });
      expect(await store.listKeepers()).toMatchObject([
        { fault: expect.stringContaining(said) as string },
      ]);
      expect(await dueRuns(database(), {}).catch((error: unknown) => String(error))).toContain(
        'cannot be asked',
      );
      await store.removeKeeper('public.invoices');
      expect(await store.readGate()).toEqual([]);
      expect(await store.claim({ lease, leaseSeconds: 60, by: 'test' })).toMatchObject({
        keys: [keyOf(runId)],
      });
    },
  );
});

describeDatabase('a keeper whose table belongs to somebody else', () => {
  const database = useGuarded();

  beforeEach(() =>
    database().query(`drop table if exists invoices; drop schema if exists billing cascade;
      create table invoices (pdf_key text); create index on invoices (pdf_key);
      create schema billing; create table billing.invoices (like invoices including all)`),
  );

  const add = (table: string) =>
    database().query(`select retention.add_keeper($1, 'pdf_key')`, [table]);

  test('is refused while the owner of the schema may not read it, with the statement that lets him', async () => {
    const { query } = database();
    await expect(add('public.invoices')).rejects.toMatchObject({
      code: '42501',
      message: `public.invoices cannot be a keeper: role ${OWNER}, who owns the schema retention, may not read public.invoices`,
      hint: `grant select on public.invoices to ${OWNER};`,
    });
    await query(`grant select (pdf_key) on invoices to ${OWNER}`);
    await add('public.invoices');
    const usage = `grant usage on schema billing to ${OWNER};`;
    await expect(add('billing.invoices')).rejects.toMatchObject({ hint: usage });
    await query(usage);
    await query(`grant select on billing.invoices to ${OWNER}`);
    await add('billing.invoices');
    expect(await query('select from retention.keeper')).toHaveLength(2);
  });

  test('is refused where row-level security hides rows, which would read as "keeps nothing"', async () => {
    const { query } = database();
    await query(
      `grant select on invoices to ${OWNER}; alter table invoices enable row level security`,
    );
    await expect(add('public.invoices')).rejects.toMatchObject({
      message: expect.stringContaining(
        'row-level security of public.invoices may hide rows',
      ) as string,
    });
  });

  test.each([
    [
      'its rights',
      `revoke select on invoices from ${OWNER}`,
      `grant select on public.invoices to ${OWNER};`,
    ],
    ['sight of its rows', 'alter table invoices enable row level security', 'bypassrls'],
  ])('that loses %s afterwards keeps everything', async (_, sql, remedy) => {
    const { query, insertRun, store } = database();
    const runId = await insertRun();
    await query(`grant select on invoices to ${OWNER}`);
    await add('public.invoices');
    await query('insert into invoices values ($1)', [keyOf(runId)]);
    await store.flagExpired({ by: 'test' });
    await query(sql);
    const lease = crypto.randomUUID();
    expect(await store.claim({ lease, leaseSeconds: 60, by: 'test' })).toBeUndefined();
    expect(await store.readGate()).toMatchObject([
      { reason: 'keeper fails', remedy: expect.stringContaining(remedy) as string },
    ]);
  });

  test('that loses the way into its schema afterwards keeps everything', async () => {
    const { query, insertRun, store } = database();
    await insertRun();
    await query(`grant usage on schema billing to ${OWNER};
      grant select on billing.invoices to ${OWNER}`);
    await add('billing.invoices');
    await store.flagExpired({ by: 'test' });
    await query(`revoke usage on schema billing from ${OWNER}`);
    const lease = crypto.randomUUID();
    expect(await store.claim({ lease, leaseSeconds: 60, by: 'test' })).toBeUndefined();
    expect(await store.readGate()).toMatchObject([
      { reason: 'keeper fails', remedy: `grant usage on schema billing to ${OWNER};` },
    ]);
  });

  test('is asked with the rights of the owner: the listener itself need not read it', async () => {
    const { query, insertRun, store, claimNext } = database();
    const [kept, free] = [await insertRun(), await insertRun()];
    await query(`grant select on invoices to ${OWNER}`);
    await add('public.invoices');
    await query('insert into invoices values ($1)', [keyOf(kept)]);
    await store.flagExpired({ by: 'test' });
    expect(await claimNext()).toMatchObject({ keys: [keyOf(free)], spared: 1 });
  });
});
