import { expect, test } from 'vitest';
import { silentLogger } from '../../src/logger.ts';
import { type VerifyOptions, verify } from '../../src/reactor/verify.ts';
import { describeDatabase } from '../support/database.ts';
import { type ListedBucket, listedBucket } from '../support/listed-bucket.ts';
import { useMigrated } from '../support/migrated.ts';

describeDatabase('the verify of a large bucket', () => {
  const database = useMigrated();

  const run = (bucket: ListedBucket, options: Partial<VerifyOptions> = {}) =>
    verify({
      store: database().store,
      objects: { listing: bucket.listing },
      logger: silentLogger,
      buckets: ['dpp-results'],
      ...options,
    });

  const keysOf = (count: number, folder = 'k'): string[] =>
    Array.from({ length: count }, (_, at) => `${folder}/${String(at).padStart(5, '0')}`);

  /** Rows that point at these keys, due or not. */
  const insertKeyed = (keys: readonly string[], completedAgo = '31 days') =>
    database().query(
      `insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key, created_at, updated_at)
      select gen_random_uuid(), 'acme', 'COMPLETED', now() - $2::interval, 'dpp-results', k, now() - interval '60 days',
        now() - interval '60 days'
      from unnest($1::text[]) k`,
      [keys, completedAgo],
    );

  const stampedKeys = async (): Promise<string[]> => {
    const rows = await database().query<{ key: string }>(
      'select result_s3_key as key from runs where result_cleared_at is not null order by 1',
    );
    return rows.map(({ key }) => key);
  };

  const countLeft = async (): Promise<number> => {
    const [row] = await database().query<{ left: number }>(
      `select (select count(*) from retention.verify_run) + (select count(*) from retention.verify_part)
        + (select count(*) from retention.verify_stretch) + (select count(*) from retention.verify_listed)
        + (select count(*) from retention.stray) as left`,
    );
    return Number(row?.left);
  };

  test('killed and started again, it repeats at most one page, and forgets nothing of what it found', async () => {
    const keys = keysOf(12);
    await insertKeyed(keys);
    const [gone = '', orphan] = [keys[1], 'k/00000-orphan'];
    for (const isWritten of [true, false]) {
      await database().query('update runs set result_cleared_at = null');
      const bucket = listedBucket([...keys.filter((key) => key !== gone), orphan]);
      let isDead = false;
      const { store } = database();
      const dying = {
        ...store,
        noteVerified: async (...given: Parameters<typeof store.noteVerified>) => {
          // The fourth page was compared, and its verify dies before or after that was written down.
          isDead ||= bucket.pages.length === 4;
          if (!isDead || isWritten) await store.noteVerified(...given);
          if (isDead) throw new Error('killed');
          return true;
        },
      };
      await expect(run(bucket, { store: dying })).rejects.toThrow('killed');
      expect(bucket.pages).toHaveLength(4);
      expect(await stampedKeys()).toEqual([]);
      // A dry run has progress of its own.
      await run(listedBucket(bucket.keys), { dryRun: true });
      const found = await run(bucket);
      expect(found).toMatchObject({ listed: 12, stamped: 1, orphans: { objects: 1, bytes: 7 } });
      expect(bucket.pages).toHaveLength(isWritten ? 6 : 7);
      expect(await stampedKeys()).toEqual([gone]);
      expect(await countLeft()).toBe(0);
    }
  });

  test('--restart begins again, and so does what lay for a week', async () => {
    const keys = keysOf(8);
    await insertKeyed(keys);
    const breakOff = async (): Promise<ListedBucket> => {
      const bucket = listedBucket(keys);
      bucket.beforePage = () => {
        if (bucket.pages.length === 3) throw new Error('killed');
      };
      await expect(run(bucket)).rejects.toThrow('killed');
      bucket.beforePage = () => undefined;
      bucket.pages.length = 0;
      return bucket;
    };
    const resumed = await breakOff();
    await run(resumed);
    expect(resumed.pages[0]?.after).toBe(keys[3]);
    const restarted = await breakOff();
    expect(await run(restarted, { restart: true })).toMatchObject({ listed: 8, stamped: 0 });
    expect(restarted.pages[0]?.after).toBeUndefined();
    const old = await breakOff();
    await database().query(`update retention.verify_run set worked_at = now() - interval '8 days'`);
    await run(old);
    expect(old.pages[0]?.after).toBeUndefined();
  });

  test('of several buckets, those that were done are not listed again', async () => {
    const both = { buckets: ['dpp-results', 'dpp-archive'] };
    const bucket = listedBucket(keysOf(4));
    bucket.beforePage = () => {
      if (bucket.pages.length === 4) throw new Error('killed');
    };
    await expect(run(bucket, both)).rejects.toThrow('killed');
    bucket.beforePage = () => undefined;
    bucket.pages.length = 0;
    expect(await run(bucket, both)).toMatchObject({ listed: 8, orphans: { objects: 8 } });
    expect(bucket.pages).toEqual([{ prefix: '', after: 'k/00001' }]);
  });

  test('a second verify takes over, and the first one stops', async () => {
    const bucket = listedBucket(keysOf(6));
    let second: ReturnType<typeof run> | undefined;
    bucket.beforePage = async () => {
      if (second !== undefined || bucket.pages.length < 3) return;
      second = run(listedBucket(bucket.keys));
      await second;
    };
    await expect(run(bucket)).rejects.toThrow(
      /another verify of bucket dpp-results has taken over/u,
    );
    expect(await second).toMatchObject({ listed: 6 });
    expect(await countLeft()).toBe(0);
  });

  test('several prefixes are listed side by side, each with progress of its own', async () => {
    const keys = [...keysOf(4, 'a'), ...keysOf(4, 'b'), ...keysOf(4, 'c')];
    await insertKeyed(keys);
    const bucket = listedBucket(keys.filter((key) => key !== 'a/00000' && key !== 'c/00000'));
    const waiting = new Map<string, () => void>();
    bucket.beforePage = async ({ prefix }) => {
      if (waiting.size >= 2) return;
      // Each waits for the other: one after the other, neither would go on.
      await new Promise<void>((resolve) => {
        waiting.set(prefix, resolve);
        if (waiting.size === 2) for (const go of waiting.values()) go();
      });
    };
    // What another one covers is not listed twice.
    const prefix = ['a/', 'b/', 'a/000'];
    expect(await run(bucket, { prefix })).toMatchObject({ listed: 7, stamped: 1 });
    expect(new Set(bucket.pages.map((page) => page.prefix))).toEqual(new Set(['a/', 'b/']));
    expect(await stampedKeys()).toEqual(['a/00000']);
  });

  test('a large table parts its bucket by its keys, and finds the same', async () => {
    const keys = keysOf(400);
    await insertKeyed(keys);
    await database().query('analyze runs');
    await database().query(
      `set allow_system_table_mods = on;
      update pg_class set reltuples = 200000 where oid = 'runs'::regclass`,
    );
    const gone = keys.filter((_, at) => at % 40 === 7);
    const bucket = listedBucket(
      [...keys.filter((key) => !gone.includes(key)), 'a', 'k/00100-orphan', 'z'],
      { pageSize: 50 },
    );
    const found = await run(bucket);
    expect(found).toMatchObject({ listed: 393, stamped: 10, orphans: { objects: 3 } });
    expect(await stampedKeys()).toEqual(gone);
    const starts = bucket.pages.slice(0, 4).map(({ after }) => after);
    expect(new Set(starts).size).toBe(4);
  });

  test('what is missing by the thousand is looked for by listing its stretch again', async () => {
    const keys = keysOf(1_200);
    await insertKeyed(keys);
    await insertKeyed(['z'], '5 days');
    const bucket = listedBucket(['a', 'k/00600'], { pageSize: 1_000 });
    bucket.beforePage = () => {
      // Written between the listing and the second look.
      if (bucket.pages.length === 2) bucket.keys.add('k/00042').add('k/00700').add('z');
    };
    expect(await run(bucket)).toMatchObject({ listed: 2, stamped: 1_197 });
    expect(bucket.heads).toEqual([]);
    expect(bucket.pages.length).toBeLessThan(6);
    const live = await database().query<{ key: string }>(
      'select result_s3_key as key from runs where result_cleared_at is null order by 1',
    );
    expect(live.map(({ key }) => key)).toEqual(['k/00042', 'k/00600', 'k/00700', 'z']);
  });

  test('a listing out of order is sorted here, also where it was broken off', async () => {
    const keys = keysOf(40);
    await insertKeyed(keys);
    const there = keys.filter((_, at) => at % 3 !== 0);
    const bucket = listedBucket([...there, 'orphan'], { pageSize: 5, isUnsorted: true });
    bucket.beforePage = () => {
      if (bucket.pages.length === 5) throw new Error('killed');
    };
    await expect(run(bucket)).rejects.toThrow('killed');
    bucket.beforePage = () => undefined;
    bucket.pages.length = 0;
    expect(await run(bucket)).toMatchObject({
      listed: 27,
      stamped: 14,
      orphans: { objects: 1 },
      failedBuckets: [],
    });
    expect(bucket.pages[0]?.after).toBe('15');
    expect(await stampedKeys()).toEqual(keys.filter((_, at) => at % 3 === 0));
    expect(await countLeft()).toBe(0);
  });

  test('no more requests are sent than --max-requests-per-second allows', async () => {
    await insertKeyed(keysOf(9, 'gone'));
    const bucket = listedBucket(keysOf(10));
    const startedAt = performance.now();
    await run(bucket, { maxRequestsPerSecond: 40, prefix: ['k/', 'gone/', 'other/'] });
    const seconds = (performance.now() - startedAt) / 1_000;
    const asked = bucket.pages.length + bucket.heads.length;
    expect(asked).toBeGreaterThan(6);
    expect(asked).toBeLessThanOrEqual(seconds * 40 + 1);
    await expect(run(bucket, { maxRequestsPerSecond: 0 })).rejects.toThrow(/above zero; given 0/u);
  });
});
