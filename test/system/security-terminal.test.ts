import { describe, expect, test } from 'vitest';
import { type CliResult, runCli, startCli } from '../support/cli.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { haveProgram } from '../support/programs.ts';

const FORGED = '2026-02-17T12:00:00.000Z INFO forged';

/** Everything that steers a terminal, ends a line or turns the direction of reading. */
const HOSTILE = [
  '\u001B[2J\u001B[8m', // CSI: clear, conceal.
  '\u001B]0;title\u0007', // OSC: the window's title.
  '\u001B]8;;http://evil.example\u001B\\link', // OSC: a link.
  '\u009B31m\u0085', // C1: CSI in one character, next line.
  '\b\b\b\r', // back over what was written.
  `\n${FORGED}\r\n{"level":"INFO","message":"forged"}\n`,
  `\u2028${FORGED}\u2029`,
  '\u202E\u2066\u200F\u061C\uFEFF',
  '\u007F\t',
].join('');

/** What a terminal acts upon, and what our own colours and the cleared screen of a watch are not. */
const STEERING =
  // oxlint-disable-next-line no-control-regex -- these characters are what is looked for
  /[\u0000-\u0009\u000B-\u001F\u007F-\u009F\u061C\u200E\u200F\u2028-\u202E\u2066-\u2069\uFEFF]/u;
