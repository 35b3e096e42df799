import { expect, test } from 'vitest';
import type { RunningCli } from '../support/cli.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { useFaultyNetwork } from '../support/faulty-network.ts';
import { until } from '../support/until.ts';

describeDatabase('a bad day of a listener', () => {
  const stack = useCliStack();
  const network = useFaultyNetwork(stack);
  const flag = (): Promise<unknown> => stack.database().query('select retention.flag_expired()');

  async function stopped(listener: RunningCli): Promise<void> {
    listener.kill();
    expect((await listener.ended()).code).toBe(0);
  }

  /** The keys that S3 was asked to delete more than once. */
  function askedTwice(): string[] {
    const seen = new Set<string>();
    const deleting = stack.requests().filter(({ operation }) => operation.startsWith('Delete'));
    const keys = deleting.flatMap((request) => request.keys);
    return keys.filter((key) => seen.has(key) || !seen.add(key));
  }

  /** Holds the reply of S3 to the next deletion back until what it returns is called. */
  function holdReply(): () => void {
    let letGo = (): void => undefined;
    const released = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    network.http().next({ kind: 'hold-reply', until: released });
    return letGo;
  }

  /** Everything that a stale listener could change. */
  async function everything(): Promise<unknown> {
    const { query } = stack.database();
    const tables = ['runs', 'retention.batch', 'retention.bucket'];
    const rows = tables.map((table) => query(`select * from ${table} t order by t::text`));
    return Promise.all(rows);
  }

  test('2: killed after the success of S3 and before the settle: another one finishes', async () => {
    const { query, countStamped, expireLeases } = stack.database();
    await stack.insertResults({ count: 20 });
    await flag();
    const release = await stack.holdStamps();
    const listener = await stack.listen();
    const settling = await stack.settleWaits();
    expect(stack.s3().countObjects('dpp-results')).toBe(0);
    listener.kill('SIGKILL');
    await listener.ended();
    // The statement that was already sent dies with its session, as with the host it came from.
    await query('select pg_terminate_backend($1)', [settling]);
    await release();
    expect(await countStamped()).toBe(0);
    expect(await query('select from retention.flagged')).toHaveLength(20);

    // While the lease lasts, another listener leaves the batch alone.
    const second = await stack.listen();
    await stack.insertResults({ count: 1 });
    await flag();
    await stack.cleared(1);
    expect(await countStamped()).toBe(1);
    await expireLeases();
    await query(`select pg_notify('retention_expired', '')`);
    await stack.cleared(21);
    expect(await query('select from retention.flagged')).toEqual([]);
    await stopped(second);
  });

  test('1: killed after the claim: nothing is stamped, nothing is done twice, another one finishes', async () => {
    const { query, expireLeases } = stack.database();
    await stack.insertResults({ count: 20 });
    await flag();
    network.http().next({ kind: 'hang' });
    const listener = await stack.listen(network.env());
    await until('S3 is asked', () => network.http().hanging() === 1);
    listener.kill('SIGKILL');
    await listener.ended();
    expect(await stack.countCleared()).toBe(0);
    expect(stack.s3().countObjects('dpp-results')).toBe(20);

    // While the lease lasts, others leave the batch alone and do what else there is.
    const other = await stack.listen(network.env({ RETENTION_LEASE_SECONDS: '60' }));
    await stack.insertResults({ count: 1 });
    await flag();
    await stack.cleared(1);
    expect((await query('select from retention.batch where lease is not null')).length).toBe(1);
    expect(stack.s3().countObjects('dpp-results')).toBe(20);
    await expireLeases();
    await stack.cleared(21);
    expect(askedTwice()).toEqual([]);
    await stopped(other);
  });

  test('3: stopped while S3 works and woken after its lease: changes nothing', async () => {
    const { expireLeases, query } = stack.database();
    const [rerun = ''] = await stack.insertResults({ count: 20 });
    await flag();
    const letGo = holdReply();
    const stale = await stack.listen(network.env());
    await until('S3 has deleted', () => stack.s3().countObjects('dpp-results') === 0);
    stale.kill('SIGSTOP');
    await expireLeases();
    const other = await stack.listen(network.env());
    await stack.cleared(20);
    await stopped(other);
    // The run goes on: what comes late must not stamp it again.
    stack.s3().putObject('dpp-results', 'results/again');
    await query(
      `update runs set result_s3_key = 'results/again', result_cleared_at = null,
        completed_at = now() where run_id = $1`,
      [rerun],
    );
    const before = await everything();
    letGo();
    stale.kill('SIGCONT');
    await stale.waitForLine('WARNING A lease was lost; another listener has its batch');
    expect(await everything()).toEqual(before);
    expect(stack.s3().hasObject('dpp-results', 'results/again')).toBe(true);
    await stopped(stale);
  });

  test('3: woken after its lease with a claim it has not yet acted on: asks S3 for nothing', async () => {
    const { connect, query, expireLeases, store } = stack.database();
    const stale = await stack.listen(network.env());
    // Its claim waits for a hold that is being placed.
    const placing = await connect();
    await placing.query('begin; lock table retention.hold in exclusive mode');
    const runIds = await stack.insertResults({ count: 3 });
    await flag();
    await until('its claim waits', async () => {
      const waiting = await query(
        `select from pg_stat_activity
        where datname = current_database()
          and wait_event_type = 'Lock'
          and query like '%retention.claim%'`,
      );
      return waiting.length > 0;
    });
    stale.kill('SIGSTOP');
    const stoppedAt = performance.now();
    await placing.query('rollback');
    await until('the batch is claimed', async () => {
      const leased = await query('select from retention.batch where lease is not null');
      return leased.length > 0;
    });
    // The lease is over, and the results are held: whoever deletes them now breaks promise 5.
    await expireLeases();
    await store.placeHolds({ runIds, reason: 'audit' });
    await until('it is over by its own clock, too', () => performance.now() - stoppedAt > 10_100, {
      limitMs: 15_000,
    });
    stale.kill('SIGCONT');
    await until('the held results are spared', async () => {
      const flagged = await query('select from retention.flagged');
      return flagged.length === 0;
    });
    expect(stack.requests().filter(({ operation }) => operation.startsWith('Delete'))).toEqual([]);
    expect(stack.s3().countObjects('dpp-results')).toBe(3);
    await stale.waitForLine(/LeaseTooOld/u);
    await stopped(stale);
  });

  test('3: a settle that outlasts its lease counts once, and nobody takes its batch meanwhile', async () => {
    await stack.insertResults({ count: 20 });
    await flag();
    await stack.insertResults({ count: 1, bucket: 'dpp-archive' });
    const release = await stack.holdStamps();
    const letGo = holdReply();
    const slow = await stack.listen(network.env());
    await until('S3 has deleted', () => stack.s3().countObjects('dpp-results') === 0);
    await stack.database().expireLeases();
    letGo();
    await stack.settleWaits();
    const other = await stack.listen(network.env());
    await flag();
    await until(
      'the other one does what else there is',
      () => stack.s3().countObjects('dpp-archive') === 0,
    );
    await release();
    await stack.cleared(21);
    expect(askedTwice()).toEqual([]);
    expect(await stack.database().query('select from retention.flagged')).toEqual([]);
    await stopped(slow);
    await stopped(other);
  });

  test.each(['SIGTERM', 'SIGINT'] as const)(
    'stops on %s with exit code 0 and leaves no lease',
    async (signal) => {
      const listener = await stack.listen();
      await stack.insertResults({ count: 10 });
      await flag();
      await stack.cleared(10);
      listener.kill(signal);
      const { code, stderr } = await listener.ended();
      expect([code, stderr.includes('Stopped')]).toEqual([0, true]);
      expect(
        await stack.database().query('select from retention.batch where lease is not null'),
      ).toEqual([]);
    },
  );

  test('finishes what is in flight before it stops', async () => {
    await stack.insertResults({ count: 5 });
    await flag();
    const release = await stack.holdStamps();
    const listener = await stack.listen();
    await stack.settleWaits();
    listener.kill();
    await listener.waitForLine('finishing what is in flight');
    await release();
    expect((await listener.ended()).code).toBe(0);
    expect(await stack.countCleared()).toBe(5);
  });
});
