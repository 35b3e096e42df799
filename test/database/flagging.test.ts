import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { failuresOf, keyOf, useMigrated } from '../support/migrated.ts';
import { listenInPsql } from '../support/psql.ts';
import { until } from '../support/until.ts';
import { dueRuns } from '../support/due-runs.ts';

const CHANNELS = ['retention_expired', 'retention_cleared', 'retention_failed'];

interface BatchRow extends Record<string, unknown> {
  readonly bucket: string;
  readonly results: number;
}

describeDatabase('a flagging pass', () => {
  const database = useMigrated();

  async function flag(): Promise<number> {
    const { flagged } = await database().one<{ flagged: number }>(
      'select retention.flag_expired() as flagged',
    );
    return flagged;
  }

  async function flaggedRuns(): Promise<string[]> {
    const rows = await database().query<{ run_id: string }>(
      `select f.run_id::text
      from retention.flagged f
      join runs r on r.run_id = f.run_id
      order by r.completed_at, f.run_id`,
    );
    return rows.map(({ run_id }) => run_id);
  }

  /** Passes until one finds nothing, as a listener asks for them. */
  async function flagAll(mostPasses: number): Promise<number> {
    let flagged = 0;
    for (let pass = 0; pass < mostPasses; pass += 1) {
      flagged += await flag();
      const { more } = await database().one<{ more: boolean }>(
        'select more from retention.heartbeat',
      );
      if (!more) return flagged;
    }
    throw new Error(`There was still more to flag after ${mostPasses} passes; ${flagged} so far.`);
  }

  test('puts 2,500 results of two buckets into batches of one bucket and at most 1,000 each', async () => {
    const { insertRuns, query, one } = database();
    await insertRuns({ count: 1_250, bucket: 'dpp-results' });
    await insertRuns({ count: 1_250, bucket: 'dpp-archive', tenant: 'globex' });
    expect(await flag()).toBe(2_500);
    const batches = await query<BatchRow>(
      'select bucket, results from retention.batch order by batch_id',
    );
    expect(batches.length).toBeGreaterThanOrEqual(3);
    expect(batches.reduce((sum, { results }) => sum + results, 0)).toBe(2_500);
    for (const { results } of batches) expect(results).toBeLessThanOrEqual(1_000);
    expect(
      await one(`select count(*)::int as wrong
        from retention.flagged e
        left join retention.batch b using (batch_id)
        left join runs r on r.run_id = e.run_id
        where b.bucket is distinct from r.result_s3_bucket
          or e.key is distinct from r.result_s3_key`),
    ).toEqual({ wrong: 0 });
    expect(
      await one(`select count(*)::int as wrong
        from retention.batch b
        where b.results <> (select count(*) from retention.flagged e where e.batch_id = b.batch_id)`),
    ).toEqual({ wrong: 0 });
  });

  test('is announced once, as psql prints it', async () => {
    const { insertRuns, url } = database();
    const listener = await listenInPsql(url, CHANNELS);
    try {
      await insertRuns({ count: 1_250, bucket: 'dpp-results', completedAgo: '40 days' });
      await insertRuns({ count: 1_250, bucket: 'dpp-archive', tenant: 'globex' });
      await flag();
      await listener.waitFor(({ channel }) => channel === 'retention_expired');
      // A pass without anything to flag says nothing, and a marker after it shows that.
      expect(await flag()).toBe(0);
      await database().query(`select pg_notify('retention_failed', 'marker')`);
      await listener.waitFor(({ payload }) => payload === 'marker');
      const { oldest } = await database().one<{ oldest: Date }>(
        'select min(completed_at) as oldest from runs',
      );
      expect(listener.notifications.map(({ channel, payload }) => [channel, payload])).toEqual([
        [
          'retention_expired',
          `{"batches":4,"results":2500,"buckets":["dpp-archive","dpp-results"],"oldest":"${oldest.toISOString()}"}`,
        ],
        ['retention_failed', 'marker'],
      ]);
    } finally {
      await listener.close();
    }
  });

  test('writes results of no date down once, however often it comes', async () => {
    await database().insertRuns({ count: 10 });
    expect([await flag(), await flag(), await flag()]).toEqual([10, 0, 0]);
  });

  test('takes the batch size that was set', async () => {
    await database().set({ batch_size: '7' });
    await database().insertRuns({ count: 20 });
    await flag();
    const batches = await database().query<BatchRow>(
      'select results from retention.batch order by batch_id',
    );
    expect(batches.map(({ results }) => results)).toEqual([7, 7, 6]);
  });

  test('flags at most flag_limit, the oldest first, and says that there is more', async () => {
    const { insertRuns, set, query } = database();
    const late = await insertRuns({ count: 5, completedAgo: '31 days' });
    const early = await insertRuns({ count: 5, completedAgo: '50 days' });
    await set({ flag_limit: '5' });
    expect(await flag()).toBe(5);
    expect(await flaggedRuns()).toEqual(early);
    expect(await query('select more from retention.heartbeat')).toEqual([{ more: true }]);
    expect(await flag()).toBe(5);
    expect(await flaggedRuns()).toEqual([...early, ...late]);
    expect(await flag()).toBe(0);
    expect(await query('select more from retention.heartbeat')).toEqual([{ more: false }]);
  });

  test('refuses a limit that is no limit', async () => {
    await expect(database().query('select retention.flag_expired(0)')).rejects.toThrow(
      /1 or more, given: 0/,
    );
    await database().insertRuns({ count: 3 });
    expect(await database().one('select retention.flag_expired(2) as flagged')).toEqual({
      flagged: 2,
    });
  });

  test('waits while the backlog is at its limit, and goes on when it is not', async () => {
    const { insertRuns, set, query, one } = database();
    await set({ backlog_limit: '10' });
    await insertRuns({ count: 25 });
    expect(await flag()).toBe(10);
    expect(await flag()).toBe(0);
    // The next tick looks again, whatever the interval.
    expect(await one('select retention.tick() as flagged')).toEqual({ flagged: 0 });
    await query(
      `update runs set result_cleared_at = now() where run_id in (select run_id from retention.flagged);
      delete from retention.batch`,
    );
    expect(await one('select retention.tick() as flagged')).toEqual({ flagged: 10 });
  });

  test('does nothing while the reactor is disabled', async () => {
    const { insertRuns, set, one } = database();
    await insertRuns({ count: 3 });
    await set({ enabled: 'false' });
    expect(await flag()).toBe(0);
    expect(await one('select retention.tick() as flagged')).toEqual({ flagged: 0 });
    await set({ enabled: 'true' });
    expect(await one('select retention.tick() as flagged')).toEqual({ flagged: 3 });
  });

  test('comes with a tick when the interval has passed, and not before', async () => {
    const { insertRuns, query, one } = database();
    await insertRuns();
    expect(await one('select retention.tick() as flagged')).toEqual({ flagged: 1 });
    await insertRuns();
    expect(await one('select retention.tick() as flagged')).toEqual({ flagged: 0 });
    await query(`update retention.heartbeat set passed_at = passed_at - interval '23:59:50'`);
    expect(await one('select retention.tick() as flagged')).toEqual({ flagged: 0 });
    await query(`update retention.heartbeat set passed_at = passed_at - interval '11 seconds'`);
    expect(await one('select retention.tick() as flagged')).toEqual({ flagged: 1 });
  });

  test('comes with the next tick when the last one hit its limit', async () => {
    const { insertRuns, set, one } = database();
    await set({ flag_limit: '2' });
    await insertRuns({ count: 3 });
    expect(await one('select retention.tick() as flagged')).toEqual({ flagged: 2 });
    expect(await one('select retention.tick() as flagged')).toEqual({ flagged: 1 });
  });

  test('finds what was committed late, behind the point that earlier passes had reached', async () => {
    const { insertRuns, insertRun, query } = database();
    await insertRuns({ count: 5, completedAgo: '31 days' });
    await flag();
    const late = await insertRun({ completedAgo: '40 days' });
    await flag();
    expect(await flaggedRuns()).toContain(late);
    // With much behind that point it takes the pass that starts from the oldest, once per interval.
    await query('update retention.setting set small_backlog = 0');
    const later = await insertRun({ completedAgo: '50 days' });
    await query(`update retention.heartbeat set swept_at = now() - interval '61 minutes'`);
    await flag();
    expect(await flaggedRuns()).toContain(later);
  });

  test('goes on from where it stopped while much lies behind', async () => {
    const { insertRuns, set, query } = database();
    await set({ small_backlog: '0' });
    await insertRuns({ count: 20, completedAgo: '40 days' });
    await flag();
    await insertRuns({ count: 3, completedAgo: '31 days' });
    expect(await flag()).toBe(3);
    const scans = await query<{ looked_at: number }>(
      'select looked_at from retention.scan order by scan_id',
    );
    expect(scans.map(({ looked_at }) => looked_at)).toEqual([20, 3]);
  });

  test.each([
    ['without a bucket', { bucket: null }, ''],
    [
      'under a hold',
      { tenant: 'acme' },
      `select retention.place_hold('audit', run_id::text) from runs`,
    ],
    [
      'of a tenant under a hold',
      { tenant: 'held' },
      `select retention.place_hold('audit', null, 'held')`,
    ],
  ])('reaches what is due behind 500 older results %s, 100 at a time', async (_, run, sql) => {
    const { insertRuns, set, query } = database();
    await set({ flag_limit: '100' });
    await insertRuns({ count: 500, completedAgo: '90 days', ...run });
    if (sql !== '') await query(sql);
    const due = await insertRuns({ count: 150, completedAgo: '31 days' });
    expect(await flagAll(20)).toBe(150);
    expect(await flaggedRuns()).toEqual(due);
  });

  test('reaches what is due behind older results that are spared each time', async () => {
    const { insertRuns, set, query, store } = database();
    await set({ flag_limit: '100' });
    await insertRuns({ count: 300, completedAgo: '90 days' });
    // Each shares its object with a run that failed, and so must stay.
    await query(`insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      select tenant_id, 'FAILED', completed_at, result_s3_bucket, result_s3_key from runs`);
    const [due = ''] = await insertRuns({ completedAgo: '31 days' });
    const handedOut: string[] = [];
    for (let pass = 0; pass < 10 && handedOut.length === 0; pass += 1) {
      await flag();
      for (;;) {
        const claim = await store.claim({
          lease: crypto.randomUUID(),
          leaseSeconds: 60,
          by: 'test',
        });
        if (claim === undefined) break;
        handedOut.push(...claim.keys);
      }
    }
    expect(handedOut).toEqual([keyOf(due)]);
  });

  test('counts what has no place, names the first ten, and is not stopped by it', async () => {
    const { insertRuns, query } = database();
    const lost = await insertRuns({ count: 12, bucket: null, completedAgo: '40 days' });
    await insertRuns({ count: 2 });
    expect(await flag()).toBe(2);
    expect(
      await query(
        'select flagged, looked_at, without_place, without_place_run_ids from retention.scan',
      ),
    ).toEqual([
      { flagged: 2, looked_at: 14, without_place: 12, without_place_run_ids: lost.slice(0, 10) },
    ]);
  });

  test('of more than 10,000 works in parts, and comes to the same', async () => {
    const { insertRuns, one } = database();
    const lost = [
      ...(await insertRuns({ count: 3, tenant: 'shrimp', bucket: null, completedAgo: '40 days' })),
      ...(await insertRuns({ count: 12, tenant: 'whale', bucket: null, completedAgo: '40 days' })),
    ];
    await insertRuns({ count: 800, tenant: 'shrimp' });
    // 5,000 of them in the first part.
    await insertRuns({ count: 12_000, tenant: 'whale', completedAgo: '90 days' });
    expect(await flag()).toBe(12_800);
    expect(
      await one(
        `select flagged, looked_at, batches, hit_limit, without_place, without_place_run_ids,
          oldest = (select min(completed_at) from runs) as is_oldest
        from retention.scan`,
      ),
    ).toEqual({
      flagged: 12_800,
      looked_at: 12_815,
      batches: 6 + 7,
      hit_limit: false,
      without_place: 15,
      without_place_run_ids: lost.slice(0, 10),
      is_oldest: true,
    });
    expect(
      await one(
        `select more, left_alone,
          (select count(*)::int from retention.flagged) as expired,
          (select count(*)::int from retention.batch b where b.results = (
            select count(*) from retention.flagged e where e.batch_id = b.batch_id
          )) as batches
        from retention.heartbeat`,
      ),
    ).toEqual({ more: false, left_alone: 15, expired: 12_800, batches: 13 });
  });

  test('of more than 10,000 keeps to its limit', async () => {
    await database().insertRuns({ count: 1_000, bucket: null, completedAgo: '90 days' });
    await database().insertRuns({ count: 11_000 });
    await database().set({ flag_limit: '11500' });
    expect(await flag()).toBe(10_500);
    expect(
      await database().one(
        'select more, looked_at, hit_limit from retention.heartbeat, retention.scan',
      ),
    ).toEqual({ more: true, looked_at: 11_500, hit_limit: true });
    expect(await flag()).toBe(500);
  });

  test('is alone: a second one at the same time returns at once and flags nothing', async () => {
    const { insertRuns, connect, one } = database();
    await insertRuns({ count: 10 });
    const first = await connect();
    await first.query('begin');
    const { rows } = await first.query<{ flagged: number }>(
      'select retention.flag_expired() as flagged',
    );
    expect(rows).toEqual([{ flagged: 10 }]);
    expect(await flag()).toBe(0);
    await first.query('commit');
    expect(await one('select count(*)::int as flagged from retention.flagged')).toEqual({
      flagged: 10,
    });
    await first.end();
  });

  test('flags each result once when many passes run at the same time', async () => {
    const { insertRuns, connect, one } = database();
    await insertRuns({ count: 500 });
    await database().set({ flag_limit: '50' });
    const clients = await Promise.all(Array.from({ length: 4 }, () => connect()));
    let flagged = 0;
    await until('all is flagged', async () => {
      await Promise.all(
        clients.map(async (client) => {
          const { rows } = await client.query<{ n: number }>(
            'select retention.flag_expired() as n',
          );
          flagged += rows[0]?.n ?? 0;
        }),
      );
      return flagged >= 500;
    });
    expect(flagged).toBe(500);
    expect(
      await one(`select
        (select count(*)::int from retention.flagged) as expired,
        (select sum(results)::int from retention.batch) as in_batches`),
    ).toEqual({ expired: 500, in_batches: 500 });
  });

  test('shares its limit among tenants', async () => {
    const { insertRuns, set, query } = database();
    await set({ flag_limit: '100' });
    await insertRuns({ count: 1_000, tenant: 'whale', completedAgo: '90 days' });
    await insertRuns({ count: 10, tenant: 'shrimp', completedAgo: '31 days' });
    // The whale's are older and go first, but they do not lock the shrimp's out for long.
    await until('both tenants were flagged', async () => {
      await flag();
      const rows = await query<{ tenant_id: string }>(
        'select distinct r.tenant_id from retention.flagged e join runs r using (run_id)',
      );
      return rows.length === 2;
    });
  });

  test("takes no lock on the application's table that its writers would notice", async () => {
    const { insertRuns, connect } = database();
    const [runId] = await insertRuns({ count: 3 });
    const writer = await connect();
    await writer.query('begin');
    await writer.query('lock table runs in share row exclusive mode');
    await writer.query('update runs set updated_at = now() where run_id = $1', [runId]);
    expect(await flag()).toBe(3);
    await writer.query('rollback');
    await writer.end();
  });
});

