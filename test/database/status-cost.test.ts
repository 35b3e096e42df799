import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';

const FILL = `
insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
select gen_random_uuid(), 'tenant-' || lpad((n % $2::int)::text, 5, '0'), 'COMPLETED',
  now() - $3::interval + n * interval '1 ms', 'b', 'results/' || n
from generate_series(1, $1::int) n`;

/** Settled or open batches of a thousand results, as flagging packs them. */
const BATCHES = `
insert into retention.batch (bucket, results, oldest, newest, run_ids, keys, tenants, cleared, settled_at)
select 'b', 1000, now() - interval '40 days' + n * interval '1 s', now() - interval '40 days' + n * interval '1 s',
  s.ids, s.keys, s.tenants, case when $2::interval is null then 0 else 1000 end, now() - $2::interval
from generate_series(1, $1::int) n
cross join (
  select array_agg(gen_random_uuid()::retention.run_id) as ids, array_agg(E'results/\\x01'::text) as keys,
    array_agg('tenant-00001'::text) as tenants
  from generate_series(1, 1000)
) s`;

describeDatabase('what a look at how things stand costs', () => {
  const database = useMigrated();

  const fill = (rows: number, tenants: number, ago: string): Promise<unknown> =>
    database().query(FILL, [rows, tenants, ago]);
  const addBatches = (count: number, settledAgo: string | null): Promise<unknown> =>
    database().query(BATCHES, [count, settledAgo]);

  /** How many pages a statement reads, as the second of its session. */
  async function pages(what: string): Promise<number> {
    const session = await database().connect();
    try {
      await session.query(`select * from ${what}`);
      const { rows } = await session.query<{ 'QUERY PLAN': readonly unknown[] }>(
        `explain (analyze, buffers, timing off, format json) select * from ${what}`,
      );
      const [explained] = rows[0]?.['QUERY PLAN'] ?? [];
      const { Plan: plan } = explained as { readonly Plan: Record<string, number> };
      return (plan['Shared Hit Blocks'] ?? 0) + (plan['Shared Read Blocks'] ?? 0);
    } finally {
      await session.end();
    }
  }

  const dueOf = async (): Promise<unknown> => {
    const { due, due_is_capped } = await database().store.readStatus();
    return { due, due_is_capped };
  };

  const LOOKS = [
    'retention.status',
    'retention.tenants_due()',
    'retention.wait_causes()',
    'retention.trend(1, false)',
  ] as const;

  async function pagesOfEach(): Promise<readonly number[]> {
    const found: number[] = [];
    await database().query(
      'vacuum analyze runs, retention.batch, retention.progress, retention.ahead',
    );
    for (const what of LOOKS) found.push(await pages(what));
    return found;
  }

  function expectAtMost(found: readonly number[], bounds: readonly number[]): void {
    expect(found.map((figure, n) => [LOOKS[n], figure <= (bounds[n] ?? 0) || figure])).toEqual(
      LOOKS.map((what) => [what, true]),
    );
  }

  test('the same with 20,000 rows as with 2,000, due or young', async () => {
    await fill(1_000, 20, '60 days');
    await fill(1_000, 20, '5 days');
    const few = await pagesOfEach();
    await fill(9_000, 20, '50 days');
    await fill(9_000, 20, '4 days');
    expectAtMost(
      await pagesOfEach(),
      few.map((figure) => figure * 1.5 + 50),
    );
  });

  test('the same with 2,000 tenants as with 400, before a pass and after it', async () => {
    const flag = (): Promise<unknown> => database().store.flagExpired({ by: 'test' });
    await fill(400, 400, '60 days');
    await fill(400, 400, '5 days');
    const before = await pagesOfEach();
    await flag();
    const after = await pagesOfEach();
    await fill(2_000, 2_000, '60 days');
    await fill(2_000, 2_000, '5 days');
    await database().query('delete from retention.progress');
    expectAtMost(
      await pagesOfEach(),
      before.map((figure) => figure * 1.5 + 300),
    );
    await flag();
    expectAtMost(
      await pagesOfEach(),
      after.map((figure) => figure * 1.5 + 300),
    );
  });

  test('a page for some open batches, whatever they carry, and none for receipts of years', async () => {
    // What is seen lies on both sides of all batches.
    await fill(100, 10, '60 days');
    await fill(100, 10, '31 days');
    await addBatches(20, null);
    const few = await pagesOfEach();
    await addBatches(180, null);
    // Four batches stand on a page, and what they carry stands elsewhere; three statements add them up.
    expectAtMost(
      await pagesOfEach(),
      few.map((figure) => figure + 3 * 180),
    );
    await addBatches(200, '2 years');
    expectAtMost(
      await pagesOfEach(),
      few.map((figure) => figure + 3 * 200),
    );
  });

  test('with more tenants than it looks at, it says "at least", and sees of whom something falls due next', async () => {
    const { query, store } = database();
    await fill(300, 300, '31 days');
    await fill(300, 300, '3 days');
    await store.flagExpired({ by: 'test' });
    await query(
      `delete from retention.batch;
      update runs set result_cleared_at = now() where completed_at < now() - interval '30 days'`,
    );
    expect(await dueOf()).toEqual({ due: 0, due_is_capped: true });
    // Twenty-eight days later, for the last by name.
    await query(
      `update runs set completed_at = completed_at - interval '28 days' where tenant_id = 'tenant-00299';
      update retention.ahead set due_at = due_at - interval '28 days' where tenant_key = '=tenant-00299'`,
    );
    expect(await dueOf()).toEqual({ due: 1, due_is_capped: true });
    expect(await query('select tenant_id from retention.tenants_due()')).toEqual([
      { tenant_id: 'tenant-00299' },
    ]);
    // A pass that sees it notes what comes next of that tenant: nothing.
    expect(await store.flagExpired({ by: 'test' })).toBe(1);
    expect(await dueOf()).toEqual({ due: 1, due_is_capped: true });
    expect(
      await query(`select from retention.ahead where tenant_key = '=tenant-00299'`),
    ).toHaveLength(0);
  });

  test('what is older than all that is flagged is seen beside any backlog', async () => {
    await fill(100, 2, '60 days');
    await database().store.flagExpired({ by: 'test' });
    await addBatches(30, null);
    await fill(7, 2, '90 days');
    expect(await dueOf()).toEqual({ due: 30_107, due_is_capped: false });
  });
});

