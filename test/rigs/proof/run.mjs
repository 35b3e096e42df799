// `node test/rigs/proof/run.mjs URL [RESULTS] [TENANTS]`: what sealing, verifying and certifying many results take, after
// `npm run build`. URL is a database without a table `runs`, as a superuser; what is made there stays. Default: 1,000,000
// results of 50 tenants. The certificate is of one of them.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';

const [, , url, count = '1000000', tenants = '50'] = process.argv;
const results = Number(count);
const RETENTION = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));
const RUNS_TABLE = fileURLToPath(new URL('../../stack/runs-table.ts', import.meta.url));
const EXPORT_PAGE = fileURLToPath(new URL('../../../docs/proof-export.md', import.meta.url));

const client = new pg.Client({ connectionString: url });
await client.connect();
const query = async (sql, values) => (await client.query(sql, values)).rows;
const folder = mkdtempSync(join(tmpdir(), 'retention-proof-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

await query(/^create table[^]*?^\);/mu.exec(readFileSync(RUNS_TABLE, 'utf8'))[0]);
await run([RETENTION, 'migrate', 'up']);
await query(`
  update retention.setting
  set surge_guard = null, flag_limit = 2000000000, backlog_limit = 2000000000;
  insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
  select r.id, 'tenant-' || r.n % ${Number(tenants)}, 'COMPLETED', now() - interval '40 days' + r.n * interval '0.5 seconds', 'results',
    'results/' || r.id || '/out.json'
  from (select gen_random_uuid() as id, n from generate_series(1, ${results}) n offset 0) r`);
await query('vacuum analyze runs');
// A pass ends after some seconds.
await query(`create or replace procedure public.flag_all() language plpgsql as $$
  begin
    while retention.flag_expired() > 0 loop
      commit;
    end loop;
  end $$`);
await query(`create or replace procedure public.drain() language plpgsql as $$
  declare
    v_lease uuid;
    v_batch_id bigint;
  begin
    loop
      v_lease := gen_random_uuid();
      select c.batch_id into v_batch_id from retention.claim(v_lease, '5 minutes', 'rig') c;
      exit when v_batch_id is null;
      perform from retention.settle(v_batch_id, v_lease, '{}', true);
      commit;
    end loop;
  end $$`);
await query(`create or replace procedure public.seal_all() language plpgsql as $$
  begin
    while (select n.more from retention.seal_now() n) loop
      commit;
    end loop;
  end $$`);

const took = {};
const [{ pid }] = await query('select pg_backend_pid() as pid');
await step('flag', 'call public.flag_all()');
await step('claim and settle', 'call public.drain()');
await step('seal', 'call public.seal_all()');
const cycle = took['flag'] + took['claim and settle'];
say(`CPU with sealing over without: ${((cycle + took['seal']) / cycle).toFixed(2)}`);
const [{ bytes }] =
  await query(`select round(sum(pg_total_relation_size(t))::numeric / ${results}, 1)::float8 as bytes
  from unnest('{retention.batch,retention.receipt,retention.change,retention.seal}'::regclass[]) t`);
say(`kept: ${bytes} bytes a result`);
const verified = await run([RETENTION, 'proof', 'verify', '--json'], 'proof verify');
say(`  ${verified.replace(/"heads"[^]*$/u, '').replaceAll(/\s+/gu, ' ')}`);
const file = join(folder, 'proof.jsonl');
await run([RETENTION, 'proof', 'export', '--out', file], 'proof export');
const script = join(folder, 'proof-check.mjs');
writeFileSync(script, /^```js\n([^]*?)^```/mu.exec(readFileSync(EXPORT_PAGE, 'utf8'))[1]);
say(`  ${await run([script, file], 'the script of docs/proof-export.md')}`);
const key = join(folder, 'key.pem');
await run([RETENTION, 'proof', 'key', '--out', key]);
Object.assign(process.env, {
  RETENTION_SIGNING_KEY_FILE: key,
  S3_RESULT_BUCKET: 'results',
  AWS_REGION: 'us-east-1',
  AWS_ACCESS_KEY_ID: 'none',
  AWS_SECRET_ACCESS_KEY: 'none',
});
const day = (ago) => new Date(Date.now() - ago * 86_400_000).toISOString().slice(0, 10);
const period = ['--tenant', 'tenant-0', '--from', day(20), '--to', day(1)];
const certificate = join(folder, 'certificate');
const certified = await run(
  [RETENTION, 'certificate', ...period, '--out', certificate, '--json'],
  `certificate of ${Math.ceil(results / Number(tenants))} results`,
);
const { population, leaves } = JSON.parse(certified);
say(`  counted ${population.counted}, difference ${population.difference}, leaves ${leaves}`);
const checker = join(certificate, 'check.mjs');
const [, text] = /^ {3}```js\n([^]*?)^ {3}```/mu.exec(
  readFileSync(join(certificate, 'CHECK.md'), 'utf8'),
);
writeFileSync(checker, text);
say(`  ${await run([checker], 'the script of CHECK.md', certificate)}`);
await client.end();

function say(line) {
  process.stdout.write(`${line}\n`);
}

/** In the ticks of 10 ms that Linux counts. */
function backendSeconds() {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function step(name, sql) {
  const before = backendSeconds();
  const startedAt = performance.now();
  await query(sql);
  took[name] = backendSeconds() - before;
  const seconds = (performance.now() - startedAt) / 1_000;
  const each = (took[name] * 1e6) / results;
  say(`${name}: ${seconds.toFixed(1)} s, ${each.toFixed(2)} µs of CPU a result`);
}

/** Runs a script, and says how long it took and the most memory it had. */
async function run(words, name, cwd) {
  const startedAt = performance.now();
  const child = spawn(process.execPath, words, {
    cwd,
    env: { ...process.env, DATABASE_URL: url, RETENTION_SCHEDULER: 'internal' },
    stdio: ['ignore', 'pipe', name === undefined ? 'inherit' : 'ignore'],
  });
  let most = 0;
  const watching = setInterval(() => {
    try {
      const [, peak = '0'] =
        /VmHWM:\s+(\d+)/u.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8')) ?? [];
      most = Math.max(most, Number(peak));
    } catch {
      // It has ended.
    }
  }, 100);
  let said = '';
  child.stdout.on('data', (chunk) => (said += chunk));
  const code = await new Promise((resolve) => child.on('close', resolve));
  clearInterval(watching);
  if (code !== 0) throw new Error(`${words.join(' ')} ended with ${code}: ${said}`);
  const seconds = (performance.now() - startedAt) / 1_000;
  if (name !== undefined)
    say(`${name}: ${seconds.toFixed(1)} s, ${Math.round(most / 1024)} MB at most`);
  return said.trim();
}
