import { beforeEach, describe, expect, test, vi } from 'vitest';
import { type Selection, preview, readConfig, reconcile, verify } from '../../src/index.ts';
import { type CliResult, type Variables, runCli } from '../support/cli.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { createRecordingLogger } from '../support/recording-logger.ts';

/** Nothing answers there: what got as far as asking it would end otherwise. */
const NOWHERE = { DATABASE_URL: 'postgres://me@127.0.0.1:9/app', S3_RESULT_BUCKET: 'dpp-results' };

describe('promise 13: an option that narrows has a value', () => {
  test.each([
    [['reconcile', '--tenant', ''], '--tenant'],
    [['reconcile', '--tenant', '  ', '--dry-run'], '--tenant'],
    [['reconcile', '--run', ''], '--run'],
    [['reconcile', '--run', 'a', '--run', ''], '--run'],
    [['reconcile', '--older-than', ''], '--older-than'],
    [['reconcile', '--limit', '0'], '--limit'],
    [['reconcile', '--limit', ''], '--limit'],
    [['reconcile', '--batch-size', '0'], '--batch-size'],
    [['reconcile', '--older-than', '7d', '--expect', ''], '--expect'],
    [['reconcile', '--older-than', '7d', '--expect', '-1'], '--expect'],
    [['reconcile', '--expect', '5'], '--expect'],
    [['reconcile', '--all', '--tenant', 'acme'], '--all'],
    [['reconcile', '--all', '--run', 'a'], '--all'],
    [['reconcile', '--verify', '--bucket', ''], '--bucket'],
    [['reconcile', '--verify', '--prefix', ''], '--prefix'],
    [['retry'], '--all'],
    [['retry', '--tenant', ''], '--tenant'],
    [['retry', '--run', ''], '--run'],
    [['retry', '--bucket', ''], '--bucket'],
    [['retry', '--code', ''], '--code'],
    [['retry', '--all', '--bucket', 'dpp-results'], '--all'],
    [['hold', 'place', '--tenant', '', '--reason', 'audit'], 'empty'],
    [['hold', 'place', '--run', '', '--reason', 'audit'], 'empty'],
    [['hold', 'place', '--reason', 'audit'], '--run'],
  ])('%j is wrong usage, before anything is asked', async (parameters, named) => {
    const { code, stderr } = await runCli(parameters, { env: NOWHERE });
    expect([code, stderr]).toEqual([2, expect.stringContaining(named)]);
    expect(stderr).not.toMatch(/\n\s+at /u);
  });
});

describe('promise 13: S3_RESULT_BUCKET is required where anything is deleted', () => {
  test.each(['listen', 'reconcile', 'reconcile --verify', 'reconcile --orphans', 'restore run-1'])(
    'retention %s says what to set',
    async (command) => {
      for (const S3_RESULT_BUCKET of [undefined, '', '  ']) {
        const { code, stderr } = await runCli(command.split(' '), {
          env: { ...NOWHERE, S3_RESULT_BUCKET },
        });
        expect(code).toBe(2);
        expect(stderr).toMatch(
          /^error: 1 setting is wrong:\n {2}S3_RESULT_BUCKET: expected bucket names, comma-separated, or \* for any bucket; given nothing\. /u,
        );
      }
    },
  );

  test.each([
    's3://dpp-results',
    'dpp-results/results',
    'dpp-*',
    '*,dpp-results',
    'dpp-results, *',
    '**',
    ',',
    'dpp results',
    '"dpp-results"',
  ])('S3_RESULT_BUCKET=%s is one configuration error', async (S3_RESULT_BUCKET) => {
    const { code, stderr } = await runCli(['listen'], { env: { ...NOWHERE, S3_RESULT_BUCKET } });
    expect(code).toBe(2);
    expect(stderr).toMatch(/^error: 1 setting is wrong:\n {2}S3_RESULT_BUCKET: expected /u);
  });

  test('the library asks for it too', async () => {
    const config = readConfig({ DATABASE_URL: NOWHERE.DATABASE_URL });
    const { createReactor } = await import('../../src/index.ts');
    expect(() => createReactor({ config })).toThrow(/S3_RESULT_BUCKET: expected/u);
    await expect(reconcile({ config })).rejects.toThrow(/S3_RESULT_BUCKET: expected/u);
    await expect(verify({ config })).rejects.toThrow(/S3_RESULT_BUCKET: expected/u);
    await expect(verify({ config, dryRun: true })).rejects.toThrow(/S3_RESULT_BUCKET: expected/u);
  });
});

