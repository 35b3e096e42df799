import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { keyOf, useMigrated } from '../support/migrated.ts';

const MORE_THAN_THE_GUARD = 1_001;

describeDatabase('a policy', () => {
  const database = useMigrated();

  async function policyOf(tenantId = '*') {
    const policies = await database().store.listPolicies();
    return policies.find((policy) => policy.tenant_id === tenantId);
  }

  async function isPending(tenantId = '*') {
    return (await policyOf(tenantId))?.pending_retain_days !== null;
  }

  test('that is shortened says how many live results it makes due at once, for whom', async () => {
    const { store, insertRuns } = database();
    await insertRuns({ count: 3, tenant: 'acme', completedAgo: '10 days' });
    await insertRuns({ count: 2, tenant: 'globex', completedAgo: '10 days' });
    await insertRuns({ count: 4, tenant: 'globex', completedAgo: '31 days' });
    await insertRuns({ count: 5, tenant: 'initech', completedAgo: '10 days' });
    await insertRuns({ count: 6, tenant: 'umbrella', completedAgo: '10 days' });
    await store.setPolicy('initech', 60, false);
    await store.placeHolds({ tenantIds: ['umbrella'], reason: 'audit' });
    const newlyDue = await store.newlyDue('*', 7);
    expect(newlyDue).toEqual([
      { tenant_id: 'acme', results: 3 },
      { tenant_id: 'globex', results: 2 },
    ]);
    expect(await store.setPolicy('*', 7, false)).toBe(5);
    expect(await policyOf()).toMatchObject({ retain_days: 7, pending_retain_days: null });
  });

  test.each([
    [
      'by environment',
      () => database().store.configure({ retentionDays: 3 }),
      /stays 30 days, because 3 days would make 1001 results due at once/u,
    ],
    [
      'by SQL',
      () => database().query(`update retention.policy set retain = '3 days' where tenant_id = '*'`),
      undefined,
    ],
    ['by set_policy', () => database().store.setPolicy('*', 3, false), undefined],
    [
      'by SQL that calls itself confirmed',
      () =>
        database().query(
          `update retention.policy set retain = '3 days', confirmed_at = now(), confirmed_by = 'me',
            confirmed_results = 5000 where tenant_id = '*'`,
        ),
      undefined,
    ],
    [
      'by SQL that confirms what waits without its number',
      () =>
        database().query(
          `update retention.policy set retain = '3 days' where tenant_id = '*';
          update retention.policy set retain = pending_retain, confirmed_at = now() where tenant_id = '*'`,
        ),
      undefined,
    ],
  ])('that is shortened %s above the guard waits', async (_, shorten, said) => {
    const { store, insertRuns, query } = database();
    await insertRuns({ count: MORE_THAN_THE_GUARD, completedAgo: '10 days' });
    const answer = await shorten();
    if (said !== undefined) expect(JSON.stringify(answer)).toMatch(said);
    expect(await policyOf()).toMatchObject({
      retain_days: 30,
      pending_retain_days: 3,
      pending_results: MORE_THAN_THE_GUARD,
      pending_by: 'postgres',
    });
    await query('select retention.flag_expired(p_whole => true)');
    expect(await store.readStatus()).toMatchObject({
      flagged: 0,
      due: 0,
      policies_pending: 1,
      default_retain_days: 30,
      policy_pending: expect.stringContaining('would make 1001 results due at once') as string,
    });
  });

  test("that is a tenant's first and shorter one waits above the guard as well", async () => {
    const { query, insertRuns } = database();
    await insertRuns({ count: MORE_THAN_THE_GUARD, completedAgo: '10 days' });
    await query(`insert into retention.policy (tenant_id, retain) values ('acme', '3 days')`);
    expect(await policyOf('acme')).toMatchObject({ retain_days: 30, pending_retain_days: 3 });
  });

  test('that waits is confirmed by SQL with no smaller number, and is never emptied', async () => {
    const { store, query, insertRuns } = database();
    await insertRuns({ count: MORE_THAN_THE_GUARD, completedAgo: '10 days' });
    await store.setPolicy('*', 3, false);
    const confirm = (results: number): Promise<unknown> =>
      query(`update retention.policy set retain = pending_retain, confirmed_at = now(), confirmed_results = ${results},
        pending_retain = null, pending_results = null, pending_at = null, pending_by = null`);
    await expect(confirm(MORE_THAN_THE_GUARD - 1)).rejects.toThrow(
      'would make 1001 results due at once by now, more than the 1000 that were expected',
    );
    await confirm(MORE_THAN_THE_GUARD);
    expect(await policyOf()).toMatchObject({ retain_days: 3, confirmed_results: 1_001 });
    for (const table of ['policy', 'setting']) {
      await expect(query(`truncate retention.${table}`)).rejects.toThrow(
        `retention.${table} cannot be emptied`,
      );
    }
  });

  test('that makes no more due than the guard allows takes effect', async () => {
    const { query, insertRuns } = database();
    await insertRuns({ count: MORE_THAN_THE_GUARD - 1, completedAgo: '10 days' });
    await query(`update retention.policy set retain = '3 days' where tenant_id = '*'`);
    expect(await policyOf()).toMatchObject({ retain_days: 3, pending_retain_days: null });
  });

  test('that waits takes effect when it is confirmed; who, when and how many is noted', async () => {
    const { store, insertRuns, query } = database();
    await insertRuns({ count: MORE_THAN_THE_GUARD, completedAgo: '10 days' });
    await store.setPolicy('*', 3, false);
    await insertRuns({ count: 10, completedAgo: '9 days' });
    await expect(store.confirmPolicy('*', MORE_THAN_THE_GUARD)).rejects.toThrow(
      'would make 1011 results due at once by now, more than the 1001 that were expected',
    );
    expect(await isPending()).toBe(true);
    expect(await store.confirmPolicy('*', 1_011)).toBe(1_011);
    const policy = await policyOf();
    expect(policy).toMatchObject({
      retain_days: 3,
      pending_retain_days: null,
      pending_results: null,
      confirmed_results: 1_011,
      confirmed_by: 'postgres',
    });
    expect(policy?.confirmed_at).toBeInstanceOf(Date);
    await query('select retention.flag_expired()');
    expect(await store.readStatus()).toMatchObject({ flagged: 1_011, policies_pending: 0 });
    expect(await store.confirmPolicy('*')).toBe(0);
  });

  test('that is set and confirmed in one goes past the guard', async () => {
    const { store, insertRuns } = database();
    await insertRuns({ count: MORE_THAN_THE_GUARD, completedAgo: '10 days' });
    expect(await store.setPolicy('*', 3, true)).toBe(MORE_THAN_THE_GUARD);
    expect(await policyOf()).toMatchObject({
      retain_days: 3,
      confirmed_results: MORE_THAN_THE_GUARD,
    });
  });

  test('that waits is withdrawn by asking for what is in force', async () => {
    const { store, insertRuns } = database();
    await insertRuns({ count: MORE_THAN_THE_GUARD, completedAgo: '10 days' });
    await store.setPolicy('*', 3, false);
    expect(await isPending()).toBe(true);
    await store.setPolicy('*', 30, false);
    expect(await isPending()).toBe(false);
  });

  test('of a tenant is not removed by SQL above the guard, nor handed to another', async () => {
    const { store, query, insertRuns } = database();
    await store.setPolicy('acme', 90, false, true);
    await insertRuns({ count: MORE_THAN_THE_GUARD, completedAgo: '60 days' });
    await expect(query(`delete from retention.policy where tenant_id = 'acme'`)).rejects.toThrow(
      'would make 1001 results due at once',
    );
    await expect(query(`delete from retention.policy where tenant_id = '*'`)).rejects.toThrow(
      'cannot be removed',
    );
    await expect(
      query(`update retention.policy set tenant_id = 'globex' where tenant_id = 'acme'`),
    ).rejects.toThrow('cannot be handed');
    expect(await policyOf('acme')).toMatchObject({ retain_days: 90 });
  });

  test('of a tenant is unset above the guard only when that is confirmed', async () => {
    const { store, insertRuns } = database();
    await store.setPolicy('acme', 90, false, true);
    await insertRuns({ count: MORE_THAN_THE_GUARD, completedAgo: '60 days' });
    expect(await store.unsetPolicy('acme', false)).toBe(MORE_THAN_THE_GUARD);
    expect(await policyOf('acme')).toMatchObject({ retain_days: 90, pending_retain_days: 30 });
    expect(await store.unsetPolicy('acme', true)).toBe(MORE_THAN_THE_GUARD);
    expect(await policyOf('acme')).toBeUndefined();
  });

  test('that is lengthened spares what is flagged when it is claimed', async () => {
    const { store, insertRuns, query } = database();
    await insertRuns({ count: 5 });
    const [longer = ''] = await insertRuns({ count: 1, completedAgo: '100 days' });
    await query('select retention.flag_expired()');
    expect(await store.setPolicy('*', 90, false)).toBe(0);
    const claim = await store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'test' });
    expect(claim).toMatchObject({ keys: [keyOf(longer)], spared: 5 });
    await store.setPolicy('*', 30, false);
    await query('select retention.flag_expired()');
    expect(await query('select from retention.flagged')).toHaveLength(6);
  });

  test.each([
    ['of nothing', '0 days', 'retain_is_at_least_one_day'],
    ['of less than a day', '23 hours', 'retain_is_at_least_one_day'],
    ['of a century', '100 years', 'retain_is_below_a_century'],
  ])('%s is refused', async (_, retain, constraint) => {
    const { query } = database();
    const set = query(`select retention.set_policy('acme', $1::interval)`, [retain]);
    await expect(set).rejects.toMatchObject({
      constraint,
      message: expect.stringContaining('1 day to 99 years') as string,
    });
    await expect(
      query(`update retention.policy set retain = $1::interval`, [retain]),
    ).rejects.toMatchObject({ constraint });
    expect(await policyOf('acme')).toBeUndefined();
    expect(await policyOf()).toMatchObject({ retain_days: 30 });
  });

  test('of seven years for ten tenants does not slow the pass of the others', async () => {
    const { store, insertRuns, query, one } = database();
    for (let tenant = 0; tenant < 10; tenant += 1) {
      await store.setPolicy(`keeper-${tenant}`, 7 * 365, false, true);
      await insertRuns({ count: 2_000, tenant: `keeper-${tenant}`, completedAgo: '400 days' });
    }
    await insertRuns({ count: 50, completedAgo: '31 days' });
    await query('vacuum analyze runs');
    await query('select retention.flag_expired(p_whole => true)');
    expect(
      await one('select looked_at, flagged from retention.scan order by scan_id desc limit 1'),
    ).toEqual({ looked_at: 50, flagged: 50 });
    expect(await store.newlyDue('*', 29)).toEqual([]);
  });
});
