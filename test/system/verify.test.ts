import { readFileSync } from 'node:fs';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { DEFAULT_USERS } from '../stack/memory-s3.ts';
import { silentLogger } from '../../src/logger.ts';
import { createS3ObjectStore } from '../../src/objects/s3/object-store.ts';
import { type Verification, verify } from '../../src/reactor/verify.ts';
import { onBothServers } from '../support/both-servers.ts';
import { type CliResult, startCli } from '../support/cli.ts';
import { type CliStack, useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import type { MigratedOptions } from '../support/migrated.ts';
import { s3Environment } from '../support/s3-environment.ts';
import { makeBucket } from '../support/s3-target.ts';
import { reply, startScriptedS3 } from '../support/scripted-s3.ts';
import { until } from '../support/until.ts';

/** What applications call their objects, sooner or later. */
const ODD_KEYS = [
  'odd/a blank',
  'odd/a+plus',
  'odd/100%',
  'odd/%41',
  `odd/'single' "double" \\back`,
  'odd/two\nlines\r\nand\ttabs',
  'odd/<&>',
  'odd/{a,b}',
  'odd/NULL',
  'odd/é/日本',
  'odd/😀',
  'odd/\u0001',
  'odd/trailing ',
] as const;

/** In the order of UTF-8 bytes; UTF-16 has the emoji first of the last two, ICU has none of it. */
const ORDERED_KEYS = ['B', 'Z', '_', '_a', 'a', 'a b', 'a/b', 'ab', 'b', 'é', '～', '😀'] as const;

const parsed = ({ stdout, stderr }: CliResult): Record<string, unknown> => {
  expect(stderr).not.toMatch(/^error/mu);
  return JSON.parse(stdout) as Record<string, unknown>;
};

interface KeyedRuns {
  readonly bucket?: string;
  readonly completedAgo?: string;
  readonly clearedAgo?: string;
}

/** Inserts a run for each key; returns their ids in the keys' order. */
async function insertKeyed(
  stack: CliStack,
  keys: readonly string[],
  { bucket = 'dpp-results', completedAgo = '5 days', clearedAgo }: KeyedRuns = {},
): Promise<string[]> {
  const ids = keys.map(() => crypto.randomUUID());
  await stack.database().query(
    `insert into runs (
      run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key, result_cleared_at,
      created_at, updated_at
    )
    select g.run_id, 'acme', 'COMPLETED', now() - $3::interval, $4, g.key, now() - $5::interval,
      now() - interval '60 days', now() - interval '60 days'
    from unnest($1::uuid[], $2::text[]) g (run_id, key)`,
    [ids, keys, completedAgo, bucket, clearedAgo ?? null],
  );
  return ids;
}

async function stampedKeys(stack: CliStack): Promise<string[]> {
  const rows = await stack.database().query<{ key: string }>(
    `select result_s3_key as key from runs
    where result_cleared_at is not null
    order by result_s3_key collate "C"`,
  );
  return rows.map(({ key }) => key);
}

/** Puts objects that are two days old. */
function put(stack: CliStack, ...keys: readonly string[]): void {
  vi.spyOn(Date, 'now').mockReturnValue(Date.now() - 48 * 3_600_000);
  for (const key of keys) stack.s3().putObject('dpp-results', key, Buffer.from('result'));
  vi.mocked(Date.now).mockRestore();
}

/** A verify in this process, with pages as small as the test wants. */
async function verifyHere(
  stack: CliStack,
  options: { readonly pageSize?: number; readonly prefix?: string; readonly dryRun?: boolean } = {},
): Promise<Verification> {
  const { endpoint, region } = stack.s3();
  const [credentials] = DEFAULT_USERS;
  const s3 = { endpoint, region, clientConfig: { credentials } };
  const objects = createS3ObjectStore(s3);
  try {
    return await verify({
      store: stack.database().store,
      objects: {
        ...objects,
        listing: {
          ...objects.listing,
          listObjects: (bucket, request) =>
            objects.listing.listObjects(bucket, { ...request, pageSize: options.pageSize }),
        },
      },
      logger: silentLogger,
      buckets: ['dpp-results'],
      prefix: options.prefix,
      dryRun: options.dryRun,
    });
  } finally {
    objects.close();
  }
}

describeDatabase('retention reconcile --verify --orphans', () => {
  const stack = useCliStack();

  onBothServers((target) => {
    const prepare = async () => {
      const bucket = await makeBucket(target());
      const env = s3Environment(target(), bucket.name);
      const reconcile = (...parameters: string[]) =>
        stack.run(['reconcile', '--json', ...parameters], env);
      return { bucket, reconcile };
    };

    test('a live row whose object is gone is stamped; not due, it is told of', async () => {
      const { bucket, reconcile } = await prepare();
      const due = await stack.database().insertRuns({ count: 2, bucket: bucket.name });
      const notDue = { count: 2, bucket: bucket.name, completedAgo: '5 days' };
      const tooSoon = await stack.database().insertRuns(notDue);
      const there = await stack.database().insertRuns(notDue);
      const running = await stack.database().insertRuns({ bucket: bucket.name, status: 'RUNNING' });
      const young = await stack
        .database()
        .insertRuns({ bucket: bucket.name, completedAgo: '59 minutes' });
      await bucket.put(...there.map((runId) => `results/${runId}`));

      const result = await reconcile('--verify');
      expect(parsed(result)).toMatchObject({
        dry_run: false,
        flagged: 0,
        cleared: 0,
        drift: { stamped: 4, requeued: 0 },
      });
      expect(result.code).toBe(0);
      for (const runId of [...due, ...tooSoon]) {
        const row = await stack.database().run(runId);
        expect(row.result_cleared_at).not.toBeNull();
        expect(row.updated_at).toEqual(row.result_cleared_at);
      }
      for (const runId of [...there, ...running, ...young]) {
        expect((await stack.database().run(runId)).result_cleared_at).toBeNull();
      }
      for (const runId of tooSoon) {
        expect(result.stderr).toContain(`The object of run ${runId} is gone before it was due`);
      }
      for (const runId of due) expect(result.stderr).not.toContain(runId);
      expect(parsed(await reconcile('--verify'))).toMatchObject({
        drift: { stamped: 0, requeued: 0 },
      });
    });

    test('a cleared row whose object is back is work again, for this very reconcile', async () => {
      const { bucket, reconcile } = await prepare();
      const cleared = { bucket: bucket.name, clearedAgo: '1 hour' };
      const back = await stack.database().insertRuns({ ...cleared, count: 3 });
      const notBack = await stack.database().insertRun(cleared);
      const notDue = await stack.database().insertRun({ ...cleared, completedAgo: '5 days' });
      await bucket.put(...[...back, notDue].map((runId) => `results/${runId}`));
      const before = await stack.database().run(notBack);
      // A pass has been here: it would not look behind where it stopped.
      await stack.database().query('select retention.flag_expired()');

      expect(parsed(await reconcile('--verify'))).toMatchObject({
        flagged: 3,
        cleared: 3,
        drift: { stamped: 0, requeued: 4 },
      });
      expect(await bucket.keys()).toEqual([`results/${notDue}`]);
      expect(await stack.database().countStamped()).toBe(4);
      expect((await stack.database().run(notDue)).result_cleared_at).toBeNull();
      expect(await stack.database().run(notBack)).toEqual(before);
    });

    test('orphans are reported, whatever their keys, and what of the keys is gone is stamped', async () => {
      const { bucket, reconcile } = await prepare();
      const live = await insertKeyed(stack, ODD_KEYS, { bucket: bucket.name });
      await bucket.put(...ODD_KEYS, ...ODD_KEYS.map((key) => `${key}-orphan`));
      // They are younger than the margin.
      const found = { drift: { stamped: 0, requeued: 0 }, orphans: { objects: 0, bytes: 0 } };
      expect(parsed(await reconcile('--verify', '--orphans'))).toMatchObject(found);
      await Promise.all(ODD_KEYS.map((key) => removeOne(bucket, key)));
      expect(parsed(await reconcile('--verify'))).toMatchObject({
        drift: { stamped: live.length, requeued: 0 },
      });
      const byBytes = ODD_KEYS.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
      expect(await stampedKeys(stack)).toEqual(byBytes);
    });
  });

  describe('the S3 in memory', () => {
    const reconcile = (...parameters: string[]) => stack.run(['reconcile', ...parameters]);
    const reconcileJson = async (...parameters: string[]) =>
      parsed(await reconcile('--json', ...parameters));

    test('the default margin leaves young objects out', async () => {
      put(stack, 'old');
      stack.s3().putObject('dpp-results', 'young', Buffer.from('result'));
      expect(await reconcileJson('--bucket', 'dpp-results', '--orphans')).toMatchObject({
        orphans: { objects: 1, bytes: 6 },
      });
    });

    test('a dry run changes nothing, and tells what would happen', async () => {
      await insertKeyed(stack, ['gone']);
      await insertKeyed(stack, ['back'], { clearedAgo: '1 day', completedAgo: '40 days' });
      await insertKeyed(stack, ['due'], { completedAgo: '31 days' });
      put(stack, 'back', 'due', 'orphan');
      const everything = () =>
        Promise.all(
          ['runs', 'retention.flagged', 'retention.progress', 'retention.stray'].map((table) =>
            stack.database().query(`select * from ${table} t order by t::text`),
          ),
        );
      const before = await everything();
      const parameters = ['--bucket', 'dpp-results', '--verify', '--orphans', '--dry-run'];
      expect(await reconcileJson(...parameters)).toEqual({
        dry_run: true,
        due: 1,
        groups: [expect.objectContaining({ results: 1 })],
        runs: [expect.objectContaining({ key: 'due' })],
        drift: { stamped: 1, requeued: 1 },
        orphans: { objects: 1, bytes: 6 },
        buckets_failed: [],
        buckets_passed_by: [],
      });
      const people = await reconcile(...parameters);
      expect(people.code).toBe(0);
      expect(people.stdout).toContain('3 objects listed');
      expect(people.stdout).toContain('1 result whose object is gone would be stamped');
      expect(people.stdout).toContain('1 result whose object is back would be taken up again');
      expect(people.stdout).toContain('1 orphan older than the margin (6 bytes)');
      expect(await everything()).toEqual(before);
      expect(stack.requests().map(({ operation }) => operation)).not.toContain('DeleteObjects');
      expect(stack.s3().countObjects('dpp-results')).toBe(3);
    });

    test('--orphans alone repairs nothing', async () => {
      await insertKeyed(stack, ['gone']);
      await insertKeyed(stack, ['back'], { clearedAgo: '1 day' });
      put(stack, 'back', 'orphan');
      const document = await reconcileJson('--bucket', 'dpp-results', '--orphans');
      expect(document).toMatchObject({ orphans: { objects: 1, bytes: 6 } });
      expect(document).not.toHaveProperty('drift');
      expect(await stampedKeys(stack)).toEqual(['back']);
    });

    test('rows without a bucket protect what may be theirs', async () => {
      await stack.database().insertRuns({ bucket: null, key: 'whose' });
      put(stack, 'whose');
      expect(await reconcileJson('--bucket', 'dpp-results', '--verify', '--orphans')).toMatchObject(
        { drift: { stamped: 0, requeued: 0 }, orphans: { objects: 0 } },
      );
      expect(stack.s3().hasObject('dpp-results', 'whose')).toBe(true);
    });

    test('prefixes that are prefixes of others', async () => {
      await insertKeyed(stack, ['im', 'img', 'img/1', 'img0', 'img2/1', 'imh', 'IMG/1']);
      put(stack, 'im-o', 'img-o', 'img/o', 'img2/o', 'imh-o');
      const look = async (prefix: string) =>
        reconcileJson(
          '--bucket',
          'dpp-results',
          '--verify',
          '--orphans',
          '--dry-run',
          '--prefix',
          prefix,
        );
      expect(await look('img')).toMatchObject({ drift: { stamped: 4 }, orphans: { objects: 3 } });
      expect(await look('img2')).toMatchObject({ drift: { stamped: 1 }, orphans: { objects: 1 } });
      const one = ['--bucket', 'dpp-results', '--verify', '--orphans', '--prefix', 'img/'];
      expect(await reconcileJson(...one)).toMatchObject({
        drift: { stamped: 1, requeued: 0 },
        orphans: { objects: 1 },
      });
      expect(await stampedKeys(stack)).toEqual(['img/1']);
    });

    test('a prefix is literal text', async () => {
      await insertKeyed(stack, ['a%b/1', 'axb/1', 'a_b/1', 'a\\b/1']);
      for (const prefix of ['a%', 'a_', 'a\\']) {
        expect(await verifyHere(stack, { prefix, dryRun: true })).toMatchObject({ stamped: 1 });
      }
    });

    test('a prefix that nothing bears is wrong usage', async () => {
      await insertKeyed(stack, ['img/1'], { completedAgo: '31 days' });
      put(stack, 'img/1');
      for (const more of [['--verify'], ['--orphans'], ['--verify', '--dry-run']]) {
        const { code, stdout, stderr } = await reconcile(
          '--bucket',
          'dpp-results',
          '--prefix',
          'igm/',
          ...more,
        );
        expect([code, stdout]).toEqual([2, '']);
        expect(stderr.match(/^error: .*igm\//gmu)).toHaveLength(1);
      }
      expect(stack.s3().hasObject('dpp-results', 'img/1')).toBe(true);
    });

    test('options that do not go together are wrong usage', async () => {
      for (const wrong of [
        ['--delete'],
        ['--verify', '--delete'],
        ['--prefix', 'img'],
        ['--bucket', 'dpp-results'],
        ['--orphans', '--margin', 'soon'],
        ['--orphans', '--margin', '-1h'],
        ['--verify'],
      ]) {
        const { code, stdout, stderr } = await reconcile(...wrong);
        expect([wrong, code, stdout]).toEqual([wrong, 2, '']);
        expect(stderr).toMatch(/^error: /u);
      }
    });

    test('a bucket that is not there, or without rights, is named, and the rest is done', async () => {
      await insertKeyed(stack, ['gone'], { completedAgo: '3 days' });
      await insertKeyed(stack, ['elsewhere'], { bucket: 'no-such-bucket' });
      const [, other] = DEFAULT_USERS;
      const missing = await reconcile('--verify', '--bucket', 'no-such-bucket');
      const denied = await stack.run(['reconcile', '--verify', '--bucket', 'dpp-results'], {
        AWS_ACCESS_KEY_ID: other.accessKeyId,
        AWS_SECRET_ACCESS_KEY: other.secretAccessKey,
      });
      expect([missing.code, denied.code]).toEqual([1, 1]);
      expect(missing.stdout).toContain('bucket no-such-bucket could not be verified: NoSuchBucket');
      expect(denied.stdout).toContain('bucket dpp-results could not be verified: AccessDenied');
      for (const { stderr } of [missing, denied]) {
        expect(stderr.match(/ERROR/gu)?.length).toBe(1);
        expect(stderr).not.toMatch(/\n\s+at /u);
      }
      expect(await stack.database().countStamped()).toBe(0);
      expect(await stack.database().query('select from retention.stray')).toEqual([]);
    });

    test('does nothing while the reactor is disabled; looking is allowed', async () => {
      await insertKeyed(stack, ['gone']);
      put(stack, 'orphan');
      const parameters = ['reconcile', '--bucket', 'dpp-results', '--verify', '--orphans'];
      const byVariable = await stack.run(parameters, { DPP_RETENTION_ENABLED: 'false' });
      await stack.database().set({ enabled: 'false' });
      const byDatabase = await stack.run(parameters);
      for (const { code, stderr } of [byVariable, byDatabase]) {
        expect([code, stderr]).toEqual([
          1,
          expect.stringMatching(/disabled.*\n.*DPP_RETENTION_ENABLED/u),
        ]);
      }
      expect(await stack.database().countStamped()).toBe(0);
      expect(stack.s3().hasObject('dpp-results', 'orphan')).toBe(true);
      expect(
        await reconcileJson('--bucket', 'dpp-results', '--verify', '--orphans', '--dry-run'),
      ).toMatchObject({ drift: { stamped: 1 }, orphans: { objects: 1 } });
    });

    test('refuses when so much is gone too soon that it looks like the wrong store', async () => {
      await stack.database().insertRuns({ count: 1_000, completedAgo: '5 days' });
      await stack.database().insertRuns({ count: 1, completedAgo: '5 days' });
      const refused = await reconcile('--bucket', 'dpp-results', '--verify');
      expect([refused.code, refused.stdout]).toEqual([3, '']);
      expect(refused.stderr).toMatch(
        /^error: More than 1000 live results.*wrong bucket or store/mu,
      );
      expect(refused.stderr).toContain('--yes');
      expect(await stack.database().countStamped()).toBe(0);
      expect(await reconcileJson('--bucket', 'dpp-results', '--verify', '--dry-run')).toMatchObject(
        { drift: { stamped: 1_001 } },
      );
      expect(await reconcileJson('--bucket', 'dpp-results', '--verify', '--yes')).toMatchObject({
        drift: { stamped: 1_001, requeued: 0 },
      });
    });

    test('a thousand of them, and any number that is due, is believed', async () => {
      await stack.database().insertRuns({ count: 1_000, completedAgo: '5 days' });
      await stack.database().insertRuns({ count: 20, completedAgo: '35 days' });
      expect(await reconcileJson('--bucket', 'dpp-results', '--verify')).toMatchObject({
        cleared: 0,
        drift: { stamped: 1_020 },
      });
    });

    test('what is flagged already and gone is stamped, and its batch comes to its end', async () => {
      await stack.database().insertRuns({ count: 3 });
      await stack.insertResults({ count: 2 });
      await stack.database().query('select retention.flag_expired()');
      expect(await reconcileJson('--verify')).toMatchObject({
        cleared: 2,
        spared: 3,
        failed: 0,
        drift: { stamped: 3, requeued: 0 },
      });
      expect(await stack.countCleared()).toBe(5);
      expect(await stack.database().query('select from retention.flagged')).toEqual([]);
    });

    test('pages through a gap, and over many runs of one key at the end of a page', async () => {
      const keys = Array.from({ length: 1_100 }, (_, at) => `gap/${String(at).padStart(5, '0')}`);
      const shared = keys[998] ?? '';
      await insertKeyed(stack, [...keys, ...Array.from({ length: 5 }, () => shared)], {
        completedAgo: '31 days',
      });
      put(stack, 'a', 'z');
      expect(await verifyHere(stack, { dryRun: true })).toMatchObject({ stamped: 1_105 });
      // Looked for again by listing the stretch, and not one by one.
      const heads = stack.requests().filter(({ operation }) => operation === 'HeadObject');
      expect(heads).toEqual([]);
      expect(await verifyHere(stack)).toMatchObject({ listed: 2, stamped: 1_105 });
      expect(await verifyHere(stack)).toMatchObject({ stamped: 0, listed: 2 });
    });

    test('an object that appeared after the listing is no missing one', async () => {
      await insertKeyed(stack, ['a', 'late']);
      const { endpoint, region } = stack.s3();
      const [credentials] = DEFAULT_USERS;
      const objects = createS3ObjectStore({ endpoint, region, clientConfig: { credentials } });
      onTestFinished(() => objects.close());
      const found = await verify({
        store: stack.database().store,
        objects: {
          ...objects,
          listing: {
            ...objects.listing,
            async *listObjects(bucket, request) {
              yield* objects.listing.listObjects(bucket, request);
              put(stack, 'late');
            },
          },
        },
        logger: silentLogger,
        // Named twice, looked at once.
        buckets: ['dpp-results', 'dpp-results'],
      });
      expect(found).toMatchObject({ listed: 0, stamped: 1 });
      expect(await stampedKeys(stack)).toEqual(['a']);
    });

    test('keys that no text of PostgreSQL’s holds are passed over', async () => {
      await insertKeyed(stack, ['a', 'b']);
      put(stack, 'a', 'a\0', 'b', 'c\0');
      for (const pageSize of [1, 2, 1_000]) {
        expect(await verifyHere(stack, { pageSize })).toMatchObject({
          listed: 4,
          stamped: 0,
          orphans: { objects: 0 },
        });
      }
    });

    test('no transaction is open while S3 lists', async () => {
      const slow = await startScriptedS3();
      onTestFinished(() => slow.stop());
      const page = (more: boolean, ...keys: readonly string[]) =>
        reply(
          200,
          `<ListBucketResult><IsTruncated>${more}</IsTruncated>${keys
            .map(
              (key) =>
                `<Contents><Key>${key}</Key><Size>6</Size>` +
                '<LastModified>2026-01-01T00:00:00Z</LastModified></Contents>',
            )
            .join('')}</ListBucketResult>`,
        );
      let goOn: (() => void) | undefined;
      slow.play((request, response) => {
        if (slow.requests.length === 1) page(true, 'a', 'b')(request, response);
        else goOn = () => page(false, 'c')(request, response);
      });
      const running = startCli(
        ['reconcile', '--json', '--verify', '--orphans', '--bucket', 'dpp-results'],
        { env: stack.env({ S3_ENDPOINT_URL: slow.endpoint }) },
      );
      onTestFinished(() => running[Symbol.asyncDispose]());
      await until('the second page is asked for', () => goOn !== undefined);
      const open = () =>
        stack.database().query<{ state: string; xact_start: Date | null }>(
          `select state, xact_start from pg_stat_activity
          where datname = current_database() and pid <> pg_backend_pid()
            and application_name = 'retention'`,
        );
      // The first page is compared meanwhile.
      await until('the first page was compared', async () => {
        const strays = await stack.database().query('select from retention.stray');
        return strays.length === 2;
      });
      const sessions = await until('its sessions rest', async () => {
        const rows = await open();
        return rows.length > 0 && rows.every(({ state }) => state === 'idle') && rows;
      });
      expect(sessions.map(({ xact_start }) => xact_start)).toEqual(sessions.map(() => null));
      goOn?.();
      const ended = await running.ended();
      expect(parsed(ended)).toMatchObject({ orphans: { objects: 3, bytes: 18 } });
      expect(await stack.database().query('select from retention.stray')).toEqual([]);
    });

    test('memory does not grow with the bucket', async () => {
      const peak = async (objects: number): Promise<number> => {
        const running = startCli(
          ['reconcile', '--json', '--verify', '--orphans', '--bucket', 'dpp-results'],
          { env: stack.env() },
        );
        onTestFinished(() => running[Symbol.asyncDispose]());
        running.endInput();
        let kilobytes = 0;
        const watch = setInterval(() => {
          try {
            const status = readFileSync(`/proc/${running.pid}/status`, 'utf8');
            kilobytes = Math.max(kilobytes, Number(/^VmHWM:\s+(\d+)/mu.exec(status)?.[1] ?? 0));
          } catch {
            // It has ended.
          }
        }, 10);
        const ended = await running.ended();
        clearInterval(watch);
        expect(parsed(ended)).toMatchObject({
          drift: { stamped: 0, requeued: 0 },
          orphans: { objects: objects / 2 },
        });
        return kilobytes / 1_024;
      };
      const fill = async (count: number, from: string): Promise<void> => {
        const keys = Array.from({ length: count }, (_, at) => `${from}/${at}`);
        await insertKeyed(stack, keys);
        put(stack, ...keys, ...keys.map((key) => `${key}-orphan`));
      };
      await fill(500, 'few');
      const few = await peak(1_000);
      await fill(9_500, 'many');
      const many = await peak(20_000);
      expect(few).toBeGreaterThan(20);
      expect(many - few).toBeLessThan(80);
    });
  });
});

const COLLATIONS: Readonly<Record<string, MigratedOptions>> = {
  'the database’s collation': {},
  'a column in the order of a language': {
    before: `do $$ begin
      if exists (select from pg_collation where collname = 'en-x-icu') then
        alter table runs alter column result_s3_key type text collate "en-x-icu";
      end if;
    end $$`,
  },
};

describeDatabase('the order of a listing and of the rows', () => {
  describe.each(Object.entries(COLLATIONS))('%s', (_name, options) => {
    const stack = useCliStack(options);

    test.each([1, 2, 3, 1_000])('is that of bytes, in pages of %i', async (pageSize) => {
      for (const parity of [0, 1]) {
        await stack.database().clear();
        const there = ORDERED_KEYS.filter((_, at) => at % 2 === parity);
        const gone = ORDERED_KEYS.filter((_, at) => at % 2 !== parity);
        await insertKeyed(stack, ORDERED_KEYS);
        for (const key of ORDERED_KEYS) {
          if (stack.s3().hasObject('dpp-results', key)) await removeFromMemory(stack, key);
        }
        put(stack, ...there);
        expect(await verifyHere(stack, { pageSize })).toEqual({
          listed: there.length,
          stamped: gone.length,
          requeued: 0,
          orphans: { objects: 0, bytes: 0 },
          failedBuckets: [],
          passedBy: [],
        });
        expect(await stampedKeys(stack)).toEqual(gone);
        // The other way round: what is gone is back.
        put(stack, ...gone);
        expect(await verifyHere(stack, { pageSize })).toMatchObject({
          listed: ORDERED_KEYS.length,
          stamped: 0,
          requeued: gone.length,
          orphans: { objects: 0 },
        });
        expect(await stampedKeys(stack)).toEqual([]);
      }
    });

    test('a prefix ends where its bytes end', async () => {
      await insertKeyed(stack, [
        'ａ',
        'é',
        'é1',
        'é～',
        'é😀',
        'ê',
        'e',
        '\u{10FFFF}',
        '\u{10FFFF}x',
      ]);
      expect(await verifyHere(stack, { prefix: 'é', dryRun: true })).toMatchObject({ stamped: 4 });
      expect(await verifyHere(stack, { prefix: '\u{10FFFF}', dryRun: true })).toMatchObject({
        stamped: 2,
      });
      expect(await verifyHere(stack, { prefix: 'é～' })).toMatchObject({ stamped: 1 });
      expect(await stampedKeys(stack)).toEqual(['é～']);
    });
  });
});

async function removeFromMemory(stack: CliStack, key: string): Promise<void> {
  const { endpoint, region } = stack.s3();
  const [credentials] = DEFAULT_USERS;
  const objects = createS3ObjectStore({ endpoint, region, clientConfig: { credentials } });
  try {
    await objects.deleteObjects('dpp-results', [key]);
  } finally {
    objects.close();
  }
}

async function removeOne(
  bucket: Awaited<ReturnType<typeof makeBucket>>,
  key: string,
): Promise<void> {
  const { deleted } = await bucket.open().deleteObjects(bucket.name, [key]);
  expect([...deleted]).toEqual([key]);
}
