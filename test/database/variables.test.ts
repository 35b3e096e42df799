import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { dueRuns } from '../support/due-runs.ts';

describeDatabase('promise 13: variables do not undo people', () => {
  const database = useMigrated();

  /** A process starts with these variables; what became of those that differ. */
  const start = (variables: Readonly<Record<string, unknown>>) =>
    database().store.applyVariables(variables as never);

  const sql = (text: string) => database().query(text);

  const stored = async (name: string): Promise<unknown> => {
    const { value } = await database().one<{ value: unknown }>(
      `select coalesce(to_jsonb(s) -> $1, to_jsonb(extract(day from p.retain))) as value
      from retention.setting s, retention.policy p where p.tenant_id = '*'`,
      [name],
    );
    return value;
  };

  /** What the shipped ConfigMap used to say. */
  const SHIPPED = {
    enabled: true,
    retain: '30 days',
    loop_interval: '86400 seconds',
    batch_size: 1_000,
    default_bucket: 'dpp-results',
  };

  test.each([
    ['that started before', true],
    ['that starts for the first time', false],
  ])('a pod %s does not switch on what a person has switched off', async (_, isOld) => {
    if (isOld) await start(SHIPPED);
    await sql(`select retention.configure('{"enabled": false}')`);
    for (let restart = 0; restart < 3; restart += 1) {
      const outcomes = await start(SHIPPED);
      const said = outcomes.find(({ message }) => message.startsWith('enabled'));
      expect(await stored('enabled')).toBe(false);
      expect(said).toMatchObject({
        outcome: 'ignored',
        message: expect.stringMatching(
          /^enabled: stays false, and true \(DPP_RETENTION_ENABLED\) is not applied: .* ha[ds] /u,
        ) as string,
        remedy: `select retention.configure('{"enabled": true}');`,
      });
    }
  });

  test.each([
    ['before the first start', false],
    ['after it', true],
  ])(
    'the shipped variables do not take back a default policy that was set %s',
    async (_, isOld) => {
      await database().insertRuns({ count: 900, completedAgo: '40 days' });
      if (isOld) await start(SHIPPED);
      await sql(`select retention.set_policy('*', '90 days')`);
      const said = await start(SHIPPED);
      expect(await stored('retain')).toBe(90);
      expect(said.filter(({ message }) => message.startsWith('retain'))).toMatchObject([
        { outcome: 'ignored', remedy: `retention policy set '*' 30d` },
      ]);
      expect(await dueRuns(database(), {})).toEqual([]);
    },
  );

  test.each([
    ['configure', `select retention.configure('{"batch_size": 500}')`],
    ['an update of the table', 'update retention.setting set batch_size = 500'],
  ])('what a person has set by %s stays', async (_, change) => {
    await start(SHIPPED);
    await sql(change);
    expect(await start(SHIPPED)).toMatchObject([{ outcome: 'ignored' }]);
    expect(await stored('batch_size')).toBe(500);
  });

  test.each([
    ['set_policy', `select retention.set_policy('*', '60 days')`],
    ['configure', `select retention.configure('{"retain": "60 days"}')`],
    [
      'an update of the table',
      `update retention.policy set retain = '60 days' where tenant_id = '*'`,
    ],
    [
      'a confirmation',
      `update retention.setting set policy_guard = 0;
      insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      values (gen_random_uuid(), 'acme', 'COMPLETED', now() - interval '20 days', 'b', 'k');
      select retention.set_policy('*', '10 days');
      select retention.confirm_policy('*')`,
    ],
  ])('a default policy that a person has set by %s stays', async (_, change) => {
    await sql(change);
    const set = await stored('retain');
    expect(set).not.toBe(30);
    await start(SHIPPED);
    await start(SHIPPED);
    expect(await stored('retain')).toBe(set);
  });

  test('loop_interval and the default bucket of a person stay', async () => {
    await start(SHIPPED);
    await sql(`select retention.configure('{"loop_interval": "1 hour"}')`);
    await sql(`select retention.set_default_bucket(null)`);
    expect(await start(SHIPPED)).toMatchObject([
      { outcome: 'ignored', remedy: `select retention.set_default_bucket('dpp-results');` },
      {
        outcome: 'ignored',
        remedy: `select retention.configure('{"loop_interval": "86400 seconds"}');`,
      },
    ]);
    expect(await stored('loop_interval')).toBe('01:00:00');
    expect(await database().one('select default_bucket from retention.setting')).toEqual({
      default_bucket: null,
    });
  });

  test('the remedy works, and is kept', async () => {
    await start({ batch_size: 1_000 });
    await sql(`select retention.configure('{"batch_size": 500}')`);
    const [said] = await start({ batch_size: 1_000 });
    await sql(said?.remedy ?? '');
    expect(await stored('batch_size')).toBe(1_000);
    expect(await start({ batch_size: 1_000 })).toEqual([]);
  });

  test('a first start applies what no person has set', async () => {
    const said = await start({ ...SHIPPED, batch_size: 7, loop_interval: '60 seconds' });
    expect(said.map(({ outcome, message }) => `${outcome} ${message}`)).toEqual([
      'applied batch_size: 1000 -> 7',
      'applied default_bucket: none -> dpp-results',
      'applied loop_interval: 1 day -> 60 seconds',
    ]);
    expect(await stored('batch_size')).toBe(7);
  });

  test('a variable that has changed is applied, also over what a person has set', async () => {
    await start({ batch_size: 1_000 });
    await sql(`select retention.configure('{"batch_size": 500}')`);
    expect(await start({ batch_size: 250 })).toMatchObject([{ outcome: 'applied' }]);
    expect(await stored('batch_size')).toBe(250);
  });

  test('a variable that was taken away and comes again is as before', async () => {
    await start({ batch_size: 700 });
    await start({});
    await sql(`select retention.configure('{"batch_size": 500}')`);
    await start({});
    expect(await start({ batch_size: 700 })).toMatchObject([{ outcome: 'ignored' }]);
    expect(await stored('batch_size')).toBe(500);
  });

  test('two processes with different variables come to rest', async () => {
    const seen: unknown[] = [];
    for (let restart = 0; restart < 3; restart += 1) {
      await start({ batch_size: 100, loop_interval: '60 seconds', retain: '40 days' });
      await start({ batch_size: 200, loop_interval: '90 seconds', retain: '50 days' });
      seen.push(await Promise.all(['batch_size', 'loop_interval', 'retain'].map(stored)));
    }
    expect(seen[0]).toEqual([200, '00:01:30', 50]);
    expect(new Set(seen.map((each) => JSON.stringify(each))).size).toBe(1);
    expect(await start({ batch_size: 100 })).toMatchObject([
      {
        outcome: 'ignored',
        message: expect.stringContaining('do processes with different variables run?') as string,
      },
    ]);
  });

  test('a deployment that is rolled back says what is not applied, and how to apply it', async () => {
    await start({ batch_size: 1_000 });
    await start({ batch_size: 100 });
    const [said] = await start({ batch_size: 1_000 });
    expect(said).toMatchObject({
      outcome: 'ignored',
      remedy: `select retention.configure('{"batch_size": 1000}');`,
    });
    expect(await stored('batch_size')).toBe(100);
  });

  test('many pods that start at once apply it once', async () => {
    const outcomes = await Promise.all(Array.from({ length: 4 }, () => start({ batch_size: 64 })));
    expect(outcomes.flat()).toMatchObject([{ outcome: 'applied' }]);
    expect(await stored('batch_size')).toBe(64);
  });

  test('the switch goes off by variable each time, and on again where no person has switched it off', async () => {
    await start({ enabled: true });
    await start({ enabled: false });
    expect(await stored('enabled')).toBe(false);
    await start({ enabled: true });
    expect(await stored('enabled')).toBe(true);
    await start({ enabled: false });
    expect(await stored('enabled')).toBe(false);
    // By turns, as processes with different variables would.
    expect(await start({ enabled: true })).toMatchObject([{ outcome: 'ignored' }]);
    await sql(`update retention.variable set returned_at = returned_at - interval '61 minutes'`);
    await start({ enabled: false });
    await start({ enabled: true });
    expect(await stored('enabled')).toBe(true);
    await sql(`select retention.configure('{"enabled": false}')`);
    await sql(`update retention.variable set returned_at = returned_at - interval '61 minutes'`);
    await start({ enabled: false });
    await start({ enabled: true });
    expect(await stored('enabled')).toBe(false);
  });

  test('a person who switches on again is not undone by false as before', async () => {
    await start({ enabled: false });
    await sql(`select retention.configure('{"enabled": true}')`);
    expect(await start({ enabled: false })).toMatchObject([{ outcome: 'ignored' }]);
    expect(await stored('enabled')).toBe(true);
  });

  test('a longer default policy is applied as soon as it has changed', async () => {
    await start({ retain: '30 days' });
    await start({ retain: '60 days' });
    await start({ retain: '30 days' });
    expect(await stored('retain')).toBe(60);
    // A deployment that is rolled back: a person says whether it is meant.
    expect(await database().store.listPolicies()).toMatchObject([{ pending_retain_days: 30 }]);
    await start({ retain: '90 days' });
    expect(await stored('retain')).toBe(90);
  });

  test('a shorter one that makes a single result due waits for a person', async () => {
    const { store, insertRun, query } = database();
    await start({ retain: '30 days' });
    await insertRun({ completedAgo: '10 days' });
    const [said] = await start({ retain: '7 days' });
    expect(said).toMatchObject({
      outcome: 'pending',
      message: expect.stringContaining('would make 1 result due at once') as string,
      remedy: 'retention policy confirm',
    });
    expect(await stored('retain')).toBe(30);
    expect(await dueRuns(database(), {})).toEqual([]);
    expect(await store.listPolicies()).toMatchObject([
      { pending_retain_days: 7, pending_results: 1 },
    ]);
    expect(await start({ retain: '7 days' })).toMatchObject([
      { outcome: 'pending', remedy: 'retention policy confirm' },
    ]);
    expect(await query(`select retention.confirm_policy('*') as due`)).toEqual([{ due: '1' }]);
    expect(await stored('retain')).toBe(7);
    await start({ retain: '7 days' });
    expect(await stored('retain')).toBe(7);
  });

  test('a shorter one does not take the place of what a person has asked for', async () => {
    await database().set({ policy_guard: '0' });
    await database().insertRun({ completedAgo: '25 days' });
    await start({ retain: '30 days' });
    await sql(`select retention.set_policy('*', '20 days')`);
    expect(await start({ retain: '7 days' })).toMatchObject([{ outcome: 'ignored' }]);
    expect(await database().store.listPolicies()).toMatchObject([{ pending_retain_days: 20 }]);
  });

  test('both are shown side by side, with who has set it and what to do', async () => {
    const { store } = database();
    await start(SHIPPED);
    await sql(`select retention.configure('{"enabled": false}')`);
    const shown = await store.readVariables({});
    expect(shown.map(({ name }) => name)).toEqual(Object.keys(SHIPPED).toSorted());
    expect(shown.filter(({ differs }) => differs)).toMatchObject([
      {
        name: 'enabled',
        variable: 'DPP_RETENTION_ENABLED',
        value: 'true',
        stored: 'false',
        set_by: expect.any(String) as string,
        set_at: expect.any(Date) as Date,
        remedy: expect.stringContaining(
          `select retention.configure('{"enabled": true}')`,
        ) as string,
      },
    ]);
    // Of the process that asks, what it was given.
    expect(await store.readVariables({ batch_size: 3, enabled: false })).toMatchObject([
      { name: 'batch_size', value: '3', stored: '1000', differs: true },
      {},
      { name: 'enabled', value: 'false', differs: false },
      {},
      {},
    ]);
  });

  test.each([`'{"colour": "red"}'`, `'{"enabled": null}'`, `'[]'`, 'null', `'{"batch_size": 0}'`])(
    'apply_variables(%s) is refused, and nothing is remembered of it',
    async (given) => {
      await expect(sql(`select * from retention.apply_variables(${given})`)).rejects.toMatchObject({
        code: expect.stringMatching(/^(?:22023|23514)$/u) as string,
      });
      expect(await sql('select from retention.variable')).toEqual([]);
    },
  );
});
