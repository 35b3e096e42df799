import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { keyOf, useMigrated } from '../support/migrated.ts';
import { dueRuns } from '../support/due-runs.ts';

const TABLE = `drop table if exists invoices cascade;
create table invoices (pdf_key text, pdf_bucket text, keep_until timestamptz);
create index invoices_pdf_key on invoices (pdf_key)`;

describeDatabase('an object that a keeper names', () => {
  const database = useMigrated();

  async function keep(
    rows: readonly { key: string; bucket?: string | null; until?: string | null }[],
    columns: { bucketColumn?: string; untilColumn?: string } = {},
  ): Promise<void> {
    const { query, store } = database();
    await query(TABLE);
    for (const { key, bucket = null, until = null } of rows) {
      await query('insert into invoices values ($1, $2, now() + $3::interval)', [
        key,
        bucket,
        until,
      ]);
    }
    await store.addKeeper({ table: 'public.invoices', keyColumn: 'pdf_key', ...columns });
  }

  test('is not deleted, and its result is spared with the reason', async () => {
    const { insertRun, store, claimNext, one, query } = database();
    const kept = await insertRun();
    const free = await insertRun();
    await keep([{ key: keyOf(kept) }]);
    expect(await store.flagExpired({ by: 'test' })).toBe(2);
    expect(await claimNext()).toMatchObject({ keys: [keyOf(free)], spared: 1 });
    expect((await store.explain([kept]))[0]).toMatchObject({
      state: 'kept',
      because: expect.stringContaining(
        'kept by public.invoices, whose rows need its object as long',
      ) as string,
    });
    expect(await store.readStatus()).toMatchObject({ kept: 1, object_changed: 0, flagged: 1 });
    expect(await one('select spared, keys from retention.batch')).toMatchObject({ spared: 1 });
    expect(await query('select what, results from retention.wait_causes()')).toContainEqual({
      what: 'keeper public.invoices',
      results: '1',
    });
  });

  test('is not flagged at every pass, and goes once its row has gone and a sweep has looked', async () => {
    const { insertRun, store, claimNext, query } = database();
    const runId = await insertRun();
    await keep([{ key: keyOf(runId) }]);
    expect(await store.flagExpired({ by: 'test' })).toBe(1);
    expect(await claimNext()).toMatchObject({ keys: [], spared: 1 });
    expect(await store.flagExpired({ by: 'test' })).toBe(0);
    expect(await store.flagExpired({ by: 'test', whole: true })).toBe(0);
    expect(await store.readStatus()).toMatchObject({ due: 0, kept: 1 });
    await query('delete from invoices');
    expect(await store.flagExpired({ by: 'test', whole: true })).toBe(1);
    expect((await claimNext()).keys).toEqual([keyOf(runId)]);
    expect(await store.readStatus()).toMatchObject({ kept: 0 });
  });

  test('is kept until the date of its row, and not after it', async () => {
    const { insertRun, store, claimNext, query } = database();
    const [past, soon, forEver] = [await insertRun(), await insertRun(), await insertRun()];
    await keep(
      [
        { key: keyOf(past), until: '-1 second' },
        { key: keyOf(soon), until: '1 day' },
        { key: keyOf(soon), until: '-1 day' },
        { key: keyOf(forEver) },
      ],
      { untilColumn: 'keep_until' },
    );
    await store.flagExpired({ by: 'test' });
    expect(await claimNext()).toMatchObject({ keys: [keyOf(past)], spared: 2 });
    expect((await store.explain([soon]))[0]).toMatchObject({
      because: expect.stringMatching(
        /kept by public\.invoices, whose rows need its object until 2/u,
      ) as string,
    });
    await query(`update invoices set keep_until = now() - interval '1 second';
      update retention.spared_object set until = now() - interval '1 second' where until < 'infinity'`);
    expect(await store.flagExpired({ by: 'test' })).toBe(1);
    expect((await claimNext()).keys).toEqual([keyOf(soon)]);
  });

  test.each([
    ['infinity', true],
    ['-infinity', false],
  ])('with the date %s is kept: %s', async (until, isKept) => {
    const { insertRun, store, claimNext, query } = database();
    const runId = await insertRun();
    await keep([{ key: keyOf(runId) }], { untilColumn: 'keep_until' });
    await query('update invoices set keep_until = $1', [until]);
    await store.flagExpired({ by: 'test' });
    expect((await claimNext()).keys).toEqual(isKept ? [] : [keyOf(runId)]);
  });

  test.each([
    ['of the same bucket', 'dpp-results', undefined, true],
    ['of another bucket', 'dpp-archive', undefined, false],
    ['without a bucket, where the default is this one', null, 'dpp-results', true],
    ['with an empty bucket, where the default is this one', '', 'dpp-results', true],
    ['without a bucket, where the default is another', null, 'dpp-archive', false],
    ['without a bucket and without a default', null, undefined, true],
  ])('by a row %s', async (_, bucket, fallback, isKept) => {
    const { insertRun, store, claimNext, set } = database();
    const runId = await insertRun();
    if (fallback !== undefined) await set({ default_bucket: `'${fallback}'` });
    await keep([{ key: keyOf(runId), bucket }], { bucketColumn: 'pdf_bucket' });
    await store.flagExpired({ by: 'test' });
    expect((await claimNext()).keys).toEqual(isKept ? [] : [keyOf(runId)]);
  });

  test('in any bucket, where the keeper names no bucket column', async () => {
    const { insertRun, store, claimNext, set } = database();
    await set({ default_bucket: `'dpp-other'` });
    const runId = await insertRun({ bucket: 'dpp-archive' });
    await keep([{ key: keyOf(runId), bucket: 'dpp-results' }]);
    await store.flagExpired({ by: 'test' });
    expect(await claimNext()).toMatchObject({ keys: [], spared: 1 });
  });

  test.each([
    `results/o'brien "q" \\ %s $1 {a,b}.json`,
    'results/ünï/日本語/\u{1F600}',
    `results/line\nend\ttab`,
    ' ',
    // As long as S3 allows.
    'a'.repeat(1_024),
  ])('is found whatever its key is made of: %.40j', async (key) => {
    const { insertRun, store, claimNext } = database();
    await insertRun({ key });
    const other = await insertRun();
    await keep([{ key }]);
    await store.flagExpired({ by: 'test' });
    expect(await claimNext()).toMatchObject({ keys: [keyOf(other)], spared: 1 });
  });

  test('of several runs is spared for each of them', async () => {
    const { insertRuns, store, claimNext } = database();
    await insertRuns({ count: 3, key: 'results/cached' });
    await keep([{ key: 'results/cached' }]);
    await store.flagExpired({ by: 'test' });
    expect(await claimNext()).toMatchObject({ keys: [], spared: 3 });
    expect(await store.flagExpired({ by: 'test', whole: true })).toBe(0);
  });

  test('is in no dry run, and no narrowed or early reconcile takes it', async () => {
    const { insertRuns, store } = database();
    const [kept = '', free = ''] = await insertRuns({ count: 2 });
    const [early = ''] = await insertRuns({ count: 1, completedAgo: '10 days' });
    await keep([{ key: keyOf(kept) }, { key: keyOf(early) }]);
    expect((await dueRuns(database(), {})).map((run) => run.run_id)).toEqual([free]);
    expect(await dueRuns(database(), { runIds: [kept] })).toEqual([]);
    expect(await store.dueGroups({ limit: 10 })).toMatchObject([{ results: 1 }]);
    expect(await store.flagSelected({ runIds: [kept, free] })).toMatchObject({ selected: 1 });
    expect(
      await store.flagSelected({ tenantId: 'acme', olderThanSeconds: 7 * 86_400, early: true }),
    ).toMatchObject({ selected: 1 });
  });

  test('that is flagged already is spared when its batch is claimed, and one whose row comes after the claim is not', async () => {
    const { insertRuns, store, claimNext, query } = database();
    const [first = '', second = ''] = await insertRuns({ count: 2 });
    await keep([]);
    await store.flagExpired({ by: 'test' });
    await query('insert into invoices values ($1)', [keyOf(first)]);
    const claim = await claimNext();
    expect(claim.keys).toEqual([keyOf(second)]);
    // As with runs that share an object: what had committed when the batch was claimed counts.
    await query('insert into invoices values ($1)', [keyOf(second)]);
    const settled = await store.settle(claim.batchId, claim.lease, {
      cleared: 'all',
      failed: [],
      milliseconds: 1,
    });
    expect(settled).toMatchObject({ cleared: 1, stamped: 1 });
  });

  test('is kept by either of two keepers, and until the later date', async () => {
    const { insertRuns, store, claimNext, query } = database();
    const [one = '', other = '', free = ''] = await insertRuns({ count: 3 });
    await query(`drop table if exists "Odd table" cascade;
      create table "Odd table" ("the key" varchar(200) collate "C", d date);
      create index on "Odd table" using hash ("the key")`);
    await query(`insert into "Odd table" values ($1, current_date + 3), ($2, current_date + 1)`, [
      keyOf(other),
      keyOf(one),
    ]);
    await keep([{ key: keyOf(one) }]);
    await store.addKeeper({ table: '"Odd table"', keyColumn: 'the key', untilColumn: 'd' });
    await store.flagExpired({ by: 'test' });
    expect(await claimNext()).toMatchObject({ keys: [keyOf(free)], spared: 2 });
    expect(
      await query(`select key, kept_by, until = 'infinity' as for_ever from retention.spared_object
        order by kept_by desc`),
    ).toEqual([
      { key: keyOf(one), kept_by: 'public.invoices', for_ever: true },
      { key: keyOf(other), kept_by: 'public."Odd table"', for_ever: false },
    ]);
    expect(await store.removeKeeper('public.invoices')).toBe(1);
    // The other one has it still.
    expect(await store.flagExpired({ by: 'test' })).toBe(1);
    expect(await claimNext()).toMatchObject({ keys: [], spared: 1 });
    expect(await store.removeKeeper('"Odd table"', 'the key')).toBe(1);
    expect(await store.flagExpired({ by: 'test' })).toBe(2);
  });

  test('is named in a partitioned table', async () => {
    const { insertRuns, store, claimNext, query } = database();
    const [kept = '', free = ''] = await insertRuns({ count: 2 });
    await query(`drop table if exists exports;
      create table exports (k text, y integer) partition by list (y);
      create table exports_1 partition of exports for values in (1);
      create index on exports (k);
      create table exports_2 partition of exports for values in (2)`);
    await query('insert into exports values ($1, 2)', [keyOf(kept)]);
    await store.addKeeper({ table: 'exports', keyColumn: 'k' });
    await store.flagExpired({ by: 'test' });
    expect(await claimNext()).toMatchObject({ keys: [keyOf(free)], spared: 1 });
    await query('drop table exports cascade');
  });

  test('of 20,000 due results 200 are named: exactly these stay', async () => {
    const { insertRuns, store, query } = database();
    await insertRuns({ count: 20_000 });
    await query(`${TABLE};
      insert into invoices select 'other/' || n from generate_series(1, 20000) n;
      insert into invoices select result_s3_key from runs order by md5(run_id::text) limit 200;
      analyze invoices`);
    await store.addKeeper({ table: 'invoices', keyColumn: 'pdf_key' });
    await store.flagExpired({ by: 'test', whole: true });
    const lease = crypto.randomUUID();
    for (;;) {
      const claim = await store.claim({ lease, leaseSeconds: 60, by: 'test' });
      if (claim === undefined) break;
      await store.settle(claim.batchId, lease, { cleared: 'all', failed: [], milliseconds: 1 });
    }
    expect(
      await query(`select (result_cleared_at is null) as stays, count(*)::int as results,
          count(*) filter (where exists (select from invoices i where i.pdf_key = r.result_s3_key))::int as named
        from runs r group by 1 order by 1`),
    ).toEqual([
      { stays: false, results: 19_800, named: 0 },
      { stays: true, results: 200, named: 200 },
    ]);
    expect(await store.flagExpired({ by: 'test', whole: true })).toBe(0);
  });
});
