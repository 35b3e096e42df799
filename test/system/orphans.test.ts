import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import type { ObjectListing } from '../../src/index.ts';
import { unlimited } from '../../src/lifecycle/rate-limit.ts';
import { silentLogger } from '../../src/logger.ts';
import { deleteOrphans } from '../../src/reactor/orphans/deletion.ts';
import { listOrphans } from '../../src/reactor/orphans/making.ts';
import { onBothServers } from '../support/both-servers.ts';
import { type CliResult, startCli } from '../support/cli.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { type HttpFault, startHttpProxy } from '../support/http-proxy.ts';
import { makeBucket } from '../support/s3-target.ts';
import { until } from '../support/until.ts';

const HOUR = 3_600_000;

const parsed = ({ stdout }: CliResult): Record<string, unknown> =>
  JSON.parse(stdout) as Record<string, unknown>;

/** What applications call their objects, sooner or later. */
const ODD_KEYS = [
  'odd/a blank',
  'odd/a+plus',
  'odd/100%',
  'odd/%41',
  `odd/'single' "double" \\back`,
  'odd/two\nlines\r\nand\ttabs',
  'odd/line\u2028separator',
  'odd/<&>',
  'odd/{a,b}',
  'odd/NULL',
  'odd/é/日本',
  'odd/😀',
  'odd/\u0001',
  'odd/\u0002first',
  'odd/trailing ',
] as const;

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'retention-orphans-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

