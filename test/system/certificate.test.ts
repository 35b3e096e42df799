import {
  PutBucketLifecycleConfigurationCommand,
  PutBucketVersioningCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { expect, onTestFinished, test } from 'vitest';
import { type Certificate, type CertificateRequest, certify, readConfig } from '../../src/index.ts';
import { DEFAULT_USERS } from '../stack/memory-s3.ts';
import { startBrowser } from '../support/browser.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { haveProgram } from '../support/programs.ts';

const execute = promisify(execFile);

/** An application that counts its runs and its tenants, and names its objects by both. */
const COUNTING = `
drop table runs;
create table runs (
  run_id bigint primary key,
  tenant_id text not null,
  status text not null,
  completed_at timestamptz,
  result_s3_bucket text,
  result_s3_key text,
  result_cleared_at timestamptz,
  updated_at timestamptz not null default now()
)`;

const TENANTS = 50;
const RUNS = 1_000;
const ACME = 'tenant-7';

const FILES = [
  'CHECK.md',
  'certificate.html',
  'certificate.json',
  'leaves.jsonl',
  'public-key.pem',
  'results.csv',
  'signature',
];

describeDatabase('a certificate of one tenant of fifty', () => {
  const stack = useCliStack({ before: COUNTING });

  function scratch(): string {
    const folder = mkdtempSync(join(tmpdir(), 'certificate-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    return folder;
  }

  /** The script and the openssl line of CHECK.md, as whoever has the folder alone takes them out of it. */
  function instructionsOf(folder: string): { script: string; openssl: string } {
    const text = readFileSync(join(folder, 'CHECK.md'), 'utf8');
    const block = (language: string): string => {
      const found = new RegExp(`^ *\`\`\`${language}\\n(?<code>.*?)^ *\`\`\`$`, 'msu').exec(text);
      return (found?.groups?.['code'] ?? '').replaceAll(/^ {3}/gmu, '');
    };
    return { script: block('js'), openssl: block('sh').trim() };
  }

  /** Runs in the folder without any variable, and so without this product. */
  async function alone(
    folder: string,
    program: string,
    words: readonly string[],
  ): Promise<{ code: number; said: string }> {
    try {
      const { stdout, stderr } = await execute(program, [...words], { cwd: folder, env: {} });
      return { code: 0, said: stdout + stderr };
    } catch (error) {
      const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
      return { code, said: stdout + stderr };
    }
  }

  /** A copy with the checker of its CHECK.md beside. */
  function copyOf(folder: string): string {
    const copy = join(scratch(), 'copy');
    cpSync(folder, copy, { recursive: true });
    writeFileSync(join(copy, 'check.mjs'), instructionsOf(folder).script);
    return copy;
  }

  const check = (folder: string): Promise<{ code: number; said: string }> =>
    alone(folder, process.execPath, ['check.mjs']);

  /** The same in a thread: a process for each of many would take minutes. Returns what it exits with. */
  async function checkInThread(folder: string): Promise<number> {
    const home = process.cwd();
    process.chdir(folder);
    try {
      const thread = new Worker(join(folder, 'check.mjs'), { stdout: true, stderr: true, env: {} });
      thread.on('error', () => undefined);
      return await new Promise<number>((resolve) => thread.once('exit', resolve));
    } finally {
      process.chdir(home);
    }
  }

  /** Fifty tenants with twenty runs each, of which every fifth has not fallen due, and a few odd ones of acme. */
  async function makeWorld(): Promise<void> {
    const { query } = stack.database();
    await query(
      `insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      select i, 'tenant-' || i % $1::int, 'COMPLETED',
        now() - case when i / $1 % 5 = 0 then interval '3 days' else interval '31 days' end,
        'dpp-results', case i when 57 then 'odd "key", with' || chr(10) || 'lines =1' else 'results/' || i || '.json' end
      from generate_series(0, $2::int - 1) i`,
      [TENANTS, RUNS],
    );
    const runs = await query<{ result_s3_key: string }>('select result_s3_key from runs');
    for (const { result_s3_key: key } of runs) stack.s3().putObject('dpp-results', key);
    await stack.database().store.placeHolds({ runIds: ['107'], reason: 'audit', by: 'kim' });
    await query(`select retention.set_policy('*', '29 days', true, true)`);
    await query(`select retention.set_policy('tenant-8', '20 days', true, true)`);
    await query('update retention.setting set batch_size = 300');
    await keepVersions();
  }

  /** Deletions leave markers, and a rule takes away what is under them two weeks later. */
  async function keepVersions(): Promise<void> {
    const { endpoint, region } = stack.s3();
    const client = new S3Client({
      endpoint,
      region,
      forcePathStyle: true,
      credentials: DEFAULT_USERS[0],
    });
    onTestFinished(() => client.destroy());
    const Bucket = 'dpp-results';
    await client.send(
      new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: 'Enabled' } }),
    );
    await client.send(
      new PutBucketLifecycleConfigurationCommand({
        Bucket,
        LifecycleConfiguration: {
          Rules: [
            {
              ID: 'noncurrent',
              Status: 'Enabled',
              Filter: { Prefix: '' },
              NoncurrentVersionExpiration: { NoncurrentDays: 14 },
            },
          ],
        },
      }),
    );
  }

  const period = async (): Promise<readonly string[]> => {
    const { first, last } = await stack
      .database()
      .one<{ first: Date; last: Date }>(
        `select now() - interval '10 days' as first, now() as last`,
      );
    return ['--from', first.toISOString(), '--to', last.toISOString()];
  };

  test('adds up, is checked by the text of CHECK.md alone, and tells nothing of the others', async () => {
    await makeWorld();
    const { query } = stack.database();
    const reconciled = await stack.run(['reconcile']);
    expect(reconciled.code, reconciled.stderr).toBe(0);
    // By hand, and without a row.
    await query('update runs set result_cleared_at = null where run_id = 157');
    await query('delete from runs where run_id = 207');

    const home = scratch();
    const keyFile = join(home, 'key.pem');
    const env = { RETENTION_SIGNING_KEY_FILE: keyFile };
    const made = await stack.run(['proof', 'key', '--json'], env);
    expect(made.code, made.stderr).toBe(0);
    const { sha256 } = JSON.parse(made.stdout) as { sha256: string };
    expect((statSync(keyFile).mode & 0o777).toString(8)).toBe('600');
    const secret = readFileSync(keyFile, 'utf8').split('\n')[1] ?? '';
    expect(made.stdout + made.stderr).not.toContain(secret);

    const note = 'Backups of the bucket are kept for 35 days.';
    const folder = join(home, 'acme');
    const said = await stack.run(
      [
        'certificate',
        '--tenant',
        ACME,
        ...(await period()),
        '--out',
        folder,
        '--note',
        note,
        '--json',
      ],
      env,
    );
    expect(said.code, said.stderr).toBe(0);
    const certificate = JSON.parse(said.stdout) as Certificate;
    expect(readdirSync(folder).toSorted()).toEqual(FILES);
    expect(readdirSync(home).toSorted()).toEqual(['acme', 'key.pem']);

    // 20 runs, of which 4 have not fallen due, one is held, one has no stamp any more, and one no row.
    expect(certificate.population).toMatchObject({ counted: 15, difference: 0 });
    expect(certificate.population.results).toMatchObject({
      gone: 13,
      held: 1,
      unstamped: 1,
      not_yet: 0,
    });
    expect(certificate.beside.results).toMatchObject({ row_gone: 1, early: 0, due_outside: 0 });
    expect(await query(certificate.population.query)).toHaveLength(15);
    // The bucket keeps versions: each receipt says which marker, and the certificate until when the rest is there.
    expect(certificate.gone.by_end).toMatchObject({ deleted: 0, marker: 13 });
    expect(certificate.not_covered.join('\n')).toMatch(
      /15 results in the bucket dpp-results ended with a delete marker: .* removes it 14 days later/u,
    );
    expect(certificate).toMatchObject({ leaves: 15, not_sealed: 0, public_key: sha256 });

    await isChecked(folder, certificate);
    await changesShow(folder);
    tellsNothing(folder);
    await staysOnOnePage(join(folder, 'certificate.html'), note);
    const hidden = join(home, 'without-keys');
    const [, from = '', , to = ''] = await period();
    await hidesKeys(
      hidden,
      await certify({
        config: readConfig(stack.env(env)),
        tenant: ACME,
        from: new Date(from),
        to: new Date(to),
        out: hidden,
        keys: false,
      }),
    );
    await refuses(env, home);
  });

  async function isChecked(folder: string, { head }: Certificate): Promise<void> {
    const { script, openssl } = instructionsOf(folder);
    expect(script.trimEnd().split('\n').length).toBeLessThanOrEqual(40);
    const [program = '', ...words] = openssl.split(' ');
    const signed = await alone(folder, program, words);
    expect(signed).toEqual({
      code: 0,
      said: expect.stringContaining('Verified Successfully') as string,
    });
    const checked = await check(copyOf(folder));
    expect(checked).toEqual({
      code: 0,
      said: expect.stringContaining(`${head?.seal}-${head?.digest}`) as string,
    });
    // The head is the one that is printed for keeping.
    const printed = await stack.run(['proof', 'head']);
    expect(printed.stdout.trim()).toBe(`${head?.seal}-${head?.digest}`);
  }

  async function changesShow(folder: string): Promise<void> {
    const copy = copyOf(folder);
    for (const name of FILES) {
      const whole = readFileSync(join(copy, name));
      for (const place of [0, Math.floor(whole.length / 2), whole.length - 1]) {
        const changed = Buffer.from(whole);
        changed[place] = (changed[place] ?? 0) ^ 1;
        writeFileSync(join(copy, name), changed);
        expect(await checkInThread(copy), `byte ${place} of ${name}`).not.toBe(0);
      }
      writeFileSync(join(copy, name), whole);
    }
    expect(await checkInThread(copy)).toBe(0);
  }

  /** Nothing that stands there, and nothing that could be tried out: ids are small and keys have a pattern. */
  function tellsNothing(folder: string): void {
    const text = FILES.filter((name) => name !== 'signature')
      .map((name) => readFileSync(join(folder, name), 'utf8'))
      .join('\n');
    for (let tenant = 0; tenant < TENANTS; tenant += 1) {
      if (`tenant-${tenant}` === ACME) continue;
      expect(text).not.toMatch(new RegExp(`tenant-${tenant}(?![0-9])`, 'u'));
    }
    const own = new Set<number>();
    for (let run = 7; run < RUNS; run += TENANTS) own.add(run);
    const named = [...text.matchAll(/results\/(\d+)\.json/gu)].map(([, run]) => Number(run));
    expect(named.filter((run) => !own.has(run))).toEqual([]);
    expect(named.length).toBeGreaterThan(13);
    const digests = new Set(text.match(/\b[0-9a-f]{64}\b/gu));
    expect(digests.size).toBeGreaterThan(50);
    const salts = [...new Set(text.match(/\b[0-9a-f]{32}\b/gu)), ''].map((hex) =>
      Buffer.from(hex, 'hex'),
    );
    const found: string[] = [];
    for (let run = 0; run < RUNS; run += 1) {
      if (own.has(run)) continue;
      const key = `results/${run}.json`;
      const tenant = `tenant-${run % TENANTS}`;
      const leaf = JSON.stringify([String(run), tenant, key, 'marker', null]);
      for (const guess of [
        String(run),
        key,
        `${run}:${key}`,
        tenant,
        leaf,
        `["${run}","${key}"]`,
      ]) {
        for (const salt of salts) {
          const digest = createHash('sha256').update(salt).update(guess).digest('hex');
          if (digests.has(digest)) found.push(guess);
        }
      }
    }
    expect(found).toEqual([]);
  }

  async function staysOnOnePage(page: string, note: string): Promise<void> {
    const chromium = haveProgram('chromium');
    if (chromium.path === undefined) return;
    const browser = await startBrowser(chromium.path);
    onTestFinished(() => browser.close());
    const context = await browser.newContext({ viewport: { width: 900, height: 1200 } });
    const tab = await context.newPage();
    const faults: string[] = [];
    tab.on('console', (message) => faults.push(message.text()));
    tab.on('request', (request) => {
      if (request.url() !== `file://${page}`) faults.push(`asked for ${request.url()}`);
    });
    await tab.goto(`file://${page}`);
    const text = await tab.innerText('body');
    for (const wanted of [
      ACME,
      '13',
      'kept: a hold covers it',
      'select r.run_id',
      note,
      'Backups',
    ]) {
      expect(text).toContain(wanted);
    }
    expect(await tab.locator('script').count()).toBe(0);
    const widths: readonly number[] = await tab.evaluate(
      '[document.documentElement.scrollWidth, innerWidth]',
    );
    expect(widths[0]).toBeLessThanOrEqual(widths[1] ?? 0);
    const shots = process.env['RETENTION_SCREENSHOTS'];
    if (shots !== undefined)
      await tab.screenshot({ fullPage: true, path: join(shots, 'certificate.png') });
    const printed = await tab.pdf({ format: 'A4', printBackground: true });
    if (shots !== undefined) writeFileSync(join(shots, 'certificate.pdf'), printed);
    expect(printed.toString('latin1').match(/\/Type\s*\/Page\b/gu)).toHaveLength(1);
    expect(faults).toEqual([]);
  }

  async function hidesKeys(folder: string, { scope, population }: Certificate): Promise<void> {
    expect(scope.keys).toBe(false);
    expect(population.difference).toBe(0);
    const text = readdirSync(folder)
      .map((name) => readFileSync(join(folder, name), 'utf8'))
      .join('\n');
    expect(text).not.toMatch(/results\/\d|odd "key/u);
    for (let run = 7; run < RUNS; run += TENANTS) {
      for (const guess of [
        `results/${run}.json`,
        JSON.stringify([String(run), ACME, `results/${run}.json`, 'deleted', null]),
      ]) {
        expect(text).not.toContain(createHash('sha256').update(guess).digest('hex'));
      }
    }
    expect(await checkInThread(copyOf(folder))).toBe(0);
  }

  /** One clear message, exit code 2, and nothing written. */
  async function refuses(env: Record<string, string>, home: string): Promise<void> {
    const [, from = '', , to = ''] = await period();
    const out = join(home, 'never');
    const before = readdirSync(home);
    const given = {
      config: readConfig(stack.env(env)),
      tenant: ACME,
      from: new Date(from),
      to: new Date(to),
      out,
    };
    const cases: readonly (readonly [Partial<CertificateRequest>, string])[] = [
      [{ out: join(home, 'acme') }, 'which is not empty'],
      [{ out: join(home, 'key.pem') }, 'expected a folder that is new or empty'],
      [{ tenant: 'tenant-77' }, 'no row, receipt, policy or hold names the tenant "tenant-77"'],
      [{ tenant: '' }, 'expected a tenant and a folder'],
      [{ to: given.from, from: given.to }, 'begins before it is over'],
      [{ to: new Date('2999-01-01') }, 'expected a period that is over'],
      [{ config: readConfig(stack.env()) }, 'RETENTION_SIGNING_KEY_FILE: expected'],
      [
        {
          onProgress: () => {
            throw new Error('cut off in the middle');
          },
        },
        'cut off in the middle',
      ],
    ];
    for (const [more, message] of cases) {
      await expect(certify({ ...given, ...more })).rejects.toThrow(message);
    }
    const words = [
      'certificate',
      '--tenant',
      ACME,
      '--from',
      from,
      '--to',
      '2999-01-01',
      '--out',
      out,
    ];
    const said = await Promise.all([
      stack.run(words, env),
      stack.run(words.slice(0, 3), env),
      stack.run(['proof', 'key'], env),
      stack.run(['proof', 'receipt-keys', 'salted'], env),
      stack.run(['proof', 'receipt-keys', 'plain', '--json'], env),
    ]);
    expect(said.map(({ code }) => code)).toEqual([2, 2, 2, 2, 0]);
    expect(said[0]?.stderr).toContain('expected a period that is over');
    expect(said[1]?.stderr).toContain('expected --tenant (or --no-tenant), --from, --to and --out');
    expect(said[2]?.stderr).toContain('A key is never overwritten');
    expect(said[3]?.stderr).toContain('expected plain or hashed; given salted');
    expect(JSON.parse(said[4]?.stdout ?? '')).toEqual({ receipt_keys: 'plain', changed: false });
    expect(existsSync(out)).toBe(false);
    expect(readdirSync(home)).toEqual(before);
  }
});
