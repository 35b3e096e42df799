import { execFile } from 'node:child_process';
import { expect, onTestFinished, test } from 'vitest';
import {
  type CliResult,
  type Variables,
  bareEnvironment,
  runCli,
  startCli,
} from '../support/cli.ts';
import { withBrokenRows } from '../support/broken-rows.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { createDatabase, describeDatabase } from '../support/database.ts';

const RUN = '5f2c1c1e-9d5e-4c55-8a0c-0d6d9c1c7f11';

/** Every command that ends by itself, with what makes it do something. */
const COMMANDS: readonly (readonly string[])[] = [
  ['status'],
  ['explain', RUN],
  ['reconcile'],
  ['reconcile', '--dry-run'],
  ['retry', '--all'],
  ['restore', RUN],
  ['policy', 'list'],
  ['policy', 'set', 'acme', '90d'],
  ['hold', 'list'],
  ['hold', 'place', '--run', RUN, '--reason', 'test'],
  ['halt', '--reason', 'test'],
  ['resume'],
  ['doctor'],
  ['migrate', 'status'],
];

/** Those of them that print one document. */
const DOCUMENTED = COMMANDS.filter(([name, verb]) => `${name} ${verb}` !== 'policy set');

interface Failure {
  readonly error: { readonly code: string; readonly message: string; readonly exit_code: number };
}

function documentOf({ stdout }: CliResult): Failure {
  return JSON.parse(stdout) as Failure;
}

