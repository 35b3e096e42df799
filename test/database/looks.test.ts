import { afterEach, describe, expect, test } from 'vitest';
import { createPool } from '../../src/database/pool.ts';
import { silentLogger } from '../../src/logger.ts';
import type { DueRun } from '../../src/store/selection.ts';
import { createStore } from '../../src/store/store.ts';
import { withBrokenRows } from '../support/broken-rows.ts';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { insertRandomRuns } from '../support/random-runs.ts';

const KEEPER = `select retention.add_keeper('public.needed', 'object_key', 'place', 'until')`;

describeDatabase('first looks', () => {
  const database = useMigrated({
    columns: 'retain_until=retain_until',
    before: `alter table runs add column retain_until timestamptz, alter column tenant_id drop not null`,
  });
  afterEach(() => database().query('select retention._make_views()'));

  /** What a way of looking lists, in its order. */
  const listed = async (call: string): Promise<string[]> => {
    const rows = await database().query<{ run_id: string }>(
      `select run_id::text from ${call} with ordinality as u (run_id, tenant_id, bucket, key, completed_at, due_at, n) order by n`,
    );
    return rows.map(({ run_id: id }) => id);
  };
  const few = (narrowing: string): string =>
    `unnest((select results from retention._list_few(${narrowing})))`;

  describe.each([1, 2, 3])('over a table drawn with seed %d', (seed) => {
    test.each([
      ['everything', 'null, null, false, null'],
      ['a tenant', `'t1', null, false, null`],
      ['what completed longer ago', `null, '40 days', false, null`],
      ['what completed longer ago, early', `null, '5 days', true, null`],
      ['a tenant, early', `'t2', '5 days', true, null`],
      ['the first twenty', 'null, null, false, 20'],
    ])('as sets, by index and row by row they list the same: %s', async (_name, narrowing) => {
      await insertRandomRuns(database(), { seed });
      await database().query(KEEPER);
      const truth = await listed(`retention._list_carefully(${narrowing})`);
      expect(truth.length).toBeGreaterThan(3);
      expect(await listed(`retention._list_many(${narrowing})`)).toEqual(truth);
      expect(await listed(few(narrowing))).toEqual(truth);
      const counted = `(select tenant_id, bucket, count(*) as results, min(completed_at) as oldest,
        count(*) filter (where due_at >= now()) as early
        from retention._list_carefully(${narrowing}) group by 1, 2)`;
      expect(
        await database().query(
          `select * from retention._count_many(${narrowing}) except select * from ${counted} c`,
        ),
      ).toEqual([]);
      expect(
        await database().query(
          `select * from ${counted} c except select * from retention._count_many(${narrowing})`,
        ),
      ).toEqual([]);
    });
  });

  /** The rows that only one of two questions returns. */
  const difference = (one: string, other: string): Promise<unknown[]> =>
    database().query(`(${one} except all ${other}) union all (${other} except all ${one})`);

  test.each([1, 2, 3])('upcoming says the same as sets and by tenant: seed %d', async (seed) => {
    const { query, one } = database();
    await insertRandomRuns(database(), { seed });
    // Some are flagged, dead or set aside already, and some are spared for a time.
    await query(`${KEEPER}; select retention.flag_expired(); update retention.batch set dead_at = now(), failed_at = now()
      where batch_id = (select min(batch_id) from retention.batch)`);
    await query(
      `update runs set completed_at = completed_at - interval '1 day' where result_s3_key like 'results/1%'`,
    );
    await query(`insert into retention.spared_object (bucket, key, etag, kept_by, until)
      select distinct result_s3_bucket, result_s3_key, '', 'public.needed', 'infinity'::timestamptz
      from runs where result_s3_key like 'results/2%' and result_s3_bucket is not null`);
    for (const [tenant, coolOff] of [
      ['null', 'null'],
      [`'t1'`, 'null'],
      ['null', `interval '36 hours'`],
    ] as const) {
      await query(`update retention.setting set cool_off = ${coolOff}`);
      const { end } = await one<{ end: string }>(
        `select (date_trunc('day', now(), 'UTC') + interval '10 days')::text as end`,
      );
      const grouped = `select date_trunc('day', at, 'UTC'), state, tenant_id, bucket, sum(results)`;
      const keys = tenant === 'null' ? 'null' : `array[retention._tenant_key(${tenant})]`;
      const byTenant = `${grouped} from retention._upcoming_by_tenant(${keys}, '${end}') group by 1, 2, 3, 4`;
      const sets = `${grouped} from retention._upcoming_at_once(${tenant}, '${end}') group by 1, 2, 3, 4`;
      expect(await difference(byTenant, sets)).toEqual([]);
      const states = await query<{ state: string }>(
        `select distinct state from retention._upcoming_at_once(${tenant}, '${end}')`,
      );
      expect(states.length).toBeGreaterThan(1);
    }
  });

  test.each([1, 2])(
    'the preview of a policy counts the same at once and by tenant: seed %d',
    async (seed) => {
      await insertRandomRuns(database(), { seed });
      for (const [tenant, retain] of [
        ['*', '8 days'],
        ['*', '90 days'],
        ['t2', '12 days'],
        ['t3', '2 days'],
      ] as const) {
        const [one, other] = ['_preview_by_tenant', '_preview_at_once'].map(
          (way) => `select * from retention.${way}('${tenant}', '${retain}')`,
        );
        expect(await difference(one ?? '', other ?? '')).toEqual([]);
      }
      expect(
        await database().query(`select from retention._preview_at_once('*', '8 days')`),
      ).not.toHaveLength(0);
    },
  );

  test('upcoming passes by the tenant of a row that cannot be read, and names it', async () => {
    const { insertRuns, connect } = database();
    const [bad = ''] = await insertRuns({ count: 3 });
    await insertRuns({ count: 4, tenant: 'globex' });
    const { breakRun } = await withBrokenRows(database());
    await breakRun(bad, 'XX001');
    const session = await connect();
    const warnings: (string | undefined)[] = [];
    session.on('notice', ({ message }) => warnings.push(message));
    const { rows } = await session.query(
      'select tenant_id, results::int from retention.upcoming()',
    );
    expect(rows).toEqual([{ tenant_id: 'globex', results: 4 }]);
    expect(warnings).toEqual([
      'a row of tenant acme cannot be read, and the tenant is left out: XX001 this row is broken',
    ]);
  });

  test('a large surge shows and loses the same as a small one: what was cleared, changed or moved leaves it', async () => {
    const { query, insertRuns, one } = database();
    const ids = await insertRuns({ count: 1_800 });
    await query(`
      insert into retention.surge (found_by, found, tenants, rule) values ('test', 1800, 1, 'tenant');
      insert into retention.surge_part (surge_id, bucket, results, oldest, newest, run_ids, keys, tenants)
      select (select max(surge_id) from retention.surge), 'dpp-results', count(*), min(completed_at), max(completed_at),
        array_agg(run_id), array_agg(retention._pack_key(result_s3_key, run_id::text)), array_agg(tenant_id)
      from (select *, row_number() over (order by run_id) / 300 as part from runs) r
      group by part`);
    const { id } = await one<{ id: number }>('select max(surge_id) as id from retention.surge');
    const change = (places: readonly number[], what: string): Promise<unknown> =>
      query(`update runs set ${what} where run_id = any ($1)`, [places.map((place) => ids[place])]);
    await change([0, 1, 2], 'result_cleared_at = now()');
    await change([700], `result_s3_key = 'other'`);
    await change([701], `result_s3_bucket = 'other'`);
    await change([702], 'completed_at = now()');
    await query(`insert into retention.hold (run_id, reason) values ('${ids[800]}', 'audit')`);
    const rows = (way: string): string =>
      `select run_id, tenant_id, bucket, completed_at, due_at, is_due from retention.${way}(${id})`;
    expect(await difference(rows('_surge_rows'), rows('_surge_rows_at_once'))).toEqual([]);
    const shown = `select tenant_id, results::int, still_due::int from retention.show_surge(${id})`;
    expect(await query(shown)).toEqual([{ tenant_id: 'acme', results: 1_794, still_due: 1_793 }]);
    expect(await one(`select retention.release_surge(${id}, 1794)::int as released`)).toEqual({
      released: 1_794,
    });
  });

  test('a dry run lists exactly what then goes', async () => {
    const { query, store } = database();
    await insertRandomRuns(database(), { seed: 4 });
    await query(KEEPER);
    // Some wait for a person, and stay.
    await query(`
      insert into retention.batch (bucket, results, oldest, newest, due_since, run_ids, keys, tenants, failed_at, dead_at, code)
      select 'dpp-results', 1, r.completed_at, r.completed_at, now(), array[r.run_id], array[r.result_s3_key], array[r.tenant_id], now(), now(), 'AccessDenied'
      from (select * from runs where result_s3_key like 'results/%' and completed_at < now() - interval '50 days' order by run_id limit 3) r;
      insert into retention.surge (found_by, found, tenants, rule) values ('test', 3, 1, 'tenant');
      insert into retention.surge_part (surge_id, bucket, results, oldest, newest, run_ids, keys, tenants)
      select (select max(surge_id) from retention.surge), 'dpp-results', 1, r.completed_at, r.completed_at, array[r.run_id], array[r.result_s3_key], array[r.tenant_id]
      from (select * from runs where result_s3_key like 'results/%' and completed_at < now() - interval '50 days' order by run_id desc limit 3) r`);
    const due = await listed('retention._list_many(null, null, false, null)');
    expect(due).toEqual(await listed('retention._list_carefully(null, null, false, null)'));
    await store.flagSelected({ all: true });
    for (;;) {
      const lease = crypto.randomUUID();
      const claim = await store.claim({ lease, leaseSeconds: 60, by: 'test' });
      if (claim === undefined) break;
      await store.settle(claim.batchId, lease, {
        cleared: claim.keys,
        failed: [],
        milliseconds: 1,
      });
    }
    const gone = await query<{ run_id: string }>(
      'select run_id::text from runs where result_cleared_at is not null',
    );
    expect(gone.map(({ run_id: id }) => id).toSorted()).toEqual(due.toSorted());
    expect(due.length).toBeGreaterThan(50);
  });

  test('runs come page by page, and are the ones that were counted, whatever commits meanwhile', async () => {
    const { query, url } = database();
    await database().insertRuns({ count: 7_000 });
    const pool = createPool({ url, applicationName: 'test', logger: silentLogger });
    try {
      await pool.withSnapshot(async (client) => {
        const store = createStore(client);
        const groups = await store.dueGroups({});
        await query('update runs set result_cleared_at = now()');
        const pages: (readonly DueRun[])[] = [];
        for await (const page of store.readDueRuns({})) pages.push(page);
        expect(pages.map((page) => page.length)).toEqual([5_000, 2_000]);
        expect(groups).toMatchObject([{ results: 7_000 }]);
        const order = pages.flat().map((run) => String(run.completed_at));
        expect(order).toEqual(order.toSorted((one, other) => one.localeCompare(other)));
      });
      const writing = pool.withSnapshot((client) =>
        client.query(`update public.runs set status = 'x'`),
      );
      await expect(writing).rejects.toMatchObject({ sqlState: '25006' });
    } finally {
      await pool.close();
    }
  });

  test('one row that cannot be read hides itself and no other, also among many', async () => {
    const { query, insertRuns, store } = database();
    const ids = await insertRuns({ count: 1_500 });
    const { breakRun } = await withBrokenRows(database());
    await breakRun(ids[700] ?? '', 'XX001');
    expect(await store.dueGroups({})).toMatchObject([{ tenant_id: 'acme', results: 1_499 }]);
    expect(await query('select count(*)::int as results from retention.list_due()')).toEqual([
      { results: 1_499 },
    ]);
  });

  test('a keeper that cannot be asked stops a look at many, and is not taken for one that needs nothing', async () => {
    const { query, insertRuns } = database();
    await insertRandomRuns(database(), { seed: 5, count: 10 });
    await query(KEEPER);
    await insertRuns({ count: 1_500 });
    await query('drop index public.needed_key');
    await expect(query('select * from retention.count_due()')).rejects.toMatchObject({
      code: 'RR051',
      message: expect.stringContaining('public.needed cannot be asked') as string,
    });
  });

  test('many results are read as sets: no object and no run is looked up by itself', async () => {
    const { query, insertRuns, connect } = database();
    await insertRuns({ count: 4_000 });
    await insertRuns({ count: 4_000, completedAgo: '1 day' });
    await query('analyze runs');
    const session = await connect();
    await session.query('begin; set local max_parallel_workers_per_gather = 0');
    const cost = async (look: string): Promise<{ scans: number; probes: number }> => {
      const read = `select seq_scan::int as scans, idx_scan::int as probes
        from pg_stat_xact_user_tables where relid = 'runs'::regclass`;
      const { rows: before } = await session.query<{ scans: number; probes: number }>(read);
      await session.query(look);
      const { rows: after } = await session.query<{ scans: number; probes: number }>(read);
      return {
        scans: (after[0]?.scans ?? 0) - (before[0]?.scans ?? 0),
        probes: (after[0]?.probes ?? 0) - (before[0]?.probes ?? 0),
      };
    };
    for (const look of ['retention.count_due()', 'retention.list_due()']) {
      const { scans, probes } = await cost(`select * from ${look}`);
      expect({ look, scans }).toEqual({ look, scans: Math.min(scans, 3) });
      expect({ look, probes }).toEqual({ look, probes: Math.min(probes, 20) });
    }
    await session.query('rollback');
  });
});