describe('promise 13: a selection in the library says what it means', () => {
  const config = readConfig(NOWHERE);

  test.each<unknown>([
    undefined,
    null,
    {},
    '',
    { tenantId: undefined },
    { tenantId: null },
    { tenantId: '' },
    { tenantId: ' ' },
    { runIds: undefined },
    { runIds: null },
    { runIds: [undefined] },
    { runIds: ['a', ''] },
    { tenantId: 'acme', runIds: undefined },
    { runIds: ['a'], tenantId: undefined },
    { all: undefined },
    { all: false },
    { all: true, tenantId: 'acme' },
    { all: true, limit: undefined },
    { limit: 5 },
    { olderThanSeconds: 86_400, early: true },
    { olderThanSeconds: undefined, early: true, all: true },
    { tenant: 'acme', all: true },
    { tenant_id: 'acme' },
  ])('%j is an error, and nothing is asked', async (given) => {
    const selection = given as Selection;
    const wrong = { name: 'UsageError', message: expect.stringMatching(/^selection/u) as string };
    await expect(reconcile({ config, selection })).rejects.toMatchObject(wrong);
    await expect(preview({ config, selection })).rejects.toMatchObject(wrong);
  });

  test.each([{ buckets: undefined }, { buckets: [''] }, { prefix: undefined }, { prefix: '' }])(
    'verify(%j) is an error, and nothing is asked',
    async (given) => {
      await expect(verify({ config, ...given } as never)).rejects.toMatchObject({
        name: 'UsageError',
        message: expect.stringMatching(/^verify\.\w+/u) as string,
      });
    },
  );
});

describeDatabase('promise 13: the scope of a deletion', () => {
  const stack = useCliStack();
  const retention = (...parameters: string[]): Promise<CliResult> => stack.run(parameters);
  const early = (...more: string[]) => retention('reconcile', '--older-than', '7d', ...more);
  const config = (more: Variables = {}) => readConfig(stack.env(more));

  // The library's credentials are those of this process.
  beforeEach(() => {
    for (const [name, value] of Object.entries(stack.env())) {
      if (name.startsWith('AWS_')) vi.stubEnv(name, value);
    }
    return () => vi.unstubAllEnvs();
  });

  const nothingDone = async () => {
    expect(await stack.countCleared()).toBe(0);
    expect(await stack.database().query('select from retention.flagged')).toEqual([]);
  };

  test('an early deletion of all tenants needs --all and its number', async () => {
    await stack.insertResults({ count: 3, completedAgo: '10 days' });
    for (const more of [[], ['--yes'], ['--expect', '3'], ['--limit', '3', '--yes']]) {
      const { code, stderr } = await early(...more);
      expect(code).toBe(3);
      expect(stderr).toMatch(/3 results older than 7d are not due .*\n.*--all --expect 3/u);
    }
    for (const more of [
      ['--all'],
      ['--all', '--expect', '2'],
      ['--all', '--expect', '0', '--yes'],
    ]) {
      const { code, stderr } = await early(...more);
      expect([code, stderr]).toEqual([3, expect.stringContaining('--expect 3')]);
    }
    await nothingDone();
    const dry = await early('--dry-run');
    expect(dry.stdout).toContain(
      '3 results of them are not due by the policy; to delete them early: --expect 3',
    );
    expect(JSON.parse((await early('--dry-run', '--json')).stdout)).toMatchObject({
      due: 3,
      early: 3,
    });
    expect((await early('--all', '--expect', '3')).code).toBe(0);
    expect(await stack.countCleared()).toBe(3);
  });

  test('a yes is enough for 1,000 results of a tenant, and not for 1,001', async () => {
    await stack.database().insertRuns({ count: 1_001, completedAgo: '10 days' });
    const refused = await early('--tenant', 'acme', '--yes');
    expect([refused.code, refused.stderr]).toEqual([
      3,
      expect.stringMatching(/1,001 results .*: for so many, --yes is not enough/u),
    ]);
    await nothingDone();
  });

  test('more than was expected in the library is refused, and nothing is done', async () => {
    await stack.insertResults({ count: 3, completedAgo: '10 days' });
    const selection = { tenantId: 'acme', olderThanSeconds: 7 * 86_400, early: true } as const;
    expect(await preview({ config: config(), selection })).toMatchObject([
      { results: 3, early: 3 },
    ]);
    for (const expected of [{}, { expected: 2 }]) {
      await expect(
        reconcile({ config: config(), selection: { ...selection, ...expected } }),
      ).rejects.toMatchObject({ name: 'RefusedError', exitCode: 3 });
    }
    await nothingDone();
    expect(
      await reconcile({ config: config(), selection: { ...selection, expected: 3 } }),
    ).toMatchObject({ cleared: 3 });
  });

  test('an empty list of runs selects nothing in the library, and says so', async () => {
    await stack.insertResults({ count: 3 });
    const logger = createRecordingLogger();
    expect(await reconcile({ config: config(), logger, selection: { runIds: [] } })).toMatchObject({
      flagged: 0,
      cleared: 0,
      waiting: [],
    });
    expect(logger.lines.map(({ message }) => message)).toContain(
      'The list of runs is empty: nothing is selected',
    );
    await nothingDone();
    expect(await reconcile({ config: config(), selection: { all: true } })).toMatchObject({
      cleared: 3,
    });
  });
});