describeDatabase('retention orphans', () => {
  const stack = useCliStack();

  onBothServers((target) => {
    test('deletes the orphans of a list whatever their keys, and nothing that a run needs', async () => {
      const bucket = await makeBucket(target());
      const { insertRuns, query, store } = stack.database();
      const needed = ODD_KEYS.map((key) => `${key}-needed`);
      for (const key of needed)
        await insertRuns({ key, bucket: bucket.name, completedAgo: '5 days' });
      await bucket.put(...ODD_KEYS, ...needed);
      const objects = bucket.open();
      const older = (date: Date): Date => new Date(date.getTime() - 48 * HOUR);
      // As if they had been put two days ago.
      const listing: ObjectListing = {
        async *listObjects(name, request) {
          for await (const page of objects.listing.listObjects(name, { ...request, pageSize: 1 })) {
            yield page.map((it) => ({ ...it, lastModified: older(it.lastModified) }));
          }
        },
        headObject: async (...rest) => {
          const found = await objects.listing.headObject(...rest);
          if (found.state !== 'exists' || found.lastModified === undefined) return found;
          return { ...found, lastModified: older(found.lastModified) };
        },
      };
      const file = join(folder(), 'odd.jsonl');
      const logger = silentLogger;
      const made = await listOrphans({
        store,
        objects: { listing },
        logger,
        file,
        bucket: bucket.name,
      });
      expect(made).toMatchObject({ listed: 2 * ODD_KEYS.length, orphans: ODD_KEYS.length });
      await query(`update retention.orphan_list set made_at = made_at - interval '2 hours'`);
      const done = await deleteOrphans({
        store,
        objects: { deleteObjects: (...rest) => objects.deleteObjects(...rest), listing },
        logger,
        rateLimit: unlimited,
        leaseSeconds: 120,
        file,
        expected: ODD_KEYS.length,
      });
      expect(done).toMatchObject({
        deleted: ODD_KEYS.length,
        spared: {},
        failed: 0,
        notReached: 0,
      });
      expect((await bucket.keys()).toSorted()).toEqual(needed.toSorted());
    });
  });

  const orphans = (parameters: readonly string[], more = {}) =>
    stack.run(['orphans', ...parameters], { S3_RESULT_BUCKET: 'dpp-results', ...more });

  /** Puts objects that are two days old. */
  function putOld(...keys: readonly string[]): void {
    vi.spyOn(Date, 'now').mockReturnValue(Date.now() - 48 * HOUR);
    for (const key of keys) stack.s3().putObject('dpp-results', key, Buffer.from('result'));
    vi.mocked(Date.now).mockRestore();
  }

  const has = (key: string): boolean => stack.s3().hasObject('dpp-results', key);
  const deletions = () =>
    stack.requests().filter(({ operation }) => operation.startsWith('DeleteObject'));

  /** Live runs whose objects keep the orphans below a tenth. */
  async function fill(count: number): Promise<string[]> {
    const runIds = await stack.database().insertRuns({ count, completedAgo: '5 days' });
    putOld(...runIds.map((runId) => `results/${runId}`));
    return runIds;
  }

  /** Lets every list be made longer ago. */
  const age = (by = '61 minutes') =>
    stack
      .database()
      .query('update retention.orphan_list set made_at = made_at - $1::interval', [by]);

  async function makeList(...parameters: readonly string[]): Promise<string> {
    const file = join(folder(), 'orphans.jsonl');
    const made = await orphans(['--list', file, ...parameters]);
    expect([made.code, made.stderr]).toEqual([0, '']);
    await age();
    return file;
  }

  const remove = (file: string, ...parameters: readonly string[]) =>
    orphans(['--delete', '--list', file, '--json', ...parameters]);

  test('lists first, with a head and an end, and deletes nothing', async () => {
    await fill(20);
    putOld('a-orphan', 'results/b-orphan');
    stack.s3().putObject('dpp-results', 'young', Buffer.from('result'));
    const file = join(folder(), 'orphans.jsonl');
    const made = await orphans(['--list', file, '--json']);
    expect(made.code).toBe(0);
    expect(parsed(made)).toMatchObject({
      bucket: 'dpp-results',
      listed: 23,
      orphans: 2,
      bytes: 12,
    });
    const lines = readFileSync(file, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines).toMatchObject([
      { orphan_list: 1, bucket: 'dpp-results', prefix: '', margin_seconds: 86_400 },
      { key: 'a-orphan', bytes: 6 },
      { key: 'results/b-orphan', bytes: 6 },
      { end: true, listed: 23, orphans: 2, bytes: 12, sha256: parsed(made)['sha256'] },
    ]);
    expect(deletions()).toEqual([]);
    // Nothing unfinished is left beside it.
    expect(readdirSync(join(file, '..'))).toEqual(['orphans.jsonl']);
  });

  test('deletes exactly the list an hour later, and says who did in the history', async () => {
    const runIds = await fill(30);
    putOld('orphan/a', 'orphan/b');
    const file = await makeList();
    putOld('orphan/later');
    const done = await remove(file, '--by', 'ada');
    expect([done.code, parsed(done)]).toEqual([
      0,
      {
        list: file,
        bucket: 'dpp-results',
        prefix: '',
        listed: 2,
        deleted: 2,
        deleted_bytes: 12,
        spared: {},
        failed: 0,
        not_reached: 0,
        resumed: false,
        stopped: null,
        progress: `${file}.progress`,
      },
    ]);
    expect(['orphan/a', 'orphan/b', 'orphan/later'].filter((key) => has(key))).toEqual([
      'orphan/later',
    ]);
    expect(runIds.every((runId) => has(`results/${runId}`))).toBe(true);
    const history = await orphans(['--history', '--json']);
    expect(parsed(history)).toMatchObject({
      lists: [{ orphans: 2, deleted: 2, spared: 0, failed: 0, begun_by: 'ada' }],
    });
    expect((await orphans(['--history'])).stdout).toMatch(/ada/u);
    // Deleted twice, nothing goes twice.
    const again = await remove(file);
    expect([again.code, parsed(again)]).toMatchObject([0, { deleted: 2, resumed: true }]);
    expect(deletions()).toHaveLength(1);
  });

  test('a margin below an hour is an error, with and without a list', async () => {
    putOld('orphan');
    const file = join(folder(), 'orphans.jsonl');
    for (const parameters of [
      ['orphans', '--list', file, '--margin', '0s'],
      ['orphans', '--list', file, '--margin', '59m'],
      ['reconcile', '--orphans', '--margin', '0s', '--bucket', 'dpp-results'],
    ]) {
      const { code, stderr } = await stack.run(parameters, { S3_RESULT_BUCKET: 'dpp-results' });
      expect([code, stderr]).toEqual([2, expect.stringContaining('--margin: expected 1h or more')]);
    }
    expect(existsSync(file)).toBe(false);
    const { code } = await orphans(['--list', file, '--margin', '1h']);
    expect(code).toBe(0);
  });

  test('the flags that deleted without a list say the new way, and delete nothing', async () => {
    putOld('orphan');
    for (const flags of [['--delete'], ['--delete', '--yes'], ['--deleted-list', 'x']]) {
      const { code, stderr } = await stack.run([
        'reconcile',
        '--orphans',
        '--bucket',
        'dpp-results',
        ...flags,
      ]);
      expect([code, stderr]).toEqual([2, expect.stringContaining('orphans --delete --list FILE')]);
    }
    expect(has('orphan')).toBe(true);
  });

  test('a list younger than an hour is refused, and says from when on', async () => {
    await fill(20);
    putOld('orphan');
    const file = await makeList();
    await age('-2 minutes');
    const { code, stderr } = await remove(file);
    expect([code, stderr]).toEqual([
      3,
      expect.stringMatching(/at least an hour old\nAsk again from 20/u),
    ]);
    await age('2 minutes');
    expect(parsed(await remove(file))).toMatchObject({ deleted: 1 });
  });

  test('an upload whose row commits after the list is spared when the list is deleted', async () => {
    await fill(30);
    putOld('upload', 'orphan');
    const session = await stack.database().connect();
    await session.query('begin');
    await session.query(
      `insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      values (gen_random_uuid(), 'acme', 'COMPLETED', now(), 'dpp-results', 'upload')`,
    );
    const file = await makeList();
    expect(readFileSync(file, 'utf8')).toContain('"upload"');
    await session.query('commit');
    await session.end();
    expect(parsed(await remove(file))).toMatchObject({ deleted: 1, spared: { has_run: 1 } });
    expect([has('upload'), has('orphan')]).toEqual([true, false]);
  });

  test('an object that was written again, or is gone, is left and counted', async () => {
    await fill(40);
    putOld('again', 'gone', 'larger', 'orphan');
    const file = await makeList();
    stack.s3().putObject('dpp-results', 'again', Buffer.from('newone'));
    vi.spyOn(Date, 'now').mockReturnValue(Date.now() - 48 * HOUR);
    stack.s3().putObject('dpp-results', 'larger', Buffer.from('larger result'));
    vi.mocked(Date.now).mockRestore();
    await removeFromS3('gone');
    expect(parsed(await remove(file))).toMatchObject({
      listed: 4,
      deleted: 1,
      spared: { changed: 2, gone: 1 },
    });
    expect([has('again'), has('larger'), has('orphan')]).toEqual([true, true, false]);
  });

  test('objects of held runs whose rows were deleted are no orphans, before the list and after it', async () => {
    await fill(40);
    const { insertRun, query, store } = stack.database();
    const before = await insertRun({ key: 'held/before', completedAgo: '5 days' });
    putOld('held/before', 'held/after', 'held/tenant', 'orphan');
    await store.placeHolds({ runIds: [before], reason: 'audit' });
    await query('delete from runs where run_id = $1', [before]);
    const file = await makeList();
    expect(readFileSync(file, 'utf8')).not.toContain('held/before');
    const after = await insertRun({ key: 'held/after', completedAgo: '5 days' });
    const tenants = await insertRun({ key: 'held/tenant', completedAgo: '5 days', tenant: 'big' });
    await store.placeHolds({ runIds: [after], reason: 'audit' });
    await store.placeHolds({ tenantIds: ['big'], reason: 'audit' });
    await query('delete from runs where run_id = any ($1)', [[after, tenants]]);
    expect(parsed(await remove(file))).toMatchObject({ deleted: 1, spared: { held: 2 } });
    expect(['before', 'after', 'tenant'].every((name) => has(`held/${name}`))).toBe(true);
  });

  test('more than a tenth goes only with --expect and exactly the number of the list', async () => {
    await fill(10);
    putOld('orphan/a', 'orphan/b');
    const file = await makeList();
    const unsaid = await remove(file);
    expect([unsaid.code, unsaid.stderr]).toEqual([
      3,
      expect.stringMatching(/names 2 objects.*a tenth of the 12.*\n.*--expect 2/u),
    ]);
    for (const wrong of ['1', '3', '12']) {
      const { code, stderr } = await remove(file, '--expect', wrong);
      expect([code, stderr]).toEqual([3, expect.stringContaining('the list names 2')]);
    }
    expect(deletions()).toEqual([]);
    expect(existsSync(`${file}.progress`)).toBe(false);
    expect(parsed(await remove(file, '--expect', '2'))).toMatchObject({ deleted: 2 });
  });

  test('more than 10,000 within a day go only with --expect, also in several lists', async () => {
    await fill(30);
    putOld('a-orphan', 'b-orphan');
    const first = await makeList('--prefix', 'a-');
    expect(parsed(await remove(first, '--expect', '1'))).toMatchObject({ deleted: 1 });
    const { query } = stack.database();
    await query('update retention.orphan_list set listed = 10000, orphans = 10000');
    const second = await makeList();
    const { code, stderr } = await remove(second);
    expect([code, stderr]).toEqual([
      3,
      expect.stringContaining('with 10000 of other lists within a day'),
    ]);
    await query(
      `update retention.orphan_list
      set begun_at = begun_at - interval '25 hours', worked_at = worked_at - interval '25 hours'`,
    );
    expect(parsed(await remove(second))).toMatchObject({ deleted: 1 });
  });

  test('beside an empty table, or in a wrong database, no bucket is emptied, whatever is said', async () => {
    const runIds = await fill(5);
    const { query } = stack.database();
    await query('create temporary table kept as select * from runs');
    await query('truncate runs');
    const file = await makeList('--bucket', 'dpp-results');
    const { code, stderr } = await remove(file, '--expect', '5');
    expect([code, stderr]).toEqual([
      3,
      expect.stringMatching(/no row of this database names bucket dpp-results.*\n.*DATABASE_URL/u),
    ]);
    expect(runIds.every((runId) => has(`results/${runId}`))).toBe(true);
  });

  test('after a restore a list from before it is refused, and so is one of another database', async () => {
    await fill(20);
    putOld('orphan');
    const file = await makeList();
    // What a backup of before the list, or another database, knows of it.
    await stack.database().query('delete from retention.orphan_list');
    const { code, stderr } = await remove(file);
    expect([code, stderr]).toEqual([
      3,
      expect.stringMatching(/this database knows no list.*\n.*restored.*DATABASE_URL/u),
    ]);
    expect(has('orphan')).toBe(true);
  });

  test('rows that come back after the list, as a restore brings them, keep their objects', async () => {
    const runIds = await fill(50);
    const { query } = stack.database();
    await query('create table public.backup as select * from runs limit 5');
    onTestFinished(() => query('drop table public.backup').then(() => undefined));
    await query('delete from runs where run_id in (select run_id from public.backup)');
    const file = await makeList();
    await query('insert into runs select * from public.backup');
    expect(parsed(await remove(file))).toMatchObject({ deleted: 0, spared: { has_run: 5 } });
    expect(runIds.every((runId) => has(`results/${runId}`))).toBe(true);
  });

  test('an edited, a cut off or another file is refused, and so is what is no file', async () => {
    await fill(40);
    putOld('orphan/a', 'orphan/b', 'orphan/c');
    const file = await makeList();
    const text = readFileSync(file, 'utf8');
    const lines = text.split('\n');
    const without = (...places: number[]) =>
      lines.filter((_, at) => !places.includes(at)).join('\n');
    const wrong: Readonly<Record<string, [string, RegExp]>> = {
      'a line less': [without(2), /is not as it was made/u],
      'another key': [text.replace('orphan/a', 'results/x'), /is not as it was made/u],
      'a line more': [`${text}${lines[1]}\n`, /is not as it was made/u],
      'a bucket more': [text.replace('dpp-results', 'dpp-others'), /is not as it was made/u],
      'no end': [without(4), /its last line is missing/u],
      'half a line': [text.slice(0, 320), /is not as it was made|its last line is missing/u],
      empty: ['', /it is empty/u],
      'something else': ['{"bucket": "x"}\n', /its first line is none of a list/u],
      garbage: ['\u0000\u0001\n\n', /its first line is none of a list/u],
    };
    for (const [name, [changed, said]] of Object.entries(wrong)) {
      const copy = join(folder(), 'copy.jsonl');
      writeFileSync(copy, changed);
      const { code, stderr } = await remove(copy);
      expect([name, code, stderr]).toEqual([name, 2, expect.stringMatching(said)]);
    }
    // Also where the end was made to fit: the database knows which list it was.
    const { createHash } = await import('node:crypto');
    const forged = [...lines.slice(0, 3), ''].join('\n');
    const end = {
      ...(JSON.parse(lines[4] ?? '') as object),
      orphans: 2,
      sha256: createHash('sha256').update(forged).digest('hex'),
    };
    const copy = join(folder(), 'forged.jsonl');
    writeFileSync(copy, `${forged}${JSON.stringify(end)}\n`);
    const refused = await remove(copy);
    expect([refused.code, refused.stderr]).toEqual([
      3,
      expect.stringContaining('not as it was made'),
    ]);
    for (const path of [folder(), '/dev/null', join(folder(), 'missing')]) {
      expect((await remove(path)).code).toBe(2);
    }
    expect(deletions()).toEqual([]);
    expect(['a', 'b', 'c'].every((name) => has(`orphan/${name}`))).toBe(true);
  });

  test('a file that is there is not overwritten, and a list that cannot be made leaves none', async () => {
    putOld('orphan');
    const there = join(folder(), 'there');
    writeFileSync(there, 'precious');
    const target = join(folder(), 'link');
    symlinkSync(there, target);
    for (const path of [there, target, '/no/such/folder/list', '/dev/null']) {
      expect([path, (await orphans(['--list', path])).code]).toEqual([path, 2]);
    }
    expect(readFileSync(there, 'utf8')).toBe('precious');
    const missing = join(folder(), 'orphans.jsonl');
    const failed = await orphans(['--list', missing], { S3_RESULT_BUCKET: 'no-such-bucket' });
    expect([failed.code, failed.stderr]).toEqual([1, expect.stringContaining('NoSuchBucket')]);
    expect(readdirSync(join(missing, '..'))).toEqual([]);
  });

  test('nothing is deleted while the gate is closed, by a person, a variable or a detached table', async () => {
    await fill(30);
    putOld('orphan');
    const file = await makeList();
    const { query } = stack.database();
    await query(`select retention.halt('wait')`);
    const halted = await remove(file);
    expect([halted.code, halted.stderr]).toEqual([1, expect.stringContaining('halted')]);
    await query('select retention.resume()');
    await stack.database().set({ enabled: 'false' });
    expect((await remove(file)).code).toBe(1);
    await stack.database().set({ enabled: 'true' });
    expect((await remove(file)).code).toBe(0);
    const off = await orphans(['--delete', '--list', file], { DPP_RETENTION_ENABLED: 'false' });
    expect(off.code).toBe(1);
    await query('select retention.detach()');
    const detached = await remove(await copyOf(file));
    await query('select retention.attach()');
    expect(detached.code).toBe(1);
  });

  test('the allow-list binds, when the list is made and when it is deleted', async () => {
    await fill(30);
    putOld('orphan');
    const path = join(folder(), 'x');
    const named = await orphans(['--list', path, '--bucket', 'dpp-results'], {
      S3_RESULT_BUCKET: 'another',
    });
    expect([named.code, named.stderr]).toEqual([
      2,
      expect.stringContaining('S3_RESULT_BUCKET names another'),
    ]);
    const file = await makeList();
    const { code, stderr } = await orphans(['--delete', '--list', file], {
      S3_RESULT_BUCKET: 'another',
    });
    expect([code, stderr]).toEqual([3, expect.stringContaining('not one of the allowed buckets')]);
    expect(has('orphan')).toBe(true);
  });

  test('in a bucket to be purged no version is left', async () => {
    await fill(30);
    putOld('orphan');
    await s3Request('PUT', '/dpp-results?versioning', VERSIONING);
    putOld('orphan');
    const file = await makeList();
    await stack.database().query(
      `insert into retention.bucket (bucket, on_versioned) values ('dpp-results', 'purge')
      on conflict (bucket) do update set on_versioned = 'purge'`,
    );
    expect(parsed(await remove(file))).toMatchObject({ deleted: 1 });
    expect(await s3Request('GET', '/dpp-results?versions&prefix=orphan')).not.toContain(
      'orphan</Key>',
    );
  });

  /** A proxy before the S3; `fault` says what happens to a request. */
  async function proxied(fault: (method: string, url: string) => HttpFault | undefined) {
    const proxy = await startHttpProxy(stack.s3().endpoint);
    onTestFinished(() => proxy.close());
    proxy.steer(({ method, url }) => fault(method, url));
    return { S3_ENDPOINT_URL: proxy.endpoint, RETENTION_S3_MAX_ATTEMPTS: '1' };
  }

  test('a SlowDown in the middle pauses the bucket, goes on, and ends nothing', async () => {
    await fill(50);
    putOld('orphan/a', 'orphan/b');
    const file = await makeList();
    let slow = 2;
    const env = await proxied((method, url) =>
      method === 'POST' && url.includes('delete') && slow-- > 0 ? SLOW_DOWN : undefined,
    );
    await stack.database().set({ pause_base: `'200 milliseconds'` });
    const done = await orphans(['--delete', '--list', file, '--json'], env);
    expect([done.code, parsed(done)]).toMatchObject([0, { deleted: 2, failed: 0, not_reached: 0 }]);
    expect(done.stderr).toMatch(/dpp-results pauses: SlowDown/u);
    const [bucket] = await stack
      .database()
      .query('select pauses, paused_until from retention.bucket');
    expect(bucket).toEqual({ pauses: 0, paused_until: null });
  });

  test('a pause of the bucket is waited for', async () => {
    await fill(30);
    putOld('orphan');
    const file = await makeList();
    await stack.database().query(
      `insert into retention.bucket (bucket, paused_until, pauses, pause_code)
      values ('dpp-results', now() + interval '2 seconds', 1, 'SlowDown')
      on conflict (bucket) do update set paused_until = excluded.paused_until, pauses = 1`,
    );
    const startedAt = performance.now();
    expect(parsed(await remove(file))).toMatchObject({ deleted: 1 });
    expect(performance.now() - startedAt).toBeGreaterThan(1_000);
  });

  test('the ceiling on deletions a second holds, and so does what is known of the store', async () => {
    await fill(1);
    putOld(...Array.from({ length: 1_300 }, (_, at) => `orphan/${at}`));
    const file = await makeList();
    const habits = '{"keys_per_request": 500}';
    await stack
      .database()
      .query(`select retention.set_habits('dpp-results', $1, 'ada', true)`, [habits]);
    const asked: number[] = [];
    const env = await proxied((method, url) => {
      if (method === 'POST' && url.includes('delete')) asked.push(performance.now());
      return undefined;
    });
    const parameters = ['--delete', '--list', file, '--expect', '1300', '--json'];
    const done = await orphans(parameters, { ...env, DPP_RETENTION_MAX_DELETES_PER_SECOND: '800' });
    expect(parsed(done)).toMatchObject({ deleted: 1_300 });
    expect(deletions().map(({ keys }) => keys.length)).toEqual([500, 500, 300]);
    expect((asked[2] ?? 0) - (asked[0] ?? 0)).toBeGreaterThan(1_000);
  });

  test('each page is written down before it is deleted; killed in the middle, it goes on', async () => {
    const keys = Array.from({ length: 2_500 }, (_, at) => `orphan/${String(at).padStart(4, '0')}`);
    await fill(1);
    putOld(...keys);
    const file = await makeList();
    let asked = 0;
    const env = await proxied((method, url) => {
      if (method !== 'POST' || !url.includes('delete')) return undefined;
      asked += 1;
      // S3 does it, and its answer is lost.
      return asked === 2 ? { kind: 'hold-reply', until: new Promise(() => undefined) } : undefined;
    });
    const parameters = ['orphans', '--delete', '--list', file, '--expect', '2500', '--json'];
    const running = startCli(parameters, {
      env: stack.env({ S3_RESULT_BUCKET: 'dpp-results', ...env }),
    });
    onTestFinished(() => running[Symbol.asyncDispose]());
    await until('the second request hangs', () => asked === 2 && !has('orphan/1999'));
    running.kill('SIGKILL');
    await running.ended();
    const written = readFileSync(`${file}.progress`, 'utf8');
    expect(keys.slice(0, 2_000).every((key) => written.includes(`"${key}"`))).toBe(true);
    expect(written).not.toContain('orphan/2000');
    appendFileSync(`${file}.progress`, '{"page":1,"dele');

    const done = await stack.run(
      parameters.filter((it) => it !== '--expect' && it !== '2500'),
      {
        S3_RESULT_BUCKET: 'dpp-results',
      },
    );
    expect([done.code, parsed(done)]).toMatchObject([
      0,
      { listed: 2_500, deleted: 2_500, spared: {}, failed: 0, not_reached: 0, resumed: true },
    ]);
    expect(keys.some((key) => has(key))).toBe(false);
    // Nothing was asked for twice.
    expect(deletions().map(({ keys: asked_ }) => asked_.length)).toEqual([1_000, 1_000, 500]);
    expect(
      await stack
        .database()
        .query('select deleted::int, spared::int, failed::int from retention.orphan_list'),
    ).toEqual([{ deleted: 2_500, spared: 0, failed: 0 }]);
    // Each that S3 has deleted has one receipt, also those whose answer was lost.
    expect(
      await stack.database().query(
        `select count(*)::int as lines, count(distinct u.key)::int as keys
        from retention.receipt r cross join unnest(r.keys) as u (key) where r.kind = 'orphan'`,
      ),
    ).toEqual([{ lines: 2_500, keys: 2_500 }]);
  });

  test('halted in the middle, it deletes nothing more, exits 3 and says how far it came', async () => {
    await fill(1);
    putOld(...Array.from({ length: 2_500 }, (_, at) => `orphan/${at}`));
    const file = await makeList();
    const { query } = stack.database();
    const env = await proxied((method, url) => {
      if (method !== 'POST' || !url.includes('delete')) return undefined;
      return { kind: 'hold', until: query(`select retention.halt('stop it')`) };
    });
    const parameters = ['--delete', '--list', file, '--expect', '2500', '--json'];
    const halted = await orphans(parameters, env);
    expect([halted.code, parsed(halted)]).toMatchObject([
      3,
      {
        deleted: 1_000,
        not_reached: 1_500,
        stopped: expect.stringMatching(/halted.*retention resume/u) as string,
      },
    ]);
    expect(deletions()).toHaveLength(1);
    await query('select retention.resume()');
    expect(parsed(await remove(file))).toMatchObject({ deleted: 2_500, not_reached: 0 });
  });

  test('an empty text is no prefix, no bucket and no file', async () => {
    putOld('orphan');
    const file = join(folder(), 'orphans.jsonl');
    for (const parameters of [
      ['--list', file, '--prefix', ''],
      ['--list', file, '--bucket', ''],
      ['--list', ''],
      [],
      ['--delete'],
    ]) {
      expect([parameters, (await orphans(parameters)).code]).toEqual([parameters, 2]);
    }
    expect(existsSync(file)).toBe(false);
  });

  test('asked to end, it ends after its page and says what is not reached', async () => {
    await fill(1);
    const keys = Array.from({ length: 2_500 }, (_, at) => `orphan/${String(at).padStart(4, '0')}`);
    putOld(...keys);
    const file = await makeList();
    let asked = 0;
    const env = await proxied((method, url) => {
      if (method !== 'POST' || !url.includes('delete')) return undefined;
      asked += 1;
      return { kind: 'delay', milliseconds: 400 };
    });
    const parameters = ['orphans', '--delete', '--list', file, '--expect', '2500', '--json'];
    const running = startCli(parameters, {
      env: stack.env({ S3_RESULT_BUCKET: 'dpp-results', ...env }),
    });
    onTestFinished(() => running[Symbol.asyncDispose]());
    await until('it is asked', () => asked === 1);
    running.kill('SIGTERM');
    const ended = await running.ended();
    expect([ended.code, parsed(ended)]).toMatchObject([
      1,
      { deleted: 1_000, not_reached: 1_500, stopped: 'it was asked to end' },
    ]);
    const people = await orphans(['--delete', '--list', file]);
    expect(people.code).toBe(0);
    expect(people.stdout).toMatch(/Gone on with what was begun before/u);
    expect(people.stdout).toMatch(/^ {2}2500 deleted/mu);
  });

  test('what S3 refuses is counted, asked for again the next time, and exits 1', async () => {
    await fill(50);
    putOld('orphan/a', 'orphan/b');
    const file = await makeList();
    let refuses = true;
    const env = await proxied((method, url) =>
      refuses && method === 'POST' && url.includes('delete')
        ? { kind: 'answer', status: 200, body: ONE_DENIED }
        : undefined,
    );
    const first = await orphans(['--delete', '--list', file, '--json'], env);
    expect([first.code, parsed(first)]).toMatchObject([
      1,
      { deleted: 1, failed: 1, not_reached: 0 },
    ]);
    refuses = false;
    const second = await orphans(['--delete', '--list', file, '--json'], env);
    expect([second.code, parsed(second)]).toMatchObject([0, { deleted: 2, failed: 0 }]);
    expect(has('orphan/b')).toBe(false);
  });

  test('memory does not grow with the list', async () => {
    const peak = async (count: number): Promise<number> => {
      await stack.database().clear();
      await fill(1);
      putOld(...Array.from({ length: count }, (_, at) => `many/${count}/${at}`));
      const file = await makeList('--prefix', `many/${count}/`);
      const running = startCli(['orphans', '--delete', '--list', file, '--expect', String(count)], {
        env: stack.env({ S3_RESULT_BUCKET: 'dpp-results' }),
      });
      onTestFinished(() => running[Symbol.asyncDispose]());
      let kilobytes = 0;
      const watch = setInterval(() => {
        try {
          const status = readFileSync(`/proc/${running.pid}/status`, 'utf8');
          kilobytes = Math.max(kilobytes, Number(/^VmHWM:\s+(\d+)/mu.exec(status)?.[1] ?? 0));
        } catch {
          // It has ended.
        }
      }, 10);
      expect((await running.ended()).code).toBe(0);
      clearInterval(watch);
      return kilobytes / 1_024;
    };
    const few = await peak(1_000);
    const many = await peak(40_000);
    expect(few).toBeGreaterThan(20);
    expect(many - few).toBeLessThan(60);
  });

  async function copyOf(file: string): Promise<string> {
    const copy = join(folder(), 'copy.jsonl');
    writeFileSync(copy, readFileSync(file));
    return copy;
  }

  async function removeFromS3(key: string): Promise<void> {
    await s3Request('DELETE', `/dpp-results/${key}`);
  }

  /** A request that nobody signs: the small S3 asks only for a key that it knows. */
  async function s3Request(method: string, path: string, body?: string): Promise<string> {
    const { endpoint, users } = stack.s3();
    const response = await fetch(`${endpoint}${path}`, {
      method,
      headers: {
        authorization: `AWS4-HMAC-SHA256 Credential=${users[0]?.accessKeyId}/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0`,
      },
      ...(body === undefined ? {} : { body }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text;
  }
});

const VERSIONING = '<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>';
const SLOW_DOWN: HttpFault = {
  kind: 'answer',
  status: 503,
  body: '<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>',
};
const ONE_DENIED =
  '<DeleteResult><Deleted><Key>orphan/a</Key></Deleted><Error><Key>orphan/b</Key>' +
  '<Code>AccessDenied</Code><Message>Access Denied</Message></Error></DeleteResult>';
