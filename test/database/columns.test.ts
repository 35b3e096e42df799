import { describe, expect, test } from 'vitest';
import { readConfig } from '../../src/config/config.ts';
import { migrate } from '../../src/assembly.ts';
import { describeDatabase } from '../support/database.ts';
import { examineWith } from '../support/doctor.ts';
import { useMigrated } from '../support/migrated.ts';
import { hasSchema, withDatabase } from '../support/migrating.ts';

/** The runbook's names, which stay where the mapping names nothing else. */
const RUNBOOK = {
  run_id: { name: 'run_id' },
  tenant_id: { name: 'tenant_id' },
  status: { name: 'status', completed: 'COMPLETED' },
  completed_at: { name: 'completed_at' },
  retain_until: null,
  bucket: { name: 'result_s3_bucket' },
  key: { name: 'result_s3_key' },
  etag: null,
  cleared_at: { name: 'result_cleared_at' },
  updated_at: { name: 'updated_at' },
};

describeDatabase('RETENTION_COLUMNS', () => {
  const database = useMigrated();

  async function parse(text: string | null): Promise<unknown> {
    const [row] = await database().query<{ columns: unknown }>(
      'select retention._parse_columns($1) as columns',
      [text],
    );
    return row?.columns;
  }

  test.each([null, '', '   '])("%j keeps the runbook's names", async (text) => {
    expect(await parse(text)).toEqual(RUNBOOK);
  });

  test.each<[string, Partial<Record<keyof typeof RUNBOOK, unknown>>]>([
    ['bucket=result_bucket', { bucket: { name: 'result_bucket' } }],
    [' bucket = result_bucket, key=k ', { bucket: { name: 'result_bucket' }, key: { name: 'k' } }],
    ['key=Result_Key', { key: { name: 'result_key' } }],
    ['key=a,', { key: { name: 'a' } }],
    ['Key=a , BUCKET=b', { key: { name: 'a' }, bucket: { name: 'b' } }],
    ['retain_until="Odd, ""name"""', { retain_until: { name: 'Odd, "name"' } }],
    ['updated_at=,status=', { updated_at: null, status: null }],
    ["bucket='dpp-results'", { bucket: { fixed: 'dpp-results' } }],
    ['bucket=', { bucket: null }],
    ['bucket=tenant_id', { bucket: { name: 'tenant_id' } }],
    ['status=state', { status: { name: 'state', completed: 'COMPLETED' } }],
    ['status=state:done', { status: { name: 'state', completed: 'done' } }],
    [
      'status=state: all done ,key=k',
      { status: { name: 'state', completed: 'all done' }, key: { name: 'k' } },
    ],
    ['status="My state":done', { status: { name: 'My state', completed: 'done' } }],
  ])('%s changes what it names', async (text, changed) => {
    expect(await parse(text)).toEqual({ ...RUNBOOK, ...changed });
  });

  test.each([
    ['key', 'cannot be read from here on: key'],
    ['key=a,,bucket=b', 'cannot be read from here on: ,bucket=b'],
    ["bucket='open", 'cannot be read from here on'],
    ['bucket="open', 'cannot be read from here on'],
    ['nonsense=a', 'unknown view column nonsense'],
    ['run_id=', 'run_id must name a column'],
    ['completed_at=', 'completed_at must name a column'],
    ['key=', 'key must name a column'],
    ['cleared_at=', 'cleared_at must name a column'],
    ["key='constant'", 'key must name a column'],
    ['cleared_at=completed_at', 'cleared_at must be a column of its own'],
    ['updated_at=result_cleared_at', 'cleared_at must be a column of its own'],
    ['key=a,key=b', 'names key twice'],
    ["bucket='no bucket'", "bucket cannot be 'no bucket'"],
    [`key=${'k'.repeat(64)}`, 'key cannot be kkk'],
  ])('%s is refused, and says where it is wrong', async (text, message) => {
    await expect(parse(text)).rejects.toMatchObject({
      message: expect.stringContaining(message) as string,
      code: '22023',
      hint: expect.stringMatching(/\.$/u) as string,
    });
  });

  test.each(['key=a=b', 'key=a b', 'key=a;drop table runs--'])(
    '%s names a column that is not there, and nothing else',
    async (text) => {
      await expect(
        database().query('select retention._find_columns($1, $2)', ['public.runs', text]),
      ).rejects.toThrow('key: looked for column');
      expect(await database().query('select from runs limit 0')).toEqual([]);
    },
  );

  describe('with a mistake in it', () => {
    const report =
      /1 setting is wrong:\n {2}RETENTION_COLUMNS: expected pairs such as .*; given "buckets=x" \(names the unknown view column buckets\)\. The view columns are/u;

    test('is a configuration error of migrate up, and nothing is left', async () => {
      await withDatabase(async (other) => {
        const config = readConfig({
          DATABASE_URL: other.url,
          RETENTION_SCHEDULER: 'internal',
          RETENTION_COLUMNS: 'buckets=x',
        });
        await expect(migrate({ config, direction: 'up' })).rejects.toMatchObject({
          exitCode: 2,
          message: expect.stringMatching(report) as string,
        });
        expect(await hasSchema(other)).toBe(false);
      });
    });

    test('is a configuration error of doctor', async () => {
      const looking = examineWith({
        DATABASE_URL: database().url,
        RETENTION_COLUMNS: 'buckets=x',
      });
      await expect(looking).rejects.toMatchObject({
        exitCode: 2,
        message: expect.stringMatching(report) as string,
      });
    });
  });
});
