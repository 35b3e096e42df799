import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { surgeTools } from '../support/surges.ts';

describeDatabase('promise 2: rows that named a wrong place for a while', () => {
  const database = useMigrated({ guarded: true });
  const { fill, walk, pass, flagged } = surgeTools(database);

  const claim = async () => {
    const { store, query } = database();
    // What earlier claims left, and what they have no time limit for.
    await query('update retention.batch set lease = null where settled_at is null');
    return store.claim({
      lease: crypto.randomUUID(),
      leaseSeconds: 60,
      by: 'a listener that may delete from its bucket alone',
      buckets: ['dpp-results'],
    });
  };

  test.each([
    [
      'bucket',
      `update runs set result_s3_bucket = 'archive'`,
      `update runs set result_s3_bucket = 'dpp-results'`,
    ],
    [
      'bucket and key',
      `update runs set result_s3_bucket = 'archive', result_s3_key = 'copies/' || run_id`,
      `update runs set result_s3_bucket = 'dpp-results', result_s3_key = 'results/' || run_id`,
    ],
  ])(
    'a %s where nobody may delete: nothing goes meanwhile, and all go once it is put right',
    async (_, slip, remedy) => {
      const { query } = database();
      await fill({ count: 5, from: '29 days' });
      await walk();
      await pass('2 days');
      expect(await walk()).toBe(5);
      await query(slip);
      expect((await claim())?.keys).toEqual([]);
      await walk();
      expect(
        await query('select bucket, results from retention.batch where settled_at is null'),
      ).toEqual([{ bucket: 'archive', results: 5 }]);
      expect(await claim()).toBeUndefined();
      await pass('50 minutes');
      await query('select retention._clean_up()');
      await query(remedy);
      await query('select retention._clean_up()');
      await walk();
      expect(await flagged()).toBe(5);
      expect(await claim()).toBeUndefined();
      await pass('11 minutes');
      await query('select retention._clean_up()');
      expect(await walk()).toBe(5);
      expect((await claim())?.keys).toHaveLength(5);
      expect(await query('select clean_up_problem from retention.heartbeat')).toEqual([
        { clean_up_problem: null },
      ]);
    },
  );
});
