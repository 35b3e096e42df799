import { expect, test } from 'vitest';
import type { ExplanationThen } from '../../src/store/history.ts';
import { withBrokenRows } from '../support/broken-rows.ts';
import { describeDatabase } from '../support/database.ts';
import { keyOf, useMigrated } from '../support/migrated.ts';
import { runCampaign } from '../support/then-campaign.ts';

/** Other campaigns, and longer ones: for a long look by hand. */
const SEED = Number(process.env['RETENTION_SEED'] ?? 6);
const STEPS = Number(process.env['RETENTION_STEPS'] ?? 110);

describeDatabase('promise 14: what was true then', () => {
  const database = useMigrated();

  const now = async (): Promise<string> =>
    (await database().one<{ at: string }>('select clock_timestamp()::text as at')).at;

  async function then(runId: string, at: string): Promise<ExplanationThen> {
    const [explanation] = await database().store.explainAt([runId], at);
    if (explanation === undefined) throw new Error('It said nothing.');
    return explanation;
  }

  test('is the same as the history that a campaign of its own keeps', async () => {
    const asked = await runCampaign(database(), { seed: SEED, steps: STEPS, moments: 9 });
    const told = await database().query<{ state: string; days: number; because: string }>(
      `select e.state, extract(epoch from e.retain)::int / 86400 as days, e.because
      from unnest($1::text[], $2::bigint[]) with ordinality as w (run_id, at, n)
      cross join lateral retention.explain_at(w.run_id, timestamptz 'epoch' + w.at * interval '1 microsecond') e
      order by w.n`,
      [asked.map(({ runId }) => runId), asked.map(({ at }) => at)],
    );
    const wrong = told.flatMap((answer, index) => {
      const moment = asked[index];
      return answer.state === moment?.state && answer.days === moment.retainDays
        ? []
        : [{ ...moment, answer }];
    });
    expect(wrong).toEqual([]);
    expect(told).toHaveLength(STEPS * 9);
    expect(new Set(asked.map(({ state }) => state)).size).toBeGreaterThan(9);
  });

  test('says the policy with its length and who had set it, the hold, the batch and the receipt', async () => {
    const { query, insertRun, store, claimNext } = database();
    const runId = await insertRun();
    await query(`select retention.set_policy('acme', '40 days')`);
    const kept = await now();
    await query(`update retention.policy set retain = '20 days' where tenant_id = 'acme'`);
    const due = await now();
    const { hold_id: id } = await database().one<{ hold_id: number }>(
      `select hold_id::int from retention.place_hold('audit', '${runId}', p_placed_by => 'kim')`,
    );
    const held = await now();
    await query(`select retention.release_hold(${id}); select retention.unset_policy('acme');
      select retention.flag_expired()`);
    const flagged = await now();
    const { batchId, lease, keys } = await claimNext('listener-1');
    const inFlight = await now();
    await store.settle(batchId, lease, { cleared: keys, failed: [], milliseconds: 1 });
    const cleared = await now();

    expect(await then(runId, kept)).toMatchObject({
      state: 'kept',
      because: expect.stringMatching(
        /^the policy of tenant acme kept results for 40 days, set by postgres at 2\S+Z: due at 2\S+Z$/u,
      ) as string,
      retain_days: 40,
      policy: 'the policy of tenant acme',
      policy_set_by: 'postgres',
      tenant_id: 'acme',
    });
    expect(await then(runId, due)).toMatchObject({
      state: 'due',
      because: expect.stringMatching(
        /^it had been due since 2\S+Z by the policy of tenant acme, 20 days, set by postgres at/u,
      ) as string,
      retain_days: 20,
      not_known: [
        expect.stringContaining('earlier values of its row'),
        expect.stringContaining('whether a keeper needed its object'),
      ],
    });
    expect(await then(runId, held)).toMatchObject({
      state: 'held',
      because: `hold ${id} on its run, placed by kim: audit`,
      holds: [{ hold_id: id, on: 'run', ends: null }],
    });
    expect(await then(runId, flagged)).toMatchObject({
      state: 'flagged',
      because: expect.stringContaining(`waited in batch ${batchId}`) as string,
      batch_id: batchId,
      policy: 'the default policy',
      policy_set_by: expect.stringMatching(/^postgres/u) as string,
    });
    expect(await then(runId, inFlight)).toMatchObject({
      state: 'in flight',
      because: expect.stringContaining('listener-1 worked on it from') as string,
    });
    expect(await then(runId, cleared)).toMatchObject({
      state: 'cleared',
      receipt: `batch-${batchId}`,
      because: expect.stringContaining(
        `object ${keyOf(runId)} in bucket dpp-results deleted, by its policy of 30 days`,
      ) as string,
      holds: null,
    });
    // The same where the row has changed or gone since, as far as receipts know.
    await query(
      `update runs set result_cleared_at = null, completed_at = now() where run_id = '${runId}'`,
    );
    expect(await then(runId, cleared)).toMatchObject({ state: 'cleared', key: keyOf(runId) });
    expect(await then(runId, await now())).toMatchObject({ state: 'kept' });
    await query(`delete from runs where run_id = '${runId}'`);
    expect(await then(runId, cleared)).toMatchObject({ state: 'cleared', tenant_id: 'acme' });
    expect(await then(runId, flagged)).toMatchObject({ state: 'flagged' });
    expect(await then(runId, due)).toMatchObject({
      state: 'unknown',
      because: expect.stringContaining(
        `its row is not there any more; the receipt nearest to then is batch-${batchId}`,
      ) as string,
    });
  });

  test('says a stamp without a receipt, a date of its own, a run that shares its object, and what is no result', async () => {
    const { query, insertRun } = database();
    const stamped = await insertRun();
    const dated = await insertRun({ completedAgo: '10 days' });
    const [one, other] = [
      await insertRun({ key: 'shared' }),
      await insertRun({ key: 'shared', completedAgo: '2 days' }),
    ];
    const before = await now();
    await query(
      `update runs set result_cleared_at = clock_timestamp() where run_id = '${stamped}'`,
    );
    await query(`select retention.set_policy('acme', '1 day')`);
    const after = await now();
    expect((await then(stamped, before)).state).toBe('due');
    expect(await then(stamped, after)).toMatchObject({
      state: 'stamped',
      because: expect.stringMatching(/^it was stamped at 2\S+, and no receipt says/u) as string,
    });
    expect((await then(dated, before)).state).toBe('kept');
    expect((await then(dated, after)).state).toBe('due');
    expect(await then(one, before)).toMatchObject({
      state: 'shared',
      because: `it shared its object with run ${other}, which was not due`,
    });
    expect((await then(one, after)).state).toBe('due');
    for (const [run, state] of [
      [{ status: 'FAILED' }, 'not completed'],
      [{ completedAgo: null }, 'no date'],
      [{ completedAgo: '-1 hour' }, 'not completed'],
      [{ key: null }, 'no key'],
      [{ bucket: null }, 'no bucket'],
    ] as const) {
      expect((await then(await insertRun(run), await now())).state).toBe(state);
    }
    const now_ = await insertRun({ completedAgo: '12 hours' });
    const [today] = await database().store.explain([now_]);
    expect(await then(now_, await now())).toMatchObject({
      state: today?.state,
      due_at: today?.due_at,
    });
  });

  test('is not said of a time before it was recorded or to come, of an unknown run, or of a row that cannot be read', async () => {
    const { insertRun, store } = database();
    const runId = await insertRun();
    await expect(store.explainAt([runId], '2020-01-01T00:00:00Z')).rejects.toMatchObject({
      sqlState: '22023',
      message: expect.stringMatching(
        /nothing is known of 2020-01-01T00:00:00.000Z: changes are recorded since 2\S+Z/u,
      ) as string,
    });
    await expect(store.explainAt([runId], '2100-01-01T00:00:00Z')).rejects.toMatchObject({
      sqlState: '22023',
      message: expect.stringContaining(
        'expected a time that has passed, given: 2100-01-01T00:00:00.000Z',
      ) as string,
    });
    expect(await then(crypto.randomUUID(), await now())).toMatchObject({
      state: 'unknown',
      because: 'there is no run with this id, and no receipt names it',
    });
    expect(await then('no-such-id', await now())).toMatchObject({
      state: 'unknown',
      because: expect.stringContaining('does not even have the form of one') as string,
    });
    const { breakRun } = await withBrokenRows(database());
    const beside = await insertRun({ key: keyOf(runId), completedAgo: '1 day' });
    await breakRun(beside, '22008');
    expect(await then(runId, await now())).toMatchObject({
      state: 'unreadable',
      because: expect.stringContaining('this row is broken (SQLSTATE 22008)') as string,
    });
    await database().query('select retention._make_views()');
  });
});
