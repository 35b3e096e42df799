import { beforeEach, expect, test } from 'vitest';
import type { Selection } from '../../src/store/selection.ts';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';

/** What each call must not do: flag, take up again, hold, release. */
const STATE = `
select
  (select jsonb_agg(to_jsonb(b) - 'xmin' order by b.batch_id) from retention.batch b) as batches,
  (select count(*)::int from retention.hold where released_at is null) as holds,
  (select jsonb_agg(to_jsonb(p) order by p.tenant_id) from retention.policy p) as policies,
  (select count(*)::int from retention.cutoff) as cutoffs`;

describeDatabase('promise 13: scope is said', () => {
  const database = useMigrated();
  let dead: string;

  // Due and not flagged, not due, dead, and a hold: something for each function to be wrong about.
  beforeEach(async () => {
    const { insertRuns, insertRun, failRuns, query } = database();
    dead = await insertRun({ tenant: 'globex', completedAgo: '50 days' });
    await failRuns([dead], { dead: true });
    await insertRuns({ count: 3, tenant: 'acme' });
    await insertRuns({ count: 4, tenant: 'acme', completedAgo: '10 days' });
    await insertRuns({ count: 2, tenant: 'globex', completedAgo: '10 days' });
    await query(`select retention.place_hold('audit', null, 'globex')`);
  });

  const stateAround = async (call: () => Promise<unknown>) => {
    const before = await database().one(STATE);
    const result = await call().catch((error: unknown) => error);
    return { before, result, after: await database().one(STATE) };
  };

  const NEITHER = /expected .* p_all => true, given: neither/u;
  const EMPTY = /given: (?:an empty text|a list with a null or an empty text in it|none)/u;

  test.each<[call: string, says: RegExp]>([
    // Left out, or null: the variable of a script that is not set.
    ['flag_selected()', NEITHER],
    ['flag_selected(null)', NEITHER],
    [`flag_selected(p_older_than => '1 day', p_early => true)`, NEITHER],
    [`flag_selected(p_older_than => '1 day', p_early => true, p_expected => 1000)`, NEITHER],
    [`flag_selected(p_older_than => '1 day', p_early => true, p_all => null)`, NEITHER],
    [`flag_selected(p_older_than => '1 day', p_early => true, p_limit => 5)`, NEITHER],
    ['flag_selected(p_limit => 5)', NEITHER],
    [
      `flag_selected((select max(tenant_id) from public.runs where false), p_early => true, p_older_than => '1 day')`,
      NEITHER,
    ],
    ['retry()', NEITHER],
    ['retry(null, null, null, null)', NEITHER],
    ['retry(p_all => null)', NEITHER],
    // Empty.
    [`flag_selected('')`, EMPTY],
    [`flag_selected('  ')`, EMPTY],
    [`flag_selected('', p_all => true)`, EMPTY],
    [`flag_selected('', p_early => true, p_older_than => '1 day', p_expected => 1000)`, EMPTY],
    [`flag_selected(p_run_ids => '{""}')`, EMPTY],
    [`flag_selected(p_run_ids => '{null}')`, EMPTY],
    [`flag_selected('acme', '{null}')`, EMPTY],
    [`retry(p_tenant_id => '')`, EMPTY],
    [`retry(p_bucket => '')`, EMPTY],
    [`retry(p_code => ' ')`, EMPTY],
    [`retry(p_run_ids => '{null}')`, EMPTY],
    [`retry(p_run_ids => '{""}')`, EMPTY],
    [`retry(p_tenant_id => E'\\n', p_all => true)`, EMPTY],
    [`list_due('')`, EMPTY],
    [`list_due(p_run_ids => '{""}')`, EMPTY],
    [`count_due('')`, EMPTY],
    [`count_due(p_run_ids => array[null]::text[])`, EMPTY],
    [`unsettled(p_tenant_id => '')`, EMPTY],
    [`unsettled(p_run_ids => '{""}')`, EMPTY],
    [`place_hold('audit', null, '')`, EMPTY],
    [`place_hold('audit', '')`, EMPTY],
    [`place_holds('audit', '{}', '{}')`, EMPTY],
    [`place_holds('audit', null, null)`, EMPTY],
    [`place_holds('audit', '{""}')`, EMPTY],
    [`unstamp('')`, EMPTY],
    [`preview_policy('', '1 day')`, EMPTY],
    [`find_tenant('')`, EMPTY],
    [`set_policy('', '1 day')`, /a policy needs a tenant id/u],
    [`set_policy(null, '1 day')`, /a policy needs a tenant id/u],
    [`confirm_policy('')`, EMPTY],
    [`unset_policy('')`, EMPTY],
    [`unset_policy(null)`, /has no policy/u],
    [`release_hold(null)`, /there is no hold/u],
    [`set_default_bucket('')`, /a bucket has a name/u],
    [`configure('{"enabled": null}')`, /configure needs a value for enabled, given: null/u],
    [`configure('{"retain": ""}')`, /configure needs a value for retain/u],
    [`configure(null)`, /configure takes an object/u],
    [`configure('[]')`, /configure takes an object/u],
    // Both.
    [`flag_selected('acme', p_all => true)`, /given: both/u],
    [`flag_selected(p_run_ids => '{}', p_all => true)`, /given: both/u],
    [`retry(p_bucket => 'dpp-results', p_all => true)`, /given: both/u],
  ])('retention.%s is refused in one message, and changes nothing', async (call, says) => {
    const { before, result, after } = await stateAround(() =>
      database().query(`select * from retention.${call}`),
    );
    expect(result).toMatchObject({ message: expect.stringMatching(says) as string });
    expect(after).toEqual(before);
  });

  test.each([
    [`(flag_selected(p_run_ids => '{}')).selected`, 0],
    [`(flag_selected('acme', '{}')).selected`, 0],
    [`(flag_selected(p_run_ids => '{}', p_older_than => '1 day', p_early => true)).selected`, 0],
    [`(flag_selected('acme', p_limit => 0)).selected`, 0],
    [`retry(p_run_ids => '{}')`, 0],
    [`retry('{}', 'globex')`, 0],
  ])('retention.%s selects nothing', async (call, count) => {
    const { query } = database();
    const [row] = await query<{ n: string }>(
      `select ${call.replace(/^(\(?)/u, '$1retention.')}::int as n`,
    );
    expect(row).toEqual({ n: count });
    expect(await query('select from retention.batch')).toHaveLength(1);
  });

  test.each([
    ['list_due', "p_run_ids => '{}'"],
    ['count_due', "p_run_ids => '{}'"],
    ['unsettled', "p_run_ids => '{}'"],
    ['unsettled', "p_batch_ids => '{}'"],
    ['unsettled', "p_tenant_id => 'nobody'"],
    ['release_holds', "'{}'"],
    ['release_holds', 'null'],
    ['claim', `gen_random_uuid(), '1 minute', p_batch_ids => '{}'`],
    ['claim', `gen_random_uuid(), '1 minute', p_buckets => '{}'`],
    ['claim', `gen_random_uuid(), '1 minute', p_buckets => '{""}'`],
    ['preview_policy', `null, '1 day'`],
    ['known_buckets', `''`],
    ['stamp_gone', `'dpp-results', '{}', '{}'`],
  ])('retention.%s(%s) is not everything', async (name, parameters) => {
    const { before, result, after } = await stateAround(() =>
      database().query(`select * from retention.${name}(${parameters})`),
    );
    expect(result).toEqual(name === 'stamp_gone' ? [{ stamp_gone: '0' }] : []);
    expect(after).toEqual(before);
  });

  test('an empty list says that it selects nothing', async () => {
    const session = await database().connect();
    const notices: (string | undefined)[] = [];
    session.on('notice', ({ message }) => notices.push(message));
    await session.query(`select * from retention.flag_selected(p_run_ids => '{}')`);
    await session.query(`select * from retention.release_holds('{}')`);
    await session.end();
    expect(notices[0]).toBe('p_run_ids is an empty list: no run is selected');
    expect(notices.at(-1)).toBe('p_hold_ids names none: no hold is released');
  });

  test('everything is meant where it is said', async () => {
    const { store } = database();
    expect(await store.flagSelected({ all: true })).toMatchObject({ selected: 3 });
    expect(await store.retry({ all: true })).toBe(1);
  });

  test.each([undefined, null, ''])(
    'the store takes %j for nothing that was said',
    async (tenantId) => {
      const { store } = database();
      const selection = { tenantId } as unknown as Selection;
      await expect(store.flagSelected(selection)).rejects.toThrow('expected');
      await expect(store.retry(selection as never)).rejects.toThrow('expected');
    },
  );
});

