import {
  DeleteBucketPolicyCommand,
  PutBucketLifecycleConfigurationCommand,
  PutBucketPolicyCommand,
} from '@aws-sdk/client-s3';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startCli } from '../support/cli.ts';
import { describeDatabase } from '../support/database.ts';
import { linesMissing, shapesOf } from '../support/document-steps.ts';
import { type Story, openStory } from '../support/document-story.ts';
import { useOperatorStack } from '../support/operator-stack.ts';
import { until } from '../support/until.ts';

const NO_CLUSTER = 'there is no Kubernetes cluster';
const LOGS =
  'kubectl logs -f -l app.kubernetes.io/name=retention-listener -n dpp-production --prefix';
const NO_ENGINE = 'there is no Docker engine';
const NO_DRIFT = 'section 5.3 does this where something has drifted';
const NO_UNIT = 'no unit of systemd is installed';

describeDatabase('the operating guide', () => {
  const stack = useOperatorStack();

  /** Follows the guide from its first command to its last. */
  test('does what it says, command by command', { timeout: 600_000 }, async () => {
    const guide = openStory('docs/runbook.md', {
      databaseUrl: () => stack.server().url(),
      variables: { ...stack.variables(), S3_RESULT_BUCKET: 'dpp-results' },
    });
    await followPolicy(guide);
    await followMonitoring(guide);
    await followSwitchingOff(guide);
    await followByHand(guide);
    await followRestore(guide);
    await followTroubleshooting(guide);
    await followAuditors(guide);
    guide.end();
  });

  const sql = (text: string): Promise<string> => stack.server().sql(text);
  const setting = (column: string): Promise<string> =>
    sql(`select ${column} from retention.setting`);
  const retain = (): Promise<string> =>
    sql(`select extract(day from retain) from retention.policy where tenant_id = '*'`);

  /** 1. Policy */
  async function followPolicy(guide: Story): Promise<void> {
    const up = 'retention migrate up';
    await guide.set('DPP_RETENTION_ENABLED=true', up);
    await guide.set('DPP_RETENTION_DAYS=30', up);
    await guide.set('DPP_RETENTION_LOOP_INTERVAL_SECONDS=86400', up);
    expect([await setting('enabled'), await retain()]).toEqual(['t', '30']);
    expect((await guide.set('DPP_RETENTION_DAYS=90', up)).stderr).toContain('Setting changed: ');
    expect(await retain()).toBe('90');
    await guide.set('DPP_RETENTION_LOOP_INTERVAL_SECONDS=43200', up);
    expect(await setting('extract(epoch from loop_interval)::int')).toBe('43200');
    await guide.set('DPP_RETENTION_ENABLED=false', up);
    // "Removing a variable changes nothing."
    await guide.type(up);
    expect(await setting('enabled')).toBe('f');
    await guide.type(`DPP_RETENTION_ENABLED=true ${up}`);
    expect(await setting('enabled')).toBe('t');

    await guide.run('retention policy list');
    await stack.insert({ tenant: 'tenant_abc', days: 1 });
    const set = await guide.run('retention policy set tenant_abc 90d');
    expect(set.stdout).toContain('The policy of tenant_abc is 90 days.');
    await guide.run('retention policy unset tenant_abc');

    await stack.insert({ count: 1_100, tenant: 'tenant_old', days: 40 });
    const shortened = await guide.type(`DPP_RETENTION_DAYS=30 ${up}`);
    expect(shortened.stderr).toContain('confirm');
    expect(await retain()).toBe('90');
    const confirmed = await guide.run(`retention policy confirm '*'`, { answer: 'y' });
    expect(confirmed.stdout).toContain('The default policy is 30 days. 1,100 results became due');
    expect(await retain()).toBe('30');
    await sql(`truncate runs, retention.batch, retention.progress`);
  }

  /** 2.1 and 2.2. Monitoring, metrics and alerts */
  async function followMonitoring(guide: Story): Promise<void> {
    guide.notHere(
      `alias retention='kubectl exec -it -n dpp-production deployment/retention-listener -- node dist/cli/main.js'`,
      NO_CLUSTER,
    );
    guide.notHere(`${LOGS} | grep Retention`, NO_CLUSTER);
    guide.notHere('docker logs -f retention-reactor-listener-1 | grep Retention', NO_ENGINE);
    guide.notHere('journalctl -f -u retention-listen | grep Retention', NO_UNIT);

    await using listener = startCli(['listen'], { env: guide.variables });
    // What was flagged before it started is no news of its.
    await listener.waitForLine('Listening for notifications', 30_000);
    await stack.insert({ count: 25 });
    await stack.insert({ isWithoutKey: true });
    await sql('select retention.flag_expired()');
    await listener.waitForLine('Found 25 expired runs', 30_000);
    const [refused = ''] = await stack.insert({ prefix: 'locked/' });
    await denyDeleting('locked/*');
    // Dead at once instead of after ten attempts.
    await sql('update retention.setting set max_attempts = 1');
    await until('25 are cleared', async () => (await cleared()) === 25, {
      limitMs: 30_000,
      seen: () => listener.stderr,
    });
    await sql('select retention.flag_expired()');
    await listener.waitForLine(`run ${refused}`, 30_000);
    const said = shapesOf(listener.stderr);
    expect(linesMissing(guide.text('Starting Retention Loop'), said)).toEqual([]);
    guide.notHere(`${LOGS} | grep -E 'WARNING|ERROR'`, NO_CLUSTER);
    expect(linesMissing(guide.text('missing S3 info'), said)).toEqual([]);

    const status = await guide.run('retention status');
    expect(status.stdout).toMatch(/dead +1/u);
    let hasSeen = false;
    const watching = guide.run('retention watch', { until: 'flagged ' }).finally(() => {
      hasSeen = true;
    });
    const announce = async (): Promise<boolean> => {
      await stack.insert();
      await sql('select retention.flag_expired()');
      return hasSeen;
    };
    await until('it was watched', announce, { limitMs: 30_000, pollMs: 300 });
    await watching;
    guide.put('RUN', refused);
    const explained = await guide.run('retention explain RUN');
    expect(explained.stdout).toContain('AccessDenied');
    // It finds what is wrong here: the rights.
    const doctor = await guide.run('retention doctor', { code: 1 });
    expect(doctor.stdout).toContain('"Action":["s3:DeleteObject"]');
    listener.kill();
    expect((await listener.ended()).code).toBe(0);

    expect(await guide.sql('select run_id, bucket, key')).toContain(refused);
    guide.notHere('retention reconcile --verify --bucket dpp-results --dry-run', NO_DRIFT);
    guide.notHere('retention reconcile --verify --bucket dpp-results', NO_DRIFT);
  }

  /** 2.3. Switching it off */
  async function followSwitchingOff(guide: Story): Promise<void> {
    guide.notHere('kubectl edit configmap retention-config -n dpp-production', NO_CLUSTER);
    guide.notHere(
      'kubectl rollout restart deployment/retention-listener -n dpp-production',
      NO_CLUSTER,
    );
    const [kept = ''] = await stack.insert();
    await guide.sql(`select retention.configure('{"enabled": false}')`);
    const refusal = await guide.type('retention reconcile', { code: 1 });
    expect(refusal.stderr).toContain('disabled');
    expect(guide.text('data:')).toContain(`DPP_RETENTION_ENABLED: 'false'`);
    await guide.sql(`select retention.configure('{"enabled": true}')`);

    await guide.run('retention hold place --tenant tenant_abc --reason "audit 2026-04"');
    const { stdout } = await guide.run('retention hold list');
    expect(stdout).toContain('audit 2026-04');
    expect(stack.s3().hasObject('dpp-results', `results/${kept}`)).toBe(true);
    guide.put('release 12', `release ${await sql('select max(hold_id) from retention.hold')}`);
    await guide.run('retention hold release 12');
    // What was held by tenant comes back over an hour; the story has no hour.
    await sql(`update retention.hold set released_at = now() - interval '2 hours'`);
  }

  /** 3. Running it by hand */
  async function followByHand(guide: Story): Promise<void> {
    await stack.client().send(new DeleteBucketPolicyCommand({ Bucket: 'dpp-results' }));
    await guide.type('retention retry --all');
    await stack.insert({ count: 3, tenant: 'tenant_xyz' });
    const before = await cleared();
    const dry = await guide.run('retention reconcile --dry-run');
    expect(dry.stdout).toContain('nothing was changed');
    expect(await cleared()).toBe(before);
    await guide.run('retention reconcile');
    expect(
      await sql('select count(*) from retention.result r where cleared_at is null and key <> $$$$'),
    ).toBe('0');
    await guide.run('retention reconcile --batch-size 100 --limit 1000');

    await stack.insert({ count: 2, days: 20 });
    const early = await cleared();
    await guide.run('retention reconcile --older-than 14d --all', { answer: 'y' });
    expect(await cleared()).toBe(early + 2);
    await stack.insert({ count: 2, days: 20 });
    await guide.run('retention reconcile --tenant tenant_abc --older-than 14d --expect 2500');
    expect(await cleared()).toBe(early + 4);

    const [abc = ''] = await stack.insert({ count: 2 });
    const [first = '', second = ''] = await stack.insert({ count: 2, tenant: 'tenant_xyz' });
    const verbose = await guide.run('retention reconcile --tenant tenant_abc --dry-run --verbose');
    expect([verbose.stdout.includes(abc), verbose.stdout.includes(first)]).toEqual([true, false]);
    await guide.run('retention reconcile --tenant tenant_abc');
    expect(await stampsOf(abc, first, second)).toEqual([true, false, false]);
    guide.put('RUN', first, second);
    await guide.run('retention reconcile --run RUN --run RUN');
    expect(await stampsOf(abc, first, second)).toEqual([true, true, true]);
  }

  /** 4. Getting a result back */
  async function followRestore(guide: Story): Promise<void> {
    await stack.keepVersions();
    const [runId = ''] = await stack.insert();
    await guide.type('retention reconcile');
    expect(stack.s3().hasObject('dpp-results', `results/${runId}`)).toBe(false);
    guide.put('RUN', runId);
    await guide.run('retention restore RUN');
    expect(stack.s3().hasObject('dpp-results', `results/${runId}`)).toBe(true);
    expect(await stampsOf(runId)).toEqual([false]);
    await guide.type('retention reconcile');
    expect(await stampsOf(runId)).toEqual([false]);

    await guide.sql('update retention.bucket set on_versioned');
    const bucket = `from retention.bucket where bucket = 'dpp-results'`;
    expect(await sql(`select on_versioned ${bucket}`)).toBe('purge');
    const [purged = ''] = await stack.insert();
    await guide.type('retention reconcile');
    guide.put('RUN', purged);
    await guide.type(`retention restore ${purged}`, { code: 1 });
    await sql(`update retention.bucket set on_versioned = 'marker'`);

    const LifecycleConfiguration = JSON.parse(guide.text('DPP-Result-Noncurrent')) as {
      readonly Rules: [];
    };
    await stack.client().send(
      new PutBucketLifecycleConfigurationCommand({
        Bucket: 'dpp-results',
        LifecycleConfiguration,
      }),
    );
    // "Rules that go well with it": nothing is wrong with this one.
    const doctor = await guide.type('retention doctor');
    expect(doctor.stdout).toMatch(/lifecycle/u);
  }

  /** 5. Troubleshooting */
  async function followTroubleshooting(guide: Story): Promise<void> {
    const [refused = ''] = await stack.insert({ prefix: 'locked/' });
    await denyDeleting('locked/*');
    const failing = await guide.type('retention reconcile', { code: 1 });
    expect(
      linesMissing(guide.text('ERROR Failed to delete'), shapesOf(withoutTime(failing.stderr))),
    ).toEqual([]);
    const statement = JSON.parse(guide.text('"Effect": "Allow"')) as unknown;
    const { Statement } = JSON.parse(readFileSync('deploy/iam/delete.json', 'utf8')) as {
      readonly Statement: readonly unknown[];
    };
    expect(Statement).toContainEqual(expect.objectContaining(statement as object));
    await stack.client().send(new DeleteBucketPolicyCommand({ Bucket: 'dpp-results' }));
    await guide.run('retention retry --code AccessDenied');
    await guide.type('retention reconcile');
    expect(await stampsOf(refused)).toEqual([true]);

    const listens = { until: 'Listening for notifications' };
    for (const ceiling of [
      'DPP_RETENTION_MAX_DELETES_PER_SECOND=200',
      'DPP_RETENTION_BATCH_SIZE=100',
      'DPP_RETENTION_CONCURRENCY=1',
    ]) {
      await guide.set(ceiling, 'retention listen', listens);
    }
    expect(await setting('batch_size')).toBe('100');

    const [gone = ''] = await stack.insert({ prefix: 'gone/', days: 5 });
    await sql(`update runs set result_s3_key = 'gone/elsewhere' where run_id = '${gone}'`);
    const dry = await guide.run('retention reconcile --verify --dry-run');
    expect([dry.stdout, await stampsOf(gone)]).toEqual([expect.stringMatching(/1/u), [false]]);
    await guide.run('retention reconcile --verify');
    expect(await stampsOf(gone)).toEqual([true]);

    await sql('select retention.flag_expired(p_whole => true)');
    await sql('update retention.setting set surge_guard = 2');
    await stack.insert({ count: 3, tenant: 'tenant_late', days: 400 });
    await sql('select retention.flag_expired(p_whole => true)');
    const id = await sql('select max(surge_id) from retention.surge');
    await guide.run('retention surge list');
    guide.put('show 1', `show ${id}`);
    guide.put('release 1 --expect 200000', `release ${id} --expect 3`);
    const shown = await guide.run('retention surge show 1');
    expect(shown.stdout).toContain('3 results set aside');
    const released = await guide.run('retention surge release 1 --expect 200000');
    expect(released.stdout).toContain('3 results are released');

    await guide.run('retention history --tenant tenant_abc --since 30d');
    const who = await guide.run('retention history --setting enabled');
    expect(who.stdout).toMatch(/enabled: .* -> .*, by postgres \(retention.*\)/u);
    guide.put('abc123', gone);
    guide.put('2026-04-01T09:30Z', new Date(Date.now() - 1_000).toISOString());
    const then = await guide.run('retention explain abc123 --at 2026-04-01T09:30Z');
    expect(then.stdout).toContain(`Run ${gone} at `);
  }

  /** 6. Auditors' requests */
  async function followAuditors(guide: Story): Promise<void> {
    guide.put('/etc/retention', guide.folder);
    const made = await guide.run('retention proof key --out /etc/retention/signing-key.pem');
    expect(made.stdout).toContain('-----BEGIN PUBLIC KEY-----');
    await guide.run('export RETENTION_SIGNING_KEY_FILE=/etc/retention/signing-key.pem');
    const certify = 'retention certificate --tenant tenant_abc --from 2025-01-01 --to 2025-04-01';
    const certified = await guide.run(`${certify} --out tenant_abc-2025-q1`);
    expect(certified.stdout).toContain('Difference: 0');
    await guide.run(`${certify} --out tenant_abc-2025-q1-public --no-keys`);
    expect(existsSync(join(guide.folder, 'tenant_abc-2025-q1-public/CHECK.md'))).toBe(true);
  }

  const cleared = (): Promise<number> => stack.count('result_cleared_at is not null');
  const stampsOf = (...runIds: readonly string[]): Promise<boolean[]> =>
    Promise.all(
      runIds.map(
        async (id) => (await stack.count(`result_cleared_at is not null and run_id = '${id}'`)) > 0,
      ),
    );

  async function denyDeleting(keys: string): Promise<void> {
    const Statement = [
      {
        Effect: 'Deny',
        Principal: '*',
        Action: 's3:DeleteObject',
        Resource: `arn:aws:s3:::dpp-results/${keys}`,
      },
    ];
    const Policy = JSON.stringify({ Version: '2012-10-17', Statement });
    await stack.client().send(new PutBucketPolicyCommand({ Bucket: 'dpp-results', Policy }));
  }
});

function withoutTime(text: string): string {
  return text.replaceAll(/^\S+Z /gmu, '');
}
