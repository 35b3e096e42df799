import { expect, test } from 'vitest';
import type { Claim } from '../../src/store/leases.ts';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';

describeDatabase('a batch that carries its results', () => {
  const database = useMigrated();

  async function flagAndClaim(): Promise<Claim & { readonly lease: string }> {
    await database().query('select retention.flag_expired()');
    const lease = crypto.randomUUID();
    const claim = await database().store.claim({ lease, leaseSeconds: 60, by: 'test' });
    if (claim === undefined) throw new Error('Nothing was visible.');
    return { ...claim, lease };
  }

  function settle(claim: Claim & { readonly lease: string }, cleared: readonly string[] | 'all') {
    const outcome = { cleared, failed: [], milliseconds: 1 };
    return database().store.settle(claim.batchId, claim.lease, outcome);
  }

  test.each([
    ['that holds the mark of an id', () => 'results/\u0001/a'],
    ['that begins with the mark of a whole one', () => '\u0002results/a'],
    ['that holds both marks', (runId: string) => `\u0002${runId}/\u0001`],
    ['that is its id and holds it again', (runId: string) => `${runId}/${runId}`],
  ])('promise 3: a key %s is claimed and cleared as it is', async (_what, keyOf) => {
    const runId = await database().insertRun();
    const key = keyOf(runId);
    await database().query('update runs set result_s3_key = $1', [key]);
    const claim = await flagAndClaim();
    expect(claim.keys).toEqual([key]);
    expect(await settle(claim, [key])).toMatchObject({ cleared: 1, stamped: 1 });
    expect(await database().countStamped()).toBe(1);
  });

  test('promise 3: once settled, it names what was cleared and nothing else', async () => {
    await database().insertRuns({ count: 3 });
    const claim = await flagAndClaim();
    const [cleared = '', ...others] = claim.keys;
    await settle(claim, [cleared]);
    const { keys } = await database().one<{ keys: string[] }>(
      `select array(select r.key from retention._results(b) r) as keys
      from retention.batch b where b.settled_at is not null`,
    );
    expect(keys).toEqual([cleared]);
    const waiting = await database().query<{ key: string }>('select key from retention.flagged');
    expect(waiting.map(({ key }) => key).toSorted()).toEqual(others.toSorted());
  });

  test('promise 3: another run on the same object is not stamped with it', async () => {
    await database().set({ check_shared_objects: 'false' });
    const due = await database().insertRun({ key: 'results/shared' });
    const live = await database().insertRun({ key: 'results/shared', completedAgo: '1 day' });
    expect(await settle(await flagAndClaim(), 'all')).toMatchObject({ cleared: 1, stamped: 1 });
    expect((await database().run(due)).result_cleared_at).not.toBeNull();
    expect((await database().run(live)).result_cleared_at).toBeNull();
  });

  test('promise 3: a run that has completed again since the claim is not stamped', async () => {
    await database().insertRun();
    const claim = await flagAndClaim();
    await database().query('update runs set completed_at = now()');
    expect(await settle(claim, 'all')).toMatchObject({ cleared: 1, stamped: 0 });
    expect(await database().countStamped()).toBe(0);
  });
});