describeDatabase('promise 13: the allow-list', () => {
  const stack = useCliStack();
  const ELSEWHERE = { S3_RESULT_BUCKET: 'dpp-results' };

  test('binds reconcile; what waits elsewhere is shown, is no failure, and goes on when it is allowed', async () => {
    await stack.insertResults({ count: 2 });
    await stack.insertResults({ count: 3, bucket: 'customers' });
    const first = await stack.run(['reconcile', '--json'], ELSEWHERE);
    expect(JSON.parse(first.stdout)).toMatchObject({
      cleared: 2,
      failed: 0,
      dead: 0,
      waiting: [{ bucket: 'customers', results: 3 }],
    });
    const status = await stack.run(['status'], ELSEWHERE);
    expect(status.stdout).toMatch(
      /bucket customers \(3 results\): bucket not allowed: S3_RESULT_BUCKET/u,
    );
    const asJson = JSON.parse((await stack.run(['status', '--json'], ELSEWHERE)).stdout) as object;
    expect(asJson).toMatchObject({
      not_allowed: [{ what: 'bucket customers', results: 3 }],
      failed: 0,
    });
    const doctor = await stack.run(['doctor'], ELSEWHERE);
    expect(doctor.stdout).toMatch(
      /bucket customers.*not among the allowed buckets: 3 flagged results wait in it/u,
    );
    // Nothing to revive: it was never refused.
    const second = await stack.run(['reconcile', '--json'], { S3_RESULT_BUCKET: 'customers' });
    expect(JSON.parse(second.stdout)).toMatchObject({ cleared: 3 });
    expect(await stack.countCleared()).toBe(5);
  });

  test('binds verify: no row of another bucket is stamped', async () => {
    await stack.database().insertRuns({ count: 2 });
    await stack.database().insertRuns({ count: 3, bucket: 'customers' });
    stack.s3().createBucket('customers');
    await stack.database().query(`insert into retention.bucket (bucket) values ('customers')`);
    const { stdout } = await stack.run(
      ['reconcile', '--verify', '--bucket', 'customers', '--bucket', 'dpp-results', '--json'],
      ELSEWHERE,
    );
    expect(JSON.parse(stdout)).toMatchObject({
      drift: { stamped: 2 },
      buckets_passed_by: ['customers'],
    });
    expect(await stack.database().countStamped()).toBe(2);
  });

  test('binds orphans: no object of another bucket is deleted', async () => {
    stack.s3().createBucket('customers');
    stack.s3().putObject('customers', 'precious');
    await stack.database().query(`insert into retention.bucket (bucket) values ('customers')`);
    const { stdout } = await stack.run(['reconcile', '--orphans', '--json'], ELSEWHERE);
    expect(JSON.parse(stdout)).toMatchObject({ buckets_passed_by: ['customers'] });
    expect(stack.s3().hasObject('customers', 'precious')).toBe(true);
  });

  test('binds restore: no run of another bucket is restored, and no hold is left', async () => {
    const runId = await stack.database().insertRun({ bucket: 'customers', clearedAgo: '1 day' });
    const { code, stdout } = await stack.run(['restore', runId], ELSEWHERE);
    expect(code).toBe(1);
    expect(stdout).toMatch(
      /not restored: S3_RESULT_BUCKET, as it is set here, does not list its bucket customers/u,
    );
    expect(await stack.database().query('select from retention.hold')).toEqual([]);
    expect(await stack.database().countStamped()).toBe(1);
  });

  test('binds a listener, and a name in other letters is another bucket', async () => {
    await stack.insertResults({ count: 2 });
    await stack.insertResults({ count: 1, bucket: 'DPP-Results' });
    await stack.insertResults({ count: 1, bucket: 'dpp-results-2' });
    await stack.listen({ S3_RESULT_BUCKET: ' dpp-results , dpp-results,' });
    await stack.cleared(2);
    expect(await stack.countCleared()).toBe(2);
    expect(await stack.database().one('select count(*)::int as n from retention.flagged')).toEqual({
      n: 2,
    });
  });

  test('* says any bucket, and makes none the default one', async () => {
    await stack.insertResults({ count: 1 });
    await stack.insertResults({ count: 1, bucket: 'customers' });
    await stack.database().insertRun({ bucket: null });
    await stack.listen({ S3_RESULT_BUCKET: '*' });
    await stack.cleared(2);
    expect(await stack.database().one('select default_bucket from retention.setting')).toEqual({
      default_bucket: null,
    });
  });
});

