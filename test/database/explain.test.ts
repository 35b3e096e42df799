import { expect, test } from 'vitest';
import type { Explanation } from '../../src/store/explanation.ts';
import type { Failure } from '../../src/store/leases.ts';
import { describeDatabase } from '../support/database.ts';
import { failuresOf, keyOf, useMigrated } from '../support/migrated.ts';

describeDatabase('explain', () => {
  const database = useMigrated();

  async function explain(runId: string): Promise<Explanation> {
    const [explanation] = await database().store.explain([runId]);
    if (explanation === undefined) throw new Error('It said nothing.');
    return explanation;
  }

  async function flag(): Promise<void> {
    await database().query('select retention.flag_expired(p_whole => true)');
  }

  /** Flags and claims everything, and has S3 refuse it. */
  async function refuse(failure: Partial<Failure> = {}): Promise<void> {
    await flag();
    const { batchId, lease, keys } = await database().claimNext();
    const failed = failuresOf(keys, failure);
    await database().store.settle(batchId, lease, { cleared: [], failed, milliseconds: 1 });
  }

  test('unknown: there is no such run', async () => {
    const runId = crypto.randomUUID();
    expect(await explain(runId)).toMatchObject({
      run_id: runId,
      state: 'unknown',
      because: 'there is no run with this id',
      status: null,
    });
  });

  test('unknown: not even the form of an id', async () => {
    expect(await explain('no-such-id')).toMatchObject({
      state: 'unknown',
      because: expect.stringContaining('does not even have the form of one') as string,
    });
  });

  test('cleared', async () => {
    const runId = await database().insertRun({ clearedAgo: '1 day' });
    expect(await explain(runId)).toMatchObject({
      state: 'cleared',
      because: expect.stringMatching(/found gone, and the run stamped, at 2\d{3}-/u) as string,
      cleared_at: expect.any(Date) as Date,
    });
  });

  test.each([['RUNNING'], ['FAILED']])('not completed: %s', async (status) => {
    const runId = await database().insertRun({ status });
    expect(await explain(runId)).toMatchObject({
      state: 'not completed',
      because: `its status is ${status}; only results of COMPLETED runs expire`,
    });
  });

  test('no date: completed without a date', async () => {
    const runId = await database().insertRun({ completedAgo: null });
    expect(await explain(runId)).toMatchObject({
      state: 'no date',
      because: expect.stringContaining('COMPLETED but has no completion date') as string,
      due_at: null,
    });
  });

  test.each([
    ['null', null],
    ['empty', ''],
  ])('no key: %s', async (_, key) => {
    const runId = await database().insertRun({ key });
    expect(await explain(runId)).toMatchObject({
      state: 'no key',
      because: 'the run names no object, so there is nothing to delete',
    });
  });

  test('no bucket', async () => {
    const runId = await database().insertRun({ bucket: null });
    expect(await explain(runId)).toMatchObject({
      state: 'no bucket',
      because: expect.stringContaining('no single default (S3_RESULT_BUCKET)') as string,
    });
    await database().set({ default_bucket: `'dpp-default'` });
    expect(await explain(runId)).toMatchObject({ state: 'due', bucket: 'dpp-default' });
  });

  test('held: by run', async () => {
    const runId = await database().insertRun();
    await database().store.placeHolds({ runIds: [runId], reason: 'audit 2026-04', by: 'kim' });
    expect(await explain(runId)).toMatchObject({
      state: 'held',
      because: expect.stringMatching(/^hold \d+ on its run, placed by kim: audit/u) as string,
      holds: [{ on: 'run', reason: 'audit 2026-04', placed_by: 'kim', ends: null }],
    });
  });

  test('held: by tenant, for a time, also when it is flagged', async () => {
    const runId = await database().insertRun();
    await flag();
    await database().store.placeHolds({ tenantIds: ['acme'], reason: 'law', forSeconds: 3_600 });
    expect(await explain(runId)).toMatchObject({
      state: 'held',
      because: expect.stringContaining('on its tenant') as string,
      holds: [{ on: 'tenant', ends: expect.any(String) as string }],
      flagged_at: expect.any(Date) as Date,
    });
  });

  test('coming back: the hold on its tenant was released', async () => {
    const runId = await database().insertRun();
    const [hold] = await database().store.placeHolds({ tenantIds: ['acme'], reason: 'law' });
    await database().store.releaseHolds([hold?.hold_id ?? 0]);
    const expected = {
      state: 'coming back',
      because: expect.stringMatching(
        /^a hold on its tenant has ended; its results come back over 01:00:00, this one at 2\S+Z$/u,
      ) as string,
    };
    expect(await explain(runId)).toMatchObject(expected);
    // However the id is written, it is the same place in the line.
    for (const minutes of [0, 20, 40, 61]) {
      await database().query(
        `update retention.hold set released_at = now() - $1::int * interval '1 minute'`,
        [minutes],
      );
      const [lower, upper] = await database().store.explain([runId, runId.toUpperCase()]);
      expect(upper?.state).toBe(lower?.state);
    }
    expect(await explain(runId)).toMatchObject({ state: 'due' });
  });

  test.each([
    [
      'by the default policy',
      undefined,
      /^the default policy keeps results for 30 days: due at 2/u,
    ],
    ["by its tenant's", 90, /^the policy of tenant acme keeps results for 90 days: due at 2/u],
  ])('kept: %s', async (_, days, because) => {
    const runId = await database().insertRun({ completedAgo: '10 days' });
    if (days !== undefined) await database().store.setPolicy('acme', days, false);
    expect(await explain(runId)).toMatchObject({
      state: 'kept',
      because: expect.stringMatching(because) as string,
      retain_days: days ?? 30,
      due_at: expect.any(Date) as Date,
    });
  });

  test.each([
    ['is not due, until when', { completedAgo: '1 day' }, /, which keeps it until 2\S+Z$/u],
    [
      'is still running',
      { status: 'RUNNING', completedAgo: null },
      /, which does not fall due: its status is RUNNING$/u,
    ],
  ])('shared: with a run that %s', async (_, other, because) => {
    const { insertRun } = database();
    const runId = await insertRun({ key: 'results/shared' });
    const needs = await insertRun({ key: 'results/shared', tenant: 'globex', ...other });
    await insertRun({ key: 'results/shared', bucket: 'elsewhere', completedAgo: '1 day' });
    expect(await explain(runId)).toMatchObject({
      state: 'shared',
      because: expect.stringMatching(because) as string,
      shares_with: needs,
    });
    await database().set({ check_shared_objects: 'false' });
    expect(await explain(runId)).toMatchObject({ state: 'due', shares_with: null });
  });

  test('disabled', async () => {
    const runId = await database().insertRun();
    await database().store.configure({ enabled: false });
    expect(await explain(runId)).toMatchObject({
      state: 'disabled',
      because: expect.stringMatching(
        /^it is due, but retention is disabled, since 2\S+; remedy: .*DPP_RETENTION_ENABLED=true/u,
      ) as string,
    });
  });

  test('halted: by hand, with who and why', async () => {
    const runId = await database().insertRun();
    await database().store.halt({ reason: 'a bad release', by: 'kim' });
    expect(await explain(runId)).toMatchObject({
      state: 'halted',
      because: expect.stringMatching(
        /^it is due, but halted by kim \(as \w+\): a bad release, since 2\S+; remedy: retention resume$/u,
      ) as string,
    });
    await database().store.resume();
    expect(await explain(runId)).toMatchObject({ state: 'due' });
  });

  test('due: no pass comes by itself, and why', async () => {
    const runId = await database().insertRun();
    expect(await explain(runId)).toMatchObject({
      state: 'due',
      because: expect.stringContaining(
        'no flagging pass comes by itself: there has never',
      ) as string,
    });
  });

  test('due: and when the next pass comes', async () => {
    await database().store.tick('internal');
    const runId = await database().insertRun();
    expect(await explain(runId)).toMatchObject({
      state: 'due',
      because: expect.stringMatching(
        /^it has been due since \S+ by the default policy; the flagging pass at 2\S+Z takes it$/u,
      ) as string,
    });
  });

  test('flagged, also while its bucket pauses', async () => {
    const runId = await database().insertRun();
    await flag();
    expect(await explain(runId)).toMatchObject({
      state: 'flagged',
      because: expect.stringMatching(/^it was flagged at \S+ and waits in batch \d+$/u) as string,
      next_attempt_at: expect.any(Date) as Date,
    });
    const { batchId, lease } = await database().claimNext();
    await database().store.postpone(batchId, lease, { code: 'SlowDown', message: 'Slow down' });
    expect(await explain(runId)).toMatchObject({
      state: 'flagged',
      because: expect.stringMatching(/; its bucket pauses until \S+ after SlowDown$/u) as string,
    });
  });

  test('flagged: before its policy, with a cutoff that was confirmed', async () => {
    const runId = await database().insertRun({ completedAgo: '10 days' });
    const { store } = database();
    const { batchIds } = await store.flagSelected({
      all: true,
      olderThanSeconds: 7 * 86_400,
      early: true,
      expected: 1,
    });
    expect(await explain(runId)).toMatchObject({
      state: 'flagged',
      because: expect.stringContaining(
        ', earlier than its policy says: a person confirmed a cutoff of 7 days',
      ) as string,
    });
    const lease = crypto.randomUUID();
    const claim = await store.claim({ lease, leaseSeconds: 60, by: 'test', batchIds });
    expect(claim?.keys).toEqual([keyOf(runId)]);
  });

  test('in flight', async () => {
    const runId = await database().insertRun();
    await flag();
    await database().claimNext('host:1');
    expect(await explain(runId)).toMatchObject({
      state: 'in flight',
      because: expect.stringMatching(
        /^host:1 has been working on it since \S+, until \S+ at most$/u,
      ) as string,
    });
    await database().expireLeases();
    expect(await explain(runId)).toMatchObject({
      state: 'flagged',
      next_attempt_at: expect.any(Date) as Date,
    });
  });

  test('failed', async () => {
    const runId = await database().insertRun();
    await refuse();
    expect(await explain(runId)).toMatchObject({
      state: 'failed',
      because: expect.stringMatching(
        /^S3 answered AccessDenied on attempt 1; next attempt at 2\S+$/u,
      ) as string,
      attempts: 1,
      last_code: 'AccessDenied',
      last_error: 'Access Denied',
    });
  });

  test('failed: what is not counted says so', async () => {
    const runId = await database().insertRun();
    await refuse({ code: 'InternalError', reason: 'We', outcome: 'failed' });
    expect(await explain(runId)).toMatchObject({
      state: 'failed',
      because: expect.stringMatching(
        /^S3 answered InternalError \(We\), which is not counted against it; next attempt at 2/u,
      ) as string,
    });
  });

  test('dead, and flagged once it is revived', async () => {
    const runId = await database().insertRun();
    await database().set({ max_attempts: '1' });
    await refuse();
    expect(await explain(runId)).toMatchObject({
      state: 'dead',
      because:
        'failed once, last with AccessDenied; ' +
        `fix the cause and revive with: retention retry --run ${runId}`,
      batch_id: null,
    });
    await database().store.retry({ runIds: [runId] });
    expect(await explain(runId)).toMatchObject({ state: 'flagged', attempts: 0 });
  });

  test('dead: bucket not allowed', async () => {
    const runId = await database().insertRun({ bucket: 'elsewhere' });
    await refuse({ code: 'BucketNotAllowed', reason: 'not allowed', final: true });
    expect(await explain(runId)).toMatchObject({
      state: 'dead',
      because:
        'bucket not allowed: elsewhere is not listed in S3_RESULT_BUCKET; ' +
        `add it and revive with: retention retry --run ${runId}`,
    });
  });

  test('changes nothing, and answers for several in the order asked', async () => {
    const { insertRuns, store, query } = database();
    const runIds = (await insertRuns({ count: 3 })).toReversed();
    const explained = await store.explain([...runIds, 'x']);
    expect(explained.map((run) => run.run_id)).toEqual([...runIds, 'x']);
    expect(await query('select from retention.flagged')).toEqual([]);
  });
});

