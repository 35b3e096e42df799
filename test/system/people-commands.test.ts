import { afterEach, expect, test } from 'vitest';
import { type CliResult, runCli } from '../support/cli.ts';
import { describeDatabase } from '../support/database.ts';
import { migrateUp } from '../support/migrated.ts';
import {
  OPERATOR,
  SECOND_OPERATOR,
  OBSERVER,
  LISTENER,
  useGuarded,
} from '../support/rights-roles.ts';
import { explainAt, history, readConfig, withStore } from '../../src/index.ts';

describeDatabase('commands for more than one person', () => {
  const database = useGuarded();

  const as = (role: string, ...parameters: readonly string[]): Promise<CliResult> =>
    runCli(parameters, {
      env: { DATABASE_URL: database().urlAs(role), LOG_LEVEL: 'WARNING' },
    });

  afterEach(() =>
    database().query(`alter table retention.setting disable trigger guard_setting;
      update retention.setting set four_eyes = false;
      alter table retention.setting enable trigger guard_setting; delete from retention.approval`),
  );

  test('a command that needs two people files the request, exits with 3, and goes when approved', async () => {
    await database().query('update retention.setting set four_eyes = true');
    const command = ['policy', 'set', '*', '20d', '--yes'] as const;
    const refused = await as(OPERATOR, ...command);
    expect(refused.code).toBe(3);
    const id = /request (\d+) is filed/u.exec(refused.stderr)?.[1] ?? '';
    expect(refused.stderr).toContain('a shorter policy needs two people');
    expect(refused.stderr).toContain(
      `Another person runs, within 24 hours: retention approval approve ${id}. Then run this command again.`,
    );
    // The same command asks once.
    expect((await as(OPERATOR, ...command)).stderr).toContain(`request ${id} is filed`);
    const own = await as(OPERATOR, 'approval', 'approve', id);
    expect({ code: own.code, stderr: own.stderr }).toEqual({
      code: 3,
      stderr: expect.stringContaining('another person approves it; nothing was changed') as string,
    });
    const listed = await as(SECOND_OPERATOR, 'approval', 'list');
    expect(listed.stdout).toContain('tenant_id *, retain_days 20');
    const approved = await as(SECOND_OPERATOR, 'approval', 'approve', id);
    expect({ code: approved.code, stdout: approved.stdout }).toEqual({
      code: 0,
      stdout: expect.stringContaining(`is approved: ${OPERATOR} runs the command again.`) as string,
    });
    expect((await as(OPERATOR, ...command)).code).toBe(0);
    const again = await as(OPERATOR, 'policy', 'set', '*', '19d', '--yes');
    expect(again.code).toBe(3);
    const document = JSON.parse(
      (await as(OBSERVER, 'approval', 'list', '--all', '--json')).stdout,
    ) as {
      approvals: readonly { state: string }[];
    };
    expect(document.approvals.map(({ state }) => state)).toEqual(['used', 'waiting']);
  });

  test('a request is withdrawn, and then it cannot be approved', async () => {
    await database().query('update retention.setting set four_eyes = true');
    const refused = await as(OPERATOR, 'guard', 'set', 'surge_guard_all', '20000');
    expect(refused.code).toBe(3);
    const id = /request (\d+) is filed/u.exec(refused.stderr)?.[1] ?? '';
    expect((await as(OPERATOR, 'approval', 'withdraw', id)).stdout).toBe(
      `Request ${id} is withdrawn.\n`,
    );
    const late = await as(SECOND_OPERATOR, 'approval', 'approve', id);
    expect(late.code).toBe(3);
    expect(late.stderr).toContain(`request ${id} was withdrawn by ${OPERATOR}`);
    expect((await as(SECOND_OPERATOR, 'approval', 'approve', '999')).code).toBe(2);
    expect((await as(SECOND_OPERATOR, 'approval', 'approve', 'x')).code).toBe(2);
  });

  test('work of operators tells the listener whose it is, and changes nothing', async () => {
    for (const command of [
      ['policy', 'set', '*', '20d', '--yes'],
      ['hold', 'release', '1'],
      ['halt', '--reason', 'x'],
      ['guard', 'set', 'four_eyes', 'off'],
      ['approval', 'approve', '1'],
      ['retry', '--all'],
    ]) {
      const { code, stderr } = await as(LISTENER, ...command);
      expect(code, stderr).toBe(1);
      expect(stderr).toMatch(/permission denied for function|RETENTION_OPERATOR_ROLE/u);
    }
    for (const command of [
      ['status'],
      ['explain', 'x'],
      ['hold', 'list'],
      ['policy', 'list'],
      ['upcoming'],
    ]) {
      expect((await as(OBSERVER, ...command)).stderr, command.join(' ')).not.toContain(
        'permission',
      );
    }
  });

  test('guards are listed and set', async () => {
    const set = await as(OPERATOR, 'guard', 'set', 'cool_off', '36 hours');
    expect({ code: set.code, stdout: set.stdout }).toEqual({
      code: 0,
      stdout: 'cool_off: none -> 1 day 12:00:00\n',
    });
    const { guards } = JSON.parse((await as(OBSERVER, 'guard', 'list', '--json')).stdout) as {
      guards: readonly { name: string; value: string }[];
    };
    expect(guards.find(({ name }) => name === 'cool_off')?.value).toBe('1 day 12:00:00');
    const wrong = await as(OPERATOR, 'guard', 'set', 'cool_off', 'soon');
    expect(wrong.code).toBe(2);
    expect(wrong.stderr).toContain('expected cool_off as a duration');
  });

  test('what a command changes is one JSON document with --json', async () => {
    const { insertRun, query } = database();
    const json = async (...parameters: readonly string[]): Promise<unknown> => {
      const { stdout, stderr } = await as(OPERATOR, ...parameters, '--json');
      if (stdout === '') throw new Error(stderr);
      return JSON.parse(stdout);
    };
    const run = await insertRun({ completedAgo: '25 days' });
    expect(await json('policy', 'set', 'acme', '20d', '--yes')).toMatchObject({
      tenant_id: 'acme',
      results: 1,
      policy: { retain_days: 20, pending_retain_days: null },
    });
    expect(await json('policy', 'unset', 'acme')).toMatchObject({
      tenant_id: 'acme',
      policy: null,
    });
    await query(`update retention.setting set policy_guard = 0;
      select retention.set_policy('acme', '20 days')`);
    expect(await json('policy', 'confirm', '--yes')).toMatchObject({
      policies: [{ tenant_id: 'acme', results: 1, policy: { retain_days: 20 } }],
    });
    const [hold] = await query<{ id: number }>(
      `select hold_id::int as id from retention.place_hold('audit', $1)`,
      [run],
    );
    expect(await json('hold', 'release', String(hold?.id))).toEqual({
      holds: [{ hold_id: hold?.id, released: true, due: null }],
    });
    expect(await json('bucket', 'set', 'b', '--checksum', 'md5', '--new')).toMatchObject({
      bucket: { bucket: 'b', habits: { checksum: { value: 'md5', by: 'hand' } } },
    });
    expect(await json('bucket', 'forget', 'b', '--all')).toMatchObject({ bucket: { habits: {} } });
    expect(await json('bucket', 'confirm', 'b')).toEqual({
      bucket: 'b',
      confirmed: true,
      reasons: [],
    });
  });

  test('restore works while everything is halted, and brings nothing back in a copy', async () => {
    const { insertRun, query } = database();
    const run = await insertRun({ clearedAgo: '1 day' });
    const restore = () =>
      runCli(['restore', run], {
        env: {
          DATABASE_URL: database().urlAs(OPERATOR),
          S3_RESULT_BUCKET: 'dpp-results',
          S3_ENDPOINT_URL: 'http://127.0.0.1:1',
          RETENTION_S3_MAX_ATTEMPTS: '1',
          LOG_LEVEL: 'WARNING',
        },
      });
    await query(`select retention.halt('incident')`);
    // It asks S3, which is not there.
    expect(await restore()).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('not restored') as string,
    });
    await query(`select retention.resume();
      update retention.identity set system_identifier = 'another'`);
    const inCopy = await restore();
    await query(
      `update retention.identity set system_identifier = (select n.system_identifier from retention._identity_now() n)`,
    );
    expect(inCopy).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/Nothing was restored: .*copy/u) as string,
    });
    expect(await database().query('select from retention.hold where released_at is null')).toEqual(
      [],
    );
  });

  test('upcoming says what goes when, as a table, as JSON and in the library', async () => {
    await database().insertRuns({ count: 4 });
    const kept = await database().insertRuns({ count: 2, completedAgo: '28 days' });
    const table = await as(OBSERVER, 'upcoming', '--days', '3');
    expect(table.code).toBe(0);
    expect(table.stdout).toContain('6 results may go in these days, by UTC; 0 are kept.');
    const document = JSON.parse((await as(OBSERVER, 'upcoming', '--json')).stdout) as Record<
      string,
      unknown
    >;
    expect(document).toMatchObject({ days: 7, tenant_id: null, results: 6 });
    const one = JSON.parse(
      (await as(OBSERVER, 'upcoming', '--tenant', 'acme', '--days', '0', '--json')).stdout,
    ) as { upcoming: unknown[] };
    expect(one.upcoming).toMatchObject([{ state: 'due', tenant_id: 'acme', results: 4 }]);
    for (const wrong of [
      ['--days', '-1'],
      ['--days', '367'],
      ['--days', ''],
      ['--tenant', ''],
    ]) {
      expect((await as(OBSERVER, 'upcoming', ...wrong)).code, wrong.join(' ')).toBe(2);
    }
    const config = readConfig({ DATABASE_URL: database().urlAs(OBSERVER) });
    await withStore({ config }, async (store) => {
      expect(await store.readUpcoming({ days: 0 })).toMatchObject([{ state: 'due', results: 4 }]);
      expect(await store.readReadable(kept)).toHaveLength(2);
    });
  });

  test('promise 14: history says who changed what, and explain --at what was true then', async () => {
    const { insertRun, one, url } = database();
    // What was emptied between tests is recorded again.
    await migrateUp(url);
    const runId = await insertRun();
    const at = (
      await one<{ at: Date }>(`select clock_timestamp() + interval '1 millisecond' as at`)
    ).at;
    expect((await as(OPERATOR, 'policy', 'set', 'acme', '90d', '--yes')).code).toBe(0);

    const told = await as(OBSERVER, 'history', '--tenant', 'acme', '--since', '1h');
    expect(told.stdout.trim().split('\n').at(-1)).toMatch(
      new RegExp(`^2\\S+Z  policy of acme: 90 days, by ${OPERATOR} \\(retention\\)$`, 'u'),
    );
    const one_ = await as(OBSERVER, 'history', '--run', runId, '--limit', '1', '--json');
    expect(JSON.parse(one_.stdout)).toMatchObject({
      has_more: true,
      history: [
        { subject: 'policy', tenant_id: 'acme', before: null, after: { retain: '90 days' } },
      ],
    });

    const then = await as(OBSERVER, 'explain', runId, '--at', at.toISOString());
    expect(then.stdout).toMatch(
      new RegExp(
        `^Run ${runId} at ${at.toISOString()}: DUE\\n  it had been due since 2.* by the default policy`,
        'u',
      ),
    );
    const json = await as(OBSERVER, 'explain', runId, '--at', at.toISOString(), '--json');
    expect(JSON.parse(json.stdout)).toMatchObject({
      at: at.toISOString(),
      runs: [{ run_id: runId, state: 'due', retain_days: 30, policy: 'the default policy' }],
    });
    for (const [parameters, sentence] of [
      [
        ['history', '--run', 'x', '--tenant', 'y'],
        'expected a tenant, a run or a setting, given: more than one of them',
      ],
      [
        ['history', '--since', '2026-02-30'],
        '--since: expected a point in time such as 2026-04-01',
      ],
      [
        ['explain', runId, '--at', '2020-01-01'],
        'nothing is known of 2020-01-01T00:00:00.000Z: changes are recorded since',
      ],
    ] as const) {
      const { code, stderr } = await as(OBSERVER, ...parameters);
      expect([code, stderr]).toEqual([2, expect.stringContaining(sentence)]);
    }
    const config = readConfig({ DATABASE_URL: database().urlAs(OBSERVER) });
    expect(await history({ config, setting: 'retain', limit: 1 })).toMatchObject([
      { subject: 'policy', tenant_id: '*' },
    ]);
    expect(await explainAt({ config, runIds: [runId], at })).toMatchObject([{ state: 'due' }]);
  });
});
