import { PutBucketPolicyCommand, S3Client } from '@aws-sdk/client-s3';
import { expect, onTestFinished, test, vi } from 'vitest';
import { readConfig } from '../../src/config/config.ts';
import { addKeeper, listKeepers, reconcile, removeKeeper, verify } from '../../src/index.ts';
import {
  DEFAULT_USERS,
  type MemoryS3,
  type MemoryS3Options,
  startMemoryS3,
} from '../stack/memory-s3.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { keyOf } from '../support/migrated.ts';

const ALLOWED = { S3_RESULT_BUCKET: 'dpp-results' } as const;
const TABLE = `drop table if exists invoices cascade;
create table invoices (pdf_key text, keep_until timestamptz)`;
const INDEX = 'create index concurrently on public.invoices (pdf_key);';

describeDatabase('retention keeper', () => {
  const stack = useCliStack();

  test('refuses a table without an index with the statement that makes one, keeps, lists and removes', async () => {
    const { query } = stack.database();
    await query(TABLE);
    const refused = await stack.run(
      ['keeper', 'add', 'public.invoices', '--key', 'pdf_key'],
      ALLOWED,
    );
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('no index of public.invoices answers which rows have a key');
    expect(refused.stderr).toContain(INDEX);
    await query(INDEX);
    const added = await stack.run(
      [
        'keeper',
        'add',
        'invoices',
        '--key',
        'pdf_key',
        '--until',
        'keep_until',
        '--by',
        'ada',
        '--json',
      ],
      ALLOWED,
    );
    expect(added).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(added.stdout)).toMatchObject({
      keeper: {
        table_name: 'public.invoices',
        key_column: 'pdf_key',
        until_column: 'keep_until',
        added_by: 'ada',
      },
    });
    const [kept = '', free = ''] = await stack.insertResults({ count: 2 });
    await query('insert into invoices values ($1)', [keyOf(kept)]);
    const dry = await stack.run(['reconcile', '--dry-run', '--json'], ALLOWED);
    expect(JSON.parse(dry.stdout)).toMatchObject({ due: 1, runs: [{ run_id: free }] });
    const done = await stack.run(['reconcile', '--json'], ALLOWED);
    expect(JSON.parse(done.stdout)).toMatchObject({ cleared: 1, spared: 1, failed: 0 });
    expect(stack.s3().hasObject('dpp-results', keyOf(kept))).toBe(true);
    const why = await stack.run(['explain', kept], ALLOWED);
    expect(why.stdout).toContain('kept by public.invoices');
    const list = await stack.run(['keeper', 'list'], ALLOWED);
    expect(list.code).toBe(0);
    expect(list.stdout).toMatch(/public\.invoices +pdf_key +every +keep_until +ada +1/u);
    await query('drop table invoices');
    const broken = await stack.run(['keeper', 'list'], ALLOWED);
    expect(broken.code).toBe(1);
    expect(broken.stdout).toContain(
      'there is no table public.invoices any more. Remedy: retention keeper remove public.invoices',
    );
    const unknown = await stack.run(['keeper', 'remove', 'orders'], ALLOWED);
    expect(unknown.code).toBe(2);
    expect(unknown.stderr).toContain('There are: public.invoices (pdf_key).');
    const removed = await stack.run(['keeper', 'remove', 'public.invoices', '--json'], ALLOWED);
    expect(JSON.parse(removed.stdout)).toEqual({ removed: 1 });
    const gone = await stack.run(['reconcile', '--json'], ALLOWED);
    expect(JSON.parse(gone.stdout)).toMatchObject({ cleared: 1 });
  });

  test('is in the library too: a kept object is in no reconcile and no orphan', async () => {
    const { query } = stack.database();
    await query(`${TABLE}; create index on invoices (pdf_key)`);
    const config = readConfig(stack.env(ALLOWED));
    await addKeeper({ config, table: 'invoices', keyColumn: 'pdf_key' });
    expect(await listKeepers({ config })).toMatchObject([{ table_name: 'public.invoices' }]);
    const [kept = ''] = await stack.insertResults({ count: 2 });
    // Older than the margin of an orphan.
    vi.spyOn(Date, 'now').mockReturnValue(Date.now() - 7_200_000);
    for (const key of ['results/orphan', 'results/kept']) stack.s3().putObject('dpp-results', key);
    vi.mocked(Date.now).mockRestore();
    await query(`insert into invoices values ('results/kept'), ($1)`, [keyOf(kept)]);
    const objects = { config };
    process.env['AWS_ACCESS_KEY_ID'] = stack.env()['AWS_ACCESS_KEY_ID'];
    process.env['AWS_SECRET_ACCESS_KEY'] = stack.env()['AWS_SECRET_ACCESS_KEY'];
    expect(await reconcile(objects)).toMatchObject({ cleared: 1, spared: 1 });
    const found = await verify({ ...objects, dryRun: true, orphanMarginSeconds: 3_600 });
    expect(found).toMatchObject({ orphans: { objects: 1 } });
    expect(await removeKeeper({ config, table: 'invoices' })).toBe(1);
    expect(await listKeepers({ config })).toEqual([]);
  });
});