describeDatabase('promise 13: an early deletion is confirmed with its number', () => {
  const database = useMigrated();
  const EARLY = { tenantId: 'acme', olderThanSeconds: 86_400, early: true } as const;

  beforeEach(async () => {
    await database().insertRuns({ count: 2, tenant: 'acme' });
    await database().insertRuns({ count: 5, tenant: 'acme', completedAgo: '10 days' });
  });

  const untouched = async () => {
    expect(await database().query('select from retention.batch')).toEqual([]);
    expect(await database().query('select from retention.cutoff')).toEqual([]);
    expect(await database().query('select from retention.selection')).toEqual([]);
  };

  test.each([
    ['none', null],
    ['fewer', 4],
    ['0', 0],
  ])('with %s expected it is refused, and nothing is changed', async (_, expected) => {
    await expect(
      database().query(
        `select * from retention.flag_selected('acme', null, '1 day', true, p_expected => $1)`,
        [expected],
      ),
    ).rejects.toMatchObject({
      code: 'RR003',
      message: expect.stringMatching(
        /^5 of the selected results are not due by their policy/u,
      ) as string,
      hint: expect.stringContaining('p_expected => 5') as string,
    });
    await untouched();
  });

  test('what has come in meanwhile is not confirmed with it', async () => {
    const { store, insertRun } = database();
    const [group] = await store.dueGroups(EARLY);
    expect(group).toMatchObject({ results: 7, early: 5 });
    await insertRun({ tenant: 'acme', completedAgo: '9 days' });
    await expect(store.flagSelected({ ...EARLY, expected: 5 })).rejects.toMatchObject({
      exitCode: 3,
      message: expect.stringMatching(/^6 of .* and 5 were expected/u) as string,
    });
    await untouched();
  });

  test('with the number it goes, also where fewer are left', async () => {
    const { store } = database();
    await database().query(
      `delete from runs where run_id = (select run_id from runs order by completed_at desc limit 1)`,
    );
    expect(await store.flagSelected({ ...EARLY, expected: 5 })).toMatchObject({ selected: 6 });
  });

  test('what is due anyway needs no number', async () => {
    expect(
      await database().store.flagSelected({ ...EARLY, olderThanSeconds: 30 * 86_400 }),
    ).toMatchObject({ selected: 2 });
  });

  test('it asks two people, with the selection and the number, before it changes anything', async () => {
    const { set, query } = database();
    await set({ four_eyes: 'true' });
    await expect(
      query(`select * from retention.flag_selected('acme', null, '1 day', true, p_expected => 5)`),
    ).rejects.toMatchObject({
      code: 'RR004',
    });
    await untouched();
  });
});