describeDatabase('a look at tenants of another type, some results without one', () => {
  const database = useMigrated({
    before: 'alter table runs alter tenant_id drop not null, alter tenant_id type uuid using null',
  });

  test('more of them than it looks at: what falls due next is seen of those with a tenant and without', async () => {
    const { query, store } = database();
    const insert = (ago: string): Promise<unknown> =>
      query(
        `insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
        select gen_random_uuid(), case when n > 0 then lpad(n::text, 32, '0')::uuid end, 'COMPLETED',
          now() - $1::interval, 'b', 'results/' || n
        from generate_series(0, 299) n`,
        [ago],
      );
    await insert('31 days');
    await insert('3 days');
    await store.flagExpired({ by: 'test' });
    expect(await query('select from retention.ahead')).toHaveLength(300);
    await query(
      `delete from retention.batch;
      update runs set result_cleared_at = now() where completed_at < now() - interval '30 days';
      update runs set completed_at = completed_at - interval '28 days'
      where tenant_id is null or tenant_id = lpad('299', 32, '0')::uuid;
      update retention.ahead set due_at = due_at - interval '28 days'
      where tenant_key in ('', '=' || lpad('299', 32, '0')::uuid)`,
    );
    expect(await store.readStatus()).toMatchObject({ due: 2, due_is_capped: true });
    expect(await query('select tenant_id from retention.tenants_due()')).toHaveLength(2);
    expect(await store.flagExpired({ by: 'test' })).toBe(2);
    expect(await query('select from retention.ahead')).toHaveLength(298);
  });
});