describeDatabase('promise 13: variables and the database, side by side', () => {
  const stack = useCliStack();

  test('a pod that starts again leaves retention off, says so, and status and doctor show both', async () => {
    await stack.insertResults({ count: 2 });
    await stack.database().store.applyVariables({ enabled: true });
    await stack.database().query(`select retention.configure('{"enabled": false}')`);
    const listener = await stack.listen({ DPP_RETENTION_ENABLED: 'true' });
    expect(listener.stderr).toMatch(
      /A variable is not applied: enabled: stays false, and true \(DPP_RETENTION_ENABLED\)/u,
    );
    const variables = { DPP_RETENTION_ENABLED: 'true' };
    expect((await stack.run(['status'], variables)).stdout).toMatch(
      /DPP_RETENTION_ENABLED=true; the database has enabled = false, set by .*; remedy: .*retention\.configure/u,
    );
    const json = JSON.parse((await stack.run(['status', '--json'], variables)).stdout) as object;
    expect(json).toMatchObject({
      variables: [{ name: 'enabled', differs: true, stored: 'false' }],
    });
    const doctor = JSON.parse((await stack.run(['doctor', '--json'], variables)).stdout) as {
      readonly checks: readonly unknown[];
    };
    expect(doctor.checks).toContainEqual(
      expect.objectContaining({
        name: 'setting enabled',
        state: 'warning',
        found: expect.stringMatching(
          /^DPP_RETENTION_ENABLED says true, and the database has false, set by /u,
        ) as string,
      }),
    );
    expect(await stack.countCleared()).toBe(0);
    // Also where this process has no variable: what the last start brought.
    expect((await stack.run(['status'])).stdout).toContain(
      'DPP_RETENTION_ENABLED=true; the database',
    );
  });

  test('the shipped variables after policy set take nothing back', async () => {
    await stack.insertResults({ count: 5, completedAgo: '40 days' });
    expect((await stack.run(['policy', 'set', '*', '90d'])).code).toBe(0);
    await stack.listen({ DPP_RETENTION_DAYS: '30' });
    await stack.database().store.flagExpired({ by: 'test', whole: true });
    expect(await stack.database().query('select from retention.flagged')).toEqual([]);
    expect((await stack.database().store.listPolicies())[0]).toMatchObject({ retain_days: 90 });
  });
});
