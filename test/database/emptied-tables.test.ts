import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { surgeTools } from '../support/surges.ts';

describeDatabase('promise 13: a table that is emptied by mistake', () => {
  const database = useMigrated({ guarded: true });
  const { fill, walk, pass, clearFlagged, open, setAside, flagged } = surgeTools(database);

  /** 200 results that are not due of each of two tenants; a complete walk has seen them, and it was hours ago. */
  async function steady(): Promise<void> {
    await database().set({ surge_guard: '20', surge_guard_all: '50' });
    await fill({ count: 400, tenants: 2, from: '28 days', to: '1 day' });
    await walk();
    await pass('2 hours');
  }

  test('policies, settings and what the reactor knows of itself cannot be emptied at once', async () => {
    const { query } = database();
    const oneRow =
      'setting adapter identity fence heartbeat pass_lock stamping gate_state installed seal_head';
    for (const table of oneRow.split(' ')) {
      for (const sql of [`truncate retention.${table}`, `delete from retention.${table}`]) {
        await expect(query(sql), sql).rejects.toThrow(
          `retention.${table} cannot be emptied: without its rows nothing is flagged or claimed any more`,
        );
      }
    }
    await expect(query('truncate retention.policy')).rejects.toThrow(
      'retention.policy cannot be emptied',
    );
    await expect(query('truncate retention.policy cascade')).rejects.toMatchObject({
      code: '23514',
      hint: expect.stringContaining('retention policy unset TENANT') as string,
    });
    expect(await query('select tenant_id from retention.policy')).toEqual([{ tenant_id: '*' }]);
  });

  test('the holds: what they covered is late, and set aside', async () => {
    const { query } = database();
    await steady();
    await query(`select retention.place_hold('audit', p_tenant_id => 't1')`);
    await query(
      `insert into retention.hold (run_id, reason) select run_id, 'audit' from runs where tenant_id = 't2'`,
    );
    await pass('40 days');
    expect(await walk()).toBe(0);
    await query('truncate retention.hold');
    expect(await walk()).toBe(0);
    expect(await open()).toMatchObject([{ results: 400, state: 'open' }]);
  });

  test.each([
    'batch',
    'surge, retention.surge_part, retention.surge_release',
    'progress',
    'scan',
    'allowance',
    'shared_object, retention.spared_object, retention.held_object',
    'lateness',
  ])(
    'retention.%s: no more than the guard goes unasked, and the rest is set aside',
    async (name) => {
      const { query } = database();
      await steady();
      await fill({ count: 15, from: '1 year' });
      await fill({ count: 60, tenants: 1, from: '30 days 30 minutes' });
      expect(await walk()).toBe(75);
      await pass('10 minutes');
      await fill({ count: 150, tenants: 2, from: '1 year' });
      expect(await walk()).toBe(0);
      expect(await setAside()).toBe(150);
      await query(`truncate retention.${name}`);
      await walk();
      // What was flagged and what was set aside: nothing of it was forgotten, and nothing of the slip has gone.
      expect((await flagged()) + (await setAside())).toBe(225);
      expect(await setAside()).toBeGreaterThanOrEqual(150);
    },
  );

  test('a surge is neither closed nor said to be released by a plain statement, and who releases is the session’s user', async () => {
    const { query, one, store } = database();
    await steady();
    await fill({ count: 60, from: '1 year' });
    await walk();
    const [surge] = await open();
    expect(surge).toMatchObject({ results: 60, state: 'open' });
    const id = surge?.surge_id ?? 0;
    await expect(query('update retention.surge set closed_at = now()')).rejects.toMatchObject({
      code: '23514',
      message: `surge ${id} has 60 results that are set aside, and closes by itself when there are none`,
      hint: expect.stringContaining(`retention surge release ${id} --expect`) as string,
    });
    const say = (results: number) =>
      one<{ by: string }>(
        `insert into retention.surge_release (surge_id, results, released_by)
        values (${id}, ${results}, 'another') returning released_by as by`,
      );
    await expect(say(1)).rejects.toMatchObject({
      code: '23514',
      message: `expected a release of at most 0 results, which have left surge ${id}, given: 1`,
    });
    expect(await setAside()).toBe(60);
    expect(await store.releaseSurge(id, 60)).toBe(60);
    await expect(say(1)).rejects.toThrow('at most 0 results');
    // What has left it and stands in no release may be written down, under one's own name.
    await query('delete from retention.surge_release');
    expect(await say(60)).toEqual({ by: 'postgres' });
    await query(`update retention.surge set closed_at = null;
      update retention.surge set closed_at = now()`);
  });

  test('the runs, filled again from a backup: nothing goes meanwhile, and what is due then is late', async () => {
    const { query } = database();
    await steady();
    await fill({ count: 60, tenants: 2, from: '30 days 30 minutes' });
    expect(await walk()).toBe(60);
    await query('create table saved as table runs; truncate runs');
    expect(await clearFlagged()).toBe(0);
    await walk();
    expect(await flagged()).toBe(0);
    await pass('10 minutes');
    await query('insert into runs table saved; drop table saved');
    expect(await walk()).toBe(0);
    expect(await open()).toMatchObject([{ results: 60, state: 'open' }]);
  });
});