describeDatabase('the exit codes of the commands', () => {
  const stack = useCliStack();

  async function each(
    commands: readonly (readonly string[])[],
    env: Variables,
    look: (result: CliResult, command: string) => void,
    more: readonly string[] = [],
  ): Promise<void> {
    for (const command of commands) {
      const result = await runCli([...command, ...more], { env });
      look(result, command.join(' '));
    }
  }

  test('1 and one JSON document when the database cannot be reached, the words on stderr', async () => {
    const env = stack.env({ DATABASE_URL: 'postgres://me:geheim@127.0.0.1:9/app' });
    await each(
      DOCUMENTED,
      env,
      (result, command) => {
        expect({ command, code: result.code }).toEqual({ command, code: 1 });
        expect(result.stdout + result.stderr).not.toContain('geheim');
        if (command === 'doctor') expect(JSON.parse(result.stdout)).toMatchObject({ ok: false });
        else {
          expect(documentOf(result)).toMatchObject({
            error: { code: 'ECONNREFUSED', exit_code: 1, remedy: expect.any(String) as string },
          });
          expect(result.stderr).toMatch(/^error: cannot connect to Postgres at 127/mu);
        }
      },
      ['--json'],
    );
  });

  test('1 for a database that is not there and a role that may not come in', async () => {
    const url = new URL(stack.database().url);
    url.pathname = '/no_such_database';
    const result = await stack.run(['status', '--json'], { DATABASE_URL: url.href });
    expect(result.code).toBe(1);
    expect(documentOf(result).error.code).toBe('3D000');
    const stranger = new URL(stack.database().url);
    stranger.username = 'nobody_at_all';
    const refused = await stack.run(['status', '--json'], { DATABASE_URL: stranger.href });
    expect(refused.code).toBe(1);
    expect(documentOf(refused).error.code).toMatch(/^28/u);
  });

  test('1 where the schema is missing, and what to do', async () => {
    const bare = await createDatabase();
    try {
      await each(
        DOCUMENTED.filter(([name]) => name !== 'doctor' && name !== 'migrate'),
        stack.env({ DATABASE_URL: bare.url }),
        (result, command) => {
          expect({ command, code: result.code }).toEqual({ command, code: 1 });
          expect(documentOf(result).error).toMatchObject({
            remedy: expect.stringContaining('retention migrate up') as string,
          });
        },
        ['--json'],
      );
    } finally {
      await bare.drop();
    }
  });

  test('0 for what only looks while it is halted, 1 for what would delete', async () => {
    const [known = ''] = await stack.insertResults({ count: 2 });
    expect((await stack.run(['explain', RUN])).code).toBe(1);
    await stack.run(['halt', '--reason', 'fire']);
    const looking = [
      ['status'],
      ['explain', known],
      ['policy', 'list'],
      ['reconcile', '--dry-run'],
    ];
    await each(looking, stack.env(), ({ code }, command) => {
      expect({ command, code }).toEqual({ command, code: 0 });
    });
    const result = await stack.run(['reconcile', '--json']);
    expect(result.code).toBe(1);
    expect(documentOf(result).error).toMatchObject({ code: 'CLOSED', exit_code: 1 });
    expect(result.stderr).toContain('halted by');
  });

  test('1 while it is disabled, by variable or in the database: no confirmation helps', async () => {
    const here = await stack.run(['reconcile'], { DPP_RETENTION_ENABLED: 'false' });
    expect(here.code).toBe(1);
    await stack.database().store.configure({ enabled: false });
    expect((await stack.run(['reconcile'])).code).toBe(1);
  });

  test('3 for an early deletion that nobody confirmed, without a terminal to ask at', async () => {
    await stack.insertResults({ count: 2, completedAgo: '10 days' });
    const result = await stack.run(['reconcile', '--older-than', '5d', '--all', '--json']);
    expect(result.code).toBe(3);
    expect(documentOf(result).error).toMatchObject({
      code: 'REFUSED',
      remedy: 'Say --expect 2.',
    });
    expect(await stack.countCleared()).toBe(0);
  });

  test.each([
    [['reconcile', '--json', '--older-than', 'banana'], 'USAGE'],
    [['status', '--json', '--nonsense'], 'USAGE'],
    [['explain', '--json'], 'USAGE'],
    [['nonsense', '--json'], 'USAGE'],
    [['retry', '--json', '--run', 'no-id'], 'USAGE'],
    [['hold', 'release', '--json', '999999'], 'USAGE'],
  ])('2 and one document for wrong usage: %j', async (command, code) => {
    const result = await stack.run(command);
    expect(result.code).toBe(2);
    expect(documentOf(result).error).toMatchObject({ code, exit_code: 2 });
    expect(result.stderr).not.toBe('');
  });

  test('2 and one document for a wrong setting, without what is secret', async () => {
    const result = await stack.run(['status', '--json'], {
      DATABASE_URL: 'postgres://me:geh@eim/app?x=%',
      DPP_RETENTION_DAYS: '0',
    });
    expect(result.code).toBe(2);
    expect(documentOf(result).error).toMatchObject({ code: 'CONFIGURATION', exit_code: 2 });
    expect(result.stdout + result.stderr).not.toContain('geh');
  });

  test('1 where a result failed, with the document of what was done', async () => {
    await stack.insertResults({ count: 2 });
    await stack.database().insertRuns({ count: 1, bucket: 'no-such-bucket' });
    const result = await stack.run(['reconcile', '--json']);
    expect(result.code).toBe(1);
    expect(JSON.parse(result.stdout)).toMatchObject({ cleared: 2, failed: 1, dead: 0 });
  });

  test('0 for runs that are kept for ever, in words and as JSON', async () => {
    const [runId = ''] = await stack.database().insertRuns({ completedAgo: '1 day' });
    await stack.database().query(`update runs set completed_at = 'infinity'`);
    const people = await stack.run(['explain', runId]);
    expect(people).toMatchObject({ code: 0, stderr: '' });
    expect(people.stdout).toContain('kept for ever');
    expect(people.stdout).toMatch(/due\s+infinity/u);
    const { code, stdout } = await stack.run(['explain', runId, '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ runs: [{ due_at: 'infinity' }] });
    expect((await stack.run(['status'])).code).toBe(0);
  });

  test('1 for a run whose row cannot be read, with its SQLSTATE, and the others are explained', async () => {
    const [bad = '', good = ''] = await stack.database().insertRuns({ count: 2 });
    const { breakRun } = await withBrokenRows(stack.database());
    onTestFinished(() =>
      stack
        .database()
        .query('select retention._make_views()')
        .then(() => undefined),
    );
    await breakRun(bad, '22008');
    const people = await stack.run(['explain', bad, good]);
    expect(people).toMatchObject({ code: 1, stderr: '' });
    expect(people.stdout).toContain(`Run ${bad}: UNREADABLE`);
    expect(people.stdout).toContain('its row cannot be read: this row is broken (SQLSTATE 22008)');
    expect(people.stdout).toContain(`Run ${good}: DUE`);
    const { code, stdout } = await stack.run(['explain', bad, '--json']);
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ runs: [{ run_id: bad, state: 'unreadable' }] });
    expect((await stack.run(['status'])).code).toBe(0);
    expect((await stack.run(['reconcile', '--dry-run'])).code).toBe(0);
  });

  test('0 when the reader goes away, as `head` does', async () => {
    expect(await exitOf('status --json', '| true')).toBe(0);
    expect(await exitOf('policy list', '| head -n 1 > /dev/null')).toBe(0);
  });

  test('1 when stdout cannot be written, and it says so in one line', async () => {
    const { code, stderr } = await piped('status --json', '> /dev/full');
    expect(code).toBe(1);
    expect(stderr).toBe('error: stdout cannot be written: ENOSPC\n');
  });

  test('status says what waits, why and until when', async () => {
    await stack.insertResults({ count: 2 });
    await stack.database().store.tick('internal');
    await stack.database().query(
      `update retention.bucket set paused_until = now() + interval '1 hour',
        pause_code = 'ECONNREFUSED', pause_error = 'connect ECONNREFUSED 127.0.0.1:9'`,
    );
    const { code, stdout } = await stack.run(['status']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^ {2}due +2$/mu);
    expect(stdout).toMatch(/^ {2}next pass +\d{4}-/mu);
    expect(stdout).toMatch(/^ {2}newest run +\d{4}-/mu);
    expect(stdout).toMatch(
      /^ {2}bucket dpp-results \(2 results\): pauses after connect ECONNREFUSED 127\.0\.0\.1:9; until 2/mu,
    );
  });

  test('1 for a reconcile that is interrupted, with a whole document', async () => {
    await stack.insertResults({ count: 20 });
    await stack.database().set({ batch_size: '1' });
    const release = await stack.holdStamps();
    await using running = startCli(['reconcile', '--json'], { env: stack.env() });
    await stack.settleWaits();
    running.kill('SIGINT');
    await release();
    const result = await running.ended();
    expect(result.code).toBe(1);
    expect(JSON.parse(result.stdout)).toMatchObject({ interrupted: true });
  });

  async function exitOf(command: string, tail: string): Promise<number> {
    return (await piped(command, tail)).code;
  }

  function piped(command: string, tail: string): Promise<{ code: number; stderr: string }> {
    const line = `${process.execPath} dist/cli/main.js ${command} ${tail}; echo "code \${PIPESTATUS[0]}" >&2`;
    return new Promise((resolve) => {
      const env = { ...bareEnvironment(), ...stack.env() };
      execFile('bash', ['-c', line], { env }, (_error, _stdout, stderr) => {
        const [, code = '-1'] = /^code (\d+)$/mu.exec(stderr) ?? [];
        resolve({ code: Number(code), stderr: stderr.replace(/^code \d+\n/mu, '') });
      });
    });
  }
});
