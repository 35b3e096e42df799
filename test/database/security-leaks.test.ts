import type pg from 'pg';
import { beforeAll, expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { LISTENER, useGuarded } from '../support/rights-roles.ts';

const HIDDEN = 'what-the-view-does-not-show';

// A function that is cheap, so that the planner runs it first, and says what it was given.
const SPY = `
create schema spying;
grant all on schema spying to ${LISTENER};
create function spying.spy(p_seen anyelement) returns boolean language plpgsql cost 0.0000001 as $$
begin
  raise notice 'spy: %', p_seen;
  return true;
end $$;
create function spying.spy_text(p_seen text) returns boolean language plpgsql cost 0.0000001 as $$
begin
  raise notice 'spy: %', p_seen;
  return p_seen is not null;
end $$;
create function spying.spy_pair(p_left text, p_right text) returns boolean language plpgsql cost 0.0000001 as $$
begin
  raise notice 'spy: % %', p_left, p_right;
  return false;
end $$;
create operator spying.=== (leftarg = text, rightarg = text, function = spying.spy_pair)`;

describeDatabase('promise 10: what the views let through', () => {
  const database = useGuarded();
  let listener: pg.Client;
  const heard: string[] = [];

  beforeAll(async () => {
    const { query, connectAs } = database();
    await query(`alter table runs add column secret text default '${HIDDEN}'`);
    await query(SPY);
    listener = await connectAs(LISTENER);
    listener.on('notice', ({ message }) => heard.push(message ?? ''));
  });

  /** What the listener's role gets and hears of a query. */
  async function seen(sql: string): Promise<string> {
    heard.length = 0;
    const { rows } = await listener.query(sql);
    return JSON.stringify([rows, heard]);
  }

  const COLUMNS =
    'run_id tenant_id status completed_at retain_until bucket key etag cleared_at updated_at'.split(
      ' ',
    );

  test('the view has the columns of the contract and no other', async () => {
    await database().insertRun();
    const { fields } = await listener.query('select * from retention.result');
    expect(fields.map(({ name }) => name)).toEqual(COLUMNS);
  });

  test.each([
    'select * from retention.result r where spying.spy(r)',
    'select * from retention.result r where spying.spy(r.key) and spying.spy(r::text)',
    'select * from retention.result r where spying.spy(row_to_json(r))',
    'select * from retention.result r where spying.spy(to_jsonb(r.*))',
    `select * from retention.result r where r.key operator(spying.===) r.tenant_id`,
    'select r::text, to_json(r), hstore from retention.result r cross join lateral (select r::text as hstore) h',
    'select row(r.*)::text, (r).* from retention.result r',
    'select * from retention.result r order by spying.spy(r)',
    'select spying.spy(r) from retention.result r group by r',
    'select * from retention.status r where spying.spy(r)',
    'with r as not materialized (select * from retention.result) select * from r where spying.spy(r)',
    'select * from retention.result tablesample_r where spying.spy(tablesample_r)',
    'explain (analyze, verbose, costs off) select * from retention.result r where spying.spy(r)',
    'explain (verbose) select * from retention.result where spying.spy_text(key)',
  ])('neither rows nor a spying function show a hidden column: %s', async (sql) => {
    await database().insertRuns({ count: 3 });
    const text = await seen(sql);
    expect(text.length).toBeGreaterThan(2);
    expect(text).not.toContain(HIDDEN);
    expect(text).not.toContain('secret');
    if (sql.includes('spying') && !sql.startsWith('explain')) expect(heard).not.toEqual([]);
  });

  test.each(['secret', 'created_at', 'result_s3_key', 'ctid', 'xmin', 'tableoid'])(
    "the view knows no column %s of the application's table",
    async (column) => {
      await expect(
        listener.query(`select r.${column} from retention.result r`),
      ).rejects.toMatchObject({ code: '42703' });
      await expect(
        listener.query(`select * from retention.result r where (r).${column} is not null`),
      ).rejects.toMatchObject({ code: '42703' });
    },
  );

  test('statistics, the catalogs and errors tell nothing of it either', async () => {
    const { query, insertRuns } = database();
    await insertRuns({ count: 50 });
    await query('analyze runs');
    expect(await query(`select from pg_stats where tablename = 'runs'`)).not.toEqual([]);
    expect(await seen(`select * from pg_stats where tablename = 'runs'`)).toBe('[[],[]]');
    expect(await seen(`select * from pg_stats_ext where tablename = 'runs'`)).toBe('[[],[]]');
    expect(await seen(`select * from information_schema.columns where table_name = 'runs'`)).toBe(
      '[[],[]]',
    );
    const failed = await listener
      .query(`select from retention.result where cleared_at = 'never'::text::timestamptz`)
      .catch((error: unknown) => JSON.stringify(error));
    expect(failed).not.toContain(HIDDEN);
  });

  test('what breaks a rule of the table names no value that the view does not show', async () => {
    const { query, insertRun } = database();
    const runId = await insertRun();
    await query(
      `alter table runs add constraint never check (result_cleared_at is null) not valid`,
    );
    const error = await listener
      .query(
        `select retention.stamp_gone(bucket, array[run_id::text], array[key])
        from retention.result where run_id = $1`,
        [runId],
      )
      .then(
        () => undefined,
        (thrown: unknown) => thrown as { code: string },
      );
    await query('alter table runs drop constraint never');
    expect(JSON.stringify([error ?? null])).not.toContain(HIDDEN);
    expect(await seen('select * from retention.batch')).not.toContain(HIDDEN);
  });

  test('row-level security with default deny hides every row, but for what the view shows', async () => {
    await database().insertRuns({ count: 4 });
    await database().query(`grant select on runs to ${LISTENER}`);
    try {
      expect((await listener.query('select * from runs')).rows).toEqual([]);
      expect((await listener.query('select * from retention.result')).rows).toHaveLength(4);
    } finally {
      await database().query(`revoke select on runs from ${LISTENER}`);
    }
  });

  test('stays plain: a barrier would keep the indexes from being used', async () => {
    expect(
      await database().query(
        `select relname, reloptions from pg_class
        where relnamespace = 'retention'::regnamespace and relkind = 'v' and reloptions is not null`,
      ),
    ).toEqual([]);
  });
});
