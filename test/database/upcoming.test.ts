import { describe, expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { passTime } from '../support/pass-time.ts';

const DAYS = 30;

describeDatabase('upcoming: what goes when', () => {
  const database = useMigrated({
    columns: 'retain_until=retain_until',
    before: 'alter table runs add column if not exists retain_until timestamptz',
  });

  const upcoming = (
    days = DAYS,
    tenant: string | null = null,
  ): Promise<Record<string, unknown>[]> =>
    database().query(
      `select (day - (now() at time zone 'UTC')::date) as day, state, tenant_id, bucket, results::int as results
      from retention.upcoming($1, $2)`,
      [days, tenant],
    );

  /** Runs of six tenants that fall due all over the month, with whatever keeps one. */
  async function makeMonth(): Promise<void> {
    const { query } = database();
    await query(`
      insert into retention.policy (tenant_id, retain) values ('t1', '10 days');
      insert into runs (run_id, tenant_id, status, completed_at, retain_until, result_s3_bucket, result_s3_key)
      select gen_random_uuid(), 't' || i % 6, case when i % 97 = 0 then 'FAILED' else 'COMPLETED' end,
        d.due - case when i % 6 = 1 then interval '10 days' else interval '30 days' end
          - case when i % 11 = 0 then interval '40 days' else interval '0' end,
        -- A date of its own that says more than the policy.
        case when i % 11 = 0 then d.due end,
        case when i % 4 = 0 then 'second' else 'dpp-results' end,
        case when i % 89 = 0 then null when i in (300, 301) then 'shared' else 'results/' || i end
      from generate_series(1, 900) i
      cross join lateral (
        select date_trunc('day', now(), 'UTC') + (i % 35) * interval '1 day' + (5 + i * 37 % 1430) * interval '1 minute' as due
      ) d;
      update runs set result_s3_bucket = 'dpp-results',
        completed_at = date_trunc('day', now(), 'UTC') - interval '30 days'
          + case tenant_id when 't0' then interval '3 days 7 hours' else interval '9 days 3 hours' end,
        tenant_id = case tenant_id when 't0' then 't4' else 't5' end, retain_until = null
      where result_s3_key = 'shared';
      insert into retention.hold (run_id, reason, expires_at)
      select run_id, 'audit', date_trunc('day', now(), 'UTC') + interval '20 days 12 hours'
      from runs where result_s3_key in ('results/7', 'results/14', 'results/100', 'results/205', 'results/310');
      insert into retention.hold (tenant_id, reason, expires_at) values
        ('t2', 'audit', date_trunc('day', now(), 'UTC') + interval '12 days 3 hours'),
        ('t3', 'audit', null)`);
  }

  /** Flags and clears whatever may go now; returns how many went, by tenant and bucket. */
  async function clearDue(): Promise<Record<string, number>> {
    const { query, store } = database();
    await query('select retention.flag_expired(null, null, true)');
    const counted = `select tenant_id || ' ' || result_s3_bucket as place, count(*)::int as results
      from runs where result_cleared_at is not null group by 1`;
    const before = new Map(
      (await query<{ place: string; results: number }>(counted)).map((row) => [
        row.place,
        row.results,
      ]),
    );
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
    const after = await query<{ place: string; results: number }>(counted);
    return Object.fromEntries(
      after
        .map(({ place, results }) => [place, results - (before.get(place) ?? 0)] as const)
        .filter(([, results]) => results > 0)
        .toSorted(([one], [other]) => one.localeCompare(other)),
    );
  }

  function onDay(rows: readonly Record<string, unknown>[], day: number): Record<string, number> {
    const sums: Record<string, number> = {};
    for (const row of rows.filter((it) => it['day'] === day)) {
      const place = `${String(row['tenant_id'])} ${String(row['bucket'])}`;
      sums[place] = (sums[place] ?? 0) + Number(row['results']);
    }
    return Object.fromEntries(
      Object.entries(sums).toSorted(([one], [other]) => one.localeCompare(other)),
    );
  }

  describe('the sums differ by 0 from what then happens in a simulated month', () => {
    test.each([
      ['without a cool-off', 'null'],
      ['with a cool-off of two days', `interval '48 hours'`],
    ])('%s', { timeout: 120_000 }, async (_name, coolOff) => {
      await makeMonth();
      await database().set({ cool_off: coolOff });
      const forecast = await upcoming();
      // The rest of today first; from then on whole days.
      const [rest] = await database().query<{ rest: string }>(
        `select (date_trunc('day', now(), 'UTC') + interval '1 day' - now())::text as rest`,
      );
      await clearDue();
      const went: Record<string, number>[] = [];
      for (let day = 0; day <= DAYS; day += 1) {
        // What was flagged at the start of the simulation is flagged on this day.
        await passTime(database(), day === 0 ? (rest?.rest ?? '') : '1 day');
        went.push(await clearDue());
      }
      const sums = Array.from({ length: DAYS + 1 }, (_, day) => onDay(forecast, day));
      // What was due before the first moment went then; it is of the first day.
      const [start] = await database().query<{ results: number }>(
        'select count(*)::int as results from runs where result_cleared_at is not null',
      );
      const total = (days: readonly Record<string, number>[]): number =>
        days.flatMap((places) => Object.values(places)).reduce((sum, count) => sum + count, 0);
      expect(total(sums)).toBe(start?.results);
      expect(went.slice(1)).toEqual(sums.slice(1));
      expect(total(sums)).toBeGreaterThan(300);
      expect(forecast.filter((row) => row['state'] === 'held').length).toBeGreaterThan(0);
    });
  });

  test('separates what is flagged, due, falls due, is held, shared and dead', async () => {
    const { query, insertRuns, insertRun, failRuns, set } = database();
    const dead = await insertRuns({ count: 2, tenant: 'dead' });
    await failRuns(dead, { dead: true });
    await insertRuns({ count: 3, tenant: 'flagged' });
    await query('select retention.flag_expired()');
    await insertRuns({ count: 4, tenant: 'due' });
    await insertRuns({ count: 5, tenant: 'soon', completedAgo: '28 days' });
    await insertRuns({ count: 6, tenant: 'later', completedAgo: '3 days' });
    const held = await insertRun({ tenant: 'held' });
    await query(`select retention.place_hold('audit', '${held}')`);
    await insertRun({ tenant: 'sharer', key: 'same' });
    await insertRun({ tenant: 'keeper', key: 'same', completedAgo: '1 day' });
    await insertRuns({ count: 2, tenant: 'nowhere', bucket: null });
    expect(await upcoming(7)).toEqual([
      { day: 0, state: 'due', tenant_id: 'due', bucket: 'dpp-results', results: 4 },
      { day: 0, state: 'flagged', tenant_id: 'flagged', bucket: 'dpp-results', results: 3 },
      { day: 2, state: 'upcoming', tenant_id: 'soon', bucket: 'dpp-results', results: 5 },
      { day: null, state: 'dead', tenant_id: 'dead', bucket: 'dpp-results', results: 2 },
      { day: null, state: 'held', tenant_id: 'held', bucket: 'dpp-results', results: 1 },
      { day: null, state: 'shared', tenant_id: 'sharer', bucket: 'dpp-results', results: 1 },
    ]);
    expect(await upcoming(7, 'soon')).toEqual([
      { day: 2, state: 'upcoming', tenant_id: 'soon', bucket: 'dpp-results', results: 5 },
    ]);
    await set({ cool_off: `interval '3 days'` });
    expect((await upcoming(7, 'due')).map(({ day }) => day)).toEqual([3]);
    expect((await upcoming(7, 'flagged')).map(({ day }) => day)).toEqual([3]);
    await set({ cool_off: 'null' });
  });

  test('refuses days and tenants that cannot be, and changes nothing', async () => {
    const { query } = database();
    for (const [sql, message] of [
      ['select retention.upcoming(-1)', 'expected 0 to 366 days, given: -1'],
      ['select retention.upcoming(367)', 'given: 367'],
      ['select retention.upcoming(null)', 'given: null'],
      [`select retention.upcoming(7, '')`, 'given: an empty text'],
    ] as const) {
      await expect(query(sql)).rejects.toMatchObject({
        code: '22023',
        message: expect.stringContaining(message) as string,
      });
    }
    await expect(
      query('select retention.upcoming(7, $1)', ['x'.repeat(2000)]),
    ).rejects.toMatchObject({
      code: '22023',
    });
    expect(await query('select retention.upcoming(0)')).toEqual([]);
  });

  test('while the table is detached it says what is flagged', async () => {
    const { query, insertRuns } = database();
    await insertRuns({ count: 3 });
    await query('select retention.flag_expired()');
    await insertRuns({ count: 2 });
    await query('select retention.detach()');
    try {
      expect(await upcoming(7)).toMatchObject([{ state: 'flagged', results: 3 }]);
    } finally {
      await query('select retention.attach()');
    }
  });

  test('reads what falls due by an index of one tenant after the other, and not the table', async () => {
    const { query, insertRuns } = database();
    await insertRuns({ count: 3000, completedAgo: '1 day' });
    await insertRuns({ count: 20, completedAgo: '28 days' });
    await query('analyze runs');
    const reads = async (): Promise<number> => {
      const [row] = await query<{ reads: number }>(
        `select (pg_stat_get_xact_tuples_fetched('runs'::regclass) + pg_stat_get_xact_tuples_returned('runs'::regclass))::int
          as reads from retention.upcoming(3)`,
      );
      return row?.reads ?? 0;
    };
    expect(await reads()).toBeLessThan(200);
  });
});
