import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readConfig, verify } from '../../src/index.ts';
import { describeDatabase } from '../support/database.ts';
import { type ListedBucket, listedBucket } from '../support/listed-bucket.ts';
import { useMigrated } from '../support/migrated.ts';

const HOUR = 3_600_000;
const COLUMNS = 'Bucket, Key, Size, LastModifiedDate, ETag';

/** An inventory as S3 lays it down, of three hours ago. */
interface Made {
  readonly bucket?: string;
  readonly columns?: string;
  readonly rows: readonly (readonly string[])[];
  readonly manifest?: object;
  readonly ago?: number;
}

describeDatabase('verify by an inventory', () => {
  const database = useMigrated();
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'inventory-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  /** Returns the path of its manifest. */
  const make = ({
    bucket = 'dpp-results',
    columns = COLUMNS,
    rows,
    manifest,
    ago = 3 * HOUR,
  }: Made) => {
    const csv = rows
      .map((row) => row.map((field) => `"${field.replaceAll('"', '""')}"`).join(','))
      .join('\n');
    const data = gzipSync(csv);
    const home = join(folder, bucket, 'daily', '2026-01-01T00-00Z');
    mkdirSync(home, { recursive: true });
    mkdirSync(join(folder, bucket, 'daily', 'data'), { recursive: true });
    writeFileSync(join(folder, bucket, 'daily', 'data', 'one.csv.gz'), data);
    const told = {
      sourceBucket: bucket,
      destinationBucket: 'arn:aws:s3:::inventories',
      version: '2016-11-30',
      creationTimestamp: String(Date.now() - ago),
      fileFormat: 'CSV',
      fileSchema: columns,
      files: [
        {
          key: `${bucket}/daily/data/one.csv.gz`,
          size: data.length,
          MD5checksum: createHash('md5').update(data).digest('hex'),
        },
      ],
      ...manifest,
    };
    const path = join(home, 'manifest.json');
    writeFileSync(path, JSON.stringify(told));
    return path;
  };
  const row = (key: string, modified = '2026-01-01T00:00:00.000Z') => [
    'dpp-results',
    encodeURIComponent(key).replaceAll('%20', '+'),
    '7',
    modified,
    'abc',
  ];
  const run = (bucket: ListedBucket, inventory: readonly string[], more: object = {}) => {
    bucket.beforePage = () => {
      throw new Error('a LIST was sent');
    };
    return verify({
      config: readConfig({ DATABASE_URL: database().url, S3_RESULT_BUCKET: 'dpp-results' }),
      objects: {
        listing: bucket.listing,
        deleteObjects: () => Promise.reject(new Error('nothing is to be deleted')),
        close: () => undefined,
      },
      inventory,
      ...more,
    });
  };
  const isStamped = async (runId: string): Promise<boolean> =>
    (await database().run(runId)).result_cleared_at !== null;

  test('stands for the listing: no LIST is sent, and one object is asked for per missing result', async () => {
    const old = { completedAgo: '31 days' };
    await database().insertRun({ ...old, key: 'b/a blank+ü' });
    const gone = await database().insertRun({ ...old, key: 'a/gone' });
    const late = await database().insertRun({ ...old, key: 'a/late' });
    const back = await database().insertRun({ key: 'c/back', clearedAgo: '2 days' });
    const again = await database().insertRun({ key: 'c/deleted', clearedAgo: '2 days' });
    const manifest = make({
      rows: [
        row('c/deleted'),
        row('z/orphan'),
        row('b/a blank+ü'),
        row('c/back'),
        row('.retention/x'),
      ],
    });
    // Written after the inventory was made.
    const bucket = listedBucket(['b/a blank+ü', 'a/late', 'c/back', 'z/orphan']);
    expect(await run(bucket, [manifest], { dryRun: true })).toMatchObject({
      stamped: 1,
      requeued: 1,
    });
    bucket.heads.length = 0;
    expect(await run(bucket, [manifest])).toMatchObject({
      listed: 5,
      stamped: 1,
      requeued: 1,
      orphans: { objects: 1, bytes: 7 },
    });
    expect(bucket.heads.toSorted()).toEqual(['a/gone', 'a/late', 'c/back', 'c/deleted']);
    expect([await isStamped(gone), await isStamped(late)]).toEqual([true, false]);
    expect([await isStamped(back), await isStamped(again)]).toEqual([false, true]);
    expect(await database().query('select from retention.verify_listed')).toEqual([]);
  });

  test('judges no row that was completed, changed or cleared since it was made', async () => {
    const completed = await database().insertRun({ key: 'completed', completedAgo: '200 minutes' });
    const changed = await database().insertRun({ key: 'changed', completedAgo: '31 days' });
    const unchanged = await database().insertRun({ key: 'unchanged', completedAgo: '31 days' });
    const cleared = await database().insertRun({ key: 'cleared', clearedAgo: '2 hours' });
    await database().query(
      `update runs set updated_at = now() - interval '1 hour' where run_id = $1`,
      [changed],
    );
    const bucket = listedBucket(['cleared']);
    expect(await run(bucket, [make({ rows: [row('cleared')] })])).toMatchObject({
      stamped: 1,
      requeued: 0,
      orphans: { objects: 0 },
    });
    expect(bucket.heads).toEqual(['unchanged']);
    expect(await isStamped(unchanged)).toBe(true);
    for (const runId of [completed, changed]) expect(await isStamped(runId)).toBe(false);
    expect(await isStamped(cleared)).toBe(true);
  });

  test('of all versions goes by those in sight', async () => {
    const [there, hidden] = [
      await database().insertRun({ key: 'there' }),
      await database().insertRun({ key: 'hidden' }),
    ];
    const columns = 'Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size';
    const manifest = make({
      columns,
      rows: [
        ['dpp-results', 'there', 'v2', 'true', 'false', '7'],
        ['dpp-results', 'there', 'v1', 'false', 'false', '7'],
        ['dpp-results', 'hidden', 'm1', 'true', 'true', ''],
        ['dpp-results', 'hidden', 'v1', 'false', 'false', '7'],
      ],
    });
    expect(await run(listedBucket(['there']), [manifest])).toMatchObject({ listed: 1, stamped: 1 });
    expect([await isStamped(there), await isStamped(hidden)]).toEqual([false, true]);
  });

  test('that cannot be used is refused with one message, and nothing is judged', async () => {
    await database().insertRun({ key: 'gone' });
    const bucket = listedBucket([]);
    const rows = [row('a')];
    const data = () => join(folder, 'dpp-results', 'daily', 'data', 'one.csv.gz');
    const cases: readonly (readonly [() => readonly string[], RegExp])[] = [
      [() => [join(folder, 'none.json')], /none\.json: expected a file that can be read/u],
      [() => [(make({ rows }), data())], /expected a manifest\.json among the files/u],
      [() => [make({ rows, manifest: { fileFormat: 'ORC' } })], /in CSV; given one in ORC/u],
      [() => [make({ rows, manifest: { fileFormat: 'Parquet' } })], /given one in Parquet/u],
      [
        () => [make({ rows, bucket: 'other' })],
        /of the allowed buckets that are verified; given one of other/u,
      ],
      [
        () => [make({ rows: [['other', 'a', '7', '', '']] })],
        /rows of bucket dpp-results; given one of other/u,
      ],
      [
        () => [make({ rows: [['dpp-results', 'a']] })],
        /expected the 5 columns of the manifest; given 2/u,
      ],
      [
        () => [make({ rows, columns: 'Bucket, Size' })],
        /expected the columns Bucket and Key; given Bucket, Size/u,
      ],
      [() => [make({ rows, ago: -HOUR })], /expected a creationTimestamp of the past/u],
      [() => [make({ rows }), make({ rows })], /expected one inventory of bucket dpp-results/u],
      [
        () => {
          const manifest = make({ rows });
          writeFileSync(data(), gzipSync('"dpp-results","b","7","",""'));
          return [manifest];
        },
        /one\.csv\.gz: expected the MD5 \w+; given \w+/u,
      ],
      [
        () => {
          const manifest = make({ rows });
          rmSync(data());
          return [manifest];
        },
        /names dpp-results\/daily\/data\/one\.csv\.gz, which is neither given nor beside it/u,
      ],
      [
        () => {
          const manifest = make({ rows });
          writeFileSync(
            join(manifest, '..', 'manifest.checksum'),
            'd41d8cd98f00b204e9800998ecf8427e\n',
          );
          return [manifest];
        },
        /manifest\.json: expected the MD5 d41d8/u,
      ],
    ];
    for (const [files, message] of cases) {
      const refused = run(bucket, files());
      await expect(refused, String(message)).rejects.toThrow(message);
      await expect(refused).rejects.toMatchObject({ exitCode: 2 });
    }
    rmSync(join(folder, 'dpp-results'), { recursive: true });
    const notGzip = make({ rows, manifest: { files: [{ key: 'one.csv.gz', size: 1 }] } });
    writeFileSync(data(), 'no gzip');
    await expect(run(bucket, [notGzip])).rejects.toThrow(/expected rows in CSV; incorrect header/u);
    expect(await database().countStamped()).toBe(0);
    for (const table of ['verify_run', 'verify_listed', 'stray']) {
      expect(await database().query(`select from retention.${table}`)).toEqual([]);
    }
  });
});
