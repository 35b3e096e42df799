import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';

describeDatabase('scratch', () => {
  const database = useMigrated();
  test('x', async () => {
    const { query, insertRun } = database();
    const r = await insertRun();
    await query(`select retention.set_policy('acme', '90 days')`);
    await query(`select retention.place_hold('audit', '${r}')`);
    await query(`select retention.place_hold('law', null, 'acme', '1 hour')`);
    await query(`select retention.release_hold(max(hold_id)) from retention.hold`);
    await query(`select retention.halt('why', 'kim')`);
    await query(`select retention.resume()`);
    await query(`select retention.set_guard('surge_guard', '5')`);
    await query(`select retention.set_policy('acme', '2 days')`);
    await query(`select retention.set_habits('b-x', '{"checksum":"md5"}', null, true)`);
    await query(`select retention.forget_habits('b-x', true)`);
    console.log(
      (await query('select at, what, done_by from retention.history()'))
        .map((x) => `${x['what']}, by ${x['done_by']}`)
        .join('\n'),
    );
    console.log(await query(`select what from retention.history(p_run_id => '${r}')`));
    expect(1).toBe(1);
  });
});
