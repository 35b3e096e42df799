import { chownSync, chmodSync, copyFileSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { PrivatePostgres } from '../stack/private-postgres.ts';
import { type Certificates, makeCertificates } from '../support/certificates.ts';
import { runCli, startCli } from '../support/cli.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase, startOwnPostgres } from '../support/database.ts';
import { migrateUp } from '../support/migrated.ts';
import { haveProgram } from '../support/programs.ts';
import { type TlsFront, startTlsFront } from '../support/tls-front.ts';
import { until } from '../support/until.ts';

const openssl = haveProgram('openssl');

let folder = '';
let ours: Certificates;
let theirs: Certificates;

beforeAll(() => {
  if (openssl.path === undefined) return;
  folder = mkdtempSync(join(tmpdir(), 'retention-tls-'));
  ours = makeCertificates(folder, 'ours');
  theirs = makeCertificates(folder, 'theirs');
});
afterAll(() => {
  if (folder !== '') rmSync(folder, { recursive: true, force: true });
});

describe.skipIf(openssl.path === undefined)('with certificates of an authority of our own', () => {
  describeDatabase('TLS to Postgres', () => {
    let server: PrivatePostgres;

    beforeAll(async () => {
      server = await startOwnPostgres();
      await migrateUp(server.url('app'));
      // The server reads its key as the user that it runs as.
      const { uid, gid } = statSync(join(server.folder, 'data'));
      for (const [from, name] of [
        [ours.certificateFile, 'server.crt'],
        [ours.keyFile, 'server.key'],
      ] as const) {
        const to = join(server.folder, 'data', name);
        copyFileSync(from, to);
        chownSync(to, uid, gid);
        chmodSync(to, 0o600);
      }
    });
    afterAll(() => server?.stop());

    async function speakTls(isOn: boolean): Promise<void> {
      await server.sql(`alter system set ssl = ${isOn ? 'on' : 'off'}`);
      await server.sql('select pg_reload_conf()');
      await until('it is so', async () => (await server.sql('show ssl')) === (isOn ? 'on' : 'off'));
    }

    const address = (host: string, { authorityFile }: Certificates): string =>
      `postgresql://postgres@${host}:${server.port}/app?sslmode=verify-full&sslrootcert=${authorityFile}`;

    test('the right authority and the right name: everything is encrypted, LISTEN too', async () => {
      await speakTls(true);
      const url = address('localhost', ours);
      await using listener = startCli(['listen'], {
        env: {
          DATABASE_URL: url,
          DPP_JSON_LOGS: 'false',
          AWS_REGION: 'us-east-1',
          S3_RESULT_BUCKET: '*',
        },
      });
      await listener.waitForLine('Listening for notifications');
      expect(
        await server.sql(`select count(*) > 1, bool_and(s.ssl) from pg_stat_activity a
          join pg_stat_ssl s using (pid) where a.application_name like 'retention%'`),
      ).toBe('t|t');
      const { code, stdout } = await runCli(['status', '--json'], { env: { DATABASE_URL: url } });
      expect(code).toBe(0);
      expect(JSON.parse(stdout)).toHaveProperty('due');
    });

    test('an authority for all of Node will do as well', async () => {
      await speakTls(true);
      const { code } = await runCli(['status'], {
        env: {
          DATABASE_URL: `postgresql://postgres@localhost:${server.port}/app?sslmode=verify-full`,
          NODE_EXTRA_CA_CERTS: ours.authorityFile,
        },
      });
      expect(code).toBe(0);
    });

    test.each<readonly [name: string, isOn: boolean, url: () => string, said: RegExp]>([
      ['another authority', true, () => address('localhost', theirs), /certificate.*sslrootcert/su],
      [
        'another name',
        true,
        () => address('127.0.0.1', ours),
        /127\.0\.0\.1.*certificate.*Connect by a name/su,
      ],
      ['no TLS at all', false, () => address('localhost', ours), /does not support SSL/u],
      [
        'an authority that is no file',
        true,
        () => `${address('localhost', ours)}.missing`,
        /ours-ca\.pem\.missing/u,
      ],
    ])('%s is refused with one clear message', async (_name, isOn, url, said) => {
      await speakTls(isOn);
      const { code, stdout, stderr } = await runCli(['status'], {
        env: { DATABASE_URL: url(), DPP_JSON_LOGS: 'false' },
      });
      expect(code).toBe(1);
      expect(stdout).toBe('');
      expect(stderr).toMatch(/^error: cannot connect to Postgres at /u);
      expect(stderr).toMatch(said);
      expect(stderr.trimEnd().split('\n').length).toBeLessThan(3);
      expect(stderr).not.toContain('    at ');
    });
  });

  describeDatabase('TLS to S3', () => {
    const stack = useCliStack();

    async function front(): Promise<TlsFront> {
      const started = await startTlsFront(Number(new URL(stack.s3().endpoint).port), ours);
      onTestFinished(() => started.stop());
      return started;
    }

    test('an authority of our own is trusted when Node is told of it', async () => {
      const { endpoint } = await front();
      await stack.insertResults({ count: 3 });
      const { code } = await stack.run(['reconcile'], {
        S3_ENDPOINT_URL: endpoint,
        NODE_EXTRA_CA_CERTS: ours.authorityFile,
      });
      expect(code).toBe(0);
      expect(await stack.countCleared()).toBe(3);
    });

    test.each([
      ['nobody vouches for', () => undefined],
      ['somebody else vouches for', () => theirs.authorityFile],
    ])('a store that %s is not asked; nothing is stamped, nothing counted', async (_name, file) => {
      const { endpoint } = await front();
      const { query } = stack.database();
      await stack.insertResults({ count: 3 });
      await query('select retention.flag_expired()');
      const listener = await stack.listen({
        S3_ENDPOINT_URL: endpoint,
        NODE_EXTRA_CA_CERTS: file(),
      });
      await until(
        'the batch is put off',
        async () => {
          const rows = await query('select from retention.batch where postponed > 0');
          return rows.length > 0;
        },
        { limitMs: 30_000 },
      );
      // Said after it is noted, and heard after it is said.
      await until('why is said', () => /pauses: .*certificate/u.test(listener.stderr), {
        seen: () => listener.stderr,
      });
      expect(stack.requests()).toEqual([]);
      expect(await stack.countCleared()).toBe(0);
      expect(await query('select attempts, dead_at, failed_at from retention.flagged')).toEqual(
        Array.from({ length: 3 }, () => ({ attempts: 0, dead_at: null, failed_at: null })),
      );
      expect(stack.s3().countObjects('dpp-results')).toBe(3);
    });
  });
});
