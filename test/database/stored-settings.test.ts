import { expect, test } from 'vitest';
import { readConfig, storedSettings } from '../../src/config/config.ts';
import { SETTING_LIST } from '../../src/config/settings.ts';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';

const STORED = SETTING_LIST.filter(({ column }) => column !== null);

describeDatabase('the settings that the database keeps', () => {
  const database = useMigrated();

  test('are at first what the documents say', async () => {
    const [found] = await database().query<Record<string, unknown>>(
      `select s.enabled, s.batch_size, extract(epoch from s.loop_interval)::integer as loop_interval,
        extract(day from p.retain)::integer as retain, coalesce(s.default_bucket, 'none') as default_bucket
      from retention.setting s, retention.policy p
      where p.tenant_id = '*'`,
    );
    const atFirst = Object.entries(found ?? {}).map(([column, value]) => [column, String(value)]);
    expect(Object.fromEntries(atFirst)).toEqual(
      Object.fromEntries(STORED.map(({ column, defaultText }) => [column, defaultText])),
    );
  });

  test.each(STORED)('$variable is taken by retention.apply_variables', async (setting) => {
    const values = ['true', '7', 'one'].map((text) => setting.schema.safeParse(text));
    const parsed = values.find(({ success }) => success)?.data;
    const told = { [String(setting.column)]: setting.storedValue(parsed) };
    const changes = database().query('select retention.apply_variables($1::jsonb)', [
      JSON.stringify(told),
    ]);
    await expect(changes).resolves.toBeInstanceOf(Array);
  });
});

describeDatabase('the default bucket', () => {
  const database = useMigrated();

  const storedBy = (buckets: string) =>
    database()
      .store.applyVariables(
        storedSettings(readConfig({ DATABASE_URL: 'postgres://h/d', S3_RESULT_BUCKET: buckets })),
      )
      .then((rows) => rows.map(({ message }) => message));

  const defaultBucket = async () =>
    (await database().one('select default_bucket from retention.setting'))['default_bucket'];

  test('is taken from the variable where there is none, and stays when a second bucket is added', async () => {
    const { insertRun, query } = database();
    await storedBy('results');
    expect(await defaultBucket()).toBe('results');
    await insertRun({ bucket: null, key: 'shared', completedAgo: '1 day' });
    await insertRun({ bucket: '', key: 'own' });
    await insertRun({ bucket: 'results', key: 'shared' });
    expect(await storedBy('results,more')).toEqual([]);
    expect(await defaultBucket()).toBe('results');
    await query('select retention.flag_expired()');
    const claim = await database().claimNext();
    // The run of yesterday names no bucket, and protects its object all the same.
    expect(claim.keys).toEqual(['own']);
  });

  test.each(['other', 'other,results', 'more,other'])(
    'is changed by a person, not by the variable: %s',
    async (buckets) => {
      await storedBy('results');
      const said = await storedBy(buckets);
      expect(await defaultBucket()).toBe('results');
      if (!buckets.includes(',')) {
        expect(said).toEqual([
          'default_bucket: stays results, and other (S3_RESULT_BUCKET) is not applied: only retention.set_default_bucket changes a default bucket',
        ]);
      }
      const { query, one } = database();
      expect(await one(`select retention.set_default_bucket('other') as before`)).toEqual({
        before: 'results',
      });
      expect(await defaultBucket()).toBe('other');
      await storedBy('results');
      expect(await defaultBucket()).toBe('other');
      await query('select retention.set_default_bucket(null)');
      expect(await defaultBucket()).toBeNull();
    },
  );

  test.each(['', 'a', 'no bucket', 'x'.repeat(256)])('cannot be %j', async (bucket) => {
    await storedBy('results');
    await expect(
      database().query('select retention.set_default_bucket($1)', [bucket]),
    ).rejects.toMatchObject({ code: '22023' });
    expect(await defaultBucket()).toBe('results');
  });
});