describeDatabase('what is flagged', () => {
  const database = useMigrated();

  /** Everything that may be flagged already, in all states. Returns how many results that is. */
  async function flagEverything(): Promise<number> {
    const { insertRuns, failRuns, store, query, claimNext, expireLeases, set } = database();
    await set({ batch_size: '4', small_backlog: '0' });
    const passed = await insertRuns({ count: 20, completedAgo: '40 days' });
    expect(await store.flagExpired({ by: 'test', whole: true })).toBe(20);
    // Ahead of the progress: selected by a person, and due when the next pass comes by.
    const ahead = await insertRuns({ count: 20, completedAgo: '31 days' });
    await store.flagSelected({ runIds: ahead });
    await insertRuns({ count: 5, tenant: 'globex', completedAgo: '10 days' });
    await store.flagSelected({
      tenantId: 'globex',
      olderThanSeconds: 7 * 86_400,
      early: true,
      expected: 5,
    });
    await query(`
      update runs set completed_at = completed_at - interval '500 hours' where tenant_id = 'globex';
      update retention.batch
      set oldest = oldest - interval '500 hours', newest = newest - interval '500 hours'
      where early is not null`);
    for (const runIds of [passed, ahead]) {
      await failRuns(runIds.slice(0, 3));
      await failRuns(runIds.slice(3, 6), { dead: true });
    }
    await claimNext();
    await expireLeases();
    await claimNext();
    await claimNext();
    // In part failed, in part dead, in part without an answer.
    const { batchId, lease, keys } = await claimNext();
    await store.settle(batchId, lease, {
      cleared: keys.slice(0, 1),
      failed: [...failuresOf(keys.slice(1, 2)), ...failuresOf(keys.slice(2, 3), { final: true })],
      milliseconds: 1,
    });
    return 44;
  }

  async function expectOnce(results: number): Promise<void> {
    expect(
      await database().one(
        'select count(*)::int as rows, count(distinct run_id)::int as runs from retention.flagged',
      ),
    ).toEqual({ rows: results, runs: results });
  }

  test('is not flagged a second time by a pass that goes on from its progress', async () => {
    const { insertRuns, store, one } = database();
    const flagged = await flagEverything();
    await expectOnce(flagged);
    await insertRuns({ count: 1, completedAgo: '30 days 1 hour' });
    expect(await store.flagExpired({ by: 'test' })).toBe(1);
    await expectOnce(flagged + 1);
    // It looked at those ahead, and at none behind.
    expect(await one('select looked_at from retention.scan order by scan_id desc limit 1')).toEqual(
      { looked_at: 20 + 5 + 1 },
    );
  });

  test.each([
    ['that was asked for', async () => database().store.flagExpired({ by: 'test', whole: true })],
    [
      'whose time has come',
      async () => {
        await database().query(
          `update retention.heartbeat set swept_at = now() - interval '2 hours'`,
        );
        return database().store.flagExpired({ by: 'test' });
      },
    ],
    [
      'over a small backlog',
      async () => {
        await database().set({ small_backlog: '5000' });
        return database().store.flagExpired({ by: 'test' });
      },
    ],
    [
      'in parts of a few',
      async () => {
        await database().set({ flag_limit: '3' });
        let flagged = await database().store.flagExpired({ by: 'test', whole: true });
        while ((await database().one('select more from retention.heartbeat'))['more'] === true) {
          flagged += await database().store.flagExpired({ by: 'test' });
        }
        return flagged;
      },
    ],
  ])('is not flagged a second time by a sweep %s', async (_, sweep) => {
    const flagged = await flagEverything();
    await database().insertRuns({ count: 1, completedAgo: '90 days' });
    expect(await sweep()).toBe(1);
    await expectOnce(flagged + 1);
    expect(await database().store.flagExpired({ by: 'test', whole: true })).toBe(0);
    await expectOnce(flagged + 1);
  });
});

