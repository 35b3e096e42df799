import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { until } from '../support/until.ts';

describeDatabase('retention surge', () => {
  const stack = useCliStack({ guarded: true });

  const json = (text: string): Record<string, unknown> =>
    JSON.parse(text) as Record<string, unknown>;

  /** A walk that has seen nothing due, and more late results than the guard of 20 lets through. */
  async function slip(count = 30): Promise<number> {
    await stack.database().set({ surge_guard: '20' });
    await stack.database().query('select retention.flag_expired(p_whole => true)');
    await stack.insertResults({ count });
    await stack.database().query('select retention.flag_expired(p_whole => true)');
    const { id } = await stack
      .database()
      .one<{ id: number }>('select max(surge_id)::int as id from retention.surge');
    return id;
  }

  test('lists, shows and releases: exactly what was counted is deleted', async () => {
    const id = await slip();
    const list = await stack.run(['surge', 'list', '--json']);
    expect(json(list.stdout)).toMatchObject({
      surges: [{ surge_id: id, state: 'open', results: 30 }],
    });
    expect((await stack.run(['surge', 'list'])).stdout).toContain(`retention surge show ${id}`);
    const shown = await stack.run(['surge', 'show', String(id)]);
    expect(shown.stdout).toContain(`retention surge release ${id} --expect 30`);
    expect(json((await stack.run(['surge', 'show', String(id), '--json'])).stdout)).toMatchObject({
      surge: { surge_id: id },
      groups: [{ tenant_id: 'acme', bucket: 'dpp-results', results: 30, still_due: 30 }],
      releases: [],
    });

    const wrong = await stack.run(['surge', 'release', String(id), '--expect', '29']);
    expect([wrong.code, wrong.stderr]).toEqual([
      3,
      expect.stringContaining(
        `surge ${id} has 30 results, and 29 were expected; nothing was released`,
      ),
    ]);
    const none = await stack.run(['surge', 'release', String(id), '--json']);
    expect([none.code, json(none.stdout)]).toMatchObject([3, { error: { code: 'REFUSED' } }]);

    const released = await stack.run(['surge', 'release', String(id), '--expect', '30', '--json']);
    expect([released.code, json(released.stdout)]).toEqual([
      0,
      { surge_id: id, tenant_id: null, released: 30 },
    ]);
    expect((await stack.run(['reconcile'])).code).toBe(0);
    expect(await stack.countCleared()).toBe(30);
    expect((await stack.run(['surge', 'list'])).stdout).toContain('Nothing is set aside.');
  });

  test.each([
    [['surge', 'show', 'x'], 'expected the number of a surge; given "x"'],
    [['surge', 'show', '4711'], 'there is no surge 4711'],
    [['surge', 'release', '4711', '--expect', '1'], 'there is no surge 4711'],
    [['surge', 'release', '1', '--expect', '-1'], 'expected a whole number above zero; given "-1"'],
    [['reconcile', '--expect', '5'], '--expect: expected with --tenant, --run or --older-than'],
  ])('%j is refused in one sentence', async (parameters, sentence) => {
    const { code, stderr } = await stack.run(parameters);
    expect([code, stderr]).toEqual([2, expect.stringContaining(sentence)]);
  });

  test('a reconcile that finds one says so with exit code 3, and one that knows of it does not', async () => {
    await stack.database().set({ surge_guard: '20' });
    await stack.database().query('select retention.flag_expired(p_whole => true)');
    await stack.insertResults({ count: 30 });
    const first = await stack.run(['reconcile', '--json']);
    expect([first.code, json(first.stdout)]).toMatchObject([
      3,
      { cleared: 0, set_aside: 30, surges: [expect.any(Number)], surges_before: [] },
    ]);
    const second = await stack.run(['reconcile', '--json']);
    expect([second.code, json(second.stdout)]).toMatchObject([
      0,
      { cleared: 0, set_aside: 0, surges: [], surges_before: [expect.any(Number)] },
    ]);
    expect((await stack.run(['reconcile'])).stdout).toContain(
      'still waits; see: retention surge show',
    );
    expect(await stack.countCleared()).toBe(0);
  });

  test('a narrowed reconcile takes late results when it says their number', async () => {
    await stack.database().set({ surge_guard: '20' });
    await stack.database().query('select retention.flag_expired(p_whole => true)');
    await stack.insertResults({ count: 30 });
    const wrong = await stack.run(['reconcile', '--tenant', 'acme', '--expect', '29']);
    expect([wrong.code, wrong.stderr]).toEqual([
      3,
      expect.stringContaining('30 results would go, and 29 were expected; nothing was changed'),
    ]);
    expect((await stack.run(['reconcile', '--tenant', 'acme', '--expect', '30'])).code).toBe(0);
    expect(await stack.countCleared()).toBe(30);
  });

  test('a listener deletes nothing of a surge, and says so once', async () => {
    await stack.database().set({ surge_guard: '20' });
    const listener = await stack.listen();
    await stack.database().query('select retention.flag_expired(p_whole => true)');
    await stack.insertResults({ count: 30 });
    await stack.insertResults({ count: 5, tenant: 'other' });
    await stack.database().query('select retention.flag_expired(p_whole => true)');
    await stack.cleared(5);
    const said = (): number => listener.stderr.split('set aside as surge').length - 1;
    await until('the listener has said it', () => said() > 0, { limitMs: 20_000 });
    await stack.database().query('select retention.flag_expired(p_whole => true)');
    await stack.insertResults({ count: 1, tenant: 'third' });
    await stack.database().query('select retention.flag_expired(p_whole => true)');
    await stack.cleared(6);
    expect(said()).toBe(1);
    expect(await stack.countCleared()).toBe(6);
    const doctor = await stack.run(['doctor']);
    expect(doctor.stdout).toContain('30 results set aside in 1 surge');
  });
});
