import { expect, test } from 'vitest';
import { SETTING_LIST } from '../../src/config/settings.ts';
import { runCli } from '../support/cli.ts';

const SECRET = 'h4rd-to-gu3ss';
/** Only the database can read the mapping of columns. */
const CHECKED = SETTING_LIST.filter(({ key }) => key !== 'columns');
/** Nothing answers there: what reads it would fail in another way. */
const NOWHERE = 'postgres://me@127.0.0.1:9/app';

async function run(
  parameters: readonly string[],
  env: Record<string, string> = { DATABASE_URL: NOWHERE },
) {
  return runCli(parameters, { env });
}

test.each([
  [['nonsense'], /unknown command 'nonsense'/u],
  [['reconcil'], /Did you mean reconcile\?/u],
  [['migrate', 'sideways'], /unknown command 'sideways'/u],
  [['--nonsense'], /unknown option '--nonsense'/u],
  [['listen', '--nonsense'], /unknown option '--nonsense'/u],
  [['reconcile', '--dryrun'], /Did you mean --dry-run\?/u],
  [['status', 'extra'], /too many arguments/u],
  [['reconcile', '--older-than'], /argument missing/u],
  [['reconcile', '--older-than', 'banana'], /--older-than.*banana/u],
  [['reconcile', '--older-than', '30'], /--older-than.*"30"/u],
  [['reconcile', '--older-than', '-30d'], /--older-than/u],
  [['reconcile', '--older-than', '12h'], /1d or more; given "12h"/u],
  [['reconcile', '--older-than', '0d'], /--older-than/u],
  [['reconcile', '--older-than', '99999999999999d'], /--older-than/u],
  [['reconcile', '--batch-size', '0'], /--batch-size.*1 to 1000; given "0"/u],
  [['reconcile', '--batch-size', '1001'], /--batch-size.*given "1001"/u],
  [['reconcile', '--batch-size', 'many'], /--batch-size.*given "many"/u],
  [['reconcile', '--limit', '1.5'], /--limit.*given "1\.5"/u],
  [['reconcile', '--limit', ''], /--limit/u],
  [['migrate', 'down', '--steps', '0'], /--steps.*given "0"/u],
] as const)('%j is wrong usage, and says why', async (parameters, message) => {
  const { code, stdout, stderr } = await run(parameters);
  expect([code, stdout]).toEqual([2, '']);
  expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/\n\s+at /u);
});

test.each([
  [[]],
  [['listen']],
  [['reconcile']],
  [['status']],
  [['migrate', 'up']],
  [['migrate', 'down']],
  [['migrate', 'status']],
] as const)('%j --help shows an example and needs no settings', async (parameters) => {
  const { code, stdout, stderr } = await run([...parameters, '--help'], {
    DPP_RETENTION_DAYS: '0',
  });
  expect([code, stderr]).toEqual([0, '']);
  expect(stdout).toMatch(/Examples?:\n\s+\$ .*(?:retention|npm) /u);
});

test('without a command, shows how it is used', async () => {
  const { code, stderr } = await run([]);
  expect(code).toBe(2);
  expect(stderr).toMatch(/Usage: retention/u);
});

test('--version prints the version and nothing else', async () => {
  const { code, stdout } = await run(['--version']);
  expect([code, stdout]).toEqual([0, expect.stringMatching(/^\d+\.\d+\.\d+\n$/u)]);
});

test.each(['listen', 'reconcile', 'status', 'migrate up', 'migrate down', 'migrate status'])(
  '%s names every setting that is wrong at once, and no secret',
  async (command) => {
    const wrong: Record<string, string> = Object.fromEntries(
      CHECKED.map(({ variable }) => [variable, '\u0007 wrong!{}']),
    );
    for (const { variable } of CHECKED.filter(({ secret }) => secret)) {
      wrong[variable] = `ftp://me:${SECRET}@host/x`;
    }
    wrong['DPP_RETENTION_DAYS'] = '0';
    wrong['RETENTION_TABLE'] = '"';
    wrong['RETENTION_ROLE'] = '"';
    const { code, stdout, stderr } = await run(command.split(' '), {
      ...wrong,
      DPP_RETENTION_DAYZ: '30',
    });
    expect([code, stdout]).toEqual([2, '']);
    for (const { variable } of CHECKED)
      expect(stderr).toMatch(new RegExp(`^\\s+${variable}: expected .*; given .*`, 'mu'));
    expect(stderr).toMatch(
      /DPP_RETENTION_DAYS: expected a whole number of days from 1 to 36,160; given "0"/u,
    );
    expect(stderr).toMatch(/DPP_RETENTION_DAYZ.*Did you mean DPP_RETENTION_DAYS\?/u);
    expect(stderr).not.toContain(SECRET);
    expect(stderr).not.toContain('\u0007');
    expect(stderr).not.toMatch(/\n\s+at /u);
  },
);

test.each(['listen', 'reconcile', 'status', 'migrate up', 'migrate status'])(
  '%s needs DATABASE_URL and says so',
  async (command) => {
    const { code, stderr } = await run(command.split(' '), {});
    expect(code).toBe(2);
    expect(stderr).toMatch(/DATABASE_URL: expected an address such as .*; given nothing/u);
  },
);

test.each(['reconcile', 'status', 'migrate up', 'migrate down', 'migrate status'])(
  '%s never prints a password of an address that it cannot reach',
  async (command) => {
    const { code, stdout, stderr } = await run(command.split(' '), {
      DATABASE_URL: `postgres://me:${SECRET}@127.0.0.1:9/app?password=${SECRET}`,
      S3_RESULT_BUCKET: 'dpp-results',
    });
    expect(code).toBe(1);
    expect(stderr).toMatch(/127\.0\.0\.1:9/u);
    expect(stdout + stderr).not.toContain(SECRET);
    expect(stderr).not.toMatch(/\n\s+at /u);
  },
);

test('what was typed wrong is said before what is set wrong', async () => {
  const { code, stderr } = await run(['reconcile', '--older-than', 'banana'], {
    DPP_RETENTION_DAYS: '0',
  });
  expect(code).toBe(2);
  expect(stderr).toMatch(/banana/u);
});