// oxlint-disable-next-line no-control-regex -- an escape is what is looked for
const OURS = /\u001B\[(?:3[1239]m|H\u001B\[2J)/gu;

/** Fails when a text could draw on a terminal, or has a line that we did not write. */
function expectPlain(text: string): void {
  const plain = text.replaceAll('\r\n', '\n').replaceAll(OURS, '');
  const found = STEERING.exec(plain);
  expect(found && `${JSON.stringify(found[0])} in ${JSON.stringify(plain)}`).toBeNull();
  expect(plain).not.toMatch(/^\s*(?:2026-02-17|\{"level":"INFO","message":"forged")/mu);
}

const literal = (text: string): string =>
  `E'${Array.from(text, (character) => String.raw`\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`).join('')}'`;

describeDatabase('text from outside, on a terminal and in a log', () => {
  const stack = useCliStack({ before: 'alter table runs alter column run_id type text' });
  const pretty = { LOG_LEVEL: 'DEBUG', DPP_JSON_LOGS: 'false' };

  /** Rows, holds, policies, errors and buckets that are hostile wherever they hold text. */
  async function makeHostile(): Promise<string> {
    const { query } = stack.database();
    const hostile = literal(HOSTILE);
    await query(`
      insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      select n || ${hostile}, ${hostile}, 'COMPLETED', now() - interval '31 days',
        case n when 1 then null when 2 then ${hostile} else 'dpp-results' end, n || ${hostile}
      from generate_series(1, 5) n;
      insert into runs (run_id, tenant_id, status, completed_at)
      values ('0' || ${hostile}, ${hostile} || 'held', 'COMPLETED', now());
      insert into retention.policy (tenant_id, retain) values (${hostile}, '20 days');
      update retention.policy set pending_retain = '1 day', pending_results = 5, pending_at = now(),
        pending_by = ${hostile} where tenant_id <> '*';
      select retention.place_hold(${hostile}, null, ${hostile} || 'held', null, ${hostile});
      select retention.flag_expired();
      update retention.batch set code = ${hostile}, error = ${hostile}, failed_at = now(),
        attempts = 1;
      update retention.bucket set pause_code = ${hostile}, pause_error = ${hostile}, pauses = 1,
        paused_until = now() + interval '1 hour' where bucket <> 'dpp-results';
      update retention.heartbeat set ticked_at = now(), ticked_by = ${hostile}`);
    return `2${HOSTILE}`;
  }

  const COMMANDS: readonly (readonly string[])[] = [
    ['status'],
    ['status', '--json'],
    ['hold', 'list'],
    ['hold', 'list', '--json'],
    ['policy', 'list'],
    ['policy', 'list', '--json'],
    ['reconcile', '--dry-run', '--verbose'],
    ['reconcile', '--dry-run', '--verbose', '--json'],
    ['explain', 'THE RUN'],
    ['explain', 'THE RUN', '--json'],
    ['explain', HOSTILE],
    ['hold', 'place', '--run', 'THE RUN', '--reason', HOSTILE],
    ['hold', 'place', '--run', HOSTILE, '--reason', HOSTILE],
    ['policy', 'unset', HOSTILE],
    ['policy', 'confirm', HOSTILE],
    ['retry', '--run', HOSTILE],
    ['restore', 'THE RUN'],
    ['doctor'],
    ['doctor', '--json'],
  ];

  describe.each([
    ['to pipes', false],
    ['on a terminal', true],
  ])('%s', (_where, onTerminal) => {
    test('no command draws, whatever the rows hold', async (context) => {
      if (onTerminal) {
        const { path } = haveProgram('script');
        context.skip(path === undefined, 'script cannot be had here');
      }
      const run = (parameters: readonly string[]): Promise<CliResult> =>
        runCli(parameters, { env: stack.env(pretty), onTerminal });
      const theRun = await makeHostile();
      let shown = '';
      // A document is the same on either.
      const commands = COMMANDS.filter((words) => !onTerminal || !words.includes('--json'));
      for (const command of commands) {
        const words = command.map((word) => (word === 'THE RUN' ? theRun : word));
        const { stdout, stderr } = await run(words);
        expect(stdout + stderr, command.join(' ')).not.toBe('');
        expectPlain(stdout);
        expectPlain(stderr);
        shown += stdout + stderr;
      }
      // It was there, and is written out.
      expect(shown).toContain(String.raw`\u001b[2J\u001b[8m`);
      expect(shown).toContain(String.raw`\u009b31m`);
      expect(shown).toContain(String.raw`\u202e`);
    });

    test('watch and status --watch draw nothing, from any sender', async () => {
      await makeHostile();
      const { query } = stack.database();
      const channels = ['retention_expired', 'retention_cleared', 'retention_failed'];
      const payloads = [
        HOSTILE,
        JSON.stringify({ batches: 1, results: 1, buckets: [HOSTILE], oldest: null }),
        JSON.stringify({ batch: 1, bucket: HOSTILE, cleared: 1, spared: 0, failed: 0, ms: 1 }),
        JSON.stringify({ batch: 1, bucket: 'b', code: HOSTILE, results: 1, run_ids: [HOSTILE] }),
        JSON.stringify({ [HOSTILE]: HOSTILE }),
      ];
      for (const parameters of [['watch'], ['watch', '--json'], ['status', '--watch', '--json']]) {
        await using watching = startCli(parameters, { env: stack.env(pretty), onTerminal });
        if (parameters[0] === 'watch') await watching.waitForLine('Listening for notifications');
        else await watching.waitForLine('"due"');
        for (const channel of channels) {
          for (const payload of payloads)
            await query('select pg_notify($1, $2)', [channel, payload]);
          await query('select pg_notify($1, $2)', [channel, `the last of ${channel}`]);
        }
        if (parameters[0] === 'watch') await watching.waitForLine('the last of retention_failed');
        expectPlain(watching.stdout);
        expectPlain(watching.stderr);
      }
      await using redrawn = startCli(['status', '--watch'], { env: stack.env(pretty), onTerminal });
      await redrawn.waitForLine(onTerminal ? 'policy pending' : 'to be confirmed');
      expectPlain(redrawn.stdout);
    });
  });

  test.each(['true', 'false'])('a listener with DPP_JSON_LOGS=%s forges no line', async (json) => {
    const { query } = stack.database();
    const env = { ...pretty, DPP_JSON_LOGS: json, S3_RESULT_BUCKET: 'dpp-results,dpp-other' };
    const listener = await stack.listen(env);
    // What was flagged before it started would be no news of its.
    await makeHostile();
    for (const channel of ['retention_expired', 'retention_cleared', 'retention_failed']) {
      await query('select pg_notify($1, $2)', [channel, HOSTILE]);
      await query('select pg_notify($1, $2)', [channel, JSON.stringify({ bucket: HOSTILE })]);
    }
    await stack.cleared(3);
    await listener.waitForLine('missing S3 info, skipping');
    listener.kill();
    const { stderr, stdout } = await listener.ended();
    expect(stdout).toBe('');
    expectPlain(stderr);
    expect(stderr).toContain(String.raw`u009b31m`);
    const lines = stderr.trimEnd().split('\n');
    expect(lines.length).toBeGreaterThan(5);
    for (const line of lines) {
      if (json === 'true') expect(JSON.parse(line)).toHaveProperty('timestamp');
      else expect(line).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z (?:DEBUG|INFO|WARNING|ERROR) /u);
    }
  });
});
