import { beforeEach, expect, test } from 'vitest';
import { type RunningCli, runCli, startCli } from '../support/cli.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { haveProgram } from '../support/programs.ts';

/** As `script` gives no size, the usual one counts. */
const COLUMNS = 80;
const ROWS = 24;
// oxlint-disable-next-line no-control-regex -- an escape is what is looked for
const ESCAPE = /\u001B/u;
const SCREEN = '\u001B[H\u001B[2J';

const linesOf = (text: string): string[] => text.replaceAll('\r\n', '\n').split('\n');
const tooLong = (text: string): string[] => linesOf(text).filter((line) => line.length > COLUMNS);

describeDatabase('on a terminal of 80 columns and 24 lines', () => {
  const stack = useCliStack();
  let runId = '';

  beforeEach(async (context) => {
    const { path } = haveProgram('script');
    context.skip(path === undefined, 'script cannot be had here');
    const { query, store } = stack.database();
    [runId = ''] = await stack.insertResults({ count: 3, completedAgo: '40 days' });
    await stack.insertResults({ count: 1, tenant: 'globex' });
    await store.placeHolds({ tenantIds: ['globex'], reason: 'audit '.repeat(20), by: 'kim' });
    await store.placeHolds({ runIds: [runId], reason: 'legal hold 2026-114' });
    await query(`
      update retention.policy set pending_retain = '7 days', pending_results = 5120, pending_at = now(),
        pending_by = 'a person with quite a long name' where tenant_id = '*'`);
  });

  const onTerminal = async (...words: string[]): Promise<string> => {
    const { stdout } = await runCli(words, {
      env: stack.env({ TERM: 'xterm', NO_COLOR: undefined }),
      onTerminal: true,
    });
    return stdout;
  };
  const watch = (more: Readonly<Record<string, string>>, isOnTerminal: boolean): RunningCli =>
    startCli(['status', '--watch'], {
      env: stack.env({ TERM: 'xterm', ...more }),
      onTerminal: isOnTerminal,
    });

  test('status, hold list and a dry run with every run are readable', async () => {
    const shown = [
      await onTerminal('status'),
      await onTerminal('hold', 'list'),
      await onTerminal('reconcile', '--dry-run', '--verbose'),
    ];
    expect(shown.flatMap((text) => tooLong(text))).toEqual([]);
    const [status = '', holds = '', runs = ''] = shown;
    expect(status).toMatch(/^ {2}pace +0 a second cleared; steady, 0 flagged an hour ago/mu);
    expect(status).toMatch(
      /^ {2}backlog gone in +not known: nothing was cleared in the last 10 minutes/mu,
    );
    expect(holds).toMatch(/^ {2}hold +\d+\r?\n {2}on +tenant globex\r?\n {2}reason +audit audit/mu);
    expect(runs).toMatch(/^ {2}key +results\//mu);
    // A pipe has a line for each, for what looks for one.
    const piped = await stack.run(['hold', 'list']);
    expect(linesOf(piped.stdout).filter((line) => line.includes(runId))).toHaveLength(1);
    expect(piped.stdout + piped.stderr).not.toMatch(ESCAPE);
  });

  test('status --watch fits the screen; in a CI, on a dumb terminal and in a pipe it draws nothing', async () => {
    {
      await using watching = watch({}, true);
      await watching.waitForLine('newest run');
      const screen = watching.stdout.split(SCREEN)[1] ?? '';
      expect(linesOf(screen).length).toBeLessThanOrEqual(ROWS);
      expect(tooLong(screen)).toEqual([]);
      expect(screen).toMatch(
        /halted +no\b[^]*policy pending +tenant \*: [^]*\.\.\.\r?\n[^]*backlog gone in/u,
      );
    }
    for (const [more, isOnTerminal] of [
      [{ CI: 'true' }, true],
      [{ TERM: 'dumb' }, true],
      [{}, false],
    ] as const) {
      await using watching = watch(more, isOnTerminal);
      await watching.waitForLine(/^\d\d:\d\d:\d\d due /u);
      expect(watching.stdout).not.toMatch(ESCAPE);
    }
  });

  test('NO_COLOR is heeded, and a CI is asked nothing', async () => {
    const env = stack.env({ TERM: 'xterm-256color' });
    const colored = await runCli(['doctor'], { env, onTerminal: true });
    expect(colored.stdout).toMatch(ESCAPE);
    const plain = await runCli(['doctor'], { env: { ...env, NO_COLOR: '1' }, onTerminal: true });
    expect(plain.stdout).not.toMatch(ESCAPE);
    const asked = await runCli(['migrate', 'down'], {
      env: { ...env, CI: 'true' },
      onTerminal: true,
    });
    expect(asked.code).toBe(3);
    expect(asked.stdout).toContain('There is no terminal to ask at; nothing was done.');
  });
});
