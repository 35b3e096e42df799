import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { surgeTools } from '../support/surges.ts';

describeDatabase('promise 13: ninety days of ordinary life', () => {
  // Dates without a time zone, as many applications have them, in the local time of whoever writes the row.
  const database = useMigrated({
    guarded: true,
    before: `alter table runs
      alter column completed_at type timestamp without time zone using completed_at at time zone 'UTC',
      add column retain_until timestamp without time zone`,
    columns: 'completed_at=completed_at,retain_until=retain_until',
  });
  const { walk, pass, clearFlagged, open, setAside } = surgeTools(database);

  /** Half of it crosses the spring changes of 2026 (8 and 29 March), half the autumn ones (25 October and 1 November). */
  function date(day: number, part: number): string {
    const start = day < 45 ? Date.UTC(2026, 2, 4) : Date.UTC(2026, 9, 10) - 45 * 86_400_000;
    return new Date(start + (day + part / 2) * 86_400_000).toISOString();
  }

  /** Where the tenants' applications run. */
  const ZONES = ['Europe/Berlin', 'America/New_York'] as const;

  /** The runs of the last half day: five times more on weekdays, and one tenant with ten times the others' number. */
  async function work(day: number, part: number, tenants: readonly string[]): Promise<void> {
    const base = day % 7 < 5 ? 5 : 1;
    await database().query(
      `insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key, retain_until, created_at, updated_at)
      select i.id, i.tenant, 'COMPLETED', (now() - i.ago) at time zone 'UTC' + z.offset, 'dpp-results',
        case when i.n % 8 = 1 then 'shared/' || i.tenant || '/' || (i.n / 16) || '/' || ($4::int / 6) else 'results/' || i.id end,
        case when i.n % 10 = 5 then (now() + interval '45 days') at time zone 'UTC' + z.offset end, now(), now()
      from (
        select t.tenant, t.zone, gen_random_uuid() as id, n, random() * interval '12 hours' as ago
        from unnest($1::text[], $2::int[], $3::text[]) as t (tenant, runs, zone)
        cross join lateral generate_series(1, t.runs) n
      ) i
      cross join lateral (select $5::timestamptz - i.ago as at) d
      cross join lateral (select (d.at at time zone i.zone) - (d.at at time zone 'UTC') as offset) z`,
      [
        tenants,
        tenants.map((_, index) => (index === 0 ? base * 10 : base)),
        tenants.map((_, index) => ZONES[index % 2]),
        day,
        date(day, part),
      ],
    );
  }

  test('bring no false surge, and nothing due is forgotten', { timeout: 240_000 }, async () => {
    const { query, one, set } = database();
    // Not one result is late by itself, so no number of rows makes a false surge, whatever the guards.
    await set({
      surge_guard: '0',
      surge_guard_all: '0',
      policy_guard: '20',
      small_backlog: '100',
    });
    const tenants = ['large', 'b', 'c', 'd'];
    const events: Readonly<Record<number, string>> = {
      38: `select retention.place_hold('audit', p_tenant_id => 'large')`,
      40: `insert into retention.hold (run_id, reason, expires_at)
        select run_id, 'one by one', now() + interval '3 days' from runs where tenant_id = 'b' order by completed_at limit 60`,
      42: `select retention.set_policy('c', '45 days')`,
      46: `select retention.release_holds(array(select hold_id from retention.hold where tenant_id = 'large'))`,
      50: `select retention.set_policy('c', '20 days'); select retention.confirm_policy('c')`,
      55: `select retention.place_hold('audit', p_tenant_id => 'd', p_for => '4 days')`,
      58: `select retention.set_policy('*', '25 days', true)`,
      62: `select retention.set_policy('*', '28 days')`,
      66: `select retention.set_policy('*', '20 days', true)`,
      70: `select retention.unset_policy('c', true)`,
      72: `update retention.setting set flag_limit = 50`,
      76: `update retention.setting set flag_limit = 50000`,
    };
    let gone = 0;
    // What is cleared is of no more interest, and would only make each day longer.
    const clear = async (): Promise<number> => {
      const cleared = await clearFlagged();
      await query(
        `delete from runs where result_cleared_at is not null; truncate retention.scan;
        set session_replication_role = replica;
        delete from retention.batch where settled_at is not null;
        reset session_replication_role`,
      );
      return cleared;
    };
    for (let day = 0; day < 90; day += 1) {
      if (day === 30) tenants.push('new');
      const event = events[day];
      if (event !== undefined) await query(event);
      for (let part = 0; part < 2; part += 1) {
        // The scheduler is down from day 44 to 47, and again over a change of the clocks.
        if ((day < 44 || day > 46) && (day < 66 || day > 68)) {
          await query(`update retention.heartbeat set passed_at = null`);
          await query('select retention.tick()');
          while ((await one<{ more: boolean }>('select more from retention.heartbeat')).more) {
            await query('select retention.tick()');
          }
          if (day < 72 || day > 75 || part % 2 === 0) gone += await clear();
        }
        await work(day, part, tenants);
        await pass('12 hours');
      }
      await query('vacuum runs');
      expect(await open(), `day ${day}`).toEqual([]);
    }
    for (let hour = 0; hour < 4; hour += 1) {
      await walk();
      gone += await clear();
      await pass('1 hour');
    }
    await walk();
    gone += await clear();
    expect(await query('select from retention.surge')).toEqual([]);
    expect(await query('select from retention.lateness')).toEqual([]);
    expect(await setAside()).toBe(0);
    expect(
      await one(`select count(*)::int as forgotten from retention._live l where l.is_due
        and not exists (select from retention._live o where o.key_hash = l.key_hash and o.key = l.key and o.bucket = l.bucket and not o.is_due)`),
    ).toEqual({ forgotten: 0 });
    expect(gone).toBeGreaterThan(5_000);
  });
});
