import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { startCli } from '../support/cli.ts';
import { describeDatabase } from '../support/database.ts';
import { linesMissing, shapeOf, shapesOf } from '../support/document-steps.ts';
import { type Story, openStory } from '../support/document-story.ts';
import { OWNER, useOperatorStack } from '../support/operator-stack.ts';
import { startPsql } from '../support/psql.ts';
import { until } from '../support/until.ts';

const ADDRESS = 'postgres://app_owner:secret@db.example.com';
const PACKED = 'test/system/package.test.ts packs it, installs it elsewhere, and runs it there';
const LONG = { timeout: 600_000 };
const LISTENS = { until: 'Listening for notifications' };

describeDatabase('what the README and the pages beside it show', () => {
  const stack = useOperatorStack();
  const sql = (text: string, database?: string): Promise<string> =>
    stack.server().sql(text, database);
  let database = 'app';
  /** What the quick start has exported; the pages are read by the same person. */
  let shell: Record<string, string | undefined> = {};

  function open(path: string): Story {
    const variables = { ...stack.variables(), ...shell };
    return openStory(path, { databaseUrl: () => stack.server().url(database), variables });
  }

  test('the README goes as written, with the variables of its quick start', LONG, async () => {
    const guide = open('README.md');
    guide.text('pg_cron ----');
    await followQuickStart(guide);
    shell = { ...guide.variables };
    const said = await seeItInPsql(guide);
    const log = open('docs/observing.md').text('Starting Retention Loop');
    expect(linesMissing(log, said)).toEqual([]);
    await followPolicies(guide);
    guide.end();
  });

  test('the page about policies and holds goes as written', LONG, async () => {
    await sql(`truncate runs;
      update retention.hold set released_by = 'ada', released_at = now() - interval '2 hours'`);
    await stack.insert({ count: 4, days: 100 });
    await stack.insert({ count: 4, days: 100, tenant: 'tenant_xyz' });
    const guide = open('docs/policies.md');
    await guide.run('retention reconcile --dry-run');
    guide.end();
  });

  test('the page about settings goes as written', LONG, async () => {
    const guide = open('docs/settings.md');
    await guide.sql('select retention.configure');
    await guide.type('retention reconcile', { code: 1 });
    await sql(`select retention.configure('{"enabled": true}')`);
    guide.end();
  });

  test('the pages about the database and going back go as written', LONG, async () => {
    const guide = open('docs/database.md');
    await followTables(guide);
    await followRoles(guide);
    guide.end();
    await sql(`select retention.place_hold('to be lost', p_tenant_id => 'tenant_abc')`);
    const back = open('docs/going-back.md');
    await back.run('npx retention migrate down', { answer: 'y' });
    expect(await sql(`select to_regnamespace('retention') is null`)).toBe('t');
    back.end();
  });

  test('the command reference goes as written, and the page about upgrading', LONG, async () => {
    const guide = open('docs/commands.md');
    await followReference(guide);
    guide.end();
    const upgrade = open('docs/upgrading.md');
    await upgrade.run('npx retention migrate status');
    await upgrade.run('npx retention migrate up');
    await upgrade.run('npx retention doctor');
    await upgrade.run('npx retention status');
    upgrade.end();
  });

  async function followQuickStart(guide: Story): Promise<void> {
    // The table is the one that is shown, and its owner gets what a superuser is shown to grant.
    await sql('drop table runs');
    await guide.sql('create table runs');
    await sql(`alter table runs owner to ${OWNER}`);
    await guide.sql('create extension pg_cron');
    const statement = JSON.parse(guide.text('"Effect": "Allow"')) as unknown;
    const policy = JSON.parse(readFileSync('deploy/iam/delete.json', 'utf8')) as {
      readonly Statement: readonly unknown[];
    };
    expect(policy.Statement).toContainEqual(expect.objectContaining(statement as object));
    guide.notHere('npm ci && npm run build && npm pack', PACKED);
    guide.notHere('npm install ./retention-reactor-0.1.0.tgz', PACKED);

    guide.put(`${ADDRESS}:5432/app`, stack.server().url('app', OWNER));
    guide.put('eu-central-1', stack.s3().region);
    await guide.run(`export DATABASE_URL=${ADDRESS}:5432/app`);
    await guide.run('export S3_RESULT_BUCKET=dpp-results AWS_REGION=eu-central-1');
    await guide.run('npx retention migrate up');
    await guide.run('npx retention doctor');
    await guide.run('npx retention reconcile --dry-run');
    // npx ends as interrupted itself, however what it ran has ended.
    const listened = await guide.run('npx retention listen', { ...LISTENS, code: 130 });
    expect(listened.stderr).toContain('INFO Stopped');
  }

  /** Types what the transcript shows, and finds what it shows printed. Returns what the listener said. */
  async function seeItInPsql(guide: Story): Promise<ReadonlySet<string>> {
    // It ticks every minute; the test does not wait for that.
    await sql(`update retention.heartbeat set ticked_at = now(), ticked_by = 'pg_cron'`);
    await using listener = startCli(['listen'], { env: guide.variables });
    await listener.waitForLine(LISTENS.until);
    const session = startPsql(stack.server().url('app', OWNER), stack.server().psqlPath);
    onTestFinished(() => session.close());
    for (let key = 31; key <= 34; key += 1)
      stack.s3().putObject('dpp-results', `results/${key}.json`);
    const shown = guide.text('app=>').split('\n');
    const typed = shown.filter((line) => /^app[=-]> /u.test(line));
    for (const line of typed) {
      // What is looked at has to be over; a person looks when it is.
      if (line.includes('> select result_s3_key'))
        await workIsDone(() => `${session.output}\n${listener.stderr}`);
      session.type(line.replace(/^app[=-]> /u, ''));
    }
    const printed = shown.filter((line) => line !== '' && !typed.includes(line)).map(shapeOf);
    await until(
      'psql has printed all that is shown',
      () => {
        session.type(';');
        const lines = new Set(session.output.split('\n').map(shapeOf));
        return printed.every((line) => lines.has(line));
      },
      { pollMs: 100, seen: () => session.output },
    );
    await listener.waitForLine('Found 2 expired runs');
    listener.kill();
    expect((await listener.ended()).code).toBe(0);
    return shapesOf(listener.stderr);
  }

  async function workIsDone(seen: () => string): Promise<void> {
    await until(
      'two are cleared',
      async () => (await sql('select cleared_today, flagged from retention.status')) === '2|0',
      { seen },
    );
  }

  async function followPolicies(guide: Story): Promise<void> {
    await stack.insert({ count: 3, tenant: 'tenant_new', days: 20 });
    await guide.run('retention policy set tenant_abc 90d');
    const shorter = await guide.run(`retention policy set '*' 2w`, { answer: 'y' });
    expect(shorter.stdout).toContain('This makes 3 live results due at once:');
    const place = "retention hold place --tenant tenant_abc --reason 'audit 2026-7' --for 90d";
    expect((await guide.run(place)).stdout).toMatch(/\b2\b/u);
    await guide.run('retention hold release 2');
    expect(await guide.sql('select hold_id, too_late')).toMatch(/3 \| +0/u);
    expect(await sql('select count(*) from retention.hold where released_at is null')).toBe('1');

    await guide.type('retention reconcile');
    await sql('update retention.setting set surge_guard = 10');
    await stack.insert({ count: 20, tenant: 'tenant_late', days: 100 });
    await sql('select retention.flag_expired(null, null, true)');
    await sql('update retention.setting set surge_guard = 1000');
    await guide.run('retention surge list');
    await guide.run('retention surge show 1');
    const released = await guide.run('retention surge release 1 --expect 20');
    expect(released.stdout).toContain('20 results are released');
  }

  /** The settings that map other tables, each on such a table. */
  async function followTables(guide: Story): Promise<void> {
    const inApp = { ...guide.variables };
    for (const [settings, table] of TABLES) {
      database = await makeDatabase(table);
      Object.assign(guide.variables, {
        DATABASE_URL: stack.server().url(database),
        RETENTION_SCHEDULER: 'internal',
      });
      await guide.set(settings, 'retention migrate up');
      expect(await sql('select count(*) from retention.result', database)).toBe('0');
    }
    Object.assign(guide.variables, inApp, { RETENTION_SCHEDULER: undefined });
    database = 'app';
  }

  /** Another server would do as well: no schema, no runs, pg_cron for the owner. */
  async function startAgain(): Promise<void> {
    await sql(`drop schema retention cascade; drop extension pg_cron; truncate runs;
      alter table runs drop column result_cleared_at`);
  }

  async function followRoles(guide: Story): Promise<void> {
    await startAgain();
    expect(guide.text('shared_preload_libraries')).toContain("cron.database_name = 'app'");
    await guide.sql('create extension pg_cron');
    await guide.sql('create role retention_listener');
    guide.put(`${ADDRESS}/app`, stack.server().url('app', OWNER));
    guide.put(
      'postgres://retention_listener:secret@db.example.com/app',
      stack.server().url('app', 'retention_listener'),
    );
    await guide.run(
      `DATABASE_MIGRATE_URL=${ADDRESS}/app DATABASE_URL=postgres://retention_listener:secret@db.example.com/app RETENTION_ROLE=retention_listener npx retention migrate up`,
    );
    const asListener = { DATABASE_URL: stack.server().url('app', 'retention_listener') };
    const owner = guide.variables['DATABASE_URL'];
    Object.assign(guide.variables, asListener);
    await stack.insert({ count: 2 });
    await guide.type('retention reconcile');
    expect(await stack.count('result_cleared_at is not null')).toBe(2);
    // Operators have a role of their own.
    await sql('create role retention_operator login');
    await sql(`select retention.grant_rights('retention_operator', 'operator')`);
    Object.assign(guide.variables, {
      DATABASE_URL: stack.server().url('app', 'retention_operator'),
    });
    for (const command of OPERATORS_COMMANDS) await guide.type(`retention ${command}`);
    Object.assign(guide.variables, { DATABASE_URL: owner });

    await guide.type('retention migrate down --yes');
    await guide.run(
      'npx node-pg-migrate up --no-verbose -m node_modules/retention-reactor/migrations --migrations-schema retention --create-migrations-schema',
    );
  }

  /** The examples of the command reference. */
  async function followReference(guide: Story): Promise<void> {
    const owner = guide.variables['DATABASE_URL'] ?? '';
    guide.put('postgres://owner@db/app', owner);
    guide.put('postgres://retention@db/app', owner);
    expect(
      (await guide.run('DATABASE_URL=postgres://owner@db/app retention init')).stdout,
    ).toContain('The table can be adopted: retention migrate up');
    await guide.run('DATABASE_URL=postgres://owner@db/app retention migrate up');
    await guide.run('retention migrate down --yes');
    await guide.type('retention migrate up');
    const applied = await guide.run('retention migrate status --json');
    expect(JSON.parse(applied.stdout)).toBeTypeOf('object');
    const text = await guide.run('retention migrate sql --from 0003');
    expect(text.stdout).toContain('create or replace function retention.claim(');
    mkdirSync(join(guide.folder, 'sql'));
    await guide.run('retention migrate sql --no-transaction > sql/V42__retention.sql');
    await guide.run('DATABASE_URL=postgres://retention@db/app retention listen', LISTENS);
    const [live = ''] = await stack.insert({ days: 5 });
    await guide.run('retention reconcile --dry-run');
    await guide.run('retention reconcile --tenant tenant_abc --older-than 30d --batch-size 100');
    await guide.run('retention reconcile --older-than 14d --all --expect 2500');
    await guide.run('retention reconcile --verify --orphans --dry-run');
    const status = await guide.run('retention status --json');
    expect(JSON.parse(status.stdout)).toMatchObject({ due: 0 });
    await guide.run('retention status --watch --interval 10s', { until: 'due' });
    await guide.run('retention watch', LISTENS);
    guide.put('5f2c1c1e-9d5e-4c55-8a0c-0d6d9c1c7f11', live);
    expect(
      (await guide.run(`retention explain 5f2c1c1e-9d5e-4c55-8a0c-0d6d9c1c7f11`)).stdout,
    ).toContain(live);
    await guide.run('retention history --tenant tenant_abc --since 90d');
    await guide.run('retention upcoming --days 30 --tenant tenant_abc');
    await guide.run('retention policy list --json');
    await guide.run('retention policy set tenant_abc 90d');
    await guide.run(`retention policy set '*' 2w --yes`);
    await guide.run('retention policy unset tenant_abc');
    // Another hand makes more due than the guard lets through.
    await stack.insert({ count: 1_001, days: 12 });
    await sql(`select retention.set_policy('*', '10 days')`);
    await guide.run(`retention policy confirm '*'`, { answer: 'y' });

    await guide.run('retention hold place --tenant tenant_abc --reason "audit 2026-04" --for 90d');
    await guide.type(`retention hold place --run ${live} --reason twice`);
    const holds = (await sql('select hold_id from retention.hold order by 1')).split('\n');
    guide.put('12 13', holds.join(' '));
    await guide.run('retention hold release 12 13');
    await guide.run('retention hold list --all --json');
    await followPeople(guide);
    await followDoubt(guide);
    await followBuckets(guide);
    await guide.run('retention halt --reason "wrong policy, see incident 114"');
    expect(await sql('select reason from retention.gate()')).toBe('halted');
    await guide.run('retention resume');
    expect(await sql('select count(*) from retention.gate()')).toBe('0');
    await guide.run('retention fence show');
    await guide.run('retention fence accept --reason "failed over to the standby, incident 114"');
    await followWebhook(guide);
    await guide.run('retention retry --all');
    await guide.run('retention retry --bucket dpp-results --code AccessDenied');
    await stack.keepVersions();
    const [cleared = ''] = await stack.insert({ tenant: 'tenant_xyz' });
    await guide.type('retention reconcile --tenant tenant_xyz');
    guide.put('0190c5a2-7d5c-7f0e-9a51-0a4b6a1e2f33', cleared);
    await guide.run('retention restore 0190c5a2-7d5c-7f0e-9a51-0a4b6a1e2f33 --hold-for 14d');
    expect(stack.s3().hasObject('dpp-results', `results/${cleared}`)).toBe(true);
    await followProof(guide);
    await guide.run('retention doctor');
    expect((await guide.run('retention schema')).stdout).toContain('hold list');
    await guide.run('retention schema hold list');
    await guide.run('retention schema retention_attention');
  }

  async function followWebhook(guide: Story): Promise<void> {
    const posted: string[] = [];
    const server = createServer((request, response) => {
      posted.push(String(request.headers['webhook-signature']));
      request.resume().on('end', () => response.writeHead(204).end());
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const secret = join(guide.folder, 'webhook-secret');
    writeFileSync(secret, `whsec_${randomBytes(24).toString('base64')}\n`);
    guide.variables['RETENTION_WEBHOOK_URL'] = `http://127.0.0.1:${port}/`;
    guide.variables['RETENTION_WEBHOOK_SECRET_FILE'] = secret;
    await guide.run('retention webhook test');
    expect(posted).toEqual([expect.stringMatching(/^v1,/u)]);
    delete guide.variables['RETENTION_WEBHOOK_URL'];
    delete guide.variables['RETENTION_WEBHOOK_SECRET_FILE'];
    server.close();
  }

  async function followProof(guide: Story): Promise<void> {
    await guide.type('retention proof head > heads.txt');
    expect((await guide.run('retention proof verify')).stdout).toContain('All of it holds.');
    await guide.run('retention proof verify --head heads.txt --json');
    await guide.run('retention proof head >> heads.txt');
    await guide.run('retention proof export --out proof.jsonl');
    await guide.run('retention proof receipt-keys hashed');
    guide.put('/etc/retention', guide.folder);
    const key = '/etc/retention/signing-key.pem';
    const made = await guide.run(`retention proof key --out ${key}`);
    const shown = await guide.run(`RETENTION_SIGNING_KEY_FILE=${key} retention proof key --show`);
    expect(made.stdout).toContain(shown.stdout);
    guide.variables['RETENTION_SIGNING_KEY_FILE'] = join(guide.folder, 'signing-key.pem');
    const period = '--from 2025-01-01 --to 2025-04-01';
    const certified = await guide.run(
      `retention certificate --tenant tenant_abc ${period} --out tenant_abc-2025-q1`,
    );
    expect(certified.stdout).toContain('Difference: 0');
    await guide.run(
      'retention certificate --no-tenant --from 2025-01-01 --to 2025-02-01 --out 2025-01 --no-keys',
    );
  }

  async function followPeople(guide: Story): Promise<void> {
    await guide.run('retention approval list');
    const ask = `insert into retention.approval (kind, what, asked_by) values ('surge', '{}', 'ada') returning approval_id`;
    const idOf = async (): Promise<string> => (await sql(ask)).split('\n')[0] ?? '';
    guide.put('approve 7', `approve ${await idOf()}`);
    await guide.run('retention approval approve 7');
    guide.put('withdraw 7', `withdraw ${await idOf()}`);
    await guide.run('retention approval withdraw 7');
    await guide.run('retention guard list');
    await guide.run(`retention guard set cool_off '36 hours'`);
    await guide.run('retention guard set four_eyes on');
    await sql(`alter table retention.setting disable trigger guard_setting;
      update retention.setting set four_eyes = false, cool_off = null;
      alter table retention.setting enable trigger guard_setting`);
  }

  async function followDoubt(guide: Story): Promise<void> {
    await sql(`create table invoices (pdf_key text, keep_until date);
      create index on invoices (pdf_key); grant select on invoices to public`);
    await guide.run('retention keeper add public.invoices --key pdf_key --until keep_until');
    await guide.run('retention keeper remove public.invoices');
    await guide.run('retention keeper list');

    await sql('update retention.setting set surge_guard = 10');
    await stack.insert({ count: 20, tenant: 'tenant_late', days: 100 });
    await sql('select retention.flag_expired(null, null, true)');
    await sql('update retention.setting set surge_guard = 1000');
    const surges = await guide.run('retention surge list --json');
    const id = /"surge_id": (\d+)/u.exec(surges.stdout)?.[1] ?? '';
    guide.put('show 3', `show ${id}`);
    await guide.run('retention surge show 3');
    guide.put('release 3 --expect 200000', `release ${id} --expect 20`);
    await guide.run('retention surge release 3 --expect 200000');

    await guide.run('retention orphans --list orphans.jsonl --prefix results/');
    await sql(`update retention.orphan_list set made_at = made_at - interval '2 hours'`);
    await guide.run('retention orphans --delete --list orphans.jsonl');
    await guide.run('retention orphans --history');
  }

  async function followBuckets(guide: Story): Promise<void> {
    await stack.insert({ tenant: 'tenant_xyz' });
    await guide.type('retention reconcile --tenant tenant_xyz');
    await guide.run('retention bucket list');
    const set = await guide.run(
      'retention bucket set dpp-results --keys-per-request 100 --checksum md5',
    );
    expect(set.stdout).toContain('100 keys a request (set by hand)');
    await guide.run('retention bucket set dpp-results --max-per-second 2000 --max-in-flight 4');
    await guide.run('retention bucket forget dpp-results');
    // Nothing has looked since. Somebody else has deleted what is due.
    await stack.insert({ count: 8, tenant: 'tenant_gone', isWithoutObject: true });
    await guide.type('retention reconcile --tenant tenant_gone', { code: 1 });
    expect(await sql('select reason from retention.gate()')).toBe('objects missing');
    await guide.run('retention bucket confirm dpp-results');
    expect(await sql('select count(*) from retention.gate()')).toBe('0');
    await guide.type('retention reconcile --tenant tenant_gone');
  }

  async function makeDatabase(table: string): Promise<string> {
    const name = `other_${(databasesMade += 1)}`;
    await sql(`create database ${name}`, 'postgres');
    await sql(table, name);
    return name;
  }
});

const OPERATORS_COMMANDS = [
  'doctor',
  'status',
  'policy set tenant_abc 90d',
  'policy unset tenant_abc',
  'policy confirm',
  'hold place --tenant tenant_abc --reason audit',
  'hold list',
  'hold release 1',
  'retry --all',
  'reconcile --verify --orphans',
  'migrate status',
];

let databasesMade = 0;

/** The settings of "Other tables and columns", and tables that they are for. */
const TABLES: readonly (readonly [settings: readonly string[], table: string])[] = [
  [
    ['RETENTION_COLUMNS=bucket=result_bucket,key=result_key'],
    `create table runs (run_id uuid primary key, tenant_id text, status text,
      completed_at timestamptz, result_bucket text, result_key text, updated_at timestamptz)`,
  ],
  [
    [`RETENTION_COLUMNS="bucket='dpp-results',updated_at="`],
    `create table runs (run_id uuid primary key, tenant_id text, status text,
      completed_at timestamptz, result_s3_key text)`,
  ],
  [
    [
      'RETENTION_TABLE=jobs.job',
      'RETENTION_COLUMNS=run_id=job_id,tenant_id=customer,status=state,completed_at=finished_at,bucket=result_bucket,key=result_key,retain_until=keep_until,updated_at=',
    ],
    `create schema jobs; create table jobs.job (job_id bigint primary key, customer text, state text,
      finished_at timestamptz, result_bucket text, result_key text, keep_until timestamptz)`,
  ],
];
