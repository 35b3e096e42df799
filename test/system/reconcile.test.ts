import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useCliStack } from '../support/cli-stack.ts';

interface DryRun {
  readonly dry_run: boolean;
  readonly due: number;
  readonly groups: readonly Record<string, unknown>[];
  readonly runs: readonly Record<string, unknown>[];
}

describeDatabase('retention reconcile', () => {
  const stack = useCliStack();
  const reconcile = (...parameters: string[]) => stack.run(['reconcile', ...parameters]);

  async function reconcileJson(...parameters: string[]): Promise<Record<string, unknown>> {
    const { stdout, stderr } = await reconcile('--json', ...parameters);
    expect(stderr).not.toMatch(/^error/mu);
    return JSON.parse(stdout) as Record<string, unknown>;
  }

  test('clears all that is due, without a listener and a scheduler', async () => {
    await stack.insertResults({ count: 1_200 });
    await stack.insertResults({ count: 30, tenant: 'globex', bucket: 'dpp-archive' });
    const fresh = await stack.insertResults({ count: 5, completedAgo: '29 days' });
    const { code, stdout, stderr } = await reconcile();
    // A slow machine shows progress meanwhile.
    expect([code, stderr.replace(/^[\d,]+ of 1,230 results done.*$\n/gmu, '')]).toEqual([0, '']);
    expect(stdout).toMatch(
      /^1230 results cleared, 0 spared, 0 failed, 0 dead; 1230 newly flagged, in [\d.]+ s$/mu,
    );
    expect(await stack.countCleared()).toBe(1_230);
    for (const runId of fresh)
      expect(stack.s3().hasObject('dpp-results', `results/${runId}`)).toBe(true);
    expect((await reconcile()).stdout).toMatch(/^0 results cleared/mu);
  });

  test('finds what an event missed: flagged work that nobody took, and leases that nobody lives by', async () => {
    const { query, store, expireLeases } = stack.database();
    await stack.database().set({ batch_size: '5' });
    await stack.insertResults({ count: 10 });
    await query('select retention.flag_expired()');
    await store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'a listener that died' });
    await expireLeases();
    expect(await reconcileJson()).toMatchObject({ flagged: 0, cleared: 10 });
    expect(await stack.countCleared()).toBe(10);
  });

  test('leaves a batch alone that somebody works on', async () => {
    const { query, store } = stack.database();
    await stack.database().set({ batch_size: '5' });
    const runIds = await stack.insertResults({ count: 10 });
    await query('select retention.flag_expired()');
    const claim = await store.claim({
      lease: crypto.randomUUID(),
      leaseSeconds: 60,
      by: 'a listener',
    });
    expect(await reconcileJson()).toMatchObject({ cleared: 5 });
    const [claimed = ''] = runIds.filter((runId) => claim?.keys.includes(`results/${runId}`));
    expect(await reconcileJson('--run', claimed)).toMatchObject({ cleared: 0 });
    expect(await stack.countCleared()).toBe(5);
  });

  test('prints one document with the agreed keys', async () => {
    await stack.insertResults({ count: 3 });
    const { code, stdout } = await reconcile('--json');
    expect(code).toBe(0);
    const document = JSON.parse(stdout) as Record<string, unknown>;
    expect(document).toMatchObject({
      dry_run: false,
      flagged: 3,
      cleared: 3,
      spared: 0,
      failed: 0,
      dead: 0,
    });
    expect(document['seconds']).toEqual(expect.any(Number));
  });

  test('changes nothing in a dry run, and tells what would go', async () => {
    const { query } = stack.database();
    const [oldest, ...others] = await stack.insertResults({ count: 3, completedAgo: '40 days' });
    await stack.insertResults({ count: 2, tenant: 'globex', bucket: 'dpp-archive' });
    await stack.insertResults({ completedAgo: '1 day' });
    // What is flagged already would go as well.
    await query('select retention.flag_expired(2)');
    const everything = (): Promise<unknown[]> =>
      Promise.all(
        [
          'runs',
          'retention.batch',
          'retention.flagged',
          'retention.scan',
          'retention.progress',
          'retention.heartbeat',
        ].map((table) => query(`select * from ${table} t order by t::text`)),
      );
    const before = await everything();

    const people = await reconcile('--dry-run');
    expect(people.code).toBe(0);
    expect(people.stdout).toMatch(/^5 results would go; nothing was changed\.$/mu);
    expect(people.stdout).toMatch(/acme\s+dpp-results\s+3\s+\d{4}-/u);
    expect(people.stdout).toMatch(/globex\s+dpp-archive\s+2\s+\d{4}-/u);
    expect(people.stdout).not.toContain(oldest);
    expect((await reconcile('--dry-run', '--verbose')).stdout).toContain(`results/${oldest}`);

    const document = JSON.parse((await reconcile('--dry-run', '--json')).stdout) as DryRun;
    const { completed_at } = await stack.database().run(oldest ?? '');
    expect(document).toMatchObject({ dry_run: true, due: 5 });
    expect(document.groups).toEqual([
      {
        tenant_id: 'acme',
        bucket: 'dpp-results',
        results: 3,
        oldest: (completed_at as Date).toISOString(),
      },
      {
        tenant_id: 'globex',
        bucket: 'dpp-archive',
        results: 2,
        oldest: expect.any(String) as string,
      },
    ]);
    expect(document.runs).toHaveLength(5);
    expect(document.runs[0]).toEqual({
      run_id: oldest,
      tenant_id: 'acme',
      bucket: 'dpp-results',
      key: `results/${oldest}`,
      completed_at: (completed_at as Date).toISOString(),
    });
    expect(document.runs.map(({ run_id }) => run_id)).toEqual(expect.arrayContaining(others));
    expect(await everything()).toEqual(before);
    expect(stack.requests()).toEqual([]);
    expect(await stack.countCleared()).toBe(0);
  });

  test('a dry run lists exactly what a run then clears', async () => {
    await stack.insertResults({ count: 5 });
    await stack.insertResults({ count: 2, key: 'results/shared' });
    await stack.database().insertRuns({ status: 'FAILED', key: 'results/shared' });
    await stack.database().insertRuns({ bucket: null });
    await stack.insertResults({ tenant: 'held' });
    await stack.database().query(`select retention.place_hold('audit', null, 'held')`);
    const { due, runs } = JSON.parse((await reconcile('--dry-run', '--json')).stdout) as DryRun;
    expect([due, runs.length]).toEqual([5, 5]);
    expect(await reconcileJson()).toMatchObject({ cleared: 5 });
    const stamped = await stack
      .database()
      .query('select run_id from runs where result_cleared_at is not null order by 1');
    expect(stamped.map(({ run_id }) => run_id)).toEqual(
      runs.map(({ run_id }) => run_id as string).toSorted(),
    );
  });

  test('--tenant: only results of this tenant', async () => {
    await stack.insertResults({ count: 4 });
    await stack.insertResults({ count: 3, tenant: 'globex' });
    expect(await reconcileJson('--tenant', 'globex')).toMatchObject({ flagged: 3, cleared: 3 });
    expect(await stack.countCleared()).toBe(3);
    expect(await reconcileJson('--tenant', 'nobody')).toMatchObject({ cleared: 0 });
  });

  test('--run, repeated: only these runs', async () => {
    const [first, second, third] = await stack.insertResults({ count: 3 });
    const [fresh] = await stack.insertResults({ completedAgo: '1 day' });
    expect(
      await reconcileJson('--run', first ?? '', '--run', third ?? '', '--run', fresh ?? ''),
    ).toMatchObject({ cleared: 2 });
    expect((await stack.database().run(second ?? '')).result_cleared_at).toBeNull();
    expect((await stack.database().run(fresh ?? '')).result_cleared_at).toBeNull();
  });

  test('--run with what is no run id says so, without a stack', async () => {
    const { code, stderr } = await reconcile('--run', 'banana');
    expect(code).toBeGreaterThan(0);
    expect(stderr).toMatch(/banana/u);
    expect(stderr).not.toMatch(/\n\s+at /u);
  });

  test('--older-than beyond the policy narrows, and needs no confirmation', async () => {
    await stack.insertResults({ count: 2, completedAgo: '59 days' });
    await stack.insertResults({ count: 3, completedAgo: '61 days' });
    expect(await reconcileJson('--older-than', '60d')).toMatchObject({ cleared: 3 });
    expect(await stack.countCleared()).toBe(3);
  });

  test('--older-than below the policy is refused without a confirmation', async () => {
    await stack.insertResults({ count: 3, completedAgo: '10 days' });
    const refused = await reconcile('--older-than', '7d', '--all');
    expect(refused.code).toBe(3);
    expect(refused.stderr).toMatch(/3 results older than 7d are not due by their policy/u);
    expect(refused.stderr).toContain('--expect 3');
    expect(await stack.countCleared()).toBe(0);
    expect(await stack.database().query('select from retention.flagged')).toEqual([]);

    const dry = JSON.parse(
      (await reconcile('--older-than', '7d', '--dry-run', '--json')).stdout,
    ) as DryRun;
    expect(dry.due).toBe(3);
    expect(await reconcileJson('--older-than', '7d', '--all', '--yes')).toMatchObject({
      cleared: 3,
    });
    expect(await stack.countCleared()).toBe(3);
  });

  test('an early cutoff respects holds and shared objects too', async () => {
    const runIds = await stack.insertResults({ count: 2, completedAgo: '10 days' });
    await stack.database().query('select retention.place_hold($1, $2)', ['audit', runIds[0]]);
    await stack.insertResults({ completedAgo: '10 days', key: 'results/shared' });
    await stack.insertResults({ completedAgo: '1 day', key: 'results/shared' });
    expect(await reconcileJson('--older-than', '7d', '--all', '--yes')).toMatchObject({
      cleared: 1,
    });
    expect(stack.s3().hasObject('dpp-results', `results/${runIds[0]}`)).toBe(true);
    expect(stack.s3().hasObject('dpp-results', 'results/shared')).toBe(true);
  });

  test('--batch-size: at most so many results per request', async () => {
    await stack.insertResults({ count: 25 });
    expect(await reconcileJson('--batch-size', '10')).toMatchObject({ cleared: 25 });
    const sizes = stack
      .requests()
      .filter(({ operation }) => operation === 'DeleteObjects')
      .map(({ keys }) => keys.length);
    expect(sizes.toSorted((a, b) => a - b)).toEqual([5, 10, 10]);
  });

  test('--limit: at most so many results', async () => {
    await stack.insertResults({ count: 25 });
    expect(await reconcileJson('--limit', '10')).toMatchObject({ cleared: 10 });
    expect(await reconcileJson('--limit', '10', '--tenant', 'acme')).toMatchObject({ cleared: 10 });
    expect(await stack.countCleared()).toBe(20);
  });

  test('everything at once', async () => {
    await stack.insertResults({ count: 25, completedAgo: '90 days' });
    await stack.insertResults({ count: 5, completedAgo: '90 days', tenant: 'globex' });
    expect(
      await reconcileJson(
        '--tenant',
        'acme',
        '--older-than',
        '60d',
        '--batch-size',
        '4',
        '--limit',
        '12',
      ),
    ).toMatchObject({ cleared: 12 });
    expect(await stack.countCleared()).toBe(12);
  });

  test('works through more than a pass flags', async () => {
    await stack.database().set({ flag_limit: '100' });
    await stack.insertResults({ count: 450 });
    await stack.database().insertRuns({ count: 150, bucket: null, completedAgo: '90 days' });
    expect(await reconcileJson()).toMatchObject({ flagged: 450, cleared: 450 });
  });

  test('exits with 1 when something failed, and clears the others', async () => {
    await stack.insertResults({ count: 3 });
    await stack.database().insertRuns({ count: 2, bucket: 'no-such-bucket' });
    const { code, stdout, stderr } = await reconcile('--json');
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ cleared: 3, failed: 2, dead: 0 });
    expect(stderr).toMatch(/NoSuchBucket/u);
  });

  test('exits with 1 when S3 cannot be reached, for then nothing is done', async () => {
    await stack.insertResults({ count: 3 });
    // Longer than it has patience for.
    await stack.database().set({ pause_base: `'1 hour'`, pause_cap: `'1 hour'` });
    const { code, stderr } = await stack.run(['reconcile'], {
      S3_ENDPOINT_URL: 'http://127.0.0.1:9',
      RETENTION_S3_MAX_ATTEMPTS: '1',
    });
    expect(stderr).toMatch(/ECONNREFUSED|pauses/u);
    expect(code).toBe(1);
    expect(await stack.countCleared()).toBe(0);
  });

  test('refuses to work while the reactor is disabled; looking is allowed', async () => {
    await stack.insertResults({ count: 3 });
    await stack.database().set({ enabled: 'false' });
    const refused = await reconcile();
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/disabled.*\n.*DPP_RETENTION_ENABLED=true/u);
    expect((await reconcile('--run', 'x')).code).toBeGreaterThan(0);
    const looked = JSON.parse((await reconcile('--dry-run', '--json')).stdout) as DryRun;
    expect(looked.due).toBe(3);
    expect(await stack.countCleared()).toBe(0);
  });

  test('DPP_RETENTION_ENABLED=false holds for it, whatever the database says', async () => {
    await stack.insertResults({ count: 3 });
    const { code } = await stack.run(['reconcile'], { DPP_RETENTION_ENABLED: 'false' });
    expect(code).toBe(1);
    expect(await stack.countCleared()).toBe(0);
  });

  test('two at once share the work; no object is asked for twice', async () => {
    await stack.database().set({ batch_size: '20' });
    await stack.insertResults({ count: 600 });
    const [one, other] = await Promise.all([reconcileJson(), reconcileJson()]);
    expect(Number(one['cleared']) + Number(other['cleared'])).toBe(600);
    expect(await stack.countCleared()).toBe(600);
    const deleting = stack.requests().filter(({ operation }) => operation === 'DeleteObjects');
    const keys = deleting.flatMap((request) => request.keys);
    expect(keys.length).toBe(new Set(keys).size);
  });

  test('two narrowed ones at once, and a listener beside them, do not get in each other’s way', async () => {
    await stack.database().set({ batch_size: '20' });
    await stack.listen();
    await stack.insertResults({ count: 300 });
    await stack.database().query('select retention.flag_expired()');
    const results = await Promise.all([
      reconcile('--tenant', 'acme', '--batch-size', '7'),
      reconcile('--tenant', 'acme', '--older-than', '30d'),
    ]);
    for (const { code, stderr } of results) expect([code, stderr]).toEqual([0, '']);
    await stack.cleared(300);
    expect(await stack.database().query('select from retention.flagged')).toEqual([]);
  });

  test('without a schema, says what to run', async () => {
    const { code, stderr } = await stack.run(['reconcile'], {
      DATABASE_URL: stack.database().url.replace(/[^/]*$/u, 'postgres'),
    });
    expect(code).toBe(1);
    expect(stderr).toMatch(/retention migrate up/u);
    expect(stderr).not.toMatch(/\n\s+at /u);
  });

  test('without a database, says which one it could not reach', async () => {
    const { code, stderr } = await stack.run(['reconcile'], {
      DATABASE_URL: 'postgres://me:s3cret@127.0.0.1:9/app',
    });
    expect(code).toBe(1);
    expect(stderr).toMatch(/127\.0\.0\.1:9\/app/u);
    expect(stderr).not.toContain('s3cret');
  });
});
