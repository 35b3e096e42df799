import { readFileSync, readdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type MemoryS3, startMemoryS3 } from '../stack/memory-s3.ts';
import type { PrivatePostgres } from '../stack/private-postgres.ts';
import { type CliResult, type Variables, runCli, startCli } from '../support/cli.ts';
import { memoryS3Variables } from '../support/cli-stack.ts';
import { describeDatabase, startOwnPostgres } from '../support/database.ts';
import { reply, startScriptedS3 } from '../support/scripted-s3.ts';
import { until } from '../support/until.ts';

// Each secret has a mark of its own, and what URLs must encode.
const PASSWORDS = {
  reader: 'pw-of-the-reader@/:#?&%+ é',
  hearer: 'pw-of-the-hearer@/:#?&%+ é',
  owner: 'pw-of-the-owner@/:#?&%+ é',
} as const;
const AWS_SECRET = 'aws/secret+of/the+listener=';
const TOKEN = `session/token+${'x'.repeat(300)}==`;

/** Every form in which a secret may come out. A part of it is a leak as well. */
const FORMS: readonly string[] = [
  ...Object.keys(PASSWORDS).map((name) => `pw-of-the-${name}`),
  ...Object.values(PASSWORDS).flatMap((password) => [
    encodeURIComponent(password),
    Buffer.from(password).toString('base64').slice(0, 20),
  ]),
  'aws/secret+of',
  encodeURIComponent('aws/secret+of'),
  'session/token',
  encodeURIComponent('session/token'),
];

function expectNoSecret(text: string, where: string): void {
  for (const form of FORMS) {
    const at = text.indexOf(form);
    expect(at < 0 ? '' : text.slice(Math.max(0, at - 200), at + 40), where).toBe('');
  }
}

