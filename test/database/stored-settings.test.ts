import { expect, test } from 'vitest';
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

  test.each(STORED)('$variable is taken by retention.configure', async (setting) => {
    const values = ['true', '7', 'one'].map((text) => setting.schema.safeParse(text));
    const parsed = values.find(({ success }) => success)?.data;
    const told = { [String(setting.column)]: setting.storedValue(parsed) };
    const changes = database().query('select retention.configure($1::jsonb)', [
      JSON.stringify(told),
    ]);
    await expect(changes).resolves.toBeInstanceOf(Array);
  });
});