describeDatabase('a row without a run id', () => {
  const database = useMigrated({
    before: `alter table runs drop constraint runs_pkey, alter column run_id drop not null;
      create unique index on runs (run_id)`,
  });

  test('delays nothing, and is not flagged', async () => {
    const { insertRuns, store, query } = database();
    const runIds = await insertRuns({ count: 3 });
    await query(`
      insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      select null, 'acme', 'COMPLETED', now() - s.ago, 'dpp-results', 'results/none'
      from (values (interval '90 days'), ('31 days'), ('30 days 1 hour')) s (ago)`);
    expect(await store.flagExpired({ by: 'test', whole: true })).toBe(3);
    const later = await insertRuns({ count: 2, completedAgo: '30 days 30 minutes' });
    expect(await store.flagExpired({ by: 'test' })).toBe(2);
    expect(await store.flagExpired({ by: 'test', whole: true })).toBe(0);
    const flagged = await query<{ run_id: string | null }>(
      'select run_id::text as run_id from retention.flagged',
    );
    expect(new Set(flagged.map(({ run_id }) => run_id))).toEqual(new Set([...runIds, ...later]));
    expect(await dueRuns(database(), {})).toHaveLength(5);
    expect(await store.readStatus()).toMatchObject({ due: 5, flagged: 5 });
  });
});