describeDatabase('secrets', () => {
  let server: PrivatePostgres;
  let s3: MemoryS3;
  let folder: string;

  const address = (user: keyof typeof PASSWORDS, more: { port?: number; host?: string } = {}) =>
    `postgresql://${user}:${encodeURIComponent(PASSWORDS[user])}@${more.host ?? '127.0.0.1'}:${more.port ?? server.port}/app`;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'retention-secrets-'));
    server = await startOwnPostgres();
    const hba = join(server.folder, 'data', 'pg_hba.conf');
    writeFileSync(
      hba,
      `host all ${Object.keys(PASSWORDS).join(',')} 127.0.0.1/32 scram-sha-256\n${readFileSync(hba, 'utf8')}`,
    );
    for (const [name, password] of Object.entries(PASSWORDS)) {
      await server.sql(`create role ${name} login password '${password}'`);
    }
    await server.sql(
      `alter role owner superuser; alter table runs owner to owner; grant create on schema public to owner`,
    );
    // From here on, with the values of parameters.
    await server.sql(`alter system set log_statement = 'all'`);
    await server.sql('select pg_reload_conf()');
    s3 = await startMemoryS3({
      users: [{ name: 'owner', accessKeyId: 'KNOWN', secretAccessKey: AWS_SECRET }],
    });
    s3.createBucket('dpp-results');
  });
  afterAll(async () => {
    await s3?.stop();
    await server?.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  afterEach(() => {
    // No crash dump, no report, no heap.
    expect(readdirSync(folder)).toEqual([]);
  });

  const env = (more: Variables = {}): Variables => ({
    ...memoryS3Variables(s3),
    DATABASE_URL: address('reader'),
    DATABASE_LISTEN_URL: address('hearer'),
    DATABASE_MIGRATE_URL: address('owner'),
    RETENTION_SCHEDULER: 'internal',
    AWS_ACCESS_KEY_ID: 'KNOWN',
    AWS_SECRET_ACCESS_KEY: AWS_SECRET,
    AWS_SESSION_TOKEN: TOKEN,
    LOG_LEVEL: 'DEBUG',
    ...more,
  });

  async function run(parameters: readonly string[], more: Variables = {}): Promise<CliResult> {
    const result = await runCli(parameters, { env: env(more), cwd: folder });
    const where = `retention ${parameters.join(' ')}`;
    expectNoSecret(result.stdout, `${where}, stdout`);
    expectNoSecret(result.stderr, `${where}, stderr`);
    return result;
  }

  async function migrated(): Promise<void> {
    const { code, stderr } = await run(['migrate', 'up']);
    expect(stderr).not.toContain('error:');
    expect(code).toBe(0);
    for (const role of ['reader', 'hearer']) {
      await server.sql(`select retention.grant_rights('${role}')`);
    }
  }

  describe.each(['true', 'false'])('with DPP_JSON_LOGS=%s', (json) => {
    const logs = { DPP_JSON_LOGS: json };

    test('no command tells one', async () => {
      await migrated();
      for (const parameters of [
        ['--help'],
        ['listen', '--help'],
        ['migrate', 'status'],
        ['status', '--json'],
        ['doctor'],
        ['doctor', '--json'],
        ['policy', 'list'],
        ['explain', 'no-such-run'],
        ['reconcile', '--dry-run'],
        ['reconcile', '--nonsense'],
        ['nonsense'],
      ]) {
        await run(parameters, logs);
      }
    });

    test('a listener at work tells none: not in its log, over HTTP or in the database', async () => {
      await migrated();
      await server.sql(`insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
        values ('acme', 'COMPLETED', now() - interval '31 days', 'dpp-results', 'a');
        select retention.flag_expired()`);
      await using listener = startCli(['listen'], {
        env: env({ ...logs, RETENTION_HTTP_PORT: '0' }),
        cwd: folder,
      });
      await listener.waitForLine('Listening for notifications');
      await until(
        'the run is cleared',
        async () =>
          (await server.sql('select count(*) from runs where result_cleared_at is null')) === '0',
      );
      const line = await listener.waitForLine('Serving health');
      const base = /http:\/\/[\w.:]+/u.exec(line)?.[0] ?? '';
      for (const path of ['/', '/healthz', '/readyz', '/status.json', '/metrics', '/nothing']) {
        const response = await fetch(base + path);
        expectNoSecret(JSON.stringify([...response.headers]) + (await response.text()), path);
      }
      expectNoSecret(
        await server.sql('select query, application_name, usename from pg_stat_activity'),
        'pg_stat_activity',
      );
      listener.kill();
      const { stdout, stderr } = await listener.ended();
      expect(stderr).toContain('Stopped');
      expectNoSecret(stdout, 'stdout');
      expectNoSecret(stderr, 'stderr');
    });

    test.each<readonly [name: string, faults: () => Variables]>([
      [
        'an address that cannot be read',
        () => ({ DATABASE_URL: `postgres://u:${PASSWORDS.reader}@[bad` }),
      ],
      ['an address without a scheme', () => ({ DATABASE_URL: `u:${PASSWORDS.reader}@h/d` })],
      [
        'a raw @ in the password',
        () => ({ DATABASE_URL: `postgres://u:${PASSWORDS.reader}@127.0.0.1:9/d` }),
      ],
      [
        'a password in the query',
        () => ({
          DATABASE_URL: `postgres://u@127.0.0.1:9/d?password=${encodeURIComponent(PASSWORDS.reader)}`,
        }),
      ],
      [
        'credentials in the endpoint',
        () => ({ S3_ENDPOINT_URL: `https://KNOWN:${encodeURIComponent(AWS_SECRET)}@127.0.0.1:9` }),
      ],
      [
        'a password in every wrong place',
        () => ({
          CRON_DATABASE_URL: PASSWORDS.owner,
          RETENTION_HTTP_PORT: address('reader'),
          S3_RESULT_BUCKET: address('hearer'),
          RETENTION_TABLE: address('owner'),
          LOG_LEVEL: address('owner'),
          RETENTION_COLUMNS: address('reader'),
        }),
      ],
      ['nobody there', () => ({ DATABASE_URL: address('reader', { port: 9 }) })],
      [
        'an unknown host',
        () => ({ DATABASE_URL: address('reader', { host: 'no-such-host.invalid' }) }),
      ],
      ['a wrong password', () => ({ DATABASE_URL: address('reader').replace('%20', 'wrong') })],
      [
        'an unknown role',
        () => ({ DATABASE_URL: address('reader').replace('//reader', '//nobody') }),
      ],
    ])('%s is said without it', async (_name, faults) => {
      for (const command of [['doctor'], ['migrate', 'up']]) {
        const { code, stdout, stderr } = await run(command, {
          ...logs,
          DATABASE_LISTEN_URL: undefined,
          DATABASE_MIGRATE_URL: undefined,
          ...faults(),
        });
        if (stdout === '') expect(stderr).not.toBe('');
        expect(code).toBeGreaterThan(0);
      }
    });
  });

  test('a store that echoes what it was sent is not echoed', async () => {
    await migrated();
    const scripted = await startScriptedS3();
    try {
      scripted.play((request, response) => {
        const echo = `${JSON.stringify(request.headers)} password=${PASSWORDS.reader}`
          .replaceAll('&', '&amp;')
          .replaceAll('<', '&lt;');
        reply(
          403,
          `<Error><Code>SignatureDoesNotMatch</Code><Message>no: ${echo}</Message>
          <CanonicalRequest>${echo}</CanonicalRequest></Error>`,
        )(request, response);
      });
      await server.sql(`insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
        values ('acme', 'COMPLETED', now() - interval '31 days', 'dpp-echo', 'a')`);
      const { code } = await run(['reconcile'], {
        DPP_JSON_LOGS: 'true',
        S3_ENDPOINT_URL: scripted.endpoint,
        RETENTION_S3_MAX_ATTEMPTS: '1',
      });
      expect(code).toBe(1);
      expect(scripted.requests.length).toBeGreaterThan(0);
      await run(['doctor'], {
        DPP_JSON_LOGS: 'true',
        S3_ENDPOINT_URL: scripted.endpoint,
        RETENTION_S3_MAX_ATTEMPTS: '1',
      });
      await run(['status']);
      expectNoSecret(
        await server.sql('select error from retention.flagged'),
        'retention.flagged',
      );
      expectNoSecret(
        await server.sql('select pause_error from retention.bucket'),
        'retention.bucket',
      );
    } finally {
      await scripted.stop();
      await server.sql(
        'delete from retention.batch; delete from runs',
      );
    }
  });

  test('what nobody catches is said without them, and leaves no report behind', async () => {
    const scratch = mkdtempSync(join(tmpdir(), 'retention-crash-'));
    const crash = join(scratch, 'crash.mjs');
    try {
      for (const fault of [
        'new URL(`http://u:${process.env.DATABASE_URL}@[bad`)',
        'throw Object.assign(new Error(process.env.DATABASE_URL), { config: process.env })',
        'Promise.reject(Object.assign(new Error("x"), { connectionString: process.env.DATABASE_URL }))',
        'throw { message: "thrown", env: process.env }',
      ]) {
        writeFileSync(crash, `setTimeout(() => { ${fault} }, 700);`);
        const { code, stderr } = await run(['listen'], { NODE_OPTIONS: `--import ${crash}` });
        expect(stderr).toContain('error: this should not happen: ');
        expect(code).toBe(1);
      }
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  });

  test("nor does the server's own log have them, with every statement written down", async () => {
    await migrated();
    await server.sql('create database elsewhere');
    await run(['migrate', 'up'], {
      RETENTION_SCHEDULER: 'pg_cron',
      CRON_DATABASE_URL: address('owner').replace('/app', '/elsewhere'),
    });
    expectNoSecret(readFileSync(server.logFile, 'utf8'), "the server's log");
  });
});
