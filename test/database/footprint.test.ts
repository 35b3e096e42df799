import { expect, onTestFinished, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { dueRuns } from '../support/due-runs.ts';
import { useMigrated } from '../support/migrated.ts';
import { until } from '../support/until.ts';

const RUNS = 8_000;
/** An entry in each index, with what the log needs around it. */
const BYTES_OF_LOG = 190;

describeDatabase('what our indexes cost the application', () => {
  const database = useMigrated();

  const sizes = async (): Promise<{ live: number; key: number }> =>
    database().one(
      `select pg_relation_size('retention_live')::int as live, pg_relation_size('retention_key')::int as key`,
    );

  /** What a statement writes to the log, by the server's own count. */
  async function logged(statement: string): Promise<number> {
    const [row] = await database().query<{ 'QUERY PLAN': { Plan: { 'WAL Bytes': number } }[] }>(
      `explain (analyze, wal, timing off, format json) ${statement}`,
    );
    return row?.['QUERY PLAN'][0]?.Plan['WAL Bytes'] ?? Number.NaN;
  }

  async function life(table: string): Promise<number> {
    const statements = [
      `insert into ${table} (run_id, tenant_id, status)
      select md5(n::text)::uuid, 'tenant-' || n % 200, 'PENDING' from generate_series(1, ${RUNS}) n`,
      `update ${table} set status = 'RUNNING', updated_at = now()`,
      `update ${table} set status = 'COMPLETED', completed_at = clock_timestamp(), updated_at = now(),
        result_s3_bucket = 'dpp-results', result_s3_key = 'results/' || run_id || '.json'`,
    ];
    let bytes = 0;
    for (const statement of statements) bytes += await logged(statement);
    return bytes / RUNS;
  }

  test('the indexes on the application’s table take at most 70 bytes a live row', async () => {
    const { query } = database();
    await life('runs');
    // Rows of a month have other times than rows of a second.
    await query(`update runs set completed_at = now() - random() * interval '30 days'`);
    // An index also names dead rows that an open snapshot may still see.
    await until(
      'both indexes take at most 70 bytes a row',
      async () => {
        await query('reindex table runs');
        const { live, key } = await sizes();
        return (live + key) / RUNS <= 70;
      },
      { limitMs: 15_000, pollMs: 500 },
    );
  });

  test('a run’s life writes little more to the log, and until it completes nothing to our indexes', async () => {
    const { query } = database();
    await query('reindex table runs');
    const empty = await sizes();
    await query(`insert into runs (tenant_id, status) select 'acme', 'PENDING' from generate_series(1, ${RUNS});
      update runs set status = 'RUNNING', updated_at = now()`);
    expect(await sizes()).toEqual(empty);
    await query('truncate runs');
    await query('create table bare (like runs including defaults, primary key (run_id))');
    onTestFinished(() => query('drop table bare').then(() => undefined));
    expect((await life('runs')) - (await life('bare'))).toBeLessThan(BYTES_OF_LOG);
  });

  test('a key of any length is stored, and one that S3 cannot hold is no object', async () => {
    const { query, store } = database();
    await query(
      `insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      select 'acme', 'COMPLETED', now() - interval '40 days', 'dpp-results',
        (select string_agg(md5((n * m)::text), '') from generate_series(1, n) m)
      from unnest(array[20, 200, 40000]) n`,
    );
    expect(await store.flagExpired({ by: 'test', whole: true })).toBe(1);
  });

  test('keys of which the index knows the same number are told apart', async () => {
    const { query, one, insertRun, store, claimNext } = database();
    await query(`create or replace function retention._key_hash(p_key text) returns bigint
      language sql immutable return 0;
      do $$
      begin
        execute 'create or replace view retention._live as select '
          || (
            select string_agg(
              case when a.attname = 'key_hash' then '0::bigint as key_hash' else format('l.%I', a.attname) end,
              ', ' order by a.attnum)
            from pg_attribute a
            where a.attrelid = 'retention._live'::regclass and a.attnum > 0 and not a.attisdropped
          )
          || ' from (' || rtrim(pg_get_viewdef('retention._live'), '; ') || ') l';
      end $$`);
    onTestFinished(() =>
      query(`create or replace function retention._key_hash(p_key text) returns bigint
        language sql immutable return hashtextextended(p_key collate "C", 0);
        select retention._make_views()`).then(() => undefined),
    );
    await insertRun({ key: 'mine' });
    await insertRun({ key: 'shared' });
    await insertRun({ key: 'shared', completedAgo: '1 day' });
    const young = await insertRun({ key: 'young', completedAgo: '2 days' });
    expect(await dueRuns(database(), {})).toMatchObject([{ key: 'mine' }]);
    await store.flagExpired({ by: 'test', whole: true });
    expect((await claimNext()).keys).toEqual(['mine']);
    expect(
      await one(`select reason from retention._orphan_reasons('dpp-results', array['elsewhere'])`),
    ).toEqual({ reason: null });
    const start = await store.beginVerify();
    const listed = ['mine', 'shared'].map((key) => ({ key, size: 1, lastModified: new Date(0) }));
    const stretch = { bucket: 'dpp-results', prefix: '', after: undefined, until: undefined };
    expect(await store.compareListing(start, { ...stretch, objects: listed })).toEqual([
      { runId: young, key: 'young', isDue: false },
    ]);
    await store.forgetStrays(start.verifyId);
    expect(await query('select from retention.key_copy')).toEqual([]);
    expect(await query('select from retention.key_stretch')).toEqual([]);
  });

  test('results of one moment are flagged once each, however many parts a pass has', async () => {
    const { query, one } = database();
    await query(
      `insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      select 'acme', 'COMPLETED', now() - interval '40 days', 'dpp-results', 'results/' || n
      from generate_series(1, 7000) n`,
    );
    let flagged = 0;
    for (let pass = 0; pass < 3; pass += 1)
      flagged += (await one<{ flagged: number }>('select retention.flag_expired(3000) as flagged'))
        .flagged;
    expect(flagged).toBe(7_000);
    expect(
      await query(
        'select count(distinct run_id)::int as runs, count(*)::int as all from retention.flagged',
      ),
    ).toEqual([{ runs: 7_000, all: 7_000 }]);
  });
});
