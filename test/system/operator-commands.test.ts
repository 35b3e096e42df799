import { expect, test } from 'vitest';
import { type CliResult, type RunningCli, runCli, startCli } from '../support/cli.ts';
import { describeDatabase } from '../support/database.ts';
import { migrateUp, useMigrated } from '../support/migrated.ts';
import { sealRuns } from '../support/proof.ts';
import { psql } from '../support/psql.ts';
import { until } from '../support/until.ts';

const MORE_THAN_THE_GUARD = 1_001;

describeDatabase('the commands of an operator', () => {
  const database = useMigrated();

  function environment() {
    return { DATABASE_URL: database().url, LOG_LEVEL: 'WARNING' };
  }

  function retention(...parameters: readonly string[]): Promise<CliResult> {
    return runCli(parameters, { env: environment() });
  }

  function start(...parameters: readonly string[]): RunningCli {
    return startCli(parameters, { env: environment() });
  }

  async function json(...parameters: readonly string[]): Promise<unknown> {
    const { stdout, stderr, code } = await retention(...parameters, '--json');
    expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
    return JSON.parse(stdout);
  }

  test.each([
    ['policy', 'list'],
    ['policy', 'set'],
    ['policy', 'unset'],
    ['policy', 'confirm'],
    ['hold', 'place'],
    ['hold', 'release'],
    ['hold', 'list'],
    ['bucket', 'list'],
    ['bucket', 'set'],
    ['bucket', 'forget'],
    ['bucket', 'confirm'],
    ['explain'],
    ['retry'],
    ['watch'],
    ['status'],
    ['proof', 'verify'],
    ['proof', 'head'],
    ['proof', 'export'],
  ])('retention %s %s --help has an example', async (...command) => {
    const { stdout, code } = await runCli([...command, '--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/Examples?:\n {2}\$ retention /u);
  });

  test('a bucket is set by hand, shown, and forgotten', async () => {
    await database().insertRuns({ count: 1 });
    await database().store.flagExpired({ by: 'test' });
    const set = await retention(
      'bucket',
      'set',
      'dpp-results',
      '--keys-per-request',
      '100',
      '--single',
    );
    expect(set).toMatchObject({
      code: 0,
      stderr: '',
      stdout:
        'Bucket dpp-results: 100 keys a request (set by hand), one key a request, by DeleteObject (set by hand).\n',
    });
    const ceilings = ['--max-per-second', '2000', '--max-in-flight', '4'];
    expect(await json('bucket', 'set', 'dpp-results', ...ceilings)).toMatchObject({
      bucket: { max_per_second: 2_000, max_in_flight: 4 },
    });
    const { stdout } = await retention('bucket', 'list');
    expect(stdout).toContain('100 keys a request (set by hand)');
    expect(stdout).toContain('at most 2,000 results a second, at most 4 batches at once');
    expect(await json('bucket', 'list')).toMatchObject({
      buckets: [
        { bucket: 'dpp-results', habits: { keys_per_request: { value: 100, by: 'hand' } } },
      ],
    });
    expect(
      (await retention('bucket', 'set', 'dpp-results', '--max-in-flight', 'none')).stdout,
    ).toMatch(/at most 2,000 results a second\.\n$/u);
    const forgotten = await retention('bucket', 'forget', 'dpp-results', '--all');
    expect(forgotten.stdout).toBe('Bucket dpp-results: forgotten.\n');
  });

  test.each([
    [
      ['set', 'elsewhere', '--checksum', 'md5'],
      'expected a bucket that is known, given: elsewhere',
    ],
    [['set', 'dpp-results'], 'bucket set: expected what to set; given nothing'],
    [['set', 'dpp-results', '--keys-per-request', '1001'], '--keys-per-request: expected a whole'],
    [['set', 'dpp-results', '--checksum', 'sha1'], 'Allowed choices are crc32, md5, none'],
    [['set', 'dpp-results', '--single', '--together'], 'cannot be used with option'],
    [['set', 'dpp-results', '--max-per-second', '0'], '--max-per-second: expected a whole'],
    [['forget', 'elsewhere'], 'expected a bucket that is known, given: elsewhere'],
    [['confirm', 'elsewhere'], 'expected a bucket that is known, given: elsewhere'],
  ])('retention bucket %j changes nothing and says what was expected', async (words, message) => {
    const { code, stderr } = await retention('bucket', ...words);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
    expect(await database().store.readBuckets()).toEqual([]);
  });

  test('proof prints its head, verifies with it, and exits with 1 and a name where something was changed', async () => {
    const { batchIds } = await sealRuns(database(), 2);
    const head = (await retention('proof', 'head')).stdout.trim();
    expect(head).toMatch(/^1-[0-9a-f]{64}$/u);
    expect(await json('proof', 'head')).toMatchObject({ seal: 1, digest: head.slice(2) });
    const whole = await retention('proof', 'verify', '--head', head);
    expect(whole).toMatchObject({ code: 0 });
    expect(whole.stdout).toMatch(/1 seal with 1 receipt of 2 results[^]*All of it holds\.\n$/u);
    await database().query(`set session_replication_role = replica;
      update retention.batch set keys[1] = 'results/another';
      reset session_replication_role`);
    const forged = `1-${'ab'.repeat(32)}`;
    const changed = await retention('proof', 'verify', '--head', forged, '--json');
    expect(changed.code).toBe(1);
    expect(JSON.parse(changed.stdout)).toMatchObject({
      holds: false,
      problems: [
        { kind: 'changed', message: `receipt batch-${batchIds[0]} of seal 1 was changed` },
      ],
      heads: [{ seal: 1, holds: false }],
    });
    const wrong = await retention('proof', 'verify', '--head', 'heads.txt');
    expect(wrong).toMatchObject({ code: 2, stdout: '' });
    expect(wrong.stderr).toMatch(/expected a head such as[^]*given: heads\.txt/u);
  });

  test('a bucket whose objects are missing is confirmed, and the gate opens', async () => {
    await database().insertRuns({ count: 1 });
    await database().store.flagExpired({ by: 'test' });
    const missing = ['a', 'b', 'c', 'd', 'e'];
    await database().store.noteLook('dpp-results', { place: 'AWS', looked: 5, missing });
    const resumed = await retention('resume');
    expect(resumed.stdout).toContain('retention bucket confirm dpp-results');
    const { stdout, code } = await retention('bucket', 'confirm', 'dpp-results');
    expect({ stdout, code }).toEqual({
      stdout: 'Bucket dpp-results: confirmed; results without an object are stamped.\n',
      code: 0,
    });
    expect(await database().store.readGate()).toEqual([]);
  });

  test('a shortened policy says what it makes due before it takes effect', async () => {
    const { insertRuns, store } = database();
    await insertRuns({ count: 1_200, tenant: 'acme', completedAgo: '10 days' });
    await insertRuns({ count: 7, tenant: 'globex', completedAgo: '10 days' });
    const refused = await retention('policy', 'set', '*', '1w');
    expect(refused.code).toBe(3);
    expect(refused.stdout).toContain('This makes 1,207 live results due at once:');
    expect(refused.stdout).toMatch(/^ {2}acme +1,200$/mu);
    expect(refused.stdout).toMatch(/^ {2}globex +7$/mu);
    expect(refused.stderr).toContain('Say --yes to confirm.');
    expect(await store.listPolicies()).toMatchObject([{ retain_days: 30 }]);

    const set = await retention('policy', 'set', '*', '1w', '--yes');
    expect(set).toMatchObject({ code: 0 });
    expect(set.stdout).toContain('The default policy is 7 days. 1,207 results became due by it.');
    expect(await json('policy', 'list')).toMatchObject({
      policies: [{ tenant_id: '*', retain_days: 7, confirmed_results: 1_207 }],
    });
  });

  test('a policy that makes nothing due is set without a question', async () => {
    await database().insertRun({ tenant: 'tenant_abc', completedAgo: '5 days' });
    const set = await retention('policy', 'set', 'tenant_abc', '90d');
    expect(set).toMatchObject({
      code: 0,
      stdout: 'The policy of tenant_abc is 90 days. 0 results became due by it.\n',
    });
    const { stdout } = await retention('policy', 'list');
    expect(stdout).toMatch(/^ {2}\* +30 /mu);
    expect(stdout).toMatch(/^ {2}tenant_abc +90 /mu);
  });

  test('a longer policy says how many results that were due it keeps', async () => {
    const { insertRuns } = database();
    await insertRuns({ count: 2, tenant: 'acme', completedAgo: '40 days' });
    await insertRuns({ count: 1, tenant: 'acme', completedAgo: '20 days' });
    expect((await retention('policy', 'set', 'acme', '90d')).stdout).toBe(
      'The policy of acme is 90 days. 0 results became due by it.\n2 results that were due stay by it.\n',
    );
    expect(await json('policy', 'set', 'acme', '30d', '--yes')).toMatchObject({
      results: 2,
      kept: 0,
    });
  });

  test('help of a command of a command is its own, and of none is an error', async () => {
    const place = await retention('help', 'hold', 'place');
    expect(place).toMatchObject({
      code: 0,
      stdout: (await retention('hold', 'place', '--help')).stdout,
    });
    expect(place.stdout).toContain('retention hold place --tenant');
    expect(await retention('help', 'hold', 'plaice')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("unknown command 'hold plaice'") as string,
    });
  });

  test('migrate down asks about holds only where it takes the tables with them', async () => {
    const { url, store, query, insertRun } = database();
    await insertRun({ tenant: 'acme' });
    await store.placeHolds({ tenantIds: ['acme'], reason: 'audit' });
    const steps = ['migrate', 'down', '--steps', '3'];
    await using asking = startCli(steps, { env: environment(), onTerminal: true });
    await asking.waitForLine('Migrating down loses 1 active hold', 60_000);
    // The end of the input is no yes.
    asking.type('\u0004');
    expect((await asking.ended()).code).toBe(3);
    expect((await retention('migrate', 'down', '--steps', '2')).code).toBe(0);
    expect(await query('select reason from retention.hold')).toEqual([{ reason: 'audit' }]);
    await migrateUp(url);
  });

  test('a policy for a tenant without runs is asked about, so that a typo sets nothing', async () => {
    await database().insertRun({ tenant: 'tenant_abc' });
    const asked = await retention('policy', 'set', 'tenant_typo', '90d');
    expect(asked).toMatchObject({ code: 3, stdout: '' });
    expect(asked.stderr).toContain('There is no run of tenant tenant_typo');
    expect(await database().store.listPolicies()).toHaveLength(1);
    expect(await retention('policy', 'set', 'tenant_typo', '90d', '--yes')).toMatchObject({
      code: 0,
      stdout: 'The policy of tenant_typo is 90 days. 0 results became due by it.\n',
    });
  });

  test('init finds the word that means completed, and prints what to begin with', async () => {
    await database().insertRun({ status: 'completed' });
    const env = { ...environment(), RETENTION_SCHEDULER: 'internal' };
    const { code, stdout } = await runCli(['init', '--json'], { env });
    const { ok, checks, mapping } = JSON.parse(stdout) as {
      ok: boolean;
      checks: { name: string; state: string; remedy: string | null }[];
      mapping: string;
    };
    expect([code, ok, mapping]).toEqual([0, true, 'status=status:completed']);
    expect(checks.find(({ name }) => name === 'statuses')?.state).toBe('ok');
    const secret = database().url.replace('postgres@', 'postgres:hunter2@');
    const text = await runCli(
      ['init', '--database-url', secret, '--table', 'public.runs', '--bucket', 'dpp-results'],
      { env },
    );
    expect(text.code).toBe(0);
    expect(text.stdout).not.toContain('hunter2');
    expect(text.stdout).toContain('The table can be adopted: retention migrate up');
    for (const line of [
      'RETENTION_COLUMNS=status=status:completed',
      'S3_RESULT_BUCKET=dpp-results',
      "create role retention_observer login password 'PASSWORD';",
      '"Resource": "arn:aws:s3:::dpp-results/*"',
      'npx retention reconcile --dry-run',
    ]) {
      expect(text.stdout).toContain(line);
    }
    const wrong = await runCli(['init', '--table', 'runz'], { env });
    expect([wrong.code, wrong.stderr]).toEqual([1, '']);
    expect(wrong.stdout).toContain('Tables that look like one of runs with results');
  });

  test('init asks at a terminal for what was not said, and ends with its input', async () => {
    await psql(
      database().url,
      `create table public.job (id bigint primary key, state text, finished_at timestamptz, ended_at timestamptz, bucket text, key text);
      insert into public.job values (1, 'gut', now(), now(), 'dpp-results', 'k')`,
    );
    await using asking = startCli(['init'], {
      env: { RETENTION_SCHEDULER: 'internal' },
      onTerminal: true,
    });
    const answer = async (question: string, text: string): Promise<void> => {
      await asking.waitForLine(question, 60_000);
      asking.type(`${text}\n`);
    };
    await answer('Address of the database', database().url);
    await answer('Table of the runs', 'job');
    await answer('Which word means completed', 'gut');
    await answer('Which column is completed_at', 'ended_at');
    await answer('Buckets that may be deleted from', '');
    const { code, stdout } = await asking.ended();
    expect(stdout).toContain('status=state:gut,completed_at=ended_at');
    expect(stdout).toContain('S3_RESULT_BUCKET=dpp-results');
    expect(code).toBe(0);
    await using left = startCli(['init'], { onTerminal: true });
    await left.waitForLine('Address of the database', 60_000);
    left.type('\u0004');
    expect((await left.ended()).code).toBe(2);
    await psql(database().url, 'drop table public.job');
  });

  test('a policy that waits is listed, and confirmed with who, when and how many', async () => {
    const { insertRuns, store } = database();
    await insertRuns({ count: MORE_THAN_THE_GUARD, completedAgo: '10 days' });
    await psql(database().url, `update retention.policy set retain = '3 days'`);
    const { stdout } = await retention('policy', 'list');
    expect(stdout).toMatch(
      /^Tenant \*: 3 days instead of 30 waits for a confirmation; asked for by postgres at .* 1,001 /mu,
    );
    const asked = await retention('policy', 'confirm');
    expect(asked.code).toBe(3);
    expect(asked.stderr).toContain('By now it makes 1,001 live results due at once.');
    expect(await retention('policy', 'confirm', 'tenant_abc', '--yes')).toMatchObject({ code: 2 });
    expect(await store.listPolicies()).toMatchObject([{ retain_days: 30 }]);
    expect(await retention('policy', 'confirm', '--yes')).toMatchObject({ code: 0 });
    expect(await store.listPolicies()).toMatchObject([
      { retain_days: 3, confirmed_results: MORE_THAN_THE_GUARD, confirmed_by: 'postgres' },
    ]);
    expect(await retention('policy', 'confirm')).toMatchObject({
      code: 0,
      stdout: 'No policy waits for a confirmation.\n',
    });
  });

  test('a policy is unset after the same question', async () => {
    const { insertRuns, store } = database();
    await store.setPolicy('acme', 90, false, true);
    await insertRuns({ count: 5, completedAgo: '60 days' });
    const refused = await retention('policy', 'unset', 'acme');
    expect(refused).toMatchObject({ code: 3 });
    expect(refused.stdout).toContain('This makes 5 live results due at once:');
    expect(await retention('policy', 'unset', 'acme', '--yes')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('The policy of acme is gone: the default holds.') as string,
    });
    expect(await store.listPolicies()).toHaveLength(1);
  });

  test.each([
    ['policy set acme 0d', 'the policy: expected 1 day to 99 years (36160d); given "0d"'],
    ['policy set acme 36500d', 'the policy: expected 1 day to 99 years (36160d); given "36500d"'],
    ['policy set acme 100y', 'the policy: expected a duration such as 30d'],
    ['policy set acme', "missing required argument 'duration'"],
    ['policy unset *', 'policy unset: expected a tenant; given *'],
    ['policy unset nobody', 'tenant nobody has no policy of its own to unset'],
    ['hold place --reason audit', 'expected --run or --tenant, one of the two; given neither'],
    ['hold place --run a --tenant b --reason audit', 'one of the two; given both'],
    ['hold place --run 42', "required option '--reason <text>' not specified"],
    ['hold place --run 42 --reason audit', '42 is not a run id of this application (type uuid)'],
    ['hold place --tenant nobody --reason audit', 'there is no run of tenant nobody to hold'],
    ['hold place --tenant acme --reason audit --for 0d', '--for: expected a duration above zero'],
    ['hold release 12x', 'hold release: expected the numbers of holds; given "12x"'],
    ['hold release 999999', 'there is no hold 999999'],
    ['retry --run 42', '42 is not a run id of this application (type uuid)'],
    ['explain', "missing required argument 'run_id'"],
    ['status --interval 2s', '--interval: expected together with --watch; given alone'],
    ['status --watch --interval 10ms', '--interval: expected a duration such as 30d'],
    ['status --watch --interval 0s', '--interval: expected 1s or more; given "0s"'],
  ])('retention %s is refused in one clear message', async (command, message) => {
    await database().insertRun();
    const { code, stdout, stderr } = await retention(...command.split(' '));
    expect(stderr).toContain(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(await database().store.listHolds({ all: true })).toEqual([]);
    expect(await database().store.listPolicies()).toMatchObject([{ retain_days: 30 }]);
  });

  test('an empty reason is refused', async () => {
    const placed = await retention('hold', 'place', '--tenant', 'acme', '--reason', ' ');
    expect(placed).toMatchObject({ code: 2, stdout: '' });
    expect(placed.stderr).toContain('--reason: expected why it is held, in a few words');
  });

  test('holds are placed together, listed, and released together', async () => {
    const { insertRuns } = database();
    const [first = '', second = ''] = await insertRuns({ count: 2 });
    const missing = crypto.randomUUID();
    const place = ['hold', 'place', '--reason', 'audit 2026-04', '--by', 'kim', '--for', '7d'];
    const refused = await retention(...place, '--run', first, missing);
    expect(refused).toMatchObject({ code: 2, stdout: '' });
    expect(refused.stderr).toContain(`there is no run ${missing} to hold; nothing was changed`);
    expect(await json('hold', 'list')).toEqual({ holds: [] });

    const placed = await retention(...place, '--run', first, '--run', second);
    expect(placed.code).toBe(0);
    expect(placed.stdout.match(/^Hold \d+ on run .* is in force\.$/gmu)).toHaveLength(2);
    const { holds } = (await json('hold', 'list')) as { holds: { hold_id: number }[] };
    expect(holds).toMatchObject([
      { reason: 'audit 2026-04', placed_by: 'kim', active: true },
      { reason: 'audit 2026-04', placed_by: 'kim', active: true },
    ]);
    const { stdout } = await retention('hold', 'list');
    expect(stdout).toMatch(/^ {2}\d+ +run [0-9a-f-]{36} +audit 2026-04 +kim /mu);
    expect(stdout).toContain(`dpp-results/results/${first}`);

    const ids = holds.map((hold) => String(hold.hold_id));
    expect(await retention('hold', 'release', ...ids, '999999')).toMatchObject({ code: 2 });
    expect(await json('hold', 'list')).toMatchObject({ holds: [{}, {}] });
    const released = await retention('hold', 'release', ...ids);
    expect(released.code).toBe(0);
    expect(released.stdout.match(/is released\.$/gmu)).toHaveLength(2);
    expect(await retention('hold', 'list')).toMatchObject({ stdout: 'Nothing is held.\n' });
    expect(await json('hold', 'list', '--all')).toMatchObject({ holds: [{}, {}] });
  });

  test('a hold over what is in flight says which runs are too late, and exits with 1', async () => {
    const { insertRuns, query, store } = database();
    const runIds = await insertRuns({ count: 2 });
    await query('select retention.flag_expired()');
    await store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'test' });
    const placed = await retention('hold', 'place', '--tenant', 'acme', '--reason', 'audit');
    expect(placed.code).toBe(1);
    expect(placed.stdout).toContain('Too late for what is in flight: 2 results are being deleted');
    for (const runId of runIds) expect(placed.stdout).toContain(`    ${runId}\n`);
    const run = runIds[0] ?? '';
    const asJson = await retention('hold', 'place', '--run', run, '--reason', 'audit', '--json');
    expect(asJson.code).toBe(1);
    expect(JSON.parse(asJson.stdout)).toMatchObject({
      too_late: 1,
      holds: [{ run_id: runIds[0], too_late_run_ids: [runIds[0]] }],
    });
  });

  test('explain says it in plain words, for several runs, and shows what it knows', async () => {
    const { insertRun, store, query } = database();
    const held = await insertRun();
    const nasty = await insertRun({ key: 'results/\u001B[2J\u009B2J\nevil' });
    await store.placeHolds({ runIds: [held], reason: 'audit\u001B[31m', by: 'kim' });
    expect((await retention('explain', held)).code).toBe(0);
    const { stdout, code } = await retention('explain', held, nasty, 'nothing');
    expect(code).toBe(1);
    expect(stdout).toContain(`Run ${held}: HELD\n  hold `);
    expect(stdout).toContain('on its run, placed by kim: audit\\u001b[31m.\n');
    expect(stdout).toMatch(/^ {2}tenant +acme$/mu);
    expect(stdout).toMatch(/^ {2}policy +30 days$/mu);
    expect(stdout).toContain(`Run ${nasty}: DUE\n`);
    expect(stdout).toContain('Run nothing: UNKNOWN\n  there is no run with this id;');
    // oxlint-disable-next-line no-control-regex -- none of these may reach a terminal
    expect(stdout).not.toMatch(/[\u0000-\u0009\u000B-\u001F\u007F-\u009F]/u);
    expect(await json('explain', held)).toMatchObject({
      runs: [{ run_id: held, state: 'held', retain_days: 30, holds: [{ on: 'run' }] }],
    });
    const elsewhere = await runCli(['explain', nasty], {
      env: { ...environment(), S3_RESULT_BUCKET: 'another' },
    });
    expect(elsewhere.stdout).toContain('Bucket not allowed: S3_RESULT_BUCKET');
    expect(await query('select from retention.flagged')).toEqual([]);
  });

  test('retry says how many it revives', async () => {
    const { insertRuns, query, store } = database();
    const runIds = await insertRuns({ count: 3 });
    await query('select retention.flag_expired()');
    const lease = crypto.randomUUID();
    const claim = await store.claim({ lease, leaseSeconds: 60, by: 'test' });
    const failed = (claim?.keys ?? []).map((key) => ({
      key,
      code: 'AccessDenied',
      reason: 'no',
      outcome: 'refused' as const,
      concerns: 'key' as const,
      final: true,
    }));
    const outcome = { cleared: [], failed, milliseconds: 1 };
    await store.settle(claim?.batchId ?? 0, lease, outcome);
    expect(await json('retry', '--code', 'NoSuchBucket')).toEqual({ revived: 0 });
    expect(await json('retry', '--run', runIds[0] ?? '')).toEqual({ revived: 1 });
    expect(await retention('retry', '--all')).toMatchObject({
      code: 0,
      stdout: '2 results revived\n',
    });
    expect((await retention('retry', '--all')).stdout).toContain('Nothing to revive');
  });

  async function waitUntilWatching(watching: RunningCli): Promise<void> {
    // The first session that listens to our channels; the probes prove it a moment later.
    await until('watch listens', async () => {
      await database().query(`select pg_notify('retention_expired', 'ready?')`);
      return watching.stdout.includes('ready?');
    });
  }

  const EXPIRED = {
    batches: 2,
    results: 1_250,
    buckets: ['dpp-results'],
    oldest: '2026-01-17T00:00:00.000Z',
  };

  test('watch prints a line for each notification, and for what is not ours its text', async () => {
    await using watching = start('watch');
    await waitUntilWatching(watching);
    const notify = (channel: string, payload: unknown) =>
      psql(
        database().url,
        `select pg_notify('${channel}', $$${typeof payload === 'string' ? payload : JSON.stringify(payload)}$$);`,
      );
    await notify('retention_expired', EXPIRED);
    expect(await watching.waitForLine('1,250')).toMatch(
      /^\d\d:\d\d:\d\d flagged {2}1,250 results in 2 batches \(dpp-results\), oldest 2026-01-17$/u,
    );
    const cleared = {
      batch: 42,
      bucket: 'dpp-results',
      cleared: 998,
      spared: 1,
      failed: 1,
      ms: 412,
    };
    await notify('retention_cleared', cleared);
    expect(await watching.waitForLine('998')).toMatch(
      / cleared {2}998 results \(dpp-results\) in 412 ms, 1 spared, 1 failed$/u,
    );
    const failed = { batch: 42, bucket: 'dpp-results', code: 'AccessDenied', results: 1 };
    await notify('retention_failed', {
      ...failed,
      run_ids: ['abc123'],
      retry_at: '2026-02-17T12:00:00.000Z',
    });
    expect(await watching.waitForLine('abc123')).toMatch(
      / failed {3}1 result \(dpp-results\): AccessDenied, abc123; next attempt at 2026-02-17T12:00:00\.000Z$/u,
    );
    await notify('retention_failed', { ...failed, results: 5, run_ids: ['def456'] });
    expect(await watching.waitForLine('def456')).toMatch(/, among them def456; dead, until: /u);
    await notify('retention_cleared', '\u001B[2Jgotcha\u009B31m\u202E');
    expect(await watching.waitForLine('gotcha')).toMatch(
      / retention_cleared not from the schema: \\u001b\[2Jgotcha\\u009b31m\\u202e$/u,
    );
    await notify('retention_expired', { ...EXPIRED, buckets: ['\u001B]0;evil\u0007'] });
    expect(await watching.waitForLine('evil')).toContain('(\\u001b]0;evil\\u0007)');
    await notify('retention_expired', { ...EXPIRED, results: 'many' });
    expect(await watching.waitForLine('many')).toContain('not from the schema: {"batches":2');
    watching.kill('SIGTERM');
    expect(await watching.ended()).toMatchObject({ code: 0, signal: null });
  });

  test('watch shows what the product itself announces, and takes up after a loss', async () => {
    const { insertRuns, query } = database();
    await using watching = start('watch', '--json');
    await waitUntilWatching(watching);
    await insertRuns({ count: 3 });
    await query('select retention.flag_expired()');
    const line = await watching.waitForLine('"results":3');
    expect(JSON.parse(line)).toMatchObject({
      channel: 'retention_expired',
      payload: { batches: 1, results: 3, buckets: ['dpp-results'] },
    });
    await query(
      `select pg_terminate_backend(pid) from pg_stat_activity
        where application_name = 'retention watch' and datname = current_database()`,
    );
    await until('watch listens again', async () => {
      await query(`select pg_notify('retention_cleared', 'again?')`);
      return watching.stdout.includes('"raw":"again?"');
    });
    watching.kill('SIGINT');
    expect(await watching.ended()).toMatchObject({ code: 0, signal: null });
  });

  test('status --watch prints a compact line each time, until it is told to stop', async () => {
    await using watching = start('status', '--watch', '--interval', '1s');
    await watching.waitForLine(
      /^\d\d:\d\d:\d\d due 0, flagged 0, leased 0, failed 0, dead 0, held 0, cleared today 0; no tick yet, scheduler never ticked$/u,
    );
    await database().insertRuns({ count: 1_100 });
    await watching.waitForLine('due at least 1,000, flagged 0');
    watching.kill('SIGINT');
    expect(await watching.ended()).toMatchObject({ code: 0, signal: null, stderr: '' });
  });

  test('status --watch --json prints a document a line', async () => {
    await using watching = start('status', '--watch', '--json');
    const line = await watching.waitForLine('"due"');
    expect(JSON.parse(line)).toMatchObject({ due: 0, policies_pending: 0 });
    watching.kill();
    expect(await watching.ended()).toMatchObject({ code: 0 });
  });
});
