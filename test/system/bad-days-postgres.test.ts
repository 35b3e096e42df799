import { describe, expect, onTestFinished, test } from 'vitest';
import type { RunningCli } from '../support/cli.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { useFaultyNetwork } from '../support/faulty-network.ts';
import { until } from '../support/until.ts';

describeDatabase('a bad day of Postgres', () => {
  const stack = useCliStack();
  const network = useFaultyNetwork(stack);
  const { database } = stack;
  const flag = (): Promise<unknown> => database().query('select retention.flag_expired()');
  const listen = (more = {}): Promise<RunningCli> => stack.listen(network.env(more));
  const linesOf = ({ stderr }: RunningCli, what: RegExp): number =>
    stderr.split('\n').filter((line) => what.test(line)).length;
  const deletions = (): number =>
    stack.requests().filter(({ operation }) => operation.startsWith('Delete')).length;

  async function stopped(listener: RunningCli): Promise<void> {
    listener.kill();
    expect((await listener.ended()).code).toBe(0);
  }

  /** Makes writes to a table fail as on a full disk until what it returns is called. */
  async function fillDisk(table: string): Promise<() => Promise<void>> {
    await database().query(`
      create or replace function public.fill_disk() returns trigger language plpgsql as $$
      begin
        raise exception using errcode = 'disk_full', message = 'could not extend file: No space left on device';
      end
      $$;
      create trigger disk_is_full before update on ${table} execute function public.fill_disk()`);
    return async () => {
      await database().query(`drop trigger disk_is_full on ${table}`);
    };
  }

  test('a full disk while stamping: the stamps are repeated, and S3 is not asked again', async () => {
    const makeRoom = await fillDisk('runs');
    await stack.insertResults({ count: 20 });
    await flag();
    const listener = await listen({ RETENTION_LEASE_SECONDS: '120' });
    await listener.waitForLine(/its stamp failed for run .*could not extend file/u);
    expect(await database().countStamped()).toBe(0);
    await makeRoom();
    await stack.cleared(20);
    expect(deletions()).toBe(1);
    await stopped(listener);
  });

  test('a full disk while claiming: the cycle is repeated', async () => {
    await stack.insertResults({ count: 20 });
    await flag();
    const makeRoom = await fillDisk('retention.batch');
    const listener = await listen();
    await listener.waitForLine('The retention cycle failed: could not extend file');
    expect(deletions()).toBe(0);
    await makeRoom();
    await stack.cleared(20);
    expect(linesOf(listener, /WARNING|ERROR/u)).toBeLessThan(8);
    await stopped(listener);
  });

  test('a row that the application holds, and would deadlock over: the stamp is repeated', async () => {
    const [first, second, third] = await stack.insertResults({ count: 3 });
    await flag();
    const application = await database().connect();
    // The stamp passes by what is locked, and never waits long enough for a deadlock.
    await application.query(`set deadlock_timeout = '60s'; begin`);
    const touch = (runId: string | undefined): Promise<unknown> =>
      application.query('update runs set updated_at = now() where run_id = $1', [runId]);
    await touch(second);
    const listener = await listen({ RETENTION_LEASE_SECONDS: '120' });
    await listener.waitForLine('its stamp failed for run');
    await touch(first);
    await touch(third);
    await application.query('commit');
    await application.end();
    await stack.cleared(3);
    expect(deletions()).toBe(1);
    await stopped(listener);
  });

  test('a serialization failure while stamping: the stamp is repeated', async () => {
    await stack.insertResults({ count: 20 });
    await flag();
    // In a transaction of ours none comes about by itself; a trigger of the application's may meet one.
    await database().query(`
      create sequence public.tries;
      create function public.fail_first() returns trigger language plpgsql as $$
      begin
        if nextval('public.tries') between 6 and 40 then
          raise exception using errcode = 'serialization_failure',
            message = 'could not serialize access due to read/write dependencies among transactions';
        end if;
        return null;
      end
      $$;
      create trigger fail_first after update on runs
      for each statement execute function public.fail_first()`);
    try {
      const listener = await listen({ RETENTION_LEASE_SECONDS: '120' });
      await stack.cleared(20);
      expect(deletions()).toBe(1);
      await stopped(listener);
    } finally {
      await database().query(
        'drop trigger fail_first on runs; drop function public.fail_first(); drop sequence public.tries',
      );
    }
  });

  describe.each(['serializable', 'repeatable read'])('%s by default', (level) => {
    test('work, holds and reconciling go on', async () => {
      await database().query(
        `alter database ${database().name} set default_transaction_isolation = '${level}'`,
      );
      try {
        await database().set({ batch_size: '10' });
        const [held = ''] = await stack.insertResults({ count: 1, tenant: 'held' });
        const listener = await listen();
        const hold = await stack.run(['hold', 'place', '--run', held, '--reason', 'audit']);
        expect(hold.stderr).toBe('');
        await stack.insertResults({ count: 100 });
        await flag();
        await stack.cleared(100);
        expect(linesOf(listener, /ERROR/u)).toBe(0);
        await stopped(listener);
        await stack.insertResults({ count: 30 });
        expect(JSON.parse((await stack.run(['reconcile', '--json'])).stdout)).toMatchObject({
          cleared: 30,
          failed: 0,
        });
      } finally {
        await database().query(
          `alter database ${database().name} reset default_transaction_isolation`,
        );
      }
    });
  });

  test('the table locked by the application: everything waits and nothing is lost', async () => {
    await stack.insertResults({ count: 20 });
    const listener = await listen({ RETENTION_HTTP_PORT: '0' });
    const line = await listener.waitForLine('Serving health, metrics and status on');
    const [base = ''] = /http:\/\/[\w.:]+\//u.exec(line) ?? [];
    await stack.cleared(20);
    const application = await database().connect();
    onTestFinished(() => application.end());
    await application.query(
      `begin; insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      values ('acme', 'COMPLETED', now() - interval '31 days', 'dpp-results', 'late');
      lock table runs in access exclusive mode`,
    );
    stack.s3().putObject('dpp-results', 'late');
    // A pass waits for no table for long: the next one finds what this one could not read.
    const flagging = flag().catch(() => undefined);
    // It is alive, answers within bounds, and is ready: its database works, and readiness asks for no count.
    expect((await fetch(new URL('healthz', base))).status).toBe(200);
    const asked = performance.now();
    expect((await fetch(new URL('readyz', base))).status).toBe(200);
    expect((await fetch(new URL('metrics', base))).status).toBe(200);
    expect(performance.now() - asked).toBeLessThan(8_000);
    await application.query('commit');
    await flagging;
    await flag();
    await stack.cleared(21);
    await stopped(listener);
  });

  test('the table locked for ten seconds while a batch is settled: it is stamped after that, and S3 not asked again', async () => {
    const listener = await listen({ RETENTION_LEASE_SECONDS: '300' });
    await stack.insertResults({ count: 20 });
    const application = await database().connect();
    await application.query('begin; lock table runs in share mode');
    await flag();
    // The trial waits half a second for each of its rows as well.
    await listener.waitForLine('its stamp failed for run', 40_000);
    const lockedAt = performance.now();
    await until('ten seconds are over', () => performance.now() - lockedAt > 10_000, {
      limitMs: 11_000,
    });
    await application.query('commit');
    await application.end();
    // The pauses between its tries have grown meanwhile.
    await until('all are stamped', async () => (await stack.countCleared()) === 20, {
      limitMs: 100_000,
    });
    expect(deletions()).toBe(1);
    expect(linesOf(listener, /WARNING|ERROR/u)).toBeLessThan(6);
    await stopped(listener);
  });

  test("a lock_timeout of the database's own does not reach a settle, which waits for its lock", async () => {
    await stack.insertResults({ count: 20 });
    await flag();
    await database().query(`alter database ${database().name} set lock_timeout = '200ms'`);
    try {
      const release = await stack.holdStamps();
      const listener = await listen({ RETENTION_LEASE_SECONDS: '120' });
      const pid = await stack.settleWaits();
      await until('it has waited for longer than that', async () => {
        const [row] = await database().query<{ waits: boolean }>(
          `select clock_timestamp() - query_start > '500 ms' as waits from pg_stat_activity where pid = $1`,
          [pid],
        );
        return row?.waits === true;
      });
      await release();
      await stack.cleared(20);
      expect(deletions()).toBe(1);
      expect(listener.stderr).not.toContain('lock timeout');
      await stopped(listener);
    } finally {
      await database().query(`alter database ${database().name} reset lock_timeout`);
    }
  });

  test('a run that completes again under another key while its old one is in flight', async () => {
    const { query, run } = database();
    const [again = '', gone = ''] = await stack.insertResults({ count: 3 });
    await flag();
    let letGo = (): void => undefined;
    const released = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    network.http().next({ kind: 'hold-reply', until: released });
    const listener = await listen();
    await until('S3 has deleted', () => stack.s3().countObjects('dpp-results') === 0);
    stack.s3().putObject('dpp-results', 'results/new');
    await query(
      `update runs set result_s3_key = 'results/new', completed_at = now() - interval '29 days'
      where run_id = $1`,
      [again],
    );
    await query('delete from runs where run_id = $1', [gone]);
    letGo();
    await until('the batch is settled', async () => {
      const left = await query('select from retention.flagged');
      return left.length === 0;
    });
    expect((await run(again)).result_cleared_at).toBeNull();
    expect(stack.s3().hasObject('dpp-results', 'results/new')).toBe(true);
    expect(await database().countStamped()).toBe(1);
    await query(`update runs set completed_at = now() - interval '31 days' where run_id = $1`, [
      again,
    ]);
    await flag();
    await stack.cleared(2);
    expect(listener.stderr).not.toMatch(/WARNING|ERROR/u);
    await stopped(listener);
  });

  test('a run that the application deletes while it is flagged is spared', async () => {
    const [gone = ''] = await stack.insertResults({ count: 10 });
    await flag();
    await database().query('delete from runs where run_id = $1', [gone]);
    const listener = await listen();
    await stack.cleared(9);
    expect(await database().query('select from retention.flagged')).toEqual([]);
    // Nothing says any more that its object is due; it is an orphan for --orphans.
    expect(stack.s3().hasObject('dpp-results', `results/${gone}`)).toBe(true);
    expect(linesOf(listener, /WARNING|ERROR/u)).toBe(0);
    await stopped(listener);
  });
});
