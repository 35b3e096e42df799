import { describe, expect, test } from 'vitest';
import type { RunningCli } from '../support/cli.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase, runningPostgres } from '../support/database.ts';
import { startPostgresFront } from '../support/postgres-front.ts';
import { until } from '../support/until.ts';

/** What becomes of a listener within seconds, and not at its next poll or after a long pause. */
const SOON_MILLISECONDS = 15_000;

describeDatabase('sessions, as a person meets them', () => {
  const stack = useCliStack();

  async function serve(listener: RunningCli): Promise<string> {
    const line = await listener.waitForLine('Serving health, metrics and status on');
    return /http:\/\/[\w.:]+\//u.exec(line)?.[0] ?? '';
  }
  const statusOf = async (base: string, path: string) => (await fetch(new URL(path, base))).status;
  const endSessions = () =>
    stack.database().query(
      `select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name like 'retention%'`,
    );

  describe('under a role and a database with defaults of their own', () => {
    test('every command does what it does elsewhere', async () => {
      const { name, query, run } = stack.database();
      const [runId = ''] = await stack.insertResults({ count: 3 });
      await query(`alter database ${name} set datestyle = 'German'`);
      await query(`alter database ${name} set timezone = 'Pacific/Kiritimati'`);
      await query(`alter database ${name} set intervalstyle = 'sql_standard'`);
      await query(`alter role postgres in database ${name} set statement_timeout = '3s'`);
      await query(
        `alter role postgres in database ${name} set default_transaction_isolation = 'serializable'`,
      );
      await query(`alter role postgres in database ${name} set search_path = nowhere`);
      try {
        const dry = await stack.run(['reconcile', '--dry-run', '--json']);
        const group = (JSON.parse(dry.stdout) as { groups: { oldest: string }[] }).groups[0];
        expect(
          Math.abs(Date.parse(group?.oldest ?? '') - Date.now() + 31 * 86_400_000),
        ).toBeLessThan(3_600_000);
        const explained = await stack.run(['explain', runId, '--json']);
        expect(explained.code).toBe(0);
        const listener = await stack.listen({ RETENTION_HTTP_PORT: '0' });
        await query('select retention.flag_expired()');
        await stack.cleared(3);
        const base = await serve(listener);
        for (const path of ['/', 'status.json', 'metrics']) {
          expect(await statusOf(base, path), path).toBe(200);
        }
        const { result_cleared_at: stamp } = await run(runId);
        expect(Math.abs(Date.now() - (stamp?.getTime() ?? 0))).toBeLessThan(60_000);
        const status = await stack.run(['status', '--json']);
        const { last_tick: tick } = JSON.parse(status.stdout) as { last_tick: string };
        expect(Math.abs(Date.now() - Date.parse(tick))).toBeLessThan(120_000);
        const verified = await stack.run(['reconcile', '--verify', '--json'], {
          S3_RESULT_BUCKET: 'dpp-results',
        });
        expect(verified.code).toBe(0);
        const checked = await stack.run(['doctor', '--json'], { S3_RESULT_BUCKET: 'dpp-results' });
        expect(checked.stdout).not.toMatch(/Invalid|NaN/u);
      } finally {
        await query(`alter database ${name} reset all`);
        await query(`alter role postgres in database ${name} reset all`);
      }
    });
  });

  test('a database that takes no writes for a while: readiness says so, and work goes on within seconds after', async () => {
    const { name, query } = stack.database();
    const listener = await stack.listen({ RETENTION_HTTP_PORT: '0', RETENTION_POLL_SECONDS: '1' });
    const base = await serve(listener);
    await until('it is ready', async () => (await statusOf(base, 'readyz')) === 200);
    await query(`alter database ${name} set default_transaction_read_only = on`);
    try {
      // As a switchover does with those that do not notice by themselves.
      await endSessions();
      await until('it says so', async () =>
        (await (await fetch(new URL('readyz', base))).text()).includes('read-only'),
      );
      await listener.waitForLine(/read-only.*default_transaction_read_only/u);
      expect(await statusOf(base, 'healthz')).toBe(200);
    } finally {
      await query(
        `set default_transaction_read_only = off; alter database ${name} reset default_transaction_read_only`,
      ).catch(() => undefined);
    }
    await stack.insertResults();
    await query('select retention.flag_expired()');
    await stack.cleared(1, SOON_MILLISECONDS);
    await until('it is ready again', async () => (await statusOf(base, 'readyz')) === 200, {
      limitMs: SOON_MILLISECONDS,
    });
  });

  test('a reconcile against a database that takes no writes says one thing and deletes nothing', async () => {
    const { name, query } = stack.database();
    await stack.insertResults({ count: 2 });
    await query(`alter database ${name} set default_transaction_read_only = on`);
    try {
      const { code, stderr } = await stack.run(['reconcile']);
      expect(code).toBe(1);
      expect(stderr).toContain('default_transaction_read_only is on');
      expect(stderr).toContain(`alter database`);
      expect(stack.requests()).toEqual([]);
    } finally {
      await query(`alter database ${name} reset default_transaction_read_only`);
    }
  });

  test('through a proxy that refuses settings while connecting, listen, reconcile and doctor connect', async () => {
    await using front = await startPostgresFront(runningPostgres().port);
    front.refusal = {
      code: '0A000',
      message:
        "Feature not supported: RDS Proxy currently doesn't support the option statement_timeout",
    };
    const through = { DATABASE_URL: front.through(stack.database().url) };
    await stack.insertResults({ count: 2 });
    expect((await stack.run(['reconcile'], through)).code).toBe(0);
    expect(await stack.countCleared()).toBe(2);
    const checked = await stack.run(['doctor'], through);
    expect(checked.stdout).toContain('a notification from another session arrived');
    const listener = await stack.listen(through);
    await stack.insertResults();
    await stack.database().query('select retention.flag_expired()');
    await stack.cleared(3);
    listener.kill();
    expect((await listener.ended()).code).toBe(0);
  });
});
