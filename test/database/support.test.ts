import { expect, test } from 'vitest';
import { createDatabase, describeDatabase, useDatabase } from '../support/database.ts';
import { listenInPsql, psql } from '../support/psql.ts';

describeDatabase('a test file', () => {
  const database = useDatabase(async ({ query }) => {
    await query(`insert into runs (tenant_id, status) values ('a', 'COMPLETED')`);
  });

  test('has a database of its own with the runs table', async () => {
    const other = await createDatabase();
    try {
      expect(await other.one('select count(*)::int as runs from runs')).toEqual({ runs: 0 });
      expect(await database().one('select count(*)::int as runs from runs')).toEqual({ runs: 1 });
    } finally {
      await other.drop();
    }
    const rows = await database().query('select 1 from pg_database where datname = $1', [
      other.name,
    ]);
    expect(rows).toEqual([]);
  });

  test('sees what a person sees in psql', async () => {
    expect(await psql(database().url, 'select 6 * 7 as answer;')).toMatch(/answer[^]*42/);
    await expect(psql(database().url, 'select nonsense;')).rejects.toThrow(/nonsense/);
  });

  test('watches notifications in psql', async () => {
    const listener = await listenInPsql(database().url, ['news', 'Other news']);
    try {
      await database().query(`select pg_notify('Other news', ''), pg_notify('news', '{"a":"b"}')`);
      const seen = await listener.waitFor(({ channel }) => channel === 'news');
      expect(seen).toMatchObject({ channel: 'news', payload: '{"a":"b"}' });
      expect(listener.notifications.map(({ payload }) => payload)).toEqual(['', '{"a":"b"}']);
    } finally {
      await listener.close();
    }
  });
});
