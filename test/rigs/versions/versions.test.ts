import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { Findings } from '../../../src/reactor/doctor/check.ts';
import { type MemoryS3, startMemoryS3 } from '../../stack/memory-s3.ts';
import { type PrivatePostgres, startPrivatePostgres } from '../../stack/private-postgres.ts';
import { runsTableSql } from '../../stack/runs-table.ts';
import { type CliResult, type RunningCli, runCli, startCli } from '../../support/cli.ts';
import { memoryS3Variables } from '../../support/cli-stack.ts';
import { startEmbeddedPostgres } from '../../support/embedded-postgres.ts';
import { ROOT } from '../../support/project-files.ts';
import { NODES, POSTGRES, type Version, folderOf } from './versions.mjs';

/** The file of a package that was installed for this rig. */
function installed({ name, spec }: Version, ...path: readonly string[]): string {
  const packageName = spec?.replace(/(?<=.)@[^@]*$/u, '') ?? '';
  return join(folderOf(ROOT, name), 'node_modules', packageName, ...path);
}

function startPostgres(version: Version): Promise<PrivatePostgres> {
  return version.spec === undefined
    ? startPrivatePostgres({ databaseName: 'app', cron: true })
    : startEmbeddedPostgres(installed(version, 'native'), { databaseName: 'app' });
}

describe.each(POSTGRES)('$name', (postgres) => {
  let server: PrivatePostgres;
  let s3: MemoryS3;
  beforeAll(async () => {
    server = await startPostgres(postgres);
    s3 = await startMemoryS3();
  }, 120_000);
  afterAll(async () => {
    await s3?.stop();
    await server?.stop();
  });

  test.each(NODES)('$name: migrate, the whole cycle, a hold, verify, proof, down', async (node) => {
    const execPath = installed(node, 'bin/node');
    expect(existsSync(execPath), `${execPath} is missing: npm run test:versions`).toBe(true);
    const manifest = JSON.parse(readFileSync(installed(node, 'package.json'), 'utf8')) as {
      readonly version: string;
    };
    // pg_cron lives in one database.
    const name = postgres.spec === undefined ? 'app' : node.name.replace('-', '_');
    if (name !== 'app') await server.sql(`create database ${name}`);
    await server.sql(`drop table if exists public.runs; ${runsTableSql}`, name);
    const bucket = `results-${node.name}`;
    s3.createBucket(bucket);
    const env = {
      DATABASE_URL: server.url(name),
      RETENTION_SCHEDULER: postgres.spec === undefined ? 'pg_cron' : 'internal',
      DPP_JSON_LOGS: 'false',
      ...memoryS3Variables(s3),
      S3_RESULT_BUCKET: bucket,
    };
    const run = async (code: number, ...words: readonly string[]): Promise<CliResult> => {
      const result = await runCli(words, { env, execPath });
      expect({ words, code: result.code, stderr: code === 0 ? '' : result.stderr }).toEqual({
        words,
        code,
        stderr: code === 0 ? '' : result.stderr,
      });
      return result;
    };
    const insert = (tenant: string, key: string, days: number): Promise<string> => {
      s3.putObject(bucket, key);
      return server.sql(
        `insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
        values ('${tenant}', 'COMPLETED', now() - interval '${days} days', '${bucket}', '${key}')
        returning run_id`,
        name,
      );
    };
    const stamped = (): Promise<string> =>
      server.sql(
        `select coalesce(string_agg(result_s3_key, ',' order by result_s3_key), '') from runs where result_cleared_at is not null`,
        name,
      );

    await run(0, 'init', '--json');
    await run(0, 'migrate', 'up');
    for (const key of ['due-1', 'due-2']) await insert('acme', key, 31);
    await insert('acme', 'young', 29);
    const held = await insert('kept', 'held', 31);
    await run(0, 'hold', 'place', '--run', held, '--reason', 'audit');
    {
      await using listener: RunningCli = startCli(['listen'], { env, execPath });
      onTestFinished(() => listener[Symbol.asyncDispose]());
      await listener.waitForLine('Listening for notifications', 60_000);
      await server.sql('select retention.flag_expired(p_whole => true)', name);
      await listener.waitForLine('2 S3 objects deleted, 2 runs marked as cleared', 60_000);
      const doctor = await runCli(['doctor', '--json'], { env, execPath });
      const { checks } = JSON.parse(doctor.stdout) as Findings;
      // A scheduler that has not ticked yet is none of the version's making.
      expect(checks.filter((it) => it.state === 'failed' && it.name !== 'ticks')).toEqual([]);
      listener.kill();
      expect((await listener.ended()).code).toBe(0);
    }
    expect(await stamped()).toBe('due-1,due-2');
    expect([s3.hasObject(bucket, 'young'), s3.hasObject(bucket, 'held')]).toEqual([true, true]);
    await run(0, 'hold', 'release', '1');
    await run(0, 'reconcile', '--tenant', 'kept');
    expect(await stamped()).toBe('due-1,due-2,held');
    s3.putObject(bucket, 'due-1');
    const verified = await run(0, 'reconcile', '--verify', '--json');
    expect(JSON.parse(verified.stdout)).toMatchObject({ drift: { stamped: 0, requeued: 1 } });
    expect(s3.hasObject(bucket, 'due-1')).toBe(false);
    await run(0, 'proof', 'verify');
    await run(0, 'migrate', 'down', '--yes');
    expect(await server.sql(`select to_regnamespace('retention') is null`, name)).toBe('t');
    expect(await stamped()).toBe('due-1,due-2,held');
    const version = (await server.sql('show server_version', name)).split(' ')[0] ?? '';
    process.stdout.write(`PostgreSQL ${version}, Node ${manifest.version}: passed\n`);
  });
});