describeDatabase('explain, beside a large backlog', () => {
  const database = useMigrated();

  /** 320 batches of 1,000 results, 20 of them dead. Of each batch one run is there, which completed with all others. */
  async function makeBacklog(): Promise<void> {
    await database().insertRuns({ count: 320 });
    await database().query(`
      insert into retention.bucket (bucket) values ('dpp-results');
      insert into retention.batch (
        bucket, results, oldest, newest, run_ids, keys, tenants, attempts, code, error, failed_at, dead_at
      )
      select 'dpp-results', 1000, s.oldest, s.newest, m.run_ids,
        array_fill(E'results/\\x01'::text, array[1000]), array_fill('acme'::text, array[1000]),
        d.attempts, d.code, d.error, d.at, d.at
      from (select min(completed_at) as oldest, max(completed_at) as newest from runs) s
      cross join (select run_id, row_number() over (order by completed_at) as n from runs) r
      cross join lateral (
        select array_agg(case when i = 500 then r.run_id else gen_random_uuid() end) as run_ids
        from generate_series(1, 1000) i
      ) m
      cross join lateral (
        select case when r.n > 300 then 10 else 0 end as attempts,
          case when r.n > 300 then 'AccessDenied' end as code,
          case when r.n > 300 then 'Access Denied' end as error,
          case when r.n > 300 then now() end as at
      ) d`);
  }

  test('finds the batch of one run in less than a second', async ({ annotate }) => {
    const { query, one, store, insertRun } = database();
    await makeBacklog();
    await query('analyze runs; analyze retention.batch');
    expect(await store.readStatus()).toMatchObject({ flagged: 300_000, dead: 20_000 });
    const runs = await query<{ run_id: string }>(
      'select run_id::text as run_id from runs order by completed_at',
    );
    const unflagged = await insertRun();
    // Where the date has changed since, it is looked for in every batch.
    const moved = runs[150]?.run_id ?? '';
    await query(
      `update runs set completed_at = completed_at - interval '10 days' where run_id = $1`,
      [moved],
    );
    const cases = [
      [runs[0]?.run_id ?? '', 'flagged'],
      [runs[299]?.run_id ?? '', 'flagged'],
      [runs[319]?.run_id ?? '', 'dead'],
      [moved, 'flagged'],
      [unflagged, 'due'],
    ] as const;
    const times: number[] = [];
    for (const [runId, state] of cases) {
      const startedAt = performance.now();
      expect((await store.explain([runId]))[0]).toMatchObject({ state });
      times.push(performance.now() - startedAt);
    }
    expect(await one('select key from retention.flagged where run_id = $1', [moved])).toEqual({
      key: keyOf(moved),
    });
    expect(Math.max(...times)).toBeLessThan(1_000);
    await annotate(`milliseconds: ${times.map(Math.round).join(', ')}`);
  });
});

describeDatabase('explain, where the application has its own dates', () => {
  const database = useMigrated({
    before: 'alter table runs add column keep_until timestamptz',
    columns: 'retain_until=keep_until',
  });

  test('kept: by its own date, past the policy', async () => {
    const { insertRun, query, store } = database();
    const runId = await insertRun();
    await query(`update runs set keep_until = now() + interval '5 days'`);
    expect(await store.explain([runId])).toMatchObject([
      {
        state: 'kept',
        because: expect.stringMatching(/^its own retain-until date keeps it until 2/u) as string,
      },
    ]);
    await query(`update runs set keep_until = now() - interval '1 second'`);
    expect(await store.explain([runId])).toMatchObject([{ state: 'due' }]);
  });
});