describeDatabase('doctor, where rows name etags', () => {
  const stack = useCliStack({ before: 'alter table runs add column result_etag text' });

  async function examine(conditions: MemoryS3Options['conditions']) {
    const asked: string[] = [];
    const s3 = await startMemoryS3({
      ...(conditions === undefined ? {} : { conditions }),
      onRequest: ({ operation, keys }) => asked.push(...keys.map((key) => `${operation} ${key}`)),
    });
    onTestFinished(() => s3.stop());
    s3.createBucket('dpp-results');
    const doctor = async () => {
      asked.length = 0;
      const result = await stack.run(['doctor', '--json'], {
        ...ALLOWED,
        S3_ENDPOINT_URL: s3.endpoint,
      });
      const { checks } = JSON.parse(result.stdout) as {
        checks: { name: string; state: string; found: string; remedy?: string }[];
      };
      return checks.find(({ name }) => name === 'bucket dpp-results: conditions');
    };
    return { s3, asked, doctor };
  }

  test.each([
    ['honoured', 'ok', 'deletes the version that is due and no other'],
    ['ignored', 'warning', 'its store ignores the etags of the rows'],
    ['refused', 'failed', 'its store refuses etags, so nothing of rows that name one is deleted'],
  ] as const)(
    'tries a store for it once, and says what it does: %s',
    async (conditions, state, said) => {
      const { insertRuns, store } = stack.database();
      await insertRuns({ count: 1 });
      await store.flagExpired({ by: 'test' });
      const { s3, asked, doctor } = await examine(conditions);
      expect(await doctor()).toMatchObject({
        state,
        found: expect.stringContaining(said) as string,
      });
      const probes = asked.filter((it) => it.includes('.retention/condition-'));
      expect(probes[0]).toMatch(/^PutObject results\/\.retention\/condition-/u);
      expect(s3.countObjects('dpp-results')).toBe(0);
      expect((await store.readBuckets())[0]?.habits.conditional).toMatchObject({
        value: conditions,
        by: 'learned',
      });
      // Known from now on.
      expect(await doctor()).toMatchObject({ state });
      expect(asked.filter((it) => it.startsWith('PutObject'))).toEqual([]);
      if (conditions === 'refused') {
        const set = await stack.run(
          ['bucket', 'set', 'dpp-results', '--conditional', 'ignore'],
          ALLOWED,
        );
        expect(set.stdout).toContain(
          'deletes whatever version, also where an etag is given (set by hand)',
        );
        expect(await doctor()).toMatchObject({
          state: 'warning',
          found: expect.stringContaining('any version') as string,
        });
      }
    },
  );

  test('says what is missing where it may not try', async () => {
    const { insertRuns, store } = stack.database();
    await insertRuns({ count: 1 });
    await store.flagExpired({ by: 'test' });
    const { s3, doctor } = await examine('honoured');
    await denyIn(s3, 's3:PutObject');
    expect(await doctor()).toMatchObject({
      state: 'warning',
      found: expect.stringContaining('could not be tried: AccessDenied') as string,
      remedy: expect.stringContaining('s3:PutObject') as string,
    });
    await denyIn(s3, 's3:GetObject');
    expect(await doctor()).toMatchObject({
      state: 'warning',
      remedy: expect.stringContaining('s3:GetObject') as string,
    });
    expect((await store.readBuckets())[0]?.habits).not.toHaveProperty('conditional');
    expect(s3.countObjects('dpp-results')).toBe(0);
  });
});

async function denyIn({ endpoint, region }: MemoryS3, Action: string): Promise<void> {
  const credentials = DEFAULT_USERS[0];
  const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials });
  const Resource = ['arn:aws:s3:::dpp-results/*'];
  const Statement = [{ Effect: 'Deny', Principal: '*', Action: [Action], Resource }];
  const Policy = JSON.stringify({ Version: '2012-10-17', Statement });
  await client.send(new PutBucketPolicyCommand({ Bucket: 'dpp-results', Policy }));
  client.destroy();
}
